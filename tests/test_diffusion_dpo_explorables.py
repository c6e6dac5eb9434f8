"""The explorables of chapter 5: every stored frame is what sums and integrals written out by hand say."""

import functools
import itertools
import json
import math
import re

import numpy as np
import pytest
from scipy import integrate, stats

from pocourse.diffusion_dpo import explorables
from pocourse.lesson import explorable
from pocourse.lesson.explorable import frame


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
    return float(text.replace("−", "-").rstrip("%"))


# --- all of them ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", explorables.EXPLORABLES)
def test_sizes_ids_and_pages(name):
    ex = built(name)
    assert ex.id == f"diffusion_dpo.{name}"
    assert len(ex.data) <= 90_000
    assert json.loads(ex.data)["id"] == ex.id
    assert not re.search(r"https?:|file:", explorable.page(ex))
    assert all(len(panel.title) <= 28 for panel in ex.panels)


@pytest.mark.parametrize("name", explorables.EXPLORABLES)
def test_building_twice_gives_the_same_bytes(name):
    first = built(name).data
    explorables.level_arrays.cache_clear()
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
        marks = sum(mark.kind != "text" for mark in panel.marks)
        lines = [c.name for c in panel.curves if c.kind == "line"]
        assert len(axes.lines) - marks == len(lines)
        for curve, line in zip(lines, axes.lines[marks:], strict=True):
            np.testing.assert_array_equal(np.array(line.get_data()), np.array(arrays[curve]))


# --- the Gibbs tilt ---------------------------------------------------------------------------------


def by_hand(beta, reward, reference):
    """Weights pi_ref e^{r / beta}, divided by their sum, with plain sums."""
    ref = explorables.REFERENCES[reference].numpy() / explorables.REFERENCES[reference].sum().item()
    worth = explorables.REWARDS[reward].numpy()
    weights = ref * np.exp((worth - worth.max()) / beta)
    prob = weights / weights.sum()
    kl = sum(p * math.log(p / q) for p, q in zip(prob, ref, strict=True) if p > 0)
    value = beta * math.log(weights.sum()) + worth.max()
    return ref, prob, float(prob @ worth), kl, value, 1 / float((prob**2 / ref).sum())


@pytest.mark.parametrize("values", some_frames(explorables.gibbs_tilt()), ids=str)
def test_a_frame_of_the_tilt_is_the_sums_by_hand(values):
    ref, prob, mean, kl, value, ess = by_hand(**values)
    shown = frame(built("gibbs_tilt"), **values)
    for name, want in (("reference", ref), ("Gibbs policy", prob)):
        tops = shown.panels[1][name][1][1::3]
        np.testing.assert_allclose(tops, want, atol=2e-5)
    (at,), (high,) = shown.panels[2]["here"]
    assert (at, high) == pytest.approx((kl, mean), abs=1e-4)
    told = shown.readouts
    assert said(told["mean"]) == pytest.approx(mean, abs=0.0051)
    assert said(told["value"]) == pytest.approx(value, abs=0.0051)
    assert said(told["ess"]) == pytest.approx(100 * ess, abs=0.051)


def test_the_tangent_has_the_slope_beta_and_touches_the_curve():
    for beta in (10.0, 1.0, 0.1):
        shown = frame(built("gibbs_tilt"), beta=beta, reward="a staircase", reference="bell").panels[2]
        (x0, x1), (y0, y1) = shown["slope β"]
        assert (y1 - y0) / (x1 - x0) == pytest.approx(beta, rel=5e-3)
        kl, reward = shown["best reward for its nats"]
        line = y0 + beta * (kl - x0)
        assert (reward <= line + 2e-3).all() and np.abs(reward - line).min() < 2e-3


def test_as_beta_falls_reward_and_divergence_rise():
    kl, reward = frame(built("gibbs_tilt")).panels[2]["best reward for its nats"]
    assert (np.diff(kl) >= -1e-4).all() and (np.diff(reward) >= -1e-4).all()


# --- one pair through the noise levels --------------------------------------------------------------


def excess_by_hand(world, image, level):
    """The mean excess of the squared error of a single-component world, by an adaptive rule over the noise."""
    (_, mp, vp), (_, mr, vr) = world.policy, world.reference
    a = 1 / (1 + math.exp(-level))

    def denoise(x, m, v):
        return math.sqrt(1 - a) * (x - math.sqrt(a) * m) / (a * v + 1 - a)

    def integrand(e):
        x = math.sqrt(a) * image + math.sqrt(1 - a) * e
        theta, ref = (denoise(x, float(m), float(v)) for m, v in ((mp, vp), (mr, vr)))
        return ((e - theta) ** 2 - (e - ref) ** 2) * stats.norm.pdf(e)

    return integrate.quad(integrand, -10, 10)[0]


@pytest.mark.parametrize("world", ["shifted", "narrower"])
def test_errors_are_the_integral_over_the_noise(world):
    pair, shown = explorables.WORLDS[world], explorables.level_arrays(world, "shared")
    for at in (10, 36, 55):
        level = float(explorables.FINE[at])
        for side, image in (("chosen", pair.chosen), ("rejected", pair.rejected)):
            assert shown[side][at] == pytest.approx(excess_by_hand(pair, image, level), abs=1e-9)


@pytest.mark.parametrize("world", explorables.WORLDS)
def test_at_the_right_end_the_integral_is_the_log_ratio(world):
    at = {"noise": "shared", "world": world, "beta": 8}
    end = explorables.level_frame(level=explorables.LEVELS[-1], **at)
    assert float(end["so_far"]) == pytest.approx(float(end["truth"]), abs=0.01)
    assert abs(float(explorables.level_frame(level=explorables.LEVELS[0], **at)["so_far"])) < 1e-12


def test_the_log_ratio_of_the_shifted_world_by_hand():
    pair = explorables.WORLDS["shifted"]
    truth = float(explorables.level_frame(level=0.0, world="shifted", noise="shared", beta=8)["truth"])
    assert truth == pytest.approx(1.0 * (pair.chosen - pair.rejected))


def test_shared_noise_leaves_no_spread_where_covariances_agree():
    shared, own = (
        explorables.level_frame(level=0.0, world="shifted", noise=noise, beta=8) for noise in explorables.NOISES
    )
    assert float(shared["sd"]) < 1e-12 and float(own["sd"]) > 1
    # z = beta w mu (x_w - x_l) with w = 1/4
    assert float(shared["z"]) == pytest.approx(8 / 4 * 2.0) == float(own["z"])
    # Without sharing 2 a sqrt(a (1 - a)) mu (e_w - e_l) stays: its sd is 2 * 1/2 * 1/2 * sqrt(2), times beta / 2.
    assert float(own["sd"]) == pytest.approx(8 / 2 * math.sqrt(2) / 2, rel=0.03)


def test_the_gradient_weight_is_the_chance_of_the_wrong_order():
    shown = explorables.level_frame(level=0.0, world="shifted", noise="shared", beta=2)
    assert float(shown["weight"]) == pytest.approx(1 / (1 + math.exp(float(shown["z"]))), abs=1e-12)


def test_the_lines_of_the_margin_are_scaled_by_beta():
    low, high = (frame(built("noise_levels"), beta=b).panels[2]["mean"][1] for b in (2, 8))
    seen = np.isfinite(low) & np.isfinite(high)
    np.testing.assert_allclose(4 * low[seen], high[seen], atol=2e-3)
