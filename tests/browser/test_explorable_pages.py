"""Explorables in a browser: drawn is what is stored, by keyboard, pointer, button and link, in light and dark."""

import itertools
import re
import time

import numpy as np
import pytest
from chapters import CHAPTERS, IDS, built

from pocourse.lesson import explorable
from pocourse.lesson.explorable import Control, Curve, Explorable, Panel, Readout, compute, frame
from pocourse.lesson.figures import LINES

FLOOR = 10  # frames per second while the slider is dragged; two workers and their servers share the cores
X = np.linspace(-1, 1, 9)


def wave(*, speed, shape):
    y = np.sin(speed * np.pi * X) if shape == "sine" else np.where(np.abs(X) < 0.1, np.nan, np.sign(X) * speed / 5)
    return {"y": y, "dots": -y / 2, "end": y[-1]}


def example():
    controls = (
        Control("speed", "speed", (0.5, 1.0, 1.5, 2.0, 2.5), 1.5, play=True),
        Control("shape", "shape", ("sine", "step & gap"), "sine", "choice"),
    )
    found = compute(wave, controls)
    curves = [
        Curve("line", found["y"], X, LINES[1]),
        Curve("dots", found["dots"], X, {**LINES[3], "marker": "^"}, "points"),
    ]
    panels = [Panel(name, "x", "y", (-1, 1), (-1, 1), curves) for name in ("One", "Two")]
    end = Readout("end", "end", found["end"])
    alt = "A {shape} wave of speed {speed} from left to right, ending at {end}."
    return Explorable("tests.wave", "A wave", controls, panels, alt, [end], "A note.")


def write(folder, *bodies, name="index.html", scripts=True):
    """A plain page with pictures and explorables in it, in the shape of a notebook's outputs."""
    for number, (png, _) in enumerate(bodies):
        (folder / f"{number}.png").write_bytes(png)
    outputs = "".join(
        f'<div class="cell"><div class="out"><img src="{number}.png" alt="picture" width="300"></div>'
        f'<div class="out">{html if scripts else re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)}</div></div>'
        for number, (_, html) in enumerate(bodies)
    )
    (folder / name).write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>t</title>{outputs}', "utf-8"
    )


@pytest.fixture(scope="module")
def ex():
    return example()


@pytest.fixture(scope="module")
def outputs(ex):
    return explorable.bundle(ex)


@pytest.fixture
def opened(page, served, tmp_path, outputs):
    """A page with one explorable, mounted."""
    write(tmp_path, outputs)
    page.goto(f"{served(tmp_path)}/index.html")
    page.locator("svg.figure").wait_for()
    return page


# What the page shows, read back from the SVG: of each curve the corners of its path, and the size of its panel.
_DRAWN = """host => {
  const root = host.shadowRoot, found = {};
  for (const path of root.querySelectorAll('[data-curve]')) {
    const box = path.parentNode;
    found[path.dataset.curve] = {
      d: path.getAttribute('d'), w: +box.getAttribute('width'), h: +box.getAttribute('height'),
    };
  }
  return {curves: found, alt: root.querySelector('svg.figure').getAttribute('aria-label'),
          numbers: [...root.querySelectorAll('.numbers b')].map(x => x.textContent)};
}"""


def shown(page, which=0):
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return page.locator("[data-explorable]").nth(which).evaluate(_DRAWN)


