"""4.11 to 4.17: how much each estimate scatters, on quadratics and, where it can be said, on any function.

Nothing is sampled: the left sides run the estimators on all directions of a Gauss-Hermite grid.
"""

import torch

from pocourse.lesson.claims import claim
from pocourse.zeroth_order import bounds, estimators
from pocourse.zeroth_order.claims import instances
from pocourse.zeroth_order.claims.instances import EXACT_FOR_QUADRATICS, SIGMA

DIRECTIONS = 2


def _grid(f, directions=1, nodes=EXACT_FOR_QUADRATICS):
    """Directions [direction, node, draw, dim], the values there, and the weights of the nodes."""
    dim = f.gradient.shape[-1] if isinstance(f, instances.Quadratic) else f.slope.shape[-1]
    u, weight = instances.every_direction(nodes, directions, dim, len(f[0]))
    return u, f.at(SIGMA * u), weight


def _reinforce_variance(f, baseline, directions=1, nodes=EXACT_FOR_QUADRATICS):
    u, y, weight = _grid(f, directions, nodes)
    estimate = estimators.reinforce_gradient(y, u, sigma=SIGMA, baseline=baseline.expand(y.shape[1:]))
    return instances.trace(weight, estimate)


def _square(x):
    return (x**2).sum(-1)


@claim(
    "zeroth_order.single_sample_variance",
    equation="4.11",
    kind="identity",
    tex=r"\operatorname{tr}\operatorname{Var}[\hat g]=\frac{d\,D^2}{\sigma^2}+(d+1)|g|^2+\frac{\sigma^2}{4}(d+4)"
    r"\big((\operatorname{tr}H)^2+2\operatorname{tr}H^2\big)\quad+(d+2)\,D\operatorname{tr}H,\qquad D=f(\theta)-b",
    source="ours; f quadratic with gradient g and Hessian H at theta, REINFORCE with one direction and a constant b",
    draws=100,
    tolerance=1e-12,
)
def single_sample_variance(draw, stated=bounds.single_sample_variance):
    f, offset = instances.quadratic(draw, 3), draw.normal()
    return _reinforce_variance(f, f.value - offset), stated(offset, f.gradient, f.hessian, sigma=SIGMA)


def _without(term):
    def stated(offset, gradient, hessian, *, sigma):
        trace, square = hessian.diagonal(dim1=-2, dim2=-1).sum(-1), (hessian**2).sum((-2, -1))
        whole = bounds.single_sample_variance(offset, gradient, hessian, sigma=sigma)
        return whole - term(offset, gradient, trace, square)

    return stated


single_sample_variance.twin(
    "mean_not_taken_away",
    "With d + 2 in front of |g|^2 it is the mean square: the variance has lost one |g|^2.",
    stated=_without(lambda offset, gradient, trace, square: -_square(gradient)),
)
single_sample_variance.twin(
    "no_cross_term",
    "Offset and curvature are both even in u: their product does not average out.",
    stated=_without(lambda offset, gradient, trace, square: 5 * offset * trace),
)
single_sample_variance.twin(
    "curvature_squared_mean_only",
    "The curvature u H u has mean tr H, but it varies too: 2 tr H^2 belongs to its square.",
    stated=_without(lambda offset, gradient, trace, square: SIGMA**2 / 2 * 7 * square),
)


def _forward(f, directions):
    return bounds.forward_variance(f.gradient, f.hessian, sigma=SIGMA, directions=directions)


@claim(
    "zeroth_order.forward_variance",
    equation="4.12",
    kind="identity",
    tex=r"b=f(\theta):\qquad\operatorname{tr}\operatorname{Var}[\hat g]=\frac1K\Big((d+1)|g|^2"
    r"+\frac{\sigma^2}{4}(d+4)\big((\operatorname{tr}H)^2+2\operatorname{tr}H^2\big)\Big)",
    source="ours; f quadratic, K independent directions",
    draws=50,
    tolerance=1e-12,
)
def forward_variance(draw, stated=_forward):
    f = instances.quadratic(draw, 2)
    u, y, weight = _grid(f, DIRECTIONS)
    estimate = estimators.forward_gradient(y, f.value.expand(y.shape[1:]), u, sigma=SIGMA)
    return instances.trace(weight, estimate), stated(f, DIRECTIONS)


