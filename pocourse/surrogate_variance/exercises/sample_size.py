"""How many samples are left of a batch, for section 1."""

import torch
from torch import Tensor

from pocourse.lesson import trial
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
    words,
)

effective_sample_size = exercise(
    "surrogate_variance.effective_sample_size",
    title="What a batch is still worth",
    section="1",
    difficulty=3,
    minutes=7,
    task="""
Where a few ratios are large and the rest are small, a batch of n samples is worth fewer than n. Kish's rule (3.4)
says what fraction is left:

**( Σᵢ rᵢ )² / ( n Σᵢ rᵢ² )**

It is 1 where all ratios are equal, and 1 / n where one sample carries everything.

Write it for a batch of log-probabilities. `effective_sample_size(logp, logp_old)` receives

- `logp`, a tensor whose last axis holds the n samples of a batch: log π′(a|s) of what was played. Each index of
  the axes before it, if there are any, is a batch of its own;
- `logp_old`, a tensor of the same shape and dtype: log π(a|s) of the same actions

and returns one fraction per batch, a tensor without the last axis.

This number is read when things go wrong, so it must not be the first to break. A log-ratio can be 800 or −800
where log-probabilities of many dimensions are summed, and exp(800) is infinite in the computer, while the
fraction is an ordinary number. It does not know the scale of the ratios either: adding a constant to `logp`
leaves it as it is.
""",
    stub='''
def effective_sample_size(logp, logp_old):
    """The fraction of each batch that is left, between 1 / n and 1."""
    ...
''',
    hints=(
        "All ratios of a batch may be multiplied by one number, and the fraction does not notice. Which number would "
        "you choose, so that no ratio overflows, and not all of them vanish?",
        "Divide all ratios by the largest one: subtract the largest log-ratio *of that batch* before you take `exp`, "
        "with `amax(-1, keepdim=True)`. Or stay with logarithms: `log_ratio.logsumexp(-1)` is the logarithm of Σ r "
        "and does this for you; what is then the logarithm of Σ r²?",
        "The logarithm of Σ r² is `(2 * log_ratio).logsumexp(-1)`, and that of (Σ r)² is `2 * "
        "log_ratio.logsumexp(-1)`. Subtract the former from the latter, take `exp`, and divide by "
        "`log_ratio.shape[-1]`.",
    ),
    solution="""
def effective_sample_size(logp, logp_old):
    log_ratio = logp - logp_old
    total, squares = log_ratio.logsumexp(-1), (2 * log_ratio).logsumexp(-1)
    return (2 * total - squares).exp() / log_ratio.shape[-1]
""",
    after="""
Your fraction is 1 / (1 + v), where v is the variance of the ratios, measured in units of their own squared mean: in
the limit of many samples that is the chi-square divergence (3.2). It tells bad news honestly only while the batch
has heard of it: an action that the new policy wants and the old one never drew has no ratio in the batch, and the
fraction can stand at 1 while the estimate is worthless. A low value is a warning; a high one is no promise.
""",
    parameters=("logp", "logp_old"),
    returns=one_per_row("sample"),
    probes=lambda: [
        _ratios(1.0, 2.0, 3.0, 4.0),
        _batches(),
        (_batches()[0].reshape(2, 2, 3), _batches()[1].reshape(2, 2, 3)),
        (row(800.0, 801.0), row(0.0, 0.0)),
        (row(800.0, -800.0, -800.0, -800.0), row(0.0, 0.0, 0.0, 0.0)),
        (row(-1000.0, -1001.0), row(-1000.0, -1000.5)),
        (row(-1.0, -900.0), row(-1.5, -900.0)),
        (table((800.0, 801.0), (-800.0, -801.0)), table((0.0, 0.0), (0.0, 0.0))),
    ],
)


def _ratios(*ratio: float) -> tuple[Tensor, Tensor]:
    """Log-probabilities with these ratios."""
    logp_old = row(0.05).log().expand(len(ratio)) - 0.1 * torch.arange(len(ratio))
    return logp_old + row(*ratio).log(), logp_old.clone()


