"""Progress and status: what is recorded, what survives crashes, damage and company, and what the reader is told."""

import errno
import importlib.machinery
import json
import os
import re
import subprocess
import sys
import threading
import types
from pathlib import Path

import filelock
import pytest
from typer.testing import CliRunner

from pocourse import cli
from pocourse.lesson import exercises, progress, questions
from pocourse.lesson.status import summary

ROOT = Path(__file__).parent.parent
EMPTY = {"exercises": {}, "questions": {}, "predictions": {}}
EXERCISE = {"tries": 0, "done": None, "hints": 0, "solution": False}
STATE = {
    "exercises": {"c.clip": {"tries": 3, "done": "2025-03-01", "hints": 2, "solution": False}},
    "questions": {"c.q1": {"chosen": ["a"], "right": True, "tries": 1, "first": True}},
    "predictions": {"c.p1": {"value": 0.25, "when": "2025-02-28"}},
}


@pytest.fixture
def home(monkeypatch, tmp_path):
    """A reader's folder that does not exist yet, in a process that has warned of nothing yet."""
    folder = tmp_path / "reader"
    monkeypatch.setenv("POCOURSE_HOME", str(folder))
    monkeypatch.setattr(progress, "_said", set())
    monkeypatch.setattr(progress, "_today", lambda: "2025-03-01")
    return folder


def put(home, content):
    """Write progress.json by hand: bytes as they are, anything else as JSON."""
    home.mkdir(exist_ok=True)
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    (home / "progress.json").write_bytes(data)
    return data


def on_disk(home):
    return json.loads((home / "progress.json").read_text(encoding="utf-8"))


def names(home):
    """What lies in the folder, beside the lock."""
    return sorted(path.name for path in home.iterdir() if path.name != "progress.json.lock")


# --- what is recorded ------------------------------------------------------------------------------------


def test_nothing_is_there_at_first_and_reading_makes_nothing(home, capsys):
    assert progress.read() == EMPTY
    assert progress.look() == (EMPTY, None)
    assert not home.exists()
    assert capsys.readouterr().err == ""


def test_tries_are_counted_and_the_first_success_stays(home, monkeypatch):
    progress.record_try("c.clip", False)
    assert progress.read()["exercises"] == {"c.clip": {"tries": 1, "done": None, "hints": 0, "solution": False}}
    progress.record_try("c.clip", True)
    monkeypatch.setattr(progress, "_today", lambda: "2025-03-02")
    progress.record_try("c.clip", False)
    progress.record_try("c.clip", True)
    assert progress.read()["exercises"]["c.clip"] == {"tries": 2, "done": "2025-03-01", "hints": 0, "solution": False}


def test_a_link_to_the_file_stays_a_link(home, tmp_path):
    elsewhere = tmp_path / "synced" / "mine.json"
    elsewhere.parent.mkdir()
    home.mkdir(parents=True, exist_ok=True)
    (home / "progress.json").symlink_to(elsewhere)
    progress.record_try("c.clip", True)
    assert (home / "progress.json").is_symlink() and json.loads(elsewhere.read_text())["exercises"]["c.clip"][
        "tries"
    ] == 1
    assert sorted(path.name for path in elsewhere.parent.iterdir()) == ["mine.json"]


