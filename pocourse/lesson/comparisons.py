"""Runs that compare: every method on the same world, seeds and random numbers, watched, kept and put in words."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from pocourse.engine import Agent, Loss, SeedStreams, on_policy
from pocourse.engine.on_policy import Probe
from pocourse.engine.rollout import World
from pocourse.lesson import paths, profiles
from pocourse.lesson.live import follow
from pocourse.lesson.records import Record, RunRecord, SavedRecord, load

LOOP = ("num_envs", "num_steps", "num_epochs", "num_minibatches", "learning_rate")
LOOP += ("value_coef", "entropy_coef", "max_grad_norm")


def run(
    chapter: str,
    name: str,
    losses: Mapping[str, Loss],
    settings: Mapping[str, object],
    *,
    world: World,
    agent: Agent,
    credit: Callable[..., torch.Tensor],
    draw: Callable,
    profile: str,
    folder: Path | None,
    made_by: str,
    quiet: bool,
    probe: Probe | None = None,
    probed: Sequence[str] = (),
) -> Record:
    """Train every method on every seed as one batch, watch it, and return its record.

    ``settings`` is what goes into the record: ``seeds`` and ``steps`` (of each seed), and what ``LOOP`` names. The
    record is saved in ``folder``, by default the reader's own. Interrupting it keeps what was finished. It runs on
    at most four threads. ``probed`` are the metrics of ``probe``, which are kept as curves.
    Raises: ValueError for the profile gpu where torch finds no card, and as the loop does.
    """
    with profiles.threads():
        device = profiles.device(profile)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        streams = SeedStreams(range(settings["seeds"]), device=device)
        steps_per_update = settings["num_envs"] * settings["num_steps"]
        num_updates = max(1, math.floor(settings["steps"] / steps_per_update))
        record = Record(
            chapter,
            name,
            profile=profile,
            methods=list(losses),
            seeds=streams.seeds,
            steps_per_update=steps_per_update,
            num_updates=num_updates,
            configuration=dict(settings),
            made_by=made_by,
            probed=probed,
        )
        stream = on_policy(
            world,
            agent,
            streams,
            losses,
            credit=credit,
            num_updates=num_updates,
            probe=probe,
            **{key: settings[key] for key in LOOP},
        )
        folder = paths.reader_runs(chapter) if folder is None else folder
        return follow(stream, record, folder, draw=draw, quiet=quiet)


def settings(
    name: str, profile: str, world: str, methods: Mapping[str, Loss], comparisons: Mapping, *parts: Mapping
) -> dict:
    """Every number a comparison is run with, as it goes into its record; the later parts overrule the earlier.

    Raises: ValueError for a comparison or a profile that does not exist.
    """
    if name not in comparisons:
        raise ValueError(f"expected a comparison among {', '.join(comparisons)}; got {name!r}. Choose one of them.")
    found = {"world": world, "objectives": {method: in_words(loss) for method, loss in methods.items()}}
    for part in (*parts, comparisons[name][profiles.profile(profile)]):
        found |= part
    return found


def in_words(loss: Loss) -> str:
    """A loss as its call, such as ``spo_loss(eps=0.2)``."""
    if isinstance(loss, partial):
        given = [repr(x) for x in loss.args] + [f"{key}={x!r}" for key, x in loss.keywords.items()]
        return f"{in_words(loss.func)}({', '.join(given)})"
    return getattr(loss, "__name__", type(loss).__name__)


def recorded(chapter: str, name: str, profile: str = "cpu") -> SavedRecord | None:
    """The run that ships with the course, or None where nobody has recorded it yet."""
    return load(paths.recorded_runs(chapter), name, profile)


def backdrop(chapter: str, name: str, profile: str = "cpu") -> SavedRecord | None:
    """The recorded run, to compare a live one with; a damaged one must not keep anybody from training."""
    try:
        return recorded(chapter, name, profile)
    except ValueError as error:
        warnings.warn(f"gone on without the recorded run: {error}", stacklevel=3)
        return None


def measured(chapter: str, name: str, profile: str) -> str:
    """What the recorded run took, as three cells of a table: time, memory, machine."""
    made = backdrop(chapter, name, profile)
    if made is None:
        return "not measured yet | |"
    known, hardware = made.json, made.json["hardware"]
    where = hardware["device"] if hardware["device"] != "cpu" else f"{hardware['cpu']}, {hardware['threads']} threads"
    return f"{known['wall_time_s']:.0f} s | {known['peak_memory_mb']} MB | {where}"


def unfinished(record: RunRecord | SavedRecord) -> str:
    """A line above the table of a run that has not come to its end; nothing for one that has."""
    known = record.to_json() if isinstance(record, RunRecord) else record.json
    if known["status"] == "finished":
        return ""
    return f"*This run was stopped at update {known['updates']} of {known['num_updates']}: no final numbers.*\n\n"


def said(statistics: Mapping, without: str = "none yet") -> str:
    """An interquartile mean with its 95% band."""
    if statistics["iqm"] is None:
        return without
    digits = ".0f" if abs(statistics["iqm"]) >= 20 else ".2f"
    low, high = ("∞" if end is None else f"{end:{digits}}" for end in statistics["band"])
    return f"{statistics['iqm']:{digits}} ({low} to {high})"


def largest_said(summary: Mapping) -> str:
    """The largest mean |r - 1| of a method, and how many of its seeds diverged."""
    lost = len(summary["diverged_at_update"])
    words = said(summary["largest_ratio_deviation"], "not finite")
    return words + (f", {lost} seed{'s' * (lost > 1)} diverged" if lost else "")


def configuration(record: RunRecord | SavedRecord) -> dict:
    """What a run was made with."""
    return record.json["configuration"] if isinstance(record, SavedRecord) else record.configuration
