"""The black-box step beside EvoTorch's, as ratios measured side by side in one run (machines differ, and are noisy).

    python benchmarks/zeroth_order.py [--only speed|ours|quality|tune] [--threads 1 2] [--rounds 15] [--seeds 5]

EvoTorch is no part of the course. In an environment of its own: pip install -e . evotorch==0.6.1

"speed": whole steps, which draw the population, evaluate f, estimate a gradient and move theta, in turns. All evaluate
the same torch function at as many points. Ours: antithetic directions and Adam. PGPE: mirrored pairs too, with centred
ranks and ClipUp, as EvoTorch has it by default, or with Adam; it adapts a standard deviation for each coordinate as
well, which ours does not and which cannot be left out. "Functional" is EvoTorch's other PGPE, made of functions. SNES:
independent samples, so twice as many random numbers. f is cheap: the dearer it is, the nearer all ratios are to 1.
Checks that read values are off for everybody, as in the training loops of the course.

"ours": what those checks cost, and what it saves to work block by block; much in a fresh process, which asks the system
for the memory of a large population anew each step, so run it alone; little in one that keeps that much anyway.
"quality": what the contestants reach with as many evaluations from the same starts, each with the sigma and the step
size that were best for it on another seed; "tune" is the search for these.

On a machine that others use too, set OMP_WAIT_POLICY=PASSIVE; else one of two threads spins while the other waits for
a core, and the ratios say nothing.
"""

import argparse
import itertools
import logging
import os
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from pocourse import _check
from pocourse.worlds import LANDSCAPES
from pocourse.zeroth_order import Adam, antithetic_gradient

try:
    import evotorch
    from evotorch import Problem
    from evotorch.algorithms import PGPE, SNES
    from evotorch.algorithms.functional import pgpe, pgpe_ask, pgpe_tell
except ImportError:
    sys.exit(
        "This benchmark measures beside EvoTorch, which the course itself does not need and does not install. In an "
        "environment of its own: pip install -e . evotorch==0.6.1"
    )

DIMS, QUERIES = (1000, 10_000), (10, 100, 1000)
TURN = 0.03  # seconds, about, before it is another's turn
BLOCK = 2**17  # numbers in a block of directions, so that a block and its points stay in a cache

DIM, POPULATION, STEPS, TUNING_SEED = 1000, 100, 500, 99  # of the quality
SIGMAS = (0.1, 0.3, 1.0)
ADAM = (0.01, 0.015, 0.02, 0.03, 0.05, 0.08)
RATES = {
    "ours": ADAM,
    "PGPE": (0.03, 0.04, 0.06, 0.08, 0.12, 0.16),
    "PGPE, Adam": ADAM,
    "SNES": (0.2, 0.3, 0.5, 0.7, 1.0, 2.0),
}
# sigma and step size, as "tune" found them
BEST = {
    "quadratic": {"ours": (1.0, 0.03), "PGPE": (0.1, 0.06), "PGPE, Adam": (0.3, 0.02), "SNES": (0.1, 0.7)},
    "Ackley": {"ours": (0.3, 0.015), "PGPE": (0.3, 0.08), "PGPE, Adam": (0.3, 0.02), "SNES": (0.3, 0.5)},
    "Rosenbrock": {"ours": (0.1, 0.08), "PGPE": (0.1, 0.08), "PGPE, Adam": (0.1, 0.02), "SNES": (0.1, 1.0)},
}


