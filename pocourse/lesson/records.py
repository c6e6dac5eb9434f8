"""Records: what a training run leaves behind, whole or interrupted.

A record is two files: ``NAME.csv`` with every seed's curves, and ``NAME.json`` with everything
needed to judge them: configuration, versions, hardware, wall time, peak memory, and a summary.
It is written every few seconds while the run goes on, each time to a new file that then takes
the old one's place, so a run that is stopped or killed keeps what was finished.
"""

import base64
import csv
import io
import json
import math
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from pocourse import __version__
from pocourse.lesson.bands import bootstrap_band, interquartile_mean

MAX_POINTS = 128
MEASURED = ("ratio_deviation", "kl", "entropy", "value_loss")  # by the engine, each update
CURVES = ("return", "largest_deviation", *MEASURED)


class RunRecord:
    """The curves of one comparison, [point, method, seed], and what is known about the run.

    ``add`` takes one metrics record of the engine; nothing is read from the device before ``curves``
    or ``save`` is called. What the curves are, and what sums them up, each kind of run says itself: ``names``,
    ``curves`` and ``summary``. Every metrics record holds ``alive``, [method, seed].
    """

    unit = "steps"

    def __init__(
        self,
        chapter: str,
        name: str,
        *,
        profile: str,
        methods: Sequence[str],
        seeds: Sequence[int],
        steps_per_update: int,
        num_updates: int,
        configuration: dict,
        made_by: str,
    ):
        self.chapter, self.name, self.profile, self.made_by = chapter, name, profile, made_by
        self.methods, self.seeds = list(methods), list(seeds)
        self.steps_per_update, self.num_updates = steps_per_update, num_updates
        self.configuration = configuration
        self.status, self.wall_time_s = "running", 0.0
        self._metrics: list[dict[str, torch.Tensor]] = []
        self._threads = torch.get_num_threads()
        self._started = time.perf_counter()

    def add(self, metrics: dict[str, torch.Tensor]) -> None:
        """Keep one update's metrics, each [method, seed]."""
        self._metrics.append(metrics)  # in one piece: an interrupt finds a whole update or none of it
        self.wall_time_s = time.perf_counter() - self._started

    def end(self, status: str) -> None:
        """Say how the run ended, and stop its clock once the device has done all that was asked of it."""
        if self._metrics:
            self._metrics[-1]["alive"].cpu()
        self.status, self.wall_time_s = status, time.perf_counter() - self._started

    @property
    def names(self) -> tuple[str, ...]:
        """Of all curves."""
        raise NotImplementedError

    def curves(self) -> dict[str, np.ndarray]:
        """Every curve as [point, method, seed], at most MAX_POINTS points."""
        raise NotImplementedError

    def summary(self) -> dict[str, dict]:
        """For each method what its curves come to, as interquartile mean and 95% band."""
        raise NotImplementedError

    def particulars(self) -> dict:
        """What the JSON says beside what every record says."""
        return {}

    @property
    def updates(self) -> int:
        """How many updates are finished."""
        return len(self._metrics)

    @property
    def steps(self) -> np.ndarray:
        """Environment steps, or queries, of one seed at every point of the curves."""
        return (self._points() + 1) * self.steps_per_update

    def to_json(self) -> dict:
        """Everything but the curves."""
        updates = self.updates
        device = self._metrics[-1]["alive"].device if updates else torch.device("cpu")
        aggregate = updates * self.steps_per_update * len(self.methods) * len(self.seeds)
        return {
            "chapter": self.chapter,
            "name": self.name,
            "profile": self.profile,
            "status": self.status,
            "made_by": self.made_by,
            "date": time.strftime("%Y-%m-%d"),
            "seed": self.seeds,
            "methods": self.methods,
            "configuration": self.configuration,
            "updates": updates,
            "num_updates": self.num_updates,
            "steps_per_update": self.steps_per_update,
            **self.particulars(),
            "wall_time_s": round(self.wall_time_s, 1),
            "steps_per_second": round(aggregate / max(self.wall_time_s, 1e-9)),
            "peak_memory_mb": _peak_memory_mb(device),
            "versions": {
                "pocourse": __version__,
                "python": platform.python_version(),
                "torch": torch.__version__,
                "numpy": np.__version__,
            },
            "hardware": _hardware(device, self._threads),
            "summary": self.summary(),
        }

    def save(self, folder: Path) -> Path:
        """Write ``name-profile.json`` and ``.csv`` into ``folder``; returns the path of the JSON.

        A run without a finished update has nothing to keep, and leaves an earlier record as it is.
        """
        path = folder / f"{self.name}-{self.profile}.json"
        if self.updates:
            folder.mkdir(parents=True, exist_ok=True)
            _replace(path.with_suffix(".csv"), self._csv())
            _replace(path, json.dumps(self.to_json(), indent=1) + "\n")
        return path

    def _csv(self) -> str:
        curves, steps = self.curves(), self.steps
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(("method", "seed", "steps", *self.names))
        for m, method in enumerate(self.methods):
            for s, seed in enumerate(self.seeds):
                for point, step in enumerate(steps):
                    rows.writerow((method, seed, step, *(f"{curves[key][point, m, s]:.5g}" for key in self.names)))
        return text.getvalue()

    def _stack(self, key: str) -> torch.Tensor:
        return torch.stack([metrics[key] for metrics in self._metrics]).cpu()

    def _points(self) -> np.ndarray:
        if not self._metrics:
            return np.empty(0, dtype=int)
        stride = math.ceil(max(self.num_updates, 1) / MAX_POINTS)
        points = np.arange(stride - 1, self.updates, stride)
        # An interrupted run ends where it ended, not at the last point before.
        return points if points.size and points[-1] == self.updates - 1 else np.append(points, self.updates - 1)


