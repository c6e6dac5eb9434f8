"""The plots of the museum: each draws the arrays of a symptom and returns (figure, alt)."""

from collections.abc import Callable

import numpy as np

from pocourse.lesson.figures import FAINT, INK, LIMIT, LINES, band, panels, style
from pocourse.surrogate_variance.museum import symptoms
from pocourse.surrogate_variance.museum.symptoms import DROPOUT, FROZEN, PAIRS, PLAIN, UNBIAS

WRONG_LINE = {"color": LIMIT, "linestyle": "-"}
RIGHT_LINE = LINES[3]
OTHER_LINE = LINES[1]
TRUTH_LINE = {"color": INK, "linestyle": (0, (1, 1.6))}
RIGHT, OTHER = RIGHT_LINE["color"], OTHER_LINE["color"]


def draw(id: str):
    """Compute and draw the symptom of a piece, by its name or its id: (figure, alt)."""
    name = id.split(".")[-1]
    if name not in _DRAWN:
        raise ValueError(f"expected a piece of this chapter's museum; got {id!r}. There are: {', '.join(_DRAWN)}.")
    compute, drawing = _DRAWN[name]
    return drawing(compute())


def _sizes(panel, size: np.ndarray, ticks=None) -> None:
    """Both axes logarithmic, the sizes written as plain numbers."""
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.minorticks_off()
    panel.set_xticks(size if ticks is None else ticks)
    panel.set_xticklabels([f"{n:g}" for n in (size if ticks is None else ticks)])
    panel.set_xlim(size[0], size[-1])


def _heights(panel, heights) -> None:
    panel.set_yticks(heights)
    panel.set_yticklabels([f"{y:g}" for y in heights])


# ---------------------------------------------------------------- A


def draw_unbias_that_biases(run: symptoms.Dropouts):
    """Limits against the tilt, the mean ratio of what is kept, and the error of batches against their size."""
    lines = {PLAIN: RIGHT_LINE, DROPOUT: OTHER_LINE, UNBIAS: WRONG_LINE}
    names = list(symptoms.ESTIMATES)
    with style():
        figure, axes = panels(3, height=3.0)
        left, middle, right = axes[0]
        for index, name in enumerate(names):
            left.plot(run.tilt, run.limit[index], **lines[name])
            if name != PLAIN:
                middle.plot(run.tilt, run.kept_ratio[index], **lines[name])
        left.set_title("Limit of the estimate")
        left.set_ylim(0, 1)
        left.text(0.60, 0.70, "truth", color=RIGHT, fontsize=9.5, ha="right")
        left.text(0.98, 0.56, "unbias", color=LIMIT, fontsize=9.5, ha="right")
        left.text(0.98, 0.16, "|r − 1| < δ", color=OTHER, fontsize=9.5, ha="right")
        middle.set_title("Mean ratio of what is kept")
        middle.set_ylim(0.95, 1.02)
        middle.text(0.98, 1.003, "unbias", color=LIMIT, fontsize=9.5, ha="right")
        middle.text(0.98, 0.972, "|r − 1| < δ", color=OTHER, fontsize=9.5, ha="right")
        for panel in (left, middle):
            panel.set_xlim(0, 1)
            panel.set_xlabel("tilt t")
        means = {
            name: band(right, run.size, run.error[:, index], line=lines[name], resamples=300)
            for index, name in enumerate(names)
        }
        _sizes(right, run.size, (4, 16, 64, 256, 1024))
        right.set_ylim(0.03, 1)
        _heights(right, (0.03, 0.1, 0.3, 1))
        right.set_title(f"Error of a batch, t = {run.at:g}")
        right.set_xlabel("samples n")
        right.text(950, 0.315, "|r − 1| < δ", color=OTHER, fontsize=9.5, ha="right", va="bottom")
        right.text(950, 0.215, "unbias", color=LIMIT, fontsize=9.5, ha="right", va="top")
        right.text(60, 0.09, "mean of rA", color=RIGHT, fontsize=9.5, ha="right")
    at = int(np.argmin(np.abs(run.tilt - run.at)))
    alt = (
        f"Left: limits of three estimates against the tilt t of the policy; the truth is t. At t = {run.tilt[at]:.2g} "
        f"the dropout |r-1| < 0.25 tends to {run.limit[1, at]:.2f}, the one called unbias to {run.limit[2, at]:.2f}. "
        f"Middle: the mean ratio of what is kept, 1 for unbias at every tilt, {run.kept_ratio[1, at]:.2f} for the "
        f"other. Right: root mean squared error of batches at t = {run.at:g}, bands over {run.error.shape[-1]} seeds: "
        f"with {run.size[0]} samples {means[PLAIN][0]:.2f} for the mean of rA and {means[UNBIAS][0]:.2f} for unbias, "
        f"with {run.size[-1]} samples {means[PLAIN][-1]:.2f} and {means[UNBIAS][-1]:.2f}."
    )
    return figure, alt


