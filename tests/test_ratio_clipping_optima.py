"""Chapter 2's exact one-state solutions: values by hand, properties, other solvers, refusals."""

import math
from functools import partial

import pytest
import torch

from pocourse.ratio_clipping import bounds, objectives
from pocourse.ratio_clipping import optima as o
from pocourse.ratio_clipping.claims import _solvers
from pocourse.worlds import bandit

EPS = 0.2
LINKS = {
    "kl_new_old": partial(o.kl_new_old_link, step=0.7),
    "kl_old_new": partial(o.kl_old_new_link, step=0.7),
    "chi2": partial(o.chi2_link, step=0.7),
}
RATIOS = {**LINKS, "spo": partial(o.spo_optimum, eps=EPS), "tv": partial(o.tv_constrained_optimum, eps=EPS)}
every_link = pytest.mark.parametrize("name", LINKS)
every_ratio = pytest.mark.parametrize("name", RATIOS)


def values(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def close(found, *numbers, atol=1e-12):
    torch.testing.assert_close(found, values(*numbers), rtol=0, atol=atol)


def refused(*words):
    return pytest.raises(ValueError, match=r"(?s)expected .*got .*" + ".*".join(words))


def problems(seed=0, count=300, actions=4):
    generator = torch.Generator().manual_seed(seed)
    prob = bandit.random_policy((count, actions), generator=generator)
    return prob, torch.randn(count, actions, generator=generator, dtype=torch.float64)


# --- SPO by hand


@pytest.mark.parametrize(
    ("prob", "advantage", "ratio"),
    [
        ((0.5, 0.3, 0.2), (1.0, -0.5, -1.75), (1.2, 0.8, 0.8)),  # balanced signs: everyone at the edge
        ((0.7, 0.2, 0.1), (0.1, -0.05, -0.6), None),
        ((0.5, 0.3, 0.2), (1.0, -1.0, 0.0), (1.2, 0.8, 0.8)),  # an idle action absorbs 1 - .6 - .24
        ((0.6, 0.3, 0.1), (1.0, 1.0, 0.0), (1 / 0.9, 1 / 0.9, 0.0)),  # nothing is left for the idle one
        ((0.4, 0.3, 0.2, 0.1), (1.0, -1.0, 0.0, 0.0), (1.2, 0.8, 0.28 / 0.3, 0.28 / 0.3)),
        ((0.6, 0.4), (0.0, 0.0), (1.0, 1.0)),
        ((0.6, 0.4), (3.0, 3.0), (1.0, 1.0)),
        ((1.0,), (-2.0,), (1.0,)),
    ],
)
def test_spo_optimum_by_hand(prob, advantage, ratio):
    if ratio is None:
        nu = 0.4 / (7 + 4 + 1 / 6)
        ratio = (1 + EPS * (1 - nu / 0.1), 1 - EPS * (1 + nu / 0.05), 1 - EPS * (1 + nu / 0.6))
    close(o.spo_optimum(values(*prob), values(*advantage), eps=EPS), *ratio)


def test_spo_optimum_can_violate_the_constraint_it_came_from():
    prob, advantage = values(0.0504, 0.8809, 0.0687), values(0.907, -0.0519, -0.000198)
    ratio = o.spo_optimum(prob, advantage, eps=EPS)
    close(ratio, 1.20, 0.81, 3.29, atol=0.01)
    assert float((prob * (ratio - 1).abs()).sum()) == pytest.approx(1.68 * EPS, abs=0.002)


def test_spo_optimum_stops_at_zero():
    prob, advantage = values(0.9, 0.1), values(1.0, 0.01)
    close(o.spo_optimum(prob, advantage, eps=EPS), 1 / 0.9, 0.0)


def test_spo_gain_by_hand():
    assert float(o.spo_gain(values(0.5, 0.3, 0.2), values(1.0, -0.5, -1.75), eps=EPS)) == pytest.approx(0.2)
    prob, advantage = values(0.7, 0.2, 0.1), values(0.1, -0.05, -0.6)
    assert float(o.spo_gain(prob, advantage, eps=EPS)) == pytest.approx(0.02513, abs=5e-6)
    assert float(EPS * (prob * advantage.abs()).sum()) == pytest.approx(0.028)
    assert float(o.spo_gain(values(0.5, 0.3, 0.2), values(1.0, -1.0, 0.0), eps=EPS)) == pytest.approx(0.16)


@pytest.mark.parametrize("case", [((0.9, 0.1), (1.0, 0.01)), ((0.6, 0.3, 0.1), (1.0, 1.0, 0.0))])
def test_spo_gain_refuses_where_its_formula_ends(case):
    prob, advantage = (values(*numbers) for numbers in case)
    with refused("interior"):
        o.spo_gain(prob, advantage, eps=EPS)


# --- SPO against other solvers


@pytest.mark.parametrize("idle", [False, True])
@pytest.mark.parametrize("eps", [0.05, 0.2, 1.5])
def test_spo_optimum_against_every_active_set(eps, idle):
    prob, advantage = problems(seed=1)
    if idle:
        advantage[:, 2] = 0
    expected = _solvers.best_ratio(prob, advantage, advantage.abs() / eps)
    torch.testing.assert_close(o.spo_optimum(prob, advantage, eps=eps), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("other", [0.01, 0.3])
def test_no_other_policy_is_better_for_spo(other):
    prob, advantage = problems(seed=2)
    best = o.spo_optimum(prob, advantage, eps=EPS)
    somewhere, _ = problems(seed=3)
    ratio = (1 - other) * best + other * somewhere / prob

    def value(ratio):
        return (prob * objectives.spo_objective(ratio, advantage, eps=EPS)).sum(-1)

    assert bool((value(ratio) < value(best)).all())


def test_spo_optimum_with_advantages_of_very_different_sizes():
    prob, advantage = values(0.3, 0.3, 0.4), values(1e-9, -1.0, 1e3)
    ratio = o.spo_optimum(prob, advantage, eps=EPS)
    assert float((prob * ratio).sum()) == pytest.approx(1, abs=1e-12)
    close(ratio, 0.28 / 0.3, 1 - EPS, 1 + EPS, atol=1e-6)
    assert bool((ratio >= 0).all())


def test_spo_optimum_knows_no_scale():
    prob, advantage = problems(seed=4)
    torch.testing.assert_close(o.spo_optimum(prob, advantage, eps=EPS), o.spo_optimum(prob, 50 * advantage, eps=EPS))


def test_spo_never_moves_more_than_twice_its_bound():
    prob, advantage = problems(seed=5, count=5000)
    advantage = advantage**5
    moved = (prob * (o.spo_optimum(prob, advantage, eps=EPS) - 1).abs()).sum(-1)
    assert float(moved.max()) > 1.3 * EPS
    assert float(moved.max()) < 2 * EPS


# --- the constrained problem


@pytest.mark.parametrize(
    ("eps", "ratio"), [(0.2, (1.2, 1.0, 0.5)), (0.6, (1.6, 2 / 3, 0.0)), (1.0, (2.0, 0.0, 0.0)), (4.0, (2.0, 0.0, 0.0))]
)
def test_tv_constrained_optimum_by_hand(eps, ratio):
    prob, advantage = values(0.5, 0.3, 0.2), values(1.0, -0.5, -1.75)
    close(o.tv_constrained_optimum(prob, advantage, eps=eps), *ratio)


def test_tv_constrained_optimum_leaves_ties_alone():
    close(o.tv_constrained_optimum(values(0.5, 0.3, 0.2), values(1.0, 1.0, 1.0), eps=EPS), 1, 1, 1)
    close(o.tv_constrained_optimum(values(0.5, 0.3, 0.2), values(1.0, 1.0, 0.0), eps=1.0), 1.4, 1, 0)


@pytest.mark.parametrize("eps", [0.1, 0.5, 1.2])
def test_tv_constrained_optimum_against_every_corner(eps):
    prob, advantage = problems(seed=6, count=100)
    expected = _solvers.best_in_tv_ball(prob, advantage, eps)
    torch.testing.assert_close(prob * o.tv_constrained_optimum(prob, advantage, eps=eps), expected)


def test_its_gain_in_closed_form():
    prob, advantage = problems(seed=7)
    worst = prob.gather(-1, advantage.argmin(-1, keepdim=True)).squeeze(-1)
    gain = (prob * (o.tv_constrained_optimum(prob, advantage, eps=EPS) - 1) * advantage).sum(-1)
    simple = EPS / 2 * (advantage.amax(-1) - advantage.amin(-1))
    enough = worst >= EPS / 2
    assert 100 < int(enough.sum()) < 300
    torch.testing.assert_close(gain[enough], simple[enough])
    assert bool((gain[~enough] < simple[~enough]).all())


# --- links by hand


def test_links_by_hand():
    fair = values(0.5, 0.5)
    close(o.kl_new_old_link(fair, values(math.log(3), 0.0), step=1.0), 1.5, 0.5)
    close(o.kl_new_old_link(fair, values(math.log(3) / 2, 0.0), step=2.0), 1.5, 0.5)
    close(o.kl_old_new_link(fair, values(4 / 3, 0.0), step=1.0), 1.5, 0.5)
    close(o.chi2_link(fair, values(1.0, -1.0), step=0.5), 1.5, 0.5)
    close(o.chi2_link(fair, values(1.0, -1.0), step=2.0), 2, 0)
    close(o.mirror_descent(values(0.2, 0.8), values(math.log(4), 0.0), step=1.0), 0.5, 0.5)


@every_link
def test_links_know_no_level_and_scale_with_the_step(name):
    prob, advantage = problems(seed=8)
    ratio = LINKS[name](prob, advantage)
    torch.testing.assert_close(LINKS[name](prob, advantage + 7), ratio)
    link = LINKS[name].func
    torch.testing.assert_close(link(prob, advantage / 3, step=3 * 0.7), ratio)


@every_link
def test_links_agree_for_small_steps(name):
    prob, advantage = problems(seed=9)
    link = LINKS[name].func
    line = 1 + 1e-4 * (advantage - (prob * advantage).sum(-1, keepdim=True))
    torch.testing.assert_close(link(prob, advantage, step=1e-4), line, rtol=0, atol=1e-6)


@every_link
def test_links_at_large_steps_choose_the_best_action(name):
    prob, advantage = problems(seed=10)
    ratio = LINKS[name].func(prob, advantage, step=1e6)
    best = torch.nn.functional.one_hot(advantage.argmax(-1), 4).double()
    torch.testing.assert_close(prob * ratio, best, rtol=0, atol=2e-3)


@pytest.mark.parametrize(
    ("name", "price"),
    [
        ("kl_new_old", lambda prob, new: bounds.kl_divergence(new, prob)),
        ("kl_old_new", bounds.kl_divergence),
        ("chi2", lambda prob, new: ((new - prob) ** 2 / prob).sum(-1) / 2),
    ],
)
def test_no_other_policy_is_better_for_its_price(name, price):
    prob, advantage = problems(seed=11)
    somewhere, _ = problems(seed=12)

    def value(new):
        return (new * advantage).sum(-1) - price(prob, new) / 0.7

    best = prob * LINKS[name](prob, advantage)
    for other in (0.01, 0.3):
        assert bool((value((1 - other) * best + other * somewhere) < value(best)).all())


# --- all of them


@every_ratio
def test_ratios_belong_to_a_policy_and_follow_the_advantage(name):
    prob, advantage = problems(seed=13)
    ratio = RATIOS[name](prob, advantage)
    assert bool((ratio >= 0).all())
    torch.testing.assert_close((prob * ratio).sum(-1), torch.ones(300, dtype=torch.float64))
    gain = (prob * (ratio - 1) * advantage).sum(-1)
    assert bool((gain > 0).all())


@every_ratio
def test_draw_axes_and_order_of_actions_do_not_matter(name):
    prob, advantage = problems(seed=14, count=6)
    whole = RATIOS[name](prob, advantage)
    torch.testing.assert_close(RATIOS[name](prob.view(2, 3, 4), advantage.view(2, 3, 4)), whole.view(2, 3, 4))
    torch.testing.assert_close(RATIOS[name](prob[3], advantage[3]), whole[3])
    torch.testing.assert_close(RATIOS[name](prob.flip(-1), advantage.flip(-1)), whole.flip(-1))


@every_ratio
def test_single_precision_and_functorch(name):
    prob, advantage = problems(seed=15)
    whole = RATIOS[name](prob, advantage)
    torch.testing.assert_close(torch.func.vmap(RATIOS[name])(prob, advantage), whole)
    single = RATIOS[name]((prob + 0.05).float() / 1.2, advantage.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), RATIOS[name]((prob + 0.05) / 1.2, advantage), rtol=1e-3, atol=1e-4)


@every_ratio
def test_bad_input_is_refused(name):
    prob, advantage = values(0.5, 0.3, 0.2), values(1.0, -0.5, -1.75)
    for bad in (
        (prob[None], advantage),
        (prob, advantage[:, None]),
        (prob * 2, advantage),
        (values(0.6, 0.4, 0.0), advantage),
        (prob, advantage * math.nan),
        (prob, advantage.clone().requires_grad_()),
        (prob.clone().requires_grad_(), advantage),
        (prob.float(), advantage),
    ):
        with refused():
            RATIOS[name](*bad)


@every_ratio
@pytest.mark.parametrize("size", [0, -1, math.nan, "1"])
def test_sizes_that_are_not_positive_are_refused(name, size):
    (word,) = RATIOS[name].keywords
    with pytest.raises(ValueError, match=f"expected {word} .*got"):
        RATIOS[name].func(values(0.5, 0.5), values(1.0, 0.0), **{word: size})
