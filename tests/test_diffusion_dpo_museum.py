"""The museum of chapter 5: complete plaques, wrong code that is wrong, good judges, plots that show what is said."""

import math
import re

import numpy as np
import pytest
import torch

from pocourse.diffusion_dpo import diffusion_dpo_loss, diffusion_dpo_margin, dpo_loss, dpo_margin, implicit_accuracy
from pocourse.diffusion_dpo import museum as chapter
from pocourse.diffusion_dpo.museum import (
    beta_twice,
    drawings,
    error_taken_for_logp,
    reference_that_learns,
    sigmoid_of_the_mean,
    symptoms,
)
from pocourse.lesson import exercises, museum

PIECES = ["reference_that_learns", "sigmoid_of_the_mean", "error_taken_for_logp", "beta_twice"]

# Which properties kill which wrong answer, the properties in their order: x kills, . does not.
KILLS = {
    "reference_that_learns": {
        "always_true": "..xxx",
        "log_two_at_the_start": ".xx.x",
        "the_gradient_at_the_reference": "..xxx",
        "the_reference_is_used": "...xx",
        "the_policy_moves_it": "...xx",
        "both_are_moved": "..x.x",
        "a_flat_reference": "...xx",
        "the_formula": "xx...",
        "a_leap": ".x...",
        "to_the_last_digit": "xx...",
    },
    "sigmoid_of_the_mean": {
        "always_true": "..xxx",
        "at_the_reference": "xxxxx",
        "equal_pairs": "x.xxx",
        "mean_of_singles": "x....",
        "the_formula": "xx...",
        "any_order": "..xxx",
        "tiny_margins": "..xxx",
        "moved_with_its_reference": "..xxx",
        "it_falls_silent": "..xxx",
        "between_the_pairs": "x.xxx",
        "who_pulls_down": "..xxx",
    },
    "error_taken_for_logp": {
        "always_true": "..xxx",
        "the_chosen_alone": "..xxx",
        "the_rejected_alone": "...x.",
        "the_better_pair": "..xxx",
        "in_the_limit": "...xx",
        "no_weight": "..xxx",
        "on_and_on": ".x...",
        "the_formula": "xx...",
        "it_knows_them_apart": "..xxx",
        "it_moves": "..xxx",
    },
    "beta_twice": {
        "always_true": "..xxxx",
        "log_two_at_the_reference": ".xxxx.",
        "beta_of_one": "..x.x.",
        "a_tenth_alone": "....x.",
        "a_flat_reference": "....x.",
        "as_often_as_not": "..xxx.",
        "half_of_beta": ".x..x.",
        "the_formula": ".x....",
        "in_inverse_proportion": "...x..",
        "the_tighter_the_larger": "..xxx.",
        "one_per_pair": "x.....",
        "level_there": ".....x",
    },
}


def piece(name):
    return museum.find(f"diffusion_dpo.{name}")


def task(name):
    return exercises.find(piece(name).exercise)


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


def drawn(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- plaques ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PIECES)
def test_a_piece_names_its_file(name):
    assert re.search(r"`[\w/]+\.py`", piece(name).published)


def test_the_tour_has_four_pieces():
    mine = [id for id, found in museum.registry().items() if found.chapter == "diffusion_dpo"]
    assert mine == [f"diffusion_dpo.{name}" for name in PIECES]


# --- the wrong code is wrong, and the tasks are good tasks -------------------------------------------------


@pytest.fixture(scope="module")
def matrices():
    return {name: exercises.matrix(task(name).id) for name in PIECES}


@pytest.mark.parametrize("name", PIECES)
def test_which_property_kills_which_wrong_answer(matrices, name):
    matrix = matrices[name]
    marks = {
        mutant: "".join("x" if property in killers else "." for property in matrix.properties)
        for mutant, killers in matrix.kills.items()
    }
    assert marks == KILLS[name]


@pytest.mark.parametrize("name", PIECES)
def test_every_useless_property_is_told_something_of_its_own(matrices, name):
    for mutant, said in matrices[name].said.items():
        assert said.startswith("your property says ") and said.endswith("."), mutant


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


FIRST, LAST = torch.tensor([0]), torch.tensor([3])


