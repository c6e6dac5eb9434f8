"""The bench of chapter 2: the reader's own objective, drawn, differentiated and run beside PPO and SPO."""

import html
import math
import textwrap
from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

import ipywidgets
import numpy as np
import torch
from matplotlib import patheffects
from matplotlib.figure import Figure
from torch import Tensor

from pocourse.lesson import bench, cards, profiles, trial
from pocourse.lesson.bands import bootstrap_band, interquartile_mean
from pocourse.lesson.figures import FAINT, INK, WIDTH, band, bundle, label_lines, limit_line, style
from pocourse.lesson.trial import Answer, Broken, Trouble
from pocourse.ratio_clipping.figures import EPS, LINE_OF, SoftmaxBatch, softmax_batch, softmax_table
from pocourse.ratio_clipping.objectives import clip_objective, ppo_clip_loss, spo_loss, spo_objective

PRESETS = {
    "PPO": "torch.minimum(r * A, r.clamp(1 - eps, 1 + eps) * A)",
    "SPO": "r * A - A.abs() / (2 * eps) * (r - 1) ** 2",
    "PPO-RB": "torch.minimum(r * A, (1.3 * r.clamp(1 - eps, 1 + eps) - 0.3 * r) * A)",
}
OWN, YOURS = "your own", "yours"
STEPS, SEEDS, DEPTH = 300, 8, 1
CURVES_S, RUN_S = 5.0, 20.0
LINES = {
    YOURS: {"color": INK, "linestyle": "-", "linewidth": 3.4, "alpha": 0.8},
    "PPO": {**LINE_OF["PPO"], "linewidth": 1.8},
    "SPO": {**LINE_OF["SPO"], "linewidth": 1.8},
}
_RATIO = torch.cat([torch.linspace(0.4, 1, 121), torch.linspace(1, 1.6, 121)[1:]])  # holds 1 itself
_REFERENCES = {
    "PPO": (partial(clip_objective, clip_eps=EPS), partial(ppo_clip_loss, clip_eps=EPS)),
    "SPO": (partial(spo_objective, eps=EPS), partial(spo_loss, eps=EPS)),
}


class Curves(NamedTuple):
    """An objective and its derivative at ``ratio`` [point], each [sign, point]: first for A = 1, then for A = -1."""

    ratio: np.ndarray
    value: np.ndarray
    slope: np.ndarray


class Outcome(NamedTuple):
    """What an objective does: its curves, and 300 steps on the contextual batch with one hidden layer."""

    text: str
    curves: Curves
    run: SoftmaxBatch


# ---------------------------------------------------------------- what is computed


def objective(text: str, own: Callable | None = None) -> Answer:
    """The reader's objective out of one line in ``r``, ``A`` and ``eps``, on trial: maximised, one value per sample.

    ``own`` is a function of the reader's, known in the line by its name.
    Raises: Trouble for a line that is no expression.
    """
    scope: dict[str, object] = {"eps": EPS, "torch": torch, "math": math}
    if own is not None:  # on trial as well, for errors to quote its line
        scope = {name_of(own): Answer(own, ("ratio", "advantage")), **scope}
    return Answer(bench.expression(text, ("r", "A"), scope), ("r", "A"), trial.tensor_like(0))


def name_of(own: Callable) -> str:
    """The name under which the line knows a function."""
    name = getattr(own, "__name__", "")
    taken = {"r", "A", "eps", "torch", "math"}
    return name if name.isidentifier() and name not in taken else "mine"


def curves(f: Callable[[Tensor, Tensor], Tensor]) -> Curves:
    """Value and derivative of an objective against the ratio, the latter by autograd.

    Raises: Broken where no gradient flows, or where either is not finite.
    """
    values, slopes = [], []
    for sign in (1.0, -1.0):
        r = _RATIO.clone().requires_grad_()
        value = f(r, torch.full_like(_RATIO, sign))
        slope = trial.derivative(value, r, "r")
        for name, found in (("value", value), ("derivative", slope)):
            bad = ~found.isfinite()
            if bad.any():
                at = bad.int().argmax()
                raise Broken(
                    f"the {name} of your objective is {_number(found[at])} at r = {_RATIO[at]:.3g} for A = {sign:+g}. "
                    "Look for a division by zero, a logarithm or a root of something that is not positive."
                )
        values.append(value.detach().numpy())
        slopes.append(slope.numpy())
    return Curves(_RATIO.numpy(), np.stack(values), np.stack(slopes))


