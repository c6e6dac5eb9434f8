"""Chapter 5, captioned shapes: what the run is made with, its pairs, tilt and drift against truth, what it leaves."""

import json
import math

import numpy as np
import pytest
import torch
from helpers import NoHostSync

from pocourse import _check
from pocourse.diffusion_dpo.training import shapes as room
from pocourse.engine import SeedStreams
from pocourse.lesson import live
from pocourse.lesson.records import load
from pocourse.worlds import shapes

pytest.importorskip("diffusers")

F64 = torch.float64
CPU, COUNTED = torch.device("cpu"), torch.device("meta")
PROFILES = ("ci", "cpu", "gpu")
TINY = {
    "seeds": 2,
    "network": {"widths": [8, 8], "layers": 1, "patch": 8, "encoder_width": 8},
    "pretraining": {"images": 16, "steps": 4, "batch": 4, "rate": 1e-3, "average": 0.5, "every": 2},
    "pairs": 6,
    "steps": 4,
    "batch": 3,
    "every": 2,
    "learning_rate": 1e-3,
    "betas": [1.0, 4.0],
    "shown": 12,
    "sampler_steps": 2,
    "levels": 2,
}


def refused(*words):
    return pytest.raises(ValueError, match="(?s)" + ".*".join(["expected", *words]))


@pytest.fixture
def home(monkeypatch, tmp_path):
    """A reader's folder of its own, every profile in miniature."""
    monkeypatch.setenv("POCOURSE_HOME", str(tmp_path / "home"))
    for profile in PROFILES:
        monkeypatch.setitem(room.SIZES, profile, TINY)
    return tmp_path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One run in miniature, and its folders."""
    folder = tmp_path_factory.mktemp("shapes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POCOURSE_HOME", str(folder / "home"))
        patch.setitem(room.SIZES, "ci", TINY)
        record = room.train(profile="ci", folder=folder, quiet=True)
    return record, folder


@pytest.fixture
def kept(run, home, monkeypatch):
    """The reader's folder of that run, references included."""
    monkeypatch.setenv("POCOURSE_HOME", str(run[1] / "home"))
    return run[1] / "home" / "weights" / "diffusion_dpo"


def uniform(*size, seed=0):
    return torch.rand(*size, generator=torch.Generator().manual_seed(seed))


# --- settings ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
def test_every_configuration_can_be_written_down_and_is_consistent(profile):
    c = json.loads(json.dumps(room.configuration(profile)))
    assert c["steps"] % c["every"] == 0 and c["pretraining"]["steps"] % c["pretraining"]["every"] == 0
    assert c["batch"] <= c["pairs"] and c["shown"] >= room.PICTURES and len(c["objectives"]) == len(c["betas"])
    assert all(beta in room.TILTS for beta in c["betas"])
    assert next(iter(c["objectives"].values())) == f"diffusion_dpo_loss(beta=24576), AdamW at {c['learning_rate']:g}"


def test_the_profile_gpu_is_what_it_says():
    c = room.configuration("gpu")
    denoiser = room.denoiser_of(c, COUNTED)
    assert 15e6 < denoiser.num_parameters < 25e6 and c["seeds"] >= 3 and c["network"]["widths"] == [64, 128, 256]
    assert denoiser.module.encoder.words.weight.shape == (15, 128) and denoiser.autocast is None
    for profile in ("ci", "cpu"):
        small = room.denoiser_of(room.configuration(profile), COUNTED)
        assert small.num_parameters < 1.5e6 and "demonstration" in room.note(profile)
    assert room.note("gpu") == ""


def test_beta_by_the_rule():
    assert room.loss_beta(1) == 8 * 3 * 32 * 32 == 24_576 and room.label_of(4.0) == "β = 4"


def test_the_size_of_the_pixels_is_that_of_the_data():
    squares = shapes.draw_shapes(uniform(3000, 6)).images.square().mean((1, 2, 3))
    tolerance = 4 * float(squares.std()) / math.sqrt(3000)
    assert abs(float(squares.mean()) - room.PIXEL_STD**2) < tolerance + 1e-3


