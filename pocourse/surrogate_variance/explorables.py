"""The explorables of chapter 3. Each comes in two halves: a pure function of its parameters, and what shows it.

``*_frame`` computes the arrays of one frame with the chapter's equations; the builder evaluates it on a grid and says
how the arrays look. The page computes nothing.
"""

import functools
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pocourse.lesson.explorable import Control, Curve, Explorable, Mark, Panel, Readout, compute
from pocourse.lesson.figures import FAINT, INK
from pocourse.surrogate_variance import bounds, estimators, truth
from pocourse.surrogate_variance.figures import (
    ALONG,
    DIRECTIONS,
    LINE_OF,
    MARKER_OF,
    RANDOM,
    direction_of,
    far,
    judge_many,
    ratio_at,
    tilted,
    with_rarest,
)

GOOD, BAD = "#009e73", "#aa4499"  # the classes A >= 0 and A < 0, as in chapter 2
CLASSES = {"A ≥ 0": GOOD, "A < 0": BAD}

# ---------------------------------------------------------------- what moving costs

STEPS = tuple(round(0.05 * i, 2) for i in range(41))
RAREST = (0.05, 0.02, 0.01)
LOWEST, HIGHEST = -4.0, 2.0  # powers of ten
TOP = 2.0  # of the panel with chi-square
AROUND = (-0.04, STEPS[-1] + 0.04)


def price_frame(*, t: float, direction: str, rare: float) -> dict[str, np.ndarray]:
    """The bandit whose policy has moved by t along a direction: what a sample of the surrogate costs, each a number.

    ``variance A ≥ 0``, ``bound A ≥ 0`` and so on are conditional on the sign class; ``far`` is E|r - 1|, ``total`` the
    variance over all actions.
    """
    bandit = with_rarest(rare)
    ratio = tilted(bandit.prob_old, t * direction_of(bandit, direction))
    positive = bandit.advantage >= 0
    found = {}
    for name, member in zip(CLASSES, (positive, ~positive), strict=True):
        part = bounds.sign_class(bandit.prob_old, ratio, bandit.advantage, member)
        found |= {f"variance {name}": part.variance, f"bound {name}": part.bound}
    found |= {
        "far": far(bandit.prob_old, ratio),
        "chi": bounds.chi_square(bandit.prob_old, ratio),
        "ess": bounds.effective_sample_size(bandit.prob_old, ratio),
        "total": bounds.surrogate_variance(bandit.prob_old, ratio, bandit.advantage),
    }
    return {name: value.numpy() for name, value in found.items()}


