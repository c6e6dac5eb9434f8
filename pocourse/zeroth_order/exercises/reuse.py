"""Queries of former iterations, each iteration with its own mean, for section 6."""

import torch
from torch import Tensor

from pocourse.lesson.exercises import exercise
from pocourse.zeroth_order.exercises._shared import (
    LOOSE,
    SINGLE,
    each_by_itself,
    every_sign,
    off,
    one_gradient,
    pair,
    row,
    rows,
    short,
    signed,
    table,
    told,
    words,
)

reuse = exercise(
    "zeroth_order.reuse",
    title="Old queries, each with its own mean",
    section="6",
    difficulty=3,
    minutes=9,
    task="""
ZoAR keeps the queries of its last N iterations and subtracts one *pooled* mean from all their values. Meanwhile θ has
moved, and f with it: a value of the first iteration may lie above the pooled mean for no other reason than that it is
old. What if every iteration were compared with its own mean? Then

**ĝ = the mean of ĝᵢ over the iterations i in the buffer, with ĝᵢ = 1 / (K − 1) · Σₖ ( yᵢₖ − ȳᵢ ) uᵢₖ / σ**

and ȳᵢ the mean of the K values of iteration i: each ĝᵢ is the leave-one-out gradient of its own iteration.

Write it. `reuse_gradient(values, directions, filled, sigma)` receives

- `values`, a tensor [iteration, direction] with room for N iterations of K directions, 2 or more: y. Each index of
  the axes after these two, if there are any, is a problem of its own;
- `directions`, a tensor of the same dtype with the same axes, and one more at the end, that of the coordinates: u;
- `filled`, a whole number from 1 to N: the iterations that are in the buffer, which are the first ones. What stands in
  the places after them was left there by another run, and does not count;
- `sigma`, a positive number: σ

and returns one gradient per problem: a tensor with the axes of `directions`, without the first two.
""",
    stub='''
def reuse_gradient(values, directions, filled, sigma):
    """The mean of the iterations' own leave-one-out gradients."""
    ...
''',
    hints=(
        "For one iteration you have done it before: what are the weights? And then, which of the means and sums stay "
        "inside of an iteration, and which one goes over all of them?",
        "Cut the buffer first: `values[:filled]`. The mean of each iteration runs over the *second* axis, and keeps "
        "its place with `values.mean(1, keepdim=True)`. There are `filled` iterations, each divided by K − 1.",
        "Weights `values - values.mean(1, keepdim=True)`, one for each direction of each iteration: "
        "`weights.unsqueeze(-1) * directions` is summed over both axes, `sum((0, 1))`, and divided by the number of "
        "iterations, by K − 1 and by σ.",
    ),
    solution="""
def reuse_gradient(values, directions, filled, sigma):
    values, directions = values[:filled], directions[:filled]
    weights = values - values.mean(1, keepdim=True)
    total = (weights.unsqueeze(-1) * directions).sum((0, 1))
    return total / (filled * (values.shape[1] - 1) * sigma)
""",
    after="""
Every ĝᵢ is unbiased for the smoothed gradient at *its own* θ, so this is a moving average of the last gradients, and as
late as such an average is. With a pooled mean it is no earlier. While θ stands still the pooled mean is the better
one: the price of not knowing F (4.15) is (N K − 1) / (K − 1) times smaller. While f falls it lets the differences of
level in, each times the mean direction of its iteration, which is noise. So the pooled mean and the memory are two
ingredients, and to learn which of them makes ZoAR fast, one runs what you have written beside it.
""",
    parameters=("values", "directions"),
    options=("filled", "sigma"),
    returns=one_gradient(2),
    probes=lambda: [
        (*_one(), {"filled": 1, "sigma": 0.5}),
        (*_two(), {"filled": 2, "sigma": 0.5}),
        (*_buffer(), {"filled": 3, "sigma": 2.0}),
        (*_buffer(), {"filled": 2, "sigma": 0.5}),
        (*_buffer(), {"filled": 1, "sigma": 0.5}),
        (*(torch.cat((x[:2], 0 * x[2:])) for x in _buffer()), {"filled": 2, "sigma": 0.5}),
        (*_problems(), {"filled": 2, "sigma": 0.5}),
        (*(x.unflatten(2, (2, 3)) for x in _problems()), {"filled": 3, "sigma": 0.5}),
        (_buffer()[0] + 1e6, _buffer()[1], {"filled": 3, "sigma": 0.5}),
    ],
)


