"""The figures of chapter 2. Each comes in two halves: a function that computes arrays, and one that draws them.

The arrays are what the tests check and what the text quotes; the drawing adds nothing to them.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from pocourse.engine import MLP, SeedStreams
from pocourse.engine.fixed_batch import fixed_batch
from pocourse.lesson.bands import bootstrap_band, interquartile_mean
from pocourse.lesson.figures import INK, LIMIT, LINES, panels, style
from pocourse.ratio_clipping import bounds
from pocourse.ratio_clipping.claims.instances import taken
from pocourse.ratio_clipping.objectives import (
    clip_objective,
    importance_loss,
    importance_objective,
    ppo_clip_loss,
    rollback_objective,
    simple_aligned_objective,
    spo_loss,
    spo_objective,
)
from pocourse.worlds import contextual_batch, random_mdp, random_policy, two_state_mdp

EPS = 0.2


def objectives_at(eps: float) -> dict[str, Callable]:
    """The chapter's objectives f(ratio, advantage) by the names they have in its figures, for one eps."""
    return {
        "unclipped": importance_objective,
        "PPO": partial(clip_objective, clip_eps=eps),
        "PPO-RB": partial(rollback_objective, clip_eps=eps),
        "SPO": partial(spo_objective, eps=eps),
        "simple": partial(simple_aligned_objective, eps=eps),
    }


OBJECTIVES = objectives_at(EPS)
LINE_OF = dict(
    zip(("unclipped", "PPO", "KL penalty", "SPO", "PPO-RB", "simple"), LINES, strict=True)
)  # one look per objective in all figures of the chapter


# ---------------------------------------------------------------- objective and gradient against the ratio


def value_and_slope(function: Callable, ratio: np.ndarray, advantage: float) -> tuple[np.ndarray, np.ndarray]:
    """A function f(ratio, advantage) and df/dr at the ratios, for one advantage: each [point], by autograd."""
    r = torch.tensor(ratio, dtype=torch.float64, requires_grad=True)
    value = function(r, torch.full_like(r, advantage))
    (slope,) = torch.autograd.grad(value.sum(), r)
    return value.detach().numpy(), slope.numpy()


# ---------------------------------------------------------------- the contextual softmax batch


class SoftmaxBatch(NamedTuple):
    """What 300 steps on one batch do: ratios at ``epochs`` [epoch, method, seed, sample], means at every epoch."""

    epochs: np.ndarray
    ratio: np.ndarray
    deviation: np.ndarray
    kl: np.ndarray
    advantage: np.ndarray
    methods: tuple[str, ...]


SOFTMAX_METHODS = {
    "unclipped": importance_loss,
    "PPO": partial(ppo_clip_loss, clip_eps=EPS),
    "SPO": partial(spo_loss, eps=EPS),
}


def softmax_batch(
    depth: int,
    *,
    methods: Mapping[str, Callable] = SOFTMAX_METHODS,
    num_seeds: int = 8,
    num_epochs: int = 300,
    kept: int = 13,
    seed: int = 0,
) -> SoftmaxBatch:
    """Train a softmax policy with ``depth`` hidden layers of 64 on the contextual batch, all methods and seeds at once.

    Shapes: deviation = mean over samples of |r - 1| and kl = KL(old || new), both [epoch, method, seed] at every
    epoch; the ratios themselves at ``kept`` evenly spaced epochs, or all of a shorter run.
    """
    batch = contextual_batch(num_seeds=num_seeds, generator=torch.Generator().manual_seed(seed))
    network = MLP((batch.context.shape[-1], *(64,) * depth, batch.num_actions), head_gain=0.01)
    stream = fixed_batch(network, SeedStreams(range(num_seeds)), batch, methods, num_epochs=num_epochs)
    epochs = np.linspace(0, num_epochs, kept).round().astype(int)
    epochs = np.unique(epochs)  # a short run has fewer epochs than are to be kept
    ratios, deviations, kls = [], [], []
    for epoch, (ratio, kl) in enumerate(stream):
        deviations.append((ratio - 1).abs().mean(-1))
        kls.append(kl)
        if epoch in epochs:
            ratios.append(ratio)
    arrays = (torch.stack(x).numpy() for x in (ratios, deviations, kls))
    return SoftmaxBatch(epochs, *arrays, batch.advantage.numpy(), tuple(methods))


