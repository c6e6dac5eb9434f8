"""The explorables of chapter 2. Each comes in two halves: a pure function of its parameters, and what shows it.

``*_frame`` computes the arrays of one frame with the chapter's equations; the builder evaluates it on a grid and says
how the arrays look. The page computes nothing.
"""

import functools
import itertools
from collections.abc import Mapping

import numpy as np
import torch

from pocourse.lesson.bands import bootstrap_band, interquartile_mean
from pocourse.lesson.explorable import Control, Curve, Explorable, Mark, Panel, Readout, compute
from pocourse.lesson.figures import FAINT, INK, LIMIT
from pocourse.ratio_clipping import bounds, optima
from pocourse.ratio_clipping.figures import (
    EPS,
    LINE_OF,
    OBJECTIVES,
    SoftmaxBatch,
    objectives_at,
    softmax_batch,
    value_and_slope,
)
from pocourse.worlds.bandit import bandit_advantage

GREEN, PURPLE, GOLD = "#009e73", "#aa4499", "#b58900"

# ---------------------------------------------------------------- objective and derivative against the ratio

EDGES = (0.1, 0.15, 0.2, 0.25, 0.3)
FAR = 0.4  # ratios from 1 - FAR to 1 + FAR
SIDE = 1e-9  # how far beside a kink its two points lie: too near for any picture, far enough for autograd


def ratio_grid() -> np.ndarray:
    """Ratios from 0.6 to 1.4, with every kink 1 - eps and 1 + eps twice: just below it and just above, [point].

    A derivative that jumps there is drawn as a vertical line, never as a ramp.
    """
    plain = np.round(np.linspace(1 - FAR, 1 + FAR, 33), 9)
    kinks = np.round([1 + side * eps for side in (-1, 1) for eps in EDGES], 9)
    smooth = np.setdiff1d(plain, kinks)
    return np.sort(np.concatenate([smooth, kinks - SIDE, kinks + SIDE]))


def objectives_frame(*, sign: int, size: float, eps: float) -> dict[str, np.ndarray]:
    """The five objectives on ``ratio_grid`` for A = sign size: names -> [point].

    ``f PPO`` and so on for f(r) - f(1), ``df PPO`` for the derivatives, which are autograd's.
    """
    arrays = {}
    for name, function in objectives_at(eps).items():
        value, slope = value_and_slope(function, ratio_grid(), sign * size)
        start, _ = value_and_slope(function, np.ones(1), sign * size)
        arrays[f"f {name}"], arrays[f"df {name}"] = value - start, slope
    return arrays


def objective_shapes() -> Explorable:
    """Objective and derivative of five objectives against the ratio, for a sign and size of A and an eps."""
    controls = (
        Control("sign", "advantage A", (1, -1), 1, "choice", ("A > 0 (make it likelier)", "A < 0 (make it rarer)")),
        Control("size", "size |A|", (0.5, 1.0, 1.5), 1.0, "choice"),
        Control("eps", "range ε", EDGES, EPS, texts=[f"{eps:.2f}" for eps in EDGES]),
    )
    found, ratio = compute(objectives_frame, controls), ratio_grid()
    names = tuple(OBJECTIVES)
    sides = np.array([[1 - eps, 1 + eps, 1 + eps, 1 - eps] for eps in EDGES])[None, None]
    panels = []
    for title, key, ylabel, low, high in (
        ("Objective, from its value at r = 1", "f", "f(r) − f(1)", -1.2, 0.7),
        ("Derivative", "df", "df/dr", -4.8, 4.8),
    ):
        heights = np.array([low, low, high, high]).reshape(1, 1, 1, 4)
        range_ = Curve("range", heights, sides, {"color": FAINT, "alpha": 0.16}, "area", label="the range 1 ± ε")
        lines = [Curve(name, found[f"{key} {name}"], ratio, LINE_OF[name]) for name in names]
        marks = [Mark("vline", 1.0), *([Mark("hline", 0.0)] if key == "df" else [])]
        panels.append(Panel(title, "ratio r", ylabel, (1 - FAR, 1 + FAR), (low, high), [range_, *lines], marks))
    # Far out the way that A pushes: the last point for a good action, the first for a bad one.
    far = [
        Readout(
            "far_" + name.lower().replace("-", "_"),
            name,
            _slopes(np.stack([found[f"df {name}"][0, ..., -1], found[f"df {name}"][1, ..., 0]])),
        )
        for name in names
    ]
    where = Readout("where", "df/dr at", np.array([f"r = {1 + FAR:g}", f"r = {1 - FAR:g}"]).reshape(2, 1, 1))
    edge = Readout("edge", "edge", np.array([[[1 + s * eps for eps in EDGES]] for s in (1, -1)]), shown=False)
    return Explorable(
        "ratio_clipping.objectives",
        "Five objectives and their derivatives",
        controls,
        panels,
        "Five objectives, from their values at r = 1, and their derivatives against the ratio r from 0.6 to 1.4, for "
        "{sign}, |A| = {size}, ε = {eps}. The edge that A pushes to is r = {edge}. Far beyond it, at {where} the "
        "derivative is {far_unclipped} unclipped, {far_ppo} for PPO, {far_ppo_rb} for PPO-RB, {far_spo} for SPO, "
        "{far_simple} for simple. The sign of A there means pushing on, zero letting go, the other sign pulling back.",
        [where, *far, edge],
        "Beyond the edge the sign of A means pushing on, zero means letting go, the other sign means pulling back.",
    )


