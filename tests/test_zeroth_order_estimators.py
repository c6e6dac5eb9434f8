"""pocourse.zeroth_order.estimators: by hand, one against the other on the same draws, unbiased, and refusals."""

import math

import pytest
import torch

from pocourse.zeroth_order import estimators as z

F64 = torch.float64


def values(*numbers):
    return torch.tensor(numbers, dtype=F64)


def draws(count, *shape, seed=0):
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def curved(x):
    """Neither linear nor quadratic: sum of sines, a product, an offset."""
    return x.sin().sum(-1) + x[..., 0] * x[..., 1] + 3


THETA, SIGMA = values(0.3, -0.8, 1.1), 0.4


def at(u, sigma=SIGMA):
    return curved(THETA + sigma * u)


# --- by hand


def test_two_directions_by_hand():
    u, y = values([1, 0], [0, 2]), values(3, 7)
    half = 0.5
    assert z.forward_gradient(y, values(1)[0], u, sigma=half).tolist() == [2, 12]
    assert z.reinforce_gradient(y, u, sigma=half, baseline=0.0).tolist() == [3, 14]
    assert z.rloo_gradient(y, u, sigma=half).tolist() == [-4, 8]  # (y - 5) u / .5, divisor 1
    assert z.antithetic_gradient(y, values(1, 1), u, sigma=half).tolist() == [1, 6 * 2 / 2]
    assert z.weighted_gradient(values(1, -1), u, sigma=half).tolist() == [2, -4]


def test_ranks_by_hand():
    assert z.centred_ranks(values(5, -1, 9)).tolist() == [0, -0.5, 0.5]
    assert z.centred_ranks(values(2, 7, 2, 8, 2)).tolist() == [-0.25, 0.25, -0.25, 0.5, -0.25]


# --- identities on the same draws


def test_forward_is_reinforce_with_the_value_at_theta():
    u = draws(12, 3)
    base = curved(THETA)
    torch.testing.assert_close(
        z.forward_gradient(at(u), base, u, sigma=SIGMA), z.reinforce_gradient(at(u), u, sigma=SIGMA, baseline=base)
    )


def test_reinforce_is_autograd_of_the_log_probability():
    u, base = draws(12, 3), 0.7
    theta = THETA.clone().requires_grad_()
    points = (THETA + SIGMA * u).detach()
    logp = torch.distributions.Independent(torch.distributions.Normal(theta, SIGMA), 1).log_prob(points)
    (expected,) = torch.autograd.grad(((curved(points) - base) * logp).mean(), theta)
    torch.testing.assert_close(
        z.reinforce_gradient(at(u), u, sigma=SIGMA, baseline=base), expected, rtol=1e-13, atol=1e-13
    )


def test_leave_one_out_is_what_its_name_says():
    u = draws(9, 3)
    y = at(u)
    others = torch.stack([(y.sum() - y[k]) / 8 for k in range(9)])
    expected = z.reinforce_gradient(y - others, u, sigma=SIGMA, baseline=0.0)
    torch.testing.assert_close(z.rloo_gradient(y, u, sigma=SIGMA), expected, rtol=1e-13, atol=1e-13)


