"""The command line: ``pocourse lab | run | claims``."""

import contextlib
import importlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
from enum import StrEnum
from typing import Annotated, NoReturn

import typer

from pocourse.lesson import paths, profiles

app = typer.Typer(no_args_is_help=True, add_completion=False, help="A course on policy optimization that runs.")

CHAPTERS = {"02": "ratio_clipping"}
FIRST_NOTEBOOK = "02_ratio_clipping.ipynb"


class Profile(StrEnum):
    """The sizes a training can have."""

    auto = "auto"
    ci = "ci"
    cpu = "cpu"
    gpu = "gpu"


@app.command()
def lab(notebook: Annotated[str, typer.Argument(help="a notebook's file name")] = FIRST_NOTEBOOK) -> None:
    """Open JupyterLab on a notebook of the course."""
    root = paths.checkout()
    path = root / "notebooks" / notebook if root else None
    if path is None or not path.is_file():
        known = ", ".join(sorted(p.name for p in (root / "notebooks").glob("*.ipynb"))) if root else "none"
        _refuse(
            f"expected a notebook in the course's checkout; found no {notebook}. Known: {known}. "
            "Notebooks come with the repository: clone it and run `make lab` there."
        )
    if importlib.util.find_spec("jupyterlab") is None:
        _refuse("expected JupyterLab; it is not installed. Run `pip install 'pocourse[lab]'`.")
    # JupyterLab refuses to start for root, who is the only user in many containers.
    as_root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    # The course needs no network: JupyterLab is to fetch no news and to look for no updates.
    quiet = ["--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    raise typer.Exit(subprocess.call([sys.executable, "-m", "jupyterlab", *quiet, *as_root, str(path)]))


@app.command()
def run(
    chapter: Annotated[str, typer.Argument(help="the chapter's number, such as 02")],
    profile: Annotated[Profile, typer.Option(help="the size of the training")] = Profile.auto,
    only: Annotated[str | None, typer.Option(help="one comparison, such as shallow")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the records as JSON")] = False,
    record: Annotated[
        bool, typer.Option("--record", help="write into the course's data/runs, not your own folder")
    ] = False,
) -> None:
    """Run a chapter's training cell without a notebook and print its record.

    Interrupt it with Ctrl-C, or end it with SIGTERM: what was finished is saved and printed.
    """
    name = CHAPTERS.get(chapter.zfill(2))
    if name is None:
        _refuse(f"expected a chapter among {', '.join(CHAPTERS)}; got {chapter}. The others are not written yet.")
    training = importlib.import_module(f"pocourse.{name}.training")
    if only is not None and only not in training.COMPARISONS:
        _refuse(f"expected a comparison among {', '.join(training.COMPARISONS)}; got {only}. Or leave --only away.")
    if record and paths.checkout() is None:
        _refuse("expected a checkout of the course for --record; this is an installed package. Leave --record away.")
    try:
        size = profiles.profile(profile.value)
        profiles.device(size)
    except ValueError as error:
        _refuse(str(error))
    folder = paths.recorded_runs(name) if record else paths.reader_runs(name)
    made_by = f"pocourse run {chapter.zfill(2)} --profile {size}" + (" --record" if record else "")
    finished = []
    with _termination_interrupts():
        for comparison in [only] if only else training.COMPARISONS:
            finished.append(training.train(comparison, profile=size, folder=folder, made_by=made_by))
            if finished[-1].status != "finished":
                break
    if as_json:
        print(json.dumps({"chapter": name, "records": [done.to_json() for done in finished]}, indent=1))
    else:
        for done in finished:
            print(f"{done.name}, {done.status}\n\n{training.table(done)}" if done.updates else f"{done.name}: nothing")
        if any(done.updates for done in finished):
            print(f"Saved in {folder}")
    if finished[-1].status != "finished":
        raise typer.Exit(130)


@app.command()
def claims(
    chapter: Annotated[str | None, typer.Argument(help="one chapter, such as ratio_clipping")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print everything as JSON")] = False,
) -> None:
    """Check every numbered equation and refute its wrong twins."""
    from pocourse.lesson import claims as registry

    wanted = [chapter] if chapter else list(CHAPTERS.values())
    if not set(wanted) <= set(CHAPTERS.values()):
        _refuse(f"expected a chapter among {', '.join(CHAPTERS.values())}; got {chapter}.")
    for name in wanted:
        importlib.import_module(f"pocourse.{name}.claims")
    verdicts = [found.verdict() for found in registry.registry().values() if found.chapter in wanted]
    good = [v["holds"] and bool(v["twins_refuted"]) and all(v["twins_refuted"].values()) for v in verdicts]
    if as_json:
        print(json.dumps(verdicts, indent=1))
    else:
        for verdict, is_good in zip(verdicts, good, strict=True):
            mark = "ok  " if is_good else "FAIL"
            twins = sum(verdict["twins_refuted"].values())
            print(
                f"{mark} ({verdict['equation']}) {verdict['id']}: {verdict['kind']}, {verdict['draws']} draws, "
                f"error {verdict['error']:.2g}; {twins} of {len(verdict['twins_refuted'])} twins refuted"
            )
    raise typer.Exit(0 if all(good) else 1)


@contextlib.contextmanager
def _termination_interrupts():
    """SIGTERM, as from ``kill`` or a batch system's end of time, ends a run as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _refuse(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(2)


def main() -> None:
    """Entry point of the ``pocourse`` command."""
    app()


if __name__ == "__main__":
    main()
