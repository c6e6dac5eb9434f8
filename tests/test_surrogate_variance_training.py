"""Chapter 3: what its last cells train, what is measured on the way, and what is shown of it."""

import json
import math

import numpy as np
import pytest
import torch
from helpers import NoHostSync

from pocourse import _check
from pocourse.engine import ActorCritic, SeedStreams, collect, on_policy, start
from pocourse.engine.on_policy import Samples, Seen
from pocourse.lesson import live, paths
from pocourse.lesson.records import load
from pocourse.policy_gradient.estimators import gae
from pocourse.ratio_clipping import ppo_clip_loss
from pocourse.surrogate_variance import bounds, training
from pocourse.worlds import CartPole

PROFILES = ("ci", "cpu", "gpu")


def refused(*words):
    return pytest.raises(ValueError, match=r"(?s)expected .*got .*" + ".*".join(words))


@pytest.fixture
def tiny(monkeypatch):
    """Every profile in miniature: two updates of 64 steps, small networks, nothing else changed."""
    small = {"seeds": 8, "num_envs": 4, "num_steps": 16, "steps": 130}
    for name, comparison in training.COMPARISONS.items():
        for profile in PROFILES:
            kept = {key: 4 for key in ("channels", "hidden") if key in comparison[profile]}
            monkeypatch.setitem(training.COMPARISONS[name], profile, small | kept)


# --- settings ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", training.COMPARISONS)
def test_every_configuration_can_be_trained(name, profile):
    c = training.configuration(name, profile)
    size = c["num_envs"] * c["num_steps"]
    assert c["seeds"] >= 8
    assert size % c["num_minibatches"] == 0 and size >= 2 * c["num_minibatches"]
    assert c["steps"] // size >= 8
    assert list(json.loads(json.dumps(c))["objectives"]) == list(training.methods_of(name, profile))


def test_the_methods_are_what_the_text_says():
    assert training.configuration("breakout", "gpu")["objectives"] == {
        "PPO": "ppo_clip_loss(clip_eps=0.2)",
        "D-PPO": "dppo_loss(clip_eps=0.2, drop_fraction=0.2)",
        "Sample Dropout": "sample_dropout_loss(delta=0.25)",
        "SPO": "spo_loss(eps=0.2)",
    }
    assert list(training.methods_of("breakout", "cpu")) == ["PPO", "D-PPO"]
    assert list(training.methods_of("cartpole", "cpu")) == list(training.METHODS)
    assert training.COMPARISONS["breakout"]["gpu"]["steps"] >= 5_000_000


def test_profiles_differ_in_size_alone_and_grow():
    sizes = {"seeds", "num_envs", "num_steps", "steps", "channels", "objectives"}
    for name in training.COMPARISONS:
        sizes_here = sizes | ({"hidden"} if name == "breakout" else set())
        ci, cpu, gpu = (training.configuration(name, profile) for profile in PROFILES)
        assert {k: v for k, v in ci.items() if k not in sizes_here} == {
            k: v for k, v in gpu.items() if k not in sizes_here
        }
        assert ci["steps"] < cpu["steps"] <= gpu["steps"]


def test_names_that_do_not_exist_are_refused():
    with refused("'pong'"):
        training.configuration("pong", "ci")
    with refused("'big'"):
        training.train("cartpole", profile="big")
    with refused("'pong'"):
        training.train("pong", profile="ci")


# --- running -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", ["ci", "gpu"])
@pytest.mark.parametrize("name", training.COMPARISONS)
def test_a_run_leaves_a_record_with_what_was_probed(tiny, tmp_path, monkeypatch, name, profile):
    monkeypatch.setattr("pocourse.lesson.profiles.device", lambda name: torch.device("cpu"))
    record = training.train(name, profile=profile, folder=tmp_path, quiet=True)
    assert record.status == "finished" and record.updates == 2
    saved = load(tmp_path, name, profile)
    assert saved.methods == list(training.methods_of(name, profile))
    for key in training.PROBED:
        assert saved.curves()[key].shape == (2, len(saved.methods), 8)
        assert np.isfinite(saved.curves()[key]).all() and (saved.curves()[key] >= 0).all()
    assert training.table(saved) == training.table(record)


