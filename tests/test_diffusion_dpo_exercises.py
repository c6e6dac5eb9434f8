"""The exercises of chapter 5: what their properties kill, what they let through, and what they say."""

import inspect
import math
import re
import time

import numpy as np
import pytest
import torch
from torch.nn import functional

import pocourse.diffusion_dpo.exercises  # noqa: F401 (registers them)
from pocourse import diffusion_dpo
from pocourse.lesson import cards, exercises
from pocourse.lesson.trial import Trouble

TILT, DPO, DENOISING, ACCURACY = IDS = [
    f"diffusion_dpo.{name}" for name in ("tilt", "dpo", "diffusion_dpo", "accuracy")
]

# Which properties kill which wrong answer, the properties in their order: x kills, . does not.
KILLS = {
    TILT: {
        "exp_first": "............xx.",
        "beta_inverted": "..x..xxx...xx..",
        "weights_not_normalised": ".xxxx..xxx.xxx.",
        "largest_of_all_batches": ".............x.",
        "largest_of_the_rewards_subtracted_late": "............x..",
        "largest_subtracted_above_only": ".xxxx..xxx.xxxx",
        "mean_subtracted": "............x..",
        "exponents_held_between_two_numbers": ".......x....xx.",
        "softmax_over_the_batches": "x............xx",
        "softmax_over_everything": "x............xx",
        "sign_turned": "..x....xx..xxx.",
        "beta_forgotten": "..x..xxx...xx..",
        "rewards_as_weights": ".xx.x.xxx..xxx.",
        "reward_of_the_mean": "..x....xx..xxx.",
        "best_sample_only": "..x...x.x...xx.",
        "no_tilt": "..x....xx..xxx.",
        "divided_by_n_as_well": ".xxx..xxxxxxxx.",
        "fraction_for_number": ".xx...xxx.x.xxx",
        "squares_without_the_inverse": ".xx...xxx.x.xxx",
        "sum_of_weights_squared": ".xx...xxx.x.xx.",
        "perplexity": "..x.....x...xx.",
        "largest_weight": "..x.....x...xx.",
        "statistic_in_n_eff": ".xx...xxxx..xx.",
        "exchanged": ".xxx..xxxxxxxxx",
        "mean_alone": "xxxxxxxxxxxxxxx",
        "guard_below": "....x.......xxx",
    },
    DPO: {
        "reference_forgotten": ".xx.x..x.xx.",
        "sign_swapped": "..x....xxxx.",
        "beta_outside": ".xxx..x.xx..",
        "log_of_sigmoid": "..........x.",
        "absolute_value_inside": ".......x....",
        "chosen_after_the_logarithm": "..........x.",
        "mean_taken": "xxxxxxxxxxxx",
        "margins_averaged_first": "x.x.......x.",
        "reference_added": ".xx.x..x.xx.",
        "beta_forgotten": "..x...xxxxx.",
        "beta_inverted": "..x...xxxxx.",
        "half_of_beta": "..x....xxxx.",
        "minus_forgotten": ".xxx...xx.x.",
        "z_returned": ".xxx...xxxx.",
        "logarithm_forgotten": ".xxx...xxxx.",
        "differences_of_ratios": "..x..xx.xxx.",
        "through_probabilities": "..........xx",
        "quotient_of_logarithms": "..x.xxxxxxxx",
        "winner_only": "..xx.x.xxxx.",
        "each_outcome_by_itself": ".xxx.x..xxx.",
        "policy_detached": ".......xxxx.",
        "rejected_detached": ".......xxxx.",
        "hinge": ".xxx...xxxx.",
        "square_around_a_margin": ".xxx..xxxxx.",
        "labels_smoothed": "..xx...xxxx.",
        "likelihood_of_the_winner_added": ".xxxxxxxxxxx",
        "base_two": ".xxx...xx.x.",
        "z_held_between_two_numbers": "..........x.",
        "single_precision_inside": "...........x",
        "loop_over_one_axis": "x...........",
    },
    DENOISING: {
        "half_forgotten": "..xx....xxxx",
        "sum_for_mean": "..xxx...xxxx",
        "sign_swapped": "..xx....xxxx",
        "reference_forgotten": ".x.x.....x.x",
        "divided_by_d_twice": "..xxx...xxxx",
        "half_twice": "..xx....xxxx",
        "mean_taken": "xx....x.....",
        "sigmoid_of_the_mean": "x...........",
        "mean_over_everything": "xx....x.....",
        "d_from_the_first_axis": "x...........",
        "distance_from_the_reference": "..xx...xxxxx",
        "reference_added": ".x.x.....x.x",
        "winner_only": "...x..x.xxxx",
        "beta_outside": ".xxx.xx.xx.x",
        "log_of_sigmoid": "..........x.",
        "minus_forgotten": ".xxx..x.xxxx",
        "root_taken": "..xxxx..xxxx",
        "absolute_values": "...x.x..xxxx",
        "averaged_before_squaring": "..xx....xxxx",
        "relative_errors": "...x.x..xxxx",
        "logarithms_of_errors": "..xx.x..xxxx",
        "predictions_detached": "........x.x.",
        "rejected_detached": "........x.x.",
        "z_returned": ".xxx..x.xxxx",
        "beta_fixed": "..xx....xx.x",
        "single_precision_inside": "...........x",
        "pixels_left": "xxxxxxxxxxxx",
        "sigmoid_in_every_pixel": "...x..x.xx.x",
    },
    ACCURACY: {
        "ties_lost": ".xxx.x..",
        "ties_won": ".xxx.x..",
        "sign_turned": "..xxx.x.",
        "reference_forgotten": "..xxx...",
        "ties_left_out": ".xxx....",
        "winner_only": "..xxxxx.",
        "both_asked_for": "..xxx.x.",
        "reference_added": "..xxx...",
        "chances_averaged": "..xxx.x.",
        "signs_averaged": ".xxx.xx.",
        "counted": ".xxxxxxx",
        "one_for_each_pair": "xxxxxxxx",
        "all_batches_together": "x.......",
        "sigmoid_rounded": ".xxx.xx.",
        "ties_with_a_tolerance": "......x.",
        "mean_pair_judged": "..xx..x.",
        "half_of_all_if_any_tie": "..xx.x..",
    },
}


