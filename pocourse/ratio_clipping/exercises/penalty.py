"""The right-hand side of the average-TV bound, for section 2."""

from typing import NamedTuple

import torch
from torch import Tensor

from pocourse.lesson import trial
from pocourse.lesson.exercises import exercise
from pocourse.ratio_clipping import bounds
from pocourse.ratio_clipping.exercises._shared import LOOSE, TOLERANCE, off, one_number, pair, row, unless_a_number
from pocourse.worlds import bandit, tabular

average_tv_penalty = exercise(
    "ratio_clipping.average_tv_penalty",
    title="What the bound charges for a step",
    section="2",
    difficulty=3,
    minutes=12,
    task="""
The bound (2.6) promises: the true gain and the surrogate's gain differ by at most

**2 ξ γ / (1 − γ)² × the average of TV(π, π′)(s) over s ∼ d**

where d is how often the *old* policy π visits each state, TV(π, π′)(s) = ½ Σₐ |π′(a|s) − π(a|s)|, and ξ = max
|Ā(s)| over the states, with Ā(s) the mean of A(s, a) over the actions of the *new* policy π′.

Write this right-hand side for a world that is small enough for tables. `average_tv_penalty(prob_old, prob,
occupancy, advantage, gamma)` receives

- `prob_old` and `prob`, tensors [state, action]: the policies π and π′; each row sums to one, and zeros are
  allowed;
- `occupancy`, a tensor [state]: d, which sums to one;
- `advantage`, a tensor [state, action]: the advantages A of the old policy;
- `gamma`, a number with 0 ≤ γ < 1

and returns a tensor without axes: one number, in the dtype of the inputs. The gradient has to flow back to
`prob`, along both paths, through ξ and through TV; everything else is data.
""",
    stub='''
def average_tv_penalty(prob_old, prob, occupancy, advantage, gamma):
    """The right-hand side of the average-TV bound (2.6), one number."""
    ...
''',
    hints=(
        "Three numbers are multiplied: a factor made of γ alone, ξ, and one average of the total variation. Work "
        "them out one by one. For each sum, average and maximum, ask: over actions or over states, and under which "
        "policy?",
        "Sums over actions run over the last axis: `.sum(-1)` leaves one number per state. For ξ: first the mean of "
        "A over π′, then the absolute value, and the maximum over states last. For the average: the total variation "
        "per state, then weighted by `occupancy`.",
        "ξ is `(prob * advantage).sum(-1).abs().max()`. The total variation per state is `(prob - "
        "prob_old).abs().sum(-1) / 2`; multiply it by `occupancy` and sum over the states. The factor is `2 * gamma "
        "/ (1 - gamma) ** 2`.",
    ),
    solution="""
def average_tv_penalty(prob_old, prob, occupancy, advantage, gamma):
    xi = (prob * advantage).sum(-1).abs().max()
    tv = (prob - prob_old).abs().sum(-1) / 2
    return 2 * gamma / (1 - gamma) ** 2 * xi * (occupancy * tv).sum()
""",
    after="""
Both ξ and the average TV are small when the step is small, so half the step costs a quarter, while what it
promises only halves: a small enough step in a good direction is always safe. The horizon says how small: 1 / (1
− γ)² is 100 for γ = 0.9 and 10000 for γ = 0.99. Look back at the figure, which compares this penalty with the
true gap, on ordinary worlds and on the one that needs nearly all of it.
""",
    parameters=("prob_old", "prob", "occupancy", "advantage"),
    options=("gamma",),
    returns=one_number(1),
    probes=lambda: [
        (*_example(), 0.5),
        (*_example(0.5), 0.9),
        (*_first_play(0.1, 2.0), 0.9),
        (*_worse_everywhere(), 0.5),
        (*_three_states(), 0.8),
        (*_four_actions(), 0.5),
    ],
    differentiable=(1,),
)

# ---------------------------------------------------------------- worlds


