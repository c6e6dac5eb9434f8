"""4.22 to 4.28: ranks, the direction of a step, reused queries, and the relatives that weigh points by their values."""

import math

import torch

from pocourse.lesson.claims import claim
from pocourse.zeroth_order import ZoAR, estimators
from pocourse.zeroth_order.claims import instances
from pocourse.zeroth_order.claims.instances import SIGMA


def _ranks(z):
    return instances.normal_cdf(z) - 0.5


@claim(
    "zeroth_order.price_of_ranks",
    equation="4.22",
    kind="identity",
    tex=r"f\text{ linear},\ K\to\infty:\qquad\frac{|\mathbb{E}[c\,u]|^2}{\operatorname{Var}c}"
    r"=12\,(\mathbb{E}[c\,z])^2=\frac3\pi,"
    r"\qquad c=\Phi(z)-\tfrac12,\quad z=\frac{g\cdot u}{|g|}",
    source="textbook (the efficiency of Spearman's ranks under a Gaussian), read for evolution strategies by us; with "
    "the values as weights it is 1",
    draws=20,
    tolerance=1e-12,
)
def price_of_ranks(draw, weigh=_ranks, price=3 / math.pi):
    gradient = draw.normal(2)
    (u,), weight = instances.every_direction(50, 1, 2, draw.count)
    c = weigh((gradient * u).sum(-1) / gradient.norm(dim=-1))
    signal = instances.mean(weight, c.unsqueeze(-1) * u)
    found = (signal**2).sum(-1) / instances.mean(weight, c**2)
    return found, torch.full_like(found, price)


price_of_ranks.twin(
    "ranks_are_free",
    "The largest and the smallest value are further out than their ranks tell: 4.5% of the samples' worth is lost.",
    price=1.0,
)
price_of_ranks.twin(
    "price_of_signs",
    "Two over pi is what only the sign of each value leaves: ranks keep much more.",
    price=2 / math.pi,
)
price_of_ranks.twin(
    "values_as_weights",
    "Of a linear function the values are the best weights there are: their efficiency is one.",
    weigh=lambda z: z,
)


def _cosine(gradient, u):
    """The squared cosine between a linear function's gradient and its estimate."""
    value = (gradient * u).sum(-1)
    estimate = estimators.antithetic_gradient(value, -value, u, sigma=1.0)
    return torch.nn.functional.cosine_similarity(estimate, gradient, dim=-1) ** 2


@claim(
    "zeroth_order.cosine_law",
    equation="4.23",
    kind="estimate",
    tex=r"\mathbb{E}\big[\operatorname{cos}^2(\hat g,g)\big]=\frac{K}{d+K-1}\quad(u_k\text{ Gaussian}),"
    r"\qquad=\frac Kd\quad(u_k\text{ orthonormal, }K\le d)",
    source="ours; f linear, K central differences. With Gaussian directions the squared cosine is Beta(K/2, (d - 1)/2)",
    draws=4000,
    tolerance=4,
)
def cosine_law(draw, gaussian=lambda k, d: k / (d + k - 1), orthonormal=lambda k, d: k / d):
    k, d = 3, 8
    u, gradient = draw.normal(d, k), draw.normal(d)
    frames = torch.linalg.qr(u).Q
    found = [_cosine(gradient, directions.movedim(-1, 0)) for directions in (u, frames)]
    return torch.stack(found, -1), torch.tensor([gaussian(k, d), orthonormal(k, d)], dtype=torch.float64)


cosine_law.twin(
    "gaussian_as_orthonormal",
    "Random directions overlap, and a sum of overlapping projections is not the projection.",
    gaussian=lambda k, d: k / d,
)
cosine_law.twin(
    "two_more_below",
    "For one direction the mean must be 1/d, as for any random vector: d + K + 1 misses it.",
    gaussian=lambda k, d: k / (d + k + 1),
)
cosine_law.twin(
    "cosine_not_squared",
    "The cosine itself is about the root of K / d: its square is what adds up.",
    orthonormal=lambda k, d: math.sqrt(k / d),
)


