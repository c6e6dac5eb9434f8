"""The explorables of chapter 2: every stored frame is what the chapter's equations say, and the balls are balls."""

import functools
import itertools
import json
import re

import numpy as np
import pytest
import torch

from pocourse.lesson import explorable
from pocourse.lesson.explorable import frame
from pocourse.ratio_clipping import explorables, figures
from pocourse.ratio_clipping.objectives import clip_objective, spo_objective

SMALL = 5  # frames of the scatter in these tests


@functools.cache
def built(name):
    if name == "scatter":
        # Fewer steps than in the course: what is stored must equal what was run, however long it ran.
        return explorables.ratio_scatter(short_runs())
    return explorables.EXPLORABLES[name]()


@functools.cache
def short_runs():
    return {depth: figures.softmax_batch(depth, num_epochs=24, kept=SMALL) for depth in explorables.DEPTHS}


def some_frames(ex, count=12):
    """The default frame and a random sample of all others."""
    every = list(itertools.product(*(control.values for control in ex.controls)))
    chosen = np.random.default_rng(0).choice(len(every), size=min(count, len(every)), replace=False)
    frames = [tuple(control.default for control in ex.controls), *(every[i] for i in chosen)]
    return [{c.name: value for c, value in zip(ex.controls, values, strict=True)} for values in frames]


def assert_stored(panel, curve, xy, shown):
    """Stored x and y equal the computed ones to a 65534th of the panel's range."""
    for values, (low, high), stored in zip(xy, (panel.xlim, panel.ylim), shown[curve], strict=True):
        np.testing.assert_array_equal(np.isnan(stored), np.isnan(values))
        assert np.nanmax(np.abs(stored - values), initial=0) <= (high - low) / 65534, curve


# --- all three --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", explorables.EXPLORABLES)
def test_sizes_ids_and_pages(name):
    ex = built(name)
    assert ex.id == f"ratio_clipping.{name}"
    assert len(ex.data) <= explorable.BYTES
    assert json.loads(ex.data)["id"] == ex.id
    assert not re.search(r"https?:|file:", explorable.page(ex))


@pytest.mark.parametrize("name", ["objectives", "balls"])
def test_building_twice_gives_the_same_bytes(name):
    assert explorables.EXPLORABLES[name]().data == built(name).data


@pytest.mark.parametrize("name", explorables.EXPLORABLES)
def test_every_frame_is_told_with_its_numbers(name):
    ex = built(name)
    alts = {frame(ex, **values).alt for values in some_frames(ex, 8)}
    assert len(alts) == len({tuple(v.values()) for v in some_frames(ex, 8)})
    assert all(re.search(r"\d\.\d", alt) and "{" not in alt for alt in alts)


@pytest.mark.parametrize("name", explorables.EXPLORABLES)
def test_the_picture_is_the_stored_default_frame(name):
    ex = built(name)
    shown = frame(ex)
    for axes, panel, arrays in zip(explorable.draw(ex).axes, ex.panels, shown.panels, strict=True):
        lines = [c.name for c in panel.curves if c.kind == "line"]
        marks = sum(mark.kind != "text" for mark in panel.marks)
        drawn = axes.lines[marks:]
        assert len(drawn) == len(lines)
        for curve, line in zip(lines, drawn, strict=True):
            np.testing.assert_array_equal(np.array(line.get_data()), np.array(arrays[curve]))
        dots = [c.name for c in panel.curves if c.kind == "points"]
        assert len(axes.collections) == len(dots)
        for curve, cloud in zip(dots, axes.collections, strict=True):
            np.testing.assert_array_equal(np.asarray(cloud.get_offsets()).T, np.array(arrays[curve]))


@pytest.mark.parametrize("name", explorables.EXPLORABLES)
def test_no_number_is_minus_zero(name):
    ex = built(name)
    said = [str(text) for readout in ex.readouts for text in readout.texts.ravel()]
    said += [text for control in ex.controls for text in control.texts]
    assert [text for text in said if re.search(r"[-−]0(\.0*)?(?![\d.])", text)] == []


