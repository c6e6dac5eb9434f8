"""A loss without its minus."""

import torch

from pocourse.lesson.exercises import exercise
from pocourse.lesson.museum import Suspect, catches, clears, piece, yes_or_no
from pocourse.lesson.wrong import Wrong
from pocourse.ratio_clipping.museum import suspects as s

# ---------------------------------------------------------------- the wrong code, ours


def missing_minus(ratio, advantage, clip_eps=0.2):
    unclipped = ratio * advantage
    clipped = ratio.clamp(1 - clip_eps, 1 + clip_eps) * advantage
    return torch.minimum(unclipped, clipped)  # "the loss"


# ---------------------------------------------------------------- the task

wrong_at_one = s.where(missing_minus, s.ppo_loss, 0.98, 1.02)

descends = exercise(
    "ratio_clipping.catch_missing_minus",
    title="Catch a loss that goes the wrong way",
    section="Bug museum",
    difficulty=2,
    minutes=6,
    task="""
Write `descends(loss)`, a property that catches this mistake in any code, not in this one alone.

`loss(ratio, advantage)` is some loss of the chapter: it takes two tensors of one shape and returns one value per
sample. An optimiser will *minimise* it. Your property returns `True` if, at r = 1, a small step of descent raises the
ratio of every sample with A > 0 and lowers that of every sample with A < 0; otherwise `False`.

It has to be fair: SPO's loss, the unclipped one and others do not make this mistake.
""",
    stub="""
def descends(loss):
    ...
""",
    hints=(
        "A step of descent moves each ratio against its slope. So look at the slope of the loss in the ratio, at r = "
        "1, not at the value of the loss.",
        "Make `ratio = torch.ones(2, dtype=torch.float64, requires_grad=True)` and an advantage of the same shape "
        "and dtype, with one positive and one negative entry. Then `torch.autograd.grad(loss(ratio, "
        "advantage).sum(), ratio)`.",
        "The step is `−slope`. It goes the right way where `−slope` has the sign of the advantage: `−slope * "
        "advantage > 0`, for *all* samples. How large the slope is does not matter.",
    ),
    solution="""
def descends(loss):
    ratio = torch.ones(2, dtype=torch.float64, requires_grad=True)
    advantage = torch.tensor([1.0, -1.0], dtype=torch.float64)
    (slope,) = torch.autograd.grad(loss(ratio, advantage).sum(), ratio)
    return bool((-slope * advantage > 0).all())
""",
    after="""
Four lines, and no formula of PPO in them: the property holds for every loss of the chapter and fails for every one
that was handed over without its minus, whatever it clips. **Names carry the sign.** In this course what ends in
`_loss` is minimised and what ends in `_objective` is maximised, so a missing minus can be seen where the function is
called.
""",
    parameters=("loss",),
    returns=yes_or_no,
    probes=lambda: [
        (code,)
        for code in (
            s.ppo_loss,
            s.loss_of(s.spo),
            s.times(s.ppo_loss, 0.5),
            s.plus(s.ppo_loss, 3.0),
            s.plus(missing_minus, -3.0),
            missing_minus,
            s.for_positive(s.ppo_loss, missing_minus),
            s.for_positive(missing_minus, s.ppo_loss),
            s.times(s.ppo_loss, 0.0),
            s.where(missing_minus, s.ppo_loss, 1.2, 9.0),
            s.where(missing_minus, s.ppo_loss, 0.9, 1.1),
            wrong_at_one,
        )
    ],
)


@descends.requires("clears PPO's loss, however it is written")
def _(answer):
    return clears(answer, s.RIGHT_LOSSES)


@descends.requires("clears losses that do not make the mistake")
def _(answer):
    others = s.suspects({**s.OTHERS, "the simple {} of the figures": s.simple}, "loss", s.OTHER, s.loss_of)
    half = Suspect("half of PPO's loss", s.times(s.ppo_loss, 0.5), s.SCALED)
    raised = "which does not make this mistake: a constant moves nothing. Look at slopes"
    return clears(answer, [*others, half, Suspect("PPO's loss plus 3", s.plus(s.ppo_loss, 3.0), raised)])


@descends.requires("catches an objective handed over as a loss")
def _(answer):
    why = "the objective itself, which nobody turned round: descent on it makes good actions rarer"
    lowered = "which descends to rarer good actions; a constant does not mend that"
    return catches(
        answer,
        [
            Suspect("`min(rA, clip(r)A)`", missing_minus, why),
            Suspect("`rA`", s.unclipped, why),
            Suspect("SPO's objective", s.spo, why),
            Suspect("`min(rA, clip(r)A) − 3`", s.plus(missing_minus, -3.0), lowered),
        ],
    )


@descends.requires("catches it where only one sign of A is wrong")
def _(answer):
    why = "which goes the wrong way for {} advantages only: every sample has to go its way"
    bad, good = s.for_positive(s.ppo_loss, missing_minus), s.for_positive(missing_minus, s.ppo_loss)
    return catches(
        answer,
        [
            Suspect("a mixed loss", bad, why.format("negative")),
            Suspect("a mixed loss", good, why.format("positive")),
        ],
    )


@descends.requires("catches it at r = 1 itself")
def _(answer):
    why = "which is PPO's loss elsewhere and goes the wrong way there: look at r = 1, not beside it"
    return catches(answer, [Suspect("a loss without its minus for r between 0.98 and 1.02", wrong_at_one, why)])


@descends.requires("catches a loss that moves nothing")
def _(answer):
    still = "whose slope is zero at r = 1: it neither raises nor lowers anything"
    return catches(answer, [Suspect("a loss that is zero everywhere", s.times(s.ppo_loss, 0.0), still)])


