"""Captioned shapes: a conditional UNet is pre-trained, compared by a known reward, and tuned by Diffusion-DPO.

Everything happens here, from the drawing of the first picture on: a reference for every seed, pairs sampled from it and
labelled by Bradley and Terry with the reward of ``worlds.shapes``, and the loss of the chapter on top. The profile gpu
is meant; ci and cpu run the same code on a network far too small, to show that it runs.
"""

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from pocourse.diffusion_dpo import optima
from pocourse.diffusion_dpo.objectives import diffusion_dpo_loss
from pocourse.engine import SeedStreams
from pocourse.engine.captioned import CaptionedDenoiser
from pocourse.engine.denoisers import Denoiser, ddim_sample
from pocourse.engine.on_policy import per_method
from pocourse.engine.preference import Objective, Pairs, Seen, denoise, preference
from pocourse.lesson import comparisons, figures, paths, profiles
from pocourse.lesson.comparisons import said
from pocourse.lesson.live import follow
from pocourse.lesson.records import PreferenceRecord, RunRecord, SavedRecord
from pocourse.worlds import preferences, shapes

CHAPTER, NAME = "diffusion_dpo", "shapes"
MADE_BY = "notebooks/05_diffusion_dpo.ipynb"

DIM = shapes.CHANNELS * shapes.SIDE**2
PIXEL_STD = 0.225  # root mean square over all pixels of the drawn pictures
# Of the order of (5.21): in units of the reward a beta of the loss comes to about an eighth of itself per pixel.
BETA_PER_PIXEL = 8
SCHEDULE = {"num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2"}
FURTHER_SEEDS = 1000  # pairs and steps of seed k are drawn from the stream 1000 + k, its reference from the stream k

Settings = Mapping[str, Any]
SIZES: dict[str, dict] = {
    "ci": {
        "seeds": 1,
        "network": {"widths": [32, 64], "layers": 1, "patch": 8, "encoder_width": 32},
        "pretraining": {"images": 512, "steps": 24, "batch": 16, "rate": 4e-3, "average": 0.8, "every": 6},
        "pairs": 48,
        "steps": 8,
        "batch": 16,
        "every": 4,
        "learning_rate": 3e-4,
        "betas": [1.0],
        "shown": 12,
        "sampler_steps": 8,
        "levels": 5,
    },
    "cpu": {
        "seeds": 1,
        "network": {"widths": [32, 64], "layers": 1, "patch": 8, "encoder_width": 32},
        "pretraining": {"images": 2048, "steps": 80, "batch": 32, "rate": 4e-3, "average": 0.9, "every": 10},
        "pairs": 128,
        "steps": 24,
        "batch": 32,
        "every": 6,
        "learning_rate": 3e-4,
        "betas": [1.0],
        "shown": 24,
        "sampler_steps": 10,
        "levels": 8,
    },
    "gpu": {
        "seeds": 3,
        "network": {"widths": [64, 128, 256], "layers": 1, "patch": 2, "encoder_width": 128},
        "pretraining": {"images": 65_536, "steps": 1200, "batch": 512, "rate": 6e-4, "average": 0.995, "every": 40},
        "pairs": 8192,
        "steps": 800,
        "batch": 256,
        "every": 80,
        "learning_rate": 1e-5,
        "betas": [1.0],
        "shown": 256,
        "sampler_steps": 20,
        "levels": 20,
    },
}
MEASURED = ("loss", "accuracy", "error_chosen", "error_rejected", "reward", "drift", "shape", "colour", "clear")
TILTS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
PICTURES = 12  # of the first seed, kept to be looked at
REFERENCE = "reference"


# ---------------------------------------------------------------- settings


def configuration(profile: str = "auto") -> dict:
    """Every number the run is made with, as it goes into its record.

    Raises: ValueError for a profile that does not exist.
    """
    size = SIZES[profiles.profile(profile)]
    objectives = {
        label_of(beta): f"diffusion_dpo_loss(beta={loss_beta(beta):g}), AdamW at {size['learning_rate']:g}"
        for beta in size["betas"]
    }
    return {"world": "captioned shapes", "objectives": objectives, "dim": DIM, "schedule": SCHEDULE, **size}


def label_of(beta: float) -> str:
    """How a method is called: by the beta of the divergence that it aims at, in units of the reward."""
    return f"β = {beta:g}"


