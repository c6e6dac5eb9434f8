"""Functions to be minimised from their values alone: four landscapes, each with its lowest value 0."""

import math

from jaxtyping import Float
from torch import Tensor

from pocourse import _check


def quadratic(x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch"]:
    r"""A round bowl.

    .. math:: f(x) = \tfrac12 |x|^2, \qquad f = 0 \text{ at } x = 0

    Shapes: [\*batch, dim] -> [\*batch].
    Gradient: through x.
    Raises: ValueError for no dimension, integers, NaN.
    Source: the quadratic of Qiu et al. 2025 (ZoAR), as in their public code.
    """
    _judge(x, 1)
    return 0.5 * (x**2).sum(-1)


def levy(x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch"]:
    r"""Levy's function: a bowl with waves on it.

    .. math:: f(x) = \sin^2(\pi w_1) + \sum_{i<d} (w_i - 1)^2 \big(1 + 10 \sin^2(\pi w_i + 1)\big)
        + (w_d - 1)^2 \big(1 + \sin^2(2 \pi w_d)\big), \qquad w = 1 + \frac{x - 1}{4}, \qquad f = 0 \text{ at } x = 1

    Shapes: [\*batch, dim] -> [\*batch].
    Gradient: through x.
    Raises: ValueError for no dimension, integers, NaN.
    Source: a standard test function, in the form of the public code of Qiu et al. 2025 (ZoAR).
    """
    _judge(x, 1)
    w = 1 + (x - 1) / 4
    first, inner, last = w[..., 0], w[..., :-1], w[..., -1]
    waves = ((inner - 1) ** 2 * (1 + 10 * (math.pi * inner + 1).sin() ** 2)).sum(-1)
    return (math.pi * first).sin() ** 2 + waves + (last - 1) ** 2 * (1 + (2 * math.pi * last).sin() ** 2)


def rosenbrock(x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch"]:
    r"""Rosenbrock's function: a long bent valley.

    .. math:: f(x) = \sum_{i<d} 100\, (x_{i+1} - x_i^2)^2 + (1 - x_i)^2, \qquad f = 0 \text{ at } x = 1

    Shapes: [\*batch, dim] -> [\*batch], dim at least 2.
    Gradient: through x.
    Raises: ValueError for fewer than 2 dimensions, integers, NaN.
    Source: Rosenbrock 1960, in the chained form of many dimensions.
    """
    _judge(x, 2)
    here, there = x[..., :-1], x[..., 1:]
    return (100 * (there - here**2) ** 2 + (1 - here) ** 2).sum(-1)


def ackley(x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch"]:
    r"""Ackley's function: a plain full of holes round one deep one.

    .. math:: f(x) = -20\, e^{-0.2 \sqrt{|x|^2 / d}} - e^{\frac1d \sum_i \cos(2 \pi x_i)} + 20 + e,
        \qquad f = 0 \text{ at } x = 0

    Shapes: [\*batch, dim] -> [\*batch].
    Gradient: through x; at x = 0 the root has none.
    Raises: ValueError for no dimension, integers, NaN.
    Source: Ackley 1987, with the constants of Qiu et al. 2025 (ZoAR): 20, 0.2, 2 pi.
    """
    _judge(x, 1)
    bowl = -20 * (-0.2 * (x**2).mean(-1).sqrt()).exp()
    return bowl - (2 * math.pi * x).cos().mean(-1).exp() + 20 + math.e


def _judge(x: Tensor, least: int) -> None:
    _check.axes(1, x=x)
    _check.floating(x=x)
    if x.shape[-1] < least:
        raise ValueError(f"expected x with at least {least} dimensions; got {x.shape[-1]}. Add one to its last axis.")


LANDSCAPES = {"quadratic": quadratic, "Levy": levy, "Rosenbrock": rosenbrock, "Ackley": ackley}