def _slopes(values: np.ndarray) -> np.ndarray:
    """Slopes in words, with their sign; a slope of zero has none."""
    texts = [f"{x:+.2f}".replace("-", "−") if round(x, 2) else "0" for x in values.ravel().tolist()]
    return np.array(texts).reshape(values.shape)


# ---------------------------------------------------------------- ratios on the batch of noise

DEPTHS = (0, 1, 3)
KEPT = 16  # frames from 0 to 300 steps
SHOWN = 0  # the seed whose samples are drawn
LIFT = 11  # pixels between a line and the middle of the words on it
ROOM = 0.03  # of a panel's range, for markers that come to its edge


def softmax_runs() -> dict[int, SoftmaxBatch]:
    """What the scatter is made of: 300 steps on the batch of noise, 8 seeds, per depth."""
    return {depth: softmax_batch(depth, kept=KEPT) for depth in DEPTHS}


def scatter_frame(
    *, step: int, depth: int, objective: str, runs: Mapping[int, SoftmaxBatch] | None = None
) -> dict[str, np.ndarray]:
    """The ratios after some steps, one seed's drawn and eight seeds' summed up.

    ``up`` and ``down`` are the ratios of the samples with A > 0 and with A < 0, [sample], in the order of
    ``scatter_advantages``. ``deviation`` is the mean of |r - 1| and ``outside`` the share with |r - 1| > 1.05 eps, both
    of the seed that is drawn; ``deviation_all`` and ``outside_all`` are interquartile means over all seeds.
    """
    run = (softmax_runs() if runs is None else runs)[depth]
    ratio = run.ratio[run.epochs.tolist().index(step), run.methods.index(objective)].astype(float)
    far = np.abs(ratio - 1)
    deviation, outside = far.mean(-1), (far > 1.05 * EPS).mean(-1)
    good = run.advantage[SHOWN] > 0
    return {
        "up": ratio[SHOWN, good],
        "down": ratio[SHOWN, ~good],
        "deviation": deviation[SHOWN],
        "outside": outside[SHOWN],
        "deviation_all": interquartile_mean(deviation),
        "outside_all": interquartile_mean(outside),
        "lowest": ratio[SHOWN].min(),
        "highest": ratio[SHOWN].max(),
    }


def scatter_advantages(run: SoftmaxBatch) -> tuple[np.ndarray, np.ndarray]:
    """The advantages of the seed that is drawn: those above zero, and the others, each [sample]."""
    advantage = run.advantage[SHOWN].astype(float)
    return advantage[advantage > 0], advantage[advantage <= 0]


