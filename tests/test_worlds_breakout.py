"""Breakout against MinAtar's Breakout, step by step, and without a wait for the device."""

import math
from collections import Counter

import minatar
import numpy as np
import pytest
import torch
from helpers import NoHostSync

from pocourse.worlds import Breakout, BreakoutState

F64 = torch.float64
MINATAR_ACTIONS = (0, 1, 3)  # its numbers for stay, left, right
STAY, LEFT, RIGHT = 0, 1, 2
WALL = 2**30 - 1
DOWN_RIGHT, DOWN_LEFT, UP_RIGHT, UP_LEFT = 3, 2, 1, 0


def refused(*words):
    return pytest.raises(ValueError, match=r"(?s)expected .*got .*" + ".*".join(words))


# --- against MinAtar -----------------------------------------------------------------------------------


class HandedIn:
    """Stands where MinAtar has its RandomState, and returns the numbers handed to it."""

    def __init__(self, uniform):
        self.start, self.draw = uniform

    def rand(self):
        return self.draw

    def randint(self, n):
        assert n == 2
        return int(n * self.start)


class Judge:
    """One row of MinAtar, and a count of what happened in it."""

    def __init__(self, uniform, covered):
        self.environment, self.covered = minatar.Environment("breakout"), covered
        self.game = self.environment.env
        self.hand_in(uniform)
        self.reset()

    def hand_in(self, uniform):
        self.environment.random = self.game.random = HandedIn(uniform)

    def reset(self):
        self.environment.reset()
        self.covered["start on the left" if self.game.ball_x == 0 else "start on the right"] += 1

    def obs(self):
        return self.environment.state().transpose(2, 0, 1)

    def act(self, action):
        game, asked = self.game, MINATAR_ACTIONS[action]
        x, y, wall, heading = game.ball_x, game.ball_y, game.brick_map.sum(), game.ball_dir
        reward, terminal = self.environment.act(asked)
        self.covered.update(
            {
                "another action repeated": self.environment.last_action != asked,
                "bricks": reward,
                "wall rebuilt": wall == 0 and game.brick_map.sum() == 30,
                "wall rebuilt under a lost ball": wall == 0 and terminal,
                "bounced off the paddle": y == 8 and heading in (2, 3) and not terminal and x == game.pos,
                "returned by the paddle": y == 8 and heading in (2, 3) and not terminal and x != game.pos,
                "side": abs(game.ball_x - x) == 0,
                "ceiling": y == 0 == game.ball_y,
                "flew through a brick": bool(game.brick_map[game.ball_y, game.ball_x]) and not reward,
                "terminated": terminal,
            }
        )
        return reward, terminal


def follow_minatar(world, policy, *, steps, seed, rows=10):
    """Both step by step, the same numbers handed to both, one MinAtar per row; returns what happened how often."""
    generator = torch.Generator().manual_seed(seed)
    uniforms = torch.rand(steps + 1, rows, 2, generator=generator, dtype=F64)
    dice = torch.rand(steps, rows, generator=generator).tolist()
    covered = Counter()
    state = world.reset(uniforms[0])
    judges = [Judge(uniform, covered) for uniform in uniforms[0].tolist()]
    for t in range(steps):
        actions = [policy(judge.game, die) for judge, die in zip(judges, dice[t], strict=True)]
        state, reward, terminated, truncated = world.step(state, torch.tensor(actions))
        judged = [judge.act(action) for judge, action in zip(judges, actions, strict=True)]
        np.testing.assert_array_equal(world.observe(state).numpy(), np.stack([judge.obs() for judge in judges]))
        assert reward.tolist() == [reward for reward, _ in judged]
        assert terminated.tolist() == [terminal for _, terminal in judged]
        done = terminated | truncated
        state = world.restart(state, done, uniforms[t + 1])
        for judge, over, uniform in zip(judges, done.tolist(), uniforms[t + 1].tolist(), strict=True):
            judge.hand_in(uniform)
            if over:
                judge.reset()
        np.testing.assert_array_equal(world.observe(state).numpy(), np.stack([judge.obs() for judge in judges]))
        covered["truncated"] += int(truncated.sum())
    return covered


def at_random(game, die):
    return int(3 * die)


def after_the_ball(game, die):
    """Under the column the ball flies to; where it comes down, now and then under the one it leaves."""
    target = game.ball_x
    if game.ball_y < 8 or die < 0.7:
        target += 1 if game.ball_dir in (1, 2) else -1
    return STAY if target == game.pos else RIGHT if target > game.pos else LEFT


