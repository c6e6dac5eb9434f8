"""The exercises of chapter 4: what their properties kill, what they let through, and what they say."""

import inspect
import math
import re
import time

import numpy as np
import pytest
import torch
from helpers import verdict_on

import pocourse.zeroth_order.exercises  # noqa: F401 (registers them)
from pocourse.lesson import cards, exercises
from pocourse.zeroth_order import estimators

RLOO, ANTITHETIC, REUSE, RANKS = IDS = [
    f"zeroth_order.{name}" for name in ("rloo", "antithetic", "reuse", "rank_weights")
]

# Which properties kill which wrong answer, the properties in their order: x kills, . does not.
KILLS = {
    RLOO: {
        "own_value_kept_in": ".xx......x",
        "no_baseline": ".xxxxx....",
        "corrected_twice": ".xx......x",
        "sum_of_all_over_k_minus_one": ".xxxxx...x",
        "sum_for_mean": ".xx......x",
        "value_itself_times_k_minus_one": "..x......x",
        "mean_over_the_problems": "x........x",
        "one_mean_for_all_problems": "x........x",
        "only_the_first_problem": "x........x",
        "last_direction_forgotten": ".xx.....xx",
        "first_value_for_the_centre": ".xx.....x.",
        "the_next_value_only": "..x.....x.",
        "median_of_the_others": "..x....x..",
        "sigma_forgotten": ".xx...x..x",
        "sigma_squared": ".xx...x..x",
        "sigma_above": ".xx...x..x",
        "two_sigma": ".xx......x",
        "sign_turned": ".xx......x",
        "values_normalised": ".xxx.x.x.x",
        "directions_normalised": ".xx..x...x",
        "only_the_better_half": ".xx....x.x",
        "never_summed": "xxxxxxxxxx",
        "coordinates_summed": "xxxxxxxxxx",
        "single_precision_inside": ".....x....",
    },
    ANTITHETIC: {
        "value_at_the_centre": "..xx.x...",
        "the_mirrored_value": ".xx.xxx..",
        "half_of_the_difference": ".xxxxxxx.",
        "sum_of_both": "..xxxx.x.",
        "mean_of_the_plus_side": "xxxxxx...",
        "mean_over_all_pairs": "x.xx.x...",
        "others_on_the_plus_side": "xxxxxxx..",
        "its_own_value": ".xx.xxx..",
        "no_baseline": "..xxxx.x.",
        "sigma_forgotten": "..xx.x...",
        "sigma_squared": "..xx.x...",
        "mirrored_at_the_origin": ".xxxxxx..",
        "theta_forgotten": "..xxxx...",
        "smaller_of_the_two": "..x.xx..x",
        "larger_of_the_two": "..x.xx..x",
        "root_mean_square": "..x.xx.xx",
        "centre_counted_as_well": "..xx.x...",
        "slope_returned": ".xxxxxxx.",
        "estimate_returned": "xxxxxxxxx",
        "mean_over_the_problems": "x........",
    },
    REUSE: {
        "pooled_mean": "..xx.xx.x....",
        "pooled_mean_over_all": ".xxx.xx.....x",
        "pooled_mean_own_divisors": "..xx.xx.....x",
        "divided_by_all": ".xx.........x",
        "one_less_for_all": "..x...x.x...x",
        "newest_only": "..x...xx.....",
        "summed_over_the_iterations": "..x...x.x...x",
        "whole_buffer": ".........x...",
        "empty_places_averaged": ".........x...",
        "empty_places_summed": ".........x...",
        "newest_mean_for_all": "..xx.xxx....x",
        "mean_over_the_iterations": ".xxx.xx.....x",
        "no_baseline": ".xxxxx.......",
        "fading_memory": "..x...xx.....",
        "averaged_first": "..x...x.....x",
        "one_mean_for_all_problems": "x...........x",
        "sigma_forgotten": ".xx.......x.x",
        "sign_turned": ".xx.........x",
        "one_iteration_dropped": "..x...xx.....",
        "iterations_normalised": ".xx.xx.....xx",
        "iterations_kept_apart": "xxxxxxxxxxxxx",
        "single_precision_inside": "....x........",
    },
    RANKS: {
        "one_too_many": ".xxxxxxx...",
        "ranks_from_one": ".xxxxxxx...",
        "others_weigh_nothing": ".xxx.xxx...",
        "only_the_named_compared": ".xxx.x.x...",
        "sign_turned": ".xxxx..x...",
        "largest_is_best": ".xxxx..x.x.",
        "argsort_for_ranks": "..xxx..x.xx",
        "weights_in_order_of_rank": ".xxxx..x..x",
        "everything_ranked": "..xx...x.x.",
        "divided_by_all_pairs": "..xx...x...",
        "each_pair_counted_twice": ".xx.xx.x...",
        "pairs_with_the_others_only": "..x.xx.x...",
        "never_divided": "..xxx..x...",
        "divided_by_the_points": ".xxxx..x...",
        "the_k_all_alike": ".xx.xx.x...",
        "order_of_the_k_forgotten": ".xx.xxxx...",
        "others_weigh_one": "..x..xxx...",
        "one_more_named": "..xx..xx.x.",
        "one_ranking_for_all_problems": "x..........",
        "sorted_along_the_last_axis": "x..........",
        "differences_of_values": ".xxxx..xxx.",
        "whole_numbers": "..xxx.xx...",
    },
}


def test_the_exercises_come_in_the_order_of_the_chapter():
    mine = [exercises.find(id) for id in exercises.registry() if id in IDS]
    assert [found.id for found in mine] == IDS
    assert [found.section for found in mine] == ["2", "2", "6", "7"]


@pytest.fixture(scope="module")
def matrices():
    return {id: exercises.matrix(id) for id in IDS}


# ---------------------------------------------------------------- the properties, judged


