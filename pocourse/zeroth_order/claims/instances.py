"""What the claims of chapter 4 draw, and the rules that integrate over a Gaussian, an interval, a sphere, a ball.

Where every coordinate of the integrand is a polynomial of degree 2 n - 1 or less, n Gauss-Hermite nodes are exact: four
for the square of a quadratic times the square of a direction.
"""

import functools
import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pocourse.lesson.claims import Draw

SIGMA = 0.4
EXACT_FOR_QUADRATICS = 4
Rule = tuple[Float[Tensor, "node dim"], Float[Tensor, "node"]]


class Quadratic(NamedTuple):
    """f(theta + x) = value + g . x + x . H x / 2, one function a draw."""

    value: Float[Tensor, "draw"]
    gradient: Float[Tensor, "draw dim"]
    hessian: Float[Tensor, "draw dim dim"]

    def at(self, x: Float[Tensor, "*axes draw dim"]) -> Float[Tensor, "*axes draw"]:
        """The value at an offset x from theta."""
        return self.value + (self.gradient * x).sum(-1) + torch.einsum("...d,...de,...e->...", x, self.hessian, x) / 2

    @property
    def trace(self) -> Float[Tensor, "draw"]:
        return self.hessian.diagonal(dim1=-2, dim2=-1).sum(-1)

    @property
    def square_trace(self) -> Float[Tensor, "draw"]:
        return (self.hessian**2).sum((-2, -1))


class Curved(NamedTuple):
    """Neither linear nor quadratic: sines, a product of two coordinates, a line and an offset."""

    offset: Float[Tensor, "draw"]
    slope: Float[Tensor, "draw dim"]
    wave: Float[Tensor, "draw dim"]
    theta: Float[Tensor, "draw dim"]

    def at(self, x: Float[Tensor, "*axes draw dim"]) -> Float[Tensor, "*axes draw"]:
        """The value at an offset x from theta."""
        x = self.theta + x
        return self.offset + (self.slope * x + self.wave * (1.3 * x).sin()).sum(-1) + x[..., 0] * x[..., -1]


class Cloud(NamedTuple):
    """Directions, and the values of a function at theta, at theta + sigma u and at theta - sigma u."""

    u: Float[Tensor, "direction draw dim"]
    base: Float[Tensor, "draw"]
    plus: Float[Tensor, "direction draw"]
    minus: Float[Tensor, "direction draw"]


def quadratic(draw: Draw, dim: int) -> Quadratic:
    """Quadratic functions with Hessians of both signs."""
    half = draw.normal(dim, dim) / 2
    return Quadratic(draw.normal(), draw.normal(dim), half + half.mT)


def curved(draw: Draw, dim: int) -> Curved:
    """Curved functions, each at a point of its own."""
    return Curved(draw.normal(), draw.normal(dim), draw.normal(dim), draw.normal(dim))


def cloud(draw: Draw, directions: int = 6, dim: int = 3) -> Cloud:
    """Random directions around a curved function's point."""
    f, u = curved(draw, dim), draw.normal(directions, dim).movedim(1, 0).contiguous()
    return Cloud(u, f.at(torch.zeros_like(u[0])), f.at(SIGMA * u), f.at(-SIGMA * u))


def normal_cdf(z: Tensor) -> Tensor:
    """The distribution function of the standard normal."""
    return torch.special.ndtr(z)


def _golub_welsch(beside: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes and weights of the rule whose polynomials have this Jacobi matrix; the weights sum to one."""
    nodes, vectors = torch.linalg.eigh(torch.diag(beside, 1) + torch.diag(beside, -1))
    return nodes, vectors[0] ** 2


@functools.cache
def hermite(nodes: int, dim: int = 1) -> Rule:
    """Gauss-Hermite: the mean over a standard normal u of so many dimensions."""
    one, weight = _golub_welsch(torch.arange(1, nodes, dtype=torch.float64).sqrt())
    return _product(one, dim), _product(weight, dim).prod(-1)


@functools.cache
def legendre(nodes: int) -> tuple[Tensor, Tensor]:
    """Gauss-Legendre: the mean over [-1, 1]."""
    k = torch.arange(1, nodes, dtype=torch.float64)
    return _golub_welsch(k / (4 * k**2 - 1).sqrt())


def _product(one: Tensor, dim: int) -> Tensor:
    return torch.cartesian_prod(*[one] * dim).reshape(-1, dim)


@functools.cache
def sphere(dim: int, nodes: int = 24) -> Rule:
    """The mean over the unit circle or the unit sphere."""
    angle = torch.arange(2 * nodes, dtype=torch.float64) * math.pi / nodes
    circle = torch.stack((angle.cos(), angle.sin()), -1)
    even = torch.full_like(angle, 1 / (2 * nodes))
    if dim == 2:
        return circle, even
    height, weight = legendre(nodes)
    flat = (1 - height**2).sqrt()[:, None, None] * circle
    points = torch.cat((flat, height[:, None, None].expand(-1, 2 * nodes, 1)), -1)
    return points.flatten(0, 1), (weight[:, None] * even).flatten()


@functools.cache
def ball(dim: int, nodes: int = 24) -> Rule:
    """The mean over the unit disc or the unit ball: spheres of all radii, the larger ones weighing more."""
    shell, even = sphere(dim, nodes)
    radius, weight = legendre(nodes)
    radius = (1 + radius) / 2
    points = (radius[:, None, None] * shell).flatten(0, 1)
    return points, ((weight * dim * radius ** (dim - 1))[:, None] * even).flatten()


def every_direction(
    nodes: int, directions: int, dim: int, draws: int
) -> tuple[Float[Tensor, "direction node draw dim"], Float[Tensor, "node"]]:
    """All so many independent directions of a Gauss-Hermite grid, the same for every draw."""
    u, weight = hermite(nodes, directions * dim)
    u = u.view(-1, directions, dim).movedim(1, 0).unsqueeze(2)
    return u.expand(-1, -1, draws, -1), weight


def mean(weight: Float[Tensor, "node"], x: Float[Tensor, "node *rest"]) -> Float[Tensor, "*rest"]:
    """The weighted mean over the nodes."""
    return torch.einsum("n,n...->...", weight, x)


def trace(weight: Float[Tensor, "node"], estimate: Float[Tensor, "node *draw dim"]) -> Float[Tensor, "*draw"]:
    """The trace of an estimate's covariance matrix."""
    return mean(weight, ((estimate - mean(weight, estimate)) ** 2).sum(-1))