def to_the_sides(game, die):
    """To the nearer edge, as long as the ball is far from the bottom; after the ball then, now and then too late."""
    if game.ball_y < 6 - 4 * (die < 0.02):
        return LEFT if game.ball_x < 5 else RIGHT
    return after_the_ball(game, die)


def test_random_actions_follow_minatar():
    covered = follow_minatar(Breakout(), at_random, steps=1_200, seed=0)
    assert covered["terminated"] > 300 and covered["bricks"] > 50
    assert covered["another action repeated"] > 300
    assert min(covered["start on the left"], covered["start on the right"]) > 100
    assert min(covered["bounced off the paddle"], covered["returned by the paddle"]) > 20


def test_long_episodes_follow_minatar_past_cleared_walls():
    covered = follow_minatar(Breakout(), after_the_ball, steps=2_200, seed=1)
    assert covered["wall rebuilt"] >= 5 and covered["truncated"] >= 1 and covered["terminated"] >= 1
    assert min(covered["bounced off the paddle"], covered["returned by the paddle"]) > 100
    assert min(covered["ceiling"], covered["side"]) > 100 and covered["flew through a brick"] > 20


def test_the_sides_follow_minatar():
    covered = follow_minatar(Breakout(), to_the_sides, steps=1_200, seed=2)
    assert covered["terminated"] > 100 and covered["bricks"] > 100 and covered["side"] > 500


