"""The explorables of chapter 4. Each comes in two halves: a pure function of its parameters, and what shows it.

``*_frame`` computes the arrays of one frame with the chapter's equations; the builder evaluates it on a grid and says
how the arrays look. The page computes nothing.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from pocourse.lesson.explorable import Control, Curve, Explorable, Mark, Panel, Readout, compute
from pocourse.lesson.figures import FAINT, INK
from pocourse.zeroth_order import truth
from pocourse.zeroth_order.estimators import rloo_gradient
from pocourse.zeroth_order.figures import LINE_OF
from pocourse.zeroth_order.updates import SGD
from pocourse.zeroth_order.zoar import ZoAR

F64 = torch.float64
BLUE, ORANGE, GOLD = "#0072b2", "#d55e00", "#b58900"

# ---------------------------------------------------------------- what smoothing makes of a function


class Line(NamedTuple):
    """A function on the line with its slope, and the smoothed function with its slope, in closed form.

    ``slope`` is NaN where there is none, and so is f at a jump.
    """

    f: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    smoothed: Callable[[Tensor, float], Tensor]
    smoothed_slope: Callable[[Tensor, float], Tensor]


def _density(z: Tensor) -> Tensor:
    return (-(z**2) / 2).exp() / math.sqrt(2 * math.pi)


def _except_at(places: Tensor, values: Tensor, x: Tensor) -> Tensor:
    return values.masked_fill((x.unsqueeze(-1) == places).any(-1), math.nan)


def _stairs(places: tuple[float, ...], rise: float) -> Line:
    """Steps of one height: up at the positive places, down at the others."""
    at = torch.tensor(places, dtype=F64)
    up = torch.where(at >= 0, rise, -rise)
    base = -float(up[at < 0].sum())

    def each(function):
        return lambda x, *sigma: (up * function(x.unsqueeze(-1) - at, *sigma)).sum(-1)

    step = each(lambda beyond: (beyond > 0).to(F64))
    smooth = each(lambda beyond, sigma: torch.special.ndtr(beyond / sigma))
    slope = each(lambda beyond, sigma: _density(beyond / sigma) / sigma)
    return Line(
        lambda x: _except_at(at, base + step(x), x),
        lambda x: _except_at(at, torch.zeros_like(x), x),
        lambda x, sigma: base + smooth(x, sigma),
        slope,
    )


def _absolute(x: Tensor, sigma: float) -> Tensor:
    z = x / sigma
    return x * (z / math.sqrt(2)).erf() + 2 * sigma * _density(z)


def _left(frequency: float, sigma: float) -> float:
    """What smoothing leaves of a wave."""
    return math.exp(-((frequency * sigma) ** 2) / 2)


FLAT, FAST, WAVE = 8, 7, 0.25  # x^3 over FLAT; waves of this number and height on a sine
FLOORS = tuple(side * place for side in (-1, 1) for place in (0.5, 1.0, 1.5, 2.0))
FUNCTIONS = {
    "step": _stairs((0.0,), 1.0),
    "|x|": Line(
        torch.abs,
        lambda x: _except_at(torch.zeros(1, dtype=F64), x.sign(), x),
        _absolute,
        lambda x, sigma: (x / (sigma * math.sqrt(2))).erf(),
    ),
    "x³/8": Line(
        lambda x: x**3 / FLAT,
        lambda x: 3 * x**2 / FLAT,
        lambda x, sigma: (x**3 + 3 * sigma**2 * x) / FLAT,
        lambda x, sigma: 3 * (x**2 + sigma**2) / FLAT,
    ),
    "wiggly sine": Line(
        lambda x: x.sin() + WAVE * (FAST * x).sin(),
        lambda x: x.cos() + WAVE * FAST * (FAST * x).cos(),
        lambda x, sigma: _left(1, sigma) * x.sin() + WAVE * _left(FAST, sigma) * (FAST * x).sin(),
        lambda x, sigma: _left(1, sigma) * x.cos() + WAVE * FAST * _left(FAST, sigma) * (FAST * x).cos(),
    ),
    "staircase": _stairs(FLOORS, 0.5),
}  # fmt: skip
RADII = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.4, 2.0)
PLACES = tuple(round(-2 + 0.25 * i, 2) for i in range(17))
EDGE = 2.5
VALUES, SLOPES = (-1.5, 2.5), (-2.0, 3.0)
TANGENT = 0.8  # its length to either side, however steep
BELL = torch.linspace(-3, 3, 17, dtype=F64)
SIDE = 1e-9  # how far beside a jump its two points lie: too near for any picture


def smooth_grid() -> np.ndarray:
    """Where F is evaluated, [point]."""
    return np.round(np.linspace(-EDGE, EDGE, 101), 9)


def sharp_grid() -> np.ndarray:
    """Where f is evaluated: the same, and all places where a function may jump or bend thrice: before, at, after."""
    kinks = np.array(sorted({0.0, *FLOORS}))
    return np.sort(np.concatenate([smooth_grid(), kinks - SIDE, kinks + SIDE]))


def smoothing_frame(*, function: str, sigma: float, theta: float) -> dict[str, np.ndarray]:
    """f and F with their slopes, and what the policy N(theta, sigma^2) sees of them.

    ``f`` and ``df`` are over ``sharp_grid``, ``F`` and ``dF`` over ``smooth_grid``; ``here`` holds f, its slope, F and
    its slope at theta. ``tangent`` are the two ends of F's tangent, [2, 2]; ``bell_x`` and ``bell_y`` the policy's
    density inside the panel, as a share of its highest value, and from there down to zero, [point].
    """
    line, at = FUNCTIONS[function], torch.tensor([theta], dtype=F64)
    sharp, smooth = torch.tensor(sharp_grid()), torch.tensor(smooth_grid())
    here = torch.cat((line.f(at), line.slope(at), line.smoothed(at, sigma), line.smoothed_slope(at, sigma)))
    slope, ends = here[3], TANGENT * torch.tensor([-1, 1], dtype=F64) / (1 + here[3] ** 2).sqrt()
    bell = (at + sigma * BELL).clamp(-EDGE, EDGE)
    found = {
        "f": line.f(sharp),
        "df": line.slope(sharp),
        "F": line.smoothed(smooth, sigma),
        "dF": line.smoothed_slope(smooth, sigma),
        "here": here,
        "tangent": torch.stack((theta + ends, here[2] + slope * ends), -1),
        "bell_x": torch.cat((bell[:1], bell, bell[-1:])),
        "bell_y": torch.nn.functional.pad((-((bell - at) ** 2) / (2 * sigma**2)).exp(), (1, 1)),
    }
    return {name: value.numpy() for name, value in found.items()}


def landscape_smoothing() -> Explorable:
    """A function and its smoothed version, with their slopes: what values can tell where the slope is zero or none."""
    controls = (
        Control("function", "function f", tuple(FUNCTIONS), "step", "choice"),
        Control("sigma", "radius σ", RADII, 0.5, texts=[f"{s:.2f}" for s in RADII], play=True),
        Control("theta", "θ", PLACES, -0.75, texts=[f"{x:.2f}".replace("-", "−") for x in PLACES]),
    )
    found = compute(smoothing_frame, controls)
    sharp, smooth, places = sharp_grid(), smooth_grid(), np.array(PLACES)
    here = {name: found["here"][..., i] for i, name in enumerate(("f", "df", "F", "dF"))}
    thin, bold = {"color": INK, "linewidth": 1.5}, {"color": BLUE, "linewidth": 2.4}
    low = VALUES[0]
    at = np.broadcast_to(places.reshape(1, 1, -1, 1), (1, 1, len(places), 1))

    def curve(name: str, key: str, x: np.ndarray, look: dict, limits: tuple[float, float]) -> Curve:
        # f does not depend on the radius, and no function on theta.
        values = found[key][:, :1, :1] if key in ("f", "df") else found[key][:, :, :1]
        return Curve(name, _inside(values, limits), x, look)

    def dot(name: str, key: str, color: str, limits: tuple[float, float]) -> Curve:
        height = _inside(here[key][..., None], limits)
        return Curve(f"{name}, here", height, at, {"color": color, "size": 5}, "points", "")

    policy = Curve(
        "policy", low + 0.55 * found["bell_y"][:1], found["bell_x"][:1], {"color": GOLD, "alpha": 0.4}, "area",
        "policy N(θ, σ²), its shape",
    )  # fmt: skip
    x, y = found["tangent"][..., 0], _inside(found["tangent"][..., 1], VALUES)
    tangent = Curve("tangent", y, x, {"color": ORANGE, "linewidth": 2}, label="slope F′(θ)")
    values = [
        policy,
        curve("f", "f", sharp, thin, VALUES),
        curve("F", "F", smooth, bold, VALUES),
        tangent,
        dot("f", "f", INK, VALUES),
        dot("F", "F", ORANGE, VALUES),
    ]
    slopes = [
        curve("f′", "df", sharp, {**thin, "linestyle": (0, (2, 1.2))}, SLOPES),
        curve("F′", "dF", smooth, {**bold, "linestyle": (0, (6, 1.5))}, SLOPES),
        dot("f′", "df", INK, SLOPES),
        dot("F′", "dF", ORANGE, SLOPES),
    ]
    return Explorable(
        "zeroth_order.smoothing",
        "What smoothing makes of a function",
        controls,
        (
            Panel("f and F", "x", "f, F", (-EDGE, EDGE), VALUES, values),
            Panel("Their slopes", "x", "f′, F′", (-EDGE, EDGE), SLOPES, slopes, [Mark("hline", 0.0)]),
        ),
        "A function f, {function}, and its smoothed version F for σ = {sigma}, with their slopes. At θ = {theta}, f: "
        "{value}, its slope: {slope}; F: {smoothed}, its slope: {smoothed_slope}.",
        [
            Readout("value", "At θ: f", _numbers(here["f"], "jumps")),
            Readout("slope", "f′", _numbers(here["df"], "none")),
            Readout("smoothed", "F", here["F"]),
            Readout("smoothed_slope", "F′", here["dF"], "{:.3f}"),
        ],
        "A policy that asks at θ + σu sees F, and its gradient is F′: both are in closed form here. Where f jumps it "
        "has no slope, and elsewhere the slope of a step is zero. What leaves a panel is not drawn.",
    )  # fmt: skip


def _inside(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Gaps in place of what is outside of a panel by more than half its range."""
    low, high = limits
    room = (high - low) / 2
    return np.where((values >= low - room) & (values <= high + room), values, np.nan)


