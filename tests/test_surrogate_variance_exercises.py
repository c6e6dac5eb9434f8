"""The exercises of chapter 3: what their properties kill, what they let through, and what they say."""

import inspect
import re
import time

import pytest
import torch
from helpers import verdict_on

import pocourse.surrogate_variance.exercises  # noqa: F401 (registers them)
from pocourse.lesson import cards, exercises
from pocourse.surrogate_variance import bounds, estimators

VARIANCE, SIZE, DROPOUT, CONTROL = IDS = [
    f"surrogate_variance.{name}"
    for name in ("surrogate_variance", "effective_sample_size", "sign_dropout", "control_variate")
]

# Which properties kill which wrong answer, the properties in their order: x kills, . does not.
KILLS = {
    VARIANCE: {
        "square_of_the_mean_forgotten": ".xxxxxxx..",
        "variance_under_the_new_policy": "..xxxxxx..",
        "weighted_by_the_new_policy": "...xxxxx..",
        "advantage_not_squared": ".xxxxxxx.x",
        "sample_variance": ".x.xxxxxx.",
        "equal_weights": ".x..xxxxx.",
        "standard_deviation": ".x.xxxxx.x",
        "plain_mean_in_the_middle": ".x..xxxxx.",
        "centred_at_the_mean_advantage": "..xxxxxx..",
        "probability_inside_the_square": ".xx.xxxxx.",
        "divided_by_the_number_of_actions": ".x.xxxxxx.",
        "variance_of_the_ratio": ".xxxxxxx.x",
        "one_mean_for_all_states": "x.........",
        "summed_over_the_states": "x.........",
        "ratio_held_down": "......x...",
        "rare_actions_left_out": "......x...",
        "single_precision_inside": ".......x..",
        "given_up_actions_left_out": "...x......",
    },
    SIZE: {
        "exp_first": ".......x.x.",
        "ratio_of_probabilities": ".......xxx.",
        "each_policy_on_its_own_scale": "........x..",
        "number_for_fraction": ".xxxxx.xxxx",
        "upside_down": "..xxx..xxxx",
        "sum_not_squared": ".xxxxxxxxxx",
        "mean_taken_for_one": ".xxxx.xxxxx",
        "variance_not_in_units_of_the_mean": "..xxx.xxxxx",
        "n_minus_one": "..xxxx.xxxx",
        "old_and_new_swapped": "..xxx..xx..",
        "all_batches_together": "x........xx",
        "mean_over_the_batches": "x........xx",
        "numel_for_n": "x........xx",
        "first_axis_for_n": "x.........x",
        "one_maximum_for_all": ".........x.",
        "mean_subtracted": ".......x...",
        "log_ratio_clipped": ".......x.x.",
        "logarithm_returned": ".xxxx..xxxx",
        "perplexity": "..xx...xxx.",
        "largest_weight": "..xx...xxx.",
    },
    DROPOUT: {
        "both_classes_together": ".x..xxxx.xx..",
        "argsort_for_ranks": "..x.xxxxx.x.x",
        "drops_the_largest": "..xxxxxxxxxx.",
        "ranked_by_magnitude": "...xxxxxxxxx.",
        "ranked_by_advantage": "...xxx.x..x..",
        "ranked_by_ratio": "..xxxxxxxxxx.",
        "furthest_from_one": "..xxxx.xxxxx.",
        "rounded_up": ".....x.......",
        "rounded_down": ".....xxxx....",
        "zero_among_the_negative": "......x......",
        "zero_in_neither_class": "......x......",
        "class_by_the_sign_of_x": ".......x.....",
        "share_of_the_whole_batch": ".x..xxxx.xx..",
        "share_halved": "..xx.x..x..x.",
        "true_for_dropped": "xxxxxxxxxxxx.",
        "share_kept": "xxxxxxxxxxxx.",
        "only_the_good_thinned": ".x.xxxxxxxxx.",
        "only_the_bad_thinned": ".xx.xxxxxxxx.",
        "at_random": "..x.xx.xxx.xx",
        "quantile": ".....x.....x.",
        "never_the_last_one": ".....x.......",
        "padded_with_a_constant": "..........x..",
        "empty_class_forgotten": "..xx....x..x.",
        "positions_for_a_mask": "xxxxxxxxxxxxx",
        "numbers_for_a_mask": "xxxxxxxxxxxxx",
    },
    CONTROL: {
        "zero_over_zero": "..x.....x...",
        "no_control": "...xxxxxxx..",
        "self_normalised": "....xxxxx...",
        "one_forgotten": ".x.xxxxxxx..",
        "sign_turned": "...xxxxxxx..",
        "coefficient_one": "...xxxxxxxx.",
        "mean_advantage_for_c": "....xxxxx...",
        "divided_by_the_variance_of_x": "...xxxxxxxx.",
        "correlation_for_c": "...xxxxxxxx.",
        "standard_deviation_below": "...xxxxxxx..",
        "covariance_with_the_advantage": "...xxxxxxx..",
        "line_through_the_origin": "....xxxxx...",
        "variance_around_one": "...xxxxxxx..",
        "both_around_one": "...xxxxxxx..",
        "variance_with_n_minus_one": "...xxxxxxx.x",
        "covariance_with_n_minus_one": "...xxxxxxx.x",
        "one_coefficient_for_all_batches": "x.......x...",
        "one_slope_for_all_batches": "x.......x...",
        "one_value_per_sample": "xxxxxxxxxxxx",
        "zero_for_equal_ratios": "..x.....x...",
        "one_equal_batch_for_all": "........x...",
        "coefficient_held_down": "..........x.",
        "variance_padded": "...xxxxxxx..",
    },
}


