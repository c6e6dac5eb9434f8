"""The last cells of chapter 4: five ways to spend the same queries, on four landscapes and against a classifier.

Every method has the same queries, random directions, seeds and update rule. Each runs twice, with the step size of
ZoAR's authors and with its own best one, which was chosen on a grid, on other seeds, when the records were made.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pocourse.engine import AskTell, Method, SeedStreams, black_box
from pocourse.lesson import comparisons, figures, paths, profiles
from pocourse.lesson.bands import bootstrap_band, interquartile_mean
from pocourse.lesson.comparisons import said
from pocourse.lesson.live import follow
from pocourse.lesson.records import SavedRecord, SearchRecord
from pocourse.worlds.digits import DigitsAttack, load_digits
from pocourse.worlds.landscapes import LANDSCAPES
from pocourse.zeroth_order.figures import LINE_OF
from pocourse.zeroth_order.methods import Antithetic, Forward, HistoryAverage, LeaveOneOut
from pocourse.zeroth_order.updates import Adam, RAdaZO
from pocourse.zeroth_order.zoar import ZoAR

CHAPTER = "zeroth_order"

Settings = Mapping[str, object]
MEMORY = "RLOO with history"
# Of each: dimension, queries and sigma, history, device.
ESTIMATORS: dict[str, Callable[[int, dict, int, torch.device], AskTell]] = {
    "vanilla": lambda dim, asked, history, device: Forward(**asked),
    "history average": lambda dim, asked, history, device: HistoryAverage(Forward(**asked), history=history),
    "RLOO": lambda dim, asked, history, device: LeaveOneOut(**asked),
    "antithetic": lambda dim, asked, history, device: Antithetic(**asked),
    "ZoAR": lambda dim, asked, history, device: ZoAR(dim, history=history, generator=torch.Generator(device), **asked),
    # No method of the paper: ZoAR's memory without its pooled baseline.
    MEMORY: lambda dim, asked, history, device: HistoryAverage(LeaveOneOut(**asked), history=history),
}
ASK_THE_CENTRE = {"vanilla", "history average"}
METHODS = ("vanilla", "history average", "RLOO", "antithetic", "ZoAR")
RULES = {"Adam": Adam, "R-AdaZO": RAdaZO}
TUNED = ", tuned"
# The same estimator with a longer step: what a mean over N independent gradients does to Adam's denominator.
LONGER = "RLOO, longer step"
# The same estimator nearer to theta: what the curvature costs grows with the radius, (4.12).
NEARER, NEARER_BY = "vanilla, σ / 10", 0.1
INGREDIENTS = ("vanilla", NEARER, "RLOO", LONGER, MEMORY, "ZoAR")

# Step sizes, queries and radii are those of the public code of Qiu et al. 2025, sigma^2 d too: 25 on the landscapes.
# Beside the methods' queries an attack spends one on theta itself, to see whether it has succeeded; vanilla takes that
# one for its baseline.
UPDATE = {"update": "without bias correction, betas 0.9 and 0.99"}
LANDSCAPE = {"num_queries": 10, "looks": 0, "history": 6, "paper_step": 1e-3} | UPDATE
ATTACK = {
    "num_queries": 2,
    "looks": 1,
    "history": 6,
    "sigma": 0.5,
    "dim": DigitsAttack.dim,
    "paper_step": 1e-2,
} | UPDATE
SIZES = {
    "ci": {"seeds": 8, "dim": 100, "sigma": 0.5, "iterations": 512},
    "cpu": {"seeds": 8, "dim": 1000, "sigma": 0.158, "iterations": 2304},
    "gpu": {"seeds": 8, "dim": 10_000, "sigma": 0.05, "iterations": 20_480},
}
ATTACK_SIZES = {
    "ci": {"seeds": 8, "images": 32, "iterations": 128},
    "cpu": {"seeds": 8, "images": 64, "iterations": 512},
    "gpu": {"seeds": 8, "images": 320, "iterations": 2048},
}
# Five times the queries an iteration, as many queries in all.
TEN_SIZES = {name: size | {"iterations": size["iterations"] * 3 // 11} for name, size in ATTACK_SIZES.items()}
COMPARISONS = {name.lower(): SIZES for name in LANDSCAPES} | {"attack": ATTACK_SIZES}
POINTS = 128
# Run when the records are made, and read by the cells: each method with each of these multiples of its step,
# on other seeds. Beside them the second update rule of that code, with its step.
MULTIPLES = (1, 1.4, 2, 2.8, 4, 5.6, 8, 11, 16, 22, 32)
ATTACK_MULTIPLES = (0.25, 0.5, 1, 2, 4, 8, 16)
GRID_SEEDS, GRID_POINTS = range(100, 108), 16
ATTACK_TEN = "attack-ten"
RECORDED_ONLY = {f"{name}-grid": sizes for name, sizes in COMPARISONS.items()}
RECORDED_ONLY |= {f"{ATTACK_TEN}-grid": TEN_SIZES, ATTACK_TEN: TEN_SIZES}

# What the figures of AdaSmooth's public notebook (commit 1a17581), which carries on the code of Qiu et al. 2025, print
# for ZoAR with Adam, d = 10,000, against vanilla. They were read off 16 points of a plot: only 16 / j can occur.
PUBLISHED_SPEED_UP = {"quadratic": 8.00, "levy": 5.33, "rosenbrock": 8.00, "ackley": 16.00}


class Variant(NamedTuple):
    """A method with a step size and an update rule: one line of a figure."""

    method: str
    step: float
    rule: str = "Adam"
    radius: float = 1.0  # in units of the comparison's sigma


class Task(NamedTuple):
    """What is minimised, from where, and what of the loop's metrics [method, seed, ...] is kept as [method, seed]."""

    f: Callable[[Tensor], Tensor]
    start: Tensor
    kept: Callable[[dict], dict]
    curve: str


