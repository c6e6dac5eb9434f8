"""Tabular MDPs, bandits and the contextual batch: by hand, by theorems, and by counting draws."""

import math

import pytest
import torch
from helpers import NoHostSync

from pocourse import _check
from pocourse.worlds import (
    action_values,
    advantages,
    bandit_advantage,
    contextual_batch,
    expected_reward,
    occupancy,
    performance,
    policy_gradient,
    random_mdp,
    random_policy,
    reward_gradient,
    sample_action,
    state_values,
    tabular_mdp,
    two_state_mdp,
)

F64 = torch.float64
GAMMAS = [0.0, 0.5, 0.9, 0.99]


def refused(*words):
    return pytest.raises(ValueError, match=r"(?s)expected .*got .*" + ".*".join(words))


def draws(gamma, batch=(20,), num_states=5, num_actions=3, seed=0):
    """Random MDPs with two random policies each, and the generator."""
    generator = torch.Generator().manual_seed(seed)
    mdp = random_mdp(num_states=num_states, num_actions=num_actions, gamma=gamma, batch=batch, generator=generator)
    shape = (*batch, num_states, num_actions)
    return mdp, random_policy(shape, generator=generator), random_policy(shape, generator=generator)


def mixture(share, target_row=(0.0, 1.0)):
    """Two states, two actions: the given share goes to ``target_row`` in both states, the rest to action 0."""
    stay, target = torch.tensor([1.0, 0.0], dtype=F64), torch.tensor(target_row, dtype=F64)
    return ((1 - share) * stay + share * target).expand(2, 2)


def test_two_state_mdp_by_hand():
    """V(s2) = -v q/(1-g); V(s0) = p (u + g V(s2)) / (1 - g (1-p)); d(s0) = (1-g)/(1 - g (1-p))."""
    gain, loss, gamma, p, q = 3.0, 2.0, 0.9, 0.25, 0.4
    mdp = two_state_mdp(gain=gain, loss=loss, gamma=gamma)
    policy = torch.tensor([[1 - p, p], [1 - q, q]], dtype=F64)
    second = -loss * q / (1 - gamma)
    first = p * (gain + gamma * second) / (1 - gamma * (1 - p))
    at_start = (1 - gamma) / (1 - gamma * (1 - p))
    torch.testing.assert_close(state_values(mdp, policy), torch.tensor([first, second], dtype=F64))
    torch.testing.assert_close(occupancy(mdp, policy), torch.tensor([at_start, 1 - at_start], dtype=F64))
    torch.testing.assert_close(performance(mdp, policy), torch.tensor(first, dtype=F64))
    by_hand = [[gamma * first, gain + gamma * second], [gamma * second, -loss + gamma * second]]
    torch.testing.assert_close(action_values(mdp, policy), torch.tensor(by_hand, dtype=F64))


def test_two_state_mdp_takes_a_batch_of_gains_and_losses():
    gain = torch.tensor([1.0, 10.0, 100.0], dtype=F64)
    batched = two_state_mdp(gain=gain, loss=1.0, gamma=0.5)
    policy = mixture(0.1)
    together = performance(batched, policy.expand(3, 2, 2))
    alone = [performance(two_state_mdp(gain=float(g), loss=1.0, gamma=0.5), policy) for g in gain]
    torch.testing.assert_close(together, torch.stack(alone), rtol=0, atol=0)
    assert two_state_mdp(gain=gain, loss=gain, gamma=0.5).reward.shape == (3, 2, 2)
    assert two_state_mdp(gain=2, loss=gain, gamma=0.5).transition.shape == (3, 2, 2, 2)


