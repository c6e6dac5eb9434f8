"""PPO's clipped objective, for section 3."""

import torch

from pocourse.lesson import trial
from pocourse.lesson.exercises import exercise
from pocourse.ratio_clipping.exercises._shared import (
    compare,
    each_by_itself,
    not_a_number,
    off,
    pair,
    points,
    row,
    slopes,
)

ppo_clip = exercise(
    "ratio_clipping.ppo_clip",
    title="PPO's clip",
    section="3",
    difficulty=2,
    minutes=5,
    task="""
For each sample, PPO maximises the smaller of two products: the ratio times the advantage, and the *clipped*
ratio times the advantage.

**f = min( r A, clip(r, 1 − ε, 1 + ε) A )**

Write it. `ppo_clip(ratio, advantage, clip_eps=0.2)` receives

- `ratio`, a tensor of any shape: one ratio r per sample. The gradient has to flow back through it;
- `advantage`, a tensor of the same shape and dtype: one advantage A per sample, of any sign, or zero. It is
  data;
- `clip_eps`, a positive number: ε

and returns a tensor of the same shape and dtype, one value of f per sample. f is what is *maximised*: no minus
sign, and no mean, which is the caller's business.
""",
    stub='''
def ppo_clip(ratio, advantage, clip_eps=0.2):
    """One value of PPO's clipped objective per sample."""
    ...
''',
    hints=(
        "Two *products* compete, and the smaller one wins. For A < 0 the larger ratio makes the smaller product, so "
        "the winner cannot be found by looking at the ratios alone. When does the advantage have to come in?",
        "`ratio.clamp(low, high)` keeps every element in a range and passes no gradient outside of it. "
        "`torch.minimum(x, y)` takes the smaller of two tensors element by element; `torch.min(x)` would look for "
        "one minimum in the whole batch.",
        "Name the two products: `plain = ratio * advantage` and `clipped = ratio.clamp(1 - clip_eps, 1 + clip_eps) * "
        "advantage`. What is left is the elementwise minimum of `plain` and `clipped`.",
    ),
    solution="""
def ppo_clip(ratio, advantage, clip_eps=0.2):
    plain = ratio * advantage
    clipped = ratio.clamp(1 - clip_eps, 1 + clip_eps) * advantage
    return torch.minimum(plain, clipped)
""",
    after="""
Of the four cases outside the range, two are flat, and two still have the slope A: there PPO takes back a step
in the wrong direction. Taking the minimum *before* multiplying by A looks almost the same and gets both cases
of A < 0 wrong; that version stood in a public implementation for seven months. Look next at what a slope of
zero does not do: it stops pushing, and holds nothing.
""",
    parameters=("ratio", "advantage"),
    options=("clip_eps",),
    returns=trial.tensor_like(0),
    probes=lambda: [
        (row(*(0.3, 0.5, 0.9, 1.1, 1.5, 2.0) * 3), row(*[2.0] * 6, *[-1.5] * 6, *[0.0] * 6)),
        # A table: whatever is right in a row is not taken for a loop over one axis.
        (row(0.05, 4.0, 0.05, 4.0).reshape(2, 2), row(5.0, 5.0, -6.0, -6.0).reshape(2, 2)),
        (row(0.6, 0.75, 1.25, 1.6, 0.6, 0.75, 1.25, 1.6), row(*[0.5] * 4, *[-0.7] * 4), {"clip_eps": 0.3}),
        (row(0.6, 0.9, 1.08, 1.6), row(3.0, -3.0, 3.0, -3.0), {"clip_eps": 0.05}),
    ],
    differentiable=(0,),
)

GOOD_RARER = "A > 0 and r < 1 − ε: a good action has become rarer, and the gradient has to repair that."
BAD_LIKELIER = "A < 0 and r > 1 + ε: a bad action has become likelier, and the gradient has to repair that."
GOOD_LIKELIER = (
    "A > 0 and r > 1 + ε: the ratio has gone far enough the way A pushes it, and nothing is to be gained beyond."
)
BAD_RARER = (
    "A < 0 and r < 1 − ε: the ratio has gone far enough the way A pushes it, and nothing is to be gained beyond."
)


@ppo_clip.requires("one value per sample, in a batch of any shape")
def _(answer):
    ratio, advantage = row(0.5, 1.0, 1.5, 0.5, 1.0, 1.5), row(2.0, 1.0, 2.0, -1.0, 3.0, -1.0)
    return each_by_itself(answer, ratio, advantage, points(ratio, advantage))


