"""The real route: Diffusion-DPO on a Stable Diffusion pipeline from a local folder, and on a folder of pairs.

A LoRA on the attention of the UNet is trained; everything else is frozen. The reference is the same UNet with the LoRA
switched off, so no second copy is in memory. VAE and text encoder are needed once, to fill the cache (``pairs``).

What is random is drawn from the seed and the number of the step alone: which pairs, which time steps, which noise. So
there is no state of random numbers to be saved, a run that was killed goes on from its last checkpoint with the very
same steps, and how a batch is split over processes and forward passes changes nothing but the order of sums.

In the output folder lie ``run.json`` (what the run began with), ``metrics.jsonl`` (a line a step),
``checkpoint-NNNNNN.safetensors`` (the LoRA, the optimizer's moments and the step), ``cache/`` and, in the end,
``pytorch_lora_weights.safetensors``, which ``pipeline.load_lora_weights`` reads.
"""

import contextlib
import functools
import hashlib
import json
import os
import string
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from pocourse import _check
from pocourse.diffusion_dpo import diffusion_dpo_loss, diffusion_dpo_margin, implicit_accuracy, squared_error
from pocourse.diffusion_dpo.training.pairs import (
    Cached,
    Encoded,
    cache_latents,
    fingerprint,
    identity,
    read_pairs,
    replace,
)

LORA_FILE, METRICS_FILE, RUN_FILE = "pytorch_lora_weights.safetensors", "metrics.jsonl", "run.json"
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
METRICS = ("loss", "accuracy", "error_chosen", "error_rejected")
PRECISIONS = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
KINDS = ("epsilon", "v_prediction")


@dataclass(frozen=True)
class Settings:
    """What decides a run's numbers, beside the pipeline, the pairs and the number of processes.

    A step takes ``batch_size * accumulation * processes`` pairs: ``batch_size`` of them go through the UNet of a
    process at once. ``warmup`` steps lead up to ``learning_rate``; the first of them is not zero. Gradients are clipped
    to the norm ``max_grad_norm``. A share ``empty_prompts`` of the pairs is trained without its prompt, for the sake of
    classifier-free guidance. ``resolution`` is in pixels, by default the pipeline's own.

    ``beta``, weight decay, clipping and empty prompts are the defaults of the public code of Wallace et al. 2024; that
    beta goes with errors that are means over the D = 16,384 numbers of a latent of 512 x 512 pixels. ``rank`` and
    ``learning_rate`` are those of the commands in the README of diffusers' research example. Batch and warm-up are
    ours.
    """

    beta: float = 5000.0
    learning_rate: float = 1e-5
    warmup: int = 100
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    rank: int = 8
    batch_size: int = 4
    accumulation: int = 4
    empty_prompts: float = 0.2
    resolution: int | None = None
    mixed_precision: str = "no"
    seed: int = 0

    def __post_init__(self):
        _check.number(above=0, beta=self.beta, learning_rate=self.learning_rate, max_grad_norm=self.max_grad_norm)
        _check.number(at_least=0, weight_decay=self.weight_decay)
        _check.number(at_least=0, at_most=1, empty_prompts=self.empty_prompts)
        _whole_numbers(0, warmup=self.warmup, seed=self.seed)
        _whole_numbers(1, rank=self.rank, batch_size=self.batch_size, accumulation=self.accumulation)
        if self.resolution is not None:
            _whole_numbers(1, resolution=self.resolution)
        if self.mixed_precision not in PRECISIONS:
            raise ValueError(
                f"expected mixed_precision among {', '.join(PRECISIONS)}; got {self.mixed_precision!r}. "
                "Most cards want bf16."
            )


class NoisedPairs(NamedTuple):
    """A batch as the UNet meets it: the chosen images' latents first, then the rejected ones', both noised alike."""

    xt: Float[Tensor, "two_pairs channel height width"]
    timestep: Int64[Tensor, "two_pairs"]
    embedding: Float[Tensor, "two_pairs token feature"]
    target: Float[Tensor, "two_pairs channel height width"]


class Draws(NamedTuple):
    """Everything random of one step.

    A time step, a uniform number that says whether the prompt is kept, the noise, and what is drawn from the VAE's two
    posteriors.
    """

    timestep: Int64[Tensor, "pair"]
    prompt: Float[Tensor, "pair"]
    noise: Float[Tensor, "pair channel height width"]
    chosen: Float[Tensor, "pair channel height width"]
    rejected: Float[Tensor, "pair channel height width"]