def test_a_minus_zero_is_said_as_zero():
    """A bound that the price eats up whole: a sum that is zero but for rounding, from below."""
    found = explorables.balls_frame(radius=0.4, policy="undecided", price=1.8)
    assert -1e-12 < found["sure"] <= 0
    assert frame(built("balls"), radius=0.4, policy="undecided", price=1.8).readouts["sure"] == "0.00"


@pytest.mark.parametrize("name", explorables.EXPLORABLES)
def test_no_marker_is_cut_by_the_edge_of_its_panel(name):
    """On a phone a panel is about 280 by 200 pixels."""
    for panel in built(name).panels:
        for curve in panel.curves if not panel.bare else ():
            if curve.kind == "points":
                for values, limits, pixels in ((curve.x, panel.xlim, 280), (curve.y, panel.ylim, 200)):
                    room = min(np.nanmin(values) - limits[0], limits[1] - np.nanmax(values))
                    assert room / (limits[1] - limits[0]) * pixels >= curve.look["size"], curve.name


def test_the_line_at_the_radius_is_drawn_whole():
    panel = built("balls").panels[1]
    (now,) = (curve for curve in panel.curves if curve.name == "now")
    assert panel.xlim[0] < now.x.min() and now.x.max() < panel.xlim[1] - 0.005


# --- objectives -------------------------------------------------------------------------------------


def test_objectives_are_stored_as_computed():
    ex, ratio = built("objectives"), explorables.ratio_grid()
    for values in some_frames(ex):
        found, shown = explorables.objectives_frame(**values), frame(ex, **values)
        for panel, key, curves in zip(ex.panels, ("f", "df"), shown.panels, strict=True):
            for name in figures.OBJECTIVES:
                assert_stored(panel, name, (ratio, found[f"{key} {name}"]), curves)
            x, _ = curves["range"]
            assert [x.min(), x.max()] == pytest.approx([1 - values["eps"], 1 + values["eps"]], abs=1e-4)


@pytest.mark.parametrize("eps", explorables.EDGES)
@pytest.mark.parametrize("sign", [1, -1])
def test_objectives_hold_the_chapters_equations(eps, sign):
    r = explorables.ratio_grid()
    found = explorables.objectives_frame(sign=sign, size=1.5, eps=eps)
    a = sign * 1.5
    beyond = r > 1 + eps if sign > 0 else r < 1 - eps
    np.testing.assert_allclose(found["df unclipped"], a)
    np.testing.assert_allclose(found["df PPO"], np.where(beyond, 0, a))
    np.testing.assert_allclose(found["df PPO-RB"], np.where(beyond, -0.3 * a, a))
    np.testing.assert_allclose(found["df SPO"], a - abs(a) / eps * (r - 1), atol=1e-12)
    np.testing.assert_allclose(found["df simple"], -2 * (r - 1 - eps * sign), atol=1e-12)
    for name, objective in (
        ("PPO", functools.partial(clip_objective, clip_eps=eps)),
        ("SPO", functools.partial(spo_objective, eps=eps)),
    ):
        value = objective(torch.tensor(r), torch.full((len(r),), a, dtype=torch.float64)).numpy()
        np.testing.assert_allclose(found[f"f {name}"], value - a, atol=1e-12)


@pytest.mark.parametrize("eps", explorables.EDGES)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_jump_is_a_vertical_line(eps, sign):
    x, y = frame(built("objectives"), sign=sign, size=1.0, eps=eps).panels[1]["PPO"]
    jumps = np.flatnonzero(np.abs(np.diff(y)) > 0.5)
    assert len(jumps) == 1
    assert x[jumps[0] + 1] - x[jumps[0]] <= 2e-5 and x[jumps[0]] == pytest.approx(1 + sign * eps, abs=2e-5)