def _batches() -> tuple[Tensor, Tensor]:
    """Four batches of three samples."""
    ratio = torch.stack((row(1.0, 1.0, 4.0), row(0.5, 0.7, 0.9), row(3.0, 0.1, 0.2), row(2.0, 2.0, 1.0)))
    logp_old = torch.stack((row(-3.0, -4.0, -2.0), row(-1.0, -2.0, -3.0), row(-5.0, -2.5, -2.0), row(-1.5, -3.0, -2.0)))
    return logp_old + ratio.log(), logp_old


def _by_hand(answer, ratio: tuple[float, ...], wanted: float, why: str) -> str | None:
    where = f"for the ratios {words(ratio)}"
    for dtype in (torch.float64, torch.float32):
        mine = answer(*(x.to(dtype) for x in _ratios(*ratio)))
        single = "" if dtype == torch.float64 else ", in single precision (torch.float32),"
        if problem := told(mine, wanted, where + single, why, "fraction"):
            return problem
    return None


@effective_sample_size.requires("one fraction per batch, whatever axes come first")
def _(answer):
    logp, logp_old = _batches()
    at = [f"the ratios {words((new - old).exp())}" for new, old in zip(logp, logp_old, strict=True)]
    return each_by_itself(answer, logp, logp_old, at=at, one="the batch", what="fraction")


@effective_sample_size.requires("one where all ratios are equal")
def _(answer):
    for ratio in ((1.0, 1.0, 1.0, 1.0, 1.0), (0.5, 0.5, 0.5)):
        n = len(ratio)
        why = f"No sample counts more than another, so all {n} of {n} are left: ({n} r)² / ({n} × {n} r²)."
        if problem := _by_hand(answer, ratio, 1.0, why):
            return problem
    return None


@effective_sample_size.requires("three samples, by hand")
def _(answer):
    why = "Σ r = 6 and Σ r² = 1 + 1 + 16 = 18, so it is 36 / (3 × 18). r is π′ / π, new over old."
    return _by_hand(answer, (1.0, 1.0, 4.0), 2 / 3, why)


@effective_sample_size.requires("four samples, by hand")
def _(answer):
    why = "Σ r = 10 and Σ r² = 1 + 4 + 9 + 16 = 30, so it is 100 / (4 × 30)."
    return _by_hand(answer, (1.0, 2.0, 3.0, 4.0), 5 / 6, why)


@effective_sample_size.requires("1 / n where one sample carries everything, and k / n where k do")
def _(answer):
    for k, n in ((1, 2), (1, 5), (2, 5), (3, 4)):
        ratio = (1.0,) * k + (1e-9,) * (n - k)
        some, rest = "has" if k == 1 else "have", "other has" if n - k == 1 else "others have"
        beside = f"{k} of {n} samples {some} r = 1, the {rest} r = 0.000000001"
        problem = told(
            answer(*_ratios(*ratio)),
            k / n,
            f"{beside}:",
            f"As good as {k} of {n} samples are left, and the fraction lies between 1 / n = {1 / n:g} and 1.",
            "fraction",
        )
        if problem:
            return problem
    return None


@effective_sample_size.requires("the whole batch twice, the same fraction")
def _(answer):
    once, twice = answer(*_ratios(1.0, 4.0)), answer(*(x.repeat(2) for x in _ratios(1.0, 4.0)))
    if off(twice, once) is None:
        return None
    got, must = pair(twice, once)
    return (
        f"for the ratios (1, 4) your fraction is {must}, and for (1, 4, 1, 4) it is {got}. Twice the samples, twice "
        "what they are worth: the *fraction* stays. Is n, the number of samples, where it belongs, and n itself?"
    )


@effective_sample_size.requires("a constant added to logp changes nothing")
def _(answer):
    logp, logp_old = _ratios(1.0, 2.0, 3.0, 4.0)
    once = answer(logp.clone(), logp_old.clone())
    for shift in (2.0, -3.0):
        moved = answer(logp + shift, logp_old.clone())
        if off(moved, once) is not None:
            got, must = pair(moved, once)
            return (
                f"for the ratios (1, 2, 3, 4) your fraction is {must}, and with {signed(shift)} added to all of `logp` "
                f"it is {got}. All ratios are multiplied by exp({signed(shift)}) there, numerator and denominator by "
                "its square: it cancels. The mean of the ratios in *this* batch is not 1."
            )
    return None