def loss_beta(beta: float) -> float:
    """The beta that the loss is given for a beta in units of the reward: 8 D times as much, an order of magnitude."""
    return BETA_PER_PIXEL * DIM * beta


def scheduler_of(settings: Settings) -> Any:
    """diffusers' own noise schedule."""
    from diffusers import DDPMScheduler

    return DDPMScheduler(**settings["schedule"])


def denoiser_of(settings: Settings, device: torch.device, *, autocast: torch.dtype | None = None) -> CaptionedDenoiser:
    """The network of a profile, on a device; ``autocast`` is the precision of a card, None single precision.

    One on torch's device "meta" has no numbers in it and can only be counted.
    """
    alpha_bar = scheduler_of(settings).alphas_cumprod.to(device)
    with device if device.type == "meta" else contextlib.nullcontext():
        return CaptionedDenoiser(
            words=len(shapes.WORDS),
            length=shapes.CAPTION_LENGTH,
            side=shapes.SIDE,
            channels=shapes.CHANNELS,
            pixel_std=PIXEL_STD,
            alpha_bar=alpha_bar,
            autocast=autocast,
            **settings["network"],
        )


# ---------------------------------------------------------------- the run


def train(
    *,
    profile: str = "auto",
    folder: Path | None = None,
    made_by: str = MADE_BY,
    quiet: bool = False,
) -> PreferenceRecord:
    """Pre-train a reference for every seed, sample and label pairs, run Diffusion-DPO, and return its record.

    The record, with twelve samples of the first seed, is saved in ``folder``, by default the reader's own.
    References are kept in the reader's own folder under a hash of all they depend on, each as soon as it is finished;
    a later run takes them up. Interrupted while one is trained, the record is that of its pre-training. On a CPU it
    runs on at most four threads. A card pre-trains and samples in bfloat16; Diffusion-DPO lives on small differences
    of errors, and its errors are computed in single precision (convolutions in TF32, as torch does by default).
    Raises: ValueError for the profile gpu where torch finds no card, or for kept weights that cannot be used.
    """
    profile = profiles.profile(profile)
    settings = configuration(profile)
    with profiles.threads():
        device = profiles.device(profile)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        quick = denoiser_of(settings, device, autocast=torch.bfloat16)
        references = []
        for seed in range(settings["seeds"]):
            reference, record = pretrained(quick, seed, settings, profile=profile, made_by=made_by, quiet=quiet)
            if reference is None:
                return record
            references.append(reference)
        folder = paths.reader_runs(CHAPTER) if folder is None else folder
        record, stream = tune(quick, torch.cat(references), settings, profile=profile, made_by=made_by)
        return follow(stream, record, folder, draw=draw, quiet=quiet)


def tune(
    quick: CaptionedDenoiser,
    reference: Float[Tensor, "seed parameter"],
    settings: Settings,
    *,
    profile: str,
    made_by: str,
) -> tuple[PreferenceRecord, Any]:
    """The record of a run from given references, still empty, and the stream of metrics that fills it.

    ``quick`` samples; the errors are computed by the same network in single precision.
    """
    device = reference.device
    seeds, scheduler = list(range(len(reference))), scheduler_of(settings)
    streams = SeedStreams([FURTHER_SEEDS + seed for seed in seeds], device=device)
    exact = denoiser_of(settings, device)
    drawn = draw_pairs(quick, reference, streams, scheduler, count=settings["pairs"], steps=settings["sampler_steps"])
    look = Look(quick, exact, reference, streams, scheduler, settings)
    known = _known(drawn, look.at(reference)) | {"captions": shapes.decode_captions(look.captions[:PICTURES])}
    methods = {label_of(beta): loss_beta(beta) for beta in settings["betas"]}
    record = PreferenceRecord(
        CHAPTER,
        NAME,
        profile=profile,
        methods=list(methods),
        seeds=seeds,
        steps_per_update=settings["every"],
        num_updates=settings["steps"] // settings["every"],
        configuration={**settings, "reference": known},
        made_by=made_by,
        measured=MEASURED,
    )
    record.show({REFERENCE: look.pictures[0]})

    def probe(seen: Seen) -> dict[str, Tensor]:
        found = look.at(seen.parameters)
        record.show(dict(zip(methods, look.pictures[:: len(seeds)], strict=True)))
        return found

    stream = preference(
        exact,
        reference,
        drawn.pairs,
        streams,
        {label: Objective(_loss(beta), settings["learning_rate"]) for label, beta in methods.items()},
        alpha_bar=scheduler.alphas_cumprod,
        num_steps=settings["steps"],
        batch_size=settings["batch"],
        every=settings["every"],
        probe=probe,
    )
    return record, stream


