"""The explorables and figures of chapter 4: every stored frame is what sums and integrals written out by hand say."""

import functools
import itertools
import json
import math
import re

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from pocourse.lesson import explorable
from pocourse.lesson.explorable import frame
from pocourse.zeroth_order import explorables, figures, truth

F64 = torch.float64


@functools.cache
def built(name):
    return explorables.EXPLORABLES[name]()


def some_frames(ex, count=12):
    """The default frame and a random sample of all others."""
    every = list(itertools.product(*(control.values for control in ex.controls)))
    chosen = np.random.default_rng(0).choice(len(every), size=min(count, len(every)), replace=False)
    frames = [tuple(control.default for control in ex.controls), *(every[i] for i in chosen)]
    return [{c.name: value for c, value in zip(ex.controls, values, strict=True)} for values in frames]


def said(text):
    """A readout as a number."""
    text, _, word = text.replace("−", "-").replace(",", "").partition(" ")
    return float(text) * {"": 1, "million": 1e6, "billion": 1e9}[word]


# --- all three --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", explorables.EXPLORABLES)
def test_sizes_ids_and_pages(name):
    ex = built(name)
    assert ex.id == f"zeroth_order.{name}"
    assert len(ex.data) <= 90_000
    assert json.loads(ex.data)["id"] == ex.id
    assert not re.search(r"https?:|file:", explorable.page(ex))
    assert all(len(panel.title) <= 28 for panel in ex.panels)


def test_together_they_leave_room_in_the_notebook():
    assert sum(len(built(name).data) for name in explorables.EXPLORABLES) <= 220_000


@pytest.mark.parametrize("name", explorables.EXPLORABLES)
def test_building_twice_gives_the_same_bytes(name):
    first = built(name).data
    explorables.reuse_run.cache_clear()
    explorables.reuse_cosines.cache_clear()
    assert explorables.EXPLORABLES[name]().data == first


@pytest.mark.parametrize("name", explorables.EXPLORABLES)
def test_every_frame_is_told_with_its_numbers(name):
    ex = built(name)
    frames = some_frames(ex, 8)
    alts = [frame(ex, **values).alt for values in frames]
    assert len(set(alts)) == len({tuple(values.values()) for values in frames})
    for alt, values in zip(alts, frames, strict=True):
        assert re.search(r"\d\.\d", alt) and "{" not in alt and "nan" not in alt
        assert all(control.texts[control.values.index(values[control.name])] in alt for control in ex.controls)


@pytest.mark.parametrize("name", explorables.EXPLORABLES)
def test_the_picture_is_the_stored_default_frame(name):
    ex = built(name)
    shown = frame(ex)
    for axes, panel, arrays in zip(explorable.draw(ex).axes, ex.panels, shown.panels, strict=True):
        kinds = {kind: [c.name for c in panel.curves if c.kind == kind] for kind in explorable.KINDS}
        marks = sum(mark.kind != "text" for mark in panel.marks)
        assert [len(axes.lines) - marks, len(axes.collections), len(axes.patches)] == [
            len(kinds[kind]) for kind in ("line", "points", "area")
        ]
        for curve, line in zip(kinds["line"], axes.lines[marks:], strict=True):
            np.testing.assert_array_equal(np.array(line.get_data()), np.array(arrays[curve]))
        for curve, cloud in zip(kinds["points"], axes.collections, strict=True):
            seen = np.where(np.isfinite(arrays[curve]).all(0), arrays[curve], np.nan)
            np.testing.assert_array_equal(np.ma.filled(cloud.get_offsets(), np.nan).T, seen)
        for curve, patch in zip(kinds["area"], axes.patches, strict=True):
            np.testing.assert_array_equal(patch.get_xy()[:-1].T, arrays[curve])


# --- what smoothing makes of a function -------------------------------------------------------------

BY_HAND = {
    "step": (lambda x: float(x > 0), (0.0,)),
    "|x|": (abs, (0.0,)),
    "x³/8": (lambda x: x**3 / 8, ()),
    "wiggly sine": (lambda x: math.sin(x) + math.sin(7 * x) / 4, ()),
    "staircase": (lambda x: min(math.floor(2 * abs(x)), 4) / 2, tuple(np.arange(-4, 5) / 2)),
}