class Record(RunRecord):
    """What an on-policy run leaves behind: return, ratios, what else the loop measures, and the curves of a probe."""

    def __init__(self, chapter: str, name: str, *, return_window: int = 5, probed: Sequence[str] = (), **known):
        clash = sorted(set(probed) & {*CURVES, "return_sum", "episodes", "alive", "method", "seed", "steps"})
        if clash:
            raise ValueError(f"expected new names for probed curves; got {', '.join(clash)}: taken. Rename them.")
        super().__init__(chapter, name, **known)
        self.probed, self.return_window = list(probed), return_window

    @property
    def names(self) -> tuple[str, ...]:
        """Of all curves: those of every run, then those of this one's probe."""
        return (*CURVES, *self.probed)

    def particulars(self) -> dict:
        """The window of the return, and the names of the probe's curves."""
        return {"return_window": self.return_window, "probed": self.probed}

    def curves(self) -> dict[str, np.ndarray]:
        """Every curve as [point, method, seed], at most MAX_POINTS points.

        The return at a point is the mean over the episodes that ended in the last ``return_window`` updates;
        ``largest_deviation`` is the largest ``ratio_deviation`` of all updates so far, the thinned ones included.
        Where a seed has diverged its ratio deviation is infinite: no finite number would be honest. The curves of a
        probe are as it measured them.
        """
        if not self._metrics:
            return {key: np.empty((0, len(self.methods), len(self.seeds))) for key in self.names}
        keys = ("return_sum", "episodes", *MEASURED, *self.probed)
        stacked = {key: self._stack(key).double().numpy() for key in keys}
        stacked["ratio_deviation"] = _nan_as_infinite(stacked["ratio_deviation"])
        total, count = (_trailing_sum(stacked[key], self.return_window) for key in ("return_sum", "episodes"))
        with np.errstate(invalid="ignore", divide="ignore"):
            stacked["return"] = _carry_forward(np.where(count > 0, total / count, np.nan))
        stacked["largest_deviation"] = np.maximum.accumulate(stacked["ratio_deviation"], axis=0)
        points = self._points()
        return {key: stacked[key][points] for key in self.names}

    def largest_deviation(self) -> np.ndarray:
        """The largest minibatch mean of |r - 1| of the whole run, [method, seed]; infinite for a seed that diverged."""
        return _nan_as_infinite(self._stack("ratio_deviation").amax(0).double().numpy())

    def summary(self) -> dict[str, dict]:
        """For each method: final return and largest |r - 1|, per seed, as interquartile mean and 95% band.

        None stands where there is no finite number: before the first episode has ended, for a seed that diverged.
        """
        if not self._metrics:
            return {}
        final, largest = self.curves()["return"][-1], self.largest_deviation()
        alive = self._stack("alive").numpy()
        return {
            method: {
                "final_return": _statistics(final[index]),
                "largest_ratio_deviation": _statistics(largest[index]),
                "diverged_at_update": {
                    str(seed): int(np.argmin(alive[:, index, k])) + 1
                    for k, seed in enumerate(self.seeds)
                    if not alive[-1, index, k]
                },
            }
            for index, method in enumerate(self.methods)
        }


class SearchRecord(RunRecord):
    """What a search for the minimum of a function leaves behind: one or more curves against queries.

    ``measured`` names the metrics that are kept; the first of them is what the summary is about.
    """

    unit = "queries"

    def __init__(self, chapter: str, name: str, *, measured: Sequence[str] = ("value",), **known):
        super().__init__(chapter, name, **known)
        self.measured = tuple(measured)

    @property
    def names(self) -> tuple[str, ...]:
        """Of all curves."""
        return self.measured

    def particulars(self) -> dict:
        """The names of the curves, for whoever reads them back."""
        return {"curves": list(self.measured)}

    def curves(self) -> dict[str, np.ndarray]:
        """Every curve as [point, method, seed], at most MAX_POINTS points; infinite where a seed has diverged."""
        if not self._metrics:
            return {key: np.empty((0, len(self.methods), len(self.seeds))) for key in self.names}
        points = self._points()
        return {key: _nan_as_infinite(self._stack(key).double().numpy())[points] for key in self.names}

    def summary(self) -> dict[str, dict]:
        """For each method the last value of each curve, per seed, as interquartile mean and 95% band.

        None stands where there is no finite number.
        """
        if not self._metrics:
            return {}
        curves = self.curves()
        return {
            method: {f"final_{key}": _statistics(curves[key][-1, index]) for key in self.names}
            for index, method in enumerate(self.methods)
        }


