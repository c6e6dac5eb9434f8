"""The ratio as a control variate, for section 6."""

import torch
from torch import Tensor

from pocourse.lesson.exercises import exercise
from pocourse.surrogate_variance.exercises._shared import (
    each_by_itself,
    off,
    one_per_row,
    pair,
    row,
    signed,
    table,
    told,
    unless_a_number,
    words,
)

control_variate = exercise(
    "surrogate_variance.control_variate",
    title="A correction from what is known",
    section="6",
    difficulty=3,
    minutes=8,
    task="""
On average a ratio is 1: that is known beforehand. In a batch it hardly ever is. Where the mean of the ratios came out
too high, the surrogate's mean is likely to have come out wrong as well, and by how much, the batch itself can tell.
With x = r A (3.16):

**m = mean(x) − c ( mean(r) − 1 ), with c = Cov(x, r) / Var(r)**

Covariance and variance are those of the same samples. Where all ratios of a batch are equal there is nothing to fit:
c is 0 then, and m the plain mean of x.

Write it. `controlled(ratio, advantage)` receives

- `ratio`, a tensor whose last axis holds the samples of a batch: r. Each index of the axes before it, if there are
  any, is a batch of its own, with a c of its own;
- `advantage`, a tensor of the same shape and dtype: A

and returns one m per batch, a tensor without the last axis.
""",
    stub='''
def controlled(ratio, advantage):
    """The mean of r A, with the ratio as a control variate."""
    ...
''',
    hints=(
        "c is the slope of the straight line through the points (r, x) that fits them best, and m is the height of "
        "that line at r = 1, where the ratios are on average. Which three averages over the last axis do you need?",
        "With `spread = ratio - ratio.mean(-1, keepdim=True)` the variance is the mean of `spread ** 2`, and the "
        "covariance the mean of `spread * x`: centring one of the two is enough. Where the variance is 0, divide by "
        "something else, for 0 / 0 is nan before any `where` can choose.",
        "Both divisors n cancel in c, or both n − 1: take the same for both. `variance.clamp(min=1e-12)` never is 0, "
        "and where all ratios are equal the covariance is 0, so that c is 0 as well. Then put `c * (ratio.mean(-1) - "
        "1)` where it belongs.",
    ),
    solution="""
def controlled(ratio, advantage):
    x, spread = ratio * advantage, ratio - ratio.mean(-1, keepdim=True)
    covariance, variance = (spread * x).mean(-1), (spread**2).mean(-1)
    c = covariance / variance.clamp(min=1e-12)
    return x.mean(-1) - c * (ratio.mean(-1) - 1)
""",
    after="""
Give every sample the same advantage, 5 say: the plain mean answers 5 × mean(r), and yours answers 5, without
scatter. So your m does not mind a constant in A, which is why a baseline costs the controlled mean nothing. Dividing
by mean(r) passes that test too, but it takes its own answer for c, whatever the data say. The price of fitting c to
the same samples is a bias of order 1 / n (with c known beforehand there is none), and the gain is the factor 1 − ρ²
in the variance (3.17).
""",
    parameters=("ratio", "advantage"),
    returns=one_per_row("sample"),
    probes=lambda: [
        _three(),
        _batches(),
        tuple(x.reshape(2, 2, 4) for x in _batches()),
        (row(0.5, 0.5, 0.5), row(3.0, -1.0, 4.0)),
        _one_of_them_equal(),
        (_batches()[0][1], 100 * _batches()[1][1]),
    ],
)


# A guard below the fraction moves every value a little. How large it may be is the matter of one property alone.
GUARDED = 1e-3


def _three() -> tuple[Tensor, Tensor]:
    """x = (1, 4, 9), c = 4, m = 2 / 3."""
    return row(1.0, 2.0, 3.0), row(1.0, 2.0, 3.0)


