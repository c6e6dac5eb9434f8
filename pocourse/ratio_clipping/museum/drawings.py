"""The plots of the museum: each draws the arrays of a symptom and returns (figure, alt)."""

from collections.abc import Callable

import numpy as np

from pocourse.lesson.bands import interquartile_mean
from pocourse.lesson.figures import FAINT, INK, LIMIT, band, label_lines, panels, style
from pocourse.ratio_clipping.figures import LINE_OF
from pocourse.ratio_clipping.museum import symptoms
from pocourse.ratio_clipping.museum.symptoms import EPS, FLOOR, HALF, RIGHT, WRONG

WRONG_LINE = {"color": LIMIT, "linestyle": "-"}
HALF_LINE = {"color": INK, "linestyle": (0, (5, 1.3, 1, 1.3))}
RIGHT_LINE = LINE_OF["PPO"]
FLOOR_LINE = LINE_OF["unclipped"]
PPO = RIGHT_LINE["color"]


def draw(id: str):
    """Compute and draw the symptom of a piece, ``missing_minus`` or ``ratio_clipping.missing_minus``: (figure, alt)."""
    name = id.split(".")[-1]
    if name not in _DRAWN:
        raise ValueError(f"expected a piece of this chapter's museum; got {id!r}. There are: {', '.join(_DRAWN)}.")
    compute, drawing = _DRAWN[name]
    return drawing(compute())


def _range(panel, low: float = 0.0, high: float = 2.0) -> None:
    """The range of the ratio, shaded, and its middle."""
    panel.axvspan(1 - EPS, 1 + EPS, color="#000000", alpha=0.045, linewidth=0)
    panel.axvline(1, color=FAINT, linewidth=0.8)
    panel.set_xlim(low, high)
    panel.set_xlabel("ratio r")


def _sign(advantage: float) -> str:
    return f"A = {advantage:+g}".replace("-", "−")


def _bands(panel, values: np.ndarray, names, lines) -> dict[str, np.ndarray]:
    """A band per code over [step, code, seed]; returns the means."""
    x = np.arange(len(values))
    panel.set_xlim(0, len(values) - 1)
    return {name: band(panel, x, values[:, index], line=lines[name], resamples=300) for index, name in enumerate(names)}


# ---------------------------------------------------------------- A


def draw_missing_minus(run: symptoms.Bandit):
    """The loss against the ratio for a good and a bad action; the mean reward of both codes on the bandit."""
    right, wrong = run.codes
    lines = {right: RIGHT_LINE, wrong: WRONG_LINE}
    ratio = np.linspace(0.3, 1.7, 281)
    with style():
        figure, axes = panels(3, height=2.9, width_ratios=(1, 1, 1.25))
        for panel, a in zip(axes[0], (1.0, -1.0), strict=False):
            _range(panel, 0.3, 1.7)
            found = symptoms.curves(symptoms.LOSSES, ratio, a)
            for name, (value, slope) in found.items():
                panel.plot(ratio, value, **lines[name])
                middle = len(ratio) // 2
                step = -0.24 * np.sign(slope[middle])
                panel.annotate(
                    "", (1 + step, value[middle] + step * slope[middle]), (1, value[middle]), zorder=5,
                    arrowprops={"arrowstyle": "-|>", "color": lines[name]["color"], "linewidth": 2.2},
                )  # fmt: skip
                panel.plot(1, value[middle], "o", color=lines[name]["color"], markersize=6)
            panel.set_ylim(-1.85, 1.85)
            panel.set_title(f"{_sign(a)}: " + ("r should rise" if a > 0 else "r should fall"))
        axes[0, 0].set_ylabel("loss")
        axes[0, 0].text(1.66, 0.98, "without\nits minus", color=LIMIT, fontsize=9, ha="right", va="top")
        axes[0, 0].text(0.34, -1.02, "PPO's loss", color=PPO, fontsize=9)
        last = axes[0, 2]
        means = _bands(last, run.reward, run.codes, lines)
        last.set_ylim(-0.03, 1.03)
        last.set_title("Mean reward of the policy")
        last.set_xlabel("update")
        last.text(58, 0.86, "PPO's loss", color=PPO, fontsize=9, ha="right")
        last.text(58, 0.09, "without its minus", color=LIMIT, fontsize=9, ha="right")
    fell = [float(interquartile_mean(run.loss[0, i])) for i in (0, 1)]
    alt = (
        "Left and middle: the loss against the ratio for A = +1 and A = -1, with an arrow for a step of descent from "
        "r = 1. PPO's loss raises r for the good action and lowers it for the bad one; the loss without its minus is "
        "the mirror image and does the opposite. Right: mean reward on a bandit with three actions, bands over "
        f"{run.reward.shape[-1]} seeds: from 0.5 to {means[right][-1]:.2f} with PPO's loss, to {means[wrong][-1]:.2f} "
        f"without the minus. In the first update the loss falls from 0 to {fell[0]:.2f} and to {fell[1]:.2f}."
    )
    return figure, alt


