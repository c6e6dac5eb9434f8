"""5.11 to 5.13, 5.18 and 5.19: the forward process, its posterior, and what a denoising error says of a density."""

import math

import torch

from pocourse.diffusion_dpo import denoising
from pocourse.diffusion_dpo.claims import instances
from pocourse.lesson.claims import claim


def _product(alphas):
    return alphas.prod(-1)


def _at_once(x0, alpha_bar):
    """Mean and variance of x_t, as noised has them: where the noise is zero, and how far it moves."""
    nothing, ones = torch.zeros_like(x0), torch.ones_like(x0)
    return denoising.noised(x0, nothing, alpha_bar), denoising.noised(nothing, ones, alpha_bar) ** 2


@claim(
    "diffusion_dpo.forward_marginal",
    equation="5.11",
    kind="identity",
    tex=r"x_s=\sqrt{\alpha_s}\,x_{s-1}+\sqrt{1-\alpha_s}\,\epsilon_s\ (s=1,\dots,t)\quad\Longrightarrow\quad "
    r"q(x_t\mid x_0)=\mathcal{N}\big(\sqrt{\bar\alpha_t}\,x_0,\,(1-\bar\alpha_t)I\big),\qquad"
    r"\bar\alpha_t=\alpha_1\alpha_2\dots\alpha_t",
    source="Ho et al. 2020 (DDPM, arXiv 2006.11239); mean and variance carried through eight steps",
    draws=300,
    tolerance=1e-12,
)
def forward_marginal(draw, level=_product, stated=_at_once):
    alphas, x0 = draw.uniform(8, low=0.6, high=0.99), draw.normal()
    mean, variance = x0, torch.zeros_like(x0)
    for alpha in alphas.unbind(-1):
        mean, variance = alpha.sqrt() * mean, alpha * variance + 1 - alpha
    return torch.stack((mean, variance)), torch.stack(stated(x0, level(alphas)))


forward_marginal.twin(
    "noises_added_up",
    "Each step shrinks the noise of the steps before: the variances 1 - alpha do not simply add.",
    stated=lambda x0, alpha_bar: (alpha_bar.sqrt() * x0, -alpha_bar.log()),
)
forward_marginal.twin(
    "deviation_for_variance",
    "In front of the noise stands the root of its variance 1 - alpha_bar.",
    stated=lambda x0, alpha_bar: (alpha_bar.sqrt() * x0, (1 - alpha_bar) ** 2),
)
forward_marginal.twin(
    "root_forgotten",
    "The share of the variance that is left is alpha_bar, and the image shrinks by its root.",
    stated=lambda x0, alpha_bar: (alpha_bar * x0, 1 - alpha_bar),
)
forward_marginal.twin(
    "a_mean_of_the_steps",
    "Shrinking twice multiplies: the levels of single steps have a product, not a mean.",
    level=lambda alphas: alphas.mean(-1),
)


def _log_normal(x, mean, variance):
    """The log-density of N(mean, variance I), the variance one per draw."""
    spread = variance.sqrt().unsqueeze(-1)
    return torch.distributions.Normal(mean, spread).log_prob(x).sum(-1)


def _posterior_with(variance):
    def stated(x0, xt, now, before):
        return denoising.posterior(x0, xt, now, before)[0], variance(now, before)

    return stated


def _roots_forgotten(x0, xt, now, before):
    from_x0, from_xt = before * (1 - now / before) / (1 - now), now / before * (1 - before) / (1 - now)
    mean = from_x0.unsqueeze(-1) * x0 + from_xt.unsqueeze(-1) * xt
    return mean, denoising.posterior(x0, xt, now, before)[1]


