"""4.18 to 4.21: what smoothing makes of a function, with a Gaussian, a sphere or a ball, and how wide it should be."""

import math

import torch

from pocourse.lesson.claims import claim
from pocourse.zeroth_order import bounds, estimators
from pocourse.zeroth_order.claims import instances

WIDE = 0.8


def _smoothed_slope(f, x, u, weight):
    """E[f(x + sigma u) u] / sigma for points x [draw], with nodes and weights [node] or [node, draw]."""
    u = u.expand(len(u), len(x))
    weights = weight.expand_as(u) * f(x + WIDE * u)
    return estimators.weighted_gradient(weights, u.unsqueeze(-1), sigma=WIDE).squeeze(-1)


def _cubic_slope(x, s):
    return 3 * x**2 + 3 * s**2


def _sine_slope(x, s):
    return math.exp(-(s**2) / 2) * x.cos()


@claim(
    "zeroth_order.smoothing_cubic_sine",
    equation="4.18",
    kind="identity",
    tex=r"f=x^3:\quad F'(x)=3x^2+3\sigma^2,\qquad\qquad f=\operatorname{sin}x:\quad "
    r"F'(x)=e^{-\sigma^2/2}\operatorname{cos}x",
    source="textbook (moments and characteristic function of a Gaussian)",
    draws=200,
    tolerance=1e-12,
)
def smoothing_cubic_sine(draw, cubic=_cubic_slope, sine=_sine_slope):
    x = 2 * draw.normal()
    u, weight = instances.hermite(24)
    found = [_smoothed_slope(f, x, u, weight[:, None]) for f in (lambda x: x**3, torch.sin)]
    return torch.stack(found), torch.stack((cubic(x, WIDE), sine(x, WIDE)))


smoothing_cubic_sine.twin(
    "slope_at_the_point",
    "Smoothing moves the gradient wherever the function has a third derivative.",
    cubic=lambda x, s: 3 * x**2,
    sine=lambda x, s: x.cos(),
)
smoothing_cubic_sine.twin(
    "value_of_the_mean",
    "Smoothing adds 3 sigma^2 x to the value of x^3, and so 3 sigma^2 to its slope.",
    cubic=lambda x, s: 3 * x**2 + 3 * s**2 * x,
)
smoothing_cubic_sine.twin(
    "half_forgotten",
    "The wave fades as exp(-sigma^2 / 2), as the characteristic function of a Gaussian does.",
    sine=lambda x, s: math.exp(-(s**2)) * x.cos(),
)


def _split_at(kink):
    """Gauss-Legendre on either side of a kink, the density of u in the weights: ten deviations to each end."""
    node, weight = instances.legendre(80)
    points, weights = [], []
    for low, high in ((torch.full_like(kink, -10), kink), (kink, torch.full_like(kink, 10))):
        u = (low + high) / 2 + (high - low) / 2 * node[:, None]
        points.append(u)
        weights.append((high - low) * weight[:, None] * (-(u**2) / 2).exp() / math.sqrt(2 * math.pi))
    return torch.cat(points), torch.cat(weights)


def _across(kink):
    node, weight = instances.hermite(40)
    return node, weight[:, None]


def _step(x):
    return (x > 0).double()


def _step_slope(x, s):
    return (-(x**2) / (2 * s**2)).exp() / (s * math.sqrt(2 * math.pi))


def _abs_slope(x, s):
    return (x / (s * math.sqrt(2))).erf()


@claim(
    "zeroth_order.smoothing_step_abs",
    equation="4.19",
    kind="identity",
    tex=r"f=1_{x>0}:\quad F'(x)=\frac{1}{\sigma\sqrt{2\pi}}\,e^{-x^2/2\sigma^2},\qquad\qquad f=|x|:\quad "
    r"F'(x)=\operatorname{erf}\frac{x}{\sigma\sqrt2}",
    source="textbook (a Gaussian's density and distribution function)",
    draws=200,
    tolerance=1e-11,
)
def smoothing_step_abs(draw, rule=_split_at, step=_step_slope, absolute=_abs_slope):
    x = draw.uniform(low=-2, high=2)
    u, weight = rule(-x / WIDE)
    found = [_smoothed_slope(f, x, u, weight) for f in (_step, torch.abs)]
    return torch.stack(found), torch.stack((step(x, WIDE), absolute(x, WIDE)))


smoothing_step_abs.twin(
    "quadrature_across_the_kink",
    "Gauss-Hermite takes its integrand for a polynomial: across a step forty nodes are still off in the first digits.",
    rule=_across,
)
smoothing_step_abs.twin(
    "slope_almost_everywhere",
    "A step has slope zero wherever it has one, and |x| the sign: values tell more than these slopes.",
    step=lambda x, s: torch.zeros_like(x),
    absolute=lambda x, s: x.sign(),
)
smoothing_step_abs.twin(
    "root_two_forgotten",
    "The error function belongs to a Gaussian of variance one half.",
    absolute=lambda x, s: (x / s).erf(),
)


def _gradient_of_average(f, rule):
    """The gradient of the mean over sphere or ball, through the values."""
    points, weight = rule
    theta = f.theta.clone().requires_grad_()
    average = instances.mean(weight, f._replace(theta=theta).at(WIDE * points[:, None]))
    return torch.autograd.grad(average.sum(), theta)[0]


def _sphere_estimate(f, factor):
    points, weight = instances.sphere(f.theta.shape[-1])
    u = points[:, None].expand(-1, *f.theta.shape)
    weights = weight[:, None] * f.at(WIDE * u)
    return estimators.weighted_gradient(weights, factor * u, sigma=WIDE)