# ---------------------------------------------------------------- B


def draw_max_for_min(run: symptoms.Larger):
    """Loss and slope of the right, the published and the half-mended code; what each does in training."""
    lines = {FLOOR: FLOOR_LINE, RIGHT: RIGHT_LINE, WRONG: WRONG_LINE, HALF: HALF_LINE}
    ratio = np.linspace(0.3, 1.7, 561)
    with style():
        figure, axes = panels(3, 2, height=2.6, width_ratios=(1, 1, 1.15))
        for column, a in enumerate((1.0, -1.0)):
            found = symptoms.curves(symptoms.LARGER, ratio, a)
            upper, lower = axes[:, column]
            for name, (value, slope) in found.items():
                upper.plot(ratio, value, **lines[name], zorder=3 if name == HALF else 2)
                if name != FLOOR:
                    lower.plot(ratio, -slope, **lines[name], zorder=3 if name == HALF else 2)
            _range(upper, 0.3, 1.7)
            _range(lower, 0.3, 1.7)
            upper.set_xlabel("")
            upper.set_ylim(-1.85, 1.85)
            upper.fill_between(ratio, found[FLOOR][0], -1.85, color=LIMIT, alpha=0.08, linewidth=0)
            lower.set_ylim(-1.5, 1.5)
            lower.axhline(0, color=INK, linewidth=0.8)
            upper.set_title(_sign(a))
        axes[0, 0].set_ylabel("loss")
        axes[1, 0].set_ylabel("pull on r, −∂loss/∂r")
        good, bad = axes[0, 0], axes[0, 1]
        good.text(1.66, 1.28, "published", color=LIMIT, fontsize=9, ha="right", va="top")
        good.text(0.34, -1.22, "half-mended", color=HALF_LINE["color"], fontsize=9, va="top")
        good.text(1.66, -1.06, "PPO's", color=PPO, fontsize=9, ha="right")
        bad.text(1.66, -0.9, "published", color=LIMIT, fontsize=9, ha="right")
        bad.text(0.34, -1.7, "shaded: below −rA", color="#7b4a47", fontsize=9)
        reward, far = axes[:, 2]
        means = _bands(reward, run.bandit.reward, run.bandit.codes, lines)
        reward.set_ylim(-0.03, 1.06)
        reward.set_title("Bandit: mean reward")
        reward.set_xlabel("update")
        reward.text(58, 0.85, "PPO's", color=PPO, fontsize=9, ha="right")
        reward.text(58, 0.74, "half-mended", color=INK, fontsize=9, ha="right")
        reward.text(58, 0.09, "published", color=LIMIT, fontsize=9, ha="right")
        moved = _bands(far, run.noise.deviation, run.noise.codes, lines)
        far.set_ylim(0, 1.75)
        far.set_title("Noise: mean |r − 1|")
        far.set_xlabel("step")
        far.text(290, 1.30, "half-mended", color=HALF_LINE["color"], fontsize=9, ha="right")
        far.text(290, 0.52, "PPO's", color=PPO, fontsize=9, ha="right")
        far.text(290, 0.35, "published", color=LIMIT, fontsize=9, ha="right")
    alt = (
        "Upper left: the loss against the ratio for A = +1 and A = -1; shaded is the region below -rA. PPO's loss "
        "stays out of it. The published loss is in it for A = -1, the half-mended one for A = +1 below 0.8 and for A "
        "= -1 above 1.2. Lower left: the pull on r. The published one points the wrong way; the half-mended one is "
        f"zero where PPO repairs and full where PPO stops. Right, bands over {run.bandit.reward.shape[-1]} seeds: "
        f"mean reward on the bandit ends at {means[RIGHT][-1]:.2f} with PPO's loss, {means[WRONG][-1]:.2f} with the "
        f"published, {means[HALF][-1]:.2f} with the half-mended one; mean |r-1| after {len(run.noise.ratio) - 1} "
        f"steps on noise at {moved[RIGHT][-1]:.2f}, {moved[WRONG][-1]:.2f} and {moved[HALF][-1]:.2f}."
    )
    return figure, alt


