"""Which samples the reconstructed dropout keeps, for section 4."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pocourse.lesson import trial
from pocourse.lesson.exercises import exercise
from pocourse.surrogate_variance.exercises._shared import row, signed, words

sign_dropout = exercise(
    "surrogate_variance.sign_dropout",
    title="Which samples to drop",
    section="4",
    difficulty=3,
    minutes=9,
    task="""
Our reconstruction of D-PPO's dropout treats the two signs of the advantage apart. Each of the two classes,
**A ≥ 0** and **A < 0**, drops a share of its own samples: those with the smallest products x = r A.

A class of m samples drops `drop_fraction` × m of them, rounded to the nearest whole number. That may be none of
them, or all.

Write it. `sign_dropout(ratio, advantage, drop_fraction)` receives

- `ratio`, a tensor with one axis, the samples of one batch: r, zero or positive;
- `advantage`, a tensor of the same shape and dtype: A, of any sign, or zero;
- `drop_fraction`, a number with 0 ≤ `drop_fraction` < 1

and returns a mask: a tensor of the same shape and of dtype `torch.bool`, True for each sample that is *kept*, in
the order in which the samples came. A class can be empty. Which of several equal x go, you may choose, though not how
many; and where the count lies half-way between two whole numbers, you may choose which of them.
""",
    stub='''
def sign_dropout(ratio, advantage, drop_fraction):
    """True for each sample that is kept."""
    ...
''',
    hints=(
        "Do one class first: how many samples has it, how many of them go, and which are the smallest? For A < 0 the "
        "smallest x is the most negative one, the one of largest magnitude.",
        "Begin with a mask of nothing but True. `torch.nonzero(member).squeeze(-1)` gives the positions of a class in "
        "the batch, and `x[positions].argsort()` sorts within the class; its result counts from the beginning of the "
        "*class*, and has to be led back to positions in the batch.",
        "For each `member` of `(advantage >= 0, advantage < 0)`: `place = member.nonzero().squeeze(-1)`, then `order "
        "= place[x[place].argsort()]`, the positions from the smallest x on. The first `round(drop_fraction * "
        "len(place))` of them become False.",
    ),
    solution="""
def sign_dropout(ratio, advantage, drop_fraction):
    x, keep = ratio * advantage, torch.ones_like(ratio, dtype=torch.bool)
    for member in (advantage >= 0, advantage < 0):
        place = member.nonzero().squeeze(-1)
        order = place[x[place].argsort()]
        keep[order[: round(drop_fraction * len(place))]] = False
    return keep
""",
    after="""
