"""Every numbered equation of chapter 3 as an executable claim, one module per stretch of the derivation."""

from pocourse.surrogate_variance.claims import bound, control, dropping, neighbours, ratio

__all__ = ["bound", "control", "dropping", "neighbours", "ratio"]