# ---------------------------------------------------------------- C


def draw_minimum_of_means(run: symptoms.Means):
    """Slopes of two watched samples while a third moves; who gets a gradient, step by step; who is left behind."""
    right, wrong = run.noise.codes
    lines = {right: RIGHT_LINE, wrong: WRONG_LINE}
    with style():
        figure, axes = panels(2, 2, height=2.6, width_ratios=(1, 1.25))
        watched = ("Watched: r = 1.5, gone too far", "Watched: r = 0.6, on the wrong side")
        for panel, sample, title in zip(axes[:, 0], (0, 1), watched, strict=True):
            for code, name in enumerate(run.noise.codes):
                panel.plot(run.moved, run.slope[code, sample], **lines[name])
            panel.set_xlim(run.moved[0], run.moved[-1])
            panel.set_ylim(-0.18, 1.3)
            panel.set_title(title)
            panel.set_ylabel("its slope")
            panel.set_xticks(np.linspace(0, 2, 5))
            panel.set_yticks([0, 0.5, 1])
        axes[0, 0].text(0.66, 0.5, "minimum\nof means", color=LIMIT, fontsize=9, ha="right", va="center")
        axes[0, 0].text(1.97, 0.06, "mean of minima", color=PPO, fontsize=9, ha="right")
        axes[1, 0].text(0.66, 0.5, "minimum\nof means", color=LIMIT, fontsize=9, ha="right", va="center")
        axes[1, 0].text(1.97, 1.06, "mean of minima", color=PPO, fontsize=9, ha="right")
        axes[1, 0].set_xlabel("ratio of a third sample")
        _draw_fed(axes[0, 1], run.noise)
        last = axes[1, 1]
        means = _bands(last, symptoms.share_wrong(run.noise), run.noise.codes, lines)
        last.set_ylim(0, 0.55)
        last.set_title("Share of the batch on the wrong side")
        last.set_xlabel("step")
        last.text(98, 0.30, "minimum of means", color=LIMIT, fontsize=9, ha="right")
        last.text(98, 0.155, "mean of minima", color=PPO, fontsize=9, ha="right")
    alt = (
        "Left: slopes of two samples with A = 1 while the ratio of a third goes from 0 to 2. With the mean of minima "
        "they stay at 0 and 1. With the minimum of means both are 1 up to a third ratio of 0.7, and 0 from there on. "
        "Upper right: how many samples outside the range get a gradient, step by step, for the minimum of means, "
        f"a row for each of {run.noise.ratio.shape[2]} seeds: first all, then none; pale where nobody is outside. "
        f"Below: the share of the batch on the wrong side, bands over the seeds, from {means[right][0]:.2f} to "
        f"{means[right][-1]:.2f} with the mean of minima and to {means[wrong][-1]:.2f} with the minimum of means."
    )
    return figure, alt


def _draw_fed(panel, run: symptoms.Noise) -> None:
    """For the second code, a row per seed: whether the samples outside the range get a gradient at each step."""
    outside = np.abs(run.ratio[:, 1] - 1) > EPS
    shown = np.where(outside.any(-1), np.where((run.fed[:, 1] & outside).any(-1), 2, 1), 0)  # [step, seed]
    from matplotlib.colors import ListedColormap

    panel.imshow(
        shown.T, aspect="auto", interpolation="nearest", cmap=ListedColormap(["#f1efe9", "#d98b84", "#7fb0d6"]), vmin=0,
        vmax=2, extent=(-0.5, len(shown) - 0.5, shown.shape[1] + 0.5, 0.5),
    )  # fmt: skip
    panel.set_xlim(0, len(shown) - 1)
    panel.grid(False)
    panel.set_ylabel("seed")
    panel.set_yticks([1, shown.shape[1]])
    panel.set_title("Outside the range: who gets a gradient")
    begins = int(np.argmax((shown == 1).any(1)))
    panel.text(begins / 2 - 1, 4.5, "all", color="#0f3e63", fontsize=10, ha="center", va="center", fontweight="bold")
    panel.text(
        (begins + len(shown)) / 2,
        4.5,
        ("none, with the minimum of means"),
        color=("#6b1713"),
        fontsize=10,
        ha=("center"),
        va=("center"),
        fontweight=("bold"),
    )


