"""Chapter 4: what its last cells run, what is measured of it, and what is shown."""

import json
import math

import numpy as np
import pytest
import torch
from helpers import NoHostSync

from pocourse import _check
from pocourse.engine import SeedStreams, black_box
from pocourse.lesson import live, paths
from pocourse.lesson.records import SearchRecord, load
from pocourse.worlds.landscapes import quadratic
from pocourse.zeroth_order import figures, training

PROFILES = ("ci", "cpu", "gpu")
LANDSCAPES = [name for name in training.COMPARISONS if name != "attack"]


def refused(*words):
    return pytest.raises(ValueError, match="(?s)" + ".*".join(["expected", *words]))


@pytest.fixture
def tiny(monkeypatch):
    """Every profile in miniature; the step sizes are those of the shipped grids."""
    for profile in PROFILES:
        monkeypatch.setitem(training.SIZES, profile, {"seeds": 8, "dim": 6, "sigma": 0.5, "iterations": 8})
        monkeypatch.setitem(training.ATTACK_SIZES, profile, {"seeds": 8, "images": 3, "iterations": 8})


# --- settings ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", training.COMPARISONS)
def test_every_configuration_is_fair_and_can_be_written_down(name, profile):
    c = json.loads(json.dumps(training.configuration(name, profile)))
    assert c["seeds"] >= 8 and list(c["objectives"]) == list(training.variants(name, profile))
    methods = training.methods_of(training.variants(name, profile), c, torch.device("cpu"))
    for label, method in methods.items():
        at_centre = label.removesuffix(training.TUNED) in training.ASK_THE_CENTRE
        # The look at theta is a query too; vanilla's baseline is that look, and it asks for it itself.
        paid = method.estimator.num_queries + c["looks"] * (not at_centre)
        assert paid == c["num_queries"] + c["looks"]


def test_the_settings_are_the_papers_where_they_claim_to_be():
    gpu = training.configuration("levy", "gpu")
    assert (gpu["dim"], gpu["sigma"], gpu["num_queries"], gpu["history"]) == (10_000, 0.05, 10, 6)
    assert gpu["seeds"] == 8 and gpu["iterations"] >= 20_000
    assert {training.variants("levy", "gpu")[m].step for m in training.METHODS} == {1e-3}
    attack = training.configuration("attack", "cpu")
    assert (attack["sigma"], attack["num_queries"], attack["history"]) == (0.5, 2, 6) and attack["images"] >= 32
    assert {training.variants("attack", "cpu")[m].step for m in training.METHODS} == {1e-2}


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_keeps_sigma_squared_times_d(profile):
    size = training.SIZES[profile]
    assert size["sigma"] ** 2 * size["dim"] == pytest.approx(25, rel=0.002)


def test_the_longer_step_is_what_a_mean_over_the_memory_would_make_of_adams():
    chosen = training.variants("quadratic", "cpu")
    assert (
        chosen[training.LONGER].step == pytest.approx(1e-3 * math.sqrt(6)) and chosen[training.LONGER].method == "RLOO"
    )
    assert chosen["RLOO with history"].step == 1e-3


def test_names_that_do_not_exist_are_refused():
    with refused("a comparison", "'sphere'"):
        training.configuration("sphere", "ci")
    with refused("profile", "'big'"):
        training.train("quadratic", profile="big")


# --- step sizes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", training.COMPARISONS)
def test_the_own_step_is_the_best_of_the_recorded_grid_and_not_at_its_edge(name):
    grid, steps = training.recorded(f"{name}-grid"), training.chosen_steps(name)
    assert not set(grid.seeds) & set(training.recorded(name).seeds)
    for method in training.METHODS:
        tried = {float(label.split(" at ")[1]): label for label in grid.methods if label.startswith(f"{method} at ")}
        scores = {step: training.score(grid, label) for step, label in tried.items()}
        assert scores[steps[method]] == min(scores.values())
        assert min(tried) < steps[method] < max(tried)


def test_without_a_grid_nobody_invents_a_step(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "recorded_runs", lambda chapter: tmp_path)
    with refused("a recorded grid", "got none", "pocourse run 04"):
        training.chosen_steps("quadratic")


