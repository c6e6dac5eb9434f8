"""Diffusion-DPO's loss from what two denoisers predict, for section 5."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from pocourse.diffusion_dpo.exercises._shared import (
    as_if,
    belongs,
    each_by_itself,
    margin,
    not_log_two,
    off,
    one_each,
    pair,
    row,
    short,
    signed,
    suspected,
    table,
    told,
    unless_a_number,
    words,
)
from pocourse.lesson import trial
from pocourse.lesson.exercises import exercise

diffusion_dpo = exercise(
    "diffusion_dpo.diffusion_dpo",
    title="Four errors and a constant",
    section="5",
    difficulty=3,
    minutes=10,
    task="""
A denoiser cannot tell log π(x). It can be tested: noise the image x with ε, and see how well it tells ε again. The
squared error, a sum over the D pixels and channels, takes the place of −log π, for θ and for the reference. With the β
that published code has, this makes

**L = −log sigmoid(z), with**

**z = −β / (2 D) · [ ( ‖ε − ε_θ(w)‖² − ‖ε − ε_ref(w)‖² ) − ( ‖ε − ε_θ(l)‖² − ‖ε − ε_ref(l)‖² ) ]**

where ε_θ(w) is what θ predicts on the noised image that was chosen, and ε_θ(l) on the one that was rejected. Both were
noised with the same ε, at the same time step.

Write it. `denoising_dpo(noise, chosen, rejected, ref_chosen, ref_rejected, beta=5000.0)` receives

- `noise`, a tensor whose last axis holds the D pixels and channels: ε. Each index of the axes before it, if there are
  any, is a pair of its own;
- `chosen`, of the same shape and dtype: ε_θ(w). The gradient has to flow back through it;
- `rejected`, likewise: ε_θ(l). Through it as well;
- `ref_chosen`, likewise: ε_ref(w). The reference is data;
- `ref_rejected`, likewise: ε_ref(l);
- `beta`, a positive number: β

and returns one loss L for each pair: a tensor without the last axis. The constant counts: a β is worth nothing without
it.
""",
    stub='''
def denoising_dpo(noise, chosen, rejected, ref_chosen, ref_rejected, beta=5000.0):
    """noise and predictions [*pairs, D] -> [*pairs], one Diffusion-DPO loss per pair."""
    ...
''',
    hints=(
        "Where θ predicts what the reference predicts, what are z and L? Now let θ denoise the chosen image a little "
        "better: which sign has the bracket then, and which sign must z have?",
        "Four errors, all made the same way: write one small function of a prediction. A sum over D pixels, divided by "
        "D, is a mean over the last axis, and then D itself appears nowhere in the code. The 2 does not go with it.",
        "With e = `((noise - predicted) ** 2).mean(-1)` the bracket over D is (e of `chosen` less e of `ref_chosen`) "
        "less (e of `rejected` less e of `ref_rejected`). z is −β / 2 times that, and the rest is DPO: "
        "`torch.nn.functional.logsigmoid`.",
    ),
    solution="""
def denoising_dpo(noise, chosen, rejected, ref_chosen, ref_rejected, beta=5000.0):
    def error(predicted):
        return ((noise - predicted) ** 2).mean(-1)

    worse = (error(chosen) - error(ref_chosen)) - (error(rejected) - error(ref_rejected))
    return -torch.nn.functional.logsigmoid(-0.5 * beta * worse)
""",
    after="""
