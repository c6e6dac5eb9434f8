r"""The policy-improvement bounds: how much of the surrogate's gain is sure to arrive.

Every bound here has one shape. The surrogate L weighs states as the *old* policy visits them, the
truth weighs them as the *new* one does, and a penalty pays for the difference:

.. math:: |\eta(\pi') - \eta(\pi) - L_\pi(\pi')| \le \text{penalty}

The functions know no MDP. They take the advantage of the old policy, the policies themselves, all
[\*draw, state, action], and the normalised discounted occupancy of the old policy, [\*draw, state].
"""

import torch
from jaxtyping import Float
from torch import Tensor

from pocourse import _check

# ---------------------------------------------------------------- how far apart two policies are


def total_variation(
    policy: Float[Tensor, "*batch action"], new_policy: Float[Tensor, "*batch action"]
) -> Float[Tensor, "*batch"]:
    r"""The total variation between two distributions: the mass that has to move to turn one into the other.

    .. math:: \mathrm{TV}(\pi, \pi') = \tfrac12 \sum_a |\pi'(a) - \pi(a)|

    Shapes: both [\*batch, action] -> [\*batch]. Units: none, between 0 and 1.
    Gradient: through both, with the sign function's value 0 where they agree.
    Raises: ValueError if shapes differ, or a row is negative, does not sum to 1 or holds NaN.
    Source: textbook definition.
    """
    _judge_policies(policy=policy, new_policy=new_policy)
    return (new_policy - policy).abs().sum(-1) / 2


def kl_divergence(
    first: Float[Tensor, "*batch action"], second: Float[Tensor, "*batch action"]
) -> Float[Tensor, "*batch"]:
    r"""KL(first || second): the expectation runs under the first argument.

    .. math:: \mathrm{KL}(p \,\|\, q) = \sum_a p(a) \log \frac{p(a)}{q(a)}

    TRPO's and PPO's KL(old || new) is ``kl_divergence(policy, new_policy)``; the mirror-descent step's
    KL(new || old) is ``kl_divergence(new_policy, policy)``. Infinite where p(a) > 0 = q(a); an action with
    p(a) = 0 counts nothing.

    Shapes: both [\*batch, action] -> [\*batch]. Units: nats.
    Gradient: through both, where they are positive.
    Raises: ValueError if shapes differ, or a row is negative, does not sum to 1 or holds NaN.
    Source: textbook definition.
    """
    _judge_policies(first=first, second=second)
    return (torch.xlogy(first, first) - torch.xlogy(first, second)).sum(-1)


# ---------------------------------------------------------------- the surrogate


def expected_advantage(
    new_policy: Float[Tensor, "*draw state action"], advantage: Float[Tensor, "*draw state action"]
) -> Float[Tensor, "*draw state"]:
    r"""The old policy's advantage, averaged over the new policy's actions.

    .. math:: \bar A(s) = \sum_a \pi'(a \mid s)\, A_\pi(s, a)

    Shapes: both [\*draw, state, action] -> [\*draw, state]. Units: those of the reward.
    Gradient: through new_policy; the advantage is data.
    Raises: ValueError if shapes differ, a row of new_policy is no distribution, or the advantage carries gradient
    or NaN.
    Source: Schulman et al. 2015 (TRPO), the barred advantage of its proof of Theorem 1.
    """
    _check.same_shape(new_policy=new_policy, advantage=advantage)
    _judge_policies(new_policy=new_policy)
    _check.constant(advantage=advantage)
    return (new_policy * advantage).sum(-1)


def surrogate_gain(
    occupancy: Float[Tensor, "*draw state"],
    new_policy: Float[Tensor, "*draw state action"],
    advantage: Float[Tensor, "*draw state action"],
    *,
    gamma: float,
) -> Float[Tensor, "*draw"]:
    r"""The gain the surrogate promises: new actions in the states that the old policy visits.

    .. math:: L_\pi(\pi') = \frac{1}{1 - \gamma} \sum_s d_\pi(s)\, \bar A(s)

    Shapes: occupancy [\*draw, state], the others [\*draw, state, action] -> [\*draw]. Units: those of the return.
    Gradient: through new_policy; occupancy and advantage are data.
    Raises: ValueError if shapes differ, occupancy or new_policy is no distribution, data carries gradient or NaN,
    or gamma is outside [0, 1).
    Source: Schulman et al. 2015 (TRPO), its local approximation less eta(pi); d_pi is normalised here, hence the
    1/(1 - gamma).
    """
    _judge_discount(gamma)
    return _state_mean(occupancy, expected_advantage(new_policy, advantage)) / (1 - gamma)


