"""Chapter 5: what its training cells run on digits, what is known before any training, what is measured and shown."""

import json
import math
import re
import shutil

import numpy as np
import pytest
import torch
from helpers import NoHostSync

from pocourse import _check
from pocourse.diffusion_dpo import diffusion_dpo_loss, training
from pocourse.diffusion_dpo.training import digits
from pocourse.engine import SeedStreams
from pocourse.lesson import live, paths
from pocourse.lesson.bands import interquartile_mean
from pocourse.lesson.records import PreferenceRecord, load
from pocourse.worlds.digits import load_digits
from pocourse.worlds.preferences import INK_MEAN, INK_SD

pytest.importorskip("diffusers")

PROFILES = ("ci", "cpu", "gpu")
ALL = (*digits.COMPARISONS, *digits.RECORDED_ONLY)
CPU = torch.device("cpu")
LOG2 = math.log(2)
TINY = {"seeds": 8, "pairs": 32, "steps": 4, "every": 2, "images": 12, "reference_images": 40, "batch_size": 16}


def refused(*words):
    return pytest.raises(ValueError, match="(?s)" + ".*".join(["expected", *map(re.escape, words)]))


@pytest.fixture
def tiny(monkeypatch):
    """Every profile in miniature."""
    monkeypatch.setitem(digits.FIXED, "sampling_steps", 3)
    for profile in PROFILES:
        monkeypatch.setitem(digits.SIZES, profile, TINY)
        monkeypatch.setitem(digits.UNET_SIZES, profile, TINY | {"seeds": 1})


class Watched:
    """What a run samples before it trains, and what it hands to the loop."""

    def __init__(self, patch):
        self.parameters, self.images, sample, loop = [], [], digits.ddim_sample, digits.preference

        def sampled(denoiser, parameters, *others, **settings):
            found = sample(denoiser, parameters, *others, **settings)
            if not hasattr(self, "pairs"):
                self.parameters.append(parameters)
                self.images.append(found.flatten(2))
            return found

        def watched(denoiser, reference, pairs, *others, **settings):
            self.denoiser, self.reference, self.pairs = denoiser, reference, pairs
            return loop(denoiser, reference, pairs, *others, **settings)

        patch.setattr(digits, "ddim_sample", sampled)
        patch.setattr(digits, "preference", watched)


@pytest.fixture(scope="module")
def ci(tmp_path_factory):
    """The run of the profile ci, its record read back, and what was seen of it."""
    folder = tmp_path_factory.mktemp("digits")
    with pytest.MonkeyPatch.context() as patch:
        seen = Watched(patch)
        record = training.train("digits", profile="ci", folder=folder, quiet=True)
    return record, load(folder, "digits", "ci"), seen


def known_of(record):
    return record.configuration["reference"]


def hand_ink(images):
    """The reward of images [..., 64]."""
    return (((np.asarray(images, dtype=float) + 1) / 2).mean(-1) - INK_MEAN) / INK_SD


def hand_tilt(reward, temperature):
    """What rewards [sample] weigh at a temperature: their mean, its standard error, how many samples are left."""
    weights = np.exp((reward - reward.max()) / temperature)
    weights /= weights.sum()
    mean = (weights * reward).sum()
    return mean, np.sqrt((weights**2 * (reward - mean) ** 2).sum()), 1 / (weights**2).sum()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# --- settings ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", ALL)
def test_every_configuration_can_be_written_down_and_run(name, profile):
    c = json.loads(json.dumps(digits.configuration(name, profile)))
    assert c["objectives"] == {label: digits.in_words(v) for label, v in digits.variants(name).items()}
    assert c["seeds"] == 1 if name == "unet" else c["seeds"] >= 8  # one is drawn as a single run, several as a band
    assert c["steps"] % c["every"] == 0 and c["pairs"] >= c["batch_size"] and c["images"] >= digits.SHOWN


def test_the_variants_are_what_their_labels_say():
    methods = digits.variants("digits")
    assert list(methods) == ["β = 20", "β = 100", "β = 500", "β = 2000", digits.DEAD, digits.SFT]
    assert [v.beta for v in methods.values()] == [20, 100, 500, 2000, 20, None]
    rates = {label: v.rate for label, v in methods.items()}
    assert rates.pop(digits.DEAD) == pytest.approx(10 * rates["β = 20"]) and len(set(rates.values())) == 1
    assert digits.DEAD == "β = 20, step ×10"
    assert digits.variants("unet") == {label: methods[label] for label in ("β = 500", digits.SFT)}
    grid = digits.variants("digits-grid")
    assert len(grid) == len(digits.BETAS) * len(digits.GRID_RATES) == 16
    for label, variant in grid.items():
        assert label == f"β = {variant.beta} at {variant.rate:g}"
    assert {v.rate for v in methods.values()} <= {v.rate for v in grid.values()}


def test_a_variant_in_words():
    assert digits.in_words(digits.Variant(500, 1e-4)) == "diffusion_dpo_loss(beta=500), AdamW, rate 0.0001"
    assert digits.in_words(digits.Variant(0.5, 3e-5)) == "diffusion_dpo_loss(beta=0.5), AdamW, rate 3e-05"
    assert digits.in_words(digits.Variant(None, 1e-3)) == "error_chosen, AdamW, rate 0.001"


def test_the_objective_of_a_variant():
    errors = [torch.tensor([[e, 0.5]], requires_grad=index < 2) for index, e in enumerate((0.1, 0.4, 0.2, 0.3))]
    objective = digits.objective_of(digits.Variant(20, 0.5))
    assert objective.learning_rate == 0.5
    z = -0.5 * 20 * ((0.1 - 0.2) - (0.4 - 0.3))
    torch.testing.assert_close(objective.loss(*errors), torch.tensor([[math.log1p(math.exp(-z)), LOG2]]))
    torch.testing.assert_close(objective.loss(*errors), diffusion_dpo_loss(*errors, beta=20))
    sft = digits.objective_of(digits.Variant(None, 0.25))
    assert sft.learning_rate == 0.25 and sft.loss(*errors) is errors[0]