def task(settings: Settings, streams: SeedStreams) -> Task:
    """The function of a comparison, its starts [seed, ...] and its curve."""
    known = {title.lower(): f for title, f in LANDSCAPES.items()}
    if settings["world"] in known:
        return Task(known[settings["world"]], streams.normal(settings["dim"]), lambda seen: seen, "value")
    attack = attack_on(settings["images"])
    start = torch.zeros(len(streams), settings["images"], attack.dim, device=streams.device)
    return Task(attack.margin, start, Unbroken(), "unbroken")


def attack_on(images: int) -> DigitsAttack:
    """The attack on the shipped classifier, on its first so many images that the classifier gets right.

    Raises: ValueError where a shipped file is missing or damaged.
    """
    return DigitsAttack(load_digits(paths.shipped() / "digits"), num_images=images)


class Unbroken:
    """The share of images that no look has found to be taken for their target yet, [method, seed]."""

    def __init__(self):
        self._yet = None

    def __call__(self, seen: dict[str, Tensor]) -> dict[str, Tensor]:
        """The loop's metrics at one time, in the order of time."""
        standing = ~(seen["value"] < 0)
        self._yet = standing if self._yet is None else self._yet & standing
        return {"unbroken": self._yet.float().mean(-1), "alive": seen["alive"].all(-1)}


def chosen_steps(name: str, profile: str = "cpu") -> dict[str, float]:
    """For each line (a method, or one of the ingredients) its best step size on the recorded grid.

    The best ends lowest, or needs the fewest queries for an attack.

    Interquartile means over the grid's seeds are compared. Where no grid has been recorded for the profile, that of
    ``cpu`` is read.
    Raises: ValueError where there is none at all.
    """
    grid = recorded(f"{name}-grid", profile) or recorded(f"{name}-grid")
    if grid is None:
        raise ValueError(
            f"expected a recorded grid of step sizes for {name}; got none. Make it: pocourse run 04 --only {name}-grid "
            "--profile cpu --record."
        )
    found = {}
    for label, variant in _grid_variants(name).items():
        if variant.rule != "Adam" or label not in grid.methods:
            continue
        reached, line = score(grid, label), label.split(" at ")[0]
        if line not in found or reached < found[line][0]:
            found[line] = (reached, variant.step)
    return {line: step for line, (_, step) in found.items()}


