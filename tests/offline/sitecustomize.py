"""Python imports this at start-up in every child process of the tests: conftest.py puts the folder on PYTHONPATH.

It installs the offline guard and then runs the sitecustomize that this one shadows, if there is one.
"""

import importlib.machinery
import importlib.util
import os
import sys

import offline_guard

offline_guard.install()


def _run_the_shadowed_one():
    here = os.path.dirname(os.path.abspath(__file__))
    elsewhere = [entry for entry in sys.path if os.path.abspath(entry) != here]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", elsewhere)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


_run_the_shadowed_one()
