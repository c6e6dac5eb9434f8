"""Chapter 3, surrogate variance: what importance sampling costs, and what dropping samples does about it."""

from pocourse.surrogate_variance.bounds import (
    chi_square,
    control_coefficient,
    effective_sample_size,
    surrogate_variance,
    variance_bound,
)
from pocourse.surrogate_variance.estimators import controlled_mean, kept_mean, ratio_dropout_mask, sign_dropout_mask
from pocourse.surrogate_variance.objectives import dppo_loss, sample_dropout_loss

__all__ = [
    "chi_square",
    "control_coefficient",
    "controlled_mean",
    "dppo_loss",
    "effective_sample_size",
    "kept_mean",
    "ratio_dropout_mask",
    "sample_dropout_loss",
    "sign_dropout_mask",
    "surrogate_variance",
    "variance_bound",
]
