"""The codes that the properties of the museum are shown: right ones, written in several ways, and mistakes beside them.

Objectives and losses here are functions of the ratio, as in the chapter; a loss is what is minimised.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from pocourse.lesson.museum import Suspect
from pocourse.ratio_clipping.objectives import (
    clip_objective,
    importance_objective,
    kl_objective,
    rollback_objective,
    simple_aligned_objective,
    spo_objective,
)

RIGHT = "which is right"
OTHER = "which does not make this mistake: test the property, not PPO's formula"
SCALED = "which does not make this mistake: only its size is another"


def clipped(ratio: Tensor, advantage: Tensor, eps: float = 0.2) -> Tensor:
    """clip(r, 1 - eps, 1 + eps) A"""
    return ratio.clamp(1 - eps, 1 + eps) * advantage


# ---------------------------------------------------------------- objectives without a mistake, to be maximised


def ppo(ratio, advantage):
    return clip_objective(ratio, advantage)


def ppo_narrow(ratio, advantage):
    return clip_objective(ratio, advantage, clip_eps=0.1)


def ppo_wide(ratio, advantage):
    return clip_objective(ratio, advantage, clip_eps=0.3)


def ppo_by_constant(ratio, advantage):
    return torch.minimum(ratio * advantage, advantage + 0.2 * advantage.abs())


def ppo_by_cases(ratio, advantage):
    gone = torch.where(advantage > 0, ratio > 1.2, ratio < 0.8)
    return torch.where(gone, advantage + 0.2 * advantage.abs(), ratio * advantage)


def unclipped(ratio, advantage):
    return importance_objective(ratio, advantage)


def rollback(ratio, advantage):
    return rollback_objective(ratio, advantage)


def spo(ratio, advantage):
    return spo_objective(ratio, advantage)


def simple(ratio, advantage):
    return simple_aligned_objective(ratio, advantage)


def kl_penalty(ratio, advantage):
    return kl_objective(ratio, advantage, kl_coef=1.0)


PPO = {
    "PPO's {}": ppo,
    "PPO's {} written with the constant (1 ± ε)A": ppo_by_constant,
    "PPO's {} written case by case": ppo_by_cases,
    "PPO's {} with ε = 0.1": ppo_narrow,
    "PPO's {} with ε = 0.3": ppo_wide,
}
OTHERS = {
    "the unclipped {}": unclipped,
    "SPO's {}": spo,
    "PPO-RB's {}": rollback,
    "the {} with a KL penalty": kl_penalty,
}


def suspects(table: dict[str, Callable], kind: str, why: str, turn: Callable = lambda code: code) -> list[Suspect]:
    """A table of objectives as suspects of this kind (objective, loss), each through ``turn``."""
    return [Suspect(name.format(kind), turn(code), why) for name, code in table.items()]


# ---------------------------------------------------------------- from one code to another


def loss_of(objective: Callable) -> Callable:
    """What is minimised where the objective is maximised, one value per sample."""

    def loss(ratio, advantage):
        return -objective(ratio, advantage)

    loss.__name__ = f"{objective.__name__}_loss"  # a learner meets the name in messages
    return loss


def mean_of(objective: Callable) -> Callable:
    """The loss of a batch: the mean over its samples."""

    def loss(ratio, advantage):
        return -objective(ratio, advantage).mean()

    loss.__name__ = f"mean_{objective.__name__}_loss"
    return loss


def times(code: Callable, factor: float) -> Callable:
    """The same code, its result multiplied."""

    def scaled(ratio, advantage):
        return factor * code(ratio, advantage)

    return scaled


def plus(code: Callable, constant: float) -> Callable:
    """The same code, its result raised by a constant."""

    def shifted(ratio, advantage):
        return code(ratio, advantage) + constant

    return shifted


def for_positive(one: Callable, other: Callable) -> Callable:
    """The one code where A > 0, the other elsewhere."""

    def mixed(ratio, advantage):
        return torch.where(advantage > 0, one(ratio, advantage), other(ratio, advantage))

    return mixed


def where(one: Callable, other: Callable, low: float, high: float) -> Callable:
    """The one code for ratios between ``low`` and ``high``, the other elsewhere."""

    def mixed(ratio, advantage):
        inside = (ratio > low) & (ratio < high)
        return torch.where(inside, one(ratio, advantage), other(ratio, advantage))

    return mixed


def with_eps(code: Callable, eps: float) -> Callable:
    """A code that takes the limit as its third argument, with this one."""

    def other(ratio, advantage):
        return code(ratio, advantage, eps)

    return other


# ---------------------------------------------------------------- PPO's loss


ppo_loss = loss_of(ppo)


def max_of_negatives(ratio, advantage):
    return torch.maximum(-ratio * advantage, -clipped(ratio, advantage))


RIGHT_LOSSES = [
    *suspects(PPO, "loss", RIGHT, loss_of),
    Suspect("`max(−rA, −clip(r)A)`", max_of_negatives, "which is right: −min(a, b) is max(−a, −b)"),
]
