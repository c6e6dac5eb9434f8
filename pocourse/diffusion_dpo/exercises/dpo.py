"""DPO's loss from four log-probabilities, for section 3."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from pocourse.diffusion_dpo.exercises._shared import (
    as_if,
    belongs,
    each_by_itself,
    margin,
    not_log_two,
    off,
    one_each,
    pair,
    row,
    signed,
    suspected,
    table,
    told,
    unless_a_number,
    words,
)
from pocourse.lesson import trial
from pocourse.lesson.exercises import exercise

dpo = exercise(
    "diffusion_dpo.dpo",
    title="The policy is the reward",
    section="3",
    difficulty=2,
    minutes=8,
    task="""
The best policy on a leash of β carries its reward with it: r(y) is β log( π(y) / π_ref(y) ), up to a constant that
drops out of every comparison. So take a policy π_θ at its word, read the reward off it, and ask how surprising it is
that y_w was chosen and y_l rejected:

**L = −log sigmoid(z), with z = β [ log( π_θ(y_w) / π_ref(y_w) ) − log( π_θ(y_l) / π_ref(y_l) ) ]**

Write it. `pairwise_dpo(logp_chosen, logp_rejected, logp_ref_chosen, logp_ref_rejected, beta=0.1)` receives

- `logp_chosen`, a tensor of any shape: log π_θ(y_w), one number for each pair. The gradient has to flow back through
  it;
- `logp_rejected`, of the same shape and dtype: log π_θ(y_l). Through it as well;
- `logp_ref_chosen`, likewise: log π_ref(y_w). The reference is data;
- `logp_ref_rejected`, likewise: log π_ref(y_l);
- `beta`, a positive number: β

and returns a tensor of the same shape and dtype, one loss L for each pair: no mean, which is the caller's business. z
can be −1000. The loss is then 1000, and not infinite.
""",
    stub='''
def pairwise_dpo(logp_chosen, logp_rejected, logp_ref_chosen, logp_ref_rejected, beta=0.1):
    """One DPO loss per pair."""
    ...
''',
    hints=(
        "Two questions, one after the other. How much likelier has θ made each of the two outcomes than it was for the "
        "reference? And by how much more the chosen one? What are z and L where θ is the reference itself?",
        "The logarithm of a quotient is a difference of logarithms, and those you have: no `exp` is needed. β belongs "
        "inside of the sigmoid, for it turns a gain in likelihood into a reward. In front of the loss it would be a "
        "step size.",
        "`torch.nn.functional.logsigmoid(z)` is log sigmoid(z), and is right as well where `torch.sigmoid(z)` is 0 in "
        "the computer and its logarithm −∞. Hand it β times the gain of the chosen outcome less that of the rejected "
        "one, and mind the sign of the loss.",
    ),
    solution="""
def pairwise_dpo(logp_chosen, logp_rejected, logp_ref_chosen, logp_ref_rejected, beta=0.1):
    gain_chosen = logp_chosen - logp_ref_chosen
    gain_rejected = logp_rejected - logp_ref_rejected
    return -torch.nn.functional.logsigmoid(beta * (gain_chosen - gain_rejected))
""",
    after="""