def score(record: SearchRecord | SavedRecord, label: str) -> float:
    """What a step size is chosen by: the value in the end, or the mean queries of an attack; the less the better."""
    if "unbroken" in record.curves():
        return float(interquartile_mean(mean_queries(record, label)))
    return float(interquartile_mean(record.curves()["value"][-1, record.methods.index(label)]))


def variants(name: str, profile: str) -> dict[str, Variant]:
    """Every line of a comparison by its label: the public code's step, the own best one, ingredients."""
    if name.endswith("-grid"):
        return _grid_variants(name.removesuffix("-grid"))
    steps, paper = chosen_steps(name, profile), _fixed(name)["paper_step"]
    found = {method: Variant(method, paper) for method in METHODS} | {MEMORY: Variant(MEMORY, paper)}
    if not _is_attack(name):
        found[LONGER] = Variant("RLOO", paper * math.sqrt(LANDSCAPE["history"]))
        found[NEARER] = Variant("vanilla", paper, radius=NEARER_BY)
    # An ingredient's own best step can be read from the grid; a live run has no time for it.
    tuned = found if _is_attack(name) else METHODS
    return found | {line + TUNED: found[line]._replace(step=steps[line]) for line in tuned}


def _grid_variants(name: str) -> dict[str, Variant]:
    paper, attack = _fixed(name)["paper_step"], _is_attack(name)
    lines = {method: Variant(method, paper) for method in ESTIMATORS}
    if not attack:
        lines[NEARER] = Variant("vanilla", paper, radius=NEARER_BY)
    multiples = ATTACK_MULTIPLES if attack else MULTIPLES
    found = {f"{line} at {paper * by:g}": lines[line]._replace(step=paper * by) for line in lines for by in multiples}
    if attack:
        return found
    return found | {f"{m}, R-AdaZO at {paper:g}": Variant(m, paper, "R-AdaZO") for m in METHODS}


def _fixed(name: str) -> dict:
    if not _is_attack(name):
        return LANDSCAPE
    return ATTACK | {"num_queries": 10} if name.startswith(ATTACK_TEN) else ATTACK


def _is_attack(name: str) -> bool:
    return name.startswith("attack")


def configuration(name: str, profile: str, chosen: Mapping[str, Variant] | None = None) -> dict:
    """Every number a comparison is run with, as it goes into its record.

    Raises: ValueError for a comparison or a profile that does not exist.
    """
    sizes = COMPARISONS | RECORDED_ONLY
    if name not in sizes:
        raise ValueError(f"expected a comparison among {', '.join(sizes)}; got {name!r}. Choose one of them.")
    size = sizes[name][profiles.profile(profile)]
    chosen = variants(name, profile) if chosen is None else chosen
    words = {label: in_words(variant) for label, variant in chosen.items()}
    return {"world": name.removesuffix("-grid"), "objectives": words} | _fixed(name) | size


def in_words(variant: Variant) -> str:
    """A variant as a record and a table name it."""
    nearer = "" if variant.radius == 1 else f", sigma times {variant.radius:g}"
    return f"{variant.method}{nearer}, {variant.rule}, step {variant.step:.4g}"


