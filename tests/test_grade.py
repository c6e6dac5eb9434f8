"""`pocourse grade`, as a learner in a shell uses it: no traceback of ours, an exit status that tells, a matrix."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from pocourse import cli
from pocourse.lesson import exercises, progress

ID = "ratio_clipping.ppo_clip"


@pytest.fixture
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("POCOURSE_HOME", str(tmp_path / "home"))
    return tmp_path


def grade(*arguments):
    return CliRunner().invoke(cli.app, ["grade", *map(str, arguments)])


def answer(folder, source):
    path = folder / "answer.py"
    path.write_text(source, encoding="utf-8")
    return path


def test_all_exercises_are_listed_and_one_is_shown_with_its_stub(home):
    listed = grade()
    assert listed.exit_code == 0
    for id, found in exercises.registry().items():
        assert f"{id}: {found.title}" in listed.stdout
    shown = grade(ID)
    assert shown.exit_code == 0 and exercises.find(ID).stub in shown.stdout and "difficulty" in shown.stdout
    assert progress.read()["exercises"] == {}


def test_a_right_answer_in_a_file(home):
    done = grade(ID, answer(home, "import torch\n" + exercises.find(ID).solution))
    assert done.exit_code == 0 and ": right. All " in done.stdout
    entry = progress.read()["exercises"][ID]
    assert entry["tries"] == 1 and entry["done"]


def test_a_wrong_answer_in_a_file(home):
    done = grade(ID, answer(home, "def ppo_clip(ratio, advantage, clip_eps=0.2):\n    return ratio * advantage\n"))
    assert done.exit_code == 1 and ": not yet." in done.stdout and "✗ breaks" in done.stdout
    assert progress.read()["exercises"][ID]["done"] is None


def test_the_stub_itself_is_not_attempted(home):
    done = grade(ID, answer(home, exercises.find(ID).stub))
    assert done.exit_code == 1 and "not attempted" in done.stdout and progress.read()["exercises"] == {}


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("x = 1 / 0", "stopped in line 1 with ZeroDivisionError: division by zero"),
        ("def f(:", "is not Python"),
        ("import sys\nsys.exit(4)", "stopped in line 2 with SystemExit: 4"),
        ("x = 1", "Expected a function named `ppo_clip`"),
        ("ppo_clip = 3", "Expected your function itself; got an int"),
        ("import nothing_of_this_name", "No module named"),
        ("raise KeyboardInterrupt", "stopped in line 1 with KeyboardInterrupt."),
        ("x = input()", "stopped in line 1 with EOFError"),
    ],
)
def test_a_file_that_does_not_serve_is_told_so(home, source, said):
    done = grade(ID, answer(home, source))
    assert done.exit_code == 1 and said in done.stdout and "Traceback" not in done.output


def test_a_file_that_cannot_be_read(home):
    assert "cannot be read" in grade(ID, home / "nowhere.py").stdout
    (home / "latin.py").write_bytes(b"\xff\xfe")
    done = grade(ID, home / "latin.py")
    assert done.exit_code == 1 and "UTF-8" in done.stdout


def test_a_file_may_begin_with_a_mark_import_its_neighbour_and_use_dataclasses(home):
    (home / "beside_it.py").write_text("import torch\nsmaller = torch.minimum\n")
    source = (
        "\ufefffrom __future__ import annotations\nfrom dataclasses import dataclass\nfrom beside_it import smaller\n"
        "@dataclass\nclass Range:\n    low: float\n    high: float\n"
        "def ppo_clip(ratio, advantage, clip_eps=0.2):\n    range = Range(1 - clip_eps, 1 + clip_eps)\n"
        "    return smaller(ratio * advantage, ratio.clamp(range.low, range.high) * advantage)\n"
    )
    folders = list(sys.path)
    done = grade(ID, answer(home, source))
    assert done.exit_code == 0, done.output
    assert sys.path == folders


def test_a_file_that_never_ends_is_stopped(home, monkeypatch):
    monkeypatch.setattr(exercises.find(ID), "limit_s", 0.3)
    done = grade(ID, answer(home, "while True:\n    pass\n"))
    assert done.exit_code == 1 and "did not finish within 0.3 seconds" in done.stdout


def test_hints_come_one_after_the_other_and_the_solution_is_noted(home):
    assert "Hint 1 of 3" in grade(ID, "--hint").stdout
    assert "Hint 2 of 3" in grade(ID, "--hint").stdout
    assert "def ppo_clip" in grade(ID, "--solution").stdout
    entry = progress.read()["exercises"][ID]
    assert entry["hints"] == 2 and entry["solution"] is True and entry["done"] is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ratio_clipping.nothing",), "expected an exercise among"),
        ((ID, "--hint", "--solution"), "expected one of"),
        ((ID, "x.py", "--hint"), "expected one of"),
        (("--matrix", "nowhere"), "expected a chapter with exercises"),
        ((ID, "--matrix", "ratio_clipping"), "nothing else"),
    ],
)
def test_what_cannot_be_meant_is_refused(home, arguments, said):
    done = grade(*arguments)
    assert done.exit_code == 2 and said in done.stderr and done.stdout == ""


@pytest.mark.slow
def test_the_matrix_of_the_chapter_is_complete_and_shown(home):
    done = grade("--matrix", "ratio_clipping")
    assert done.exit_code == 0, done.output
    mine = [found for found in exercises.registry().values() if found.chapter == "ratio_clipping"]
    wrong = sum(len(found.mutants) for found in mine)
    right = sum(len(found.accepted) + 1 for found in mine)
    assert f"{len(mine)} exercises, {wrong} of {wrong} wrong answers killed, {right} of {right} right" in done.stdout
    for found in mine:
        for property in found.properties:
            assert property.name in done.stdout
        for mutant in found.mutants:
            assert mutant.name in done.stdout
    assert "SURVIVES" not in done.stdout and progress.read()["exercises"] == {}


def test_a_matrix_with_a_survivor_fails(home, monkeypatch):
    found = exercises.find(ID)
    monkeypatch.setattr(exercises, "_registry", {ID: found})  # one exercise is enough of a chapter
    monkeypatch.setattr(found, "mutants", [*found.mutants])
    found.mutant("not wrong", "it is right")(exercises.solved(found))
    done = grade("--matrix", "ratio_clipping")
    assert done.exit_code == 1 and "SURVIVES" in done.stdout


@pytest.mark.slow
def test_grade_and_status_as_commands(home):
    path = answer(home, "def ppo_clip(ratio, advantage, clip_eps=0.2):\n    while True: pass\n")
    command = [sys.executable, "-m", "pocourse.cli"]
    done = subprocess.run([*command, "grade", ID, str(path)], capture_output=True, text=True, timeout=100)
    assert done.returncode == 1 and "did not finish" in done.stdout and done.stderr == ""
    done = subprocess.run([*command, "status", "--json"], capture_output=True, text=True, timeout=100)
    assert json.loads(done.stdout)["exercises"][ID]["tries"] == 1
