"""A standard deviation where a variance was promised."""

import torch

from pocourse.lesson.exercises import exercise
from pocourse.lesson.museum import Suspect, catches, clears, piece, yes_or_no
from pocourse.lesson.wrong import Wrong

# ---------------------------------------------------------------- the wrong code, ours


def std_called_variance(estimates):
    spread = ((estimates - estimates.mean()) ** 2).mean()
    return spread.sqrt()  # printed as "variance"


# ---------------------------------------------------------------- the task


def variance_over_n(values):
    return ((values - values.mean()) ** 2).mean()


def variance_over_n_minus_one(values):
    return values.var()


def objective_std(values):
    """Its name is that of a standard deviation, and what it returns is a variance."""
    return (values**2).mean() - values.mean() ** 2


def of_all_pairs(values):
    return ((values.unsqueeze(0) - values.unsqueeze(1)) ** 2).mean() / 2


def of_the_mean(values):
    """The squared standard error: the variance of the mean of these values."""
    return values.var() / len(values)


def one_by_one(values):
    """Welford's recursion."""
    mean, total = values[0], 0 * values[0]
    for count, value in enumerate(values[1:], start=2):
        step = value - mean
        mean = mean + step / count
        total = total + step * (value - mean)
    return total / len(values)


def std_over_n_minus_one(values):
    return values.std()


def standard_error(values):
    return values.std() / len(values) ** 0.5


def variance_of_std(values):
    """A square root taken twice: its name is that of a variance."""
    return values.std(correction=0).sqrt()


def second_moment(values):
    return (values**2).mean()


def mean_not_squared(values):
    return (values**2).mean() - values.mean()


def absolute_deviation(values):
    return (values - values.mean()).abs().mean()


def absolute_deviation_squared(values):
    return absolute_deviation(values) ** 2


def range_squared(values):
    return (values.max() - values.min()) ** 2 / 4


def root_of_fourth_powers(values):
    return ((values - values.mean()) ** 4).mean().sqrt()


is_a_variance = exercise(
    "surrogate_variance.catch_std_called_variance",
    title="Catch a variance that is none",
    section="Bug museum",
    difficulty=2,
    minutes=8,
    task="""
A standard deviation of 0.63 and a variance of 0.63 look alike in print, and promise different things.

Write `is_a_variance(measure)`. `measure(values)` takes a tensor of shape [n] with n ≥ 2 and returns one number. Return
`True` if it is the variance of the values; otherwise `False`. It may divide by n, by n − 1, or by another number that
depends **only on n**: a squared standard error is a variance as well, that of a mean.

Names are no evidence: the codes on trial come without theirs.
""",
    stub="""
def is_a_variance(measure):
    ...
""",
    hints=(
        "What happens to a variance when all values are doubled? When 10 is added to all of them? Which of the usual "
        "suspects does something else?",
        "Doubling and adding unmask a standard deviation and a second moment, but not the *squared* mean absolute "
        "deviation, which behaves well in both. What tells it from a variance is how it weighs large deviations.",
        "Whatever it divides by, for a fixed n it is the same constant: `measure(x) / x.var()` has to be one and the "
        "same positive number for all lists x of the same length. Draw twenty lists of five values, not round 0.",
    ),
    solution="""
def is_a_variance(measure):
    generator = torch.Generator().manual_seed(0)
    lists = 1 + torch.randn(20, 5, generator=generator, dtype=torch.float64)
    factors = torch.stack([measure(x) / x.var() for x in lists])
    return bool(factors[0] > 0) and torch.allclose(factors, factors[0].expand(20))
""",
    after="""
**Variances add, and so they count samples.** If a variance falls to 0.4 of what it was, 1/0.4 = 2.5 times fewer samples
do for the same error. Standard deviations do not: the same gain reads 0.63, and whoever takes that for a variance
expects 1/0.63 = 1.6.

One of the codes you cleared is called `objective_std` and returns E[x²] − (E[x])². The unit tells: a variance of metres
is in square metres.
""",
    parameters=("measure",),
    returns=yes_or_no,
    probes=lambda: [
        (code,)
        for code in (
            variance_over_n,
            variance_over_n_minus_one,
            objective_std,
            of_the_mean,
            std_called_variance,
            variance_of_std,
            standard_error,
            second_moment,
            mean_not_squared,
            absolute_deviation,
            absolute_deviation_squared,
            range_squared,
            root_of_fourth_powers,
            # These do nothing sensible: they tell tests apart that are wrong in different ways.
            lambda values: 1 + 0 * values[0],
            lambda values: values.mean() ** 2,
            lambda values: 0.25 * values.var() + values.mean() ** 2,
            lambda values: -values.var(),
            lambda values: (values[0] - values[-1]).clamp(min=0) ** 2,
        )
    ],
)

