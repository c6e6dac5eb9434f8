"""What the properties share: numbers to try, what a result has to look like, and how a difference is told to a learner.

Tensors are made anew for every call. An answer may spoil its inputs, and the next one must not see that.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pocourse.lesson import trial

TOLERANCE = 1e-6
# Whatever is computed in single precision.
LOOSE = 1e-4
NOT_A_NUMBER = "look for 0 / 0, for ∞ / ∞ or ∞ − ∞"
INFINITE = "look for a division by 0"
# How many problems are tried side by side, and in which shapes.
PROBLEMS, STACKS = 6, ((2, 3), (3, 1, 2))
SINGLE = (
    "The first digits are right, and the others lost: somewhere inside is single precision. Leave out `.float()`, and "
    "compute in the dtype of the input."
)


def row(*values: float, dtype: torch.dtype = torch.float64) -> Tensor:
    """A new tensor of these numbers."""
    return torch.tensor(values, dtype=dtype)


def table(*rows: Sequence[float]) -> Tensor:
    """A new tensor with these rows."""
    return torch.tensor(rows, dtype=torch.float64)


def short(*shape: int, seed: int) -> Tensor:
    """Numbers with one decimal that are easily read, the same each time."""
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (2 * drawn).round(decimals=1)


def every_sign(directions: int, dim: int) -> Tensor:
    """All choices of so many directions with coordinates of 1 and −1, each choice a problem: [direction, choice, dim].

    Their coordinates have mean 0, variance 1 and no covariance, as those of a standard normal direction have.
    """
    signs = torch.cartesian_prod(*[row(-1.0, 1.0)] * (directions * dim))
    return signs.reshape(-1, directions, dim).movedim(1, 0).contiguous()


def words(values: Tensor | Sequence[float]) -> str:
    """A few numbers in a sentence, with a proper minus sign."""
    return "(" + ", ".join(signed(x) for x in values) + ")"


def rows(values: Tensor) -> str:
    """Several rows of numbers in a sentence."""
    said = [words(x) for x in values]
    return said[0] if len(said) == 1 else ", ".join(said[:-1]) + " and " + said[-1]


def signed(value: float | Tensor) -> str:
    """A number in a sentence, with a proper minus sign and without an exponent."""
    x = _tidy(value)
    if 0 < abs(x) < 1e-4:
        said = f"{x:.12f}".rstrip("0")
    elif abs(x) >= 9e5 and math.isfinite(x):
        said = f"{x:.0f}"
    else:
        said = trial.show(x)
    return said.replace("-", "−")


def pair(mine: Tensor, wanted: Tensor) -> tuple[str, str]:
    """Two numbers, or two rows of them, with as many digits as it takes to see that they differ."""
    say = words if mine.dim() else signed
    one, other = say(mine.detach()), say(wanted.detach())
    return (one, other) if one != other else (_exactly(mine), _exactly(wanted))


def _exactly(values: Tensor) -> str:
    said = ", ".join(f"{_tidy(x):.10g}".replace("-", "−") for x in values.detach().reshape(-1))
    return f"({said})" if values.dim() else said


def _tidy(x: float | Tensor) -> float:
    """Without the dust of rounding, and without the sign of a zero."""
    return 0.0 if abs(float(x)) < 1e-12 else float(x)


def off(mine: Tensor, wanted: Tensor, tolerance: float = TOLERANCE) -> int | None:
    """The index of the first number that is not what it should be; NaN never is."""
    close = torch.isclose(mine.detach().double(), wanted.detach().double(), rtol=tolerance, atol=tolerance).reshape(-1)
    return None if close.all() else int((~close).long().argmax())


def told(
    mine: Tensor, wanted: Tensor, where: str, why: str, what: str = "gradient", tolerance: float = TOLERANCE
) -> str | None:
    """None if the numbers are what they must be, else a sentence: where, what came out, what must, and why."""
    if off(mine, wanted, max(tolerance, LOOSE) if mine.dtype == torch.float32 else tolerance) is None:
        return None
    got, must = pair(mine, wanted)
    verb, it = ("are", "they") if what.endswith("s") else ("is", "it")
    return f"{where} your {what} {verb} {got}, and {it} must be {must}{unless_a_number(got)}. {why}"


def unless_a_number(got: str) -> str:
    """Where to look for a value that is not finite, if there is one."""
    return f": {NOT_A_NUMBER}" if "nan" in got else f": {INFINITE}" if "inf" in got else ""


def each_by_itself(
    run: Callable[..., Tensor], *given: tuple[Tensor, int], at: Sequence[str], what: str, advice: str, result_axis: int
) -> str | None:
    """Whether six problems have six results, each as if it came alone, in a stack of any shape and in single precision.

    ``given`` are the arguments, each with the number of its axis of problems; ``result_axis`` is that of the result.
    """

    def stacked(dtype: torch.dtype = torch.float64, shape: tuple[int, ...] = (PROBLEMS,)) -> Tensor:
        result = run(*(x.to(dtype).unflatten(axis, shape) for x, axis in given))
        return result.flatten(result_axis, result_axis + len(shape) - 1).movedim(result_axis, 0)

    def alone(dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.stack([run(*(x.select(axis, i).to(dtype).clone() for x, axis in given)) for i in range(PROBLEMS)])

    def problem_of(index: int, like: Tensor) -> int:
        return index // (like.numel() // PROBLEMS)

    def shapes(shape: tuple[int, ...] = (PROBLEMS,)) -> str:
        return " and ".join(str(list(x.unflatten(axis, shape).shape)) for x, axis in given)

    itself = alone()
    if (lost := ~itself.detach().isfinite()).any():
        which = problem_of(int(lost.reshape(-1).long().argmax()), itself)
        got = words(itself[which].detach())
        return f"for {at[which]} your {what} is {got}{unless_a_number(got)}."
    together = stacked()
    if (index := off(together, itself)) is not None:
        which = problem_of(index, itself)
        beside, must = pair(together[which], itself[which])
        return (
            f"the problem with {at[which]} has the {what} {must} by itself and {beside} beside five others, in tensors "
            f"of shape {shapes()}. {advice}"
        )
    for shape in STACKS:
        if (index := off(other := stacked(shape=shape), together)) is not None:
            which = problem_of(index, together)
            got, must = pair(other[which], together[which])
            return (
                f"the problem with {at[which]} has the {what} {got} in tensors of shape {shapes(shape)}, and {must} in "
                f"those of shape {shapes()}. However many axes there are: those of the problems stay as they are."
            )
    for where, mine in {"by itself": alone(torch.float32), "beside others": stacked(torch.float32)}.items():
        if (index := off(mine, itself, LOOSE)) is not None:
            which = problem_of(index, itself)
            got, must = pair(mine[which], itself[which])
            return (
                f"the problem with {at[which]} has the {what} {got} in single precision (torch.float32, {where}), and "
                f"{must} in double precision. That is more than rounding: what depends on the dtype of the input here?"
            )
    return None


def one_gradient(leading: int) -> Callable[[object, tuple], str | None]:
    """The result has to have the axes of the second argument, the directions, without the first so many; its dtype too.

    The values are the first argument.
    """

    def problem(result, arguments: tuple) -> str | None:
        if wrong := trial.not_a_tensor(result):
            return wrong
        values, directions = arguments[:2]
        wanted = directions.shape[leading:]
        if result.shape == wanted:
            return _other_dtype(result, directions)
        if result.shape == directions.shape:
            why = "The sum over the directions is still missing: they stand on the first axis, " + (
                "`sum(0)`." if leading == 1 else "after that of the iterations."
            )
        elif result.shape == values.shape:
            why = "This is one number for each value: it is to be multiplied with its direction, and summed."
        else:
            why = "The coordinates stand on the last axis and stay, " + (
                "and only the first axis, that of the directions, is summed away."
                if leading == 1
                else "and only the first two axes, those of the iterations and of the directions, are summed away."
            )
        return (
            f"Your function returned shape {list(result.shape)} for values of shape {list(values.shape)} and "
            f"directions of shape {list(directions.shape)}, and shape {list(wanted)} is asked for. {why}"
        )

    return problem


def _other_dtype(result: Tensor, like: Tensor) -> str | None:
    if result.dtype == like.dtype:
        return None
    return (
        f"Your function turned {like.dtype} into {result.dtype}. Let constants be plain Python numbers: they follow "
        "their tensors."
    )


def one_each(wanted: Callable[[tuple], Tensor], what: str) -> Callable[[object, tuple], str | None]:
    """The result has to have the shape and the dtype of ``wanted(arguments)``: one number for each ``what``."""

    def problem(result, arguments: tuple) -> str | None:
        if wrong := trial.not_a_tensor(result):
            return wrong
        like = wanted(arguments)
        if result.shape != like.shape:
            return (
                f"Your function returned shape {list(result.shape)}, and shape {list(like.shape)} is asked for: one "
                f"number for each {what}."
            )
        return _other_dtype(result, like)

    return problem