def _numbers(values: np.ndarray, where_none: str) -> np.ndarray:
    """Numbers in words, and others where there is none."""
    texts = Readout("number", "", np.nan_to_num(values)).texts
    return np.where(np.isnan(values), where_none, texts)


# ---------------------------------------------------------------- how much the estimators scatter

DIMS = (10, 100, 1000, 10_000)
BUDGETS = (4, 10, 60)
NOISES = (0.0, 2.0)
PAPER = 25.0  # sigma^2 d of the paper's experiments
SPREADS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 10_000.0)  # sigma^2 d
AXIS = np.geomspace(SPREADS[0], SPREADS[-1], 31)
POWERS = (-0.4, 3.6)
TALL = 10.0  # the bars' panel
METHODS = {"forward": "forward", "RLOO": "rloo", "antithetic": "antithetic", "one-point": "one_point"}
PARTS = {"slope": "#0072b2", "curvature": "#d55e00", "noise": "#6b6f76"}
BARS = ("forward", "RLOO", "antithetic")


def unit(d: int, queries: int) -> float:
    """What the variances are measured in, over |g|^2: (d + 1)/Q, as if each query told one slope without curvature."""
    return (d + 1) / queries


@functools.cache
def _variances(d: int, queries: int, noise: float, spread: float) -> dict[str, float]:
    found = truth.bowl(d, sigma=math.sqrt(spread / d), queries=queries, noise_std=noise)
    return {name: getattr(found, key) / unit(d, queries) for name, key in METHODS.items()}


