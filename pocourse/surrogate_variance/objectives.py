"""The losses of chapter 3, to be minimised: surrogates of which some samples are dropped. One value per sample."""

import torch
from jaxtyping import Float
from torch import Tensor

from pocourse import _check
from pocourse.ratio_clipping.objectives import importance_loss, ppo_clip_loss
from pocourse.surrogate_variance.estimators import kept_weight, ratio_dropout_mask, sign_dropout_mask


def dppo_loss(
    logp: Float[Tensor, "*batch sample"],
    logp_old: Float[Tensor, "*batch sample"],
    advantage: Float[Tensor, "*batch sample"],
    *,
    clip_eps: float = 0.2,
    drop_fraction: float = 0.2,
) -> Float[Tensor, "*batch sample"]:
    r"""D-PPO, as we reconstruct it: PPO's clipped surrogate of the samples that sign_dropout_mask keeps.

    loss_i = -w_i min( r_i A_i, clip(r_i, 1 - eps, 1 + eps) A_i ),  w_i = n keep_i / sum_j keep_j

    The weights make the mean over the last axis one over the samples kept; what is dropped has loss and gradient zero.
    Where small classes lose every sample, all are kept (kept_weight).

    Shapes: all [\*batch, sample] -> [\*batch, sample], one value per sample. Each batch is ranked by itself.
    Gradient: through logp alone; which samples are kept is data.
    Raises: ValueError as ppo_clip_loss, for tensors without an axis, or a drop_fraction outside [0, 1).
    Source: ours, after the abstract of Xie, Yu & Qiao 2023 (D-PPO). Their rule was not readable to us, nor their
    fraction: the default is ours.
    """
    _judge(logp, logp_old, advantage)
    keep = sign_dropout_mask((logp.detach() - logp_old).exp(), advantage, drop_fraction=drop_fraction)
    weight = kept_weight(keep, logp)
    return weight * ppo_clip_loss(_used(logp, logp_old, weight), logp_old, advantage, clip_eps=clip_eps)


def sample_dropout_loss(
    logp: Float[Tensor, "*batch sample"],
    logp_old: Float[Tensor, "*batch sample"],
    advantage: Float[Tensor, "*batch sample"],
    *,
    delta: float = 0.25,
) -> Float[Tensor, "*batch sample"]:
    r"""Sample Dropout: the plain surrogate of the samples whose ratio is still near one.

    loss_i = -w_i r_i A_i,  w_i = n keep_i / sum_j keep_j,  keep_i = |r_i - 1| < delta

    Where no sample is near one, all are kept.

    Shapes: all [\*batch, sample] -> [\*batch, sample], one value per sample.
    Gradient: through logp alone; which samples are kept is data.
    Raises: ValueError as importance_loss, for tensors without an axis, or a delta that is not positive.
    Source: Lin et al. 2023 (Sample Dropout, arXiv 2302.02299), as in their public code, without its early stop.
    """
    _judge(logp, logp_old, advantage)
    weight = kept_weight(ratio_dropout_mask((logp.detach() - logp_old).exp(), delta=delta), logp)
    return weight * importance_loss(_used(logp, logp_old, weight), logp_old, advantage)


def _judge(logp: Tensor, logp_old: Tensor, advantage: Tensor) -> None:
    _check.same_shape(logp=logp, logp_old=logp_old, advantage=advantage)
    _check.constant(logp_old=logp_old, advantage=advantage)
    _check.axes(1, logp=logp)


def _used(logp: Tensor, logp_old: Tensor, weight: Tensor) -> Tensor:
    """logp where it counts, else the old one: the ratio of a dropped sample may overflow, and 0 * inf is no number."""
    return torch.where(weight > 0, logp, logp_old)
