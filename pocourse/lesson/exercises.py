"""Exercises: what is asked, what a right answer must satisfy, and the wrong answers that must not.

An answer is never compared with a solution. It is put on trial against *properties*: values worked
out by hand, gradient identities, limits, invariances, refusal of bad input. A property that does not
hold says so in words that a learner can act on.

An exercise is judged in turn by its *mutants*, wrong answers each of which some property has to
kill, and by right answers written in different ways, none of which any property may kill. The
matrix of both is a test of the exercise.
"""

import linecache
import math
import sys
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pocourse.lesson import trial
from pocourse.lesson.trial import Answer, Broken, Trouble
from pocourse.lesson.wrong import Wrong

HINTS = 3
_registry: dict[str, "Exercise"] = {}


@dataclass(frozen=True)
class Property:
    """Something that is true of every right answer. ``holds(answer)`` returns None, or what broke, for the learner."""

    name: str
    holds: Callable[[Answer], str | None]


@dataclass(frozen=True)
class Result:
    """What a trial found about one property: it held, or the message says what broke; None was not looked at."""

    property: str
    held: bool | None
    message: str = ""


@dataclass(frozen=True)
class Verdict:
    """The outcome of a trial. ``state`` is "right", "wrong" or "not attempted"."""

    exercise: str
    state: str
    results: tuple[Result, ...] = ()
    message: str = ""
    slip: Wrong | None = None
    printed: str = ""

    @property
    def right(self) -> bool:
        return self.state == "right"


@dataclass
class Exercise:
    """A card, a stub, properties, hints, a solution, and the answers that judge the properties.

    ``parameters`` and ``options`` name what the answer is called with, positionally and by keyword; ``returns`` judges
    the type of a result (see ``trial.tensor_like``). Two answers that agree on all argument lists of ``probes()``, in
    value and in the gradient of the arguments numbered ``differentiable``, are taken for the same mistake; a list may
    end in a dict of options.
    """

    id: str
    title: str
    section: str
    difficulty: int
    minutes: int
    task: str
    stub: str
    hints: tuple[str, ...]
    solution: str
    after: str
    parameters: tuple[str, ...]
    options: tuple[str, ...] = ()
    returns: Callable[[object, tuple], str | None] | None = None
    probes: Callable[[], Sequence[tuple]] | None = None
    differentiable: tuple[int, ...] = ()
    limit_s: float = trial.LIMIT_S
    properties: list[Property] = field(default_factory=list)
    mutants: list[Wrong] = field(default_factory=list)
    accepted: dict[str, Callable] = field(default_factory=dict)

    @property
    def chapter(self) -> str:
        return self.id.split(".")[0]

    @property
    def name(self) -> str:
        """The name of the function that the stub asks for."""
        return self.stub.partition("def ")[2].partition("(")[0]

    def requires(self, name: str) -> Callable:
        """Add a property, in the order in which a learner should hear of them."""

        def add(holds: Callable[[Answer], str | None]):
            self.properties.append(Property(name, holds))
            return holds

        return add

    def mutant(self, name: str, reason: str, citation: str | None = None) -> Callable:
        """Add a wrong answer that some property has to kill; ``reason`` tells a learner what is wrong with it."""

        def add(run: Callable):
            self.mutants.append(Wrong(name, reason, run, citation))
            return run

        return add

    def accepts(self, name: str) -> Callable:
        """Add a right answer, written differently from the solution, that every property has to pass."""

        def add(run: Callable):
            self.accepted[name] = run
            return run

        return add

    def on_trial(self, function: Callable) -> Answer:
        """The function as its properties see it."""
        return Answer(function, self.parameters, self.returns)