def price_of_moving() -> Explorable:
    """Variance in each sign class with its bound, chi-square and effective sample size, as a policy moves on a line."""
    controls = (
        Control("t", "step t", STEPS, 1.0, texts=[f"{t:.2f}" for t in STEPS], play=True),
        Control("direction", "direction u", DIRECTIONS, ALONG, "choice"),
        Control("rare", "rarest action", RAREST, RAREST[0], "choice", [f"p = {p:g}" for p in RAREST]),
    )
    found, steps = compute(price_frame, controls), np.array(STEPS)
    height = (1, len(DIRECTIONS), len(RAREST), 2)

    def line(name: str, values: np.ndarray, look: dict, label: str | None = None) -> Curve:
        return Curve(name, np.moveaxis(values, 0, -1)[None], steps, look, label=label)

    def here(name: str, values: np.ndarray, look: dict) -> Curve:
        at = steps.reshape(-1, 1, 1, 1)
        return Curve(f"{name}, here", values[..., None], at, {"size": 4.5, **look}, "points", "")

    def now(low: float, high: float) -> Curve:
        return Curve(
            "now",
            np.broadcast_to([low, high], height),
            np.broadcast_to(steps.reshape(-1, 1, 1, 1), (len(steps), 1, 1, 2)),
            {"color": FAINT, "linewidth": 1.4},
            label="",
        )

    powers = [now(LOWEST, HIGHEST)]
    for name, color in CLASSES.items():
        variance, bound = (np.log10(found[f"{key} {name}"]) for key in ("variance", "bound"))
        dashed = {"color": color, "linestyle": (0, (4, 2)), "linewidth": 1.6}
        powers += [
            line(f"variance, {name}", _within(variance), {"color": color}),
            line(f"bound, {name}", _within(bound), dashed),
            here(f"variance, {name}", _within(variance), {"color": color}),
            here(f"bound, {name}", _within(bound), {"color": color, "marker": "D"}),
        ]
    chi = np.where(found["chi"] <= 2 * TOP, found["chi"], np.nan)
    ess_look, chi_look = {"color": "#0072b2"}, {"color": "#b58900", "linestyle": (0, (9, 2))}
    sizes = [
        now(0.0, TOP),
        line("ESS/n", found["ess"], ess_look),
        line("χ²", chi, chi_look),
        here("ESS/n", found["ess"], ess_look),
        here("χ²", chi, {"color": "#b58900"}),
    ]
    told = [
        Readout(
            f"class_{i}",
            f"{name}: Var and bound",
            _pairs(found[f"variance {name}"], found[f"bound {name}"]),
        )
        for i, name in enumerate(CLASSES)
    ]
    return Explorable(
        "surrogate_variance.price",
        "What it costs to move",
        controls,
        (
            Panel("Variance of rA and its bound", "step t", "log₁₀ of the variance", AROUND,
                  (LOWEST, HIGHEST), powers, share=1.2),
            Panel("Samples left, and χ²", "step t", "ESS/n and χ²", AROUND, (0, TOP), sizes),
        ),
        "Five actions, the rarest with {rare}; the policy has moved by t = {t} along the direction u: {direction}. "
        "E|r − 1| is {far}. Variance of rA and its bound, within A ≥ 0: {class_0}; within A < 0: {class_1}. "
        "ESS/n is {ess}, χ² is {chi}. Lines show all of this against t from 0 to 2.",
        [
            Readout("far", "E|r − 1|", found["far"]),
            *told,
            Readout("ess", "ESS/n", found["ess"]),
            Readout("chi", "χ²", found["chi"]),
        ],
        "One unit of height on the left is a factor of ten: the distance from a line to its dashed bound is how loose "
        "the bound is. Both are conditional on the sign of A. A variance of zero, where all x of a class are equal, is "
        "far below the panel. ESS/n = 1/(1 + χ²); χ² leaves the panel at the top. The three directions have the same "
        "standard deviation under the old policy.",
    )  # fmt: skip


def _within(powers: np.ndarray) -> np.ndarray:
    """Powers of ten with a gap where they are far outside of the panel."""
    return np.where((powers >= LOWEST - 2) & (powers <= HIGHEST + 2), powers, np.nan)


def _pairs(variance: np.ndarray, bound: np.ndarray) -> np.ndarray:
    """Variance, bound, and how much of the bound is needed, in words."""
    texts = [
        f"{v:.3g} of {b:.3g} ({float(f'{100 * v / b:.2g}'):g}%)"
        for v, b in zip(variance.ravel().tolist(), bound.ravel().tolist(), strict=True)
    ]
    return np.array(texts).reshape(variance.shape)


# ---------------------------------------------------------------- who is dropped

SAMPLES = 60
SHIFTS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
RULES = ("clip", "Sample Dropout", "D-PPO", "keep all")
# One strength of each rule per place of the slider, weakest first.
EDGES = (0.5, 0.4, 0.35, 0.3, 0.25, 0.2, 0.15, 0.1, 0.05)
DELTAS = (1.0, 0.8, 0.6, 0.5, 0.4, 0.25, 0.2, 0.1, 0.05)
FRACTIONS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
STRENGTHS = tuple(range(len(FRACTIONS)))
LINKED = 0.6  # correlation of the advantage with the action
LEVELS = (-2.0, -1.0, -0.5, 0.5, 1.0, 2.0)
REACH, HIGH = 3.0, 3.5


