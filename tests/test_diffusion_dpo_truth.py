"""Chapter 5's table of estimators: the truth is in closed form, and the rows stand where theory puts them."""

import math

import pytest
import torch
from torch.nn.functional import logsigmoid

from pocourse.diffusion_dpo import denoising, dpo_loss, truth


@pytest.fixture(scope="module")
def rows():
    return {row.name: row for row in truth.rows()}


def test_the_policy_is_the_tilt_and_its_log_ratio_is_the_reward():
    # Of a Gibbs policy the log-ratio is r / beta and a constant, which a pair does not see.
    reward = [x @ torch.tensor(truth.DIRECTION, dtype=truth.F64) for x in truth.pairs()]
    want = (reward[0] - reward[1]) / (truth.HALFWAY * truth.BETA)
    assert torch.allclose(truth.log_ratio(truth.parameters()), want, atol=1e-12)


def test_parameters_and_mixture_are_each_others_inverse():
    mixture = truth.mixture_of(truth.parameters())
    assert mixture.weights.sum() == pytest.approx(1)
    assert torch.allclose(mixture.variances, truth.reference().variances)
    assert mixture.means.shape == (3, 2)


def test_pairs_follow_bradley_and_terry():
    reward = [x @ torch.tensor(truth.DIRECTION, dtype=truth.F64) for x in truth.pairs()]
    p = (reward[0] - reward[1]).abs().sigmoid()  # the chance that the better one is chosen
    right = (reward[0] > reward[1]).double().sum()
    sd = (p * (1 - p)).sum().sqrt()
    assert abs(right - p.sum()) <= 4 * sd
    assert right < truth.PAIRS  # labels err


def test_the_exact_loss_is_dpos():
    logp = [denoising.mixture_log_density(x, *truth.mixture_of(truth.parameters())) for x in truth.pairs()]
    ref = [denoising.mixture_log_density(x, *truth.reference()) for x in truth.pairs()]
    assert truth.exact_loss() == pytest.approx(float(dpo_loss(*logp, *ref, beta=truth.BETA).mean()), abs=1e-12)


def test_the_exact_gradient_is_that_of_central_differences():
    vector = truth.parameters()
    found = truth.gradient(vector, truth.log_ratio)
    for i in (0, 4, 11):
        step = torch.zeros_like(vector)
        step[i] = 1e-5
        high, low = (-logsigmoid(truth.BETA * truth.log_ratio(v)).mean() for v in (vector + step, vector - step))
        assert float(found[i]) == pytest.approx(float(high - low) / 2e-5, abs=1e-8)


def test_shared_noise_is_shared_and_own_noise_is_not():
    generator = torch.Generator().manual_seed(0)
    shared = truth.draw(3, shared=True, generator=generator)
    own = truth.draw(3, shared=False, generator=generator)
    assert torch.equal(shared.noise_chosen, shared.noise_rejected)
    assert not torch.equal(own.noise_chosen, own.noise_rejected)


def test_with_the_right_weight_estimates_are_unbiased():
    # Within 4 standard errors for all pairs together, but for the last step of noise, which has no weight.
    generator, estimator = torch.Generator().manual_seed(5), truth.ESTIMATORS["weight w_t, shared noise"]
    with torch.no_grad():
        found = truth.estimates(truth.parameters(), estimator, 400, generator=generator).mean(1)
        h = truth.log_ratio(truth.parameters()).mean()
    error = float(found.std()) / math.sqrt(len(found))
    assert abs(float(found.mean() - h)) <= 4 * error
    # The twin: without the factor T, or with the weight doubled, it is not.
    assert abs(float(2 * found.mean() - h)) > 4 * error


def test_rows_are_where_theory_puts_them(rows):
    for kind in ("weight w_t", "constant weight"):
        own, shared, many = (
            rows[f"{kind}, {rest}"] for rest in ("noise of its own", "shared noise", "shared, 16 draws")
        )
        assert own.sd > 1.3 * shared.sd
        assert many.sd == pytest.approx(shared.sd / 4, rel=0.15)
        # Jensen: the loss of single draws is above that of their mean, which is nearer to the exact one.
        assert own.loss > shared.loss > many.loss > truth.exact_loss() - 0.02
        assert own.cosine < shared.cosine < many.cosine
        assert (own.calls, many.calls) == (4, 64)
    assert rows["weight w_t, shared noise"].error < rows[truth.DIFFUSION_DPO].error


def test_the_table_has_a_row_for_each(rows):
    lines = truth.table().splitlines()
    assert len(lines) == 3 + len(truth.ESTIMATORS)
    assert len({line.count("|") for line in lines}) == 1
