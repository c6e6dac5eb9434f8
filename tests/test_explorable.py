"""Explorables in general: what they refuse, how they are stored, and that the picture shows what is stored."""

import dataclasses
import json
import re

import numpy as np
import pytest

from pocourse.lesson import explorable, figures
from pocourse.lesson.explorable import Control, Curve, Explorable, Mark, Panel, Readout, compute, frame

A = Control("a", "slope", (0.0, 0.5, 1.0), 0.5)
B = Control("b", "side", ("left", "right"), "right", "choice")
X = np.linspace(-1, 1, 7)
ALT = "A straight line of slope {a} on the {b}, ending at {end}."


def lines(*, a, b):
    y = a * X * (1 if b == "right" else -1)
    return {"y": y, "end": y[-1]}


def example(**changes):
    found = compute(lines, (A, B))
    made = {
        "id": "tests.example",
        "title": "A line",
        "controls": (A, B),
        "panels": (Panel("Line", "x", "y", (-1, 1), (-1, 1), (Curve("line", found["y"], X),)),),
        "alt": ALT,
        "readouts": (Readout("end", "end", found["end"]),),
    }
    return Explorable(**{**made, **changes})


def one_curve(y, x=X, **options):
    return (Panel("Line", "x", "y", (-1, 1), (-1, 1), (Curve("line", y, x, **options),)),)


# --- what is refused --------------------------------------------------------------------------------

GRID = np.zeros((3, 2, 7))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Control("a", "a", (0, 1), 0.3), "default of a on its grid"),
        (lambda: Control("a", "a", (0, 0), 0), "at least 2 different values"),
        (lambda: Control("a", "a", (0, 1), 0, texts=("x", "x")), "a text of its own"),
        (lambda: Control("a", "a", (0, 1), 0, texts=("x",)), "a text of its own"),
        (lambda: Control("a", "a", (0, 1), 0, "knob"), "slider or choice"),
        (lambda: Control("a", "a", (0, 1), 0, "choice", play=True), "a slider where a is to play"),
        (lambda: Control("A b", "a", (0, 1), 0), "name of a control"),
        (lambda: Curve("c", np.zeros(6), X), "as many points"),
        (lambda: Curve("c", np.full(7, np.inf), X), "finite values"),
        (lambda: Curve("c", X, X, {"color": "#123456"}), "partner on dark pages"),
        (lambda: Curve("c", X, X, kind="bars"), "line, points, area"),
        (lambda: Curve("c", X, X, {"color": "#0072b2", "marker": "s"}), "a marker of 'c'"),
        (lambda: Mark("arrow", 0.0), "hline, vline or text"),
        (lambda: Mark("text", 0.0), "(x, y) for a text"),
        (lambda: Panel("p", "x", "y", (1, 1), (0, 1), ()), "xlim as two finite numbers"),
        (lambda: Panel("p", "x", "y", (-1, 1), (0, 1), [Curve("c", X, X)] * 2), "c more than once"),
        (lambda: Panel("p", "x", "y", (-1, 1), (0, 0.9), [Curve("c", X, X)]), "at most twice the panel's range"),
        (lambda: Readout("r", "r", np.array([np.nan])), "finite numbers of the readout r"),
        (lambda: example(panels=one_curve(np.zeros((2, 3, 7)))), "on the grid [3, 2]"),
        (lambda: example(panels=one_curve(np.zeros(7))), "on the grid [3, 2]"),
        (lambda: example(panels=one_curve(GRID, np.zeros((3, 3, 7)))), "x of 'line' on the grid"),
        (lambda: example(readouts=(Readout("end", "end", np.zeros(3)),)), "the readout end on the grid"),
        (lambda: example(controls=(A, A)), "a more than once"),
        (lambda: example(readouts=(Readout("a", "end", np.zeros((3, 2))),)), "a more than once"),
        (lambda: example(id="no spaces"), "an id like chapter.name"),
        (lambda: example(alt="A line of slope {a}."), "at least 30 characters"),
        (lambda: example(alt=lambda a, b: "A line that goes up by some slope." if a else "Flat."), "got 'Flat.'"),
        (lambda: example(alt=ALT + " {nothing}"), "names of controls and readouts"),
        (lambda: example(controls=()), "at least one control"),
        (lambda: compute(lambda a, b: {"y": np.zeros(2 if a else 3)}, (A, B)), "the same arrays in every frame"),
        (lambda: frame(example(), a=0.25), "a on its grid"),
        (lambda: frame(example(), c=1), "parameters of tests.example"),
    ],
)
def test_what_is_wrong_is_refused(make, said):
    with pytest.raises(ValueError, match=re.escape(said)) as refused:
        make()
    assert re.search(r"^expected .*; got .*\. .+\.$", str(refused.value), re.DOTALL)