# ---------------------------------------------------------------- B


def draw_std_called_variance(run: symptoms.Control):
    """What is true and what is read, against the correlation; standard errors against the number of samples."""
    with style():
        figure, axes = panels(2, height=3.2)
        left, right = axes[0]
        left.axhline(1, color=INK, linewidth=0.8)
        left.plot(run.correlation, run.variance, **RIGHT_LINE)
        left.plot(run.correlation, run.printed, **WRONG_LINE)
        left.plot(run.correlation, run.best, **LINES[2])
        left.axvline(run.at, color=FAINT, linewidth=0.8)
        left.set_xlim(0, 1)
        left.set_ylim(0, 2.05)
        left.set_title("Variance with b, of that without")
        left.set_xlabel("correlation ρ of a and b")
        true, read = 2 * (1 - run.at), (2 * (1 - run.at)) ** 0.5
        for y, color in ((true, RIGHT), (read, LIMIT)):
            left.plot(run.at, y, "o", color=color, markersize=6)
        left.text(run.at + 0.02, read + 0.04, f"read: {read:.2f}", color=LIMIT, fontsize=9.5)
        left.text(run.at - 0.02, true - 0.13, f"true: {true:.2f}", color=RIGHT, fontsize=9.5, ha="right")
        left.text(0.03, 0.70, "best coefficient", color=LINES[2]["color"], fontsize=9.5)
        left.text(0.18, 1.72, "coefficient 1", color=RIGHT, fontsize=9.5)
        left.text(0.03, 1.22, "its root", color=LIMIT, fontsize=9.5)
        means = [
            band(right, run.size, run.error[:, index], line=line, resamples=300)
            for index, line in enumerate((TRUTH_LINE, RIGHT_LINE))
        ]
        _sizes(right, run.size)
        _heights(right, (0.1, 0.2, 0.4, 0.8))
        right.set_ylim(0.08, 0.8)
        saved, believed = run.saved
        five = int(np.flatnonzero(run.size == 5)[0])
        height = means[1][five]
        right.plot([5, 5 * saved], [height] * 2, color=RIGHT, linewidth=1.2)
        right.plot([5, 5 * saved], [height] * 2, "o", color=RIGHT, markersize=6)
        right.plot(5 * believed, height, "o", color=LIMIT, markersize=6, zorder=4)
        right.text(5 * saved * 1.06, height * 1.02, f"5 are worth {5 * saved:.1f}", color=RIGHT, fontsize=9.5)
        right.text(7.0, height * 0.94, f"believed {5 * believed:.1f}", color=LIMIT, fontsize=9, va="top")
        right.text(5.4, 0.47, "mean of a", color=INK, fontsize=9.5)
        right.text(2.1, 0.27, "mean of a − b", color=RIGHT, fontsize=9.5, va="top")
        right.set_title(f"Standard error, ρ = {run.at:g}")
        right.set_xlabel("samples n")
    alt = (
        "Left: what subtracting b makes of the variance, against the correlation: a line from 2 to 0 that crosses 1 at "
        f"0.5, its root, and the best coefficient's 1 - rho squared, never above 1. At {run.at:g} the truth is "
        f"{true:.2f}, and the root read as a variance {read:.2f}. Right: standard errors of the mean of a and of a - b "
        f"against the number of samples, bands over {run.error.shape[-1]} seeds. With b, 5 samples have an error of "
        f"{height:.2f}, as {5 * saved:.1f} have without; from the root one expects {5 * believed:.1f}."
    )
    return figure, alt


# ---------------------------------------------------------------- C


