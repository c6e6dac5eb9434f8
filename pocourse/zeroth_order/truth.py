"""Estimator against truth: what each method makes of the same number of queries, where the smoothed gradient is known.

Bias and variance are sums over a quadrature rule, none of them is sampled: every estimator of the chapter is made of
independent directions, so its first two moments follow from those of one direction, F(theta), E[y^2], E[y u] and so
on, also where it pools values, and also while theta moves. Only the cosine with the truth, and all there is to say of
ranks, is a mean over draws; what is sampled comes with its standard error.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity

from pocourse import _check
from pocourse.zeroth_order import bounds, estimators
from pocourse.zeroth_order.claims.instances import hermite, legendre
from pocourse.zeroth_order.zoar import ZoAR

F64 = torch.float64
DIM, SIGMA = 3, 0.8
QUERIES, HISTORY = 10, 6  # as the paper's experiments
DRAWS = 20_000
SPEED = 0.25  # of the moving theta, in sigma an iteration
FAR = 10.0  # where the rules that split at a kink end, in standard deviations
HESSIAN = ((4.0, 1.0, 0.0), (1.0, 2.0, -1.0), (0.0, -1.0, 1.0))
THETA = (0.5, -1.0, 0.3)


class World(NamedTuple):
    """A function of ``DIM`` coordinates, and the gradient of its smoothed function, in closed form.

    ``nodes`` is how many Gauss-Hermite nodes a coordinate needs. Where ``kink`` is a number, f depends on the first
    coordinate alone, and jumps or bends there.
    """

    f: Callable[[Float[Tensor, "*batch dim"]], Float[Tensor, "*batch"]]
    smoothed_gradient: Callable[[Float[Tensor, " dim"], float], Float[Tensor, " dim"]]
    nodes: int
    kink: float | None = None


def _quadratic(x: Tensor) -> Tensor:
    return 1 + torch.einsum("...d,de,...e->...", x, x.new_tensor(HESSIAN), x) / 2


def _cubic(x: Tensor) -> Tensor:
    return (x**3).sum(-1) / 3 + x.prod(-1)


def _cubic_gradient(theta: Tensor, sigma: float) -> Tensor:
    others = torch.stack([theta[[j for j in range(DIM) if j != i]].prod() for i in range(DIM)])
    return theta**2 + sigma**2 + others


def _along_first(slope: Tensor) -> Tensor:
    return torch.cat((slope[None], slope.new_zeros(DIM - 1)))


def _step_gradient(theta: Tensor, sigma: float) -> Tensor:
    return _along_first((-(theta[0] ** 2) / (2 * sigma**2)).exp() / (sigma * math.sqrt(2 * math.pi)))


WORLDS = {
    "quadratic": World(_quadratic, lambda theta, sigma: theta.new_tensor(HESSIAN) @ theta, 4),
    "cubic": World(_cubic, _cubic_gradient, 5),
    "sine": World(
        lambda x: (2 * x).sin().sum(-1), lambda theta, sigma: 2 * math.exp(-2 * sigma**2) * (2 * theta).cos(), 32
    ),
    "step": World(lambda x: (x[..., 0] > 0).to(x.dtype), _step_gradient, 2, 0.0),
    "|x|": World(
        lambda x: x[..., 0].abs(), lambda theta, sigma: _along_first((theta[0] / (sigma * math.sqrt(2))).erf()), 2, 0.0
    ),
}  # fmt: skip


def theta_of() -> Float[Tensor, " dim"]:
    """The point at which all worlds are judged."""
    return torch.tensor(THETA, dtype=F64)


# ---------------------------------------------------------------- one direction


class Raw(NamedTuple):
    """The moments of one direction u and its value y = f(theta + sigma u) that the estimators are made of.

    ``mean`` is E[y], which is F(theta); ``square`` E[y^2]; ``tilted`` E[y |u|^2]; ``tilted_square`` E[y^2 |u|^2];
    ``gradient`` E[y u] / sigma, the smoothed gradient.
    """

    mean: Float[Tensor, ""]
    square: Float[Tensor, ""]
    tilted: Float[Tensor, ""]
    tilted_square: Float[Tensor, ""]
    gradient: Float[Tensor, " dim"]


def rule(
    world: World, theta: Float[Tensor, " dim"], *, sigma: float
) -> tuple[Float[Tensor, "node dim"], Float[Tensor, "node"]]:
    """Directions and weights whose sums are expectations over a standard normal u: products of rules on a line.

    Where f has a kink, the line across it is cut there and at the mirrored place, with a rule for each piece.
    """
    if world.kink is None:
        return hermite(world.nodes, DIM)
    cut = (world.kink - float(theta[0])) / sigma
    ends = [-FAR, *sorted(side * min(abs(cut), FAR) for side in (-1, 1)), FAR]
    node, weight = legendre(60)
    low, high = (torch.tensor(x, dtype=F64)[:, None] for x in (ends[:-1], ends[1:]))
    u = (low + high) / 2 + (high - low) / 2 * node
    chance = (high - low) * weight * (-(u**2) / 2).exp() / math.sqrt(2 * math.pi)
    beside, share = hermite(world.nodes, DIM - 1)
    first = u.flatten()[:, None, None].expand(-1, len(beside), 1)
    points = torch.cat((first, beside.expand(len(first), -1, -1)), -1)
    return points.flatten(0, 1), (chance.flatten()[:, None] * share).flatten()


def raw_moments(world: World, theta: Float[Tensor, " dim"], *, sigma: float) -> Raw:
    """The moments of one direction at theta, by quadrature."""
    u, weight = rule(world, theta, sigma=sigma)
    y, length = world.f(theta + sigma * u), (u**2).sum(-1)
    return Raw(weight @ y, weight @ y**2, weight @ (y * length), weight @ (y**2 * length), (weight * y) @ u / sigma)


def shifted(raw: Raw, by: float | Float[Tensor, ""]) -> Raw:
    """The moments after a constant is taken from every value."""
    d = len(raw.gradient)
    return Raw(
        raw.mean - by,
        raw.square - 2 * by * raw.mean + by**2,
        raw.tilted - by * d,
        raw.tilted_square - 2 * by * raw.tilted + by**2 * d,
        raw.gradient,
    )


# ---------------------------------------------------------------- bias and variance, exactly


class Spread(NamedTuple):
    """An estimate's mean [dim], and the trace of its covariance matrix."""

    mean: Float[Tensor, " dim"]
    variance: Float[Tensor, ""]


