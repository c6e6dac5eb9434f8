"""Benches: one computation at a time, lines of code as functions, and the bench of chapter 2."""

import asyncio
import functools
import html
import math
import re
import threading
import time

import ipywidgets
import numpy as np
import pytest
import torch
from helpers import in_tree

from pocourse.lesson import cards, trial
from pocourse.lesson.bench import Bench, OneAtATime, expression, in_words
from pocourse.lesson.trial import Broken, Trouble
from pocourse.ratio_clipping import bench, clip_objective, figures, spo_objective
from pocourse.ratio_clipping.objectives import rollback_objective


def words(page):
    """A page as text without tags."""
    return html.unescape(re.sub(r"<[^>]*>", " ", page))


MEASURE = bench.measure


@functools.cache
def measured(line):
    """What a line does, measured once for all tests that only look at how it is shown."""
    return MEASURE(line)


def said(form):
    """What a form shows now."""
    return "\n".join(words(w.value) for w in in_tree(form, ipywidgets.HTML) if w.layout.display != "none")


def trouble(run, *arguments):
    """The sentence with which something is refused."""
    with pytest.raises((Trouble, Broken)) as caught:
        run(*arguments)
    return in_words(caught.value)


# --- one at a time --------------------------------------------------------------------------------


def test_without_a_loop_it_is_done_at_once():
    done = []
    one = OneAtATime(done.append)
    one.ask("a")
    one.ask("b")
    assert done == ["a", "b"] and not one.busy


def test_what_is_asked_for_during_the_work_is_its_latest_once():
    done = []

    def work(wanted):
        assert one.busy
        done.append(wanted)
        if wanted == "a":
            for later in "bcd":
                one.ask(later)
            assert done == ["a"]

    one = OneAtATime(work)
    one.ask("a")
    assert done == ["a", "d"] and not one.busy


def test_in_a_loop_ask_returns_and_only_the_latest_is_done():
    done, together = [], []

    def work(wanted):
        together.append(threading.current_thread() is threading.main_thread())
        time.sleep(0.05)
        done.append(wanted)

    async def scenario():
        one = OneAtATime(work, pause_s=0.02)
        for wanted in "abc":
            one.ask(wanted)
        assert done == [] and one.busy
        await asyncio.sleep(0.2)
        first = list(done)
        one.ask("d")
        # Messages that a kernel received while it worked come in one after the other, right after the work.
        asyncio.get_running_loop().call_later(0.02, lambda: [one.ask(wanted) for wanted in "efg"])
        await asyncio.sleep(0.3)
        assert not one.busy
        return first

    assert asyncio.run(scenario()) == ["c"]
    assert done[0] == "c" and done[-1] == "g" and set(done) <= set("cdg") and all(together)


def test_a_stream_of_wishes_does_not_starve():
    done = []

    async def scenario():
        one = OneAtATime(done.append, pause_s=0.05, at_most_s=0.15)
        for wanted in range(30):
            one.ask(wanted)
            await asyncio.sleep(0.01)

    asyncio.run(scenario())
    assert 1 <= len(done) <= 4


def test_now_replaces_what_waits():
    done = []

    async def scenario():
        one = OneAtATime(done.append, pause_s=0.02)
        one.ask("a")
        one.now("b")
        assert done == ["b"]
        await asyncio.sleep(0.1)

    asyncio.run(scenario())
    assert done == ["b"]


def test_work_that_fails_leaves_it_ready():
    def work(wanted):
        if wanted == "bad":
            raise KeyboardInterrupt
        done.append(wanted)

    done = []
    one = OneAtATime(work)
    with pytest.raises(KeyboardInterrupt):
        one.ask("bad")
    one.ask("good")
    assert done == ["good"]


# --- what a bench says ----------------------------------------------------------------------------


