"""Collecting experience: a policy meets a world, step by step, and leaves a batch [time, seed, env]."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from pocourse.engine.streams import SeedStreams
from pocourse.worlds import sample_action


class World(Protocol):
    """What a batched world offers; ``CartPole`` is one. Nothing in it draws random numbers.

    A state is a NamedTuple of tensors [seed, env, ...]; an observation has one axis or more after these two.
    """

    num_actions: int
    reset_dim: int

    def reset(self, uniform: Tensor) -> Any: ...
    def observe(self, state: Any) -> Tensor: ...
    def step(self, state: Any, action: Tensor) -> tuple[Any, Tensor, Tensor, Tensor]: ...
    def restart(self, state: Any, done: Tensor, uniform: Tensor) -> Any: ...


class Agent(Protocol):
    """What the loop asks of an agent; ``ActorCritic`` and ``ConvActorCritic`` are two.

    It holds no parameters: those of all seeds are one tensor [seed, parameter], which ``init`` draws and the
    loop hands in. Observations are [seed, row, ...], and each seed's rows meet that seed's parameters only.
    Calling the agent gives logits [seed, row, action] and value [seed, row] at once; ``logits`` and ``value`` give
    one of them.
    """

    def init(self, streams: SeedStreams) -> Tensor: ...
    def __call__(self, parameters: Tensor, obs: Tensor) -> tuple[Tensor, Tensor]: ...
    def logits(self, parameters: Tensor, obs: Tensor) -> Tensor: ...
    def value(self, parameters: Tensor, obs: Tensor) -> Tensor: ...


class Batch(NamedTuple):
    """Experience, every field [time, seed, env, ...].

    ``next_obs`` is what the step led to *before* any restart, so a time limit can be bootstrapped.
    ``finished_return`` holds the undiscounted return of an episode where it ended, zero elsewhere.
    ``state`` is the world's own NamedTuple, as it was when the action was taken; None unless it was asked for.
    """

    obs: Shaped[Tensor, "time seed env *obs"]
    action: Int[Tensor, "time seed env"]
    logp: Float[Tensor, "time seed env"]
    reward: Float[Tensor, "time seed env"]
    next_obs: Shaped[Tensor, "time seed env *obs"]
    terminated: Bool[Tensor, "time seed env"]
    truncated: Bool[Tensor, "time seed env"]
    finished_return: Float[Tensor, "time seed env"]
    state: Any = None


class Running(NamedTuple):
    """Where the episodes stand between two batches."""

    world_state: Any
    episode_return: Float[Tensor, "seed env"]


def start(world: World, uniform: Float[Tensor, "seed env reset"]) -> Running:
    """Begin an episode in every env."""
    return Running(world.reset(uniform), torch.zeros_like(uniform[..., 0]))


@torch.no_grad()
def collect(
    world: World,
    running: Running,
    logits_of: Callable[[Shaped[Tensor, "seed env *obs"]], Float[Tensor, "seed env action"]],
    *,
    action_uniform: Float[Tensor, "time seed env"],
    reset_uniform: Float[Tensor, "time seed env reset"],
    keep_states: bool = False,
) -> tuple[Batch, Running]:
    """Take one step per row of ``action_uniform`` in every env of every seed.

    The function is deterministic: its random numbers are handed in. It never waits for the host.
    With ``keep_states`` the batch carries the world's states as well.
    """
    state, episode_return = running
    rows, states = [], []
    for action_u, reset_u in zip(action_uniform, reset_uniform, strict=True):
        obs = world.observe(state)
        logits = logits_of(obs)
        action = sample_action(logits.softmax(-1), action_u)
        led_to, reward, terminated, truncated = world.step(state, action)
        if keep_states:
            states.append(state)
        done = terminated | truncated
        episode_return = episode_return + reward
        finished_return = episode_return * done
        rows.append((obs, action, logits, reward, world.observe(led_to), terminated, truncated, finished_return))
        episode_return = episode_return - finished_return
        state = world.restart(led_to, done, reset_u)
    obs, action, logits, *rest = (torch.stack(column) for column in zip(*rows, strict=True))
    logp = log_prob(logits, action)
    kept = state._make(torch.stack(column) for column in zip(*states, strict=True)) if keep_states else None
    return Batch(obs, action, logp, *rest, kept), Running(state, episode_return)


def log_prob(logits: Float[Tensor, "*batch action"], action: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """log pi(action) of the categorical distribution with these logits."""
    return logits.gather(-1, action.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(-1)
