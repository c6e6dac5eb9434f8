"""The site: built without a warning, complete, with everything it loads inside of it, and every link at home in it."""

import base64
import hashlib
import html
import importlib
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from built_site import ROOT, built

from pocourse.lesson import notebooks

sys.path[:0] = [str(ROOT / "docs"), str(ROOT / "docs" / "_ext")]
api = importlib.import_module("api")
make_site = importlib.import_module("make_site")

STEMS = [path.stem for path in notebooks.shipped()]


# --- reading pages ---------------------------------------------------------------------------------

LOADED = {
    "script": ("src",),
    "img": ("src", "srcset"),
    "source": ("src", "srcset"),
    "iframe": ("src",),
    "embed": ("src",),
    "video": ("src", "poster"),
    "audio": ("src",),
    "track": ("src",),
    "object": ("data",),
    "input": ("src",),
    "image": ("href", "xlink:href"),
    "use": ("href", "xlink:href"),
}
_URL = re.compile(r"""url\(\s*(?:"([^"]*)"|'([^']*)'|([^)"'\s]*))\s*\)|@import\s+["']([^"']+)["']""")


class Page(HTMLParser):
    """What a page loads, where it leads, which addresses it has, and its pictures."""

    def __init__(self, text):
        super().__init__()
        self.loads, self.links, self.ids, self.pictures, self._style = [], [], set(), [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = {name: value or "" for name, value in attributes}
        self._style = tag == "style"
        self.ids |= {given[name] for name in ("id", "name") if given.get(name)}
        for name in LOADED.get(tag, ()):
            if given.get(name):
                self.loads += [given[name].split()[0]]
        if tag == "link" and given.get("href"):
            self.loads.append(given["href"])
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if tag == "img":
            self.pictures.append((given.get("src", ""), given.get("alt")))
        self.loads += addresses_in(given.get("style", ""))

    def handle_data(self, data):
        if self._style:
            self.loads += addresses_in(data)

    def handle_endtag(self, tag):
        self._style = False


def addresses_in(css):
    """What a style sheet loads."""
    css = re.sub(r"/\*.*?\*/", "", css, flags=re.DOTALL)
    return [next(filter(None, found)) for found in _URL.findall(css) if any(found)]


def strangers(site):
    """What pages and style sheets load from elsewhere, or load and do not find."""
    problems = []
    for path in sorted(site.rglob("*")):
        if path.suffix == ".html":
            loads = Page(path.read_text(encoding="utf-8")).loads
        elif path.suffix == ".css":
            loads = addresses_in(path.read_text(encoding="utf-8"))
        else:
            continue
        for load in loads:
            parts = urlsplit(load)
            if parts.scheme == "data" or not (parts.scheme or parts.netloc or parts.path):
                continue
            if parts.scheme or parts.netloc:
                problems.append(f"{path.relative_to(site)} loads {load}")
            elif not (path.parent / unquote(parts.path)).is_file():
                problems.append(f"{path.relative_to(site)} loads {load}, which is not there")
    return problems


def dead_links(site):
    """Links within the site that lead nowhere."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    problems = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            lost = not target.is_file()
            if not lost and parts.fragment and target in pages:
                lost = unquote(parts.fragment) not in pages[target].ids
            if lost:
                problems.append(f"{path.relative_to(site)} -> {link}")
    return sorted(set(problems))


def without_words(site):
    """Pictures without an alternative text."""
    return [
        f"{path.relative_to(site)}: {source}"
        for path in sorted(site.rglob("*.html"))
        for source, alt in Page(path.read_text(encoding="utf-8")).pictures
        if not (alt or "").strip()
    ]


def test_what_a_bad_page_loads_is_found(tmp_path):
    (tmp_path / "a.css").write_text('@import "//x.example/y.css"; b { src: url(f.woff2) url("data:x") } /* url(z) */')
    (tmp_path / "a.html").write_text(
        '<link rel="preconnect" href="https://fonts.example"><script src="http://cdn.example/x.js"></script>'
        '<link rel="stylesheet" href="a.css?v=1"><img src="gone.png"><img src="a.css" alt=" "><img src="a.css" alt="A">'
        "<p style=\"background:url('https://x.example/b.png')\"></p><style>i { cursor: url(c.cur) }</style>"
        '<a href="https://fine.example">text</a><a href="#here">x</a><a id="here" href="b.html">y</a>'
        '<a href="a.html#there">z</a>'
    )
    assert strangers(tmp_path) == [
        "a.css loads //x.example/y.css",
        "a.css loads f.woff2, which is not there",
        "a.html loads https://fonts.example",
        "a.html loads http://cdn.example/x.js",
        "a.html loads gone.png, which is not there",
        "a.html loads https://x.example/b.png",
        "a.html loads c.cur, which is not there",
    ]
    assert dead_links(tmp_path) == ["a.html -> a.html#there", "a.html -> b.html"]
    assert without_words(tmp_path) == ["a.html: gone.png", "a.html: a.css"]


# --- the pieces it is made of ------------------------------------------------------------------------


def test_a_text_of_the_course_becomes_markdown_that_says_the_same():
    text = "It costs $5, *not* `a_b[0]`, in [0, 1):\n- one _\n- two\n\n```\nx = [$1]\n```\nafter"
    assert make_site.markdown(text) == (
        "It costs \\$5, *not* `a_b[0]`, in \\[0, 1):\n\n- one \\_\n- two\n\n```\nx = [$1]\n```\nafter"
    )
    assert make_site.line("|r − 1|\nsmall") == "\\|r − 1\\| small"


def test_every_reference_is_read():
    text = (ROOT / "data" / "references.bib").read_text(encoding="utf-8")
    found = dict(make_site.entries(text))
    assert len(found) == len(re.findall(r"^@", text, re.MULTILINE))
    said = make_site.reference("schulman2017proximal", found["schulman2017proximal"])
    assert said.startswith('- <span id="schulman2017proximal"></span>John Schulman, Filip Wolski')
    assert said.endswith(
        "(2017). *Proximal Policy Optimization Algorithms*. [arXiv:1707.06347](https://arxiv.org/abs/1707.06347)."
    )


def test_a_docstring_of_the_house_is_read():
    lines = [
        "The smaller of |r A| and *that*, for [*batch].",
        "",
        "f = min( r A, |A| )",
        "",
        "Shapes: all [*batch] ->",
        "[*batch].",
        "Source: ``a|b|`` ours.",
    ]
    assert api.as_rst(lines) == [
        r"The smaller of \|r A\| and *that*, for [\*batch].",
        "",
        ".. code-block:: text",
        "",
        "    f = min( r A, |A| )",
        "",
        r":Shapes: all [\*batch] ->",
        r"   [\*batch].",
        ":Source: ``a|b|`` ours.",
        "",
    ]


def test_a_signature_shows_the_shapes():
    from pocourse.ratio_clipping.objectives import clip_objective

    said, returns = api.signature(None, "function", "", clip_objective, None, None, None)
    assert said == "(ratio: Float[Tensor, '*batch'], advantage: Float[Tensor, '*batch'], *, clip_eps: float=0.2)"
    assert returns == "Float[Tensor, '*batch']"


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    (tmp_path / "html").mkdir()
    (tmp_path / "html" / "mine.txt").touch()
    command = [sys.executable, str(ROOT / "docs" / "make_site.py"), "--to", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "choose another folder" in done.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["html", "mine.txt"]


# --- the site --------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def site():
    folder, done = built()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return folder


def text(site, name):
    return (site / name).read_text(encoding="utf-8")


def words(site, name):
    """What a page says, without its tags."""
    plain = re.sub(r"<(script|style).*?</\1>", "", text(site, name), flags=re.DOTALL)
    return unmarked(html.unescape(re.sub(r"<[^>]+>", "", plain)))


def unmarked(text):
    """A text without line breaks, and without the stars and backticks that a page shows as type."""
    return " ".join(re.sub(r"[*`]", "", text).split())


@pytest.fixture(scope="session")
def chapters():
    return make_site.chapters()


@pytest.mark.slow
def test_it_builds_without_a_warning_and_small(site):
    size = sum(path.stat().st_size for path in site.rglob("*") if path.is_file())
    assert 1e6 < size < 30e6


@pytest.mark.slow
def test_building_writes_nothing_beside_the_site(site):
    """Git knows nothing new: what a build makes in the checkout, it would make under an ignored name."""
    said = subprocess.run(["git", "status", "--porcelain", "docs"], cwd=ROOT, capture_output=True, text=True).stdout
    assert not re.search(r"_build|jupyter_execute|_generated|\.doctree|docs/notebooks|docs/claims", said)
    assert not list((ROOT / "docs").glob("jupyter_execute")) and not list(ROOT.glob("jupyter_execute"))


@pytest.mark.slow
def test_nothing_is_loaded_from_elsewhere_and_nothing_is_missing(site):
    assert strangers(site) == []


@pytest.mark.slow
def test_every_link_within_the_site_arrives(site):
    assert dead_links(site) == []


@pytest.mark.slow
def test_every_picture_has_words(site):
    assert without_words(site) == []


@pytest.mark.slow
@pytest.mark.parametrize("stem", STEMS)
def test_a_figure_has_the_words_of_the_notebook(site, stem):
    book = json.loads((ROOT / "notebooks" / f"{stem}.ipynb").read_text(encoding="utf-8"))
    wanted = {}
    for cell in book["cells"]:
        for output in cell.get("outputs", []):
            if picture := output.get("data", {}).get("image/png"):
                digest = hashlib.sha256(base64.b64decode("".join(picture))).hexdigest()
                wanted[digest] = output["metadata"]["image/png"]["alt"]
    shown = {Path(source).stem: alt for source, alt in Page(text(site, f"notebooks/{stem}.html")).pictures}
    assert wanted and {digest: shown.get(digest) for digest in wanted} == wanted


class Tables(HTMLParser):
    """How many columns each table among the outputs of a notebook's page has, and the pipes that show there."""

    def __init__(self, text):
        super().__init__()
        self.columns, self.pipes, self._depth = [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag == "div":
            self._depth += bool(self._depth) or "cell_output" in dict(attributes).get("class", "")
        elif self._depth and tag == "table" and dict(attributes).get("class") == "table":
            self.columns.append(0)
        elif self._depth and tag == "th" and self.columns:
            self.columns[-1] += dict(attributes).get("class") == "head" or "head " in dict(attributes).get("class", "")

    def handle_endtag(self, tag):
        self._depth -= tag == "div" and self._depth > 0

    def handle_data(self, data):
        self.pipes += re.findall(r"\|[-:]{3}.*", data) if self._depth else []


@pytest.mark.slow
@pytest.mark.parametrize("stem", STEMS)
def test_tables_among_the_outputs_are_tables(site, stem):
    book = json.loads((ROOT / "notebooks" / f"{stem}.ipynb").read_text(encoding="utf-8"))
    outputs = [output for cell in book["cells"] for output in cell.get("outputs", [])]
    written = "\n".join("".join(output.get("data", {}).get("text/markdown", "")) for output in outputs)
    heads = re.findall(r"^\|(.+)\|\n\|[-:| ]+\|$", written, re.MULTILINE)
    found = Tables(text(site, f"notebooks/{stem}.html"))
    assert found.columns == [len(re.split(r"(?<!\\)\|", head)) for head in heads]
    assert found.pipes == []
    assert len(heads) >= 6 or "ratio_clipping" not in stem


def test_pipes_among_outputs_are_found():
    raw = '<div class="cell_output"><div><p>| a | b |\n|---|---|\n| 1 | 2 |</p></div></div>'
    raw += '<p>|---|</p><table class="table">'
    assert Tables(raw).pipes == ["|---|---|"] and Tables(raw).columns == []


@pytest.mark.slow
def test_every_page_names_its_icon(site):
    """Else browsers ask for one at an address where there is none."""
    pages = {path.name: path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    named = [name for name, page in pages.items() if re.search(r'<link [^>]*rel="(?:shortcut )?icon"', page)]
    assert len(pages) > 20 and sorted(pages) == sorted(named)


@pytest.mark.slow
def test_every_claim_has_its_entry(site, chapters):
    assert sum(len(chapter.claims) for chapter in chapters) > 30
    for chapter in chapters:
        said, raw = words(site, f"claims/{chapter.stem}.html"), text(site, f"claims/{chapter.stem}.html")
        listed, book = words(site, "claims/index.html"), Page(text(site, f"notebooks/{chapter.stem}.html"))
        for claim in chapter.claims.values():
            assert f"({claim.equation}) {chapter.name_of(claim)}" in said
            assert f"({claim.equation}) {chapter.name_of(claim)} {claim.kind} {len(claim.twins)}" in listed
            assert unmarked(claim.source) in said
            for twin in claim.twins:
                assert unmarked(f"{twin.name.replace('_', ' ')}: {twin.reason}") in said, (claim.id, twin.name)
            assert f"eq-{claim.equation}" in book.ids and f"eq-{claim.equation}" in Page(raw).ids
            assert f'href="#eq-{claim.equation}"' in raw


@pytest.mark.slow
def test_every_exercise_and_every_piece_has_its_entry(site, chapters):
    assert sum(len(chapter.exercises) for chapter in chapters) >= 10
    said, museum = words(site, "exercises.html"), words(site, "museum.html")
    for chapter in chapters:
        book = Page(text(site, f"notebooks/{chapter.stem}.html"))
        for one in chapter.exercises.values():
            facts = f"Difficulty {one.difficulty} of 5 · {one.minutes} minutes · section {one.section} · {one.id}"
            assert facts in said and unmarked(one.title) in said
            assert [judge.name for judge in one.properties if unmarked(judge.name) not in said] == []
            assert make_site.anchor("exercise", one.id) in book.ids
        for piece in chapter.pieces.values():
            assert unmarked(piece.title) in museum and f'href="{piece.thread}' in text(site, "museum.html")
            assert make_site.anchor("piece", piece.id) in book.ids


@pytest.mark.slow
@pytest.mark.parametrize("stem", STEMS)
def test_a_notebook_has_its_page_and_its_sheets(site, stem):
    book = json.loads((ROOT / "notebooks" / f"{stem}.ipynb").read_text(encoding="utf-8"))
    said = text(site, f"notebooks/{stem}.html")
    prose = "\n".join("".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == "markdown")
    headings = re.findall(r"^#+ (.+)", prose, re.MULTILINE)
    anchors = re.findall(r"<h\d>.*?<a class=\"headerlink\" href=\"#", said)
    assert len(headings) > 5 and len(anchors) >= len(headings)
    assert 'class="further' in said or "tag_further" not in said
    if (ROOT / "docs" / "teaching" / f"{stem}.md").exists():
        assert f'href="teaching/{stem}.html"' in text(site, "teaching.html")
        for kind in ("pdf", "html"):
            assert (site / "sheets" / f"{stem}.{kind}").read_bytes() == (
                ROOT / "docs" / "sheets" / f"{stem}.{kind}"
            ).read_bytes()


@pytest.mark.slow
def test_the_reference_covers_the_public_modules(site):
    for package, (_, modules) in make_site.packages().items():
        said = text(site, f"api/{package}.html")
        for module in modules:
            assert f"module-pocourse.{package}.{module}" in said
    said = words(site, "api/ratio_clipping.html")
    assert "clip_objective( ratio: Float[Tensor, 'batch'], advantage: Float[Tensor, 'batch']," in said
    assert "jaxtyping." not in said and "Alias for field" not in said


@pytest.mark.slow
def test_the_bibliography_is_complete(site):
    found = Page(text(site, "bibliography.html"))
    keys = re.findall(r"^@\w+\{([^,]+),", (ROOT / "data" / "references.bib").read_text(encoding="utf-8"), re.MULTILINE)
    assert keys and set(keys) <= found.ids


@pytest.mark.slow
def test_the_index_of_the_search_knows_what_the_course_is_about(site):
    index = json.loads(re.fullmatch(r"Search\.setIndex\((.*)\)\s*;?\s*", text(site, "searchindex.js"), re.DOTALL)[1])
    hits = [index[where]["clip"] for where in ("terms", "titleterms")]
    named = {index["docnames"][hit] for found in hits for hit in (found if isinstance(found, list) else [found])}
    assert {f"notebooks/{stem}" for stem in STEMS if "ratio_clipping" in stem} <= named
