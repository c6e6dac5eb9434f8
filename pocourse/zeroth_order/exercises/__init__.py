"""The exercises of chapter 4, in the order of the chapter, one module each. Importing this registers them."""

from pocourse.zeroth_order.exercises import leave_one_out, mirrored, reuse, ranking  # isort: skip

__all__ = ["leave_one_out", "mirrored", "ranking", "reuse"]
