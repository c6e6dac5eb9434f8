"""What the plots of the museum show, as arrays: every training is one batched program over codes and 8 seeds."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pocourse.engine import MLP, SeedStreams
from pocourse.engine.rollout import log_prob
from pocourse.ratio_clipping.figures import value_and_slope
from pocourse.ratio_clipping.museum import clip_without_minimum as clip
from pocourse.ratio_clipping.museum import k1_penalty as k1
from pocourse.ratio_clipping.museum import max_for_min as larger
from pocourse.ratio_clipping.museum import minimum_of_means as means
from pocourse.ratio_clipping.museum import missing_minus as minus
from pocourse.ratio_clipping.museum import ratio_always_one as forgetful
from pocourse.ratio_clipping.museum import suspects as s
from pocourse.ratio_clipping.objectives import ppo_clip_loss
from pocourse.worlds import contextual_batch, sample_action

EPS = 0.2
SEEDS = 8
PUSHED = 20  # steps the wrong way, before a training that starts from a displaced policy

# ---------------------------------------------------------------- curves against the ratio


def curves(codes: Mapping[str, Callable], ratio: np.ndarray, advantage: float) -> dict[str, tuple]:
    """Value and slope of every code against the ratio, for one advantage: name -> (value, slope), each [point]."""
    return {name: value_and_slope(code, ratio, advantage) for name, code in codes.items()}


# ---------------------------------------------------------------- a bandit with three actions


class Bandit(NamedTuple):
    """Mean reward of the policy and value of the loss after every update, [update, code, seed]; the codes' names."""

    reward: np.ndarray
    loss: np.ndarray
    codes: tuple[str, ...]


def bandit(
    losses: Mapping[str, Callable],
    *,
    updates: int = 60,
    actions: int = 64,
    epochs: int = 4,
    learning_rate: float = 0.3,
    num_seeds: int = SEEDS,
) -> Bandit:
    """A softmax policy over three actions that pay 1, 0.5 and 0: per update 64 actions and 4 steps of descent.

    ``loss`` is the mean loss that the code reports in the last of the steps.
    """
    pay = torch.tensor([1.0, 0.5, 0.0])
    uniform = SeedStreams(range(num_seeds)).uniform(updates, actions)
    logits = torch.zeros(len(losses), num_seeds, 3)
    rewards, values = [logits.softmax(-1) @ pay], []
    for update in range(updates):
        prob = logits.softmax(-1)
        drawn = uniform[:, update].expand(len(losses), -1, -1)
        action = sample_action(prob.unsqueeze(-2).expand(*drawn.shape, 3), drawn)
        logp_old = prob.log().gather(-1, action)
        earned = pay[action]
        advantage = earned - earned.mean(-1, keepdim=True)
        for _ in range(epochs):
            logits = logits.detach().requires_grad_()
            ratio = (logits.log_softmax(-1).gather(-1, action) - logp_old).exp()
            loss = torch.stack([f(*x) for f, *x in zip(losses.values(), ratio, advantage, strict=True)]).mean(-1)
            (slope,) = torch.autograd.grad(loss.sum(), logits)
            logits = logits.detach() - learning_rate * slope
        rewards.append(logits.softmax(-1) @ pay)
        values.append(loss.detach())
    return Bandit(torch.stack(rewards).numpy(), torch.stack(values).numpy(), tuple(losses))


# ---------------------------------------------------------------- the contextual batch of noise


class Noise(NamedTuple):
    """Steps on one batch of noise: ratios [step, code, seed, sample], which samples get a gradient, advantages."""

    ratio: np.ndarray
    fed: np.ndarray
    advantage: np.ndarray
    codes: tuple[str, ...]

    @property
    def deviation(self) -> np.ndarray:
        """Mean of |r - 1|, [step, code, seed]."""
        return np.abs(self.ratio - 1).mean(-1)

    @property
    def gone(self) -> np.ndarray:
        """How far every sample has gone the way its advantage pushes it, (r - 1) sign A."""
        return (self.ratio - 1) * np.sign(self.advantage)


