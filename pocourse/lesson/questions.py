"""What there is to ask: questions with their choices, predictions, and how an answer is judged.

A *question* has two to six choices, of which one or several are right, and every choice says why
it is or why it is not. A *prediction* is asked for before a result and shown again beside it.
``question_cards`` shows both, ``question_boxes`` makes the live forms.
"""

import html
import itertools
import math
import numbers
import re
from collections.abc import Sequence
from dataclasses import dataclass

from pocourse.lesson import cards

LETTERS = "abcdef"
KINDS = ("quiz", "entry")
WORDS = ("none", "one", "two", "three", "four", "five", "six")

_ID = re.compile(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*")
_registry: dict[str, "Question"] = {}
_predictions: dict[str, "Prediction"] = {}


@dataclass(frozen=True)
class Choice:
    """One choice of a question. ``why`` says why it is right, or which thought leads there and where it fails."""

    text: str
    right: bool
    why: str


@dataclass(frozen=True)
class Question:
    """A question of a chapter. ``section`` is the notebook's; ``read_up`` a title and address, or a place in words."""

    id: str
    text: str
    choices: tuple[Choice, ...]
    section: str
    kind: str = "quiz"
    read_up: tuple[str, str] | str | None = None

    @property
    def chapter(self) -> str:
        return self.id.split(".")[0]

    @property
    def lettered(self) -> dict[str, Choice]:
        """The choices by letter: a, b, c, ..."""
        return dict(zip(LETTERS, self.choices, strict=False))


@dataclass(frozen=True)
class Prediction:
    """Something to predict: a number between ``low`` and ``high``, or one of several choices.

    With ``ranges``, one (low, high) for each choice, a measured number says itself which choice it was.
    """

    id: str
    text: str
    answer: str | tuple[str, ...]
    section: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    ranges: tuple[tuple[float, float], ...] | None = None

    @property
    def lettered(self) -> dict[str, str]:
        """The choices by letter; none where a number is asked for."""
        return {} if self.answer == "number" else dict(zip(LETTERS, self.answer, strict=False))


def question(
    id: str,
    text: str,
    *choices: Choice,
    section: str,
    kind: str = "quiz",
    read_up: tuple[str, str] | str | None = None,
) -> Question:
    """Register a question. Raises ValueError for one that could not be asked or answered."""
    _new(id)
    _filled(id, text=text, section=section)
    if kind not in KINDS:
        raise ValueError(f"expected kind as one of {', '.join(KINDS)}; got {kind!r} for {id}. Choose one of them.")
    if not 2 <= len(choices) <= len(LETTERS) or not all(isinstance(choice, Choice) for choice in choices):
        raise ValueError(
            f"expected 2 to {len(LETTERS)} choices for {id}, each a Choice(text, right, why); got {len(choices)}: "
            f"{', '.join(type(choice).__name__ for choice in choices) or 'none'}. Add, merge or wrap choices."
        )
    for choice in choices:
        _filled(id, choice=choice.text, why=choice.why)
        if not isinstance(choice.right, bool) or "\n" in choice.text:
            raise ValueError(
                f"expected a choice of one line, and right as True or False; got {choice.text!r} with "
                f"right={choice.right!r} for {id}. Shorten the choice, and move what is long into the question."
            )
    _different(id, [choice.text for choice in choices])
    if len({choice.right for choice in choices}) < 2:
        all_are = "right" if choices[0].right else "wrong"
        raise ValueError(
            f"expected at least one right and one wrong choice for {id}; got {len(choices)}, all {all_are}. "
            "Add one of the other sort: a likely mistake, or the answer."
        )
    titled = isinstance(read_up, tuple) and len(read_up) == 2 and all(isinstance(part, str) for part in read_up)
    if not (
        (read_up is None and kind != "entry")
        or (isinstance(read_up, str) and read_up.strip())
        or (titled and read_up[0].strip() and re.fullmatch(r"https?://\S+", read_up[1]))
    ):
        raise ValueError(
            f"expected read_up as a section in words, or as a title and a public address, and never missing from an "
            f'entry question; got {read_up!r} for {id}. Write read_up=("title", "https://...").'
        )
    _registry[id] = Question(id, text.strip(), tuple(choices), section, kind, read_up)
    return _registry[id]


def prediction(
    id: str,
    text: str,
    *,
    section: str,
    answer: str | Sequence[str] = "number",
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    ranges: Sequence[tuple[float, float]] | None = None,
) -> Prediction:
    """Register something to predict. Raises ValueError for one that could not be answered or compared."""
    _new(id)
    _filled(id, text=text, section=section)
    if answer == "number":
        limits = [limit for limit in (low, high) if limit is not None]
        if not all(_finite(limit) for limit in limits) or (len(limits) == 2 and not low < high) or ranges is not None:
            raise ValueError(
                f"expected a number with finite low < high, or without one of them, and no ranges; got low={low}, "
                f"high={high}, ranges={ranges} for {id}. Ranges belong to choices."
            )
    else:
        if isinstance(answer, str) or not 2 <= len(answer) <= len(LETTERS):
            raise ValueError(
                f'expected answer as "number" or as a tuple of 2 to {len(LETTERS)} choices; got {answer!r} for {id}. '
                "Name the choices."
            )
        for choice in answer:
            _filled(id, choice=choice)
        _different(id, answer)
        if low is not None or high is not None or unit:
            raise ValueError(
                f"expected low, high and unit with a number only; got them with choices for {id}. "
                "Say in the words of a choice what it covers."
            )
        answer = tuple(answer)
        if ranges is not None:
            ranges = tuple(tuple(between) for between in ranges)
            _check_ranges(id, answer, ranges)
    _predictions[id] = Prediction(id, text.strip(), answer, section, unit, low, high, ranges)
    return _predictions[id]


def _new(id: str) -> None:
    if not isinstance(id, str) or not _ID.fullmatch(id):
        raise ValueError(f'expected an id of the form "chapter.name"; got {id!r}. Use small letters, digits and _.')
    if id in _registry or id in _predictions:
        raise ValueError(f"expected a new id; got {id!r}, which is taken. Choose another name.")


def _filled(id: str, **texts: str) -> None:
    for name, text in texts.items():
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"expected some words as {name} of {id}; got {text!r}. Write them.")


