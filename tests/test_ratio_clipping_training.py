"""Chapter 2: what its last cell trains, what its figures draw, and its table of estimators against truth."""

import json
import math
from functools import partial

import numpy as np
import pytest
import torch

from pocourse.lesson import figures as look
from pocourse.lesson import live, paths
from pocourse.lesson.records import load
from pocourse.ratio_clipping import figures, training, truth
from pocourse.ratio_clipping.objectives import (
    clip_objective,
    importance_objective,
    kl_objective,
    ppo_clip_loss,
    spo_loss,
    spo_objective,
)
from pocourse.worlds import bandit_advantage, random_policy, reward_gradient

F64 = torch.float64
PROFILES = ("ci", "cpu", "gpu")


def refused(*words):
    return pytest.raises(ValueError, match=r"(?s)expected .*got .*" + ".*".join(words))


@pytest.fixture
def tiny(monkeypatch):
    """Every profile in miniature: two updates of 64 steps, small networks, nothing else changed."""
    for profile in PROFILES:
        monkeypatch.setitem(training.SIZES, profile, {"seeds": 8, "num_envs": 4, "num_steps": 16})
        for name, comparison in training.COMPARISONS.items():
            hidden = (8,) * len(comparison[profile]["hidden"])
            monkeypatch.setitem(training.COMPARISONS[name], profile, {"hidden": hidden, "steps": 130})


# --- settings ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", training.COMPARISONS)
def test_every_configuration_can_be_trained(name, profile):
    c = training.configuration(name, profile)
    size = c["num_envs"] * c["num_steps"]
    assert c["seeds"] >= 8
    assert size % c["num_minibatches"] == 0 and size >= 2 * c["num_minibatches"]
    assert c["steps"] // size >= 8  # enough updates to see a curve
    assert len(c["hidden"]) == 2 if name == "shallow" else len(c["hidden"]) >= 6
    assert json.loads(json.dumps(c))["objectives"] == {
        "unclipped": "importance_loss",
        "PPO": "ppo_clip_loss(clip_eps=0.2)",
        "KL penalty": "kl_penalty_loss(kl_coef=1.0)",
        "SPO": "spo_loss(eps=0.2)",
    }


def test_profiles_differ_in_size_alone_and_grow():
    for name in training.COMPARISONS:
        ci, cpu, gpu = (training.configuration(name, profile) for profile in PROFILES)
        sizes = {"seeds", "num_envs", "num_steps", "hidden", "steps"}
        assert {k: v for k, v in ci.items() if k not in sizes} == {k: v for k, v in gpu.items() if k not in sizes}
        assert ci["steps"] < cpu["steps"] <= gpu["steps"] and ci["seeds"] <= cpu["seeds"] < gpu["seeds"]
    # A step of the deep policy costs more, so on a CPU there are fewer of them.
    assert training.COMPARISONS["deep"]["cpu"]["steps"] < training.COMPARISONS["shallow"]["cpu"]["steps"]


def test_names_that_do_not_exist_are_refused():
    with refused("'medium'"):
        training.configuration("medium", "ci")
    with refused("'big'"):
        training.train("shallow", profile="big")
    with refused("'medium'"):
        training.train("medium", profile="ci")


# --- a run in miniature --------------------------------------------------------------------------------


def test_a_run_leaves_a_record(tiny, tmp_path):
    record = training.train("shallow", profile="ci", folder=tmp_path, quiet=True)
    assert record.status == "finished" and record.updates == record.num_updates == 2
    assert record.methods == ["unclipped", "PPO", "KL penalty", "SPO"] and record.seeds == list(range(8))
    assert record.steps.tolist() == [64, 128]
    assert all(curve.shape == (2, 4, 8) for curve in record.curves().values())
    assert (record.largest_deviation() > 0).all()
    saved = load(tmp_path, "shallow", "ci")
    assert saved.json["configuration"] == json.loads(json.dumps(training.configuration("shallow", "ci")))
    assert saved.json["profile"] == "ci" and saved.json["chapter"] == "ratio_clipping"
    assert saved.json["made_by"] == "notebooks/02_ratio_clipping.ipynb"
    assert saved.summary() == record.summary()


