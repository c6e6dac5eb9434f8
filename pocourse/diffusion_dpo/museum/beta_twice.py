"""Beta in the rewards, and beta once more in the sigmoid."""

import math

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from pocourse.lesson.exercises import exercise
from pocourse.lesson.museum import Suspect, catches, clears, piece, yes_or_no
from pocourse.lesson.wrong import Wrong

# ---------------------------------------------------------------- the wrong code, ours


def beta_twice(logp_chosen, logp_rejected, logp_ref_chosen, logp_ref_rejected, beta):
    reward_chosen = beta * (logp_chosen - logp_ref_chosen)
    reward_rejected = beta * (logp_rejected - logp_ref_rejected)
    return -logsigmoid(beta * (reward_chosen - reward_rejected))


# ---------------------------------------------------------------- the task


def lead(logp_chosen, logp_rejected, logp_ref_chosen, logp_ref_rejected):
    return (logp_chosen - logp_ref_chosen) - (logp_rejected - logp_ref_rejected)


def once(*logps_and_beta):
    *logps, beta = logps_and_beta
    return -logsigmoid(beta * lead(*logps))


def rewards_first(logp_chosen, logp_rejected, logp_ref_chosen, logp_ref_rejected, beta):
    reward_chosen = beta * (logp_chosen - logp_ref_chosen)
    reward_rejected = beta * (logp_rejected - logp_ref_rejected)
    return -logsigmoid(reward_chosen - reward_rejected)


def powers(logp_chosen, logp_rejected, logp_ref_chosen, logp_ref_rejected, beta):
    """The chance of the chosen outcome, from powers of the ratios."""
    chosen, rejected = (logp_chosen - logp_ref_chosen).exp() ** beta, (logp_rejected - logp_ref_rejected).exp() ** beta
    return -(chosen / (chosen + rejected)).log()


def cross_entropy(*logps_and_beta):
    *logps, beta = logps_and_beta
    z = beta * lead(*logps)
    return binary_cross_entropy_with_logits(z, torch.ones_like(z))


def divided_afterwards(*logps_and_beta):
    """The loss over beta: another step size, the same minimum."""
    return once(*logps_and_beta) / logps_and_beta[-1]


def less_log_two(*logps_and_beta):
    return 10 * (once(*logps_and_beta) - math.log(2))


def square_of_the_chance(*logps_and_beta):
    """The squared distance of the chance from what happened."""
    *logps, beta = logps_and_beta
    return (1 - (beta * lead(*logps)).sigmoid()) ** 2


def squared_at_once(*logps_and_beta):
    *logps, beta = logps_and_beta
    return -logsigmoid(beta**2 * lead(*logps))


def halved(*logps_and_beta):
    *logps, beta = logps_and_beta
    return -logsigmoid(0.5 * beta * lead(*logps))


def doubled(*logps_and_beta):
    *logps, beta = logps_and_beta
    return -logsigmoid(2 * beta * lead(*logps))


def divided(*logps_and_beta):
    *logps, beta = logps_and_beta
    return -logsigmoid(lead(*logps) / beta)


def outside(*logps_and_beta):
    """Beta in front of the loss, and none in the margin."""
    *logps, beta = logps_and_beta
    return -beta * logsigmoid(lead(*logps))


def a_tenth(*logps_and_beta):
    """The default in place of the beta that is given."""
    return once(*logps_and_beta[:-1], 0.1)


def of_the_policy_alone(logp_chosen, logp_rejected, logp_ref_chosen, logp_ref_rejected, beta):
    return -logsigmoid(beta * (logp_chosen - logp_rejected) - (logp_ref_chosen - logp_ref_rejected))


def minus_forgotten(*logps_and_beta):
    return -once(*logps_and_beta)


