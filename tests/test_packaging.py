"""What is installed is what is written down: three lists of packages, one version, a light import, a complete wheel."""

import os
import re
import statistics
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import pocourse

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
CONDA_NAMES = {"pytorch": "torch"}
# What torch pins itself, on the platforms that have it.
NOT_PINNED = re.compile(r"nvidia-.*|cuda-.*|triton")


def requirements():
    """Everything pyproject.toml asks for, extras included, as {name: requirement}."""
    written = [*PROJECT["dependencies"], *(line for lines in EXTRAS.values() for line in lines)]
    parsed = [Requirement(line) for line in written]
    return {canonicalize_name(r.name): r for r in parsed if r.name != "pocourse"}


def constraints():
    """The pins of constraints.txt as {name: version}."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {}
    for line in lines:
        if line and not line.startswith("#"):
            match = re.fullmatch(r"([A-Za-z0-9._-]+)==([0-9][A-Za-z0-9.]*)", line)
            assert match, f"{line!r} is no plain pin: no local suffix, no path, no marker"
            assert canonicalize_name(match[1]) not in pins, f"{match[1]} is pinned twice"
            pins[canonicalize_name(match[1])] = match[2]
    return pins


def conda():
    """What environment.yml asks for as {name: constraint}, its pip section included, python and pip left out."""
    listed = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    lines = [line for line in listed if isinstance(line, str)]
    lines += [line for entry in listed if isinstance(entry, dict) for line in entry["pip"]]
    split = dict((line.split(" ", 1) if " " in line else (line, "")) for line in lines if line != "-e .")
    return {canonicalize_name(CONDA_NAMES.get(k, k)): v for k, v in split.items() if k not in ("python", "pip")}


def test_conda_asks_for_what_pyproject_asks_for():
    assert conda() == {name: str(r.specifier) for name, r in requirements().items()}
    listed = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    assert "-e ." in listed[-1]["pip"]
    python = next(line for line in listed if isinstance(line, str) and line.startswith("python "))
    assert set(python.removeprefix("python ").split(",")) == set(PROJECT["requires-python"].split(","))


def test_every_requirement_is_pinned_and_the_pin_is_allowed():
    pins = constraints()
    for name, requirement in requirements().items():
        assert name in pins, f"{name} is not in constraints.txt"
        assert requirement.specifier.contains(pins[name]), f"{name}=={pins[name]} is not {requirement.specifier}"
    assert pins["torch"] == "2.13.0"


def installed_closure():
    """Every distribution that pocourse[dev,docs] brings with it here, dependencies of dependencies included."""
    todo = list(requirements().values())
    seen = {}
    while todo:
        wanted = todo.pop()
        name = canonicalize_name(wanted.name)
        if name in seen and wanted.extras <= seen[name]:
            continue
        seen[name] = seen.get(name, set()) | wanted.extras
        for need in map(Requirement, distribution(name).requires or []):
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in ("", *seen[name])):
                todo.append(need)
    return set(seen)


def test_dependencies_of_dependencies_are_pinned():
    closure = installed_closure()
    assert len(closure) > 100
    unpinned = {name for name in closure - set(constraints()) if not NOT_PINNED.fullmatch(name)}
    assert unpinned == set()


def test_dev_holds_what_the_tests_need():
    dev = {canonicalize_name(Requirement(line).name) for line in EXTRAS["dev"]}
    assert {"pytest", "pytest-xdist", "nbval", "ruff", "hypothesis", "playwright", "minatar", "hatchling"} <= dev
    assert "pocourse" in dev
    inner = next(Requirement(line) for line in EXTRAS["dev"] if line.startswith("pocourse"))
    assert inner.extras == set(EXTRAS) - {"dev", "docs"}


def test_one_version_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert str(citation["version"]) == pocourse.__version__
    assert re.search(r"^## (\S+)", changelog, re.MULTILINE)[1] == pocourse.__version__
    assert citation["license"] == PROJECT["license"] == "Apache-2.0"


def test_the_package_imports_in_no_time_and_without_torch():
    code = (
        "import sys, time; before = set(sys.modules); start = time.perf_counter(); import pocourse; "
        "print(time.perf_counter() - start, *sorted(set(sys.modules) - before))"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(5)]
    seconds = statistics.median(float(run.stdout.split()[0]) for run in runs)
    loaded = runs[0].stdout.split()[1:]
    assert seconds < 0.3
    assert loaded == ["pocourse"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The names inside a wheel built from this checkout, without a network and without isolation."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
        return set(archive.namelist())


@pytest.mark.slow
def test_a_wheel_ships_the_code_and_the_data(wheel):
    source = [path for kind in ("py", "js") for path in (ROOT / "pocourse").rglob(f"*.{kind}")]
    code = {path.relative_to(ROOT).as_posix() for path in source}
    assert "pocourse/lesson/explorable.js" in code
    data = {
        "pocourse/_data/" + path.relative_to(ROOT / "data").as_posix()
        for path in (ROOT / "data").rglob("*")
        if path.is_file()
        and "make" not in path.relative_to(ROOT / "data").parts[:-1]
        and "__pycache__" not in path.parts
    }
    assert "pocourse/_data/references.bib" in data
    assert {name for name in wheel if ".dist-info/" not in name} == code | data


@pytest.mark.slow
def test_a_wheel_has_the_command(wheel):
    assert any(name.endswith(".dist-info/entry_points.txt") for name in wheel)
    assert PROJECT["scripts"] == {"pocourse": "pocourse.cli:main"}


# --- make ------------------------------------------------------------------------------------------


def make(*arguments, cwd=ROOT):
    # Without the flags of the make that may have started these tests.
    command = ["env", "-u", "MAKEFLAGS", "-u", "MAKELEVEL", "-u", "MFLAGS", "make", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)


@pytest.fixture
def bare(tmp_path):
    """A folder with the Makefile and what its environment depends on, and a Python that only pretends."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf-8"))
    fake = tmp_path / "fake-python"
    fake.write_text(
        '#!/bin/sh\necho "$@" >> calls\n'
        'if test "$2" = venv; then mkdir -p .venv/bin && cp fake-python .venv/bin/python; fi\n'
        'if test "$3" = install && test -e broken; then exit 1; fi\n'
    )
    fake.chmod(0o755)
    return tmp_path


