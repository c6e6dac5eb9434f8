"""SPO's parabola, for section 5."""

import torch

from pocourse.lesson import trial
from pocourse.lesson.exercises import exercise
from pocourse.ratio_clipping import objectives
from pocourse.ratio_clipping.exercises._shared import (
    LOOSE,
    TOLERANCE,
    compare,
    each_by_itself,
    not_a_number,
    off,
    pair,
    points,
    row,
    slopes,
)

spo = exercise(
    "ratio_clipping.spo",
    title="SPO's parabola",
    section="5",
    difficulty=2,
    minutes=6,
    task="""
Look for an objective that *wants to be* at the edge. Per sample, it is a parabola in the ratio r, made from two
conditions:

- at r = 1 its value is A and its slope is A, like those of the surrogate r A;
- at the edge r = 1 + ε sign(A) its slope is zero: there it has its top, for either sign of A.

Work out the parabola, then write it. `spo(ratio, advantage, eps=0.2)` receives

- `ratio`, a tensor of any shape: one ratio r per sample. The gradient has to flow back through it;
- `advantage`, a tensor of the same shape and dtype: one advantage A per sample, of any sign, or zero. It is
  data;
- `eps`, a positive number: ε

and returns a tensor of the same shape and dtype, one value per sample. It is what is *maximised*: no minus sign
in front, no mean. For A = 0 the value is 0.
""",
    stub='''
def spo(ratio, advantage, eps=0.2):
    """One value of SPO's objective per sample."""
    ...
''',
    hints=(
        "The slope of a parabola is a straight line. Which straight line in r is A at r = 1 and zero at r = 1 + ε? "
        "That is the case A > 0. Do A < 0 as well, where the zero is at 1 − ε, and look for one formula for both.",
        "The slope is A − |A| (r − 1) / ε. Integrate it from r = 1, where the value is A: the first term gives r A, "
        "the second one a square with a factor ½. `advantage.abs()` is |A|.",
        "The objective is the product `ratio * advantage` minus a penalty. The penalty is |A| / (2 ε) times the "
        "square of r − 1. Mind the brackets: `/ (2 * eps)`.",
    ),
    solution="""
def spo(ratio, advantage, eps=0.2):
    penalty = advantage.abs() / (2 * eps) * (ratio - 1) ** 2
    return ratio * advantage - penalty
""",
    after="""
Your parabola has the slope of the surrogate at r = 1, so the first step is the policy gradient, and beyond the
edge it pulls back, the more strongly the further out it is. PPO lets go there. At the top the penalty has eaten
half of what r A has gained. Look back at the figure of the objectives: it lies nowhere above PPO's (2.21).
""",
    parameters=("ratio", "advantage"),
    options=("eps",),
    returns=trial.tensor_like(0),
    probes=lambda: [
        (row(*(0.3, 0.5, 0.9, 1.0, 1.1, 1.5) * 3), row(*[2.0] * 6, *[-1.5] * 6, *[0.0] * 6)),
        (row(0.6, 0.75, 1.25, 1.6, 0.6, 0.75, 1.25, 1.6), row(*[0.5] * 4, *[-0.7] * 4), {"eps": 0.5}),
    ],
    differentiable=(0,),
)

SLOPE = "slope ∂f/∂r"


@spo.requires("one value per sample, in a batch of any shape")
def _(answer):
    ratio, advantage = row(0.5, 1.0, 1.5, 0.5, 1.0, 1.5), row(2.0, 1.0, 2.0, -1.0, 3.0, -1.0)
    return each_by_itself(answer, ratio, advantage, points(ratio, advantage))


@spo.requires("the value is A at r = 1")
def _(answer):
    ratio, advantage = row(1.0, 1.0, 1.0, 1.0), row(2.0, 0.5, -0.5, -3.0)
    why = "At r = 1 there is nothing to pay for, and r A is A. f is what is maximised: no minus sign in front."
    return compare(answer(ratio, advantage), row(2.0, 0.5, -0.5, -3.0), points(ratio, advantage), why=why)