@pytest.mark.parametrize("gamma", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("share", [0.001, 0.1, 1.0])
def test_two_state_mdp_attains_the_sharp_bound_of_conservative_policy_iteration(gamma, share):
    mdp = two_state_mdp(gain=1.0, loss=1.0, gamma=gamma)
    old, target = mixture(0.0), mixture(1.0)
    new = (1 - share) * old + share * target
    advantage = advantages(mdp, old)
    surrogate = (occupancy(mdp, old) * (new * advantage).sum(-1)).sum() / (1 - gamma)
    gap = surrogate - (performance(mdp, new) - performance(mdp, old))
    largest = (target * advantage).sum(-1).abs().max()
    penalty = 2 * largest * gamma * share**2 / ((1 - gamma) * (1 - gamma * (1 - share)))
    torch.testing.assert_close(gap, penalty, rtol=1e-9, atol=0)


def test_one_state_is_a_geometric_series():
    one = torch.ones(1, 1, 1, dtype=F64)
    mdp = tabular_mdp(one, 2 * one[0], one[0, 0], gamma=0.75)
    torch.testing.assert_close(performance(mdp, one[0]), torch.tensor(8.0, dtype=F64))
    torch.testing.assert_close(occupancy(mdp, one[0]), torch.ones(1, dtype=F64))


@pytest.mark.parametrize("gamma", GAMMAS)
def test_bellman(gamma):
    mdp, policy, _ = draws(gamma)
    value, action_value = state_values(mdp, policy), action_values(mdp, policy)
    tolerance = {"rtol": 0, "atol": 1e-12 / (1 - gamma)}
    backup = mdp.reward + gamma * (mdp.transition * value[:, None, None, :]).sum(-1)
    torch.testing.assert_close(action_value, backup, **tolerance)
    torch.testing.assert_close((policy * action_value).sum(-1), value, **tolerance)
    torch.testing.assert_close((policy * advantages(mdp, policy)).sum(-1), torch.zeros_like(value), **tolerance)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_occupancy_is_the_power_series_and_sums_to_one(gamma):
    mdp, policy, _ = draws(gamma)
    moves = (policy[..., None] * mdp.transition).sum(-2)
    state, series = mdp.start, torch.zeros_like(mdp.start)
    for t in range(1 + math.ceil(math.log(1e-16) / math.log(gamma)) if gamma else 1):
        series += (1 - gamma) * gamma**t * state
        state = (state[:, None] @ moves)[:, 0]
    torch.testing.assert_close(occupancy(mdp, policy), series, rtol=0, atol=1e-12)
    torch.testing.assert_close(occupancy(mdp, policy).sum(-1), torch.ones(20, dtype=F64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_performance_is_occupancy_times_reward(gamma):
    mdp, policy, _ = draws(gamma)
    mean_reward = (occupancy(mdp, policy) * (policy * mdp.reward).sum(-1)).sum(-1)
    torch.testing.assert_close(performance(mdp, policy), mean_reward / (1 - gamma), rtol=0, atol=1e-11 / (1 - gamma))


@pytest.mark.parametrize("gamma", GAMMAS)
def test_performance_difference_lemma(gamma):
    mdp, old, new = draws(gamma)
    gain = (occupancy(mdp, new) * (new * advantages(mdp, old)).sum(-1)).sum(-1) / (1 - gamma)
    difference = performance(mdp, new) - performance(mdp, old)
    torch.testing.assert_close(gain, difference, rtol=0, atol=1e-10 / (1 - gamma))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.9])
def test_policy_gradient_against_central_differences(gamma):
    mdp, policy, _ = draws(gamma)
    logits, step = policy.log(), 1e-5
    exact = policy_gradient(mdp, policy)
    for state in range(5):
        for action in range(3):
            shift = torch.zeros_like(logits)
            shift[:, state, action] = step
            up, down = ((logits + sign * shift).softmax(-1) for sign in (1, -1))
            difference = (performance(mdp, up) - performance(mdp, down)) / (2 * step)
            torch.testing.assert_close(exact[:, state, action], difference, rtol=0, atol=1e-8)


def test_policy_gradient_is_what_autograd_finds():
    mdp, policy, _ = draws(0.99)
    logits = policy.log().requires_grad_()
    performance(mdp, logits.softmax(-1)).sum().backward()
    torch.testing.assert_close(logits.grad, policy_gradient(mdp, policy), rtol=0, atol=1e-10)


@pytest.mark.parametrize("function", [state_values, action_values, advantages, occupancy, performance, policy_gradient])
def test_draw_axes_are_a_batch(function):
    mdp, policy, _ = draws(0.9, batch=(2, 3))
    together = function(mdp, policy)
    for i in range(2):
        for j in range(3):
            alone = function(
                tabular_mdp(mdp.transition[i, j], mdp.reward[i, j], mdp.start[i, j], gamma=0.9), policy[i, j]
            )
            torch.testing.assert_close(together[i, j], alone, rtol=1e-12, atol=1e-12)
    mapped = torch.func.vmap(lambda p, *world: function(tabular_mdp(*world, gamma=0.9), p))
    flat = (policy, mdp.transition, mdp.reward, mdp.start)
    torch.testing.assert_close(mapped(*(x.flatten(0, 1) for x in flat)), together.flatten(0, 1))


def test_random_mdp_repeats_with_its_generator():
    for left, right in zip(draws(0.9)[0], draws(0.9)[0], strict=True):
        assert torch.equal(torch.as_tensor(left), torch.as_tensor(right))
    assert draws(0.9)[0].transition.dtype == F64
    assert not torch.equal(draws(0.9)[0].reward, draws(0.9, seed=1)[0].reward)


WORLD = {
    "transition": torch.full((3, 2, 3), 1 / 3, dtype=F64),
    "reward": torch.zeros(3, 2, dtype=F64),
    "start": torch.full((3,), 1 / 3, dtype=F64),
}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"transition": torch.full((3, 2, 3), 0.5, dtype=F64)}, "Divide by transition"),
        ({"start": torch.tensor([1.5, -0.5, 0.0], dtype=F64)}, "softmax"),
        ({"start": torch.full((1, 3), 1 / 3, dtype=F64)}, "Reshape"),
        ({"reward": torch.zeros(3, 1, dtype=F64)}, "Reshape"),
        ({"reward": torch.zeros(3, dtype=F64)}, "unsqueeze"),
        ({"reward": torch.full((3, 2), math.nan, dtype=F64)}, "NaN"),
        ({"reward": torch.zeros(3, 2)}, r"\.to\("),
        ({"start": torch.full((3,), 1 / 3)}, r"\.to\("),
        ({"reward": [[0.0, 1.0]]}, "as_tensor"),
        ({"gamma": 1.0}, "Choose gamma"),
        ({"gamma": -0.1}, "Choose gamma"),
        ({"gamma": math.nan}, "Pass a Python"),
    ],
)
def test_tabular_mdp_refuses(changes, words):
    world = WORLD | {"gamma": 0.9} | changes
    with refused(words):
        tabular_mdp(world["transition"], world["reward"], world["start"], gamma=world["gamma"])


