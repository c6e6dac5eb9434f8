"""Explorables: figures with sliders that need no kernel.

An explorable is a pure function from named parameters to arrays, computed once on a grid of parameters. What goes to
the page are the arrays; the sliders step on the grid, and nothing between two frames is made up. ``explorable.js``
draws them, and knows no mathematics. In a notebook an explorable is two outputs of one cell: the default frame as a
picture, with its alternative text, and a page that takes the picture's place wherever its script may run.
"""

import base64
import html
import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from math import prod
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from pocourse.lesson import cards, figures

BYTES = 150_000
ALT = 30
GAP = 65535  # the code of NaN, a gap in a line; all others are a place between the lowest and the highest value
STEPS = GAP - 1
# For each colour of the figures the one that takes its place on a dark page.
DARK = {
    "#6b6f76": "#adb3bd",
    "#d55e00": "#ff9248",
    "#009e73": "#37d0a3",
    "#0072b2": "#5db9f5",
    "#aa4499": "#e08fd2",
    "#b58900": "#e8c53d",
    cards.INK: "#eceae4",
    cards.FAINT: "#8d949e",
    cards.RED: "#ff8178",
}
COLOURS = tuple(DARK)
# Light and dark of what the renderer itself draws: card, text, less important text, grid, borders, what is chosen.
_PARTS = {
    "card": (cards.PAPER, "#1d2025"),
    "ink": (cards.INK, "#eceae4"),
    "soft": ("#5b6068", "#b3b8c0"),
    "grid": ("#e7e5df", "#343941"),
    "edge": ("#c9c6bd", "#4f5661"),
    "key": ("#0072b2", "#5db9f5"),
}
KINDS = ("line", "points", "area")
MARKERS = {"o": "circle", "^": "up", "v": "down", "D": "diamond"}
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_ID = re.compile(r"[a-z][a-z0-9_.]*")
_FIELD = re.compile(r"\{(\w+)\}")
_MINUS_ZERO = re.compile(r"-(?=0(\.0*)?(?![\d.]))")


def _refuse(expected: str, got: object, remedy: str) -> None:
    raise ValueError(f"expected {expected}; got {got}. {remedy}")


# ---------------------------------------------------------------- what an explorable is made of


@dataclass(frozen=True)
class Control:
    """A parameter on its grid. ``texts`` says each value in words; ``play`` puts a button beside the slider."""

    name: str
    label: str
    values: Sequence
    default: object
    kind: str = "slider"
    texts: Sequence[str] | None = None
    play: bool = False

    def __post_init__(self):
        object.__setattr__(self, "values", tuple(self.values))
        texts = tuple(said(value) for value in self.values) if self.texts is None else tuple(self.texts)
        object.__setattr__(self, "texts", texts)
        if not _NAME.fullmatch(self.name):
            _refuse("the name of a control in lower case, as a parameter's", repr(self.name), "Rename it.")
        if self.kind not in ("slider", "choice"):
            _refuse(f"kind of {self.name} as slider or choice", repr(self.kind), "Choose one of them.")
        if self.play and self.kind != "slider":
            _refuse(f"a slider where {self.name} is to play", f"a {self.kind}", "Leave out play, or make it a slider.")
        if len(self.values) < 2 or len(set(self.values)) != len(self.values):
            _refuse(f"at least 2 different values of {self.name}", list(self.values), "Give each value once.")
        if self.default not in self.values:
            _refuse(
                f"the default of {self.name} on its grid, {list(self.values)}",
                repr(self.default),
                "Sliders step on the grid only: choose a default that is on it.",
            )
        if len(texts) != len(self.values) or len(set(texts)) != len(texts):
            _refuse(
                f"a text of its own for each of the {len(self.values)} values of {self.name}",
                list(texts),
                "A reader could not tell two values with one text apart.",
            )

    @property
    def start(self) -> int:
        """Where on the grid the default is."""
        return self.values.index(self.default)


