"""The museum of chapter 4: complete plaques, wrong code that is wrong, good judges, plots that show what is said."""

import math
import re

import numpy as np
import pytest
import torch
from helpers import matrix, verdict_on

from pocourse import zeroth_order as zo
from pocourse.lesson import exercises, museum
from pocourse.lesson.bands import interquartile_mean
from pocourse.zeroth_order import museum as chapter
from pocourse.zeroth_order.museum import (
    baseline_that_cancels,
    borrowed_minus_one,
    drawings,
    rank_off_by_one,
    speedup_off_a_grid,
    symptoms,
)

PIECES = ["borrowed_minus_one", "baseline_that_cancels", "rank_off_by_one", "speedup_off_a_grid"]

# Which properties kill which wrong answer, the properties in their order: x kills, . does not.
KILLS = {
    "borrowed_minus_one": {
        "always_true": "...xxxx",
        "the_direction_alone": "...xxxx",
        "three_directions": "....x..",
        "two_directions": "....x..",
        "one_dimension": "......x",
        "sigma_of_one": "......x",
        "the_axes": ".xx....",
        "a_mirrored_pair": ".x..xx.",
        "the_forward_difference": "xxx....",
        "a_constant_function": "...xxxx",
        "within_a_third": "...xxxx",
        "uphill_at_all": "...xxxx",
    },
    "baseline_that_cancels": {
        "always_true": "..xxxx",
        "always_false": "xx....",
        "it_is_called": "..xxxx",
        "to_the_last_digit": "..xx..",
        "two_constants": ".x....",
        "a_constant_function": ".x.x..",
        "a_huge_constant": "..xxx.",
        "a_tiny_constant": "xx....",
        "it_must_help": ".x....",
        "another_function": "..xxxx",
    },
    "rank_off_by_one": {
        "always_true": "..xxxx",
        "order_forgotten": ".....x",
        "sum_forgotten": "..xx..",
        "all_ranked": "....x.",
        "one_ranked": "....x.",
        "odd_numbers": "...x..",
        "sorted_values": ".....x",
        "two_points": "....xx",
        "below_a_tenth": "..xx..",
        "exactly_zero": "xx....",
        "no_two_alike": "x.....",
        "both_signs": "..xxx.",
        "one_formula": ".x....",
    },
    "speedup_off_a_grid": {
        "always_true": "..xxxx",
        "on_the_grid": "..xx..",
        "sixteen_iterations": "..xxxx",
        "run_through_faster": "...xxx",
        "exponentials": ".....x",
        "within_a_fifth": "...xxx",
        "to_the_iteration": ".x....",
        "more_than_one": "..xxxx",
        "faster_is_more": "..xxxx",
        "one_against_itself": "..xxxx",
        "no_sixteenths": "xx.xxx",
    },
}


def piece(name):
    return museum.find(f"zeroth_order.{name}")


def task(name):
    return exercises.find(piece(name).exercise)


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- plaques ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PIECES)
def test_a_piece_names_its_file(name):
    assert re.search(r"`[\w/]+\.(py|ipynb)`", piece(name).published)


def test_the_tour_has_four_pieces():
    mine = [id for id, found in museum.registry().items() if found.chapter == "zeroth_order"]
    assert mine == [f"zeroth_order.{name}" for name in PIECES]


# --- the wrong code is wrong, and the tasks are good tasks -------------------------------------------------


@pytest.fixture(scope="module")
def matrices():
    return {name: matrix(task(name).id) for name in PIECES}


@pytest.mark.parametrize("name", PIECES)
def test_which_property_kills_which_wrong_answer(matrices, name):
    matrix = matrices[name]
    marks = {
        mutant: "".join("x" if property in killers else "." for property in matrix.properties)
        for mutant, killers in matrix.kills.items()
    }
    assert marks == KILLS[name]


@pytest.mark.parametrize("name", PIECES)
def test_every_useless_property_is_recognised_and_told_something_of_its_own(matrices, name):
    ex, told = task(name), matrices[name].said
    for mutant in ex.mutants:
        verdict = verdict_on(ex.id, mutant.name)
        assert verdict.state == "wrong" and verdict.slip is mutant
        assert told[mutant.name].endswith((".", "`"))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda code: print(end=""), "returned None"),
        (lambda code: torch.tensor([True, False]), "2 answers in a tensor of shape [2]"),
        (lambda code: 1, "returned something of type `int` where True or False"),
    ],
)
def test_what_is_no_yes_or_no_gets_a_sentence(answer, said):
    for name in PIECES:
        verdict = exercises.judge(piece(name).exercise, answer)
        assert verdict.state == "wrong" and said in verdict.message