def ratio_scatter(runs: Mapping[int, SoftmaxBatch] | None = None) -> Explorable:
    """The ratios of 256 samples against their advantages, as 300 steps on one batch go by.

    ``runs`` are those of ``softmax_runs`` where they have been computed already.
    """
    runs = softmax_runs() if runs is None else runs
    epochs = tuple(int(epoch) for epoch in runs[DEPTHS[0]].epochs)
    layers = tuple(str(n) if n else "0 (linear)" for n in DEPTHS)
    controls = (
        Control("step", "steps", epochs, epochs[-1], play=True),
        Control("depth", "hidden layers", DEPTHS, DEPTHS[-1], "choice", layers),
        Control("objective", "objective", ("PPO", "SPO"), "PPO", "choice"),
    )
    found = compute(functools.partial(scatter_frame, runs=runs), controls)
    up, down = scatter_advantages(runs[DEPTHS[0]])
    top = float(np.ceil(4 * found["highest"].max() + 0.25) / 4)
    dots = {"alpha": 0.6, "size": 4.2}
    cloud = [
        Curve("A > 0", found["up"], up, {"color": GREEN, "marker": "^", **dots}, "points", "A > 0, one seed"),
        Curve("A < 0", found["down"], down, {"color": PURPLE, "marker": "v", **dots}, "points", "A < 0, one seed"),
    ]
    edges = [Mark("hline", 1 - EPS, color=LIMIT), Mark("hline", 1 + EPS, color=LIMIT), Mark("hline", 1.0)]
    reach = float(np.ceil(2 * max(up.max(), -down.min()) + 0.2) / 2)
    words = [
        Mark("text", (-reach + 0.15, 1 + EPS), f"1 + ε = {1 + EPS:g}", LIMIT, lift=LIFT),
        Mark("text", (reach - 0.15, 1 - EPS), f"1 − ε = {1 - EPS:g}", LIMIT, "end", lift=-LIFT),
    ]
    left = Panel(
        "Every sample's ratio", "advantage A", "ratio r", (-reach, reach), (0.0, top), cloud, edges + words, share=1.25
    )
    lines = list(itertools.chain.from_iterable(_deviation_curves(name, runs) for name in ("PPO", "SPO")))
    here = {"color": INK, "marker": "D", "size": 5.5}
    step = np.array(epochs, dtype=float).reshape(-1, 1, 1, 1)
    lines.append(Curve("here", found["deviation_all"][..., None], step, here, "points", ""))
    height = float(np.ceil(10 * max(curve.y.max() for curve in lines)) / 10)
    marks = [Mark("hline", EPS, color=LIMIT), Mark("text", (epochs[-1], EPS), f"ε = {EPS:g}", LIMIT, "end", lift=LIFT)]
    steps, deviations = ((-ROOM * far, (1 + ROOM) * far) for far in (epochs[-1], height))
    right = Panel("Their mean distance from 1", "steps", "mean of |r − 1|", steps, deviations, lines, marks)
    percent = "{:.0%}"
    return Explorable(
        "ratio_clipping.scatter",
        "Three hundred steps on one batch of noise",
        controls,
        (left, right),
        "256 ratios of one seed against their advantages for {objective} (hidden layers: {depth}) after {step} steps: "
        "from {lowest} to {highest}, mean distance from 1 {deviation}, {outside} more than 1.05 ε away from 1. "
        "Interquartile means over 8 seeds: {deviation_all} and {outside_all}. Red lines mark 1 − ε and 1 + ε.",
        [
            Readout("deviation", "This seed: mean |r − 1|", found["deviation"]),
            Readout("outside", "beyond 1.05 ε", found["outside"], percent, tied=True),
            Readout("deviation_all", "8 seeds: mean |r − 1|", found["deviation_all"]),
            Readout("outside_all", "beyond 1.05 ε", found["outside_all"], percent, tied=True),
            Readout("lowest", "lowest", found["lowest"], shown=False),
            Readout("highest", "highest", found["highest"], shown=False),
        ],
        "The triangles are the 256 samples of one seed. Lines, band and the numbers of 8 seeds: interquartile mean and "
        "95% bootstrap band. With three layers your own run may differ in the second digit.",
    )


