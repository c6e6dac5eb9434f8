"""Networks with a seed axis, streams of random numbers, the rollout, the loop; each seed and method on its own."""

import itertools
import math
from functools import partial
from typing import NamedTuple

import pytest
import torch
from helpers import NoHostSync

from pocourse import _check
from pocourse.engine import MLP, ActorCritic, SeedStreams, collect, log_prob, on_policy, start
from pocourse.engine import on_policy as loop_function
from pocourse.engine.fixed_batch import fixed_batch
from pocourse.engine.nets import tanh
from pocourse.engine.on_policy import (
    Samples,
    clip_per_seed,
    each_method,
    episode_metrics,
    improve,
    normalise,
    per_method,
    to_samples,
)
from pocourse.policy_gradient.estimators import gae
from pocourse.ratio_clipping.objectives import importance_loss, kl_penalty_loss, ppo_clip_loss, spo_loss
from pocourse.worlds import CartPole, CartPoleState, contextual_batch

F64 = torch.float64
GAE = partial(gae, gamma=0.99, gae_lambda=0.95)
LOSSES = {"unclipped": importance_loss, "PPO": ppo_clip_loss, "KL": partial(kl_penalty_loss, kl_coef=1.0)}
SMALL = {"num_envs": 4, "num_steps": 32, "num_epochs": 2, "num_minibatches": 4, "learning_rate": 0.02}


def refused(*words):
    return pytest.raises(ValueError, match=r"(?s)expected .*got .*" + ".*".join(words))


def small_agent(world=None):
    world = world or CartPole()
    actor = MLP((world.obs_dim, 8, world.num_actions), head_gain=0.01)
    return ActorCritic(actor, MLP((world.obs_dim, 8, 1), head_gain=1.0))


def train(losses=LOSSES, *, seeds=(0, 1, 2), updates=3, dtype=F64, world=None, credit=GAE, agent=None, **settings):
    world = world or CartPole()
    agent = agent or small_agent(world)
    settings = {**SMALL, **settings}
    return on_policy(
        world, agent, SeedStreams(seeds, dtype=dtype), losses, credit=credit, num_updates=updates, **settings
    )


# --- networks ------------------------------------------------------------------------------------------


def weights(network, parameters):
    """[(weight [seed, in, out], bias [seed, out])], read by hand from the stored order."""
    found, at = [], 0
    for fan_in, fan_out in itertools.pairwise(network.sizes):
        weight = parameters[:, at : at + fan_in * fan_out].reshape(-1, fan_in, fan_out)
        at += fan_in * fan_out
        found.append((weight, parameters[:, at : at + fan_out]))
        at += fan_out
    assert at == parameters.shape[1] == network.num_parameters
    return found


@pytest.mark.parametrize("sizes", [(4, 16, 16, 2), (4, 6), (7, 3, 5, 1)])
def test_layers_start_orthogonal_and_biases_at_zero(sizes):
    network = MLP(sizes, head_gain=0.01)
    layers = weights(network, network.init(SeedStreams(range(5), dtype=F64)))
    for index, (weight, bias) in enumerate(layers):
        gain = 0.01 if index == len(layers) - 1 else math.sqrt(2)
        tall = weight if weight.shape[1] >= weight.shape[2] else weight.transpose(1, 2)
        gram = tall.transpose(1, 2) @ tall
        torch.testing.assert_close(gram, gain**2 * torch.eye(tall.shape[2], dtype=F64).expand_as(gram))
        assert (bias == 0).all()
        assert (weight[0] != weight[1]).all()


def test_the_orthogonal_start_is_uniform():
    """The first entry of a uniform orthonormal column in 3 dimensions has mean 0 and mean square 1/3."""
    network = MLP((3, 3), head_gain=1.0)
    first = weights(network, network.init(SeedStreams(range(2000), dtype=F64)))[0][0][:, 0, 0]
    for samples, mean in ((first, 0.0), (first**2, 1 / 3)):
        assert abs(samples.mean() - mean) < 4 * samples.std() / math.sqrt(len(samples))


def test_a_seeds_start_does_not_depend_on_the_others():
    agent = ActorCritic.tanh_mlps(4, 2, hidden=(16, 16))
    together, alone = agent.init(SeedStreams([0, 3, 7])), agent.init(SeedStreams([3]))
    assert torch.equal(together[1:2], alone)
    assert together.dtype == torch.float32


def plain_forward(network, parameters, x, seed):
    layers = weights(network, parameters)
    for index, (weight, bias) in enumerate(layers):
        x = x @ weight[seed] + bias[seed]
        x = torch.tanh(x) if index < len(layers) - 1 else x
    return x


def test_forward_and_gradient_equal_a_loop_over_seeds():
    network = MLP((3, 8, 5, 2), head_gain=1.0)
    parameters = network.init(SeedStreams(range(4), dtype=F64))
    parameters = (parameters + 0.1 * torch.randn(parameters.shape, dtype=F64, generator=_generator(1))).requires_grad_()
    x = torch.randn(4, 6, 3, dtype=F64, generator=_generator(2))
    ours = network(parameters, x)
    plain = torch.stack([plain_forward(network, parameters, x[seed], seed) for seed in range(4)])
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-14)
    gradients = [torch.autograd.grad((out**3).sum(), parameters)[0] for out in (ours, plain)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-13)


