"""The exercises of chapter 5, in the order of the chapter, one module each. Importing this registers them."""

from pocourse.diffusion_dpo.exercises import tilt, dpo, denoising, accuracy  # isort: skip

__all__ = ["accuracy", "denoising", "dpo", "tilt"]