# ---------------------------------------------------------------- the penalties


def average_tv_penalty(
    occupancy: Float[Tensor, "*draw state"],
    policy: Float[Tensor, "*draw state action"],
    new_policy: Float[Tensor, "*draw state action"],
    advantage: Float[Tensor, "*draw state action"],
    *,
    gamma: float,
) -> Float[Tensor, "*draw"]:
    r"""The penalty of the average-TV bound, the one that PPO's and SPO's ratios estimate.

    .. math:: \frac{2\,\xi\,\gamma}{(1 - \gamma)^2} \sum_s d_\pi(s)\, \mathrm{TV}(\pi, \pi')(s),
        \qquad \xi = \max_s |\bar A(s)|

    Shapes: occupancy [\*draw, state], the others [\*draw, state, action] -> [\*draw]. Units: those of the return.
    Gradient: through both policies; occupancy and advantage are data.
    Raises: ValueError as surrogate_gain.
    Source: Achiam et al. 2017, as Xie et al. 2025 (SPO), Theorem 3.2, states it.
    """
    _judge_discount(gamma)
    largest = expected_advantage(new_policy, advantage).abs().amax(-1)
    moved = _state_mean(occupancy, total_variation(policy, new_policy))
    return 2 * largest * moved * gamma / (1 - gamma) ** 2


def centred_penalty(
    occupancy: Float[Tensor, "*draw state"],
    policy: Float[Tensor, "*draw state action"],
    new_policy: Float[Tensor, "*draw state action"],
    advantage: Float[Tensor, "*draw state action"],
    *,
    gamma: float,
) -> Float[Tensor, "*draw"]:
    r"""The average-TV penalty with the spread of the expected advantage in place of twice its largest size.

    .. math:: \frac{\gamma\,(\max_s \bar A(s) - \min_s \bar A(s))}{(1 - \gamma)^2}
        \sum_s d_\pi(s)\, \mathrm{TV}(\pi, \pi')(s)

    Never larger than ``average_tv_penalty``: both occupancies sum to one, so a constant added to every
    expected advantage changes nothing, and half the spread is what is left of its size at the best constant.

    Shapes: occupancy [\*draw, state], the others [\*draw, state, action] -> [\*draw]. Units: those of the return.
    Gradient: through both policies; occupancy and advantage are data.
    Raises: ValueError as surrogate_gain.
    Source: ours.
    """
    _judge_discount(gamma)
    mean = expected_advantage(new_policy, advantage)
    moved = _state_mean(occupancy, total_variation(policy, new_policy))
    return (mean.amax(-1) - mean.amin(-1)) * moved * gamma / (1 - gamma) ** 2


def cpi_quoted_penalty(
    mixture: Float[Tensor, "*draw"],
    target_policy: Float[Tensor, "*draw state action"],
    advantage: Float[Tensor, "*draw state action"],
    *,
    gamma: float,
) -> Float[Tensor, "*draw"]:
    r"""The penalty of conservative policy iteration for pi' = (1 - alpha) pi + alpha pi_g, in the form usually quoted.

    .. math:: \frac{2\,e\,\gamma\,\alpha^2}{(1 - \gamma)^2},
        \qquad e = \max_s \Big|\sum_a \pi_g(a \mid s) A_\pi(s, a)\Big|

    Note that e belongs to the policy mixed in, not to the mixture.

    Shapes: mixture alpha [\*draw], the others [\*draw, state, action] -> [\*draw]. Units: those of the return.
    Gradient: through mixture and target_policy; the advantage is data.
    Raises: ValueError as surrogate_gain, or if alpha is outside [0, 1].
    Source: Kakade & Langford 2002, as Schulman et al. 2015 (TRPO) quotes it.
    """
    _judge_discount(gamma)
    _judge_mixture(mixture, target_policy)
    largest = expected_advantage(target_policy, advantage).abs().amax(-1)
    return 2 * largest * mixture**2 * gamma / (1 - gamma) ** 2