def test_a_profile_that_does_not_exist_is_refused():
    with refused("profile", "'big'"):
        room.train(profile="big")


# --- pairs ---------------------------------------------------------------------------------------------


def test_pairs_are_labelled_by_bradley_and_terry(monkeypatch):
    """In place of a denoiser's samples: drawn pictures, of loose captions."""
    drawn_from = torch.Generator().manual_seed(0)

    def loose(denoiser, parameters, captions, streams, scheduler, *, steps):
        said = shapes.attributes_of(captions)
        off = 2 * torch.rand(*captions.shape[:-1], 3, generator=drawn_from) - 1
        area = shapes.wanted_area(said) * (0.4 * off[..., 0]).exp()
        return shapes.render(said, area, 5 * off[..., 1:])

    monkeypatch.setattr(room, "sample", loose)
    n = 1500
    drawn = room.draw_pairs(None, torch.zeros(2, 1), SeedStreams([0, 1]), None, count=n, steps=1)
    pairs = drawn.pairs
    assert pairs.chosen.shape == (2, n, 3, 32, 32) and pairs.condition.shape == (2, n, 4)
    rewards = [shapes.exact_reward(images, pairs.condition) for images in (pairs.chosen, pairs.rejected)]
    first = torch.isclose(rewards[0], drawn.reward[:, 0]) & torch.isclose(rewards[1], drawn.reward[:, 1])
    second = torch.isclose(rewards[0], drawn.reward[:, 1]) & torch.isclose(rewards[1], drawn.reward[:, 0])
    assert (first | second).all()
    chance = (drawn.reward[:, 0] - drawn.reward[:, 1]).sigmoid()
    for low, high in ((0, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 1)):
        here = (chance > low) & (chance <= high)
        p, count = float(chance[here].mean()), int(here.sum())
        assert count > 200 and abs(float(first[here].float().mean()) - p) < 4 * math.sqrt(p * (1 - p) / count)
    assert torch.equal(drawn.size, shapes.attributes_of(pairs.condition).size)
    assert not torch.equal(pairs.condition[0], pairs.condition[1])


# --- the tilt ------------------------------------------------------------------------------------------


def test_the_tilt_by_hand():
    """Two sizes: rewards 0 and log 3 in one, -1 and -1 in the other; beta 1."""
    reward = torch.tensor([[0, math.log(3), -1, -1]], dtype=F64)
    size = torch.tensor([[0, 0, 2, 2]])
    found = room.tilt(reward, size, beta=1.0)
    kl = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    by_hand = (0.75 * math.log(3) / 2 - 0.5, kl / 2, (1 / (2 * (0.25**2 + 0.75**2)) + 1) / 2)
    assert [float(x) for x in found] == pytest.approx(by_hand, abs=1e-12)


def test_the_tilt_obeys_the_slope_laws():
    g = torch.Generator().manual_seed(0)
    reward = torch.randn(3, 400, generator=g, dtype=F64)
    size = torch.randint(3, (3, 400), generator=g)
    for beta in (0.5, 2.0):
        h = 1e-5
        up, down = (room.tilt(reward, size, beta=1 / (1 / beta + sign * h)) for sign in (1, -1))
        # dKL / dE[r] = 1 / beta along the Gibbs policies: in the mean over captions as well.
        torch.testing.assert_close(
            (up[1] - down[1]) / (up[0] - down[0]), torch.full((3,), 1 / beta, dtype=F64), rtol=1e-6, atol=0
        )
    warm = room.tilt(reward, size, beta=1e9)
    torch.testing.assert_close(warm[0], reward.mean(-1), rtol=0, atol=1e-6)
    assert (warm[1].abs() < 1e-9).all() and torch.allclose(warm[2], torch.ones(3, dtype=F64))
    shares = [room.tilt(reward, size, beta=beta)[2] for beta in (4.0, 1.0, 0.25)]
    assert (shares[0] > shares[1]).all() and (shares[1] > shares[2]).all()