def assert_shows(page, ex, which=0, **values):
    """Every path of every panel lies where the stored frame says, to a twentieth of a pixel."""
    found, expected = shown(page, which), frame(ex, **values)
    assert found["alt"] == expected.alt
    assert found["numbers"] == [expected.readouts[r.name] for r in ex.readouts if r.shown]
    for p, (panel, arrays) in enumerate(zip(ex.panels, expected.panels, strict=True)):
        for c, curve in enumerate(panel.curves):
            drawn, (x, y) = found["curves"][f"{p}.{c}"], arrays[curve.name]
            there = np.isfinite(x) & np.isfinite(y)
            (x0, x1), (y0, y1) = panel.xlim, panel.ylim
            across = (x - x0) / (x1 - x0) * drawn["w"]
            down = (y1 - y) / (y1 - y0) * drawn["h"]
            if curve.kind == "points":
                rise = {"^": -1, "v": 1, "D": -1}.get(curve.look.get("marker"), 0) * curve.look.get("size", 4)
                aside = -curve.look.get("size", 4) if curve.look.get("marker", "o") == "o" else 0
                across, down = across + aside, down + rise
                places = re.findall(r"M(-?[\d.e-]+) (-?[\d.e-]+)", drawn["d"])
            else:
                places = re.findall(r"[ML](-?[\d.e-]+) (-?[\d.e-]+)", drawn["d"])
                starts = there & ~np.concatenate([[False], there[:-1]])
                assert drawn["d"].count("M") == starts.sum()
            np.testing.assert_allclose(
                np.array(places, dtype=float).reshape(-1, 2), np.stack([across, down], -1)[there], atol=0.05
            )


# --- mounting ---------------------------------------------------------------------------------------


def test_it_takes_the_pictures_place(opened, ex):
    assert_shows(opened, ex)
    assert not opened.locator("img").is_visible()
    assert opened.locator("[data-explorable]").get_attribute("data-lm-suppress-shortcuts") == "true"
    assert opened.problems == []


def test_without_scripts_the_picture_stays(page, served, tmp_path, outputs):
    write(tmp_path, outputs, scripts=False)
    page.goto(f"{served(tmp_path)}/index.html")
    assert page.locator("img").is_visible()
    assert page.locator("[data-explorable]").inner_text() == ""
    assert page.problems == []


def test_a_broken_one_leaves_its_picture_and_the_others(page, served, tmp_path, outputs, ex):
    png, html = outputs
    write(tmp_path, (png, html.replace('"panels":', '"panel":')), (png, html))
    page.goto(f"{served(tmp_path)}/index.html")
    page.locator("svg.figure").wait_for()
    assert [page.locator("img").nth(i).is_visible() for i in range(2)] == [True, False]
    assert_shows(page, ex, which=1)
    assert page.problems and all("could not be shown" in problem for problem in page.problems)


def test_copies_stand_for_themselves_and_a_second_run_mounts_what_is_new(opened, ex, outputs):
    # As a cloned output view, and as a cell that is run again: the same host once more, with the script after it.
    for _ in range(2):
        opened.evaluate(
            """html => {
              const out = document.createElement('div');
              out.innerHTML = html;
              document.body.append(out);
              for (const old of out.querySelectorAll('script[type=module]')) {
                const script = document.createElement('script');
                script.type = 'module';
                script.textContent = old.textContent;
                old.replaceWith(script);
              }
            }""",
            outputs[1],
        )
    opened.wait_for_function(
        "() => [...document.querySelectorAll('[data-explorable]')].filter(h => h.shadowRoot).length === 3"
    )
    assert opened.locator("svg.figure").count() == 3
    opened.locator("[type=range]").nth(1).press("End")
    assert_shows(opened, ex, which=1, speed=2.5)
    for which in (0, 2):
        assert_shows(opened, ex, which=which)
    assert opened.problems == []


@pytest.mark.parametrize("width", [360, 900])
def test_it_fits(opened, ex, width):
    opened.set_viewport_size({"width": width, "height": 800})
    opened.wait_for_timeout(100)
    assert opened.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    assert_shows(opened, ex)
    assert opened.locator("svg.figure > svg").count() == (2 if width == 900 else 1)
    boxes = [opened.locator("[data-curve='0.0']").locator("..").bounding_box(), box_of(opened, "[data-curve='1.0']")]
    assert (boxes[0]["x"] + boxes[0]["width"] < boxes[1]["x"]) == (width == 900)
    for box in (
        opened.locator(what).nth(i).bounding_box()
        for what in ("button", "[type=range]", ".choices label")
        for i in range(opened.locator(what).count())
    ):
        assert box["height"] >= 32 and box["width"] >= 32


def box_of(page, what, which=0):
    """Where something is on the page; of a curve, its whole panel."""
    found = page.locator(what).nth(which)
    return (found.locator("..") if "curve" in what else found).bounding_box()