def test_a_run_is_reproducible(tiny, tmp_path):
    one, two = (training.train("breakout", profile="ci", folder=tmp_path, quiet=True) for _ in range(2))
    assert all(np.array_equal(one.curves()[key], two.curves()[key], equal_nan=True) for key in one.curves())


def test_an_interrupted_run_is_saved_and_can_be_drawn(tiny, tmp_path, monkeypatch):
    class Stop:
        def update(self, record):
            raise KeyboardInterrupt

        def close(self, record): ...

    monkeypatch.setattr(live, "_screen", lambda draw, quiet: Stop())
    record = training.train("cartpole", profile="ci", folder=tmp_path)
    assert record.status == "interrupted" and load(tmp_path, "cartpole", "ci").json["updates"] == 1
    assert "stopped at update 1 of 2" in training.table(record)
    for figure, alt in (training.draw(record), training.draw_bounds(record)):
        assert len(figure.axes) in (2, 3) and len(alt) > 60


# --- what is measured ----------------------------------------------------------------------------------


def seen_after(world, agent, *, seeds=3, envs=4, steps=8, seed=0):
    """A rollout with one policy, and another that it has become."""
    streams = SeedStreams(range(seed, seed + seeds), dtype=torch.float64)
    before = agent.init(streams)
    after = before + 0.05 * streams.normal(before.shape[1])
    batch, _ = collect(
        world,
        start(world, streams.uniform(envs, world.reset_dim)),
        lambda obs: agent.logits(before, obs),
        action_uniform=streams.uniform(steps, envs).transpose(0, 1).contiguous(),
        reset_uniform=streams.uniform(steps, envs, world.reset_dim).transpose(0, 1).contiguous(),
        keep_states=True,
    )
    flat = {"obs": batch.obs, "action": batch.action, "logp_old": batch.logp}
    flat = {name: x.transpose(0, 1).flatten(1, 2) for name, x in flat.items()}
    return Seen(agent, world, before, after, Samples(flat | {"advantage": streams.normal(steps * envs)}), batch.state)


@pytest.fixture(scope="module")
def cartpole():
    world = CartPole()
    return seen_after(world, ActorCritic.tanh_mlps(world.obs_dim, world.num_actions, hidden=(8,)))


@pytest.fixture(scope="module")
def breakout():
    return seen_after(*training.made("breakout", {"channels": 2, "hidden": 8}))


def test_the_samples_variance_is_that_of_the_samples(cartpole):
    found = training.variances(cartpole, rules=[None], gamma=0.99, num_states=8)
    samples = cartpole.samples
    for row in range(3):
        a = samples["advantage"][row]
        a = (a - a.mean()) / a.std()
        logits = cartpole.agent.logits(cartpole.after, samples["obs"])[row].log_softmax(-1)
        ratio = (logits.gather(1, samples["action"][row, :, None])[:, 0] - samples["logp_old"][row]).exp()
        for sign, member in (("positive", a >= 0), ("negative", a < 0)):
            expected = (ratio * a)[member].var(correction=0)
            assert float(found[f"variance_{sign}"][row]) == pytest.approx(float(expected), rel=1e-6)
            assert float(found[f"still_{sign}"][row]) == pytest.approx(float(a[member].var(correction=0)), rel=1e-6)
            assert found[f"kept_{sign}"][row] == found[f"variance_{sign}"][row]