def reinforce(raw: Raw, baseline: float | Float[Tensor, ""], *, sigma: float, directions: int) -> Spread:
    """REINFORCE with a constant baseline."""
    second = shifted(raw, baseline).tilted_square / sigma**2
    return Spread(raw.gradient, (second - (raw.gradient**2).sum()) / directions)


def leave_one_out(raw: Raw, *, sigma: float, queries: int) -> Spread:
    """RLOO, by (4.15)."""
    alone = reinforce(raw, raw.mean, sigma=sigma, directions=1).variance
    spread = raw.square - raw.mean**2
    return Spread(raw.gradient, bounds.rloo_variance(alone, raw.gradient, spread, queries=queries, sigma=sigma))


def mirrored(world: World, theta: Float[Tensor, " dim"], *, sigma: float, pairs: int) -> Spread:
    """The central difference, which is REINFORCE on the odd part of f."""

    def odd(x):
        return (world.f(x) - world.f(2 * theta - x)) / 2

    return reinforce(raw_moments(world._replace(f=odd), theta, sigma=sigma), 0.0, sigma=sigma, directions=pairs)


def pooled(raws: Sequence[Raw], *, sigma: float, queries: int) -> Spread:
    r"""ZoAR's gradient from a buffer with one group of K queries for each of the thetas.

    .. math:: \hat g = \frac{1}{(n - 1) \sigma} \sum_k (y_k - \bar y)\, u_k, \qquad
        \mathbb{E}[\hat g] = \frac1N \sum_i \nabla F(\theta_i)

    With values shifted to an average mean of zero, a_k = E[y_k], g_k the gradient of F where k was asked, and sums over
    the buffer's n = N K entries,

    .. math:: (n - 1)^2 \sigma^2\, \mathbb{E}|\hat g|^2 = \big(1 - \tfrac1n\big)^2 \sum \mathbb{E}[y_k^2 |u_k|^2]
        + \tfrac2n \big(1 - \tfrac1n\big) \sum a_k\, \mathbb{E}[y_k |u_k|^2]
        + \frac{d}{n^2} \Big((n - 1) \sum \mathbb{E}[y_k^2] - (n - 2) \sum a_k^2\Big)
        + \Big(\big(1 - \tfrac1n\big)^2 + \tfrac1{n^2}\Big) \sigma^2 \sum_{j \neq k} g_j \cdot g_k

    The thetas are given: along a run they depend on the queries, and this is what a run does to first order.

    Source: ours. With equal thetas it is (4.15).
    """
    centre = torch.stack([raw.mean for raw in raws]).mean()
    moved = [shifted(raw, centre) for raw in raws]
    mean, square, tilted, tilted_square, gradient = (torch.stack(x) for x in zip(*moved, strict=True))
    d, n, keep = gradient.shape[-1], len(raws) * queries, 1 - 1 / (len(raws) * queries)
    cross = queries**2 * (gradient.sum(0) ** 2).sum() - queries * (gradient**2).sum()
    second = keep**2 * queries * tilted_square.sum() + 2 / n * keep * queries * (mean * tilted).sum()
    second = second + d / n**2 * queries * ((n - 1) * square.sum() - (n - 2) * (mean**2).sum())
    second = second / sigma**2 + (keep**2 + 1 / n**2) * cross
    found = gradient.mean(0)
    return Spread(found, second / (n - 1) ** 2 - (found**2).sum())


