"""What the plots of the museum show, as arrays: limits in closed form, and batches over 8 seeds."""

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pocourse.engine import SeedStreams
from pocourse.surrogate_variance.museum import frozen_denominator as frozen
from pocourse.surrogate_variance.museum import std_called_variance as std
from pocourse.surrogate_variance.museum import unbias_that_biases as unbias
from pocourse.surrogate_variance.museum import weights_as_a_column as column

SEEDS = 8
DELTA = 0.25
NORMAL = NormalDist()

# ---------------------------------------------------------------- dropouts and their limits

PLAIN, DROPOUT, UNBIAS = "mean of rA", "|r − 1| < δ", "unbias"
ESTIMATES = {PLAIN: unbias.plain_mean, DROPOUT: unbias.ratio_dropout, UNBIAS: unbias.unbias_that_biases}


class Dropouts(NamedTuple):
    """Limits of the estimates along the tilt, and root mean squared errors of batches.

    ``limit`` and ``kept_ratio``, the mean ratio of what is kept, are [estimate, tilt]; ``error`` is
    [size, estimate, seed].
    """

    tilt: np.ndarray
    limit: np.ndarray
    kept_ratio: np.ndarray
    size: np.ndarray
    error: np.ndarray
    at: float


def tilted_ratio(advantage: Tensor, tilt: float) -> Tensor:
    """r = exp(tA − t²/2), the ratio of a policy tilted towards its advantages, where these are standard normal."""
    return (tilt * advantage - tilt**2 / 2).exp()


def limits(tilt: float) -> tuple[list[float], list[float]]:
    """Mean of rA and mean of r over what each estimate keeps: normal integrals, as r turns N(0, 1) into N(t, 1)."""
    edges = {PLAIN: (0, math.inf), DROPOUT: (1 - DELTA, 1 + DELTA), UNBIAS: (1 / (1 + DELTA), 1 + DELTA)}
    means, ratios = [], []
    for low, high in edges.values():
        low, high = ((math.log(r) if r > 0 else -math.inf) / tilt + tilt / 2 for r in (low, high))
        kept = NORMAL.cdf(high) - NORMAL.cdf(low)
        moved = NORMAL.cdf(high - tilt) - NORMAL.cdf(low - tilt)
        means.append((tilt * moved + NORMAL.pdf(low - tilt) - NORMAL.pdf(high - tilt)) / kept)
        ratios.append(moved / kept)
    return means, ratios


def unbias_that_biases(
    *, at: float = 0.5, batches: int = 100, sizes: tuple[int, ...] = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
) -> Dropouts:
    """The limits for tilts from 0 to 1, and the errors of batches of every size at one tilt."""
    tilt = np.linspace(0.02, 1, 50)
    found = np.array([limits(t) for t in tilt])  # [tilt, 2, estimate]
    advantage = SeedStreams(range(SEEDS), dtype=torch.float64).normal(batches, max(sizes))
    ratio = tilted_ratio(advantage, at)
    errors = []
    for n in sizes:
        values = torch.stack([estimate(ratio[..., :n], advantage[..., :n]) for estimate in ESTIMATES.values()])
        errors.append(((values - at) ** 2).mean(-1).sqrt())
    return Dropouts(tilt, found[:, 0].T, found[:, 1].T, np.array(sizes), torch.stack(errors).numpy(), at)


# ---------------------------------------------------------------- a control variate, read wrongly


class Control(NamedTuple):
    """What subtracting b does for every correlation, and standard errors of the mean at one: [size, estimate, seed]."""

    correlation: np.ndarray
    variance: np.ndarray
    printed: np.ndarray
    best: np.ndarray
    size: np.ndarray
    error: np.ndarray
    at: float

    @property
    def saved(self) -> tuple[float, float]:
        """How many times fewer samples do: in truth, and for whoever reads the root as a variance."""
        return 1 / (2 * (1 - self.at)), 1 / math.sqrt(2 * (1 - self.at))


