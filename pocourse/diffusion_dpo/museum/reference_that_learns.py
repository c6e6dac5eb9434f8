"""A reference that is the policy itself: the margin is zero for ever, and the gradient is not."""

import math

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from pocourse.lesson.exercises import exercise
from pocourse.lesson.museum import Suspect, catches, clears, piece, yes_or_no
from pocourse.lesson.wrong import Wrong

# ---------------------------------------------------------------- the wrong code, ours


def reference_that_learns(policy, reference, chosen, rejected, beta):
    logp = policy.log_softmax(-1)
    logp_ref = policy.log_softmax(-1).detach()  # without gradient, and yet not the reference
    log_ratio = logp - logp_ref
    return -logsigmoid(beta * (log_ratio[chosen] - log_ratio[rejected]))


# ---------------------------------------------------------------- the task


def margins(policy, reference, chosen, rejected, beta):
    log_ratio = policy.log_softmax(-1) - reference.log_softmax(-1)
    return beta * (log_ratio[chosen] - log_ratio[rejected])


def frozen(policy, reference, chosen, rejected, beta):
    return -logsigmoid(margins(policy, reference, chosen, rejected, beta))


def averaged(*arguments):
    return frozen(*arguments).mean()


def two_rewards(policy, reference, chosen, rejected, beta):
    """The rewards of both outcomes first, then the chance that the chosen one wins."""
    reward = beta * (policy.softmax(-1) / reference.softmax(-1)).log()
    return -torch.stack([reward[chosen], reward[rejected]]).log_softmax(0)[0]


def cross_entropy(*arguments):
    z = margins(*arguments)
    return binary_cross_entropy_with_logits(z, torch.ones_like(z))


def hinge(*arguments):
    return (1 - margins(*arguments)).relu()


def square(policy, reference, chosen, rejected, beta):
    """IPO's square."""
    return (margins(policy, reference, chosen, rejected, beta) / beta - 1 / (2 * beta)) ** 2


def no_gradient_either(policy, reference, chosen, rejected, beta):
    """The policy on both sides, and its gradient with it."""
    return frozen(policy, policy, chosen, rejected, beta)


def no_reference(policy, reference, chosen, rejected, beta):
    logp = policy.log_softmax(-1)
    return -logsigmoid(beta * (logp[chosen] - logp[rejected]))


def reference_of_the_chosen_alone(policy, reference, chosen, rejected, beta):
    logp, logp_ref = policy.log_softmax(-1), reference.log_softmax(-1)
    return -logsigmoid(beta * (logp[chosen] - logp_ref[chosen] - logp[rejected]))


def references_crossed(policy, reference, chosen, rejected, beta):
    logp, logp_ref = policy.log_softmax(-1), reference.log_softmax(-1)
    return -logsigmoid(beta * (logp[chosen] - logp_ref[rejected] - logp[rejected] + logp_ref[chosen]))


def exchanged(policy, reference, chosen, rejected, beta):
    """Policy and reference have changed places."""
    return frozen(reference, policy, chosen, rejected, beta)


