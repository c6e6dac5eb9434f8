"""Estimator against truth: what each rule makes of n samples, on a bandit small enough to enumerate every sample.

The truth is E_old[r A], the surrogate. A rule that ranks or counts the samples of its batch is no mean of independent
terms, so its bias and variance are summed over every batch that can be drawn: over all counts of the five actions.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pocourse import _check
from pocourse.ratio_clipping import clip_objective, spo_objective
from pocourse.ratio_clipping.optima import mirror_descent
from pocourse.surrogate_variance.bounds import effective_sample_size, sign_class
from pocourse.surrogate_variance.estimators import controlled_mean, kept_mean, ratio_dropout_mask, sign_dropout_mask
from pocourse.worlds import random_policy

Estimator = Callable[[Tensor, Tensor], Tensor]

PROB_OLD = (0.35, 0.3, 0.2, 0.1, 0.05)
REWARD = (0.0, 1.0, 0.4, 2.0, -1.0)
NUM_SAMPLES = 16
EPS, DELTA, DROP_FRACTION = 0.2, 0.25, 0.2

ESTIMATORS: dict[str, Estimator] = {
    "plain": lambda ratio, advantage: (ratio * advantage).mean(-1),
    "clip": lambda ratio, advantage: clip_objective(ratio, advantage, clip_eps=EPS).mean(-1),
    "SPO": lambda ratio, advantage: spo_objective(ratio, advantage, eps=EPS).mean(-1),
    "D-PPO mask": lambda ratio, advantage: dropped_by_sign(ratio, advantage, drop_fraction=DROP_FRACTION),
    "Sample Dropout": lambda ratio, advantage: dropped_by_ratio(ratio, advantage, delta=DELTA),
    "control variate": controlled_mean,
}


class Bandit(NamedTuple):
    """Five actions: the old policy and the advantages under it, both [action]."""

    prob_old: Float[Tensor, " action"]
    advantage: Float[Tensor, " action"]


class Moments(NamedTuple):
    """An estimator of the surrogate from n samples, exactly; ``mse`` is the mean squared error, bias^2 + variance."""

    bias: float
    variance: float
    mse: float


def five_actions() -> Bandit:
    """The bandit of this chapter: a rare good action, a rarer bad one, advantages of mean zero."""
    prob_old, reward = (torch.tensor(x, dtype=torch.float64) for x in (PROB_OLD, REWARD))
    return Bandit(prob_old, reward - prob_old @ reward)


def moved(bandit: Bandit, step: float) -> Float[Tensor, " action"]:
    """The ratio after a mirror-descent step of this length along the advantage; 1 everywhere for a step of 0."""
    if step == 0:
        return torch.ones_like(bandit.prob_old)
    return mirror_descent(bandit.prob_old, bandit.advantage, step=step) / bandit.prob_old


def deviation(bandit: Bandit, ratio: Float[Tensor, " action"]) -> float:
    """E_old|r - 1|, how far the policy has moved: twice the total variation."""
    return float(bandit.prob_old @ (ratio - 1).abs())


def step_for(bandit: Bandit, wanted: float) -> float:
    """The step at which E|r - 1| is ``wanted``, by bisection.

    Raises: ValueError for a deviation that no step reaches.
    """
    _check.number(wanted=wanted, at_least=0)
    low, high = 0.0, 1.0
    while deviation(bandit, moved(bandit, high)) < wanted:
        high *= 2
        if high > 1e3:
            raise ValueError(
                f"expected a deviation that the tilt reaches; got {wanted:g}, and its limit is "
                f"{deviation(bandit, moved(bandit, high / 2)):g}. Ask for less."
            )
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if deviation(bandit, moved(bandit, middle)) < wanted else (low, middle)
    return (low + high) / 2


def dropped_by_sign(ratio: Tensor, advantage: Tensor, *, drop_fraction: float) -> Tensor:
    """The mean of r A over what sign_dropout_mask keeps: [*batch, sample] -> [*batch]."""
    keep = sign_dropout_mask(ratio, advantage, drop_fraction=drop_fraction)
    return kept_mean(ratio * advantage, keep)


def dropped_by_ratio(ratio: Tensor, advantage: Tensor, *, delta: float) -> Tensor:
    """The mean of r A over what ratio_dropout_mask keeps: [*batch, sample] -> [*batch]."""
    return kept_mean(ratio * advantage, ratio_dropout_mask(ratio, delta=delta))


def batches(prob: Float[Tensor, " action"], num_samples: int) -> tuple[Tensor, Float[Tensor, " batch"]]:
    r"""Every batch of n actions up to order, and how likely it is.

    .. math:: P(m_1, \dots, m_k) = \frac{n!}{m_1! \cdots m_k!} \prod_a p_a^{m_a}, \qquad \sum_a m_a = n

    Shapes: prob [action] -> actions [batch, sample], sorted within a batch, and their probabilities [batch].
    Raises: ValueError for probabilities that do not sum to one, fewer than one sample, more than a million batches.
    Source: textbook (the multinomial distribution).
    """
    _check.probabilities(prob=prob)
    _check.number(at_least=1, num_samples=num_samples)
    kinds, n = len(prob), int(num_samples)
    if math.comb(n + kinds - 1, kinds - 1) > 1_000_000:
        raise ValueError(
            f"expected at most a million batches; got {math.comb(n + kinds - 1, kinds - 1):,} of {n} samples of "
            f"{kinds} actions. Take fewer samples."
        )
    # Stars and bars: where the k - 1 bars stand among n + k - 1 places tells the counts.
    bars = torch.combinations(torch.arange(n + kinds - 1), kinds - 1) if kinds > 1 else torch.zeros(1, 0).long()
    ends = torch.cat((bars.new_full((len(bars), 1), -1), bars, bars.new_full((len(bars), 1), n + kinds - 1)), 1)
    counts = ends.diff(dim=1) - 1
    log_chance = math.lgamma(n + 1) + (torch.xlogy(counts, prob) - torch.lgamma(counts.to(prob.dtype) + 1)).sum(1)
    actions = torch.arange(kinds).expand(len(counts), -1).flatten().repeat_interleave(counts.flatten())
    return actions.reshape(len(counts), n), log_chance.exp()


def judge(
    estimator: Estimator, bandit: Bandit, ratio: Float[Tensor, " action"], *, num_samples: int = NUM_SAMPLES
) -> Moments:
    """Bias, variance and mean squared error of an estimator from ``num_samples`` samples, every batch enumerated.

    Shapes: ratio [action]; ``estimator`` maps ratio and advantage [batch, sample] to [batch], and must not depend on
    the order of the samples.
    Raises: ValueError as :func:`batches`.
    Source: ours.
    """
    drawn, chance = batches(bandit.prob_old, num_samples)
    found = estimator(ratio[drawn], bandit.advantage[drawn])
    _check.shape(chance.shape, found=found)
    truth = bandit.prob_old @ (ratio * bandit.advantage)
    mean = chance @ found
    bias, variance = float(mean - truth), float(chance @ (found - mean) ** 2)
    return Moments(bias, variance, bias**2 + variance)


def bound_used(
    actions: tuple[int, ...], *, num_bandits: int = 20_000, seed: int = 0
) -> dict[int, Float[Tensor, " found"]]:
    """What share of the bound the variance uses in a sign class of a random bandit, for each number of actions.

    Policies are uniform on the simplex, advantages normal and centred under the old one. Classes of one action alone,
    whose variance is zero, are left out.
    """
    generator, found = torch.Generator().manual_seed(seed), {}
    for number in actions:
        old, new = (random_policy((num_bandits, number), generator=generator) for _ in range(2))
        advantage = torch.randn(num_bandits, number, generator=generator, dtype=torch.float64)
        advantage = advantage - (old * advantage).sum(-1, keepdim=True)
        shares = []
        for member in (advantage >= 0, advantage < 0):
            one = sign_class(old, new / old, advantage, member)
            shares.append((one.variance / one.bound)[member.sum(-1) > 1])
        found[number] = torch.cat(shares)
    return found


def markdown(
    estimators: Mapping[str, Estimator] = ESTIMATORS,
    *,
    deviations: tuple[float, ...] = (0.1, 0.3, 0.6),
    num_samples: int = NUM_SAMPLES,
) -> str:
    """The table estimator against truth, in Markdown: for each distance the surrogate, and bias, variance and MSE."""
    bandit = five_actions()
    lines = [
        "| E\\|r − 1\\| | surrogate | ESS/n | estimator | bias | variance | mean squared error | against plain |\n",
        "|---|---|---|---|---|---|---|---|\n",
    ]
    for wanted in deviations:
        ratio = moved(bandit, step_for(bandit, wanted))
        truth = float(bandit.prob_old @ (ratio * bandit.advantage))
        sample_size = float(effective_sample_size(bandit.prob_old, ratio))
        plain = judge(ESTIMATORS["plain"], bandit, ratio, num_samples=num_samples).mse
        for name, estimator in estimators.items():
            m = judge(estimator, bandit, ratio, num_samples=num_samples)
            cells = f"{wanted:g} | {truth:.3f} | {sample_size:.2f} | {name}"
            lines.append(f"| {cells} | {m.bias:+z.4f} | {m.variance:.4f} | {m.mse:.4f} | {m.mse / plain:.2f} |\n")
    return "".join(lines)
