"""From text to executed notebook, and the rules that a notebook keeps.

``notebooks/text/NN_name.md`` (MyST) is the source, ``notebooks/NN_name.ipynb`` the same cells with
their outputs. ``python -m pocourse.lesson.notebooks build`` executes the first into the second;
``... lint`` judges both without running anything. Either takes paths or chapter numbers.
"""

import argparse
import ast
import copy
import hashlib
import importlib
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import jupytext
import nbclient
import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "notebooks"

CHECKED = "nbval-check-output"
FURTHER = "further"
JUDGES = {"check", "expect", "grade"}
LINES = 25
BYTES = 1_000_000
ALT = 30
WIDGET = "application/vnd.jupyter.widget-view+json"

_HEADING = re.compile(r"^(#{1,6}) +(.*?)\s*$")
_FENCE = re.compile(r"^ {0,3}(```+|~~~+)")
_MINUTES = re.compile(r" · (\d+) min$")
_CLOCK = re.compile(r"\*\*Clock:\*\* core path (\d+) minutes, everything (\d+) minutes")
_TAG = re.compile(r"\\tag\{([^}]*)\}")
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]{4,}")
_IMAGE = re.compile(r"!\[([^\]]*)\]\([^)]*\)|<img\b[^>]*>", re.IGNORECASE)
_ABSOLUTE = re.compile(
    r"(?<![\w.:/-])(?:/(?:home|root|Users|tmp|var|opt|usr|mnt|srv|work|workspace|private|content)/[\w.@+/-]+"
    r"|[A-Za-z]:\\{1,2}(?:Users|Program)[^\s\"']*|file://[^\s\"']*)"
)


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
        # A widget without its kernel is a dead line of text: the reader meets it when running the cell.
        if WIDGET in output.get("data", {}):
            continue
        previous = settled[-1] if settled else None
        if output.output_type == "stream" and previous is not None and previous.get("name") == output.name:
            previous.text += output.text
        else:
            settled.append(output)
    for output in settled:
        if output.output_type == "stream":
            # A progress bar rewrites its line: keep what it showed last.
            output.text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in output.text.split("\n"))
            output.text = _ADDRESS.sub("", output.text)
        elif "text/plain" in output.get("data", {}):
            output.data["text/plain"] = _ADDRESS.sub("", output.data["text/plain"])
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


# --- rules ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """What a rule may look at: the notebook, its text, its size on disk and the claims of its chapter."""

    book: NotebookNode
    text: NotebookNode | None = None
    size: int = 0
    chapter: int = 0
    claims: Mapping[str, object] | None = None


def tags(cell: NotebookNode) -> set[str]:
    """The tags of a cell."""
    return set(cell.metadata.get("tags", []))


def headings(cell: NotebookNode) -> list[tuple[int, str, int]]:
    """Level, text and line number of every heading in a markdown cell, code fences left out."""
    found, fence = [], None
    if cell.cell_type != "markdown":
        return found
    for number, line in enumerate(cell.source.splitlines()):
        mark = _FENCE.match(line)
        if mark and fence is None:
            fence = mark[1]
        elif mark and mark[1].startswith(fence):
            fence = None
        elif fence is None and (heading := _HEADING.match(line)):
            found.append((len(heading[1]), heading[2], number))
    return found