def _number(x: Tensor) -> str:
    return "not a number (NaN)" if x.isnan() else "infinite"


def run(losses: dict[str, Callable], *, num_epochs: int = STEPS) -> SoftmaxBatch:
    """Section 7's run for any losses: the contextual batch, one hidden layer, 8 seeds; the first and the last ratios.

    Raises: Broken where a ratio is no longer finite.
    """
    with profiles.threads(1):  # the matrices are small
        found = softmax_batch(DEPTH, methods=losses, num_seeds=SEEDS, num_epochs=num_epochs, kept=2)
    lost = ~np.isfinite(found.deviation).all((1, 2))
    if lost.any():
        epoch = int(lost.argmax())
        ratio = _number(torch.tensor(float(found.deviation[epoch].sum())))
        raise Broken(
            f"after {epoch} step{'s' * (epoch != 1)} of the run a ratio was {ratio}. The curves are fine, so look at "
            "what happens further out: ratios near 0, or far above 2."
        )
    return found


def _as_loss(f: Callable[[Tensor, Tensor], Tensor]) -> Callable:
    """An objective, which is maximised, as the loss that the training loop minimises."""

    def loss(logp: Tensor, logp_old: Tensor, advantage: Tensor) -> Tensor:
        value = f((logp - logp_old).exp(), advantage)
        if not value.requires_grad:
            raise Broken("no gradient flows back to `r` on the batch of the run, where r has two axes: [seed, sample].")
        return -value

    return loss


@lru_cache(maxsize=1)
def references() -> dict[str, Outcome]:
    """PPO and SPO, computed once."""
    ran = run({name: loss for name, (_, loss) in _REFERENCES.items()})
    return {name: Outcome(PRESETS[name], curves(f), _only(ran, name)) for name, (f, _) in _REFERENCES.items()}


def _only(ran: SoftmaxBatch, name: str) -> SoftmaxBatch:
    index = ran.methods.index(name)
    ratio, deviation, kl = (x[:, index : index + 1] for x in (ran.ratio, ran.deviation, ran.kl))
    return SoftmaxBatch(ran.epochs, ratio, deviation, kl, ran.advantage, (name,))


def measure(text: str, own: Callable | None = None) -> Outcome:
    """What the reader's objective does. Raises: Trouble or Broken, with a sentence on what is wrong with it."""
    if own is not None and name_of(own) in text and trial.untouched(own):
        raise Trouble(
            f"`{name_of(own)}` is not written yet: its body is still `...`. Write it, and run this cell again."
        )
    f = objective(text, own)
    drawn = trial.within(CURVES_S, lambda: curves(f))
    return Outcome(text, drawn, trial.within(RUN_S, lambda: run({YOURS: _as_loss(f)}), usual="some seconds"))


def table(outcomes: dict[str, Outcome]) -> dict[str, dict[str, np.ndarray]]:
    """After the last step, per objective: the statistics of section 7's table, each [seed]."""
    return {name: softmax_table({DEPTH: found.run})[DEPTH, found.run.methods[0]] for name, found in outcomes.items()}


# ---------------------------------------------------------------- what is shown


def beside(yours: Outcome | None) -> dict[str, Outcome]:
    """The reader's objective, if there is one that works, and what it is compared with."""
    return ({} if yours is None else {YOURS: yours}) | references()