def exercise(
    id: str,
    *,
    title: str,
    section: str,
    difficulty: int,
    minutes: int,
    task: str,
    stub: str,
    hints: Sequence[str],
    solution: str,
    after: str,
    parameters: Sequence[str],
    options: Sequence[str] = (),
    returns: Callable[[object, tuple], str | None] | None = None,
    probes: Callable[[], Sequence[tuple]] | None = None,
    differentiable: Sequence[int] = (),
    limit_s: float = trial.LIMIT_S,
) -> Exercise:
    """Register an exercise; its properties, mutants and accepted answers are added by decorators of what is returned.

    Raises: ValueError for an id that is taken or names no chapter, a difficulty outside 1 to 5, other than three hints,
    an empty text, or a stub and a solution that do not define the same function.
    """
    if id in _registry:
        raise ValueError(f"expected a new id; got {id!r}, which is taken. Choose another name for the exercise.")
    if id.count(".") != 1 or not all(part.isidentifier() for part in id.split(".")):
        raise ValueError(f"expected an id such as chapter.exercise; got {id!r}. Name the chapter, then the exercise.")
    if not 1 <= difficulty <= 5 or minutes < 1:
        raise ValueError(
            f"expected a difficulty from 1 to 5 and at least one minute; got {difficulty} and {minutes}. Mend {id}."
        )
    if len(hints) != HINTS or not all(text.strip() for text in (*hints, title, task, after)):
        raise ValueError(
            f"expected a title, a task, {HINTS} hints and a word for afterwards, none of them empty; got {len(hints)} "
            f"hints for {id}. Go from a nudge to nearly the answer."
        )
    made = Exercise(
        id,
        title,
        section,
        difficulty,
        minutes,
        task.strip(),
        stub.strip("\n"),
        tuple(hint.strip() for hint in hints),
        solution.strip("\n"),
        after.strip(),
        tuple(parameters),
        tuple(options),
        returns,
        probes,
        tuple(differentiable),
        limit_s,
    )
    if not made.name.isidentifier() or f"def {made.name}(" not in made.solution:
        raise ValueError(
            f"expected stub and solution of {id} to define the same function; the stub's is {made.name!r}."
        )
    _registry[id] = made
    return made


def registry() -> dict[str, Exercise]:
    """All exercises of the chapters imported so far, by id, in the order in which they were registered."""
    return dict(_registry)


def find(id: str) -> Exercise:
    """The exercise of this id. Raises: ValueError with the known ones."""
    if id not in _registry:
        raise ValueError(
            f"expected the id of an exercise; got {id!r}. Import the chapter's exercises first, as in "
            f"`import pocourse.{str(id).split('.')[0]}.exercises`; known are: {', '.join(_registry) or 'none'}."
        )
    return _registry[id]


# ---------------------------------------------------------------- judging


def judge(id: str, function: Callable) -> Verdict:
    """Put an answer on trial against the properties of an exercise. Whatever the answer does, there is a verdict."""
    found = find(id)
    problem = trial.unsuitable(function, found.parameters, found.options)
    if trial.untouched(function):
        return Verdict(id, "not attempted", message="The body of your function is still empty.")
    if problem:
        return Verdict(id, "wrong", message=problem)
    answer = found.on_trial(function)
    results: list[Result] = []
    message = ""
    heard = trial.Heard()
    try:
        trial.within(found.limit_s, lambda: _look(found, answer, results), heard)
    except Trouble as trouble:
        message = str(trouble)
    looked_at = {result.property for result in results}
    results += [Result(property.name, None) for property in found.properties if property.name not in looked_at]
    right = not message and all(result.held for result in results)
    return Verdict(
        id,
        "right" if right else "wrong",
        tuple(results),
        message,
        None if right or message else _slip(found, function),
        heard.text.strip(),
    )


def _look(found: Exercise, answer: Answer, results: list[Result]) -> None:
    for property in found.properties:
        results.append(_try(property, answer))


def _try(property: Property, answer: Answer) -> Result:
    try:
        message = property.holds(answer)
    except Broken as broken:
        message = str(broken)
    except Trouble:
        raise
    except trial.Stop:
        raise
    except BaseException as error:  # a result so odd that judging it failed
        said = trial.in_words(error)
        message = f"your result could not be judged: {type(error).__name__}{f': {said}' if said else ''}."
    return Result(property.name, not message, message or "")


def _slip(found: Exercise, function: Callable) -> Wrong | None:
    """The one mutant that a wrong answer is in disguise: the same values and gradients on all probes."""
    if found.probes is None:
        return None
    try:
        return trial.within(found.limit_s, lambda: _same_as(found, function))
    except Exception:  # an answer that cannot be compared, whatever the reason, is no known slip
        return None


def _same_as(found: Exercise, function: Callable) -> Wrong | None:
    mine, alike = fingerprint(found, function), []
    for mutant in found.mutants:
        try:
            theirs = fingerprint(found, mutant.run)
        except Trouble:
            continue
        if len(mine) == len(theirs) and all(_close(a, b) for a, b in zip(mine, theirs, strict=True)):
            alike.append(mutant)
    # Where several slips do the same on the probes, nobody can tell which one this is.
    return alike[0] if len(alike) == 1 else None