def test_on_a_phone_the_controls_follow_the_first_panel(opened, ex):
    """To the eye as in the document, which the keyboard and a screen reader follow; wide, the numbers come first."""
    parts = ("[data-curve='0.0']", ".controls", ".numbers", "[data-curve='1.0']", ".note")
    opened.set_viewport_size({"width": 390, "height": 800})
    opened.wait_for_timeout(100)
    boxes = [box_of(opened, part) for part in parts]
    assert all(one["y"] + one["height"] <= other["y"] + 1 for one, other in itertools.pairwise(boxes))
    opened.get_by_role("slider", name="speed").press("End")
    assert_shows(opened, ex, speed=2.5)
    opened.set_viewport_size({"width": 900, "height": 800})
    opened.wait_for_timeout(100)
    figure, controls, numbers, second, note = (box_of(opened, part) for part in parts)
    assert second["y"] == figure["y"] and second["y"] < numbers["y"] < controls["y"] < note["y"]
    assert opened.locator("svg.more").bounding_box()["height"] == 0
    assert_shows(opened, ex, speed=2.5)
    assert opened.problems == []


# --- moving it --------------------------------------------------------------------------------------


def test_keyboard(opened, ex):
    slider = opened.get_by_role("slider", name="speed")
    assert slider.get_attribute("aria-valuetext") == "1.5"
    for key, speed in (("ArrowLeft", 1.0), ("Home", 0.5), ("ArrowRight", 1.0), ("End", 2.5), ("ArrowRight", 2.5)):
        slider.press(key)
        assert_shows(opened, ex, speed=speed)
        assert slider.get_attribute("aria-valuetext") == f"{speed:g}"
    opened.get_by_role("radio", name="sine").press("ArrowRight")
    assert_shows(opened, ex, speed=2.5, shape="step & gap")
    opened.wait_for_timeout(900)
    assert opened.get_by_role("status").inner_text() == frame(ex, speed=2.5, shape="step & gap").alt


def test_tab_reaches_every_control_and_shows_where_it_is(opened):
    reached = []
    for _ in range(4):
        opened.keyboard.press("Tab")
        reached.append(
            opened.evaluate(
                """() => {
                  const at = document.activeElement.shadowRoot.activeElement;
                  const seen = at.closest('.choices label') || at;
                  return [at.className || at.type, getComputedStyle(seen).outlineStyle !== 'none'];
                }"""
            )
        )
    assert reached == [["copy", True], ["play", True], ["range", True], ["radio", True]]


def drag(page, slider, through):
    """Press at the slider's middle and move through shares of its width, with a frame between any two."""
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, y)
    page.mouse.down()
    for share in through:
        page.mouse.move(box["x"] + 8 + (box["width"] - 16) * share, y)
    page.mouse.up()


def test_pointer(opened, ex):
    slider = opened.get_by_role("slider", name="speed")
    for share, speed in ((0.0, 0.5), (1.0, 2.5), (0.25, 1.0)):
        drag(opened, slider, [0.5, share])
        assert_shows(opened, ex, speed=speed)
    opened.get_by_text("step & gap").click()
    assert_shows(opened, ex, speed=1.0, shape="step & gap")


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_play_steps_through_the_grid_and_only_on_demand(opened, ex, motion):
    opened.emulate_media(reduced_motion=motion)
    opened.reload()
    opened.locator("svg.figure").wait_for()
    opened.wait_for_timeout(1300)
    assert_shows(opened, ex, speed=1.5)
    opened.get_by_role("button", name="Play speed").click()
    slider, seen = opened.get_by_role("slider", name="speed"), []
    until = time.monotonic() + 10
    while time.monotonic() < until and opened.get_by_role("button", name="Pause speed").count():
        seen.append(slider.get_attribute("aria-valuetext"))
        opened.wait_for_timeout(60)
    assert list(dict.fromkeys(seen))[:2] == ["1.5", "2"]
    assert_shows(opened, ex, speed=2.5)
    # At the end it starts anew, and the button stops it.
    opened.get_by_role("button", name="Play speed").click()
    assert_shows(opened, ex, speed=0.5)
    opened.get_by_role("button", name="Pause speed").click()
    opened.wait_for_timeout(1300)
    assert slider.get_attribute("aria-valuetext") in ("0.5", "1")
    assert opened.problems == []