class PreferenceRecord(SearchRecord):
    """What training on preferences leaves behind: curves against optimizer steps, and a few pictures.

    ``show`` keeps pictures by name, such as samples of each method from the same noise; the newest ones stand.
    """

    unit = "steps"

    def __init__(self, chapter: str, name: str, **known):
        super().__init__(chapter, name, **known)
        self._shown: dict[str, torch.Tensor] = {}

    def show(self, pictures: Mapping[str, torch.Tensor]) -> None:
        """Keep pictures [picture, height, width] or [picture, height, width, 3] with values from 0 to 1, by name."""
        self._shown.update(pictures)

    def pictures(self) -> dict[str, np.ndarray]:
        """The pictures that were kept, as bytes from 0 to 255."""
        return {
            name: (255 * x.detach().float().cpu().clamp(0, 1)).round().byte().numpy() for name, x in self._shown.items()
        }

    def particulars(self) -> dict:
        """The names of the curves, and the pictures with their shapes, in base64."""
        coded = {
            name: {"shape": list(x.shape), "bytes": base64.b64encode(x.tobytes()).decode("ascii")}
            for name, x in self.pictures().items()
        }
        return super().particulars() | {"pictures": coded}


class SavedRecord:
    """A record read back from its two files; offers what a figure needs of a ``Record``."""

    def __init__(self, path: Path):
        try:
            self.json = json.loads(path.read_text(encoding="utf-8"))
            with open(path.with_suffix(".csv"), newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            self.methods, self.seeds = self.json["methods"], self.json["seed"]
            shape = (len(self.methods), len(self.seeds), -1)
            # Records of on-policy runs do not list their curves; those made before probes have none of these either.
            names = ("steps", *self.json.get("curves", (*CURVES, *self.json.get("probed", ()))))
            columns = {key: np.array([float(row[key]) for row in rows]).reshape(shape) for key in names}
            if columns["steps"].size == 0 or (columns["steps"] != columns["steps"][0, 0]).any():
                raise ValueError("curves of different lengths")
        except (ValueError, KeyError, TypeError, OSError) as error:
            if not path.exists():
                raise FileNotFoundError(
                    f"expected a recorded run at {path}; there is none. It is made by `pocourse run`."
                ) from error
            raise ValueError(
                f"expected a whole record in {path} and its .csv; got {error!r}. Delete both files and run again."
            ) from error
        self.steps = columns.pop("steps")[0, 0]
        self._curves = {key: value.transpose(2, 0, 1) for key, value in columns.items()}

    def curves(self) -> dict[str, np.ndarray]:
        """Every curve as [point, method, seed]."""
        return self._curves

    def summary(self) -> dict[str, dict]:
        """As ``summary`` of the record, as it was written."""
        return self.json["summary"]

    def pictures(self) -> dict[str, np.ndarray]:
        """The pictures that the run kept, as bytes from 0 to 255; none where it kept none."""
        return {
            name: np.frombuffer(base64.b64decode(x["bytes"]), dtype=np.uint8).reshape(x["shape"])
            for name, x in self.json.get("pictures", {}).items()
        }


def load(folder: Path, name: str, profile: str) -> SavedRecord | None:
    """The record of that name, or None where nobody has made it yet.

    Raises: ValueError for a record that is there and cannot be read.
    """
    path = folder / f"{name}-{profile}.json"
    return SavedRecord(path) if path.exists() else None


def _statistics(per_seed: np.ndarray) -> dict:
    low, high = bootstrap_band(per_seed)
    rounded = [_round(x) for x in per_seed]
    return {"iqm": _round(interquartile_mean(per_seed)), "band": [_round(low), _round(high)], "seeds": rounded}


def _round(x) -> float | None:
    return float(f"{float(x):.5g}") if np.isfinite(x) else None


def _nan_as_infinite(values: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(values), np.inf, values)


def _trailing_sum(values: np.ndarray, window: int) -> np.ndarray:
    total = np.cumsum(values, axis=0)
    total[window:] -= total[:-window].copy()
    return total


def _carry_forward(values: np.ndarray) -> np.ndarray:
    """Where no episode has ended for a whole window, the last known mean stands; before the first, NaN."""
    for row in range(1, len(values)):
        values[row] = np.where(np.isnan(values[row]), values[row - 1], values[row])
    return values


def _replace(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _peak_memory_mb(device: torch.device) -> int:
    """Of the card where one is used, else of this process since it began."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10))


def _hardware(device: torch.device, threads: int) -> dict:
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": threads,
        "system": f"{platform.system()} {platform.machine()}",
    }


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
