"""How much an estimate of the gradient scatters, in closed form, and what would make it scatter least.

A quadratic function is given by its gradient g and its symmetric Hessian H at theta; "variance" is the trace of the
covariance matrix of one estimate. For a quadratic the smoothed gradient is g itself, whatever sigma.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from pocourse import _check


def single_sample_variance(
    offset: Float[Tensor, "*draw"],
    gradient: Float[Tensor, "*draw dim"],
    hessian: Float[Tensor, "*draw dim dim"],
    *,
    sigma: float,
) -> Float[Tensor, "*draw"]:
    r"""The variance of REINFORCE with one direction on a quadratic, for any constant baseline.

    .. math:: \operatorname{tr}\operatorname{Var} = \frac{d\, D^2}{\sigma^2} + (d + 1) |g|^2
        + \frac{\sigma^2}{4} (d + 4) \big( (\operatorname{tr} H)^2 + 2 \operatorname{tr} H^2 \big)
        + (d + 2)\, D \operatorname{tr} H, \qquad D = f(\theta) - b

    K independent directions with the same baseline have it divided by K.

    Shapes: offset D [\*draw], gradient [\*draw, dim], hessian [\*draw, dim, dim] -> [\*draw].
    Gradient: through all three.
    Raises: ValueError for shapes or dtypes that do not fit, NaN, or a sigma that is not positive.
    Source: ours, from the moments of a Gaussian up to the sixth.
    """
    trace, square = _traces(gradient, hessian)
    _check.shape(gradient.shape[:-1], offset=offset)
    _check.same_shape(trace=trace, offset=offset)
    _check.number(above=0, sigma=sigma)
    d = gradient.shape[-1]
    curvature = sigma**2 / 4 * (d + 4) * (trace**2 + 2 * square)
    return d * offset**2 / sigma**2 + (d + 1) * (gradient**2).sum(-1) + curvature + (d + 2) * offset * trace


def forward_variance(
    gradient: Float[Tensor, "*draw dim"], hessian: Float[Tensor, "*draw dim dim"], *, sigma: float, directions: int = 1
) -> Float[Tensor, "*draw"]:
    r"""The variance of the forward difference on a quadratic.

    .. math:: \operatorname{tr}\operatorname{Var} = \frac1K \Big( (d + 1) |g|^2
        + \frac{\sigma^2}{4} (d + 4) \big( (\operatorname{tr} H)^2 + 2 \operatorname{tr} H^2 \big) \Big)

    Shapes: gradient [\*draw, dim], hessian [\*draw, dim, dim] -> [\*draw].
    Gradient: through both.
    Raises: ValueError as single_sample_variance, or for fewer than 1 direction.
    Source: ours; the bound of Nesterov & Spokoiny 2017 has the same orders in d and sigma.
    """
    trace, _ = _traces(gradient, hessian)
    _check.number(at_least=1, directions=directions)
    return single_sample_variance(torch.zeros_like(trace), gradient, hessian, sigma=sigma) / directions


def averaged_variance(
    gradient: Float[Tensor, "*draw dim"], hessian: Float[Tensor, "*draw dim dim"], *, sigma: float, directions: int = 1
) -> Float[Tensor, "*draw"]:
    r"""The variance on a quadratic when the smoothed value is known and serves as the baseline, b = F(theta).

    .. math:: \operatorname{tr}\operatorname{Var} = \frac1K \Big( (d + 1) |g|^2
        + \frac{\sigma^2}{2} (d + 4) \operatorname{tr} H^2 \Big)

    What many other values approach as the baseline; (tr H)^2, which grows with d^2, is gone.

    Shapes: gradient [\*draw, dim], hessian [\*draw, dim, dim] -> [\*draw].
    Gradient: through both.
    Raises: ValueError as forward_variance.
    Source: ours.
    """
    _, square = _traces(gradient, hessian)
    _check.number(above=0, sigma=sigma)
    _check.number(at_least=1, directions=directions)
    d = gradient.shape[-1]
    return ((d + 1) * (gradient**2).sum(-1) + sigma**2 / 2 * (d + 4) * square) / directions


def antithetic_variance(gradient: Float[Tensor, "*draw dim"], *, pairs: int = 1) -> Float[Tensor, "*draw"]:
    r"""The variance of the central difference on a quadratic: the Hessian cancels within a pair.

    .. math:: \operatorname{tr}\operatorname{Var} = \frac{d + 1}{P} |g|^2

    Shapes: gradient [\*draw, dim] -> [\*draw]. P pairs cost 2 P values.
    Gradient: through it.
    Raises: ValueError for a gradient without an axis, NaN, or fewer than 1 pair.
    Source: ours.
    """
    _check.axes(1, gradient=gradient)
    _check.floating(gradient=gradient)
    _check.number(at_least=1, pairs=pairs)
    return (gradient.shape[-1] + 1) * (gradient**2).sum(-1) / pairs


def rloo_variance(
    averaged: Float[Tensor, "*draw"],
    smoothed_gradient: Float[Tensor, "*draw dim"],
    value_variance: Float[Tensor, "*draw"],
    *,
    queries: int,
    sigma: float,
) -> Float[Tensor, "*draw"]:
    r"""The variance of leave-one-out REINFORCE, exactly, for any function.

    .. math:: \operatorname{tr}\operatorname{Var} = \frac{V_1}{Q}
        + \frac{|\nabla F|^2 + d \operatorname{Var}[y] / \sigma^2}{Q (Q - 1)}

    V_1, here ``averaged``, is that of one sample with the baseline F(theta); the rest is the price of not knowing F.

    Shapes: averaged and value_variance [\*draw], smoothed_gradient [\*draw, dim] -> [\*draw].
    Gradient: through all three.
    Raises: ValueError for shapes or dtypes that do not fit, NaN, fewer than 2 queries, a sigma that is not positive.
    Source: ours, from the variance of a sample covariance (textbook), which is what this estimator is.
    """
    _check.axes(1, smoothed_gradient=smoothed_gradient)
    _check.floating(smoothed_gradient=smoothed_gradient)
    _check.shape(smoothed_gradient.shape[:-1], averaged=averaged)
    square = (smoothed_gradient**2).sum(-1)
    _check.same_shape(smoothed_gradient_squared=square, averaged=averaged, value_variance=value_variance)
    _check.number(above=0, sigma=sigma)
    _check.number(at_least=2, queries=queries)
    rest = square + smoothed_gradient.shape[-1] * value_variance / sigma**2
    return averaged / queries + rest / (queries * (queries - 1))


def optimal_baseline(
    value: Float[Tensor, "*draw"], hessian: Float[Tensor, "*draw dim dim"], *, sigma: float
) -> Float[Tensor, "*draw"]:
    r"""The constant baseline with the least variance on a quadratic.

    .. math:: b^* = \frac{\mathbb{E}[|u|^2 f(\theta + \sigma u)]}{d}
        = f(\theta) + \frac{\sigma^2}{2} \operatorname{tr} H\, \frac{d + 2}{d}

    The smoothed value has no factor (d + 2) / d; any other b costs d (b - b^*)^2 / sigma^2 more.

    Shapes: value f(theta) [\*draw], hessian [\*draw, dim, dim] -> [\*draw].
    Gradient: through both.
    Raises: ValueError for shapes or dtypes that do not fit, NaN, or a sigma that is not positive.
    Source: textbook (the baseline weighted by the squared score), worked out for quadratics by us.
    """
    trace, _ = _traces_of(hessian)
    _check.shape(hessian.shape[:-2], value=value)
    _check.same_shape(trace=trace, value=value)
    _check.number(above=0, sigma=sigma)
    d = hessian.shape[-1]
    return value + sigma**2 / 2 * trace * (d + 2) / d


def forward_radius(hessian: Float[Tensor, "*draw dim dim"], *, noise_std: float) -> Float[Tensor, "*draw"]:
    r"""The sigma with which the forward difference scatters least on a quadratic whose values come with noise.

    .. math:: \sigma_*^4 = \frac{8\, d\, \nu^2}{(d + 4) \big( (\operatorname{tr} H)^2 + 2 \operatorname{tr} H^2 \big)}

    Every value, f(theta) too, has independent noise of standard deviation nu. The number of directions does not
    matter: all terms are divided by it. Infinite where H = 0.

    Shapes: [\*draw, dim, dim] -> [\*draw], in units of theta.
    Gradient: through the Hessian.
    Raises: ValueError for a Hessian that is not square, NaN, or a noise_std that is not positive.
    Source: ours.
    """
    trace, square = _traces_of(hessian)
    _check.number(above=0, noise_std=noise_std)
    d = hessian.shape[-1]
    return (8 * d * noise_std**2 / ((d + 4) * (trace**2 + 2 * square))) ** 0.25


def averaged_radius(hessian: Float[Tensor, "*draw dim dim"], *, noise_std: float) -> Float[Tensor, "*draw"]:
    r"""The sigma with which REINFORCE with the baseline F(theta) scatters least on a quadratic with noisy values.

    .. math:: \sigma_*^4 = \frac{2\, d\, \nu^2}{(d + 4) \operatorname{tr} H^2}

    F is known here, without noise. The number of directions does not matter. Infinite where H = 0.

    Shapes: [\*draw, dim, dim] -> [\*draw], in units of theta.
    Gradient: through the Hessian.
    Raises: ValueError as forward_radius.
    Source: ours.
    """
    _, square = _traces_of(hessian)
    _check.number(above=0, noise_std=noise_std)
    d = hessian.shape[-1]
    return (2 * d * noise_std**2 / ((d + 4) * square)) ** 0.25


def _traces(gradient: Tensor, hessian: Tensor) -> tuple[Tensor, Tensor]:
    _check.axes(1, gradient=gradient)
    _check.floating(gradient=gradient)
    found = _traces_of(hessian)
    _check.shape((*gradient.shape, gradient.shape[-1]), hessian=hessian)
    _check.same_shape(gradient=gradient, diagonal_of_hessian=hessian.diagonal(dim1=-2, dim2=-1))
    return found


def _traces_of(hessian: Tensor) -> tuple[Tensor, Tensor]:
    """tr H and tr H^2."""
    _check.axes(2, hessian=hessian)
    _check.floating(hessian=hessian)
    _check.shape((*hessian.shape[:-1], hessian.shape[-2]), hessian=hessian)
    return hessian.diagonal(dim1=-2, dim2=-1).sum(-1), (hessian * hessian.mT).sum((-2, -1))