# ---------------------------------------------------------------- D


def draw_clip_without_minimum(run: symptoms.Noise):
    """
    The slope of both codes against the ratio; the samples that were pushed to the wrong side, and what becomes of them.
    """
    right, wrong = run.codes
    lines = {right: RIGHT_LINE, wrong: WRONG_LINE}
    ratio = np.linspace(0.3, 1.7, 561)
    with style():
        figure, axes = panels(3, height=3.0, width_ratios=(1, 1, 1.3))
        for panel, a in zip(axes[0], (1.0, -1.0), strict=False):
            found = symptoms.curves(symptoms.CLIPS, ratio, a)
            _range(panel, 0.3, 1.7)
            side = (0.3, 1 - EPS) if a > 0 else (1 + EPS, 1.7)
            panel.axvspan(*side, color=LIMIT, alpha=0.08, linewidth=0)
            for name in (wrong, right):
                panel.plot(ratio, found[name][1], **{**lines[name], "linewidth": 2.6 if name == wrong else 2.0})
            panel.set_ylim((-0.2, 1.35) if a > 0 else (-1.35, 0.2))
            panel.set_title(_sign(a))
            panel.axhline(0, color=INK, linewidth=0.8, zorder=1)
            panel.text(
                np.mean(side),
                1.28 * a,
                ("wrong side"),
                color=("#7b4a47"),
                fontsize=9,
                ha=("center"),
                va=("top") if a > 0 else ("bottom"),
            )
        axes[0, 0].set_ylabel("slope ∂f/∂r")
        axes[0, 0].text(0.33, 1.05, "PPO", color=PPO, fontsize=9.5)
        axes[0, 0].text(0.33, 0.05, "clip alone", color=LIMIT, fontsize=9.5)
        last = axes[0, 2]
        left = symptoms.share_left(run)
        means = _bands(last, left, run.codes, lines)
        last.set_ylim(0, 1.06)
        last.set_title("Share still on the wrong side")
        last.set_xlabel("step")
        last.text(98, means[wrong][-1] - 0.1, "clip alone", color=LIMIT, fontsize=9.5, ha="right", va="top")
        last.text(98, means[right][-1] + 0.06, "PPO", color=PPO, fontsize=9.5, ha="right")
    began = float(symptoms.share_wrong(run)[0].mean())
    alt = (
        "Left and middle: the slope of the objective against the ratio for A = +1 and A = -1. PPO and the clip alone "
        "agree but on the wrong side, shaded, where PPO's slope is A and that of the clip alone is zero. Right: a "
        f"policy was pushed until {100 * began:.0f}% of the samples lay on the wrong side; the share of these that "
        f"still do, bands over {run.ratio.shape[2]} seeds. With PPO it is {means[right][20]:.2f} after 20 steps and "
        f"{means[right][-1]:.2f} after {len(left) - 1}; with the clip alone {means[wrong][20]:.2f} and "
        f"{means[wrong][-1]:.2f}."
    )
    return figure, alt


# ---------------------------------------------------------------- E


def draw_ratio_always_one(run: symptoms.Noise):
    """
    What the code reports and what is true: the distance from the data, and the share of samples outside the range.
    """
    truth = {"right": RIGHT_LINE, "always one": WRONG_LINE}
    reported = {"color": LIMIT, "linestyle": (0, (1, 1.3))}
    outside = (np.abs(run.ratio - 1) > EPS).mean(-1)
    ends = {}
    with style():
        figure, axes = panels(2, height=3.0)
        for panel, values, title in (
            (axes[0, 0], run.deviation, "mean |r − 1|"),
            (axes[0, 1], outside, f"share of samples with |r − 1| > {EPS:g}"),
        ):
            means = _bands(panel, values, run.codes, truth)
            panel.plot([0, len(values) - 1], [0, 0], **reported, linewidth=2.6, clip_on=False)
            top = float(means["always one"].max()) * 1.12
            panel.set_ylim(0, top)
            panel.set_title(title)
            panel.set_xlabel("step")
            ends[title] = means["always one"][-1], means["right"][-1]
            label_lines(
                panel,
                [
                    (means["always one"][-1], "true", LIMIT),
                    (means["right"][-1], "PPO", PPO),
                    (0, "reported", LIMIT),
                ],
                size=9.5,
            )
    (far, ppo), (out, out_ppo) = ends.values()
    alt = (
        f"Mean |r-1| and the share of samples outside the range over {len(run.ratio) - 1} steps on one batch, bands "
        f"over {run.ratio.shape[2]} seeds. The code whose ratio is always one reports 0 in both from first to last. "
        f"In truth its mean |r-1| ends at {far:.2f} and {100 * out:.0f}% of the samples are outside; with PPO it is "
        f"{ppo:.2f} and {100 * out_ppo:.0f}%."
    )
    return figure, alt