def _one() -> tuple[Tensor, Tensor]:
    """One iteration of four directions; ĝ = (−2, 6) at σ = 0.5."""
    directions = table((1.0, 0.0), (0.0, 2.0), (-1.0, 1.0), (2.0, -1.0))
    return table((7.0, 4.0, -2.0, -5.0)), directions.unsqueeze(0)


def _two() -> tuple[Tensor, Tensor]:
    """Two iterations of two directions; ĝ₁ = (4, −4), ĝ₂ = (4, 0) at σ = 0.5."""
    directions = torch.stack((table((1.0, 0.0), (-1.0, 2.0)), table((0.0, 1.0), (1.0, 1.0))))
    return table((3.0, 1.0), (10.0, 14.0)), directions


def _buffer() -> tuple[Tensor, Tensor]:
    """Three iterations of four directions in the plane, on falling levels."""
    return short(3, 4, seed=5) + row(9.0, 6.0, 4.0)[:, None], short(3, 4, 2, seed=6)


def _problems() -> tuple[Tensor, Tensor]:
    """Three iterations of four directions for six problems, on levels that lie apart."""
    levels = row(0.0, 5.0, -3.0, 8.0, 2.0, -6.0) + row(9.0, 6.0, 4.0)[:, None, None]
    return short(3, 4, 6, seed=7) + levels, short(3, 4, 6, 2, seed=8)


def _seen(values: Tensor) -> str:
    return f"y = {rows(values)} in {_count(len(values))}"


def _count(iterations: int) -> str:
    return "one iteration" if iterations == 1 else f"{('two', 'three')[iterations - 2]} iterations"


@reuse.requires("one gradient per problem, whatever axes lie between")
def _(answer):
    values, directions = _problems()
    for filled in (3, 2):
        problem = each_by_itself(
            lambda y, u, filled=filled: answer(y, u, filled=filled, sigma=0.5),
            (values, 2),
            (directions, 2),
            at=[f"y = {rows(values[:, :, i])}" for i in range(6)],
            what="gradient",
            advice="Each has its own means: they run over the second axis, that of the directions.",
            result_axis=0,
        )
        if problem:
            return problem
    return None


@reuse.requires("one iteration: leave-one-out, by hand")
def _(answer):
    for dtype in (torch.float64, torch.float32):
        values, directions = _one()
        problem = told(
            answer(values.to(dtype), directions.to(dtype), filled=1, sigma=0.5),
            row(-2.0, 6.0),
            f"for {_seen(values)}, u = {rows(directions[0])} and σ = 0.5",
            "By hand: the mean is 1, so the weights are (6, 3, −3, −6), and (6 (1, 0) + 3 (0, 2) − 3 (−1, 1) − 6 (2, "
            "−1)) / (3 × 0.5) = (−3, 9) / 1.5. A memory of one iteration is no memory.",
        )
        if problem:
            return problem
    return None


@reuse.requires("two iterations, by hand")
def _(answer):
    values, directions = _two()
    return told(
        answer(values.clone(), directions.clone(), filled=2, sigma=0.5),
        row(4.0, -2.0),
        f"for {_seen(values)}, u = {rows(directions[0])}, then {rows(directions[1])}, and σ = 0.5",
        "By hand: the means are 2 and 12, so the weights are (1, −1) and (−2, 2), ĝ₁ = (4, −4) and ĝ₂ = (4, 0), and "
        "their mean is (4, −2).",
    )


@reuse.requires("every iteration may have a level of its own")
def _(answer):
    values, directions = _buffer()
    once = answer(values.clone(), directions.clone(), filled=3, sigma=0.5)
    levels = row(20.0, 0.0, -5.0)
    moved = answer(values + levels[:, None], directions.clone(), filled=3, sigma=0.5)
    if off(moved, once) is not None:
        got, must = pair(moved, once)
        return (
            f"for {_seen(values)} your gradient is {must}; with 20 added to the first iteration and 5 taken from the "
            f"last it is {got}. θ moves, and f with it: a level that all values of an iteration share says nothing "
            "about their directions. Subtract from each iteration its own mean, and no pooled one."
        )
    return None


