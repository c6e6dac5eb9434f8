"""What the claims of chapter 3 draw: steps between policies, batches of samples, and what attains the bounds."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pocourse.lesson.claims import Draw
from pocourse.worlds import bandit


class Step(NamedTuple):
    """The policy that acted, the next one, and the advantages of their actions."""

    old: Float[Tensor, "*draw action"]
    new: Float[Tensor, "*draw action"]
    advantage: Float[Tensor, "*draw action"]

    @property
    def ratio(self) -> Float[Tensor, "*draw action"]:
        return self.new / self.old

    @property
    def x(self) -> Float[Tensor, "*draw action"]:
        return self.ratio * self.advantage


class Batch(NamedTuple):
    """Samples as a batch holds them: a ratio and an advantage each."""

    ratio: Float[Tensor, "draw sample"]
    advantage: Float[Tensor, "draw sample"]

    @property
    def x(self) -> Float[Tensor, "draw sample"]:
        return self.ratio * self.advantage

    @property
    def everyone(self) -> Bool[Tensor, "draw sample"]:
        return torch.ones_like(self.advantage, dtype=torch.bool)


def policy(draw: Draw, *shape: int) -> Float[Tensor, "draw *shape"]:
    """Random policies [count, *shape], actions last."""
    return bandit.random_policy((draw.count, *shape), generator=draw.generator)


def step(draw: Draw, *shape: int) -> Step:
    """Steps between random policies, with advantages of both signs; five actions in one state unless told otherwise."""
    shape = shape or (5,)
    return Step(policy(draw, *shape), policy(draw, *shape), draw.normal(*shape))


def signed_step(draw: Draw, *shape: int) -> Step:
    """Steps for bounds within a sign class; every fourth attains them, and in every fifth an advantage is zero."""
    old, new, advantage = step(draw, *shape)
    advantage[::5, ..., 0] = 0
    new[::4] = least_likely(old[::4], advantage[::4])
    return Step(old, new, advantage)


def sign_classes(advantage: Tensor) -> tuple[Tensor, Tensor]:
    """The two classes of actions or samples: A >= 0 and A < 0."""
    return advantage >= 0, advantage < 0


def least_likely(old: Float[Tensor, "*draw action"], advantage: Float[Tensor, "*draw action"]) -> Tensor:
    """A policy that plays in each sign class only the least likely action: alone it carries all of the class's r A."""
    new = torch.zeros_like(old)
    for member in sign_classes(advantage):
        within = torch.where(member, old, torch.full_like(old, torch.inf))
        new += member & (within == within.amin(-1, keepdim=True))
    return new / new.sum(-1, keepdim=True)


def variance(prob: Tensor, x: Tensor) -> Tensor:
    """The variance of x over the last axis."""
    return covariance(prob, x, x)


def covariance(prob: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The covariance of x and y over the last axis."""
    x, y = (v - (prob * v).sum(-1, keepdim=True) for v in (x, y))
    return (prob * x * y).sum(-1)


def batch(draw: Draw, samples: int) -> Batch:
    """Batches of samples with ratios around one and advantages of both signs."""
    return Batch((draw.normal(samples) / 2).exp(), draw.normal(samples))


def quartered_batch(draw: Draw) -> Batch:
    """Batches of twelve in which a quarter of each sign class is a whole number: four or eight are positive.

    In every fourth the product r A is the same all over a class.
    """
    ratio, advantage = batch(draw, 12)
    sign = torch.ones_like(advantage)
    sign[:, 4:] = torch.where(draw.uniform(1) < 0.5, 1.0, -1.0)
    sign[:, 8:] = -1
    size = torch.where(sign > 0, advantage[:, :1].abs(), advantage[:, -1:].abs())
    advantage = sign * advantage.abs()
    advantage[::4] = (sign * (0.1 + size) / ratio)[::4]
    return Batch(ratio, advantage)


def rank(values: Float[Tensor, "draw sample"], member: Bool[Tensor, "draw sample"]) -> Float[Tensor, "draw sample"]:
    """How many members of its own class stay below each sample; ``member`` is one of two classes."""
    together = member.unsqueeze(-1) == member.unsqueeze(-2)
    return (together & (values.unsqueeze(-2) < values.unsqueeze(-1))).sum(-1).double()