@outside("reference_that_learns", "says True to the published mistake")
def a_step_of_training_helps(loss):
    policy, reference = numbers(0.1, 0.2, 0.3, 0.4).requires_grad_(), numbers(0.1, 0.2, 0.3, 0.4)
    value = loss(policy, reference, FIRST, LAST, 0.5).sum()
    if not value.requires_grad:
        return False
    stepped = policy.detach() - 0.1 * torch.autograd.grad(value, policy)[0]
    return bool((stepped - reference)[0] > (stepped - reference)[3])


@outside("reference_that_learns", "says True to a margin without a reference")
def training_lowers_the_loss(loss):
    policy, reference = numbers(0.1, 0.2, 0.3, 0.4), numbers(0.1, 0.2, 0.3, 0.4)
    ahead = loss(policy + numbers(0.3, 0, 0, -0.3), reference, FIRST, LAST, 0.5).sum()
    return bool(ahead < loss(policy, reference, FIRST, LAST, 0.5).sum() - 1e-6)


@outside("reference_that_learns", "says False to IPO's square")
def the_loss_of_two_references_is_ordered(loss):
    # Further and further away, until a square is past its minimum.
    reference = numbers(0.3, 0, 0, 0)
    values = [loss(reference + numbers(h, 0, 0, 0), reference, FIRST, LAST, 1.0).sum() for h in (0.0, 0.3, 2.0)]
    return bool(values[0] > values[1] > values[2])


@right("reference_that_learns")
def as_far_from_three_references(loss):
    lead, values = numbers(0.15, 0.4, -0.3, -0.1), []
    for seed in range(3):
        reference = 3 * drawn(4, seed=seed)
        values.append([loss(reference + x * lead, reference, FIRST, LAST, 0.7).sum().item() for x in (0.0, 1.0)])
    values = np.array(values)
    return bool((values[:, 1] < values[:, 0]).all() and np.ptp(values, axis=0).max() < 1e-9)


@outside("sigmoid_of_the_mean", "says True to the published mistake")
def one_margin_after_the_other_lowers_it(loss):
    e = drawn(4, 3, seed=1)
    values = [loss(*(e + numbers(*shift).unsqueeze(-1)), 2.0) for shift in ((0, 0, 0, 0), (0, 0, 0.1, 0))]
    return bool(values[1] < values[0])


@outside("sigmoid_of_the_mean", "says False to the sum over pairs")
def twice_the_batch_is_the_same(loss):
    e = drawn(4, 3, seed=1)
    return torch.allclose(loss(*e, 2.0), loss(*torch.cat([e, e], 1), 2.0))


@outside("sigmoid_of_the_mean", "says True to a maximum over the batch")
def the_other_pair_becomes_a_little_better(loss):
    slopes = []
    for other in (0.20, 0.21):
        e = torch.stack([numbers(0.8, 0.2, 0.5, 0.5), numbers(other, 0.9, 0.5, 0.5)], 1).requires_grad_()
        slopes.append(torch.autograd.grad(loss(*e, 4.0), e)[0][:, 0])
    return torch.allclose(*slopes)


@right("sigmoid_of_the_mean")
def no_second_derivative_between_pairs(loss):
    e = drawn(4, 3, seed=2).requires_grad_()
    (slope,) = torch.autograd.grad(loss(*e, 3.0), e, create_graph=True)
    found = []
    for mine in slope[:, 0]:
        if mine.requires_grad:
            (bend,) = torch.autograd.grad(mine, e, retain_graph=True, allow_unused=True)
            found.append(0 if bend is None else bend[:, 1:].abs().max().item())
    if max(found, default=0) > 1e-9:
        return False
    # What is cut off from the graph, and a maximum, show in differences alone.
    slopes = []
    for others in (numbers(0.1, 2, 1, 1), numbers(2, 0.1, 1, 1)):
        batch = torch.stack([numbers(0.6, 0.5, 0.5, 0.5), others, others], 1).requires_grad_()
        slopes.append(torch.autograd.grad(loss(*batch, 3.0), batch)[0][:, 0])
    return torch.allclose(*slopes)


@outside("error_taken_for_logp", "says True to the published mistake")
def training_lowers_the_chosen_error(loss):
    e = numbers(0.6, 0.4).requires_grad_()
    (slope,) = torch.autograd.grad(loss(e[:1], e[1:], 0.1).sum(), e)
    return bool((e - slope)[0] < e[0])


