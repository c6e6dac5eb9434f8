"""How many pairs are ordered rightly, written by the learner, for section 5."""

import torch
from torch import Tensor

from pocourse.diffusion_dpo.exercises._shared import (
    each_by_itself,
    off,
    one_each,
    pair,
    row,
    signed,
    suspected,
    told,
    words,
)
from pocourse.lesson.exercises import exercise

accuracy = exercise(
    "diffusion_dpo.accuracy",
    title="Ordered rightly, wrongly, or not at all",
    section="5",
    difficulty=2,
    minutes=4,
    task="""
A number that every run of Diffusion-DPO prints beside its loss is the *implicit accuracy*: the share of pairs that the
denoiser orders as their labels do, those with z > 0, where

**z = −β / 2 · [ ( e_θ(w) − e_ref(w) ) − ( e_θ(l) − e_ref(l) ) ]**

At the very beginning z is 0 for every pair, since θ is the reference: no pair is ordered rightly, and none wrongly.
Such a tie counts one half.

Write it. `share_in_order(error_chosen, error_rejected, error_ref_chosen, error_ref_rejected)` receives

- `error_chosen`, a tensor whose last axis holds the pairs of a batch: e_θ(w), the mean squared error of θ on the chosen
  image. Each index of the axes before it, if there are any, is a batch of its own;
- `error_rejected`, of the same shape and dtype: e_θ(l), that of θ on the rejected image;
- `error_ref_chosen`, likewise: e_ref(w), that of the reference on the chosen image;
- `error_ref_rejected`, likewise: e_ref(l), that of the reference on the rejected image

and returns one share for each batch, between 0 and 1: a tensor without the last axis. β is not among the arguments. Is
it missing?
""",
    stub='''
def share_in_order(error_chosen, error_rejected, error_ref_chosen, error_ref_rejected):
    """errors [*batches, pair] -> [*batches], the share of pairs with z > 0; a tie counts one half."""
    ...
''',
    hints=(
        "Only the sign of z is asked for, and β is positive. What must have happened to the two errors, compared with "
        "those of the reference, for z to be above 0?",
        "An error that falls is a gain: z > 0 where the error of the chosen image has fallen by more than that of the "
        "rejected one, or risen by less. Three cases, `>`, `<` and `==`, have to become 1, 0 and ½ in the dtype of the "
        "errors.",
        "`torch.sign` makes 1, −1 and 0 of them. Which straight line makes 1, 0 and ½ of 1, −1 and 0? Then the mean "
        "over the last axis.",
    ),
    solution="""
def share_in_order(error_chosen, error_rejected, error_ref_chosen, error_ref_rejected):
    better = (error_ref_chosen - error_chosen) - (error_ref_rejected - error_rejected)
    return (0.5 + 0.5 * better.sign()).mean(-1)
""",
    after="""
At the first step your share is exactly one half. The code of Wallace et al. (2024) counts z > 0 only and begins at 0,
the research example of diffusers counts ties as you do. Where errors are kept in bfloat16, with two or three digits,
ties come again later. The share is a poor judge either way. Comparisons are noisy, so that on average no denoiser gets
beyond E max(p, 1 − p) on fresh pairs (5.2), and one that has fallen apart gets there too: it only has to be worse
still on the losers.
""",
    parameters=("error_chosen", "error_rejected", "error_ref_chosen", "error_ref_rejected"),
    returns=one_each("batch", summed="pair"),
    probes=lambda: [
        _batches(),
        tuple(x.reshape(2, 3, 4) for x in _batches()),
        tuple(x.reshape(3, 1, 2, 4) for x in _batches()),
        _reference(),
        _five(),
        *_with_a_tie(),
        _easy_and_hard(),
        *(_of_size(step) for step in (2.0**-20, 2.0**-27, 2.0**-40, 2.0**-60, 100.0)),
        tuple(x[:4] for x in _five()),
    ],
)

Errors = tuple[Tensor, Tensor, Tensor, Tensor]


def _batches() -> Errors:
    """Six batches of four pairs, in quarters, so that ties are exact."""
    drawn = torch.randint(0, 5, (4, 6, 4), generator=torch.Generator().manual_seed(3)).double() / 4
    return tuple(drawn)


def _reference() -> Errors:
    """Three pairs at the reference itself."""
    chosen, rejected = row(0.3, 1.2, 0.7), row(0.9, 0.1, 0.7)
    return chosen, rejected, chosen.clone(), rejected.clone()