def test_the_batch_mean_as_baseline_shrinks_by_one_over_k():
    u = draws(12, 3)
    shrunk = z.reinforce_gradient(at(u), u, sigma=SIGMA, baseline=at(u).mean())
    torch.testing.assert_close(shrunk, (1 - 1 / 12) * z.rloo_gradient(at(u), u, sigma=SIGMA), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("baseline", [0.0, 4.2, -100.0])
def test_antithetic_is_reinforce_with_any_baseline(baseline):
    u = draws(6, 3)
    mirrored, y = torch.cat((u, -u)), torch.cat((at(u), at(-u)))
    found = z.reinforce_gradient(y, mirrored, sigma=SIGMA, baseline=baseline)
    torch.testing.assert_close(found, z.antithetic_gradient(at(u), at(-u), u, sigma=SIGMA), rtol=1e-11, atol=1e-11)


def test_each_batch_entry_is_an_estimate_of_its_own():
    u, y = draws(7, 2, 4, 3), draws(7, 2, 4, seed=1)
    together = z.rloo_gradient(y, u, sigma=SIGMA)
    for i in range(2):
        for j in range(4):
            torch.testing.assert_close(together[i, j], z.rloo_gradient(y[:, i, j], u[:, i, j], sigma=SIGMA))


def test_leave_one_out_does_not_see_an_offset():
    u, y = draws(8, 3), draws(8, seed=1)
    torch.testing.assert_close(
        z.rloo_gradient(y + 2.0**20, u, sigma=1.0), z.rloo_gradient(y, u, sigma=1.0), rtol=1e-8, atol=1e-8
    )


@pytest.mark.parametrize("name", ["forward", "reinforce", "rloo", "antithetic"])
def test_all_are_unbiased_for_the_smoothed_gradient(name):
    """f = sum of sines: smoothing multiplies by exp(-sigma^2 / 2), and so it does the gradient."""
    count, k = 20_000, 4
    u = draws(k, count, 3, seed=3)

    def f(x):
        return x.sin().sum(-1)

    y, mirrored, base = f(THETA + SIGMA * u), f(THETA - SIGMA * u), f(THETA).expand(count)
    found = {
        "forward": lambda: z.forward_gradient(y, base, u, sigma=SIGMA),
        "reinforce": lambda: z.reinforce_gradient(y, u, sigma=SIGMA, baseline=1.3),
        "rloo": lambda: z.rloo_gradient(y, u, sigma=SIGMA),
        "antithetic": lambda: z.antithetic_gradient(y, mirrored, u, sigma=SIGMA),
    }[name]()
    exact = math.exp(-(SIGMA**2) / 2) * THETA.cos()
    error = found.std(0) / math.sqrt(count)
    assert bool(((found.mean(0) - exact).abs() < 4 * error).all())


def test_ranks_do_not_see_an_increasing_map_and_sum_to_zero():
    y = draws(9, 5)
    assert torch.equal(z.centred_ranks(y), z.centred_ranks((3 * y).exp()))
    torch.testing.assert_close(z.centred_ranks(y).sum(0), torch.zeros(5, dtype=F64), rtol=0, atol=1e-14)
    assert float(z.centred_ranks(draws(7))[draws(7).argsort()][1]) == pytest.approx(1 / 6 - 0.5, abs=1e-15)


# --- refusals

U, Y = draws(4, 3), draws(4, seed=1)


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: z.rloo_gradient(Y[:1], U[:1], sigma=1.0), "at least 2 directions"),
        (lambda: z.rloo_gradient(Y, U[:3], sigma=1.0), "directions"),
        (lambda: z.rloo_gradient(Y, U.float(), sigma=1.0), "dtype"),
        (lambda: z.rloo_gradient(Y * math.nan, U, sigma=1.0), "NaN"),
        (lambda: z.rloo_gradient(Y, U, sigma=0.0), "sigma"),
        (lambda: z.rloo_gradient(Y[:, None], U, sigma=1.0), "directions"),
        (lambda: z.forward_gradient(Y, Y, U, sigma=1.0), "base_value"),
        (lambda: z.reinforce_gradient(Y, U, sigma=1.0, baseline=math.inf), "baseline"),
        (lambda: z.reinforce_gradient(Y, U, sigma=1.0, baseline=Y), "baseline"),
        (lambda: z.antithetic_gradient(Y, Y[:3], U, sigma=1.0), "shape"),
        (lambda: z.centred_ranks(Y[:1]), "at least 2 values"),
    ],
)
def test_bad_input_is_refused(call, word):
    with pytest.raises(ValueError, match=rf"(?s)expected .*{word}|{word}"):
        call()