No wrong constant raises an error. Whatever it is, the first loss is log 2, and it falls; what changes is how far the
denoiser may go from its reference. The code of Wallace et al. (2024) has this half and β = 5000; the research example
of diffusers has none and β = 2500, which is the same loss (5.17). Sums in the place of means would make β D times as
large, 16,384 times on the latents of Stable Diffusion 1.5. The slopes say what is done with all this: denoise the
winner better and the loser worse, each pair weighted by how wrong it still is (5.16). Nothing in them keeps the
winner's own error from growing, if only the loser's grows more. Watch both.
""",
    parameters=("noise", "chosen", "rejected", "ref_chosen", "ref_rejected"),
    options=("beta",),
    returns=one_each("pair", summed="pixel"),
    probes=lambda: [
        (*_pairs(), {"beta": 2.0}),
        (*(x.reshape(2, 3, 4) for x in _pairs()), {"beta": 2.0}),
        (*(x.reshape(3, 1, 2, 4) for x in _pairs()), {"beta": 0.5}),
        (*_pairs(),),
        (*_first(), {"beta": 2.0}),
        (*_second(), {"beta": 8.0}),
        (*_close(), {"beta": 1e6}),
    ],
    differentiable=(1, 2),
)

Pair = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def _first() -> Pair:
    """Three pixels, z = 1 at β = 2: θ denoises the winner perfectly, and the loser as the reference does."""
    noise, nothing = row(1.0, -1.0, 1.0), row(0.0, 0.0, 0.0)
    return noise, noise.clone(), nothing, nothing.clone(), nothing.clone()


def _second() -> Pair:
    """Four pixels, z = 2 at β = 8: both errors have grown, the loser's by more."""
    noise = row(2.0, 0.0, 0.0, 0.0)
    return noise, row(1.0, 0.0, 0.0, 0.0), row(0.0, 0.0, 0.0, 0.0), noise.clone(), row(1.0, 0.0, 0.0, 0.0)


def _pairs() -> Pair:
    """Six pairs of four pixels."""
    noise, predicted = short(6, 4, seed=21) / 2, short(4, 6, 4, seed=22) / 4
    return (noise, *(noise + x for x in predicted))


def _one() -> Pair:
    """Three pixels, errors of every kind: e = 0.42, 1.4, 0.86 and 0.5."""
    noise = row(0.5, -1.0, 1.5)
    moved = table((0.3, -0.9, 0.6), (1.0, 1.6, -0.8), (-0.7, 0.5, 1.358), (0.1, -1.2, 0.224))
    return (noise, *(noise + x for x in moved))


def _close() -> Pair:
    """Predictions that have hardly left the reference, as in the first steps of a run."""
    noise, reference = row(0.3, -1.1, 0.7), table((0.1, -0.9, 0.9), (0.6, -1.4, 0.2))
    moved = 1e-6 * table((1.0, -2.0, -1.0), (1.0, 1.0, -2.0))
    return (noise, *(reference + moved), *reference)


def _exchanged(given: Pair) -> Pair:
    noise, chosen, rejected, ref_chosen, ref_rejected = given
    return noise, rejected, chosen, ref_rejected, ref_chosen


def _said(given: Pair, beta: float) -> str:
    names = ("ε", "ε_θ(w)", "ε_θ(l)", "ε_ref(w)", "ε_ref(l)")
    listed = ", ".join(f"{name} = {words(x)}" for name, x in zip(names, given, strict=True))
    return f"{listed} and β = {signed(beta)}"


def _loss(answer, given: Pair, beta: float) -> Tensor:
    return answer(*(x.clone() for x in given), beta=beta)


def _slopes(answer, given: Pair, beta: float) -> tuple[Tensor, Tensor, Tensor]:
    """The loss, and its slopes in what θ predicts on the chosen and on the rejected image."""

    def slope(which: int, name: str) -> tuple[Tensor, Tensor]:
        # Both carry gradient, as in a run.
        arguments = [x.clone().requires_grad_() if i in (1, 2) else x.clone() for i, x in enumerate(given)]
        loss = answer(*arguments, beta=beta)
        return loss.detach(), trial.derivative(loss, arguments[which], name)

    (loss, up), (_, down) = slope(1, "chosen"), slope(2, "rejected")
    return loss, up, down


@diffusion_dpo.requires("one loss per pair, whatever axes come first")
def _(answer):
    return each_by_itself(
        lambda *given: answer(*given, beta=2.0),
        *_pairs(),
        at=[f"ε = {words(x)}" for x in _pairs()[0]],
        one="pair",
        what="loss",
        advice="An error is a mean over the pixels of one image, along the last axis, and D is the size of that axis.",
    )


@diffusion_dpo.requires("log 2 where θ predicts what the reference predicts")
def _(answer):
    noise, chosen, rejected, *_ = _pairs()
    for beta in (3.0, 5000.0):
        mine = _loss(answer, (noise, chosen, rejected, chosen, rejected), beta)
        problem = told(
            mine,
            math.log(2),
            [f"for ε = {words(x)}, β = {signed(beta)} and a θ that is the reference," for x in noise],
            "However large the two errors are, θ has not changed them: z = 0, and −log ½ = 0.6931. Is each error "
            f"compared with that of the reference on the same image?{not_log_two(mine, beta)}",
        )
        if problem:
            return problem
    return None