anchored = exercise(
    "diffusion_dpo.catch_reference_that_learns",
    title="Catch a leash that is tied to nothing",
    section="Bug museum",
    difficulty=2,
    minutes=10,
    task="""
A reference is where the policy was. A loss that measures from anywhere else, or from the policy itself, holds nothing
back.

Write `anchored(loss)`. `loss(policy, reference, chosen, rejected, beta)` takes the logits of both, of shape [outcome],
and the numbers of the chosen and of the rejected outcomes, of shape [pair]. It returns one loss per pair, or their mean
or sum. Return `True` if the loss is about how far the policy has moved *away from that reference* towards the chosen
outcomes; otherwise `False`.

Which loss it is does not matter: some codes on trial have a hinge or a square in place of the sigmoid.
""",
    stub="""
def anchored(loss):
    ...
""",
    hints=(
        "Two things have to be true of a distance from a reference. One is about moving the policy alone, the other "
        "about moving both.",
        "Start at `policy = reference`. If the policy moves towards the chosen outcome, the loss falls. If afterwards "
        "policy *and* reference are moved by the same logits, nothing has changed between them, and the loss stays.",
        "Three outcomes, a reference that is not uniform, chosen `torch.tensor([0])`, rejected `torch.tensor([2])`. "
        "A small step: 0.2 in the chosen logit. Compare with `torch.isclose`, in float64.",
    ),
    solution="""
def anchored(loss):
    reference = torch.tensor([0.3, -1.0, 0.5]).double()
    chosen, rejected = torch.tensor([0]), torch.tensor([2])
    step = torch.tensor([0.2, 0.0, 0.0]).double()
    both = torch.tensor([1.0, -0.5, 2.0]).double()
    start = loss(reference, reference, chosen, rejected, 0.5)
    ahead = loss(reference + step, reference, chosen, rejected, 0.5)
    moved = loss(reference + step + both, reference + both, chosen, rejected, 0.5)
    return bool(ahead < start and torch.isclose(moved, ahead))
""",
    after="""
**A number that cannot move is no good sign.** Every first step of DPO is at the reference, with the loss at log 2
(5.6), half of the pairs right and a gradient of β/2 per pair (5.8). The published code took that step for ever: it
never sees that a pair has been learned, so nothing is ever learned enough.

At the reference its gradient is *right*; so are its loss and its accuracy. Whoever tests there alone will let it pass.
With an adapter that can be switched off the policy without it *is* the reference, at no cost. It has to be switched
off.
""",
    parameters=("loss",),
    returns=yes_or_no,
    probes=lambda: [
        (code,)
        for code in (
            frozen,
            averaged,
            hinge,
            square,
            reference_that_learns,
            no_gradient_either,
            no_reference,
            reference_of_the_chosen_alone,
            references_crossed,
            exchanged,
            # These do nothing sensible: they tell tests apart that are wrong in different ways.
            lambda p, r, c, j, beta: math.log(2) + 0 * p[c],
            lambda p, r, c, j, beta: -(p - r)[c] * 1e-3,
            lambda p, r, c, j, beta: frozen(p, r, c, j, beta) * (1 + 1e-12 * p[1]),
            lambda p, r, c, j, beta: frozen(p, r, c, j, beta) + r.mean().exp(),
            lambda p, r, c, j, beta: -logsigmoid(beta * (p - r)[c]),
            lambda p, r, c, j, beta: -logsigmoid((p - r)[c] - (p - r)[j]),
            lambda p, r, c, j, beta: -r[c] - 0.1 * p[c],
            lambda p, r, c, j, beta: (p - r)[c] ** 2 + p.mean() * 0,
            lambda p, r, c, j, beta: 2 * math.log(2) - frozen(p, r, c, j, beta),
        )
    ],
)

RIGHT = "which measures from the reference"


@anchored.requires("clears DPO, however it is written")
def _(answer):
    return clears(
        answer,
        [
            Suspect("−log σ(z), one per pair", frozen, RIGHT),
            Suspect("the mean of −log σ(z)", averaged, RIGHT),
            Suspect("the chance that the chosen one of two rewards wins", two_rewards, RIGHT),
            Suspect("the cross-entropy of margins and ones", cross_entropy, RIGHT),
        ],
    )


@anchored.requires("clears other losses with a reference")
def _(answer):
    return clears(answer, [Suspect("a hinge", hinge, RIGHT), Suspect("IPO's square", square, RIGHT)])


@anchored.requires("catches the published mistake")
def _(answer):
    why = "in which the margin is 0 wherever the policy goes"
    return catches(
        answer,
        [
            Suspect("the published mistake", reference_that_learns, why),
            Suspect("the policy in place of the reference, with its gradient", no_gradient_either, why),
        ],
    )


@anchored.requires("catches what has no reference, or half of one")
def _(answer):
    return catches(
        answer,
        [
            Suspect("a margin without a reference", no_reference, "which is 0 where both outcomes are equally likely"),
            Suspect(
                "a margin with the reference of the chosen outcome alone",
                reference_of_the_chosen_alone,
                "which is not 0 at the reference",
            ),
        ],
    )


@anchored.requires("catches a reference in the wrong place")
def _(answer):
    return catches(
        answer,
        [
            Suspect(
                "a margin in which the references of both outcomes have changed places",
                references_crossed,
                "which counts the reference with the wrong sign",
            ),
            Suspect("policy and reference exchanged", exchanged, "which pulls towards the rejected outcomes"),
        ],
    )


