"""The printable sheets: up to date with what they are made from, complete, self-contained, and one page."""

import importlib.util
import json
import re
import types
from io import BytesIO
from pathlib import Path

import pytest
from fontTools.ttLib import TTFont

from pocourse.lesson import sheets
from pocourse.lesson.outline import outline
from pocourse.lesson.teaching import Cut, Guide, Moment, instructor_sheet, time

ROOT = Path(__file__).parents[1]


def load_maker():
    spec = importlib.util.spec_from_file_location("make_sheets", ROOT / "data" / "make" / "sheets.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKER = load_maker()
CHAPTERS = [path.stem for path in MAKER.chapters()]
needs_browser = pytest.mark.skipif(
    sheets.browser() is None, reason=f"none of {', '.join(sheets.BROWSERS)} on this machine"
)


def text_of(stem):
    return (ROOT / "notebooks" / "text" / f"{stem}.md").read_text(encoding="utf-8")


def page_of(stem):
    return (ROOT / "docs" / "sheets" / f"{stem}.html").read_text(encoding="utf-8")


def guide_of(stem):
    return (ROOT / "docs" / "teaching" / f"{stem}.md").read_text(encoding="utf-8")


# --- the shipped sheets ---------------------------------------------------------------------------


def test_chapters_are_found():
    assert {"02_ratio_clipping", "03_surrogate_variance"} <= set(CHAPTERS)


@pytest.mark.parametrize("stem", CHAPTERS)
def test_shipped_sheets_are_up_to_date(stem):
    page, guide = MAKER.of_chapter(ROOT / "notebooks" / f"{stem}.ipynb")
    assert page_of(stem) == page, "run make data"
    assert guide_of(stem) == guide, "run make data"


@pytest.mark.parametrize("stem", CHAPTERS)
def test_every_equation_stands_on_the_sheet_once(stem):
    shown = re.findall(r'class="number">([\d.]+)<', page_of(stem))
    assert sorted(shown) == sorted(re.findall(r"\\tag\{([^}]*)\}", text_of(stem)))
    assert shown == sorted(shown, key=lambda number: [int(part) for part in number.split(".")])


def loaded_from_outside(page):
    """Everything that a browser would fetch for a page, and every script."""
    fetched = re.findall(r"""(?:\bsrc|\bhref|\bdata|\bposter)\s*=\s*["']?([^"'\s>]+)|url\(\s*["']?([^"')]+)""", page)
    loaders = r'<script\b|<link\b(?! rel="icon" href="data:)|<iframe\b|@import'
    fetched += [(match, "") for match in re.findall(loaders, page)]
    return [one or two for one, two in fetched if not (one or two).startswith("data:")]


@pytest.mark.parametrize("stem", CHAPTERS)
def test_the_page_loads_nothing(stem):
    assert loaded_from_outside(page_of(stem)) == []


def test_what_a_page_loads_is_found():
    page = '<img src="http://a/b"><link rel=x href=//c><style>@font-face{src:url(https://d)}</style><script>1</script>'
    assert loaded_from_outside(page) == ["http://a/b", "//c", "https://d", "<link", "<script"]
    assert loaded_from_outside('<style>a{src:url("data:font/woff;base64,AA")}</style>') == []
    assert loaded_from_outside('<link rel="icon" href="data:,">') == []


@pytest.mark.parametrize("stem", CHAPTERS)
def test_the_pdf_is_one_page_and_belongs_to_the_page(stem):
    pdf = (ROOT / "docs" / "sheets" / f"{stem}.pdf").read_bytes()
    assert sheets.pages_of_pdf(pdf) == 1
    assert sheets.title_of_pdf(pdf) == sheets.title_of_page(page_of(stem)), "run make data"
    assert re.search(r"\[[0-9a-f]{12}\]$", sheets.title_of_pdf(pdf))


def italic(letter):
    """The code point with which a browser draws a single letter of a formula."""
    if letter == "h":
        return 0x210E
    for first, last, start in (("A", "Z", 0x1D434), ("a", "z", 0x1D44E), ("Α", "Ω", 0x1D6E2), ("α", "ω", 0x1D6FC)):
        if first <= letter <= last:
            return start + ord(letter) - ord(first)
    return {"ϵ": 0x1D716, "ϕ": 0x1D719, "∂": 0x1D715}.get(letter, ord(letter))


@pytest.mark.parametrize("stem", CHAPTERS)
def test_the_font_holds_every_sign(stem):
    font = TTFont(BytesIO((ROOT / "docs" / "sheets" / "stix-two-math.woff").read_bytes()))
    formulas = "".join(re.findall(r"<math.*?</math>", page_of(stem), re.DOTALL))
    signs = {italic(letter) for letter in re.findall(r"<mi>(.)</mi>", formulas)}
    signs |= {ord(sign) for words in re.findall(r">([^<]+)<", formulas) for sign in words}
    assert {hex(sign) for sign in signs - set(font.getBestCmap())} - {"0x2061", "0xfe00"} == set()
    assert "MATH" in font


# --- how it is drawn ------------------------------------------------------------------------------

# Runs in the page: every formula that is wider than its box, and every box that is outside its column.
MEASURE = """<script>document.fonts.ready.then(() => {
  const wide = [];
  for (const box of document.querySelectorAll(".formula")) {
    const right = box.getBoundingClientRect().right;
    const ends = [...box.querySelectorAll("math")].map(formula => formula.getBoundingClientRect().right);
    if (box.scrollWidth > box.clientWidth || Math.max(...ends) > right + 0.5) wide.push(box.parentElement.id);
  }
  const out = document.createElement("pre");
  const fonts = [...document.fonts].map(font => font.status);
  out.textContent = "measured " + JSON.stringify({wide, fonts, count: document.querySelectorAll(".formula").length});
  document.body.append(out);
})</script>"""


def measured(page):
    page = page.replace("</body>", MEASURE + "</body>")
    dom = sheets.run_browser(page, "--window-size=1600,1200", "--virtual-time-budget=10000", "--dump-dom").decode()
    return json.loads(re.search(r"<pre>measured (.*?)</pre>", dom)[1])


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("stem", CHAPTERS)
def test_no_formula_leaves_its_column(stem):
    page = page_of(stem)
    found = measured(page)
    assert found["fonts"] == ["loaded"]
    assert found["count"] == len(re.findall(r"\\tag\{", text_of(stem)))
    assert found["wide"] == []
    assert measured(page.replace("columns: 2;", "columns: 3;", 1))["wide"] != []


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("stem", CHAPTERS)
def test_it_prints_on_one_page_of_a4_and_of_us_letter(stem):
    page = page_of(stem)
    assert "size: A4;" in page
    for size, pages in (("A4", 1), ("letter", 1), ("210mm 200mm", 2)):
        pdf = sheets.to_pdf(page.replace("size: A4;", f"size: {size};"))
        assert sheets.pages_of_pdf(pdf) == pages, size
        assert sheets.title_of_pdf(pdf) == sheets.title_of_page(page)


def test_titles_of_pdfs_are_read():
    assert sheets.title_of_pdf(b"<</Title (a \\(b\\) [12])>>") == "a (b) [12]"
    assert sheets.title_of_pdf(b"/Title <FEFF00610062>") == "ab"
    assert sheets.title_of_pdf(b"<</Title (\\376\\377\\000a\\000b)>>") == "ab"
    assert sheets.title_of_pdf(b"<</Author (x)>>") == ""
    assert sheets.pages_of_pdf(b"<</Type /Pages /Count 2>> <</Type /Page\n>> <</Type/Page>>") == 2
    assert sheets.title_of_page("<title>a &amp; b</title>") == "a & b"
    with pytest.raises(ValueError, match="expected a page with a <title>"):
        sheets.title_of_page("<p>x</p>")


# --- formulas -------------------------------------------------------------------------------------


def test_formulas_are_cut_at_wide_spaces_only():
    assert sheets.pieces(r"a=b,\qquad c\quad\text{for all } x") == ["a=b,", "c", r"\text{for all } x"]
    assert sheets.pieces(r"\text{a}\quad\Longrightarrow\quad b") == [r"\text{a}", r"\Longrightarrow\;\;b"]
    whole = r"\begin{cases}a&x\quad y\\ b\end{cases}+{c\qquad d}+\left(e\quad f\right)\{g\}"
    assert sheets.pieces(whole + r"\qquad h") == [whole, "h"]
    assert sheets.pieces(r"\quadratic \quad") == [r"\quadratic"]


def test_formulas_are_drawn():
    drawn = sheets.formula(r"f=\begin{cases}0 & A>0\\ A & \text{otherwise}\end{cases}\qquad(A\ne 0)")
    assert drawn.count("<math displaystyle") == 2 and "<mtable" in drawn
    assert 'class="piece when"' in drawn and "merror" not in drawn
    assert "<mover><mi>π</mi>" in sheets.mathml(r"\hat\pi") and "ˆ" not in sheets.mathml(r"\hat\pi")
    assert "minsize" not in sheets.mathml(r"\big|x\big|") and "minsize" in sheets.mathml(r"\big(x\big)")
    with pytest.raises(ValueError, match="expected TeX that math-core reads"):
        sheets.mathml(r"\frac{1}{")


# --- outline, and what the generators refuse --------------------------------------------------------

TEXT = """---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# A chapter

## Words · 2 min

Some.

+++ {"tags": ["further"]}

## Further: are you ready? · 5 min

+++

## 1 One · 60 min

$$
a=b
\\tag{7.1}
$$

### Exercise: do it · 3 min

```{code-cell} ipython3
figures.draw_one()
```

+++ {"tags": ["further"]}

### Further: more of it · 4 min

$$
a\\le b
\\tag{7.2}
$$
"""


def book(text=TEXT):
    from pocourse.lesson.notebooks import reads

    return reads(text)


def stand_in(number, id, tex="a=b"):
    twin = types.SimpleNamespace(name="turned_round", reason="It is the other way round.")
    return types.SimpleNamespace(id=id, equation=number, kind="identity", tex=tex, chapter="seven", twins=[twin])


CLAIMS = {"seven.one": stand_in("7.1", "seven.one"), "seven.two": stand_in("7.2", "seven.two", r"a\le b")}
NAMES = {"one": "The first one", "two": "The second one"}
GUIDE = Guide(
    about="About.",
    before=("Come early.",),
    moments=(Moment("Words", "All."), Moment("1", "This.", "That a < b.", "Count.", poll="seven.q")),
    cuts=(Cut("1", 20, "skip it."),),
    links=(("a", "README.md"), ("b", "https://example.org/")),
)
CHOICES = [types.SimpleNamespace(text=t, right=t == "yes", why=f"Why {t}.") for t in ("no", "yes")]
QUESTIONS = {
    "seven.e": types.SimpleNamespace(id="seven.e", text="Ready?", section="1", kind="entry", choices=CHOICES),
    "seven.p": types.SimpleNamespace(id="seven.p", text="First?", section="1", kind="quiz", choices=CHOICES),
    "seven.q": types.SimpleNamespace(id="seven.q", text="Which?\n\nSay.", section="1", kind="quiz", choices=CHOICES),
}


def sheet(**changes):
    given = {"claims": CLAIMS, "names": NAMES, "symbols": (("a", "something"),), "font": b"x", "version": "1"}
    given.update(changes)
    return sheets.formula_sheet(outline(book(), 7), given.pop("claims"), **given)


def guided(**changes):
    given = {"claims": CLAIMS, "names": NAMES, "questions": QUESTIONS, "exercises": {}, "guide": GUIDE}
    given.update(changes)
    return instructor_sheet(outline(book(), 7), given.pop("guide"), **given)


def test_an_outline_is_read():
    read = outline(book(), 7)
    assert (read.title, read.core_minutes, read.all_minutes) == ("A chapter", 65, 74)
    words, ready, one = read.sections
    assert (words.key, words.minutes, words.core) == ("Words", 2, True)
    assert (ready.key, ready.core, ready.minutes, ready.everything) == ("Are you ready?", False, 0, 5)
    assert (one.key, one.title, one.minutes, one.everything) == ("1", "One", 63, 67)
    assert (one.equations, one.figures) == (["7.1"], ["draw_one"])
    assert [(part.title, part.minutes, part.equations) for part in one.further] == [("More of it", 4, ["7.2"])]


def test_an_outline_is_refused():
    with pytest.raises(ValueError, match="expected a notebook with a title and sections"):
        outline(book(TEXT.replace("# A chapter", "").replace("## ", "")), 7)
    with pytest.raises(ValueError, match="expected a heading that says further"):
        outline(book(TEXT.replace("### Further: more", "## 2 More")), 7)


def test_a_sheet_is_signed_and_the_same_each_time():
    assert sheet() == sheet()
    signed = re.search(r"\[([0-9a-f]{12})\]</title>", sheet())[1]
    assert signed not in sheet(version="2")
    assert '<div class="equation" id="eq-7.1">' in sheet()
    assert '<div class="equation further" id="eq-7.2">' in sheet()


def test_what_is_further_as_a_whole_is_headed_once():
    assert "<h3>Further: more of it</h3>" in sheet()
    whole = book(TEXT.replace("### Further: more of it", "## Further: more of it"))
    given = {"names": NAMES, "symbols": (), "font": b"x", "version": "1"}
    page = sheets.formula_sheet(outline(whole, 7), CLAIMS, **given)
    assert page.count("ore of it") == 1 and "<h2>More of it</h2>" in page


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"claims": {"seven.one": CLAIMS["seven.one"]}}, "expected the notebook's equations and the claims"),
        ({"names": {"one": "The first one"}}, r"missing: \['two'\]"),
        ({"names": {**NAMES, "three": "Of no claim"}}, r"of no claim: \['three'\]"),
        ({"names": {**NAMES, "two": "Second"}}, "expected two to six words"),
        ({"symbols": ((r"\frac{", "x"),)}, "expected TeX that math-core reads"),
    ],
)
def test_a_sheet_that_does_not_fit_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        sheet(**changes)


