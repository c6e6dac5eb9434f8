"""Leave-one-out, written by the learner, for section 2."""

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

rloo = exercise(
    "zeroth_order.rloo",
    title="The others as a baseline",
    section="2",
    difficulty=2,
    minutes=8,
    task="""
f was asked at K points θ + σ u around θ, and not at θ itself. What is each value to be compared with? With the mean
of all the *others*. Such a baseline does not know the direction it is subtracted for, so it brings no bias (4.5):

**ĝ = 1 / K · Σₖ ( yₖ − bₖ ) uₖ / σ, with bₖ the mean of the other K − 1 values**

This is REINFORCE leave-one-out. Write it. `rloo_gradient(values, directions, sigma)` receives

- `values`, a tensor whose first axis counts the K directions, 2 or more of them: y. Each index of the axes after it,
  if there are any, is a problem of its own, with its own θ;
- `directions`, a tensor of the same dtype with the same axes, and one more at the end, that of the coordinates: u;
- `sigma`, a positive number: σ

and returns one gradient per problem: a tensor with the axes of `directions`, without the first one. It is the gradient
of an f that is minimised: it points to where f grows.
""",
    stub='''
def rloo_gradient(values, directions, sigma):
    """values [K, *problems], directions [K, *problems, d] -> [*problems, d]; each baseline: the mean of the others."""
    ...
''',
    hints=(
        "Try two values, 3 and 1. What is y − b for each of them, if b is the other one? And what is it, if b is the "
        "mean of both? By what factor do the two differ, and what is it for K values?",
        "yₖ − bₖ is K / (K − 1) times yₖ minus the mean of all K values: nobody has to be left out, and 1 / K becomes "
        "1 / (K − 1). The mean runs over the first axis, `values.mean(0)`, so that every problem has its own.",
        "The weight of a direction is `(values - values.mean(0)) / (len(values) - 1)`. The weights have one axis less "
        "than the directions: with `weights.unsqueeze(-1)` each is multiplied with its own. Sum over the first axis, "
        "and divide by σ.",
    ),
    solution="""
def rloo_gradient(values, directions, sigma):
    weights = (values - values.mean(0)) / (len(values) - 1)
    return (weights.unsqueeze(-1) * directions).sum(0) / sigma
""",
    after="""
With the mean of *all* values in the baseline and 1 / K in front, each value takes a K-th part of itself away, and the
estimate is shorter by the factor 1 − 1 / K (4.4): at K = 2 it is half of what it should be. Adam does not notice, and
a comparison of methods at one step size does. Dividing by K − 1 mends it, and that is Bessel's correction: your
estimate is the sample covariance of u and y, divided by σ (4.6). It costs K values, where the forward difference pays
for f(θ) as well.
""",
    parameters=("values", "directions"),
    options=("sigma",),
    returns=one_gradient(1),
    probes=lambda: [
        (*_two(), {"sigma": 0.5}),
        (*_four(), {"sigma": 0.5}),
        (*_four(), {"sigma": 2.0}),
        (*_problems(), {"sigma": 0.5}),
        (*(x.unflatten(1, (2, 3)) for x in _problems()), {"sigma": 0.5}),
        (_uneven()[0] + 1e6, _uneven()[1], {"sigma": 0.5}),
        (*_seven(), {"sigma": 0.5}),
    ],
)


def _two() -> tuple[Tensor, Tensor]:
    """ĝ = (4, −4) at σ = 0.5."""
    return row(3.0, 1.0), table((1.0, 0.0), (-1.0, 2.0))


def _four() -> tuple[Tensor, Tensor]:
    """ĝ = (−2, 6) at σ = 0.5."""
    return row(7.0, 4.0, -2.0, -5.0), table((1.0, 0.0), (0.0, 2.0), (-1.0, 1.0), (2.0, -1.0))


def _uneven() -> tuple[Tensor, Tensor]:
    """Four values that single precision cannot hold."""
    return row(1.2, -2.3, 4.1, 0.6), table((1.0, -1.0), (0.5, 2.0), (-2.0, 0.0), (1.5, 0.5))


def _seven() -> tuple[Tensor, Tensor]:
    """Seven directions in the plane."""
    return short(7, seed=11), short(7, 2, seed=12)


