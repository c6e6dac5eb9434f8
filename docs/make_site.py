"""Gather the pages of the site and build it: ``make site``, or ``python docs/make_site.py --to FOLDER``.

What is written by hand stands in ``docs/pages/``. Everything else comes from where it is kept: the notebooks with their
committed outputs, claims, exercises and museum from the chapters' rooms, the sheets, the bibliography, docstrings.
Nothing is executed and nothing outside of the folder is written.
"""

import argparse
import importlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
EQUATIONS = ("objectives", "estimators", "bounds", "optima", "updates", "zoar")


# --- what there is to show -------------------------------------------------------------------------


class Chapter:
    """A notebook with what its chapter has registered."""

    def __init__(self, path):
        from pocourse.lesson import notebooks, outline

        self.path, self.stem = path, path.stem
        number, _, self.name = path.stem.partition("_")
        self.outline = outline.outline(notebooks.read_text(notebooks.text_of(path)), int(number))
        self.book = json.loads(path.read_text(encoding="utf-8"))
        self.claims = self._registered("claims")
        self.exercises = self._registered("exercises")
        self.pieces = self._registered("museum")  # its tasks are exercises, registered by now
        self.exercises = self._registered("exercises")
        self.names = getattr(self._room("teaching"), "NAMES", {})

    def _room(self, room):
        try:
            return importlib.import_module(f"pocourse.{self.name}.{room}")
        except ModuleNotFoundError as error:
            if error.name != f"pocourse.{self.name}.{room}":
                raise
            return None

    def _registered(self, room):
        self._room(room)
        entries = importlib.import_module(f"pocourse.lesson.{room}").registry()
        return {id: entry for id, entry in entries.items() if id.split(".")[0] == self.name}

    @property
    def title(self):
        return f"{self.outline.number} {self.outline.title}"

    def name_of(self, claim):
        """The words a claim goes by."""
        short = claim.id.partition(".")[2]
        return self.names.get(short, short.replace("_", " "))

    def said(self):
        """What the checks said when the notebook was run, by the number of the equation."""
        streams = (
            "".join(output.get("text", ""))
            for cell in self.book["cells"]
            for output in cell.get("outputs", [])
            if output["output_type"] == "stream"
        )
        return {n: words for text in streams for n, words in _HOLDS.findall(text)}


_HOLDS = re.compile(r"^\((\d+\.\d+)\) holds: (.*?)\. Refuted: ", re.MULTILINE)


def chapters():
    """All chapters that have a notebook, in order."""
    from pocourse.lesson import notebooks

    return [Chapter(path) for path in notebooks.shipped()]


# --- Markdown --------------------------------------------------------------------------------------


def markdown(text):
    """A text of the course, which has a markup of its own (``lesson.cards``), as Markdown that says the same."""
    fenced = re.split(r"(^```[^\n]*\n.*?^```[ \t]*$)", text.strip(), flags=re.MULTILINE | re.DOTALL)
    return "".join(part if index % 2 else _plain(part) for index, part in enumerate(fenced))


def _plain(text):
    coded = re.split(r"(`[^`]*`)", text)
    coded[::2] = [re.sub(r"([\\$<\[\]_{}~])", r"\\\1", part) for part in coded[::2]]
    # A list may follow its paragraph at once, which Markdown would take for the same paragraph.
    return re.sub(r"(?m)^(?!\s*- )(\S.*)\n(?=- )", r"\1\n\n", "".join(coded))


def line(text):
    """A text of the course on one line, fit for a table."""
    return " ".join(markdown(text).split()).replace("|", "\\|")


def items(texts):
    return "\n".join(f"- {' '.join(markdown(text).split())}" for text in texts)


def anchor(kind, id):
    """The address of an exercise or a piece of the museum, on its notebook's page as in the lists."""
    return f"{kind}-{id.partition('.')[2].replace('_', '-')}"


def in_notebook(chapter, target):
    return f"../notebooks/{chapter.stem}.html#{target}"


# --- pages -----------------------------------------------------------------------------------------