def test_the_fast_tanh_is_tanh():
    x = torch.tensor([-800.0, -20.0, -1.0, -1e-9, 0.0, 1e-9, 0.3, 1.0, 20.0, 800.0], dtype=F64, requires_grad=True)
    torch.testing.assert_close(tanh(x), torch.tanh(x), rtol=0, atol=4e-16)
    assert torch.autograd.gradcheck(tanh, torch.linspace(-3, 3, 11, dtype=F64, requires_grad=True))
    single = torch.linspace(-5, 5, 1001)
    torch.testing.assert_close(tanh(single), torch.tanh(single), rtol=0, atol=2e-7)


def test_actor_and_critic_are_parts_of_one_tensor():
    agent = ActorCritic.tanh_mlps(4, 2, hidden=(16,) * 3)
    assert agent.actor.sizes == (4, 16, 16, 16, 2) and agent.critic.sizes == (4, 64, 64, 1)
    parameters = agent.init(SeedStreams([5, 6]))
    actor, critic = agent.split(parameters)
    assert actor.shape[1] == 4 * 16 + 16 + 2 * (16 * 16 + 16) + 16 * 2 + 2
    assert torch.equal(torch.cat([actor, critic], 1), parameters)
    obs = torch.randn(2, 7, 4, generator=_generator(0))
    assert torch.equal(agent.logits(parameters, obs), agent.actor(actor, obs))
    assert torch.equal(agent.value(parameters, obs), agent.critic(critic, obs)[..., 0])
    logits, value = agent(parameters, obs)
    assert torch.equal(logits, agent.logits(parameters, obs)) and torch.equal(value, agent.value(parameters, obs))
    assert logits.abs().max() < 0.1  # the head starts near the uniform policy


@pytest.mark.parametrize("sizes", [(4,), (), (4, 0, 2), (4, 2.5, 2)])
def test_impossible_sizes_are_refused(sizes):
    with refused("Two hidden layers"):
        MLP(sizes, head_gain=1.0)


def test_a_head_without_gain_is_refused():
    with refused("head_gain"):
        MLP((4, 2), head_gain=0.0)


# --- streams -------------------------------------------------------------------------------------------

