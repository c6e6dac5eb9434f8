"""Several workers: units stay whole and come in their order, and every worker has what one process would have."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import workers

ROOT = Path(__file__).parents[1]
CHAPTERS = ["ratio_clipping", "zeroth_order"]


@pytest.mark.parametrize(
    ("nodeid", "unit"),
    [
        ("notebooks/02_ratio_clipping.ipynb::Cell 3", "notebooks/02_ratio_clipping.ipynb"),
        ("tests/test_house.py::test_a_layer[a::b]", "tests/test_house.py"),
        ("tests/test_offline.py::test_a", "tests/test_house.py"),
        ("tests/test_museum.py::test_a", "tests/museum"),
        ("tests/test_museum_pieces.py::test_a[zeroth_order.x]", "tests/museum"),
        ("tests/test_zeroth_order_museum.py::test_a", "tests/museum"),
        ("tests/test_notebooks.py::test_a[04_zeroth_order-clean]", "tests/test_notebooks.py zeroth_order"),
        ("tests/test_notebooks.py::test_a", "tests/test_notebooks.py"),
        ("tests/browser/test_lab.py::test_a[quiz(-ratio_clipping]", "tests/browser/test_lab.py ratio_clipping"),
        ("tests/browser/test_lab.py::test_a", "tests/browser/test_lab.py"),
        ("tests/browser/test_access.py::test_a[ratio_clipping]", "tests/browser/explorables"),
        ("tests/browser/test_site_pages.py::test_a[ratio_clipping]", "tests/browser/test_site_pages.py"),
    ],
)
def test_what_belongs_together(nodeid, unit):
    assert workers.unit(nodeid, CHAPTERS) == unit


def test_the_units_come_in_order_and_those_with_a_browser_last(request):
    items = [item.nodeid for item in request.session.items]
    units = {workers.unit(item, CHAPTERS) for item in items}
    last = max(workers.rank(unit) for unit in units if "browser" not in unit)
    assert all(workers.rank(unit) > last for unit in units if "browser" in unit)
    ordered = ["notebooks/a.ipynb", "tests/test_notebooks.py a", "tests/museum", "tests/test_x_exercises.py"]
    ordered += ["tests/test_bench.py", "tests/test_house.py", "tests/browser/explorables", "tests/browser/test_lab.py"]
    assert sorted(reversed(ordered), key=workers.rank) == ordered


# Each file waits for the other, so that no worker gets both.
SEEN = """
import os, socket, sys, time
from pathlib import Path
import pytest
import offline_guard

def test_it():
    shared = Path(os.environ["POCOURSE_TESTS_SHARED"])
    names = "PYTEST_XDIST_WORKER", "POCOURSE_HOME", "IPYTHONDIR"
    (shared / Path(__file__).stem).write_text("\\n".join(os.environ[name] for name in names))
    until = time.monotonic() + 60
    while not all((shared / name).exists() for name in ("test_one", "test_two")):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert os.environ["OMP_NUM_THREADS"] == "1" and os.environ["PYTHONPATH"].split(os.pathsep)[0] in sys.path
    with socket.socket() as s, pytest.raises(offline_guard.OutsideRefused):
        s.connect(("192.0.2.1", 80))
"""


@pytest.mark.slow
def test_every_worker_is_guarded_and_has_folders_of_its_own(tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    for name in ("test_one", "test_two"):
        (tmp_path / f"{name}.py").write_text(SEEN)
    # Without the names by which a worker knows itself, should this be one.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    environment["POCOURSE_TESTS_SHARED"] = str(shared)
    command = [sys.executable, "-m", "pytest", "-p", "conftest", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    command += ["-n", "2", "--dist", "loadfile", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout + done.stderr
    one, two = ((shared / name).read_text().splitlines() for name in ("test_one", "test_two"))
    assert all(mine != other for mine, other in zip(one, two, strict=True))
    assert not any(Path(folder).exists() for folder in one[1:] + two[1:]), "a worker leaves its folders behind"
