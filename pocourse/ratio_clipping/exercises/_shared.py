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


def off(mine: Tensor, wanted: Tensor) -> int | None:
    """The index of the first number that is not what it should be; NaN never is."""
    close = torch.isclose(mine.detach().double(), wanted.double(), rtol=TOLERANCE, atol=TOLERANCE).reshape(-1)
    return None if close.all() else int((~close).long().argmax())


def compare(
    mine: Tensor, wanted: Tensor, at: Sequence[str], what: str = "value", why: str | Sequence[str] = ""
) -> str | None:
    """None if the numbers agree, else a sentence about the first that is off. ``why`` is one, or one for each."""
    index = off(mine, wanted)
    if index is None:
        return None
    got, must = pair(mine.reshape(-1)[index], wanted.reshape(-1)[index])
    reason = why if isinstance(why, str) else why[index]
    return f"at {at[index]} your {what} is {got}, and it must be {must}. {reason}".rstrip()


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
    """Whether every sample has its own value, for batches of any shape and in single precision too."""
    for dtype in (torch.float64, torch.float32):
        for shape in ((-1,), (2, -1)):
            answer(one.to(dtype).reshape(shape), other.to(dtype).reshape(shape))
        answer(one[0].to(dtype), other[0].to(dtype))
    together = answer(one.clone(), other.clone())
    alone = torch.stack([answer(x.clone(), y.clone()) for x, y in zip(one, other, strict=True)])
    index = off(together, alone)
    if index is None:
        return None
    beside, by_itself = pair(together[index], alone[index])
    return (
        f"the sample {at[index]} has the value {by_itself} by itself and {beside} beside other samples. No sample may "
        "look at the rest of its batch: no mean, no normalising."
    )


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
