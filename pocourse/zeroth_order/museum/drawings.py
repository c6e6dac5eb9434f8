"""The plots of the museum: each draws the arrays of a symptom and returns (figure, alt)."""

from collections.abc import Callable

import numpy as np

from pocourse.lesson.figures import FAINT, INK, LIMIT, LINES, band, panels, style
from pocourse.zeroth_order.museum import symptoms
from pocourse.zeroth_order.museum.symptoms import DIVIDED

WRONG_LINE = {"color": LIMIT, "linestyle": "-"}
RIGHT_LINE = LINES[3]
OTHER_LINE = LINES[1]
RIGHT, OTHER = RIGHT_LINE["color"], OTHER_LINE["color"]


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


# ---------------------------------------------------------------- K − 1


def draw_borrowed_minus_one(run: symptoms.Lengths):
    """Mean lengths against K, and what SGD and Adam leave of f against the learning rate."""
    lines = dict(zip(DIVIDED, (RIGHT_LINE, WRONG_LINE, OTHER_LINE, LINES[2]), strict=True))
    with style():
        figure, axes = panels(3, height=3.1)
        left, middle, right = axes[0]
        means = {
            name: band(left, run.count, run.length[:, i], line=lines[name], resamples=300)
            for i, name in enumerate(DIVIDED)
        }
        left.set_xscale("log")
        left.set_xlim(run.count[0], run.count[-1])
        _ticks(left.xaxis, run.count)
        left.set_ylim(0.3, 2.05)
        left.set_title("Mean length")
        left.set_xlabel("directions K")
        left.text(2.9, 1.60, "f(θ), over K − 1", color=LIMIT, fontsize=9.5)
        left.text(2.1, 1.03, "f(θ), over K", color=RIGHT, fontsize=9.5, va="bottom")
        left.text(2.1, 0.955, "mean, over K − 1", color=lines[DIVIDED[3]]["color"], fontsize=9.5, va="top")
        left.text(3.2, 0.60, "mean, over K", color=OTHER, fontsize=9.5, va="top")
        falls = []
        for panel, values, name in ((middle, run.left[0], "SGD"), (right, run.left[1], "Adam")):
            dashed = {**WRONG_LINE, "linestyle": (0, (4, 3))} if name == "Adam" else WRONG_LINE
            falls.append([band(panel, run.rate, values[:, i], line=line, resamples=300)
                          for i, line in enumerate((RIGHT_LINE, dashed))])  # fmt: skip
            panel.set_xscale("log")
            panel.set_yscale("log")
            panel.set_xlim(run.rate[0], run.rate[-1])
            panel.set_ylim(3e-4, 1)
            _ticks(panel.xaxis, (0.02, 0.05, 0.1, 0.2))
            _ticks(panel.yaxis, (1e-3, 1e-2, 1e-1, 1), ("0.001", "0.01", "0.1", "1"))
            panel.set_title(f"f that is left: {name}")
            panel.set_xlabel(f"learning rate, K = {run.directions}")
        middle.text(0.0215, 0.0008, "over K − 1", color=LIMIT, fontsize=9.5, va="top")
        middle.text(0.043, 0.03, "over K", color=RIGHT, fontsize=9.5)
        right.text(0.045, 0.1, "both", color=INK, fontsize=9.5)
    three = int(np.flatnonzero(run.count == 3)[0])
    sgd, sgd_wrong, adam = *falls[0], falls[1][0]
    alt = (
        f"Left: mean lengths of four estimates against K, of the true gradient, bands over {run.length.shape[-1]} "
        f"seeds. f(theta) over K stays at 1, the mean of the batch over K - 1 as well; f(theta) over K - 1 falls from "
        f"{means[DIVIDED[1]][0]:.2f} at K = 2 and {means[DIVIDED[1]][three]:.2f} at K = 3 towards 1, the mean over K "
        f"rises from {means[DIVIDED[2]][0]:.2f}. Middle: what SGD with K = {run.directions} leaves of f in "
        f"{run.steps} steps. At the learning rate {run.rate[0]:g} it is {sgd[0]:.3f} for K and {sgd_wrong[0]:.3f} for "
        f"K - 1; at {run.rate[-1]:.2f} it is {sgd[-1]:.2f} for K, and K - 1 has run away. Right: the same with Adam, "
        f"where both are {adam[0]:.3f} at {run.rate[0]:g} and nowhere differ."
    )
    return figure, alt


# ---------------------------------------------------------------- a baseline in pairs


