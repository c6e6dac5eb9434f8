"""How figures look: one style, an opaque light card, lines told apart by colour, dash and a label of their own."""

import base64
import contextlib
import io
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from pocourse.lesson import cards
from pocourse.lesson.bands import bootstrap_band, interquartile_mean

CARD, INK, FAINT, LIMIT = cards.PAPER, cards.INK, cards.FAINT, cards.RED
# Colours of Okabe and Ito, told apart by the common colour blindnesses, and a dash for each, for print in grey.
LINES = (
    {"color": "#6b6f76", "linestyle": (0, (1, 1.4))},
    {"color": "#d55e00", "linestyle": (0, (5, 1.6))},
    {"color": "#009e73", "linestyle": (0, (6, 1.5, 1, 1.5))},
    {"color": "#0072b2", "linestyle": "-"},
    {"color": "#aa4499", "linestyle": (0, (3, 1, 1, 1, 1, 1))},
    {"color": "#b58900", "linestyle": (0, (9, 2))},
)
WIDTH, DPI = 8.6, 115

_STYLE = {
    "figure.facecolor": CARD,
    "savefig.facecolor": CARD,
    "axes.facecolor": CARD,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.labelsize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e7e5df",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "text.color": INK,
    "font.family": "DejaVu Sans",
    "mathtext.fontset": "dejavusans",
    "lines.linewidth": 2.0,
    "legend.frameon": False,
    "figure.dpi": DPI,
}


@contextlib.contextmanager
def style():
    """The course's look, for the figures made inside the ``with`` block."""
    with matplotlib.rc_context(_STYLE):
        yield


def panels(columns: int = 2, rows: int = 1, *, height: float = 3.3, **options) -> tuple[Figure, np.ndarray]:
    """An empty figure, as wide as a notebook cell, with its axes as an array [rows, columns].

    It belongs to no pyplot state, so nothing is drawn twice and nothing needs to be closed.
    Call it, and draw, inside ``style()``.
    """
    figure = Figure(figsize=(WIDTH, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def band(
    axes: Axes, x: np.ndarray, values: np.ndarray, *, line: dict, resamples: int = 1000, faint: bool = False
) -> np.ndarray:
    """Draw seeds as an interquartile mean with its 95% bootstrap band, and return the mean.

    Shapes: x [point], values [point, seed] -> [point]. ``faint`` draws the band alone, as a backdrop.
    Raises: ValueError for fewer than 8 seeds: no curve of the course is a single run, nor three.
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 2 or len(x) != len(values) or values.shape[1] < 8:
        raise ValueError(
            f"expected values as [point, seed] with {len(x)} points and at least 8 seeds; got {list(values.shape)}. "
            "Train more seeds: they are a batch axis and cost little."
        )
    mean = interquartile_mean(values, axis=1)
    low, high = bootstrap_band(values, axis=1, resamples=resamples)
    axes.fill_between(x, low, high, color=line["color"], alpha=0.10 if faint else 0.20, linewidth=0)
    if not faint:
        axes.plot(x, mean, **line)
    return mean


def label_lines(
    axes: Axes, ends: Sequence[tuple[float, str, str]], *, x: float = 1.015, size: float = 9.5, gap: float = 0.075
) -> None:
    """Write each line's name beside its right end, pushed apart where they would overlap.

    ``ends`` holds (y in data coordinates, text, colour), ``gap`` is the height of a line of text as a fraction of the
    axes. Call it when the axes' limits are final.
    Raises: ValueError for an end that is not finite.
    """
    if not all(np.isfinite(y) for y, _, _ in ends):
        raise ValueError(
            f"expected ends at finite heights; got {[y for y, _, _ in ends]}. Leave out lines without an end."
        )
    to_axes = axes.transData + axes.transAxes.inverted()
    heights = [float(np.clip(to_axes.transform((axes.get_xlim()[1], y))[1], 0.02, 0.98)) for y, _, _ in ends]
    order = np.argsort(heights, kind="stable")
    sizes = gap * np.array([ends[i][1].count("\n") + 1 for i in order])
    places = _apart(np.array([heights[i] for i in order]), sizes)
    for place, index in zip(places, order, strict=True):
        _, text, color = ends[index]
        axes.text(x, place, text, color=color, transform=axes.transAxes, va="center", ha="left", fontsize=size)


def _apart(places: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Sorted places moved as little as can be, in squares, so that labels of these sizes do not overlap.

    They stay between 0.02 and 0.98, spread evenly where there are too many for that.
    """
    if len(places) < 2:
        return places
    needed = (sizes[1:] + sizes[:-1]) / 2
    offsets = np.concatenate([[0.0], np.cumsum(needed * min(1.0, 0.96 / needed.sum()))])
    blocks: list[list[float]] = []  # mean and length: without the offsets all that is asked for is an order
    for target in places - offsets:
        blocks.append([target, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (a, n), (b, m) = blocks[-2:]
            blocks[-2:] = [[(a * n + b * m) / (n + m), n + m]]
    means = np.repeat([mean for mean, _ in blocks], [int(n) for _, n in blocks])
    return np.clip(means, 0.02, 0.98 - offsets[-1]) + offsets


def limit_line(axes: Axes, y: float, text: str, *, at: float | None = None) -> None:
    """A thin red line with its meaning in words: a bound, a target.

    The words stand on the line, ``at`` the given share of the width, or beside the axis as a tick of their own.
    """
    axes.axhline(y, color=LIMIT, linewidth=1.1, zorder=1.5)
    place = {"x": -0.02, "va": "center", "ha": "right"} if at is None else {"x": at, "va": "bottom", "ha": "left"}
    note = axes.text(y=y, s=text, color=LIMIT, fontsize=9, transform=axes.get_yaxis_transform(), **place)
    note.set_path_effects([patheffects.withStroke(linewidth=2.5, foreground=CARD)])


def png(figure: Figure) -> bytes:
    """The figure as a PNG, the same for the same figure and matplotlib, in 64 colours: a quarter of the size."""
    drawn, small = io.BytesIO(), io.BytesIO()
    with style():
        figure.savefig(drawn, format="png", dpi=DPI)
    picture = Image.open(drawn).convert("RGB")
    picture.quantize(64, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return small.getvalue()


def bundle(figure: Figure, alt: str) -> tuple[dict, dict]:
    """A notebook output, data and metadata, of the figure with its alternative text.

    Raises: ValueError for an alt text that could not describe a figure.
    """
    if not isinstance(alt, str) or len(alt) < 30:
        raise ValueError(
            f"expected alt as a description of the figure in at least 30 characters; got {alt!r}. "
            "Say what is drawn and what there is to see, for a reader who cannot look at it."
        )
    data = {"image/png": base64.b64encode(png(figure)).decode(), "text/plain": alt}
    return data, {"image/png": {"alt": alt}}


def show(figure: Figure, *, alt: str) -> None:
    """Show a figure in a notebook, with its alternative text stored in the output."""
    from IPython.display import display

    data, metadata = bundle(figure, alt)
    display(data, metadata=metadata, raw=True)
