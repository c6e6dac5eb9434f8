"""pocourse.diffusion_dpo.denoising and its claims: by hand, against diffusers' schedulers and quadrature, refusals."""

import math

import pytest
import torch

import pocourse.diffusion_dpo.claims.denoising
import pocourse.diffusion_dpo.claims.diffusion  # noqa: F401 (what is imported registers its claims)
from pocourse.diffusion_dpo import denoising as d
from pocourse.diffusion_dpo import objectives
from pocourse.diffusion_dpo.claims import diffusion, instances
from pocourse.lesson.claims import Draw, registry

F64 = torch.float64
SCHEDULES = {
    "linear": {"beta_schedule": "linear"},
    "scaled_linear": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "squaredcos_cap_v2": {"beta_schedule": "squaredcos_cap_v2"},
}
MINE = {f"5.{number}" for number in range(11, 24)}
CLAIMS = {id: found for id, found in registry().items() if found.equation in MINE}
every_schedule = pytest.mark.parametrize("name", SCHEDULES)
every_claim = pytest.mark.parametrize("id", CLAIMS)


def values(*numbers):
    return torch.tensor(numbers, dtype=F64)


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def draw(count=50, seed=0):
    return Draw(count, torch.Generator().manual_seed(seed))


def close(found, wanted, atol=1e-12):
    torch.testing.assert_close(found, wanted, rtol=0, atol=atol)


def scheduler(name, kind="DDPMScheduler"):
    """One of diffusers', in double precision, as its steps divide by differences of nearly equal numbers."""
    import diffusers

    made = getattr(diffusers, kind)(1000, clip_sample=False, **SCHEDULES[name])
    made.alphas_cumprod = made.alphas_cumprod.double()
    return made


WEIGHTS, MEANS, VARIANCES = values(0.2, 0.5, 0.3), values([-1.5], [0.2], [1.4]), values(0.09, 0.5, 0.2)
MIXTURE = WEIGHTS, MEANS, VARIANCES


# --- by hand


def test_levels_by_hand():
    assert d.snr(values(0.8, 0.5, 0)).tolist() == pytest.approx([4, 1, 0])
    found = d.noised(values([5.0], [1.0]), values([10.0], [-1.0]), values(0.64, 0.36))
    assert found.flatten().tolist() == pytest.approx([0.8 * 5 + 0.6 * 10, 0.6 - 0.8])


def test_the_posterior_by_hand():
    # alpha_bar .25 after .5, so alpha = .5: mean (sqrt .5 * .5 * 3 + sqrt .5 * .5 * 6) / .75, variance .5 * .5 / .75.
    mean, variance = d.posterior(values(3.0), values(6.0), values(0.25), values(0.5))
    assert float(mean) == pytest.approx(math.sqrt(0.5) * 4.5 / 0.75) and float(variance) == pytest.approx(1 / 3)


def test_the_step_to_the_clean_image_leaves_nothing_open():
    mean, variance = d.posterior(values(3.0), values(-7.0), values(0.9), values(1.0))
    assert float(mean) == pytest.approx(3) and float(variance) == 0


def test_the_weight_by_hand():
    # SNR 1 after 4: (4 - 1) / 2; an error of .1 in each of 6 pixels.
    assert float(d.kl_weight(values(0.5), values(0.8))) == pytest.approx(1.5)
    assert float(d.denoising_kl(values(0.1), values(0.5), values(0.8), dim=6)) == pytest.approx(0.9)


def test_one_component_is_linear_by_hand():
    # alpha_bar = .5, s^2 = 3: v = 2, and sqrt(.5) (x_t - sqrt(.5) 4) / 2.
    found = d.mixture_noise(values([1.0, 2.0]), values(1), values([4, 0]), values(3), values(0.5))
    root = math.sqrt(0.5)
    assert found[0].tolist() == pytest.approx([root * (1 - 4 * root) / 2, root])


def test_two_components_by_hand():
    # At x_t = 0 both are as far away; the heavier one pulls three times as hard.
    found = d.mixture_noise(values([0.0]), values(0.25, 0.75), values([-2], [2]), values(1, 1), values(0.5))
    assert float(found) == pytest.approx(math.sqrt(0.5) * (0.25 - 0.75) * math.sqrt(0.5) * 2)