def test_the_exercises_come_in_the_order_of_the_chapter():
    mine = [exercises.find(id) for id in exercises.registry() if id in IDS]
    assert [found.id for found in mine] == IDS
    assert [found.section for found in mine] == ["2", "3", "5", "5"]


def test_the_functions_that_are_asked_for_have_names_of_their_own():
    names = [found.name for found in (exercises.find(id) for id in exercises.registry())]
    assert len(set(names)) == len(names)
    assert not {exercises.find(id).name for id in IDS} & set(dir(diffusion_dpo))


@pytest.fixture(scope="module", autouse=True)
def remembered():
    """What a registered slip does on the probes is the same for every answer: it is found out once."""
    look, known = exercises.fingerprint, {}
    runs = {mutant.run for id in IDS for mutant in exercises.find(id).mutants}

    def fingerprint(found, function):
        if function not in runs:
            return look(found, function)
        if function not in known:
            try:
                known[function] = look(found, function)
            except Trouble as trouble:
                known[function] = trouble
        if isinstance(known[function], Trouble):
            raise known[function]
        return known[function]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exercises, "fingerprint", fingerprint)
        yield


@pytest.fixture(scope="module")
def matrices():
    return {id: exercises.matrix(id) for id in IDS}


@pytest.fixture(scope="module")
def verdicts():
    return {id: [(mutant, exercises.judge(id, mutant.run)) for mutant in exercises.find(id).mutants] for id in IDS}


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
def test_a_registered_slip_is_recognised_as_itself(verdicts, id):
    for mutant, verdict in verdicts[id]:
        assert verdict.state == "wrong"
        if not verdict.message:  # what could not be judged has a message in place of a slip
            assert verdict.slip is mutant, mutant.name


@pytest.mark.parametrize("id", IDS)
def test_what_is_right_on_all_probes_is_taken_for_no_slip(id):
    found = exercises.find(id)
    assert exercises._same_as(found, exercises.solved(found)) is None


@pytest.mark.parametrize("id", IDS)
def test_every_message_holds_a_number_and_ends_as_a_sentence(verdicts, id):
    for _, verdict in verdicts[id]:
        said = [verdict.message] if verdict.message else [r.message for r in verdict.results if not r.held]
        assert said
        for message in said:
            # That a result is cut off from its argument is said by the trial, without a number.
            assert any(c.isdigit() for c in message) or "gradient" in message
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


def solved(id):
    return exercises.solved(exercises.find(id))


def drawn(*shape, seed=3):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("beta", [0.1, 0.5, 5000.0])
def test_the_solutions_agree_with_the_functions_of_the_package(beta):
    logs = drawn(4, 5, 2) - 2
    torch.testing.assert_close(solved(DPO)(*logs, beta=beta), diffusion_dpo.dpo_loss(*logs, beta=beta))

    noise, *predicted = drawn(5, 7, 2, 6)
    errors = [diffusion_dpo.squared_error(noise, x) for x in predicted]
    wanted = diffusion_dpo.diffusion_dpo_loss(*errors, beta=beta)
    torch.testing.assert_close(solved(DENOISING)(noise, *predicted, beta=beta), wanted)

    reference = torch.stack(errors[2:]).clone()
    errors[0][::2], errors[1][::2] = reference[0][::2], reference[1][::2]  # every other pair is a tie
    share = diffusion_dpo.implicit_accuracy(diffusion_dpo.diffusion_dpo_margin(*errors, beta=beta)).mean(0)
    assert ((0 < share) & (share < 1)).all()
    torch.testing.assert_close(solved(ACCURACY)(*(x.movedim(0, -1) for x in errors)), share)


@pytest.mark.parametrize("beta", [0.3, 1.0, 4.0])
def test_with_samples_in_their_true_proportions_the_tilted_mean_is_that_of_the_gibbs_policy(beta):
    counts, reward, statistic = torch.tensor([4, 1, 3, 2]), drawn(4), drawn(4, seed=4)
    policy = diffusion_dpo.gibbs_policy((counts / 10).double().log(), reward, beta=beta)
    samples = [x.repeat_interleave(counts) for x in (reward, statistic)]
    mean, size = solved(TILT)(*samples, beta)
    torch.testing.assert_close(mean, (policy * statistic).sum())
    torch.testing.assert_close(size, 1 / (policy**2 / counts).sum())


def test_with_a_million_samples_the_tilted_mean_is_that_of_a_tilted_gaussian():
    """r = a x under N(0, 1): the tilted policy is N(a / β, 1), and n_eff / n is exp(−(a / β)²) in the limit."""
    x, slope = drawn(1_000_000), 0.4
    mean, size = solved(TILT)(slope * x, x, 0.5)
    # The standard error of a self-normalised mean, from the weights themselves.
    weight = (slope / 0.5 * x).softmax(-1)
    error = (weight**2 * (x - mean) ** 2).sum().sqrt()
    assert abs(mean - 0.8) < 4 * error < 0.02
    # n_eff / n is a squared mean over a mean of squares of w = exp(t x); both scatter, by the delta method as follows.
    w = (0.8 * x).exp()
    terms = 2 * w / w.mean() - w**2 / (w**2).mean()
    spread = math.exp(-0.64) * terms.std() / 1000
    assert abs(size / len(x) - math.exp(-0.64)) < 4 * spread < 0.02


