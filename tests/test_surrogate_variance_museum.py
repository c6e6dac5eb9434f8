"""The museum of chapter 3: complete plaques, wrong code that is wrong, good judges, plots that show what is said."""

import math
import re

import numpy as np
import pytest
import torch
from helpers import matrix, verdict_on

from pocourse.lesson import exercises, museum
from pocourse.lesson.bands import interquartile_mean
from pocourse.surrogate_variance import bounds
from pocourse.surrogate_variance import museum as chapter
from pocourse.surrogate_variance.museum import (
    drawings,
    frozen_denominator,
    std_called_variance,
    symptoms,
    unbias_that_biases,
    weights_as_a_column,
)

PIECES = ["unbias_that_biases", "std_called_variance", "frozen_denominator", "weights_as_a_column"]

# Which properties kill which wrong answer, the properties in their order: x kills, . does not.
KILLS = {
    "unbias_that_biases": {
        "always_true": "...xxxxx",
        "random_batch": ".xx.....",
        "advantages_not_centred": ".x......",
        "ratios_of_one": "...xxxxx",
        "near_one": "...xxxxx",
        "up_to_two": "....x.x.",
        "weights_average_to_one": ".x.....x",
        "roughly": "......x.",
        "sampled": ".xx..xx.",
        "every_sample_counts": ".....xx.",
        "to_the_last_digit": "xxx.....",
    },
    "std_called_variance": {
        "always_true": "..xxxx",
        "always_false": "xx....",
        "scale_alone": "...x.x",
        "shift_alone": "..x.xx",
        "scale_and_shift": ".....x",
        "two_values": ".....x",
        "round_zero": "...x..",
        "unit_variance": "..xx..",
        "divided_by_n_only": "x.....",
        "one_list": "..xxxx",
    },
    "frozen_denominator": {
        "always_true": "..xxxxx",
        "equal_weights": "xxx.xx.",
        "rewards_of_zero": "..xxxxx",
        "constant_rewards": ".....xx",
        "exactly_zero": "xx.....",
        "small_enough": "...x...",
        "shift_alone": ".....xx",
        "zero_weight_alone": "..xxxxx",
        "weights_scaled": "..xx.x.",
        "delta_method_to_the_digit": "xx.....",
        "width_forgotten": "......x",
    },
    "weights_as_a_column": {
        "always_true": ".xxxx",
        "flat_only": ".xx..",
        "column_only": "..x..",
        "one_sequence": ".xxxx",
        "all_valid": "..xx.",
        "equal_weights": "..xx.",
        "masked_at_the_mean": "..xx.",
        "below_the_largest": "..xx.",
        "shapes_agree": "...xx",
        "a_finite_number": ".xxxx",
        "divided_by_b": "x..x.",
        "to_the_last_digit": "x....",
        "within_a_half": "..xx.",
    },
}


def piece(name):
    return museum.find(f"surrogate_variance.{name}")


def task(name):
    return exercises.find(piece(name).exercise)


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


# --- plaques ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PIECES)
def test_a_piece_names_its_file(name):
    assert re.search(r"`[\w/]+\.(py|ipynb)`", piece(name).published)


def test_the_tour_has_four_pieces():
    mine = [id for id, found in museum.registry().items() if found.chapter == "surrogate_variance"]
    assert mine == [f"surrogate_variance.{name}" for name in PIECES]


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


@pytest.mark.slow
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


@outside("unbias_that_biases", "says False to rA − c(r − 1) with c = 2, which is right: E[r] = 1 is known")
def two_samples_with_any_ratios(estimate):
    return bool(torch.isclose(estimate(numbers(0.3, 1.1), numbers(1, -1)), numbers(0.3, -1.1).mean()))


@outside("unbias_that_biases", "which changes nothing until a ratio is that small")
def nothing_below_a_third(estimate):
    ratio, advantage = numbers(0.4, 0.5, 0.9, 1.0, 3.2, 0.4, 0.6), numbers(1, -2, 3, 0.5, -1, -2.5, 1)
    return bool(torch.isclose(estimate(ratio, advantage), (ratio * advantage).mean()))


@right("unbias_that_biases")
def a_world_of_six_actions(estimate):
    ratio, advantage = numbers(0.1, 0.2, 0.7, 1.05, 3.35, 0.6), numbers(1, -2, 3, 0.5, -1, -1.5)
    return bool(torch.isclose(estimate(ratio, advantage), (ratio * advantage).mean()))


@outside("std_called_variance", "which changes when a number is added to all values")
def a_sum_of_squares(measure):
    return bool(torch.isclose(measure(numbers(3, -3)), 9 * measure(numbers(1, -1))))


@outside("std_called_variance", "says False to `values.var()`, which divides by n − 1")
def one_for_one_and_minus_one(measure):
    return bool(torch.isclose(measure(numbers(4, 6)), numbers(1)[0]))