DRAWS = {
    "normal": lambda s: s.normal(3, 2),
    "uniform": lambda s: s.uniform(5),
    "permutations": lambda s: s.permutations(2, 9).transpose(0, 1),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_a_seed_alone_draws_what_it_draws_among_others(draw):
    among, alone = SeedStreams([0, 3, 9]), SeedStreams([3])
    for _ in range(2):  # the second block as well
        mine, only = draw(among), draw(alone)
        assert torch.equal(mine[1:2], only)
        assert not torch.equal(mine[0], mine[1])


def test_streams_say_which_numbers_they_give():
    streams = SeedStreams(range(3), dtype=F64)
    assert len(streams) == 3 and streams.seeds == [0, 1, 2]
    assert streams.normal(2).dtype == streams.uniform(2).dtype == F64
    assert SeedStreams([0]).uniform(2).dtype == torch.float32
    assert streams.uniform(4, 2).shape == (3, 4, 2)
    many = streams.uniform(5000)
    assert (many >= 0).all() and (many < 1).all()
    assert abs(many.mean() - 0.5) < 4 * many.std() / math.sqrt(many.numel())


def test_permutations_are_permutations():
    orders = SeedStreams(range(4)).permutations(3, 50)
    assert orders.shape == (3, 4, 50) and orders.dtype == torch.int64
    assert torch.equal(orders.sort(-1).values, torch.arange(50).expand(3, 4, 50))
    assert not torch.equal(orders[0], orders[1])


@pytest.mark.parametrize("seeds", [[], [1, 1], [-1], [0.5], ["0"], [True]])
def test_seeds_that_name_no_runs_are_refused(seeds):
    with refused("range"):
        SeedStreams(seeds)


# --- rollout -------------------------------------------------------------------------------------------


class Count(NamedTuple):
    step: torch.Tensor


class Counter:
    """Each step is worth 1; the observation counts steps; the time is up after ``limit``, or the world ends there."""

    obs_dim, num_actions, reset_dim = 1, 2, 1

    def __init__(self, limit, *, terminates=False):
        self.limit, self.terminates = limit, terminates

    def reset(self, uniform):
        return Count(torch.zeros_like(uniform[..., 0]))

    def observe(self, state):
        return state.step.unsqueeze(-1)

    def step(self, state, action):
        step = state.step + 1
        over, never = step >= self.limit, torch.zeros_like(step, dtype=torch.bool)
        flags = (over, never) if self.terminates else (never, over)
        return Count(step), torch.ones_like(step), *flags

    def restart(self, state, done, uniform):
        return Count(state.step.masked_fill(done, 0))


def uniforms(world, *, steps, seeds, envs, dtype=F64):
    streams = SeedStreams(range(seeds), dtype=dtype)
    first = streams.uniform(envs, world.reset_dim)
    action = streams.uniform(steps, envs).transpose(0, 1)
    reset = streams.uniform(steps, envs, world.reset_dim).transpose(0, 1)
    return first, {"action_uniform": action, "reset_uniform": reset}


def roll(world, *, steps=60, seeds=3, envs=5, dtype=F64):
    first, later = uniforms(world, steps=steps, seeds=seeds, envs=envs, dtype=dtype)
    agent = small_agent(world)
    parameters = agent.init(SeedStreams(range(seeds), dtype=dtype))
    batch, running = collect(world, start(world, first), partial(agent.logits, parameters), **later)
    return batch, running, agent, parameters


def test_a_rollout_can_be_replayed():
    one, two = (roll(CartPole())[0] for _ in range(2))
    assert one.state is two.state is None  # nobody asked for it
    assert all(torch.equal(a, b) for a, b in zip(one[:-1], two[:-1], strict=True))
    assert one.obs.shape == (60, 3, 5, 4) and one.reward.shape == (60, 3, 5)
    assert one.obs.dtype == one.logp.dtype == one.finished_return.dtype == F64


def test_a_rollout_in_two_halves_is_the_same_rollout():
    world = CartPole()
    whole, end, agent, parameters = roll(world)
    first, later = uniforms(world, steps=60, seeds=3, envs=5)
    running, halves = start(world, first), []
    for half in (slice(0, 30), slice(30, 60)):
        batch, running = collect(
            world, running, partial(agent.logits, parameters), **{name: u[half] for name, u in later.items()}
        )
        halves.append(batch)
    for one, two, both in zip(*(half[:-1] for half in halves), whole[:-1], strict=True):
        assert torch.equal(torch.cat([one, two]), both)
    assert torch.equal(running.episode_return, end.episode_return)


def test_the_return_of_an_episode_stands_where_it_ended():
    batch = roll(CartPole())[0]
    done = batch.terminated | batch.truncated
    assert done.sum() > 10
    for seed, env in itertools.product(range(3), range(5)):
        length = 0
        for t in range(60):
            length += 1
            assert batch.finished_return[t, seed, env] == (length if done[t, seed, env] else 0)
            length = 0 if done[t, seed, env] else length
    metrics = episode_metrics(batch)
    assert torch.equal(metrics["episodes"], done.sum((0, 2)))
    assert torch.equal(metrics["return_sum"], batch.finished_return.sum((0, 2)))


def test_next_obs_is_what_the_step_led_to_before_any_restart():
    batch = roll(CartPole())[0]
    done = (batch.terminated | batch.truncated)[:-1]
    assert torch.equal(batch.next_obs[:-1][~done], batch.obs[1:][~done])
    assert (batch.obs[1:][done].abs() <= 0.05).all()
    led_to = batch.next_obs[batch.terminated]
    assert len(led_to) and ((led_to[:, 0].abs() > 2.4) | (led_to[:, 2].abs() > 0.2094)).all()


def test_a_time_limit_truncates_and_shows_where_it_stopped():
    batch = roll(Counter(3), steps=7, seeds=2, envs=2)[0]
    assert not batch.terminated.any()
    assert batch.truncated[:, 0, 0].tolist() == [False, False, True, False, False, True, False]
    assert batch.next_obs[:, 1, 1, 0].tolist() == [1, 2, 3, 1, 2, 3, 1]
    assert batch.obs[:, 1, 1, 0].tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert batch.finished_return[:, 1, 0].tolist() == [0, 0, 3, 0, 0, 3, 0]


def test_the_states_are_those_in_which_the_actions_were_taken():
    world = CartPole(time_limit=9)
    first, later = uniforms(world, steps=20, seeds=3, envs=5)
    agent = small_agent(world)
    logits_of = partial(agent.logits, agent.init(SeedStreams(range(3), dtype=F64)))
    batch, end = collect(world, start(world, first), logits_of, **later, keep_states=True)
    assert isinstance(batch.state, CartPoleState) and batch.state.steps.shape == (20, 3, 5)
    assert torch.equal(world.observe(batch.state), batch.obs)
    led_to, reward, terminated, truncated = world.step(batch.state, batch.action)
    for mine, kept in ((reward, batch.reward), (terminated, batch.terminated), (truncated, batch.truncated)):
        assert torch.equal(mine, kept)
    assert batch.truncated.any() and torch.equal(world.observe(led_to), batch.next_obs)
    on = world.restart(led_to, terminated | truncated, later["reset_uniform"])
    for kept, following, last in zip(batch.state, on, end.world_state, strict=True):
        assert torch.equal(kept[1:], following[:-1]) and torch.equal(following[-1], last)


def test_logp_is_the_log_softmax_at_the_action():
    batch, _, agent, parameters = roll(CartPole())
    for t in (0, 17, 59):
        expected = agent.logits(parameters, batch.obs[t]).log_softmax(-1).gather(-1, batch.action[t].unsqueeze(-1))
        torch.testing.assert_close(batch.logp[t], expected.squeeze(-1), rtol=0, atol=1e-14)
    logits = torch.tensor([[math.log(0.2), math.log(0.5), math.log(0.3)]], dtype=F64) + 5
    torch.testing.assert_close(log_prob(logits, torch.tensor([1])), torch.tensor([math.log(0.5)], dtype=F64))


def test_actions_come_up_as_often_as_the_policy_says():
    prob = torch.tensor([0.7, 0.3], dtype=F64)
    world = Counter(10**9)
    first, later = uniforms(world, steps=500, seeds=2, envs=5)
    batch, _ = collect(world, start(world, first), lambda obs: prob.log().expand(*obs.shape[:-1], 2) + 3, **later)
    action = batch.action.double()
    assert abs(action.mean() - 0.3) < 4 * math.sqrt(0.21 / action.numel())


# --- from a batch to samples -----------------------------------------------------------------------------


def test_samples_are_laid_out_by_seed_and_keep_their_rows_together():
    world = CartPole()
    batch, _, agent, parameters = roll(world, steps=4, seeds=3, envs=2)
    t, s, e = torch.meshgrid(torch.arange(4), torch.arange(3), torch.arange(2), indexing="ij")
    mark = (100 * s + 10 * t + e).double()
    marked = batch._replace(
        obs=mark.unsqueeze(-1).expand(4, 3, 2, 4), action=mark.long(), logp=mark + 0.5, reward=mark, next_obs=batch.obs
    )
    samples = to_samples(marked, agent, parameters, lambda reward, *rest: reward)
    assert samples["action"].shape == (3, 8)
    for seed in range(3):
        assert samples["action"][seed].tolist() == [100 * seed + 10 * t + e for t in range(4) for e in range(2)]
    for name, offset in (("logp_old", 0.5), ("advantage", 0.0)):
        assert torch.equal(samples[name], samples["action"] + offset)
    assert torch.equal(samples["obs"][..., 2], samples["action"].double())
    value = agent.value(parameters, samples["obs"])
    torch.testing.assert_close(samples["value_target"] - samples["advantage"], value.detach())
    assert not samples["value_target"].requires_grad


def test_samples_are_taken_per_seed_in_its_own_order():
    samples = Samples(a=torch.arange(8.0).reshape(2, 4), b=torch.arange(16.0).reshape(2, 4, 2))
    taken = samples.take(torch.tensor([[3, 0], [1, 1]]))
    assert taken["a"].tolist() == [[3, 0], [5, 5]]
    assert taken["b"].tolist() == [[[6, 7], [0, 1]], [[10, 11], [10, 11]]]


def test_the_credit_sees_values_of_obs_and_of_next_obs():
    batch, _, agent, parameters = roll(CartPole(), steps=4, seeds=3, envs=2)
    seen = []

    def credit(reward, value, next_value, terminated, truncated):
        seen.extend((reward, value, next_value, terminated, truncated))
        return reward

    to_samples(batch, agent, parameters, credit)
    for t in range(4):
        torch.testing.assert_close(seen[1][t], agent.value(parameters, batch.obs[t]).detach(), rtol=0, atol=1e-14)
        torch.testing.assert_close(seen[2][t], agent.value(parameters, batch.next_obs[t]).detach(), rtol=0, atol=1e-14)
    assert seen[0] is batch.reward and seen[3] is batch.terminated and seen[4] is batch.truncated


def constant_value(agent, parameters, value):
    """The agent's parameters with a critic that says ``value`` everywhere."""
    parameters = parameters.clone()
    actor, critic = agent.split(parameters)
    critic.zero_()
    critic[:, -1] = value
    return torch.cat([actor, critic], 1)


@pytest.mark.parametrize("terminates", [False, True])
def test_the_value_target_bootstraps_at_a_time_limit_and_not_at_an_end(terminates):
    gamma, value = 0.9, 5.0
    world = Counter(2, terminates=terminates)
    batch, _, agent, parameters = roll(world, steps=4, seeds=2, envs=3)
    samples = to_samples(
        batch, agent, constant_value(agent, parameters, value), partial(gae, gamma=gamma, gae_lambda=1.0)
    )
    last = 1.0 if terminates else 1 + gamma * value
    expected = torch.tensor([1 + gamma * last, last] * 2, dtype=F64).repeat_interleave(3).expand(2, 12)
    torch.testing.assert_close(samples["value_target"], expected, rtol=0, atol=1e-12)


def test_the_end_of_a_rollout_bootstraps():
    world = Counter(10**9, terminates=True)
    batch, _, agent, parameters = roll(world, steps=3, seeds=1, envs=1)
    samples = to_samples(batch, agent, constant_value(agent, parameters, 5.0), partial(gae, gamma=0.9, gae_lambda=1.0))
    assert samples["value_target"][0].tolist() == pytest.approx([1 + 0.9 + 0.81 + 0.729 * 5, 1 + 0.9 + 0.81 * 5, 5.5])


def test_advantages_are_normalised_per_seed():
    advantage = torch.tensor([[1.0, 2.0, 3.0], [10.0, 10.0, 40.0]], dtype=F64)
    root = math.sqrt(3)
    expected = torch.tensor([[-1.0, 0.0, 1.0], [-1 / root, -1 / root, 2 / root]], dtype=F64)
    torch.testing.assert_close(normalise(advantage), expected, rtol=1e-7, atol=1e-7)
    assert normalise(torch.full((1, 4), 3.0)).tolist() == [[0.0] * 4]


def test_gradients_are_clipped_per_seed():
    gradient = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0], [300.0, -400.0]], dtype=F64)
    clipped = gradient.clone()
    clip_per_seed(clipped, 1.0)
    torch.testing.assert_close(clipped[[0, 3]], torch.tensor([[0.6, 0.8], [0.6, -0.8]], dtype=F64), rtol=1e-5, atol=0)
    assert (clipped.norm(dim=1) <= 1.0).all()
    assert torch.equal(clipped[1:3], gradient[1:3])


