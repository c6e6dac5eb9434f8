"""pocourse.surrogate_variance.bounds: by hand, against sums written out and draws, and refusals."""

import itertools
import math

import pytest
import torch

from pocourse.ratio_clipping.optima import mirror_descent
from pocourse.surrogate_variance import bounds as b
from pocourse.worlds import random_policy

EXACT = {"rtol": 1e-12, "atol": 1e-13}


def values(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def instance(count=300, actions=5, seed=0):
    """Old policy, ratio of a new one, advantage: [count, actions] each."""
    g = generator(seed)
    old, new = (random_policy((count, actions), generator=g) for _ in range(2))
    return old, new / old, torch.randn(count, actions, generator=g, dtype=torch.float64)


# --- variance and bound


def test_variance_by_hand():
    # x = 2, -1, 0 with probabilities .25, .5, .25: mean 0, E x^2 = 1 + .5.
    found = b.surrogate_variance(values(0.25, 0.5, 0.25), values(2, 1, 1), values(1, -1, 0))
    assert float(found) == pytest.approx(1.5, abs=1e-15)


def test_variance_is_the_mean_square_less_the_squared_mean():
    old, ratio, advantage = instance()
    x = ratio * advantage
    expected = (old * x**2).sum(-1) - (old * x).sum(-1) ** 2
    torch.testing.assert_close(b.surrogate_variance(old, ratio, advantage), expected, rtol=1e-9, atol=1e-12)


def test_variance_does_not_cancel():
    shifted = values(1e8, 1e8 + 1)
    assert float(b.surrogate_variance(values(0.5, 0.5), values(1, 1), shifted)) == 0.25


def test_variance_is_that_of_samples():
    old, ratio, advantage = (x[0] for x in instance(seed=3))
    drawn = torch.multinomial(old, 200_000, replacement=True, generator=generator(1))
    x = (ratio * advantage)[drawn]
    squared = (x - (old * ratio * advantage).sum()) ** 2
    error = squared.std() / math.sqrt(len(squared))
    assert abs(float(squared.mean() - b.surrogate_variance(old, ratio, advantage))) < 4 * float(error)


def test_bound_by_hand():
    found = b.variance_bound(values(0.1, 0.4, 0.5), values(2, 1, 0.5), values(1, 1, 0))
    assert float(found) == pytest.approx(9 * 0.6**2, abs=1e-14)


@pytest.mark.parametrize("sign", [1, -1])
def test_bound_holds_and_is_attained_by_one_least_likely_action(sign):
    old, ratio, advantage = instance(3000)
    advantage = sign * advantage.abs()
    variance, bound = b.surrogate_variance(old, ratio, advantage), b.variance_bound(old, ratio, advantage)
    assert bool((variance <= bound * (1 + 1e-12)).all())
    least = torch.nn.functional.one_hot(old.argmin(-1), 5).double()
    alone = (old, ratio, sign * least)
    torch.testing.assert_close(b.surrogate_variance(*alone), b.variance_bound(*alone), **EXACT)


def test_bound_is_of_each_row_by_itself():
    old, ratio, advantage = instance(2)
    advantage = advantage.abs() * values(1, -1).unsqueeze(1)
    assert b.variance_bound(old, ratio, advantage).shape == (2,)


def test_bound_refuses_both_signs():
    with pytest.raises(ValueError, match=r"expected advantage of one sign.*got both signs in 1 of 1 rows.*Split"):
        b.variance_bound(values(0.5, 0.5), values(1, 1), values(1, -1))


# --- a sign class


def test_class_by_hand():
    # Class of actions 0 and 2: q = .25, .75; x = 2, 4; mean 3.5, variance .75.
    member = torch.tensor([True, False, True])
    found = b.sign_class(values(0.1, 0.6, 0.3), values(2, 1, 1), values(1, -5, 4), member)
    expected = values(0.4, 3.5, 0.75, 0.25)
    torch.testing.assert_close(torch.stack(found), expected, **EXACT)
    assert float(found.bound) == pytest.approx(3 * 3.5**2, abs=1e-12)


@pytest.mark.parametrize("positive", [True, False])
def test_class_is_the_world_of_its_actions_alone(positive):
    old, ratio, advantage = instance(200)
    member = (advantage >= 0) == positive
    found = b.sign_class(old, ratio, advantage, member)
    for row in range(200):
        here = member[row]
        if not here.any():
            assert [float(field[row]) for field in found] == [0, 0, 0, 1]
            assert float(found.bound[row]) == 0
            continue
        q = old[row, here] / old[row, here].sum()
        alone = q, ratio[row, here], advantage[row, here]
        expected = torch.stack(
            [old[row, here].sum(), (q * alone[1] * alone[2]).sum(), b.surrogate_variance(*alone), q.min()]
        )
        torch.testing.assert_close(torch.stack([field[row] for field in found]), expected, **EXACT)
        torch.testing.assert_close(found.bound[row], b.variance_bound(*alone), **EXACT)


def test_the_classes_make_up_the_whole():
    old, ratio, advantage = instance()
    classes = [b.sign_class(old, ratio, advantage, advantage >= 0), b.sign_class(old, ratio, advantage, advantage < 0)]
    torch.testing.assert_close(sum(c.prob for c in classes), torch.ones(300, dtype=torch.float64), **EXACT)
    mean = sum(c.prob * c.mean for c in classes)
    torch.testing.assert_close(mean, (old * ratio * advantage).sum(-1), **EXACT)
    total = sum(c.prob * (c.variance + (c.mean - mean) ** 2) for c in classes)
    torch.testing.assert_close(total, b.surrogate_variance(old, ratio, advantage), rtol=1e-10, atol=1e-12)


# --- over states


def joint(seed=0, draws=200, states=4):
    g = generator(seed)
    state = random_policy((draws, states), generator=g)
    old, new = (random_policy((draws, states, 3), generator=g) for _ in range(2))
    return state, old, new / old, torch.randn(draws, states, 3, generator=g, dtype=torch.float64)


@pytest.mark.parametrize("positive", [True, False])
def test_state_variance_is_the_variance_over_state_and_action(positive):
    state, old, ratio, advantage = joint()
    member = (advantage >= 0) == positive
    found = b.state_class_variance(state, b.sign_class(old, ratio, advantage, member))
    weight = (state.unsqueeze(-1) * old * member).flatten(1)
    weight = weight / weight.sum(-1, keepdim=True)
    x = (ratio * advantage).flatten(1)
    expected = (weight * x**2).sum(-1) - (weight * x).sum(-1) ** 2
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("positive", [True, False])
def test_state_bound_holds_and_needs_the_spread_of_the_means(positive):
    state, old, ratio, advantage = joint(draws=3000)
    found = b.sign_class(old, ratio, advantage, (advantage >= 0) == positive)
    variance, bound = b.state_class_variance(state, found), b.state_class_bound(state, found)
    assert bool((variance <= bound * (1 + 1e-12)).all())
    weight = state * found.prob / (state * found.prob).sum(-1, keepdim=True)
    assert bool((variance > (weight * found.bound).sum(-1)).any())


def test_a_class_that_no_state_has_gives_zero():
    state, old, ratio, advantage = joint()
    found = b.sign_class(old, ratio, advantage, torch.zeros_like(advantage, dtype=torch.bool))
    assert float(b.state_class_variance(state, found).abs().max()) == 0
    assert float(b.state_class_bound(state, found).abs().max()) == 0


# --- ratio, tilt, control variate


def test_chi_square_and_sample_size_by_hand():
    old, ratio = values(0.5, 0.5), values(1.6, 0.4)
    assert float(b.chi_square(old, ratio)) == pytest.approx(0.36, abs=1e-15)
    assert float(b.effective_sample_size(old, ratio)) == pytest.approx(1 / 1.36, abs=1e-15)


@pytest.mark.parametrize("step", [-1.0, 1e-3, 0.1, 1.0, 3.0])
def test_tilt_in_closed_form(step):
    old, _, advantage = instance()
    tilted = mirror_descent(old, step and advantage * math.copysign(1, step), step=abs(step))
    found = b.tilted_chi_square(old, advantage, step=step)
    torch.testing.assert_close(found, b.chi_square(old, tilted / old), rtol=1e-9, atol=1e-14)


def test_control_coefficient_leaves_the_least_variance():
    old, ratio, advantage = instance()
    c = b.control_coefficient(old, ratio, advantage).unsqueeze(-1)

    def left(coefficient):
        x = ratio * advantage - coefficient * (ratio - 1)
        mean = (old * x).sum(-1, keepdim=True)
        torch.testing.assert_close(mean, (old * ratio * advantage).sum(-1, keepdim=True), **EXACT)
        return (old * (x - mean) ** 2).sum(-1)

    assert all(bool((left(c) < left(c + d)).all()) for d in (-0.1, 0.1))
    assert bool((left(c) <= b.surrogate_variance(old, ratio, advantage) * (1 + 1e-12)).all())


def test_a_ratio_of_one_leaves_nothing_to_control():
    old, ratio, advantage = instance()
    assert float(b.control_coefficient(old, torch.ones_like(ratio), advantage).abs().max()) == 0


# --- sampling error, baselines


@pytest.mark.parametrize("num_samples", [1, 2, 4])
def test_sampling_error_is_the_mean_over_all_sequences(num_samples):
    policy = values(0.5, 0.3, 0.2)
    total = 0.0
    for drawn in itertools.product(range(3), repeat=num_samples):
        frequency = torch.bincount(torch.tensor(drawn), minlength=3).double() / num_samples
        chance = math.prod(float(policy[a]) for a in drawn)
        total += chance * float(torch.xlogy(frequency, frequency / policy).sum())
    assert float(b.expected_sampling_error(policy, num_samples=num_samples)) == pytest.approx(total, abs=1e-14)


@pytest.mark.parametrize(("num_samples", "expected"), [(10, 0.1123), (50, 0.02033), (200, 0.0050198)])
def test_sampling_error_near_its_leading_term(num_samples, expected):
    found = float(b.expected_sampling_error(values(0.5, 0.3, 0.2), num_samples=num_samples))
    assert found == pytest.approx(expected, rel=1e-3)


def test_baseline_variance_by_hand():
    # Two arms, p = .5, rewards 1 and 0, no baseline: g = (.5, -.5) or 0; mean (.25, -.25); trace .125.
    found = b.baseline_variance(values(0.5, 0.5), values(1, 0), values(0).squeeze())
    assert float(found) == pytest.approx(0.125, abs=1e-15)


def test_the_greedy_baseline_changes_the_variance_as_its_formula_says():
    g = generator(4)
    p = torch.rand(500, generator=g, dtype=torch.float64)
    reward = torch.randn(500, 2, generator=g, dtype=torch.float64)
    policy = torch.stack((p, 1 - p), -1)
    greedy, none = reward[:, 0], torch.zeros(500, dtype=torch.float64)
    change = b.baseline_variance(policy, reward, greedy) - b.baseline_variance(policy, reward, none)
    expected = 2 * p * (1 - p) * greedy * (2 * p * (greedy - reward[:, 1]) - greedy)
    torch.testing.assert_close(change, expected, **EXACT)


# --- refusals

OLD, RATIO, ADVANTAGE = values(0.25, 0.75), values(2, 2 / 3), values(1, 0.5)
MEMBER = torch.tensor([True, False])
FUNCTIONS = {
    "surrogate_variance": lambda p, r, a: b.surrogate_variance(p, r, a),
    "variance_bound": lambda p, r, a: b.variance_bound(p, r, a),
    "sign_class": lambda p, r, a: b.sign_class(p, r, a, MEMBER),
    "control_coefficient": lambda p, r, a: b.control_coefficient(p, r, a),
    "chi_square": lambda p, r, a: b.chi_square(p, r),
    "effective_sample_size": lambda p, r, a: b.effective_sample_size(p, r),
}
BAD = {
    "does not sum to one": ((values(0.25, 0.7), RATIO, ADVANTAGE), "sum to 1"),
    "negative probability": ((values(-0.25, 1.25), RATIO, ADVANTAGE), "negative entries"),
    "an action never drawn": ((values(0, 1), RATIO, ADVANTAGE), "never draws"),
    "negative ratio": ((OLD, values(-0.1, 1), ADVANTAGE), "ratio"),
    "NaN": ((OLD, values(math.nan, 1), ADVANTAGE), "NaN"),
    "broadcast": ((OLD, RATIO[:, None], ADVANTAGE), "broadcast"),
    "dtype": ((OLD, RATIO.float(), ADVANTAGE), "dtype"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_bad_input_is_refused(name, case):
    given, word = BAD[case]
    with pytest.raises(ValueError, match=rf"(?s)expected (.*got .*{word}|.*{word}.*got )"):
        FUNCTIONS[name](*given)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_good_input_passes(name):
    FUNCTIONS[name](OLD, RATIO, ADVANTAGE)


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: b.sign_class(OLD, RATIO, ADVANTAGE, MEMBER.double()), "bool"),
        (lambda: b.tilted_chi_square(OLD, ADVANTAGE, step=math.inf), "step"),
        (lambda: b.tilted_chi_square(values(0, 1), ADVANTAGE, step=1.0), "never draws"),
        (lambda: b.expected_sampling_error(OLD, num_samples=0), "num_samples"),
        (lambda: b.expected_sampling_error(values(0, 1), num_samples=2), "never draws"),
        (lambda: b.baseline_variance(OLD, ADVANTAGE, values(0)), "baseline"),
        (
            lambda: b.state_class_variance(
                OLD, b.sign_class(*(x.expand(3, 2) for x in (OLD, RATIO, ADVANTAGE, MEMBER)))
            ),
            "shape",
        ),
    ],
)
def test_what_else_is_refused(call, word):
    with pytest.raises(ValueError, match=rf"(?s)expected .*{word}"):
        call()


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: b.effective_sample_size(OLD, values(0, 0)), "mean_ratio"),
        (lambda: b.effective_sample_size(OLD, values(math.inf, 0)), "ratio"),
        (lambda: b.surrogate_variance(OLD, values(math.inf, 1), ADVANTAGE), "ratio"),
        (lambda: b.surrogate_variance(OLD, RATIO, values(math.inf, 1)), "advantage"),
    ],
)
def test_what_is_not_finite_is_refused(call, word):
    with pytest.raises(ValueError, match=rf"(?s)expected every entry of {word}"):
        call()
