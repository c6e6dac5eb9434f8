"""One sigmoid for the mean margin of a batch, where every pair has a sigmoid of its own."""

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from pocourse.lesson.exercises import exercise
from pocourse.lesson.museum import Suspect, catches, clears, piece, yes_or_no
from pocourse.lesson.wrong import Wrong

# ---------------------------------------------------------------- the wrong code, ours


def sigmoid_of_the_mean(error_chosen, error_rejected, error_ref_chosen, error_ref_rejected, beta):
    lead = (error_ref_chosen - error_chosen) - (error_ref_rejected - error_rejected)
    z = 0.5 * beta * lead  # one margin per pair
    return -logsigmoid(z.mean())


# ---------------------------------------------------------------- the task


def margins(error_chosen, error_rejected, error_ref_chosen, error_ref_rejected, beta):
    return -0.5 * beta * ((error_chosen - error_ref_chosen) - (error_rejected - error_ref_rejected))


def mean_of_the_losses(error_chosen, error_rejected, error_ref_chosen, error_ref_rejected, beta):
    return -logsigmoid(margins(error_chosen, error_rejected, error_ref_chosen, error_ref_rejected, beta)).mean()


def summed(*errors_and_beta):
    return -logsigmoid(margins(*errors_and_beta)).sum()


def one_after_the_other(error_chosen, error_rejected, error_ref_chosen, error_ref_rejected, beta):
    total = 0
    for pair in zip(error_chosen, error_rejected, error_ref_chosen, error_ref_rejected, strict=True):
        total = total - logsigmoid(margins(*pair, beta))
    return total / len(error_chosen)


def cross_entropy(*errors_and_beta):
    z = margins(*errors_and_beta)
    return binary_cross_entropy_with_logits(z, torch.ones_like(z))


def chance_of_all(*errors_and_beta):
    """The chance that all pairs come out as they did is a product."""
    return -margins(*errors_and_beta).sigmoid().prod().log()


def hinge(*errors_and_beta):
    return (1 - margins(*errors_and_beta)).relu().mean()


def square(*errors_and_beta):
    """IPO's square."""
    return ((margins(*errors_and_beta) - 0.5) ** 2).mean()


def doubtful_labels(*errors_and_beta):
    z = margins(*errors_and_beta)
    return -(0.9 * logsigmoid(z) + 0.1 * logsigmoid(-z)).mean()


def means_first(error_chosen, error_rejected, error_ref_chosen, error_ref_rejected, beta):
    """The errors are averaged before they are compared."""
    means = (x.mean() for x in (error_chosen, error_rejected, error_ref_chosen, error_ref_rejected))
    return -logsigmoid(margins(*means, beta))


def one_weight_for_all(*errors_and_beta):
    """The gradient of the published mistake, with another value."""
    z = margins(*errors_and_beta)
    return -(z.mean().neg().sigmoid().detach() * z).mean()


def log_of_the_mean_chance(*errors_and_beta):
    return -margins(*errors_and_beta).sigmoid().mean().log()


def standardised(*errors_and_beta):
    z = margins(*errors_and_beta)
    return -logsigmoid(z / (z.std(correction=0) + 1e-6)).mean()


def centred(*errors_and_beta):
    z = margins(*errors_and_beta)
    return -logsigmoid(z - z.mean()).mean()


def everyone_against_everyone(error_chosen, error_rejected, error_ref_chosen, error_ref_rejected, beta):
    """One axis too many, and each winner meets every loser."""
    return mean_of_the_losses(
        error_chosen.unsqueeze(1), error_rejected, error_ref_chosen.unsqueeze(1), error_ref_rejected, beta
    )


def the_neighbours_loser(error_chosen, error_rejected, error_ref_chosen, error_ref_rejected, beta):
    return mean_of_the_losses(error_chosen, error_rejected.roll(1), error_ref_chosen, error_ref_rejected.roll(1), beta)


def the_worst_pair_alone(*errors_and_beta):
    return -logsigmoid(margins(*errors_and_beta)).max()


