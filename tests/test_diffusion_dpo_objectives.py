"""Chapter 5's losses and closed-form optima: values by hand, properties, gradients, refusals, life inside functorch."""

import math
from functools import partial

import pytest
import torch

from pocourse.diffusion_dpo import objectives as o
from pocourse.diffusion_dpo import optima
from pocourse.worlds import bandit

F64 = torch.float64
INFINITE = math.inf
BETA = 0.7

# Each with four numbers per pair, and the margin it makes of them.
PAIRED = {
    "dpo": (partial(o.dpo_loss, beta=BETA), partial(o.dpo_margin, beta=BETA)),
    "diffusion": (partial(o.diffusion_dpo_loss, beta=BETA), partial(o.diffusion_dpo_margin, beta=BETA)),
}
LOSSES = {"bradley_terry": o.bradley_terry_loss, **{name: loss for name, (loss, _) in PAIRED.items()}}
MARGINS = {name: margin for name, (_, margin) in PAIRED.items()}
every_loss = pytest.mark.parametrize("name", LOSSES)
every_pair = pytest.mark.parametrize("name", PAIRED)


def values(*numbers):
    return torch.tensor(numbers, dtype=F64)


def close(found, *numbers, atol=1e-12):
    torch.testing.assert_close(found, values(*numbers), rtol=0, atol=atol)


def refused(*words):
    return pytest.raises(ValueError, match=r"(?s)expected .*got .*" + ".*".join(words))


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def sample(name, *shape, seed=0):
    """What a loss is handed: rewards, log-probabilities or errors, the parts that may carry gradient first."""
    drawn = normal(2 if name == "bradley_terry" else 4, *(shape or (64,)), seed=seed)
    return list({"bradley_terry": drawn, "dpo": -drawn.exp(), "diffusion": drawn.exp()}[name])


def policies(count=300, outcomes=4, seed=0):
    """Log-probabilities of a reference, rewards, and some other policy."""
    generator = torch.Generator().manual_seed(seed)
    reference, other = (bandit.random_policy((count, outcomes), generator=generator) for _ in range(2))
    return reference.log(), torch.randn(count, outcomes, generator=generator, dtype=F64), other


def central(function, x, step=1e-6):
    return (function(x + step) - function(x - step)) / (2 * step)


# --- losses by hand


def test_bradley_terry_by_hand():
    found = o.bradley_terry_loss(values(math.log(3), 2, 0), values(0, 2, math.log(3)))
    close(found, math.log(4 / 3), math.log(2), math.log(4))


def test_dpo_by_hand():
    # The chosen outcome became twice as likely, the rejected one a third: z = beta log 6.
    numbers = [values(math.log(p)) for p in (0.4, 0.1, 0.2, 0.3)]
    for beta in (1, 2):
        close(o.dpo_margin(*numbers, beta=float(beta)), beta * math.log(6))
        close(o.dpo_loss(*numbers, beta=float(beta)), math.log(1 + 6**-beta))


def test_diffusion_dpo_by_hand():
    # The winner is denoised better than by the reference, by .1, the loser worse, by .2: z = 10 / 2 * .3.
    numbers = [values(e) for e in (0.2, 0.6, 0.3, 0.4)]
    close(o.diffusion_dpo_margin(*numbers, beta=10.0), 1.5)
    close(o.diffusion_dpo_loss(*numbers, beta=10.0), math.log(1 + math.exp(-1.5)))


def test_the_defaults_are_those_of_the_papers():
    numbers = sample("dpo")
    assert torch.equal(o.dpo_loss(*numbers), o.dpo_loss(*numbers, beta=0.1))
    numbers = sample("diffusion")
    assert torch.equal(o.diffusion_dpo_loss(*numbers), o.diffusion_dpo_loss(*numbers, beta=5000.0))


def test_implicit_accuracy_by_hand():
    found = o.implicit_accuracy(values(-3, -1e-300, -0.0, 0, 1e-300, INFINITE))
    assert found.tolist() == [0, 0, 0.5, 0.5, 1, 1]


def test_implicit_accuracy_is_a_number_without_gradient():
    margin = values(1, -1).requires_grad_()
    found = o.implicit_accuracy(margin)
    assert not found.requires_grad and found.dtype == F64
    assert o.implicit_accuracy(margin.float()).dtype == torch.float32