@reuse.requires("as exact as the numbers that came in")
def _(answer):
    values, directions = _one()
    once = answer(values.clone(), directions.clone(), filled=1, sigma=0.5)
    tenth = answer(0.1 * values, 0.1 * directions, filled=1, sigma=0.5)
    if off(100 * tenth, once, 1e-9) is not None:
        got, must = pair(tenth, once / 100)
        why = SINGLE if off(100 * tenth, once, LOOSE) is None else "Both enter once, to the first power."
        return (
            f"for {_seen(values)}, u = {rows(directions[0])} and σ = 0.5 your gradient is {words(once.detach())}; with "
            f"all values and all directions a tenth of that, in torch.float64, it must be {must}, and yours is {got}. "
            f"{why}"
        )
    values, directions = _buffer()
    once = answer(values.clone(), directions.clone(), filled=3, sigma=0.5)
    far = answer(values + 1e6, directions.clone(), filled=3, sigma=0.5)
    if off(far, once) is None:
        return None
    got, must = pair(far, once)
    why = SINGLE if off(far, once, 0.1) is None else "Differences of values count, however large the values are."
    return (
        f"for {_seen(values)} your gradient is {must}; with a million added to every value, all in torch.float64, it "
        f"is {got}. {why}"
    )


@reuse.requires("zero where the values of each iteration are equal")
def _(answer):
    flat = row(9.0, 6.0, 4.0)[:, None].expand(3, 4).clone()
    return told(
        answer(flat, _buffer()[1], filled=3, sigma=0.5),
        row(0.0, 0.0),
        "for three iterations with four values of 9, four of 6 and four of 4 and σ = 0.5",
        "f has fallen from one iteration to the next, and within each no direction was better than another. Nothing of "
        "that belongs to a direction.",
    )


@reuse.requires("the mean of what every iteration gives alone")
def _(answer):
    values, directions = _buffer()
    alone = [answer(values[i : i + 1].clone(), directions[i : i + 1].clone(), filled=1, sigma=0.5) for i in range(3)]
    return told(
        answer(values.clone(), directions.clone(), filled=3, sigma=0.5),
        torch.stack(alone).mean(0),
        f"alone, the three iterations with y = {rows(values)} have from you the gradients "
        f"{rows(torch.stack(alone).detach())}. Together",
        "All iterations count the same, the oldest and the newest, and the sum of three is divided by three.",
    )


@reuse.requires("the order of the iterations plays no role")
def _(answer):
    values, directions = _buffer()
    once = answer(values.clone(), directions.clone(), filled=3, sigma=0.5)
    for order in ([1, 2, 0], [2, 1, 0]):
        mine = answer(values[order], directions[order], filled=3, sigma=0.5)
        if off(mine, once) is not None:
            got, must = pair(mine, once)
            return (
                f"for {_seen(values)} your gradient is {must}; with the iterations in the order "
                f"{', '.join(str(i + 1) for i in order)} it is {got}. A buffer that is written in a circle keeps no "
                "order, and no iteration counts more than another."
            )
    return None


@reuse.requires("the same iteration several times, the same gradient")
def _(answer):
    values, directions = _one()
    once = answer(values.clone(), directions.clone(), filled=1, sigma=0.5)
    for times in (2, 5):
        mine = answer(values.repeat(times, 1), directions.repeat(times, 1, 1), filled=times, sigma=0.5)
        if off(mine, once) is not None:
            got, must = pair(mine, once)
            return (
                f"for y = {words(values[0])} in one iteration your gradient is {must}; with the same iteration {times} "
                f"times in the buffer it is {got}. Each iteration has subtracted a mean of its own, so each is divided "
                "by K − 1, and their sum by how many there are."
            )
    return None


@reuse.requires("a buffer that is not yet full")
def _(answer):
    values, directions = _buffer()
    for filled in (2, 1):
        full = answer(values[:filled].clone(), directions[:filled].clone(), filled=filled, sigma=0.5)
        for left in ("zeros", "other numbers"):
            y, u = values.clone(), directions.clone()
            if left == "zeros":
                y[filled:], u[filled:] = 0.0, 0.0
            mine = answer(y, u, filled=filled, sigma=0.5)
            if off(mine, full) is not None:
                got, must = pair(mine, full)
                return (
                    f"in a buffer for {_count(filled)} with y = {rows(values[:filled])} your gradient is {must}; in "
                    f"one for 3, with {left} in the places after, and `filled` = {filled}, it is {got}. What has not "
                    "been asked counts neither above nor below the fraction, nor in a mean."
                )
    return None


