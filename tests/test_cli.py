"""The command line, as a reader uses it: what it prints where, what it refuses, how it is interrupted."""

import importlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from pocourse import cli
from pocourse.lesson import claims as registry
from pocourse.lesson import paths
from pocourse.lesson.records import load
from pocourse.ratio_clipping import training

ROOT = Path(__file__).parent.parent


def pocourse(*arguments):
    return CliRunner().invoke(cli.app, arguments)


@pytest.fixture
def home(monkeypatch, tmp_path):
    """A reader's folder, and the profile ci in miniature."""
    monkeypatch.setenv("POCOURSE_HOME", str(tmp_path))
    monkeypatch.setitem(training.SIZES, "ci", {"seeds": 8, "num_envs": 4, "num_steps": 16})
    for comparison in training.COMPARISONS.values():
        monkeypatch.setitem(comparison, "ci", {"hidden": (8, 8), "steps": 128})
    return tmp_path


def shipped():
    return {path: path.stat().st_mtime_ns for path in (ROOT / "data").rglob("*")}


# --- run -----------------------------------------------------------------------------------------------


def test_run_prints_json_and_nothing_else_on_standard_output(home):
    before = shipped()
    done = pocourse("run", "02", "--profile", "ci", "--json", "--only", "shallow")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["chapter"] == "ratio_clipping"
    (record,) = found["records"]
    assert record["name"] == "shallow" and record["status"] == "finished" and record["profile"] == "ci"
    assert record["made_by"] == "pocourse run 02 --profile ci"
    assert record["summary"].keys() == set(training.METHODS)
    assert all("largest_ratio_deviation" in method for method in record["summary"].values())
    assert {"configuration", "versions", "hardware", "wall_time_s", "peak_memory_mb", "seed"} <= record.keys()
    assert "finished: update 2 of 2" in done.stderr
    assert shipped() == before
    assert sorted(p.name for p in (home / "runs" / "ratio_clipping").iterdir()) == ["shallow-ci.csv", "shallow-ci.json"]


def test_run_prints_tables_for_a_reader(home):
    done = pocourse("run", "2", "--profile", "ci")
    assert done.exit_code == 0
    for name in training.COMPARISONS:
        assert f"{name}, finished" in done.stdout
    assert done.stdout.count("| SPO |") == 2
    assert f"Saved in {home / 'runs' / 'ratio_clipping'}" in done.stdout


def test_only_record_writes_among_the_shipped_runs(home, monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "shipped", lambda: tmp_path / "data")
    done = pocourse("run", "02", "--profile", "ci", "--only", "deep", "--record", "--json")
    assert done.exit_code == 0
    saved = load(tmp_path / "data" / "runs" / "ratio_clipping", "deep", "ci")
    assert saved.json["made_by"] == "pocourse run 02 --profile ci --record"
    assert not (home / "runs").exists()


def test_auto_is_resolved_before_it_is_written_down(home, monkeypatch):
    monkeypatch.setenv("POCOURSE_PROFILE", "ci")
    done = pocourse("run", "02", "--json", "--only", "shallow")
    assert json.loads(done.stdout)["records"][0]["made_by"] == "pocourse run 02 --profile ci"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "07"), "expected a chapter among 02, 03, 04, 05; got 07"),
        (("run", "two"), "expected a chapter among 02, 03, 04, 05; got two"),
        (("run", "02", "--only", "wide"), "expected a comparison among shallow, deep; got wide"),
        (("run", "02", "--profile", "big"), "'big' is not one of"),
        (
            ("claims", "chapter_9"),
            "expected a chapter among ratio_clipping, surrogate_variance, zeroth_order, diffusion_dpo; got chapter_9",
        ),
        (("lab", "09_nothing.ipynb"), "found no 09_nothing.ipynb"),
    ],
)
def test_what_does_not_exist_is_refused_with_what_does(arguments, said, home):
    done = pocourse(*arguments)
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.replace("│", " ").split()) and done.stdout == ""


