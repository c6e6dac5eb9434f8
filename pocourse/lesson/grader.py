"""What a learner meets of an exercise: its card, its hints, its solution, and the verdict on an answer.

Each shows a card in a notebook and plain text in a shell. Verdicts, hints and solutions looked at go
to the reader's progress file.
"""

import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from pocourse.lesson import cards, exercises, progress, trial
from pocourse.lesson.exercises import Verdict
from pocourse.lesson.trial import Trouble

_MARKS = {True: ("holds", "✓"), False: ("breaks", "✗"), None: ("not looked at", "·")}
_PRINTED = 200  # characters of what an answer printed


def card(id: str) -> None:
    """Show what an exercise asks for. Raises: ValueError for an unknown id."""
    found = exercises.find(id)
    kicker = f"Exercise · difficulty {found.difficulty} of 5 · about {found.minutes} min"
    plain = f"{kicker}\n{found.title}\n\n{cards.to_plain(found.task)}"
    cards.put(plain, cards.card(found.title, cards.to_html(found.task), kicker=kicker))


def grade(id: str, answer: Callable) -> None:
    """Put an answer on trial and show the verdict. Whatever the answer does, no error comes out of here.

    An untouched stub is "not attempted", and is not counted as a try.
    Raises: ValueError for an unknown id.
    """
    verdict = exercises.judge(id, answer)
    if verdict.state != "not attempted":
        progress.record_try(id, verdict.right)
    cards.put(*report(verdict))


def grade_file(id: str, path: str | Path) -> bool:
    """Grade the function of the stub's name that a Python file defines; whether it is right.

    The file is run as it stands, under the time limit; what is wrong with it is said in a sentence.
    Raises: ValueError for an unknown id.
    """
    found = exercises.find(id)
    path = Path(path)
    verdict = None
    try:
        source = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        verdict = Verdict(id, "wrong", message=f"expected a Python file in UTF-8; {path} cannot be read: {error}")
    else:
        try:
            answer = trial.within(found.limit_s, lambda: _defined(source, found.name, path))
        except Trouble as trouble:
            verdict = Verdict(id, "wrong", message=str(trouble))
    if verdict is None:
        verdict = exercises.judge(id, answer)
        if verdict.state != "not attempted":
            progress.record_try(id, verdict.right)
    cards.put(*report(verdict))
    return verdict.right


def _defined(source: str, name: str, path: Path) -> Callable:
    """The function of this name in a learner's file. Raises: Trouble in place of whatever else may happen."""
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)  # it may import what lies beside it
    try:
        space = exercises.run_source(source, str(path))
    except trial.Stop:
        raise
    except SyntaxError as error:
        raise Trouble(f"The file {path} is not Python: {error.msg} in line {error.lineno}.") from None
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        line = next((frame.lineno for frame in reversed(frames) if frame.filename == str(path)), "?")
        said = trial.in_words(error)
        stopped = f"{type(error).__name__}{f': {said}' if said else ''}"
        raise Trouble(f"The file {path} stopped in line {line} with {stopped}.") from None
    finally:
        if folder in sys.path:
            sys.path.remove(folder)
    if name not in space:
        raise Trouble(f"expected a function named `{name}` in {path}; there is none. Take the first line of the stub.")
    return space[name]


def hint(id: str, number: int | None = None) -> None:
    """Show the hints of an exercise, folded and in order; with a number, that one at once.

    In a shell the hint after the last one seen is printed.
    Raises: ValueError for an unknown id or number.
    """
    found = exercises.find(id)
    count = len(found.hints)
    if number is not None and (isinstance(number, bool) or number not in range(1, count + 1)):
        raise ValueError(f"expected a hint from 1 to {count}; got {number!r}. Begin with 1.")
    if number is None and not cards.in_kernel():
        number = min(_seen(id) + 1, count)
    if number is not None:
        progress.record_hint(id, number)
        said = f"Hint {number} of {count}: {found.title}"
        text = found.hints[number - 1]
        cards.put(f"{said}\n{cards.to_plain(text)}", cards.card(said, cards.to_html(text)))
        return
    pieces = [(f"Hint {i}", cards.to_html(text)) for i, text in enumerate(found.hints, 1)]
    cards.put(
        f"{count} hints: hint({id!r}, 1) shows the first.",
        "".join(cards.folded(*piece) for piece in pieces),
        _unfolding(pieces, lambda i: progress.record_hint(id, i + 1), seen=_seen(id)),
    )


def _seen(id: str) -> int:
    """How many hints the reader has seen."""
    return progress.read()["exercises"].get(id, {}).get("hints", 0)