def test_a_density_by_hand():
    found = d.mixture_log_density(values([0.0, 0.0]), values(1), values([1, 2]), values(0.5))
    assert float(found) == pytest.approx(-5 - math.log(math.pi))


def test_effective_beta_by_hand():
    assert float(d.effective_beta(values(0.2), beta=500.0, dim=64)) == pytest.approx(500 / 64 * 0.16)
    # s^2 = 4: v = .5 * 4 + .5.
    assert float(d.effective_beta(values(0.5), beta=1.0, dim=1, variance=4.0)) == pytest.approx(1 / 2.5**2)
    # b = .16, .25: squares .0256 and .0625; inverses 6.25 and 4.
    weak, strong = d.effective_beta_limits(values(0.2, 0.5), beta=2.0, dim=2)
    assert float(weak) == pytest.approx(0.0881 / 0.41)
    assert float(strong) == pytest.approx(math.sqrt(0.41 / 10.25))


def test_the_clamp_by_hand():
    least, most = d.clamped_loss_bounds(beta=0.1)
    assert least == pytest.approx(math.log(1 + (9 / 11) ** 0.1), abs=1e-15)
    assert most == pytest.approx(math.log(1 + (11 / 9) ** 0.1), abs=1e-15)
    assert (round(least, 6), round(most, 6)) == (0.683164, 0.703231)
    assert d.clamped_loss_bounds(beta=1e6)[1] == pytest.approx(1e6 * math.log(11 / 9))


# --- against diffusers' schedulers


@every_schedule
def test_noised_is_what_a_scheduler_adds(name):
    made, t = scheduler(name), torch.tensor([0, 10, 500, 999])
    x0, noise = draws(4, 3, 8, 8), draws(4, 3, 8, 8, seed=1)
    close(d.noised(x0, noise, made.alphas_cumprod[t]), made.add_noise(x0, noise, t))


@every_schedule
@pytest.mark.parametrize("t", [1, 20, 500, 998])
def test_the_posterior_is_a_scheduler_s_step_with_a_perfect_denoiser(name, t):
    made, x0, noise = scheduler(name), draws(2, 1, 8, 8), draws(2, 1, 8, 8, seed=1)
    level, before = made.alphas_cumprod[t], made.alphas_cumprod[t - 1]
    xt = d.noised(x0, noise, level)
    mean, variance = d.posterior(x0, xt, level, before)
    close(variance, made._get_variance(t))
    found = made.step(noise, t, xt, generator=torch.Generator().manual_seed(3)).prev_sample
    fresh = torch.randn(xt.shape, generator=torch.Generator().manual_seed(3), dtype=F64)
    close(found, mean + variance.sqrt() * fresh, atol=1e-11)


@every_schedule
def test_the_posterior_is_ddim_s_step_with_eta_one(name):
    made, t = scheduler(name, "DDIMScheduler"), 300
    made.set_timesteps(1000)
    x0, noise, fresh = draws(2, 1, 8, 8), draws(2, 1, 8, 8, seed=1), draws(2, 1, 8, 8, seed=2)
    level, before = made.alphas_cumprod[t], made.alphas_cumprod[t - 1]
    xt = d.noised(x0, noise, level)
    mean, variance = d.posterior(x0, xt, level, before)
    found = made.step(noise, t, xt, eta=1.0, variance_noise=fresh).prev_sample
    close(found, mean + variance.sqrt() * fresh, atol=1e-11)