def density(u):
    return math.exp(-(u**2) / 2) / math.sqrt(2 * math.pi)


def smoothed_by_hand(name, x, sigma):
    """E f(x + sigma u) and E f(x + sigma u) u / sigma, by an adaptive rule between the kinks."""
    f, kinks = BY_HAND[name]
    ends = sorted({-10.0, 10.0, *(z for k in kinks if abs(z := (k - x) / sigma) < 10)})
    return [
        sum(
            integrate.quad(lambda u, power: f(x + sigma * u) * u**power * density(u), a, b, args=(power,), limit=400)[0]
            for a, b in itertools.pairwise(ends)
        )
        / sigma**power
        for power in (0, 1)
    ]


@pytest.mark.parametrize("function", explorables.FUNCTIONS)
@pytest.mark.parametrize(("sigma", "theta"), [(0.1, -0.75), (0.5, 1.0), (2.0, 0.0)])
def test_the_smoothed_function_is_the_integral(function, sigma, theta):
    found = explorables.smoothing_frame(function=function, sigma=sigma, theta=theta)
    assert found["here"][2:].tolist() == pytest.approx(smoothed_by_hand(function, theta, sigma), abs=1e-7)
    for i in (3, 41, 77):
        x = explorables.smooth_grid()[i]
        assert [found["F"][i], found["dF"][i]] == pytest.approx(smoothed_by_hand(function, x, sigma), abs=1e-7)


@pytest.mark.parametrize("function", explorables.FUNCTIONS)
def test_the_function_is_drawn_with_its_jumps_and_kinks(function):
    f, kinks = BY_HAND[function]
    x, h = explorables.sharp_grid(), 1e-6
    found = explorables.smoothing_frame(function=function, sigma=0.5, theta=0.0)
    jumps = [k for k in kinks if abs(f(k + 1e-7) - f(k - 1e-7)) > 0.1]
    at_jump = np.isin(x, jumps)
    at_kink = np.isin(x, jumps if function == "staircase" else kinks)
    assert at_jump.sum() == len(jumps) and np.isnan(found["f"]).tolist() == at_jump.tolist()
    assert np.isnan(found["df"]).tolist() == at_kink.tolist()
    np.testing.assert_allclose(found["f"][~at_jump], [f(y) for y in x[~at_jump]], atol=1e-8)
    smooth = ~np.array([any(abs(y - k) < 1e-5 for k in kinks) for y in x])
    slope = [(f(y + h) - f(y - h)) / (2 * h) for y in x[smooth]]
    np.testing.assert_allclose(found["df"][smooth], slope, atol=1e-6)
    for k in jumps:  # both sides of a jump are drawn, nothing between them
        assert np.isin([k - explorables.SIDE, k + explorables.SIDE], x).all()


def test_frames_of_smoothing_show_what_the_function_says():
    ex = built("smoothing")
    for values in some_frames(ex):
        found, shown = explorables.smoothing_frame(**values), frame(ex, **values)
        left, right = shown.panels
        for panel, limits, keys in ((left, explorables.VALUES, "f F"), (right, explorables.SLOPES, "df dF")):
            for key, x in zip(keys.split(), (explorables.sharp_grid(), explorables.smooth_grid()), strict=True):
                drawn = panel[key.replace("dF", "F′").replace("df", "f′")]
                inside = (found[key] >= limits[0]) & (found[key] <= limits[1])
                np.testing.assert_allclose(drawn[0], x, atol=1e-4)
                np.testing.assert_allclose(drawn[1][inside], found[key][inside], atol=2e-4)
        f, df, smooth, slope = found["here"]
        theta = values["theta"]
        for place, height in ((left["F, here"], smooth), (left["f, here"], f), (right["F′, here"], slope)):
            if np.isfinite(place[1][0]):
                assert (place[0][0], place[1][0]) == pytest.approx((theta, height), abs=2e-4)
        x, y = left["tangent"]
        if np.isfinite(y).all():
            assert (x.mean(), y.mean()) == pytest.approx((theta, smooth), abs=3e-4)
            assert np.ptp(y) == pytest.approx(slope * np.diff(x)[0] * np.sign(slope or 1), abs=1e-3)
            assert math.hypot(np.ptp(x), np.ptp(y)) == pytest.approx(2 * explorables.TANGENT, abs=1e-3)
        x, y = left["policy"]
        inside = slice(1, -1)
        z = (x - theta) / values["sigma"]
        np.testing.assert_allclose(y[inside], -1.5 + 0.55 * np.exp(-(z**2) / 2)[inside], atol=5e-3)
        assert [y[0], y[-1]] == pytest.approx([-1.5] * 2, abs=1e-4) and [x[0], x[-1]] == [x[1], x[-2]]
        readouts = shown.readouts
        assert (said(readouts["smoothed"]), said(readouts["smoothed_slope"])) == pytest.approx(
            (smooth, slope), abs=0.0051
        )
        assert readouts["value"] == ("jumps" if math.isnan(f) else f"{f:.2f}".replace("-", "−"))
        assert (readouts["slope"] == "none") == math.isnan(df)


