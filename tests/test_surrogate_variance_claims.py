"""Chapter 3's claims: at other seeds than the printed one, what they draw, and numbers by hand."""

import pytest
import torch

import pocourse.surrogate_variance.claims  # noqa: F401  registers the chapter's claims
from pocourse.lesson.claims import Draw, registry
from pocourse.surrogate_variance import bounds, estimators
from pocourse.surrogate_variance.claims import control, dropping, instances, neighbours, ratio

CLAIMS = {id: found for id, found in registry().items() if found.chapter == "surrogate_variance"}


def values(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def draw(count=400, seed=0):
    return Draw(count, torch.Generator().manual_seed(seed))


# --- what is drawn


@pytest.mark.parametrize("shape", [(5,), (4, 3)])
def test_every_fourth_step_attains_the_bound_of_both_classes(shape):
    step = instances.signed_step(draw(), *shape)
    assert float((step.new.sum(-1) - 1).abs().max()) < 1e-12
    for member in instances.sign_classes(step.advantage):
        found = bounds.sign_class(step.old, step.ratio, step.advantage, member)
        torch.testing.assert_close(found.variance[::4], found.bound[::4], rtol=1e-12, atol=0)
        assert bool((found.variance[::4] > 0.01).any())
        assert bool((found.variance[1::4] < 0.99 * found.bound[1::4]).any())


def test_the_least_likely_actions_by_hand():
    new = instances.least_likely(values(0.1, 0.3, 0.4, 0.2), values(1, 0, -1, -2))
    torch.testing.assert_close(new, values(0.5, 0, 0, 0.5))
    torch.testing.assert_close(instances.least_likely(values(0.1, 0.9), values(1, 2)), values(1, 0))


def test_quartered_batches_have_classes_of_four_and_eight_and_some_are_constant():
    batch = instances.quartered_batch(draw())
    count = (batch.advantage >= 0).sum(-1)
    assert set(count.tolist()) == {4, 8}
    for member in instances.sign_classes(batch.advantage):
        _, variance = estimators.sample_moments(batch.ratio, batch.advantage, member)
        assert float(variance[::4].max()) < 1e-24
        assert float(variance[1::4].min()) > 1e-4


def test_ranks_by_hand():
    member = torch.tensor([[True, False, True, True, False]])
    found = instances.rank(values([3, 5, -1, 2, 4]), member)
    assert found.tolist() == [[2, 1, 0, 1, 0]]


def test_moments_by_hand():
    prob, x, y = values(0.25, 0.75), values(4, 0), values(1, 3)
    assert float(instances.variance(prob, x)) == 3
    assert float(instances.covariance(prob, x, y)) == -1.5


@pytest.mark.parametrize("rare", [1e-6, 0.01])
def test_mass_on_a_rare_action_keeps_the_deviation_and_raises_the_variance(rare):
    delta, old, new = ratio._rare_action(draw(), lambda delta: torch.full_like(delta, rare))
    torch.testing.assert_close((new - old).abs().sum(-1), delta, rtol=0, atol=1e-14)
    torch.testing.assert_close(bounds.chi_square(old, new / old), delta**2 / (4 * rare * (1 - rare)), rtol=1e-9, atol=0)


# --- numbers by hand


def test_dropping_a_common_value_raises_the_variance_by_hand():
    batch = dropping.one_large(draw(), 5)
    assert batch.x[0].tolist() == [1, 1, 1, 1, 10]
    before, after = dropping.class_variance(batch, dropping._fifth_dropped)
    assert float(before[0]) == pytest.approx(12.96, abs=1e-13)
    assert float(after[0]) == pytest.approx(15.1875, abs=1e-13)
    gain = (batch.x[:, -1] - batch.x[:, 0]) ** 2 * (3 / 16 - 4 / 25)
    torch.testing.assert_close(after - before, gain, rtol=1e-10, atol=1e-14)


def test_each_rule_drops_what_it_says():
    advantage = values([1, 2, 3, 4, -1, -2, -3, -4])
    dropped = {
        dropping._drop_smallest: [1, -4],
        dropping._drop_largest: [4, -1],
        dropping._drop_weakest: [1, -1],
        dropping._drop_first: [1, -1],
    }
    for rule, expected in dropped.items():
        keep = rule(torch.ones_like(advantage), advantage)
        assert advantage[~keep].tolist() == expected, rule.__name__
    # The first of each class, wherever it stands.
    keep = dropping._drop_first(torch.ones_like(advantage), advantage.flip(-1))
    assert advantage.flip(-1)[~keep].tolist() == [-4, 4]


def test_the_pair_matrix_by_hand():
    # x = 1, 2, 6: mean square 41 / 3, all pairs 81, other pairs 81 - 41 = 40.
    x = values([1, 2, 6])
    assert float(dropping._all_pairs(x)) == pytest.approx(41 / 3 - 9, abs=1e-14)
    assert float(dropping._other_pairs(x)) == pytest.approx(41 / 3 - 40 / 6, abs=1e-14)


@pytest.mark.parametrize(("p", "second", "expected"), [(0.7, 0.5, -0.126), (0.9, 0.2, 0.0792), (0.5, -1.0, 0.5)])
def test_the_greedy_baseline_by_hand(p, second, expected):
    # First arm 1: the threshold is 1 / (2 (1 - second)) = 1, .625, .25.
    policy, reward = values(p, 1 - p), values(1, second)
    change = bounds.baseline_variance(policy, reward, values(1)[0]) - bounds.baseline_variance(
        policy, reward, values(0)[0]
    )
    assert float(change) == pytest.approx(expected, abs=1e-14)
    assert float(neighbours._change(p, 1, second)) == pytest.approx(expected, abs=1e-14)
    assert (expected > 0) == (p > 1 / (2 * (1 - second)))


def test_the_entropy_of_frequencies_by_hand(monkeypatch):
    # Two draws from a fair coin: half of the time both sides, log 2, else nothing.
    monkeypatch.setattr(neighbours, "DRAWN", 2)
    found = neighbours._frequency_entropy(values([0.5, 0.5]))
    torch.testing.assert_close(found, values(2).log() / 2)


def test_the_correlation_by_hand():
    # With one advantage for all, r A moves with r: nothing is left after the control.
    old = values([0.25, 0.75])
    alike = instances.Step(old, values([0.5, 0.5]), values([2, 2]))
    assert float(control._correlation(alike)) == pytest.approx(1, abs=1e-14)
    assert float(control._best(alike)) == pytest.approx(2, abs=1e-14)
    opposed = alike._replace(advantage=values([-2, -2]))
    assert float(control._correlation(opposed)) == pytest.approx(-1, abs=1e-14)