@every_schedule
def test_the_weight_is_ddpm_s(name):
    """beta^2 / (2 sigma^2 alpha (1 - alpha_bar)) with the posterior's variance sigma^2, for every t from 2."""
    levels = scheduler(name).alphas_cumprod
    now, before = levels[1:], levels[:-1]
    alpha = now / before
    variance = (1 - before) * (1 - alpha) / (1 - now)
    torch.testing.assert_close(
        d.kl_weight(now, before), (1 - alpha) ** 2 / (2 * variance * alpha * (1 - now)), rtol=1e-9, atol=0
    )
    ratio = d.snr(before) / d.snr(now)
    torch.testing.assert_close(d.kl_weight(now, before), (ratio - 1) / 2, rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("name", "mean", "weak", "strong"),
    [
        ("linear", 0.0821, 0.1790, 0.0078),
        ("scaled_linear", 0.1237, 0.1835, 0.0653),
        ("squaredcos_cap_v2", 0.1260, 0.1875, 0.0006),
    ],
)
def test_effective_betas_of_the_schedules(name, mean, weak, strong):
    levels = scheduler(name).alphas_cumprod
    assert float(d.effective_beta(levels, beta=1.0, dim=1).mean()) == pytest.approx(mean, abs=5e-5)
    assert [float(end) for end in d.effective_beta_limits(levels, beta=1.0, dim=1)] == pytest.approx(
        [weak, strong], abs=5e-5
    )


def test_ddim_carries_noise_to_the_mixture():
    """Without fresh noise the flow keeps order in one dimension: quantiles of the noise become the mixture's."""
    made = scheduler("squaredcos_cap_v2", "DDIMScheduler")
    made.set_timesteps(250)
    share = torch.linspace(0.01, 0.99, 99, dtype=F64)
    x = torch.special.ndtri(share).unsqueeze(-1)
    for t in made.timesteps:
        x = made.step(d.mixture_noise(x, *MIXTURE, made.alphas_cumprod[t]), t, x, eta=0.0).prev_sample
    reached = (WEIGHTS * torch.special.ndtr((x - MEANS.T) / VARIANCES.sqrt())).sum(-1)
    close(reached, share, atol=0.01)


# --- the closed-form denoisers against truth


def test_the_density_is_torch_s():
    weights, means, variances = WEIGHTS, draws(3, 4), VARIANCES
    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(weights),
        torch.distributions.Independent(torch.distributions.Normal(means, variances.sqrt()[:, None]), 1),
    )
    x = 2 * draws(7, 5, 4, seed=1)
    close(d.mixture_log_density(x, weights, means, variances), mixture.log_prob(x))


def test_the_density_integrates_to_one():
    x = torch.linspace(-8, 8, 2001, dtype=F64)
    mass = d.mixture_log_density(x[:, None], *MIXTURE).exp().sum() * (x[1] - x[0])
    assert float(mass) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("level", [0.02, 0.4, 0.97])
def test_the_noise_is_the_posterior_mean(level):
    """E[noise | x_t] from Bayes' rule over a fine grid of x_0."""
    x0 = torch.linspace(-8, 8, 20001, dtype=F64)
    xt, level = values(-2.0, 0.1, 1.3), torch.tensor(level, dtype=F64)
    noise = (xt[:, None] - level.sqrt() * x0) / (1 - level).sqrt()
    weight = (d.mixture_log_density(x0[:, None], *MIXTURE) - noise**2 / 2).softmax(-1)
    close(d.mixture_noise(xt[:, None], *MIXTURE, level).squeeze(-1), (weight * noise).sum(-1), atol=1e-9)


def test_the_noise_is_the_score_of_the_noised_mixture():
    means, level = draws(3, 2), torch.tensor(0.3, dtype=F64)
    xt = draws(6, 2, seed=1).requires_grad_()
    noised = WEIGHTS, level.sqrt() * means, level * VARIANCES + 1 - level
    (score,) = torch.autograd.grad(d.mixture_log_density(xt, *noised).sum(), xt)
    close(d.mixture_noise(xt.detach(), WEIGHTS, means, VARIANCES, level), -(1 - level).sqrt() * score)


def test_its_error_has_nothing_to_do_with_what_it_sees():
    """The error of a conditional mean is orthogonal to every function of x_t."""
    level = torch.tensor(0.6, dtype=F64)
    node, weight = instances.even(201)
    x0 = MEANS[:, :, None] + VARIANCES.sqrt()[:, None, None] * node[:, None]
    noise = node.expand(3, 201, 201)
    xt = d.noised(x0.expand(3, 201, 201), noise, level)
    error = noise - d.mixture_noise(xt.unsqueeze(-1), *MIXTURE, level).squeeze(-1)
    mass = WEIGHTS[:, None, None] * weight[:, None] * weight
    for seen in (torch.ones_like(xt), xt, xt**2, (3 * xt).sin()):
        assert abs(float((mass * error * seen).sum())) < 1e-10
    assert abs(float((mass * error * noise).sum())) > 0.1