def notebook(chapter):
    """The notebook, with an address for every exercise and every piece of the museum."""
    book = json.loads(json.dumps(chapter.book))
    calls = {"card": "exercise", "exhibit": "piece"}
    for cell in book["cells"]:
        named = [
            anchor(calls[call], id)
            for call, id in re.findall(r'^(card|exhibit)\("([\w.]+)"\)', "".join(cell["source"]), re.MULTILINE)
        ]
        cards = [output for output in cell.get("outputs", []) if "text/html" in output.get("data", {})]
        for target, card in zip(named, cards, strict=False):
            inside = "".join(card["data"]["text/html"])
            card["data"]["text/html"] = f'<div id="{target}">{inside}</div>'
    return json.dumps(book, ensure_ascii=False)


def claims_page(chapter):
    """Every equation of a chapter: formula, source, what its check says, and its wrong twins."""
    said = chapter.said()
    parts = [
        f"# Claims of chapter {chapter.outline.number}\n\nEvery numbered equation of "
        f"[{chapter.outline.title}](../notebooks/{chapter.stem}.ipynb). `pocourse claims {chapter.name}` checks all of "
        "them on your machine in a few seconds; what stands behind *Check* is what it said when the notebook was run."
    ]
    for claim in chapter.claims.values():
        twins = "\n".join(
            f"- **{twin.name.replace('_', ' ')}**: {' '.join(markdown(twin.reason).split())}" for twin in claim.twins
        )
        number = claim.equation
        there = f'<a class="there" href="{in_notebook(chapter, f"eq-{number}")}">in the notebook</a>'
        parts.append(
            f"## ({number}) {chapter.name_of(claim)}\n\n$$\n{claim.tex}\n\\tag{{{number}}}\n$$\n\n"
            f"{{.facts}}\n**Check** · {claim.kind}: {said[number]}.<br>\n**Source** · {markdown(claim.source)}.<br>\n"
            f"`{claim.id}` · {there}\n\nRefuted twins:\n\n{twins}"
        )
    return "\n\n".join(parts)


def claims_index(all_chapters):
    parts = [
        "# Claims\n\nA numbered equation of this course is a *claim*: a function that draws random instances and "
        "compares both sides. What the comparison is depends on its kind. Each claim carries *wrong twins*, the same "
        "statement with a typical slip in it, and the same check has to refute them. A claim whose twin passes is a "
        "defect.\n\n"
        "| kind | holds when |\n|---|---|\n"
        "| identity | both sides are equal on every draw |\n"
        "| bound | it is never violated, and some draw comes close to equality: else a wrong constant would pass |\n"
        "| estimate | the mean of many samples lies within a few standard errors of the exact value |\n"
        "| order | the error shrinks at the order that is claimed |\n"
        "| witness | a strict inequality is strict on every instance |"
    ]
    for chapter in all_chapters:
        rows = [
            f'| <a href="{chapter.stem}.html#eq-{claim.equation}">({claim.equation})</a> '
            f"| {line(chapter.name_of(claim))} | {claim.kind} | {len(claim.twins)} |"
            for claim in chapter.claims.values()
        ]
        parts.append(
            f"## [{chapter.title}]({chapter.stem}.md)\n\n| equation | name | kind | wrong twins |\n|---|---|---|---:|\n"
            + "\n".join(rows)
        )
    return "\n\n".join(parts) + toctree(*(chapter.stem for chapter in all_chapters), hidden=True)