def spoils_the_rewards(reward, statistic, beta):
    return reward.div_(beta).softmax(-1).sum(-1), statistic.sum(-1)


def spoils_the_reference(logp_chosen, logp_rejected, logp_ref_chosen, logp_ref_rejected, beta=0.1):
    return functional.softplus(logp_ref_chosen.sub_(logp_ref_rejected))


def spoils_the_noise(noise, chosen, rejected, ref_chosen, ref_rejected, beta=5000.0):
    return noise.sub_(chosen).square().mean(-1)


def spoils_the_errors(error_chosen, error_rejected, error_ref_chosen, error_ref_rejected):
    return error_chosen.sub_(error_ref_chosen).sign().mean(-1)


@pytest.mark.parametrize(
    ("id", "run"),
    list(zip(IDS, (spoils_the_rewards, spoils_the_reference, spoils_the_noise, spoils_the_errors), strict=True)),
)
def test_an_answer_that_spoils_its_inputs_does_no_harm_to_the_next(id, run):
    verdict = exercises.judge(id, run)
    assert verdict.state == "wrong" and "changes its input" in verdict.message
    assert exercises.judge(id, exercises.solved(exercises.find(id))).right


# ---------------------------------------------------------------- what is said on the cards and afterwards


def mutant(id, name):
    return next(m.run for m in exercises.find(id).mutants if m.name == name)


def test_both_log_probabilities_fall_and_the_loss_falls_as_well():
    before = torch.tensor([-1.0, -2.0, -1.5, -1.5], dtype=torch.float64)
    after = before - torch.tensor([1.0, 3.0, 0.0, 0.0])
    assert solved(DPO)(*after) < solved(DPO)(*before)
    noise = torch.zeros(4, dtype=torch.float64)
    errors = [(0.1, 0.1), (0.3, 0.9)]  # of the winner and of the loser, before and after
    first, second = (
        solved(DENOISING)(noise, *(noise + math.sqrt(e) for e in pair), noise + 0.2, noise + 0.2) for pair in errors
    )
    assert second < first


def test_beta_5000_with_the_half_is_2500_without_and_10000_is_what_5000_without_it_means():
    given = tuple(0.02 * drawn(5, 6, 9))
    without = mutant(DENOISING, "half_forgotten")
    torch.testing.assert_close(without(*given, beta=2500.0), solved(DENOISING)(*given, beta=5000.0))
    torch.testing.assert_close(without(*given, beta=5000.0), solved(DENOISING)(*given, beta=10_000.0))


def test_sums_make_beta_d_times_as_large_and_on_latents_that_is_16384():
    given = tuple(0.02 * drawn(5, 6, 9))
    torch.testing.assert_close(
        mutant(DENOISING, "sum_for_mean")(*given, beta=50.0), solved(DENOISING)(*given, beta=9 * 50.0)
    )
    assert f"{4 * 64 * 64:,} times" in exercises.find(DENOISING).after


@pytest.mark.parametrize("name", ["half_forgotten", "sum_for_mean", "divided_by_d_twice", "half_twice"])
def test_no_wrong_constant_is_seen_in_the_first_loss(name):
    noise, chosen, rejected = drawn(3, 4, 5)
    found = mutant(DENOISING, name)(noise, chosen, rejected, chosen, rejected, beta=7.0)
    torch.testing.assert_close(found, torch.full_like(found, math.log(2)))


def test_a_stable_loss_of_two_kinks_never_leaves_the_reference():
    logp = drawn(2).requires_grad_()
    loss = mutant(DPO, "absolute_value_inside")(*logp, *logp.detach(), beta=1.0)
    assert loss.item() == pytest.approx(math.log(2))
    assert (torch.autograd.grad(loss, logp)[0] == 0).all()


def test_pairs_pull_with_beta_at_most_and_less_the_better_they_are_ordered():
    gain = torch.linspace(-50, 50, 101, dtype=torch.float64, requires_grad=True)
    zero = torch.zeros_like(gain.detach())
    (slope,) = torch.autograd.grad(solved(DPO)(gain, zero, zero, zero, beta=0.4).sum(), gain)
    assert (slope[1:] > slope[:-1]).all() and slope[0] > -0.4 and slope[0] < -0.399 and slope[-1] > -1e-6


def test_a_denoiser_that_has_fallen_apart_is_ordered_as_well_as_can_be():
    errors = drawn(2, 50).abs() / 10
    ruined = errors + torch.tensor([[5.0], [6.0]])
    assert solved(ACCURACY)(*ruined, *errors) == 1


def test_ties_come_again_in_few_digits():
    reference = 0.2 + 0.01 * drawn(2, 400).abs()
    errors = reference - 1e-4 * drawn(2, 400, seed=5)
    exact = solved(ACCURACY)(*errors, *reference)
    rounded = [x.bfloat16().double() for x in (*errors, *reference)]
    lost = mutant(ACCURACY, "ties_lost")
    assert lost(*errors, *reference) == exact and lost(*rounded) < 0.3 < solved(ACCURACY)(*rounded)