def test_the_shipped_runs_have_the_steps_of_the_shipped_grids():
    for name in training.COMPARISONS:
        saved = training.recorded(name)
        now = json.loads(json.dumps(training.configuration(name, "cpu")))
        assert saved.json["configuration"] == now


# --- running -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", ["ci", "gpu"])
@pytest.mark.parametrize("name", [*training.COMPARISONS, "quadratic-grid", "attack-grid"])
def test_a_run_leaves_a_record(tiny, tmp_path, monkeypatch, name, profile):
    monkeypatch.setattr("pocourse.lesson.profiles.device", lambda name: torch.device("cpu"))
    record = training.train(name, profile=profile, folder=tmp_path, quiet=True)
    assert record.status == "finished"
    saved = load(tmp_path, name, profile)
    key = "unbroken" if name.startswith("attack") else "value"
    assert saved.methods == list(training.variants(name, profile))
    assert saved.curves()[key].shape == (8, len(saved.methods), 8) and np.isfinite(saved.curves()[key]).all()
    assert list(saved.steps) == [t * (3 if name.startswith("attack") else 10) for t in range(1, 9)]
    assert saved.summary() == record.summary()
    lines = [[line.split("|")[1] for line in training.table(x).splitlines()] for x in (saved, record)]
    assert lines[0] == lines[1] and len(lines[0]) >= 7


def test_a_run_is_reproducible_and_a_seed_does_not_know_its_neighbours(tiny, tmp_path, monkeypatch):
    chosen = {"ZoAR": training.Variant("ZoAR", 0.01), "vanilla": training.Variant("vanilla", 0.01)}
    one = training.train("rosenbrock", chosen, profile="ci", folder=tmp_path, quiet=True).curves()["value"]
    two = training.train("rosenbrock", chosen, profile="ci", folder=tmp_path, quiet=True).curves()["value"]
    assert np.array_equal(one, two)
    alone = training.train("rosenbrock", {"a": chosen["ZoAR"]}, profile="ci", folder=tmp_path, quiet=True)
    np.testing.assert_allclose(alone.curves()["value"][:, 0], one[:, 0], rtol=1e-5)


def test_an_interrupted_run_is_saved_and_can_be_drawn(tiny, tmp_path, monkeypatch):
    class Stop:
        def update(self, record):
            raise KeyboardInterrupt

        def close(self, record): ...

    monkeypatch.setattr(live, "_screen", lambda draw, quiet: Stop())
    for name, draw in (("levy", training.draw), ("attack", training.draw_attack)):
        record = training.train(name, profile="ci", folder=tmp_path)
        assert record.status == "interrupted" and load(tmp_path, name, "ci").json["updates"] == 1
        assert "stopped at update 1 of 8" in training.table(record)
        figure, alt = draw(record)
        assert len(figure.axes) in (2, 3) and len(alt) > 60


def test_nothing_waits_for_the_device(tiny):
    for name in ("ackley", "attack"):
        settings = training.configuration(name, "gpu")
        streams = SeedStreams(range(8))
        what = training.task(settings, streams)
        methods = training.methods_of(training.variants(name, "gpu"), settings, torch.device("cpu"))
        if name == "attack":
            what.f(what.start)  # its weights go to the device once, beforehand
        stream = black_box(what.f, what.start, streams, methods, num_iterations=4)
        with NoHostSync():
            assert len(list(map(what.kept, stream))) == 4


@pytest.mark.slow
def test_in_class_the_effect_can_be_seen(tmp_path):
    """The profile ci: with one step size ZoAR is ahead of RLOO, and RLOO of vanilla, beyond their bands."""
    record = training.train("quadratic", profile="ci", folder=tmp_path, quiet=True)
    bands = {m: s["final_value"]["band"] for m, s in record.summary().items()}
    assert bands["ZoAR"][1] < bands["RLOO"][0] and bands["RLOO"][1] < bands["vanilla"][0]


# --- what is measured ----------------------------------------------------------------------------------


def test_queries_until_a_level_by_hand():
    steps, curve = np.array([10.0, 20.0, 30.0]), np.array([100.0, 10.0, 1.0])
    assert training.queries_until(steps, curve, 10.0) == 20
    assert training.queries_until(steps, curve, math.sqrt(1000)) == pytest.approx(15)
    assert training.queries_until(steps, curve, 200.0) == 10
    assert training.queries_until(steps, curve, 0.5) == math.inf