def antithetic_estimate(
    f: Callable[[Tensor], Tensor],
    theta: Tensor,
    *,
    num_pairs: int,
    sigma: float,
    generator: torch.Generator,
    block: int = BLOCK,
) -> Tensor:
    """antithetic_gradient of fresh directions, which are drawn, evaluated and summed up block by block."""
    rows = min(num_pairs, 16 * max(1, block // (16 * theta.numel())))  # in sixteens the numbers are those of one draw
    directions, points = theta.new_empty(rows, theta.numel()), theta.new_empty(2, rows, theta.numel())
    gradient = torch.zeros_like(theta)
    for done in range(0, num_pairs, rows):
        count = min(rows, num_pairs - done)
        u, both = directions[:count], points[:, :count]
        u.normal_(generator=generator)
        torch.add(theta, u, alpha=sigma, out=both[0])
        torch.sub(theta, u, alpha=sigma, out=both[1])
        gradient.add_(antithetic_gradient(*f(both), u, sigma=sigma), alpha=count / num_pairs)
    return gradient


class Ours:
    """Estimate and Adam, with EvoTorch's manners: a step, and where the centre is."""

    def __init__(self, f, start, *, num_queries, sigma=0.1, learning_rate=0.01, seed=0, block=BLOCK):
        self.f, self.centre, self.update = f, start, Adam(learning_rate=learning_rate)
        generator = torch.Generator().manual_seed(seed)
        self.settings = {"num_pairs": num_queries // 2, "sigma": sigma, "generator": generator, "block": block}

    def step(self) -> None:
        self.centre = self.centre + self.update(antithetic_estimate(self.f, self.centre, **self.settings))


class Theirs:
    """One of EvoTorch's searchers."""

    def __init__(self, make, f, start, *, num_queries, sigma=0.1, learning_rate=0.01, seed=0, **settings):
        problem = Problem("min", f, solution_length=len(start), vectorized=True, seed=seed)
        settings |= {"popsize": num_queries, "stdev_init": sigma, "center_init": start}
        self.searcher = make(problem, center_learning_rate=learning_rate, **settings)
        self.step = self.searcher.step

    @property
    def centre(self) -> Tensor:
        return self.searcher.status["center"]


class TheirFunctions:
    """EvoTorch's PGPE made of functions."""

    def __init__(self, f, start, *, num_queries, sigma=0.1, learning_rate=0.01):
        self.f, self.num_queries = f, num_queries
        rates = {"center_learning_rate": learning_rate, "stdev_learning_rate": 0.1}
        self.state = pgpe(center_init=start, stdev_init=sigma, objective_sense="min", **rates)

    def step(self) -> None:
        points = pgpe_ask(self.state, popsize=self.num_queries)
        self.state = pgpe_tell(self.state, points, self.f(points))


CONTESTANTS = {
    "ours": Ours,
    "PGPE": partial(Theirs, PGPE, stdev_learning_rate=0.1),
    "PGPE, Adam": partial(Theirs, PGPE, stdev_learning_rate=0.1, optimizer="adam"),
    "PGPE, functional": TheirFunctions,
    "SNES": partial(Theirs, SNES),
}


def start(seed: int, dim: int = DIM) -> Tensor:
    """Where the runs of a seed begin."""
    return torch.randn(dim, generator=torch.Generator().manual_seed(10_000 + seed))


def unread(step: Callable[[], None]) -> Callable[[], None]:
    """The step without checks that read values."""

    def run():
        with _check.values_unread():
            step()

    return run


def seconds(step: Callable[[], None], times: int) -> float:
    """Of one step, as the mean of so many."""
    began = time.perf_counter()
    for _ in range(times):
        step()
    return (time.perf_counter() - began) / times


def in_turns(steps: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """The seconds that a step takes, everybody's once a round; each round another begins."""
    times = {name: max(1, round(TURN / min(seconds(step, 2) for _ in range(3)))) for name, step in steps.items()}
    spent, order = {name: [] for name in steps}, deque(steps)
    for _ in range(rounds):
        for name in order:
            spent[name].append(seconds(steps[name], times[name]))
        order.rotate()
    return spent


def ratio(above: list[float], below: list[float]) -> str:
    """The median over the rounds, and the quartiles."""
    low, middle, high = statistics.quantiles([a / b for a, b in zip(above, below, strict=True)], n=4)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def line(*cells: str, wide: int = 23) -> None:
    """A row of a table: two narrow cells and wide ones."""
    print(f"{cells[0]:<11}{cells[1]:<9}" + "".join(f"{cell:<{wide}}" for cell in cells[2:]).rstrip(), flush=True)


def compare_speed(rounds: int) -> None:
    """Evaluations a second."""
    others = [name for name in CONTESTANTS if name != "ours"]
    print("\nEvaluations a second, ours / theirs: the median of the rounds, and the quartiles")
    line("d", "K", "ours, a second", *others)
    for dim, queries in itertools.product(DIMS, QUERIES):
        made = {n: make(LANDSCAPES["quadratic"], start(0, dim), num_queries=queries) for n, make in CONTESTANTS.items()}
        spent = in_turns({name: unread(contestant.step) for name, contestant in made.items()}, rounds)
        rate = queries / statistics.median(spent["ours"])
        line(str(dim), str(queries), f"{rate:,.0f}", *(ratio(spent[name], spent["ours"]) for name in others))


def compare_ours(rounds: int) -> None:
    """What the checks cost, and what the blocks save."""
    print("\nOurs, the time of a step as a multiple of the one above")
    line("d", "K", "every check", "one block")
    for dim, queries in itertools.product(DIMS, QUERIES):
        make = partial(Ours, LANDSCAPES["quadratic"], start(0, dim), num_queries=queries)
        whole = make(block=queries * dim)
        steps = {"ours": unread(make().step), "every check": make().step, "one block": unread(whole.step)}
        spent = in_turns(steps, rounds)
        line(str(dim), str(queries), *(ratio(spent[name], spent["ours"]) for name in ("every check", "one block")))


def number(value: float) -> str:
    """In two digits, or as a whole number."""
    return f"{value:,.0f}" if abs(value) >= 10 else f"{value:.2g}"


def reached(name: str, function: str, seed: int, sigma: float, learning_rate: float) -> float:
    """f at the centre after as many evaluations for everybody."""
    f = LANDSCAPES[function]
    settings = {"num_queries": POPULATION, "sigma": sigma, "learning_rate": learning_rate, "seed": seed}
    contestant = CONTESTANTS[name](f, start(seed), **settings)
    with _check.values_unread():
        for _ in range(STEPS):
            contestant.step()
        return f(contestant.centre).item()


def tune() -> None:
    """The best sigma and step size of each, on a seed that is not judged."""
    print(f"\nf after {STEPS * POPULATION:,} evaluations, d = {DIM}, K = {POPULATION}, on the seed for tuning")
    for function, name in itertools.product(BEST, RATES):
        found = {pair: reached(name, function, TUNING_SEED, *pair) for pair in itertools.product(SIGMAS, RATES[name])}
        print(f"{function}, {name}: best {min(found, key=found.get)}")
        for sigma in SIGMAS:
            print(f"    sigma {sigma}: " + ", ".join(f"{number(found[sigma, rate])} at {rate}" for rate in RATES[name]))


def compare_quality(seeds: int) -> None:
    """What everybody reaches."""
    print(f"\nf after {STEPS * POPULATION:,} evaluations, d = {DIM}, K = {POPULATION}: median of {seeds} seeds, range")
    line("", "start", *RATES, wide=29)
    for function, best in BEST.items():
        begun = statistics.median(LANDSCAPES[function](start(seed)).item() for seed in range(seeds))
        cells = []
        for name in RATES:
            ends = [reached(name, function, seed, *best[name]) for seed in range(seeds)]
            cells.append(f"{number(statistics.median(ends))} ({number(min(ends))} to {number(max(ends))})")
        line(function, number(begun), *cells, wide=29)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("speed", "ours", "quality", "tune"))
    parser.add_argument("--threads", type=int, nargs="+", default=(1, 2))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    logging.disable(logging.INFO)  # EvoTorch announces every problem
    print(f"torch {torch.__version__}, EvoTorch {evotorch.__version__}, {os.cpu_count()} cores")
    for threads in options.threads:
        torch.set_num_threads(threads)
        if options.only in (None, "speed", "ours"):
            print(f"\n--- torch.set_num_threads({threads}), {options.rounds} rounds")
        if options.only in (None, "speed"):
            compare_speed(options.rounds)
        if options.only in (None, "ours"):
            compare_ours(options.rounds)
    torch.set_num_threads(1)
    if options.only in (None, "quality"):
        compare_quality(options.seeds)
    if options.only == "tune":
        tune()


if __name__ == "__main__":
    main()
