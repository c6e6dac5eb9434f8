"""What the claims of chapter 2 draw: policies, random worlds, and the worlds that attain the bounds."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pocourse.lesson.claims import Draw
from pocourse.ratio_clipping import bounds
from pocourse.worlds import bandit, tabular

GAMMAS = (0.5, 0.9, 0.99)
STEPS = (1e-4, 1e-3, 1e-2, 0.1, 0.3, 0.5)


class Step(NamedTuple):
    """A policy, the next one, and what the step really brought beyond the surrogate."""

    gamma: float
    policy: Float[Tensor, "draw state action"]
    new_policy: Float[Tensor, "draw state action"]
    advantage: Float[Tensor, "draw state action"]
    occupancy: Float[Tensor, "draw state"]
    gap: Float[Tensor, "draw"]


class Mixture(NamedTuple):
    """A step part of the way towards a target policy."""

    step: Step
    weight: Float[Tensor, "draw"]
    target: Float[Tensor, "draw state action"]


def policy(draw: Draw, *shape: int, concentration: float = 1.0) -> Float[Tensor, "draw *shape"]:
    """Random policies [count, *shape], actions last."""
    return bandit.random_policy((draw.count, *shape), generator=draw.generator, concentration=concentration)


def random_world(draw: Draw, count: int, gamma: float) -> tabular.TabularMDP:
    """A batch of MDPs with 4 states and 3 actions."""
    return tabular.random_mdp(num_states=4, num_actions=3, gamma=gamma, batch=(count,), generator=draw.generator)


def taken(mdp: tabular.TabularMDP, policy: Tensor, new_policy: Tensor) -> Step:
    """What a step from one policy to the next brings in these MDPs."""
    advantage, occupancy = tabular.advantages(mdp, policy), tabular.occupancy(mdp, policy)
    promised = bounds.surrogate_gain(occupancy, new_policy, advantage, gamma=mdp.gamma)
    gap = tabular.performance(mdp, new_policy) - tabular.performance(mdp, policy) - promised
    return Step(mdp.gamma, policy, new_policy, advantage, occupancy, gap)


def mixture(mdp: tabular.TabularMDP, policy: Tensor, target: Tensor, weight: Tensor) -> Mixture:
    """A step of the given weight [draw] towards the target."""
    share = weight[:, None, None]
    return Mixture(taken(mdp, policy, (1 - share) * policy + share * target), weight, target)


def steps(draw: Draw) -> list[Step]:
    """``count`` steps at gamma = .5, .9 and .99: random ones of all sizes, and the extremal worlds."""
    found = []
    for gamma in GAMMAS:
        two_state = [_two_state_mixture(gamma, power).step for power in (1, 2)]
        special = [_cliff(gamma), *two_state, _balanced(gamma)]
        count = draw.count // len(GAMMAS) - sum(len(step.gap) for step in special)
        found += [_random_mixture(draw, count, gamma).step, *special]
    return found


def mixtures(draw: Draw) -> list[Mixture]:
    """``count`` mixtures at gamma = .5, .9 and .99: random ones of all weights, and the two-state world."""
    found = []
    for gamma in GAMMAS:
        special = _two_state_mixture(gamma, 2)
        found += [_random_mixture(draw, draw.count // len(GAMMAS) - len(special.weight), gamma), special]
    return found


def _random_mixture(draw: Draw, count: int, gamma: float) -> Mixture:
    def random_policy():
        return bandit.random_policy((count, 4, 3), generator=draw.generator)

    weight = torch.rand(count, generator=draw.generator, dtype=torch.float64) ** 2
    return mixture(random_world(draw, count, gamma), random_policy(), random_policy(), weight)


def _cliff(gamma: float) -> Step:
    """Where the average-TV bound is attained as the weight goes to zero: a rare step into a certain loss."""
    weight = torch.tensor(STEPS, dtype=torch.float64)
    mdp = tabular.two_state_mdp(gain=weight**-2, loss=weight**-1, gamma=gamma)
    old = weight.new_tensor([1.0, 0.0]).expand(len(STEPS), 2, 2)
    leaves = torch.stack((1 - weight, weight), -1)
    return taken(mdp, old, torch.stack((leaves, torch.zeros_like(leaves) + leaves.new_tensor([0.0, 1.0])), -2))


def _two_state_mixture(gamma: float, power: int) -> Mixture:
    """Where the sharp form of the mixture bound is attained by every weight. The scale keeps the gap far from zero."""
    weight = torch.tensor(STEPS, dtype=torch.float64)
    mdp = tabular.two_state_mdp(gain=weight**-power, loss=weight**-power, gamma=gamma)
    old = weight.new_tensor([1.0, 0.0]).expand(len(STEPS), 2, 2)
    return mixture(mdp, old, 1 - old, weight)


def _balanced(gamma: float) -> Step:
    """Where TRPO's bound is attained as the weight goes to zero.

    Two states, the second never left, and in each a common action, a rare one of probability w, and
    one that is never taken. The rare action is as bad in state 0 as the untried one is good, and the
    other way round in state 1; the common action makes up for the rare one. The new policy plays the
    untried action in place of the rare one, and in state 0 that action leads to state 1. So |mean
    advantage| = 2 w max|A| with TV = w in both states, with opposite signs.
    """
    weight = torch.tensor(STEPS, dtype=torch.float64)
    size, none = weight**-2, torch.zeros_like(weight)
    first = torch.stack((size * weight / (1 - weight), -size, size), -1)
    stay, leave = weight.new_tensor([1.0, 0.0]), weight.new_tensor([0.0, 1.0])
    moves = torch.stack((torch.stack((stay, stay, leave)), leave.expand(3, 2)))
    count = len(STEPS)
    mdp = tabular.tabular_mdp(
        moves.expand(count, 2, 3, 2), torch.stack((first, -first), -2), stay.expand(count, 2), gamma=gamma
    )
    rows = [torch.stack((1 - weight, weight, none), -1), torch.stack((1 - weight, none, weight), -1)]
    old, new = (row[:, None].expand(count, 2, 3) for row in rows)
    return taken(mdp, old, new)
