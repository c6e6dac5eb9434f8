"""A look at the tilted policy through samples of the reference, for section 2."""

import torch
from torch import Tensor

from pocourse.diffusion_dpo.exercises._shared import (
    LOOSE,
    each_by_itself,
    off,
    pair,
    row,
    short,
    signed,
    suspected,
    table,
    told,
    two_each,
    unless_a_number,
    words,
)
from pocourse.lesson.exercises import exercise

tilt = exercise(
    "diffusion_dpo.tilt",
    title="Tilting what was drawn already",
    section="2",
    difficulty=3,
    minutes=8,
    task="""
The best policy on a leash of β is the reference, tilted: π(y) is proportional to π_ref(y) exp( r(y) / β ). Whoever has
samples of the reference and their rewards can look at it before anything is trained. Each sample gets a weight, and
what is divided out in place of the unknown Z is the sum of the weights:

**E[f] ≈ Σᵢ wᵢ f(yᵢ), with wᵢ = exp(rᵢ / β) / Σⱼ exp(rⱼ / β)**

A small β puts nearly everything on a few samples. How many still count is said by Kish's rule,

**n_eff = 1 / Σᵢ wᵢ²**

Write both. `tilted_mean(reward, statistic, beta)` receives

- `reward`, a tensor whose last axis holds the n samples that were drawn from the reference: r. Each index of the axes
  before it, if there are any, is a batch of its own;
- `statistic`, of the same shape and dtype: f, anything that was measured on the same samples, the reward itself for
  example;
- `beta`, a positive number: β

and returns two tensors without the last axis, the mean of f under the tilted policy and n_eff. r / β can be 5000 or
−5000, and exp(5000) is infinite in the computer. Both results are ordinary numbers.
""",
    stub='''
def tilted_mean(reward, statistic, beta):
    """reward, statistic [*batches, n] -> two tensors [*batches]: the tilted mean of the statistic, and n_eff."""
    ...
''',
    hints=(
        "The weights of a batch sum to 1. What do they do if 100 is added to all of its rewards? And which number "
        "would you add, so that no exp overflows, and not all of them vanish?",
        "Subtract the largest r / β of *that batch* before you take `exp`, with `amax(-1, keepdim=True)`; or find the "
        "function of torch that does all this, and that makes policies of logits.",
        "With `weight = (reward / beta).softmax(-1)` the weights are there, and they sum to 1. What is left are two "
        "sums over the last axis, one of products with the statistic and one of squares.",
    ),
    solution="""
def tilted_mean(reward, statistic, beta):
    weight = (reward / beta).softmax(-1)
    mean = (weight * statistic).sum(-1)
    return mean, 1 / weight.square().sum(-1)
""",
    after="""
This is the curve beside which every run of this chapter is drawn: how much reward is to be had at which β, for the
price of one softmax. It tells nothing about images that the reference never drew. As β falls, n_eff falls to 1, the
mean stops at the best sample that happens to lie there, and a policy that is trained can go on. Read the second number
before the first. On the way, the mean of the reward grows with 1 / β at the rate of its own variance (5.5).
""",
    parameters=("reward", "statistic"),
    options=("beta",),
    returns=two_each("batch", "sample", "mean", "n_eff"),
    probes=lambda: [
        (*_three(), {"beta": 2.0}),
        (*_batches(), {"beta": 1.0}),
        (*(x.reshape(2, 3, 5) for x in _batches()), {"beta": 0.5}),
        (*(x.reshape(3, 1, 2, 5) for x in _batches()), {"beta": 1.0}),
        (row(1000.0, 1000.5, 999.0), row(1.0, 2.0, 4.0), {"beta": 0.5}),
        (table((1000.0, 1000.5), (-1000.0, -1000.5)), table((1.0, 2.0), (3.0, 5.0)), {"beta": 0.5}),
        (row(1000.0, 1000.5, 999.0), row(1.0, 2.0, 4.0), {"beta": 1.0}),
        (row(1000.0, 0.0, 1000.0, 1000.0), row(1.0, 2.0, 4.0, 3.0), {"beta": 1.0}),
        (row(1000.0, -1000.0, -1000.0, -999.0), row(1.0, 2.0, 4.0, 3.0), {"beta": 0.5}),
    ],
)


def _three() -> tuple[Tensor, Tensor]:
    """At β = 2 the weights stand as 1 : 2 : 5."""
    return 2 * row(1.0, 2.0, 5.0).log(), row(16.0, -4.0, 0.0)


