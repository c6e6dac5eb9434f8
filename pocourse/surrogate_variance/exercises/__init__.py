"""The exercises of chapter 3, in the order of the chapter, one module each. Importing this registers them."""

from pocourse.surrogate_variance.exercises import variance, sample_size, dropout, control  # isort: skip

__all__ = ["control", "dropout", "sample_size", "variance"]
