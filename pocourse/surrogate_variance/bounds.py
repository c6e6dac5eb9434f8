"""The variance of the surrogate, exactly, and what bounds it.

The surrogate is the mean of x = r A over actions of the old policy. On a world small enough to enumerate its variance
is a sum, and so is everything else in this module. Where the sign of the advantage matters, all quantities are
*conditional* on the class C (A >= 0, or A < 0): probabilities q(a) = p(a) / p(C), mean L_q, variance Var_q.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pocourse import _check


def surrogate_variance(
    prob_old: Float[Tensor, "*draw action"],
    ratio: Float[Tensor, "*draw action"],
    advantage: Float[Tensor, "*draw action"],
) -> Float[Tensor, "*draw"]:
    r"""The variance of one sample of the surrogate, every action enumerated.

    .. math:: \operatorname{Var}_{a \sim p}[r A] = \sum_a p(a) \Big( r(a) A(a) - \sum_b p(b)\, r(b) A(b) \Big)^2

    Shapes: all [\*draw, action] -> [\*draw], in squared units of A. The advantage may have any signs.
    Gradient: through all three.
    Raises: ValueError for shapes that differ, probabilities that do not sum to one, an action that the old policy never
    draws (its ratio is no number: what the new policy does there, no sample of the old one can tell), a negative
    ratio, NaN.
    Source: textbook (the variance of an importance-weighted mean).
    """
    _judge(prob_old, ratio=ratio, advantage=advantage)
    x = ratio * advantage
    return _variance(prob_old, x)


def variance_bound(
    prob_old: Float[Tensor, "*draw action"],
    ratio: Float[Tensor, "*draw action"],
    advantage: Float[Tensor, "*draw action"],
) -> Float[Tensor, "*draw"]:
    r"""What the variance cannot exceed where all advantages have one sign: quadratic in the surrogate itself.

    .. math:: \operatorname{Var}_p[r A] \le \Big( \frac{1}{p_{\min}} - 1 \Big) L^2, \qquad L = \sum_a p(a)\, r(a) A(a)

    Proof: p(a) >= p_min and all products x(a) x(b) >= 0, so L^2 >= sum p^2 x^2 >= p_min sum p x^2. Equality where one
    least likely action carries all of x. In a sign class, pass the class's own conditional probabilities.

    Shapes: all [\*draw, action] -> [\*draw], in squared units of A.
    Gradient: through all three.
    Raises: ValueError as surrogate_variance, and for advantages of both signs, for which it is no bound: the terms of L
    cancel, those of the variance do not.
    Source: ours. The abstract of Xie, Yu & Qiao 2023 (D-PPO) announces a bound that grows quadratically with the
    surrogate; their theorem was not readable to us, and may be another one.
    """
    _judge(prob_old, ratio=ratio, advantage=advantage)
    _check.one_sign(
        advantage=advantage,
        remedy="Split the actions by the sign of the advantage; pass each class with its conditional probabilities.",
    )
    mean = (prob_old * ratio * advantage).sum(-1)
    return (1 / prob_old.amin(-1) - 1) * mean**2


class SignClass(NamedTuple):
    """A sign class of actions: its probability; conditional on it the mean, the variance, the least probability."""

    prob: Float[Tensor, "*draw"]
    mean: Float[Tensor, "*draw"]
    variance: Float[Tensor, "*draw"]
    least: Float[Tensor, "*draw"]

    @property
    def bound(self) -> Float[Tensor, "*draw"]:
        r"""What the conditional variance cannot exceed.

        .. math:: \operatorname{Var}_q[x] \le \Big( \frac{1}{q_{\min}} - 1 \Big) L_q^2

        Shapes: [\*draw], in squared units of A.
        Gradient: through mean and least.
        Raises: nothing.
        Source: ours, as variance_bound.
        """
        return (1 / self.least - 1) * self.mean**2


def sign_class(
    prob_old: Float[Tensor, "*draw action"],
    ratio: Float[Tensor, "*draw action"],
    advantage: Float[Tensor, "*draw action"],
    member: Bool[Tensor, "*draw action"],
) -> SignClass:
    r"""Mean and variance of the surrogate within a class of actions, conditional on drawing one of them.

    .. math:: q(a) = \frac{p(a)\, 1_C(a)}{p(C)}, \qquad L_q = \sum_a q(a)\, x(a),
        \qquad \operatorname{Var}_q[x] = \sum_a q(a)\, (x(a) - L_q)^2, \qquad q_{\min} = \min_{a \in C} q(a)

    ``member`` says which actions belong to C: ``advantage >= 0`` or ``advantage < 0``, and only for a class of one
    sign is ``bound`` a bound. A class without actions has probability, mean and variance 0, and least probability 1.

    Shapes: all [\*draw, action]; every field of the result [\*draw].
    Gradient: through prob_old, ratio and advantage.
    Raises: ValueError as surrogate_variance, and for a mask that is not bool.
    Source: ours, as variance_bound.
    """
    _judge(prob_old, ratio=ratio, advantage=advantage)
    _check.flags(advantage, member=member)
    masked = torch.where(member, prob_old, torch.zeros_like(prob_old))
    prob = masked.sum(-1)
    whole = torch.where(prob > 0, prob, torch.ones_like(prob))
    q, x = masked / whole.unsqueeze(-1), ratio * advantage
    least = torch.where(member, q, torch.ones_like(q)).amin(-1)
    return SignClass(prob, (q * x).sum(-1), _variance(q, x), least)


def state_class_variance(state_prob: Float[Tensor, "*draw state"], found: SignClass) -> Float[Tensor, "*draw"]:
    r"""The variance within a sign class when the state is drawn as well: the law of total variance.

    .. math:: \operatorname{Var}[x \mid C] = \mathbb{E}_{s \sim w}\big[\operatorname{Var}_{q_s}[x]\big]
        + \operatorname{Var}_{s \sim w}\big[L_{q_s}\big], \qquad w(s) \propto d(s)\, p_s(C)

    Shapes: state_prob d and every field of found [\*draw, state] -> [\*draw], in squared units of A; 0 where no state
    has an action of the class.
    Gradient: through all.
    Raises: ValueError for shapes that differ, state probabilities that do not sum to one, NaN.
    Source: textbook.
    """
    weight = _class_weight(state_prob, found)
    return (weight * found.variance).sum(-1) + _variance(weight, found.mean)


def state_class_bound(state_prob: Float[Tensor, "*draw state"], found: SignClass) -> Float[Tensor, "*draw"]:
    r"""What the variance within a sign class cannot exceed when the state is drawn as well.

    .. math:: \operatorname{Var}[x \mid C] \le
        \mathbb{E}_{s \sim w}\Big[\Big(\frac{1}{q_{s,\min}} - 1\Big) L_{q_s}^2\Big]
        + \operatorname{Var}_{s \sim w}\big[L_{q_s}\big], \qquad w(s) \propto d(s)\, p_s(C)

    The bound of one state in every state, and the spread of the means between the states, which no bound within a
    state can see.

    Shapes: as state_class_variance.
    Gradient: through all.
    Raises: ValueError as state_class_variance.
    Source: ours.
    """
    weight = _class_weight(state_prob, found)
    return (weight * found.bound).sum(-1) + _variance(weight, found.mean)


def chi_square(prob_old: Float[Tensor, "*draw action"], ratio: Float[Tensor, "*draw action"]) -> Float[Tensor, "*draw"]:
    r"""The chi-square divergence of the new policy from the old one: the variance of the ratio.

    .. math:: \chi^2(\pi' \| \pi) = \sum_a \pi(a)\, (r(a) - 1)^2 = \operatorname{Var}_\pi[r]

    Shapes: both [\*draw, action] -> [\*draw].
    Gradient: through both.
    Raises: ValueError as surrogate_variance.
    Source: textbook.
    """
    _judge(prob_old, ratio=ratio)
    return (prob_old * (ratio - 1) ** 2).sum(-1)


def effective_sample_size(
    prob_old: Float[Tensor, "*draw action"], ratio: Float[Tensor, "*draw action"]
) -> Float[Tensor, "*draw"]:
    r"""How many samples of the new policy a sample of the old one is worth, by Kish's rule.

    .. math:: \frac{\mathrm{ESS}}{n} = \frac{(\mathbb{E}_\pi r)^2}{\mathbb{E}_\pi r^2}
        = \frac{1}{1 + \chi^2(\pi' \| \pi)}

    Shapes: both [\*draw, action] -> [\*draw], a fraction in (0, 1].
    Gradient: through both.
    Raises: ValueError as surrogate_variance.
    Source: textbook (Owen 2013, Monte Carlo theory, methods and examples); the rule is Kish's.
    """
    _judge(prob_old, ratio=ratio)
    mean = (prob_old * ratio).sum(-1)
    _check.entries(above=0, mean_ratio=mean, remedy="A policy whose every ratio is zero plays none of these actions.")
    return mean**2 / (prob_old * ratio**2).sum(-1)


def tilted_chi_square(
    policy: Float[Tensor, "*draw action"], advantage: Float[Tensor, "*draw action"], *, step: float
) -> Float[Tensor, "*draw"]:
    r"""The chi-square divergence after one exact mirror-descent step, from cumulants alone.

    .. math:: \chi^2(\pi_t \| \pi) = e^{K(2t) - 2 K(t)} - 1, \qquad K(t) = \log \mathbb{E}_\pi e^{t A},
        \qquad \pi_t \propto \pi\, e^{t A}

    Shapes: both [\*draw, action] -> [\*draw]; t = step, in 1 / units of the advantage, of either sign.
    Gradient: through both.
    Raises: ValueError as surrogate_variance, or for a step that is not finite.
    Source: ours (the exponential family's normaliser at t and 2t).
    """
    _judge(policy, advantage=advantage)
    _check.number(step=step)
    once, twice = (_cumulant(policy, advantage, t) for t in (step, 2 * step))
    return torch.expm1(twice - 2 * once)


def control_coefficient(
    prob_old: Float[Tensor, "*draw action"],
    ratio: Float[Tensor, "*draw action"],
    advantage: Float[Tensor, "*draw action"],
) -> Float[Tensor, "*draw"]:
    r"""The coefficient of the ratio as a control variate that leaves the least variance.

    .. math:: c = \frac{\operatorname{Cov}_\pi(r A, r)}{\operatorname{Var}_\pi(r)}, \qquad
        \operatorname{Var}[r A - c\,(r - 1)] = (1 - \rho^2) \operatorname{Var}[r A]

    E r = 1 is known, so r A - c (r - 1) has the surrogate's mean whatever c is. Where the ratio is 1 everywhere there
    is nothing to control, and c = 0.

    Shapes: all [\*draw, action] -> [\*draw], in units of A.
    Gradient: through all three.
    Raises: ValueError as surrogate_variance.
    Source: textbook (control variates); the ratio as one: ours.
    """
    _judge(prob_old, ratio=ratio, advantage=advantage)
    covariance = (prob_old * (ratio - 1) * ratio * advantage).sum(-1)
    variance = chi_square(prob_old, ratio)
    still = variance == 0
    return torch.where(
        still, torch.zeros_like(variance), covariance / torch.where(still, torch.ones_like(variance), variance)
    )


def expected_sampling_error(policy: Float[Tensor, "*draw action"], *, num_samples: int) -> Float[Tensor, "*draw"]:
    r"""How far the actions really drawn are from the policy they were drawn from, on average.

    .. math:: \mathbb{E}\,\mathrm{KL}(\hat\pi \| \pi)
        = \sum_a \sum_{m=1}^{n} \binom nm \pi(a)^m (1 - \pi(a))^{n-m}\, \frac mn \log \frac{m}{n\,\pi(a)}
        = \frac{k - 1}{2n} + O(n^{-2})

    pi^ holds the frequencies of n independent draws. Every count of every action is enumerated.

    Shapes: [\*draw, action] -> [\*draw], in nats.
    Gradient: none wanted.
    Raises: ValueError for probabilities that are not positive or do not sum to one, fewer than one sample.
    Source: the sampling error of Corrado & Hanna 2023 (PROPS) for one state and the exact maximum-likelihood policy;
    the leading term is the Miller-Madow correction of an entropy.
    """
    _judge(policy)
    _check.number(at_least=1, num_samples=num_samples)
    n = int(num_samples)
    count = torch.arange(1, n + 1, dtype=policy.dtype, device=policy.device)
    log_choose = torch.lgamma(count.new_tensor(n + 1.0)) - torch.lgamma(count + 1) - torch.lgamma(n - count + 1)
    p = policy.unsqueeze(-1)
    chance = (log_choose + torch.xlogy(count, p) + torch.xlogy(n - count, 1 - p)).exp()
    return (chance * count / n * (count / (n * p)).log()).sum((-1, -2))


def baseline_variance(
    policy: Float[Tensor, "*draw action"], reward: Float[Tensor, "*draw action"], baseline: Float[Tensor, "*draw"]
) -> Float[Tensor, "*draw"]:
    r"""The variance of one sample of the softmax policy's gradient, with a baseline: the trace of its covariance.

    .. math:: \operatorname{tr} \operatorname{Var}[g], \qquad g = (e_a - \pi)\,(R(a) - b), \quad a \sim \pi

    ReMax takes for b the reward of the greedy action.

    Shapes: policy and reward [\*draw, action], baseline [\*draw] -> [\*draw], in squared units of the reward.
    Gradient: through all three.
    Raises: ValueError for shapes that differ, probabilities that do not sum to one or are not positive, NaN.
    Source: Sutton & Barto 2018, section 2.8 (gradient bandits); the greedy baseline: Li et al. 2024 (ReMax).
    """
    _judge(policy, reward=reward)
    _check.floating(baseline=baseline)
    _check.shape(policy.shape[:-1], baseline=baseline)
    score = torch.eye(policy.shape[-1], dtype=policy.dtype, device=policy.device) - policy.unsqueeze(-2)
    gradient = score * (reward - baseline.unsqueeze(-1)).unsqueeze(-1)
    mean = (policy.unsqueeze(-1) * gradient).sum(-2, keepdim=True)
    return (policy.unsqueeze(-1) * (gradient - mean) ** 2).sum((-1, -2))


def _variance(prob: Tensor, x: Tensor) -> Tensor:
    """The variance over the last axis, summed around the mean: E x^2 - (E x)^2 would cancel."""
    mean = (prob * x).sum(-1, keepdim=True)
    return (prob * (x - mean) ** 2).sum(-1)


def _cumulant(policy: Tensor, advantage: Tensor, t: float) -> Tensor:
    return (policy.log() + t * advantage).logsumexp(-1)


def _class_weight(state_prob: Tensor, found: SignClass) -> Tensor:
    _check.same_shape(state_prob=state_prob, prob=found.prob)
    _check.probabilities(state_prob=state_prob)
    weight = state_prob * found.prob
    total = weight.sum(-1, keepdim=True)
    return weight / torch.where(total > 0, total, torch.ones_like(total))


def _judge(prob_old: Tensor, **tensors: Tensor) -> None:
    _check.same_shape(prob_old=prob_old, **tensors)
    _check.probabilities(prob_old=prob_old)
    _check.entries(
        above=0,
        prob_old=prob_old,
        remedy="An action that the old policy never draws has no ratio and no variance: leave it out of the last axis, "
        "if the new policy never draws it either; if it does, the old policy's samples cannot answer.",
    )
    finite = {name: tensor for name, tensor in tensors.items() if name != "ratio"}
    if finite:
        _check.entries(above=-math.inf, below=math.inf, remedy="Look for a division by zero.", **finite)
    if "ratio" in tensors:
        _check.entries(at_least=0, below=math.inf, ratio=tensors["ratio"])
