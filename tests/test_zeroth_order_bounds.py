"""pocourse.zeroth_order.bounds: by hand, against draws and each other, and refusals."""

import math

import pytest
import torch

from pocourse.zeroth_order import bounds as b
from pocourse.zeroth_order import estimators

F64 = torch.float64


def values(*numbers):
    return torch.tensor(numbers, dtype=F64)


G, H = values(1, 2), values([1, 2], [2, -3])  # |g|^2 = 5, tr H = -2, tr H^2 = 1 + 8 + 9 = 18
SIGMA = 0.5


def quadratic(x):
    return 3 + (G * x).sum(-1) + torch.einsum("...d,de,...e->...", x, H, x) / 2


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def sampled_trace(estimate):
    """The trace of the covariance of estimates [n, dim], and its standard error."""
    squares = ((estimate - estimate.mean(0)) ** 2).sum(-1)
    return float(squares.mean()), float(squares.std()) / math.sqrt(len(squares))


# --- by hand


def test_the_variances_by_hand():
    # d = 2: 3 |g|^2 = 15; curvature .25 / 4 * 6 * (4 + 36) = 15; offset 2 / .25 = 8; cross 4 * -2 = -8.
    assert float(b.single_sample_variance(values(1)[0], G, H, sigma=SIGMA)) == pytest.approx(15 + 15 + 8 - 8)
    assert float(b.forward_variance(G, H, sigma=SIGMA, directions=3)) == pytest.approx(30 / 3)
    assert float(b.averaged_variance(G, H, sigma=SIGMA, directions=3)) == pytest.approx((15 + 0.125 * 6 * 18) / 3)
    assert float(b.antithetic_variance(G, pairs=3)) == pytest.approx(5)


def test_leave_one_out_by_hand():
    # 12 / 4 + (5 + 2 * .5 / .25) / 12
    found = b.rloo_variance(values(12)[0], G, values(0.5)[0], queries=4, sigma=SIGMA)
    assert float(found) == pytest.approx(3 + 9 / 12)


def test_the_baseline_by_hand():
    # 3 + .125 * -2 * 2
    assert float(b.optimal_baseline(values(3)[0], H, sigma=SIGMA)) == pytest.approx(2.5)


def test_the_radii_by_hand():
    # fourth powers: 8 * 2 * .25 / (6 * 40), 2 * 2 * .25 / (6 * 18)
    assert float(b.forward_radius(H, noise_std=0.5)) ** 4 == pytest.approx(4 / 240)
    assert float(b.averaged_radius(H, noise_std=0.5)) ** 4 == pytest.approx(1 / 108)


# --- how they hang together


def test_the_other_variances_are_the_first_with_their_baselines():
    smoothed = SIGMA**2 / 2 * -2  # F - f at theta
    found = b.single_sample_variance(values(-smoothed)[0], G, H, sigma=SIGMA)
    torch.testing.assert_close(b.averaged_variance(G, H, sigma=SIGMA), found)


def test_no_baseline_beats_the_optimal_one():
    best = 3 - b.optimal_baseline(values(3)[0], H, sigma=SIGMA)
    least = b.single_sample_variance(best, G, H, sigma=SIGMA)
    for step in (-0.3, -1e-3, 1e-3, 0.3):
        found = b.single_sample_variance(best + step, G, H, sigma=SIGMA)
        assert float(found - least) == pytest.approx(2 * step**2 / SIGMA**2, rel=1e-6)


@pytest.mark.parametrize(("radius", "share"), [("forward", 2), ("averaged", 1)])
def test_the_radius_is_the_least_of_noise_and_curvature(radius, share):
    noise = 0.5
    variance, best = getattr(b, f"{radius}_variance"), float(getattr(b, f"{radius}_radius")(H, noise_std=noise))

    def whole(sigma):
        return float(variance(G, H, sigma=sigma)) + share * noise**2 * 2 / sigma**2

    assert all(whole(best) < whole(factor * best) for factor in (0.7, 0.99, 1.01, 1.4))


