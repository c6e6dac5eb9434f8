"""The site, built once for all tests of a run, outside of the checkout."""

import atexit
import functools
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


@functools.cache
def built():
    """The folder of the finished site, and how its build went."""
    target = Path(tempfile.mkdtemp(prefix="pocourse-site-"))
    atexit.register(shutil.rmtree, target, ignore_errors=True)
    command = [sys.executable, str(ROOT / "docs" / "make_site.py"), "--to", str(target)]
    done = subprocess.run(command, cwd=target, capture_output=True, text=True, timeout=400)
    return target / "html", done