def draw(yours: Outcome | None):
    """Objective and derivative against the ratio for both signs of A, and the run beside them: (figure, alt)."""
    found = beside(yours)
    with style():
        figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
        axes = figure.subplot_mosaic([["f+", "f-", "run"], ["d+", "d-", "run"]], width_ratios=(1, 1, 1.25))
        for column, sign in enumerate("+-"):
            for row, panel in enumerate((axes["f" + sign], axes["d" + sign])):
                panel.axvspan(1 - EPS, 1 + EPS, color="#000000", alpha=0.04, linewidth=0)
                panel.axvline(1, color=FAINT, linewidth=0.8)
                panel.set_xlim(0.4, 1.6)
                panel.set_ylim(*(((-0.4, 1.9), (-1.9, 0.4))[column] if row == 0 else (-2.6, 2.6)))
                for name, outcome in found.items():
                    curve = (outcome.curves.value, outcome.curves.slope)[row][column]
                    panel.plot(outcome.curves.ratio, curve, **LINES[name])
                    _note_far(panel, name, curve, above=row == 1 or sign == "-")
            axes["f" + sign].set_title(f"A = {'+1' if sign == '+' else '−1'}")
            axes["f" + sign].tick_params(labelbottom=False)
            axes["d" + sign].axhline(0, color=INK, linewidth=0.8, zorder=1)
            axes["d" + sign].set_xlabel("ratio r")
        axes["f+"].set_ylabel("objective f(r)")
        axes["d+"].set_ylabel("derivative df/dr")
        _draw_run(axes["run"], found)
        if yours is not None:
            written = textwrap.shorten(yours.text, 190, placeholder=" ...")
            title = "\n".join(textwrap.wrap("yours: " + written, 95, subsequent_indent="       "))
            figure.suptitle(title, family="DejaVu Sans Mono", fontsize=9, x=0.01, ha="left", parse_math=False)
    return figure, _alt(yours)


def _draw_run(panel, found: dict[str, Outcome]) -> None:
    top, ends = 0.5, []
    panel.set_title("300 steps on one batch")
    panel.set_xlim(0, STEPS)
    panel.set_ylim(0, top)
    for name, outcome in found.items():
        deviation = outcome.run.deviation[:, 0]
        mean = band(panel, np.arange(len(deviation)), deviation, line=LINES[name], resamples=300)
        if mean[-1] < top:
            ends.append((float(mean[-1]), name, LINES[name]["color"]))
        else:
            _note(panel, name, f"to {mean[-1]:.3g}")
    panel.set_xlabel("step")
    panel.set_ylabel("mean of |r − 1|")
    limit_line(panel, EPS, f"ε = {EPS:g}", at=0.72)
    label_lines(panel, ends, gap=0.045)


def _note_far(panel, name: str, curve: np.ndarray, *, above: bool) -> None:
    """Say in words where a curve is that lies off the scale for most of its length, where PPO and SPO leave room."""
    low, high = panel.get_ylim()
    if ((curve < low) | (curve > high)).mean() > 0.5:
        least, most = (f"{x:z.3g}".replace("-", "−") for x in (curve.min(), curve.max()))
        _note(panel, name, most if least == most else f"{least} to {most}", above=above)


def _note(panel, name: str, where: str, *, above: bool = False) -> None:
    said = panel.text(
        0.97,
        0.97 if above else 0.03,
        f"{name}: {where},\noff the scale",
        color=LINES[name]["color"],
        fontsize=9,
        ha="right",
        va="top" if above else "bottom",
        transform=panel.transAxes,
    )
    said.set_path_effects([patheffects.withStroke(linewidth=2.5, foreground=cards.PAPER)])


def _alt(yours: Outcome | None) -> str:
    found = beside(yours)
    first = (
        "Only PPO and SPO: your objective could not be computed. "
        if yours is None
        else f"Your objective {textwrap.shorten(yours.text, 190, placeholder=' ...')} beside PPO and SPO. "
    )
    slopes = ", ".join(
        f"{name} {_slope(outcome, 1.5, 0):+.2f} and {_slope(outcome, 0.5, 1):+.2f}" for name, outcome in found.items()
    )
    return (
        first
        + "Objective and derivative against the ratio for A = +1 and A = -1; the derivative at r = 1.5 for A = +1 "
        f"and at r = 0.5 for A = -1 is: {slopes}. Beside them the mean of |r-1| over {STEPS} steps on one batch, "
        f"bands over {SEEDS} seeds; at the end: {_ends(found)}."
    )