def _different(id: str, texts: Sequence[str]) -> None:
    seen = [" ".join(text.split()).lower() for text in texts]
    for text in seen:
        if seen.count(text) > 1:
            raise ValueError(f"expected different choices for {id}; got {text!r} twice. Change or drop one of them.")


def _check_ranges(id: str, answer: tuple[str, ...], ranges: tuple) -> None:
    well_formed = len(ranges) == len(answer) and all(
        len(between) == 2 and not any(math.isnan(x) for x in between) and between[0] < between[1] for between in ranges
    )
    in_order = sorted(ranges) if well_formed else []
    if not well_formed or any(one[1] > two[0] for one, two in itertools.pairwise(in_order)):
        raise ValueError(
            f"expected ranges as one (low, high) for each of {len(answer)} choices, none reaching into another; "
            f"got {ranges} for {id}. A number x belongs to a choice when low <= x < high."
        )


def registry() -> dict[str, Question]:
    """All questions of the chapters imported so far, by id, in the order in which they are asked."""
    return dict(_registry)


def predictions() -> dict[str, Prediction]:
    """Everything there is to predict in the chapters imported so far, by id."""
    return dict(_predictions)


def find_question(id: str) -> Question:
    """The question of this id. Raises: ValueError with the known ones."""
    return _find("question", _registry, id)


def find_prediction(id: str) -> Prediction:
    """The prediction of this id. Raises: ValueError with the known ones."""
    return _find("prediction", _predictions, id)