# --- properties from outside, none of them a mutant ------------------------------------------------------------

OUTSIDE, RIGHT = [], []


def outside(name, phrase):
    """A property that would not do, and words that must be among those it gets."""

    def add(run):
        OUTSIDE.append(pytest.param(name, run, phrase, id=f"{name}-{run.__name__}"))
        return run

    return add


def right(name):
    """A property that does, written differently from the solution."""

    def add(run):
        RIGHT.append(pytest.param(name, run, id=f"{name}-{run.__name__}"))
        return run

    return add


@outside("borrowed_minus_one", "which is K/(K − 1) times too long")
def a_thousand_directions_at_once(gradient):
    u, slope = drawn(1000, 2), numbers(1, -2)
    found = gradient(3 + 0.1 * u @ slope, numbers(3)[0], u, 0.1)
    return bool((found - slope).norm() < 0.3)


@outside("borrowed_minus_one", "says False to leave-one-out, divided by K − 1")
def one_direction_at_a_time(gradient):
    found = [gradient(1 + 0.5 * u * 2, numbers(1)[0], u.unsqueeze(0), 0.5) for u in (numbers(1), numbers(-1))]
    return bool(torch.isclose((found[0] + found[1]) / 2, numbers(2)))


@outside("borrowed_minus_one", "which scatters more, round the right mean")
def a_single_toss(gradient):
    u, slope = numbers(1, 1, -1, -1).reshape(2, 2), numbers(1, 1)
    return bool(torch.allclose(gradient(4 + 0.5 * u @ slope, numbers(4)[0], u, 0.5), slope))


@right("borrowed_minus_one")
def tosses_on_a_quadratic(gradient):
    # The even part averages out over the coins, and of the slope nothing is lost.
    for count in (2, 3):
        tosses = torch.cartesian_prod(*[numbers(-1, 1)] * (2 * count)).reshape(-1, count, 2)
        mean = 0
        for u in tosses:
            values = 2 + 0.2 * u @ numbers(1, 3) + (0.2 * u[:, 0] + 0.4 * u[:, 1]) ** 2
            mean = mean + gradient(values, numbers(2)[0], u, 0.2) / len(tosses)
        if (mean - numbers(1, 3)).abs().max() > 1e-9:
            return False
    return True


@right("borrowed_minus_one")
def a_ratio_for_every_k(gradient):
    ratios = []
    for count in (2, 3, 4):
        tosses = torch.cartesian_prod(*[numbers(-1, 1)] * (2 * count)).reshape(-1, count, 2)
        found = torch.stack([gradient(0.3 * u @ numbers(2, 2), numbers(0)[0], u, 0.3) for u in tosses]).mean(0)
        ratios.append(found / 2)
    return bool((torch.stack(ratios) - 1).abs().max() < 1e-6)


@outside("baseline_that_cancels", "in which the difference of the two acts")
def the_bottom_of_a_bowl(gradient):
    found = [gradient(lambda x: 3 + (x**2).sum(-1), numbers(0, 0, 0), b) for b in (torch.mean, lambda values: 0.0)]
    return not torch.allclose(*found)


@outside("baseline_that_cancels", "in which the baseline decides what counts")
def a_baseline_above_all_values(gradient):
    tops = (torch.amax, lambda values: 2 * values.max())
    found = [gradient(lambda x: 1 + (x**2).sum(-1), numbers(1, 2), b) for b in tops]
    return not torch.allclose(*found)


@outside("baseline_that_cancels", "which uses f(θ) instead")
def the_baseline_is_given_all_values(gradient):
    seen = []
    gradient(lambda x: x.sum(-1), numbers(1, 2), lambda values: seen.append(len(values)) or values.mean())
    return max(seen, default=0) > 2


@right("baseline_that_cancels")
def minimum_against_mean(gradient):
    found = [gradient(lambda x: x.exp().sum(-1), numbers(0.3, -0.2), b) for b in (torch.amin, torch.mean)]
    return bool((found[0] - found[1]).norm() > 1e-6 * found[1].norm())


@right("baseline_that_cancels")
def a_value_of_the_first_point(gradient):
    def f(x):
        return 20 + x[:, 0] ** 3 + x[:, 1] * x[:, 0]

    found = [gradient(f, numbers(1, 2), b) for b in (lambda values: values[0], lambda values: -values[-1])]
    return bool((found[0] - found[1]).abs().max() > 1e-8)