def variance_frame(*, d: int, queries: int, noise: float, spread: float) -> dict[str, np.ndarray]:
    """Variances on the round bowl at equal queries, in ``unit``s: over ``AXIS`` in sigma^2 d, and at ``spread``.

    Names of ``METHODS`` -> [point], and the same with ``, here`` -> a number. ``slope``, ``curvature`` and ``noise``
    [method of BARS] are what the numbers are made of. ``crossing`` and ``forward_crossing`` are the sigma^2 d above
    which RLOO and the forward difference scatter more than pairs do.
    """
    rows = [_variances(d, queries, noise, float(s)) for s in AXIS]
    here, square = _variances(d, queries, noise, spread), spread / d
    terms = truth.bowl_terms(d, queries=queries, noise_std=noise)
    parts = np.array([terms[METHODS[name]] for name in BARS]) * [1, square, 1 / square] / unit(d, queries)
    crossings = {
        key: truth.crossing(d, queries=queries, noise_std=noise, method=method)
        for key, method in (("crossing", "rloo"), ("forward_crossing", "forward"))
    }
    return {
        **{name: np.array([row[name] for row in rows]) for name in METHODS},
        **{f"{name}, here": np.array(x) for name, x in here.items()},
        **dict(zip(PARTS, parts.T, strict=True)),
        **{key: np.array(x) for key, x in crossings.items()},
    }


