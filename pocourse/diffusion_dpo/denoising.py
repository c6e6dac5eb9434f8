"""The forward process of a diffusion model, the denoisers known in closed form, and what beta comes to in a denoiser.

A noise level is given by alpha_bar, the share of the image's variance that is left: x_t = sqrt(alpha_bar) x_0 +
sqrt(1 - alpha_bar) noise. One level per sample: the shape of alpha_bar is a leading part of the images' shape, and
what follows are pixels. The schedules themselves, alpha_bar for each timestep, are those of diffusers.
"""

import math

from jaxtyping import Float
from torch import Tensor

from pocourse import _check


def snr(alpha_bar: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    r"""The signal-to-noise ratio of a noise level.

    .. math:: \mathrm{SNR}_t = \frac{\bar\alpha_t}{1 - \bar\alpha_t}

    Shapes: [\*batch] -> [\*batch], a ratio of variances.
    Gradient: through alpha_bar.
    Raises: ValueError if the batch is empty, or a level is NaN, negative, or 1 or more.
    Source: Kingma et al. 2021 (variational diffusion models, arXiv 2107.00630).
    """
    _level(at_least=0, below=1, alpha_bar=alpha_bar)
    return alpha_bar / (1 - alpha_bar)


def noised(
    x0: Float[Tensor, "*batch_and_pixel"], noise: Float[Tensor, "*batch_and_pixel"], alpha_bar: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch_and_pixel"]:
    r"""An image at a noise level, in one step from the clean one.

    .. math:: x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}\, \epsilon, \qquad
        \bar\alpha_t = \alpha_1 \alpha_2 \dots \alpha_t

    Shapes: x0 and noise [\*batch, \*pixel], alpha_bar [\*batch], one level per sample -> [\*batch, \*pixel].
    Gradient: through all three.
    Raises: ValueError if x0 and noise differ in shape, alpha_bar's shape is not the leading part of it, dtypes differ,
    a tensor is empty, a value is NaN, or a level lies outside [0, 1].
    Source: Ho et al. 2020 (DDPM, arXiv 2006.11239).
    """
    _check.axes(0, x0=x0)
    _check.same_shape(x0=x0, noise=noise)
    _level(at_least=0, at_most=1, alpha_bar=alpha_bar)
    level = _per_sample(x0, alpha_bar=alpha_bar)
    return level.sqrt() * x0 + (1 - level).sqrt() * noise


def posterior(
    x0: Float[Tensor, "*batch_and_pixel"],
    xt: Float[Tensor, "*batch_and_pixel"],
    alpha_bar: Float[Tensor, "*batch"],
    alpha_bar_previous: Float[Tensor, "*batch"],
) -> tuple[Float[Tensor, "*batch_and_pixel"], Float[Tensor, "*batch"]]:
    r"""The distribution of the image one step less noisy, when the noisy and the clean one are known.

    .. math:: q(x_{t-1} \mid x_t, x_0) = \mathcal{N}\!\Big(
        \frac{\sqrt{\bar\alpha_{t-1}}\,(1 - \alpha_t)\, x_0 + \sqrt{\alpha_t}\,(1 - \bar\alpha_{t-1})\, x_t}
        {1 - \bar\alpha_t},\; \frac{(1 - \bar\alpha_{t-1})(1 - \alpha_t)}{1 - \bar\alpha_t}\, I \Big), \qquad
        \alpha_t = \frac{\bar\alpha_t}{\bar\alpha_{t-1}}

    With the image that a denoiser predicts in the place of x0 this is DDPM's own step. Where the previous level is 1,
    nothing is left open: the mean is x0 and the variance zero.

    Shapes: x0 and xt [\*batch, \*pixel], both levels [\*batch], one per sample -> the mean [\*batch, \*pixel] and the
    variance of each pixel, [\*batch].
    Gradient: through all four.
    Raises: ValueError if shapes or dtypes do not fit as in noised, a value is NaN, a level lies outside [0, 1),
    or a previous level outside (0, 1] or below its level.
    Source: Ho et al. 2020 (DDPM, arXiv 2006.11239), the forward process posterior.
    """
    _check.axes(0, x0=x0)
    _check.same_shape(x0=x0, xt=xt)
    _level(at_least=0, below=1, alpha_bar=alpha_bar)
    _level(above=0, at_most=1, alpha_bar_previous=alpha_bar_previous)
    _one_step(alpha_bar, alpha_bar_previous)
    level, previous = (_per_sample(x0, alpha_bar=each) for each in (alpha_bar, alpha_bar_previous))
    # 1 - alpha_t as a quotient keeps the digits that single precision has.
    from_x0, from_xt = (previous - level) / previous.sqrt(), (level / previous).sqrt() * (1 - previous)
    mean = (from_x0 * x0 + from_xt * xt) / (1 - level)
    step = (alpha_bar_previous - alpha_bar) / alpha_bar_previous
    return mean, (1 - alpha_bar_previous) * step / (1 - alpha_bar)


def kl_weight(
    alpha_bar: Float[Tensor, "*batch"], alpha_bar_previous: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    r"""How many nats one unit of squared denoising error costs in one step back.

    .. math:: w_t = \frac12 \Big( \frac{\mathrm{SNR}_{t-1}}{\mathrm{SNR}_t} - 1 \Big)
        = \frac{\bar\alpha_{t-1} - \bar\alpha_t}{2\, \bar\alpha_t\, (1 - \bar\alpha_{t-1})}

    The model's step has the posterior variance; with another variance the weight is another. It is infinite at t = 1,
    where the posterior's variance is zero.

    Shapes: both [\*batch] -> [\*batch].
    Gradient: through both.
    Raises: ValueError if shapes or dtypes differ, the batch is empty, a value is NaN, a level lies outside (0, 1), or a
    previous level outside (0, 1) or below its level.
    Source: Ho et al. 2020 (DDPM, arXiv 2006.11239) for the weight; in terms of the signal-to-noise ratio ours, after
    Kingma et al. 2021 (arXiv 2107.00630).
    """
    _level(above=0, below=1, alpha_bar=alpha_bar)
    _check.axes(0, alpha_bar_previous=alpha_bar_previous)
    remedy = "The step to the clean image, where it is 1, has variance zero and no divergence: begin at t = 2."
    _check.entries(above=0, below=1, remedy=remedy, alpha_bar_previous=alpha_bar_previous)
    _one_step(alpha_bar, alpha_bar_previous)
    # The ratio of two nearly equal numbers less one would lose the digits that this form keeps.
    return (alpha_bar_previous - alpha_bar) / (2 * alpha_bar * (1 - alpha_bar_previous))


def denoising_kl(
    error: Float[Tensor, "*batch"],
    alpha_bar: Float[Tensor, "*batch"],
    alpha_bar_previous: Float[Tensor, "*batch"],
    *,
    dim: int,
) -> Float[Tensor, "*batch"]:
    r"""The divergence of a denoiser's step from the posterior's, out of its mean squared error.

    .. math:: \mathrm{KL}\big( q(x_{t-1} \mid x_t, x_0) \,\|\, p_\theta(x_{t-1} \mid x_t) \big) = w_t\, D\, e, \qquad
        e = \frac1D \| \epsilon - \epsilon_\theta(x_t, t) \|^2

    Shapes: all [\*batch] -> [\*batch], in nats. The error is a mean over the ``dim`` pixels and channels.
    Gradient: through all three.
    Raises: ValueError as kl_weight, or if the error has another shape or dtype, is NaN or negative, or dim is not
    positive.
    Source: Ho et al. 2020 (DDPM, arXiv 2006.11239), for the posterior variance and t >= 2.
    """
    _check.same_shape(error=error, alpha_bar=alpha_bar)
    _check.entries(at_least=0, remedy="An error is a mean of squares.", error=error)
    _check.number(at_least=1, dim=dim)
    return kl_weight(alpha_bar, alpha_bar_previous) * dim * error


def mixture_log_density(
    x: Float[Tensor, "*batch dim"],
    weights: Float[Tensor, "component"],
    means: Float[Tensor, "component dim"],
    variances: Float[Tensor, "component"],
) -> Float[Tensor, "*batch"]:
    r"""The log-density of a mixture of round Gaussians.

    .. math:: \log p(x) = \log \sum_k \pi_k\, \mathcal{N}(x;\, m_k,\, s_k^2 I)

    Shapes: x [\*batch, dim], weights [component], means [component, dim], variances s_k^2 [component] -> [\*batch], in
    nats.
    Gradient: through all four.
    Raises: ValueError for shapes or dtypes that do not fit, NaN, weights that do not sum to 1, or a variance that is
    not positive.
    Source: textbook.
    """
    _mixture(x, weights, means, variances)
    return _log_joint(x, weights, means, variances).logsumexp(-1)


def mixture_noise(
    xt: Float[Tensor, "*batch dim"],
    weights: Float[Tensor, "component"],
    means: Float[Tensor, "component dim"],
    variances: Float[Tensor, "component"],
    alpha_bar: Float[Tensor, "*level"],
) -> Float[Tensor, "*batch dim"]:
    r"""What the best denoiser predicts when the images come from a mixture of round Gaussians.

    .. math:: \mathbb{E}[\epsilon \mid x_t] = \sqrt{1 - \bar\alpha} \sum_k \rho_k(x_t)\,
        \frac{x_t - \sqrt{\bar\alpha}\, m_k}{v_k}, \qquad v_k = \bar\alpha s_k^2 + 1 - \bar\alpha, \qquad
        \rho_k(x_t) \propto \pi_k\, \mathcal{N}(x_t;\, \sqrt{\bar\alpha}\, m_k,\, v_k I)

    With one component it is linear in x_t. It is also -sqrt(1 - alpha_bar) times the score of the noised mixture.

    Shapes: xt [\*batch, dim], weights [component], means [component, dim], variances s_k^2 [component]; alpha_bar has
    the leading part of the batch's shape, one level per sample -> [\*batch, dim].
    Gradient: through all five.
    Raises: ValueError as mixture_log_density, or if alpha_bar's shape or dtype does not fit or a level lies outside
    [0, 1].
    Source: ours, from Bayes' rule for Gaussians (textbook).
    """
    _mixture(xt, weights, means, variances)
    _level(at_least=0, at_most=1, alpha_bar=alpha_bar)
    level = _per_sample(xt[..., 0], alpha_bar=alpha_bar).unsqueeze(-1)
    centre, spread = level.sqrt().unsqueeze(-1) * means, level * variances + 1 - level
    share = _log_joint(xt, weights, centre, spread).softmax(-1)
    pull = (xt.unsqueeze(-2) - centre) / spread.unsqueeze(-1)
    return (1 - level).sqrt() * (share.unsqueeze(-1) * pull).sum(-2)


def effective_beta(
    alpha_bar: Float[Tensor, "*batch"], *, beta: float, dim: int, variance: float = 1.0
) -> Float[Tensor, "*batch"]:
    r"""The beta of the divergence, in units of the reward, that Diffusion-DPO's beta comes to at one noise level.

    .. math:: \beta_{\mathrm{eff}} = \frac{\beta}{D}\, \frac{s^2\, \bar\alpha (1 - \bar\alpha)}{v^2}, \qquad
        v = \bar\alpha s^2 + 1 - \bar\alpha

    For Gaussian images of variance s^2 per pixel and a model that may move their mean: with the reward a . x and
    comparisons of Bradley and Terry it moves by s^2 a / beta_eff, as the Gibbs policy of that beta does. theta and the
    reference, chosen and rejected share one level and one noise.

    Shapes: [\*batch] -> [\*batch]. ``beta`` is that of diffusion_dpo_loss, on means over ``dim`` pixels and with its
    factor one half.
    Gradient: through alpha_bar.
    Raises: ValueError if the batch is empty, a level is NaN or outside (0, 1), or beta, dim or variance is not
    positive.
    Source: ours.
    """
    _level(above=0, below=1, alpha_bar=alpha_bar)
    _check.number(above=0, beta=beta, variance=variance)
    _check.number(at_least=1, dim=dim)
    spread = alpha_bar * variance + 1 - alpha_bar
    return beta / dim * variance * alpha_bar * (1 - alpha_bar) / spread**2


def effective_beta_limits(
    alpha_bars: Float[Tensor, "*batch level"], *, beta: float, dim: int, variance: float = 1.0
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    r"""Between which values the effective beta lies when all noise levels are trained at once.

    .. math:: \beta_{\mathrm{weak}} = \frac{\mathbb{E}[b^2]}{\mathbb{E}[b]}, \qquad
        \beta_{\mathrm{strong}} = \sqrt{\frac{\mathbb{E}[b]}{\mathbb{E}[1 / b]}}, \qquad
        b_t = \beta_{\mathrm{eff}}(\bar\alpha_t)

    The first is reached as the reward's slope a goes to zero, the second as it grows without end; in between the
    effective beta falls. The second is never above the mean of b, the first never below it.

    Shapes: the levels of a schedule, equally often trained, on the last axis, [\*batch, level] -> two of [\*batch]:
    the weak reward's, then the strong one's.
    Gradient: through alpha_bars.
    Raises: ValueError as effective_beta, or if there is no axis of levels.
    Source: ours.
    """
    _check.axes(1, alpha_bars=alpha_bars)
    each = effective_beta(alpha_bars, beta=beta, dim=dim, variance=variance)
    return (each**2).mean(-1) / each.mean(-1), (each.mean(-1) / (1 / each).mean(-1)).sqrt()


def clamped_loss_bounds(*, beta: float, clip_eps: float = 0.1) -> tuple[float, float]:
    r"""Between which values a DPO loss lies once its two ratios are clamped.

    .. math:: \log\!\Big( 1 + \Big(\frac{1 - c}{1 + c}\Big)^{\beta} \Big) \le -\log\mathrm{sigmoid}\big( \beta (\log
        \rho_w - \log \rho_l) \big) \le \log\!\Big( 1 + \Big(\frac{1 + c}{1 - c}\Big)^{\beta} \Big), \qquad
        \rho \in [1 - c,\, 1 + c]

    Both are reached. A ratio beyond the clamp has no gradient, on the wrong side no more than on the right.

    Shapes: two numbers, the least and the largest loss, in nats; ``clip_eps`` is c.
    Gradient: none.
    Raises: ValueError if beta is not positive or clip_eps not inside (0, 1).
    Source: ours; the clamp is that of the public code of Yang et al. 2024 (D3PO, arXiv 2311.13231), yk7333/d3po, commit
    40d3175, with beta = c = 0.1.
    """
    _check.number(above=0, beta=beta)
    _check.number(above=0, below=1, clip_eps=clip_eps)
    margin = beta * (math.log1p(clip_eps) - math.log1p(-clip_eps))
    return math.log1p(math.exp(-margin)), margin + math.log1p(math.exp(-margin))


LEVELS = "A level is alpha_bar, as in alphas_cumprod[t]: 1 where there is no noise, 0 where there is no signal."


def _level(**tensors: Tensor | float) -> None:
    """The one named tensor holds levels inside the limits, given as in _check.entries."""
    _check.axes(0, **{name: tensor for name, tensor in tensors.items() if isinstance(tensor, Tensor)})
    _check.entries(remedy=LEVELS, **tensors)


def _one_step(alpha_bar: Tensor, alpha_bar_previous: Tensor) -> None:
    _check.same_shape(alpha_bar=alpha_bar, alpha_bar_previous=alpha_bar_previous)
    remedy = "One step back there is less noise: alpha_bar_previous is alphas_cumprod[t - 1], the larger of the two."
    _check.entries(at_least=0, remedy=remedy, step_back=alpha_bar_previous - alpha_bar)


def _per_sample(like: Tensor, **tensors: Tensor) -> Tensor:
    """The one named tensor with an axis of size one for each pixel axis of ``like``."""
    ((name, tensor),) = tensors.items()
    if tensor.shape != like.shape[: tensor.ndim]:
        raise ValueError(
            f"expected {name} with one value per sample, in the leading axes of {list(like.shape)}; "
            f"got {list(tensor.shape)}. Index the schedule with one timestep per sample, alphas_cumprod[t]."
        )
    if tensor.dtype != like.dtype or tensor.device != like.device:
        raise ValueError(
            f"expected {name} with the dtype and device of the images, {like.dtype} on {like.device}; got "
            f"{tensor.dtype} on {tensor.device}. Convert it with {name}.to(images)."
        )
    return tensor.reshape(tensor.shape + (1,) * (like.ndim - tensor.ndim))


def _mixture(x: Tensor, weights: Tensor, means: Tensor, variances: Tensor) -> None:
    _check.axes(1, x=x, weights=weights)
    _check.shape((len(weights), x.shape[-1]), means=means)
    _check.shape((len(weights),), variances=variances)
    _check.floating(x=x, means=means)
    _check.same_shape(x=x[..., :1].flatten()[:1], means=means[0, :1], weights=weights[:1], variances=variances[:1])
    _check.probabilities(weights=weights)
    _check.entries(above=0, remedy="A variance is s_k^2, the square of the component's spread.", variances=variances)


def _log_joint(x, weights, means, variances):
    """log pi_k N(x; m_k, v_k I), [*batch, component]; means and variances may have the batch's axes as well."""
    square = ((x.unsqueeze(-2) - means) ** 2).sum(-1)
    return weights.log() - (square / variances + means.shape[-1] * (2 * math.pi * variances).log()) / 2
