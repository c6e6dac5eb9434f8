"""Exercises and their trial: whatever an answer does, the learner gets a clear verdict and the lesson goes on."""

import asyncio
import contextlib
import functools
import inspect
import os
import sys
import threading
import time
import types
import warnings

import pytest
import torch

from pocourse.lesson import cards, exercises, grader, progress, trial
from pocourse.lesson.trial import Answer, Broken, Trouble

SOLUTION = "def double(x, y):\n    return 2 * x * y"


def make(id="toy.double", **changes):
    """An exercise: write double(x, y) = 2xy, one value per sample."""
    options = {
        "title": "Double it",
        "section": "1",
        "difficulty": 1,
        "minutes": 2,
        "task": "Write `double(x, y)`.",
        "stub": "def double(x, y):\n    ...",
        "hints": ("Look.", "Look again.", "Multiply by 2."),
        "solution": SOLUTION,
        "after": "Doubling is **useful**.",
        "parameters": ("x", "y"),
        "returns": trial.tensor_like(0),
        "probes": lambda: [(torch.tensor([1.0, -2.0]), torch.tensor([3.0, 0.5]))],
        "differentiable": (0,),
        "limit_s": 0.4,
    } | changes
    made = exercises.exercise(id, **options)

    @made.requires("value by hand")
    def _(answer):
        found = answer(torch.tensor([1.0]), torch.tensor([3.0]))
        return None if found.item() == 6 else f"2 * 1 * 3 is 6; yours is {trial.show(found)}"

    @made.requires("slope in x")
    def _(answer):
        x, y = torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor([3.0, -1.0])
        slope = trial.derivative(answer(x, y), x, "x")
        return None if torch.equal(slope, 2 * y) else f"the slope must be 2y; yours is {trial.show(slope)}"

    @made.mutant("single", "it is not doubled")
    def _(x, y):
        return x * y

    @made.mutant("cut off", "the gradient is lost on the way", citation="nowhere, 2026")
    def _(x, y):
        return (2 * x * y).detach()

    @made.accepts("sum of two")
    def _(x, y):
        return x * y + y * x

    return made


@pytest.fixture
def toy(monkeypatch, tmp_path):
    monkeypatch.setattr(exercises, "_registry", {})
    monkeypatch.setenv("POCOURSE_HOME", str(tmp_path))
    return make()


def verdict(function):
    return exercises.judge("toy.double", function)


# --- registration ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"id": "toy.double"}, "taken"),
        ({"id": "double"}, "chapter.exercise"),
        ({"id": "toy.two words"}, "chapter.exercise"),
        ({"id": "toy.b", "difficulty": 6}, "from 1 to 5"),
        ({"id": "toy.b", "minutes": 0}, "at least one minute"),
        ({"id": "toy.b", "hints": ("one", "two")}, "got 2"),
        ({"id": "toy.b", "hints": ("one", "two", " ")}, "none of them empty"),
        ({"id": "toy.b", "after": ""}, "none of them empty"),
        ({"id": "toy.b", "solution": "def triple(x, y):\n    return 3"}, "define the same function"),
    ],
)
def test_a_bad_exercise_is_refused(toy, changes, said):
    with pytest.raises(ValueError, match=said):
        make(**changes)


def test_an_unknown_id_is_refused_with_the_known_ones(toy):
    for call in (grader.card, grader.hint, grader.solution, exercises.matrix):
        with pytest.raises(ValueError, match=r"toy\.double"):
            call("toy.single")
    with pytest.raises(ValueError, match=r"import pocourse\.toy\.exercises"):
        grader.grade("toy.single", lambda x, y: x)


# --- right answers, stubs ------------------------------------------------------------------------------


def test_right_answers_pass(toy):
    for function in (lambda x, y: 2 * x * y, lambda a, b: a * (b + b), exercises.solved(toy)):
        found = verdict(function)
        assert found.right and found.message == "" and found.slip is None
        assert [result.held for result in found.results] == [True, True]


def stub(x, y): ...


def stub_with_words(x, y):
    """Say what is asked."""
    ...


def stub_pass(x, y):
    pass


def not_a_stub(x, y):
    return x


def not_a_stub_either(x, y):
    print("hello")


