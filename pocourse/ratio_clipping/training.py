"""The last cell of chapter 2: four objectives, a shallow and a deep policy, CartPole.

Everything but the objective is equal: world, networks, seeds, random numbers, optimizer.
"""

import math
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch

from pocourse.engine import ActorCritic, Loss, SeedStreams, on_policy
from pocourse.lesson import figures, paths, profiles
from pocourse.lesson.bands import interquartile_mean
from pocourse.lesson.live import follow
from pocourse.lesson.records import Record, SavedRecord, load
from pocourse.policy_gradient.estimators import gae
from pocourse.ratio_clipping.figures import EPS, LINE_OF
from pocourse.ratio_clipping.objectives import importance_loss, kl_penalty_loss, ppo_clip_loss, spo_loss
from pocourse.worlds import CartPole

CHAPTER = "ratio_clipping"
KL_COEF = 1.0
SOLVED = 475.0

METHODS: dict[str, Loss] = {
    "unclipped": importance_loss,
    "PPO": partial(ppo_clip_loss, clip_eps=EPS),
    "KL penalty": partial(kl_penalty_loss, kl_coef=KL_COEF),
    "SPO": partial(spo_loss, eps=EPS),
}

COMMON = {
    "num_epochs": 10,
    "num_minibatches": 4,
    "learning_rate": 2.5e-3,
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "value_coef": 0.5,
    "entropy_coef": 0.0,
    "max_grad_norm": 0.5,
}
# Sizes alone differ between profiles. The deep policy of `gpu` has the layers of the SPO paper's deep network.
SIZES = {
    "ci": {"seeds": 8, "num_envs": 8, "num_steps": 128},
    "cpu": {"seeds": 8, "num_envs": 16, "num_steps": 128},
    "gpu": {"seeds": 32, "num_envs": 64, "num_steps": 128},
}
COMPARISONS = {
    "shallow": {
        "ci": {"hidden": (64, 64), "steps": 12_288},
        "cpu": {"hidden": (64, 64), "steps": 250_000},
        "gpu": {"hidden": (64, 64), "steps": 1_000_000},
    },
    "deep": {
        "ci": {"hidden": (64,) * 6, "steps": 8_192},
        "cpu": {"hidden": (64,) * 6, "steps": 125_000},
        "gpu": {"hidden": (256, 256, 128, 128, 64, 64), "steps": 1_000_000},
    },
}


def configuration(name: str, profile: str, methods: Mapping[str, Loss] = METHODS) -> dict:
    """Every number a comparison is run with, as it goes into its record.

    Raises: ValueError for a comparison or a profile that does not exist.
    """
    if name not in COMPARISONS:
        raise ValueError(f"expected a comparison among {', '.join(COMPARISONS)}; got {name!r}. Choose one of them.")
    profile = profiles.profile(profile)
    objectives = {method: _in_words(loss) for method, loss in methods.items()}
    return {"world": "CartPole", "objectives": objectives, **SIZES[profile], **COMPARISONS[name][profile], **COMMON}


def _in_words(loss: Loss) -> str:
    """A loss as its call, such as ``spo_loss(eps=0.2)``."""
    if isinstance(loss, partial):
        given = [repr(x) for x in loss.args] + [f"{key}={x!r}" for key, x in loss.keywords.items()]
        return f"{_in_words(loss.func)}({', '.join(given)})"
    return getattr(loss, "__name__", type(loss).__name__)


def train(
    name: str,
    methods: Mapping[str, Loss] = METHODS,
    *,
    profile: str = "auto",
    folder: Path | None = None,
    made_by: str = "notebooks/02_ratio_clipping.ipynb",
    quiet: bool = False,
) -> Record:
    """Train every method on every seed as one batch, watch it, and return its record.

    ``name`` is "shallow" or "deep". The record is saved in ``folder``, by default the reader's own.
    Interrupting it keeps what was finished. It runs on at most four threads.
    Raises: ValueError for names that do not exist, or the profile gpu where torch finds no card.
    """
    with profiles.threads():
        return _train(name, methods, profiles.profile(profile), folder, made_by, quiet)