def softmax_table(runs: dict[int, SoftmaxBatch]) -> dict[tuple[int, str], dict[str, np.ndarray]]:
    """After the last epoch, per depth and method: statistics of the ratios, each [seed].

    ``deviation`` E|r-1|, ``largest`` ratio, ``outside`` share with |r-1| > 1.05 eps, ``gain`` E[rA] - E[A], ``kl``.
    """
    rows = {}
    for depth, run in runs.items():
        for m, method in enumerate(run.methods):
            r, a = run.ratio[-1, m], run.advantage
            rows[depth, method] = {
                "deviation": np.abs(r - 1).mean(-1),
                "largest": r.max(-1),
                # A twentieth of eps beyond the edge counts as on it: SPO's optimum *is* the edge.
                "outside": (np.abs(r - 1) > 1.05 * EPS).mean(-1),
                "gain": ((r - 1) * a).mean(-1),
                "kl": run.kl[-1, m],
            }
    return rows


def softmax_markdown(runs: dict[int, SoftmaxBatch]) -> str:
    """The table of ``softmax_table`` in Markdown: interquartile mean over the seeds, with its 95% band."""
    columns = ("hidden layers", "objective", r"E\|r − 1\|", "largest ratio", r"\|r − 1\| > 1.05 ε")
    columns += ("gain E[rA] − E[A]", "KL(old‖new)")
    lines = ["| " + " | ".join(columns) + " |\n", "|---|---|---|---|---|---|---|\n"]
    for (depth, method), row in softmax_table(runs).items():
        cells = []
        for values in row.values():
            low, high = bootstrap_band(values)
            cells.append(f"{interquartile_mean(values):.3g} ({low:.3g} to {high:.3g})")
        lines.append(f"| {depth} | {method} | " + " | ".join(cells) + " |\n")
    return "".join(lines)


def draw_ratio_scatter(runs: dict[int, SoftmaxBatch]):
    """Every sample's ratio against the step, PPO above SPO, a column per depth, for the first seed: (figure, alt)."""
    jitter = np.random.default_rng(0)
    methods, top = ("PPO", "SPO"), 2.3
    with style():
        figure, axes = panels(len(runs), len(methods), height=2.55, sharex=True, sharey=True)
        for row, method in enumerate(methods):
            for column, (depth, run) in enumerate(runs.items()):
                panel, ratio = axes[row, column], run.ratio[:, run.methods.index(method), 0]
                good = run.advantage[0] > 0
                panel.axhspan(1 - EPS, 1 + EPS, color="#000000", alpha=0.05, linewidth=0)
                for edge in (1 - EPS, 1 + EPS):
                    panel.axhline(edge, color=LIMIT, linewidth=0.9)
                for mask, color, marker in ((good, "#0072b2", "^"), (~good, "#d55e00", "v")):
                    x = run.epochs[:, None] + jitter.uniform(-8, 8, (len(run.epochs), mask.sum()))
                    y = np.clip(ratio[:, mask], None, top)
                    panel.scatter(x, y, s=5, color=color, marker=marker, alpha=0.35, linewidths=0)
                panel.set_title(f"{method}, " + (f"{depth} hidden layer" + "s" * (depth != 1) if depth else "linear"))
                panel.set_ylim(0.0, top)
            axes[row, 0].set_ylabel("ratio r")
        for panel in axes[-1]:
            panel.set_xlabel("step")
        note = axes[0, 0]
        note.text(0.03, 0.93, "▲ A > 0", color="#0072b2", transform=note.transAxes, fontsize=9)
        note.text(0.03, 0.06, "▼ A < 0", color="#d55e00", transform=note.transAxes, fontsize=9)
    shares = "; ".join(
        f"{depth} hidden layers: PPO {100 * table['PPO']:.0f}%, SPO {100 * table['SPO']:.0f}%"
        for depth, table in (
            (d, {m: float(softmax_table({d: run})[d, m]["outside"][0]) for m in methods}) for d, run in runs.items()
        )
    )
    alt = (
        f"Scatter of the 256 ratios of one seed against the step, PPO above SPO, one column per depth. Red lines mark "
        f"1 - {EPS:g} and 1 + {EPS:g}. Samples with A > 0 rise, those with A < 0 fall. A cloud "
        f"that leaves the range is dragged by the others. More than a twentieth of eps beyond it at the end: {shares}."
    )
    return figure, alt


# ---------------------------------------------------------------- how tight the bounds are


class Tightness(NamedTuple):
    """Per gamma: |gap| / penalty of random MDPs for two bounds, of the extremal family; certified mixture weights."""

    gammas: tuple[float, ...]
    average_tv: np.ndarray
    trpo: np.ndarray
    extremal: np.ndarray
    certified: np.ndarray


