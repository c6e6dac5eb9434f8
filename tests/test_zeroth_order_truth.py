"""pocourse.zeroth_order.truth: moments by hand and by other quadratures, and estimates that were drawn."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from pocourse.zeroth_order import ZoAR, bounds, rloo_gradient, truth

F64 = torch.float64
THETA = truth.theta_of()
SIGMA = truth.SIGMA


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def product_rule(nodes):
    """numpy's Gauss-Hermite nodes in three dimensions, with weights that sum to one."""
    x, w = np.polynomial.hermite_e.hermegauss(nodes)
    u = np.stack(np.meshgrid(x, x, x, indexing="ij"), -1).reshape(-1, 3)
    weight = np.einsum("i,j,k->ijk", w, w, w).ravel()
    return torch.tensor(u), torch.tensor(weight / weight.sum())


def split(function, kink, power=0):
    """E[function(z) z^power] over a standard normal z, by adaptive quadrature on either side of a kink."""
    pieces = ((-12, kink), (kink, 12))
    return sum(integrate.quad(lambda z: function(z) * z**power * stats.norm.pdf(z), *piece)[0] for piece in pieces)


# --- the worlds and their moments


@pytest.mark.parametrize("name", ["quadratic", "cubic", "sine"])
def test_moments_are_those_of_another_rule(name):
    world = truth.WORLDS[name]
    u, weight = product_rule(24)
    y, length = world.f(THETA + SIGMA * u), (u**2).sum(-1)
    found = truth.raw_moments(world, THETA, sigma=SIGMA)
    expected = (weight @ y, weight @ y**2, weight @ (y * length), weight @ (y**2 * length))
    for one, other in zip(found, (*expected, (weight * y) @ u / SIGMA), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("theta", [THETA, torch.tensor([-1.7, 0.2, 1.0], dtype=F64), torch.zeros(3, dtype=F64)])
@pytest.mark.parametrize(("name", "f"), [("step", lambda x: float(x > 0)), ("|x|", abs)])
def test_moments_across_a_kink_are_those_of_an_adaptive_rule(name, f, theta):
    """|u|^2 has two further coordinates, each with mean square one."""
    x = float(theta[0])
    moments = {
        (k, p): split(lambda z, k=k: f(x + SIGMA * z) ** k, -x / SIGMA, power=p) for k in (1, 2) for p in (0, 1, 2)
    }
    found = truth.raw_moments(truth.WORLDS[name], theta, sigma=SIGMA)
    tilted = [moments[k, 2] + 2 * moments[k, 0] for k in (1, 2)]
    assert [float(x) for x in found[:4]] == pytest.approx([moments[1, 0], moments[2, 0], *tilted], abs=1e-9)
    assert found.gradient.tolist() == pytest.approx([moments[1, 1] / SIGMA, 0, 0], abs=1e-9)


def test_moments_of_the_step_by_hand():
    z = 0.5 / SIGMA
    phi, density = stats.norm.cdf(z), stats.norm.pdf(z)
    found = truth.raw_moments(truth.WORLDS["step"], THETA, sigma=SIGMA)
    assert [float(x) for x in found[:4]] == pytest.approx([phi, phi, *[3 * phi - z * density] * 2], abs=1e-12)
    assert float(found.gradient[0]) == pytest.approx(density / SIGMA, abs=1e-12)


@pytest.mark.parametrize("name", truth.WORLDS)
@pytest.mark.parametrize("sigma", [0.3, SIGMA, 1.5])
def test_the_smoothed_gradient_is_the_slope_of_the_smoothed_function(name, sigma):
    world, h = truth.WORLDS[name], 1e-4
    stated = world.smoothed_gradient(THETA, sigma)
    torch.testing.assert_close(truth.raw_moments(world, THETA, sigma=sigma).gradient, stated, rtol=1e-9, atol=1e-9)
    for i in range(3):
        move = torch.zeros(3, dtype=F64)
        move[i] = h
        high, low = (truth.raw_moments(world, THETA + s * move, sigma=sigma).mean for s in (1, -1))
        assert float((high - low) / (2 * h)) == pytest.approx(float(stated[i]), abs=1e-6)


def test_a_shift_of_the_values_moves_the_moments_as_it_does():
    world = truth.WORLDS["cubic"]
    found = truth.shifted(truth.raw_moments(world, THETA, sigma=SIGMA), 1.7)
    moved = world._replace(f=lambda x: world.f(x) - 1.7)
    for one, other in zip(found, truth.raw_moments(moved, THETA, sigma=SIGMA), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


# --- bias and variance


def test_on_the_quadratic_they_are_the_bounds():
    world, hessian = truth.WORLDS["quadratic"], torch.tensor(truth.HESSIAN, dtype=F64)
    gradient = hessian @ THETA
    forward, pairs, point = (truth.exactly(n, world, THETA) for n in ("forward", "antithetic", "one-point"))
    one = bounds.single_sample_variance(world.f(THETA), gradient, hessian, sigma=SIGMA)
    assert float(forward.variance) == pytest.approx(
        float(bounds.forward_variance(gradient, hessian, sigma=SIGMA, directions=9)), rel=1e-12
    )
    assert float(pairs.variance) == pytest.approx(float(bounds.antithetic_variance(gradient, pairs=5)), rel=1e-12)
    assert float(point.variance) == pytest.approx(float(one) / 10, rel=1e-12)
    for found in (forward, pairs, point):
        torch.testing.assert_close(found.mean, gradient, rtol=1e-12, atol=1e-12)


def test_the_batch_mean_is_leave_one_out_and_shorter():
    world = truth.WORLDS["sine"]
    short, full = (truth.exactly(n, world, THETA, queries=4) for n in ("batch mean", "RLOO"))
    torch.testing.assert_close(short.mean, 0.75 * full.mean)
    assert float(short.variance) == pytest.approx(0.5625 * float(full.variance))
    assert truth.judge("batch mean", "sine", queries=4, draws=100).bias == pytest.approx(0.25)


@pytest.mark.parametrize("world", truth.WORLDS)
@pytest.mark.parametrize("name", [n for n in truth.ESTIMATORS if n != "centred ranks"])
def test_what_is_exact_is_what_is_drawn(name, world):
    draws, world = 20_000, truth.WORLDS[world]
    exact = truth.exactly(name, world, THETA, queries=4)
    found = truth.sampled(name, world, THETA, draws=draws, generator=generator(), queries=4)
    error = found.std(0) / math.sqrt(draws)
    assert bool(((found.mean(0) - exact.mean).abs() <= 4 * error).all())
    squares = ((found - exact.mean) ** 2).sum(-1)
    assert abs(float(squares.mean() - exact.variance)) < 4 * float(squares.std()) / math.sqrt(draws)


@pytest.mark.parametrize("world", truth.WORLDS)
def test_a_pool_at_rest_is_leave_one_out_of_all_of_it(world):
    raw = truth.raw_moments(truth.WORLDS[world], THETA, sigma=SIGMA)
    found = truth.pooled([raw] * 3, sigma=SIGMA, queries=4)
    expected = truth.leave_one_out(raw, sigma=SIGMA, queries=12)
    torch.testing.assert_close(found.mean, expected.mean)
    assert float(found.variance) == pytest.approx(float(expected.variance), rel=1e-10)


def test_a_pool_of_three_thetas_is_the_sum_over_all_directions():
    """Four Gauss-Hermite nodes a coordinate are exact for a quadratic: 4^9 sets of three directions."""
    world = truth.WORLDS["quadratic"]
    thetas = [
        THETA,
        THETA + torch.tensor([0.4, 0.1, -0.3], dtype=F64),
        THETA - torch.tensor([0.0, 0.7, 0.2], dtype=F64),
    ]
    x, w = (torch.tensor(a) for a in np.polynomial.hermite_e.hermegauss(4))
    u = torch.cartesian_prod(*[x] * 9).view(-1, 3, 3)
    chance = torch.cartesian_prod(*[w / w.sum()] * 9).prod(-1)
    y = torch.stack([world.f(theta + SIGMA * u[:, k]) for k, theta in enumerate(thetas)], 1)
    estimate = torch.einsum("nk,nkd->nd", y - y.mean(1, keepdim=True), u) / (2 * SIGMA)
    mean = chance @ estimate
    found = truth.pooled([truth.raw_moments(world, x, sigma=SIGMA) for x in thetas], sigma=SIGMA, queries=1)
    torch.testing.assert_close(found.mean, mean, rtol=1e-10, atol=1e-12)
    assert float(found.variance) == pytest.approx(float(chance @ ((estimate - mean) ** 2).sum(-1)), rel=1e-10)


def test_two_queries_at_a_theta_are_a_theta_twice():
    one, other = (
        truth.raw_moments(truth.WORLDS["cubic"], x, sigma=SIGMA) for x in (THETA, THETA + torch.ones(3, dtype=F64))
    )
    found = truth.pooled([one, other], sigma=SIGMA, queries=2)
    again = truth.pooled([one, one, other, other], sigma=SIGMA, queries=1)
    torch.testing.assert_close(found.mean, again.mean)
    assert float(found.variance) == pytest.approx(float(again.variance), rel=1e-12)


def test_the_pool_aims_at_the_mean_of_its_gradients():
    """On a quadratic that is the gradient at the mean of the thetas: (N - 1) / 2 steps behind."""
    world, hessian = truth.WORLDS["quadratic"], torch.tensor(truth.HESSIAN, dtype=F64)
    gradient = hessian @ THETA
    step = 0.25 * SIGMA * gradient / gradient.norm()
    lag = hessian @ step * 2.5
    assert truth.reuse("quadratic").bias == pytest.approx(float(lag.norm() / gradient.norm()), rel=1e-10)
    before = truth.drifting(world, THETA, sigma=SIGMA, speed=0.25)
    torch.testing.assert_close(torch.stack(before), THETA + torch.arange(6.0, dtype=F64)[:, None] * step)
    cubic = truth.WORLDS["cubic"]
    found = truth.pooled([truth.raw_moments(cubic, x, sigma=SIGMA) for x in before], sigma=SIGMA, queries=5)
    each = torch.stack([cubic.smoothed_gradient(x, SIGMA) for x in before])
    torch.testing.assert_close(found.mean, each.mean(0), rtol=1e-10, atol=1e-12)


def test_a_memory_pays_at_rest_and_costs_on_the_move():
    rest, moving = ([truth.reuse("quadratic", speed=s, history=n) for n in (1, 2, 4, 6)] for s in (0.0, 0.5))
    assert [m.bias for m in rest] == pytest.approx([0] * 4, abs=1e-12)
    assert sorted((m.variance for m in rest), reverse=True) == [m.variance for m in rest]
    assert [m.bias for m in moving] == sorted(m.bias for m in moving) and moving[0].bias < 1e-12
    assert moving[3].mse > moving[2].mse > rest[2].mse and moving[0].mse == pytest.approx(rest[0].mse)
    assert all(m.mse == pytest.approx(m.bias**2 + m.variance) for m in moving)


@pytest.mark.parametrize("call", [lambda: truth.reuse("sine", speed=-1.0), lambda: truth.reuse("sine", history=0)])
def test_impossible_memories_are_refused(call):
    with pytest.raises(ValueError, match=r"expected (speed|history)"):
        call()


# --- many steps


def test_the_mean_of_one_step_is_one_step_and_without_memory_variances_add_up():
    one = truth.mean_of_steps("cubic", steps=1, history=6)
    assert one == pytest.approx(truth.reuse("cubic", speed=0.0).variance, rel=1e-10)
    alone = truth.reuse("cubic", speed=0.0, history=1).variance
    assert truth.mean_of_steps("cubic", steps=7, history=1) == pytest.approx(alone / 7, rel=1e-10)


def test_the_mean_of_many_steps_is_that_of_drawn_runs():
    runs, steps, history, queries = 10_000, 5, 3, 4
    world = truth.WORLDS["sine"]
    zoar = ZoAR(3, num_queries=queries, history=history, sigma=SIGMA, generator=generator(), dtype=F64)
    theta = THETA.expand(runs, 3)
    found = torch.stack([zoar.tell(world.f(zoar.ask(theta))) for _ in range(history - 1 + steps)])
    mean = found[history - 1 :].mean(0)
    truth_ = world.smoothed_gradient(THETA, SIGMA)
    squares = ((mean - truth_) ** 2).sum(-1) / (truth_**2).sum()
    exact = truth.mean_of_steps("sine", steps=steps, history=history, queries=queries)
    assert abs(float(squares.mean()) - exact) < 4 * float(squares.std()) / math.sqrt(runs)


def test_one_estimate_gains_by_memory_and_a_long_mean_hardly():
    gains = [
        truth.mean_of_steps("quadratic", steps=t, history=1) / truth.mean_of_steps("quadratic", steps=t, history=6)
        for t in (1, 10, 100, 10_000)
    ]
    assert gains[0] > 6 and gains == sorted(gains, reverse=True)
    # What stays in the end is the baseline, pooled over 60 values: V_1/10 + R/90 against V_1/10.
    raw = truth.raw_moments(truth.WORLDS["quadratic"], THETA, sigma=SIGMA)
    alone = truth.reinforce(raw, raw.mean, sigma=SIGMA, directions=10).variance
    full = truth.leave_one_out(raw, sigma=SIGMA, queries=10).variance
    assert 1 < gains[-1] == pytest.approx(float(full / alone), rel=0.01)
    with pytest.raises(ValueError, match="steps"):
        truth.mean_of_steps("quadratic", steps=0, history=1)


# --- the round bowl


@pytest.mark.parametrize(("d", "sigma", "queries"), [(1, 0.3, 2), (7, 0.5, 4), (200, 0.354, 10)])
def test_the_bowl_is_the_bounds_without_a_matrix(d, sigma, queries):
    gradient, hessian = torch.ones(d, dtype=F64), torch.eye(d, dtype=F64)
    found, value = truth.bowl(d, sigma=sigma, queries=queries), torch.tensor(d / 2, dtype=F64)
    known = bounds.averaged_variance(gradient, hessian, sigma=sigma)
    spread = torch.tensor(sigma**2 * d + sigma**4 / 2 * d, dtype=F64)
    expected = (
        bounds.single_sample_variance(value, gradient, hessian, sigma=sigma) / queries,
        bounds.forward_variance(gradient, hessian, sigma=sigma, directions=queries - 1),
        known / queries,
        bounds.rloo_variance(known, gradient, spread, queries=queries, sigma=sigma),
        bounds.antithetic_variance(gradient, pairs=queries // 2),
    )
    assert list(found) == pytest.approx([float(x) / d for x in expected], rel=1e-12)


@pytest.mark.parametrize("name", ["one_point", "forward", "rloo", "antithetic"])
def test_noise_in_the_values_scatters_as_stated(name):
    d, q, sigma, noise, count = 3, 4, 0.6, 1.5, 100_000
    theta, g = torch.ones(d, dtype=F64), generator(4)

    def draw(*shape):
        return torch.randn(*shape, generator=g, dtype=F64)

    def f(x):
        return (x**2).sum(-1) / 2 + noise * draw(*x.shape[:-1])

    u = draw(q, count, d)
    if name == "antithetic":
        u = u[: q // 2]
        found = ((f(theta + sigma * u) - f(theta - sigma * u))[..., None] * u).mean(0) / (2 * sigma)
    elif name == "forward":
        y = f(theta + sigma * u[1:]) - f(theta.expand(count, d))
        found = (y[..., None] * u[1:]).mean(0) / sigma
    else:
        y = f(theta + sigma * u)
        found = rloo_gradient(y, u, sigma=sigma) if name == "rloo" else (y[..., None] * u).mean(0) / sigma
    squares = ((found - theta) ** 2).sum(-1) / d
    stated = getattr(truth.bowl(d, sigma=sigma, queries=q, noise_std=noise), name)
    assert abs(float(squares.mean()) - stated) < 4 * float(squares.std()) / math.sqrt(count)


@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_the_terms_add_up_to_the_bowl(noise):
    for d, sigma, q in ((10, 0.7, 4), (10_000, 0.05, 60)):
        found = truth.bowl(d, sigma=sigma, queries=q, noise_std=noise)
        for name, (a, b, c) in truth.bowl_terms(d, queries=q, noise_std=noise).items():
            assert a + b * sigma**2 + c / sigma**2 == pytest.approx(getattr(found, name), rel=1e-12), name


@pytest.mark.parametrize(("method", "noise"), [("rloo", 0.0), ("rloo", 2.0), ("forward", 0.0)])
def test_at_the_crossing_both_scatter_alike(method, noise):
    for d, q in ((10, 10), (1000, 4), (10_000, 60)):
        at = truth.crossing(d, queries=q, noise_std=noise, method=method)
        below, here, above = (
            truth.bowl(d, sigma=math.sqrt(s * at / d), queries=q, noise_std=noise) for s in (0.99, 1, 1.01)
        )
        assert getattr(here, method) == pytest.approx(here.antithetic, rel=1e-9)
        assert getattr(below, method) < below.antithetic and getattr(above, method) > above.antithetic


def test_where_pairs_always_win_there_is_no_crossing():
    assert truth.crossing(1000, queries=10, noise_std=2.0, method="forward") == 0
    for spread in (0.1, 1, 10, 100, 1000):
        found = truth.bowl(1000, sigma=math.sqrt(spread / 1000), noise_std=2.0)
        assert found.forward > found.antithetic
    assert truth.crossing(100, queries=2) == 0  # one pair and two values alone scatter alike without curvature


def test_the_ratios_of_the_text():
    ratios = [truth.baseline_ratio(10_000, sigma=s) for s in (0.005, 0.01, 0.02, 0.05, 0.5)]
    assert ratios == pytest.approx([1.0625, 1.2501, 2.0001, 7.2441, 556.70], abs=0.005)
    assert truth.baseline_ratio(1000, sigma=0.158) == pytest.approx(7.182, abs=5e-4)
    for d, sigma in ((3, 0.7), (1000, 0.158)):
        exact = ((d + 1) + sigma**2 / 4 * (d + 2) * (d + 4)) / ((d + 1) + sigma**2 / 2 * (d + 4))
        assert truth.baseline_ratio(d, sigma=sigma) == pytest.approx(exact, rel=1e-12)
    found = truth.bowl(10_000, sigma=0.05)
    assert found.forward / found.rloo == pytest.approx(7.2441, abs=1e-3)


def test_at_equal_queries_by_the_bounds():
    hessian = torch.tensor(truth.HESSIAN, dtype=F64)
    gradient = hessian @ THETA
    square = float((gradient**2).sum())
    assert (hessian**2).sum() == 25 and square == pytest.approx(5.93)
    for sigma in (0.1, 1.6):
        known = bounds.averaged_variance(gradient, hessian, sigma=sigma)
        spread = torch.tensor(sigma**2 * square + sigma**4 / 2 * 25, dtype=F64)
        rloo = float(bounds.rloo_variance(known, gradient, spread, queries=10, sigma=sigma)) / square
        assert truth.equal_queries(sigma=sigma) == pytest.approx((rloo, 0.8), rel=1e-10)
    assert truth.equal_queries(sigma=0.1)[0] < 0.5 and truth.equal_queries(sigma=1.6)[0] > 4


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: truth.bowl(0, sigma=1.0), "dim"),
        (lambda: truth.bowl(3, sigma=0.0), "sigma"),
        (lambda: truth.bowl(3, sigma=1.0, queries=1), "queries"),
        (lambda: truth.bowl(3, sigma=1.0, queries=5), "an even number of queries"),
        (lambda: truth.bowl(3, sigma=1.0, noise_std=-1.0), "noise_std"),
        (lambda: truth.judge("RLOO", "sine", queries=5), "an even number of queries"),
        (lambda: truth.judge("Adam", "sine"), "estimator as one of one-point"),
        (lambda: truth.judge("RLOO", "bowl"), "world as one of quadratic"),
    ],
)
def test_bad_input_is_refused(call, word):
    with pytest.raises(ValueError, match=rf"(?s)expected {word}.*got .*\."):
        call()


# --- the table


def test_what_is_judged_is_exact_and_the_rest_has_an_error():
    found = truth.judge("RLOO", "sine", draws=4000)
    assert found.bias < 1e-12 and found[3:5] == (0, 0) and 0 < found.cosine_error < 0.02
    exact = truth.exactly("RLOO", truth.WORLDS["sine"], THETA)
    slope = truth.WORLDS["sine"].smoothed_gradient(THETA, SIGMA)
    assert found.variance == pytest.approx(float(exact.variance / (slope**2).sum()))
    assert min(truth.judge("centred ranks", "sine", draws=4000)[3:]) > 0


def test_cosines_against_a_case_known_by_hand():
    """f linear in d dimensions, one pair: the squared cosine with g is that of a random direction, 1/d on average."""
    slope = torch.tensor([1.0, -2.0, 0.5], dtype=F64)
    line = truth.World(lambda x: x @ slope, lambda theta, sigma: slope, 4)
    found = truth.sampled("antithetic", line, THETA, draws=20_000, generator=generator(), queries=2)
    squared = torch.nn.functional.cosine_similarity(found, slope.expand_as(found), dim=-1) ** 2
    assert abs(float(squared.mean()) - 1 / 3) < 4 * float(squared.std()) / math.sqrt(20_000)
    # The cosine itself is |z_1| / |z|, which is uniform in three dimensions.
    judged = truth.judge("antithetic", line, queries=2, draws=20_000)
    assert abs(judged.cosine - 0.5) < 4 * judged.cosine_error


def test_ranks_of_two_values_are_their_difference():
    """With two kinds of values centred ranks are the values but for a factor: they err as RLOO does, in direction."""
    ranks, rloo = (truth.judge(n, "step", draws=4000) for n in ("centred ranks", "RLOO"))
    assert ranks.cosine == pytest.approx(rloo.cosine, abs=1e-12)


def test_ranks_are_biased_where_the_function_is_steep_on_one_side():
    found = truth.judge("centred ranks", "cubic")
    assert found.bias > 4 * found.bias_error > 0
    straight = truth.World(lambda x: x[..., 0], lambda theta, sigma: torch.eye(3, dtype=F64)[0], 4)
    line = truth.judge("centred ranks", straight)
    assert line.bias < 3 * line.bias_error  # the length of three errors of chance


def test_the_table_holds_the_numbers():
    rows = truth.markdown(("sine", "|x|"), draws=500).splitlines()
    assert rows[0] == r"| 10 queries | sine | \|x\| |" and len(rows) == 2 + len(truth.ESTIMATORS)
    for name, row in zip(truth.ESTIMATORS, rows[2:], strict=True):
        cells = row.strip("| ").split(" | ")
        assert cells[0] == name
        for world, cell in zip(("sine", "|x|"), cells[1:], strict=True):
            m = truth.judge(name, world, draws=500)
            assert cell == f"{m.bias:.2f} · {m.variance:.2f} · {m.cosine:.2f}"
