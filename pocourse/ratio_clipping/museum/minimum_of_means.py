"""The minimum of two means where the mean of minima was meant."""

import torch

from pocourse.lesson.exercises import exercise
from pocourse.lesson.museum import Suspect, catches, clears, piece, yes_or_no
from pocourse.lesson.wrong import Wrong
from pocourse.ratio_clipping.museum import suspects as s

# ---------------------------------------------------------------- the wrong code, ours


def minimum_of_means(ratio, advantage, clip_eps=0.2):
    unclipped = (ratio * advantage).mean()
    clipped = (ratio.clamp(1 - clip_eps, 1 + clip_eps) * advantage).mean()
    return -torch.minimum(unclipped, clipped)


# ---------------------------------------------------------------- the task

mean_ppo = s.mean_of(s.ppo)


def sum_of_samples(ratio, advantage):
    return -s.ppo(ratio, advantage).sum()


def minimum_of_sums(ratio, advantage):
    return -torch.minimum((ratio * advantage).sum(), s.clipped(ratio, advantage).sum())


def maximum_of_negative_means(ratio, advantage):
    return torch.maximum((-ratio * advantage).mean(), (-s.clipped(ratio, advantage)).mean())


def clip_of_the_mean(ratio, advantage):
    """All ratios are scaled until their mean is inside the range."""
    scaled = ratio * ratio.mean().clamp(0.8, 1.2) / ratio.mean()
    return -torch.minimum(ratio * advantage, scaled * advantage).mean()


def _means_where(chosen):
    """Minimum of means over the samples with ``chosen(advantage)``, the minimum per sample for the others."""

    def loss(ratio, advantage):
        mask = chosen(advantage).to(ratio.dtype)
        shared = torch.minimum((ratio * advantage * mask).sum(), (s.clipped(ratio, advantage) * mask).sum())
        return -(shared + (s.ppo(ratio, advantage) * (1 - mask)).sum()) / len(ratio)

    return loss


def means_by_sign(ratio, advantage):
    """One minimum for the samples with A > 0, one for those with A < 0."""
    total = 0.0
    for mask in (advantage > 0, advantage <= 0):
        kept = mask.to(ratio.dtype)
        total = total + torch.minimum((ratio * advantage * kept).sum(), (s.clipped(ratio, advantage) * kept).sum())
    return -total / len(ratio)


def means_across_signs(ratio, advantage):
    """The minimum of means where a batch holds both signs of A, PPO's loss where it holds one."""
    both = (advantage > 0).any() & (advantage < 0).any()
    return torch.where(both, minimum_of_means(ratio, advantage), mean_ppo(ratio, advantage))


def divided_by_the_ratios(ratio, advantage):
    """The unclipped loss with weights that sum to one."""
    return -(ratio * advantage).sum() / ratio.sum()


means_for_positive, means_for_negative = _means_where(lambda a: a > 0), _means_where(lambda a: a < 0)


alone = exercise(
    "ratio_clipping.catch_minimum_of_means",
    title="Catch a loss in which one sample decides for the others",
    section="Bug museum",
    difficulty=4,
    minutes=12,
    task="""
The clip judges every sample by itself: whether *this* ratio has gone too far. So the gradient of one sample's ratio
must not depend on the ratios of the others.

Write `alone(loss)`. Here `loss(ratio, advantage)` takes two tensors of shape [n] and returns **one number for the
batch**, to be minimised. Return `True` if ∂loss/∂r of a sample stays the same, whatever the ratios of the other
samples are; otherwise `False`. Advantages and n stay as they are.

A mean over the samples and a sum are both fine. Not all codes on trial have the same ε.
""",
    stub="""
def alone(loss):
    ...
""",
    hints=(
        "Compare two batches that agree in one sample and differ in the ratios of all others. What do you expect of "
        "the gradient of the sample they share? And which batches would make the minimum change its mind?",
        "The minimum changes its mind when the others go far out, on the wrong side in one batch and on the right "
        "side in the other. You need not find such a pair by hand: draw many, with ratios from 0 to 3 and advantages "
        "of both signs.",
        "In a loop: `mine, theirs = 3 * torch.rand(2, 8)`, then `theirs[0] = mine[0]`, and the same advantages for "
        "both. Take the gradient of each batch in its ratios; entry 0 has to agree. A hundred draws are plenty.",
    ),
    solution="""
def alone(loss):
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        batches = 3 * torch.rand(2, 8, generator=generator, dtype=torch.float64)
        batches[1, 0] = batches[0, 0]
        advantage = torch.randn(8, generator=generator, dtype=torch.float64)
        slopes = [torch.autograd.grad(loss(r, advantage), r)[0][0] for r in batches.requires_grad_().unbind()]
        if not torch.isclose(*slopes):
            return False
    return True
""",
    after="""
The property says in one line what "per sample" means, and needs no formula. **Minimum and mean do not change
places.** As long as all ratios are inside the range the two means are equal, which is why nothing shows at the first
step, nor in a test near r = 1.

Second derivatives are no way out: the loss of the two means is a straight line almost everywhere, so all of them are
zero. It is the *switch* between two straight lines that couples the samples.
""",
    parameters=("loss",),
    returns=yes_or_no,
    probes=lambda: [
        (code,)
        for code in (
            mean_ppo,
            sum_of_samples,
            s.mean_of(s.spo),
            s.mean_of(s.unclipped),
            minimum_of_means,
            means_for_positive,
            means_for_negative,
            clip_of_the_mean,
            means_across_signs,
            means_by_sign,
            divided_by_the_ratios,
            s.with_eps(minimum_of_means, 0.7),
            lambda ratio, advantage: (ratio.mean() - 1) ** 2 - (ratio * advantage).mean(),
        )
    ],
)


