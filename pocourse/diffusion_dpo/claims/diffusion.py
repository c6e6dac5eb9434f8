"""5.14 to 5.17 and 5.20 to 5.23: from paths to one denoising error, and what beta means once it is there."""

import math
from typing import NamedTuple

import torch
from torch.distributions import MultivariateNormal, Normal, kl_divergence
from torch.nn.functional import logsigmoid

from pocourse.diffusion_dpo import denoising, objectives, optima
from pocourse.diffusion_dpo.claims import instances
from pocourse.lesson.claims import claim


class Chain(NamedTuple):
    """x_2 ~ N(0, 1), then x_1 and x_0, each slope * x + offset + spread * noise; [draw, 2], the step to x_1 first."""

    slope: torch.Tensor
    offset: torch.Tensor
    spread: torch.Tensor

    def path(self):
        """Mean and covariance matrix of (x_2, x_1, x_0)."""
        (a, b), (c, d), (s, r) = (part.unbind(-1) for part in self)
        none, one = torch.zeros_like(a), torch.ones_like(a)
        rows = (one, none, none), (a, s, none), (b * a, b * s, r)
        root = torch.stack([torch.stack(row, -1) for row in rows], -2)
        return torch.stack((none, c, b * c + d), -1), root @ root.mT

    def image(self):
        mean, covariance = self.path()
        return Normal(mean[:, 2], covariance[:, 2, 2].sqrt())

    def noisy_given(self, x0):
        """(x_2, x_1) once x_0 is known, for x0 [node, draw]."""
        mean, covariance = self.path()
        gain = covariance[:, :2, 2] / covariance[:, 2, 2, None]
        left = covariance[:, :2, :2] - gain.unsqueeze(-1) * covariance[:, 2, None, :2]
        return MultivariateNormal(mean[:, :2] + gain * (x0 - mean[:, 2]).unsqueeze(-1), left, validate_args=False)


def _random_chain(draw):
    return Chain(draw.uniform(2, low=0.3, high=1.2), draw.normal(2), draw.uniform(2, low=0.4, high=1.2))


def _steps(chain, ref):
    """The divergence of the paths, step by step, each step's in the mean over where the chain itself comes from."""
    mean, covariance = chain.path()
    total = 0
    for step in (0, 1):
        (slope, offset, spread), (slope_ref, offset_ref, spread_ref) = (
            [part[:, step] for part in each] for each in (chain, ref)
        )
        moved = (slope - slope_ref) * mean[:, step] + offset - offset_ref
        square = moved**2 + (slope - slope_ref) ** 2 * covariance[:, step, step]
        total = total + (spread_ref / spread).log() + (spread**2 + square) / (2 * spread_ref**2) - 0.5
    return total


def _posteriors(chain, ref, over=None, reverse=False):
    """The divergence of what x_0 tells of the noisy images, in the mean over the chain's x_0."""
    image = (over or chain).image()
    node, weight = instances.hermite(4)
    x0 = image.mean + image.stddev * node[:, None]
    pair = [each.noisy_given(x0) for each in (chain, ref)]
    return torch.einsum("nd,n->d", kl_divergence(*(pair[::-1] if reverse else pair)), weight)


@claim(
    "diffusion_dpo.paths_and_images",
    equation="5.14",
    kind="identity",
    tex=r"\mathrm{KL}\big(p_\theta(x_{0:T})\,\|\,p_{\mathrm{ref}}\big)=\mathrm{KL}\big(p_\theta(x_0)\,\|\,p_{\mathrm{ref}}"
    r"\big)+\mathbb{E}\,\mathrm{KL}\big(p_\theta(x_{1:T}\mid x_0)\,\|\,p_{\mathrm{ref}}\big),"
    r"\qquad\text{and no term is negative}",
    source="textbook (the chain rule of the KL divergence), used by Wallace et al. 2024 (Diffusion-DPO, arXiv "
    "2311.12908); Gaussian chains of two steps, the left side step by step",
    draws=30,
    tolerance=1e-11,
)
def paths_and_images(draw, posteriors=_posteriors):
    chain, ref = _random_chain(draw), _random_chain(draw)
    return _steps(chain, ref), kl_divergence(chain.image(), ref.image()) + posteriors(chain, ref)


