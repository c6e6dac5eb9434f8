"""The explorables and figures of chapter 3: every stored frame is what sums written out by hand say."""

import functools
import itertools
import json
import math
import re

import numpy as np
import pytest
import torch

from pocourse.lesson import explorable
from pocourse.lesson.explorable import frame
from pocourse.surrogate_variance import explorables, figures, truth

PROB, REWARD = (np.array(x) for x in (truth.PROB_OLD, truth.REWARD))


@functools.cache
def built(name):
    return explorables.EXPLORABLES[name]()


def some_frames(ex, count=12):
    """The default frame and a random sample of all others."""
    every = list(itertools.product(*(control.values for control in ex.controls)))
    chosen = np.random.default_rng(0).choice(len(every), size=min(count, len(every)), replace=False)
    frames = [tuple(control.default for control in ex.controls), *(every[i] for i in chosen)]
    return [{c.name: value for c, value in zip(ex.controls, values, strict=True)} for values in frames]


def curves_of(panel):
    return {curve.name: curve for curve in panel.curves}


# --- all three --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", explorables.EXPLORABLES)
def test_sizes_ids_and_pages(name):
    ex = built(name)
    assert ex.id == f"surrogate_variance.{name}"
    assert len(ex.data) <= explorable.BYTES
    assert json.loads(ex.data)["id"] == ex.id
    assert not re.search(r"https?:|file:", explorable.page(ex))
    assert all(len(panel.title) <= 28 for panel in ex.panels)


@pytest.mark.parametrize("name", explorables.EXPLORABLES)
def test_building_twice_gives_the_same_bytes(name):
    assert explorables.EXPLORABLES[name]().data == built(name).data


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
        lines = [c.name for c in panel.curves if c.kind == "line"]
        marks = sum(mark.kind != "text" for mark in panel.marks)
        drawn = axes.lines[marks:]
        assert len(drawn) == len(lines)
        for curve, line in zip(lines, drawn, strict=True):
            np.testing.assert_array_equal(np.array(line.get_data()), np.array(arrays[curve]))
        dots = [c.name for c in panel.curves if c.kind == "points"]
        assert len(axes.collections) == len(dots)
        for curve, cloud in zip(dots, axes.collections, strict=True):
            x, y = arrays[curve]
            seen = np.array([np.where(np.isfinite(y), x, np.nan), y])  # a dropped sample is masked on both axes
            np.testing.assert_array_equal(np.ma.filled(cloud.get_offsets(), np.nan).T, seen)


# --- what moving costs ------------------------------------------------------------------------------


def bandit_by_hand(rare):
    prob = np.append(PROB[:4] / 0.95 * (1 - rare), rare)
    return prob, REWARD - (prob * REWARD).sum()


def price_by_hand(t, direction, rare):
    """Sums over the five actions, one after the other."""
    prob, adv = bandit_by_hand(rare)
    if direction == figures.RANDOM:
        u = figures.direction_of(figures.with_rarest(rare), direction).numpy()
    else:
        u = adv if direction == figures.ALONG else -adv
    weight = [p * math.exp(t * x) for p, x in zip(prob, u, strict=True)]
    ratio = [w / sum(weight) / p for w, p in zip(weight, prob, strict=True)]
    found = {"far": sum(p * abs(r - 1) for p, r in zip(prob, ratio, strict=True))}
    found["chi"] = sum(p * (r - 1) ** 2 for p, r in zip(prob, ratio, strict=True))
    found["ess"] = 1 / (1 + found["chi"])
    x = [r * a for r, a in zip(ratio, adv, strict=True)]
    total = sum(p * y for p, y in zip(prob, x, strict=True))
    found["total"] = sum(p * (y - total) ** 2 for p, y in zip(prob, x, strict=True))
    for name, inside in (("A ≥ 0", lambda a: a >= 0), ("A < 0", lambda a: a < 0)):
        members = [i for i in range(5) if inside(adv[i])]
        whole = sum(prob[i] for i in members)
        mean = sum(prob[i] / whole * x[i] for i in members)
        found[f"variance {name}"] = sum(prob[i] / whole * (x[i] - mean) ** 2 for i in members)
        found[f"bound {name}"] = (whole / min(prob[i] for i in members) - 1) * mean**2
    return found