def test_a_speed_up_by_hand():
    class Curves:
        methods, steps = ("vanilla", "fast", "never"), np.array([100, 200, 300, 400])

        def curves(self):
            vanilla, fast, never = [90.0, 80, 70, 60], [60.0, 50, 40, 30], [90.0, 90, 90, 90]
            return {"value": np.repeat(np.array([vanilla, fast, never]).T[:, :, None], 8, axis=2)}

    assert training.speed_up(Curves(), "fast") == (4.0, 4.0, 4.0)
    assert training.speed_up(Curves(), "never") == (0.0, 0.0, 0.0)
    assert training.speed_up(Curves(), "vanilla")[0] == 1


def test_a_speed_up_does_not_depend_on_where_the_points_lie():
    """An exact exponential, of which vanilla needs 5.7 times as many queries, seen at 16 and at 128 points."""
    found = []
    for points in (16, 128):
        at = np.linspace(1, 1600, points)

        class Curves:
            methods, steps = ("vanilla", "fast"), at

            def curves(self, at=at):
                both = np.stack([np.exp(-at / 1000), np.exp(-5.7 * at / 1000)], 1)
                return {"value": np.repeat(both[:, :, None], 8, axis=2)}

        found.append(training.speed_up(Curves(), "fast")[0])
    assert found == pytest.approx([5.7, 5.7], rel=1e-6)


def attacked(curve, steps):
    record = SearchRecord(
        "zeroth_order", "attack", profile="ci", methods=["ZoAR"], seeds=range(8), steps_per_update=steps,
        num_updates=len(curve), configuration=training.ATTACK | {"world": "attack"}, made_by="tests",
        measured=("unbroken",),
    )  # fmt: skip
    for share in curve:
        record.add({"unbroken": torch.full((1, 8), share), "alive": torch.ones(1, 8, dtype=torch.bool)})
    return record


def test_queries_of_an_attack_by_hand():
    """A quarter falls somewhere in the first ten queries, half somewhere in the next ten, a quarter never."""
    record = attacked([0.75, 0.25, 0.25, 0.25], 10)
    assert training.mean_queries(record, "ZoAR") == pytest.approx([0.25 * 5 + 0.5 * 15 + 0.25 * 40] * 8)


def test_an_image_that_has_fallen_does_not_stand_up_again():
    kept, alive = training.Unbroken(), torch.ones(1, 1, 4, dtype=torch.bool)
    seen = [
        kept({"value": torch.tensor([[v]]), "alive": alive}) for v in ([1.0, 0, -1, 1], [1, -1, 1, 1], [1, 1, 1, 1])
    ]
    assert [float(s["unbroken"]) for s in seen] == [0.75, 0.5, 0.5]
    assert seen[0]["alive"].shape == (1, 1)


# --- what is shown -------------------------------------------------------------------------------------


def test_the_cost_card_tells_sizes_and_does_not_invent_measurements():
    card = training.cost_card("gpu")
    for name in training.COMPARISONS:
        c = training.configuration(name, "gpu")
        queries = c["iterations"] * (c["num_queries"] + c["looks"])
        assert f"| {name} | {len(c['objectives'])} | {c['seeds']} | {queries:,} | not measured yet" in card


def test_the_tables_and_the_alternative_texts_hold_the_numbers():
    record = training.recorded("quadratic")
    assert training.describe(record).count("ZoAR") == 2
    table = training.table(record)
    row = next(line for line in table.splitlines() if line.startswith("| ZoAR |"))
    times = training.speed_up(record, "ZoAR")[0]
    assert f"{times:.2f}×" in row and f"{training.chosen_steps('quadratic')['ZoAR']:g}" in row
    attack = training.recorded("attack")
    row = next(line for line in training.table(attack).splitlines() if line.startswith("| ZoAR |"))
    mean = np.sort(training.mean_queries(attack, "ZoAR"))[2:6].mean()
    assert f"{mean:.0f} (" in row


