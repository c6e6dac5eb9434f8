"""The variance of the surrogate, every action enumerated, for section 1."""

import torch
from torch import Tensor

from pocourse.lesson.exercises import exercise
from pocourse.surrogate_variance.exercises._shared import (
    LOOSE,
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

surrogate_variance = exercise(
    "surrogate_variance.surrogate_variance",
    title="How far one sample of the surrogate scatters",
    section="1",
    difficulty=2,
    minutes=6,
    task="""
Draw one action a from the *old* policy and note x = r(a) A(a). On average that is the surrogate L. How far does a
single x lie from it? With few actions nobody has to sample: the variance (3.3) is a sum over all of them.

**Var[x] = Σₐ p(a) ( x(a) − L )², with L = Σₐ p(a) x(a)**

Write it. `surrogate_variance(prob_old, ratio, advantage)` receives three tensors of the same shape. The last axis
holds the actions, and each index of the axes before it, if there are any, is a state of its own:

- `prob_old`: the old policy p. All its entries are positive, and they sum to one over the last axis;
- `ratio`: r(a) = π′(a) / p(a), zero where the new policy gives an action up;
- `advantage`: A(a), of any sign; its mean need not be zero

and returns one variance per state, a tensor without the last axis.
""",
    stub='''
def surrogate_variance(prob_old, ratio, advantage):
    """The variance of one sample x = r A of the surrogate, for each state."""
    ...
''',
    hints=(
        "There are two averages, one inside the other, and both are taken over what the old policy draws. Which "
        "number is averaged first, and which one after it?",
        "`(prob_old * x).sum(-1, keepdim=True)` is an average over the last axis that keeps its place, so that it "
        "can be subtracted from x. The new policy has had its say in x already, through the ratio: it is no weight.",
        "With `x = ratio * advantage` and `mean = (prob_old * x).sum(-1, keepdim=True)`, average the square of `x - "
        "mean` in the same way, this time without `keepdim`.",
    ),
    solution="""
def surrogate_variance(prob_old, ratio, advantage):
    x = ratio * advantage
    mean = (prob_old * x).sum(-1, keepdim=True)
    return (prob_old * (x - mean) ** 2).sum(-1)
""",
    after="""
The mean L would be the same if you drew from the new policy and averaged A; the variance would not. There each
action brings p r A², here p r² A²: one power of the ratio more. That is the price of samples that somebody else has
drawn, and it can also be a gain, where large advantages go with small ratios. E x² − L² is the same number on paper.
In the computer it loses digits when L is much larger than the scatter: both terms are large then, and nearly equal.
""",
    parameters=("prob_old", "ratio", "advantage"),
    returns=one_per_row("action"),
    probes=lambda: [_three_actions(), _states(), _rare(), _far_from_zero()],
)


def _three_actions() -> tuple[Tensor, Tensor, Tensor]:
    """x = (4, −1, −3), L = −1, Var = 7."""
    return row(0.2, 0.3, 0.5), row(2.0, 1.0, 0.6), row(2.0, -1.0, -5.0)


def _states() -> tuple[Tensor, Tensor, Tensor]:
    """Four states, three actions."""
    old = table((0.2, 0.3, 0.5), (0.6, 0.3, 0.1), (0.1, 0.8, 0.1), (0.25, 0.25, 0.5))
    new = table((0.4, 0.3, 0.3), (0.2, 0.7, 0.1), (0.5, 0.1, 0.4), (0.0, 0.5, 0.5))
    return old, new / old, table((2.0, -1.0, 1.0), (-1.0, 1.5, 3.0), (4.0, 0.5, -8.0), (1.0, 2.0, -1.0))


def _rare() -> tuple[Tensor, Tensor, Tensor]:
    """One draw in five thousand brings x = 20000, the others x = 0."""
    return row(0.0002, 0.9998), row(4000.0, 0.2 / 0.9998), row(5.0, 0.0)


def _far_from_zero() -> tuple[Tensor, Tensor, Tensor]:
    """x = (100.1, 103.4), L = 102.41, Var = 2.2869."""
    ratio = row(0.4, 0.88 / 0.7)
    return row(0.3, 0.7), ratio, row(100.1, 103.4) / ratio


def _given(prob_old: Tensor, ratio: Tensor, advantage: Tensor) -> str:
    return f"p = {words(prob_old)}, r = {words(ratio)}, A = {words(advantage)}"


@surrogate_variance.requires("one variance per state, whatever axes come first")
def _(answer):
    states = _states()
    at = [_given(*(x[i] for x in states)) for i in range(4)]
    return each_by_itself(answer, *states, at=at, one="the state", what="variance")


@surrogate_variance.requires("the variance of A where nothing has changed")
def _(answer):
    given = row(0.1, 0.2, 0.7), row(1.0, 1.0, 1.0), row(5.0, 2.0, -1.0)
    return told(
        answer(*given),
        3.96,
        f"for {_given(*given)}",
        "At r = 1 the two policies are one and x is A: L = 0.5 + 0.4 − 0.7 = 0.2, and 2.5 + 0.8 + 0.7 − 0.2² = 3.96. "
        "Each action counts with its probability.",
        "variance",
    )


@surrogate_variance.requires("zero where every action brings the same x")
def _(answer):
    old, ratio = row(0.2, 0.3, 0.5), row(2.0, 1.0, 0.6)
    for x in (3.0, -3.0):
        problem = told(
            answer(old.clone(), ratio.clone(), x / ratio),
            0.0,
            f"for p = (0.2, 0.3, 0.5), r = (2, 1, 0.6) and A = {words(x / ratio)}, where x = r A is {signed(x)} for "
            "every action,",
            f"Whichever action is drawn, x is {signed(x)}, and so is L: nothing scatters. What is subtracted from x "
            "before the square?",
            "variance",
        )
        if problem:
            return problem
    return None


@surrogate_variance.requires("an action that the new policy gives up is still drawn")
def _(answer):
    given = row(0.5, 0.5), row(0.0, 2.0), row(7.0, 3.0)
    return told(
        answer(*given),
        9.0,
        f"for {_given(*given)}, that is x = (0, 6),",
        "The old policy draws the first action every second time, and then x is 0, which is 3 away from L = 3. The "
        "ratio enters x, and weighs nothing else.",
        "variance",
    )


@surrogate_variance.requires("two actions, by hand")
def _(answer):
    given = row(0.25, 0.75), row(2.0, 2 / 3), row(3.0, -1.5)
    return told(
        answer(*given),
        9.1875,
        f"for {_given(*given)}, that is x = (6, −1),",
        "By hand: L = 0.25 × 6 − 0.75 × 1 = 0.75, so the deviations are 5.25 and −1.75, and 0.25 × 5.25² + 0.75 × "
        "1.75² = 6.890625 + 2.296875.",
        "variance",
    )


@surrogate_variance.requires("the old policy draws: three actions, by hand")
def _(answer):
    given = _three_actions()
    return told(
        answer(*given),
        7.0,
        f"for {_given(*given)}, that is x = (4, −1, −3),",
        "By hand: L = 0.8 − 0.3 − 1.5 = −1, so the deviations are 5, 0 and −2, and 0.2 × 25 + 0.3 × 0 + 0.5 × 4 = 7. "
        "Both averages have the weights p.",
        "variance",
    )


@surrogate_variance.requires("a rare action with a large ratio")
def _(answer):
    further = row(2e-7, 1 - 2e-7), row(4e6, 0.2 / (1 - 2e-7)), row(5.0, 0.0)
    for given, wanted, said, hand in (
        (
            _rare(),
            79984,
            "for p = (0.0002, 0.9998), r = (4000, 0.2) and A = (5, 0), that is x = (20000, 0),",
            "one draw in five thousand brings 20000, so L = 4, and 0.0002 × 19996² + 0.9998 × 4² = 79984",
        ),
        (
            further,
            79999984,
            "for p = (0.0000002, 0.9999998), r = (4000000, 0.2) and A = (5, 0), that is x = (20000000, 0),",
            "one draw in five million brings 20000000, so L = 4, and 0.0000002 × 20000000² − 4² = 79999984",
        ),
    ):
        mine = answer(*given)
        if off(mine, row(wanted)[0]) is not None:
            got = f"{float(mine):.1f}"  # numbers of this size would come out with exponents
            return (
                f"{said} your variance is {got}, and it must be {wanted}{unless_a_number(got)}. By hand: {hand}. The "
                "ratio enters with its square, nothing is held down, and no action is too rare to count."
            )
    return None


@surrogate_variance.requires("as exact as the numbers that came in")
def _(answer):
    mine = answer(*_far_from_zero())
    wanted = row(2.2869)[0]
    if off(mine, wanted, 1e-9) is None:
        return None
    where = "for p = (0.3, 0.7), r = (0.4, 0.88 / 0.7) and A = x / r with x = (100.1, 103.4), all in torch.float64,"
    if off(mine, wanted, LOOSE) is not None:
        why = (
            "By hand: L = 30.03 + 72.38 = 102.41, so the deviations are −2.31 and 0.99, and 0.3 × 2.31² + 0.7 × 0.99²."
        )
        return told(mine, 2.2869, where, why, "variance")
    return (
        f"{where} your variance is {float(mine):.11g}, and it must be 2.2869. The first digits are right, and the "
        "others lost: somewhere inside is single precision. Leave out `.float()`: compute in the dtype of the input."
    )


@surrogate_variance.requires("an action in two halves is the same action")
def _(answer):
    once = answer(row(0.2, 0.8), row(2.0, 0.75), row(3.0, -1.0))
    mine = answer(row(0.2, 0.4, 0.4), row(2.0, 0.75, 0.75), row(3.0, -1.0, -1.0))
    if off(mine, once) is None:
        return None
    got, must = pair(mine, once)
    return (
        "for p = (0.2, 0.8), r = (2, 0.75), A = (3, −1) your variance is "
        f"{must}. Split the second action into two of probability 0.4, both with its ratio and its advantage, and "
        f"yours is {got}. Nobody who sees only x could tell the difference: count by probability, and not by action."
    )


@surrogate_variance.requires("twice the advantages, four times the variance")
def _(answer):
    old, ratio, advantage = _three_actions()
    once = answer(old.clone(), ratio.clone(), advantage.clone())
    for factor in (2, -1):
        mine = answer(old.clone(), ratio.clone(), factor * advantage)
        if off(mine, factor**2 * once) is not None:
            got, must = pair(mine, factor**2 * once)
            how = "doubled" if factor == 2 else "with their signs turned"
            return (
                f"for {_given(old, ratio, advantage)} your variance is {pair(once, mine)[0]}; with all advantages "
                f"{how} it must be {must}, and yours is {got}. A variance is in squared units of A."
            )
    return None


# ---------------------------------------------------------------- wrong answers


@surrogate_variance.mutant(
    "square_of_the_mean_forgotten",
    "This is E x², the mean square. What is left of it after L² has been taken away is the variance.",
)
def _(prob_old, ratio, advantage):
    return (prob_old * (ratio * advantage) ** 2).sum(-1)


@surrogate_variance.mutant(
    "variance_under_the_new_policy",
    "This is how A scatters when the *new* policy draws. Its mean is L as well, but the samples come from the old "
    "policy, and there the ratio enters with its square: p r² A², and not p r A².",
)
def _(prob_old, ratio, advantage):
    prob = prob_old * ratio
    mean = (prob * advantage).sum(-1, keepdim=True)
    return (prob * (advantage - mean) ** 2).sum(-1)


@surrogate_variance.mutant(
    "weighted_by_the_new_policy",
    "The ratio is in x already. Weighing x by the new policy as well counts it twice.",
)
def _(prob_old, ratio, advantage):
    prob, x = prob_old * ratio, ratio * advantage
    mean = (prob * x).sum(-1, keepdim=True)
    return (prob * (x - mean) ** 2).sum(-1)


@surrogate_variance.mutant(
    "advantage_not_squared",
    "x² is r² A²: both factors are squared. With the bare A the terms can even be negative.",
)
def _(prob_old, ratio, advantage):
    mean = (prob_old * ratio * advantage).sum(-1)
    return (prob_old * ratio**2 * advantage).sum(-1) - mean**2


@surrogate_variance.mutant(
    "sample_variance",
    "`x.var(-1)` takes the actions for equally likely samples. They are no samples, and each comes with its own "
    "probability.",
)
def _(prob_old, ratio, advantage):
    return (ratio * advantage).var(-1)


@surrogate_variance.mutant(
    "equal_weights",
    "Dividing by the number of actions takes them for equally likely. `prob_old` says how likely they are.",
)
def _(prob_old, ratio, advantage):
    return (ratio * advantage).var(-1, correction=0)


@surrogate_variance.mutant(
    "standard_deviation",
    "This is the standard deviation, the root of the variance.",
)
def _(prob_old, ratio, advantage):
    x = ratio * advantage
    mean = (prob_old * x).sum(-1, keepdim=True)
    return (prob_old * (x - mean) ** 2).sum(-1).sqrt()


@surrogate_variance.mutant(
    "plain_mean_in_the_middle",
    "The deviations are weighed rightly, and taken from the wrong point: `x.mean(-1)` is not L, which weighs each "
    "action with its probability.",
)
def _(prob_old, ratio, advantage):
    x = ratio * advantage
    return (prob_old * (x - x.mean(-1, keepdim=True)) ** 2).sum(-1)


@surrogate_variance.mutant(
    "centred_at_the_mean_advantage",
    "What is subtracted is the mean of A under the old policy. It has to be the mean of x = r A.",
)
def _(prob_old, ratio, advantage):
    mean = (prob_old * advantage).sum(-1, keepdim=True)
    return (prob_old * (ratio * advantage - mean) ** 2).sum(-1)


@surrogate_variance.mutant(
    "probability_inside_the_square",
    "The probability is a weight of the squared deviation. Inside of the square it is squared as well.",
)
def _(prob_old, ratio, advantage):
    weighted = prob_old * ratio * advantage
    return ((weighted - weighted.sum(-1, keepdim=True)) ** 2).sum(-1)


@surrogate_variance.mutant(
    "divided_by_the_number_of_actions",
    "The probabilities sum to one, so the weighted sum is the average already. `mean` divides once more.",
)
def _(prob_old, ratio, advantage):
    x = ratio * advantage
    mean = (prob_old * x).sum(-1, keepdim=True)
    return (prob_old * (x - mean) ** 2).mean(-1)


@surrogate_variance.mutant(
    "variance_of_the_ratio",
    "This is the variance of the ratio alone, the chi-square divergence (3.2). The advantages scatter with it.",
)
def _(prob_old, ratio, advantage):
    return (prob_old * (ratio - 1) ** 2).sum(-1)


@surrogate_variance.mutant(
    "one_mean_for_all_states",
    "Each state has its own L. A sum without an axis puts all states into one.",
)
def _(prob_old, ratio, advantage):
    x = ratio * advantage
    return (prob_old * (x - (prob_old * x).sum()) ** 2).sum(-1)


@surrogate_variance.mutant(
    "summed_over_the_states",
    "One variance per state was asked for; a sum without an axis leaves a single number for all of them.",
)
def _(prob_old, ratio, advantage):
    x = ratio * advantage
    mean = (prob_old * x).sum(-1, keepdim=True)
    return (prob_old * (x - mean) ** 2).sum()


@surrogate_variance.mutant(
    "ratio_held_down",
    "Somebody clips the ratios before squaring them. A clipped surrogate scatters less, and is another one: its "
    "variance was not asked for.",
)
def _(prob_old, ratio, advantage):
    x = ratio.clamp(0, 10) * advantage
    mean = (prob_old * x).sum(-1, keepdim=True)
    return (prob_old * (x - mean) ** 2).sum(-1)


@surrogate_variance.mutant(
    "rare_actions_left_out",
    "An action that is drawn once in ten thousand times can bring more than all others together, for its ratio may be "
    "as large as it is rare.",
)
def _(prob_old, ratio, advantage):
    x = ratio * advantage
    mean = (prob_old * x).sum(-1, keepdim=True)
    return torch.where(prob_old > 1e-3, prob_old * (x - mean) ** 2, 0.0).sum(-1)


@surrogate_variance.mutant(
    "single_precision_inside",
    "Single precision keeps seven digits of x. Where x is large and scatters little, few of them are left for the "
    "deviations.",
)
def _(prob_old, ratio, advantage):
    x = (ratio * advantage).float()
    mean = (prob_old.float() * x).sum(-1, keepdim=True)
    return (prob_old.float() * (x - mean) ** 2).sum(-1).to(ratio.dtype)


@surrogate_variance.mutant(
    "given_up_actions_left_out",
    "An action with r = 0 brings x = 0, and it is drawn: it has its share in how x scatters.",
)
def _(prob_old, ratio, advantage):
    x = ratio * advantage
    mean = (prob_old * x).sum(-1, keepdim=True)
    return torch.where(ratio > 0, prob_old * (x - mean) ** 2, 0.0).sum(-1)


# ---------------------------------------------------------------- right answers


@surrogate_variance.accepts("the mean square minus the square of the mean")
def _(prob_old, ratio, advantage):
    x = ratio * advantage
    return (prob_old * x**2).sum(-1) - (prob_old * x).sum(-1) ** 2


@surrogate_variance.accepts("half the squared distance of two independent draws")
def _(prob_old, ratio, advantage):
    x = ratio * advantage
    apart = x.unsqueeze(-1) - x.unsqueeze(-2)
    return torch.einsum("...a,...b,...ab->...", prob_old, prob_old, apart**2) / 2


@surrogate_variance.accepts("through the probabilities of the new policy")
def _(prob_old, ratio, advantage):
    prob = prob_old * ratio
    mean = torch.linalg.vecdot(prob, advantage)
    return torch.linalg.vecdot(prob * ratio, advantage * advantage) - mean.square()


@surrogate_variance.accepts("state by state, in loops")
def _(prob_old, ratio, advantage):
    if prob_old.dim() > 1:
        return torch.stack([_looped(*one) for one in zip(prob_old, ratio, advantage, strict=True)])
    return _looped(prob_old, ratio, advantage)


def _looped(prob_old: Tensor, ratio: Tensor, advantage: Tensor) -> Tensor:
    if prob_old.dim() > 1:
        return torch.stack([_looped(*one) for one in zip(prob_old, ratio, advantage, strict=True)])
    mean = sum(p * r * a for p, r, a in zip(prob_old, ratio, advantage, strict=True))
    return sum(p * (r * a - mean) ** 2 for p, r, a in zip(prob_old, ratio, advantage, strict=True))
