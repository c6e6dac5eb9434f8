"""Benches: cells in which the reader changes something and Python computes what follows from it.

What a bench shows comes from the kernel, not from the page. So it computes one thing at a time,
says that it does, and tells in words what is wrong with what it was given.
"""

import ast
import asyncio
import builtins
import html
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import ipywidgets

from pocourse.lesson import cards, question_boxes, trial
from pocourse.lesson.trial import Broken, Trouble

PAUSE_S, AT_MOST_S = 0.05, 0.5
_STYLE = f"""<style>
.pocourse-bench .widget-dropdown, .pocourse-bench .widget-text {{width: auto; margin: 2px 0}}
.pocourse-bench .widget-label {{color: {cards.INK}; font-size: 14px}}
.pocourse-bench select, .pocourse-bench input[type=text] {{background-color: #ffffff; color: {cards.INK};
  border: 1px solid {cards.FAINT}; font-size: 14px}}
.pocourse-bench select:focus-visible {{outline: 2px solid #0072b2; outline-offset: 2px}}
.pocourse-bench .pocourse-code input[type=text] {{font-family: ui-monospace, SFMono-Regular, Menlo, Consolas,
  monospace}}
.pocourse-bench .pocourse-code .widget-label {{min-width: fit-content}}
.pocourse-bench .pocourse-bar {{gap: 4px 12px}}
.pocourse-busy {{display: inline-block; width: 10px; height: 10px; margin-right: 7px; border-radius: 50%;
  border: 2px solid #0072b2; border-right-color: transparent; animation: pocourse-turn 0.8s linear infinite}}
@keyframes pocourse-turn {{to {{transform: rotate(360deg)}}}}
@media (prefers-reduced-motion: reduce) {{.pocourse-busy {{animation: none; border-right-color: #0072b2}}}}
</style>"""


# ---------------------------------------------------------------- one at a time


class OneAtATime:
    """Work that may be asked for faster than it is done: never two at once, and of what waits only the latest.

    ``ask`` returns at once where an event loop runs, as in a notebook's kernel: what was asked for is taken up after
    a pause of ``pause_s`` without further wishes, or after ``at_most_s`` at the latest. Without a loop it is done
    before ``ask`` returns. The work runs in the main thread, where it cannot disturb a cell that runs beside it.
    """

    def __init__(self, work: Callable[[Any], None], *, pause_s: float = PAUSE_S, at_most_s: float = AT_MOST_S):
        self._work, self._pause_s, self._at_most_s = work, pause_s, at_most_s
        self._waiting: list = []  # never more than one
        self._running, self._timer, self._since = False, None, 0.0

    @property
    def busy(self) -> bool:
        """Whether something is being done or waits."""
        return self._running or bool(self._waiting)

    def ask(self, wanted) -> None:
        """Want something: as soon as may be, in place of what waits already."""
        if not self._waiting:
            self._since = time.monotonic()
        self._waiting = [wanted]
        if self._running:
            return  # whoever runs looks again afterwards
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._run()
            return
        if self._timer is not None:
            self._timer.cancel()
        left = self._since + self._at_most_s - time.monotonic()
        self._timer = loop.call_later(max(0.0, min(self._pause_s, left)), self._run)

    def now(self, wanted) -> None:
        """Have something done before this returns; what waited is dropped."""
        if self._timer is not None:
            self._timer.cancel()
        self._waiting = [wanted]
        if not self._running:
            self._run()

    def _run(self) -> None:
        self._timer, self._running = None, True
        try:
            while self._waiting:
                self._work(self._waiting.pop())
        finally:
            self._running = False


# ---------------------------------------------------------------- what the reader sees


class Bench:
    """How a bench works and what it says: a line on how things stand, and a message where something is wrong.

    ``compute(wanted)`` returns a result or raises Trouble or Broken, whose sentences are shown. ``show(result)``
    brings the result to the page and returns a sentence about it. ``busy(wanted)`` says what is being done, and
    ``still()`` what the page goes on showing after a failure.
    """

    def __init__(
        self,
        compute: Callable[[Any], Any],
        show: Callable[[Any], str],
        *,
        busy: Callable[[Any], str] = lambda wanted: "Computing ...",
        still: Callable[[], str] = lambda: "",
    ):
        self._compute, self._show, self._busy, self._still = compute, show, busy, still
        self.status, self.message = ipywidgets.HTML(_stands("")), ipywidgets.HTML("")
        self.message.layout.display = "none"
        self.computed = 0  # how often it has computed, failures included
        self._one = OneAtATime(self._work)

    def ask(self, wanted) -> None:
        """Compute this next, and say at once that it is being done."""
        self.status.value = _stands(self._busy(wanted), busy=True)
        self._one.ask(wanted)

    def now(self, wanted) -> None:
        """Compute this before going on, as the cell does when it is run."""
        self._one.now(wanted)

    def _work(self, wanted) -> None:
        self.status.value = _stands(self._busy(wanted), busy=True)
        self.computed += 1
        started = time.perf_counter()
        try:
            said = self._show(self._compute(wanted))
        except Exception as error:
            self._refuse(in_words(error))
            return
        self._tell("")
        self.status.value = _stands(f"{said} ({time.perf_counter() - started:.1f} s)", tone="good")

    def _refuse(self, sentence: str) -> None:
        still = self._still()
        self._tell(cards.card("This does not work yet", cards.to_html(f"{sentence}\n\n{still}"), tone="bad"))
        self.status.value = _stands("Not computed: see the message.", tone="bad")

    def _tell(self, page: str) -> None:
        self.message.value = f'<div role="alert">{page}</div>' if page else ""
        self.message.layout.display = "" if page else "none"


