"""For the unit tests: figures are drawn without a screen, one thread each, and units for several workers."""

import matplotlib
import pytest
import torch
import workers

matplotlib.use("agg")
# Also where a plugin of pytest has loaded torch before OMP_NUM_THREADS was set.
torch.set_num_threads(1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """What ``--dist loadfile`` hands out, in the units of this course."""
    return workers.scheduler(config, log) if config.getoption("dist") == "loadfile" else None