paths_and_images.twin(
    "paths_for_images",
    "Two models may draw the same images along different paths: the leash on paths is the shorter one.",
    posteriors=lambda chain, ref: 0,
)
paths_and_images.twin(
    "the_other_sign",
    "Paths hold the image and more: what is added to the image's divergence is a divergence, never negative.",
    posteriors=lambda chain, ref: -_posteriors(chain, ref),
)
paths_and_images.twin(
    "images_of_the_reference",
    "The mean is over what the policy draws, as in every divergence from it.",
    posteriors=lambda chain, ref: _posteriors(chain, ref, over=ref),
)
paths_and_images.twin(
    "posteriors_exchanged",
    "Divergences have a direction, also inside a mean.",
    posteriors=lambda chain, ref: _posteriors(chain, ref, reverse=True),
)


STEPS = 6


def _mean_of_losses(margin):
    return -logsigmoid(STEPS * margin).mean(-1)


def _loss_of_mean(margin):
    return -logsigmoid(margin.sum(-1))


@claim(
    "diffusion_dpo.jensen",
    equation="5.15",
    kind="bound",
    tex=r"-\log\mathrm{sigmoid}\big(\mathbb{E}_t[T z_t]\big)\le\mathbb{E}_t\big[-\log\mathrm{sigmoid}(T z_t)\big],"
    r"\qquad T\,\mathbb{E}_t[z_t]=z_1+\dots+z_T",
    source="Jensen's inequality, as Wallace et al. 2024 (Diffusion-DPO, arXiv 2311.12908) use it; equal where all z_t "
    "are. For one margin z ~ N(1, 4): 0.3133 <= 0.6425",
    draws=300,
    tolerance=1e-12,
    attained=1e-8,
)
def jensen(draw, least=_loss_of_mean, most=_mean_of_losses):
    spread = draw.uniform(1) ** 6
    margin = 0.3 * draw.normal(1) + spread * draw.normal(STEPS)
    # The first path has the same margin at every step.
    margin[0] = margin[0, 0]
    return least(margin), most(margin)


jensen.twin(
    "the_other_way_round",
    "The loss is convex in z: the loss of the mean lies below the mean of the losses.",
    least=_mean_of_losses,
    most=_loss_of_mean,
)
jensen.twin(
    "sum_read_as_a_mean",
    "A path's margin is the sum over its T steps. One sampled step stands for all of them, so T goes with it.",
    most=lambda margin: -logsigmoid(margin).mean(-1),
)
jensen.twin(
    "logarithm_outside",
    "The mean of the sigmoids, then their logarithm: less than the mean of the losses, and no bound.",
    most=lambda margin: -torch.sigmoid(STEPS * margin).mean(-1).log(),
)


DIM = 3


def _gradient_of_the_loss(theta, features, noise, ref, beta):
    """Errors of a linear denoiser on a pair, and the gradients of the loss and of both errors."""
    errors = [
        objectives.squared_error(eps, torch.einsum("nij,nj->ni", theta, x))
        for x, eps in zip(features, noise, strict=True)
    ]
    loss = objectives.diffusion_dpo_loss(*errors, *ref, beta=beta)
    gradients = [torch.autograd.grad(each.sum(), theta, retain_graph=True)[0] for each in (loss, *errors)]
    margin = objectives.diffusion_dpo_margin(*(error.detach() for error in errors), *ref, beta=beta)
    return margin, *gradients


def _weighed(weight=lambda z, beta: beta / 2 * (-z).sigmoid(), rejected=-1.0):
    def stated(margin, chosen_gradient, rejected_gradient, beta):
        return weight(margin, beta)[:, None, None] * (chosen_gradient + rejected * rejected_gradient)

    return stated


_by_how_wrong = _weighed()