def _slope(outcome: Outcome, ratio: float, sign: int) -> float:
    return float(outcome.curves.slope[sign, np.abs(outcome.curves.ratio - ratio).argmin()])


def _ends(found: dict[str, Outcome]) -> str:
    return ", ".join(f"{name} {interquartile_mean(o.run.deviation[-1, 0]):.3f}" for name, o in found.items())


def readout(yours: Outcome | None) -> str:
    """The numbers of the run as an HTML table: interquartile mean over the seeds, with its 95% band."""
    heads = ("objective", "mean |r − 1|", "largest ratio", "share with |r − 1| > 1.05 ε", "gain E[rA] − E[A]")
    # Colours stand in every cell: the page around paints rows, and in the dark it paints them dark.
    colours = f"background:{cards.PAPER};color:{cards.INK};border:0"
    left, right = (f'style="{colours};text-align:{side};padding:2px 12px 2px 0"' for side in ("left", "right"))
    rows = []
    for name, row in table(beside(yours)).items():
        cells = [f'<th scope="row" {left}>{name}</th>']
        for key in ("deviation", "largest", "outside", "gain"):
            mean, (low, high) = interquartile_mean(row[key]), bootstrap_band(row[key])
            mid, least, most = (_digits(key, x) for x in (mean, low, high))
            band_of = f'<span style="color:#5b6068;white-space:nowrap">({least} to {most})</span>'
            cells.append(f'<td {right} data-bench-{key}="{mean:.6g}">{mid} {band_of}</td>')
        rows.append(f'<tr style="{colours}" data-bench-row="{name}">{"".join(cells)}</tr>')
    head = "".join(f'<th scope="col" {left if k == 0 else right}>{text}</th>' for k, text in enumerate(heads))
    # On a narrow page the table scrolls, with the keyboard as well.
    return (
        '<div role="region" aria-label="Numbers of the run" tabindex="0" style="overflow-x:auto">'
        f'<table style="border-collapse:collapse;font-size:13px;margin:4px 0;{colours}">'
        f'<thead><tr style="{colours}">{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def _digits(key: str, value: float) -> str:
    """A number of the table with as many digits as all of its column; a huge one with fewer."""
    form = {"outside": "z.0%", "largest": "z.2f"}.get(key, "z.3f")
    return f"{value:{form if abs(value) < 1000 else '.3g'}}".replace("-", "−")


def _plain(yours: Outcome | None) -> str:
    lines = [
        f"{name}: mean |r - 1| {interquartile_mean(row['deviation']):.3g}" for name, row in table(beside(yours)).items()
    ]
    return f"After {STEPS} steps on the contextual batch, {SEEDS} seeds\n" + "\n".join(lines)


# ---------------------------------------------------------------- the live cell


def live(own: Callable | str | None = None) -> None:
    """Show the bench: a line of code to edit, its curves and its run beside PPO's and SPO's.

    ``own`` is what to begin with: a line in ``r``, ``A`` and ``eps``, or a function of (ratio, advantage). PPO-RB
    where nothing is given. In a shell the numbers are printed.
    Raises: ValueError for anything else.
    """
    if own is not None and not isinstance(own, str):
        problem = trial.unsuitable(own, ("ratio", "advantage"), ())
        if problem:
            raise ValueError(problem.replace("`grade(id, f)`", "`bench.live(f)`"))
    function = None if own is None or isinstance(own, str) else own
    text = own if isinstance(own, str) else PRESETS["PPO-RB"] if own is None else f"{name_of(own)}(r, A)"
    Cell(text, function).show()


class Cell:
    """The live cell: fields, messages, numbers, and a picture that is an output of its own, so that it is saved."""

    def __init__(self, text: str, own: Callable | None = None):
        self.own, self.outcome, self._picture = own, None, None
        self._mine = text  # the line of "your own", while a preset is looked at
        preset = next((name for name, line in PRESETS.items() if line == text), OWN)
        self.choice = ipywidgets.Dropdown(
            options=[*PRESETS, OWN], value=preset, description="Begin with", style={"description_width": "initial"}
        )
        self.field = ipywidgets.Text(
            value=text,
            description="f(r, A) =",
            continuous_update=False,
            layout={"width": "100%"},
            style={"description_width": "initial"},
        )
        self.field.tooltip = "Your objective, one line of Python in r, A and eps; it is maximised"
        self.field.add_class("pocourse-code")
        self.button = ipywidgets.Button(description="Compute", tooltip="Compute the objective in the field")
        self.readout = ipywidgets.HTML("")
        self.bench = bench.Bench(
            self._compute,
            self._show,
            busy=lambda wanted: f"Computing: {STEPS} steps, {SEEDS} seeds ...",
            still=lambda: (
                "The picture and the table still show "
                + (f"`{self.outcome.text}`." if self.outcome else "PPO and SPO alone.")
            ),
        )
        self._filling = False
        self.choice.observe(self._chosen, "value")
        self.field.observe(self._written, "value")
        self.button.on_click(lambda _: self.bench.ask(self.field.value))
        self.form = bench.form(
            [
                ipywidgets.HTML(_HEAD),
                self.choice,
                self.field,
                bench.bar([self.button, self.bench.status]),
                self.bench.message,
                self.readout,
            ]
        )

    def show(self) -> None:
        """Compute what stands in the field, and show everything."""
        self.bench.now(self.field.value)
        drawn, alt = draw(self.outcome)
        self.readout.value = readout(self.outcome)
        cards.put(f"{_NEEDS}\n\n{_plain(self.outcome)}", self.stand_in(), self.form)
        if cards.in_kernel():
            from IPython.display import display

            data, metadata = bundle(drawn, alt)
            self._picture = display(data, metadata=metadata, raw=True, display_id=True)

    def stand_in(self) -> str:
        """What stands in the form's place on a page without a kernel."""
        body = cards.to_html(f"{_ABOUT}\n\n{_NEEDS} Below stands the last picture it drew.")
        return cards.card("Your own objective", body, kicker=_KICKER)

    def _chosen(self, change) -> None:
        if self._filling:
            return
        if change["old"] == OWN:
            self._mine = self.field.value
        self._fill(self.field, PRESETS.get(change["new"], self._mine))
        self.bench.ask(self.field.value)

    def _written(self, change) -> None:
        if self._filling:
            return
        self._mine = change["new"]
        self._fill(self.choice, next((name for name, line in PRESETS.items() if line == change["new"]), OWN))
        self.bench.ask(change["new"])

    def _fill(self, widget, value) -> None:
        self._filling = True
        try:
            widget.value = value
        finally:
            self._filling = False

    def _compute(self, text: str) -> Outcome:
        references()
        return measure(text, self.own)

    def _show(self, outcome: Outcome) -> str:
        self.outcome = outcome
        if self._picture is not None:
            data, metadata = bundle(*draw(outcome))
            self._picture.update(data, metadata=metadata, raw=True)
            self.readout.value = readout(outcome)
        return f"After {STEPS} steps the mean |r − 1| is: {_ends(beside(outcome))}."


_KICKER = "Live bench · Python computes on Enter"
_ABOUT = (
    "Write an objective f(r, A) in one line of Python, and press Enter. It is maximised. In the line there are the "
    "ratio `r`, the advantage `A`, `eps` = 0.2, `torch` and `math`. You see the objective and its derivative, and what "
    f"{STEPS} steps on the batch of section 7 make of the ratios, beside PPO and SPO: {SEEDS} seeds, a network with "
    f"{DEPTH} hidden layer."
)
_NEEDS = "This bench computes in Python. It needs a kernel: open the notebook with `make lab` and run this cell."
_HEAD = (
    f'<div style="font-size:0.82em;letter-spacing:0.04em;color:#5b6068">{html.escape(_KICKER)}</div>'
    f'<div style="font-weight:bold;font-size:1.08em">Your own objective</div>{cards.to_html(_ABOUT)}'
)
