"""The larger of two products where the smaller was meant."""

import torch

from pocourse.lesson.exercises import exercise
from pocourse.lesson.museum import Suspect, catches, clears, piece, yes_or_no
from pocourse.lesson.wrong import Wrong
from pocourse.ratio_clipping.museum import suspects as s

# ---------------------------------------------------------------- the wrong code, ours


def max_for_min(ratio, advantage, clip_eps=0.2):
    unclipped = ratio * advantage
    clipped = ratio.clamp(1 - clip_eps, 1 + clip_eps) * advantage
    return torch.maximum(unclipped, clipped)  # to be minimised


def half_mended(ratio, advantage, clip_eps=0.2):
    """The minus is back, the larger of the two is still there."""
    return -max_for_min(ratio, advantage, clip_eps)


# ---------------------------------------------------------------- the task


def too_much_inside(ratio, advantage):
    """PPO's loss, but a tenth too low inside the range."""
    return s.where(s.plus(s.ppo_loss, -0.1), s.ppo_loss, 0.8, 1.2)(ratio, advantage)


def too_much_beyond(ratio, advantage):
    """PPO's loss, but it falls one and a half times as fast as −rA beyond the edge where PPO's is flat."""
    beyond = torch.relu(advantage.sign() * (ratio - 1) - 0.2)
    return -ratio * advantage - 0.5 * advantage.abs() * beyond


HALF = "the half-mended one, `−max(rA, clip(r)A)`"

pessimistic = exercise(
    "ratio_clipping.catch_max_for_min",
    title="Catch a loss that is not pessimistic",
    section="Bug museum",
    difficulty=3,
    minutes=8,
    task="""
PPO's objective is *pessimistic*: it never promises more than rA, what the unclipped surrogate would. As a loss: it
never lies below −rA.

Write `pessimistic(loss)`. `loss(ratio, advantage)` takes two tensors of one shape and returns one value per sample,
to be minimised. Return `True` if it lies nowhere below −rA, for any r ≥ 0 and either sign of A; otherwise `False`.

Not all codes on trial have the same ε. And several losses of the chapter are pessimistic without being PPO's.
""",
    stub="""
def pessimistic(loss):
    ...
""",
    hints=(
        "Draw the published loss for A < 0 and compare it with −rA. Then do the same for `−max(rA, clip(r)A)`, with "
        "the minus put back: where is that one below −rA, and for which sign of A?",
        "Values are enough here; no gradient is needed. Take a grid of ratios from 0 to well beyond 1 + ε, once with "
        "A = 1 and once with A = −1.",
        "`ratio = torch.linspace(0, 3, 61, dtype=torch.float64)`, and for each advantage `torch.full_like(ratio, "
        "±1)`: all of `loss(ratio, advantage) >= −ratio * advantage − 1e-9`. The 1e-9 forgives rounding.",
    ),
    solution="""
def pessimistic(loss):
    ratio = torch.linspace(0, 3, 61, dtype=torch.float64)
    for sign in (1.0, -1.0):
        advantage = torch.full_like(ratio, sign)
        if not (loss(ratio, advantage) >= -ratio * advantage - 1e-9).all():
            return False
    return True
""",
    after="""
One inequality, checked where it counts: **outside the range, and for both signs**. Inside it all these codes agree up
to the minus; the published one is caught by A < 0 alone, the half-mended one only on the wrong side of the range: at
r < 1 − ε for A > 0, at r > 1 + ε for A < 0. It is the right half of (2.21), f ≤ rA.

By the way, max(rA, clip(r)A) is −min(r(−A), clip(r)(−A)): minimising it is PPO, faithfully clipped, for the *negated*
advantages.
""",
    parameters=("loss",),
    returns=yes_or_no,
    probes=lambda: [
        (code,)
        for code in (
            s.ppo_loss,
            s.loss_of(s.spo),
            s.loss_of(s.unclipped),
            max_for_min,
            half_mended,
            s.with_eps(half_mended, 0.6),
            s.for_positive(half_mended, s.ppo_loss),
            s.for_positive(s.ppo_loss, half_mended),
            s.for_positive(half_mended, s.loss_of(s.spo)),
            s.where(s.times(s.loss_of(s.unclipped), 2.0), s.ppo_loss, 0.8, 1.2),
            s.where(half_mended, s.ppo_loss, 1.0, 9.0),
            s.plus(s.ppo_loss, -0.1),
            s.plus(s.ppo_loss, 3.0),
            too_much_inside,
            too_much_beyond,
        )
    ],
)


@pessimistic.requires("clears PPO's loss, however it is written")
def _(answer):
    return clears(answer, s.RIGHT_LOSSES)