class Batch(NamedTuple):
    """Samples of a policy that has moved: ratios and advantages, both [sample]."""

    ratio: Tensor
    advantage: Tensor


def gaussian_batch(moved: float, *, seed: int = 5) -> Batch:
    """The batch of a Gaussian policy N(0, 1) whose mean has moved by m, so that E|r - 1| = ``moved``, exactly.

    log r(a) = m a - m^2 / 2, and E|r - 1| = 2 erf(m / sqrt(8)). The advantage is 0.6 a plus noise of variance 0.64: the
    policy has moved where advantages are higher on average, not in every sample.
    """
    generator = torch.Generator().manual_seed(seed)
    action, noise = torch.randn(2, SAMPLES, generator=generator, dtype=torch.float64)
    shift = 8**0.5 * torch.erfinv(torch.tensor(moved / 2, dtype=torch.float64))
    return Batch((shift * action - shift**2 / 2).exp(), LINKED * action + (1 - LINKED**2) ** 0.5 * noise)


def kept_by(rule: str, batch: Batch, strength: int) -> Tensor:
    """Which samples a rule keeps at one of ``STRENGTHS``: bool [sample].

    Clip lets go of a sample by a gradient of zero: beyond the edge that its advantage pushes to.
    """
    ratio, advantage = batch
    if rule == "clip":
        beyond = torch.where(advantage >= 0, ratio > 1 + EDGES[strength], ratio < 1 - EDGES[strength])
        return ~beyond
    if rule == "Sample Dropout":
        return estimators.ratio_dropout_mask(ratio, delta=DELTAS[strength])
    if rule == "D-PPO":
        return estimators.sign_dropout_mask(ratio, advantage, drop_fraction=FRACTIONS[strength])
    return torch.ones_like(ratio, dtype=torch.bool)


def dropped_frame(*, rule: str, strength: int, moved: float) -> dict[str, np.ndarray]:
    """A batch and what a rule keeps of it.

    ``up`` and ``down`` are the ratios of the samples with A >= 0 and with A < 0, [sample], NaN where dropped;
    ``dropped`` those of all samples, NaN where kept. ``mean`` and ``all`` are the means of x = r A over the kept and
    over all samples; ``before`` and ``after`` [class] its variances within A >= 0 and A < 0, NaN where nobody is kept.
    """
    batch = gaussian_batch(moved)
    keep = kept_by(rule, batch, strength)
    positive = batch.advantage >= 0
    x = batch.ratio * batch.advantage
    moments = {"before": torch.ones_like(keep), "after": keep}
    kept = batch.ratio.masked_fill(~keep, torch.nan)
    found = {
        "up": kept[positive],
        "down": kept[~positive],
        "dropped": batch.ratio.masked_fill(keep, torch.nan),
        "mean": estimators.kept_mean(x, keep),
        "all": x.mean(),
        "count": keep.sum(),
    }
    for name, these in moments.items():
        members = [these & positive, these & ~positive]
        variances = [estimators.sample_moments(*batch, member)[1] for member in members]
        empty = torch.stack([~member.any() for member in members])
        found[name] = torch.stack(variances).masked_fill(empty, torch.nan)
    return {name: value.numpy() for name, value in found.items()}


def said_rule(rule: str, strength: int) -> str:
    """What a rule drops at a strength, in words."""
    return {
        "clip": f"pushed beyond 1 ± {EDGES[strength]:g}",
        "Sample Dropout": f"|r − 1| ≥ {DELTAS[strength]:g}",
        "D-PPO": f"smallest {FRACTIONS[strength]:.0%} of x per class",
        "keep all": "nothing",
    }[rule]