def draw_baseline_that_cancels(run: symptoms.Baselines):
    """Runs with pairs, runs with independent directions, and how far apart two estimates are."""
    names = symptoms.RUNS
    lines = (RIGHT_LINE, {**WRONG_LINE, "linestyle": (0, (4, 3))}, LINES[0], RIGHT_LINE, WRONG_LINE)
    with style():
        figure, axes = panels(3, height=3.1)
        left, middle, right = axes[0]
        means = []
        for (kind, _), value, line in zip(names, run.value, lines, strict=True):
            panel = left if kind == symptoms.PAIRS else middle
            means.append(band(panel, run.time, value, line=line, resamples=300))
        for panel, title in ((left, "Pairs: f"), (middle, "Independent: f")):
            panel.set_xlim(0, run.time[-1])
            panel.set_ylim(0, 33)
            panel.set_title(title)
            panel.set_xlabel("step")
        left.text(8, 5.6, "baseline,\nand none", color=INK, fontsize=9.5, va="top")
        left.text(295, 13.2, "no memory", color=LINES[0]["color"], fontsize=9.5, ha="right")
        middle.text(295, 23.6, "no baseline", color=LIMIT, fontsize=9.5, ha="right", va="top")
        middle.text(150, 8.5, "baseline", color=RIGHT, fontsize=9.5)
        apart = [
            band(right, run.time[1:], value, line=line, resamples=300)
            for value, line in zip(run.apart, (RIGHT_LINE, OTHER_LINE), strict=True)
        ]
        right.set_yscale("log")
        right.set_xlim(0, run.time[-1])
        right.set_ylim(1e-16, 1e3)
        _ticks(right.yaxis, (1e-15, 1e-10, 1e-5, 1), ("$10^{-15}$", "$10^{-10}$", "$10^{-5}$", "1"))
        right.set_title("Estimates apart by")
        right.set_xlabel("step")
        right.text(295, 6.0, "independent", color=OTHER, fontsize=9.5, ha="right")
        right.text(295, 3e-12, "pairs", color=RIGHT, fontsize=9.5, ha="right")
    half = len(run.time) // 2
    alt = (
        f"Left: a quadratic under Adam with pairs, bands over {run.value.shape[-1]} seeds, from {means[0][0]:.1f} at "
        f"the start. With the averaged baseline and without any, f is {means[0][half]:.2f} and {means[1][half]:.2f} "
        f"after {run.time[half]} steps: one curve. With no memory it is {means[2][half]:.1f}. Middle: independent "
        f"directions, {means[3][half]:.2f} with the baseline and {means[4][half]:.1f} without. Right: the distance "
        f"between estimates with and without the baseline, of their length: at most {run.apart[0].max():.0e} for "
        f"pairs, and {apart[1][half]:.2f} for independent directions."
    )
    return figure, alt


# ---------------------------------------------------------------- ranks


def draw_rank_off_by_one(run: symptoms.Pulls):
    """The weights of six points, the cosine against how many are compared, the step when all are moved."""
    count = run.weight.shape[-1]
    with style():
        figure, axes = panels(3, height=3.1)
        left, middle, right = axes[0]
        left.axhline(0, color=INK, linewidth=0.8)
        for weights, line, offset in zip(run.weight, (RIGHT_LINE, WRONG_LINE), (-0.12, 0.12), strict=True):
            place = np.arange(count) + offset
            left.vlines(place, 0, weights, color=line["color"], linewidth=2.4)
            left.plot(place, weights, "o", color=line["color"], markersize=6)
        left.set_xticks(range(count))
        left.set_ylim(-6.8, 6.4)
        left.set_title(f"Weights, best {run.keep} of {count}")
        left.set_xlabel("rank, the best first")
        totals = run.weight.sum(-1)
        left.text(0.03, 0.97, f"right: sum {totals[0]:.0f}", color=RIGHT, fontsize=9.5, va="top",
                  transform=left.transAxes)  # fmt: skip
        left.text(0.03, 0.88, f"wrong: sum −{-totals[1]:.0f}", color=LIMIT, fontsize=9.5, va="top",
                  transform=left.transAxes)  # fmt: skip
        lines = (RIGHT_LINE, WRONG_LINE)
        cosine = [band(middle, run.size, run.cosine[:, i], line=x, resamples=300) for i, x in enumerate(lines)]
        middle.set_xlim(run.size[0], run.size[-1])
        middle.set_xticks(run.size)
        middle.set_ylim(0.1, 0.6)
        middle.set_title("Cosine, all ranked")
        middle.set_xlabel("points m")
        middle.text(4.2, 0.42, "right", color=RIGHT, fontsize=9.5, ha="right")
        middle.text(4.0, 0.30, "wrong", color=LIMIT, fontsize=9.5, va="top")
        step = [band(right, run.shift, run.step[:, i], line=x, resamples=300) for i, x in enumerate(lines)]
        right.axhline(0, color=FAINT, linewidth=0.8, zorder=1)
        right.set_xlim(run.shift[0], run.shift[-1])
        right.set_ylim(-0.1, 1.15)
        right.set_title("Step across the gradient")
        right.set_xlabel("all points moved by")
        right.text(2.4, 0.68, "wrong", color=LIMIT, fontsize=9.5, ha="right")
        right.text(3.9, 0.04, "right", color=RIGHT, fontsize=9.5, ha="right", va="bottom")
    alt = (
        f"Left: weights of {count} points by rank, the best {run.keep} ranked: right {_listed(run.weight[0])}, wrong "
        f"{_listed(run.weight[1])}; they add up to {totals[0]:.0f} and to {totals[1]:.0f}. Middle: the mean cosine of "
        f"the step with the way down where all points are ranked, bands over {run.cosine.shape[-1]} seeds: with "
        f"{run.size[0]} points {cosine[0][0]:.3f} and {cosine[1][0]:.3f}, with {run.size[-1]} points "
        f"{cosine[0][-1]:.3f} and {cosine[1][-1]:.3f}. Right: all points are moved by up to {run.shift[-1]:g} across "
        f"the gradient; the right step's part across stays at {abs(step[0][-1]):.2f}, the wrong one's grows to "
        f"{step[1][-1]:.2f}."
    )
    return figure, alt