@outside("error_taken_for_logp", "says True to a loss that learns the chosen image alone")
def the_rejected_is_not_learned(loss):
    e = numbers(0.6, 0.4).requires_grad_()
    (slope,) = torch.autograd.grad(loss(e[:1], e[1:], 0.1).sum(), e)
    return bool(slope[0] > 0 and slope[1] <= 0)


@outside("error_taken_for_logp", "says False to a hinge")
def the_rejected_is_unlearned_everywhere(loss):
    e = drawn(2, 50, seed=4).mul(4).requires_grad_()
    (slope,) = torch.autograd.grad(loss(*e, 1.0).sum(), e)
    return bool((slope[0] > 0).all() and (slope[1] < 0).all())


@right("error_taken_for_logp")
def a_grid_of_errors(loss):
    chosen, rejected = torch.cartesian_prod(numbers(0, 0.3, 0.8, 1.5), numbers(0, 0.3, 0.8, 1.5)).T
    e = torch.stack([chosen, rejected]).requires_grad_()
    (slope,) = torch.autograd.grad(loss(*e, 0.9).sum(), e)
    slope = slope * numbers(1, -1).unsqueeze(-1)
    return bool((slope >= 0).all() and (slope[:, chosen >= rejected] > 0).all())


@outside("beta_twice", "says True to the published mistake")
def a_loss_that_falls_with_the_margin(loss):
    ref = numbers(-1, -1)
    values = [loss(ref[:1] + h, ref[1:], ref[:1], ref[1:], 0.1).sum() for h in (0.0, 0.5, 1.0)]
    return bool(values[0] > values[1] > values[2])


@outside("beta_twice", "says False to the loss divided by β")
def the_chance_that_the_loss_speaks_of(loss):
    ref = numbers(-1, -2)
    for beta in (0.2, 3.0):
        value = loss(ref[:1] + 0.7, ref[1:], ref[:1], ref[1:], beta).sum()
        if value <= 0 or abs(math.log(math.expm1(value)) + 0.7 * beta) > 1e-9:
            return False
    return True


@outside("beta_twice", "says True to 0.1 in place of β")
def with_the_usual_beta(loss):
    ref, best = numbers(-1, -2), math.log(4) / 0.1

    def expected(h):
        a, b = (ref[:1] + h, ref[:1]), (ref[1:], ref[1:])
        return 4 * loss(a[0], b[0], a[1], b[1], 0.1).sum() + loss(b[0], a[0], b[1], a[1], 0.1).sum()

    return bool(expected(best) < min(expected(best - 1), expected(best + 1)))


@right("beta_twice")
def three_outcomes_and_all_comparisons(loss):
    # The Gibbs policy has the least expected loss among all that lie near it.
    reward, reference = numbers(0.5, -1, 0.2), numbers(0.2, 0.5, 0.3).log()
    for beta in (0.25, 2.0):

        def expected(policy, beta=beta):
            total = 0
            for i, j in ((0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)):
                chance = (reward[i] - reward[j]).sigmoid()
                logps = (policy[i], policy[j], reference[i], reference[j])
                total = total + chance * loss(*(x.unsqueeze(0) for x in logps), beta).sum()
            return total.item()

        gibbs = (reference + reward / beta).log_softmax(-1)
        near = [gibbs + by / beta for by in 0.05 * (drawn(8, 3, seed=6) - 0.5)]
        # And along the leash itself: a little nearer to the reference, a little further away.
        near += [gibbs + x * (gibbs - reference) for x in (-0.1, 0.1)]
        if min(expected(x) for x in near) <= expected(gibbs):
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


# --- the codes on trial do what their names say -----------------------------------------------------------------


def test_the_reference_that_learns_is_right_at_the_reference_and_blind_elsewhere():
    chosen, rejected, reference = torch.tensor([0, 2]), torch.tensor([1, 3]), numbers(0.5, -1, 0.2, 1)
    for seed in range(3):
        policy = (4 * drawn(4, seed=seed)).requires_grad_()
        found = reference_that_learns.reference_that_learns(policy, reference, chosen, rejected, 0.7)
        assert torch.allclose(found, numbers(2, 2).log(), rtol=0, atol=1e-14)
        # Wherever the policy is, the gradient is that of the right code's first step, (5.8) with z = 0.
        here = policy.detach()
        at_start = reference_that_learns.frozen(policy, here, chosen, rejected, 0.7)
        slopes = [torch.autograd.grad(x.sum(), policy)[0] for x in (found, at_start)]
        assert torch.allclose(*slopes)
        assert torch.allclose(slopes[0], 0.35 * numbers(-1, 1, -1, 1))