def drifting(
    world: World, theta: Float[Tensor, " dim"], *, sigma: float, speed: float, history: int = HISTORY
) -> list[Float[Tensor, " dim"]]:
    """The thetas of the last iterations, the present one first, if it came straight down the smoothed gradient.

    ``speed`` is the length of a step in units of sigma.
    """
    slope = world.smoothed_gradient(theta, sigma)
    return [theta + i * speed * sigma * slope / slope.norm() for i in range(history)]


class Reuse(NamedTuple):
    """ZoAR's estimate against the truth at the present theta: bias over |grad F|, the others over |grad F|^2."""

    bias: float
    variance: float
    mse: float


def reuse(
    world: World | str,
    *,
    speed: float = SPEED,
    history: int = HISTORY,
    queries: int = QUERIES,
    sigma: float = SIGMA,
    theta: Float[Tensor, " dim"] | None = None,
) -> Reuse:
    """What a buffer of ``history`` iterations does to the estimate while theta moves ``speed`` sigma an iteration."""
    world = WORLDS[world] if isinstance(world, str) else world
    theta = theta_of() if theta is None else theta
    _check.number(at_least=0, speed=speed)
    _check.number(at_least=1, history=history)
    truth = world.smoothed_gradient(theta, sigma)
    before = drifting(world, theta, sigma=sigma, speed=speed, history=history)
    raws = [raw_moments(world, x, sigma=sigma) for x in before]
    found = pooled(raws, sigma=sigma, queries=queries)
    bias, variance = float((found.mean - truth).norm() / truth.norm()), float(found.variance / (truth**2).sum())
    return Reuse(bias, variance, bias**2 + variance)


def mean_of_steps(
    world: World | str, *, steps: int, history: int, queries: int = QUERIES, sigma: float = SIGMA
) -> float:
    r"""The variance of the mean of T successive ZoAR gradients over |grad F|^2, at a resting theta with a full buffer.

    .. math:: \operatorname{tr}\operatorname{Var} = \frac{1}{T^2} \sum_{s, t} C_{|s - t|}, \qquad
        C_i = \frac{m\, V_1}{n^2} + \frac{m (m - 1)}{n^2 (n - 1)^2} \Big(|\nabla F|^2
        + \frac{d \operatorname{Var}[y]}{\sigma^2}\Big), \qquad m = \max(0, N - i)\, K, \quad n = N K

    C_i is the covariance of two estimates that share m of their n queries. Each query counts in N estimates: one of
    them scatters less than without memory, and a sum of many does not.

    Source: ours, from the covariance of two U-statistics (textbook).
    """
    world, theta = WORLDS[world] if isinstance(world, str) else world, theta_of()
    _check.number(at_least=1, steps=steps, history=history)
    raw = raw_moments(world, theta, sigma=sigma)
    square, d = float((raw.gradient**2).sum()), len(theta)
    alone = float(reinforce(raw, raw.mean, sigma=sigma, directions=1).variance)
    rest = square + d * float(raw.square - raw.mean**2) / sigma**2
    n, total = history * queries, 0.0
    for apart in range(min(steps, history)):
        shared = (history - apart) * queries
        covariance = shared * alone / n**2 + shared * (shared - 1) * rest / (n * (n - 1)) ** 2
        total += (steps - apart) * (2 if apart else 1) * covariance
    return total / steps**2 / square


