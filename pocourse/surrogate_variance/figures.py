"""The figures of chapter 3. Each comes in two halves: a function that computes arrays, and one that draws them.

The arrays are what the tests check and what the text quotes; the drawing adds nothing to them.
"""

import itertools
from collections.abc import Hashable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pocourse import _check
from pocourse.lesson.figures import FAINT, INK, LINES, label_lines, panels, style
from pocourse.ratio_clipping.optima import kl_new_old_link
from pocourse.surrogate_variance.estimators import ratio_dropout_mask
from pocourse.surrogate_variance.truth import (
    DELTA,
    ESTIMATORS,
    NUM_SAMPLES,
    Bandit,
    Estimator,
    batches,
    five_actions,
)

# One look per method in all figures of the chapter; what chapter 2 draws as well looks as it does there.
LINE_OF = dict(zip(("plain", "clip", "control variate", "SPO", "D-PPO mask", "Sample Dropout"), LINES, strict=True))
MARKER_OF = dict(zip(LINE_OF, ("o", "^", "D", "o", "v", "D"), strict=True))
ALONG, AGAINST, RANDOM = DIRECTIONS = ("along the advantage", "against it", "a random one")


# ---------------------------------------------------------------- a policy that moves


def with_rarest(rare: float) -> Bandit:
    """The chapter's bandit with another probability of its rarest action; the others keep their proportions.

    The rewards stay, so that the advantages are centred anew.
    """
    bandit = five_actions()
    reward = bandit.advantage  # rewards up to a constant, which the advantages do not feel
    others = bandit.prob_old[:-1] / bandit.prob_old[:-1].sum()
    prob = torch.cat(((1 - rare) * others, others.new_tensor([rare])))
    return Bandit(prob, reward - prob @ reward)


