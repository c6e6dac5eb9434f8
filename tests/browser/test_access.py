"""The explorables where readers meet them: on the built site and in JupyterLab, by eye, keyboard and screen reader."""

import base64
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import yaml
from chapters import CHAPTERS, IDS, built, chapter_of
from test_explorable_pages import FLOOR, assert_shows, drag

from pocourse.lesson import explorable, notebooks
from pocourse.lesson.explorable import Control, Curve, Explorable, Panel, Readout, frame

RATIO = CHAPTERS["ratio_clipping"]
AXE = Path(__file__).parent / "vendor" / "axe-core" / "axe.min.js"


# --- what the notebooks were saved with -----------------------------------------------------------------


def restored(spec):
    """An explorable from what a page carries. Its values are the words of a link, its arrays those that were stored."""

    def array(series):
        codes = np.frombuffer(base64.b64decode(series["codes"]), "<u2")
        values = np.where(codes == explorable.GAP, np.nan, series["low"] + series["step"] * codes)
        return values.reshape(*series["dims"], series["n"])

    def curve(kept):
        signs = {shape: sign for sign, shape in explorable.MARKERS.items()}
        look = {"color": explorable.COLOURS[kept["c"]], "linewidth": kept["width"], "alpha": kept["alpha"]}
        if kept["kind"] == "points":
            look |= {"marker": signs[kept["marker"]], "size": kept["size"]}
        return Curve(kept["name"], array(kept["y"]), array(kept["x"]), look, kept["kind"], kept["label"])

    def panel(kept):
        words = [kept[key] for key in ("title", "xlabel", "ylabel", "xlim", "ylim")]
        return Panel(*words, [curve(one) for one in kept["curves"]])

    controls = [
        Control(c["name"], c["label"], c["keys"], c["keys"][c["start"]], c["kind"], c["texts"], c["play"])
        for c in spec["controls"]
    ]
    readouts = [
        Readout(r["name"], r["label"], np.array(r["texts"]).reshape(r["dims"]), shown=r["shown"])
        for r in spec["readouts"]
    ]
    panels = [panel(kept) for kept in spec["panels"]]
    return Explorable(spec["id"], spec["title"], controls, panels, spec["alt"], readouts)


@pytest.fixture(scope="module")
def saved():
    """The explorables of the saved notebooks: id -> (number of its cell, explorable)."""
    found = {}
    for chapter in CHAPTERS.values():
        for number, cell in enumerate(json.loads(chapter.notebook.read_text(encoding="utf-8"))["cells"]):
            for output in cell.get("outputs", []):
                html = "".join(output.get("data", {}).get("text/html", ""))
                for data in re.findall(r'<div data-explorable=.*?application/json">(.*?)</script>', html, re.DOTALL):
                    ex = restored(json.loads(data))
                    assert chapter_of(ex.id) is chapter
                    found[ex.id] = number, ex
    assert set(found) == set(IDS)
    return found


def test_no_notebook_is_left_out():
    assert [chapter.notebook for chapter in CHAPTERS.values()] == notebooks.shipped()


@pytest.mark.parametrize("id", [id for chapter in CHAPTERS.values() for id in chapter.computed])
def test_what_was_saved_is_what_the_chapter_computes(saved, id):
    _, ex = saved[id]
    fresh = built(id)
    assert frame(ex).alt == frame(fresh).alt
    for values in list(fresh._frames())[::7]:
        ours, theirs = frame(ex, **{key: explorable._key(v) for key, v in values.items()}), frame(fresh, **values)
        assert (ours.readouts, ours.alt) == (theirs.readouts, theirs.alt)
        for mine, other in zip(ours.panels, theirs.panels, strict=True):
            assert mine.keys() == other.keys()
            for curve in mine:
                np.testing.assert_allclose(mine[curve], other[curve], atol=1e-3)


def place(page, id):
    """The number of an explorable among all on the page, in the middle of the window."""
    host = page.locator(f'[data-explorable="{id}"]')
    host.locator("svg.figure").wait_for()
    host.evaluate("host => host.scrollIntoView({block: 'center'})")
    return page.evaluate(
        "id => [...document.querySelectorAll('[data-explorable]')].findIndex(x => x.dataset.explorable === id)", id
    )