def test_the_price_is_the_sum_over_five_actions():
    ex = built("price")
    for values in some_frames(ex):
        by_hand, shown = price_by_hand(**values), frame(ex, **values)
        found = explorables.price_frame(**values)
        for name, value in by_hand.items():
            assert found[name] == pytest.approx(value, rel=1e-9, abs=1e-14), name
        assert shown.readouts["far"] == f"{by_hand['far']:.2f}"
        assert shown.readouts["ess"] == f"{by_hand['ess']:.2f}" and shown.readouts["chi"] == f"{by_hand['chi']:.2f}"
        for i, name in enumerate(explorables.CLASSES):
            variance, bound = by_hand[f"variance {name}"], by_hand[f"bound {name}"]
            said = re.fullmatch(r"(\S+) of (\S+) \((\S+)%\)", shown.readouts[f"class_{i}"])
            assert [float(x) for x in said.groups()] == pytest.approx([variance, bound, 100 * variance / bound], 0.06)
            for key, value in (("variance", variance), ("bound", bound)):
                x, y = shown.panels[0][f"{key}, {name}, here"]
                if value > 1e-6:
                    assert (x[0], y[0]) == pytest.approx((values["t"], math.log10(value)), abs=2e-4)
                else:
                    assert np.isnan(y[0])
        assert shown.panels[1]["ESS/n, here"][1][0] == pytest.approx(by_hand["ess"], abs=2e-4)


def test_markers_are_on_their_lines():
    ex = built("price")
    for values in some_frames(ex):
        at = explorables.STEPS.index(values["t"])
        for shown in frame(ex, **values).panels:
            for name in (name for name in shown if name.endswith(", here")):
                x, y = shown[name.removesuffix(", here")]
                assert np.array([x[at], y[at]]) == pytest.approx(np.array(shown[name])[:, 0], abs=1e-3, nan_ok=True)
            assert shown["now"][0] == pytest.approx([values["t"]] * 2, abs=1e-4)


def test_no_variance_is_above_its_bound_and_some_come_near():
    shares = []
    for direction, rare in itertools.product(figures.DIRECTIONS, explorables.RAREST):
        for t in explorables.STEPS:
            found = explorables.price_frame(t=t, direction=direction, rare=rare)
            shares += [found[f"variance {name}"] / found[f"bound {name}"] for name in explorables.CLASSES]
    assert max(shares) <= 1 and max(shares) > 0.7 and min(shares) < 0.01


@pytest.mark.parametrize("rare", explorables.RAREST)
def test_directions_have_mean_zero_and_the_advantages_spread(rare):
    prob, adv = bandit_by_hand(rare)
    bandit = figures.with_rarest(rare)
    np.testing.assert_allclose(bandit.prob_old.numpy(), prob)
    np.testing.assert_allclose(bandit.advantage.numpy(), adv, atol=1e-12)
    for name in figures.DIRECTIONS:
        u = figures.direction_of(bandit, name).numpy()
        assert prob @ u == pytest.approx(0, abs=1e-12) and prob @ u**2 == pytest.approx(prob @ adv**2)
    u = figures.direction_of(bandit, figures.RANDOM).numpy()
    assert abs(prob @ (u * adv)) < 0.5 * (prob @ adv**2)  # a direction of its own


# --- who is dropped ---------------------------------------------------------------------------------


def kept_by_hand(rule, ratio, advantage, strength):
    """One sample after the other; D-PPO by sorting each class."""
    n = len(ratio)
    if rule == "clip":
        eps = explorables.EDGES[strength]
        return [not (r > 1 + eps if a >= 0 else r < 1 - eps) for r, a in zip(ratio, advantage, strict=True)]
    if rule == "Sample Dropout":
        return [abs(r - 1) < explorables.DELTAS[strength] for r in ratio]
    keep = [True] * n
    if rule == "D-PPO":
        for positive in (True, False):
            members = sorted(
                (i for i in range(n) if (advantage[i] >= 0) == positive), key=lambda i: ratio[i] * advantage[i]
            )
            for i in members[: round(explorables.FRACTIONS[strength] * len(members))]:
                keep[i] = False
    return keep