def test_the_exercises_come_in_the_order_of_the_chapter():
    mine = [exercises.find(id) for id in exercises.registry() if id in IDS]
    assert [found.id for found in mine] == IDS
    assert [found.section for found in mine] == ["1", "1", "4", "6"]


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


@pytest.mark.parametrize("id", IDS)
def test_the_solution_is_right_and_quickly_judged(id):
    begun = time.perf_counter()
    verdict = exercises.judge(id, exercises.solved(exercises.find(id)))
    assert verdict.right
    assert time.perf_counter() - begun < 1


def test_the_solutions_agree_with_the_functions_of_the_package():
    generator = torch.Generator().manual_seed(3)
    old, new = (torch.rand(6, 5, 4, generator=generator, dtype=torch.float64).softmax(-1) for _ in range(2))
    ratio, advantage = new / old, torch.randn(6, 5, 4, generator=generator, dtype=torch.float64)
    solved = {id: exercises.solved(exercises.find(id)) for id in IDS}
    torch.testing.assert_close(
        solved[VARIANCE](old, ratio, advantage), bounds.surrogate_variance(old, ratio, advantage)
    )
    even = torch.full_like(old, 0.25)  # a batch is a population in which each sample is as likely as the next
    torch.testing.assert_close(solved[SIZE](new.log(), old.log()), bounds.effective_sample_size(even, ratio))
    torch.testing.assert_close(solved[CONTROL](ratio, advantage), estimators.controlled_mean(ratio, advantage))
    flat = ratio.reshape(-1), advantage.reshape(-1)
    for share in (0.0, 0.13, 0.37, 0.99):
        wanted = estimators.sign_dropout_mask(*flat, drop_fraction=share)
        assert torch.equal(solved[DROPOUT](*flat, share), wanted)


@pytest.mark.parametrize("id", IDS)
def test_an_answer_that_spoils_its_inputs_does_no_harm_to_the_next(id):
    def spoils(one, other, *rest, **options):
        return one.mul_(0)

    verdict = exercises.judge(id, spoils)
    assert verdict.state == "wrong" and "changes its input" in verdict.message
    assert exercises.judge(id, exercises.solved(exercises.find(id))).right