@reuse.requires("half the σ, twice the gradient")
def _(answer):
    values, directions = _buffer()
    once = answer(values.clone(), directions.clone(), filled=3, sigma=0.5)
    half = answer(values.clone(), directions.clone(), filled=3, sigma=0.25)
    if off(half, 2 * once) is None:
        return None
    got, must = pair(half, 2 * once)
    return (
        f"for {_seen(values)} and σ = 0.5 your gradient is {pair(once, half)[0]}; with σ = 0.25 and the same values it "
        f"must be {must}, and yours is {got}. σ stands below, to the first power."
    )


@reuse.requires("linear in the values: factors and sums")
def _(answer):
    values, directions = _buffer()
    once = answer(values.clone(), directions.clone(), filled=3, sigma=0.5)
    for factor in (2.0, -1.0, 100.0):
        mine = answer(factor * values, directions.clone(), filled=3, sigma=0.5)
        if off(mine, factor * once) is not None:
            got, must = pair(mine, factor * once)
            return (
                f"for {_seen(values)} and σ = 0.5 your gradient is {pair(once, mine)[0]}; with all values times "
                f"{signed(factor)} it must be {must}, and yours is {got}. Each iteration is in units of f: none is "
                "normalised, and none weighed by how good it was."
            )
    other = short(3, 4, seed=14)
    two = answer(other.clone(), directions.clone(), filled=3, sigma=0.5)
    both = answer(values + other, directions.clone(), filled=3, sigma=0.5)
    if off(both, once + two) is None:
        return None
    got, must = pair(both, once + two)
    return (
        f"for {_seen(values)} your gradient is {words(once.detach())}, and for y = {rows(other)} it is "
        f"{words(two.detach())}. For the sums of these values it must be {must}, and yours is {got}. The mean of a sum "
        "is the sum of the means, and no iteration is weighed by its values."
    )


@reuse.requires("no bias while θ stands still: the mean over all choices of directions is the slope")
def _(answer):
    for iterations, count, slope, told_f in (
        (2, 2, row(2.0, -1.0), "3 + 2 x₁ − x₂ + x₁ x₂"),
        (2, 3, row(4.0), "3 + 4 x"),
        (3, 2, row(4.0), "3 + 4 x"),
    ):
        directions = every_sign(iterations * count, len(slope)).unflatten(0, (iterations, count))
        x = 0.5 * directions
        values = 3 + (slope * x).sum(-1) + (x.prod(-1) if len(slope) > 1 else 0.0)
        problem = told(
            answer(values, directions, filled=iterations, sigma=0.5).mean(0),
            slope,
            f"for f(x) = {told_f}, {iterations} iterations of {count} directions at the same θ = 0, averaged over all "
            f"{directions.shape[2]} choices of directions with coordinates of 1 and −1,",
            "Each iteration alone averages to the slope, and so does their mean. The mean that is subtracted holds the "
            "value itself: so each is divided by K − 1.",
        )
        if problem:
            return problem
    return None


# ---------------------------------------------------------------- wrong answers


def _sum(weights: Tensor, directions: Tensor) -> Tensor:
    """The weighted sum of directions, for answers that are wrong elsewhere."""
    return torch.einsum("nk...,nk...d->...d", weights, directions)


def _own(values: Tensor) -> Tensor:
    """Values less the mean of their iteration."""
    return values - values.mean(1, keepdim=True)


def _cut(values, directions, filled):
    return values[:filled], directions[:filled]


@reuse.mutant(
    "pooled_mean",
    "This is ZoAR: one mean for all iterations. While f falls, old values lie above it and new ones below, whatever "
    "their directions.",
)
def _(values, directions, filled, sigma):
    y, u = _cut(values, directions, filled)
    return _sum(y - y.mean((0, 1)), u) / ((filled * y.shape[1] - 1) * sigma)


@reuse.mutant(
    "pooled_mean_over_all",
    "This is ZoAR with the divisor of all its values: one mean for all iterations, and shorter than it should be.",
)
def _(values, directions, filled, sigma):
    y, u = _cut(values, directions, filled)
    return _sum(y - y.mean((0, 1)), u) / (filled * y.shape[1] * sigma)


