"""What comparisons and a leash allow, exactly: the best value, the least loss, the tilted samples and mixtures.

Outcomes stand on the last axis where a policy is enumerated, samples where it is only drawn from.
"""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import logsigmoid

from pocourse import _check

# ---------------------------------------------------------------- a reward on a leash


def regularised_reward(
    policy: Float[Tensor, "*batch outcome"],
    logp_ref: Float[Tensor, "*batch outcome"],
    reward: Float[Tensor, "*batch outcome"],
    *,
    beta: float,
) -> Float[Tensor, "*batch"]:
    r"""The expected reward of a policy, less beta times its divergence from the reference.

    .. math:: J(\pi) = \mathbb{E}_{y \sim \pi}[r(x, y)] - \beta\, \mathrm{KL}(\pi \,\|\, \pi_{\mathrm{ref}})

    Minus infinity as soon as the policy goes where the reference never does.

    Shapes: all [\*batch, outcome] -> [\*batch], in units of the reward, which are those of beta too. ``policy`` holds
    probabilities; ``logp_ref`` need not be normalised, and may be minus infinity.
    Gradient: through all three, where the policy is positive.
    Raises: ValueError if shapes differ, the batch is empty, a value is NaN, ``policy`` holds no distributions, or beta
    is not positive.
    Source: Rafailov et al. 2023 (DPO, arXiv 2305.18290), the objective of RLHF.
    """
    _judge(policy=policy, logp_ref=logp_ref, reward=reward)
    _check.probabilities(policy=policy)
    _check.number(above=0, beta=beta)
    # Outcomes that the policy never takes cost nothing, even where the reference never takes them either.
    logp_ref = torch.where(policy > 0, logp_ref.log_softmax(-1), torch.zeros_like(logp_ref))
    divergence = (torch.xlogy(policy, policy) - policy * logp_ref).sum(-1)
    return (policy * reward).sum(-1) - beta * divergence


def gibbs_value(
    logp_ref: Float[Tensor, "*batch outcome"], reward: Float[Tensor, "*batch outcome"], *, beta: float
) -> Float[Tensor, "*batch"]:
    r"""The largest regularised reward that any policy has; ``gibbs_policy`` has it.

    .. math:: \max_\pi J(\pi) = \beta \log Z(x), \qquad
        Z(x) = \mathbb{E}_{y \sim \pi_{\mathrm{ref}}}\big[ e^{r(x, y) / \beta} \big]

    Shapes: both [\*batch, outcome] -> [\*batch], in units of the reward, which are those of beta too. ``logp_ref`` need
    not be normalised, and may be minus infinity where the reference never goes.
    Gradient: through both.
    Raises: ValueError if shapes differ, the batch is empty, a value is NaN, or beta is not positive.
    Source: the Gibbs variational principle; Rafailov et al. 2023 (DPO, arXiv 2305.18290).
    """
    _judge(logp_ref=logp_ref, reward=reward)
    _check.number(above=0, beta=beta)
    return beta * ((logp_ref + reward / beta).logsumexp(-1) - logp_ref.logsumexp(-1))


# ---------------------------------------------------------------- what noisy labels allow


