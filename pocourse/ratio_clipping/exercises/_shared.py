"""What the properties share: numbers to try, slopes, and how a difference is told to a learner.

Tensors are made anew for every call. An answer may spoil its inputs, and the next one must not see that.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pocourse.lesson import trial
from pocourse.lesson.trial import Answer

# A constant in single precision, as `torch.where(cond, 1.2, 0.8)` makes it, is right enough.
TOLERANCE = 1e-6
# Whatever is computed in single precision, or divides by a small difference of such constants.
LOOSE = 1e-4
NOT_A_NUMBER = "look for 0 / 0 or the logarithm of 0"
INFINITE = "look for a division by 0 or the logarithm of 0"


def row(*values: float, dtype: torch.dtype = torch.float64) -> Tensor:
    """A new tensor of these numbers."""
    return torch.tensor(values, dtype=dtype)


def pair(mine: float, wanted: float) -> tuple[str, str]:
    """Two numbers for a message, with as many digits as it takes to see that they differ."""
    one, other = _tidy(mine), _tidy(wanted)
    shown = trial.show(one), trial.show(other)
    return shown if shown[0] != shown[1] else (f"{one:.8g}", f"{other:.8g}")


def _tidy(x: float) -> float:
    """Without the dust of rounding, and without the sign of a zero."""
    return 0.0 if abs(float(x)) < 1e-12 else float(x)


def off(mine: Tensor, wanted: Tensor, rtol: float = TOLERANCE, atol: float = TOLERANCE) -> int | None:
    """The index of the first number that is not what it should be; NaN never is."""
    close = torch.isclose(mine.detach().double(), wanted.detach().double(), rtol=rtol, atol=atol).reshape(-1)
    return None if close.all() else int((~close).long().argmax())


def compare(
    mine: Tensor,
    wanted: Tensor,
    at: Sequence[str],
    what: str = "value",
    why: str | Sequence[str] = "",
    tolerance: float = TOLERANCE,
) -> str | None:
    """None if the numbers agree, else a sentence about the first that is off. ``why`` is one, or one for each."""
    index = off(mine, wanted, tolerance, tolerance)
    if index is None:
        return None
    got, must = pair(mine.reshape(-1)[index], wanted.reshape(-1)[index])
    reason = why if isinstance(why, str) else why[index]
    return (
        f"at {at[index]} your {what} is {got}, and it must be {must}{unless_a_number(got, reason)}. {reason}".rstrip()
    )


def unless_a_number(got: str, reason: str = "") -> str:
    """Where to look for a value that is not finite, if it is one and the reason does not say so already."""
    if "0 / 0" in reason or "log 0" in reason:
        return ""
    return {"nan": f": {NOT_A_NUMBER}", "inf": f": {INFINITE}", "-inf": f": {INFINITE}"}.get(got, "")


def not_a_number(mine: Tensor, at: Sequence[str]) -> str | None:
    """A sentence about the first value that is NaN, if there is one."""
    lost = mine.detach().isnan().reshape(-1)
    return f"your value is nan at {at[int(lost.long().argmax())]}: {NOT_A_NUMBER}." if lost.any() else None


def points(ratio: Tensor, advantage: Tensor, **options: float) -> list[str]:
    """The samples of a batch in words."""
    more = "".join(f", `{name}` = {value:g}" for name, value in options.items())
    pairs = zip(ratio.reshape(-1).tolist(), advantage.reshape(-1).tolist(), strict=True)
    return [f"r = {r:.4g}, A = {a:.4g}{more}" for r, a in pairs]


def slopes(answer: Answer, of: Tensor, data: Tensor, name: str, **options: float) -> Tensor:
    """The derivative of each sample's value with respect to the first argument, called ``name`` in messages."""
    of = of.clone().requires_grad_()
    return trial.derivative(answer(of, data, **options), of, name)


def each_by_itself(answer: Answer, one: Tensor, other: Tensor, at: Sequence[str]) -> str | None:
    """Whether every sample has its own value, and the same one in a batch of any shape and in single precision."""

    def value(dtype: torch.dtype = torch.float64, shape: tuple[int, ...] = (-1,)) -> Tensor:
        return answer(*(x.to(dtype).reshape(shape) for x in (one, other))).reshape(-1)

    def by_itself(dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.stack([answer(x.to(dtype), y.to(dtype)) for x, y in zip(one, other, strict=True)])

    together, table, alone = value(), value(shape=(2, -1)), by_itself()
    single = torch.float32
    coarse = {"a batch": value(single), "a table": value(single, (2, -1)), "one sample": by_itself(single)}
    if problem := not_a_number(together, at):
        return problem
    if (index := off(together, alone)) is not None:
        beside, itself = pair(together[index], alone[index])
        return (
            f"the sample {at[index]} has the value {itself} by itself and {beside} beside other samples. No sample may "
            "look at the rest of its batch: no mean, no normalising."
        )
    if (index := off(table, together)) is not None:
        got, must = pair(table[index], together[index])
        return (
            f"the sample {at[index]} has the value {got} in a batch of shape [2, {len(at) // 2}], and {must} in one of "
            f"shape [{len(at)}]. The shape of the batch is the caller's business: work element by element."
        )
    for where, mine in coarse.items():
        if (index := off(mine, together, LOOSE, LOOSE)) is not None:
            got, must = pair(mine[index], together[index])
            return (
                f"the sample {at[index]} has the value {got} in single precision (torch.float32, {where}), and {must} "
                "in double precision. That is more than rounding: what depends on the dtype of the input here?"
            )
    return None


def one_number(index: int) -> Callable[[object, tuple], str | None]:
    """The result has to be a tensor without axes, of the dtype of argument number ``index``."""

    def problem(result, arguments: tuple) -> str | None:
        wrong = trial.not_a_tensor(result)
        if wrong:
            return wrong
        if result.dim():
            return (
                f"Your function returned shape {list(result.shape)} where a single number is asked for, a tensor of "
                "shape []. Check over which axis a sum or a maximum is still missing."
            )
        if result.dtype != arguments[index].dtype:
            return (
                f"Your function turned {arguments[index].dtype} into {result.dtype}. Let constants be plain Python "
                "numbers: they follow their tensors."
            )
        return None

    return problem