def test_far_away_nothing_overflows():
    x = values([1e4], [-1e4], [0.0])
    found = d.mixture_noise(x, *MIXTURE, values(0.5, 0.5, 0.5))
    assert bool(found.isfinite().all()) and bool(d.mixture_log_density(x, *MIXTURE).isfinite().all())
    # Far out the widest component is alone: v = .75 for s^2 = .5.
    spread = 0.75
    wide = math.sqrt(0.5) * (1e4 - math.sqrt(0.5) * 0.2) / spread
    assert float(found[0]) == pytest.approx(wide)


def test_at_the_ends_of_the_schedule():
    x = values([0.7], [-1.1])
    close(d.mixture_noise(x, *MIXTURE, values(0.0, 0.0)), x)  # nothing but noise
    close(d.mixture_noise(x, *MIXTURE, values(1.0, 1.0)), torch.zeros_like(x))  # no noise at all


# --- one level per sample


@pytest.mark.parametrize("pixels", [(8,), (1, 8, 8), (3, 4, 4)])
def test_levels_belong_to_samples_whatever_the_pixels(pixels):
    x0, noise, xt = (draws(8, *pixels, seed=seed) for seed in range(3))
    level = torch.linspace(0.1, 0.8, 8, dtype=F64)
    together, (mean, variance) = d.noised(x0, noise, level), d.posterior(x0, xt, level, level + 0.1)
    assert variance.shape == (8,)
    for i in range(8):
        close(together[i], d.noised(x0[i], noise[i], level[i]))
        alone = d.posterior(x0[i], xt[i], level[i], level[i] + 0.1)
        close(mean[i], alone[0])
        close(variance[i], alone[1])


def test_a_mixture_takes_a_level_for_each_row_of_points():
    xt, level = draws(4, 5, 1), values(0.1, 0.4, 0.6, 0.9)
    found = d.mixture_noise(xt, *MIXTURE, level)
    close(found[2], d.mixture_noise(xt[2], *MIXTURE, level[2]))
    close(found, d.mixture_noise(xt, *MIXTURE, level[:, None].expand(4, 5)))


def test_single_precision_stays_single():
    x, level = draws(4, 6).float(), torch.full((4,), 0.5)
    assert d.noised(x, x, level).dtype == torch.float32
    assert d.posterior(x, x, level, level + 0.1)[0].dtype == torch.float32
    assert d.mixture_noise(x[:, :1], *(part.float() for part in MIXTURE), level).dtype == torch.float32


def test_gradient_goes_through():
    x0, level = draws(3, 2).requires_grad_(), values(0.2, 0.5, 0.7)
    d.noised(x0, draws(3, 2, seed=1), level).sum().backward()
    close(x0.grad, level.sqrt()[:, None].expand(3, 2))
    error = values(0.3).requires_grad_()
    d.denoising_kl(error, values(0.5), values(0.8), dim=6).backward()
    assert error.grad.tolist() == pytest.approx([9])
    means = MEANS.clone().requires_grad_()
    d.mixture_noise(draws(5, 1), WEIGHTS, means, VARIANCES, values(0.5)[0]).sum().backward()
    assert bool((means.grad != 0).all())


# --- refusals