def _problems() -> tuple[Tensor, Tensor]:
    """Six problems with four directions of three coordinates, on levels that lie apart."""
    return short(4, 6, seed=1) + row(0.0, 5.0, -3.0, 8.0, 2.0, -6.0), short(4, 6, 3, seed=2)


def _given(values: Tensor, directions: Tensor) -> str:
    return f"y = {words(values)}, u = {rows(directions)}"


@rloo.requires("one gradient per problem, whatever axes lie between")
def _(answer):
    values, directions = _problems()
    return each_by_itself(
        lambda y, u: answer(y, u, sigma=0.5),
        (values, 1),
        (directions, 1),
        at=[f"y = {words(values[:, i])}" for i in range(6)],
        what="gradient",
        advice="Each has its own baseline: means and sums run over the first axis, that of the directions.",
        result_axis=0,
    )


@rloo.requires("two directions, by hand")
def _(answer):
    for dtype in (torch.float64, torch.float32):
        values, directions = _two()
        problem = told(
            answer(values.to(dtype), directions.to(dtype), sigma=0.5),
            row(4.0, -4.0),
            f"for {_given(values, directions)} and σ = 0.5",
            "By hand: the other value is 1 for the first and 3 for the second, so y − b = (2, −2), and (2 (1, 0) − "
            "2 (−1, 2)) / (2 × 0.5) = (4, −4).",
        )
        if problem:
            return problem
    return None


@rloo.requires("four directions, by hand")
def _(answer):
    values, directions = _four()
    return told(
        answer(values.clone(), directions.clone(), sigma=0.5),
        row(-2.0, 6.0),
        f"for {_given(values, directions)} and σ = 0.5",
        "By hand: the means of the other three are −1, 0, 2 and 3, so y − b = (8, 4, −4, −8), and (8 (1, 0) + 4 (0, 2) "
        "− 4 (−1, 1) − 8 (2, −1)) / (4 × 0.5) = (−4, 12) / 2.",
    )


@rloo.requires("zero where all values are equal")
def _(answer):
    for value in (5.0, -3.0):
        values, directions = row(*[value] * 4), _four()[1]
        problem = told(
            answer(values.clone(), directions.clone(), sigma=0.5),
            row(0.0, 0.0),
            f"for {_given(values, directions)} and σ = 0.5",
            "No direction is better than another, so nothing may come of it, although these directions do not sum to "
            "zero.",
        )
        if problem:
            return problem
    return None


@rloo.requires("a level that all values share changes nothing")
def _(answer):
    values, directions = _uneven()
    once = answer(values.clone(), directions.clone(), sigma=0.5)
    moved = answer(values + 7, directions.clone(), sigma=0.5)
    if off(moved, once) is not None:
        got, must = pair(moved, once)
        return (
            f"for {_given(values, directions)} and σ = 0.5 your gradient is {must}, and with 7 added to every value it "
            f"is {got}. What is added to all values is added to each baseline, and y − b stays."
        )
    return None


@rloo.requires("as exact as the numbers that came in")
def _(answer):
    values, directions = _four()
    once = answer(values.clone(), directions.clone(), sigma=0.5)
    tenth = answer(0.1 * values, 0.1 * directions, sigma=0.5)
    if off(100 * tenth, once, 1e-9) is not None:
        got, must = pair(tenth, once / 100)
        why = SINGLE if off(100 * tenth, once, LOOSE) is None else "Both enter once, to the first power."
        return (
            f"for {_given(values, directions)} and σ = 0.5 your gradient is {words(once.detach())}; with all values "
            f"and directions a tenth of that, in torch.float64, it must be {must}, and yours is {got}. {why}"
        )
    values, directions = _uneven()
    once = answer(values.clone(), directions.clone(), sigma=0.5)
    far = answer(values + 1e6, directions.clone(), sigma=0.5)
    if off(far, once) is None:
        return None
    got, must = pair(far, once)
    why = SINGLE if off(far, once, 0.1) is None else "Differences of values count, however large the values are."
    return (
        f"for {_given(values, directions)} and σ = 0.5 your gradient is {must}, and with a million added to every "
        f"value, all in torch.float64, it is {got}. {why}"
    )


