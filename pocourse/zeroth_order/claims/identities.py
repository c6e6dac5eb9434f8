"""4.1 to 4.10: a random finite difference is REINFORCE, and how its relatives are tied to each other."""

import torch

from pocourse.lesson.claims import claim
from pocourse.zeroth_order import estimators
from pocourse.zeroth_order.claims import instances
from pocourse.zeroth_order.claims.instances import SIGMA


def _cubic(draw):
    """f of points [node, draw, 2], a random polynomial of degree three."""
    slope, square, cube, mixed = draw.normal(2), draw.normal(2), draw.normal(2), draw.normal()
    return lambda x: (slope * x + square * x**2 + cube * x**3).sum(-1) + mixed * x[..., 0] * x[..., 1] ** 2


def _over_actions(f, theta):
    """F and its gradient from the integral over the actions x, where theta stands in the density alone."""
    node, weight = instances.legendre(80)
    x = 5 * torch.cartesian_prod(node, node)[:, None]
    weight = 10**2 * torch.cartesian_prod(weight, weight).prod(-1)
    theta = theta.clone().requires_grad_()
    density = torch.distributions.Independent(torch.distributions.Normal(theta, SIGMA), 1).log_prob(x).exp()
    objective = (weight[:, None] * density * f(x)).sum(0)
    (gradient,) = torch.autograd.grad(objective.sum(), theta)
    return torch.cat((objective.detach()[:, None], gradient), -1)


def _over_directions(f, theta, scale=1.0):
    (u,), weight = instances.every_direction(4, 1, 2, len(theta))
    y = weight[:, None] * f(theta + SIGMA * u)
    return torch.cat((y.sum(0)[:, None], scale * estimators.weighted_gradient(y, u, sigma=SIGMA)), -1)


@claim(
    "zeroth_order.smoothing_is_policy",
    equation="4.1",
    kind="identity",
    tex=r"F(\theta)=\mathbb{E}_u[f(\theta+\sigma u)]=\mathbb{E}_{x\sim\mathcal{N}(\theta,\sigma^2I)}[f(x)],"
    r"\qquad\nabla F(\theta)=\frac1\sigma\,\mathbb{E}[f(\theta+\sigma u)\,u],\quad u\sim\mathcal{N}(0,I)",
    source="Williams 1992, Nesterov & Spokoiny 2017: the smoothed function is the objective of a one-step policy; "
    "cubic polynomials in the plane",
    draws=30,
    tolerance=1e-11,
)
def smoothing_is_policy(draw, found=_over_directions):
    f, theta = _cubic(draw), draw.uniform(2, low=-1, high=1)
    return found(f, theta), _over_actions(f, theta)


smoothing_is_policy.twin(
    "divided_by_sigma_twice",
    "The score is (x - theta) / sigma^2, and x - theta is sigma u: one sigma is left.",
    found=lambda f, theta: _over_directions(f, theta, 1 / SIGMA),
)
smoothing_is_policy.twin(
    "turned_into_a_reward",
    "With f and not -f in front of the score this is the gradient of a loss: it points uphill.",
    found=lambda f, theta: _over_directions(f, theta, -1.0),
)


@smoothing_is_policy.twin(
    "gradient_at_the_centre",
    "What is estimated belongs to the smoothed function: of a cubic at theta itself the slope is another.",
)
def _gradient_at_the_centre(draw):
    f, theta = _cubic(draw), draw.uniform(2, low=-1, high=1)
    at = theta.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(f(at).sum(), at)
    return torch.cat((f(theta)[:, None], gradient), -1), _over_actions(f, theta)


@claim(
    "zeroth_order.score",
    equation="4.2",
    kind="identity",
    tex=r"\nabla_\theta\log\mathcal{N}(x;\theta,\sigma^2I)=\frac{x-\theta}{\sigma^2}=\frac{u}{\sigma},"
    r"\qquad x=\theta+\sigma u",
    source="textbook (the score of a Gaussian)",
    draws=300,
    tolerance=1e-12,
)
def score(draw, stated=lambda u: u / SIGMA):
    theta, u = draw.normal(3).requires_grad_(), draw.normal(3)
    x = (theta + SIGMA * u).detach()
    logp = torch.distributions.Independent(torch.distributions.Normal(theta, SIGMA), 1).log_prob(x)
    (found,) = torch.autograd.grad(logp.sum(), theta)
    return found, stated(u)


score.twin(
    "sigma_squared",
    "With sigma^2 below, the whole step x - theta = sigma u has to stand above.",
    stated=lambda u: u / SIGMA**2,
)
score.twin(
    "direction_alone",
    "A narrow policy's probability changes faster with its centre: the score has 1 / sigma in it.",
    stated=lambda u: u,
)
score.twin(
    "gradient_in_the_action",
    "Moving x away from theta makes it less likely; moving theta towards x, more. The signs are opposite.",
    stated=lambda u: -u / SIGMA,
)