@claim(
    "diffusion_dpo.forward_posterior",
    equation="5.12",
    kind="identity",
    tex=r"q(x_{t-1}\mid x_t,x_0)=\mathcal{N}\big(\mu_t,\sigma_t^2I\big),\qquad\mu_t="
    r"\frac{\sqrt{\bar\alpha_{t-1}}\,(1-\alpha_t)\,x_0+\sqrt{\alpha_t}\,(1-\bar\alpha_{t-1})\,x_t}{1-\bar\alpha_t},\qquad"
    r"\sigma_t^2=\frac{(1-\bar\alpha_{t-1})(1-\alpha_t)}{1-\bar\alpha_t}",
    source="Ho et al. 2020 (DDPM, arXiv 2006.11239); by Bayes' rule its density times q(x_t | x_0) is that of the two "
    "steps x_0, x_(t-1), x_t",
    draws=300,
    tolerance=1e-11,
)
def forward_posterior(draw, stated=denoising.posterior):
    (now, before), x0, xt, x = instances.two_levels(draw), draw.normal(3), draw.normal(3), draw.normal(3)
    alpha = now / before
    origin = torch.zeros_like(x0)
    there = _log_normal(x, denoising.noised(x0, origin, before), 1 - before)
    there = there + _log_normal(xt, denoising.noised(x, origin, alpha), 1 - alpha)
    back = _log_normal(x, *stated(x0, xt, now, before))
    return back + _log_normal(xt, denoising.noised(x0, origin, now), 1 - now), there


forward_posterior.twin(
    "variance_of_the_forward_step",
    "That is the variance of x_t once x_(t-1) is known. Knowing x_0 as well leaves less, by (1 - alpha_bar_(t-1)) / "
    "(1 - alpha_bar_t).",
    stated=_posterior_with(lambda now, before: 1 - now / before),
)
forward_posterior.twin(
    "deviation_for_variance",
    "A scheduler's step multiplies the noise by the root of the variance; the density has the variance itself.",
    stated=_posterior_with(lambda now, before: ((1 - before) * (1 - now / before) / (1 - now)).sqrt()),
)
forward_posterior.twin(
    "ends_exchanged",
    "The weights say how far x_(t-1) is from either end: the step's own noise stands beside x_0.",
    stated=lambda x0, xt, now, before: denoising.posterior(xt, x0, now, before),
)
forward_posterior.twin(
    "roots_forgotten",
    "Shares of variances are what alpha and alpha_bar are; what scales an image is their root.",
    stated=_roots_forgotten,
)


PIXELS = 4


@claim(
    "diffusion_dpo.kl_is_an_error",
    equation="5.13",
    kind="identity",
    tex=r"\mathrm{KL}\big(q(x_{t-1}\mid x_t,x_0)\,\|\,p_\theta(x_{t-1}\mid x_t)\big)"
    r"=w_t\,\|\epsilon-\epsilon_\theta\|^2=w_t\,D\,e,\qquad "
    r"w_t=\frac12\Big(\frac{\mathrm{SNR}_{t-1}}{\mathrm{SNR}_t}-1\Big),\qquad t\ge2",
    source="Ho et al. 2020 (DDPM, arXiv 2006.11239), the weight in terms of the signal-to-noise ratio ours, after "
    "Kingma et al. 2021 (arXiv 2107.00630); p_theta has the posterior's variance",
    draws=300,
    tolerance=1e-10,
)
def kl_is_an_error(draw, weight=denoising.kl_weight, dim=PIXELS):
    (now, before), x0, noise, predicted = instances.two_levels(draw), *(draw.normal(PIXELS) for _ in range(3))
    xt = denoising.noised(x0, noise, now)
    guess = (xt - (1 - now).sqrt().unsqueeze(-1) * predicted) / now.sqrt().unsqueeze(-1)
    true, model = (
        torch.distributions.Normal(mean, variance.sqrt().unsqueeze(-1))
        for mean, variance in (denoising.posterior(image, xt, now, before) for image in (x0, guess))
    )
    found = torch.distributions.kl_divergence(true, model).sum(-1)
    error = ((noise - predicted) ** 2).mean(-1)
    return found, weight(now, before) * dim * error