def _five() -> Errors:
    """Right three times, wrong, and a tie: 0.7."""
    chosen, rejected = row(0.5, 1.0, 0.75, 0.5, 0.75), row(0.25, 0.75, 1.25, 0.75, 0.5)
    return chosen, rejected, row(1.0, 0.75, 0.5, 0.25, 1.0), row(0.25, 0.25, 0.25, 1.0, 0.75)


def _with_a_tie() -> list[Errors]:
    """Beside a tie, a pair in the right order, then one in the wrong order."""
    return [tuple(x[list(both)] for x in _five()) for both in ((0, 4), (3, 4))]


def _easy_and_hard() -> Errors:
    """Three pairs in the right order, although the chosen image has the larger error, or one that has grown."""
    return row(1.5, 0.75, 2.0), row(0.5, 1.25, 1.75), row(2.0, 0.5, 1.0), row(0.5, 0.5, 0.5)


def _of_size(step: float) -> Errors:
    """Right, right, wrong and right: 0.75, by differences of this size from a reference without error."""
    zero = row(0.0, 0.0, 0.0, 0.0)
    return step * row(1.0, 0.0, 2.0, 1.0), step * row(2.0, 1.0, 1.0, 3.0), zero, zero.clone()


def _said(errors: Errors) -> str:
    names = ("e_θ(w)", "e_θ(l)", "e_ref(w)", "e_ref(l)")
    return ", ".join(f"{name} = {words(x)}" for name, x in zip(names, errors, strict=True))


def _share(answer, errors: Errors) -> Tensor:
    return answer(*(x.clone() for x in errors))


@accuracy.requires("one share per batch, whatever axes come first")
def _(answer):
    return each_by_itself(
        answer,
        *_batches(),
        at=[_said(tuple(x[i] for x in _batches())) for i in range(6)],
        one="batch",
        what="share",
        advice="The mean runs over the last axis, that of the pairs.",
    )


@accuracy.requires("one half at the reference")
def _(answer):
    mine = _share(answer, _reference())
    said = suspected(mine, {0.0: "Yours gives nothing to a tie.", 1.0: "Yours counts a tie as right."})
    return told(
        mine,
        0.5,
        f"for {_said(_reference())}, where θ is the reference,",
        "θ prefers neither image of any pair: three ties, each counted one half. Which of the two is easier to denoise "
        f"is no merit of θ.{said}",
        "share",
    )


# What the share of an answer says, where it should be 0.7.
SUSPECTS = {
    0.6: "Yours counts the tie as wrong.",
    0.8: "Yours counts the tie as right.",
    0.75: "Yours leaves the tie out.",
    0.3: "Yours counts right as wrong, and wrong as right.",
    3.5: "Yours counts the pairs: divide by their number.",
}


@accuracy.requires("five pairs, by hand")
def _(answer):
    for dtype in (torch.float64, torch.float32):
        errors = tuple(x.to(dtype) for x in _five())
        mine = _share(answer, errors)
        problem = told(
            mine,
            0.7,
            f"for {_said(errors)}",
            "By hand: from the reference to θ the errors have changed by (−0.5, 0.25, 0.25, 0.25, −0.25) on the chosen "
            "images and by (0, 0.5, 1, −0.25, −0.25) on the rejected ones. So three pairs are in the right order, one "
            f"is not, and one is a tie: (1 + 1 + 1 + 0 + ½) / 5.{suspected(mine, SUSPECTS)}",
            "share",
        )
        if problem:
            return problem
    return None


@accuracy.requires("a tie counts one half, whatever lies beside it")
def _(answer):
    for errors, wanted, seen in zip(_with_a_tie(), (0.75, 0.25), ("right", "wrong"), strict=True):
        problem = told(
            _share(answer, errors),
            wanted,
            f"for {_said(errors)}",
            f"The first pair is in the {seen} order, the second is a tie, and there are two of them: "
            f"({'1' if seen == 'right' else '0'} + ½) / 2. A tie is neither left out, nor won, nor lost.",
            "share",
        )
        if problem:
            return problem
    return None