def test_too_much_data_is_refused():
    noise = np.random.default_rng(0).uniform(-1, 1, (3, 2, 9000))
    with pytest.raises(ValueError, match=r"at most 150,000 bytes of data; got \d{3},\d{3} for 6 frames"):
        example(panels=one_curve(noise, np.linspace(-1, 1, 9000)))


# --- how it is stored -------------------------------------------------------------------------------


def test_the_grid_is_computed_in_the_controls_order():
    found = compute(lines, (A, B))
    assert found["y"].shape == (3, 2, 7) and found["end"].shape == (3, 2)
    np.testing.assert_array_equal(found["y"][2, 0], -X)
    np.testing.assert_array_equal(found["end"], [[0, 0], [-0.5, 0.5], [-1, 1]])


def test_what_is_stored_is_off_by_less_than_a_65534th_of_the_panel():
    values = np.random.default_rng(0).uniform(-2, 2, (3, 2, 501))
    x = np.linspace(-1, 1, 501)
    ex = example(panels=one_curve(values, x))
    worst = 0.0
    for i, a in enumerate(A.values):
        for j, b in enumerate(B.values):
            stored_x, stored_y = frame(ex, a=a, b=b).panels[0]["line"]
            worst = max(worst, np.abs(stored_y - values[i, j]).max())
            assert np.abs(stored_x - x).max() <= 2 / 65534
    assert 0 < worst <= 2 / 65534


def test_a_gap_stays_a_gap():
    values = np.broadcast_to(np.where(np.abs(X) < 0.1, np.nan, X), (3, 2, 7))
    _, y = frame(example(panels=one_curve(values))).panels[0]["line"]
    np.testing.assert_array_equal(np.isnan(y), np.isnan(values[0, 0]))
    np.testing.assert_allclose(y[:3], X[:3], atol=1e-4)


def test_constant_arrays_keep_their_value():
    _, y = frame(example(panels=one_curve(np.full((3, 2, 7), 0.3)))).panels[0]["line"]
    np.testing.assert_array_equal(y, np.full(7, 0.3))


def test_an_axis_on_which_nothing_depends_is_stored_once():
    varied = np.arange(3.0).reshape(3, 1, 1) / 3 + X / 9
    curves = json.loads(example(panels=one_curve(np.broadcast_to(varied, (3, 2, 7)))).data)["panels"][0]["curves"]
    assert curves[0]["y"]["dims"] == [3, 1] and curves[0]["x"]["dims"] == [1, 1]
    given = json.loads(example(panels=one_curve(varied)).data)["panels"][0]["curves"]
    assert given == curves


def test_the_same_explorable_has_the_same_bytes():
    one, two = (explorable.bundle(example()) for _ in range(2))
    assert one == two


def test_readouts_and_alt_of_a_frame():
    found = frame(example(), a=1.0, b="left")
    assert found.readouts == {"end": "−1.00"}
    assert found.alt == "A straight line of slope 1 on the left, ending at −1.00."
    told = example(alt=lambda a, b: f"A straight line that was told: {a} and {b}.")
    assert frame(told, a=0.0).alt == "A straight line that was told: 0.0 and right."


def test_what_is_rounded_to_zero_has_no_sign():
    values = np.array([[-0.004, 0.004], [-0.0, -0.006], [-10.0, -0.5]])
    assert Readout("r", "r", values).texts.tolist() == [["0.00", "0.00"], ["0.00", "−0.01"], ["−10.00", "−0.50"]]
    assert Readout("r", "r", values, "{:.0%}").texts.tolist() == [["0%", "0%"], ["0%", "−1%"], ["−1000%", "−50%"]]
    assert Readout("r", "r", values, "at {:.0f}").texts[0, 0] == "at 0"
    assert Readout("r", "r", values, "{:.0e}").texts.tolist()[0] == ["−4e−03", "4e−03"]


