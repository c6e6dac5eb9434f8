"""The plots of the museum: each draws the arrays of a symptom and returns (figure, alt)."""

import math
from collections.abc import Callable

import numpy as np

from pocourse.diffusion_dpo.museum import symptoms
from pocourse.lesson.figures import FAINT, INK, LIMIT, LINES, band, panels, style

WRONG_LINE = {"color": LIMIT, "linestyle": "-"}
RIGHT_LINE = LINES[3]
RIGHT = RIGHT_LINE["color"]
TRUTH = {"color": INK, "linewidth": 1.0, "linestyle": (0, (2, 2))}


def draw(id: str):
    """Compute and draw the symptom of a piece, by its name or its id: (figure, alt)."""
    name = id.split(".")[-1]
    if name not in _DRAWN:
        raise ValueError(f"expected a piece of this chapter's museum; got {id!r}. There are: {', '.join(_DRAWN)}.")
    compute, drawing = _DRAWN[name]
    return drawing(compute())


def _ticks(axis, at, labels=None) -> None:
    axis.set_ticks(at, labels=[f"{x:g}" for x in at] if labels is None else labels)
    axis.set_ticks([], minor=True)


def _both(panel, x, values, *, lines=(RIGHT_LINE, WRONG_LINE)) -> list[np.ndarray]:
    """Right and wrong as bands over seeds; their means."""
    return [band(panel, x, value, line=line, resamples=300) for value, line in zip(values, lines, strict=True)]


def _said(panel, x: float, y: float, text: str, color: str, **options) -> None:
    panel.text(x, y, text, color=color, fontsize=9.5, **options)


# ---------------------------------------------------------------- a reference that is the policy


def draw_reference_that_learns(run: symptoms.Learned):
    """Loss and accuracy as the code sees them, and the divergence from the true reference."""
    last = run.time[-1]
    single = -math.log(symptoms.REFERENCE[symptoms.REWARD.argmax()].item())  # all on the outcome with the best reward
    with style():
        figure, axes = panels(3, height=3.1)
        left, middle, right = axes[0]
        loss = _both(left, run.time, run.loss)
        left.set_ylim(0.635, 0.702)
        left.set_title("Loss, as logged")
        _said(left, last, 0.6905, "wrong: log 2, for ever", LIMIT, ha="right", va="top")
        _said(left, last, 0.6645, "right", RIGHT, ha="right")
        accuracy = _both(middle, run.time, run.accuracy)
        middle.set_ylim(0.46, 0.70)
        middle.set_title("Accuracy, as logged")
        _said(middle, last, 0.492, "wrong: one half", LIMIT, ha="right", va="top")
        _said(middle, last, 0.64, "right", RIGHT, ha="right", va="bottom")
        apart = _both(right, run.time, run.divergence)
        right.axhline(run.gibbs, **TRUTH)
        right.axhline(single, **TRUTH)
        right.set_ylim(0, 2.8)
        right.set_title("KL from the reference")
        _said(right, last, 2.56, "a single outcome", INK, ha="right", va="bottom")
        _said(right, last, 1.95, "wrong", LIMIT, ha="right", va="top")
        _said(right, last, 0.45, "right, and Gibbs", RIGHT, ha="right", va="bottom")
        for panel in (left, middle, right):
            panel.set_xlim(0, last)
            panel.set_xlabel("step")
    alt = (
        f"Left: the loss that the code computes along {last} steps of gradient descent, bands over "
        f"{run.loss.shape[-1]} seeds: the right code's falls from {loss[0][0]:.3f} to {loss[0][-1]:.3f}, the wrong "
        f"one's stays at {loss[1][-1]:.3f}, which is log 2. Middle: the accuracy it computes: right from "
        f"{accuracy[0][0]:.2f} to {accuracy[0][-1]:.2f}, wrong {accuracy[1][-1]:.2f} throughout. Right: the divergence "
        f"from the true reference. The right code's ends at {apart[0][-1]:.2f}, beside {run.gibbs:.2f} of the Gibbs "
        f"policy; the wrong one's goes on to {apart[1][-1]:.2f}, near the {single:.2f} of a policy with a single "
        f"outcome."
    )
    return figure, alt


# ---------------------------------------------------------------- one sigmoid for a batch