RIGHT = "which is right"
FACTOR = "which is right: what it divides by depends only on n"


@is_a_variance.requires("clears the variance, divided by n or by n − 1")
def _(answer):
    return clears(
        answer,
        [
            Suspect("the mean squared deviation", variance_over_n, FACTOR),
            Suspect("`values.var()`, which divides by n − 1", variance_over_n_minus_one, FACTOR),
            Suspect("the squared standard error, `values.var() / n`", of_the_mean, FACTOR),
        ],
    )


@is_a_variance.requires("clears it however it is written, and whatever its name")
def _(answer):
    return clears(
        answer,
        [
            Suspect("E[x²] − (E[x])², under the name `objective_std`", objective_std, RIGHT),
            Suspect("half the mean squared difference of all pairs", of_all_pairs, RIGHT),
            Suspect("a variance computed one value at a time", one_by_one, RIGHT),
        ],
    )


@is_a_variance.requires("catches standard deviations")
def _(answer):
    why = "which doubles where a variance becomes four times as large"
    return catches(
        answer,
        [
            Suspect("the published mistake, a standard deviation", std_called_variance, why),
            Suspect("`values.std()`", std_over_n_minus_one, why),
            Suspect("the standard error", standard_error, why),
            Suspect("the root of a deviation, under the name `variance_of_std`", variance_of_std, "of no unit"),
        ],
    )


@is_a_variance.requires("catches what depends on where zero is")
def _(answer):
    why = "which changes when a number is added to all values"
    return catches(
        answer,
        [
            Suspect("the second moment, E[x²]", second_moment, why),
            Suspect("E[x²] − E[x]", mean_not_squared, why),
        ],
    )


@is_a_variance.requires("catches another measure of spread")
def _(answer):
    return catches(
        answer,
        [
            Suspect(
                "the mean absolute deviation",
                absolute_deviation,
                "which doubles where a variance becomes four times as large",
            )
        ],
    )


@is_a_variance.requires("catches other measures in squared units")
def _(answer):
    why = "which is in squared units and cares for no shift, but weighs the deviations in another way"
    return catches(
        answer,
        [
            Suspect("the mean absolute deviation, squared", absolute_deviation_squared, why),
            Suspect("half the range, squared", range_squared, why),
            Suspect("√E[(x − E x)⁴]", root_of_fourth_powers, why),
        ],
    )