def first_slider(page, ex):
    control = next(control for control in ex.controls if control.kind == "slider")
    return control, page.locator(f'[data-explorable="{ex.id}"]').get_by_role("slider", name=control.label, exact=True)


def assert_moves_by_keyboard(page, ex):
    """From the default frame to both ends and one step back; the picture follows as the data says."""
    which, (control, slider) = place(page, ex.id), first_slider(page, ex)
    assert_shows(page, ex, which=which)
    for key, index in (("Home", 0), ("ArrowRight", 1), ("End", -1), ("ArrowLeft", -2)):
        slider.press(key)
        assert_shows(page, ex, which=which, **{control.name: control.values[index]})
        assert slider.get_attribute("aria-valuetext") == control.texts[index]
    for control in ex.controls:
        frames = [frame(ex, **{control.name: value}).panels for value in (control.values[0], control.values[-1])]
        assert str(frames[0]) != str(frames[1]), f"{control.name} moves nothing: this test could not fail"


# --- on the site --------------------------------------------------------------------------------------


def mounted(page, address, chapter):
    """The page of a chapter's notebook on the site, all its explorables mounted."""
    page.goto(f"{address}/{chapter.page}", wait_until="load")
    page.locator("svg.figure").nth(len(chapter.ids) - 1).wait_for()
    return page


@pytest.fixture
def site(page, address, chapter):
    """The page of the test's chapter."""
    return mounted(page, address, CHAPTERS[chapter])


def picture(page, id):
    """The picture in the output before an explorable."""
    cell = page.locator("div.cell", has=page.locator(f'[data-explorable="{id}"]'))
    return cell.locator(".cell_output img")


# A page takes longer to load than most of this takes: what leaves the others alone shares one.
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_on_the_site_they_take_the_pictures_places_and_move_by_keyboard(site, saved, chapter):
    for id in CHAPTERS[chapter].ids:
        assert picture(site, id).count() == 1 and not picture(site, id).is_visible()
        assert_moves_by_keyboard(site, saved[id][1])
    assert site.problems == []


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_on_the_site_they_move_by_drag_and_fluently(site, saved, chapter, drawings):
    for id in CHAPTERS[chapter].ids:
        ex = saved[id][1]
        which, (control, slider) = place(site, id), first_slider(site, ex)
        last = len(control.values) - 1
        for index in (0, last, 1):
            drag(site, slider, [0.5, index / last])
            assert_shows(site, ex, which=which, **{control.name: control.values[index]})
        host = site.locator("[data-explorable]").nth(which)
        count, rate = drawings(host, lambda slider=slider: drag(site, slider, np.abs(np.linspace(-1, 1, 121))))
        print(f"{id} on the site: {rate:.0f} frames per second while dragging, over {count} drawings")
        assert count > 5 and rate >= FLOOR
    assert "#" not in site.url and site.problems == []