# ---------------------------------------------------------------- what is random


def pair_numbers(positions: Sequence[int], *, num_pairs: int, seed: int) -> list[int]:
    """Which pairs come at these positions of the endless stream in which every epoch is a new order of all pairs.

    Shapes: none.
    Raises: nothing.
    Source: ours.
    """
    return [_order(seed, at // num_pairs, num_pairs)[at % num_pairs] for at in positions]


def step_draws(step: int, *, num_pairs: int, shape: Sequence[int], num_timesteps: int, seed: int) -> Draws:
    """Everything random of one step, for all its pairs, from the seed and the step's number alone.

    Shapes: timestep [pair], uniform on 0 ... num_timesteps - 1; prompt [pair], uniform on [0, 1); the others
    [pair, channel, height, width], standard normal. ``shape`` is that of one latent. All are on the CPU.
    Raises: nothing.
    Source: ours.
    """
    generator = _generator("noise", seed, step)
    timestep = torch.randint(num_timesteps, (num_pairs,), generator=generator)
    prompt = torch.rand(num_pairs, generator=generator)
    return Draws(timestep, prompt, *torch.randn(3, num_pairs, *shape, generator=generator))


@functools.lru_cache(maxsize=2)
def _order(seed: int, epoch: int, num_pairs: int) -> list[int]:
    return torch.randperm(num_pairs, generator=_generator("order", seed, epoch)).tolist()


def _generator(use: str, seed: int, number: int) -> torch.Generator:
    digest = hashlib.sha256(f"{use} {seed} {number}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


# ---------------------------------------------------------------- the errors


def noised_pairs(encoded: Encoded, draws: Draws, scheduler, *, scaling_factor: float) -> NoisedPairs:
    r"""Both latents of every pair, noised with one noise at one time step.

    .. math:: x_0 = s\,(\mu + \sigma\,u), \qquad x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}\, \epsilon

    s is the VAE's scaling factor. The target is the noise, or for a pipeline that predicts velocities
    sqrt(alpha_bar) noise - sqrt(1 - alpha_bar) x0; its squared error is that of the noise divided by alpha_bar.

    Shapes: encoded and draws [pair, ...] -> [2 pair, ...], the chosen first.
    Raises: nothing.
    Source: Ho et al. 2020 (DDPM, arXiv 2006.11239); that a pair shares its noise and its time step is in the public
    code of Wallace et al. 2024 (Diffusion-DPO, arXiv 2311.12908), SalesforceAIResearch/DiffusionDPO, commit 5233e75.
    """
    chosen = encoded.chosen_mean + encoded.chosen_std * draws.chosen
    rejected = encoded.rejected_mean + encoded.rejected_std * draws.rejected
    x0 = scaling_factor * torch.cat([chosen, rejected])
    noise, timestep = draws.noise.repeat(2, 1, 1, 1), draws.timestep.repeat(2)
    xt = scheduler.add_noise(x0, noise, timestep)
    velocity = scheduler.config.prediction_type == "v_prediction"
    target = scheduler.get_velocity(x0, noise, timestep) if velocity else noise
    return NoisedPairs(xt, timestep, encoded.embedding.repeat(2, 1, 1), target)


def denoising_errors(unet, noised: NoisedPairs) -> tuple[Float[Tensor, "pair"], Float[Tensor, "pair"]]:
    r"""The mean squared error on the chosen and on the rejected image of every pair, from one forward pass.

    .. math:: e = \frac1D \| \epsilon - \epsilon_\theta(x_t, t, c) \|^2

    Shapes: noised [2 pair, ...] -> two tensors [pair], in float32 whatever the UNet computes in.
    Gradient: through the UNet's weights.
    Raises: ValueError on a CPU where the UNet answers NaN.
    Source: Wallace et al. 2024 (Diffusion-DPO, arXiv 2311.12908).
    """
    answered = unet(noised.xt, noised.timestep, noised.embedding, return_dict=False)[0]
    error = squared_error(noised.target.float().flatten(1), answered.float().flatten(1))
    chosen, rejected = error.chunk(2)
    return chosen, rejected


# ---------------------------------------------------------------- the pipeline


def load_pipeline(folder: Path):
    """A Stable Diffusion pipeline from a local folder, in float32, without its safety checker.

    Nothing is looked for anywhere else: names of the hub are refused.

    Shapes: none.
    Raises: ValueError for a folder that is none, for another kind of pipeline (XL, inpainting), for one that predicts
    neither the noise nor the velocity, or where a part is missing or damaged.
    Source: ours, with diffusers' own loader.
    """
    folder, index = Path(folder), Path(folder) / "model_index.json"
    if not index.is_file():
        raise ValueError(
            f"expected the folder of a saved pipeline, with a model_index.json; got {folder}. Nothing is downloaded: "
            "save one there with pipeline.save_pretrained(folder)."
        )
    try:
        kind = json.loads(index.read_text(encoding="utf-8"))["_class_name"]
    except (ValueError, KeyError, TypeError) as error:
        raise _unusable(folder, "a model_index.json that names a pipeline", repr(error)) from error
    if kind != "StableDiffusionPipeline":
        raise _unusable(folder, "a StableDiffusionPipeline", kind)
    with _quiet():
        from diffusers import StableDiffusionPipeline

        try:
            pipeline = StableDiffusionPipeline.from_pretrained(
                folder, local_files_only=True, safety_checker=None, requires_safety_checker=False
            )
        except Exception as error:  # for a missing or damaged part every loader raises something of its own
            raise _unusable(folder, "a whole pipeline", f"{type(error).__name__}: {error}") from error
    unet, vae = pipeline.unet, pipeline.vae
    if (kind := pipeline.scheduler.config.prediction_type) not in KINDS:
        raise _unusable(folder, f"a pipeline that predicts {' or '.join(KINDS)}", kind)
    if unet.config.in_channels != vae.config.latent_channels:
        raise _unusable(
            folder, f"a UNet that takes the VAE's {vae.config.latent_channels} channels", unet.config.in_channels
        )
    for part in (unet, vae, pipeline.text_encoder):
        part.float().eval().requires_grad_(False)
    return pipeline


def add_lora(unet, *, rank: int, seed: int) -> dict[str, torch.nn.Parameter]:
    """A LoRA beside every projection of the UNet's attention; the UNet's answers are the same as before.

    Its scale is one (alpha = rank), which is what loaders take where a file says nothing.

    Shapes: the new parameters by name, A [rank, in], from the seed alone, and B [out, rank], zeros.
    Raises: nothing.
    Source: Hu et al. 2021 (LoRA, arXiv 2106.09685).
    """
    from peft import LoraConfig

    with torch.random.fork_rng(devices=[]):  # peft draws from torch's own generator
        torch.random.default_generator.manual_seed(seed)
        unet.requires_grad_(False)
        unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=list(ATTENTION)))
    return {name: parameter for name, parameter in unet.named_parameters() if parameter.requires_grad}


def tiny_pipeline(folder: Path, *, seed: int = 0) -> Path:
    """Save a Stable Diffusion pipeline of a quarter of a million random weights: it draws nothing, and does so at once.

    Its images have 32 x 32 pixels, its latents 4 x 8 x 8, its tokens are single characters.

    Shapes: none. Returns the folder.
    Raises: nothing.
    Source: ours.
    """
    folder = Path(folder)
    with _quiet(), torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as words:
        from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
        from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

        torch.random.default_generator.manual_seed(seed)
        characters = string.ascii_lowercase + string.digits + ".,-'!?"
        tokens = ["<|startoftext|>", "<|endoftext|>", *(c + end for c in characters for end in ("", "</w>"))]
        vocabulary = json.dumps({token: number for number, token in enumerate(tokens)})
        Path(words, "vocab.json").write_text(vocabulary, encoding="utf-8")
        Path(words, "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
        tokenizer = CLIPTokenizer.from_pretrained(words, local_files_only=True, model_max_length=77)
        text = CLIPTextConfig(
            vocab_size=len(tokens),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=77,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
        vae = AutoencoderKL(
            sample_size=32,
            block_out_channels=(8, 8, 16),
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            latent_channels=4,
            norm_num_groups=4,
            scaling_factor=2.0,
        )
        with torch.no_grad():
            vae.quant_conv.bias[4:] -= 8  # as a trained VAE: its posterior is narrow
        unet = UNet2DConditionModel(
            sample_size=8,
            layers_per_block=1,
            block_out_channels=(16, 32),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=32,
            attention_head_dim=8,
            norm_num_groups=8,
        )
        scheduler = DDPMScheduler(
            beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, steps_offset=1
        )
        StableDiffusionPipeline(
            vae=vae,
            text_encoder=CLIPTextModel(text),
            tokenizer=tokenizer,
            unet=unet,
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        ).save_pretrained(folder)
    return folder


# ---------------------------------------------------------------- the run


def finetune(
    pipeline: Path,
    pairs: Path,
    output: Path,
    settings: Settings | None = None,
    *,
    num_steps: int = 2000,
    checkpoint_every: int = 100,
    keep: int = 2,
    cache: Path | None = None,
    gradient_checkpointing: bool = False,
    cpu: bool = False,
) -> Iterator[dict[str, float]]:
    """Train a LoRA on a folder of pairs, step by step; where ``output`` holds the same run already, go on with it.

    Everything is judged, loaded and encoded before this returns; then every ``next`` is one step of the optimizer. At
    the end the LoRA is written. A step's record holds ``step``, from 1; ``loss`` in nats; the implicit ``accuracy``;
    ``error_chosen`` and ``error_rejected``, mean squared errors less those of the reference; ``gradient_norm`` before
    clipping; ``learning_rate``. It is in ``metrics.jsonl`` before it is yielded.

    A checkpoint is written every ``checkpoint_every`` steps and at the last; the newest ``keep`` stay. Started again
    with the same pipeline, pairs and settings, the run goes on from the newest one, with the numbers it would have had:
    bit for bit on a CPU, and on a card as far as its kernels add in a fixed order. ``num_steps`` may be larger than
    before. The UNet is in the mode of evaluation all along, for theta and the reference: no dropout.

    ``cache`` is where latents and embeddings lie, by default inside ``output``; several runs may share one. Under
    accelerate's launcher every process calls this; on several machines the folders must be shared.
    ``gradient_checkpointing`` trades time for memory. ``cpu`` leaves an accelerator unused.

    Shapes: none.
    Raises: ValueError for what ``load_pipeline`` and ``read_pairs`` refuse; where ``output`` holds a run that began
    with other settings, data or networks, which are named, or damaged files; for a resolution that the VAE cannot
    shrink; for a launcher configured to more than whole copies of the UNet; and at a step whose loss is not finite.
    Source: Wallace et al. 2024 (Diffusion-DPO, arXiv 2311.12908); the reference without a copy as in diffusers'
    research example train_diffusion_dpo.py.
    """
    from accelerate import Accelerator

    settings = Settings() if settings is None else settings
    _whole_numbers(1, num_steps=num_steps, checkpoint_every=checkpoint_every, keep=keep)
    examples, output = read_pairs(pairs), Path(output)
    loaded = load_pipeline(pipeline)
    accelerator = Accelerator(mixed_precision=settings.mixed_precision, cpu=cpu)
    _plain(accelerator)
    resolution = _resolution(settings, loaded)
    began = _began_with(settings, loaded, examples, resolution, accelerator.num_processes)
    _refuse_another(output, began)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        replace(output / RUN_FILE, (json.dumps(began, indent=1) + "\n").encode())
    cached = cache_latents(
        examples,
        loaded,
        output / "cache" if cache is None else Path(cache),
        resolution=resolution,
        device=accelerator.device,
        share=(accelerator.process_index, accelerator.num_processes),
    )
    accelerator.wait_for_everyone()
    run = _Run(accelerator, loaded, cached, settings, output, fingerprint(began), gradient_checkpointing)
    start = run.resume()
    if start > num_steps:
        raise ValueError(
            f"expected num_steps of at least {start}, which the run in {output} has taken already; got {num_steps}. "
            "Ask for more steps, or choose another output."
        )
    accelerator.wait_for_everyone()
    return _steps(run, start, num_steps, checkpoint_every, keep)


def _steps(run: "_Run", start: int, num_steps: int, checkpoint_every: int, keep: int) -> Iterator[dict[str, float]]:
    for step in range(start, num_steps):
        record = run.step(step)
        run.write(record)
        if (step + 1) % checkpoint_every == 0 or step + 1 == num_steps:
            run.checkpoint(step + 1, keep=keep)
        yield record
    run.save_lora()
    run.accelerator.end_training()


class _Run:
    """One training run: the networks, the optimizer, and the files it leaves behind."""

    def __init__(
        self,
        accelerator,
        loaded,
        cached: Cached,
        settings: Settings,
        output: Path,
        began: str,
        gradient_checkpointing: bool,
    ):
        from diffusers import DDPMScheduler

        self.accelerator, self.cached, self.settings = accelerator, cached, settings
        self.output, self._began = output, began
        # Of the pipeline's scheduler only the noise levels are needed, and every kind has those in its config.
        with _quiet():
            self.scheduler = DDPMScheduler.from_config(loaded.scheduler.config)
        self.scaling_factor, self._latent = loaded.vae.config.scaling_factor, cached.batch([0]).chosen_mean.shape[1:]
        self.dtype = PRECISIONS[settings.mixed_precision]
        self.base = loaded.unet.eval()
        self.lora = add_lora(self.base, rank=settings.rank, seed=settings.seed)
        for parameter in self.base.parameters():  # what the optimizer moves stays in full precision
            if not parameter.requires_grad:
                parameter.data = parameter.data.to(self.dtype)
        if gradient_checkpointing:
            self.base.enable_gradient_checkpointing()
        adam = torch.optim.AdamW(
            self.lora.values(), lr=settings.learning_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.999)
        )
        self.unet, self.optimizer = accelerator.prepare(self.base, adam)

    def step(self, step: int) -> dict[str, float]:
        """One step of the optimizer; ``step`` counts from 0."""
        s, of, me = self.settings, self.accelerator.num_processes, self.accelerator.process_index
        count = s.batch_size * s.accumulation * of
        numbers = pair_numbers(range(step * count, (step + 1) * count), num_pairs=len(self.cached), seed=s.seed)
        draws = step_draws(
            step,
            num_pairs=count,
            shape=self._latent,
            num_timesteps=self.scheduler.config.num_train_timesteps,
            seed=s.seed,
        )
        rate = s.learning_rate * min(1.0, (step + 1) / max(1, s.warmup))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        measured = []
        for part in range(s.accumulation):
            mine = slice((part * of + me) * s.batch_size, (part * of + me + 1) * s.batch_size)
            last = part == s.accumulation - 1
            # Processes exchange gradients once a step.
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.unet):
                loss, record = self._loss(numbers[mine], Draws(*(drawn[mine] for drawn in draws)))
                self.accelerator.backward(loss / s.accumulation)
            measured.append(record)
        norm = self.accelerator.clip_grad_norm_(list(self.lora.values()), s.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        means = self.accelerator.reduce(torch.stack(measured).mean(0), reduction="mean").tolist()
        record = {"step": step + 1} | dict(zip(METRICS, means, strict=True))
        record |= {"gradient_norm": float(norm), "learning_rate": rate}
        if not all(map(_finite, means)):
            raise ValueError(
                f"expected a finite loss; got {record['loss']} at step {step + 1}. Take a smaller "
                "learning_rate, or bf16 in place of fp16, and another output."
            )
        return record

    def _loss(self, numbers: Sequence[int], draws: Draws) -> tuple[Tensor, Float[Tensor, "metric"]]:
        device = self.accelerator.device
        without_prompt = (draws.prompt < self.settings.empty_prompts).tolist()
        encoded = self.cached.batch(numbers, without_prompt=without_prompt)
        encoded = Encoded(*(tensor.to(device) for tensor in encoded))
        draws = Draws(*(tensor.to(device) for tensor in draws))
        noised = noised_pairs(encoded, draws, self.scheduler, scaling_factor=self.scaling_factor)
        noised = noised._replace(xt=noised.xt.to(self.dtype), embedding=noised.embedding.to(self.dtype))
        # First, since peft freezes the LoRA while it is off, and the gradient must find it as the forward pass did.
        self.base.disable_adapters()
        with torch.no_grad():
            reference = denoising_errors(self.base, noised)
        self.base.enable_adapters()
        errors = denoising_errors(self.unet, noised)
        loss = diffusion_dpo_loss(*errors, *reference, beta=self.settings.beta)
        with torch.no_grad():
            margin = diffusion_dpo_margin(*errors, *reference, beta=self.settings.beta)
            measured = (loss, implicit_accuracy(margin), *(e - r for e, r in zip(errors, reference, strict=True)))
            means = torch.stack([values.mean() for values in measured])
        return loss.mean(), means

    def write(self, record: dict[str, float]) -> None:
        """Append a step's record to the metrics: a line is with the system before the next step begins."""
        if self.accelerator.is_main_process:
            with open(self.output / METRICS_FILE, "a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")

    def checkpoint(self, step: int, *, keep: int) -> None:
        """Write everything that the next step needs, as one file; then let the oldest go."""
        from safetensors.torch import save

        if not self.accelerator.is_main_process:
            return
        tensors = {f"lora.{name}": parameter for name, parameter in self.lora.items()}
        for number, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": tensor for name, tensor in state.items()}
        # One entry: safetensors writes several in any order, and the same run shall end in the same bytes.
        known = {"run": json.dumps({"step": step, "began": self._began, "scaler": self._scaler.state_dict()})}
        with open(self.output / METRICS_FILE, "ab") as file:
            os.fsync(file.fileno())  # the records come before the checkpoint that counts on them
        content = save({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, metadata=known)
        replace(self.output / f"checkpoint-{step:06d}.safetensors", content)
        for path in _checkpoints(self.output)[:-keep]:
            path.unlink()

    def resume(self) -> int:
        """Go back to the newest checkpoint, if there is one, and say how many steps it has seen."""
        from safetensors import SafetensorError, safe_open

        written, tensors, step = _checkpoints(self.output), {}, 0
        if written:
            try:
                with safe_open(written[-1], framework="pt") as file:
                    known = json.loads(file.metadata()["run"])
                    tensors = {name: file.get_tensor(name) for name in file.keys()}
                step = known["step"]
            except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
                raise ValueError(
                    f"expected a whole checkpoint in {written[-1]}; got {error!r}. Delete it: the run goes on from the "
                    "one before."
                ) from error
            if known["began"] != self._began:
                raise ValueError(
                    f"expected checkpoints of the run that {RUN_FILE} describes; got {written[-1].name} of another "
                    "one. Choose another output."
                )
            self._restore(tensors, known["scaler"])
        if self.accelerator.is_main_process:
            self._cut_metrics(step)
            for part in self.output.glob(".checkpoint-*.safetensors.*"):  # what a kill left half written
                part.unlink()
        return step

    def _restore(self, tensors: dict[str, Tensor], scaler: dict) -> None:
        state: dict[int, dict[str, Tensor]] = {}
        with torch.no_grad():
            for name, tensor in tensors.items():
                kind, _, rest = name.partition(".")
                if kind == "lora":
                    self.lora[rest].copy_(tensor)
                else:
                    number, _, moment = rest.partition(".")
                    state.setdefault(int(number), {})[moment] = tensor
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})
        self._scaler.load_state_dict(scaler)

    def _cut_metrics(self, step: int) -> None:
        """Leave the records up to a step, without what a kill may have torn behind them."""
        path = self.output / METRICS_FILE
        lines = path.read_bytes().splitlines(keepends=True)[:step] if path.exists() else []
        try:
            found = [json.loads(line)["step"] for line in lines]
        except (ValueError, KeyError, TypeError):
            found = None
        if found != list(range(1, step + 1)):
            raise ValueError(
                f"expected the records of steps 1 to {step} in {path}; they are not all there. Put the file back, or "
                "choose another output."
            )
        replace(path, b"".join(lines))

    def save_lora(self) -> None:
        """Write the LoRA as ``pipeline.load_lora_weights`` reads it."""
        from diffusers import StableDiffusionPipeline
        from diffusers.utils import convert_state_dict_to_diffusers
        from peft import get_peft_model_state_dict

        if self.accelerator.is_main_process:
            layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(self.base))
            layers = {name: tensor.detach().cpu().contiguous() for name, tensor in layers.items()}
            with tempfile.TemporaryDirectory() as folder:
                StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=layers)
                replace(self.output / LORA_FILE, Path(folder, LORA_FILE).read_bytes())
        self.accelerator.wait_for_everyone()

    @property
    def _scaler(self):
        return self.accelerator.scaler or _NoScaler()