def test_an_instructor_sheet_says_what_it_should():
    said = guided()
    assert "| 0:02 | 1 One | 63 | 67 | (7.1) |" in said
    assert "|  | Are you ready? | – | 5 | – |" in said
    assert "## 0:02 · 1 One · 63 min" in said and "## 1:05 · End" in said
    assert "(7.1) The first one" in said and "`draw_one`" in said and "- More of it · 4 min: (7.2)" in said
    assert "`seven.q`; right letter: b" in said and "> Which?\n>\n> Say." in said
    assert "- **a** ✗ no<br>*Reveals:* Why no." in said and "- **b** ✓ yes<br>*Right:* Why yes." in said
    assert "(7.1) The first one, *turned round*: It is the other way round." in said
    assert "(../../README.md)" in said and "(https://example.org/)" in said
    assert "down to 45 minutes" in said


def test_wrong_answers_of_an_exercise_stand_before_twins():
    wrong = types.SimpleNamespace(name="half_dropped", reason="The half\nis gone.")
    exercise = types.SimpleNamespace(id="seven.x", title="Do it", section="1", difficulty=2, minutes=8, mutants=[wrong])
    said = guided(exercises={"seven.x": exercise})
    assert "“Do it” (`seven.x`, difficulty 2 of 5, 8 min)\n\n- *half dropped*: The half is gone." in said
    assert "turned round" not in said


