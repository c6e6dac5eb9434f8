"""A ratio that is always one, because the old policy has been forgotten."""

import torch

from pocourse.lesson.exercises import exercise
from pocourse.lesson.museum import Suspect, catches, clears, piece, yes_or_no
from pocourse.lesson.wrong import Wrong
from pocourse.ratio_clipping.museum import suspects as s
from pocourse.ratio_clipping.objectives import importance_loss, kl_penalty_loss, ppo_clip_loss, spo_loss

# ---------------------------------------------------------------- the wrong code, ours


def ratio_always_one(logp, logp_old, advantage, clip_eps=0.2):
    logp_old = logp.detach()  # "the old policy's"
    ratio = (logp - logp_old).exp()
    clipped = ratio.clamp(1 - clip_eps, 1 + clip_eps)
    return -torch.minimum(ratio * advantage, clipped * advantage)


# ---------------------------------------------------------------- the task


def by_probabilities(logp, logp_old, advantage):
    ratio = logp.exp() / logp_old.exp()
    return -torch.minimum(ratio * advantage, s.clipped(ratio, advantage))


def old_where_none_is_given(logp, logp_old, advantage):
    logp_old = logp.detach() if logp_old is None else logp_old.detach()
    return by_probabilities(logp, logp_old, advantage)


def rollback_loss(logp, logp_old, advantage):
    return -s.rollback((logp - logp_old).exp(), advantage)


def with_kl_penalty(logp, logp_old, advantage):
    return kl_penalty_loss(logp, logp_old, advantage, kl_coef=0.3)


def narrow(logp, logp_old, advantage):
    return ppo_clip_loss(logp, logp_old, advantage, clip_eps=0.1)


def tenth(logp, logp_old, advantage):
    return 0.1 * ppo_clip_loss(logp, logp_old, advantage)


def forgetful(loss):
    """A loss that is handed the new log-probability in place of the old one."""

    def amnesia(logp, logp_old, advantage):
        return loss(logp, logp.detach(), advantage)

    return amnesia


def no_ratio_at_all(logp, logp_old, advantage):
    return -logp * advantage


def weighted_by_the_policy(logp, logp_old, advantage):
    return -logp.exp() * advantage


def reports_only(logp, logp_old, advantage):
    """The true KL estimate is in the value of the loss, and cut from its gradient."""
    return ratio_always_one(logp, logp_old, advantage) + (logp_old - logp).detach()


def _remembers_where(chosen):
    def loss(logp, logp_old, advantage):
        right = by_probabilities(logp, logp_old, advantage)
        return torch.where(chosen(advantage), right, ratio_always_one(logp, logp_old, advantage))

    return loss


remembers_good, remembers_bad = _remembers_where(lambda a: a > 0), _remembers_where(lambda a: a < 0)


remembers = exercise(
    "ratio_clipping.catch_ratio_always_one",
    title="Catch a loss that has forgotten the old policy",
    section="Bug museum",
    difficulty=3,
    minutes=8,
    task="""
From the second step on a batch, the ratio says how far the policy has moved from the one that collected the data. A
loss in which that number is always 1 has lost its only measure of distance.

Write `remembers(loss)`. `loss(logp, logp_old, advantage)` takes three tensors of one shape and returns one value per
sample, to be minimised; `logp` carries gradient, `logp_old` and `advantage` are data. Return `True` if its gradient
in `logp` depends on `logp_old`, for A > 0 as well as for A < 0; otherwise `False`.

An optimiser never sees the value of a loss, only its gradient.
""",
    stub="""
def remembers(loss):
    ...
""",
    hints=(
        "`logp_old` is data, so do not ask for a gradient in it (the losses of this course refuse that). Change its "
        "*value*, and see whether the gradient in `logp` changes.",
        "Two calls with the same `logp` and the same advantages, +1 and −1, but two values of `logp_old`. Beware: "
        "where PPO's clip is flat, the gradient is zero for both, and rightly so. Stay near `logp`.",
        "Take `logp_old` equal to `logp` in the first call and lower by 0.05 in the second: ratios 1 and 1.05. "
        "Compare the gradients sample by sample; *every* sample has to differ, by more than rounding.",
    ),
    solution="""
def remembers(loss):
    advantage = torch.tensor([1.0, -1.0], dtype=torch.float64)
    slopes = []
    for logp_old in (-1.0, -1.05):
        logp = torch.full((2,), -1.0, dtype=torch.float64, requires_grad=True)
        old = torch.full((2,), logp_old, dtype=torch.float64)
        slopes += torch.autograd.grad(loss(logp, old, advantage).sum(), logp)
    return bool(((slopes[0] - slopes[1]).abs() > 1e-6).all())
""",
    after="""
A ratio of exactly 1, a clip fraction of exactly 0, from the first step to the last: **numbers that are too good are a
symptom**. At the first step they are right, so a test of one step cannot see this mistake. What the code runs in
truth is the plain policy gradient, many steps on one batch with no limit at all.

The habit that prevents it: `logp_old` is stored with the batch, when the actions are drawn.
""",
    parameters=("loss",),
    returns=yes_or_no,
    probes=lambda: [
        (code,)
        for code in (
            by_probabilities,
            old_where_none_is_given,
            _data_only(spo_loss),
            rollback_loss,
            tenth,
            ratio_always_one,
            no_ratio_at_all,
            forgetful(tenth),
            weighted_by_the_policy,
            reports_only,
            remembers_good,
            remembers_bad,
            lambda logp, logp_old, advantage: 0 * logp,
        )
    ],
)


