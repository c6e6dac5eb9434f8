"""pocourse.lesson.survival: by hand, against a loop of fractions, against scipy, against the truth, and refusals."""

import math
from contextlib import nullcontext
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from pocourse.lesson.survival import Survival, kaplan_meier

Z = 1.959963984540054  # the normal distribution's 97.5% point


def drawn(seed, count=40, *, ties=True):
    """Exponential waiting times, censored at random: what is seen of them."""
    rng = np.random.default_rng(seed)
    waits, watched = rng.exponential(10, count), rng.exponential(15, count)
    times, events = np.minimum(waits, watched), waits <= watched
    return (np.ceil(times) if ties else times), events


def by_loop(times, events):
    """Share and Greenwood's sum just after each distinct time, in fractions, one subject at a time."""
    share, greenwood, found = Fraction(1), Fraction(0), []
    for now in sorted(set(times)):
        watched = sum(1 for t in times if t >= now)
        succeeded = sum(1 for t, e in zip(times, events, strict=True) if t == now and e)
        share *= Fraction(watched - succeeded, watched)
        if succeeded < watched:
            greenwood += Fraction(succeeded, watched * (watched - succeeded))
        found.append((now, share, greenwood, watched, succeeded))
    return found


# --- by hand ---------------------------------------------------------------------------------------


def test_five_attacks_by_hand():
    # Successes after 200, 300 and 400 queries; one attack was stopped at 250, one at 1000.
    curve = kaplan_meier(np.array([300, 200, 250, 1000, 400]), np.array([True, True, False, False, True]))
    assert curve.times.tolist() == [0, 200, 250, 300, 400, 1000]
    # One of 5, stopped, one of 3, one of 2, stopped.
    np.testing.assert_allclose(curve.share, [1, 4 / 5, 4 / 5, 8 / 15, 4 / 15, 4 / 15], rtol=1e-15)
    assert curve.at_risk.tolist() == [5, 5, 4, 3, 2, 1]
    assert curve.events.tolist() == [0, 1, 0, 1, 1, 0]
    assert curve.censored.tolist() == [0, 0, 1, 0, 0, 1]
    # At 300: G = 1/(5*4) + 1/(3*2) = 13/60.
    reach = Z * math.sqrt(13 / 60) / math.log(15 / 8)
    assert curve.low[3] == pytest.approx((8 / 15) ** math.exp(reach), abs=1e-14)
    assert curve.high[3] == pytest.approx((8 / 15) ** math.exp(-reach), abs=1e-14)
    assert curve.quantile() == 400 and curve.quantile(0.8) == 200 and curve.quantile(0.2) == math.inf


def test_a_textbook_trial_by_hand():
    # The treated arm of Freireich et al. 1963, weeks of remission; negative where a patient was still well.
    weeks = np.array([6, 6, 6, -6, 7, -9, 10, -10, -11, 13, 16, -17, -19, -20, 22, 23, -25, -32, -32, -34, -35])
    curve = kaplan_meier(np.abs(weeks), weeks > 0)
    steps = {6: 18 / 21, 7: 16 / 17, 10: 14 / 15, 13: 11 / 12, 16: 10 / 11, 22: 6 / 7, 23: 5 / 6}
    np.testing.assert_allclose(curve.at(list(steps)), np.cumprod(list(steps.values())), rtol=1e-14)
    assert curve.quantile() == 23  # the median remission, 23 weeks
    assert curve.at([5.9, 35]).tolist() == [1, curve.share[-1]]
    assert np.isnan(curve.at([35.1])).all()


def test_a_success_comes_before_a_censoring_at_the_same_time():
    curve = kaplan_meier(np.array([3, 3]), np.array([True, False]))
    assert curve.share.tolist() == [1, 1 / 2]
    assert curve.at_risk.tolist() == [2, 2]


