"""The equations of chapter 1: tensors in, one value per sample out. Time is the first axis."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pocourse import _check


def discounted_returns(
    reward: Float[Tensor, "time *batch"], terminated: Bool[Tensor, "time *batch"], *, gamma: float
) -> Float[Tensor, "time *batch"]:
    r"""The discounted sum of rewards from each step to the end of its episode.

    .. math:: G_t = r_t + \gamma\,(1 - \text{terminated}_t)\,G_{t+1}, \qquad G_T = 0

    ``terminated`` is any end of an episode. An episode that a time limit or the end of the rollout
    cut off had more reward to come: add ``gamma * next_value`` to its last reward first.

    Shapes: all [time, \*batch]. Units: those of the reward.
    Gradient: passes through to ``reward``, in which the result is linear.
    Raises: ValueError for shapes that differ, no time axis, flags that are not bool, NaN, gamma outside [0, 1].
    Source: Sutton & Barto (2018), eq. 3.9, restarted after each end of an episode.
    """
    _check.axes(1, reward=reward)
    _check.floating(reward=reward)
    _check.flags(reward, terminated=terminated)
    _check.number(at_least=0, at_most=1, gamma=gamma)
    return _backward_sum(reward, gamma, terminated)


def gae(
    reward: Float[Tensor, "time *batch"],
    value: Float[Tensor, "time *batch"],
    next_value: Float[Tensor, "time *batch"],
    terminated: Bool[Tensor, "time *batch"],
    truncated: Bool[Tensor, "time *batch"],
    *,
    gamma: float,
    gae_lambda: float,
) -> Float[Tensor, "time *batch"]:
    r"""The generalised advantage estimate: TD errors, summed with the weights (gamma lambda)^l to the episode's end.

    .. math::
        \delta_t &= r_t + \gamma\,(1 - \text{terminated}_t)\,V(s'_t) - V(s_t) \\
        A_t &= \delta_t + \gamma\lambda\,(1 - \text{terminated}_t)(1 - \text{truncated}_t)\,A_{t+1}

    The two ends differ. Termination is death: nothing follows, so neither V(s'_t) nor A_{t+1} counts.
    Truncation is a time limit: the episode would have gone on, so V(s'_t) stays, and only the sum is
    cut, because the next row belongs to another episode. Where both are set, termination wins. The
    end of the rollout counts as a truncation.

    Shapes: all [time, \*batch]; ``next_value`` is the value of the observation that the step led to,
    before any reset. Units: those of the reward. The target of the value function is advantage + value.
    Gradient: none. All inputs are data, and so is the result.
    Raises: ValueError for shapes or dtypes that differ, no time axis, flags that are not bool, an input that
    carries gradient, NaN, gamma or gae_lambda outside [0, 1].
    Source: Schulman et al. (2016), eq. 16, as a recursion; the two ends are ours to spell out.
    """
    _check.axes(1, reward=reward)
    _check.same_shape(reward=reward, value=value, next_value=next_value)
    _check.flags(reward, terminated=terminated, truncated=truncated)
    _check.constant(reward=reward, value=value, next_value=next_value)
    _check.number(at_least=0, at_most=1, gamma=gamma, gae_lambda=gae_lambda)
    td_error = reward + gamma * next_value.masked_fill(terminated, 0) - value
    return _backward_sum(td_error, gamma * gae_lambda, terminated | truncated)


def _backward_sum(term, discount, end):
    """total[t] = term[t] + discount * (1 - end[t]) * total[t + 1], from the last step to the first."""
    weight = torch.full_like(term, discount).masked_fill(end, 0).unbind(0)
    term = term.unbind(0)
    totals = [term[-1]]
    for t in range(len(term) - 2, -1, -1):
        totals.append(torch.addcmul(term[t], weight[t], totals[-1]))
    return torch.stack(totals[::-1])


def reinforce_loss(logp: Float[Tensor, "*batch"], advantage: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    r"""The loss whose gradient, averaged over actions drawn from the policy, is minus the policy gradient.

    .. math:: \ell = -A\,\log \pi_\theta(a \mid s)

    Shapes: both [\*batch], one entry per sample; returns the loss per sample. Units: nats times reward.
    Gradient: ``logp`` carries it; ``advantage`` must not.
    Raises: ValueError for shapes or dtypes that differ, an advantage that carries gradient, NaN.
    Source: Williams (1992); Sutton et al. (2000), Theorem 1. The papers ascend, a loss is descended: hence the minus.
    """
    _check.same_shape(logp=logp, advantage=advantage)
    _check.constant(advantage=advantage)
    return -advantage * logp