@pytest.mark.parametrize("id", IDS)
def test_every_wrong_answer_dies_every_right_one_lives_and_no_property_is_idle(matrices, id):
    matrix = matrices[id]
    assert matrix.complete, str(matrix)
    assert len(matrix.properties) >= 6 and len(matrix.kills) >= 6
    assert len(matrix.accepted) >= 4  # the solution is one of them


@pytest.mark.parametrize("id", IDS)
def test_which_property_kills_which_wrong_answer(matrices, id):
    matrix = matrices[id]
    marks = {
        name: "".join("x" if property in killers else "." for property in matrix.properties)
        for name, killers in matrix.kills.items()
    }
    assert marks == KILLS[id]


@pytest.mark.parametrize("id", IDS)
def test_a_registered_slip_is_recognised_as_itself(id):
    found = exercises.find(id)
    for mutant in found.mutants:
        verdict = verdict_on(id, mutant.name)
        assert verdict.state == "wrong"
        if not verdict.message:  # what could not be judged has a message in place of a slip
            assert verdict.slip is mutant


@pytest.mark.parametrize("id", IDS)
def test_what_is_right_on_all_probes_is_taken_for_no_slip(id):
    found = exercises.find(id)
    assert exercises._same_as(found, exercises.solved(found)) is None


@pytest.mark.parametrize("id", IDS)
def test_every_message_holds_a_number_and_ends_as_a_sentence(id):
    found = exercises.find(id)
    for mutant in found.mutants:
        verdict = verdict_on(id, mutant.name)
        said = [verdict.message] if verdict.message else [r.message for r in verdict.results if not r.held]
        assert said
        for message in said:
            assert any(c.isdigit() for c in message)
            assert message.endswith((".", "?"))
            assert not re.search(r"e[-−+]\d", message) and "Traceback" not in message
            assert "could not be judged" not in message
            assert with_a_capital(message)


def with_a_capital(text):
    """Whether a sentence can begin with it: σ would become Σ, and f become F, which is another function."""
    return text[:1] == text[:1].upper() or re.match(r"[a-z]{2,}[ ,]", text)


@pytest.mark.parametrize("id", IDS)
def test_the_solution_is_right_and_quickly_judged(id):
    begun = time.perf_counter()
    verdict = exercises.judge(id, exercises.solved(exercises.find(id)))
    assert verdict.right
    assert time.perf_counter() - begun < 1


def solved():
    return [exercises.solved(exercises.find(id)) for id in IDS]