class _NoScaler:
    """What stands for the scaler of fp16 gradients where there is none."""

    def state_dict(self) -> dict:
        return {}

    def load_state_dict(self, state: dict) -> None:
        pass


# ---------------------------------------------------------------- what a run began with


def _began_with(settings: Settings, loaded, pairs, resolution: int, processes: int) -> dict:
    noise = loaded.scheduler.alphas_cumprod.tolist()
    # 5000 and 5000.0 are one setting, and two texts.
    numbers = {field.name: float(getattr(settings, field.name)) for field in fields(settings) if field.type is float}
    return {
        "settings": asdict(settings) | numbers | {"resolution": resolution},
        "processes": processes,
        "pairs": fingerprint(*((pair.prompt, pair.chosen.sha256, pair.rejected.sha256) for pair in pairs)),
        "unet": identity(loaded.unet),
        "vae": fingerprint(identity(loaded.vae), loaded.vae.config.scaling_factor),
        "text_encoder": identity(loaded.text_encoder),
        "scheduler": fingerprint(noise, loaded.scheduler.config.prediction_type),
    }


def _refuse_another(output: Path, began: dict) -> None:
    path = output / RUN_FILE
    if not path.exists():
        if _checkpoints(output) or (output / METRICS_FILE).exists():
            raise ValueError(
                f"expected {path} beside a run's other files; it is missing. Put it back, or choose another output."
            )
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        old = before.pop("settings") | before
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"expected a whole {path}; got {error!r}. Choose another output.") from error
    new = {name: value for name, value in began.items() if name != "settings"} | began["settings"]
    other = [_difference(name, old.get(name), value) for name, value in new.items() if old.get(name) != value]
    if other:
        raise ValueError(
            f"expected what the run in {output} began with; got other {'; '.join(other)}. Take these back to go on "
            "with that run, or choose another output."
        )