def who_is_dropped() -> Explorable:
    """Which of 60 samples each rule lets go of, and what that does to the mean and to the variances."""
    controls = (
        Control("rule", "rule", RULES, "D-PPO", "choice"),
        Control("strength", "strength", STRENGTHS, 4, texts=[f"{s} of {STRENGTHS[-1]}" for s in STRENGTHS]),
        Control("moved", "moved, E|r − 1|", SHIFTS, 0.3, texts=[f"{d:.2f}" for d in SHIFTS], play=True),
    )
    found = compute(dropped_frame, controls)
    advantage = gaussian_batch(SHIFTS[0]).advantage.numpy()
    dots = {"alpha": 0.85, "size": 4.6}
    thin = {"color": FAINT, "linewidth": 0.9, "linestyle": (0, (1, 2)), "alpha": 0.9}
    cloud = [
        *(Curve(f"x = {c:g}", *_level(c), thin, label="rA = ±0.5, ±1, ±2" if c == LEVELS[0] else "") for c in LEVELS),
        Curve("dropped", found["dropped"], advantage, {"color": FAINT, "size": 3.6}, "points"),
        Curve("A ≥ 0, kept", found["up"], advantage[advantage >= 0], {"color": GOOD, "marker": "^", **dots}, "points"),
        Curve("A < 0, kept", found["down"], advantage[advantage < 0], {"color": BAD, "marker": "v", **dots}, "points"),
    ]
    words = [
        Mark("text", (np.sign(c) * (REACH - 0.08), abs(c) / REACH + 0.09), f"{c:g}".replace("-", "−"), INK,
             "end" if c > 0 else "start")
        for c in LEVELS
        if abs(c) > 0.5
    ]  # fmt: skip
    means = found["mean"]
    along = np.moveaxis(means, 1, -1)[:, None]  # [rule, 1, moved, strength]
    same = np.broadcast_to(found["all"][:1, :1, :, None], (1, 1, len(SHIFTS), len(STRENGTHS)))
    strengths = np.array(STRENGTHS, dtype=float)
    low, high = (float(f(4 * x) / 4) for f, x in ((np.floor, means.min()), (np.ceil, means.max())))
    here = {"color": "#0072b2", "marker": "D", "size": 5.5}
    mean = [
        Curve("mean of all", same, strengths, {"color": INK, "linewidth": 1.6, "linestyle": (0, (4, 2))}),
        Curve("mean of the kept", along, strengths, {"color": "#0072b2"}),
        Curve("kept, here", means[..., None], strengths.reshape(1, -1, 1, 1), here, "points", ""),
    ]
    moments = ("before", "after")
    rules = np.array([[[said_rule(rule, s)] for s in STRENGTHS] for rule in RULES])
    return Explorable(
        "surrogate_variance.dropped",
        "Who is dropped",
        controls,
        (
            Panel("Sixty samples", "advantage A", "ratio r", (-REACH, REACH), (0, HIGH), cloud,
                  [Mark("hline", 1.0), Mark("vline", 0.0), *words], share=1.35),
            Panel("Mean of x = rA", "strength", "mean of x", (-0.2, STRENGTHS[-1] + 0.2), (low, high), mean),
        ),
        "60 samples, ratio against advantage, of a policy that has moved by E|r − 1| = {moved}. Rule {rule}, strength "
        "{strength}, drops: {drops}. It keeps {count}. The mean of x = rA is {mean} over the kept and {all} over all, "
        "a difference of {bias}. Variance of x within A ≥ 0 from {variance_0}, within A < 0 from {variance_1}.",
        [
            Readout("drops", "Dropped:", rules),
            Readout("count", "kept", np.vectorize(lambda n: f"{n} of {SAMPLES}")(found["count"])),
            Readout("mean", "mean of x, kept", means),
            Readout("all", "of all", found["all"]),
            Readout("bias", "difference", means - found["all"], "{:+.2f}"),
            *(
                Readout(f"variance_{i}", f"Var x, {name}:", _before_after(*(found[x][..., i] for x in moments)))
                for i, name in enumerate(CLASSES)
            ),
        ],
        "One batch of a Gaussian policy whose mean has moved. Clip does not take a sample out of the mean, only out of "
        "the gradient; its kept mean is that of the samples that still have one. D-PPO is our reconstruction of the "
        "rule, x = rA ranked within each sign of A.",
    )  # fmt: skip


