"""CartPole against Gymnasium's CartPole-v1, row by row, and without a wait for the device."""

import math

import gymnasium
import numpy as np
import pytest
import torch
from helpers import NoHostSync

from pocourse.worlds import CartPole, CartPoleState

F64 = torch.float64


def refused(*words):
    return pytest.raises(ValueError, match=r"(?s)expected .*got .*" + ".*".join(words))


def follow_gymnasium(policy, steps, seed, *, each_step_anew, tolerance):
    """Both worlds step by step; returns how many episodes terminated and how many were truncated.

    Either each step starts from the same numbers in both, or each world goes its own way from reset to
    end. A pole multiplies a difference by about 1.08 a step, so rounding alone becomes 1e-9 and more in
    an episode of 500 steps: there only the first comparison can be a sharp one.
    """
    generator = torch.Generator().manual_seed(seed)
    uniforms = torch.rand(steps + 1, 4, generator=generator, dtype=F64)
    random_actions = torch.randint(0, 2, (steps,), generator=generator)
    world, judge = CartPole(), gymnasium.make("CartPole-v1")
    state, terminations, truncations = world.reset(uniforms[0]), 0, 0

    def restart_judge():
        judge.reset()  # also sets TimeLimit's counter to zero
        judge.unwrapped.state = state.physics.numpy().copy()

    restart_judge()
    for t in range(steps):
        action = policy(world.observe(state), random_actions[t])
        state, reward, terminated, truncated = world.step(state, action)
        _, judge_reward, judge_terminated, judge_truncated, _ = judge.step(int(action))
        np.testing.assert_allclose(world.observe(state).numpy(), judge.unwrapped.state, rtol=0, atol=tolerance)
        assert float(reward) == judge_reward == 1.0
        assert bool(terminated) == judge_terminated
        assert bool(truncated) == (judge_truncated and not judge_terminated)
        terminations, truncations = terminations + bool(terminated), truncations + bool(truncated)
        state = world.restart(state, terminated | truncated, uniforms[t + 1])
        if terminated or truncated:
            restart_judge()
        elif each_step_anew:
            judge.unwrapped.state = state.physics.numpy().copy()
    return terminations, truncations


@pytest.mark.parametrize(("each_step_anew", "tolerance"), [(True, 1e-14), (False, 1e-11)])
def test_random_actions_follow_gymnasium(each_step_anew, tolerance):
    terminations, truncations = follow_gymnasium(
        lambda obs, random: random, steps=10_000, seed=0, each_step_anew=each_step_anew, tolerance=tolerance
    )
    assert terminations > 300 and truncations == 0


def test_balancing_follows_gymnasium_to_the_time_limit():
    gain = torch.tensor([0.1, 0.5, 1.0, 1.0], dtype=F64)
    terminations, truncations = follow_gymnasium(
        lambda obs, random: (obs @ gain > 0).long(), steps=2_000, seed=1, each_step_anew=True, tolerance=1e-14
    )
    assert truncations >= 1
    assert (terminations, truncations) == (0, 4)


def test_one_step_from_anywhere_matches_gymnasium():
    """States far outside an episode's usual range, both sides of every limit."""
    generator = torch.Generator().manual_seed(2)
    scale = torch.tensor([3.0, 4.0, 0.4, 6.0], dtype=F64)
    physics = (2 * torch.rand(500, 4, generator=generator, dtype=F64) - 1) * scale
    action = torch.randint(0, 2, (500,), generator=generator)
    state, _, terminated, _ = CartPole().step(CartPoleState(physics, torch.zeros(500, dtype=torch.int64)), action)
    judge = gymnasium.make("CartPole-v1").unwrapped
    for row in range(500):
        judge.reset()
        judge.state = physics[row].numpy().copy()
        _, _, judge_terminated, _, _ = judge.step(int(action[row]))
        np.testing.assert_allclose(state.physics[row].numpy(), judge.state, rtol=0, atol=1e-12)
        assert bool(terminated[row]) == judge_terminated
    assert 50 < int(terminated.sum()) < 450


def test_the_first_push_by_hand():
    """From rest and upright: temp = 10/1.1, thetaacc = -temp / (2/3 - .05/1.1), xacc = temp - .05/1.1 thetaacc."""
    temp = 10 / 1.1
    theta_acc = -temp / (2 / 3 - 0.05 / 1.1)
    x_acc = temp - 0.05 / 1.1 * theta_acc
    rest = CartPoleState(torch.zeros(2, 4, dtype=F64), torch.zeros(2, dtype=torch.int64))
    state, *_ = CartPole().step(rest, torch.tensor([1, 0]))
    right = torch.tensor([0, 0.02 * x_acc, 0, 0.02 * theta_acc], dtype=F64)
    torch.testing.assert_close(state.physics, torch.stack((right, -right)), rtol=0, atol=1e-15)
    assert state.steps.tolist() == [1, 1]


def test_reset_maps_the_unit_interval():
    world = CartPole()
    uniform = torch.tensor([[0.0, 0.25, 0.5, 0.75]], dtype=F64)
    state = world.reset(uniform)
    torch.testing.assert_close(state.physics, torch.tensor([[-0.05, -0.025, 0, 0.025]], dtype=F64))
    assert state.steps.tolist() == [0]
    assert uniform.shape[-1] == world.reset_dim == world.obs_dim == 4 and world.num_actions == 2


