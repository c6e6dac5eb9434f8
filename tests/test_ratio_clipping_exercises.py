"""The exercises of chapter 2: what their properties kill, what they let through, and what they say."""

import inspect
import re
import time

import pytest
import torch
from helpers import verdict_on

import pocourse.ratio_clipping.exercises  # noqa: F401 (registers them)
from pocourse.lesson import cards, exercises
from pocourse.ratio_clipping import bounds, objectives

PENALTY, CLIP, SPO, KL = IDS = [
    f"ratio_clipping.{name}" for name in ("average_tv_penalty", "ppo_clip", "spo", "approx_kl")
]

# Which properties kill which wrong answer, the properties in their order: x kills, . does not.
KILLS = {
    PENALTY: {
        "largest_advantage": ".xxxx.xxx.x.xx",
        "averaged_over_the_old_policy": ".xxxx.xxx..x.x",
        "sizes_averaged": ".xxx...xx.x..x",
        "no_absolute_value": ".xxxxxxxx..x.x",
        "absolute_value_after_the_maximum": ".xxxxxxxx....x",
        "xi_averaged_over_states": ".xxxx.xxx....x",
        "tv_without_the_half": ".xxxx.xxx...xx",
        "tv_as_a_mean_over_actions": "..xx..........",
        "tv_as_the_largest_change": "...x..........",
        "tv_of_the_worst_state": ".xxxx.xxx...xx",
        "tv_with_equal_weights": ".xxxx.xxx...xx",
        "tv_from_the_ratios": "....x.x....x..",
        "tv_squared": ".xxxx.xxx.xx.x",
        "kl_for_tv": ".xxxx.xxx.xxxx",
        "trpo": ".xxxx.xxx...xx",
        "one_power_of_the_horizon": ".xxxx.xxx..x.x",
        "gamma_forgotten": ".xxxx.xxx....x",
        "factor_two_forgotten": ".xxxx.xxx..x.x",
        "xi_squared": ".xxxx.xxxxx..x",
        "xi_detached": ".............x",
        "one_penalty_per_state": "xxxxxxxxxxxxxx",
        "overlap_for_tv": ".xxxx.xxx.x.xx",
    },
    CLIP: {
        "clip_without_the_minimum": "....xx..x.",
        "no_clip": "...x.xx.x.",
        "maximum_for_minimum": "...xxxx.x.",
        "minimum_before_the_advantage": "...xxxx.x.",
        "product_clipped": ".xxxxxxxx.",
        "clip_eps_ignored": "......x...",
        "upper_edge_only": "...x.xx.x.",
        "lower_edge_only": "...x.xx.x.",
        "ratio_detached": "..xxx...xx",
        "loss_for_objective": ".xx.xxx.x.",
        "clipped_samples_masked": ".....xx.x.",
        "advantages_normalised": "xxx.xxxxxx",
        "sign_by_division": ".........x",
        "dual_clip": "........x.",
        "mean_taken": "xxxxxxxxxx",
        "loop_over_one_axis": "x.........",
    },
    SPO: {
        "half_forgotten": "...xxxxx..xx.",
        "sign_kept": "...xxxxx.xxx.",
        "penalty_without_the_advantage": "...xxxxxx.xxx",
        "simple_aligned": ".xx.xxxxxxxxx",
        "not_squared": "...xxxxx..xx.",
        "brackets_forgotten": "...xxxxx.xxx.",
        "eps_ignored": "..........x..",
        "loss_for_objective": ".xx.xxxx.xxx.",
        "penalty_added": "...xxxxx.xxx.",
        "gain_only": ".x....x..xxx.",
        "ratio_clipped_too": "....xx.x.xxx.",
        "penalty_as_in_the_clip": ".....x.x...x.",
        "penalty_detached": "...xxx....xx.",
        "division_by_the_sign": "............x",
        "mean_taken": "xxxxxxxxxxxxx",
    },
    KL: {
        "k1": "..x.xxxxxx",
        "k1_without_its_sign": "..xx..xxxx",
        "k2": "..xx..xx.x",
        "old_and_new_swapped": "..xx..xx.x",
        "the_other_direction": "..xx..xx.x",
        "ratio_detached": ".....xxx.x",
        "log_of_the_ratio": ".........x",
        "ratio_of_probabilities": ".........x",
        "log_added": "..xxxxxxxx",
        "one_forgotten": ".xxx...x.x",
        "sign_turned": "..xxx.xx.x",
        "log_ratio_clipped": "..xx..xx.x",
        "weighted_by_the_new_policy": "..xx..xx.x",
        "ratios_normalised": "x.xxxxxx.x",
        "mean_taken": "xxxxxxxxxx",
    },
}