def test_a_step_has_a_slope_only_when_it_is_smoothed():
    flat = explorables.smoothing_frame(function="step", sigma=0.5, theta=-0.75)["here"]
    assert flat[1] == 0 and flat[3] == pytest.approx(stats.norm.pdf(1.5) / 0.5)
    tilted = explorables.smoothing_frame(function="x³/8", sigma=1.0, theta=0.0)["here"]
    assert tilted[1] == 0 and tilted[3] == pytest.approx(3 / 8)


# --- how much the estimators scatter ----------------------------------------------------------------


def test_the_variances_are_the_bowls_in_units():
    for values in some_frames(built("variance"), 6):
        found = explorables.variance_frame(**values)
        d, q, noise, spread = values.values()
        for i in (0, 17, 30):
            sigma = math.sqrt(explorables.AXIS[i] / d)
            bowl = truth.bowl(d, sigma=sigma, queries=q, noise_std=noise)
            assert found["RLOO"][i] == pytest.approx(bowl.rloo * q / (d + 1))
            assert found["one-point"][i] == pytest.approx(bowl.one_point * q / (d + 1))
        here = truth.bowl(d, sigma=math.sqrt(spread / d), queries=q, noise_std=noise)
        for i, (name, key) in enumerate((("forward", "forward"), ("RLOO", "rloo"), ("antithetic", "antithetic"))):
            assert found[f"{name}, here"] == pytest.approx(getattr(here, key) * q / (d + 1))
            parts = sum(found[part][i] for part in explorables.PARTS)
            assert parts == pytest.approx(found[f"{name}, here"], rel=1e-10)
        assert (found["noise"] == 0).all() == (noise == 0)


def test_frames_of_the_variance_show_what_the_function_says():
    ex = built("variance")
    for values in some_frames(ex):
        found, (left, right) = explorables.variance_frame(**values), frame(ex, **values).panels
        for name in explorables.METHODS:
            inside = np.log10(found[name]) <= explorables.POWERS[1]
            np.testing.assert_allclose(left[name][0], np.log10(explorables.AXIS), atol=1e-3)
            np.testing.assert_allclose(left[name][1][inside], np.log10(found[name])[inside], atol=1e-3)
            x, y = (float(v[0]) for v in left[f"{name}, here"])
            assert x == pytest.approx(math.log10(values["spread"]), abs=1e-3)
            if math.log10(found[f"{name}, here"]) <= explorables.POWERS[1]:
                assert y == pytest.approx(math.log10(found[f"{name}, here"]), abs=1e-3)
        for i, name in enumerate(explorables.BARS):
            total = 0.0
            for part in explorables.PARTS:
                total, below = total + found[part][i], total
                cut = [min(h, 1.05 * explorables.TALL) for h in (below, total, total, below)]
                x, y = right[f"{part}, {name}"]
                assert y.tolist() == pytest.approx(cut, abs=1e-3)
                assert x.tolist() == pytest.approx([i - 0.3, i - 0.3, i + 0.3, i + 0.3], abs=1e-3)


