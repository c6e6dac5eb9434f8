"""The shipped notebooks keep every rule, and every rule finds the notebook that breaks it."""

import copy
import os
from dataclasses import dataclass, replace

import nbclient
import nbformat
import pytest

from pocourse.lesson import notebook_rules, notebooks
from pocourse.lesson.notebook_rules import RULES, Place

each_shipped = pytest.mark.parametrize(
    "path", [pytest.param(path, id=path.stem) for path in notebooks.shipped()] or [pytest.param(None, id="none")]
)


# --- the shipped notebooks -----------------------------------------------------------------------


def place_of(path):
    assert path is not None, "notebooks/ holds no notebook: neither NN_name.ipynb nor text/NN_name.md"
    return notebooks.look_at(path, notebooks.chapter_claims(path), *notebooks.chapter_tasks(path))


@pytest.mark.notebooks
@pytest.mark.parametrize("rule", RULES)
@each_shipped
def test_shipped_notebook_keeps(path, rule):
    assert RULES[rule](place_of(path)) == []


# The functions that show an exercise and judge its answer.
ASKING = {"card", "grade", "hint", "solution"}


def core_path_solved(book, exercises):
    """The core path with solutions in the place of stubs, and after it the further exercises, solved as well."""
    solutions = {found.stub: found.solution for found in exercises.values()}
    core = notebook_rules.without_further(book)
    further = [
        cell
        for cell in book.cells
        if notebook_rules.FURTHER in notebook_rules.tags(cell)
        and (cell.source in solutions or ASKING & {word for word, _ in notebook_rules.calls(cell)})
    ]
    core.cells += copy.deepcopy(further)
    for cell in core.cells:
        cell.source = solutions.get(cell.source, cell.source)
    return core


@pytest.mark.slow
@pytest.mark.notebooks
@each_shipped
def test_the_core_path_runs_without_the_further_cells_and_every_solution_is_right(path):
    """One execution for both: nbval is what runs all cells in their order, stubs untouched, and looks at the outputs.

    What one of the two could hide from the other is an answer that some other cell uses, and a rule above forbids it.
    """
    exercises, _ = notebooks.chapter_tasks(path)
    done = notebooks.execute(
        core_path_solved(place_of(path).book, exercises), folder=path.parent, profile="ci", timeout=120
    )
    assert notebook_rules.executed(Place(done)) == []
    verdicts = {
        id: "".join(output.get("data", {}).get("text/plain", "") for output in cell.outputs)
        for cell in done.cells
        for word, id in notebook_rules.calls(cell)
        if word == "grade"
    }
    assert set(verdicts) == set(exercises) and exercises
    for id, said in verdicts.items():
        assert ": right. All " in said, (id, said)


# --- the rules, each on a notebook that breaks it --------------------------------------------------

GOOD = """\
---
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# Ratio clipping

**Clock:** core path 18 minutes, everything 24 minutes.

+++

## The clip · 15 min

$$ r = 1 \\tag{2.1} $$

```python
# not a heading
```

```{code-cell} ipython3
:tags: [nbval-check-output]

check("ratio_clipping.one")
```

+++ {"tags": ["further"]}

### Further: two · 6 min

$$ r = 2 \\tag{2.2} $$

```{code-cell} ipython3
:tags: [further, nbval-check-output]

check("ratio_clipping.two")
```

## Asked · 3 min

```{code-cell} ipython3
card("ratio_clipping.f")
predict("ratio_clipping.p")
```

```{code-cell} ipython3
def f(x):
    ...
```

```{code-cell} ipython3
:tags: [nbval-check-output]

grade("ratio_clipping.f", f)
```

```{code-cell} ipython3
hint("ratio_clipping.f")
solution("ratio_clipping.f")
compare("ratio_clipping.p", 1.0)
```
"""


@dataclass
class FakeClaim:
    equation: str
    tex: str = ""


@dataclass
class FakeExercise:
    name: str
    stub: str
    minutes: int = 3


TASKS = {
    "exercises": {"ratio_clipping.f": FakeExercise("f", "def f(x):\n    ...")},
    "asked": {"predict": ("ratio_clipping.p",), "compare": ("ratio_clipping.p",), "exhibit": ()},
}


CLAIMS = {
    "ratio_clipping.one": FakeClaim("2.1", "r = 1"),
    "ratio_clipping.two": FakeClaim("2.2", "r =  2"),
    "diffusion_dpo.else": FakeClaim("5.1"),
}