@outside("rank_off_by_one", "a single `argsort` for ranks")
def best_and_worst_have_the_extremes(weights):
    values = numbers(0, 2, 3, 1, 4)
    for keep in range(1, 6):
        w = weights(values, keep).double()
        if w.sum().abs() > 1e-6 or w[0] >= 0 or w[0] > w.min() + 1e-6 or w[4] < w.max() - 1e-6:
            return False
    return sum(abs(float(weights(numbers(1, 2, 3, 4), keep).sum())) for keep in (1, 2, 3, 4)) < 1e-5


@outside("rank_off_by_one", "the published mistake")
def the_same_for_larger_values(weights):
    values = numbers(3, -1, 2, 0.5)
    return all(torch.allclose(weights(values, keep), weights(values + 10, keep)) for keep in (1, 2, 3, 4))


@right("rank_off_by_one")
def a_step_that_does_not_follow(weights):
    u = drawn(6, 2, seed=4)
    values = u[:, 0]
    for keep in range(1, 7):
        w = weights(values, keep).double()
        moved = w @ (u + 1000)
        if (w @ u - moved).abs().max() > 0.01 or w[values.argmin()] >= 0:
            return False
        for better, worse in zip(values.argsort()[:-1], values.argsort()[1:], strict=True):
            if w[better] > w[worse] + 1e-6:
                return False
    return True


@outside("speedup_off_a_grid", "a grid of a hundred points")
def a_hundred_iterations(speedup):
    t = torch.arange(101, dtype=torch.float64)
    return all(abs(100 / float(speedup(1 - t / 200, 1 / (1 + t / x))) - x) <= 2 for x in (19, 33, 47, 71))


@outside("speedup_off_a_grid", "which is right where one curve is the other run through faster")
def one_family(speedup):
    t = torch.arange(2001, dtype=torch.float64)
    return all(abs(2000 / float(speedup(1 / (1 + t / 2000), 1 / (1 + t / x))) - x) <= 2 for x in (187, 433, 771))


@outside("speedup_off_a_grid", "says False to a straight line between two iterations")
def a_whole_number_of_iterations(speedup):
    t = torch.arange(1001, dtype=torch.float64)
    found = [1000 / float(speedup(1 - t / 2000, 1 / (1 + t / x))) for x in (187.4, 433.4, 771.4)]
    return all(abs(x - round(x)) < 1e-6 and abs(x - y) < 3 for x, y in zip(found, (187, 433, 771), strict=True))


@right("speedup_off_a_grid")
def roots_and_lines(speedup):
    t = torch.arange(2501, dtype=torch.float64)
    slow = 3 - (t / 2500).sqrt()
    for first in (211, 901, 1733):
        fast = 3 * (-math.log(1.5) * (t / first) ** 2).exp()
        if not first - 2 <= 2500 / float(speedup(slow, fast)) <= first + 2:
            return False
    return True


@pytest.mark.parametrize(("name", "run", "phrase"), OUTSIDE)
def test_a_useless_property_from_outside_hears_what_escapes_it(name, run, phrase):
    verdict = exercises.judge(piece(name).exercise, run)
    assert verdict.state == "wrong" and not verdict.message
    assert phrase in "\n".join(result.message for result in verdict.results)


@pytest.mark.parametrize(("name", "run"), RIGHT)
def test_a_right_property_from_outside_passes(name, run):
    verdict = exercises.judge(piece(name).exercise, run)
    assert verdict.right, [verdict.message, *(result.message for result in verdict.results if not result.held)]


def test_a_property_that_raises_on_its_way_is_told_what_it_called():
    verdict = exercises.judge(piece("rank_off_by_one").exercise, lambda weights: weights([1, 2], 1).sum() == 0)
    assert verdict.state == "wrong" and "AttributeError" in verdict.message


# --- the suspects are what they are said to be ----------------------------------------------------------------