def test_the_numbers_of_the_papers_point_are_read_off():
    shown = frame(built("variance"), d=10_000)
    bowl = truth.bowl(10_000, sigma=0.05)
    for name in ("forward", "rloo", "antithetic", "one_point"):
        assert said(shown.readouts[name]) == pytest.approx(getattr(bowl, name), rel=5e-3)
    assert said(shown.readouts["forward"]) / said(shown.readouts["rloo"]) == pytest.approx(7.24, rel=0.01)
    for key, method in (("crossing", "rloo"), ("forward_crossing", "forward")):
        assert said(shown.readouts[key]) == pytest.approx(truth.crossing(10_000, method=method), rel=5e-3)
    assert frame(built("variance"), noise=2.0).readouts["forward_crossing"] == "0"


def test_in_units_many_dimensions_are_alike():
    """For d = 1,000 and d = 10,000 forward and antithetic are functions of sigma^2 d alone, nearly."""
    one, other = (explorables.variance_frame(d=d, queries=10, noise=0.0, spread=25.0) for d in (1000, 10_000))
    for name in ("forward", "antithetic"):
        np.testing.assert_allclose(one[name], other[name], rtol=0.01)


def test_numbers_in_words():
    found = explorables._short(np.array([0.8, 113.4, 99.96, 12345.0, 999_600.0, 1.05e6, 2.5e10]))
    assert found.tolist() == ["0.8", "113", "100", "12,300", "1 million", "1.05 million", "25 billion"]


# --- old queries ------------------------------------------------------------------------------------


@functools.cache
def run_by_hand(history, stride):
    """The drawn run with the estimator written out, [iteration, ...]: theta, points, kept, fresh."""
    generator = torch.Generator().manual_seed(3)
    curvature, theta = np.array([0.5, 4.0]), np.tile([-2.4, 1.3], (explorables.RUNS, 1))
    seen, rows = [], []
    for _ in explorables.ITERATIONS:
        u = torch.randn(4, explorables.RUNS, 2, generator=generator, dtype=F64).numpy()
        points = theta + 0.3 * u
        seen.append((u, (curvature * points**2).sum(-1) / 2))
        estimates = []
        for last in (seen[-history:], seen[-1:]):
            u_all, y = (np.concatenate([pair[i] for pair in last]) for i in (0, 1))
            weight = (y - y.mean(0)) / (len(y) - 1) / 0.3
            estimates.append((weight[..., None] * u_all).sum(0))
        rows.append((theta, points, *estimates))
        theta = theta - stride * estimates[0]
    return [np.stack(x) for x in zip(*rows, strict=True)]


def cosine(one, other):
    return (one * other).sum(-1) / np.linalg.norm(one, axis=-1) / np.linalg.norm(other, axis=-1)


@pytest.mark.parametrize(("history", "stride"), [(1, 0.1), (6, 0.1), (4, 0.03)])
def test_the_run_is_the_estimator_written_out(history, stride):
    theta, points, kept, fresh = run_by_hand(history, stride)
    found, slope = explorables.reuse_run(history, stride), np.array([0.5, 4.0]) * theta
    np.testing.assert_allclose(found.theta, theta, atol=1e-9)
    np.testing.assert_allclose(found.points, points[:, :, 0], atol=1e-9)
    np.testing.assert_allclose(found.kept, kept, atol=1e-8)
    np.testing.assert_allclose(found.fresh, fresh, atol=1e-8)
    np.testing.assert_allclose(found.truth, slope, atol=1e-9)
    np.testing.assert_allclose(found.value, (np.array([0.25, 2.0]) * theta**2).sum(-1), atol=1e-9)
    for t in (0, 3, 12):
        np.testing.assert_allclose(found.aim[t], slope[max(0, t - history + 1) : t + 1].mean(0), atol=1e-9)


