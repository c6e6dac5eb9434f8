"""A preference term made for log-probabilities, and fed with errors: it prefers the rejected image."""

import torch
from torch.nn.functional import logsigmoid

from pocourse.lesson.exercises import exercise
from pocourse.lesson.museum import Suspect, catches, clears, piece, yes_or_no
from pocourse.lesson.wrong import Wrong

# ---------------------------------------------------------------- the wrong code, ours


def error_taken_for_logp(error_chosen, error_rejected, weight):
    log_odds = error_chosen - error_rejected  # log π(chosen) − log π(rejected), with errors for log π
    return error_chosen - weight * logsigmoid(log_odds)


# ---------------------------------------------------------------- the task


def turned(error_chosen, error_rejected, weight):
    return error_chosen - weight * logsigmoid(error_rejected - error_chosen)


def comparison_alone(error_chosen, error_rejected, weight):
    return -logsigmoid(weight * (error_rejected - error_chosen))


def averaged(*arguments):
    return turned(*arguments).mean()


def hinge(error_chosen, error_rejected, weight):
    return (0.5 - weight * (error_rejected - error_chosen)).relu()


def hinge_beside_winners(error_chosen, error_rejected, weight):
    return error_chosen + hinge(error_chosen, error_rejected, weight)


def exponential(error_chosen, error_rejected, weight):
    return (weight * (error_chosen - error_rejected)).exp()


def difference(error_chosen, error_rejected, weight):
    return error_chosen + weight * (error_chosen - error_rejected)


def with_a_lead(error_chosen, error_rejected, weight):
    """The chosen image has to lead by something."""
    return -logsigmoid(weight * (error_rejected - error_chosen) - 0.3)


def turned_comparison_alone(error_chosen, error_rejected, weight):
    return -logsigmoid(weight * (error_chosen - error_rejected))


def minus_forgotten(error_chosen, error_rejected, weight):
    """The right margin, and log σ of it is made small."""
    return error_chosen + weight * logsigmoid(error_rejected - error_chosen)


def halves_exchanged(error_chosen, error_rejected, weight):
    return turned(error_rejected, error_chosen, weight)


def winners_unlearned(error_chosen, error_rejected, weight):
    return -error_chosen - weight * logsigmoid(error_rejected - error_chosen)


def both_are_learned(error_chosen, error_rejected, weight):
    return error_chosen + weight * error_rejected


def winners_alone(error_chosen, error_rejected, weight):
    return error_chosen


def distance(error_chosen, error_rejected, weight):
    return error_chosen + weight * (error_chosen - error_rejected).abs()


def square(error_chosen, error_rejected, weight):
    return error_chosen + weight * (error_chosen - error_rejected) ** 2


prefers = exercise(
    "diffusion_dpo.catch_error_taken_for_logp",
    title="Catch a loss that prefers the loser",
    section="Bug museum",
    difficulty=2,
    minutes=10,
    task="""
A small error is a large probability. Whoever takes a loss from the world of log-probabilities and puts errors into it
has to turn a sign.

Write `prefers(loss)`. `loss(error_chosen, error_rejected, weight)` takes the denoising errors of n pairs, of shape [n],
and returns one loss per pair, or their mean or sum. There is no reference. Some codes on trial have a second term that
learns the chosen images by themselves. Return `True` if the loss prefers the chosen image:

- *nowhere* does it ask for a larger error on a chosen image, or for a smaller one on a rejected image;
- where both errors are equal, or the chosen image's is larger, it asks for a smaller error on the chosen *and* a larger
  one on the rejected image.

Otherwise return `False`. A pair that is ordered rightly may be left alone.
""",
    stub="""
def prefers(loss):
    ...
""",
    hints=(
        "There are two errors, and each is pulled up or down. Which of the two is pulled the wrong way in the code "
        "above?",
        "What a loss asks for is the sign of its gradient: a positive slope asks for a smaller error. Look at the "
        "slopes in both errors, one by one; the value of the loss would mix them.",
        "Three pairs: equal errors, the chosen one's larger, the chosen one's smaller. In the first two the slopes "
        "have to be > 0 and < 0, in the third ≥ 0 and ≤ 0. A `weight` of 0.5 will do.",
    ),
    solution="""
def prefers(loss):
    for chosen, rejected in ((0.5, 0.5), (0.9, 0.2), (0.2, 0.9)):
        e = torch.tensor([[chosen], [rejected]]).double().requires_grad_()
        (slope,) = torch.autograd.grad(loss(e[0], e[1], 0.5).sum(), e)
        if slope[0] < 0 or slope[1] > 0:
            return False
        if chosen >= rejected and (slope[0] == 0 or slope[1] == 0):
            return False
    return True
""",
    after="""
**Ask of every term what it pulls at.** In the published code the term that learns the chosen images is so much larger
than the other that training goes well, the loss falls and the pictures get better: (1 − λ/2) of it is learning winners,
and λ/2 is learning losers. Only the rejected image's slope tells.

The same slip has a second door: whoever returns the *reward* −error and minimises it. Chapter 2's museum has a loss
without its minus, and there too the dashboards looked well for a while.
""",
    parameters=("loss",),
    returns=yes_or_no,
    probes=lambda: [
        (code,)
        for code in (
            turned,
            comparison_alone,
            hinge,
            exponential,
            with_a_lead,
            error_taken_for_logp,
            turned_comparison_alone,
            minus_forgotten,
            halves_exchanged,
            winners_unlearned,
            both_are_learned,
            winners_alone,
            distance,
            square,
            # These do nothing sensible: they tell tests apart that are wrong in different ways.
            lambda w, j, weight: -j,
            lambda w, j, weight: (w - j) ** 2,
            lambda w, j, weight: w - j**2,
            lambda w, j, weight: w - 0.05 * j + (w - j - 0.6).relu() ** 2,
            lambda w, j, weight: (w - j) * (0.6 - w),
            lambda w, j, weight: (w - j) * (w + j - 0.6).sign(),
            lambda w, j, weight: w + weight * j**2 - 0.2 * j,
            lambda w, j, weight: turned(w, j, weight) * (weight < 2),
            lambda w, j, weight: w - weight * (j - 0.5).relu(),
        )
    ],
)