def cpi_sharp_penalty(
    mixture: Float[Tensor, "*draw"],
    target_policy: Float[Tensor, "*draw state action"],
    advantage: Float[Tensor, "*draw state action"],
    *,
    gamma: float,
) -> Float[Tensor, "*draw"]:
    r"""The penalty of conservative policy iteration in its sharp form, attained by a world of two states.

    .. math:: \frac{2\,e\,\gamma\,\alpha^2}{(1 - \gamma)\,(1 - \gamma(1 - \alpha))}

    Shapes: mixture alpha [\*draw], the others [\*draw, state, action] -> [\*draw]. Units: those of the return.
    Gradient: through mixture and target_policy; the advantage is data.
    Raises: ValueError as cpi_quoted_penalty.
    Source: Kakade & Langford 2002; that two states attain it is ours.
    """
    _judge_discount(gamma)
    _judge_mixture(mixture, target_policy)
    largest = expected_advantage(target_policy, advantage).abs().amax(-1)
    return 2 * largest * mixture**2 * gamma / ((1 - gamma) * (1 - gamma * (1 - mixture)))


def trpo_penalty(
    policy: Float[Tensor, "*draw state action"],
    new_policy: Float[Tensor, "*draw state action"],
    advantage: Float[Tensor, "*draw state action"],
    *,
    gamma: float,
) -> Float[Tensor, "*draw"]:
    r"""TRPO's penalty: the worst state's total variation, squared.

    .. math:: \frac{4\,e\,\gamma}{(1 - \gamma)^2} \max_s \mathrm{TV}(\pi, \pi')(s)^2,
        \qquad e = \max_{s,a} |A_\pi(s, a)|

    TRPO's KL form follows from TV^2 <= KL(pi || pi') (Pinsker even gives half of it).

    Shapes: all [\*draw, state, action] -> [\*draw]. Units: those of the return.
    Gradient: through both policies; the advantage is data.
    Raises: ValueError if shapes differ, a policy is no distribution, the advantage carries gradient or NaN,
    or gamma is outside [0, 1).
    Source: Schulman et al. 2015 (TRPO), Theorem 1.
    """
    _judge_discount(gamma)
    _check.same_shape(policy=policy, advantage=advantage)
    _check.constant(advantage=advantage)
    largest = advantage.abs().amax((-2, -1))
    return 4 * largest * total_variation(policy, new_policy).amax(-1) ** 2 * gamma / (1 - gamma) ** 2


# ---------------------------------------------------------------- what they certify


def certified_mixture(
    occupancy: Float[Tensor, "*draw state"],
    policy: Float[Tensor, "*draw state action"],
    target_policy: Float[Tensor, "*draw state action"],
    advantage: Float[Tensor, "*draw state action"],
    *,
    gamma: float,
) -> Float[Tensor, "*draw"]:
    r"""How far towards a target policy the average-TV bound still certifies that a mixture is better.

    .. math:: \alpha^* = \frac{(1 - \gamma) \sum_s d_\pi(s) \bar A_g(s)}
        {2\,\xi_g\,\gamma \sum_s d_\pi(s) \mathrm{TV}(\pi, \pi_g)(s)},
        \qquad \pi' = (1 - \alpha)\pi + \alpha\,\pi_g

    Gain is linear in alpha and the penalty quadratic, so every 0 < alpha < alpha* is certified, and half of it
    certifies most. Clipped to [0, 1]; 0 where the target promises no gain.

    Shapes: occupancy [\*draw, state], the others [\*draw, state, action] -> [\*draw]. Units: none.
    Gradient: none. All inputs are data, and so is the result.
    Raises: ValueError as surrogate_gain, or if a policy carries gradient.
    Source: ours, from the bound of Achiam et al. 2017.
    """
    _check.constant(policy=policy, target_policy=target_policy)
    gain = surrogate_gain(occupancy, target_policy, advantage, gamma=gamma)
    penalty = average_tv_penalty(occupancy, policy, target_policy, advantage, gamma=gamma)
    return torch.where(gain > 0, gain / penalty, torch.zeros_like(gain)).clamp(0, 1)


# ---------------------------------------------------------------- what is refused


def _state_mean(occupancy: Tensor, values: Tensor) -> Tensor:
    _check.same_shape(values=values, occupancy=occupancy)
    _check.probabilities(occupancy=occupancy)
    _check.constant(occupancy=occupancy)
    return (occupancy * values).sum(-1)


def _judge_policies(**policies: Tensor) -> None:
    _check.same_shape(**policies)
    _check.probabilities(**policies)


def _judge_mixture(mixture: Tensor, target_policy: Tensor) -> None:
    _check.same_shape(state_0_action_0=target_policy[..., 0, 0], mixture=mixture)
    _check.entries(at_least=0, at_most=1, mixture=mixture)


def _judge_discount(gamma: float) -> None:
    _check.number(gamma=gamma, at_least=0, below=1)