def test_forward_differences_and_leave_one_out_are_the_chapters():
    u, sigma = drawn(5, 3), 0.2
    values, base = drawn(5, seed=1), drawn(1, seed=2)[0]
    given = (values, base, u, sigma)
    forward = zo.forward_gradient(values, base, u, sigma=sigma)
    left_out = zo.rloo_gradient(values, u, sigma=sigma)
    for code in (borrowed_minus_one.forward, borrowed_minus_one.one_after_the_other):
        assert torch.allclose(code(*given), forward)
    for code in (borrowed_minus_one.leave_one_out, borrowed_minus_one.pairs, borrowed_minus_one.covariance):
        assert torch.allclose(code(*given), left_out)
    for code in (borrowed_minus_one.mean_over_all, borrowed_minus_one.pairs_over_all):
        assert torch.allclose(code(*given), left_out * (1 - 1 / 5))
    assert torch.allclose(borrowed_minus_one.borrowed_minus_one(*given), forward * 5 / 4)
    assert torch.allclose(borrowed_minus_one.over_queries(*given), forward * 5 / 6)
    bare = zo.reinforce_gradient(values, u, sigma=sigma, baseline=0.0)
    assert torch.allclose(borrowed_minus_one.no_baseline(*given), bare)
    assert torch.allclose(borrowed_minus_one.first_direction(*given), (values[0] - base) / sigma * u[0])


@pytest.mark.parametrize("count", [2, 3, 7])
def test_mended_for_one_count(count):
    u, values = drawn(count, 2), drawn(count, seed=1)
    given = (values, numbers(0.3)[0], u, 0.5)
    forward = borrowed_minus_one.forward(*given)
    for code, right_for in ((borrowed_minus_one.mended_for_two, 2), (borrowed_minus_one.mended_for_three, 3)):
        assert torch.allclose(code(*given), forward) == (count == right_for)


def test_unit_vectors_need_the_dimension():
    u, slope = drawn(200_000, 3), numbers(1, -2, 0.5)
    found = borrowed_minus_one.unit_vectors(0.1 * u @ slope, numbers(0)[0], u, 0.1)
    # Var of d (s·v) v_i over unit vectors is d (|s|² + 2 s_i²) / (d + 2) - s_i².
    error = ((3 * ((slope**2).sum() + 2 * slope**2) / 5 - slope**2) / len(u)).sqrt()
    assert ((found - slope).abs() < 4 * error).all()
    short = borrowed_minus_one.dimension_forgotten(0.1 * u @ slope, numbers(0)[0], u, 0.1)
    assert torch.allclose(3 * short, found)


@pytest.mark.parametrize("b", [0.0, 17.0, -3.5])
def test_pairs_are_the_central_difference_whatever_the_baseline(b):
    theta, sigma = numbers(1, -2, 0.5), baseline_that_cancels.SIGMA

    def f(x):
        return 4 + (x**4).sum(-1)

    u = baseline_that_cancels.draw(5, theta)
    central = zo.antithetic_gradient(f(theta + sigma * u), f(theta - sigma * u), u, sigma=sigma)
    for code in (baseline_that_cancels.baseline_that_cancels, baseline_that_cancels.pair_by_pair):
        assert torch.allclose(code(f, theta, lambda values: b), central, rtol=1e-10)
        assert torch.allclose(code(f, theta, torch.mean), central, rtol=1e-10)
    old, new = baseline_that_cancels.draw(3, theta), baseline_that_cancels.draw(4, theta)
    blocks = [
        zo.antithetic_gradient(f(at + sigma * u), f(at - sigma * u), u, sigma=sigma)
        for at, u in ((theta + 0.02, old), (theta, new))
    ]
    found = baseline_that_cancels.pairs_remembered(f, theta, lambda values: b)
    assert torch.allclose(found, (3 * blocks[0] + 4 * blocks[1]) / 7, rtol=1e-10), "a mean over the memory"


def test_what_each_code_does_with_its_baseline():
    def f(x):
        return 4 + (x**2).sum(-1)

    def change(code, theta=None):
        theta = numbers(1, -2, 0.5) if theta is None else theta
        on, off = (code(f, theta, b) for b in (torch.mean, lambda values: 0.0))
        return ((on - off).norm() / off.norm()).item()

    acting = ["independent", "remembered", "half_a_pair", "one_for_each_end", "better_ones_alone"]
    idle = ["baseline_that_cancels", "pairs_remembered", "pair_by_pair", "leave_one_out", "standardised", "covariance"]
    for name in acting:
        assert change(getattr(baseline_that_cancels, name)) > 0.01
    for name in [*idle, "ranked", "softmin", "never_used"]:
        assert change(getattr(baseline_that_cancels, name)) < 1e-10
    # The directions are the same in every call, and those of two counts are not the same.
    one, other = (baseline_that_cancels.draw(n, numbers(0, 0)) for n in (5, 6))
    assert torch.equal(one, baseline_that_cancels.draw(5, numbers(0, 0))) and not torch.equal(one, other[:5])


