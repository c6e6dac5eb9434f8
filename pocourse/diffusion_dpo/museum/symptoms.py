"""What the plots of the museum show, as arrays: six outcomes and a line of numbers, learned over 8 seeds."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pocourse.diffusion_dpo import gibbs_policy
from pocourse.diffusion_dpo.museum import beta_twice as beta_code
from pocourse.diffusion_dpo.museum import error_taken_for_logp as error_code
from pocourse.diffusion_dpo.museum import reference_that_learns as reference_code
from pocourse.diffusion_dpo.museum import sigmoid_of_the_mean as mean_code
from pocourse.engine import SeedStreams

SEEDS = 8

# ---------------------------------------------------------------- six outcomes and comparisons between them

REFERENCE = torch.tensor([0.30, 0.25, 0.20, 0.12, 0.08, 0.05], dtype=torch.float64)
REWARD = torch.tensor([-0.3, 0.1, 0.0, 0.4, 0.9, -0.6], dtype=torch.float64)
OUTCOMES = len(REFERENCE)


def comparisons(count: int) -> tuple[Tensor, Tensor]:
    """Chosen and rejected outcomes of the reference, labelled after Bradley and Terry: both [seed, count]."""
    uniform = SeedStreams(range(SEEDS), dtype=torch.float64).uniform(3, count)
    one, other = (torch.searchsorted(REFERENCE.cumsum(0), uniform[:, i].contiguous()) for i in (0, 1))
    one, other = one.clamp(max=OUTCOMES - 1), other.clamp(max=OUTCOMES - 1)  # the last sum may be 1 − 1e-16
    wins = uniform[:, 2] < (REWARD[one] - REWARD[other]).sigmoid()
    return torch.where(wins, one, other), torch.where(wins, other, one)


def divergence(policy: Tensor) -> Tensor:
    """KL(π‖π_ref) of probabilities [*, outcome]."""
    return torch.special.xlogy(policy, policy / REFERENCE).sum(-1)


def shares(chosen: Tensor, rejected: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """All pairs of two different outcomes, chosen [pair] and rejected [pair], and how often each occurs, [seed, pair].

    An outcome that was compared with itself teaches nothing and is left out: the shares add up to 1.
    """
    w, j = (~torch.eye(OUTCOMES, dtype=torch.bool)).nonzero().T
    seen = torch.stack([(chosen == a) & (rejected == b) for a, b in zip(w.tolist(), j.tolist(), strict=True)], -1)
    count = seen.double().sum(1)
    return w, j, count / count.sum(-1, keepdim=True)


def descended(code, data: tuple[Tensor, Tensor, Tensor], *, beta: float, rate: float, steps: int) -> tuple:
    """Gradient descent on logits from the reference, with a loss of ``(policy, reference, chosen, rejected, beta)``.

    The losses of all pairs, [time, seed, pair], and the policies, [time, seed, outcome].
    """
    chosen, rejected, share = data
    reference = REFERENCE.log()
    policy = reference.repeat(SEEDS, 1)
    each = torch.vmap(lambda p: code(p, reference, chosen, rejected, beta))
    losses, policies = [], []
    for _ in range(steps + 1):
        policy = policy.detach().requires_grad_()
        loss = each(policy)
        losses.append(loss.detach())
        policies.append(policy.detach().softmax(-1))
        (slope,) = torch.autograd.grad((loss * share).sum(), policy)
        policy = policy - rate * slope
    return torch.stack(losses), torch.stack(policies)


def fitted(net: Tensor, share: Tensor, *, rounds: int = 12) -> Tensor:
    """The θ [seed, outcome] under which the mean of −log σ(net · θ) is least, by Newton's method.

    ``net`` counts wins less losses in each case, [case, outcome] or [seed, case, outcome], and ``share`` [seed, case]
    how often it occurs. A constant in θ changes nothing; the pseudoinverse leaves it at 0.
    """
    theta = share.new_zeros(len(share), net.shape[-1], 1)
    for _ in range(rounds):
        weight = (-net @ theta).sigmoid() * share.unsqueeze(-1)
        bend = net.mT @ (weight * (net @ theta).sigmoid() * net)
        theta = theta + torch.linalg.pinv(bend, hermitian=True) @ (net.mT @ weight)
    return theta.squeeze(-1)


# ---------------------------------------------------------------- a reference that is the policy


class Learned(NamedTuple):
    """Loss, accuracy and divergence from the true reference along gradient descent, each [code, time, seed].

    Loss and accuracy are what the code itself computes. The codes are the right one and the published one.
    """

    time: np.ndarray
    loss: np.ndarray
    accuracy: np.ndarray
    divergence: np.ndarray
    gibbs: float


def reference_that_learns(*, beta: float = 0.5, rate: float = 4.0, steps: int = 400, pairs: int = 2000) -> Learned:
    """Gradient descent on all comparisons."""
    data = shares(*comparisons(pairs))
    loss, accuracy, apart = [], [], []
    for code in (reference_code.frozen, reference_code.reference_that_learns):
        losses, policies = descended(code, data, beta=beta, rate=rate, steps=steps)
        level = torch.full((), 2.0, dtype=torch.float64).log()
        tied = torch.isclose(losses, level, rtol=0, atol=1e-12)
        right = torch.where(tied, 0.5, (losses < level).double())
        loss.append((losses * data[2]).sum(-1))
        accuracy.append((right * data[2]).sum(-1))
        apart.append(divergence(policies))
    gibbs = divergence(gibbs_policy(REFERENCE.log(), REWARD, beta=beta)).item()
    arrays = (torch.stack(x).numpy() for x in (loss, accuracy, apart))
    return Learned(np.arange(steps + 1), *arrays, gibbs)


# ---------------------------------------------------------------- one sigmoid for a batch


class Together(NamedTuple):
    """Margins and weights in batches, [code, seed, pair] each; and policies at the minimum for batches of every size.

    ``policy`` is [code, size, seed, outcome], ``divergence`` [code, size, seed]; ``gibbs`` and ``gibbs_divergence`` are
    those of β/B, [size, outcome] and [size]. The codes are the right one and the published one.
    """

    margin: np.ndarray
    weight: np.ndarray
    size: np.ndarray
    policy: np.ndarray
    divergence: np.ndarray
    gibbs: np.ndarray
    gibbs_divergence: np.ndarray
    beta: float


def sigmoid_of_the_mean(
    *, batches: int = 2000, sizes: tuple[int, ...] = (1, 2, 4, 8, 16), beta: float = 1.0
) -> Together:
    """Batches of 16 pairs of numbers for the weights; and comparisons of six outcomes, fitted to the end."""
    margin, weight = _weights()
    one = torch.eye(OUTCOMES, dtype=torch.float64)
    chosen, rejected = comparisons(batches * max(sizes))
    policies, gibbs = [], [gibbs_policy(REFERENCE.log(), REWARD, beta=beta / size) for size in sizes]
    for size in sizes:
        some = slice(batches * size)
        a, b, share = shares(chosen[:, some], rejected[:, some])
        net = (one[chosen[:, some]] - one[rejected[:, some]]).unflatten(1, (batches, size)).mean(2)
        theta = torch.stack([fitted(one[a] - one[b], share), fitted(net, net.new_ones(SEEDS, batches) / batches)])
        policies.append((REFERENCE.log() + theta / beta).softmax(-1))
    policy, gibbs = torch.stack(policies, 1), torch.stack(gibbs)
    arrays = (x.numpy() for x in (policy, divergence(policy), gibbs, divergence(gibbs)))
    return Together(margin.numpy(), weight.numpy(), np.array(sizes), *arrays, beta)


def _weights(pairs: int = 16) -> tuple[Tensor, Tensor]:
    """Margins of a batch per seed, and how hard each pair is pulled, 1 being the most: both [code, seed, pair]."""
    streams = SeedStreams(range(SEEDS), dtype=torch.float64)
    error = streams.uniform(2, pairs) + 0.05
    lead = 2 * streams.normal(pairs) + 1
    reference = torch.stack([error[:, 0] + lead.clamp(min=0), error[:, 1] + (-lead).clamp(min=0)], 1)
    margin, weight = [], []
    for code in (mean_code.mean_of_the_losses, mean_code.sigmoid_of_the_mean):
        e = error.clone().requires_grad_()
        loss = sum(code(*e[s], *reference[s], 2.0) for s in range(SEEDS))
        (slope,) = torch.autograd.grad(loss, e)
        margin.append(mean_code.margins(error[:, 0], error[:, 1], reference[:, 0], reference[:, 1], 2.0))
        weight.append(slope[:, 0] * pairs)  # with β = 2 a pair pulls with 1 at most
    return torch.stack(margin), torch.stack(weight)


# ---------------------------------------------------------------- an error for a log-probability


class Preferred(NamedTuple):
    """Denoisers that know one mean: the loss along gradient descent, [code, time, seed]; and for every weight the mean
    that is learned and the share of fresh pairs whose chosen number is denoised better, [code, weight, seed].

    ``winners`` and ``losers`` are the means of the data, [seed]. The codes are the right one and the published one.
    """

    time: np.ndarray
    loss: np.ndarray
    published: float
    weight: np.ndarray
    mean: np.ndarray
    ordered: np.ndarray
    winners: np.ndarray
    losers: np.ndarray


def error_taken_for_logp(*, published: float = 0.1, pairs: int = 2000, steps: int = 30) -> Preferred:
    """Gradient descent on pairs of numbers from N(0, 1), of which the larger is mostly chosen, at one noise level."""
    chosen, rejected, noise = _numbers(2 * pairs)
    seen, fresh = (tuple(x[:, part] for x in (chosen, rejected, noise)) for part in (slice(pairs), slice(pairs, None)))
    grid = torch.linspace(0, 2, 9, dtype=torch.float64)
    # The published weight first; it is drawn along the way, and the others at the end.
    weight = torch.cat([torch.tensor([published], dtype=torch.float64), grid]).view(-1, 1, 1)
    losses, means, ordered = [], [], []
    for code in (error_code.turned, error_code.error_taken_for_logp):
        mean, path = torch.zeros(len(weight), SEEDS, dtype=torch.float64), []
        for _ in range(steps + 1):
            mean = mean.detach().requires_grad_()
            loss = code(*_errors(mean, *seen), weight).mean(-1)
            path.append(loss[0].detach())
            mean = mean - 0.5 * torch.autograd.grad(loss.sum(), mean)[0]
        better, worse = _errors(mean[1:].detach(), *fresh)
        losses.append(torch.stack(path))
        means.append(mean[1:].detach())
        ordered.append((better < worse).double().mean(-1))
    loss, mean, ordered = (torch.stack(x).numpy() for x in (losses, means, ordered))
    winners, losers = (x.mean(-1).numpy() for x in seen[:2])
    return Preferred(np.arange(steps + 1), loss, published, grid.numpy(), mean, ordered, winners, losers)


def _numbers(pairs: int, slope: float = 1.5) -> tuple[Tensor, Tensor, Tensor]:
    """Chosen and rejected numbers, and the noise that both will share: each [seed, pair]."""
    streams = SeedStreams(range(SEEDS), dtype=torch.float64)
    one, other, noise = streams.normal(3, pairs).unbind(1)
    wins = streams.uniform(pairs) < (slope * (one - other)).sigmoid()
    return torch.where(wins, one, other), torch.where(wins, other, one), noise


def _errors(mean: Tensor, chosen: Tensor, rejected: Tensor, noise: Tensor, alpha_bar: float = 0.5) -> tuple:
    """Both errors of the denoiser that is right for N(mean, 1): mean [weight, seed] -> [weight, seed, pair], twice."""
    signal, spread = alpha_bar**0.5, (1 - alpha_bar) ** 0.5
    mean = mean.unsqueeze(-1)
    return tuple(alpha_bar * (signal * noise - spread * (x - mean)) ** 2 for x in (chosen, rejected))


# ---------------------------------------------------------------- beta, twice


class Leashes(NamedTuple):
    """Loss and divergence along gradient descent with one β, [code, time, seed]; and the divergence at the minimum for
    every β, [code, beta, seed], with those of the Gibbs policies of β and of β², [code, beta].

    ``least`` is the least loss of either code with that β, [code, seed].
    """

    time: np.ndarray
    loss: np.ndarray
    divergence: np.ndarray
    least: np.ndarray
    trained: float
    beta: np.ndarray
    end: np.ndarray
    gibbs: np.ndarray


def beta_twice(*, trained: float = 0.3, rate: float = 40.0, steps: int = 300, pairs: int = 2000) -> Leashes:
    """Gradient descent on all comparisons; and the minimum by Newton's method."""
    data = shares(*comparisons(pairs))
    chosen, rejected, share = data
    codes = (beta_code.once, beta_code.beta_twice)
    loss, apart = [], []
    for code in codes:
        losses, policies = descended(_on_logits(code), data, beta=trained, rate=rate, steps=steps)
        loss.append((losses * share).sum(-1))
        apart.append(divergence(policies))
    one = torch.eye(OUTCOMES, dtype=torch.float64)
    margin, least = fitted(one[chosen] - one[rejected], share), []
    for code, power in zip(codes, (1, 2), strict=True):
        logp = REFERENCE.log() + margin / trained**power
        at = [code(p[chosen], p[rejected], REFERENCE.log()[chosen], REFERENCE.log()[rejected], trained) for p in logp]
        least.append((torch.stack(at) * share).sum(-1))
    grid = np.geomspace(0.1, 10, 21)
    end = [[divergence((REFERENCE.log() + margin / b**power).softmax(-1)) for b in grid] for power in (1, 2)]
    gibbs = [
        [divergence(gibbs_policy(REFERENCE.log(), REWARD, beta=b**power)).item() for b in grid] for power in (1, 2)
    ]
    arrays = (torch.stack(x).numpy() for x in (loss, apart, least))
    end = torch.stack([torch.stack(x) for x in end]).numpy()
    return Leashes(np.arange(steps + 1), *arrays, trained, grid, end, np.array(gibbs))


def _on_logits(code):
    """A loss of log-probabilities as one of logits."""

    def on_logits(policy, reference, chosen, rejected, beta):
        logp, logp_ref = policy.log_softmax(-1), reference.log_softmax(-1)
        return code(logp[chosen], logp[rejected], logp_ref[chosen], logp_ref[rejected], beta)

    return on_logits