def test_squared_error_by_hand():
    close(o.squared_error(values([1, 2], [0, -1]), values([0, 0], [0, 1])), 2.5, 2)


def test_gibbs_policy_by_hand():
    fair, reward = values(0.5, 0.5).log(), values(2 * math.log(3), 0)
    close(o.gibbs_policy(fair, reward, beta=2.0), 0.75, 0.25)
    close(o.gibbs_policy(fair, reward, beta=1.0), 0.9, 0.1)
    close(o.gibbs_policy(values(0.2, 0.8).log(), values(math.log(4), 0), beta=1.0), 0.5, 0.5)


# --- losses: properties


@every_loss
def test_one_value_per_pair(name):
    numbers = sample(name, 4, 16)
    loss = LOSSES[name](*numbers)
    assert loss.shape == (4, 16) and bool((loss > 0).all())
    alone = LOSSES[name](*(x[2, 5] for x in numbers))
    assert alone.shape == () and torch.equal(alone, loss[2, 5])


@every_pair
def test_the_loss_is_the_surprise_of_its_margin(name):
    loss, margin = PAIRED[name]
    numbers = sample(name, seed=1)
    z = margin(*numbers)
    torch.testing.assert_close(loss(*numbers), (1 + (-z).exp()).log())
    torch.testing.assert_close(loss(*numbers), o.bradley_terry_loss(z, torch.zeros_like(z)))


@every_pair
def test_at_the_reference_it_is_log_two_and_neither_is_preferred(name):
    loss, margin = PAIRED[name]
    first, second = sample(name)[:2]
    z = margin(first, second, first.clone(), second.clone())
    assert bool((z == 0).all()) and bool((o.implicit_accuracy(z) == 0.5).all())
    close(loss(first, second, first.clone(), second.clone()), *[math.log(2)] * 64)


@every_pair
def test_swapping_turns_the_margin_and_a_margin_grows_with_the_winner(name):
    margin = MARGINS[name]
    a, b, c, d = sample(name, seed=2)
    torch.testing.assert_close(margin(b, a, d, c), -margin(a, b, c, d))
    better = 0.9 * a  # likelier, or denoised better: both are closer to zero
    assert bool((margin(better, b, c, d) > margin(a, b, c, d)).all())
    assert bool((margin(a, 0.9 * b, c, d) < margin(a, b, c, d)).all())


@every_pair
def test_beta_multiplies_the_margin(name):
    margin, numbers = MARGINS[name].func, sample(name, seed=3)
    torch.testing.assert_close(margin(*numbers, beta=3.0), 3 * margin(*numbers, beta=1.0))


def test_the_margin_is_a_difference_of_implicit_rewards():
    a, b, c, d = sample("dpo", seed=4)
    torch.testing.assert_close(o.dpo_loss(a, b, c, d, beta=BETA), o.bradley_terry_loss(BETA * (a - c), BETA * (b - d)))


def test_on_sums_over_the_pixels_the_factor_is_beta_over_two_dim():
    dim, (noise, *predicted) = 48, normal(5, 16, 48, seed=5)
    sums = [((noise - x) ** 2).sum(-1) for x in predicted]
    found = o.diffusion_dpo_margin(*(o.squared_error(noise, x) for x in predicted), beta=30.0)
    torch.testing.assert_close(found, -30.0 / (2 * dim) * ((sums[0] - sums[2]) - (sums[1] - sums[3])))


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_dtypes_are_kept(name, dtype):
    assert LOSSES[name](*(x.to(dtype) for x in sample(name))).dtype == dtype


def test_losses_of_hopeless_and_of_settled_pairs_stay_numbers():
    far = values(-1e4, 1e4).requires_grad_()
    loss = o.bradley_terry_loss(far, torch.zeros_like(far))
    (slope,) = torch.autograd.grad(loss.sum(), far)
    close(loss.detach(), 1e4, 0)
    close(slope, -1, 0)


# --- losses: gradients