@pytest.mark.parametrize(("chapter", "id"), [(chapter_of(id).name, id) for id in IDS])
def test_on_the_site_a_link_brings_the_view_back(site, address, saved, chapter, id):
    ex = saved[id][1]
    place(site, id)
    host = site.locator(f'[data-explorable="{id}"]')
    for control in ex.controls:
        if control.kind == "slider":
            host.get_by_role("slider", name=control.label, exact=True).press("Home")
        else:
            host.get_by_role("radiogroup", name=control.label).get_by_text(control.texts[-1], exact=True).click()
    values = {c.name: c.values[0 if c.kind == "slider" else -1] for c in ex.controls}
    assert values != {c.name: c.default for c in ex.controls}
    site.context.grant_permissions(["clipboard-read", "clipboard-write"])
    host.get_by_role("button", name="Copy link").click()
    host.get_by_role("button", name="Copied").wait_for()
    link = site.evaluate("() => navigator.clipboard.readText()")
    query = "&".join(f"{name}={quote(value)}" for name, value in values.items())
    assert link == f"{address}/{CHAPTERS[chapter].page}#{id}?{query}"
    site.goto("about:blank")
    site.goto(link)
    host.locator("svg.figure").wait_for()
    site.wait_for_timeout(500)
    top, bottom, window = host.evaluate(
        "host => { const {top, bottom} = host.getBoundingClientRect(); return [top, bottom, innerHeight]; }"
    )
    assert top < window and bottom > 0
    assert_shows(site, ex, which=place(site, id), **values)
    for other in set(CHAPTERS[chapter].ids) - {id}:
        assert_shows(site, saved[other][1], which=place(site, other))
    assert site.problems == []


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_without_scripts_the_site_shows_the_pictures(new_page, address, saved, chapter):
    with new_page(java_script_enabled=False) as page:
        page.goto(f"{address}/{CHAPTERS[chapter].page}", wait_until="load")
        for id in CHAPTERS[chapter].ids:
            drawn = picture(page, id)
            drawn.scroll_into_view_if_needed()
            assert drawn.is_visible() and drawn.bounding_box()["width"] > 300
            assert drawn.get_attribute("alt") == frame(saved[id][1]).alt
            assert page.locator(f'[data-explorable="{id}"]').inner_text().strip() == ""
        assert page.locator("svg.figure").count() == 0


# --- for a screen reader --------------------------------------------------------------------------------


def unnamed(page, ex):
    """What a screen reader would not be told of an explorable in its default frame: controls, choices, the picture."""
    said = []

    def collect(node):
        if isinstance(node, dict):
            for key, inner in node.items():
                said.append(key)
                collect(inner)
        elif isinstance(node, list):
            for inner in node:
                collect(inner)
        else:
            said.append(str(node))

    collect(yaml.safe_load(page.locator(f'[data-explorable="{ex.id}"]').aria_snapshot()))
    due = [f'img "{frame(ex).alt}"', 'button "Copy link"']
    for control in ex.controls:
        due += [f'{"slider" if control.kind == "slider" else "radiogroup"} "{control.label}"']
        due += [f'button "Play {control.label}"'] if control.play else []
        if control.kind == "choice":
            chosen = {i: " [checked]" if i == control.start else "" for i in range(len(control.texts))}
            due += [f'radio "{text}"{chosen[i]}' for i, text in enumerate(control.texts)]
    return [words for words in due if words not in said]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_control_has_its_name_and_the_picture_its_sentence(site, saved, chapter):
    assert {id: unnamed(site, saved[id][1]) for id in CHAPTERS[chapter].ids} == {id: [] for id in CHAPTERS[chapter].ids}


@pytest.mark.parametrize("chapter", [RATIO.name])
def test_what_has_no_name_is_found(site, saved, chapter):
    ex = saved[CHAPTERS[chapter].ids[0]][1]
    site.locator(f'[data-explorable="{ex.id}"]').evaluate(
        """host => {
          host.shadowRoot.querySelector('svg.figure').setAttribute('aria-label', 'A figure.');
          host.shadowRoot.querySelector('label.what').removeAttribute('for');
          host.shadowRoot.querySelector('[role=radiogroup]').removeAttribute('aria-labelledby');
        }"""
    )
    slider, choice = (next(c for c in ex.controls if c.kind == kind) for kind in ("slider", "choice"))
    assert unnamed(site, ex) == [
        f'img "{frame(ex).alt}"',
        *(
            f'radiogroup "{c.label}"' if c is choice else f'slider "{c.label}"'
            for c in ex.controls
            if c in (slider, choice)
        ),
    ]


# --- axe ------------------------------------------------------------------------------------------------