@alone.requires("clears PPO's loss, as a mean or a sum, however it is written")
def _(answer):
    summed = Suspect("the sum over the samples of PPO's loss", sum_of_samples, s.RIGHT)
    return clears(answer, [*s.suspects(s.PPO, "loss", s.RIGHT, s.mean_of), summed])


@alone.requires("clears losses that do not make the mistake")
def _(answer):
    return clears(answer, s.suspects({**s.OTHERS, "the simple {}": s.simple}, "loss", s.OTHER, s.mean_of))


@alone.requires("catches the minimum of two means")
def _(answer):
    why = "in which the batch as a whole decides whether a sample is clipped"
    return catches(
        answer,
        [
            Suspect("the published mistake", minimum_of_means, why),
            Suspect("the minimum of two sums", minimum_of_sums, why),
            Suspect("`max(mean(−rA), mean(−clip(r)A))`", maximum_of_negative_means, why),
            Suspect("a loss that clips the mean ratio", clip_of_the_mean, why),
        ],
    )


@alone.requires("catches it with another ε")
def _(answer):
    return catches(
        answer,
        [
            Suspect("the minimum of means with ε = 0.05", s.with_eps(minimum_of_means, 0.05), "the mistake itself"),
            Suspect(
                "the minimum of means with ε = 0.7",
                s.with_eps(minimum_of_means, 0.7),
                "where only ratios below 0.3 or above 1.7 are clipped: the sample you watch has to lie out there, too",
            ),
        ],
    )


@alone.requires("catches it where only some samples are coupled")
def _(answer):
    why = "in which the samples with {} share one minimum"
    return catches(
        answer,
        [
            Suspect("a half-mended loss", means_for_positive, why.format("A > 0")),
            Suspect("a half-mended loss", means_for_negative, why.format("A < 0")),
            Suspect("a half-mended loss", means_by_sign, why.format("A > 0, and those with A < 0,")),
            Suspect(
                "a half-mended loss",
                means_across_signs,
                "in which samples share one minimum as soon as the batch holds both signs of A",
            ),
        ],
    )


@alone.requires("catches slopes that change and are never zero")
def _(answer):
    why = "in which every slope depends on all ratios, though none is clipped"
    return catches(answer, [Suspect("`−(rA).sum() / r.sum()`", divided_by_the_ratios, why)])


def _first_slope(loss, ratio, advantage):
    ratio = ratio.clone().requires_grad_()
    return torch.autograd.grad(loss(ratio, advantage), ratio)[0][0]


