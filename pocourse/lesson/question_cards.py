"""Questions and predictions as a reader meets them: ``quiz``, ``predict``, ``compare``.

In a live notebook they are small forms; on a page without a kernel, cards that unfold; in a
terminal, plain text. What is stored in a notebook is the same for every reader: answers and
predictions are kept in the reader's own file and appear in the live form only.
"""

import html
import textwrap

from pocourse.lesson import cards
from pocourse.lesson.questions import (
    Answer,
    Choice,
    Prediction,
    Question,
    allowed,
    explained,
    find_prediction,
    find_question,
    how_far,
    html_read_up,
    in_words,
    judge,
    keep,
    kept,
    quoted,
    registry,
    verdict,
)

# --- showing and answering ------------------------------------------------------------------------


def quiz(id: str, *chosen: str) -> None:
    """Show a question, or answer it: ``quiz(id)`` asks, ``quiz(id, "b")`` and ``quiz(id, "a", "c")`` answer.

    One or several choices may be right. Answers are kept in the reader's own file.
    Raises: ValueError for an unknown question, or for a letter that is none of its choices.
    """
    asked = find_question(id)
    if not chosen:
        _put([asked], [_kicker(asked)])
        return
    answer = judge(asked, chosen)
    from pocourse.lesson import progress

    progress.record_answer(asked.id, list(answer.chosen), answer.right)
    cards.put(_plain_judged(asked, answer), _html_judged(asked, answer))


def entry_check(chapter: str) -> None:
    """Show what a chapter takes for granted, as questions, each with a place to read up."""
    _put_all(chapter, "entry", "Entry check")


def chapter_quiz(chapter: str) -> None:
    """Show all questions on a chapter, in the order of its sections."""
    _put_all(chapter, "quiz", "Quiz")


def _put_all(chapter: str, kind: str, title: str) -> None:
    asked = [each for each in registry().values() if each.chapter == chapter and each.kind == kind]
    if not asked:
        known = dict.fromkeys(each.chapter for each in registry().values() if each.kind == kind)
        raise ValueError(
            f"expected a chapter with questions of this kind; got {chapter!r}. Import its questions first, as in "
            f"`import pocourse.ratio_clipping.quiz`; known are: {', '.join(known) or 'none'}."
        )
    _put(asked, [f"{title}, {number} of {len(asked)}{_where(each)}" for number, each in enumerate(asked, 1)])


def _put(asked: list[Question], kickers: list[str]) -> None:
    """All the questions as one output."""
    pairs = list(zip(asked, kickers, strict=True))
    widget = None
    if cards.in_kernel():
        from pocourse.lesson import question_boxes

        widget = question_boxes.stacked([question_boxes.question_box(each, kicker) for each, kicker in pairs])
    plain = "\n\n\n".join(_plain(each, kicker) for each, kicker in pairs)
    cards.put(plain, "".join(_html(each, kicker) for each, kicker in pairs), widget)


def _where(asked: Question | Prediction) -> str:
    needed = "needed in " if getattr(asked, "kind", "") == "entry" else ""
    return f" · {needed}{'section ' if asked.section.isdigit() else ''}{asked.section}"


def _kicker(asked: Question) -> str:
    return ("Entry check" if asked.kind == "entry" else "Quiz") + _where(asked)


def _fill(text: str, first: str, then: str) -> str:
    return textwrap.fill(" ".join(cards.to_plain(text).split()), 96, initial_indent=first, subsequent_indent=then)


def _plain(asked: Question, kicker: str) -> str:
    """The question for a terminal: nothing in it gives an answer away."""
    choices = [_fill(choice.text, f"  {letter}) ", "     ") for letter, choice in asked.lettered.items()]
    how = f'To answer: quiz("{asked.id}", "a"). One or several may be right: quiz("{asked.id}", "a", "b").'
    read_up = [f"To read up: {_plain_read_up(asked)}"] if asked.read_up else []
    return "\n".join([kicker, cards.to_plain(asked.text), "", *choices, "", how, *read_up])


def _plain_judged(asked: Question, answer: Answer) -> str:
    lines = [_kicker(asked), cards.to_plain(asked.text), ""]
    for letter, choice in asked.lettered.items():
        lines.append(_fill(choice.text, f"{'>' if letter in answer.chosen else ' '} {letter}) ", "     "))
        if letter in answer.chosen:
            lines.append(_fill(f"{verdict(choice)} {choice.why}", "     ", "     "))
    read_up = [f"To read up: {_plain_read_up(asked)}"] if asked.read_up and not answer.right else []
    return "\n".join([*lines, "", f"{', '.join(answer.chosen)}: {answer.said}", *read_up])


def _plain_read_up(asked: Question) -> str:
    return asked.read_up if isinstance(asked.read_up, str) else ", ".join(asked.read_up)


_NOTE = '<p style="margin:8px 0 2px 0;color:#5b6068;font-size:0.93em">{}</p>'
_ROW = '<div style="border-top:1px solid #dedbd2;padding:6px 0">{}</div>'
_LETTER = '<b style="display:inline-block;min-width:1.2em">{}</b>'


