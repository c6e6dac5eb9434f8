"""pocourse.lesson.comparisons: settings by parts; losses and statistics in words. Chapters test the running."""

import json
from functools import partial

import pytest

from pocourse.lesson import comparisons as c
from pocourse.lesson import paths

COMPARISONS = {"small": {"ci": {"steps": 10}, "cpu": {"steps": 20}}}


def plain(logp, logp_old, advantage): ...


def test_a_loss_in_words():
    assert c.in_words(plain) == "plain"
    assert c.in_words(partial(plain, 1, eps=0.2)) == "plain(1, eps=0.2)"
    assert c.in_words(partial(partial(plain, eps=0.2), delta=0.5)) == "plain(eps=0.2, delta=0.5)"


def test_later_settings_overrule_earlier_ones():
    found = c.settings("small", "cpu", "World", {"m": plain}, COMPARISONS, {"steps": 1, "lr": 1}, {"lr": 2})
    assert found == {"world": "World", "objectives": {"m": "plain"}, "steps": 20, "lr": 2}


@pytest.mark.parametrize(("name", "profile", "word"), [("large", "ci", "'large'"), ("small", "huge", "'huge'")])
def test_settings_refuse_names_that_do_not_exist(name, profile, word):
    with pytest.raises(ValueError, match=rf"expected .*got {word}"):
        c.settings(name, profile, "World", {}, COMPARISONS)


@pytest.mark.parametrize(
    ("iqm", "band", "expected"),
    [
        (3.14159, [3.0, 3.5], "3.14 (3.00 to 3.50)"),
        (123.4, [100.0, 140.6], "123 (100 to 141)"),
        (-30.2, [-31.0, None], "-30 (-31 to ∞)"),
        (None, [None, None], "none yet"),
    ],
)
def test_statistics_in_words(iqm, band, expected):
    assert c.said({"iqm": iqm, "band": band}) == expected


def test_lost_seeds_are_counted():
    summary = {"largest_ratio_deviation": {"iqm": 2.0, "band": [1.0, None]}, "diverged_at_update": {"3": 7, "5": 9}}
    assert c.largest_said(summary) == "2.00 (1.00 to ∞), 2 seeds diverged"


def test_a_damaged_record_is_said_and_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "recorded_runs", lambda chapter: tmp_path)
    assert c.backdrop("chapter", "small") is None
    assert c.measured("chapter", "small", "cpu") == "not measured yet | |"
    (tmp_path / "small-cpu.json").write_text(json.dumps({"methods": 1}))
    with pytest.warns(UserWarning, match="gone on without"):
        assert c.backdrop("chapter", "small") is None