def test_batches_are_row_by_row():
    g, h = draws(4, 3, 2), draws(4, 3, 2, 2, seed=1)
    h = h + h.mT
    together = b.forward_variance(g, h, sigma=SIGMA)
    assert together.shape == (4, 3)
    torch.testing.assert_close(together[2, 1], b.forward_variance(g[2, 1], h[2, 1], sigma=SIGMA))


def test_gradient_goes_through():
    g = G.clone().requires_grad_()
    b.averaged_variance(g, H, sigma=SIGMA).backward()
    torch.testing.assert_close(g.grad, 6 * G)


# --- against draws


@pytest.mark.parametrize("name", ["forward", "averaged", "antithetic", "rloo"])
def test_variances_are_those_of_samples(name):
    k, count = 4, 100_000
    u = draws(k, count, 2, seed=3)
    y, mirrored = quadratic(SIGMA * u), quadratic(-SIGMA * u)
    averaged = b.averaged_variance(G, H, sigma=SIGMA)
    spread = SIGMA**2 * 5 + SIGMA**4 / 2 * 18
    found, exact = {
        "forward": lambda: (
            estimators.forward_gradient(y, values(3).expand(count), u, sigma=SIGMA),
            b.forward_variance(G, H, sigma=SIGMA, directions=k),
        ),
        "averaged": lambda: (
            estimators.reinforce_gradient(y, u, sigma=SIGMA, baseline=3 - SIGMA**2),
            averaged / k,
        ),
        "antithetic": lambda: (
            estimators.antithetic_gradient(y, mirrored, u, sigma=SIGMA),
            b.antithetic_variance(G, pairs=k),
        ),
        "rloo": lambda: (
            estimators.rloo_gradient(y, u, sigma=SIGMA),
            b.rloo_variance(averaged, G, values(spread)[0], queries=k, sigma=SIGMA),
        ),
    }[name]()
    variance, error = sampled_trace(found)
    assert abs(variance - float(exact)) < 4 * error


# --- refusals

ONE = values(1)[0]


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: b.single_sample_variance(values(1), G, H, sigma=SIGMA), "offset"),
        (lambda: b.single_sample_variance(ONE.float(), G, H, sigma=SIGMA), "offset"),
        (lambda: b.single_sample_variance(ONE, G, H[:1], sigma=SIGMA), "hessian"),
        (lambda: b.single_sample_variance(ONE, G, torch.eye(3, dtype=F64), sigma=SIGMA), "hessian"),
        (lambda: b.single_sample_variance(ONE, G, H.float(), sigma=SIGMA), "dtype"),
        (lambda: b.single_sample_variance(ONE, G, H, sigma=0.0), "sigma"),
        (lambda: b.forward_variance(G * math.nan, H, sigma=SIGMA), "NaN"),
        (lambda: b.forward_variance(G, H, sigma=SIGMA, directions=0), "directions"),
        (lambda: b.averaged_variance(G, H, sigma=-1.0), "sigma"),
        (lambda: b.averaged_variance(G, H, sigma=SIGMA, directions=0), "directions"),
        (lambda: b.antithetic_variance(ONE), "gradient"),
        (lambda: b.antithetic_variance(G, pairs=0), "pairs"),
        (lambda: b.rloo_variance(ONE, G, ONE, queries=1, sigma=SIGMA), "queries"),
        (lambda: b.rloo_variance(values(1), G, ONE, queries=3, sigma=SIGMA), "averaged"),
        (lambda: b.rloo_variance(ONE, G, values(1), queries=3, sigma=SIGMA), "value_variance"),
        (lambda: b.rloo_variance(ONE, G, ONE, queries=3, sigma=0.0), "sigma"),
        (lambda: b.optimal_baseline(values(1), H, sigma=SIGMA), "value"),
        (lambda: b.optimal_baseline(ONE, H, sigma=0.0), "sigma"),
        (lambda: b.forward_radius(G, noise_std=1.0), "hessian"),
        (lambda: b.forward_radius(H, noise_std=0.0), "noise_std"),
        (lambda: b.averaged_radius(H, noise_std=-1.0), "noise_std"),
        (lambda: b.averaged_radius(H * math.nan, noise_std=1.0), "NaN"),
    ],
)
def test_bad_input_is_refused(call, word):
    with pytest.raises(ValueError, match=rf"(?s)expected .*{word}"):
        call()