def loss_floor(reward_difference: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    r"""The least expected loss on a fresh comparison: the entropy of its label.

    .. math:: h(p) = -p \log p - (1 - p) \log(1 - p), \qquad
        p = \mathrm{sigmoid}\big(r(x, y_1) - r(x, y_2)\big)

    Whoever predicts the label with the margin z pays h(p) and, on top of it, the divergence KL(p || sigmoid(z)). Pairs
    that were trained on are no fresh ones: their labels can be learned by heart, and their loss then lies lower.

    Shapes: [\*batch] -> [\*batch], one value per pair, in nats. The difference is in log-odds, either way round.
    Gradient: through the difference.
    Raises: ValueError if the batch is empty, or a value is NaN or infinite.
    Source: textbook (cross-entropy is entropy plus divergence), for the labels of Bradley & Terry 1952.
    """
    _judge_difference(reward_difference)
    chance = reward_difference.sigmoid()
    return -chance * logsigmoid(reward_difference) - (1 - chance) * logsigmoid(-reward_difference)


def accuracy_ceiling(reward_difference: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    r"""The largest expected accuracy on a fresh comparison: the chance of its likelier label.

    .. math:: \max(p, 1 - p), \qquad p = \mathrm{sigmoid}\big(r(x, y_1) - r(x, y_2)\big)

    Whoever orders every pair by the true reward has it, whatever the size of the margins.

    Shapes: [\*batch] -> [\*batch], one value per pair, between one half and one. The difference is in log-odds.
    Gradient: through the difference.
    Raises: ValueError if the batch is empty, or a value is NaN or infinite.
    Source: textbook (the Bayes classifier), for the labels of Bradley & Terry 1952.
    """
    _judge_difference(reward_difference)
    return reward_difference.abs().sigmoid()


# ---------------------------------------------------------------- the tilt, by samples and in closed form


def tilt_weights(reward: Float[Tensor, "*batch sample"], *, beta: float) -> Float[Tensor, "*batch sample"]:
    r"""What samples of the reference weigh under the Gibbs policy.

    .. math:: w_i = \frac{e^{r_i / \beta}}{\sum_j e^{r_j / \beta}}, \qquad
        \sum_i w_i f(y_i) \to \mathbb{E}_{\pi^*}[f], \qquad y_i \sim \pi_{\mathrm{ref}}

    Self-normalised importance sampling: the estimate has a bias of order 1/n, and is worth as little as
    ``effective_sample_size`` says.

    Shapes: [\*batch, sample] -> [\*batch, sample], summing to one over the samples. beta is in units of the reward.
    Gradient: through the reward.
    Raises: ValueError if there is no sample, a value is NaN, or beta is not positive.
    Source: textbook (self-normalised importance sampling) with the Gibbs policy as the target.
    """
    _judge(reward=reward)
    _check.number(above=0, beta=beta)
    return (reward / beta).softmax(-1)


def effective_sample_size(weights: Float[Tensor, "*batch sample"]) -> Float[Tensor, "*batch"]:
    r"""The share of n weighted samples that is left, between 1/n and 1.

    .. math:: \mathrm{ESS} = \frac{1}{n \sum_i w_i^2}

    A share, not a count, as in chapter 3. It knows only the samples that were drawn: what the Gibbs policy wants and
    no sample shows does not lower it.

    Shapes: [\*batch, sample] -> [\*batch].
    Gradient: through the weights.
    Raises: ValueError if there is no sample, a value is NaN, or the weights are negative or do not sum to one.
    Source: Kish's rule, as textbooks on importance sampling have it.
    """
    _judge(weights=weights)
    _check.probabilities(weights=weights)
    return 1 / (weights.shape[-1] * (weights**2).sum(-1))


def tilted_mixture(
    weights: Float[Tensor, "*batch component"],
    means: Float[Tensor, "*batch component dim"],
    variances: Float[Tensor, "*batch component"],
    direction: Float[Tensor, "*batch dim"],
    *,
    beta: float,
) -> tuple[Float[Tensor, "*batch component"], Float[Tensor, "*batch component dim"]]:
    r"""The Gibbs policy of a mixture of round Gaussians under a linear reward: a mixture of the same variances.

    .. math:: r(x) = a \cdot x: \qquad m_k^* = m_k + \frac{s_k^2}{\beta}\, a, \qquad
        \pi_k^* \propto \pi_k \exp\Big( \frac{a \cdot m_k}{\beta} + \frac{s_k^2 |a|^2}{2 \beta^2} \Big)

    Where all components are equally wide the last term is the same for all, and drops out.

    Shapes: weights [\*batch, component], means [\*batch, component, dim], variances s_k^2 (of each coordinate)
    [\*batch, component], direction a [\*batch, dim] -> the tilted weights and means, shaped like the old ones.
    Gradient: through all of them, where the weights are positive.
    Raises: ValueError for shapes or dtypes that do not fit, NaN, weights that are no distribution, or a variance or
    beta that is not positive.
    Source: ours (completing the square).
    """
    _check.axes(2, means=means)
    _check.shape(means.shape[:-1], weights=weights, variances=variances)
    _check.shape((*means.shape[:-2], means.shape[-1]), direction=direction)
    _check.same_shape(means=means, direction=direction.unsqueeze(-2).expand_as(means))
    _check.same_shape(means=means[..., 0], weights=weights, variances=variances)
    _check.probabilities(weights=weights)
    _check.entries(above=0, remedy="Pass variances, the squares of standard deviations.", variances=variances)
    _check.number(above=0, beta=beta)
    push = direction.unsqueeze(-2) / beta
    exponent = (push * means).sum(-1) + variances * (push**2).sum(-1) / 2
    return (weights.log() + exponent).softmax(-1), means + variances.unsqueeze(-1) * push


# ---------------------------------------------------------------- where a step on a pair moves the rest


def displacement(
    features: Float[Tensor, "*batch outcome dim"],
    policy: Float[Tensor, "*batch outcome"],
    chosen: Int64[Tensor, "*batch"],
    rejected: Int64[Tensor, "*batch"],
) -> Float[Tensor, "*batch outcome"]:
    r"""How a small gradient step on one pair's DPO loss moves every log-probability, if the logits are linear.

    .. math:: \frac{d \log \pi(y)}{dc} = (x_y - \mathbb{E}_\pi x) \cdot (x_w - x_l), \qquad
        c = \eta\, \beta\, \mathrm{sigmoid}(-z), \qquad \pi(y) \propto e^{x_y \cdot \theta}

    Per unit of c, where eta is the step size and z the margin. The winner's entry exceeds the loser's by the squared
    distance of their features: the margin grows. But the winner's own is negative where the mean feature lies further
    along x_w - x_l than the winner does. For tabular logits (x_y the unit vectors) it is 1 - pi(w) + pi(l), never
    negative.

    Shapes: features [\*batch, outcome, dim], policy (probabilities) [\*batch, outcome], chosen and rejected (indices of
    outcomes) [\*batch] -> [\*batch, outcome].
    Gradient: through features and policy.
    Raises: ValueError for shapes or dtypes that do not fit, NaN, a policy that is no distribution, or indices that no
    outcome has.
    Source: ours, for linear logits; the name likelihood displacement is of Razin et al. 2024 (arXiv 2410.08847).
    """
    _check.axes(2, features=features)
    _check.shape(features.shape[:-1], policy=policy)
    _check.same_shape(policy=policy, features=features[..., 0])
    _check.floating(features=features)
    _check.probabilities(policy=policy)
    _check.integers(policy[..., 0], chosen=chosen, rejected=rejected)
    last = policy.shape[-1] - 1
    remedy = f"An index of an outcome lies between 0 and {last}."
    _check.entries(at_least=0, at_most=last, remedy=remedy, chosen=chosen.double(), rejected=rejected.double())
    winner, loser = (
        features.gather(-2, index[..., None, None].expand(*index.shape, 1, features.shape[-1]))
        for index in (chosen, rejected)
    )
    mean = (policy.unsqueeze(-1) * features).sum(-2, keepdim=True)
    return ((features - mean) * (winner - loser)).sum(-1)


def _judge(**tensors: Tensor) -> None:
    for name, tensor in tensors.items():
        _check.axes(1, **{name: tensor})
    _check.same_shape(**tensors)


def _judge_difference(reward_difference: Tensor) -> None:
    remedy = "It is the finite difference of two rewards, in log-odds; certain labels have floor 0 and ceiling 1."
    _check.entries(above=-math.inf, below=math.inf, remedy=remedy, reward_difference=reward_difference)
    if reward_difference.numel() == 0:
        raise ValueError("expected at least one pair; got an empty batch. Check how the batch was sliced.")