@pytest.mark.parametrize("function", [stub, stub_with_words, stub_pass])
def test_a_stub_is_not_attempted_and_not_counted(toy, function, capsys):
    assert verdict(function).state == "not attempted"
    grader.grade("toy.double", function)
    assert capsys.readouterr().out.startswith("Double it: not attempted")
    assert progress.read()["exercises"] == {}


@pytest.mark.parametrize("function", [not_a_stub, not_a_stub_either])
def test_what_does_something_is_no_stub(toy, function):
    assert verdict(function).state == "wrong"


def test_a_stub_that_yields_or_awaits_is_no_stub():
    def generator(x, y):
        if False:
            yield

    async def coroutine(x, y): ...

    assert not trial.untouched(generator) and not trial.untouched(coroutine) and not trial.untouched(torch.mul)


# --- wrong answers -------------------------------------------------------------------------------------


def test_the_first_property_that_breaks_speaks(toy):
    found = verdict(lambda x, y: 3 * x * y)
    assert found.state == "wrong" and found.slip is None
    assert [(r.held, r.message) for r in found.results] == [
        (False, "2 * 1 * 3 is 6; yours is [9]"),
        (False, "the slope must be 2y; yours is [9, -3]"),
    ]


def test_a_known_slip_is_recognised_by_values_and_gradient(toy):
    assert verdict(lambda x, y: y * x).slip.name == "single"
    assert verdict(lambda x, y: (y * x * 2).detach()).slip.name == "cut off"
    plain, html = grader.report(verdict(lambda x, y: (y * x * 2).detach()))
    assert "cut off: The gradient is lost on the way. It has been published, too: nowhere, 2026." in plain
    assert "<b>cut off</b>" in html


def raises(x, y):
    return x @ y.reshape(3, 3)


def raises_nothing_to_say(x, y):
    raise ValueError


def forgets_to_return(x, y):
    z = 2 * x * y  # noqa: F841


def exits(x, y):
    sys.exit(3)


def recursive(x, y):
    return recursive(x, y)


def generator(x, y):
    yield x


async def coroutine(x, y):
    return x


def changes_x(x, y):
    x.data.add_(1)
    return 2 * x * y


def changes_y(x, y):
    y *= 2
    return x * y


def resizes(x, y):
    y.resize_(5)
    return 2 * x


def interrupts_itself(x, y):
    raise KeyboardInterrupt


class Odd(Exception):
    def __str__(self):
        raise self


def raises_something_odd(x, y):
    raise Odd


def raises_a_base_exception(x, y):
    raise asyncio.CancelledError


def asks(x, y):
    return x * float(input("how much? "))


def power(x, y):
    return (x - y) ^ 2


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (raises, r"raised RuntimeError: shape '\[3, 3\]' is invalid .*The line: `return x @ y.reshape\(3, 3\)`"),
        (raises_nothing_to_say, r"raised ValueError\. The line: `raise ValueError`"),
        (exits, "raised SystemExit: 3"),
        (interrupts_itself, "raised KeyboardInterrupt"),
        (raises_something_odd, "raised Odd: an error that cannot even be printed"),
        (raises_a_base_exception, "raised CancelledError"),
        (asks, "raised EOFError"),
        (power, r"In Python a power is `\*\*`"),
        (
            lambda x, y: float("nan") if x else y,
            r"raised RuntimeError: Boolean value.*look at one number|returned a float",
        ),
        (lambda x, y: (2 * x * y).to_sparse(), "ordinary, dense one on the CPU"),
        (lambda x, y: (2 * x * y).to("meta"), "ordinary, dense one on the CPU"),
        (recursive, "raised RecursionError"),
        (forgets_to_return, "returned None: is there a `return`"),
        (generator, "returned a generator"),
        (coroutine, "returned a coroutine"),
        (lambda x, y: 6.0, "returned a float where a tensor"),
        (lambda x, y: (2 * x * y).detach().numpy(), "returned an ndarray"),
        (lambda x, y: (2 * x * y).mean(), "leave `mean` and `sum` to the caller"),
        (lambda x, y: (2 * x * y)[None], "added an axis"),
        (lambda x, y: (2 * x * y).double(), "turned torch.float32 into torch.float64"),
        (lambda x, y: x > y, "torch.bool where real numbers"),
        (lambda x, y: 2j * x, "torch.complex64 where real numbers"),
        (changes_x, r"changes its input `x`: it held \[1\] before the call and \[2\] after"),
        (changes_y, "changes its input `y`"),
        (resizes, "changes its input `y`"),
    ],
)
def test_trouble_becomes_a_sentence(toy, function, said):
    found = verdict(function)
    assert found.state == "wrong" and [r.held for r in found.results] == [None, None]
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(found.message)
    assert "called with `x = [1]`, `y = [3]`" in found.message or "changes" in found.message


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (torch.ones(2), "expected your function itself; got a Tensor"),
        (None, "got a NoneType"),
        ("double", "got a str"),
        (int, "got a class"),
        (lambda x: x, "called as `f\\(x, y\\)`; yours has the parameters `\\(x\\)`"),
        (lambda x, y, z: x, "missing a required argument: 'z'"),
        (lambda *, x, y: x, "too many positional"),
    ],
)
def test_what_cannot_be_tried_is_refused_in_words(toy, answer, said):
    found = verdict(answer)
    assert found.state == "wrong" and found.results == ()
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(found.message)


