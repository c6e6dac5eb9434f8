"""The real route: Diffusion-DPO with a LoRA on a Stable Diffusion pipeline from a folder, tiny here and random."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file
from typer.testing import CliRunner

from pocourse.diffusion_dpo.training.__main__ import app
from pocourse.diffusion_dpo.training.pairs import cache_latents, identity, read_pairs, write_pairs
from pocourse.diffusion_dpo.training.pipeline import (
    LORA_FILE,
    METRICS,
    Settings,
    _Run,
    add_lora,
    denoising_errors,
    finetune,
    load_pipeline,
    noised_pairs,
    pair_numbers,
    step_draws,
    tiny_pipeline,
)

LOG2 = float(torch.tensor(2.0).log())
QUICK = Settings(beta=500.0, learning_rate=1e-3, warmup=0, batch_size=4, accumulation=1)


def disc(radius, ink, paper):
    image = Image.new("RGB", (32, 32), paper)
    ImageDraw.Draw(image).ellipse((16 - radius, 16 - radius, 16 + radius, 16 + radius), fill=ink)
    return image


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A pipeline, six pairs, and their cache, which all tests share."""
    root = tmp_path_factory.mktemp("route")
    tiny_pipeline(root / "pipeline")
    written = [(f"disc {n}", disc(3 + n, "black", "white"), disc(3 + n, "white", "black")) for n in range(6)]
    write_pairs(root / "pairs", written)
    return root


def run(root, output, settings=QUICK, *, num_steps=4, **options):
    """All records of a run on the CPU."""
    given = {"checkpoint_every": 2, "cache": root / "cache", "cpu": True} | options
    pipeline, pairs = given.pop("pipeline", root / "pipeline"), given.pop("pairs", root / "pairs")
    return list(finetune(pipeline, pairs, output, settings, num_steps=num_steps, **given))


@pytest.fixture(scope="module")
def finished(root):
    """The output of a run of four steps, to be copied and left alone, and its records."""
    return root / "finished", run(root, root / "finished")


def lora(output, step):
    tensors = load_file(output / f"checkpoint-{step:06d}.safetensors")
    return {name.removeprefix("lora."): tensor for name, tensor in tensors.items() if name.startswith("lora.")}


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def altered(folder, name, **changed):
    """Write other values into a JSON of a saved pipeline."""
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    return folder


@pytest.fixture
def other(root, tmp_path):
    return shutil.copytree(root / "pipeline", tmp_path / "pipeline")


# ---------------------------------------------------------------- the pipeline


def test_the_tiny_pipeline_is_saved_loaded_and_draws(root, tmp_path):
    before = torch.random.get_rng_state()
    again = load_pipeline(tiny_pipeline(tmp_path / "again"))
    assert torch.equal(torch.random.get_rng_state(), before)
    loaded = load_pipeline(root / "pipeline")
    assert identity(loaded.unet) == identity(again.unet) and identity(loaded.vae) == identity(again.vae)
    assert identity(loaded.unet) != identity(load_pipeline(tiny_pipeline(tmp_path / "seed", seed=1)).unet)
    loaded.set_progress_bar_config(disable=True)
    image = loaded("a disc", num_inference_steps=2, output_type="np", generator=torch.Generator().manual_seed(0)).images
    assert image.shape == (1, 32, 32, 3) and image.std() > 0.01
    assert loaded.tokenizer("a disc?").input_ids[0] == 0 and len(set(loaded.tokenizer("a disc?").input_ids)) == 8
    assert not any(
        p.requires_grad for part in (loaded.unet, loaded.vae, loaded.text_encoder) for p in part.parameters()
    )


def test_what_is_no_pipeline_is_refused(other):
    with pytest.raises(ValueError, match=r"expected the folder of a saved pipeline.*Nothing is downloaded"):
        load_pipeline("runwayml/stable-diffusion-v1-5")
    with pytest.raises(ValueError, match=r"expected a StableDiffusionPipeline.*got StableDiffusionXLPipeline"):
        load_pipeline(altered(other, "model_index.json", _class_name="StableDiffusionXLPipeline"))
    altered(other, "model_index.json", _class_name="StableDiffusionPipeline")
    with pytest.raises(ValueError, match=r"expected a pipeline that predicts epsilon or v_prediction.*got sample"):
        load_pipeline(altered(other, "scheduler/scheduler_config.json", prediction_type="sample"))
    altered(other, "scheduler/scheduler_config.json", prediction_type="v_prediction")
    load_pipeline(other)
    weights = other / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"expected a whole pipeline"):
        load_pipeline(other)
    (other / "model_index.json").write_text("[]")
    with pytest.raises(ValueError, match=r"expected a model_index.json that names a pipeline"):
        load_pipeline(other)


