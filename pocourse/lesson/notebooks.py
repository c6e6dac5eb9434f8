"""From text to executed notebook; the rules it is judged by stand in ``notebook_rules``.

``notebooks/text/NN_name.md`` (MyST) is the source, ``notebooks/NN_name.ipynb`` the same cells with
their outputs. ``python -m pocourse.lesson.notebooks build`` executes the first into the second;
``... lint`` judges both without running anything. Either takes paths or chapter numbers.
"""

import argparse
import copy
import hashlib
import importlib
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import jupytext
import nbclient
import nbformat
from nbformat import NotebookNode

from pocourse.lesson.notebook_rules import ADDRESS, RULES, WIDGET, Place

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "notebooks"
STAND_INS = {"text/html", "image/png"}


# --- files ---------------------------------------------------------------------------------------


def text_of(path: Path) -> Path:
    """The text a notebook is made from."""
    return path.parent / "text" / (path.stem + ".md")


def shipped(folder: Path = FOLDER) -> list[Path]:
    """Every notebook of a folder, by its .ipynb or by its text alone."""
    names = {path.stem for path in folder.glob("*.ipynb")} | {path.stem for path in (folder / "text").glob("*.md")}
    return [folder / f"{name}.ipynb" for name in sorted(names) if not name.startswith(".")]


def chosen(arguments: Iterable[str], folder: Path = FOLDER) -> list[Path]:
    """The notebooks meant by paths (.ipynb or .md) or chapter numbers; all of them when none is named."""
    found = []
    for argument in arguments:
        if argument.isdigit():
            matches = [path for path in shipped(folder) if path.name.startswith(f"{int(argument):02d}_")]
        elif argument.endswith(".md"):
            path = Path(argument).resolve()
            matches = [path.parent.parent / (path.stem + ".ipynb")]
        else:
            matches = [Path(argument).resolve()]
        matches = [path for path in matches if path.exists() or text_of(path).exists()]
        if not matches:
            raise ValueError(f"expected a notebook; got {argument!r}. Pass a path or one of: {_names(folder)}.")
        found += matches
    return list(dict.fromkeys(found)) if found else shipped(folder)


def _names(folder: Path) -> str:
    return ", ".join(path.stem for path in shipped(folder)) or f"none in {folder.name}/ yet"


def changed(root: Path = ROOT) -> list[Path]:
    """The notebooks of chapters with files that differ from HEAD; all of them where git cannot tell."""
    listings = (
        ["git", "diff", "--name-only", "HEAD", "--"],
        ["git", "ls-files", "--others", "--exclude-standard"],
    )
    names = []
    for command in listings:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True)
        if done.returncode != 0:
            return shipped(root / "notebooks")
        names += done.stdout.splitlines()
    return touched(names, shipped(root / "notebooks"))


def touched(names: Iterable[str], notebooks: Iterable[Path]) -> list[Path]:
    """The notebooks whose own files or whose chapter's folder are among the names."""

    def belongs(name: str, path: Path) -> bool:
        chapter = path.stem.partition("_")[2]
        return Path(name).stem == path.stem or name.startswith((f"pocourse/{chapter}/", "pocourse/lesson/"))

    names = list(names)
    return [path for path in notebooks if any(belongs(name, path) for name in names)]


def read_text(path: Path) -> NotebookNode:
    """Read a MyST text as a notebook without outputs."""
    return reads(path.read_text(encoding="utf-8"))


def reads(text: str) -> NotebookNode:
    """Read MyST text as a notebook without outputs."""
    return jupytext.reads(text, fmt="md:myst")


# --- building ------------------------------------------------------------------------------------


def execute(book: NotebookNode, *, folder: Path = FOLDER, profile: str = "cpu", timeout: int = 1800) -> NotebookNode:
    """Run all cells of a copy of the notebook in a fresh kernel, and return it with its outputs.

    The kernel runs in ``folder``, with the profile in POCOURSE_PROFILE, and with none of the IPython
    settings and earlier runs of whoever starts it. Raises nbclient's CellExecutionError with the failing cell.
    """
    book = copy.deepcopy(book)
    with tempfile.TemporaryDirectory() as fresh:
        environment = {**os.environ, "POCOURSE_PROFILE": profile, "POCOURSE_HOME": fresh, "IPYTHONDIR": fresh}
        environment.pop("MPLBACKEND", None)
        client = nbclient.NotebookClient(
            book, timeout=timeout, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
        )
        client.execute(env=environment)
    return book


def normalise(book: NotebookNode) -> NotebookNode:
    """Take out what differs between two equal runs, and what only a live kernel could use."""
    book = copy.deepcopy(book)
    book.nbformat, book.nbformat_minor = 4, 5
    book.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"file_extension": ".py", "mimetype": "text/x-python", "name": "python"},
        }
    )
    seen: dict[str, int] = {}
    for cell in book.cells:
        cell.source = cell.source.strip("\n")
        cell.metadata = nbformat.from_dict({k: cell.metadata[k] for k in ("tags", "mystnb") if cell.metadata.get(k)})
        # An id that follows from the source stays the same when cells around it come and go.
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        seen[digest] = seen.get(digest, 0) + 1
        cell.id = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
        if cell.cell_type == "code":
            cell.outputs = _settled(cell.outputs)
    return book


