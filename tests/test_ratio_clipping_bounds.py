"""Chapter 2's bounds: values by hand, the worlds that attain them, what they certify, refusals."""

import math
from functools import partial

import pytest
import torch

from pocourse.ratio_clipping import bounds as b
from pocourse.worlds import bandit, tabular

GAMMA = 0.9


def values(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def refused(*words):
    return pytest.raises(ValueError, match=r"(?s)expected .*got .*" + ".*".join(words))


@pytest.fixture
def step():
    """Two states, two actions, everything by hand: mean advantages .3 and -.2, total variations .1 and .4."""
    return {
        "occupancy": values(0.75, 0.25),
        "policy": values([0.5, 0.5], [0.5, 0.5]),
        "new_policy": values([0.6, 0.4], [0.1, 0.9]),
        "advantage": values([1.5, -1.5], [0.25, -0.25]),
    }


def of(step, *names):
    return [step[name] for name in names]


ALL = ("occupancy", "policy", "new_policy", "advantage")
MIXTURE = ("new_policy", "advantage")
FUNCTIONS = {
    "surrogate_gain": (b.surrogate_gain, ("occupancy", *MIXTURE)),
    "average_tv_penalty": (b.average_tv_penalty, ALL),
    "centred_penalty": (b.centred_penalty, ALL),
    "trpo_penalty": (b.trpo_penalty, ALL[1:]),
    "certified_mixture": (b.certified_mixture, ALL),
    "cpi_quoted_penalty": (partial(b.cpi_quoted_penalty, values(0.5)[0]), MIXTURE),
    "cpi_sharp_penalty": (partial(b.cpi_sharp_penalty, values(0.5)[0]), MIXTURE),
}
every_function = pytest.mark.parametrize("name", FUNCTIONS)


# --- values by hand


def test_total_variation():
    assert float(b.total_variation(values(0.5, 0.5, 0.0), values(0.3, 0.3, 0.4))) == pytest.approx(0.4)
    assert float(b.total_variation(values(1.0, 0.0), values(0.0, 1.0))) == 1


def test_kl_divergence_has_a_direction():
    first, second = values(0.5, 0.5), values(0.9, 0.1)
    assert float(b.kl_divergence(first, second)) == pytest.approx(0.5 * math.log(0.25 / 0.09))
    assert float(b.kl_divergence(second, first)) == pytest.approx(0.9 * math.log(1.8) + 0.1 * math.log(0.2))


def test_kl_divergence_where_an_action_is_missing():
    sure, fair = values(1.0, 0.0), values(0.5, 0.5)
    assert float(b.kl_divergence(sure, fair)) == pytest.approx(math.log(2))
    assert float(b.kl_divergence(fair, sure)) == math.inf


@pytest.mark.parametrize(("q", "kl"), [(1e-1, 0.176), (1e-3, 1.504), (1e-6, 3.576), (1e-12, 7.720)])
def test_the_divergence_grows_while_the_sampled_ratio_stays(q, kl):
    old, new = values(0.4, 0.3, 0.3), values(0.4, 0.6 - q, q)
    assert float(b.kl_divergence(old, new)) == pytest.approx(kl, abs=6e-4)
    assert float(b.kl_divergence(new, old)) < 0.42
    assert float(b.total_variation(old, new)) <= 0.3


def test_expected_advantage_and_gain(step):
    torch.testing.assert_close(b.expected_advantage(*of(step, *MIXTURE)), values(0.3, -0.2))
    gain = b.surrogate_gain(*of(step, "occupancy", *MIXTURE), gamma=GAMMA)
    assert float(gain) == pytest.approx((0.75 * 0.3 - 0.25 * 0.2) / 0.1)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("average_tv_penalty", 2 * 0.3 * 90 * (0.75 * 0.1 + 0.25 * 0.4)),
        ("centred_penalty", 0.5 * 90 * (0.75 * 0.1 + 0.25 * 0.4)),
        ("trpo_penalty", 4 * 1.5 * 90 * 0.4**2),
        ("cpi_quoted_penalty", 2 * 0.3 * 90 * 0.25),
        ("cpi_sharp_penalty", 2 * 0.3 * 0.9 * 0.25 / (0.1 * 0.55)),
        ("certified_mixture", 0.175 * 0.1 / (2 * 0.3 * 0.9 * 0.175)),
    ],
)
def test_penalties_by_hand(step, name, expected):
    function, names = FUNCTIONS[name]
    assert float(function(*of(step, *names), gamma=GAMMA)) == pytest.approx(expected)


@every_function
def test_draw_axes_are_independent(step, name):
    function, names = FUNCTIONS[name]
    alone = function(*of(step, *names), gamma=GAMMA)
    if name.startswith("cpi"):
        function = partial(function.func, torch.full((2, 3), 0.5, dtype=torch.float64))
    many = function(*(x.expand(2, 3, *x.shape) for x in of(step, *names)), gamma=GAMMA)
    torch.testing.assert_close(many, alone.expand(2, 3))


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in ("surrogate_gain", "certified_mixture")])
def test_without_a_future_there_is_nothing_to_pay(step, name):
    function, names = FUNCTIONS[name]
    assert float(function(*of(step, *names), gamma=0.0)) == 0