def test_one_step_from_anywhere_follows_minatar():
    """Walls with any holes, or none left, and strikes and balls that an episode may never come to."""
    rows, generator = 4_000, torch.Generator().manual_seed(7)

    def numbers(high):
        return torch.randint(0, high, (rows,), generator=generator)

    uniform = torch.rand(rows, 2, generator=generator, dtype=F64)
    density = torch.tensor([0.0, 0.2, 0.8])[numbers(3)].unsqueeze(-1)
    bricks = torch.rand(rows, 30, generator=generator) < density
    world, covered = Breakout(), Counter()
    state = world.reset(uniform)._replace(
        paddle=numbers(10),
        ball=4 * numbers(90) + numbers(4),  # a ball in the bottom row has ended its episode
        bricks=(bricks * 2 ** torch.arange(30)).sum(-1),
        strike=numbers(2) == 1,
        last_action=numbers(3),
    )
    # So that enough balls are caught, half of the paddles go close to their ball.
    close = (state.ball // 4 % 10 + numbers(5) - 2).clamp(0, 9)
    state = state._replace(paddle=torch.where(numbers(2) == 1, close, state.paddle))
    action = numbers(3)
    after, reward, terminated, _ = world.step(state, action)
    pictures = world.observe(after).numpy()
    for row in range(rows):
        judge = Judge(uniform[row].tolist(), covered)
        game, place = judge.game, int(state.ball[row])
        game.ball_y, game.ball_x, game.ball_dir = place // 40, place // 4 % 10, (0, 1, 3, 2)[place % 4]
        game.pos, game.strike = int(state.paddle[row]), bool(state.strike[row])
        game.brick_map[1:4] = bricks[row].view(3, 10)
        judge.environment.last_action = MINATAR_ACTIONS[state.last_action[row]]
        assert (float(reward[row]), bool(terminated[row])) == judge.act(int(action[row]))
        np.testing.assert_array_equal(pictures[row], judge.obs())
        assert bool(after.strike[row]) == game.strike
        assert MINATAR_ACTIONS[after.last_action[row]] == judge.environment.last_action
        heading = int(after.ball[row]) % 4
        assert (0, 1, 3, 2)[heading] == game.ball_dir
    assert min(covered.values()) > 20 and len(covered) == 12


@pytest.mark.parametrize("sticky", [0.0, 0.5, 1.0])
def test_other_probabilities_of_a_repetition(sticky):
    """MinAtar's own argument; with 1 the paddle never leaves its place."""
    generator = torch.Generator().manual_seed(3)
    uniforms = torch.rand(201, 2, generator=generator, dtype=F64)
    actions = torch.randint(0, 3, (200,), generator=generator)
    judge = minatar.Environment("breakout", sticky_action_prob=sticky)
    world, places, started = Breakout(sticky=sticky), set(), uniforms[0].tolist()
    judge.random = judge.env.random = HandedIn(started)
    judge.reset()
    state = world.reset(uniforms[0])
    for action, uniform in zip(actions, uniforms[1:], strict=True):
        state, _, terminated, truncated = world.step(state, action)
        judge.act(MINATAR_ACTIONS[action])
        np.testing.assert_array_equal(world.observe(state).numpy(), judge.state().transpose(2, 0, 1))
        places.add(int(state.paddle))
        state = world.restart(state, terminated | truncated, uniform)
        judge.random = judge.env.random = HandedIn(uniform.tolist())
        if terminated or truncated:
            judge.reset()
    assert (places == {4}) == (sticky == 1)


class StrikeIgnored(Breakout):
    def step(self, state, action):
        return super().step(state._replace(strike=torch.zeros_like(state.strike)), action)


class NeverSticky(Breakout):
    def __init__(self):
        super().__init__(sticky=0.0)


class DrawOfTheStepBefore(Breakout):
    def restart(self, state, done, uniform):
        return super().restart(state, done, uniform)._replace(draw=state.draw)


class AskedActionRemembered(Breakout):
    def step(self, state, action):
        after, *rest = super().step(state, action)
        return after._replace(last_action=action), *rest


class LastActionForgotten(Breakout):
    def restart(self, state, done, uniform):
        return super().restart(state, done, uniform)._replace(last_action=state.last_action.masked_fill(done, STAY))


class WallNotRebuilt(Breakout):
    def step(self, state, action):
        after, *rest = super().step(state, action)
        return after._replace(bricks=after.bricks & state.bricks), *rest


class WallRebuiltAtOnce(Breakout):
    def step(self, state, action):
        after, *rest = super().step(state, action)
        return after._replace(bricks=after.bricks.masked_fill(after.bricks == 0, WALL)), *rest


class PaddleBeforeItMoves(Breakout):
    def step(self, state, action):
        """Whether the ball is caught is decided where the paddle was; the paddle moves nevertheless."""
        moved, *_ = super().step(state, action)
        stays = torch.full_like(action, STAY)
        caught, *rest = super().step(state._replace(last_action=stays), stays)
        return caught._replace(paddle=moved.paddle, last_action=moved.last_action), *rest


class AlwaysBounced(Breakout):
    def _constants(self, like):
        """The paddle's two columns do the same."""
        tables = super()._constants(like)
        bounced = tables.flight[1]
        is_caught = (tables.flight[0] < 360) & (tables.bit == 2**30).unsqueeze(-1)
        return tables._replace(flight=torch.stack((torch.where(is_caught, bounced, tables.flight[0]), bounced)))


class StartsSwapped(Breakout):
    def restart(self, state, done, uniform):
        return super().restart(state, done, torch.stack((1 - uniform[..., 0], uniform[..., 1]), -1))


@pytest.mark.parametrize(
    ("world", "policy"),
    [
        (StrikeIgnored, after_the_ball),
        (NeverSticky, at_random),
        (DrawOfTheStepBefore, at_random),
        (AskedActionRemembered, at_random),
        (LastActionForgotten, at_random),
        (WallNotRebuilt, after_the_ball),
        (WallRebuiltAtOnce, after_the_ball),
        (PaddleBeforeItMoves, at_random),
        (AlwaysBounced, at_random),
        (StartsSwapped, at_random),
    ],
)
def test_the_comparison_finds_a_wrong_rule(world, policy):
    """In the very runs of the tests above."""
    steps, seed = (1_200, 0) if policy is at_random else (2_200, 1)
    with pytest.raises(AssertionError):
        follow_minatar(world(), policy, steps=steps, seed=seed)


# --- by hand -------------------------------------------------------------------------------------------


def ball(row, column, heading):
    return 4 * (10 * row + column) + heading


def brick(row, column):
    return 2 ** (10 * (row - 1) + column)


def play(world, state, actions, uniform):
    """The balls [time, row], rewards and terminations on the way; no step sticky, nothing restarted."""
    balls, rewards, ends = [], [], []
    for action in actions:
        state, reward, terminated, _ = world.step(state, torch.tensor(action))
        state = world.restart(state, torch.zeros_like(terminated), uniform)
        balls.append(state.ball.tolist())
        rewards.append(reward.tolist())
        ends.append(terminated.tolist())
    return state, balls, rewards, ends


def test_the_first_bounce_by_hand():
    """From (3, 0) the ball reaches (8, 5) in five steps; a paddle in 5 bounces it, one in 6 returns it, 4 loses it."""
    world, uniform = Breakout(), torch.tensor([[0.0, 0.5]]).repeat(3, 1)
    actions = [[STAY, STAY, STAY]] * 4 + [[RIGHT, RIGHT, STAY], [STAY, RIGHT, STAY]]
    state, balls, rewards, ends = play(world, world.reset(uniform), actions, uniform)
    assert [row[0] for row in balls[:5]] == [ball(3 + t, t, DOWN_RIGHT) for t in range(1, 6)]
    assert state.paddle.tolist() == [5, 6, 4]
    assert balls[5] == [ball(8, 6, UP_RIGHT), ball(8, 6, UP_LEFT), ball(9, 6, DOWN_RIGHT)]
    assert ends == [[False] * 3] * 5 + [[False, False, True]]
    assert rewards == [[0.0] * 3] * 6

    # The bounced ball: up to the right edge, along it, and into the brick at (3, 8).
    state = BreakoutState(*(field[:1] for field in state))
    state, balls, rewards, ends = play(world, state, [[STAY]] * 5, uniform[:1])
    up = [ball(7, 7, UP_RIGHT), ball(6, 8, UP_RIGHT), ball(5, 9, UP_RIGHT), ball(4, 9, UP_LEFT), ball(4, 8, DOWN_LEFT)]
    assert [row[0] for row in balls] == up
    assert [row[0] for row in rewards] == [0, 0, 0, 0, 1]
    assert state.bricks.tolist() == [WALL - brick(3, 8)]


def test_a_picture_by_hand():
    world = Breakout()
    state = world.reset(torch.tensor([0.9, 0.5]))
    state, *_ = world.step(state, torch.tensor(LEFT))
    picture = world.observe(state)
    wanted = torch.zeros(4, 10, 10, dtype=torch.bool)
    wanted[0, 9, 3] = wanted[1, 4, 8] = wanted[2, 3, 9] = True
    wanted[3, 1:4] = True
    assert picture.dtype == torch.bool and torch.equal(picture, wanted)


def test_a_strike_by_hand():
    """From a hole at (2, 4) the brick at (1, 5) breaks; the ball is inside that at (2, 5) and flies through (3, 6)."""
    world, uniform = Breakout(), torch.tensor([0.0, 0.5])
    state = world.reset(uniform)
    state = state._replace(ball=torch.tensor(ball(2, 4, UP_RIGHT)), bricks=state.bricks - brick(2, 4))
    strikes = []
    for row, column, heading, reward in [(2, 5, DOWN_RIGHT, 1), (3, 6, DOWN_RIGHT, 0), (4, 7, DOWN_RIGHT, 0)]:
        state, got, *_ = world.step(state, torch.tensor(STAY))
        assert state.ball == ball(row, column, heading) and got == reward
        strikes.append(bool(state.strike))
    assert strikes == [True, True, False]
    assert state.bricks == WALL - brick(2, 4) - brick(1, 5)


@pytest.mark.parametrize(("paddle", "lost"), [(5, False), (8, True)])
def test_a_cleared_wall_is_rebuilt_at_the_bottom(paddle, lost):
    """Also where the ball is lost; and a step earlier there is none."""
    world, uniform = Breakout(), torch.tensor([0.0, 0.5])
    state = world.reset(uniform)
    state = state._replace(
        bricks=torch.tensor(0), paddle=torch.tensor(paddle), ball=torch.tensor(ball(7, 4, DOWN_RIGHT))
    )
    state, *_ = world.step(state, torch.tensor(STAY))
    assert state.bricks == 0
    state, reward, terminated, _ = world.step(state, torch.tensor(STAY))
    assert state.bricks == WALL
    assert bool(terminated) == lost and reward == 0


# --- start, end, restart -------------------------------------------------------------------------------


def test_reset_takes_both_numbers():
    world = Breakout()
    uniform = torch.tensor([[0.0, 0.25], [0.499, 0.5], [0.5, 0.75], [0.999, 0.0]], dtype=F64)
    state = world.reset(uniform)
    assert state.ball.tolist() == state.trail.tolist() == [ball(3, 0, DOWN_RIGHT)] * 2 + [ball(3, 9, DOWN_LEFT)] * 2
    assert state.draw.tolist() == [0.25, 0.5, 0.75, 0.0]
    assert state.paddle.tolist() == [4] * 4 and state.bricks.tolist() == [WALL] * 4
    assert state.steps.tolist() == state.last_action.tolist() == state.strike.long().tolist() == [0] * 4
    assert uniform.shape[-1] == world.reset_dim == 2 and world.num_actions == 3
    assert world.observe(state).shape[1:] == world.obs_shape == (4, 10, 10) and world.obs_dim == math.prod(
        world.obs_shape
    )


def test_the_draw_decides_whether_the_last_action_is_repeated():
    """Below 0.1 it is; the first step of all repeats a "stay"; what was carried out is what is remembered."""
    world = Breakout()
    state = world.reset(torch.tensor([[0.0, 0.0], [0.0, 0.0999], [0.0, 0.1], [0.0, 0.9]], dtype=F64))
    state, *_ = world.step(state, torch.full((4,), RIGHT))
    assert state.paddle.tolist() == [4, 4, 5, 5]
    assert state.last_action.tolist() == [STAY, STAY, RIGHT, RIGHT]
    state = state._replace(draw=torch.zeros(4, dtype=F64))
    state, *_ = world.step(state, torch.full((4,), LEFT))
    assert state.paddle.tolist() == [4, 4, 6, 6]


def test_restart_touches_finished_rows_only_but_for_the_draw():
    world, generator = Breakout(), torch.Generator().manual_seed(0)
    state = world.reset(torch.rand(2, 3, 2, generator=generator))
    for _ in range(4):
        state, *_ = world.step(state, torch.full((2, 3), RIGHT))
    state = state._replace(strike=torch.ones(2, 3, dtype=torch.bool), bricks=torch.full((2, 3), 5))
    done = torch.tensor([[True, False, False], [False, True, False]])
    uniform = torch.rand(2, 3, 2, generator=generator)
    after, anew = world.restart(state, done, uniform), world.reset(uniform)
    assert torch.equal(after.draw, uniform[..., 1])
    assert torch.equal(after.last_action, state.last_action) and (after.last_action == RIGHT).any()
    for name in ("paddle", "ball", "trail", "bricks", "strike", "steps"):
        got, old, new = (getattr(s, name) for s in (after, state, anew))
        assert torch.equal(got[done], new[done]) and torch.equal(got[~done], old[~done])
        assert (old[done] != new[done]).any(), name


def test_the_draw_does_not_change_with_the_numbers_it_came_from():
    """A loop may fill one buffer again and again."""
    world = Breakout()
    uniform = torch.full((3, 2), 0.7)
    first = world.reset(uniform)
    later = world.restart(first, torch.zeros(3, dtype=torch.bool), uniform)
    uniform.zero_()
    assert first.draw.tolist() == later.draw.tolist() == pytest.approx([0.7] * 3)


def test_time_limit_truncates_and_termination_wins():
    world = Breakout(time_limit=3)
    state = world.reset(torch.full((3, 2), 0.3, dtype=F64))
    state = state._replace(
        steps=torch.tensor([1, 2, 2]),
        ball=torch.tensor([ball(5, 5, UP_LEFT), ball(5, 5, UP_LEFT), ball(8, 0, DOWN_RIGHT)]),
    )
    after, reward, terminated, truncated = world.step(state, torch.tensor([STAY, STAY, STAY]))
    assert terminated.tolist() == [False, False, True]
    assert truncated.tolist() == [False, True, False]
    assert after.steps.tolist() == [2, 3, 3] and reward.tolist() == [0, 0, 0]


# --- batches -------------------------------------------------------------------------------------------


def roll(world, uniform, action):
    """Everything seen from the first step to the last."""
    state, seen = world.reset(uniform[0]), []
    for t in range(len(action)):
        state, reward, terminated, truncated = world.step(state, action[t])
        seen.append((world.observe(state), reward, terminated, truncated))
        state = world.restart(state, terminated | truncated, uniform[t + 1])
    return [torch.stack(column) for column in zip(*seen, strict=True)]


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_rows_of_a_batch_do_not_mix(dtype):
    generator = torch.Generator().manual_seed(4)
    uniform = torch.rand(121, 3, 5, 2, generator=generator, dtype=dtype)
    action = torch.randint(0, 3, (120, 3, 5), generator=generator)
    world = Breakout(time_limit=25)
    together = roll(world, uniform, action)
    assert together[1].any() and together[2].any() and together[3].any()
    for batched, again in zip(together, roll(world, uniform, action), strict=True):
        assert torch.equal(batched, again)
    for seed in range(3):
        for env in range(5):
            single = roll(world, uniform[:, seed, env], action[:, seed, env])
            for batched, alone in zip(together, single, strict=True):
                assert batched.dtype == alone.dtype and torch.equal(batched[:, seed, env], alone)


@pytest.mark.parametrize("batch", [(), (1,), (7,), (2, 3), (2, 1, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_any_batch_and_the_dtype_of_the_numbers(batch, dtype):
    world = Breakout()
    uniform = torch.rand(*batch, 2, generator=torch.Generator().manual_seed(5), dtype=dtype)
    state = world.reset(uniform)
    assert world.observe(state).shape == (*batch, 4, 10, 10)
    shapes, dtypes = [field.shape for field in state], [field.dtype for field in state]
    state, reward, terminated, truncated = world.step(state, torch.full(batch, RIGHT))
    assert reward.shape == terminated.shape == truncated.shape == batch
    assert reward.dtype == dtype and terminated.dtype == truncated.dtype == torch.bool
    assert [field.shape for field in state] == shapes and [field.dtype for field in state] == dtypes
    state = world.restart(state, terminated, uniform)
    assert [field.shape for field in state] == shapes and [field.dtype for field in state] == dtypes
    assert all(field.is_contiguous() for field in state)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_plays_the_same_game():
    generator = torch.Generator().manual_seed(6)
    uniform = torch.rand(121, 3, 5, 2, generator=generator, dtype=F64)
    action = torch.randint(0, 3, (120, 3, 5), generator=generator)
    here, there = roll(Breakout(), uniform, action), roll(Breakout(), uniform.cuda(), action.cuda())
    for ours, theirs in zip(here, there, strict=True):
        assert theirs.is_cuda and torch.equal(ours, theirs.cpu())


def test_nothing_leaves_the_device_of_the_numbers():
    """The meta device stands in for a GPU: it has shapes and no values, and refuses to meet the CPU."""
    world = Breakout()
    uniform = torch.rand(2, 3, 2, device="meta")
    state = world.reset(uniform)
    state, reward, terminated, truncated = world.step(state, torch.zeros(2, 3, dtype=torch.int64, device="meta"))
    picture = world.observe(state)
    state = world.restart(state, terminated | truncated, uniform)
    assert {tensor.device.type for tensor in (*state, picture, reward, terminated, truncated)} == {"meta"}


def test_no_step_waits_for_the_device():
    world = Breakout()
    state = world.reset(torch.rand(2, 3, 2))
    action, uniform = torch.zeros(2, 3, dtype=torch.int64), torch.rand(2, 3, 2)
    with NoHostSync():
        for _ in range(3):
            state, _, terminated, truncated = world.step(state, action)
            world.observe(state)
            state = world.restart(state, terminated | truncated, uniform)


def test_inputs_are_left_alone():
    world = Breakout()
    uniform = torch.rand(3, 2)
    state = world.reset(uniform)
    kept, numbers, action = [field.clone() for field in state], uniform.clone(), torch.ones(3, dtype=torch.int64)
    for _ in range(2):
        after, *_ = world.step(state, action)
        world.observe(after)
        world.restart(after, torch.ones(3, dtype=torch.bool), uniform)
        world.restart(state, torch.ones(3, dtype=torch.bool), uniform)
    assert all(torch.equal(field, before) for field, before in zip(state, kept, strict=True))
    assert torch.equal(uniform, numbers) and (action == 1).all()


def test_refusals():
    world = Breakout()
    state = world.reset(torch.rand(2, 3, 2))
    with refused(r"\.long\(\)"):
        world.step(state, torch.zeros(2, 3))
    with refused("Reshape"):
        world.step(state, torch.zeros(3, dtype=torch.int64))
    with refused("Reshape"):
        world.step(state._replace(bricks=state.bricks[..., :2]), torch.zeros(2, 3, dtype=torch.int64))
    with refused("Reshape"):
        world.reset(torch.rand(2, 3, 4))
    with refused("NaN"):
        world.reset(torch.full((2,), math.nan))
    with refused("unsqueeze"):
        world.reset(torch.tensor(0.5))
    with refused(r"\.float\(\)"):
        world.reset(torch.zeros(3, 2, dtype=torch.int64))
    with refused(r"\.bool\(\)"):
        world.restart(state, torch.zeros(2, 3), torch.rand(2, 3, 2))
    with refused("Reshape"):
        world.restart(state, torch.zeros(2, 3, dtype=torch.bool), torch.rand(3, 2))
    with refused("Reshape"):
        world.restart(state, torch.zeros(3, dtype=torch.bool), torch.rand(2, 3, 2))
    for limit in (0, math.nan, None):
        with refused():
            Breakout(time_limit=limit)
    for sticky in (-0.1, 1.1, math.nan, None):
        with refused():
            Breakout(sticky=sticky)
