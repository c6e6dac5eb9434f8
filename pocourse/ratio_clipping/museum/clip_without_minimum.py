"""A clip without the minimum that takes it away where it does harm."""

import torch

from pocourse.lesson.exercises import exercise
from pocourse.lesson.museum import Suspect, catches, clears, piece, yes_or_no
from pocourse.lesson.wrong import Wrong
from pocourse.ratio_clipping.museum import suspects as s

# ---------------------------------------------------------------- the wrong code, ours


def clip_without_minimum(ratio, advantage, clip_eps=0.2):
    return ratio.clamp(1 - clip_eps, 1 + clip_eps) * advantage  # the loss is -this


# ---------------------------------------------------------------- the task


def gated(ratio, advantage, eps=0.2):
    """PPO's values, and no gradient at all outside the range."""
    value = s.ppo(ratio, advantage)
    return torch.where((ratio - 1).abs() > eps, value.detach(), value)


def rollback_everywhere(ratio, advantage):
    """The slope is turned round on both sides of the range."""
    nearest = ratio.clamp(0.8, 1.2)
    return (nearest - 0.3 * (ratio - nearest)) * advantage


upside_down_inside = s.where(s.times(s.unclipped, -1.0), s.ppo, 0.8, 1.2)


def larger_of_two(ratio, advantage):
    return torch.maximum(ratio * advantage, s.clipped(ratio, advantage))


repairs = exercise(
    "ratio_clipping.catch_clip_without_minimum",
    title="Catch an objective that cannot undo its own mistakes",
    section="Bug museum",
    difficulty=2,
    minutes=8,
    task="""
A ratio is on the *wrong side* where A > 0 and r < 1 − ε (a good action has become rarer), or A < 0 and r > 1 + ε (a
bad one has become likelier). There an objective has to call it back.

Write `repairs(objective)`. `objective(ratio, advantage)` takes two tensors of one shape and returns one value per
sample, to be *maximised*. Return `True` if on the wrong side, for both signs of A, its slope ∂f/∂r has the sign of A;
otherwise `False`.

What it does elsewhere is its own affair, inside the range and on the other side of it (where PPO is flat, SPO pulls
back, and the unclipped one goes on). Not all codes on trial have the same ε; it lies between 0.1 and 0.6. So probe
where all of them are on the wrong side, below 0.4 and above 1.6, near and far. How steep the slope is does not matter.
""",
    stub="""
def repairs(objective):
    ...
""",
    hints=(
        "Two of PPO's six cases are the whole story. Choose some ratios on the wrong side, whatever ε is, for A > 0 "
        "and for A < 0, and look at the slope there.",
        "`ratio = torch.tensor([0.1, 0.3, 1.7, 3.0], dtype=torch.float64, requires_grad=True)`, with the advantages "
        "1, 1, −1, −1. Then `torch.autograd.grad(objective(ratio, advantage).sum(), ratio)`.",
        "The slope has the sign of A where `slope * advantage > 0`. Ask it of all samples. Slopes, not values: a "
        "value can be PPO's while the gradient is cut.",
    ),
    solution="""
def repairs(objective):
    ratio = torch.tensor([0.1, 0.2, 0.3, 1.7, 2.0, 3.0], dtype=torch.float64, requires_grad=True)
    advantage = torch.tensor([1.0, 1.0, 1.0, -1.0, -1.0, -1.0], dtype=torch.float64)
    (slope,) = torch.autograd.grad(objective(ratio, advantage).sum(), ratio)
    return bool((slope * advantage > 0).all())
""",
    after="""
This is what the **minimum** in PPO's formula is for. The clip alone is flat on both sides; the minimum takes the clip
away again where it would keep a mistake. Every objective of the chapter has this property, whatever it does on the
other side.

If you read "outside the range the gradient is zero", in a text or in a name such as "clip fraction", ask: on which
side?
""",
    parameters=("objective",),
    returns=yes_or_no,
    probes=lambda: [
        (code,)
        for code in (
            s.ppo,
            s.spo,
            s.unclipped,
            s.times(s.ppo, 0.1),
            clip_without_minimum,
            s.with_eps(clip_without_minimum, 0.6),
            s.for_positive(clip_without_minimum, s.ppo),
            s.for_positive(s.ppo, clip_without_minimum),
            gated,
            rollback_everywhere,
            upside_down_inside,
            s.times(s.ppo, 0.01),
        )
    ],
)


@repairs.requires("clears PPO's objective, however it is written")
def _(answer):
    return clears(answer, s.suspects(s.PPO, "objective", s.RIGHT))