def test_a_home_may_begin_with_a_tilde(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("POCOURSE_HOME", "~/course")
    assert progress.file() == tmp_path / "course" / "progress.json"


def test_the_day_is_today(monkeypatch, tmp_path):
    class Day(progress.datetime.date):
        @classmethod
        def today(cls):
            return cls(2031, 12, 24)

    monkeypatch.setenv("POCOURSE_HOME", str(tmp_path))
    monkeypatch.setattr(progress.datetime, "date", Day)
    progress.record_try("c.clip", True)
    assert progress.read()["exercises"]["c.clip"]["done"] == "2031-12-24"


def test_the_largest_hint_counts(home):
    for number in (1, 3, 2):
        progress.record_hint("c.clip", number)
    assert progress.read()["exercises"]["c.clip"] == {"tries": 0, "done": None, "hints": 3, "solution": False}


def test_a_solution_looked_at_is_kept(home):
    progress.record_solution("c.clip")
    progress.record_try("c.clip", True)
    assert progress.read()["exercises"]["c.clip"] == {"tries": 1, "done": "2025-03-01", "hints": 0, "solution": True}


def test_answers_keep_the_last_one_and_how_the_first_went(home):
    progress.record_answer("c.q1", ["a", "c"], True)
    progress.record_answer("c.q1", ["b"], False)
    progress.record_answer("c.q2", "b", False)
    progress.record_answer("c.q2", "a", True)
    assert progress.read()["questions"] == {
        "c.q1": {"chosen": ["b"], "right": False, "tries": 2, "first": True},
        "c.q2": {"chosen": ["a"], "right": True, "tries": 2, "first": False},
    }


def test_predictions_are_numbers_or_text(home):
    class Scalar:  # as of numpy or torch
        def item(self):
            return 0.5

    for id, value in {"c.p1": 3, "c.p2": "it falls, ∂f/∂r < 0", "c.p3": Scalar()}.items():
        progress.record_prediction(id, value)
    progress.record_prediction("c.p1", -2.5)
    assert progress.read()["predictions"] == {
        "c.p1": {"value": -2.5, "when": "2025-03-01"},
        "c.p2": {"value": "it falls, ∂f/∂r < 0", "when": "2025-03-01"},
        "c.p3": {"value": 0.5, "when": "2025-03-01"},
    }


def test_the_file_is_as_it_is_documented(home):
    progress.record_try("c.clip", True)
    progress.record_answer("c.q1", ["a"], True)
    progress.record_prediction("c.p1", 0.25)
    assert on_disk(home) == {
        "version": 1,
        "exercises": {"c.clip": {"tries": 1, "done": "2025-03-01", "hints": 0, "solution": False}},
        "questions": {"c.q1": {"chosen": ["a"], "right": True, "tries": 1, "first": True}},
        "predictions": {"c.p1": {"value": 0.25, "when": "2025-03-01"}},
    }
    assert names(home) == ["progress.json"]


def test_what_is_unknown_is_kept_and_what_is_missing_is_filled_in(home):
    more = {"notes": [1], "mood": "é", "tries": 2}
    put(home, {"version": 1, "exercises": {"c.clip": more, "c.old": {}}, "language": "en"})
    assert progress.read()["questions"] == {}
    assert progress.read()["exercises"]["c.old"] == {"tries": 0, "done": None, "hints": 0, "solution": False}
    progress.record_hint("c.clip", 1)
    found = on_disk(home)
    assert found["exercises"]["c.clip"] == {**more, "done": None, "hints": 1, "solution": False}
    assert found["exercises"]["c.old"] == {} and found["language"] == "en"


def test_a_byte_order_mark_is_no_damage(home, capsys):
    put(home, b"\xef\xbb\xbf" + json.dumps({"version": 1, **STATE}).encode())
    assert progress.read() == STATE
    assert capsys.readouterr().err == "" and names(home) == ["progress.json"]


def test_any_section_can_be_changed(home):
    progress.update("predictions", "c.p1", lambda entry: {**entry, "value": 1, "when": "2025-01-01", "sure": True})
    assert progress.read()["predictions"] == {"c.p1": {"value": 1, "when": "2025-01-01", "sure": True}}


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: progress.update("exercise", "c.x", dict), "expected a section among exercises, questions"),
        (lambda: progress.update("exercises", "", dict), "expected the id of an entry as text; got ''"),
        (lambda: progress.update("exercises", 3, dict), "expected the id of an entry as text; got 3"),
        (lambda: progress.update("exercises", "c.x", lambda entry: None), "it is no dict"),
        (lambda: progress.update("exercises", "c.x", lambda entry: {"hints": -1}), "hints is -1"),
        (lambda: progress.update("predictions", "c.x", lambda entry: {"value": 1}), "when is missing"),
        (lambda: progress.update("questions", "c.x", lambda entry: {1: 2}), "its keys are not all text"),
        (lambda: progress.record_hint("c.x", 0), "got 0"),
        (lambda: progress.record_hint("c.x", True), "got True"),
        (lambda: progress.record_prediction("c.x", True), "got True"),
        (lambda: progress.record_prediction("c.x", float("nan")), "got nan"),
        (lambda: progress.record_prediction("c.x", None), "got None"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(home, call, said):
    before = put(home, {"version": 1, **STATE})
    with pytest.raises(ValueError, match=re.escape(said)):
        call()
    assert (home / "progress.json").read_bytes() == before and names(home) == ["progress.json"]


# --- in company ------------------------------------------------------------------------------------------


def child(code, home):
    """A Python process with its own view of the reader's folder."""
    return subprocess.Popen(
        [sys.executable, "-c", "from pocourse.lesson import progress\n" + code],
        cwd=ROOT,
        env={**os.environ, "POCOURSE_HOME": str(home), "PYTHONIOENCODING": "utf-8"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


HUNDRED = """
import sys
print('ready', flush=True)
sys.stdin.readline()
for i in range(100):
    progress.record_try('c.shared', False)
    progress.record_hint('c.only_' + sys.stdin.name + str({number}), i + 1)
"""


def test_two_processes_lose_nothing_to_each_other(home):
    both = [child(HUNDRED.replace("{number}", str(number)), home) for number in (1, 2)]
    try:
        assert [process.stdout.readline() for process in both] == ["ready\n"] * 2
        for process in both:  # both at once
            process.stdin.write("go\n")
            process.stdin.flush()
        seen = []
        while any(process.poll() is None for process in both):
            sections, trouble = progress.look()  # a reader in their midst never sees half a file
            assert trouble is None
            seen.append(sections["exercises"].get("c.shared", {"tries": 0})["tries"])
        said = [process.communicate(timeout=30)[1] for process in both]
    finally:
        for process in both:
            process.kill()
            process.wait()
    assert said == ["", ""]
    assert seen == sorted(seen)
    found = progress.read()["exercises"]
    assert found.pop("c.shared")["tries"] == 200
    assert len(found) == 2 and all(entry["hints"] == 100 for entry in found.values())
    assert names(home) == ["progress.json"]


def test_threads_lose_nothing_to_each_other(home):
    def work():
        for _ in range(10):
            progress.record_try("c.shared", False)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert progress.read()["exercises"]["c.shared"]["tries"] == 40


def once_more():
    """Count one more try, whether the exercise is done or not."""
    progress.update("exercises", "c.clip", lambda entry: {**entry, "tries": entry["tries"] + 1})


def test_a_lock_held_by_another_is_waited_for_then_given_up_with_one_warning(home, monkeypatch, capsys):
    put(home, {"version": 1, **STATE})
    monkeypatch.setattr(progress, "LOCK_TIMEOUT_S", 0.1)
    holder = threading.Event(), threading.Event()

    def hold():
        with filelock.FileLock(home / "progress.json.lock"):
            holder[0].set()
            holder[1].wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert holder[0].wait(10)
        progress.record_try("c.clip", True)
        progress.record_try("c.clip", True)
        assert progress.read() == STATE  # reading needs no lock
        with pytest.raises(TimeoutError, match="locked"):
            progress.reset()
    finally:
        holder[1].set()
        thread.join()
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "Another process has kept" in said and "is not recorded" in said
    once_more()
    assert progress.read()["exercises"]["c.clip"]["tries"] == 4


# --- killed while writing --------------------------------------------------------------------------------

BEFORE_THE_REPLACE = """
import os, time
def stop(source, target):
    print(source, flush=True)
    time.sleep(60)
os.replace = stop
progress.update('exercises', 'c.clip', lambda entry: {**entry, 'tries': entry['tries'] + 1})
"""
HALF_WRITTEN = """
import time
class Half:
    def __init__(self, *arguments):
        self.file = open(*arguments)
    def __enter__(self):
        return self
    def __exit__(self, *error):
        self.file.close()
    def write(self, data):
        self.file.write(data[:len(data) // 2])
        self.file.flush()
        print(self.file.name, flush=True)
        time.sleep(60)
progress.open = Half
progress.update('exercises', 'c.clip', lambda entry: {**entry, 'tries': entry['tries'] + 1})
"""


@pytest.mark.parametrize(("code", "whole"), [(BEFORE_THE_REPLACE, True), (HALF_WRITTEN, False)])
@pytest.mark.parametrize("earlier", [STATE, None])
def test_a_writer_that_is_killed_leaves_the_earlier_state(home, code, whole, earlier):
    if earlier:
        put(home, {"version": 1, **earlier})
    process = child(code, home)
    try:
        part = Path(process.stdout.readline().strip())
    finally:
        process.kill()
        process.communicate()
    assert part.is_file() and part.parent == home
    written = part.read_bytes()
    if whole:
        assert json.loads(written)["exercises"]["c.clip"]["tries"] == (4 if earlier else 1)
    else:
        assert written.startswith(b"{") and not written.endswith(b"}\n")

    assert progress.read() == (earlier or EMPTY)
    done = CliRunner().invoke(cli.app, ["status", "--json"])
    assert done.exit_code == 0 and json.loads(done.stdout)["exercises"] == (earlier or EMPTY)["exercises"]

    once_more()  # the lock died with its holder
    assert progress.read()["exercises"]["c.clip"]["tries"] == (4 if earlier else 1)
    assert names(home) == ["progress.json"]


def test_a_write_that_fails_halfway_leaves_the_earlier_state(home, monkeypatch, capsys):
    sizes = []

    def full(descriptor):
        sizes.append(os.fstat(descriptor).st_size)
        raise OSError(errno.ENOSPC, "No space left on device")

    put(home, {"version": 1, **STATE})
    monkeypatch.setattr(os, "fsync", full)
    progress.record_try("c.clip", False)
    assert progress.read() == STATE and names(home) == ["progress.json"]
    assert "(No space left on device)" in capsys.readouterr().err
    assert len(sizes) == 1 and sizes[0] > 200  # all of it had gone to the system before it was asked to be safe


def test_only_own_leftovers_are_swept(home):
    put(home, {"version": 1, **STATE})
    for name in (".progress.json.1.part", ".other.json.1.part", "progress.damaged-20250101-000000.json", "x.part"):
        (home / name).touch()
    progress.record_solution("c.clip")
    assert names(home) == [".other.json.1.part", "progress.damaged-20250101-000000.json", "progress.json", "x.part"]


# --- damaged files ---------------------------------------------------------------------------------------


def with_entry(section, **entry):
    whole = {
        "exercises": {"tries": 1, "done": None, "hints": 0, "solution": False},
        "questions": {"chosen": ["a"], "right": True, "tries": 1, "first": True},
        "predictions": {"value": 1, "when": "2025-01-01"},
    }[section]
    return {"version": 1, **EMPTY, section: {"c.x": {**whole, **entry}}}


DAMAGED = {
    "empty file": b"",
    "blanks": b" \n",
    "half of it": json.dumps({"version": 1, **STATE}).encode()[:60],
    "binary": bytes(range(256)),
    "not UTF-8": json.dumps({"version": 1, **EMPTY}).encode("utf-16"),
    "zeros, as after a power cut": b"\0" * 200,
    "too deep": b"[" * 200_000,
    "a list": [1, 2],
    "a number": 3,
    "null": None,
    "no version": EMPTY,
    "version as text": {"version": "1", **EMPTY},
    "version true": {"version": True, **EMPTY},
    "version 0": {"version": 0, **EMPTY},
    "version 1.0": {"version": 1.0, **EMPTY},
    "section is a list": {"version": 1, **EMPTY, "exercises": []},
    "section is null": {"version": 1, **EMPTY, "predictions": None},
    "entry is a number": {"version": 1, **EMPTY, "questions": {"c.x": 1}},
    "negative hints": with_entry("exercises", hints=-1),
    "tries as bool": with_entry("exercises", tries=True),
    "tries as float": with_entry("exercises", tries=1.0),
    "solution as number": with_entry("exercises", solution=1),
    "done as bool": with_entry("exercises", done=True),
    "done is no day": with_entry("exercises", done="2025-02-30"),
    "done in another form": with_entry("exercises", done="20250301"),
    "chosen as text": with_entry("questions", chosen="a"),
    "chosen numbers": with_entry("questions", chosen=[1]),
    "right as null": with_entry("questions", right=None),
    "first as text": with_entry("questions", first="yes"),
    "questions tries negative": with_entry("questions", tries=-2),
    "value as list": with_entry("predictions", value=[1]),
    "value as bool": with_entry("predictions", value=True),
    "value NaN": with_entry("predictions", value=float("nan")),
    "no value": {"version": 1, **EMPTY, "predictions": {"c.x": {"when": "2025-01-01"}}},
    "when as null": with_entry("predictions", when=None),
    "what cannot be written again": json.dumps(with_entry("exercises", more=7)).replace("7", "1e999").encode(),
}


def test_the_entries_that_are_spoiled_below_are_good_ones(home, capsys):
    for section in EMPTY:
        put(home, with_entry(section))
        assert progress.read()[section] == with_entry(section)[section]
    assert capsys.readouterr().err == "" and names(home) == ["progress.json"]


@pytest.mark.parametrize("how", ["read", "update"])
@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_file_is_set_aside(home, capsys, kind, how):
    data = put(home, DAMAGED[kind])
    if how == "read":
        assert progress.read() == EMPTY
        assert len(names(home)) == 1  # a fresh one begins with the first change
    progress.record_try("c.clip", False)
    (aside,) = set(names(home)) - {"progress.json"}
    assert re.fullmatch(r"progress\.damaged-\d{8}-\d{6}\.json", aside)
    assert (home / aside).read_bytes() == data  # nothing of it is lost
    assert progress.read() == {**EMPTY, "exercises": {"c.clip": {**EXERCISE, "tries": 1}}}
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and str(home / aside) in said and "Traceback" not in said


def test_every_damaged_file_gets_a_name_of_its_own(home, monkeypatch, capsys):
    class Now(progress.datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2025, 3, 1, 12, 30, 59)

    monkeypatch.setattr(progress.datetime, "datetime", Now)
    for content in (b"one", b"two", b"three"):
        put(home, content)
        progress.read()
    aside = ["progress.damaged-20250301-123059-2.json", "progress.damaged-20250301-123059-3.json"]
    assert names(home) == [*aside, "progress.damaged-20250301-123059.json"]
    assert [(home / name).read_bytes() for name in names(home)] == [b"two", b"three", b"one"]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3 and all(any(f"{home / name}," in line for line in said) for name in names(home))


def test_what_somebody_mended_meanwhile_is_not_set_aside(home, monkeypatch, capsys):
    """Between seeing the damage and getting the lock, another process sets the file aside and begins a good one."""
    put(home, b"half")
    lock = progress._locked

    def late():
        put(home, {"version": 1, **STATE})
        return lock()

    monkeypatch.setattr(progress, "_locked", late)
    assert progress.read() == STATE
    assert names(home) == ["progress.json"] and capsys.readouterr().err == ""


def test_a_damaged_file_that_cannot_be_set_aside_stays(home, monkeypatch, capsys):
    def refuse(*paths):
        raise PermissionError(errno.EACCES, "Permission denied")

    data = put(home, b"half")
    monkeypatch.setattr(progress, "PATIENCE_S", 0.0)
    monkeypatch.setattr(os, "rename", refuse)
    assert progress.read() == EMPTY and progress.read() == EMPTY
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "is damaged and could not be set aside (Permission denied)" in said
    progress.record_try("c.clip", True)
    assert (home / "progress.json").read_bytes() == data and names(home) == ["progress.json"]
    assert capsys.readouterr().err.count("\n") == 1


# --- a newer version, folders that refuse ----------------------------------------------------------------


def test_what_a_newer_course_wrote_is_left_as_it_is(home, capsys):
    data = put(home, {"version": 2, "exercises": [1]})
    assert progress.read() == EMPTY
    for _ in range(2):
        progress.record_try("c.clip", True)
        progress.record_prediction("c.p1", 1)
    assert (home / "progress.json").read_bytes() == data and names(home) == ["progress.json"]
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "A newer version" in said and "Update the course." in said


def test_a_folder_that_cannot_be_written_gives_one_warning(home, monkeypatch, capsys):
    def refuse(*paths):
        raise PermissionError(errno.EACCES, "Permission denied")

    data = put(home, {"version": 1, **STATE})
    monkeypatch.setattr(progress, "PATIENCE_S", 0.0)
    monkeypatch.setattr(os, "replace", refuse)
    for _ in range(3):
        progress.record_try("c.clip", True)
        progress.record_answer("c.q1", ["b"], False)
    assert progress.read() == STATE
    assert (home / "progress.json").read_bytes() == data and names(home) == ["progress.json"]
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and str(home / "progress.json") in said and "(Permission denied)" in said


def test_a_read_only_file_system_is_survived(home, monkeypatch, capsys):
    """Not even the lock can be made there."""
    really = os.open

    def read_only(path, flags, *mode, **options):
        if str(path).startswith(str(home)) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(errno.EROFS, "Read-only file system")
        return really(path, flags, *mode, **options)

    put(home, {"version": 1, **STATE})
    monkeypatch.setattr(os, "open", read_only)
    progress.record_try("c.clip", True)
    assert progress.read() == STATE
    assert "(Read-only file system)" in capsys.readouterr().err
    with pytest.raises(OSError, match="Read-only"):
        progress.reset()
    put(home, b"half")
    assert progress.read() == EMPTY
    assert "could not be set aside (Read-only file system)" in capsys.readouterr().err
    assert list(home.iterdir()) == [home / "progress.json"]


def test_a_file_in_place_of_the_folder_is_survived(home, capsys):
    home.write_text("not a folder")
    progress.record_try("c.clip", True)
    progress.record_hint("c.clip", 1)
    assert progress.read() == EMPTY
    assert home.read_text() == "not a folder"
    assert capsys.readouterr().err.count("\n") == 1


def test_a_file_that_cannot_be_read_is_not_written_over(home, monkeypatch, capsys):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    put(home, {"version": 1, **STATE})
    monkeypatch.setattr(progress, "PATIENCE_S", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refuse)
        progress.record_try("c.clip", True)
        assert progress.read() == EMPTY
        assert CliRunner().invoke(cli.app, ["status"]).exit_code == 1
    assert progress.read() == STATE
    assert capsys.readouterr().err.count("\n") == 1


def test_a_file_system_without_locks_is_survived(home, monkeypatch, capsys):
    def missing(*arguments, **options):
        raise NotImplementedError("no flock")

    monkeypatch.setattr(filelock.FileLock, "acquire", missing)
    progress.record_try("c.clip", True)
    assert "has no locks" in capsys.readouterr().err and not (home / "progress.json").exists()


def test_a_file_that_is_busy_for_a_moment_is_waited_for(home, monkeypatch, capsys):
    """As on Windows, while somebody else has it open."""
    really, refused = os.replace, []

    def busy(*paths):
        if len(refused) < 2:
            refused.append(paths)
            raise PermissionError(errno.EACCES, "Permission denied")
        return really(*paths)

    monkeypatch.setattr(os, "replace", busy)
    monkeypatch.setattr(progress, "PATIENCE_S", 5.0)
    progress.record_try("c.clip", True)
    assert len(refused) == 2 and progress.read()["exercises"]["c.clip"]["tries"] == 1
    assert capsys.readouterr().err == ""


# --- reset and lightness ---------------------------------------------------------------------------------


def test_reset_deletes_the_file_and_what_killed_writers_left(home):
    assert progress.reset() is False and not home.exists()
    put(home, {"version": 1, **STATE})
    (home / ".progress.json.1.part").touch()
    assert progress.reset() is True
    assert names(home) == [] and progress.read() == EMPTY
    assert progress.reset() is False
    progress.record_try("c.clip", False)
    assert progress.read()["exercises"]["c.clip"]["tries"] == 1


def test_progress_needs_neither_torch_nor_numpy(home):
    process = child(
        "progress.record_try('c.x', True)\nfrom pocourse.lesson import status\n"
        "status.summary({}, {}, {}, progress.read())\nimport sys\nfrom pocourse import cli\n"
        "sys.argv = ['pocourse', 'status', '--json']\ntry: cli.main()\nfinally: "
        "print('heavy:', [m for m in ('torch', 'numpy', 'matplotlib', 'IPython') if m in sys.modules])",
        home,
    )
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert '"c.x"' in out and out.splitlines()[-1] == "heavy: []"


# --- status ----------------------------------------------------------------------------------------------

EXERCISES = {"02 c": [("c.clip", "The clip"), ("c.spo", "The parabola"), ("c.kl", "The bound"), ("c.seen", "Seen")]}
QUESTIONS = {"02 c": [(f"c.q{k}", "A question?") for k in range(1, 6)]}
PREDICTIONS = {"02 c": [("c.p1", "How far?"), ("c.p2", "Which one?")]}
BUSY = {
    "exercises": {
        "c.clip": {"tries": 3, "done": "2025-03-01", "hints": 2, "solution": False},
        "c.spo": {"tries": 1, "done": None, "hints": 1, "solution": True},
        "c.seen": {"tries": 0, "done": None, "hints": 0, "solution": True},
    },
    "questions": {
        "c.q1": {"chosen": ["a"], "right": True, "tries": 1, "first": True},
        "c.q2": {"chosen": ["b"], "right": False, "tries": 2, "first": True},
        "c.q3": {"chosen": ["a"], "right": True, "tries": 2, "first": False},
        "c.q4": {"chosen": ["c"], "right": False, "tries": 1, "first": False},
        "c.q5": {"chosen": [], "right": False, "tries": 0, "first": False},
    },
    "predictions": {"c.p1": {"value": 0.25, "when": "2025-02-28"}},
}


def test_status_by_hand():
    assert summary(EXERCISES, QUESTIONS, PREDICTIONS, BUSY) == [
        "02 c",
        "  Exercises: 1 of 4 done",
        "    - The clip (c.clip): done on 2025-03-01, 3 tries, 2 hints used",
        "    - The parabola (c.spo): tried 1 time, not right yet, 1 hint used, solution",
        "      looked at",
        "    - The bound (c.kl): not attempted",
        "    - Seen (c.seen): not attempted, solution looked at",
        "  Questions: 4 of 5 answered (2 right at the first try, 1 right, 1 wrong)",
        "    wrong: c.q4",
        "    open: c.q5",
        "  Predictions: 1 of 2 made",
        "    open: c.p2",
    ]


def test_status_of_one_who_has_not_begun():
    assert summary(EXERCISES, QUESTIONS, {"02 c": []}, EMPTY) == [
        "Nothing yet: no exercise tried, no question answered, no prediction made.",
        "",
        "02 c",
        "  Exercises: 0 of 4 done",
        *[f"    - {title} ({id}): not attempted" for id, title in EXERCISES["02 c"]],
        "  Questions: 0 of 5 answered",
        "    open: c.q1, c.q2, c.q3, c.q4, c.q5",
    ]


def test_status_of_one_who_has_finished():
    state = {**BUSY, "questions": {"c.q1": BUSY["questions"]["c.q1"]}}
    assert summary({}, {"02 c": [("c.q1", "?")]}, {"02 c": [("c.p1", "?")]}, {**state, "exercises": {}}) == [
        "02 c",
        "  Questions: 1 of 1 answered (1 right at the first try)",
        "  Predictions: 1 of 1 made",
    ]


def test_what_the_course_no_longer_has_is_named():
    state = {**BUSY, "predictions": {"old.p\n9": {"value": 1, "when": "2025-01-01"}}}
    lines = summary({"02 c": EXERCISES["02 c"][:2]}, QUESTIONS, {}, state)
    said = "Recorded, but not in this version of the course: exercises c.seen; predictions 'old.p\\n9'"
    assert " ".join(" ".join(lines[lines.index("") :]).split()) == said
    assert "Nothing yet" not in lines[0]


def test_status_keeps_to_80_columns_and_leaves_ids_whole():
    long = {
        "02 c": [
            (f"c.{k % 9 * 'x'}{k}-rather-long-id-of-something", "A title of several words " * 4) for k in range(30)
        ]
    }
    gone = [f"gone.{k}-{k}" for k in range(40)]
    lines = summary(long, long, long, {**EMPTY, "exercises": dict.fromkeys(gone, EXERCISE)})
    assert max(map(len, lines)) <= 80
    for id, times in {**{id: 3 for id, _ in long["02 c"]}, **dict.fromkeys(gone, 1)}.items():
        assert len(re.findall(rf"[\s(]{re.escape(id)}(?![\w-])", "\n".join(lines))) == times
    longest = "c." + 90 * "x"
    assert any(longest in line for line in summary({}, {"02 c": [(longest, "?")]}, {}, EMPTY))


def test_chapters_stand_apart_and_in_order():
    lines = summary(
        {"02 c": [("c.x", "X")], "03 nothing": []}, {"04 d": [("d.q", "?")]}, {"02 c": [("c.p", "?")]}, BUSY
    )
    assert [line for line in lines if line and not line.startswith(" ")][:2] == ["02 c", "04 d"]
    assert lines[lines.index("04 d") - 1] == ""


# --- the command -----------------------------------------------------------------------------------------


@pytest.fixture
def course(home, monkeypatch):
    """A course of one chapter with stand-ins for its exercises and its quiz."""
    exercise = types.SimpleNamespace(title="The clip")
    question, prediction = types.SimpleNamespace(text="Why?"), types.SimpleNamespace(text="How far?")
    modules = {
        "standin": {},
        "standin.exercises": {},
        "standin.quiz": {},
    }
    for name, content in modules.items():
        module = types.ModuleType(f"pocourse.{name}")
        module.__dict__.update(content, __spec__=importlib.machinery.ModuleSpec(module.__name__, None), __path__=[])
        monkeypatch.setitem(sys.modules, f"pocourse.{name}", module)
    monkeypatch.setattr(exercises, "_registry", {"standin.clip": exercise})
    monkeypatch.setattr(questions, "_registry", {"standin.q1": question, "other.q2": question})
    monkeypatch.setattr(questions, "_predictions", {"standin.p1": prediction})
    monkeypatch.setattr(cli, "CHAPTERS", {"02": "standin"})
    return home


def status(*options, **more):
    return CliRunner().invoke(cli.app, ["status", *options], **more)


def test_status_for_a_reader(course):
    progress.record_try("standin.clip", True)
    progress.record_answer("standin.q1", ["a"], True)
    done = status()
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        "02 standin",
        "  Exercises: 1 of 1 done",
        "    - The clip (standin.clip): done on 2025-03-01, 1 try",
        "  Questions: 1 of 1 answered (1 right at the first try)",
        "  Predictions: 0 of 1 made",
        "    open: standin.p1",
        "",
        "other",
        "  Questions: 0 of 1 answered",
        "    open: other.q2",
        "",
        f"Progress is kept in {course / 'progress.json'}",
    ]
    assert done.stderr == ""


def test_status_before_anything_was_done(course):
    done = status()
    assert done.exit_code == 0 and done.stdout.startswith("Nothing yet:") and "(standin.clip)" in done.stdout
    assert not course.exists()


def test_status_as_json(home):
    put(home, {"version": 1, **STATE})
    done = status("--json")
    assert done.exit_code == 0 and done.stderr == ""
    assert json.loads(done.stdout) == {"file": str(home / "progress.json"), **STATE}


def test_status_sets_a_damaged_file_aside_and_says_so(course):
    put(course, b"half")
    done = status()
    assert done.exit_code == 0 and done.stdout.startswith("Nothing yet:")
    (aside,) = names(course)
    assert str(course / aside) in done.stderr


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_status_does_not_call_nothing_what_it_cannot_read(course, options):
    put(course, {"version": 7})
    done = status(*options)
    assert done.exit_code == 1 and done.stdout == "" and done.stderr.count("A newer version") == 1


def test_reset_asks_first(home):
    put(home, {"version": 1, **STATE})
    named = f"{home / 'progress.json'} (exercises 1, questions 1, predictions 1)"
    for answer in ("n\n", "\n"):
        kept = status("--reset", input=answer)
        assert kept.exit_code == 1 and f"Delete {named}?" in kept.stdout
        assert f"Kept {home / 'progress.json'}" in kept.stdout and on_disk(home)["exercises"] == STATE["exercises"]
    nobody = status("--reset", input="")
    assert nobody.exit_code == 1 and (home / "progress.json").exists()
    done = status("--reset", input="y\n")
    assert done.exit_code == 0 and f"Deleted {named}" in done.stdout and names(home) == []


def test_reset_without_asking(home):
    put(home, {"version": 1, **STATE})
    done = status("--reset", "--yes")
    assert done.exit_code == 0 and names(home) == []
    assert done.stdout == f"Deleted {home / 'progress.json'} (exercises 1, questions 1, predictions 1)\n"
    again = status("--reset", "--yes")
    assert again.exit_code == 0 and again.stdout == f"Nothing to clear: there is no {home / 'progress.json'}\n"


def test_reset_of_what_a_newer_course_wrote_says_what_it_is(home):
    put(home, {"version": 2})
    kept = status("--reset", input="n\n")
    assert "A newer version" in kept.stderr and names(home) == ["progress.json"]
    done = status("--reset", input="y\n")
    assert done.exit_code == 0 and names(home) == [] and "exercises 0" not in done.stdout


def test_a_reset_that_fails_says_so(home, monkeypatch):
    def refuse(*paths, **options):
        raise PermissionError(errno.EACCES, "Permission denied")

    put(home, {"version": 1, **STATE})
    monkeypatch.setattr(progress, "PATIENCE_S", 0.0)
    monkeypatch.setattr(Path, "unlink", refuse)
    done = status("--reset", "--yes")
    assert done.exit_code == 2 and "Permission denied" in done.stderr and "Deleted" not in done.stdout
    assert names(home) == ["progress.json"]


@pytest.mark.parametrize("options", [("--reset", "--json"), ("--yes",)])
def test_options_that_contradict_each_other_are_refused(home, options):
    put(home, {"version": 1, **STATE})
    done = status(*options)
    assert done.exit_code == 2 and "Leave" in done.stderr and names(home) == ["progress.json"]