def test_a_size_without_a_sample_counts_nothing():
    reward, size = torch.tensor([[0.0, 1.0]]), torch.tensor([[1, 1]])
    assert all(bool(x.isfinite().all()) for x in room.tilt(reward, size, beta=1.0))


# --- the drift -----------------------------------------------------------------------------------------


class Shifted:
    """The best denoiser of N(mu, s^2) in every pixel; its parameters are mu and log s."""

    def __init__(self, alpha_bar):
        self.alpha_bar = alpha_bar

    def __call__(self, parameters, xt, timestep, condition=None):
        mu, s = (x.view(-1, 1, 1) for x in (parameters[:, 0], parameters[:, 1].exp()))
        kept = self.alpha_bar[timestep].unsqueeze(-1)
        return (1 - kept).sqrt() * (xt - kept.sqrt() * mu) / (kept * s**2 + 1 - kept)


def test_the_drift_is_the_divergence_where_it_is_known():
    # A schedule that leaves out little: log SNR from 14 down to -14.
    alpha_bar = torch.linspace(14, -14, 1001, dtype=F64).sigmoid()
    levels = room.drift_levels(alpha_bar, 100)
    parameters = torch.tensor([[0.4, 0.0], [-1.0, 0.0], [0.0, math.log(1.5)], [0.3, math.log(0.7)]], dtype=F64)
    reference = torch.zeros(4, 2, dtype=F64)
    streams = SeedStreams(range(4), dtype=F64)
    mu, s = parameters[:, 0].view(-1, 1, 1), parameters[:, 1].exp().view(-1, 1, 1)
    x0, noise = mu + s * streams.normal(2000, 3), streams.normal(2000, 3)
    found = room.drift(Shifted(alpha_bar), parameters, reference, x0, noise, levels)
    by_hand = 3 * ((s**2 + mu**2 - 1) / 2 - s.log()).flatten()
    torch.testing.assert_close(found, by_hand, rtol=0.05, atol=1e-4)
    assert (room.drift(Shifted(alpha_bar), parameters, parameters, x0, noise, levels) == 0).all()


def test_levels_by_hand():
    alpha_bar = torch.tensor([0.9, 0.8, 0.5, 0.3, 0.1], dtype=F64)
    levels = room.drift_levels(alpha_bar, 2)
    log_snr = [math.log(a / (1 - a)) for a in (0.9, 0.5, 0.1)]
    assert levels.timestep == [1, 3] and levels.alpha_bar == [0.8, 0.3]
    assert levels.width == pytest.approx([log_snr[0] - log_snr[1], log_snr[1] - log_snr[2]])
    from diffusers import DDPMScheduler

    schedule = DDPMScheduler(**room.SCHEDULE).alphas_cumprod
    ends = [float((a / (1 - a)).log()) for a in schedule[[0, -1]].double()]
    assert sum(room.drift_levels(schedule, 20).width) == pytest.approx(ends[0] - ends[1])


# --- running -------------------------------------------------------------------------------------------


def test_a_run_leaves_a_record(run):
    record, folder = run
    assert record.status == "finished" and record.methods == ["β = 1", "β = 4"] and record.seeds == [0, 1]
    saved = load(folder, "shapes", "ci")
    curves = saved.curves()
    assert set(curves) == set(room.MEASURED) and all(x.shape == (2, 2, 2) for x in curves.values())
    assert all(np.isfinite(x).all() for x in curves.values()) and list(saved.steps) == [2, 4]
    assert saved.json["unit"] == "steps" if "unit" in saved.json else record.unit == "steps"
    known = saved.json["configuration"]["reference"]
    assert known["drift"] == [0, 0] and len(known["captions"]) == 12 and len(set(known["captions"])) == 12
    assert 0 < known["floor"][0] <= math.log(2) + 1e-5 and 0.5 <= known["ceiling"][0] <= 1
    assert (curves["drift"] > 0).all() and (curves["reward"] <= 0).all()
    assert room.table(saved) == room.table(record) and "demonstration" in room.table(saved)