def test_the_exercises_come_in_the_order_of_the_chapter():
    mine = [exercises.find(id) for id in exercises.registry() if id in IDS]
    assert [found.id for found in mine] == IDS
    assert [found.section for found in mine] == ["2", "3", "5", "5"]


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
            assert any(c.isdigit() for c in message) or "no gradient flows back" in message
            assert message.endswith((".", "?"))
            assert "e-1" not in message and "Traceback" not in message


@pytest.mark.parametrize("id", IDS)
def test_the_solution_is_right_and_quickly_judged(id):
    begun = time.perf_counter()
    verdict = exercises.judge(id, exercises.solved(exercises.find(id)))
    assert verdict.right
    assert time.perf_counter() - begun < 1


def test_the_solutions_agree_with_the_functions_of_the_package():
    generator = torch.Generator().manual_seed(3)
    ratio = 2 * torch.rand(400, generator=generator, dtype=torch.float64)
    advantage = torch.randn(400, generator=generator, dtype=torch.float64)
    solved = {id: exercises.solved(exercises.find(id)) for id in IDS}
    for eps in (0.1, 0.2, 0.5):
        wanted = objectives.clip_objective(ratio, advantage, clip_eps=eps)
        torch.testing.assert_close(solved[CLIP](ratio, advantage, clip_eps=eps), wanted)
        wanted = objectives.spo_objective(ratio, advantage, eps=eps)
        torch.testing.assert_close(solved[SPO](ratio, advantage, eps=eps), wanted)
    logp, logp_old = (ratio + 0.01).log(), advantage.abs().neg()
    torch.testing.assert_close(solved[KL](logp, logp_old), objectives.kl_estimates(logp, logp_old)[1])
    old, new = (torch.rand(4, 3, generator=generator, dtype=torch.float64).softmax(-1) for _ in range(2))
    occupancy, table = torch.rand(4, generator=generator, dtype=torch.float64).softmax(-1), advantage[:12].reshape(4, 3)
    torch.testing.assert_close(
        solved[PENALTY](old, new, occupancy, table, 0.9),
        bounds.average_tv_penalty(occupancy, old, new, table, gamma=0.9),
    )


def test_what_k3_adds_is_zero_on_average_unless_the_new_policy_plays_what_the_old_one_never_did():
    def added(old, new):
        played = old > 0
        return (old[played] * (new[played] / old[played] - 1)).sum().item()

    old, new = torch.tensor([0.7, 0.3, 0.0]), torch.tensor([0.4, 0.6, 0.0])
    assert added(old, new) == pytest.approx(0, abs=1e-6)
    assert added(old, torch.tensor([0.4, 0.4, 0.2])) == pytest.approx(-0.2)


@pytest.mark.parametrize("id", IDS)
def test_an_answer_that_spoils_its_inputs_does_no_harm_to_the_next(id):
    def spoils(one, other, *rest, **options):
        return one.mul_(0)

    verdict = exercises.judge(id, spoils)
    assert verdict.state == "wrong"
    assert "changes its input" in verdict.message or "raised" in verdict.message
    assert exercises.judge(id, exercises.solved(exercises.find(id))).right


# ---------------------------------------------------------------- wrong answers from outside

OUTSIDE = []


def outside(id, phrase):
    """A wrong answer that is none of the mutants, and words that must be among those it gets."""

    def add(run):
        OUTSIDE.append(pytest.param(id, run, phrase, id=f"{id.split('.')[1]}-{run.__name__}"))
        return run

    return add


def clipped(ratio, eps):
    return ratio.clamp(1 - eps, 1 + eps)