def test_an_inpainting_unet_is_refused(other):
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(other / "unet")
    UNet2DConditionModel.from_config({**unet.config, "in_channels": 9}).save_pretrained(other / "unet")
    with pytest.raises(ValueError, match=r"expected a UNet that takes the VAE's 4 channels.*got 9"):
        load_pipeline(other)


@pytest.mark.parametrize(
    "wrong",
    [
        {"beta": 0.0},
        {"learning_rate": -1.0},
        {"warmup": -1},
        {"rank": 0},
        {"batch_size": 1.5},
        {"mixed_precision": "x"},
        {"empty_prompts": 1.1},
    ],
)
def test_settings_are_judged(wrong):
    with pytest.raises(ValueError, match=f"expected {next(iter(wrong))}"):
        Settings(**wrong)


# ---------------------------------------------------------------- what is random


def test_every_epoch_is_a_new_order_of_all_pairs():
    stream = pair_numbers(range(50), num_pairs=10, seed=3)
    epochs = [stream[start : start + 10] for start in range(0, 50, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs) and len(set(map(tuple, epochs))) == 5
    assert pair_numbers([47, 12], num_pairs=10, seed=3) == [stream[47], stream[12]]
    assert pair_numbers(range(50), num_pairs=10, seed=4) != stream


def test_draws_depend_on_seed_and_step_alone():
    asked = {"num_pairs": 400, "shape": (4, 2, 2), "num_timesteps": 10}
    one, two = step_draws(5, seed=0, **asked), step_draws(5, seed=0, **asked)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    for other in (step_draws(6, seed=0, **asked), step_draws(5, seed=1, **asked)):
        assert not any(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert set(one.timestep.tolist()) == set(range(10))
    drawn = torch.stack(one[2:])
    assert abs(drawn.mean()) < 4 / math.sqrt(drawn.numel()) and abs(drawn.var() - 1) < 4 * math.sqrt(2 / drawn.numel())
    assert not torch.equal(one.chosen, one.rejected)
    assert one.prompt.min() >= 0 and one.prompt.max() < 1 and abs(one.prompt.mean() - 0.5) < 4 / math.sqrt(12 * 400)


# ---------------------------------------------------------------- the errors


def encoded_and_draws(root, loaded, count=3):
    cached = cache_latents(read_pairs(root / "pairs"), loaded, root / "cache", resolution=32)
    return cached.batch(range(count)), step_draws(0, num_pairs=count, shape=(4, 8, 8), num_timesteps=1000, seed=0)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_a_pair_shares_its_noise_and_its_time_step(root, other, kind):
    loaded = load_pipeline(altered(other, "scheduler/scheduler_config.json", prediction_type=kind))
    encoded, draws = encoded_and_draws(root, loaded)
    noised = noised_pairs(encoded, draws, loaded.scheduler, scaling_factor=2.0)
    keep = loaded.scheduler.alphas_cumprod[draws.timestep].view(3, 1, 1, 1)
    chosen, rejected = noised.xt.chunk(2)
    clean_chosen = 2 * (encoded.chosen_mean + encoded.chosen_std * draws.chosen)
    clean_rejected = 2 * (encoded.rejected_mean + encoded.rejected_std * draws.rejected)
    torch.testing.assert_close(chosen, keep.sqrt() * clean_chosen + (1 - keep).sqrt() * draws.noise)
    torch.testing.assert_close(chosen - rejected, keep.sqrt() * (clean_chosen - clean_rejected), atol=1e-5, rtol=1e-4)
    assert torch.equal(*noised.timestep.chunk(2)) and torch.equal(*noised.embedding.chunk(2))
    if kind == "epsilon":
        assert torch.equal(noised.target, draws.noise.repeat(2, 1, 1, 1))
    else:
        velocity = keep.sqrt() * draws.noise - (1 - keep).sqrt() * clean_rejected
        torch.testing.assert_close(noised.target.chunk(2)[1], velocity)


def test_errors_come_from_one_forward_pass_in_float32(root):
    loaded = load_pipeline(root / "pipeline")
    noised = noised_pairs(*encoded_and_draws(root, loaded), loaded.scheduler, scaling_factor=2.0)
    calls = []

    def unet(xt, timestep, embedding, return_dict):
        calls.append(xt.shape)
        return (loaded.unet(xt, timestep, embedding, return_dict=return_dict)[0].bfloat16(),)

    chosen, rejected = denoising_errors(unet, noised)
    assert calls == [(6, 4, 8, 8)] and chosen.dtype == torch.float32 and chosen.shape == rejected.shape == (3,)
    alone = loaded.unet(noised.xt[4:5], noised.timestep[4:5], noised.embedding[4:5])[0].bfloat16().float()
    torch.testing.assert_close(rejected[1], ((alone - noised.target[4]) ** 2).mean())


def test_a_new_lora_changes_no_answer(root):
    loaded, plain = load_pipeline(root / "pipeline"), load_pipeline(root / "pipeline")
    before = torch.random.get_rng_state()
    parameters = add_lora(loaded.unet, rank=2, seed=7)
    assert torch.equal(torch.random.get_rng_state(), before)
    with torch.random.fork_rng():
        torch.rand(3)  # torch's own generator has no say
        again = add_lora(plain.unet, rank=2, seed=7)
    other = add_lora(load_pipeline(root / "pipeline").unet, rank=2, seed=8)
    assert len(parameters) == 2 * 4 * 2 * 4  # A and B, four projections, two attentions, in four transformers
    assert all(("lora_A" in name) == bool(p.any()) for name, p in parameters.items())
    assert all(torch.equal(p, again[name]) for name, p in parameters.items())
    assert not any(torch.equal(p, other[name]) for name, p in parameters.items() if "lora_A" in name)
    assert {n for n, p in loaded.unet.named_parameters() if p.requires_grad} == set(parameters)
    noised = noised_pairs(*encoded_and_draws(root, loaded), loaded.scheduler, scaling_factor=2.0)
    on = denoising_errors(loaded.unet, noised)
    loaded.unet.disable_adapters()
    off = denoising_errors(loaded.unet, noised)
    assert all(torch.equal(a, b) for a, b in zip(on, off, strict=True))


# ---------------------------------------------------------------- the run


def test_two_steps_are_those_of_a_loop_written_out(root, tmp_path):
    """Plain torch: images through the VAE, W + BA through functional_call, the loss as in its paper, AdamW."""
    settings = Settings(
        beta=500.0,
        learning_rate=1e-3,
        warmup=4,
        rank=3,
        max_grad_norm=0.5,
        batch_size=2,
        accumulation=2,
        empty_prompts=0.5,
    )
    records = run(root, tmp_path, settings, num_steps=2)
    loaded, start = load_pipeline(root / "pipeline"), load_pipeline(root / "pipeline")
    weights = {name: p.detach().clone().requires_grad_() for name, p in add_lora(start.unet, rank=3, seed=0).items()}
    frozen, pairs = dict(loaded.unet.named_parameters()), read_pairs(root / "pairs")
    adam = torch.optim.AdamW(weights.values(), lr=0.0, weight_decay=settings.weight_decay)

    def answered(noised, adapted):
        effective = dict(frozen)
        for name in weights:
            if adapted and "lora_A" in name:
                base = name.replace(".lora_A.default", "")
                effective[base] = frozen[base] + weights[name.replace("lora_A", "lora_B")] @ weights[name]
        return torch.func.functional_call(loaded.unet, effective, (noised.xt, noised.timestep, noised.embedding))[0]

    for step in range(2):
        draws = step_draws(step, num_pairs=4, shape=(4, 8, 8), num_timesteps=1000, seed=0)
        numbers = pair_numbers(range(4 * step, 4 * step + 4), num_pairs=6, seed=0)
        batch = cache_latents(pairs, loaded, root / "cache", resolution=32)
        bare = (draws.prompt < 0.5).tolist()
        assert len(set(bare)) == 2
        batch = batch.batch(numbers, without_prompt=bare)
        noised = noised_pairs(batch, draws, loaded.scheduler, scaling_factor=2.0)
        errors = [((answered(noised, on) - noised.target) ** 2).mean((1, 2, 3)) for on in (True, False)]
        theta_less_ref = errors[0] - errors[1].detach()
        margin = -250.0 * (theta_less_ref[:4] - theta_less_ref[4:])
        loss = (1 + (-margin).exp()).log().mean()
        adam.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(weights.values(), 0.5)
        adam.param_groups[0]["lr"] = 1e-3 * (step + 1) / 4
        adam.step()
        right = ((margin > 0) + (margin == 0) / 2).mean()
        expected = dict(zip(METRICS, (loss, right, *theta_less_ref.view(2, 4).mean(1)), strict=True))
        for name, value in expected.items():
            assert records[step][name] == pytest.approx(float(value.detach()), rel=1e-3, abs=1e-6), name
        assert records[step]["gradient_norm"] == pytest.approx(float(norm), rel=1e-3) and norm > 0.5
        assert records[step]["learning_rate"] == pytest.approx(1e-3 * (step + 1) / 4)
    moved = 1e-3 * (1 + 2) / 4  # at most, by AdamW
    for name, parameter in lora(tmp_path, 2).items():
        torch.testing.assert_close(parameter, weights[name].detach(), rtol=0, atol=0.02 * moved)
        assert (parameter - start.unet.get_parameter(name)).abs().max() > 0.2 * moved


@pytest.mark.parametrize("changed", [{}, {"dropout": 0.5}])
def test_the_first_step_stands_at_the_reference(root, other, tmp_path, changed):
    (first,) = run(root, tmp_path / "out", num_steps=1, pipeline=altered(other, "unet/config.json", **changed))
    assert (first["loss"], first["accuracy"], first["error_chosen"], first["error_rejected"]) == (LOG2, 0.5, 0, 0)
    assert first["gradient_norm"] > 0


@pytest.fixture
def precision_is_free():
    """accelerate keeps the first precision of a process for good."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state()
    yield
    AcceleratorState._reset_state()


def test_half_precision_keeps_the_lora_in_single(root, tmp_path, precision_is_free):
    settings = Settings(**{**vars(QUICK), "mixed_precision": "bf16"})
    first, second = run(root, tmp_path, settings, num_steps=2)
    assert first["loss"] == LOG2 and second["loss"] != LOG2
    trained = lora(tmp_path, 2)
    assert {tensor.dtype for tensor in trained.values()} == {torch.float32}
    # Single precision all the way: the moves of AdamW, 1e-3 a step, are not rounded to those of bfloat16.
    assert any(not torch.equal(tensor, tensor.bfloat16().float()) for tensor in trained.values())


def test_how_a_batch_is_split_changes_only_the_order_of_sums(root, finished, tmp_path):
    whole = finished[1]
    split = run(root, tmp_path / "split", Settings(**{**vars(QUICK), "batch_size": 2, "accumulation": 2}))
    saved = run(root, tmp_path / "saved", gradient_checkpointing=True)
    for one, *others in zip(whole, split, saved, strict=True):
        for name, value in one.items():
            for record in others:
                assert record[name] == pytest.approx(value, rel=2e-3, abs=1e-6), name
    assert whole[1]["loss"] != LOG2


def two_processes(root, output):
    from accelerate.state import AcceleratorState, GradientState

    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    run(Path(root), Path(output), Settings(**{**vars(QUICK), "batch_size": 2}), cache=Path(output) / "cache")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="accelerate's launcher for debugging forks")
def test_two_processes_train_as_one(root, finished, tmp_path):
    from accelerate import debug_launcher

    output, one = finished
    debug_launcher(two_processes, (str(root), str(tmp_path / "two")), num_processes=2)
    lines = (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 4
    for line, record in zip(lines, one, strict=True):
        for name, value in json.loads(line).items():
            assert value == pytest.approx(record[name], rel=2e-3, abs=1e-6), name
    for name, parameter in lora(tmp_path / "two", 4).items():
        torch.testing.assert_close(parameter, lora(output, 4)[name], rtol=0, atol=1e-4)
    assert json.loads((tmp_path / "two" / "run.json").read_text())["processes"] == 2


# ---------------------------------------------------------------- what is left behind


def test_the_lora_is_read_by_the_pipelines_own_loader(root, finished):
    output, _ = finished
    assert sorted(files(output)) == [
        "checkpoint-000002.safetensors",
        "checkpoint-000004.safetensors",
        "metrics.jsonl",
        LORA_FILE,
        "run.json",
    ]

    def drawn(pipeline):
        pipeline.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(0)
        return torch.from_numpy(pipeline("disc 1", num_inference_steps=3, output_type="np", generator=generator).images)

    base, loaded, merged = (load_pipeline(root / "pipeline") for _ in range(3))
    loaded.load_lora_weights(output, weight_name=LORA_FILE)
    trained = lora(output, 4)
    with torch.no_grad():
        for name in trained:
            if "lora_A" in name:
                weight = merged.unet.get_parameter(name.replace(".lora_A.default", ""))
                weight += trained[name.replace("lora_A", "lora_B")] @ trained[name]
    torch.testing.assert_close(drawn(loaded), drawn(merged), rtol=0, atol=1e-5)
    assert (drawn(loaded) - drawn(base)).abs().max() > 1e-3


def test_the_newest_checkpoints_stay(root, tmp_path):
    run(root, tmp_path, num_steps=5, checkpoint_every=1, keep=3)
    assert [name for name in sorted(files(tmp_path)) if name.startswith("checkpoint")] == [
        f"checkpoint-00000{step}.safetensors" for step in (3, 4, 5)
    ]


COMMAND = [
    "-m",
    "pocourse.diffusion_dpo.training",
    "--cpu",
    "--warmup",
    "0",
    "--learning-rate",
    "1e-3",
    "--beta",
    "500",
]
COMMAND += ["--batch-size", "4", "--accumulation", "1", "--checkpoint-every", "4"]


@pytest.mark.slow
def test_a_killed_run_goes_on_bit_for_bit(root, tmp_path):
    """SIGKILL in the middle of the command's run; the same command goes on, with the numbers of a run in one go."""
    killed = tmp_path / "killed"
    metrics, folders = killed / "metrics.jsonl", ["--pipeline", str(root / "pipeline"), "--pairs", str(root / "pairs")]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, *COMMAND, *folders, "--output", str(killed), "--num-steps", "100000"]
    process = subprocess.Popen(command, env=one_thread, stderr=subprocess.DEVNULL)
    try:
        while not (metrics.exists() and metrics.read_bytes().count(b"\n") >= 6):
            assert process.poll() is None
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done, before = metrics.read_bytes().count(b"\n"), files(killed)
    assert done >= 6 and "checkpoint-000004.safetensors" in before and LORA_FILE not in before
    with open(metrics, "a") as file:
        file.write('{"step": 99, "lo')  # a line torn by the kill
    (killed / ".checkpoint-000099.safetensors.123").write_bytes(b"half")  # and a checkpoint
    again = [*COMMAND[2:], *folders, "--num-steps", str(done + 3)]
    for output in (killed, tmp_path / "whole"):
        result = CliRunner().invoke(app, [*again, "--output", str(output)])
        assert result.exit_code == 0, result.output
    whole = files(tmp_path / "whole")
    assert files(killed) == whole and len(whole["metrics.jsonl"].splitlines()) == done + 3
    checkpoints = sorted({*range(4, done + 4, 4), done + 3})[-2:]
    assert set(whole) == {f"checkpoint-{n:06d}.safetensors" for n in checkpoints} | {
        LORA_FILE,
        "metrics.jsonl",
        "run.json",
    }


def test_a_run_that_is_left_goes_on(root, finished, tmp_path):
    output, records = finished
    options = {"num_steps": 4, "checkpoint_every": 2, "cache": root / "cache", "cpu": True}
    for steps in (1, 3):  # before the first checkpoint, and behind it
        stream = finetune(root / "pipeline", root / "pairs", tmp_path, QUICK, **options)
        for _ in range(steps):
            next(stream)
    assert run(root, tmp_path) == records[2:] and files(tmp_path) == files(output)
    # Finished: nothing is left to do, and nothing changes. More steps go on from there.
    assert run(root, tmp_path) == [] and files(tmp_path) == files(output)
    assert len(run(root, tmp_path, num_steps=5)) == 1
    with pytest.raises(ValueError, match=r"expected num_steps of at least 5"):
        run(root, tmp_path)


def test_a_failed_write_leaves_the_checkpoint_before(root, finished, tmp_path, monkeypatch):
    output, records = finished
    real = os.replace

    def fails(part, path):
        if "000004" in str(path):
            raise OSError("no space left")
        real(part, path)

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match=r"no space"):
        run(root, tmp_path)
    monkeypatch.undo()
    assert sorted(files(tmp_path)) == ["checkpoint-000002.safetensors", "metrics.jsonl", "run.json"]
    assert run(root, tmp_path) == records[2:] and files(tmp_path) == files(output)