def test_the_samples_are_kept_by_hand_as_they_are_drawn():
    ex = built("dropped")
    for values in some_frames(ex, 30):
        ratio, adv = (x.numpy() for x in explorables.gaussian_batch(values["moved"]))
        keep = np.array(kept_by_hand(values["rule"], ratio, adv, values["strength"]))
        assert keep.any()
        shown = frame(ex, **values)
        for name, members, seen in (
            ("A ≥ 0, kept", adv >= 0, keep[adv >= 0]),
            ("A < 0, kept", adv < 0, keep[adv < 0]),
            ("dropped", slice(None), ~keep),
        ):
            x, y = shown.panels[0][name]
            np.testing.assert_array_equal(np.isfinite(y), seen)
            np.testing.assert_allclose(x, adv[members], atol=2e-4)
            np.testing.assert_allclose(y[seen], ratio[members][seen], atol=2e-4)
        x = ratio * adv
        told = shown.readouts
        assert told["count"] == f"{keep.sum()} of 60"
        assert [told["mean"], told["all"]] == [f"{v:.2f}".replace("-", "−") for v in (x[keep].mean(), x.mean())]
        assert told["bias"] == f"{x[keep].mean() - x.mean():+.2f}".replace("-", "−")
        for i, member in enumerate((adv >= 0, adv < 0)):
            left = keep & member
            after = f"{x[left].var():.2f}" if left.any() else "none left"
            assert told[f"variance_{i}"] == f"{x[member].var():.2f} to {after}"
        at, height = (v[0] for v in shown.panels[1]["kept, here"])
        assert (at, height) == pytest.approx((values["strength"], x[keep].mean()), abs=2e-4)
        assert shown.panels[1]["mean of the kept"][1][values["strength"]] == pytest.approx(height, abs=1e-4)
        assert shown.panels[1]["mean of all"][1] == pytest.approx([x.mean()] * 9, abs=1e-4)


def test_what_the_rules_are_said_to_drop():
    said = {rule: explorables.said_rule(rule, 5) for rule in explorables.RULES}
    assert said == {
        "clip": "pushed beyond 1 ± 0.2",
        "Sample Dropout": "|r − 1| ≥ 0.25",
        "D-PPO": "smallest 25% of x per class",
        "keep all": "nothing",
    }


def test_strengths_grow_and_the_weakest_drops_nobody_from_a_class():
    for values, way in ((explorables.EDGES, -1), (explorables.DELTAS, -1), (explorables.FRACTIONS, 1)):
        assert len(values) == len(explorables.STRENGTHS) and (way * np.diff(values) > 0).all()
    for moved in explorables.SHIFTS:
        batch = explorables.gaussian_batch(moved)
        counts = {
            rule: [int(explorables.kept_by(rule, batch, s).sum()) for s in explorables.STRENGTHS]
            for rule in explorables.RULES
        }
        assert all((np.diff(count) <= 0).all() for count in counts.values())
        assert counts["D-PPO"][0] == 60 and set(counts["keep all"]) == {60}
        assert counts["clip"][-1] < 60 and 0 < counts["Sample Dropout"][-1] < 60


@pytest.mark.parametrize("moved", explorables.SHIFTS)
def test_the_gaussian_has_moved_as_far_as_is_said(moved):
    # The shift m from one sample, log r = m a - m^2 / 2 being linear in a, then E|r - 1| as an integral.
    first, second = (explorables.gaussian_batch(d).ratio.log() for d in (moved, 0.2))
    slope = float((first[1] - first[0]) / (second[1] - second[0])) * 8**0.5 * float(torch.erfinv(torch.tensor(0.1)))
    a = np.linspace(-9, 9, 20001)
    ratio = np.exp(slope * a - slope**2 / 2)
    mass = np.exp(-(a**2) / 2) / math.sqrt(2 * math.pi) * (a[1] - a[0])
    assert (mass * ratio).sum() == pytest.approx(1, abs=1e-6)
    assert (mass * np.abs(ratio - 1)).sum() == pytest.approx(moved, abs=1e-5)