# --- links ------------------------------------------------------------------------------------------


def test_a_link_brings_the_view_back(opened, ex, served, tmp_path):
    opened.get_by_role("slider", name="speed").press("Home")
    opened.get_by_text("step & gap").click()
    assert "#" not in opened.url
    # Here the page may not write to the clipboard: the link is there to be copied by hand.
    opened.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('refused')); }")
    opened.get_by_role("button", name="Copy link").click()
    field = opened.get_by_role("textbox", name="Link to this view")
    field.wait_for()
    link = field.input_value()
    assert link == f"{opened.url}#tests.wave?speed=0.5&shape=step%20%26%20gap"
    assert field.evaluate("x => x.selectionEnd - x.selectionStart") == len(link)
    opened.goto("about:blank")
    opened.goto(link)
    opened.locator("svg.figure").wait_for()
    assert_shows(opened, ex, speed=0.5, shape="step & gap")
    opened.evaluate("() => { location.hash = '#tests.wave?speed=2.5&shape=nonsense&x=%E0%A4%A'; }")
    assert_shows(opened, ex, speed=2.5, shape="step & gap")
    opened.evaluate("() => { location.hash = '#100%'; }")
    assert_shows(opened, ex, speed=2.5, shape="step & gap")
    assert opened.problems == []


def test_a_link_goes_to_the_clipboard(opened, ex):
    opened.context.grant_permissions(["clipboard-read", "clipboard-write"])
    opened.get_by_role("button", name="Copy link").click()
    opened.get_by_role("button", name="Copied").wait_for()
    assert opened.evaluate("() => navigator.clipboard.readText()").endswith("#tests.wave?speed=1.5&shape=sine")


def test_in_jupyterlab_a_link_leads_to_the_site(page, served, tmp_path, ex):
    there = Explorable(**{**{k: getattr(ex, k) for k in ex.__dataclass_fields__}, "page": "page.html"})
    write(tmp_path, explorable.bundle(there))
    page.goto(f"{served(tmp_path)}/index.html")
    page.evaluate("() => { document.body.dataset.jpThemeLight = 'true'; delete Navigator.prototype.clipboard; }")
    page.get_by_role("button", name="Copy link").click()
    assert page.get_by_role("textbox", name="Link to this view").input_value().startswith("page.html#tests.wave?")


# --- how it looks -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheme", "change", "dark"),
    [
        ("light", "", False),
        ("dark", "", True),
        ("light", "document.documentElement.dataset.theme = 'dark'", True),
        ("dark", "document.documentElement.dataset.theme = 'light'", False),
        ("light", "document.body.dataset.jpThemeLight = 'false'", True),
        ("dark", "document.body.dataset.jpThemeLight = 'true'", False),
    ],
)
def test_it_follows_the_theme(opened, scheme, change, dark):
    opened.emulate_media(color_scheme=scheme)
    opened.evaluate(f"() => {{ {change} }}")
    card, line, text = opened.evaluate(
        """() => {
          const root = document.querySelector('[data-explorable]').shadowRoot;
          const style = what => getComputedStyle(root.querySelector(what));
          return [style('.card').backgroundColor, style('[data-curve="0.0"]').stroke, style('text').fill];
        }"""
    )

    def rgb(colour):
        return "rgb({}, {}, {})".format(*(int(colour[i : i + 2], 16) for i in (1, 3, 5)))

    light_line = LINES[1]["color"]
    assert card == rgb(explorable._PARTS["card"][dark])
    assert line == rgb(explorable.DARK[light_line] if dark else light_line)
    assert text == rgb(explorable._PARTS["ink"][dark])