def _example(step: float | Tensor = 1.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two states, two actions. At a full step Ā = (0.2, −0.8), ξ = 0.8, TV = (0.1, 0.2), with an average of 0.125."""
    old, target = row(0.5, 0.5).expand(2, 2), torch.stack((row(0.6, 0.4), row(0.3, 0.7)))
    return old.clone(), old + step * (target - old), row(0.75, 0.25), torch.stack((row(1.0, -1.0), row(2.0, -2.0)))


def _first_play(weight: float, loss: float = 1.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The chapter's two states: action 1, never played before, leads for a reward to a state never visited before."""
    old = torch.stack((row(1.0, 0.0), row(1.0, 0.0)))
    new = torch.stack((row(1 - weight, weight), row(0.0, 1.0)))
    return old, new, row(1.0, 0.0), torch.stack((row(0.0, 1 / weight), row(0.0, -loss)))


def _worse_everywhere() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As the example, but the new policy loses in both states: Ā = (−0.2, −0.8)."""
    old, new, occupancy, advantage = _example()
    return old, torch.stack((row(0.4, 0.6), new[1])), occupancy, advantage


def _three_states() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Three states, three actions: Ā = (0.1, 1, −1.15), TV = (0.1, 0.4, 0.7), with an average of 0.31."""
    old = torch.stack((row(0.2, 0.3, 0.5), row(0.6, 0.3, 0.1), row(0.1, 0.8, 0.1)))
    new = torch.stack((row(0.3, 0.3, 0.4), row(0.2, 0.7, 0.1), row(0.5, 0.1, 0.4)))
    advantage = torch.stack((row(2.0, -3.0, 1.0), row(-1.0, 1.5, 1.5), row(4.0, 0.5, -8.0)))
    return old, new, row(0.5, 0.3, 0.2), advantage


def _four_actions() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two states, four actions, two of which gain: Ā = (−1.1, 0.8), TV = (0.3, 0.2), with an average of 0.26."""
    old = torch.stack((row(0.4, 0.3, 0.2, 0.1), row(0.1, 0.2, 0.3, 0.4)))
    new = torch.stack((row(0.2, 0.2, 0.3, 0.3), row(0.2, 0.3, 0.2, 0.3)))
    return old, new, row(0.6, 0.4), torch.stack((row(1.0, 1.0, -2.0, -3.0), row(4.0, 2.0, 0.0, -2.0)))


class _Steps(NamedTuple):
    """Steps between two policies in a batch of worlds, and what they really brought beyond the surrogate."""

    prob_old: Tensor
    prob: Tensor
    occupancy: Tensor
    advantage: Tensor
    gap: Tensor

    def inputs(self, index: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return tuple(x[index].clone() for x in self[:4])


def _taken(mdp: tabular.TabularMDP, old: Tensor, new: Tensor) -> _Steps:
    advantage, occupancy = tabular.advantages(mdp, old), tabular.occupancy(mdp, old)
    promised = bounds.surrogate_gain(occupancy, new, advantage, gamma=mdp.gamma)
    gain = tabular.performance(mdp, new) - tabular.performance(mdp, old)
    return _Steps(old, new, occupancy, advantage, (gain - promised).abs())


def _random_steps(gamma: float, count: int) -> _Steps:
    generator = torch.Generator().manual_seed(0)
    mdp = tabular.random_mdp(num_states=4, num_actions=3, gamma=gamma, batch=(count,), generator=generator)
    old, target = (bandit.random_policy((count, 4, 3), generator=generator) for _ in range(2))
    weight = 0.1 + 0.9 * torch.rand(count, 1, 1, generator=generator, dtype=torch.float64)
    return _taken(mdp, old, (1 - weight) * old + weight * target)


def _worst_step(gamma: float, weight: float = 0.001) -> _Steps:
    old, new, _, _ = _first_play(weight)
    return _taken(tabular.two_state_mdp(gain=1 / weight, loss=1.0, gamma=gamma), old, new)


# ---------------------------------------------------------------- what has to hold


def _number(mine: Tensor, wanted: float, where: str, why: str) -> str | None:
    if off(mine, row(wanted)[0], rtol=LOOSE) is None:  # 1 / (1 − γ)² magnifies the rounding of a γ in single precision
        return None
    got, must = pair(mine, wanted)
    return f"{where} your penalty is {got}, and it must be {must}{unless_a_number(got, why)}. {why}"


@average_tv_penalty.requires("one number, and zero where nothing changes")
def _(answer):
    for dtype in (torch.float64, torch.float32):
        old, _, occupancy, advantage = (x.to(dtype) for x in _three_states())
        mine = answer(old, old.clone(), occupancy, advantage, gamma=0.9)
        why = "A policy that stays as it is has TV = 0 in every state: there is nothing to pay for."
        if problem := _number(mine, 0.0, "with `prob` equal to `prob_old`", why):
            return problem
    return None


@average_tv_penalty.requires("two states, by hand")
def _(answer):
    return _number(
        answer(*_example(), gamma=0.5),
        0.4,
        "for π = (0.5, 0.5) in both states, π′ = (0.6, 0.4) and (0.3, 0.7), d = (0.75, 0.25), A = (1, −1) and (2, "
        "−2), γ = 0.5",
        "By hand: Ā = (0.2, −0.8), so ξ = 0.8. TV = (0.1, 0.2), on average 0.75 × 0.1 + 0.25 × 0.2 = 0.125. The "
        "factor is 4.",
    )


@average_tv_penalty.requires("three states and three actions, by hand")
def _(answer):
    return _number(
        answer(*_three_states(), gamma=0.8),
        14.26,
        "for three states, three actions and γ = 0.8, where Ā = (0.1, 1, −1.15), TV = (0.1, 0.4, 0.7) and d = (0.5, "
        "0.3, 0.2),",
        "By hand: ξ = 1.15, the average TV is 0.05 + 0.12 + 0.14 = 0.31, and the factor is 40. With three actions a "
        "mean over actions is not half of a sum any more.",
    )


@average_tv_penalty.requires("two states and four actions, by hand")
def _(answer):
    for dtype in (torch.float64, torch.float32):
        mine = answer(*(x.to(dtype) for x in _four_actions()), gamma=0.5)
        where = (
            "for π = (0.4, 0.3, 0.2, 0.1) and (0.1, 0.2, 0.3, 0.4), π′ = (0.2, 0.2, 0.3, 0.3) and (0.2, 0.3, 0.2, "
            "0.3), d = (0.6, 0.4), A = (1, 1, −2, −3) and (4, 2, 0, −2), γ = 0.5"
        )
        single = "" if dtype == torch.float64 else ", in single precision (torch.float32),"
        why = (
            "By hand: Ā = (−1.1, 0.8), so ξ = 1.1. TV = (0.3, 0.2), on average 0.18 + 0.08 = 0.26. The factor is 4. "
            "Two actions gain in each state, and TV adds up what both of them gain."
        )
        if problem := _number(mine, 1.144, where + single, why):
            return problem
    return None


@average_tv_penalty.requires("actions that are played for the first time count in full")
def _(answer):
    return _number(
        answer(*_first_play(0.1, 2.0), gamma=0.5),
        0.8,
        "for π = (1, 0) in both states, π′ = (0.9, 0.1) and (0, 1), d = (1, 0), A = (0, 10) and (0, −2), γ = 0.5",
        "By hand: Ā = (1, −2), so ξ = 2. TV = (0.1, 1), on average 0.1. The factor is 4. The second action has π = "
        "0: there a ratio π′ / π says nothing, and |π′ − π| does.",
    )


@average_tv_penalty.requires("ξ is the largest size of Ā, of either sign")
def _(answer):
    old, new, occupancy, advantage = _example()
    up, down = (answer(old.clone(), new.clone(), occupancy.clone(), sign * advantage, gamma=0.5) for sign in (-1, 1))
    if off(up, down) is None:
        return None
    got, other = pair(up, down)
    return (
        f"with Ā = (−0.2, 0.8) your penalty is {got}, and with all signs turned, Ā = (0.2, −0.8), it is {other}. "
        "They must be equal: ξ takes the size of Ā(s), and then the largest one. A state in which the new policy "
        "loses counts as much."
    )


@average_tv_penalty.requires("ξ looks at every state, visited or not")
def _(answer):
    old, new, occupancy, advantage = _first_play(0.1, 1.0)
    worse = torch.stack((advantage[0], row(0.0, -5.0)))
    once = answer(old.clone(), new.clone(), occupancy.clone(), advantage, gamma=0.5)
    return _number(
        answer(old, new, occupancy, worse, gamma=0.5),
        2.0,
        f"with Ā = (1, −1) your penalty is {trial.show(float(once))}. With Ā = (1, −5), where the old policy never "
        "visits the second state,",
        "By hand: the new policy may end up there, so ξ is 5, a maximum over all states, without weights. The "
        "average TV is 0.1, and the factor is 4.",
    )


@average_tv_penalty.requires("TV is averaged as the old policy visits the states")
def _(answer):
    for occupancy, average in ((row(1.0, 0.0), 0.1), (row(0.0, 1.0), 0.2), (row(0.5, 0.5), 0.15)):
        old, new, _, advantage = _example()
        problem = _number(
            answer(old, new, occupancy, advantage, gamma=0.5),
            4 * 0.8 * average,
            f"for TV = (0.1, 0.2), ξ = 0.8, γ = 0.5 and d = {trial.show(occupancy)}",
            f"By hand: the average of TV with the weights d is {average:g}, ξ is 0.8, the factor is 4. No maximum "
            "over the states in TV, and no equal weights.",
        )
        if problem:
            return problem
    return None


@average_tv_penalty.requires("the horizon enters as γ / (1 − γ)²")
def _(answer):
    for gamma, factor in ((0.0, 0.0), (0.9, 180.0), (0.99, 19800.0)):
        problem = _number(
            answer(*_example(), gamma=gamma),
            factor * 0.1,
            f"for ξ = 0.8, an average TV of 0.125 and γ = {gamma:g}",
            f"The factor 2 γ / (1 − γ)² is {factor:g} there, and ξ times the average TV is 0.1.",
        )
        if problem:
            return problem
    return None


@average_tv_penalty.requires("twice the advantages, twice the penalty")
def _(answer):
    old, new, occupancy, advantage = _three_states()
    once = answer(old.clone(), new.clone(), occupancy.clone(), advantage.clone(), gamma=0.9)
    return _number(
        answer(old, new, occupancy, 2 * advantage, gamma=0.9),
        2 * float(once),
        f"on a world with three states your penalty is {trial.show(float(once))}; with all advantages doubled",
        "Only ξ knows the advantages, and the penalty is proportional to it.",
    )


@average_tv_penalty.requires("half the step, a quarter of the penalty")
def _(answer):
    full = answer(*_example(), gamma=0.5)
    return _number(
        answer(*_example(0.5), gamma=0.5),
        float(full) / 4,
        f"for the full step your penalty is {trial.show(float(full))}; half-way between π and π′",
        "Ā and TV are both halved there: ξ and the average TV enter once each, to the first power.",
    )


@average_tv_penalty.requires("never below the true gap")
def _(answer):
    for gamma in (0.5, 0.9, 0.99):
        random, worst = _random_steps(gamma, 12), _worst_step(gamma)
        gaps = [*random.gap.tolist(), worst.gap.item()]
        tried = [*(random.inputs(i) for i in range(12)), worst[:4]]
        for i, (inputs, gap) in enumerate(zip(tried, gaps, strict=True)):
            mine = answer(*inputs, gamma=gamma).item()
            if not mine >= gap * (1 - TOLERANCE) - 1e-12:
                where = "a random world" if i < 12 else "the two-state world with α = 0.001"
                got, least = pair(mine, gap)
                return (
                    f"on {where}, γ = {gamma:g}, your penalty is {got}, and gain and surrogate really differ by "
                    f"{least}{unless_a_number(got)}. A bound must not be smaller than that."
                )
    return None


@average_tv_penalty.requires("nearly all of it is needed in the two-state world")
def _(answer):
    worst = _worst_step(0.99)
    gap = worst.gap.item()
    mine = answer(*worst[:4], gamma=0.99).item()
    if 0.9 * mine <= gap:
        return None
    got, must = pair(mine, 19.8)
    return (
        f"on the two-state world with α = 0.001 and γ = 0.99 your penalty is {got}, and it must be {must}: ξ is 1, "
        f"the average TV is 0.001. Gain and surrogate differ by {trial.show(gap)} there, 91 per cent of that: "
        "(2.6) is no looser."
    )


@average_tv_penalty.requires("the gradient flows back to prob, through ξ and through TV")
def _(answer):
    step = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    mine = trial.derivative(answer(*_example(step), gamma=0.5), step, "prob")
    if off(mine, row(0.4)[0], rtol=LOOSE) is None:
        return None
    got, must = pair(mine, 0.4)
    return (
        "on the way from π to π′ the penalty is 0.4 t², where t is the part of the step taken. At t = 0.5 its "
        f"derivative is {must}; the gradient of yours gives {got}. `prob` enters twice, in ξ and in TV, and both "
        "have to carry gradient."
    )


# ---------------------------------------------------------------- wrong answers


def _factor(gamma):
    return 2 * gamma / (1 - gamma) ** 2


def _xi(prob, advantage):
    return (prob * advantage).sum(-1).abs().max()


def _tv(prob_old, prob):
    return (prob - prob_old).abs().sum(-1) / 2


@average_tv_penalty.mutant(
    "largest_advantage",
    "ξ is not the largest single |A(s, a)|. It averages over the new policy's actions first, which makes it small "
    "when the step is small.",
)
def _(prob_old, prob, occupancy, advantage, gamma):
    return _factor(gamma) * advantage.abs().max() * (occupancy * _tv(prob_old, prob)).sum()


@average_tv_penalty.mutant(
    "averaged_over_the_old_policy",
    "Under the old policy its own advantages average to zero in every state. ξ averages over the actions of the new "
    "one.",
)
def _(prob_old, prob, occupancy, advantage, gamma):
    return _factor(gamma) * _xi(prob_old, advantage) * (occupancy * _tv(prob_old, prob)).sum()


@average_tv_penalty.mutant(
    "sizes_averaged",
    "The absolute value came too early: the mean of |A| is not the size of the mean of A, in which losses and gains "
    "cancel.",
)
def _(prob_old, prob, occupancy, advantage, gamma):
    return _factor(gamma) * _xi(prob, advantage.abs()) * (occupancy * _tv(prob_old, prob)).sum()


@average_tv_penalty.mutant(
    "no_absolute_value",
    "Without the absolute value, ξ overlooks the states in which the new policy loses.",
)
def _(prob_old, prob, occupancy, advantage, gamma):
    return _factor(gamma) * (prob * advantage).sum(-1).max() * (occupancy * _tv(prob_old, prob)).sum()


@average_tv_penalty.mutant(
    "absolute_value_after_the_maximum",
    "The size of the largest Ā is not the largest size: take `abs` before `max`.",
)
def _(prob_old, prob, occupancy, advantage, gamma):
    return _factor(gamma) * (prob * advantage).sum(-1).max().abs() * (occupancy * _tv(prob_old, prob)).sum()


@average_tv_penalty.mutant(
    "xi_averaged_over_states",
    "ξ is a maximum over the states. An average with the old policy's weights is blind to states that only the new "
    "one visits.",
)
def _(prob_old, prob, occupancy, advantage, gamma):
    xi = (occupancy * (prob * advantage).sum(-1).abs()).sum()
    return _factor(gamma) * xi * (occupancy * _tv(prob_old, prob)).sum()


@average_tv_penalty.mutant(
    "tv_without_the_half",
    "The sum of |π′ − π| is twice the total variation: mass that moves is counted where it leaves and where it "
    "arrives.",
)
def _(prob_old, prob, occupancy, advantage, gamma):
    return _factor(gamma) * _xi(prob, advantage) * (occupancy * 2 * _tv(prob_old, prob)).sum()


@average_tv_penalty.mutant(
    "tv_as_a_mean_over_actions",
    "The total variation is half of a *sum* over the actions. `mean` divides by their number, which is the same "
    "only for two.",
)
def _(prob_old, prob, occupancy, advantage, gamma):
    return _factor(gamma) * _xi(prob, advantage) * (occupancy * (prob - prob_old).abs().mean(-1)).sum()


@average_tv_penalty.mutant(
    "tv_as_the_largest_change",
    "The largest change of a single action is the total variation only where one action gains all, or one loses all. "
    "In general it is a sum: mass goes to several actions at once.",
)
def _(prob_old, prob, occupancy, advantage, gamma):
    return _factor(gamma) * _xi(prob, advantage) * (occupancy * (prob - prob_old).abs().amax(-1)).sum()


@average_tv_penalty.mutant(
    "tv_of_the_worst_state",
    "This is the largest TV of all states, as in TRPO's bound. (2.6) averages it over the states that the old "
    "policy visits.",
)
def _(prob_old, prob, occupancy, advantage, gamma):
    return _factor(gamma) * _xi(prob, advantage) * _tv(prob_old, prob).max()


@average_tv_penalty.mutant(
    "tv_with_equal_weights",
    "Each state counts as often as the old policy visits it, and not each as much as the next.",
)
def _(prob_old, prob, occupancy, advantage, gamma):
    return _factor(gamma) * _xi(prob, advantage) * _tv(prob_old, prob).mean()


@average_tv_penalty.mutant(
    "tv_from_the_ratios",
    "½ E|r − 1| is the total variation only where π > 0. Mass on actions that the old policy never plays has no "
    "ratio, and is missing (2.5).",
)
def _(prob_old, prob, occupancy, advantage, gamma):
    ratio = torch.where(prob_old > 0, prob / prob_old.clamp(min=1e-300), torch.ones_like(prob))
    tv = (prob_old * (ratio - 1).abs()).sum(-1) / 2
    return _factor(gamma) * _xi(prob, advantage) * (occupancy * tv).sum()


@average_tv_penalty.mutant(
    "tv_squared",
    "The average TV enters to its first power; ξ brings the second power of the step. The square belongs to TRPO's "
    "bound.",
)
def _(prob_old, prob, occupancy, advantage, gamma):
    return _factor(gamma) * _xi(prob, advantage) * (occupancy * _tv(prob_old, prob)).sum() ** 2


@average_tv_penalty.mutant(
    "kl_for_tv",
    "This averages KL(π ‖ π′). The bound asks for the total variation, ½ Σ |π′ − π|.",
)
def _(prob_old, prob, occupancy, advantage, gamma):
    kl = (torch.xlogy(prob_old, prob_old) - torch.xlogy(prob_old, prob)).sum(-1)
    return _factor(gamma) * _xi(prob, advantage) * (occupancy * kl).sum()


@average_tv_penalty.mutant(
    "trpo",
    "This is TRPO's older bound, with max|A| and the square of the largest TV. It is never smaller (2.10).",
)
def _(prob_old, prob, occupancy, advantage, gamma):
    return 2 * _factor(gamma) * advantage.abs().max() * _tv(prob_old, prob).max() ** 2


@average_tv_penalty.mutant(
    "one_power_of_the_horizon",
    "One 1 / (1 − γ) sums the rewards, the other sums the steps by which the states drift apart: the denominator is "
    "squared.",
)
def _(prob_old, prob, occupancy, advantage, gamma):
    return 2 * gamma / (1 - gamma) * _xi(prob, advantage) * (occupancy * _tv(prob_old, prob)).sum()


@average_tv_penalty.mutant(
    "gamma_forgotten",
    "The factor γ is missing in the numerator. With γ = 0 only the first step counts, no state drifts, and the gap "
    "is zero.",
)
def _(prob_old, prob, occupancy, advantage, gamma):
    return 2 / (1 - gamma) ** 2 * _xi(prob, advantage) * (occupancy * _tv(prob_old, prob)).sum()


@average_tv_penalty.mutant(
    "factor_two_forgotten",
    "The 2 is missing. Two occupancies differ by what one gains and by what it loses elsewhere.",
)
def _(prob_old, prob, occupancy, advantage, gamma):
    return gamma / (1 - gamma) ** 2 * _xi(prob, advantage) * (occupancy * _tv(prob_old, prob)).sum()


@average_tv_penalty.mutant(
    "xi_squared",
    "ξ enters once. With its square the penalty is not in the units of the return any more.",
)
def _(prob_old, prob, occupancy, advantage, gamma):
    return _factor(gamma) * _xi(prob, advantage) ** 2 * (occupancy * _tv(prob_old, prob)).sum()


@average_tv_penalty.mutant(
    "xi_detached",
    "The value is right, but ξ is cut off from the gradient: `prob` enters the penalty there as well as in TV.",
)
def _(prob_old, prob, occupancy, advantage, gamma):
    return _factor(gamma) * _xi(prob, advantage).detach() * (occupancy * _tv(prob_old, prob)).sum()


@average_tv_penalty.mutant(
    "one_penalty_per_state",
    "One number was asked for: the weighted total variations still have to be summed over the states.",
)
def _(prob_old, prob, occupancy, advantage, gamma):
    return _factor(gamma) * _xi(prob, advantage) * occupancy * _tv(prob_old, prob)


@average_tv_penalty.mutant(
    "overlap_for_tv",
    "This weighs how much the two policies have in common, Σ min(π, π′). The total variation is one minus that.",
)
def _(prob_old, prob, occupancy, advantage, gamma):
    return _factor(gamma) * _xi(prob, advantage) * (occupancy * torch.minimum(prob, prob_old).sum(-1)).sum()


# ---------------------------------------------------------------- right answers


@average_tv_penalty.accepts("einsum, and norms")
def _(prob_old, prob, occupancy, advantage, gamma):
    xi = torch.linalg.vector_norm(torch.einsum("sa,sa->s", prob, advantage), ord=torch.inf)
    moved = torch.einsum("s,sa->", occupancy, (prob - prob_old).abs())
    return xi * moved * gamma / (1 - gamma) ** 2


@average_tv_penalty.accepts("the total variation as what is not in common")
def _(prob_old, prob, occupancy, advantage, *, gamma):
    apart = 1 - torch.minimum(prob, prob_old).sum(-1)
    gain = (prob * advantage).sum(-1)
    return 2 * gamma * torch.maximum(gain.max(), -gain.min()) * (occupancy @ apart) / (1 - gamma) ** 2


@average_tv_penalty.accepts("the total variation as the mass that arrives")
def _(prob_old, prob, occupancy, advantage, gamma):
    arrives = torch.relu(prob - prob_old).sum(-1)
    return 2 * gamma * (prob * advantage).sum(-1).abs().amax() * torch.dot(occupancy, arrives) / (1 - gamma) ** 2


@average_tv_penalty.accepts("state by state, in a loop")
def _(prob_old, prob, occupancy, advantage, gamma):
    xi, average = 0, 0
    for old, new, visited, a in zip(prob_old, prob, occupancy, advantage, strict=True):
        xi = max(xi, (new @ a).abs())
        average = average + visited * (new - old).abs().sum() / 2
    return 2 * xi * gamma / (1 - gamma) ** 2 * average
