"""A convolutional actor-critic with a seed axis, and the loop on a world of pictures."""

import math
from functools import partial
from typing import NamedTuple

import pytest
import torch
from helpers import NoHostSync
from torch.nn import functional

from pocourse import _check
from pocourse.engine import ConvActorCritic, SeedStreams, collect, log_prob, on_policy, start
from pocourse.engine.on_policy import Samples, to_samples
from pocourse.policy_gradient.estimators import gae
from pocourse.ratio_clipping.objectives import importance_loss, ppo_clip_loss

F64 = torch.float64
GAE = partial(gae, gamma=0.9, gae_lambda=0.95)
LOSSES = {"unclipped": importance_loss, "PPO": ppo_clip_loss}
SMALL = {"num_envs": 4, "num_steps": 16, "num_epochs": 2, "num_minibatches": 4, "learning_rate": 0.02}


def refused(*words):
    return pytest.raises(ValueError, match=r"(?s)expected .*got .*" + ".*".join(words))


class Spot(NamedTuple):
    row: torch.Tensor
    side: torch.Tensor
    steps: torch.Tensor


class Chase:
    """A light stands left or right in a picture of flags [2, 4, 5]; action 1 is right where it stands right.

    The second channel shows in which row it stands; each step is an episode's last with the third row.
    """

    obs_shape, num_actions, reset_dim = (2, 4, 5), 2, 2

    def reset(self, uniform):
        steps = torch.zeros_like(uniform[..., 0], dtype=torch.int64)
        return Spot((3 * uniform[..., 0]).long(), (2 * uniform[..., 1]).long(), steps)

    def observe(self, state):
        row = torch.arange(4) == state.row.unsqueeze(-1)
        column = torch.arange(5) == (4 * state.side).unsqueeze(-1)
        light = row.unsqueeze(-1) & column.unsqueeze(-2)
        return torch.stack([light, row.unsqueeze(-1).expand_as(light)], -3)

    def step(self, state, action):
        right = action == state.side
        done = state.row == 2
        led_to = Spot((state.row + 1).clamp(max=3), 1 - state.side, state.steps + 1)
        return led_to, right.to(self.dtype), done, torch.zeros_like(done)

    def restart(self, state, done, uniform):
        return Spot(*(torch.where(done, new, old) for new, old in zip(self.reset(uniform), state, strict=True)))

    def __init__(self, dtype=F64):
        self.dtype = dtype


def _generator(seed):
    return torch.Generator().manual_seed(seed)


def small_agent(**sizes):
    return ConvActorCritic(Chase.obs_shape, Chase.num_actions, **{"channels": 3, "hidden": 8, **sizes})


def random_parameters(agent, seeds=4):
    drawn = agent.init(SeedStreams(range(seeds), dtype=F64))
    return (drawn + 0.2 * torch.randn(drawn.shape, dtype=F64, generator=_generator(1))).requires_grad_()


def plain_layers(agent, parameters):
    """The four layers of one seed as torch.nn.functional wants them, read by hand from the stored order."""
    depth, height, width = agent.obs_shape
    flat, at, found = agent.channels * (height - 2) * (width - 2), 0, []
    shapes = [(agent.channels, depth, 3, 3), (flat, agent.hidden), (agent.hidden, agent.num_actions), (agent.hidden, 1)]
    for index, shape in enumerate(shapes):
        outs = shape[0] if index == 0 else shape[1]
        weight = parameters[at : at + math.prod(shape)].reshape(shape)
        at += math.prod(shape)
        found.append((weight if index == 0 else weight.T, parameters[at : at + outs]))
        at += outs
    assert at == len(parameters) == agent.num_parameters
    return found


def plain_forward(agent, parameters, obs):
    conv, dense, policy, value = plain_layers(agent, parameters)
    x = functional.relu(functional.conv2d(obs.double(), *conv)).flatten(1)
    x = functional.relu(functional.linear(x, *dense))
    return functional.linear(x, *policy), functional.linear(x, *value).squeeze(-1)


@pytest.mark.parametrize("flags", [True, False])
@pytest.mark.parametrize("seeds", [1, 4])
def test_forward_and_gradient_equal_a_loop_over_seeds(flags, seeds):
    agent = ConvActorCritic((2, 4, 6), 3, channels=5, hidden=7)
    parameters = random_parameters(agent, seeds)
    obs = torch.randn(seeds, 6, 2, 4, 6, dtype=F64, generator=_generator(2))
    obs = obs > 0 if flags else obs
    ours = agent(parameters, obs)
    plain = [torch.stack(x) for x in zip(*map(partial(plain_forward, agent), parameters, obs), strict=True)]
    assert ours[0].shape == (seeds, 6, 3) and ours[1].shape == (seeds, 6)
    torch.testing.assert_close(list(ours), plain, rtol=0, atol=1e-13)
    gradients = [torch.autograd.grad((x**3).sum() + (y**2).sum(), parameters)[0] for x, y in (ours, plain)]
    torch.testing.assert_close(*gradients, rtol=1e-11, atol=1e-12)