def _unmoved(loss, low=0.0, high=3.0, sign=None, zeros=False, draws=40):
    """The solution, with other ratios, with advantages of one sign, or with an eye for zeros alone."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(draws):
        one, other = low + (high - low) * torch.rand(2, 8, generator=generator, dtype=torch.float64)
        advantage = torch.randn(8, generator=generator, dtype=torch.float64)
        advantage = advantage if sign is None else sign * advantage.abs()
        other[0] = one[0]
        slopes = _first_slope(loss, one, advantage), _first_slope(loss, other, advantage)
        slopes = [(slope != 0).double() for slope in slopes] if zeros else slopes
        if not torch.isclose(*slopes):
            return False
    return True


@alone.mutant("always_true", "It says True to everything on trial: what the mistake changes, it does not look at.")
def _(loss):
    return True


@alone.mutant("inside", "It draws ratios inside the range, where nothing is clipped and the two means are one.")
def _(loss):
    return _unmoved(loss, 0.9, 1.1)


@alone.mutant(
    "near_the_edge", ("It draws ratios from 0.5 to 1.5. With a larger ε nothing is clipped there: go further out.")
)
def _(loss):
    return _unmoved(loss, 0.5, 1.5)


@alone.mutant("only_positive", "It draws positive advantages alone; samples with A < 0 can be coupled and no others.")
def _(loss):
    return _unmoved(loss, sign=1)


@alone.mutant("only_negative", "It draws negative advantages alone; samples with A > 0 can be coupled and no others.")
def _(loss):
    return _unmoved(loss, sign=-1)


@alone.mutant(
    "one_sign_at_a_time", "Each of its batches has advantages of one sign. Samples of opposite signs can be coupled."
)
def _(loss):
    return _unmoved(loss, sign=1) and _unmoved(loss, sign=-1)


@alone.mutant("only_zeros", "It asks only *which* slopes are zero. A slope can change and not vanish: compare numbers.")
def _(loss):
    return _unmoved(loss, zeros=True)


@alone.mutant("reorders", "It puts the others in another order, and no mean notices that. Give them other ratios.")
def _(loss):
    ratio = torch.tensor([1.5, 0.2, 0.6, 1.9, 2.5], dtype=torch.float64)
    advantage = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    turned = ratio[[0, 4, 3, 2, 1]]
    return torch.isclose(_first_slope(loss, ratio, advantage), _first_slope(loss, turned, advantage)).all()


@alone.mutant(
    "second_derivatives",
    ("It asks for second derivatives, and those of two straight lines are zero on both sides of the switch."),
)
def _(loss):
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        ratio = 3 * torch.rand(4, generator=generator, dtype=torch.float64)
        advantage = torch.randn(4, generator=generator, dtype=torch.float64)
        hessian = torch.autograd.functional.hessian(lambda r, a=advantage: loss(r, a), ratio)
        if (hessian - torch.diag(hessian.diagonal())).abs().max() > 1e-9:
            return False
    return True


@alone.mutant(
    "value",
    ("It compares the values of the loss. Those depend on every sample in a right loss too: compare gradients."),
)
def _(loss):
    one, other = torch.tensor([[1.5, 0.1], [1.5, 2.0]], dtype=torch.float64)
    advantage = torch.ones(2, dtype=torch.float64)
    return torch.isclose(loss(one, advantage), loss(other, advantage))


@alone.mutant(
    "alone_in_its_batch",
    ("It compares with a batch of one. A mean divides by n, so the gradient changes in a right loss too."),
)
def _(loss):
    generator = torch.Generator().manual_seed(0)
    ratio = 3 * torch.rand(8, generator=generator, dtype=torch.float64)
    advantage = torch.randn(8, generator=generator, dtype=torch.float64)
    return torch.isclose(_first_slope(loss, ratio, advantage), _first_slope(loss, ratio[:1], advantage[:1]))


@alone.mutant("ppo_formula", "It compares with the mean of PPO's formula, so it refuses every other right loss.")
def _(loss):
    generator = torch.Generator().manual_seed(0)
    ratio = 3 * torch.rand(64, generator=generator, dtype=torch.float64)
    advantage = torch.randn(64, generator=generator, dtype=torch.float64)
    return torch.isclose(loss(ratio, advantage), mean_ppo(ratio, advantage))


@alone.accepts("a batch is the sum of its halves")
def _(loss):
    # Where no sample knows of another, exchanging halves between two batches leaves the sum of their losses as it is.
    generator = torch.Generator().manual_seed(3)
    for _ in range(200):
        one, other = 3 * torch.rand(2, 6, generator=generator, dtype=torch.float64)
        a = torch.randn(6, generator=generator, dtype=torch.float64)
        crossed = torch.cat([one[:3], other[3:]]), torch.cat([other[:3], one[3:]])
        if (loss(one, a) + loss(other, a) - loss(crossed[0], a) - loss(crossed[1], a)).abs() > 1e-9:
            return False
    return True


@alone.accepts("pairs on a grid")
def _(loss):
    grid = (0.1, 0.9, 1.1, 3.0)
    for r in grid:
        for a, b in ((1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0)):
            advantage = torch.tensor([a, b])
            found = {round(_first_slope(loss, torch.tensor([r, x]), advantage).item(), 5) for x in grid}
            if len(found) > 1:
                return False
    return True


piece(
    "ratio_clipping.minimum_of_means",
    title="The correction that needed a correction",
    section="3",
    wrong=Wrong(
        "minimum_of_means",
        "The minimum of two averages is not the average of minima. Here the batch decides as a whole: if the average "
        "of rA is the smaller one, every sample gets its gradient, also those that are far beyond the edge already; "
        "if the average of the clipped products is, no sample outside the range gets any, also those that should be "
        "called back.",
        minimum_of_means,
        "yandexdataschool/Practical_RL",
    ),
    published=(
        "`yandexdataschool/Practical_RL`, `week09_policy_II/ppo.ipynb`, commit `92a744d` of 2019-09-11, which put "
        "the larger of two averages right: the loss became −min(L, L_clipped), with both still averaged over the "
        "batch before the minimum was taken. The thread:"
    ),
    thread="https://github.com/yandexdataschool/Practical_RL/pull/404",
    corrected="Corrected on 2020-05-01, in commit `2c1b105`: the minimum is taken per sample.",
    symptom=(
        "On the left one sample's ratio is changed and two others are watched: one that has gone too far and should "
        "have slope 0, and one that should be called back, with slope 1. With a minimum per sample they stay as they "
        "are. With the minimum of means both switch together. On the right is training on the batch of noise, from a "
        "policy that was pushed the wrong way: first every sample outside the range gets a gradient, then none does "
        "(pale: nobody is outside). Both codes bring the batch back by step 20. After that samples drift to the wrong "
        "side again; without a gradient they stay there: a quarter of the batch at the end, a tenth with PPO."
    ),
    right=mean_ppo,
    exercise="ratio_clipping.catch_minimum_of_means",
)