@repairs.requires("clears objectives that do not make the mistake")
def _(answer):
    small = [
        Suspect("a tenth of PPO's objective", s.times(s.ppo, 0.1), s.SCALED),
        Suspect("a hundredth of PPO's objective", s.times(s.ppo, 0.01), s.SCALED),
    ]
    others = s.suspects({**s.OTHERS, "the simple {} of the figures": s.simple}, "objective", s.OTHER)
    return clears(answer, [*others, *small])


@repairs.requires("clears what is wrong inside the range alone")
def _(answer):
    why = (
        "which goes the wrong way inside and is PPO's outside: on the wrong side, the only one that counts, it repairs"
    )
    return clears(answer, [Suspect("an objective with ε = 0.2", upside_down_inside, why)])


@repairs.requires("catches a clip without its minimum")
def _(answer):
    why = "which is flat on both sides of the range: what has gone wrong stays wrong"
    return catches(
        answer,
        [
            Suspect("the published mistake, `clip(r)A`", clip_without_minimum, why),
            Suspect("`clip(r)A` with ε = 0.1", s.with_eps(clip_without_minimum, 0.1), why),
            Suspect(
                "`clip(r)A` with ε = 0.6", s.with_eps(clip_without_minimum, 0.6), ("flat only below 0.4 and above 1.6")
            ),
            Suspect("`max(rA, clip(r)A)`", larger_of_two, "which is flat on the wrong side and nowhere else"),
        ],
    )


@repairs.requires("catches it where only one sign of A is wrong")
def _(answer):
    why = "which leaves samples with {} where they are on the wrong side"
    return catches(
        answer,
        [
            Suspect("a mixed objective", s.for_positive(clip_without_minimum, s.ppo), why.format("A > 0")),
            Suspect("a mixed objective", s.for_positive(s.ppo, clip_without_minimum), why.format("A < 0")),
        ],
    )


@repairs.requires("catches a gradient that is cut, or points away")
def _(answer):
    return catches(
        answer,
        [
            Suspect("an objective with PPO's values", gated, "whose gradient is cut wherever r is outside the range"),
            Suspect(
                "a rollback on both sides", rollback_everywhere, "whose slope on the wrong side points further away"
            ),
        ],
    )


def _pull(objective, ratio, advantage):
    """Slope times advantage: positive where the sample is moved the way its advantage asks."""
    ratio = torch.tensor(ratio, dtype=torch.float64, requires_grad=True)
    advantage = torch.tensor(advantage, dtype=torch.float64)
    return torch.autograd.grad(objective(ratio, advantage).sum(), ratio)[0] * advantage


@repairs.mutant("always_true", "It says True to everything on trial: what the mistake changes, it does not look at.")
def _(objective):
    return True


@repairs.mutant("only_positive", "It tries A > 0 alone. For A < 0 the wrong side is r > 1 + ε.")
def _(objective):
    return bool((_pull(objective, [0.1, 0.5], [1.0, 1.0]) > 0).all())


@repairs.mutant("only_negative", "It tries A < 0 alone. For A > 0 the wrong side is r < 1 − ε.")
def _(objective):
    return bool((_pull(objective, [1.5, 3.0], [-1.0, -1.0]) > 0).all())


@repairs.mutant("inside", "It looks inside the range only, where the clip does nothing.")
def _(objective):
    return bool((_pull(objective, [0.9, 1.1], [1.0, -1.0]) > 0).all())


@repairs.mutant("near_the_edge", "It looks just outside 0.8 and 1.2. Another ε moves the edges: look further out.")
def _(objective):
    return bool((_pull(objective, [0.7, 1.3], [1.0, -1.0]) > 0).all())


@repairs.mutant(
    "right_side",
    ("It looks at the other side, where the ratio has gone the way A pushes it. There PPO is flat on purpose."),
)
def _(objective):
    return bool((_pull(objective, [0.5, 1.5], [-1.0, 1.0]) > 0).all())


@repairs.mutant("all_outside", "It wants a slope on both sides of the range. On one of them PPO is flat on purpose.")
def _(objective):
    return bool((_pull(objective, [0.5, 1.5, 0.5, 1.5], [1.0, -1.0, -1.0, 1.0]) > 0).all())


@repairs.mutant(
    "inside_as_well", "It asks the slope inside the range as well. What an objective does there is its own affair."
)
def _(objective):
    return bool((_pull(objective, [0.1, 0.9, 1.1, 3.0, 0.9], [1.0, 1.0, -1.0, -1.0, -1.0]) > 0).all())


