"""pocourse.lesson.records: what a search for a minimum leaves behind."""

import json

import numpy as np
import pytest
import torch

from pocourse.lesson import live
from pocourse.lesson.records import MAX_POINTS, PreferenceRecord, SearchRecord, load


def make(updates=4, num_updates=4, measured=("value",), **values):
    record = SearchRecord(
        "chapter",
        "name",
        profile="ci",
        methods=["a", "b"],
        seeds=range(8),
        steps_per_update=50,
        num_updates=num_updates,
        configuration={"dim": 3},
        made_by="tests",
        measured=measured,
    )
    for update in range(updates):
        value = 100.0 / (update + 1) + 10 * torch.arange(2.0)[:, None] + torch.arange(8.0)
        record.add({"value": value, "best": value - 1, "alive": torch.ones(2, 8, dtype=torch.bool), **values})
    return record


def test_the_curves_are_those_that_were_asked_for():
    record = make(measured=("value", "best"))
    curves = record.curves()
    assert set(curves) == {"value", "best"} and curves["value"].shape == (4, 2, 8)
    assert list(record.steps) == [50, 100, 150, 200]
    assert curves["value"][-1, 1, 3] == 25 + 10 + 3 and curves["best"][-1, 1, 3] == 37
    assert set(make().curves()) == {"value"}


def test_the_summary_is_about_the_end():
    summary = make(measured=("value", "best")).summary()
    assert summary["a"]["final_value"]["iqm"] == pytest.approx(25 + 3.5)
    assert summary["b"]["final_best"]["seeds"] == [34.0 + s for s in range(8)]
    low, high = summary["a"]["final_value"]["band"]
    assert 25 <= low < 28.5 < high <= 32


def test_a_seed_that_has_run_away_is_infinite_and_not_a_number_in_the_summary():
    value = torch.full((2, 8), 5.0)
    value[1, 2] = torch.nan
    value[1, 5] = torch.inf
    record = make(value=value)
    assert np.isinf(record.curves()["value"][:, 1, [2, 5]]).all()
    assert record.summary()["b"]["final_value"]["seeds"][2] is None
    json.dumps(record.to_json(), allow_nan=False)


def test_it_can_be_saved_and_read_back(tmp_path):
    record = make(measured=("value", "best"))
    record.end("finished")
    path = record.save(tmp_path)
    saved = load(tmp_path, "name", "ci")
    assert saved.json["curves"] == ["value", "best"] and "probed" not in saved.json
    for key, curve in record.curves().items():
        np.testing.assert_allclose(saved.curves()[key], curve, rtol=1e-4)
    assert list(saved.steps) == list(record.steps) and saved.summary() == record.summary()
    assert path.with_suffix(".csv").read_text().splitlines()[0] == "method,seed,steps,value,best"


def test_a_long_run_keeps_few_points_and_its_end():
    record = make(updates=300, num_updates=300)
    assert len(record.steps) <= MAX_POINTS + 1 and record.steps[-1] == 300 * 50


def test_without_an_update_there_is_nothing():
    record = make(updates=0)
    assert record.summary() == {} and record.curves()["value"].shape == (0, 2, 8) and len(record.steps) == 0


def test_its_progress_speaks_of_queries():
    assert "update 4 of 4, 3,200 queries" in live.progress_line(make())


# --- training on preferences ------------------------------------------------------------------------


def preference_record():
    record = PreferenceRecord(
        "chapter",
        "name",
        profile="ci",
        methods=["a"],
        seeds=[0],
        steps_per_update=5,
        num_updates=1,
        configuration={},
        made_by="tests",
        measured=("reward",),
    )
    record.add({"reward": torch.ones(1, 1), "alive": torch.ones(1, 1, dtype=torch.bool)})
    return record


def test_pictures_are_kept_with_the_record(tmp_path):
    record = preference_record()
    grey, coloured = torch.rand(2, 8, 8), torch.tensor([[[[0.0, 0.5, 1.0], [-1.0, 2.0, 0.2]]]])
    record.show({"before": torch.zeros(2, 8, 8), "after": coloured})
    record.show({"before": grey})
    record.end("finished")
    saved = load(record.save(tmp_path).parent, "name", "ci")
    for found in (record.pictures(), saved.pictures()):
        assert found["after"].tolist() == [[[[0, 128, 255], [0, 255, 51]]]]
        np.testing.assert_allclose(found["before"] / 255, grey, atol=0.5 / 255 + 1e-6)
    assert live.progress_line(record).startswith("finished: update 1 of 1, 5 steps")


def test_records_without_pictures_have_none(tmp_path):
    record = make()
    record.end("finished")
    record.save(tmp_path)
    assert load(tmp_path, "name", "ci").pictures() == {}
    assert preference_record().pictures() == {}