@outside(CLIP, "at r = 1, A = -0.5 your value is 0.5, and it must be -0.5")
def absolute_advantage(ratio, advantage, clip_eps=0.2):
    return torch.minimum(ratio * advantage.abs(), clipped(ratio, clip_eps) * advantage.abs())


@outside(CLIP, "at r = 0.81, A = -3 your slope ∂f/∂r is 0, and it must be -3. Inside the range")
def log_ratio_clipped(ratio, advantage, clip_eps=0.2):
    return torch.minimum(ratio * advantage, ratio.log().clamp(-clip_eps, clip_eps).exp() * advantage)


@outside(CLIP, "at r = 0.81, A = 2 your slope ∂f/∂r is 1, and it must be 2. Inside the range both products are r A")
def clipped_branch_detached(ratio, advantage, clip_eps=0.2):
    return torch.minimum(ratio * advantage, clipped(ratio, clip_eps).detach() * advantage)


@outside(CLIP, "at r = 0.5, A = -1 your value is -0.8333, and it must be -0.8")
def lower_edge_by_division(ratio, advantage, clip_eps=0.2):
    return torch.minimum(ratio * advantage, ratio.clamp(1 / (1 + clip_eps), 1 + clip_eps) * advantage)


@outside(CLIP, "at r = 1.5, A = 2 your value is 2.08, and it must be 2.4")
def eps_squared(ratio, advantage, clip_eps=0.2):
    return torch.minimum(ratio * advantage, clipped(ratio, clip_eps**2) * advantage)


@outside(CLIP, "at r = 1, A = 2 your value is 0, and it must be 2")
def gain_clipped(ratio, advantage, clip_eps=0.2):
    gain = ratio - 1
    return torch.minimum(gain * advantage, gain.clamp(-clip_eps, clip_eps) * advantage)


@outside(CLIP, "the size of A scales them")
def sign_of_the_advantage_only(ratio, advantage, clip_eps=0.2):
    sign = advantage.sign()
    return torch.minimum(ratio * sign, clipped(ratio, clip_eps) * sign)


@outside(CLIP, "`clip_eps` = 0.05 your value is 2.4, and it must be 2.1")
def range_never_smaller_than_the_default(ratio, advantage, clip_eps=0.2):
    clip_eps = max(clip_eps, 0.2)
    return torch.minimum(ratio * advantage, clipped(ratio, clip_eps) * advantage)


@outside(CLIP, "turned torch.float64 into torch.float32")
def single_precision(ratio, advantage, clip_eps=0.2):
    ratio, advantage = ratio.float(), advantage.float()
    return torch.minimum(ratio * advantage, clipped(ratio, clip_eps) * advantage)


@outside(CLIP, "changes its input `ratio`")
def clamped_in_place(ratio, advantage, clip_eps=0.2):
    plain = ratio * advantage
    with torch.no_grad():
        return torch.minimum(plain, ratio.clamp_(1 - clip_eps, 1 + clip_eps) * advantage)


@outside(SPO, "at r = 1.2, A = 2 your slope ∂f/∂r is -8, and it must be 0. The edge is at 1 + ε sign(A) = 1.2")
def penalty_over_eps_squared(ratio, advantage, eps=0.2):
    return ratio * advantage - advantage.abs() / (2 * eps**2) * (ratio - 1) ** 2


@outside(SPO, "at r = 1.2, A = 2 your slope ∂f/∂r is 1, and it must be 0")
def half_taken_twice(ratio, advantage, eps=0.2):
    return ratio * advantage - advantage.abs() / (4 * eps) * (ratio - 1) ** 2


@outside(SPO, "at r = 1.3, A = 2 your slope ∂f/∂r is -2.5, and it must be -1. The slope is a straight line")
def a_cubic_with_both_conditions(ratio, advantage, eps=0.2):
    return ratio * advantage - advantage.abs() / (3 * eps**2) * (ratio - 1).abs() ** 3


@outside(SPO, "at r = 1.2, A = 2 your slope ∂f/∂r is 0.4807, and it must be 0")
def log_ratio_in_the_penalty(ratio, advantage, eps=0.2):
    return ratio * advantage - advantage.abs() / (2 * eps) * ratio.log() ** 2