def test_each_method_is_measured_by_its_own_rule(cartpole):
    half = cartpole._replace(
        before=cartpole.before.repeat(2, 1),
        after=cartpole.after.repeat(2, 1),
        samples=Samples({k: x.repeat(2, *[1] * (x.ndim - 1)) for k, x in cartpole.samples.items()}),
        states=type(cartpole.states)(*(x.repeat(1, 2, *[1] * (x.ndim - 2)) for x in cartpole.states)),
    )
    found = training.variances(half, rules=[None, training.RULES["D-PPO"]], gamma=0.99, num_states=8)
    kept, whole = found["kept_negative"], found["variance_negative"]
    assert torch.equal(kept[:3], whole[:3]) and bool((kept[3:] != whole[3:]).all())


@pytest.mark.parametrize("name", training.COMPARISONS)
def test_what_is_measured_and_minimised_does_not_wait_for_the_device(name, cartpole, breakout):
    seen = {"cartpole": cartpole, "breakout": breakout}[name]
    three = [None, *training.RULES.values()]
    logp = torch.randn(3, 20, dtype=torch.float64).requires_grad_()
    with _check.values_unread(), NoHostSync():
        training.variances(seen, rules=three, gamma=0.99, num_states=16)
        for loss in training.METHODS.values():
            loss(logp, logp.detach() - 0.1, logp.detach()).mean().backward()


def test_without_a_step_the_ratio_changes_nothing(breakout):
    still = breakout._replace(after=breakout.before)
    found = training.variances(still, rules=[None], gamma=0.99, num_states=8)
    for sign in training.CLASSES:
        torch.testing.assert_close(found[f"variance_{sign}"], found[f"still_{sign}"])


def test_cartpole_is_looked_ahead_step_by_step(cartpole):
    states = type(cartpole.states)(*(x[0] for x in cartpole.states))
    found = training.action_values(cartpole, states, gamma=0.9)
    assert found.shape == (3, 4, 2)
    world, value = cartpole.world, cartpole.agent.value
    for action in range(2):
        led_to, reward, terminated, _ = world.step(states, torch.full((3, 4), action))
        expected = reward + 0.9 * value(cartpole.before, world.observe(led_to)) * ~terminated
        torch.testing.assert_close(found[..., action], expected)


def test_a_terminal_step_is_worth_its_reward(cartpole):
    states = type(cartpole.states)(*(x[0].clone() for x in cartpole.states))
    states.physics[..., 2] = 0.5  # beyond the angle at which the pole has fallen
    assert torch.equal(training.action_values(cartpole, states, gamma=0.9), torch.ones(3, 4, 2, dtype=torch.float64))


def test_breakout_is_looked_ahead_over_its_sticky_draw(breakout):
    """The mean over many draws of the number that decides whether the last action is repeated."""
    states = type(breakout.states)(*(x[3] for x in breakout.states))
    found = training.action_values(breakout, states, gamma=0.9)
    generator, total, count = torch.Generator().manual_seed(0), torch.zeros_like(found), 2000
    world = breakout.world
    for _ in range(count):
        drawn = states._replace(draw=torch.rand(states.draw.shape, generator=generator, dtype=torch.float64))
        for action in range(3):
            led_to, reward, terminated, _ = world.step(drawn, torch.full((3, 4), action))
            total[..., action] += (
                reward + 0.9 * breakout.agent.value(breakout.before, world.observe(led_to)) * ~terminated
            )
    spread = found.amax(-1) - found.amin(-1) + 1e-12
    tolerance = 4 * spread * math.sqrt(world.sticky * (1 - world.sticky) / count)
    assert bool(((total / count - found).abs() <= tolerance.unsqueeze(-1) + 1e-12).all())


def test_the_enumerated_variance_and_bound_are_those_of_the_equations(breakout):
    found = training.variances(breakout, rules=[None], gamma=0.99, num_states=16)
    old, new, ahead = training.enumerated(breakout, gamma=0.99, num_states=16)
    assert old.dtype == torch.float64 and old.shape[1] == 16
    torch.testing.assert_close((old * ahead).sum(-1), torch.zeros_like(old[..., 0]), rtol=0, atol=1e-12)
    ahead = ahead / (breakout.samples["advantage"].std(1)[:, None, None] + 1e-8)
    evenly = torch.full(ahead.shape[:2], 1 / 16, dtype=torch.float64)
    one = bounds.sign_class(old, new / old, ahead, ahead < 0)
    torch.testing.assert_close(found["exact_negative"], bounds.state_class_variance(evenly, one))
    torch.testing.assert_close(found["bound_negative"], bounds.state_class_bound(evenly, one))
    assert bool((found["exact_negative"] <= found["bound_negative"]).all())


