"""MinAtar's Breakout as batched tensors: any number of small screens take one step together."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from pocourse import _check

_SIZE = 10  # rows and columns of the screen, row 0 at the top
_CELLS = _SIZE * _SIZE
_BOTTOM = _SIZE * (_SIZE - 1)  # cells from here on are the bottom row
_HEADINGS = 4  # 2 * down + right
_FIRST_BRICK, _BRICKS = _SIZE, 3 * _SIZE  # bricks fill the cells 10 to 39
_WALL = 2**_BRICKS - 1  # a bit for every brick, all set
_FLOOR = 2**_BRICKS  # no brick: the bit of the bottom row
_PADDLE_START = 4
_SITUATIONS = _CELLS * _HEADINGS * _SIZE  # ball, heading, paddle


def _ball(row, column, down, right):
    """Where the ball is and where it is heading, in one number."""
    return _HEADINGS * (_SIZE * row + column) + 2 * down + right


_LEFT_START, _RIGHT_START = _ball(3, 0, 1, 1), _ball(3, _SIZE - 1, 1, 0)


class BreakoutState(NamedTuple):
    """What a step needs to know.

    ``paddle`` is its column. A cell is ``10 * row + column``; the ball is ``4 * cell + 2 * down + right``, its place
    and its heading in one number, and ``trail`` is the ball of the step before. Of ``bricks``, bit ``cell - 10`` says
    whether there is one in that cell. ``last_action`` and ``draw`` are what a sticky action needs: the action carried
    out last, and the uniform number that decides whether the next step repeats it.
    """

    paddle: Int64[Tensor, "*batch"]
    ball: Int64[Tensor, "*batch"]
    trail: Int64[Tensor, "*batch"]
    bricks: Int64[Tensor, "*batch"]
    strike: Bool[Tensor, "*batch"]
    last_action: Int64[Tensor, "*batch"]
    draw: Float[Tensor, "*batch"]
    steps: Int64[Tensor, "*batch"]


class Breakout:
    r"""A ball flies along diagonals; keep it in play with the paddle and break the bricks above.

    ==================  ======================================================================================
    Action space        ``action`` [\*batch], int64: 0 stays, 1 moves the paddle a column to the left, 2 to the
                        right. MinAtar's own numbers for these three are 0, 1, 3
    Observation space   ``obs`` [\*batch, 4, 10, 10], bool: channels paddle, ball, trail (where the ball was a
                        step ago), brick; then rows from the top, then columns. A network converts it to
                        numbers, and flattens it where it wants 400 of them
    Rewards             1 for every brick broken
    Starting state      three full rows of bricks (rows 1 to 3), the paddle in column 4, the ball in row 3 at the
                        left or right edge, each with probability 1/2, heading down and inwards
    Episode end         terminated: the ball reaches the bottom row beside the paddle. Truncated: ``time_limit``
                        steps are over and the episode has not terminated (where both hold, termination wins)
    ==================  ======================================================================================

    One step, in this order:

    1. With probability ``sticky`` the action of the step before is repeated, whatever the new one says. The
       last action survives the end of an episode.
    2. The paddle moves, within the screen.
    3. The ball moves one row and one column. A column beyond the edge becomes the edge, and the ball turns around
       sideways; a row above the top becomes the top, and the ball heads down.
    4. Where it would enter a brick, the brick breaks, and the ball keeps its row, takes the new column, and turns
       around vertically. A ball that has broken one brick breaks no other until a step has ended outside of
       all bricks: it flies through them (``strike``).
    5. Where it would enter the bottom row, a wall without bricks is built anew. If the paddle is in the ball's
       old column, the ball keeps its row and turns around vertically; else, if it is in the new column, the ball
       keeps its row and turns around both ways; else the episode ends there.

    A world draws no random number. Of the two uniform numbers handed in, the first decides where an episode
    starts, the second whether the *next* step is sticky: ``restart`` hands one to every row, done or not, and has
    to be called after every step. A state that has ended is restarted before it takes another step.

    What differs from MinAtar: only the three actions that do something are offered, the observation has its
    channels first, and there is a time limit, which is ours. The rules are the same step by step. MinAtar's
    difficulty ramping does not exist in Breakout.

    Raises: ValueError for a probability ``sticky`` outside [0, 1], a time limit below 1.
    Source: Young & Tian (2019), MinAtar; sticky actions after Machado et al. (2018).
    """

    obs_shape = (4, _SIZE, _SIZE)
    obs_dim = 4 * _CELLS
    num_actions = 3
    reset_dim = 2

    def __init__(self, *, sticky: float = 0.1, time_limit: int = 1000):
        _check.number(at_least=0, at_most=1, sticky=sticky)
        _check.number(at_least=1, time_limit=time_limit)
        self.sticky = sticky
        self.time_limit = time_limit
        self._tables = {}

    def reset(self, uniform: Float[Tensor, "*batch 2"]) -> BreakoutState:
        r"""The start of the first episode in every row, with "stay" as the action before it.

        .. math:: \text{left edge where } u_0 < 1/2, \text{ else right edge}; \qquad \text{draw} = u_1

        Shapes: uniform [\*batch, 2] in [0, 1), whose dtype (of rewards and draws) and device the world takes over.
        Gradient: none wanted.
        Raises: ValueError for another last axis than 2, NaN.
        Source: Young & Tian (2019), MinAtar.
        """
        _check.axes(1, uniform=uniform)
        _check.floating(uniform=uniform)
        batch = uniform.shape[:-1]
        _check.shape((*batch, self.reset_dim), uniform=uniform)
        ball, draw = _start(uniform)
        self._constants(ball)  # made here, so that a step which is being captured in a CUDA graph finds them
        zero = torch.zeros_like(ball)
        strike = torch.zeros_like(ball, dtype=torch.bool)
        return BreakoutState(
            zero + _PADDLE_START, ball, ball.clone(), zero + _WALL, strike, zero.clone(), draw, zero.clone()
        )

    def observe(self, state: BreakoutState) -> Bool[Tensor, "*batch 4 10 10"]:
        r"""What the policy sees: the screen. Strike, last action, draw and step count stay hidden.

        .. math:: o_{c,y,x} = [\text{object } c \text{ is in row } y, \text{ column } x]

        Shapes: [\*batch, 4, 10, 10], bool, channels paddle, ball, trail, brick.
        Gradient: none.
        Raises: nothing.
        Source: Young & Tian (2019), MinAtar, whose channels come last.
        """
        tables = self._constants(state.ball)
        bricks = (state.bricks.unsqueeze(-1) & tables.bits) != 0
        before = 3 * _CELLS + _FIRST_BRICK
        screen = torch.nn.functional.pad(bricks, (before, self.obs_dim - before - _BRICKS))
        objects = torch.stack((state.paddle, state.ball // _HEADINGS, state.trail // _HEADINGS), -1)
        return screen.scatter_(-1, objects + tables.places, True).unflatten(-1, self.obs_shape)

    def step(
        self, state: BreakoutState, action: Int64[Tensor, "*batch"]
    ) -> tuple[BreakoutState, Float[Tensor, "*batch"], Bool[Tensor, "*batch"], Bool[Tensor, "*batch"]]:
        r"""One step in every row: next state, reward, terminated, truncated.

        The rules stand in the class. No value is read: an action other than 0, 1 and 2 is the caller's mistake.
        ``restart`` has to follow, also where nothing has ended: it brings the next step's draw.

        Shapes: action, reward, terminated, truncated [\*batch].
        Gradient: none wanted; the action is an index.
        Raises: ValueError for an action that is not int64 or not of the state's batch shape.
        Source: Young & Tian (2019), MinAtar.
        """
        paddle, ball, _, bricks, strike, last_action, draw, steps = state
        _check.integers(steps, action=action, ball=ball, bricks=bricks)
        tables = self._constants(steps)

        # What a step costs is the number of calls: so the ball's flight is looked up, not computed.
        action = torch.where(draw < self.sticky, last_action, action)
        paddle = tables.paddle.take(torch.add(action, paddle, alpha=self.num_actions))

        bit = tables.bit.take(ball)
        found = (bricks & bit) != 0
        broken = found > strike  # a > b is "a and not b" in one call
        bricks = torch.where(broken, bricks ^ bit, bricks)
        bricks = bricks.masked_fill((bit == _FLOOR) & (bricks == 0), _WALL)

        situation = torch.add(paddle, ball, alpha=_SIZE)
        after = tables.flight.take(torch.add(situation, broken, alpha=_SITUATIONS))
        terminated = after >= _HEADINGS * _BOTTOM
        steps = steps + 1
        truncated = (steps >= self.time_limit) > terminated
        # Strike lasts while the ball lands in bricks, whether they break or are flown through: that is ``found``.
        state = BreakoutState(paddle, after, ball, bricks, found, action, draw, steps)
        return state, broken.to(draw.dtype), terminated, truncated

    def restart(
        self, state: BreakoutState, done: Bool[Tensor, "*batch"], uniform: Float[Tensor, "*batch 2"]
    ) -> BreakoutState:
        r"""A new episode in the rows that are done; the others go on; and every row's draw for the next step.

        .. math:: s \leftarrow \text{done} \;?\; \text{reset}(u_0) : s, \qquad \text{draw} \leftarrow u_1

        The last action stays in all rows.

        Shapes: done [\*batch]; uniform [\*batch, 2] in [0, 1): the first is used where done, the second everywhere.
        Gradient: none wanted.
        Raises: ValueError for shapes that differ, flags that are not bool.
        Source: Young & Tian (2019), MinAtar; the draw that is handed in is ours.
        """
        paddle, ball, trail, bricks, strike, last_action, _, steps = state
        _check.flags(steps, done=done)
        _check.shape((*steps.shape, self.reset_dim), uniform=uniform)
        start, draw = _start(uniform)
        return BreakoutState(
            paddle.masked_fill(done, _PADDLE_START),
            torch.where(done, start, ball),
            torch.where(done, start, trail),
            bricks.masked_fill(done, _WALL),
            strike > done,
            last_action,
            draw,
            steps.masked_fill(done, 0),
        )

    def _constants(self, like):
        """The tables, made by the first reset on each device."""
        if like.device not in self._tables:
            self._tables[like.device] = _Tables(*(table.to(like.device) for table in _make_tables()))
        return self._tables[like.device]


def _start(uniform):
    """The ball's start and the draw, the latter in memory of its own: the caller may fill ``uniform`` again."""
    return torch.where(uniform[..., 0] < 0.5, _LEFT_START, _RIGHT_START), uniform[..., 1].clone()