def test_another_run_is_refused_by_name(root, finished, other, tmp_path):
    out = shutil.copytree(finished[0], tmp_path / "out")
    before = files(out)

    def refused(said, settings=QUICK, **options):
        with pytest.raises(ValueError, match=said):
            run(root, out, settings, **options)
        assert files(out) == before

    refused(r"got other beta \(500.0 then, 250.0 now\)\.", Settings(**{**vars(QUICK), "beta": 250.0}))
    refused(
        r"seed \(0 then, 1 now\); resolution|resolution.*seed", Settings(**{**vars(QUICK), "seed": 1, "resolution": 16})
    )
    pairs = shutil.copytree(root / "pairs", tmp_path / "pairs")
    disc(15, "black", "white").save(pairs / "00003-chosen.png")
    refused(r"got other pairs\.", pairs=pairs)
    loaded = load_pipeline(other)
    with torch.no_grad():
        loaded.unet.conv_in.bias[0] += 1e-6
    loaded.unet.save_pretrained(other / "unet")
    refused(r"got other unet\.", pipeline=other)
    refused(r"got other unet; scheduler\.", pipeline=altered(other, "scheduler/scheduler_config.json", beta_end=0.02))
    # One number in two spellings is one setting.
    assert run(root, out, Settings(**{**vars(QUICK), "beta": 500})) == []


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("run.json", None, "run.json beside a run's other files; it is missing"),
        ("run.json", b"{", "expected a whole .*run.json"),
        ("metrics.jsonl", None, "records of steps 1 to 4"),
        ("metrics.jsonl", b'{"step": 1}\n', "records of steps 1 to 4"),
        ("checkpoint-000004.safetensors", b"half", "expected a whole checkpoint in .*000004.*Delete it"),
    ],
)
def test_damaged_files_of_a_run_are_refused(root, finished, tmp_path, name, content, said):
    out = shutil.copytree(finished[0], tmp_path / "out")
    (out / name).unlink()
    if content is not None:
        (out / name).write_bytes(content)
    with pytest.raises(ValueError, match=said):
        run(root, out)