def _listed(weights: np.ndarray) -> str:
    return ", ".join(f"{x:.0f}" for x in weights)


# ---------------------------------------------------------------- a grid


def draw_speedup_off_a_grid(run: symptoms.Speedups):
    """Both methods with the points of a plot; what is read against what is true."""
    steps = int(run.time[-1])
    drawn = slice(None, None, steps // 16)
    with style():
        figure, axes = panels(2, height=3.3, width_ratios=(1.15, 1))
        left, right = axes[0]
        means = run.value.mean(-1)
        for value, mean, line in zip(run.value, means, (OTHER_LINE, RIGHT_LINE), strict=True):
            band(left, run.time[::10], value[::10], line=line, resamples=300, faint=True)
            left.plot(run.time, mean, **{**line, "linewidth": 1.3})
            left.plot(run.time[drawn], mean[drawn], "o", color=line["color"], markersize=4.5)
        level = means[0, -1]
        read, truth = steps / run.mean_read, steps / run.mean_true
        left.annotate("", (steps, level), (read, level), arrowprops={"arrowstyle": "<->", "color": LIMIT, "lw": 1.4})
        left.plot(truth, level, "D", color=INK, markersize=6, zorder=5)
        left.annotate(f"true: {run.mean_true:.2f}×", (truth, level), (40, 10), color=INK, fontsize=9.5,
                      arrowprops={"arrowstyle": "-", "color": INK, "lw": 0.8})  # fmt: skip
        left.text((read + steps) / 2, level - 1.2, f"read: {run.mean_read:.2f}×", color=LIMIT, fontsize=9.5, va="top",
                  ha="center")  # fmt: skip
        left.set_xlim(0, steps * 1.01)
        left.set_ylim(0, None)
        left.set_title("f, and the points drawn")
        left.set_xlabel("iteration")
        left.text(steps, means[0, -1] + 11, "forward differences", color=OTHER, fontsize=9.5, ha="right")
        left.text(steps * 0.55, 6.0, "ZoAR", color=RIGHT, fontsize=9.5)
        right.plot(run.rise, run.rise, color=FAINT, linewidth=1)
        right.plot(run.rise, run.stair, **WRONG_LINE)
        right.plot(run.true, run.read, "o", color=RIGHT, markersize=6, zorder=4)
        right.set_xscale("log")
        right.set_yscale("log")
        for axis in (right.xaxis, right.yaxis):
            _ticks(axis, (1, 2, 4, 8, 16))
        right.set_xlim(1, 20)
        right.set_ylim(0.95, 21)
        right.set_title("What is read of it")
        right.set_xlabel("true speed-up")
        right.text(10.7, 16, "16/j", color=LIMIT, fontsize=9.5, ha="right", va="center")
        right.text(6.9, 5.0, f"{len(run.true)} seeds", color=RIGHT, fontsize=9.5, va="top")
    alt = (
        f"Left: forward differences and ZoAR on a quadratic over {steps} iterations, means of {run.value.shape[-1]} "
        f"seeds with bands, and the points that are drawn, one in {steps // 16}. ZoAR is as low as forward differences "
        f"at their end after {truth:.0f} iterations, a speed-up of {run.mean_true:.2f}; the nearest point drawn is at "
        f"{read:.0f}, and {run.mean_read:.2f} is read. Right: what is read against the truth, a staircase of the "
        f"values 16/j. On it lie the 8 seeds, whose speed-ups run from {run.true.min():.2f} to {run.true.max():.2f} "
        f"and are read as {' or '.join(f'{x:.2f}' for x in np.unique(run.read))}."
    )
    return figure, alt


_DRAWN: dict[str, tuple[Callable, Callable]] = {
    "borrowed_minus_one": (symptoms.borrowed_minus_one, draw_borrowed_minus_one),
    "baseline_that_cancels": (symptoms.baseline_that_cancels, draw_baseline_that_cancels),
    "rank_off_by_one": (symptoms.rank_off_by_one, draw_rank_off_by_one),
    "speedup_off_a_grid": (symptoms.speedup_off_a_grid, draw_speedup_off_a_grid),
}
