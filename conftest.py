"""For every pytest run in this repository, the notebooks under nbval included: no network, no reader's files.

The guard works in this process at once, and through PYTHONPATH in every Python process started
from it: kernels, servers, subprocesses. So does POCOURSE_HOME, an empty folder in place of the
reader's own one.
"""

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

GUARD = str(Path(__file__).parent / "tests" / "offline")

inherited = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry and entry != GUARD]
os.environ["PYTHONPATH"] = os.pathsep.join([GUARD, *inherited])
if GUARD not in sys.path:
    sys.path.insert(0, GUARD)

import offline_guard  # noqa: E402

import pocourse  # noqa: E402, F401  before torch, and for the kernels: it settles how threads wait

offline_guard.install()

os.environ["POCOURSE_HOME"] = tempfile.mkdtemp(prefix="pocourse-tests-")
atexit.register(shutil.rmtree, os.environ["POCOURSE_HOME"], ignore_errors=True)
