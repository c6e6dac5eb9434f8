"""The course in JupyterLab: all cells run without a complaint, and what is live answers."""

import ast
import importlib.util
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from chapters import CHAPTERS, built
from test_access import assert_moves_by_keyboard

import pocourse.diffusion_dpo.exercises
import pocourse.ratio_clipping.exercises
import pocourse.surrogate_variance.exercises
import pocourse.zeroth_order.exercises  # noqa: F401
from pocourse.lesson import exercises
from pocourse.ratio_clipping import bench

HERE = Path(__file__).parent
# Of each chapter an exercise, a right answer, and the slip that makes it a wrong one.
ANSWERS = {
    "ratio_clipping": (
        "ppo_clip",
        '''def ppo_clip(ratio, advantage, clip_eps=0.2):
    """One value of PPO's clipped objective per sample."""
    return torch.minimum(ratio * advantage, ratio.clamp(1 - clip_eps, 1 + clip_eps) * advantage)''',
        ("minimum", "maximum"),
    ),
    "surrogate_variance": (
        "surrogate_variance",
        '''def surrogate_variance(prob_old, ratio, advantage):
    """The variance of one sample x = r A of the surrogate, for each state."""
    x = ratio * advantage
    return (prob_old * (x - (prob_old * x).sum(-1, keepdim=True)).square()).sum(-1)''',
        ("(prob_old * x).sum(-1, keepdim=True)", "x.mean(-1, keepdim=True)"),
    ),
    "zeroth_order": (
        "rloo",
        '''def rloo_gradient(values, directions, sigma):
    """The leave-one-out estimate of the gradient."""
    weights = (values - values.mean(0)) / ((len(values) - 1) * sigma)
    return (weights.unsqueeze(-1) * directions).sum(0)''',
        ("(len(values) - 1)", "len(values)"),
    ),
    "diffusion_dpo": (
        "dpo",
        '''def pairwise_dpo(logp_chosen, logp_rejected, logp_ref_chosen, logp_ref_rejected, beta=0.1):
    """One DPO loss per pair."""
    z = beta * ((logp_chosen - logp_ref_chosen) - (logp_rejected - logp_ref_rejected))
    return torch.nn.functional.softplus(-z)''',
        ("softplus(-z)", "softplus(z)"),
    ),
}


# --- the fixtures themselves ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def fixtures():
    """The module behind the fixtures of this folder; its name, conftest, is not unique."""
    spec = importlib.util.spec_from_file_location("browser_fixtures", HERE / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("url", "leaves"),
    [
        ("http://127.0.0.1:8888/lab", False),
        ("ws://localhost:1/x", False),
        ("http://[::1]:8888/", False),
        ("data:text/html,x", False),
        ("blob:http://127.0.0.1/x", False),
        ("https://example.org/", True),
        ("wss://192.0.2.1/", True),
        ("http://127.0.0.1.example.org/", True),
    ],
)
def test_what_counts_as_outside(fixtures, url, leaves):
    assert fixtures.outside(url) is leaves