def test_the_gradient_is_that_of_central_differences():
    agent = small_agent()
    obs = torch.randn(2, 3, *agent.obs_shape, dtype=F64, generator=_generator(3))
    assert torch.autograd.gradcheck(lambda parameters: agent(parameters, obs), random_parameters(agent, 2))


def test_logits_and_value_alone_are_those_of_both():
    agent = small_agent()
    parameters, obs = random_parameters(agent), torch.rand(4, 6, 2, 4, 5, dtype=F64, generator=_generator(4))
    logits, value = agent(parameters, obs)
    assert torch.equal(agent.logits(parameters, obs), logits) and torch.equal(agent.value(parameters, obs), value)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_a_seed_that_is_not_finite_leaves_the_others_alone(dtype):
    agent = ConvActorCritic((4, 10, 10), 3)
    sound = agent.init(SeedStreams(range(4), dtype=dtype))
    obs = torch.rand(4, 32, 4, 10, 10, generator=_generator(5)) < 0.1
    ill = sound.clone()
    ill[1] = math.nan
    found = []
    for parameters in (sound.requires_grad_(), ill.requires_grad_()):
        logits, value = agent(parameters, obs)
        (gradient,) = torch.autograd.grad(logits[..., 0].square().sum() + value.square().sum(), parameters)
        found.append((logits.detach(), value.detach(), gradient))
    for good, bad in zip(*found, strict=True):
        assert bad[1].isnan().any()
        assert torch.equal(good[[0, 2, 3]], bad[[0, 2, 3]])


@pytest.mark.parametrize("channels", [3, 40])  # fewer filters than a window has entries, and more
def test_layers_start_orthogonal_and_biases_at_zero(channels):
    agent = small_agent(channels=channels)
    parameters = agent.init(SeedStreams(range(3), dtype=F64))
    assert parameters.shape == (3, agent.num_parameters) and parameters.dtype == F64
    for own in parameters:
        layers = plain_layers(agent, own)
        for (weight, bias), gain in zip(layers, (math.sqrt(2), math.sqrt(2), 0.01, 1.0), strict=True):
            weight = weight.flatten(1)
            wide = weight if weight.shape[0] <= weight.shape[1] else weight.T
            torch.testing.assert_close(wide @ wide.T, gain**2 * torch.eye(len(wide), dtype=F64))
            assert (bias == 0).all()
    assert (parameters[0] != parameters[1])[parameters[0] != 0].all()


def test_a_seeds_start_does_not_depend_on_the_others():
    agent = small_agent()
    together, alone = (agent.init(SeedStreams(seeds, dtype=F64)) for seeds in ([0, 3, 7], [3]))
    torch.testing.assert_close(together[1:2], alone, rtol=0, atol=1e-14)  # LAPACK may round by where a matrix lies


def test_the_defaults_are_minatars_sizes():
    agent = ConvActorCritic((4, 10, 10), 3)
    assert agent.lengths == [16 * 4 * 9, 16, 16 * 64 * 128, 128, 128 * 3, 3, 128, 1]


@pytest.mark.parametrize(
    "sizes",
    [
        {"channels": 0}, {"hidden": -1}, {"hidden": 8.0}, {"num_actions": 0}, {"channels": True},
        {"obs_shape": (4, 10)}, {"obs_shape": (4, 2, 10)}, {"obs_shape": (4, 10, 2)}, {"obs_shape": (0, 10, 10)},
    ],
)  # fmt: skip
def test_impossible_sizes_are_refused(sizes):
    with refused("MinAtar"):
        ConvActorCritic(**{"obs_shape": (4, 10, 10), "num_actions": 3, **sizes})


@pytest.mark.parametrize("shape", [(2, 6, 2, 4, 6), (3, 6, 2, 4, 5), (2, 6, 40), (2, 6, 4, 5, 2), (6,)])
def test_pictures_that_do_not_fit_are_refused(shape):
    agent = small_agent()
    with refused("obs"):
        agent(agent.init(SeedStreams(range(2))), torch.zeros(shape))


# --- pictures in the loop --------------------------------------------------------------------------------


def roll(*, steps=5, seeds=3, envs=2):
    world, agent, streams = Chase(), small_agent(), SeedStreams(range(seeds), dtype=F64)
    parameters = agent.init(streams)
    batch, _ = collect(
        world,
        start(world, streams.uniform(envs, world.reset_dim)),
        partial(agent.logits, parameters),
        action_uniform=streams.uniform(steps, envs).transpose(0, 1),
        reset_uniform=streams.uniform(steps, envs, world.reset_dim).transpose(0, 1),
        keep_states=True,
    )
    return batch, world, agent, parameters