def tightness(*, gammas: tuple[float, ...] = (0.5, 0.9, 0.99), draws: int = 1000, seed: int = 0) -> Tightness:
    """How much of each penalty is ever needed: random MDPs (5 states, 3 actions) against the two-state family.

    Shapes: average_tv, trpo, certified [gamma, draw]; extremal [gamma]. ``certified`` is the largest weight of a
    mixture towards the greedy policy of which the average-TV bound still says that it does no harm.
    """
    generator = torch.Generator().manual_seed(seed)
    columns = []
    for gamma in gammas:
        mdp = random_mdp(num_states=5, num_actions=3, gamma=gamma, batch=(draws,), generator=generator)
        pi, new = (random_policy((draws, 5, 3), generator=generator) for _ in range(2))
        step = taken(mdp, pi, new)
        adv, d, gap = step.advantage, step.occupancy, step.gap.abs()
        greedy = torch.nn.functional.one_hot(adv.argmax(-1), 3).double()
        columns.append(
            (
                gap / bounds.average_tv_penalty(d, pi, new, adv, gamma=gamma),
                gap / bounds.trpo_penalty(pi, new, adv, gamma=gamma),
                _extremal_tightness(gamma),
                bounds.certified_mixture(d, pi, greedy, adv, gamma=gamma),
            )
        )
    return Tightness(gammas, *(torch.stack(column).numpy() for column in zip(*columns, strict=True)))


def _extremal_tightness(gamma: float, mixture: float = 1e-3) -> torch.Tensor:
    """|gap| / average-TV penalty on the two-state family: one step towards leaving, then always the costly action."""
    mdp = two_state_mdp(gain=1 / mixture, loss=1.0, gamma=gamma)
    pi = torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    new = torch.tensor([[1 - mixture, mixture], [0.0, 1.0]], dtype=torch.float64)
    step = taken(mdp, pi, new)
    return step.gap.abs() / bounds.average_tv_penalty(step.occupancy, pi, new, step.advantage, gamma=gamma)


def draw_tightness(result: Tightness):
    """Left: how much of each penalty random MDPs need, and the family that needs it all. Right: certified steps."""
    with style():
        figure, axes = panels(2, height=3.4, width_ratios=(1.35, 1))
        left, right = axes[0]
        for index in range(len(result.gammas)):
            for offset, values, color, marker, name in (
                (0.13, result.average_tv[index], "#0072b2", "o", "average TV"),
                (-0.13, result.trpo[index], "#d55e00", "s", "TRPO"),
            ):
                low, middle, high = np.quantile(values, (0.05, 0.5, 0.95))
                left.plot([low, high], [index + offset] * 2, color=color, linewidth=2.2, solid_capstyle="round")
                left.plot(middle, index + offset, marker, color=color, markersize=6.5)
                if index == len(result.gammas) - 1:
                    left.text(middle, index + offset + 0.13 * np.sign(offset), name, color=color, fontsize=9.5,
                              ha="center", va="bottom" if offset > 0 else "top")  # fmt: skip
            left.plot(result.extremal[index], index + 0.13, "*", color=INK, markersize=12)
        left.text(0.8, 0.34, "the two-state family\nneeds nearly all of it", ha="right", va="center", fontsize=9)
        left.set_xscale("log")
        left.set_xlim(1.2e-5, 1.7)
        left.set_ylim(-0.5, len(result.gammas) - 0.35)
        left.set_yticks(range(len(result.gammas)), [f"γ = {g:g}" for g in result.gammas])
        left.set_xlabel("share of the penalty that is needed, |gap| / penalty")
        left.set_title("Loose on average, and cannot be improved")
        low, middle, high = np.quantile(result.certified, (0.05, 0.5, 0.95), axis=1)
        x = range(len(result.gammas))
        right.vlines(x, low, high, color="#0072b2", linewidth=2.2)
        right.plot(x, middle, "o", color="#0072b2", markersize=6.5)
        for i, value in enumerate(middle):
            right.annotate(
                f"{100 * value:.2g}%", (i, value), (9, 0), textcoords="offset points", va="center", fontsize=9.5
            )
        right.set_yscale("log")
        right.set_xlim(-0.4, len(result.gammas) - 0.4)
        right.set_xticks(x, [f"γ = {g:g}" for g in result.gammas])
        right.set_ylabel("mixture weight certified")
        right.set_title("How far one may step")
    alt = (
        "Left: share of the penalty that random MDPs need, median with the range from 5 to 95 percent, for the "
        f"average-TV and the TRPO bound at {len(result.gammas)} discounts; a two-state family, a star, needs more: "
        + ", ".join(f"{x:.3f} at gamma {g:g}" for g, x in zip(result.gammas, result.extremal, strict=True))
        + ". Right: the mixture weight towards the greedy policy that the average-TV bound certifies, median "
        + ", ".join(f"{x:.2g} at gamma {g:g}" for g, x in zip(result.gammas, middle, strict=True))
        + "."
    )
    return figure, alt