@claim(
    "diffusion_dpo.gradient_of_the_loss",
    equation="5.16",
    kind="identity",
    tex=r"L=-\log\mathrm{sigmoid}(z),\qquad z=-\tfrac12\beta\,(\Delta_w-\Delta_l),\qquad"
    r"\nabla_\theta L=\tfrac12\beta\,\mathrm{sigmoid}(-z)\,\big(\nabla_\theta e_w-\nabla_\theta e_l\big)",
    source="ours; fine-tuning on the chosen image less fine-tuning on the rejected one, a pair the more the more "
    "wrongly it is ordered. Linear denoisers, by autograd",
    draws=200,
    tolerance=1e-11,
)
def gradient_of_the_loss(draw, stated=_by_how_wrong):
    theta, beta = draw.normal(DIM, DIM).requires_grad_(), 4.0
    features, noise = (draw.normal(DIM), draw.normal(DIM)), (draw.normal(DIM), draw.normal(DIM))
    ref = [objectives.squared_error(eps, eps + draw.normal(DIM)) for eps in noise]
    margin, found, *of_errors = _gradient_of_the_loss(theta, features, noise, ref, beta)
    return found, stated(margin, *of_errors, beta)


gradient_of_the_loss.twin(
    "pairs_that_are_right",
    "A pair that is ordered rightly, and by much, has nothing left to teach: the weight is sigmoid of minus z.",
    stated=_weighed(weight=lambda z, beta: beta / 2 * z.sigmoid()),
)
gradient_of_the_loss.twin(
    "half_forgotten",
    "The margin has beta times one half in it, and the slope too.",
    stated=_weighed(weight=lambda z, beta: beta * (-z).sigmoid()),
)
gradient_of_the_loss.twin(
    "winners_only",
    "That is supervised fine-tuning, with weights: the rejected image pushes as well.",
    stated=_weighed(rejected=0.0),
)
gradient_of_the_loss.twin(
    "every_pair_alike",
    "Without the weight training never comes to rest: right pairs go on pushing as hard as wrong ones.",
    stated=_weighed(weight=lambda z, beta: torch.full_like(z, beta / 4)),
)


SHAPE = (4, 4, 4)
PIXELS = math.prod(SHAPE)


class Squares(NamedTuple):
    """Squared errors of two models on a pair of latent images, pixel by pixel."""

    theta: tuple[torch.Tensor, torch.Tensor]
    ref: tuple[torch.Tensor, torch.Tensor]


def _official(squares, beta):
    """As SalesforceAIResearch/DiffusionDPO has it: means over channels and pixels, and a factor one half."""
    model, ref = (chosen.mean((1, 2, 3)) - rejected.mean((1, 2, 3)) for chosen, rejected in squares)
    return -logsigmoid(-0.5 * beta * (model - ref))


def _example(squares, beta):
    """As the research example of diffusers has it: means, and no factor."""
    model, ref = (chosen.mean((1, 2, 3)) - rejected.mean((1, 2, 3)) for chosen, rejected in squares)
    return -logsigmoid(beta * (ref - model))


def _on_sums(squares, factor):
    model, ref = (chosen.sum((1, 2, 3)) - rejected.sum((1, 2, 3)) for chosen, rejected in squares)
    return -logsigmoid(-factor * (model - ref))


@claim(
    "diffusion_dpo.two_codes",
    equation="5.17",
    kind="identity",
    tex=r"\tfrac12\beta\,(\Delta_w-\Delta_l)=\beta'\,(\Delta_w-\Delta_l)"
    r"=\frac{\beta}{2D}\,\big(D\Delta_w-D\Delta_l\big),\qquad\beta'=\tfrac12\beta:\quad "
    r"5000\text{ in the one code is }2500\text{ in the other}",
    source="SalesforceAIResearch/DiffusionDPO, commit 5233e75, train.py, and huggingface/diffusers, commit 58eb52c, "
    "examples/research_projects/diffusion_dpo; both take means over channels and pixels",
    draws=200,
    tolerance=1e-12,
)
def two_codes(draw, example=0.5, sums=0.5, compared=_example, count=PIXELS):
    beta = 20.0
    squares = Squares(*((draw.normal(*SHAPE) ** 2, draw.normal(*SHAPE) ** 2) for _ in range(2)))
    errors = [square.mean((1, 2, 3)) for pair in squares for square in pair]
    ours = objectives.diffusion_dpo_loss(*errors, beta=beta)
    others = [_official(squares, beta), compared(squares, example * beta), _on_sums(squares, sums * beta / count)]
    return ours.expand(3, -1), torch.stack(others)