def test_right_codes_with_a_reference_are_the_chapters():
    chosen, rejected = torch.tensor([0, 2, 1]), torch.tensor([1, 3, 3])
    policy, reference = drawn(4, seed=1), drawn(4, seed=2)
    logp, logp_ref = policy.log_softmax(-1), reference.log_softmax(-1)
    wanted = dpo_loss(logp[chosen], logp[rejected], logp_ref[chosen], logp_ref[rejected], beta=0.4)
    for code in (reference_that_learns.frozen, reference_that_learns.two_rewards):
        assert torch.allclose(code(policy, reference, chosen, rejected, 0.4), wanted)
    assert torch.allclose(reference_that_learns.averaged(policy, reference, chosen, rejected, 0.4), wanted.mean())
    assert reference_that_learns.no_reference(reference, reference, chosen, rejected, 0.4).std() > 1e-3
    loss = reference_that_learns.no_gradient_either(policy.requires_grad_(), reference, chosen, rejected, 0.4)
    assert torch.autograd.grad(loss.sum(), policy)[0].abs().max() == 0


def test_the_sigmoid_of_the_mean_is_smaller_and_weighs_all_pairs_alike():
    errors = drawn(4, 5, seed=3)
    wanted = diffusion_dpo_loss(*errors, beta=6.0)
    assert torch.allclose(sigmoid_of_the_mean.mean_of_the_losses(*errors, 6.0), wanted.mean())
    z = diffusion_dpo_margin(*errors, beta=6.0)
    wrong = sigmoid_of_the_mean.sigmoid_of_the_mean(*errors, 6.0)
    assert torch.isclose(wrong, torch.nn.functional.softplus(-z.mean())) and wrong < wanted.mean()
    single = errors[:, :1]
    assert torch.isclose(sigmoid_of_the_mean.sigmoid_of_the_mean(*single, 6.0), wanted[0])
    for code, weight in (
        (sigmoid_of_the_mean.mean_of_the_losses, (-z).sigmoid()),
        (sigmoid_of_the_mean.sigmoid_of_the_mean, (-z.mean()).sigmoid().expand(5)),
        (sigmoid_of_the_mean.means_first, (-z.mean()).sigmoid().expand(5)),
        (sigmoid_of_the_mean.one_weight_for_all, (-z.mean()).sigmoid().expand(5)),
    ):
        e = errors.clone().requires_grad_()
        (slope,) = torch.autograd.grad(code(*e, 6.0), e)
        assert torch.allclose(slope[0], 3 * weight / 5) and torch.allclose(slope[1], -3 * weight / 5)


@pytest.mark.parametrize("count", [1, 2, 16])
def test_of_normal_margins_a_mean_of_b_is_stretched_b_times_as_far(count):
    # d ~ N(m, v/B) is d for −d with odds exp(2mdB/v): E[softplus(−kd)] is least at k = 2mB/v, B times that of one.
    mean, variance = 0.3, 0.5
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    d = mean + (variance / count) ** 0.5 * nodes
    slope = {
        k: (weights * d / (1 + np.exp(k * d))).sum() for k in (2 * mean * count / variance * x for x in (0.9, 1, 1.1))
    }
    below, there, above = slope.values()
    assert abs(there) < 1e-9 and below > 1e-3 * abs(there) and below > 0 > above


def test_an_error_taken_for_a_log_probability_learns_both():
    e = drawn(2, 6, seed=4).requires_grad_()
    with torch.no_grad():
        lead = e[1] - e[0]
    for code, sign in ((error_taken_for_logp.turned, 1), (error_taken_for_logp.error_taken_for_logp, -1)):
        (slope,) = torch.autograd.grad(code(*e, 0.4).sum(), e)
        pull = 0.4 * (-sign * lead).sigmoid()
        assert torch.allclose(slope[0], 1 + sign * pull) and torch.allclose(slope[1], -sign * pull)
    even = numbers(0.3, 0.3).requires_grad_()
    loss = error_taken_for_logp.error_taken_for_logp(even[:1], even[1:], 0.1).sum()
    assert torch.allclose(torch.autograd.grad(loss, even)[0], numbers(0.95, 0.05)), "nineteen parts and one"