@rloo.requires("half the σ, twice the gradient")
def _(answer):
    values, directions = _uneven()
    once = answer(values.clone(), directions.clone(), sigma=0.5)
    half = answer(values.clone(), directions.clone(), sigma=0.25)
    if off(half, 2 * once) is None:
        return None
    got, must = pair(half, 2 * once)
    return (
        f"for {_given(values, directions)} and σ = 0.5 your gradient is {pair(once, half)[0]}; with σ = 0.25 and the "
        f"same values it must be {must}, and yours is {got}. The same difference over half the way is twice the slope: "
        "σ stands below, to the first power."
    )


@rloo.requires("linear in the values: factors and sums")
def _(answer):
    values, directions = _uneven()
    once = answer(values.clone(), directions.clone(), sigma=0.5)
    for factor in (2.0, -1.0, 100.0):
        mine = answer(factor * values, directions.clone(), sigma=0.5)
        if off(mine, factor * once) is not None:
            got, must = pair(mine, factor * once)
            return (
                f"for {_given(values, directions)} and σ = 0.5 your gradient is {pair(once, mine)[0]}; with all values "
                f"times {signed(factor)} it must be {must}, and yours is {got}. A gradient is in units of f: values "
                "are neither normalised, nor ranked, nor held between two numbers."
            )
    (values, directions), other = _seven(), short(7, seed=13)
    one, two = (answer(y.clone(), directions.clone(), sigma=0.5) for y in (values, other))
    both = answer(values + other, directions.clone(), sigma=0.5)
    if off(both, one + two) is None:
        return None
    got, must = pair(both, one + two)
    return (
        f"for seven directions in the plane and σ = 0.5, y = {words(values)} gives {words(one.detach())} with your "
        f"function, and y = {words(other)} gives {words(two.detach())}. For the sums of these values it must be "
        f"{must}, and yours is {got}. The mean of a sum is the sum of the means: is your baseline a mean?"
    )


@rloo.requires("the order of the directions plays no role")
def _(answer):
    values, directions = _seven()
    once = answer(values.clone(), directions.clone(), sigma=0.5)
    for order in ([1, 2, 3, 4, 5, 6, 0], [6, 5, 4, 3, 2, 1, 0], [2, 0, 6, 3, 1, 5, 4]):
        mine = answer(values[order], directions[order], sigma=0.5)
        if off(mine, once) is not None:
            got, must = pair(mine, once)
            return (
                f"for seven directions with y = {words(values)} and σ = 0.5 your gradient is {must}; with the same "
                f"seven in the order {', '.join(str(i + 1) for i in order)} it is {got}. All directions are alike: "
                "none is the reference of the others, and none is left out of the sum."
            )
    return None


@rloo.requires("no bias: the mean over all choices of directions is the slope")
def _(answer):
    for count, slope, told_f in (
        (2, row(2.0, -1.0), "3 + 2 x₁ − x₂ + x₁ x₂"),
        (3, row(2.0, -1.0), "3 + 2 x₁ − x₂ + x₁ x₂"),
        (5, row(4.0), "3 + 4 x"),
    ):
        directions = every_sign(count, len(slope))
        x = 0.5 * directions
        values = 3 + (slope * x).sum(-1) + (x.prod(-1) if len(slope) > 1 else 0.0)
        problem = told(
            answer(values, directions, sigma=0.5).mean(0),
            slope,
            f"for f(x) = {told_f} at θ = 0, averaged over all {directions.shape[1]} choices of {count} directions with "
            "coordinates of 1 and −1,",
            f"Every term with a baseline of the other values averages to the slope. {count} of them are averaged, or "
            f"{count - 1} where the mean of all values was subtracted: one correction, not both and not none.",
        )
        if problem:
            return problem
    return None


# ---------------------------------------------------------------- wrong answers


def _sum(weights: Tensor, directions: Tensor) -> Tensor:
    """The weighted sum of directions, for answers that are wrong elsewhere."""
    return torch.einsum("k...,k...d->...d", weights, directions)