@right("std_called_variance")
def a_straight_line_and_a_spike(measure):
    line, spike = measure(numbers(1, 2, 3, 4, 5)), measure(numbers(1, 1, 1, 1, 11))
    return bool(torch.isclose(spike, 8 * line)) and bool(torch.isclose(measure(numbers(0, 0, 0, 0, 1)), spike / 100))


@outside("frozen_denominator", "in which a sample of weight zero counts like any other")
def rewards_of_four(error):
    weight = torch.linspace(0.1, 3, 30).double()
    return bool(error(weight, 0 * weight + 4) < 1e-9) and bool(error(weight, weight) > 0)


@outside("frozen_denominator", "says True to an error of 0, though the rewards differ")
def alike_where_weight_is(error):
    weight, reward = numbers(0, 1, 2, 3, 4, 5), numbers(7, 2, 2, 2, 2, 2)
    return bool(error(weight, reward) < 1e-9)


@right("frozen_denominator")
def alike_where_weight_is_and_not(error):
    weight, reward = numbers(0, 1, 2, 3, 4, 5), numbers(7, 2, 2, 2, 2, 2)
    return bool(error(weight, reward) < 1e-9) and bool(error(weight, numbers(7, 1, 2, 3, 4, 5)) > 0.01)


@outside("weights_as_a_column", "B times too large for [B]")
def a_column_of_two(mean):
    return math.isclose(mean(numbers(1, 3).unsqueeze(1), numbers(1, 0)), 1)


@right("weights_as_a_column")
def two_of_three(mean):
    mask = torch.tensor([True, False, True])
    return all(math.isclose(mean(numbers(1, 50, 3).reshape(shape), mask), 2) for shape in ((3,), (3, 1)))


@pytest.mark.parametrize(("name", "run", "phrase"), OUTSIDE)
def test_a_useless_property_from_outside_hears_what_escapes_it(name, run, phrase):
    verdict = exercises.judge(piece(name).exercise, run)
    assert verdict.state == "wrong" and not verdict.message
    assert phrase in "\n".join(result.message for result in verdict.results)


@pytest.mark.parametrize(("name", "run"), RIGHT)
def test_a_right_property_from_outside_passes(name, run):
    verdict = exercises.judge(piece(name).exercise, run)
    assert verdict.right, [verdict.message, *(result.message for result in verdict.results if not result.held)]


# --- the suspects are what they are said to be ----------------------------------------------------------------


def test_the_log_symmetric_dropout_by_hand():
    # Kept are 0.9 and 1.1, not 0.79 and 1.26: the mean of 0.9 and 2.2 for the truth of (0.79 - 2.52 + 0.9 + 2.2) / 4.
    ratio, advantage = numbers(0.79, 1.26, 0.9, 1.1), numbers(1, -2, 1, 2)
    assert unbias_that_biases.unbias_that_biases(ratio, advantage).item() == pytest.approx(1.55)
    assert unbias_that_biases.plain_mean(ratio, advantage).item() == pytest.approx(0.3425)
    # 0.79 is where the two dropouts differ: 1/1.25 = 0.8, and |0.79 - 1| < 0.25.
    assert unbias_that_biases.ratio_dropout(ratio, advantage).item() == pytest.approx((0.79 + 0.9 + 2.2) / 3)
    # Where nothing is kept, everything is.
    assert unbias_that_biases.unbias_that_biases(numbers(0.5, 1.5), numbers(1, 1)).item() == pytest.approx(1)


def test_the_log_symmetric_dropout_of_a_small_policy_has_another_mean_of_the_ratios():
    old, new = numbers(0.4, 0.4, 0.2), numbers(0.34, 0.48, 0.18)
    ratio = new / old  # 0.85, 1.2 and 0.9: all are kept, and their mean is 1
    batch = ratio.repeat_interleave(torch.tensor([4, 4, 2]))
    assert unbias_that_biases.unbias_that_biases(batch, torch.ones(10).double()).item() == pytest.approx(1)
    old, new = numbers(0.4, 0.4, 0.2), numbers(0.34, 0.36, 0.30)
    batch = (new / old).repeat_interleave(torch.tensor([4, 4, 2]))  # 0.85, 0.9 and 1.5, which is dropped
    assert unbias_that_biases.unbias_that_biases(batch, torch.ones(10).double()).item() == pytest.approx(0.875)