def test_without_a_named_poll_the_first_question_of_the_section_is_asked():
    moments = (GUIDE.moments[0], Moment("1", "This.", "That.", "Count."))
    assert "`seven.p`" in guided(guide=Guide("About.", (), moments, ()))
    assert "**Poll**" not in guided(guide=Guide("About.", (), moments, ()), questions={})


@pytest.mark.parametrize(
    ("moments", "cuts", "said"),
    [
        (GUIDE.moments[:1], (), r"missing: \['1'\]"),
        ((*GUIDE.moments, Moment("2", "x")), (), r"of no section: \['2'\]"),
        ((*GUIDE.moments, GUIDE.moments[0]), (), "3 in all"),
        ((GUIDE.moments[0], Moment("1", "This.", "", "Count.")), (), "a misconception and a remedy"),
        ((GUIDE.moments[0], Moment("1", "This.", "That.", "")), (), "a misconception and a remedy"),
        ((Moment("Words", ""), GUIDE.moments[1]), (), "expected what to show"),
        ((GUIDE.moments[0], Moment("1", "x", "y", "z", poll="seven.r")), (), "got 'seven.r'. Known are: seven.e"),
        (GUIDE.moments, (Cut("1", 64, "x"),), "at most the 63 minutes"),
        (GUIDE.moments, (Cut("9", 1, "x"),), "expected the number or title of a section"),
    ],
)
def test_a_guide_that_does_not_fit_is_refused(moments, cuts, said):
    with pytest.raises(ValueError, match=said):
        guided(guide=Guide("About.", (), moments, cuts))