@rloo.mutant(
    "own_value_kept_in",
    "The mean of all values has a K-th part of each value's own self in it, and with 1 / K in front the estimate is "
    "shorter by 1 − 1 / K. Divide by K − 1.",
)
def _(values, directions, sigma):
    return _sum(values - values.mean(0), directions) / (len(values) * sigma)


@rloo.mutant(
    "no_baseline",
    "Without a baseline nothing is biased, and the level of f scatters along with everything else: each y is to be "
    "compared with the others.",
)
def _(values, directions, sigma):
    return _sum(values, directions) / (len(values) * sigma)


@rloo.mutant(
    "corrected_twice",
    "Leaving one out *and* dividing by K − 1 corrects twice: the estimate is K / (K − 1) times too long.",
)
def _(values, directions, sigma):
    others = (values.sum(0) - values) / (len(values) - 1)
    return _sum(values - others, directions) / ((len(values) - 1) * sigma)


@rloo.mutant(
    "sum_of_all_over_k_minus_one",
    "The baseline was divided by K − 1, and its sum still holds all K values: it is no mean of anything. Take the "
    "value itself out of the sum.",
)
def _(values, directions, sigma):
    return _sum(values - values.sum(0) / (len(values) - 1), directions) / (len(values) * sigma)


@rloo.mutant("sum_for_mean", "The terms were added up and never averaged: the more directions, the longer.")
def _(values, directions, sigma):
    others = (values.sum(0) - values) / (len(values) - 1)
    return _sum(values - others, directions) / sigma


@rloo.mutant(
    "value_itself_times_k_minus_one",
    "Each y − b was multiplied by K − 1 to save the division, and never divided again.",
)
def _(values, directions, sigma):
    return _sum((len(values) - 1) * values - (values.sum(0) - values), directions) / (len(values) * sigma)


@rloo.mutant(
    "mean_over_the_problems",
    "`mean(-1)` runs over the last axis of `values`. With problems side by side that is theirs, and each is compared "
    "with the other problems in place of its other directions.",
)
def _(values, directions, sigma):
    return _sum(values - values.mean(-1, keepdim=True), directions) / ((len(values) - 1) * sigma)


@rloo.mutant(
    "one_mean_for_all_problems",
    "`mean()` without an axis makes one number of all problems. Right for one problem, and for no second one on "
    "another level.",
)
def _(values, directions, sigma):
    return _sum(values - values.mean(), directions) / ((len(values) - 1) * sigma)


@rloo.mutant("only_the_first_problem", "All problems got the baseline of the first one.")
def _(values, directions, sigma):
    first = values if values.dim() == 1 else values.reshape(len(values), -1)[:, 0]
    return _sum(values - first.mean(0), directions) / ((len(values) - 1) * sigma)


@rloo.mutant(
    "last_direction_forgotten",
    "The last direction is missing in the sum. `range(K)` ends before K by itself.",
)
def _(values, directions, sigma):
    weights = (values - values.mean(0)) / ((len(values) - 1) * sigma)
    return _sum(weights[:-1], directions[:-1])


@rloo.mutant(
    "first_value_for_the_centre",
    "The first value was taken for f(θ) and became everybody's baseline. It belongs to a direction like the others.",
)
def _(values, directions, sigma):
    return _sum(values - values[0], directions) / ((len(values) - 1) * sigma)


@rloo.mutant(
    "the_next_value_only",
    "One other value is a baseline without bias, and a poor one: it scatters as much as y itself. Take the mean of all "
    "others.",
)
def _(values, directions, sigma):
    return _sum(values - values.roll(1, 0), directions) / (len(values) * sigma)


@rloo.mutant(
    "median_of_the_others",
    "The median of the others is a baseline without bias as well. From four directions on it is not their mean.",
)
def _(values, directions, sigma):
    others = [torch.cat((values[:k], values[k + 1 :])).quantile(0.5, dim=0) for k in range(len(values))]
    return _sum(values - torch.stack(others), directions) / (len(values) * sigma)


@rloo.mutant("sigma_forgotten", "The score of the policy is u / σ, and here σ is missing.")
def _(values, directions, sigma):
    return _sum(values - values.mean(0), directions) / (len(values) - 1)