def train(
    name: str,
    chosen: Mapping[str, Variant] | None = None,
    *,
    profile: str = "auto",
    folder: Path | None = None,
    made_by: str = "notebooks/04_zeroth_order.ipynb",
    quiet: bool = False,
) -> SearchRecord:
    """Run every variant on every seed as one batch, watch it, and return its record.

    ``name`` is a landscape, "quadratic", "levy", "rosenbrock" or "ackley", or "attack"; with "-grid" behind it, all
    step sizes are run, and "attack-ten" has ten queries an iteration where "attack" has two. The record is saved in
    ``folder``, by default the reader's own. Interrupting it keeps what was finished. On a CPU it
    runs on one thread: the pieces of work are too small to be shared.
    Raises: ValueError for names that do not exist, or the profile gpu where torch finds no card.
    """
    profile, grid = profiles.profile(profile), name.endswith("-grid")
    settings = configuration(name, profile, chosen)
    chosen = variants(name, profile) if chosen is None else chosen
    with profiles.threads(at_most=1):
        device = profiles.device(profile)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        streams = SeedStreams(GRID_SEEDS if grid else range(settings["seeds"]), device=device)
        what = task(settings, streams)
        # Whether an attack has succeeded is looked at after every step; the record thins its curve.
        look = 1 if settings["looks"] else max(1, settings["iterations"] // (GRID_POINTS if grid else POINTS))
        methods = methods_of(chosen, settings, device)
        iterations = settings["iterations"] // look * look
        stream = black_box(what.f, what.start, streams, methods, num_iterations=iterations, every=look)
        record = SearchRecord(
            CHAPTER,
            name,
            profile=profile,
            methods=list(chosen),
            seeds=streams.seeds,
            steps_per_update=look * (settings["num_queries"] + settings["looks"]),
            num_updates=iterations // look,
            configuration=settings,
            made_by=made_by,
            measured=(what.curve,),
        )
        drawing = draw_attack if settings["looks"] else draw
        shown = None if grid else partial(drawing, behind=comparisons.backdrop(CHAPTER, name))
        folder = paths.reader_runs(CHAPTER) if folder is None else folder
        return follow(map(what.kept, stream), record, folder, draw=shown, quiet=quiet)


def methods_of(chosen: Mapping[str, Variant], settings: Settings, device: torch.device) -> dict[str, Method]:
    """The estimator and the update rule of every variant, each with a memory of its own."""
    made = {}
    for label, variant in chosen.items():
        queries = settings["num_queries"] + settings["looks"] * (variant.method in ASK_THE_CENTRE)
        asked = {"num_queries": queries, "sigma": variant.radius * settings["sigma"]}
        estimator = ESTIMATORS[variant.method](settings["dim"], asked, settings["history"], device)
        made[label] = Method(estimator, RULES[variant.rule](learning_rate=variant.step))
    return made


# ---------------------------------------------------------------- what is measured


def queries_until(steps: np.ndarray, curve: np.ndarray, level: float) -> float:
    """The queries at which a falling curve first reaches a level, its logarithm interpolated between points.

    Before the first point the curve is not known: where it starts below the level, that point counts. Infinite where
    the level is not reached.
    Shapes: steps [point], curve [point], above 0.
    """
    below = np.nonzero(curve <= level)[0]
    if not below.size:
        return math.inf
    first = int(below[0])
    if first == 0:
        return float(steps[0])
    high, low = np.log(curve[first - 1]), np.log(curve[first])
    share = (high - math.log(level)) / (high - low)
    return float(steps[first - 1] + share * (steps[first] - steps[first - 1]))


def speed_up(
    record: SearchRecord | SavedRecord, method: str, *, against: str = "vanilla", resamples: int = 500
) -> tuple[float, float, float]:
    """How many times fewer queries a method needs to get where another one ends: (value, low, high).

    Both curves are interquartile means over seeds; the 95% band draws the seeds again, the same ones for both.
    Infinite reciprocals are zero: a method that never gets there has the speed-up 0.
    """
    values, steps = record.curves()["value"], np.asarray(record.steps)
    one, other = (values[:, record.methods.index(label)] for label in (method, against))
    drawn = np.random.default_rng(0).integers(one.shape[1], size=(resamples, one.shape[1]))

    def ratio(chosen):
        level = interquartile_mean(other[-1, chosen])
        return float(steps[-1] / queries_until(steps, interquartile_mean(one[:, chosen], axis=1), float(level)))

    found = np.sort([ratio(chosen) for chosen in drawn])
    outside = round(0.025 * resamples)
    return ratio(slice(None)), float(found[outside]), float(found[-1 - outside])


def best_tuned(record: SearchRecord | SavedRecord) -> str:
    """Which method stands lowest with its own best step, in the words of the prediction; none where bands overlap."""
    bands = {method: record.summary()[method + TUNED]["final_value"]["band"] for method in METHODS}
    first, second = sorted(bands, key=lambda method: np.mean(bands[method]))[:2]
    overlap = bands[second][0] <= bands[first][1]
    return "the best two cannot be told apart" if overlap else first


def mean_queries(record: SearchRecord | SavedRecord, method: str) -> np.ndarray:
    """The mean number of queries spent on an image until success or, at most, the limit: [seed].

    It is the area under the curve of those that still stand (statisticians: the restricted mean survival time).
    """
    curve = record.curves()["unbroken"][:, record.methods.index(method)]
    steps = np.diff(np.concatenate([[0.0], np.asarray(record.steps, dtype=float)]))
    before = np.concatenate([np.ones_like(curve[:1]), curve[:-1]])
    return (steps[:, None] * (before + curve) / 2).sum(0)


# ---------------------------------------------------------------- what is shown


def recorded(name: str, profile: str = "cpu") -> SavedRecord | None:
    """The run that ships with the course, or None where nobody has recorded it yet."""
    return comparisons.recorded(CHAPTER, name, profile)


LINE = LINE_OF | {LONGER: LINE_OF["one-point"], MEMORY: LINE_OF["ranks"]}
LINE[NEARER] = {"color": "#7f4f24", "linestyle": (0, (1, 1))}
AT_PAPER, AT_BEST, APART = "all with one step size", "each with its own best step", "what the gain is made of"
PANELS = {
    AT_PAPER: {method: method for method in METHODS},
    AT_BEST: {method + TUNED: method for method in METHODS},
    APART: {method: method for method in INGREDIENTS},
}


def cost_card(profile: str = "auto") -> str:
    """What the training cells cost, in Markdown: what they run on this machine, and what the recorded runs measured."""
    profile = profiles.profile(profile)
    lines = [
        f"**What it costs** (profile `{profile}`)\n\n",
        "| comparison | lines | seeds | queries a seed | measured | memory | on |\n",
        "|---|---|---|---|---|---|---|\n",
    ]
    for name in COMPARISONS:
        c = configuration(name, profile)
        measured = comparisons.measured(CHAPTER, name, profile)
        queries = c["iterations"] * (c["num_queries"] + c["looks"])
        lines.append(f"| {name} | {len(c['objectives'])} | {c['seeds']} | {queries:,} | {measured} |\n")
    lines.append(
        "\nOther sizes: set `POCOURSE_PROFILE` to `ci` (seconds), `cpu` or `gpu` (ten thousand dimensions and twenty "
        "thousand iterations, as in the public code) before starting the kernel.\n"
    )
    return "".join(lines)


def draw(record: SearchRecord | SavedRecord, *, behind: SavedRecord | None = None):
    """The value against queries, as bands over seeds, in three panels: one step, own steps, ingredients.

    The recorded run lies pale behind. Returns (figure, alt text).
    """
    with figures.style():
        figure, axes = figures.panels(3, height=3.5)
        for panel, (title, lines) in zip(axes[0], PANELS.items(), strict=True):
            _bands(panel, record, "value", lines, behind=behind)
            panel.set_title(title, fontsize=10)
            _log_axis(panel)
        axes[0][0].set_ylabel(f"f, {comparisons.configuration(record)['world'].capitalize()}")
        axes[0][0].set_ylim(axes[0][1].get_ylim())  # the first two are compared with each other
        _legend(figure, record, PANELS)
        return figure, describe(record)


def draw_attack(record: SearchRecord | SavedRecord, *, behind: SavedRecord | None = None):
    """The share of images that still stand, against queries, as bands over seeds: one step, own steps.

    The recorded run lies pale behind. Returns (figure, alt text).
    """
    shown = {title: PANELS[title] for title in (AT_PAPER, AT_BEST)}
    with figures.style():
        figure, axes = figures.panels(2, height=3.5, sharey=True)
        for panel, (title, lines) in zip(axes[0], shown.items(), strict=True):
            _bands(panel, record, "unbroken", lines, behind=behind)
            panel.set_title(title, fontsize=10)
            panel.set_xlabel("queries per image")
            # Where not even an attack that may use the gradient has found a way in.
            closed = 1 - float(attack_on(comparisons.configuration(record)["images"]).reachable.float().mean())
            figures.limit_line(panel, closed, "no attack known", at=0.03)
        axes[0][0].set_ylabel("images that still stand")
        axes[0][0].set_ylim(0, 1.02)
        axes[0][0].yaxis.set_major_formatter(lambda y, _: f"{100 * y:.0f}%")
        _legend(figure, record, shown)
        return figure, describe(record)


def _bands(panel, record, key, lines, *, behind):
    curves = record.curves()[key]
    for label, method in lines.items():
        if label not in record.methods or not len(record.steps):
            continue
        line = LINE.get(method, figures.LINES[1])
        if behind is not None and label in behind.methods:
            pale = behind.curves()[key][:, behind.methods.index(label)]
            figures.band(panel, behind.steps, pale, line=line, faint=True, resamples=200)
        figures.band(panel, record.steps, curves[:, record.methods.index(label)], line=line, resamples=200)
    panel.set_xlabel("queries per seed")
    panel.set_xlim(0, max([1, *record.steps[-1:]]))
    panel.locator_params(axis="x", nbins=4)
    panel.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}k" if x >= 5000 else f"{x:g}")