def test_a_bench_says_that_it_computes_what_came_out_and_what_went_wrong():
    states = []

    def compute(wanted):
        states.append(shown.status.value)
        if wanted == "late":
            raise Trouble("Your function did not finish.")
        if wanted == "odd":
            raise ZeroDivisionError("division by zero")
        return 2 * wanted

    shown = Bench(
        compute, lambda result: f"It is {result}.", busy=lambda w: f"Doing {w} ...", still=lambda: "Old: `4`."
    )
    shown.ask(2)
    assert 'data-bench-state="busy"' in states[0] and "Doing 2 ..." in states[0] and 'role="status"' in states[0]
    assert 'data-bench-state="done"' in shown.status.value and "It is 4." in shown.status.value
    assert shown.message.layout.display == "none"
    shown.ask("late")
    assert 'data-bench-state="failed"' in shown.status.value and 'role="alert"' in shown.message.value
    assert "Your code did not finish." in words(shown.message.value) and "Old:" in words(shown.message.value)
    shown.ask("odd")
    assert "ZeroDivisionError: division by zero." in words(shown.message.value)
    shown.ask(3)
    assert shown.message.value == "" and shown.message.layout.display == "none" and shown.computed == 4


def test_what_a_bench_quotes_is_no_page():
    def compute(wanted):
        raise Trouble("Your function raised ValueError: <script>x</script>.")

    shown = Bench(compute, str)
    shown.ask(0)
    assert "<script>" not in shown.message.value and "&lt;script&gt;" in shown.message.value


# --- a line as a function -------------------------------------------------------------------------

SCOPE = {"eps": 0.2, "torch": torch, "math": math}


@pytest.mark.parametrize(
    "line",
    [
        "r * A",
        "  r * A  # what it says",
        "(lambda x: x * A)(r)",
        "sum(x * A for x in [r])",
        "(y := r) * A",
        "abs(r) * A",
    ],
)
def test_a_line_is_a_function_of_its_parameters(line):
    assert expression(line, ("r", "A"), SCOPE)(2.0, 3.0) == 6.0


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", "The line is empty. Write one expression; in it there are `r`, `A`, `eps`, `torch` and `math`."),
        ("r * A -", "invalid syntax, at its end"),
        ("(r * A", "'(' was never closed, at character 1."),
        ("f = r * A", "at character 3, after `f`. Write an expression, without `=`"),
        ("return r * A", "without `return`"),
        ("r − A", "invalid character '−' (U+2212), at character 3, after `r`"),
        ("r; A", "invalid syntax, at character 2"),
        ("x * ratio", "Your line uses `ratio` and `x`. The bench only knows `r`, `A`, `eps`, `torch` and `math`."),
        ("A * sign(r)", "Your line uses `sign`. Write `torch.sign`. The bench only knows"),
        ("r * isqrt(A)", "Write `math.isqrt`."),
        ("r\0", "null"),
        ("(" * 500 + "r" + ")" * 500, "Python cannot read this line as one value"),
        ("r * A) + (A", "unmatched ')'"),
    ],
)
def test_a_line_that_is_no_expression_is_refused_in_words(line, expected):
    assert expected in trouble(expression, line, ("r", "A"), SCOPE)