def test_all_samples_are_in_the_panel_and_levels_are_hyperbolas():
    panel = built("dropped").panels[0]
    curves = curves_of(panel)
    for name in ("A ≥ 0, kept", "A < 0, kept", "dropped"):
        assert panel.ylim[0] <= np.nanmin(curves[name].y) <= np.nanmax(curves[name].y) <= panel.ylim[1]
        assert panel.xlim[0] <= curves[name].x.min() <= curves[name].x.max() <= panel.xlim[1]
    for c in explorables.LEVELS:
        level = curves[f"x = {c:g}"]
        np.testing.assert_allclose(level.x * level.y[0, 0, 0], c)


# --- bias against variance --------------------------------------------------------------------------


def frontier_by_hand(moved, n, direction):
    """Bias squared and variance over all 5^n ordered batches, each rule written out for one batch."""
    bandit = truth.five_actions()
    prob, adv = (x.numpy() for x in bandit)
    u = figures.direction_of(bandit, direction).numpy()
    low, high = 0.0, 50.0
    for _ in range(100):
        t = (low + high) / 2
        ratio = np.exp(t * u) / (prob @ np.exp(t * u))
        low, high = (t, high) if prob @ np.abs(ratio - 1) < moved else (low, t)

    def mean_of(r, a, keep):
        x = r * a
        return x[keep].mean() if keep.any() else x.mean()

    def controlled(r, a):
        c = np.cov(r * a, r, bias=True)[0, 1] / r.var() if np.ptp(r) > 0 else 0.0
        return (r * a).mean() - c * (r.mean() - 1)

    def by_sign(r, a, fraction):
        keep = np.ones(n, bool)
        for member in (np.flatnonzero(a >= 0), np.flatnonzero(a < 0)):
            order = member[np.argsort((r * a)[member])]
            keep[order[: round(fraction * len(order))]] = False
        return mean_of(r, a, keep)

    rules = {
        "plain": [lambda r, a: (r * a).mean()],
        "clip": [lambda r, a: np.minimum(r * a, np.clip(r, 0.8, 1.2) * a).mean()],
        "control variate": [controlled],
        "D-PPO mask": [functools.partial(by_sign, fraction=f) for f in explorables.DROPS],
        "Sample Dropout": [lambda r, a, d=d: mean_of(r, a, np.abs(r - 1) < d) for d in explorables.WIDTHS],
    }
    batches = np.array(list(itertools.product(range(5), repeat=n)))
    chance, value = prob[batches].prod(-1), prob @ (ratio * adv)
    found = {}
    for name, family in rules.items():
        all_ = np.array([[f(ratio[b], adv[b]) for b in batches] for f in family])
        mean = all_ @ chance
        found[name] = np.stack([(mean - value) ** 2, ((all_ - mean[:, None]) ** 2) @ chance], -1)
    return found