def _log_axis(panel):
    from matplotlib.ticker import LogLocator, NullFormatter

    panel.set_yscale("log")
    low, high = panel.get_ylim()
    panel.yaxis.set_major_locator(LogLocator(subs=(1,) if high > 50 * low else (1, 2, 5)))
    panel.yaxis.set_major_formatter("{x:g}")
    panel.yaxis.set_minor_formatter(NullFormatter())


def _legend(figure, record, panels):
    from matplotlib.lines import Line2D

    drawn = {method for lines in panels.values() for label, method in lines.items() if label in record.methods}
    shown = [method for method in LINE if method in drawn]
    entries = [Line2D([], [], **LINE[method]) for method in shown]
    figure.legend(
        entries, shown, loc="outside lower left", ncols=5 if len(shown) <= 5 else 4, fontsize=9.5, handlelength=2.8
    )


def describe(record: SearchRecord | SavedRecord) -> str:
    """The curves in words: where every line ends."""
    known = comparisons.configuration(record)
    if known["looks"]:
        what = "Two panels of the share of images that still stand against queries, targeted attack on digits"
        parts = [f"{label} {said(s['final_unbroken'])}" for label, s in record.summary().items()]
    else:
        what = f"Three panels of f against queries on {known['world'].capitalize()}, logarithmic"
        parts = [f"{label} {said(s['final_value'])}" for label, s in record.summary().items()]
    return (
        f"{what}, bands over {len(record.seeds)} seeds: all methods with one step size, each with its own best"
        f"{'' if known['looks'] else ', and what the gain is made of'}. In the end: "
        f"{'; '.join(parts) or 'nothing is finished yet'}."
    )