def test_the_record_shows_pictures_from_the_same_noise(run):
    record, folder = run
    live, saved = record.pictures(), load(folder, "shapes", "ci").pictures()
    assert list(live) == list(saved) == ["reference", "β = 1", "β = 4"]
    assert all(np.array_equal(live[name], saved[name]) and live[name].shape == (12, 32, 32, 3) for name in live)
    changed = np.abs(live["β = 1"].astype(int) - live["reference"])
    assert 0 < changed.mean() < np.abs(live["reference"][1:].astype(int) - live["reference"][:-1]).mean()


def test_references_are_kept_and_taken_up(run, kept, tmp_path, monkeypatch):
    assert sorted(path.stem.split("-")[-1] for path in kept.glob("*.safetensors")) == ["seed0", "seed1"]
    monkeypatch.setattr(room, "denoise", lambda *args, **kwargs: pytest.fail("trained again"))
    again = room.train(profile="ci", folder=tmp_path, quiet=True).curves()
    assert all(np.array_equal(values, again[key]) for key, values in run[0].curves().items())


def test_a_seed_does_not_know_its_neighbours(home, run, monkeypatch):
    monkeypatch.setitem(room.SIZES, "ci", TINY | {"seeds": 1})
    alone = room.train(profile="ci", folder=home, quiet=True).curves()
    for key, values in run[0].curves().items():
        np.testing.assert_allclose(alone[key][:, :, 0], values[:, :, 0], rtol=1e-3, atol=1e-5)


class Stop:
    """A screen on which somebody presses the stop button after so many updates of a record with that name."""

    def __init__(self, name, after):
        self.name, self.left = name, after

    def update(self, record):
        self.left -= record.name.endswith(self.name)
        if self.left < 0:
            raise KeyboardInterrupt

    def close(self, record): ...


def test_an_interrupted_pretraining_keeps_the_seeds_that_were_finished(home, monkeypatch):
    monkeypatch.setattr(live, "_screen", lambda draw, quiet: Stop("seed1", 1))
    record = room.train(profile="ci", folder=home)
    assert record.status == "interrupted" and record.names == ("loss",) and load(home, "shapes", "ci") is None
    assert "stopped at update 2 of 2" in room.table(record)
    assert len(room.draw(record)[1]) > 30
    with refused("stopped while a reference was trained"):
        room.draw_samples(record)
    kept = list((home / "home" / "weights" / "diffusion_dpo").glob("*.safetensors"))
    assert len(kept) == 1 and kept[0].stem.endswith("seed0")


def test_a_pretraining_that_diverges_leaves_no_reference(home, monkeypatch):
    wild = TINY["pretraining"] | {"rate": 1e30}
    monkeypatch.setitem(room.SIZES, "ci", TINY | {"pretraining": wild, "seeds": 1})
    with refused("not finite", "smaller one"):
        room.train(profile="ci", folder=home, quiet=True)
    assert not list(home.rglob("*.safetensors"))


def test_an_interrupted_run_is_saved_and_can_be_drawn(kept, tmp_path, monkeypatch):
    monkeypatch.setattr(live, "_screen", lambda draw, quiet: Stop("shapes", 0))
    record = room.train(profile="ci", folder=tmp_path)
    assert record.status == "interrupted" and load(tmp_path, "shapes", "ci").json["updates"] == 1
    assert "stopped at update 1 of 2" in room.table(record)
    assert len(room.draw(record)[1]) > 30 and len(room.draw_samples(record)[1]) > 30


def test_a_reference_is_known_by_all_it_depends_on():
    one = room.fingerprint(TINY | {"schedule": room.SCHEDULE})
    assert one == room.fingerprint(TINY | {"schedule": dict(room.SCHEDULE), "learning_rate": 1.0, "betas": [2.0]})
    other = TINY | {"pretraining": TINY["pretraining"] | {"steps": 6}}
    assert one != room.fingerprint(other | {"schedule": room.SCHEDULE})
    assert one != room.fingerprint(TINY | {"schedule": room.SCHEDULE | {"beta_schedule": "linear"}})


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda content: content[:-4], "Safetensor"),
        (lambda content: b"", "Safetensor"),
        (lambda content: content[:-4] + b"\x00\x00\xc0\x7f", "not finite"),
    ],
)
def test_damaged_weights_are_refused(tmp_path, damage, word):
    path = tmp_path / "x.safetensors"
    room.write_reference(path, torch.ones(1, 7))
    assert torch.equal(room.read_reference(path, 7), torch.ones(1, 7))
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]
    path.write_bytes(damage(path.read_bytes()))
    with refused(word, "Delete the file"):
        room.read_reference(path, 7)