@outside(SPO, "at r = 1.2, A = 2 your slope ∂f/∂r is 0.3333, and it must be 0")
def divergence_for_a_penalty(ratio, advantage, eps=0.2):
    return ratio * advantage - advantage.abs() / eps * (ratio - 1 - ratio.log())


@outside(SPO, "at r = 1, A = -0.5 your value is 0.5, and it must be -0.5")
def absolute_advantage_everywhere(ratio, advantage, eps=0.2):
    return advantage.abs() * (ratio - (ratio - 1) ** 2 / (2 * eps))


@outside(SPO, "Is a sign of A left where |A| belongs?")
def sign_for_the_size(ratio, advantage, eps=0.2):
    return ratio * advantage - advantage.sign() / (2 * eps) * (ratio - 1) ** 2 * 2


@outside(SPO, "at r = 1, A = -0.5 your slope ∂f/∂r is 0.5, and it must be -0.5")
def top_always_above_one(ratio, advantage, eps=0.2):
    size = advantage.abs()
    return advantage + eps * size / 2 - size / (2 * eps) * (ratio - 1 - eps) ** 2


@outside(SPO, "Product and penalty both carry one factor of the size of A")
def penalty_with_the_square_of_the_advantage(ratio, advantage, eps=0.2):
    return ratio * advantage - advantage**2 / (2 * eps) * (ratio - 1) ** 2


@outside(SPO, "returned shape [] for inputs of shape [6]")
def summed(ratio, advantage, eps=0.2):
    return (ratio * advantage - advantage.abs() / (2 * eps) * (ratio - 1) ** 2).sum()


@outside(KL, "at r = 2 your value is 0, and it must be 0.3069")
def k1_cut_at_zero(logp, logp_old):
    return (logp_old - logp).clamp(min=0)


@outside(KL, "at logp = -800, logp_old = -0.5 your value is 19, and it must be 798.5")
def log_ratio_clipped_far_out(logp, logp_old):
    log_ratio = (logp - logp_old).clamp(-20, 20)
    return log_ratio.exp() - 1 - log_ratio


@outside(KL, "your value is 17.42, and it must be 798.5")
def ratio_kept_above_zero(logp, logp_old):
    ratio = (logp - logp_old).exp().clamp(min=1e-8)
    return ratio - 1 - ratio.log()


@outside(KL, "No sample may look at the rest of its batch")
def k1_centred(logp, logp_old):
    k1 = logp_old - logp
    return k1 - k1.mean()


@outside(KL, "your slope in `logp` is 2, and it must be 1. The derivative of r with respect to `logp` is r")
def chi_square(logp, logp_old):
    return ((logp - logp_old).exp() - 1) ** 2 / 2


@outside(KL, "no gradient flows back to `logp`")
def without_gradient(logp, logp_old):
    with torch.no_grad():
        log_ratio = logp - logp_old
        return log_ratio.exp() - 1 - log_ratio


@outside(KL, "r is π′ / π, new over old")
def log_probabilities_divided(logp, logp_old):
    ratio = logp / logp_old
    return ratio - 1 - ratio.log()


@outside(KL, "it must be KL(π ‖ π′) = 0.2008")
def summand_of_the_divergence(logp, logp_old):
    return logp_old.exp() * (logp_old - logp)


@outside(KL, "Yours is KL(π′ ‖ π), the other direction")
def new_policy_first(logp, logp_old):
    return (logp - logp_old).exp() * (logp - logp_old)


@outside(KL, "Your function returned a list where a tensor is expected")
def a_list(logp, logp_old):
    return [a - b for a, b in zip(logp, logp_old, strict=True)]


def tables(prob_old, prob, occupancy, advantage):
    """ξ and the average total variation, for answers that are wrong elsewhere."""
    xi = (prob * advantage).sum(-1).abs().max()
    return xi, (occupancy * (prob - prob_old).abs().sum(-1) / 2).sum()


@outside(PENALTY, "so ξ = 0.8")
def spread_for_twice_the_size(prob_old, prob, occupancy, advantage, gamma):  # (2.12): true, and not what is asked for
    mean = (prob * advantage).sum(-1)
    _, average = tables(prob_old, prob, occupancy, advantage)
    return gamma / (1 - gamma) ** 2 * (mean.max() - mean.min()) * average