separate = exercise(
    "diffusion_dpo.catch_sigmoid_of_the_mean",
    title="Catch pairs that are judged together",
    section="Bug museum",
    difficulty=3,
    minutes=10,
    task="""
A comparison is settled pair by pair. In a batch pairs may be *added up*; how hard one of them pulls must be no concern
of the others.

Write `separate(loss)`. `loss(error_chosen, error_rejected, error_ref_chosen, error_ref_rejected, beta)` takes the four
errors of n pairs, each of shape [n], and returns one number for the batch. Return `True` if every pair is judged by
itself: what a pair contributes to the gradient depends on nothing in the other pairs of the batch; otherwise `False`.

Which loss it is does not matter: some codes on trial have a hinge or a square in place of the sigmoid. Nor does it
matter whether the pairs are averaged or added; n stays what it is.
""",
    stub="""
def separate(loss):
    ...
""",
    hints=(
        "What would a pair notice if its neighbour in the batch were exchanged? Its value in the sum is hidden among "
        "the others; its *gradient* is its own.",
        "Two batches of the same size with the same first pair and different second ones. Compare the gradients in "
        "the errors of the first pair.",
        "Take n = 2 and stack the four errors to one tensor `e` of shape [4, 2] with `requires_grad_()`; "
        "`torch.autograd.grad(loss(*e, beta), e)` returns the slopes. Let the second pair be well ordered in one batch "
        "and badly in the other, with a beta that makes the margins about 1; then `[:, 0]` has to be the same.",
    ),
    solution="""
def separate(loss):
    first, slopes = torch.tensor([0.3, 0.4, 0.5, 0.5]), []
    for second in ([0.1, 0.9, 0.5, 0.5], [0.9, 0.1, 0.5, 0.5]):
        e = torch.stack([first, torch.tensor(second)], 1).double().requires_grad_()
        (slope,) = torch.autograd.grad(loss(*e, 4.0), e)
        slopes.append(slope[:, 0])
    return torch.allclose(*slopes)
""",
    after="""
**Where the mean stands decides what is learned.** The sigmoid is what makes a pair fall silent once it is ordered
rightly: its weight is σ(−z) (5.16). Drawn through the mean it weighs the batch, and a pair that is right by far goes on
pulling as long as the others are wrong. Which side the loss errs on is Jensen's inequality (5.15): the sigmoid of the
mean is *smaller*, so it looks like progress.

You compared gradients and no values. So a sum passed, and a hinge, and a square; and a code with the right value and
the wrong weights would not have.
""",
    parameters=("loss",),
    returns=yes_or_no,
    probes=lambda: [
        (code,)
        for code in (
            mean_of_the_losses,
            summed,
            hinge,
            square,
            sigmoid_of_the_mean,
            one_weight_for_all,
            log_of_the_mean_chance,
            standardised,
            centred,
            everyone_against_everyone,
            the_neighbours_loser,
            the_worst_pair_alone,
            # These do nothing sensible: they tell tests apart that are wrong in different ways.
            lambda w, j, rw, rj, beta: (w - j).sum() * 1e-3,
            lambda w, j, rw, rj, beta: mean_of_the_losses(j, w, rj, rw, beta),
            lambda w, j, rw, rj, beta: mean_of_the_losses(w, j, rw, rj, beta) + 1e-3 * (w[0] * w[-1]),
            lambda w, j, rw, rj, beta: mean_of_the_losses(w, j, 0 * rw, 0 * rj, beta),
            lambda w, j, rw, rj, beta: (w - j).max() * beta,
            lambda w, j, rw, rj, beta: mean_of_the_losses(w, j, rw, rj, beta) + 0.01 * w[0],
            lambda w, j, rw, rj, beta: sigmoid_of_the_mean(w, j, rw, rj, beta / 100),
        )
    ],
)

RIGHT = "in which every pair has a sigmoid of its own"


@separate.requires("clears the loss, however it is written")
def _(answer):
    return clears(
        answer,
        [
            Suspect("the mean over pairs of −log σ(z)", mean_of_the_losses, RIGHT),
            Suspect("the sum over pairs of −log σ(z)", summed, RIGHT),
            Suspect("a loop over the pairs", one_after_the_other, RIGHT),
            Suspect("the cross-entropy of margins and ones", cross_entropy, RIGHT),
            Suspect("−log of the product of all chances", chance_of_all, "which is a sum over pairs"),
        ],
    )


@separate.requires("clears other losses that judge pair by pair")
def _(answer):
    return clears(
        answer,
        [
            Suspect("a hinge, max(0, 1 − z), averaged", hinge, "in which every pair has a hinge of its own"),
            Suspect("IPO's square, averaged", square, "in which every pair has a square of its own"),
            Suspect("the loss for labels of which a tenth is wrong", doubtful_labels, RIGHT),
        ],
    )


@separate.requires("catches the published mistake")
def _(answer):
    why = "in which the pairs share one weight, σ of minus their mean margin"
    return catches(
        answer,
        [
            Suspect("the published mistake", sigmoid_of_the_mean, why),
            Suspect("the published mistake, with the errors averaged first", means_first, why),
            Suspect("the gradient of the published mistake under another value", one_weight_for_all, why),
        ],
    )


