"""What the properties share: numbers to try, what a result has to look like, and how a difference is told to a learner.

Tensors are made anew for every call. An answer may spoil its inputs, and the next one must not see that.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pocourse.lesson import trial
from pocourse.lesson.trial import Answer

TOLERANCE = 1e-6
# Whatever is computed in single precision.
LOOSE = 1e-4
NOT_A_NUMBER = "look for 0 / 0, for ∞ / ∞ or ∞ − ∞"
INFINITE = "look for a division by 0, or for exp of a large number"


def row(*values: float, dtype: torch.dtype = torch.float64) -> Tensor:
    """A new tensor of these numbers."""
    return torch.tensor(values, dtype=dtype)


def table(*rows: Sequence[float]) -> Tensor:
    """A new tensor with these rows."""
    return torch.tensor(rows, dtype=torch.float64)


def words(values: Tensor | Sequence[float]) -> str:
    """A few numbers in a sentence, with a proper minus sign."""
    return "(" + ", ".join(signed(x) for x in values) + ")"


def signed(value: float | Tensor) -> str:
    """A number in a sentence, with a proper minus sign."""
    return trial.show(_tidy(value)).replace("-", "−")


def pair(mine: float | Tensor, wanted: float | Tensor) -> tuple[str, str]:
    """Two numbers for a message, with as many digits as it takes to see that they differ."""
    one, other = _tidy(mine), _tidy(wanted)
    shown = trial.show(one), trial.show(other)
    return shown if shown[0] != shown[1] else (f"{one:.8g}", f"{other:.8g}")


def _tidy(x: float | Tensor) -> float:
    """Without the dust of rounding, and without the sign of a zero."""
    return 0.0 if abs(float(x)) < 1e-12 else float(x)


def off(mine: Tensor, wanted: Tensor, tolerance: float = TOLERANCE) -> int | None:
    """The index of the first number that is not what it should be; NaN never is."""
    close = torch.isclose(mine.detach().double(), wanted.detach().double(), rtol=tolerance, atol=tolerance).reshape(-1)
    return None if close.all() else int((~close).long().argmax())


def told(
    mine: Tensor, wanted: float, where: str, why: str, what: str = "value", tolerance: float = TOLERANCE
) -> str | None:
    """None if one number is what it must be, else a sentence: where, what came out, what must, and why."""
    single = mine.dtype == torch.float32
    if off(mine, row(wanted)[0], max(tolerance, LOOSE) if single else tolerance) is None:
        return None
    got, must = pair(mine, wanted)
    return f"{where} your {what} is {got}, and it must be {must}{unless_a_number(got, why)}. {why}"


def unless_a_number(got: str, reason: str = "") -> str:
    """Where to look for a value that is not finite, if it is one and the reason does not say so already."""
    if "0 / 0" in reason or "∞ / ∞" in reason:
        return ""
    return {"nan": f": {NOT_A_NUMBER}", "inf": f": {INFINITE}", "-inf": f": {INFINITE}"}.get(got, "")


def each_by_itself(answer: Answer, *tables: Tensor, at: Sequence[str], one: str, what: str) -> str | None:
    """Whether four rows have four values, each as if it came alone, in a stack of any shape and in single precision.

    ``one`` is what a row is called, and ``what`` the number it has.
    """

    def value(dtype: torch.dtype = torch.float64, shape: tuple[int, ...] = (4,)) -> Tensor:
        return answer(*(x.to(dtype).reshape(*shape, x.shape[-1]) for x in tables)).reshape(-1)

    def alone(dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.stack([answer(*(x[i].to(dtype) for x in tables)) for i in range(4)])

    itself, together = alone(), value()
    size = tables[0].shape[-1]
    lost = ~itself.detach().isfinite()
    if lost.any():
        index = int(lost.long().argmax())
        return f"for {at[index]} your {what} is {trial.show(itself[index].detach())}: {NOT_A_NUMBER}."
    if (index := off(together, itself)) is not None:
        beside, must = pair(together[index], itself[index])
        return (
            f"{one} with {at[index]} has the {what} {must} by itself and {beside} beside three others, in tensors of "
            f"shape [4, {size}]. Each has its own sums: they run over the last axis only."
        )
    for shape in ((2, 2), (2, 1, 2)):
        stacked = value(shape=shape)
        if (index := off(stacked, together)) is not None:
            got, must = pair(stacked[index], together[index])
            return (
                f"{one} with {at[index]} has the {what} {got} in tensors of shape {[*shape, size]}, and {must} in "
                f"those of shape [4, {size}]. Count axes from the end: `-1` is the last one, whatever comes before it."
            )
    for where, mine in {"by itself": alone(torch.float32), "beside others": value(torch.float32)}.items():
        if (index := off(mine, itself, LOOSE)) is not None:
            got, must = pair(mine[index], itself[index])
            return (
                f"{one} with {at[index]} has the {what} {got} in single precision (torch.float32, {where}), and {must} "
                "in double precision. That is more than rounding: what depends on the dtype of the input here?"
            )
    return None


def one_per_row(of: str) -> Callable[[object, tuple], str | None]:
    """The result has to have the axes of the first argument without the last one, and its dtype.

    ``of`` names what the last axis counts.
    """

    def problem(result, arguments: tuple) -> str | None:
        if wrong := trial.not_a_tensor(result):
            return wrong
        like = arguments[0]
        if result.shape != like.shape[:-1]:
            why = (
                f"A sum or a mean over the last axis, that of the {of}s, is still missing, or an axis was kept."
                if result.dim() >= like.dim()
                else f"Only the last axis, that of the {of}s, is summed away: `sum(-1)` and `mean(-1)`."
            )
            return (
                f"Your function returned shape {list(result.shape)} for inputs of shape {list(like.shape)}, and shape "
                f"{list(like.shape[:-1])} is asked for. {why}"
            )
        if result.dtype != like.dtype:
            return (
                f"Your function turned {like.dtype} into {result.dtype}. Let constants be plain Python numbers: they "
                "follow their tensors."
            )
        return None

    return problem