@spo.requires("the slope is A at r = 1")
def _(answer):
    ratio, advantage = row(1.0, 1.0, 1.0, 1.0), row(2.0, 0.5, -0.5, -3.0)
    why = "The first step has to be that of the surrogate r A."
    return compare(slopes(answer, ratio, advantage, "ratio"), advantage, points(ratio, advantage), SLOPE, why)


@spo.requires("the slope is zero at the edge, for either sign of A")
def _(answer):
    ratio, advantage = row(1.2, 0.8, 1.2, 0.8), row(2.0, -2.0, 0.5, -0.5)
    why = [
        "The edge is at 1 + ε sign(A) = 1.2; for A > 0 the top is there.",
        "For A < 0 the edge is at 1 + ε sign(A) = 0.8, and the top is there. Is a sign of A left where |A| belongs?",
        "The top is at 1.2 however small A > 0 is: the penalty has to scale with |A|.",
        "The top is at 0.8 however small |A| is: the penalty has to scale with |A|.",
    ]
    mine = slopes(answer, ratio, advantage, "ratio")
    return compare(mine, torch.zeros_like(mine), points(ratio, advantage), SLOPE, why, LOOSE)


@spo.requires("beyond the edge it pulls back")
def _(answer):
    ratio, advantage = row(1.3, 2.0, 0.7, 0.3), row(2.0, 2.0, -2.0, -2.0)
    why = "The slope is a straight line through A at r = 1 and zero at the edge; beyond the edge it has the other sign."
    wanted = row(-1.0, -8.0, 1.0, 5.0)
    return compare(slopes(answer, ratio, advantage, "ratio"), wanted, points(ratio, advantage), SLOPE, why)


@spo.requires("the other side: the further back, the steeper")
def _(answer):
    ratio, advantage = row(0.7, 0.3, 1.3, 2.0), row(2.0, 2.0, -2.0, -2.0)
    why = "Where r has gone against A, the straight line goes on: its size is above |A| there."
    wanted = row(5.0, 9.0, -5.0, -12.0)
    return compare(slopes(answer, ratio, advantage, "ratio"), wanted, points(ratio, advantage), SLOPE, why)


@spo.requires("the value at the top is A + ε |A| / 2")
def _(answer):
    ratio, advantage = row(1.2, 0.8, 1.2, 0.8), row(2.0, -2.0, 0.5, -0.5)
    why = "On the way to the edge r A gains ε |A|, and the penalty takes half of it."
    return compare(answer(ratio, advantage), row(2.2, -1.8, 0.55, -0.45), points(ratio, advantage), why=why)


@spo.requires("bent downwards by |A| / ε everywhere")
def _(answer):
    step, ratio, advantage = 0.1, row(0.5, 1.0, 1.2, 1.5, 0.5, 0.8, 1.0, 1.5), row(*[2.0] * 4, *[-0.5] * 4)
    left, middle, right = (answer(ratio + shift, advantage.clone()) for shift in (-step, 0, step))
    why = "A parabola with a top has the same curvature everywhere, and it is negative: −|A| / ε."
    return compare(
        (left - 2 * middle + right) / step**2,
        -advantage.abs() / 0.2,
        points(ratio, advantage),
        "curvature ∂²f/∂r²",
        why,
        LOOSE,
    )


@spo.requires("twice the advantage, twice the value")
def _(answer):
    ratio, advantage = row(0.5, 0.9, 1.1, 1.5, 0.5, 0.9, 1.1, 1.5), row(*[0.5] * 4, *[-0.5] * 4)
    once, twice = answer(ratio.clone(), advantage.clone()), answer(ratio.clone(), 2 * advantage)
    if problem := not_a_number(once, points(ratio, advantage)) or not_a_number(twice, points(ratio, 2 * advantage)):
        return problem
    index = off(twice, 2 * once)
    if index is None:
        return None
    got, must = pair(twice[index], 2 * once[index])
    one, two = (points(ratio, scale * advantage)[index] for scale in (1, 2))
    return (
        f"at {one} your value is {pair(once[index], twice[index])[0]}, so at {two} it must be {must}; it is {got}. "
        "Product and penalty both carry one factor of the size of A, or else a large advantage weighs no more than "
        "a small one."
    )