@ppo_clip.requires("the value is A at r = 1")
def _(answer):
    ratio, advantage = row(1.0, 1.0, 1.0, 1.0), row(2.0, 0.5, -0.5, -3.0)
    why = "At r = 1 both products are A. And f is what is maximised: no minus sign in front."
    return compare(answer(ratio, advantage), row(2.0, 0.5, -0.5, -3.0), points(ratio, advantage), why=why)


@ppo_clip.requires("the slope is A inside the range")
def _(answer):
    ratio, advantage = row(0.81, 0.95, 1.05, 1.19, 0.81, 0.95, 1.05, 1.19), row(*[2.0] * 4, *[-3.0] * 4)
    mine = slopes(answer, ratio, advantage, "ratio")
    return compare(
        mine,
        advantage,
        points(ratio, advantage),
        "slope ∂f/∂r",
        "Inside the range both products are r A, and the clip has no say.",
    )


@ppo_clip.requires("flat where the ratio has gone too far the way A pushes it")
def _(answer):
    # The last sample, inside the range, is there for its gradient: a right answer may be constant in the others.
    ratio, advantage = row(1.5, 1.21, 0.5, 0.79, 1.0), row(2.0, 2.0, -3.0, -3.0, 1.0)
    why = [f"{case} The slope vanishes." for case in (GOOD_LIKELIER, GOOD_LIKELIER, BAD_RARER, BAD_RARER)]
    mine = slopes(answer, ratio, advantage, "ratio")[:4]
    return compare(mine, torch.zeros_like(mine), points(ratio, advantage), "slope ∂f/∂r", why)


@ppo_clip.requires("not flat where it has gone the other way")
def _(answer):
    ratio, advantage = row(0.5, 0.79, 1.5, 1.21), row(2.0, 2.0, -3.0, -3.0)
    why = [f"{case} The slope is A." for case in (GOOD_RARER, GOOD_RARER, BAD_LIKELIER, BAD_LIKELIER)]
    mine = slopes(answer, ratio, advantage, "ratio")
    return compare(mine, advantage, points(ratio, advantage), "slope ∂f/∂r", why)


@ppo_clip.requires("the value outside the range, by hand")
def _(answer):
    ratio, advantage = row(1.5, 0.5, 0.5, 1.5), row(2.0, 2.0, -1.0, -1.0)
    why = (
        "The products are 1.5 × 2 = 3 and 1.2 × 2 = 2.4; the smaller one counts.",
        "The products are 0.5 × 2 = 1 and 0.8 × 2 = 1.6; the smaller one counts.",
        "The products are 0.5 × (−1) = −0.5 and 0.8 × (−1) = −0.8; the smaller one is −0.8.",
        "The products are 1.5 × (−1) = −1.5 and 1.2 × (−1) = −1.2; the smaller one is −1.5.",
    )
    return compare(answer(ratio, advantage), row(2.4, 1.0, -0.8, -1.5), points(ratio, advantage), why=why)


@ppo_clip.requires("the range is the one that clip_eps says")
def _(answer):
    for clip_eps in (0.3, 0.05):
        ratio, advantage = row(1.25, 1.5, 0.75, 0.5), row(2.0, 2.0, -1.0, -1.0)
        wanted = row(min(1.25, 1 + clip_eps) * 2, (1 + clip_eps) * 2, -max(0.75, 1 - clip_eps), clip_eps - 1)
        problem = compare(
            answer(ratio, advantage, clip_eps=clip_eps),
            wanted,
            points(ratio, advantage, clip_eps=clip_eps),
            why=f"The range now ends at 1 − ε = {1 - clip_eps:g} and at 1 + ε = {1 + clip_eps:g}.",
        )
        if problem:
            return problem
    return None


@ppo_clip.requires("twice the advantage, twice the value")
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
        "Both products are a ratio times A: the size of A scales them, and only the ratio is clipped."
    )


