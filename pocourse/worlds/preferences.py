"""Preferences among digits: a reward that can be read off the pixels, comparisons drawn from it, and a judge.

Images of this world are 8x8 digits as one axis of 64 pixels in [-1, 1]: no ink at -1, full ink at 1.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pocourse import _check
from pocourse.worlds.digits import Digits

INK_MEAN, INK_SD = 0.3052603, 0.0336452  # of an image's mean ink, over scikit-learn's 1,797 digits


class Comparisons(NamedTuple):
    """Pairs of images, the chosen one of each and the rejected one, with their true rewards."""

    chosen: Float[Tensor, "*batch pair pixel"]
    rejected: Float[Tensor, "*batch pair pixel"]
    reward_chosen: Float[Tensor, "*batch pair"]
    reward_rejected: Float[Tensor, "*batch pair"]


def ink(images: Float[Tensor, "*batch pixel"]) -> Float[Tensor, "*batch"]:
    r"""How much ink an image has, in standard deviations of the real digits: the reward of this world.

    .. math:: r(x) = \frac{1}{s} \Big( \frac1D \sum_i \frac{x_i + 1}{2} - m \Big)

    m and s are mean and standard deviation of the mean ink over scikit-learn's 1,797 digits, so that the reward is 0
    on average on real digits, and not on what a denoiser draws. It is linear in the pixels.

    Shapes: [\*batch, pixel] -> [\*batch].
    Gradient: through the images.
    Raises: ValueError for no pixel, integers, NaN.
    Source: ours.
    """
    _check.axes(1, images=images)
    _check.floating(images=images)
    return ((images + 1).mean(-1) / 2 - INK_MEAN) / INK_SD


def bradley_terry_choice(
    reward_first: Float[Tensor, "*batch"],
    reward_second: Float[Tensor, "*batch"],
    uniform: Float[Tensor, "*batch"],
    *,
    gain: float = 1.0,
) -> Bool[Tensor, "*batch"]:
    r"""Whether the first of two is chosen, when the chances are those of Bradley and Terry.

    .. math:: P(\text{first}) = \mathrm{sigmoid}\big(k\,(r_1 - r_2)\big), \qquad \text{chosen if } u < P

    The gain k says how sharply the judge sees: k r is the reward that a comparison tells, and what is to be learned.

    Shapes: all [\*batch] -> bool [\*batch]. ``uniform`` are numbers in [0, 1).
    Gradient: none.
    Raises: ValueError if shapes differ, a value is NaN, or the gain is not positive.
    Source: Bradley & Terry 1952, as in Rafailov et al. 2023 (DPO, arXiv 2305.18290).
    """
    _check.same_shape(reward_first=reward_first, reward_second=reward_second, uniform=uniform)
    _check.number(above=0, gain=gain)
    return uniform < (gain * (reward_first - reward_second)).sigmoid()


def make_pairs(
    images: Float[Tensor, "*batch image pixel"],
    reward: Float[Tensor, "*batch image"],
    uniform: Float[Tensor, "*batch pair"],
    *,
    gain: float = 1.0,
) -> Comparisons:
    r"""Pair the first half of the images with the second half, one by one, and let a Bradley-Terry judge choose.

    Shapes: images [\*batch, image, pixel] with an even number of images, reward [\*batch, image], uniform
    [\*batch, image / 2]; see ``Comparisons``. Images of several axes, such as channel, row and column, are flattened
    by the caller.
    Gradient: none that means anything: which image is chosen is a draw.
    Raises: ValueError if the shapes do not fit, the number of images is odd, or as ``bradley_terry_choice``.
    Source: ours.
    """
    _check.axes(2, images=images)
    _check.floating(images=images)
    _check.shape(images.shape[:-1], reward=reward)
    if images.shape[-2] % 2:
        raise ValueError(f"expected an even number of images to be paired; got {images.shape[-2]}. Leave one out.")
    (first, second), (reward_first, reward_second) = images.chunk(2, dim=-2), reward.chunk(2, dim=-1)
    chosen = bradley_terry_choice(reward_first, reward_second, uniform, gain=gain)
    its = chosen.unsqueeze(-1)
    return Comparisons(
        torch.where(its, first, second),
        torch.where(its, second, first),
        torch.where(chosen, reward_first, reward_second),
        torch.where(chosen, reward_second, reward_first),
    )


def label_agreement(
    reward_chosen: Float[Tensor, "*batch pair"], reward_rejected: Float[Tensor, "*batch pair"]
) -> Float[Tensor, "*batch"]:
    r"""How many of the choices agree with the true reward, which is as many as can be foreseen of a fresh comparison.

    .. math:: \frac1N \sum_i 1[r_w > r_l] + \tfrac12\, 1[r_w = r_l]

    Shapes: both [\*batch, pair] -> [\*batch], a share.
    Gradient: none.
    Raises: ValueError if shapes differ, there is no pair, or a value is NaN.
    Source: ours.
    """
    _check.axes(1, reward_chosen=reward_chosen)
    _check.same_shape(reward_chosen=reward_chosen, reward_rejected=reward_rejected)
    return ((reward_chosen - reward_rejected).sign().mean(-1).detach() + 1) / 2


def class_confidence(digits: Digits, images: Float[Tensor, "*batch image pixel"]) -> Float[Tensor, "*batch"]:
    r"""How sure the shipped classifier is of what it sees, on average: a measure of quality.

    .. math:: \frac1N \sum_n \max_c p(c \mid x_n)

    Shapes: [\*batch, image, 64] -> [\*batch], a probability.
    Gradient: through the images.
    Raises: ValueError for other than 64 pixels, no image, integers, NaN.
    Source: ours; the classifier is that of ``load_digits``.
    """
    return _class_probabilities(digits, images).amax(-1).mean(-1)


def class_entropy(digits: Digits, images: Float[Tensor, "*batch image pixel"]) -> Float[Tensor, "*batch"]:
    r"""How evenly the images spread over the ten digits: a measure of diversity, at most log 10.

    .. math:: H = -\sum_c \bar p_c \log \bar p_c, \qquad \bar p_c = \frac1N \sum_n p(c \mid x_n)

    Shapes: [\*batch, image, 64] -> [\*batch], in nats.
    Gradient: through the images.
    Raises: ValueError for other than 64 pixels, no image, integers, NaN.
    Source: ours; the classifier is that of ``load_digits``.
    """
    return torch.special.entr(_class_probabilities(digits, images).mean(-2)).sum(-1)


def _class_probabilities(digits, images):
    _check.axes(2, images=images)
    _check.floating(images=images)
    _check.shape((*images.shape[:-1], digits.first.shape[0]), images=images)
    weights = (x.to(images) for x in (digits.first, digits.first_bias, digits.last, digits.last_bias))
    judge = Digits(*weights, digits.images, digits.labels, digits.witness, digits.record)
    return judge.logits((images + 1) / 2).softmax(-1)