def solution(id: str) -> None:
    """Show one right answer and what it is good for, folded in a notebook. Raises: ValueError for an unknown id."""
    found = exercises.find(id)
    body = cards.code_block(found.solution) + cards.to_html(found.after)
    plain = f"One right answer to {found.title}:\n\n{found.solution}\n\n{cards.to_plain(found.after)}"
    if not cards.in_kernel():
        progress.record_solution(id)
        print(plain)
        return
    pieces = [("A solution", body)]
    cards.put(plain, cards.folded(*pieces[0]), _unfolding(pieces, lambda _: progress.record_solution(id)))


def _unfolding(pieces: list[tuple[str, str]], opened: Callable[[int], None], seen: int = 0):
    """Buttons that open one piece after the other and say which was opened; None without a kernel.

    The first ``seen`` were opened before, and the one after them can be opened next.
    """
    if not cards.in_kernel():
        return None
    import ipywidgets as widgets

    rows: list[widgets.VBox] = []
    for index, (summary, body) in enumerate(pieces):
        button = widgets.ToggleButton(
            description=summary, icon="", disabled=index > seen, layout=widgets.Layout(width="140px")
        )
        shown = widgets.HTML()

        def switch(change, index=index, body=body, shown=shown):
            shown.value = f'<div style="max-width:820px;line-height:1.5">{body}</div>' if change["new"] else ""
            if change["new"]:
                opened(index)
                if index + 1 < len(rows):
                    rows[index + 1].children[0].disabled = False

        button.observe(switch, names="value")
        rows.append(widgets.VBox([button, shown]))
    return widgets.VBox(rows)


# ---------------------------------------------------------------- verdicts in words


def report(verdict: Verdict) -> tuple[str, str]:
    """A verdict as plain text and as HTML, the same on every machine for the same answer."""
    found = exercises.find(verdict.exercise)
    if verdict.state == "not attempted":
        title = f"{found.title}: not attempted"
        said = "Put your code in the place of `...`, run it, and grade it again."
        return f"{title}. {said}", cards.card(title, cards.to_html(said))
    lines, body = _properties(verdict)
    if verdict.right:
        count = len(found.properties)
        title = f"{found.title}: right. All {count} properties hold."
        texts = [found.after]
    else:
        title = f"{found.title}: not yet."
        texts = [_sentence(verdict.message)] if verdict.message else []
        texts += [_known(verdict)] if verdict.slip else []
    texts += [_aside(verdict)] if verdict.printed else []
    words = "".join(cards.to_html(text) for text in texts)
    said = cards.to_plain("\n\n".join(texts)).splitlines()
    if verdict.message:  # what kept the answer from being judged comes before the list
        plain, body = [title, *said, *([""] if lines else []), *lines], words + body
    else:
        plain, body = [title, *lines, *([""] if said else []), *said], body + words
    return "\n".join(plain), cards.card(title, body, tone="good" if verdict.right else "bad")


def _properties(verdict: Verdict) -> tuple[list[str], str]:
    """One line a property. The first that breaks says why; the next ones may mend with it."""
    lines, items, explained = [], [], False
    for result in verdict.results:
        word, mark = _MARKS[result.held]
        line = f"{mark} {word}: {result.property}"
        item = f"{mark} <b>{word}</b>: {cards.inline(result.property)}"
        if result.held is False and not explained:
            explained = True
            line += f"\n    {cards.to_plain(_sentence(result.message))}"
            item += cards.to_html(_sentence(result.message))
        lines.append(f"  {line}")
        items.append(f'<div style="margin:2px 0">{item}</div>')
    broken = sum(result.held is False for result in verdict.results)
    if broken > 1:
        others = "the other one" if broken == 2 else f"the other {broken - 1}"
        more = f"Begin with the first that breaks: {others} may mend with it."
        lines.append(f"  {more}")
        items.append(cards.to_html(more))
    return lines, "".join(items)


def _known(verdict: Verdict) -> str:
    slip = verdict.slip
    seen = f" It has been published, too: {slip.citation}." if slip.citation else ""
    name = slip.name.replace("_", " ")
    return f"On all our probes your answer does what a known slip does, **{name}**: {_sentence(slip.reason)}{seen}"


def _aside(verdict: Verdict) -> str:
    printed = " / ".join(verdict.printed.splitlines())
    printed = printed[:_PRINTED] + ("..." if len(printed) > _PRINTED else "")
    return f"(Your function printed: `{printed.replace('`', '´')}`. That is not counted against you.)"


def _sentence(text: str) -> str:
    """With a capital where it begins with a word (f and σ are no words: F and Σ mean something else), and a stop."""
    text = text.strip()
    if re.match(r"(a|[a-z]{2,})[ ,:;]", text):
        text = text[0].upper() + text[1:]
    return text + ("" if text.endswith((".", "!", "?", ")")) else ".")