two_codes.twin(
    "same_number_in_both",
    "One code has a factor one half beside beta, the other has it inside: the same number trains twice as hard.",
    example=1.0,
)
two_codes.twin(
    "pixels_forgotten",
    "On sums the same beta is D times as strong: 5000 on means of a 4 x 64 x 64 latent is 0.15 on sums.",
    count=1,
)
two_codes.twin(
    "half_lost_on_sums",
    "The factor one half belongs to the official code's beta however the error is reduced.",
    sums=1.0,
)
two_codes.twin(
    "sign_of_the_example",
    "The example has the reference's difference first, and no minus in front: with one of the two changed, losers win.",
    compared=lambda squares, beta: _example(squares, -beta),
)


class Shift(NamedTuple):
    """Gaussian images whose mean may move, one reward slope and one noise level a draw."""

    slope: torch.Tensor
    alpha_bar: torch.Tensor
    variance: float
    beta: float
    dim: int


def _pairs(shared):
    """Two images and their two noises, of one pixel, as nodes [4, node] and weights."""
    (x, in_x), (eps, in_eps) = instances.hermite(8), instances.hermite(2 if shared else 5)
    axes, weights = (x, x, eps, eps), (in_x, in_x, in_eps, in_eps)
    count = 3 if shared else 4
    nodes, weight = torch.cartesian_prod(*axes[:count]).T, torch.cartesian_prod(*weights[:count]).prod(-1)
    return (torch.cat((nodes, nodes[2:])) if shared else nodes), weight


def _fitted_mean(world, shared=True, halves=0.5):
    """Where the population loss is least: labels of Bradley and Terry, every pair weighed both ways.

    Pixels to which the slope is blind err alike under theta and reference, and only count in the number D.
    """
    (first, second, *noise), weight = _pairs(shared)
    level = world.alpha_bar[:, None].expand(-1, len(weight))
    images = [math.sqrt(world.variance) * x.expand_as(level) for x in (first, second)]
    chance = (world.slope[:, None] * (images[0] - images[1])).sigmoid()
    gain = (1 - level).sqrt() / (level * world.variance + 1 - level)
    xt = [denoising.noised(x, eps.expand_as(x), level) for x, eps in zip(images, noise, strict=True)]

    def errors(mean):
        centre = level.sqrt() * mean
        return [(eps - gain * (x - centre)) ** 2 / world.dim for x, eps in zip(xt, noise, strict=True)]

    ref = errors(torch.zeros_like(level))

    def downhill(mean):
        """Minus the slope of the loss in the mean."""
        mean = mean[:, None].clone().requires_grad_()
        theta, beta = errors(mean), 2 * halves * world.beta
        right = objectives.diffusion_dpo_loss(*theta, *ref, beta=beta)
        wrong = objectives.diffusion_dpo_loss(*theta[::-1], *ref[::-1], beta=beta)
        loss = torch.einsum("dn,n->d", chance * right + (1 - chance) * wrong, weight)
        return -torch.autograd.grad(loss.sum(), mean)[0].squeeze(-1)

    none = torch.zeros_like(world.slope)
    return instances.root(downhill, none, none + 20)


def _effective(world, beta=denoising.effective_beta):
    return beta(world.alpha_bar, beta=world.beta, dim=world.dim, variance=world.variance)


