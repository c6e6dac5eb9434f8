"""Claims 5.1 to 5.10: what tests/test_claims.py cannot ask of them, and numbers by hand."""

import math

import pytest
import torch

import pocourse.diffusion_dpo.claims  # noqa: F401  registers the chapter's claims
from pocourse.diffusion_dpo import objectives
from pocourse.diffusion_dpo.claims import direct, preferences
from pocourse.lesson.claims import Draw, registry

CLAIMS = {
    id: found for id, found in registry().items() if found.sides.__module__ in (preferences.__name__, direct.__name__)
}
every_claim = pytest.mark.parametrize("id", CLAIMS)


def values(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def draw(count=50, seed=0):
    return Draw(count, torch.Generator().manual_seed(seed))


def test_all_ten_are_here():
    assert [found.equation for found in CLAIMS.values()] == [f"5.{number}" for number in range(1, 11)]


@every_claim
def test_a_twin_fails_by_more_than_rounding(id):
    for seed in (0, 20):
        least = min(CLAIMS[id].outcome(twin.run, seed).error for twin in CLAIMS[id].twins)
        assert least > (1e-3 if id.endswith("optimum_is_gibbs") else 0.01)


def test_floor_and_ceiling_are_both_attained():
    """The check asks for one that is; a floor that nobody reaches could be too low."""
    small, large = preferences.floor_and_ceiling.sides(draw(1000))
    half = (large - small)[:500]
    assert float(half.abs().max()) < 1e-12
    assert float((large - small)[500:].amin(0).min()) > -1e-12
    assert float((large - small)[500:].amax(0).min()) > 0.5


def test_log_odds_by_hand():
    torch.testing.assert_close(preferences._log_odds(values(4 / 3, 4).log()), values(3, 1 / 3).log())


def test_slopes_along_the_path_by_central_differences():
    logp_ref, reward = values([0.2, 0.3, 0.5]).log(), values([1, -1, 0.4])

    def divergence(policy, reference):
        return (policy * (policy / reference).log()).sum(-1)

    def at(inverse):
        policy = objectives.gibbs_policy(logp_ref, reward, beta=1 / inverse)
        return torch.cat(((policy * reward).sum(-1), divergence(policy, logp_ref.exp())))

    _, *slopes = preferences._along_the_path(logp_ref, reward, values(0.8), divergence)
    torch.testing.assert_close(torch.cat(slopes), (at(0.8 + 1e-5) - at(0.8 - 1e-5)) / 2e-5, rtol=0, atol=1e-9)
    assert float(slopes[1] / slopes[0]) == pytest.approx(0.8, abs=1e-12)


@pytest.mark.parametrize(("pairs", "groups"), [(direct.ALL_PAIRS, 1), (direct.CHAIN, 1), (direct.TORN, 2)])
def test_how_the_graphs_hang_together(pairs, groups):
    linked = torch.eye(direct.OUTCOMES)
    linked[pairs[0], pairs[1]] = linked[pairs[1], pairs[0]] = 1
    reach = torch.linalg.matrix_power(linked, direct.OUTCOMES) > 0
    assert len({tuple(row) for row in reach.tolist()}) == groups


def test_the_fit_of_one_pair_by_hand():
    """Two outcomes, a fair reference, the first wins three times in four: the log-ratio is log 3 / beta."""
    found = direct._fitted(values([0.5, 0.5]).log(), values([0.75]), values([1]), torch.tensor([[0], [1]]))
    odds = 3 ** (1 / direct.BETA)
    torch.testing.assert_close(found, values([odds, 1]) / (odds + 1), rtol=0, atol=1e-7)


def test_a_step_by_hand():
    """From a fair reference the slope is -beta / 2 (x_w - x_l); the logits are then 1, 0, 3 times the step."""
    (logp, margin), (logp_after, margin_after) = direct._after_a_step(direct.LINE, values(0.5))
    c = 0.5 * direct.BETA / 2
    total = math.exp(c) + 1 + math.exp(3 * c)
    torch.testing.assert_close(torch.cat((logp, logp_after)), values(1 / 3, math.exp(c) / total).log())
    torch.testing.assert_close(torch.cat((margin, margin_after)), values(0, direct.BETA * c))