def _loss(beta):
    return lambda *errors: diffusion_dpo_loss(*errors, beta=beta)


# ---------------------------------------------------------------- a reference


def pretrained(
    denoiser: CaptionedDenoiser, seed: int, settings: Settings, *, profile: str, made_by: str, quiet: bool
) -> tuple[Float[Tensor, "1 parameter"] | None, PreferenceRecord | None]:
    """The reference of a seed: read from the reader's folder, or pre-trained and kept there.

    Returns its parameters, or None in their place and the record of a pre-training that was interrupted.
    Raises: ValueError for a file of weights that is damaged or belongs to something else, or a pre-training that
    diverges.
    """
    folder, device = paths.reader() / "weights" / CHAPTER, denoiser.module.skip.device
    name = f"{NAME}-{fingerprint(settings)}-seed{seed}"
    path = folder / f"{name}.safetensors"
    if path.exists():
        return read_reference(path, denoiser.num_parameters).to(device), None
    known, streams = settings["pretraining"], SeedStreams([seed], device=device)
    images, captions = draw_data(streams, known["images"])
    kept = {}

    def keep(seen: Seen) -> dict[str, Tensor]:
        kept["parameters"] = seen.parameters
        return {}

    stream = denoise(
        denoiser,
        denoiser.init(streams),
        images,
        streams,
        alpha_bar=scheduler_of(settings).alphas_cumprod,
        num_steps=known["steps"],
        batch_size=known["batch"],
        every=known["every"],
        learning_rate=known["rate"],
        average=known["average"],
        condition=captions,
        probe=keep,
    )
    record = PreferenceRecord(
        CHAPTER,
        name,
        profile=profile,
        methods=["pre-training"],
        seeds=[seed],
        steps_per_update=known["every"],
        num_updates=known["steps"] // known["every"],
        configuration=dict(settings),
        made_by=made_by,
        measured=("loss",),
    )
    follow(stream, record, folder, draw=draw_pretraining, quiet=quiet)
    if record.status != "finished":
        return None, record
    if not np.isfinite(record.curves()["loss"][-1]).all():
        raise ValueError(
            f"expected a pre-training that ends; got parameters that are not finite, with the rate {known['rate']:g}. "
            "Take a smaller one in SIZES."
        )
    write_reference(path, kept["parameters"])
    return kept["parameters"], record


def draw_data(streams: SeedStreams, count: int) -> tuple[Float[Tensor, "image 3 32 32"], Int64[Tensor, "image 4"]]:
    """Pictures and captions to pre-train on, from the first stream."""
    parts = [shapes.draw_shapes(part)[:2] for part in streams.uniform(count, 6)[0].split(4096)]
    return tuple(torch.cat(part) for part in zip(*parts, strict=True))