def test_as_beta_falls_the_mean_stops_at_the_best_sample_and_n_eff_at_one():
    reward = drawn(1000)
    means, sizes = zip(*(solved(TILT)(reward, reward, beta) for beta in (10.0, 1.0, 0.3, 0.1, 0.001)), strict=True)
    assert list(means) == sorted(means) and list(sizes) == sorted(sizes, reverse=True)
    assert means[-1].item() == pytest.approx(reward.max().item()) and sizes[-1].item() == pytest.approx(1)


# ---------------------------------------------------------------- wrong answers from outside

OUTSIDE = []


def outside(id, phrase, slip=None):
    """A wrong answer that is not registered, and words that must be among those it gets.

    ``slip`` names the registered one that does the same, if there is one.
    """

    def add(run):
        OUTSIDE.append(pytest.param(id, run, phrase, slip, id=f"{id.split('.')[1]}-{run.__name__}"))
        return run

    return add


def weighed(weight, statistic):
    return (weight * statistic).sum(-1), 1 / (weight**2).sum(-1)


@outside(TILT, "Yours has exp(r) in place of exp(r / β).", "beta_forgotten")
def temperature_taken_out_of_exp(reward, statistic, beta):
    """exp(r) / β, which cancels."""
    weight = (reward - reward.amax(-1, keepdim=True)).exp() / beta
    return weighed(weight / weight.sum(-1, keepdim=True), statistic)


@outside(TILT, "Yours multiplies r by β in place of dividing.", "beta_inverted")
def inverse_temperature(reward, statistic, beta):
    weight = torch.exp(beta * (reward - reward.max(-1, keepdim=True).values))
    return weighed(weight / weight.sum(-1, keepdim=True), statistic)


@outside(TILT, "Yours is never divided by the sum 1 + 2 + 5.")
def sum_of_products(reward, statistic, beta):
    weight = (reward / beta).exp()
    return (weight * statistic).sum(-1), weight.sum(-1) ** 2 / (weight**2).sum(-1)


@outside(TILT, "your mean is 2, and it must be 1. By hand: exp(r / β) = (1, 2, 5)")
def a_third_of_the_reference_kept(reward, statistic, beta):
    """A defensive mixture."""
    weight = (reward / beta).softmax(-1)
    return (weight * 2 / 3 * statistic).sum(-1) + statistic.mean(-1) / 3, 1 / (weight**2).sum(-1)


@outside(TILT, "your n_eff is 3, and it must be 4")
def one_less(reward, statistic, beta):
    """As a variance has n − 1 degrees of freedom."""
    mean, size = weighed((reward / beta).softmax(-1), statistic)
    return mean, size - 1


@outside(TILT, "Each has weights of its own, which sum to 1 along the last axis")
def mean_over_the_batches(reward, statistic, beta):
    weight = (reward / beta).softmax(-1)
    mean, size = weighed(weight, statistic)
    return mean, size.mean().expand(size.shape).clone()


@outside(TILT, "Of the 2 results, `n_eff`: Your function returned shape [] for inputs of shape [6, 5]")
def one_size_for_all(reward, statistic, beta):
    mean, size = weighed((reward / beta).softmax(-1), statistic)
    return mean, size.mean()


@outside(TILT, "Of the 2 results, `mean`: Your function returned shape [5]")
def products_left(reward, statistic, beta):
    weight = (reward / beta).softmax(-1)
    return weight * statistic, 1 / (weight**2).sum(-1)


@outside(TILT, "turned torch.float64 into torch.float32")
def in_single_precision(reward, statistic, beta):
    return tuple(x.float() for x in weighed((reward / beta).softmax(-1), statistic))


@outside(TILT, "subtract the largest r / β of the batch")
def smallest_subtracted(reward, statistic, beta):
    scaled = reward / beta
    weight = (scaled - scaled.amin(-1, keepdim=True)).exp()
    return weighed(weight / weight.sum(-1, keepdim=True), statistic)


@outside(TILT, "your mean is −2, and it must be 1")
def the_better_half(reward, statistic, beta):
    kept = (reward >= reward.median(-1, keepdim=True).values).to(reward)
    return weighed(kept / kept.sum(-1, keepdim=True), statistic)


@outside(TILT, "Your function returned a list where 2 tensors are asked for: `return mean, n_eff`")
def as_a_list(reward, statistic, beta):
    return list(weighed((reward / beta).softmax(-1), statistic))


@outside(TILT, "returned None: is there a `return` at its end?")
def forgotten_return(reward, statistic, beta):
    weighed((reward / beta).softmax(-1), statistic)


def z(logp_chosen, logp_rejected, logp_ref_chosen, logp_ref_rejected, beta):
    return beta * (logp_chosen - logp_ref_chosen - logp_rejected + logp_ref_rejected)


@outside(DPO, "Yours is β log 2: β stands outside of the sigmoid.")
def beta_in_both_places(*logs, beta=0.1):
    return -beta * functional.logsigmoid(z(*logs, beta))


@outside(DPO, "Yours has the opposite sign: a loss is minus a log-likelihood.", "minus_forgotten")
def softplus_with_a_minus(*logs, beta=0.1):
    return -functional.softplus(-z(*logs, beta))


@outside(DPO, "Yours is a chance: its logarithm is missing.")
def chance_of_the_right_order(*logs, beta=0.1):
    return torch.sigmoid(z(*logs, beta))


@outside(DPO, "Yours is 2 log 2: are there two sigmoids?")
def both_orders(*logs, beta=0.1):
    return -functional.logsigmoid(z(*logs, beta)) - functional.logsigmoid(-z(*logs, beta))