def _unfolds(letter: str, choice: Choice) -> str:
    """A choice that opens to its explanation when it is clicked."""
    return _ROW.format(
        f'<details><summary style="cursor:pointer">{_LETTER.format(letter)}{cards.inline(choice.text)}</summary>'
        f'<div style="padding:2px 0 2px 34px">{explained(choice)}</div></details>'
    )


def _html(asked: Question, kicker: str) -> str:
    """The question for a page without a kernel: every choice unfolds to its explanation."""
    rows = "".join(_unfolds(letter, choice) for letter, choice in asked.lettered.items())
    note = _NOTE.format("One or several may be right. Make up your mind first; a click on a choice explains it.")
    return _question_card(asked, kicker, rows + note + html_read_up(asked))


def _html_judged(asked: Question, answer: Answer) -> str:
    rows = [
        _ROW.format(
            f'<div style="padding-left:16px">{_LETTER.format(letter)}{cards.inline(choice.text)}</div>'
            f'<div style="padding:2px 0 2px 34px">{explained(choice)}</div>'
        )
        for letter, choice in asked.lettered.items()
        if letter in answer.chosen
    ]
    rest = [(letter, choice) for letter, choice in asked.lettered.items() if letter not in answer.chosen]
    others = cards.folded("The other choices", "".join(_unfolds(*pair) for pair in rest)) if rest else ""
    said = f'<p style="margin:6px 0"><b>{html.escape(answer.said)}</b></p>'
    read_up = "" if answer.right else html_read_up(asked)
    tone = "good" if answer.right else "bad"
    return _question_card(asked, _kicker(asked), "".join(rows) + said + others + read_up, tone)


def _question_card(asked: Question | Prediction, kicker: str, body: str, tone: str = "plain") -> str:
    """The question stands as text and not as a title: it may be long."""
    text = f'<div style="margin:2px 0 8px 0">{cards.to_html(asked.text)}</div>'
    return cards.card("", text + body, tone=tone, kicker=kicker)


# --- predictions ----------------------------------------------------------------------------------


def predict(id: str, value: float | str | None = None) -> None:
    """Ask for a prediction, or keep one: ``predict(id, 0.3)``, or ``predict(id, "b")`` where there are choices.

    Raises: ValueError for an unknown prediction, or for a value that it does not allow.
    """
    asked = find_prediction(id)
    kicker = "Prediction" + _where(asked)
    if value is None:
        widget = None
        if cards.in_kernel():
            from pocourse.lesson import question_boxes

            widget = question_boxes.stacked([question_boxes.prediction_box(asked, kicker)])
        cards.put(_plain_prediction(asked, kicker), _html_prediction(asked, kicker), widget)
        return
    value = allowed(asked, value)
    keep(asked, value)
    said = f"Kept: {quoted(asked, value)}. It is shown again beside the result."
    body = f'<p style="margin:6px 0"><b>{html.escape(said)}</b></p>'
    cards.put(f"{kicker}\n{asked.text}\n\n{said}", _question_card(asked, kicker, body))


def compare(id: str, measured: float | str, said: str = "") -> None:
    """Show a prediction again beside what was measured, and in plain words how far off it was.

    ``measured`` is a number, or for choices without ranges the letter or the words of one. ``said`` may add what was
    measured, or how.
    Raises: ValueError for an unknown prediction, or for a result that is no number and none of the choices.
    """
    asked = find_prediction(id)
    result, choice = in_words(asked, measured)
    before = kept(asked)
    found = f"Measured: {result}{f' ({said})' if said else ''}."
    if before is None:
        tone, sentences = "plain", [found, "There is no prediction of yours to set beside it."]
    else:
        if asked.answer == "number":
            close, judged = how_far(before, float(measured), asked.unit)
        elif choice is None:
            close, judged = False, "That is none of the choices."
        else:
            close = before == choice
            judged = "That is what you predicted." if close else "That is not what you predicted."
        tone, sentences = "good" if close else "open", [f"You predicted {quoted(asked, before)}.", found, judged]
    kicker = "Prediction and result" + _where(asked)
    lines = "".join(f'<p style="margin:4px 0">{cards.inline(sentence)}</p>' for sentence in sentences)
    plain = "\n".join([kicker, cards.to_plain(asked.text), "", *sentences])
    cards.put(plain, _question_card(asked, kicker, lines, tone))


def _plain_prediction(asked: Prediction, kicker: str) -> str:
    choices = [_fill(text, f"  {letter}) ", "     ") for letter, text in asked.lettered.items()]
    text = cards.to_plain(asked.text)
    return "\n".join([kicker, text, *(["", *choices] if choices else []), "", _how_to_keep(asked)])


def _how_to_keep(asked: Prediction) -> str:
    example, place = ('"a"', "your letter") if asked.lettered else ("...", "your number")
    instead = f", with {place} in place of {'`a`' if asked.lettered else '`...`'}"
    return f'The result comes further down. To keep a prediction: `predict("{asked.id}", {example})`{instead}.'


def _html_prediction(asked: Prediction, kicker: str) -> str:
    rows = [
        _ROW.format(f'<div style="padding-left:16px">{_LETTER.format(letter)}{cards.inline(text)}</div>')
        for letter, text in asked.lettered.items()
    ]
    note = _NOTE.format(cards.inline(_how_to_keep(asked)))
    return _question_card(asked, kicker, "".join(rows) + note)