@separate.requires("catches what mixes the margins of a batch")
def _(answer):
    return catches(
        answer,
        [
            Suspect("−log of the mean chance", log_of_the_mean_chance, "in which the pairs share one logarithm"),
            Suspect("margins divided by their standard deviation", standardised, "which all pairs set together"),
            Suspect("margins less their mean", centred, "which all pairs set together"),
        ],
    )


@separate.requires("catches wrong partners")
def _(answer):
    return catches(
        answer,
        [
            Suspect(
                "errors of which two have one axis more",
                everyone_against_everyone,
                "in which each winner is compared with every loser",
            ),
            Suspect(
                "a batch whose losers are shifted by one",
                the_neighbours_loser,
                "in which a winner is compared with the loser of the next pair",
            ),
            Suspect("a maximum over the batch", the_worst_pair_alone, "in which one pair silences all others"),
        ],
    )


def _batch(*pairs):
    """Pairs of four errors, as a tensor [4, pair]."""
    return torch.tensor(pairs, dtype=torch.float64).T


def _slopes(loss, errors, beta=4.0):
    errors = errors.clone().requires_grad_()
    return torch.autograd.grad(loss(*errors, beta), errors)[0]


GOOD, BAD, FAIR, EVEN = (0.1, 0.8, 0.5, 0.5), (0.8, 0.2, 0.4, 0.5), (0.4, 0.6, 0.5, 0.5), (0.3, 0.7, 0.3, 0.7)


@separate.mutant("always_true", "It says True to everything on trial.")
def _(loss):
    return True


@separate.mutant(
    "at_the_reference",
    "It looks at the reference, where all margins are 0 and so is their mean. There −log σ gives log 2 on either side "
    "of the mean, and a hinge gives 1.",
)
def _(loss):
    return abs(loss(*_batch(EVEN, EVEN), 4.0).item() - 0.6931471805599453) < 1e-9


@separate.mutant("equal_pairs", "The pairs of its batch are alike, and their mean is each of them.")
def _(loss):
    return torch.allclose(loss(*_batch(GOOD, GOOD), 4.0), loss(*_batch(GOOD), 4.0), rtol=1e-4)


@separate.mutant(
    "mean_of_singles",
    "It wants the loss of a batch to be the mean of the losses of its pairs. A sum of them is as good.",
)
def _(loss):
    singles = torch.stack([loss(*_batch(pair), 4.0) for pair in (GOOD, BAD)])
    return torch.allclose(loss(*_batch(GOOD, BAD), 4.0), singles.mean(), rtol=1e-4)


@separate.mutant("the_formula", "It compares with one formula. A sum, a hinge and a square have values of their own.")
def _(loss):
    errors = _batch(GOOD, BAD, FAIR)
    return torch.allclose(loss(*errors, 4.0), mean_of_the_losses(*errors, 4.0))


@separate.mutant(
    "any_order", "It exchanges two pairs and looks for a difference. What mixes all pairs alike does not notice either."
)
def _(loss):
    return torch.allclose(loss(*_batch(GOOD, BAD, FAIR), 4.0), loss(*_batch(FAIR, GOOD, BAD), 4.0))


@separate.mutant(
    "tiny_margins",
    "Its margins are next to nothing. There a sigmoid is a straight line, and a straight line does not care where the "
    "mean is taken.",
)
def _(loss):
    slopes = [_slopes(loss, 1e-3 * _batch(FAIR, second), 1.0)[:, 0] for second in (GOOD, BAD)]
    return torch.allclose(*slopes, rtol=1e-3)


@separate.mutant(
    "moved_with_its_reference",
    "It makes all errors of the other pair larger, the reference's too, and so its margin stays what it was.",
)
def _(loss):
    slopes = [_slopes(loss, _batch(FAIR, [x + by for x in BAD]))[:, 0] for by in (0.0, 0.7)]
    return torch.allclose(*slopes)


@separate.mutant(
    "it_falls_silent",
    "It asks whether a pair pulls less as it comes right. With a weight that all pairs share it does that as well.",
)
def _(loss):
    return bool(_slopes(loss, _batch(GOOD, FAIR))[0, 0] < _slopes(loss, _batch(FAIR, FAIR))[0, 0] * 0.99)


@separate.mutant(
    "between_the_pairs",
    "It wants the loss of a batch to lie between those of its pairs. That of the mean margin does as well, and a sum "
    "does not.",
)
def _(loss):
    singles = torch.stack([loss(*_batch(pair), 4.0) for pair in (GOOD, BAD)])
    return bool(singles.min() < loss(*_batch(GOOD, BAD), 4.0) < singles.max())