kl_is_an_error.twin(
    "ratio_upside_down",
    "The step before has the larger signal: its ratio stands above, or the divergence is negative.",
    weight=lambda now, before: 0.5 * (denoising.snr(now) / denoising.snr(before) - 1),
)
kl_is_an_error.twin(
    "half_forgotten",
    "The divergence of two Gaussians of one variance is half the squared distance of their means, over the variance.",
    weight=lambda now, before: 2 * denoising.kl_weight(now, before),
)
kl_is_an_error.twin(
    "dimension_forgotten",
    "Codes average the error over pixels; log-densities add.",
    dim=1,
)
kl_is_an_error.twin(
    "variance_of_the_forward_step",
    "With the larger variance beta_t in the model the same error weighs less, and the two variances add a term of "
    "their own.",
    weight=lambda now, before: denoising.kl_weight(now, before) * (1 - before) / (1 - now),
)


def _spread(alpha_bar, variance):
    return alpha_bar * variance + 1 - alpha_bar


def _shared_margin(alpha_bar, variance):
    return 2 * alpha_bar * (1 - alpha_bar) / _spread(alpha_bar, variance) ** 2


@claim(
    "diffusion_dpo.shared_noise_cancels",
    equation="5.18",
    kind="identity",
    tex=r"p_\theta=\mathcal{N}(\mu,s^2I),\ p_{\mathrm{ref}}=\mathcal{N}(0,s^2I):\qquad "
    r"D\,(\Delta_w-\Delta_l)=-\frac{2\,\bar\alpha(1-\bar\alpha)}{v^2}\;\mu\cdot(x_w-x_l)\quad"
    r"\text{whatever }\epsilon,\qquad v=\bar\alpha s^2+1-\bar\alpha",
    source="ours; one level and one noise for both images, the same covariance in both models, each with its best "
    "denoiser",
    draws=300,
    tolerance=1e-11,
)
def shared_noise_cancels(draw, factor=_shared_margin, shared=True, ref_scale=1.0):
    alpha_bar, variance = draw.uniform(low=0.05, high=0.95), float(draw.uniform(low=1.5, high=3)[0])
    chosen, rejected, noise = draw.normal(PIXELS), draw.normal(PIXELS), draw.normal(PIXELS)
    mean = draw.normal(PIXELS)[0]
    theta = instances.gaussian(mean, variance)
    ref = instances.gaussian(torch.zeros_like(mean), ref_scale * variance)
    pair = (chosen, noise), (rejected, noise if shared else draw.normal(PIXELS))
    better = [instances.errors(theta, *one, alpha_bar) - instances.errors(ref, *one, alpha_bar) for one in pair]
    found = PIXELS * (better[0] - better[1])
    return found, -factor(alpha_bar, variance) * ((chosen - rejected) * mean).sum(-1)


shared_noise_cancels.twin(
    "a_noise_for_each_image",
    "Then 2 alpha_bar s^2 sqrt(alpha_bar (1 - alpha_bar)) / v^2 times mu . (noise_w - noise_l) stays: mean zero, and "
    "large.",
    shared=False,
)
shared_noise_cancels.twin(
    "models_of_different_widths",
    "What cancels is a shift that does not depend on x_t. Where the covariances differ it does, and noise is left.",
    ref_scale=0.25,
)
shared_noise_cancels.twin(
    "two_forgotten",
    "The difference of two squares is twice the product, plus a square that the pair shares.",
    factor=lambda alpha_bar, variance: _shared_margin(alpha_bar, variance) / 2,
)
shared_noise_cancels.twin(
    "root_of_the_product",
    "As a root alpha_bar (1 - alpha_bar) comes twice: once from the shift, once from the images inside the error.",
    factor=lambda alpha_bar, variance: 2 * (alpha_bar * (1 - alpha_bar)).sqrt() / _spread(alpha_bar, variance) ** 2,
)
shared_noise_cancels.twin(
    "every_spread_is_one",
    "The variance of x_t is v, and it is one for images of unit variance only.",
    factor=lambda alpha_bar, variance: 2 * alpha_bar * (1 - alpha_bar),
)


