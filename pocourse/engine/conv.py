"""An actor-critic for small pictures, with a seed axis: a policy and a value on one convolutional trunk."""

import math
from dataclasses import KW_ONLY, dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pocourse import _check
from pocourse.engine.nets import orthogonal
from pocourse.engine.streams import SeedStreams

WIDTH = 3  # of the convolution's window


@dataclass(frozen=True)
class ConvActorCritic:
    """One 3x3 convolution and one dense layer, both with ReLU, under a policy head and a value head; one copy per seed.

    ``obs_shape`` is (channel, height, width) of a picture. The convolution has ``channels`` filters, stride 1 and no
    padding; the dense layer has ``hidden`` units. Weights start orthogonal with gain sqrt(2), the policy's head with
    .01 and the value's with 1; biases start at zero.

    All seeds are one grouped convolution, a group per seed. Windows unfolded into a batched matrix product take, on a
    CPU, about 1.3 times as long forward and backward with 8 filters, and as long with 16 (benchmarks/training.py).

    Raises: ValueError for sizes that are not positive ints, or a picture smaller than the window.
    Source: the network of Young & Tian 2019 (MinAtar), whose sizes are the defaults.
    """

    obs_shape: tuple[int, int, int]
    num_actions: int
    _: KW_ONLY
    channels: int = 16
    hidden: int = 128

    def __post_init__(self):
        sizes = (*self.obs_shape, self.num_actions, self.channels, self.hidden)
        ints = all(type(size) is int and size >= 1 for size in sizes)
        if len(self.obs_shape) != 3 or not ints or min(self.obs_shape[1:]) < WIDTH:
            raise ValueError(
                f"expected obs_shape as (channel, height, width), height and width at least {WIDTH}, and every size as "
                f"a positive int; got {self}. MinAtar's Breakout has pictures of (4, 10, 10) and 3 actions."
            )

    @property
    def lengths(self) -> list[int]:
        """How many numbers each weight and each bias takes, in the order in which they are stored.

        That is: convolution, dense layer, policy head, value head; each layer's weight before its bias. The
        convolution's weight is stored as [filter, channel, row, column], the others as [fan_in, fan_out].
        """
        return [n for fan_in, fan_out, _ in self._layers for n in (fan_in * fan_out, fan_out)]

    @property
    def num_parameters(self) -> int:
        """Numbers per seed."""
        return sum(self.lengths)

    def init(self, streams: SeedStreams) -> Float[Tensor, "seed parameter"]:
        """Draw initial parameters, each seed's from its own stream."""
        pieces = []
        for index, (fan_in, fan_out, gain) in enumerate(self._layers):
            weight = orthogonal(streams, fan_in, fan_out, gain=gain)
            stored = weight.transpose(1, 2) if index == 0 else weight
            pieces += [stored.flatten(1), torch.zeros_like(weight[:, 0])]
        return torch.cat(pieces, dim=1)

    def __call__(
        self,
        parameters: Float[Tensor, "seed parameter"],
        obs: Bool[Tensor, "seed row channel height width"] | Float[Tensor, "seed row channel height width"],
    ) -> tuple[Float[Tensor, "seed row action"], Float[Tensor, "seed row"]]:
        """Logits and value of each seed's pictures, by that seed's weights; the trunk runs once for both.

        Raises: ValueError for pictures of another shape, or of another number of seeds.
        """
        _check.axes(2, obs=obs)
        _check.shape((len(parameters), obs.shape[1], *self.obs_shape), obs=obs)
        pieces = parameters.split(self.lengths, dim=1)
        x = self._convolve(pieces[0], pieces[1], obs).relu_()
        x = _dense(pieces[2], pieces[3], x).relu_()
        return _dense(pieces[4], pieces[5], x), _dense(pieces[6], pieces[7], x).squeeze(-1)

    def logits(
        self, parameters: Float[Tensor, "seed parameter"], obs: Float[Tensor, "seed row channel height width"]
    ) -> Float[Tensor, "seed row action"]:
        """Unnormalised log-probabilities of the actions."""
        return self(parameters, obs)[0]

    def value(
        self, parameters: Float[Tensor, "seed parameter"], obs: Float[Tensor, "seed row channel height width"]
    ) -> Float[Tensor, "seed row"]:
        """The critic's estimate of the discounted return."""
        return self(parameters, obs)[1]

    def _convolve(self, weight, bias, obs):
        """Each seed's filters on its own pictures, flattened [seed, row, filter * height * width]."""
        seeds = len(obs)
        weight = weight.reshape(seeds * self.channels, self.obs_shape[0], WIDTH, WIDTH)
        pictures = obs.transpose(0, 1).flatten(1, 2).to(weight.dtype)  # flags are laid out anew while they are small
        found = torch.conv2d(pictures, weight, bias.flatten(), groups=seeds)
        return found.unflatten(1, (seeds, self.channels)).transpose(0, 1).flatten(2)

    @property
    def _layers(self) -> list[tuple[int, int, float]]:
        """Fan in, fan out and gain of every layer; a filter's fan in is its window."""
        depth, height, width = self.obs_shape
        positions = (height - WIDTH + 1) * (width - WIDTH + 1)
        return [
            (depth * WIDTH * WIDTH, self.channels, math.sqrt(2)),
            (self.channels * positions, self.hidden, math.sqrt(2)),
            (self.hidden, self.num_actions, 0.01),
            (self.hidden, 1, 1.0),
        ]


def _dense(weight, bias, x):
    return torch.baddbmm(bias.unsqueeze(1), x, weight.unflatten(1, (x.shape[2], -1)))