def _reinforce(cloud, baseline):
    return estimators.reinforce_gradient(cloud.plus, cloud.u, sigma=SIGMA, baseline=baseline)


@claim(
    "zeroth_order.forward_is_reinforce",
    equation="4.3",
    kind="identity",
    tex=r"\frac1K\sum_k\frac{f(\theta+\sigma u_k)-f(\theta)}{\sigma}\,u_k=\frac1K\sum_k(y_k-b)\,\frac{u_k}{\sigma},"
    r"\qquad b=f(\theta)",
    source="Qiu et al. 2025 (ZoAR) for the reading; the estimates are of Nesterov & Spokoiny 2017 and Williams 1992",
    draws=300,
    tolerance=1e-12,
)
def forward_is_reinforce(draw, stated=lambda cloud: _reinforce(cloud, cloud.base)):
    cloud = instances.cloud(draw)
    return estimators.forward_gradient(cloud.plus, cloud.base, cloud.u, sigma=SIGMA), stated(cloud)


forward_is_reinforce.twin(
    "no_baseline",
    "Both estimate the same gradient; on the same draws they differ by f(theta) times the mean direction.",
    stated=lambda cloud: _reinforce(cloud, 0.0),
)
forward_is_reinforce.twin(
    "batch_mean_as_baseline",
    "The forward difference pays for f(theta), a value of its own, which the batch mean only replaces.",
    stated=lambda cloud: _reinforce(cloud, cloud.plus.mean(0)),
)
forward_is_reinforce.twin(
    "divided_by_all_values",
    "It costs K + 1 values, but averages over K directions.",
    stated=lambda cloud: _reinforce(cloud, cloud.base) * len(cloud.u) / (len(cloud.u) + 1),
)


def _rloo(cloud):
    return estimators.rloo_gradient(cloud.plus, cloud.u, sigma=SIGMA)


@claim(
    "zeroth_order.shrink",
    equation="4.4",
    kind="identity",
    tex=r"\frac1K\sum_k(y_k-\bar y)\,\frac{u_k}{\sigma}=\Big(1-\frac1K\Big)\,\hat g^{\mathrm{RLOO}},"
    r"\qquad\hat g^{\mathrm{RLOO}}=\frac{1}{K-1}\sum_k(y_k-\bar y)\,\frac{u_k}{\sigma}",
    source="ours; leave-one-out is Kool et al. 2019",
    draws=300,
    tolerance=1e-12,
)
def shrink(draw, factor=lambda k: 1 - 1 / k):
    cloud = instances.cloud(draw)
    return _reinforce(cloud, cloud.plus.mean(0)), factor(len(cloud.u)) * _rloo(cloud)


shrink.twin(
    "as_if_unbiased",
    "Each value stands in its own baseline, and takes 1/K of itself away.",
    factor=lambda k: 1.0,
)
shrink.twin(
    "factor_upside_down",
    "The batch mean makes the estimate shorter, not longer.",
    factor=lambda k: k / (k - 1),
)
shrink.twin(
    "two_over_k",
    "Only a sample's own value is taken away, once.",
    factor=lambda k: 1 - 2 / k,
)


def _one_out(cloud, of=lambda y, k: torch.cat((y[:k], y[k + 1 :])).mean(0), divisor=lambda k: k):
    y, u = cloud.plus, cloud.u
    terms = [(y[k] - of(y, k))[:, None] * u[k] / SIGMA for k in range(len(y))]
    return torch.stack(terms).sum(0) / divisor(len(y))


@claim(
    "zeroth_order.rloo_is_leave_one_out",
    equation="4.5",
    kind="identity",
    tex=r"\hat g^{\mathrm{RLOO}}=\frac1K\sum_k(y_k-b_k)\,\frac{u_k}{\sigma},"
    r"\qquad b_k=\frac{1}{K-1}\sum_{j\ne k}y_j",
    source="Kool et al. 2019 (REINFORCE leave-one-out)",
    draws=300,
    tolerance=1e-12,
)
def rloo_is_leave_one_out(draw, stated=_one_out):
    cloud = instances.cloud(draw)
    return _rloo(cloud), stated(cloud)


rloo_is_leave_one_out.twin(
    "own_value_kept_in",
    "With its own value in it the baseline depends on the direction, and the estimate shrinks by 1 - 1/K.",
    stated=lambda cloud: _one_out(cloud, of=lambda y, k: y.mean(0)),
)
rloo_is_leave_one_out.twin(
    "corrected_twice",
    "Leaving one out and dividing by K - 1 are one correction written in two ways, not two.",
    stated=lambda cloud: _one_out(cloud, divisor=lambda k: k - 1),
)
rloo_is_leave_one_out.twin(
    "the_next_value_only",
    "One other value is a baseline without bias as well, but another estimate with more variance.",
    stated=lambda cloud: _one_out(cloud, of=lambda y, k: y[k - 1]),
)