def test_options_are_asked_for_by_name(toy):
    make("toy.option", options=("scale",))
    found = exercises.judge("toy.option", lambda x, y: x)
    assert "called as `f(x, y, scale=...)`" in found.message
    assert exercises.judge("toy.option", lambda x, y, scale=2: scale * x * y).right


def test_a_function_without_a_signature_can_be_tried(toy):
    assert verdict(torch.mul).slip.name == "single"


def test_odd_values_do_not_break_the_trial(toy):
    assert verdict(lambda x, y: 2 * x * y * float("nan")).state == "wrong"
    assert "nan" in grader.report(verdict(lambda x, y: x * float("nan")))[0]


def test_a_result_that_cannot_be_judged_is_said_to_be_so(toy):
    @toy.requires("odd")
    def _(answer):
        return answer(torch.ones(1), torch.ones(1))[7] and None

    assert "could not be judged: IndexError" in verdict(lambda x, y: 2 * x * y).results[-1].message


def test_a_graph_spoiled_in_place_is_said_to_be_so(toy):
    def spoiled(x, y):
        z = (x * 1.0).exp()
        out = z.log() * 2 * y
        z.add_(1)
        return out

    messages = " ".join(result.message for result in verdict(spoiled).results)
    assert "a tensor was changed in place after it had been used. Make new ones." in messages


# --- time, printing, what is left behind -----------------------------------------------------------------


def forever(x, y):
    while True:
        pass


def asleep(x, y):
    time.sleep(30)


@pytest.mark.parametrize("function", [forever, asleep])
def test_a_hanging_answer_gets_its_verdict_in_time(toy, function):
    began = time.perf_counter()
    found = verdict(function)
    assert "did not finish within 0.4 seconds" in found.message and found.state == "wrong"
    assert time.perf_counter() - began < 5


def test_code_that_catches_everything_is_left_behind_and_the_page_still_prints(toy, capsys):
    let_go = threading.Event()

    def stubborn(x, y):
        while not let_go.is_set():
            with contextlib.suppress(BaseException):
                time.sleep(0.01)
        return x

    out, filters = sys.stdout, list(warnings.filters)
    try:
        assert "did not finish" in verdict(stubborn).message
        assert sys.stdout is out and list(warnings.filters) == filters
        print("still here")
        assert capsys.readouterr().out == "still here\n"
    finally:
        let_go.set()


def test_what_is_left_behind_undoes_nothing_when_it_wakes(toy, capsys):
    woken = threading.Event()

    def sleeper(x, y):
        until = time.monotonic() + 2
        while time.monotonic() < until:
            with contextlib.suppress(BaseException):
                time.sleep(0.01)
        woken.set()
        return x

    assert "did not finish" in verdict(sleeper).message
    out = sys.stdout
    torch.manual_seed(5)
    state = torch.get_rng_state()
    warnings.simplefilter("always", ResourceWarning)
    filters = list(warnings.filters)
    try:
        assert woken.wait(10)
        time.sleep(0.1)
        assert torch.equal(torch.get_rng_state(), state) and sys.stdout is out and list(warnings.filters) == filters
    finally:
        warnings.filters.pop(0)