def _batches() -> tuple[Tensor, Tensor]:
    """Four batches of four samples."""
    ratio = table((0.5, 1.0, 1.5, 2.0), (0.9, 1.3, 0.4, 0.2), (2.0, 0.1, 0.6, 0.5), (1.1, 1.6, 1.2, 0.9))
    advantage = table((1.0, -2.0, 0.5, 3.0), (-1.0, 2.0, 2.0, 0.0), (0.7, 1.5, -3.0, 1.0), (2.0, 1.0, 4.0, 2.5))
    return ratio, advantage


def _given(ratio: Tensor, advantage: Tensor) -> str:
    return f"r = {words(ratio)}, A = {words(advantage)}"


def _one_of_them_equal() -> tuple[Tensor, Tensor]:
    """Two batches: in the first all ratios are equal, and m = 1; the second is that of m = 2 / 3."""
    return table((0.5, 0.5, 0.5), (1.0, 2.0, 3.0)), table((3.0, -1.0, 4.0), (1.0, 2.0, 3.0))


@control_variate.requires("one mean per batch, whatever axes come first")
def _(answer):
    batches = _batches()
    at = [_given(*(x[i] for x in batches)) for i in range(4)]
    return each_by_itself(answer, *batches, at=at, one="the batch", what="mean")


@control_variate.requires("the plain mean where the ratios average to 1")
def _(answer):
    for given, mean in (
        ((row(0.5, 1.5), row(2.0, 4.0)), 3.5),
        ((row(0.25, 0.75, 2.0), row(4.0, -8.0, 1.0)), -1.0),
    ):
        why = f"The ratios average to 1, as they should: there is nothing to correct, and mean(r A) is {signed(mean)}."
        if problem := told(answer(*given), mean, f"for {_given(*given)}", why, "mean"):
            return problem
    return None


@control_variate.requires("the plain mean where all ratios are 1")
def _(answer):
    for dtype in (torch.float64, torch.float32):
        given = row(1.0, 1.0, 1.0, dtype=dtype), row(3.0, -1.0, 4.0, dtype=dtype)
        problem = told(
            answer(*given),
            2.0,
            f"for {_given(*given)}",
            "Var(r) and Cov(x, r) are 0, and 0 / 0 is nan. There is nothing to fit and nothing to correct: c is 0, and "
            "the plain mean of x is 2.",
            "mean",
        )
        if problem:
            return problem
    return None


@control_variate.requires("A itself where all advantages are equal")
def _(answer):
    for advantage in (5.0, -2.0):
        given = row(0.5, 1.0, 2.0, 3.0), row(*[advantage] * 4)
        problem = told(
            answer(*given),
            advantage,
            f"for {_given(*given)}",
            f"x is {signed(advantage)} r there, so c is {signed(advantage)}, and what mean(r) = 1.625 has put in is "
            "taken out again.",
            "mean",
            GUARDED,
        )
        if problem:
            return problem
    return None


@control_variate.requires("three samples, by hand")
def _(answer):
    given = _three()
    why = (
        "By hand: x = (1, 4, 9), with the means 14/3 of x and 2 of r. Cov(x, r) = ((−1)(−11/3) + 0 + (1)(13/3)) / 3 = "
        "8/3 and Var(r) = 2/3, so c = 4, and 14/3 − 4 × (2 − 1) = 2/3."
    )
    return told(answer(*given), 2 / 3, f"for {_given(*given)}", why, "mean", GUARDED)


@control_variate.requires("four samples, by hand")
def _(answer):
    given = row(0.25, 0.5, 0.5, 0.75), row(8.0, -2.0, 6.0, 0.0)
    why = (
        "By hand: x = (2, −1, 3, 0) with the mean 1, and r has the mean 0.5. Cov(x, r) = (−0.25 × 2) / 4 = −0.125 and "
        "Var(r) = 0.03125, so c = −4, and 1 + 4 × (0.5 − 1) = −1."
    )
    return told(answer(*given), -1.0, f"for {_given(*given)}", why, "mean", GUARDED)