leashed = exercise(
    "diffusion_dpo.catch_beta_twice",
    title="Catch another leash than the one that was set",
    section="Bug museum",
    difficulty=3,
    minutes=10,
    task="""
β says how far the policy may go from its reference for a given preference. A loss with another β in it trains as well,
falls as far and orders as many pairs rightly. What comes out is another policy.

Write `leashed(loss)`. `loss(logp_chosen, logp_rejected, logp_ref_chosen, logp_ref_rejected, beta)` takes
log-probabilities of n pairs, of shape [n], and returns one loss per pair, or their mean or sum. Return `True` if the
policy with the least expected loss is the Gibbs policy of that β, whatever β is; otherwise `False`.

Two outcomes are enough. Let the first win three times out of four. Their rewards then differ by log 3, and the Gibbs
policy's log-ratios log π/π_ref by log 3 / β (5.9). A loss may be multiplied by something, or be another one with the
same minimum: its *values* prove nothing.
""",
    stub="""
def leashed(loss):
    ...
""",
    hints=(
        "The expected loss is 3/4 of the loss when the first outcome is chosen and 1/4 of that when the second is. As "
        "a function of how far the policy has moved it has a minimum. Where must it be?",
        "Keep the second outcome at its reference and raise the first by h: the least value has to be at "
        "h = log 3 / β. Compare with a smaller and a larger h.",
        "Take a β below 1 and one above, other than 0.1: with one alone two wrong codes pass, at β = 1 nearly all. Let "
        "both outcomes have different reference log-probabilities. `h * 0.9` and `h * 1.1` are near enough.",
    ),
    solution="""
def leashed(loss):
    ref = torch.tensor([-1.0, -3.0]).double()
    def expected(h, beta):
        a, b = (ref[:1] + h, ref[:1]), (ref[1:], ref[1:])
        return 3 * loss(a[0], b[0], a[1], b[1], beta).sum() + loss(b[0], a[0], b[1], a[1], beta).sum()

    for beta in (0.2, 3.0):
        best, less, more = (expected(x * math.log(3) / beta, beta) for x in (1, 0.9, 1.1))
        if not best < min(less, more):
            return False
    return True
""",
    after="""
**β cannot be read off a training curve.** Comparisons fix the margin z, and with it the least loss and the best
accuracy (5.2). Which policy has that margin is what β says: log π/π_ref = z/β. So both codes end with one loss and one
accuracy, and only the divergence from the reference tells them apart. Log it.

A test at the reference is no help: with margin 0 the loss is log 2 for every β, and the published code had that very
test beside it.
""",
    parameters=("loss",),
    returns=yes_or_no,
    probes=lambda: [
        (code,)
        for code in (
            once,
            cross_entropy,
            divided_afterwards,
            less_log_two,
            square_of_the_chance,
            beta_twice,
            halved,
            doubled,
            divided,
            outside,
            a_tenth,
            of_the_policy_alone,
            minus_forgotten,
            # These do nothing sensible: they tell tests apart that are wrong in different ways.
            lambda *x: once(*x) * 0 + math.log(2),
            lambda *x: -logsigmoid(lead(*x[:-1])),
            lambda *x: once(*x) + 1e-3 * x[-1],
            lambda w, j, rw, rj, beta: -logsigmoid(beta * (w - j)),
            lambda w, j, rw, rj, beta: beta * (j - w),
            lambda *x: once(*x[:-1], x[-1] if x[-1] < 1 else x[-1] ** 2),
            lambda *x: once(*x[:-1], x[-1] if x[-1] > 1 else x[-1] ** 2),
        )
    ],
)

RIGHT = "whose least expected loss is at the Gibbs policy of β"


@leashed.requires("clears DPO, however it is written")
def _(answer):
    return clears(
        answer,
        [
            Suspect("−log σ of β times the lead", once, RIGHT),
            Suspect("rewards first, and their difference in the sigmoid", rewards_first, RIGHT),
            Suspect("chances from powers of the ratios", powers, RIGHT),
            Suspect("the cross-entropy of margins and ones", cross_entropy, RIGHT),
        ],
    )


@leashed.requires("clears other values with the same minimum")
def _(answer):
    return clears(
        answer,
        [
            Suspect("the loss divided by β", divided_afterwards, RIGHT),
            Suspect("ten times the loss less log 2", less_log_two, RIGHT),
            Suspect("the squared distance of the chance from what happened", square_of_the_chance, RIGHT),
        ],
    )


@leashed.requires("catches the published mistake")
def _(answer):
    why = "whose least expected loss is at the Gibbs policy of β²"
    return catches(
        answer,
        [
            Suspect("the published mistake", beta_twice, why),
            Suspect("a margin with β² in it", squared_at_once, why),
        ],
    )


@leashed.requires("catches a factor that is lost or found")
def _(answer):
    return catches(
        answer,
        [
            Suspect(
                "a margin with ½β in it", halved, "which belongs to Diffusion-DPO's errors; here it is right for β/2"
            ),
            Suspect("a margin with 2β in it", doubled, "which is right for 2β"),
        ],
    )