def test_with_two_actions_the_bound_over_states_is_an_equality(cartpole):
    """Advantages of mean zero: each class has one action in every state, and nothing varies within it."""
    found = training.variances(cartpole, rules=[None], gamma=0.99, num_states=16)
    for sign in training.CLASSES:
        torch.testing.assert_close(found[f"exact_{sign}"], found[f"bound_{sign}"], rtol=1e-5, atol=1e-9)


def test_a_random_policy_in_breakout_earns_little():
    returns = training.random_returns(num_envs=16, num_steps=200)
    assert returns.shape == (8,) and 0.2 < returns.min() and returns.max() < 0.7
    said = training.summary_of_random()
    assert said["band"][0] <= said["iqm"] <= said["band"][1]


@pytest.mark.slow
def test_the_probe_does_not_change_the_run():
    def run(probe):
        world = CartPole()
        agent = ActorCritic.tanh_mlps(world.obs_dim, world.num_actions, hidden=(8,))
        credit = training.partial(gae, gamma=0.99, gae_lambda=0.95)
        stream = on_policy(
            world, agent, SeedStreams(range(2)), {"PPO": ppo_clip_loss}, credit=credit, num_updates=3, probe=probe
        )
        return [{k: v for k, v in metrics.items() if k not in training.PROBED} for metrics in stream]

    probe = training.partial(training.variances, rules=[None], gamma=0.99, num_states=64)
    for without, with_it in zip(run(None), run(probe), strict=True):
        assert all(torch.equal(without[key], with_it[key]) for key in without)


# --- what is shown -------------------------------------------------------------------------------------


def test_the_cost_card_tells_sizes_and_does_not_invent_measurements(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "recorded_runs", lambda chapter: tmp_path)
    card = training.cost_card("cpu")
    for name in training.COMPARISONS:
        c = training.configuration(name, "cpu")
        assert f"| {c['world']} | {len(c['objectives'])} | {c['seeds']} | {c['steps']:,} | not measured yet" in card


def test_the_table_and_the_alternative_text_hold_the_numbers(tiny, tmp_path):
    record = training.train("breakout", profile="ci", folder=tmp_path, quiet=True)
    late, curves = training.late(record), record.curves()
    expected = np.median(curves["variance_positive"][-1:, 1].mean(0))
    assert late["D-PPO"]["variance_positive"] == pytest.approx(expected)
    assert f"{expected:.2f}" in training.table(record).splitlines()[-1]
    assert "D-PPO: final return" in training.describe(record) and "MinAtar Breakout" in training.describe(record)
    figure, _ = training.draw(record)
    assert len(figure.axes) == 3
    with_behind, _ = training.draw(record, behind=load(tmp_path, "breakout", "ci"))
    assert len(with_behind.axes[0].collections) > len(figure.axes[0].collections)


def test_what_is_told_of_the_recorded_run_is_in_its_curves():
    record, size = training.recorded("cartpole"), len(training.recorded("cartpole").steps) // 4
    curves, late = record.curves(), training.late(record)
    for m, method in enumerate(record.methods):
        for quarter, at in ((0, slice(0, size)), (3, slice(-size, None))):
            above, below = (curves[f"{key}_negative"][at, m].mean(0) for key in ("variance", "still"))
            found = training.against_still(record, method, "negative", quarter=quarter)
            np.testing.assert_allclose(found, above / below)
        assert late[method]["moved_negative"] == pytest.approx(np.median(found))