@every_loss
def test_gradients_agree_with_central_differences(name):
    numbers = sample(name, seed=6)
    for place in (0, 1):

        def loss(x, place=place):
            return LOSSES[name](*(x if at == place else y for at, y in enumerate(numbers)))

        x = numbers[place].clone().requires_grad_()
        (found,) = torch.autograd.grad(loss(x).sum(), x)
        torch.testing.assert_close(found, central(loss, numbers[place]), rtol=0, atol=1e-8)


@every_pair
def test_the_gradients_of_winner_and_loser_are_equal_and_opposite(name):
    loss, margin = PAIRED[name]
    numbers = sample(name, seed=7)
    first, second = (x.requires_grad_() for x in numbers[:2])
    slopes = torch.autograd.grad(loss(*numbers).sum(), (first, second))
    size = BETA * (-margin(*numbers).detach()).sigmoid()
    expected = -size if name == "dpo" else size / 2
    torch.testing.assert_close(slopes, (expected, -expected))


def test_only_the_prediction_carries_the_gradient_of_an_error():
    noise, predicted = normal(2, 3, 8)
    predicted.requires_grad_()
    (slope,) = torch.autograd.grad(o.squared_error(noise, predicted).sum(), predicted)
    torch.testing.assert_close(slope, 2 * (predicted.detach() - noise) / 8)


# --- the Gibbs policy


def test_gibbs_policy_knows_no_level():
    logp_ref, reward, _ = policies()
    found = o.gibbs_policy(logp_ref, reward, beta=BETA)
    torch.testing.assert_close(o.gibbs_policy(logp_ref - 5, reward + 3, beta=BETA), found)
    torch.testing.assert_close(o.gibbs_policy(logp_ref, 3 * reward, beta=3 * BETA), found)
    torch.testing.assert_close(found.sum(-1), torch.ones(300, dtype=F64))


def test_gibbs_policy_between_its_limits():
    logp_ref, reward, _ = policies(seed=1)
    torch.testing.assert_close(o.gibbs_policy(logp_ref, reward, beta=1e9), logp_ref.exp(), rtol=0, atol=1e-8)
    best = torch.nn.functional.one_hot(reward.argmax(-1), 4).double()
    torch.testing.assert_close(o.gibbs_policy(logp_ref, reward, beta=1e-7), best, rtol=0, atol=1e-6)


def test_gibbs_policy_never_goes_where_the_reference_does_not():
    close(o.gibbs_policy(values(0, -INFINITE, 0), values(0, 1000, 0), beta=1.0), 0.5, 0, 0.5)


# --- the regularised reward and its largest value


def test_regularised_reward_by_hand():
    found = optima.regularised_reward(values(0.5, 0.5), values(0.25, 0.75).log(), values(1, 0), beta=2.0)
    close(found[None], 0.5 - math.log(4 / 3))


def test_gibbs_value_by_hand():
    # Z = (3 + 1) / 2
    found = optima.gibbs_value(values(0.5, 0.5).log(), values(2 * math.log(3), 0), beta=2.0)
    close(found[None], 2 * math.log(2))


def test_a_policy_at_its_reference_pays_nothing():
    logp_ref, reward, _ = policies(seed=2)
    found = optima.regularised_reward(logp_ref.exp(), logp_ref, reward, beta=5.0)
    torch.testing.assert_close(found, (logp_ref.exp() * reward).sum(-1))


@pytest.mark.parametrize("beta", [0.05, 0.7, 20.0])
def test_no_policy_is_better_than_the_gibbs_policy(beta):
    logp_ref, reward, other = policies(seed=3)
    best, value = o.gibbs_policy(logp_ref, reward, beta=beta), optima.gibbs_value(logp_ref, reward, beta=beta)
    torch.testing.assert_close(optima.regularised_reward(best, logp_ref, reward, beta=beta), value)
    for share in (1e-3, 0.3, 1.0):
        mixed = (1 - share) * best + share * other
        assert bool((optima.regularised_reward(mixed, logp_ref, reward, beta=beta) < value).all())


def test_the_best_of_two_outcomes_by_a_grid():
    logp_ref, reward = values(0.3, 0.7).log(), values(1.2, -0.4)
    first = torch.linspace(0, 1, 100_001, dtype=F64)
    grid = torch.stack((first, 1 - first), -1)
    found = optima.regularised_reward(grid, logp_ref.expand_as(grid), reward.expand_as(grid), beta=BETA)
    assert float(found.max()) == pytest.approx(float(optima.gibbs_value(logp_ref, reward, beta=BETA)), abs=1e-9)
    best = float(o.gibbs_policy(logp_ref, reward, beta=BETA)[0])
    assert float(first[found.argmax()]) == pytest.approx(best, abs=1e-5)