def test_a_checkpoint_of_another_run_is_refused(root, finished, tmp_path):
    run(root, tmp_path, Settings(**{**vars(QUICK), "beta": 250.0}), num_steps=1)
    shutil.copy(finished[0] / "checkpoint-000004.safetensors", tmp_path)
    with pytest.raises(ValueError, match=r"got checkpoint-000004.safetensors of another one"):
        run(root, tmp_path, Settings(**{**vars(QUICK), "beta": 250.0}))


def test_a_resolution_that_does_not_fit_is_refused(root, tmp_path):
    with pytest.raises(ValueError, match=r"multiple of 4.*Take 32"):
        run(root, tmp_path, Settings(**{**vars(QUICK), "resolution": 30}))
    assert len(run(root, tmp_path, Settings(**{**vars(QUICK), "resolution": 16}), num_steps=1)) == 1


def test_a_loss_that_is_not_finite_ends_the_run(root, tmp_path, monkeypatch):
    real = _Run._loss

    def infinite(self, *args):
        loss, record = real(self, *args)
        return loss, torch.full_like(record, math.inf)

    monkeypatch.setattr(_Run, "_loss", infinite)
    with pytest.raises(ValueError, match=r"expected a finite loss; got inf at step 1"):
        run(root, tmp_path)


def test_a_launcher_that_accumulates_by_itself_is_refused(root, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    with pytest.raises(ValueError, match=r"accelerate's own gradient_accumulation_steps to be 1; got 4"):
        run(root, tmp_path)


def test_the_command_says_what_is_wrong(root, tmp_path):
    asked = ["--pipeline", str(root), "--pairs", str(root / "pairs"), "--output", str(tmp_path)]
    result = CliRunner().invoke(app, [*asked, "--cpu"])
    assert result.exit_code == 2 and "error: expected the folder of a saved pipeline" in result.output
    result = CliRunner().invoke(app, [*asked, "--cpu", "--beta", "-1"])
    assert result.exit_code == 2 and "error: expected beta > 0" in result.output
    assert not list(tmp_path.iterdir())
