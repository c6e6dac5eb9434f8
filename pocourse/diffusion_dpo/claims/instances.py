"""What the claims on denoisers draw: noise levels, mixtures, pairs; and the rules that integrate over a Gaussian."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pocourse.diffusion_dpo import denoising, objectives
from pocourse.lesson.claims import Draw


class Mixture(NamedTuple):
    """Round Gaussians, and how much each of them weighs."""

    weights: Float[Tensor, "component"]
    means: Float[Tensor, "component dim"]
    variances: Float[Tensor, "component"]

    def log_density(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch"]:
        return denoising.mixture_log_density(x, *self)

    def noise(self, xt: Float[Tensor, "*batch dim"], alpha_bar: Float[Tensor, "*level"]) -> Float[Tensor, "*batch dim"]:
        return denoising.mixture_noise(xt, *self, alpha_bar)


def gaussian(mean: Float[Tensor, "dim"], variance: float = 1.0) -> Mixture:
    """A mixture of one component."""
    one = torch.ones(1, dtype=torch.float64)
    return Mixture(one, mean.unsqueeze(0), one * variance)


def mixtures(draw: Draw, components: int = 3, dim: int = 1) -> list[Mixture]:
    """One mixture a draw: its components overlap, and are of several widths."""
    weights, means = draw.normal(components).softmax(-1), 1.2 * draw.normal(components, dim)
    variances = draw.uniform(components, low=0.25, high=1.2)
    return [Mixture(*parts) for parts in zip(weights, means, variances, strict=True)]


def two_levels(draw: Draw) -> tuple[Float[Tensor, "draw"], Float[Tensor, "draw"]]:
    """alpha_bar of a step and of the step before, which is less noisy."""
    alpha_bar = draw.uniform(low=0.02, high=0.9)
    return alpha_bar, alpha_bar + (0.98 - alpha_bar) * draw.uniform(low=0.05, high=0.9)


def errors(
    model: Mixture, x0: Float[Tensor, "*batch dim"], noise: Float[Tensor, "*batch dim"], alpha_bar: Tensor
) -> Float[Tensor, "*batch"]:
    """The mean squared errors of a mixture's best denoiser."""
    predicted = model.noise(denoising.noised(x0, noise, alpha_bar), alpha_bar)
    return objectives.squared_error(noise, predicted)


@functools.cache
def hermite(nodes: int) -> tuple[Float[Tensor, "node"], Float[Tensor, "node"]]:
    """Gauss-Hermite: nodes and weights of the mean over a standard normal variable."""
    node, weight = np.polynomial.hermite_e.hermegauss(nodes)
    return torch.from_numpy(node), torch.from_numpy(weight / math.sqrt(2 * math.pi))


@functools.cache
def even(nodes: int, end: float = 8.5) -> tuple[Float[Tensor, "node"], Float[Tensor, "node"]]:
    """Even nodes for the mean over a standard normal variable: where functions bend, better than Gauss-Hermite."""
    node = torch.linspace(-end, end, nodes, dtype=torch.float64)
    return node, (-(node**2) / 2).exp() * (2 * end / (nodes - 1)) / math.sqrt(2 * math.pi)


@functools.cache
def legendre(nodes: int) -> tuple[Float[Tensor, "node"], Float[Tensor, "node"]]:
    """Gauss-Legendre: nodes and weights of the mean over [0, 1]."""
    node, weight = np.polynomial.legendre.leggauss(nodes)
    return torch.from_numpy((1 + node) / 2), torch.from_numpy(weight / 2)


def root(falling: Callable[[Tensor], Tensor], low: Tensor, high: Tensor, steps: int = 40) -> Tensor:
    """Where a falling function of each entry crosses zero, between two numbers that enclose it: the Illinois rule."""
    at_low, at_high = falling(low), falling(high)
    last, before = torch.zeros_like(low), low
    for _ in range(steps):
        rise = at_high - at_low
        middle = torch.where(rise == 0, (low + high) / 2, (low * at_high - high * at_low) / rise)
        if bool(((middle - before).abs() <= 1e-15 * middle.abs()).all()):
            break
        before, at_middle = middle, falling(middle)
        side = at_middle.sign()
        # The end that stays for a second time counts half, or it would stay for ever.
        weight = torch.where(side == last, 0.5, 1.0)
        zero, right = side == 0, side > 0
        at_low, at_high = (
            torch.where(right | zero, at_middle, at_low * weight),
            torch.where(right, at_high * weight, at_middle),
        )
        low, high = torch.where(right | zero, middle, low), torch.where(right, high, middle)
        last = side
    return middle


def _regret(strength: Tensor) -> Tensor:
    """E[|d| sigmoid(-k |d|)] for d ~ N(0, 2), the difference of two standard normal numbers; falls with k."""
    node, weight = legendre(64)
    end = (40 / strength).clamp(max=14.0).unsqueeze(-1)
    d = end * node
    density = (-(d**2) / 4).exp() / math.sqrt(math.pi)
    return (end * weight * density * d * (-strength.unsqueeze(-1) * d).sigmoid()).sum(-1)


def mixed_beta(levels: Float[Tensor, "draw level"], slope: Float[Tensor, "draw"]) -> Float[Tensor, "draw"]:
    r"""The effective beta of a Gaussian model trained on several noise levels at once, under the reward slope * x.

    ``levels`` are the effective betas b_t of each level alone. At the least population loss mu = slope / beta has
    E_t[b_t (G(slope) - G(b_t mu))] = 0 with G(k) = E[|d| sigmoid(-k |d|)]: what is lost to wrongly ordered pairs.
    """
    best = _regret(slope).unsqueeze(-1)

    def falling(log_beta):
        mean = slope / log_beta.exp()
        return (levels * (best - _regret(levels * mean.unsqueeze(-1)))).sum(-1)

    return root(falling, levels.min(-1).values.log(), levels.max(-1).values.log()).exp()