def draw_frozen_denominator(run: symptoms.Intervals):
    """The error while all rewards are raised; the intervals of some batches round the truth."""
    lines = (TRUTH_LINE, RIGHT_LINE, WRONG_LINE)
    order = np.argsort(run.value)
    with style():
        figure, axes = panels(2, height=3.2, width_ratios=(1, 1.25))
        left, right = axes[0]
        means = [
            band(left, run.raised, run.error[:, kind], line={**lines[kind], "zorder": 3 - kind / 2}, resamples=300)
            for kind in (2, 1, 0)
        ][::-1]
        left.set_xlim(run.raised[0], run.raised[-1])
        left.set_ylim(0, None)
        left.set_title("Standard error")
        left.set_xlabel("all rewards raised by")
        left.text(2.9, 0.33, "frozen denominator", color=LIMIT, fontsize=9.5, ha="right")
        left.text(4.9, 0.035, "in truth, and by a bootstrap of pairs", color=RIGHT, fontsize=9.5, ha="right")
        right.axhline(run.truth, color=INK, linewidth=0.9)
        for shift, kind, name in ((-0.12, 1, FROZEN), (0.12, 0, PAIRS)):
            color = LIMIT if name == FROZEN else RIGHT
            right.errorbar(
                np.arange(len(order)) + shift, run.value[order], run.half[kind][order], fmt="o", markersize=3.5,
                color=color, elinewidth=1.6, capsize=2.5,
            )  # fmt: skip
        right.set_title(f"95% intervals, rewards near {run.truth:g}")
        right.set_xlabel("batch, in the order of its estimate")
        right.set_xticks([0, len(order) - 1])
        right.set_xticklabels(["1", f"{len(order)}"])
        top = float((run.value + run.half[1]).max())
        right.set_ylim(2 * run.truth - top - 0.02, top + 0.1)
        right.text(0.02, 0.97, "frozen denominator", color=LIMIT, fontsize=9.5, transform=right.transAxes, va="top")
        right.text(
            0.98, 0.97, "bootstrap of pairs", color=RIGHT, fontsize=9.5, transform=right.transAxes, va="top", ha="right"
        )
    wide = [float(np.median(half)) for half in run.half]
    alt = (
        f"Left: the standard error while all rewards are raised from 0 to {run.raised[-1]:g}, bands over "
        f"{run.error.shape[-1]} seeds. What the estimate does in truth stays at {means[0][0]:.3f}, and so does the "
        f"bootstrap of pairs; with the frozen denominator the error grows from {means[2][0]:.3f} to "
        f"{means[2][-1]:.2f}. Right: 95% intervals of {len(order)} batches with rewards near {run.truth:g}: half "
        f"widths of about {wide[0]:.2f} for the bootstrap of pairs and {wide[1]:.2f} for the frozen one, both round "
        "the same estimates."
    )
    return figure, alt


# ---------------------------------------------------------------- D


def draw_weights_as_a_column(run: symptoms.Square):
    """The square, its diagonal framed; the metric while the batch grows."""
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Rectangle

    count = len(run.weight)
    with style():
        figure, axes = panels(2, height=3.3, width_ratios=(1, 1.25))
        left, right = axes[0]
        colours = LinearSegmentedColormap.from_list("", ["#f1efe9", "#e7a59f"])
        left.imshow(run.product, cmap=colours, vmin=0, vmax=1.3)
        left.grid(False)
        left.spines[:].set_visible(False)
        left.tick_params(length=0)
        for i in range(count):
            for j in range(count):
                meant = i == j
                left.text(j, i, f"{run.product[i, j]:.1f}", ha="center", va="center", fontsize=10,
                          fontweight="bold" if meant else "normal")  # fmt: skip
            left.add_patch(Rectangle((i - 0.46, i - 0.46), 0.92, 0.92, fill=False, edgecolor=RIGHT, linewidth=2.4))
        left.set_xticks(range(count), [f"{m:.0f}" for m in run.mask])
        left.set_yticks(range(count), [f"{w:.1f}" for w in run.weight])
        left.set_xlabel("mask, a row")
        left.set_ylabel("weights, a column")
        left.set_title("Meant: the diagonal")
        lines = (RIGHT_LINE, WRONG_LINE)
        means = [band(right, run.size, run.metric[:, i], line=line, resamples=300) for i, line in enumerate(lines)]
        _sizes(right, run.size)
        right.set_ylim(0.7, 80)
        _heights(right, (1, 2, 4, 8, 16, 32, 64))
        right.set_title("Mean ratio, as logged")
        right.set_xlabel("sequences B in a batch")
        right.text(14, 20, "column times row", color=LIMIT, fontsize=9.5, ha="right")
        right.text(60, 1.15, "mean of the valid weights", color=RIGHT, fontsize=9.5, ha="right")
    alt = (
        f"Left: the product of a column of {count} weights and a row of {count} flags, {count * count} entries, those "
        f"of the diagonal framed; the column of the masked sequence is zero. Their sum over {run.mask.sum():.0f} flags "
        f"is {run.product.sum() / run.mask.sum():.1f}, the mean of the valid weights "
        f"{np.trace(run.product) / run.mask.sum():.2f}. Right: the metric for ratios with mean 1 in batches of "
        f"{run.size[0]} to {run.size[-1]} sequences, bands over {run.metric.shape[-1]} seeds: the right mean ends at "
        f"{means[0][-1]:.2f}, column times row at {means[1][-1]:.0f}."
    )
    return figure, alt


_DRAWN: dict[str, tuple[Callable, Callable]] = {
    "unbias_that_biases": (symptoms.unbias_that_biases, draw_unbias_that_biases),
    "std_called_variance": (symptoms.std_called_variance, draw_std_called_variance),
    "frozen_denominator": (symptoms.frozen_denominator, draw_frozen_denominator),
    "weights_as_a_column": (symptoms.weights_as_a_column, draw_weights_as_a_column),
}