def _find(kind: str, known: dict, id: str):
    if id not in known:
        chapter = id.split(".")[0] if isinstance(id, str) and _ID.fullmatch(id) else "ratio_clipping"
        raise ValueError(
            f"expected the id of a {kind}; got {id!r}. Import the chapter's questions first, as in "
            f"`import pocourse.{chapter}.quiz`; known are: {', '.join(known) or 'none'}."
        )
    return known[id]


@dataclass(frozen=True)
class Answer:
    """What is to be said of the chosen letters: whether they are exactly the right ones, and in words what is amiss."""

    chosen: tuple[str, ...]
    right: bool
    said: str


def judge(asked: Question, chosen: Sequence[str]) -> Answer:
    """Judge an answer. Missing choices are counted and not named. Raises ValueError for letters that are no choices."""
    known = asked.lettered
    strange = [letter for letter in chosen if not isinstance(letter, str) or letter.strip().lower() not in known]
    if strange or not chosen:
        raise ValueError(
            f"expected one or several of the letters {', '.join(known)} for {asked.id}; got "
            f"{', '.join(repr(letter) for letter in strange) or 'none'}. "
            f'Answer as in `quiz("{asked.id}", "a")` or `quiz("{asked.id}", "a", "b")`.'
        )
    wanted = {letter.strip().lower() for letter in chosen}
    chosen = tuple(letter for letter in known if letter in wanted)
    wrong = sum(not known[letter].right for letter in chosen)
    missing = sum(choice.right for choice in known.values()) - (len(chosen) - wrong)
    if not wrong and not missing:
        return Answer(chosen, True, "Right." if len(chosen) == 1 else "Right, and that is all of them.")
    more = f"{WORDS[missing]} {'more is' if missing == 1 else 'more are'} right"
    if not wrong:
        return Answer(chosen, False, f"Right as far as it goes: {more}. Look again.")
    if len(chosen) == wrong:
        are = "is" if missing == 1 else "are"
        return Answer(chosen, False, f"Not right: {WORDS[missing]} of the others {are}. Try again.")
    not_all = f"{WORDS[wrong]} of your choices {'is' if wrong == 1 else 'are'} not right"
    return Answer(chosen, False, f"Not quite: {not_all}{f', and {more}' if missing else ''}. Try again.")


def verdict(choice: Choice) -> str:
    """Right or not right: a mark in words."""
    return "Right." if choice.right else "Not right."


def allowed(asked: Prediction, value: float | str) -> float | str:
    """The value as it is kept: a number, or the words of a choice. Raises ValueError for one that is not allowed."""
    if asked.answer == "number":
        number = _as_number(value)
        low, high = (limit is None for limit in (asked.low, asked.high))
        if number is None or not (low or asked.low <= number) or not (high or number <= asked.high):
            limits = "" if low else f" of at least {asked.low:g}"
            limits += "" if high else f"{' of' if low else ' and'} at most {asked.high:g}"
            raise ValueError(f"expected a finite number{limits}; got {value!r}. Write it as in `1.5`.")
        return number
    if isinstance(value, str):
        if value.strip().lower() in asked.lettered:
            return asked.lettered[value.strip().lower()]
        if value in asked.answer:
            return value
    raise ValueError(
        f"expected one of the letters {', '.join(asked.lettered)}; got {value!r}. "
        + "They stand for: "
        + "; ".join(f"{letter}) {text}" for letter, text in asked.lettered.items())
        + "."
    )


def keep(asked: Prediction, value: float | str) -> None:
    """Write a prediction to the reader's own file."""
    from pocourse.lesson import progress

    progress.record_prediction(asked.id, value)


def kept(asked: Prediction) -> float | str | None:
    """The prediction that the reader has made; none where it does not fit what is asked any more."""
    from pocourse.lesson import progress

    entry = progress.read()["predictions"].get(asked.id)
    try:
        return None if entry is None else allowed(asked, entry["value"])
    except (KeyError, TypeError, ValueError):
        return None


