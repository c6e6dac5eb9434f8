"""The last cell of chapter 2: four objectives, a shallow and a deep policy, CartPole.

Everything but the objective is equal: world, networks, seeds, random numbers, optimizer.
"""

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from pocourse.engine import ActorCritic, Loss
from pocourse.lesson import comparisons, figures, profiles
from pocourse.lesson.bands import interquartile_mean
from pocourse.lesson.comparisons import largest_said, said
from pocourse.lesson.records import Record, SavedRecord
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
    size = SIZES[profiles.profile(profile)]
    return comparisons.settings(name, profile, "CartPole", methods, COMPARISONS, size, COMMON)


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
    profile = profiles.profile(profile)
    settings, world = configuration(name, profile, methods), CartPole()
    return comparisons.run(
        CHAPTER,
        name,
        methods,
        settings,
        world=world,
        agent=ActorCritic.tanh_mlps(world.obs_dim, world.num_actions, hidden=settings["hidden"]),
        credit=partial(gae, gamma=settings["gamma"], gae_lambda=settings["gae_lambda"]),
        draw=partial(draw, behind=comparisons.backdrop(CHAPTER, name)),
        profile=profile,
        folder=folder,
        made_by=made_by,
        quiet=quiet,
    )


def recorded(name: str, profile: str = "cpu") -> SavedRecord | None:
    """The run that ships with the course, or None where nobody has recorded it yet."""
    return comparisons.recorded(CHAPTER, name, profile)


def cost_card(profile: str = "auto") -> str:
    """What the training cells cost, in Markdown: what they run on this machine, and what the recorded runs measured."""
    profile = profiles.profile(profile)
    lines = [
        f"**What it costs** (profile `{profile}`)\n\n",
        "| comparison | hidden layers | seeds | steps a seed | measured | memory | on |\n",
        "|---|---|---|---|---|---|---|\n",
    ]
    for name in COMPARISONS:
        c = configuration(name, profile)
        measured = comparisons.measured(CHAPTER, name, profile)
        lines.append(f"| {name} | {len(c['hidden'])} | {c['seeds']} | {c['steps']:,} | {measured} |\n")
    lines.append(
        f"\nEach trains {len(METHODS)} objectives at once. Other sizes: set `POCOURSE_PROFILE` to `ci` (seconds), "
        "`cpu` or `gpu` (longer, wider, more seeds) before starting the kernel.\n"
    )
    return "".join(lines)


def draw(record: Record | SavedRecord, *, behind: SavedRecord | None = None):
    """Return, and the largest minibatch mean of |r - 1| so far, against steps, as bands over seeds.

    The recorded run lies pale behind. Returns (figure, alt text).
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
    layers = len(comparisons.configuration(record)["hidden"])
    parts = [
        f"{method}: final return {said(s['final_return'])}, largest mean |r-1| {largest_said(s)}"
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
        cells = (method, said(s["final_return"]), f"{solved} of {len(record.seeds)}", largest_said(s))
        rows.append(f"| {' | '.join(cells)} |\n")
    return comparisons.unfinished(record) + head + "".join(rows)
