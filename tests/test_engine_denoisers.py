"""Denoisers row by row, their start, the sampler against its formula, and weights that are kept, lost and damaged."""

import hashlib
import importlib.util
import json
import math
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import NoHostSync

from pocourse import _check
from pocourse.engine import SeedStreams
from pocourse.engine import denoisers as engine
from pocourse.engine.denoisers import (
    ResidualMLP,
    UNetDenoiser,
    ddim_sample,
    flatten,
    load_weights,
    save_weights,
    sines,
    unflatten,
)
from pocourse.lesson import paths
from pocourse.worlds.digits import load_digits
from pocourse.worlds.preferences import class_confidence, class_entropy, ink

ROOT = Path(__file__).parents[1]
SHIPPED = paths.shipped() / "denoisers"
SCRIPT = ROOT / "data" / "make" / "denoisers.py"
F64 = torch.float64
UNET = {
    "sample_size": 8,
    "in_channels": 1,
    "out_channels": 1,
    "block_out_channels": [8, 16],
    "norm_num_groups": 4,
    "down_block_types": ["DownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "UpBlock2D"],
    "layers_per_block": 1,
    "add_attention": False,
}
CONDITIONED = {
    **{key: UNET[key] for key in ("sample_size", "in_channels", "out_channels", "block_out_channels")},
    "norm_num_groups": 4,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "layers_per_block": 1,
    "cross_attention_dim": 6,
    "attention_head_dim": 4,
}


def refused(*words):
    return pytest.raises(ValueError, match="(?s)" + ".*".join(["expected", *words]))


def generator(seed):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0, dtype=F64):
    return torch.randn(*shape, generator=generator(seed), dtype=dtype)


def moved(denoiser, rows, dtype=F64):
    """Parameters away from the start, where no layer is zero."""
    parameters = denoiser.init(SeedStreams(range(rows), dtype=dtype))
    return parameters + 0.1 * normal(*parameters.shape, seed=1, dtype=dtype)


def steps(rows, samples, seed=3):
    return torch.randint(1000, (rows, samples), generator=generator(seed))


@pytest.fixture(scope="module")
def unet():
    return UNetDenoiser.unet2d(**UNET)


@pytest.fixture(scope="module")
def conditioned():
    from diffusers import UNet2DConditionModel

    with torch.random.fork_rng(devices=[]):
        return UNetDenoiser(UNet2DConditionModel(**CONDITIONED))


# --- rows of numbers and named tensors ---------------------------------------------------------------


def test_a_row_and_its_named_tensors_are_the_same_numbers():
    layout = {"a": (2, 3), "b": (4,), "c": (1, 2, 2)}
    row = torch.arange(28.0).reshape(2, 14)
    named = unflatten(row, layout)
    assert {name: tuple(x.shape) for name, x in named.items()} == {"a": (2, 2, 3), "b": (2, 4), "c": (2, 1, 2, 2)}
    assert named["b"].tolist() == [[6, 7, 8, 9], [20, 21, 22, 23]] and named["a"][1, 1].tolist() == [17, 18, 19]
    assert torch.equal(flatten(dict(reversed(named.items())), layout), row)