def _covariance(cloud, centred=True, divisor=lambda k: k - 1):
    u = cloud.u - cloud.u.mean(0) if centred else cloud.u
    y = cloud.plus - cloud.plus.mean(0) if centred else cloud.plus
    return torch.einsum("kn,knd->nd", y, u) / (divisor(len(u)) * SIGMA)


@claim(
    "zeroth_order.rloo_is_covariance",
    equation="4.6",
    kind="identity",
    tex=r"\hat g^{\mathrm{RLOO}}=\frac1\sigma\operatorname{Cov}_K(u,y)"
    r"=\frac{1}{\sigma(K-1)}\sum_k(u_k-\bar u)(y_k-\bar y)",
    source="ours (Stein's identity with the sample covariance)",
    draws=300,
    tolerance=1e-12,
)
def rloo_is_covariance(draw, stated=_covariance):
    cloud = instances.cloud(draw)
    return _rloo(cloud), stated(cloud)


rloo_is_covariance.twin(
    "divided_by_k",
    "The covariance that has no bias divides by K - 1.",
    stated=lambda cloud: _covariance(cloud, divisor=lambda k: k),
)
rloo_is_covariance.twin(
    "nothing_centred",
    "Directions have mean zero, but these few do not: one of the two has to be centred.",
    stated=lambda cloud: _covariance(cloud, centred=False, divisor=lambda k: k),
)
rloo_is_covariance.twin(
    "divided_by_the_spread_of_u",
    "That is the slope of a regression; here the variance of u is known to be one, and nothing is divided by it.",
    stated=lambda cloud: _covariance(cloud) / cloud.u.var(0),
)


def _pairwise(cloud, factor=0.5, itself=False):
    y, u = cloud.plus, cloud.u
    first, second = torch.tril_indices(len(y), len(y), offset=0 if itself else -1)
    products = (y[first] - y[second]).unsqueeze(-1) * (u[first] - u[second])
    return factor * products.mean(0) / SIGMA


@claim(
    "zeroth_order.rloo_is_pairwise",
    equation="4.7",
    kind="identity",
    tex=r"\hat g^{\mathrm{RLOO}}=\frac{2}{K(K-1)}\sum_{i<j}\frac{(y_i-y_j)(u_i-u_j)}{2\sigma}",
    source="ours (a covariance over pairs)",
    draws=300,
    tolerance=1e-12,
)
def rloo_is_pairwise(draw, stated=_pairwise):
    cloud = instances.cloud(draw)
    return _rloo(cloud), stated(cloud)


rloo_is_pairwise.twin(
    "two_forgotten",
    "The difference of two directions has twice the variance of one.",
    stated=lambda cloud: _pairwise(cloud, factor=1.0),
)
rloo_is_pairwise.twin(
    "pairs_with_themselves",
    "A sample differs from itself by nothing: such pairs only dilute the mean.",
    stated=lambda cloud: _pairwise(cloud, itself=True),
)


@rloo_is_pairwise.twin(
    "neighbours_only",
    "A chain of neighbouring differences has the same mean but leaves most pairs unused.",
)
def _neighbours_only(draw):
    cloud = instances.cloud(draw)
    steps = (cloud.plus.diff(dim=0).unsqueeze(-1) * cloud.u.diff(dim=0)).mean(0)
    return _rloo(cloud), steps / (2 * SIGMA)


def _antithetic(cloud):
    return estimators.antithetic_gradient(cloud.plus, cloud.minus, cloud.u, sigma=SIGMA)


def _mirrored(cloud, baseline):
    y, u = torch.cat((cloud.plus, cloud.minus)), torch.cat((cloud.u, -cloud.u))
    return estimators.reinforce_gradient(y - baseline, u, sigma=SIGMA, baseline=0.0)


@claim(
    "zeroth_order.antithetic_any_baseline",
    equation="4.8",
    kind="identity",
    tex=r"\frac1P\sum_p\frac{f(\theta+\sigma u_p)-f(\theta-\sigma u_p)}{2\sigma}\,u_p"
    r"=\frac{1}{2P}\sum_{k=1}^{2P}(y_k-b)\,\frac{u_k}{\sigma}\qquad\text{for every }b,\quad u_{P+p}=-u_p",
    source="ours; mirrored sampling is Salimans et al. 2017",
    draws=300,
    tolerance=1e-12,
)
def antithetic_any_baseline(draw, stated=_mirrored):
    cloud, baseline = instances.cloud(draw), 3 * draw.normal()
    return _antithetic(cloud), stated(cloud, baseline)


