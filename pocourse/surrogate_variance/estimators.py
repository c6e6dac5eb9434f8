"""Which samples a rule keeps, and what is made of those that are kept.

The last axis holds the samples of one batch; each index of the axes before it is a batch of its own, such as a seed.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pocourse import _check


def sign_dropout_mask(
    ratio: Float[Tensor, "*batch sample"], advantage: Float[Tensor, "*batch sample"], *, drop_fraction: float
) -> Bool[Tensor, "*batch sample"]:
    r"""D-PPO's dropout of samples, as we reconstruct it: within each sign of the advantage drop the smallest x = r A.

    keep = rank of x within its class >= round(drop_fraction * size of the class), classes A >= 0 and A < 0

    Counts are rounded to the nearest integer, halves to the even one; of equal x the earlier sample is dropped. In the
    class A < 0 the smallest x are the ones of largest magnitude: this is where the mean moves up. A class of few
    samples may lose all of them.

    Shapes: both [\*batch, sample] -> [\*batch, sample], True = kept.
    Gradient: none.
    Raises: ValueError if shapes differ, there is no sample, a value is NaN, a ratio is negative, or drop_fraction is
    not in [0, 1).
    Source: ours. The abstract of Xie, Yu & Qiao 2023 (D-PPO) tells of a dropout of training samples; the rule itself
    was not readable to us. Ranking by the row sums of the pair matrix x_i x_j is ranking by x where the sum of all x
    is positive.
    """
    _judge(ratio=ratio, advantage=advantage)
    _check.number(drop_fraction=drop_fraction, at_least=0, below=1)
    x = (ratio * advantage).detach()
    positive = advantage >= 0
    keep = torch.ones_like(positive)
    for member in (positive, ~positive):
        # The samples of the other class come last, so that a rank counts within the class.
        rank = x.masked_fill(~member, torch.inf).argsort(dim=-1, stable=True).argsort(dim=-1)
        dropped = (drop_fraction * member.sum(-1, keepdim=True).double()).round()
        keep &= (rank >= dropped) | ~member
    return keep


def ratio_dropout_mask(ratio: Float[Tensor, "*batch"], *, delta: float = 0.25) -> Bool[Tensor, "*batch"]:
    r"""Sample Dropout's rule: keep a sample while its ratio is near one.

    keep = |r - 1| < delta

    Shapes: [\*batch] -> [\*batch], True = kept. All may be dropped: kept_mean then keeps all.
    Gradient: none.
    Raises: ValueError if there is no sample, a value is NaN, a ratio is negative, or delta is not positive.
    Source: Lin et al. 2023 (Sample Dropout, arXiv 2302.02299); rule and default as in their public code.
    """
    _judge(ratio=ratio)
    _check.number(delta=delta, above=0)
    return (ratio.detach() - 1).abs() < delta


def kept_weight(
    keep: Bool[Tensor, "*batch sample"], like: Float[Tensor, "*batch sample"]
) -> Float[Tensor, "*batch sample"]:
    r"""Weights that turn a mean over all samples into the mean over those that are kept.

    w_i = n keep_i / sum_j keep_j, and w_i = 1 for all i where nothing is kept

    Shapes: both [\*batch, sample] -> [\*batch, sample], in the dtype of ``like``; they average to one.
    Gradient: none.
    Raises: ValueError if shapes differ or keep is not bool.
    Source: the rescue of an empty batch is that of the public code of Lin et al. 2023 (Sample Dropout).
    """
    _check.flags(like, keep=keep)
    _check.axes(1, keep=keep)
    count = keep.sum(-1, keepdim=True)
    shared = keep.to(like.dtype) * keep.shape[-1] / count.clamp(min=1)
    return torch.where(count > 0, shared, torch.ones_like(like))


def kept_mean(values: Float[Tensor, "*batch sample"], keep: Bool[Tensor, "*batch sample"]) -> Float[Tensor, "*batch"]:
    r"""The mean over the samples that are kept; over all where none is.

    m = sum_i keep_i values_i / sum_i keep_i

    Shapes: both [\*batch, sample] -> [\*batch].
    Gradient: through values.
    Raises: ValueError if shapes differ, keep is not bool, or a value is NaN.
    Source: Lin et al. 2023 (Sample Dropout), public code.
    """
    _check.floating(values=values)
    weight = kept_weight(keep, values)
    return torch.where(weight > 0, weight * values, torch.zeros_like(values)).mean(-1)


def controlled_mean(
    ratio: Float[Tensor, "*batch sample"], advantage: Float[Tensor, "*batch sample"]
) -> Float[Tensor, "*batch"]:
    r"""The surrogate's sample mean with the ratio as a control variate, its coefficient fitted to the same samples.

    m = mean(r A) - c (mean(r) - 1),  c = Cov(r A, r) / Var(r) over the samples

    Because c is fitted, the mean carries a bias of order 1/n; with a coefficient known beforehand it has none.

    Shapes: both [\*batch, sample] -> [\*batch], in units of A.
    Gradient: through both.
    Raises: ValueError if shapes differ, there is no sample, a value is NaN or a ratio is negative.
    Source: textbook (control variates); the ratio as one: ours.
    """
    _judge(ratio=ratio, advantage=advantage)
    x, spread = ratio * advantage, ratio - ratio.mean(-1, keepdim=True)
    variance = (spread**2).mean(-1)
    still = variance <= (8 * torch.finfo(x.dtype).eps * ratio.mean(-1)) ** 2  # equal ratios, but for rounding
    c = (spread * x).mean(-1) / torch.where(still, torch.ones_like(variance), variance)
    return x.mean(-1) - torch.where(still, torch.zeros_like(c), c) * (ratio.mean(-1) - 1)


def sample_moments(
    ratio: Float[Tensor, "*batch sample"],
    advantage: Float[Tensor, "*batch sample"],
    member: Bool[Tensor, "*batch sample"],
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    r"""Mean and variance (divisor: the number of members) of x = r A over the samples of one class.

    .. math:: \bar x = \frac1{n_C} \sum_{i \in C} x_i, \qquad v = \frac1{n_C} \sum_{i \in C} (x_i - \bar x)^2

    Shapes: all [\*batch, sample] -> two times [\*batch]; both 0 where no sample belongs to the class.
    Gradient: through ratio and advantage.
    Raises: ValueError if shapes differ, member is not bool, a value is NaN or a ratio is negative.
    Source: textbook.
    """
    _judge(ratio=ratio, advantage=advantage)
    _check.flags(advantage, member=member)
    count = member.sum(-1, keepdim=True).clamp(min=1)
    x = ratio * advantage
    mean = (x * member).sum(-1, keepdim=True) / count
    return mean.squeeze(-1), ((x - mean) ** 2 * member).sum(-1) / count.squeeze(-1)


def _judge(*, ratio: Tensor, advantage: Tensor | None = None) -> None:
    tensors = {"ratio": ratio} if advantage is None else {"ratio": ratio, "advantage": advantage}
    _check.same_shape(**tensors)
    _check.axes(1, **tensors)
    _check.entries(at_least=0, ratio=ratio)