NORMAL = instances.gaussian(torch.zeros(1, dtype=torch.float64))
END, STEP, NODES = 20, 0.5, 64


def _linear(model):
    """The Gaussian with the mean and variance of a one-dimensional mixture: its denoiser is the best linear one."""
    mean = (model.weights.unsqueeze(-1) * model.means).sum(0)
    variance = (model.weights * (model.variances + (model.means - mean).squeeze(-1) ** 2)).sum()
    return instances.gaussian(mean, float(variance))


def _in_log_snr(log_snr):
    return torch.full_like(log_snr, STEP)


@claim(
    "diffusion_dpo.errors_are_log_ratio",
    equation="5.19",
    kind="identity",
    tex=r"\log\frac{p(x)}{p_{\mathrm{ref}}(x)}=-\frac12\int_{-\infty}^{\infty}\mathbb{E}_\epsilon\Big["
    r"\|\epsilon-\epsilon_p(x_t)\|^2-\|\epsilon-\epsilon_{\mathrm{ref}}(x_t)\|^2\Big]\,d\log\mathrm{SNR}"
    r"\qquad\text{for every }p,\ \epsilon_p(x_t)=\mathbb{E}_p[\epsilon\mid x_t]",
    source="Kong, Brekelmans & Ver Steeg 2023 (arXiv 2302.03792), the pointwise I-MMSE relation; here mixtures against "
    "N(0, 1) by quadrature, log SNR from -20 to 20",
    draws=3,
    tolerance=1e-7,
)
def errors_are_log_ratio(draw, sign=-0.5, measure=_in_log_snr, denoiser=lambda model: model):
    points = draw.uniform(3, low=-2, high=2)
    log_snr = torch.arange(-END, END + STEP, STEP, dtype=torch.float64)
    alpha_bar = log_snr.sigmoid()
    noise, weight = instances.even(NODES)
    shape = (len(log_snr), points.shape[-1], NODES, 1)
    found, said = [], []
    for model, x in zip(instances.mixtures(draw), points, strict=True):
        x0, eps = x[:, None, None].expand(shape), noise[:, None].expand(shape)
        # One pixel, so that the mean over pixels is the sum.
        theta, ref = (instances.errors(each, x0, eps, alpha_bar) for each in (denoiser(model), NORMAL))
        gain = torch.einsum("snq,q->sn", theta - ref, weight)
        found.append(sign * (measure(log_snr)[:, None] * gain).sum(0))
        said.append(model.log_density(x[:, None]) - NORMAL.log_density(x[:, None]))
    return torch.stack(found), torch.stack(said)


errors_are_log_ratio.twin(
    "half_forgotten",
    "A unit of log SNR counts one half, as w_t does: it is SNR_(t-1) / SNR_t - 1, halved, for a small step.",
    sign=-1.0,
)
errors_are_log_ratio.twin(
    "sign_lost",
    "The better a density explains an image, the smaller is the error of its denoiser there.",
    sign=0.5,
)
errors_are_log_ratio.twin(
    "every_step_alike",
    "All timesteps alike, as losses have them in practice, is another measure. Stretched as here (alpha_bar = cos^2) "
    "it is right for Gaussians that differ in their mean, and for little else.",
    measure=lambda log_snr: STEP * 8 / math.pi * (log_snr.sigmoid() * (-log_snr).sigmoid()).sqrt(),
)
errors_are_log_ratio.twin(
    "best_linear_denoiser",
    "A denoiser of the right mean and variance knows no more than these: it has the log-ratio of a Gaussian.",
    denoiser=_linear,
)