def test_sines_are_those_of_the_formula():
    found = sines(torch.tensor([[0, 7, 999]]), 6, F64)
    assert found.shape == (1, 3, 6)
    for index, t in enumerate((0, 7, 999)):
        angles = [t, t / 100, t / 10_000]
        wanted = [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        assert found[0, index].tolist() == pytest.approx(wanted, abs=1e-12)
    assert sines(torch.tensor([3]), 2, F64)[0].tolist() == pytest.approx([math.sin(3), math.cos(3)])


# --- the perceptron ------------------------------------------------------------------------------------


def by_hand(w, row, x, t):
    """One image through one row's network in numpy."""

    def silu(v):
        return v / (1 + np.exp(-v))

    w = {name: value[row].numpy() for name, value in w.items()}
    half = len(w["time"]) // 2
    angle = t * np.exp(-math.log(10_000) * np.arange(half) / (half - 1))
    time = silu(np.concatenate([np.sin(angle), np.cos(angle)]) @ w["time"] + w["time_bias"])
    h = x @ w["in"] + time @ w["mix"]
    for index in range(sum(name.startswith("second") for name in w)):
        h = h + silu(h @ w[f"first_{index}"] + w[f"first_{index}_bias"]) @ w[f"second_{index}"]
    more, through = time @ w["factors"]
    return (1 + more) * (silu(h) @ w["out"] + w["out_bias"]) + through * x


def test_the_perceptron_is_that_of_its_formula():
    denoiser = ResidualMLP(5, 7, blocks=2, time_features=6)
    parameters = moved(denoiser, 3)
    x, t = normal(3, 4, 5), steps(3, 4)
    found = denoiser(parameters, x, t)
    w = unflatten(parameters, denoiser.layout)
    for row, sample in ((0, 0), (1, 3), (2, 1)):
        wanted = by_hand(w, row, x[row, sample].numpy(), int(t[row, sample]))
        np.testing.assert_allclose(found[row, sample].numpy(), wanted, rtol=1e-12, atol=1e-13)
    assert denoiser.num_parameters == parameters.shape[1] == sum(v[0].numel() for v in w.values())
    assert not torch.equal(found, denoiser(parameters, x, t.flip(1)))  # time is heard


def test_the_perceptron_starts_with_silence_and_orthogonal_layers():
    denoiser = ResidualMLP(5, 7, blocks=2, time_features=6)
    parameters = denoiser.init(SeedStreams(range(3), dtype=F64))
    assert (denoiser(parameters, normal(3, 4, 5), steps(3, 4)) == 0).all()
    w = unflatten(parameters, denoiser.layout)
    for name in ("first_0", "second_1", "mix"):
        torch.testing.assert_close(w[name].mT @ w[name], torch.eye(7, dtype=F64).expand(3, 7, 7))
    assert all((x == 0).all() for name, x in w.items() if name.endswith("bias") or name in ("factors", "out"))
    # The silence does not last: the head has a gradient.
    leaf = parameters.requires_grad_()
    loss = ((denoiser(leaf, normal(3, 4, 5), steps(3, 4)) - 1) ** 2).sum()
    slope = unflatten(torch.autograd.grad(loss, leaf)[0], denoiser.layout)
    assert (slope["out"].flatten(1).norm(dim=1) > 0).all()


@pytest.mark.parametrize(
    "sizes",
    [{"pixels": 0}, {"width": 0}, {"blocks": 0}, {"time_features": 7}, {"width": 2.5}, {"width": math.nan}],
    ids=str,
)
def test_impossible_sizes_are_refused(sizes):
    with refused():
        ResidualMLP(**{"pixels": 4, "width": 4, **sizes})


def test_the_perceptron_takes_no_condition():
    denoiser = ResidualMLP(4, 4)
    with refused("UNetDenoiser"):
        denoiser(moved(denoiser, 1), normal(1, 2, 4), steps(1, 2), normal(1, 2, 3))


# --- every denoiser --------------------------------------------------------------------------------------


@pytest.fixture(params=["mlp", "unet", "conditioned"])
def case(request, unet, conditioned):
    """A denoiser, its pixels, and the condition of [row, sample]."""
    if request.param == "mlp":
        return ResidualMLP(6, 8, blocks=1, time_features=4), (6,), lambda rows, samples: None
    if request.param == "unet":
        return unet, (1, 8, 8), lambda rows, samples: None
    return conditioned, (1, 8, 8), lambda rows, samples: normal(rows, samples, 2, 6, seed=5)


def test_a_row_does_not_know_its_neighbours(case):
    denoiser, pixels, told = case
    parameters = moved(denoiser, 3).requires_grad_()
    x, t, c = normal(3, 2, *pixels), steps(3, 2), told(3, 2)
    out = denoiser(parameters, x, t, c)
    assert out.shape == x.shape and out.dtype == F64
    alone = denoiser(parameters[1:2], x[1:2], t[1:2], None if c is None else c[1:2])
    torch.testing.assert_close(alone, out[1:2], rtol=1e-10, atol=1e-12)
    (slope,) = torch.autograd.grad(out[1].square().sum(), parameters)
    assert (slope[[0, 2]] == 0).all() and (slope[1] != 0).float().mean() > 0.9


def test_an_image_does_not_know_its_neighbours(case):
    denoiser, pixels, told = case
    parameters = moved(denoiser, 1)
    x, t, c = normal(1, 3, *pixels), steps(1, 3), told(1, 3)
    out = denoiser(parameters, x, t, c)
    alone = denoiser(parameters, x[:, 1:2], t[:, 1:2], None if c is None else c[:, 1:2])
    torch.testing.assert_close(alone, out[:, 1:2], rtol=1e-10, atol=1e-12)


def test_the_gradient_is_that_of_central_differences(case):
    denoiser, pixels, told = case
    parameters = moved(denoiser, 2).requires_grad_()
    x, t, c = normal(2, 2, *pixels), steps(2, 2), told(2, 2)
    direction = normal(*parameters.shape, seed=8)

    def value(at):
        return denoiser(at, x, t, c).sin().sum()

    (slope,) = torch.autograd.grad(value(parameters), parameters)
    step = 1e-5
    with torch.no_grad():
        rise = (value(parameters + step * direction) - value(parameters - step * direction)) / (2 * step)
    torch.testing.assert_close((slope * direction).sum(), rise, rtol=1e-6, atol=1e-6)


def test_a_seeds_start_does_not_depend_on_the_others(case):
    denoiser = case[0]
    together, alone = denoiser.init(SeedStreams([0, 3])), denoiser.init(SeedStreams([3]))
    assert together.shape == (2, denoiser.num_parameters) and together.dtype == torch.float32
    assert torch.equal(together[1:], alone) and not torch.equal(together[0], together[1])


def test_the_forward_does_not_wait_for_the_device(case):
    denoiser, pixels, told = case
    c = told(2, 2)
    call = moved(denoiser, 2), normal(2, 2, *pixels), steps(2, 2), c
    with NoHostSync():
        denoiser(*call)


# --- modules as denoisers ----------------------------------------------------------------------------------


def test_a_unet_says_what_its_module_says(unet):
    x, t = normal(1, 3, 1, 8, 8, dtype=torch.float32), steps(1, 3)
    held = unet.held()
    assert held.shape == (1, unet.num_parameters)
    with torch.no_grad():
        torch.testing.assert_close(unet(held, x, t)[0], unet.module(x[0], t[0]).sample)
    named = unflatten(held, unet.layout)
    for name, value in unet.module.named_parameters():
        assert torch.equal(named[name][0], value)


def test_the_condition_reaches_the_module(conditioned):
    held = conditioned.held()
    x, t = normal(1, 3, 1, 8, 8, dtype=torch.float32), steps(1, 3)
    c = normal(1, 3, 2, 6, dtype=torch.float32)
    with torch.no_grad():
        wanted = conditioned.module(x[0], t[0], encoder_hidden_states=c[0]).sample
        torch.testing.assert_close(conditioned(held, x, t, c)[0], wanted)
        assert not torch.allclose(conditioned(held, x, t, c.flip(1))[0], wanted)


def test_torchs_own_rule_starts_the_layers(unet):
    """Uniform within 1 / sqrt(inputs): variance bound^2 / 3; norms start at one and zero."""
    rows = unflatten(unet.init(SeedStreams(range(40), dtype=F64)), unet.layout)
    for name in ("conv_in.weight", "time_embedding.linear_1.weight", "conv_out.bias"):
        weight = name.removesuffix("bias") + "weight" if name.endswith("bias") else name
        bound = 1 / math.sqrt(math.prod(unet.layout[weight][1:]))
        x = rows[name]
        assert x.abs().max() <= bound and x.abs().max() > 0.9 * bound
        square = x.square().flatten()
        assert abs(square.mean() - bound**2 / 3) < 4 * square.std() / math.sqrt(len(square))
    assert (rows["conv_norm_out.weight"] == 1).all() and (rows["conv_norm_out.bias"] == 0).all()


def test_only_what_requires_a_gradient_is_a_parameter():
    frozen = torch.nn.Linear(3, 3, bias=False).requires_grad_(False)
    module = torch.nn.Sequential(frozen, torch.nn.Dropout(0.5), torch.nn.Linear(3, 3))
    denoiser = UNetDenoiser(module, lambda module, x, t, c: module(x) * (t.unsqueeze(1) + c))
    assert denoiser.layout == {"2.weight": (3, 3), "2.bias": (3,)} and denoiser.num_parameters == 12
    assert not module.training  # else dropout would play dice
    row, x, t, c = normal(1, 12, dtype=torch.float32), normal(1, 4, 3, dtype=torch.float32), steps(1, 4), 2.0
    condition = torch.full((1, 4, 1), c)
    inner = x[0] @ frozen.weight.T @ row[0, :9].view(3, 3).T + row[0, 9:]
    wanted = inner * (t[0].unsqueeze(1) + c)
    torch.testing.assert_close(denoiser(row, x, t, condition)[0], wanted, rtol=1e-4, atol=1e-2)
    with refused("adapter"):
        UNetDenoiser(module.requires_grad_(False))


def test_making_a_unet_leaves_torchs_generator_alone():
    before = torch.get_rng_state()
    UNetDenoiser.unet2d(**UNET)
    assert torch.equal(torch.get_rng_state(), before)


# --- the sampler -----------------------------------------------------------------------------------------


def cosine():
    from diffusers import DDPMScheduler

    return DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2")


def test_ddim_is_that_of_its_formula():
    scheduler = cosine()
    denoiser = ResidualMLP(4, 8, blocks=1, time_features=4)
    parameters, noise = moved(denoiser, 2), normal(2, 3, 4)
    found = ddim_sample(denoiser, parameters, noise, scheduler, num_steps=5)
    x, kept = noise, scheduler.alphas_cumprod.double()
    for t in (800, 600, 400, 200, 0):
        here, there = kept[t], kept[t - 200] if t else torch.tensor(1.0, dtype=F64)
        e = denoiser(parameters, x, torch.full((2, 3), t))
        x0 = ((x - (1 - here).sqrt() * e) / here.sqrt()).clamp(-1, 1)
        x = there.sqrt() * x0 + (1 - there).sqrt() * e
    torch.testing.assert_close(found, x, rtol=1e-5, atol=1e-5)
    assert found.abs().max() <= 1 and scheduler.config.num_train_timesteps == 1000
    assert len(scheduler.timesteps) == 1000  # the scheduler handed in stays as it was


def test_a_gaussian_comes_out_as_it_should():
    """Data N(m, s^2) with its own best denoiser: in many small steps noise z becomes m + s z."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(1000, beta_schedule="squaredcos_cap_v2", clip_sample=False, timestep_spacing="trailing")
    mean, sd, kept = 0.4, 0.3, scheduler.alphas_cumprod.double()

    class Best:
        layout, num_parameters = {"none": (1,)}, 1

        def __call__(self, parameters, xt, timestep, condition=None):
            a = kept[timestep].unsqueeze(-1)
            return (1 - a).sqrt() * (xt - a.sqrt() * mean) / (a * sd**2 + 1 - a)

    noise = torch.linspace(-2, 2, 9, dtype=F64).view(1, 9, 1)
    found = ddim_sample(Best(), torch.zeros(1, 1, dtype=F64), noise, scheduler, num_steps=500)
    torch.testing.assert_close(found, mean + sd * noise, rtol=0, atol=0.01)


def test_samples_of_a_row_do_not_depend_on_the_others():
    denoiser = ResidualMLP(4, 8, blocks=1)
    parameters, noise = moved(denoiser, 3), normal(3, 5, 4)
    together = ddim_sample(denoiser, parameters, noise, cosine(), num_steps=4)
    alone = ddim_sample(denoiser, parameters[1:2], noise[1:2, :2], cosine(), num_steps=4)
    torch.testing.assert_close(alone, together[1:2, :2], rtol=1e-10, atol=1e-12)


def test_the_sampler_asks_with_the_condition_and_without_gradient():
    asked = []

    class Watch:
        layout, num_parameters = {"none": (1,)}, 1

        def __call__(self, parameters, xt, timestep, condition=None):
            asked.append((timestep, condition, torch.is_grad_enabled()))
            return xt

    condition = normal(2, 3, 5)
    ddim_sample(Watch(), torch.zeros(2, 1), normal(2, 3, 1, 8, 8), cosine(), num_steps=3, condition=condition)
    assert [int(t[0, 0]) for t, _, _ in asked] == [666, 333, 0]
    assert all((t == t[0, 0]).all() and t.shape == (2, 3) and t.dtype == torch.int64 for t, _, _ in asked)
    assert all(c is condition and not on for _, c, on in asked)


def test_the_sampler_does_not_wait_for_the_device_and_says_nothing():
    denoiser = ResidualMLP(4, 8, blocks=1)
    parameters, noise, scheduler = moved(denoiser, 2, torch.float32), normal(2, 3, 4, dtype=torch.float32), cosine()
    with NoHostSync(), _check.values_unread(), warnings.catch_warnings():
        warnings.simplefilter("error")
        ddim_sample(denoiser, parameters, noise, scheduler, num_steps=4)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"noise": normal(2, 4)}, "at least 3 axes"),
        ({"noise": normal(3, 5, 4)}, r"parameters in the shape \[3"),
        ({"noise": normal(2, 5, 4) / 0 * 0}, "NaN"),
        ({"num_steps": 0}, "num_steps"),
        ({"num_steps": 1001}, "num_steps"),
    ],
)
def test_bad_sampling_is_refused(changes, word):
    denoiser = ResidualMLP(4, 8, blocks=1)
    call = {"noise": normal(2, 5, 4), "num_steps": 3, **changes}
    with refused(word):
        ddim_sample(denoiser, moved(denoiser, 2), call["noise"], cosine(), num_steps=call["num_steps"])


# --- weights that are kept ---------------------------------------------------------------------------------

RECORD = {"made_by": "a test", "seed": [0, 1, 2], "versions": {"torch": "2"}}
CONFIGURATION = {"pixels": 6, "width": 8, "blocks": 1, "time_features": 4}


@pytest.fixture
def kept(tmp_path):
    denoiser = ResidualMLP(**CONFIGURATION)
    parameters = moved(denoiser, 3, torch.float32)
    save_weights(tmp_path / "denoisers", "small", denoiser, parameters, {**RECORD, "configuration": CONFIGURATION})
    return tmp_path / "denoisers", denoiser, parameters


def test_weights_come_back_in_half_precision(kept):
    folder, denoiser, parameters = kept
    found = load_weights(folder, "small", ResidualMLP)
    assert found.denoiser == denoiser and found.parameters.dtype == torch.float32
    assert torch.equal(found.parameters, parameters.half().float())
    assert sorted(p.name for p in folder.iterdir()) == ["small.json", "small.safetensors"]
    content = (folder / "small.safetensors").read_bytes()
    assert found.record["sha256"] == {"small.safetensors": hashlib.sha256(content).hexdigest()}
    assert found.record["made_by"] == "a test" and found.record["stored_as"] == "float16"


def test_equal_weights_are_equal_bytes(kept):
    folder, denoiser, parameters = kept
    save_weights(folder / "again", "small", denoiser, parameters, {**RECORD, "configuration": CONFIGURATION})
    for name in ("small.json", "small.safetensors"):
        assert (folder / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_many_seeds_go_in_few_files_of_limited_size(tmp_path, monkeypatch):
    denoiser = ResidualMLP(**CONFIGURATION)
    monkeypatch.setattr(engine, "HEADER_BYTES", 4096)
    monkeypatch.setattr(engine, "FILE_BYTES", 4096 + 2 * 2 * denoiser.num_parameters)
    parameters = moved(denoiser, 5, torch.float32)
    record = {**RECORD, "seed": list(range(5)), "configuration": CONFIGURATION}
    save_weights(tmp_path, "many", denoiser, parameters, record)
    files = sorted(tmp_path.glob("*.safetensors"))
    assert [f.name for f in files] == [f"many_{index}.safetensors" for index in range(3)]
    assert all(f.stat().st_size <= engine.FILE_BYTES for f in files)
    assert torch.equal(load_weights(tmp_path, "many", ResidualMLP).parameters, parameters.half().float())


def test_a_unet_comes_back(tmp_path, unet):
    record = {**RECORD, "seed": [0], "configuration": UNET}
    save_weights(tmp_path, "unet", unet, unet.held(), record)
    found = load_weights(tmp_path, "unet", UNetDenoiser.unet2d)
    assert torch.equal(found.parameters, unet.held().half().float()) and found.denoiser.layout == unet.layout


def test_what_cannot_be_kept_is_refused(tmp_path):
    denoiser = ResidualMLP(**CONFIGURATION)
    parameters = moved(denoiser, 3, torch.float32)
    record = {**RECORD, "configuration": CONFIGURATION}
    for bad in (7e4, math.inf, math.nan):
        ill = parameters.clone()
        ill[1, 5] = bad
        with refused("smaller learning rate"):
            save_weights(tmp_path, "small", denoiser, ill, record)
    with refused("shape"):
        save_weights(tmp_path, "small", denoiser, parameters[:2], record)
    with refused("versions, configuration"):
        save_weights(tmp_path, "small", denoiser, parameters, {"made_by": "me", "seed": [0]})
    large = ResidualMLP(64, 512)
    with refused("smaller network"):
        save_weights(tmp_path, "large", large, torch.zeros(3, large.num_parameters), record)
    assert not list(tmp_path.iterdir())


REMEDY = "make data.*install"


@pytest.mark.parametrize("name", ["small.json", "small.safetensors"])
def test_a_lost_file_is_named(kept, name):
    folder = kept[0]
    (folder / name).unlink()
    with refused(REMEDY) as error:
        load_weights(folder, "small", ResidualMLP)
    assert name in str(error.value)


@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b"", lambda b: b[:200] + bytes([b[200] ^ 1]) + b[201:]])
def test_other_bytes_are_found(kept, change):
    path = kept[0] / "small.safetensors"
    path.write_bytes(change(path.read_bytes()))
    with refused(REMEDY) as error:
        load_weights(kept[0], "small", ResidualMLP)
    assert "sha256" in str(error.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda record: "{",
        lambda record: "[]",
        lambda record: "\ufffd",
        lambda record: {**record, "sha256": {}},
        lambda record: {**record, "sha256": "abc"},
        lambda record: {**record, "configuration": {**CONFIGURATION, "width": 0}},
        lambda record: {**record, "configuration": {"cheese": 3}},
        lambda record: {key: value for key, value in record.items() if key != "configuration"},
        lambda record: {**record, "seed": [0, 1]},
        lambda record: {**record, "sha256": {"small.safetensors": 7}},
    ],
)
def test_a_damaged_record_is_found(kept, change):
    path = kept[0] / "small.json"
    changed = change(json.loads(path.read_text(encoding="utf-8")))
    path.write_text(changed if isinstance(changed, str) else json.dumps(changed), encoding="utf-8")
    with refused(REMEDY):
        load_weights(kept[0], "small", ResidualMLP)


def rewritten(folder, tensors):
    """Other tensors under a right hash."""
    from safetensors.torch import save

    content = (
        tensors if isinstance(tensors, bytes) else save({name: x.clone().contiguous() for name, x in tensors.items()})
    )
    (folder / "small.safetensors").write_bytes(content)
    record = json.loads((folder / "small.json").read_text(encoding="utf-8"))
    record["sha256"] = {"small.safetensors": hashlib.sha256(content).hexdigest()}
    (folder / "small.json").write_text(json.dumps(record), encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: w | {"out": w["out"][:, :-1]}, r"out as float16 \['seed', 8, 6\].*\[3, 7, 6\]"),
        (lambda w: w | {"out": w["out"].float()}, r"out as float16.*float32"),
        (lambda w: w | {"out": w["out"][:2]}, "out as float16"),
        (lambda w: w | {"more": w["out"]}, "differ in more"),
        (lambda w: {name: x for name, x in w.items() if name != "mix"}, "differ in mix"),
        (lambda w: w | {"mix": w["mix"] / 0}, "finite numbers in mix"),
        (lambda w: {name: x[:0] for name, x in w.items()}, "as float16"),
        (lambda w: b"no tensors", "as safetensors"),
    ],
)
def test_other_contents_under_a_right_hash_are_found(kept, change, said):
    from safetensors.torch import load_file

    folder = kept[0]
    rewritten(folder, change(load_file(folder / "small.safetensors")))
    with refused(said, REMEDY):
        load_weights(folder, "small", ResidualMLP)


# --- what is shipped, and how it is made -----------------------------------------------------------------

SHIPS = {"digits_mlp": ResidualMLP, "digits_unet": UNetDenoiser.unet2d}


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("make_denoisers", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_file_is_below_a_megabyte_and_named():
    named = {f"{name}.json" for name in SHIPS}
    for name in SHIPS:
        named |= set(json.loads((SHIPPED / f"{name}.json").read_text(encoding="utf-8"))["sha256"])
    assert {path.name for path in SHIPPED.iterdir()} == named
    assert all(path.stat().st_size <= 2**20 for path in SHIPPED.iterdir())


@pytest.mark.parametrize("name", SHIPS)
def test_the_record_says_how_it_was_made(name, script):
    record = load_weights(SHIPPED, name, SHIPS[name]).record
    assert record["made_by"] and {"torch", "diffusers", "scikit-learn", "safetensors"} <= set(record["versions"])
    training, settings = record["training"], script.TRAINING[name]
    assert {key: training[key] for key in settings if key != "seeds"} == {
        key: value for key, value in settings.items() if key != "seeds"
    }
    assert record["seed"] == list(range(settings["seeds"])) and record["configuration"] == script.MAKE[name][1]
    assert record["schedule"] == script.SCHEDULE and record["split"]["trained_on"] == 1437
    assert all(len(record["quality"][key]) == settings["seeds"] for key in ("confidence", "class_entropy", "ink_mean"))


@pytest.mark.parametrize("name", SHIPS)
def test_samples_are_as_good_as_the_record_says(name, script):
    """Other noise than the record's, fewer images of the first seeds: inside of four standard errors."""
    from diffusers import DDPMScheduler

    weights = load_weights(SHIPPED, name, SHIPS[name])
    pixels, quality = script.MAKE[name][2], weights.record["quality"]
    few, count = weights.parameters[:2], 256 if name == "digits_mlp" else 96
    noise = SeedStreams(range(500, 500 + len(few))).normal(count, *pixels)
    samples = ddim_sample(weights.denoiser, few, noise, DDPMScheduler(**weights.record["schedule"]), num_steps=20)
    samples = samples.flatten(2)
    judge, reward = load_digits(paths.shipped() / "digits"), ink(samples)
    for seed in range(len(few)):
        sure = torch.stack([class_confidence(judge, image.unsqueeze(0)) for image in samples[seed]])
        for values, key in ((sure, "confidence"), (reward[seed], "ink_mean")):
            error = float(values.std()) * math.sqrt(1 / count + 1 / quality["samples_of_a_seed"])
            assert float(values.mean()) == pytest.approx(quality[key][seed], abs=4 * error + 1e-4)
    assert class_confidence(judge, samples).min() > 0.85
    assert class_entropy(judge, samples).min() > 2.15 and samples.abs().max() <= 1
    assert ((reward.std(1) > 0.7) & (reward.std(1) < 1.1)).all()


def test_the_records_error_is_that_of_the_weights_and_seeds_differ(script):
    from diffusers import DDPMScheduler

    weights = load_weights(SHIPPED, "digits_mlp", ResidualMLP)
    alpha_bar = DDPMScheduler(**weights.record["schedule"]).alphas_cumprod
    trained_on, held_out = script.split()
    with torch.no_grad():
        for images, kind in ((trained_on, "trained_on"), (held_out, "held_out")):
            found = script.error(weights.denoiser, weights.parameters, images, alpha_bar)
            assert found.tolist() == pytest.approx(weights.record["quality"]["error"][kind], abs=2e-4)
    apart = (weights.parameters.unsqueeze(0) - weights.parameters.unsqueeze(1)).norm(dim=-1)
    off = ~torch.eye(8, dtype=torch.bool)
    assert (apart[off] > 0.5 * weights.parameters.norm(dim=1).mean()).all()


def test_the_measured_error_is_that_of_a_loop(script):
    class Halves:
        layout, num_parameters = {"factor": (1,)}, 1

        def __call__(self, parameters, xt, timestep, condition=None):
            return parameters.view(-1, 1, 1) * xt

    images, alpha_bar = normal(7, 5, dtype=torch.float32), torch.linspace(0.9, 0.1, 10)
    found = script.error(Halves(), torch.tensor([[0.5], [1.0]]), images, alpha_bar)
    noise = SeedStreams([script.SAMPLE_SEED]).normal(script.TRIALS, 5)[0]
    for row, factor in enumerate((0.5, 1.0)):
        total = 0.0
        for trial in range(script.TRIALS):
            a = float(alpha_bar[trial % 10])
            xt = a**0.5 * images[trial % 7] + (1 - a) ** 0.5 * noise[trial]
            total += float(((factor * xt - noise[trial]) ** 2).mean())
        assert float(found[row]) == pytest.approx(total / script.TRIALS, rel=1e-4)


TINY = """
import importlib.util, pathlib, sys
spec = importlib.util.spec_from_file_location("make_denoisers", sys.argv[1])
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)
script.SAMPLES, script.TRIALS, script.NUM_STEPS = 16, 32, 2
make, unet, pixels = script.MAKE["digits_unet"]
small = {**unet, "block_out_channels": [8, 8]}
mlp = {"pixels": 64, "width": 8, "blocks": 1, "time_features": 4}
script.MAKE = {"digits_mlp": (script.ResidualMLP, mlp, (64,)), "digits_unet": (make, small, pixels)}
short = {"num_steps": 20, "batch_size": 8, "learning_rate": 1e-2, "average": 0.9}
training = {"digits_mlp": {"seeds": 2, **short}, "digits_unet": {"seeds": 1, **short}}
script.main(pathlib.Path(sys.argv[2]), training=training)
"""


@pytest.mark.slow
def test_the_script_makes_the_same_bytes_twice_at_a_tiny_size(tmp_path):
    folders = tmp_path / "once", tmp_path / "again"
    for folder, threads in zip(folders, "12", strict=True):
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "PYTHONHASHSEED": threads}
        command = [sys.executable, "-c", TINY, str(SCRIPT), str(folder)]
        done = subprocess.run(command, check=True, timeout=500, env=environment, capture_output=True, text=True)
        assert "digits_mlp: step 20, loss" in done.stderr and "digits_unet: step 20, loss" in done.stderr
    names = sorted(path.name for path in folders[0].iterdir())
    assert names == ["digits_mlp.json", "digits_mlp.safetensors", "digits_unet.json", "digits_unet.safetensors"]
    for name in names:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
    record = json.loads((folders[0] / "digits_mlp.json").read_text(encoding="utf-8"))
    assert record["seed"] == [0, 1] and len(record["quality"]["error"]["held_out"]) == 2
    assert record["parameters"] == load_weights(folders[0], "digits_mlp", ResidualMLP).parameters.shape[1]


def test_training_learns_each_seed_its_own_way(script):
    from diffusers import DDPMScheduler

    images = script.split()[0][:64]
    denoiser, alpha_bar = ResidualMLP(64, 32, blocks=1), DDPMScheduler(**script.SCHEDULE).alphas_cumprod
    settings = {"num_steps": 300, "batch_size": 64, "learning_rate": 1e-2, "average": 0.98}
    trained = script.train("tiny", denoiser, images, alpha_bar, seeds=2, **settings)
    start = denoiser.init(SeedStreams(range(2)))
    before, after = (script.error(denoiser, p, images, alpha_bar) for p in (start, trained))
    assert (before > 0.95).all() and (after < 0.45).all() and not torch.equal(trained[0], trained[1])