@dataclass(frozen=True)
class Curve:
    """A line, points or a filled area. ``y`` is [*grid, point], ``x`` that or [point], the same in every frame.

    An axis of the grid on which nothing depends may have length 1. NaN is a gap. ``look`` is a line of the course's
    figures: ``color``, ``linestyle``, and where wanted ``linewidth``, ``alpha`` and, for points, ``marker`` (one of
    o ^ v D) and ``size`` in pixels. ``label`` is its entry in the legend, the name if not given, none if empty.
    """

    name: str
    y: np.ndarray
    x: np.ndarray
    look: Mapping[str, object] = field(default_factory=lambda: figures.LINES[3])
    kind: str = "line"
    label: str | None = None

    def __post_init__(self):
        for axis in ("x", "y"):
            try:
                object.__setattr__(self, axis, np.asarray(getattr(self, axis), dtype=float))
            except (TypeError, ValueError):
                _refuse(f"{axis} of {self.name!r} as an array of numbers", type(getattr(self, axis)), "Convert it.")
        if self.kind not in KINDS:
            _refuse(f"kind of {self.name!r} as one of {', '.join(KINDS)}", repr(self.kind), "Choose one of them.")
        if self.look.get("color") not in DARK:
            _refuse(
                f"a colour of {self.name!r} that has a partner on dark pages, one of {', '.join(COLOURS)}",
                repr(self.look.get("color")),
                "Take one of figures.LINES, or add the pair to DARK.",
            )
        if self.look.get("marker", "o") not in MARKERS:
            _refuse(
                f"a marker of {self.name!r}, one of {' '.join(MARKERS)}", self.look["marker"], "Choose one of them."
            )
        if self.y.ndim < 1 or self.x.ndim < 1 or self.y.shape[-1] != self.x.shape[-1] or self.y.shape[-1] < 1:
            _refuse(
                f"x and y of {self.name!r} with as many points in their last axis",
                f"{list(self.x.shape)} and {list(self.y.shape)}",
                "Evaluate y at the points of x.",
            )
        if np.isinf(self.x).any() or np.isinf(self.y).any():
            _refuse(f"finite values of {self.name!r}, or NaN for a gap", "an infinite one", "Put NaN in its place.")

    @property
    def said(self) -> str:
        """Its entry in the legend; empty where it has none."""
        return self.name if self.label is None else self.label


@dataclass(frozen=True)
class Mark:
    """What stands in every frame: a ``hline`` or ``vline`` at a number, a ``text`` at (x, y).

    ``lift`` moves a text up by so many pixels, down if negative: clear of a line, however small the panel is.
    """

    kind: str
    at: float | tuple[float, float]
    text: str = ""
    color: str = cards.FAINT
    anchor: str = "start"
    lift: float = 0.0

    def __post_init__(self):
        if self.kind not in ("hline", "vline", "text"):
            _refuse("a mark of kind hline, vline or text", repr(self.kind), "Choose one of them.")
        if self.color not in DARK or self.anchor not in ("start", "middle", "end"):
            _refuse("a colour of DARK and start, middle or end", f"{self.color}, {self.anchor}", "Choose among them.")
        if np.shape(self.at) != ((2,) if self.kind == "text" else ()):
            _refuse("a mark's place: a number for a line, (x, y) for a text", repr(self.at), "Give as many numbers.")


