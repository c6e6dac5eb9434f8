"""The bug museum: mistakes that were really published, running again in our own words.

A *piece* says what was published, where and when, and whether it has been corrected since; it names
no person. Its wrong code is ours, written to show the mistake. The task that belongs to it is an
exercise whose answer is a *property*: a function of the code under suspicion that says True or False.
Such an answer is judged by what it says about right code, which it must clear, and about the
published mistake and its near relatives, which it must catch.
"""

import inspect
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pocourse.lesson import cards
from pocourse.lesson.trial import nothing_returned
from pocourse.lesson.wrong import Wrong

KIND = "An easy slip: people who write courses and libraries make it, and so do we."
_COLUMNS = 100
_registry: dict[str, "Piece"] = {}


# ---------------------------------------------------------------- pieces and plaques


@dataclass(frozen=True)
class Piece:
    """A mistake that was published, and what belongs to it.

    ``wrong.run`` makes the mistake, ``right`` does the same without it; both are called alike. ``published`` says what
    was published, where and when, ``thread`` is the public address, ``corrected`` what happened since, ``symptom`` what
    to look for in the plot, ``exercise`` the id of the task, ``note`` what else is worth telling.
    """

    id: str
    title: str
    section: str
    wrong: Wrong
    published: str
    thread: str
    corrected: str
    symptom: str
    right: Callable
    exercise: str
    note: str = ""

    @property
    def chapter(self) -> str:
        return self.id.split(".")[0]

    @property
    def code(self) -> str:
        """The source of the wrong code."""
        return textwrap.dedent(inspect.getsource(self.wrong.run)).rstrip()


def piece(
    id: str,
    *,
    title: str,
    section: str,
    wrong: Wrong,
    published: str,
    thread: str,
    corrected: str,
    symptom: str,
    right: Callable,
    exercise: str,
    note: str = "",
) -> Piece:
    """Register a piece.

    Raises: ValueError for an id that is taken or names no chapter, an empty text, a thread that is no https address, or
    a text with an @ in it: a plaque names no person.
    """
    if id in _registry:
        raise ValueError(f"expected a new id; got {id!r}, which is taken. Choose another name for the piece.")
    for what, given in (("id", id), ("exercise", exercise)):
        if not isinstance(given, str) or given.count(".") != 1 or not all(x.isidentifier() for x in given.split(".")):
            raise ValueError(
                f"expected {what} as chapter and name, such as ratio_clipping.missing_minus; got {given!r}. Mend it."
            )
    texts = {"title": title, "published": published, "corrected": corrected, "symptom": symptom, "reason": wrong.reason}
    for what, text in texts.items():
        if not text.strip():
            raise ValueError(f"expected a plaque of {id} with a text under {what}; got none. Write a sentence or two.")
    if not cards.ADDRESS.fullmatch(thread):
        raise ValueError(
            f"expected thread as an address that begins with https://; got {thread!r}. Link the public thread of {id}."
        )
    for what, text in {**texts, "note": note}.items():
        if "@" in text:
            raise ValueError(
                f"expected a plaque that names no person; got an @ under {what} of {id}. Leave names and mail out."
            )
    published, corrected, symptom, note = (text.strip() for text in (published, corrected, symptom, note))
    made = Piece(id, title.strip(), section, wrong, published, thread, corrected, symptom, right, exercise, note)
    _registry[id] = made
    return made


def registry() -> dict[str, Piece]:
    """All pieces of the chapters imported so far, by id, in the order in which they were registered."""
    return dict(_registry)


def find(id: str) -> Piece:
    """The piece of this id. Raises: ValueError with the known ones."""
    if id not in _registry:
        raise ValueError(
            f"expected the id of a piece of the museum; got {id!r}. Import the chapter's museum first, as in "
            f"`import pocourse.{str(id).split('.')[0]}.museum`; known are: {', '.join(_registry) or 'none'}."
        )
    return _registry[id]


