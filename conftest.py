"""For every pytest run in this repository, nbval's included: no network, none of the reader's files, one thread.

The guard works in this process at once, and through PYTHONPATH in every Python process started
from it: kernels, servers, subprocesses, the workers of pytest-xdist. So do POCOURSE_HOME and
IPYTHONDIR, empty folders in place of the reader's own ones. A worker makes its own of all of these.
"""

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

GUARD = str(Path(__file__).parent / "tests" / "offline")

# Before anything loads torch. The tensors are small, and several processes share the cores: two threads that wait for
# each other on a core that something else uses as well take many times as long as one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

inherited = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry and entry != GUARD]
os.environ["PYTHONPATH"] = os.pathsep.join([GUARD, *inherited])
if GUARD not in sys.path:
    sys.path.insert(0, GUARD)

import offline_guard  # noqa: E402

import pocourse  # noqa: E402, F401  before torch, and for the kernels: it settles how threads wait

offline_guard.install()


def _folder(prefix):
    """A new folder, until this process ends."""
    made = tempfile.mkdtemp(prefix=prefix)
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


os.environ["POCOURSE_HOME"] = _folder("pocourse-tests-")
# Two kernels that write to one history lock each other out.
os.environ["IPYTHONDIR"] = _folder("pocourse-ipython-")
# What is made once for all workers (the site) lies where the process that starts them says.
if "POCOURSE_TESTS_SHARED" not in os.environ:
    os.environ["POCOURSE_TESTS_SHARED"] = _folder("pocourse-shared-")