def judged(text=GOOD, claims=CLAIMS, **changes):
    """The place of an executed notebook made from the text."""
    book = notebooks.normalise(notebooks.reads(text))
    codes = [cell for cell in book.cells if cell.cell_type == "code"]
    for count, cell in enumerate(codes, 1):
        cell.execution_count = count
        cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text="holds\n")]
    place = Place(book, notebooks.reads(text), size=10_000, chapter=2, claims=claims, **TASKS)
    return replace(place, **changes)


def image(**alt):
    return nbformat.v4.new_output(
        "display_data", data={"image/png": "iVBORw0K"}, metadata={"image/png": alt} if alt else {}
    )


def test_a_good_notebook_keeps_all_rules():
    place = judged()
    assert {name: rule(place) for name, rule in RULES.items()} == {name: [] for name in RULES}


def code(place, n=0):
    return [cell for cell in place.book.cells if cell.cell_type == "code"][n]


def change_source(place):
    code(place).source = "check('ratio_clipping.other')"


def change_tags(place):
    code(place).metadata.tags = []


def change_type(place):
    place.book.cells[1] = nbformat.v4.new_raw_cell(place.book.cells[1].source)


def add_cell(place):
    place.book.cells.append(nbformat.v4.new_markdown_cell("more"))


def clear_count(place):
    code(place).execution_count = None


def run_out_of_order(place):
    code(place, 0).execution_count, code(place, 1).execution_count = 2, 1


def add_error(place):
    code(place).outputs = [nbformat.v4.new_output("error", ename="ValueError", evalue="x", traceback=[])]


def add_long_cell(place):
    place.book.cells.append(nbformat.v4.new_markdown_cell("\n".join("x" * 26)))


def add_bare_image(place):
    code(place).outputs.append(image())


def add_short_alt(place):
    code(place).outputs.append(image(alt="a plot"))


def add_markdown_image(place):
    place.book.cells.append(nbformat.v4.new_markdown_cell("![](figure.png)"))


def add_html_image(place):
    place.book.cells.append(nbformat.v4.new_markdown_cell("<img src='figure.png' alt=''>"))


def store(**data):
    def change(place):
        code(place).outputs.append(nbformat.v4.new_output("display_data", data=data))

    return change


def say(text):
    def change(place):
        code(place).outputs.append(nbformat.v4.new_output("stream", name="stderr", text=text))

    return change


def add_widget_state(place):
    place.book.metadata.widgets = {"state": {}}


def change_text(old, new):
    assert old in GOOD
    return GOOD.replace(old, new)


@pytest.mark.parametrize(
    ("rule", "change", "said"),
    [
        ("in_sync", change_source, "source differs"),
        ("in_sync", change_tags, "tags differs"),
        ("in_sync", change_type, "type differs"),
        ("in_sync", add_cell, "11 cells here, 10 in the text"),
        ("executed", clear_count, "not executed"),
        ("executed", run_out_of_order, "executed as number 2"),
        ("executed", add_error, "error"),
        ("small", add_long_cell, "26 lines"),
        ("described", add_bare_image, "alt text"),
        ("described", add_short_alt, "alt text"),
        ("described", add_markdown_image, "no alt text"),
        ("described", add_html_image, "no alt text"),
        ("clean", say("\n/home/someone/x.py:3: UserWarning"), "/home/someone/x.py"),
        ("clean", say("in 'C:\\Users\\someone\\x.py'"), "C:\\Users\\someone"),
        ("clean", say("<Thing at 0x7f1234567890>"), "object address"),
        ("clean", store(**{"text/html": "<a href='file:///x'>"}), "file:///x"),
        ("clean", store(**{notebook_rules.WIDGET: {"model_id": "x"}}), "widget view"),
        ("clean", add_widget_state, "widget state"),
    ],
)
def test_a_broken_notebook_is_found(rule, change, said):
    place = judged()
    change(place)
    assert said in "\n".join(RULES[rule](place))


