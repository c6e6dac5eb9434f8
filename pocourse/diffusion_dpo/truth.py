"""Estimator against truth: what draws of (t, noise) know about a pair, where log-ratio and gradient are in closed form.

The world is a mixture of three Gaussians in the plane and a linear reward a.x. The policy is the reference tilted half
way to its Gibbs policy, so its own reward is known for every point, and so is DPO's gradient. The estimators differ in
the weight they give a noise level, in whether a pair shares its noise, and in how many draws are averaged before the
logarithm is taken. What is sampled comes with its standard error.
"""

import functools
import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, logsigmoid

from pocourse.diffusion_dpo import denoising, optima

F64 = torch.float64
WEIGHTS, MEANS, VARIANCES = (0.5, 0.3, 0.2), ((-1.5, 0.0), (0.8, 1.2), (1.2, -1.2)), (0.16, 0.25, 0.36)
DIRECTION, BETA, HALFWAY = (1.0, 0.5), 1.0, 2.0  # the policy is the tilt at HALFWAY times beta
PAIRS, DRAWS, BATCHES = 64, 1024, 64
SCHEDULE = "squaredcos_cap_v2"


class Estimator(NamedTuple):
    """How a margin is estimated. ``weighted``: one half per unit of log SNR; ``shared``: one noise for both images."""

    weighted: bool
    shared: bool
    draws: int = 1


ESTIMATORS = {
    "weight w_t, noise of its own": Estimator(True, False),
    "weight w_t, shared noise": Estimator(True, True),
    "weight w_t, shared, 16 draws": Estimator(True, True, 16),
    "constant weight, noise of its own": Estimator(False, False),
    "constant weight, shared noise": Estimator(False, True),
    "constant weight, shared, 16 draws": Estimator(False, True, 16),
}
DIFFUSION_DPO = "constant weight, shared noise"


class Mixture(NamedTuple):
    """Isotropic Gaussians: ``weights`` and ``variances`` [component], ``means`` [component, dim]."""

    weights: Tensor
    means: Tensor
    variances: Tensor


def reference() -> Mixture:
    """The mixture that the pairs are drawn from."""
    return Mixture(*(torch.tensor(x, dtype=F64) for x in (WEIGHTS, MEANS, VARIANCES)))


def parameters() -> Tensor:
    """Of the policy, the tilted mixture, as one vector: logits, means, log-variances."""
    ref = reference()
    weights, means = optima.tilted_mixture(*ref, torch.tensor(DIRECTION, dtype=F64), beta=HALFWAY * BETA)
    return torch.cat([weights.log(), means.flatten(), ref.variances.log()])


def mixture_of(vector: Tensor) -> Mixture:
    """The mixture that a vector of parameters stands for."""
    count = len(WEIGHTS)
    logits, means, logs = vector.split([count, 2 * count, count])
    return Mixture(logits.softmax(0), means.unflatten(0, (count, 2)), logs.exp())


class Pairs(NamedTuple):
    """Pairs of points [pair, dim], labelled by a Bradley-Terry draw of the reward."""

    chosen: Tensor
    rejected: Tensor


@functools.cache
def pairs() -> Pairs:
    """The pairs on which all estimators are judged."""
    generator, ref = torch.Generator().manual_seed(0), reference()
    component = torch.multinomial(ref.weights, 2 * PAIRS, replacement=True, generator=generator)
    spread = torch.randn(2 * PAIRS, 2, generator=generator, dtype=F64)
    x = ref.means[component] + ref.variances[component].sqrt().unsqueeze(-1) * spread
    a, b = x.chunk(2)
    reward = (a - b) @ torch.tensor(DIRECTION, dtype=F64)
    first = torch.rand(PAIRS, generator=generator, dtype=F64) < reward.sigmoid()
    return Pairs(torch.where(first.unsqueeze(-1), a, b), torch.where(first.unsqueeze(-1), b, a))


def log_ratio(vector: Tensor) -> Tensor:
    """The true log-ratio of policy and reference, chosen less rejected: [pair]."""
    policy, ref = mixture_of(vector), reference()
    chosen, rejected = (
        denoising.mixture_log_density(x, *policy) - denoising.mixture_log_density(x, *ref) for x in pairs()
    )
    return chosen - rejected


@functools.cache
def schedule() -> tuple[Tensor, Tensor]:
    """alpha_bar of the time steps from the second on, and the weight w_t of each, both [time]."""
    from diffusers import DDPMScheduler

    alpha_bar = DDPMScheduler(1000, beta_schedule=SCHEDULE).alphas_cumprod.to(F64)
    return alpha_bar[1:], denoising.kl_weight(alpha_bar[1:], alpha_bar[:-1])


class Draws(NamedTuple):
    """Time steps [draw, pair], and the noises of both images [draw, pair, dim]."""

    step: Tensor
    noise_chosen: Tensor
    noise_rejected: Tensor