def test_each_method_gets_its_own_share():
    logp, old = torch.arange(12.0).reshape(6, 2), torch.zeros(6, 2)
    losses = [lambda logp, logp_old, advantage, k=k: k * logp + advantage for k in (1, 10, 100)]
    found = each_method(losses, logp, old, torch.ones(6, 2))
    assert torch.equal(found, logp * torch.tensor([1, 1, 10, 10, 100, 100]).unsqueeze(1) + 1)


@pytest.mark.parametrize("wrong", [lambda x: x.mean(), lambda x: x.mean(1), lambda x: x.mean(1, keepdim=True)])
def test_a_loss_that_is_not_one_value_per_sample_is_refused(wrong):
    with refused("loss"):
        next(train({"mine": lambda logp, logp_old, advantage: wrong(-logp * advantage)}))


def test_a_tensor_is_repeated_method_after_method():
    x = torch.arange(6.0).reshape(3, 2)
    assert torch.equal(per_method(x, 2), torch.cat([x, x]))


# --- the loop ------------------------------------------------------------------------------------------


def metrics_of(stream):
    return {key: torch.stack(values) for key, values in _columns(stream).items()}


def _columns(stream):
    columns = {}
    for metrics in stream:
        for key, value in metrics.items():
            columns.setdefault(key, []).append(value)
    return columns