RIGHT = "which never pulls an error the wrong way"


@prefers.requires("clears the term with its sign turned")
def _(answer):
    return clears(
        answer,
        [
            Suspect("the published code with its sign turned", turned, RIGHT),
            Suspect("its mean over the pairs", averaged, RIGHT),
            Suspect("the comparison alone, −log σ of the lead in error", comparison_alone, RIGHT),
        ],
    )


@prefers.requires("clears other losses that prefer the chosen image")
def _(answer):
    return clears(
        answer,
        [
            Suspect("a hinge", hinge, "which leaves alone what is ordered rightly by far"),
            Suspect("a hinge beside the chosen image's error", hinge_beside_winners, RIGHT),
            Suspect("an exponential", exponential, RIGHT),
            Suspect("a plain difference", difference, RIGHT),
            Suspect("a comparison in which the chosen image has to lead", with_a_lead, RIGHT),
        ],
    )


@prefers.requires("catches the published mistake")
def _(answer):
    why = "which asks for a smaller error on the rejected image"
    return catches(
        answer,
        [
            Suspect("the published mistake", error_taken_for_logp, why),
            Suspect("the published comparison, without the other term", turned_comparison_alone, why),
        ],
    )


@prefers.requires("catches other signs that are turned")
def _(answer):
    return catches(
        answer,
        [
            Suspect(
                "log σ in place of −log σ", minus_forgotten, "which asks for a smaller error on the rejected image"
            ),
            Suspect("chosen and rejected exchanged", halves_exchanged, "which learns the rejected images"),
            Suspect(
                "minus the chosen image's error beside a right comparison",
                winners_unlearned,
                "which asks for a larger error on the chosen image",
            ),
        ],
    )


@prefers.requires("catches what compares nothing")
def _(answer):
    return catches(
        answer,
        [
            Suspect("a loss that learns both images", both_are_learned, "which prefers neither"),
            Suspect("a loss that learns the chosen image alone", winners_alone, "which never sees the other one"),
            Suspect("the distance of both errors", distance, "which pulls them together, whichever is larger"),
            Suspect("the square of their difference", square, "which pulls them together, whichever is larger"),
        ],
    )


def _slopes(loss, chosen, rejected, weight=0.3):
    e = torch.tensor([[chosen], [rejected]], dtype=torch.float64, requires_grad=True)
    return torch.autograd.grad(loss(e[0], e[1], weight).sum(), e)[0][:, 0]


def _value(loss, chosen, rejected, weight=0.3):
    chosen, rejected = (torch.tensor([x], dtype=torch.float64) for x in (chosen, rejected))
    return loss(chosen, rejected, weight).sum().item()


@prefers.mutant("always_true", "It says True to everything on trial.")
def _(loss):
    return True


@prefers.mutant(
    "the_chosen_alone",
    "It looks at the chosen image's slope, and the term that learns the chosen images by themselves sees to that.",
)
def _(loss):
    return all(bool(_slopes(loss, w, j)[0] >= 0) for w, j in ((0.5, 0.5), (0.8, 0.3), (0.3, 0.8)))


@prefers.mutant(
    "the_rejected_alone", "It looks at the rejected image's slope, and the chosen one may be pulled up as well."
)
def _(loss):
    slopes = [_slopes(loss, w, j)[1] for w, j in ((0.5, 0.5), (0.8, 0.3), (0.3, 0.8))]
    return bool(slopes[0] < 0 and slopes[1] < 0 and slopes[2] <= 0)


@prefers.mutant(
    "the_better_pair",
    "It compares the losses of a pair that is ordered rightly and of one that is not. A smaller error on the chosen "
    "image makes up for everything else.",
)
def _(loss):
    return _value(loss, 0.1, 0.9) < _value(loss, 0.9, 0.1)