def _level(c: float) -> tuple[np.ndarray, np.ndarray]:
    """The hyperbola r A = c inside the panel: ratios [1, 1, 1, point] and advantages [point]."""
    advantage = np.sign(c) * np.geomspace(abs(c) / HIGH, REACH, 24)
    return (c / advantage).reshape(1, 1, 1, -1), advantage


def _before_after(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    texts = [
        f"{b:.2f} to " + ("none left" if np.isnan(a) else f"{a:.2f}")
        for b, a in zip(before.ravel().tolist(), after.ravel().tolist(), strict=True)
    ]
    return np.array(texts).reshape(before.shape)


# ---------------------------------------------------------------- bias against variance

MOVED = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)
SIZES = (4, 8, 16)
DROPS = tuple(round(0.05 * i, 2) for i in range(11))
WIDTHS = (1.0, 0.8, 0.6, 0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1, 0.05)
SIDE = 2.5  # the panel's side, in units of plain's mean squared error
COSTS = (0.5, 1.0, 1.5, 2.0)
POINTS = ("plain", "clip", "control variate")
FAMILIES = {"D-PPO mask": DROPS, "Sample Dropout": WIDTHS}


@functools.cache
def frontier_frame(*, moved: float, n: int, direction: str) -> dict[str, np.ndarray]:
    """Squared bias and variance of the rules, in units of plain's mean squared error, every batch enumerated.

    ``D-PPO mask`` and ``Sample Dropout`` are [strength, 2], over DROPS and WIDTHS; ``plain``, ``clip`` and ``control
    variate`` [1, 2]; ``cost`` is plain's mean squared error itself.
    """
    bandit = truth.five_actions()
    ratio = ratio_at(bandit.prob_old, direction_of(bandit, direction), wanted=moved)
    rules = {
        **{(name, 0): truth.ESTIMATORS[name] for name in POINTS},
        **{("D-PPO mask", f): functools.partial(truth.dropped_by_sign, drop_fraction=f) for f in DROPS},
        **{("Sample Dropout", d): functools.partial(truth.dropped_by_ratio, delta=d) for d in WIDTHS},
    }
    moments = judge_many(rules, bandit.prob_old[None], bandit.advantage[None], ratio[None], num_samples=n)
    found = {}
    for (name, _), (bias, variance, _) in moments.items():
        found.setdefault(name, []).append((bias[0] ** 2, variance[0]))
    found = {name: np.array(pairs) for name, pairs in found.items()}
    cost = found["plain"].sum()
    return {name: values / cost for name, values in found.items()} | {"cost": cost}