def exhibit(id: str) -> None:
    """Show the plaque of a piece."""
    found = find(id)
    cards.put(plain(found), as_html(found))


def _sayings(found: Piece) -> list[tuple[str, str]]:
    """The plaque as headings with their texts; the code has an empty heading."""
    published = found.published if found.thread in found.published else f"{found.published} {found.thread}"
    return [
        ("Published", published),
        ("The same slip in code of ours", ""),
        ("What is wrong with it", found.wrong.reason),
        ("What to look for in the plot", found.symptom),
        ("Since then", found.corrected),
        *([("Beside it", found.note)] if found.note else []),
        ("Your task", f"Write the property that catches it: exercise `{found.exercise}`."),
    ]


def plain(found: Piece) -> str:
    """The plaque as plain text."""
    parts = [f"Bug museum · section {found.section}", found.title]
    for heading, text in _sayings(found):
        if text:
            paragraphs = [_filled(paragraph) for paragraph in text.split("\n\n")]
            parts += ["", f"{heading}:", *"\n\n".join(paragraphs).splitlines()]
        else:
            parts += ["", f"{heading}:", "", textwrap.indent(found.code, "    ")]
    return "\n".join([*parts, "", KIND])


def _filled(text: str) -> str:
    """A paragraph in lines that fit a terminal; an address is never broken."""
    words = " ".join(cards.to_plain(text).split())
    return textwrap.fill(words, _COLUMNS, break_long_words=False, break_on_hyphens=False)


def as_html(found: Piece) -> str:
    """The plaque as a card."""
    body = []
    for heading, text in _sayings(found):
        inside = cards.to_html(text) if text else cards.code_block(found.code)
        body.append(f'<div style="margin:9px 0 0;font-size:0.86em;color:#5b6068">{heading}</div>{inside}')
    body.append(f'<div style="margin:10px 0 0;font-size:0.9em;color:#5b6068"><i>{KIND}</i></div>')
    return cards.card(found.title, "".join(body), kicker=f"Bug museum · section {found.section}")


# ---------------------------------------------------------------- judging a property


@dataclass(frozen=True)
class Suspect:
    """Code that a property is shown; a property that misjudges it is told ``name`` and ``why``."""

    name: str
    run: Callable
    why: str


def yes_or_no(result, arguments: tuple) -> str | None:
    """The result has to be True or False: a bool, or a tensor or an array that holds a single one."""
    if isinstance(result, bool | np.bool_):
        return None
    if isinstance(result, np.ndarray) and result.size == 1 and result.dtype == np.bool_:
        return None
    if problem := nothing_returned(result, "property"):
        return problem
    if isinstance(result, Tensor):
        if result.numel() == 1 and result.dtype == torch.bool:
            return None
        if result.dtype != torch.bool:
            return (
                f"Your property returned a tensor of {result.dtype} where True or False is expected. "
                "Compare it with something: `slope > 0`."
            )
        return (
            f"Your property returned {result.numel()} answers in a tensor of shape {list(result.shape)} where one is "
            "expected. Does it have to hold for all of them? Then end with `.all()`."
        )
    return (
        f"Your property returned something of type `{type(result).__name__}` where True or False is expected. "
        "Let it end with a comparison: `return bool((slope > 0).all())`."
    )


def clears(answer: Callable, suspects: Sequence[Suspect]) -> str | None:
    """None if a property says True to all of these, which do not make the mistake; else what to tell the learner."""
    for suspect in suspects:
        if not answer(suspect.run):
            return f"your property says False to {suspect.name}, {suspect.why}."
    return None


def catches(answer: Callable, suspects: Sequence[Suspect]) -> str | None:
    """None if a property says False to all of these, which are wrong; else what to tell the learner."""
    for suspect in suspects:
        if answer(suspect.run):
            return f"your property says True to {suspect.name}, {suspect.why}."
    return None