def _train(name, methods, profile, folder, made_by, quiet):
    settings = configuration(name, profile, methods)
    device = profiles.device(profile)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    world, streams = CartPole(), SeedStreams(range(settings["seeds"]), device=device)
    agent = ActorCritic.tanh_mlps(world.obs_dim, world.num_actions, hidden=settings["hidden"])
    steps_per_update = settings["num_envs"] * settings["num_steps"]
    num_updates = max(1, math.floor(settings["steps"] / steps_per_update))
    record = Record(
        CHAPTER,
        name,
        profile=profile,
        methods=list(methods),
        seeds=streams.seeds,
        steps_per_update=steps_per_update,
        num_updates=num_updates,
        configuration=settings,
        made_by=made_by,
    )
    passed_on = ("num_envs", "num_steps", "num_epochs", "num_minibatches", "learning_rate")
    passed_on += ("value_coef", "entropy_coef", "max_grad_norm")
    stream = on_policy(
        world,
        agent,
        streams,
        methods,
        credit=partial(gae, gamma=settings["gamma"], gae_lambda=settings["gae_lambda"]),
        num_updates=num_updates,
        **{key: settings[key] for key in passed_on},
    )
    folder = paths.reader_runs(CHAPTER) if folder is None else folder
    return follow(stream, record, folder, draw=partial(draw, behind=_backdrop(name)), quiet=quiet)


def recorded(name: str, profile: str = "cpu") -> SavedRecord | None:
    """The run that ships with the course, or None where nobody has recorded it yet."""
    return load(paths.recorded_runs(CHAPTER), name, profile)


def _backdrop(name: str, profile: str = "cpu") -> SavedRecord | None:
    """The recorded run, to compare a live one with; a damaged one must not keep anybody from training."""
    try:
        return recorded(name, profile)
    except ValueError as error:
        warnings.warn(f"gone on without the recorded run: {error}", stacklevel=3)
        return None


def cost_card(profile: str = "auto") -> str:
    """What the training cells cost, in Markdown: what they run on this machine, and what the recorded runs measured."""
    profile = profiles.profile(profile)
    lines = [
        f"**What it costs** (profile `{profile}`)\n\n",
        "| comparison | hidden layers | seeds | steps a seed | measured | memory | on |\n",
        "|---|---|---|---|---|---|---|\n",
    ]
    for name in COMPARISONS:
        c, made = configuration(name, profile), _backdrop(name, profile)
        measured = "not measured yet | |"
        if made is not None:
            known, hardware = made.json, made.json["hardware"]
            where = (
                hardware["device"]
                if hardware["device"] != "cpu"
                else f"{hardware['cpu']}, {hardware['threads']} threads"
            )
            measured = f"{known['wall_time_s']:.0f} s | {known['peak_memory_mb']} MB | {where}"
        lines.append(f"| {name} | {len(c['hidden'])} | {c['seeds']} | {c['steps']:,} | {measured} |\n")
    lines.append(
        f"\nEach trains {len(METHODS)} objectives at once. Other sizes: set `POCOURSE_PROFILE` to `ci` (seconds), "
        "`cpu` or `gpu` (longer, wider, more seeds) before starting the kernel.\n"
    )
    return "".join(lines)


def draw(record: Record | SavedRecord, *, behind: SavedRecord | None = None):
    """Return, and the largest minibatch mean of |r - 1| so far, against steps, as bands over seeds.

    The recorded run lies pale behind.     Returns (figure, alt text).
    """
    with figures.style():
        figure, axes = figures.panels(2, height=3.5)
        for panel, key in zip(axes[0], ("return", "largest_deviation"), strict=True):
            ends = []
            for index, method in enumerate(record.methods):
                line = LINE_OF.get(method, figures.LINES[4 + index % 2])
                if not len(record.steps):
                    continue
                if behind is not None and method in behind.methods:
                    pale = behind.curves()[key][:, behind.methods.index(method)]
                    figures.band(panel, behind.steps, pale, line=line, faint=True, resamples=200)
                mean = figures.band(panel, record.steps, record.curves()[key][:, index], line=line, resamples=200)
                ends.append((mean[-1], method, line["color"]))
            _finish(panel, key, record)
            figures.label_lines(panel, [end for end in ends if math.isfinite(end[0])])
        return figure, describe(record)