@reuse.mutant(
    "pooled_mean_own_divisors",
    "The divisor is that of means of their own, and the mean is the pooled one.",
)
def _(values, directions, filled, sigma):
    y, u = _cut(values, directions, filled)
    return _sum(y - y.mean((0, 1)), u) / (filled * (y.shape[1] - 1) * sigma)


@reuse.mutant(
    "divided_by_all",
    "Divided by all values each iteration is shorter by 1 − 1 / K, for every value is in the mean that is subtracted "
    "from it.",
)
def _(values, directions, filled, sigma):
    y, u = _cut(values, directions, filled)
    return _sum(_own(y), u) / (filled * y.shape[1] * sigma)


@reuse.mutant(
    "one_less_for_all",
    "One mean was subtracted in each iteration, and one was taken off the divisor in total: that is the correction for "
    "a single pooled mean.",
)
def _(values, directions, filled, sigma):
    y, u = _cut(values, directions, filled)
    return _sum(_own(y), u) / ((filled * y.shape[1] - 1) * sigma)


@reuse.mutant("newest_only", "Only the last iteration was used. The others are there to be used again.")
def _(values, directions, filled, sigma):
    y, u = values[filled - 1 : filled], directions[filled - 1 : filled]
    return _sum(_own(y), u) / ((y.shape[1] - 1) * sigma)


@reuse.mutant("summed_over_the_iterations", "The gradients of the iterations were added up. Their mean was asked for.")
def _(values, directions, filled, sigma):
    y, u = _cut(values, directions, filled)
    return _sum(_own(y), u) / ((y.shape[1] - 1) * sigma)


@reuse.mutant(
    "whole_buffer",
    "The places that are not filled were used as well, with whatever another run has left there.",
)
def _(values, directions, filled, sigma):
    return _sum(_own(values), directions) / (len(values) * (values.shape[1] - 1) * sigma)


@reuse.mutant(
    "empty_places_averaged",
    "The sum ends where the buffer does, and the divisor counts all places: at the start of a run the gradient is too "
    "short, and grows as the buffer fills.",
)
def _(values, directions, filled, sigma):
    y, u = _cut(values, directions, filled)
    return _sum(_own(y), u) / (len(values) * (values.shape[1] - 1) * sigma)


@reuse.mutant(
    "empty_places_summed",
    "The divisor is right, and the sum runs over all places. That goes well as long as zeros stand there.",
)
def _(values, directions, filled, sigma):
    return _sum(_own(values), directions) / (filled * (values.shape[1] - 1) * sigma)


@reuse.mutant(
    "newest_mean_for_all",
    "Old values were compared with the newest mean. While f falls, they all lie above it.",
)
def _(values, directions, filled, sigma):
    y, u = _cut(values, directions, filled)
    return _sum(y - y[-1].mean(0), u) / (filled * (y.shape[1] - 1) * sigma)


@reuse.mutant(
    "mean_over_the_iterations",
    "`mean(0)` runs over the iterations, and the k-th directions of all of them have nothing in common. The directions "
    "stand on the second axis.",
)
def _(values, directions, filled, sigma):
    y, u = _cut(values, directions, filled)
    return _sum(y - y.mean(0), u) / (filled * (y.shape[1] - 1) * sigma)


@reuse.mutant("no_baseline", "No mean was subtracted: the level of f goes into the gradient.")
def _(values, directions, filled, sigma):
    y, u = _cut(values, directions, filled)
    return _sum(y, u) / (filled * y.shape[1] * sigma)


@reuse.mutant(
    "fading_memory",
    "The older an iteration, the less it counts here. That is momentum; a buffer gives all of its iterations the same "
    "weight.",
)
def _(values, directions, filled, sigma):
    y, u = _cut(values, directions, filled)
    weight = 0.5 ** torch.arange(filled - 1, -1, -1).to(y)
    weight = (weight / weight.sum()).reshape(-1, *[1] * (y.dim() - 1))
    return _sum(weight * _own(y), u) / ((y.shape[1] - 1) * sigma)