def test_a_choice_of_ones_own_is_written_down():
    chosen = {"mine": digits.Variant(300, 1e-3)}
    c = digits.configuration("digits", "ci", chosen)
    assert c["objectives"] == {"mine": "diffusion_dpo_loss(beta=300), AdamW, rate 0.001"}
    assert c | {"objectives": 0} == digits.configuration("digits", "ci") | {"objectives": 0}


def test_the_pairs_of_a_run_are_enough_for_a_batch_of_each_profile():
    sizes = [digits.configuration("digits", profile) for profile in PROFILES]
    for key in ("pairs", "steps", "images", "reference_images"):
        assert sizes[0][key] < sizes[1][key] < sizes[2][key]


# --- refusals ------------------------------------------------------------------------------------------


def test_names_that_do_not_exist_are_refused(tmp_path):
    with refused("a comparison", "digits-grid", "'letters'", "Choose one"):
        digits.configuration("letters", "ci")
    with refused("a comparison", "'letters'"):
        digits.variants("letters")
    with refused("a comparison", "'letters'"):
        training.train("letters", profile="ci", folder=tmp_path)
    with refused("a profile", "'big'"):
        training.train("digits", profile="big", folder=tmp_path)
    with refused("no variants for shapes"):
        training.train("shapes", {"a": digits.Variant(1, 1)}, profile="ci", folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_profile_gpu_wants_a_card(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with refused("a CUDA device"):
        training.train("digits", profile="gpu", folder=tmp_path, quiet=True)


def test_more_seeds_than_references_are_refused(tiny, monkeypatch, tmp_path):
    monkeypatch.setitem(digits.SIZES, "ci", TINY | {"seeds": 9})
    with refused("at most 8 seeds", "got 9", "data/make/denoisers.py"):
        training.train("digits", profile="ci", folder=tmp_path, quiet=True)
    assert not list(tmp_path.iterdir())
    with refused("at most 1 seeds", "got 2"):
        digits.reference_of("unet", 2, CPU)


@pytest.mark.parametrize("name", digits.COMPARISONS)
def test_weights_that_are_missing_or_damaged_say_what_to_run(tiny, monkeypatch, tmp_path, name):
    shipped, data, runs = paths.shipped() / "denoisers", tmp_path / "data", tmp_path / "runs"
    monkeypatch.setattr(paths, "shipped", lambda: data)
    with refused("json", "shipped with the course", "`make data`", "install pocourse again"):
        training.train(name, profile="ci", folder=runs, quiet=True)
    shutil.copytree(shipped, data / "denoisers")
    for path in (data / "denoisers").glob("*.safetensors"):
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    with refused("safetensors", "sha256", "`make data`"):
        training.train(name, profile="ci", folder=runs, quiet=True)
    assert not runs.exists()


def test_a_grid_keeps_no_pictures_and_says_so(tiny, monkeypatch, tmp_path):
    monkeypatch.setitem(digits.SIZES, "ci", TINY | {"seeds": 2})
    record = training.train("digits-grid", profile="ci", folder=tmp_path, quiet=True)
    assert record.pictures() == {} and record.methods == list(digits.GRID)
    with refused("a record with pictures", "Take the record of digits or unet"):
        digits.draw_samples(record)
    _, alt = digits.draw_tilt(record)
    assert all(method in words for method in digits.GRID for words in (alt, digits.describe(record)))
    assert digits.table(record).count("\n") == 3 + 16


# --- the run of the profile ci -------------------------------------------------------------------------


def test_the_run_of_ci_finishes_and_is_read_back(ci):
    record, saved, _ = ci
    assert record.status == saved.json["status"] == "finished"
    assert saved.seeds == list(range(8)) and saved.methods == list(digits.METHODS)
    assert list(saved.steps) == list(record.steps) == [20, 40, 60]
    curves, read = record.curves(), saved.curves()
    assert list(curves) == list(read) == list(digits.CURVES)
    for key, values in curves.items():
        assert values.shape == (3, 6, 8) and np.isfinite(values).all()
        np.testing.assert_allclose(read[key], values, rtol=1e-4)
    assert saved.summary() == record.summary()
    assert saved.json["configuration"] == json.loads(json.dumps(record.configuration))
    assert saved.json["configuration"] | {"reference": 0} == digits.configuration("digits", "ci") | {"reference": 0}
    pictures, again = record.pictures(), saved.pictures()
    assert list(again) == ["reference", *digits.METHODS]
    for name, picture in pictures.items():
        assert picture.shape == (12, 8, 8) and np.array_equal(again[name], picture)


def test_the_loop_is_handed_the_shipped_references(ci):
    _, _, seen = ci
    denoiser, reference, schedule = digits.reference_of("digits", 8, CPU)
    assert torch.equal(seen.reference, reference) and denoiser == seen.denoiser
    assert all(torch.equal(parameters, reference) for parameters in seen.parameters)
    assert schedule == {"num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2"}
    assert len({tuple(row[:5].tolist()) for row in reference}) == 8


def test_what_the_record_says_of_the_reference_is_measured_on_its_samples(ci):
    record, _, seen = ci
    known, images = known_of(record), seen.images[-1]
    assert images.shape == (8, 32, 64)
    probabilities = load_digits(paths.shipped() / "digits").logits((images + 1) / 2).softmax(-1).double().numpy()
    mean = probabilities.mean(1)
    by_hand = {
        "reward": hand_ink(images).mean(1),
        "spread": hand_ink(images).std(1, ddof=1),
        "confidence": probabilities.max(-1).mean(1),
        "entropy": -(mean * np.log(mean)).sum(-1),
    }
    for key, values in by_hand.items():
        np.testing.assert_allclose(known[key], values, rtol=1e-4, atol=1e-5)


def test_samples_of_the_reference_are_those_that_its_maker_measured(ci):
    """The shipped weights come with the reward of other samples, by another script."""
    record, _, seen = ci
    made = json.loads((paths.shipped() / "denoisers" / "digits_mlp.json").read_text())["quality"]
    mean, sd = np.array(made["ink_mean"]), np.array(made["ink_sd"])
    others = made["samples_of_a_seed"]
    far = np.abs(np.array(known_of(record)["reward"]) - mean) / (sd * np.sqrt(1 / 32 + 1 / others))
    assert far.max() < 4
    drawn = hand_ink(torch.cat(seen.images[:-2], 1))
    assert drawn.shape == (8, 2 * 256 + 512)
    assert (np.abs(drawn.mean(1) - mean) / (sd * np.sqrt(1 / drawn.shape[1] + 1 / others))).max() < 4


def test_the_pairs_are_samples_of_the_reference_and_its_error_is_the_winners(ci):
    record, _, seen = ci
    chosen, rejected = seen.pairs.chosen, seen.pairs.rejected
    for seed in range(8):
        sampled = {tuple(x.tolist()) for part in seen.images[:-2] for x in part[seed]}
        assert {tuple(x.tolist()) for x in (*chosen[seed, :5], *rejected[seed, :5])} <= sampled
    assert not torch.isclose(chosen, rejected).all(-1).any()
    np.testing.assert_allclose(known_of(record)["winners"], hand_ink(chosen).mean(1), rtol=1e-4, atol=1e-5)
    errors = hand_errors(seen)
    # Both are means over as many draws, of their own.
    far = np.mean(known_of(record)["error"]) - errors.mean()
    assert abs(far) < 4 * math.sqrt(2) * errors.std() / math.sqrt(errors.size)


def test_the_error_of_the_reference_is_that_on_winners_not_on_losers(monkeypatch):
    """Images are all 0.5 or all -0.5, and the brighter one always wins; the noise predicted is x_t + 1."""
    from diffusers import DDPMScheduler

    class PlusOne:
        def __call__(self, parameters, xt, timestep, condition=None):
            return xt + 1

    def sampled(denoiser, parameters, noise, *others, **settings):
        return noise[..., :1].sign().expand_as(noise) / 2

    monkeypatch.setattr(digits, "ddim_sample", sampled)
    scheduler = DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2")
    settings = digits.configuration("digits", "ci") | {"pairs": 800, "reference_images": 8}
    pairs, _, known = digits.drawn(PlusOne(), torch.zeros(2, 1), scheduler, SeedStreams([0, 1]), settings)
    kept = scheduler.alphas_cumprod.double()
    # (noise - x_t - 1)² at a time step is (1 - sqrt(1 - kept))² in the mean, and (sqrt(kept) x_0 + 1)² on top of it.
    own = {x0: (1 - (1 - kept).sqrt()) ** 2 + (kept.sqrt() * x0 + 1) ** 2 for x0 in (0.5, -0.5)}
    for seed in range(2):
        for images, right in ((pairs.chosen, True), (pairs.rejected, False)):
            bright = float((images[seed, :, 0] > 0).double().mean())
            mean = bright * own[0.5].mean() + (1 - bright) * own[-0.5].mean()
            square = bright * (own[0.5] ** 2).mean() + (1 - bright) * (own[-0.5] ** 2).mean()
            noise = math.sqrt((square - mean**2 + 0.2) / 800)  # 0.2: more than the pixels' own noise adds
            assert (abs(known["error"][seed] - mean) < 4 * noise) == right


def hand_errors(seen, seed=12):
    """The reference's errors on the winners, each at a time step and with noise of its own, [seed, pair]."""
    from diffusers import DDPMScheduler

    alpha_bar = DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2").alphas_cumprod
    generator, x0 = torch.Generator().manual_seed(seed), seen.pairs.chosen
    timestep = torch.randint(1000, x0.shape[:2], generator=generator)
    noise = torch.randn(x0.shape, generator=generator)
    kept = alpha_bar[timestep].reshape(*timestep.shape, *[1] * (x0.ndim - 2))
    with torch.no_grad():
        found = seen.denoiser(seen.reference, kept**0.5 * x0 + (1 - kept) ** 0.5 * noise, timestep)
    return ((noise - found) ** 2).flatten(2).mean(-1).double().numpy()


def test_the_labels_agree_with_the_reward_as_often_as_their_gain_says(ci):
    record, _, seen = ci
    difference = hand_ink(seen.pairs.chosen) - hand_ink(seen.pairs.rejected)
    agree, size = difference > 0, np.abs(difference)
    np.testing.assert_allclose(known_of(record)["agreement"], agree.mean(1), rtol=1e-6)
    right = sigmoid(2.0 * size)
    noise = np.sqrt((right * (1 - right)).sum())
    assert abs((agree - right).sum()) < 4 * noise
    # The score of the gain: large differences must not be easier, or harder, than it says.
    assert abs((size * (agree - right)).sum()) < 4 * np.sqrt((size**2 * right * (1 - right)).sum())
    for wrong in (1.0, 4.0):  # the test can tell
        assert abs((agree - sigmoid(wrong * size)).sum()) > 4 * noise


def test_floor_and_ceiling_by_hand(ci):
    record, _, seen = ci
    p = sigmoid(2.0 * (hand_ink(seen.pairs.chosen) - hand_ink(seen.pairs.rejected)))
    assert known_of(record)["floor"] == pytest.approx((-p * np.log(p) - (1 - p) * np.log(1 - p)).mean(), rel=1e-4)
    assert known_of(record)["ceiling"] == pytest.approx(np.maximum(p, 1 - p).mean(), rel=1e-5)
    assert 0 < known_of(record)["floor"] < LOG2 and 0.5 < known_of(record)["ceiling"] < 1


# --- the tilt ------------------------------------------------------------------------------------------


def test_the_tilt_is_a_reweighting_written_out_by_hand(ci):
    from diffusers import DDPMScheduler

    record, _, seen = ci
    reward = hand_ink(torch.cat(seen.images[:-2], 1))
    tilt = known_of(record)["tilt"]
    a = DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2").alphas_cumprod.double().numpy()
    weak = ((a * (1 - a)) ** 2).mean() / (a * (1 - a)).mean()
    assert set(digits.BETAS) <= set(tilt["beta"]) and tilt["beta"] == sorted(tilt["beta"])
    for at, beta in enumerate(tilt["beta"]):
        for seed in range(8):
            warm, _, _ = hand_tilt(2.0 * reward[seed], weak * beta / 64)
            cool, _, left = hand_tilt(2.0 * reward[seed], 0.1 * beta / 64)
            found = [tilt[key][at][seed] for key in ("warm", "cool", "left")]
            np.testing.assert_allclose(found, [warm / 2, cool / 2, left], rtol=2e-3)
    # A larger beta is a warmer policy, and leaves more samples.
    assert (np.diff(tilt["left"], axis=0) > 0).all() and (np.diff(tilt["warm"], axis=0) < 0).all()


def test_the_tilt_of_a_gaussian_reward_is_the_closed_form(monkeypatch):
    """Images 0.1 + noise / 2: the reward is N(m, s²), and at temperature T of twice of it the mean is m + 2 s² / T."""
    from diffusers import DDPMScheduler

    monkeypatch.setattr(digits, "ddim_sample", lambda denoiser, parameters, noise, *a, **k: 0.1 + noise / 2)
    denoiser, reference, schedule = digits.reference_of("digits", 2, CPU)
    settings = digits.configuration("digits", "ci") | {"pairs": 300, "reference_images": 5000, "images": 4}
    streams, betas = SeedStreams([3, 4]), (1234.5, 8000)
    found = digits.drawn(denoiser, reference, DDPMScheduler(**schedule), streams, settings, betas)
    tilt, n = found.known["tilt"], 5600
    assert set(betas) <= set(tilt["beta"]) and found.pairs.chosen.shape == (2, 300, 64)
    mean, variance = (1.1 / 2 - INK_MEAN) / INK_SD, (0.5 / (2 * 8 * INK_SD)) ** 2
    judged = 0
    for at, beta in enumerate(tilt["beta"]):
        for key, temperature in (("warm", 3 / 16 * beta / 64), ("cool", 0.1 * beta / 64)):
            shift = 2 * variance / temperature
            if shift**2 / variance > 1:  # beyond, few samples carry the weight
                continue
            # The variance of the estimate: E[w² (r - mean*)²], w the ratio of densities, r ~ N(mean, variance).
            squared = math.exp(shift**2 / variance) * (variance + shift**2) / n
            for value in tilt[key][at]:
                assert abs(value - (mean + shift)) < 4 * math.sqrt(squared)
                judged += 1
    assert judged >= 16
    # The share that is left is exp(-(shift / s)²).
    at = tilt["beta"].index(8000)
    share = math.exp(-((2 * variance / (0.1 * 8000 / 64)) ** 2) / variance)
    np.testing.assert_allclose(tilt["left"][at], n * share, rtol=0.05)


def test_the_temperatures_by_hand():
    middles = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    found = digits.temperatures(torch.cos(math.pi / 2 * middles) ** 2, 640.0)
    assert found["warm"] == pytest.approx(3 / 16 * 10, rel=1e-6) and found["cool"] == pytest.approx(0.1 * 10)
    assert list(found) == ["warm", "cool"]


def test_the_shipped_schedule_is_nearly_the_cosine():
    from diffusers import DDPMScheduler

    _, _, schedule = digits.reference_of("digits", 1, CPU)
    found = digits.temperatures(DDPMScheduler(**schedule).alphas_cumprod.double(), 64.0)
    assert found["warm"] == pytest.approx(3 / 16, rel=0.02)


def made_up(variants=digits.METHODS, seeds=8, points=(), **known):
    """A record of numbers by hand: ``points`` are dicts of curves, [method]; what is not named is 0.5."""
    known = {
        "reward": [0.25] * seeds, "confidence": [0.9] * seeds, "entropy": [2.2] * seeds, "error": [0.2] * seeds,
        "floor": 0.4, "ceiling": 0.8,
        "tilt": {"beta": [20.0, 100.0, 500.0, 2000.0], "warm": [[4.0] * seeds, [3.0] * seeds, [2.0] * seeds,
                 [1.0] * seeds], "cool": [[5.0] * seeds, [4.0] * seeds, [3.0] * seeds, [2.0] * seeds],
                 "left": [[1.0] * seeds, [29.9] * seeds, [30.0] * seeds, [1e4] * seeds]},
    } | known  # fmt: skip
    record = PreferenceRecord(
        "diffusion_dpo", "digits", profile="ci", methods=list(variants), seeds=range(seeds), steps_per_update=10,
        num_updates=4, configuration=digits.configuration("digits", "ci", variants) | {"reference": known},
        made_by="tests", measured=digits.CURVES,
    )  # fmt: skip
    for point in points:
        curves = {key: point.get(key, [0.5] * len(variants)) for key in digits.CURVES}
        metrics = {key: torch.tensor(values).unsqueeze(1).repeat(1, seeds) for key, values in curves.items()}
        record.add(metrics | {"alive": torch.ones(len(variants), seeds, dtype=torch.bool)})
    return record


def test_a_prediction_is_made_only_where_reweighting_leaves_enough():
    record = made_up()
    found = {method: digits.predicted(record, method) for method in record.methods}
    assert digits.ENOUGH == 30
    nothing = {method: None for method in ("β = 20", "β = 100", digits.DEAD, digits.SFT)}
    assert found == nothing | {"β = 500": (2.0, 3.0), "β = 2000": (1.0, 2.0)}


def test_a_prediction_is_that_of_the_middle_half_of_the_seeds():
    tilt = known_of(made_up())["tilt"]
    one = [-100.0, 1, 2, 3, 4, 5, 6, 100]
    tilt |= {"warm": [one] * 4, "cool": [[10 * x for x in one]] * 4, "left": [[0, 0, 29, 30, 30, 31, 1e9, 1e9]] * 4}
    assert digits.predicted(made_up(tilt=tilt), "β = 500") == (3.5, 35.0)
    tilt["left"] = [[0, 0, 29, 29, 29, 31, 1e9, 1e9]] * 4
    assert digits.predicted(made_up(tilt=tilt), "β = 500") is None


def test_a_prediction_goes_by_the_beta_that_was_run_not_by_the_label():
    record = made_up(
        {"β = 20": digits.Variant(2000, 1e-3), "mine": digits.Variant(500, 1), "its": digits.Variant(None, 1)}
    )
    assert [digits.predicted(record, method) for method in record.methods] == [(1.0, 2.0), (2.0, 3.0), None]
    assert [digits.beta_of(record, method) for method in record.methods] == [2000, 500, None]


def test_betas_of_ones_own_are_predicted_drawn_and_told(tiny, monkeypatch, tmp_path):
    monkeypatch.setattr(digits, "ENOUGH", 1)
    chosen = {
        "mine": digits.Variant(1234.5678, 1e-4),
        "β = 300": digits.Variant(300, 1e-3),
        "copy": digits.Variant(None, 1e-3),
    }
    record = training.train("digits", chosen, profile="ci", folder=tmp_path, quiet=True)
    tilt, betas = known_of(record)["tilt"], [1234.5678, 300.0]
    for method, beta in zip(chosen, betas, strict=False):
        at = tilt["beta"].index(beta)
        by_hand = tuple(float(interquartile_mean(np.array(tilt[side][at]))) for side in ("warm", "cool"))
        assert digits.predicted(record, method) == by_hand
        assert f"| {by_hand[0]:.2f} to {by_hand[1]:.2f} |" in digits.table(record)
    figure, alt = digits.draw_tilt(load(tmp_path, "digits", "ci"))
    np.testing.assert_allclose([x for x, _ in points(figure.axes[0])], betas, rtol=1e-4)
    assert "mine: " in alt and "copy: " in alt and "closed form" in alt
    assert digits.draw(record)[1] == digits.describe(record)


# --- running -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", ["ci", "gpu"])
@pytest.mark.parametrize("name", digits.COMPARISONS)
def test_a_run_leaves_a_record(tiny, tmp_path, monkeypatch, name, profile):
    monkeypatch.setattr("pocourse.lesson.profiles.device", lambda name: CPU)
    record = training.train(name, profile=profile, folder=tmp_path, quiet=True)
    assert record.status == "finished"
    saved, seeds = load(tmp_path, name, profile), 1 if name == "unet" else 8
    assert saved.methods == list(digits.variants(name)) and list(saved.steps) == [2, 4]
    assert all(x.shape == (2, len(saved.methods), seeds) and np.isfinite(x).all() for x in saved.curves().values())
    assert training.table(saved) == training.table(record)
    if profile == "ci":
        for draw in (digits.draw, digits.draw_tilt, digits.draw_samples):
            figure, alt = draw(saved)
            assert (
                figure.axes
                and len(alt) > 30
                and all(method in alt for method in saved.methods if method != digits.DEAD)
            )


@pytest.mark.parametrize("name", digits.COMPARISONS)
def test_the_pictures_are_the_samples_that_are_measured(tiny, tmp_path, name):
    """Twelve images are judged, and twelve are shown: those of the first seed."""
    record = training.train(name, profile="ci", folder=tmp_path, quiet=True)
    last = {"reference": known_of(record)["reward"][0]}
    last |= dict(zip(record.methods, record.curves()["reward"][-1, :, 0], strict=True))
    for method, pictures in record.pictures().items():
        images = 1 - 2 * (pictures.reshape(12, 64) / 255)
        assert hand_ink(images).mean() == pytest.approx(last[method], abs=0.5 / 255 / INK_SD)
    assert len({x.tobytes() for x in record.pictures().values()}) == len(record.methods) + 1


def test_a_method_alone_meets_the_same_chance_as_among_others(tiny, tmp_path):
    chosen = {label: digits.METHODS[label] for label in ("β = 20", "β = 2000", digits.SFT)}
    among = training.train("digits", chosen, profile="ci", folder=tmp_path, quiet=True)
    again = training.train("digits", chosen, profile="ci", folder=tmp_path, quiet=True)
    for key, values in among.curves().items():
        assert np.array_equal(values, again.curves()[key])
    for index, method in enumerate(chosen):
        alone = training.train("digits", {method: chosen[method]}, profile="ci", folder=tmp_path, quiet=True)
        for key, values in among.curves().items():
            np.testing.assert_allclose(alone.curves()[key][:, 0], values[:, index], rtol=1e-3, atol=2e-5)
            if key in ("loss", "reward", "error_chosen"):  # the others are others
                assert not np.allclose(alone.curves()[key][:, 0], values[:, index - 1], rtol=1e-3, atol=2e-5)
        assert known_of(alone)["reward"] == known_of(among)["reward"]


def test_a_seed_does_not_know_its_neighbours(tiny, tmp_path, monkeypatch):
    found = []
    for seeds in (2, 3):
        monkeypatch.setitem(digits.SIZES, "ci", TINY | {"seeds": seeds})
        found.append(training.train("digits", profile="ci", folder=tmp_path, quiet=True))
    for key, values in found[0].curves().items():
        np.testing.assert_allclose(found[1].curves()[key][..., :2], values, rtol=1e-3, atol=2e-5)
    np.testing.assert_allclose(known_of(found[1])["winners"][:2], known_of(found[0])["winners"], rtol=1e-4)


def test_before_the_first_step_every_beta_is_at_log_2_and_the_samples_are_the_references(tiny, tmp_path, monkeypatch):
    """Steps too small to change a number in single precision."""
    monkeypatch.setitem(digits.SIZES, "ci", TINY | {"every": 1, "pairs": 64, "batch_size": 32})
    chosen = {label: variant._replace(rate=1e-14) for label, variant in digits.METHODS.items()}
    seen = Watched(monkeypatch)
    record = training.train("digits", chosen, profile="ci", folder=tmp_path, quiet=True)
    curves, known = record.curves(), known_of(record)
    *betas, sft = range(6)
    for index, variant in zip(betas, chosen.values(), strict=False):
        np.testing.assert_allclose(curves["loss"][:, index], LOG2, atol=variant.beta * 1e-6)
    for key in ("error_chosen", "error_rejected"):
        np.testing.assert_allclose(curves[key], 0, atol=1e-6)
    for key in ("reward", "spread", "confidence", "entropy"):
        np.testing.assert_allclose(curves[key], np.broadcast_to(known[key], (4, 6, 8)), rtol=1e-3, atol=1e-4)
    for pictures in record.pictures().values():
        assert np.abs(pictures.astype(int) - record.pictures()["reference"].astype(int)).max() <= 1
    # What fine-tuning minimises is the winner's error itself: here the reference's.
    errors = [hand_errors(seen, seed) for seed in (1, 2)]
    noise = math.sqrt(np.var(errors) * (1 / np.size(errors) + 1 / (8 * 4 * 32)))
    assert abs(curves["loss"][:, sft].mean() - np.mean(errors)) < 4 * noise
    assert 4 * noise < 0.05 < np.mean(errors) < 0.4 < LOG2


class Stop:
    """A screen on which somebody presses stop at the first update."""

    def update(self, record):
        raise KeyboardInterrupt

    def close(self, record): ...


@pytest.mark.parametrize("name", digits.COMPARISONS)
def test_an_interrupted_run_is_saved_with_what_was_finished(tiny, tmp_path, monkeypatch, name):
    monkeypatch.setattr(live, "_screen", lambda draw, quiet: Stop())
    record = training.train(name, profile="ci", folder=tmp_path)
    saved = load(tmp_path, name, "ci")
    assert record.status == saved.json["status"] == "interrupted"
    assert saved.json["updates"] == 1 and list(saved.steps) == [2]
    assert list(saved.pictures()) == ["reference", *record.methods]
    for x in (record, saved):
        assert training.table(x).startswith("*This run was stopped at update 1 of 2: no final numbers.*")
    for draw in (digits.draw, digits.draw_tilt, digits.draw_samples):
        figure, alt = draw(record)
        assert figure.axes and len(alt) >= 30


def test_a_run_without_an_update_breaks_nothing_and_leaves_an_earlier_record(tiny, tmp_path, monkeypatch):
    training.train("digits", profile="ci", folder=tmp_path, quiet=True)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def stopped(*given, **settings):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(digits, "preference", stopped)
    record = training.train("digits", profile="ci", folder=tmp_path, quiet=True)
    assert record.status == "interrupted" and record.updates == 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    for draw in (digits.draw, digits.draw_tilt, digits.draw_samples):
        figure, alt = draw(record)
        assert figure.axes and len(alt) >= 30
    assert "nothing is finished yet" in digits.describe(record) and "nothing yet" in digits.draw_tilt(record)[1]
    assert list(record.pictures()) == ["reference"]
    table = training.table(record)
    assert "update 0 of 2" in table and table.rstrip().splitlines()[-1].startswith("| reference |")
    with refused("was trained", "got none"):
        digits.given_away(record)


def test_sampling_and_judging_do_not_wait_for_the_device():
    from diffusers import DDPMScheduler

    denoiser, reference, schedule = digits.reference_of("digits", 2, CPU)
    scheduler = DDPMScheduler(**schedule)
    judge = digits.Judge(denoiser, scheduler, SeedStreams(range(2)).normal(3, 64), 4)
    with torch.no_grad(), _check.values_unread(), NoHostSync():
        images = judge.sample(reference.repeat(3, 1))
        measured = judge.measure(images)
    assert images.shape == (6, 3, 64) and {x.shape for x in measured.values()} == {(6,)}
    torch.testing.assert_close(images[:2], images[2:4])  # equal parameters, equal noise


# --- what is shown -------------------------------------------------------------------------------------


def points(panel):
    """The measured points of a panel of draw_tilt."""
    return [(line.get_xdata()[0], line.get_ydata()[0]) for line in panel.lines if line.get_marker() == "o"]


def test_the_table_holds_the_numbers_by_hand():
    point = {
        "loss": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
        "accuracy": [0.51, 0.52, 0.53, 0.54, 0.55, 0.56],
        "error_chosen": [1e-3, 2e-3, 3e-3, 4e-3, 5e-3, 6e-3],
        "error_rejected": [-0.1, -0.2, -0.3, -0.4, -0.5, -0.6],
        "reward": [1.0, 2, 3, 4, 5, 6],
        "confidence": [0.71, 0.72, 0.73, 0.74, 0.75, 0.76],
        "entropy": [2.01, 2.02, 2.03, 2.04, 2.05, 2.06],
    }
    record = made_up(points=[point])
    record.end("finished")
    lines = digits.table(record).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert {len(row) for row in cells} == {9}
    assert cells[2] == ["reference", "0.693", "0.5", "0", "0", "0.25", "", "0.90", "2.20"]
    by_hand = ["β = 500", "0.300", "0.530", "0.0030", "-0.3000", "3.00", "2.00 to 3.00", "0.73", "2.03"]
    assert cells[5] == by_hand
    assert cells[3][6] == cells[4][6] == cells[7][6] == cells[8][6] == "" and cells[6][6] == "1.00 to 2.00"
    assert [row[0] for row in cells[3:]] == list(digits.METHODS)
    words = digits.describe(record)
    assert "β = 500: loss 0.3, accuracy 0.53, reward 3.0, confidence 0.73;" in words and "8 seeds" in words


def test_what_is_no_number_any_more_is_told_and_drawn():
    held = {key: [0.5] * 4 + [math.nan, 0.5] for key in digits.CURVES}
    record = made_up(points=[{}, held])
    row = next(line for line in digits.table(record).splitlines() if line.startswith(f"| {digits.DEAD} |"))
    assert row.count("not finite") == 7 and "nan" not in row and "inf" not in row
    assert f"{digits.DEAD}: loss not finite, accuracy not finite" in digits.describe(record)
    assert digits.draw(record)[1] == digits.describe(record)
    other = made_up({"a": digits.Variant(100, 1), "b": digits.Variant(500, 1)}, points=[{"reward": [math.nan, 0.5]}])
    figure, alt = digits.draw_tilt(other)
    assert "a: not all seeds are finite, and it is not drawn; b: 0.50" in alt
    assert points(figure.axes[0]) == [(500, 0.5)]
    assert digits.given_away(record) == digits.GIVEN_AWAY["all"]


def test_the_dashboard_shows_every_method_once_with_its_band_and_what_is_known(ci):
    record, saved, _ = ci
    known = known_of(record)
    for x, behind in ((record, saved), (saved, None)):
        figure, alt = digits.draw(x, behind=behind)
        assert alt == digits.describe(x) and all(method in alt for method in digits.METHODS)
        assert [panel.get_title("left") for panel in figure.axes] == list(digits.PANELS.values())
        for panel, key in zip(figure.axes, digits.PANELS, strict=True):
            assert len(panel.collections) == (12 if behind else 6)
            ends = [line.get_ydata()[-1] for line in panel.lines[:6]]
            finals = [record.summary()[method][f"final_{key}"]["iqm"] for method in digits.METHODS]
            np.testing.assert_allclose(ends, finals, rtol=1e-3, atol=1e-5)
            level = [line.get_ydata()[0] for line in panel.lines[6:]]
            if key == "error_chosen":
                assert level == [] and panel.get_yscale() == "symlog"
            else:
                name = {"loss": "floor", "accuracy": "ceiling"}.get(key, key)
                assert level == [pytest.approx(np.mean(known[name]))]
    assert len({str(look) for look in digits.LINE.values()}) == len(digits.METHODS)
    assert digits.line_of("β = 500", 0) == digits.line_of("β = 500", 3) and digits.line_of("mine", 9)


def test_a_single_run_is_drawn_as_thin_lines_and_called_so():
    record = made_up(digits.UNET_METHODS, seeds=1, points=[{}, {"loss": [0.6, 0.4]}])
    figure, alt = digits.draw(record)
    assert "thin lines of a single run" in alt and "8 seeds" not in alt
    assert "logarithmic, 1 seed;" in digits.draw_tilt(record)[1]
    assert not any(panel.collections for panel in figure.axes)
    assert [line.get_linewidth() for line in figure.axes[0].lines[:2]] == [1, 1]
    assert [line.get_ydata()[-1] for line in figure.axes[0].lines[:2]] == pytest.approx([0.6, 0.4])


def test_the_tilt_is_drawn_where_it_is_known_beside_what_was_measured(ci):
    record, saved, _ = ci
    tilt, summary = known_of(record)["tilt"], record.summary()
    for x in (record, saved):
        figure, alt = digits.draw_tilt(x)
        (panel,) = figure.axes
        measured = {f"β = {beta}": summary[f"β = {beta}"]["final_reward"]["iqm"] for beta in digits.BETAS}
        np.testing.assert_allclose(points(panel), list(zip(digits.BETAS, measured.values(), strict=True)), rtol=1e-3)
        area = panel.collections[0].get_paths()[0].vertices
        enough = [b for b, left in zip(tilt["beta"], tilt["left"], strict=True) if interquartile_mean(left) >= 30]
        assert area[:, 0].min() == min(enough) > 300 and area[:, 0].max() == max(enough) == max(tilt["beta"])
        low, high = (interquartile_mean(tilt[side][-1]) for side in ("warm", "cool"))
        last = area[area[:, 0] == max(enough), 1]
        assert (last.min(), last.max()) == pytest.approx((float(low), float(high)))
        assert digits.DEAD not in alt  # it is not drawn
        for method, value in measured.items():
            assert f"{method}: {value:.2f}" in alt
        assert f"{digits.SFT}: {summary[digits.SFT]['final_reward']['iqm']:.2f}" in alt
        assert f"the reference has {np.mean(known_of(record)['reward']):.2f}" in alt


def test_where_reweighting_knows_nothing_no_area_is_drawn():
    tilt = known_of(made_up())["tilt"] | {"left": [[1.0] * 8] * 4}
    figure, alt = digits.draw_tilt(made_up(points=[{}], tilt=tilt))
    assert not any(len(path.vertices) > 2 for path in figure.axes[0].collections[0].get_paths())
    assert "closed form 2" not in alt and not any("closed form" in text.get_text() for text in figure.axes[0].texts)


def test_the_samples_stand_in_rows_of_the_same_noise(ci):
    record, saved, seen = ci
    for x in (record, saved):
        figure, alt = digits.draw_samples(x)
        shown = figure.axes[0].images[0].get_array()
        assert shown.shape == (7 * 10, 12 * 10)
        labels = [text.get_text() for text in figure.axes[0].texts]
        assert labels == ["reference", *digits.METHODS] and ", ".join(labels) in alt
        for row, label in enumerate(labels):
            for column in (0, 11):
                cut = shown[10 * row + 1 : 10 * row + 9, 10 * column + 1 : 10 * column + 9]
                assert np.array_equal(cut, record.pictures()[label][column])
    # Dark is ink.
    first = seen.images[-1][0, :12].reshape(12, 8, 8).numpy()
    assert np.abs(record.pictures()["reference"] - 255 * (1 - (first + 1) / 2)).max() < 0.51


def test_what_gives_a_run_away_by_hand():
    """The band of a made-up record is one number."""

    def said(loss, accuracy, error):
        at = list(digits.METHODS).index(digits.DEAD)
        values = {"loss": loss, "accuracy": accuracy, "error_chosen": error}
        point = {key: [0.5] * at + [value, 0.5] for key, value in values.items()}
        return digits.given_away(made_up(points=[point]))

    assert said(0.4, 0.8, 0.06) == digits.GIVEN_AWAY["error"]  # above a quarter of 0.2
    assert said(0.4, 0.8, 0.04) == digits.GIVEN_AWAY["none"]
    assert said(0.7, 0.8, 0.04) == digits.GIVEN_AWAY["loss"]
    assert said(0.4, 0.5, 0.04) == digits.GIVEN_AWAY["accuracy"]
    assert said(0.7, 0.5, 0.06) == digits.GIVEN_AWAY["all"]


def test_the_cost_card_tells_sizes_and_does_not_invent_measurements(monkeypatch, tmp_path):
    for profile in PROFILES:
        card = training.cost_card(profile)
        rows = [line for line in card.splitlines() if line.startswith("|")]
        assert len({row.count("|") for row in rows}) == 1 and f"profile `{profile}`" in card
        for name in digits.COMPARISONS:
            c = digits.configuration(name, profile)
            assert f"| {name} | {len(c['objectives'])} | {c['seeds']} | {c['steps']} | " in card
    for name in digits.COMPARISONS:
        made = digits.recorded(name)
        if made is not None:
            row = next(line for line in training.cost_card("cpu").splitlines() if line.startswith(f"| {name} |"))
            assert f"| {made.json['wall_time_s']:.0f} s | {made.json['peak_memory_mb']} MB |" in row
    monkeypatch.setattr(paths, "recorded_runs", lambda chapter: tmp_path)
    assert training.cost_card("cpu").count("not measured yet") == len(digits.COMPARISONS)


# --- the recorded runs ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped():
    return training.recorded("digits")


@pytest.mark.parametrize("name", ALL)
def test_the_shipped_runs_have_the_settings_of_today(name):
    record = training.recorded(name)
    assert record.json["status"] == "finished"
    now = json.loads(json.dumps(digits.configuration(name, "cpu")))
    assert record.json["configuration"] | {"reference": 0} == now | {"reference": 0}


def finals(record, key):
    return {method: s[f"final_{key}"]["iqm"] for method, s in record.summary().items()}


def test_in_the_shipped_run_every_beta_raises_the_reward(shipped):
    start = np.array(shipped.json["configuration"]["reference"]["reward"])
    last = shipped.curves()["reward"][-1]
    for method, gained in zip(shipped.methods, last - start, strict=True):
        assert (gained > 0).all(), method  # on the same noise, for every seed
    reward = finals(shipped, "reward")
    assert reward["β = 20"] > reward["β = 100"] > reward["β = 500"] > reward["β = 2000"]


def test_in_the_shipped_run_the_dead_one_looks_best_in_what_is_logged(shipped):
    loss, accuracy = (finals(shipped, key) for key in ("loss", "accuracy"))
    del loss[digits.SFT]  # an error, and no loss of a comparison
    assert min(loss, key=loss.get) == max(accuracy, key=accuracy.get) == digits.DEAD
    assert finals(shipped, "entropy")[digits.DEAD] < 1.5
    assert finals(shipped, "error_chosen")[digits.DEAD] > 0.1
    assert digits.given_away(shipped) == digits.GIVEN_AWAY["error"]


def test_in_the_shipped_run_the_largest_beta_is_near_its_closed_form(shipped):
    """Gains over the reference, within a factor of two: the temperatures are an order of magnitude."""
    start = np.mean(shipped.json["configuration"]["reference"]["reward"])
    low, high = (x - start for x in digits.predicted(shipped, "β = 2000"))
    assert 0 < low / 2 < finals(shipped, "reward")["β = 2000"] - start < 2 * high


def test_in_the_shipped_run_every_line_ends_inside_of_its_panel(shipped):
    figure, _ = digits.draw(shipped)
    for panel, key in zip(figure.axes, digits.PANELS, strict=True):
        low, high = panel.get_ylim()
        for method, value in finals(shipped, key).items():
            if (key, method) != ("loss", digits.SFT):  # an error, far below the losses of comparisons
                assert low < value < high, (key, method)