@outside(PENALTY, "The factor 2 γ / (1 − γ)² is 180 there")
def one_minus_gamma_squared(prob_old, prob, occupancy, advantage, gamma):
    xi, average = tables(prob_old, prob, occupancy, advantage)
    return 2 * gamma / (1 - gamma**2) * xi * average


@outside(PENALTY, "and γ = 0.9 your penalty is 36.45, and it must be 18")
def gamma_to_the_wrong_power(prob_old, prob, occupancy, advantage, gamma):
    xi, average = tables(prob_old, prob, occupancy, advantage)
    return 2 * 2.25 * gamma**2 / (1 - gamma) ** 2 * xi * average


@outside(PENALTY, "ξ is 5, a maximum over all states, without weights")
def xi_over_visited_states(prob_old, prob, occupancy, advantage, gamma):
    mean = (prob * advantage).sum(-1).abs()
    _, average = tables(prob_old, prob, occupancy, advantage)
    return 2 * gamma / (1 - gamma) ** 2 * mean[occupancy > 0].max() * average


@outside(PENALTY, "must be 0.4. By hand: Ā = (0.2, −0.8)")
def weighted_before_the_maximum(prob_old, prob, occupancy, advantage, gamma):
    mean = occupancy * (prob * advantage).sum(-1).abs()
    _, average = tables(prob_old, prob, occupancy, advantage)
    return 2 * gamma / (1 - gamma) ** 2 * mean.max() * average


@outside(PENALTY, "must be 0.4. By hand")
def pinsker_for_tv(prob_old, prob, occupancy, advantage, gamma):
    kl = (torch.xlogy(prob_old, prob_old) - torch.xlogy(prob_old, prob)).sum(-1)
    xi, _ = tables(prob_old, prob, occupancy, advantage)
    return 2 * gamma / (1 - gamma) ** 2 * xi * (occupancy * (kl / 2).sqrt()).sum()


@outside(PENALTY, "a ratio π′ / π says nothing")
def ratios_divided_by_zero(prob_old, prob, occupancy, advantage, gamma):
    xi, _ = tables(prob_old, prob, occupancy, advantage)
    tv = (prob_old * (prob / prob_old - 1).abs()).sum(-1) / 2
    return 2 * gamma / (1 - gamma) ** 2 * xi * (occupancy * tv).sum()


@outside(PENALTY, "returned a float where a tensor is expected")
def a_float(prob_old, prob, occupancy, advantage, gamma):
    xi, average = tables(prob_old, prob, occupancy, advantage)
    return float(2 * gamma / (1 - gamma) ** 2 * xi * average)


@outside(PENALTY, "returned shape [1] where a single number is asked for")
def an_axis_left(prob_old, prob, occupancy, advantage, gamma):
    xi, average = tables(prob_old, prob, occupancy, advantage)
    return (2 * gamma / (1 - gamma) ** 2 * xi * average).reshape(1)


@outside(PENALTY, "`prob` enters twice, in ξ and in TV")
def tv_detached(prob_old, prob, occupancy, advantage, gamma):
    xi, average = tables(prob_old, prob, occupancy, advantage)
    return 2 * gamma / (1 - gamma) ** 2 * xi * average.detach()


@outside(PENALTY, "Two actions gain in each state, and TV adds up what both of them gain")
def the_largest_gain(prob_old, prob, occupancy, advantage, gamma):
    xi, _ = tables(prob_old, prob, occupancy, advantage)
    return 2 * gamma / (1 - gamma) ** 2 * xi * (occupancy * (prob - prob_old).amax(-1)).sum()


@outside(PENALTY, "0.3), d = (0.6, 0.4), A = (1, 1, −2, −3) and (4, 2, 0, −2), γ = 0.5, in single precision")
def the_worst_state_in_single_precision(prob_old, prob, occupancy, advantage, gamma):
    xi, average = tables(prob_old, prob, occupancy, advantage)
    if prob.dtype == torch.float32:
        average = (prob - prob_old).abs().sum(-1).max() / 2
    return 2 * gamma / (1 - gamma) ** 2 * xi * average