def calls(cell: NotebookNode) -> list[tuple[str, str | None]]:
    """Every call of a bare name in a code cell, with its first argument where that is a plain string.

    Magics are translated as IPython does it. Raises SyntaxError for a cell that is not Python.
    """
    if cell.cell_type != "code":
        return []
    found = []
    for node in ast.walk(ast.parse(TransformerManager().transform_cell(cell.source))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            first = node.args[0] if node.args else None
            literal = first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None
            found.append((node.func.id, literal))
    return found


def without_further(book: NotebookNode) -> NotebookNode:
    """The core path: a copy of the notebook without the cells tagged ``further``."""
    core = copy.deepcopy(book)
    core.cells = [cell for cell in core.cells if FURTHER not in tags(cell)]
    return core


def _where(index: int, cell: NotebookNode) -> str:
    first = next((line.strip() for line in cell.source.splitlines() if line.strip()), "(empty)")
    return f"cell {index} ({first[:50]})"


def in_sync(place: Place) -> list[str]:
    """The notebook and its text hold the same cells: type, source and tags."""
    if place.text is None:
        return ["there is no text: notebooks/text/ holds no .md of this name"]
    ours, theirs = place.book.cells, place.text.cells
    problems = []
    for index, (cell, other) in enumerate(zip(ours, theirs, strict=False)):
        for what, one, two in (
            ("type", cell.cell_type, other.cell_type),
            ("source", cell.source.strip(), other.source.strip()),
            ("tags", sorted(tags(cell)), sorted(tags(other))),
        ):
            if one != two:
                problems.append(f"{_where(index, cell)}: {what} differs from the text: run make notebooks")
    if len(ours) != len(theirs):
        problems.append(f"{len(ours)} cells here, {len(theirs)} in the text: run make notebooks")
    return problems


def executed(place: Place) -> list[str]:
    """Every code cell was run, in order, and none failed: nbval is vacuous on cleared outputs."""
    problems, last = [], 0
    for index, cell in enumerate(place.book.cells):
        if cell.cell_type != "code":
            continue
        count = cell.execution_count
        if count is None:
            problems.append(f"{_where(index, cell)}: not executed")
        elif count != last + 1:
            problems.append(f"{_where(index, cell)}: executed as number {count} after {last}: run make notebooks")
        last = count or last
        if any(output.output_type == "error" for output in cell.outputs):
            problems.append(f"{_where(index, cell)}: its output is an error")
    return problems


def small(place: Place) -> list[str]:
    """The file is under 1 MB, and no cell has over 25 lines."""
    problems = [f"{place.size:,} bytes; at most {BYTES:,}"] if place.size >= BYTES else []
    for index, cell in enumerate(place.book.cells):
        lines = len(cell.source.splitlines())
        if lines > LINES:
            problems.append(f"{_where(index, cell)}: {lines} lines; at most {LINES}")
    return problems


def described(place: Place) -> list[str]:
    """Every image says in words what it shows."""
    problems = []
    for index, cell in enumerate(place.book.cells):
        for output in cell.get("outputs", []):
            alt = output.get("metadata", {}).get("image/png", {}).get("alt", "")
            if "image/png" in output.get("data", {}) and len(alt.strip()) < ALT:
                problems.append(
                    f"{_where(index, cell)}: image without alt text of {ALT} characters: lesson.show(fig, alt=...)"
                )
        if cell.cell_type == "markdown":
            for image in _IMAGE.finditer(cell.source):
                alt = image[1] if image[1] is not None else "".join(re.findall(r"""\balt=["']([^"']*)""", image[0]))
                if not alt.strip():
                    problems.append(f"{_where(index, cell)}: {image[0][:40]} has no alt text")
    return problems


def headings_in_order(place: Place) -> list[str]:
    """One first-level heading, at the top; below it no level is skipped, on the core path as well."""
    problems = []
    for book, path in ((place.book, ""), (without_further(place.book), " on the core path")):
        found = [(level, text) for cell in book.cells for level, text, _ in headings(cell)]
        if [level for level, _ in found].count(1) != 1 or found[0][0] != 1:
            problems.append(f"expected one first-level heading{path}, before all others")
        for (above, _), (level, text) in itertools.pairwise(found):
            if level > above + 1:
                problems.append(f"heading {text!r} has level {level} under level {above}{path}")
    return problems


def equations_have_claims(place: Place) -> list[str]:
    """Every numbered equation has one claim, stands there in its TeX, and is checked before the next section begins."""
    problems = []
    cells, mine = place.book.cells, {}
    for id, claim in (place.claims or {}).items():
        if claim.equation.split(".")[0] == str(place.chapter):
            mine.setdefault(claim.equation, []).append(id)
    tagged = [(index, tag) for index, cell in enumerate(cells) if cell.cell_type == "markdown" for tag in _tags(cell)]
    numbers = [tag for _, tag in tagged]
    for number in sorted(set(numbers)):
        if numbers.count(number) > 1:
            problems.append(f"\\tag{{{number}}} stands {numbers.count(number)} times")
    for number, ids in sorted(mine.items()):
        if len(ids) > 1:
            problems.append(f"({number}) has {len(ids)} claims: {', '.join(ids)}")
        if number not in numbers:
            problems.append(f"the claim {ids[0]} is for ({number}), and no \\tag{{{number}}} stands in the notebook")
    for index, number in tagged:
        if number not in mine:
            problems.append(f"{_where(index, cells[index])}: \\tag{{{number}}} has no claim")
            continue
        id = mine[number][0]
        if _bare(f"{place.claims[id].tex}\\tag{{{number}}}") not in _bare(cells[index].source):
            problems.append(f"{_where(index, cells[index])}: ({number}) is not written as in the claim {id}")
        if id not in _checked_in_section(cells, index, number):
            problems.append(f"{_where(index, cells[index])}: no check({id!r}) between it and the next section")
    return problems


def _bare(tex: str) -> str:
    return re.sub(r"\s+", "", tex)


def _tags(cell: NotebookNode) -> list[str]:
    return _TAG.findall(cell.source)


def _checked_in_section(cells: list[NotebookNode], index: int, number: str) -> set[str | None]:
    tag_line = next(n for n, line in enumerate(cells[index].source.splitlines()) if f"\\tag{{{number}}}" in line)
    if any(level <= 2 and line > tag_line for level, _, line in headings(cells[index])):
        return set()
    checked = set()
    for cell in cells[index + 1 :]:
        if any(level <= 2 for level, _, _ in headings(cell)):
            break
        checked |= {literal for name, literal in calls(cell) if name == "check"}
    return checked


def clean(place: Place) -> list[str]:
    """Outputs hold no path of somebody's machine, no state of widgets and no address of an object."""
    problems = ["widget state in the notebook's metadata"] if "widgets" in place.book.metadata else []
    for index, cell in enumerate(place.book.cells):
        for output in cell.get("outputs", []):
            if WIDGET in output.get("data", {}):
                problems.append(f"{_where(index, cell)}: a widget view is stored")
            written = "\n".join(_words(output))
            if path := _ABSOLUTE.search(written):
                problems.append(f"{_where(index, cell)}: its output holds the absolute path {path[0]}")
            if address := _ADDRESS.search(written):
                problems.append(f"{_where(index, cell)}: its output holds the object address{address[0]}")
    return problems


def _words(output: NotebookNode) -> list[str]:
    data = [value for kind, value in output.get("data", {}).items() if not kind.startswith("image/")]
    data = [value if isinstance(value, str) else json.dumps(value) for value in data]
    return [output.get("text", ""), *data, *output.get("traceback", [])]


def clocks_add_up(place: Place) -> list[str]:
    """The minutes at the sections add up to both clocks of the first markdown cell."""
    first = next((cell for cell in place.book.cells if cell.cell_type == "markdown"), None)
    clock = _CLOCK.search(first.source) if first is not None else None
    if clock is None:
        return ["the first markdown cell holds no line **Clock:** core path N minutes, everything M minutes."]
    problems, core, everything = [], 0, 0
    for index, cell in enumerate(place.book.cells):
        for level, text, _ in headings(cell):
            minutes = _MINUTES.search(text)
            if level == 2 and not minutes:
                problems.append(f"{_where(index, cell)}: the heading does not end in ' · N min'")
            if minutes:
                everything += int(minutes[1])
                core += 0 if FURTHER in tags(cell) else int(minutes[1])
    for name, stated, found in (("core path", int(clock[1]), core), ("everything", int(clock[2]), everything)):
        if stated != found:
            problems.append(f"the clock says {name} {stated} minutes; the sections add up to {found}")
    return problems


def further_is_marked(place: Place) -> list[str]:
    """What is off the core path says so to the eye: its cells stand under a heading with the word "further"."""
    problems, inside = [], False
    for index, cell in enumerate(place.book.cells):
        if FURTHER not in tags(cell):
            inside = False
            continue
        titles = [text for _, text, _ in headings(cell)]
        if not inside and not titles:
            problems.append(f"{_where(index, cell)}: tagged further, and no heading of such a section stands above it")
        problems += [
            f"{_where(index, cell)}: tagged further, and the heading does not say so: {text}"
            for text in titles
            if "further" not in text.lower()
        ]
        inside = True
    return problems


def judges_are_tagged(place: Place) -> list[str]:
    """Cells with check, expect or grade are those whose output nbval compares, and no others are."""
    problems = []
    for index, cell in enumerate(place.book.cells):
        if cell.cell_type != "code":
            continue
        judging = sorted({name for name, _ in calls(cell)} & JUDGES)
        if judging and CHECKED not in tags(cell):
            problems.append(f"{_where(index, cell)}: calls {', '.join(judging)} without the tag {CHECKED}")
        if not judging and CHECKED in tags(cell):
            problems.append(f"{_where(index, cell)}: tagged {CHECKED}, and calls none of {', '.join(sorted(JUDGES))}")
    return problems


RULES: dict[str, Callable[[Place], list[str]]] = {
    rule.__name__: rule
    for rule in (
        in_sync,
        executed,
        small,
        described,
        headings_in_order,
        equations_have_claims,
        clean,
        clocks_add_up,
        further_is_marked,
        judges_are_tagged,
    )
}


def look_at(path: Path, claims: Mapping[str, object]) -> Place:
    """Read a notebook and its text for judging."""
    if not path.exists():
        raise ValueError(f"expected {path.name} beside its text; there is none. Run make notebooks.")
    return Place(
        book=nbformat.read(path, as_version=4),
        text=read_text(text_of(path)) if text_of(path).exists() else None,
        size=path.stat().st_size,
        chapter=int(path.name.partition("_")[0]),
        claims=claims,
    )


def lint(path: Path, claims: Mapping[str, object]) -> list[str]:
    """All rules on one notebook: a list of problems, empty when it keeps them."""
    place = look_at(path, claims)
    return [f"{path.name}: {name}: {problem}" for name, rule in RULES.items() for problem in rule(place)]


def chapter_claims(path: Path) -> dict[str, object]:
    """The registry after the claims of a notebook's chapter: 02_ratio_clipping means pocourse.ratio_clipping.

    The chapter is found by the notebook's name, at the command line and in tests only: nothing in
    this package imports a chapter from ``lesson``.
    """
    from pocourse.lesson import claims

    importlib.import_module(f"pocourse.{path.stem.partition('_')[2]}.claims")
    return claims.registry()


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
            problems = [problem for path in paths for problem in lint(path, chapter_claims(path))]
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