def table(record: SearchRecord | SavedRecord) -> str:
    """The outcome as a Markdown table, with one step size and with the own best one."""
    if len(record.steps) == 0:
        return comparisons.unfinished(record)
    known = comparisons.configuration(record)
    if record.methods and record.methods[0].startswith(f"{METHODS[0]} at "):
        rows = _grid_rows(record)
    elif known["looks"]:
        rows = _attack_rows(record)
    else:
        rows = _landscape_rows(record)
    return comparisons.unfinished(record) + "".join(rows)


def speed_ups(profile: str = "cpu") -> str:
    """ZoAR against vanilla in the recorded runs, beside the published numbers, as a Markdown table."""
    rows = [
        "| landscape | with one step size, ours | AdaSmooth's notebook | each with its own best step, ours |\n",
        "|---|---|---|---|\n",
    ]
    for name, published in PUBLISHED_SPEED_UP.items():
        record = recorded(name, profile)
        if record is None:
            rows.append(f"| {name} | not recorded yet | {published:.2f}× | not recorded yet |\n")
            continue
        own = _times(record, "ZoAR" + TUNED, "vanilla" + TUNED)
        rows.append(f"| {name} | {_times(record, 'ZoAR')} | {published:.2f}× | {own} |\n")
    return "".join(rows)