@outside(PENALTY, "your penalty is nan, and it must be 0: look for 0 / 0 or the logarithm of 0")
def not_a_number(prob_old, prob, occupancy, advantage, gamma):
    xi, average = tables(prob_old, prob, occupancy, advantage)
    return average / average * xi


@outside(CLIP, "at r = 5, A = -7 your value is -21, and it must be -35. r is above 1 + ε and A < 0")
def dual_clip_at_three(ratio, advantage, clip_eps=0.2):
    value = torch.minimum(ratio * advantage, clipped(ratio, clip_eps) * advantage)
    return torch.where(advantage < 0, torch.maximum(value, 3 * advantage), value)


@outside(CLIP, "at r = 0, A = 10 your value is 4, and it must be 0. r is below 1 − ε and A > 0")
def ratio_kept_between_bounds(ratio, advantage, clip_eps=0.2):
    ratio = ratio.clamp(0.4, 2)
    return torch.minimum(ratio * advantage, clipped(ratio, clip_eps) * advantage)


@outside(CLIP, "at r = 0.05, A = 10 your value is 0.15, and it must be 0.5")
def advantage_kept_between_bounds(ratio, advantage, clip_eps=0.2):
    advantage = advantage.clamp(-3, 3)
    return torch.minimum(ratio * advantage, clipped(ratio, clip_eps) * advantage)


@outside(CLIP, "at r = 50, A = -7 your slope ∂f/∂r is 0, and it must be -7")
def gradient_cut_far_out(ratio, advantage, clip_eps=0.2):
    value = torch.minimum(ratio * advantage, clipped(ratio, clip_eps) * advantage)
    return torch.where(ratio > 10, value.detach(), value)


@outside(CLIP, "your value is nan at r = 0.5, A = 2: look for 0 / 0 or the logarithm of 0.")
def always_nan(ratio, advantage, clip_eps=0.2):
    return ratio * advantage * float("nan")


@outside(KL, "at r = 20 your value is 1.655, and it must be 16")
def log_ratio_held_down(logp, logp_old):
    log_ratio = (logp - logp_old).clamp(max=1.4)
    return log_ratio.exp() - 1 - log_ratio


@outside(KL, "at r = 10000 your value is 2972, and it must be 9990. r − 1 − log r = 10000 − 1 − 9.2103, and")
def log_ratio_held_down_further(logp, logp_old):
    log_ratio = (logp - logp_old).clamp(max=8)
    return log_ratio.exp() - 1 - log_ratio


@outside(SPO, "at r = 0, A = 10 your value is -9.25, and it must be -25. One parabola for all r")
def ratio_kept_inside(ratio, advantage, eps=0.2):
    ratio = ratio.clamp(0.3, 2)
    return ratio * advantage - advantage.abs() / (2 * eps) * (ratio - 1) ** 2


@outside(SPO, "at r = 1.05, A = 2, `eps` = 0.05 your value is 2.087, and it must be 2.05. With ε = 0.05 the top")
def eps_never_smaller_than_the_default(ratio, advantage, eps=0.2):
    eps = max(eps, 0.2)
    return ratio * advantage - advantage.abs() / (2 * eps) * (ratio - 1) ** 2


@outside(SPO, "at r = 1.9, A = 2, `eps` = 0.9 your value is 2.18, and it must be 2.9. With ε = 0.9 the top")
def eps_never_larger_than_a_half(ratio, advantage, eps=0.2):
    eps = min(eps, 0.5)
    return ratio * advantage - advantage.abs() / (2 * eps) * (ratio - 1) ** 2


def rubbish_in_a_table(solution):
    """The right values for one sample and for a row of them, and the reversed ones for a table."""

    def run(one, other, **options):
        value = solution(one, other, **options)
        return value if value.dim() < 2 else value.flip(-1)

    return run


def rubbish_in_single_precision(solution):
    def run(one, other, **options):
        value = solution(one, other, **options)
        return value if value.dtype == torch.float64 else value + 0.01

    return run


