"""Status: what the course offers, set beside what the reader has done."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence

WIDTH = 80

# What a chapter offers: (id, title) of every exercise, question or prediction.
Offer = Mapping[str, Sequence[tuple[str, str]]]


def summary(
    exercises: Offer, questions: Offer, predictions: Offer, state: Mapping[str, Mapping[str, dict]]
) -> list[str]:
    """The status as lines of at most 80 columns, unless one word is longer.

    The offers are given by chapter, ``state`` is what ``progress.read`` returns. A question counts as right at the
    first try for good; otherwise its last answer decides.
    """
    lines: list[str] = []
    offers = {"exercises": exercises, "questions": questions, "predictions": predictions}
    if not any(state[section] for section in offers):
        lines += _wrapped("Nothing yet: no exercise tried, no question answered, no prediction made.")
    for chapter in dict.fromkeys([*exercises, *questions, *predictions]):
        inside = [
            *_exercises(exercises.get(chapter, ()), state["exercises"]),
            *_questions([id for id, _ in questions.get(chapter, ())], state["questions"]),
            *_predictions([id for id, _ in predictions.get(chapter, ())], state["predictions"]),
        ]
        if inside:
            lines += [*([""] if lines else []), chapter, *inside]
    gone = []
    for section, offer in offers.items():
        known = {id for offered in offer.values() for id, _ in offered}
        if unknown := [id for id in state[section] if id not in known]:
            gone.append(f"{section} {_listed(unknown)}")
    if gone:
        lines += ["", *_wrapped(f"Recorded, but not in this version of the course: {'; '.join(gone)}")]
    return lines


def _exercises(offered: Sequence[tuple[str, str]], entries: Mapping[str, dict]) -> list[str]:
    if not offered:
        return []
    done = sum(bool(entries.get(id, {}).get("done")) for id, _ in offered)
    lines = [f"  Exercises: {done} of {len(offered)} done"]
    for id, title in offered:
        lines += _wrapped(f"{title} ({id}): {_exercise(entries.get(id, {}))}", "    - ", "      ")
    return lines


def _exercise(entry: Mapping) -> str:
    tries, done = entry.get("tries", 0), entry.get("done")
    if done:
        parts = [f"done on {done}", *([_many(tries, "try", "tries")] if tries else [])]
    else:
        parts = [f"tried {_many(tries, 'time')}, not right yet" if tries else "not attempted"]
    if entry.get("hints"):
        parts.append(f"{_many(entry['hints'], 'hint')} used")
    if entry.get("solution"):
        parts.append("solution looked at")
    return ", ".join(parts)


def _questions(ids: Sequence[str], entries: Mapping[str, dict]) -> list[str]:
    if not ids:
        return []
    found: dict[str, list[str]] = {"right at the first try": [], "right": [], "wrong": [], "open": []}
    for id in ids:
        entry = entries.get(id, {})
        if not entry.get("tries"):
            found["open"].append(id)
        elif entry["first"]:
            found["right at the first try"].append(id)
        else:
            found["right" if entry["right"] else "wrong"].append(id)
    answered = len(ids) - len(found["open"])
    counts = [f"{len(those)} {kind}" for kind, those in found.items() if those and kind != "open"]
    said = f"Questions: {answered} of {len(ids)} answered" + (f" ({', '.join(counts)})" if counts else "")
    lines = _wrapped(said, "  ", "    ")
    for kind in ("wrong", "open"):
        if found[kind]:
            lines += _wrapped(f"{kind}: {_listed(found[kind])}", "    ", "      ")
    return lines


def _predictions(ids: Sequence[str], entries: Mapping[str, dict]) -> list[str]:
    if not ids:
        return []
    missing = [id for id in ids if id not in entries]
    lines = [f"  Predictions: {len(ids) - len(missing)} of {len(ids)} made"]
    return lines + (_wrapped(f"open: {_listed(missing)}", "    ", "      ") if missing else [])


def _many(count: int, one: str, more: str = "") -> str:
    return f"{count} {one if count == 1 else more or one + 's'}"


def _listed(ids: Iterable[str]) -> str:
    """Ids in a row; what a terminal could not show, in escapes."""
    return ", ".join(id if id.isprintable() else ascii(id) for id in ids)


def _wrapped(text: str, first: str = "", later: str = "  ") -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=later, break_long_words=False, break_on_hyphens=False
    )