@claim(
    "diffusion_dpo.effective_beta",
    equation="5.20",
    kind="identity",
    tex=r"\mu_\theta=\frac{s^2a}{\beta_{\mathrm{eff}}},\qquad "
    r"\beta_{\mathrm{eff}}=\frac\beta D\cdot\frac{s^2\,\bar\alpha(1-\bar\alpha)}{v^2},\qquad "
    r"v=\bar\alpha s^2+1-\bar\alpha\qquad(s=1:\ \beta\,\bar\alpha(1-\bar\alpha)/D)",
    source="ours; Gaussian images N(0, s^2 I) and a model that may move their mean, the reward a . x with labels of "
    "Bradley and Terry, one noise level, noise shared, errors as means with the factor one half. The least of the "
    "population loss, by quadrature",
    draws=6,
    tolerance=1e-9,
)
def effective_beta(draw, stated=denoising.effective_beta, shared=True, halves=0.5):
    variance = float(draw.uniform(low=1.5, high=2.5)[0])
    slope, alpha_bar = draw.uniform(low=0.3, high=1.5), draw.uniform(low=0.2, high=0.8)
    world = Shift(slope, alpha_bar, variance, beta=30.0, dim=4)
    found = _fitted_mean(world, shared, halves)
    return found, variance * slope / _effective(world, stated)


effective_beta.twin(
    "a_noise_for_each_image",
    "Noise that does not cancel blurs what the margin is compared with. Of a weak reward's shift the share "
    "(1 - alpha_bar) / v is left: with unit variance half of it, at alpha_bar = 1/2.",
    shared=False,
)
effective_beta.twin(
    "half_lost",
    "Without its factor one half the loss is twice as stiff, and the shift half as long.",
    halves=1.0,
)
effective_beta.twin(
    "dimension_forgotten",
    "Errors are means over pixels, log-densities sums: beta is shared among D of them.",
    stated=lambda alpha_bar, beta, dim, variance: denoising.effective_beta(
        alpha_bar, beta=beta, dim=1, variance=variance
    ),
)
effective_beta.twin(
    "every_spread_is_one",
    "The short form is for images of unit variance.",
    stated=lambda alpha_bar, beta, dim, variance: denoising.effective_beta(alpha_bar, beta=beta, dim=dim),
)
effective_beta.twin(
    "deviation_for_variance",
    "A shift is worth s^2 a / beta: what tilts a Gaussian is its variance.",
    stated=lambda alpha_bar, beta, dim, variance: denoising.effective_beta(
        alpha_bar, beta=beta, dim=dim, variance=math.sqrt(variance)
    ),
)


WEAK, STRONG = 1e-4, 1e4


def _cosine_levels():
    """alpha_bar = cos^2 over time, at evenly spaced times: exact for means of powers of it."""
    time = (torch.arange(32, dtype=torch.float64) + 0.5) / 32
    return (math.pi / 2 * time).cos() ** 2


@claim(
    "diffusion_dpo.effective_beta_limits",
    equation="5.21",
    kind="identity",
    tex=r"\frac{\mathbb{E}_t[b_t^2]}{\mathbb{E}_t[b_t]}\ \ge\ \beta_{\mathrm{eff}}(a)\ \ge\ "
    r"\sqrt{\frac{\mathbb{E}_t[b_t]}{\mathbb{E}_t[1/b_t]}}\qquad(a\to0,\ a\to\infty),\qquad "
    r"b_t=\frac\beta D\,\bar\alpha_t(1-\bar\alpha_t)",
    source="ours; as (5.20), s = 1, all levels trained alike. E[|d| sigmoid(-k |d|)], d ~ N(0, 2), is convex in k and "
    "concave in 1 / k^2, so both bounds are Jensen's. For alpha_bar = cos^2 the first is 3/16 of beta / D",
    draws=12,
    tolerance=1e-6,
)
def effective_beta_limits(draw, stated=denoising.effective_beta_limits, share=3 / 16):
    alpha_bars, slope = draw.uniform(6, low=0.03, high=0.97), 10 ** draw.uniform(low=-1, high=1.5)
    levels = denoising.effective_beta(alpha_bars, beta=8.0, dim=2)
    weak, strong = stated(alpha_bars, beta=8.0, dim=2)
    ends = [instances.mixed_beta(levels, torch.full_like(slope, end)) for end in (WEAK, STRONG)]
    between = instances.mixed_beta(levels, slope)
    cosine = stated(_cosine_levels(), beta=1.0, dim=1)[0].expand_as(slope)
    found = torch.stack((*ends, between, cosine))
    return found, torch.stack((weak, strong, between.clamp(min=strong, max=weak), torch.full_like(slope, share)))