def test_the_gpu_settings_run_end_to_end(tiny, tmp_path, monkeypatch):
    """On the CPU, in miniature, at the depth of the real ones."""
    monkeypatch.setattr("pocourse.lesson.profiles.device", lambda name: torch.device("cpu"))
    for name in training.COMPARISONS:
        record = training.train(name, profile="gpu", folder=tmp_path, quiet=True)
        assert record.updates == 2 and load(tmp_path, name, "gpu").json["profile"] == "gpu"
    assert len(record.configuration["hidden"]) == 6


def test_a_run_is_reproducible_and_goes_to_the_readers_folder(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("POCOURSE_HOME", str(tmp_path))
    one, two = (training.train("deep", profile="ci", quiet=True) for _ in range(2))
    for key, curve in one.curves().items():
        np.testing.assert_array_equal(curve, two.curves()[key])
    assert (tmp_path / "runs" / "ratio_clipping" / "deep-ci.json").is_file()


def test_a_run_takes_few_threads_and_gives_them_back(tiny, tmp_path):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(5)
        record = training.train("shallow", profile="ci", folder=tmp_path, quiet=True)
        assert torch.get_num_threads() == 5
        assert record.to_json()["hardware"]["threads"] == 4
    finally:
        torch.set_num_threads(before)


def test_from_ppo_to_spo_is_one_line(tiny, tmp_path):
    mine = {"mine": partial(spo_loss, eps=0.2)}  # was: partial(ppo_clip_loss, clip_eps=0.2)
    all_four = training.train("shallow", profile="ci", folder=tmp_path, quiet=True)
    record = training.train("shallow", mine, profile="ci", folder=tmp_path, quiet=True)
    assert record.methods == ["mine"]
    np.testing.assert_allclose(
        record.curves()["ratio_deviation"][:, 0], all_four.curves()["ratio_deviation"][:, 3], rtol=1e-4, atol=1e-6
    )


def test_an_objective_of_ones_own(tiny, tmp_path):
    def half_way(logp, logp_old, advantage):
        return (ppo_clip_loss(logp, logp_old, advantage) + spo_loss(logp, logp_old, advantage)) / 2

    def still(logp, logp_old, advantage):
        return 0 * logp

    record = training.train(
        "shallow", {"half way": half_way, "still": still}, profile="ci", folder=tmp_path, quiet=True
    )
    figure, alt = training.draw(record)
    assert "half way: final return" in alt and "still" in training.table(record)
    assert {"half way", "still"} <= {t.get_text() for t in figure.axes[0].texts}
    look.png(figure)
    with refused("loss"):
        training.train(
            "shallow", {"mean": lambda *x: ppo_clip_loss(*x).mean()}, profile="ci", folder=tmp_path, quiet=True
        )


def test_an_interrupted_run_is_saved_and_can_be_drawn(tiny, tmp_path, monkeypatch):
    class Stop(live._Silent):
        def update(self, record):
            raise KeyboardInterrupt

    monkeypatch.setattr(live, "_screen", lambda draw, quiet: Stop())
    record = training.train("shallow", profile="ci", folder=tmp_path)
    assert record.status == "interrupted" and record.updates == 1
    assert load(tmp_path, "shallow", "ci").json["status"] == "interrupted"
    check_figure(*training.draw(record))


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    return training.train("shallow", profile="ci", folder=tmp_path_factory.mktemp("runs"), quiet=True)


@pytest.mark.slow
def test_the_ci_profile_shows_the_effect(real):
    deviation = dict(zip(real.methods, np.median(real.largest_deviation(), axis=1), strict=True))
    assert deviation["unclipped"] > 3 * deviation["PPO"]
    assert deviation["SPO"] < deviation["PPO"] < deviation["KL penalty"] * 1.5
    assert deviation["SPO"] < training.EPS
    final = np.median(real.curves()["return"][-1], axis=1)
    first = np.median(real.curves()["return"][0], axis=1)
    assert (final > 3 * first).all()
    assert real.wall_time_s < 40


# --- figures of a run ----------------------------------------------------------------------------------


def check_figure(figure, alt):
    """A description, a meaning on every axis, and it can be printed."""
    assert isinstance(alt, str) and len(alt) >= 30 and alt.endswith(".")
    for axes in figure.axes:
        below = axes.get_subplotspec().is_last_row()
        left = axes.get_subplotspec().is_first_col()
        ticks = [text.get_text() for text in axes.get_xticklabels()]
        said = axes.get_xlabel() or (ticks and all("=" in tick for tick in ticks))
        assert said or not below, "the x axis has no label"
        named = axes.get_ylabel() or axes.get_title(loc="left") or any(t.get_text() for t in axes.get_yticklabels())
        assert named or not left, "the y axis has no label"
    assert look.png(figure)[:4] == b"\x89PNG"


def test_a_run_is_drawn_with_and_without_a_recorded_one_behind(tiny, tmp_path):
    record = training.train("shallow", profile="ci", folder=tmp_path, quiet=True)
    behind = load(tmp_path, "shallow", "ci")
    alone, with_it = training.draw(record), training.draw(record, behind=behind)
    for figure, alt in (alone, with_it, training.draw(behind)):
        check_figure(figure, alt)
        for axes, key in zip(figure.axes, ("return", "deviation"), strict=True):
            assert len([line for line in axes.lines if len(line.get_xdata()) == 2 and line.get_label()]) >= 4, key
    bands = [len(figure.axes[1].collections) for figure, _ in (alone, with_it)]
    assert bands == [4, 8]
    assert alone[1] == with_it[1] == training.describe(behind)


def test_a_recorded_run_of_other_methods_lies_behind_only_where_they_agree(tiny, tmp_path):
    two = {name: training.METHODS[name] for name in ("SPO", "PPO")}
    training.train("shallow", two, profile="ci", folder=tmp_path, quiet=True)
    behind = load(tmp_path, "shallow", "ci")
    record = training.train("shallow", profile="ci", folder=tmp_path, quiet=True)
    assert len(training.draw(record, behind=behind)[0].axes[1].collections) == 4 + 2


def test_a_run_of_one_update_and_of_none_can_be_drawn(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(training.COMPARISONS["shallow"], "ci", {"hidden": (8,), "steps": 64})
    one = training.train("shallow", profile="ci", folder=tmp_path, quiet=True)
    assert one.updates == 1
    check_figure(*training.draw(one))
    nothing = training.Record(
        "ratio_clipping", "shallow", profile="ci", methods=["PPO"], seeds=range(8), steps_per_update=64,
        num_updates=4, configuration=training.configuration("shallow", "ci"), made_by="tests",
    )  # fmt: skip
    figure, alt = training.draw(nothing)
    check_figure(figure, alt)
    assert "no update is finished" in alt
    assert training.table(nothing).startswith("*This run was stopped at update 0 of 4: no final numbers.*\n\n| obj")


def test_a_damaged_recorded_run_keeps_nobody_from_training(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "recorded_runs", lambda chapter: tmp_path / "shipped")
    (tmp_path / "shipped").mkdir()
    (tmp_path / "shipped" / "shallow-cpu.json").write_text("{")
    with refused("Delete both files"):
        training.recorded("shallow")
    with pytest.warns(UserWarning, match="gone on without the recorded run"):
        record = training.train("shallow", profile="ci", folder=tmp_path, quiet=True)
    assert record.status == "finished"


def test_when_a_method_first_solves_the_task():
    class Curves:
        methods, steps = ("soon", "late", "never"), np.array([10, 20, 30])

        def curves(self):
            mean = np.array([[475.0, 100.0, 474.9], [100.0, 474.0, 474.9], [500.0, 480.0, 474.9]])
            return {"return": np.repeat(mean[:, :, None], 8, axis=2)}

    assert training.first_solved(Curves()) == {"soon": 10, "late": 30, "never": math.inf}


def statistics(seeds, iqm, low, high):
    return {"iqm": iqm, "band": [low, high], "seeds": seeds}


class Said:
    """What describe and table read of a record."""

    def __init__(self, **summary):
        self.seeds, self.configuration, self._summary = range(8), {"hidden": (64, 64)}, summary
        self.json = {"status": "finished"}

    def summary(self):
        return self._summary


def test_what_is_said_is_what_the_data_say():
    final = statistics([500.0] * 3 + [475.0, 474.9, 100.0, 50.0, None], 430.4, 300.2, 490.6)
    record = Said(
        PPO={
            "final_return": final,
            "largest_ratio_deviation": statistics([], 0.1551, 0.149, 0.16),
            "diverged_at_update": {},
        },
        wild={
            "final_return": statistics([], None, None, None),
            "largest_ratio_deviation": statistics([], 3.25, 1.0, None),
            "diverged_at_update": {"3": 7, "4": 9},
        },
    )
    alt = training.describe(record)
    assert "bands over 8 seeds" in alt and "2 hidden layers" in alt
    assert "PPO: final return 430 (300 to 491), largest mean |r-1| 0.16 (0.15 to 0.16);" in alt
    assert "wild: final return none yet, largest mean |r-1| 3.25 (1.00 to ∞), 2 seeds diverged." in alt
    rows = training.table(record).splitlines()
    assert rows[2] == "| PPO | 430 (300 to 491) | 4 of 8 | 0.16 (0.15 to 0.16) |"
    assert rows[3] == "| wild | none yet | 0 of 8 | 3.25 (1.00 to ∞), 2 seeds diverged |"
    assert len({row.replace(r"\|", "").count("|") for row in rows}) == 1


def test_the_table_and_the_figure_agree_with_the_curves(tiny, tmp_path):
    record = training.train("shallow", profile="ci", folder=tmp_path, quiet=True)
    spo = record.summary()["SPO"]
    largest = record.largest_deviation()[3]
    assert spo["largest_ratio_deviation"]["iqm"] == pytest.approx(np.sort(largest)[2:6].mean(), rel=1e-4)
    assert f"{spo['largest_ratio_deviation']['iqm']:.2f} (" in training.table(record).splitlines()[-1]


@pytest.mark.parametrize("profile", PROFILES)
def test_the_cost_card_tells_sizes_and_does_not_invent_measurements(profile, monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "recorded_runs", lambda chapter: tmp_path)
    card = training.cost_card(profile)
    for name in training.COMPARISONS:
        c = training.configuration(name, profile)
        assert f"| {name} | {len(c['hidden'])} | {c['seeds']} | {c['steps']:,} | not measured yet" in card
    rows = [line for line in card.splitlines() if line.startswith("|")]
    assert len({row.count("|") for row in rows}) == 1


def test_the_cost_card_quotes_the_record(tiny, monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "recorded_runs", lambda chapter: tmp_path)
    training.train("deep", profile="ci", folder=tmp_path, quiet=True)
    made = load(tmp_path, "deep", "ci").json
    card = training.cost_card("ci")
    assert f"{made['wall_time_s']:.0f} s | {made['peak_memory_mb']} MB | {made['hardware']['cpu']}" in card
    assert "not measured yet" in card  # the shallow one


# --- objective and derivative --------------------------------------------------------------------------


@pytest.mark.parametrize("advantage", [1.0, -1.0, 2.5])
def test_objective_curves_by_formula(advantage):
    r = np.linspace(0.4, 1.6, 241) + 1e-4  # beside the kinks
    curves = {name: figures.value_and_slope(f, r, advantage) for name, f in figures.OBJECTIVES.items()}
    a, eps = advantage, 0.2
    clipped = np.minimum(r * a, np.clip(r, 1 - eps, 1 + eps) * a)
    flat = (r > 1 + eps) if a > 0 else (r < 1 - eps)
    edge = 1 + eps * np.sign(a)
    expected = {
        "unclipped": (r * a, np.full_like(r, a)),
        "PPO": (clipped, np.where(flat, 0, a)),
        "PPO-RB": (np.where(flat, (-0.3 * r + 1.3 * edge) * a, r * a), np.where(flat, -0.3 * a, a)),
        "SPO": (r * a - abs(a) / (2 * eps) * (r - 1) ** 2, a - abs(a) * (r - 1) / eps),
        "simple": (-((r - edge) ** 2), -2 * (r - edge)),
    }
    assert curves.keys() == expected.keys()
    for name, pair in expected.items():
        for found, wanted in zip(curves[name], pair, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12, err_msg=name)


# --- the contextual batch ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def batches():
    return {depth: figures.softmax_batch(depth, num_epochs=40) for depth in (0, 1)}


def test_the_softmax_batch_has_its_shapes(batches):
    for run in batches.values():
        assert run.methods == ("unclipped", "PPO", "SPO")
        assert run.ratio.shape == (13, 3, 8, 256) and len(run.epochs) == 13
        assert run.deviation.shape == run.kl.shape == (41, 3, 8) and run.advantage.shape == (8, 256)
        assert run.epochs[0] == 0 and run.epochs[-1] == 40
        np.testing.assert_allclose(run.deviation[run.epochs], np.abs(run.ratio - 1).mean(-1), rtol=1e-4, atol=1e-6)
        assert (run.ratio[0] == 1).all() and (run.ratio > 0).all()
        assert (run.deviation[-1, 0] > run.deviation[-1, 1]).all()  # unclipped beyond PPO


def test_a_short_run_keeps_the_epochs_it_has():
    run = figures.softmax_batch(0, num_epochs=5)
    assert run.epochs.tolist() == [0, 1, 2, 3, 4, 5] and run.ratio.shape == (6, 3, 8, 256)
    check_figure(*figures.draw_ratio_scatter({0: run}))


def test_the_softmax_table_by_hand(batches):
    table = figures.softmax_table(batches)
    assert set(table) == {(d, m) for d in (0, 1) for m in ("unclipped", "PPO", "SPO")}
    r, a = batches[1].ratio[-1, 1, 3].astype(float), batches[1].advantage[3].astype(float)
    row = {key: values[3] for key, values in table[1, "PPO"].items()}
    assert row["deviation"] == pytest.approx(np.abs(r - 1).mean(), rel=1e-5)
    assert row["largest"] == pytest.approx(r.max(), rel=1e-6)
    assert row["outside"] == pytest.approx(((r > 1.21) | (r < 0.79)).mean(), abs=1e-9)
    assert row["gain"] == pytest.approx((r * a).mean() - a.mean(), abs=1e-6)
    assert row["kl"] == batches[1].kl[-1, 1, 3]
    assert all(len(values) == 8 for values in table[0, "SPO"].values())


def test_the_softmax_markdown_is_a_table(batches):
    rows = figures.softmax_markdown(batches).splitlines()
    assert len(rows) == 2 + 6
    assert len({row.replace(r"\|", "").count("|") for row in rows}) == 1
    deviation = np.sort(figures.softmax_table(batches)[0, "SPO"]["deviation"])[2:6].mean()
    assert f"| 0 | SPO | {deviation:.3g} (" in "\n".join(rows)


def test_the_softmax_batch_is_drawn(batches):
    figure, alt = figures.draw_ratio_scatter(batches)
    check_figure(figure, alt)
    outside = figures.softmax_table(batches)[1, "PPO"]["outside"][0]
    assert f"1 hidden layers: PPO {100 * outside:.0f}%" in alt
    for axes, depth in zip(figure.axes[:2], (0, 1), strict=True):
        drawn = np.sort(np.concatenate([c.get_offsets()[:, 1] for c in axes.collections]))
        np.testing.assert_allclose(drawn, np.sort(np.clip(batches[depth].ratio[:, 1, 0].ravel(), None, 2.3)), rtol=1e-6)


# --- how tight the bounds are --------------------------------------------------------------------------


def test_how_much_of_the_penalties_is_needed():
    result = figures.tightness(draws=50)
    assert result.average_tv.shape == result.trpo.shape == result.certified.shape == (3, 50)
    for needed in (result.average_tv, result.trpo):
        assert (needed > 0).all() and (needed <= 1).all()
    assert (result.trpo < result.average_tv).all()  # TRPO's penalty is the larger one
    assert (result.extremal > result.average_tv.max(1)).all()
    # Exactly: (1 - gamma) / (1 - gamma (1 - mixture)), which a smaller mixture would bring as near to 1 as one likes.
    expected = [(1 - gamma) / (1 - gamma * (1 - 1e-3)) for gamma in result.gammas]
    np.testing.assert_allclose(result.extremal, expected, rtol=1e-9)
    assert (result.certified > 0).all() and (result.certified <= 1).all()
    assert (np.diff(np.median(result.certified, axis=1)) < 0).all()  # the farther ahead, the smaller the step
    check_figure(*figures.draw_tightness(result))


# --- estimator against truth ---------------------------------------------------------------------------

OLD = torch.tensor([0.5, 0.3, 0.2], dtype=F64)
NEW = torch.tensor([0.2, 0.6, 0.2], dtype=F64)  # ratios 0.4, 2, 1
ADVANTAGE = torch.tensor([-1.0, 1.0, 0.5], dtype=F64)
PPO = partial(clip_objective, clip_eps=0.2)


def test_sample_gradients_by_hand():
    prob_old, prob = torch.tensor([0.5, 0.5], dtype=F64), torch.tensor([0.8, 0.2], dtype=F64)
    advantage = torch.tensor([1.0, -2.0], dtype=F64)
    found = truth.sample_gradients(importance_objective, prob_old, prob, advantage)
    # r = 1.6 and 0.4; scores e_a - pi = (0.2, -0.2) and (-0.8, 0.8).
    expected = torch.tensor([[1.6 * 0.2, -1.6 * 0.2], [-2 * 0.4 * -0.8, -2 * 0.4 * 0.8]], dtype=F64)
    torch.testing.assert_close(found, expected)
    # Both ratios are outside the range on the side where PPO's objective is flat.
    assert truth.sample_gradients(PPO, prob_old, prob, advantage).abs().max() == 0
    spo = truth.sample_gradients(partial(spo_objective, eps=0.2), prob_old, prob, advantage)
    slope = torch.tensor([[1 - 0.6 / 0.2], [-2 + 2 * 0.6 / 0.2]], dtype=F64)
    torch.testing.assert_close(spo, expected * slope / advantage.unsqueeze(1))


def test_a_sample_gradient_is_the_gradient_in_the_logits():
    objective = partial(kl_objective, kl_coef=0.7)
    logits = NEW.log().requires_grad_()
    rows = []
    for action in range(3):
        ratio = logits.softmax(0)[action] / OLD[action]
        (row,) = torch.autograd.grad(objective(ratio.reshape(1), ADVANTAGE[action : action + 1]).sum(), logits)
        rows.append(row)
    found = truth.sample_gradients(objective, OLD, NEW, ADVANTAGE)
    torch.testing.assert_close(found, torch.stack(rows), rtol=1e-12, atol=1e-14)


def test_the_unclipped_estimator_is_the_truth():
    for prob in (OLD, NEW):
        found = truth.judge(importance_objective, OLD, prob, ADVANTAGE)
        assert found.bias < 1e-12 and found.cosine == pytest.approx(1, abs=1e-12)
        torch.testing.assert_close(found.mean, reward_gradient(prob, ADVANTAGE))


def test_the_variance_and_the_cost_by_hand():
    """Two actions, A = (1, -1), both policies uniform: g = +-(1/2, -1/2) with one sign, so no variance at all."""
    half = torch.tensor([0.5, 0.5], dtype=F64)
    found = truth.judge(importance_objective, half, half, torch.tensor([1.0, -1.0], dtype=F64))
    assert found.variance == pytest.approx(0, abs=1e-12) and found.samples == 1
    # A = (1, 0): g = (1/2, -1/2) half of the time, else 0; E g = (1/4, -1/4), variance 1/4 - 1/8 = |E g|^2.
    found = truth.judge(importance_objective, half, half, torch.tensor([1.0, 0.0], dtype=F64))
    assert found.mean.tolist() == [0.25, -0.25]
    assert found.variance == pytest.approx(1) and found.samples == 100


def test_as_many_samples_as_it_says_are_enough_and_one_less_is_not():
    for objective in (importance_objective, PPO):
        found = truth.judge(objective, OLD, NEW, ADVANTAGE)
        error = [math.sqrt(found.variance / n) for n in (found.samples, found.samples - 1)]
        assert error[0] <= 0.1 + 1e-12 < error[1]


def test_the_clip_is_unbiased_inside_its_range_and_biased_outside():
    near = OLD + 0.05 * torch.tensor([1.0, -1.0, 0.0], dtype=F64)  # ratios 1.1, 0.83, 1
    assert truth.judge(PPO, OLD, near, ADVANTAGE).bias < 1e-12
    far = truth.judge(PPO, OLD, NEW, ADVANTAGE)  # ratio 2 with A > 0, ratio 0.4 with A < 0: both flat
    assert far.bias > 0.5
    only = 0.2 * 0.5 * (torch.tensor([0.0, 0.0, 1.0], dtype=F64) - NEW)
    torch.testing.assert_close(far.mean, only)


@pytest.mark.parametrize("objective", [importance_objective, PPO, partial(spo_objective, eps=0.2)])
def test_estimates_scatter_around_what_is_judged(objective):
    judged = truth.judge(objective, OLD, NEW, ADVANTAGE)
    drawn = truth.estimate(
        objective, OLD, NEW, ADVANTAGE, num_samples=500, num_seeds=8, generator=torch.Generator().manual_seed(0)
    )
    assert drawn.shape == (8, 500, 3)
    flat = drawn.flatten(0, 1)
    error = (flat.mean(0) - judged.mean).abs()
    assert (error < 4 * flat.std(0) / math.sqrt(len(flat)) + 1e-12).all()
    scale = reward_gradient(NEW, ADVANTAGE).square().sum()
    trace = (flat - judged.mean).square().sum(1) / scale
    assert abs(trace.mean() - judged.variance) < 4 * trace.std() / math.sqrt(len(trace))
    assert not torch.equal(drawn[0], drawn[1])


def test_random_bandits():
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        old, new = random_policy((2, 4), generator=generator)
        advantage = bandit_advantage(old, torch.randn(4, generator=generator, dtype=F64))
        assert truth.judge(importance_objective, old, new, advantage).bias < 1e-9


def test_the_table_of_estimators_is_a_table():
    objectives = {"unclipped": importance_objective, "PPO": PPO}
    rows = truth.markdown(objectives, OLD, {"at home": OLD, "gone far": NEW}, ADVANTAGE).splitlines()
    assert len(rows) == 2 + 4 and len({row.count("|") for row in rows}) == 1
    assert rows[2].startswith("| at home | unclipped | 0.000 |") and "+1.000" in rows[2]
    found = truth.judge(PPO, OLD, NEW, ADVANTAGE)
    numbers = f"{found.bias:.3f} | {found.variance:.2f} | {found.cosine:+.3f} | {found.samples:,}"
    assert rows[5] == f"| gone far | PPO | {numbers} |"


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"prob": NEW[:2]}, "shape"),
        ({"prob_old": OLD.unsqueeze(0), "prob": NEW.unsqueeze(0), "advantage": ADVANTAGE.unsqueeze(0)}, "shape"),
        ({"prob": NEW * 2}, "sum to 1"),
        ({"prob_old": torch.tensor([0.5, 0.5, 0.0], dtype=F64)}, "every action"),
        ({"advantage": ADVANTAGE * math.nan}, "NaN"),
        ({"advantage": ADVANTAGE.float()}, "dtype"),
        ({"advantage": ADVANTAGE.clone().requires_grad_()}, "without gradient"),
        ({"advantage": torch.ones(3, dtype=F64)}, "not zero"),
        ({"prob": torch.tensor([0.0, 1.0, 0.0], dtype=F64)}, "not zero"),
    ],
)
def test_a_question_without_an_answer_is_refused(changes, word):
    inputs = {"prob_old": OLD, "prob": NEW, "advantage": ADVANTAGE} | changes
    with refused() as caught:
        truth.judge(importance_objective, *inputs.values())
    assert word in str(caught.value)


