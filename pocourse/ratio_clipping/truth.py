"""Estimator against truth: what each objective's gradient estimates, on a bandit small enough to enumerate.

The truth is the gradient of E_new[A] in the logits of the current policy. The samples come from the
old policy, as they do in every epoch but the first. All expectations are sums over the actions.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pocourse import _check
from pocourse.lesson.bands import bootstrap_band, interquartile_mean
from pocourse.worlds import reward_gradient

Objective = Callable[[Tensor, Tensor], Tensor]


class Estimator(NamedTuple):
    """One objective's gradient estimator, exactly: mean [action], and four numbers that judge it.

    ``bias`` |E g - truth| / |truth|; ``variance`` of one sample, trace, / |truth|^2; ``cosine`` of E g with the truth;
    ``samples`` how many it takes until the standard error is a tenth of |truth|.
    """

    mean: Float[Tensor, " action"]
    bias: float
    variance: float
    cosine: float
    samples: int


def sample_gradients(
    objective: Objective,
    prob_old: Float[Tensor, " action"],
    prob: Float[Tensor, " action"],
    advantage: Float[Tensor, " action"],
) -> Float[Tensor, "drawn action"]:
    r"""The gradient that each action gives when it is the one that was drawn.

    .. math:: g(a) = f'(r_a)\, r_a\, (e_a - \pi), \qquad r_a = \pi(a) / \pi_{old}(a)

    Shapes: prob_old, prob, advantage [action] -> [drawn action, logit].
    Gradient: none; the derivative of the objective is autograd's.
    Raises: ValueError for shapes that differ or have more than one axis, probabilities that do not sum to one, an
    action that the old policy never draws, an input that carries gradient, NaN.
    Source: the chain rule; the score of a softmax policy is Sutton & Barto (2018), section 13.3.
    """
    _check.same_shape(prob_old=prob_old, prob=prob, advantage=advantage)
    _check.shape((prob_old.numel(),), prob_old=prob_old)
    _check.constant(prob_old=prob_old, prob=prob, advantage=advantage)
    _check.probabilities(prob_old=prob_old, prob=prob)
    _check.entries(above=0, prob_old=prob_old, remedy="The ratio needs an old policy that draws every action.")
    ratio = (prob / prob_old).detach().requires_grad_()
    (slope,) = torch.autograd.grad(objective(ratio, advantage).sum(), ratio)
    score = torch.eye(len(prob), dtype=prob.dtype) - prob
    return (slope * ratio.detach()).unsqueeze(1) * score


def judge(
    objective: Objective,
    prob_old: Float[Tensor, " action"],
    prob: Float[Tensor, " action"],
    advantage: Float[Tensor, " action"],
) -> Estimator:
    r"""Bias, variance, cosine and cost of an objective's gradient, every action enumerated.

    .. math:: E[g] = \sum_a \pi_{old}(a)\, g(a), \qquad \operatorname{tr Var}[g] = E|g|^2 - |E g|^2

    Shapes: as :func:`sample_gradients`.
    Gradient: none.
    Raises: ValueError as :func:`sample_gradients`, and for a true gradient of zero, which nothing can be measured by.
    Source: ours.
    """
    gradients = sample_gradients(objective, prob_old, prob, advantage)
    truth = reward_gradient(prob, advantage)
    mean = prob_old @ gradients
    variance = float(prob_old @ gradients.square().sum(1) - mean.square().sum())
    scale = float(truth.norm())
    if scale <= 1e-12:
        raise ValueError(
            f"expected a true gradient that is not zero; got one of norm {scale:g}. "
            "Choose advantages that differ, and a policy that is not certain."
        )
    return Estimator(
        mean=mean,
        bias=float((mean - truth).norm()) / scale,
        variance=variance / scale**2,
        cosine=float(torch.nn.functional.cosine_similarity(mean, truth, dim=0)),
        samples=max(1, math.ceil(variance / (0.1 * scale) ** 2 - 1e-9)),
    )


def estimate(
    objective: Objective,
    prob_old: Float[Tensor, " action"],
    prob: Float[Tensor, " action"],
    advantage: Float[Tensor, " action"],
    *,
    num_samples: int,
    num_seeds: int,
    generator: torch.Generator,
) -> Float[Tensor, "seed sample action"]:
    """The gradients of actions really drawn from the old policy: [seed, sample, logit].

    Shapes: as :func:`sample_gradients`.
    Gradient: none.
    Raises: ValueError as :func:`sample_gradients`, and for fewer than one sample or seed.
    Source: ours.
    """
    _check.number(at_least=1, num_samples=num_samples, num_seeds=num_seeds)
    gradients = sample_gradients(objective, prob_old, prob, advantage)
    drawn = torch.multinomial(prob_old, num_seeds * num_samples, replacement=True, generator=generator)
    return gradients[drawn].unflatten(0, (num_seeds, num_samples))


def markdown(
    objectives: Mapping[str, Objective], prob_old: Tensor, policies: Mapping[str, Tensor], advantage: Tensor
) -> str:
    """The table estimator against truth, for each policy and objective, in Markdown."""
    lines = [
        "| policy | estimator | bias | variance of one sample | cosine with the truth | samples for a tenth |\n",
        "|---|---|---|---|---|---|\n",
    ]
    for name, prob in policies.items():
        for label, objective in objectives.items():
            e = judge(objective, prob_old, prob, advantage)
            lines.append(f"| {name} | {label} | {e.bias:.3f} | {e.variance:.2f} | {e.cosine:+.3f} | {e.samples:,} |\n")
    return "".join(lines)


def sampled_markdown(
    objectives: Mapping[str, Objective],
    prob_old: Tensor,
    prob: Tensor,
    advantage: Tensor,
    *,
    num_samples: int,
    num_seeds: int,
    generator: torch.Generator,
) -> str:
    """The same judgement from samples: per seed one gradient, its distance to the truth and its cosine with it.

    In Markdown: interquartile mean over the seeds with its 95% band, beside the exact value. The distance holds the
    bias and the noise of ``num_samples`` samples together, so it is not zero for an estimator without bias.
    Raises: ValueError as :func:`estimate`.
    """
    truth = reward_gradient(prob, advantage)
    lines = [
        "| estimator | bias, exact | distance, sampled | cosine, exact | cosine, sampled |\n|---|---|---|---|---|\n"
    ]
    for label, objective in objectives.items():
        exact = judge(objective, prob_old, prob, advantage)
        counts = {"num_samples": num_samples, "num_seeds": num_seeds, "generator": generator}
        gradient = estimate(objective, prob_old, prob, advantage, **counts).mean(1)
        distance = (gradient - truth).norm(dim=1) / truth.norm()
        cosine = torch.nn.functional.cosine_similarity(gradient, truth.expand_as(gradient), dim=1)
        said = []
        for values, form in ((distance, ".3f"), (cosine, "+.3f")):
            low, high = bootstrap_band(values.numpy())
            said.append(f"{interquartile_mean(values.numpy()):{form}} ({low:{form}} to {high:{form}})")
        lines.append(f"| {label} | {exact.bias:.3f} | {said[0]} | {exact.cosine:+.3f} | {said[1]} |\n")
    return "".join(lines)
