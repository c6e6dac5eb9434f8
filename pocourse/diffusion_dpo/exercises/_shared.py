"""What the properties share: numbers to try, what a result has to look like, and how a difference is told to a learner.

Tensors are made anew for every call. An answer may spoil its inputs, and the next one must not see that.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from pocourse.lesson import trial

TOLERANCE = 1e-6
# Whatever is computed in single precision.
LOOSE = 1e-4
NOT_A_NUMBER = "look for 0 / 0, for ∞ / ∞ or ∞ − ∞"
INFINITE = "look for the logarithm of 0, for exp of a large number, or for a division by 0"
# How many pairs or batches are tried side by side, and in which shapes.
COUNT, STACKS = 6, ((2, 3), (3, 1, 2))


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


def words(values: Tensor | Sequence[float]) -> str:
    """A few numbers in a sentence, with a proper minus sign."""
    return "(" + ", ".join(signed(x) for x in values) + ")"


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


def pair(mine: float | Tensor, wanted: float | Tensor) -> tuple[str, str]:
    """Two numbers, or two rows of them, with as many digits as it takes to see that they differ."""
    mine, wanted = (x.detach() if isinstance(x, Tensor) else torch.tensor(x) for x in (mine, wanted))
    say = words if mine.dim() else signed
    one, other = say(mine), say(wanted)
    return (one, other) if one != other else (_exactly(mine), _exactly(wanted))


def _exactly(values: Tensor) -> str:
    said = ", ".join(f"{_tidy(x):.12f}".rstrip("0").rstrip(".").replace("-", "−") for x in values.reshape(-1))
    return f"({said})" if values.dim() else said


def _tidy(x: float | Tensor) -> float:
    """Without the dust of rounding, and without the sign of a zero."""
    return 0.0 if abs(float(x)) < 1e-12 else float(x)


def off(mine: Tensor, wanted: Tensor, tolerance: float = TOLERANCE) -> int | None:
    """The index of the first number that is not what it should be; NaN never is."""
    close = torch.isclose(mine.detach().double(), wanted.detach().double(), rtol=tolerance, atol=tolerance).reshape(-1)
    return None if close.all() else int((~close).long().argmax())


def told(
    mine: Tensor,
    wanted: float | Tensor,
    at: str | Sequence[str],
    why: str | Sequence[str],
    what: str = "loss",
    tolerance: float = TOLERANCE,
) -> str | None:
    """None if the numbers are what they must be, else a sentence about the first that is not.

    ``at`` and ``why`` are one for all of the numbers, or one for each.
    """
    wanted = torch.as_tensor(wanted, dtype=torch.float64).expand(mine.shape)
    index = off(mine, wanted, max(tolerance, LOOSE) if mine.dtype == torch.float32 else tolerance)
    if index is None:
        return None
    got, must = pair(mine.reshape(-1)[index], wanted.reshape(-1)[index])
    where, reason = (x if isinstance(x, str) else x[index] for x in (at, why))
    return f"{where} your {what} is {got}, and it must be {must}{unless_a_number(got)}. {reason}"


def unless_a_number(got: str) -> str:
    """Where to look for a value that is not finite, if there is one."""
    return f": {NOT_A_NUMBER}" if "nan" in got else f": {INFINITE}" if "inf" in got else ""


def as_if(loss: float | Tensor) -> str:
    """The z that a loss belongs to, in brackets; nothing where it belongs to none."""
    z = margin(loss)
    return "" if z is None else f" (as if z were {signed(z)})"


def margin(loss: float | Tensor) -> float | None:
    """The z that a loss belongs to, −log(exp L − 1); None where it belongs to none."""
    loss = float(loss)
    return -math.log(math.expm1(loss)) if 0 < loss < 700 else None


def belongs(loss: float | Tensor) -> str:
    """The z that a loss belongs to, as a sentence; nothing where it belongs to none."""
    z = margin(loss)
    return "" if z is None else f" Yours belongs to z = {signed(z)}."


def suspected(value: float | Tensor | None, known: Mapping[float, str]) -> str:
    """What is likely to be wrong with an answer that gave this value, if it is a known one."""
    return "".join(f" {said}" for x, said in known.items() if value is not None and abs(float(value) - x) < 1e-4)


def not_log_two(loss: Tensor, beta: float) -> str:
    """What is likely to be wrong with a loss that is not log 2 at the reference."""
    half = math.log(2)
    return suspected(
        loss.reshape(-1)[0],
        {
            beta * half: "Yours is β log 2: β stands outside of the sigmoid.",
            -half: "Yours has the opposite sign: a loss is minus a log-likelihood.",
            2 * half: "Yours is 2 log 2: are there two sigmoids?",
            0.0: "Yours is 0 there: is the sigmoid in it?",
            0.5: "Yours is a chance: its logarithm is missing.",
            1.0: "Yours is 1 there: another base, or another loss.",
        },
    )


def each_by_itself(
    run: Callable[..., Tensor], *given: Tensor, at: Sequence[str], one: str, what: str, advice: str
) -> str | None:
    """Whether six pairs or batches have six results, each as if it came alone, in a stack and in single precision.

    Their axis is the first of all tensors; ``one`` is what an index of it is called, and ``what`` the number it has.
    """

    def stacked(dtype: torch.dtype = torch.float64, shape: tuple[int, ...] = (COUNT,)) -> Tensor:
        return run(*(x.to(dtype).unflatten(0, shape) for x in given)).reshape(-1)

    def alone(dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.stack([run(*(x[i].to(dtype).clone() for x in given)) for i in range(COUNT)])

    def shaped(*shape: int) -> str:
        return str([*shape, *given[0].shape[1:]])

    itself = alone()
    if (lost := ~itself.detach().isfinite()).any():
        index = int(lost.long().argmax())
        got = signed(itself[index].detach())
        return f"for {at[index]} your {what} is {got}{unless_a_number(got)}."
    together = stacked()
    if (index := off(together, itself)) is not None:
        beside, must = pair(together[index], itself[index])
        return (
            f"the {one} with {at[index]} has the {what} {must} by itself and {beside} beside five others, in tensors "
            f"of shape {shaped(COUNT)}. {advice}"
        )
    for shape in STACKS:
        if (index := off(other := stacked(shape=shape), together)) is not None:
            got, must = pair(other[index], together[index])
            return (
                f"the {one} with {at[index]} has the {what} {got} in tensors of shape {shaped(*shape)}, and {must} in "
                f"those of shape {shaped(COUNT)}. However many axes there are: those of the {one}s stay as they are."
            )
    for where, mine in {"by itself": alone(torch.float32), "beside others": stacked(torch.float32)}.items():
        if (index := off(mine, itself, LOOSE)) is not None:
            got, must = pair(mine[index], itself[index])
            return (
                f"the {one} with {at[index]} has the {what} {got} in single precision (torch.float32, {where}), and "
                f"{must} in double precision. That is more than rounding: what depends on the dtype of the input here?"
            )
    return None


def one_each(one: str, summed: str = "") -> Callable[[object, tuple], str | None]:
    """The result has to have the dtype of the first argument and its shape, without the last axis if it is ``summed``.

    ``one`` is what has a number each, and ``summed`` what the last axis counts.
    """

    def problem(result, arguments: tuple) -> str | None:
        if wrong := trial.not_a_tensor(result):
            return wrong
        like = arguments[0]
        wanted = like.shape[:-1] if summed else like.shape
        if result.shape != wanted:
            if result.dim() < len(wanted):
                why = f"One number for each {one}: leave the mean over the {_plural(one)} to the caller."
            elif summed and result.shape == like.shape:
                why = f"The mean or the sum over the last axis, that of the {_plural(summed)}, is still missing."
            elif summed:
                why = f"Only the last axis, that of the {_plural(summed)}, goes: `mean(-1)` and `sum(-1)`."
            else:
                why = "Check which operation added an axis."
            return (
                f"Your function returned shape {list(result.shape)} for inputs of shape {list(like.shape)}, and shape "
                f"{list(wanted)} is asked for. {why}"
            )
        if result.dtype != like.dtype:
            return (
                f"Your function turned {like.dtype} into {result.dtype}. Let constants be plain Python numbers, "
                "which follow their tensors, and turn flags into numbers with .to(input) in place of .float()."
            )
        return None

    return problem


def _plural(noun: str) -> str:
    return f"{noun}es" if noun.endswith("ch") else f"{noun}s"


def two_each(one: str, summed: str, first: str, second: str) -> Callable[[object, tuple], str | None]:
    """The result has to be a pair of tensors, each as ``one_each`` asks for."""
    single = one_each(one, summed)

    def problem(result, arguments: tuple) -> str | None:
        if wrong := trial.nothing_returned(result, "function"):
            return wrong
        if not isinstance(result, tuple) or len(result) != 2:
            return (
                f"Your function returned {trial.article(type(result).__name__)} where 2 tensors are asked for: "
                f"`return {first}, {second}`."
            )
        for name, part in zip((first, second), result, strict=True):
            if wrong := single(part, arguments):
                return f"Of the 2 results, `{name}`: {wrong}"
        return None

    return problem
