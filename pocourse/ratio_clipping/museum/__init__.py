"""The bug museum of chapter 2: six mistakes that were published, each with its symptom and the task to catch it.

Every piece has a file of its own, with its wrong code, its task and its plaque; ``symptoms`` computes what the plots
show, ``drawings`` draws it, and ``suspects`` holds the codes that several tasks share.
"""

from pocourse.ratio_clipping.museum import (  # noqa: I001, they are registered in the order of the tour
    clip_without_minimum,
    missing_minus,
    max_for_min,
    minimum_of_means,
    ratio_always_one,
    k1_penalty,
)
from pocourse.ratio_clipping.museum.drawings import draw

__all__ = [
    "clip_without_minimum",
    "draw",
    "k1_penalty",
    "max_for_min",
    "minimum_of_means",
    "missing_minus",
    "ratio_always_one",
]
