"""The bug museum of chapter 3: four mistakes that were published, each with its symptom and the task to catch it.

Every piece has a file of its own, with its wrong code, its task and its plaque; ``symptoms`` computes what the plots
show, and ``drawings`` draws it.
"""

from pocourse.surrogate_variance.museum import (  # noqa: I001, they are registered in the order of the tour
    unbias_that_biases,
    std_called_variance,
    frozen_denominator,
    weights_as_a_column,
)
from pocourse.surrogate_variance.museum.drawings import draw

__all__ = ["draw", "frozen_denominator", "std_called_variance", "unbias_that_biases", "weights_as_a_column"]