# What the z of an answer says about its constant, where D = 3 and z should be 1.
SUSPECTS = {
    -1.0: "Its sign is the opposite: is an error taken for a likelihood?",
    2.0: "It is twice too large: the half is missing.",
    3.0: "It is D times too large: a sum stands where a mean belongs.",
    6.0: "It is 2 D times too large: the half and the mean are missing.",
    1 / 3: "It is D times too small: was a mean divided by D once more?",
    0.5: "It is half of what it should be: is there a second half, in the errors?",
    0.0: "It sees no difference between these predictions.",
}


@diffusion_dpo.requires("three pixels, by hand")
def _(answer):
    for dtype in (torch.float64, torch.float32):
        given = tuple(x.to(dtype) for x in _first())
        mine = _loss(answer, given, 2.0)
        problem = told(
            mine,
            math.log1p(math.exp(-1)),
            f"for {_said(given, 2.0)}",
            "By hand: ‖ε − ε_θ(w)‖² = 0, and the other three are 1 + 1 + 1. So z = −2 / (2 × 3) · [(0 − 3) − (3 − 3)] "
            f"= 1, and L = log(1 + 1 / e).{belongs(mine)}{suspected(margin(mine), SUSPECTS)}",
        )
        if problem:
            return problem
    return None


@diffusion_dpo.requires("four pixels, both errors grown, by hand")
def _(answer):
    mine = _loss(answer, _second(), 8.0)
    return told(
        mine,
        math.log1p(math.exp(-2)),
        f"for {_said(_second(), 8.0)}",
        "By hand: the squared errors of θ are 1 and 4, those of the reference 0 and 1, the chosen image first. So z = "
        f"−8 / (2 × 4) · [(1 − 0) − (4 − 1)] = 2, and L = log(1 + 1 / e²).{belongs(mine)} θ denoises the winner worse "
        "than the reference does, and the loser worse still: a pair in the right order.",
    )


@diffusion_dpo.requires("every pixel twice: the same loss")
def _(answer):
    once, twice = _loss(answer, _one(), 2.0), _loss(answer, tuple(x.repeat(2) for x in _one()), 2.0)
    if off(twice, once) is None:
        return None
    got, must = pair(twice, once)
    return (
        f"for {_said(_one(), 2.0)} your loss is {must}{as_if(once.detach())}, and with every pixel twice it is {got}"
        f"{as_if(twice.detach())}. Squares and D are doubled, and β / (2 D) times a sum stays: a mean over the pixels, "
        "divided by nothing else."
    )


@diffusion_dpo.requires("twice the distance from ε is four times the β")
def _(answer):
    noise, *predicted = _one()
    far = (noise, *(noise + 2 * (x - noise) for x in predicted))
    for beta in (0.5, 2.0):
        once, twice = _loss(answer, _one(), 4 * beta), _loss(answer, far, beta)
        if off(twice, once) is not None:
            got, must = pair(twice, once)
            return (
                f"for {_said(_one(), 4 * beta)} your loss is {must}{as_if(once.detach())}. With all four predictions "
                f"twice as far from ε, and a fourth of β, it must be the same, and yours is {got}"
                f"{as_if(twice.detach())}. Errors are squares, and z is β times them: neither a root, nor a quotient, "
                "nor β outside of the sigmoid."
            )
    return None


@diffusion_dpo.requires("chosen and rejected exchanged: the two chances sum to 1")
def _(answer):
    for beta in (2.0, 6.0):
        there, back = _loss(answer, _pairs(), beta), _loss(answer, _exchanged(_pairs()), beta)
        chances = (-there).exp() + (-back).exp()
        if (index := off(chances, torch.ones_like(chances))) is not None:
            got, must = pair(chances[index], 1.0)
            return (
                f"for {_said(tuple(x[index] for x in _pairs()), beta)} your loss is {signed(there[index])}, and with "
                f"the two images exchanged it is {signed(back[index])}. exp(−L) is the chance that the pair is ordered "
                f"this way: the two sum to {got}, and it must be {must}."
            )
    return None


