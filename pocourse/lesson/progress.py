"""Progress: what the reader has tried, answered and predicted, kept in one file of their own.

``progress.json`` in the reader's folder holds ``{"version": 1}`` and three sections, each a dict by id:

===============  ================================================================================
``exercises``    tries, done (date of the first success, or null), hints (largest number seen), solution
``questions``    chosen, right (both of the last answer), tries, first (right at the first try)
``predictions``  value, when
===============  ================================================================================

Every change is read, made and written under a lock, into a new file that then takes the old one's
place. A writer that is killed leaves the earlier state, and two notebooks lose nothing to each other.

A lesson never fails because of its progress. Where nothing can be written this is said once, on
standard error, and the lesson goes on. A damaged file is set aside under a new name, never deleted;
one that a newer course has written is left as it is.
"""

import contextlib
import datetime
import errno
import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import filelock

from pocourse.lesson import paths

VERSION = 1
SECTIONS = ("exercises", "questions", "predictions")
LOCK_TIMEOUT_S = 5.0
# Windows refuses to open or to replace a file that somebody else has open at that moment.
PATIENCE_S = 1.0 if os.name == "nt" else 0.0

_said: set[str] = set()  # the kinds of warnings this process has given


class _Damaged(Exception):
    """The file holds no progress of any version."""


class _Newer(Exception):
    """A newer course has written the file."""


class _Trouble(NamedTuple):
    """Why the state is not known, or cannot be written."""

    kind: str
    sentence: str


def file() -> Path:
    """Where progress is kept."""
    return paths.reader() / "progress.json"


def read() -> dict[str, dict]:
    """The three sections, each a dict by id with whole entries; empty ones where nothing is recorded or can be read."""
    sections, trouble = _look()
    if trouble:
        _warn(trouble)
    return sections


def look() -> tuple[dict[str, dict], str | None]:
    """The three sections, and a sentence that says why they are empty although a file is there, or None."""
    sections, trouble = _look()
    return sections, trouble and trouble.sentence


def update(section: str, id: str, change: Callable[[dict], dict]) -> None:
    """Replace one entry by ``change(entry)``. It is given the whole entry: of an id that is new, its defaults.

    Where progress cannot be written, this is said once and nothing else happens.
    Raises: ValueError for an unknown section, an id that is no text, or a new entry that does not fit the section.
    """
    if section not in SECTIONS:
        raise ValueError(f"expected a section among {', '.join(SECTIONS)}; got {section!r}. Choose one of them.")
    if not isinstance(id, str) or not id:
        raise ValueError(f"expected the id of an entry as text; got {id!r}. Ids look like chapter.name.")
    try:
        file().parent.mkdir(parents=True, exist_ok=True)
        with _locked():
            document = _open_or_set_aside()
            entries = document.setdefault(section, {})
            changed = change(_whole(section, entries.get(id, {})))
            if wrong := _misfit(section, changed):
                raise ValueError(f"expected an entry that fits {section}; got {changed!r} for {id}: {wrong}. Mend it.")
            entries[id] = _whole(section, changed)
            _write(document)
    except _Newer:
        _warn(_newer())
    except filelock.Timeout:
        _warn(_Trouble("busy", f"{_held()} What you just did is not recorded; the lesson goes on."))
    except OSError as error:
        _warn(_closed(error))


def reset() -> bool:
    """Delete the file; says whether there was one.

    Raises: OSError where it cannot be deleted, TimeoutError where another process keeps it locked.
    """
    if not os.path.lexists(file()):
        return False
    try:
        with _locked():
            _patiently(lambda: file().unlink(missing_ok=True))
            _sweep()
    except filelock.Timeout as error:
        raise TimeoutError(_held()) from error
    return True


# --- what the lessons record ---------------------------------------------------------------------------


def record_try(id: str, right: bool) -> None:
    """One answer to an exercise. Tries count up to the first right one, whose date stays whatever comes after."""

    def tried(entry: dict) -> dict:
        if entry["done"]:
            return entry
        return {**entry, "tries": entry["tries"] + 1, "done": _today() if right else None}

    update("exercises", id, tried)