# --- the shipped instructor's sheet ------------------------------------------------------------------


@pytest.mark.parametrize("stem", CHAPTERS)
def test_the_clock_of_the_class_adds_up(stem):
    core = int(re.search(r"\*\*Clock:\*\* core path (\d+) minutes", text_of(stem))[1])
    steps = re.findall(r"^## (\d+:\d\d) · .* · (\d+) min$", guide_of(stem), re.MULTILINE)
    clock = 0
    for begins, minutes in steps:
        assert begins == time(clock)
        clock += int(minutes)
    assert clock == core
    assert f"## {time(core)} · End" in guide_of(stem)


@pytest.mark.parametrize("stem", CHAPTERS)
def test_every_numbered_section_has_its_misconception(stem):
    numbered = re.findall(r"^## (\d+) (?!.*\bfurther\b)", text_of(stem), re.MULTILINE)
    assert numbered
    for number in numbered:
        part = re.search(rf"^## \d+:\d\d · {number} .*?(?=^## )", guide_of(stem), re.MULTILINE | re.DOTALL)
        assert part and "**They will think:**" in part[0] and "**What helps.**" in part[0], number


@pytest.mark.parametrize("stem", CHAPTERS)
def test_the_links_lead_somewhere(stem):
    links = re.findall(r"\]\((\.\./[^)#]+)", guide_of(stem))
    assert links
    assert [link for link in links if not (ROOT / "docs" / "teaching" / link).resolve().exists()] == []