@spo.requires("nowhere above PPO's objective")
def _(answer):
    ratio = torch.linspace(0, 2.5, 26, dtype=torch.float64).repeat(2)
    advantage = torch.cat((torch.full((26,), 2.0), torch.full((26,), -0.5))).double()
    clip = objectives.clip_objective(ratio, advantage, clip_eps=0.2)
    mine = answer(ratio.clone(), advantage.clone()).detach()
    above = ~(mine <= clip + TOLERANCE)
    if not above.any():
        return None
    index = int(above.long().argmax())
    got, limit = pair(mine[index], clip[index])
    return (
        f"at {points(ratio, advantage)[index]} your value is {got}, and PPO's is {limit}. SPO's objective is the more "
        "pessimistic one everywhere (2.21)."
    )


@spo.requires("the edge is the one that eps says")
def _(answer):
    for eps in (0.5, 0.05, 0.9):
        ratio, advantage = row(1 + eps, 1 - eps, 2.0), row(2.0, -2.0, 2.0)
        at = points(ratio, advantage, eps=eps)
        why = f"With ε = {eps:g} the top is at r = {1 + eps:g} for A > 0 and at r = {1 - eps:g} for A < 0."
        value, slope = row(2 + eps, eps - 2, 4 - 1 / eps), row(0.0, 0.0, 2 - 2 / eps)
        problem = compare(answer(ratio.clone(), advantage.clone(), eps=eps), value, at, why=why) or compare(
            slopes(answer, ratio, advantage, "ratio", eps=eps), slope, at, SLOPE, why, LOOSE
        )
        if problem:
            return problem
    return None


@spo.requires("the same parabola far out, and for large advantages")
def _(answer):
    ratio, advantage = row(0.0, 5.0, 0.0, 5.0), row(10.0, 10.0, -7.0, -7.0)
    at = points(ratio, advantage)
    why = "One parabola for all r: the straight line of the slope goes on however far out r is, and |A| scales it."
    return compare(answer(ratio.clone(), advantage), row(-25.0, -350.0, -17.5, -315.0), at, why=why) or compare(
        slopes(answer, ratio, advantage, "ratio"), row(60.0, -190.0, 28.0, -147.0), at, SLOPE, why
    )


@spo.requires("zero for A = 0")
def _(answer):
    ratio, advantage = row(0.5, 1.0, 1.5, 1.0), row(0.0, 0.0, 0.0, 1.0)
    wanted, at = row(0.0, 0.0, 0.0), points(ratio, advantage)
    why = "An action without advantage pushes nowhere and pays nothing."
    return compare(answer(ratio.clone(), advantage)[:3], wanted, at, why=why) or compare(
        slopes(answer, ratio, advantage, "ratio")[:3], wanted, at, SLOPE, why
    )


# ---------------------------------------------------------------- wrong answers


@spo.mutant(
    "half_forgotten",
    "The ½ from integrating is missing. The slope then falls twice as fast, and the top is half-way to the edge.",
)
def _(ratio, advantage, eps=0.2):
    return ratio * advantage - advantage.abs() / eps * (ratio - 1) ** 2


@spo.mutant(
    "sign_kept",
    "A stands where |A| belongs. For A < 0 the penalty becomes a reward: the parabola opens upwards and has no top.",
)
def _(ratio, advantage, eps=0.2):
    return ratio * advantage - advantage / (2 * eps) * (ratio - 1) ** 2


@spo.mutant(
    "penalty_without_the_advantage",
    "The penalty has lost its |A|. The top is then at 1 + ε A: a large advantage takes the ratio far beyond the edge.",
)
def _(ratio, advantage, eps=0.2):
    return ratio * advantage - (ratio - 1) ** 2 / (2 * eps)


@spo.mutant(
    "simple_aligned",
    "This parabola has its top in the right place, but it has forgotten how *large* the advantage is; at r = 1 it "
    "has in general neither the value nor the slope of the surrogate.",
)
def _(ratio, advantage, eps=0.2):
    return -((ratio - 1 - eps * advantage.sign()) ** 2)


@spo.mutant(
    "not_squared",
    "|r − 1| without the square is a roof and not a parabola: its slope jumps at r = 1 and never changes after that.",
)
def _(ratio, advantage, eps=0.2):
    return ratio * advantage - advantage.abs() / (2 * eps) * (ratio - 1).abs()


