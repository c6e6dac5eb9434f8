"""A dropout of samples that is symmetric in the logarithm of the ratio, and called unbiased."""

import torch

from pocourse.lesson.exercises import exercise
from pocourse.lesson.museum import Suspect, catches, clears, piece, yes_or_no
from pocourse.lesson.wrong import Wrong
from pocourse.surrogate_variance.estimators import controlled_mean, kept_mean, ratio_dropout_mask, sign_dropout_mask

# ---------------------------------------------------------------- the wrong code, ours


def unbias_that_biases(ratio, advantage, delta=0.25):
    keep = (ratio > 1 / (1 + delta)) & (ratio < 1 + delta)
    return kept_mean(ratio * advantage, keep)


# ---------------------------------------------------------------- the task


def plain_mean(ratio, advantage):
    return (ratio * advantage).mean(-1)


def sum_over_n(ratio, advantage):
    return (ratio @ advantage) / len(ratio)


def self_normalised(ratio, advantage):
    return (ratio * advantage).sum() / ratio.sum()


def fitted(ratio, advantage):
    return controlled_mean(ratio, advantage)


def without_the_old_mean(ratio, advantage):
    return ((ratio - 1) * advantage).mean()


def put_back(ratio, advantage):
    """The truncated ratio, and in a second term what was cut off."""
    cut = ratio.clamp(max=1.2)
    return (cut * advantage).mean() + ((ratio - cut) * advantage).mean()


def controlled(c):
    """The ratio as a control variate, with a coefficient that is known beforehand."""

    def estimate(ratio, advantage):
        return (ratio * advantage - c * (ratio - 1)).mean()

    return estimate


def ratio_dropout(ratio, advantage):
    return kept_mean(ratio * advantage, ratio_dropout_mask(ratio))


def sign_dropout(ratio, advantage):
    return kept_mean(ratio * advantage, sign_dropout_mask(ratio, advantage, drop_fraction=0.2))


def clipped(ratio, advantage):
    return torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean()


def divided_by_all(ratio, advantage):
    return (ratio * advantage * ratio_dropout_mask(ratio)).mean()


def normalised_dropout(ratio, advantage):
    """Log-symmetric dropout whose ratios are scaled until the kept ones average to one."""
    keep = (ratio > 0.8) & (ratio < 1.25)
    return kept_mean(ratio * advantage, keep) / kept_mean(ratio, keep)


def square_root(ratio, advantage):
    return (ratio.sqrt() * advantage).mean()


def with_delta(delta):
    """The published mistake with another limit."""

    def estimate(ratio, advantage):
        return unbias_that_biases(ratio, advantage, delta)

    return estimate


def truncated(top):
    """Every ratio above ``top`` is set to it."""

    def estimate(ratio, advantage):
        return (ratio.clamp(max=top) * advantage).mean()

    return estimate


def kept_above(low):
    """Samples with a ratio of ``low`` or less are dropped."""

    def estimate(ratio, advantage):
        return kept_mean(ratio * advantage, ratio > low)

    return estimate