@pytest.mark.parametrize(("moved", "direction"), [(0.3, figures.ALONG), (0.6, figures.RANDOM)])
def test_the_frontier_is_the_sum_over_every_batch(moved, direction):
    by_hand = frontier_by_hand(moved, 4, direction)
    ex = built("frontier")
    values = {"moved": moved, "n": 4, "direction": direction}
    found, shown = explorables.frontier_frame(**values), frame(ex, **values)
    cost = by_hand["plain"].sum()
    assert found["cost"] == pytest.approx(cost) and float(shown.readouts["cost"]) == pytest.approx(cost, abs=5.1e-5)
    for name, pair in by_hand.items():
        np.testing.assert_allclose(found[name], pair / cost, atol=1e-9, err_msg=name)
        x, y = shown.panels[0][name]
        near = (pair / cost <= 2 * explorables.SIDE).all(-1)
        np.testing.assert_allclose(np.stack([x, y], -1)[near], (pair / cost)[near], atol=2e-4)
        assert not np.isfinite(x + y)[~near].any()
    costs = {name: pair.sum(-1) / cost for name, pair in by_hand.items()}
    assert float(shown.readouts["clip"]) == pytest.approx(costs["clip"][0], abs=0.0051)
    assert float(shown.readouts["control"]) == pytest.approx(costs["control variate"][0], abs=0.0051)
    for key, name, word, strengths in (
        ("dppo", "D-PPO mask", "drop ", explorables.DROPS),
        ("sample", "Sample Dropout", "δ = ", explorables.WIDTHS),
    ):
        value, strength = shown.readouts[key].split(f" at {word}")
        assert float(value) == pytest.approx(costs[name].min(), abs=0.0051)
        assert costs[name][strengths.index(float(strength))] == pytest.approx(costs[name].min())


def test_the_right_panel_is_the_sum_of_the_left_ones_axes():
    ex = built("frontier")
    for values in some_frames(ex, 8):
        plane, errors = frame(ex, **values).panels
        for name in (*explorables.FAMILIES, *explorables.POINTS):
            total = np.sum(plane[name], axis=0)
            seen = np.isfinite(total) & np.isfinite(errors[name][1][: len(total)])
            assert seen.any() or name == "control variate"
            np.testing.assert_allclose(total[seen], errors[name][1][: len(total)][seen], atol=1e-3)


def test_equal_errors_are_straight_lines_of_their_sum():
    shown = frame(built("frontier")).panels[0]
    for cost in explorables.COSTS:
        assert np.sum(shown[f"cost {cost:g}"], axis=0) == pytest.approx([cost] * 2, abs=1e-4)
    assert np.array(shown["plain"])[:, 0] == pytest.approx([0, 1], abs=1e-4)


# --- the figures that do not move -------------------------------------------------------------------


def test_a_tilt_goes_as_far_as_it_is_asked():
    prob = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]], dtype=torch.float64)
    u = torch.tensor([[1.0, -2.0, 0.5], [30.0, 1.0, 2.0]], dtype=torch.float64)
    for wanted in (0.0, 0.05, 0.9):
        ratio = figures.ratio_at(prob, u, wanted=wanted)
        assert (prob * ratio).sum(-1).tolist() == pytest.approx([1, 1])
        assert (prob * (ratio - 1).abs()).sum(-1).tolist() == pytest.approx([wanted] * 2, abs=1e-9)
        slope = ratio.log().diff(dim=-1) / u.diff(dim=-1)  # an exponential in u: one step for all actions
        np.testing.assert_allclose(slope[:, 0], slope[:, 1], atol=1e-9)
    assert figures.reach(prob, u).tolist() == pytest.approx([1.0, 1.8])
    with pytest.raises(ValueError, match=r"every direction reaches; got 1, and one ends at 1\."):
        figures.ratio_at(prob, u, wanted=1.0)
    with pytest.raises(ValueError, match="wanted"):
        figures.ratio_at(prob, u, wanted=-0.1)


@functools.cache
def lines():
    return figures.bias_variance(points=9, num_samples=4)