You have thrown away the smallest x of either class, so within each class the mean of what is kept is *higher* than
before (3.13), whatever the data say: among good actions the modest ones are gone, and among bad ones the worst. That
is a bias, and it has a direction. A rule that drops by |r − 1|, as Sample Dropout does, is biased too, and its
direction depends on the data. Nor is less scatter promised: dropping can raise the variance of what is left (3.15).
""",
    parameters=("ratio", "advantage"),
    options=("drop_fraction",),
    returns=lambda result, arguments: _no_mask(result, arguments[0]),
    probes=lambda: [
        (*_ten(), {"drop_fraction": 0.2}),
        (*_ten(), {"drop_fraction": 0.4}),
        (_ten()[0], 1e4 * _ten()[1], {"drop_fraction": 0.4}),
        (*_uneven(), {"drop_fraction": 0.2}),
        (*_uneven(), {"drop_fraction": 0.35}),
        (*_uneven(), {"drop_fraction": 0.9}),
        (*_zeros(), {"drop_fraction": 0.3}),
        (*_zeros(), {"drop_fraction": 0.4}),
        (*_vanished(), {"drop_fraction": 0.3}),
        (row(1.0, 1.0, 1.0), row(3.0, 1.0, 2.0), {"drop_fraction": 0.3}),
    ],
)


def _no_mask(result, like: Tensor) -> str | None:
    """What to say about a result that is no mask of one truth value per sample."""
    if problem := trial.nothing_returned(result, "function"):
        return problem
    if not isinstance(result, Tensor):
        return (
            f"Your function returned {trial.article(type(result).__name__)} where a mask is expected: a tensor of "
            "dtype torch.bool. `torch.tensor(values)` makes one of a list of truth values."
        )
    if result.layout is not torch.strided or result.device.type != "cpu" or result.is_nested or result.is_quantized:
        return "Your function returned a special kind of tensor. Return an ordinary, dense one on the CPU."
    if result.dtype != torch.bool:
        why = (
            "Positions of samples are no mask: begin with `torch.ones_like(ratio, dtype=torch.bool)` and set those "
            "that go to False."
            if result.dtype in (torch.int64, torch.int32)
            else "A mask holds True and False, so that it can pick samples: `x[keep]`."
        )
        return f"Your function returned a tensor of {result.dtype} where a mask of torch.bool is expected. {why}"
    if result.shape != like.shape:
        return (
            f"Your function returned shape {list(result.shape)} for inputs of shape {list(like.shape)}. The mask has "
            "one truth value for every sample of the batch, of either class."
        )
    return None


def _ten() -> tuple[Tensor, Tensor]:
    """Five of each class, mixed; x = (3, −0.5, 1, −4, 0.4, −1, 2, −2, 1.5, −3)."""
    ratio = row(1.5, 0.5, 0.5, 2.0, 0.8, 0.25, 1.0, 1.6, 3.0, 1.2)
    x = row(3.0, -0.5, 1.0, -4.0, 0.4, -1.0, 2.0, -2.0, 1.5, -3.0)
    return ratio, x / ratio


def _uneven() -> tuple[Tensor, Tensor]:
    """Seven of A ≥ 0 and three of A < 0, in the order of a batch that nobody has sorted."""
    ratio = row(1.2, 0.7, 1.0, 2.2, 0.4, 0.9, 1.3, 0.6, 1.1, 1.8)
    return ratio, row(0.5, -2.0, 3.0, 1.0, 4.0, -0.3, 2.0, 0.2, -1.0, 0.9)


def _zeros() -> tuple[Tensor, Tensor]:
    """An advantage of zero among three that are positive and three that are negative."""
    return row(1.1, 0.9, 1.3, 0.7, 1.2, 0.8), row(2.0, -1.0, 0.0, -3.0, 1.0, -2.0)


def _vanished() -> tuple[Tensor, Tensor]:
    """A negative advantage with the ratio zero."""
    return row(1.1, 0.9, 0.0, 0.7, 1.2, 0.8), row(2.0, -1.0, -5.0, -3.0, 1.0, 0.5)


def _nearly_equal(step: float) -> tuple[Tensor, Tensor]:
    """Five of each class, whole numbers of steps away from 1 and from −1."""
    return torch.ones(10, dtype=torch.float64), row(*[1.0] * 5, *[-1.0] * 5) + step * _steps()


def _steps() -> Tensor:
    return row(3, 1, 4, 0, 2, 3, 1, 4, 0, 2)


def _mask(
    answer,
    ratio: Tensor,
    advantage: Tensor,
    drop_fraction: float,
    dropped: Sequence[int],
    why: str,
    *,
    power: int = 0,
    dtypes: Sequence[torch.dtype] = (torch.float64, torch.float32),
) -> str | None:
    """None if exactly these samples are dropped, else which one is not as it must be.

    The answer sees advantages that are 10 to the ``power`` times as large.
    """
    times = f" × 10{str(power).translate(_RAISED)}" if power else ""
    for dtype in dtypes:
        keep = answer(ratio.to(dtype), (advantage * 10.0**power).to(dtype), drop_fraction=drop_fraction)
        wanted = torch.ones(len(ratio), dtype=torch.bool)
        wanted[list(dropped)] = False
        if (keep == wanted).all():
            continue
        index = int((keep != wanted).long().argmax())
        x = ratio * advantage
        mine = sorted(float(value) for value in x[~keep])
        must = sorted(float(value) for value in x[~wanted])
        single = "" if dtype == torch.float64 else ", in single precision (torch.float32),"
        return (
            f"for x = r A = {words(x)}{times}{_signs(advantage)} and `drop_fraction` = {drop_fraction:g}{single} you "
            f"drop {_those(mine, times)}, and what must go is {_those(must, times)}. The sample number {index + 1}, "
            f"with r = {signed(ratio[index])} and A = {signed(advantage[index])}{times}, must be "
            f"{'kept' if wanted[index] else 'dropped'}. {why}"
        )
    return None


_RAISED = str.maketrans("−-0123456789", "⁻⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _signs(advantage: Tensor) -> str:
    """The advantages, where the sign of x does not tell the class."""
    return f" (A = {words(advantage)})" if (advantage == 0).any() else ""


def _those(values: list[float], times: str = "") -> str:
    if not values:
        return "nothing"
    return f"x = {words(values) if len(values) > 1 else signed(values[0])}{times}"


@sign_dropout.requires("a mask for the batch, True for what is kept")
def _(answer):
    why = "With a share of 0 nothing is dropped, and every sample is True."
    return _mask(answer, *_ten(), 0.0, (), why)


@sign_dropout.requires("each class drops its share")
def _(answer):
    for drop_fraction, count in ((0.2, 1), (0.4, 2), (0.8, 4)):
        ratio, advantage = _ten()
        gone = ~answer(ratio.clone(), advantage.clone(), drop_fraction=drop_fraction)
        for name, member in (("A ≥ 0", advantage >= 0), ("A < 0", advantage < 0)):
            mine = int((gone & member).sum())
            if mine != count:
                return (
                    f"of five samples with A ≥ 0 and five with A < 0, and `drop_fraction` = {drop_fraction:g}, you "
                    f"drop {mine} with {name}, and it must be {count}: {drop_fraction:g} × 5, in each class by itself."
                )
    return None


@sign_dropout.requires("the smallest x of a class go, by hand")
def _(answer):
    ratio, advantage = row(0.5, 1.5, 1.0, 3.0, 0.8), row(4.0, 1.0, 5.0, 1.0, 0.5)
    why = "All are of the class A ≥ 0. Sort by x = r A, and neither by A nor by r alone; the smallest go."
    return _mask(answer, ratio, advantage, 0.4, (1, 4), why)


@sign_dropout.requires("for A < 0 the smallest are the most negative")
def _(answer):
    ratio, advantage = row(0.5, 1.5, 1.0, 3.0, 0.8), row(-4.0, -1.0, -5.0, -1.0, -0.5)
    why = "All are of the class A < 0, and −5 is smaller than −0.4: it is x that is ranked, and not its magnitude."
    return _mask(answer, ratio, advantage, 0.4, (2, 3), why)


@sign_dropout.requires("both classes in one batch, by hand")
def _(answer):
    why = "Of the five with A ≥ 0 the smallest x go, and of the five with A < 0 the smallest, the most negative ones."
    if problem := _mask(answer, *_ten(), 0.2, (3, 4), why):
        return problem
    return _mask(answer, *_ten(), 0.4, (2, 3, 4, 9), why)


@sign_dropout.requires("the count is rounded, in classes of different size")
def _(answer):
    cases = (
        (0.2, (7, 1), "0.2 × 7 = 1.4 is rounded to 1, and 0.2 × 3 = 0.6 to 1."),
        (0.1, (7,), "0.1 × 7 = 0.7 is rounded to 1, and 0.1 × 3 = 0.3 to 0."),
        (0.35, (7, 0, 1), "0.35 × 7 = 2.45 is rounded to 2, and 0.35 × 3 = 1.05 to 1."),
        (0.356, (7, 0, 1), "0.356 × 7 = 2.492 is rounded to 2, and 0.356 × 3 = 1.068 to 1."),
        (0.358, (7, 0, 4, 1), "0.358 × 7 = 2.506 is rounded to 3, and 0.358 × 3 = 1.074 to 1."),
        (0.05, (), "0.05 × 7 = 0.35 and 0.05 × 3 = 0.15 are rounded to 0."),
        (
            0.9,
            (0, 3, 4, 6, 7, 9, 1, 5, 8),
            "0.9 × 7 = 6.3 is rounded to 6, and 0.9 × 3 = 2.7 to 3: all that there are.",
        ),
    )
    for drop_fraction, dropped, why in cases:
        if problem := _mask(answer, *_uneven(), drop_fraction, dropped, f"Seven have A ≥ 0, three A < 0. {why}"):
            return problem
    ratio, advantage = row(1.2, 0.9, 1.1, 0.8), row(1.0, -2.0, 3.0, -1.0)
    why = "Two have A ≥ 0, two A < 0. 0.9 × 2 = 1.8 is rounded to 2 in either class, and nothing is left of this batch."
    if problem := _mask(answer, ratio, advantage, 0.9, (0, 1, 2, 3), why):
        return problem
    why = "Each class has one sample, and 0.55 × 1 = 0.55 is rounded to 1: halves are the border, and no other number."
    return _mask(answer, row(1.2, 0.9), row(1.0, -2.0), 0.55, (0, 1), why)


@sign_dropout.requires("an advantage of zero belongs to A ≥ 0")
def _(answer):
    why = "A = 0 is of the class A ≥ 0, in which x = 0 is the smallest; 0.3 × 3 = 0.9 is rounded to 1 in either class."
    return _mask(answer, *_zeros(), 0.3, (2, 3), why)


@sign_dropout.requires("the class is that of A, even where r is 0")
def _(answer):
    why = (
        "With r = 0 the product is 0 whatever A is. A = −5 says that the sample is of the class A < 0, in which x = 0 "
        "is the largest."
    )
    return _mask(answer, *_vanished(), 0.3, (3, 5), why)


@sign_dropout.requires("an empty class harms nobody")
def _(answer):
    for sign in (1.0, -1.0):
        ratio, advantage = row(1.0, 1.0, 1.0), sign * row(3.0, 1.0, 2.0)
        why = "All are of one class; the other one is empty, and drops nothing. 0.3 × 3 = 0.9 is rounded to 1."
        if problem := _mask(answer, ratio, advantage, 0.3, (1 if sign > 0 else 0,), why):
            return problem
    return None


@sign_dropout.requires("x that are nearly equal are told apart")
def _(answer):
    # Half precision has three digits, single precision seven, and double sixteen.
    both = (torch.float64, torch.float32)
    for digits, dtypes in ((5, both), (10, both[:1])):
        steps, (ratio, advantage) = _steps(), _nearly_equal(10.0**-digits)
        small = f"10{str(-digits).translate(_RAISED)}"
        for dtype in dtypes:
            keep = answer(ratio.to(dtype), advantage.to(dtype), drop_fraction=0.4)
            wanted = steps >= 2
            if (keep == wanted).all():
                continue
            index = int((keep != wanted).long().argmax())
            base = "1" if index < 5 else "−1"
            return (
                f"for five x with A ≥ 0, 1 + (3, 1, 4, 0, 2) × {small}, five with A < 0, −1 + (3, 1, 4, 0, 2) × "
                f"{small}, and `drop_fraction` = 0.4, in {dtype}, you {'keep' if keep[index] else 'drop'} {base} + "
                f"{steps[index]:g} × {small}, and the two smallest of each class must go: {base} + 0 × {small} and "
                f"{base} + 1 × {small}. {dtype} tells them apart. Is x rounded somewhere, or turned into fewer digits?"
            )
    return None


@sign_dropout.requires("advantages of any size")
def _(answer):
    for power in (4, 13, -2, -13):
        ratio, advantage = _ten()
        raised = f"10{str(power).translate(_RAISED)}"
        why = f"All advantages were multiplied by {raised}: ranks do not notice. Is there a fixed number somewhere?"
        if problem := _mask(answer, ratio, advantage, 0.4, (2, 3, 4, 9), why, power=power):
            return problem
    return None


@sign_dropout.requires("equal x: which of them goes is free, how many is not")
def _(answer):
    cases = (
        (row(1.0, 1.0, 1.0, 1.0, 10.0), 0.2, 1),
        (row(2.0, 0.5, 2.0, 2.0, 10.0), 0.4, 2),
        (row(3.0, 3.0, 3.0, 3.0, 3.0), 0.6, 3),
        (row(-4.0, -1.0, -4.0, -4.0, -4.0), 0.4, 2),
        (row(-7.0, -1.0, -9.0, -1.0, -1.0), 0.6, 3),
    )
    for x, drop_fraction, count in cases:
        keep = answer(torch.ones_like(x), x.clone(), drop_fraction=drop_fraction)
        gone = int((~keep).sum())
        given = f"for x = r A = {words(x)}, all of one class, and `drop_fraction` = {drop_fraction:g} you drop"
        if gone != count:
            return (
                f"{given} {gone}, and it must be {count}: {drop_fraction:g} × 5. Which of the equal x go is free, how "
                "many is not. A threshold cannot tell them apart: sort, and count."
            )
        if x[~keep].max() > x[keep].min():
            return (
                f"{given} {_those(sorted(x[~keep].tolist()))} and keep x = {signed(x[keep].min())}, which is smaller."
            )
    return None


@sign_dropout.requires("another order of the samples, the same samples kept")
def _(answer):
    ratio, advantage = _uneven()
    generator = torch.Generator().manual_seed(1)
    once = answer(ratio.clone(), advantage.clone(), drop_fraction=0.35)
    for _ in range(5):
        order = torch.randperm(len(ratio), generator=generator)
        mine = answer(ratio[order], advantage[order], drop_fraction=0.35)
        if not torch.equal(mine, once[order]):
            index = int((mine != once[order]).long().argmax())
            x = words((ratio * advantage)[order])
            verb = "keep" if mine[index] else "drop"
            return (
                f"for x = r A = {x} and `drop_fraction` = 0.35 you {verb} the sample number {index + 1}, and in "
                "another order of the same samples you do not. What `argsort` returns are positions: at place k stands "
                "*which* sample has rank k, and not the rank of sample k."
            )
    return None


# ---------------------------------------------------------------- wrong answers


def _rule(ratio, advantage, drop_fraction, score=None, count=round, positive=None):
    """The rule with one part of it exchanged."""
    score = ratio * advantage if score is None else score
    positive = advantage >= 0 if positive is None else positive
    keep = torch.ones_like(positive)
    for member in (positive, ~positive):
        place = member.nonzero().squeeze(-1)
        keep[place[score[place].argsort()][: count(drop_fraction * len(place))]] = False
    return keep


@sign_dropout.mutant(
    "both_classes_together",
    "All samples were ranked in one row, and the smallest x are those with A < 0: that class pays for both. Each "
    "class drops its own share.",
)
def _(ratio, advantage, drop_fraction):
    keep = torch.ones_like(ratio, dtype=torch.bool)
    keep[(ratio * advantage).argsort()[: round(drop_fraction * len(ratio))]] = False
    return keep


@sign_dropout.mutant(
    "argsort_for_ranks",
    "`argsort` answers which sample has rank k. The rank of sample k needs it twice: `x.argsort().argsort()`.",
)
def _(ratio, advantage, drop_fraction):
    x, keep = ratio * advantage, torch.ones_like(ratio, dtype=torch.bool)
    for member in (advantage >= 0, advantage < 0):
        place = member.nonzero().squeeze(-1)
        keep[place] = x[place].argsort() >= round(drop_fraction * len(place))
    return keep


@sign_dropout.mutant(
    "drops_the_largest",
    "This sorts the wrong way round: the smallest x go, and the largest stay.",
)
def _(ratio, advantage, drop_fraction):
    return _rule(ratio, advantage, drop_fraction, score=-ratio * advantage)


@sign_dropout.mutant(
    "ranked_by_magnitude",
    "|x| is right for A ≥ 0. In the class A < 0 it drops the x next to zero, which are the largest ones there.",
)
def _(ratio, advantage, drop_fraction):
    return _rule(ratio, advantage, drop_fraction, score=(ratio * advantage).abs())


@sign_dropout.mutant("ranked_by_advantage", "What is ranked is the product x = r A, and not A alone.")
def _(ratio, advantage, drop_fraction):
    return _rule(ratio, advantage, drop_fraction, score=advantage)


@sign_dropout.mutant("ranked_by_ratio", "What is ranked is the product x = r A, and not r alone.")
def _(ratio, advantage, drop_fraction):
    return _rule(ratio, advantage, drop_fraction, score=ratio)


@sign_dropout.mutant(
    "furthest_from_one",
    "Dropping where |r − 1| is largest is the idea of Sample Dropout. Here x = r A is ranked.",
)
def _(ratio, advantage, drop_fraction):
    return _rule(ratio, advantage, drop_fraction, score=-(ratio - 1).abs())


@sign_dropout.mutant(
    "rounded_up",
    "`ceil` drops at least one of every class, however small the share. The count goes to the nearest whole number.",
)
def _(ratio, advantage, drop_fraction):
    return _rule(ratio, advantage, drop_fraction, count=lambda x: int(-(-x // 1)))


@sign_dropout.mutant(
    "rounded_down",
    "`int` cuts off: 0.9 of a sample becomes none. The count goes to the nearest whole number.",
)
def _(ratio, advantage, drop_fraction):
    return _rule(ratio, advantage, drop_fraction, count=int)


@sign_dropout.mutant(
    "zero_among_the_negative",
    "An advantage of zero belongs to the class A ≥ 0; with A > 0 it slips into the other one.",
)
def _(ratio, advantage, drop_fraction):
    return _rule(ratio, advantage, drop_fraction, positive=advantage > 0)


@sign_dropout.mutant(
    "zero_in_neither_class",
    "With A > 0 and A < 0 an advantage of zero has no class, and is never dropped. It belongs to A ≥ 0.",
)
def _(ratio, advantage, drop_fraction):
    x, keep = ratio * advantage, torch.ones_like(ratio, dtype=torch.bool)
    for member in (advantage > 0, advantage < 0):
        place = member.nonzero().squeeze(-1)
        keep[place[x[place].argsort()][: round(drop_fraction * len(place))]] = False
    return keep


@sign_dropout.mutant(
    "class_by_the_sign_of_x",
    "The sign of x is that of A except where r is 0: x = 0 says nothing about A. Ask A itself.",
)
def _(ratio, advantage, drop_fraction):
    return _rule(ratio, advantage, drop_fraction, positive=ratio * advantage >= 0)


@sign_dropout.mutant(
    "share_of_the_whole_batch",
    "The count was taken from the whole batch, and each class lost as many: about twice the share. It is a share of "
    "the class.",
)
def _(ratio, advantage, drop_fraction):
    return _rule(ratio, advantage, drop_fraction, count=lambda _: round(drop_fraction * len(ratio)))


@sign_dropout.mutant(
    "share_halved",
    "Half of the batch's share was taken from each class: right only where both are equally large. Each drops a share "
    "of its own size.",
)
def _(ratio, advantage, drop_fraction):
    return _rule(ratio, advantage, drop_fraction, count=lambda _: round(drop_fraction * len(ratio) / 2))


@sign_dropout.mutant("true_for_dropped", "The mask is turned round: True was asked for what is *kept*.")
def _(ratio, advantage, drop_fraction):
    return ~_rule(ratio, advantage, drop_fraction)


@sign_dropout.mutant("share_kept", "`drop_fraction` is the share that goes. Here it is the share that stays.")
def _(ratio, advantage, drop_fraction):
    return _rule(ratio, advantage, 1 - drop_fraction)


@sign_dropout.mutant(
    "only_the_good_thinned",
    "Only the class A ≥ 0 drops anything here. The class A < 0 has its share as well.",
)
def _(ratio, advantage, drop_fraction):
    keep = _rule(ratio, advantage, drop_fraction)
    return keep | (advantage < 0)


@sign_dropout.mutant(
    "only_the_bad_thinned",
    "Only the class A < 0 drops anything here. The class A ≥ 0 has its share as well.",
)
def _(ratio, advantage, drop_fraction):
    keep = _rule(ratio, advantage, drop_fraction)
    return keep | (advantage >= 0)


@sign_dropout.mutant(
    "at_random",
    "A dropout of neurons is drawn by lot. This one is not: the smallest x of each class go.",
)
def _(ratio, advantage, drop_fraction):
    generator = torch.Generator().manual_seed(0)
    return _rule(ratio, advantage, drop_fraction, score=torch.rand(len(ratio), generator=generator))


@sign_dropout.mutant(
    "quantile",
    "A quantile lies between two samples and is interpolated: what lies below it is not always the rounded count. "
    "Count the samples, and sort them.",
)
def _(ratio, advantage, drop_fraction):
    x, keep = ratio * advantage, torch.ones_like(ratio, dtype=torch.bool)
    for member in (advantage >= 0, advantage < 0):
        if member.any():
            keep &= (x >= x[member].quantile(drop_fraction)) | ~member
    return keep


@sign_dropout.mutant(
    "never_the_last_one",
    "One sample of each class was always kept. A class can lose all of its samples, if its rounded share says so.",
)
def _(ratio, advantage, drop_fraction):
    x, keep = ratio * advantage, torch.ones_like(ratio, dtype=torch.bool)
    for member in (advantage >= 0, advantage < 0):
        place = member.nonzero().squeeze(-1)
        count = min(round(drop_fraction * len(place)), max(len(place) - 1, 0))
        keep[place[x[place].argsort()][:count]] = False
    return keep


@sign_dropout.mutant(
    "padded_with_a_constant",
    "The samples of the other class were moved to the end with a fixed number. Where x is larger than that, they stand "
    "in the middle: take `torch.inf`.",
)
def _(ratio, advantage, drop_fraction):
    x, keep = ratio * advantage, torch.ones_like(ratio, dtype=torch.bool)
    for member in (advantage >= 0, advantage < 0):
        order = torch.where(member, x, 100.0).argsort()
        keep[order[: round(drop_fraction * int(member.sum()))]] = False
    return keep


@sign_dropout.mutant(
    "empty_class_forgotten",
    "A batch may hold one sign only. The smallest of an empty class cannot be asked for.",
)
def _(ratio, advantage, drop_fraction):
    x, keep = ratio * advantage, torch.ones_like(ratio, dtype=torch.bool)
    for member in (advantage >= 0, advantage < 0):
        values = x[member].sort().values
        above = values[min(round(drop_fraction * len(values)), len(values) - 1)]
        gone = (x < above) if round(drop_fraction * len(values)) < len(values) else (x <= above)
        keep &= ~(member & gone)
    return keep


@sign_dropout.mutant("positions_for_a_mask", "These are the positions of what is kept, and not a mask.")
def _(ratio, advantage, drop_fraction):
    return _rule(ratio, advantage, drop_fraction).nonzero().squeeze(-1)


@sign_dropout.mutant("numbers_for_a_mask", "Zeros and ones weigh samples; a mask of True and False was asked for.")
def _(ratio, advantage, drop_fraction):
    return _rule(ratio, advantage, drop_fraction).to(ratio.dtype)


# ---------------------------------------------------------------- right answers


@sign_dropout.accepts("ranks by sorting twice")
def _(ratio, advantage, drop_fraction):
    x, positive = ratio * advantage, advantage >= 0
    keep = torch.ones_like(positive)
    for member in (positive, ~positive):
        rank = x.masked_fill(~member, torch.inf).argsort(stable=True).argsort()
        keep &= (rank >= (drop_fraction * member.sum()).round()) | ~member
    return keep


@sign_dropout.accepts("ranks by counting who is smaller")
def _(ratio, advantage, drop_fraction):
    x, positive = ratio * advantage, advantage >= 0
    alike = positive.unsqueeze(0) == positive.unsqueeze(1)
    place = torch.arange(len(x))
    earlier = (x.unsqueeze(0) == x.unsqueeze(1)) & (place.unsqueeze(0) < place.unsqueeze(1))
    before = (alike & (earlier | (x.unsqueeze(0) < x.unsqueeze(1)))).sum(-1)
    return before >= torch.round(alike.sum(-1) * drop_fraction)


@sign_dropout.accepts("topk of what stays")
def _(ratio, advantage, drop_fraction):
    keep = torch.zeros_like(advantage, dtype=torch.bool)
    for place in (torch.where(advantage >= 0)[0], torch.where(advantage < 0)[0]):
        stays = len(place) - int(drop_fraction * len(place) + 0.5)
        keep[place[torch.topk((ratio * advantage)[place], stays).indices]] = True
    return keep


@sign_dropout.accepts("plain Python lists")
def _(ratio, advantage, drop_fraction):
    samples = list(zip((ratio * advantage).tolist(), advantage.tolist(), range(len(ratio)), strict=True))
    gone = set()
    for positive in (True, False):
        mine = sorted(sample for sample in samples if (sample[1] >= 0) is positive)
        gone |= {index for _, _, index in mine[: round(drop_fraction * len(mine))]}
    return torch.tensor([index not in gone for index in range(len(ratio))])