REFERENCE, ELSEWHERE = (0.4, -0.6, 0.9), (-0.7, 1.1, 0.2)


def _logits(*values):
    return torch.tensor(values, dtype=torch.float64)


def _value(loss, policy, reference, beta=0.5):
    return loss(policy, reference, torch.tensor([0]), torch.tensor([2]), beta).sum()


def _ahead(by=0.2):
    return _logits(*REFERENCE) + _logits(by, 0, 0)


@anchored.mutant("always_true", "It says True to everything on trial.")
def _(loss):
    return True


@anchored.mutant(
    "log_two_at_the_start",
    "It wants log 2 at the reference. That is where the published mistake always is, and a hinge or a square never.",
)
def _(loss):
    return abs(_value(loss, _logits(*REFERENCE), _logits(*REFERENCE)).item() - math.log(2)) < 1e-9


@anchored.mutant(
    "the_gradient_at_the_reference",
    "It looks at the gradient at the reference, and there the published mistake is right. Move away first.",
)
def _(loss):
    policy = _logits(*REFERENCE).requires_grad_()
    value = _value(loss, policy, _logits(*REFERENCE))
    (slope,) = torch.autograd.grad(value, policy, allow_unused=True) if value.requires_grad else (None,)
    return slope is not None and bool(slope[0] < -1e-6 and slope[2] > 1e-6)


@anchored.mutant(
    "the_reference_is_used",
    "It asks whether the reference that is handed in makes a difference. It may do so with the wrong sign.",
)
def _(loss):
    values = [_value(loss, _logits(*REFERENCE), _logits(*x)) for x in (REFERENCE, ELSEWHERE)]
    return not torch.isclose(*values)


@anchored.mutant(
    "the_policy_moves_it",
    "It moves the policy and asks whether the loss falls. It falls without a reference as well.",
)
def _(loss):
    return bool(_value(loss, _ahead(), _logits(*REFERENCE)) < _value(loss, *[_logits(*REFERENCE)] * 2) - 1e-9)


@anchored.mutant(
    "both_are_moved",
    "It moves policy and reference together and asks whether the loss stays. A loss that never moves does that.",
)
def _(loss):
    by = _logits(*ELSEWHERE)
    return torch.isclose(
        _value(loss, _ahead(), _logits(*REFERENCE)), _value(loss, _ahead() + by, _logits(*REFERENCE) + by)
    )


@anchored.mutant("a_flat_reference", "Its reference is uniform, also where it is moved, and so it is as good as none.")
def _(loss):
    flat, step = _logits(0, 0, 0), _logits(0.2, 0, 0)
    start, ahead, moved = (_value(loss, p, r) for p, r in ((flat, flat), (step, flat), (step + 1, flat + 1)))
    return bool(ahead < start - 1e-9 and torch.isclose(ahead, moved))


@anchored.mutant("the_formula", "It compares with one formula. A hinge, a square and a mean have values of their own.")
def _(loss):
    policy, reference = _logits(*ELSEWHERE), _logits(*REFERENCE)
    chosen, rejected = torch.tensor([0, 1]), torch.tensor([2, 0])
    found, wanted = (code(policy, reference, chosen, rejected, 0.5) for code in (loss, frozen))
    return found.shape == wanted.shape and torch.allclose(found, wanted)


@anchored.mutant(
    "a_leap",
    "Its step is so long that a square is past its minimum and a hinge flat. A short one shows which way the loss "
    "goes.",
)
def _(loss):
    by = _logits(*ELSEWHERE)
    near, far = (_value(loss, _ahead(x), _logits(*REFERENCE)) for x in (4.0, 8.0))
    return bool(far < near - 1e-9 and torch.isclose(far, _value(loss, _ahead(8.0) + by, _logits(*REFERENCE) + by)))


@anchored.mutant(
    "to_the_last_digit", "It wants the same number to the last digit, and moving the logits leaves 1e-16 of rounding."
)
def _(loss):
    moves = (_logits(*ELSEWHERE), _logits(3.3, -2.1, 0.7), _logits(0.1, 0.2, 0.3))
    start, ahead = (_value(loss, _ahead(x), _logits(*REFERENCE)) for x in (0.0, 0.2))
    return bool(ahead < start) and all(
        bool(_value(loss, _ahead() + by, _logits(*REFERENCE) + by) == ahead) for by in moves
    )