def record_hint(id: str, number: int) -> None:
    """Hint ``number``, counted from 1, was looked at.

    Raises: ValueError for a number that is not a whole one of 1 or more.
    """
    if not _count(number) or number < 1:
        raise ValueError(f"expected the number of a hint, 1 or more; got {number!r}. Hints are counted from 1.")
    update("exercises", id, lambda entry: {**entry, "hints": max(entry["hints"], number)})


def record_solution(id: str) -> None:
    """The solution of an exercise was looked at."""
    update("exercises", id, lambda entry: {**entry, "solution": True})


def record_answer(id: str, chosen: Sequence[str], right: bool) -> None:
    """One answer to a question: the letters chosen, and whether they are the right ones."""

    def change(entry: dict) -> dict:
        first = bool(right) if entry["tries"] == 0 else entry["first"]
        return {**entry, "chosen": list(chosen), "right": bool(right), "tries": entry["tries"] + 1, "first": first}

    update("questions", id, change)


def record_prediction(id: str, value: float | str) -> None:
    """What the reader expects, before it is measured; a later prediction takes the place of an earlier one.

    Raises: ValueError for anything but text or a finite number.
    """
    if callable(getattr(value, "item", None)):  # a number of numpy or torch
        value = value.item()
    if not _guess(value):
        raise ValueError(f"expected a prediction as a finite number or text; got {value!r}. Predict one of these.")
    update("predictions", id, lambda entry: {**entry, "value": value, "when": _today()})


# --- what an entry looks like --------------------------------------------------------------------------


def _count(x) -> bool:
    return type(x) is int and x >= 0


def _flag(x) -> bool:
    return type(x) is bool


def _date(x) -> bool:
    try:
        return isinstance(x, str) and datetime.date.fromisoformat(x).isoformat() == x
    except ValueError:
        return False


def _date_or_none(x) -> bool:
    return x is None or _date(x)


def _letters(x) -> bool:
    return isinstance(x, list) and all(isinstance(letter, str) for letter in x)


def _guess(x) -> bool:
    return isinstance(x, str) or type(x) is int or (isinstance(x, float) and math.isfinite(x))


# Keys beyond these are kept as they are.
_FIELDS = {
    "exercises": {"tries": _count, "done": _date_or_none, "hints": _count, "solution": _flag},
    "questions": {"chosen": _letters, "right": _flag, "tries": _count, "first": _flag},
    "predictions": {"value": _guess, "when": _date},
}


def _whole(section: str, entry: dict) -> dict:
    """The entry, with what is missing filled in. A prediction has no default."""
    if section == "exercises":
        return {"tries": 0, "done": None, "hints": 0, "solution": False, **entry}
    if section == "questions":
        return {"chosen": [], "right": False, "tries": 0, "first": False, **entry}
    return dict(entry)


def _misfit(section: str, entry) -> str | None:
    """What does not fit in an entry, or None. A missing key does, where it has a default."""
    if not isinstance(entry, dict):
        return "it is no dict"
    if not all(isinstance(key, str) for key in entry):
        return "its keys are not all text"
    entry = _whole(section, entry)
    for key, fits in _FIELDS[section].items():
        if key not in entry:
            return f"{key} is missing"
        if not fits(entry[key]):
            return f"{key} is {entry[key]!r}"
    return None


def _finite(text: str) -> float:
    """A number of the file. NaN and infinity are none in JSON, and could not be written again."""
    if not math.isfinite(number := float(text)):
        raise ValueError(text)
    return number