@rloo.mutant(
    "sigma_squared",
    "The score is (x − θ) / σ², and x − θ is σ u: one σ is left below.",
)
def _(values, directions, sigma):
    return _sum(values - values.mean(0), directions) / ((len(values) - 1) * sigma**2)


@rloo.mutant("sigma_above", "The score is u / σ: here σ stands above and not below.")
def _(values, directions, sigma):
    return _sum(values - values.mean(0), directions) * sigma / (len(values) - 1)


@rloo.mutant(
    "two_sigma",
    "The central difference divides by 2 σ, for its two points lie 2 σ apart. Here every point stands for itself.",
)
def _(values, directions, sigma):
    return _sum(values - values.mean(0), directions) / ((len(values) - 1) * 2 * sigma)


@rloo.mutant(
    "sign_turned",
    "This is b − y, the gain where f is a reward. Here f is minimised, and the gradient points to where it grows.",
)
def _(values, directions, sigma):
    return _sum(values.mean(0) - values, directions) / ((len(values) - 1) * sigma)


@rloo.mutant(
    "values_normalised",
    "Divided by their standard deviation the values lose their unit: the estimate points the same way and no longer "
    "says how steep f is. Where all values are equal it is 0 / 0.",
)
def _(values, directions, sigma):
    return _sum((values - values.mean(0)) / values.std(0), directions) / ((len(values) - 1) * sigma)


@rloo.mutant(
    "directions_normalised",
    "The directions were brought to length 1. The score of a Gaussian is u / σ with the u that was drawn, long or "
    "short.",
)
def _(values, directions, sigma):
    unit = directions / directions.norm(dim=-1, keepdim=True)
    return _sum(values - values.mean(0), unit) / ((len(values) - 1) * sigma)


@rloo.mutant(
    "only_the_better_half",
    "Values worse than their baseline were set to zero. They tell where not to go, which is half of what is known.",
)
def _(values, directions, sigma):
    return _sum((values - values.mean(0)).clamp(max=0), directions) / ((len(values) - 1) * sigma)


@rloo.mutant("never_summed", "These are the terms, one for each direction. Their sum was asked for.")
def _(values, directions, sigma):
    weights = (values - values.mean(0)) / ((len(values) - 1) * sigma)
    return weights.unsqueeze(-1) * directions


@rloo.mutant(
    "coordinates_summed",
    "The coordinates were summed, and the directions left: it is the other way round.",
)
def _(values, directions, sigma):
    return (values - values.mean(0)) * directions.sum(-1) / ((len(values) - 1) * sigma)


@rloo.mutant(
    "single_precision_inside",
    "Single precision keeps seven digits of y. Where f is large and its differences small, few are left of them.",
)
def _(values, directions, sigma):
    weights = (values.float() - values.float().mean(0)) / ((len(values) - 1) * sigma)
    return _sum(weights, directions.float()).to(values.dtype)


# ---------------------------------------------------------------- right answers


@rloo.accepts("one left out after the other, in a loop")
def _(values, directions, sigma):
    total = torch.zeros_like(directions[0])
    for k in range(len(values)):
        others = torch.cat((values[:k], values[k + 1 :]))
        total += (values[k] - others.mean(0))[..., None] * directions[k] / sigma
    return total / len(values)


@rloo.accepts("the sample covariance of u and y")
def _(values, directions, sigma):
    centred = directions - directions.mean(0)
    return torch.einsum("k...,k...d->...d", values, centred) / (len(values) - 1) / sigma


@rloo.accepts("all pairs")
def _(values, directions, sigma):
    dy = values.unsqueeze(0) - values.unsqueeze(1)
    du = directions.unsqueeze(0) - directions.unsqueeze(1)
    count = values.shape[0]
    return (dy[..., None] * du).sum((0, 1)) / (2 * sigma * count * (count - 1))


@rloo.accepts("the sum of the others, and the axes moved")
def _(values, directions, sigma):
    count = values.size(0)
    baseline = (values.sum(dim=0, keepdim=True) - values) / (count - 1)
    advantage = (values - baseline).movedim(0, -1).unsqueeze(-2)
    return (advantage @ directions.movedim(0, -2)).squeeze(-2) / (sigma * count)
