"""An error of a ratio of means, with the denominator frozen."""

import torch

from pocourse.lesson.exercises import exercise
from pocourse.lesson.museum import Suspect, catches, clears, piece, yes_or_no
from pocourse.lesson.wrong import Wrong

# ---------------------------------------------------------------- the wrong code, ours


def frozen_denominator(weight, reward, resamples=400):
    rounds = weight * reward / weight.mean()  # from here on the denominator is data
    drawn = redraw(len(rounds), resamples)
    return rounds[drawn].mean(-1).std()


# ---------------------------------------------------------------- the task


def redraw(n, resamples):
    """Which samples each resample of a bootstrap holds, [resample, n]; the same ones whenever it is called."""
    return torch.randint(n, (resamples, n), generator=torch.Generator().manual_seed(0))


def delta_method(weight, reward):
    """The root of the sum of w^2 (r - V)^2, over the sum of the weights."""
    value = (weight * reward).sum() / weight.sum()
    return (weight**2 * (reward - value) ** 2).sum().sqrt() / weight.sum()


def half_width(weight, reward):
    return 1.96 * delta_method(weight, reward)


def jackknife(weight, reward):
    """Every sample is left out once."""
    n = len(weight)
    left = ((weight * reward).sum() - weight * reward) / (weight.sum() - weight)
    return ((n - 1) / n * ((left - left.mean()) ** 2).sum()).sqrt()


def bootstrap_of_pairs(weight, reward, resamples=400):
    """Weights are drawn again together with their rewards; a resample of weight zero has no estimate."""
    drawn = redraw(len(weight), resamples)
    total = weight[drawn].sum(-1)
    return ((weight * reward)[drawn].sum(-1)[total > 0] / total[total > 0]).std()


def percentiles(weight, reward, resamples=400):
    """Half the width of the interval that holds the middle 95% of a bootstrap of pairs."""
    drawn = redraw(len(weight), resamples)
    total = weight[drawn].sum(-1)
    found = (weight * reward)[drawn].sum(-1)[total > 0] / total[total > 0]
    return (found.quantile(0.975) - found.quantile(0.025)) / 2