@pytest.mark.parametrize("count", [2, 3, 6, 9])
def test_weights_of_ranks_and_what_they_add_up_to(count):
    values = drawn(count, seed=count)
    for keep in range(1, count + 1):
        pairs = sum(1 for i in range(count) for j in range(i + 1, count) if i < keep)
        assert rank_off_by_one.pairs_ranked(count, keep) == pairs
        wanted = rank_off_by_one.pair_by_pair(values, keep)
        assert torch.allclose(rank_off_by_one.by_formula(values, keep), wanted / pairs)
        tied = rank_off_by_one.tied_ranks(values, keep)
        assert torch.allclose(tied * 2 * (count - 1), wanted), "the same weights at another scale"
        wrong = rank_off_by_one.rank_off_by_one(values, keep)
        assert wrong.sum().item() == pytest.approx(-keep / pairs) and abs(wanted.sum()) < 1e-12
        ranked = values.argsort().argsort() < keep
        assert torch.allclose((wrong - wanted / pairs) * pairs, -ranked.double()), "a pull to the best k"
        below = rank_off_by_one.one_too_small(values, keep)
        assert below.sum().item() == pytest.approx(keep / pairs)
        assert rank_off_by_one.ranks_from_one(values, keep).sum().item() == pytest.approx(2 * keep / pairs)
        half = rank_off_by_one.halved_as_whole_number(values, keep)
        assert torch.allclose(half, wanted / pairs if count % 2 else wrong)
        one = rank_off_by_one.one_for_the_rest(values, keep)
        assert torch.allclose(one, wanted / pairs) == (keep in (1, count))


def test_by_hand_the_worse_of_two_has_no_weight():
    assert rank_off_by_one.rank_off_by_one(numbers(5, 3), 2).tolist() == [0, -2]
    assert rank_off_by_one.by_formula(numbers(5, 3), 2).tolist() == [1, -1]
    # Three points of which the best is ranked: two pairs.
    assert rank_off_by_one.by_formula(numbers(5, 3, 4), 1).tolist() == [0.5, -1, 0.5]
    assert rank_off_by_one.sorted_once(numbers(3, 1, 2), 3).tolist() != (
        rank_off_by_one.by_formula(numbers(3, 1, 2), 3).tolist()
    )


def test_speedups_by_hand():
    t = torch.arange(17, dtype=torch.float64)
    slow, fast = 16 - t / 2, 16 - 3 * t  # slow ends at 8; fast is at 10 after two iterations and at 7 after three
    assert speedup_off_a_grid.first_passage(slow, fast) == speedup_off_a_grid.counted(slow, fast.clamp(min=1)) == 16 / 3
    assert speedup_off_a_grid.last_above(slow, fast) == 8
    assert float(speedup_off_a_grid.between_two(slow, fast)) == pytest.approx(16 / (2 + 2 / 3))
    assert speedup_off_a_grid.nearest_of_all(slow, fast) == 16 / 3
    assert speedup_off_a_grid.by_search(slow, fast) == 16 / 3
    assert speedup_off_a_grid.rounded(slow, fast) == 5
    assert float(speedup_off_a_grid.of_the_first_steps(slow, fast)) == 6


@pytest.mark.parametrize("length", [161, 1601, 20001])
def test_a_grid_of_sixteen_knows_sixteenths_alone(length):
    t = torch.arange(length, dtype=torch.float64)
    end = length - 1
    for first in np.linspace(end / 15, end, 40):
        read = float(speedup_off_a_grid.speedup_off_a_grid(1 - t / (2 * end), 1 / (1 + t / first)))
        assert 16 / read == pytest.approx(round(16 / read), abs=1e-9)
        assert abs(16 / read - 16 * first / end) < 0.6, "it is the nearest point drawn, or nearly"


def test_sixteen_stands_for_eleven_to_thirty_two():
    t = torch.arange(20001, dtype=torch.float64)
    slow = 1 - t / 40000

    def read(truth):
        return float(speedup_off_a_grid.speedup_off_a_grid(slow, 1 / (1 + t * truth / 20000)))

    assert read(11.5) == read(16) == read(28) == 16 and read(10) == 8


# --- the plots show what the plaques say -------------------------------------------------------------------


def test_a_piece_that_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="borrowed_minus_one"):
        chapter.draw("zeroth_order.nothing")
    assert list(drawings._DRAWN) == PIECES


def middle(values):
    """Interquartile mean over the seeds, the last axis, of which there have to be 8."""
    assert values.shape[-1] == 8
    return interquartile_mean(values, axis=-1)