@dataclass(frozen=True)
class Panel:
    """Axes with curves. The limits are the same for all frames: what a frame shows can be compared with the next.

    ``equal`` draws both axes to one scale, ``bare`` leaves out axes and grid, ``share`` is the panel's share of the
    width.
    """

    title: str
    xlabel: str
    ylabel: str
    xlim: tuple[float, float]
    ylim: tuple[float, float]
    curves: Sequence[Curve]
    marks: Sequence[Mark] = ()
    equal: bool = False
    bare: bool = False
    share: float = 1.0

    def __post_init__(self):
        object.__setattr__(self, "curves", tuple(self.curves))
        for name, (low, high) in (("xlim", self.xlim), ("ylim", self.ylim)):
            if not (np.isfinite(low) and np.isfinite(high) and low < high):
                _refuse(f"{name} as two finite numbers, the lower first", (low, high), "Give limits for all frames.")
        _once([curve.name for curve in self.curves], f"names of curves in the panel {self.title!r}")
        for curve in self.curves:
            for values, (low, high), axis in ((curve.x, self.xlim, "x"), (curve.y, self.ylim, "y")):
                seen = values[np.isfinite(values)]
                reach = np.ptp(seen) if seen.size else 0.0
                if reach > 2 * (high - low):
                    _refuse(
                        f"{axis} of {curve.name!r} over at most twice the panel's range {low:g} to {high:g}",
                        f"a reach of {reach:g}",
                        "It would be stored too coarsely: widen the panel or cut the curve.",
                    )


@dataclass(frozen=True)
class Readout:
    """A number, or a text, per frame: ``values`` [*grid]. With ``shown=False`` it is for the alternative text alone.

    With ``tied=True`` it stays beside the readout before it where lines are short.
    """

    name: str
    label: str
    values: np.ndarray
    form: str = "{:.2f}"
    shown: bool = True
    tied: bool = False

    def __post_init__(self):
        object.__setattr__(self, "values", np.asarray(self.values))
        if not _NAME.fullmatch(self.name):
            _refuse("the name of a readout in lower case", repr(self.name), "Rename it.")
        if self.values.dtype.kind == "f" and not np.isfinite(self.values).all():
            _refuse(f"finite numbers of the readout {self.name}", "NaN or an infinite one", "Say it in words instead.")

    @cached_property
    def texts(self) -> np.ndarray:
        """What is shown, [*grid]. What is rounded to zero has no sign."""
        if self.values.dtype.kind in "US":
            return self.values
        texts = [_MINUS_ZERO.sub("", self.form.format(value)) for value in self.values.ravel().tolist()]
        return np.array([text.replace("-", "−") for text in texts]).reshape(self.values.shape)


class Frame(NamedTuple):
    """What one frame shows: per panel, name of a curve -> (x, y) as stored; the readouts; the alternative text."""

    panels: list[dict[str, tuple[np.ndarray, np.ndarray]]]
    readouts: dict[str, str]
    alt: str