def test_endless_printing_is_kept_to_a_page(toy, capsys):
    def talks(x, y):
        while True:
            print("y" * 1000)

    found = verdict(talks)
    assert "did not finish" in found.message and len(found.printed) <= trial.Heard.LIMIT
    assert capsys.readouterr() == ("", "")


def test_what_other_threads_print_meanwhile_passes_by(toy, capsys):
    def slow(x, y):
        time.sleep(0.1)
        print("mine")
        return 2 * x * y

    other = threading.Timer(0.05, lambda: print("theirs"))
    other.start()
    found = verdict(slow)
    other.join()
    assert found.right and found.printed.startswith("mine") and "theirs" not in found.printed
    assert capsys.readouterr().out == "theirs\n"


def test_an_answer_may_close_what_it_prints_to(toy, capsys):
    def closes(x, y):
        sys.stdout.close()
        print("still")
        return 2 * x * y

    assert verdict(closes).right
    print("fine")
    assert capsys.readouterr().out == "fine\n"


class Callable2:
    def __call__(self, x, y):
        return 2 * x * y

    def __getattr__(self, name):
        return self


class Signed:
    __signature__ = "nonsense"

    def __call__(self, x, y):
        return 2 * x * y


def looped(x, y):
    return 2 * x * y


looped.__wrapped__ = looped


@functools.wraps(stub)
def dressed_as_a_stub(x, y):
    return 2 * x * y


@pytest.mark.parametrize(
    "answer",
    [
        Callable2(),
        Signed(),
        looped,
        dressed_as_a_stub,
        functools.partial(lambda k, x, y: k * x * y, 2),
        lambda x, y, *rest, **more: 2 * x * y,
    ],
)
def test_odd_callables_that_are_right_are_right(toy, answer):
    assert verdict(answer).right


class Spiteful(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, y):
        return 2 * x * y

    @staticmethod
    def backward(ctx, gradient):
        raise AssertionError


def test_a_gradient_that_raises_is_said_to_be_so(toy):
    (_, slope) = verdict(lambda x, y: Spiteful.apply(x, y)).results
    assert "the gradient in `x` could not be computed: AssertionError" in slope.message


def test_half_a_letter_can_be_shown(toy, capsys):
    def rude(x, y):
        raise ValueError("\ud800")

    grader.grade("toy.double", rude)
    assert "\\ud800" in capsys.readouterr().out


def test_a_property_that_hangs_later_keeps_what_was_found_before(toy):
    def slow_at_two(x, y):
        if x.numel() == 2:
            time.sleep(30)
        return 2 * x * y

    found = verdict(slow_at_two)
    assert [result.held for result in found.results] == [True, None] and "did not finish" in found.message


def test_printing_is_held_back_quoted_and_not_counted_against_anybody(toy, capsys):
    def talks(x, y):
        print("x is", x.item() if x.numel() == 1 else "long")
        print("careful", file=sys.stderr)
        warnings.warn("loud", stacklevel=1)
        return 2 * x * y

    found = verdict(talks)
    assert found.right and found.printed == "x is 1.0\ncareful\nx is long\ncareful"
    assert capsys.readouterr() == ("", "")
    plain, _ = grader.report(found)
    assert (
        "(Your function printed: `x is 1.0 / careful / x is long / careful`. That is not counted against you.)" in plain
    )


def test_a_slip_that_several_mutants_share_is_not_named(toy):
    toy.mutant("product", "it multiplies, and that is all")(lambda x, y: x * y)
    assert verdict(lambda x, y: y * x).slip is None
    assert verdict(lambda x, y: (y * x * 2).detach()).slip.name == "cut off"