def _deviation_curves(objective: str, runs: Mapping[int, SoftmaxBatch]) -> list[Curve]:
    """Mean |r - 1| of one objective against the step: band and interquartile mean over the seeds, per depth."""
    lines, bands = [], []
    for depth in DEPTHS:
        values = runs[depth].deviation[::6, runs[depth].methods.index(objective)].astype(float)
        low, high = bootstrap_band(values, axis=1, resamples=300)
        lines.append(interquartile_mean(values, axis=1))
        bands.append(np.concatenate([low, high[::-1]]))
    step = np.arange(len(runs[DEPTHS[0]].deviation), dtype=float)[::6]
    line, band = (np.array(arrays)[None, :, None] for arrays in (lines, bands))
    look = LINE_OF[objective]
    around = {"color": look["color"], "alpha": 0.2}
    return [
        Curve(f"{objective}, band", band, np.concatenate([step, step[::-1]]), around, "area", ""),
        Curve(objective, line, step, look, label=f"{objective}, 8 seeds"),
    ]


# ---------------------------------------------------------------- balls around a policy

REWARD = (1.0, 0.6, -0.6)
RADII = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4)
POLICIES = {
    "undecided": (1 / 3, 1 / 3, 1 / 3),
    "leaning to the worst": (0.2, 0.3, 0.5),
    "leaning to the best": (0.6, 0.3, 0.1),
    "nearly sure of the worst": (0.04, 0.1, 0.86),
}
PRICES = (0.0, 0.3, 0.6, 0.9, 1.2, 1.5, 1.8)
LEVELS = (-0.9, -0.6, -0.3, 0.3, 0.6, 0.9, 1.2)  # and zero, which is drawn as an area
# The corners of the triangle: the best action on top, the second at the left, the worst at the right.
CORNERS = np.array([[0.5, np.sqrt(0.75)], [0.0, 0.0], [1.0, 0.0]])
BALLS = ("TV", "KL(old‖new)", "KL(new‖old)")
_VERTICES = 12
_RAYS, _ON_SIDE = 30, 14


def on_triangle(policy: np.ndarray) -> np.ndarray:
    """Policies over three actions as points of the equilateral triangle: [..., action] -> [..., 2]."""
    return np.asarray(policy) @ CORNERS


def divergence(ball: str, policy: np.ndarray, new: np.ndarray) -> np.ndarray:
    """How far ``new`` [..., action] is from ``policy`` [action] as this ball measures it: [...]."""
    new = torch.as_tensor(np.asarray(new, dtype=float))
    old = torch.as_tensor(np.asarray(policy, dtype=float)).expand_as(new)
    if ball == "TV":
        return bounds.total_variation(old, new).numpy()
    first, second = (old, new) if ball == "KL(old‖new)" else (new, old)
    return bounds.kl_divergence(first, second).numpy()


def limit(ball: str, radius: float) -> float:
    """The ball's radius in its own units: for KL the smallest that Pinsker's inequality allows at this TV, 2 TV^2."""
    return radius if ball == "TV" else 2 * radius**2


def _cut(polygon: list[np.ndarray], normal: np.ndarray, least: float) -> list[np.ndarray]:
    """The part of a convex polygon of policies in which ``policy @ normal >= least``, exactly."""
    kept = []
    for a, b in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        at, bt = a @ normal - least, b @ normal - least
        if at >= 0:
            kept.append(a)
        if (at > 0 > bt) or (at < 0 < bt):
            kept.append(a + (b - a) * (at / (at - bt)))
    return kept


def tv_ball(policy: np.ndarray, radius: float) -> np.ndarray:
    """Corners of the TV ball, [corner, action]: with three actions, no probability moves further than ``radius``."""
    polygon = list(np.eye(3))
    for action, side in itertools.product(range(3), (-1, 1)):
        polygon = _cut(polygon, side * np.eye(3)[action], side * policy[action] - radius)
    return np.array(polygon)