@spo.mutant("brackets_forgotten", "`/ 2 * eps` divides by 2 and multiplies by ε. Write `/ (2 * eps)`.")
def _(ratio, advantage, eps=0.2):
    return ratio * advantage - advantage.abs() / 2 * eps * (ratio - 1) ** 2


@spo.mutant("eps_ignored", "The edge is fixed at 0.2 from one, whatever `eps` says.")
def _(ratio, advantage, eps=0.2):
    return ratio * advantage - advantage.abs() / 0.4 * (ratio - 1) ** 2


@spo.mutant(
    "loss_for_objective",
    "This is the loss, which is minimised. Asked for is the objective, which is maximised: the same with the other "
    "sign.",
)
def _(ratio, advantage, eps=0.2):
    return advantage.abs() / (2 * eps) * (ratio - 1) ** 2 - ratio * advantage


@spo.mutant("penalty_added", "The penalty is added in place of taken away: going far is rewarded.")
def _(ratio, advantage, eps=0.2):
    return ratio * advantage + advantage.abs() / (2 * eps) * (ratio - 1) ** 2


@spo.mutant(
    "gain_only",
    "All slopes are right and all values are too small by A: (r − 1) A is the *gain* over r = 1, and r A was asked "
    "for.",
)
def _(ratio, advantage, eps=0.2):
    return (ratio - 1) * advantage - advantage.abs() / (2 * eps) * (ratio - 1) ** 2


@spo.mutant(
    "ratio_clipped_too",
    "With a clipped ratio the parabola is cut off at its top and flat beyond, as PPO is: the pull back is what SPO "
    "adds.",
)
def _(ratio, advantage, eps=0.2):
    ratio = ratio.clamp(1 - eps, 1 + eps)
    return ratio * advantage - advantage.abs() / (2 * eps) * (ratio - 1) ** 2


@spo.mutant(
    "penalty_as_in_the_clip",
    "Charging only where the ratio has gone the way A pushes it leaves the other side a straight line. A parabola "
    "is one curve.",
)
def _(ratio, advantage, eps=0.2):
    beyond = torch.relu(advantage.sign() * (ratio - 1))
    return ratio * advantage - advantage.abs() / (2 * eps) * beyond**2


@spo.mutant(
    "penalty_detached",
    "The penalty is in the values and not in the gradient: with `detach` the slope stays A everywhere, and nothing "
    "pulls back.",
)
def _(ratio, advantage, eps=0.2):
    return ratio * advantage - (advantage.abs() / (2 * eps) * (ratio - 1) ** 2).detach()


@spo.mutant(
    "division_by_the_sign",
    "sign(A) in the denominator is fine on paper and 0 / 0 for A = 0. A / sign(A) is |A|, which divides by nothing.",
)
def _(ratio, advantage, eps=0.2):
    return ratio * advantage - advantage / (2 * eps * advantage.sign()) * (ratio - 1) ** 2


@spo.mutant("mean_taken", "The mean is the caller's business: asked for is one value per sample.")
def _(ratio, advantage, eps=0.2):
    return (ratio * advantage - advantage.abs() / (2 * eps) * (ratio - 1) ** 2).mean()


# ---------------------------------------------------------------- right answers


@spo.accepts("the square completed around the top")
def _(ratio, advantage, *, eps=0.2):
    size, edge = advantage.abs(), 1 + eps * advantage.sign()
    return advantage + eps * size / 2 - size / (2 * eps) * (ratio - edge).square()


@spo.accepts("either sign by itself")
def _(ratio, advantage, eps=0.2):
    bend = (ratio - 1).pow(2) / (2 * eps)
    return torch.where(advantage > 0, advantage * (ratio - bend), advantage * (ratio + bend))


@spo.accepts("the sign inside, the advantage outside")
def _(ratio, advantage, eps=0.2):
    return advantage * (ratio - advantage.sign() * (ratio - 1) ** 2 / (2 * eps))


@spo.accepts("the slope integrated: half of the sum at both ends times the way")
def _(ratio, advantage, eps=0.2):
    way = ratio - 1
    slope = advantage - advantage.abs() * way / eps
    return advantage + way * (advantage + slope) / 2