# --- the course's own -------------------------------------------------------------------------------


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_chapters_explorables_are_drawn_as_stored(page, served, tmp_path, chapter):
    shown = [built(id) for id in CHAPTERS[chapter].ids]
    write(tmp_path, *(explorable.bundle(ex) for ex in shown))
    page.goto(f"{served(tmp_path)}/index.html")
    page.wait_for_function("() => [...document.querySelectorAll('[data-explorable]')].every(h => h.shadowRoot)")
    for which, ex in enumerate(shown):
        assert_shows(page, ex, which=which)
        query = "&".join(f"{c.name}={explorable._key(c.values[0])}" for c in ex.controls)
        page.evaluate("hash => { location.hash = hash; }", f"#{ex.id}?{query}")
        page.wait_for_timeout(100)
        assert_shows(page, ex, which=which, **{c.name: c.values[0] for c in ex.controls})
    assert not page.locator("img").evaluate_all("images => images.some(image => image.checkVisibility())")
    assert page.problems == []


# How far the middle of words is from the nearest line of their own colour, in pixels.
_CLEAR = """host => [...host.shadowRoot.querySelectorAll('svg.figure, svg.more')].flatMap(figure => {
  const style = getComputedStyle, words = [...figure.querySelectorAll(':scope > text')];
  const lines = [...figure.querySelectorAll('svg > path:not([data-curve])')];
  return words.flatMap(text => {
    const own = lines.filter(line => style(line).stroke === style(text).fill), box = text.getBoundingClientRect();
    const far = own.map(line => line.getBoundingClientRect())
      .filter(line => line.right > box.left && line.left < box.right)
      .map(line => Math.abs((line.top + line.bottom) / 2 - (box.top + box.bottom) / 2));
    return far.length ? [[text.textContent, Math.min(...far)]] : [];
  });
})"""


@pytest.mark.parametrize("width", [390, 784, 1400])
def test_no_line_goes_through_its_own_words(page, served, tmp_path, width):
    page.set_viewport_size({"width": width, "height": 800})
    write(tmp_path, explorable.bundle(built("ratio_clipping.scatter")))
    page.goto(f"{served(tmp_path)}/index.html")
    page.locator("svg.figure").wait_for()
    found = dict(page.locator("[data-explorable]").evaluate(_CLEAR))
    assert {"1 + ε = 1.2", "1 − ε = 0.8", "ε = 0.2"} <= set(found)
    # Half of a letter's height, and some air.
    assert {words: far for words, far in found.items() if far < 8} == {}


@pytest.mark.parametrize("width", [390, 784])
def test_numbers_that_belong_together_stand_in_one_line(page, served, tmp_path, width):
    page.set_viewport_size({"width": width, "height": 800})
    write(tmp_path, *(explorable.bundle(built(f"ratio_clipping.{name}")) for name in ("scatter", "balls")))
    page.goto(f"{served(tmp_path)}/index.html")
    page.locator("svg.figure").nth(1).wait_for()
    rows = {}
    for which in range(2):
        spans = page.locator("[data-explorable]").nth(which).locator(".numbers > span > span")
        rows |= {
            (which, span.inner_text().rsplit(" ", 1)[0], i): span.bounding_box()["y"]
            for i, span in enumerate(spans.all())
        }
    tops = list(rows.values())
    assert tops[0] == tops[1] and tops[2] == tops[3] and tops[7] == tops[8], rows


# A hand that moves the slider to another place before every single frame, for a second.
_SHAKE = """() => new Promise(done => {
  const slider = document.querySelector('[data-explorable]').shadowRoot.querySelector('[type=range]');
  const until = performance.now() + 1000;
  let place = 0;
  const step = () => {
    if (performance.now() > until) { return done(); }
    slider.value = (place += 1) % (+slider.max + 1);
    slider.dispatchEvent(new Event('input', {bubbles: true}));
    requestAnimationFrame(step);
  };
  step();
})"""


@pytest.mark.parametrize("id", IDS)
def test_a_hand_that_shakes_is_followed(page, served, tmp_path, id, drawings):
    write(tmp_path, explorable.bundle(built(id)))
    page.goto(f"{served(tmp_path)}/index.html")
    page.locator("svg.figure").wait_for()
    count, rate = drawings(page.locator("[data-explorable]"), lambda: page.evaluate(_SHAKE))
    print(f"{id}: {rate:.0f} frames per second, each another one, over {count} drawings")
    assert count > 5 and rate >= FLOOR