@ppo_clip.requires("right far out as well, and for large advantages")
def _(answer):
    ratio, advantage = row(0.0, 0.05, 5.0, 50.0, 0.0, 0.05, 5.0, 50.0), row(*[10.0] * 4, *[-7.0] * 4)
    low, high = "r is below 1 − ε", "r is above 1 + ε"
    why = [
        *[f"{low} and A > 0: the smaller product is r A itself, however far out r is."] * 2,
        *[f"{high} and A > 0: the smaller product is (1 + ε) A, however far out r is."] * 2,
        *[f"{low} and A < 0: the smaller product is (1 − ε) A, however far out r is."] * 2,
        *[f"{high} and A < 0: the smaller product is r A itself, however far out r is."] * 2,
    ]
    at, wanted = points(ratio, advantage), row(0.0, 0.5, 12.0, 12.0, -5.6, -5.6, -35.0, -350.0)
    return compare(answer(ratio.clone(), advantage), wanted, at, why=why) or compare(
        slopes(answer, ratio, advantage, "ratio"), row(10, 10, 0, 0, 0, 0, -7, -7), at, "slope ∂f/∂r", why
    )


@ppo_clip.requires("zero for A = 0")
def _(answer):
    ratio, advantage = row(0.5, 1.0, 1.5, 1.0), row(0.0, 0.0, 0.0, 1.0)
    wanted, why = row(0.0, 0.0, 0.0), "An action without advantage pushes nowhere, and both products are zero."
    at = points(ratio, advantage)
    return compare(answer(ratio.clone(), advantage)[:3], wanted, at, why=why) or compare(
        slopes(answer, ratio, advantage, "ratio")[:3], wanted, at, "slope ∂f/∂r", why
    )


# ---------------------------------------------------------------- wrong answers


@ppo_clip.mutant(
    "clip_without_the_minimum",
    "The clipped product alone is flat on both sides: once outside, PPO could not undo its own mistakes. The "
    "minimum with the plain product brings two of the four slopes back.",
)
def _(ratio, advantage, clip_eps=0.2):
    return ratio.clamp(1 - clip_eps, 1 + clip_eps) * advantage


@ppo_clip.mutant(
    "no_clip",
    "This is the surrogate r A alone: nothing takes the reward for leaving the range away.",
)
def _(ratio, advantage, clip_eps=0.2):
    return ratio * advantage + 0 * clip_eps


@ppo_clip.mutant(
    "maximum_for_minimum",
    "The larger product is the optimistic one: it rewards going too far, and is flat just where a mistake has to be "
    "undone.",
)
def _(ratio, advantage, clip_eps=0.2):
    return torch.maximum(ratio * advantage, ratio.clamp(1 - clip_eps, 1 + clip_eps) * advantage)


@ppo_clip.mutant(
    "minimum_before_the_advantage",
    "The smaller *ratio* makes the smaller product only for A > 0. For A < 0 both cases outside the range come out "
    "wrong: the minimum has to be taken of the products.",
    "a public PPO implementation in TensorFlow, build_graph.py, commit b3282aa (2017-12-24), reported in "
    "https://github.com/takuseno/ppo/issues/3, corrected in a4fbd38 (2018-08-01)",
)
def _(ratio, advantage, clip_eps=0.2):
    return torch.minimum(ratio, ratio.clamp(1 - clip_eps, 1 + clip_eps)) * advantage


@ppo_clip.mutant(
    "product_clipped",
    "What is clipped is the ratio, and not the product r A: the range 1 − ε to 1 + ε is one for ratios, and says "
    "nothing about advantages.",
)
def _(ratio, advantage, clip_eps=0.2):
    product = ratio * advantage
    return torch.minimum(product, product.clamp(1 - clip_eps, 1 + clip_eps))


@ppo_clip.mutant("clip_eps_ignored", "The range is fixed at 0.8 to 1.2, whatever `clip_eps` says.")
def _(ratio, advantage, clip_eps=0.2):
    return torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)


@ppo_clip.mutant(
    "upper_edge_only",
    "The lower edge is missing: for A < 0 nothing ends the reward for making an action rarer.",
)
def _(ratio, advantage, clip_eps=0.2):
    return torch.minimum(ratio * advantage, ratio.clamp(max=1 + clip_eps) * advantage)


@ppo_clip.mutant(
    "lower_edge_only",
    "The upper edge is missing: for A > 0 nothing ends the reward for making an action likelier.",
)
def _(ratio, advantage, clip_eps=0.2):
    return torch.minimum(ratio * advantage, ratio.clamp(min=1 - clip_eps) * advantage)


@ppo_clip.mutant(
    "ratio_detached",
    "The values are right, but the ratio is cut off from the gradient: the policy would never learn anything.",
)
def _(ratio, advantage, clip_eps=0.2):
    ratio = ratio.detach()
    return torch.minimum(ratio * advantage, ratio.clamp(1 - clip_eps, 1 + clip_eps) * advantage)