def noise(
    losses: Mapping[str, Callable],
    *,
    steps: int = 100,
    pushed: int = 0,
    depth: int = 1,
    learning_rate: float = 3e-3,
    num_seeds: int = SEEDS,
) -> Noise:
    """Full-batch Adam on the contextual batch of the chapter, all codes and seeds at once.

    ``losses`` maps names to ``loss(logp, logp_old, advantage)`` on [seed, sample]; what comes back is summed. With
    ``pushed`` the policy first takes that many steps against the advantages, the same for all codes.
    """
    batch = contextual_batch(num_seeds=num_seeds, generator=torch.Generator().manual_seed(0))
    network = MLP((batch.context.shape[-1], *(64,) * depth, batch.num_actions), head_gain=0.01)
    start = network.init(SeedStreams(range(num_seeds)))
    with torch.no_grad():
        logits = network(start, batch.context)
        action = sample_action(logits.softmax(-1), batch.uniform)
        logp_old = log_prob(logits, action)

    def against(logp: Tensor, logp_old: Tensor, advantage: Tensor) -> Tensor:
        return (logp - logp_old).exp() * advantage

    setting = network, batch, action, logp_old, learning_rate
    if pushed:
        start, _, _ = _descend({"pushed": against}, start, setting, pushed)
    _, ratio, fed = _descend(losses, start.repeat(len(losses), 1), setting, steps)
    return Noise(ratio.numpy(), fed.numpy(), batch.advantage.numpy(), tuple(losses))


def _descend(losses, start, setting, steps):
    network, batch, action, logp_old, learning_rate = setting
    count = len(losses)
    context, action, logp_old, advantage = (
        x.repeat(count, *[1] * (x.ndim - 1)) for x in (batch.context, action, logp_old, batch.advantage)
    )
    parameters = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([parameters], lr=learning_rate)
    ratios, feds = [], []
    for step in range(steps + 1):
        logp = log_prob(network(parameters, context), action)
        parts = zip(losses.values(), *(x.chunk(count) for x in (logp, logp_old, advantage)), strict=True)
        loss = sum(f(*mine).sum() for f, *mine in parts)
        (slope,) = torch.autograd.grad(loss, logp, retain_graph=True)
        ratios.append((logp.detach() - logp_old).exp())
        feds.append(slope != 0)
        if step < steps:
            (parameters.grad,) = torch.autograd.grad(logp, parameters, slope / logp.shape[-1])
            optimizer.step()
    shape = (count, -1, advantage.shape[-1])
    return parameters.detach(), *(torch.stack([x.reshape(shape) for x in rows]) for rows in (ratios, feds))


def by_ratio(loss: Callable) -> Callable:
    """A loss of the ratio as one of log-probabilities."""

    def other(logp, logp_old, advantage):
        return loss((logp - logp_old).exp(), advantage)

    return other


def per_seed(loss: Callable) -> Callable:
    """A loss that makes one number of a batch, for many seeds at once."""

    def other(logp, logp_old, advantage):
        return torch.vmap(loss)((logp - logp_old).exp(), advantage) * logp.shape[-1]

    return other


# ---------------------------------------------------------------- the symptoms, piece by piece

RIGHT, WRONG, HALF, FLOOR = "PPO's loss", "published", "half-mended", "−rA"
LOSSES = {RIGHT: s.ppo_loss, "without its minus": minus.missing_minus}
LARGER = {FLOOR: s.loss_of(s.unclipped), RIGHT: s.ppo_loss, WRONG: larger.max_for_min, HALF: larger.half_mended}


def missing_minus() -> Bandit:
    """The right loss and the one without its minus on the bandit."""
    return bandit(LOSSES)


class Larger(NamedTuple):
    bandit: Bandit
    noise: Noise


def max_for_min() -> Larger:
    """PPO's loss, the published and the half-mended one: on the bandit and on 300 steps of noise."""
    losses = {name: loss for name, loss in LARGER.items() if name != FLOOR}
    return Larger(bandit(losses), noise({name: by_ratio(loss) for name, loss in losses.items()}, steps=300))


class Means(NamedTuple):
    """Slopes of two watched samples while a third one's ratio is ``moved``, [code, sample, point]; a training."""

    moved: np.ndarray
    slope: np.ndarray
    noise: Noise


MEANS = {"mean of minima": means.mean_ppo, "minimum of means": means.minimum_of_means}


