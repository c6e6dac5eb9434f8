"""Chapter 2, ratio clipping: from a bound to a clip to a parabola."""

from pocourse.ratio_clipping.objectives import (
    adaptive_kl_coef,
    clip_objective,
    importance_loss,
    importance_objective,
    kl_estimates,
    kl_objective,
    kl_penalty_loss,
    ppo_clip_loss,
    ratio_deviation,
    rollback_objective,
    simple_aligned_objective,
    spo_loss,
    spo_objective,
)

__all__ = [
    "adaptive_kl_coef",
    "clip_objective",
    "importance_loss",
    "importance_objective",
    "kl_estimates",
    "kl_objective",
    "kl_penalty_loss",
    "ppo_clip_loss",
    "ratio_deviation",
    "rollback_objective",
    "simple_aligned_objective",
    "spo_loss",
    "spo_objective",
]