def variance_of_estimators() -> Explorable:
    """Variance at equal queries against sigma^2 d for four estimators, and what it is made of."""
    controls = (
        Control("d", "dimensions d", DIMS, 1000, "choice", [f"{d:,}" for d in DIMS]),
        Control("queries", "queries Q", BUDGETS, 10, "choice"),
        Control("noise", "noise ν in f", NOISES, 0.0, "choice", ["none", "ν = 2"]),
        Control("spread", "σ²d", SPREADS, PAPER, texts=[f"{s:,g}" for s in SPREADS], play=True),
    )
    found = compute(variance_frame, controls)
    axis, here = np.log10(AXIS), np.log10(np.array(SPREADS))
    lines = [
        Curve(
            "now", np.broadcast_to(POWERS, (1, 1, 1, len(SPREADS), 2)), np.stack([here, here], -1)[None, None, None],
            {"color": FAINT, "linewidth": 1.4}, label="",
        )
    ]  # fmt: skip
    for name in METHODS:
        look = LINE_OF[name]
        lines.append(Curve(name, _gaps(np.log10(found[name][:, :, :, :1])), axis, look))
        lines.append(
            Curve(f"{name}, here", _gaps(np.log10(found[f"{name}, here"]))[..., None], here.reshape(1, 1, 1, -1, 1),
                  {"color": look["color"], "size": 4.5}, "points", "")
        )  # fmt: skip
    bars, total = [], 0.0
    for part, color in PARTS.items():
        below, total = total, total + found[part]
        for i, name in enumerate(BARS):
            bottom = np.broadcast_to(below if isinstance(below, float) else below[..., i], total.shape[:-1])
            heights = np.stack([bottom, total[..., i], total[..., i], bottom], -1)
            sides, look = i + np.array([-0.3, -0.3, 0.3, 0.3]), {"color": color, "alpha": 0.9}
            label = part if i == 0 else ""
            bars.append(Curve(f"{part}, {name}", np.minimum(heights, 1.05 * TALL), sides, look, "area", label))
    scale = [Mark("hline", float(y)) for y in range(0, 10, 2)]
    scale += [Mark("text", (-0.9, float(y)), f"{y}", INK, lift=8) for y in range(0, 10, 2)]
    scale += [Mark("text", (float(i), -0.55), name, INK, "middle") for i, name in enumerate(BARS)]
    over = {name: found[f"{name}, here"] * _units(found[f"{name}, here"].shape) for name in METHODS}
    return Explorable(
        "zeroth_order.variance",
        "How much the estimators scatter",
        controls,
        (
            Panel("Variance at equal queries", "log₁₀ of σ²d", "log₁₀ of variance / unit", (axis[0], axis[-1]),
                  POWERS, lines, [Mark("vline", math.log10(PAPER)), Mark("text", (math.log10(PAPER), POWERS[1] - 0.2),
                                                                         "paper ", INK, "end")], share=1.35),
            Panel("Its parts, in units", "", "", (-0.95, 2.4), (-0.95, TALL), bars, scale, bare=True),
        ),
        "Variance of four estimators on |x|²/2 where |g|² = d = {d}, from {queries} queries each, noise in f: {noise}, "
        "against σ²d. At σ²d = {spread}, over |g|²: forward {forward}, RLOO {rloo}, antithetic {antithetic}, one-point "
        "{one_point}. RLOO scatters more than pairs from σ²d = {crossing} on, forward from {forward_crossing} on.",
        [
            Readout("forward", "Var/|g|²: forward", _short(over["forward"])),
            Readout("rloo", "RLOO", _short(over["RLOO"])),
            Readout("antithetic", "antithetic", _short(over["antithetic"])),
            Readout("one_point", "one-point", _short(over["one-point"])),
            Readout("crossing", "Pairs beat RLOO from σ²d =", _where(found["crossing"])),
            Readout("forward_crossing", "and forward from", _where(found["forward_crossing"]), tied=True),
        ],
        "f = |x|²/2 where |g|² = d, as at a normal start: its Hessian is the identity. One unit is (d + 1)|g|²/Q, as "
        "if each query told one slope and nothing else: height 0 on the left, 1 on the right. Forward spends a query "
        "on f(θ), antithetic two on a direction. Noise is independent in every value. Bars are cut at the top.",
    )  # fmt: skip