def _lists(count=20, n=5, centre=1.0, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return centre + torch.randn(count, n, generator=generator, dtype=torch.float64)


def _scales(measure, factor=4.0, lists=None):
    lists = _lists() if lists is None else lists
    return all(torch.isclose(measure(2 * x), factor * measure(x)).item() for x in lists)


def _shifts(measure):
    return all(torch.isclose(measure(x + 10), measure(x)).item() for x in _lists())


@is_a_variance.mutant("always_true", "It says True to everything on trial.")
def _(measure):
    return True


@is_a_variance.mutant(
    "always_false",
    "It says False to everything on trial. A property that goes by names does so: the codes come without theirs.",
)
def _(measure):
    return False


@is_a_variance.mutant("scale_alone", "It doubles the values, and E[x²] becomes four times as large as well.")
def _(measure):
    return _scales(measure)


@is_a_variance.mutant("shift_alone", "It shifts the values, and a standard deviation does not notice that either.")
def _(measure):
    return _shifts(measure)


@is_a_variance.mutant(
    "scale_and_shift",
    "It doubles and shifts. The squared mean absolute deviation passes both: look at how deviations are weighed.",
)
def _(measure):
    return _scales(measure) and _shifts(measure)


@is_a_variance.mutant(
    "two_values",
    "Its lists have two values, and for these everything in squared units that ignores a shift is a variance.",
)
def _(measure):
    factors = torch.stack([measure(x) / x.var() for x in _lists(n=2)])
    return torch.allclose(factors, factors[0].expand(20))


@is_a_variance.mutant("round_zero", "Its values average to 0, where E[x²] is the variance.")
def _(measure):
    lists = _lists()
    lists = lists - lists.mean(-1, keepdim=True)
    factors = torch.stack([measure(x) / x.var() for x in lists])
    return torch.allclose(factors, factors[0].expand(20))


@is_a_variance.mutant("unit_variance", "Its values have a variance of 1, and 1 is its own square root.")
def _(measure):
    lists = _lists()
    lists = 3 + (lists - lists.mean(-1, keepdim=True)) / lists.std(-1, keepdim=True, correction=0)
    factors = torch.stack([measure(x) for x in lists])
    return torch.allclose(factors, factors[0].expand(20))


@is_a_variance.mutant("divided_by_n_only", "It compares with one formula, and refuses what divides by another number.")
def _(measure):
    return all(torch.isclose(measure(x), x.var(correction=0)).item() for x in _lists())


@is_a_variance.mutant(
    "one_list", "It looks at one list and lets any factor pass, so that any number is a variance. Compare two lists."
)
def _(measure):
    return bool(measure(_lists()[0]) > 0)


@is_a_variance.accepts("scale, shift, and how deviations are weighed")
def _(measure):
    one, other = (torch.tensor(x, dtype=torch.float64) for x in ([5.0, 5, 5, 9], [5.0, 5, 7, 7]))
    # The variances of these are 3 and 1, and after a shift and a doubling 12 and 4.
    return all(
        torch.isclose(measure(a), factor * measure(b))
        for a, b, factor in ((one, other, 3), (2 * other, other, 4), (one + 8, one, 1), (10 * other, one, 100 / 3))
    )


@is_a_variance.accepts("variances add over all pairs")
def _(measure):
    # All sums of a value here and a value there: their variance over n is the sum of both.
    lists = _lists(count=2, n=4)
    same = torch.stack([measure(x.repeat_interleave(4)) for x in lists]).sum()
    return torch.isclose(measure((lists[0].unsqueeze(1) + lists[1]).flatten()), same) and same > 0


@is_a_variance.accepts("its second derivatives are those of a variance")
def _(measure):
    # A quadratic form is its second derivatives, the same everywhere: here a multiple of 1 − 1/n.
    wanted = torch.eye(5, dtype=torch.float64) - 0.2
    found = [torch.autograd.functional.hessian(measure, x) for x in _lists(count=3)]
    factor = found[0][0, 0] / wanted[0, 0]
    return factor > 0 and all(torch.allclose(h, factor * wanted, atol=1e-9) for h in found)


piece(
    "surrogate_variance.std_called_variance",
    title="A variance that is a standard deviation",
    section="6",
    wrong=Wrong(
        "std_called_variance",
        "The root of a variance is no variance. It is the right thing beside a mean, as its unit is the same, and the "
        "wrong one for counting samples: read as a variance it makes a control variate look weaker than it is, "
        "0.63 in place of 0.4.",
        std_called_variance,
        "udlbook/udlbook",
    ),
    published=(
        "`udlbook/udlbook`, `Notebooks/Chap19/19_5_Control_Variates.ipynb`, as of commit `9649ce3` of 2025-02-11, the "
        "last change of that file. The text promises the variance of two estimators; the code keeps places for the "
        "reader's results that are called `std_of_estimator_1` and `std_of_estimator_2`, and prints what is in "
        "them as “variance”. Whoever computes what the names say compares standard deviations and reads them as "
        "variances. (The text says N = 10 as well, and the code N = 5.) We found no thread; the file:"
    ),
    thread="https://github.com/udlbook/udlbook/blob/9649ce382b44930c383a5a90e5eb44d699b11e00/Notebooks/Chap19/19_5_Control_Variates.ipynb",
    corrected="Still so at commit `a8fe82b` of 2026-01-20, the newest that we saw.",
    symptom=(
        "To estimate the mean of a, a second number b of known mean is subtracted; both have variance 1 and a "
        "correlation ρ. On the left is what that does: the variance becomes 2(1 − ρ) of what it was, and the number "
        "read as one is its root. Below ρ = 0.5 both exceed 1: subtracting b does harm. The best coefficient, ρ "
        "in place of 1, never does. On the right is the standard error at ρ = 0.8: with b, 5 samples do what 12.5 do "
        "without. Whoever reads 0.63 as a variance expects them to do what 7.9 do."
    ),
    right=variance_over_n,
    exercise="surrogate_variance.catch_std_called_variance",
    note=(
        "The other way round, and harmless but for its name: in the public code of Sample Dropout a variable called "
        "`ori_obj_std` holds E[x²] − (E[x])², a variance. (`baselines/ppo2/model.py`, the file of the piece before.)"
    ),
)