@control_variate.requires("the height at r = 1 of a straight line")
def _(answer):
    for slope, height in ((3.0, 2.0), (-1.0, 4.0), (0.0, 2.5)):
        ratio = row(0.5, 1.25, 2.0, 4.0)
        advantage = (height + slope * (ratio - 1)) / ratio
        line = f"{height:g} + {signed(slope)} (r − 1)".replace("+ −", "− ")
        problem = told(
            answer(ratio.clone(), advantage.clone()),
            height,
            f"for r = (0.5, 1.25, 2, 4) and A = ({line}) / r, so that x = {line},",
            f"All points (r, x) lie on one straight line. c is its slope, {signed(slope)}, and m its height at r = 1.",
            "mean",
            GUARDED,
        )
        if problem:
            return problem
    return None


@control_variate.requires("ratios close to one another")
def _(answer):
    ratio = row(0.999, 1.001, 1.001, 1.001)
    mine = answer(ratio.clone(), (2 + 8 * (ratio - 1)) / ratio)
    # The plain mean is 2.004. A twentieth of the way is left to guards such as + 1e-8 below the fraction.
    if bool((mine - 2).abs() <= 0.0002):
        return None
    got, must = pair(mine, 2.0)
    return (
        f"for r = (0.999, 1.001, 1.001, 1.001) and A = (2 + 8 (r − 1)) / r your mean is {got}, and it must be {must}"
        f"{unless_a_number(got)}. Var(r) is 0.00000075 there, which is not 0: ratios of an ordinary batch are that "
        "close. What guards the division has to be far smaller."
    )


@control_variate.requires("no correction where all ratios are equal, whatever lies in the batch beside")
def _(answer):
    given = _one_of_them_equal()
    for value, wanted, at in zip(answer(*given), (1.0, 2 / 3), (0, 1), strict=True):
        problem = told(
            value,
            wanted,
            f"of two batches side by side, the one with {_given(*(x[at] for x in _one_of_them_equal()))}:",
            "In the first all ratios are equal, no line can be fitted, and c is 0; in the second they are not, and c "
            "is 4. Each goes its own way: `torch.where` and `clamp` decide batch by batch.",
            "mean",
        )
        if problem:
            return problem
    return None


@control_variate.requires("a constant added to all advantages is added to the mean")
def _(answer):
    ratio, advantage = (x[0] for x in _batches())
    once, moved = answer(ratio.clone(), advantage.clone()), answer(ratio.clone(), advantage + 3)
    if off(moved, once + 3) is None:
        return None
    got, must = pair(moved, once + 3)
    return (
        f"for {_given(ratio, advantage)} your mean is {pair(once, moved)[0]}. With 3 added to every advantage it must "
        f"be {must}, and yours is {got}. x grows by 3 r, which is 3 plus 3 (r − 1), and the second part is what the "
        "control variate takes out."
    )


@control_variate.requires("twice the advantages, twice the mean, and so for any factor")
def _(answer):
    ratio, advantage = (x[1] for x in _batches())
    once, twice = answer(ratio.clone(), advantage.clone()), answer(ratio.clone(), 2 * advantage)
    if off(twice, 2 * once) is not None:
        got, must = pair(twice, 2 * once)
        return (
            f"for {_given(ratio, advantage)} your mean is {pair(once, twice)[0]}. With all advantages doubled it must "
            f"be {must}, and yours is {got}. c is in units of A, as x is: does it double?"
        )
    for factor, power in ((1e9, "10⁹"), (1e-9, "10⁻⁹")):
        other = answer(ratio.clone(), factor * advantage) / factor
        if off(other, once) is not None:
            got, must = pair(other, once)
            return (
                f"for {_given(ratio, advantage)} your mean is {must}. With all advantages times {power} it must be "
                f"{must} × {power}, and yours is {got} × {power}. c is in units of A, and may be of any size: is it, "
                "or a part of it, held between two numbers?"
            )
    return None


