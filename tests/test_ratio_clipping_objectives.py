"""Chapter 2's objectives and losses: values by hand, gradients, refusals, and life inside functorch."""

import math
from functools import partial

import pytest
import torch

from pocourse.ratio_clipping import objectives as o

EPS = 0.2
RATIO = torch.tensor([0.5, 0.8, 0.9, 1.0, 1.2, 1.3, 3.0], dtype=torch.float64)

OBJECTIVES = {
    "importance": o.importance_objective,
    "clip": partial(o.clip_objective, clip_eps=EPS),
    "rollback": partial(o.rollback_objective, clip_eps=EPS, slope=0.3),
    "spo": partial(o.spo_objective, eps=EPS),
    "simple": partial(o.simple_aligned_objective, eps=EPS),
    "kl": partial(o.kl_objective, kl_coef=0.5),
}
LOSSES = {
    "importance": o.importance_loss,
    "clip": partial(o.ppo_clip_loss, clip_eps=EPS),
    "spo": partial(o.spo_loss, eps=EPS),
    "kl": partial(o.kl_penalty_loss, kl_coef=0.5),
}
both = pytest.mark.parametrize("advantage", [1.7, -0.4])
every_objective = pytest.mark.parametrize("name", OBJECTIVES)
every_loss = pytest.mark.parametrize("name", LOSSES)


def refused(*words):
    return pytest.raises(ValueError, match=r"(?s)expected .*got .*" + ".*".join(words))