@ppo_clip.mutant(
    "loss_for_objective",
    "This is the loss, which is minimised. Asked for is the objective, which is maximised: the same without the "
    "minus sign.",
)
def _(ratio, advantage, clip_eps=0.2):
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - clip_eps, 1 + clip_eps) * advantage)


@ppo_clip.mutant(
    "clipped_samples_masked",
    "Setting clipped samples to zero leaves every slope right and the values wrong: the objective jumps at the "
    "edge, where it has to go on level at (1 ± ε) A.",
)
def _(ratio, advantage, clip_eps=0.2):
    too_far = ((advantage > 0) & (ratio > 1 + clip_eps)) | ((advantage < 0) & (ratio < 1 - clip_eps))
    return torch.where(too_far, torch.zeros_like(ratio), ratio * advantage)


@ppo_clip.mutant(
    "advantages_normalised",
    "Normalising the advantages is a matter for whoever makes the batch; here it ties the value of one sample to "
    "the others.",
)
def _(ratio, advantage, clip_eps=0.2):
    advantage = (advantage - advantage.mean()) / (advantage.std(correction=0) + 1e-8)
    return torch.minimum(ratio * advantage, ratio.clamp(1 - clip_eps, 1 + clip_eps) * advantage)


@ppo_clip.mutant(
    "sign_by_division",
    "A / |A| is the sign of A except at A = 0, where it is 0 / 0. `advantage.sign()` is 0 there, and so is the "
    "objective.",
)
def _(ratio, advantage, clip_eps=0.2):
    edge = 1 + clip_eps * advantage / advantage.abs()
    return torch.minimum(ratio * advantage, edge * advantage)


@ppo_clip.mutant(
    "dual_clip",
    "This is the *dual clip*, which some programs add: for A < 0 it ends the fall of f at 2 A. It is another "
    "objective, and flat where PPO repairs: a bad action that has become more than twice as likely gets no gradient.",
)
def _(ratio, advantage, clip_eps=0.2):
    value = torch.minimum(ratio * advantage, ratio.clamp(1 - clip_eps, 1 + clip_eps) * advantage)
    return torch.where(advantage < 0, torch.maximum(value, 2 * advantage), value)


@ppo_clip.mutant("mean_taken", "The mean is the caller's business: asked for is one value per sample.")
def _(ratio, advantage, clip_eps=0.2):
    return torch.minimum(ratio * advantage, ratio.clamp(1 - clip_eps, 1 + clip_eps) * advantage).mean()


@ppo_clip.mutant(
    "loop_over_one_axis",
    "A loop over the samples works for one axis only. `torch.minimum` takes tensors of any shape, and is much faster.",
)
def _(ratio, advantage, clip_eps=0.2):
    pairs = zip(ratio, advantage, strict=True)
    return torch.stack([min(r * a, r.clamp(1 - clip_eps, 1 + clip_eps) * a) for r, a in pairs])


# ---------------------------------------------------------------- right answers


@ppo_clip.accepts("minimum with a constant, the form without a clip (2.14)")
def _(ratio, advantage, *, clip_eps=0.2):
    edge = torch.where(advantage >= 0, 1 + clip_eps, 1 - clip_eps)
    return torch.minimum(ratio * advantage, edge * advantage)


@ppo_clip.accepts("the cases one by one")
def _(ratio, advantage, clip_eps=0.2):
    high = (advantage > 0) & (ratio > 1 + clip_eps)
    low = (advantage < 0) & (ratio < 1 - clip_eps)
    flat = torch.where(high, (1 + clip_eps) * advantage, (1 - clip_eps) * advantage)
    return torch.where(high | low, flat, ratio * advantage)


@ppo_clip.accepts("the size of the advantage outside, its sign inside")
def _(ratio, advantage, clip_eps=0.2):
    sign = advantage.sign()
    return advantage.abs() * torch.minimum(sign * ratio, sign * ratio.clamp(1 - clip_eps, 1 + clip_eps))


@ppo_clip.accepts("the plain product minus what is beyond the edge")
def _(ratio, advantage, clip_eps=0.2):
    beyond = torch.relu(advantage.sign() * (ratio - 1) - clip_eps)
    return ratio * advantage - advantage.abs() * beyond


@ppo_clip.accepts("the minimum along a new axis")
def _(ratio, advantage, clip_eps=0.2):
    return torch.stack((ratio, torch.clip(ratio, 1 - clip_eps, 1 + clip_eps))).mul(advantage).amin(0)