X, LEVEL = values([1, 2], [3, 4], [5, 6]), values(0.2, 0.3, 0.4)


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: d.snr(values(1.0)), "alpha_bar"),
        (lambda: d.snr(values(-0.1)), "alpha_bar"),
        (lambda: d.snr(values()), "alpha_bar"),
        (lambda: d.snr(values(0.5, math.nan)), "NaN"),
        (lambda: d.noised(X, X[:, :1], LEVEL), "noise"),
        (lambda: d.noised(X, X, LEVEL[:2]), r"one value per sample.*\[3, 2\]; got \[2\]"),
        (lambda: d.noised(X, X, LEVEL[:, None]), r"one value per sample.*got \[3, 1\]"),
        (lambda: d.noised(X[0], X[0], LEVEL[:2, None]), "one value per sample"),
        (lambda: d.noised(X, X, LEVEL.float()), "dtype"),
        (lambda: d.noised(X, X, 1.1 * values(1, 1, 1)), "alpha_bar"),
        (lambda: d.noised(X * math.nan, X, LEVEL), "NaN"),
        (lambda: d.noised(X[:0], X[:0], LEVEL[:0]), "empty"),
        (lambda: d.posterior(X, X[:2], LEVEL, LEVEL), "xt"),
        (lambda: d.posterior(X, X, LEVEL, LEVEL - 0.1), "less noise"),
        (lambda: d.posterior(X, X, LEVEL, LEVEL[0]), "alpha_bar_previous"),
        (lambda: d.posterior(X, X, LEVEL + 0.6, LEVEL + 0.6), "alpha_bar"),
        (lambda: d.posterior(X, X, LEVEL, LEVEL + 0.7), "alpha_bar_previous"),
        (lambda: d.kl_weight(LEVEL, LEVEL / LEVEL), "t = 2"),
        (lambda: d.kl_weight(LEVEL, LEVEL - 0.1), "less noise"),
        (lambda: d.kl_weight(0 * LEVEL, LEVEL), "alpha_bar"),
        (lambda: d.kl_weight(LEVEL, LEVEL[:2]), "alpha_bar_previous"),
        (lambda: d.denoising_kl(LEVEL[:2], LEVEL, LEVEL + 0.1, dim=4), "alpha_bar"),
        (lambda: d.denoising_kl(-LEVEL, LEVEL, LEVEL + 0.1, dim=4), "error"),
        (lambda: d.denoising_kl(LEVEL, LEVEL, LEVEL + 0.1, dim=0), "dim"),
        (lambda: d.mixture_log_density(X, *MIXTURE), "means"),
        (lambda: d.mixture_log_density(X[:, :1], WEIGHTS[:2], MEANS, VARIANCES), "means"),
        (lambda: d.mixture_log_density(X[:, :1], 2 * WEIGHTS, MEANS, VARIANCES), "sum to 1"),
        (lambda: d.mixture_log_density(X[:, :1], WEIGHTS, MEANS, -VARIANCES), "variances"),
        (lambda: d.mixture_log_density(X[:, :1], WEIGHTS, MEANS, VARIANCES[:, None]), "variances"),
        (lambda: d.mixture_log_density(X[:, :1].float(), *MIXTURE), "dtype"),
        (lambda: d.mixture_log_density(X[:, :1], WEIGHTS, MEANS * math.nan, VARIANCES), "NaN"),
        (lambda: d.mixture_noise(X[:, :1], *MIXTURE, LEVEL[:2]), "one value per sample"),
        (lambda: d.mixture_noise(X[:, :1], *MIXTURE, LEVEL[:, None]), "one value per sample"),
        (lambda: d.mixture_noise(X[:, :1], *MIXTURE, LEVEL.float()), "dtype"),
        (lambda: d.mixture_noise(X[:, :1], *MIXTURE, LEVEL - 1), "alpha_bar"),
        (lambda: d.effective_beta(values(0.0), beta=1.0, dim=1), "alpha_bar"),
        (lambda: d.effective_beta(LEVEL, beta=0.0, dim=1), "beta"),
        (lambda: d.effective_beta(LEVEL, beta=1.0, dim=0), "dim"),
        (lambda: d.effective_beta(LEVEL, beta=1.0, dim=1, variance=0.0), "variance"),
        (lambda: d.effective_beta_limits(LEVEL[0], beta=1.0, dim=1), "alpha_bars"),
        (lambda: d.effective_beta_limits(LEVEL, beta=-1.0, dim=1), "beta"),
        (lambda: d.clamped_loss_bounds(beta=0.0), "beta"),
        (lambda: d.clamped_loss_bounds(beta=0.1, clip_eps=1.0), "clip_eps"),
    ],
)
def test_bad_input_is_refused(call, word):
    with pytest.raises(ValueError, match=rf"(?s)expected .*{word}"):
        call()


# --- the claims


