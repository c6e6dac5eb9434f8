"""The on-policy loop: collect, credit, improve, and yield one record of metrics per update.

The loop knows no equation. It is handed its credit function (such as GAE) and, for each method to
be compared, its loss; all methods and all seeds train as one batch along the leading axis. Methods
meet the same random numbers seed by seed, which makes every comparison a paired one.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pocourse import _check
from pocourse.engine.rollout import Agent, Batch, World, collect, log_prob, start
from pocourse.engine.streams import SeedStreams

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
Metrics = dict[str, Float[Tensor, "method seed"]]


class Samples(dict):
    """Named tensors [seed, sample, ...]; ``take(order)`` picks the samples of each seed in its own order."""

    def take(self, order: Tensor) -> "Samples":
        seeds, count = next(iter(self.values())).shape[:2]
        rows = (order + count * torch.arange(seeds, device=order.device).unsqueeze(1)).flatten()
        return Samples(
            {name: x.flatten(0, 1).index_select(0, rows).unflatten(0, order.shape) for name, x in self.items()}
        )


class Seen(NamedTuple):
    """What a probe is shown after an update; ``row`` counts the seeds of the first method, then of the second, ...

    ``before`` are the parameters that acted, ``after`` those that the improvement left; for a seed that is held both
    are its last good ones. ``samples`` holds obs, action, logp_old, advantage and value_target, each
    [row, sample, ...]. ``states`` is the world's NamedTuple [time, row, env, ...]: sample t * envs + e of a row was
    taken in its state [t, row, e].
    """

    agent: Agent
    world: World
    before: Float[Tensor, "row parameter"]
    after: Float[Tensor, "row parameter"]
    samples: Samples
    states: Any


Probe = Callable[[Seen], Mapping[str, Tensor]]


def on_policy(
    world: World,
    agent: Agent,
    streams: SeedStreams,
    losses: Mapping[str, Loss],
    *,
    credit: Callable[..., Tensor],
    num_updates: int,
    num_envs: int = 16,
    num_steps: int = 128,
    num_epochs: int = 4,
    num_minibatches: int = 4,
    learning_rate: float = 2.5e-3,
    value_coef: float = 0.5,
    entropy_coef: float = 0.0,
    max_grad_norm: float = 0.5,
    probe: Probe | None = None,
) -> Iterator[Metrics]:
    """Train every method of ``losses`` on every seed of ``streams``, and yield metrics [method, seed] per update.

    ``losses`` maps a method's name to ``loss(logp, logp_old, advantage) -> [*batch]``, one value per sample.
    ``credit`` is called as ``credit(reward, value, next_value, terminated, truncated)`` on [time, seed, env]
    and returns the advantage. The learning rate falls linearly to zero over ``num_updates``.
    ``probe`` looks at every update once it is made, without gradient, and returns further metrics by name, each
    [row] (see ``Seen``); it must not wait for the host, and changes nothing.

    Yields: ``return_sum`` and ``episodes`` (of the episodes that ended in this update), ``ratio_deviation``
    (largest minibatch mean of |r - 1|, as the loss meets it, before the minibatch's step), ``kl`` (k3, mean over the
    last epoch), ``entropy``, ``value_loss``, ``alive`` (False once a seed's parameters were no longer finite: it is
    held at its last good state, and the metrics of its improvement and of the probe are NaN from then on).
    Raises: ValueError, at the call, for counts below one, minibatches that do not divide the batch or hold fewer than
    two samples, coefficients that are negative, or no method at all. While it runs: for a loss that is not one value
    per sample, for a probe whose metrics are not floating [row], carry gradient or take a name of the loop's own.
    """
    if not losses:
        raise ValueError(
            "expected at least one method in losses; got none. Pass a dict such as {'PPO': ppo_clip_loss}."
        )
    _check.number(at_least=1, num_updates=num_updates, num_envs=num_envs, num_steps=num_steps, num_epochs=num_epochs)
    _check.number(at_least=1, num_minibatches=num_minibatches)
    _check.number(above=0, learning_rate=learning_rate, max_grad_norm=max_grad_norm)
    _check.number(at_least=0, value_coef=value_coef, entropy_coef=entropy_coef)
    size = num_envs * num_steps
    if size % num_minibatches or size < 2 * num_minibatches:
        raise ValueError(
            f"expected num_minibatches to divide num_envs * num_steps = {size} into parts of at least 2 samples; "
            f"got {num_minibatches}. Choose a smaller divisor, such as 4 for 2048."
        )
    return _updates(
        world,
        agent,
        streams,
        losses,
        credit,
        num_updates=num_updates,
        num_envs=num_envs,
        num_steps=num_steps,
        num_epochs=num_epochs,
        learning_rate=learning_rate,
        num_minibatches=num_minibatches,
        value_coef=value_coef,
        entropy_coef=entropy_coef,
        max_grad_norm=max_grad_norm,
        probe=probe,
    )


def _updates(
    world,
    agent,
    streams,
    losses,
    credit,
    *,
    num_updates,
    num_envs,
    num_steps,
    num_epochs,
    learning_rate,
    probe,
    **improvement,
):
    methods, size = len(losses), num_envs * num_steps
    parameters = per_method(agent.init(streams), methods).requires_grad_()
    optimizer = torch.optim.Adam([parameters], lr=learning_rate, eps=1e-5, fused=True)
    with _check.values_unread():
        running = start(world, per_method(streams.uniform(num_envs, world.reset_dim), methods))
    alive = torch.ones(len(parameters), dtype=torch.bool, device=parameters.device)

    for update in range(num_updates):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * (1 - update / num_updates)
        last_good = parameters.detach().clone()
        action_uniform = per_method(streams.uniform(num_steps, num_envs), methods).transpose(0, 1)
        reset_uniform = per_method(streams.uniform(num_steps, num_envs, world.reset_dim), methods).transpose(0, 1)
        orders = streams.permutations(num_epochs, size).repeat(1, methods, 1)
        with _check.values_unread():
            batch, running = collect(
                world,
                running,
                lambda obs: agent.logits(parameters, obs),
                action_uniform=action_uniform.contiguous(),
                reset_uniform=reset_uniform.contiguous(),
                keep_states=probe is not None,
            )
            samples = to_samples(batch, agent, parameters, credit)
            metrics = improve(
                agent,
                parameters,
                optimizer,
                samples,
                list(losses.values()),
                orders,
                **improvement,
            )
        with torch.no_grad():
            alive = alive & parameters.isfinite().all(1)
            parameters.copy_(torch.where(alive.unsqueeze(1), parameters, last_good))
        metrics |= episode_metrics(batch) | {"alive": alive}
        if probe is not None:
            after = parameters.detach().clone()
            metrics |= probed(probe, Seen(agent, world, last_good, after, samples, batch.state), metrics)
        yield {name: value.unflatten(0, (methods, len(streams))) for name, value in metrics.items()}


@torch.no_grad()
def to_samples(batch: Batch, agent: Agent, parameters: Tensor, credit: Callable[..., Tensor]) -> Samples:
    """Give each step its advantage and its value target, and lay the batch out as [seed, sample]."""
    num_steps, _, num_envs = batch.reward.shape

    def value_of(obs):
        rows = obs.transpose(0, 1).flatten(1, 2)
        return agent.value(parameters, rows).unflatten(1, (num_steps, num_envs)).transpose(0, 1)

    value, next_value = value_of(batch.obs), value_of(batch.next_obs)
    advantage = credit(batch.reward, value, next_value, batch.terminated, batch.truncated)
    by_step = {
        "obs": batch.obs,
        "action": batch.action,
        "logp_old": batch.logp,
        "advantage": advantage,
        "value_target": advantage + value,
    }
    return Samples({name: x.transpose(0, 1).flatten(1, 2) for name, x in by_step.items()})


def improve(
    agent: Agent,
    parameters: Tensor,
    optimizer: torch.optim.Optimizer,
    samples: Samples,
    losses: list[Loss],
    orders: Tensor,
    *,
    num_minibatches: int,
    value_coef: float,
    entropy_coef: float,
    max_grad_norm: float,
) -> dict[str, Tensor]:
    """Several epochs of minibatch steps; ``orders`` [epoch, seed, sample] says in which order.

    Returns metrics [seed].
    """
    deviations, last = [], []
    for epoch, order in enumerate(orders):
        for part in order.chunk(num_minibatches, dim=1):
            mini = samples.take(part)
            logits, value = agent(parameters, mini["obs"])
            logp = log_prob(logits, mini["action"])
            advantage = normalise(mini["advantage"])
            policy_loss = each_method(losses, logp, mini["logp_old"], advantage)
            value_loss = 0.5 * (value - mini["value_target"]) ** 2
            entropy = -(logits.log_softmax(-1) * logits.softmax(-1)).sum(-1)
            loss = policy_loss + value_coef * value_loss - entropy_coef * entropy
            # Mean over a seed's samples, sum over seeds: each seed's gradient is its own.
            (parameters.grad,) = torch.autograd.grad(loss.mean(1).sum(), parameters)
            clip_per_seed(parameters.grad, max_grad_norm)
            optimizer.step()
            with torch.no_grad():
                log_ratio = logp - mini["logp_old"]
                ratio = log_ratio.exp()
                deviations.append((ratio - 1).abs().mean(1))
                if epoch == len(orders) - 1:
                    last.append(torch.stack([(ratio - 1 - log_ratio).mean(1), entropy.mean(1), value_loss.mean(1)]))
    kl, entropy, value_loss = torch.stack(last).mean(0)
    return {
        "ratio_deviation": torch.stack(deviations).amax(0),
        "kl": kl,
        "entropy": entropy,
        "value_loss": value_loss,
    }


def normalise(advantage: Float[Tensor, "seed sample"]) -> Float[Tensor, "seed sample"]:
    """Mean zero and standard deviation one within each seed's minibatch."""
    return (advantage - advantage.mean(1, keepdim=True)) / (advantage.std(1, keepdim=True) + 1e-8)


