"""Watching a run: the curves grow while it trains, in a notebook; a progress bar, in a terminal."""

import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from matplotlib.figure import Figure
from tqdm import tqdm

from pocourse.lesson.figures import bundle
from pocourse.lesson.records import RunRecord

SAVE_EVERY_S = 10.0


def follow(
    stream: Iterable[dict],
    record: RunRecord,
    folder: Path,
    *,
    draw: Callable[[RunRecord], tuple[Figure, str]] | None = None,
    quiet: bool = False,
) -> RunRecord:
    """Run ``stream`` to its end into ``record``, save it in ``folder`` now and then, and show how it goes.

    ``draw`` turns the record into (figure, alt text); in a notebook the figure is drawn again as the run goes on,
    seldom enough to cost at most a twentieth of the time. Interrupt the run whenever you like: what was finished
    is saved, drawn and returned, with the status "interrupted". (Where nothing was finished, an earlier record in
    ``folder`` stays as it is.)
    """
    screen = _screen(draw, quiet)
    saved = time.perf_counter()
    try:
        try:
            for metrics in stream:
                record.add(metrics)
                screen.update(record)
                if time.perf_counter() - saved > SAVE_EVERY_S:
                    record.save(folder)
                    saved = time.perf_counter()
            record.end("finished")
        except KeyboardInterrupt:
            record.end("interrupted")
        except BaseException:
            record.end("failed")
            raise
    finally:
        record.save(folder)
        screen.close(record)
    return record


def progress_line(record: RunRecord) -> str:
    """Where a run stands, in one line."""
    aggregate = record.updates * record.steps_per_update * len(record.methods) * len(record.seeds)
    speed = f"{float(f'{aggregate / max(record.wall_time_s, 1e-9):.2g}'):,.0f} a second"
    done = f"update {record.updates} of {record.num_updates}, {aggregate:,} {record.unit}"
    if record.status == "running":
        left = record.wall_time_s / max(record.updates, 1) * (record.num_updates - record.updates)
        return f"{done}, {speed}, about {left:.0f} s left"
    return f"{record.status}: {done} in {record.wall_time_s:.0f} s, {speed}"


class _Notebook:
    """One output for the progress and one for the figure, both updated in place."""

    def __init__(self, draw):
        from IPython.display import display

        self._draw, self._next, self._told = draw, 0.0, 0.0
        self._line = display({"text/html": _bar(0, ""), "text/plain": ""}, raw=True, display_id=True)
        self._figure = None

    def update(self, record):
        now = time.perf_counter()
        if now - self._told > 0.5:
            self._told = now
            self._tell(record)
        if self._draw and now >= self._next and record.updates > 1:
            self._show(record)
            took = time.perf_counter() - now
            self._next = now + max(3.0, 20 * took)

    def close(self, record):
        self._tell(record)
        if self._draw and record.updates:
            self._show(record)

    def _tell(self, record):
        line = progress_line(record)
        html = _bar(record.updates / record.num_updates, line)
        self._line.update({"text/html": html, "text/plain": line}, raw=True)

    def _show(self, record):
        from IPython.display import display

        data, metadata = bundle(*self._draw(record))
        if self._figure is None:
            self._figure = display(data, metadata=metadata, raw=True, display_id=True)
        else:
            self._figure.update(data, metadata=metadata, raw=True)


class _Terminal:
    """A tqdm bar on standard error, so that standard output stays clean for the record."""

    def __init__(self):
        self._bar = None

    def update(self, record):
        if self._bar is None:
            self._bar = tqdm(total=record.num_updates, desc=record.name, unit="update", file=sys.stderr)
        self._bar.update(record.updates - self._bar.n)

    def close(self, record):
        if self._bar is not None:
            self._bar.close()
        print(progress_line(record), file=sys.stderr)


class _Silent:
    def update(self, record): ...

    def close(self, record): ...


def _screen(draw, quiet):
    if quiet:
        return _Silent()
    if "IPython" in sys.modules:
        from IPython import get_ipython

        if getattr(get_ipython(), "kernel", None) is not None:
            return _Notebook(draw)
    return _Terminal()


def _bar(fraction: float, line: str) -> str:
    return (
        f'<label style="font:13px sans-serif"><progress max="1" value="{fraction:.3f}" '
        f'style="width:14em;vertical-align:middle"></progress> {line}</label>'
    )