@leashed.requires("catches a beta in another place")
def _(answer):
    return catches(
        answer,
        [
            Suspect("a margin divided by β", divided, "in which a larger β gives more rope"),
            Suspect("β in front of the loss", outside, "where it is a step size"),
            Suspect("0.1 in place of β", a_tenth, "which is right for one β"),
            Suspect(
                "β times the policy's log-ratio, less the reference's without it",
                of_the_policy_alone,
                "whose margin is not 0 at the reference",
            ),
        ],
    )


@leashed.requires("catches a sign that is lost")
def _(answer):
    return catches(answer, [Suspect("log σ in place of −log σ", minus_forgotten, "which has a maximum there")])


REF = (-0.5, -1.7)


def _expected(loss, h, beta, odds=3.0, ref=REF):
    a, b = (torch.tensor([x], dtype=torch.float64) for x in ref)
    return (odds * loss(a + h, b, a, b, beta).sum() + loss(b, a + h, b, a, beta).sum()).item()


def _least_there(loss, beta, odds=3.0, ref=REF):
    best, less, more = (_expected(loss, x * math.log(odds) / beta, beta, odds, ref) for x in (1, 0.92, 1.08))
    return best < min(less, more)


def _slope(loss, h, beta, odds=3.0):
    h = torch.tensor(h, dtype=torch.float64, requires_grad=True)
    a, b = (torch.tensor([x], dtype=torch.float64) for x in REF)
    value = odds * loss(a + h, b, a, b, beta).sum() + loss(b, a + h, b, a, beta).sum()
    return torch.autograd.grad(value, h)[0].item() if value.requires_grad else math.nan


@leashed.mutant("always_true", "It says True to everything on trial.")
def _(loss):
    return True


@leashed.mutant(
    "log_two_at_the_reference",
    "It wants log 2 at the reference, and with margin 0 every β gives that. It stood beside the published code.",
)
def _(loss):
    ref = torch.tensor(REF, dtype=torch.float64)
    return all(abs(loss(ref[:1], ref[1:], ref[:1], ref[1:], b).sum().item() - math.log(2)) < 1e-9 for b in (0.1, 0.5))


@leashed.mutant("beta_of_one", "Its β is 1, and so are its square and its inverse.")
def _(loss):
    return _least_there(loss, 1.0)


@leashed.mutant("a_tenth_alone", "It tries β = 0.1 alone, and a code can have that written into it.")
def _(loss):
    return _least_there(loss, 0.1)


@leashed.mutant(
    "a_flat_reference", "Both outcomes have the same reference, and there it does not matter what becomes of it."
)
def _(loss):
    return all(_least_there(loss, beta, ref=(-1.0, -1.0)) for beta in (0.3, 2.0))


@leashed.mutant(
    "as_often_as_not",
    "Both outcomes win as often. Then the policy stays at its reference, which is right for every β.",
)
def _(loss):
    return all(_expected(loss, 0, b, 1.0) < min(_expected(loss, x, b, 1.0) for x in (-0.3, 0.3)) for b in (0.2, 3.0))


@leashed.mutant(
    "half_of_beta",
    "It wants the slope at the reference to be β/2. That is so for one way of writing the loss; divided by something "
    "it has another slope and the same minimum.",
)
def _(loss):
    for beta in (0.2, 3.0):
        a, b = (torch.tensor([x], dtype=torch.float64) for x in REF)
        h = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        value = loss(a + h, b, a, b, beta).sum()
        if not value.requires_grad or abs(torch.autograd.grad(value, h)[0].item() + beta / 2) > 1e-9:
            return False
    return True


@leashed.mutant("the_formula", "It compares with one formula. There are other values with the same minimum.")
def _(loss):
    logps = torch.tensor([[-1.0], [-2.0], [-1.3], [-1.1]], dtype=torch.float64)
    return all(torch.allclose(loss(*logps, beta).sum(), once(*logps, beta).sum()) for beta in (0.2, 3.0))


@leashed.mutant(
    "in_inverse_proportion",
    "It wants the minimum for 2β to be at half the distance. With ½β and 2β in the margin it is as well: where the "
    "minimum is has to be right, too.",
)
def _(loss):
    places = []
    for beta in (0.5, 1.0, 2.0):
        grid = [x / beta for x in (0.3, 0.55, 1.1, 2.2, 3.0)]
        values = [_expected(loss, h, beta) for h in grid]
        places.append(values.index(min(values)))
    return len(set(places)) == 1 and 0 < places[0] < 4