@control_variate.requires("the whole batch twice, the same mean")
def _(answer):
    once, twice = answer(*_three()), answer(*(x.repeat(2) for x in _three()))
    if off(twice, once) is None:
        return None
    got, must = pair(twice, once)
    return (
        f"for r = A = (1, 2, 3) your mean is {must}, and with every sample twice it is {got}. Covariance and variance "
        "must have the same divisor, both n or both n − 1: it cancels in c."
    )


# ---------------------------------------------------------------- wrong answers


def _parts(ratio, advantage):
    """x and the spread of r, for answers that are wrong elsewhere."""
    return ratio * advantage, ratio - ratio.mean(-1, keepdim=True)


def _over(one, other):
    """A quotient that is 0 where the denominator is."""
    return torch.where(other > 1e-12, one / other.clamp(min=1e-12), torch.zeros_like(one))


@control_variate.mutant(
    "zero_over_zero",
    "Where all ratios are equal, c is 0 / 0, which is nan, and so is m. Right after the data have been collected all "
    "ratios are 1: this is the first batch of every update.",
)
def _(ratio, advantage):
    x, spread = _parts(ratio, advantage)
    return x.mean(-1) - (spread * x).mean(-1) / (spread**2).mean(-1) * (ratio.mean(-1) - 1)


@control_variate.mutant("no_control", "This is the plain mean of x: what is known about the ratios was not used.")
def _(ratio, advantage):
    return (ratio * advantage).mean(-1)


@control_variate.mutant(
    "self_normalised",
    "Dividing by mean(r) is another correction, the self-normalised mean. It corrects as if c were the mean itself; "
    "here c is fitted.",
)
def _(ratio, advantage):
    return (ratio * advantage).mean(-1) / ratio.mean(-1)


@control_variate.mutant(
    "one_forgotten",
    "c mean(r) was subtracted. What may be subtracted without harm is zero on average, and that is mean(r) − 1.",
)
def _(ratio, advantage):
    x, spread = _parts(ratio, advantage)
    return x.mean(-1) - _over((spread * x).mean(-1), (spread**2).mean(-1)) * ratio.mean(-1)


@control_variate.mutant(
    "sign_turned",
    "The correction was added. Where mean(r) is too high, x that grows with r is too high as well: it is subtracted.",
)
def _(ratio, advantage):
    x, spread = _parts(ratio, advantage)
    return x.mean(-1) + _over((spread * x).mean(-1), (spread**2).mean(-1)) * (ratio.mean(-1) - 1)


@control_variate.mutant(
    "coefficient_one",
    "c = 1 is a guess that ignores the advantages. How far x goes along with r, the covariance tells.",
)
def _(ratio, advantage):
    return (ratio * advantage).mean(-1) - (ratio.mean(-1) - 1)


@control_variate.mutant(
    "mean_advantage_for_c",
    "c = mean(A) is the centred surrogate (3.18), close to the best where A does not depend on r. Here c is fitted.",
)
def _(ratio, advantage):
    return (ratio * advantage).mean(-1) - advantage.mean(-1) * (ratio.mean(-1) - 1)


@control_variate.mutant(
    "divided_by_the_variance_of_x",
    "The covariance was divided by Var(x). c is how much x changes when r changes: the variance of r belongs below.",
)
def _(ratio, advantage):
    x, spread = _parts(ratio, advantage)
    return x.mean(-1) - _over((spread * x).mean(-1), x.var(-1, correction=0)) * (ratio.mean(-1) - 1)


@control_variate.mutant(
    "correlation_for_c",
    "Divided by both standard deviations it is the correlation ρ, a number without a unit. c has that of A: divide by "
    "Var(r).",
)
def _(ratio, advantage):
    x, spread = _parts(ratio, advantage)
    both = (x.var(-1, correction=0) * (spread**2).mean(-1)).sqrt()
    return x.mean(-1) - _over((spread * x).mean(-1), both) * (ratio.mean(-1) - 1)