unbiased = exercise(
    "surrogate_variance.catch_unbias_that_biases",
    title="Catch an estimate that is biased, whatever its name",
    section="Bug museum",
    difficulty=3,
    minutes=10,
    task="""
An estimate of the surrogate sees a batch: ratios and advantages of n actions that the old policy has drawn. Having
few of them costs variance. A bias is what is left when there are as many as one likes.

Write `unbiased(estimate)`. `estimate(ratio, advantage)` takes two tensors of shape [n] and returns one number for the
batch. Return `True` if it tends to E[rA] as n grows; otherwise `False`. No sampling is needed. Take a batch that
holds every action **exactly as often as the old policy plays it**: it stands for infinitely many samples. In such a
batch the ratios average to exactly 1 and the advantages to exactly 0, and the mean of rA is the truth.

The order of the samples plays no part. Some codes on trial act on ratios a little off 1, some only below 0.25 or above
3. And a dropout that would keep nothing keeps everything: let some ratios be near 1 as well.
""",
    stub="""
def unbiased(estimate):
    ...
""",
    hints=(
        "Think of an old policy that plays n actions with equal probabilities. Which batch holds each of them as often "
        "as the policy plays it? And what are `ratio.mean()` and `advantage.mean()` in it?",
        "Draw any positive numbers and divide them by their mean: they are the ratios of some new policy. Draw any "
        "numbers and subtract their mean: they are advantages. Let the ratios spread widely, with `randn(n).exp()`.",
        "`wanted = (ratio * advantage).mean()` on such a batch; compare with `torch.isclose`. One batch can agree by "
        "accident, so take twenty. float64 keeps the rounding small.",
    ),
    solution="""
def unbiased(estimate):
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        ratio = torch.randn(50, generator=generator, dtype=torch.float64).exp()
        advantage = torch.randn(50, generator=generator, dtype=torch.float64)
        ratio, advantage = ratio / ratio.mean(), advantage - advantage.mean()
        if not torch.isclose(estimate(ratio, advantage), (ratio * advantage).mean()):
            return False
    return True
""",
    after="""
**Whatever decides by r or A which samples count moves the mean**, unless it puts back what it took. Where the interval
lies makes no difference to that: symmetric round 1, or symmetric in the logarithm.

Cleared were two estimates that have a bias in a small batch: the self-normalised one, and the control variate whose
coefficient is fitted to the same samples. It is of order 1/n, and in the limit both are right. On a batch of your
kind they are exact, because its ratios average to 1; on a batch drawn at random they differ from the mean of rA, and
that is what they are for.
""",
    parameters=("estimate",),
    returns=yes_or_no,
    probes=lambda: [
        (code,)
        for code in (
            plain_mean,
            put_back,
            self_normalised,
            fitted,
            without_the_old_mean,
            controlled(2.0),
            unbias_that_biases,
            ratio_dropout,
            sign_dropout,
            clipped,
            divided_by_all,
            normalised_dropout,
            square_root,
            with_delta(0.5),
            with_delta(2.0),
            truncated(3.0),
            kept_above(0.25),
            # These do nothing sensible: they tell tests apart that are wrong in different ways.
            lambda ratio, advantage: ratio.mean(),
            lambda ratio, advantage: (ratio * advantage).mean() + advantage.mean() + 0.1,
            lambda ratio, advantage: torch.ones((), dtype=ratio.dtype),
            lambda ratio, advantage: (ratio * advantage).mean() * (1 + (ratio - 1).clamp(-0.01, 0.01).mean()),
        )
    ],
)


@unbiased.requires("clears the mean, however it is written")
def _(answer):
    right = "which is right"
    return clears(
        answer,
        [
            Suspect("the mean of rA", plain_mean, right),
            Suspect("`ratio @ advantage / n`", sum_over_n, right),
            Suspect(
                "`min(r, 1.2) A` with a second term for what was cut off",
                put_back,
                "which is right: it puts back what it took",
            ),
        ],
    )


@unbiased.requires("clears control variates")
def _(answer):
    why = "which is right: E[r] = 1 is known, so that nothing is added on average"
    return clears(
        answer,
        [
            Suspect("rA − c(r − 1) with c = 2", controlled(2.0), why),
            Suspect("rA − c(r − 1) with c = −0.5", controlled(-0.5), why),
            Suspect(
                "the mean of (r − 1)A",
                without_the_old_mean,
                "which is right: advantages average to 0 under the old policy, and so does what is taken off",
            ),
        ],
    )


@unbiased.requires("clears estimates that are right in the limit")
def _(answer):
    why = "whose bias is of order 1/n: with as many samples as one likes it is right"
    return clears(
        answer,
        [
            Suspect("the self-normalised estimate", self_normalised, why),
            Suspect("the control variate with a fitted coefficient", fitted, why),
        ],
    )


@unbiased.requires("catches the published dropout")
def _(answer):
    return catches(
        answer,
        [
            Suspect(
                "the published mistake",
                unbias_that_biases,
                "which keeps 1/(1+δ) < r < 1+δ: the mean over what it keeps is another one",
            )
        ],
    )


@unbiased.requires("catches it with another δ")
def _(answer):
    return catches(
        answer,
        [
            Suspect("the published mistake with δ = 0.5", with_delta(0.5), "which keeps 2/3 < r < 3/2"),
            Suspect(
                "the published mistake with δ = 2",
                with_delta(2.0),
                "which drops what lies below 1/3 or above 3: your ratios have to reach that far",
            ),
        ],
    )


@unbiased.requires("catches other dropouts, and clips")
def _(answer):
    return catches(
        answer,
        [
            Suspect("Sample Dropout, |r − 1| < 0.25", ratio_dropout, "whose mean is that of the samples it keeps"),
            Suspect(
                "a dropout within each sign of A", sign_dropout, "which drops the smallest rA and so raises the mean"
            ),
            Suspect("a dropout divided by n", divided_by_all, "in which the dropped samples count as zeros"),
            Suspect("PPO's clipped objective", clipped, "which is smaller than rA wherever it differs, by design"),
            Suspect("the mean of √r A", square_root, "whose weights are too small for r > 1 and too large below"),
        ],
    )