def kl_ball(ball: str, policy: np.ndarray, radius: float) -> np.ndarray:
    """The edge of a KL ball by bisection along rays from the policy, cut off at the triangle's sides: [ray, action].

    Rays all around, and rays to places along the sides, corners among them: a policy near a corner needs those.
    """
    along = np.linspace(0, 1, _ON_SIDE, endpoint=False)[:, None]
    sides = np.concatenate([(1 - along) * CORNERS[i] + along * CORNERS[i - 1] for i in range(3)])
    to_sides = np.arctan2(*(sides - on_triangle(policy)).T[::-1])
    angle = np.sort(np.concatenate([np.linspace(-np.pi, np.pi, _RAYS, endpoint=False), to_sides]))
    heading = np.stack([np.cos(angle), np.sin(angle)], -1) @ np.linalg.inv(CORNERS[:2] - CORNERS[2])
    direction = np.concatenate([heading, -heading.sum(-1, keepdims=True)], -1)
    with np.errstate(divide="ignore"):
        side = np.where(direction < -1e-12, -policy / direction, np.inf).min(-1)
    low, high = np.zeros_like(side), side

    def at(length: np.ndarray) -> np.ndarray:
        new = np.clip(policy + length[:, None] * direction, 0, None)
        return new / new.sum(-1, keepdims=True)

    for _ in range(60):
        middle = (low + high) / 2
        inside = divergence(ball, policy, at(middle)) <= limit(ball, radius)
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return at(low)


def best_in_ball(ball: str, policy: np.ndarray, advantage: np.ndarray, radius: float) -> np.ndarray:
    """The policy of largest expected advantage in a ball, [action]: an exact optimum, its step by bisection."""
    prob, adv = torch.tensor(policy), torch.tensor(advantage)
    if ball == "TV":
        return (prob * optima.tv_constrained_optimum(prob, adv, eps=2 * radius)).numpy()
    link = optima.kl_old_new_link if ball == "KL(old‖new)" else optima.kl_new_old_link

    def at(step: float) -> np.ndarray:
        new = (prob * link(prob, adv, step=step)).numpy()
        return new / new.sum()

    low, high = -8.0, 6.0  # powers of ten
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if divergence(ball, policy, at(10**middle)) <= limit(ball, radius) else (low, middle)
    return at(10**low)


def lower_bound(policy: np.ndarray, advantage: np.ndarray, new: np.ndarray, price: float) -> np.ndarray:
    """What is sure of a step in one state: E_new[A] - C TV(policy, new), for new [..., action] -> [...]."""
    return np.asarray(new) @ advantage - price * divergence("TV", policy, new)


def sure_at_least(policy: np.ndarray, advantage: np.ndarray, price: float, level: float) -> np.ndarray:
    """Corners of the region in which the lower bound is at least ``level``, [corner, action]; none if it is empty.

    The bound is the smallest of eight linear functions, one for each choice of signs in TV.
    """
    polygon = list(np.eye(3))
    for signs in itertools.product((-1.0, 1.0), repeat=3):
        normal = advantage - price / 2 * np.array(signs)
        polygon = _cut(polygon, normal, level + policy @ (normal - advantage))
    return np.array(polygon).reshape(-1, 3)


def best_of_bound(policy: np.ndarray, advantage: np.ndarray, price: float) -> np.ndarray:
    """Where the lower bound is largest, [action]: every action that is worse than the best by more than C gives it all.

    A price linear in the distance is paid in full or not at all; where the difference is C itself, nothing moves.
    """
    best = int(advantage.argmax())
    leaves = advantage[best] - advantage > price
    new = np.where(leaves, 0.0, policy)
    new[best] += policy[leaves].sum()
    return new


def _closed(corners: np.ndarray, length: int) -> np.ndarray:
    """A polygon as a closed line of fixed length, [length, 2]: its start is repeated; NaN where it is empty."""
    if len(corners) == 0:
        return np.full((length, 2), np.nan)
    index = np.arange(length)
    return on_triangle(corners)[np.where(index < len(corners), index, 0)]


def _inner(corners: np.ndarray, length: int) -> np.ndarray:
    """The sides of a polygon that are not sides of the triangle, as a line with gaps, [length, 2]."""
    gap, line = np.full(3, np.nan), []
    for a, b in itertools.pairwise([*corners, *corners[:1]]):
        if not ((a < 1e-12) & (b < 1e-12)).any() and np.abs(a - b).max() > 1e-9:
            line += [b] if line and line[-1] is a else [gap, a, b] if line else [a, b]
    return on_triangle(np.array([*line, *[gap] * (length - len(line))]))