def test_the_slope_of_the_value_in_the_reward_is_the_policy():
    logp_ref, reward, _ = policies(seed=4)
    reward.requires_grad_()
    (slope,) = torch.autograd.grad(optima.gibbs_value(logp_ref, reward, beta=BETA).sum(), reward)
    torch.testing.assert_close(slope, o.gibbs_policy(logp_ref, reward.detach(), beta=BETA))


def test_the_value_lies_between_the_mean_and_the_largest_reward():
    logp_ref, reward, _ = policies(seed=5)
    mean, largest = (logp_ref.exp() * reward).sum(-1), reward.amax(-1)
    found = optima.gibbs_value(logp_ref, reward, beta=BETA)
    assert bool((mean < found).all()) and bool((found < largest).all())
    torch.testing.assert_close(optima.gibbs_value(logp_ref, reward, beta=1e8), mean, rtol=0, atol=1e-6)
    torch.testing.assert_close(optima.gibbs_value(logp_ref, reward, beta=1e-8), largest, rtol=0, atol=1e-6)


def test_a_reference_may_have_another_scale_and_may_leave_outcomes_out():
    logp_ref, reward, other = policies(seed=6)
    for function in (optima.gibbs_value, partial(optima.regularised_reward, other)):
        torch.testing.assert_close(function(logp_ref + 4, reward, beta=BETA), function(logp_ref, reward, beta=BETA))
    never = values(0, -INFINITE, 0)
    assert float(optima.gibbs_value(never, values(0, 1000, 0), beta=1.0)) == pytest.approx(0, abs=1e-12)
    inside, outside = values(0.5, 0, 0.5).requires_grad_(), values(0.4, 0.2, 0.4)
    found = optima.regularised_reward(inside, never, values(1, 1000, 0), beta=1.0)
    assert float(found.detach()) == pytest.approx(0.5)
    (slope,) = torch.autograd.grad(found, inside)
    assert bool(slope[[0, 2]].isfinite().all())
    assert float(optima.regularised_reward(outside, never, values(1, 1000, 0), beta=1.0)) == -INFINITE


# --- what noisy labels allow


def test_floor_and_ceiling_by_hand():
    difference = values(math.log(3), -math.log(3), 0)
    entropy = 0.75 * math.log(4 / 3) + 0.25 * math.log(4)
    close(optima.loss_floor(difference), entropy, entropy, math.log(2))
    close(optima.accuracy_ceiling(difference), 0.75, 0.75, 0.5)


def test_certain_labels_cost_nothing():
    close(optima.loss_floor(values(-800, 800)), 0, 0)
    close(optima.accuracy_ceiling(values(-800, 800)), 1, 1)


def test_floor_and_ceiling_of_gaussian_rewards():
    """Rewards from N(0, 1), labels with a gain of 2: the difference is normal with variance 8."""
    difference = torch.linspace(-40, 40, 80_001, dtype=F64)
    density = torch.distributions.Normal(0.0, math.sqrt(8)).log_prob(difference).exp()
    floor = torch.trapezoid(density * optima.loss_floor(difference), difference)
    ceiling = torch.trapezoid(density * optima.accuracy_ceiling(difference), difference)
    assert round(float(floor), 4) == 0.3753 and round(float(ceiling), 4) == 0.8280


def test_a_wrong_margin_costs_its_divergence_on_top():
    difference, margin = 2 * normal(2, 500)
    chance, other = difference.sigmoid(), margin.sigmoid()
    zero = torch.zeros_like(margin)
    cost = chance * o.bradley_terry_loss(margin, zero) + (1 - chance) * o.bradley_terry_loss(-margin, zero)
    divergence = chance * (chance / other).log() + (1 - chance) * ((1 - chance) / (1 - other)).log()
    torch.testing.assert_close(cost - optima.loss_floor(difference), divergence, rtol=0, atol=1e-10)