def _data_only(loss):
    """A loss of the chapter that lets a gradient into its data, for the comparison of mistakes alone."""

    def tolerant(logp, logp_old, advantage):
        return loss(logp, logp_old.detach(), advantage.detach())

    return tolerant


@remembers.requires("clears PPO's loss, however it is written")
def _(answer):
    return clears(
        answer,
        [
            Suspect("PPO's loss", ppo_clip_loss, s.RIGHT),
            Suspect("PPO's loss with the ratio as a quotient of probabilities", by_probabilities, s.RIGHT),
            Suspect("PPO's loss with ε = 0.1", narrow, s.RIGHT),
            Suspect(
                "a loss that takes `logp.detach()` only where no `logp_old` is given",
                old_where_none_is_given,
                "which is right: one is given",
            ),
        ],
    )


@remembers.requires("clears losses that do not make the mistake")
def _(answer):
    return clears(
        answer,
        [
            Suspect("the unclipped loss", importance_loss, s.OTHER),
            Suspect("SPO's loss", spo_loss, s.OTHER),
            Suspect("PPO-RB's loss", rollback_loss, s.OTHER),
            Suspect("the loss with a KL penalty", with_kl_penalty, s.OTHER),
            Suspect("a tenth of PPO's loss", tenth, s.SCALED),
        ],
    )


@remembers.requires("catches a ratio that is always one")
def _(answer):
    why = "in which `logp_old` is `logp.detach()`, whatever was handed in"
    return catches(
        answer,
        [
            Suspect("the published mistake", ratio_always_one, why),
            Suspect("the unclipped loss", forgetful(importance_loss), why),
            Suspect("SPO's loss", forgetful(spo_loss), why),
            Suspect("PPO's loss with ε = 0.1", forgetful(narrow), why),
            Suspect("`−logp A`", no_ratio_at_all, "which has no ratio at all"),
        ],
    )


@remembers.requires("catches a loss whose gradient is not −A, and that forgets all the same")
def _(answer):
    return catches(
        answer,
        [
            Suspect(
                "a tenth of the published mistake",
                forgetful(tenth),
                "whose slope is −A / 10 whatever `logp_old` is: one call cannot show on what a slope depends",
            ),
            Suspect(
                "`−exp(logp) A`",
                weighted_by_the_policy,
                "whose gradient depends on `logp` and not on `logp_old`: change `logp_old` alone",
            ),
        ],
    )


@remembers.requires("catches it where only one sign of A is wrong")
def _(answer):
    why = "which forgets the old policy for {} advantages only"
    return catches(
        answer,
        [
            Suspect("a mixed loss", remembers_good, why.format("negative")),
            Suspect("a mixed loss", remembers_bad, why.format("positive")),
        ],
    )


@remembers.requires("catches an old policy that is in the value alone")
def _(answer):
    why = "whose value depends on `logp_old` and whose gradient does not: it reports a distance and never feels it"
    return catches(answer, [Suspect("a loss", reports_only, why)])


def _slopes(loss, olds, advantages=(1.0, -1.0)):
    found = []
    for old in olds:
        logp = torch.full((len(advantages),), -1.0, dtype=torch.float64, requires_grad=True)
        value = loss(logp, torch.full_like(logp, old).detach(), torch.tensor(advantages, dtype=torch.float64))
        found += torch.autograd.grad(value.sum(), logp)
    return found


@remembers.mutant("always_true", "It says True to everything on trial: what the mistake changes, it does not look at.")
def _(loss):
    return True


@remembers.mutant(
    "same_old_twice", ("It hands in the same `logp_old` twice, so nothing can differ: it says False to everything.")
)
def _(loss):
    one, other = _slopes(loss, (-1.05, -1.05))
    return bool((one != other).all())


@remembers.mutant(
    "value", ("It compares values. A loss can report the distance in its value and cut it from its gradient.")
)
def _(loss):
    logp, advantage = torch.full((2,), -1.0), torch.tensor([1.0, -1.0])
    return bool((loss(logp, logp, advantage) != loss(logp, logp - 0.05, advantage)).all())


@remembers.mutant("only_positive", "It tries A > 0 alone; the old policy can be forgotten for the others.")
def _(loss):
    one, other = _slopes(loss, (-1.0, -1.05), (1.0,))
    return bool(((one - other).abs() > 1e-6).all())