Nothing is sampled here, no reward is learned, and Z is never computed. The first value that a run prints must be log 2
(5.6): where it is not, θ and the reference are not the same network, and a dropout left on is enough. Each pair pulls
with β sigmoid(−z), at most β, and less the better it is ordered (5.8). And the loss sees one difference only. Let both
log-probabilities fall, the rejected one further, and it falls as well: the winner itself may become rarer (5.10).
""",
    parameters=("logp_chosen", "logp_rejected", "logp_ref_chosen", "logp_ref_rejected"),
    options=("beta",),
    returns=one_each("pair"),
    probes=lambda: [
        (*_columns(_pairs()),),
        (*_columns(_pairs()), {"beta": 0.5}),
        (*_columns(_pairs()), {"beta": 3.0}),
        # A table: whatever is right in a row is not taken for a loop over one axis.
        (*(x.reshape(2, 3) for x in _columns(_pairs())), {"beta": 0.5}),
        (*_columns(_far_out()), {"beta": 1.0}),
        (*_columns(_pairs() - 5e4), {"beta": 0.5}),
        (*(x[0] for x in _columns(_pairs())), {"beta": 0.5}),
        (*_columns(_pairs()[:, [2, 3, 2, 3]]), {"beta": 0.5}),
    ],
    differentiable=(0, 1),
)


def _columns(pairs: Tensor) -> list[Tensor]:
    """The four arguments, from a table with a row for each pair: θ chosen, θ rejected, reference chosen, rejected."""
    return [x.clone() for x in pairs.unbind(-1)]


def _pairs() -> Tensor:
    """Six pairs with both signs of z."""
    return table(
        (-1.0, -2.0, -2.0, -1.5),
        (-3.4, -0.5, -2.1, -0.9),
        (-0.7, -4.1, -1.3, -2.2),
        (-2.5, -2.5, -2.5, -3.0),
        (-6.0, -1.0, -4.0, -3.0),
        (-1.5, -3.0, -0.4, -0.9),
    )


def _by_hand() -> Tensor:
    """Odds of 9 to 1 for the chosen outcome, and then against it."""
    return table((0.6, 0.1, 0.2, 0.3), (0.1, 0.6, 0.3, 0.2)).log()


def _far_out() -> Tensor:
    """Pairs with z = −1000 and z = 1000 at β = 1."""
    return table((-1200.0, -100.0, -150.0, -50.0), (-100.0, -1200.0, -50.0, -150.0))


def _said(pairs: Tensor, beta: float) -> list[str]:
    return [
        f"log π_θ = {words(x[:2])} and log π_ref = {words(x[2:])}, the chosen outcome first, with β = {signed(beta)}"
        for x in pairs.reshape(-1, 4)
    ]


def _losses(answer, pairs: Tensor, beta: float) -> Tensor:
    return answer(*_columns(pairs), beta=beta)


def _slopes(answer, pairs: Tensor, beta: float) -> tuple[Tensor, Tensor, Tensor]:
    """The losses, and their slopes in log π_θ(y_w) and in log π_θ(y_l)."""
    chosen, rejected, *reference = _columns(pairs)
    chosen.requires_grad_(), rejected.requires_grad_()
    losses = answer(chosen, rejected, *reference, beta=beta)
    up = trial.derivative(losses, chosen, "logp_chosen")
    # A derivative takes its graph with it: a second pass of its own.
    again = answer(chosen, rejected, *reference, beta=beta)
    return losses.detach(), up, trial.derivative(again, rejected, "logp_rejected")


@dpo.requires("one loss per pair, in a batch of any shape")
def _(answer):
    return each_by_itself(
        answer,
        *_columns(_pairs()),
        at=_said(_pairs(), 0.1),
        one="pair",
        what="loss",
        advice="No pair may look at the others: no mean over them, and no normalising.",
    )


@dpo.requires("log 2 at the reference, for every pair and every β")
def _(answer):
    pairs = _pairs()[:, [2, 3, 2, 3]]
    for beta in (0.1, 1.0, 5000.0):
        mine = _losses(answer, pairs, beta)
        problem = told(
            mine,
            math.log(2),
            [f"for {x}," for x in _said(pairs, beta)],
            "θ is the reference here and prefers neither outcome: z = 0, the comparison is the toss of a coin, and "
            "−log ½ = 0.6931. However likely y_w and y_l are by themselves plays no role."
            f"{not_log_two(mine[0], beta)}",
        )
        if problem:
            return problem
    return None


# What the z of an answer says, where it should be log 3 at β = ½.
SUSPECTS = {
    -math.log(3): "Its sign is the opposite.",
    2 * math.log(3): "It is twice too large: is β in it?",
    4 * math.log(3): "It is four times too large: was it divided by β?",
    math.log(3) / 2: "It is half of what it should be.",
}


@dpo.requires("two pairs, by hand")
def _(answer):
    for dtype in (torch.float64, torch.float32):
        mine = _losses(answer, _by_hand().to(dtype), 0.5)
        problem = told(
            mine,
            row(math.log(4 / 3), math.log(4)),
            [
                "for π_θ = (0.6, 0.1) and π_ref = (0.2, 0.3), the chosen outcome first, with β = 0.5,",
                "for π_θ = (0.1, 0.6) and π_ref = (0.3, 0.2), the chosen outcome first, with β = 0.5,",
            ],
            [
                "By hand: y_w has become 3 times as likely and y_l a third as likely, which is 9 to 1, and to the "
                "power of β = ½ it is 3 to 1 for y_w. The chance of the choice is ¾, −log ¾ = 0.2877, and z = log 3 = "
                f"1.099.{belongs(mine[0])}{suspected(margin(mine[0]), SUSPECTS)}",
                "By hand: the same two outcomes with the other one chosen, 1 to 3 for y_w. The chance of the choice is "
                "¼, and −log ¼ = 1.386. Which sign has z?",
            ],
        )
        if problem:
            return problem
    return None


@dpo.requires("chosen and rejected exchanged: the two chances sum to 1")
def _(answer):
    for beta in (0.1, 2.0):
        there, back = _losses(answer, _pairs(), beta), _losses(answer, _pairs()[:, [1, 0, 3, 2]], beta)
        chances = (-there).exp() + (-back).exp()
        if (index := off(chances, torch.ones_like(chances))) is not None:
            got, must = pair(chances[index], 1.0)
            return (
                f"for {_said(_pairs(), beta)[index]}, your loss is {signed(there[index])}, and with the two outcomes "
                f"exchanged it is {signed(back[index])}. exp(−L) is the chance that the pair is ordered this way: the "
                f"two sum to {got}, and it must be {must}. Exchanged, z turns its sign and nothing else (5.7)."
            )
    return None


@dpo.requires("only what an outcome has gained over the reference counts")
def _(answer):
    for columns, seen in (([0, 2], "y_w"), ([1, 3], "y_l")):
        once, moved = _losses(answer, _pairs(), 0.5), _pairs()
        moved[:, columns] -= 4
        mine = _losses(answer, moved, 0.5)
        if (index := off(mine, once)) is not None:
            got, must = pair(mine[index], once[index])
            return (
                f"for {_said(_pairs(), 0.5)[index]}, your loss is {must}, and with 4 less in both log-probabilities of "
                f"{seen}, that of θ and that of the reference, it is {got}. π_θ({seen}) / π_ref({seen}) is the same: "
                "how rare an outcome is must not matter, only what θ has made of it."
            )
    return None


@dpo.requires("both outcomes likelier by the same factor: nothing changes")
def _(answer):
    for columns, seen in (([0, 1], "θ"), ([2, 3], "the reference")):
        once, moved = _losses(answer, _pairs(), 0.5), _pairs()
        moved[:, columns] += 3
        mine = _losses(answer, moved, 0.5)
        if (index := off(mine, once)) is not None:
            got, must = pair(mine[index], once[index])
            return (
                f"for {_said(_pairs(), 0.5)[index]}, your loss is {must}, and with 3 added to both log-probabilities "
                f"of {seen} it is {got}. Both outcomes gain alike, or both lose alike, and z is the difference."
            )
    return None


@dpo.requires("twice the β is twice every logarithm")
def _(answer):
    for beta in (0.1, 1.5):
        once, twice = _losses(answer, 2 * _pairs(), beta), _losses(answer, _pairs(), 2 * beta)
        if (index := off(twice, once)) is not None:
            got, must = pair(twice[index], once[index])
            return (
                f"for {_said(2 * _pairs(), beta)[index]}, your loss is {must}{as_if(once[index])}; with all four "
                f"logarithms halved and β doubled it is {got}{as_if(twice[index])}. z is a product of β and a "
                "difference, to the first power each, and the loss sees nothing but z."
            )
    return None


@dpo.requires("the slopes at the reference are −β / 2 and β / 2")
def _(answer):
    pairs = _pairs()[:, [2, 3, 2, 3]]
    for beta in (0.1, 3.0):
        _, up, down = _slopes(answer, pairs, beta)
        for mine, sign, name in ((up, -1, "chosen"), (down, 1, "rejected")):
            problem = told(
                mine,
                sign * beta / 2,
                [f"for {x}," for x in _said(pairs, beta)],
                "Every run begins here, where sigmoid(−z) is ½. The loss must fall where the chosen outcome becomes "
                "likelier, and where the rejected one becomes rarer.",
                f"slope in log π_θ of the {name} outcome",
            )
            if problem:
                return problem
    return None


@dpo.requires("each pair pulls with β times the chance of the wrong order")
def _(answer):
    for beta in (0.5, 2.0):
        losses, up, down = _slopes(answer, _pairs(), beta)
        wrong_order = -torch.expm1(-losses)
        for mine, sign, name in ((up, -1, "chosen"), (down, 1, "rejected")):
            wanted = sign * beta * wrong_order
            if (index := off(mine, wanted)) is not None:
                got, must = pair(mine[index], wanted[index])
                return (
                    f"for {_said(_pairs(), beta)[index]}, your loss L is {signed(losses[index])}, and its slope in log "
                    f"π_θ of the {name} outcome is {got}. The chance of the wrong order is 1 − exp(−L) = "
                    f"{signed(wrong_order[index])}, and with it the slope must be {must} (5.8)."
                )
    return None


@dpo.requires("comparisons by Bradley and Terry hold the Gibbs policy where it is")
def _(answer):
    reference, reward, beta = row(0.4, 0.3, 0.2, 0.1), row(0.0, 1.0, -0.5, 2.0), 0.8
    best = (reference.log() + reward / beta).log_softmax(-1)
    logp = best.clone().requires_grad_()
    w, l = torch.tensor([(i, j) for i in range(4) for j in range(4) if i != j]).T  # noqa: E741
    chance = (reward[w] - reward[l]).sigmoid()
    losses = answer(logp[w], logp[l], reference.log()[w], reference.log()[l], beta=beta)
    return told(
        trial.derivative(chance * losses / 6, logp, "logp_chosen"),
        0.0,
        [
            "for four outcomes with π_ref = (0.4, 0.3, 0.2, 0.1) and r = (0, 1, −0.5, 2), all pairs of them compared "
            "with the chances sigmoid(r − r′), and θ the Gibbs policy of β = 0.8 (5.9): in log π_θ of outcome "
            f"{i + 1}"
            for i in range(4)
        ],
        "There θ's own reward is the one that the comparisons come from. Whatever is said about the pairs, nothing is "
        "left to learn, and the slopes of all pairs together cancel.",
        "mean slope",
    )


@dpo.requires("far out: the loss is 1000 at z = −1000, and 0 at z = 1000")
def _(answer):
    for beta in (1.0, 50.0):
        pairs, z = _far_out(), 1000 * beta
        losses, up, down = _slopes(answer, pairs, beta)
        at = [f"for {x}," for x in _said(pairs, beta)]
        why = [
            f"z is {signed(-z)} here: the loss is a straight line there, −z, and never infinite. sigmoid(z) is 0 in "
            "the computer, exp(−z) is ∞: let `torch.nn.functional.logsigmoid` take both steps at once.",
            f"z is {signed(z)} here: the pair is ordered as well as can be, nothing is lost and nothing pulls.",
        ]
        problem = (
            told(losses, row(z, 0.0), at, why)
            or told(up, row(-beta, 0.0), at, why, "slope in log π_θ of the chosen outcome")
            or told(down, row(beta, 0.0), at, why, "slope in log π_θ of the rejected outcome")
        )
        if problem:
            return problem
    return None


@dpo.requires("as exact for long texts, with log-probabilities of −50,000")
def _(answer):
    once, far = _losses(answer, _pairs(), 0.5), _losses(answer, _pairs() - 5e4, 0.5)
    if (index := off(far, once)) is None:
        return None
    got, must = pair(far[index], once[index])
    return (
        f"for {_said(_pairs(), 0.5)[index]}, your loss is {must}, and with 50,000 less in every logarithm, all in "
        f"torch.float64, it is {got}{unless_a_number(got)}. Differences of logarithms count. Probabilities are 0 "
        "there, and single precision has three digits left behind the point: use neither."
    )


# ---------------------------------------------------------------- wrong answers


def _gains(logp_chosen, logp_rejected, logp_ref_chosen, logp_ref_rejected):
    """What both outcomes have gained, for answers that are wrong elsewhere."""
    return logp_chosen - logp_ref_chosen, logp_rejected - logp_ref_rejected


def _margin(*logs):
    chosen, rejected = _gains(*logs)
    return chosen - rejected


@dpo.mutant(
    "reference_forgotten",
    "Without the reference an outcome is rewarded for being likely, and not for having become likelier. The loss at "
    "the start is not log 2, and nothing is left of the leash.",
)
def _(logp_chosen, logp_rejected, logp_ref_chosen, logp_ref_rejected, beta=0.1):
    return -functional.logsigmoid(beta * (logp_chosen - logp_rejected))


@dpo.mutant(
    "sign_swapped",
    "Here z is the gain of the rejected outcome less that of the chosen one. The policy would learn to do what was "
    "rejected.",
)
def _(*logs, beta=0.1):
    return -functional.logsigmoid(-beta * _margin(*logs))


@dpo.mutant(
    "beta_outside",
    "Here β stands in front of the loss, where it is a step size. Inside of the sigmoid it says how much reward a gain "
    "in likelihood is, and with that where the training ends.",
)
def _(*logs, beta=0.1):
    return -beta * functional.logsigmoid(_margin(*logs))


@dpo.mutant(
    "log_of_sigmoid",
    "The formula is right, and done in two steps: for z below −709 the sigmoid is 0 in the computer, and its logarithm "
    "−∞. exp(−z) is ∞ there, so log(1 + exp(−z)) does no better. `logsigmoid` takes both steps at once.",
)
def _(*logs, beta=0.1):
    return -torch.log(torch.sigmoid(beta * _margin(*logs)))


@dpo.mutant(
    "absolute_value_inside",
    "This max(−z, 0) + log(1 + exp(−|z|)) never overflows and has every value right. Its slope at z = 0 is made of two "
    "kinks, and autograd picks 0: at the reference, where every run begins, nothing moves.",
)
def _(*logs, beta=0.1):
    z = beta * _margin(*logs)
    return torch.relu(-z) + torch.log1p(torch.exp(-z.abs()))


@dpo.mutant(
    "chosen_after_the_logarithm",
    "`where` puts the right value in the place of an infinite one, and comes too late for the slope: 0 × ∞ is nan. "
    "`logsigmoid` needs no repair.",
)
def _(*logs, beta=0.1):
    z = beta * _margin(*logs)
    return torch.where(z > -100, -torch.log(torch.sigmoid(z)), -z)


@dpo.mutant("mean_taken", "The mean is the caller's business: asked for is one loss per pair.")
def _(*logs, beta=0.1):
    return -functional.logsigmoid(beta * _margin(*logs)).mean()


@dpo.mutant(
    "margins_averaged_first",
    "The mean of all z went into the sigmoid. A pair that is ordered well then pays for one that is not, and no pair "
    "has a weight of its own.",
)
def _(*logs, beta=0.1):
    z = beta * _margin(*logs)
    return -functional.logsigmoid(z.mean().expand_as(z))


@dpo.mutant(
    "reference_added",
    "The difference of the reference was added in place of subtracted. π_ref stands below the fraction line: log "
    "π_θ(y) less log π_ref(y), for both outcomes.",
)
def _(logp_chosen, logp_rejected, logp_ref_chosen, logp_ref_rejected, beta=0.1):
    return -functional.logsigmoid(beta * (logp_chosen - logp_rejected + logp_ref_chosen - logp_ref_rejected))


@dpo.mutant("beta_forgotten", "Without β this is right for β = 1 only.")
def _(*logs, beta=0.1):
    return -functional.logsigmoid(_margin(*logs))


@dpo.mutant(
    "beta_inverted",
    "Rewards are divided by β where a policy is made of them. Here a reward is read off a policy, and multiplied.",
)
def _(*logs, beta=0.1):
    return -functional.logsigmoid(_margin(*logs) / beta)


@dpo.mutant(
    "half_of_beta",
    "The factor one half belongs to the denoising errors of section 5. Between log-probabilities there is none.",
)
def _(*logs, beta=0.1):
    return -functional.logsigmoid(0.5 * beta * _margin(*logs))


@dpo.mutant(
    "minus_forgotten",
    "This is the log-likelihood of the comparison, which is maximised. The loss is minus that.",
)
def _(*logs, beta=0.1):
    return functional.logsigmoid(beta * _margin(*logs))


@dpo.mutant("z_returned", "This is −z. Without the sigmoid, pairs in the right order pull as much as the others.")
def _(*logs, beta=0.1):
    return -beta * _margin(*logs)


@dpo.mutant(
    "logarithm_forgotten",
    "This is the chance of the wrong order, sigmoid(−z). The loss is −log of the chance of the right one.",
)
def _(*logs, beta=0.1):
    return torch.sigmoid(-beta * _margin(*logs))


@dpo.mutant(
    "differences_of_ratios",
    "The ratios π_θ / π_ref were subtracted, and not their logarithms. Nor can exp be taken of everything that comes.",
)
def _(*logs, beta=0.1):
    chosen, rejected = _gains(*logs)
    return -functional.logsigmoid(beta * (chosen.exp() - rejected.exp()))


@dpo.mutant(
    "through_probabilities",
    "Right on paper: exp of a log-probability of a long text is 0 in the computer, and 0 / 0 is nan. Stay with the "
    "logarithms.",
)
def _(logp_chosen, logp_rejected, logp_ref_chosen, logp_ref_rejected, beta=0.1):
    chosen, rejected = logp_chosen.exp() / logp_ref_chosen.exp(), logp_rejected.exp() / logp_ref_rejected.exp()
    return -functional.logsigmoid(beta * (chosen / rejected).log())


@dpo.mutant(
    "quotient_of_logarithms",
    "The logarithm of a quotient is the *difference* of the logarithms, not their quotient.",
)
def _(logp_chosen, logp_rejected, logp_ref_chosen, logp_ref_rejected, beta=0.1):
    return -functional.logsigmoid(beta * (logp_chosen / logp_ref_chosen - logp_rejected / logp_ref_rejected))


@dpo.mutant(
    "winner_only",
    "The rejected outcome is missing. A comparison is about two, and only the difference of their rewards is known.",
)
def _(logp_chosen, logp_rejected, logp_ref_chosen, logp_ref_rejected, beta=0.1):
    return -functional.logsigmoid(beta * (logp_chosen - logp_ref_chosen + 0 * logp_rejected))


@dpo.mutant(
    "each_outcome_by_itself",
    "Two sigmoids, one that asks whether the chosen outcome has gained and one whether the rejected has lost. A "
    "comparison does not know that: both may have gained.",
)
def _(*logs, beta=0.1):
    chosen, rejected = _gains(*logs)
    return -functional.logsigmoid(beta * chosen) - functional.logsigmoid(-beta * rejected)


@dpo.mutant(
    "policy_detached",
    "The values are right, and θ is cut off from the gradient: nothing would ever be learned. Only the reference is "
    "data.",
)
def _(logp_chosen, logp_rejected, logp_ref_chosen, logp_ref_rejected, beta=0.1):
    z = beta * _margin(logp_chosen.detach(), logp_rejected.detach(), logp_ref_chosen, logp_ref_rejected)
    return -functional.logsigmoid(z)


@dpo.mutant(
    "rejected_detached",
    "Only the chosen outcome carries gradient. The rejected one has to become rarer as well.",
)
def _(logp_chosen, logp_rejected, logp_ref_chosen, logp_ref_rejected, beta=0.1):
    z = beta * _margin(logp_chosen, logp_rejected.detach(), logp_ref_chosen, logp_ref_rejected)
    return -functional.logsigmoid(z)


@dpo.mutant(
    "hinge",
    "The hinge, 1 − z where that is positive, is a relative of the loss and no likelihood of anything: flat from z = 1 "
    "on, and 1 at the reference.",
)
def _(*logs, beta=0.1):
    return torch.relu(1 - beta * _margin(*logs))


@dpo.mutant(
    "square_around_a_margin",
    "This is IPO, a parabola that wants a gain of 1 / (2 β) from every pair: another loss, which pulls back beyond.",
)
def _(*logs, beta=0.1):
    return (_margin(*logs) - 1 / (2 * beta)) ** 2


@dpo.mutant(
    "labels_smoothed",
    "A tenth of the labels was taken for wrong. It may help against noise, and it is not asked for: far out the loss "
    "is 100 where it should be 0.",
)
def _(*logs, beta=0.1):
    z = beta * _margin(*logs)
    return -0.9 * functional.logsigmoid(z) - 0.1 * functional.logsigmoid(-z)


@dpo.mutant(
    "likelihood_of_the_winner_added",
    "The negative log-likelihood of the chosen outcome was added. That holds the winner up, and is another loss.",
)
def _(logp_chosen, *others, beta=0.1):
    return -functional.logsigmoid(beta * _margin(logp_chosen, *others)) - 0.1 * logp_chosen


@dpo.mutant("base_two", "With the logarithm to the base 2 the loss is in bits, and 1 at the reference.")
def _(*logs, beta=0.1):
    return -functional.logsigmoid(beta * _margin(*logs)) / math.log(2)


@dpo.mutant(
    "z_held_between_two_numbers",
    "Holding z between −20 and 20 keeps everything finite, and makes the worst pairs flat: they pull no more.",
)
def _(*logs, beta=0.1):
    return -functional.logsigmoid((beta * _margin(*logs)).clamp(-20, 20))


@dpo.mutant(
    "single_precision_inside",
    "Single precision keeps seven digits. Where the logarithms are tens of thousands, few are left of a difference.",
)
def _(*logs, beta=0.1):
    return -functional.logsigmoid(beta * _margin(*(x.float() for x in logs))).to(logs[0].dtype)


@dpo.mutant(
    "loop_over_one_axis",
    "A loop over the pairs fails where there is a single one, without an axis. `logsigmoid` takes any shape.",
)
def _(*logs, beta=0.1):
    return torch.stack([-functional.logsigmoid(beta * _margin(*each)) for each in zip(*logs, strict=True)])


# ---------------------------------------------------------------- right answers


@dpo.accepts("the policy's odds less the reference's, and softplus")
def _(logp_chosen, logp_rejected, logp_ref_chosen, logp_ref_rejected, beta=0.1):
    policy, reference = logp_chosen - logp_rejected, logp_ref_chosen - logp_ref_rejected
    return functional.softplus(-beta * (policy - reference))


@dpo.accepts("a softmax over the two rewards")
def _(logp_chosen, logp_rejected, logp_ref_chosen, logp_ref_rejected, *, beta=0.1):
    rewards = torch.stack((beta * (logp_chosen - logp_ref_chosen), beta * (logp_rejected - logp_ref_rejected)))
    return -rewards.log_softmax(0)[0]


@dpo.accepts("logistic regression with the label 1")
def _(logp_chosen, logp_rejected, logp_ref_chosen, logp_ref_rejected, beta=0.1):
    z = beta * (logp_chosen - logp_ref_chosen - logp_rejected + logp_ref_rejected)
    return functional.binary_cross_entropy_with_logits(z, torch.ones_like(z), reduction="none")


@dpo.accepts("log of e⁰ + e⁻ᶻ")
def _(logp_chosen, logp_rejected, logp_ref_chosen, logp_ref_rejected, beta=0.1):
    z = beta * (logp_chosen - logp_ref_chosen) - beta * (logp_rejected - logp_ref_rejected)
    return torch.logaddexp(torch.zeros_like(z), -z)