@pytest.mark.parametrize(
    ("rule", "old", "new", "said"),
    [
        ("headings_in_order", "## The clip", "### The clip", "level 3 under level 1"),
        ("headings_in_order", "# Ratio clipping", "## Ratio clipping · 0 min", "one first-level heading"),
        ("headings_in_order", "### Further", "# Further", "one first-level heading"),
        ("equations_have_claims", "\\tag{2.1}", "\\tag{2.9}", "\\tag{2.9} has no claim"),
        ("equations_have_claims", "\\tag{2.1}", "\\tag{2.9}", "no \\tag{2.1} stands"),
        ("equations_have_claims", "\\tag{2.2}", "\\tag{2.1}", "\\tag{2.1} stands 2 times"),
        ("equations_have_claims", "\\tag{2.1}", "\\tag{2.9}", "(2.9) stands before (2.2)"),
        ("equations_have_claims", "r = 1", "r = 3", "(2.1) is not written as in the claim ratio_clipping.one"),
        ("equations_have_claims", '"ratio_clipping.one"', '"ratio_clipping.two"', "no check('ratio_clipping.one')"),
        ("equations_have_claims", 'check("ratio_clipping.one")', 'expect("ratio_clipping.one")', "no check("),
        ("equations_have_claims", "```python\n", "## Another · 0 min\n```python\n", "no check("),
        ("clocks_add_up", "core path 18", "core path 16", "core path 16 minutes; the sections add up to 18"),
        ("clocks_add_up", "everything 24", "everything 20", "everything 20 minutes; the sections add up to 24"),
        ("clocks_add_up", "clip · 15 min", "clip", "does not end in"),
        ("clocks_add_up", "**Clock:**", "Clock:", "holds no line"),
        ("further_is_marked", "### Further: two", "### Two", "does not say so"),
        ("further_is_marked", "### Further: two · 6 min\n", "", "no heading"),
        ("judges_are_tagged", ":tags: [nbval-check-output]\n", "", "calls check without the tag"),
        ("judges_are_tagged", 'check("ratio_clipping.one")', "print(1)", "calls none of"),
        (
            "judges_are_tagged",
            ":tags: [nbval-check-output]\n\ncheck",
            "\nx = 1\nif x:\n    %time x\n    expect",
            "calls expect",
        ),
        ("exercises_are_whole", 'card("ratio_clipping.f")\n', "", "f has no card"),
        (
            "exercises_are_whole",
            "Asked · 3 min",
            "Asked · 2 min",
            "takes 3 minutes, and the heading above its card allows 2",
        ),
        ("exercises_are_whole", "    ...", "    return 1", "no untouched stub"),
        ("exercises_are_whole", 'grade("ratio_clipping.f", f)', "check('x')", "f has no grade"),
        ("exercises_are_whole", 'hint("ratio_clipping.f")\n', "", "f has no hint"),
        ("exercises_are_whole", 'solution("ratio_clipping.f")\n', "", "f has no solution"),
        ("exercises_are_whole", 'card("ratio_clipping.f")', 'solution("ratio_clipping.f")', "no card"),
        ("exercises_are_whole", 'check("ratio_clipping.one")', 'solution("ratio_clipping.f")', "in this order"),
        ("exercises_are_whole", 'compare("ratio_clipping.p", 1.0)', "f(1)", "is a learner's answer"),
        (
            "exercises_are_whole",
            'predict("ratio_clipping.p")',
            'hint("ratio_clipping.g")',
            "no exercise of this chapter",
        ),
        ("everything_is_asked", 'predict("ratio_clipping.p")\n', "", "nowhere calls predict('ratio_clipping.p')"),
        ("everything_is_asked", 'compare("ratio_clipping.p", 1.0)', "1", "nowhere calls compare"),
        (
            "everything_is_asked",
            'check("ratio_clipping.one")',
            'compare("ratio_clipping.p", 2)',
            "before it is predicted",
        ),
        (
            "everything_is_asked",
            'check("ratio_clipping.one")',
            'exhibit("ratio_clipping.x")',
            "nothing of this chapter",
        ),
    ],
)
def test_a_broken_text_is_found(rule, old, new, said):
    assert said in "\n".join(RULES[rule](judged(change_text(old, new))))


def test_a_second_claim_for_an_equation_is_found():
    claims = {**CLAIMS, "ratio_clipping.too": FakeClaim("2.1")}
    assert "(2.1) has 2 claims" in "\n".join(notebook_rules.equations_have_claims(judged(claims=claims)))


def test_a_missing_text_and_a_large_file_are_found():
    assert "there is no text" in notebook_rules.in_sync(replace(judged(), text=None))[0]
    assert "1,000,000 bytes" in notebook_rules.small(judged(size=1_000_000))[0]