def test_every_slope_that_is_told_is_drawn():
    panel = built("objectives").panels[1]
    told = [readout for readout in built("objectives").readouts if readout.name.startswith("far_")]
    assert len(told) == 5
    for readout in told:
        values = [float(text.replace("−", "-")) for text in readout.texts.ravel()]
        assert panel.ylim[0] < min(values) <= max(values) < panel.ylim[1], readout.name


def test_the_alternative_text_of_the_objectives_is_a_sentence():
    alt = frame(built("objectives"), sign=-1, size=1.5).alt
    assert "for A < 0 (make it rarer), |A| = 1.5, ε = 0.20." in alt and "at r = 0.6 the derivative is" in alt


def test_the_slopes_that_are_told():
    assert frame(built("objectives"), sign=-1, size=1.0, eps=0.2).readouts == {
        "where": "r = 0.6",
        "far_unclipped": "−1.00",
        "far_ppo": "0",
        "far_ppo_rb": "+0.30",
        "far_spo": "+1.00",
        "far_simple": "+0.40",
        "edge": "0.80",
    }


# --- the scatter ------------------------------------------------------------------------------------


def test_ratios_are_stored_as_they_were_run():
    ex, runs = built("scatter"), short_runs()
    for values in some_frames(ex):
        run = runs[values["depth"]]
        ratio = run.ratio[list(run.epochs).index(values["step"]), run.methods.index(values["objective"])]
        good = run.advantage[0] > 0
        shown = frame(ex, **values)
        for name, mask in (("A > 0", good), ("A < 0", ~good)):
            assert_stored(ex.panels[0], name, (run.advantage[0, mask], ratio[0, mask]), shown.panels[0])
        assert shown.readouts["deviation"] == f"{np.abs(ratio[0] - 1).mean():.2f}"
        assert shown.readouts["outside"] == f"{(np.abs(ratio[0] - 1) > 1.05 * 0.2).mean():.0%}"
        middle = np.sort(np.abs(ratio - 1).mean(-1))[2:6].mean()
        assert float(shown.readouts["deviation_all"]) == pytest.approx(middle, abs=0.0051)
        x, y = shown.panels[1]["here"]
        assert (x[0], y[0]) == pytest.approx((values["step"], middle), abs=1e-3)


def test_all_ratios_are_within_the_panel():
    panel = built("scatter").panels[0]
    for curve in panel.curves:
        assert panel.ylim[0] <= curve.y.min() <= curve.y.max() <= panel.ylim[1]
        assert panel.xlim[0] <= curve.x.min() <= curve.x.max() <= panel.xlim[1]
    assert sum(curve.y.shape[-1] for curve in panel.curves) == 256


def test_the_first_step_has_ratios_of_one():
    shown = frame(built("scatter"), step=0, depth=1)
    assert np.abs(shown.panels[0]["A > 0"][1] - 1).max() < 1e-4 and shown.readouts["outside"] == "0%"


def test_lines_are_over_eight_seeds_and_meet_the_marker():
    ex, runs = built("scatter"), short_runs()
    assert runs[0].deviation.shape[-1] == 8 and "one seed" in ex.note and "8 seeds" in ex.note
    curves = frame(ex, step=24, depth=3, objective="SPO").panels[1]
    assert np.array(curves["SPO"])[:, -1] == pytest.approx(np.array(curves["here"])[:, 0], abs=1e-3)


@pytest.mark.slow
def test_the_scatter_of_the_course():
    ex = explorables.ratio_scatter()
    assert ex.grid == (16, 3, 2) and len(ex.data) <= explorable.BYTES
    assert len(frame(ex).alt) > 100
    # What the text says of it, at the end and for 8 seeds.
    for depth, far in ((0, 0.19), (1, 0.30), (3, 0.40)):
        assert float(frame(ex, depth=depth).readouts["deviation_all"]) == pytest.approx(far, abs=0.04)
    assert float(frame(ex, depth=3, objective="SPO").readouts["deviation_all"]) == pytest.approx(0.2, abs=0.01)


# --- the balls --------------------------------------------------------------------------------------