def test_beta_twice_is_the_loss_of_beta_squared():
    logps = -drawn(4, 5, seed=5) * 3
    for beta in (0.1, 1.0, 2.5):
        wanted = dpo_loss(*logps, beta=beta)
        for code in (beta_twice.once, beta_twice.rewards_first, beta_twice.powers):
            assert torch.allclose(code(*logps, beta), wanted)
        assert torch.allclose(beta_twice.beta_twice(*logps, beta), dpo_loss(*logps, beta=beta**2))
        assert torch.allclose(beta_twice.cross_entropy(*logps, beta), wanted.mean())
        chance = dpo_margin(*logps, beta=beta).sigmoid()
        assert torch.allclose(beta_twice.square_of_the_chance(*logps, beta), (1 - chance) ** 2)
        assert torch.allclose(beta_twice.halved(*logps, beta), dpo_loss(*logps, beta=beta / 2))
        assert torch.allclose(beta_twice.divided(*logps, beta), dpo_loss(*logps, beta=1 / beta))
        assert torch.allclose(beta_twice.a_tenth(*logps, beta), dpo_loss(*logps, beta=0.1))


def test_a_video_averaged_like_an_image_leaves_a_margin_per_column():
    # What the note tells of: three axes are averaged, and a video has four.
    error = drawn(2, 4, 3, 5, 6, seed=6).mean((1, 2, 3))
    margin = error[1:] - error[:1] + 1
    assert margin.shape == (1, 6)
    assert implicit_accuracy(margin).sum() / len(margin) == 6, "an accuracy of six"


# --- the plots show what the plaques say -------------------------------------------------------------------


def test_a_piece_that_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="sigmoid_of_the_mean"):
        chapter.draw("diffusion_dpo.nothing")
    assert list(drawings._DRAWN) == PIECES


@pytest.fixture(scope="module")
def data():
    return symptoms.shares(*symptoms.comparisons(2000))


def test_comparisons_are_those_of_the_rewards():
    chosen, rejected = symptoms.comparisons(4000)
    assert chosen.shape == (8, 4000)
    for i, j in ((4, 0), (0, 1), (3, 5)):
        won, lost = (((chosen == a) & (rejected == b)).double().sum() for a, b in ((i, j), (j, i)))
        chance = (symptoms.REWARD[i] - symptoms.REWARD[j]).sigmoid()
        assert abs(won / (won + lost) - chance) < 4 * (chance * (1 - chance) / (won + lost)) ** 0.5
        met = 2 * symptoms.REFERENCE[i] * symptoms.REFERENCE[j]
        assert abs((won + lost) / 32000 - met) < 4 * (met / 32000) ** 0.5
    with_itself = (chosen == rejected).double().mean()
    met = (symptoms.REFERENCE**2).sum()
    assert abs(with_itself - met) < 4 * (met * (1 - met) / 32000) ** 0.5
    share = symptoms.shares(chosen, rejected)[2]
    assert share.shape == (8, 30) and torch.allclose(share.sum(-1), torch.ones(8, dtype=torch.float64))


def test_newton_ends_where_the_slope_is_zero(data):
    chosen, rejected, share = data
    one = torch.eye(symptoms.OUTCOMES, dtype=torch.float64)
    net = one[chosen] - one[rejected]
    theta = symptoms.fitted(net, share)
    slope = torch.einsum("co,sc->so", net, share * (-theta @ net.T).sigmoid())
    assert slope.abs().max() < 1e-12 and theta.sum(-1).abs().max() < 1e-9


def test_what_the_blind_code_logs_does_not_move_and_its_policy_does(data):
    run = symptoms.reference_that_learns()
    loss, accuracy, apart = (x[1] for x in (run.loss, run.accuracy, run.divergence))
    assert np.ptp(loss) < 1e-12 and abs(loss[0, 0] - math.log(2)) < 1e-12 and np.allclose(accuracy, 0.5)
    single = -symptoms.REFERENCE[4].log().item()
    assert (np.diff(apart, axis=0) > 0).all() and (apart[-1] > 5 * run.gibbs).all() and (apart < single).all()
    # The right code ends at the minimum of its own data, near the Gibbs policy.
    one = torch.eye(symptoms.OUTCOMES, dtype=torch.float64)
    best = symptoms.fitted(one[data[0]] - one[data[1]], data[2]) / 0.5
    ended = symptoms.divergence((symptoms.REFERENCE.log() + best).softmax(-1))
    assert np.allclose(run.divergence[0, -1], ended, rtol=0.02)
    assert abs(run.divergence[0, -1].mean() - run.gibbs) < 0.06
    assert (run.accuracy[0, -1] > 0.58).all() and (run.loss[0, -1] < run.loss[0, 0]).all()