def draw(count: int, *, shared: bool, generator: torch.Generator) -> Draws:
    """Uniform time steps and standard normal noises."""
    step = torch.randint(len(schedule()[0]), (count, PAIRS), generator=generator)
    noise = torch.randn(2, count, PAIRS, 2, generator=generator, dtype=F64)
    return Draws(step, noise[0], noise[0] if shared else noise[1])


def differences(vector: Tensor, draws: Draws) -> Tensor:
    """Squared error above the reference's, summed over the dimensions, chosen less rejected: [draw, pair]."""
    alpha_bar, models = schedule()[0][draws.step], (mixture_of(vector), reference())
    found = []
    for x0, noise in zip(pairs(), draws[1:], strict=True):
        xt = denoising.noised(x0.expand_as(noise), noise, alpha_bar)
        theta, ref = (((noise - denoising.mixture_noise(xt, *m, alpha_bar)) ** 2).sum(-1) for m in models)
        found.append(theta - ref)
    return found[0] - found[1]


@functools.cache
def constant_weight() -> float:
    """The weight for all noise levels that fits the true log-ratios best on average, by least squares."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        mean = -differences(parameters(), draw(DRAWS, shared=True, generator=generator)).mean(0)
        h = log_ratio(parameters())
    return float((mean * h).sum() / (mean * mean).sum())


def estimates(vector: Tensor, estimator: Estimator, count: int, *, generator: torch.Generator) -> Tensor:
    """So many estimates of every pair's log-ratio: [count, pair]."""
    draws = draw(count * estimator.draws, shared=estimator.shared, generator=generator)
    alpha_bar, weight = schedule()
    by_level = len(alpha_bar) * weight[draws.step] if estimator.weighted else constant_weight()
    return (-by_level * differences(vector, draws)).unflatten(0, (count, estimator.draws)).mean(1)


def gradient(vector: Tensor, margins) -> Tensor:
    """Of the mean loss -log sigmoid(beta h) with respect to the parameters, for margins as a function of them."""
    vector = vector.clone().requires_grad_()
    (found,) = torch.autograd.grad(-logsigmoid(BETA * margins(vector)).mean(), vector)
    return found


class Row(NamedTuple):
    """What one estimator makes of the pairs.

    ``slope`` and ``error`` are of a line through the origin that fits the mean estimates to the true log-ratios: 1 and
    0 would be unbiased; ``error`` is what the line leaves, as a share of the log-ratios' spread. ``sd`` is the standard
    deviation of one estimate on the same scale. ``loss`` is the mean loss, ``mean_cosine`` that of the mean gradient
    with DPO's, ``cosine`` of one batch's, with its standard error. ``calls`` counts noisy images for the denoisers.
    """

    name: str
    slope: float
    error: float
    sd: float
    loss: float
    mean_cosine: float
    cosine: float
    cosine_se: float
    calls: int


def judge(name: str) -> Row:
    """One row of the table."""
    estimator, vector = ESTIMATORS[name], parameters()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        h = log_ratio(vector)
        found = estimates(vector, estimator, DRAWS // estimator.draws, generator=generator)
    mean, scale = found.mean(0), h.std()
    slope = float((mean * h).sum() / (h * h).sum())
    exact = gradient(vector, log_ratio)
    count = DRAWS // estimator.draws
    whole = gradient(vector, lambda v: estimates(v, estimator, count, generator=generator))
    batches = torch.stack(
        [gradient(vector, lambda v: estimates(v, estimator, 1, generator=generator)) for _ in range(BATCHES)]
    )
    cosines = cosine_similarity(batches, exact, dim=-1)
    return Row(
        name,
        slope,
        float((mean - slope * h).square().mean().sqrt() / scale),
        float(found.var(0).mean().sqrt() / scale),
        float(-logsigmoid(BETA * found).mean()),
        float(cosine_similarity(whole, exact, dim=0)),
        float(cosines.mean()),
        float(cosines.std() / math.sqrt(BATCHES)),
        4 * estimator.draws,
    )


@functools.cache
def rows() -> list[Row]:
    """All estimators, judged on the same pairs."""
    return [judge(name) for name in ESTIMATORS]


def exact_loss() -> float:
    """DPO's loss on the pairs, with the true log-ratios."""
    with torch.no_grad():
        return float(-logsigmoid(BETA * log_ratio(parameters())).mean())


def table() -> str:
    """The rows as Markdown."""
    head = (
        "| estimate of the log-ratio | slope | left over | sd of one | loss | cosine of the mean gradient "
        "| of one batch | noisy images a pair |\n|---|---|---|---|---|---|---|---|\n"
        f"| the truth (DPO) | 1 | 0 | 0 | {exact_loss():.3f} | 1 | 1 | |\n"
    )
    lines = [
        f"| {r.name} | {r.slope:.2f} | {r.error:.2f} | {r.sd:.2f} | {r.loss:.3f} | {r.mean_cosine:.2f} "
        f"| {r.cosine:.2f} ± {2 * r.cosine_se:.2f} | {r.calls} |\n"
        for r in rows()
    ]
    return head + "".join(lines)
