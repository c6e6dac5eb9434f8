"""What the batched program buys, as ratios measured side by side in one run (machines differ, and are noisy).

    python benchmarks/training.py [--rounds 5]

Pairs, interleaved; each line gives the median ratio of their speeds and its range. In aggregate environment steps a
second: all methods and seeds as one batch against one method and one seed at a time; tanh through the sigmoid against
torch.tanh; two threads against one. In pictures a second, forward and backward: one grouped convolution for all seeds
against windows unfolded into a batched matrix product, with 8 filters and with 16.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch

from pocourse.engine import ActorCritic, ConvActorCritic, SeedStreams, nets, on_policy
from pocourse.policy_gradient.estimators import gae
from pocourse.ratio_clipping.training import COMMON, METHODS
from pocourse.worlds import CartPole

UPDATES, NUM_ENVS, NUM_STEPS = 3, 16, 128
STEPS = UPDATES * NUM_ENVS * NUM_STEPS
PICTURES = 512  # a seed


def train(methods: dict, seeds: list[int]) -> None:
    """A few updates of the shallow comparison."""
    world = CartPole()
    stream = on_policy(
        world,
        ActorCritic.tanh_mlps(world.obs_dim, world.num_actions),
        SeedStreams(seeds),
        methods,
        credit=partial(gae, gamma=COMMON["gamma"], gae_lambda=COMMON["gae_lambda"]),
        num_updates=UPDATES,
        num_envs=NUM_ENVS,
        num_steps=NUM_STEPS,
        num_epochs=COMMON["num_epochs"],
        num_minibatches=COMMON["num_minibatches"],
        learning_rate=COMMON["learning_rate"],
    )
    for _ in stream:
        pass


def batched() -> int:
    """Every method on 8 seeds as one program; returns how many environment steps that was."""
    train(METHODS, list(range(8)))
    return len(METHODS) * 8 * STEPS


def single() -> int:
    """One method on one seed."""
    train({"PPO": METHODS["PPO"]}, [0])
    return STEPS


def with_torch_tanh() -> int:
    """As batched, with torch's own tanh."""
    fast, nets.tanh = nets.tanh, torch.tanh
    try:
        return batched()
    finally:
        nets.tanh = fast


def with_one_thread() -> int:
    """As batched, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return batched()
    finally:
        torch.set_num_threads(threads)


class Unfolded(ConvActorCritic):
    """The same network (positions before filters, which are as good), its convolution as a batched matrix product."""

    def _convolve(self, weight, bias, obs):
        seeds, rows, depth, _, _ = obs.shape
        # Channels last: a window is then three runs of neighbours, and its copy quicker.
        lines = obs.permute(0, 1, 3, 4, 2).to(weight.dtype).contiguous().flatten(3)
        windows = lines.unfold(3, 3 * depth, depth).unfold(2, 3, 1).transpose(4, 5).reshape(seeds, -1, 9 * depth)
        weight = weight.unflatten(1, (9 * depth, self.channels))
        return torch.baddbmm(bias.unsqueeze(1), windows, weight).unflatten(1, (rows, -1)).flatten(2)


def pictures(network: type[ConvActorCritic], channels: int) -> int:
    """Pictures of 16 seeds, ten times forward and backward; returns how many."""
    agent, streams = network((4, 10, 10), 3, channels=channels, hidden=64), SeedStreams(range(16))
    parameters = agent.init(streams).requires_grad_()
    obs = streams.uniform(PICTURES, *agent.obs_shape) < 0.1
    for _ in range(10):
        logits, value = agent(parameters, obs)
        torch.autograd.grad(logits.square().sum() + value.square().sum(), parameters)
    return 10 * len(streams) * PICTURES


def speed(run: Callable[[], int]) -> float:
    """Environment steps, or pictures, a second."""
    began = time.perf_counter()
    count = run()
    return count / (time.perf_counter() - began)


def main() -> None:
    """Measure the pairs in turn and print their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(min(2, torch.get_num_threads()))
    pairs = {
        "one batch of 32 runs / one run at a time": (batched, single),
        "tanh through the sigmoid / torch.tanh": (batched, with_torch_tanh),
        f"{torch.get_num_threads()} threads / one thread": (batched, with_one_thread),
        **{
            f"grouped convolution / unfolded windows, {n} filters": tuple(
                partial(pictures, network, n) for network in (ConvActorCritic, Unfolded)
            )
            for n in (8, 16)
        },
    }
    batched()  # warm up
    for name, (ours, other) in pairs.items():
        ratios, speeds = [], []
        for _ in range(rounds):
            mine, theirs = speed(ours), speed(other)
            ratios.append(mine / theirs)
            speeds.append(mine)
        print(
            f"{name}: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}), "
            f"at {statistics.median(speeds):,.0f} a second"
        )


if __name__ == "__main__":
    main()
