"""The rules that a notebook keeps. Each rule takes a ``Place`` and returns the problems it finds, in words."""

import ast
import copy
import itertools
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode

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
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]{4,}")
_IMAGE = re.compile(r"!\[([^\]]*)\]\([^)]*\)|<img\b[^>]*>", re.IGNORECASE)
_ABSOLUTE = re.compile(
    r"(?<![\w.:/-])(?:/(?:home|root|Users|tmp|var|opt|usr|mnt|srv|work|workspace|private|content)/[\w.@+/-]+"
    r"|[A-Za-z]:\\{1,2}(?:Users|Program)[^\s\"']*|file://[^\s\"']*)"
)


@dataclass(frozen=True)
class Place:
    """What a rule may look at: the notebook, its text, its size on disk and the claims of its chapter."""

    book: NotebookNode
    text: NotebookNode | None = None
    size: int = 0
    chapter: int = 0
    claims: Mapping[str, object] | None = None
    # The exercises of the chapter, and what else it has to show: for each function the ids it is to be called with.
    exercises: Mapping[str, object] | None = None
    asked: Mapping[str, tuple[str, ...]] | None = None


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
    """Every numbered equation has one claim, in whose TeX it is written, and is checked before the next section begins.

    The numbers rise from the first to the last.
    """
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
    for (_, before), (index, number) in itertools.pairwise(tagged):
        if _place_in_order(before) > _place_in_order(number):
            problems.append(f"{_where(index, cells[index])}: ({before}) stands before ({number})")
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


def _place_in_order(number: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", number)]


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
            if address := ADDRESS.search(written):
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


def exercises_are_whole(place: Place) -> list[str]:
    """Every exercise has card, untouched stub, grade, hints and solution, in order; nothing else needs the answer."""
    problems = []
    code = [(index, cell, calls(cell)) for index, cell in enumerate(place.book.cells) if cell.cell_type == "code"]
    for id, exercise in (place.exercises or {}).items():
        places = [_first(code, "card", id), next((i for i, cell, _ in code if cell.source == exercise.stub), None)]
        places += [_first(code, word, id) for word in ("grade", "hint", "solution")]
        for word, at in zip(("card", "untouched stub", "grade", "hint", "solution"), places, strict=True):
            if at is None:
                problems.append(f"the exercise {id} has no {word} in the notebook")
        minutes = _minutes_above(place.book.cells, places[0]) if places[0] is not None else exercise.minutes
        if minutes < exercise.minutes:
            problems.append(f"{id} takes {exercise.minutes} minutes, and the heading above its card allows {minutes}")
        found = [at for at in places if at is not None]
        if found != sorted(found):
            problems.append(f"{id}: expected card, stub, grade, hint and solution in this order; got cells {found}")
        for index, cell, _ in code:
            if index not in places[1:3] and exercise.name in _names(cell):
                problems.append(f"{_where(index, cell)}: uses {exercise.name}, which is a learner's answer to {id}")
    known = set(place.exercises or {})
    for index, cell, called in code:
        for word, id in called:
            if word in ("card", "grade", "hint", "solution") and id not in known:
                problems.append(f"{_where(index, cell)}: {word}({id!r}) is for no exercise of this chapter")
    return problems


def _minutes_above(cells: list[NotebookNode], index: int) -> int:
    """The minutes of the nearest heading that states some."""
    stated = [_MINUTES.search(text) for cell in cells[:index] for _, text, _ in headings(cell)]
    return next((int(minutes[1]) for minutes in reversed(stated) if minutes), 0)


def _first(code: list, word: str, id: str) -> int | None:
    return next((index for index, _, called in code if (word, id) in called), None)


def _names(cell: NotebookNode) -> set[str]:
    tree = ast.parse(TransformerManager().transform_cell(cell.source))
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def everything_is_asked(place: Place) -> list[str]:
    """What the chapter has to show and to ask stands in the notebook, and a prediction before its comparison."""
    code = [(index, cell, calls(cell)) for index, cell in enumerate(place.book.cells) if cell.cell_type == "code"]
    asked = place.asked or {}
    problems = [
        f"the notebook nowhere calls {word}({id!r})"
        for word, ids in asked.items()
        for id in ids
        if _first(code, word, id) is None
    ]
    for id in asked.get("compare", ()):
        before, after = _first(code, "predict", id), _first(code, "compare", id)
        if before is not None and after is not None and before > after:
            problems.append(f"{id} is compared in cell {after}, before it is predicted in cell {before}")
    for index, cell, called in code:
        for word, id in called:
            if word in asked and id not in asked[word]:
                problems.append(f"{_where(index, cell)}: {word}({id!r}) is nothing of this chapter")
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
        exercises_are_whole,
        everything_is_asked,
    )
}