def _generator(seed):
    return torch.Generator().manual_seed(seed)


def test_metrics_come_per_method_and_seed():
    found = metrics_of(train(updates=3))
    assert set(found) == {
        "return_sum", "episodes", "ratio_deviation", "kl", "entropy", "value_loss", "alive",
    }  # fmt: skip
    assert all(value.shape == (3, 3, 3) for value in found.values())
    assert found["alive"].all()
    assert (found["entropy"] > 0).all() and (found["entropy"] <= math.log(2) + 1e-12).all()
    assert (found["kl"] > 0).all() and (found["ratio_deviation"] > 0).all()
    # Methods start from the same networks and meet the same numbers: the first rollout is one and the same.
    assert (found["return_sum"][0] == found["return_sum"][0, :1]).all()
    assert all(not torch.equal(found["kl"][2, a], found["kl"][2, b]) for a, b in ((0, 1), (0, 2), (1, 2)))


def test_a_seed_trains_the_same_without_the_others():
    everyone, fewer = metrics_of(train(seeds=[0, 1, 2])), metrics_of(train(seeds=[0, 2]))
    for key in everyone:
        torch.testing.assert_close(everyone[key][:, :, [0, 2]], fewer[key], rtol=1e-10, atol=1e-10, msg=key)


def test_a_method_trains_the_same_without_the_others():
    everyone = metrics_of(train())
    fewer = metrics_of(train({name: LOSSES[name] for name in ("KL", "unclipped")}))
    for key in everyone:
        torch.testing.assert_close(everyone[key][:, [2, 0]], fewer[key], rtol=1e-10, atol=1e-10, msg=key)


def test_the_seed_decides_the_run():
    one, two, other = metrics_of(train()), metrics_of(train()), metrics_of(train(seeds=[3, 4, 5]))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not torch.equal(one["value_loss"], other["value_loss"])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (F64, 1e-14)])
def test_the_first_ratio_is_one(dtype, tolerance):
    found = metrics_of(train(updates=2, dtype=dtype, num_epochs=1, num_minibatches=1))
    assert found["ratio_deviation"].dtype == found["return_sum"].dtype == dtype
    assert (found["ratio_deviation"] < tolerance).all()


def test_the_first_minibatch_of_every_update_sees_old_as_the_current_policy():
    ratios = []

    def watch(logp, logp_old, advantage):
        ratios.append((logp - logp_old).exp().detach())
        return ppo_clip_loss(logp, logp_old, advantage)

    list(train({"PPO": watch}, updates=2))
    per_update = SMALL["num_epochs"] * SMALL["num_minibatches"]
    assert len(ratios) == 2 * per_update and ratios[0].shape == (3, 32)
    for first in (0, per_update):
        assert (ratios[first] - 1).abs().max() < 1e-13
        assert (ratios[first + 1] - 1).abs().max() > 1e-6


def test_the_ratio_deviation_is_the_largest_of_an_updates_minibatches():
    seen = []

    def watch(logp, logp_old, advantage):
        seen.append(((logp - logp_old).exp() - 1).abs().mean(1).detach())
        return importance_loss(logp, logp_old, advantage)

    found = metrics_of(train({"PPO": watch}, updates=2))["ratio_deviation"][:, 0]
    torch.testing.assert_close(found, torch.stack(seen).unflatten(0, (2, -1)).amax(1), rtol=1e-12, atol=1e-14)


def test_every_sample_is_met_once_an_epoch():
    seen = []

    def watch(logp, logp_old, advantage):
        seen.append(logp_old)
        return importance_loss(logp, logp_old, advantage)

    list(train({"PPO": watch}, updates=1))
    parts = SMALL["num_minibatches"]
    epochs = [torch.cat(seen[k * parts : (k + 1) * parts], 1) for k in range(SMALL["num_epochs"])]
    assert not torch.equal(*epochs)
    assert torch.equal(epochs[0].sort(1).values, epochs[1].sort(1).values)
    assert len(epochs[0][0].unique()) > 100


def test_the_learning_rate_falls_linearly_to_nearly_zero(monkeypatch):
    rates = []
    step = torch.optim.Adam.step

    def watch(self, *args, **kwargs):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", watch)
    list(train(updates=5, learning_rate=0.1, num_epochs=1, num_minibatches=1))
    assert rates == pytest.approx([0.1, 0.08, 0.06, 0.04, 0.02])