@pytest.mark.parametrize("function", [state_values, action_values, advantages, occupancy, performance, policy_gradient])
def test_exact_functions_refuse(function):
    mdp = tabular_mdp(*WORLD.values(), gamma=0.9)
    uniform = torch.full((3, 2), 0.5, dtype=F64)
    with refused("Divide by policy"):
        function(mdp, 2 * uniform)
    with refused("broadcast"):
        function(mdp, uniform[:1])
    with refused("broadcast"):
        function(mdp, uniform.expand(4, 3, 2))
    with refused(r"\.to\(reward\)"):
        function(mdp, uniform.float())
    with refused("NaN"):
        function(mdp, math.nan * uniform)


def test_two_state_mdp_refuses():
    pair = torch.ones(2, dtype=F64)
    with refused("broadcast"):
        two_state_mdp(gain=pair, loss=pair[:, None], gamma=0.9)
    with refused("Pass a Python"):
        two_state_mdp(gain=math.nan, loss=1.0, gamma=0.9)
    with refused("NaN"):
        two_state_mdp(gain=math.nan * pair, loss=1.0, gamma=0.9)
    with refused("Choose gamma"):
        two_state_mdp(gain=1.0, loss=1.0, gamma=1.0)


def test_bandit_by_hand():
    policy = torch.tensor([0.5, 0.3, 0.2], dtype=F64)
    reward = torch.tensor([1.0, 2.0, -3.0], dtype=F64)
    torch.testing.assert_close(expected_reward(policy, reward), torch.tensor(0.5, dtype=F64))
    torch.testing.assert_close(bandit_advantage(policy, reward), torch.tensor([0.5, 1.5, -3.5], dtype=F64))
    torch.testing.assert_close(reward_gradient(policy, reward), torch.tensor([0.25, 0.45, -0.7], dtype=F64))