@pessimistic.requires("clears losses that do not make the mistake")
def _(answer):
    raised = Suspect("PPO's loss plus 3", s.plus(s.ppo_loss, 3.0), "which lies above −rA everywhere, and by far")
    return clears(answer, [*s.suspects(s.OTHERS, "loss", s.OTHER, s.loss_of), raised])


@pessimistic.requires("catches the larger of the two products, to be minimised")
def _(answer):
    why = "which lies below −rA wherever A < 0"
    return catches(
        answer,
        [
            Suspect("the published mistake", max_for_min, why),
            Suspect("the published mistake with ε = 0.1", s.with_eps(max_for_min, 0.1), why),
        ],
    )


@pessimistic.requires("catches the half-mended loss")
def _(answer):
    why = "which lies below −rA outside the range, on the wrong side of it"
    wide = "which lies below −rA only for r < 0.4 and for r > 1.6"
    return catches(
        answer,
        [
            Suspect(HALF, half_mended, why),
            Suspect(f"{HALF}, with ε = 0.1", s.with_eps(half_mended, 0.1), why),
            Suspect(f"{HALF}, with ε = 0.6", s.with_eps(half_mended, 0.6), wide),
            Suspect("`−clip(r)A`, without a minimum", s.times(s.clipped, -1.0), why),
        ],
    )


@pessimistic.requires("catches it where only one sign of A is wrong")
def _(answer):
    only = "which is wrong for {} advantages only"
    hidden = "which lies below −rA for A > 0 and far above it for A < 0: every sample has to hold, not their mean"
    return catches(
        answer,
        [
            Suspect("a mixed loss", s.for_positive(half_mended, s.ppo_loss), only.format("positive")),
            Suspect("a mixed loss", s.for_positive(s.ppo_loss, half_mended), only.format("negative")),
            Suspect("a mixed loss", s.for_positive(half_mended, s.loss_of(s.spo)), hidden),
        ],
    )


@pessimistic.requires("catches a loss that is below −rA anywhere else")
def _(answer):
    return catches(
        answer,
        [
            Suspect(
                "PPO's loss minus 0.1", s.plus(s.ppo_loss, -0.1), "which promises 0.1 too much wherever PPO's is −rA"
            ),
            Suspect(
                "PPO's loss, lowered by 0.1 inside the range alone", too_much_inside, "which lies below −rA right there"
            ),
            Suspect(
                "a loss that is −rA up to the edge, and falls faster beyond it, where PPO's is flat",
                too_much_beyond,
                "which lies below −rA on that side alone",
            ),
        ],
    )


def _above(loss, low, high, signs=(1.0, -1.0)):
    """For each sign, whether the loss is at least −rA at every ratio of the grid."""
    ratio = torch.linspace(low, high, 61, dtype=torch.float64)
    return [loss(ratio, torch.full_like(ratio, sign)) >= -ratio * sign - 1e-9 for sign in signs]


@pessimistic.mutant(
    "always_true", ("It says True to everything on trial: what the mistake changes, it does not look at.")
)
def _(loss):
    return True


@pessimistic.mutant(
    "inside", ("It looks inside the range only, where the clip does nothing: the half-mended loss equals −rA there.")
)
def _(loss):
    return all(bool(x.all()) for x in _above(loss, 0.85, 1.15))


@pessimistic.mutant(
    "near_the_edge", ("It stops just outside 0.8 and 1.2. Another ε moves the edges: go from 0 to well beyond.")
)
def _(loss):
    return all(bool(x.all()) for x in _above(loss, 0.5, 1.5))


@pessimistic.mutant("only_positive", "It tries A > 0 alone, and the published loss lies below −rA for A < 0 alone.")
def _(loss):
    return all(bool(x.all()) for x in _above(loss, 0, 3, (1.0,)))


@pessimistic.mutant("only_above_one", "It tries r ≥ 1 alone. For A > 0 the wrong side lies at r < 1.")
def _(loss):
    return all(bool(x.all()) for x in _above(loss, 1, 3))


@pessimistic.mutant("optimistic", "Its inequality points the other way: it asks that the loss lie nowhere above −rA.")
def _(loss):
    ratio = torch.linspace(0, 3, 61, dtype=torch.float64)
    return all(bool((loss(ratio, torch.full_like(ratio, a)) <= -ratio * a + 1e-9).all()) for a in (1.0, -1.0))


@pessimistic.mutant(
    "only_touches", ("It asks that the loss lie above −rA *somewhere*: `.any()` where `.all()` is needed.")
)
def _(loss):
    return all(bool(x.any()) for x in _above(loss, 0, 3))


@pessimistic.mutant(
    "means",
    ("It compares means over the grid: a loss far above −rA in one place hides one that is below it in another."),
)
def _(loss):
    ratio = torch.linspace(0, 3, 61, dtype=torch.float64).repeat(2)
    advantage = torch.ones_like(ratio)
    advantage[61:] = -1
    return bool(loss(ratio, advantage).mean() >= (-ratio * advantage).mean())