# --- chapter 2: what is computed ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("PPO", lambda r, a: clip_objective(r, a, clip_eps=0.2)),
        ("SPO", lambda r, a: spo_objective(r, a, eps=0.2)),
        ("PPO-RB", lambda r, a: rollback_objective(r, a, clip_eps=0.2)),
    ],
)
def test_the_presets_are_the_objectives_of_the_chapter(name, package):
    """As values and as slopes, on both sides of A and away from the corners, where a slope is a choice."""
    r = torch.cat([torch.linspace(0.01, 0.79, 40), torch.linspace(0.81, 1.19, 40), torch.linspace(1.21, 3, 40)])
    written = bench.objective(bench.PRESETS[name])
    for a in (1.0, -1.0, 0.3, -2.0):
        both = []
        for f in (written, package):
            x = r.clone().requires_grad_()
            value = f(x, torch.full_like(r, a))
            both.append((value.detach(), trial.derivative(value, x, "r")))
        for one, other in zip(*both, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_curves_of_a_line_known_by_hand():
    found = bench.curves(bench.objective("A * r ** 2 - eps"))
    np.testing.assert_allclose(found.value, [found.ratio**2 - 0.2, -(found.ratio**2) - 0.2], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.slope, [2 * found.ratio, -2 * found.ratio], rtol=1e-5)
    assert 1.0 in found.ratio and found.ratio[0] == np.float32(0.4) and found.ratio[-1] == np.float32(1.6)


def test_the_run_is_that_of_section_7():
    theirs = figures.softmax_batch(1, num_epochs=bench.STEPS)
    for name in ("PPO", "SPO"):
        ours, index = bench.references()[name].run, theirs.methods.index(name)
        np.testing.assert_allclose(ours.deviation[:, 0], theirs.deviation[:, index], atol=1e-4)
        np.testing.assert_allclose(ours.ratio[-1, 0], theirs.ratio[-1, index], atol=5e-3)
    row = bench.table(bench.references())["PPO"]
    theirs = figures.softmax_table({1: theirs})[1, "PPO"]
    for key in ("deviation", "largest", "outside", "gain"):
        np.testing.assert_allclose(row[key], theirs[key], atol=5e-3)


def test_a_line_that_is_a_preset_runs_as_the_preset_and_another_does_not():
    ppo = bench.references()["PPO"].run.deviation
    again = bench.measure(bench.PRESETS["PPO"])
    np.testing.assert_allclose(again.run.deviation, ppo, atol=1e-4)
    assert again.run.ratio.shape == (2, 1, 8, 256) and ppo.shape == (bench.STEPS + 1, 1, 8)
    unclipped = bench.measure("r * A").run.deviation
    assert (unclipped[-1] > 1).all() and (ppo[-1] < 0.4).all()


def test_the_objective_is_maximised():
    """The gain grows under r A and falls under its negative."""
    up, down = (bench.table({"x": bench.measure(line)})["x"]["gain"] for line in ("r * A", "-r * A"))
    assert (up > 0.5).all() and (down < -0.2).all()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("(r * A).mean()", "returned shape [] for inputs of shape [241]. One value per sample"),
        ("1.0", "Your code returned a float where a tensor is expected"),
        ("None", "Your code returned None"),
        ("r.double() * A", "turned torch.float32 into torch.float64"),
        ("r.detach() * A", "No gradient flows back to `r`"),
        ("A", "No gradient flows back to `r`"),
        ("A.clone().requires_grad_()", "does not depend on `r`"),
        ("torch.log(r - 1) * A", "The value of your objective is not a number (NaN) at r = 0.4 for A = +1"),
        ("r * A * (1 / 0)", "ZeroDivisionError"),
        ("r * A / 0", "The value of your objective is infinite at r = 0.4"),
        ("(r - 1).abs().sqrt() * A", "The derivative of your objective is not a number (NaN) at r = 1 for A = +1"),
        ("r * A.sqrt()", "at r = 0.4 for A = -1"),
        ("r ^ 2", "In Python a power is `**`"),
        ("max(r, A)", "Boolean value of Tensor"),
        ("r.mul_(A)", "Your code raised RuntimeError"),
        ("A.neg_() * r", "changes its input `A`"),
        ("r.nosuch()", "AttributeError"),
        ("r * A + 1e-9 * (1.7 - r).sqrt()", "of the run a ratio was not a number (NaN)"),
        ("r * A if r.dim() == 1 else A", "No gradient flows back to `r` on the batch of the run"),
        ("r * A if r.dim() == 1 else (r * A)[0]", "Your code returned shape [256] for inputs of shape [8, 256]"),
        ("exit()", "SystemExit"),
    ],
)
def test_what_a_line_does_wrong_is_said(line, expected):
    message = trouble(bench.measure, line)
    assert expected in message and "Your function" not in message


def test_a_line_that_takes_too_long_is_stopped(monkeypatch):
    monkeypatch.setattr(bench, "CURVES_S", 0.3)
    started = time.perf_counter()
    message = trouble(bench.measure, "[r for x in iter(int, 1)]")
    assert "did not finish within 0.3 seconds" in message and time.perf_counter() - started < 5
    assert "a loop that never ends, or for very much work; what is asked for here usually takes milliseconds" in message


def test_a_run_that_takes_too_long_is_not_held_to_milliseconds(monkeypatch):
    """The line is quick on the curves (one axis) and never ends on the batch of the run (two), on every machine."""
    monkeypatch.setattr(bench, "RUN_S", 0.3)
    message = trouble(bench.measure, "r * A if r.dim() == 1 else [r for x in iter(int, 1)]")
    assert "within 0.3 seconds" in message and "usually takes some seconds" in message and "milli" not in message


