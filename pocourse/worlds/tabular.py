"""Markov decision processes small enough to enumerate, so that every expectation is exact.

Values and occupancies solve a linear system; nothing is sampled or iterated. Any number of leading
``draw`` axes holds independent MDPs, each with its own policy. All functions are differentiable in
the policy.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pocourse import _check


class TabularMDP(NamedTuple):
    """A finite MDP, or a batch of them; make one with :func:`tabular_mdp`, which checks it."""

    transition: Float[Tensor, "*draw state action state"]
    reward: Float[Tensor, "*draw state action"]
    start: Float[Tensor, "*draw state"]
    gamma: float


def tabular_mdp(
    transition: Float[Tensor, "*draw state action state"],
    reward: Float[Tensor, "*draw state action"],
    start: Float[Tensor, "*draw state"],
    *,
    gamma: float,
) -> TabularMDP:
    r"""A finite MDP from its tables, checked.

    .. math:: P(s' \mid s, a) = \text{transition}[s, a, s'], \quad r(s, a) = \text{reward}[s, a],
        \quad P(s_0 = s) = \text{start}[s]

    Shapes: [\*draw, state, action, state], [\*draw, state, action], [\*draw, state].
    Gradient: passes through from all tables.
    Raises: ValueError for shapes or dtypes that do not fit, probabilities that are negative or do not sum to 1,
    NaN, gamma outside [0, 1).
    Source: Sutton & Barto (2018), ch. 3.
    """
    _check.floating(transition=transition, reward=reward, start=start)
    _check.axes(2, reward=reward)
    _check.shape((*reward.shape, reward.shape[-2]), transition=transition)
    _check.shape(reward.shape[:-1], start=start)
    _check.same_shape(reward=reward, transition=transition[..., 0])
    _check.same_shape(reward=reward[..., 0], start=start)
    _check.probabilities(transition=transition, start=start)
    _check.number(at_least=0, below=1, gamma=gamma)
    return TabularMDP(transition, reward, start, gamma)


def random_mdp(
    *,
    num_states: int,
    num_actions: int,
    gamma: float,
    batch: tuple[int, ...] = (),
    generator: torch.Generator,
    dtype: torch.dtype = torch.float64,
) -> TabularMDP:
    """Random MDPs: transition and start uniform on the simplex, rewards standard normal.

    Shapes: ``batch`` becomes the draw axes. The tables lie on the generator's device.
    Gradient: none.
    Raises: ValueError for sizes below 1, gamma outside [0, 1).
    Source: ours.
    """
    _check.number(at_least=1, num_states=num_states, num_actions=num_actions)

    def simplex(*shape):
        weight = torch.empty(*batch, *shape, dtype=dtype, device=generator.device).exponential_(generator=generator)
        return weight / weight.sum(-1, keepdim=True)

    transition = simplex(num_states, num_actions, num_states)
    reward = torch.randn(*batch, num_states, num_actions, generator=generator, dtype=dtype, device=generator.device)
    return tabular_mdp(transition, reward, simplex(num_states), gamma=gamma)


def two_state_mdp(
    *,
    gain: float | Float[Tensor, "*draw"],
    loss: float | Float[Tensor, "*draw"],
    gamma: float,
    dtype: torch.dtype = torch.float64,
) -> TabularMDP:
    r"""The extremal family: a step that looks good by ``gain`` leads for ever to where each step can cost ``loss``.

    State 0 is the start: action 0 stays there for nothing, action 1 earns ``gain`` and leads to state 1.
    State 1 is never left: action 0 earns nothing, action 1 earns minus ``loss``. A surrogate that weighs
    states by the occupancy of the policy "always action 0" does not see state 1 at all, which is as wrong
    as a surrogate can be: this family attains the bounds on that error, or comes as close as one likes.

    .. math:: r = \begin{pmatrix} 0 & u \\ 0 & -v \end{pmatrix}, \quad u = \text{gain}, v = \text{loss}

    Shapes: numbers, or tensors of one shape [\*draw] (then in their own dtype). Units: reward per step.
    Gradient: passes through from ``gain`` and ``loss``.
    Raises: ValueError for two tensors of different shapes, NaN, gamma outside [0, 1).
    Source: ours.
    """
    tensors = {name: x for name, x in (("gain", gain), ("loss", loss)) if isinstance(x, Tensor)}
    _check.number(**{name: x for name, x in (("gain", gain), ("loss", loss)) if name not in tensors})
    if tensors:
        _check.same_shape(**tensors)
    like = next(iter(tensors.values()), torch.zeros((), dtype=dtype))
    gain, loss = (x if isinstance(x, Tensor) else torch.full_like(like, x) for x in (gain, loss))
    nothing = torch.zeros_like(like)
    reward = torch.stack((torch.stack((nothing, gain), -1), torch.stack((nothing, -loss), -1)), -2)
    stay, leave = like.new_tensor([1.0, 0.0]), like.new_tensor([0.0, 1.0])
    transition = torch.stack((torch.stack((stay, leave)), torch.stack((leave, leave))))
    draw = like.shape
    return tabular_mdp(transition.expand(*draw, 2, 2, 2), reward, stay.expand(*draw, 2), gamma=gamma)


def _check_policy(mdp, policy):
    _check.same_shape(reward=mdp.reward, policy=policy)
    _check.probabilities(policy=policy)


def _identity_minus_moves(mdp, policy):
    """I - gamma P_pi, the matrix behind both values and occupancies."""
    moves = (policy.unsqueeze(-1) * mdp.transition).sum(-2)
    return torch.eye(moves.shape[-1], dtype=moves.dtype, device=moves.device) - mdp.gamma * moves


def state_values(mdp: TabularMDP, policy: Float[Tensor, "*draw state action"]) -> Float[Tensor, "*draw state"]:
    r"""The expected discounted return from each state.

    .. math:: V = (I - \gamma P_\pi)^{-1} r_\pi

    Shapes: policy [\*draw, state, action], one per MDP. Units: those of the reward.
    Gradient: ``policy`` may carry it.
    Raises: ValueError for a policy of another shape or dtype than ``mdp.reward``, negative or not summing to 1, NaN.
    Source: Sutton & Barto (2018), eq. 3.14, solved for V.
    """
    _check_policy(mdp, policy)
    return torch.linalg.solve(_identity_minus_moves(mdp, policy), (policy * mdp.reward).sum(-1))


def action_values(mdp: TabularMDP, policy: Float[Tensor, "*draw state action"]) -> Float[Tensor, "*draw state action"]:
    r"""The expected discounted return from each state when its first action is given.

    .. math:: Q(s, a) = r(s, a) + \gamma \sum_{s'} P(s' \mid s, a) V(s')

    Shapes: policy and result [\*draw, state, action]. Units: those of the reward.
    Gradient: ``policy`` may carry it.
    Raises: ValueError as :func:`state_values`.
    Source: Sutton & Barto (2018), eqs. 3.13 and 3.14.
    """
    value = state_values(mdp, policy)
    return mdp.reward + mdp.gamma * (mdp.transition * value[..., None, None, :]).sum(-1)


def advantages(mdp: TabularMDP, policy: Float[Tensor, "*draw state action"]) -> Float[Tensor, "*draw state action"]:
    r"""How much better each action is than the policy's own choice.

    .. math:: A(s, a) = Q(s, a) - V(s), \qquad \sum_a \pi(a \mid s) A(s, a) = 0

    Shapes: policy and result [\*draw, state, action]. Units: those of the reward.
    Gradient: ``policy`` may carry it.
    Raises: ValueError as :func:`state_values`.
    Source: Schulman et al. (2016), section 2.
    """
    action_value = action_values(mdp, policy)
    return action_value - (policy * action_value).sum(-1, keepdim=True)


def occupancy(mdp: TabularMDP, policy: Float[Tensor, "*draw state action"]) -> Float[Tensor, "*draw state"]:
    r"""The share of discounted time spent in each state; it sums to one.

    .. math:: d = (1 - \gamma) \sum_t \gamma^t P(s_t = \cdot) = (1 - \gamma) (I - \gamma P_\pi^\top)^{-1} \mu

    Shapes: policy [\*draw, state, action]; returns [\*draw, state]. A probability, without unit.
    Gradient: ``policy`` may carry it.
    Raises: ValueError as :func:`state_values`.
    Source: Sutton et al. (2000), section 1, times 1 - gamma so that it sums to one.
    """
    _check_policy(mdp, policy)
    return (1 - mdp.gamma) * torch.linalg.solve(_identity_minus_moves(mdp, policy).mT, mdp.start)


def performance(mdp: TabularMDP, policy: Float[Tensor, "*draw state action"]) -> Float[Tensor, "*draw"]:
    r"""The expected discounted return from the start distribution: what a policy is judged by.

    .. math:: \eta(\pi) = \sum_s P(s_0 = s) V(s)

    Shapes: policy [\*draw, state, action]; returns [\*draw]. Units: those of the reward.
    Gradient: ``policy`` may carry it.
    Raises: ValueError as :func:`state_values`.
    Source: Sutton et al. (2000), section 1, the start-state formulation.
    """
    return (mdp.start * state_values(mdp, policy)).sum(-1)


def policy_gradient(
    mdp: TabularMDP, policy: Float[Tensor, "*draw state action"]
) -> Float[Tensor, "*draw state action"]:
    r"""The exact gradient of the performance in the logits of a tabular softmax policy.

    .. math:: \frac{\partial \eta}{\partial \theta_{s,a}} = \frac{d(s)\,\pi(a \mid s)\,A(s, a)}{1 - \gamma},
        \qquad \pi = \operatorname{softmax}(\theta)

    Shapes: policy (probabilities, not logits) and result [\*draw, state, action]. Units: those of the reward.
    Gradient: ``policy`` may carry it.
    Raises: ValueError as :func:`state_values`.
    Source: Sutton et al. (2000), Theorem 1, for a softmax table; the 1/(1 - gamma) undoes the normalisation of d.
    """
    advantage = advantages(mdp, policy)
    return occupancy(mdp, policy).unsqueeze(-1) * policy * advantage / (1 - mdp.gamma)