forward_variance.twin(
    "base_value_divides_too",
    "K + 1 values are paid for, and K of them are averaged.",
    stated=lambda f, k: _forward(f, k) * k / (k + 1),
)
forward_variance.twin(
    "gradient_times_d",
    "Along g the estimate varies twice as much as across it: d + 1, not d.",
    stated=lambda f, k: _forward(f, k) - _square(f.gradient) / k,
)
forward_variance.twin(
    "only_the_linear_part",
    "A wide sigma feels the curvature, which f(theta) as the baseline does not take away.",
    stated=lambda f, k: bounds.antithetic_variance(f.gradient, pairs=k),
)


def _averaged(f, directions):
    return bounds.averaged_variance(f.gradient, f.hessian, sigma=SIGMA, directions=directions)


@claim(
    "zeroth_order.averaged_variance",
    equation="4.13",
    kind="identity",
    tex=r"b=F(\theta):\qquad\operatorname{tr}\operatorname{Var}[\hat g]=\frac1K\Big((d+1)|g|^2"
    r"+\frac{\sigma^2}{2}(d+4)\operatorname{tr}H^2\Big)",
    source="ours; f quadratic, F(theta) known, K independent directions",
    draws=50,
    tolerance=1e-12,
)
def averaged_variance(draw, stated=_averaged):
    f = instances.quadratic(draw, 2)
    _, y, weight = _grid(f)
    return _reinforce_variance(f, instances.mean(weight, y[0]), DIRECTIONS), stated(f, DIRECTIONS)


averaged_variance.twin(
    "as_with_the_value_at_theta",
    "The smoothed value takes the mean of the curvature away, and with it (tr H)^2.",
    stated=_forward,
)
averaged_variance.twin(
    "curvature_halved",
    "Of the forward difference's curvature 2 tr H^2 / 4 stays, which is a half and not a quarter.",
    stated=lambda f, k: _averaged(f, k) - SIGMA**2 / 4 * 6 * f.square_trace / k,
)
averaged_variance.twin(
    "trace_squared",
    "The trace of H^2 adds the squared curvatures; (tr H)^2 lets a saddle look flat.",
    stated=lambda f, k: _averaged(f, k) + SIGMA**2 / 2 * 6 * (f.trace**2 - f.square_trace) / k,
)


@claim(
    "zeroth_order.antithetic_variance",
    equation="4.14",
    kind="identity",
    tex=r"\operatorname{tr}\operatorname{Var}[\hat g^{\pm}]=\frac{d+1}{P}\,|g|^2\qquad\text{whatever }H\text{ and }"
    r"\sigma",
    source="ours; f quadratic, P independent pairs, 2P values",
    draws=50,
    tolerance=1e-12,
)
def antithetic_variance(draw, stated=lambda f, pairs: bounds.antithetic_variance(f.gradient, pairs=pairs)):
    f = instances.quadratic(draw, 2)
    u, y, weight = _grid(f, DIRECTIONS)
    estimate = estimators.antithetic_gradient(y, f.at(-SIGMA * u), u, sigma=SIGMA)
    return instances.trace(weight, estimate), stated(f, DIRECTIONS)


antithetic_variance.twin(
    "all_values_count",
    "The two values of a pair share a direction: they are one sample, not two.",
    stated=lambda f, pairs: bounds.antithetic_variance(f.gradient, pairs=2 * pairs),
)
antithetic_variance.twin(
    "curvature_kept",
    "The curvature u H u is the same at both ends of a pair, and cancels.",
    stated=_averaged,
)
antithetic_variance.twin(
    "gradient_times_d",
    "Along g the estimate varies twice as much as across it: d + 1, not d.",
    stated=lambda f, pairs: 2 * _square(f.gradient) / pairs,
)