def fingerprint(found: Exercise, function: Callable) -> list[Tensor | None]:
    """Values, and gradients with respect to the differentiable arguments, on every probe; None where there is none."""
    prints: list[Tensor | None] = []
    for probe in found.probes():
        options = probe[-1] if isinstance(probe[-1], dict) else {}
        positional = probe[:-1] if options else probe
        arguments = [x.clone().requires_grad_() if i in found.differentiable else x for i, x in enumerate(positional)]
        results = found.on_trial(function)(*arguments, **options)
        for result in results if isinstance(results, tuple) else (results,):
            value = torch.as_tensor(result)
            prints.append(value.detach().double())
            for i in found.differentiable:
                slope = None
                if value.requires_grad:
                    (slope,) = torch.autograd.grad(value.sum(), arguments[i], allow_unused=True, retain_graph=True)
                prints.append(None if slope is None else slope.double())
    return prints


def _close(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.shape == other.shape and torch.allclose(one, other, rtol=1e-7, atol=1e-9, equal_nan=True)


# ---------------------------------------------------------------- the matrix


@dataclass(frozen=True)
class Matrix:
    """Which property kills which wrong answer: ``kills[mutant]`` lists the names of the properties it breaks.

    ``survivors`` are wrong answers that pass, ``refused`` right answers that do not, each with what was said.
    """

    exercise: str
    properties: tuple[str, ...]
    kills: dict[str, tuple[str, ...]]
    said: dict[str, str]
    accepted: tuple[str, ...]
    refused: dict[str, str]

    @property
    def survivors(self) -> list[str]:
        return [mutant for mutant, killers in self.kills.items() if not killers]

    @property
    def complete(self) -> bool:
        """Whether every mutant dies, every right answer lives, and no property is idle."""
        idle = set(self.properties) - {name for killers in self.kills.values() for name in killers}
        return not self.survivors and not self.refused and not idle

    def __str__(self) -> str:
        width = max((len(name) for name in [*self.kills, *self.accepted, "solution"]), default=0)
        lines = [self.exercise]
        lines += [f"  {chr(ord('a') + i)}  {name}" for i, name in enumerate(self.properties)]
        lines.append("  " + " " * width + "  " + " ".join(chr(ord("a") + i) for i in range(len(self.properties))))
        for mutant, killers in self.kills.items():
            marks = " ".join("x" if name in killers else "." for name in self.properties)
            lines.append(f"  {mutant:<{width}}  {marks}" + ("" if killers else "   SURVIVES"))
        for name in self.accepted:
            refused = f"   REFUSED: {self.refused[name]}" if name in self.refused else "   passes"
            lines.append(f"  {name:<{width}}  " + " ".join("." for _ in self.properties) + refused)
        return "\n".join(lines)


def matrix(id: str) -> Matrix:
    """Put every mutant, every accepted answer and the solution on trial against every property by itself."""
    found = find(id)
    kills, said, refused = {}, {}, {}
    for mutant in found.mutants:
        broken = _broken(found, mutant.run)
        kills[mutant.name] = tuple(broken)
        said[mutant.name] = next(iter(broken.values()), "")
    right = {"solution": solved(found), **found.accepted}
    for name, function in right.items():
        if broken := _broken(found, function):
            refused[name] = "; ".join(f"{property}: {message}" for property, message in broken.items())
    return Matrix(id, tuple(p.name for p in found.properties), kills, said, tuple(right), refused)


def _broken(found: Exercise, function: Callable) -> dict[str, str]:
    """Every property that an answer breaks, with the message. Each is tried on its own, whatever the others did."""
    broken = {}
    for property in found.properties:
        try:
            result = trial.within(found.limit_s, lambda p=property: _try(p, found.on_trial(function)))
        except Trouble as trouble:
            broken[property.name] = str(trouble)
        else:
            if not result.held:
                broken[property.name] = result.message
    return broken


def solved(found: Exercise) -> Callable:
    """The solution as a function. It sees what the stub's reader sees in the notebook: ``math`` and ``torch``."""
    return run_source(found.solution, f"<solution of {found.id}>")[found.name]


def run_source(source: str, where: str) -> dict[str, object]:
    """Run a piece of Python that may use ``math`` and ``torch``; what it defines, by name."""
    module = types.ModuleType("pocourse_answer")
    sys.modules[module.__name__] = module  # dataclasses look their module up
    vars(module).update(torch=torch, math=math)
    # For messages about errors to be able to quote the line.
    linecache.cache[where] = (len(source), None, source.splitlines(keepends=True), where)
    exec(compile(source, where, "exec"), vars(module))
    return vars(module)