def draw_sigmoid_of_the_mean(run: symptoms.Together):
    """Weights against margins, policies at the largest batch, divergence against the size of the batch."""
    with style():
        figure, axes = panels(3, height=3.1)
        left, middle, right = axes[0]
        left.plot(run.margin[1], run.weight[1], "_", color=LIMIT, markersize=5, alpha=0.9)
        left.plot(run.margin[0], run.weight[0], "o", color=RIGHT, markersize=2.6, alpha=0.8)
        left.set_xlim(-5, 7)
        left.set_ylim(-0.03, 1.03)
        left.set_title("Weight of a pair")
        left.set_xlabel("its margin z")
        _said(left, -0.9, 0.86, "its own sigmoid", RIGHT)
        _said(left, 6.9, 0.55, "that of\nthe mean", LIMIT, ha="right")
        outcome = np.arange(1, symptoms.OUTCOMES + 1)
        middle.bar(outcome, run.gibbs[0], width=0.62, color="#dcd9d0", zorder=1)
        for policy, colour, mark, shift in (
            (run.policy[0, -1], RIGHT, "o", -0.1),
            (run.policy[1, -1], LIMIT, "D", 0.1),
        ):
            middle.plot(outcome + shift, policy.mean(0), mark, color=colour, markersize=5.5, zorder=3)
        middle.set_xticks(outcome)
        middle.set_ylim(0, 1.06)
        middle.set_title(f"Learned, {run.size[-1]} pairs a batch")
        middle.set_xlabel("outcome")
        _said(middle, 0.6, 0.36, "right, and\nGibbs (bars)", RIGHT)
        _said(middle, 4.7, 0.985, "wrong", LIMIT, ha="right", va="center")
        apart = _both(right, run.size, run.divergence)
        right.plot(run.size, run.gibbs_divergence, "o", color=INK, markersize=5, markerfacecolor="none", zorder=4)
        right.set_xscale("log")
        right.set_xlim(0.9, run.size[-1] * 1.1)
        _ticks(right.xaxis, run.size)
        right.set_ylim(0, 2.8)
        right.set_title("KL from the reference")
        right.set_xlabel("pairs a batch, B")
        _said(right, 2.6, 1.45, "wrong", LIMIT, ha="right")
        _said(right, 4.6, 1.0, "Gibbs of β/B", INK)
        _said(right, 16, 0.14, "right", RIGHT, ha="right", va="bottom")
    shared = run.weight[1][:, 0]
    alt = (
        f"Left: how hard the pairs of {len(shared)} batches of {run.weight.shape[-1]} are pulled, against their "
        f"margins: with their own sigmoids along a falling curve, with that of the mean at one level per batch, from "
        f"{shared.min():.2f} to {shared.max():.2f}. Middle: policies over six outcomes after batches of "
        f"{run.size[-1]}: the right code gives {_listed(run.policy[0, -1].mean(0))}, which is the Gibbs policy, the "
        f"wrong one {_listed(run.policy[1, -1].mean(0))}. Right: their divergence from the reference against the size "
        f"of the batch, bands over {run.divergence.shape[-1]} seeds. The right code's stays at {apart[0][-1]:.2f}; "
        f"the wrong one's is {_listed(apart[1])} for {_listed(run.size, 0)} pairs, beside "
        f"{_listed(run.gibbs_divergence)} of the Gibbs policies of beta/B."
    )
    return figure, alt


def _listed(numbers, digits: int = 2) -> str:
    return ", ".join(f"{x:.{digits}f}" for x in numbers)


# ---------------------------------------------------------------- an error for a log-probability


def draw_error_taken_for_logp(run: symptoms.Preferred):
    """The loss along training, the mean that is learned and the order of fresh pairs, against the weight."""
    last, seeds = run.time[-1], run.loss.shape[-1]
    with style():
        figure, axes = panels(3, height=3.1)
        left, middle, right = axes[0]
        loss = _both(left, run.time, run.loss)
        left.set_xlim(0, last)
        left.set_ylim(0.50, 0.61)
        left.set_title(f"Loss, weight {run.published:g}")
        left.set_xlabel("step")
        _said(left, last, 0.552, "wrong", LIMIT, ha="right", va="bottom")
        _said(left, last, 0.521, "right", RIGHT, ha="right", va="top")
        mean = _both(middle, run.weight, run.mean)
        for level, text, side in (
            (run.winners.mean(), "chosen ones", "bottom"),
            (0.0, "the reference", "bottom"),
            (run.losers.mean(), "rejected ones", "top"),
        ):
            middle.axhline(level, **TRUTH)
            _said(middle, 1.97, level + (0.02 if side == "bottom" else -0.03), text, INK, va=side, ha="right")
        middle.set_ylim(-0.56, 1.12)
        middle.set_title("Mean that is learned")
        _said(middle, 1.62, 0.97, "right", RIGHT, ha="right")
        _said(middle, 0.42, 0.05, "wrong", LIMIT, ha="right")
        ordered = _both(right, run.weight, run.ordered)
        right.axhline(0.5, **TRUTH)
        right.set_ylim(0.42, 0.70)
        right.set_title("Chosen denoised better")
        _said(right, 1.5, 0.665, "right", RIGHT, ha="right")
        _said(right, 1.5, 0.452, "wrong", LIMIT, ha="right")
        _said(right, 1.97, 0.505, "as often as not", INK, ha="right", va="bottom")
        for panel in (middle, right):
            panel.set_xlim(0, run.weight[-1])
            panel.set_xticks([0, 0.5, 1, 1.5, 2], labels=["0", "0.5", "1", "1.5", "2"])
            panel.set_xlabel("weight λ")
    one = int(np.flatnonzero(run.weight == 1)[0])
    alt = (
        f"Left: both losses along gradient descent with weight {run.published:g}, bands over {seeds} seeds: the right "
        f"one falls from {loss[0][0]:.3f} to {loss[0][-1]:.3f}, the wrong one from {loss[1][0]:.3f} to "
        f"{loss[1][-1]:.3f}. Middle: the mean that is learned, against the weight. Without the comparison it is "
        f"{mean[0][0]:.2f}, that of the chosen ones. The right comparison takes it to {mean[0][-1]:.2f}, the wrong "
        f"one to {mean[1][one]:.2f} at weight 1 and {mean[1][-1]:.2f} at weight 2, towards the "
        f"{run.losers.mean():.2f} of the rejected ones. Right: the share of fresh pairs of which the chosen number is "
        f"denoised better: from {ordered[0][0]:.2f} up to {ordered[0][-1]:.2f} with the right comparison, down to "
        f"{ordered[1][-1]:.2f} with the wrong one."
    )
    return figure, alt