def direction_of(bandit: Bandit, name: str, *, seed: int = 0) -> Float[Tensor, " action"]:
    """One of ``DIRECTIONS`` as u [action]: all have mean zero and the advantage's standard deviation, so that one step
    t is about as far along each."""
    if name in (ALONG, AGAINST):
        return bandit.advantage if name == ALONG else -bandit.advantage
    drawn = torch.randn(len(bandit.prob_old), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    drawn = drawn - bandit.prob_old @ drawn
    return drawn * ((bandit.prob_old @ bandit.advantage**2) / (bandit.prob_old @ drawn**2)).sqrt()


def tilted(
    prob_old: Float[Tensor, "*draw action"], exponent: Float[Tensor, "*draw action"]
) -> Float[Tensor, "*draw action"]:
    """The ratio of the policy pi e^u / Z to pi, for an exponent u, t times the direction: [*draw, action]."""
    return kl_new_old_link(prob_old, exponent, step=1.0)


def far(prob_old: Float[Tensor, "*draw action"], ratio: Float[Tensor, "*draw action"]) -> Float[Tensor, "*draw"]:
    """E_old|r - 1|, [*draw]."""
    return (prob_old * (ratio - 1).abs()).sum(-1)


def reach(prob_old: Float[Tensor, "*draw action"], direction: Float[Tensor, "*draw action"]) -> Float[Tensor, "*draw"]:
    """What E|r - 1| tends to along a direction, [*draw]: all mass on the action that the direction favours most."""
    favoured = direction.argmax(-1, keepdim=True)
    return 2 * (1 - prob_old.gather(-1, favoured)).squeeze(-1)


def ratio_at(
    prob_old: Float[Tensor, "*draw action"], direction: Float[Tensor, "*draw action"], *, wanted: float
) -> Float[Tensor, "*draw action"]:
    """The ratio on the tilt along ``direction`` at which E|r - 1| is ``wanted``, by bisection: [*draw, action].

    Raises: ValueError where the direction does not lead as far.
    """
    _check.number(wanted=wanted, at_least=0)
    nearest = float(reach(prob_old, direction).min())
    if nearest <= wanted:
        raise ValueError(
            f"expected a deviation that every direction reaches; got {wanted:g}, and one ends at {nearest:g}. "
            "Ask for less, or leave out the bandits whose favoured action is likely already."
        )
    unit = direction / direction.abs().amax(-1, keepdim=True)
    low, high = prob_old.new_zeros(prob_old.shape[:-1]), prob_old.new_ones(prob_old.shape[:-1])
    while bool((short := far(prob_old, tilted(prob_old, high.unsqueeze(-1) * unit)) < wanted).any()):
        high = torch.where(short, 2 * high, high)
    for _ in range(60):
        middle = (low + high) / 2
        short = far(prob_old, tilted(prob_old, middle.unsqueeze(-1) * unit)) < wanted
        low, high = torch.where(short, middle, low), torch.where(short, high, middle)
    return tilted(prob_old, low.unsqueeze(-1) * unit)


def judge_many(
    estimators: Mapping[Hashable, Estimator],
    prob_old: Float[Tensor, "draw action"],
    advantage: Float[Tensor, "draw action"],
    ratio: Float[Tensor, "draw action"],
    *,
    num_samples: int,
) -> dict[Hashable, np.ndarray]:
    """What ``truth.judge`` says of one estimator on one bandit, for many of both, the batches enumerated once.

    Shapes: name -> [3, draw], bias, variance and mean squared error.
    """
    _check.same_shape(prob_old=prob_old, advantage=advantage, ratio=ratio)
    _check.probabilities(prob_old=prob_old)
    kinds = prob_old.shape[-1]
    drawn, _ = batches(prob_old.new_full((kinds,), 1 / kinds), num_samples)
    counts = torch.nn.functional.one_hot(drawn, kinds).sum(1).to(prob_old.dtype)
    orders = torch.lgamma(prob_old.new_tensor(num_samples + 1.0)) - torch.lgamma(counts + 1).sum(-1)
    chance = (prob_old.log() @ counts.T + orders).exp()  # [draw, batch]
    truth = (prob_old * ratio * advantage).sum(-1)
    x, a = ratio[:, drawn], advantage[:, drawn]
    moments = {}
    for name, estimator in estimators.items():
        found = estimator(x, a)
        _check.shape(chance.shape, found=found)
        mean = (chance * found).sum(-1)
        bias, variance = mean - truth, (chance * (found - mean.unsqueeze(-1)) ** 2).sum(-1)
        moments[name] = torch.stack((bias, variance, bias**2 + variance)).numpy()
    return moments


# ---------------------------------------------------------------- bias, variance, mean squared error


class BiasVariance(NamedTuple):
    """Per estimator, exactly: bias, variance and mean squared error [estimator, point] against E|r - 1| [point]."""

    deviations: np.ndarray
    names: tuple[str, ...]
    bias: np.ndarray
    variance: np.ndarray
    mse: np.ndarray
    num_samples: int


def bias_variance(
    *,
    estimators: Mapping[str, Estimator] = ESTIMATORS,
    furthest: float = 0.8,
    points: int = 33,
    num_samples: int = NUM_SAMPLES,
) -> BiasVariance:
    """The estimators of the chapter on its bandit, as the policy moves along the advantage to E|r - 1| = ``furthest``.

    Where Sample Dropout's rule lets go of an action or takes it back, the deviation stands twice: just before and just
    after, so that a jump is a jump.
    """
    bandit = five_actions()
    # At 0 all ratios are equal and the control variate has nothing to be fitted to: its line starts with a jump.
    deviations = _with_jumps(bandit, np.array([0, 1e-6, *np.linspace(0, furthest, points)[1:]]))
    ratio = torch.stack([ratio_at(*bandit, wanted=float(d)) for d in deviations])
    prob, advantage = (x.expand_as(ratio) for x in bandit)
    found = judge_many(estimators, prob, advantage, ratio, num_samples=num_samples)
    return BiasVariance(deviations, tuple(found), *np.stack(list(found.values()), 1), num_samples)


def _with_jumps(bandit: Bandit, deviations: np.ndarray) -> np.ndarray:
    """The deviations, and between them both sides of every place at which |r - 1| of an action passes DELTA."""

    def kept(deviation: float) -> Tensor:
        return ratio_dropout_mask(ratio_at(*bandit, wanted=float(deviation)), delta=DELTA)

    sides = []
    for left, right in itertools.pairwise(deviations):
        for action in (kept(left) != kept(right)).nonzero().flatten().tolist():
            low, high, before = left, right, kept(left)[action]
            while high - low > 1e-9:
                middle = (low + high) / 2
                low, high = (middle, high) if kept(middle)[action] == before else (low, middle)
            sides += [low, high]
    return np.unique([*deviations, *sides])


def draw_bias_variance(result: BiasVariance):
    """|bias|, variance and mean squared error against E|r - 1|, a line per estimator: (figure, alt)."""
    shown = [i for i, name in enumerate(result.names) if name != "SPO"]
    with style():
        figure, axes = panels(3, height=3.3, sharex=True)
        for panel, title, values in zip(
            axes[0],
            ("|bias|", "Variance", "Mean squared error"),
            (np.abs(result.bias), result.variance, result.mse),
            strict=True,
        ):
            top = 1.04 * values[shown].max()
            for i, name in enumerate(result.names):
                panel.plot(result.deviations, values[i], **LINE_OF[name])
            panel.set(xlim=(0, result.deviations[-1]), ylim=(-0.01 * top, top), title=title, xlabel="E|r − 1|")
            leaves = _leaves(result, values, top)
            if leaves is not None:
                panel.annotate(
                    "SPO", (leaves, top), (-8, -3), textcoords="offset points", ha="right", va="top", fontsize=9,
                    color=LINE_OF["SPO"]["color"],
                )  # fmt: skip
        last = [(result.mse[i, -1], result.names[i], LINE_OF[result.names[i]]["color"]) for i in shown]
        label_lines(axes[0, -1], last)
    near, end = int(np.abs(result.deviations - 0.3).argmin()), -1
    told = "; ".join(
        f"{name} {_signed(result.bias[i, near])}, {result.variance[i, near]:.3f} and {result.mse[i, near]:.3f}"
        for i, name in enumerate(result.names)
    )
    order = sorted(shown, key=lambda i: result.mse[i, end])
    ends = ", ".join(f"{result.names[i]} {result.mse[i, end]:.3f}" for i in order)
    alt = (
        f"Three panels against E|r - 1| from 0 to {result.deviations[-1]:g}: |bias|, variance and mean squared error "
        f"of estimators of the surrogate from {result.num_samples} samples, exactly. At {result.deviations[near]:.2g}, "
        f"bias, variance and mean squared error: {told}. Mean squared error at the right end, least first: {ends}. "
        "SPO's lines leave the panels at the top: its penalty is meant to bias."
    )
    return figure, alt


def _signed(x: float) -> str:
    """A bias with its sign; none where it rounds to zero."""
    return f"{x:+.3f}".replace("-", "−") if abs(x) >= 5e-4 else "0"


def _leaves(result: BiasVariance, values: np.ndarray, top: float) -> float | None:
    """Where SPO's line leaves a panel, if it does."""
    if "SPO" not in result.names:
        return None
    beyond = np.flatnonzero(values[result.names.index("SPO")] > top)
    return float(result.deviations[beyond[0]]) if len(beyond) else None


# ---------------------------------------------------------------- many bandits


class ManyBandits(NamedTuple):
    """Per direction and rule, over random bandits: mean squared error against plain's, [direction, rule, bandit].

    ``share`` [direction, rule] of the bandits where it is below one, ``low`` and ``high`` its 95% interval, ``even``
    the share where it is one, ``middle`` the median; ``reached`` is the share of all bandits drawn that could be moved
    as far as was asked.
    """

    directions: tuple[str, ...]
    rules: tuple[str, ...]
    against_plain: np.ndarray
    share: np.ndarray
    low: np.ndarray
    high: np.ndarray
    even: np.ndarray
    middle: np.ndarray
    reached: float
    moved: float
    num_samples: int


def many_bandits(
    *,
    estimators: Mapping[str, Estimator] = ESTIMATORS,
    moved: float = 0.3,
    draws: int = 1000,
    num_actions: int = 5,
    num_samples: int = 8,
    seed: int = 0,
) -> ManyBandits:
    """How often a rule estimates the surrogate better than the plain mean, over random bandits, exactly in each.

    Policies are uniform on the simplex, advantages normal and centred. The policy moves until E|r - 1| is ``moved``,
    along the advantage or along a normal direction. Bandits that cannot be moved as far along either are redrawn.
    """
    generator = torch.Generator().manual_seed(seed)
    prob, (along, random), reached = _random_bandits(draws, num_actions, moved, generator)
    columns = []
    for direction in (along, random):
        ratio = ratio_at(prob, direction, wanted=moved)
        found = judge_many(estimators, prob, along, ratio, num_samples=num_samples)
        mse = {name: moments[-1] for name, moments in found.items()}
        columns.append(np.stack([mse[name] / mse["plain"] for name in estimators if name != "plain"]))
    against = np.stack(columns)
    # A rule that does what plain does would be below it by rounding half the time.
    below, even = (against < 1 - 1e-9).mean(-1), (np.abs(against - 1) <= 1e-9).mean(-1)
    low, high = binomial_interval(below, draws)
    rules = tuple(name for name in estimators if name != "plain")
    return ManyBandits(
        (ALONG, RANDOM), rules, against, below, low, high, even, np.median(against, -1), reached, moved, num_samples
    )


def _random_bandits(
    draws: int, num_actions: int, moved: float, generator: torch.Generator
) -> tuple[Tensor, tuple[Tensor, Tensor], float]:
    """Policies [draw, action], their advantages and a normal direction, and the share of all drawn that is kept."""
    kept, tried = [], 0
    while sum(map(len, kept)) < draws:
        shape = (draws, num_actions)
        waiting = -torch.rand(shape, generator=generator, dtype=torch.float64).log()
        prob = waiting / waiting.sum(-1, keepdim=True)
        advantage, direction = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
        advantage = advantage - (prob * advantage).sum(-1, keepdim=True)
        far_enough = (reach(prob, advantage) > moved) & (reach(prob, direction) > moved)
        kept.append(torch.stack((prob, advantage, direction), 1)[far_enough])
        tried += draws
    found = torch.cat(kept)
    prob, advantage, direction = found[:draws].unbind(1)
    return prob, (advantage, direction), len(found) / tried


def binomial_interval(share: np.ndarray, count: int, *, z: float = 1.959964) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's 95% interval of a probability of which ``count`` trials showed ``share``: two arrays of its shape."""
    middle = share + z**2 / (2 * count)
    half = z * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    low, high = ((middle + side * half) / (1 + z**2 / count) for side in (-1, 1))
    return np.clip(low, 0, 1), np.clip(high, 0, 1)


def draw_many_bandits(result: ManyBandits):
    """The share of random bandits in which each rule beats the plain mean, a panel per direction: (figure, alt)."""
    order = np.argsort(result.share.mean(0), kind="stable")
    with style():
        figure, axes = panels(len(result.directions), height=2.9, sharey=True)
        for d, (panel, name) in enumerate(zip(axes[0], result.directions, strict=True)):
            panel.axvline(0.5, color=FAINT, linewidth=1)
            for place, rule in enumerate(order):
                color = LINE_OF[result.rules[rule]]["color"]
                panel.plot([result.low[d, rule], result.high[d, rule]], [place] * 2, color=color, linewidth=2.4,
                           solid_capstyle="round")  # fmt: skip
                panel.plot(result.share[d, rule], place, "o", color=color, markersize=6.5)
                left = result.share[d, rule] > 0.8
                panel.annotate(
                    _percent(result.share[d, rule]),
                    (result.low[d, rule] if left else result.high[d, rule], place),
                    (-6 if left else 6, 0), textcoords="offset points", va="center", ha="right" if left else "left",
                    fontsize=9.5, color=INK,
                )  # fmt: skip
            panel.set_xlim(-0.02, 1.02)
            panel.set_ylim(-0.6, len(order) - 0.4)
            panel.set_xticks((0, 0.25, 0.5, 0.75, 1), ("0%", "25%", "50%", "75%", "100%"))
            panel.set_yticks(range(len(order)), [result.rules[rule] for rule in order])
            panel.set_title(f"Moved {name}" if name == ALONG else "Moved in a random direction")
            panel.set_xlabel("bandits in which it beats plain")
    told = []
    for d, name in enumerate(("Along the advantage", "In a random direction")):
        ends = (result.share[d], result.low[d], result.high[d])
        shares = [[_percent(x[r]) for x in ends] for r in order[::-1]]
        words = (f"{result.rules[r]} {x} ({a} to {b})" for r, (x, a, b) in zip(order[::-1], shares, strict=True))
        told.append(f"{name}: {', '.join(words)}.")
    alt = (
        f"Share of {result.against_plain.shape[-1]} random bandits in which a rule's mean squared error from "
        f"{result.num_samples} samples is below that of the plain mean, with 95% intervals, after the policy moved by "
        f"E|r - 1| = {result.moved:g}. {' '.join(told)}"
    )
    return figure, alt


def _percent(share: float) -> str:
    """A share in percent; with a decimal where rounding would say all or none."""
    share = round(share, 3)
    return f"{share:.0%}" if 0.01 <= share <= 0.99 or share in (0, 1) else f"{share:.1%}"