@accuracy.requires("it is the change that counts, not the error")
def _(answer):
    problem = told(
        _share(answer, _easy_and_hard()),
        1.0,
        f"for {_said(_easy_and_hard())}",
        "The errors have changed by (−0.5, 0.25, 1) on the chosen images and by (0, 0.75, 1.25) on the rejected ones: "
        "the first are below the second in all three pairs. A hard image may be the chosen one, and a winner's error "
        "may have grown.",
        "share",
    )
    if problem:
        return problem
    once, moved = _share(answer, _five()), list(_five())
    moved[0], moved[2] = moved[0] + 2, moved[2] + 2
    mine = _share(answer, tuple(moved))
    if off(mine, once) is None:
        return None
    got, must = pair(mine, once)
    return (
        f"for {_said(_five())} your share is {must}, and with 2 added to the errors of both denoisers on every chosen "
        f"image it is {got}. θ and the reference find these images harder alike, and nothing has changed between them."
    )


@accuracy.requires("chosen and rejected exchanged: the two shares sum to 1")
def _(answer):
    there = _share(answer, _batches())
    chosen, rejected, ref_chosen, ref_rejected = _batches()
    back = _share(answer, (rejected, chosen, ref_rejected, ref_chosen))
    if (index := off(there + back, torch.ones_like(there))) is None:
        return None
    got, must = pair((there + back)[index], 1.0)
    return (
        f"for {_said(tuple(x[index] for x in _batches()))} your share is {signed(there[index])}, and with the labels "
        f"exchanged it is {signed(back[index])}: together {got}, and it must be {must}. What was right is wrong then, "
        "and a tie stays a tie."
    )


@accuracy.requires("how clear a case is plays no role")
def _(answer):
    for step, said in (
        (2.0**-40, "2⁻⁴⁰, about 0.000000000001"),
        (2.0**-60, "2⁻⁶⁰"),
        (1.0, "1"),
        (100.0, "100"),
    ):
        mine = _share(answer, _of_size(step))
        if off(mine, row(0.75)[0]) is not None:
            got, must = pair(mine, 0.75)
            return (
                f"for a reference without error and errors of θ of (1, 0, 2, 1) on the chosen and (2, 1, 1, 3) on the "
                f"rejected images, all times {said}, your share is {got}, and it must be {must}. Right, right, wrong "
                "and right, however close or far: no tolerance, no sigmoid, only the sign."
            )
    return None


@accuracy.requires("the whole batch twice, the same share")
def _(answer):
    for errors in (_five(), tuple(x[:4] for x in _five())):
        once, twice = _share(answer, errors), _share(answer, tuple(x.repeat(2) for x in errors))
        if off(twice, once) is not None:
            got, must = pair(twice, once)
            return (
                f"for {_said(errors)} your share is {must}, and with every pair twice it is {got}. It is a share of "
                "all pairs of the batch, however many there are."
            )
    return None


# ---------------------------------------------------------------- wrong answers


def _better(error_chosen, error_rejected, error_ref_chosen, error_ref_rejected):
    """z, up to a positive factor, for answers that are wrong elsewhere."""
    return (error_ref_chosen - error_chosen) - (error_ref_rejected - error_rejected)


@accuracy.mutant(
    "ties_lost",
    "`z > 0` counts ties as wrong, and a run begins with an accuracy of 0: θ looks worse than a coin and is the "
    "reference.",
)
def _(*errors):
    better = _better(*errors)
    return (better > 0).to(better).mean(-1)


@accuracy.mutant(
    "ties_won",
    "`z >= 0` counts ties as right: a run begins with an accuracy of 1, and has learned nothing yet.",
)
def _(*errors):
    better = _better(*errors)
    return (better >= 0).to(better).mean(-1)


@accuracy.mutant(
    "sign_turned",
    "A pair was taken for right where the error of the chosen image has grown. An error is the opposite of a "
    "likelihood.",
)
def _(*errors):
    return (0.5 - 0.5 * _better(*errors).sign()).mean(-1)


@accuracy.mutant(
    "reference_forgotten",
    "Which image has the smaller error depends on which is easier. The reference says how easy each is.",
)
def _(error_chosen, error_rejected, error_ref_chosen, error_ref_rejected):
    return (0.5 + 0.5 * (error_rejected - error_chosen).sign()).mean(-1)


@accuracy.mutant(
    "ties_left_out",
    "Only pairs that are ordered at all were counted. Where all are ties there is nothing left, 0 / 0.",
)
def _(*errors):
    better = _better(*errors)
    return (better > 0).to(better).sum(-1) / (better != 0).to(better).sum(-1)


@accuracy.mutant(
    "winner_only",
    "This asks whether θ denoises the chosen image better than the reference does. Its error may grow, if only that of "
    "the rejected image grows more.",
)
def _(error_chosen, error_rejected, error_ref_chosen, error_ref_rejected):
    return (0.5 + 0.5 * (error_ref_chosen - error_chosen).sign()).mean(-1)