effective_beta_limits.twin(
    "mean_of_the_levels",
    "Levels with a large b pull a weak reward's shift towards their own: each counts by how much it feels.",
    stated=lambda alpha_bars, beta, dim: (
        denoising.effective_beta(alpha_bars, beta=beta, dim=dim).mean(-1),
        denoising.effective_beta_limits(alpha_bars, beta=beta, dim=dim)[1],
    ),
    share=1 / 8,
)
effective_beta_limits.twin(
    "mean_as_the_floor",
    "For a strong reward the levels with a large b are saturated, and beta falls below the mean.",
    stated=lambda alpha_bars, beta, dim: (
        denoising.effective_beta_limits(alpha_bars, beta=beta, dim=dim)[0],
        denoising.effective_beta(alpha_bars, beta=beta, dim=dim).mean(-1),
    ),
)
effective_beta_limits.twin(
    "harmonic_mean",
    "The strong limit is the geometric mean of the arithmetic and the harmonic mean, larger than the latter.",
    stated=lambda alpha_bars, beta, dim: (
        denoising.effective_beta_limits(alpha_bars, beta=beta, dim=dim)[0],
        1 / (1 / denoising.effective_beta(alpha_bars, beta=beta, dim=dim)).mean(-1),
    ),
)
effective_beta_limits.twin(
    "limits_exchanged",
    "A strong reward meets the softer leash.",
    stated=lambda alpha_bars, beta, dim: denoising.effective_beta_limits(alpha_bars, beta=beta, dim=dim)[::-1],
)


def _log_partition(model, direction, beta):
    """log E exp(a . x / beta) by quadrature, component by component."""
    node, weight = instances.hermite(32)
    grid, weights = torch.cartesian_prod(node, node), torch.cartesian_prod(weight, weight).prod(-1)
    x = model.means[:, None] + model.variances.sqrt()[:, None, None] * grid
    return (model.weights[:, None] * weights * ((x * direction).sum(-1) / beta).exp()).sum().log()


def _tilt(model, direction, beta):
    weights, means = optima.tilted_mixture(*model, direction, beta=beta)
    return model._replace(weights=weights, means=means)


def _by_means_alone(model, direction, beta):
    share = (model.weights.log() + (model.means * direction).sum(-1) / beta).softmax(-1)
    return _tilt(model, direction, beta)._replace(weights=share)


@claim(
    "diffusion_dpo.tilted_mixture",
    equation="5.22",
    kind="identity",
    tex=r"p(x)\propto\sum_kq_k\,\mathcal{N}(m_k,s_k^2I)\,e^{a\cdot x/\beta}:\qquad m_k'=m_k+\frac{s_k^2a}{\beta},"
    r"\qquad q_k'\propto q_k\exp\Big(\frac{a\cdot m_k}{\beta}+\frac{s_k^2|a|^2}{2\beta^2}\Big)",
    source="ours (completing the square); in the plane, against the reweighted density, its constant by quadrature",
    draws=5,
    tolerance=1e-9,
)
def tilted_mixture(draw, stated=_tilt):
    beta, found, said = 0.8, [], []
    directions, points = draw.normal(2), 2 * draw.normal(5, 2)
    for model, direction, x in zip(instances.mixtures(draw, dim=2), directions, points, strict=True):
        tilted = model.log_density(x) + (x * direction).sum(-1) / beta - _log_partition(model, direction, beta)
        found.append(stated(model, direction, beta).log_density(x))
        said.append(tilted)
    return torch.stack(found), torch.stack(said)


