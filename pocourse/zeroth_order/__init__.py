"""Chapter 4, zeroth-order optimization: a random finite difference is REINFORCE, and what ZoAR makes of that."""

from pocourse.zeroth_order.bounds import (
    antithetic_variance,
    averaged_variance,
    forward_variance,
    optimal_baseline,
    rloo_variance,
    single_sample_variance,
)
from pocourse.zeroth_order.estimators import (
    antithetic_gradient,
    centred_ranks,
    forward_gradient,
    reinforce_gradient,
    rloo_gradient,
    weighted_gradient,
)
from pocourse.zeroth_order.updates import SGD, Adam, RAdaZO
from pocourse.zeroth_order.zoar import ZoAR

__all__ = [
    "SGD",
    "Adam",
    "RAdaZO",
    "ZoAR",
    "antithetic_gradient",
    "antithetic_variance",
    "averaged_variance",
    "centred_ranks",
    "forward_gradient",
    "forward_variance",
    "optimal_baseline",
    "reinforce_gradient",
    "rloo_gradient",
    "rloo_variance",
    "single_sample_variance",
    "weighted_gradient",
]