def test_the_figures_show_every_line_once_with_its_band():
    record = training.recorded("rosenbrock")
    figure, alt = training.draw(record)
    assert [len(panel.lines) for panel in figure.axes] == [5, 5, 6] and "Rosenbrock" in alt
    assert all(panel.get_yscale() == "log" for panel in figure.axes)
    figure, alt = training.draw_attack(training.recorded("attack"))
    assert [len(panel.lines) for panel in figure.axes] == [6, 6] and "digits" in alt
    ends = [line.get_ydata()[-1] for line in figure.axes[0].lines[:5]]
    finals = [training.recorded("attack").summary()[m]["final_unbroken"]["iqm"] for m in training.METHODS]
    np.testing.assert_allclose(ends, finals, rtol=1e-3)


def test_the_start_of_every_seed_is_the_same_for_all_methods():
    settings = training.configuration("quadratic", "ci")
    start = training.task(settings, SeedStreams(range(8))).start
    assert start.shape == (8, settings["dim"])
    assert float(quadratic(start).mean()) == pytest.approx(settings["dim"] / 2, rel=0.2)
    with _check.values_unread():
        assert torch.equal(start, training.task(settings, SeedStreams(range(8))).start)


def test_an_attack_is_drawn_with_different_digits_and_its_curve():
    """Four images: the curve is 1, 3/4, 1/2, and two digits that fell are shown."""
    images = np.arange(4 * 64).reshape(4, 64) / 256
    result = figures.Attacked(
        queries=np.array([30.0, 60, 90, 90]), fallen=np.array([True, True, False, False]), before=images,
        after=images / 2, labels=np.array([7, 3, 7, 3]), targets=np.array([8, 4, 8, 4]),
    )  # fmt: skip
    figure, alt = figures.draw_attacked(result)
    pictures = [panel for panel in figure.axes if panel.images]
    assert [panel.get_title() for panel in pictures] == ["“7”", "“3”", "“8”", "“4”"]
    np.testing.assert_allclose(pictures[2].images[0].get_array().flatten(), images[0] / 2)
    (curve,) = figure.axes[-1].lines
    np.testing.assert_allclose(curve.get_ydata(), [1, 0.75, 0.5, 0.5])
    assert "7 read as 8, 3 read as 4" in alt and "50% have fallen in the end, half of them by query 60" in alt


def test_what_no_attack_reaches_is_drawn_as_a_line():
    figure, _ = training.draw_attack(training.recorded("attack"))
    closed = 1 - training.attack_on(64).reachable.float().mean()
    level = [line.get_ydata()[0] for line in figure.axes[0].lines if len(set(line.get_ydata())) == 1]
    assert level == pytest.approx([float(closed)])


def test_the_best_is_named_only_where_its_band_is_alone():
    class Ends:
        def __init__(self, **bands):
            self.bands = {m: [9.0, 9.5] for m in training.METHODS} | bands

        def summary(self):
            return {m + training.TUNED: {"final_value": {"band": band}} for m, band in self.bands.items()}

    assert training.best_tuned(Ends(ZoAR=[1.0, 1.2], RLOO=[1.3, 1.4])) == "ZoAR"
    assert training.best_tuned(Ends(ZoAR=[1.0, 1.3], RLOO=[1.3, 1.4])) == "the best two cannot be told apart"


def test_ours_stand_beside_the_published_numbers(monkeypatch, tmp_path):
    table = training.speed_ups()
    for name, published in training.PUBLISHED_SPEED_UP.items():
        row = next(line for line in table.splitlines() if line.startswith(f"| {name} |"))
        ours = training.speed_up(training.recorded(name), "ZoAR")[0]
        assert f"{published:.2f}×" in row and f"{ours:.2f}×" in row
    assert set(training.PUBLISHED_SPEED_UP) == set(LANDSCAPES)
    row = next(line for line in training.other_rule().splitlines() if line.startswith("| ZoAR |"))
    known = training.recorded("levy-grid").summary()["ZoAR, R-AdaZO at 0.001"]["final_value"]["iqm"]
    assert f"{known:.0f} (" in row
    monkeypatch.setattr(paths, "recorded_runs", lambda chapter: tmp_path)
    assert training.speed_ups().count("not recorded yet") == 8 and training.other_rule().count("not recorded") == 20