def _settled(outputs: list[NotebookNode]) -> list[NotebookNode]:
    settled: list[NotebookNode] = []
    for output in outputs:
        # A widget without its kernel is a dead line of text: the reader meets it when running the cell. Where a page
        # or an image stands in for it, that is what remains.
        if WIDGET in output.get("data", {}):
            if not STAND_INS & set(output.data):
                continue
            del output.data[WIDGET]
            output.get("metadata", {}).pop(WIDGET, None)
        previous = settled[-1] if settled else None
        if output.output_type == "stream" and previous is not None and previous.get("name") == output.name:
            previous.text += output.text
        else:
            settled.append(output)
    for output in settled:
        if output.output_type == "stream":
            # A progress bar rewrites its line: keep what it showed last.
            output.text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in output.text.split("\n"))
            output.text = ADDRESS.sub("", output.text)
        elif "text/plain" in output.get("data", {}):
            output.data["text/plain"] = ADDRESS.sub("", output.data["text/plain"])
        if "metadata" in output:
            output.metadata = nbformat.from_dict({k: v for k, v in output.metadata.items() if "/" in k and v})
    return [output for output in settled if output.output_type != "stream" or output.text.strip()]


def write(book: NotebookNode, path: Path) -> None:
    """Write a notebook in one step: whoever is interrupted before it leaves the old file."""
    nbformat.validate(book)
    # In this folder, for the rename to be one step; without the suffix, for nobody to take it for a notebook.
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", newline="\n", dir=path.parent, prefix=".", suffix=".part", delete=False
    ) as part:
        try:
            part.write(nbformat.writes(book).rstrip("\n") + "\n")
            part.close()
            os.chmod(part.name, 0o644)
            os.replace(part.name, path)
        except BaseException:
            os.unlink(part.name)
            raise


def build(path: Path, *, profile: str = "cpu") -> None:
    """Execute a notebook's text and put the result in the notebook's place, all or nothing."""
    text = text_of(path)
    if not text.exists():
        raise ValueError(
            f"expected the text {text.name} beside {path.name}; there is none. Make it with jupytext --sync."
        )
    write(normalise(execute(read_text(text), folder=path.parent, profile=profile)), path)


def look_at(
    path: Path,
    claims: Mapping[str, object],
    exercises: Mapping[str, object] | None = None,
    asked: Mapping[str, tuple[str, ...]] | None = None,
) -> Place:
    """Read a notebook and its text for judging."""
    if not path.exists():
        raise ValueError(f"expected {path.name} beside its text; there is none. Run make notebooks.")
    return Place(
        book=nbformat.read(path, as_version=4),
        text=read_text(text_of(path)) if text_of(path).exists() else None,
        size=path.stat().st_size,
        chapter=int(path.name.partition("_")[0]),
        claims=claims,
        exercises=exercises,
        asked=asked,
    )


def lint(path: Path, *offered: Mapping) -> list[str]:
    """All rules on one notebook, ``offered`` as to ``look_at``: a list of problems, empty when it keeps them."""
    place = look_at(path, *offered)
    return [f"{path.name}: {name}: {problem}" for name, rule in RULES.items() for problem in rule(place)]


def chapter_claims(path: Path) -> dict[str, object]:
    """The registry after the claims of a notebook's chapter: 02_ratio_clipping means pocourse.ratio_clipping.

    The chapter is found by the notebook's name, at the command line and in tests only: nothing in
    this package imports a chapter from ``lesson``.
    """
    from pocourse.lesson import claims

    importlib.import_module(f"pocourse.{path.stem.partition('_')[2]}.claims")
    return claims.registry()


def chapter_tasks(path: Path) -> tuple[dict[str, object], dict[str, tuple[str, ...]]]:
    """The exercises of a notebook's chapter, and what else its notebook is to show: function -> ids."""
    from pocourse.lesson import exercises, museum, questions

    chapter = path.stem.partition("_")[2]
    for room in ("exercises", "museum", "quiz"):
        if importlib.util.find_spec(f"pocourse.{chapter}.{room}"):
            importlib.import_module(f"pocourse.{chapter}.{room}")

    def mine(registry: Mapping) -> dict:
        return {id: found for id, found in registry.items() if id.partition(".")[0] == chapter}

    predictions = tuple(mine(questions.predictions()))
    kinds = {question.kind for question in mine(questions.registry()).values()}
    asked = {
        "exhibit": tuple(mine(museum.registry())),
        "predict": predictions,
        "compare": predictions,
        "entry_check": (chapter,) if "entry" in kinds else (),
        "chapter_quiz": (chapter,) if "quiz" in kinds else (),
    }
    return mine(exercises.registry()), asked


def main(arguments: list[str] | None = None) -> int:
    """Build or lint from the command line; 1 when something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m pocourse.lesson.notebooks", description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=["build", "lint"])
    parser.add_argument("notebooks", nargs="*", help="paths or chapter numbers; all when none is given")
    parser.add_argument("--changed", action="store_true", help="only chapters with files that differ from HEAD")
    options = parser.parse_args(arguments)
    try:
        paths = changed() if options.changed else chosen(options.notebooks)
        if options.task == "lint":
            problems = [problem for path in paths for problem in lint(path, chapter_claims(path), *chapter_tasks(path))]
            print("\n".join(problems) if problems else f"{len(paths)} notebook(s) keep all rules")
            return 1 if problems else 0
        profile = os.environ.get("POCOURSE_PROFILE", "cpu")
        for path in paths:
            print(f"{path.name}: executing with profile {profile} ...", flush=True)
            build(path, profile=profile)
            print(f"{path.name}: {path.stat().st_size:,} bytes")
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    except nbclient.exceptions.CellExecutionError as error:
        print(f"{error}\nThe notebook on disk is the old one.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
