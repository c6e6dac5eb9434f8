"""A column of weights times a row of flags."""

import math

import torch

from pocourse.lesson.exercises import exercise
from pocourse.lesson.museum import Suspect, catches, clears, piece, yes_or_no
from pocourse.lesson.wrong import Wrong

# ---------------------------------------------------------------- the wrong code, ours


def weights_as_a_column(weight, mask):
    product = weight * mask  # weight [B, 1], mask [B]: the product is [B, B]
    return product.sum() / mask.sum()


# ---------------------------------------------------------------- the task


def flattened(weight, mask):
    return (weight.flatten() * mask).sum() / mask.sum()


def mask_as_a_column(weight, mask):
    return (weight * mask.reshape(weight.shape)).sum() / mask.sum()


def chosen(weight, mask):
    return weight.flatten()[mask.bool()].mean()


def as_a_product(weight, mask):
    flags = mask.to(weight.dtype)
    return (flags @ weight).sum() / flags.sum()


def one_after_the_other(weight, mask):
    total = sum(w.sum() for w, m in zip(weight, mask, strict=True) if m > 0)
    return total / mask.sum()


def no_mask(weight, mask):
    return weight.mean()


def square_over_square(weight, mask):
    """The product divided by the mask, both spread out alike."""
    return (weight * mask).sum() / (torch.ones_like(weight) * mask).sum()


def mean_of_the_square(weight, mask):
    return (weight * mask).mean() * mask.numel() / mask.sum()


def divided_by_all(weight, mask):
    return (weight.flatten() * mask).sum() / len(mask)


def only_the_sum(weight, mask):
    return (weight.flatten() * mask).sum()


def always_a_column(weight, mask):
    """Mended for a column of weights: a flat one is spread out now."""
    return (weight * mask.unsqueeze(1)).sum() / mask.sum()


def root_of_the_square(weight, mask):
    return ((weight * mask) ** 2).sum().sqrt() / mask.sum().sqrt()


averages = exercise(
    "surrogate_variance.catch_weights_as_a_column",
    title="Catch a mean that grows with the batch",
    section="Bug museum",
    difficulty=2,
    minutes=8,
    task="""
A batch has B sequences, each with one importance weight; a mask says which of them are valid. The mean weight of the
valid ones is logged: it should be near 1.

Write `averages(mean)`. `mean(weight, mask)` takes the weights and a mask of shape [B] that holds 1 where a sequence is
valid and 0 elsewhere, and returns one number. Return `True` if this is the mean of the valid weights, **both** for
weights of shape [B] and for weights of shape [B, 1]; otherwise `False`.
""",
    stub="""
def averages(mean):
    ...
""",
    hints=(
        "Four weights and a mask with a zero in it are enough. Which four would you take, so that no wrong mean comes "
        "out right by accident?",
        "Different weights, and the one that is masked far from the mean of the others. `[1, 2, 4, 8]` with the mask "
        "`[1, 1, 0, 1]` has the mean 11/3.",
        "`weight.unsqueeze(1)` is the column. Hand over both shapes, and compare each result with 11/3 "
        "with `math.isclose` and a tolerance of 1e-5.",
    ),
    solution="""
def averages(mean):
    weight = torch.tensor([1.0, 2.0, 4.0, 8.0])
    mask = torch.tensor([1.0, 1.0, 0.0, 1.0])
    flat, column = mean(weight, mask), mean(weight.unsqueeze(1), mask)
    return math.isclose(flat, 11 / 3, rel_tol=1e-5) and math.isclose(column, 11 / 3, rel_tol=1e-5)
""",
    after="""
A column [B, 1] times a row [B] is no error but a square [B, B]: every weight meets every flag. Its sum is the sum of
all weights times the number of flags, so what was logged is simply **the sum of all weights**: about B times too
large, and blind to the mask.

Two habits help. Name the shapes in the signature and test them where tensors come in, as the functions of this course
do. And know what a number should be: E[r] = 1 (3.1), so a mean ratio of 16 is a bug, or a policy that is very far off.
""",
    parameters=("mean",),
    returns=yes_or_no,
    probes=lambda: [
        (code,)
        for code in (
            flattened,
            chosen,
            weights_as_a_column,
            no_mask,
            square_over_square,
            divided_by_all,
            only_the_sum,
            always_a_column,
            root_of_the_square,
            # These do nothing sensible: they tell tests apart that are wrong in different ways.
            lambda weight, mask: weight.sum() * 0 + 1,
            lambda weight, mask: weight.max(),
            lambda weight, mask: weight.sum() * 0 + 100,
            lambda weight, mask: weight.sum() * math.nan,
            lambda weight, mask: weight.flatten()[0] + 0 * mask.sum(),
            lambda weight, mask: (weight.flatten() * mask).sum() / mask.sum() + (weight.dim() - 1),
        )
    ],
)