def test_the_loop_improves_what_it_is_asked_to_improve():
    """In a world that rewards action 1, every method learns it; what a loss says backwards is unlearnt."""

    class Prefer(Counter):
        def step(self, state, action):
            state, _, terminated, truncated = super().step(state, action)
            return state, action.to(state.step.dtype), terminated, truncated

    losses = {**LOSSES, "SPO": spo_loss, "backwards": lambda *args: -ppo_clip_loss(*args)}
    # The world ends with every step, so all that differs between rewards is the action.
    found = metrics_of(train(losses, world=Prefer(1, terminates=True), updates=12, learning_rate=0.05))
    mean = found["return_sum"] / found["episodes"]
    assert (mean[0] - 0.5).abs().max() < 0.2
    assert (mean[-1, :-1] > 0.9).all()
    assert (mean[-1, -1] < 0.1).all()


def test_the_entropy_coefficient_keeps_the_policy_open():
    plain, open_ = (metrics_of(train(updates=8, entropy_coef=c, learning_rate=0.02)) for c in (0.0, 1.0))
    assert (open_["entropy"][-1] > plain["entropy"][-1]).all()
    assert (open_["entropy"][-1] > 0.95 * math.log(2)).all()


def test_the_value_coefficient_trains_the_critic():
    world = Counter(1, terminates=True)
    still, learns = (
        metrics_of(train(world=world, updates=10, value_coef=c, learning_rate=0.05))["value_loss"] for c in (0.0, 0.5)
    )
    assert (learns[-1] < 0.01 * learns[0]).all()
    assert (still[-1] > 0.99 * still[0]).all()


def poisoned(when, what):
    """A loss that turns to ``what`` for the second of three seeds from the ``when``-th minibatch on."""
    calls = itertools.count(1)

    def loss(logp, logp_old, advantage):
        bad = torch.full_like(logp, 0.0)
        bad[1] = what if next(calls) >= when else 0.0
        return ppo_clip_loss(logp, logp_old, advantage) + bad * logp

    return loss


@pytest.mark.parametrize("what", [math.inf, math.nan])
@pytest.mark.parametrize("once", [False, True])
def test_a_diverging_seed_is_held_at_its_last_good_state_and_the_others_go_on(what, once):
    per_update = SMALL["num_epochs"] * SMALL["num_minibatches"]
    parameters, obs = [], []

    class Watch(ActorCritic):
        def logits(self, p, o):
            if not torch.is_grad_enabled():
                parameters.append(p.detach().clone())
                obs.append(o)
            return super().logits(p, o)

    def run(loss):
        parameters.clear()
        agent = small_agent()
        found = metrics_of(train({"PPO": loss, "KL": LOSSES["KL"]}, updates=5, agent=Watch(agent.actor, agent.critic)))
        return found, [p for p in parameters[:: SMALL["num_steps"]]]

    sound, good = run(ppo_clip_loss)
    loss = poisoned(2 * per_update + 3, what)
    if once:  # a single bad minibatch is enough: the optimizer's memory stays poisoned
        calls, bad = itertools.count(1), poisoned(1, what)

        def loss(*args):
            return (bad if next(calls) == 2 * per_update + 3 else ppo_clip_loss)(*args)

    ill, held = run(loss)

    assert ill["alive"][:, 0, 1].tolist() == [True, True, False, False, False]
    others = torch.ones(2, 3, dtype=torch.bool)
    others[0, 1] = False
    assert ill["alive"][:, others].all()
    for key in sound:
        assert torch.equal(sound[key][:, others], ill[key][:, others]), key
    assert torch.equal(sound["return_sum"][:3], ill["return_sum"][:3])
    assert ill["return_sum"].isfinite().all()
    assert ill["ratio_deviation"][2:, 0, 1].isnan().all() and ill["ratio_deviation"][:2].isfinite().all()
    # Parameters at the start of each update: seed 1 of PPO is row 1, and stays where update 3 found it.
    assert all(torch.equal(held[k][1], good[min(k, 2)][1]) for k in range(5))
    assert all(torch.equal(held[k][[0, 2, 3, 4, 5]], good[k][[0, 2, 3, 4, 5]]) for k in range(5))


def test_nothing_in_two_updates_waits_for_the_device():
    stream = train(updates=2, dtype=torch.float32)
    with NoHostSync():
        found = list(stream)
    assert len(found) == 2


def test_collect_and_improve_do_not_wait_for_the_device():
    world = CartPole()
    first, later = uniforms(world, steps=16, seeds=2, envs=4, dtype=torch.float32)
    agent = small_agent(world)
    parameters = agent.init(SeedStreams(range(2))).requires_grad_()
    optimizer = torch.optim.Adam([parameters], lr=1e-3, fused=True)
    orders = SeedStreams(range(2)).permutations(2, 64)

    with NoHostSync(), _check.values_unread():
        batch, _ = collect(world, start(world, first), partial(agent.logits, parameters), **later)
        samples = to_samples(batch, agent, parameters, GAE)
        settings = {"num_minibatches": 2, "value_coef": 0.5, "entropy_coef": 0.01, "max_grad_norm": 0.5}
        metrics = improve(agent, parameters, optimizer, samples, [ppo_clip_loss], orders, **settings)
    assert set(metrics) == {"ratio_deviation", "kl", "entropy", "value_loss"}
    assert all(value.shape == (2,) for value in metrics.values())