def test_frames_of_the_run_show_what_was_asked():
    ex = built("reuse")
    for values in some_frames(ex, 8):
        t, history, stride = values["iteration"] - 1, values["history"], values["stride"]
        theta, points, kept, fresh = run_by_hand(history, stride)
        slope, first = np.array([0.5, 4.0]) * theta, max(0, t - history + 1)
        plane, cosines = frame(ex, **values).panels
        readouts = frame(ex, **values).readouts
        drawn = {name: np.stack(xy, -1) for name, xy in plane.items()}
        here = theta[t, 0]
        np.testing.assert_allclose(drawn["theta"][0], here, atol=1e-3)
        np.testing.assert_allclose(drawn["asked"], points[t, :, 0], atol=1e-3)
        np.testing.assert_allclose(drawn["path"], theta[:, 0], atol=1e-3)
        for name, expected in (("kept", points[first:t, :, 0].reshape(-1, 2)), ("before", theta[first:t, 0])):
            shown = drawn[name][np.isfinite(drawn[name]).all(-1)]
            np.testing.assert_allclose(shown, expected, atol=1e-3)
        for name, gradient in (("truth", slope), ("with memory", kept), ("without", fresh)):
            base, along = drawn[name][[0, 2]].mean(0), drawn[name][1] - here
            np.testing.assert_allclose(base, here, atol=1e-3)
            assert np.linalg.norm(along) == pytest.approx(explorables.NEEDLE, abs=1e-3)
            assert cosine(along, -gradient[t, 0]) == pytest.approx(1, abs=1e-5)
        aim = np.stack([slope[max(0, s - history + 1) : s + 1].mean(0) for s in range(len(theta))])
        assert cosine(drawn["aim"][1] - drawn["aim"][0], -aim[t, 0]) == pytest.approx(1, abs=1e-5)
        for name, key, estimate in (
            ("with memory", "kept", kept), ("without", "fresh", fresh), ("aim", "aim", aim),
        ):  # fmt: skip
            each = cosine(estimate, slope)
            np.testing.assert_allclose(cosines[name][1], each.mean(1), atol=1e-4)
            assert float(cosines[f"{name}, here"][1][0]) == pytest.approx(each[t].mean(), abs=1e-4)
            assert said(readouts[f"mean_{key}"]) == pytest.approx(each[t].mean(), abs=0.0051)
            if key != "aim":
                assert said(readouts[f"run_{key}"]) == pytest.approx(each[t, 0], abs=0.0051)
        assert said(readouts["value"]) == pytest.approx(np.median((slope * theta / 2).sum(-1)[t]), abs=0.0051)
        left = math.exp(-((here - theta[first, 0]) ** 2).sum() / 0.09)
        text = readouts["ess"].removeprefix("under ").removesuffix("%")
        assert float(text) / 100 == pytest.approx(left, rel=0.051, abs=0.001)


def test_without_history_there_is_nothing_to_remember():
    found = explorables.reuse_frame(iteration=9, history=1, stride=0.06)
    np.testing.assert_allclose(found["with memory"], found["without"], atol=1e-9)
    assert found["ess"] == 1 and np.isnan(found["kept"]).all() and found["cos aim"] == pytest.approx(1)


def test_all_settings_meet_the_same_directions():
    first = [explorables.reuse_run(n, s).points[0] for n in explorables.LENGTHS for s in explorables.STRIDES]
    for points in first[1:]:
        np.testing.assert_array_equal(points, first[0])


def test_small_steps_gain_direction_and_large_ones_lag():
    last = slice(8, None)
    gain = {}
    for stride in explorables.STRIDES:
        run = explorables.reuse_run(6, stride)
        kept, fresh = (cosine(x, run.truth)[last].mean(0) for x in (run.kept, run.fresh))
        gain[stride] = (kept - fresh).mean(), 4 * (kept - fresh).std() / math.sqrt(explorables.RUNS)
    assert gain[0.03][0] > gain[0.03][1] and gain[0.1][0] < -gain[0.1][1]


def test_the_rings_are_levels_of_the_bowl():
    plane = frame(built("reuse")).panels[0]
    for level in explorables.CONTOURS:
        x, y = plane[f"level {level:g}"]
        there = np.isfinite(x)
        assert there.sum() > 20
        np.testing.assert_allclose(x[there] ** 2 / 4 + 2 * y[there] ** 2, level, atol=5e-3)


# --- the figures that do not move -------------------------------------------------------------------