@repairs.mutant(
    "steep_enough", "It asks for a slope of some size. A small one calls back too, only more slowly: compare with 0."
)
def _(objective):
    return bool((_pull(objective, [0.1, 0.3, 1.7, 3.0], [1.0, 1.0, -1.0, -1.0]) > 0.05).all())


@repairs.mutant("not_flat", "It is content with any slope but zero; one that points further away repairs nothing.")
def _(objective):
    return bool((_pull(objective, [0.1, 0.5, 1.5, 3.0], [1.0, 1.0, -1.0, -1.0]) != 0).all())


@repairs.mutant(
    "value", ("It compares values. An objective can have PPO's values while its gradient is cut: look at slopes.")
)
def _(objective):
    ratio = torch.tensor([0.1, 0.3, 1.9, 2.1], dtype=torch.float64)
    advantage = torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=torch.float64)
    near, far = objective(ratio, advantage)[[1, 2]], objective(ratio, advantage)[[0, 3]]
    return bool((near > far).all())


@repairs.mutant("slope_is_A", "It asks for the slope A exactly. SPO's is steeper out there; the sign is the property.")
def _(objective):
    pull = _pull(objective, [0.1, 0.5, 1.5, 3.0], [1.0, 1.0, -1.0, -1.0])
    return torch.allclose(pull, torch.ones_like(pull))


@repairs.mutant("ppo_formula", "It compares with PPO's formula, so it refuses every other objective that repairs.")
def _(objective):
    ratio = torch.linspace(0.1, 3, 30, dtype=torch.float64)
    return all(torch.allclose(objective(ratio, a), s.ppo(ratio, a)) for a in (ratio / ratio, -ratio / ratio))


@repairs.accepts("a small step of ascent")
def _(objective):
    generator = torch.Generator().manual_seed(0)
    far = torch.rand(200, generator=generator)
    good = torch.arange(200) % 2 == 0
    ratio = torch.where(good, 0.02 + 0.65 * far, 1.35 + 2 * far).requires_grad_()
    advantage = torch.where(good, 1.0, -1.0)
    objective(ratio, advantage).mean().backward()
    return ((ratio.grad > 0) == good).all() and bool((ratio.grad != 0).all())


@repairs.accepts("one ratio after the other")
def _(objective):
    for r, a in ((0.05, 2.0), (0.35, 0.5), (0.65, 1.0), (1.35, -2.0), (1.75, -0.5), (2.5, -1.0)):
        ratio = torch.tensor(r, requires_grad=True)
        objective(ratio, torch.tensor(a)).backward()
        if ratio.grad * a <= 0:
            return False
    return True


piece(
    "ratio_clipping.clip_without_minimum",
    title="A clip without its minimum",
    section="3",
    wrong=Wrong(
        "clip_without_minimum",
        "The clip is flat on *both* sides of the range. On one side that is wanted: the ratio has gone far enough "
        "the way A pushes it. On the other it is not: a good action that has become much rarer, a bad one that has "
        "become much likelier, gets no gradient, and stays. PPO's minimum takes the clip away there.",
        clip_without_minimum,
        "tensorforce/tensorforce",
    ),
    published=(
        "`tensorforce/tensorforce`, `tensorforce/models/ppo_model.py`, commit `172022d` of 2017-08-23: the loss is "
        "−clip(r, 1 − ε, 1 + ε) × A, without the minimum. Reported on the same day: "
        "https://github.com/tensorforce/tensorforce/issues/106\n\nThe same in words. `huggingface/deep-rl-class`, "
        "`units/en/unit8/visualize.mdx`, line 62, says that outside the range the gradient will be equal to 0 (since "
        "commit `e19a16c` of 2023-02-15), although the six cases above it on the same page are right. And "
        "the RLHF book said it of the clip fraction, the share of samples with a ratio outside the range: "
        "https://github.com/natolambert/rlhf-book/pull/290"
    ),
    thread="https://github.com/tensorforce/tensorforce/issues/106",
    corrected=(
        "The code was corrected on the day it was reported, in commit `4538be5`. The sentence of "
        "`huggingface/deep-rl-class` was still there in the copy of 2026-04-15 that we read; that of "
        "the RLHF book was corrected in commit `45740c3` of 2026-03-07."
    ),
    symptom=(
        "On the left are the slopes: both codes agree but on the wrong side, where the clip alone is flat. On the "
        "right a policy was pushed the wrong way first, until nearly half of the samples lay on the wrong side. PPO "
        "has brought nearly all of them back after 20 steps. Under the clip alone most are still there after 100; "
        "those that left were dragged along by others."
    ),
    right=s.ppo,
    exercise="ratio_clipping.catch_clip_without_minimum",
)