@outside(DPO, "Yours is 1 there: another base, or another loss.")
def exponential_loss(*logs, beta=0.1):
    return torch.exp(-z(*logs, beta))


@outside(DPO, "Yours belongs to z = 2.197. It is twice too large: is β in it?")
def twice(*logs, beta=0.1):
    return -functional.logsigmoid(2 * z(*logs, beta))


@outside(DPO, "Yours belongs to z = 0.5493. It is half of what it should be.")
def beta_squared(*logs, beta=0.1):
    return -functional.logsigmoid(z(*logs, beta**2))


@outside(DPO, "Exchanged, z turns its sign and nothing else")
def focal(*logs, beta=0.1):
    """Wrong pairs weigh more."""
    margin = z(*logs, beta)
    return -functional.logsigmoid(margin) * (2 * torch.sigmoid(-margin)) ** 0.5


@outside(DPO, "the loss is a straight line there, −z, and never infinite")
def never_above_100(*logs, beta=0.1):
    return -functional.logsigmoid(z(*logs, beta)).clamp(min=-100)


@outside(DPO, "how rare an outcome is must not matter, only what θ has made of it")
def divided_by_its_length(logp_chosen, logp_rejected, logp_ref_chosen, logp_ref_rejected, beta=0.1):
    """A mean over something that grows with −log π_ref."""
    chosen = (logp_chosen - logp_ref_chosen) / (1 - logp_ref_chosen)
    rejected = (logp_rejected - logp_ref_rejected) / (1 - logp_ref_rejected)
    return -functional.logsigmoid(beta * (chosen - rejected))


@outside(DPO, "no mean over them, and no normalising")
def normalised_over_the_batch(*logs, beta=0.1):
    margin = z(*logs, beta)
    return -functional.logsigmoid(margin - (margin.mean() if margin.dim() else 0))


@outside(DPO, "Both outcomes gain alike, or both lose alike, and z is the difference")
def winner_held_up(logp_chosen, logp_rejected, logp_ref_chosen, logp_ref_rejected, beta=0.1):
    """A penalty where the winner has become rarer than it was: DPO-Positive."""
    lost = torch.relu(logp_ref_chosen - logp_chosen)
    return -functional.logsigmoid(z(logp_chosen, logp_rejected, logp_ref_chosen, logp_ref_rejected, beta) - beta * lost)


@outside(DPO, "no gradient flows back to `logp_chosen`", "policy_detached")
def through_numpy_without_gradient(*logs, beta=0.1):
    one, other, ref_one, ref_other = (x.detach().numpy() for x in logs)
    return torch.as_tensor(np.logaddexp(0, -beta * (one - ref_one - other + ref_other)))


@outside(DPO, "with it the slope must be −0.1604 (5.8)")
def weight_detached_badly(*logs, beta=0.1):
    """The weight of 5.8 twice: the values are right, and the slopes are not."""
    margin = z(*logs, beta)
    loss = -functional.logsigmoid(margin)
    pull = loss * torch.sigmoid(-margin).detach() * 2
    return loss.detach() + pull - pull.detach()


@outside(DPO, "One number for each pair: leave the mean over the pairs to the caller")
def summed(*logs, beta=0.1):
    return -functional.logsigmoid(z(*logs, beta)).sum()


def errors(noise, *predicted):
    return [((noise - x) ** 2).mean(-1) for x in predicted]


def worse(chosen, rejected, ref_chosen, ref_rejected):
    return (chosen - ref_chosen) - (rejected - ref_rejected)


@outside(DENOISING, "Yours belongs to z = 6. It is 2 D times too large: the half and the mean are missing.")
def beta_times_sums(noise, *predicted, beta=5000.0):
    return -functional.logsigmoid(-beta * worse(*(((noise - x) ** 2).sum(-1) for x in predicted)))


@outside(DENOISING, "Yours belongs to z = 2. It is twice too large: the half is missing.", "half_forgotten")
def without_the_half(*given, beta=5000.0):
    return functional.softplus(beta * worse(*errors(*given)))


@outside(
    DENOISING,
    "Yours belongs to z = 0.5. It is half of what it should be: is there a second half, in the errors?",
    "half_twice",
)
def gaussian_log_densities(*given, beta=5000.0):
    return -functional.logsigmoid(-0.5 * beta * worse(*(e / 2 for e in errors(*given))))


@outside(
    DENOISING, "Yours belongs to z = −1. Its sign is the opposite: is an error taken for a likelihood?", "sign_swapped"
)
def errors_for_likelihoods(*given, beta=5000.0):
    return -functional.logsigmoid(0.5 * beta * worse(*errors(*given)))


@outside(DENOISING, "Yours belongs to z = 0. It sees no difference between these predictions.")
def loser_only(*given, beta=5000.0):
    _, rejected, _, ref_rejected = errors(*given)
    return -functional.logsigmoid(0.5 * beta * (rejected - ref_rejected))


@outside(DENOISING, "Is each error compared with that of the reference on the same image?", "reference_forgotten")
def one_reference_for_both(*given, beta=5000.0):
    chosen, rejected, ref_chosen, _ = errors(*given)
    return -functional.logsigmoid(-0.5 * beta * ((chosen - ref_chosen) + (ref_chosen - rejected)))


@outside(DENOISING, "Yours is β log 2: β stands outside of the sigmoid.", "beta_outside")
def beta_as_a_step_size(*given, beta=5000.0):
    return -beta * functional.logsigmoid(-0.5 * worse(*errors(*given)))