@pytest.mark.parametrize("required", [False, True])
def test_without_a_browser_the_tests_are_skipped_or_fail_where_one_is_required(tmp_path, required):
    environment = {**os.environ, "PATH": str(tmp_path), "PLAYWRIGHT_BROWSERS_PATH": str(tmp_path)}
    environment["POCOURSE_REQUIRE_BROWSER"] = "1" if required else ""
    test = f"{Path(__file__)}::test_a_page_tells_what_goes_wrong_on_it"
    command = [sys.executable, "-m", "pytest", test, "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, env=environment, cwd=HERE.parents[1], capture_output=True, text=True, timeout=120)
    assert "there is no Chromium here. Install Chromium" in re.sub(r"\s+", " ", done.stdout)
    assert ("1 skipped" in done.stdout and done.returncode == 0) is not required
    assert ("POCOURSE_REQUIRE_BROWSER=1, but:" in done.stdout and done.returncode == 1) is required


def test_the_tests_with_a_browser_are_marked_and_come_last(request):
    marked = [item.get_closest_marker("browser") is not None for item in request.session.items]
    assert marked == sorted(marked) and request.node.get_closest_marker("slow")


def test_a_page_tells_what_goes_wrong_on_it(page, served, tmp_path):
    (tmp_path / "good.html").write_text("<h1>good</h1>")
    (tmp_path / "bad.html").write_text(
        "<h1>bad</h1><script>console.error('said'); setTimeout(() => { throw new Error('thrown') }, 0);"
        "fetch('https://192.0.2.1/').catch(() => {}); fetch('https://name.example/').catch(() => {});"
        "fetch('gone.json')</script>"
    )
    address = served(tmp_path)
    page.goto(f"{address}/good.html", wait_until="networkidle")
    assert page.problems == []
    page.goto(f"{address}/bad.html")
    page.wait_for_timeout(500)
    found = "\n".join(page.problems)
    for words in ("console: said", "page error: thrown", "outgoing request: https://192.0.2.1/", "404 http://127"):
        assert words in found
    assert "failed request: https://name.example/: net::ERR_NAME_NOT_RESOLVED" in found


# --- the notebooks --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def book(lab, new_page, request):
    """A chapter's notebook, all cells run once, on a page that the tests of this section share."""
    with new_page() as page:
        page.chapter = CHAPTERS[request.param]
        lab.open(page, page.chapter.notebook.name)
        lab.run_all(page)
        yield page


# All that is done with one notebook is done before the next is opened: so pytest orders what is of the module.
EVERY = pytest.mark.parametrize("book", CHAPTERS, indirect=True)
RATIO = pytest.mark.parametrize("book", ["ratio_clipping"], indirect=True)


@EVERY
def test_all_cells_run_without_a_complaint(lab, book):
    cells = [cell for cell in lab.cells(book) if cell["type"] == "code"]
    assert len(cells) > 40
    errors = [(c["index"], c["source"], o) for c in cells for o in c["outputs"] if o["output_type"] == "error"]
    assert errors == []
    assert [cell["count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert book.problems == []


@EVERY
def test_a_right_answer_is_told_to_be_right(lab, book):
    name, right, slip = ANSWERS[book.chapter.name]
    stub, grade = right.partition("(")[0] + "(", f'grade("{book.chapter.name}.{name}"'
    title = exercises.find(f"{book.chapter.name}.{name}").title
    assert right != right.replace(*slip)
    assert "not attempted" in lab.cell(book, grade).inner_text()
    lab.write(book, stub, right)
    lab.run_cell(book, stub)
    cell = lab.run_cell(book, grade)
    cell.get_by_text(f"{title}: right").wait_for()
    assert "not attempted" not in cell.inner_text()
    lab.write(book, stub, right.replace(*slip))
    lab.run_cell(book, stub)
    lab.run_cell(book, grade).get_by_text(f"{title}: not yet").wait_for()


@RATIO
def test_a_hint_opens(lab, book):
    cell = lab.cell(book, 'hint("ratio_clipping.ppo_clip"')
    first = cell.get_by_text("compete, and the smaller one wins")
    assert not any(hint.is_visible() for hint in first.all())
    second = cell.get_by_role("button", name="Hint 2")
    assert second.is_disabled()
    cell.get_by_role("button", name="Hint 1").click()
    first.last.wait_for()
    assert first.last.is_visible() and second.is_enabled()


@RATIO
@pytest.mark.parametrize(
    "words", ['predict("ratio_clipping.tightness")', 'hint("ratio_clipping.spo")', "chapter_quiz("]
)
def test_a_form_that_lives_hides_the_card_that_stands_in_for_it(lab, book, words):
    cell = lab.cell(book, words)
    cell.locator(".pocourse-live").first.wait_for()
    outputs = cell.locator(".jp-Cell-outputArea > .jp-OutputArea-child")  # a form holds an output of its own
    shown = [output.is_visible() for output in outputs.all()]
    lives = [output.locator(".pocourse-live").count() > 0 for output in outputs.all()]
    assert len(shown) in (2, 4) and lives == [False, True] * (len(shown) // 2) and shown == lives
    # Without the form, as in a notebook that is opened again, the card is there.
    first = cell.locator(".pocourse-live").first.element_handle()
    first.evaluate("form => form.classList.remove('pocourse-live')")
    assert outputs.first.is_visible()
    first.evaluate("form => form.classList.add('pocourse-live')")
    assert not outputs.first.is_visible()


@RATIO
def test_a_question_is_checked_and_explained(lab, book):
    box = lab.cell(book, 'chapter_quiz("ratio_clipping")').locator(".pocourse-ask").first
    box.scroll_into_view_if_needed()
    ticks = box.get_by_role("checkbox")
    assert box.locator(".pocourse-row").filter(has_text=re.compile(r"Right\.|Not right\.")).count() == 0
    ticks.first.check()
    box.get_by_role("button", name="Check").click()
    said = box.get_by_role("status")
    box.get_by_text(re.compile(r"^(Right|Not right)\. ")).first.wait_for()
    assert re.match(r"Right|Not right", said.inner_text())


@RATIO
def test_a_prediction_is_kept_and_comes_back(lab, book):
    box = lab.cell(book, 'predict("ratio_clipping.deepest")').locator(".pocourse-ask").first
    box.scroll_into_view_if_needed()
    box.get_by_role("textbox").fill("0.37")
    box.get_by_role("button", name="Keep").click()
    box.get_by_text("Kept: 0.37").wait_for()
    compared = lab.run_cell(book, 'compare("ratio_clipping.deepest"')
    assert "0.37" in compared.inner_text()


@EVERY
def test_an_explorable_answers_to_the_keyboard_as_the_chapter_says(lab, book):
    drawn = {c["index"]: str(c["outputs"]) for c in lab.cells(book) if "data-explorable" in str(c["outputs"])}
    assert len(drawn) == len(book.chapter.ids)
    ex = built(book.chapter.computed[0])
    (index,) = (index for index, outputs in drawn.items() if f'data-explorable="{ex.id}"' in outputs)
    lab.show(book, index)
    assert_moves_by_keyboard(book, ex)
    assert book.evaluate("() => window.coursePanel.content.activeCellIndex") == index


@RATIO
def test_in_jupyterlab_dragging_is_fluent(lab, book, drawings):
    drawn = [c["index"] for c in lab.cells(book) if "data-explorable" in str(c["outputs"])]
    for index in drawn:
        host = lab.show(book, index).locator("[data-explorable]").first
        slider = host.get_by_role("slider").first
        slider.scroll_into_view_if_needed()
        box = slider.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

        def drag(x=x, y=y, reach=0.45 * box["width"]):
            book.mouse.move(x, y)
            book.mouse.down()
            for step in range(121):
                book.mouse.move(x + reach * math.sin(step / 8), y)
            book.mouse.up()

        count, rate = drawings(host, drag)
        print(f"cell {index} in JupyterLab: {rate:.0f} frames per second while dragging, over {count} drawings")
        assert count > 5 and rate >= 20


@EVERY
def test_nothing_went_wrong_on_the_way(book):
    assert book.problems == []


# --- the live bench -------------------------------------------------------------------------------

COUNTED = """from pocourse.ratio_clipping import bench
measured, measure = [], bench.measure
bench.measure = lambda text, own=None: (measured.append(text), measure(text, own))[1]"""


class Form:
    """The live bench on a page."""

    def __init__(self, lab, page):
        self.lab, self.page = lab, page
        self.root = page.locator(".pocourse-bench")
        self.line = self.root.get_by_role("textbox")
        self.preset = self.root.get_by_role("combobox")

    def write(self, line):
        """Type a line, press Enter."""
        self.line.fill(line)
        self.line.press("Enter")

    def settled(self, state):
        """The line on how things stand, once this is its state."""
        status = self.root.locator(f'[data-bench-state="{state}"]')
        status.wait_for()
        return status.inner_text()

    def shows(self, line):
        """Wait until table and picture are those of this line."""
        self.page.wait_for_function(
            "line => window.coursePanel.content.widgets.some(cell => cell.model.type === 'code' && "
            "cell.model.outputs.toJSON().some(o => ((o.metadata || {})['image/png'] || {}).alt?.includes(line)))",
            arg=f"Your objective {line} beside",
        )
        self.settled("done")

    def number(self, row, key):
        """A number of the table."""
        return float(
            self.root.locator(f'[data-bench-row="{row}"] [data-bench-{key}]').get_attribute(f"data-bench-{key}")
        )

    def picture(self):
        """The picture as it is drawn."""
        return self.page.locator(".jp-OutputArea-output img").get_attribute("src")


@pytest.fixture(scope="module")
def live(lab, new_page):
    """A notebook with nothing but the bench, run; it counts what it measures."""
    sources = [COUNTED, "bench.live()", "print(measured)"]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    nbformat.write(
        nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in sources], metadata=kernel),
        lab.notebooks / "bench.ipynb",
    )
    with new_page() as page:
        lab.open(page, "bench.ipynb")
        lab.run_all(page)
        form = Form(lab, page)
        form.settled("done")
        yield form


def test_the_bench_shows_what_python_computes(live):
    before = live.picture()
    line = "r * A - 0.5 * (r - 1) ** 2"
    live.write(line)
    live.settled("busy")
    live.shows(line)
    expected = bench.table(bench.beside(bench.measure(line)))
    for row in ("yours", "PPO", "SPO"):
        for key in ("deviation", "largest", "outside", "gain"):
            mean = bench.interquartile_mean(expected[row][key])
            assert live.number(row, key) == pytest.approx(float(mean), rel=0.02, abs=2e-3)
    assert live.number("yours", "deviation") > 2 * live.number("PPO", "deviation")
    assert live.picture() != before and live.preset.input_value() == "your own"


def test_a_slip_becomes_a_message_and_goes_again(live):
    live.write("r * A")
    live.shows("r * A")
    before = live.picture()
    live.write("r * A -")
    assert "see the message" in live.settled("failed")
    message = live.root.get_by_role("alert").inner_text()
    assert "invalid syntax, at its end" in message and "still show r * A" in message
    assert live.picture() == before
    live.write("(r * A).mean()")
    live.root.get_by_text("One value per sample is asked for").wait_for()
    live.write("2 * r * A")
    live.shows("2 * r * A")
    assert live.root.get_by_role("alert").count() == 0


def test_the_presets_are_reached_with_the_keyboard_and_the_last_one_is_computed(lab, live):
    live.write("r * A * 1.0")
    live.shows("r * A * 1.0")
    live.preset.focus()
    for _ in range(3):
        live.page.keyboard.press("ArrowUp")
    live.shows(bench.PRESETS["PPO"])
    assert live.preset.input_value() == "PPO" and live.line.input_value() == bench.PRESETS["PPO"]
    said = lab.run_cell(live.page, "print(measured)").locator(".jp-OutputArea-output").inner_text()
    measured = ast.literal_eval(said.strip())
    since = measured[len(measured) - measured[::-1].index("r * A * 1.0") :]
    # How many of the three presses were taken up depends on the machine; the last one is, after what came before it.
    pressed = [bench.PRESETS[name] for name in ("PPO-RB", "SPO", "PPO")]
    assert since and since[-1] == pressed[-1] and since == [line for line in pressed if line in since]
    lab.cell(live.page, "bench.live()")
    assert live.number("yours", "deviation") == pytest.approx(live.number("PPO", "deviation"), rel=1e-3)
    live.preset.focus()
    live.page.keyboard.press("Tab")
    assert live.line.evaluate("field => field === document.activeElement")
    live.page.keyboard.press("Tab")
    live.page.keyboard.press("Enter")
    live.settled("busy")
    live.settled("done")


def test_nothing_went_wrong_on_the_bench(live):
    assert live.page.problems == []


def test_without_its_kernel_the_bench_says_what_it_needs_above_its_last_picture(lab, live, page):
    live.write("r * A * 3")
    live.shows("r * A * 3")
    live.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    shutil.copy(lab.notebooks / "bench.ipynb", lab.notebooks / "again.ipynb")
    lab.open(page, "again.ipynb")
    cell = lab.cell(page, "bench.live()")
    cell.get_by_text("It needs a kernel").wait_for()
    assert page.locator(".pocourse-bench").count() == 0
    assert page.locator(".jp-OutputArea-output img").get_attribute("src") == live.picture()