# ---------------------------------------------------------------- F


def draw_k1_penalty(run: symptoms.Pull):
    """Gradients of many batches in the plane of the logits; the divergence while descending on each penalty alone."""
    lines = {"k1": WRONG_LINE, "k2": LINE_OF["KL penalty"], "exact": {"color": INK, "linestyle": (0, (1, 1.6))}}
    # Gradients in the logits add up to zero: two axes hold them all, the first along the true gradient.
    first = run.truth / np.linalg.norm(run.truth)
    second = np.cross(np.full(3, 3**-0.5), first)
    plane = np.stack([first, second], -1)
    with style():
        figure, axes = panels(2, height=3.3, width_ratios=(1, 1.2))
        left, last = axes[0]
        for index, (name, marker) in enumerate(zip(run.penalties, "ov", strict=False)):
            # Batches with the same counts have the same gradient: the more of them, the larger the dot.
            found, count = np.unique((run.gradient[index] @ plane).round(4), axis=0, return_counts=True)
            left.scatter(*found.T, s=7 * count, marker=marker, color=lines[name]["color"], alpha=0.4, linewidths=0)
        for index, name in enumerate(run.penalties[:2]):
            x, y = run.mean[index] @ plane
            left.plot(
                x,
                y,
                ("X"),
                color=lines[name][("color")],
                markersize=11,
                markeredgecolor=("white"),
                markeredgewidth=1.4,
                zorder=5,
            )
        left.axhline(0, color=FAINT, linewidth=0.8)
        left.axvline(0, color=FAINT, linewidth=0.8)
        left.set_title("Gradients of 300 batches")
        left.set_xlabel("along the true gradient")
        left.set_ylabel("across it")
        low, high = left.get_ylim()
        left.set_ylim(low, high + 0.22 * (high - low))
        left.text(0.03, 0.95, "k1: mean zero", color=LIMIT, fontsize=9.5, transform=left.transAxes, va="top")
        left.text(
            0.97,
            0.95,
            ("k2: mean is the truth"),
            color=lines[("k2")][("color")],
            fontsize=9.5,
            transform=left.transAxes,
            va=("top"),
            ha=("right"),
        )
        means = _bands(last, run.kl, run.penalties, lines)
        last.set_ylim(0, None)
        last.set_title("Descent on the penalty alone")
        last.set_xlabel("step")
        last.set_ylabel("KL(π ‖ reference)")
        label_lines(last, [(means[n][-1], n, lines[n]["color"]) for n in run.penalties])
    lengths = {name: float(np.linalg.norm(run.mean[i])) for i, name in enumerate(run.penalties[:2])}
    alt = (
        f"Left: gradients of {run.gradient.shape[1]} batches of 16 sampled actions. Those of k1 scatter round zero "
        f"(exact mean of length {lengths['k1']:.2f}), those of k2 round the gradient of the divergence (length "
        f"{lengths['k2']:.2f}). Right: KL to the reference over {len(run.kl) - 1} steps of descent on the penalty "
        f"alone, bands over {run.kl.shape[-1]} seeds: from {means['k2'][0]:.2f} to {means['k2'][-1]:.3f} with k2 and "
        f"{means['exact'][-1]:.3f} with the exact divergence, to {means['k1'][-1]:.2f} with k1."
    )
    return figure, alt


_DRAWN: dict[str, tuple[Callable, Callable]] = {
    "clip_without_minimum": (symptoms.clip_without_minimum, draw_clip_without_minimum),
    "missing_minus": (symptoms.missing_minus, draw_missing_minus),
    "max_for_min": (symptoms.max_for_min, draw_max_for_min),
    "minimum_of_means": (symptoms.minimum_of_means, draw_minimum_of_means),
    "ratio_always_one": (symptoms.ratio_always_one, draw_ratio_always_one),
    "k1_penalty": (symptoms.k1_penalty, draw_k1_penalty),
}