@pytest.mark.parametrize("function", [optima.loss_floor, optima.accuracy_ceiling])
def test_slopes_of_floor_and_ceiling(function):
    x = values(-2.5, -0.4, 0.3, 3).requires_grad_()
    (slope,) = torch.autograd.grad(function(x).sum(), x)
    torch.testing.assert_close(slope, central(function, x.detach()), rtol=0, atol=1e-9)


# --- tilted samples


def test_tilt_weights_by_hand():
    close(optima.tilt_weights(values(0, 2 * math.log(3)), beta=2.0), 0.25, 0.75)
    close(optima.tilt_weights(values(1e6, 1e6, 0), beta=0.1), 0.5, 0.5, 0)


def test_samples_in_the_reference_proportions_become_the_gibbs_policy():
    counts, reward = torch.tensor([1, 2, 5]), values(1.3, 0.2, -0.6)
    outcome = torch.arange(3).repeat_interleave(counts)
    weights = optima.tilt_weights(reward[outcome], beta=BETA)
    found = torch.zeros(3, dtype=F64).index_add(0, outcome, weights)
    torch.testing.assert_close(found, o.gibbs_policy(counts.double().log(), reward, beta=BETA))


def test_the_tilt_of_a_gaussian_by_samples():
    """r = y, y from N(0, 1): the Gibbs policy is N(1 / beta, 1)."""
    y = normal(200_000, seed=8)
    weights = optima.tilt_weights(y, beta=2.0)
    mean = (weights * y).sum()
    error = ((weights * (y - mean)) ** 2).sum().sqrt()  # the delta method's standard error
    assert abs(float(mean) - 0.5) < 4 * float(error)
    share = float(optima.effective_sample_size(weights))
    assert share == pytest.approx(math.exp(-0.25), abs=0.02)


def test_effective_sample_size_by_hand():
    found = optima.effective_sample_size(values([0.25] * 4, [1, 0, 0, 0], [0.5, 0.5, 0, 0], [0.5, 0.25, 0.25, 0]))
    close(found, 1, 0.25, 0.5, 2 / 3)

    logp, logp_old = normal(2, 20, 32, seed=9)
    weights = optima.tilt_weights(logp - logp_old, beta=1.0)
    ratio = (logp - logp_old).exp()
    kish = ratio.sum(-1) ** 2 / (32 * (ratio**2).sum(-1))
    torch.testing.assert_close(optima.effective_sample_size(weights), kish)


# --- the tilted mixture


def mixture(dim=2, components=3, seed=10):
    generator = torch.Generator().manual_seed(seed)
    weights = bandit.random_policy((components,), generator=generator)
    means, direction = normal(components, dim, seed=seed), normal(dim, seed=seed + 1)
    return weights, means, 0.3 + normal(components, seed=seed + 2) ** 2 / 2, direction


def density(x, weights, means, variances):
    components = torch.distributions.Normal(means, variances.sqrt().unsqueeze(-1)).log_prob(x.unsqueeze(-2)).sum(-1)
    return (weights * components.exp()).sum(-1)


def test_tilted_mixture_by_hand():
    weights, means = optima.tilted_mixture(values(0.5, 0.5), values([0], [1]), values(1, 1), values(2), beta=4.0)
    close(weights, 1 / (1 + math.exp(0.5)), 1 / (1 + math.exp(-0.5)))
    assert means.tolist() == [[0.5], [1.5]]
    # Same mean, other width: the wider one gains, by exp(3 * 4 / (2 * 16)).
    weights, means = optima.tilted_mixture(values(0.5, 0.5), values([0], [0]), values(1, 4), values(2), beta=4.0)
    close(weights[1:] / weights[:1], math.exp(3 * 4 / 32))
    assert means.tolist() == [[0.5], [2]]


@pytest.mark.parametrize("beta", [0.5, 3.0])
def test_tilted_mixture_against_the_tilted_density(beta):
    weights, means, variances, direction = mixture()
    line = torch.linspace(-14, 14, 401, dtype=F64)
    x = torch.cartesian_prod(line, line)
    tilted = density(x, weights, means, variances) * ((x * direction).sum(-1) / beta).exp()
    tilted = tilted / (tilted.sum() * (line[1] - line[0]) ** 2)
    new_weights, new_means = optima.tilted_mixture(weights, means, variances, direction, beta=beta)
    torch.testing.assert_close(density(x, new_weights, new_means, variances), tilted, rtol=1e-7, atol=1e-12)


