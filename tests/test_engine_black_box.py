"""The loop without gradients: shared draws, seeds of their own, what it counts and what it refuses."""

import sys

import pytest
import torch
from helpers import NoHostSync

from pocourse.engine import Method, SeedStreams, black_box
from pocourse.worlds.landscapes import quadratic, rosenbrock
from pocourse.zeroth_order import SGD, Adam, RAdaZO, ZoAR
from pocourse.zeroth_order.methods import Antithetic, Forward, HistoryAverage, LeaveOneOut

F64 = torch.float64
DIM, SIGMA, QUERIES = 6, 0.3, 4


def methods(**options):
    asked = {"num_queries": QUERIES, "sigma": SIGMA}
    dtype = options.pop("dtype", F64)
    zoar = ZoAR(DIM, history=3, generator=torch.Generator(), dtype=dtype, **asked)
    made = {
        "vanilla": (Forward(**asked), Adam(learning_rate=0.05)),
        "history": (HistoryAverage(Forward(**asked), history=3), Adam(learning_rate=0.05)),
        "RLOO": (LeaveOneOut(**asked), RAdaZO(learning_rate=0.05)),
        "antithetic": (Antithetic(**asked), SGD(learning_rate=0.05)),
        "ZoAR": (zoar, Adam(learning_rate=0.05)),
    }
    return {name: Method(*pair) for name, pair in made.items()}


def run(f=quadratic, seeds=range(3), *, chosen=None, iterations=40, every=10, batch=(), start=None):
    streams = SeedStreams(seeds, dtype=F64)
    start = streams.normal(*batch, DIM) if start is None else start
    chosen = methods() if chosen is None else chosen
    return start, list(black_box(f, start, streams, chosen, num_iterations=iterations, every=every))


def test_it_yields_one_record_for_so_many_iterations():
    _, seen = run()
    assert len(seen) == 4
    for metrics in seen:
        assert metrics.keys() == {"value", "best", "alive"}
        assert all(x.shape == (5, 3) for x in metrics.values()) and metrics["alive"].all()


def test_every_method_comes_down():
    start, seen = run(iterations=400, every=400)
    assert (seen[-1]["value"].mean(1) < 0.2 * quadratic(start).mean()).all()


def test_the_best_is_the_least_value_asked_for():
    asked = []

    def f(x):
        if x.shape[0] == QUERIES * 5:
            asked.append(rosenbrock(x))
            return asked[-1]
        return rosenbrock(x)

    _, seen = run(f, iterations=12, every=4)
    for count, metrics in zip((4, 8, 12), seen, strict=True):
        parts = torch.stack(asked[:count]).unflatten(1, (5, QUERIES))  # [iteration, method, query, seed]
        assert torch.equal(metrics["best"], parts.amin((0, 2)))


def test_all_methods_meet_the_same_directions():
    """Two of a kind in one run are one, and so is one that runs alone."""
    asked = {"num_queries": QUERIES, "sigma": SIGMA}
    twice = {name: Method(LeaveOneOut(**asked), Adam(learning_rate=0.05)) for name in "ab"}
    _, seen = run(chosen=twice)
    assert torch.equal(seen[-1]["value"][0], seen[-1]["value"][1])
    _, alone = run(chosen={"a": Method(LeaveOneOut(**asked), Adam(learning_rate=0.05))})
    torch.testing.assert_close(alone[-1]["value"][0], seen[-1]["value"][0], rtol=1e-12, atol=1e-12)


def test_on_a_cpu_f_sees_pieces_and_the_result_does_not_know(monkeypatch):
    _, whole = run(rosenbrock)
    module, sizes = sys.modules["pocourse.engine.black_box"], set()

    def f(x):
        sizes.add(len(x))
        return rosenbrock(x)

    monkeypatch.setattr(module, "SMALL", 1)
    _, methods_alone = run(f)
    assert sizes == {QUERIES, 5} and torch.equal(whole[-1]["value"], methods_alone[-1]["value"])
    sizes.clear()
    monkeypatch.setattr(module, "PIECE", 3 * 3 * DIM)
    _, pieces = run(f)
    assert sizes == {1, 2, 3} and torch.equal(whole[-1]["value"], pieces[-1]["value"])


def test_a_seed_does_not_know_its_neighbours():
    _, seen = run(seeds=(0, 1, 2))
    _, alone = run(seeds=(1,))
    torch.testing.assert_close(alone[-1]["value"][:, 0], seen[-1]["value"][:, 1], rtol=1e-10, atol=1e-10)


def test_a_run_by_hand():
    """RLOO and a plain step on x^2 / 2, written out."""
    streams = SeedStreams([5], dtype=F64)
    theta = streams.normal(DIM)
    chosen = {"RLOO": Method(LeaveOneOut(num_queries=QUERIES, sigma=SIGMA), SGD(learning_rate=0.1))}
    seen = list(black_box(quadratic, theta, streams, chosen, num_iterations=3))
    streams = SeedStreams([5], dtype=F64)
    theta = streams.normal(DIM)[0]
    block = 2**22 // (QUERIES * DIM)
    for metrics, u in zip(seen, streams.normal(block, QUERIES, DIM)[0], strict=False):
        y = quadratic(theta + SIGMA * u)
        theta = theta - 0.1 * ((y - y.mean()) @ u) / (SIGMA * (QUERIES - 1))
        torch.testing.assert_close(metrics["value"][0, 0], quadratic(theta), rtol=1e-12, atol=1e-12)


def test_a_batch_beside_the_seeds():
    start, seen = run(batch=(2, 4))
    assert start.shape == (3, 2, 4, DIM) and seen[-1]["value"].shape == (5, 3, 2, 4)


def test_what_has_run_away_is_told():
    asked = {"num_queries": QUERIES, "sigma": SIGMA}
    wild = {
        "wild": Method(LeaveOneOut(**asked), SGD(learning_rate=1e200)),
        "tame": Method(LeaveOneOut(**asked), SGD(learning_rate=0.01)),
    }
    _, seen = run(rosenbrock, chosen=wild)
    assert not seen[-1]["alive"][0].any() and seen[-1]["alive"][1].all()
    assert seen[-1]["value"][1].isfinite().all()


def test_nothing_waits_for_the_device():
    streams = SeedStreams(range(2))
    start = streams.normal(DIM)
    stream = black_box(quadratic, start, streams, methods(dtype=torch.float32), num_iterations=8, every=2)
    with NoHostSync():
        seen = list(stream)
    assert len(seen) == 4 and seen[-1]["value"].isfinite().all()


def test_bad_calls_are_refused():
    streams, chosen = SeedStreams(range(3), dtype=F64), methods()

    def refused(*words):
        return pytest.raises(ValueError, match="(?s)" + ".*".join(["expected", *words]))

    good = streams.normal(DIM)
    with refused("Pass a dict"):
        black_box(quadratic, good, streams, {}, num_iterations=2)
    with refused(r"shape \[3, 6\]"):
        black_box(quadratic, good[:2], streams, chosen, num_iterations=2)
    with refused("float32"):
        black_box(quadratic, good.float(), streams, chosen, num_iterations=2)
    with refused("divide num_iterations", "got 2"):
        black_box(quadratic, good, streams, chosen, num_iterations=3, every=2)
    with refused("num_iterations"):
        black_box(quadratic, good, streams, chosen, num_iterations=0)
    with refused("one value for each point", "Reduce the last axis"):
        list(black_box(lambda x: x.sum(), good, streams, chosen, num_iterations=1))
    with refused("NaN"):
        black_box(quadratic, good / 0 * 0, streams, chosen, num_iterations=1)