@control_variate.mutant(
    "standard_deviation_below",
    "The covariance was divided by the standard deviation of r. Its square belongs there.",
)
def _(ratio, advantage):
    x, spread = _parts(ratio, advantage)
    return x.mean(-1) - _over((spread * x).mean(-1), (spread**2).mean(-1).sqrt()) * (ratio.mean(-1) - 1)


@control_variate.mutant(
    "covariance_with_the_advantage",
    "This is Cov(A, r). What has to be corrected is the mean of x = r A, so its covariance with r counts.",
)
def _(ratio, advantage):
    x, spread = _parts(ratio, advantage)
    return x.mean(-1) - _over((spread * advantage).mean(-1), (spread**2).mean(-1)) * (ratio.mean(-1) - 1)


@control_variate.mutant(
    "line_through_the_origin",
    "mean(x r) / mean(r²) is not centred: the slope of a line that is forced through the origin.",
)
def _(ratio, advantage):
    x = ratio * advantage
    return x.mean(-1) - (x * ratio).mean(-1) / (ratio**2).mean(-1) * (ratio.mean(-1) - 1)


@control_variate.mutant(
    "variance_around_one",
    "Var(r) was taken around the known mean 1, the covariance around the sample mean. Both have to be those of the "
    "samples, else the line does not fit.",
)
def _(ratio, advantage):
    x, spread = _parts(ratio, advantage)
    return x.mean(-1) - _over((spread * x).mean(-1), ((ratio - 1) ** 2).mean(-1)) * (ratio.mean(-1) - 1)


@control_variate.mutant(
    "both_around_one",
    "Around the known mean 1 the products are no covariance any more, as x was not centred: its mean counts as well.",
)
def _(ratio, advantage):
    x = ratio * advantage
    return x.mean(-1) - _over(((ratio - 1) * x).mean(-1), ((ratio - 1) ** 2).mean(-1)) * (ratio.mean(-1) - 1)


@control_variate.mutant(
    "variance_with_n_minus_one",
    "`var` divides by n − 1 unless told otherwise, and the covariance was divided by n. Take the same for both.",
)
def _(ratio, advantage):
    x, spread = _parts(ratio, advantage)
    return x.mean(-1) - _over((spread * x).mean(-1), ratio.var(-1)) * (ratio.mean(-1) - 1)


@control_variate.mutant(
    "covariance_with_n_minus_one",
    "The covariance was divided by n − 1, as `torch.cov` does, and the variance by n. Take the same for both.",
)
def _(ratio, advantage):
    x, spread = _parts(ratio, advantage)
    covariance = (spread * x).sum(-1) / (x.shape[-1] - 1)
    return x.mean(-1) - _over(covariance, (spread**2).mean(-1)) * (ratio.mean(-1) - 1)


@control_variate.mutant(
    "one_coefficient_for_all_batches",
    "Each batch has its own c. Means without an axis fit one line to all of them.",
)
def _(ratio, advantage):
    x, spread = ratio * advantage, ratio - ratio.mean()
    return x.mean(-1) - _over((spread * x).mean(), (spread**2).mean()) * (ratio.mean(-1) - 1)


@control_variate.mutant(
    "one_slope_for_all_batches",
    "The spread was taken within each batch, and then averaged over all of them. Each batch has its own c.",
)
def _(ratio, advantage):
    x, spread = _parts(ratio, advantage)
    return x.mean(-1) - _over((spread * x).mean(), (spread**2).mean()) * (ratio.mean(-1) - 1)