# The outputs that hold HTML: explorables with their shadow roots, and cards.
OURS = ".cell_output .text_html"
# What the theme brings: the names of its search button and of the arrows that unfold its list of pages.
THEME = {"label-content-name-mismatch": ".search-button-field", "summary-name": ".bd-sidenav summary"}
_AXE = """async ([where, theme, rules]) => {
  const only = rules ? {runOnly: {type: 'rule', values: rules}} : {};
  const {violations, incomplete} = await axe.run({include: [[where]]}, only), found = [];
  for (const {id, impact, nodes} of violations) {
    if (impact !== 'serious' && impact !== 'critical') { continue; }
    for (const {target} of nodes) {
      const known = theme[id] && typeof target[0] === 'string' && document.querySelector(target[0]).matches(theme[id]);
      if (!known) { found.push(`${id} (${impact}): ${target.flat().join(' > ')}`); }
    }
  }
  return [found, incomplete.map(rule => rule.id)];
}"""


def complaints(page, where, theme=None, rules=None):
    """What axe finds serious or critical below a selector, by all or some rules, and those it could not decide."""
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(AXE.read_text(encoding="utf-8"))
    return page.evaluate(_AXE, [where, theme or {}, rules])


# The contrast of every word in a picture against the card, which axe does not decide.
_CONTRASTS = """() => {
  const light = color => {
    const parts = color.match(/[\\d.]+/g).slice(0, 3).map(x => x / 255);
    const [r, g, b] = parts.map(x => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
  };
  return [...document.querySelectorAll('[data-explorable]')].flatMap(host => {
    const card = light(getComputedStyle(host.shadowRoot.querySelector('.card')).backgroundColor);
    return [...host.shadowRoot.querySelectorAll('svg.figure text')].map(text => {
      const ink = light(getComputedStyle(text).fill);
      return [text.textContent, Math.max(ink, card) / Math.min(ink, card)];
    });
  });
}"""


def turn(page, scheme):
    """Light or dark, as the reader's system asks."""
    page.emulate_media(color_scheme=scheme)
    page.wait_for_function("scheme => document.documentElement.dataset.theme === scheme", arg=scheme)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_axe_finds_nothing_wrong_with_explorables_and_cards(new_page, address, chapter):
    with new_page(color_scheme="light") as page:
        mounted(page, address, CHAPTERS[chapter])
        own = len(CHAPTERS[chapter].ids)
        assert page.locator(f"{OURS} [data-explorable]").count() == own < page.locator(OURS).count() - 20
        # Nothing but colours differs in the dark.
        for scheme, rules in (("light", None), ("dark", ["color-contrast"])):
            turn(page, scheme)
            found, undecided = complaints(page, OURS, rules=rules)
            assert found == []
            # Over lines axe cannot tell the ground of a word: that is measured here.
            assert set(undecided) <= {"color-contrast"}
            contrasts = page.evaluate(_CONTRASTS)
            assert len(contrasts) > 40
            assert {words: round(ratio, 2) for words, ratio in contrasts if ratio < 4.5} == {}, scheme


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_axe_finds_nothing_wrong_on_a_phone(new_page, address, chapter):
    """Above all what scrolls sideways there: figures, tables, formulas, code."""
    with new_page(viewport={"width": 390, "height": 800}) as page:
        mounted(page, address, CHAPTERS[chapter])
        page.wait_for_timeout(800)
        assert complaints(page, ".bd-article")[0] == []
        scrolls = ["scrollable-region-focusable"]
        page.locator(".cell_output .picture[tabindex='0']").first.evaluate("box => box.removeAttribute('tabindex')")
        assert [line.split()[0] for line in complaints(page, ".bd-article", rules=scrolls)[0]] == scrolls


@pytest.mark.parametrize("chapter", [RATIO.name])
def test_axe_finds_what_is_wrong(site):
    host = site.locator("[data-explorable]").first
    host.evaluate("host => host.shadowRoot.querySelector('label.what').removeAttribute('for')")
    for scheme, faint, rules in (("light", "#ccc", None), ("dark", "#555", ["color-contrast"])):
        turn(site, scheme)
        host.evaluate(
            "(host, faint) => { host.shadowRoot.querySelector('.note').style.color = faint;"
            " host.shadowRoot.querySelector('svg.figure text').style.fill = faint; }",
            faint,
        )
        found, _ = complaints(site, OURS, rules=rules)
        assert sorted(line.split()[0] for line in found) == ["color-contrast", *([] if rules else ["label"])]
        assert sum(ratio < 4.5 for _, ratio in site.evaluate(_CONTRASTS)) == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_wrong_with_the_first_page(new_page, address, scheme):
    with new_page(color_scheme=scheme) as page:
        page.goto(f"{address}/index.html", wait_until="load")
        page.wait_for_load_state("networkidle")
        assert page.evaluate("() => document.documentElement.dataset.theme") == scheme
        assert complaints(page, "html", THEME)[0] == []
        page.evaluate("() => { const a = document.createElement('button'); document.querySelector('main').append(a); }")
        assert [line.split()[0] for line in complaints(page, "html", THEME)[0]] == ["button-name"]


