"""pocourse.surrogate_variance.truth: every batch of a small bandit, and what it says of the estimators."""

import itertools
import math
from pathlib import Path

import pytest
import torch

from pocourse.surrogate_variance import bounds, truth
from pocourse.surrogate_variance.estimators import controlled_mean

BANDIT = truth.five_actions()


def test_the_bandit_is_one():
    assert float(BANDIT.prob_old.sum()) == pytest.approx(1, abs=1e-15)
    assert float(BANDIT.prob_old @ BANDIT.advantage) == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize(("kinds", "num_samples"), [(1, 3), (2, 1), (3, 4), (5, 3)])
def test_batches_are_all_sequences_up_to_order(kinds, num_samples):
    prob = torch.arange(1.0, kinds + 1, dtype=torch.float64)
    prob = prob / prob.sum()
    drawn, chance = truth.batches(prob, num_samples)
    expected = {}
    for sequence in itertools.product(range(kinds), repeat=num_samples):
        key = tuple(sorted(sequence))
        expected[key] = expected.get(key, 0.0) + math.prod(float(prob[a]) for a in sequence)
    found = {tuple(row.tolist()): float(c) for row, c in zip(drawn, chance, strict=True)}
    assert found.keys() == expected.keys()
    assert all(found[key] == pytest.approx(expected[key], rel=1e-12) for key in expected)


def test_batches_refuse_what_cannot_be_enumerated():
    with pytest.raises(ValueError, match=r"expected at most a million batches; got .*Take fewer"):
        truth.batches(BANDIT.prob_old, 100)
    with pytest.raises(ValueError, match="sum to 1"):
        truth.batches(BANDIT.prob_old * 0.9, 3)
    with pytest.raises(ValueError, match="num_samples"):
        truth.batches(BANDIT.prob_old, 0)


@pytest.mark.parametrize("num_samples", [1, 4, 9])
def test_the_plain_mean_has_no_bias_and_the_variance_of_one_sample_over_n(num_samples):
    ratio = truth.moved(BANDIT, 0.7)
    found = truth.judge(truth.ESTIMATORS["plain"], BANDIT, ratio, num_samples=num_samples)
    one = float(bounds.surrogate_variance(BANDIT.prob_old, ratio, BANDIT.advantage))
    assert found.bias == pytest.approx(0, abs=1e-13)
    assert found.variance == pytest.approx(one / num_samples, rel=1e-10)
    assert found.mse == pytest.approx(found.bias**2 + found.variance, rel=1e-14)


@pytest.mark.parametrize("name", truth.ESTIMATORS)
def test_moments_are_those_of_drawn_batches(name):
    ratio, generator = truth.moved(BANDIT, 0.7), torch.Generator().manual_seed(0)
    exact = truth.judge(truth.ESTIMATORS[name], BANDIT, ratio, num_samples=6)
    drawn = torch.multinomial(BANDIT.prob_old, 6 * 40_000, replacement=True, generator=generator).reshape(-1, 6)
    found = truth.ESTIMATORS[name](ratio[drawn], BANDIT.advantage[drawn])
    off = found - BANDIT.prob_old @ (ratio * BANDIT.advantage)
    for sampled, stated in ((off, exact.bias), (off**2, exact.mse)):
        error = float(sampled.std()) / math.sqrt(len(sampled))
        assert abs(float(sampled.mean()) - stated) < 4 * error


def test_the_fitted_control_variate_has_a_bias_of_order_one_over_n():
    prob, reward = torch.tensor([[0.3, 0.4, 0.3], [0.0, 1.0, 3.0]], dtype=torch.float64)
    bandit = truth.Bandit(prob, reward - prob @ reward)
    ratio = truth.moved(bandit, 0.2)
    bias = [abs(truth.judge(controlled_mean, bandit, ratio, num_samples=n).bias) for n in (40, 80, 160)]
    assert all(large / small == pytest.approx(2, abs=0.12) for large, small in itertools.pairwise(bias))


@pytest.mark.parametrize("wanted", [0.0, 0.1, 0.6, 1.0])
def test_the_step_reaches_the_deviation_asked_for(wanted):
    assert truth.deviation(BANDIT, truth.moved(BANDIT, truth.step_for(BANDIT, wanted))) == pytest.approx(
        wanted, abs=1e-10
    )


def test_a_deviation_out_of_reach_is_refused():
    with pytest.raises(ValueError, match=r"expected a deviation that the tilt reaches; got 1.99, and its limit is 1.8"):
        truth.step_for(BANDIT, 1.99)


def test_dropping_by_sign_moves_the_mean_up():
    for wanted in (0.0, 0.2, 0.5):
        ratio = truth.moved(BANDIT, truth.step_for(BANDIT, wanted))
        assert truth.judge(truth.ESTIMATORS["D-PPO mask"], BANDIT, ratio, num_samples=10).bias > 0.05


def test_the_table_holds_the_numbers():
    rows = truth.markdown(deviations=(0.3,), num_samples=8).splitlines()
    assert len(rows) == 2 + len(truth.ESTIMATORS)
    ratio = truth.moved(BANDIT, truth.step_for(BANDIT, 0.3))
    for name, row in zip(truth.ESTIMATORS, rows[2:], strict=True):
        m = truth.judge(truth.ESTIMATORS[name], BANDIT, ratio, num_samples=8)
        assert f"| {name} | {m.bias:+z.4f} | {m.variance:.4f} | {m.mse:.4f} |" in row


def test_an_estimator_that_is_not_one_value_per_batch_is_refused():
    with pytest.raises(ValueError, match="shape"):
        truth.judge(lambda ratio, advantage: ratio * advantage, BANDIT, truth.moved(BANDIT, 0.1))


def test_the_text_counts_the_batches_of_its_table_right():
    text = (Path(__file__).parents[1] / "notebooks" / "text" / "03_surrogate_variance.md").read_text(encoding="utf-8")
    assert f"in only {len(truth.batches(BANDIT.prob_old, truth.NUM_SAMPLES)[1]):,} ways" in text


def test_the_share_of_the_bound_that_is_used():
    used = truth.bound_used((2, 5), num_bandits=4000)
    assert used[2].numel() == 0  # centred: a class of two actions needs a third outside of it
    assert 0 < float(used[5].min()) and float(used[5].max()) <= 1 + 1e-12
    assert float(truth.bound_used((18,), num_bandits=4000)[18].median()) < float(used[5].median())