RIGHT = "which is right for both shapes"


@averages.requires("clears masked means, however they are written")
def _(answer):
    return clears(
        answer,
        [
            Suspect("a mean of flattened weights", flattened, RIGHT),
            Suspect("a mean whose mask is given the weights' shape", mask_as_a_column, RIGHT),
            Suspect("a mean of `weight.flatten()[mask.bool()]`", chosen, RIGHT),
            Suspect("`mask @ weight / mask.sum()`", as_a_product, RIGHT),
            Suspect("a loop over the sequences", one_after_the_other, RIGHT),
        ],
    )


@averages.requires("catches the published mistake")
def _(answer):
    return catches(
        answer,
        [
            Suspect(
                "the published mistake",
                weights_as_a_column,
                "which is right for weights of shape [B], and B times too large for [B, 1]",
            )
        ],
    )


@averages.requires("catches it where it is half mended")
def _(answer):
    return catches(
        answer,
        [
            Suspect(
                "the mistake with its mask as a column",
                always_a_column,
                "which is right for weights of shape [B, 1] now, and B times too large for [B]",
            ),
            Suspect(
                "the square over the spread-out mask",
                square_over_square,
                "which has the right size, and for a column averages all weights: each meets every flag",
            ),
            Suspect("the mean of the square", mean_of_the_square, "which for a column averages all weights"),
        ],
    )


@averages.requires("catches a mean that leaves out the mask, or half of it")
def _(answer):
    return catches(
        answer,
        [
            Suspect("`weight.mean()`", no_mask, "which averages the masked weights as well"),
            Suspect("a sum divided by B", divided_by_all, "which counts the masked sequences in the denominator"),
        ],
    )


@averages.requires("catches what is no mean")
def _(answer):
    return catches(
        answer,
        [
            Suspect("a sum", only_the_sum, "which grows with the number of sequences"),
            Suspect("a root mean square", root_of_the_square, "which is the mean only where all weights are equal"),
        ],
    )


WEIGHT, MASK = (0.5, 1.0, 3.0, 0.7, 0.2), (1.0, 0.0, 1.0, 0.0, 1.0)


def _right(mean, weight=WEIGHT, mask=MASK, shapes=(False, True), rtol=1e-5):
    w, m = torch.tensor(weight), torch.tensor(mask)
    wanted = (w * m).sum() / m.sum()
    return all(
        torch.isclose(torch.as_tensor(mean(w.unsqueeze(1) if column else w, m)), wanted, rtol=rtol).item()
        for column in shapes
    )


@averages.mutant("always_true", "It says True to everything on trial.")
def _(mean):
    return True


@averages.mutant("flat_only", "It hands over weights of shape [B] alone, for which the published code is right.")
def _(mean):
    return _right(mean, shapes=(False,))


@averages.mutant("column_only", "It hands over weights of shape [B, 1] alone. A mend can break the other shape.")
def _(mean):
    return _right(mean, shapes=(True,))


@averages.mutant("one_sequence", "Its batch holds one sequence. With B = 1 a column is no different from a row.")
def _(mean):
    return _right(mean, (2.0,), (1.0,))


@averages.mutant("all_valid", "All of its sequences are valid, and a mean that ignores the mask is right.")
def _(mean):
    return _right(mean, mask=(1.0,) * 5)


@averages.mutant("equal_weights", "Its weights are all equal: masked or not, squared or not, their mean is the same.")
def _(mean):
    return _right(mean, (1.3,) * 5)


@averages.mutant(
    "masked_at_the_mean",
    "Its masked weights have the mean of the others, so that leaving out the mask changes nothing.",
)
def _(mean):
    return _right(mean, (1.0, 2.0, 3.0, 2.0), (1.0, 0.0, 1.0, 1.0))


@averages.mutant("below_the_largest", "It asks that the mean is no larger than the largest weight. So are many others.")
def _(mean):
    w, m = torch.tensor(WEIGHT), torch.tensor(MASK)
    return mean(w, m) <= w.max() and mean(w.unsqueeze(1), m) <= w.max()