@outside(DENOISING, "how far they are from those of the *reference* is not the question")
def products_with_the_step(noise, chosen, rejected, ref_chosen, ref_rejected, beta=5000.0):
    """The first-order term of the change of an error alone."""
    first = (2 * (ref_chosen - noise) * (chosen - ref_chosen)).mean(-1)
    second = (2 * (ref_rejected - noise) * (rejected - ref_rejected)).mean(-1)
    return -functional.logsigmoid(-0.5 * beta * (first - second))


@outside(DENOISING, "a pair in the right order")
def growth_of_the_winner_punished(*given, beta=5000.0):
    chosen, rejected, ref_chosen, ref_rejected = errors(*given)
    grown = torch.relu(chosen - ref_chosen)
    return -functional.logsigmoid(-0.5 * beta * (worse(chosen, rejected, ref_chosen, ref_rejected) + grown))


@outside(DENOISING, "a mean over the pixels, divided by nothing else")
def divided_by_the_root_of_d(noise, *predicted, beta=5000.0):
    size = math.sqrt(noise.shape[-1])
    return -functional.logsigmoid(-0.5 * beta * worse(*(((noise - x) ** 2).sum(-1) / size for x in predicted)))


@outside(DENOISING, "the slope of your loss in what θ predicts on the chosen image is (nan, nan, nan)")
def repaired_after_the_logarithm(*given, beta=5000.0):
    margin = -0.5 * beta * worse(*errors(*given))
    return torch.where(margin > -100, -torch.log(torch.sigmoid(margin)), -margin)


@outside(DENOISING, "and its slope in what θ predicts on the chosen image is (0, 0, 0)")
def two_kinks(*given, beta=5000.0):
    margin = -0.5 * beta * worse(*errors(*given))
    return torch.relu(-margin) + torch.log1p(torch.exp(-margin.abs()))


@outside(DENOISING, "No prediction has come closer to ε or gone further from it")
def in_units_of_the_noise(noise, *predicted, beta=5000.0):
    size = (noise**2).mean(-1)
    return -functional.logsigmoid(-0.5 * beta * worse(*errors(noise, *predicted)) / size)


@outside(DENOISING, "and shape [] is asked for")
def axis_kept(noise, *predicted, beta=5000.0):
    return -functional.logsigmoid(-0.5 * beta * worse(*(((noise - x) ** 2).mean(-1, keepdim=True) for x in predicted)))


@outside(DENOISING, "lose them")
def errors_rounded(*given, beta=5000.0):
    rounded = [e + (e * 1e6).round().detach() / 1e6 - e.detach() for e in errors(*given)]
    return -functional.logsigmoid(-0.5 * beta * worse(*rounded))


def better(error_chosen, error_rejected, error_ref_chosen, error_ref_rejected):
    return (error_ref_chosen - error_chosen) - (error_ref_rejected - error_rejected)


@outside(ACCURACY, "Yours counts the tie as wrong.", "sigmoid_rounded")
def larger_than_one_half(*given):
    return (torch.sigmoid(better(*given)) > 0.5).double().mean(-1).to(given[0].dtype)


@outside(ACCURACY, "Yours counts a tie as right.", "ties_won")
def not_wrong(*given):
    return 1 - (better(*given) < 0).to(given[0].dtype).mean(-1)


@outside(ACCURACY, "Yours leaves the tie out.")
def ties_left_out_with_a_guard(*given):
    margin = better(*given)
    wins, losses = (margin > 0).to(margin).sum(-1), (margin < 0).to(margin).sum(-1)
    return torch.where(wins + losses > 0, wins / (wins + losses).clamp(min=1), torch.full_like(wins, 0.5))


@outside(ACCURACY, "Yours counts right as wrong, and wrong as right.", "sign_turned")
def likelihoods_for_errors(*given):
    margin = -better(*given)
    return ((margin > 0).to(margin) + (margin >= 0).to(margin)).mean(-1) / 2


@outside(ACCURACY, "Yours counts the pairs: divide by their number.", "counted")
def number_of_pairs(*given):
    return torch.heaviside(better(*given), torch.tensor(0.5, dtype=given[0].dtype)).sum(-1)


@outside(ACCURACY, "A hard image may be the chosen one, and a winner's error may have grown")
def product_of_signs(error_chosen, error_rejected, error_ref_chosen, error_ref_rejected):
    """Whether θ orders the two images as the reference does."""
    theta, reference = error_rejected - error_chosen, error_ref_rejected - error_ref_chosen
    return (0.5 + 0.5 * (theta * reference).sign()).mean(-1)


@outside(ACCURACY, "no tolerance, no sigmoid, only the sign")
def steep_sigmoid(*given):
    return torch.sigmoid(1e4 * better(*given)).mean(-1)


@outside(ACCURACY, "no tolerance, no sigmoid, only the sign")
def in_few_digits(*given):
    return (0.5 + 0.5 * ((better(*given) * 1e9).round()).sign()).mean(-1)


@outside(ACCURACY, "and with every pair twice it is")
def one_pair_of_rest(*given):
    """Laplace's rule."""
    margin = better(*given)
    return ((0.5 + 0.5 * margin.sign()).sum(-1) + 1) / (margin.shape[-1] + 2)


@outside(ACCURACY, "A tie is neither left out, nor won, nor lost")
def median_pair(*given):
    return 0.5 + 0.5 * better(*given).sign().quantile(0.5, dim=-1, interpolation="higher")