def other_rule(profile: str = "cpu") -> str:
    """The values in the end with R-AdaZO and one step size, from the recorded grids, as a Markdown table."""
    names = [name for name in COMPARISONS if name != "attack"]
    rows = [f"| R-AdaZO, step {LANDSCAPE['paper_step']:g} | {' | '.join(names)} |\n|---|{'---|' * len(names)}\n"]
    for method in METHODS:
        label = f"{method}, R-AdaZO at {LANDSCAPE['paper_step']:g}"
        grids = (recorded(f"{name}-grid", profile) for name in names)
        cells = ["not recorded yet" if grid is None else _end(grid.summary()[label]) for grid in grids]
        rows.append(f"| {method} | {' | '.join(cells)} |\n")
    return "".join(rows)


def _landscape_rows(record):
    summary, known = record.summary(), comparisons.configuration(record)
    yield (
        f"| method | f in the end, step {known['paper_step']:g} | fewer queries than vanilla | own best step "
        "| f in the end | fewer queries than vanilla with its own best |\n|---|---|---|---|---|---|\n"
    )
    for method in (*METHODS, MEMORY, LONGER, NEARER):
        cells = [method, *(["", ""] if method not in summary else [_end(summary[method]), _times(record, method)])]
        tuned = method + TUNED
        if tuned in summary:
            step = known["objectives"][tuned].split("step ")[1]
            cells += [step, _end(summary[tuned]), _times(record, tuned, "vanilla" + TUNED)]
        else:
            cells += ["", "", ""]
        yield f"| {' | '.join(cells)} |\n"


def _attack_rows(record):
    known = comparisons.configuration(record)
    yield (
        f"| method | mean queries, step {known['paper_step']:g} | still standing | own best step | mean queries "
        "| still standing |\n|---|---|---|---|---|---|\n"
    )
    summary = record.summary()
    for method in (*METHODS, MEMORY):
        cells = [method]
        for label in (method, method + TUNED):
            if label not in summary:
                cells += ["", ""]
                continue
            if label != method:
                cells.append(known["objectives"][label].split("step ")[1])
            cells += [said(_statistics(mean_queries(record, label))), said(summary[label]["final_unbroken"])]
        yield f"| {' | '.join(cells)} |\n"


def _grid_rows(record):
    yield "| method and step size | in the end |\n|---|---|\n"
    for label, s in record.summary().items():
        yield f"| {label} | {said(next(iter(s.values())))} |\n"


def _end(summary):
    return said(summary["final_value"])


def _statistics(per_seed):
    low, high = bootstrap_band(per_seed)
    return {"iqm": float(interquartile_mean(per_seed)), "band": [float(low), float(high)]}


def _times(record, method, against="vanilla"):
    if against not in record.methods:
        return ""
    if method == against:
        return "1"
    value, low, high = speed_up(record, method, against=against)
    if not value:
        return "never"
    return f"{value:.2f}× ({low:.2f} to {high:.2f})"