def exercises_page(all_chapters):
    parts = [
        "# Exercises\n\nAn answer is never compared with a solution. It is put on trial against *properties*, and the "
        "first that breaks says what broke, with your own number. Write your answer in the notebook, under the card of "
        "the exercise, or in a file for `pocourse grade`. Hints and solution unfold in the notebook, never here."
    ]
    for chapter in all_chapters:
        if not chapter.exercises:
            continue
        rows = [
            f'| <a href="#{anchor("exercise", one.id)}">{line(one.title)}</a> | {one.section} '
            f"| {difficulty(one.difficulty)} | {one.minutes} |"
            for one in chapter.exercises.values()
        ]
        head = "| exercise | section | difficulty | minutes |\n|---|---|---|---:|\n"
        parts.append(f"## {chapter.title}\n\n{head}" + "\n".join(rows))
        for one in chapter.exercises.values():
            target = anchor("exercise", one.id)
            there = f'<a class="there" href="{in_notebook(chapter, target)[3:]}">do it in the notebook</a>'
            parts.append(
                f"({target})=\n### {line(one.title)}\n\n{{.facts}}\nDifficulty {one.difficulty} of 5 · {one.minutes} "
                f"minutes · section {one.section} · `{one.id}` · {there}\n\n{markdown(one.task)}\n\n"
                f"What a right answer satisfies:\n\n{items(judge.name for judge in one.properties)}"
            )
    return "\n\n".join(parts)


def difficulty(number):
    return f'<span class="dots" title="{number} of 5">{"●" * number}{"○" * (5 - number)}</span>'


def museum_page(all_chapters):
    parts = [
        "# Bug museum\n\nMistakes that were really published, each as it was found, with what has become of it. The "
        "notebooks exhibit every piece with wrong code of our own that runs, the plot of its symptom, and the task to "
        "write the property that catches it. They are easy slips: people who write courses and libraries make them, "
        "and so do we."
    ]
    for chapter in all_chapters:
        if not chapter.pieces:
            continue
        parts.append(f"## {chapter.title}")
        for piece in chapter.pieces.values():
            target = anchor("piece", piece.id)
            task = anchor("exercise", piece.exercise)
            thread = "" if piece.thread in piece.published else f" <{piece.thread}>"
            sayings = {
                "Published": addresses(markdown(piece.published)) + thread,
                "What is wrong with it": markdown(piece.wrong.reason),
                "What to look for in the plot": markdown(piece.symptom),
                "Since then": addresses(markdown(piece.corrected)),
                "Beside it": addresses(markdown(piece.note)),
            }
            told = "\n\n".join(f"**{heading}.** {text}" for heading, text in sayings.items() if text)
            parts.append(
                f"({target})=\n### {line(piece.title)}\n\n{{.facts}}\nSection {piece.section} · "
                f'<a class="there" href="{in_notebook(chapter, target)[3:]}">code and plot in the notebook</a> · '
                f'<a href="exercises.html#{task}">the task</a>\n\n{told}'
            )
    return "\n\n".join(parts)


def addresses(text):
    """Plain addresses as links."""
    return re.sub(r"https://[^\s<>\"']*[^\s<>\"'.,;:)]", lambda found: f"<{found[0].replace(chr(92), '')}>", text)


# --- bibliography ----------------------------------------------------------------------------------


def entries(text):
    """Entries of the bibliography, as tests/test_data.py holds it, as (key, fields)."""
    found = []
    for block in re.split(r"^@", text, flags=re.MULTILINE)[1:]:
        key = re.match(r"\w+\{([^,\s]+),", block)[1]
        fields = re.findall(r"^\s*(\w+)\s*=\s*\{(.*)\},?\s*$", block, re.MULTILINE)
        found.append((key, {name.lower(): re.sub(r"[{}]", "", value) for name, value in fields}))
    return found


def reference(key, fields):
    """One entry: who, when, what, where."""
    names = [" ".join(reversed(name.split(", "))) for name in fields["author"].split(" and ")]
    others = names[-1] == "others"
    names = names[:-1] if others else names
    who = ", ".join(names) + (" and others" if others else "")
    place = next((fields[kind] for kind in ("journal", "booktitle", "publisher", "howpublished") if kind in fields), "")
    place = "" if place.startswith("arXiv preprint") else place
    where = [part for part in (place, fields.get("edition", "") and f"{fields['edition']} edition") if part]
    if "volume" in fields:
        where[-1] += f" {fields['volume']}"
    if "pages" in fields:
        where.append(fields["pages"].replace("--", "–"))
    if "eprint" in fields:
        where.append(f"[arXiv:{fields['eprint']}](https://arxiv.org/abs/{fields['eprint']})")
    if "url" in fields:
        where.append(f"<{fields['url']}>")
    what = ". ".join([f"*{_plain(fields['title'])}*", *([", ".join(where)] if where else [])])
    return f'- <span id="{key}"></span>{_plain(who)} ({fields["year"]}). {what}.'


