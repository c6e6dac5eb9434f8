"""The bug museum of chapter 5: four mistakes that were published, each with its symptom and the task to catch it.

Every piece has a file of its own, with its wrong code, its task and its plaque; ``symptoms`` computes what the plots
show, and ``drawings`` draws it.
"""

from pocourse.diffusion_dpo.museum import (  # noqa: I001, they are registered in the order of the tour
    reference_that_learns,
    sigmoid_of_the_mean,
    error_taken_for_logp,
    beta_twice,
)
from pocourse.diffusion_dpo.museum.drawings import draw

__all__ = ["beta_twice", "draw", "error_taken_for_logp", "reference_that_learns", "sigmoid_of_the_mean"]