def _second_moment(theta, moved, u, weight, centre=None):
    """E w^2 of the weights from old to new density, over points around ``centre``; around theta unless told."""
    x = (theta if centre is None else centre) + SIGMA * u
    logp = [torch.distributions.Normal(mean, SIGMA).log_prob(x).sum(-1) for mean in (theta, moved)]
    return instances.mean(weight, (2 * (logp[1] - logp[0])).exp())


@claim(
    "zeroth_order.ess_of_reuse",
    equation="4.24",
    kind="identity",
    tex=r"\mathbb{E}_{x\sim\mathcal{N}(\theta,\sigma^2I)}[w^2]=e^{|\Delta|^2/\sigma^2},\qquad "
    r"w=\frac{\mathcal{N}(x;\theta+\Delta,\sigma^2I)}{\mathcal{N}(x;\theta,\sigma^2I)},\qquad"
    r"\frac{\mathrm{ESS}}{n}\to e^{-|\Delta|^2/\sigma^2}",
    source="textbook (chi-square between two Gaussians); |Delta| up to sigma",
    draws=100,
    tolerance=1e-12,
)
def ess_of_reuse(draw, grown=lambda delta: ((delta**2).sum(-1) / SIGMA**2).exp(), centre=lambda old, new: old):
    theta, delta = draw.normal(2), draw.normal(2)
    delta = delta * (SIGMA * draw.uniform() / delta.norm(dim=-1)).unsqueeze(-1)
    (u,), weight = instances.every_direction(40, 1, 2, draw.count)
    found = _second_moment(theta, theta + delta, u, weight, centre(theta, theta + delta))
    return found, grown(delta)


ess_of_reuse.twin(
    "divergence_for_chi_square",
    "Half of |Delta|^2 / sigma^2 is the KL divergence: the square of the weights grows twice as fast.",
    grown=lambda delta: ((delta**2).sum(-1) / (2 * SIGMA**2)).exp(),
)
ess_of_reuse.twin(
    "length_not_squared",
    "A short move costs next to nothing: what counts is its square.",
    grown=lambda delta: (delta.norm(dim=-1) / SIGMA).exp(),
)
ess_of_reuse.twin(
    "points_of_the_new_centre",
    "The points remembered were drawn around the old centre; around the new one w^2 averages to the cube of this.",
    centre=lambda old, new: new,
)


def _box(mezo, history):
    return mezo[-history:].mean(0)


@claim(
    "zeroth_order.box_filter",
    equation="4.25",
    kind="identity",
    tex=r"\{\pm u_t\}\text{ asked each time:}\qquad\hat g_t^{\mathrm{ZoAR}}=\frac{2N}{2N-1}\cdot\frac1N"
    r"\sum_{i=0}^{N-1}\hat g_{t-i}^{\pm}",
    source="ours; ZoAR is Qiu et al. 2025, one mirrored pair an iteration is MeZO, Malladi et al. 2023. With "
    "the divisor 2N of the first public code the factor is 1",
    draws=30,
    tolerance=1e-12,
)
def box_filter(draw, filtered=_box, factor=lambda n: n / (n - 1), history=4):
    f, theta = instances.curved(draw, 3), torch.zeros(draw.count, 3, dtype=torch.float64)
    zoar = ZoAR(3, num_queries=2, history=history, sigma=SIGMA, generator=draw.generator, dtype=torch.float64)
    mezo = []
    for _ in range(history + 3):
        u = draw.normal(3)
        plus, minus = f.at(zoar.ask(theta, torch.stack((u, -u))))
        found = zoar.tell(torch.stack((plus, minus)))
        mezo.append(estimators.antithetic_gradient(plus[None], minus[None], u[None], sigma=SIGMA))
        theta = theta - 0.05 * found
    return found, factor(2 * history) * filtered(torch.stack(mezo), history)


box_filter.twin(
    "without_the_factor",
    "The divisor 2N - 1 corrects for a mean taken away; mirrored directions sum to zero, and it only lengthens.",
    factor=lambda n: 1.0,
)
box_filter.twin(
    "one_iteration_more",
    "The history counts the present iteration: N iterations are in the buffer, not N and one.",
    filtered=lambda mezo, history: _box(mezo, history + 1),
)