def bibliography_page():
    found = entries((ROOT / "data" / "references.bib").read_text(encoding="utf-8"))
    found.sort(key=lambda entry: (entry[1]["author"].lower(), entry[1]["year"]))
    listed = "\n".join(reference(key, fields) for key, fields in found)
    return (
        '# Bibliography\n\nWhat the chapters stand on. <a href="_static/references.bib" download>As BibTeX</a>.\n\n'
        + listed
    )


# --- the package -----------------------------------------------------------------------------------


def packages():
    """The public modules, as {page: (title, package, modules)}."""
    found = {}
    for name, title in (("worlds", "worlds"), ("engine", "engine"), ("lesson", "lesson")):
        modules = sorted(path.stem for path in (ROOT / "pocourse" / name).glob("[!_]*.py"))
        found[name] = (title, modules)
    chapters = {}
    for folder in sorted((ROOT / "pocourse").iterdir()):
        modules = [room for room in EQUATIONS if (folder / f"{room}.py").exists()]
        if modules:
            chapters[folder.name] = (folder.name, modules)
    return {**chapters, **found}


def api_page(package, title, modules):
    parts = [f"# {title}\n\n```{{eval-rst}}\n.. automodule:: pocourse.{package}\n   :no-members:\n```"]
    for module in modules:
        parts.append(
            f"## {module}\n\n```{{eval-rst}}\n.. automodule:: pocourse.{package}.{module}\n   :members:\n"
            "   :ignore-module-all:\n```"
        )
    return "\n\n".join(parts)


def api_index(found):
    listed = "\n".join(
        f"- [`pocourse.{package}`]({package}.md): {', '.join(f'`{module}`' for module in modules)}"
        for package, (_, modules) in found.items()
    )
    return (
        "# The package\n\nEquations receive tensors and return tensors, one value per sample; they never hear of a "
        "network or of an environment. Shapes stand in the annotations: `Float[Tensor, 'batch action']` is a tensor of "
        "floating point numbers with two axes, `*batch` any number of axes. Bad input gets a `ValueError` that says "
        f"what was expected, what came, and the remedy.\n\n{listed}" + toctree(*found, hidden=True)
    )


# --- putting it together ---------------------------------------------------------------------------


def toctree(*documents, hidden=False, caption=None):
    options = (":hidden:\n" if hidden else "") + (f":caption: {caption}\n" if caption else "")
    return f"\n\n```{{toctree}}\n{options}\n" + "\n".join(documents) + "\n```\n"


def overview(all_chapters):
    """The table of the notebooks."""
    rows = [
        f"| [{chapter.title}](notebooks/{chapter.stem}.ipynb) "
        f"| {chapter.outline.core_minutes} min | {chapter.outline.all_minutes} min | {len(chapter.claims)} "
        f"| {len(chapter.exercises)} | {len(chapter.pieces)} |"
        for chapter in all_chapters
    ]
    head = "| chapter | core path | everything | equations | exercises | museum |\n|---|---:|---:|---:|---:|---:|\n"
    return head + "\n".join(rows)


def sheets(all_chapters):
    """The list of the sheets."""
    found = []
    for chapter in all_chapters:
        links = []
        if (DOCS / "teaching" / f"{chapter.stem}.md").exists():
            links.append(f"[instructor's sheet](teaching/{chapter.stem}.md)")
        for kind, words in (("pdf", "formula sheet to print (PDF)"), ("html", "formula sheet as a page")):
            if (DOCS / "sheets" / f"{chapter.stem}.{kind}").exists():
                links.append(f'<a href="sheets/{chapter.stem}.{kind}">{words}</a>')
        if links:
            found.append(f"- **{chapter.title}**: {', '.join(links)}")
    return "\n".join(found)