def std_called_variance(
    *, at: float = 0.8, batches: int = 2000, sizes: tuple[int, ...] = (2, 5, 10, 20, 50)
) -> Control:
    """The mean of a and the mean of a - b, for standard normal numbers of which b's mean, 0, is known."""
    rho = np.linspace(0, 1, 101)
    noise = SeedStreams(range(SEEDS), dtype=torch.float64).normal(2, batches, max(sizes))
    a = noise[:, 0]
    b = at * a + math.sqrt(1 - at**2) * noise[:, 1]
    errors = []
    for n in sizes:
        means = [x[..., :n].mean(-1) for x in (a, a - b)]  # [seed, batch]
        errors.append(torch.stack([torch.stack([std.std_called_variance(m) for m in mean]) for mean in means]))
    variance = 2 * (1 - rho)
    return Control(rho, variance, np.sqrt(variance), 1 - rho**2, np.array(sizes), torch.stack(errors).numpy(), at)


# ---------------------------------------------------------------- intervals of a ratio


class Intervals(NamedTuple):
    """Errors of the self-normalised estimate, [raise, kind, seed], and intervals of single batches at one raise.

    Kinds are what the estimate really does over many batches, a bootstrap of pairs, and the frozen denominator;
    ``value`` is [batch] and ``half`` [kind of bootstrap, batch].
    """

    raised: np.ndarray
    error: np.ndarray
    value: np.ndarray
    half: np.ndarray
    truth: float


TRULY, PAIRS, FROZEN = "in truth", "pairs", "frozen"
SAMPLES, SPREAD = 200, 1.0


def logged(batches: int) -> tuple[Tensor, Tensor]:
    """Weights with mean one and rewards round 0: both [seed, batch, sample]."""
    noise = SeedStreams(range(SEEDS), dtype=torch.float64).normal(2, batches, SAMPLES)
    weight = (SPREAD * noise[:, 0] - SPREAD**2 / 2).exp()
    return weight, 0.1 * noise[:, 1]


def frozen_denominator(*, batches: int = 200, watched: int = 2, shown: float = 1.0) -> Intervals:
    """Rewards raised from 0 to 5; both bootstraps on a few batches a seed, the truth from all of them."""
    weight, reward = logged(batches)
    raised = np.linspace(0, 5, 6)
    rows = []
    for c in raised:
        value = (weight * (reward + c)).sum(-1) / weight.sum(-1)
        by = [_bootstraps(f, weight[:, :watched], reward[:, :watched] + c) for f in BOOTSTRAPS.values()]
        rows.append([value.std(-1).numpy(), *(x.mean(-1).numpy() for x in by)])
    w, r = weight[:, :watched].flatten(0, 1), reward[:, :watched].flatten(0, 1) + shown
    half = [1.96 * _bootstraps(f, w.unsqueeze(0), r.unsqueeze(0))[0] for f in BOOTSTRAPS.values()]
    value = (w * r).sum(-1) / w.sum(-1)
    return Intervals(raised, np.array(rows), value.numpy(), torch.stack(half).numpy(), shown)


BOOTSTRAPS = {PAIRS: frozen.bootstrap_of_pairs, FROZEN: frozen.frozen_denominator}


def _bootstraps(error, weight: Tensor, reward: Tensor) -> Tensor:
    """The error of every batch: [seed, batch, sample] -> [seed, batch]."""
    rows = zip(weight.flatten(0, 1), reward.flatten(0, 1), strict=True)
    return torch.stack([error(*row) for row in rows]).reshape(weight.shape[:2])


# ---------------------------------------------------------------- a square where a diagonal was meant


class Square(NamedTuple):
    """The product of a column and a row, [sequence, sequence]; metrics for growing batches, [size, metric, seed]."""

    weight: np.ndarray
    mask: np.ndarray
    product: np.ndarray
    size: np.ndarray
    metric: np.ndarray


def weights_as_a_column(*, sizes: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64), batches: int = 50) -> Square:
    """Four sequences, entry by entry; and ratios with mean one in batches of every size, all of them valid."""
    weight, mask = torch.tensor([0.9, 1.2, 0.7, 1.1]), torch.tensor([1.0, 1.0, 0.0, 1.0])
    noise = SeedStreams(range(SEEDS)).normal(batches, max(sizes))
    ratio = tilted_ratio(noise, 0.3)
    rows = []
    for n in sizes:
        columns, ones = ratio[..., :n, None].flatten(0, 1), torch.ones(n)
        found = [torch.stack([f(x, ones) for x in columns]) for f in (column.flattened, column.weights_as_a_column)]
        rows.append(torch.stack(found).reshape(2, SEEDS, batches).mean(-1))
    product = weight.unsqueeze(1) * mask
    return Square(weight.numpy(), mask.numpy(), product.numpy(), np.array(sizes), torch.stack(rows).numpy())
