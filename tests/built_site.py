"""The site, built once for all tests of a run and all its workers, outside of the checkout."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).parents[1]


@functools.cache
def built():
    """The folder of the finished site, and how its build went. Whoever asks first builds; another worker waits."""
    target = Path(os.environ["POCOURSE_TESTS_SHARED"]) / "site"
    command = [sys.executable, str(ROOT / "docs" / "make_site.py"), "--to", str(target)]
    how = target.with_suffix(".json")
    with FileLock(target.with_suffix(".lock")):
        if not how.exists():
            target.mkdir(exist_ok=True)
            done = subprocess.run(command, cwd=target, capture_output=True, text=True, timeout=400)
            how.write_text(json.dumps([done.returncode, done.stdout, done.stderr]), encoding="utf-8")
    return target / "html", subprocess.CompletedProcess(command, *json.loads(how.read_text(encoding="utf-8")))