# --- the world that attains


@pytest.mark.parametrize("gamma", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("weight", [0.01, 0.3, 1.0])
def test_two_states_attain_the_sharp_mixture_bound(gamma, weight):
    mdp = tabular.two_state_mdp(gain=1.0, loss=1.0, gamma=gamma)
    old = values([1.0, 0.0], [1.0, 0.0])
    new = (1 - weight) * old + weight * (1 - old)
    advantage = tabular.advantages(mdp, old)
    promised = b.surrogate_gain(tabular.occupancy(mdp, old), new, advantage, gamma=gamma)
    gap = promised - (tabular.performance(mdp, new) - tabular.performance(mdp, old))
    sharp = b.cpi_sharp_penalty(torch.tensor(weight, dtype=torch.float64), 1 - old, advantage, gamma=gamma)
    assert float(gap / sharp) == pytest.approx(1, abs=1e-10)


# --- what is certified


def test_certified_mixtures_are_better_and_tiny_at_a_long_horizon():
    generator = torch.Generator().manual_seed(0)
    mdp = tabular.random_mdp(num_states=4, num_actions=3, gamma=0.99, batch=(400,), generator=generator)
    old = bandit.random_policy((400, 4, 3), generator=generator)
    advantage, occupancy = tabular.advantages(mdp, old), tabular.occupancy(mdp, old)
    greedy = torch.nn.functional.one_hot(advantage.argmax(-1), 3).double()
    weight = b.certified_mixture(occupancy, old, greedy, advantage, gamma=0.99)
    assert 0.003 < float(weight.median()) < 0.007
    for share in (0.1, 0.5, 0.999):
        part = (share * weight)[:, None, None]
        new = (1 - part) * old + part * greedy
        assert bool((tabular.performance(mdp, new) >= tabular.performance(mdp, old)).all())
        gain = b.surrogate_gain(occupancy, new, advantage, gamma=0.99)
        penalty = b.average_tv_penalty(occupancy, old, new, advantage, gamma=0.99)
        torch.testing.assert_close(penalty, share * gain, rtol=1e-9, atol=1e-12)


def test_nothing_is_certified_without_a_gain(step):
    arguments = of(step, *ALL)
    assert float(b.certified_mixture(*arguments[:3], -arguments[3], gamma=GAMMA)) == 0
    arguments[2] = arguments[1]
    assert float(b.certified_mixture(*arguments, gamma=GAMMA)) == 0


def test_everything_is_certified_without_a_future(step):
    assert float(b.certified_mixture(*of(step, *ALL), gamma=0.0)) == 1


# --- gradients and refusals


def test_gradient_passes_through_the_new_policy(step):
    logits = step["new_policy"].log().requires_grad_()
    for name in ("surrogate_gain", "average_tv_penalty", "centred_penalty", "trpo_penalty"):
        function, names = FUNCTIONS[name]
        step["new_policy"] = logits.softmax(-1)
        (gradient,) = torch.autograd.grad(function(*of(step, *names), gamma=GAMMA), logits)
        assert bool(gradient.isfinite().all()) and bool((gradient != 0).any())


@every_function
@pytest.mark.parametrize("gamma", [1.0, -0.1, math.nan, "0.9"])
def test_gamma_outside_is_refused(step, name, gamma):
    function, names = FUNCTIONS[name]
    with refused():
        function(*of(step, *names), gamma=gamma)


@every_function
def test_bad_tensors_are_refused(step, name):
    function, names = FUNCTIONS[name]
    good = of(step, *names)
    for place, which in enumerate(names):
        bad = [good[place][..., None], good[place] * math.nan, good[place].float()]
        if which != "advantage":
            bad.append(2 * good[place])
        if which in ("advantage", "occupancy"):
            bad.append(good[place].clone().requires_grad_())
        for tensor in bad:
            with refused():
                function(*good[:place], tensor, *good[place + 1 :], gamma=GAMMA)


@pytest.mark.parametrize("penalty", [b.cpi_quoted_penalty, b.cpi_sharp_penalty])
@pytest.mark.parametrize("weight", [values(0.5), values(1.5)[0], values(-0.5)[0], 0.5, values(math.nan)[0]])
def test_mixture_weights_outside_are_refused(step, penalty, weight):
    with refused():
        penalty(weight, *of(step, *MIXTURE), gamma=GAMMA)


@pytest.mark.parametrize("distance", [b.total_variation, b.kl_divergence])
def test_distances_refuse_what_is_no_distribution(distance):
    good = values(0.5, 0.5)
    for bad in (values(0.5, 0.6), values(-0.5, 1.5), good[None], good * math.nan, good.float()):
        with refused():
            distance(good, bad)