def _slope(loss, ratio, advantage):
    ratio = torch.tensor(ratio, dtype=torch.float64, requires_grad=True)
    advantage = torch.tensor(advantage, dtype=torch.float64)
    (slope,) = torch.autograd.grad(loss(ratio, advantage).sum(), ratio)
    return slope, advantage


@descends.mutant("always_true", "It says True to everything on trial: what the mistake changes, it does not look at.")
def _(loss):
    return True


@descends.mutant("always_false", "It says False to everything on trial, right losses included.")
def _(loss):
    return False


@descends.mutant("only_positive", "It tries A > 0 alone; a loss can go the wrong way for A < 0 and nowhere else.")
def _(loss):
    return bool((_slope(loss, [1.0], [1.0])[0] < 0).all())


@descends.mutant("ascends", "It asks for ascent: a *loss* is minimised, so the step is the slope with a minus.")
def _(loss):
    slope, advantage = _slope(loss, [1.0, 1.0], [1.0, -1.0])
    return bool((slope * advantage > 0).all())


@descends.mutant("any_sample", "It is content if one sample goes the right way: `.any()` where `.all()` is needed.")
def _(loss):
    slope, advantage = _slope(loss, [1.0, 1.0], [1.0, -1.0])
    return bool((-slope * advantage > 0).any())


@descends.mutant(
    "on_average", ("It averages over the samples: one that goes the right way can hide another that does not.")
)
def _(loss):
    slope, advantage = _slope(loss, [1.0, 1.0], [1.0, -0.5])
    return bool((-slope * advantage).mean() > 0)


@descends.mutant("standing_still", "It lets a slope of zero pass: `>= 0` where the ratio has to move, so `> 0`.")
def _(loss):
    slope, advantage = _slope(loss, [1.0, 1.0], [1.0, -1.0])
    return bool((-slope * advantage >= 0).all())


@descends.mutant(
    "value",
    ("It looks at the value of the loss, and the optimiser looks at its slope: a constant changes the one only."),
)
def _(loss):
    one, advantage = torch.ones(2, dtype=torch.float64), torch.tensor([1.0, -1.0], dtype=torch.float64)
    return bool((loss(one, advantage) * advantage < 0).all())


@descends.mutant("exact_slope", "It asks for the slope −A exactly. The sign is the property; a factor does no harm.")
def _(loss):
    slope, advantage = _slope(loss, [1.0, 1.0], [1.0, -1.0])
    return bool(torch.allclose(slope, -advantage))


@descends.mutant("ppo_formula", "It compares with PPO's formula, so it refuses every other right loss.")
def _(loss):
    ratio = torch.linspace(0.5, 1.5, 11, dtype=torch.float64)
    return all(torch.allclose(loss(ratio, a), s.ppo_loss(ratio, a)) for a in (ratio / ratio, -ratio / ratio))


@descends.mutant(
    "outside", ("It looks beyond the edge, where PPO's slope is zero on purpose; at r = 1 every loss has one.")
)
def _(loss):
    slope, advantage = _slope(loss, [1.5, 0.5], [1.0, -1.0])
    return bool((-slope * advantage > 0).all())


@descends.mutant(
    "beside_one", "It looks beside r = 1, where a loss may have another slope. The step is taken at r = 1."
)
def _(loss):
    slope, advantage = _slope(loss, [0.95, 0.95, 1.05, 1.05], [1.0, -1.0, 1.0, -1.0])
    return bool((-slope * advantage > 0).all())


@descends.mutant("many_answers", "It returns an answer per sample where one is asked for.")
def _(loss):
    slope, advantage = _slope(loss, [1.0, 1.0], [1.0, -1.0])
    return -slope * advantage > 0


@descends.accepts("a real step of descent")
def _(loss):
    advantage = torch.linspace(-2, 2, 10)
    ratio = torch.ones(10, requires_grad=True)
    loss(ratio, advantage).mean().backward()
    after = ratio.detach() - 0.01 * ratio.grad
    return ((after > 1) == (advantage > 0)).all() & (after != 1).all()


@descends.accepts("one sample at a time, by differences")
def _(loss):
    for a in (1.0, -1.0, 0.3, -0.3):
        advantage = torch.tensor(a, dtype=torch.float64)
        up, down = (loss(torch.tensor(r, dtype=torch.float64), advantage) for r in (1 + 1e-5, 1 - 1e-5))
        if (down - up) * a <= 0:
            return False
    return True


piece(
    "ratio_clipping.missing_minus",
    title="A loss without its minus",
    section="3",
    wrong=Wrong(
        "missing_minus",
        "The smaller of the two products is an *objective*: more of it is better. Called a loss, it is minimised, "
        "and descent on it makes good actions rarer and bad ones likelier. Nothing stops it on the way: the clip "
        "acts on the other side.",
        missing_minus,
        "the RLHF book",
    ),
    published=(
        "The RLHF book (`rlhf-book`), `chapters/11-policy-gradients.md`, commit `061060c` of 2025-06-20: what is "
        "called “the loss function” is the clipped objective, without a minus sign. Reported on 2025-06-24; a sign is "
        "missing through the section:"
    ),
    thread="https://github.com/natolambert/rlhf-book/issues/125",
    corrected="Corrected on 2025-07-04, in commit `d91c460`: the text now calls it the objective that PPO maximises.",
    symptom=(
        "The two curves of the loss are mirror images: at r = 1 they slope in opposite ways. On a bandit with three "
        "actions the right loss finds the best action, the one without its minus the worst. And yet, within every "
        "update, its value falls as a loss should: a falling loss is no sign of learning."
    ),
    right=s.ppo_loss,
    exercise="ratio_clipping.catch_missing_minus",
)