@pessimistic.mutant(
    "ppo_formula", ("It compares with PPO's formula, so it refuses every other loss that is pessimistic.")
)
def _(loss):
    ratio = torch.linspace(0, 3, 61, dtype=torch.float64)
    return all(
        torch.allclose(loss(ratio, a), s.ppo_loss(ratio, a)) for a in (torch.ones_like(ratio), -torch.ones_like(ratio))
    )


@pessimistic.mutant(
    "slopes", "It looks at slopes on the wrong side. Pessimism is about values: compare the loss with −rA, everywhere."
)
def _(loss):
    ratio = torch.tensor([0.1, 3.0], dtype=torch.float64, requires_grad=True)
    advantage = torch.tensor([1.0, -1.0], dtype=torch.float64)
    (slope,) = torch.autograd.grad(loss(ratio, advantage).sum(), ratio)
    return bool((slope * advantage < 0).all())


@pessimistic.mutant(
    "tolerant", "It lets a third pass as rounding. What lies below −rA by 0.1 promises too much: forgive 1e-9."
)
def _(loss):
    ratio = torch.linspace(0, 3, 61, dtype=torch.float64)
    return all(bool((loss(ratio, torch.full_like(ratio, a)) >= -ratio * a - 0.35).all()) for a in (1.0, -1.0))


@pessimistic.mutant(
    "wrong_side_only",
    "It looks on the wrong side of the range alone. Nowhere means inside and on the other side as well.",
)
def _(loss):
    low, high = _above(loss, 0, 0.8, (1.0,)), _above(loss, 1.2, 3, (-1.0,))
    return bool(low[0].all() and high[0].all())


@pessimistic.mutant("equal", "It asks that the loss *be* −rA. Only the unclipped one is.")
def _(loss):
    ratio = torch.linspace(0, 3, 61, dtype=torch.float64)
    return all(torch.allclose(loss(ratio, torch.full_like(ratio, a)), -ratio * a) for a in (1.0, -1.0))


@pessimistic.accepts("random ratios and advantages")
def _(loss):
    generator = torch.Generator().manual_seed(0)
    ratio = 4 * torch.rand(1000, generator=generator)
    advantage = torch.randn(1000, generator=generator)
    return (loss(ratio, advantage) + ratio * advantage).min() > -1e-5


@pessimistic.accepts("point by point")
def _(loss):
    def below(r, a):
        return loss(torch.tensor([r]), torch.tensor([a])).item() < -r * a - 1e-6

    return not any(below(r / 10, a) for r in range(31) for a in (2.0, -2.0))


piece(
    "ratio_clipping.max_for_min",
    title="The larger of the two",
    section="3",
    wrong=Wrong(
        "max_for_min",
        "−min(a, b) is max(−a, −b): the minimum may become a maximum, but then the minus goes *inside*. Here it is "
        "nowhere. Since max(rA, clip(r)A) = −min(r(−A), clip(r)(−A)), minimising it is PPO for the negated "
        "advantages: it learns the worst action, and clips faithfully while it does. (There it was the larger of two "
        "*averages* over the batch; we take it per sample, for this one mistake to show. The averages are the next "
        "piece.)",
        max_for_min,
        "yandexdataschool/Practical_RL",
    ),
    published=(
        "`yandexdataschool/Practical_RL`, `week09_policy_II/ppo.ipynb`, commit `e4cd532` of 2019-04-19: the loss of "
        "the policy, to be minimised, is max(L, L_clipped), where L is the average of rA. Reported on 2019-08-05:"
    ),
    thread="https://github.com/yandexdataschool/Practical_RL/issues/248",
    corrected=(
        "Changed on 2019-09-11, in commit `92a744d`, to −min(L, L_clipped). That correction is an exhibit of its own."
    ),
    symptom=(
        "Shaded is where a pessimistic loss never goes: below −rA. The published loss is in there for A < 0. The "
        "half-mended one, in which only the minus was put back, −max(rA, clip(r)A), agrees with PPO's inside the range "
        "and is in there on the wrong side: its slope is zero where a mistake should be repaired, and full "
        "where the clip should stop it. On the bandit the published loss finds the worst action; on the batch of noise "
        "the half-mended one lets the ratios run away."
    ),
    right=s.ppo_loss,
    exercise="ratio_clipping.catch_max_for_min",
    note=(
        "**False alarm.** `torch.max(-r * A, -clip(r) * A)` in a loss is *right*, since −min(a, b) = max(−a, −b). "
        "Readers of good code have asked about it more than once: https://github.com/openai/baselines/issues/1156 in "
        "2021, https://github.com/leggedrobotics/rsl_rl/issues/46 in 2024."
    ),
)