def test_bandit_is_the_one_state_mdp_without_a_future():
    generator = torch.Generator().manual_seed(3)
    mdp = random_mdp(num_states=1, num_actions=4, gamma=0.0, batch=(6,), generator=generator)
    policy = random_policy((6, 1, 4), generator=generator)
    torch.testing.assert_close(expected_reward(policy, mdp.reward)[:, 0], performance(mdp, policy))
    torch.testing.assert_close(bandit_advantage(policy, mdp.reward), advantages(mdp, policy))
    torch.testing.assert_close(reward_gradient(policy, mdp.reward), policy_gradient(mdp, policy))


def test_reward_gradient_is_what_autograd_finds():
    generator = torch.Generator().manual_seed(3)
    policy = random_policy((6, 4), generator=generator)
    reward = torch.randn(6, 4, generator=generator, dtype=F64)
    logits = policy.log().requires_grad_()
    expected_reward(logits.softmax(-1), reward).sum().backward()
    torch.testing.assert_close(logits.grad, reward_gradient(policy, reward), rtol=0, atol=1e-14)


@pytest.mark.parametrize("function", [expected_reward, bandit_advantage, reward_gradient])
def test_bandit_refuses(function):
    policy, reward = torch.full((5, 2), 0.5, dtype=F64), torch.zeros(5, 2, dtype=F64)
    with refused("broadcast"):
        function(policy, reward[0])
    with refused("Divide by policy"):
        function(2 * policy, reward)
    with refused("NaN"):
        function(policy, math.nan * reward)


@pytest.mark.parametrize("concentration", [0.3, 1.0, 5.0])
def test_random_policy_has_the_moments_of_a_dirichlet(concentration):
    policy = random_policy((20000, 3), generator=torch.Generator().manual_seed(5), concentration=concentration)
    _check.probabilities(policy=policy)
    for values, mean in (
        (policy[:, 0], 1 / 3),
        (policy[:, 0] ** 2, (1 / 3) * (concentration + 1) / (3 * concentration + 1)),
    ):
        standard_error = values.std() / math.sqrt(len(values))
        assert abs(values.mean() - mean) < 4 * standard_error


def test_random_policy_stays_a_distribution_at_small_concentrations():
    policy = random_policy((1000, 3), generator=torch.Generator().manual_seed(5), concentration=1e-3)
    _check.probabilities(policy=policy)


def test_random_policy_refuses():
    generator = torch.Generator()
    for concentration in (0.0, -1.0, math.inf):
        with refused():
            random_policy((3, 2), generator=generator, concentration=concentration)
    with refused("unsqueeze"):
        random_policy((), generator=generator)