def test_weights_of_another_network_are_refused(tmp_path):
    room.write_reference(tmp_path / "x.safetensors", torch.ones(1, 7))
    with refused(r"\[1, 7\]", "Delete the file"):
        room.read_reference(tmp_path / "x.safetensors", 8)


def test_nothing_waits_for_the_device():
    settings = room.configuration("ci") | TINY | {"seeds": 1}
    denoiser, streams = room.denoiser_of(settings, CPU), SeedStreams([0])
    reference = denoiser.init(streams)
    look = room.Look(denoiser, denoiser, reference, streams, room.scheduler_of(settings), settings)
    with NoHostSync(), _check.values_unread():
        look.at(reference)


# --- what is shown -------------------------------------------------------------------------------------


def test_the_curves_are_those_of_the_record(run):
    record, folder = run
    for shown in (record, load(folder, "shapes", "ci")):
        figure, alt = room.draw(shown)
        loss, errors, reward, frontier = figure.axes
        curves = record.curves()
        drawn = [line.get_ydata() for line in reward.get_lines()]
        start = room._reference(shown)["reward"]
        for method in range(2):
            for seed in range(2):
                wanted = [start[seed], *curves["reward"][:, method, seed]]
                assert any(len(y) == 3 and np.allclose(y, wanted) for y in drawn)
        assert len(errors.get_lines()) == 9 and len(loss.get_lines()) == 6
        tilted = frontier.get_lines()[0].get_xydata()
        assert tilted[0][0] == 0 and (np.diff(tilted[:, 0]) >= 0).all() and (np.diff(tilted[:, 1]) >= -1e-6).all()
        assert "2 seeds" in alt and f"{np.mean(start):.2f}" in alt and "β = 4" in alt


def test_a_single_run_is_called_one(run):
    single = load(run[1], "shapes", "ci")
    single.seeds = [0]
    assert "a single run" in room.describe(single)


def test_samples_are_drawn_with_captions_and_rewards(run):
    record, folder = run
    figure, alt = room.draw_samples(load(folder, "shapes", "ci"))
    assert len(figure.axes) == 36 and "reference -" in alt and "12 captions" in alt
    said = [axis.get_title(loc="center").replace("\n", " ") for axis in figure.axes[:12]]
    assert [f"a {text}" for text in said] == room._reference(record)["captions"]


def test_the_world_is_shown_with_its_rewards():
    figure, alt = room.draw_world(seed=5)
    drawn = shapes.draw_shapes(uniform(12, 6, seed=5))
    rewards = shapes.exact_reward(drawn.images, drawn.captions)
    for panel, text, reward, image in zip(
        figure.axes, shapes.decode_captions(drawn.captions), rewards, drawn.images, strict=True
    ):
        assert panel.get_xlabel() == f"{reward:.1f}" and f"{text} {reward:.1f}" in alt
        shown = panel.get_images()[0].get_array()
        assert shown.shape == (32, 32, 3) and np.abs(shown / 127.5 - 1 - image.permute(1, 2, 0).numpy()).max() < 0.01


@pytest.mark.parametrize("profile", PROFILES)
def test_the_cost_card_says_what_is_run(profile, monkeypatch):
    monkeypatch.setattr(room.comparisons, "measured", lambda *args: "12 s | 34 MB | a card")
    card = room.cost_card(profile)
    c = room.configuration(profile)
    assert (
        f"| {c['seeds']} | {room.denoiser_of(c, COUNTED).num_parameters:,} |" in card
        and "12 s | 34 MB | a card" in card
    )
    assert ("demonstration" in card) == (profile != "gpu")