def test_bias_and_variance_are_those_of_the_judge():
    result, bandit = lines(), truth.five_actions()
    assert result.names == tuple(truth.ESTIMATORS) == tuple(sorted(figures.LINE_OF, key=result.names.index))
    np.testing.assert_allclose(result.mse, result.bias**2 + result.variance)
    for at in (3, len(result.deviations) // 2, -1):
        ratio = truth.moved(bandit, truth.step_for(bandit, float(result.deviations[at])))
        for i, estimator in enumerate(truth.ESTIMATORS.values()):
            moments = truth.judge(estimator, bandit, ratio, num_samples=4)
            assert (result.bias[i, at], result.variance[i, at]) == pytest.approx(moments[:2], abs=1e-6)


def test_jumps_stand_twice_and_nothing_else_jumps():
    result = lines()
    gaps = np.diff(result.deviations)
    jumps = np.flatnonzero((gaps < 2e-9) & (gaps > 0))
    dropout = result.names.index("Sample Dropout")
    assert len(jumps) >= 4
    assert (np.abs(np.diff(result.bias[dropout]))[jumps] > 1e-3).all()
    plain = [i for i in range(len(result.names)) if i != dropout]
    assert np.abs(np.diff(result.mse[plain], axis=1))[:, jumps].max() < 1e-6


def test_the_lines_are_drawn_and_told():
    result = lines()
    figure, alt = figures.draw_bias_variance(result)
    for axes, values in zip(figure.axes, (np.abs(result.bias), result.variance, result.mse), strict=True):
        for line, name, y in zip(axes.lines, result.names, values, strict=True):
            assert line.get_color() == figures.LINE_OF[name]["color"]
            np.testing.assert_array_equal(line.get_ydata(), y)
        low, high = axes.get_ylim()
        others = [i for i, name in enumerate(result.names) if name != "SPO"]
        assert low <= 0 and values[others].max() < high < values[result.names.index("SPO")].max()
    best = result.names[result.mse[:, -1].argmin()]
    assert f"least first: {best} {result.mse[:, -1].min():.3f}" in alt and "SPO's lines leave" in alt


@functools.cache
def many():
    return figures.many_bandits(draws=40, num_samples=5)


def test_many_bandits_are_judged_as_one_is():
    generator = torch.Generator().manual_seed(3)
    prob = torch.rand(6, 5, generator=generator, dtype=torch.float64) + 0.1
    prob = prob / prob.sum(-1, keepdim=True)
    adv, u = torch.randn(2, 6, 5, generator=generator, dtype=torch.float64)
    ratio = figures.ratio_at(prob, u, wanted=0.3)
    found = figures.judge_many(truth.ESTIMATORS, prob, adv, ratio, num_samples=4)
    for name, estimator in truth.ESTIMATORS.items():
        every = zip(prob, adv, ratio, strict=True)
        one = [truth.judge(estimator, truth.Bandit(p, a), r, num_samples=4) for p, a, r in every]
        np.testing.assert_allclose(found[name], np.transpose(one), err_msg=name, atol=1e-12)


def test_shares_count_the_bandits():
    result = many()
    assert result.against_plain.shape == (2, 5, 40) and "plain" not in result.rules
    np.testing.assert_array_equal(result.share, (result.against_plain < 1 - 1e-9).mean(-1))
    assert (result.low <= result.share).all() and (result.share <= result.high).all()
    even = np.isclose(result.against_plain, 1, rtol=0, atol=1e-9).mean(-1)
    np.testing.assert_array_equal(result.even, even)
    assert even.max() > 0  # a clip that no ratio meets is plain, and does not count as better
    assert 0.9 < result.reached <= 1
    again = figures.many_bandits(draws=40, num_samples=5)
    np.testing.assert_array_equal(again.against_plain, result.against_plain)


def test_the_interval_is_where_the_normal_test_gives_up():
    share = np.array([0.0, 0.1, 0.5, 1.0])
    low, high = figures.binomial_interval(share, 50)
    for edge in (low, high):
        inside = (edge > 1e-9) & (edge < 1 - 1e-9)
        far = np.abs(share - edge) / np.sqrt(np.where(inside, edge * (1 - edge), 1) / 50)
        np.testing.assert_allclose(far[inside], 1.959964)
    assert low[0] == pytest.approx(0, abs=1e-12) and high[-1] == pytest.approx(1, abs=1e-12)
    assert high[0] == pytest.approx(1.959964**2 / (50 + 1.959964**2))


def test_the_shares_are_drawn_and_told():
    result = many()
    figure, alt = figures.draw_many_bandits(result)
    for d, axes in enumerate(figure.axes):
        drawn = sorted(float(line.get_xdata()[0]) for line in axes.lines if line.get_marker() == "o")
        assert drawn == sorted(result.share[d])
    for share in result.share[:, result.rules.index("clip")]:
        assert f"clip {share:.0%}" in alt