def _batches() -> tuple[Tensor, Tensor]:
    """Six batches of five samples, on levels of their own."""
    return short(6, 5, seed=31) + row(0.0, 3.0, -5.0, 1.0, 8.0, -2.0)[:, None], short(6, 5, seed=32)


def _given(reward: Tensor, statistic: Tensor, beta: float) -> str:
    return f"r = {words(reward)}, f = {words(statistic)} and β = {signed(beta)}"


def _run(answer, reward: Tensor, statistic: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    return answer(reward.clone(), statistic.clone(), beta=beta)


def _both(
    answer,
    given: tuple[Tensor, Tensor],
    beta: float,
    mean: float | None,
    size: float | None,
    why: str,
    where: str = "",
) -> str | None:
    """Whether both results of one batch are what they must be; None leaves one of them out."""
    where = where or f"for {_given(*given, beta)}"
    mine = _run(answer, *given, beta)
    for got, wanted, what in zip(mine, (mean, size), ("mean", "n_eff"), strict=True):
        problem = None if wanted is None else told(got, wanted, where, why, what)
        if problem:
            return problem
    return None


@tilt.requires("two numbers per batch, whatever axes come first")
def _(answer):
    for which, what in enumerate(("mean", "n_eff")):
        problem = each_by_itself(
            lambda *given, which=which: answer(*given, beta=1.5)[which],
            *_batches(),
            at=[f"r = {words(x)}" for x in _batches()[0]],
            one="batch",
            what=what,
            advice="Each has weights of its own, which sum to 1 along the last axis, that of the samples.",
        )
        if problem:
            return problem
    return None


@tilt.requires("the plain mean, and all n samples, where all rewards are equal")
def _(answer):
    for reward in (0.0, -3.0):
        given = row(*[reward] * 4), row(1.0, 5.0, -3.0, 6.0)
        why = "No sample is better than another: each has the weight ¼, the mean is 9 / 4, and all 4 of them count."
        if problem := _both(answer, given, 2.0, 2.25, 4.0, why):
            return problem
    return None


# What the mean of an answer says, where it should be 1.
SUSPECTS = {
    4.0: "Yours is the plain mean of f: are the rewards in it?",
    0.0: "Yours has exp(r) in place of exp(r / β).",
    -48 / 642: "Yours multiplies r by β in place of dividing.",
    14 / 1.7: "Yours prefers poor rewards: which sign has r?",
    8.0: "Yours is never divided by the sum 1 + 2 + 5.",
    1 / 3: "Yours is divided by n as well.",
}


@tilt.requires("three samples, by hand")
def _(answer):
    for dtype in (torch.float64, torch.float32):
        given = tuple(x.to(dtype) for x in _three())
        mean, _ = _run(answer, *given, 2.0)
        problem = _both(
            answer,
            given,
            2.0,
            1.0,
            64 / 30,
            "By hand: exp(r / β) = (1, 2, 5), so the weights are (1, 2, 5) / 8. The mean is (16 − 8 + 0) / 8, and "
            f"n_eff is 64 / (1 + 4 + 25).{suspected(mean, SUSPECTS)}",
            f"for r = (0, 2 log 2, 2 log 5), f = (16, −4, 0) and β = 2{_single(dtype)}",
        )
        if problem:
            return problem
    return None


def _single(dtype: torch.dtype) -> str:
    return "" if dtype == torch.float64 else ", in single precision (torch.float32),"


@tilt.requires("the mean of what is the same everywhere is that")
def _(answer):
    for value in (5.0, -0.5):
        reward = _batches()[0][0]
        given = reward, torch.full_like(reward, value)
        why = "Whatever the policy is, f has one value only: the weights sum to 1."
        if problem := _both(answer, given, 0.7, value, None, why):
            return problem
    return None


@tilt.requires("a level added to all rewards changes nothing")
def _(answer):
    reward, statistic = (x[1] for x in _batches())
    once = _run(answer, reward, statistic, 1.5)
    for level in (2.0, -30.0):
        moved = _run(answer, reward + level, statistic, 1.5)
        for mine, before, what in zip(moved, once, ("mean", "n_eff"), strict=True):
            if off(mine, before) is not None:
                got, must = pair(mine, before)
                return (
                    f"for {_given(reward, statistic, 1.5)} your {what} is {must}, and with {signed(level)} added to "
                    f"every reward it is {got}. exp(r / β) grows by one factor for all samples, and that cancels: a "
                    "reward is known up to a constant."
                )
    return None


@tilt.requires("rewards and β doubled together change nothing")
def _(answer):
    reward, statistic = (x[2] for x in _batches())
    for beta in (0.8, 3.0):
        once = _run(answer, reward, statistic, beta)
        twice = _run(answer, 2 * reward, statistic, 2 * beta)
        for mine, before, what in zip(twice, once, ("mean", "n_eff"), strict=True):
            if off(mine, before) is not None:
                got, must = pair(mine, before)
                return (
                    f"for {_given(reward, statistic, beta)} your {what} is {must}, and with all rewards and β doubled "
                    f"it is {got}. Only r / β counts: β is in units of the reward."
                )
    return None


@tilt.requires("a large β leaves the reference as it is")
def _(answer):
    reward, statistic = (x[3] for x in _batches())
    why = (
        f"At this β a reward is worth nothing beside the divergence: the policy stays at the reference, the mean is "
        f"the plain one, {signed(statistic.mean())}, and all 5 samples count."
    )
    return _both(answer, (reward, statistic), 1e9, float(statistic.mean()), 5.0, why)


@tilt.requires("a small β leaves the best sample, and ties share")
def _(answer):
    for reward, statistic, mean, size in (
        (row(1.0, 3.0, 2.0, 2.5), row(7.0, -2.0, 5.0, 1.0), -2.0, 1.0),
        (row(3.0, 1.0, 3.0, 2.0), row(4.0, 9.0, 1.0, 7.0), 2.5, 2.0),
    ):
        best = "one sample has" if size == 1 else "two samples have"
        why = f"The largest reward is 3, and {best} it. At this β nothing else counts."
        if problem := _both(answer, (reward, statistic), 0.01, mean, size, why):
            return problem
    return None


@tilt.requires("the reference is in the samples already")
def _(answer):
    kinds, reward, statistic = torch.tensor([5, 3, 2]), row(0.0, 2.0, 5.0), row(21.0, 7.0, -21.0)
    reward[1:] = reward[1:].log()
    given = reward.repeat_interleave(kinds), statistic.repeat_interleave(kinds)
    return _both(
        answer,
        given,
        1.0,
        -3.0,
        441 / 67,
        "An outcome that the reference likes better lies there more often, and that is all that is needed of π_ref. "
        "The three have 5 × 1, 3 × 2 and 2 × 5 out of 21, which is the Gibbs policy itself: (5 × 21 + 6 × 7 − 10 × 21) "
        "/ 21 = −3, and n_eff is 21² / (5 + 12 + 50).",
        "for ten samples of three outcomes, five with r = 0 and f = 21, three with r = log 2 and f = 7, two with r = "
        "log 5 and f = −21, and β = 1,",
    )


@tilt.requires("linear in the statistic, whose values never touch n_eff")
def _(answer):
    reward, statistic = (x[4] for x in _batches())
    once, size = _run(answer, reward, statistic, 1.5)
    mean, other = _run(answer, reward, 3 - 2 * statistic, 1.5)
    if off(mean, 3 - 2 * once) is not None:
        got, must = pair(mean, 3 - 2 * once)
        return (
            f"for {_given(reward, statistic, 1.5)} your mean is {signed(once.detach())}. With 3 − 2 f in place of f it "
            f"must be {must}, and yours is {got}. A mean of f is a sum of f with weights, and they look at r alone."
        )
    if off(other, size) is not None:
        got, must = pair(other, size)
        return (
            f"for {_given(reward, statistic, 1.5)} your n_eff is {must}, and with 3 − 2 f in place of f it is {got}. "
            "How many samples count is a matter of the weights, and so of the rewards."
        )
    return None


@tilt.requires("every sample twice: the same mean, twice the n_eff")
def _(answer):
    reward, statistic = (x[5] for x in _batches())
    once = _run(answer, reward, statistic, 1.5)
    twice = _run(answer, reward.repeat(2), statistic.repeat(2), 1.5)
    for mine, before, factor, what in zip(twice, once, (1, 2), ("mean", "n_eff"), strict=True):
        if off(mine, factor * before) is not None:
            got, must = pair(mine, factor * before)
            return (
                f"for {_given(reward, statistic, 1.5)} your {what} is {signed(before.detach())}, and with every sample "
                f"twice it must be {must}; yours is {got}. Twice the samples say the same about the policy, and count "
                "twice: n_eff is a number, between 1 and n, and not a fraction."
            )
    return None


@tilt.requires("the mean reward grows with 1 / β at the rate of its variance")
def _(answer):
    step = 1e-3
    for reward in (row(0.5, -1.0, 2.0, 1.5, 0.0), row(0.0, 1.0)):
        low, high = (_run(answer, reward, reward, 1 / (2 + sign * step))[0] for sign in (-1, 1))
        mean, square = (_run(answer, reward, reward**power, 0.5)[0] for power in (1, 2))
        slope, variance = (high - low) / (2 * step), square - mean**2
        if off(slope, variance, LOOSE) is not None:
            got, must = pair(slope, variance)
            return (
                f"for r = f = {words(reward)} your mean of r grows by {got} for each unit of 1 / β, around β = 0.5. "
                f"With your own means of r and r² the variance under the tilted policy is {must}, and that is what it "
                "must be (5.5)."
            )
    return None


@tilt.requires("r / β of 5000 and −5000")
def _(answer):
    three = float(row(3.0).log())
    to_three = "the weights stand as 1 to 3, and n_eff is 16 / 10"
    for reward, said, statistic, mean, size, seen in (
        (row(5000.0, 5000.0 + three), "(5000, 5000 + log 3)", row(4.0, 8.0), 7.0, 1.6, to_three),
        (row(-5000.0, three - 5000.0), "(−5000, −5000 + log 3)", row(4.0, 8.0), 7.0, 1.6, to_three),
        (row(5e3, -5e3, 5e3), "(5000, −5000, 5000)", row(4.0, 1.0, 8.0), 6.0, 2.0, "two of three share everything"),
        (
            row(5e3, *[-5e3] * 4),
            "(5000, and four times −5000)",
            row(4.0, *[1.0] * 4),
            4.0,
            1.0,
            "one carries everything",
        ),
    ):
        for beta in (1.0, 0.1):
            why = (
                f"On the scale of the largest one {seen}. exp(5000) is ∞ in the computer, exp(−5000) is 0, and ∞ / ∞ "
                "and 0 / 0 are nan: subtract the largest r / β of the batch before you take `exp`, or let `softmax` do "
                "it."
            )
            where = f"for r / β = {said}, f = {words(statistic)} and β = {signed(beta)}"
            problem = _both(answer, (reward * beta, statistic), beta, mean, size, why, where)
            if problem:
                return problem
    return None


@tilt.requires("far apart batches side by side")
def _(answer):
    three = float(row(3.0).log())
    reward, statistic = table((5000.0, 5000.0 + three), (-5000.0, three - 5000.0)), table((4.0, 8.0), (4.0, 8.0))
    for mine, wanted, what in zip(_run(answer, reward, statistic, 1.0), (7.0, 1.6), ("mean", "n_eff"), strict=True):
        problem = told(
            mine,
            wanted,
            [
                f"of two batches side by side at β = 1, the one with r = {said}:"
                for said in ("(5000, 5000 + log 3)", "(−5000, −5000 + log 3)")
            ],
            "The weights stand as 1 to 3 in either. Each batch has a largest reward of its own: on the scale of the "
            "other one, its weights are all 0 or all ∞.",
            what,
        )
        if problem:
            return problem
    return None


@tilt.requires("n_eff never below 1, never above n")
def _(answer):
    for beta in (0.05, 0.5, 5.0):
        reward, statistic = _batches()
        sizes = _run(answer, reward, statistic, beta)[1].detach()
        outside = ~((sizes >= 1 - 1e-6) & (sizes <= 5 + 1e-6))
        if outside.any():
            index = int(outside.long().argmax())
            got = signed(sizes[index])
            return (
                f"for r = {words(reward[index])} and β = {signed(beta)} your n_eff is {got}{unless_a_number(got)}. Of "
                "five samples at least 1 counts, and at most 5."
            )
    return None


# ---------------------------------------------------------------- wrong answers


def _both_of(weight, statistic):
    """The two results from weights that sum to 1, for answers that are wrong elsewhere."""
    return (weight * statistic).sum(-1), 1 / weight.square().sum(-1)


@tilt.mutant(
    "exp_first",
    "The formula is right and the order is not: once `exp` has made ∞ or 0 of r / β, nothing brings it back. Subtract "
    "the largest of the batch first.",
)
def _(reward, statistic, beta):
    weight = (reward / beta).exp()
    return _both_of(weight / weight.sum(-1, keepdim=True), statistic)


@tilt.mutant(
    "beta_inverted",
    "The rewards were multiplied by β. A short leash is a large β: r is divided by it.",
)
def _(reward, statistic, beta):
    return _both_of((reward * beta).softmax(-1), statistic)


@tilt.mutant(
    "weights_not_normalised",
    "The products with exp(r / β) were averaged and never divided by its own mean, which stands for Z: a level of the "
    "reward changes everything.",
)
def _(reward, statistic, beta):
    weight = (reward / beta).exp()
    return (weight * statistic).mean(-1), weight.sum(-1) ** 2 / weight.square().sum(-1)


@tilt.mutant(
    "largest_of_all_batches",
    "The largest r / β of *all* batches was subtracted. A batch far below it has only zeros left: 0 / 0.",
)
def _(reward, statistic, beta):
    weight = (reward / beta - (reward / beta).max()).exp()
    return _both_of(weight / weight.sum(-1, keepdim=True), statistic)


@tilt.mutant(
    "largest_of_the_rewards_subtracted_late",
    "The largest *reward* was subtracted from r / β. They are on different scales unless β is 1: divide first.",
)
def _(reward, statistic, beta):
    weight = (reward / beta - reward.amax(-1, keepdim=True)).exp()
    return _both_of(weight / weight.sum(-1, keepdim=True), statistic)


@tilt.mutant(
    "largest_subtracted_above_only",
    "The largest r / β was subtracted above the line and not below it: the weights no longer sum to 1.",
)
def _(reward, statistic, beta):
    scaled = reward / beta
    weight = (scaled - scaled.amax(-1, keepdim=True)).exp() / scaled.exp().sum(-1, keepdim=True)
    return _both_of(weight, statistic)


@tilt.mutant(
    "mean_subtracted",
    "Subtracting the mean does not hold down the largest: beside many poor samples it still overflows.",
)
def _(reward, statistic, beta):
    scaled = reward / beta
    weight = (scaled - scaled.mean(-1, keepdim=True)).exp()
    return _both_of(weight / weight.sum(-1, keepdim=True), statistic)


@tilt.mutant(
    "exponents_held_between_two_numbers",
    "Between −50 and 50 everything stays finite, and beyond all samples look alike: the best and the second best.",
)
def _(reward, statistic, beta):
    return _both_of((reward / beta).clamp(-50, 50).softmax(-1), statistic)


@tilt.mutant(
    "softmax_over_the_batches",
    "The weights sum to 1 over the batches, along the first axis. Each batch has its own: the last axis.",
)
def _(reward, statistic, beta):
    return _both_of((reward / beta).softmax(0), statistic)


@tilt.mutant(
    "softmax_over_everything",
    "One softmax over all batches: only all of their weights together sum to 1.",
)
def _(reward, statistic, beta):
    return _both_of((reward / beta).flatten().softmax(0).reshape(reward.shape), statistic)


@tilt.mutant(
    "sign_turned", "With exp(−r / β) the policy tilts towards poor rewards: r is a reward here, and no energy."
)
def _(reward, statistic, beta):
    return _both_of((-reward / beta).softmax(-1), statistic)


@tilt.mutant("beta_forgotten", "Without β this is right for β = 1 only.")
def _(reward, statistic, beta):
    return _both_of(reward.softmax(-1), statistic)


@tilt.mutant(
    "rewards_as_weights",
    "The rewards themselves were taken for weights. They may be negative, and have any level.",
)
def _(reward, statistic, beta):
    weight = reward / beta
    return _both_of(weight / weight.sum(-1, keepdim=True), statistic)


@tilt.mutant(
    "reward_of_the_mean",
    "The statistic was averaged first, and the mean weighed after: the weights then have nothing to choose from.",
)
def _(reward, statistic, beta):
    weight = (reward / beta).softmax(-1)
    return weight.sum(-1) * statistic.mean(-1), 1 / weight.square().sum(-1)


@tilt.mutant(
    "best_sample_only",
    "This is the best of n, the limit of a small β. In between all samples have a say.",
)
def _(reward, statistic, beta):
    weight = (reward == reward.amax(-1, keepdim=True)).to(reward)
    return _both_of(weight / weight.sum(-1, keepdim=True), statistic)


@tilt.mutant("no_tilt", "This is the mean under the reference: the rewards were not used.")
def _(reward, statistic, beta):
    return _both_of(torch.full_like(reward, 1 / reward.shape[-1]), statistic)


@tilt.mutant("divided_by_n_as_well", "The weights sum to 1 already. Their sum of products was divided by n once more.")
def _(reward, statistic, beta):
    weight = (reward / beta).softmax(-1)
    return (weight * statistic).mean(-1), 1 / weight.square().sum(-1)


@tilt.mutant(
    "fraction_for_number",
    "Divided by n it is the fraction of chapter 3. Here the number of samples is asked for.",
)
def _(reward, statistic, beta):
    mean, size = _both_of((reward / beta).softmax(-1), statistic)
    return mean, size / reward.shape[-1]


@tilt.mutant("squares_without_the_inverse", "Σ w² is the inverse of n_eff: the fewer samples count, the larger it is.")
def _(reward, statistic, beta):
    mean, size = _both_of((reward / beta).softmax(-1), statistic)
    return mean, 1 / size


@tilt.mutant(
    "sum_of_weights_squared",
    "1 / (Σ w)² is 1, whatever the weights are. The squares are summed, and not the sum squared.",
)
def _(reward, statistic, beta):
    weight = (reward / beta).softmax(-1)
    return (weight * statistic).sum(-1), 1 / weight.sum(-1) ** 2


@tilt.mutant(
    "perplexity",
    "The entropy of the weights, under exp, counts samples as well, and more of them. Kish's rule sums squares.",
)
def _(reward, statistic, beta):
    log_weight = (reward / beta).log_softmax(-1)
    weight = log_weight.exp()
    return (weight * statistic).sum(-1), (-(weight * log_weight).sum(-1)).exp()


@tilt.mutant(
    "largest_weight",
    "One over the largest weight looks at a single sample. Kish's rule sums the squares of all.",
)
def _(reward, statistic, beta):
    weight = (reward / beta).softmax(-1)
    return (weight * statistic).sum(-1), 1 / weight.amax(-1)


@tilt.mutant(
    "statistic_in_n_eff",
    "Here n_eff was made of w f. It is the weights that say how many samples count.",
)
def _(reward, statistic, beta):
    weight = (reward / beta).softmax(-1)
    terms = weight * statistic
    return terms.sum(-1), terms.abs().sum(-1) ** 2 / terms.square().sum(-1)


@tilt.mutant("exchanged", "The two results are right, in the other order: the mean comes first.")
def _(reward, statistic, beta):
    return _both_of((reward / beta).softmax(-1), statistic)[::-1]


@tilt.mutant("mean_alone", "The second number is missing: how many samples the first one rests on.")
def _(reward, statistic, beta):
    return _both_of((reward / beta).softmax(-1), statistic)[0]


@tilt.mutant(
    "guard_below",
    "What was added below the line against 0 / 0 outweighs the sum itself where all weights are small. After the "
    "largest r / β is subtracted, one of them is 1, and nothing needs a guard.",
)
def _(reward, statistic, beta):
    weight = (reward / beta).clamp(max=700).exp()
    return _both_of(weight / (weight.sum(-1, keepdim=True) + 1e-8), statistic)


# ---------------------------------------------------------------- right answers


@tilt.accepts("the largest subtracted by hand")
def _(reward, statistic, beta):
    scaled = reward / beta
    weight = (scaled - scaled.amax(-1, keepdim=True)).exp()
    total = weight.sum(-1)
    return (weight * statistic).sum(-1) / total, total**2 / (weight**2).sum(-1)


@tilt.accepts("with logsumexp")
def _(reward, statistic, *, beta):
    scaled = reward / beta
    log_z = scaled.logsumexp(-1, keepdim=True)
    mean = ((scaled - log_z).exp() * statistic).sum(-1)
    return mean, (2 * log_z.squeeze(-1) - (2 * scaled).logsumexp(-1)).exp()


@tilt.accepts("sums of products by einsum")
def _(reward, statistic, beta):
    weight = torch.nn.functional.softmax(reward / beta, dim=-1)
    return torch.einsum("...n,...n->...", weight, statistic), torch.einsum("...n,...n->...", weight, weight) ** -1


@tilt.accepts("the plain mean and a covariance")
def _(reward, statistic, beta):
    weight = reward.shape[-1] * (reward / beta).softmax(-1)
    mean = statistic.mean(-1) + ((weight - 1) * (statistic - statistic.mean(-1, keepdim=True))).mean(-1)
    return mean, reward.shape[-1] / (1 + weight.var(-1, correction=0))
