"""Claims: equations that run.

A claim is a function that draws random instances and returns both sides of an equation. How the
sides are compared is its *kind*:

=========  ================================  ====================================================
kind       the function returns              it holds when
=========  ================================  ====================================================
identity   left, right                       they are equal on every draw, to ``tolerance``
bound      small, large                      small <= large on every draw, and some draw comes
                                             within the fraction ``attained`` of equality
estimate   samples [n, ...], exact [...]     the mean lies within ``tolerance`` standard errors
order      step [k, ...], error [k, ...]     each error shrinks like step**rate, slope to ``tolerance``
witness    large, small                      large > small strictly, on every instance
=========  ================================  ====================================================

Each claim carries at least one wrong twin, the same statement with one typical mistake in it, and
the check must refute every twin. Random instances alone never refute a wrong constant in a bound:
that is why a bound has to come close to equality somewhere among its draws.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from pocourse.lesson.wrong import Wrong

KINDS = ("identity", "bound", "estimate", "order", "witness")
_registry: dict[str, "Claim"] = {}


class ClaimFailed(AssertionError):
    """A claim does not hold on its draws, or one of its wrong twins passes."""


@dataclass(frozen=True)
class Draw:
    """Random instances for a claim: ``count`` of them, float64, from one fixed generator."""

    count: int
    generator: torch.Generator

    def normal(self, *shape: int) -> torch.Tensor:
        """Standard normal numbers of shape [count, *shape]."""
        return torch.randn(self.count, *shape, generator=self.generator, dtype=torch.float64)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
        """Uniform numbers in [low, high) of shape [count, *shape]."""
        unit = torch.rand(self.count, *shape, generator=self.generator, dtype=torch.float64)
        return low + (high - low) * unit


@dataclass(frozen=True)
class Outcome:
    """One comparison: the error found, whether it is allowed, and for a bound how tight it is."""

    error: float
    holds: bool
    median_slack: float | None = None
    closest: float | None = None


@dataclass
class Claim:
    """A numbered equation of a notebook together with the function that checks it."""

    id: str
    equation: str
    kind: str
    tex: str
    source: str
    sides: Callable
    draws: int
    tolerance: float
    attained: float | None = None
    rate: float | None = None
    twins: list[Wrong] = field(default_factory=list)

    @property
    def chapter(self) -> str:
        return self.id.split(".")[0]

    def twin(self, name: str, reason: str, **changes):
        """Add a wrong twin: this claim's function with some arguments changed, or, as a decorator, another function."""

        def add(sides):
            self.twins.append(Wrong(name, reason, sides))
            return sides

        return add(functools.partial(self.sides, **changes)) if changes else add

    def outcome(self, sides: Callable | None = None, seed: int = 0) -> Outcome:
        """Draw the instances and compare the two sides."""
        draw = Draw(self.draws, torch.Generator().manual_seed(seed))
        return _compare(self, *(sides or self.sides)(draw))

    def refuted(self, twin: Wrong, seed: int = 0) -> bool:
        """Whether the check finds the twin wrong. A loose bound is not refuted: only a violation does that."""
        return not self.outcome(twin.run, seed).error <= self.tolerance

    def verdict(self, seed: int = 0) -> dict:
        """Everything there is to say about this claim, ready for JSON."""
        outcome = self.outcome(seed=seed)
        return {
            "id": self.id,
            "chapter": self.chapter,
            "equation": self.equation,
            "kind": self.kind,
            "tex": self.tex,
            "source": self.source,
            "draws": self.draws,
            "tolerance": self.tolerance,
            "error": outcome.error,
            "holds": outcome.holds,
            "median_slack": outcome.median_slack,
            "closest": outcome.closest,
            "twins_refuted": {twin.name: self.refuted(twin, seed) for twin in self.twins},
        }


def claim(
    id: str,
    *,
    equation: str,
    kind: str,
    tex: str,
    source: str,
    draws: int,
    tolerance: float,
    attained: float | None = None,
    rate: float | None = None,
) -> Callable[[Callable], Claim]:
    """Turn a function ``sides(draw) -> (left, right)`` into a registered claim."""
    if kind not in KINDS:
        raise ValueError(f"expected kind as one of {', '.join(KINDS)}; got {kind!r}. Choose the one that fits {id}.")
    if (kind == "bound") != (attained is not None) or (kind == "order") != (rate is not None):
        raise ValueError(
            f"expected attained= with every bound, rate= with every order, and neither with another kind; got {kind} "
            f"for {id} with attained={attained}, rate={rate}. State how near a draw comes to equality, or the rate."
        )
    if id in _registry:
        raise ValueError(f"expected a new id; got {id!r}, which is taken. Choose another name for the claim.")

    def register(sides: Callable) -> Claim:
        _registry[id] = Claim(id, equation, kind, tex, source, sides, draws, tolerance, attained, rate)
        return _registry[id]

    return register