def test_the_band_by_hand_where_the_formula_has_none():
    curve = kaplan_meier(np.array([1, 2, 3]), np.array([False, True, True]))
    assert curve.share.tolist() == [1, 1, 1 / 2, 0]
    assert curve.low[:2].tolist() == curve.high[:2].tolist() == [1, 1]
    assert 0 < curve.low[2] < 1 / 2 < curve.high[2] < 1
    assert math.isnan(curve.low[3]) and math.isnan(curve.high[3])
    assert curve.at([4]).tolist() == [0]  # all have succeeded: that is known for ever


def test_nobody_succeeds():
    curve = kaplan_meier(np.array([5.0, 5.0, 7.0]), np.zeros(3, bool))
    assert curve.share.tolist() == [1, 1, 1] == curve.low.tolist() == curve.high.tolist()
    assert curve.quantile() == math.inf


# --- against others --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("ties", [False, True])
def test_a_loop_of_fractions_finds_the_same(seed, ties):
    times, events = drawn(seed, ties=ties)
    curve, loop = kaplan_meier(times, events, level=0.9), by_loop(times.tolist(), events.tolist())
    assert curve.times.tolist() == [0, *(row[0] for row in loop)]
    np.testing.assert_allclose(curve.share[1:], [float(row[1]) for row in loop], rtol=1e-13)
    assert curve.at_risk[1:].tolist() == [row[3] for row in loop]
    assert curve.events[1:].tolist() == [row[4] for row in loop]
    judged = 0
    for i, (_, share, greenwood, *_) in enumerate(loop, 1):
        if 0 < share < 1:
            log_share = math.log(share)
            middle = math.log(-log_share)
            spread = stats.norm.ppf(0.95) * math.sqrt(greenwood) / abs(log_share)
            ends = [math.exp(-math.exp(middle + side * spread)) for side in (1, -1)]
            np.testing.assert_allclose([curve.low[i], curve.high[i]], ends, rtol=1e-10)
            judged += 1
    assert judged > 5
    assert events.any() and not events.all()


@pytest.mark.parametrize("seed", range(3))
def test_scipy_finds_the_same(seed):
    times, events = drawn(seed)
    theirs = stats.ecdf(stats.CensoredData(uncensored=times[events], right=times[~events])).sf
    curve = kaplan_meier(times, events)
    np.testing.assert_allclose(curve.at(theirs.quantiles), theirs.probabilities, rtol=1e-12)
    between = (curve.share > 0) & (curve.share < 1)
    assert between.sum() > 5
    with pytest.warns(RuntimeWarning) if (theirs.probabilities == 0).any() else nullcontext():
        band = theirs.confidence_interval(confidence_level=0.95, method="log-log")
    here = np.searchsorted(theirs.quantiles, curve.times[between])
    np.testing.assert_allclose(curve.low[between], band.low.probabilities[here], rtol=1e-10)
    np.testing.assert_allclose(curve.high[between], band.high.probabilities[here], rtol=1e-10)


def test_without_censoring_it_counts_who_still_waits():
    times = np.random.default_rng(0).integers(1, 20, 100)
    curve = kaplan_meier(times, np.ones(100, bool))
    np.testing.assert_allclose(curve.share, [(times > now).mean() for now in curve.times], atol=1e-14)


def test_with_one_budget_for_all_it_counts_who_still_waits_until_then():
    waits = np.random.default_rng(1).exponential(10, 200)
    curve = kaplan_meier(np.minimum(waits, 12), waits <= 12)
    now = np.linspace(0, 11.99, 50)
    np.testing.assert_allclose(curve.at(now), [(waits > t).mean() for t in now], atol=1e-13)


def test_the_order_of_the_subjects_is_no_matter():
    times, events = drawn(4)
    order = np.random.default_rng(0).permutation(len(times))
    for mine, other in zip(kaplan_meier(times, events), kaplan_meier(times[order], events[order]), strict=True):
        np.testing.assert_array_equal(mine, other)


# --- against the truth -----------------------------------------------------------------------------

MANY, AT = 20_000, 8.0