@reuse.mutant(
    "averaged_first",
    "Values and directions were averaged over the iterations, and then multiplied. The k-th directions of different "
    "iterations have nothing to do with each other.",
)
def _(values, directions, filled, sigma):
    y, u = _cut(values, directions, filled)
    y, u = y.mean(0, keepdim=True), u.mean(0, keepdim=True)
    return _sum(_own(y), u) / ((y.shape[1] - 1) * sigma)


@reuse.mutant(
    "one_mean_for_all_problems",
    "The means run over the problems as well, which lie on different levels.",
)
def _(values, directions, filled, sigma):
    y, u = _cut(values, directions, filled)
    own = y.flatten(1).mean(1).reshape(-1, *[1] * (y.dim() - 1))
    return _sum(y - own, u) / (filled * (y.shape[1] - 1) * sigma)


@reuse.mutant("sigma_forgotten", "The score of the policy is u / σ, and here σ is missing.")
def _(values, directions, filled, sigma):
    y, u = _cut(values, directions, filled)
    return _sum(_own(y), u) / (filled * (y.shape[1] - 1))


@reuse.mutant("sign_turned", "This is ȳ − y, the gain where f is a reward. Here f is minimised.")
def _(values, directions, filled, sigma):
    y, u = _cut(values, directions, filled)
    return -_sum(_own(y), u) / (filled * (y.shape[1] - 1) * sigma)


@reuse.mutant(
    "one_iteration_dropped",
    "The first `filled` iterations are all there. One of them was left out of the sum.",
)
def _(values, directions, filled, sigma):
    used = max(filled - 1, 1)
    y, u = _cut(values, directions, used)
    return _sum(_own(y), u) / (used * (y.shape[1] - 1) * sigma)


@reuse.mutant(
    "iterations_normalised",
    "The values of each iteration were divided by their standard deviation: the gradients have lost their unit, and an "
    "iteration with nothing to tell is 0 / 0.",
)
def _(values, directions, filled, sigma):
    y, u = _cut(values, directions, filled)
    return _sum(_own(y) / y.std(1, keepdim=True), u) / (filled * (y.shape[1] - 1) * sigma)


@reuse.mutant("iterations_kept_apart", "These are the gradients of the iterations. Their mean was asked for.")
def _(values, directions, filled, sigma):
    y, u = _cut(values, directions, filled)
    return torch.einsum("nk...,nk...d->n...d", _own(y), u) / ((y.shape[1] - 1) * sigma)


@reuse.mutant(
    "single_precision_inside",
    "Single precision keeps seven digits of y. Where f is large and its differences small, few are left of them.",
)
def _(values, directions, filled, sigma):
    y, u = (x.float() for x in _cut(values, directions, filled))
    return (_sum(_own(y), u) / (filled * (y.shape[1] - 1) * sigma)).to(values.dtype)


# ---------------------------------------------------------------- right answers


@reuse.accepts("iteration by iteration, each one leave-one-out")
def _(values, directions, filled, sigma):
    gradients = []
    for y, u in zip(values[:filled], directions[:filled], strict=True):
        others = (y.sum(0) - y) / (len(y) - 1)
        gradients.append(((y - others).unsqueeze(-1) * u).mean(0) / sigma)
    return torch.stack(gradients).mean(0)


@reuse.accepts("one product for all, with the directions centred")
def _(values, directions, filled, sigma):
    y, u = values[:filled], directions[:filled]
    u = u - u.mean(1, keepdim=True)
    return torch.einsum("nk...,nk...d->...d", y, u) / (sigma * filled * (y.size(1) - 1))


@reuse.accepts("a mask over the whole buffer")
def _(values, directions, filled, sigma):
    used = (torch.arange(len(values)) < filled).reshape(-1, *[1] * (values.dim() - 1))
    weights = torch.where(used, values - values.mean(1, keepdim=True), torch.zeros_like(values))
    each = (weights[..., None] * directions).sum(1) / (values.shape[1] - 1)
    return each.sum(0) / (used.sum() * sigma)


@reuse.accepts("a running mean")
def _(values, directions, filled, sigma):
    mean = torch.zeros_like(directions[0, 0])
    for i in range(filled):
        y, u = values[i].clone(), directions[i]
        y -= y.mean(0)
        mean += ((y.unsqueeze(-1) * u).sum(0) / (len(y) - 1) / sigma - mean) / (i + 1)
    return mean
