"""A penalty whose gradient averages to zero."""

import torch

from pocourse.lesson.exercises import exercise
from pocourse.lesson.museum import Suspect, catches, clears, piece, yes_or_no
from pocourse.lesson.wrong import Wrong
from pocourse.ratio_clipping.museum import suspects as s

# ---------------------------------------------------------------- the wrong code, ours


def k1_penalty(logp, logp_ref):
    return logp - logp_ref  # averaged over actions of π, then differentiated


# ---------------------------------------------------------------- the task


def k2(logp, logp_ref):
    return 0.5 * (logp - logp_ref) ** 2


def k3(logp, logp_ref):
    return (logp_ref - logp).exp() - 1 - (logp_ref - logp)


def with_score_term(logp, logp_ref):
    """k1 and, beside it, what it leaves out: the actions themselves are drawn by pi."""
    k1 = logp - logp_ref
    return k1 + k1.detach() * logp


def score_alone(logp, logp_ref):
    return (logp - logp_ref).detach() * logp


def weighted(logp, logp_ref):
    return (logp - logp.detach()).exp() * (logp - logp_ref)


def hundredth_of_k2(logp, logp_ref):
    return 0.01 * k2(logp, logp_ref)


def negative_k1(logp, logp_ref):
    return logp_ref - logp


def ten_times_k1(logp, logp_ref):
    return 10 * (logp - logp_ref)


def constant_score(logp, logp_ref):
    """A score term with a constant in place of each sample's own k1."""
    return logp - logp_ref + 3 * logp


def k1_within_ten(logp, logp_ref):
    return (logp - logp_ref).clamp(-10, 10)


def entropy_alone(logp, logp_ref):
    return logp


def value_of_k3(logp, logp_ref):
    """The value of k3, the gradient of k1."""
    k1 = logp - logp_ref
    return k1 + (k3(logp, logp_ref) - k1).detach()


pulls = exercise(
    "ratio_clipping.catch_k1_penalty",
    title="Catch a penalty that does not pull",
    section="Bug museum",
    difficulty=4,
    minutes=12,
    task="""
A penalty on the distance to a reference is added to a loss, averaged over actions that the current policy π has
drawn, and differentiated. The actions are data by then: their probabilities carry no gradient.

Write `pulls(penalty)`. `penalty(logp, logp_ref)` takes two tensors of shape [n], log π and log π_ref of the drawn
actions, and returns one value per action. Return `True` if its gradient, averaged **exactly** over a ~ π, does not
vanish where π ≠ π_ref; otherwise `False`. Take a softmax policy with three actions, and its logits as the parameters.

It need not be the gradient of the KL divergence: several penalties pull, each in its own way. A test
of whether that mean gradient changes when π_ref does is as good an answer, for the codes on trial.
""",
    stub="""
def pulls(penalty):
    ...
""",
    hints=(
        "With three actions no sampling is needed: hand over all three, and weight each value by its probability. "
        "Those weights stand for the sampling, which carries no gradient.",
        "`logits = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64, requires_grad=True)`, `logp = "
        "logits.log_softmax(0)`, another policy as reference, and the mean `(logp.exp().detach() * penalty(logp, "
        "logp_ref)).sum()`. Why the `detach`?",
        "Take the gradient of that mean in the *logits*, not in `logp`: three log-probabilities are not free. It "
        "vanishes up to rounding, or it does not: `slope.abs().max() > 1e-6`.",
    ),
    solution="""
def pulls(penalty):
    logits = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64, requires_grad=True)
    logp = logits.log_softmax(0)
    logp_ref = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64).log()
    mean = (logp.exp().detach() * penalty(logp, logp_ref)).sum()
    (slope,) = torch.autograd.grad(mean, logits)
    return bool(slope.abs().max() > 1e-6)
""",
    after="""
The gradient of log π(a) − log π_ref(a) is the score ∇ log π(a), and the mean of the score under π is zero: the
reference has dropped out altogether. **A good estimate of a value need not have a good gradient.** k1 is an unbiased
estimate of KL(π ‖ π_ref), and pulls at nothing.

What is missing is that the actions themselves depend on π: k1 × ∇ log π, the score term. k2 = ½(log π − log π_ref)²
has exactly that gradient. k3 pulls too, with the gradient of the other divergence, KL(π_ref ‖ π).

If the weights π(a) carry gradient in your test, the test adds the missing term itself, and clears the mistake.
""",
    parameters=("penalty",),
    returns=yes_or_no,
    probes=lambda: [
        (code,)
        for code in (
            k2,
            k3,
            with_score_term,
            hundredth_of_k2,
            k1_penalty,
            k1_within_ten,
            constant_score,
            value_of_k3,
            entropy_alone,
            # These do nothing sensible: they tell tests apart that are wrong in different ways.
            lambda logp, logp_ref: 1 + 0 * logp,
            lambda logp, logp_ref: logp - logp.detach(),
            lambda logp, logp_ref: logp.exp().detach() * logp,
            lambda logp, logp_ref: logp * (torch.arange(len(logp)) > 0),
        )
    ],
)