def test_an_answer_leaves_no_traces(toy):
    def litters(x, y):
        torch.manual_seed(0)
        torch.set_default_dtype(torch.float64)
        torch.minimum = torch.maximum
        torch.set_num_threads(3)
        torch.use_deterministic_algorithms(True)
        torch.autograd.set_detect_anomaly(True)
        os.chdir("/")
        torch.set_grad_enabled(False)
        return 2 * x * y

    state, minimum, folder, threads = torch.get_rng_state(), torch.minimum, os.getcwd(), torch.get_num_threads()
    verdict(litters)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_default_dtype() == torch.float32 and torch.is_grad_enabled()
    assert torch.minimum is minimum and os.getcwd() == folder and torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled() and not torch.is_anomaly_enabled()


def test_an_interrupt_of_the_reader_comes_through(toy, monkeypatch):
    # Ctrl-C arrives where the reader waits, not in the answer.
    def interrupted(self, timeout=None):
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "join", interrupted)
    monkeypatch.setattr(trial, "_stop", lambda worker: None)
    with pytest.raises(KeyboardInterrupt):
        verdict(lambda x, y: 2 * x * y)


def test_a_time_limit_has_to_be_one():
    for seconds in (0, -1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="positive and finite"):
            trial.within(seconds, lambda: 1)


def test_within_hands_results_and_errors_through():
    assert trial.within(5, lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        trial.within(5, lambda: 1 / 0)


# --- the pieces --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (torch.tensor(0.123456), "0.1235"),
        (torch.tensor([1.0, -2.5]), "[1, -2.5]"),
        (torch.zeros(2, 5), "[0, 0, 0, 0, 0, 0, ...] of shape [2, 5]"),
        (True, "True"),
        (None, "None"),
        (3, "3"),
        (1e-9, "1e-09"),
        (stub, "stub"),
        ({}, "a dict"),
    ],
)
def test_values_in_messages(value, said):
    assert trial.show(value) == said


def test_a_derivative_that_does_not_exist_is_said_to_be_missing():
    x, y = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    with pytest.raises(Broken, match="no gradient flows back to `x`"):
        trial.derivative(x.detach() * 2, x, "x")
    with pytest.raises(Broken, match="does not depend on `x`"):
        trial.derivative(y * 2, x, "x")
    assert torch.equal(trial.derivative(x * x, x, "x"), 2 * x)


def test_an_answer_is_called_under_enabled_gradients_even_where_they_are_off():
    with torch.no_grad():
        assert Answer(lambda x: x * 2)(torch.ones(1, requires_grad=True)).requires_grad


def test_not_a_number_among_the_inputs_is_no_change():
    assert torch.equal(Answer(lambda x: torch.ones(1))(torch.tensor([float("nan")])), torch.ones(1))
    with pytest.raises(Trouble, match="argument 1"):
        Answer(lambda x: x.add_(1))(torch.zeros(1))


# --- the matrix ----------------------------------------------------------------------------------------


def test_the_matrix_names_who_kills_whom(toy):
    found = exercises.matrix("toy.double")
    assert found.kills == {"single": ("value by hand", "slope in x"), "cut off": ("slope in x",)}
    assert found.accepted == ("solution", "sum of two") and found.refused == {}
    assert found.complete and found.survivors == []
    rows = [line.split() for line in str(found).splitlines()]
    assert (
        ["single", "x", "x"] in rows and ["cut", "off", ".", "x"] in rows and ["solution", ".", ".", "passes"] in rows
    )


def test_a_surviving_mutant_a_refused_answer_and_an_idle_property_are_seen(toy):
    toy.mutant("nearly", "right after all")(lambda x, y: 2 * x * y)
    toy.accepts("wrong")(lambda x, y: x)
    found = exercises.matrix("toy.double")
    assert found.survivors == ["nearly"] and "value by hand: 2 * 1 * 3 is 6" in found.refused["wrong"]
    assert not found.complete and "SURVIVES" in str(found) and "REFUSED" in str(found)


def test_an_idle_property_makes_a_matrix_incomplete(toy):
    assert exercises.matrix("toy.double").complete
    toy.requires("idle")(lambda answer: None)
    assert not exercises.matrix("toy.double").complete


def test_a_hanging_mutant_is_killed_by_the_clock(toy):
    toy.mutant("endless", "it never ends")(forever)
    assert exercises.matrix("toy.double").kills["endless"] == ("value by hand", "slope in x")


# --- what the learner sees -----------------------------------------------------------------------------