OLD = {name: np.array(policy) for name, policy in explorables.POLICIES.items()}


def to_policy(points):
    """Points of the triangle back to policies."""
    corners = explorables.CORNERS
    return np.linalg.solve(
        np.vstack([corners.T, np.ones(3)]), np.vstack([np.asarray(points).T, np.ones(len(points))])
    ).T


def mesh(count=40):
    """Policies all over the triangle, its sides included."""
    return np.array([(i, j, count - i - j) for i in range(count + 1) for j in range(count + 1 - i)]) / count


def kl(p, q):
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(p > 0, p * np.log(p / q), 0).sum(-1)


FAR = {
    "TV": lambda old, new: np.abs(new - old).sum(-1) / 2,
    "KL(old‖new)": lambda old, new: kl(old, new),
    "KL(new‖old)": lambda old, new: kl(new, old),
}


def test_balls_are_stored_as_computed():
    ex = built("balls")
    for values in some_frames(ex):
        found, shown = explorables.balls_frame(**values), frame(ex, **values).panels[0]
        for name, (x, y) in shown.items():
            if name != "triangle":
                assert_stored(ex.panels[0], name, found[name].T, {name: (x, y)})


@pytest.mark.parametrize("policy", OLD)
@pytest.mark.parametrize("ball", explorables.BALLS)
def test_the_edge_of_a_ball_is_at_its_radius_or_at_the_triangles(ball, policy):
    for radius in explorables.RADII:
        edge = explorables.balls_frame(radius=radius, policy=policy, price=0.0)[ball]
        new = np.clip(to_policy(edge), 0, None)
        far = FAR[ball](OLD[policy], new / new.sum(-1, keepdims=True))
        at = radius if ball == "TV" else 2 * radius**2
        assert (far <= at + 1e-9).all()
        on_side = new.min(-1) < 1e-9
        assert (on_side | (np.abs(far - at) < 1e-8)).all()


@pytest.mark.parametrize("policy", OLD)
def test_the_kl_balls_lie_in_the_hexagon(policy):
    for radius, ball in itertools.product(explorables.RADII, explorables.BALLS[1:]):
        new = to_policy(explorables.balls_frame(radius=radius, policy=policy, price=0.0)[ball])
        assert FAR["TV"](OLD[policy], new).max() <= radius + 1e-9


def test_larger_kl_balls_would_not():
    # Half of this policy's mass lies on each side: there Pinsker's inequality is nearly an equality.
    old = OLD["leaning to the worst"]
    for ball in explorables.BALLS[1:]:
        assert FAR["TV"](old, explorables.kl_ball(ball, old, 0.1 * np.sqrt(1.1))).max() > 0.1


@pytest.mark.parametrize("policy", OLD)
@pytest.mark.parametrize("ball", explorables.BALLS)
def test_nothing_in_a_ball_is_better_than_its_best(ball, policy):
    advantage = explorables.reward_advantage(policy)
    assert OLD[policy] @ advantage == pytest.approx(0, abs=1e-12)
    new = mesh(80)
    for radius in (0.1, 0.4):
        best = explorables.best_in_ball(ball, OLD[policy], advantage, radius)
        at = radius if ball == "TV" else 2 * radius**2
        assert FAR[ball](OLD[policy], best) <= at + 1e-6
        inside = new[FAR[ball](OLD[policy], new) <= at]
        assert len(inside) > 10
        assert (inside @ advantage).max() <= best @ advantage + 1e-9
        # And the edge that is drawn comes as near to it as its points lie apart.
        edge = explorables.balls_frame(radius=radius, policy=policy, price=0.0)[ball]
        assert (to_policy(edge) @ advantage).max() == pytest.approx(best @ advantage, abs=0.01)


def inside_convex(corners, points):
    """Whether points of the plane lie in a convex polygon."""
    a, b = corners, np.roll(corners, -1, axis=0)
    side, way = b - a, points[:, None] - a
    turn = side[:, 0] * way[..., 1] - side[:, 1] * way[..., 0]
    return (turn >= -1e-9).all(1) | (turn <= 1e-9).all(1)


