"""A wrong variant: what a claim's twin, an exercise's mutant and a museum piece have in common."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Wrong:
    """Something that looks right and is not.

    ``name`` is a short identifier, ``reason`` says what is wrong in words a learner understands,
    ``run`` is the wrong code, and ``citation`` names the public place it was found in, if it was.
    """

    name: str
    reason: str
    run: Callable
    citation: str | None = None
