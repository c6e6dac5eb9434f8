"""The bug museum of chapter 4: four mistakes that were published, each with its symptom and the task to catch it.

Every piece has a file of its own, with its wrong code, its task and its plaque; ``symptoms`` computes what the plots
show, and ``drawings`` draws it.
"""

from pocourse.zeroth_order.museum import (  # noqa: I001, they are registered in the order of the tour
    borrowed_minus_one,
    baseline_that_cancels,
    rank_off_by_one,
    speedup_off_a_grid,
)
from pocourse.zeroth_order.museum.drawings import draw

__all__ = ["baseline_that_cancels", "borrowed_minus_one", "draw", "rank_off_by_one", "speedup_off_a_grid"]