@control_variate.mutant(
    "one_value_per_sample",
    "These are the corrected samples. Their mean over the last axis was asked for.",
)
def _(ratio, advantage):
    x, spread = _parts(ratio, advantage)
    c = _over((spread * x).mean(-1, keepdim=True), (spread**2).mean(-1, keepdim=True))
    return x - c * (ratio - 1)


@control_variate.mutant(
    "zero_for_equal_ratios",
    "Where all ratios are equal, c is 0, and the plain mean of x is left: not nothing at all.",
)
def _(ratio, advantage):
    x, spread = _parts(ratio, advantage)
    return torch.nan_to_num(x.mean(-1) - (spread * x).mean(-1) / (spread**2).mean(-1) * (ratio.mean(-1) - 1))


@control_variate.mutant(
    "one_equal_batch_for_all",
    "As soon as one batch has equal ratios, none of them is corrected. Decide for each batch by itself, with "
    "`torch.where` or `clamp`.",
)
def _(ratio, advantage):
    x, spread = _parts(ratio, advantage)
    variance = (spread**2).mean(-1)
    if (variance == 0).any():
        return x.mean(-1)
    return x.mean(-1) - (spread * x).mean(-1) / variance * (ratio.mean(-1) - 1)


@control_variate.mutant(
    "coefficient_held_down",
    "c was held between −10 and 10. It is in units of A, and as large as the advantages make it.",
)
def _(ratio, advantage):
    x, spread = _parts(ratio, advantage)
    c = _over((spread * x).mean(-1), (spread**2).mean(-1)).clamp(-10, 10)
    return x.mean(-1) - c * (ratio.mean(-1) - 1)


@control_variate.mutant(
    "variance_padded",
    "A generous constant below the fraction prevents 0 / 0, and makes c too small everywhere else. Keep it many "
    "orders of magnitude below the variance, or choose with `where`.",
)
def _(ratio, advantage):
    x, spread = _parts(ratio, advantage)
    return x.mean(-1) - (spread * x).mean(-1) / ((spread**2).mean(-1) + 1e-2) * (ratio.mean(-1) - 1)


# ---------------------------------------------------------------- right answers


@control_variate.accepts("sums, and a where on both sides of the division")
def _(ratio, advantage):
    x = ratio * advantage
    r0, x0 = ratio - ratio.mean(-1, keepdim=True), x - x.mean(-1, keepdim=True)
    below = (r0 * r0).sum(-1)
    c = torch.where(below > 0, (r0 * x0).sum(-1) / torch.where(below > 0, below, 1.0), 0.0)
    return torch.mean(x - c.unsqueeze(-1) * (ratio - 1), dim=-1)


@control_variate.accepts("weights of the samples, as a regression at r = 1 has them")
def _(ratio, advantage):
    mean = ratio.mean(-1, keepdim=True)
    spread = ratio - mean
    below = (spread**2).sum(-1, keepdim=True) + 1e-12
    weight = 1 / ratio.shape[-1] + (1 - mean) * spread / below
    return (weight * ratio * advantage).sum(-1)


@control_variate.accepts("both divided by n − 1")
def _(ratio, advantage):
    x = ratio * advantage
    covariance = ((ratio - ratio.mean(-1, keepdim=True)) * x).sum(-1) / (ratio.shape[-1] - 1)
    c = torch.nan_to_num(covariance / ratio.var(-1))
    return x.mean(-1) + c * (1 - ratio.mean(-1))


@control_variate.accepts("least squares, batch by batch")
def _(ratio, advantage):
    fitted = [_height(r, r * a) for r, a in zip(_flat(ratio), _flat(advantage), strict=True)]
    return torch.stack(fitted).reshape(ratio.shape[:-1])


def _flat(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])


def _height(r: Tensor, x: Tensor) -> Tensor:
    if r.max() == r.min():
        return x.mean()
    points = torch.stack((torch.ones_like(r), r - 1), -1)
    return torch.linalg.lstsq(points, x.unsqueeze(-1)).solution[0, 0]