@effective_sample_size.requires("log-ratios of 800 and −800")
def _(answer):
    three = float(row(3.0).log())
    cases = (
        ((-800.0, 0.0, 800.0, 800.0), 0.5, "two of four samples carry everything"),
        ((800.0, 800.0 + three), 0.8, "the ratios stand as 1 to 3: 16 / (2 × 10)"),
        ((-800.0, three - 800.0), 0.8, "the ratios stand as 1 to 3: 16 / (2 × 10)"),
        ((800.0, -800.0, -800.0, -800.0), 0.25, "one of four samples carries everything"),
    )
    for log_ratio, wanted, seen in cases:
        zero = torch.zeros(len(log_ratio), dtype=torch.float64)
        for logp_old, more in ((zero - 0.5, ""), (zero - 1700.0, " (with `logp_old` = −1700)")):
            mine = answer(logp_old + row(*log_ratio), logp_old.clone())
            problem = told(
                mine,
                wanted,
                f"for the log-ratios {words(log_ratio)}{more}",
                f"On the scale of the largest ratio {seen}. exp(800) is ∞ in the computer, exp(−800) is 0, and ∞ / ∞ "
                "and 0 / 0 are nan: bring the log-ratios to a common scale before you take `exp`.",
                "fraction",
            )
            if problem:
                return problem
    return None


@effective_sample_size.requires("log-probabilities far below zero, with ordinary ratios")
def _(answer):
    logp_old = row(-1.0, -900.0, -1700.0)
    mine = answer(logp_old + row(1.0, 1.0, 4.0).log(), logp_old)
    return told(
        mine,
        2 / 3,
        "for log π of −1, −900 and −1700 and the ratios (1, 1, 4)",
        "Two of these probabilities are 0 in the computer, old and new, and 0 / 0 is nan. Their ratios are ordinary: "
        "subtract the log-probabilities of each sample from one another before anything else.",
        "fraction",
    )


@effective_sample_size.requires("far apart batches side by side")
def _(answer):
    three = float(row(3.0).log())
    log_ratio = torch.stack((row(800.0, 800.0 + three), row(-800.0, three - 800.0)))
    mine = answer(log_ratio - 900.0, torch.full_like(log_ratio, -900.0))
    for value, at in zip(mine, ("800 and 800 + log 3", "−800 and −800 + log 3"), strict=True):
        problem = told(
            value,
            0.8,
            f"of two batches side by side, the one with the log-ratios {at}:",
            "The ratios stand as 1 to 3 in either. Each batch has a scale of its own: on that of the other one, its "
            "ratios are all 0 or all ∞, and 0 / 0 is nan.",
            "fraction",
        )
        if problem:
            return problem
    return None


@effective_sample_size.requires("never below 1 / n, never above 1")
def _(answer):
    generator = torch.Generator().manual_seed(0)
    for spread in (0.1, 1.0, 5.0):
        logp_old = torch.randn(20, 4, generator=generator, dtype=torch.float64) - 5
        log_ratio = spread * torch.randn(20, 4, generator=generator, dtype=torch.float64)
        mine = answer(logp_old + log_ratio, logp_old).detach()
        outside = ~((mine >= 0.25 - 1e-6) & (mine <= 1 + 1e-6))
        if outside.any():
            index = int(outside.long().argmax())
            return (
                f"for the ratios {words(log_ratio[index].exp())} your fraction is {trial.show(mine[index])}, and a "
                "fraction of four samples lies between 0.25 and 1."
            )
    return None


# ---------------------------------------------------------------- wrong answers


@effective_sample_size.mutant(
    "exp_first",
    "The formula is right and the order is not: once `exp` has made ∞ or 0 of the log-ratios, nothing brings them "
    "back. Subtract the largest log-ratio of the batch first.",
)
def _(logp, logp_old):
    ratio = (logp - logp_old).exp()
    return ratio.sum(-1) ** 2 / (ratio.shape[-1] * (ratio**2).sum(-1))


@effective_sample_size.mutant(
    "ratio_of_probabilities",
    "Both probabilities can be 0 in the computer, and 0 / 0 is not a number. Subtract the logarithms first.",
)
def _(logp, logp_old):
    ratio = logp.exp() / logp_old.exp()
    return ratio.sum(-1) ** 2 / (ratio.shape[-1] * (ratio**2).sum(-1))


