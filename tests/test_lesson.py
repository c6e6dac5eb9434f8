"""What makes it a course: bands, expectations, profiles, paths, figures, records, and watching a run."""

import csv
import importlib
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
import torch
from nbclient import NotebookClient
from scipy.stats import trim_mean

from pocourse import __version__, lesson
from pocourse.lesson import figures, live, paths, profiles, records
from pocourse.lesson.bands import bootstrap_band, interquartile_mean
from pocourse.lesson.live import follow, progress_line
from pocourse.lesson.records import CURVES, MAX_POINTS, Record, SavedRecord, load

ROOT = Path(__file__).parent.parent
LINE = {"color": "#0072b2", "linestyle": "-"}


def refused(*words):
    return pytest.raises(ValueError, match=r"(?s)expected .*got .*" + ".*".join(words))


# --- the package ---------------------------------------------------------------------------------------


def test_every_name_is_there_and_is_no_module():
    for name in lesson.__all__:
        assert callable(getattr(lesson, name)), name
        assert name in dir(lesson)
    with pytest.raises(AttributeError, match="nothing_such"):
        _ = lesson.nothing_such


@pytest.mark.parametrize("first", ["pocourse.lesson", "pocourse.lesson.expect", "pocourse.lesson.figures"])
def test_expect_is_the_function_whichever_module_is_imported_first(first):
    code = (
        f"import {first}; from pocourse.lesson import expect, band; expect('x', 1, 1, within=0); assert callable(band)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "x: 1 (exactly)\n"), done.stderr


# --- bands ---------------------------------------------------------------------------------------------


def test_the_interquartile_mean_by_hand():
    assert interquartile_mean([8, 1, 2, 3, 4, 5, 6, 700]) == (3 + 4 + 5 + 6) / 4
    assert interquartile_mean([0, 9, 1, 2, 3, 4, 5, 6, 7, 8]) == 4.5  # of ten, two fall away on either side
    assert interquartile_mean([1, 2, 6]) == 3
    assert interquartile_mean([1, 2, 3, 4, 5, 6, np.inf, np.inf]) == 4.5


@pytest.mark.parametrize("seeds", [1, 3, 4, 8, 9, 10, 11, 32])
def test_the_interquartile_mean_is_scipys(seeds):
    values = np.random.default_rng(seeds).normal(size=(5, seeds, 3))
    np.testing.assert_allclose(interquartile_mean(values, axis=1), trim_mean(values, 0.25, axis=1), rtol=1e-13)


def test_a_nan_among_the_seeds_shows():
    values = np.arange(16.0).reshape(8, 2)
    values[7, 0] = np.nan
    assert np.isnan(interquartile_mean(values)).tolist() == [True, False]
    low, high = bootstrap_band(values)
    assert np.isnan(low).tolist() == np.isnan(high).tolist() == [True, False]


def test_an_infinite_seed_takes_its_place_in_the_order():
    low, high = bootstrap_band([1, 2, 3, 4, 5, 6, 7, np.inf])
    assert 1 <= low < 4.5 and high > 4.5 and not np.isnan(high)


def test_the_band_brackets_the_mean_and_is_deterministic():
    values = np.random.default_rng(0).normal(size=(40, 10))
    low, high = bootstrap_band(values, axis=1)
    mean = interquartile_mean(values, axis=1)
    assert low.shape == high.shape == (40,)
    assert (low < mean).all() and (mean < high).all()
    again = bootstrap_band(values, axis=1)
    assert np.array_equal(low, again[0]) and np.array_equal(high, again[1])
    assert not np.array_equal(low, bootstrap_band(values, axis=1, seed=1)[0])
    narrow = bootstrap_band(values, axis=1, level=0.5)
    assert (low < narrow[0]).all() and (narrow[1] < high).all()
    assert all(end == 3 for end in bootstrap_band(np.full(8, 3.0)))


def test_the_band_is_wider_for_fewer_seeds():
    values = np.random.default_rng(1).normal(size=(200, 64))
    few, many = (np.subtract(*bootstrap_band(values[:, :n], axis=1, resamples=400)[::-1]).mean() for n in (8, 64))
    assert 2 < few / many < 4  # about sqrt(8) = 2.8


def test_the_band_has_the_width_that_theory_gives():
    """For many normal seeds the mean of the middle half is normal, with variance 1.195 / n."""
    values = np.random.default_rng(3).normal(size=(60, 400))
    for level, quantile in ((0.95, 1.960), (0.5, 0.674)):
        width = np.subtract(*bootstrap_band(values, axis=1, level=level, resamples=600)[::-1]).mean()
        assert width == pytest.approx(2 * quantile * math.sqrt(1.195 / 400), rel=0.06)


def test_the_band_covers_about_as_often_as_it_says():
    values = np.random.default_rng(2).normal(size=(600, 16))
    low, high = bootstrap_band(values, axis=1, resamples=500)
    coverage = ((low <= 0) & (high >= 0)).mean()
    assert 0.86 < coverage < 0.985  # a percentile interval of 16 seeds falls a little short of 95%


@pytest.mark.parametrize("options", [{"level": 0.0}, {"level": 1.0}, {"resamples": 0}])
def test_impossible_bands_are_refused(options):
    with refused():
        bootstrap_band([1.0, 2.0], **options)


@pytest.mark.parametrize("statistic", [interquartile_mean, bootstrap_band])
def test_an_empty_axis_is_refused(statistic):
    with refused("seeds"):
        statistic(np.empty((0, 3)))


# --- expect --------------------------------------------------------------------------------------------


def test_expect_prints_a_line_that_does_not_depend_on_the_machine(capsys):
    lesson.expect("the answer", 41.7, 42, within=0.5)
    lesson.expect("the answer", torch.tensor(42.4), 42, within=0.5)
    lesson.expect("two", 2, 2, within=0)
    assert capsys.readouterr().out == "the answer: 42 (to within 0.5)\n" * 2 + "two: 2 (exactly)\n"


@pytest.mark.parametrize("value", [42.6, 41.4, math.nan, math.inf])
def test_expect_raises_and_prints_nothing(value, capsys):
    with pytest.raises(AssertionError, match=r"the answer: expected 42 \(to within 0\.5\), got"):
        lesson.expect("the answer", value, 42, within=0.5)
    assert capsys.readouterr().out == ""


def test_expect_holds_a_value_inside_limits(capsys):
    lesson.expect("ratio", 0.15, at_most=0.2)
    lesson.expect("ratio", 0.25, at_least=0.2, at_most=0.3)
    assert capsys.readouterr().out == "ratio: at most 0.2\nratio: at least 0.2 and at most 0.3\n"
    for value in (0.19, 0.31, math.nan):
        with pytest.raises(AssertionError, match=r"ratio: expected at least 0\.2 and at most 0\.3, got"):
            lesson.expect("ratio", value, at_least=0.2, at_most=0.3)


@pytest.mark.parametrize(
    "held",
    [
        {"target": 1, "within": -1},
        {"target": 1, "within": math.inf},
        {"target": math.nan, "within": 1},
        {"target": 1},
        {"within": 1},
        {},
        {"target": 1, "within": 1, "at_most": 2},
        {"at_most": math.nan},
    ],
)
def test_expect_refuses_what_it_cannot_hold(held):
    with refused():
        lesson.expect("x", 1, **held)


# --- profiles and paths --------------------------------------------------------------------------------


def test_auto_takes_the_environment_and_a_name_does_not(monkeypatch):
    monkeypatch.setenv("POCOURSE_PROFILE", "ci")
    assert profiles.profile() == profiles.profile("auto") == "ci"
    assert profiles.profile("gpu") == "gpu" and profiles.profile("cpu") == "cpu"


@pytest.mark.parametrize("value", [None, "", "auto"])
def test_auto_takes_the_card_where_there_is_one(monkeypatch, value):
    monkeypatch.delenv("POCOURSE_PROFILE", raising=False)
    if value is not None:
        monkeypatch.setenv("POCOURSE_PROFILE", value)
    for there, name in ((True, "gpu"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert profiles.profile() == name


def test_unknown_profiles_are_refused(monkeypatch):
    with refused("'big'", "POCOURSE_PROFILE"):
        profiles.profile("big")
    monkeypatch.setenv("POCOURSE_PROFILE", "small")
    with refused("'small'", "POCOURSE_PROFILE"):
        profiles.profile()


def test_a_profile_without_its_device_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert profiles.device("cpu") == profiles.device("ci") == torch.device("cpu")
    with pytest.raises(ValueError, match=r"expected a CUDA device .*Take the profile cpu"):
        profiles.device("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert profiles.device("gpu").type == "cuda" and profiles.device("cpu").type == "cpu"


def test_threads_are_few_and_given_back():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(6)
        with pytest.raises(RuntimeError), profiles.threads():
            assert torch.get_num_threads() == 4
            raise RuntimeError
        assert torch.get_num_threads() == 6
        torch.set_num_threads(1)
        with profiles.threads():
            assert torch.get_num_threads() == 1  # OMP_NUM_THREADS=1 means one
    finally:
        torch.set_num_threads(before)


def test_paths_of_a_checkout():
    assert paths.checkout() == ROOT
    assert paths.shipped() == ROOT / "data"
    assert paths.recorded_runs("x") == ROOT / "data" / "runs" / "x"


def test_paths_of_an_installed_package(monkeypatch, tmp_path):
    package = tmp_path / "site-packages" / "pocourse"
    package.mkdir(parents=True)
    monkeypatch.setattr(paths, "_package", package)
    assert paths.checkout() is None
    assert paths.recorded_runs("x") == package / "_data" / "runs" / "x"
    (package.parent / "pyproject.toml").touch()  # of another project that lies around the package
    assert paths.checkout() is None


def test_the_readers_folder_can_be_moved(monkeypatch, tmp_path):
    monkeypatch.setenv("POCOURSE_HOME", str(tmp_path))
    assert paths.reader_runs("x") == tmp_path / "runs" / "x"
    monkeypatch.delenv("POCOURSE_HOME")
    assert paths.reader().name == "pocourse" and paths.reader().is_absolute()
    assert ROOT not in paths.reader().parents


# --- figures -------------------------------------------------------------------------------------------

ALT = "A figure with one line that rises from left to right."


def a_figure():
    with figures.style():
        figure, axes = figures.panels(2)
        mean = figures.band(axes[0, 0], np.arange(5), np.random.default_rng(0).normal(size=(5, 8)), line=LINE)
        axes[0, 1].plot([0, 1], [0, 1])
    return figure, axes, mean


def test_a_band_draws_what_it_returns():
    values = np.random.default_rng(0).normal(size=(5, 8))
    figure, axes, mean = a_figure()
    np.testing.assert_array_equal(mean, interquartile_mean(values, axis=1))
    np.testing.assert_array_equal(axes[0, 0].lines[0].get_ydata(), mean)
    low, high = bootstrap_band(values, axis=1, resamples=1000)
    drawn = axes[0, 0].collections[0].get_paths()[0].vertices[:, 1]
    assert (drawn.min(), drawn.max()) == (low.min(), high.max())
    assert figure.get_size_inches()[0] == figures.WIDTH
    backdrop = figures.panels(1)[1][0, 0]
    figures.band(backdrop, np.arange(5), values, line=LINE, faint=True)
    assert len(backdrop.lines) == 0 and len(backdrop.collections) == 1


@pytest.mark.parametrize("shape", [(5, 7), (5,), (4, 8), (5, 8, 1)])
def test_a_band_of_too_few_seeds_is_refused(shape):
    with refused("seeds"):
        figures.band(figures.panels(1)[1][0, 0], np.arange(5), np.zeros(shape), line=LINE)


ENDS = {
    "apart already": [0.1, 0.5, 0.9],
    "all in one place": [0.5] * 5,
    "all at the top": [1.0] * 4,
    "below the axes": [-3.0, -2.0, 0.01],
    "a cluster and one beside it": [0.5, 0.5, 0.51, 0.57, 0.9],
    "a cluster that reaches another line": [0.30, 0.45, 0.46, 0.47, 0.48],
    "twelve": list(np.linspace(0.3, 0.4, 12)),
    "random": list(np.random.default_rng(0).uniform(size=7)),
}


@pytest.mark.parametrize("heights", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("log", [False, True])
def test_labels_do_not_overlap_stay_inside_and_keep_their_order(heights, log):
    axes = figures.panels(1)[1][0, 0]
    axes.set_ylim(0, 1)
    if log:
        axes.set_yscale("log")
        axes.set_ylim(1, 10)
    ends = [(10**y if log else y, str(k), "#000000") for k, y in enumerate(heights)]
    figures.label_lines(axes, ends, gap=0.075)
    places = {text.get_text(): text.get_position()[1] for text in axes.texts}
    found = np.array([places[str(k)] for k in range(len(heights))])
    assert (np.diff(np.sort(found)) >= 0.075 - 1e-9).all()
    assert found.min() >= 0.02 - 1e-9 and found.max() <= 0.98 + 1e-9
    order = np.argsort(np.clip(heights, 0.02, 0.98), kind="stable")
    assert (np.diff(found[order]) > 0).all()
    if heights is ENDS["apart already"]:
        np.testing.assert_allclose(found, heights, atol=1e-9)
    if heights is ENDS["all in one place"]:
        assert found.mean() == pytest.approx(0.5)
    if heights is ENDS["a cluster that reaches another line"]:
        assert found.mean() == pytest.approx(np.mean(heights))  # nobody is moved further than is needed


def test_labels_of_two_lines_take_twice_the_room():
    axes = figures.panels(1)[1][0, 0]
    figures.label_lines(axes, [(0.5, "one\ntwo", "k"), (0.5, "three", "k")], gap=0.1)
    assert axes.texts[1].get_position()[1] - axes.texts[0].get_position()[1] == pytest.approx(0.15)


def test_too_many_labels_are_spread_evenly():
    axes = figures.panels(1)[1][0, 0]
    figures.label_lines(axes, [(0.5, str(k), "k") for k in range(33)])
    assert [t.get_position()[1] for t in axes.texts] == pytest.approx(list(np.linspace(0.02, 0.98, 33)))


def test_no_label_and_a_label_nowhere():
    axes = figures.panels(1)[1][0, 0]
    figures.label_lines(axes, [])
    assert len(axes.texts) == 0
    with refused("without an end"):
        figures.label_lines(axes, [(math.nan, "x", "k")])


def test_a_limit_line_says_what_it_is():
    axes = figures.panels(1)[1][0, 0]
    figures.limit_line(axes, 0.2, "eps")
    assert list(axes.lines[0].get_ydata()) == [0.2, 0.2] and axes.texts[0].get_text() == "eps"


def test_a_png_is_the_same_for_the_same_figure_and_without_pyplot():
    one, two = (figures.png(a_figure()[0]) for _ in range(2))
    assert one == two and one.startswith(b"\x89PNG")
    assert figures.png(a_figure()[0]) == one
    assert b"Software" not in one and plt.get_fignums() == []
    assert plt.rcParams["figure.facecolor"] != figures.CARD  # the style does not leak


def test_a_figure_stands_on_an_opaque_light_card():
    import io

    pixels = plt.imread(io.BytesIO(figures.png(a_figure()[0])))
    assert (pixels[..., 3:] == 1).all() and (pixels[0, 0, :3] > 0.95).all()


def test_lines_are_told_apart_by_colour_and_by_dash():
    assert len({line["color"] for line in figures.LINES}) == len(figures.LINES)
    assert len({str(line["linestyle"]) for line in figures.LINES}) == len(figures.LINES)


def test_show_stores_the_alternative_text(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda *args, **options: shown.append((args, options)))
    figures.show(a_figure()[0], alt=ALT)
    ((data,), options) = shown[0]
    assert options == {"metadata": {"image/png": {"alt": ALT}}, "raw": True}
    assert data["text/plain"] == ALT and set(data) == {"image/png", "text/plain"}


@pytest.mark.parametrize("alt", ["", "A figure.", None])
def test_a_figure_without_a_description_is_refused(alt):
    with refused("alt|describe|look"):
        figures.show(a_figure()[0], alt=alt)


# --- records -------------------------------------------------------------------------------------------


def make_record(*, num_updates=4, methods=("a", "b"), seeds=range(8), window=2, **options):
    return Record(
        "chapter",
        "name",
        profile="ci",
        methods=methods,
        seeds=seeds,
        steps_per_update=100,
        num_updates=num_updates,
        configuration={"lr": 0.1, "hidden": (64, 64)},
        made_by="tests",
        return_window=window,
        **options,
    )


def metrics(update, *, methods=2, seeds=8, episodes=2, **changes):
    """Return 10 (update + 1) + 100 method + seed at every seed, the rest in proportion to the update."""
    base = 100.0 * torch.arange(methods).unsqueeze(1) + torch.arange(seeds) + 10 * (update + 1)
    count = torch.full((methods, seeds), episodes)
    tenth = torch.full((methods, seeds), (update + 1) / 10)
    found = {
        "ratio_deviation": tenth + torch.arange(seeds) / 1000,
        "kl": tenth / 2,
        "entropy": tenth / 4,
        "value_loss": tenth * 2,
        "return_sum": base * count,
        "episodes": count,
        "alive": torch.ones(methods, seeds, dtype=torch.bool),
    }
    return found | changes


def filled(updates=4, **options):
    record = make_record(**options)
    for update in range(updates):
        record.add(metrics(update))
    return record


def test_curves_by_hand():
    record = filled()
    curves = record.curves()
    assert set(curves) == set(CURVES)
    assert record.steps.tolist() == [100, 200, 300, 400]
    # A window of two updates: 10, then the means of (10, 20), (20, 30), (30, 40).
    assert curves["return"][:, 0, 0].tolist() == [10, 15, 25, 35]
    assert curves["return"][:, 1, 3].tolist() == [113, 118, 128, 138]
    np.testing.assert_allclose(curves["kl"][:, 1, 7], [0.05, 0.1, 0.15, 0.2], rtol=1e-6)
    np.testing.assert_allclose(curves["largest_deviation"], curves["ratio_deviation"])


def test_the_return_is_weighted_by_episodes_and_carried_forward():
    record = make_record(num_updates=7, methods=("a",), seeds=range(8))
    sums = [0, 6, 20, 0, 0, 0, 7]
    counts = [0, 2, 2, 0, 0, 0, 1]
    for update, (total, count) in enumerate(zip(sums, counts, strict=True)):
        kind = {"methods": 1, "episodes": count, "return_sum": torch.full((1, 8), float(total))}
        record.add(metrics(update, **kind))
    # Nothing yet; 6/2; (6 + 20)/4; 20/2; two updates without an episode: the last mean stands; 7/1.
    expected = [math.nan, 3, 6.5, 10, 10, 10, 7]
    np.testing.assert_array_equal(record.curves()["return"][:, 0, 0], expected)


@pytest.mark.parametrize(
    ("num_updates", "done"), [(1, 1), (128, 128), (129, 129), (256, 256), (300, 300), (300, 151), (1000, 3), (300, 1)]
)
def test_curves_are_thinned_and_end_where_the_run_ended(num_updates, done):
    record = make_record(num_updates=num_updates, methods=("a",))
    for update in range(done):
        record.add(metrics(update, methods=1))
    points = record.steps // 100 - 1
    stride = math.ceil(num_updates / MAX_POINTS)
    assert len(points) <= MAX_POINTS
    assert points[-1] == done - 1 and len(set(points)) == len(points)
    assert all((p + 1) % stride == 0 for p in points[:-1]) and len(points) == math.ceil(done / stride)
    np.testing.assert_allclose(record.curves()["kl"][:, 0, 0], (points + 1) / 20, rtol=1e-6)


def test_the_summary_by_hand():
    summary = filled().summary()
    assert list(summary) == ["a", "b"]
    final = summary["b"]["final_return"]
    assert final["seeds"] == [135.0 + k for k in range(8)] and final["iqm"] == 138.5
    assert 135 <= final["band"][0] < 138.5 < final["band"][1] <= 142
    largest = summary["a"]["largest_ratio_deviation"]
    assert largest["seeds"] == pytest.approx([0.4 + k / 1000 for k in range(8)])
    assert largest["iqm"] == pytest.approx(0.4035) and summary["a"]["diverged_at_update"] == {}


def test_the_largest_deviation_is_that_of_the_whole_run_and_not_of_the_points_drawn():
    record = make_record(num_updates=256)
    for update in range(256):
        peak = torch.full((2, 8), 9.0 if update == 100 else 0.1)  # even updates fall between the points
        record.add(metrics(update, ratio_deviation=peak))
    assert record.curves()["ratio_deviation"].max() == pytest.approx(0.1)
    so_far = record.curves()["largest_deviation"][:, 0, 0]
    assert so_far.tolist() == pytest.approx([0.1] * 50 + [9.0] * 78)
    assert (record.largest_deviation() == 9).all()


def test_a_seed_that_diverged_counts_as_infinitely_far_and_is_named(tmp_path):
    record = make_record()
    for update in range(4):
        alive, deviation = torch.ones(2, 8, dtype=torch.bool), torch.full((2, 8), 0.3)
        if update >= 2:
            alive[1, 5], deviation[1, 5] = False, math.nan
        record.add(metrics(update, alive=alive, ratio_deviation=deviation))
    assert record.curves()["ratio_deviation"][:, 1, 5].tolist()[2:] == [math.inf, math.inf]
    summary = record.summary()
    assert summary["a"]["diverged_at_update"] == {} and summary["b"]["diverged_at_update"] == {"5": 3}
    largest = summary["b"]["largest_ratio_deviation"]
    assert largest["seeds"][5] is None and largest["iqm"] == pytest.approx(0.3)
    text = record.save(tmp_path).read_text()
    assert "NaN" not in text and "Infinity" not in text
    assert np.isinf(load(tmp_path, "name", "ci").curves()["ratio_deviation"][-1, 1, 5])


def test_the_json_has_all_that_is_needed_to_judge_a_run(tmp_path):
    record = filled()
    record.end("finished")
    found = json.loads(record.save(tmp_path).read_text())
    assert found["configuration"] == {"lr": 0.1, "hidden": [64, 64]}
    assert found["versions"].keys() == {"pocourse", "python", "torch", "numpy"}
    assert found["versions"]["pocourse"] == __version__ and found["versions"]["torch"] == torch.__version__
    assert found["hardware"]["device"] == "cpu" and found["hardware"]["threads"] == torch.get_num_threads()
    assert found["hardware"]["cpu"] and found["hardware"]["cores"] >= 1
    assert found["wall_time_s"] >= 0 and found["peak_memory_mb"] > 10
    assert found["made_by"] == "tests" and found["seed"] == list(range(8)) and found["methods"] == ["a", "b"]
    assert found["status"] == "finished" and found["updates"] == found["num_updates"] == 4
    assert found["summary"]["a"].keys() == {"final_return", "largest_ratio_deviation", "diverged_at_update"}


def test_the_record_says_how_many_threads_it_was_made_with():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        record = filled()
    finally:
        torch.set_num_threads(before)
    assert record.to_json()["hardware"]["threads"] == 3


def test_a_record_comes_back_as_it_was_saved(tmp_path):
    record = make_record(methods=("ours, ε = 0.2", 'the "other"'))
    for update in range(3):
        record.add(metrics(update, episodes=0 if update == 0 else 2))
    record.save(tmp_path)
    saved = load(tmp_path, "name", "ci")
    assert saved.methods == record.methods and saved.seeds == record.seeds
    assert saved.steps.tolist() == record.steps.tolist()
    for key, values in record.curves().items():
        np.testing.assert_allclose(saved.curves()[key], values, rtol=1e-4)
    assert np.isnan(saved.curves()["return"][0]).all()
    assert saved.summary() == json.loads(json.dumps(record.summary()))
    rows = list(csv.reader((tmp_path / "name-ci.csv").open(encoding="utf-8")))
    assert rows[0] == ["method", "seed", "steps", *CURVES] and len(rows) == 1 + 2 * 8 * 3


def test_the_curves_of_a_probe_are_kept_beside_the_others(tmp_path):
    record = make_record(probed=("variance",))
    for update in range(4):
        record.add(metrics(update) | {"variance": torch.full((2, 8), float("nan") if update == 0 else update / 4)})
    assert record.curves()["variance"][1:, 1, 3].tolist() == [0.25, 0.5, 0.75]
    record.save(tmp_path)
    saved = load(tmp_path, "name", "ci")
    np.testing.assert_array_equal(saved.curves()["variance"], record.curves()["variance"])
    assert set(saved.curves()) == {*CURVES, "variance"}
    assert make_record(probed=("variance",)).curves()["variance"].shape == (0, 2, 8)


def test_a_record_from_before_probes_can_be_read(tmp_path):
    path = filled().save(tmp_path)
    known = json.loads(path.read_text())
    del known["probed"]
    path.write_text(json.dumps(known))
    assert set(load(tmp_path, "name", "ci").curves()) == set(CURVES)


@pytest.mark.parametrize("name", ["kl", "return", "alive", "steps"])
def test_a_probe_may_not_take_a_name(name):
    with pytest.raises(ValueError, match=rf"expected new names .*got {name}.*Rename"):
        make_record(probed=("variance", name))


def test_a_run_without_an_update_says_so_and_leaves_what_was_there(tmp_path):
    record = make_record()
    assert record.updates == 0 and len(record.steps) == 0 and record.summary() == {}
    assert all(curve.shape == (0, 2, 8) for curve in record.curves().values())
    assert record.to_json()["summary"] == {}
    record.save(tmp_path)
    assert list(tmp_path.iterdir()) == []
    filled().save(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    record.save(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize("broken", [".json", ".csv"])
def test_a_crash_while_writing_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch, error, broken):
    filled(updates=2).save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write = Path.write_text

    def half(self, text, **options):
        if broken not in self.name:
            return write(self, text, **options)
        write(self, text[: len(text) // 2], **options)
        raise error

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(error):
        filled(updates=4).save(tmp_path)
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert after.keys() == before.keys()
    assert after[f"name-ci{broken}"] == before[f"name-ci{broken}"]


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path, monkeypatch):
    filled(updates=2).save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def refuse(*paths):
        raise PermissionError

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(PermissionError):
        filled(updates=4).save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_interrupt_never_leaves_half_an_update():
    """Whatever the metrics are, they come in at once: what was added last can be read."""

    class Late(dict):
        def items(self):
            raise KeyboardInterrupt

    record = filled(updates=2)
    with pytest.raises(KeyboardInterrupt):
        for update in (metrics(2), None):
            if update is None:
                raise KeyboardInterrupt
            record.add(Late(update))
    assert record.updates == len(record.curves()["return"]) == 3


def test_no_record_is_none_and_a_missing_one_is_said_to_be_missing(tmp_path):
    assert load(tmp_path, "name", "ci") is None
    with pytest.raises(FileNotFoundError, match=r"expected a recorded run at .*pocourse run"):
        SavedRecord(tmp_path / "name-ci.json")


def _without_the_csv(folder):
    (folder / "name-ci.csv").unlink()


def _edit(name, change):
    def damage(folder):
        path = folder / name
        path.write_text(change(path.read_text()))

    return damage


DAMAGE = {
    "no csv": _without_the_csv,
    "half a json": _edit("name-ci.json", lambda text: text[:100]),
    "a json list": _edit("name-ci.json", lambda text: "[]"),
    "no methods": _edit("name-ci.json", lambda text: text.replace('"methods"', '"other"')),
    "half a csv": _edit("name-ci.csv", lambda text: text[: len(text) // 2]),
    "an empty csv": _edit("name-ci.csv", lambda text: text.splitlines()[0] + "\n"),
    "a word in the csv": _edit("name-ci.csv", lambda text: text.replace("100", "many", 1)),
    "a lost column": _edit("name-ci.csv", lambda text: text.replace("kl", "cl", 1)),
    "lost rows": _edit("name-ci.csv", lambda text: "\n".join(text.splitlines()[:-16]) + "\n"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_record_is_refused(tmp_path, damage):
    filled().save(tmp_path)
    damage(tmp_path)
    with refused("Delete both files"):
        load(tmp_path, "name", "ci")


# --- watching a run ------------------------------------------------------------------------------------


def stream_of(updates, *, then=None):
    for update in range(updates):
        yield metrics(update)
    if then is not None:
        raise then


def test_a_whole_run_is_followed_and_saved(tmp_path, capsys):
    record = follow(stream_of(4), make_record(), tmp_path)
    assert record.status == "finished" and record.updates == 4
    assert load(tmp_path, "name", "ci").json["status"] == "finished"
    out, err = capsys.readouterr()
    assert out == "" and "finished: update 4 of 4, 6,400 steps" in err


def test_an_interrupted_run_keeps_what_was_finished(tmp_path, capsys):
    record = follow(stream_of(3, then=KeyboardInterrupt()), make_record(num_updates=10), tmp_path)
    assert record.status == "interrupted" and record.updates == 3
    saved = load(tmp_path, "name", "ci")
    assert saved.json["status"] == "interrupted" and saved.json["updates"] == 3 and saved.steps[-1] == 300
    assert "interrupted: update 3 of 10" in capsys.readouterr().err


def test_a_failing_run_is_saved_and_fails(tmp_path):
    record = make_record()
    with pytest.raises(ZeroDivisionError):
        follow(stream_of(3, then=ZeroDivisionError()), record, tmp_path, quiet=True)
    assert record.status == load(tmp_path, "name", "ci").json["status"] == "failed"


def test_an_interrupt_before_the_first_update(tmp_path, capsys):
    record = follow(stream_of(0, then=KeyboardInterrupt()), make_record(), tmp_path)
    assert record.status == "interrupted" and record.updates == 0
    assert "update 0 of 4" in capsys.readouterr().err


def test_a_long_run_is_saved_now_and_then(tmp_path, monkeypatch):
    monkeypatch.setattr(live, "SAVE_EVERY_S", 0.0)
    seen = []

    def stream():
        for update in range(4):
            yield metrics(update)
            seen.append(load(tmp_path, "name", "ci").json)

    follow(stream(), make_record(), tmp_path, quiet=True)
    assert [(s["status"], s["updates"]) for s in seen] == [("running", k) for k in (1, 2, 3, 4)]
    monkeypatch.setattr(live, "SAVE_EVERY_S", 1e9)
    writes = []
    monkeypatch.setattr(Record, "save", lambda self, folder: writes.append(self.updates))
    follow(stream_of(4), make_record(), tmp_path, quiet=True)
    assert writes == [4]


def test_the_clock_stops_with_the_run(tmp_path):
    record = follow(stream_of(2), make_record(), tmp_path, quiet=True)
    stopped = record.wall_time_s
    time.sleep(0.02)
    assert record.to_json()["wall_time_s"] == round(stopped, 1) and record.wall_time_s == stopped > 0


def test_the_progress_line():
    record = filled(updates=2)
    record.wall_time_s = 2.0
    assert progress_line(record) == "update 2 of 4, 3,200 steps, 1,600 a second, about 2 s left"
    record.status = "finished"
    assert progress_line(record) == "finished: update 2 of 4, 3,200 steps in 2 s, 1,600 a second"
    assert "update 0 of 4" in progress_line(make_record())


CELL = """
import sys, time
from pathlib import Path
import numpy as np
sys.path.insert(0, {tests!r})
from test_lesson import ALT, make_record, metrics
from pocourse.lesson import figures
from pocourse.lesson.live import follow
drawn = []
def draw(record):
    drawn.append(record.updates)
    with figures.style():
        figure, axes = figures.panels(1)
        axes[0, 0].plot(record.steps, record.curves()["kl"][:, 0, 0])
    return figure, f"{{ALT}} It has {{record.updates}} points."
def stream():
    for update in range(6):
        yield metrics(update)
        time.sleep(0.15)
        if update == {stop}: raise KeyboardInterrupt
record = follow(stream(), make_record(num_updates=6), Path({folder!r}), draw=draw)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("stop", "status", "updates"), [(99, "finished", 6), (2, "interrupted", 3)])
def test_a_notebook_shows_one_progress_and_one_figure_and_updates_both(tmp_path, stop, status, updates):
    code = CELL.format(tests=str(Path(__file__).parent), folder=str(tmp_path), stop=stop)
    cells = [nbformat.v4.new_code_cell(code), nbformat.v4.new_code_cell("print(record.status, drawn)")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    messages = []

    class Client(NotebookClient):
        def process_message(self, msg, cell, cell_index):
            messages.append((msg["msg_type"], msg["content"]))
            return super().process_message(msg, cell, cell_index)

    Client(notebook, timeout=60, resources={"metadata": {"path": str(ROOT)}}).execute()
    outputs = notebook.cells[0].outputs
    assert [o.output_type for o in outputs] == ["display_data", "display_data"]
    progress, figure = outputs
    assert f"{status}: update {updates} of 6" in progress.data["text/plain"]
    assert f'value="{updates / 6:.3f}"' in progress.data["text/html"]
    assert figure.metadata["image/png"]["alt"] == f"{ALT} It has {updates} points."
    assert figure.data["text/plain"] == figure.metadata["image/png"]["alt"]
    # Drawn when there was something to see, and at the end; the rest of the time went into training.
    assert notebook.cells[1].outputs[0].text == f"{status} [2, {updates}]\n"
    kinds = [kind for kind, _ in messages]
    assert kinds.count("display_data") == 2 and kinds.count("update_display_data") >= 2
    assert load(tmp_path, "name", "ci").json["status"] == status


def test_outside_a_kernel_the_screen_is_a_terminal():
    assert isinstance(live._screen(None, False), live._Terminal)
    assert isinstance(live._screen(None, True), live._Silent)


def test_modules_of_the_lesson_can_be_imported_one_by_one():
    for name in ("bands", "claims", "expect", "figures", "live", "paths", "profiles", "records"):
        assert importlib.import_module(f"pocourse.lesson.{name}").__doc__
    assert records.MAX_POINTS >= 100 and os.environ["POCOURSE_HOME"]
