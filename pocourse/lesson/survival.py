"""Time until success where not everybody succeeds: the Kaplan-Meier curve with its band."""

from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from pocourse import _check


class Survival(NamedTuple):
    """A step curve: from ``times[i]`` until just before ``times[i + 1]`` the share ``share[i]`` is still waiting.

    The first time is 0 and its share 1; the others are the times at which something happened to somebody. ``low`` and
    ``high`` are the band; ``at_risk`` counts who was watched just before that time, ``events`` who succeeded then and
    ``censored`` who stopped being watched then. After the last time nothing is known, unless the share is 0.
    """

    times: np.ndarray
    share: np.ndarray
    low: np.ndarray
    high: np.ndarray
    at_risk: np.ndarray
    events: np.ndarray
    censored: np.ndarray

    def at(self, times: np.ndarray) -> np.ndarray:
        """The share still waiting just after each time; NaN beyond the last one, where nobody was watched any more.

        Shapes: any.
        Raises: ValueError for a time that is negative or NaN.
        Source: ours.
        """
        times = np.asarray(times, dtype=float)
        if not (times >= 0).all():
            raise ValueError(
                "expected times of 0 or more; got a negative one or NaN. Time starts with the first query."
            )
        share = self.share[np.searchsorted(self.times, times, side="right") - 1]
        return np.where((times > self.times[-1]) & (self.share[-1] > 0), np.nan, share)

    def quantile(self, waiting: float = 0.5) -> float:
        """The first time at which no more than the share ``waiting`` still waits; infinite where that never happened.

        The default is the median time to success, failures counted as longer than everything seen.

        Raises: ValueError for a share outside [0, 1).
        Source: the usual inverse of the curve; where it is flat at that very height, its left end.
        """
        _check.number(at_least=0, below=1, waiting=waiting)
        reached = self.share <= waiting + 1e-12  # a product of quotients misses 1/2 by its last digit
        return float(self.times[reached.argmax()]) if reached.any() else float("inf")


def kaplan_meier(times: np.ndarray, events: np.ndarray, *, level: float = 0.95) -> Survival:
    """The share that has not succeeded yet, from times of which some are censored: nothing had happened by then.

    share = product over the times t up to now of (1 - successes at t / watched just before t)

    Who is censored at a time is still counted as watched at that time: of successes and censorings at one time the
    successes come first.

    The band is pointwise, from Greenwood's variance on the scale log(-log share), where it cannot leave [0, 1]:
    share to the power exp(± z sqrt(G) / log share), with G the sum of successes / (watched (watched - successes)).
    Before the first success it is [1, 1]: the formula knows no uncertainty there; where the share is 0 it is NaN.
    It takes the times for independent. Several seeds on one image are not: they share how hard the image is, and the
    band is then too narrow for a statement about other images.

    Shapes: times and events [subject] -> arrays [time], the first of them 0.
    Raises: ValueError for shapes that differ or are empty, times that are not above 0 and finite, events that are not
    bool, a level outside (0, 1).
    Source: Kaplan & Meier 1958; Greenwood 1926; log(-log) as in Kalbfleisch & Prentice 1980.
    """
    _check.number(above=0, below=1, level=level)
    times, events = np.asarray(times), np.asarray(events)
    if times.ndim != 1 or times.shape != events.shape or times.size == 0:
        raise ValueError(
            f"expected times and events as [subject], of one length, at least 1; got {list(times.shape)} and "
            f"{list(events.shape)}. Flatten both in the same order."
        )
    if events.dtype != bool:
        raise ValueError(
            f"expected events as bool, True for a success and False for a censored time; got {events.dtype}. "
            "Compare or convert them with events.astype(bool)."
        )
    if not np.issubdtype(times.dtype, np.number) or np.iscomplexobj(times):
        raise ValueError(f"expected times as numbers; got {times.dtype}. Convert them to float.")
    times = times.astype(float)
    if not (np.isfinite(times) & (times > 0)).all():
        raise ValueError(
            "expected times above 0 and finite; got others among them. Who never succeeded has the time at which the "
            "watching stopped, and events False."
        )
    when = np.unique(times)
    succeeded, stopped = (
        np.bincount(np.searchsorted(when, times[chosen]), minlength=len(when)) for chosen in (events, ~events)
    )
    at_risk = len(times) - np.cumsum(succeeded + stopped) + succeeded + stopped
    left = at_risk - succeeded
    share = np.cumprod(left / at_risk)
    with np.errstate(divide="ignore", invalid="ignore"):
        greenwood = np.cumsum(succeeded / (at_risk * left))
        reach = NormalDist().inv_cdf((1 + level) / 2) * np.sqrt(greenwood) / np.abs(np.log(share))
        low, high = share ** np.exp(reach), share ** np.exp(-reach)
    low, high = (np.where(share == 1, 1.0, end) for end in (low, high))
    return Survival(
        np.concatenate(([0.0], when)),
        *(np.concatenate(([1.0], curve)) for curve in (share, low, high)),
        *(np.concatenate(([first], counts)) for first, counts in ((len(times), at_risk), (0, succeeded), (0, stopped))),
    )