def values(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def close(found, *numbers):
    torch.testing.assert_close(found, values(*numbers), rtol=0, atol=1e-12)


def slope(objective, ratio, advantage):
    ratio = ratio.clone().requires_grad_()
    return torch.autograd.grad(objective(ratio, torch.full_like(ratio.detach(), advantage)).sum(), ratio)[0]


def sample(seed=0, size=64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(size, generator=generator, dtype=torch.float64) for _ in range(3)]


# --- values by hand


@pytest.mark.parametrize(
    ("name", "advantage", "expected"),
    [
        ("importance", 1.7, [0.85, 1.36, 1.53, 1.7, 2.04, 2.21, 5.1]),
        ("clip", 1.7, [0.85, 1.36, 1.53, 1.7, 2.04, 2.04, 2.04]),
        ("clip", -0.4, [-0.32, -0.32, -0.36, -0.4, -0.48, -0.52, -1.2]),
        ("rollback", 1.7, [0.85, 1.36, 1.53, 1.7, 2.04, 1.989, 1.122]),
        ("rollback", -0.4, [-0.356, -0.32, -0.36, -0.4, -0.48, -0.52, -1.2]),
        ("spo", 1.7, [-0.2125, 1.19, 1.4875, 1.7, 1.87, 1.8275, -11.9]),
        ("spo", -0.4, [-0.45, -0.36, -0.37, -0.4, -0.52, -0.61, -5.2]),
        ("simple", 1.7, [-0.49, -0.16, -0.09, -0.04, 0, -0.01, -3.24]),
    ],
)
def test_values_by_hand(name, advantage, expected):
    close(OBJECTIVES[name](RATIO, torch.full_like(RATIO, advantage)), *expected)


def test_kl_objective_by_hand():
    found = o.kl_objective(values(1.0, math.e), values(2.0, 2.0), kl_coef=0.5)
    close(found, 2.0, 2 * math.e - 0.5 * (math.e - 2))


@pytest.mark.parametrize(("advantage", "top", "height"), [(1.7, 1.2, 1.87), (-0.4, 0.8, -0.36)])
def test_the_parabola_has_its_top_at_the_edge(advantage, top, height):
    grid = torch.linspace(0, 3, 30001, dtype=torch.float64)
    value = o.spo_objective(grid, torch.full_like(grid, advantage), eps=EPS)
    assert float(value.max()) == pytest.approx(height, abs=1e-12)
    assert float(grid[value.argmax()]) == pytest.approx(top, abs=1e-9)


@both
def test_aligned_objectives_share_their_top(advantage):
    grid = torch.linspace(0, 3, 30001, dtype=torch.float64)
    tops = [OBJECTIVES[name](grid, torch.full_like(grid, advantage)).argmax() for name in ("spo", "simple")]
    assert tops[0] == tops[1]


# --- gradients


@pytest.mark.parametrize(
    ("advantage", "alive"), [(1.7, [1, 1, 1, 1, 1, 0, 0]), (-0.4, [0, 1, 1, 1, 1, 1, 1]), (0.0, [1] * 7)]
)
def test_clip_gradient_at_and_between_its_kinks(advantage, alive):
    assert slope(OBJECTIVES["clip"], RATIO, advantage).tolist() == [advantage * on for on in alive]


@both
def test_rollback_gradient(advantage):
    beyond = (RATIO > 1 + EPS) if advantage > 0 else (RATIO < 1 - EPS)
    expected = torch.where(beyond, -0.3 * advantage, advantage).double()
    torch.testing.assert_close(slope(OBJECTIVES["rollback"], RATIO, advantage), expected, rtol=1e-6, atol=0)


@both
def test_spo_gradient(advantage):
    expected = advantage - abs(advantage) * (RATIO - 1) / EPS
    torch.testing.assert_close(slope(OBJECTIVES["spo"], RATIO, advantage), expected)


@every_objective
def test_gradients_agree_with_central_differences(name):
    ratio = values(0.55, 0.87, 1.09, 1.41, 2.3)
    for advantage in (1.7, -0.4):
        a = torch.full_like(ratio, advantage)
        difference = (OBJECTIVES[name](ratio + 1e-6, a) - OBJECTIVES[name](ratio - 1e-6, a)) / 2e-6
        torch.testing.assert_close(slope(OBJECTIVES[name], ratio, advantage), difference, rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", sorted(set(OBJECTIVES) - {"simple"}))
@both
def test_every_surrogate_starts_like_the_plain_one(name, advantage):
    one = values(1.0)
    close(OBJECTIVES[name](one, values(advantage)), advantage)
    close(slope(OBJECTIVES[name], one, advantage), advantage)


# --- losses


@every_loss
def test_a_ratio_of_one_gives_minus_the_advantage(name):
    logp, _, advantage = sample()
    assert torch.equal(LOSSES[name](logp, logp.clone(), advantage), -advantage)


@every_loss
def test_a_loss_is_minus_its_objective_one_value_per_sample(name):
    logp, logp_old, advantage = (x.view(4, 16) for x in sample(1))
    loss = LOSSES[name](logp, logp_old, advantage)
    assert loss.shape == (4, 16)
    torch.testing.assert_close(loss, -OBJECTIVES[name]((logp - logp_old).exp(), advantage))
    alone = LOSSES[name](logp[2, 5], logp_old[2, 5], advantage[2, 5])
    assert alone.shape == () and torch.equal(alone, loss[2, 5])


@every_loss
def test_the_gradient_of_a_loss_is_that_of_its_objective_times_the_ratio(name):
    logp, logp_old, advantage = sample(2)
    logp.requires_grad_()
    (found,) = torch.autograd.grad(LOSSES[name](logp, logp_old, advantage).sum(), logp)
    ratio = (logp.detach() - logp_old).exp().requires_grad_()
    (expected,) = torch.autograd.grad(OBJECTIVES[name](ratio, advantage).sum(), ratio)
    torch.testing.assert_close(found, -ratio.detach() * expected)


def test_the_kl_penalty_survives_a_ratio_that_underflows():
    logp = torch.tensor([-120.0], requires_grad=True)
    loss = o.kl_penalty_loss(logp, torch.tensor([-1.0]), torch.tensor([1.0]), kl_coef=0.5)
    (gradient,) = torch.autograd.grad(loss.sum(), logp)
    assert float(loss.detach()) == pytest.approx(0.5 * 118) and float(gradient) == pytest.approx(-0.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@every_loss
def test_dtypes_are_kept(name, dtype):
    assert LOSSES[name](*(x.to(dtype) for x in sample())).dtype == dtype


# --- refusals


@every_loss
@pytest.mark.parametrize("place", [0, 1, 2])
def test_shapes_that_would_broadcast_are_refused(name, place):
    arguments = sample()
    arguments[place] = arguments[place][:, None]
    with refused("broadcast", "reshape"):
        LOSSES[name](*arguments)


@every_loss
@pytest.mark.parametrize("place", [1, 2])
def test_data_with_gradient_is_refused(name, place):
    arguments = sample()
    arguments[place].requires_grad_()
    with refused("detach"):
        LOSSES[name](*arguments)


@every_loss
@pytest.mark.parametrize("place", [0, 1, 2])
def test_nan_is_refused(name, place):
    arguments = sample()
    arguments[place][7] = math.nan
    with refused("1 of 64 entries NaN"):
        LOSSES[name](*arguments)


@every_loss
def test_an_empty_batch_is_refused(name):
    with refused("empty"):
        LOSSES[name](*sample(size=0))


@every_loss
def test_integers_are_refused(name):
    logp, logp_old, _ = sample()
    with refused(r"\.float\(\)"):
        LOSSES[name](logp, logp_old, torch.ones(64, dtype=torch.int64))


@pytest.mark.parametrize("eps", [0, -0.2, math.nan, math.inf, "0.2", True, torch.tensor(0.2)])
@pytest.mark.parametrize(("loss", "word"), [(o.ppo_clip_loss, "clip_eps"), (o.spo_loss, "eps")])
def test_eps_has_to_be_positive(loss, word, eps):
    with refused():
        loss(*sample(), **{word: eps})


@pytest.mark.parametrize("kl_coef", [-1, math.nan])
def test_kl_coef_must_not_be_negative(kl_coef):
    with refused():
        o.kl_penalty_loss(*sample(), kl_coef=kl_coef)


@every_objective
def test_objectives_refuse_negative_ratios_and_mismatched_shapes(name):
    with refused("1 of 2 outside", "exp"):
        OBJECTIVES[name](values(1.0, -0.1), values(1.0, 1.0))
    with refused("broadcast"):
        OBJECTIVES[name](values(1.0, 1.1), values(1.0, 1.0)[:, None])
    with refused("detach"):
        OBJECTIVES[name](values(1.0), values(1.0).requires_grad_())
    with refused("empty"):
        OBJECTIVES[name](values(), values())


@pytest.mark.parametrize("measure", [o.ratio_deviation, o.kl_estimates])
def test_measures_of_distance_refuse_as_the_losses_do(measure):
    logp, logp_old, _ = sample()
    for arguments in [
        (logp, logp_old[:, None]),
        (logp, logp_old.clone().requires_grad_()),
        (logp * math.nan, logp_old),
        (logp[:0], logp_old[:0]),
    ]:
        with refused():
            measure(*arguments)


# --- functorch


@every_loss
def test_losses_run_inside_functorch(name):
    logp, logp_old, advantage = sample()
    loss = LOSSES[name]
    whole = loss(logp, logp_old, advantage)
    torch.testing.assert_close(torch.func.vmap(loss)(logp, logp_old, advantage), whole)
    total = torch.func.grad(lambda x: loss(x, logp_old, advantage).sum())(logp)
    each = torch.func.vmap(torch.func.grad(loss))(logp, logp_old, advantage)
    torch.testing.assert_close(each, total)


# --- how far the policy has moved


def test_ratio_deviation_by_hand():
    close(o.ratio_deviation(values(0.0, math.log(3), -math.log(2)), values(0.0, 0.0, 0.0)), 0, 2, 0.5)


def test_kl_estimates_by_hand():
    k1, k3 = o.kl_estimates(values(0.0, math.log(2), -math.log(2)), values(0.0, 0.0, 0.0))
    close(k1, 0, -math.log(2), math.log(2))
    close(k3, 0, 1 - math.log(2), -0.5 + math.log(2))


def test_k3_is_never_negative_and_both_are_exact_in_the_mean():
    old, new = values(0.5, 0.3, 0.2), values(0.2, 0.3, 0.5)
    k1, k3 = o.kl_estimates(new.log(), old.log())
    exact = (old * (old / new).log()).sum()
    assert bool((k3 >= 0).all())
    close(torch.stack(((old * k1).sum(), (old * k3).sum())), exact, exact)


@pytest.mark.parametrize(("kl", "factor"), [(0.01, 1), (0.0149, 1), (0.0151, 2), (0.0067, 1), (0.0066, 0.5), (0, 0.5)])
def test_adaptive_kl_coef(kl, factor):
    assert o.adaptive_kl_coef(3.0, kl, kl_target=0.01) == 3.0 * factor


def test_adaptive_kl_coef_refuses():
    for arguments in [{"kl_coef": 0, "kl": 1}, {"kl_coef": 1, "kl": math.nan}]:
        with refused():
            o.adaptive_kl_coef(**arguments, kl_target=0.01)
