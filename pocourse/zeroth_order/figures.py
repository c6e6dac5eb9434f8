"""The figures of chapter 4. Each comes in two halves: a function that computes arrays, and one that draws them.

The arrays are what the tests check and what the text quotes; the drawing adds nothing to them.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch.nn.functional import cosine_similarity

from pocourse.lesson.figures import CARD, FAINT, INK, LINES, WIDTH, label_lines, panels, style
from pocourse.lesson.survival import kaplan_meier
from pocourse.worlds.landscapes import quadratic
from pocourse.zeroth_order import estimators, truth

# One look per method in all figures of the chapter. The forward difference trains under the name "vanilla".
_GREY, _ORANGE, _GREEN, _BLUE, _PURPLE, _GOLD = LINES
LINE_OF = {
    "vanilla": _GREY,
    "history average": _GOLD,
    "RLOO": _GREEN,
    "antithetic": _PURPLE,
    "ZoAR": _BLUE,
    "one-point": _ORANGE,
}
LINE_OF["forward"] = LINE_OF["vanilla"]
LINE_OF["ranks"] = {"color": INK, "linestyle": (0, (2, 1.2))}
MARKER_OF = {"forward": "o", "RLOO": "^", "antithetic": "D", "ranks": "v"}


# ---------------------------------------------------------------- the cosine law


class CosineLaw(NamedTuple):
    """Mean squared cosines between estimate and gradient, [method, sigma], with their standard errors.

    ``law`` is what (4.23) says of a linear function, [method], and 3/pi of it for the ranks. ``stated`` [method, point]
    over the finer ``grid`` [point] goes on from there: the law for the number K' of directions that scatter as much
    when f is linear, (d + 1) |g|^2 / V, and 1/d for the rest of the scatter, which points anywhere.
    """

    sigmas: np.ndarray
    names: tuple[str, ...]
    squared: np.ndarray
    error: np.ndarray
    law: np.ndarray
    grid: np.ndarray
    stated: np.ndarray
    dim: int
    queries: int
    repeats: int


SIGMAS = (0.001, 0.01, 0.05, 0.158, 0.5)


def cosine_law(
    *,
    dim: int = 1000,
    queries: int = 60,
    sigmas: tuple[float, ...] = SIGMAS,
    repeats: int = 160,
    seed: int = 0,
) -> CosineLaw:
    """How well one estimate of as many queries points, on f = |x|^2 / 2 where |g|^2 = d.

    All methods and all sigmas meet the same directions.
    """
    generator, theta = torch.Generator().manual_seed(seed), torch.ones(dim, dtype=torch.float64)
    found = {name: [] for name in MARKER_OF}
    for _ in range(0, repeats, 10):
        u = torch.randn(queries, 10, dim, generator=generator, dtype=theta.dtype)
        for sigma in sigmas:
            plus, base = quadratic(theta + sigma * u), quadratic(theta).expand(10)
            pairs = queries // 2
            minus = quadratic(theta - sigma * u[:pairs])
            estimates = {
                "forward": estimators.forward_gradient(plus[:-1], base, u[:-1], sigma=sigma),
                "RLOO": estimators.rloo_gradient(plus, u, sigma=sigma),
                "antithetic": estimators.antithetic_gradient(plus[:pairs], minus, u[:pairs], sigma=sigma),
                "ranks": estimators.weighted_gradient(estimators.centred_ranks(plus), u, sigma=sigma),
            }
            for name, estimate in estimates.items():
                found[name].append(cosine_similarity(estimate, theta.expand_as(estimate), dim=-1) ** 2)
    all_ = {name: torch.stack(x).view(-1, len(sigmas), 10).movedim(1, 0).flatten(1) for name, x in found.items()}
    squared = np.stack([x.mean(1).numpy() for x in all_.values()])
    error = np.stack([x.std(1).numpy() / math.sqrt(x.shape[1]) for x in all_.values()])
    grid = np.geomspace(min(sigmas), max(sigmas), 61)
    drawn = np.array([queries - 1, queries - 1, queries // 2, queries - 1])
    price = np.array([1, 1, 1, 3 / math.pi])
    known = [truth.bowl(dim, sigma=float(sigma), queries=queries) for sigma in grid]
    variance = np.array([[b.forward, b.rloo, b.antithetic, b.rloo] for b in known]).T
    like = (dim + 1) / variance
    stated = price[:, None] * like / (dim + like - 1) + (1 - like / drawn[:, None]) / dim
    law = price * drawn / (dim + drawn - 1)
    return CosineLaw(
        np.array(sigmas), tuple(found), squared, error, law, grid, stated, dim, queries, all_["RLOO"].shape[1]
    )


def draw_cosine_law(result: CosineLaw):
    """Mean squared cosine against sigma, measured with bars of 4 standard errors and stated as lines: (figure, alt)."""
    with style():
        figure, axes = panels(1, height=3.9)
        panel = axes[0, 0]
        ends = []
        for i, name in enumerate(result.names):
            look, marker = LINE_OF[name], MARKER_OF[name]
            panel.plot(result.grid, result.stated[i], **{**look, "linewidth": 1.6})
            aside = 1.06 ** (i - 1.5)  # beside each other, so that no bar hides another
            panel.errorbar(
                result.sigmas * aside, result.squared[i], 4 * result.error[i], fmt=marker, color=look["color"],
                markersize=5, elinewidth=1.4, capsize=2.5,
            )  # fmt: skip
            ends.append((float(result.stated[i, -1]), name, look["color"]))
        panel.set(
            xscale="log", yscale="log", xlabel="σ", ylabel="mean squared cosine",
            title=f"How well {result.queries} queries point, d = {result.dim:,}",
        )  # fmt: skip
        panel.set_xlim(result.sigmas[0] / 1.25, result.sigmas[-1] * 1.25)
        panel.set_ylim(0.6 / result.dim, 2.2 * result.law[0])
        heights = {
            f"K/(d + K − 1), K = {result.queries - 1}: forward, RLOO": result.law[0],
            f"K/(d + K − 1), K = {result.queries // 2}: antithetic": result.law[2],
            "1/d: a random direction": 1 / result.dim,
        }
        for said, height in heights.items():
            panel.axhline(height, color=FAINT, linewidth=0.9)
            panel.annotate(
                said, (1.5 * result.sigmas[0], height), (0, 5), textcoords="offset points", fontsize=9, color=INK
            )
        same = math.sqrt(25 / result.dim)
        panel.axvline(same, color=FAINT, linewidth=0.9)
        note = panel.annotate(
            "σ²d = 25", (same, 2 / result.dim), (-4, 0), textcoords="offset points", fontsize=9, color=INK, ha="right"
        )
        note.set_bbox({"facecolor": CARD, "edgecolor": "none", "pad": 1})
        label_lines(panel, ends)
    told = "; ".join(
        f"{name} {', '.join(f'{x:.4f}' for x in row)}" for name, row in zip(result.names, result.squared, strict=True)
    )
    alt = (
        f"Mean squared cosine between one estimate of {result.queries} queries and the gradient of |x|²/2 in "
        f"{result.dim:,} dimensions, for σ = {', '.join(f'{s:g}' for s in result.sigmas)}, over {result.repeats} "
        f"repeats, with bars of four standard errors: {told}. The cosine law says {result.law[0]:.4f} for forward and "
        f"RLOO and {result.law[2]:.4f} for antithetic. Lines show what the exact variances say."
    )
    return figure, alt


# ---------------------------------------------------------------- what a memory buys


class Memory(NamedTuple):
    """What ZoAR's memory does, exactly, in one of truth's worlds.

    ``mse`` [history, speed] is one estimate's mean squared error over |grad F|^2 against the speed of theta in sigma
    an iteration, ``bias`` [history, speed] its bias; ``mean_variance`` [history, steps] the variance of the mean of so
    many successive estimates while theta rests.
    """

    world: str
    histories: tuple[int, ...]
    speeds: np.ndarray
    bias: np.ndarray
    mse: np.ndarray
    steps: np.ndarray
    mean_variance: np.ndarray


LOOKS = {
    1: LINE_OF["RLOO"],
    2: {"color": _BLUE["color"], "linestyle": (0, (1, 1.4))},
    4: {"color": _BLUE["color"], "linestyle": (0, (5, 1.6))},
    6: LINE_OF["ZoAR"],
}


def memory(
    *,
    world: str = "quadratic",
    histories: tuple[int, ...] = tuple(LOOKS),
    fastest: float = 0.5,
    points: int = 26,
    longest: int = 100,
) -> Memory:
    """One estimate against the speed of theta, and the mean of many at rest, for several lengths of the memory."""
    speeds = np.linspace(0, fastest, points)
    found = [[truth.reuse(world, speed=float(s), history=n) for s in speeds] for n in histories]
    steps = np.unique(np.geomspace(1, longest, 40).round().astype(int))
    mean = [[truth.mean_of_steps(world, steps=int(t), history=n) for t in steps] for n in histories]
    bias, mse = (np.array([[getattr(r, key) for r in row] for row in found]) for key in ("bias", "mse"))
    return Memory(world, histories, speeds, bias, mse, steps, np.array(mean))


def draw_memory(result: Memory):
    """Mean squared error against speed, and the variance of a mean against its length: (figure, alt)."""
    names = ["N = 1, RLOO" if n == 1 else f"N = {n}" for n in result.histories]
    with style():
        figure, axes = panels(2, height=3.4)
        left, right = axes[0]
        for row, (n, name) in enumerate(zip(result.histories, names, strict=True)):
            left.plot(result.speeds, result.mse[row], label=name, **LOOKS[n])
            right.plot(result.steps, result.mean_variance[row], label=name, **LOOKS[n])
        left.set(
            title="One estimate, θ moving", xlabel="speed of θ, σ per iteration", ylabel="MSE / |∇F|²",
            xlim=(0, result.speeds[-1]), ylim=(0, 1.06 * result.mse.max()),
        )  # fmt: skip
        right.set(
            title="Mean of T estimates, θ at rest", xlabel="T", ylabel="variance / |∇F|²", xscale="log", yscale="log",
            xlim=(1, result.steps[-1]),
        )  # fmt: skip
        right.legend(fontsize=9, loc="lower left")
    first, last = result.mse[:, 0], result.mse[:, -1]
    one, many = result.mean_variance[:, 0], result.mean_variance[:, -1]
    told = "; ".join(
        f"N = {n}: {a:.2f} at rest, {b:.2f} at {result.speeds[-1]:g} σ, and {c:.2f} for one estimate, {e:.4f} for the "
        f"mean of {result.steps[-1]}"
        for n, a, b, c, e in zip(result.histories, first, last, one, many, strict=True)
    )
    alt = (
        f"Two panels on the {result.world} world. Left, the mean squared error of one ZoAR estimate over |∇F|² against "
        f"the speed of θ; right, the variance of the mean of T successive estimates while θ rests. {told}. On the left "
        "the longer memories start lower and rise faster; on the right all lines come together."
    )
    return figure, alt


# ---------------------------------------------------------------- an attack, seen


class Attacked(NamedTuple):
    """An attack on many images at once, one run: what came of it, and when.

    ``queries`` [image] until success, or all that were spent; ``fallen`` [image] whether it succeeded; ``before`` and
    ``after`` [image, pixel] what the classifier saw at first and when it gave in, ``labels`` and ``targets`` [image].
    """

    queries: np.ndarray
    fallen: np.ndarray
    before: np.ndarray
    after: np.ndarray
    labels: np.ndarray
    targets: np.ndarray


def draw_attacked(result: Attacked, *, shown: int = 6):
    """Different digits that fell, before and after, and the share that still stands against queries: (figure, alt).

    The curve is Kaplan and Meier's with Greenwood's 95% band; every image is one case.
    """
    fallen = np.nonzero(result.fallen)[0]
    order = sorted(int(fallen[i]) for i in np.unique(result.labels[fallen], return_index=True)[1])[:shown]
    curve = kaplan_meier(result.queries, result.fallen)
    with style():
        figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
        left, right = figure.subfigures(1, 2, width_ratios=(1.55, 1))
        for axes, i in zip(left.subplots(2, shown, squeeze=False).T, order, strict=False):
            for panel, pixels, digit in zip(
                axes, (result.before[i], result.after[i]), (result.labels[i], result.targets[i]), strict=True
            ):
                panel.imshow(pixels.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
                panel.set_axis_off()
                panel.set_title(f"“{int(digit)}”", fontsize=11, loc="center", pad=3, fontweight="normal")
        left.suptitle("What the classifier reads, before and after", fontsize=11, fontweight="bold", x=0.02, ha="left")
        panel = right.subplots()
        line = LINE_OF["ZoAR"]
        panel.fill_between(curve.times, curve.low, curve.high, step="post", color=line["color"], alpha=0.2, linewidth=0)
        panel.step(curve.times, curve.share, where="post", **line)
        panel.set(
            title="Images that still stand", xlabel="queries", ylim=(0, 1.02), xlim=(0, float(result.queries.max()))
        )
        panel.yaxis.set_major_formatter(lambda y, _: f"{100 * y:.0f}%")
    deceived = ", ".join(f"{int(result.labels[i])} read as {int(result.targets[i])}" for i in order)
    alt = (
        f"Left, {len(order)} digits of 8 by 8 pixels, and below each the same digit slightly changed: {deceived}. "
        f"Right, the share of {len(result.fallen)} images that still stand against queries, with its 95% band: "
        f"{100 * result.fallen.mean():.0f}% have fallen in the end, half of them by query {curve.quantile():.0f}."
    )
    return figure, alt