@effective_sample_size.mutant(
    "each_policy_on_its_own_scale",
    "Numerator and denominator of the ratio were rescaled apart from one another. A sample that is rare for both "
    "policies is 0 / 0 then: form the log-ratio first, and rescale that.",
)
def _(logp, logp_old):
    new, old = ((x - x.amax(-1, keepdim=True)).exp() for x in (logp, logp_old))
    ratio = new / old
    return ratio.sum(-1) ** 2 / (ratio.shape[-1] * (ratio**2).sum(-1))


@effective_sample_size.mutant(
    "number_for_fraction",
    "This is the effective *number* of samples, between 1 and n. Divided by n it is the fraction.",
)
def _(logp, logp_old):
    log_ratio = logp - logp_old
    return (2 * log_ratio.logsumexp(-1) - (2 * log_ratio).logsumexp(-1)).exp()


@effective_sample_size.mutant(
    "upside_down",
    "Numerator and denominator are exchanged: this is 1 + v, by how much more samples are needed.",
)
def _(logp, logp_old):
    log_ratio = logp - logp_old
    return ((2 * log_ratio).logsumexp(-1) - 2 * log_ratio.logsumexp(-1)).exp() * log_ratio.shape[-1]


@effective_sample_size.mutant(
    "sum_not_squared",
    "The sum of the ratios is squared as well. Without that, the scale of the ratios does not cancel.",
)
def _(logp, logp_old):
    log_ratio = logp - logp_old
    return (log_ratio.logsumexp(-1) - (2 * log_ratio).logsumexp(-1)).exp() / log_ratio.shape[-1]


@effective_sample_size.mutant(
    "mean_taken_for_one",
    "The mean of the ratios is 1 only over all that could be drawn. In a batch it is a number like any other, and "
    "has to be divided out.",
)
def _(logp, logp_old):
    log_ratio = logp - logp_old
    return log_ratio.shape[-1] * (-(2 * log_ratio).logsumexp(-1)).exp()


@effective_sample_size.mutant(
    "variance_not_in_units_of_the_mean",
    "1 / (1 + v) is right where v is the variance divided by the squared mean of the same ratios. Here the mean is "
    "taken for 1.",
)
def _(logp, logp_old):
    return 1 / (1 + (logp - logp_old).exp().var(-1, correction=0))


@effective_sample_size.mutant(
    "n_minus_one",
    "`var` divides by n − 1 unless told otherwise. Then 1 / (1 + v) is no longer Kish's fraction, and can fall below "
    "1 / n.",
)
def _(logp, logp_old):
    log_ratio = logp - logp_old
    ratio = (log_ratio - log_ratio.amax(-1, keepdim=True)).exp()
    return 1 / (1 + ratio.var(-1) / ratio.mean(-1) ** 2)


@effective_sample_size.mutant(
    "old_and_new_swapped",
    "The ratio is upside down: r is new over old, π′ / π.",
)
def _(logp, logp_old):
    log_ratio = logp_old - logp
    return (2 * log_ratio.logsumexp(-1) - (2 * log_ratio).logsumexp(-1)).exp() / log_ratio.shape[-1]


@effective_sample_size.mutant(
    "all_batches_together",
    "One fraction per batch was asked for. Sums without an axis make one batch of all.",
)
def _(logp, logp_old):
    log_ratio = (logp - logp_old).reshape(-1)
    return (2 * log_ratio.logsumexp(-1) - (2 * log_ratio).logsumexp(-1)).exp() / log_ratio.shape[-1]


@effective_sample_size.mutant(
    "mean_over_the_batches",
    "The mean over the batches hides the one that has broken: a fraction for each was asked for.",
)
def _(logp, logp_old):
    log_ratio = logp - logp_old
    return (2 * log_ratio.logsumexp(-1) - (2 * log_ratio).logsumexp(-1)).exp().mean() / log_ratio.shape[-1]


@effective_sample_size.mutant(
    "numel_for_n",
    "n is the number of samples in one batch, the size of the last axis. `numel()` counts those of all batches.",
)
def _(logp, logp_old):
    log_ratio = logp - logp_old
    return (2 * log_ratio.logsumexp(-1) - (2 * log_ratio).logsumexp(-1)).exp() / log_ratio.numel()