@outside(ACCURACY, "What was right is wrong then, and a tie stays a tie")
def ties_as_the_reference_has_them(error_chosen, error_rejected, error_ref_chosen, error_ref_rejected):
    """A tie is right where the chosen image is the easier one."""
    margin = better(error_chosen, error_rejected, error_ref_chosen, error_ref_rejected)
    tie = (error_ref_chosen < error_ref_rejected).to(margin) * 2 - 1
    return (0.5 + 0.5 * torch.where(margin == 0, tie, margin.sign())).mean(-1)


@outside(ACCURACY, "returned a tensor of torch.bool where real numbers are expected")
def yes_or_no(*given):
    return (better(*given) > 0).any(-1)


@outside(ACCURACY, "The mean runs over the last axis, that of the pairs")
def first_batch_only(*given):
    share = (0.5 + 0.5 * better(*given).sign()).mean(-1)
    return share.reshape(-1)[0].expand(share.shape).clone()


@outside(ACCURACY, "One number for each batch")
def one_share_for_all(*given):
    return (0.5 + 0.5 * better(*given).sign()).mean()


@outside(ACCURACY, "mean(): could not infer output dtype")
def mean_of_truth_values(*given):
    return (better(*given) > 0).mean(-1)


@pytest.mark.parametrize(("id", "run", "phrase", "slip"), OUTSIDE)
def test_a_wrong_answer_from_outside_hears_what_is_wrong(id, run, phrase, slip):
    verdict = exercises.judge(id, run)
    assert verdict.state == "wrong"
    said = "\n".join([verdict.message, *(result.message for result in verdict.results)])
    assert phrase in said, said
    assert (verdict.slip.name if verdict.slip else None) == slip


def test_there_are_at_least_ten_from_outside_for_each_exercise():
    assert min(sum(case.values[0] == id for case in OUTSIDE) for id in IDS) >= 10


def test_one_number_for_all_pairs_is_told_as_such():
    verdict = exercises.judge(DENOISING, lambda noise, *predicted, beta=5000.0: noise.mean())
    assert "returned shape [] for inputs of shape [6, 4], and shape [6] is asked for" in verdict.message


def changed(result, change):
    return tuple(change(x) for x in result) if isinstance(result, tuple) else change(result)


def rubbish_in_a_stack(right):
    """Right on one axis, and reversed on two."""
    return lambda *given, **options: changed(right(*given, **options), lambda x: x if x.dim() < 2 else x.flip(1))


def rubbish_in_single_precision(right):
    def run(*given, **options):
        return changed(right(*given, **options), lambda x: x if x.dtype == torch.float64 else x + 0.01)

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
    verdict = exercises.judge(id, spoilt(solved(id)))
    assert verdict.state == "wrong"
    first = next(result for result in verdict.results if not result.held)
    assert first is verdict.results[0] and phrase in first.message


@pytest.mark.parametrize("id", IDS)
def test_nan_is_told_as_such_and_not_as_a_mixing_of_pairs(id):
    right = solved(id)
    verdict = exercises.judge(id, lambda *given, **options: changed(right(*given, **options), lambda x: x * math.nan))
    told = next(result.message for result in verdict.results if not result.held)
    assert ": look for 0 / 0" in told and "beside" not in told


# ---------------------------------------------------------------- registered slips in disguise


def likelihood_of_the_rejected(*logs, beta=0.1):
    return functional.binary_cross_entropy_with_logits(z(*logs, beta), 0 * z(*logs, beta), reduction="none")


def log_of_one_plus_exp(*logs, beta=0.1):
    return (1 + (-z(*logs, beta)).exp()).log()


def wins_alone(*given):
    return torch.heaviside(better(*given), torch.zeros_like(given[0])).mean(-1)


def one_over_n_times_kish(reward, statistic, beta):
    weight = (reward / beta - (reward / beta).amax(-1, keepdim=True)).exp()
    kish = weight.mean(-1) ** 2 / weight.square().mean(-1)
    return (weight * statistic).mean(-1) / weight.mean(-1), kish


@pytest.mark.parametrize(
    ("id", "run", "slip"),
    [
        (TILT, one_over_n_times_kish, "fraction_for_number"),
        (DPO, likelihood_of_the_rejected, "sign_swapped"),
        (DPO, log_of_one_plus_exp, "log_of_sigmoid"),
        (ACCURACY, wins_alone, "ties_lost"),
    ],
)
def test_a_slip_is_recognised_however_it_is_written(id, run, slip):
    assert exercises.judge(id, run).slip.name == slip


# ---------------------------------------------------------------- right answers from outside


def through_numpy(reward, statistic, beta):
    r, f = reward.numpy() / beta, statistic.numpy()
    weight = np.exp(r - r.max(-1, keepdims=True))
    weight = weight / weight.sum(-1, keepdims=True)
    return torch.as_tensor((weight * f).sum(-1)), torch.as_tensor(1 / (weight**2).sum(-1))


def batch_by_batch(reward, statistic, beta):
    if reward.dim() > 1:
        each = [batch_by_batch(r, f, beta) for r, f in zip(reward, statistic, strict=True)]
        return tuple(torch.stack(x) for x in zip(*each, strict=True))
    best = max(reward)
    weights = [torch.exp((r - best) / beta) for r in reward]
    total = sum(weights)
    return sum(w * f for w, f in zip(weights, statistic, strict=True)) / total, total**2 / sum(w * w for w in weights)


def with_the_gibbs_policy(reward, statistic, beta):
    weight = diffusion_dpo.gibbs_policy(torch.zeros_like(reward), reward, beta=beta)
    return (weight * statistic).sum(-1), weight.norm(dim=-1) ** -2