antithetic_any_baseline.twin(
    "divisor_one_less",
    "The directions sum to zero by themselves: nothing is left to correct, and 2P - 1 makes it 2P / (2P - 1) too long.",
    stated=lambda cloud, baseline: _mirrored(cloud, baseline) * 2 * len(cloud.u) / (2 * len(cloud.u) - 1),
)
antithetic_any_baseline.twin(
    "divided_by_the_pairs",
    "A mirrored batch has 2P samples: divided by P the estimate is twice as long.",
    stated=lambda cloud, baseline: 2 * _mirrored(cloud, baseline),
)
antithetic_any_baseline.twin(
    "mirror_not_turned",
    "At theta - sigma u the score is -u / sigma; with +u the baseline stays, and the slope cancels.",
    stated=lambda cloud, baseline: estimators.reinforce_gradient(
        (cloud.plus + cloud.minus) / 2, cloud.u, sigma=SIGMA, baseline=baseline
    ),
)


@claim(
    "zeroth_order.antithetic_even_baseline",
    equation="4.9",
    kind="identity",
    tex=r"\hat g^{\pm}=\frac1P\sum_p\big(f(\theta+\sigma u_p)-b(u_p)\big)\frac{u_p}{\sigma},"
    r"\qquad b(u)=\tfrac12\big(f(\theta+\sigma u)+f(\theta-\sigma u)\big)=b(-u)",
    source="ours; an even baseline has no bias though it depends on u",
    draws=300,
    tolerance=1e-12,
)
def antithetic_even_baseline(draw, baseline=lambda cloud: (cloud.plus + cloud.minus) / 2):
    cloud = instances.cloud(draw)
    found = estimators.reinforce_gradient(cloud.plus - baseline(cloud), cloud.u, sigma=SIGMA, baseline=0.0)
    return _antithetic(cloud), found


antithetic_even_baseline.twin(
    "value_at_the_centre",
    "That is the forward difference: the curvature along u stays in it.",
    baseline=lambda cloud: cloud.base.expand_as(cloud.plus),
)
antithetic_even_baseline.twin(
    "the_mirrored_value_itself",
    "The value f(theta - sigma u) is not even in u: as a baseline it makes the estimate twice as long.",
    baseline=lambda cloud: cloud.minus,
)
antithetic_even_baseline.twin(
    "half_of_the_difference",
    "The odd half of f is the signal: the baseline must hold the even one.",
    baseline=lambda cloud: (cloud.plus - cloud.minus) / 2,
)


def _shifted(y, u, shift):
    return estimators.rloo_gradient(y + shift, u, sigma=SIGMA)


@claim(
    "zeroth_order.invariances",
    equation="4.10",
    kind="identity",
    tex=r"\hat g^{\mathrm{RLOO}}(y+c)=\hat g^{\mathrm{RLOO}}(y),\qquad\hat g^{\mathrm{RLOO}}(a\,y)=a\,\hat g^"
    r"{\mathrm{RLOO}}(y),\qquad c_k(h(y))=c_k(y)\quad\text{for every strictly increasing }h",
    source="ours; centred ranks c_k are Salimans et al. 2017",
    draws=300,
    tolerance=1e-12,
)
def invariances(draw, shifted=_shifted, power=1, increasing=lambda y: y.exp() + y):
    cloud = instances.cloud(draw)
    y, scale = cloud.plus, draw.uniform(low=0.1, high=3)
    ranks = [
        estimators.weighted_gradient(estimators.centred_ranks(v), cloud.u, sigma=SIGMA) for v in (increasing(y), y)
    ]
    found = shifted(y, cloud.u, draw.normal()), estimators.rloo_gradient(scale * y, cloud.u, sigma=SIGMA), ranks[0]
    plain = _rloo(cloud)
    return torch.stack(found), torch.stack((plain, scale[:, None] ** power * plain, ranks[1]))


invariances.twin(
    "scale_does_not_matter",
    "Values twice as large are a gradient twice as long: leave-one-out takes the level away, not the unit.",
    power=0,
)
invariances.twin(
    "any_map_will_do",
    "A map that turns back, as the square does, changes who is better: ranks follow.",
    increasing=lambda y: (y - y.mean(0)) ** 2,
)
invariances.twin(
    "decreasing_map",
    "What was best is worst now: the ranks change their signs.",
    increasing=lambda y: -y,
)


invariances.twin(
    "shift_without_a_baseline",
    "With a fixed baseline a shift adds itself times the mean direction, which is not zero.",
    shifted=lambda y, u, shift: (
        _shifted(y, u, 0.0) + estimators.reinforce_gradient(shift.expand_as(y), u, sigma=SIGMA, baseline=0.0)
    ),
)
