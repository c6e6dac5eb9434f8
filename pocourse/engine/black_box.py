"""The black-box loop: ask for points, evaluate them all at once, tell the values, step.

The loop knows no estimator and no update rule. It is handed them for each method to be compared; all methods and all
seeds, and any further batch, run as one program and meet the same random directions, which makes every comparison a
paired one.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from pocourse import _check
from pocourse.engine.streams import SeedStreams

BLOCK_NUMBERS = 2**22  # random numbers drawn at a time: 16 MB in float32
PIECE = 2**17  # numbers handed to f at a time on a CPU, half a megabyte: what is made of them stays in the cache
SMALL = 2**14  # as many numbers cost no more than a call does: where all are fewer they go in one


class AskTell(Protocol):
    """A gradient estimator that is asked for points and told the values there."""

    num_queries: int
    num_directions: int

    def ask(self, theta: Tensor, directions: Tensor) -> Tensor: ...

    def tell(self, values: Tensor) -> Tensor: ...


class Method(NamedTuple):
    """What is compared: an estimator, and a rule that makes a step of its gradient. Both keep a memory of their own."""

    estimator: AskTell
    update: Callable[[Tensor], Tensor]


Metrics = dict[str, Float[Tensor, "method seed *batch"]]


def black_box(
    f: Callable[[Tensor], Tensor],
    start: Float[Tensor, "seed *batch dim"],
    streams: SeedStreams,
    methods: Mapping[str, Method],
    *,
    num_iterations: int,
    every: int = 1,
) -> Iterator[Metrics]:
    r"""Minimise f from its values with every method, and yield metrics [method, seed, \*batch] every so many steps.

    ``f`` maps points [query, seed, \*batch, dim] to values [query, seed, \*batch]; the queries of all methods come in
    one call, or on a CPU, where they are many, in pieces that fit its cache. ``start`` is where every method begins.

    Yields: ``value`` (f at theta after the step, which no method is charged for), ``best`` (the least value among all
    queries so far) and ``alive`` (False where theta is no longer finite).
    Raises: ValueError, at the call, for no method at all, a start that does not fit the streams, counts below one, or
    an ``every`` that does not divide the number of iterations. While it runs: for values of another shape.
    """
    if not methods:
        raise ValueError("expected at least one method; got none. Pass a dict such as {'RLOO': Method(...)}.")
    _check.axes(2, start=start)
    _check.floating(start=start)
    _check.shape((len(streams), *start.shape[1:]), start=start)
    if start.dtype != streams.dtype or start.device.type != streams.device.type:
        raise ValueError(
            f"expected start in {streams.dtype} on {streams.device}; got {start.dtype} on {start.device}. "
            "Make it from the streams, or convert it."
        )
    _check.number(at_least=1, num_iterations=num_iterations, every=every)
    if num_iterations % every:
        raise ValueError(
            f"expected every to divide num_iterations = {num_iterations}; got {every}. The last record is the end."
        )
    return _iterations(f, start, streams, methods, num_iterations=num_iterations, every=every)


def _iterations(f, start, streams, methods, *, num_iterations, every):
    estimators, updates = zip(*methods.values(), strict=True)
    theta = start.detach().unsqueeze(0).repeat(len(methods), *[1] * start.dim())
    best = torch.full(theta.shape[:-1], math.inf, dtype=theta.dtype, device=theta.device)
    blocks = _directions(streams, max(e.num_directions for e in estimators), start.shape[1:])
    for iteration, u in zip(range(1, num_iterations + 1), blocks, strict=False):
        with _check.values_unread(), torch.no_grad():
            points = [e.ask(at, u[: e.num_directions]) for e, at in zip(estimators, theta, strict=True)]
            parts = _answers(f, points)
            steps = [update(e.tell(y)) for e, update, y in zip(estimators, updates, parts, strict=True)]
            theta = theta + torch.stack(steps)
            best = torch.minimum(best, torch.stack([y.amin(0) for y in parts]))
            report = None
            if iteration % every == 0:
                alive = theta.isfinite().all(-1)
                report = {"value": _evaluated(f, theta), "best": best, "alive": alive}
        if report is not None:
            yield report


def _directions(streams, count, shape):
    """One [direction, seed, *batch, dim] after the other, for ever, drawn in blocks."""
    numbers = len(streams) * count * math.prod(shape)
    block = max(1, BLOCK_NUMBERS // numbers)
    while True:
        drawn = streams.normal(block, count, *shape)  # [seed, block, direction, ...]
        yield from drawn.movedim(0, 2).contiguous()


def _answers(f, points):
    """The values at every method's points, in one call or, on a CPU where there are many, a method at a time."""
    if points[0].device.type == "cpu" and sum(x.numel() for x in points) > SMALL:
        return [_evaluated(f, x) for x in points]
    return _judged(f, torch.cat(points)).split([len(x) for x in points])


def _evaluated(f, points):
    rows = max(1, PIECE // points[0].numel())
    if points.device.type == "cpu" and len(points) > rows:
        return torch.cat([_judged(f, piece) for piece in points.split(rows)])
    return _judged(f, points)


def _judged(f, points):
    values = f(points)
    if not isinstance(values, Tensor) or values.shape != points.shape[:-1]:
        got = list(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(
            f"expected one value for each point, {list(points.shape[:-1])}; got {got}. Reduce the last axis of the "
            "points, and no other."
        )
    return values