def as_matrices(reward, statistic, beta):
    weight = torch.softmax(reward / beta, -1).unsqueeze(-2)
    mean, square = (weight @ x.unsqueeze(-1) for x in (statistic, weight.squeeze(-2)))
    return mean.squeeze(-1).squeeze(-1), square.squeeze(-1).squeeze(-1).reciprocal()


def slope_of_the_log_partition_function(reward, statistic, beta):
    """E[f] is the slope of log Σ exp(r / β + s f) in s."""
    r, s = reward / beta, torch.zeros(reward.shape[:-1], dtype=reward.dtype, requires_grad=True)
    (mean,) = torch.autograd.grad((r + s.unsqueeze(-1) * statistic).logsumexp(-1).sum(), s)
    return mean, (2 * r.logsumexp(-1) - (2 * r).logsumexp(-1)).exp()


def reward_differences(logp_chosen, logp_rejected, logp_ref_chosen, logp_ref_rejected, beta=0.1):
    reward = {"w": beta * (logp_chosen - logp_ref_chosen), "l": beta * (logp_rejected - logp_ref_rejected)}
    return diffusion_dpo.bradley_terry_loss(reward["w"], reward["l"])


def module(*logs, beta=0.1):
    return -torch.nn.LogSigmoid()(z(*logs, beta))


def cross_entropy(*logs, beta=0.1):
    both = torch.stack((z(*logs, beta), torch.zeros_like(logs[0])), -1).reshape(-1, 2)
    label = torch.zeros(len(both), dtype=torch.long)
    return functional.cross_entropy(both, label, reduction="none").reshape(logs[0].shape)


def logsumexp_over_two(*logs, beta=0.1):
    margin = z(*logs, beta)
    return torch.logsumexp(torch.stack((torch.zeros_like(margin), -margin)), 0)


def in_place_on_copies(logp_chosen, logp_rejected, logp_ref_chosen, logp_ref_rejected, beta=0.1):
    margin = logp_chosen.clone()
    margin -= logp_rejected
    margin -= logp_ref_chosen
    margin += logp_ref_rejected
    margin *= beta
    return functional.logsigmoid(margin).neg()


def with_the_functions_of_the_package(noise, *predicted, beta=5000.0):
    return diffusion_dpo.diffusion_dpo_loss(*(diffusion_dpo.squared_error(noise, x) for x in predicted), beta=beta)


def lengths_squared(noise, chosen, rejected, ref_chosen, ref_rejected, beta=5000.0):
    squares = torch.stack((chosen, rejected, ref_chosen, ref_rejected)).sub(noise).square().sum(-1)
    signs = torch.tensor([-1.0, 1.0, 1.0, -1.0], dtype=noise.dtype)
    return functional.softplus(-beta / (2 * noise.size(-1)) * torch.einsum("k,k...->...", signs, squares))


def log_densities(noise, chosen, rejected, ref_chosen, ref_rejected, beta=5000.0):
    """−½ ‖ε − ε_θ‖² is a log-density, and its mean a half of the error already."""
    logs = [-0.5 * ((x - noise) ** 2).mean(-1) for x in (chosen, rejected, ref_chosen, ref_rejected)]
    return diffusion_dpo.dpo_loss(*logs, beta=beta)


def pixel_by_pixel(noise, chosen, rejected, ref_chosen, ref_rejected, beta=5000.0):
    total = 0.0
    for d in range(noise.shape[-1]):
        e = [(noise[..., d] - x[..., d]) ** 2 for x in (chosen, rejected, ref_chosen, ref_rejected)]
        total = total + (e[0] - e[1] - e[2] + e[3])
    return -functional.logsigmoid(-beta * total / noise.shape[-1] / 2)


def counted_by_numpy(*given):
    one, other, ref_one, ref_other = (x.numpy() for x in given)
    sign = np.sign((one - ref_one) - (other - ref_other))
    return torch.as_tensor(((1 - sign) / 2).mean(-1, dtype=sign.dtype))


def wins_less_losses(*given):
    margin = better(*given)
    wins, losses = (margin > 0).sum(-1), (margin < 0).sum(-1)
    return (0.5 + (wins - losses) / (2 * margin.shape[-1])).to(given[0].dtype)


def pair_by_pair(*given):
    if given[0].dim() > 1:
        return torch.stack([pair_by_pair(*x) for x in zip(*given, strict=True)])
    points = 0.0
    for one, other, ref_one, ref_other in zip(*(x.tolist() for x in given), strict=True):
        gain, theirs = ref_one - one, ref_other - other
        points += 1.0 if gain > theirs else 0.5 if gain == theirs else 0.0
    return torch.tensor(points / len(given[0]), dtype=given[0].dtype)


def with_the_accuracy_of_the_package(*given):
    return diffusion_dpo.implicit_accuracy(better(*given)).mean(-1)


@pytest.mark.parametrize(
    ("id", "run"),
    [
        *((TILT, run) for run in (through_numpy, batch_by_batch, with_the_gibbs_policy, as_matrices)),
        (TILT, slope_of_the_log_partition_function),
        *((DPO, run) for run in (reward_differences, module, cross_entropy, logsumexp_over_two, in_place_on_copies)),
        (DPO, diffusion_dpo.dpo_loss),
        *((DENOISING, run) for run in (with_the_functions_of_the_package, lengths_squared, log_densities)),
        (DENOISING, pixel_by_pixel),
        *((ACCURACY, run) for run in (counted_by_numpy, wins_less_losses, pair_by_pair)),
        (ACCURACY, with_the_accuracy_of_the_package),
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