# ---------------------------------------------------------------- beta, twice


def draw_beta_twice(run: symptoms.Leashes):
    """Loss and divergence along training with one beta, and the divergence at the end for every beta."""
    last, seeds = run.time[-1], run.loss.shape[-1]
    shown = np.unique(np.geomspace(1, last, 90).round().astype(int))
    with style():
        figure, axes = panels(3, height=3.1)
        left, middle, right = axes[0]
        loss = _both(left, run.time[shown], run.loss[:, shown])
        left.set_ylim(0.635, 0.702)
        left.set_title(f"Loss, β = {run.trained:g}")
        _said(left, 1.25, 0.655, "right", RIGHT)
        _said(left, 14, 0.679, "wrong", LIMIT)
        apart = _both(middle, run.time[shown], run.divergence[:, shown])
        middle.set_ylim(0, 2.8)
        middle.set_title("KL on the way")
        _said(middle, 1.25, 0.9, "right", RIGHT)
        _said(middle, 36, 2.05, "wrong", LIMIT, ha="right")
        for panel in (left, middle):
            panel.set_xscale("log")
            panel.set_xlim(1, last)
            _ticks(panel.xaxis, (1, 10, 100))
            panel.set_xlabel("step")
        end = _both(right, run.beta, run.end)
        for gibbs in run.gibbs:
            right.plot(run.beta, gibbs, **TRUTH)
        right.axvline(1, color=FAINT, linewidth=0.8, zorder=1)
        right.set_xscale("log")
        right.set_xlim(run.beta[0], run.beta[-1])
        _ticks(right.xaxis, (0.1, 0.3, 1, 3, 10))
        right.set_ylim(0, 2.8)
        right.set_title("KL at the end")
        right.set_xlabel("β that was set")
        _said(right, 0.115, 1.35, "right,\nGibbs\nof β", RIGHT, va="top")
        _said(right, 0.62, 1.75, "wrong,\nGibbs of β²", LIMIT)
    at = int(np.abs(run.beta - 0.1**0.5).argmin())
    alt = (
        f"Left: the loss along {last} steps of gradient descent with beta {run.trained:g}, bands over {seeds} seeds, "
        f"steps on a logarithmic axis. Both fall from {run.loss[0, 0].mean():.3f}; after {shown[5]} steps the right "
        f"one is at {loss[0][5]:.3f} and the wrong one at {loss[1][5]:.3f}, and the least loss of either is "
        f"{run.least[0].mean():.3f}. Middle: the divergence from the reference. The right code's is "
        f"{apart[0][-1]:.2f} at the end, the wrong one's {apart[1][-1]:.2f} and rising. Right: the divergence at the "
        f"end, for beta from {run.beta[0]:g} to {run.beta[-1]:g}, on the curves of the Gibbs policies of beta and of "
        f"its square, which cross at beta = 1. At {run.beta[at]:.2f} it is {end[0][at]:.2f} for the right code and "
        f"{end[1][at]:.2f} for the wrong one."
    )
    return figure, alt


_DRAWN: dict[str, tuple[Callable, Callable]] = {
    "reference_that_learns": (symptoms.reference_that_learns, draw_reference_that_learns),
    "sigmoid_of_the_mean": (symptoms.sigmoid_of_the_mean, draw_sigmoid_of_the_mean),
    "error_taken_for_logp": (symptoms.error_taken_for_logp, draw_error_taken_for_logp),
    "beta_twice": (symptoms.beta_twice, draw_beta_twice),
}