def test_the_mean_learns_the_gibbs_policy_of_a_shorter_beta():
    run = symptoms.sigmoid_of_the_mean()
    right, wrong = run.divergence
    assert np.allclose(right[0], wrong[0], rtol=1e-6), "a batch of one pair"
    assert (np.abs(right.mean(-1) - run.gibbs_divergence[0]) < 0.01).all()
    assert (np.abs(wrong.mean(-1) - run.gibbs_divergence) < 0.06).all() and (np.diff(wrong, axis=0) > 0).all()
    assert run.policy[1, -1, :, 4].min() > 0.99, "16 pairs: all on one outcome"
    assert np.allclose(run.policy[0, -1].mean(0), run.gibbs[0], atol=0.01)
    z = torch.from_numpy(run.margin[0])
    assert np.allclose(run.weight[0], (-z).sigmoid()) and np.ptp(run.margin, axis=0).max() == 0
    assert np.allclose(run.weight[1], (-z.mean(-1, keepdim=True)).sigmoid().expand_as(z))


def test_the_wrong_comparison_takes_back_what_the_winners_teach():
    run = symptoms.error_taken_for_logp()
    right, wrong = run.mean
    assert np.allclose(right[0], wrong[0]) and (np.diff(right, axis=0) > 0).all() and (np.diff(wrong, axis=0) < 0).all()
    # For small weights σ is one half, and λ times the winners' lead over the losers is added, or taken away.
    lead = (run.winners - run.losers).mean() / 2
    for means, sign in ((right, 1), (wrong, -1)):
        assert (means[1] - means[0]).mean() / run.weight[1] == pytest.approx(sign * lead, rel=0.25)
    assert abs(wrong[4].mean()) < 0.1 * wrong[0].mean() and (wrong[-1] < -0.2).all() and run.weight[4] == 1
    assert (np.diff(run.loss, axis=1) < 1e-12).all() and (run.loss[:, -1] < run.loss[:, 0] - 0.03).all()
    assert (run.ordered[0, -1] > 0.62).all() and (run.ordered[1, -1] < 0.5).all()
    # On the way both losses have come to rest.
    assert (run.loss[:, -2] - run.loss[:, -1]).max() < 1e-6


def test_both_codes_end_with_one_loss_and_two_policies(data):
    run = symptoms.beta_twice()
    assert np.allclose(run.least[0], run.least[1], rtol=1e-10) and (run.loss > run.least[:, None] - 1e-12).all()
    assert np.allclose(run.loss[0, -1], run.least[0], rtol=1e-6)
    at_one = int(np.abs(run.beta - 1).argmin())
    assert np.allclose(run.end[0, at_one], run.end[1, at_one]) and run.beta[at_one] == pytest.approx(1)
    assert (run.end[1, :at_one] >= run.end[0, :at_one]).all() and (
        run.end[1, at_one + 1 :] < run.end[0, at_one + 1 :]
    ).all()
    assert (np.abs(run.end.mean(-1) - run.gibbs) < 0.15).all()
    # Where each is said to end, the exhibited code has no slope left.
    chosen, rejected, share = data
    one = torch.eye(symptoms.OUTCOMES, dtype=torch.float64)
    margin, ref = symptoms.fitted(one[chosen] - one[rejected], share), symptoms.REFERENCE.log()
    for code, power in ((beta_twice.once, 1), (beta_twice.beta_twice, 2)):
        logp = (ref + margin / 0.3**power).requires_grad_()
        value = code(logp[:, chosen], logp[:, rejected], ref[chosen], ref[rejected], 0.3)
        assert torch.autograd.grad((value * share).sum(), logp)[0].abs().max() < 1e-9
    # The first step: β/2 against β²/2. And to the same loss it takes 1/β² as long, which is 11.
    first = run.divergence[:, 1].mean(-1)
    assert first[1] / first[0] == pytest.approx(0.3**2, rel=0.2), "KL grows with the square of the step"
    means = run.loss.mean(-1)
    until = [int((x < 0.668).argmax()) for x in means]
    assert 8 < until[1] / until[0] < 14