@diffusion_dpo.requires("only the errors count, ε less what was predicted")
def _(answer):
    once = _loss(answer, _one(), 2.0)
    for moved, said in (
        (tuple(x + row(1.0, -2.0, 0.5) for x in _one()), "(1, −2, 0.5) added to ε and to all four predictions"),
        (tuple(-x for x in _one()), "the sign of ε and of all four predictions turned"),
        (tuple(x[[2, 0, 1]] for x in _one()), "the pixels in another order"),
    ):
        mine = _loss(answer, moved, 2.0)
        if off(mine, once) is not None:
            got, must = pair(mine, once)
            return (
                f"for {_said(_one(), 2.0)} your loss is {must}, and with {said} it is {got}. No prediction has come "
                "closer to ε or gone further from it."
            )
    noise, *predicted = _one()
    other = (noise.clone(), *(2 * noise - x for x in predicted[:2]), *predicted[2:])
    mine = _loss(answer, other, 2.0)
    if off(mine, once) is None:
        return None
    got, must = pair(mine, once)
    return (
        f"for {_said(_one(), 2.0)} your loss is {must}, and for {_said(other, 2.0)} it is {got}. θ's predictions lie "
        "on the other side of ε and as far from it: how far they are from those of the *reference* is not the question."
    )


@diffusion_dpo.requires("the slopes: the winner towards ε, the loser away from it")
def _(answer):
    noise, chosen, rejected, *_ = _one()
    for given, beta in ((_one(), 2.0), (_one(), 9.0), ((noise, chosen, rejected, chosen, rejected), 2.0)):
        loss, up, down = _slopes(answer, given, beta)
        wrong_order = -torch.expm1(-loss)
        scale = beta * wrong_order / len(noise)
        for mine, wanted, name, seen in (
            (up, scale * (chosen - noise), "chosen", "ε_θ(w) − ε"),
            (down, scale * (noise - rejected), "rejected", "ε − ε_θ(l)"),
        ):
            if off(mine, wanted) is not None:
                got, must = pair(mine, wanted)
                return (
                    f"for {_said(given, beta)} your loss L is {signed(loss)}, and its slope in what θ predicts on the "
                    f"{name} image is {got}. The chance of the wrong order is 1 − exp(−L) = {signed(wrong_order)}, and "
                    f"the slope must be that times β / D times {seen}, which is {must} (5.16)."
                )
    return None


@diffusion_dpo.requires("two Gaussians: z is the difference of their log-ratios, whatever the noise")
def _(answer):
    mean, winner, loser, half = row(1.0, -0.5), row(1.5, 0.5), row(0.2, 1.0), math.sqrt(0.5)
    z = float(mean @ (winner - loser))
    for values in ((0.0, 0.0), (1.0, -2.0), (-0.7, 0.3)):
        noise = row(*values)
        noised = [half * x + half * noise for x in (winner, loser)]
        theta, reference = ([half * (x - half * m) for x in noised] for m in (mean, 0 * mean))
        mine = _loss(answer, (noise, *theta, *reference), 8.0)
        problem = told(
            mine,
            math.log1p(math.exp(-z)),
            "for the best denoisers of two Gaussians of variance 1, the reference's with the mean (0, 0) and θ's with "
            f"the mean μ = (1, −0.5), for y_w = (1.5, 0.5) and y_l = (0.2, 1), both noised with ε = {words(noise)} at "
            "ᾱ = ½, and β = 8,",
            "In closed form z = β ᾱ (1 − ᾱ) / D · μ · (y_w − y_l), ε cancels (5.18), and with this β it is the true "
            f"difference of the two log-ratios, {signed(z)}.{belongs(mine)}",
        )
        if problem:
            return problem
    return None