@pytest.mark.parametrize("price", explorables.PRICES)
@pytest.mark.parametrize("policy", OLD)
def test_level_sets_of_the_bound(policy, price):
    advantage, new = explorables.reward_advantage(policy), mesh()
    bound = new @ advantage - price * FAR["TV"](OLD[policy], new)
    np.testing.assert_allclose(explorables.lower_bound(OLD[policy], advantage, new, price), bound, atol=1e-12)
    for level in (*explorables.LEVELS, 0.0):
        corners = explorables.sure_at_least(OLD[policy], advantage, price, level)
        clear = np.abs(bound - level) > 1e-9
        if len(np.unique(corners.round(9), axis=0)) < 3:
            assert not (bound[clear] > level).any()
            continue
        inside = inside_convex(explorables.on_triangle(corners), explorables.on_triangle(new))
        np.testing.assert_array_equal(inside[clear], (bound > level)[clear])
    best = explorables.best_of_bound(OLD[policy], advantage, price)
    assert best.sum() == pytest.approx(1)
    assert explorables.lower_bound(OLD[policy], advantage, best, price) >= bound.max() - 1e-12


def test_level_lines_leave_out_the_triangles_sides():
    found = explorables.balls_frame(radius=0.2, policy="undecided", price=0.9)
    drawn = 0
    for level in explorables.LEVELS:
        line = found[f"level {level:g}"]
        for a, b in itertools.pairwise(line):
            if not np.isnan([a, b]).any():
                middle = to_policy([(a + b) / 2])[0]
                assert middle.min() > 1e-9
                value = middle @ explorables.reward_advantage("undecided") - 0.9 * FAR["TV"](OLD["undecided"], middle)
                assert value == pytest.approx(level, abs=1e-9)
                drawn += 1
    assert drawn >= 8


def drawn_gain(ball, policy, radius):
    """The right panel's curve at a radius, read between its points as the eye reads it."""
    return np.interp(radius, *frame(built("balls"), policy=policy).panels[1][ball])


def test_the_gain_in_the_tv_ball_has_its_kink():
    """From one third on the worst action is empty, and the second gives, at 1 - 0.6 in place of 1 + 0.6."""
    for radius, gain in ((0.1, 0.16), (1 / 3, 1.6 / 3), (0.36, 1.6 / 3 + 0.4 * (0.36 - 1 / 3)), (0.4, 0.56)):
        assert drawn_gain("TV", "undecided", radius) == pytest.approx(gain, abs=2e-5)


@pytest.mark.parametrize("policy", OLD)
@pytest.mark.parametrize("ball", explorables.BALLS)
def test_gains_between_the_radii_of_the_slider(ball, policy):
    advantage = explorables.reward_advantage(policy)
    for radius in (0.0125, 0.07, 0.113, 0.2125, 0.32, 0.334, 0.3875):
        best = explorables.best_in_ball(ball, OLD[policy], advantage, radius) @ advantage
        assert drawn_gain(ball, policy, radius) == pytest.approx(best, abs=1e-3)


def test_gains_are_those_of_the_best_policies():
    ex = built("balls")
    for values in some_frames(ex, 6):
        found, shown = explorables.balls_frame(**values), frame(ex, **values)
        assert "A second panel draws the best gain" in shown.alt and f"a line at {values['radius']:.2f}" in shown.alt
        assert [shown.readouts[f"gain_{i}"] for i in range(3)] == [f"{gain:.3f}" for gain in found["gains"]]
        assert found["gains"][0] >= found["gains"][1:].max()
        assert shown.readouts["delta"] == f"{2 * values['radius'] ** 2:.3f}"
        for i, ball in enumerate(explorables.BALLS):
            x, y = shown.panels[1][ball]
            at = np.abs(x - values["radius"]).argmin()
            assert y[at] == pytest.approx(found["gains"][i], abs=1e-4)