@functools.cache
def _around(radius: float, policy: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What does not depend on the price: the edge of each ball, [point, 2], and its best policy, [action]."""
    old = np.array(POLICIES[policy])
    advantage = reward_advantage(policy)
    edges = {"TV": _closed(tv_ball(old, radius), 10)}
    for ball in BALLS[1:]:
        line = on_triangle(kl_ball(ball, old, radius))
        edges[ball] = np.concatenate([line, line[:1]])
    return edges, {ball: best_in_ball(ball, old, advantage, radius) for ball in BALLS}


def reward_advantage(policy: str) -> np.ndarray:
    """The advantage of each action under one of ``POLICIES``, [action]: it averages to zero."""
    return bandit_advantage(
        torch.tensor(POLICIES[policy], dtype=torch.float64), torch.tensor(REWARD, dtype=torch.float64)
    ).numpy()


def fine_radii(policy: str) -> np.ndarray:
    """Radii from 0 to the largest at which the best gains are drawn, every kink among them, [point].

    In the TV ball the best policy empties the actions from the worst on, at a rate that falls with each.
    """
    order = reward_advantage(policy).argsort()
    emptied = np.cumsum(np.array(POLICIES[policy])[order])
    plain = np.linspace(0, RADII[-1], 2 * len(RADII) + 1)
    return np.unique(np.round([*plain, *emptied[emptied < RADII[-1]]], 9))


@functools.cache
def best_gain(ball: str, policy: str, radius: float) -> float:
    """The expected advantage of the best policy in a ball; a ball of radius zero gains nothing."""
    advantage = reward_advantage(policy)
    return float(best_in_ball(ball, np.array(POLICIES[policy]), advantage, radius) @ advantage) if radius else 0.0


def balls_frame(*, radius: float, policy: str, price: float) -> dict[str, np.ndarray]:
    """Balls around a policy, their best points, and level sets of the lower bound, on the triangle, each [point, 2].

    ``gains`` [ball] is the expected advantage of each ball's best policy, ``sure`` the largest value of the bound.
    """
    old = np.array(POLICIES[policy])
    advantage = reward_advantage(policy)
    edges, best = _around(radius, policy)
    levels = {f"level {x:g}": _inner(sure_at_least(old, advantage, price, x), _VERTICES) for x in LEVELS}
    surest = best_of_bound(old, advantage, price)
    return {
        **edges,
        **{f"best {ball}": on_triangle(new)[None] for ball, new in best.items()},
        **levels,
        "sure gain": _closed(sure_at_least(old, advantage, price, 0.0), _VERTICES),
        "best of the bound": on_triangle(surest)[None],
        "old": on_triangle(old)[None],
        "gains": np.array([best[ball] @ advantage for ball in BALLS]),
        "sure": lower_bound(old, advantage, surest, price),
        "surest": surest,
    }


def trust_balls() -> Explorable:
    """Three balls around a policy over three actions, and what a bound in total variation is sure of."""
    controls = (
        Control("radius", "radius (TV)", RADII, 0.2, texts=[f"{x:.2f}" for x in RADII], play=True),
        Control("price", "price C", PRICES, 0.9, texts=[f"{x:.2f}" for x in PRICES]),
        Control("policy", "old policy", tuple(POLICIES), "leaning to the worst", "choice"),
    )
    found = compute(balls_frame, controls)
    looks = dict(zip(BALLS, (LINE_OF["SPO"], LINE_OF["PPO"], LINE_OF["KL penalty"]), strict=True))

    def curve(name: str, look: dict, kind: str = "line", label: str | None = None) -> Curve:
        return Curve(name, found[name][..., 1], found[name][..., 0], look, kind, label)

    triangle = on_triangle(np.eye(3)[[0, 1, 2, 0]])
    shape = (1, 1, 1, 4)
    levels = [name for name in found if name.startswith("level ")]
    thin = {"color": GOLD, "linewidth": 1.4, "linestyle": (0, (1, 2))}
    curves = [
        curve("sure gain", {"color": GOLD, "alpha": 0.17}, "area", "bound above 0"),
        *(curve(name, thin, "line", "its levels, 0.3 apart" if name == levels[0] else "") for name in levels),
        Curve(
            "triangle",
            triangle[:, 1].reshape(shape),
            triangle[:, 0].reshape(shape),
            {"color": INK, "linewidth": 1.3},
            label="",
        ),
        *(curve(ball, look) for ball, look in looks.items()),
        *(
            curve(f"best {ball}", {"color": look["color"], "size": 5}, "points", "best in its ball" if not i else "")
            for i, (ball, look) in enumerate(looks.items())
        ),
        curve("old", {"color": INK, "size": 4}, "points", "old policy"),
        curve("best of the bound", {"color": GOLD, "marker": "D", "size": 7}, "points", "largest bound"),
    ]
    corners = [
        Mark("text", (0.5, 0.925), f"action 1, reward {REWARD[0]:g}", INK, "middle"),
        Mark("text", (-0.04, -0.06), f"action 2, reward {REWARD[1]:g}", INK, "start"),
        Mark("text", (1.04, -0.06), f"action 3, reward −{-REWARD[2]:g}", INK, "end"),
    ]
    simplex = Panel(
        "All policies over three actions", "", "", (-0.06, 1.06), (-0.1, 0.97), curves, corners, equal=True, bare=True,
        share=1.15,
    )  # fmt: skip
    fine = {policy: fine_radii(policy) for policy in POLICIES}
    most = max(map(len, fine.values()))
    at = np.stack([np.pad(radii, (0, most - len(radii)), "edge") for radii in fine.values()])[None, None]
    gains = {
        ball: np.array([[best_gain(ball, p, r) for r in at[0, 0, i]] for i, p in enumerate(fine)]) for ball in BALLS
    }
    top = float(np.ceil(10 * max(gain.max() for gain in gains.values())) / 10)
    now = np.repeat(np.array(RADII).reshape(-1, 1, 1, 1), 2, axis=-1)
    growth = Panel(
        "Best gain in each ball",
        "radius (TV)",
        "expected advantage",
        (0.0, (1 + ROOM) * RADII[-1]),
        (0.0, top),
        [
            Curve("now", np.array([0.0, top]).reshape(1, 1, 1, 2), now, {"color": FAINT, "linewidth": 1.5}, label=""),
            *(Curve(ball, gains[ball][None, None], at, look) for ball, look in looks.items()),
        ],
    )
    surest = np.apply_along_axis(lambda p: ", ".join(f"{x:z.2f}" for x in p), -1, found["surest"])
    return Explorable(
        "ratio_clipping.balls",
        "Three balls around a policy",
        controls,
        (simplex, growth),
        "A triangle whose points are all policies over three actions. Around the old policy ({policy}) lie the TV ball "
        "of radius {radius}, a hexagon as far as the triangle leaves room, and inside it both KL balls of radius "
        "{delta}. Their best policies gain {gain_0} (TV), {gain_1} (KL(old‖new)) and {gain_2} (KL(new‖old)). With a "
        "price of {price} on TV the lower bound is largest at ({surest}), where it is {sure}. A second panel draws the "
        f"best gain in each ball against the radius from 0 to {RADII[-1]:g}, with a line at {{radius}}.",
        [
            *(
                Readout(f"gain_{i}", f"Best gain in {ball}", found["gains"][..., i], "{:.3f}")
                for i, ball in enumerate(BALLS)
            ),
            Readout("sure", "Largest bound", found["sure"]),
            Readout("surest", "at policy", surest, tied=True),
            Readout("delta", "Radius of KL", np.array([limit("KL", x) for x in RADII]).reshape(-1, 1, 1), "{:.3f}"),
        ],
        "The KL balls have the radius 2·TV², so that by Pinsker's inequality they lie inside the TV ball. The bound is "
        "the new policy's expected advantage less C·TV: what is sure of a step in this one state.",
    )


EXPLORABLES = {"objectives": objective_shapes, "scatter": ratio_scatter, "balls": trust_balls}