def test_cards_hints_and_solutions_in_a_shell(toy, capsys):
    grader.card("toy.double")
    assert capsys.readouterr().out == (
        "Exercise · difficulty 1 of 5 · about 2 min\nDouble it\n\nWrite `double(x, y)`.\n"
    )
    for said in ("Hint 1 of 3: Double it\nLook.\n", "Hint 2 of 3: Double it\nLook again.\n"):
        grader.hint("toy.double")
        assert capsys.readouterr().out == said
    assert progress.read()["exercises"]["toy.double"]["hints"] == 2
    grader.solution("toy.double")
    assert SOLUTION in capsys.readouterr().out
    assert progress.read()["exercises"]["toy.double"]["solution"] is True
    for number in (0, 4, True, "1"):
        with pytest.raises(ValueError, match="from 1 to 3"):
            grader.hint("toy.double", number)


def test_tries_are_counted_and_done_is_kept(toy, capsys):
    grader.grade("toy.double", lambda x, y: x)
    entry = progress.read()["exercises"]["toy.double"]
    assert entry["tries"] == 1 and entry["done"] is None
    grader.grade("toy.double", lambda x, y: 2 * x * y)
    grader.grade("toy.double", lambda x, y: x)
    entry = progress.read()["exercises"]["toy.double"]
    assert entry["tries"] == 2 and entry["done"] is not None  # what comes after the first success is no try
    assert "Double it: right. All 2 properties hold." in capsys.readouterr().out


def test_a_verdict_in_words(toy):
    plain, html = grader.report(verdict(lambda x, y: 3 * x * y))
    assert plain == (
        "Double it: not yet.\n"
        "  ✗ breaks: value by hand\n"
        "    2 * 1 * 3 is 6; yours is [9].\n"
        "  ✗ breaks: slope in x\n"
        "  Begin with the first that breaks: the other one may mend with it."
    )
    assert html.startswith("<div") and html.count("<div") == html.count("</div>") and "yours is [9]" in html
    plain, html = grader.report(verdict(lambda x, y: 2 * x * y))
    assert plain.endswith("Doubling is useful.") and "<b>useful</b>" in html


def test_a_learners_text_cannot_become_markup(toy):
    def rude(x, y):
        raise ValueError("<script>alert(1)</script> `a` **b**")

    _, html = grader.report(verdict(rude))
    assert "<script>" not in html and "&lt;script&gt;" in html


class Kernel:
    """What cards look for, and ipywidgets without a comm."""

    kernel = object()


@pytest.fixture
def kernel(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.get_ipython", Kernel)
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    return shown


def test_in_a_notebook_hints_unfold_in_order_and_are_remembered(toy, kernel, monkeypatch):
    boxes = []
    real = grader._unfolding
    monkeypatch.setattr(grader, "_unfolding", lambda *args, **more: boxes.append(real(*args, **more)) or boxes[-1])
    grader.hint("toy.double")
    data, form = kernel
    assert data["text/html"].count("<details") == 3 and "Multiply by 2." in data["text/html"]
    assert cards.WIDGET_VIEW in form and "text/html" not in form and "Multiply" not in data["text/plain"]
    first, second, third = (row.children[0] for row in boxes[0].children)
    assert not first.disabled and second.disabled and third.disabled
    assert progress.read()["exercises"] == {}
    first.value = True
    assert "Look." in boxes[0].children[0].children[1].value and not second.disabled and third.disabled
    second.value = True
    assert progress.read()["exercises"]["toy.double"]["hints"] == 2
    second.value = False
    assert boxes[0].children[1].children[1].value == ""
    grader.hint("toy.double")  # run again: what was seen can be opened at once, and the one after it
    assert [row.children[0].disabled for row in boxes[1].children] == [False, False, False]
    assert boxes[1].children[0].children[1].value == ""


def test_in_a_notebook_the_solution_counts_when_it_is_opened(toy, kernel, monkeypatch):
    boxes = []
    real = grader._unfolding
    monkeypatch.setattr(grader, "_unfolding", lambda *args, **more: boxes.append(real(*args, **more)) or boxes[-1])
    grader.solution("toy.double")
    assert "return 2 * x * y" in kernel[0]["text/html"] and progress.read()["exercises"] == {}
    boxes[0].children[0].children[0].value = True
    assert progress.read()["exercises"]["toy.double"]["solution"] is True


# --- cards -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("a\n\nb", ["<p", ">a</p>", ">b</p>"]),
        ("a:\n- one\n- two\n  more", [">a:</p>", ">one</li>", ">two more</li>"]),
        ("`x < 1` and **so** *on*", ["x &lt; 1</code>", "<b>so</b>", "<i>on</i>"]),
        ("2 * 3 * 4", ["2 * 3 * 4"]),
        ("`a * b * c`", ["a * b * c</code>"]),
        ("one ` tick", ["one ` tick"]),
        ("```python\nx = [1]\n\ny\n```\nafter", ["<pre", "x = [1]\n\ny</pre>", ">after</p>"]),
        ("<b>no</b>", ["&lt;b&gt;no&lt;/b&gt;"]),
    ],
)
def test_the_small_markup(text, inside):
    found = cards.to_html(text)
    position = 0
    for piece in inside:
        position = found.index(piece, position)
    assert "<b>no" not in found


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("**bold** and *slanted*", "bold and slanted"),
        ("`a ** b ** c` and 2 ** 3 ** 4", "`a ** b ** c` and 2 ** 3 ** 4"),
        ("```\nx *= 2 * y\n```\nthen **so**", "```\nx *= 2 * y\n```\nthen so"),
        ("a * b * c, **not** `**this**`", "a * b * c, not `**this**`"),
    ],
)
def test_plain_text_carries_no_marks_but_those_of_code(text, plain):
    assert cards.to_plain(text) == plain


