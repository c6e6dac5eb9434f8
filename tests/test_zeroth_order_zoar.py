"""pocourse.zeroth_order: ZoAR asked and told, saved and resumed; the three update rules."""

import math

import pytest
import torch

from pocourse import _check
from pocourse.zeroth_order import SGD, Adam, RAdaZO, ZoAR, rloo_gradient

F64 = torch.float64


def make(dim=3, *, num_queries=4, history=3, sigma=0.5, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    return ZoAR(dim, num_queries=num_queries, history=history, sigma=sigma, generator=generator, dtype=F64, **options)


def f(x):
    return (x**2).sum(-1) + x[..., 0]


def run(zoar, steps, theta=None, seen=None):
    theta = torch.zeros(zoar.dim, dtype=F64) if theta is None else theta
    for _ in range(steps):
        points = zoar.ask(theta)
        gradient = zoar.tell(f(points))
        if seen is not None:
            seen.append((theta.clone(), points, gradient))
        theta = theta - 0.05 * gradient
    return theta


def test_without_history_it_is_leave_one_out():
    zoar, theta = make(history=1), torch.ones(3, dtype=F64)
    for _ in range(3):
        points = zoar.ask(theta)
        found, u = zoar.tell(f(points)), (points - theta) / 0.5
        torch.testing.assert_close(found, rloo_gradient(f(points), u, sigma=0.5), rtol=1e-12, atol=1e-12)


def test_the_buffer_holds_the_last_iterations_and_no_others():
    zoar, seen = make(), []
    run(zoar, 6, seen=seen)
    for t in range(6):
        last = seen[max(0, t - 2) : t + 1]
        y = torch.cat([f(points) for _, points, _ in last])
        u = torch.cat([(points - theta) / 0.5 for theta, points, _ in last])
        expected = ((y - y.mean())[:, None] * u).sum(0) / (0.5 * (len(y) - 1))
        torch.testing.assert_close(seen[t][2], expected, rtol=1e-10, atol=1e-10)


def test_at_a_fixed_theta_the_gradient_is_unbiased():
    """f = x^2 summed: the smoothed gradient is 2 theta + e_0, whatever sigma."""
    theta = torch.tensor([0.5, -1.0, 2.0], dtype=F64).expand(4000, 3)
    zoar = make(seed=2)
    for _ in range(5):
        gradient = zoar.tell(f(zoar.ask(theta)))
    exact = 2 * theta[0] + torch.tensor([1.0, 0, 0], dtype=F64)
    error = gradient.std(0) / math.sqrt(4000)
    assert bool(((gradient.mean(0) - exact).abs() < 4 * error).all())


def test_queries_are_counted():
    zoar = make(num_queries=7)
    run(zoar, 5)
    assert zoar.queries == 35


def test_a_reward_is_maximised_by_the_same_descent():
    low, high = make(), make(objective="max")
    theta = torch.ones(3, dtype=F64)
    for _ in range(4):
        down, up = low.ask(theta), high.ask(theta)
        torch.testing.assert_close(low.tell(f(down)), high.tell(-f(up)))


def test_directions_can_be_handed_in():
    zoar, u = make(), torch.randn(4, 3, generator=torch.Generator().manual_seed(5), dtype=F64)
    theta = torch.ones(3, dtype=F64)
    torch.testing.assert_close(zoar.ask(theta, u), theta + 0.5 * u)


def test_a_batch_is_many_runs_side_by_side():
    u = torch.randn(5, 4, 2, 3, generator=torch.Generator().manual_seed(5), dtype=F64)
    together, alone = make(), [make(), make()]
    theta = torch.randn(2, 3, generator=torch.Generator().manual_seed(6), dtype=F64)
    for step in range(5):
        both = together.tell(f(together.ask(theta, u[step])))
        for i, one in enumerate(alone):
            torch.testing.assert_close(both[i], one.tell(f(one.ask(theta[i], u[step][:, i]))))
    assert together.batch == (2,) and alone[0].batch == ()


@pytest.mark.parametrize("when", [0, 1, 2, 5])
def test_a_saved_state_goes_on_bit_for_bit(when, tmp_path):
    whole, first = make(), make()
    theta = run(first, when)
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second = make(seed=99)
    second.load_state_dict(torch.load(tmp_path / "state.pt"))
    expected, found = run(whole, when + 4), run(second, 4, theta)
    assert torch.equal(expected, found) and second.queries == whole.queries


def test_a_state_between_ask_and_tell_can_be_saved():
    theta = torch.ones(3, dtype=F64)
    first = make()
    points = first.ask(theta)
    second = make(seed=99)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.tell(f(points)), second.tell(f(points)))


def test_values_refused_can_be_told_again():
    zoar, theta = make(), torch.ones(3, dtype=F64)
    points = zoar.ask(theta)
    with pytest.raises(ValueError, match="NaN"):
        zoar.tell(f(points) * math.nan)
    with pytest.raises(ValueError, match="shape"):
        zoar.tell(f(points)[:2])
    other = make()
    other.ask(theta)
    assert torch.equal(zoar.tell(f(points)), other.tell(f(points))) and zoar.queries == 4


