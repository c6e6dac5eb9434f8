"""Every numbered equation of chapter 2 as an executable claim, one module per stretch of the derivation."""

from pocourse.ratio_clipping.claims import bounds, clip, links, parabola, surrogate

__all__ = ["bounds", "clip", "links", "parabola", "surrogate"]