def fingerprint(settings: Settings) -> str:
    """A short name of all that a reference depends on: data, schedule, network and pre-training."""
    world = {name: getattr(shapes, name) for name in ("WORDS", "AREAS", "COLOURS", "LOOSE_AREA", "LOOSE_PLACE", "SIDE")}
    known = {key: settings[key] for key in ("network", "pretraining", "schedule")} | {"pixel_std": PIXEL_STD}
    text = json.dumps([world, known], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def write_reference(path: Path, parameters: Float[Tensor, "1 parameter"]) -> None:
    """Keep a reference in single precision, whole or not at all."""
    from safetensors.torch import save

    content = save({"parameters": parameters.detach().cpu().contiguous()})
    _replace(path, lambda file: file.write(content))


def read_reference(path: Path, num_parameters: int) -> Float[Tensor, "1 parameter"]:
    """Read what ``write_reference`` wrote.

    Raises: ValueError for anything else than finite numbers, as many as the network has.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        parameters = load(path.read_bytes())["parameters"]
        sound = parameters.shape == (1, num_parameters) and parameters.dtype == torch.float32
        got = f"{parameters.dtype} {list(parameters.shape)}"
        if sound and not bool(parameters.isfinite().all()):
            sound, got = False, "numbers that are not finite"
    except (SafetensorError, KeyError, OSError) as error:
        sound, got = False, f"{type(error).__name__}: {error}"
    if not sound:
        raise ValueError(
            f"expected {path} with a reference of {num_parameters:,} numbers; got {got}. Delete the file, and the "
            "next run trains it again."
        )
    return parameters


# ---------------------------------------------------------------- pairs


class Drawn(NamedTuple):
    """Pairs of every seed, and the rewards [seed, 2, pair] and sizes [seed, pair] of the samples they are made of."""

    pairs: Pairs
    reward: Float[Tensor, "seed two pair"]
    size: Int64[Tensor, "seed pair"]


def draw_pairs(
    denoiser: Denoiser,
    reference: Float[Tensor, "seed parameter"],
    streams: SeedStreams,
    scheduler: Any,
    *,
    count: int,
    steps: int,
) -> Drawn:
    r"""Two samples of the reference for each caption, and which of them is chosen, by Bradley and Terry.

    .. math:: P(\text{first chosen}) = \mathrm{sigmoid}\big(r(x, y_1) - r(x, y_2)\big)

    Shapes: captions are drawn anew for each of ``count`` pairs, each of the 90 as likely as another.
    """
    captions = shapes.draw_captions(streams.uniform(count, 3))
    halves = [sample(denoiser, reference, captions, streams, scheduler, steps=steps) for _ in range(2)]
    reward = torch.stack([shapes.exact_reward(images, captions) for images in halves], 1)
    first = preferences.bradley_terry_choice(*reward.unbind(1), streams.uniform(count))
    wins = first[..., None, None, None]
    pairs = Pairs(torch.where(wins, *halves), torch.where(wins, *halves[::-1]), captions)
    return Drawn(pairs, reward, shapes.attributes_of(captions).size)


def sample(
    denoiser: Denoiser,
    parameters: Float[Tensor, "row parameter"],
    captions: Int64[Tensor, "row sample 4"],
    streams: SeedStreams,
    scheduler: Any,
    *,
    steps: int,
    at_once: int = 512,
) -> Float[Tensor, "row sample 3 32 32"]:
    """Pictures for captions, from fresh noise, so many at a time as fit a card."""
    found = []
    for part in captions.split(at_once, 1):
        noise = streams.normal(part.shape[1], shapes.CHANNELS, shapes.SIDE, shapes.SIDE)
        found.append(ddim_sample(denoiser, parameters, noise, scheduler, num_steps=steps, condition=part))
    return torch.cat(found, 1)


def tilt(
    reward: Float[Tensor, "seed sample"], size: Int64[Tensor, "seed sample"], *, beta: float
) -> tuple[Float[Tensor, "seed"], Float[Tensor, "seed"], Float[Tensor, "seed"]]:
    r"""What the Gibbs policy of a beta comes to, by the reference's own samples: reward, divergence, share left.

    .. math:: w_i \propto e^{r_i / \beta}, \qquad \mathbb{E}^*[r] \approx \sum_i w_i r_i, \qquad
        \mathrm{KL} \approx \sum_i w_i \log(n w_i)

    The Gibbs policy is one for each caption. Captions of one size are taken together, since the reward knows neither
    colour nor shape; averages are over all captions. The share is the effective sample size, as a share.

    Shapes: both [seed, sample] -> three times [seed]; the divergence is in nats.
    Source: (5.3), and self-normalised importance sampling.
    """
    found = []
    for group in range(len(shapes.AREAS)):
        inside = size == group
        count = inside.sum(-1)
        weights = optima.tilt_weights(torch.where(inside, reward, -math.inf), beta=beta)
        weights = torch.where(inside, weights, 0)  # nothing is inside of a size that was never drawn
        divergence = torch.xlogy(weights, weights * count.unsqueeze(-1)).sum(-1)
        left = 1 / ((weights**2).sum(-1) * count).clamp(min=1)
        found.append(torch.stack([(weights * reward).sum(-1), divergence, left]) * count / reward.shape[-1])
    return tuple(sum(found))


def _known(drawn: Drawn, before: Mapping[str, Tensor]) -> dict:
    """What is known before the first step, as it goes into a record: lists of a number for each seed."""
    difference = drawn.reward[:, 0] - drawn.reward[:, 1]
    known = dict(before)
    known["floor"] = optima.loss_floor(difference).mean(-1)
    known["ceiling"] = optima.accuracy_ceiling(difference).mean(-1)
    samples, sizes = drawn.reward.flatten(1), drawn.size.repeat(1, 2)
    known["sampled_reward"] = samples.mean(-1)
    known = {name: _numbers(value) for name, value in known.items()}
    tilts = {f"{beta:g}": tilt(samples, sizes, beta=beta) for beta in TILTS}
    names = ("reward", "divergence", "share")
    known["tilts"] = {b: dict(zip(names, map(_numbers, found), strict=True)) for b, found in tilts.items()}
    return known


def _numbers(per_seed):
    return [float(f"{x:.5g}") for x in per_seed.tolist()]


# ---------------------------------------------------------------- what is measured


class Look:
    """What parameters come to on fixed captions and fixed noise: reward, quality, and distance from the reference.

    Called in the training loop, it reads nothing from the device. ``pictures`` [row, picture, 32, 32, 3] are the first
    samples of the last look, from 0 to 1.
    """

    def __init__(
        self,
        quick: Denoiser,
        exact: Denoiser,
        reference: Float[Tensor, "seed parameter"],
        streams: SeedStreams,
        scheduler: Any,
        settings: Settings,
    ):
        count, image = settings["shown"], (shapes.CHANNELS, shapes.SIDE, shapes.SIDE)
        every = shapes.every_caption().to(reference.device)
        # A stride that has no divisor in common with 90 mixes sizes, colours and shapes.
        self.captions = every[torch.arange(count, device=every.device) * 37 % len(every)]
        self.noise, self.other_noise = streams.normal(count, *image), streams.normal(count, *image)
        self.quick, self.exact, self.reference = quick, exact, reference
        self.scheduler, self.steps = scheduler, settings["sampler_steps"]
        self.levels = drift_levels(scheduler.alphas_cumprod, settings["levels"])
        self.pictures: Tensor

    def at(self, parameters: Float[Tensor, "row parameter"]) -> dict[str, Float[Tensor, "row"]]:
        """The means over the fixed captions, for every row."""
        methods = len(parameters) // len(self.reference)
        noise, captions = per_method(self.noise, methods), self.captions.expand(len(parameters), -1, -1)
        images = ddim_sample(self.quick, parameters, noise, self.scheduler, num_steps=self.steps, condition=captions)
        self.pictures = _pictured(images[:, :PICTURES])
        matched = shapes.match(images, captions)
        found = {"reward": shapes.exact_reward(images, captions), **matched._asdict()}
        moved = drift(
            self.exact,
            parameters,
            per_method(self.reference, methods),
            images,
            per_method(self.other_noise, methods),
            self.levels,
            condition=captions,
        )
        return {name: value.mean(-1) for name, value in found.items()} | {"drift": moved}


class Levels(NamedTuple):
    """Time steps, their alpha_bar, and how much of log SNR each stands for; on the host."""

    timestep: list[int]
    alpha_bar: list[float]
    width: list[float]


def drift_levels(alpha_bar: Float[Tensor, "timestep"], count: int) -> Levels:
    """The middles of ``count`` equal parts of a schedule's time steps."""
    log_snr = (alpha_bar.double() / (1 - alpha_bar.double())).log()
    edges = torch.linspace(0, len(alpha_bar) - 1, count + 1).round().long()
    middle = ((edges[1:] + edges[:-1]) / 2).round().long()
    width = log_snr[edges[:-1]] - log_snr[edges[1:]]
    return Levels(middle.tolist(), alpha_bar[middle].tolist(), width.tolist())


@torch.no_grad()
def drift(
    denoiser: Denoiser,
    parameters: Float[Tensor, "row parameter"],
    reference: Float[Tensor, "row parameter"],
    x0: Float[Tensor, "row sample *pixel"],
    noise: Float[Tensor, "row sample *pixel"],
    levels: Levels,
    *,
    condition: Tensor | None = None,
) -> Float[Tensor, "row"]:
    r"""How far theta has gone from the reference, in nats: an estimate of KL(theta || reference) by (5.19).

    .. math:: \tfrac12 \int \mathbb{E}\, \| \epsilon_\theta(x_t, t) - \epsilon_{\mathrm{ref}}(x_t, t) \|^2\,
        d \log \mathrm{SNR}_t, \qquad x_0 \sim p_\theta

    (5.19) makes the mean log-ratio an integral of errors of the reference less errors of theta. Where theta denoises
    its own samples as well as can be, that difference is, on average, the squared distance between the two
    predictions: so the estimate is never negative, and exact for such a theta, up to the noise levels that the
    schedule leaves out. ``x0`` are theta's samples, and ``noise`` is fixed, the same at all levels.

    Shapes: x0 and noise [row, sample, ...] -> [row].
    Source: ours, from (5.19).
    """
    total = torch.zeros(len(parameters), dtype=x0.dtype, device=x0.device)
    for timestep, kept, width in zip(*levels, strict=True):
        xt = math.sqrt(kept) * x0 + math.sqrt(1 - kept) * noise
        at = torch.full(x0.shape[:2], timestep, device=x0.device)
        apart = denoiser(parameters, xt, at, condition) - denoiser(reference, xt, at, condition)
        total = total + 0.5 * width * apart.square().flatten(2).sum(-1).mean(-1)
    return total


# ---------------------------------------------------------------- what is shown


def recorded(profile: str = "gpu") -> SavedRecord | None:
    """The run that ships with the course, or None where nobody has recorded it yet."""
    return comparisons.recorded(CHAPTER, NAME, profile)


def note(profile: str) -> str:
    """What a run of that profile is worth, in a sentence."""
    if profile == "gpu":
        return ""
    return (
        f"*Profile {profile}: a demonstration that the code runs from end to end, a single run of a network far too "
        "small, trained far too shortly. Its numbers say nothing about the method; the profile `gpu` is meant.*\n\n"
    )


def cost_card(profile: str = "auto") -> str:
    """What the training cell costs, in Markdown: what it runs on this machine, and what a recorded run measured."""
    profile = profiles.profile(profile)
    c = configuration(profile)
    known = c["pretraining"]
    return (
        f"**What it costs** (profile `{profile}`)\n\n"
        "| seeds | parameters | pre-training, each seed | pairs, each seed | Diffusion-DPO | measured | memory | on |\n"
        "|---|---|---|---|---|---|---|---|\n"
        f"| {c['seeds']} | {denoiser_of(c, torch.device('meta')).num_parameters:,} | {known['steps']:,} steps of "
        f"{known['batch']} pictures | {c['pairs']:,} | {len(c['betas'])} × {c['steps']} steps of {c['batch']} pairs | "
        f"{comparisons.measured(CHAPTER, NAME, profile)} |\n\n{note(profile)}"
    )


def describe(record: PreferenceRecord | SavedRecord) -> str:
    """The curves in words: where every method ends."""
    if "reward" not in record.curves():
        return "The loss of pre-training against steps, logarithmic, one line for the seed that is trained."
    ends = [
        f"{method}: reward {said(s['final_reward'])}, drift {said(s['final_drift'])} nats"
        for method, s in record.summary().items()
    ]
    before = np.mean(_reference(record)["reward"])
    return (
        "Four panels against optimizer steps of Diffusion-DPO on captioned shapes, a thin line for each of "
        f"{_runs(record)}: the loss with its floor; the denoising errors of chosen and rejected pictures less the "
        "reference's; the mean reward of samples from fixed noise; and that reward against the drift from the "
        f"reference, with the best that any policy could have. The reference has {before:.2f}. In the end "
        f"{'; '.join(ends) or 'nothing is finished yet'}."
    )


def draw(record: PreferenceRecord | SavedRecord):
    """Loss, errors, reward, and reward against drift, a thin line for each seed. Returns (figure, alt text)."""
    if "reward" not in record.curves():
        return draw_pretraining(record)
    with figures.style():
        figure, axes = figures.panels(2, 2, height=2.7)
        known = _reference(record)
        _draw_loss(axes[0][0], record, known)
        _draw_errors(axes[0][1], record)
        _draw_reward(axes[1][0], record, known)
        _draw_frontier(axes[1][1], record, known)
        figure.legend(*_entries(record), loc="outside lower left", ncols=4, fontsize=9.5, handlelength=2.8)
        return figure, describe(record)


def draw_pretraining(record: PreferenceRecord | SavedRecord):
    """The loss of pre-training against steps. Returns (figure, alt text)."""
    with figures.style():
        figure, axes = figures.panels(1, height=2.4)
        panel, line = axes[0][0], figures.LINES[3]
        panel.plot(record.steps, record.curves()["loss"][:, 0], color=line["color"], linewidth=1.2)
        panel.set_yscale("log")
        panel.set_xlabel("steps of pre-training")
        panel.set_ylabel("mean squared error")
        return figure, describe(record)


def _line(record, method):
    return figures.LINES[(3, 1, 2, 4)[record.methods.index(method) % 4]]


def _thin(panel, x, values, line):
    """One thin line for each seed: too few for a band."""
    panel.plot(x, values, color=line["color"], linestyle=line["linestyle"], linewidth=1.1)


def _each(record, key):
    """Of every method its line and its curves, the reference's value in front: steps [point], values [point, seed]."""
    known, curves = _reference(record), record.curves()[key]
    before = np.array(known[key])[None] if key in known else None
    for index, method in enumerate(record.methods):
        values, steps = curves[:, index], record.steps
        if before is not None:
            values, steps = np.concatenate([before, values]), np.concatenate([[0], steps])
        yield _line(record, method), steps, values


def _draw_loss(panel, record, known):
    for line, steps, values in _each(record, "loss"):
        _thin(panel, steps, values, line)
    panel.axhline(math.log(2), color=figures.FAINT, linewidth=1)
    figures.limit_line(panel, float(np.mean(known["floor"])), "floor on fresh pairs", at=0.45)
    panel.set_title("loss (grey: log 2)", fontsize=10)
    panel.set_xlabel("steps")


def _draw_errors(panel, record):
    for key, width in (("error_chosen", 1.1), ("error_rejected", 2.2)):
        for line, steps, values in _each(record, key):
            panel.plot(steps, 1e3 * values, color=line["color"], linestyle=line["linestyle"], linewidth=width)
    panel.axhline(0, color=figures.FAINT, linewidth=1)
    panel.set_title("error less reference's, ×1000 (bold: rejected)", fontsize=10)
    panel.set_xlabel("steps")


def _draw_reward(panel, record, known):
    for line, steps, values in _each(record, "reward"):
        _thin(panel, steps, values, line)
    panel.set_title("reward, fixed noise", fontsize=10)
    panel.set_xlabel("steps")
    for beta in comparisons.configuration(record)["betas"]:
        expected = known["tilts"].get(f"{beta:g}")
        if expected is not None:
            figures.limit_line(panel, float(np.mean(expected["reward"])), f"tilt, {label_of(beta)}", at=0.02)


def _draw_frontier(panel, record, known):
    best = [t for t in known["tilts"].values() if np.mean(t["share"]) > 0.05]
    points = [(0.0, float(np.mean(known["sampled_reward"])))]
    points += sorted((float(np.mean(t["divergence"])), float(np.mean(t["reward"]))) for t in best)
    panel.plot(*zip(*points, strict=True), color=figures.LIMIT, linewidth=1.1, marker="o", markersize=2.5)
    for (line, _, reward), (_, _, moved) in zip(_each(record, "reward"), _each(record, "drift"), strict=True):
        for seed in range(reward.shape[1]):
            _thin(panel, moved[:, seed], reward[:, seed], line)
    panel.set_title("reward against drift", fontsize=10)
    panel.set_xlabel("drift, nats")


def _entries(record):
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], linewidth=1.1, **_line(record, method)) for method in record.methods]
    lines.append(Line2D([], [], color=figures.LIMIT, linewidth=1.1, marker="o", markersize=2.5))
    return lines, [*record.methods, "Gibbs tilts of the reference"]