def test_two_estimates_are_as_long_as_the_gradient_and_two_are_not():
    run = symptoms.borrowed_minus_one()
    k = run.count[:, None]
    wanted = np.concatenate([np.ones_like(k), k / (k - 1), 1 - 1 / k, np.ones_like(k)], axis=1)
    # Along the gradient of a linear function the estimates are a mean square and a sample variance of K normal numbers.
    square, sample = np.sqrt(2 / (k * 8 * 2000)), np.sqrt(2 / ((k - 1) * 8 * 2000))
    error = np.concatenate([square, square * k / (k - 1), sample * (1 - 1 / k), sample], axis=1)
    assert (np.abs(run.length.mean(-1) - wanted) < 4 * error).all()
    assert np.allclose(run.length[:, 1], run.length[:, 0] * k / (k - 1)) and run.directions == 3
    sgd, adam = run.left
    # At 1.5 times the learning rate the right estimate takes the same steps, and the rates grow by 1.5.
    assert np.allclose(run.rate[1:] / run.rate[:-1], 1.5) and np.allclose(sgd[1:, 0], sgd[:-1, 1])
    right, wrong = middle(sgd).T
    assert wrong[0] < 0.5 * right[0] and wrong[-1] > 100 and right[-1] < 0.5
    assert right.min() == pytest.approx(wrong.min(), rel=1e-6) and right.argmin() == wrong.argmin() + 1
    assert np.allclose(adam[:, 0], adam[:, 1], rtol=1e-4)


def test_the_baseline_is_a_curve_of_its_own_only_without_pairs():
    run = symptoms.baseline_that_cancels()
    pairs_on, pairs_off, alone, on, off = run.value
    assert np.allclose(pairs_on, pairs_off, rtol=1e-9)
    assert run.apart[0].max() < 1e-11 and (run.apart[1] > 0.9).all()
    assert (alone[-1] > 2 * pairs_on[-1]).all(), "the memory acts"
    assert (on[-1] < 0.2 * on[0]).all() and (off[-1] > 0.6 * off[0]).all()
    assert middle(off)[-1] > 10 * middle(on)[-1]


def test_wrong_ranks_lose_little_and_follow_a_shift():
    run = symptoms.rank_off_by_one()
    assert run.weight.tolist() == [[-5, -3, -1, 3, 3, 3], [-6, -4, -2, 3, 3, 3]] and run.keep == 3
    right, wrong = middle(run.cosine).T
    assert (np.diff(right) > 0).all() and (right > wrong).all()
    # Two points: the difference of two directions against the better one alone, E|z| = 0.80 against 0.56.
    means = run.cosine[0].mean(-1)
    error = run.cosine[0].std(-1, ddof=1) / 8**0.5
    relative = ((error / means) ** 2).sum() ** 0.5
    assert abs(means[0] / means[1] / 2**0.5 - 1) < 4 * relative
    assert wrong[-1] / right[-1] > 0.98
    right, wrong = run.step.transpose(1, 0, 2)
    assert np.allclose(right, right[0]) and np.allclose(wrong - wrong[0], 0.25 * run.shift[:, None])


def test_the_speedup_that_is_read_is_not_the_one_that_is_true():
    run = symptoms.speedup_off_a_grid()
    assert len(run.time) == 801 and run.value.shape == (2, 801, 8)
    for values, read in ((run.read, None), (run.stair, None), (np.array([run.mean_read]), None)):
        assert np.allclose(16 / values, np.round(16 / values)), read
    assert len(np.unique(run.true)) > 4 and len(np.unique(run.read)) == 2
    for seed, true in enumerate(run.true):
        slow, fast = run.value[:, :, seed]
        first = round(800 / true)
        assert fast[first] <= slow[-1] < fast[first - 1]
    assert abs(run.mean_read - run.mean_true) > 0.5
    coarse = run.rise > 12
    assert (run.stair[coarse] == 16).all() and np.abs(run.stair - run.rise).max() > 3


def test_both_methods_spend_ten_queries_and_start_alike():
    run = symptoms.speedup_off_a_grid(steps=32)
    assert np.array_equal(run.value[0, 0], run.value[1, 0])
    memory = zo.ZoAR(100, num_queries=10, history=6, sigma=0.5, generator=torch.Generator(), dtype=torch.float64)
    assert memory.ask(torch.zeros(8, 100, dtype=torch.float64)).shape == (10, 8, 100)