def test_every_rule_has_a_notebook_that_breaks_it():
    broken = {
        argument[0]
        for test in (test_a_broken_notebook_is_found, test_a_broken_text_is_found)
        for mark in test.pytestmark
        for argument in mark.args[1]
    }
    assert broken == set(RULES)


def test_urls_and_relative_paths_are_no_absolute_paths():
    place = judged()
    say("see https://example.org/home/x.html, ./tmp/x, 1/2, </div>, text/html, and/or")(place)
    assert notebook_rules.clean(place) == []


# --- building --------------------------------------------------------------------------------------

SMALL = """\
# A title

```{code-cell} ipython3
:tags: [further]

import os
from IPython.display import display
print("one"); print("two")
print(" 10%", end="\\r"); print("100%")
print(os.environ["POCOURSE_PROFILE"], os.getcwd() == os.path.realpath(os.getcwd()))
display({"image/png": "iVBORw0K", "text/plain": "alt"}, metadata={"image/png": {"alt": "x" * 40}}, raw=True)
display({"application/vnd.jupyter.widget-view+json": {"model_id": "x"}, "text/plain": "IntSlider()"}, raw=True)
object()
```

Same text.

+++

Same text.
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "07_small.md").write_text(SMALL, encoding="utf-8")
    return tmp_path


def test_build_executes_normalises_and_is_repeatable(folder):
    path = folder / "07_small.ipynb"
    notebooks.build(path, profile="ci")
    first = path.read_bytes()
    notebooks.build(path, profile="ci")
    assert path.read_bytes() == first
    assert sorted(p.name for p in folder.iterdir()) == ["07_small.ipynb", "text"]

    book = nbformat.read(path, as_version=4)
    place = Place(book, notebooks.read_text(notebooks.text_of(path)), size=len(first), claims={})
    for rule in ("in_sync", "executed", "small", "described", "clean"):
        assert RULES[rule](place) == []
    assert set(book.metadata) == {"kernelspec", "language_info"} and "version" not in book.metadata.language_info
    cell = book.cells[1]
    assert cell.metadata == {"tags": ["further"]}
    assert [output.output_type for output in cell.outputs] == ["stream", "display_data", "execute_result"]
    assert cell.outputs[0].text == "one\ntwo\n100%\nci True\n"
    assert cell.outputs[1].metadata == {"image/png": {"alt": "x" * 40}}
    assert cell.outputs[2].data["text/plain"] == "<object>"
    assert len({cell.id for cell in book.cells}) == len(book.cells)


@pytest.mark.parametrize(
    ("kinds", "kept"),
    [
        (["text/plain"], None),
        (["text/plain", "text/html"], ["text/plain", "text/html"]),
        (["text/plain", "image/png"], ["text/plain", "image/png"]),
        (["text/html"], ["text/html"]),
        ([], None),
    ],
)
def test_a_widget_leaves_what_stands_in_for_it(kinds, kept):
    view = {notebook_rules.WIDGET: {"model_id": "x"}}
    data = {**view, **dict.fromkeys(kinds, "it")}
    metadata = {notebook_rules.WIDGET: {"a": 1}, "image/png": {"alt": "x" * 40}}
    book = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell(
                "quiz()",
                outputs=[
                    nbformat.v4.new_output("stream", name="stdout", text="one\n"),
                    nbformat.v4.new_output("display_data", data=data, metadata=metadata),
                    nbformat.v4.new_output("stream", name="stdout", text="two\n"),
                ],
            )
        ]
    )
    outputs = notebooks.normalise(book).cells[0].outputs
    if kept is None:
        assert [output.output_type for output in outputs] == ["stream"] and outputs[0].text == "one\ntwo\n"
    else:
        assert [output.output_type for output in outputs] == ["stream", "display_data", "stream"]
        assert sorted(outputs[1].data) == sorted(kept) and outputs[1].metadata == {"image/png": {"alt": "x" * 40}}
        assert notebook_rules.clean(Place(notebooks.normalise(book))) == []
    assert notebook_rules.WIDGET in book.cells[0].outputs[1].data  # the book itself is left as it was


def test_a_failing_or_interrupted_build_leaves_the_old_notebook(folder, monkeypatch):
    path = folder / "07_small.ipynb"
    path.write_text("old")
    notebooks.text_of(path).write_text("```{code-cell} ipython3\n1 / 0\n```\n")
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="ZeroDivisionError"):
        notebooks.build(path, profile="ci")
    assert path.read_text() == "old"

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        notebooks.write(notebooks.normalise(notebooks.reads("# A title")), path)
    assert path.read_text() == "old"
    assert sorted(p.name for p in folder.iterdir()) == ["07_small.ipynb", "text"]


def test_an_id_survives_a_new_cell_above_it():
    ids = [cell.id for cell in notebooks.normalise(notebooks.reads(GOOD)).cells]
    longer = notebooks.normalise(notebooks.reads(GOOD.replace("## The clip", "New.\n\n+++\n\n## The clip")))
    assert [cell.id for cell in longer.cells if cell.id in ids] == ids


def test_the_core_path_is_the_notebook_without_further_cells():
    book = notebooks.reads(GOOD)
    core = notebook_rules.without_further(book).cells
    assert len(book.cells) == 10 and len(core) == 8
    assert not any(notebook_rules.FURTHER in notebook_rules.tags(cell) for cell in core)
    assert notebook_rules.tags(core[2]) == {notebook_rules.CHECKED}


FURTHER_EXERCISE = """\
```{code-cell} ipython3
:tags: [further]

def g(x):
    ...
```