def test_the_truth_is_found_under_censoring_and_by_no_shortcut():
    times, events = drawn(0, MANY, ties=False)
    truth = math.exp(-AT / 10)
    curve = kaplan_meier(times, events)
    i = np.searchsorted(curve.times, AT, side="right") - 1
    summands = curve.events[1:] / (curve.at_risk[1:] * np.maximum(curve.at_risk[1:] - curve.events[1:], 1))
    error = truth * math.sqrt(summands[:i].sum())
    assert abs(curve.share[i] - truth) < 4 * error
    assert curve.low[i] < truth < curve.high[i]
    # Leaving the censored out, and taking the end of the watch for a success, are both far off.
    assert abs((times[events] > AT).mean() - truth) > 20 * error
    assert abs((times > AT).mean() - truth) > 20 * error


def test_the_band_covers_as_often_as_it_says():
    truth, runs, count = math.exp(-AT / 10), 2000, 150
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(runs):
        waits, watched = rng.exponential(10, count), rng.exponential(15, count)
        curve = kaplan_meier(np.minimum(waits, watched), waits <= watched)
        i = np.searchsorted(curve.times, AT, side="right") - 1
        covered += curve.low[i] <= truth <= curve.high[i]
    # Four standard errors of the count; the normal law is an approximation, and good to far less than that here.
    assert abs(covered / runs - 0.95) < 4 * math.sqrt(0.95 * 0.05 / runs)


# --- refusals and shapes ---------------------------------------------------------------------------

YES = np.array([True, True])


@pytest.mark.parametrize(
    ("times", "events", "said"),
    [
        (np.array([1.0, 2.0]), np.array([True]), r"one length.*got \[2\] and \[1\]"),
        (np.array([[1.0, 2.0]]), YES[None], r"got \[1, 2\]"),
        (np.array([]), np.array([], bool), "at least 1"),
        (np.array([1.0, 2.0]), np.array([1, 0]), "events as bool.*int64"),
        (np.array([1.0, 0.0]), YES, "above 0"),
        (np.array([1.0, -2.0]), YES, "above 0"),
        (np.array([1.0, np.nan]), YES, "finite"),
        (np.array([1.0, np.inf]), YES, "finite.*events False"),
        (np.array(["1", "2"]), YES, "times as numbers"),
        (np.array([1 + 1j, 2]), YES, "times as numbers"),
    ],
)
def test_bad_input_is_refused(times, events, said):
    with pytest.raises(ValueError, match=r"(?s)expected .*" + said):
        kaplan_meier(times, events)


@pytest.mark.parametrize("level", [0, 1, 95, math.nan])
def test_a_level_that_is_none_is_refused(level):
    with pytest.raises(ValueError, match="level"):
        kaplan_meier(np.array([1.0]), np.array([True]), level=level)


def test_a_higher_level_is_a_wider_band():
    times, events = drawn(2)
    narrow, wide = (kaplan_meier(times, events, level=level) for level in (0.5, 0.99))
    inside = (narrow.share > 0) & (narrow.share < 1)
    assert (wide.low[inside] < narrow.low[inside]).all() and (wide.high[inside] > narrow.high[inside]).all()


def test_a_curve_is_asked_at_any_time_and_refuses_others():
    curve = kaplan_meier(np.array([2, 4]), np.array([True, False]))
    assert isinstance(curve, Survival)
    assert curve.at([[0, 1.99], [2, 4]]).tolist() == [[1, 1], [1 / 2, 1 / 2]]
    for bad in (-1, math.nan):
        with pytest.raises(ValueError, match="expected times of 0 or more"):
            curve.at([bad])
    for bad in (1, -0.1):
        with pytest.raises(ValueError, match="waiting"):
            curve.quantile(bad)


def test_a_share_is_found_through_rounding_and_no_other():
    # One success after the other: the product of quotients misses 1/2 by its last digit, for 24 subjects from above.
    curve = kaplan_meier(np.arange(1, 25), np.ones(24, bool))
    assert curve.share[12] > 1 / 2
    assert curve.quantile() == 12
    many = kaplan_meier(np.arange(1, 1001), np.ones(1000, bool))
    assert [many.quantile(k / 1000) for k in range(1000)] == [1000 - k for k in range(1000)]
    assert many.quantile(0.4999) == 501
