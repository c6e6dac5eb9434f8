"""The objectives of chapter 2 as functions of the ratio, and the losses that training minimises.

Objectives f(ratio, advantage) are what is *maximised*; the figures and the claims use them. Losses
take log-probabilities, are minimised, and return one value per sample: the caller averages.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from pocourse import _check

# ---------------------------------------------------------------- objectives, functions of the ratio


def importance_objective(ratio: Float[Tensor, "*batch"], advantage: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """The importance-weighted advantage.

    f = r A

    Shapes: ratio r = pi(a|s) / pi_old(a|s) and advantage A [*batch] -> [*batch], in units of A.
    Gradient: through ratio; the advantage is data.
    Raises: ValueError if shapes differ, the batch is empty, a value is NaN, a ratio is negative, or the advantage
    carries gradient.
    Source: Schulman et al. 2017 (PPO), eq. 6.
    """
    _judge(ratio=ratio, advantage=advantage)
    return ratio * advantage


def clip_objective(
    ratio: Float[Tensor, "*batch"], advantage: Float[Tensor, "*batch"], *, clip_eps: float = 0.2
) -> Float[Tensor, "*batch"]:
    """PPO's clipped objective: the smaller of the plain and the clipped product.

    f = min( r A, clip(r, 1 - eps, 1 + eps) A )

    Shapes: ratio and advantage [*batch] -> [*batch], in units of A.
    Gradient: through ratio; zero only where the ratio has already gone too far the way A pushes it.
    Raises: ValueError if shapes differ, the batch is empty, a value is NaN, a ratio is negative, the advantage carries
    gradient, or clip_eps is not positive.
    Source: Schulman et al. 2017 (PPO), eq. 7.
    """
    _judge(ratio=ratio, advantage=advantage)
    _check.number(clip_eps=clip_eps, above=0)
    return torch.minimum(ratio * advantage, ratio.clamp(1 - clip_eps, 1 + clip_eps) * advantage)


def rollback_objective(
    ratio: Float[Tensor, "*batch"], advantage: Float[Tensor, "*batch"], *, clip_eps: float = 0.2, slope: float = 0.3
) -> Float[Tensor, "*batch"]:
    """PPO-RB: where PPO's clip is flat, the objective falls with a slope of its own and rolls the ratio back.

    f = min( r A, g(r) A ),  g(r) = r inside [1 - eps, 1 + eps], else -slope r + (1 + slope)(1 +- eps)

    Shapes: ratio and advantage [*batch] -> [*batch], in units of A.
    Gradient: through ratio.
    Raises: ValueError as clip_objective, and if slope is negative.
    Source: Wang, He & Tan 2019 (Truly PPO), the rollback function of PPO-RB.
    """
    _judge(ratio=ratio, advantage=advantage)
    _check.number(clip_eps=clip_eps, above=0)
    _check.number(slope=slope, at_least=0)
    nearest = ratio.clamp(1 - clip_eps, 1 + clip_eps)
    rolled = nearest - slope * (ratio - nearest)
    return torch.minimum(ratio * advantage, rolled * advantage)


def spo_objective(
    ratio: Float[Tensor, "*batch"], advantage: Float[Tensor, "*batch"], *, eps: float = 0.2
) -> Float[Tensor, "*batch"]:
    """SPO's parabola: the product minus a quadratic penalty whose top sits exactly at the edge of the trust region.

    f = r A - |A| / (2 eps) (r - 1)^2, largest at r = 1 + eps sign(A)

    Shapes: ratio and advantage [*batch] -> [*batch], in units of A.
    Gradient: through ratio: A - |A| (r - 1) / eps, never flat except at the top.
    Raises: ValueError if shapes differ, the batch is empty, a value is NaN, a ratio is negative, the advantage carries
    gradient, or eps is not positive.
    Source: Xie et al. 2025 (SPO, arXiv 2401.16025v9), eq. 16.
    """
    _judge(ratio=ratio, advantage=advantage)
    _check.number(eps=eps, above=0)
    return ratio * advantage - advantage.abs() / (2 * eps) * (ratio - 1) ** 2


def simple_aligned_objective(
    ratio: Float[Tensor, "*batch"], advantage: Float[Tensor, "*batch"], *, eps: float = 0.2
) -> Float[Tensor, "*batch"]:
    """The simplest eps-aligned objective: the squared distance to the edge, whatever the size of the advantage.

    f = -(r - 1 - eps sign(A))^2

    Shapes: ratio and advantage [*batch] -> [*batch], without units: only the sign of A counts.
    Gradient: through ratio.
    Raises: ValueError as spo_objective.
    Source: Xie et al. 2025 (SPO), section 5, f_simple.
    """
    _judge(ratio=ratio, advantage=advantage)
    _check.number(eps=eps, above=0)
    return -((ratio - 1 - eps * advantage.sign()) ** 2)


def kl_objective(
    ratio: Float[Tensor, "*batch"], advantage: Float[Tensor, "*batch"], *, kl_coef: float
) -> Float[Tensor, "*batch"]:
    """The product minus a penalty on the Kullback-Leibler divergence, in its k3 form.

    f = r A - kl_coef (r - 1 - log r), where E_old[r - 1 - log r] = KL(pi_old || pi)

    Shapes: ratio (> 0) and advantage [*batch] -> [*batch], in units of A.
    Gradient: through ratio.
    Raises: ValueError if shapes differ, the batch is empty, a value is NaN, a ratio is negative, the advantage carries
    gradient, or kl_coef is negative.
    Source: Schulman et al. 2017 (PPO), eq. 8, with the per-sample estimate of the divergence by Schulman 2020 (k3).
    """
    _judge(ratio=ratio, advantage=advantage)
    _check.number(kl_coef=kl_coef, at_least=0)
    return ratio * advantage - kl_coef * (ratio - 1 - ratio.log())


# ---------------------------------------------------------------- losses, functions of log-probabilities


def importance_loss(
    logp: Float[Tensor, "*batch"], logp_old: Float[Tensor, "*batch"], advantage: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    """The unclipped surrogate, to be minimised.

    loss = -r A,  r = exp(logp - logp_old)

    Shapes: all [*batch] -> [*batch], one value per sample.
    Gradient: through logp alone; logp_old and advantage are data.
    Raises: ValueError if shapes differ, a value is NaN, or logp_old or advantage carries gradient.
    Source: Schulman et al. 2017 (PPO), eq. 6; the sign is turned because it is minimised.
    """
    return -importance_objective(_ratio(logp, logp_old), advantage)


def ppo_clip_loss(
    logp: Float[Tensor, "*batch"],
    logp_old: Float[Tensor, "*batch"],
    advantage: Float[Tensor, "*batch"],
    *,
    clip_eps: float = 0.2,
) -> Float[Tensor, "*batch"]:
    """PPO's clipped surrogate, to be minimised.

    loss = -min( r A, clip(r, 1 - eps, 1 + eps) A )

    Shapes: all [*batch] -> [*batch], one value per sample.
    Gradient: through logp alone; logp_old and advantage are data.
    Raises: ValueError if shapes differ, a value is NaN, logp_old or advantage carries gradient, or clip_eps is not
    positive.
    Source: Schulman et al. 2017 (PPO), eq. 7; the sign is turned because it is minimised.
    """
    return -clip_objective(_ratio(logp, logp_old), advantage, clip_eps=clip_eps)


def kl_penalty_loss(
    logp: Float[Tensor, "*batch"],
    logp_old: Float[Tensor, "*batch"],
    advantage: Float[Tensor, "*batch"],
    *,
    kl_coef: float,
) -> Float[Tensor, "*batch"]:
    """The surrogate with a penalty on KL(pi_old || pi), to be minimised.

    loss = -r A + kl_coef (r - 1 - log r)

    Shapes: all [*batch] -> [*batch], one value per sample.
    Gradient: through logp alone; logp_old and advantage are data.
    Raises: ValueError if shapes differ, a value is NaN, logp_old or advantage carries gradient, or kl_coef is negative.
    Source: Schulman et al. 2017 (PPO), eq. 8, with Schulman's k3 in place of the exact divergence.
    """
    _check.number(kl_coef=kl_coef, at_least=0)
    # From log r itself: the log of a ratio that has underflowed to zero would be infinite, its gradient NaN.
    _, k3 = kl_estimates(logp, logp_old)
    return importance_loss(logp, logp_old, advantage) + kl_coef * k3


def spo_loss(
    logp: Float[Tensor, "*batch"],
    logp_old: Float[Tensor, "*batch"],
    advantage: Float[Tensor, "*batch"],
    *,
    eps: float = 0.2,
) -> Float[Tensor, "*batch"]:
    """SPO's surrogate, to be minimised.

    loss = -r A + |A| / (2 eps) (r - 1)^2

    Shapes: all [*batch] -> [*batch], one value per sample.
    Gradient: through logp alone; logp_old and advantage are data.
    Raises: ValueError if shapes differ, a value is NaN, logp_old or advantage carries gradient, or eps is not positive.
    Source: Xie et al. 2025 (SPO, arXiv 2401.16025v9), eq. 16; the sign is turned because it is minimised.
    """
    return -spo_objective(_ratio(logp, logp_old), advantage, eps=eps)


# ---------------------------------------------------------------- how far the policy has moved


def ratio_deviation(logp: Float[Tensor, "*batch"], logp_old: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """How far each ratio is from one; its mean under the old policy is twice the total variation.

    |r - 1|,  TV(pi_old, pi) = 1/2 E_old |r - 1|

    Shapes: both [*batch] -> [*batch], one value per sample, without units.
    Gradient: through logp.
    Raises: ValueError if shapes differ, a value is NaN, or logp_old carries gradient.
    Source: Xie et al. 2025 (SPO), eq. 9, after Queeney et al. 2021.
    """
    return (_ratio(logp, logp_old) - 1).abs()


def kl_estimates(
    logp: Float[Tensor, "*batch"], logp_old: Float[Tensor, "*batch"]
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """Two per-sample estimates of KL(pi_old || pi) from actions of the old policy, both unbiased.

    k1 = -log r,  k3 = r - 1 - log r >= 0

    Shapes: both [*batch] -> (k1, k3), each [*batch], in nats.
    Gradient: through logp.
    Raises: ValueError if shapes differ, a value is NaN, or logp_old carries gradient.
    Source: Schulman 2020, "Approximating KL divergence".
    """
    ratio = _ratio(logp, logp_old)
    return logp_old - logp, ratio - 1 - (logp - logp_old)


def adaptive_kl_coef(kl_coef: float, kl: float, *, kl_target: float) -> float:
    """The next penalty coefficient: halved where the last step was timid, doubled where it was too bold.

    kl < kl_target / 1.5 -> kl_coef / 2;  kl > 1.5 kl_target -> 2 kl_coef;  else unchanged

    Shapes: Python numbers; kl and kl_target in nats.
    Gradient: none.
    Raises: ValueError if kl_coef or kl_target is not positive, or kl is not finite.
    Source: Schulman et al. 2017 (PPO), section 4.
    """
    _check.number(kl_coef=kl_coef, kl_target=kl_target, above=0)
    _check.number(kl=kl)
    if kl < kl_target / 1.5:
        return kl_coef / 2
    return kl_coef * 2 if kl > 1.5 * kl_target else kl_coef


def _ratio(logp: Tensor, logp_old: Tensor) -> Tensor:
    _check.same_shape(logp=logp, logp_old=logp_old)
    _check.constant(logp_old=logp_old)
    _some(logp)
    return (logp - logp_old).exp()


def _judge(*, ratio: Tensor, advantage: Tensor) -> None:
    _check.same_shape(ratio=ratio, advantage=advantage)
    _check.entries(at_least=0, ratio=ratio)
    _check.constant(advantage=advantage)
    _some(ratio)


def _some(tensor: Tensor) -> None:
    if math.prod(tensor.shape) == 0:
        raise ValueError("expected at least one sample; got an empty batch. Check how the batch was sliced.")
