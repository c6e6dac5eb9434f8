"""pocourse.zeroth_order.methods: every estimator asked and told, on shared directions."""

import pytest
import torch

from pocourse.zeroth_order import ZoAR, antithetic_gradient, forward_gradient, rloo_gradient
from pocourse.zeroth_order.methods import Antithetic, Forward, HistoryAverage, LeaveOneOut

F64 = torch.float64
SIGMA, QUERIES = 0.5, 6
MAKERS = {
    "forward": lambda: Forward(num_queries=QUERIES, sigma=SIGMA),
    "rloo": lambda: LeaveOneOut(num_queries=QUERIES, sigma=SIGMA),
    "antithetic": lambda: Antithetic(num_queries=QUERIES, sigma=SIGMA),
    "history": lambda: HistoryAverage(Forward(num_queries=QUERIES, sigma=SIGMA), history=3),
    "zoar": lambda: ZoAR(
        3, num_queries=QUERIES, history=3, sigma=SIGMA, generator=torch.Generator().manual_seed(1), dtype=F64
    ),
}


def f(x):
    return (x**2).sum(-1) + (2 * x[..., 0]).sin()


def directions(method, *batch, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(method.num_directions, *batch, 3, generator=generator, dtype=F64)


def refused(*words):
    return pytest.raises(ValueError, match="(?s)" + ".*".join(["expected", *words, "got"]))


@pytest.mark.parametrize("name", MAKERS)
def test_every_method_spends_the_same_queries(name):
    method, theta = MAKERS[name](), torch.zeros(4, 3, dtype=F64)
    points = method.ask(theta, directions(method, 4))
    assert points.shape == (QUERIES, 4, 3) and method.num_queries == QUERIES
    assert method.tell(f(points)).shape == (4, 3)


def test_the_gradients_are_those_of_the_functions():
    theta = torch.tensor([0.5, -1.0, 2.0], dtype=F64)
    forward, rloo, pairs = (MAKERS[name]() for name in ("forward", "rloo", "antithetic"))
    assert (forward.num_directions, rloo.num_directions, pairs.num_directions) == (5, 6, 3)
    u = directions(forward)
    expected = forward_gradient(f(theta + SIGMA * u), f(theta), u, sigma=SIGMA)
    torch.testing.assert_close(forward.tell(f(forward.ask(theta, u))), expected)
    u = directions(rloo)
    torch.testing.assert_close(rloo.tell(f(rloo.ask(theta, u))), rloo_gradient(f(theta + SIGMA * u), u, sigma=SIGMA))
    u = directions(pairs)
    expected = antithetic_gradient(f(theta + SIGMA * u), f(theta - SIGMA * u), u, sigma=SIGMA)
    torch.testing.assert_close(pairs.tell(f(pairs.ask(theta, u))), expected)


def test_by_hand_in_one_dimension():
    """f = x^2 at 1 with sigma 1/2 and directions 2, -2: values 4 and 0, base 1."""
    theta, square = torch.ones(1, dtype=F64), lambda x: (x**2).sum(-1)
    u = torch.tensor([[2.0], [-2.0]], dtype=F64)
    forward = Forward(num_queries=3, sigma=0.5)
    assert float(forward.tell(square(forward.ask(theta, u)))) == ((4 - 1) * 2 + (0 - 1) * -2) / (2 * 0.5)
    rloo = LeaveOneOut(num_queries=2, sigma=0.5)
    assert float(rloo.tell(square(rloo.ask(theta, u)))) == ((4 - 2) * 2 + (0 - 2) * -2) / 0.5
    pairs = Antithetic(num_queries=2, sigma=0.5)
    assert float(pairs.tell(square(pairs.ask(theta, u[:1])))) == (4 - 0) * 2 / (2 * 0.5)


def test_a_history_is_the_mean_of_the_last_gradients():
    method, alone, theta, seen = MAKERS["history"](), MAKERS["forward"](), torch.zeros(3, dtype=F64), []
    for t in range(6):
        u = directions(method, seed=t)
        found = method.tell(f(method.ask(theta, u)))
        seen.append(alone.tell(f(alone.ask(theta, u))))
        torch.testing.assert_close(found, torch.stack(seen[-3:]).mean(0), rtol=1e-12, atol=1e-12)
        theta = theta - 0.1 * found
    once = HistoryAverage(LeaveOneOut(num_queries=QUERIES, sigma=SIGMA), history=1)
    u = directions(once)
    torch.testing.assert_close(
        once.tell(f(once.ask(theta, u))), rloo_gradient(f(theta + SIGMA * u), u, sigma=SIGMA), rtol=1e-12, atol=1e-12
    )


def test_zoar_without_its_pooled_baseline_differs_only_by_the_levels():
    """At a theta at rest both memories estimate one gradient; a level that drifts is felt by the pooled mean alone."""
    boxed = HistoryAverage(LeaveOneOut(num_queries=QUERIES, sigma=SIGMA), history=3)
    pooled, theta = MAKERS["zoar"](), torch.zeros(3, dtype=F64)
    found = {"still": [], "drift": []}
    for drift in ("still", "drift"):
        boxed, pooled = HistoryAverage(LeaveOneOut(num_queries=QUERIES, sigma=SIGMA), history=3), MAKERS["zoar"]()
        for t in range(3):
            u, level = directions(boxed, seed=t), 100.0 * t * (drift == "drift")
            found[drift] = [m.tell(f(m.ask(theta, u)) + level) for m in (boxed, pooled)]
    torch.testing.assert_close(found["still"][0], found["drift"][0], rtol=1e-9, atol=1e-9)
    assert (found["still"][1] - found["drift"][1]).abs().max() > 1


def test_bad_calls_are_refused():
    method, theta = MAKERS["rloo"](), torch.zeros(3, dtype=F64)
    with refused("an ask before every tell"):
        method.tell(torch.zeros(QUERIES, dtype=F64))
    with refused(r"shape \[6, 3\]"):
        method.ask(theta, torch.zeros(5, 3, dtype=F64))
    method.ask(theta, directions(method))
    with refused(r"shape \[6\]"):
        method.tell(torch.zeros(5, dtype=F64))
    method.tell(torch.zeros(QUERIES, dtype=F64))  # a refused telling costs nothing: they can be told again
    with refused("even number"):
        Antithetic(num_queries=5, sigma=SIGMA)
    with refused("num_queries"):
        Forward(num_queries=1, sigma=SIGMA)
    with refused("sigma"):
        LeaveOneOut(num_queries=4, sigma=0.0)
    with refused("history"):
        HistoryAverage(MAKERS["rloo"](), history=0)