class _Tables(NamedTuple):
    """What the rules say about every situation, and what a picture needs.

    paddle: [paddle, action], the next column. bit: [ball], of the brick it would enter, or the floor's, or 0.
    flight: [broken, ball, paddle], the next ball; every ball in the bottom row is one that is lost. bits: [brick].
    places: [object], where in the flat picture the channels of paddle (its bottom row), ball and trail begin.
    """

    paddle: Tensor
    bit: Tensor
    flight: Tensor
    bits: Tensor
    places: Tensor


def _make_tables():
    columns, bits = torch.arange(_SIZE), 2 ** torch.arange(_BRICKS)
    move = torch.tensor([0, -1, 1])
    next_paddle = (columns.unsqueeze(-1) + move).clamp(0, _SIZE - 1)

    ball = torch.arange(_CELLS * _HEADINGS)
    cell, heading = ball // _HEADINGS, ball % _HEADINGS
    row, column, down, right = cell // _SIZE, cell % _SIZE, heading // 2, heading % 2

    aim = column + 2 * right - 1
    new_column = aim.clamp(0, _SIZE - 1)
    right = torch.where(aim == new_column, right, 1 - right)
    aim = row + 2 * down - 1
    new_row = aim.clamp(0, _SIZE - 1)
    down = torch.where(aim < 0, 1, down)

    bit_of_cell = torch.zeros(_CELLS, dtype=torch.int64)
    bit_of_cell[_FIRST_BRICK : _FIRST_BRICK + _BRICKS] = bits
    bit_of_cell[_BOTTOM:] = _FLOOR
    bit = bit_of_cell[_SIZE * new_row + new_column]

    onwards = _ball(new_row, new_column, down, right).unsqueeze(-1)
    bounced = _ball(row, new_column, 1 - down, right).unsqueeze(-1)
    returned = _ball(row, new_column, 1 - down, 1 - right).unsqueeze(-1)
    caught = torch.where(columns == new_column.unsqueeze(-1), returned, onwards)
    caught = torch.where(columns == column.unsqueeze(-1), bounced, caught)
    unbroken = torch.where(bit.unsqueeze(-1) == _FLOOR, caught, onwards)
    flight = torch.stack((unbroken, bounced.expand_as(unbroken)))
    return next_paddle, bit, flight, bits, torch.tensor([_BOTTOM, _CELLS, 2 * _CELLS])