@torch.no_grad()
def clip_per_seed(gradient: Float[Tensor, "seed parameter"], max_norm: float) -> None:
    """Shorten, in place, each seed's gradient to at most ``max_norm``."""
    norm = gradient.norm(dim=1, keepdim=True)
    gradient.mul_((max_norm / (norm + 1e-6)).clamp(max=1.0))


def probed(probe: Probe, seen: Seen, metrics: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What ``probe`` finds, beside the loop's own ``metrics`` [row] of the same update; NaN for a seed that is held."""
    with torch.no_grad(), _check.values_unread():
        found = probe(seen)
    if not isinstance(found, Mapping):
        raise ValueError(
            f"expected a dict of metrics from the probe; got {type(found).__name__}. Return {{}} where there are none."
        )
    taken = sorted(metrics.keys() & found.keys())
    if taken:
        raise ValueError(
            f"expected a probe's metrics under names of their own; got {', '.join(taken)}, which the loop yields "
            "itself. Give them other names."
        )
    alive = metrics["alive"]
    for name, value in found.items():
        _check.shape(alive.shape, **{name: value})
        with _check.values_unread():
            _check.floating(**{name: value})
        _check.constant(**{name: value})
    return {name: torch.where(alive, value, math.nan) for name, value in found.items()}


def episode_metrics(batch: Batch) -> dict[str, Tensor]:
    """Sum of the returns and number of the episodes that ended in this batch, per seed."""
    done = batch.terminated | batch.truncated
    return {"return_sum": batch.finished_return.sum((0, 2)), "episodes": done.sum((0, 2))}


def each_method(losses: list[Loss], logp: Tensor, logp_old: Tensor, advantage: Tensor) -> Tensor:
    """Each method's loss on its own share of the leading axis, which holds method after method."""
    parts = (x.chunk(len(losses)) for x in (logp, logp_old, advantage))
    found = [loss(*mine) for loss, *mine in zip(losses, *parts, strict=True)]
    for one in found:
        _check.shape((len(logp) // len(losses), *logp.shape[1:]), loss=one)
    return torch.cat(found)


def per_method(x: Tensor, methods: int) -> Tensor:
    """Repeat a [seed, ...] tensor for every method."""
    return x.repeat(methods, *[1] * (x.ndim - 1))
