"""Networks with a seed axis: one matrix product trains every seed.

All parameters of all seeds live in one tensor [seed, parameter]. That makes clipping a gradient
per seed one norm over the last axis, an optimizer step one fused call, and freezing or dropping
a seed one index.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pocourse import _check
from pocourse.engine.streams import SeedStreams


class _Tanh(torch.autograd.Function):
    """tanh(x) = 2 sigmoid(2x) - 1, which torch evaluates about twice as fast as tanh on a CPU."""

    @staticmethod
    def forward(ctx, x):
        y = (2 * x).sigmoid_().mul_(2).sub_(1)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, grad):
        (y,) = ctx.saved_tensors
        return torch.ops.aten.tanh_backward(grad, y)


tanh = _Tanh.apply


@dataclass(frozen=True)
class MLP:
    """A multilayer perceptron with tanh between its layers, one copy per seed.

    ``sizes`` counts the units of every layer, input and output included: (4, 64, 64, 2) has two
    hidden layers. ``head_gain`` scales the last layer's initial weights: .01 starts a policy near
    the uniform one, 1 suits a value. Hidden layers start orthogonal with gain sqrt(2), biases at zero.
    """

    sizes: tuple[int, ...]
    head_gain: float

    def __post_init__(self):
        if len(self.sizes) < 2 or any(not isinstance(size, int) or size < 1 for size in self.sizes):
            raise ValueError(
                f"expected sizes as at least two positive ints (input, hidden ..., output); got {self.sizes}. "
                "Two hidden layers of 64 on CartPole are (4, 64, 64, 2)."
            )
        _check.number(head_gain=self.head_gain, above=0)

    @property
    def lengths(self) -> list[int]:
        """How many numbers each weight and each bias takes, in the order in which they are stored."""
        return [n for fan_in, fan_out in self._layers for n in (fan_in * fan_out, fan_out)]

    @property
    def num_parameters(self) -> int:
        """Numbers per seed."""
        return sum(self.lengths)

    def init(self, streams: SeedStreams) -> Float[Tensor, "seed parameter"]:
        """Draw initial parameters, each seed's from its own stream."""
        pieces = []
        for index, (fan_in, fan_out) in enumerate(self._layers):
            gain = self.head_gain if index == len(self._layers) - 1 else math.sqrt(2)
            weight = orthogonal(streams, fan_in, fan_out, gain=gain)
            pieces += [weight.flatten(1), torch.zeros_like(weight[:, 0])]
        return torch.cat(pieces, dim=1)

    def __call__(
        self, parameters: Float[Tensor, "seed parameter"], x: Float[Tensor, "seed row fan_in"]
    ) -> Float[Tensor, "seed row fan_out"]:
        """Apply each seed's network to that seed's rows."""
        # One split for all layers: its backward is one concatenation, where slices would add up zeros.
        pieces = parameters.split(self.lengths, dim=1)
        for index, (fan_in, fan_out) in enumerate(self._layers):
            weight = pieces[2 * index].unflatten(1, (fan_in, fan_out))
            x = torch.baddbmm(pieces[2 * index + 1].unsqueeze(1), x, weight)
            if index < len(self._layers) - 1:
                x = tanh(x)
        return x

    @property
    def _layers(self) -> list[tuple[int, int]]:
        return list(zip(self.sizes, self.sizes[1:], strict=False))


@dataclass(frozen=True)
class ActorCritic:
    """A policy network and a value network of their own, stored in one parameter tensor per seed."""

    actor: MLP
    critic: MLP

    @classmethod
    def tanh_mlps(cls, obs_dim: int, num_actions: int, *, hidden: tuple[int, ...] = (64, 64)) -> "ActorCritic":
        """The usual pair: a policy with ``hidden`` layers, a critic that stays at 64-64 whatever the policy's depth.

        Source: the layer gains are those of Huang et al. 2022 (37 implementation details), items 2 and 13;
        leaving the critic alone while the policy deepens follows the code of Xie et al. 2025 (SPO).
        """
        return cls(
            actor=MLP((obs_dim, *hidden, num_actions), head_gain=0.01), critic=MLP((obs_dim, 64, 64, 1), head_gain=1.0)
        )

    def init(self, streams: SeedStreams) -> Float[Tensor, "seed parameter"]:
        """Draw initial parameters, each seed's from its own stream."""
        return torch.cat([self.actor.init(streams), self.critic.init(streams)], dim=1)

    def split(self, parameters: Float[Tensor, "seed parameter"]) -> tuple[Tensor, Tensor]:
        """The policy's parameters and the critic's."""
        return parameters.split([self.actor.num_parameters, self.critic.num_parameters], dim=1)

    def __call__(
        self, parameters: Float[Tensor, "seed parameter"], obs: Float[Tensor, "seed row obs"]
    ) -> tuple[Float[Tensor, "seed row action"], Float[Tensor, "seed row"]]:
        """Logits and value of each seed's rows."""
        actor, critic = self.split(parameters)
        return self.actor(actor, obs), self.critic(critic, obs).squeeze(-1)

    def logits(
        self, parameters: Float[Tensor, "seed parameter"], obs: Float[Tensor, "seed row obs"]
    ) -> Float[Tensor, "seed row action"]:
        """Unnormalised log-probabilities of the actions."""
        return self.actor(self.split(parameters)[0], obs)

    def value(
        self, parameters: Float[Tensor, "seed parameter"], obs: Float[Tensor, "seed row obs"]
    ) -> Float[Tensor, "seed row"]:
        """The critic's estimate of the discounted return."""
        return self.critic(self.split(parameters)[1], obs).squeeze(-1)


def orthogonal(streams: SeedStreams, fan_in: int, fan_out: int, *, gain: float) -> Float[Tensor, "seed fan_in fan_out"]:
    """Initial weights of a layer: ``gain`` times orthonormal columns (or rows, where they are fewer), a draw per seed.

    They are uniformly distributed: QR with the signs of R's diagonal taken out.
    """
    q, r = torch.linalg.qr(streams.normal(max(fan_in, fan_out), min(fan_in, fan_out)))
    weight = gain * (q * r.diagonal(dim1=1, dim2=2).sign().unsqueeze(1))
    return weight if fan_in >= fan_out else weight.transpose(1, 2)