def frontier() -> Explorable:
    """Squared bias against variance of every rule at every strength, against lines of equal mean squared error."""
    controls = (
        Control("moved", "moved, E|r − 1|", MOVED, 0.3, texts=[f"{d:.2f}" for d in MOVED], play=True),
        Control("n", "samples n", SIZES, 16, "choice"),
        Control("direction", "direction", (ALONG, RANDOM), ALONG, "choice"),
    )
    found = compute(frontier_frame, controls)
    cost = {name: found[name].sum(-1) for name in (*POINTS, *FAMILIES)}
    thin = {"color": FAINT, "linewidth": 1.0, "linestyle": (0, (1, 2))}
    plane = [
        Curve(f"cost {c:g}", np.array([c, 0.0]).reshape(1, 1, 1, 2), np.array([0.0, c]),
              thin | ({"linewidth": 1.8} if c == 1 else {}), label="equal mean squared error" if c == 1 else "")
        for c in COSTS
    ]  # fmt: skip
    strengths = np.arange(len(DROPS), dtype=float)
    errors = []
    for name in FAMILIES:
        x, y = _near(found[name][..., 0]), _near(found[name][..., 1])
        look, dots = {**LINE_OF[name], "linewidth": 1.6}, {"marker": MARKER_OF[name], "size": 4.2}
        plane += [
            Curve(name, y, x, look),
            Curve(f"{name}, dots", y, x, {"color": look["color"], **dots}, "points", ""),
        ]
        errors += [
            Curve(name, _near(cost[name]), strengths, look),
            Curve(f"{name}, dots", _near(cost[name]), strengths, {"color": look["color"], **dots}, "points", ""),
        ]
    for name in POINTS:
        x, y = _near(found[name][..., 0]), _near(found[name][..., 1])
        plane.append(
            Curve(name, y, x, {"color": LINE_OF[name]["color"], "marker": MARKER_OF[name], "size": 6.5}, "points")
        )
        errors.append(Curve(name, np.repeat(_near(cost[name]), 2, -1), strengths[[0, -1]], LINE_OF[name], label=""))
    words = [Mark("text", (c + 0.04, 0.1), f"{c:g}", INK) for c in COSTS]
    factor = "{:.2f}"
    return Explorable(
        "surrogate_variance.frontier",
        "Bias for variance",
        controls,
        (
            Panel("Bias against variance", "squared bias / plain's MSE", "variance / plain's MSE", (-0.08, SIDE),
                  (-0.08, SIDE), plane, words, equal=True),
            Panel("Mean squared error", "strength, weakest to strongest", "MSE / plain's MSE",
                  (-0.3, strengths[-1] + 0.3), (-0.08, SIDE), errors),
        ),
        "Squared bias against variance of estimators of the surrogate from {n} samples, exactly, in units of plain's "
        "mean squared error, which is {cost}; the policy has moved by E|r − 1| = {moved}, direction: {direction}. Mean "
        "squared error against plain's: clip {clip}, control variate {control}; the least of D-PPO's mask {dppo}, the "
        "least of Sample Dropout {sample}. On the right it stands against the strength, drop fraction 0 to 0.5 or δ 1 "
        "to 0.05.",
        [
            Readout("cost", "Plain's MSE", found["cost"], "{:.4f}"),
            Readout("clip", "against it: clip", cost["clip"][..., 0], factor),
            Readout("control", "control variate", cost["control variate"][..., 0], factor),
            Readout("dppo", "D-PPO mask, least", _least(cost["D-PPO mask"], DROPS, "drop {:g}")),
            Readout("sample", "Sample Dropout, least", _least(cost["Sample Dropout"], WIDTHS, "δ = {:g}")),
        ],
        "Dotted lines join equal mean squared errors (MSE), in units of plain's. Strength: the mask drops from 0 to "
        "half of each sign class, Sample Dropout keeps |r − 1| < δ from δ = 1 to 0.05, and everything where it would "
        "keep nothing. What is far outside is not drawn. SPO is left out: it is far off these axes, since its "
        "penalty is meant to bias.",
    )  # fmt: skip


def _near(values: np.ndarray) -> np.ndarray:
    """Gaps in place of what is more than twice as far out as the panel reaches."""
    return np.where(values <= 2 * SIDE, values, np.nan)


def _least(cost: np.ndarray, strengths: tuple[float, ...], form: str) -> np.ndarray:
    """The least over the last axis, and the weakest strength that has it, in words."""
    best = cost.min(-1, keepdims=True)
    first = (cost <= best * (1 + 1e-9)).argmax(-1)
    texts = [
        f"{value:.2f} at {form.format(strengths[at])}"
        for value, at in zip(best.ravel().tolist(), first.ravel().tolist(), strict=True)
    ]
    return np.array(texts).reshape(first.shape)


EXPLORABLES = {"price": price_of_moving, "dropped": who_is_dropped, "frontier": frontier}