@anchored.accepts("two references, of which the policy is to be as far")
def _(loss):
    chosen, rejected = torch.tensor([1, 3]), torch.tensor([2, 0])
    lead = _logits(-0.1, 0.3, -0.1, 0.2)
    start, values = [], []
    for reference in (_logits(1, 2, 0, -1), _logits(-2, 0.5, 0.5, 1)):
        start.append(loss(reference, reference, chosen, rejected, 0.3).sum())
        values.append(loss(reference + lead, reference, chosen, rejected, 0.3).sum())
    return bool(torch.isclose(*values) and torch.isclose(*start) and values[0] < start[0])


@anchored.accepts("the gradient in both: opposite to each other, and the right way round")
def _(loss):
    policy, reference = _logits(0.1, 0.5, -0.4).requires_grad_(), _logits(-0.2, 0.3, 0.0).requires_grad_()
    value = loss(policy, reference, torch.tensor([1]), torch.tensor([0]), 0.5).sum()
    slopes = torch.autograd.grad(value, (policy, reference), allow_unused=True)
    if slopes[0] is None or slopes[1] is None:
        return False
    return bool(slopes[0][1] < 0 < slopes[0][0] and (slopes[0] + slopes[1]).abs().max() < 1e-9)


@anchored.accepts("random logits, small steps")
def _(loss):
    generator = torch.Generator().manual_seed(2)
    for _ in range(5):
        reference, step, both = torch.randn(3, 4, generator=generator, dtype=torch.float64)
        chosen, rejected = torch.randperm(4, generator=generator)[:2].split(1)
        step = 0.1 * step
        if step[chosen] < step[rejected]:
            step = -step
        start = loss(reference, reference, chosen, rejected, 1.0).sum()
        ahead = loss(reference + step, reference, chosen, rejected, 1.0).sum()
        moved = loss(reference + step + both, reference + both, chosen, rejected, 1.0).sum()
        if ahead >= start or (ahead - moved).abs() > 1e-9:
            return False
    return True


piece(
    "diffusion_dpo.reference_that_learns",
    title="A reference that learns along",
    section="3",
    wrong=Wrong(
        "reference_that_learns",
        "What stands for the reference is the policy as it is now, with its gradient cut off. The margin is 0 wherever "
        "the policy goes: the loss stays at log 2, and the accuracy, with ties as halves, at one half (5.6). The "
        "gradient is not 0. It is that of DPO's first step, β/2 towards the chosen and away from the rejected outcome "
        "(5.8), and with no margin to weigh it, it never becomes smaller. There is no leash: β is only a step size.",
        reference_that_learns,
        "the diffusion trainers of align-anything",
    ),
    published=(
        "`PKU-Alignment/align-anything`, `align_anything/trainers/text_to_video/dpo_diffusion.py`, commit `66b1332` of "
        "2024-08-20, in the repository since 2024-07-23; the trainers for images and audio had the same lines. The "
        "reference's errors came from the trained model itself, of which an adapter was switched off if there was one. "
        "By its settings the trainer for video had none, and the other two had one. The correction says that the two "
        "models should be different ones:"
    ),
    thread="https://github.com/PKU-Alignment/align-anything/pull/53",
    corrected=(
        "Corrected with commit `9eff99b` of 2024-08-22, in all three trainers: the reference is loaded on its own, and "
        "the differences of either model's errors are logged. So still at `3f9decc` of 2025-11-27, the newest that we "
        "saw."
    ),
    symptom=(
        "Six outcomes are learned from noisy comparisons by gradient descent. On the left is the loss as the code "
        "itself sees it, in the middle its accuracy: the right code's fall and rise and settle, the wrong one's do "
        "not move by a digit. It looks as if nothing was learned. On the right is the divergence from the true "
        "reference: with the right code it ends at that of the Gibbs policy, with the wrong one it grows until a "
        "single outcome is left."
    ),
    right=frozen,
    exercise="diffusion_dpo.catch_reference_that_learns",
    note=(
        "How to have a reference for nothing: `huggingface/diffusers`, in its research example of Diffusion-DPO, "
        "trains an adapter and takes the same network with the adapter *switched off* as the reference. Nothing has "
        "to be loaded twice, and what is frozen is frozen."
    ),
)