@accuracy.mutant(
    "both_asked_for",
    "Winner better *and* loser worse is more than z > 0 asks for: one difference decides, and not two.",
)
def _(error_chosen, error_rejected, error_ref_chosen, error_ref_rejected):
    winner, loser = (error_ref_chosen - error_chosen).sign(), (error_rejected - error_ref_rejected).sign()
    return (0.5 + 0.25 * (winner + loser)).mean(-1)


@accuracy.mutant(
    "reference_added",
    "The errors of the reference were exchanged or added. Each belongs to its own image, and is subtracted.",
)
def _(error_chosen, error_rejected, error_ref_chosen, error_ref_rejected):
    return (0.5 + 0.5 * _better(error_chosen, error_rejected, error_ref_rejected, error_ref_chosen).sign()).mean(-1)


@accuracy.mutant(
    "chances_averaged",
    "This is the mean of sigmoid(z), the chance that θ gives to the labels. An accuracy only asks on which side of one "
    "half it lies.",
)
def _(*errors):
    return _better(*errors).sigmoid().mean(-1)


@accuracy.mutant("signs_averaged", "The mean of the signs runs from −1 to 1. Half of it, plus one half, is the share.")
def _(*errors):
    return _better(*errors).sign().mean(-1)


@accuracy.mutant("counted", "This is a number of pairs, and grows with the batch. Asked for is their share.")
def _(*errors):
    return (0.5 + 0.5 * _better(*errors).sign()).sum(-1)


@accuracy.mutant("one_for_each_pair", "This is 1, 0 or ½ for each pair. The mean over the batch is missing.")
def _(*errors):
    return 0.5 + 0.5 * _better(*errors).sign()


@accuracy.mutant(
    "all_batches_together",
    "`mean()` without an axis makes one batch of all. Each run and each seed has its own.",
)
def _(*errors):
    share = (0.5 + 0.5 * _better(*errors).sign()).mean()
    return share.expand(errors[0].shape[:-1]).clone()


@accuracy.mutant(
    "sigmoid_rounded",
    "Rounding sigmoid(z) makes 0 of one half, and of all z so close to 0 that the sigmoid is one half in the computer.",
)
def _(*errors):
    return _better(*errors).sigmoid().round().mean(-1)


@accuracy.mutant(
    "ties_with_a_tolerance",
    "`isclose` takes close cases for ties. Early in a run all cases are close.",
)
def _(*errors):
    better = _better(*errors)
    tie = torch.isclose(better, torch.zeros_like(better))
    return torch.where(tie, 0.5, (better > 0).to(better)).mean(-1)


@accuracy.mutant(
    "mean_pair_judged",
    "The batch was averaged first and judged after. That is one verdict on a mean, where a single pair can outweigh "
    "all others.",
)
def _(*errors):
    return 0.5 + 0.5 * _better(*errors).mean(-1).sign()


@accuracy.mutant(
    "half_of_all_if_any_tie",
    "Ties were given one half of the *batch*, and not one half each.",
)
def _(*errors):
    better = _better(*errors)
    share = (better > 0).to(better).mean(-1)
    return torch.where((better == 0).any(-1), share + 0.5, share)


# ---------------------------------------------------------------- right answers


@accuracy.accepts("wins and half of the ties")
def _(error_chosen, error_rejected, error_ref_chosen, error_ref_rejected):
    policy, reference = error_chosen - error_rejected, error_ref_chosen - error_ref_rejected
    return (policy < reference).to(policy).mean(-1) + 0.5 * (policy == reference).to(policy).mean(-1)


@accuracy.accepts("three cases with where")
def _(error_chosen, error_rejected, error_ref_chosen, error_ref_rejected):
    z = -0.5 * ((error_chosen - error_ref_chosen) - (error_rejected - error_ref_rejected))
    one = torch.ones_like(z)
    return torch.where(z > 0, one, torch.where(z < 0, 0 * one, 0.5 * one)).mean(dim=-1)


@accuracy.accepts("one half at zero, with heaviside")
def _(*errors):
    better = _better(*errors)
    return torch.heaviside(better, torch.full_like(better, 0.5)).sum(-1) / better.shape[-1]


@accuracy.accepts("the mean of > and >=")
def _(*errors):
    better = _better(*errors)
    return ((better > 0).to(better.dtype) + (better >= 0).to(better.dtype)).mean(-1) / 2