def test_tilted_mixture_without_a_reward_and_with_much():
    weights, means, variances, direction = mixture()
    found = optima.tilted_mixture(weights, means, variances, torch.zeros_like(direction), beta=1.0)
    torch.testing.assert_close(found, (weights, means))
    found, _ = optima.tilted_mixture(weights, means, variances, 1e4 * direction, beta=1.0)
    assert torch.equal(found, torch.nn.functional.one_hot(variances.argmax(), 3).double())


def test_tilted_mixtures_are_row_by_row():
    rows = [mixture(seed=seed) for seed in (20, 30, 40)]
    together = optima.tilted_mixture(*map(torch.stack, zip(*rows, strict=True)), beta=BETA)
    for row, weights, means in zip(rows, *together, strict=True):
        torch.testing.assert_close(optima.tilted_mixture(*row, beta=BETA), (weights, means))


# --- displacement


def indices(*numbers):
    return torch.tensor(numbers)


def test_displacement_by_hand():
    """One feature, mean 4/3: the winner stands below it, and its rival above."""
    features = values([[1], [0], [3]])
    found = optima.displacement(features, values([1, 1, 1]) / 3, indices(0), indices(1))
    close(found, [-1 / 3, -4 / 3, 5 / 3])


def linear(count=400, outcomes=5, dim=3):
    features, theta = normal(count, outcomes, dim, seed=11), normal(count, dim, seed=12)
    return features, theta, torch.einsum("nod,nd->no", features, theta).softmax(-1)


def test_displacement_is_the_derivative_along_a_step():
    features, theta, policy = linear()
    chosen = torch.arange(400) % 5
    rejected = (chosen + 1 + torch.arange(400) % 4) % 5
    row = torch.arange(400)
    moved = features[row, chosen] - features[row, rejected]
    expected = central(
        lambda c: torch.einsum("nod,nd->no", features, theta + c * moved).log_softmax(-1), torch.zeros(1, dtype=F64)
    )
    found = optima.displacement(features, policy, chosen, rejected)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-7)
    gap = found[row, chosen] - found[row, rejected]
    torch.testing.assert_close(gap, (moved**2).sum(-1))  # the margin always grows
    torch.testing.assert_close((policy * found).sum(-1), torch.zeros(400, dtype=F64), rtol=0, atol=1e-12)


def test_winners_fall_now_and_then_but_never_with_tabular_logits():
    features, _, policy = linear(count=20_000)
    first, second = torch.zeros(20_000, dtype=torch.int64), torch.ones(20_000, dtype=torch.int64)
    falls = optima.displacement(features, policy, first, second)[:, 0] < 0
    assert 0.05 < float(falls.double().mean()) < 0.2
    tabular = torch.eye(5, dtype=F64).expand(20_000, 5, 5)
    rises = optima.displacement(tabular, policy, first, second)[:, 0]
    torch.testing.assert_close(rises, 1 - policy[:, 0] + policy[:, 1])
    assert bool((rises > 0).all())


# --- functorch


@every_loss
def test_losses_run_inside_functorch(name):
    first, *others = sample(name, seed=13)
    loss = LOSSES[name]
    torch.testing.assert_close(torch.func.vmap(loss)(first, *others), loss(first, *others))
    total = torch.func.grad(lambda x: loss(x, *others).sum())(first)
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(loss))(first, *others), total)


ROWS = {
    "gibbs_policy": (partial(o.gibbs_policy, beta=BETA), lambda: policies()[:2]),
    "gibbs_value": (partial(optima.gibbs_value, beta=BETA), lambda: policies()[:2]),
    "regularised_reward": (
        partial(optima.regularised_reward, beta=BETA),
        lambda: (policies()[2], *policies()[:2]),
    ),
    "tilt_weights": (partial(optima.tilt_weights, beta=BETA), lambda: (policies()[1],)),
    "effective_sample_size": (optima.effective_sample_size, lambda: (policies()[2],)),
    "loss_floor": (optima.loss_floor, lambda: (policies()[1],)),
    "accuracy_ceiling": (optima.accuracy_ceiling, lambda: (policies()[1],)),
    "displacement": (optima.displacement, lambda: (linear()[0], linear()[2], *indices([0] * 400, [1] * 400))),
    "squared_error": (o.squared_error, lambda: normal(2, 7, 8)),
}


