"""Chapter 5, Diffusion-DPO: from comparisons to a denoiser that prefers."""

from pocourse.diffusion_dpo.objectives import (
    bradley_terry_loss,
    diffusion_dpo_loss,
    diffusion_dpo_margin,
    dpo_loss,
    dpo_margin,
    gibbs_policy,
    implicit_accuracy,
    squared_error,
)

__all__ = [
    "bradley_terry_loss",
    "diffusion_dpo_loss",
    "diffusion_dpo_margin",
    "dpo_loss",
    "dpo_margin",
    "gibbs_policy",
    "implicit_accuracy",
    "squared_error",
]