def bayesian_bootstrap(weight, reward, resamples=400):
    """Every sample gets a random weight of its own, in numerator and denominator alike."""
    uniform = torch.rand(resamples, len(weight), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    own = -uniform.log().to(weight.dtype) * weight
    return ((own * reward).sum(-1) / own.sum(-1)).std()


def plain_error(weight, reward):
    return (weight * reward).std() / len(weight) ** 0.5


def frozen_formula(weight, reward):
    return (weight * reward).std() / weight.mean() / len(weight) ** 0.5


def hundredth(weight, reward):
    return 0.01 * frozen_formula(weight, reward)


def plain_bootstrap(weight, reward, resamples=400):
    return (weight * reward)[redraw(len(weight), resamples)].mean(-1).std()


def unweighted(weight, reward):
    return reward.std() / len(reward) ** 0.5


def centred_first(weight, reward):
    """The frozen denominator, for rewards from which their unweighted mean was subtracted."""
    return frozen_formula(weight, reward - reward.mean())


def half_centred(weight, reward):
    value = (weight * reward).sum() / weight.sum()
    return (weight**2 * (reward - 0.5 * value) ** 2).sum().sqrt() / weight.sum()


def numerator_alone(weight, reward):
    """Deviations of w r from the estimate, as if every weight were its mean."""
    value = (weight * reward).sum() / weight.sum()
    return ((weight * reward / weight.mean() - value) ** 2).mean().sqrt() / len(weight) ** 0.5


def no_width(weight, reward):
    return 0 * (weight * reward).sum()


measures_the_ratio = exercise(
    "surrogate_variance.catch_frozen_denominator",
    title="Catch an error bar that froze the denominator",
    section="Bug museum",
    difficulty=4,
    minutes=12,
    task="""
The self-normalised estimate V = Σ wᵢrᵢ / Σ wᵢ is a ratio, and its denominator varies with the samples as well. An
error bar has to vary both.

Write `measures_the_ratio(error)`. `error(weight, reward)` takes two tensors of shape [n], weights ≥ 0, and returns the
standard error of V, or the half width of an interval. Return `True` if it is one of *the ratio*; otherwise `False`. No
formula is needed: **what V does not notice, its error must not notice either.**

- Every reward raised by the same number: V is raised by it as well, and varies as before.
- Every reward the same: V is that number for certain, whatever the weights.
- A sample of weight zero: its reward plays no part.

Where rewards differ that do have weight, the error is not zero. How large it is, and whether it is one standard error
or two, is not the question. Some codes on trial draw random resamples, the same in every call.
""",
    stub="""
def measures_the_ratio(error):
    ...
""",
    hints=(
        "Take weights that differ widely, one of them zero, and some rewards. Which changes of the rewards leave V as "
        "uncertain as it was? What does an error do that looks at the products wr only?",
        "Three comparisons with `before = error(w, r)`: `error(w, r + 5)`; the same rewards but for the one of weight "
        "zero; and `before > 0`. The constant rewards are in the first: where do they hide?",
        "Use `torch.isclose` and float64, for an error of exactly 0 is not what rounding leaves. A hundred samples are "
        "plenty: `w = torch.rand(100, dtype=torch.float64)`, `w[0] = 0`.",
    ),
    solution="""
def measures_the_ratio(error):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(100, generator=generator, dtype=torch.float64).exp()
    reward = torch.rand(100, generator=generator, dtype=torch.float64)
    weight[0] = 0
    other = reward.clone()
    other[0] += 7
    before = error(weight, reward)
    same = [torch.isclose(error(weight, r), before) for r in (reward + 5, other)]
    return bool(before > 0) and all(bool(x) for x in same)
""",
    after="""
To first order the variance of V is Var[w(r − V)] / n, for weights with mean 1: what counts is how far a reward is from
V, not from zero. The frozen denominator leaves Var[wr] / n, and **V itself is right all the while**: an error bar is
code of its own, and wants a test of its own.

Delta method, jackknife, and every bootstrap that draws weights together with their rewards passed. None of them was
compared with another: invariances are tests that need no reference.
""",
    parameters=("error",),
    returns=yes_or_no,
    probes=lambda: [
        (code,)
        for code in (
            delta_method,
            jackknife,
            bootstrap_of_pairs,
            frozen_denominator,
            frozen_formula,
            hundredth,
            plain_error,
            unweighted,
            centred_first,
            half_centred,
            no_width,
            # These do nothing sensible: they tell tests apart that are wrong in different ways.
            lambda weight, reward: weight.std() / len(weight) ** 0.5 + 0 * reward.sum(),
            lambda weight, reward: reward.mean().abs(),
            lambda weight, reward: (reward.max() - reward.min()) / 100,
            lambda weight, reward: 0.001 * (weight * reward).sum() / weight.sum(),
            lambda weight, reward: delta_method(weight**2, reward),
        )
    ],
)

RIGHT = "which varies numerator and denominator together"


@measures_the_ratio.requires("clears the delta method and the jackknife")
def _(answer):
    return clears(
        answer,
        [
            Suspect("the delta method", delta_method, RIGHT),
            Suspect("the delta method, times 1.96", half_width, "which is the half width of an interval"),
            Suspect("the jackknife", jackknife, RIGHT),
        ],
    )


@measures_the_ratio.requires("clears bootstraps of pairs")
def _(answer):
    return clears(
        answer,
        [
            Suspect("a bootstrap that draws weights and rewards together", bootstrap_of_pairs, RIGHT),
            Suspect("half the width between two percentiles of such a bootstrap", percentiles, RIGHT),
            Suspect("a Bayesian bootstrap", bayesian_bootstrap, RIGHT),
        ],
    )


@measures_the_ratio.requires("catches the frozen denominator")
def _(answer):
    why = "in which Σ w is data: rewards that are all alike get an error"
    return catches(
        answer,
        [
            Suspect("the published mistake", frozen_denominator, why),
            Suspect("its formula, without a bootstrap", frozen_formula, why),
            Suspect("the spread of wr / mean(w) round V", numerator_alone, why),
        ],
    )


@measures_the_ratio.requires("catches a hundredth of it")
def _(answer):
    return catches(
        answer,
        [Suspect("a hundredth of the frozen error", hundredth, "which is small, and still not zero for equal rewards")],
    )


@measures_the_ratio.requires("catches the error of the plain estimate")
def _(answer):
    why = "which is that of the mean of wr, an estimate without a denominator"
    return catches(
        answer,
        [
            Suspect("`(w * r).std() / √n`", plain_error, why),
            Suspect("a bootstrap of the products wr", plain_bootstrap, why),
        ],
    )


@measures_the_ratio.requires("catches what leaves the weights out, or half in")
def _(answer):
    return catches(
        answer,
        [
            Suspect("`r.std() / √n`", unweighted, "in which a sample of weight zero counts like any other"),
            Suspect(
                "the frozen error of r − mean(r)",
                centred_first,
                "in which the rewards are centred at their unweighted mean: a sample of weight zero moves it",
            ),
            Suspect("deviations from V/2", half_centred, "in which half of the denominator's part is missing"),
        ],
    )


@measures_the_ratio.requires("catches an error that is always zero")
def _(answer):
    return catches(answer, [Suspect("an error of 0", no_width, "though the rewards differ")])


def _draw(n=100, spread=1.0, seed=1):
    generator = torch.Generator().manual_seed(seed)
    weight = (spread * torch.randn(n, generator=generator, dtype=torch.float64)).exp()
    return weight, torch.rand(n, generator=generator, dtype=torch.float64)


def _ignores_zero_weight(error):
    weight, reward = _draw()
    weight[0] = 0
    other = reward.clone()
    other[0] += 7
    return torch.isclose(error(weight, reward), error(weight, other))


@measures_the_ratio.mutant("always_true", "It says True to everything on trial.")
def _(error):
    return True


@measures_the_ratio.mutant(
    "equal_weights", "Its weights are all alike. Then the denominator does not vary, and frozen or not is the same."
)
def _(error):
    _, reward = _draw()
    weight = torch.ones_like(reward)
    return torch.isclose(error(weight, reward), delta_method(weight, reward), rtol=0.1)


@measures_the_ratio.mutant("rewards_of_zero", "Its constant reward is 0, and then the products wr vanish as well.")
def _(error):
    weight, reward = _draw()
    return error(weight, 0 * reward).abs() < 1e-9


@measures_the_ratio.mutant(
    "constant_rewards",
    "It tries constant rewards alone. An error that leaves the weights out is zero there, and so is an error of 0.",
)
def _(error):
    weight, reward = _draw()
    return error(weight, 0 * reward + 3).abs() < 1e-9


@measures_the_ratio.mutant(
    "exactly_zero", "It wants an error of exactly 0 for constant rewards. Rounding leaves 1e-17: leave it some room."
)
def _(error):
    weight, reward = _draw()
    exact = error(weight, 0 * reward + 0.3) == 0
    return exact & (error(weight, reward) > 0) & _ignores_zero_weight(error)


@measures_the_ratio.mutant(
    "small_enough", "It calls an error below 0.05 none. An error that is wrong can be small: compare with rounding."
)
def _(error):
    weight, reward = _draw()
    return (error(weight, 0 * reward + 1) < 0.05) & (error(weight, reward) > 0) & _ignores_zero_weight(error)


@measures_the_ratio.mutant(
    "shift_alone", "It raises all rewards alone. An error without weights passes, and so does one that is always zero."
)
def _(error):
    weight, reward = _draw()
    return torch.isclose(error(weight, reward + 5), error(weight, reward))


@measures_the_ratio.mutant(
    "zero_weight_alone",
    "It tries the sample of weight zero alone. That one drops out of the products wr, whatever the denominator does.",
)
def _(error):
    return _ignores_zero_weight(error)


@measures_the_ratio.mutant(
    "weights_scaled", "It multiplies the weights by 3. The frozen denominator takes that out, too: change the rewards."
)
def _(error):
    weight, reward = _draw()
    return torch.isclose(error(3 * weight, reward), error(weight, reward)) & (error(weight, reward) > 0)


@measures_the_ratio.mutant(
    "delta_method_to_the_digit",
    "It compares with the delta method to the last digit. A jackknife differs by 1/n, an interval by a factor.",
)
def _(error):
    weight, reward = _draw()
    return torch.isclose(error(weight, reward), delta_method(weight, reward))


@measures_the_ratio.mutant("width_forgotten", "It never asks whether the error is anything but zero.")
def _(error):
    weight, reward = _draw()
    return torch.isclose(error(weight, reward + 5), error(weight, reward)) & _ignores_zero_weight(error)


@measures_the_ratio.accepts("rewards that differ only where no weight is")
def _(error):
    weight, reward = _draw(n=60)
    weight[::3] = 0
    alike = torch.where(weight > 0, 2.0, reward)
    return bool((error(weight, alike) < 1e-9) & (error(weight, reward) > 1e-6))


@measures_the_ratio.accepts("the gradient in the rewards adds up to zero")
def _(error):
    # Raising all rewards changes nothing, nor does raising one of weight zero.
    weight, reward = _draw(n=80, spread=0.5)
    weight[7] = 0
    reward.requires_grad_()
    (slope,) = torch.autograd.grad(error(weight, reward), reward)
    return bool((slope.sum().abs() < 1e-9) & (slope[7].abs() < 1e-12) & (slope.abs().max() > 1e-9))


@measures_the_ratio.accepts("a ratio to the delta method that stays")
def _(error):
    # Bootstraps differ from it by chance, and wrong errors by large factors once the rewards are far from zero.
    weight, reward = _draw(n=400, spread=0.5)
    weight[::2] = 0
    reward = torch.where(weight > 0, reward, -20.0)
    one, other = (error(weight, reward + c) / delta_method(weight, reward + c) for c in (0.0, 30.0))
    return bool(torch.isclose(one, other) & (one > 0.5) & (one < 4))


piece(
    "surrogate_variance.frozen_denominator",
    title="A denominator that was frozen",
    section="8",
    wrong=Wrong(
        "frozen_denominator",
        "The estimate is right: the mean of wr / mean(w) is the ratio Σ wr / Σ w. Its error is not, for a resample "
        "should have a denominator of its own. With the old one kept, what varies is the numerator alone, and the "
        "variance is that of wr in place of w(r − V). Where all rewards are nearly 1 the ratio is nearly certain, and "
        "the frozen interval as wide as ever.",
        frozen_denominator,
        "st-tech/zr-obp",
    ),
    published=(
        "`st-tech/zr-obp`, the Open Bandit Pipeline, `obp/ope/estimators.py`, commit `8cbd5fa` of 2022-11-04: the "
        "self-normalised estimator hands on wr / mean(w) for every round, and its confidence intervals are a bootstrap "
        "of these fixed numbers. An issue of 2022-11-28 reports that this estimator had an unusually "
        "higher variance than the plain one, and suspects the denominator. The explanation given here is ours:"
    ),
    thread="https://github.com/st-tech/zr-obp/issues/187",
    corrected="Not corrected at that commit, the newest that we saw; the issue is open.",
    symptom=(
        "On the left all rewards are raised by the same number, from 0 to 5. How much the estimate really varies from "
        "batch to batch does not change, and a bootstrap of pairs says so. The frozen error grows and grows. On the "
        "right are the intervals of sixteen batches with rewards round 1: both hold the truth, and the frozen one is "
        "many times too wide: nobody complains of a missed truth, one merely believes one knows little."
    ),
    right=bootstrap_of_pairs,
    exercise="surrogate_variance.catch_frozen_denominator",
    note=(
        "The frozen error is that of the plain estimate divided by mean(w). The mean of heavy-tailed weights lies "
        "below 1 in most batches, and then it even exceeds the plain one: that may be what the issue saw."
    ),
)