@pytest.mark.parametrize("name", ROWS)
def test_rows_are_apart_and_functorch_agrees(name):
    function, arguments = ROWS[name]
    arguments = arguments()
    together = function(*arguments)
    torch.testing.assert_close(torch.func.vmap(function)(*arguments), together)
    torch.testing.assert_close(function(*(x[3] for x in arguments)), together[3])
    single = function(*(x.float() if x.is_floating_point() else x for x in arguments))
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), together, rtol=1e-3, atol=1e-4)


# --- refusals


@every_loss
def test_losses_refuse_bad_pairs(name):
    loss, numbers = LOSSES[name], sample(name)
    for place in range(len(numbers)):

        def put(x, place=place):
            return [x if at == place else y.clone() for at, y in enumerate(numbers)]

        with refused("broadcast", "reshape"):
            loss(*put(numbers[place][:, None]))
        with refused("1 of 64 entries NaN"):
            loss(*put(torch.where(torch.arange(64) == 7, math.nan, numbers[place])))
        with refused(r"\.float\(\)"):
            loss(*put(torch.ones(64, dtype=torch.int64)))
        with refused("Convert it with"):
            loss(*put(numbers[place].float()))
        if place > 1:
            with refused("detach"):
                loss(*put(numbers[place].clone().requires_grad_()))
    with refused("empty"):
        loss(*sample(name, 0))


@every_pair
@pytest.mark.parametrize("beta", [0, -0.1, math.nan, math.inf, "0.1", True, torch.tensor(0.1)])
def test_beta_has_to_be_positive(name, beta):
    for function in PAIRED[name]:
        with refused("beta|Pass a Python"):
            function.func(*sample(name), beta=beta)


@pytest.mark.parametrize("place", range(4))
def test_negative_errors_are_refused(place):
    """The usual slip: log-likelihoods handed over as errors."""
    numbers = sample("diffusion")
    numbers[place] = -numbers[place]
    with refused("64 of 64 outside", "mean of squares"):
        o.diffusion_dpo_loss(*numbers)


ONE, TWO = values(1)[0], values(0.5, 0.5)
MIXED = (TWO, values([0, 1], [2, 3]), values(1, 2), values(1, 0))
PAIR = (values([0, 1], [2, 3], [4, 5]), values(0.2, 0.3, 0.5), indices(0)[0], indices(1)[0])