@diffusion_dpo.requires("large errors: the loss is −z, and not infinite")
def _(answer):
    given, beta = tuple(20 * x for x in _first()), 5000.0
    for pairs, z in ((_exchanged(given), -1e6), (given, 1e6)):
        loss, up, down = _slopes(answer, pairs, beta)
        where = f"for {_said(pairs, beta)}"
        why = f"z is {signed(z)} here. sigmoid(z) is 0 or 1 in the computer: `logsigmoid` takes both steps at once."
        problem = told(loss, max(-z, 0.0), where, why)
        if problem:
            return problem
        for mine, prediction, sign, name in ((up, pairs[1], 1, "chosen"), (down, pairs[2], -1, "rejected")):
            wanted = sign * (beta / 3 * (prediction - pairs[0]) if z < 0 else 0 * prediction)
            if off(mine, wanted) is not None:
                got, must = pair(mine, wanted)
                return (
                    f"{where} the slope of your loss in what θ predicts on the {name} image is {got}, and it must be "
                    f"{must}{unless_a_number(got)}. {why}"
                )
    return None


@diffusion_dpo.requires("small steps away from the reference are seen")
def _(answer):
    noise, chosen, rejected, ref_chosen, ref_rejected = _close()
    # Each difference of squares is a product: exact, however close the predictions are.
    better = ((ref_chosen - chosen) * (ref_chosen + chosen - 2 * noise)).sum()
    better -= ((ref_rejected - rejected) * (ref_rejected + rejected - 2 * noise)).sum()
    z = 1e6 * float(better) / 6
    mine = _loss(answer, _close(), 1e6)
    return told(
        mine,
        math.log1p(math.exp(-z)),
        "for three pixels, with predictions of θ that are a millionth or two away from those of the reference, all in "
        "torch.float64, and β = 1,000,000,",
        f"z is {signed(z)}: β is large because differences of errors are small.{belongs(mine)} Single precision "
        "inside, or errors that are rounded, lose them.",
    )


# ---------------------------------------------------------------- wrong answers


def _errors(noise, *predicted):
    """The four mean squared errors, for answers that are wrong elsewhere."""
    return [((noise - x) ** 2).mean(-1) for x in predicted]


def _worse(errors):
    """By how much more the error of the chosen image has grown."""
    chosen, rejected, ref_chosen, ref_rejected = errors
    return (chosen - ref_chosen) - (rejected - ref_rejected)


def _made(errors, beta):
    return -functional.logsigmoid(-0.5 * beta * _worse(errors))


@diffusion_dpo.mutant(
    "half_forgotten",
    "The 2 below the line is missing, and β is twice what it says: 5000 without the half is 10,000 with it.",
)
def _(*given, beta=5000.0):
    return -functional.logsigmoid(-beta * _worse(_errors(*given)))


@diffusion_dpo.mutant(
    "sum_for_mean",
    "The squares were summed, and D is missing below: β is D times what it says, on 64 × 64 latents of four channels "
    "16,384 times.",
)
def _(noise, *predicted, beta=5000.0):
    return _made([((noise - x) ** 2).sum(-1) for x in predicted], beta)


@diffusion_dpo.mutant(
    "sign_swapped",
    "The minus in front of β is missing. An error is the opposite of a likelihood: here the winner is denoised worse.",
)
def _(*given, beta=5000.0):
    return _made(_errors(*given), -beta)


@diffusion_dpo.mutant(
    "reference_forgotten",
    "Without the reference, an image that is easy to denoise counts as preferred. The loss does not begin at log 2.",
)
def _(*given, beta=5000.0):
    chosen, rejected, *_ = _errors(*given)
    return -functional.logsigmoid(-0.5 * beta * (chosen - rejected))


@diffusion_dpo.mutant(
    "divided_by_d_twice",
    "A mean over the pixels has divided by D already, and then came 1 / (2 D). β is D times less than it says.",
)
def _(noise, *predicted, beta=5000.0):
    return _made(_errors(noise, *predicted), beta / noise.shape[-1])


@diffusion_dpo.mutant(
    "half_twice",
    "There are two halves, one in the errors and one in front of β. The errors are plain squares.",
)
def _(*given, beta=5000.0):
    return _made(_errors(*given), beta / 2)


@diffusion_dpo.mutant("mean_taken", "The mean is the caller's business: asked for is one loss per pair.")
def _(*given, beta=5000.0):
    return _made(_errors(*given), beta).mean()


@diffusion_dpo.mutant(
    "sigmoid_of_the_mean",
    "The mean of all z went into the sigmoid. A pair that is ordered well pays for one that is not, and no pair has a "
    "weight of its own.",
)
def _(*given, beta=5000.0):
    errors = _errors(*given)
    return _made([x.mean().expand_as(x) for x in errors], beta)


