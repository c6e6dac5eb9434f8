"""Gymnasium's CartPole-v1 as batched tensors: any number of worlds take one step together."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from pocourse import _check

_GRAVITY = 9.8  # m/s^2
_CART_MASS, _POLE_MASS = 1.0, 0.1  # kg
_TOTAL_MASS = _CART_MASS + _POLE_MASS
_HALF_LENGTH = 0.5  # m, of the pole
_FORCE = 10.0  # N
_TAU = 0.02  # s
_MAX_POSITION = 2.4  # m
_MAX_ANGLE = 12 * 2 * math.pi / 360  # rad
_START_WIDTH = 0.1

_POLE_PULL = _POLE_MASS * _HALF_LENGTH / _TOTAL_MASS


class CartPoleState(NamedTuple):
    """What a step needs to know: position, velocity, angle, angular velocity; and the steps since the start."""

    physics: Float[Tensor, "*batch 4"]
    steps: Int64[Tensor, "*batch"]


class CartPole:
    r"""A pole stands on a cart; push the cart left or right so that the pole does not fall.

    ==================  ======================================================================================
    Action space        ``action`` [\*batch], int64: 0 pushes the cart to the left, 1 to the right, with 10 N
    Observation space   ``obs`` [\*batch, 4]: cart position (m), cart velocity (m/s), pole angle (rad, 0 is
                        upright), pole angular velocity (rad/s)
    Ranges              inside an episode: position within 2.4, angle within 0.2094 (12 degrees); velocities
                        are not limited
    Rewards             1 for every step, the one that ends the episode included; a return is a length
    Starting state      each of the four numbers uniform in [-0.05, 0.05)
    Episode end         terminated: the new position or angle is outside its range. Truncated: ``time_limit``
                        steps are over and the episode has not terminated (where both hold, termination wins)
    ==================  ======================================================================================

    A world holds no state and draws no random number: ``step`` maps a state to the next one, and the
    uniform numbers that start an episode are handed in. So a rollout can be replayed, and a row's
    future depends on that row alone. A step that ends an episode returns the state it ended in;
    ``restart`` then puts a new start into the rows that are done.

    The physics is explicit Euler with 50 steps a second:

    .. math::
        h &= \frac{F + m l\,\omega^2 \sin\theta}{M}, \qquad
        \dot\omega = \frac{g \sin\theta - h \cos\theta}{l\,(4/3 - m \cos^2\theta / M)}, \qquad
        \dot v = h - \frac{m l\,\dot\omega \cos\theta}{M} \\
        (x, v, \theta, \omega) &\leftarrow (x, v, \theta, \omega) + \tau\,(v, \dot v, \omega, \dot\omega)

    with g = 9.8, m = 0.1 (pole), M = 1.1 (pole and cart), l = 0.5 (half the pole), F = +-10, tau = 0.02.

    Raises: ValueError for a time limit below 1.
    Source: Barto, Sutton & Anderson (1983); constants, limits and the order of the update as in Gymnasium's
    CartPole-v1. That one reports ``truncated`` beside ``terminated`` where both hold; here the two exclude each other.
    """

    obs_dim = 4
    num_actions = 2
    reset_dim = 4

    def __init__(self, *, time_limit: int = 500):
        _check.number(at_least=1, time_limit=time_limit)
        self.time_limit = time_limit
        self._tables = {}

    def reset(self, uniform: Float[Tensor, "*batch 4"]) -> CartPoleState:
        r"""The start of an episode in every row.

        .. math:: (x, v, \theta, \omega) = 0.1\,(u - 1/2)

        Shapes: uniform [\*batch, 4] in [0, 1), whose dtype and device the world takes over.
        Gradient: none wanted.
        Raises: ValueError for another last axis than 4, NaN.
        Source: Gymnasium's CartPole-v1.
        """
        _check.axes(1, uniform=uniform)
        _check.floating(uniform=uniform)
        _check.shape((*uniform.shape[:-1], self.reset_dim), uniform=uniform)
        steps = torch.zeros(uniform.shape[:-1], dtype=torch.int64, device=uniform.device)
        return CartPoleState(_start(uniform), steps)

    def observe(self, state: CartPoleState) -> Float[Tensor, "*batch 4"]:
        r"""What the policy sees: everything, :math:`o = (x, v, \theta, \omega)`; the step count stays hidden.

        Shapes: [\*batch, 4], in m, m/s, rad, rad/s; the state's own tensor, to be read only.
        Gradient: none.
        Raises: nothing.
        Source: Gymnasium's CartPole-v1.
        """
        return state.physics

    def step(
        self, state: CartPoleState, action: Int64[Tensor, "*batch"]
    ) -> tuple[CartPoleState, Float[Tensor, "*batch"], Bool[Tensor, "*batch"], Bool[Tensor, "*batch"]]:
        r"""One step of 0.02 s in every row: next state, reward, terminated, truncated.

        The equation stands in the class. No value is read: an action other than 0 and 1 is the caller's mistake.

        Shapes: action, reward, terminated, truncated [\*batch].
        Gradient: none wanted; the action is an index.
        Raises: ValueError for an action that is not int64 or not of the state's batch shape.
        Source: Barto, Sutton & Anderson (1983), as in Gymnasium's CartPole-v1.
        """
        physics, steps = state
        _check.shape((*steps.shape, 4), physics=physics)
        _check.integers(steps, action=action)
        push, limits = self._constants(physics)

        # Sums and products are fused where torch has one operation for them: what a step costs is the number of calls.
        _, velocity, angle, spin = physics.unbind(-1)
        sin, cos = angle.sin(), angle.cos()
        drive = torch.addcmul(push.take(action), sin, spin * spin, value=_POLE_PULL)
        torque = torch.addcmul(_GRAVITY * sin, cos, drive, value=-1)
        inertia = torch.rsub(cos * cos, 4 / 3 * _HALF_LENGTH, alpha=_POLE_PULL)
        angle_acc = torque / inertia
        acc = torch.addcmul(drive, cos, angle_acc, value=-_POLE_PULL)
        change = torch.stack((velocity, acc, spin, angle_acc), -1)
        physics, steps = torch.add(physics, change, alpha=_TAU), steps + 1

        terminated = (physics.abs() > limits).any(-1)
        truncated = (steps >= self.time_limit) > terminated  # a > b is "a and not b" in one call
        return CartPoleState(physics, steps), torch.ones_like(acc), terminated, truncated

    def restart(
        self, state: CartPoleState, done: Bool[Tensor, "*batch"], uniform: Float[Tensor, "*batch 4"]
    ) -> CartPoleState:
        r"""A new episode in the rows that are done; the others go on.

        .. math:: s \leftarrow \text{done} \;?\; \text{reset}(u) : s

        Shapes: done [\*batch]; uniform [\*batch, 4] in [0, 1), consumed for every row, used where done.
        Gradient: none wanted.
        Raises: ValueError for shapes that differ, flags that are not bool.
        Source: ours.
        """
        physics, steps = state
        _check.flags(steps, done=done)
        _check.shape(physics.shape, uniform=uniform)
        return CartPoleState(torch.where(done.unsqueeze(-1), _start(uniform), physics), steps.masked_fill(done, 0))

    def _constants(self, physics):
        """Push per action (force over mass) and limits, made by the first step on each dtype and device."""
        key = physics.dtype, physics.device
        if key not in self._tables:
            push = physics.new_tensor([-_FORCE / _TOTAL_MASS, _FORCE / _TOTAL_MASS])
            self._tables[key] = push, physics.new_tensor([_MAX_POSITION, math.inf, _MAX_ANGLE, math.inf])
        return self._tables[key]


def _start(uniform):
    return (uniform - 0.5) * _START_WIDTH