@unbiased.requires("catches what acts on one side, or far out")
def _(answer):
    return catches(
        answer,
        [
            Suspect("ratios truncated at 3", truncated(3.0), "which changes nothing until a ratio exceeds 3"),
            Suspect("a dropout of r ≤ 0.25", kept_above(0.25), "which changes nothing until a ratio is that small"),
        ],
    )


@unbiased.requires("catches a dropout whose ratios average to one")
def _(answer):
    return catches(
        answer,
        [
            Suspect(
                "the log-symmetric dropout, divided by the mean of the kept ratios",
                normalised_dropout,
                "whose kept ratios do average to 1, and whose estimate is of another mean all the same",
            )
        ],
    )


def _batches(count=20, n=50, spread=1.0, exact=True, seed=1):
    """Ratios and advantages; with ``exact`` they average to one and to zero."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        ratio = (spread * torch.randn(n, generator=generator, dtype=torch.float64) - spread**2 / 2).exp()
        advantage = torch.randn(n, generator=generator, dtype=torch.float64)
        yield (ratio / ratio.mean(), advantage - advantage.mean()) if exact else (ratio, advantage)


def _agrees(estimate, batches, rtol=1e-5):
    return all(torch.isclose(estimate(r, a), (r * a).mean(), rtol=rtol, atol=1e-8).item() for r, a in batches)


@unbiased.mutant("always_true", "It says True to everything on trial: what the mistake changes, it does not look at.")
def _(estimate):
    return True


@unbiased.mutant(
    "random_batch",
    "Its ratios do not average to 1, nor its advantages to 0: on such a batch good estimates differ from the mean "
    "of rA, and rightly so. Divide the ratios by their mean, subtract that of the advantages.",
)
def _(estimate):
    return _agrees(estimate, _batches(exact=False))


@unbiased.mutant(
    "advantages_not_centred",
    "Its advantages do not average to 0. Under the old policy they do, and the mean of (r − 1)A relies on it.",
)
def _(estimate):
    return _agrees(estimate, ((r, a + 1) for r, a in _batches()))


@unbiased.mutant("ratios_of_one", "Its ratios are all 1, where every weight is right and nothing is dropped.")
def _(estimate):
    return _agrees(estimate, ((torch.ones_like(r), a) for r, a in _batches()))


@unbiased.mutant("near_one", "Its ratios stay within a hundredth of 1, where nothing is dropped or clipped.")
def _(estimate):
    return _agrees(estimate, _batches(spread=0.003))


@unbiased.mutant("up_to_two", "Its ratios stay between 0.5 and 2. Some codes act further out.")
def _(estimate):
    generator = torch.Generator().manual_seed(0)
    ratio = 0.75 + 0.5 * torch.rand(20, 50, generator=generator, dtype=torch.float64)
    advantage = torch.randn(20, 50, generator=generator, dtype=torch.float64)
    ratio, advantage = ratio / ratio.mean(-1, keepdim=True), advantage - advantage.mean(-1, keepdim=True)
    return _agrees(estimate, zip(ratio, advantage, strict=True))


@unbiased.mutant(
    "weights_average_to_one",
    "It asks whether the weights average to 1, with an advantage of 1 for all. A weight can be right on average and "
    "too small where A is large; and (r − 1)A, which is right for centred advantages, fails it.",
)
def _(estimate):
    return all(torch.isclose(estimate(r, 0 * r + 1), 0 * r[0] + 1).item() for r, _ in _batches())


@unbiased.mutant(
    "roughly", "It lets a fifth of the value pass as accident. On an exact batch nothing is left to accident."
)
def _(estimate):
    return all(abs(float(estimate(r, a) - (r * a).mean())) < 0.2 for r, a in _batches())


@unbiased.mutant(
    "sampled",
    "It averages many small random batches. That asks for an estimate without bias at n = 8, which a self-normalised "
    "one is not; and the noise hides small biases.",
)
def _(estimate):
    off = torch.stack([estimate(r, a) - (r * a).mean() for r, a in _batches(400, 8, exact=False)])
    return abs(float(off.mean())) < 0.01


@unbiased.mutant(
    "every_sample_counts",
    "It asks whether every sample has a say. One that is truncated has a say, of the wrong size.",
)
def _(estimate):
    for r, a in _batches(2):
        for i in range(0, 50, 3):
            other = a.clone()
            other[i] += 0.5
            if (estimate(r, other) - estimate(r, a)).abs() < 1e-9:
                return False
    return True


@unbiased.mutant("to_the_last_digit", "It compares with `==`. Sums in another order differ in the last digit.")
def _(estimate):
    return all(bool(estimate(r, a) == (r * a).mean()) for r, a in _batches())


@unbiased.accepts("five actions by hand, at three distances")
def _(estimate):
    worlds = (
        ([0.05, 0.1, 0.3, 0.9, 3.65], [1.0, -2.0, 0.5, 2.0, -1.5]),
        ([0.1, 0.6, 0.9, 1.1, 2.3], [2.0, -1.0, 1.0, -3.0, 1.0]),
        ([0.2, 0.7, 0.95, 1.03, 2.12], [-1.0, 3.0, -2.0, 1.5, -1.5]),
    )
    for ratio, advantage in worlds:
        r, a = (torch.tensor(x, dtype=torch.float64) for x in (ratio, advantage))
        if abs(estimate(r, a) - (r * a).mean()) > 1e-9:
            return False
    return True


@unbiased.accepts("a policy with whole-numbered frequencies")
def _(estimate):
    # The old policy plays four actions 1, 2, 3 and 4 times in ten, the new one with other probabilities.
    count = torch.tensor([1, 2, 3, 4])
    old = count / count.sum()
    for seed in range(10):
        new = (1.5 * torch.randn(4, generator=torch.Generator().manual_seed(seed))).softmax(0)
        reward = torch.randn(4, generator=torch.Generator().manual_seed(100 + seed))
        advantage = reward - old @ reward
        wanted = new @ advantage
        found = estimate((new / old).repeat_interleave(count), advantage.repeat_interleave(count))
        if (found - wanted).abs() > 1e-4:
            return False
    return True


@unbiased.accepts("linear in the advantage, with weights r up to a constant")
def _(estimate):
    # Only differences of the weights can be seen with centred advantages: put +1 and −1 on two samples.
    generator = torch.Generator().manual_seed(2)
    ratio = (1.3 * torch.randn(12, generator=generator)).double().exp()
    ratio = ratio / ratio.mean()
    for i in range(11):
        advantage = torch.zeros(12).double()
        advantage[i], advantage[i + 1] = 1.0, -1.0
        if not torch.isclose(12 * estimate(ratio, advantage), ratio[i] - ratio[i + 1]):
            return False
    return True


piece(
    "surrogate_variance.unbias_that_biases",
    title="An option called unbias",
    section="5",
    wrong=Wrong(
        "unbias_that_biases",
        "The interval from 1/(1+δ) to 1+δ is symmetric in log r, where |r − 1| < δ is not. But symmetry makes no "
        "estimate unbiased: a mean over the kept samples is a mean under another distribution, the old policy's *given "
        "that the sample is kept*. E[rA | kept] is not E[rA], wherever the interval lies; in general not even "
        "E[r | kept] is 1.",
        unbias_that_biases,
        "the public code of Sample Dropout",
    ),
    published=(
        "The public code of Sample Dropout (`sdpo`), `baselines/ppo2/model.py`, last commit seen: `8dc0e44` of "
        "2023-02-05. An option named `unbias` keeps a sample if 1/(1+δ) < r < 1+δ, in place of |r − 1| < δ; a plot "
        "script lists runs with it. It is published as the name of an option and of experiments: we know of no such "
        "claim in the paper. We found no thread; the file:"
    ),
    thread="https://github.com/LinZichuan/sdpo/blob/8dc0e44/baselines/ppo2/model.py",
    corrected="Not corrected as of that commit, the last one of the repository that we found.",
    symptom=(
        "On the left, the limit of each estimate while a policy is tilted towards its advantages, which are standard "
        "normal here: the truth is a straight line. Both dropouts fall away from it, the one called unbias a little "
        "less. In the middle, the mean ratio of what is kept. For unbias it *is* 1 in this symmetric world: the "
        "name is half a truth, and the surrogate is biased all the same. On the right is the error of a batch of n "
        "samples at a tilt of 0.5. In small batches dropping wins, for it saves variance; then the error of the plain "
        "mean goes on falling, and that of the dropouts stops at their bias."
    ),
    right=plain_mean,
    exercise="surrogate_variance.catch_unbias_that_biases",
)