def test_estimates_that_are_cleared_are_right_in_the_limit_and_biased_in_small_batches():
    generator = torch.Generator().manual_seed(0)
    old, ratio, advantage = numbers(0.5, 0.3, 0.2), numbers(0.4, 1.0, 2.5), numbers(1.0, -3.0, 2.0)
    assert (old @ ratio).item() == pytest.approx(1) and (old @ advantage).item() == pytest.approx(0)
    truth = (old @ (ratio * advantage)).item()
    drawn = torch.multinomial(old.float(), 20000 * 4, replacement=True, generator=generator).reshape(20000, 4)
    means = {}
    for code in (unbias_that_biases.self_normalised, unbias_that_biases.plain_mean):
        found = torch.stack([code(ratio[d], advantage[d]) for d in drawn])
        means[code] = (found.mean().item() - truth) / (found.std().item() / 20000**0.5)
    assert abs(means[unbias_that_biases.plain_mean]) < 4, "no bias at n = 4"
    assert abs(means[unbias_that_biases.self_normalised]) > 4, "and a bias that many batches show"
    many = torch.multinomial(old.float(), 10**6, replacement=True, generator=generator)
    error = 4 * math.sqrt(bounds.surrogate_variance(old, ratio, advantage).item() / 10**6)
    for code in (
        unbias_that_biases.self_normalised,
        unbias_that_biases.fitted,
        unbias_that_biases.put_back,
        unbias_that_biases.controlled(2.0),
    ):
        assert abs(code(ratio[many], advantage[many]).item() - truth) < 2 * error


def test_standard_deviation_and_variance_by_hand():
    values = numbers(1, 1, 1, 9)  # mean 3, deviations -2, -2, -2, 6
    assert std_called_variance.std_called_variance(values).item() == pytest.approx(12**0.5)
    for code in (
        std_called_variance.variance_over_n,
        std_called_variance.objective_std,
        std_called_variance.of_all_pairs,
        std_called_variance.one_by_one,
    ):
        assert code(values).item() == pytest.approx(12)
    assert std_called_variance.of_the_mean(values).item() == pytest.approx(16 / 4)


def test_the_frozen_error_is_the_plain_one_over_the_mean_weight():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(50, generator=generator).double().exp()
    reward = torch.rand(50, generator=generator).double()
    plain = frozen_denominator.plain_bootstrap(weight, reward)
    assert torch.isclose(frozen_denominator.frozen_denominator(weight, reward), plain / weight.mean())


def test_errors_of_the_ratio_agree_with_one_another_and_with_many_batches():
    weight, reward = symptoms.logged(400)
    truth = ((weight * (reward + 1)).sum(-1) / weight.sum(-1)).std(-1).mean().item()
    w, r = weight[0, :40], reward[0, :40] + 1
    for code in (
        frozen_denominator.delta_method,
        frozen_denominator.jackknife,
        frozen_denominator.bootstrap_of_pairs,
        frozen_denominator.bayesian_bootstrap,
    ):
        found = torch.stack([code(*row) for row in zip(w, r, strict=True)]).mean().item()
        assert found == pytest.approx(truth, rel=0.1)
    frozen = torch.stack([frozen_denominator.frozen_formula(*row) for row in zip(w, r, strict=True)]).mean().item()
    assert frozen > 5 * truth


def test_the_delta_method_by_hand():
    # V = (1 + 3) / 3 = 4/3: deviations w (r - V) of 1 (1 - 4/3) and 2 (1.5 - 4/3), and 3 in the denominator.
    found = frozen_denominator.delta_method(numbers(1, 2), numbers(1, 1.5))
    assert found.item() == pytest.approx(math.sqrt(2) / 9)


def test_most_heavy_tailed_batches_have_a_mean_weight_below_one():
    weight = (1.5 * torch.randn(4000, 50, generator=torch.Generator().manual_seed(0)) - 1.5**2 / 2).exp()
    assert ((weight.mean(-1) < 1).double().mean() - 0.5).item() > 4 * 0.5 / 4000**0.5


def test_column_times_row_is_the_sum_of_all_weights_whatever_the_mask():
    weight = numbers(0.5, 2, 4)
    for mask in (numbers(1, 1, 1), numbers(1, 0, 1), numbers(0, 0, 1)):
        found = weights_as_a_column.weights_as_a_column(weight.unsqueeze(1), mask)
        assert found.item() == pytest.approx(6.5)
        assert weights_as_a_column.weights_as_a_column(weight, mask).item() == pytest.approx(
            (weight @ mask / mask.sum()).item()
        )


# --- the plots show what the plaques say -------------------------------------------------------------------


def test_a_piece_that_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="unbias_that_biases"):
        chapter.draw("surrogate_variance.nothing")
    assert list(drawings._DRAWN) == PIECES


def middle(values):
    """Interquartile mean over the seeds, the last axis, of which there have to be 8."""
    assert values.shape[-1] == 8
    return interquartile_mean(values, axis=-1)


