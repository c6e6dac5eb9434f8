"""From seeds to a band: the interquartile mean and its bootstrap interval."""

import numpy as np

from pocourse import _check


def interquartile_mean(values: np.ndarray, axis: int = 0) -> np.ndarray:
    """The mean of the middle half: the lowest and the highest quarter of the seeds are left out.

    Shapes: values [..., seed, ...] with the seeds on ``axis`` -> that axis gone. A quarter is rounded down, so with
    fewer than four seeds nothing is left out. A NaN among the seeds makes the result NaN.
    Raises: ValueError for an empty axis.
    Source: Agarwal et al. 2021 (rliable).
    """
    values = np.sort(np.moveaxis(np.asarray(values, dtype=float), axis, 0), axis=0)
    seeds = values.shape[0]
    if seeds == 0:
        raise ValueError("expected at least one seed; got an empty axis. Check which axis holds the seeds.")
    middle = values[seeds // 4 : seeds - seeds // 4].mean(0)
    return np.where(np.isnan(values).any(0), np.nan, middle)


def bootstrap_band(
    values: np.ndarray, axis: int = 0, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """The percentile bootstrap interval of the interquartile mean: seeds are drawn again, with replacement.

    Shapes: values [..., seed, ...] -> (low, high), each with the seed axis gone.
    An infinite value takes its place in the order; where a mean is NaN, so are both ends.
    Raises: ValueError for a level outside (0, 1), fewer than one resample or an empty axis.
    Source: Agarwal et al. 2021 (rliable), with one task, so without strata.
    """
    _check.number(above=0, below=1, level=level)
    _check.number(at_least=1, resamples=resamples)
    values = np.moveaxis(np.asarray(values, dtype=float), axis, 0)
    if len(values) == 0:
        raise ValueError("expected at least one seed; got an empty axis. Check which axis holds the seeds.")
    drawn = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    means = np.sort(interquartile_mean(values[drawn], axis=1), axis=0)
    # Means that occurred, not numbers between them: the latter are NaN between two infinities.
    outside = round((1 - level) / 2 * resamples)
    ends = means[min(outside, resamples - 1)], means[max(resamples - 1 - outside, 0)]
    return tuple(np.where(np.isnan(means).any(0), np.nan, end) for end in ends)
