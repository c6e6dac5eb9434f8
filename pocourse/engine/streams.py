"""Random numbers: one stream per seed, drawn in blocks before they are needed.

A seed's numbers depend on that seed alone, so seed 3 trained by itself meets the same starts, the
same coin flips and the same minibatches as seed 3 among sixty-four. The code that uses the numbers
is deterministic, easy to test and to replay.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor


class SeedStreams:
    """A torch.Generator for every seed.

    ``seeds`` are the integers that name the runs; ``dtype`` and ``device`` are those of the numbers.
    """

    def __init__(self, seeds: Sequence[int], *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32):
        seeds = list(seeds)
        if not seeds or len(set(seeds)) != len(seeds) or any(type(s) is not int or s < 0 for s in seeds):
            raise ValueError(
                f"expected seeds as different integers >= 0, at least one; got {seeds}. Eight of them are range(8)."
            )
        self.seeds, self.device, self.dtype = seeds, torch.device(device), dtype
        self._generators = [torch.Generator(self.device).manual_seed(seed) for seed in seeds]

    def __len__(self) -> int:
        return len(self.seeds)

    def normal(self, *shape: int) -> Float[Tensor, "seed *shape"]:
        """Standard normal numbers."""
        return torch.stack([torch.randn(shape, generator=g, **self._kind) for g in self._generators])

    def uniform(self, *shape: int) -> Float[Tensor, "seed *shape"]:
        """Uniform numbers in [0, 1)."""
        return torch.stack([torch.rand(shape, generator=g, **self._kind) for g in self._generators])

    def permutations(self, count: int, length: int) -> Int[Tensor, "count seed length"]:
        """``count`` random orders of ``length`` samples for each seed."""
        return self.uniform(count, length).argsort(-1).transpose(0, 1)

    @property
    def _kind(self) -> dict:
        return {"device": self.device, "dtype": self.dtype}
