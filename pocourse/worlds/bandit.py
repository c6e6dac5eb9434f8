"""One state, one step: exact expectations, a batch of contexts, and how an action is drawn."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from pocourse import _check


def expected_reward(
    policy: Float[Tensor, "*draw action"], reward: Float[Tensor, "*draw action"]
) -> Float[Tensor, "*draw"]:
    r"""The mean reward of a policy, every action enumerated.

    .. math:: E_\pi r = \sum_a \pi(a)\,r(a)

    Shapes: both [\*draw, action]; returns [\*draw]. Units: those of the reward.
    Gradient: both may carry it.
    Raises: ValueError for shapes or dtypes that differ, a policy that is negative or does not sum to 1, NaN.
    Source: Sutton & Barto (2018), section 2.8.
    """
    _check.same_shape(policy=policy, reward=reward)
    _check.probabilities(policy=policy)
    return (policy * reward).sum(-1)


def bandit_advantage(
    policy: Float[Tensor, "*draw action"], reward: Float[Tensor, "*draw action"]
) -> Float[Tensor, "*draw action"]:
    r"""How much more each action earns than the policy does on average.

    .. math:: A(a) = r(a) - E_\pi r

    Shapes: all [\*draw, action]. Units: those of the reward.
    Gradient: both may carry it.
    Raises: ValueError as :func:`expected_reward`.
    Source: Sutton & Barto (2018), eq. 2.12, with the exact mean as the baseline.
    """
    return reward - expected_reward(policy, reward).unsqueeze(-1)


def reward_gradient(
    policy: Float[Tensor, "*draw action"], reward: Float[Tensor, "*draw action"]
) -> Float[Tensor, "*draw action"]:
    r"""The exact gradient of the mean reward in the logits of a softmax policy.

    .. math:: \frac{\partial E_\pi r}{\partial \theta_a} = \pi(a)\,A(a),
        \qquad \pi = \operatorname{softmax}(\theta)

    Shapes: all [\*draw, action]; policy holds probabilities, not logits. Units: those of the reward.
    Gradient: both may carry it.
    Raises: ValueError as :func:`expected_reward`.
    Source: Sutton & Barto (2018), section 2.8.
    """
    return policy * bandit_advantage(policy, reward)


def random_policy(
    shape: tuple[int, ...],
    *,
    generator: torch.Generator,
    concentration: float = 1.0,
    dtype: torch.dtype = torch.float64,
) -> Float[Tensor, "*draw action"]:
    r"""Random distributions over the last axis: symmetric Dirichlet, uniform on the simplex by default.

    .. math:: \pi = g / \textstyle\sum_a g_a, \qquad g_a \sim \text{Gamma}(\text{concentration}, 1)

    Shapes: ``shape``, on the generator's device. A small concentration gives policies near the corners.
    Gradient: none.
    Raises: ValueError for a concentration that is not positive, an empty shape.
    Source: ours.
    """
    _check.number(above=0, concentration=concentration)
    weight = torch.full(shape, concentration, dtype=dtype, device=generator.device)
    _check.axes(1, policy=weight)
    weight = torch._standard_gamma(weight, generator=generator)
    return weight / weight.sum(-1, keepdim=True)


class ContextBatch(NamedTuple):
    """A fixed batch of contextual decisions, one sampled action each, for every seed."""

    context: Float[Tensor, "seed sample dim"]
    uniform: Float[Tensor, "seed sample"]
    advantage: Float[Tensor, "seed sample"]
    num_actions: int


def contextual_batch(
    *,
    num_contexts: int = 256,
    context_dim: int = 8,
    num_actions: int = 4,
    num_seeds: int,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float32,
) -> ContextBatch:
    """The contextual softmax batch: contexts, and for each the advantage of the one action that was drawn there.

    There is nothing to learn in it. The advantages are noise, so whatever a policy does on this batch
    shows the objective and the network alone: in particular how far the ratios of some samples are
    dragged along by the others, through parameters they share.

    ``uniform`` is handed to :func:`sample_action` with the initial policy's probabilities to draw the actions.

    Shapes: context [seed, sample, dim] standard normal; uniform [seed, sample] in [0, 1); advantage
    [seed, sample] normal, with mean 0 and standard deviation 1 (divisor n) over the samples of each seed.
    Gradient: none.
    Raises: ValueError for fewer than 2 contexts or actions, no dimension, no seed.
    Source: ours.
    """
    _check.number(at_least=2, num_contexts=num_contexts, num_actions=num_actions)
    _check.number(at_least=1, context_dim=context_dim, num_seeds=num_seeds)
    like = {"generator": generator, "dtype": dtype, "device": generator.device}
    context = torch.randn(num_seeds, num_contexts, context_dim, **like)
    uniform = torch.rand(num_seeds, num_contexts, **like)
    advantage = torch.randn(num_seeds, num_contexts, **like)
    advantage = advantage - advantage.mean(-1, keepdim=True)
    advantage = advantage / advantage.std(-1, correction=0, keepdim=True)
    return ContextBatch(context, uniform, advantage, num_actions)


def sample_action(prob: Float[Tensor, "*batch action"], uniform: Float[Tensor, "*batch"]) -> Int64[Tensor, "*batch"]:
    r"""Draw one action per row by inverting the cumulative distribution.

    .. math:: a = \#\{k : u \ge \textstyle\sum_{j \le k} \pi_j\}

    The last sum is never compared with, so that the index is in range whatever the rounding. With more
    than two actions u is measured against the sum as it was rounded, so that a last action of
    probability zero is never drawn either.

    Shapes: prob [\*batch, action]; uniform [\*batch] in [0, 1); returns [\*batch], int64.
    Gradient: none passes to the result. No value is read by the host inside ``values_unread``.
    Raises: ValueError for shapes that do not fit, probabilities that are negative or do not sum to 1, NaN.
    Source: ours; the method is folklore.
    """
    _check.probabilities(prob=prob)
    _check.floating(uniform=uniform)
    _check.shape(prob.shape[:-1], uniform=uniform)
    if prob.shape[-1] == 2:
        return (uniform >= prob[..., 0]).long()
    cumulative = prob.cumsum(-1)
    reached = uniform * cumulative[..., -1]
    return (reached.unsqueeze(-1) >= cumulative[..., :-1]).sum(-1)