def _units(shape: tuple[int, ...]) -> np.ndarray:
    return np.broadcast_to(np.array([[unit(d, q) for q in BUDGETS] for d in DIMS])[:, :, None, None], shape)


def _gaps(powers: np.ndarray) -> np.ndarray:
    """Gaps in place of what is far above the panel."""
    return np.where(powers <= POWERS[1] + 1.5, powers, np.nan)


def _short(values: np.ndarray) -> np.ndarray:
    """Three digits, with words for large numbers."""

    def said(x: float) -> str:
        for size, word in ((1e9, " billion"), (1e6, " million")):
            if x >= 0.9995 * size:
                return f"{_digits(x / size)}{word}"
        return _digits(x)

    return np.array([said(x) for x in values.ravel().tolist()]).reshape(values.shape)


def _digits(x: float) -> str:
    rounded = float(f"{x:.3g}")
    return f"{rounded:,.0f}" if rounded >= 100 else f"{rounded:g}"


def _where(values: np.ndarray) -> np.ndarray:
    texts = ["0" if x == 0 else _digits(x) for x in values.ravel().tolist()]
    return np.array(texts).reshape(values.shape)


# ---------------------------------------------------------------- old queries

CURVATURE = (0.5, 4.0)
START = (-2.4, 1.3)
ASKED, RADIUS = 4, 0.3
ITERATIONS = tuple(range(1, 22))
LENGTHS = (1, 2, 4, 6)
STRIDES = (0.03, 0.06, 0.1)
RUNS, SHOWN = 1000, 0  # runs side by side, and the one that is drawn
NEEDLE, WIDTH = 0.95, 0.055
WINDOW = ((-3.2, 1.0), (-1.8, 1.9))
HEIGHTS = (0.0, 1.04)
CONTOURS = (0.25, 1.0, 2.25, 4.0, 6.25)


class Run(NamedTuple):
    """ZoAR on a long bowl, many runs side by side, [iteration, run, ...].

    ``theta`` is where each gradient was asked for, ``value`` f there, ``points`` [iteration, query, 2] the queries of
    the run that is drawn; ``truth`` the smoothed gradient, ``aim`` its mean over the iterations in the buffer,
    ``kept`` ZoAR's estimate and ``fresh`` the one of the last queries alone.
    """

    theta: np.ndarray
    value: np.ndarray
    points: np.ndarray
    truth: np.ndarray
    aim: np.ndarray
    kept: np.ndarray
    fresh: np.ndarray


@functools.cache
def reuse_run(history: int, stride: float, *, seed: int = 3) -> Run:
    """SGD with ZoAR's gradient from ``START``; the same directions for every history and stride."""
    generator, curvature = torch.Generator().manual_seed(seed), torch.tensor(CURVATURE, dtype=F64)
    zoar = ZoAR(2, num_queries=ASKED, history=history, sigma=RADIUS, generator=generator, dtype=F64)
    theta, step = torch.tensor(START, dtype=F64).expand(RUNS, 2), SGD(learning_rate=stride)
    rows, slopes = [], []
    for _ in ITERATIONS:
        points = zoar.ask(theta)
        values, value = ((curvature * x**2).sum(-1) / 2 for x in (points, theta))
        slopes.append(curvature * theta)  # of f, and of a quadratic's F alike
        kept, fresh = zoar.tell(values), rloo_gradient(values, (points - theta) / RADIUS, sigma=RADIUS)
        aim = torch.stack(slopes[-history:]).mean(0)
        rows.append((theta, value, points[:, SHOWN], slopes[-1], aim, kept, fresh))
        theta = theta + step(kept)
    return Run(*(torch.stack(x).numpy() for x in zip(*rows, strict=True)))


ARROWS = {"truth": "truth", "with memory": "kept", "without": "fresh"}
COSINES = {"with memory": "kept", "without": "fresh", "aim": "aim"}


@functools.cache
def reuse_cosines(history: int, stride: float) -> dict[str, np.ndarray]:
    """Cosines with the true gradient, names of ``COSINES`` -> [iteration, run]."""
    run = reuse_run(history, stride)
    return {
        name: cosine_similarity(*(torch.tensor(x) for x in (getattr(run, key), run.truth)), dim=-1).numpy()
        for name, key in COSINES.items()
    }


