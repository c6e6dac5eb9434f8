"""Estimates of the gradient of f at theta from values of f alone. Everything here minimises f.

``directions`` u are standard normal, the points are theta + sigma u, and ``values`` are f there. What each function
estimates is the gradient of the smoothed function F(theta) = E f(theta + sigma u), which is the objective of a
one-step policy: its action is the point, its reward -f, and u / sigma its score.

The direction comes first, then any batch, then the dimension: values [direction, *batch], directions
[direction, *batch, dim].
"""

import torch
from jaxtyping import Float
from torch import Tensor

from pocourse import _check


def forward_gradient(
    values: Float[Tensor, "direction *batch"],
    base_value: Float[Tensor, "*batch"],
    directions: Float[Tensor, "direction *batch dim"],
    *,
    sigma: float,
) -> Float[Tensor, "*batch dim"]:
    r"""The forward difference along random directions.

    .. math:: \hat g = \frac{1}{K} \sum_k \frac{f(\theta + \sigma u_k) - f(\theta)}{\sigma}\, u_k

    REINFORCE with the baseline f(theta), so unbiased for the smoothed function. It costs K + 1 values.

    Shapes: values [direction, \*batch], base_value [\*batch], directions [direction, \*batch, dim] -> [\*batch, dim],
    in units of f per unit of theta.
    Gradient: none wanted; nothing is differentiated.
    Raises: ValueError for shapes or dtypes that do not fit, NaN, or a sigma that is not positive.
    Source: Nesterov & Spokoiny 2017 (random gradient-free minimization).
    """
    _judge(values, directions, sigma)
    _check.floating(base_value=base_value)
    _check.shape(values.shape[1:], base_value=base_value)
    return _weighted(values - base_value, directions, len(values) * sigma)


def reinforce_gradient(
    values: Float[Tensor, "direction *batch"],
    directions: Float[Tensor, "direction *batch dim"],
    *,
    sigma: float,
    baseline: float | Float[Tensor, "*batch"],
) -> Float[Tensor, "*batch dim"]:
    r"""REINFORCE of the Gaussian policy N(theta, sigma^2), one step long, with a baseline.

    .. math:: \hat g = \frac{1}{K} \sum_k (y_k - b)\, \frac{u_k}{\sigma}, \qquad
        \nabla_\theta \log \mathcal{N}(x; \theta, \sigma^2 I) = \frac{u}{\sigma}

    Unbiased for every baseline that does not depend on the directions. The score is built from u, not from the
    points: (x - theta) / sigma^2 loses digits.

    Shapes: values [direction, \*batch], directions [direction, \*batch, dim], baseline a number or [\*batch] ->
    [\*batch, dim].
    Gradient: none wanted.
    Raises: ValueError as forward_gradient.
    Source: Williams 1992; the reading of a finite difference as this estimator is Qiu et al. 2025 (ZoAR).
    """
    _judge(values, directions, sigma)
    if isinstance(baseline, Tensor):
        _check.floating(baseline=baseline)
        _check.shape(values.shape[1:], baseline=baseline)
    else:
        _check.number(baseline=baseline)
    return _weighted(values - baseline, directions, len(values) * sigma)


def rloo_gradient(
    values: Float[Tensor, "direction *batch"], directions: Float[Tensor, "direction *batch dim"], *, sigma: float
) -> Float[Tensor, "*batch dim"]:
    r"""REINFORCE with the mean of the *other* values as the baseline of each: leave-one-out.

    .. math:: \hat g = \frac{1}{K - 1} \sum_k (y_k - \bar y)\, \frac{u_k}{\sigma}

    The mean of all K values as the baseline, with 1/K in front, is this times 1 - 1/K. Unbiased; it costs K values.

    Shapes: values [direction, \*batch], directions [direction, \*batch, dim] -> [\*batch, dim]. At least 2 directions.
    Gradient: none wanted.
    Raises: ValueError as forward_gradient, or for a single direction, which has no others.
    Source: Kool, van Hoof & Welling 2019 (REINFORCE leave-one-out).
    """
    _judge(values, directions, sigma)
    if len(values) < 2:
        raise ValueError(
            "expected at least 2 directions, so that each has others for its baseline; got 1. Query one more, or use "
            "forward_gradient with f(theta)."
        )
    return _weighted(values - values.mean(0), directions, (len(values) - 1) * sigma)