@pytest.mark.parametrize("counts", [{"num_samples": 0, "num_seeds": 1}, {"num_samples": 1, "num_seeds": 0}])
def test_no_samples_are_refused(counts):
    with refused():
        truth.estimate(importance_objective, OLD, NEW, ADVANTAGE, generator=torch.Generator(), **counts)


def test_the_sampled_table_agrees_with_the_exact_one():
    objectives = {"unclipped": importance_objective, "PPO": partial(clip_objective, clip_eps=0.2)}
    counts = {"num_samples": 20_000, "num_seeds": 8, "generator": torch.Generator().manual_seed(0)}
    rows = truth.sampled_markdown(objectives, OLD, NEW, ADVANTAGE, **counts).splitlines()[2:]
    for (name, objective), row in zip(objectives.items(), rows, strict=True):
        label, bias, distance, cosine, sampled = (cell.strip() for cell in row.strip("|").split("|"))
        exact = truth.judge(objective, OLD, NEW, ADVANTAGE)
        noise = 4 * (exact.variance / 20_000) ** 0.5  # in units of the truth, as the bias is
        assert label == name and float(bias) == pytest.approx(exact.bias, abs=5e-4)
        assert abs(float(distance.split()[0]) - exact.bias) < noise + 1e-3
        assert float(cosine) == pytest.approx(exact.cosine, abs=5e-4)
        assert abs(float(sampled.split()[0]) - exact.cosine) < noise + 1e-3
        low, high = (float(x) for x in sampled.split("(")[1].rstrip(")").split(" to "))
        assert low <= float(sampled.split()[0]) <= high