def instead(arguments, place, x):
    return [x if at == place else y for at, y in enumerate(arguments)]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: o.gibbs_policy(ONE, ONE, beta=1.0), "at least 1 axes"),
        (lambda: o.gibbs_policy(TWO, values(1, 2, 3), beta=1.0), "reward in the shape"),
        (lambda: o.gibbs_policy(TWO, TWO * math.nan, beta=1.0), "NaN"),
        (lambda: o.gibbs_policy(TWO, TWO, beta=0.0), "beta"),
        (lambda: o.implicit_accuracy(values()), "empty"),
        (lambda: o.implicit_accuracy(values(math.nan)), "NaN"),
        (lambda: o.implicit_accuracy(indices(1, 0)), "float"),
        (lambda: o.squared_error(ONE, ONE), "at least 1 axes"),
        (lambda: o.squared_error(TWO, TWO[None]), "broadcast"),
        (lambda: o.squared_error(TWO.clone().requires_grad_(), TWO), "detach"),
        (lambda: o.squared_error(normal(3, 0), normal(3, 0)), "none of them empty"),
        (lambda: optima.gibbs_value(ONE, ONE, beta=1.0), "at least 1 axes"),
        (lambda: optima.gibbs_value(TWO, TWO[:, None], beta=1.0), "broadcast"),
        (lambda: optima.gibbs_value(TWO[:0], TWO[:0], beta=1.0), "none of them empty"),
        (lambda: optima.gibbs_value(TWO, TWO * math.nan, beta=1.0), "NaN"),
        (lambda: optima.gibbs_value(TWO, TWO, beta=-1.0), "beta"),
        (lambda: optima.regularised_reward(TWO.log(), TWO, TWO, beta=1.0), "softmax"),
        (lambda: optima.regularised_reward(2 * TWO, TWO, TWO, beta=1.0), "sum to 1"),
        (lambda: optima.regularised_reward(TWO, TWO[None], TWO, beta=1.0), "logp_ref"),
        (lambda: optima.regularised_reward(TWO, TWO, TWO.float(), beta=1.0), "dtype"),
        (lambda: optima.regularised_reward(TWO, TWO, TWO, beta=0.0), "beta"),
        (lambda: optima.loss_floor(values()), "empty"),
        (lambda: optima.loss_floor(values(math.nan)), "NaN"),
        (lambda: optima.loss_floor(values(math.inf)), "log-odds"),
        (lambda: optima.loss_floor(indices(1)), "float"),
        (lambda: optima.accuracy_ceiling(values()), "empty"),
        (lambda: optima.accuracy_ceiling(values(-math.inf)), "log-odds"),
        (lambda: optima.tilt_weights(ONE, beta=1.0), "at least 1 axes"),
        (lambda: optima.tilt_weights(TWO[:0], beta=1.0), "none of them empty"),
        (lambda: optima.tilt_weights(TWO * math.nan, beta=1.0), "NaN"),
        (lambda: optima.tilt_weights(TWO, beta=0.0), "beta"),
        (lambda: optima.effective_sample_size(ONE), "at least 1 axes"),
        (lambda: optima.effective_sample_size(TWO.log()), "without negative"),
        (lambda: optima.effective_sample_size(values(1, 2)), "sum to 1"),
        (lambda: optima.tilted_mixture(*instead(MIXED, 0, values(1, 1)), beta=1.0), "sum to 1"),
        (lambda: optima.tilted_mixture(*instead(MIXED, 0, values(1)), beta=1.0), "weights in the shape"),
        (lambda: optima.tilted_mixture(*instead(MIXED, 0, TWO.float()), beta=1.0), "weights with the dtype"),
        (lambda: optima.tilted_mixture(*instead(MIXED, 1, values(0, 1)), beta=1.0), "at least 2 axes"),
        (lambda: optima.tilted_mixture(*instead(MIXED, 1, MIXED[1].float()), beta=1.0), "direction with the dtype"),
        (lambda: optima.tilted_mixture(*instead(MIXED, 2, values(1, 0)), beta=1.0), "standard deviations"),
        (lambda: optima.tilted_mixture(*instead(MIXED, 2, MIXED[2].float()), beta=1.0), "variances with the dtype"),
        (lambda: optima.tilted_mixture(*instead(MIXED, 2, values([1], [2])), beta=1.0), "variances in the shape"),
        (lambda: optima.tilted_mixture(*instead(MIXED, 3, values(1, 0, 0)), beta=1.0), "direction in the shape"),
        (lambda: optima.tilted_mixture(*instead(MIXED, 3, values(1, math.nan)), beta=1.0), "NaN"),
        (lambda: optima.tilted_mixture(*MIXED, beta=0.0), "beta"),
        (lambda: optima.displacement(*instead(PAIR, 0, PAIR[0][0])), "at least 2 axes"),
        (lambda: optima.displacement(*instead(PAIR, 0, values([0, 1], [2, math.nan], [4, 5]))), "features without NaN"),
        (lambda: optima.displacement(*instead(PAIR, 1, values(0.2, 0.3, 0.6))), "sum to 1"),
        (lambda: optima.displacement(*instead(PAIR, 1, TWO)), "policy in the shape"),
        (lambda: optima.displacement(*instead(PAIR, 1, PAIR[1].float())), "dtype"),
        (lambda: optima.displacement(*instead(PAIR, 2, ONE)), "int64"),
        (lambda: optima.displacement(*instead(PAIR, 2, indices(0))), "chosen in the shape"),
        (lambda: optima.displacement(*instead(PAIR, 3, indices(3)[0])), "between 0 and 2"),
        (lambda: optima.displacement(*instead(PAIR, 3, indices(-1)[0])), "between 0 and 2"),
    ],
)
def test_bad_input_is_refused(call, words):
    with refused():
        call()
    with pytest.raises(ValueError, match=rf"(?s){words}"):
        call()