@every_claim
def test_a_twin_fails_by_more_than_rounding(id):
    """Only a bound that is rounded to four digits is wrong by as little as that."""
    for twin in CLAIMS[id].twins:
        error = CLAIMS[id].outcome(twin.run).error
        least = 3e-5 if twin.name == "rounded_to_four_digits" else 0.001 if twin.name == "log_of_the_width" else 0.01
        assert error > least, twin.name


def test_the_numbers_of_the_claims_are_all_there():
    assert {found.equation for found in CLAIMS.values()} == MINE


def test_the_rules_of_integration_by_hand():
    for node, weight in (instances.hermite(5), instances.even(64)):
        moments = [float((weight * node**power).sum()) for power in range(7)]
        assert moments == pytest.approx([1, 0, 1, 0, 3, 0, 15], abs=1e-11)
    node, weight = instances.legendre(4)
    assert [float((weight * node**power).sum()) for power in range(8)] == pytest.approx([1 / n for n in range(1, 9)])


def test_roots_by_hand():
    found = instances.root(lambda x: values(8.0, 27.0, 0.0) - x**3, values(0.0, 0.0, 0.0), values(5.0, 9.0, 1.0))
    close(found, values(2.0, 3.0, 0.0), atol=1e-9)


def test_the_numbers_of_jensen_s_gap():
    node, weight = instances.even(101)
    found = [float((weight * -torch.nn.functional.logsigmoid(1 + spread * node)).sum()) for spread in (0.0, 2.0, 4.0)]
    assert found == pytest.approx([0.3133, 0.6425, 1.295], abs=5e-4)


def test_paths_of_two_steps_by_hand():
    # x_1 = 2 x_2 + 1 + 3 noise, x_0 = x_1 - 1 + noise: variances 1, 13, 14.
    chain = diffusion.Chain(*(part[None] for part in values([2, 1], [1, -1], [3, 1])))
    mean, covariance = chain.path()
    assert mean[0].tolist() == [0, 1, 0]
    assert covariance[0].tolist() == [[1, 2, 2], [2, 13, 13], [2, 13, 14]]
    given = chain.noisy_given(values([7.0]))
    close(given.mean[0, 0], values(1, 7.5))
    close(given.covariance_matrix[0, 0], values([1 - 4 / 14, 2 - 26 / 14], [2 - 26 / 14, 13 - 169 / 14]))


def test_the_divergence_of_paths_is_that_of_their_joint_densities():
    chain, ref = (diffusion._random_chain(draw(5, seed)) for seed in (0, 1))
    joint = [torch.distributions.MultivariateNormal(*each.path(), validate_args=False) for each in (chain, ref)]
    close(diffusion._steps(chain, ref), torch.distributions.kl_divergence(*joint), atol=1e-10)


def world(slope, alpha_bar, variance=1.0, beta=8.0, dim=1):
    return diffusion.Shift(values(slope), values(alpha_bar), variance, beta, dim)


def test_the_fitted_mean_by_hand():
    # a / (beta alpha_bar (1 - alpha_bar)) = 1.5 / (8 / 4).
    assert float(diffusion._fitted_mean(world(1.5, 0.5))) == pytest.approx(0.75, abs=1e-10)
    assert float(diffusion._fitted_mean(world(1.5, 0.5), halves=1.0)) == pytest.approx(0.375, abs=1e-10)
    assert float(diffusion._fitted_mean(world(1.5, 0.5, dim=3))) == pytest.approx(2.25, abs=1e-10)


@pytest.mark.parametrize(("alpha_bar", "variance"), [(0.5, 1.0), (0.2, 1.0), (0.5, 2.0)])
def test_unshared_noise_leaves_a_known_share_of_a_weak_shift(alpha_bar, variance):
    found = [diffusion._fitted_mean(world(0.01, alpha_bar, variance), shared) for shared in (False, True)]
    share = (1 - alpha_bar) / (alpha_bar * variance + 1 - alpha_bar)
    assert float(found[0] / found[1]) == pytest.approx(share, rel=1e-3)