```{code-cell} ipython3
:tags: [further, nbval-check-output]

grade("ratio_clipping.g", g)
```

"""


def test_the_solved_core_path_holds_every_exercise_and_no_other_further_cell():
    book = notebooks.reads(GOOD.replace("## Asked", FURTHER_EXERCISE + "## Asked"))
    before = [cell.source for cell in book.cells]
    solved = {name: FakeExercise(name, f"def {name}(x):\n    ...") for name in "fg"}
    for name, found in solved.items():
        found.solution = f"def {name}(x):\n    return x"
    codes = [cell.source for cell in core_path_solved(book, solved).cells if cell.cell_type == "code"]
    # As in the core path, and after it what is further; a further cell that asks nothing is left out.
    assert [code.splitlines()[-1] for code in codes] == [
        'check("ratio_clipping.one")',
        'predict("ratio_clipping.p")',
        "    return x",
        'grade("ratio_clipping.f", f)',
        'compare("ratio_clipping.p", 1.0)',
        "    return x",
        'grade("ratio_clipping.g", g)',
    ]
    assert [cell.source for cell in book.cells] == before


def test_notebooks_are_found_by_number_path_and_change(folder):
    path = folder / "07_small.ipynb"
    assert notebooks.shipped(folder) == [path]
    assert notebooks.chosen([], folder) == notebooks.chosen(["7"], folder) == notebooks.chosen(["07"], folder) == [path]
    assert notebooks.chosen([str(notebooks.text_of(path)), str(path)], folder) == [path]
    with pytest.raises(ValueError, match="expected a notebook; got '8'"):
        notebooks.chosen(["8"], folder)
    assert notebooks.touched(["README.md", "pocourse/engine/loop.py"], [path]) == []
    for name in ("notebooks/text/07_small.md", "pocourse/small/claims.py", "pocourse/lesson/claims.py"):
        assert notebooks.touched([name], [path]) == [path]


def test_the_command_line_says_what_is_wrong(folder, monkeypatch, capsys):
    path = folder / "07_small.ipynb"
    assert notebooks.main(["lint", str(folder / "nowhere.ipynb")]) == 1
    assert "expected a notebook; got" in capsys.readouterr().err

    monkeypatch.setattr(notebooks, "chapter_claims", lambda path: {})
    monkeypatch.setattr(notebooks, "chapter_tasks", lambda path: ({}, {}))
    assert notebooks.main(["lint", str(path)]) == 1
    assert "expected 07_small.ipynb beside its text" in capsys.readouterr().err

    notebooks.text_of(path).write_text("# A title\n\n**Clock:** core path 1 minutes, everything 0 minutes.\n")
    assert notebooks.main(["build", str(path)]) == 0
    assert notebooks.main(["lint", str(path)]) == 1
    assert "07_small.ipynb: clocks_add_up: the clock says core path 1" in capsys.readouterr().out

    notebooks.text_of(path).write_text("```{code-cell} ipython3\n1 / 0\n```\n")
    assert notebooks.main(["build", str(path)]) == 1
    assert "The notebook on disk is the old one." in capsys.readouterr().err