def outdate(folder, *, by):
    """Make the stamp newer than what it depends on, but for one file."""
    for seconds, name in enumerate(["pyproject.toml", "constraints.txt", ".venv/.installed", by], 1_000_000_000):
        os.utime(folder / name, (seconds, seconds))


def test_make_installs_once_and_again_only_when_the_lists_change(bare):
    assert make("env", "PYTHON=./fake-python", cwd=bare).returncode == 0
    calls = (bare / "calls").read_text()
    assert calls.count("-m venv") == 1
    assert "--constraint constraints.txt --editable .[dev,docs]" in calls and "index" not in calls

    (bare / "calls").unlink()
    assert make("env", "PYTHON=./fake-python", cwd=bare).returncode == 0
    assert not (bare / "calls").exists()

    outdate(bare, by="constraints.txt")
    assert make("env", "PYTHON=./fake-python", "TORCH_INDEX=https://cpu.example", cwd=bare).returncode == 0
    calls = (bare / "calls").read_text()
    assert "--extra-index-url https://cpu.example" in calls and "-m venv" not in calls


def test_a_failed_install_leaves_no_stamp(bare):
    (bare / "broken").touch()
    assert make("env", "PYTHON=./fake-python", cwd=bare).returncode != 0
    assert not (bare / ".venv" / ".installed").exists()
    (bare / "broken").unlink()
    assert make("env", "PYTHON=./fake-python", cwd=bare).returncode == 0
    assert (bare / ".venv" / ".installed").exists()

    outdate(bare, by="pyproject.toml")
    (bare / "broken").touch()
    assert make("env", "PYTHON=./fake-python", cwd=bare).returncode != 0
    assert not (bare / ".venv" / ".installed").exists()


def test_make_refuses_an_old_or_missing_python(bare):
    old = bare / "old-python"
    # Runs the check of the Makefile under a version that lies.
    old.write_text(f'#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = (3, 10, 4); $2"\n')
    old.chmod(0o755)
    refused = make("env", "PYTHON=./old-python", cwd=bare)
    assert refused.returncode != 0 and "pocourse needs Python 3.11, 3.12 or 3.13" in refused.stderr
    missing = make("env", "PYTHON=no-such-python", cwd=bare)
    assert missing.returncode != 0 and "no 'no-such-python' here" in missing.stderr
    assert not (bare / ".venv").exists()


def test_make_names_its_targets():
    listed = make().stdout
    for target in "help env lab test check lint format data records notebooks site clean".split():
        assert f"make {target} " in listed
    assert (ROOT / ".ci" / "run").read_text().rstrip().splitlines()[-1] == "make test"