def test_the_fitted_mean_on_samples_of_the_real_losses():
    """At mu = a / beta_eff, three pixels, mixtures' own denoisers: the slope of the loss is zero, by sampling."""
    count, slope, level = 20_000, values(0.8, -0.4, 0.3), torch.tensor(0.4, dtype=F64)
    mean = 3 * slope / (20 * 0.24)
    first, second, noise = draws(count, 3), draws(count, 3, seed=1), draws(count, 3, seed=2)
    chance = ((first - second) @ slope).sigmoid()
    label = torch.rand(count, generator=torch.Generator().manual_seed(3), dtype=F64) < chance
    chosen, rejected = torch.where(label[:, None], first, second), torch.where(label[:, None], second, first)
    means = mean.repeat(count, 1).requires_grad_()  # one for each pair: their slopes are samples

    def errors(x0, at):
        xt = d.noised(x0, noise, level)
        # The noise that mixture_noise predicts for one component of unit variance.
        return objectives.squared_error(noise, (1 - level).sqrt() * (xt - level.sqrt() * at))

    with torch.no_grad():
        one = d.mixture_noise(d.noised(chosen, noise, level), values(1), mean[None], values(1), level)
        close(errors(chosen, means), objectives.squared_error(noise, one))
        ref = [errors(x0, torch.zeros_like(means)) for x0 in (chosen, rejected)]
    loss = objectives.diffusion_dpo_loss(errors(chosen, means), errors(rejected, means), *ref, beta=20.0)
    (slopes,) = torch.autograd.grad(loss.sum(), means)
    standard_error = slopes.std(0) / math.sqrt(count)
    assert bool((slopes.mean(0).abs() < 4 * standard_error).all())
    # Further out by a tenth the loss rises again.
    far = (1.1 * mean).repeat(count, 1).requires_grad_()
    loss = objectives.diffusion_dpo_loss(errors(chosen, far), errors(rejected, far), *ref, beta=20.0)
    (slopes,) = torch.autograd.grad(loss.sum(), far)
    along = slopes @ mean
    assert float(along.mean()) > 4 * float(along.std()) / math.sqrt(count)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("squaredcos_cap_v2", (1.500, 1.297, 0.958)),
        ("scaled_linear", (1.468, 1.241, 0.869)),
        ("linear", (1.432, 1.172, 0.724)),
    ],
)
def test_effective_beta_of_whole_schedules_falls_with_the_reward(name, found):
    levels = d.effective_beta(scheduler(name).alphas_cumprod, beta=8.0, dim=1)
    for slope, beta in zip((0.01, 1.5, 5.0), found, strict=True):
        assert float(instances.mixed_beta(levels[None], values(slope))) == pytest.approx(beta, abs=6e-4)


def test_the_mixed_beta_is_where_the_population_loss_is_least():
    levels, slope = values(0.3, 1.2, 1.9), 2.5
    node, weight = instances.even(801)
    difference = math.sqrt(2) * node
    chance = (slope * difference).sigmoid()
    best = slope / instances.mixed_beta(levels[None], values(slope))

    def loss(mean):
        margin = levels[:, None] * mean * difference
        wrong = torch.nn.functional.softplus(margin)
        return float((weight * (chance * (wrong - margin) + (1 - chance) * wrong)).sum(-1).mean())

    least = loss(best)
    assert all(loss(best * factor) > least + 1e-8 for factor in (0.5, 0.99, 1.01, 2))


def test_the_limits_hold_for_every_schedule_and_variance():
    """Their proof asks for nothing but positive levels: extreme ones too."""
    levels = 10 ** (2 * draws(200, 5))
    slope = 10 ** (2 * draws(200, seed=1))
    found = instances.mixed_beta(levels, slope)
    weak = (levels**2).mean(-1) / levels.mean(-1)
    strong = (levels.mean(-1) / (1 / levels).mean(-1)).sqrt()
    assert bool((found <= weak * (1 + 1e-8)).all()) and bool((found >= strong * (1 - 1e-8)).all())
    spread = d.effective_beta(values(0.1, 0.6), beta=3.0, dim=2, variance=0.25)
    given = d.effective_beta_limits(values(0.1, 0.6), beta=3.0, dim=2, variance=0.25)
    assert float(given[0]) == pytest.approx(float((spread**2).mean() / spread.mean()))