@leashed.mutant(
    "the_tighter_the_larger",
    "It asks whether a larger β holds the policy nearer to its reference. By how much is the question.",
)
def _(loss):
    grid = [0.1 * 1.7**k for k in range(9)]
    places = [min(grid, key=lambda h, b=beta: _expected(loss, h, b)) for beta in (0.5, 1.0, 2.0)]
    return places[0] > places[1] > places[2]


@leashed.mutant("one_per_pair", "It wants one loss per pair, and a mean or a sum has its minimum in the same place.")
def _(loss):
    logps = torch.tensor([[-1.0, -1.5], [-2.0, -0.3], [-1.3, -1.0], [-1.1, -1.2]], dtype=torch.float64)
    return loss(*logps, 0.5).shape == (2,) and all(_least_there(loss, beta) for beta in (0.3, 2.0))


@leashed.mutant("level_there", "It wants a slope of 0 there. So has a maximum, which is what a lost sign makes of it.")
def _(loss):
    return all(abs(_slope(loss, math.log(3) / beta, beta)) < 1e-6 for beta in (0.3, 2.0))


@leashed.accepts("the slope on both sides of the Gibbs policy")
def _(loss):
    return all(
        _slope(loss, 0.98 * math.log(5) / beta, beta, 5.0) < -1e-12
        and _slope(loss, 1.02 * math.log(5) / beta, beta, 5.0) > 1e-12
        for beta in (0.15, 0.7, 4.0)
    )


@leashed.accepts("the minimum found by Newton's method")
def _(loss):
    for beta in (0.4, 2.5):
        h = torch.tensor(0.5 / beta, dtype=torch.float64)
        for _ in range(9):
            h = h.detach().requires_grad_()
            a, b = (torch.tensor([x], dtype=torch.float64) for x in (-2.0, -0.4))
            value = 2 * loss(a + h, b, a, b, beta).sum() + loss(b, a + h, b, a, beta).sum()
            (slope,) = torch.autograd.grad(value, h, create_graph=True)
            if not slope.requires_grad:
                return False
            (bend,) = torch.autograd.grad(slope, h)
            if bend <= 0:
                return False
            h = h - slope / bend
        if abs(h.item() - math.log(2) / beta) > 1e-6:
            return False
    return True


piece(
    "diffusion_dpo.beta_twice",
    title="One beta too many",
    section="7",
    wrong=Wrong(
        "beta_twice",
        "β makes rewards of log-ratios, and the comparison of two rewards needs no β any more (5.9). Here it stands "
        "in both places, and the margin has β² in it. With β = 0.1 the leash is that of 0.01, ten times as long, and "
        "the first step is ten times as short: β² / 2 in place of β/2 (5.8). Whoever finds the training slow, and "
        "makes the step larger, has mended the symptom.",
        beta_twice,
        "the public code of MaxText",
    ),
    published=(
        "`AI-Hypercomputer/maxtext`, `MaxText/train.py`, commit `e8fe1ac` of 2024-10-04, merged on 2024-12-13, with "
        "β = 0.1 in its settings. A reader asked on 2025-04-06 whether both are meant:"
    ),
    thread="https://github.com/AI-Hypercomputer/maxtext/issues/1530",
    corrected=(
        "It was written anew for another network library with commit `d825b68` of 2026-04-29, β twice as before and "
        "two tests beside it that the loss is log 2 at the reference, which it is for every β. Commit `9df7e71` of "
        "2026-05-27 deleted it in favour of another library's loss; the thread says that there is now a test against "
        "a third one."
    ),
    symptom=(
        "Six outcomes are learned from noisy comparisons. On the left is the loss along gradient descent with β = 0.3 "
        "and one step size: the wrong code takes about ten times as many steps, and comes to the same value. In the "
        "middle is the divergence from the reference on that way, which does not end where it should. On the right is "
        "where both end, for β from 0.1 to 10: the right one with the Gibbs policy of β, the wrong one with that of "
        "β². At β = 1, and there alone, they agree."
    ),
    right=once,
    exercise="diffusion_dpo.catch_beta_twice",
    note=(
        "β can go missing as well. In diffusers' research example of Diffusion-DPO, commit `97ee616` of 2024-01-31, "
        "the option `ipo` reads `args.beta`, and the flag is called `--beta_dpo`: whoever chooses it is stopped by an "
        "error. The help offers `cpo`, which is refused, and the code has `hinge`, which is not offered. Unchanged at "
        "commit `58eb52c` of 2026-08-23; a pull request that mends it is closed, "
        "https://github.com/huggingface/diffusers/pull/13522. An option that no test runs is an option that nobody "
        "has."
    ),
)