def _needle(at: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """A thin triangle from a place down a gradient, all of one length: corners [3, 2]."""
    along = -gradient / np.linalg.norm(gradient)
    across = WIDTH * np.array([-along[1], along[0]])
    return np.stack([at + across, at + NEEDLE * along, at - across])


def reuse_frame(*, iteration: int, history: int, stride: float) -> dict[str, np.ndarray]:
    """One iteration of a run with memory.

    ``theta`` [1, 2] is where it is, ``before`` [5, 2] where it was in the other iterations of the buffer, ``asked``
    [4, 2] the last queries and ``kept`` [20, 2] those remembered, NaN where there are fewer; ``path`` [25, 2] the whole
    run. ``truth``, ``with memory`` and ``without`` are needles [3, 2] down the three gradients, ``aim`` the ends [2, 2]
    of a line down the mean of the true gradients in the buffer. ``cos with memory``, ``cos without`` and ``cos aim``
    are cosines with the truth in this run; the same with ``mean`` [iteration] are means over all runs. ``value`` is the
    median of f over all runs, ``ess`` the share of the oldest queries that importance weights would leave,
    exp(-|Delta|^2 / sigma^2).
    """
    run, t = reuse_run(history, stride), iteration - 1
    first = max(0, t - history + 1)
    theta, here = run.theta[:, SHOWN], run.theta[t, SHOWN]
    found = {"theta": here[None], "path": theta, "asked": run.points[t]}
    found["before"] = _padded(theta[first:t], LENGTHS[-1] - 1)
    found["kept"] = _padded(run.points[first:t].reshape(-1, 2), (LENGTHS[-1] - 1) * ASKED)
    for name, key in ARROWS.items():
        found[name] = _needle(here, getattr(run, key)[t, SHOWN])
    found["aim"] = _needle(here, run.aim[t, SHOWN])[1][None].repeat(2, 0)
    found["aim"][0] = here
    for name, cosine in reuse_cosines(history, stride).items():
        found |= {f"cos {name}": cosine[t, SHOWN], f"mean {name}": cosine.mean(1)}
    found["value"] = np.median(run.value[t])
    found["ess"] = np.exp(-((here - theta[first]) ** 2).sum() / RADIUS**2)
    return found


def _padded(rows: np.ndarray, length: int) -> np.ndarray:
    """Rows of NaN in front, up to a length."""
    return np.concatenate([np.full((length - len(rows), 2), np.nan), rows])


def reuse() -> Explorable:
    """Queries of the last iterations around a moving theta, the gradients they give, and where the memory aims."""
    controls = (
        Control("iteration", "iteration", ITERATIONS, 13, play=True),
        Control("history", "memory N", LENGTHS, 6, "choice"),
        Control("stride", "step size", STRIDES, 0.1, "choice"),
    )
    found = compute(reuse_frame, controls)

    def spots(name: str, key: str, look: dict, label: str = "", kind: str = "points") -> Curve:
        values = _seen(found[key])
        return Curve(name, values[..., 1], values[..., 0], look, kind, label)

    rings = []
    angle = np.linspace(0, 2 * math.pi, 61)
    for level in CONTOURS:
        x, y = (math.sqrt(2 * level / c) * f(angle) for c, f in zip(CURVATURE, (np.cos, np.sin), strict=True))
        inside = (x >= WINDOW[0][0] - 1) & (x <= WINDOW[0][1] + 1)
        rings.append(
            Curve(f"level {level:g}", np.where(inside, y, np.nan)[None, None, None], np.where(inside, x, np.nan),
                  {"color": FAINT, "linewidth": 0.9, "alpha": 0.7}, label="")
        )  # fmt: skip
    kept, fresh = LINE_OF["ZoAR"]["color"], LINE_OF["RLOO"]["color"]
    plane = [
        *rings,
        spots("path", "path", {"color": FAINT, "linewidth": 1.2}, "run", "line"),
        spots("kept", "kept", {"color": kept, "size": 3, "alpha": 0.45}, "remembered"),
        spots("asked", "asked", {"color": fresh, "size": 4.5, "marker": "^"}, "asked now"),
        spots("before", "before", {"color": FAINT, "size": 4, "marker": "D"}, "θ then"),
        spots("truth", "truth", {"color": INK, "alpha": 0.9}, "−∇F", "area"),
        spots("without", "without", {"color": fresh, "alpha": 0.85}, "", "area"),
        spots("with memory", "with memory", {"color": kept, "alpha": 0.85}, "", "area"),
        spots("aim", "aim", {"color": ORANGE, "linewidth": 2, "linestyle": (0, (3, 1.5))}, "", "line"),
        spots("theta", "theta", {"color": INK, "size": 5}, ""),
    ]
    times = np.array(ITERATIONS, dtype=float)
    cosines = [
        Curve("now", np.broadcast_to(HEIGHTS, (len(times), 1, 1, 2)),
              np.broadcast_to(times.reshape(-1, 1, 1, 1), (len(times), 1, 1, 2)), {"color": FAINT, "linewidth": 1.4},
              label=""),
    ]  # fmt: skip
    for name, label, look in (
        ("with memory", "with memory", LINE_OF["ZoAR"]),
        ("without", "without", LINE_OF["RLOO"]),
        ("aim", "mean of N true ones", {"color": ORANGE, "linestyle": (0, (3, 1.5))}),
    ):
        along = found[f"mean {name}"]
        cosines.append(Curve(name, along[:1], times, look, label=label))
        now = np.take_along_axis(along, np.arange(len(times)).reshape(-1, 1, 1, 1), -1)
        dot = {"color": look["color"], "size": 4.5}
        cosines.append(Curve(f"{name}, here", now, times.reshape(-1, 1, 1, 1), dot, "points", ""))
    means = {
        name: np.take_along_axis(found[f"mean {name}"], np.arange(len(times)).reshape(-1, 1, 1, 1), -1)[..., 0]
        for name in ("with memory", "without", "aim")
    }
    (x0, x1), (y0, y1) = WINDOW
    return Explorable(
        "zeroth_order.reuse",
        "Old queries around a moving θ",
        controls,
        (
            Panel("One run", "x₁", "x₂", (x0, x1), (y0, y1), plane, equal=True, share=1.25),
            Panel(f"Cosine with −∇F, {RUNS:,} runs", "iteration", "mean cosine", (0.5, times[-1] + 0.5), HEIGHTS,
                  cosines),
        ),
        f"ZoAR with {ASKED} queries an iteration and σ = {RADIUS:g} on a long bowl, iteration {{iteration}}, memory "
        "N = {history}, step size {stride}. In this run the cosine with the true direction is {run_kept} with memory "
        "and {run_fresh} without; on average over all runs {mean_kept}, {mean_fresh}, and {mean_aim} for the mean of "
        "the N true gradients; the median of f is {value}. Importance weights would leave {ess} of the oldest queries.",
        [
            Readout("run_kept", "This run, cosine: with memory", found["cos with memory"]),
            Readout("run_fresh", "without", found["cos without"], tied=True),
            Readout("mean_kept", "all runs: with", means["with memory"]),
            Readout("mean_fresh", "without", means["without"], tied=True),
            Readout("mean_aim", "mean of N true ones", means["aim"], tied=True),
            Readout("value", "median f(θ)", found["value"]),
            Readout("ess", "ESS of the oldest", _percent(found["ess"])),
        ],
        f"f = x₁²/4 + 2x₂², K = {ASKED} queries an iteration, σ = {RADIUS:g}, SGD with ZoAR's gradient, started at "
        f"({START[0]:g}, {START[1]:g}) with the same random directions for all settings. Needles have one length. "
        "Without memory: the estimate from the queries of this iteration alone, at the same θ. ESS: what importance "
        "weights would leave of the oldest queries in the buffer.".replace("-", "−"),
    )  # fmt: skip


def _seen(points: np.ndarray) -> np.ndarray:
    """Gaps in place of points far outside of the window."""
    beyond = np.zeros(points.shape[:-1], dtype=bool)
    for axis, (low, high) in enumerate(WINDOW):
        room = (high - low) / 2
        beyond |= ~((points[..., axis] >= low - room) & (points[..., axis] <= high + room))
    return np.where(beyond[..., None], np.nan, points)


def _percent(shares: np.ndarray) -> np.ndarray:
    texts = ["under 0.1%" if x < 0.0005 else f"{float(f'{100 * x:.2g}'):g}%" for x in shares.ravel().tolist()]
    return np.array(texts).reshape(shares.shape)


EXPLORABLES = {"smoothing": landscape_smoothing, "variance": variance_of_estimators, "reuse": reuse}