def test_a_batch_holds_pictures_as_the_world_shows_them():
    batch, world, agent, parameters = roll()
    assert batch.obs.dtype == batch.next_obs.dtype == torch.bool
    assert batch.obs.shape == batch.next_obs.shape == (5, 3, 2, 2, 4, 5)
    assert isinstance(batch.state, Spot) and batch.state.row.shape == (5, 3, 2)
    assert torch.equal(world.observe(batch.state), batch.obs)
    for t in range(5):
        expected = log_prob(agent.logits(parameters, batch.obs[t]), batch.action[t])
        torch.testing.assert_close(batch.logp[t], expected, rtol=0, atol=1e-14)


def test_samples_keep_pictures_with_their_steps():
    batch, _, agent, parameters = roll()
    values = []

    def credit(reward, value, next_value, terminated, truncated):
        values.extend((value, next_value))
        return reward

    samples = to_samples(batch, agent, parameters, credit)
    assert samples["obs"].shape == (3, 10, 2, 4, 5) and samples["obs"].dtype == torch.bool
    for seed, t, env in ((0, 0, 0), (1, 3, 1), (2, 4, 0)):
        assert torch.equal(samples["obs"][seed, 2 * t + env], batch.obs[t, seed, env])
        assert samples["action"][seed, 2 * t + env] == batch.action[t, seed, env]
    for t in range(5):
        for mine, seen in zip(values, (batch.obs, batch.next_obs), strict=True):
            torch.testing.assert_close(mine[t], agent.value(parameters, seen[t]), rtol=0, atol=1e-14)


def test_pictures_are_taken_per_seed_in_its_own_order():
    obs = torch.rand(2, 4, 3, 2, 2, generator=_generator(0)) < 0.5
    order = torch.tensor([[3, 0], [1, 1]])
    taken = Samples(obs=obs, mark=torch.arange(8).reshape(2, 4)).take(order)
    assert taken["obs"].dtype == torch.bool and taken["mark"].tolist() == [[3, 0], [5, 5]]
    assert torch.equal(taken["obs"], torch.stack([obs[seed][order[seed]] for seed in range(2)]))


def train(losses=LOSSES, *, seeds=(0, 1, 2), updates=3, dtype=F64, agent=None, **settings):
    stream = on_policy(
        Chase(dtype),
        agent or small_agent(),
        SeedStreams(seeds, dtype=dtype),
        losses,
        credit=GAE,
        num_updates=updates,
        **{**SMALL, **settings},
    )
    found = list(stream)
    return {key: torch.stack([metrics[key] for metrics in found]) for key in found[0]}


def test_a_seed_and_a_method_train_the_same_without_the_others():
    everyone = train()
    fewer, only = train(seeds=[0, 2]), train({"PPO": ppo_clip_loss})
    for key in everyone:
        torch.testing.assert_close(everyone[key][:, :, [0, 2]], fewer[key], rtol=1e-9, atol=1e-9, msg=key)
        torch.testing.assert_close(everyone[key][:, 1:], only[key], rtol=1e-9, atol=1e-9, msg=key)


def test_the_loop_learns_from_pictures():
    """Only a policy that tells left from right earns more than half of the rewards."""
    found = train(updates=30, num_steps=32)
    steps = 4 * 32  # whole episodes' rewards alone are counted, so their mean is taken over three updates
    earned = found["return_sum"].unflatten(0, (10, 3)).mean(1) / steps
    assert ((earned[0] - 0.5).abs() < 0.3).all()
    assert (earned[-1] > 0.8).all()


def test_the_trunk_runs_once_for_logits_and_value_in_a_step(monkeypatch):
    calls = []
    whole = ConvActorCritic._convolve

    def watch(self, *args):
        calls.append(torch.is_grad_enabled())
        return whole(self, *args)

    monkeypatch.setattr(ConvActorCritic, "_convolve", watch)
    train(updates=1)
    assert sum(calls) == SMALL["num_epochs"] * SMALL["num_minibatches"]


def test_nothing_waits_for_the_device():
    def probe(seen):
        assert isinstance(seen.states, Spot) and seen.samples["obs"].shape == (6, 64, 2, 4, 5)
        _check.floating(nothing=torch.full((2,), math.nan))  # values are not read
        return {"mean_value": seen.agent.value(seen.after, seen.samples["obs"]).mean(1)}

    with NoHostSync():
        found = train(updates=2, dtype=torch.float32, probe=probe)
    assert found["mean_value"].shape == (2, 2, 3)