def form(children: Sequence[ipywidgets.Widget]) -> ipywidgets.VBox:
    """Fields and what a bench says, one below the other on a card that is light on a dark page too."""
    style = ipywidgets.HTML(_STYLE, layout={"display": "none"})
    box = ipywidgets.VBox([style, *children], layout={"overflow": "visible"})
    box.add_class("pocourse-ask")
    box.add_class("pocourse-bench")
    return question_boxes.stacked([box])


def bar(children: Sequence[ipywidgets.Widget]) -> ipywidgets.HBox:
    """Fields beside each other, wrapped where the page is narrow."""
    box = ipywidgets.HBox(children)
    box.add_class("pocourse-bar")
    return box


def _stands(said: str, *, busy: bool = False, tone: str | None = None) -> str:
    colour = cards.TONES[tone][0] if tone else cards.INK
    turning = '<span class="pocourse-busy" aria-hidden="true"></span>' if busy else ""
    state = "busy" if busy else "failed" if tone == "bad" else "done"
    return (
        f'<div role="status" aria-live="polite" data-bench-state="{state}" style="color:{colour};font-weight:bold">'
        f"{turning}{html.escape(said)}</div>"
    )


def in_words(error: Exception) -> str:
    """What went wrong with a reader's code, as sentences in the markup of cards."""
    if isinstance(error, Broken):
        said = str(error)
        return said[:1].upper() + said[1:]
    if isinstance(error, Trouble):
        return str(error).replace("Your function", "Your code")
    said = trial.in_words(error)
    return f"It stopped with {type(error).__name__}{f': {said}' if said else ''}."


# ---------------------------------------------------------------- a line of code


def expression(text: str, parameters: Sequence[str], scope: Mapping[str, object]) -> Callable:
    """A function of ``parameters`` out of one line of Python, which sees them, ``scope`` and Python's own functions.

    Raises: Trouble, with a sentence, for a line that is empty, is no expression, or uses other names.
    """
    names = [*parameters, *scope]
    offered = f"{', '.join(f'`{name}`' for name in names[:-1])} and `{names[-1]}`"
    text = text.strip()
    if not text:
        raise Trouble(f"The line is empty. Write one expression; in it there are {offered}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text, mode="eval")
            foreign = sorted(_foreign(tree) - set(names) - set(dir(builtins)))
            if foreign:
                raise Trouble(f"{_unknown(foreign, scope)} The bench only knows {offered}.")
            arguments = [ast.arg(name) for name in parameters]
            signature = ast.arguments(posonlyargs=[], args=arguments, kwonlyargs=[], kw_defaults=[], defaults=[])
            tree.body = ast.Lambda(signature, tree.body)
            code = compile(ast.fix_missing_locations(tree), "<your line>", "eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Trouble(_no_expression(text, error)) from None
    return eval(code, dict(scope))


def _foreign(tree: ast.AST) -> set[str]:
    """Names that are read and bound nowhere in the line itself."""
    named = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    bound = {node.id for node in named if isinstance(node.ctx, ast.Store)}
    bound |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    return {node.id for node in named if isinstance(node.ctx, ast.Load)} - bound


def _unknown(names: Sequence[str], scope: Mapping[str, object]) -> str:
    """Which names a line should not use, and what they are called where they exist."""
    said = f"Your line uses {' and '.join(f'`{name}`' for name in names)}."
    modules = {name: value for name, value in scope.items() if isinstance(value, ModuleType)}
    homes = {name: home for name in names for home, module in reversed(modules.items()) if hasattr(module, name)}
    return said + "".join(f" Write `{home}.{name}`." for name, home in homes.items())


def _no_expression(text: str, error: Exception) -> str:
    """Where and why a line is no expression of Python."""
    reason = (getattr(error, "msg", None) or str(error) or type(error).__name__).rstrip(".")
    where = ""
    if isinstance(error, SyntaxError) and error.lineno == 1:
        before = text[: max(error.offset or 0, 1) - 1]
        after = f", after `{before[-30:].strip()}`" if before.strip() and "`" not in before else ""
        where = f", at character {error.offset}{after}" if error.offset else ", at its end"
    return (
        f"Python cannot read this line as one value: {reason}{where}. "
        "Write an expression, without `=` and without `return`."
    )