def test_kish_s_fraction_is_one_over_one_plus_the_relative_variance_and_blind_to_what_was_never_drawn():
    size = exercises.solved(exercises.find(SIZE))
    logp, logp_old = torch.randn(2, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ratio = (logp - logp_old).exp()
    torch.testing.assert_close(size(logp, logp_old), 1 / (1 + ratio.var(correction=0) / ratio.mean() ** 2))
    # All of the batch became half as likely: what became likelier is not in it.
    assert size(logp_old - 0.7, logp_old).item() == pytest.approx(1)


def test_dividing_by_the_mean_ratio_takes_its_own_answer_for_the_coefficient():
    ratio, x = torch.rand(2, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    divided = x.mean() / ratio.mean()
    torch.testing.assert_close(x.mean() - divided * (ratio.mean() - 1), divided)


# ---------------------------------------------------------------- wrong answers from outside

OUTSIDE = []


def outside(id, phrase):
    """A wrong answer that is none of the mutants, and words that must be among those it gets."""

    def add(run):
        OUTSIDE.append(pytest.param(id, run, phrase, id=f"{id.split('.')[1]}-{run.__name__}"))
        return run

    return add


def spread(prob, x):
    """The weighted variance, for answers that are wrong elsewhere."""
    mean = (prob * x).sum(-1, keepdim=True)
    return (prob * (x - mean) ** 2).sum(-1)


@outside(VARIANCE, "your variance is 8.609, and it must be 3.96. At r = 1 the two policies are one")
def unbiased_for_weights(prob_old, ratio, advantage):
    return spread(prob_old, ratio * advantage) / (1 - (prob_old**2).sum(-1))


@outside(VARIANCE, "your variance is 3.8, and it must be 3.96")
def mean_not_squared(prob_old, ratio, advantage):
    x = ratio * advantage
    return (prob_old * x**2).sum(-1) - (prob_old * x).sum(-1)


@outside(VARIANCE, "By hand: L = 0.25 × 6 − 0.75 × 1 = 0.75")
def absolute_deviation(prob_old, ratio, advantage):
    x = ratio * advantage
    return (prob_old * (x - (prob_old * x).sum(-1, keepdim=True)).abs()).sum(-1)


@outside(VARIANCE, "that is x = (6, −1), your variance is 4.688, and it must be 9.188")
def absolute_advantage(prob_old, ratio, advantage):
    return spread(prob_old, ratio * advantage.abs())


@outside(VARIANCE, "where x = r A is 3 for every action, your variance is 1.96, and it must be 0")
def advantage_alone(prob_old, ratio, advantage):
    return spread(prob_old, advantage)


@outside(VARIANCE, "x is 0, which is 3 away from L = 3. The ratio enters x, and weighs nothing else")
def new_policy_in_the_mean(prob_old, ratio, advantage):
    x = ratio * advantage
    return (prob_old * (x - (prob_old * ratio * x).sum(-1, keepdim=True)) ** 2).sum(-1)


@outside(VARIANCE, "your variance is 2.0, and it must be 79984")
def surrogate_held_down(prob_old, ratio, advantage):
    return spread(prob_old, (ratio * advantage).clamp(-100, 100))


@outside(VARIANCE, "A variance is in squared units of A")
def relative_variance(prob_old, ratio, advantage):
    x = ratio * advantage
    return spread(prob_old, x) / (prob_old * x).sum(-1) ** 2


@outside(VARIANCE, "Only the last axis, that of the actions, is summed away")
def first_axis(prob_old, ratio, advantage):
    x = ratio * advantage
    return (prob_old * (x - (prob_old * x).sum(0)) ** 2).sum(0)


@outside(VARIANCE, "turned torch.float32 into torch.float64")
def always_double(prob_old, ratio, advantage):
    return spread(prob_old.double(), ratio * advantage)


@outside(VARIANCE, "a mean over the last axis, that of the actions, is still missing, or an axis was kept")
def axis_kept(prob_old, ratio, advantage):
    return spread(prob_old, ratio * advantage).unsqueeze(-1)


@outside(VARIANCE, "has the variance 3.04 by itself and 12.16 beside three others")
def times_the_states(prob_old, ratio, advantage):
    x = ratio * advantage
    return spread(prob_old, x) * (len(x) if x.dim() > 1 else 1)


HELD_DOWN = "and it must be 79984. By hand: one draw in five thousand brings 20000"


@outside(VARIANCE, HELD_DOWN)
def surrogate_within_a_thousand(prob_old, ratio, advantage):
    return spread(prob_old, (ratio * advantage).clamp(-1e3, 1e3))


@outside(VARIANCE, HELD_DOWN)
def ratio_within_five_hundred(prob_old, ratio, advantage):
    return spread(prob_old, ratio.clamp(max=500) * advantage)


@outside(VARIANCE, "and it must be 79999984. By hand: one draw in five million brings 20000000")
def surrogate_within_a_million(prob_old, ratio, advantage):
    return spread(prob_old, (ratio * advantage).clamp(-1e6, 1e6))


@outside(VARIANCE, "nothing is held down, and no action is too rare to count")
def below_a_millionth_left_out(prob_old, ratio, advantage):
    x = ratio * advantage
    mean = (prob_old * x).sum(-1, keepdim=True)
    return torch.where(prob_old < 1e-6, 0.0, prob_old * (x - mean) ** 2).sum(-1)


@outside(VARIANCE, "has the variance 141.1 in tensors of shape [2, 1, 2, 3]")
def four_axes_mixed_up(prob_old, ratio, advantage):
    value = spread(prob_old, ratio * advantage)
    return value.flip(0) if value.dim() > 2 else value


SINGLE = "The first digits are right, and the others lost: somewhere inside is single precision"


@outside(VARIANCE, SINGLE)
def weights_in_single_precision(prob_old, ratio, advantage):
    return spread(prob_old.float().to(ratio.dtype), ratio * advantage)


@outside(VARIANCE, SINGLE)
def mean_in_single_precision(prob_old, ratio, advantage):
    x = ratio * advantage
    mean = (prob_old * x).float().sum(-1, keepdim=True).to(x.dtype)
    return (prob_old * (x - mean).float() ** 2).sum(-1).to(x.dtype)


def kish(log_ratio):
    ratio = (log_ratio - log_ratio.amax(-1, keepdim=True)).exp()
    return ratio.sum(-1) ** 2 / (ratio.shape[-1] * (ratio**2).sum(-1))


@outside(SIZE, "for the ratios (0.5, 0.5, 0.5) your fraction is 0.8, and it must be 1")
def chi_square_around_one(logp, logp_old):
    return 1 / (1 + (((logp - logp_old).exp() - 1) ** 2).mean(-1))


@outside(SIZE, "for the log-ratios (−800, 0, 800, 800) your fraction is 0, and it must be 0.5")
def nan_hidden(logp, logp_old):
    ratio = (logp - logp_old).exp()
    return torch.nan_to_num(ratio.sum(-1) ** 2 / (ratio.shape[-1] * (ratio**2).sum(-1)))


@outside(SIZE, "bring the log-ratios to a common scale before you take `exp`")
def first_sample_subtracted(logp, logp_old):
    log_ratio = logp - logp_old
    ratio = (log_ratio - log_ratio[..., :1]).exp()
    return ratio.sum(-1) ** 2 / (ratio.shape[-1] * (ratio**2).sum(-1))


@outside(SIZE, "for the ratios (1, 1, 1, 1, 1) your fraction is 0.9805, and it must be 1")
def old_policy_forgotten(logp, logp_old):
    return kish(logp)


@outside(SIZE, "for the ratios (1, 1, 4) your fraction is 0.8889, and it must be 0.6667")
def half_the_power(logp, logp_old):
    log_ratio = logp - logp_old
    return (2 * (log_ratio / 2).logsumexp(-1) - log_ratio.logsumexp(-1)).exp() / log_ratio.shape[-1]


@outside(SIZE, "for the ratios (0.5, 0.5, 0.5) your fraction is 0.1546, and it must be 1")
def log_ratio_squared(logp, logp_old):
    log_ratio = logp - logp_old
    return (2 * log_ratio.logsumexp(-1) - (log_ratio**2).logsumexp(-1)).exp() / log_ratio.shape[-1]


@outside(SIZE, "for the ratios (1, 1, 1, 1, 1) your fraction is 1.25, and it must be 1")
def one_sample_less(logp, logp_old):
    return kish(logp - logp_old) * logp.shape[-1] / (logp.shape[-1] - 1)


@outside(SIZE, "for the ratios (1, 4) your fraction is 0.7353, and for (1, 4, 1, 4) it is 0.3676. Twice the samples")
def divided_by_n_again(logp, logp_old):
    return kish(logp - logp_old) * 2 / logp.shape[-1]


@outside(SIZE, "for the ratios (1, 1, 4) your fraction is 0.8165")
def root_taken(logp, logp_old):
    return kish(logp - logp_old).sqrt()


@outside(SIZE, "(with `logp_old` = −1700) your fraction is 1, and it must be 0.8")
def new_policy_held_up(logp, logp_old):
    return kish(logp.clamp(min=-1000) - logp_old)


@outside(SIZE, "Only the last axis, that of the samples, is summed away")
def summed_over_batches(logp, logp_old):
    return kish(logp - logp_old).sum()


def by(score, count=round, positive=lambda ratio, advantage: advantage >= 0):
    """The rule with another score, count or class."""

    def run(ratio, advantage, drop_fraction):
        one = positive(ratio, advantage)
        keep = torch.ones_like(one)
        for member in (one, ~one):
            place = member.nonzero().squeeze(-1)
            order = place[score(ratio, advantage)[place].argsort()]
            keep[order[: count(drop_fraction * len(place))]] = False
        return keep

    return run


def product(ratio, advantage):
    return ratio * advantage


@outside(DROPOUT, "Sort by x = r A, and neither by A nor by r alone")
def gain_ranked(ratio, advantage, drop_fraction):
    return by(lambda r, a: (r - 1) * a)(ratio, advantage, drop_fraction)


@outside(DROPOUT, "you drop x = (−5, −2), and what must go is x = (−5, −3)")
def clipped_surrogate_ranked(ratio, advantage, drop_fraction):
    return by(lambda r, a: torch.minimum(r * a, r.clamp(0.8, 1.2) * a))(ratio, advantage, drop_fraction)


@outside(DROPOUT, "With a share of 0 nothing is dropped, and every sample is True")
def share_ignored(ratio, advantage, drop_fraction):
    return by(product)(ratio, advantage, 0.2)


@outside(DROPOUT, "0.1 × 7 = 0.7 is rounded to 1, and 0.1 × 3 = 0.3 to 0")
def at_least_one(ratio, advantage, drop_fraction):
    return by(product, lambda x: max(1, round(x)) if x else 0)(ratio, advantage, drop_fraction)


@outside(
    DROPOUT, "you drop x = (0.4, 2), and what must go is x = (0.4, 1.5). The sample number 1, with r = 0.5 and A = 4"
)
def classes_around_the_mean(ratio, advantage, drop_fraction):
    return by(product, positive=lambda r, a: a >= a.mean())(ratio, advantage, drop_fraction)


@outside(DROPOUT, "you drop 0 with A ≥ 0, and it must be 1: 0.2 × 5, in each class by itself")
def classes_by_the_ratio(ratio, advantage, drop_fraction):
    return by(product, positive=lambda r, a: r >= 1)(ratio, advantage, drop_fraction)


@outside(DROPOUT, "you drop 1 with A < 0, and it must be 2")
def places_of_the_class_taken_for_the_batch(ratio, advantage, drop_fraction):
    x, keep = ratio * advantage, torch.ones_like(ratio, dtype=torch.bool)
    for member in (advantage >= 0, advantage < 0):
        keep[x[member].argsort()[: round(drop_fraction * int(member.sum()))]] = False
    return keep


@outside(DROPOUT, "of five samples with A ≥ 0 and five with A < 0")
def other_class_set_to_zero(ratio, advantage, drop_fraction):
    x, keep = ratio * advantage, torch.ones_like(ratio, dtype=torch.bool)
    for member in (advantage >= 0, advantage < 0):
        keep[(x * member).argsort()[: round(drop_fraction * int(member.sum()))]] = False
    return keep


@outside(DROPOUT, "0.9 × 2 = 1.8 is rounded to 2 in either class, and nothing is left of this batch")
def never_an_empty_batch(ratio, advantage, drop_fraction):
    keep = by(product)(ratio, advantage, drop_fraction)
    return keep if keep.any() else torch.ones_like(keep)


@outside(DROPOUT, "All are of the class A < 0, and −5 is smaller than −0.4")
def row_sums_of_the_pair_matrix(ratio, advantage, drop_fraction):
    return by(lambda r, a: r * a * (r * a).sum())(ratio, advantage, drop_fraction)


@outside(DROPOUT, "selected number k out of range")
def nothing_to_drop_forgotten(ratio, advantage, drop_fraction):
    x, keep = ratio * advantage, torch.ones_like(ratio, dtype=torch.bool)
    for member in (advantage >= 0, advantage < 0):
        keep &= ~member | (x > x[member].kthvalue(round(drop_fraction * int(member.sum()))).values)
    return keep


@outside(DROPOUT, "returned a list where a mask is expected")
def a_list(ratio, advantage, drop_fraction):
    return by(product)(ratio, advantage, drop_fraction).tolist()


@outside(DROPOUT, "returned shape [5] for inputs of shape [10]. The mask has one truth value for every sample")
def mask_of_one_class(ratio, advantage, drop_fraction):
    return by(product)(ratio, advantage, drop_fraction)[advantage >= 0]


@outside(DROPOUT, "in single precision (torch.float32), you drop")
def rubbish_in_single_precision_only(ratio, advantage, drop_fraction):
    keep = by(product)(ratio, advantage, drop_fraction)
    return keep if ratio.dtype == torch.float64 else ~keep


def padded(constant):
    """The other class is moved to the end with a number that is not the largest one."""

    def run(ratio, advantage, drop_fraction):
        x, keep = ratio * advantage, torch.ones_like(ratio, dtype=torch.bool)
        for member in (advantage >= 0, advantage < 0):
            order = torch.where(member, x, constant).argsort()
            keep[order[: round(drop_fraction * int(member.sum()))]] = False
        return keep

    return run


FIXED = "All advantages were multiplied by 10¹³: ranks do not notice. Is there a fixed number somewhere?"


@outside(DROPOUT, FIXED)
def padded_with_a_million(ratio, advantage, drop_fraction):
    return padded(1e6)(ratio, advantage, drop_fraction)


@outside(DROPOUT, FIXED)
def padded_with_a_thousand_million(ratio, advantage, drop_fraction):
    return padded(1e9)(ratio, advantage, drop_fraction)


@outside(DROPOUT, "for x = r A = (3, −0.5, 1, −4, 0.4, −1, 2, −2, 1.5, −3) × 10¹³ and `drop_fraction` = 0.4 you drop")
def padded_with_a_million_million(ratio, advantage, drop_fraction):
    return padded(1e12)(ratio, advantage, drop_fraction)


@outside(DROPOUT, "All advantages were multiplied by 10⁻¹³")
def rounded_to_twelve_decimals(ratio, advantage, drop_fraction):
    return by(lambda r, a: (r * a).round(decimals=12))(ratio, advantage, drop_fraction)


NEARLY = "tells them apart. Is x rounded somewhere, or turned into fewer digits?"


@outside(DROPOUT, NEARLY)
def ranked_in_bfloat16(ratio, advantage, drop_fraction):
    return by(lambda r, a: (r * a).bfloat16())(ratio, advantage, drop_fraction)


@outside(DROPOUT, "1 + (3, 1, 4, 0, 2) × 10⁻⁵")
def ranked_in_float16(ratio, advantage, drop_fraction):
    x = ratio * advantage
    return by(lambda r, a: (r * a / x.abs().max()).half())(ratio, advantage, drop_fraction)


@outside(DROPOUT, "1 + (3, 1, 4, 0, 2) × 10⁻¹⁰")
def ranked_in_single_precision(ratio, advantage, drop_fraction):
    return by(lambda r, a: (r * a).float())(ratio, advantage, drop_fraction)


@outside(DROPOUT, "0.358 × 7 = 2.506 is rounded to 3, and 0.358 × 3 = 1.074 to 1")
def rounded_up_from_six_tenths(ratio, advantage, drop_fraction):
    return by(product, lambda z: int(z + 0.4))(ratio, advantage, drop_fraction)


@outside(DROPOUT, "0.356 × 7 = 2.492 is rounded to 2")
def rounded_up_from_forty_nine_hundredths(ratio, advantage, drop_fraction):
    return by(product, lambda z: int(z + 0.51))(ratio, advantage, drop_fraction)


@outside(DROPOUT, "0.55 × 1 = 0.55 is rounded to 1")
def rounded_up_from_six_tenths_below_one(ratio, advantage, drop_fraction):
    return by(product, lambda z: round(z) if z > 1 else int(z + 0.4))(ratio, advantage, drop_fraction)


def threshold(beyond):
    """All x beyond the one at the cut are kept, whatever equals it."""

    def run(ratio, advantage, drop_fraction):
        x, keep = ratio * advantage, torch.ones_like(ratio, dtype=torch.bool)
        for member in (advantage >= 0, advantage < 0):
            count = round(drop_fraction * int(member.sum()))
            if count:
                keep &= ~member | beyond(x, x[member].sort().values, count)
        return keep

    return run


@outside(DROPOUT, "(1, 1, 1, 1, 10), all of one class, and `drop_fraction` = 0.2 you drop 4, and it must be 1")
def all_ties_at_the_cut_dropped(ratio, advantage, drop_fraction):
    return threshold(lambda x, values, count: x > values[count - 1])(ratio, advantage, drop_fraction)


@outside(DROPOUT, "Which of the equal x go is free, how many is not. A threshold cannot tell them apart")
def all_ties_at_the_cut_kept(ratio, advantage, drop_fraction):
    def beyond(x, values, count):
        return x >= values[count] if count < len(values) else torch.zeros_like(x, dtype=torch.bool)

    return threshold(beyond)(ratio, advantage, drop_fraction)


@outside(DROPOUT, "you drop 4, and it must be 1")
def ranks_by_counting_who_is_smaller(ratio, advantage, drop_fraction):
    x, positive = ratio * advantage, advantage >= 0
    alike = positive.unsqueeze(0) == positive.unsqueeze(1)
    smaller = (alike & (x.unsqueeze(0) < x.unsqueeze(1))).sum(-1)
    return smaller >= torch.round(alike.sum(-1) * drop_fraction)


def fitted(ratio, advantage):
    """x and the coefficient, for answers that are wrong elsewhere."""
    x, away = ratio * advantage, ratio - ratio.mean(-1, keepdim=True)
    return x, (away * x).mean(-1) / (away**2).mean(-1).clamp(min=1e-12)


@outside(CONTROL, "x is −2 r there, so c is −2, and what mean(r) = 1.625 has put in is taken out again")
def size_of_the_coefficient(ratio, advantage):
    x, c = fitted(ratio, advantage)
    return x.mean(-1) - c.abs() * (ratio.mean(-1) - 1)


@outside(CONTROL, "x is −2 r there, so c is −2")
def never_below_zero(ratio, advantage):
    x, c = fitted(ratio, advantage)
    return x.mean(-1) - c.clamp(min=0) * (ratio.mean(-1) - 1)


@outside(CONTROL, "for r = (0.5, 1, 2, 3), A = (5, 5, 5, 5) your mean is 6.562, and it must be 5")
def half_of_it(ratio, advantage):
    x, c = fitted(ratio, advantage)
    return x.mean(-1) - c / 2 * (ratio.mean(-1) - 1)


@outside(CONTROL, "your mean is 2.004, and it must be 2. Var(r) is 0.00000075 there, which is not 0")
def variance_kept_large(ratio, advantage):
    x, away = ratio * advantage, ratio - ratio.mean(-1, keepdim=True)
    return x.mean(-1) - (away * x).mean(-1) / (away**2).mean(-1).clamp(min=0.01) * (ratio.mean(-1) - 1)


@outside(CONTROL, "Boolean value of Tensor with more than one value is ambiguous")
def asked_with_if(ratio, advantage):
    x, away = ratio * advantage, ratio - ratio.mean(-1, keepdim=True)
    variance = (away**2).mean(-1)
    if variance == 0:
        return x.mean(-1)
    return x.mean(-1) - (away * x).mean(-1) / variance * (ratio.mean(-1) - 1)


@outside(CONTROL, "The ratios average to 1, as they should: there is nothing to correct, and mean(r A) is 3.5")
def plain_advantage_corrected(ratio, advantage):
    _, c = fitted(ratio, advantage)
    return advantage.mean(-1) - c * (ratio.mean(-1) - 1)


@outside(CONTROL, "your mean is 4.219, and it must be 3.5")
def logarithm_of_the_ratio(ratio, advantage):
    x, c = fitted(ratio, advantage)
    return x.mean(-1) - c * ratio.log().mean(-1)


@outside(CONTROL, "so c = −4, and 1 + 4 × (0.5 − 1) = −1")
def distance_from_one(ratio, advantage):
    x, c = fitted(ratio, advantage)
    return x.mean(-1) - c * (ratio.mean(-1) - 1).abs()


@outside(CONTROL, "your mean is 5, and it must be 3.5")
def coefficient_returned(ratio, advantage):
    return fitted(ratio, advantage)[1]


@outside(CONTROL, "no line can be fitted, and c is 0")
def mean_of_x_for_c(ratio, advantage):
    x = ratio * advantage
    return x.mean(-1) - x.mean(-1) * (ratio.mean(-1) - 1)


@outside(CONTROL, "c is in units of A, as x is: does it double?")
def coefficient_within_one(ratio, advantage):
    x, c = fitted(ratio, advantage)
    return x.mean(-1) - c.clamp(-1, 1) * (ratio.mean(-1) - 1)


@outside(CONTROL, "With all advantages times 10⁹ it must be")
def coefficient_within_a_million(ratio, advantage):
    x, c = fitted(ratio, advantage)
    return x.mean(-1) - c.clamp(-1e6, 1e6) * (ratio.mean(-1) - 1)


@outside(CONTROL, "With all advantages times 10⁻⁹ it must be")
def no_correction_for_a_small_covariance(ratio, advantage):
    x, away = ratio * advantage, ratio - ratio.mean(-1, keepdim=True)
    covariance = (away * x).mean(-1)
    c = torch.where(covariance.abs() < 1e-9, 0.0, covariance / (away**2).mean(-1).clamp(min=1e-12))
    return x.mean(-1) - c * (ratio.mean(-1) - 1)


def guarded(guard):
    def run(ratio, advantage):
        x, away = ratio * advantage, ratio - ratio.mean(-1, keepdim=True)
        return x.mean(-1) - (away * x).mean(-1) / guard((away**2).mean(-1)) * (ratio.mean(-1) - 1)

    return run


TOO_LARGE = "What guards the division has to be far smaller"


@outside(CONTROL, TOO_LARGE)
def clamped_at_forty_millionths(ratio, advantage):
    return guarded(lambda variance: variance.clamp(min=4e-5))(ratio, advantage)


@outside(CONTROL, TOO_LARGE)
def ten_millionths_added(ratio, advantage):
    return guarded(lambda variance: variance + 1e-5)(ratio, advantage)


@outside(CONTROL, "your mean is 2.0004706, and it must be 2")
def a_ten_millionth_added(ratio, advantage):
    return guarded(lambda variance: variance + 1e-7)(ratio, advantage)


@outside(CONTROL, TOO_LARGE)
def a_millionth_taken_for_none(ratio, advantage):
    return guarded(lambda variance: torch.where(variance > 1e-6, variance, torch.inf))(ratio, advantage)


@outside(CONTROL, "your mean is 7, and it must be 3.5")
def summed(ratio, advantage):
    x, c = fitted(ratio, advantage)
    return (x - c.unsqueeze(-1) * (ratio - 1)).sum(-1)


@outside(CONTROL, "returned a tuple where a tensor is expected")
def both_returned(ratio, advantage):
    x, c = fitted(ratio, advantage)
    return x.mean(-1), c


@pytest.mark.parametrize(("id", "run", "phrase"), OUTSIDE)
def test_a_wrong_answer_from_outside_hears_what_is_wrong(id, run, phrase):
    verdict = exercises.judge(id, run)
    assert verdict.state == "wrong"
    said = "\n".join([verdict.message, *(result.message for result in verdict.results)])
    assert phrase in said, said
    assert verdict.slip is None  # it is none of the registered ones


def first_said(id, run):
    return next(result.message for result in exercises.judge(id, run).results if result.held is False)


def test_what_is_told_first_is_what_is_wrong():
    for guard in (lambda v: v.clamp(min=4e-5), lambda v: v + 1e-5, lambda v: v + 1e-7):
        assert TOO_LARGE in first_said(CONTROL, guarded(guard))
    assert NEARLY in first_said(DROPOUT, by(lambda r, a: (r * a).half()))
    assert FIXED in first_said(DROPOUT, padded(1e6))


def test_there_are_at_least_ten_from_outside_for_each_exercise():
    assert min(sum(case.values[0] == id for case in OUTSIDE) for id in IDS) >= 10


def rubbish_in_a_stack(solution):
    """Right for one axis and for two, and reversed for three."""

    def run(*given):
        value = solution(*given)
        return value if value.dim() < 2 else value.flip(-1)

    return run


def rubbish_in_single_precision(solution):
    def run(*given):
        value = solution(*given)
        return value if value.dtype == torch.float64 else value + 0.01

    return run


@pytest.mark.parametrize("id", [VARIANCE, SIZE, CONTROL])
@pytest.mark.parametrize(
    ("spoilt", "phrase"),
    [
        (rubbish_in_a_stack, "Count axes from the end"),
        (rubbish_in_single_precision, "in single precision (torch.float32"),
    ],
)
def test_stacks_and_single_precision_are_looked_at_as_well(id, spoilt, phrase):
    verdict = exercises.judge(id, spoilt(exercises.solved(exercises.find(id))))
    assert verdict.state == "wrong"
    first = next(result for result in verdict.results if not result.held)
    assert first is verdict.results[0] and phrase in first.message


@pytest.mark.parametrize("id", [VARIANCE, SIZE, CONTROL])
def test_nan_is_told_as_such_and_not_as_a_mixing_of_states(id):
    right = exercises.solved(exercises.find(id))
    verdict = exercises.judge(id, lambda *given: right(*given) * float("nan"))
    told = next(result.message for result in verdict.results if not result.held)
    assert "is nan: look for 0 / 0" in told and "beside" not in told


# ---------------------------------------------------------------- registered slips in disguise


def second_moment_under_the_new_policy(prob_old, ratio, advantage):
    return (prob_old * ratio * advantage**2).sum(-1) - (prob_old * ratio * advantage).sum(-1) ** 2


def normalised_weights_squared(logp, logp_old):
    return 1 / (logp - logp_old).softmax(-1).square().sum(-1)


def from_the_top(ratio, advantage, drop_fraction):
    x, keep = ratio * advantage, torch.ones_like(ratio, dtype=torch.bool)
    for member in (advantage >= 0, advantage < 0):
        place = member.nonzero().squeeze(-1)
        keep[place[x[place].topk(round(drop_fraction * len(place))).indices]] = False
    return keep


def sum_over_sum(ratio, advantage):
    return torch.linalg.vecdot(ratio, advantage) / ratio.sum(-1)


@pytest.mark.parametrize(
    ("id", "run", "slip"),
    [
        (VARIANCE, second_moment_under_the_new_policy, "variance_under_the_new_policy"),
        (SIZE, normalised_weights_squared, "number_for_fraction"),
        (DROPOUT, from_the_top, "drops_the_largest"),
        (CONTROL, sum_over_sum, "self_normalised"),
    ],
)
def test_a_slip_is_recognised_however_it_is_written(id, run, slip):
    assert exercises.judge(id, run).slip.name == slip


# ---------------------------------------------------------------- right answers from outside


def mean_square_with_a_floor(prob_old, ratio, advantage):
    x = (ratio * advantage).sub(1)
    return ((prob_old * x.pow(2)).sum(dim=-1) - (prob_old * x).sum(dim=-1).pow(2)).clamp(min=0)


def through_the_deviations_of_both(prob_old, ratio, advantage):
    prob = prob_old / prob_old.sum(-1, keepdim=True)
    x = ratio * advantage
    mean = torch.matmul(prob.unsqueeze(-2), x.unsqueeze(-1)).squeeze(-1)
    return ((x - mean) * prob.sqrt()).norm(dim=-1) ** 2


def without_a_gradient(prob_old, ratio, advantage):
    """Nobody has asked for one."""
    return spread(prob_old, ratio * advantage).detach()


def log_softmax_all_the_way(logp, logp_old):
    return 1 / ((2 * (logp - logp_old).log_softmax(-1)).exp().sum(-1) * logp.size(-1))


def in_double_precision(logp, logp_old):
    log_ratio = logp.double() - logp_old.double()
    ratio = (log_ratio - log_ratio.amax(-1, keepdim=True)).exp()
    return (ratio.mean(-1) ** 2 / (ratio**2).mean(-1)).to(logp.dtype)


def nearly_vanished_left_at_a_floor(logp, logp_old):
    log_ratio = logp - logp_old
    ratio = (log_ratio - log_ratio.amax(-1, keepdim=True)).clamp(min=-30).exp()
    return ratio.sum(-1) ** 2 / (ratio.shape[-1] * (ratio**2).sum(-1))


def the_last_of_equals_first(ratio, advantage, drop_fraction):
    return by(product)(ratio.flip(0), advantage.flip(0), drop_fraction).flip(0)


def one_after_the_other(ratio, advantage, drop_fraction):
    x, keep = ratio * advantage, torch.ones_like(ratio, dtype=torch.bool)
    for member in (advantage >= 0, advantage < 0):
        for _ in range(round(drop_fraction * int(member.sum()))):
            keep[torch.where(member & keep, x, torch.inf).argmin()] = False
    return keep


def halves_up(ratio, advantage, drop_fraction):
    return by(product, lambda x: int(x + 0.5))(ratio, advantage, drop_fraction)


def sorted_by_two_keys(ratio, advantage, drop_fraction):
    positive = advantage >= 0
    order = (ratio * advantage).argsort()
    order = order[positive[order].long().argsort(stable=True)]  # A < 0 first, each class from its smallest x on
    bad = int((~positive).sum())
    keep = torch.ones(len(ratio), dtype=torch.bool)
    keep[order[: round(drop_fraction * bad)]] = False
    keep[order[bad : bad + round(drop_fraction * (len(ratio) - bad))]] = False
    return keep


def small_constant_below(ratio, advantage):
    x, away = ratio * advantage, ratio - ratio.mean(-1, keepdim=True)
    c = (away * x).mean(-1) / ((away**2).mean(-1) + 1e-8)
    return x.mean(-1) - c * (ratio.mean(-1) - 1)


def smallest_constant_below(ratio, advantage):
    return guarded(lambda variance: variance + 1e-12)(ratio, advantage)


def by_dtype(ratio, advantage):
    """A guard of the size of the rounding."""
    return guarded(lambda variance: variance.clamp(min=torch.finfo(variance.dtype).eps ** 2))(ratio, advantage)


def residuals_averaged(ratio, advantage):
    x, c = fitted(ratio, advantage)
    return (x - c.detach().unsqueeze(-1) * ratio).mean(-1) + c


def covariance_as_a_mean_of_products(ratio, advantage):
    x = ratio * advantage
    covariance = (x * ratio).mean(-1) - x.mean(-1) * ratio.mean(-1)
    variance = (ratio**2).mean(-1) - ratio.mean(-1) ** 2
    c = torch.where(variance > 1e-10, covariance / variance.clamp(min=1e-10), torch.zeros_like(variance))
    return x.mean(-1) - c * (ratio.mean(-1) - 1)


@pytest.mark.parametrize(
    ("id", "run"),
    [
        *((VARIANCE, run) for run in (mean_square_with_a_floor, through_the_deviations_of_both, without_a_gradient)),
        (VARIANCE, bounds.surrogate_variance),
        *((SIZE, run) for run in (log_softmax_all_the_way, in_double_precision, nearly_vanished_left_at_a_floor)),
        *((DROPOUT, run) for run in (the_last_of_equals_first, one_after_the_other, halves_up, sorted_by_two_keys)),
        (DROPOUT, estimators.sign_dropout_mask),
        *((CONTROL, run) for run in (small_constant_below, smallest_constant_below, by_dtype, residuals_averaged)),
        (CONTROL, covariance_as_a_mean_of_products),
        (CONTROL, estimators.controlled_mean),
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