def _moments(f, nodes):
    """V_1, the smoothed gradient and the variance of a value, by quadrature over one direction."""
    u, y, weight = _grid(f, 1, nodes)
    smoothed = instances.mean(weight, y[0])
    gradient = instances.mean(weight, y[0].unsqueeze(-1) * u[0]) / SIGMA
    variance = instances.mean(weight, (y[0] - smoothed) ** 2)
    return _reinforce_variance(f, smoothed, 1, nodes), gradient, variance


def _known_moments(f):
    spread = SIGMA**2 * _square(f.gradient) + SIGMA**4 / 2 * f.square_trace
    return _averaged(f, 1), f.gradient, spread


@claim(
    "zeroth_order.rloo_variance",
    equation="4.15",
    kind="identity",
    tex=r"\operatorname{tr}\operatorname{Var}[\hat g^{\mathrm{RLOO}}]=\frac{V_1}{Q}+\frac{|\nabla F|^2"
    r"+d\operatorname{Var}[y]/\sigma^2}{Q(Q-1)}\qquad\text{for every }f,\quad V_1=\operatorname{tr}\operatorname{Var}"
    r"\Big[(y-F)\frac u\sigma\Big]",
    source="ours, from the variance of a sample covariance (textbook); quadratics in the plane, curved f on a line",
    draws=15,
    tolerance=1e-11,
)
def rloo_variance(draw, stated=bounds.rloo_variance, queries=3):
    flat, curved = instances.quadratic(draw, 2), instances.curved(draw, 1)
    found, said = [], []
    for f, nodes, known in ((flat, EXACT_FOR_QUADRATICS, _known_moments(flat)), (curved, 20, _moments(curved, 20))):
        u, y, weight = _grid(f, queries, nodes)
        found.append(instances.trace(weight, estimators.rloo_gradient(y, u, sigma=SIGMA)))
        said.append(stated(*known, queries=queries, sigma=SIGMA))
    return torch.stack(found), torch.stack(said)


rloo_variance.twin(
    "as_if_the_mean_were_known",
    "The baseline is estimated from the same few values, and its error is paid for.",
    stated=lambda averaged, gradient, variance, *, queries, sigma: averaged / queries,
)
rloo_variance.twin(
    "one_query_lost",
    "The price of the baseline depends on the spread of the values; it is not one query of Q.",
    stated=lambda averaged, gradient, variance, *, queries, sigma: averaged / (queries - 1),
)
rloo_variance.twin(
    "values_only",
    "The errors of two samples' baselines go together: that is where |grad F|^2 comes from.",
    stated=lambda averaged, gradient, variance, *, queries, sigma: bounds.rloo_variance(
        averaged, torch.zeros_like(gradient), variance, queries=queries, sigma=sigma
    ),
)


def _ratio(d, sigma):
    return 1 + sigma**2 * d / 4 * (d + 4) / (d + 1 + sigma**2 / 2 * (d + 4))


@claim(
    "zeroth_order.variance_ratio",
    equation="4.16",
    kind="identity",
    tex=r"\frac{V_{b=f(\theta)}}{V_{b=F(\theta)}}=\frac{(d+1)+\frac{\sigma^2}{4}(d+2)(d+4)}"
    r"{(d+1)+\frac{\sigma^2}{2}(d+4)}=1+\frac{\sigma^2d}{4}\cdot\frac{d+4}{d+1+\frac{\sigma^2}{2}(d+4)}"
    r"\qquad f=\tfrac12|x|^2,\ |g|^2=d",
    source="ours; near 1 + sigma^2 d / 4 for small sigma and many dimensions",
    draws=20,
    tolerance=1e-12,
)
def variance_ratio(draw, stated=_ratio):
    sigma = draw.uniform(low=0.4, high=2)
    found = []
    for d in (1, 2, 3, 4):
        theta = draw.normal(d)
        theta = theta * (d / _square(theta)).sqrt().unsqueeze(-1)
        (u,), weight = instances.every_direction(EXACT_FOR_QUADRATICS, 1, d, draw.count)
        y = _square(theta + sigma.unsqueeze(-1) * u) / 2
        # The radius differs from draw to draw, and the estimator takes one for all: the quotient does not see it.
        found.append([_variance_about(y, u, weight, b) for b in (_square(theta) / 2, instances.mean(weight, y))])
    left = torch.stack([forward / averaged for forward, averaged in found])
    return left, torch.stack([stated(d, sigma) for d in (1, 2, 3, 4)])