@claim(
    "zeroth_order.sphere_and_ball",
    equation="4.20",
    kind="identity",
    tex=r"\frac d\sigma\,\mathbb{E}_{|v|=1}[f(\theta+\sigma v)\,v]=\nabla\,\mathbb{E}_{|w|\le1}[f(\theta+\sigma w)],"
    r"\qquad\mathbb{E}_{|w|\le1}[w\cdot Hw]=\frac{\operatorname{tr}H}{d+2},\quad"
    r"\mathbb{E}_{|v|=1}[v\cdot Hv]=\frac{\operatorname{tr}H}{d}",
    source="Flaxman, Kalai & McMahan 2005; v and w uniform. A quadratic's averages lie above f(theta) by sigma^2 / 2 "
    "times the last two. Checked for d = 2 and d = 3",
    draws=30,
    tolerance=1e-11,
)
def sphere_and_ball(draw, average=instances.ball, factor=lambda d: d, inside=lambda d: 2 * (d + 2)):
    found, said = [], []
    for d in (2, 3):
        curved, flat = instances.curved(draw, d), instances.quadratic(draw, d)
        found.append(_sphere_estimate(curved, factor(d)))
        said.append(_gradient_of_average(curved, average(d)))
        for (points, weight), divisor in ((instances.ball(d), inside(d)), (instances.sphere(d), 2 * d)):
            found.append((instances.mean(weight, flat.at(WIDE * points[:, None])) - flat.value)[:, None])
            said.append((WIDE**2 * flat.trace / divisor)[:, None])
    return torch.cat(found, -1), torch.cat(said, -1)


sphere_and_ball.twin(
    "average_over_the_sphere",
    "By the divergence theorem values on the sphere tell the slope of the mean over the ball inside of it.",
    average=instances.sphere,
)
sphere_and_ball.twin(
    "dimension_forgotten",
    "A unit vector is shorter than a Gaussian one by the root of d: d makes up for it, once for f and once for v.",
    factor=lambda d: 1,
)
sphere_and_ball.twin(
    "ball_as_wide_as_the_sphere",
    "Inside the ball |w|^2 is d / (d + 2) on average, not one.",
    inside=lambda d: 2 * d,
)


def _noisy_estimate(f, sigma, noise_std, k, known):
    """All estimates from noisy values [node, draw, dim], and the weights; sigma may be differentiated."""
    dim = f.gradient.shape[-1]
    grid, weight = instances.hermite(instances.EXACT_FOR_QUADRATICS, k * dim + k + (not known))
    u, noise = grid[:, : k * dim].view(-1, k, dim).movedim(1, 0), noise_std * grid[:, k * dim :].mT[..., None]
    u = u.unsqueeze(2).expand(-1, -1, len(f.value), -1)
    y = f.at(sigma[:, None] * u) + noise[:k]
    baseline = f.value + sigma**2 / 2 * f.trace if known else f.value + noise[k]
    return estimators.weighted_gradient((y - baseline) / (k * sigma), u, sigma=1.0), weight


def _growth(f, sigma, noise_std, k, known):
    """d log V / d log sigma of the exact variance; zero where sigma is best."""
    at = sigma.clone().requires_grad_()
    estimate, weight = _noisy_estimate(f, at, noise_std, k, known)
    variance = instances.trace(weight, estimate)
    (slope,) = torch.autograd.grad(variance.sum(), at)
    return slope * sigma / variance.detach()


@claim(
    "zeroth_order.optimal_radius",
    equation="4.21",
    kind="identity",
    tex=r"\sigma_*^4=\frac{8\,d\,\nu^2}{(d+4)\big((\operatorname{tr}H)^2+2\operatorname{tr}H^2\big)}\quad(b=f(\theta)),"
    r"\qquad\sigma_*^4=\frac{2\,d\,\nu^2}{(d+4)\operatorname{tr}H^2}\quad(b=F(\theta)),\qquad\text{for every }K",
    source="ours; f quadratic, every value with independent noise of variance nu^2, F(theta) known without; at sigma_* "
    "the variance has slope zero",
    draws=10,
    tolerance=1e-11,
)
def optimal_radius(draw, forward=bounds.forward_radius, averaged=bounds.averaged_radius, grows=lambda k: 1.0):
    f = instances.quadratic(draw, 2)
    noise_std = float(draw.uniform(low=0.2, high=2)[0])
    found = []
    for k in (1, 2):
        for known, radius in ((False, forward), (True, averaged)):
            found.append(_growth(f, grows(k) * radius(f.hessian, noise_std=noise_std), noise_std, k, known))
    return torch.stack(found), torch.zeros(4, draw.count, dtype=torch.float64)


optimal_radius.twin(
    "wider_with_more_directions",
    "K divides noise and curvature alike: what is best for one direction is best for many.",
    grows=lambda k: k**0.25,
)
optimal_radius.twin(
    "base_value_without_noise",
    "The value at theta is noisy as well, and all directions share its error: the noise counts twice.",
    forward=lambda hessian, noise_std: bounds.forward_radius(hessian, noise_std=noise_std) / 2**0.25,
)
optimal_radius.twin(
    "deviation_not_squared",
    "The radius grows with the square root of the noise's deviation: the fourth power needs the variance.",
    averaged=lambda hessian, noise_std: bounds.averaged_radius(hessian, noise_std=math.sqrt(noise_std)),
)