def teaching_page(chapter):
    """The instructor's sheet, its links turned to this site."""
    text = (DOCS / "teaching" / f"{chapter.stem}.md").read_text(encoding="utf-8")

    def turned(found):
        words, target = found[1], found[2]
        if target.startswith("notebooks/text/"):
            return f'<a href="../_static/text/{Path(target).name}" download>{words}</a>'
        if target.startswith("docs/sheets/"):
            return f'<a href="../sheets/{Path(target).name}">{words}</a>'
        if target == "data/references.bib":
            return f"[{words}](../bibliography.md)"
        return f"[{words}](../{target.removeprefix('docs/')})"

    return re.sub(r"\[([^\]]+)\]\(\.\./\.\./([^)]+)\)", turned, text)


def gather(source):
    """Write all sources of the site into a fresh folder."""
    found = chapters()
    parts = packages()
    pages = {
        "claims/index.md": claims_index(found),
        "exercises.md": exercises_page(found),
        "museum.md": museum_page(found),
        "bibliography.md": bibliography_page(),
        "api/index.md": api_index(parts),
        **{f"api/{package}.md": api_page(package, *about) for package, about in parts.items()},
    }
    for chapter in found:
        pages[f"notebooks/{chapter.stem}.ipynb"] = notebook(chapter)
        pages[f"claims/{chapter.stem}.md"] = claims_page(chapter)
        if (DOCS / "teaching" / f"{chapter.stem}.md").exists():
            pages[f"teaching/{chapter.stem}.md"] = teaching_page(chapter)
    lists = {
        "notebooks": overview(found),
        "sheets": sheets(found),
        "chapters": toctree(*(f"{one.title} <notebooks/{one.stem}>" for one in found), hidden=True, caption="Chapters"),
        "guides": toctree(*(name[:-3] for name in pages if name.startswith("teaching/")), hidden=True),
    }
    for path in sorted((DOCS / "pages").glob("*.md")):
        text = path.read_text(encoding="utf-8")
        pages[path.name] = re.sub(r"<!-- list: (\w+) -->", lambda match: lists[match[1]], text)
    for name, text in pages.items():
        place = source / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8", newline="\n")
    shutil.copytree(DOCS / "figures", source / "figures")


def build(target):
    """Gather and build below a folder, from nothing; the exit status of Sphinx, to which every warning is an error."""
    made = [target / name for name in ("source", "doctrees", "html", "jupyter_execute")]
    source, doctrees, site, _ = made
    if any(folder.exists() for folder in made) and not (source / "claims" / "index.md").exists():
        print(f"{target} holds something else than an earlier build: choose another folder.", file=sys.stderr)
        return 2
    for folder in made:
        shutil.rmtree(folder, ignore_errors=True)
    gather(source)
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q", "-j", "auto"]
    done = subprocess.run([*command, "-c", str(DOCS), "-d", str(doctrees), str(source), str(site)])
    if done.returncode == 0:
        for pattern in ("*webpack-macros.html", "**/*.map"):  # templates of the theme and maps to its sources
            for path in (site / "_static").glob(pattern):
                path.unlink()
        for folder, files in {
            "sheets": (DOCS / "sheets").iterdir(),
            "_static": [ROOT / "data" / "references.bib"],
            "_static/text": (ROOT / "notebooks" / "text").glob("[!.]*.md"),
        }.items():
            (site / folder).mkdir(exist_ok=True)
            for path in files:
                shutil.copy(path, site / folder)
    return done.returncode


def main():
    parser = argparse.ArgumentParser(description="Build the site.")
    parser.add_argument("--to", type=Path, default=DOCS / "_build", help="the folder to build in (docs/_build)")
    target = parser.parse_args().to.resolve()
    status = build(target)
    if status == 0:
        size = sum(path.stat().st_size for path in (target / "html").rglob("*") if path.is_file())
        print(f"The site is ready: {target / 'html' / 'index.html'} ({size / 1e6:.0f} MB)")
    return status


if __name__ == "__main__":
    sys.exit(main())