@separate.mutant(
    "who_pulls_down",
    "It asks whether every winner's error is pulled down and every loser's up. So it is in most wrong codes.",
)
def _(loss):
    slopes = _slopes(loss, _batch(FAIR, BAD))
    return bool((slopes[0] > 0).all() and (slopes[1] < 0).all())


@separate.accepts("values: of two batches that share a pair, the difference is the same for every shared pair")
def _(loss):
    # A sum of one term per pair, and nothing else, has no interaction between two of them.
    def value(one, other):
        return loss(*_batch(one, other), 3.0)

    for one, same in (((GOOD, BAD), (FAIR, BAD)), ((GOOD, FAIR), (BAD, GOOD)), ((BAD, EVEN), (GOOD, FAIR))):
        (a, b), (c, d) = one, same
        if abs(value(a, c) + value(b, d) - value(a, d) - value(b, c)) > 1e-9:
            return False
    # A code may have the right value and the wrong weights: a cut in its graph.
    slopes = torch.stack([_slopes(loss, _batch(FAIR, x))[:, 0] for x in (GOOD, BAD)])
    return bool((slopes[0] - slopes[1]).abs().max() < 1e-9)


@separate.accepts("random batches, in which all pairs but one are drawn anew")
def _(loss):
    generator = torch.Generator().manual_seed(3)
    mine = torch.rand(4, 1, generator=generator, dtype=torch.float64)
    slopes = []
    for _ in range(6):
        rest = 2 * torch.rand(4, 4, generator=generator, dtype=torch.float64)
        slopes.append(_slopes(loss, torch.cat([rest[:, :2], mine, rest[:, 2:]], 1), 5.0)[:, 2])
    return bool((torch.stack(slopes) - slopes[0]).abs().max() < 1e-9)


piece(
    "diffusion_dpo.sigmoid_of_the_mean",
    title="The sigmoid of a mean",
    section="5",
    wrong=Wrong(
        "sigmoid_of_the_mean",
        "The mean over the batch is taken one bracket too early, inside of −log σ. By (5.15) the loss comes out "
        "smaller. What matters more: all pairs of the batch now pull with the same weight, σ of minus the *mean* "
        "margin, also those that are ordered rightly by far; a pair falls silent only where the whole batch leads. "
        "And the mean of B margins is right more surely than one of them: where margins are normally distributed its "
        "log-odds are B times as large, and what is learned with β is the policy of β/B. On six outcomes it is nearly "
        "that.",
        sigmoid_of_the_mean,
        "diffusers' research example of Diffusion-DPO",
    ),
    published=(
        "`huggingface/diffusers`, `examples/research_projects/diffusion_dpo/train_diffusion_dpo.py` and its twin for "
        "SDXL, in the first version, commit `2a97067` of 2024-01-05. The command in its read-me takes 16 pairs a "
        "batch. A reader of the paper noticed on 2024-01-24:"
    ),
    thread="https://github.com/huggingface/diffusers/issues/6702",
    corrected=(
        "Corrected with commit `1cab64b` of 2024-01-31, one bracket moved in each of the two files "
        "(https://github.com/huggingface/diffusers/pull/6754). `diffengine` has the line since 2024-01-11, and still "
        "had it at commit `f80c228` of 2024-02-18, the newest that we saw."
    ),
    symptom=(
        "On the left is the weight with which each pair of a batch pulls: with its own sigmoid it falls along the "
        "curve, with that of the mean it is the same for all. In the middle and on the right six outcomes are learned "
        "from noisy comparisons, to the end, with β = 1. The right code comes to the Gibbs policy whatever the size "
        "of the batch. The wrong one is there for batches of one pair, follows the Gibbs policies of β/B from there, "
        "and with 16 pairs it has put all on one outcome."
    ),
    right=mean_of_the_losses,
    exercise="diffusion_dpo.catch_sigmoid_of_the_mean",
    note=(
        "The mean can be taken too late as well. In the public code of `VideoDPO`, "
        "https://github.com/CIntellifusion/VideoDPO/blob/1febdb4/lvdm/models/ddpm3d.py, commit `1febdb4` of "
        "2025-04-25, errors of images [b, c, h, w] have become errors of videos [b, c, t, h, w], and are still "
        "averaged over three axes. What is left is one margin per *column* of pixels, 64 verdicts on one pair; and as "
        "the accuracy divides by the number of pairs, it can come to 64."
    ),
)