@pulls.requires("clears k1 with its score term, however it is written")
def _(answer):
    return clears(
        answer,
        [
            Suspect("k1 with the score term beside it", with_score_term, s.RIGHT),
            Suspect("the score term alone", score_alone, "which is right: the other part averages to zero"),
            Suspect("k1 weighted by π / π.detach()", weighted, s.RIGHT),
        ],
    )


@pulls.requires("clears penalties that do not make the mistake")
def _(answer):
    other = "which pulls: the property is that the gradient does not vanish, not that it is a particular one"
    return clears(
        answer,
        [
            Suspect("k2, half the squared log-ratio", k2, other),
            Suspect("k3", k3, other),
            Suspect("a hundredth of k2", hundredth_of_k2, "which pulls, only less"),
        ],
    )


@pulls.requires("catches k1")
def _(answer):
    why = "whose gradient averages to zero under π, whatever the reference is"
    return catches(
        answer,
        [
            Suspect("the published mistake, k1", k1_penalty, why),
            Suspect("−k1", negative_k1, why),
            Suspect("ten times k1", ten_times_k1, why),
            Suspect("log π alone", entropy_alone, why),
        ],
    )


@pulls.requires("catches its near relatives")
def _(answer):
    inside = "which is k1 itself unless π and π_ref are worlds apart"
    return catches(
        answer,
        [
            Suspect("k1 clipped at ±10", k1_within_ten, inside),
            Suspect(
                "k1 with a half-mended score term, `k1 + 3 * logp`",
                constant_score,
                "in which a constant takes the place of k1: a constant times the score averages to zero as well",
            ),
        ],
    )


@pulls.requires("catches a value without its gradient")
def _(answer):
    return catches(answer, [Suspect("a penalty with the value of k3", value_of_k3, "and the gradient of k1")])


def _at(penalty, reference=(0.2, 0.5, 0.3), weights=None, of="logits"):
    """Gradient of the weighted mean; the weights are pi without gradient unless a function of logp is given."""
    logits = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64, requires_grad=True)
    logp = logits.log_softmax(0)
    weight = logp.exp().detach() if weights is None else weights(logp)
    mean = (weight * penalty(logp, torch.tensor(reference, dtype=torch.float64).log())).sum()
    return torch.autograd.grad(mean, logits if of == "logits" else logp, allow_unused=True)[0]


@pulls.mutant("always_true", "It says True to everything on trial: what the mistake changes, it does not look at.")
def _(penalty):
    return True


@pulls.mutant(
    "weights_with_gradient",
    ("Its weights π(a) carry gradient. That adds the very term that k1 leaves out: detach them."),
)
def _(penalty):
    return bool(_at(penalty, weights=lambda logp: logp.exp()).abs().max() > 1e-6)


@pulls.mutant(
    "unweighted", ("It averages over the three actions alike. The mean under π weights each by its probability.")
)
def _(penalty):
    return bool(_at(penalty, weights=lambda logp: torch.ones_like(logp) / 3).abs().max() > 1e-6)


@pulls.mutant(
    "in_logp",
    "It differentiates in `logp` and not in the logits; log-probabilities are not free: their exponentials sum to one.",
)
def _(penalty):
    return bool(_at(penalty, of="logp").abs().max() > 1e-6)


@pulls.mutant("one_action", "It looks at one action. Each single one has a gradient; in the mean of k1 they cancel.")
def _(penalty):
    return bool(_at(penalty, weights=lambda logp: torch.eye(3, dtype=torch.float64)[0]).abs().max() > 1e-6)