@box_filter.twin(
    "fading_memory",
    "That is momentum: the buffer gives its iterations one weight each, and then drops them at once.",
)
def _fading(draw):
    def faded(mezo, history):
        weight = (1 - 1 / history) ** torch.arange(len(mezo) - 1, -1, -1, dtype=torch.float64)
        return instances.mean(weight / weight.sum(), mezo)

    return box_filter.sides(draw, filtered=faded)


def _pairs(y, u):
    """The mean over all pairs of the worse direction less the better one."""
    first, second = torch.tril_indices(len(y), len(y), offset=-1)
    worse = torch.where((y[first] > y[second]).unsqueeze(-1), u[first] - u[second], u[second] - u[first])
    return worse.mean(0)


def _from_ranks(weigh):
    def stated(y, u):
        m = len(y)
        rank = (estimators.centred_ranks(y) + 0.5) * (m - 1)
        return estimators.weighted_gradient(weigh(rank, m), u, sigma=1.0), weigh(rank, m).sum(0)

    return stated


_full_ranking = _from_ranks(lambda rank, m: 4 / m * (rank / (m - 1) - 0.5))


@claim(
    "zeroth_order.rank_identity",
    equation="4.26",
    kind="identity",
    tex=r"\frac{2}{m(m-1)}\sum_{y_i<y_j}(u_j-u_i)=\frac4m\sum_kc_k\,u_k,\qquad c_k=\frac{\operatorname{rank}y_k}{m-1}"
    r"-\frac12,\qquad\sum_kc_k=0",
    source="ours; the left side is the estimate of ZO-RankSGD, Tang et al. (arXiv 2303.03751), when all m are ranked; "
    "ranks from 0, the least value first",
    draws=300,
    tolerance=1e-12,
)
def rank_identity(draw, stated=_full_ranking):
    cloud = instances.cloud(draw, 7)
    found, total = stated(cloud.plus, cloud.u)
    return torch.cat((_pairs(cloud.plus, cloud.u), torch.zeros_like(total)[:, None]), -1), torch.cat(
        (found, total[:, None]), -1
    )


rank_identity.twin(
    "ranks_off_by_one",
    "Over the ranks from 0, 2r - m sums to -m: one more is needed, or a multiple of the mean direction stays.",
    stated=_from_ranks(lambda rank, m: 2 * (2 * rank - m) / (m * (m - 1))),
)
rank_identity.twin(
    "mean_over_the_samples",
    "Each pair holds two directions, and 2 c is the share of pairs lost less the share won: together that is four.",
    stated=_from_ranks(lambda rank, m: 1 / m * (rank / (m - 1) - 0.5)),
)
rank_identity.twin(
    "best_counts_positive",
    "Towards the better points is the way down: the gradient points to the worse.",
    stated=_from_ranks(lambda rank, m: 4 / m * (0.5 - rank / (m - 1))),
)


def _proximal(hessian, start, alpha, spread):
    eye = torch.eye(start.shape[-1], dtype=torch.float64)
    return torch.linalg.solve(eye + alpha * spread**2 * hessian, start)


@claim(
    "zeroth_order.consensus_prox",
    equation="4.27",
    kind="identity",
    tex=r"\frac{\mathbb{E}[x\,e^{-\alpha f(x)}]}{\mathbb{E}[e^{-\alpha f(x)}]}=(I+tH)^{-1}m"
    r"=\operatorname{argmin}_x\Big\{f(x)+\frac{|x-m|^2}{2t}\Big\},\qquad t=\alpha\sigma^2,\quad "
    r"f=\tfrac12\,x\cdot Hx",
    source="ours; consensus-based optimization as in Riedl et al. (arXiv 2306.09778), infinitely many particles "
    "x ~ N(m, sigma^2 I), H positive",
    draws=50,
    tolerance=1e-11,
)
def consensus_prox(draw, stated=_proximal):
    root, start, alpha, spread = draw.uniform(2, 2, low=-1, high=1), draw.normal(2), 1.5, 0.6
    hessian = root @ root.mT
    (u,), weight = instances.every_direction(60, 1, 2, draw.count)
    x = start + spread * u
    value = instances.Quadratic(torch.zeros_like(start[:, 0]), torch.zeros_like(start), hessian).at(x)
    share = (-alpha * value).exp()
    found = instances.mean(weight, share.unsqueeze(-1) * x) / instances.mean(weight, share).unsqueeze(-1)
    by_hand = stated(hessian, start, alpha, spread)
    # Where the proximal problem is solved its slope vanishes.
    slope = torch.einsum("nde,ne->nd", hessian, found) + (found - start) / (alpha * spread**2)
    return torch.cat((found, slope), -1), torch.cat((by_hand, torch.zeros_like(slope)), -1)