@dataclass(frozen=True)
class Explorable:
    """A figure with controls.

    ``alt`` says what a frame shows: a text with the names of controls and readouts in braces, or a function of the
    parameters of a frame. ``note`` stands below the figure. ``page`` is where a link copied in JupyterLab leads;
    without it, to the page it is copied from, as everywhere else.
    Raises: ValueError for arrays that do not fit the grid, names that stand twice, an alternative text of fewer than 30
    characters, more than 150 kB of data.
    """

    id: str
    title: str
    controls: Sequence[Control]
    panels: Sequence[Panel]
    alt: str | Callable[..., str]
    readouts: Sequence[Readout] = ()
    note: str = ""
    page: str = ""

    def __post_init__(self):
        for name in ("controls", "panels", "readouts"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not _ID.fullmatch(self.id):
            _refuse("an id like chapter.name, in lower case", repr(self.id), "It becomes part of links.")
        if not self.controls or not self.panels:
            _refuse("at least one control and one panel", f"{len(self.controls)} and {len(self.panels)}", "Add one.")
        _once([x.name for x in (*self.controls, *self.readouts)], "names of controls and readouts")
        if callable(self.alt):
            texts = [self.alt(**values) for values in self._frames()]
            alts = Readout("alt", "", np.array(texts).reshape(self.grid), shown=False)
            object.__setattr__(self, "readouts", (*self.readouts, alts))
            object.__setattr__(self, "alt", "{alt}")
        for panel in self.panels:
            for curve in panel.curves:
                self._fits(f"y of {curve.name!r}", curve.y.shape[:-1])
                if curve.x.ndim > 1:
                    self._fits(f"x of {curve.name!r}", curve.x.shape[:-1])
        for readout in self.readouts:
            self._fits(f"the readout {readout.name}", readout.values.shape)
        unknown = set(_FIELD.findall(self.alt)) - {x.name for x in (*self.controls, *self.readouts)}
        if unknown:
            _refuse(
                "names of controls and readouts in the braces of alt", sorted(unknown), "Add a Readout of this name."
            )
        shortest = min((self._alt(at) for at in itertools.product(*map(range, self.grid))), key=len)
        if len(shortest) < ALT:
            _refuse(
                f"alt as a description of each frame in at least {ALT} characters", repr(shortest), "Say what shows."
            )
        if len(self.data) > BYTES:
            _refuse(
                f"at most {BYTES:,} bytes of data",
                f"{len(self.data):,} for {prod(self.grid)} frames",
                "Take fewer values of a parameter, or fewer points.",
            )

    @property
    def grid(self) -> tuple[int, ...]:
        """How many values each control has."""
        return tuple(len(control.values) for control in self.controls)

    def _frames(self):
        for values in itertools.product(*(control.values for control in self.controls)):
            yield {control.name: value for control, value in zip(self.controls, values, strict=True)}

    def _fits(self, what: str, shape: tuple[int, ...]) -> None:
        if len(shape) != len(self.grid) or any(n not in (1, size) for n, size in zip(shape, self.grid, strict=True)):
            _refuse(f"{what} on the grid {list(self.grid)}", f"{list(shape)}", "Put the axes in the controls' order.")

    def _alt(self, at: tuple[int, ...]) -> str:
        words = {control.name: control.texts[i] for control, i in zip(self.controls, at, strict=True)}
        words |= {readout.name: str(_there(readout.texts, at)) for readout in self.readouts}
        return _FIELD.sub(lambda found: words[found[1]], self.alt)

    @cached_property
    def spec(self) -> dict:
        """All that goes to the page."""
        return {
            "id": self.id,
            "title": self.title,
            "page": self.page,
            "note": self.note,
            "alt": self.alt,
            "theme": _theme(),
            "controls": [
                {
                    "name": control.name,
                    "label": control.label,
                    "kind": control.kind,
                    "play": control.play,
                    "start": control.start,
                    "keys": [_key(value) for value in control.values],
                    "texts": list(control.texts),
                }
                for control in self.controls
            ],
            "panels": [_panel_spec(panel) for panel in self.panels],
            "readouts": [
                {"name": r.name, "label": r.label, "shown": r.shown, **_words(_reduced(r.texts, 0))}
                | ({"tied": 1} if r.tied else {})
                for r in self.readouts
            ],
        }

    @cached_property
    def data(self) -> bytes:
        """The spec as JSON: the same bytes for the same explorable."""
        return json.dumps(self.spec, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _once(names: list[str], what: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        _refuse(f"{what} that stand once", f"{', '.join(twice)} more than once", "Rename one of them.")


def said(value: object) -> str:
    """A value of a control in words."""
    return f"{value:g}".replace("-", "−") if isinstance(value, (int, float)) else str(value)


def _key(value: object) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)


def compute(function: Callable[..., Mapping[str, object]], controls: Sequence[Control]) -> dict[str, np.ndarray]:
    """Call a chapter's pure function for every combination of values: name -> array [*grid, *whatever it returns].

    Raises: ValueError where two frames differ in their names or in the shape of an array.
    """
    grid = [len(control.values) for control in controls]
    frames = []
    for values in itertools.product(*(control.values for control in controls)):
        parameters = {control.name: value for control, value in zip(controls, values, strict=True)}
        frames.append({name: np.asarray(array) for name, array in function(**parameters).items()})
        shapes, first = ({name: a.shape for name, a in frame.items()} for frame in (frames[-1], frames[0]))
        if shapes != first:
            _refuse(f"the same arrays in every frame, {first}", f"{shapes} for {parameters}", "Pad with NaN.")
    stacked = {name: np.stack([frame[name] for frame in frames]) for name in frames[0]}
    return {name: array.reshape(*grid, *array.shape[1:]) for name, array in stacked.items()}


# ---------------------------------------------------------------- to codes and back


class Codes(NamedTuple):
    """Values as whole numbers from 0 to 65534, which stand for ``low + step * code``; 65535 is a gap."""

    codes: np.ndarray
    low: float
    step: float

    @property
    def values(self) -> np.ndarray:
        """What the codes stand for."""
        return np.where(self.codes == GAP, np.nan, self.low + self.step * self.codes)


def quantised(values: np.ndarray) -> Codes:
    """The nearest codes: off by at most half a step, a 131068th of the values' reach."""
    seen = values[np.isfinite(values)]
    low, high = (float(seen.min()), float(seen.max())) if seen.size else (0.0, 0.0)
    step = (high - low) / STEPS
    places = np.rint((values - low) / step) if step > 0 else values * 0
    return Codes(np.where(np.isnan(places), GAP, places).clip(0, GAP).astype("<u2"), low, step)


def _reduced(array: np.ndarray, inner: int) -> np.ndarray:
    """The array with length 1 on each axis of the grid that it does not depend on; ``inner`` axes are no grid."""
    for axis in range(array.ndim - inner):
        first = array.take([0], axis)
        same = (array == first) | ((array != array) & (first != first))  # NaN is a gap in both
        if same.all():
            array = first
    return array


def _there(array: np.ndarray, at: Sequence[int]) -> np.ndarray:
    """One frame of an array on the grid."""
    return array[tuple(min(i, n - 1) for i, n in zip(at, array.shape, strict=False))]


def _stored(curve: Curve, axis: str) -> np.ndarray:
    values = getattr(curve, axis)
    if axis == "x" and values.ndim == 1:
        values = values.reshape((1,) * (curve.y.ndim - 1) + values.shape)
    return _reduced(values, 1)


def _series(values: np.ndarray) -> dict:
    coded = quantised(values)
    return {
        "dims": list(values.shape[:-1]),
        "n": values.shape[-1],
        "low": coded.low,
        "step": coded.step,
        "codes": base64.b64encode(coded.codes.tobytes()).decode(),
    }


def _theme() -> str:
    """The colours as CSS variables: dark where JupyterLab or the site says so, or the reader's system elsewhere."""
    pairs = [*DARK.items(), *_PARTS.values()]
    names = [*map(str, range(len(DARK))), *_PARTS]

    def paint(dark: bool) -> str:
        values = ";".join(f"--xp-{name}:{pair[dark]}" for name, pair in zip(names, pairs, strict=True))
        return f"{{{values};color-scheme:{'dark' if dark else 'light'}}}"

    host = "[data-explorable]"
    return (
        f"{host}{{display:block}}{host}{paint(False)}"
        f"html[data-theme=dark] {host},body[data-jp-theme-light=false] {host}{paint(True)}"
        "@media (prefers-color-scheme:dark)"
        f"{{html:not([data-theme]) body:not([data-jp-theme-light]) {host}{paint(True)}}}"
        # The site's theme paints outputs light on its dark pages.
        f"html[data-theme=dark] .bd-content div.cell_output div.text_html:has({host})"
        "{background:none;color:inherit;padding:0}"
    )


def _words(texts: np.ndarray) -> dict:
    return {"dims": list(texts.shape), "texts": [str(text) for text in texts.ravel()]}


def _panel_spec(panel: Panel) -> dict:
    return {
        "title": panel.title,
        "xlabel": panel.xlabel,
        "ylabel": panel.ylabel,
        "xlim": [float(x) for x in panel.xlim],
        "ylim": [float(y) for y in panel.ylim],
        "xticks": _ticks(panel.xlim),
        "yticks": _ticks(panel.ylim),
        "equal": panel.equal,
        "bare": panel.bare,
        "share": panel.share,
        "marks": [
            {"kind": m.kind, "at": np.asarray(m.at, dtype=float).tolist(), "text": m.text, "c": COLOURS.index(m.color)}
            | ({"anchor": m.anchor, "lift": float(m.lift)} if m.kind == "text" else {})
            for m in panel.marks
        ],
        "curves": [
            {"name": c.name, "label": c.said, "kind": c.kind, **_look(c)}
            | {axis: _series(_stored(c, axis)) for axis in "xy"}
            for c in panel.curves
        ],
    }


def _look(curve: Curve) -> dict:
    look = curve.look
    width, style = float(look.get("linewidth", 2)), look.get("linestyle", "-")
    dash = "" if isinstance(style, str) else " ".join(f"{part * width:.3g}" for part in style[1])
    marker = MARKERS[look.get("marker", "o")]
    drawn = {"c": COLOURS.index(look["color"]), "width": width, "dash": dash, "alpha": float(look.get("alpha", 1))}
    return drawn | ({"marker": marker, "size": float(look.get("size", 4))} if curve.kind == "points" else {})


def _ticks(limits: tuple[float, float]) -> list[list]:
    low, high = limits
    places = MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    slack = 1e-9 * (high - low)
    inside = [float(place) for place in places if low - slack <= place <= high + slack]
    return [[round(place, 9) + 0.0, said(round(place, 9) + 0.0)] for place in inside]


def frame(ex: Explorable, **values: object) -> Frame:
    """One frame as the page shows it, decoded from what is stored. Parameters that are not named keep their default.

    Raises: ValueError for a parameter that does not exist or a value off the grid.
    """
    unknown = set(values) - {control.name for control in ex.controls}
    if unknown:
        _refuse(f"parameters of {ex.id}: {', '.join(c.name for c in ex.controls)}", sorted(unknown), "Rename them.")
    at = []
    for control in ex.controls:
        value = values.get(control.name, control.default)
        if value not in control.values:
            _refuse(f"{control.name} on its grid, {list(control.values)}", repr(value), "Take a value of the grid.")
        at.append(control.values.index(value))
    panels = [
        {c.name: tuple(_there(quantised(_stored(c, axis)).values, at) for axis in "xy") for c in panel.curves}
        for panel in ex.panels
    ]
    return Frame(panels, {r.name: str(_there(r.texts, at)) for r in ex.readouts}, ex._alt(tuple(at)))


# ---------------------------------------------------------------- the two outputs


def draw(ex: Explorable) -> Figure:
    """The default frame, for where no script runs: drawn from the arrays as stored."""
    shown = frame(ex)
    shares = [panel.share for panel in ex.panels]
    tall = 4.6 if any(panel.equal for panel in ex.panels) else 3.9
    with figures.style():
        figure, axes = figures.panels(len(ex.panels), height=tall, width_ratios=shares)
        for panel, place, arrays in zip(ex.panels, axes[0], shown.panels, strict=True):
            _draw_panel(place, panel, arrays)
        at = " · ".join(f"{c.label}: {c.texts[c.start]}" for c in ex.controls)
        figure.suptitle(at, x=0.01, ha="left", fontsize=9.5)
        entries = {}
        for panel in ex.panels:
            for curve in panel.curves:
                if curve.said:
                    entries.setdefault(curve.said, _entry(curve))
        if entries:
            figure.legend(
                entries.values(),
                entries,
                loc="outside lower left",
                ncols=6 if sum(map(len, entries)) < 60 else 5,
                fontsize=9.5,
                handlelength=2.8,
            )
    return figure


def _draw_panel(axes: Axes, panel: Panel, arrays: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    axes.set(xlim=panel.xlim, ylim=panel.ylim, xlabel=panel.xlabel, ylabel=panel.ylabel)
    axes.set_title(panel.title)
    for mark in panel.marks:
        if mark.kind == "text":
            ha = {"start": "left", "middle": "center", "end": "right"}[mark.anchor]
            axes.annotate(
                mark.text,
                mark.at,
                (0, mark.lift * 72 / 96),
                textcoords="offset points",
                color=mark.color,
                ha=ha,
                va="center",
                fontsize=9.5,
                annotation_clip=False,
            )
        else:
            (axes.axhline if mark.kind == "hline" else axes.axvline)(mark.at, color=mark.color, linewidth=1)
    for order, curve in enumerate(panel.curves):
        (x, y), look, above = arrays[curve.name], curve.look, {"zorder": 2 + 0.01 * order}
        if curve.kind == "line":
            axes.plot(x, y, **_line(look), **above)
        elif curve.kind == "area":
            axes.fill(x, y, color=look["color"], alpha=look.get("alpha", 1), linewidth=0, **above)
        else:
            axes.scatter(x, y, **_points(look), **above)
    for ticks, limits, put in (("x", panel.xlim, axes.set_xticks), ("y", panel.ylim, axes.set_yticks)):
        put([place for place, _ in _ticks(limits)], [text for _, text in _ticks(limits)])
        axes.set(**{f"{ticks}lim": limits})
    if panel.equal:
        axes.set_aspect("equal")
    if panel.bare:
        axes.set_axis_off()


def _line(look: Mapping) -> dict:
    return {key: look[key] for key in ("color", "linestyle", "linewidth", "alpha") if key in look}


def _points(look: Mapping) -> dict:
    size = (1.7 * look.get("size", 4) * 72 / 96) ** 2
    return {
        "color": look["color"],
        "marker": look.get("marker", "o"),
        "s": size,
        "alpha": look.get("alpha", 1),
        "linewidths": 0,
    }


def _entry(curve: Curve) -> Line2D | Patch:
    look = curve.look
    if curve.kind == "area":
        return Patch(color=look["color"], alpha=look.get("alpha", 1), linewidth=0)
    if curve.kind == "points":
        return Line2D([], [], linestyle="", marker=look.get("marker", "o"), color=look["color"])
    return Line2D([], [], **_line(look))


def renderer() -> str:
    """The script that draws, without the comments and the indentation of its source."""
    source = resources.files("pocourse.lesson").joinpath("explorable.js").read_text(encoding="utf-8")
    lines = (line.strip() for line in source.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("//"))


def page(ex: Explorable) -> str:
    """The interactive output as HTML: a place, its data, and the script that fills every place not yet filled."""
    data = ex.data.decode().replace("<", "\\u003c")
    return (
        # JupyterLab keeps its keyboard shortcuts to itself where this attribute stands.
        f'<div data-explorable="{html.escape(ex.id)}" data-lm-suppress-shortcuts="true">'
        f'<script type="application/json">{data}</script></div>\n<script type="module">\n{renderer()}\n</script>'
    )


def bundle(ex: Explorable) -> tuple[bytes, str]:
    """Both outputs: the default frame as a PNG, and the page."""
    return figures.png(draw(ex)), page(ex)


def show_explorable(ex: Explorable) -> None:
    """Show an explorable in a notebook: the picture of its default frame, and the page that takes its place."""
    from IPython.display import display

    data, metadata = figures.bundle(draw(ex), frame(ex).alt)
    display(data, metadata=metadata, raw=True)
    said = f"{ex.title}: with scripts allowed, this figure can be moved by {', '.join(c.label for c in ex.controls)}."
    display({"text/html": page(ex), "text/plain": said}, raw=True)


explore = show_explorable  # as the notebooks call it