def _finish(panel, key, record):
    panel.set_xlabel("environment steps per seed")
    panel.set_xlim(0, max([1, *record.steps[-1:]]))
    panel.locator_params(axis="x", nbins=4)
    panel.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}k" if x else "0")
    if key == "return":
        panel.set_title("Return")
        panel.set_ylim(0, 520)
        panel.set_yticks(range(0, 500, 100))
        figures.limit_line(panel, SOLVED, "solved: 475")
    else:
        panel.set_title("Largest mean |r − 1| so far")
        panel.set_yscale("log")
        panel.set_ylim(0.02, 100)
        panel.yaxis.set_major_formatter("{x:g}")
        figures.limit_line(panel, EPS, f"ε = {EPS:g}")


def first_solved(record: Record | SavedRecord) -> dict[str, float]:
    """For each method the steps until the interquartile mean of the return first reaches 475; infinite if never."""
    mean = interquartile_mean(record.curves()["return"], axis=2)
    return {
        method: next((float(s) for s, x in zip(record.steps, mean[:, m], strict=True) if x >= SOLVED), math.inf)
        for m, method in enumerate(record.methods)
    }


def describe(record: Record | SavedRecord) -> str:
    """The curves in words: for each method the final return and the largest |r - 1|, with bands."""
    layers = len(_configuration(record)["hidden"])
    parts = [
        f"{method}: final return {_said(s['final_return'])}, largest mean |r-1| {_largest(s)}"
        for method, s in record.summary().items()
    ] or ["no update is finished yet"]
    return (
        f"Two panels against environment steps, bands over {len(record.seeds)} seeds, policy with {layers} hidden "
        f"layers on CartPole: return on the left, the largest minibatch mean of |r-1| so far on the right. "
        + "; ".join(parts)
        + "."
    )


def table(record: Record | SavedRecord) -> str:
    """The outcome as a Markdown table: final return and the largest minibatch mean of |r - 1|, with 95% bands."""
    head = (
        "| objective | final return | seeds at 475 or more | largest minibatch mean of \\|r − 1\\| |\n"
        "|---|---|---|---|\n"
    )
    rows = []
    for method, s in record.summary().items():
        solved = sum(x is not None and x >= SOLVED for x in s["final_return"]["seeds"])
        cells = (method, _said(s["final_return"]), f"{solved} of {len(record.seeds)}", _largest(s))
        rows.append(f"| {' | '.join(cells)} |\n")
    return _unfinished(record) + head + "".join(rows)


def _unfinished(record: Record | SavedRecord) -> str:
    """A line above the table of a run that has not come to its end; nothing for one that has."""
    known = record.to_json() if isinstance(record, Record) else record.json
    if known["status"] == "finished":
        return ""
    return f"*This run was stopped at update {known['updates']} of {known['num_updates']}: no final numbers.*\n\n"


def _said(statistics: dict, without: str = "none yet") -> str:
    if statistics["iqm"] is None:
        return without
    digits = ".0f" if statistics["iqm"] >= 20 else ".2f"
    low, high = ("∞" if end is None else f"{end:{digits}}" for end in statistics["band"])
    return f"{statistics['iqm']:{digits}} ({low} to {high})"


def _largest(summary: dict) -> str:
    lost = len(summary["diverged_at_update"])
    said = _said(summary["largest_ratio_deviation"], "not finite")
    return said + (f", {lost} seed{'s' * (lost > 1)} diverged" if lost else "")


def _configuration(record):
    return record.json["configuration"] if isinstance(record, SavedRecord) else record.configuration
