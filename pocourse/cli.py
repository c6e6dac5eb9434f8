"""The command line: ``pocourse lab | run | claims | grade | status``."""

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

CHAPTERS = {"02": "ratio_clipping", "03": "surrogate_variance", "04": "zeroth_order", "05": "diffusion_dpo"}
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
    # What only the recording runs (grids of step sizes) comes first, since the comparisons may read it.
    slow = list(getattr(training, "RECORDED_ONLY", ()))
    if only is not None and only not in (known := [*training.COMPARISONS, *slow]):
        _refuse(f"expected a comparison among {', '.join(known)}; got {only}. Or leave --only away.")
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
        for comparison in [only] if only else [*(slow if record else ()), *training.COMPARISONS]:
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


@app.command()
def grade(
    exercise: Annotated[
        str | None, typer.Argument(help="an exercise, such as ratio_clipping.ppo_clip; without one, all are listed")
    ] = None,
    answer: Annotated[str | None, typer.Argument(help="a Python file that defines the function of the stub")] = None,
    hint: Annotated[bool, typer.Option("--hint", help="print the next hint")] = False,
    solution: Annotated[bool, typer.Option("--solution", help="print a right answer")] = False,
    matrix: Annotated[
        str | None, typer.Option(metavar="CHAPTER", help="which property kills which wrong answer, for a whole chapter")
    ] = None,
) -> None:
    """Grade an answer to an exercise; without an answer, show what is asked.

    The exit status is 0 for a right answer, and for a complete matrix; 1 otherwise.
    """
    _import_rooms("exercises", "museum")
    from pocourse.lesson import exercises, grader

    if matrix is not None:
        if exercise or answer or hint or solution:
            _refuse("expected --matrix with a chapter and nothing else. Leave the rest away.")
        raise typer.Exit(_print_matrix(matrix))
    if exercise is None:
        for id, found in exercises.registry().items():
            print(f"{id}: {found.title} (difficulty {found.difficulty} of 5, about {found.minutes} min)")
        print("\n`pocourse grade ID` shows one of them, `pocourse grade ID FILE` grades your answer.")
        return
    try:
        found = exercises.find(exercise)
    except ValueError:
        _refuse(f"expected an exercise among {', '.join(exercises.registry())}; got {exercise}.")
    if (answer is not None) + hint + solution > 1:
        _refuse("expected one of: a file, --hint, --solution; got more. Leave the others away.")
    if hint:
        grader.hint(exercise)
    elif solution:
        grader.solution(exercise)
    elif answer is None:
        grader.card(exercise)
        print(f"\n{found.stub}\n\nWrite it into a file, and: pocourse grade {exercise} FILE")
    else:
        raise typer.Exit(0 if grader.grade_file(exercise, answer) else 1)


def _print_matrix(chapter: str) -> int:
    from pocourse.lesson import exercises

    mine = [id for id, found in exercises.registry().items() if found.chapter == chapter]
    if not mine:
        known = ", ".join(dict.fromkeys(found.chapter for found in exercises.registry().values()))
        _refuse(f"expected a chapter with exercises among {known}; got {chapter}.")
    found = [exercises.matrix(id) for id in mine]
    print("x: this property kills the wrong answer; right answers stand below, and no property may kill them.\n")
    print("\n\n".join(str(one) for one in found))
    wrong, right = sum(len(one.kills) for one in found), sum(len(one.accepted) for one in found)
    survivors, refused = sum(len(one.survivors) for one in found), sum(len(one.refused) for one in found)
    print(
        f"\n{chapter}: {len(found)} exercises, {wrong - survivors} of {wrong} wrong answers killed, "
        f"{right - refused} of {right} right answers pass."
    )
    return 0 if all(one.complete for one in found) else 1


def _import_rooms(*rooms: str) -> None:
    """Import these rooms of every chapter that has them, for what they register."""
    for name in CHAPTERS.values():
        for room in rooms:
            if importlib.util.find_spec(f"pocourse.{name}.{room}"):
                importlib.import_module(f"pocourse.{name}.{room}")


@app.command()
def status(
    reset: Annotated[bool, typer.Option("--reset", help="delete what is recorded, after asking")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="with --reset: do not ask")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print what is recorded, and where, as JSON")] = False,
) -> None:
    """Show which exercises, questions and predictions you have done, and which are open."""
    from pocourse.lesson import progress

    if reset and as_json:
        _refuse("expected --reset or --json; got both. Leave one of them away.")
    if yes and not reset:
        _refuse("expected --yes together with --reset; got it alone. Leave it away.")
    state, trouble = progress.look()
    if trouble:
        typer.echo(trouble, err=True)
    if reset:
        held = None if trouble else ", ".join(f"{section} {len(entries)}" for section, entries in state.items())
        _reset(held, ask=not yes)
        return
    if trouble:  # an empty list would not be the truth
        raise typer.Exit(1)
    if as_json:
        print(json.dumps({"file": str(progress.file()), **state}, indent=1))
        return
    from pocourse.lesson.status import summary

    for line in summary(*_offered(), state):
        print(line)
    print(f"\nProgress is kept in {progress.file()}")


def _reset(held: str | None, *, ask: bool) -> None:
    """Delete the file of progress, which is known to hold ``held``."""
    from pocourse.lesson import progress

    path = progress.file()
    named = f"{path} ({held})" if held else f"{path}"
    if not os.path.lexists(path):
        print(f"Nothing to clear: there is no {path}")
        return
    if ask and not typer.confirm(f"Delete {named}? This cannot be undone."):
        print(f"Kept {path}")
        raise typer.Exit(1)
    try:
        progress.reset()
    except OSError as error:
        _refuse(f"expected to delete {path}; got: {error}. Close what uses it, or delete it by hand.")
    print(f"Deleted {named}")


def _offered() -> list[dict[str, list[tuple[str, str]]]]:
    """The exercises, questions and predictions of all chapters: for each of the three, (id, title) by chapter."""
    _import_rooms("exercises", "museum", "quiz")
    from pocourse.lesson import exercises, questions

    titles = [
        {id: found.title for id, found in exercises.registry().items()},
        {id: found.text for id, found in questions.registry().items()},
        {id: found.text for id, found in questions.predictions().items()},
    ]
    return [_by_chapter(found) for found in titles]


def _by_chapter(titles: dict[str, str]) -> dict[str, list[tuple[str, str]]]:
    headings = {name: f"{number} {name}" for number, name in CHAPTERS.items()}
    found: dict[str, list[tuple[str, str]]] = {heading: [] for heading in headings.values()}
    for id, title in titles.items():
        name = id.split(".")[0]
        found.setdefault(headings.get(name, name), []).append((id, title))
    return found


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