def test_methods_are_told_apart_by_colour_and_by_dash():
    looks = {name: figures.LINE_OF[name] for name in figures.LINE_OF if name != "forward"}
    assert figures.LINE_OF["forward"] == figures.LINE_OF["vanilla"]
    assert set(looks) == {"vanilla", "history average", "RLOO", "antithetic", "ZoAR", "one-point", "ranks"}
    for key in ("color", "linestyle"):
        assert len({str(look[key]) for look in looks.values()}) == len(looks)


@functools.cache
def law():
    return figures.cosine_law(dim=60, queries=12, sigmas=(0.01, 0.6458), repeats=1200)


def test_measured_cosines_are_the_laws_and_what_the_variances_say():
    """At sigma^2 d = 25 the line is an approximation for all but the pairs, good to a few per cent."""
    result = law()
    assert result.names == ("forward", "RLOO", "antithetic", "ranks") and result.repeats == 1200
    assert result.law[:3].tolist() == pytest.approx([11 / 70, 11 / 70, 6 / 65])
    assert result.law[3] == pytest.approx(33 / math.pi / 70)
    np.testing.assert_allclose(result.stated[:, 0], result.law, rtol=0.01)
    measured, error = result.squared, result.error
    assert (np.abs(measured[:3, 0] - result.law[:3]) < 4 * error[:3, 0]).all()
    assert abs(measured[2, 1] - result.law[2]) < 4 * error[2, 1]
    assert np.abs(measured[:, 1] / result.stated[:, -1] - 1).max() < 0.12
    assert measured[0, 1] < measured[0, 0] / 3 and measured[1, 1] > 0.6 * measured[1, 0]


def test_in_many_dimensions_ranks_cost_three_over_pi():
    """The same draws for both: the quotient of the means has a small error, by the delta method."""
    result = figures.cosine_law(dim=300, queries=60, sigmas=(0.01,), repeats=300)
    ratio = result.squared[3, 0] / result.squared[1, 0]
    error = result.error[3, 0] / result.squared[3, 0]  # larger than the quotient's, whose errors go together
    assert abs(ratio - 3 / math.pi) < 4 * error and ratio < 1


def test_the_cosine_law_is_drawn_and_told():
    result = law()
    figure, alt = figures.draw_cosine_law(result)
    (axes,) = figure.axes
    drawn = [line for line in axes.lines if len(line.get_xdata()) == len(result.grid)]
    for line, row in zip(drawn, result.stated, strict=True):
        np.testing.assert_array_equal(line.get_ydata(), row)
    for bars, row, error in zip(axes.containers, result.squared, result.error, strict=True):
        np.testing.assert_array_equal(bars.lines[0].get_ydata(), row)
        ends = np.array([segment[:, 1] for segment in bars.lines[2][0].get_segments()])
        np.testing.assert_allclose(ends, np.stack([row - 4 * error, row + 4 * error], -1))
    low, high = axes.get_ylim()
    assert low < result.squared.min() and result.squared.max() < high
    assert f"antithetic {result.squared[2, 0]:.4f}, {result.squared[2, 1]:.4f}" in alt


@functools.cache
def memories():
    return figures.memory(world="cubic", points=3, longest=10)


def test_the_memory_figure_is_what_the_truth_says():
    result = memories()
    assert result.histories == (1, 2, 4, 6) and result.speeds.tolist() == [0, 0.25, 0.5]
    for row, n in enumerate(result.histories):
        for at, speed in enumerate(result.speeds):
            one = truth.reuse("cubic", speed=float(speed), history=n)
            assert (result.bias[row, at], result.mse[row, at]) == (one.bias, one.mse)
        means = [truth.mean_of_steps("cubic", steps=int(t), history=n) for t in result.steps]
        assert result.mean_variance[row].tolist() == means
    assert result.steps.tolist() == list(range(1, 11))


def test_the_memory_figure_is_drawn_and_told():
    result = memories()
    figure, alt = figures.draw_memory(result)
    for axes, values in zip(figure.axes, (result.mse, result.mean_variance), strict=True):
        assert [line.get_ydata().tolist() for line in axes.lines] == values.tolist()
    assert f"N = 6: {result.mse[-1, 0]:.2f} at rest, {result.mse[-1, -1]:.2f} at 0.5 σ" in alt