# --- in JupyterLab, with no kernel ------------------------------------------------------------------------

_OPEN = """async name => {
  const app = window.jupyterapp;
  await app.restored;
  const panel = await app.commands.execute(
    'docmanager:open', {path: name, factory: 'Notebook', kernelPreference: {shouldStart: false, canStart: false}});
  await panel.context.ready;
  app.shell.activateById(panel.id);
  window.coursePanel = panel;
}"""
_SESSION = "() => window.coursePanel.sessionContext.session"


def reopened(lab, page, name, *, trusted):
    """The saved notebook of chapter 2 under a name of its own, opened in JupyterLab without a kernel."""
    book = json.loads(RATIO.notebook.read_text(encoding="utf-8"))
    # Trust goes by content: no copy may be trusted for another's sake.
    book["metadata"]["copy"] = name
    path = lab.notebooks / name
    path.write_text(json.dumps(book), encoding="utf-8")
    if trusted:
        own = {"JUPYTER_DATA_DIR": "data", "JUPYTER_CONFIG_DIR": "config", "JUPYTER_RUNTIME_DIR": "runtime"}
        environment = os.environ | {key: str(lab.folder / folder) for key, folder in own.items()}
        command = [sys.executable, "-m", "jupyter", "trust", str(path)]
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60)
    # The widgets' own extension stumbles over a notebook that has no session at all.
    page.theirs = []
    theirs = "/extensions/@jupyter-widgets/jupyterlab-manager/"
    page.on("pageerror", lambda e: page.theirs.append(f"page error: {e}") if theirs in (e.stack or "") else None)
    page.goto(f"{lab.url}/lab?reset", wait_until="load")
    page.wait_for_function("() => window.jupyterapp !== undefined", timeout=90_000)
    page.evaluate(_OPEN, name)
    page.wait_for_timeout(500)
    assert page.evaluate(_SESSION) is None
    return page


def test_a_trusted_notebook_moves_without_a_kernel(lab, page, saved):
    reopened(lab, page, "trusted.ipynb", trusted=True)
    for number, ex in (saved[id] for id in RATIO.ids):
        cell = lab.show(page, number)
        host = cell.locator("[data-explorable]")
        host.locator("svg.figure").wait_for()
        assert cell.locator("img").count() == 1 and not cell.locator("img").is_visible()
        assert_moves_by_keyboard(page, ex)
    assert page.evaluate(_SESSION) is None
    assert [problem for problem in page.problems if problem not in page.theirs] == []


def test_an_untrusted_notebook_shows_the_pictures(lab, page, saved):
    reopened(lab, page, "untrusted.ipynb", trusted=False)
    for number, _ in (saved[id] for id in RATIO.ids):
        cell = lab.show(page, number)
        picture = cell.locator(".jp-OutputArea-output img")
        picture.wait_for(state="visible")
        # JupyterLab gives no picture an alternative text, whatever its output says of it.
        stored = json.loads(RATIO.notebook.read_text(encoding="utf-8"))["cells"][number]["outputs"]
        (png,) = ("".join(output["data"]["image/png"]).strip() for output in stored if "image/png" in output["data"])
        assert picture.get_attribute("src") == f"data:image/png;base64,{png}"
        assert picture.evaluate("image => image.naturalWidth") > 300
        assert cell.locator("svg.figure").count() == cell.get_by_role("slider").count() == 0
    assert [problem for problem in page.problems if problem not in page.theirs] == []