def test_contextual_batch_is_normalised_per_seed():
    batch = contextual_batch(num_seeds=3, generator=torch.Generator().manual_seed(0), dtype=F64)
    context, uniform, advantage, num_actions = batch
    assert context.shape == (3, 256, 8) and uniform.shape == advantage.shape == (3, 256) and num_actions == 4
    assert all(x.dtype == F64 for x in batch[:3])
    torch.testing.assert_close(advantage.mean(1), torch.zeros(3, dtype=F64), rtol=0, atol=1e-14)
    torch.testing.assert_close(advantage.std(1, correction=0), torch.ones(3, dtype=F64))
    assert uniform.min() >= 0 and uniform.max() < 1
    for values in (context, uniform - 0.5):
        assert abs(values.mean()) < 4 * values.std() / math.sqrt(values.numel())
    assert not torch.equal(context[0], context[1])


def test_contextual_batch_refuses():
    generator = torch.Generator()
    for changes in ({"num_contexts": 1}, {"context_dim": 0}, {"num_actions": 1}, {"num_seeds": 0}):
        with refused():
            contextual_batch(**({"num_seeds": 2} | changes), generator=generator)


@pytest.mark.parametrize("prob", [[0.3, 0.7], [0.2, 0.5, 0.3], [0.0, 0.5, 0.0, 0.5], [1.0]])
def test_sample_action_draws_with_the_stated_frequencies(prob):
    prob, count = torch.tensor(prob, dtype=F64), 40000
    uniform = torch.rand(count, generator=torch.Generator().manual_seed(7), dtype=F64)
    action = sample_action(prob.expand(count, -1), uniform)
    assert action.dtype == torch.int64
    for index, p in enumerate(prob.tolist()):
        share = (action == index).double().mean()
        assert abs(share - p) <= 4 * math.sqrt(p * (1 - p) / count)


def test_sample_action_by_hand():
    prob = torch.tensor([[0.25, 0.75], [0.25, 0.75], [0.0, 1.0], [1.0, 0.0]])
    action = sample_action(prob, torch.tensor([0.2, 0.25, 0.0, 0.9]))
    assert action.tolist() == [0, 1, 1, 0]
    three = torch.tensor([0.25, 0.5, 0.25]).expand(4, 3)
    assert sample_action(three, torch.tensor([0.0, 0.25, 0.74, 0.75])).tolist() == [0, 1, 1, 2]


@pytest.mark.parametrize("num_actions", [1, 2, 3, 10, 1000])
def test_sample_action_stays_in_range_when_the_sum_rounds_below_uniform(num_actions):
    prob = torch.full((num_actions,), 1 / num_actions) * (1 - 1e-5)  # within the check's tolerance in float32
    largest = torch.tensor(1 - 2**-24)
    assert int(sample_action(prob, largest)) == num_actions - 1
    assert int(sample_action(prob, torch.tensor(1.0))) == num_actions - 1  # not in [0, 1), and yet in range
    with_impossible_last = torch.cat((prob, torch.zeros(1)))
    if num_actions > 1:
        assert int(sample_action(with_impossible_last, largest)) == num_actions - 1


def test_sample_action_never_draws_what_a_softmax_calls_impossible():
    for logits in (torch.tensor([200.0, 0.0]), torch.tensor([0.0, 200.0]), torch.tensor([0.0, 200.0, 0.0])):
        prob = logits.softmax(-1)
        for uniform in (torch.tensor(0.0), torch.tensor(1 - 2**-24)):
            assert prob[sample_action(prob, uniform)] > 0


def test_sample_action_does_not_wait_for_the_device():
    with _check.values_unread(), NoHostSync():
        for num_actions in (1, 2, 4):
            sample_action(torch.full((5, num_actions), 1 / num_actions), torch.rand(5))


def test_sample_action_refuses():
    prob = torch.full((5, 2), 0.5)
    with refused("Reshape"):
        sample_action(prob, torch.rand(5, 1))
    with refused("Divide by prob"):
        sample_action(2 * prob, torch.rand(5))
    with refused("NaN"):
        sample_action(prob, torch.full((5,), math.nan))
    with refused(r"\.float\(\)"):
        sample_action(prob, torch.zeros(5, dtype=torch.int64))