def registry() -> dict[str, Claim]:
    """All claims of the chapters imported so far, by id, in the order of their equations."""
    return dict(sorted(_registry.items(), key=lambda item: [int(part) for part in item[1].equation.split(".")]))


def check(id: str) -> None:
    """Check a claim and refute its twins, and say so in one line that is the same on every machine.

    Raises ClaimFailed when the claim does not hold or a wrong twin passes.
    """
    if id not in _registry:
        raise ValueError(
            f"expected the id of a claim; got {id!r}. Import the chapter's claims first, as in "
            f"`import pocourse.{id.split('.')[0]}.claims`; known are: {', '.join(sorted(_registry)) or 'none'}."
        )
    found = _registry[id]
    verdict = found.verdict()
    if not verdict["holds"]:
        raise ClaimFailed(
            f"({found.equation}) {id} does not hold: error {verdict['error']:.3g}, allowed {found.tolerance:g}, "
            f"closest to equality {verdict['closest']}."
        )
    passing = [name for name, refuted in verdict["twins_refuted"].items() if not refuted]
    if passing or not found.twins:
        names = ", ".join(passing) or "no twin at all"
        raise ClaimFailed(f"({found.equation}) {id}: not refuted, though wrong: {names}.")
    refuted = ", ".join(twin.name.replace("_", " ") for twin in found.twins)
    print(f"({found.equation}) holds: {_said(found)}. Refuted: {refuted}.")


def _said(found: Claim) -> str:
    if found.kind == "identity":
        return f"both sides equal on {found.draws} draws to {found.tolerance:g}"
    if found.kind == "bound":
        near = "reaches" if found.attained <= 1e-8 else f"comes within {100 * found.attained:g}% of"
        return f"never violated on {found.draws} draws, and one {near} equality"
    if found.kind == "estimate":
        return f"the mean is within {found.tolerance:g} standard errors of the exact value"
    if found.kind == "order":
        return f"the error shrinks at order {found.rate:g}, slope to {found.tolerance:g}"
    return f"strict on {found.draws} instance{'s' if found.draws > 1 else ''}"


def _compare(found: Claim, left, right) -> Outcome:
    left, right = torch.as_tensor(left, dtype=torch.float64), torch.as_tensor(right, dtype=torch.float64)
    scale = torch.maximum(left.abs(), right.abs()).clamp(min=1.0) if left.shape == right.shape else None
    if scale is None and found.kind != "estimate":
        raise ValueError(
            f"expected two sides of one shape from {found.id}; got {list(left.shape)} and {list(right.shape)}. "
            "Expand the constant side with torch.full_like."
        )
    if found.kind == "identity":
        error = _largest((left - right).abs() / scale)
        return Outcome(error, error <= found.tolerance)
    if found.kind == "bound":
        error = _largest((left - right) / scale)
        # Zero equals zero in every bound: only a draw whose sides the tolerance can tell from zero may attain it.
        size = torch.maximum(left.abs(), right.abs())
        slack = torch.where(size > found.tolerance, (right - left) / size, torch.full_like(size, math.inf))
        closest = float(slack.min())
        holds = error <= found.tolerance and closest <= found.attained
        return Outcome(error, holds, float((right - left).median()), closest)
    if found.kind == "estimate":
        standard_error = left.std(0) / math.sqrt(left.shape[0])
        error = _largest((left.mean(0) - right).abs() / standard_error)
        return Outcome(error, error <= found.tolerance)
    if found.kind == "order":
        x, y = left.log(), right.log()
        x, y = x - x.mean(0), y - y.mean(0)
        slope = (x * y).sum(0) / (x**2).sum(0)
        error = _largest((slope - found.rate).abs())
        return Outcome(error, error <= found.tolerance)
    error = _largest(right - left)
    # Strict: a witness that only reaches equality proves nothing.
    return Outcome(error if error < 0 else max(error, math.ulp(1.0)), error < 0)


def _largest(error: torch.Tensor) -> float:
    """The largest entry, with anything that is not a number counted as infinitely wrong."""
    return float(torch.where(error.isnan(), torch.full_like(error, math.inf), error).max())