def _difference(name: str, old: object, new: object) -> str:
    return name if isinstance(new, str) and len(new) == 64 else f"{name} ({old} then, {new} now)"


def _checkpoints(output: Path) -> list[Path]:
    return sorted(output.glob("checkpoint-*.safetensors"), key=lambda path: int(path.stem.partition("-")[2]))


# ---------------------------------------------------------------- small helpers


def _resolution(settings: Settings, loaded) -> int:
    factor = 2 ** (len(loaded.vae.config.block_out_channels) - 1)
    if settings.resolution is None:
        return loaded.unet.config.sample_size * factor
    if settings.resolution % factor:
        raise ValueError(
            f"expected a resolution that is a multiple of {factor}, by which the VAE shrinks an image; got "
            f"{settings.resolution}. Take {loaded.unet.config.sample_size * factor}, the pipeline's own."
        )
    return settings.resolution


def _plain(accelerator) -> None:
    """Refuse what accelerate's launcher may be configured to and the loop does not do."""
    kind, accumulation = accelerator.distributed_type.name, accelerator.gradient_accumulation_steps
    if kind not in ("NO", "MULTI_GPU", "MULTI_CPU"):
        raise ValueError(
            f"expected accelerate to run one process, or several that each hold the whole UNet; got {kind}. Launch "
            "with --multi_gpu."
        )
    if accumulation != 1:
        raise ValueError(
            f"expected accelerate's own gradient_accumulation_steps to be 1; got {accumulation}. It is a setting of "
            "the run: accumulation."
        )


def _whole_numbers(at_least: int, **values: object) -> None:
    for name, value in values.items():
        if type(value) is not int or value < at_least:
            raise ValueError(f"expected {name} as an integer of at least {at_least}; got {value!r}. Pass such a one.")


def _finite(value: float) -> bool:
    return abs(value) < float("inf")


def _unusable(folder: Path, expected: str, got: object) -> ValueError:
    return ValueError(
        f"expected {expected} in {folder}; got {got}. Save one of Stable Diffusion 1 or 2 there with "
        "pipeline.save_pretrained(folder)."
    )


@contextlib.contextmanager
def _quiet():
    """Without progress bars for loading, and remarks about packages that are not needed."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    before = [
        (log, log.get_verbosity(), log.is_progress_bar_enabled()) for log in (diffusers_logging, transformers_logging)
    ]
    for log, _, _ in before:
        log.set_verbosity_error()
        log.disable_progress_bar()
    try:
        yield
    finally:
        for log, verbosity, bar in before:
            log.set_verbosity(verbosity)
            if bar:
                log.enable_progress_bar()