@remembers.mutant(
    "any_sample", ("It is content if the gradient of one sample changes: `.any()` where `.all()` is needed.")
)
def _(loss):
    one, other = _slopes(loss, (-1.0, -1.05))
    return bool(((one - other).abs() > 1e-6).any())


@remembers.mutant(
    "on_the_flat", ("It compares two ratios at which PPO is flat, so that both gradients are zero. Stay near 1.")
)
def _(loss):
    (one, other), (low, high) = _slopes(loss, (-2.0, -2.5), (1.0,)), _slopes(loss, (0.5, 1.0), (-1.0,))
    return bool(((one - other).abs() > 1e-6).all() and ((low - high).abs() > 1e-6).all())


@remembers.mutant(
    "gradient_in_the_data", ("It asks for a gradient in `logp_old`. That is data: the losses of the course refuse it.")
)
def _(loss):
    logp = torch.full((2,), -1.0, requires_grad=True)
    old = torch.full((2,), -1.05, requires_grad=True)
    (slope,) = torch.autograd.grad(loss(logp, old, torch.tensor([1.0, -1.0])).sum(), old, allow_unused=True)
    return slope is not None and bool((slope != 0).all())


@remembers.mutant("ppo_formula", "It compares with PPO's formula, so it refuses every other loss that remembers.")
def _(loss):
    logp, old = torch.full((2,), -1.0), torch.full((2,), -1.05)
    advantage = torch.tensor([1.0, -1.0])
    return torch.allclose(loss(logp, old, advantage), ppo_clip_loss(logp, old, advantage))


@remembers.mutant("first_step", "It looks at the first step, where the ratio is 1 in every right loss as well.")
def _(loss):
    (slope,) = _slopes(loss, (-1.0,))
    return bool((slope.abs() > 1e-6).all())


@remembers.mutant(
    "slope_is_not_A", "It compares one slope with −A. A factor changes that too: compare the slopes of two `logp_old`."
)
def _(loss):
    slopes = _slopes(loss, (-1.05,))[0]
    return bool(((slopes - torch.tensor([-1.0, 1.0], dtype=torch.float64)).abs() > 1e-6).all())


@remembers.mutant("other_logp", "It changes `logp` and keeps `logp_old`. A loss can notice that without any ratio.")
def _(loss):
    advantage, found = torch.tensor([1.0, -1.0], dtype=torch.float64), []
    for new in (-1.0, -0.95):
        logp = torch.full((2,), new, dtype=torch.float64, requires_grad=True)
        found += torch.autograd.grad(loss(logp, torch.full_like(logp, -1.0).detach(), advantage).sum(), logp)
    return bool(((found[0] - found[1]).abs() > 1e-6).all())


@remembers.accepts("random distances")
def _(loss):
    generator = torch.Generator().manual_seed(0)
    advantage = torch.randn(50, generator=generator)
    grads = []
    for _ in range(2):
        logp = torch.full((50,), -1.3, requires_grad=True)
        old = -1.3 + 0.08 * torch.rand(50, generator=generator) - 0.04
        loss(logp, old, advantage).mean().backward()
        grads.append(logp.grad)
    return (grads[0] != grads[1]).float().mean() > 0.8


@remembers.accepts("with torch.func")
def _(loss):
    def slope(old, a):
        old, a = (torch.tensor(x, dtype=torch.float64) for x in (old, a))
        return torch.func.grad(lambda logp: loss(logp, old, a))(torch.tensor(-1.0, dtype=torch.float64))

    return all(bool((slope(-1.0, a) - slope(-0.97, a)).abs() > 1e-5) for a in (1.0, -1.0))


piece(
    "ratio_clipping.ratio_always_one",
    title="A ratio that is always one",
    section="7",
    wrong=Wrong(
        "ratio_always_one",
        "The old log-probability is made from the new one, with its gradient stopped. At the first step on a batch "
        "that is right: old and new are the same policy. At every later step the ratio should say how far the policy "
        "has moved, and says exactly 1. Nothing is ever clipped, and what runs in truth is the plain policy "
        "gradient, again and again on the same data.",
        ratio_always_one,
        "tensorforce/tensorforce",
    ),
    published=(
        "`tensorforce/tensorforce`, `tensorforce/models/pg_prob_ratio_model.py`, as of 2018-01-24: the old "
        "log-probability is the new one behind a stopped gradient, so that the ratio is exactly 1 in every pass. "
        "Reported on the same day:"
    ),
    thread="https://github.com/tensorforce/tensorforce/issues/312",
    corrected=(
        "Since commit `d5c0b2f` of 2018-02-02 the loss takes a reference that was computed before the update, and "
        "falls back to the old way only where none is given."
    ),
    symptom=(
        "Two curves belong to the mistake. What the code *reports* is perfect: mean |r − 1| is 0, nothing is "
        "clipped, for 300 steps. The *true* distance from the policy that collected the data runs away, to five times "
        "PPO's. In the right code the reported and the true curve are one."
    ),
    right=ppo_clip_loss,
    exercise="ratio_clipping.catch_ratio_always_one",
)