def cloud(*shape, seed=3):
    """Values on levels of their own, and directions."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(shape, generator=generator, dtype=torch.float64)
    return 5 + 2 * values, torch.randn(*shape, 3, generator=generator, dtype=torch.float64)


def test_the_solutions_agree_with_the_functions_of_the_package():
    rloo, baseline, reuse, ranks = solved()
    values, directions = cloud(5, 4)
    wanted = estimators.rloo_gradient(values, directions, sigma=0.3)
    torch.testing.assert_close(rloo(values, directions, 0.3), wanted)
    torch.testing.assert_close(reuse(values[None], directions[None], 1, 0.3), wanted)

    def f(x):
        return x.sin().sum(-1) + x.prod(-1)

    theta = directions[0]
    plus, minus = f(theta + 0.3 * directions), f(theta - 0.3 * directions)
    b = baseline(f, theta, directions, 0.3)
    found = estimators.reinforce_gradient(plus - b, directions, sigma=0.3, baseline=0.0)
    torch.testing.assert_close(found, estimators.antithetic_gradient(plus, minus, directions, sigma=0.3))

    values, directions = cloud(3, 5, 4)
    each = [estimators.rloo_gradient(y, u, sigma=0.3) for y, u in zip(values, directions, strict=True)]
    for filled in (1, 2, 3):
        wanted = torch.stack(each[:filled]).mean(0)
        torch.testing.assert_close(reuse(values, directions, filled, 0.3), wanted)

    values, _ = cloud(7, 4)
    torch.testing.assert_close(ranks(values, 7), 4 / 7 * estimators.centred_ranks(values))


@pytest.mark.parametrize("k", range(1, 8))
def test_the_weights_of_a_ranking_are_the_mean_over_its_pairs(k):
    values, directions = cloud(7, 4)
    found = estimators.weighted_gradient(solved()[3](values, k), directions, sigma=1.0)
    for one in range(4):
        order = values[:, one].argsort().tolist()
        steps = [
            directions[order[worse], one] - directions[order[better], one]
            for better in range(k)
            for worse in range(better + 1, 7)
        ]
        assert len(steps) == k * (k - 1) / 2 + k * (7 - k)
        torch.testing.assert_close(found[one], torch.stack(steps).mean(0))


def spoils_values(values, directions, sigma):
    return values.mul_(0)


def spoils_theta(f, theta, directions, sigma):
    return f(theta.mul_(0))


def spoils_the_buffer(values, directions, filled, sigma):
    directions[filled:] = 0
    return exercises.solved(exercises.find(REUSE))(values, directions, filled, sigma)


def sorts_in_place(values, k):
    values.copy_(values.sort(0).values)
    return values


@pytest.mark.parametrize(
    ("id", "run"),
    list(zip(IDS, (spoils_values, spoils_theta, spoils_the_buffer, sorts_in_place), strict=True)),
)
def test_an_answer_that_spoils_its_inputs_does_no_harm_to_the_next(id, run):
    verdict = exercises.judge(id, run)
    assert verdict.state == "wrong" and "changes its input" in verdict.message
    assert exercises.judge(id, exercises.solved(exercises.find(id))).right


# ---------------------------------------------------------------- what is said afterwards


def mutant(id, name):
    return next(m.run for m in exercises.find(id).mutants if m.name == name)


@pytest.mark.parametrize("count", [2, 3, 10])
def test_the_mean_of_all_values_makes_the_estimate_shorter(count):
    values, directions = cloud(count, 4)
    shorter = mutant(RLOO, "own_value_kept_in")(values, directions, 0.3)
    torch.testing.assert_close(shorter, (1 - 1 / count) * solved()[0](values, directions, 0.3))


def test_leave_one_out_is_the_sample_covariance():
    values, directions = cloud(6)
    covariance = torch.cov(torch.cat((directions, values[:, None]), 1).T)[:3, 3]
    torch.testing.assert_close(solved()[0](values, directions, 0.3), covariance / 0.3)


def test_other_even_baselines_are_without_bias_and_leave_curvature_in():
    # All 81 directions of a grid that is its own mirror image, in the place of a Gaussian.
    grid = torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)] * 4)
    theta = torch.tensor([0.2, -0.4, 0.1, 0.3], dtype=torch.float64)

    def f(x):
        return 3 + x[..., 0] - x[..., 3] + (x**2).sum(-1) + 2 * x[..., 1] * x[..., 2]

    scatter, mean = {}, {}
    for name in ("no_baseline", "value_at_the_centre", "smaller_of_the_two", None):
        b = (mutant(ANTITHETIC, name) if name else solved()[1])(f, theta, grid, 0.5)
        terms = (f(theta + 0.5 * grid) - b)[:, None] * grid / 0.5
        mean[name], scatter[name] = terms.mean(0), terms.var(0).sum()
    for name in mean:
        torch.testing.assert_close(mean[name], mean[None])
    assert scatter["no_baseline"] > scatter["value_at_the_centre"] > scatter[None]
    assert scatter["smaller_of_the_two"] > scatter[None]


@pytest.mark.parametrize(("iterations", "count"), [(2, 2), (3, 2), (2, 3)])
def test_while_theta_stands_still_the_pooled_mean_costs_less(iterations, count):
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * (2 * iterations * count))
    directions = signs.reshape(-1, iterations, count, 2).movedim(0, 2)
    x = 0.5 * directions
    values = 3 + 2 * x[..., 0] - x[..., 1] + 4 * x.prod(-1)  # on average 3

    def scatter(gradient):
        return gradient.var(0, correction=0).sum()

    own = scatter(solved()[2](values, directions, iterations, 0.5))
    pooled = scatter(mutant(REUSE, "pooled_mean")(values, directions, iterations, 0.5))
    known = scatter(mutant(REUSE, "no_baseline")(values - 3, directions, iterations, 0.5))
    factor = (iterations * count - 1) / (count - 1)
    assert pooled > known and ((own - known) / (pooled - known)).item() == pytest.approx(factor)


def test_whoever_ranks_all_but_one_ranks_all_and_one_too_many_lets_in_what_all_directions_share():
    ranks, (values, directions) = solved()[3], cloud(7, 4)
    torch.testing.assert_close(ranks(values, 6), ranks(values, 7))
    wrong = mutant(RANKS, "one_too_many")(values, 7)
    left = estimators.weighted_gradient(wrong - ranks(values, 7), directions, sigma=1.0)
    torch.testing.assert_close(left, -directions.mean(0) * 7 / 21)
    common = torch.ones_like(directions)
    torch.testing.assert_close(estimators.weighted_gradient(ranks(values, 3), common, sigma=1.0), 0 * common[0])
    left = estimators.weighted_gradient(mutant(RANKS, "one_too_many")(values, 3), common, sigma=1.0)
    torch.testing.assert_close(left, -common[0] * 3 / 15)


# ---------------------------------------------------------------- wrong answers from outside

OUTSIDE = []


def outside(id, phrase):
    """A wrong answer that is none of the mutants, and words that must be among those it gets."""

    def add(run):
        OUTSIDE.append(pytest.param(id, run, phrase, id=f"{id.split('.')[1]}-{run.__name__}"))
        return run

    return add


def weighted(weights, directions):
    return torch.einsum("k...,k...d->...d", weights, directions)


def right_rloo(values, directions, sigma):
    return weighted(values - values.mean(0), directions) / ((len(values) - 1) * sigma)


@outside(RLOO, "your gradient is (4, 0), and it must be (4, −4). By hand: the other value is 1 for the first")
def median_of_all(values, directions, sigma):
    return weighted(values - values.median(0).values, directions) / ((len(values) - 1) * sigma)


@outside(RLOO, "By hand: the other value is 1 for the first and 3 for the second, so y − b = (2, −2)")
def least_value(values, directions, sigma):
    return weighted(values - values.amin(0), directions) / ((len(values) - 1) * sigma)


@outside(RLOO, "A gradient is in units of f: values are neither normalised, nor ranked")
def ranks_for_values(values, directions, sigma):
    return weighted(estimators.centred_ranks(values), directions) / sigma


@outside(RLOO, "with all values times 100 it must be (−543.3, −456.7), and yours is (−20, −23.33)")
def advantages_held_down(values, directions, sigma):
    return weighted((values - values.mean(0)).clamp(-10, 10), directions) / ((len(values) - 1) * sigma)


@outside(RLOO, "your gradient is (1.333, −1.333), and it must be (4, −4)")
def one_more_below(values, directions, sigma):
    return right_rloo(values, directions, sigma) * (len(values) - 1) / (len(values) + 1)


@outside(RLOO, "your gradient is (0.7071, −0.7071)")
def of_length_one(values, directions, sigma):
    gradient = right_rloo(values, directions, sigma)
    return gradient / gradient.norm(dim=-1, keepdim=True)


@outside(RLOO, "your gradient is (2, −2), and it must be (4, −4)")
def divided_by_the_dimension(values, directions, sigma):
    return right_rloo(values, directions, sigma) / directions.shape[-1]


@outside(RLOO, "your gradient is (−1.2, 3.6), and it must be (−2, 6)")
def regression_slope(values, directions, sigma):
    """Divided by the variance of u, which is known to be 1."""
    return right_rloo(values, directions, sigma) / directions.var(0).clamp(min=1e-3)


@outside(RLOO, "with the same seven in the order 2, 3, 4, 5, 6, 7, 1 it is (0.172, 5.186)")
def the_first_five_only(values, directions, sigma):
    return right_rloo(values[:5], directions[:5], sigma)


@outside(RLOO, "none is the reference of the others, and none is left out of the sum")
def one_after_the_other(values, directions, sigma):
    return weighted(values[1:] - values[:-1], directions[1:]) / ((len(values) - 1) * sigma)


@outside(RLOO, "beside five others, in tensors of shape [4, 6] and [4, 6, 3]")
def problems_counted_as_directions(values, directions, sigma):
    return right_rloo(values, directions, sigma) * (len(values) - 1) / (values.shape[-1] - 1)


@outside(RLOO, "The size of tensor a (4) must match the size of tensor b (3)")
def axis_forgotten(values, directions, sigma):
    return ((values - values.mean(0)) * directions).sum(0) / ((len(values) - 1) * sigma)


@outside(RLOO, "returned shape [4, 4, 3] for values of shape [4, 6] and directions of shape [4, 6, 3]")
def matrix_product(values, directions, sigma):
    return (values - values.mean(0)) @ directions / ((len(values) - 1) * sigma)


@outside(RLOO, "returned shape [1, 3]")
def axis_kept(values, directions, sigma):
    return right_rloo(values, directions, sigma).unsqueeze(0)


@outside(RLOO, "turned torch.float64 into torch.float32")
def in_single_precision(values, directions, sigma):
    return right_rloo(values, directions, sigma).float()


@outside(RLOO, "somewhere inside is single precision")
def weights_in_single_precision(values, directions, sigma):
    weights = ((values - values.mean(0)) / ((len(values) - 1) * sigma)).float()
    return weighted(weights.to(values.dtype), directions)


@outside(RLOO, "and shape [3, 1, 2, 3] is asked for")
def squeezed(values, directions, sigma):
    return right_rloo(values, directions, sigma).squeeze()


@outside(ANTITHETIC, "your baselines are (4, 10), and they must be (4, 6)")
def every_coordinate_mirrored_by_itself(f, theta, directions, sigma):
    flips = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=theta.dtype)] * directions.shape[-1])
    return torch.stack([f(theta + sigma * directions * flip) for flip in flips]).mean(0)


@outside(ANTITHETIC, "your b is 1.381 for u = (1, 0.5), and 0.7566 for −u")
def one_coordinate_mirrored(f, theta, directions, sigma):
    flip = torch.ones_like(theta)
    flip[..., 0] = -1
    return (f(theta + sigma * directions) + f(theta + sigma * directions * flip)) / 2


@outside(ANTITHETIC, "your baselines are (8, 27), and they must be (4, 6)")
def size_of_u(f, theta, directions, sigma):
    """Even in u, and not the mean of a pair."""
    return f(theta + sigma * directions.abs())


@outside(ANTITHETIC, "your baselines are (1.5, 0.25, −1), and they must be (1.812, 1.004, 0.5)")
def second_order_only(f, theta, directions, sigma):
    """f(θ) and half of u · H u."""
    flat, out = theta.reshape(-1, theta.shape[-1]), []
    for i, at in enumerate(flat):
        u = directions.reshape(len(directions), len(flat), -1)[:, i]
        hessian = torch.autograd.functional.hessian(f, at)
        out.append(f(at) + sigma**2 / 2 * torch.einsum("pi,ij,pj->p", u, hessian, u))
    return torch.stack(out, 1).reshape(directions.shape[:-1])


@outside(ANTITHETIC, "has the baseline 1.194 by itself and 1.12 beside two others")
def mirror_of_another(f, theta, directions, sigma):
    return (f(theta + sigma * directions) + f(theta - sigma * directions.roll(1, 0))) / 2


@outside(ANTITHETIC, "b must not tell which of them is the plus")
def theta_mirrored(f, theta, directions, sigma):
    return (f(theta + sigma * directions) + f(sigma * directions - theta)) / 2


@outside(ANTITHETIC, "your b is 0.2885 for u = (1, 0.5), and 0.9053 for −u")
def half_of_the_mirrored_value(f, theta, directions, sigma):
    return f(theta - sigma * directions) / 2


@outside(ANTITHETIC, "your b is 1.66 for u = (1, 0.5), and 0.4576 for −u")
def two_steps_and_none(f, theta, directions, sigma):
    return (f(theta + 2 * sigma * directions) + f(theta)) / 2


@outside(ANTITHETIC, "and the central difference is (−0.9016, 1.412). Of each value, half of")
def sizes_of_both(f, theta, directions, sigma):
    return (f(theta + sigma * directions).abs() + f(theta - sigma * directions).abs()) / 2


@outside(ANTITHETIC, "By hand: f is 8 at (2, 2) and 0 at (0, 2)")
def geometric_mean(f, theta, directions, sigma):
    return (f(theta + sigma * directions) * f(theta - sigma * directions)).abs().sqrt()


@outside(
    ANTITHETIC, "With minus one million added to f they must be these plus minus one million, and yours are (1.188"
)
def values_in_single_precision(f, theta, directions, sigma):
    return sum(f(theta + sign * sigma * directions).float() for sign in (1, -1)).to(theta.dtype) / 2


@outside(ANTITHETIC, "after it: no minimum, no maximum, no root")
def trimmed(f, theta, directions, sigma):
    """The middle one of three values, by somebody who is afraid of outliers."""
    plus, minus = f(theta + sigma * directions), f(theta - sigma * directions)
    return torch.stack((plus, minus, f(theta).expand_as(plus))).median(0).values


@outside(ANTITHETIC, "returned a tuple where a tensor is expected")
def both_values(f, theta, directions, sigma):
    return f(theta + sigma * directions), f(theta - sigma * directions)


@outside(ANTITHETIC, "returned shape [3, 2], and shape [3] is asked for: one number for each direction and problem")
def points_for_values(f, theta, directions, sigma):
    return theta - sigma * directions


@outside(ANTITHETIC, "returned shape [], and shape [3] is asked for")
def averaged_over_the_pairs(f, theta, directions, sigma):
    return (f(theta + sigma * directions) + f(theta - sigma * directions)).mean(0) / 2


@outside(ANTITHETIC, "Each has its own θ, and no mean runs over them")
def seen_from_the_first_problem(f, theta, directions, sigma):
    first = theta if theta.dim() == 1 else theta.reshape(-1, theta.shape[-1])[0]
    return (f(first + sigma * directions) + f(first - sigma * directions)) / 2


def over_the_buffer(weights, directions):
    return torch.einsum("nk...,nk...d->...d", weights, directions)


def right_reuse(values, directions, sigma):
    """Of a buffer that is full."""
    own = values - values.mean(1, keepdim=True)
    return over_the_buffer(own, directions) / (len(values) * (values.shape[1] - 1) * sigma)


@outside(REUSE, "with zeros in the places after, and `filled` = 2, it is (4.033, 3.153)")
def the_last_places(values, directions, filled, sigma):
    return right_reuse(values[-filled:], directions[-filled:], sigma)


@outside(REUSE, "with other numbers in the places after, and `filled` = 2, it is (4.902, 2.174)")
def zeros_taken_for_empty(values, directions, filled, sigma):
    used = [i for i in range(len(values)) if (values[i] != 0).any()]
    return right_reuse(values[used], directions[used], sigma)


@outside(REUSE, "your gradient is (4, −4), and it must be (4, −2). By hand: the means are 2 and 12")
def the_first_only(values, directions, filled, sigma):
    return right_reuse(values[:1], directions[:1], sigma)


@outside(REUSE, "All iterations count the same, the oldest and the newest, and the sum of three is divided by three")
def the_newest_and_the_oldest(values, directions, filled, sigma):
    return right_reuse(values[[0, filled - 1]], directions[[0, filled - 1]], sigma)


@outside(REUSE, "your gradient is (nan, nan), and it must be (−2, 6): look for 0 / 0")
def directions_cut(values, directions, filled, sigma):
    return right_reuse(values[:, :filled], directions[:, :filled], sigma)


@outside(REUSE, "Subtract from each iteration its own mean, and no pooled one")
def zeros_in_the_mean(values, directions, filled, sigma):
    y, u = values[:filled], directions[:filled]
    return over_the_buffer(y - values.mean((0, 1)), u) / (filled * (y.shape[1] - 1) * sigma)


@outside(REUSE, "Subtract from each iteration its own mean, and no pooled one")
def first_mean_for_all(values, directions, filled, sigma):
    y, u = values[:filled], directions[:filled]
    return over_the_buffer(y - y[0].mean(0), u) / (filled * (y.shape[1] - 1) * sigma)


@outside(REUSE, "your gradient is (2, 10), and it must be (−2, 6). By hand: the mean is 1")
def median_of_each(values, directions, filled, sigma):
    y, u = values[:filled], directions[:filled]
    return over_the_buffer(y - y.median(1, keepdim=True).values, u) / (filled * (y.shape[1] - 1) * sigma)


@outside(REUSE, "and no iteration is weighed by its values")
def weighed_by_what_they_scatter(values, directions, filled, sigma):
    y, u = values[:filled], directions[:filled]
    share = 1 / y.var(1, keepdim=True)
    own = share / share.sum(0, keepdim=True) * (y - y.mean(1, keepdim=True))
    return over_the_buffer(own, u) / ((y.shape[1] - 1) * sigma)


@outside(REUSE, "your gradient is (5.657, −2.828), and it must be (4, −2)")
def divided_by_the_root(values, directions, filled, sigma):
    return right_reuse(values[:filled], directions[:filled], sigma) * math.sqrt(filled)


@outside(REUSE, "Each has its own means: they run over the second axis, that of the directions")
def mean_over_the_last_axis(values, directions, filled, sigma):
    y, u = values[:filled], directions[:filled]
    return over_the_buffer(y - y.mean(-1, keepdim=True), u) / (filled * (y.shape[1] - 1) * sigma)


@outside(REUSE, "your gradient is (−1, 3), and it must be (−2, 6)")
def two_sigma(values, directions, filled, sigma):
    return right_reuse(values[:filled], directions[:filled], 2 * sigma)


@outside(REUSE, "σ stands below, to the first power")
def variance_for_standard_deviation(values, directions, filled, sigma):
    return right_reuse(values[:filled], directions[:filled], sigma**2)


@outside(REUSE, "only the first two axes, those of the iterations and of the directions, are summed away")
def directions_left(values, directions, filled, sigma):
    own = values[:filled] - values[:filled].mean(1, keepdim=True)
    return (own.unsqueeze(-1) * directions[:filled]).mean(0) / sigma


@outside(REUSE, "This is one number for each value: it is to be multiplied with its direction, and summed")
def weights_returned(values, directions, filled, sigma):
    return values - values.mean(1, keepdim=True)


def net(values, k, edges=None):
    m = len(values)
    rank = values.argsort(0).argsort(0)
    edges = k * (k - 1) / 2 + k * (m - k) if edges is None else edges
    return torch.where(rank < k, 2 * rank - (m - 1), k).to(values.dtype) / edges


@outside(RANKS, "your weights are (0.5, −0.5), and they must be (1, −1). By hand: there is one pair")
def others_weigh_nothing_and_the_mean_subtracted(values, k):
    rank = values.argsort(0).argsort(0)
    weights = torch.where(rank < k, 2 * rank - (len(values) - 1), 0).to(values.dtype)
    return (weights - weights.mean(0)) / (k * (k - 1) / 2 + k * (len(values) - k))


@outside(RANKS, "u of the worse minus u of the better is u₁ − u₂")
def consensus(values, k):
    return (-values).softmax(0)


@outside(RANKS, "which is 4 / 5 of the centred ranks")
def centred_ranks(values, k):
    return estimators.centred_ranks(values)


@outside(RANKS, "with 1 + y × 10⁻⁹ in place of each y they are (−0.6, −0.2, 0.4, 0.4)")
def ranked_in_single_precision(values, k):
    rank = values.float().argsort(0).argsort(0)
    return net(rank.to(values.dtype), k)


@outside(RANKS, "returned a tensor of torch.int64 where real numbers are expected")
def whole_numbers(values, k):
    rank = values.argsort(0).argsort(0)
    return torch.where(rank < k, 2 * rank - (len(values) - 1), k)


@outside(RANKS, "your weights are (0.4004, −0.6016, −0.2002, 0.4004)")
def few_digits(values, k):
    return net(values, k).bfloat16().to(values.dtype)


@outside(RANKS, "your weights are (0.25, −0.375, −0.125, 0.25), and they must be (0.4, −0.6, −0.2, 0.4)")
def sizes_that_sum_to_one(values, k):
    weights = net(values, k)
    return weights / weights.abs().sum(0)


@outside(RANKS, "returned shape [2], and shape [5] is asked for: one number for each point")
def only_those_named(values, k):
    return net(values, k)[:k]


@outside(RANKS, "your weights are (0.6, −0.4, −0.4, 0.2)")
def the_worst_named(values, k):
    return -net(-values, k)


@outside(RANKS, "There are 3 pairs, and the best is the better one in all of them: −3 over 3")
def each_point_paired_with_itself(values, k):
    return net(values, k, edges=k * (k + 1) / 2 + k * (len(values) - k))


@outside(RANKS, "worse less better, it is")
def twice_as_long(values, k):
    return 2 * net(values, k)


@outside(RANKS, "Whoever is not named is the last, so the pairs are the same")
def others_share_what_is_left(values, k):
    """Zero in sum, and k = m divided by something else."""
    return net(values, k, edges=k * len(values))


@outside(RANKS, "your weights are (−1, −1), and they must be (1, −1)")
def others_as_good(values, k):
    weights = net(values, k)
    return torch.where(values.argsort(0).argsort(0) < k, weights, -weights)


@outside(RANKS, "turned torch.float64 into torch.float32")
def default_dtype(values, k):
    return net(values, k).float()


@pytest.mark.parametrize(("id", "run", "phrase"), OUTSIDE)
def test_a_wrong_answer_from_outside_hears_what_is_wrong(id, run, phrase):
    verdict = exercises.judge(id, run)
    assert verdict.state == "wrong"
    said = "\n".join([verdict.message, *(result.message for result in verdict.results)])
    assert phrase in said, said
    assert verdict.slip is None  # it is none of the registered ones


def test_there_are_at_least_ten_from_outside_for_each_exercise():
    assert min(sum(case.values[0] == id for case in OUTSIDE) for id in IDS) >= 10


def test_one_number_for_all_directions_is_told_as_such():
    verdict = exercises.judge(RLOO, lambda values, directions, sigma: values.mean())
    assert "returned shape [] for values of shape [4] and directions of shape [4, 3], and shape [3]" in verdict.message


def rubbish_in_a_stack(solution):
    """Right for problems on one axis, and reversed for those on two."""

    def run(*given, **options):
        value = solution(*given, **options)
        return value if value.dim() < 3 else value.flip(1)

    return run


def rubbish_in_single_precision(solution):
    def run(*given, **options):
        value = solution(*given, **options)
        return value if value.dtype == torch.float64 else value + 0.01

    return run


@pytest.mark.parametrize("id", IDS)
@pytest.mark.parametrize(
    ("spoilt", "phrase"),
    [
        (rubbish_in_a_stack, "However many axes there are"),
        (rubbish_in_single_precision, "in single precision (torch.float32"),
    ],
)
def test_stacks_and_single_precision_are_looked_at_as_well(id, spoilt, phrase):
    verdict = exercises.judge(id, spoilt(exercises.solved(exercises.find(id))))
    assert verdict.state == "wrong"
    first = next(result for result in verdict.results if not result.held)
    assert first is verdict.results[0] and phrase in first.message


@pytest.mark.parametrize("id", IDS)
def test_nan_is_told_as_such_and_not_as_a_mixing_of_problems(id):
    right = exercises.solved(exercises.find(id))
    verdict = exercises.judge(id, lambda *given, **options: right(*given, **options) * float("nan"))
    told = next(result.message for result in verdict.results if not result.held)
    assert ": look for 0 / 0" in told and "beside" not in told


# ---------------------------------------------------------------- registered slips in disguise


def times_one_minus_one_over_k(values, directions, sigma):
    return right_rloo(values, directions, sigma) * (1 - 1 / len(values))


def mean_of_the_mirrored_alone(f, theta, directions, sigma):
    return f(2 * theta - (theta + sigma * directions))


def leave_one_out_of_the_whole_buffer(values, directions, filled, sigma):
    return estimators.rloo_gradient(values[:filled].flatten(0, 1), directions[:filled].flatten(0, 1), sigma=sigma)


def counted_with_itself(values, k):
    better = (values.unsqueeze(1) <= values.unsqueeze(0)).sum(1)  # itself included
    worse = (values.unsqueeze(1) > values.unsqueeze(0)).sum(1)
    edges = k * (k - 1) / 2 + k * (len(values) - k)
    return torch.where(worse < k, worse - better, k).to(values.dtype) / edges


def first_come_first_ranked(values, k):
    return net(torch.arange(len(values)).to(values).reshape(-1, *[1] * (values.dim() - 1)).expand_as(values), k)


@pytest.mark.parametrize(
    ("id", "run", "slip"),
    [
        (RLOO, times_one_minus_one_over_k, "own_value_kept_in"),
        (ANTITHETIC, mean_of_the_mirrored_alone, "the_mirrored_value"),
        (REUSE, leave_one_out_of_the_whole_buffer, "pooled_mean"),
        (RANKS, counted_with_itself, "one_too_many"),
        (RANKS, first_come_first_ranked, "weights_in_order_of_rank"),
    ],
)
def test_a_slip_is_recognised_however_it_is_written(id, run, slip):
    assert exercises.judge(id, run).slip.name == slip


# ---------------------------------------------------------------- right answers from outside


def through_numpy(values, directions, sigma):
    y, u = values.numpy(), directions.numpy()
    weights = (y - y.mean(0)) / (len(y) - 1) / sigma
    return torch.from_numpy((weights[..., None] * u).sum(0))


def through_the_log_probability(values, directions, sigma):
    theta = torch.zeros_like(directions[0], requires_grad=True)
    logp = torch.distributions.Normal(theta, sigma).log_prob(sigma * directions).sum(-1)
    others = (values.sum(0) - values) / (len(values) - 1)
    (gradient,) = torch.autograd.grad(((values - others) * logp).mean(0).sum(), theta)
    return gradient


def in_place_on_a_copy(values, directions, sigma):
    weights, terms = values.clone(), directions.clone()
    weights -= weights.mean(0, keepdim=True)
    weights /= len(weights) - 1
    terms *= weights.unsqueeze(-1)
    return terms.sum(dim=0).div_(sigma)


def mean_of_products_less_product_of_means(values, directions, sigma):
    count = len(values)
    both = (values[..., None] * directions).mean(0) - values.mean(0)[..., None] * directions.mean(0)
    return both * count / ((count - 1) * sigma)


def vectorised(values, directions, sigma):
    run = lambda y, u: (y - y.mean()) @ u / ((len(y) - 1) * sigma)  # noqa: E731
    for _ in range(values.dim() - 1):
        run = torch.vmap(run, in_dims=1)
    return run(values, directions)


def in_double_precision(values, directions, sigma):
    return right_rloo(values.double(), directions.double(), sigma).to(values.dtype)


def problem_by_problem(values, directions, sigma):
    if values.dim() > 1:
        return torch.stack([problem_by_problem(values[:, i], directions[:, i], sigma) for i in range(values.shape[1])])
    count, gradient = len(values), torch.zeros_like(directions[0])
    for k in range(count):
        others = sum(values[j] for j in range(count) if j != k) / (count - 1)
        gradient = gradient + (values[k] - others) * directions[k] / sigma
    return gradient / count


def as_a_table(values, directions, sigma):
    count, dim = len(values), directions.shape[-1]
    y, u = values.view(count, -1), directions.view(count, -1, dim)
    gradient = torch.stack([(y[:, i] - y[:, i].mean()) @ u[:, i] for i in range(y.shape[1])])
    return gradient.view(directions.shape[1:]) / ((count - 1) * sigma)


def that_carries_a_gradient(values, directions, sigma):
    """Nobody has asked for one, and it does no harm."""
    return right_rloo(values.clone().requires_grad_(), directions, sigma)


def asked_in_one_batch(f, theta, directions, sigma):
    plus, minus = f(torch.cat((theta + sigma * directions, theta - sigma * directions))).chunk(2)
    return (plus + minus) / 2


def point_by_point(f, theta, directions, sigma):
    if theta.dim() > 1:
        return torch.stack([point_by_point(f, at, directions[:, i], sigma) for i, at in enumerate(theta)], 1)
    return torch.stack([0.5 * f(theta + sigma * u) + 0.5 * f(theta - sigma * u) for u in directions])


def from_the_minus_side(f, theta, directions, sigma):
    minus = f(theta.unsqueeze(0) - sigma * directions)
    return minus + (f(theta.unsqueeze(0) + sigma * directions) - minus) / 2


def points_in_one_row(f, theta, directions, sigma):
    def asked(x):
        return f(x.reshape(-1, x.shape[-1])).reshape(x.shape[:-1])

    at = theta.expand_as(directions)
    return (asked(at + sigma * directions) + asked(at - sigma * directions)).mul_(0.5)


def through_numpy_and_a_buffer(values, directions, filled, sigma):
    y, u = values.numpy()[:filled], directions.numpy()[:filled]
    weights = (y - y.mean(axis=1, keepdims=True)) / (y.shape[1] - 1)
    return torch.from_numpy((weights[..., None] * u).sum(1).mean(0) / sigma)


def with_the_function_of_the_package(values, directions, filled, sigma):
    return sum(estimators.rloo_gradient(values[i], directions[i], sigma=sigma) for i in range(filled)) / filled


def problem_by_problem_in_loops(values, directions, filled, sigma):
    if values.dim() > 2:
        each = range(values.shape[2])
        one = problem_by_problem_in_loops
        return torch.stack([one(values[:, :, i], directions[:, :, i], filled, sigma) for i in each])
    gradient = torch.zeros_like(directions[0, 0])
    for i in range(filled):
        mean = sum(values[i]) / len(values[i])
        for y, u in zip(values[i], directions[i], strict=True):
            gradient = gradient + (y - mean) * u / sigma / (len(values[i]) - 1) / filled
    return gradient


def in_one_row(values, directions, filled, sigma):
    y, u = values[:filled], directions[:filled]
    weights = (y - y.mean(1, keepdim=True)).flatten(0, 1)
    return weighted(weights, u.flatten(0, 1)) / (filled * (y.shape[1] - 1) * sigma)


def rest_set_to_zero(values, directions, filled, sigma):
    weights = values - values.mean(1, keepdim=True)
    weights[filled:] = 0
    return (weights[..., None] * directions).sum(dim=(0, 1)) / filled / (values.shape[1] - 1) / sigma


def multiplied_with_a_mask(values, directions, filled, sigma):
    mask = (torch.arange(len(values)) < filled).to(values.dtype)
    own = values - values.mean(1, keepdim=True)
    each = (own.unsqueeze(-1) * directions).sum(1) / (values.shape[1] - 1)
    return torch.tensordot(mask, each, 1) / (mask.sum() * sigma)


def ranked_by_numpy(values, k):
    y, m = values.numpy(), len(values)
    rank = y.argsort(0).argsort(0)
    return torch.from_numpy((np.where(rank < k, 2 * rank - (m - 1), k) / (k * (2 * m - k - 1) / 2)).astype(y.dtype))


def divided_in_the_default_dtype(values, k):
    """A whole number over a whole number is in single precision, which is right enough."""
    m, rank = len(values), values.argsort(0).argsort(0)
    return (torch.where(rank < k, 2 * rank - (m - 1), k) / (k * (k - 1) / 2 + k * (m - k))).to(values.dtype)


def named_and_others_apart(values, k):
    m, rank, weights = len(values), values.argsort(0).argsort(0), torch.empty_like(values)
    edges, named = k * (k - 1) / 2 + k * (m - k), rank < k
    weights[named] = -(m - 1 - 2 * rank[named]).to(values.dtype) / edges
    weights[~named] = k / edges
    return weights


def plain_lists(values, k):
    weights = []
    for y in values.reshape(len(values), -1).T.tolist():
        order, mine = sorted(range(len(y)), key=y.__getitem__), [k] * len(y)
        for rank, point in enumerate(order[:k]):
            mine[point] = -(len(y) - 1 - 2 * rank)
        weights.append([w / (k * (k - 1) / 2 + k * (len(y) - k)) for w in mine])
    return torch.tensor(weights, dtype=values.dtype).T.reshape(values.shape)


def signs_of_all_differences(values, k):
    apart = (values.unsqueeze(1) - values.unsqueeze(0)).sign()
    named = values.argsort(0).argsort(0) < k
    known = named.unsqueeze(1) | named.unsqueeze(0)
    return (apart * known).sum(1) / (k * (k - 1) / 2 + k * (len(values) - k))


def the_kth_as_a_threshold(values, k):
    m, kth = len(values), values.kthvalue(k, dim=0, keepdim=True).values
    rank = (values.unsqueeze(0) < values.unsqueeze(1)).sum(1)
    others = torch.full_like(values, k)
    return torch.where(values <= kth, (2 * rank - m + 1).to(values.dtype), others) / (k * m - k * (k + 1) / 2)


@pytest.mark.parametrize(
    ("id", "run"),
    [
        *((RLOO, run) for run in (through_numpy, through_the_log_probability, in_place_on_a_copy, vectorised)),
        *((RLOO, run) for run in (mean_of_products_less_product_of_means, in_double_precision, problem_by_problem)),
        *((RLOO, run) for run in (as_a_table, that_carries_a_gradient)),
        (RLOO, estimators.rloo_gradient),
        *((ANTITHETIC, run) for run in (asked_in_one_batch, point_by_point, from_the_minus_side, points_in_one_row)),
        *((REUSE, run) for run in (through_numpy_and_a_buffer, with_the_function_of_the_package, in_one_row)),
        *((REUSE, run) for run in (rest_set_to_zero, multiplied_with_a_mask, problem_by_problem_in_loops)),
        *((RANKS, run) for run in (ranked_by_numpy, divided_in_the_default_dtype, named_and_others_apart)),
        *((RANKS, run) for run in (plain_lists, signs_of_all_differences, the_kth_as_a_threshold)),
    ],
)
def test_a_right_answer_from_outside_passes(id, run):
    verdict = exercises.judge(id, run)
    assert verdict.right, [verdict.message, *(result.message for result in verdict.results if not result.held)]


# ---------------------------------------------------------------- what a learner reads


def stub(found):
    space = {}
    exec(found.stub, space)
    return space[found.name]


@pytest.mark.parametrize("id", IDS)
def test_an_untouched_stub_is_not_attempted(id):
    found = exercises.find(id)
    assert exercises.judge(id, stub(found)).state == "not attempted"


@pytest.mark.parametrize("id", IDS)
def test_the_texts_are_plain_and_their_backticks_paired(id):
    found = exercises.find(id)
    reasons = [mutant.reason for mutant in found.mutants]
    names = [property.name for property in found.properties]
    assert all(with_a_capital(reason) for reason in reasons)
    for text in (found.title, found.task, found.after, *found.hints, *reasons, *names):
        assert "$" not in text and "\\" not in text
        assert text.count("`") % 2 == 0
        assert "*" not in re.sub("<code.*?</code>", "", cards.to_html(text))  # every *emphasis* is closed


@pytest.mark.parametrize("id", IDS)
def test_the_card_names_everything_that_the_signature_has(id):
    found = exercises.find(id)
    parameters = inspect.signature(stub(found)).parameters
    assert list(parameters) == [*found.parameters, *found.options]
    assert inspect.signature(exercises.solved(found)) == inspect.signature(stub(found))
    for name in parameters:
        assert f"- `{name}`" in found.task
    assert f"`{found.name}(" in found.task


@pytest.mark.parametrize("id", IDS)
def test_solutions_are_short_and_no_early_hint_gives_them_away(id):
    found = exercises.find(id)
    body = [line.strip().removeprefix("return ") for line in found.solution.split("\n")[1:]]
    assert 1 <= len(body) <= 6
    deciding = [line for line in body if len(line) > 15][-1]
    assert not any(deciding in text for text in (found.task, *found.hints))