def antithetic_gradient(
    values_plus: Float[Tensor, "direction *batch"],
    values_minus: Float[Tensor, "direction *batch"],
    directions: Float[Tensor, "direction *batch dim"],
    *,
    sigma: float,
) -> Float[Tensor, "*batch dim"]:
    r"""The central difference along random directions: every direction is used both ways.

    .. math:: \hat g = \frac{1}{P} \sum_p \frac{f(\theta + \sigma u_p) - f(\theta - \sigma u_p)}{2 \sigma}\, u_p

    REINFORCE on the 2 P mirrored samples with any constant baseline, which cancels. It costs 2 P values.

    Shapes: values_plus and values_minus [direction, \*batch], directions [direction, \*batch, dim] -> [\*batch, dim].
    Gradient: none wanted.
    Raises: ValueError as forward_gradient.
    Source: Spall 1992 (SPSA) with Gaussian directions; Salimans et al. 2017 call it mirrored sampling.
    """
    _judge(values_plus, directions, sigma)
    _check.same_shape(values_plus=values_plus, values_minus=values_minus)
    return _weighted(values_plus - values_minus, directions, 2 * len(values_plus) * sigma)


def weighted_gradient(
    weights: Float[Tensor, "direction *batch"], directions: Float[Tensor, "direction *batch dim"], *, sigma: float
) -> Float[Tensor, "*batch dim"]:
    r"""A weighted sum of directions: what every method of this chapter is, with its own weights.

    .. math:: \hat g = \frac{1}{\sigma} \sum_k w_k\, u_k

    Shapes: weights [direction, \*batch], directions [direction, \*batch, dim] -> [\*batch, dim].
    Gradient: none wanted.
    Raises: ValueError as forward_gradient.
    Source: ours, for the table that unites the methods.
    """
    _judge(weights, directions, sigma)
    return _weighted(weights, directions, sigma)


def centred_ranks(values: Float[Tensor, "direction *batch"]) -> Float[Tensor, "direction *batch"]:
    r"""Values replaced by their ranks, shifted and scaled to [-1/2, 1/2]; ties get the mean of their ranks.

    .. math:: c_k = \frac{\operatorname{rank} y_k}{K - 1} - \frac12, \qquad \operatorname{rank} \in \{0, \dots, K - 1\}

    They sum to zero, so they carry a baseline of their own, and any strictly increasing map of f leaves them alone.

    Shapes: [direction, \*batch] -> [direction, \*batch]. At least 2 directions.
    Gradient: none.
    Raises: ValueError for fewer than 2 directions, or NaN.
    Source: Salimans et al. 2017 (evolution strategies); mean ranks for ties: ours.
    """
    _check.floating(values=values)
    _check.axes(1, values=values)
    if len(values) < 2:
        raise ValueError("expected at least 2 values to rank; got 1. Query one more.")
    below = (values.unsqueeze(0) < values.unsqueeze(1)).sum(1)
    same = (values.unsqueeze(0) == values.unsqueeze(1)).sum(1)
    rank = below + (same - 1).to(values.dtype) / 2
    return rank / (len(values) - 1) - 0.5


def _judge(values: Tensor, directions: Tensor, sigma: float) -> None:
    _check.axes(1, values=values)
    _check.floating(values=values, directions=directions)
    _check.axes(2, directions=directions)
    _check.shape((*values.shape, directions.shape[-1]), directions=directions)
    if values.dtype != directions.dtype or values.device != directions.device:
        raise ValueError(
            f"expected values with the dtype and device of directions, {directions.dtype} on {directions.device}; got "
            f"{values.dtype} on {values.device}. Convert them with values.to(directions)."
        )
    _check.number(sigma=sigma, above=0)


def _weighted(weights: Tensor, directions: Tensor, scale: float) -> Tensor:
    """sum_k weights_k directions_k / scale: one matrix product for every batch, or a plain sum where it is quicker."""
    weights = weights / scale
    if weights.dim() == 1:
        return weights @ directions
    if directions.device.type == "cpu" and directions.numel() < 2**17:
        return (weights.unsqueeze(-1) * directions).sum(0)
    return torch.einsum("k...,k...d->...d", weights, directions)