def test_addresses_become_links_and_keep_their_stops():
    found = cards.to_html("See https://example.org/a_b/1. And `https://example.org/no`, (https://example.org/c).")
    assert found.count("<a ") == 2 and 'href="https://example.org/a_b/1"' in found and ">example.org/c</a>)" in found


def test_a_live_form_comes_after_the_card_and_hides_it(kernel):
    import ipywidgets

    form = ipywidgets.Button(description="press")
    cards.put("plain", "<p>card</p>", form)
    card, live = kernel
    assert card == {"text/plain": "plain", "text/html": "<p>card</p>"} and set(live) == {
        "text/plain",
        cards.WIDGET_VIEW,
    }
    model = ipywidgets.widget_serialization["from_json"](f"IPY_MODEL_{live[cards.WIDGET_VIEW]['model_id']}", None)
    hides, keys, shown = model.children
    assert "pocourse-live" in model._dom_classes and shown is form and hides.layout.display == "none"
    assert ".pocourse-live) {display: none}" in hides.value
    # JupyterLab leaves the arrow keys and letters to the fields of a form.
    assert "data-lm-suppress-shortcuts" in keys.outputs[0]["data"]["text/html"] and keys.layout.display == "none"


def test_a_card_knows_its_tones():
    assert "a &lt; b" in cards.card("a < b", "<p>body</p>", kicker="k & k") and "k &amp; k" in cards.card(
        "", "", kicker="k & k"
    )
    with pytest.raises(ValueError, match="tone"):
        cards.card("a", "", tone="green")


def test_what_a_card_puts_in_a_notebook_depends_on_no_object(kernel):
    cards.put("plain", "<p>html</p>")
    assert kernel == [{"text/plain": "plain", "text/html": "<p>html</p>"}]


def test_the_course_machinery_is_typed_as_it_says():
    assert isinstance(exercises.registry(), dict) and inspect.signature(exercises.judge).parameters.keys() == {
        "id",
        "function",
    }
    assert isinstance(trial.tensor_like(), types.FunctionType)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the mean of all", "The mean of all."),
        ("a sample is lost!", "A sample is lost!"),
        ("σ stands above", "σ stands above."),
        ("f(θ) is no mean of the batch", "f(θ) is no mean of the batch."),
        ("mean(x r) is meant", "mean(x r) is meant."),
        ("ξ squared (twice)", "ξ squared (twice)"),
    ],
)
def test_a_sentence_begins_with_a_capital_where_it_begins_with_a_word(text, expected):
    assert grader._sentence(text) == expected
