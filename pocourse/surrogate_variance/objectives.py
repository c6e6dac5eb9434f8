"""The losses of chapter 3, to be minimised: surrogates of which some samples are dropped. One value per sample."""

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

    Shapes: all [\*batch, sample] -> [\*batch, sample], one value per sample. Each batch is ranked by itself.
    Gradient: through logp alone; which samples are kept is data.
    Raises: ValueError as ppo_clip_loss, for tensors without an axis, or a drop_fraction outside [0, 1).
    Source: ours, after the abstract of Xie, Yu & Qiao 2023 (D-PPO). Their rule was not readable to us, nor their
    fraction: the default is ours.
    """
    loss = ppo_clip_loss(logp, logp_old, advantage, clip_eps=clip_eps)
    _check.axes(1, logp=logp)
    keep = sign_dropout_mask((logp.detach() - logp_old).exp(), advantage, drop_fraction=drop_fraction)
    return kept_weight(keep, logp) * loss


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
    loss = importance_loss(logp, logp_old, advantage)
    _check.axes(1, logp=logp)
    keep = ratio_dropout_mask((logp.detach() - logp_old).exp(), delta=delta)
    return kept_weight(keep, logp) * loss
