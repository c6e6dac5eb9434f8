"""What the batched program buys, as ratios measured side by side in one run (machines differ, and are noisy).

    python benchmarks/training.py [--rounds 5]

Three pairs, interleaved; each line gives the median ratio of aggregate environment steps a second and its range:
all methods and seeds as one batch against one method and one seed at a time; tanh through the sigmoid against
torch.tanh; two threads against one.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch

from pocourse.engine import ActorCritic, SeedStreams, nets, on_policy
from pocourse.policy_gradient.estimators import gae
from pocourse.ratio_clipping.training import COMMON, METHODS
from pocourse.worlds import CartPole

UPDATES, NUM_ENVS, NUM_STEPS = 3, 16, 128


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
    """Every method on 8 seeds as one program; returns how many runs that was."""
    train(METHODS, list(range(8)))
    return len(METHODS) * 8


def single() -> int:
    """One method on one seed."""
    train({"PPO": METHODS["PPO"]}, [0])
    return 1


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


def speed(run: Callable[[], int]) -> float:
    """Aggregate environment steps a second."""
    began = time.perf_counter()
    runs = run()
    return runs * UPDATES * NUM_ENVS * NUM_STEPS / (time.perf_counter() - began)


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
            f"at {statistics.median(speeds):,.0f} steps a second"
        )


if __name__ == "__main__":
    main()