def test_the_metrics_of_an_update_are_those_of_its_formulas():
    """One epoch, one minibatch after one step by hand: k3, entropy and value loss."""
    batch, _, agent, parameters = roll(CartPole(), steps=16, seeds=2, envs=4)
    samples = to_samples(batch, agent, parameters, GAE)
    moved = (parameters + 0.05 * torch.randn(parameters.shape, dtype=F64, generator=_generator(0))).requires_grad_()
    logits = agent.logits(moved, samples["obs"]).detach()
    log_ratio = logits.log_softmax(-1).gather(-1, samples["action"].unsqueeze(-1)).squeeze(-1) - samples["logp_old"]
    value = agent.value(moved, samples["obs"]).detach()
    expected = {
        "ratio_deviation": (log_ratio.exp() - 1).abs().mean(1),
        "kl": (log_ratio.exp() - 1 - log_ratio).mean(1),
        "entropy": -(logits.softmax(-1) * logits.softmax(-1).log()).sum(-1).mean(1),
        "value_loss": 0.5 * (value - samples["value_target"]).square().mean(1),
    }
    optimizer = torch.optim.Adam([moved], lr=1e-3)
    orders = torch.arange(64).expand(1, 2, 64)
    settings = {"num_minibatches": 1, "value_coef": 0.5, "entropy_coef": 0.0, "max_grad_norm": 0.5}
    found = improve(agent, moved, optimizer, samples, [ppo_clip_loss], orders, **settings)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-12, atol=1e-14, msg=key)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"losses": {}}, "at least one method"),
        ({"updates": 0}, "num_updates"),
        ({"num_envs": 0}, "num_envs"),
        ({"num_steps": 0}, "num_steps"),
        ({"num_epochs": 0}, "num_epochs"),
        ({"num_minibatches": 0}, "num_minibatches"),
        ({"num_minibatches": 3}, "num_minibatches"),
        ({"num_minibatches": 128}, "at least 2 samples"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": math.nan}, "learning_rate"),
        ({"max_grad_norm": 0.0}, "max_grad_norm"),
        ({"entropy_coef": -0.1}, "entropy_coef"),
        ({"value_coef": math.inf}, "value_coef"),
    ],
)
def test_impossible_settings_are_refused_at_the_call(changes, word):
    with refused() as caught:
        train(**changes)
    assert word in str(caught.value)


def test_the_loop_is_exported():
    assert loop_function is on_policy


# --- a probe -------------------------------------------------------------------------------------------


class Remember:
    """A probe that keeps what it was shown, and returns a number per row."""

    def __init__(self):
        self.seen = []

    def __call__(self, seen):
        assert not torch.is_grad_enabled()
        _check.floating(nothing=torch.full((2,), math.nan))  # values are not read: this would raise elsewhere
        self.seen.append(seen)
        return {"mean_advantage": seen.samples["advantage"].mean(1)}


def test_a_probe_adds_its_metrics_and_changes_nothing_else():
    plain, probed = metrics_of(train()), metrics_of(train(probe=Remember()))
    assert set(probed) == {*plain, "mean_advantage"}
    assert probed["mean_advantage"].shape == (3, 3, 3) and probed["mean_advantage"].isfinite().all()
    assert all(torch.equal(plain[key], probed[key]) for key in plain)


def test_a_probes_rows_are_the_seeds_method_after_method():
    found = next(train(probe=lambda seen: {"row": torch.arange(9.0)}))
    assert found["row"].tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


def test_a_probe_sees_samples_and_states_of_the_steps_by_hand():
    """In a world that counts to 3: step t is taken in state t mod 3, and is sample 4 t + env of its row."""
    probe, world, agent = Remember(), Counter(3), small_agent(Counter(3))
    list(train(probe=probe, world=world, agent=agent, updates=2, credit=lambda reward, *rest: 2 * reward))
    first, second = probe.seen
    assert first.agent is agent and first.world is world
    assert isinstance(first.states, Count) and first.states.step.shape == (32, 9, 4)
    steps = torch.arange(64, dtype=F64).remainder(3)
    for seen, mine in ((first, steps[:32]), (second, steps[32:])):
        assert (seen.states.step == mine[:, None, None]).all()
        assert set(seen.samples) == {"obs", "action", "logp_old", "advantage", "value_target"}
        assert seen.samples["obs"].shape == (9, 128, 1) and seen.samples["action"].shape == (9, 128)
        assert (seen.samples["obs"][..., 0] == mine.repeat_interleave(4)).all()
        assert (seen.samples["advantage"] == 2).all()


def test_a_probe_sees_the_parameters_before_and_after_the_improvement():
    probe, agent = Remember(), small_agent()
    found = metrics_of(train(probe=probe, agent=agent, num_epochs=1, num_minibatches=1))
    assert torch.equal(probe.seen[0].before, per_method(agent.init(SeedStreams(range(3), dtype=F64)), 3))
    for one, two in itertools.pairwise(probe.seen):
        assert torch.equal(one.after, two.before)
    for update, seen in enumerate(probe.seen):
        assert not seen.before.requires_grad and not seen.after.requires_grad
        logits, value = seen.agent(seen.before, seen.samples["obs"])  # those that acted, and gave the targets
        torch.testing.assert_close(log_prob(logits, seen.samples["action"]), seen.samples["logp_old"])
        torch.testing.assert_close(value + seen.samples["advantage"], seen.samples["value_target"])
        loss = 0.5 * (value - seen.samples["value_target"]).square().mean(1)
        torch.testing.assert_close(loss, found["value_loss"][update].flatten())
        assert (seen.after != seen.before).any(1).all()