# --- the two outputs --------------------------------------------------------------------------------


def test_the_picture_shows_the_default_frame_as_stored():
    ex = example()
    drawn = explorable.draw(ex).axes[0].lines[0]
    x, y = frame(ex, a=0.5, b="right").panels[0]["line"]
    np.testing.assert_array_equal(drawn.get_xdata(), x)
    np.testing.assert_array_equal(drawn.get_ydata(), y)
    assert explorable.bundle(ex)[0][:8] == b"\x89PNG\r\n\x1a\n"


def test_all_kinds_of_curves_and_marks_are_drawn():
    y = np.zeros((1, 1, 4))
    x = np.array([-1.0, 1, 1, -1])
    curves = [Curve(kind, y, x, figures.LINES[0], kind) for kind in explorable.KINDS]
    marks = [Mark("hline", 0.1), Mark("vline", 0.1), Mark("text", (0, 0), "here")]
    figure = explorable.draw(example(panels=[Panel("P", "x", "y", (-1, 1), (-1, 1), curves, marks, equal=True)]))
    axes = figure.axes[0]
    assert (len(axes.lines), len(axes.patches), len(axes.collections), len(axes.texts)) == (3, 1, 1, 1)


@pytest.mark.parametrize("lift", [0, 12, -12])
def test_a_lifted_text_is_that_many_pixels_from_its_place_however_large_the_panel(lift):
    for share in (1.0, 3.0):
        marks = [Mark("text", (0.3, 0.2), "here", lift=lift)]
        one = Panel("P", "x", "y", (-1, 1), (-1, 1), [Curve("line", np.zeros((1, 1, 7)), X)], marks)
        figure = explorable.draw(example(panels=[one, dataclasses.replace(one, title="Q", share=share)]))
        figure.draw_without_rendering()
        box, place = figure.axes[0].texts[0].get_window_extent(), figure.axes[0].transData.transform((0.3, 0.2))
        assert (box.y0 + box.y1) / 2 - place[1] == pytest.approx(lift * figure.dpi / 96, abs=1.5)
        assert box.x0 == pytest.approx(place[0], abs=2)


def test_the_page_is_whole_and_asks_for_nothing():
    ex = example(title="A <b>line</b> </script><script>alert(1)</script>")
    page = explorable.page(ex)
    stored = re.search(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)[1]
    assert json.loads(stored) == json.loads(ex.data)
    assert page.count("</script>") == 2 and "<b>" not in stored
    assert 'data-lm-suppress-shortcuts="true"' in page
    assert not re.search(r"https?:|[\"'`(]//|\bimport\b|\bfetch\(|XMLHttpRequest|getElementById|url\(", page)


def test_the_script_is_small_and_keeps_its_code():
    script = explorable.renderer()
    assert len(script.encode()) <= 14_592
    assert not re.search(r"^\s*//", script, re.MULTILINE) and "attachShadow" in script


def test_the_two_outputs(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, **options: shown.append((data, options)))
    explorable.explore(example())
    (picture, first), (page, _) = shown
    assert set(picture) == {"image/png", "text/plain"} and set(page) == {"text/html", "text/plain"}
    assert first["metadata"]["image/png"]["alt"] == picture["text/plain"] == frame(example()).alt
    assert page["text/html"] == explorable.page(example())


def _luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, two):
    light, dark = sorted((_luminance(one), _luminance(two)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_colours_stand_out_from_the_card(dark):
    card = explorable._PARTS["card"][dark]
    for pair in explorable.DARK.items():
        assert contrast(pair[dark], card) >= 3, pair[dark]
    for part in ("ink", "soft"):
        assert contrast(explorable._PARTS[part][dark], card) >= 4.5
    assert contrast("#000000", "#ffffff") == pytest.approx(21) and contrast("#888888", "#999999") < 1.5