def _parse(data: bytes) -> dict:
    """The document in a file's bytes. Raises: _Damaged or _Newer."""
    try:
        text = data.decode("utf-8-sig")  # an editor may have put a byte order mark in front
        document = json.loads(text, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        raise _Damaged("it is not JSON") from error
    if not isinstance(document, dict):
        raise _Damaged("it holds no sections")
    version = document.get("version")
    if type(version) is not int or version < 1:
        raise _Damaged("it has no version")
    if version > VERSION:
        raise _Newer
    for section in SECTIONS:
        entries = document.get(section, {})
        if not isinstance(entries, dict):
            raise _Damaged(f"{section} is no section")
        for id, entry in entries.items():
            if wrong := _misfit(section, entry):
                raise _Damaged(f"{id} among {section}: {wrong}")
    return document


# --- the file ------------------------------------------------------------------------------------------


def _fresh() -> dict:
    return {"version": VERSION, **{section: {} for section in SECTIONS}}


def _look() -> tuple[dict[str, dict], _Trouble | None]:
    """The sections, and what keeps them from being known. Takes the lock only to set a damaged file aside."""
    document, trouble = _fresh(), None
    try:
        document = _open()
    except _Damaged:
        try:
            with _locked():
                document = _open_or_set_aside()  # read again: somebody else may have mended it by now
        except _Newer:
            trouble = _newer()
        except OSError as error:
            sentence = (
                f"Your progress in {file()} is damaged and could not be set aside ({_reason(error)}). The lesson goes "
                "on without it. Move the file away, or set POCOURSE_HOME to a folder you can write to."
            )
            trouble = _Trouble("damaged", sentence)
    except _Newer:
        trouble = _newer()
    except OSError as error:
        trouble = _closed(error)
    sections = {
        section: {id: _whole(section, entry) for id, entry in document.get(section, {}).items()} for section in SECTIONS
    }
    return sections, trouble


def _open() -> dict:
    try:
        return _parse(_patiently(file().read_bytes))
    except FileNotFoundError:
        return _fresh()


def _open_or_set_aside() -> dict:
    """As ``_open``, with a fresh document in place of a damaged one. The lock is held."""
    try:
        return _open()
    except _Damaged as damage:
        path, now = file(), f"{datetime.datetime.now():%Y%m%d-%H%M%S}"
        aside, taken = path.with_name(f"progress.damaged-{now}.json"), 1
        while os.path.lexists(aside):
            taken += 1
            aside = path.with_name(f"progress.damaged-{now}-{taken}.json")
        _patiently(lambda: os.rename(path, aside))
        _print(f"Your progress could not be read ({damage}): the file is now {aside}, and a fresh one begins.")
        return _fresh()


def _write(document: dict) -> None:
    """Put the document in the file's place, whole or not at all. The lock is held. A link stays a link."""
    path = Path(os.path.realpath(file()))
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    data = (json.dumps(document, indent=1, allow_nan=False) + "\n").encode()
    try:
        with open(part, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        _patiently(lambda: os.replace(part, path))
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    _sweep()


def _sweep() -> None:
    """Remove what killed writers have left. The lock is held, so nobody is writing."""
    path = Path(os.path.realpath(file()))
    for part in path.parent.glob(f".{path.name}.*.part"):
        with contextlib.suppress(OSError):
            part.unlink()


def _locked():
    """The lock beside the file; the system frees it when its holder dies. Raises: filelock.Timeout, OSError."""
    lock = filelock.FileLock(file().with_name(f"{file().name}.lock"), timeout=LOCK_TIMEOUT_S)
    try:
        return lock.acquire(poll_interval=0.01)
    except NotImplementedError as error:
        raise OSError(errno.ENOSYS, "its file system has no locks") from error


def _patiently(action: Callable):
    """What ``action`` returns; tried again for a moment while it is refused."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            return action()
        except PermissionError:
            if time.monotonic() >= until:
                raise
            time.sleep(0.02)


def _today() -> str:
    return datetime.date.today().isoformat()


# --- what is said --------------------------------------------------------------------------------------


def _print(sentence: str) -> None:
    print(sentence, file=sys.stderr)


def _warn(trouble: _Trouble) -> None:
    if trouble.kind not in _said:
        _said.add(trouble.kind)
        _print(trouble.sentence)


def _newer() -> _Trouble:
    return _Trouble(
        "newer",
        f"A newer version of the course has written {file()}. It is left as it is, and this version neither reads it "
        "nor records in it. Update the course.",
    )


def _closed(error: OSError) -> _Trouble:
    return _Trouble(
        "closed",
        f"Progress cannot be kept in {file()} ({_reason(error)}). The lesson goes on; what you do is not recorded. "
        "Check the folder, or set POCOURSE_HOME to one you can write to.",
    )


def _held() -> str:
    return f"Another process has kept {file()} locked for {LOCK_TIMEOUT_S:g} s."


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