def test_restart_touches_finished_rows_only():
    world = CartPole()
    uniform = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(0))
    state = CartPoleState(torch.full((2, 3, 4), 7.0), torch.full((2, 3), 9))
    done = torch.tensor([[True, False, False], [False, True, False]])
    after = world.restart(state, done, uniform)
    torch.testing.assert_close(after.physics[done], world.reset(uniform).physics[done], rtol=0, atol=0)
    assert (after.physics[~done] == 7).all()
    assert after.steps.tolist() == [[0, 9, 9], [9, 0, 9]]


def test_time_limit_truncates_and_termination_wins():
    world = CartPole(time_limit=3)
    physics = torch.zeros(3, 4, dtype=F64)
    physics[2, 0] = 3.0  # beyond the track already
    state = CartPoleState(physics, torch.tensor([1, 2, 2]))
    _, reward, terminated, truncated = world.step(state, torch.tensor([0, 0, 0]))
    assert terminated.tolist() == [False, False, True]
    assert truncated.tolist() == [False, True, False]
    assert reward.tolist() == [1, 1, 1]
    assert reward.dtype == F64 and terminated.dtype == truncated.dtype == torch.bool


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_rows_of_a_batch_do_not_mix(dtype):
    generator = torch.Generator().manual_seed(4)
    uniform = torch.rand(60, 3, 5, 4, generator=generator, dtype=dtype)
    action = torch.randint(0, 2, (60, 3, 5), generator=generator)
    world = CartPole(time_limit=20)

    def run(rows):
        state, seen = world.reset(uniform[0][rows]), []
        for t in range(60):
            state, reward, terminated, truncated = world.step(state, action[t][rows])
            seen.append((world.observe(state), reward, terminated, truncated))
            state = world.restart(state, terminated | truncated, uniform[t][rows])
        return [torch.stack(column) for column in zip(*seen, strict=True)]

    together = run((slice(None), slice(None)))
    assert together[2].any() and together[3].any()
    for seed in range(3):
        for env in range(5):
            for batched, single in zip(together, run((seed, env)), strict=True):
                assert batched.dtype == single.dtype
                torch.testing.assert_close(batched[:, seed, env], single, rtol=0, atol=1e-12 if dtype == F64 else 1e-4)


def test_no_step_waits_for_the_device():
    world = CartPole()
    state = world.reset(torch.rand(2, 3, 4))
    action, uniform = torch.zeros(2, 3, dtype=torch.int64), torch.rand(2, 3, 4)
    with NoHostSync():
        for _ in range(3):
            state, _, terminated, truncated = world.step(state, action)
            world.observe(state)
            state = world.restart(state, terminated | truncated, uniform)


def test_the_dispatch_mode_refuses_what_waits():
    tensor, mask = torch.arange(3.0), torch.tensor([True, False, True])
    waits = [
        lambda: tensor.sum().item(),
        lambda: bool(mask.any()),
        lambda: mask.nonzero(),
        lambda: tensor[mask],
        lambda: tensor.clone().__setitem__(mask, torch.zeros(2)),
    ]
    for wait in waits:
        with pytest.raises(AssertionError, match="makes the host wait"), NoHostSync():
            wait()
    with NoHostSync():
        tensor[torch.tensor([0, 2])]
        torch.where(mask, tensor, 0)


def test_inputs_are_left_alone():
    world = CartPole()
    state = world.reset(torch.rand(3, 4))
    physics, steps = state.physics.clone(), state.steps.clone()
    uniform = torch.rand(3, 4)
    kept = uniform.clone()
    after, *_ = world.step(state, torch.ones(3, dtype=torch.int64))
    world.restart(after, torch.ones(3, dtype=torch.bool), uniform)
    assert torch.equal(state.physics, physics) and torch.equal(state.steps, steps) and torch.equal(uniform, kept)


def test_refusals():
    world = CartPole()
    state = world.reset(torch.rand(2, 3, 4))
    with refused(r"\.long\(\)"):
        world.step(state, torch.zeros(2, 3))
    with refused("Reshape"):
        world.step(state, torch.zeros(3, dtype=torch.int64))
    with refused("Reshape"):
        world.step(CartPoleState(state.physics[..., :3], state.steps), torch.zeros(2, 3, dtype=torch.int64))
    with refused("Reshape"):
        world.reset(torch.rand(2, 3, 2))
    with refused("NaN"):
        world.reset(torch.full((4,), math.nan))
    with refused("unsqueeze"):
        world.reset(torch.tensor(0.5))
    with refused(r"\.bool\(\)"):
        world.restart(state, torch.zeros(2, 3), torch.rand(2, 3, 4))
    with refused("Reshape"):
        world.restart(state, torch.zeros(2, 3, dtype=torch.bool), torch.rand(3, 4))
    with refused("Reshape"):
        world.restart(state, torch.zeros(3, dtype=torch.bool), torch.rand(2, 3, 4))
    for limit in (0, math.nan, None):
        with refused():
            CartPole(time_limit=limit)
