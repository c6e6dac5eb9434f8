"""Every numbered equation of chapter 5 as an executable claim, one module per stretch of the derivation."""

from pocourse.diffusion_dpo.claims import denoising, diffusion, direct, preferences

__all__ = ["denoising", "diffusion", "direct", "preferences"]