tilted_mixture.twin(
    "components_only_shift",
    "A tilt moves mass between components too, and most of it: exponentially in a . m_k.",
    stated=lambda model, direction, beta: _tilt(model, direction, beta)._replace(weights=model.weights),
)
tilted_mixture.twin(
    "components_only_reweighed",
    "Inside a component the reward differs as well: its mean moves by its variance times a / beta.",
    stated=lambda model, direction, beta: _tilt(model, direction, beta)._replace(means=model.means),
)
tilted_mixture.twin(
    "weighed_by_their_means",
    "A wide component reaches further up the reward: only where all are equally wide does that factor drop out.",
    stated=_by_means_alone,
)
tilted_mixture.twin(
    "deviation_for_variance",
    "What tilts a Gaussian is its variance.",
    stated=lambda model, direction, beta: _tilt(model, direction, beta)._replace(
        means=model.means + model.variances.sqrt()[:, None] * direction / beta
    ),
)
tilted_mixture.twin(
    "beta_upside_down",
    "A large beta is a short leash.",
    stated=lambda model, direction, beta: _tilt(model, direction, 1 / beta),
)


CLAMP = 0.1
BETAS = (0.1, 10.0, 50.0)


def _clamped_loss(log_ratio, beta, first=CLAMP, second=CLAMP):
    """The loss of a pair of steps whose ratios are clamped, as D3PO's code has it."""
    chosen, rejected = (
        ratio.exp().clamp(1 - eps, 1 + eps).log()
        for ratio, eps in zip(log_ratio.unbind(-1), (first, second), strict=True)
    )
    nothing = torch.zeros_like(chosen)
    return objectives.dpo_loss(chosen, rejected, nothing, nothing, beta=beta)


def _bounds_from(margin):
    return lambda beta: (math.log1p(math.exp(-margin(beta))), math.log1p(math.exp(margin(beta))))


@claim(
    "diffusion_dpo.clamp_is_the_leash",
    equation="5.23",
    kind="bound",
    tex=r"\log\!\Big(1+\Big(\frac{1-c}{1+c}\Big)^{\!\beta}\Big)\le-\log\mathrm{sigmoid}\Big(\beta\log\frac{\rho_w}"
    r"{\rho_l}\Big)\le\log\!\Big(1+\Big(\frac{1+c}{1-c}\Big)^{\!\beta}\Big),\qquad\rho\in[1-c,1+c]",
    source="ours; c = 0.1 and beta = 0.1 in yk7333/d3po, commit 40d3175, the public code of Yang et al. 2024 (D3PO, "
    "arXiv 2311.13231): from 0.683164 to 0.703231. The same clamp with beta = 10 and 50 in RockeyCoss/SPO, commit "
    "27a8642, and ZichenMiao/Pairwise_Sample_Optimization, commit 85e09df",
    draws=300,
    tolerance=1e-12,
    attained=1e-8,
)
def clamp_is_the_leash(draw, stated=lambda beta: denoising.clamped_loss_bounds(beta=beta, clip_eps=CLAMP)):
    log_ratio = 0.2 * draw.normal(2)
    small, large = [], []
    for beta in BETAS:
        least, most = stated(beta)
        loss = _clamped_loss(log_ratio, beta)
        small += [torch.full_like(loss, least), loss]
        large += [loss, torch.full_like(loss, most)]
    return torch.stack(small), torch.stack(large)


clamp_is_the_leash.twin(
    "rounded_to_four_digits",
    "A bound that is rounded inwards is none: the loss reaches 0.703231.",
    stated=lambda beta: tuple(round(end, 4) for end in denoising.clamped_loss_bounds(beta=beta)),
)
clamp_is_the_leash.twin(
    "log_of_the_width",
    "By half a per cent the interval of the logarithms is wider: log 1.1 and log 0.9 are not 0.1 and -0.1.",
    stated=_bounds_from(lambda beta: 2 * CLAMP * beta),
)
clamp_is_the_leash.twin(
    "one_ratio_only",
    "Both ratios may reach the clamp, at opposite ends.",
    stated=_bounds_from(lambda beta: beta * math.log(1 + CLAMP)),
)
clamp_is_the_leash.twin(
    "as_far_down_as_up",
    "The loss is convex: it rises further above log 2 than it falls below.",
    stated=lambda beta: (
        denoising.clamped_loss_bounds(beta=beta)[0],
        2 * math.log(2) - denoising.clamped_loss_bounds(beta=beta)[0],
    ),
)