@diffusion_dpo.mutant(
    "mean_over_everything",
    "`mean()` without an axis makes one error of the whole batch. Right for one pair, and for no batch.",
)
def _(noise, *predicted, beta=5000.0):
    return _made([((noise - x) ** 2).mean() for x in predicted], beta)


@diffusion_dpo.mutant(
    "d_from_the_first_axis",
    "D is the size of the *last* axis. The first one holds the pairs, as soon as there are several.",
)
def _(noise, *predicted, beta=5000.0):
    return _made([((noise - x) ** 2).sum(-1) / len(noise) for x in predicted], beta)


@diffusion_dpo.mutant(
    "distance_from_the_reference",
    "These are squared distances of θ's predictions from those of the reference: ε is missing. Leaving the reference "
    "is neither good nor bad by itself.",
)
def _(noise, chosen, rejected, ref_chosen, ref_rejected, beta=5000.0):
    moved = ((chosen - ref_chosen) ** 2).mean(-1) - ((rejected - ref_rejected) ** 2).mean(-1)
    return -functional.logsigmoid(-0.5 * beta * (moved + 0 * noise.sum(-1)))


@diffusion_dpo.mutant(
    "reference_added",
    "The errors of the reference were exchanged, or added: each belongs to its own image, and is subtracted.",
)
def _(*given, beta=5000.0):
    chosen, rejected, ref_chosen, ref_rejected = _errors(*given)
    return _made((chosen, rejected, ref_rejected, ref_chosen), beta)


@diffusion_dpo.mutant(
    "winner_only",
    "The rejected image is missing. This is supervised fine-tuning on winners in a sigmoid: nothing is compared.",
)
def _(*given, beta=5000.0):
    chosen, rejected, ref_chosen, _ = _errors(*given)
    return -functional.logsigmoid(-0.5 * beta * (chosen - ref_chosen + 0 * rejected))


@diffusion_dpo.mutant(
    "beta_outside",
    "Here β stands in front of the loss, where it is a step size. Inside of the sigmoid it says how far the "
    "denoiser may go.",
)
def _(*given, beta=5000.0):
    return beta * _made(_errors(*given), 1.0)


@diffusion_dpo.mutant(
    "log_of_sigmoid",
    "The formula is right, and done in two steps: for z below −709, in single precision −88, the sigmoid is 0 in the "
    "computer, and its logarithm −∞. With β = 5000 that is not far.",
)
def _(*given, beta=5000.0):
    return -torch.log(torch.sigmoid(-0.5 * beta * _worse(_errors(*given))))


@diffusion_dpo.mutant("minus_forgotten", "This is the log-likelihood, which is maximised. The loss is minus that.")
def _(*given, beta=5000.0):
    return -_made(_errors(*given), beta)


@diffusion_dpo.mutant(
    "root_taken",
    "These are lengths of the errors, with a root. What takes the place of −log π is the *squared* error.",
)
def _(noise, *predicted, beta=5000.0):
    return _made([(noise - x).norm(dim=-1) / noise.shape[-1] for x in predicted], beta)


@diffusion_dpo.mutant("absolute_values", "The errors were not squared: a Gaussian has squares in its exponent.")
def _(noise, *predicted, beta=5000.0):
    return _made([(noise - x).abs().mean(-1) for x in predicted], beta)


@diffusion_dpo.mutant(
    "averaged_before_squaring",
    "The mean over the pixels came first, and the square after it. Errors of different signs cancel that way.",
)
def _(noise, *predicted, beta=5000.0):
    return _made([(noise - x).mean(-1) ** 2 for x in predicted], beta)


@diffusion_dpo.mutant(
    "relative_errors",
    "Each error was divided by that of the reference. Log-likelihoods are subtracted, and errors stand for them.",
)
def _(*given, beta=5000.0):
    chosen, rejected, ref_chosen, ref_rejected = _errors(*given)
    return -functional.logsigmoid(-0.5 * beta * (chosen / ref_chosen - rejected / ref_rejected))