@pytest.mark.parametrize("id", [CLIP, SPO, KL])
@pytest.mark.parametrize(
    ("spoilt", "phrase"),
    [
        (rubbish_in_a_table, "The shape of the batch is the caller's business"),
        (rubbish_in_single_precision, "in single precision (torch.float32, a batch)"),
    ],
)
def test_tables_and_single_precision_are_looked_at_as_well(id, spoilt, phrase):
    verdict = exercises.judge(id, spoilt(exercises.solved(exercises.find(id))))
    assert verdict.state == "wrong"
    (broken,) = [result for result in verdict.results if not result.held]
    assert broken.property == "one value per sample, in a batch of any shape" and phrase in broken.message


@pytest.mark.parametrize("id", IDS)
def test_nan_is_told_as_such_and_not_as_a_mixing_of_samples(id):
    right = exercises.solved(exercises.find(id))
    verdict = exercises.judge(id, lambda *given, **options: right(*given, **options) * float("nan"))
    told = next(result.message for result in verdict.results if not result.held)
    assert "0 / 0 or the logarithm of 0" in told and "other samples" not in told


@pytest.mark.parametrize(("id", "run", "phrase"), OUTSIDE)
def test_a_wrong_answer_from_outside_hears_what_is_wrong(id, run, phrase):
    verdict = exercises.judge(id, run)
    assert verdict.state == "wrong"
    assert verdict.slip is None  # it is none of the registered ones
    said = "\n".join([verdict.message, *(result.message for result in verdict.results)])
    assert phrase in said


def test_there_are_at_least_three_from_outside_for_each_exercise():
    counted = [sum(case.values[0] == id for case in OUTSIDE) for id in IDS]
    assert min(counted) >= 3 and sum(counted) >= 10


# ---------------------------------------------------------------- registered slips in disguise


def maximum_for_bad_actions(ratio, advantage, clip_eps=0.2):
    plain, edge = ratio * advantage, clipped(ratio, clip_eps) * advantage
    return torch.where(advantage < 0, torch.maximum(plain, edge), torch.minimum(plain, edge))


def constant_outside(ratio, advantage, clip_eps=0.2):
    inside = (ratio - 1).abs() <= clip_eps
    return torch.where(inside, ratio, 1 + clip_eps * (ratio - 1).sign()) * advantage


def opening_upwards(ratio, advantage, eps=0.2):
    return advantage * (ratio - (ratio - 1) ** 2 / (2 * eps))


def upside_down(logp, logp_old):
    return torch.expm1(logp_old - logp) + logp - logp_old


def largest_table_entry(prob_old, prob, occupancy, advantage, gamma):
    _, average = tables(prob_old, prob, occupancy, advantage)
    return average * advantage.abs().amax() * 2 * gamma / (1 - gamma) ** 2


@pytest.mark.parametrize(
    ("id", "run", "slip"),
    [
        (CLIP, maximum_for_bad_actions, "minimum_before_the_advantage"),
        (CLIP, constant_outside, "clip_without_the_minimum"),
        (SPO, opening_upwards, "sign_kept"),
        (KL, upside_down, "old_and_new_swapped"),
        (PENALTY, largest_table_entry, "largest_advantage"),
    ],
)
def test_a_slip_is_recognised_however_it_is_written(id, run, slip):
    assert exercises.judge(id, run).slip.name == slip


# ---------------------------------------------------------------- right answers from outside


def clamped_on_one_side(ratio, advantage, clip_eps=0.2):
    kept = torch.where(advantage > 0, ratio.clamp(max=1 + clip_eps), ratio.clamp(min=1 - clip_eps))
    return kept * advantage


def loss_turned_twice(ratio, advantage, *, clip_eps=0.2):
    plain, edge = -ratio * advantage, -clipped(ratio, clip_eps) * advantage
    return -torch.maximum(plain, edge)


def constants_as_tensors(ratio, advantage, clip_eps=0.2):
    eps = torch.tensor(clip_eps)
    return torch.fmin(ratio * advantage, torch.clamp(ratio, 1 - eps, 1 + eps) * advantage)


def multiplied_out(ratio, advantage, eps=0.2):
    bend = advantage.abs() / (2 * eps)
    return -bend * ratio * ratio + (advantage + 2 * bend) * ratio - bend


def with_addcmul(ratio, advantage, *, eps=0.2):
    step = ratio - 1
    return torch.addcmul(ratio * advantage, advantage.abs() * step, step, value=-0.5 / eps)