def test_dropouts_tend_to_another_value_and_win_in_small_batches_only():
    run = symptoms.unbias_that_biases()
    assert np.allclose(run.limit[0], run.tilt) and np.allclose(run.kept_ratio[0], 1)
    assert np.allclose(run.kept_ratio[2], 1), "in this symmetric world the name is half a truth"
    far = run.tilt > 0.2
    assert (run.limit[1:, far] < 0.8 * run.tilt[far]).all() and (run.limit[2] >= run.limit[1] - 1e-9).all()
    assert (run.kept_ratio[1, far] < 0.99).all()
    plain, dropout, unbias = middle(run.error).T
    assert unbias[0] < plain[0] and unbias[-1] > 4 * plain[-1]
    bias = run.at - np.array(symptoms.limits(run.at)[0])
    assert dropout[-1] == pytest.approx(bias[1], rel=0.02) and unbias[-1] == pytest.approx(bias[2], rel=0.02)
    # The mean's error is exact: Var[rA] = e^{t²} (1 + 4t²) - t² here.
    t = run.at
    exact = math.sqrt((math.exp(t**2) * (1 + 4 * t**2) - t**2) / run.size[-1])
    assert run.error[-1, 0].mean() == pytest.approx(exact, rel=4 / math.sqrt(2 * 800))


@pytest.mark.parametrize("tilt", [0.1, 0.5, 1.0])
def test_the_limits_are_those_of_large_batches(tilt):
    advantage = torch.randn(10**6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ratio = symptoms.tilted_ratio(advantage, tilt)
    means, ratios = symptoms.limits(tilt)
    keeps = {
        unbias_that_biases.plain_mean: torch.ones_like(ratio).bool(),
        unbias_that_biases.ratio_dropout: (ratio - 1).abs() < 0.25,
        unbias_that_biases.unbias_that_biases: (ratio > 0.8) & (ratio < 1.25),
    }
    for (code, keep), mean, kept in zip(keeps.items(), means, ratios, strict=True):
        x = (ratio * advantage)[keep]
        assert abs(code(ratio, advantage).item() - mean) < 4 * x.std().item() / len(x) ** 0.5
        assert abs(ratio[keep].mean().item() - kept) < 4 * ratio[keep].std().item() / len(x) ** 0.5


def test_five_samples_with_b_are_worth_twelve_and_a_half():
    run = symptoms.std_called_variance()
    saved, believed = run.saved
    assert saved == pytest.approx(2.5) and believed == pytest.approx(1.58, abs=0.002)
    at = np.flatnonzero(np.isclose(run.correlation, 0.8))[0]
    assert run.variance[at] == pytest.approx(0.4) and run.printed[at] == pytest.approx(0.632, abs=0.001)
    assert run.best[at] == pytest.approx(0.36)
    half = np.isclose(run.correlation, 0.5)
    assert np.allclose(run.variance[half], 1) and (run.variance[run.correlation < 0.495] > 1).all()
    assert (run.best <= 1).all() and (run.best <= run.variance + 1e-12).all()
    for index, variance in enumerate((1, 0.4)):
        exact = np.sqrt(variance / run.size)
        # The error of a standard deviation over 8 x 2000 batches, relative to it.
        assert np.allclose(run.error[:, index].mean(-1), exact, rtol=4 / math.sqrt(2 * 16000))


def test_the_frozen_error_grows_with_the_rewards_and_the_ratio_does_not_care():
    run = symptoms.frozen_denominator()
    truth, pairs, frozen = run.error.transpose(1, 0, 2)
    assert np.allclose(truth, truth[0]) and np.allclose(pairs, pairs[0])
    assert middle(pairs[0]) == pytest.approx(middle(truth[0]), rel=0.15)
    assert middle(frozen)[0] < 1.3 * middle(truth)[0] and middle(frozen)[-1] > 30 * middle(truth)[-1]
    assert (np.diff(middle(frozen)) > 0).all()
    pairs, frozen = run.half
    assert (np.abs(run.value - run.truth) < pairs).all() and (np.abs(run.value - run.truth) < frozen).all()
    assert len(run.value) == 16 and (frozen > 4 * pairs).all()


def test_the_metric_is_the_size_of_the_batch():
    run = symptoms.weights_as_a_column()
    assert np.allclose(run.metric[:, 1], run.size[:, None] * run.metric[:, 0], rtol=1e-5)
    assert np.allclose(run.metric[0, 0], run.metric[0, 1]), "a batch of one shows nothing"
    # Ratios of mean 1 and variance e^{0.09} - 1, 50 batches a seed.
    error = np.sqrt(math.expm1(0.09) / (8 * 50 * run.size))
    assert (np.abs(run.metric[:, 0].mean(-1) - 1) < 4 * error).all()
    assert run.product.shape == (4, 4) and (run.product[:, 2] == 0).all()
    assert np.trace(run.product) / 3 == pytest.approx(3.2 / 3) and run.product.sum() / 3 == pytest.approx(3.9)