@diffusion_dpo.mutant(
    "logarithms_of_errors",
    "An error stands for −log π itself. Its logarithm was taken as if it were a probability.",
)
def _(*given, beta=5000.0):
    return _made([(x + 1e-8).log() for x in _errors(*given)], beta)


@diffusion_dpo.mutant(
    "predictions_detached",
    "The values are right, and θ is cut off from the gradient: nothing would ever be learned. Only the reference runs "
    "without gradient.",
)
def _(noise, chosen, rejected, *reference, beta=5000.0):
    return _made(_errors(noise, chosen.detach(), rejected.detach(), *reference), beta)


@diffusion_dpo.mutant(
    "rejected_detached",
    "Only the chosen image carries gradient. The slope on the rejected one is half of what is learned.",
)
def _(noise, chosen, rejected, *reference, beta=5000.0):
    return _made(_errors(noise, chosen, rejected.detach(), *reference), beta)


@diffusion_dpo.mutant("z_returned", "This is −z: without the sigmoid no pair ever has enough.")
def _(*given, beta=5000.0):
    return 0.5 * beta * _worse(_errors(*given))


@diffusion_dpo.mutant(
    "beta_fixed",
    "Whatever `beta` says, β is fixed at 5000.",
)
def _(*given, beta=5000.0):
    return _made(_errors(*given), 5000.0)


@diffusion_dpo.mutant(
    "single_precision_inside",
    "In single precision a difference of errors keeps few of its digits, and a large β makes the rounding visible.",
)
def _(noise, *predicted, beta=5000.0):
    return _made(_errors(noise.float(), *(x.float() for x in predicted)), beta).to(noise.dtype)


@diffusion_dpo.mutant(
    "pixels_left",
    "Each pixel has a loss of its own here. The error is that of the whole image, and there is one sigmoid for a pair.",
)
def _(noise, *predicted, beta=5000.0):
    return _made([(noise - x) ** 2 for x in predicted], beta)


@diffusion_dpo.mutant(
    "sigmoid_in_every_pixel",
    "The sigmoid was taken pixel by pixel, and the mean after it. One image has one likelihood: first the error, then "
    "the sigmoid.",
)
def _(noise, *predicted, beta=5000.0):
    return _made([(noise - x) ** 2 for x in predicted], beta).mean(-1)


# ---------------------------------------------------------------- right answers


@diffusion_dpo.accepts("sums, with D below")
def _(noise, chosen, rejected, ref_chosen, ref_rejected, beta=5000.0):
    def square(x):
        return (x * x).sum(-1)

    policy = square(noise - chosen) - square(noise - rejected)
    reference = square(noise - ref_chosen) - square(noise - ref_rejected)
    return -functional.logsigmoid(-beta / (2 * noise.shape[-1]) * (policy - reference))


@diffusion_dpo.accepts("winners and losers in one batch, as published code has them")
def _(noise, chosen, rejected, ref_chosen, ref_rejected, beta=5000.0):
    target = torch.stack((noise, noise))
    theta = functional.mse_loss(torch.stack((chosen, rejected)), target, reduction="none").mean(dim=-1)
    reference = functional.mse_loss(torch.stack((ref_chosen, ref_rejected)), target, reduction="none").mean(dim=-1)
    scale_term = -0.5 * beta
    inside = scale_term * ((theta[0] - theta[1]) - (reference[0] - reference[1]))
    return -1 * functional.logsigmoid(inside)


@diffusion_dpo.accepts("half of β, without a half")
def _(noise, chosen, rejected, ref_chosen, ref_rejected, beta=5000.0):
    improved = [
        (noise - ref).pow(2).mean(-1) - (noise - mine).pow(2).mean(-1)
        for mine, ref in ((chosen, ref_chosen), (rejected, ref_rejected))
    ]
    return functional.softplus(beta / 2 * (improved[1] - improved[0]))


@diffusion_dpo.accepts("differences of squares as products")
def _(noise, chosen, rejected, ref_chosen, ref_rejected, *, beta=5000.0):
    gained = [
        ((ref - mine) * (ref + mine - 2 * noise)).mean(-1) * beta / 2
        for mine, ref in ((chosen, ref_chosen), (rejected, ref_rejected))
    ]
    return -torch.stack(gained, -1).log_softmax(-1)[..., 0]
