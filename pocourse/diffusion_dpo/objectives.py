"""The losses of chapter 5: from comparisons to a reward, to a policy, to a denoiser. One value per pair.

Every loss is -log sigmoid(z) of a margin z, which says by how much a pair is ordered rightly. What differs is what the
margin is made of: rewards, log-probabilities against a reference, or denoising errors against a reference.
"""

import math

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from pocourse import _check


def bradley_terry_loss(
    reward_chosen: Float[Tensor, "*batch"], reward_rejected: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    r"""How surprising a comparison is when the chances are those of Bradley and Terry.

    .. math:: \ell = -\log \mathrm{sigmoid}\big(r(x, y_w) - r(x, y_l)\big)

    Shapes: both [\*batch] -> [\*batch], in nats. Rewards are in units of the log-odds of a comparison.
    Gradient: through both.
    Raises: ValueError if shapes differ, the batch is empty, or a value is NaN.
    Source: Bradley & Terry 1952, as in Rafailov et al. 2023 (DPO, arXiv 2305.18290).
    """
    _judge(reward_chosen=reward_chosen, reward_rejected=reward_rejected)
    return -logsigmoid(reward_chosen - reward_rejected)


def gibbs_policy(
    logp_ref: Float[Tensor, "*batch outcome"], reward: Float[Tensor, "*batch outcome"], *, beta: float
) -> Float[Tensor, "*batch outcome"]:
    r"""The policy with the largest expected reward less beta times its divergence from the reference.

    .. math:: \pi^*(y \mid x) = \frac{\pi_{\mathrm{ref}}(y \mid x)\, e^{r(x, y) / \beta}}{Z(x)}, \qquad
        \pi^* = \arg\max_\pi \mathbb{E}_\pi[r] - \beta\, \mathrm{KL}(\pi \,\|\, \pi_{\mathrm{ref}})

    Shapes: both [\*batch, outcome] -> probabilities [\*batch, outcome]. beta is in units of the reward. ``logp_ref``
    need not be normalised, and may be minus infinity where the reference never goes.
    Gradient: through both.
    Raises: ValueError if shapes differ, the batch is empty, a value is NaN, or beta is not positive.
    Source: the Gibbs variational principle; Rafailov et al. 2023 (DPO, arXiv 2305.18290).
    """
    _judge(logp_ref=logp_ref, reward=reward)
    _check.axes(1, logp_ref=logp_ref)
    _check.number(above=0, beta=beta)
    return (logp_ref + reward / beta).softmax(-1)


def dpo_margin(
    logp_chosen: Float[Tensor, "*batch"],
    logp_rejected: Float[Tensor, "*batch"],
    logp_ref_chosen: Float[Tensor, "*batch"],
    logp_ref_rejected: Float[Tensor, "*batch"],
    *,
    beta: float,
) -> Float[Tensor, "*batch"]:
    r"""By how much the policy's own reward prefers the chosen outcome.

    .. math:: z = \beta \Big[ \log \frac{\pi_\theta(y_w)}{\pi_{\mathrm{ref}}(y_w)}
        - \log \frac{\pi_\theta(y_l)}{\pi_{\mathrm{ref}}(y_l)} \Big]

    Shapes: all [\*batch] -> [\*batch], in units of the log-odds of a comparison; log-probabilities are in nats.
    Gradient: through logp_chosen and logp_rejected; the reference is data.
    Raises: ValueError if shapes differ, the batch is empty, a value is NaN, the reference carries gradient, or beta is
    not positive.
    Source: Rafailov et al. 2023 (DPO, arXiv 2305.18290).
    """
    _judge(
        logp_chosen=logp_chosen,
        logp_rejected=logp_rejected,
        logp_ref_chosen=logp_ref_chosen,
        logp_ref_rejected=logp_ref_rejected,
    )
    _check.constant(logp_ref_chosen=logp_ref_chosen, logp_ref_rejected=logp_ref_rejected)
    _check.number(above=0, beta=beta)
    return beta * ((logp_chosen - logp_ref_chosen) - (logp_rejected - logp_ref_rejected))


def dpo_loss(
    logp_chosen: Float[Tensor, "*batch"],
    logp_rejected: Float[Tensor, "*batch"],
    logp_ref_chosen: Float[Tensor, "*batch"],
    logp_ref_rejected: Float[Tensor, "*batch"],
    *,
    beta: float = 0.1,
) -> Float[Tensor, "*batch"]:
    r"""Direct preference optimization: the comparison's surprise under the reward that the policy itself stands for.

    .. math:: \ell = -\log \mathrm{sigmoid}(z), \qquad
        z = \beta \Big[ \log \frac{\pi_\theta(y_w)}{\pi_{\mathrm{ref}}(y_w)}
        - \log \frac{\pi_\theta(y_l)}{\pi_{\mathrm{ref}}(y_l)} \Big]

    Shapes: all [\*batch] -> [\*batch], one value per pair, in nats.
    Gradient: through logp_chosen and logp_rejected; the reference is data.
    Raises: ValueError if shapes differ, the batch is empty, a value is NaN, the reference carries gradient, or beta is
    not positive.
    Source: Rafailov et al. 2023 (DPO, arXiv 2305.18290).
    """
    return -logsigmoid(dpo_margin(logp_chosen, logp_rejected, logp_ref_chosen, logp_ref_rejected, beta=beta))


def diffusion_dpo_margin(
    error_chosen: Float[Tensor, "*batch"],
    error_rejected: Float[Tensor, "*batch"],
    error_ref_chosen: Float[Tensor, "*batch"],
    error_ref_rejected: Float[Tensor, "*batch"],
    *,
    beta: float,
) -> Float[Tensor, "*batch"]:
    r"""By how much the denoiser prefers the chosen image: it denoises it better than the reference does.

    .. math:: z = -\tfrac12 \beta \big[ (e_w - e_w^{\mathrm{ref}}) - (e_l - e_l^{\mathrm{ref}}) \big], \qquad
        e = \frac1D \| \epsilon - \epsilon_\theta(x_t, t) \|^2

    Shapes: all [\*batch] -> [\*batch], without units. The errors are *means* over the D pixels and channels of one
    noised image; on sums the factor would be beta / (2 D).
    Gradient: through error_chosen and error_rejected; the reference is data.
    Raises: ValueError if shapes differ, the batch is empty, a value is NaN, an error is negative, the reference carries
    gradient, or beta is not positive.
    Source: the public code of Wallace et al. 2024 (Diffusion-DPO, arXiv 2311.12908), SalesforceAIResearch/DiffusionDPO,
    commit 5233e75, train.py, with its factor one half.
    """
    errors = {
        "error_chosen": error_chosen,
        "error_rejected": error_rejected,
        "error_ref_chosen": error_ref_chosen,
        "error_ref_rejected": error_ref_rejected,
    }
    _judge(**errors)
    remedy = "An error is the mean of squares, (noise - predicted) ** 2, over all pixels of a sample."
    _check.entries(at_least=0, remedy=remedy, **errors)
    _check.constant(error_ref_chosen=error_ref_chosen, error_ref_rejected=error_ref_rejected)
    _check.number(above=0, beta=beta)
    return -0.5 * beta * ((error_chosen - error_ref_chosen) - (error_rejected - error_ref_rejected))


def diffusion_dpo_loss(
    error_chosen: Float[Tensor, "*batch"],
    error_rejected: Float[Tensor, "*batch"],
    error_ref_chosen: Float[Tensor, "*batch"],
    error_ref_rejected: Float[Tensor, "*batch"],
    *,
    beta: float = 5000.0,
) -> Float[Tensor, "*batch"]:
    r"""Diffusion-DPO: the comparison's surprise when denoising errors stand in for log-probabilities.

    .. math:: \ell = -\log \mathrm{sigmoid}(z), \qquad
        z = -\tfrac12 \beta \big[ (e_w - e_w^{\mathrm{ref}}) - (e_l - e_l^{\mathrm{ref}}) \big]

    Shapes: all [\*batch] -> [\*batch], one value per pair, in nats. The errors are means over the D pixels and channels
    of one noised image; theta and the reference see the same noise at the same time step.
    Gradient: through error_chosen and error_rejected; the reference is data.
    Raises: ValueError if shapes differ, the batch is empty, a value is NaN, an error is negative, the reference carries
    gradient, or beta is not positive.
    Source: the public code of Wallace et al. 2024 (Diffusion-DPO, arXiv 2311.12908), SalesforceAIResearch/DiffusionDPO,
    commit 5233e75, train.py, with its factor one half and its default beta.
    """
    return -logsigmoid(
        diffusion_dpo_margin(error_chosen, error_rejected, error_ref_chosen, error_ref_rejected, beta=beta)
    )


def implicit_accuracy(margin: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    r"""Whether a pair is ordered rightly: 1, or 0, or one half where neither is preferred.

    .. math:: a = 1[z > 0] + \tfrac12\, 1[z = 0]

    At the reference itself every margin is zero, and the accuracy one half.

    Shapes: margin [\*batch] -> [\*batch], in its dtype.
    Gradient: none.
    Raises: ValueError if the batch is empty or a value is NaN.
    Source: ties as in diffusers' research example train_diffusion_dpo.py (commit 58eb52c); the code of Wallace et al.
    2024 counts a tie as wrong.
    """
    _judge(margin=margin)
    return ((margin > 0).to(margin) + (margin >= 0).to(margin)).detach() / 2


def squared_error(
    noise: Float[Tensor, "*batch dim"], predicted: Float[Tensor, "*batch dim"]
) -> Float[Tensor, "*batch"]:
    r"""The mean squared error of a denoiser on one noised image, as the losses take it.

    .. math:: e = \frac1D \| \epsilon - \epsilon_\theta(x_t, t) \|^2

    Shapes: both [\*batch, dim] -> [\*batch]; flatten pixels and channels into the last axis first.
    Gradient: through predicted; the noise is data.
    Raises: ValueError if shapes differ, the batch is empty, a value is NaN, or noise carries gradient.
    Source: Ho et al. 2020 (DDPM, arXiv 2006.11239), the simple loss.
    """
    _check.axes(1, noise=noise)
    _judge(noise=noise, predicted=predicted)
    _check.constant(noise=noise)
    return ((noise - predicted) ** 2).mean(-1)


def _judge(**tensors: Tensor) -> None:
    _check.same_shape(**tensors)
    if math.prod(next(iter(tensors.values())).shape) == 0:
        raise ValueError("expected at least one pair; got an empty batch. Check how the batch was sliced.")