def draw_world(*, seed: int = 3):
    """Twelve pictures as they are drawn to pre-train on, with captions and rewards. Returns (figure, alt text)."""
    uniform = torch.rand(PICTURES, 6, generator=torch.Generator().manual_seed(seed))
    drawn = shapes.draw_shapes(uniform)
    captions = shapes.decode_captions(drawn.captions)
    rewards = shapes.exact_reward(drawn.images, drawn.captions).tolist()
    with figures.style():
        figure, axes = figures.panels(PICTURES // 2, 2, height=1.75)
        for panel, image, text, reward in zip(axes.flat, drawn.images, captions, rewards, strict=True):
            _show(panel, _bytes(_pictured(image)))
            panel.set_title(text.removeprefix("a "), fontsize=8, fontweight="normal", loc="center", pad=4)
            panel.set_xlabel(f"{reward:.1f}", fontsize=9)
        listed = ", ".join(f"{text} {reward:.1f}" for text, reward in zip(captions, rewards, strict=True))
        return figure, f"Twelve small pictures of one shape each on grey, with captions and rewards: {listed}."


def draw_samples(record: PreferenceRecord | SavedRecord):
    """The first seed's samples from the same noise, before and after. Returns (figure, alt text).

    Raises: ValueError for a run that was stopped before it had any.
    """
    rows = record.pictures()
    if not rows:
        raise ValueError(
            "expected a run that has samples; got one that was stopped while a reference was trained. Run it again: "
            "the references that were finished are kept."
        )
    captions = _reference(record)["captions"]
    rewards = {name: float(_rewards(images, captions).mean()) for name, images in rows.items()}
    alt = (
        f"Pictures of 32 by 32 pixels for {len(captions)} captions from the same noise, in {len(rows)} rows with "
        f"their mean reward: {', '.join(f'{name} {value:.2f}' for name, value in rewards.items())}."
    )
    with figures.style():
        return _grid(rows, captions), alt


def _grid(rows, captions):
    """Pictures [picture, 32, 32, 3] in rows with names, captions above them."""
    figure, axes = figures.panels(len(captions), len(rows), height=0.95)
    for row, (name, images) in zip(axes, rows.items(), strict=True):
        for panel, image in zip(row, images, strict=True):
            _show(panel, image)
        row[0].set_ylabel(name, fontsize=9)
    for panel, caption in zip(axes[0], captions, strict=True):
        panel.set_title("\n".join(caption.split()[1:]), fontsize=7, fontweight="normal", loc="center", pad=4)
    return figure


def _show(panel, image):
    panel.imshow(image, interpolation="nearest")
    panel.set_xticks([])
    panel.set_yticks([])
    panel.grid(False)


def _bytes(pictures):
    return (255 * pictures).round().byte().numpy()


def _rewards(pictures, captions):
    """Of bytes [picture, 32, 32, 3]."""
    images = torch.from_numpy(pictures.astype(np.float32) / 127.5 - 1).permute(0, 3, 1, 2)
    return shapes.exact_reward(images, shapes.encode_captions(captions))


def _pictured(images):
    """Images [..., 3, 32, 32] in [-1, 1] as pictures [..., 32, 32, 3] from 0 to 1."""
    return ((images + 1) / 2).movedim(-3, -1)


def _reference(record):
    return comparisons.configuration(record)["reference"]


def _runs(record):
    return "a single run" if len(record.seeds) == 1 else f"{len(record.seeds)} seeds"


def table(record: PreferenceRecord | SavedRecord) -> str:
    """The outcome as a Markdown table: the reference, and every method in the end."""
    if len(record.steps) == 0 or "reward" not in record.curves():
        return comparisons.unfinished(record)
    known, settings = _reference(record), comparisons.configuration(record)
    profile = record.profile if isinstance(record, RunRecord) else record.json["profile"]
    rows = [
        "| | reward | Gibbs tilt, expected | drift, nats | right shape | right colour | likeness | loss | accuracy |\n",
        "|---|---|---|---|---|---|---|---|---|\n",
    ]
    before = [f"{np.mean(known[key]):.2f}" for key in ("reward", "shape", "colour", "clear")]
    limits = f"floor {np.mean(known['floor']):.2f} | ceiling {np.mean(known['ceiling']):.2f}"
    rows.append(f"| {REFERENCE} | {before[0]} | | 0 | {' | '.join(before[1:])} | {limits} |\n")
    for beta, (method, s) in zip(settings["betas"], record.summary().items(), strict=True):
        expected = known["tilts"].get(f"{beta:g}")
        cells = [said(s[f"final_{key}"]) for key in ("drift", "shape", "colour", "clear", "loss", "accuracy")]
        told = "" if expected is None else f"{np.mean(expected['reward']):.2f}"
        rows.append(f"| {method} | {said(s['final_reward'])} | {told} | {' | '.join(cells)} |\n")
    return comparisons.unfinished(record) + note(profile) + "".join(rows)


# ---------------------------------------------------------------- files


def _replace(path: Path, write: Callable[[Any], Any]) -> None:
    """Write a file beside its place and put it there whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(part, "wb") as file:
            write(file)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
