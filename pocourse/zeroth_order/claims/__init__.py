"""Every numbered equation of chapter 4 as an executable claim, one module per stretch of the derivation."""

from pocourse.zeroth_order.claims import identities, relatives, smoothing, variances

__all__ = ["identities", "relatives", "smoothing", "variances"]