# ---------------------------------------------------------------- the round bowl, in any dimension


class Bowl(NamedTuple):
    """Variances on f = |x|^2 / 2 where |g|^2 = d, each over |g|^2; ``known`` has the baseline F(theta), for nothing."""

    one_point: float
    forward: float
    known: float
    rloo: float
    antithetic: float


def bowl(dim: int, *, sigma: float, queries: int = QUERIES, noise_std: float = 0.0) -> Bowl:
    r"""The variances of (4.11) to (4.15) on the round bowl at equal queries, without a matrix, so in any dimension.

    ``noise_std`` is the standard deviation of independent noise in every value, f(theta) included. It adds d nu^2 /
    sigma^2 times 1/Q one-point, 2/(Q - 1) forward, 1/(Q - 1) RLOO and 1/Q antithetic.

    Raises: ValueError for fewer than 2 queries or an odd number, no dimension, a sigma that is not positive.
    Source: ours.
    """
    _check.number(at_least=1, dim=dim)
    _check.number(above=0, sigma=sigma)
    _check.number(at_least=2, queries=queries)
    _check.number(at_least=0, noise_std=noise_std)
    if queries % 2:
        raise ValueError(f"expected an even number of queries, for pairs; got {queries}. Take one more.")
    d, gradient = dim, torch.ones(dim, dtype=F64)
    linear, noise = (d + 1) * d, d * noise_std**2 / sigma**2
    first, offset = linear + sigma**2 / 4 * (d + 4) * (d**2 + 2 * d), d / 2  # f at theta is |g|^2 / 2
    known = linear + sigma**2 / 2 * (d + 4) * d
    spread = sigma**2 * d + sigma**4 / 2 * d + noise_std**2
    alone, spread = (torch.tensor(x, dtype=F64) for x in (known + noise, spread))
    found = Bowl(
        one_point=(d * offset**2 / sigma**2 + first + (d + 2) * offset * d + noise) / queries,
        forward=(first + 2 * noise) / (queries - 1),
        known=float(alone) / queries,
        rloo=float(bounds.rloo_variance(alone, gradient, spread, queries=queries, sigma=sigma)),
        antithetic=float(bounds.antithetic_variance(gradient, pairs=queries // 2)) + noise / queries,
    )
    return Bowl(*(x / d for x in found))


def baseline_ratio(dim: int, *, sigma: float) -> float:
    """How much more the forward difference scatters than REINFORCE with F(theta), per direction: (4.16).

    In the paper's setting, d = 10,000 and sigma = 0.05, it is 7.24, and so it is at equal queries against RLOO.
    """
    found = bowl(dim, sigma=sigma, queries=2)  # one direction forward, two with F known
    return found.forward / (2 * found.known)


def bowl_terms(dim: int, *, queries: int = QUERIES, noise_std: float = 0.0) -> dict[str, tuple[float, float, float]]:
    """What ``bowl`` is made of, a + b sigma^2 + c / sigma^2: the slope's part a, curvature's b, and the noise's c."""
    d, q, noise = dim, queries, noise_std**2
    return {
        "forward": ((d + 1) / (q - 1), (d + 2) * (d + 4) / (4 * (q - 1)), 2 * noise / (q - 1)),
        "rloo": ((d + 1) / (q - 1), (d + 4) / (2 * q) + d / (2 * q * (q - 1)), noise / (q - 1)),
        "antithetic": (2 * (d + 1) / q, 0.0, noise / q),
    }


def crossing(dim: int, *, queries: int = QUERIES, noise_std: float = 0.0, method: str = "rloo") -> float:
    """The sigma^2 d above which a method scatters more on the bowl than antithetic pairs from as many queries.

    Below it RLOO scatters less, at small sigma about half as much; above it the pairs win, which do not feel curvature.
    Zero where the pairs win at every sigma.
    """
    terms = bowl_terms(dim, queries=queries, noise_std=noise_std)
    a, b, c = (x - y for x, y in zip(terms[method], terms["antithetic"], strict=True))
    # a + b s + c / s is zero where b s^2 + a s + c is.
    inside = a**2 - 4 * b * c
    return 0.0 if inside < 0 else max(0.0, (-a + math.sqrt(inside)) / (2 * b)) * dim


def equal_queries(*, sigma: float, queries: int = QUERIES) -> tuple[float, float]:
    """RLOO's variance and antithetic's on the quadratic world of the table, each over |g|^2, from as many queries."""
    theta, world = theta_of(), WORLDS["quadratic"]
    square = (world.smoothed_gradient(theta, sigma) ** 2).sum()
    found = leave_one_out(raw_moments(world, theta, sigma=sigma), sigma=sigma, queries=queries)
    other = mirrored(world, theta, sigma=sigma, pairs=queries // 2)
    return float(found.variance / square), float(other.variance / square)


# ---------------------------------------------------------------- the table


class Moments(NamedTuple):
    """An estimator of the smoothed gradient from some queries.

    ``bias`` is the length of the mean's error over |grad F|, ``variance`` the trace of the covariance matrix over
    |grad F|^2, ``cosine`` the expected cosine with grad F (0 where an estimate is zero). ``bias_error``,
    ``variance_error`` and ``cosine_error`` are standard errors: zero where nothing was sampled.
    """

    bias: float
    variance: float
    cosine: float
    bias_error: float
    variance_error: float
    cosine_error: float


def _one_point(y, u, sigma):
    return estimators.reinforce_gradient(y, u, sigma=sigma, baseline=0.0)


def _batch_mean(y, u, sigma):
    return estimators.rloo_gradient(y, u, sigma=sigma) * (1 - 1 / len(u))


def _ranks(y, u, sigma):
    return estimators.weighted_gradient(estimators.centred_ranks(y), u, sigma=sigma) / len(u)


PLAIN = {
    "one-point": _one_point,
    "batch mean": _batch_mean,
    "RLOO": lambda y, u, sigma: estimators.rloo_gradient(y, u, sigma=sigma),
    "centred ranks": _ranks,
}
SPEEDS = {"ZoAR, θ at rest": 0.0, "ZoAR, θ moving": SPEED}
ESTIMATORS = ("one-point", "forward", "batch mean", "RLOO", "antithetic", "centred ranks", *SPEEDS)


def exactly(
    name: str, world: World, theta: Float[Tensor, " dim"], *, sigma: float = SIGMA, queries: int = QUERIES
) -> Spread | None:
    """Mean and variance of an estimator at theta, by quadrature; None for the ranks, which no such sum gives."""
    raw = raw_moments(world, theta, sigma=sigma)
    if name == "one-point":
        return reinforce(raw, 0.0, sigma=sigma, directions=queries)
    if name == "forward":
        return reinforce(raw, world.f(theta), sigma=sigma, directions=queries - 1)
    if name == "antithetic":
        return mirrored(world, theta, sigma=sigma, pairs=queries // 2)
    if name in SPEEDS:
        before = drifting(world, theta, sigma=sigma, speed=SPEEDS[name])
        return pooled([raw_moments(world, x, sigma=sigma) for x in before], sigma=sigma, queries=queries)
    if name == "centred ranks":
        return None
    mean, variance = leave_one_out(raw, sigma=sigma, queries=queries)
    shrunk = 1 - 1 / queries if name == "batch mean" else 1.0
    return Spread(shrunk * mean, shrunk**2 * variance)


def sampled(
    name: str,
    world: World,
    theta: Float[Tensor, " dim"],
    *,
    draws: int,
    generator: torch.Generator,
    sigma: float = SIGMA,
    queries: int = QUERIES,
) -> Float[Tensor, "draw dim"]:
    """Estimates from ``draws`` independent batches of queries."""

    def directions(count: int) -> Tensor:
        return torch.randn(count, draws, len(theta), generator=generator, dtype=theta.dtype)

    if name in SPEEDS:
        zoar = ZoAR(
            len(theta), num_queries=queries, history=HISTORY, sigma=sigma, generator=generator, dtype=theta.dtype
        )
        for x in reversed(drifting(world, theta, sigma=sigma, speed=SPEEDS[name])):
            found = zoar.tell(world.f(zoar.ask(x.expand(draws, -1))))
        return found
    if name == "forward":
        u = directions(queries - 1)
        return estimators.forward_gradient(world.f(theta + sigma * u), world.f(theta).expand(draws), u, sigma=sigma)
    if name == "antithetic":
        u = directions(queries // 2)
        return estimators.antithetic_gradient(*(world.f(theta + side * sigma * u) for side in (1, -1)), u, sigma=sigma)
    u = directions(queries)
    return PLAIN[name](world.f(theta + sigma * u), u, sigma)


def judge(
    name: str,
    world: World | str,
    *,
    sigma: float = SIGMA,
    queries: int = QUERIES,
    draws: int = DRAWS,
    seed: int = 0,
) -> Moments:
    """Bias, variance and cosine of one of ``ESTIMATORS`` in one of ``WORLDS``, at equal queries.

    Ranks have no scale of their own. They are given the one at which their mean is right along the truth, so that
    their bias is what points elsewhere.

    Raises: ValueError for an unknown estimator or world, or an odd number of queries.
    """
    for what, given, known in (("estimator", name, ESTIMATORS), ("world", world, WORLDS)):
        if isinstance(given, str) and given not in known:
            raise ValueError(f"expected {what} as one of {', '.join(known)}; got {given!r}. Take one of them.")
    if queries % 2:
        raise ValueError(f"expected an even number of queries, for pairs; got {queries}. Take one more.")
    world, theta = WORLDS[world] if isinstance(world, str) else world, theta_of()
    truth = world.smoothed_gradient(theta, sigma)
    generator, size = torch.Generator().manual_seed(seed), truth.norm()
    found = sampled(name, world, theta, draws=draws, generator=generator, sigma=sigma, queries=queries)
    cosine = cosine_similarity(found, truth.expand_as(found), dim=-1)
    seen = float(cosine.mean()), float(cosine.std()) / math.sqrt(draws)
    exact = exactly(name, world, theta, sigma=sigma, queries=queries)
    if exact is not None:
        bias, variance = (exact.mean - truth).norm() / size, exact.variance / size**2
        return Moments(float(bias), float(variance), seen[0], 0.0, 0.0, seen[1])
    found = found * (size**2 / (found.mean(0) @ truth))
    squares = ((found - found.mean(0)) ** 2).sum(-1)
    # RLOO of the same draws has no bias and nearly the same luck: the difference tells the ranks' bias more sharply.
    twin = torch.Generator().manual_seed(seed)
    off = found - sampled("RLOO", world, theta, draws=draws, generator=twin, sigma=sigma, queries=queries)
    bias_error = (off.var(0).sum() / draws).sqrt()
    return Moments(
        float(off.mean(0).norm() / size),
        float(squares.mean() / size**2),
        seen[0],
        float(bias_error / size),
        float(squares.std() / size**2) / math.sqrt(draws),
        seen[1],
    )


def markdown(
    worlds: Sequence[str] = tuple(WORLDS),
    *,
    names: Sequence[str] = ESTIMATORS,
    queries: int = QUERIES,
    draws: int = DRAWS,
    seed: int = 0,
) -> str:
    """The table estimator against truth, in Markdown: a column per world with bias, variance and cosine."""
    lines = [
        f"| {queries} queries | {' | '.join(w.replace('|', chr(92) + '|') for w in worlds)} |\n",
        f"|---|{'---|' * len(worlds)}\n",
    ]
    for name in names:
        cells = []
        for world in worlds:
            m = judge(name, world, queries=queries, draws=draws, seed=seed)
            cells.append(f"{m.bias:.2f} · {m.variance:.2f} · {m.cosine:.2f}")
        lines.append(f"| {name} | {' | '.join(cells)} |\n")
    return "".join(lines)