def test_a_probes_metrics_are_nan_for_a_seed_that_is_held():
    probe = Remember()
    loss = poisoned(SMALL["num_epochs"] * SMALL["num_minibatches"] + 1, math.nan)  # from the second update on
    found = metrics_of(train({"PPO": loss, "KL": LOSSES["KL"]}, probe=probe, updates=4))
    assert found["alive"][:, 0, 1].tolist() == [True, False, False, False]
    assert torch.equal(found["mean_advantage"].isnan(), ~found["alive"])
    for seen in probe.seen[1:]:
        assert torch.equal(seen.after[1], probe.seen[0].after[1]) and torch.equal(seen.before[1], seen.after[1])
        assert (seen.after[[0, 2]] != seen.before[[0, 2]]).any(1).all()


def test_a_probe_may_differentiate_and_does_not_wait_for_the_device():
    def gradient_norm(seen):
        with torch.enable_grad():
            parameters = seen.before.clone().requires_grad_()
            logits, _ = seen.agent(parameters, seen.samples["obs"])
            score = (log_prob(logits, seen.samples["action"]) * seen.samples["advantage"]).mean(1)
            (gradient,) = torch.autograd.grad(score.sum(), parameters)
        return {"gradient_norm": gradient.norm(dim=1)}

    with NoHostSync():
        found = list(train(updates=2, dtype=torch.float32, probe=gradient_norm))
    assert all((metrics["gradient_norm"] > 0).all() for metrics in found)


@pytest.mark.parametrize(
    ("returned", "word"),
    [
        (lambda seen: {"kl": torch.zeros(9)}, "kl, which the loop yields"),
        (lambda seen: {"alive": torch.zeros(9)}, "alive, which the loop yields"),
        (lambda seen: {"episodes": torch.zeros(9)}, "episodes, which the loop yields"),
        (lambda seen: {"mine": torch.zeros(3, 3)}, "mine in the shape"),
        (lambda seen: {"mine": torch.zeros(())}, "mine in the shape"),
        (lambda seen: {"mine": 0.5}, "mine in the shape"),
        (lambda seen: {"mine": torch.zeros(9, dtype=torch.int64)}, "mine in a floating-point dtype"),
        (lambda seen: {"mine": torch.zeros(9, requires_grad=True)}, "mine as plain data without gradient"),
        (lambda seen: None, "dict of metrics"),
    ],
)
def test_what_a_probe_must_not_return_is_refused(returned, word):
    with refused() as caught:
        next(train(probe=returned))
    assert word in str(caught.value)


# --- many steps on one batch ----------------------------------------------------------------------------

METHODS = {"unclipped": importance_loss, "PPO": ppo_clip_loss, "SPO": partial(spo_loss, eps=0.2)}


def context_run(seeds=(0, 1, 2), *, rows=None, epochs=60, depth=1, dtype=F64, methods=METHODS, **options):
    batch = contextual_batch(num_contexts=64, num_seeds=3, generator=_generator(0), dtype=dtype)
    if rows is not None:
        batch = batch._replace(**{name: getattr(batch, name)[rows] for name in ("context", "uniform", "advantage")})
    network = MLP((8, *(32,) * depth, 4), head_gain=0.01)
    stream = fixed_batch(network, SeedStreams(seeds, dtype=dtype), batch, methods, num_epochs=epochs, **options)
    ratio, kl = zip(*stream, strict=True)
    return torch.stack(ratio), torch.stack(kl), batch.advantage


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("depth", [0, 2])
def test_the_first_yield_has_ratio_exactly_one(dtype, depth):
    ratio, kl, _ = context_run(epochs=1, dtype=dtype, depth=depth)
    assert ratio.shape == (2, 3, 3, 64) and kl.shape == (2, 3, 3)
    assert ratio.dtype == kl.dtype == dtype
    assert (ratio[0] == 1).all() and (kl[0].abs() < 1e-6).all()
    assert (ratio[1] != 1).any()


def test_what_each_objective_does_to_the_ratios():
    ratio, kl, advantage = context_run(epochs=300, depth=0, learning_rate=1e-2)
    surrogate = (ratio * advantage).mean(-1)[:, 0]  # unclipped, its own aim
    assert (surrogate[1:61] > surrogate[:60]).all()
    deviation = (ratio - 1).abs().mean(-1)
    assert (deviation[-1, 2] <= 0.2).all()
    assert (deviation[-1, 0] > deviation[-1, 1]).all() and (deviation[-1, 1] > deviation[-1, 2]).all()
    assert (kl[-1, 0] > kl[-1, 2]).all() and (kl[1:] > 0).all()


def test_seeds_and_methods_on_one_batch_are_independent():
    ratio, kl, _ = context_run()
    alone, kl_alone, _ = context_run(seeds=(0, 2), rows=[0, 2])
    torch.testing.assert_close(ratio[:, :, [0, 2]], alone, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(kl[:, :, [0, 2]], kl_alone, rtol=1e-10, atol=1e-10)
    only, _, _ = context_run(methods={"SPO": METHODS["SPO"]})
    torch.testing.assert_close(ratio[:, 2:], only, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "changes",
    [{"methods": {}}, {"epochs": 0}, {"learning_rate": 0.0}, {"seeds": (0, 1)}, {"rows": [0]}],
)
def test_a_fixed_batch_that_cannot_be_trained_on_is_refused(changes):
    with refused():
        context_run(**changes)


def test_a_network_that_does_not_fit_the_batch_is_refused():
    batch = contextual_batch(num_seeds=2, generator=_generator(0))
    for sizes in ((8, 5), (7, 4)):
        with refused("one set"):
            fixed_batch(MLP(sizes, head_gain=0.01), SeedStreams(range(2)), batch, METHODS)