def minimum_of_means(*, points: int = 241) -> Means:
    """One ratio decides for the others; and 100 steps of noise from a policy that was pushed the wrong way.

    Watched are two samples with A = 1: one that has gone too far, r = 1.5, and one on the wrong side, r = 0.6. The
    slopes are those of the objective, times n.
    """
    moved = torch.linspace(0, 2, points, dtype=torch.float64)
    ratio = torch.stack([torch.full_like(moved, 1.5), torch.full_like(moved, 0.6), moved], -1)
    found = []
    for loss in MEANS.values():
        r = ratio.clone().requires_grad_()
        (slope,) = torch.autograd.grad(torch.vmap(loss)(r, torch.ones_like(r)).sum(), r)
        found.append(-3 * slope[:, :2].T)
    losses = {name: per_seed(loss) for name, loss in MEANS.items()}
    return Means(moved.numpy(), torch.stack(found).numpy(), noise(losses, pushed=PUSHED))


CLIPS = {"PPO": s.ppo, "clip alone": clip.clip_without_minimum}


def clip_without_minimum() -> Noise:
    """100 steps on the batch of noise, from a policy that was pushed the wrong way."""
    return noise({name: by_ratio(s.loss_of(code)) for name, code in CLIPS.items()}, pushed=PUSHED)


def share_left(run: Noise) -> np.ndarray:
    """Of the samples that start beyond the wrong edge, the share that still is there, [step, code, seed]."""
    began = run.gone[0] < -EPS
    return ((run.gone < -EPS) & began).sum(-1) / began.sum(-1)


def share_wrong(run: Noise) -> np.ndarray:
    """The share of all samples beyond the wrong edge, [step, code, seed]."""
    return (run.gone < -EPS).mean(-1)


def ratio_always_one() -> Noise:
    """300 steps on the batch of noise: the right code, and the one whose ratio is always 1."""
    return noise({"right": ppo_clip_loss, "always one": forgetful.ratio_always_one}, steps=300)


class Pull(NamedTuple):
    """Gradients of many batches of sampled actions, [penalty, batch, 3], exact means [penalty, 3], the true gradient
    of KL(pi || pi_ref); and KL over the steps of a descent on the penalty alone, [step, penalty, seed]."""

    gradient: np.ndarray
    mean: np.ndarray
    truth: np.ndarray
    kl: np.ndarray
    penalties: tuple[str, ...]


PENALTIES = {"k2": k1.k2, "k1": k1.k1_penalty}


def k1_penalty(
    *, count: int = 300, actions: int = 16, steps: int = 300, learning_rate: float = 0.1, num_seeds: int = SEEDS
) -> Pull:
    """Sampled gradients of k1 and k2 in the logits of three actions, and what descent on them does.

    The last "penalty" of ``kl`` is the exact divergence.
    """
    start = torch.tensor([0.6, 0.3, 0.1]).log()
    logp_ref = torch.tensor([0.1, 0.3, 0.6]).log()

    def divergence(logits: Tensor) -> Tensor:
        logp = logits.log_softmax(-1)
        return (logp.exp() * (logp - logp_ref)).sum(-1)

    def sampled(penalty: Callable, logits: Tensor, uniform: Tensor) -> Tensor:
        logp = logits.log_softmax(-1).unsqueeze(-2).expand(*uniform.shape, 3)
        action = sample_action(logp.detach().exp(), uniform)
        value = penalty(logp, logp_ref.expand_as(logp)).gather(-1, action.unsqueeze(-1))
        return value.squeeze(-1).mean(-1).sum()

    uniform = SeedStreams([0]).uniform(count, actions)[0]
    at = start.expand(count, 3).clone().requires_grad_()
    one = start.clone().requires_grad_()
    gradients = [torch.autograd.grad(sampled(penalty, at, uniform), at)[0] for penalty in PENALTIES.values()]
    means = [
        torch.autograd.grad((start.exp() * penalty(one.log_softmax(-1), logp_ref)).sum(), one)[0]
        for penalty in PENALTIES.values()
    ]
    (truth,) = torch.autograd.grad(divergence(one), one)

    uniform = SeedStreams(range(num_seeds)).uniform(steps, actions)
    logits = start.expand(len(PENALTIES) + 1, num_seeds, 3).clone()
    kl = [divergence(logits)]
    for step in range(steps):
        logits = logits.detach().requires_grad_()
        parts = [sampled(f, mine, uniform[:, step]) for f, mine in zip(PENALTIES.values(), logits, strict=False)]
        (slope,) = torch.autograd.grad(sum(parts) + divergence(logits[-1]).sum(), logits)
        logits = logits.detach() - learning_rate * slope
        kl.append(divergence(logits))
    arrays = (torch.stack(x).numpy() for x in (gradients, means))
    return Pull(*arrays, truth.numpy(), torch.stack(kl).numpy(), (*PENALTIES, "exact"))