@prefers.mutant(
    "in_the_limit",
    "Its weight is 100, and it looks at the chosen image's slope. That finds the published mistake, and little else.",
)
def _(loss):
    return bool(_slopes(loss, 0.5, 0.5, 100.0)[0] > 0)


@prefers.mutant("no_weight", "Its weight is 0, and the comparison is not there.")
def _(loss):
    slope = _slopes(loss, 0.5, 0.5, 0.0)
    return bool(slope[0] >= 0 and slope[1] <= 0)


@prefers.mutant(
    "on_and_on",
    "It wants to be pulled further where the chosen image leads by far. A hinge leaves such pairs alone, and rightly.",
)
def _(loss):
    return all(
        bool(slope[0] > 0 > slope[1])
        for slope in (_slopes(loss, w, j) for w, j in ((0.5, 0.5), (0.8, 0.3), (0.1, 3.0)))
    )


@prefers.mutant("the_formula", "It compares with one formula. There are other losses that prefer the chosen image.")
def _(loss):
    return abs(_value(loss, 0.4, 0.7) - _value(turned, 0.4, 0.7)) < 1e-9


@prefers.mutant(
    "it_knows_them_apart", "It exchanges both errors and looks for a difference. There is one the wrong way round, too."
)
def _(loss):
    return abs(_value(loss, 0.4, 0.7) - _value(loss, 0.7, 0.4)) > 1e-9


@prefers.mutant("it_moves", "It asks whether both errors are pulled at all. Which way is the question.")
def _(loss):
    slope = _slopes(loss, 0.5, 0.5)
    return bool(slope[0] != 0 and slope[1] != 0)


@prefers.accepts("finite differences in both errors")
def _(loss):
    step = 1e-5
    for chosen, rejected in ((0.6, 0.6), (1.2, 0.4), (0.3, 1.1), (0.05, 2.0)):
        here = _value(loss, chosen, rejected, 0.7)
        worse_chosen = _value(loss, chosen + step, rejected, 0.7) - here
        worse_rejected = _value(loss, chosen, rejected + step, 0.7) - here
        if worse_chosen < -1e-12 or worse_rejected > 1e-12:
            return False
        if chosen >= rejected and (worse_chosen < 1e-12 or worse_rejected > -1e-12):
            return False
    return True


@prefers.accepts("a batch of random pairs")
def _(loss):
    e = torch.rand(2, 40, generator=torch.Generator().manual_seed(5), dtype=torch.float64).requires_grad_()
    (slope,) = torch.autograd.grad(loss(e[0], e[1], 0.4).sum(), e)
    wrong_way_round = e[0] >= e[1]
    asks = (slope[0] > 0) & (slope[1] < 0)
    return bool((slope[0] >= 0).all() and (slope[1] <= 0).all() and asks[wrong_way_round].all())


piece(
    "diffusion_dpo.error_taken_for_logp",
    title="An error taken for a log-probability",
    section="5",
    wrong=Wrong(
        "error_taken_for_logp",
        "The term comes from ORPO (Hong et al. 2024, arXiv 2403.07691), where the log-odds of the chosen text less "
        "those of the rejected one are made large. With a denoiser a *small* error stands for a large probability "
        "(5.13), and so the difference has to be turned. As it is, its slope in the rejected image's error is +λσ(·): "
        "the error is made smaller. Where both are alike, (1 − λ/2) parts of the loss learn winners, and λ/2 parts "
        "learn losers.",
        error_taken_for_logp,
        "diffusers' research example of ORPO",
    ),
    published=(
        "`huggingface/diffusers`, `examples/research_projects/diffusion_orpo/train_diffusion_orpo_sdxl_lora.py` and "
        "its twin for web datasets, commit `e29f16c` of 2024-03-25. The weight is 0.1, and so nineteen parts in "
        "twenty learn the chosen images: runs look as one hopes. A reader asked for the sign on 2024-06-05, under a "
        "pull request that changes the same line in another way and was open when we looked:"
    ),
    thread="https://github.com/huggingface/diffusers/pull/7465",
    corrected=(
        "The code is unchanged at commit `58eb52c` of 2026-08-23, the newest that we saw. Since 2024-06-11 the read-me "
        "beside it sends its readers to another project, MaPO."
    ),
    symptom=(
        "Pairs of numbers, of which the larger is mostly chosen, and denoisers that know one thing, the mean. On the "
        "left the published weight, 0.1: both losses fall, the wrong one as well as the right one. In the middle is "
        "the mean that is learned, against the weight. Learning the chosen ones alone gives their mean. The right "
        "comparison goes beyond, the wrong one falls back; at weight 1 it has next to nothing to show, and from there "
        "it goes towards the rejected ones. On the right is how often the chosen number of a fresh pair is denoised "
        "better."
    ),
    right=turned,
    exercise="diffusion_dpo.catch_error_taken_for_logp",
)