def test_the_bench_promises_what_it_does(shown):
    """It computes when Enter is pressed, not at every key."""
    bench.live()
    form, _, field, _ = live(shown)
    page = next(data["text/html"] for data, _ in shown if "text/html" in data)
    assert not field.continuous_update
    for text in (said(form), words(page)):
        assert "Python computes on Enter" in text and "while you" not in text


def test_a_function_is_known_in_the_line_by_its_name():
    def squared(ratio, advantage, weight=2.0):
        return ratio * advantage - weight * (ratio - 1) ** 2

    def wrong(ratio, advantage):
        return ratio.nosuch(advantage)

    direct = bench.curves(bench.objective("r * A - 2 * (r - 1) ** 2"))
    for line, own in (("squared(r, A)", squared), ("mine(r, A)", lambda r, a: squared(r, a))):
        np.testing.assert_allclose(bench.curves(bench.objective(line, own)).slope, direct.slope, rtol=1e-5)
    message = trouble(bench.measure, "wrong(r, A)", wrong)
    assert "The line: `return ratio.nosuch(advantage)`" in message


def test_a_stub_is_told_to_be_one():
    def stub(ratio, advantage): ...

    assert "`stub` is not written yet" in trouble(bench.measure, "stub(r, A)", stub)
    assert bench.measure("r * A", stub).text == "r * A"


# --- chapter 2: what is shown ---------------------------------------------------------------------


@pytest.fixture
def shown(monkeypatch):
    """Outputs as in a notebook: a list of [data, metadata], in which an update replaces."""
    outputs = []

    class Handle:
        def __init__(self, output):
            self.output = output

        def update(self, data, metadata=None, raw=False):
            assert raw
            self.output[:] = [data, metadata]

    def display(data, metadata=None, raw=False, display_id=None):
        assert raw
        outputs.append([data, metadata])
        return Handle(outputs[-1])

    monkeypatch.setattr(cards, "in_kernel", lambda: True)
    monkeypatch.setattr("IPython.display.display", display)
    monkeypatch.setattr(
        bench, "measure", lambda line, own=None: MEASURE(line, own) if own is not None else measured(line)
    )
    return outputs


def live(outputs):
    """The form behind what was displayed, and its fields."""
    (view,) = [data[cards.WIDGET_VIEW] for data, _ in outputs if cards.WIDGET_VIEW in data]
    form = ipywidgets.widget_serialization["from_json"](f"IPY_MODEL_{view['model_id']}", None)
    (choice,), (field,), (button,) = (
        in_tree(form, kind) for kind in (ipywidgets.Dropdown, ipywidgets.Text, ipywidgets.Button)
    )
    return form, choice, field, button


def picture(outputs):
    """The picture that is shown, and its alternative text."""
    (found,) = [(data["image/png"], metadata["image/png"]["alt"]) for data, metadata in outputs if "image/png" in data]
    return found


def test_the_stand_in_says_what_is_missing_and_the_picture_has_its_text(shown):
    bench.live()
    page = next(data["text/html"] for data, _ in shown if "text/html" in data)
    assert "It needs a kernel" in words(page) and "make lab" in page
    assert "<table" not in page, "the page stays as it is when the picture changes: it holds no numbers"
    numbers = "".join(w.value for w in in_tree(live(shown)[0], ipywidgets.HTML))
    assert all(f'data-bench-row="{name}"' in numbers for name in ("yours", "PPO", "SPO"))
    alt = picture(shown)[1]
    assert bench.PRESETS["PPO-RB"] in alt and "yours -0.30 and +0.30, PPO +0.00 and +0.00, SPO -1.50 and +1.50" in alt
    assert re.search(
        r"at the end: yours 0\.19, PPO 0\.30, SPO 0\.19\d?\.|at the end: yours 0\.1\d+, PPO 0\.[23]\d+", alt
    )


def test_picture_table_and_words_follow_the_line(shown):
    bench.live()
    form, choice, field, _ = live(shown)
    before = picture(shown)
    assert choice.value == "PPO-RB" and not field.continuous_update
    field.value = "r * A - 0.5 * (r - 1) ** 2"
    after, end = picture(shown), bench.measure(field.value).run.deviation[-1, 0]
    assert choice.value == "your own" and before[0] != after[0] and field.value in after[1]
    expected = figures.interquartile_mean(end)
    assert f"yours {expected:.3f}" in said(form) and f"yours {expected:.3f}" in after[1]
    table = next(w.value for w in in_tree(form, ipywidgets.HTML) if "<table" in w.value)
    row = re.search(r'data-bench-row="yours">.*?data-bench-deviation="([\d.]+)"', table)
    assert float(row[1]) == pytest.approx(float(expected), abs=2e-6 + 1e-5 * float(expected))


