"""What the plots of the museum show, as arrays: lengths and cosines of estimates, and short runs, over 8 seeds."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pocourse.engine import SeedStreams
from pocourse.worlds.landscapes import quadratic
from pocourse.zeroth_order import SGD, Adam, ZoAR, forward_gradient, rloo_gradient
from pocourse.zeroth_order.museum import borrowed_minus_one as borrowed
from pocourse.zeroth_order.museum import rank_off_by_one as ranks
from pocourse.zeroth_order.museum import speedup_off_a_grid as grid

SEEDS = 8


def _noise(*shape: int) -> Tensor:
    """Standard normal numbers, [*shape] with the seeds before the last axis."""
    return SeedStreams(range(SEEDS), dtype=torch.float64).normal(*shape).movedim(0, -2)


# ---------------------------------------------------------------- two baselines, two ways to divide

OVER_K, BORROWED, SHORT, LEFT_OUT = "f(θ), K", "f(θ), K − 1", "mean, K", "mean, K − 1"
DIVIDED = (OVER_K, BORROWED, SHORT, LEFT_OUT)


class Lengths(NamedTuple):
    """Mean lengths along the true gradient, [K, estimate, seed]; what is left of f, [rule, rate, estimate, seed].

    The estimates are those of ``DIVIDED``, of which the runs have the first two; the rules are SGD and Adam.
    """

    count: np.ndarray
    length: np.ndarray
    rate: np.ndarray
    left: np.ndarray
    directions: int
    steps: int


def borrowed_minus_one(
    *, counts: tuple[int, ...] = (2, 3, 4, 6, 10, 20), batches: int = 2000, directions: int = 3, steps: int = 60
) -> Lengths:
    """Batches on a linear function; and runs on a quadratic of 20 dimensions, which share their directions."""
    slope, sigma = torch.tensor([1.0, -2.0], dtype=torch.float64), 0.1
    noise = _noise(max(counts), batches, 2)
    base = torch.tensor(5.0, dtype=torch.float64)
    rows = []
    for count in counts:
        u = noise[:count]
        values = base + sigma * u @ slope
        forward = forward_gradient(values, base.expand(values.shape[1:]), u, sigma=sigma)
        left_out = rloo_gradient(values, u, sigma=sigma)
        grown = count / (count - 1)
        found = torch.stack([forward, grown * forward, left_out / grown, left_out])  # in the order of DIVIDED
        rows.append((found.mean(1) @ slope / (slope @ slope)).numpy())
    rate = 0.02 * 1.5 ** np.arange(7)
    codes = (borrowed.forward, borrowed.borrowed_minus_one)
    left = [[[_descended(code, rule, r, directions, steps) for code in codes] for r in rate] for rule in (SGD, Adam)]
    return Lengths(np.array(counts), np.array(rows), rate, np.array(left), directions, steps)


def _descended(code, rule, rate: float, directions: int, steps: int, dim: int = 20, sigma: float = 0.01) -> np.ndarray:
    """f after some steps, in parts of its start: [seed]."""
    start, *noise = _noise(1 + steps * directions, dim)
    noise = torch.stack(noise).unflatten(0, (steps, directions))
    theta, step = start, rule(learning_rate=float(rate))
    # The exhibited code takes one batch; the seeds are mapped over.
    estimate = torch.vmap(lambda y, b, u: code(y, b, u, sigma), in_dims=(1, 0, 1))
    for u in noise:
        theta = theta + step(estimate(quadratic(theta + sigma * u), quadratic(theta), u))
    return (quadratic(theta) / quadratic(start)).numpy()


# ---------------------------------------------------------------- a baseline in pairs


class Baselines(NamedTuple):
    """f less its minimum along the ``RUNS``, [run, time, seed]; how far apart two estimates are, [kind, time, seed].

    The distance is between the estimates with and without the baseline at the same points, in parts of the length of
    the latter.
    """

    time: np.ndarray
    value: np.ndarray
    apart: np.ndarray


PAIRS, INDEPENDENT = "pairs", "independent"
KINDS = (PAIRS, INDEPENDENT)
ON, OFF, ALONE = "baseline", "no baseline", "no memory"
RUNS = ((PAIRS, ON), (PAIRS, OFF), (PAIRS, ALONE), (INDEPENDENT, ON), (INDEPENDENT, OFF))


def baseline_that_cancels(*, steps: int = 300) -> Baselines:
    """Adam with ten queries a step and a memory of six steps, or of one."""
    found = {run: _remembering(*run, steps) for run in RUNS}
    apart = np.stack([found[kind, ON][1] for kind in KINDS])
    return Baselines(np.arange(steps + 1), np.stack([value for value, _ in found.values()]), apart)


def _remembering(
    kind: str, part: str, steps: int, dim: int = 50, sigma: float = 0.1, raised: float = 50.0
) -> tuple[np.ndarray, np.ndarray]:
    """One run with every value in memory: f along it, and the distance of the two estimates; both [time, seed]."""
    drawn = 5 if kind == PAIRS else 10
    theta, *noise = _noise(1 + steps * drawn, dim)
    step, memory = Adam(learning_rate=0.005), 1 if part == ALONE else 6
    y, u = theta.new_zeros(0, SEEDS), theta.new_zeros(0, SEEDS, dim)
    value, apart = [quadratic(theta)], []
    for new in torch.stack(noise).unflatten(0, (steps, drawn)):
        new = torch.cat([new, -new]) if kind == PAIRS else new
        u = torch.cat([u, new])[-10 * memory :]
        y = torch.cat([y, quadratic(theta + sigma * new) + raised])[-10 * memory :]
        on, off = (torch.einsum("ks,ksd->sd", (y - b) / (len(y) * sigma), u) for b in (y.mean(0), 0.0))
        apart.append((on - off).norm(dim=-1) / off.norm(dim=-1))
        theta = theta + step(off if part == OFF else on)
        value.append(quadratic(theta))
    return torch.stack(value).numpy(), torch.stack(apart).numpy()


# ---------------------------------------------------------------- ranks, one too many


class Pulls(NamedTuple):
    """Weights by rank, [code, rank]; cosines of the step with the way down, [size, code, seed]; and the step's part
    across it, [shift, code, seed]. The codes are the right one and the published one.
    """

    weight: np.ndarray
    keep: int
    size: np.ndarray
    cosine: np.ndarray
    shift: np.ndarray
    step: np.ndarray


CODES = (ranks.by_formula, ranks.rank_off_by_one)


def rank_off_by_one(*, batches: int = 2000, dim: int = 20) -> Pulls:
    """Six points by hand; and a linear function, whose way down is the first axis."""
    order, keep = torch.arange(6, dtype=torch.float64), 3
    weight = torch.stack([code(order, keep) for code in CODES]) * ranks.pairs_ranked(6, keep)
    size = np.arange(2, 11)
    noise = _noise(int(size[-1]), batches, dim)
    cosine = np.stack([_cosines(noise[:m], m) for m in size])
    shift = np.linspace(0, 4, 9)
    across = torch.eye(dim, dtype=torch.float64)[1]
    step = [[-_steps(noise[:6] + c * across, keep, code)[..., 1].mean(0) for code in CODES] for c in shift]
    return Pulls(weight.numpy(), keep, size, cosine, shift, np.array(step))


def _steps(u: Tensor, keep: int, code) -> Tensor:
    """The gradient that a code makes of directions [direction, batch, seed, dim], f being their first entry."""
    weigh = torch.vmap(torch.vmap(lambda y: code(y, keep), 1, 1), 1, 1)
    return torch.einsum("kbs,kbsd->bsd", weigh(u[..., 0]), u)


def _cosines(u: Tensor, keep: int) -> np.ndarray:
    found = (_steps(u, keep, code) for code in CODES)
    return np.stack([(g[..., 0] / g.norm(dim=-1)).mean(0).numpy() for g in found])


# ---------------------------------------------------------------- a speed-up on a grid


class Speedups(NamedTuple):
    """Two methods' values, [method, time, seed]; what is read and what is true, over seeds and over a staircase.

    ``read`` and ``true`` are [seed], ``mean_read`` and ``mean_true`` those of the means over seeds, ``stair`` what is
    read where ``rise`` is true.
    """

    time: np.ndarray
    value: np.ndarray
    true: np.ndarray
    read: np.ndarray
    mean_true: float
    mean_read: float
    rise: np.ndarray
    stair: np.ndarray


METHODS = ("forward differences", "ZoAR")


def speedup_off_a_grid(*, steps: int = 800) -> Speedups:
    """Forward differences and ZoAR with ten queries each, Adam at the same learning rate, on a quadratic."""
    value = _trained(steps)
    curves = [*value.unbind(-1), value.mean(-1)]
    true = np.array([float(grid.first_passage(*pair)) for pair in curves])
    read = np.array([float(grid.speedup_off_a_grid(*pair)) for pair in curves])
    time = torch.arange(steps + 1, dtype=torch.float64)
    slow = (-time / steps).exp()
    rise = np.linspace(1, 20, 400)
    stair = np.array([float(grid.speedup_off_a_grid(slow, (-c * time / steps).exp())) for c in rise])
    return Speedups(time.numpy(), value.numpy(), true[:-1], read[:-1], true[-1], read[-1], rise, stair)


def _trained(steps: int, queries: int = 10, dim: int = 100, sigma: float = 0.5) -> Tensor:
    """f along the runs of both methods, which begin at the same points and share their directions."""
    start, *noise = _noise(1 + steps * queries, dim)
    memory = ZoAR(dim, num_queries=queries, history=6, sigma=sigma, generator=torch.Generator(), dtype=torch.float64)
    theta, rule = [start, start], [Adam(learning_rate=0.004) for _ in METHODS]
    value = [[quadratic(x) for x in theta]]
    for u in torch.stack(noise).unflatten(0, (steps, queries)):
        forward = forward_gradient(
            quadratic(theta[0] + sigma * u[1:]), quadratic(theta[0]), u[1:], sigma=sigma
        )  # with f at theta ten queries as well
        remembered = memory.tell(quadratic(memory.ask(theta[1], u)))
        theta = [x + step(g) for x, step, g in zip(theta, rule, (forward, remembered), strict=True)]
        value.append([quadratic(x) for x in theta])
    return torch.stack([torch.stack(x) for x in zip(*value, strict=True)])