@effective_sample_size.mutant(
    "first_axis_for_n",
    "n is the size of the *last* axis, `shape[-1]`. The first one counts the samples only where there is no other.",
)
def _(logp, logp_old):
    log_ratio = logp - logp_old
    return (2 * log_ratio.logsumexp(-1) - (2 * log_ratio).logsumexp(-1)).exp() / len(log_ratio)


@effective_sample_size.mutant(
    "one_maximum_for_all",
    "The largest log-ratio of *all* batches was subtracted. A batch far below it has only zeros left: 0 / 0.",
)
def _(logp, logp_old):
    log_ratio = logp - logp_old
    ratio = (log_ratio - log_ratio.max()).exp()
    return ratio.sum(-1) ** 2 / (ratio.shape[-1] * (ratio**2).sum(-1))


@effective_sample_size.mutant(
    "mean_subtracted",
    "Subtracting the mean log-ratio centres the ratios and does not hold down the largest one: in a batch of 800 and "
    "several −800 it still overflows.",
)
def _(logp, logp_old):
    log_ratio = logp - logp_old
    ratio = (log_ratio - log_ratio.mean(-1, keepdim=True)).exp()
    return ratio.sum(-1) ** 2 / (ratio.shape[-1] * (ratio**2).sum(-1))


@effective_sample_size.mutant(
    "log_ratio_clipped",
    "Clipping the log-ratios keeps everything finite and makes it wrong: beyond the limit all samples look alike, and "
    "a ruined batch is reported as a good one.",
)
def _(logp, logp_old):
    ratio = (logp - logp_old).clamp(-20, 20).exp()
    return ratio.sum(-1) ** 2 / (ratio.shape[-1] * (ratio**2).sum(-1))


@effective_sample_size.mutant(
    "logarithm_returned",
    "This is the logarithm of the fraction; the last `exp` is missing.",
)
def _(logp, logp_old):
    log_ratio = logp - logp_old
    return 2 * log_ratio.logsumexp(-1) - (2 * log_ratio).logsumexp(-1) - row(log_ratio.shape[-1]).log()[0].to(logp)


@effective_sample_size.mutant(
    "perplexity",
    "exp of the entropy of the normalised ratios is another measure of how many samples count. It agrees where k of n "
    "carry equal weight, and is larger in between. Kish's rule is asked for.",
)
def _(logp, logp_old):
    log_weight = (logp - logp_old).log_softmax(-1)
    return (-(log_weight.exp() * log_weight).sum(-1)).exp() / logp.shape[-1]


@effective_sample_size.mutant(
    "largest_weight",
    "One over the largest normalised ratio counts samples as well, and looks at a single one of them. Kish's rule "
    "sums the squares of all.",
)
def _(logp, logp_old):
    return 1 / (logp - logp_old).softmax(-1).amax(-1) / logp.shape[-1]


# ---------------------------------------------------------------- right answers


@effective_sample_size.accepts("the largest ratio divided out")
def _(logp, logp_old):
    log_ratio = logp - logp_old
    ratio = (log_ratio - log_ratio.amax(-1, keepdim=True)).exp()
    return ratio.sum(-1) ** 2 / (ratio.shape[-1] * (ratio**2).sum(-1))


@effective_sample_size.accepts("softmax makes weights that sum to one")
def _(logp, logp_old):
    weight = (logp - logp_old).softmax(-1)
    return 1 / (weight.square().mean(-1) * weight.shape[-1] ** 2)


@effective_sample_size.accepts("one over one plus the relative variance")
def _(logp, logp_old):
    weight = torch.softmax(logp - logp_old, dim=-1) * logp.shape[-1]
    return 1 / (1 + weight.var(-1, correction=0))


@effective_sample_size.accepts("the cosine with a batch of ones, squared")
def _(logp, logp_old):
    log_ratio = logp - logp_old
    ratio = (log_ratio - log_ratio.max(dim=-1, keepdim=True).values).exp()
    return torch.nn.functional.cosine_similarity(ratio, torch.ones_like(ratio), dim=-1) ** 2