consensus_prox.twin(
    "explicit_step",
    "A gradient step from m is only the first order: the consensus is an implicit step, and never overshoots.",
    stated=lambda hessian, start, alpha, spread: start - alpha * spread**2 * torch.einsum("nde,ne->nd", hessian, start),
)
consensus_prox.twin(
    "spread_not_squared",
    "The precisions of the cloud and of the weights add: the cloud's is one over sigma^2.",
    stated=lambda hessian, start, alpha, spread: _proximal(hessian, start, alpha, spread**0.5),
)
consensus_prox.twin(
    "spread_forgotten",
    "Particles that lie close together cannot agree on a place far away, however large alpha is.",
    stated=lambda hessian, start, alpha, spread: _proximal(hessian, start, alpha, 1.0),
)


GENES, POWER = 40, 0.1


def _normal(seed):
    return torch.randn(GENES, generator=torch.Generator().manual_seed(seed))


def _in_order(genome):
    theta = _normal(genome[0])
    for seed in genome[1:]:
        theta = theta + POWER * _normal(seed)
    return theta


def _evolve(draw, generations=8, parents=4):
    """A truncation algorithm: the parameters of its last population, and for each the seeds it came from."""

    def seeds():
        return torch.randint(2**31, (draw.count,), generator=draw.generator).tolist()

    genomes = [[seed] for seed in seeds()]
    population = torch.stack([_normal(genome[0]) for genome in genomes])
    for _ in range(generations):
        best = ((population - 1) ** 2).sum(-1).argsort()[:parents].tolist()
        chosen = [best[int(index)] for index in draw.uniform(low=0, high=parents)]
        new = seeds()
        population = torch.stack([population[i] + POWER * _normal(seed) for i, seed in zip(chosen, new, strict=True)])
        genomes = [[*genomes[i], seed] for i, seed in zip(chosen, new, strict=True)]
    return population, genomes


@claim(
    "zeroth_order.truncation_replay",
    equation="4.28",
    kind="identity",
    tex=r"\theta_n=\big(\dots\big((\epsilon(s_0)+\sigma\epsilon(s_1))+\sigma\epsilon(s_2)\big)+\dots\big)"
    r"+\sigma\epsilon(s_n)\qquad\text{bit for bit, from the seeds }(s_0,\dots,s_n)",
    source="Such et al. 2017 (Deep GA) for the encoding; that the order of addition matters is a fact of floating "
    "point (here float32)",
    draws=20,
    tolerance=0,
)
def truncation_replay(draw, replay=_in_order):
    population, genomes = _evolve(draw)
    return population, torch.stack([replay(genome) for genome in genomes])


truncation_replay.twin(
    "mutations_added_backwards",
    "Sums of rounded numbers depend on their order: the replay is near, not the same.",
    replay=lambda genome: sum(POWER * _normal(seed) for seed in genome[:0:-1]) + _normal(genome[0]),
)
truncation_replay.twin(
    "mutations_added_up_first",
    "Adding one sum to the start rounds once where the run has rounded at every generation.",
    replay=lambda genome: _normal(genome[0]) + torch.stack([POWER * _normal(s) for s in genome[1:]]).sum(0),
)
truncation_replay.twin(
    "last_mutation_missed",
    "The first seed is the start and not a mutation: n seeds after it are n mutations.",
    replay=lambda genome: _in_order(genome[:-1]),
)