@averages.mutant("shapes_agree", "It compares the two shapes with one another. Both can be wrong alike.")
def _(mean):
    w, m = torch.tensor(WEIGHT), torch.tensor(MASK)
    return torch.isclose(torch.as_tensor(mean(w, m)), torch.as_tensor(mean(w.unsqueeze(1), m)))


@averages.mutant("a_finite_number", "It asks whether one finite number comes out. The sum of a square is one.")
def _(mean):
    w, m = torch.tensor(WEIGHT), torch.tensor(MASK)
    found = [torch.as_tensor(mean(x, m)) for x in (w, w.unsqueeze(1))]
    return all(x.numel() == 1 and x.isfinite().item() for x in found)


@averages.mutant("divided_by_b", "What it compares with is the sum divided by B. The masked sequences do not count.")
def _(mean):
    w, m = torch.tensor(WEIGHT), torch.tensor(MASK)
    return all(torch.isclose(torch.as_tensor(mean(x, m)), (w * m).mean()).item() for x in (w, w.unsqueeze(1)))


@averages.mutant("to_the_last_digit", "It compares with `==`. Sums in another order differ in the last digit.")
def _(mean):
    w, m = torch.tensor((0.1, 0.2, 0.4, 0.7, 1.9)), torch.tensor((1.0, 1.0, 0.0, 1.0, 0.0))
    return all(float(mean(x, m)) == (0.1 + 0.2 + 0.7) / 3 for x in (w, w.unsqueeze(1)))


@averages.mutant("within_a_half", "It lets a difference of 0.5 pass, and misses a mean that is only somewhat wrong.")
def _(mean):
    return all(
        _right(mean, (1.0, 1.2, 0.8, 1.1), (1.0, 1.0, 0.0, 1.0), (column,), rtol=0.5) for column in (False, True)
    )


@averages.accepts("many random batches")
def _(mean):
    generator = torch.Generator().manual_seed(0)
    for size in (2, 3, 8):
        w = torch.rand(size, generator=generator)
        m = torch.arange(size) % 2 == 0
        for shaped in (w, w.unsqueeze(1)):
            if not torch.isclose(torch.as_tensor(mean(shaped, m)), w[m].mean()):
                return False
    return True


@averages.accepts("the gradient in the weights")
def _(mean):
    # Every valid weight has a share of one over their number, every masked one none.
    m = torch.tensor([1.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    for shape in ((4,), (4, 1)):
        w = torch.tensor([0.3, 5.0, 1.0, 2.0], dtype=torch.float64).reshape(shape).requires_grad_()
        (share,) = torch.autograd.grad(mean(w, m), w)
        if not torch.allclose(share.flatten(), m / 3):
            return False
    return True


@averages.accepts("one weight at a time")
def _(mean):
    m = torch.tensor([0.0, 1.0, 1.0])
    found = [float(mean(row.reshape(shape), m)) for shape in ((3,), (3, 1)) for row in 6 * torch.eye(3)]
    both = [float(mean(torch.tensor([9.0, 2.0, 4.0]).reshape(shape), m)) for shape in ((3,), (3, 1))]
    return found == [0, 3, 3] * 2 and both == [3, 3]


piece(
    "surrogate_variance.weights_as_a_column",
    title="A column of weights, a row of flags",
    section="1",
    wrong=Wrong(
        "weights_as_a_column",
        "A column times a row is a square: every weight meets the flag of every sequence, not only its own. The sum of "
        "the square, divided by the number of flags, is the sum of *all* weights: about B where it should be about 1, "
        "and the same whatever is masked.",
        weights_as_a_column,
        "NVIDIA-NeMo/RL",
    ),
    published=(
        "`NVIDIA-NeMo/RL`, `nemo_rl/algorithms/loss/loss_functions.py`, as a pull request of 2026-08-21 found it. "
        "Importance weights of whole sequences were kept as [B, 1], to be applied to every token, and were then "
        "multiplied with the mask of the samples, [B], for a metric: the mean ratio. The training loss was not "
        "affected:"
    ),
    thread="https://github.com/NVIDIA-NeMo/RL/pull/3753",
    corrected="Corrected by that pull request, which was merged.",
    symptom=(
        "On the left is the square for four sequences, of which the third is masked. Meant were the entries of the "
        "diagonal, framed; summed are all of them. On the right is the metric for ratios with mean 1 and a batch that "
        "grows from 1 to 64: the mean of the valid weights stays near 1, and what is logged is B. A batch of one shows "
        "nothing."
    ),
    right=flattened,
    exercise="surrogate_variance.catch_weights_as_a_column",
)
