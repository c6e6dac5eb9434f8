"""Chapter 4's claims: at other seeds than the printed one, the rules they integrate with, and numbers by hand."""

import math

import pytest
import torch

import pocourse.zeroth_order.claims  # noqa: F401  registers the chapter's claims
from pocourse.lesson.claims import Draw, registry
from pocourse.zeroth_order import bounds
from pocourse.zeroth_order.claims import instances, relatives, smoothing, variances

CLAIMS = {id: found for id, found in registry().items() if found.chapter == "zeroth_order"}
every_claim = pytest.mark.parametrize("id", CLAIMS)


def values(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def draw(count=50, seed=0):
    return Draw(count, torch.Generator().manual_seed(seed))


@every_claim
def test_a_twin_fails_by_more_than_rounding(id):
    """Only the replayed genome is judged bit for bit."""
    least = min(CLAIMS[id].outcome(twin.run).error for twin in CLAIMS[id].twins)
    assert least > (1e-8 if id.endswith("truncation_replay") else 0.01)


# --- the rules of integration


def test_hermite_by_hand():
    node, weight = instances.hermite(3)
    torch.testing.assert_close(node[:, 0], values(-math.sqrt(3), 0, math.sqrt(3)), rtol=0, atol=1e-14)
    torch.testing.assert_close(weight, values(1 / 6, 2 / 3, 1 / 6), rtol=0, atol=1e-14)


def test_four_nodes_are_exact_to_degree_seven_and_no_further():
    (u,), weight = instances.hermite(4)[0].T, instances.hermite(4)[1]
    moments = [float(instances.mean(weight, u**power)) for power in range(9)]
    assert moments[:8] == pytest.approx([1, 0, 1, 0, 3, 0, 15, 0], abs=1e-12)
    assert abs(moments[8] - 105) > 1


def test_legendre_by_hand():
    node, weight = instances.legendre(2)
    torch.testing.assert_close(node, values(-1, 1) / math.sqrt(3), rtol=0, atol=1e-14)
    torch.testing.assert_close(weight, values(0.5, 0.5), rtol=0, atol=1e-14)


@pytest.mark.parametrize("dim", [2, 3])
def test_second_moments_of_sphere_and_ball(dim):
    eye = torch.eye(dim, dtype=torch.float64)
    for rule, divisor in ((instances.sphere, dim), (instances.ball, dim + 2)):
        points, weight = rule(dim)
        assert float(weight.sum()) == pytest.approx(1, abs=1e-13)
        second = instances.mean(weight, points.unsqueeze(-1) * points.unsqueeze(-2))
        torch.testing.assert_close(second, eye / divisor, rtol=0, atol=1e-13)
    assert float((instances.sphere(dim)[0].norm(dim=-1) - 1).abs().max()) < 1e-13


def test_the_trace_of_a_covariance_by_hand():
    estimate = values([0, 0], [4, 2])
    assert float(instances.trace(values(0.25, 0.75), estimate)) == pytest.approx(3 + 0.75, abs=1e-14)


def test_all_directions_are_normal_and_independent():
    u, weight = instances.every_direction(4, 2, 2, 3)
    assert u.shape == (2, 4**4, 3, 2) and weight.shape == (4**4,)
    flat = u[:, :, 0].movedim(0, 1).flatten(1)
    torch.testing.assert_close(
        instances.mean(weight, flat.unsqueeze(-1) * flat.unsqueeze(-2)),
        torch.eye(4, dtype=torch.float64),
        rtol=0,
        atol=1e-13,
    )


def test_the_split_rule_integrates_both_sides():
    u, weight = smoothing._split_at(values(0.0, 1.0))
    below = (weight * (u < values(0.0, 1.0))).sum(0)
    torch.testing.assert_close(below, instances.normal_cdf(values(0.0, 1.0)), rtol=0, atol=1e-13)


# --- numbers by hand


def test_a_quadratic_by_hand():
    f = instances.Quadratic(values(1), values([2, 0]), values([[2, 1], [1, 4]]))
    assert f.at(values([1, 1])).tolist() == [7]  # 1 + 2 + (2 + 1 + 1 + 4) / 2
    assert float(f.trace) == 6 and float(f.square_trace) == 22


def test_the_variance_ratio_by_hand():
    # d = 1, sigma = 2: (2 + 15) / (2 + 10).
    assert variances._ratio(1, 2.0) == pytest.approx(17 / 12)


def test_pairs_and_ranks_by_hand():
    # Values 3 < 5 < 9 at directions 1, 10, 100: pairs 9 + 99 + 90 over 3; ranks (4/3) (100 - 1) / 2.
    y, u = values([5], [3], [9]), values([[10]], [[1]], [[100]])
    assert float(relatives._pairs(y, u)) == pytest.approx(66)
    found, total = relatives._full_ranking(y, u)
    assert float(found) == pytest.approx(66) and float(total) == pytest.approx(0, abs=1e-12)


def test_the_box_of_the_last_two_by_hand():
    assert relatives._box(values([1], [2], [6]), 2).tolist() == [4]


def test_the_slope_is_negative_below_the_best_radius_and_positive_above():
    f, std = instances.quadratic(draw(), 2), 0.7
    for known, radius in ((False, bounds.forward_radius), (True, bounds.averaged_radius)):
        best = radius(f.hessian, noise_std=std)
        assert bool((smoothing._growth(f, 0.8 * best, std, 1, known) < 0).all())
        assert bool((smoothing._growth(f, 1.2 * best, std, 1, known) > 0).all())


def test_truncation_improves_and_its_genomes_grow():
    population, genomes = relatives._evolve(draw(20))
    assert population.shape == (20, relatives.GENES) and {len(genome) for genome in genomes} == {9}
    assert len({tuple(genome[:5]) for genome in genomes}) < 20  # they share ancestors
    start = torch.stack([relatives._normal(genome[0]) for genome in genomes])
    assert float(((population - 1) ** 2).sum(-1).mean()) < float(((start - 1) ** 2).sum(-1).mean())