def test_the_profile_gpu_is_refused_without_a_card(home, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    done = pocourse("run", "02", "--profile", "gpu")
    assert done.exit_code == 2 and "expected a CUDA device" in done.stderr and done.stdout == ""


def test_a_profile_from_the_environment_that_does_not_exist_is_refused(home, monkeypatch):
    monkeypatch.setenv("POCOURSE_PROFILE", "huge")
    done = pocourse("run", "02")
    assert done.exit_code == 2 and "'huge'" in done.stderr


def test_a_mistake_in_the_code_is_not_taken_for_one_of_the_reader(home, monkeypatch):
    def broken(*arguments, **options):
        raise ValueError("a bug")

    monkeypatch.setattr(training, "train", broken)
    done = pocourse("run", "02", "--profile", "ci")
    assert done.exit_code == 1 and isinstance(done.exception, ValueError)


def test_record_needs_a_checkout(home, monkeypatch):
    monkeypatch.setattr(paths, "checkout", lambda: None)
    done = pocourse("run", "02", "--profile", "ci", "--record")
    assert done.exit_code == 2 and "expected a checkout" in done.stderr


LONG_RUN = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job is born deaf to it
from pocourse import cli
from pocourse.lesson import live
from pocourse.ratio_clipping import training
live.SAVE_EVERY_S = 0.0
training.SIZES["ci"] = {"seeds": 8, "num_envs": 4, "num_steps": 16}
for comparison in training.COMPARISONS.values():
    comparison["ci"] = {"hidden": (8, 8), "steps": 64_000_000}
sys.argv = ["pocourse", "run", "02", "--profile", "ci", "--json"]
cli.main()
"""


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_is_saved_and_printed(tmp_path, how):
    run = subprocess.Popen(
        [sys.executable, "-c", LONG_RUN],
        cwd=ROOT,
        env={**os.environ, "POCOURSE_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        folder = tmp_path / "runs" / "ratio_clipping"
        until = time.monotonic() + 60
        while not (folder / "shallow-ci.json").exists():
            assert run.poll() is None and time.monotonic() < until, run.communicate()
            time.sleep(0.05)
        run.send_signal(how)
        out, err = run.communicate(timeout=30)
    finally:
        run.kill()
        run.wait()
    assert run.returncode == 130, err
    (record,) = json.loads(out)["records"]  # the deep comparison is not begun any more
    assert record["status"] == "interrupted" and record["updates"] >= 1
    assert load(folder, "shallow", "ci").json["status"] == "interrupted"
    assert sorted(path.name for path in folder.iterdir()) == ["shallow-ci.csv", "shallow-ci.json"]


def test_termination_means_again_what_it_meant_before(home):
    before = signal.getsignal(signal.SIGTERM)
    pocourse("run", "02", "--profile", "ci", "--only", "shallow")
    assert signal.getsignal(signal.SIGTERM) == before


# --- claims --------------------------------------------------------------------------------------------

FIELDS = {"id", "chapter", "equation", "kind", "tex", "source", "draws", "tolerance", "error", "holds", "twins_refuted"}


@pytest.fixture
def three_claims(monkeypatch):
    """The claims of chapter 2, all but three of them left out, so that checking them takes no time."""
    for name in cli.CHAPTERS.values():  # once imported, a chapter registers no claim again
        importlib.import_module(f"pocourse.{name}.claims")
    mine = {id: found for id, found in registry.registry().items() if found.chapter == "ratio_clipping"}
    quick = dict(list(mine.items())[:3])
    monkeypatch.setattr(registry, "_registry", quick)
    return quick


def test_claims_as_json(three_claims):
    done = pocourse("claims", "--json")
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert [claim["id"] for claim in found] == list(three_claims)
    for claim in found:
        assert claim.keys() >= FIELDS
        assert claim["holds"] is True and claim["chapter"] == "ratio_clipping"
        assert claim["twins_refuted"] and all(claim["twins_refuted"].values())


def test_claims_for_a_reader(three_claims):
    done = pocourse("claims", "ratio_clipping")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert len(lines) == 3 and all(line.startswith("ok  ") for line in lines)
    assert all(id in line for id, line in zip(three_claims, lines, strict=True))


def test_a_claim_that_fails_fails_the_command(three_claims):
    first = next(iter(three_claims.values()))
    right = first.sides
    first.sides = first.twins[0].run
    try:
        done = pocourse("claims")
    finally:
        first.sides = right
    assert done.exit_code == 1 and done.stdout.count("FAIL") == 1


# --- lab and help --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("user", "options"), [(0, ["--allow-root"]), (1000, [])])
def test_lab_opens_a_notebook(monkeypatch, tmp_path, user, options):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / cli.FIRST_NOTEBOOK).touch()
    monkeypatch.setattr(paths, "checkout", lambda: tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(os, "geteuid", lambda: user, raising=False)
    called = []
    monkeypatch.setattr(subprocess, "call", lambda command: called.append(command) or 3)
    done = pocourse("lab")
    assert done.exit_code == 3  # JupyterLab's own
    notebook = str(tmp_path / "notebooks" / cli.FIRST_NOTEBOOK)
    (command,) = called
    assert command[:3] == [sys.executable, "-m", "jupyterlab"] and command[-1] == notebook
    assert [option for option in command if option.startswith("--allow")] == options
    assert "--LabApp.news_url=None" in command  # nothing is asked of a network


def test_lab_needs_a_checkout(monkeypatch):
    monkeypatch.setattr(paths, "checkout", lambda: None)
    done = pocourse("lab")
    assert done.exit_code == 2 and "clone it and run `make lab`" in done.stderr


def test_lab_needs_jupyterlab(monkeypatch, tmp_path):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / cli.FIRST_NOTEBOOK).touch()
    monkeypatch.setattr(paths, "checkout", lambda: tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    done = pocourse("lab")
    assert done.exit_code == 2 and "pocourse[lab]" in done.stderr


def test_help_names_the_commands_and_starts_without_torch():
    code = (
        "import sys; from pocourse import cli; sys.argv = ['pocourse', '--help']\n"
        "try: cli.main()\nfinally: print('heavy:', [m for m in ('torch', 'numpy', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(command in done.stdout for command in ("lab", "run", "claims"))
    assert "heavy: []" in done.stdout


def test_no_command_shows_the_help():
    done = pocourse()
    assert "Usage" in done.output and done.exit_code in (0, 2)
