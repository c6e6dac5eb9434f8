"""pocourse.worlds.landscapes: values by hand, the lowest place, one point at a time, and refusals."""

import math

import pytest
import torch

from pocourse.worlds import LANDSCAPES, ackley, levy, quadratic, rosenbrock

LOWEST = {"quadratic": 0.0, "Levy": 1.0, "Rosenbrock": 1.0, "Ackley": 0.0}
every = pytest.mark.parametrize("name", LANDSCAPES)


def values(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def test_values_by_hand():
    assert float(quadratic(values(3, -4))) == 12.5
    assert float(rosenbrock(values(2, 3, -1))) == 100 * (3 - 4) ** 2 + 1 + 100 * (-1 - 9) ** 2 + 4
    # w = (2, 0): sin^2(2 pi) = 0; (2 - 1)^2 (1 + 10 sin^2(2 pi + 1)); (0 - 1)^2 (1 + 0).
    assert float(levy(values(5, -3))) == pytest.approx(1 + 10 * math.sin(1) ** 2 + 1, abs=1e-12)
    # |x|^2 / d = 1, all cosines 1.
    assert float(ackley(values(1, -1))) == pytest.approx(-20 * math.exp(-0.2) + 20, abs=1e-12)


@every
@pytest.mark.parametrize("dim", [2, 7, 1000])
def test_the_lowest_value_is_zero_and_where_it_is_said_to_be(name, dim):
    f, there = LANDSCAPES[name], torch.full((dim,), LOWEST[name], dtype=torch.float64)
    assert float(f(there)) == pytest.approx(0, abs=1e-12)
    around = there + 0.1 * torch.randn(200, dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert float(f(around).min()) > 0


@every
def test_the_lowest_place_is_flat(name):
    x = torch.full((5,), LOWEST[name] + (1e-9 if name == "Ackley" else 0), dtype=torch.float64).requires_grad_()
    (slope,) = torch.autograd.grad(LANDSCAPES[name](x), x)
    if name == "Ackley":  # a cusp: the slope is 4 / sqrt(d) in size on all sides
        assert float(slope.norm()) == pytest.approx(4 / math.sqrt(5), rel=1e-6)
    else:
        assert float(slope.abs().max()) < 1e-12


@every
def test_each_point_is_valued_by_itself(name):
    x = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = LANDSCAPES[name](x)
    assert found.shape == (3, 4)
    alone = torch.stack([LANDSCAPES[name](point) for point in x.flatten(0, 1)])
    torch.testing.assert_close(found.flatten(), alone, rtol=1e-13, atol=1e-13)


@every
@pytest.mark.parametrize(("x", "word"), [(torch.ones(3).long(), "floating"), (torch.tensor([1.0, math.nan]), "NaN")])
def test_bad_input_is_refused(name, x, word):
    with pytest.raises(ValueError, match=word):
        LANDSCAPES[name](x)


def test_rosenbrocks_valley_needs_two_dimensions():
    with pytest.raises(ValueError, match=r"expected x with at least 2 dimensions; got 1"):
        rosenbrock(values(1))