@pytest.mark.slow
def test_presets_fill_the_line_and_ones_own_comes_back(shown):
    bench.live()
    _, choice, field, _ = live(shown)
    field.value = "2 * r * A"
    choice.value = "SPO"
    assert field.value == bench.PRESETS["SPO"] and bench.PRESETS["SPO"] in picture(shown)[1]
    choice.value = "your own"
    assert field.value == "2 * r * A" and "2 * r * A" in picture(shown)[1]
    field.value = bench.PRESETS["PPO"]
    assert choice.value == "PPO"


def test_a_mistake_leaves_the_old_picture_and_says_so(shown):
    bench.live("r * A")
    form, _, field, button = live(shown)
    before = picture(shown)
    field.value = "r * A -"
    assert picture(shown) == before
    assert "invalid syntax, at its end" in said(form) and "The picture and the table still show" in said(form)
    assert "Not computed" in said(form)
    field.value = "r * A"
    assert "does not work" not in said(form) and "After 300 steps" in said(form)
    shown.clear()
    button.click()
    assert "After 300 steps" in said(form)


def test_a_function_that_fails_leaves_ppo_and_spo(shown):
    def broken(ratio, advantage):
        return ratio.nosuch

    bench.live(broken)
    form, choice, field, _ = live(shown)
    assert field.value == "broken(r, A)" and choice.value == "your own"
    assert "AttributeError" in said(form) and "still show PPO and SPO alone" in said(form)
    assert picture(shown)[1].startswith("Only PPO and SPO") and 'data-bench-row="yours"' not in said(form)
    field.value = "r * A"
    assert picture(shown)[1].startswith("Your objective r * A beside")


def test_in_a_shell_the_numbers_are_printed(capsys):
    bench.live()
    printed = capsys.readouterr().out
    assert "needs a kernel" in printed and "PPO: mean |r - 1| 0.29" in printed and "<" not in printed


@pytest.mark.parametrize("given", [3, torch.nn.ReLU, lambda r: r])
def test_what_is_no_objective_is_refused(given):
    with pytest.raises(ValueError, match=r"^expected .*(got|yours has) .*\."):
        bench.live(given)


def test_a_curve_off_the_scale_is_named_in_the_picture():
    figure, _ = bench.draw(measured("r * A"))
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert any("yours: to 1.5" in text and "off the scale" in text for text in texts)
    assert {"PPO", "SPO"} <= set(texts) and "yours" not in texts


def notes(line):
    """What each panel of the picture says of curves off the scale."""
    said = [[text.get_text() for text in axes.texts] for axes in bench.draw(measured(line))[0].axes]
    return [[text.replace("\n", " ") for text in texts if "off the scale" in text] for texts in said]


def test_every_panel_that_a_curve_leaves_says_so():
    found = notes("4*r*A")
    for where in ("1.6 to 6.4", "−6.4 to −1.6", "4", "−4"):
        assert [f"yours: {where}, off the scale"] in found
    assert [len(texts) for texts in found] == [1] * 5 and any(re.match(r"yours: to 1\.\d", said) for (said,) in found)
    assert notes(bench.PRESETS["SPO"]) == [[]] * 5


def test_a_column_has_as_many_digits_in_every_row():
    table = words(bench.readout(measured("4*r*A")))
    assert "share with |r − 1| > 1.05 ε" in table
    for form in (r"\d\.\d{3}", r"\d+\.\d\d", r"\d+%"):
        assert len(re.findall(rf"(?<![\d.]){form}(?![\d.%])", table)) >= 9, form
    assert bench._digits("deviation", -0.0001) == "0.000" and bench._digits("largest", 12345.0) == "1.23e+04"


def test_alt_of_an_objective_off_the_scale():
    alt = bench.draw(measured("r * A"))[1]
    assert "at r = 0.5 for A = -1 is: yours +1.00 and -1.00" in alt
