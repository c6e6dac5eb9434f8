"""pocourse.surrogate_variance.estimators and .objectives: which samples are kept, and what becomes of them."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pocourse.ratio_clipping import importance_loss, ppo_clip_loss
from pocourse.surrogate_variance import dppo_loss, sample_dropout_loss
from pocourse.surrogate_variance import estimators as e


def values(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def batch(*shape, seed=0):
    g = torch.Generator().manual_seed(seed)
    ratio = (0.3 * torch.randn(*shape, generator=g, dtype=torch.float64)).exp()
    return ratio, torch.randn(*shape, generator=g, dtype=torch.float64)


# --- masks


def test_sign_dropout_by_hand():
    ratio = values(1, 2, 1, 1, 1, 3, 1, 1)
    advantage = values(0.5, 0.1, 0.4, 0.9, -1, -0.1, -0.2, 0)  # x = .5 .2 .4 .9 | -1 -.3 -.2 | and 0, which is positive
    keep = e.sign_dropout_mask(ratio, advantage, drop_fraction=0.4)  # 2 of 5, 1 of 3
    assert keep.tolist() == [True, False, True, True, False, True, True, False]


@pytest.mark.parametrize(
    ("size", "fraction", "dropped"), [(5, 0.1, 0), (5, 0.3, 2), (4, 0.1, 0), (3, 0.5, 2), (10, 0.25, 2)]
)
def test_counts_are_rounded_to_the_nearest_and_halves_to_even(size, fraction, dropped):
    keep = e.sign_dropout_mask(torch.ones(size), torch.arange(1.0, size + 1), drop_fraction=fraction)
    assert keep.tolist() == [False] * dropped + [True] * (size - dropped)


def test_of_equal_samples_the_earlier_goes():
    assert e.sign_dropout_mask(torch.ones(4), torch.ones(4), drop_fraction=0.5).tolist() == [False, False, True, True]


def test_nothing_dropped_keeps_all():
    assert bool(e.sign_dropout_mask(*batch(6, 50), drop_fraction=0.0).all())


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 40), st.floats(0, 0.99))
def test_each_class_loses_its_smallest(seed, size, fraction):
    ratio, advantage = batch(3, size, seed=seed)
    keep = e.sign_dropout_mask(ratio, advantage, drop_fraction=fraction)
    x = ratio * advantage
    for row in range(3):
        for member in (advantage[row] >= 0, advantage[row] < 0):
            kept, dropped = x[row][member & keep[row]], x[row][member & ~keep[row]]
            assert len(dropped) == round(fraction * int(member.sum()))
            assert not len(kept) or not len(dropped) or float(dropped.max()) <= float(kept.min())


def test_each_batch_is_ranked_by_itself():
    ratio, advantage = batch(4, 30)
    together = e.sign_dropout_mask(ratio, advantage, drop_fraction=0.3)
    alone = torch.stack([e.sign_dropout_mask(r, a, drop_fraction=0.3) for r, a in zip(ratio, advantage, strict=True)])
    assert torch.equal(together, alone)


def test_the_mask_moves_with_the_samples():
    ratio, advantage = batch(30)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    keep = e.sign_dropout_mask(ratio, advantage, drop_fraction=0.3)
    assert torch.equal(e.sign_dropout_mask(ratio[order], advantage[order], drop_fraction=0.3), keep[order])


def test_ratio_dropout_by_hand():
    assert (
        e.ratio_dropout_mask(values(0.7, 0.75, 0.8, 1, 1.2, 1.25, 1.3)).tolist()
        == [False] * 2 + [True] * 3 + [False] * 2
    )
    assert e.ratio_dropout_mask(values(0.95, 1.1), delta=0.09).tolist() == [True, False]


# --- what is made of the samples kept


def test_kept_mean_by_hand():
    keep = torch.tensor([[True, False, True], [False, False, False]])
    found = e.kept_mean(values(1, 5, 4).expand(2, 3), keep)
    torch.testing.assert_close(found, values(2.5, 10 / 3))


def test_kept_weights_average_to_one():
    keep = torch.rand(20, 7, generator=torch.Generator().manual_seed(0)) < 0.4
    weight = e.kept_weight(keep, torch.ones(20, 7, dtype=torch.float64))
    torch.testing.assert_close(weight.mean(-1), torch.ones(20, dtype=torch.float64))
    assert weight.dtype == torch.float64 and not bool((weight[keep.any(-1)][~keep[keep.any(-1)]] != 0).any())


def test_kept_means_are_exact_in_double_precision():
    keep = torch.tensor([True] * 7 + [False])
    assert float(e.kept_mean(torch.ones(8, dtype=torch.float64), keep)) == pytest.approx(1, abs=1e-15)


def test_controlled_mean_by_hand():
    # x = 2, 0; r = 2, 0: x = r exactly, so c = 1 and the mean of r is replaced by the 1 that is known.
    assert float(e.controlled_mean(values(2, 0.5), values(1, 1))) == pytest.approx(1, abs=1e-15)


def test_controlled_mean_is_exact_where_the_advantage_is_constant():
    ratio, _ = batch(100, 9)
    found = e.controlled_mean(ratio, torch.full_like(ratio, 0.7))
    torch.testing.assert_close(found, torch.full_like(found, 0.7), rtol=1e-12, atol=0)


def test_controlled_mean_without_spread_is_the_mean():
    assert float(e.controlled_mean(values(1, 1), values(3, 1))) == 2


@pytest.mark.parametrize("positive", [True, False])
def test_sample_moments_are_those_of_the_members(positive):
    ratio, advantage = batch(5, 40)
    member = (advantage >= 0) == positive
    mean, variance = e.sample_moments(ratio, advantage, member)
    for row in range(5):
        x = (ratio * advantage)[row][member[row]]
        torch.testing.assert_close(mean[row], x.mean())
        torch.testing.assert_close(variance[row], x.var(correction=0))


def test_sample_moments_of_an_empty_class_are_zero():
    ratio, advantage = batch(5)
    assert [float(m) for m in e.sample_moments(ratio, advantage, torch.zeros(5, dtype=torch.bool))] == [0, 0]


def test_variance_measured_after_normalising_the_advantage_is_one_by_construction():
    _, advantage = batch(64)
    normal = (advantage - advantage.mean()) / advantage.std(correction=0)
    _, variance = e.sample_moments(torch.ones(64, dtype=torch.float64), normal, torch.ones(64, dtype=torch.bool))
    assert float(variance) == pytest.approx(1, abs=1e-12)


# --- losses


def logs(*shape, seed=0):
    g = torch.Generator().manual_seed(seed)
    logp_old = -torch.rand(*shape, generator=g, dtype=torch.float64) - 0.1
    logp = logp_old + 0.3 * torch.randn(*shape, generator=g, dtype=torch.float64)
    return logp.requires_grad_(), logp_old, torch.randn(*shape, generator=g, dtype=torch.float64)


@pytest.mark.parametrize(
    ("loss", "plain", "rule"),
    [
        (dppo_loss, ppo_clip_loss, lambda r, a: e.sign_dropout_mask(r, a, drop_fraction=0.2)),
        (sample_dropout_loss, importance_loss, lambda r, a: e.ratio_dropout_mask(r, delta=0.25)),
    ],
)
def test_the_mean_of_a_loss_is_the_mean_over_the_samples_kept(loss, plain, rule):
    logp, logp_old, advantage = logs(3, 40)
    keep = rule((logp.detach() - logp_old).exp(), advantage)
    found, whole = loss(logp, logp_old, advantage), plain(logp, logp_old, advantage)
    assert found.shape == logp.shape and 0 < int((~keep).sum()) < keep.numel()
    for row in range(3):
        torch.testing.assert_close(found[row].mean(), whole[row][keep[row]].mean())
    (gradient,) = torch.autograd.grad(found.mean(1).sum(), logp, retain_graph=True)
    (expected,) = torch.autograd.grad(sum(whole[row][keep[row]].mean() for row in range(3)), logp)
    torch.testing.assert_close(gradient, expected)
    assert float(gradient[~keep].abs().max()) == 0


def test_sample_dropout_keeps_all_where_nothing_is_near_one():
    _, logp_old, advantage = logs(10)
    far = (logp_old + 1).requires_grad_()
    torch.testing.assert_close(sample_dropout_loss(far, logp_old, advantage), importance_loss(far, logp_old, advantage))


def test_dppo_without_dropout_is_ppo():
    given = logs(4, 10)
    torch.testing.assert_close(dppo_loss(*given, drop_fraction=0.0), ppo_clip_loss(*given))


# --- refusals

GOOD = values(1, 1.2), values(1, -1)


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: e.sign_dropout_mask(values(-1, 1), GOOD[1], drop_fraction=0.1), "ratio"),
        (lambda: e.sign_dropout_mask(values(math.nan, 1), GOOD[1], drop_fraction=0.1), "NaN"),
        (lambda: e.sign_dropout_mask(GOOD[0], GOOD[1][:, None], drop_fraction=0.1), "broadcast"),
        (lambda: e.sign_dropout_mask(*GOOD, drop_fraction=1.0), "drop_fraction"),
        (lambda: e.sign_dropout_mask(*GOOD, drop_fraction=-0.1), "drop_fraction"),
        (lambda: e.sign_dropout_mask(values(1)[0], values(1)[0], drop_fraction=0.1), "at least 1 axes"),
        (lambda: e.sign_dropout_mask(values(), values(), drop_fraction=0.1), "empty"),
        (lambda: e.ratio_dropout_mask(GOOD[0], delta=0.0), "delta"),
        (lambda: e.ratio_dropout_mask(values(-0.1, 1)), "ratio"),
        (lambda: e.ratio_dropout_mask(torch.tensor([1, 2])), "floating"),
        (lambda: e.kept_mean(GOOD[0], GOOD[1]), "bool"),
        (lambda: e.kept_mean(GOOD[0], torch.tensor([True])), "shape"),
        (lambda: e.controlled_mean(GOOD[0], GOOD[1].float()), "dtype"),
        (lambda: e.sample_moments(*GOOD, torch.tensor([1, 0])), "bool"),
        (lambda: dppo_loss(*(x[0] for x in (*GOOD, GOOD[1]))), "at least 1 axes"),
        (lambda: dppo_loss(*GOOD, GOOD[1], drop_fraction=1.0), "drop_fraction"),
        (lambda: sample_dropout_loss(*GOOD, GOOD[1], delta=-1.0), "delta"),
        (lambda: sample_dropout_loss(*GOOD, GOOD[1].clone().requires_grad_()), "without gradient"),
    ],
)
def test_bad_input_is_refused(call, word):
    with pytest.raises(ValueError, match=rf"(?s)expected .*{word}"):
        call()


@pytest.mark.parametrize("loss", [dppo_loss, sample_dropout_loss])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_dropped_ratio_may_overflow(loss, dtype):
    logp_old = torch.full((10,), -1.0, dtype=dtype)
    logp_old[0] = -1000.0  # a ratio of e^1000
    logp = torch.full((10,), -1.0, dtype=dtype).requires_grad_()
    advantage = torch.tensor([-1.0] + [-0.1] * 4 + [1.0] * 5, dtype=dtype)
    found = loss(logp, logp_old, advantage)
    (gradient,) = torch.autograd.grad(found.mean(), logp)
    assert float(found[0].detach()) == 0 and float(gradient[0]) == 0
    assert bool(found.isfinite().all()) and bool(gradient.isfinite().all()) and bool((gradient[1:] != 0).any())


def test_what_is_dropped_may_be_infinite():
    assert float(e.kept_mean(values(1, math.inf), torch.tensor([True, False]))) == 1


def test_a_batch_that_loses_everything_is_used_whole():
    logp, logp_old, advantage = logs(2)
    advantage = values(1, -1)
    assert not bool(e.sign_dropout_mask(torch.ones(2), advantage.float(), drop_fraction=0.6).any())
    torch.testing.assert_close(
        dppo_loss(logp, logp_old, advantage, drop_fraction=0.6), ppo_clip_loss(logp, logp_old, advantage)
    )
