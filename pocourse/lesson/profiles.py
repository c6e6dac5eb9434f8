"""Profiles: the same training code in three sizes."""

import contextlib
import os

PROFILES = ("ci", "cpu", "gpu")


def profile(name: str = "auto") -> str:
    """The size at which to train: ``ci``, ``cpu`` or ``gpu``.

    ``auto`` takes POCOURSE_PROFILE if it is set, else ``gpu`` where torch finds CUDA, else ``cpu``.
    Raises: ValueError for any other name.
    """
    asked = (os.environ.get("POCOURSE_PROFILE") or "auto") if name == "auto" else name
    if asked == "auto":
        import torch

        return "gpu" if torch.cuda.is_available() else "cpu"
    if asked not in PROFILES:
        raise ValueError(
            f"expected a profile among auto, {', '.join(PROFILES)}; got {asked!r}. "
            "Change the argument or the environment variable POCOURSE_PROFILE."
        )
    return asked


def device(name: str):
    """The torch device a profile trains on.

    Raises: ValueError where ``gpu`` is asked for and torch finds no CUDA device.
    """
    import torch

    if name == "gpu" and not torch.cuda.is_available():
        raise ValueError(
            "expected a CUDA device for the profile gpu; torch finds none. "
            "Take the profile cpu, or install a CUDA build of torch on a machine with a card."
        )
    return torch.device("cuda" if name == "gpu" else "cpu")


@contextlib.contextmanager
def threads(at_most: int = 4):
    """Torch with few threads inside the ``with`` block, and with as many as before after it.

    The matrices of the course are small: beyond a few threads, sharing the work out costs more than it saves. Fewer
    than ``at_most`` stay as they are, so that OMP_NUM_THREADS and the cores a container grants are respected.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(min(at_most, before))
    try:
        yield
    finally:
        torch.set_num_threads(before)