def _variance_about(y, u, weight, baseline):
    estimate = estimators.reinforce_gradient(y[None], u[None], sigma=1.0, baseline=baseline.expand_as(y))
    return instances.trace(weight, estimate)


variance_ratio.twin(
    "first_order_in_many_dimensions",
    "Only with small sigma and many dimensions is 1 + sigma^2 d / 4 what is left of it.",
    stated=lambda d, sigma: 1 + sigma**2 * d / 4,
)
variance_ratio.twin(
    "averaging_leaves_no_curvature",
    "The smoothed value takes (tr H)^2 away, not tr H^2: the denominator feels sigma as well.",
    stated=lambda d, sigma: 1 + sigma**2 / 4 * (d + 2) * (d + 4) / (d + 1),
)
variance_ratio.twin(
    "upside_down",
    "The better baseline scatters less: the quotient is above one.",
    stated=lambda d, sigma: 1 / _ratio(d, sigma),
)


def _excess(baseline, best, d):
    return d * (baseline - best) ** 2 / SIGMA**2


@claim(
    "zeroth_order.optimal_baseline",
    equation="4.17",
    kind="identity",
    tex=r"b^*=\frac1d\,\mathbb{E}\big[|u|^2f(\theta+\sigma u)\big]=f(\theta)+\frac{\sigma^2}{2}\operatorname{tr}H\,"
    r"\frac{d+2}{d},\qquad V_b-V_{b^*}=\frac{d}{\sigma^2}(b-b^*)^2",
    source="textbook (Greensmith et al. 2004); the form with tr H, for quadratics, is ours. The rest: any f",
    draws=50,
    tolerance=1e-11,
)
def optimal_baseline(draw, stated=bounds.optimal_baseline, weigh=_square, excess=_excess):
    flat, curved = instances.quadratic(draw, 3), instances.curved(draw, 2)
    found = []
    for f, nodes in ((flat, EXACT_FOR_QUADRATICS), (curved, 16)):
        (u,), (y,), weight = _grid(f, 1, nodes)
        found.append(instances.mean(weight, weigh(u) * y) / instances.mean(weight, weigh(u)))
    baseline = found[1] + draw.normal()
    more = _reinforce_variance(curved, baseline, 1, 16) - _reinforce_variance(curved, found[1], 1, 16)
    said = stated(flat.value, flat.hessian, sigma=SIGMA), excess(baseline, found[1], 2)
    return torch.stack((found[0], more)), torch.stack(said)


optimal_baseline.twin(
    "smoothed_value",
    "Long directions weigh more in the variance: the smoothed value lies below by the factor (d + 2) / d.",
    stated=lambda value, hessian, sigma: value + sigma**2 / 2 * hessian.diagonal(dim1=-2, dim2=-1).sum(-1),
)
optimal_baseline.twin(
    "value_at_theta",
    "What the forward difference takes is best only where the function has no curvature on average.",
    stated=lambda value, hessian, sigma: value,
)
optimal_baseline.twin(
    "excess_without_the_dimension",
    "The error of the baseline is multiplied with every coordinate of u.",
    excess=lambda baseline, best, d: _excess(baseline, best, 1),
)
optimal_baseline.twin(
    "mean_of_the_values",
    "Weighed evenly the values give the smoothed function, around which V is not smallest.",
    weigh=lambda u: torch.ones_like(u[..., 0]),
)