def test_what_does_not_fit_into_memory_is_refused_with_the_number(monkeypatch):
    monkeypatch.setattr(_check, "free_memory", lambda device: 2**20)
    zoar = make(dim=100_000)
    with pytest.raises(ValueError, match=r"expected memory for 3 iterations of \[4, 100000\], 0\.0 GiB; got 0\.0 GiB"):
        zoar.ask(torch.zeros(100_000, dtype=F64))
    monkeypatch.setattr(_check, "free_memory", lambda device: None)
    zoar.ask(torch.zeros(100_000, dtype=F64))


def test_free_memory_is_some_number_or_unknown():
    found = _check.free_memory(torch.device("cpu"))
    assert found is None or found > 2**20


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: make(num_queries=1), "num_queries"),
        (lambda: make(history=0), "history"),
        (lambda: make(dim=0), "dim"),
        (lambda: make(sigma=0.0), "sigma"),
        (lambda: make(objective="maximise"), "objective"),
        (lambda: make().tell(torch.zeros(4, dtype=F64)), "ask before every tell"),
        (lambda: make().ask(torch.zeros(3)), "theta in torch.float64"),
        (lambda: make().ask(torch.zeros(4, dtype=F64)), "theta"),
        (lambda: make().ask(torch.zeros(3, dtype=F64), torch.zeros(3, 3, dtype=F64)), "directions"),
        (lambda: make().load_state_dict(make(sigma=0.6).state_dict()), "sigma = 0.5"),
    ],
)
def test_bad_input_is_refused(call, word):
    with pytest.raises(ValueError, match=rf"(?s)expected .*{word}"):
        call()


def test_the_batch_is_fixed_by_the_first_ask():
    zoar = make()
    zoar.tell(f(zoar.ask(torch.zeros(2, 3, dtype=F64))))
    with pytest.raises(ValueError, match="theta"):
        zoar.ask(torch.zeros(3, dtype=F64))


# --- update rules


def test_sgd_by_hand():
    assert SGD(learning_rate=0.1)(torch.tensor([1.0, -2.0])).tolist() == pytest.approx([-0.1, 0.2])


def test_adam_and_radazo_by_hand():
    g1, g2 = torch.tensor([2.0], dtype=F64), torch.tensor([-1.0], dtype=F64)
    adam, radazo = (rule(learning_rate=0.1, betas=(0.5, 0.75), eps=1e-12) for rule in (Adam, RAdaZO))
    # m: 1, 0. v of Adam: 1, then .75 + .25. v of R-AdaZO: .25, then .1875.
    assert float(adam(g1)) == pytest.approx(-0.1) and float(radazo(g1)) == pytest.approx(-0.2)
    assert float(adam(g2)) == pytest.approx(0, abs=1e-12) and float(radazo(g2)) == pytest.approx(0, abs=1e-12)
    g3 = torch.tensor([4.0], dtype=F64)  # m: 2; Adam: .75 + 4; R-AdaZO: .140625 + 1
    assert float(adam(g3)) == pytest.approx(-0.2 / math.sqrt(4.75))
    assert float(radazo(g3)) == pytest.approx(-0.2 / math.sqrt(1.140625))


def test_with_its_correction_undone_adam_is_torchs():
    g = torch.randn(30, 4, generator=torch.Generator().manual_seed(0), dtype=F64)
    ours = Adam(learning_rate=1.0, eps=1e-300)
    x = torch.zeros(4, dtype=F64, requires_grad=True)
    theirs = torch.optim.Adam([x], lr=1.0, betas=(0.9, 0.99), eps=0)
    for t, gradient in enumerate(g, start=1):
        before = x.detach().clone()
        x.grad = gradient.clone()
        theirs.step()
        corrected = ours(gradient) * math.sqrt(1 - 0.99**t) / (1 - 0.9**t)
        torch.testing.assert_close(x.detach() - before, corrected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("rule", [Adam, RAdaZO])
def test_a_rule_does_not_see_the_scale_of_the_gradient(rule):
    g = torch.randn(10, 4, generator=torch.Generator().manual_seed(0), dtype=F64)
    one, two = rule(learning_rate=0.1), rule(learning_rate=0.1)
    for gradient in g:
        torch.testing.assert_close(one(gradient), two(1e3 * gradient), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: SGD(learning_rate=0.0), "learning_rate"),
        (lambda: Adam(learning_rate=-1.0), "learning_rate"),
        (lambda: Adam(learning_rate=1.0, betas=(1.0, 0.9)), "beta_1"),
        (lambda: RAdaZO(learning_rate=1.0, betas=(0.9, -0.1)), "beta_2"),
        (lambda: Adam(learning_rate=1.0, eps=0.0), "eps"),
    ],
)
def test_impossible_settings_are_refused(call, word):
    with pytest.raises(ValueError, match=rf"expected {word}"):
        call()


def test_a_rule_keeps_to_one_shape():
    adam = Adam(learning_rate=1.0)
    adam(torch.ones(3))
    with pytest.raises(ValueError, match="shape"):
        adam(torch.ones(1, 3))