def in_words(asked: Prediction, measured: float | str) -> tuple[str, str | None]:
    """The result in words, and for choices the one that it is."""
    by_name = asked.answer != "number" and asked.ranges is None
    if by_name:
        choice = allowed(asked, measured)
        return f"{_letter(asked, choice)}, {choice}", choice
    try:
        number = math.nan if isinstance(measured, str | bool) else float(measured)
        known = not isinstance(measured, str | bool)
    except (TypeError, ValueError, RuntimeError):
        known = False
    if not known:
        raise ValueError(f"expected the measured value of {asked.id} as one number; got {measured!r}. Reduce it first.")
    if math.isnan(number):
        return "not a number", None
    shown = f"{_digits(number)}{f' {asked.unit}' if asked.unit else ''}"
    if asked.answer == "number":
        return shown, None
    inside = (text for text, (low, high) in zip(asked.answer, asked.ranges, strict=True) if low <= number < high)
    choice = next(inside, None)
    return (shown if choice is None else f"{shown}, so {_letter(asked, choice)}, {choice}"), choice


def how_far(predicted: float, measured: float, unit: str) -> tuple[bool, str]:
    """Whether a prediction was close, within a tenth, and how far off: as a ratio, where there is one."""
    if math.isnan(measured):
        return False, "There is nothing to compare."
    if predicted == measured:
        return True, "That is it exactly."
    if math.isinf(measured):
        return False, "No number comes near that."
    unit = f" {unit}" if unit else ""
    difference = f"{_digits(abs(predicted - measured))}{unit} too {'high' if predicted > measured else 'low'}"
    tiny = 1e-9 * max(1.0, abs(predicted), abs(measured))
    if abs(predicted - measured) <= tiny:
        return True, "That is it, up to rounding."
    if abs(measured) <= tiny:  # nothing can be a multiple of zero
        return False, f"The result is zero{'' if measured == 0 else ' up to rounding'}: you were {difference}."
    ratio = predicted / measured
    if ratio <= 0:
        return False, f"You were {difference}{', and it has the other sign' if ratio < 0 else ''}."
    if abs(ratio - 1) <= 0.1:
        return True, f"That is close: {difference}."
    size = "large" if ratio > 1 else "small"
    factor = max(ratio, 1 / ratio)
    if factor < 2:
        off = 100 * abs(ratio - 1)
        return False, f"You were {difference}, which is {off:.0f} per cent of the result."
    of_size = " in size" if measured < 0 else ""
    return False, f"Your prediction was {_digits(factor)} times too {size}{of_size}."


def _as_number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    return float(value) if math.isfinite(value) else None


def _finite(value: object) -> bool:
    return _as_number(value) is not None


def _digits(number: float) -> str:
    """Three digits, and no exponent where a number can be read without one."""
    if math.isinf(number):
        return "infinity" if number > 0 else "minus infinity"
    if 1e-4 <= abs(number) < 1e6:
        rounded = float(f"{number:.3g}")
        return f"{rounded:,.0f}" if abs(rounded) >= 1000 else f"{rounded:.6f}".rstrip("0").rstrip(".")
    return f"{number:.3g}"


def _letter(asked: Prediction, choice: str) -> str:
    return LETTERS[asked.answer.index(choice)]


def quoted(asked: Prediction, value: float | str) -> str:
    """A prediction in words."""
    if asked.answer == "number":
        return f"{value:g}{f' {asked.unit}' if asked.unit else ''}"
    return f"{_letter(asked, value)}, {value}"


def html_read_up(asked: Question) -> str:
    """Where to read up, with a link that opens beside the notebook."""
    if not asked.read_up:
        return ""
    if isinstance(asked.read_up, str):
        place = cards.inline(asked.read_up)
    else:
        title, address = asked.read_up
        place = cards.link(html.escape(address), html.escape(title))
    return f'<p style="margin:8px 0 2px 0;color:#5b6068;font-size:0.93em">To read up: {place}</p>'


def explained(choice: Choice) -> str:
    """The verdict on a choice and its explanation, as HTML."""
    return cards.to_html(f"**{verdict(choice)}** {choice.why}")
