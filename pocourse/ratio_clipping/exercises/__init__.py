"""The exercises of chapter 2, in the order of the chapter, one module each. Importing this registers them."""

from pocourse.ratio_clipping.exercises import penalty, clip, parabola, divergence  # isort: skip

__all__ = ["clip", "divergence", "parabola", "penalty"]