def the_distance_to_the_edge(ratio, advantage, eps=0.2):
    edge = torch.where(advantage > 0, 1 + eps, 1 - eps)
    size = advantage.abs()
    return advantage + eps / 2 * size - size * (ratio - edge) ** 2 / (2 * eps)


def step_by_step(logp, logp_old):
    log_ratio = logp.sub(logp_old)
    return torch.exp(log_ratio).sub(log_ratio).sub(1)


def a_series_near_one(logp, logp_old):
    x = logp - logp_old
    return torch.where(x.abs() < 1e-4, x**2 / 2 + x**3 / 6, torch.expm1(x) - x)


def k1_and_what_is_zero_on_average(logp, logp_old):
    k1, gain = logp_old - logp, torch.expm1(logp - logp_old)
    return torch.stack((k1, gain)).sum(0)


def the_change_of_the_policy(prob_old, prob, occupancy, advantage, gamma):
    change = prob - prob_old  # the old policy's advantages average to zero
    xi = (change * advantage).sum(-1).abs().amax()
    return gamma / (1 - gamma) ** 2 * xi * (occupancy @ change.abs().sum(-1))


def the_mass_that_leaves(prob_old, prob, occupancy, advantage, *, gamma):
    leaves = (prob_old - prob).clamp(min=0).sum(-1)
    mean = torch.einsum("sa,sa->s", prob, advantage)
    return 2 * mean.abs().max() * gamma * torch.sum(occupancy * leaves) / (1 - gamma) ** 2


def over_both_axes_at_once(prob_old, prob, occupancy, advantage, gamma):
    horizon = 1 / (1 - gamma)
    twice_tv = (occupancy[:, None] * (prob - prob_old).abs()).sum()
    return gamma * horizon * horizon * twice_tv * torch.linalg.vecdot(prob, advantage).abs().max()


def single_precision_inside(ratio, advantage, eps=0.2):
    one, other = ratio.float(), advantage.float()
    return (one * other - other.abs() / (2 * eps) * (one - 1) ** 2).to(ratio.dtype)


def edge_in_single_precision(ratio, advantage, eps=0.2):
    edge = torch.where(advantage > 0, torch.tensor(1 + eps), torch.tensor(1 - eps))
    return advantage * (1 + eps * advantage.sign() / 2) - advantage.abs() / (2 * eps) * (ratio - edge) ** 2


def gamma_as_a_tensor(prob_old, prob, occupancy, advantage, gamma):
    gamma = torch.tensor(gamma)
    xi, average = tables(prob_old, prob, occupancy, advantage)
    return 2 * gamma / (1 - gamma) ** 2 * xi * average


@pytest.mark.parametrize(
    ("id", "run"),
    [
        *((CLIP, run) for run in (clamped_on_one_side, loss_turned_twice, constants_as_tensors)),
        *((SPO, run) for run in (multiplied_out, with_addcmul, the_distance_to_the_edge)),
        *((SPO, run) for run in (single_precision_inside, edge_in_single_precision)),
        (PENALTY, gamma_as_a_tensor),
        *((KL, run) for run in (step_by_step, a_series_near_one, k1_and_what_is_zero_on_average)),
        *((PENALTY, run) for run in (the_change_of_the_policy, the_mass_that_leaves, over_both_axes_at_once)),
        (CLIP, objectives.clip_objective),
        (SPO, objectives.spo_objective),
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
        assert f"- `{name}`" in found.task or f" and `{name}`, " in found.task
    assert f"`{found.name}(" in found.task


@pytest.mark.parametrize("id", IDS)
def test_solutions_are_short_and_no_early_hint_gives_them_away(id):
    found = exercises.find(id)
    body = found.solution.split("\n")[1:]
    assert 1 <= len(body) <= 6
    told = found.solution.split("return ")[1].strip()
    assert not any(told in text for text in (found.task, *found.hints))


def test_the_public_slip_is_cited():
    (cited,) = [mutant for id in IDS for mutant in exercises.find(id).mutants if mutant.citation]
    assert cited.name == "minimum_before_the_advantage"
    assert "https://github.com/takuseno/ppo/issues/3" in cited.citation
    assert "takuseno" not in cards.ADDRESS.sub("", cited.citation)  # a project is named, and no person