@pulls.mutant(
    "value", ("It looks at the value of the mean, which for k1 is the KL divergence. The optimiser sees the gradient.")
)
def _(penalty):
    logp = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64).log_softmax(0)
    value = (logp.exp() * penalty(logp, torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64).log())).sum()
    return bool(value.abs() > 1e-6)


@pulls.mutant("at_the_reference", "It sits at π = π_ref, where a right penalty has no gradient either.")
def _(penalty):
    same = tuple(torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64).softmax(0).tolist())
    return bool(_at(penalty, same).abs().max() > 1e-6)


@pulls.mutant(
    "kl_gradient", ("It asks for the gradient of KL(π ‖ π_ref) exactly, so it refuses k3 and everything scaled.")
)
def _(penalty):
    return torch.allclose(_at(penalty), _at(k1_penalty, weights=lambda logp: logp.exp()))


@pulls.mutant(
    "worlds_apart", ("Its reference is so far away that clipping acts. A moderate one shows the penalty itself.")
)
def _(penalty):
    return bool(_at(penalty, (1e-9, 1 - 2e-9, 1e-9)).abs().max() > 1e-6)


@pulls.accepts("many policies at once")
def _(penalty):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20, 3, generator=generator).double().requires_grad_()
    reference = torch.randn(20, 3, generator=generator).double().log_softmax(-1)
    logp = logits.log_softmax(-1)
    mean = sum((logp[i].exp().detach() * penalty(logp[i], reference[i])).sum() for i in range(20))
    mean.backward()
    return (logits.grad.norm(dim=-1) > 1e-5).all()


@pulls.accepts("one action at a time, weighted by π")
def _(penalty):
    logits = torch.tensor([0.5, 0.0, -0.5], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([0.1, 0.3, 0.6], dtype=torch.float64).log()
    logp = logits.log_softmax(0)
    values = [penalty(logp[a : a + 1], reference[a : a + 1])[0] for a in range(3)]
    mean = sum(weight * value for weight, value in zip(logp.detach().exp(), values, strict=True))
    return torch.autograd.grad(mean, logits)[0].norm() > 1e-6


@pulls.accepts("whether the mean gradient changes with the reference")
def _(penalty):
    return not torch.allclose(_at(penalty, (0.2, 0.5, 0.3)), _at(penalty, (0.4, 0.1, 0.5)), atol=1e-9)


@pulls.accepts("the three gradients, one by one")
def _(penalty):
    prob, reference = torch.tensor([0.6, 0.3, 0.1]), torch.tensor([0.3, 0.3, 0.4])
    total = torch.zeros(3)
    for action in range(3):
        logits = prob.log().requires_grad_()
        penalty(logits.log_softmax(0), reference.log())[action].backward()
        total += prob[action] * logits.grad
    return bool(total.norm() > 1e-5)


piece(
    "ratio_clipping.k1_penalty",
    title="A penalty that does not pull",
    section="5",
    wrong=Wrong(
        "k1_penalty",
        "The mean of log π − log π_ref over actions of π *is* the divergence. Its gradient is not: the actions are "
        "data by then, so all that is differentiated is log π(a), and the mean of that gradient under π is zero, "
        "whatever the reference. The penalty costs something and pulls at nothing; what is left is noise.",
        k1_penalty,
        "NVIDIA-NeMo/RL",
    ),
    published=(
        "`NVIDIA-NeMo/RL`, as a pull request of 2026-05-15 found it. GRPO, a relative of PPO for language models, adds "
        "a penalty on the distance to a fixed reference policy π_ref. Here it was back-propagated through the sampled "
        "mean of log π − log π_ref, over actions of the *current* policy; with r = π_ref/π this is the k1 = −log r of "
        "(2.31):"
    ),
    thread="https://github.com/NVIDIA-NeMo/RL/pull/2506",
    corrected="Corrected by that pull request, which was merged: it adds the score term, "
    "(log π − log π_ref) times the gradient of log π, which accounts for the actions.",
    symptom=(
        "On the left each dot is the gradient of one batch of 16 actions. The dots of k1 scatter round zero; those "
        "of k2, ½(log π − log π_ref)², scatter round the gradient of the divergence. On the right is descent on the "
        "penalty alone: with k2 the policy comes home to the reference, with k1 it wanders."
    ),
    right=k2,
    exercise="ratio_clipping.catch_k1_penalty",
    note=(
        "The same was discussed for another library's `kl1` in January 2025: "
        "https://github.com/allenai/open-instruct/pull/535"
    ),
)
