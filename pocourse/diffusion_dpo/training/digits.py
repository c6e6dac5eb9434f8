"""Chapter 5's training: denoisers of digits learn to prefer ink, at several betas, beside fine-tuning on the winners.

Each seed has a denoiser of its own, pairs of its own samples, and labels drawn by Bradley and Terry. All methods of a
seed meet the same pairs, time steps and noise. What the best policy of a temperature would reach is known without any
training: reweight samples of the reference.
"""

import functools
import math
import re
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pocourse.diffusion_dpo.denoising import effective_beta_limits
from pocourse.diffusion_dpo.objectives import diffusion_dpo_loss
from pocourse.diffusion_dpo.optima import accuracy_ceiling, effective_sample_size, loss_floor, tilt_weights
from pocourse.engine import SeedStreams
from pocourse.engine.denoisers import Denoiser, ResidualMLP, UNetDenoiser, ddim_sample, load_weights
from pocourse.engine.preference import Objective, Pairs, Seen, preference
from pocourse.lesson import comparisons, figures, paths, profiles
from pocourse.lesson.bands import bootstrap_band, interquartile_mean
from pocourse.lesson.live import follow
from pocourse.lesson.records import PreferenceRecord, SavedRecord
from pocourse.worlds import preferences
from pocourse.worlds.digits import PIXELS, load_digits

CHAPTER = "diffusion_dpo"
Settings = Mapping[str, object]


class Variant(NamedTuple):
    """One line of a figure: Diffusion-DPO at a beta (None: fine-tuning on the winners), and a learning rate."""

    beta: float | None
    rate: float


SFT, DEAD = "SFT on winners", "β = 20, step ×10"
BETAS, RATE = (20, 100, 500, 2000), 1e-4
METHODS = {f"β = {beta}": Variant(beta, RATE) for beta in BETAS}
METHODS |= {DEAD: Variant(20, 10 * RATE), SFT: Variant(None, RATE)}
UNET_METHODS = {name: METHODS[name] for name in ("β = 500", SFT)}
# Run when the records are made, and read by the explorable: every beta with every step size.
GRID_RATES = (3e-5, 1e-4, 3e-4, 1e-3)
GRID = {f"β = {beta} at {rate:g}": Variant(beta, rate) for beta in BETAS for rate in GRID_RATES}

FIXED = {"gain": 2.0, "batch_size": 64, "sampling_steps": 20, "max_grad_norm": 1.0}
SIZES = {
    "ci": {"seeds": 8, "pairs": 256, "steps": 60, "every": 20, "images": 32, "reference_images": 512},
    "cpu": {"seeds": 8, "pairs": 2048, "steps": 600, "every": 50, "images": 128, "reference_images": 8192},
    "gpu": {"seeds": 8, "pairs": 8192, "steps": 2400, "every": 100, "images": 1024, "reference_images": 16384},
}
UNET_SIZES = {
    name: size | {"seeds": 1, "batch_size": 32} | changes
    for (name, size), changes in zip(
        SIZES.items(),
        ({"pairs": 64, "steps": 4, "every": 2, "images": 16, "reference_images": 64},
         {"pairs": 512, "steps": 60, "every": 12, "images": 64, "reference_images": 256},
         {"batch_size": 64}),
        strict=True,
    )
}  # fmt: skip
COMPARISONS = {"digits": SIZES, "unet": UNET_SIZES}
RECORDED_ONLY = {"digits-grid": SIZES}
CURVES = ("loss", "accuracy", "error_chosen", "error_rejected", "reward", "spread", "confidence", "entropy")
SHOWN = 12  # pictures of each method that a record keeps
SAMPLED_AT_ONCE = 512
ENOUGH = 30  # samples that reweighting must leave for its mean to be drawn
TILT_BETAS = tuple(float(f"{20 * 10 ** (i / 8):.3g}") for i in range(19))  # those of BETAS are put in
TILT_BETAS = tuple(sorted({*TILT_BETAS, *map(float, BETAS)}))


def variants(name: str) -> dict[str, Variant]:
    """Every line of a comparison by its label.

    Raises: ValueError for a comparison that does not exist.
    """
    _known(name)
    return {"digits": METHODS, "unet": UNET_METHODS, "digits-grid": GRID}[name]


def configuration(name: str, profile: str, chosen: Mapping[str, Variant] | None = None) -> dict:
    """Every number a comparison is run with, as it goes into its record.

    Raises: ValueError for a comparison or a profile that does not exist.
    """
    sizes = _known(name)
    words = {label: in_words(v) for label, v in (variants(name) if chosen is None else chosen).items()}
    return {"world": "digits", "objectives": words} | FIXED | sizes[name][profiles.profile(profile)]


def _known(name):
    """The sizes of every comparison, if the one of that name is among them."""
    sizes = COMPARISONS | RECORDED_ONLY
    if name not in sizes:
        raise ValueError(f"expected a comparison among {', '.join(sizes)}; got {name!r}. Choose one of them.")
    return sizes


def in_words(variant: Variant) -> str:
    """A variant as a record and a table name it."""
    if variant.beta is None:
        return f"error_chosen, AdamW, rate {variant.rate:g}"
    return f"diffusion_dpo_loss(beta={variant.beta:g}), AdamW, rate {variant.rate:g}"


def objective_of(variant: Variant) -> Objective:
    """The loss and the step size of a variant, as the loop takes them."""
    if variant.beta is None:
        return Objective(lambda error_chosen, *others: error_chosen, variant.rate)
    return Objective(partial(diffusion_dpo_loss, beta=variant.beta), variant.rate)


def reference_of(name: str, seeds: int, device: torch.device) -> tuple[Denoiser, Tensor, dict]:
    """The shipped denoiser of a comparison, its parameters [seed, parameter], and the schedule it was trained with.

    Raises: ValueError where a shipped file is missing or damaged, or there are fewer seeds in it.
    """
    kind, make = ("digits_unet", UNetDenoiser.unet2d) if name == "unet" else ("digits_mlp", ResidualMLP)
    denoiser, parameters, record = load_weights(paths.shipped() / "denoisers", kind, make)
    if seeds > len(parameters):
        raise ValueError(
            f"expected at most {len(parameters)} seeds, as many references ship; got {seeds}. Run `data/make/"
            "denoisers.py` with more of them."
        )
    return denoiser, parameters[:seeds].to(device), record["schedule"]


# ---------------------------------------------------------------- what is measured


class Judge(NamedTuple):
    """What the samples of a set of parameters are judged by: the same noise [seed, image, *pixel] for every method."""

    denoiser: Denoiser
    scheduler: object
    noise: Tensor
    sampling_steps: int

    def sample(self, parameters: Tensor) -> Tensor:
        """Images [row, image, 64] for parameters [row, parameter], rows being the seeds of one method after another."""
        noise = self.noise.repeat(len(parameters) // len(self.noise), *[1] * (self.noise.ndim - 1))
        return ddim_sample(
            self.denoiser, parameters, noise, self.scheduler, num_steps=self.sampling_steps
        ).flatten(2)  # fmt: skip

    def measure(self, images: Tensor) -> dict[str, Tensor]:
        """Mean and spread of the reward, confidence and class entropy of images [row, image, 64], each [row]."""
        reward = preferences.ink(images)
        return {
            "reward": reward.mean(-1),
            "spread": reward.std(-1),
            "confidence": preferences.class_confidence(_digits(), images),
            "entropy": preferences.class_entropy(_digits(), images),
        }


@functools.cache
def _digits():
    return load_digits(paths.shipped() / "digits")


class Drawn(NamedTuple):
    """Pairs of a run, its judge, and what is known before any training, as numbers for the record."""

    pairs: Pairs
    judge: Judge
    known: dict


def drawn(
    denoiser: Denoiser,
    reference: Tensor,
    scheduler,
    streams: SeedStreams,
    settings: Settings,
    betas: Iterable[float] = BETAS,
) -> Drawn:
    """Sample the reference, let Bradley and Terry choose, and say what can be foreseen.

    The pairs are samples of the reference; further samples of it tell what its tilts would reach. ``known`` holds
    lists by seed: reward, spread, confidence, entropy of the reference on the judge's noise; its denoising ``error`` on
    the winners, and their mean reward, ``winners``; ``floor`` and ``ceiling`` on the labels' chances; ``agreement`` of
    the labels with the reward; and ``tilt``, for a grid of betas and those of ``betas``, the mean reward of two Gibbs
    policies, at the temperatures of ``temperatures``, and how many samples the reweighting to the cooler one ``left``.
    """
    shape = (1, 8, 8) if isinstance(denoiser, UNetDenoiser) else (PIXELS,)
    judge = Judge(denoiser, scheduler, streams.normal(settings["images"], *shape), settings["sampling_steps"])

    def samples(count):
        found = [
            judge._replace(noise=streams.normal(part, *shape)).sample(reference)
            for part in [SAMPLED_AT_ONCE] * (count // SAMPLED_AT_ONCE) + [count % SAMPLED_AT_ONCE]
            if part
        ]
        return torch.cat(found, 1)

    images, uniform = samples(2 * settings["pairs"]), streams.uniform(settings["pairs"])
    compared = preferences.make_pairs(images, preferences.ink(images), uniform, gain=settings["gain"])
    pairs = Pairs(*(x.unflatten(-1, shape) for x in (compared.chosen, compared.rejected)))
    chance = settings["gain"] * (compared.reward_chosen - compared.reward_rejected)
    reward = torch.cat([preferences.ink(samples(settings["reference_images"])), preferences.ink(images)], 1)
    alpha_bar = scheduler.alphas_cumprod.double()
    tilt = {"beta": sorted({*TILT_BETAS, *map(float, betas)}), "warm": [], "cool": [], "left": []}
    for beta in tilt["beta"]:
        for side, at in temperatures(alpha_bar, beta).items():
            weights = tilt_weights(settings["gain"] * reward.double(), beta=at)
            tilt[side].append((weights * reward).sum(-1).tolist())
        tilt["left"].append((effective_sample_size(weights) * reward.shape[1]).tolist())
    known = {key: value.tolist() for key, value in judge.measure(judge.sample(reference)).items()}
    known |= {
        "error": _own_error(denoiser, reference, pairs.chosen, streams, alpha_bar.to(reference)).tolist(),
        "winners": compared.reward_chosen.mean(-1).tolist(),
        "agreement": preferences.label_agreement(compared.reward_chosen, compared.reward_rejected).tolist(),
        "floor": float(loss_floor(chance).mean()),
        "ceiling": float(accuracy_ceiling(chance).mean()),
        "tilt": tilt,
    }
    return Drawn(pairs, judge, known)


@torch.no_grad()
def _own_error(denoiser, reference, images, streams, alpha_bar):
    """The mean squared error of the predicted noise on images [seed, image, *pixel], uniform time steps: [seed]."""
    timestep = (streams.uniform(images.shape[1]) * len(alpha_bar)).long()
    kept = alpha_bar[timestep].view(*timestep.shape, *[1] * (images.ndim - 2))
    noise = streams.normal(*images.shape[1:])
    predicted_noise = denoiser(reference, kept.sqrt() * images + (1 - kept).sqrt() * noise, timestep)
    return (noise - predicted_noise).square().flatten(1).mean(1)


def temperatures(alpha_bar: Tensor, beta: float) -> dict[str, float]:
    """Between which temperatures of the reward a beta of the loss is, for digits: ``warm`` and ``cool``.

    The first is the limit for weak rewards of (5.21), the second a tenth of beta per pixel, where the Gaussian world
    stands with strong ones. Digits are no Gaussians of unit variance: this is an order of magnitude.
    """
    weak, _ = effective_beta_limits(alpha_bar, beta=beta, dim=PIXELS)
    return {"warm": float(weak), "cool": 0.1 * beta / PIXELS}


def train(
    name: str,
    chosen: Mapping[str, Variant] | None = None,
    *,
    profile: str = "auto",
    folder: Path | None = None,
    made_by: str = "notebooks/05_diffusion_dpo.ipynb",
    quiet: bool = False,
) -> PreferenceRecord:
    """Run every variant on every seed as one batch, watch it, and return its record.

    ``name`` is "digits", "unet" (one seed, another network) or "digits-grid" (every beta with every step size). The
    record is saved in ``folder``, by default the reader's own. Interrupting it keeps what was finished.
    Raises: ValueError for names that do not exist, the profile gpu where torch finds no card, shipped weights that are
    missing or damaged.
    """
    from diffusers import DDPMScheduler

    profile = profiles.profile(profile)
    settings = configuration(name, profile, chosen)
    chosen = variants(name) if chosen is None else chosen
    with profiles.threads(at_most=2):
        device = profiles.device(profile)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        denoiser, reference, schedule = reference_of(name, settings["seeds"], device)
        scheduler = DDPMScheduler(**schedule)
        streams = SeedStreams(range(settings["seeds"]), device=device)
        betas = [variant.beta for variant in chosen.values() if variant.beta is not None]
        pairs, judge, known = drawn(denoiser, reference, scheduler, streams, settings, betas)
        record = PreferenceRecord(
            CHAPTER,
            name,
            profile=profile,
            methods=list(chosen),
            seeds=streams.seeds,
            steps_per_update=settings["every"],
            num_updates=settings["steps"] // settings["every"],
            configuration=settings | {"reference": known},
            made_by=made_by,
            measured=CURVES,
        )
        keep = 0 if name.endswith("-grid") else SHOWN
        record.show({"reference": _pictured(judge.sample(reference))[0, :keep]} if keep else {})

        def look(seen: Seen) -> dict[str, Tensor]:
            images = judge.sample(seen.parameters)
            if keep:
                first = _pictured(images)[:: len(streams)]  # of the first seed of every method
                record.show({method: x[:keep] for method, x in zip(chosen, first, strict=True)})
            return judge.measure(images)

        stream = preference(
            denoiser,
            reference,
            pairs,
            streams,
            {label: objective_of(variant) for label, variant in chosen.items()},
            alpha_bar=scheduler.alphas_cumprod,
            num_steps=settings["steps"] // settings["every"] * settings["every"],
            batch_size=settings["batch_size"],
            every=settings["every"],
            max_grad_norm=settings["max_grad_norm"],
            probe=look,
        )
        shown = None if keep == 0 else partial(draw, behind=comparisons.backdrop(CHAPTER, name))
        folder = paths.reader_runs(CHAPTER) if folder is None else folder
        return follow(stream, record, folder, draw=shown, quiet=quiet)


def _pictured(images):
    """Digits [row, image, 64] in [-1, 1] as pictures from 0 to 1, dark ink on white."""
    return 1 - (images.unflatten(-1, (8, 8)) + 1) / 2


def beta_of(record: PreferenceRecord | SavedRecord, method: str) -> float | None:
    """The beta that a method was run with, whatever it is called; None for fine-tuning on the winners."""
    told = re.search(r"beta=([^)]+)\)", comparisons.configuration(record)["objectives"][method])
    return None if told is None else float(told[1])


def predicted(record: PreferenceRecord | SavedRecord, method: str) -> tuple[float, float] | None:
    """Between which mean rewards the closed form expects a method to end.

    Interquartile means over seeds of the tilts at both ``temperatures``. None for a method without a beta, and where
    reweighting leaves fewer than ENOUGH samples.
    """
    beta, tilt = beta_of(record, method), comparisons.configuration(record)["reference"]["tilt"]
    if beta is None:
        return None
    at = int(np.argmin(np.abs(np.array(tilt["beta"]) - beta)))  # the one itself, but for rounding in words
    if interquartile_mean(np.array(tilt["left"][at])) < ENOUGH:
        return None
    low, high = (float(interquartile_mean(np.array(tilt[side][at]))) for side in ("warm", "cool"))
    return low, high


# ---------------------------------------------------------------- what is shown

LINE = dict(zip(METHODS, (figures.LINES[i] for i in (1, 5, 3, 2, 4, 0)), strict=True))
PANELS = {
    "loss": "loss",
    "accuracy": "implicit accuracy",
    "error_chosen": "winner's error − reference's",
    "reward": "reward of samples",
    "confidence": "classifier's confidence",
    "entropy": "entropy of classes, nats",
}
HALF = 2e-3  # up to here the axis of errors is linear


def recorded(name: str, profile: str = "cpu") -> SavedRecord | None:
    """The run that ships with the course, or None where nobody has recorded it yet."""
    return comparisons.recorded(CHAPTER, name, profile)


def line_of(method: str, index: int) -> dict:
    """The look of a method, the same in all figures."""
    return LINE.get(method, figures.LINES[index % len(figures.LINES)])


def draw(record: PreferenceRecord | SavedRecord, *, behind: SavedRecord | None = None):
    """The dashboard: what a training script logs above, what only samples show below; bands over seeds.

    The recorded run lies pale behind. A run of one seed is drawn as thin lines. Returns (figure, alt text).
    """
    known = comparisons.configuration(record)["reference"]
    with figures.style():
        figure, axes = figures.panels(3, 2, height=2.5)
        for panel, (key, title) in zip(axes.flat, PANELS.items(), strict=True):
            panel.set_title(title, fontsize=10)
            _bands(panel, record, key, behind=behind)
            if key == "loss":
                figures.limit_line(panel, known["floor"], "floor", at=0.3)
                panel.set_ylim(min(0.3, known["floor"] - 0.05), 1.15)
            elif key == "accuracy":
                figures.limit_line(panel, known["ceiling"], "ceiling", at=0.05)
                panel.set_ylim(0.45, 0.9)
            elif key == "error_chosen":
                panel.set_yscale("symlog", linthresh=HALF)
            else:
                panel.axhline(float(np.mean(known[key])), color=figures.FAINT, linewidth=1)
        for panel in axes[1]:
            panel.set_xlabel("steps")
        _legend(figure, record)
        return figure, describe(record)


def _bands(panel, record, key, *, behind):
    curves = record.curves()[key]
    for index, method in enumerate(record.methods):
        if not len(record.steps):
            continue
        line = line_of(method, index)
        if len(record.seeds) == 1:
            panel.plot(record.steps, curves[:, index, 0], **line | {"linewidth": 1})
            continue
        if behind is not None and method in behind.methods:
            pale = behind.curves()[key][:, behind.methods.index(method)]
            figures.band(panel, behind.steps, pale, line=line, faint=True, resamples=200)
        figures.band(panel, record.steps, curves[:, index], line=line, resamples=200)
    panel.set_xlim(0, max([1, *record.steps[-1:]]))
    panel.locator_params(axis="x", nbins=4)


def _legend(figure, record):
    from matplotlib.lines import Line2D

    entries = [Line2D([], [], **line_of(method, i)) for i, method in enumerate(record.methods)]
    columns = min(3, len(entries))
    figure.legend(entries, record.methods, loc="outside lower left", ncols=columns, fontsize=9.5, handlelength=2.8)


def draw_tilt(record: PreferenceRecord | SavedRecord):
    """The samples' mean reward in the end against beta, beside what the Gibbs policy of that temperature would reach.

    The pale area lies between the two ``temperatures``; points with 95% intervals are measured, and a band where there
    is no beta. The dead run is left out. Returns (figure, alt text).
    """
    known = comparisons.configuration(record)["reference"]
    last = record.curves()["reward"][-1:]
    with figures.style():
        figure, axes = figures.panels(1, height=3.6)
        panel = axes[0][0]
        betas = np.array(known["tilt"]["beta"])
        low, high = (interquartile_mean(np.array(known["tilt"][side]), axis=1) for side in ("warm", "cool"))
        # Where reweighting leaves a handful of samples it knows nothing.
        seen = interquartile_mean(np.array(known["tilt"]["left"]), axis=1) >= ENOUGH
        blue = figures.LINES[3]["color"]
        panel.fill_between(betas[seen], low[seen], high[seen], color=blue, alpha=0.18, linewidth=0)
        if seen.any():
            at = int(np.argmax(seen))
            panel.text(betas[at], low[at], "closed form ", color=blue, ha="right", va="center", fontsize=9.5)
        parts = []
        for index, method in enumerate(record.methods if len(last) else ()):
            if method == DEAD:
                continue
            beta, rewards = beta_of(record, method), last[0, index]
            value, (bottom, top) = float(interquartile_mean(rewards)), map(float, bootstrap_band(rewards))
            if not np.isfinite(rewards).all():
                parts.append(f"{method}: not all seeds are finite, and it is not drawn")
                continue
            between = predicted(record, method)
            parts.append(f"{method}: {value:.2f}")
            if between is not None:
                parts[-1] += f" (closed form {between[0]:.2f} to {between[1]:.2f})"
            color = line_of(method, index)["color"]
            if beta is None:
                panel.axhspan(bottom, top, color=color, alpha=0.3, linewidth=0)
                panel.text(
                    0.03, top, method, color=color, va="bottom", fontsize=9, transform=panel.get_yaxis_transform()
                )
            else:
                around = [[value - bottom], [top - value]]
                panel.errorbar([beta], [value], around, fmt="o", capsize=4, color=color, markersize=6)
        start, seeds = float(np.mean(known["reward"])), len(record.seeds)
        figures.limit_line(panel, start, "reference", at=0.03)
        panel.set_xscale("log")
        panel.set_xlabel("β of the loss")
        panel.set_ylabel("mean reward of samples")
        alt = (
            f"Mean reward of samples against beta, logarithmic, {seeds} seed{'s' * (seeds > 1)}; the reference has "
            f"{start:.2f}. Measured: {'; '.join(parts) or 'nothing yet'}. A pale area is what the closed form predicts "
            "where reweighting can tell."
        )
        return figure, alt


def draw_samples(record: PreferenceRecord | SavedRecord):
    """Samples of the reference and of every method, one row each, from the same noise. Returns (figure, alt text).

    Raises: ValueError for a record that kept no pictures.
    """
    pictures = record.pictures()
    if not pictures:
        raise ValueError(
            "expected a record with pictures; got one that kept none, as a grid's. Take the record of digits or unet."
        )
    with figures.style():
        figure, axes = figures.panels(1, height=0.55 * len(pictures) + 0.3)
        panel = axes[0][0]
        rows = [np.concatenate([np.pad(p, 1, constant_values=255) for p in x], axis=1) for x in pictures.values()]
        high, wide = rows[0].shape
        panel.imshow(np.concatenate(rows), cmap="gray", vmin=0, vmax=255)
        panel.set_xlim(-0.3 * wide, wide)  # room for the names inside of the panel
        for i, name in enumerate(pictures):
            panel.text(-2, high * (i + 0.5), name, ha="right", va="center", fontsize=9)
        panel.set_xticks([])
        panel.set_yticks([])
        panel.grid(False)
        for side in panel.spines.values():
            side.set_visible(False)
        alt = (
            f"{len(pictures)} rows of {len(next(iter(pictures.values())))} pictures of digits, 8 by 8 pixels, each "
            f"column from the same noise: {', '.join(pictures)}."
        )
        return figure, alt


def describe(record: PreferenceRecord | SavedRecord) -> str:
    """The dashboard in words: where every line ends."""

    def end(s, key):
        value = s[f"final_{key}"]["iqm"]
        return f"{key} {'not finite' if value is None else value}"

    parts = [
        f"{method}: {', '.join(end(s, key) for key in ('loss', 'accuracy', 'reward', 'confidence'))}"
        for method, s in record.summary().items()
    ] or ["nothing is finished yet"]
    seeds = len(record.seeds)
    how = f"bands over {seeds} seeds" if seeds > 1 else "thin lines of a single run"
    return (
        f"Six panels against training steps, {how}: loss, implicit accuracy and the winner's error above; reward, "
        f"confidence and entropy of samples below. In the end {'; '.join(parts)}."
    )


def table(record: PreferenceRecord | SavedRecord) -> str:
    """The outcome as a Markdown table."""
    known = comparisons.configuration(record)["reference"]
    head = (
        "| method | loss | accuracy | winner's error, above reference | loser's | reward | closed form "
        "| confidence | entropy |\n|---|---|---|---|---|---|---|---|---|\n"
        f"| reference | 0.693 | 0.5 | 0 | 0 | {np.mean(known['reward']):.2f} | | {np.mean(known['confidence']):.2f} "
        f"| {np.mean(known['entropy']):.2f} |\n"
    )
    rows = []
    for method, s in record.summary().items():
        cells = [method] + [_said(s[f"final_{key}"], 3) for key in ("loss", "accuracy")]
        cells += [_said(s[f"final_{key}"], 4) for key in ("error_chosen", "error_rejected")]
        between = predicted(record, method)
        cells += [_said(s["final_reward"], 2), "" if between is None else f"{between[0]:.2f} to {between[1]:.2f}"]
        cells += [_said(s[f"final_{key}"], 2) for key in ("confidence", "entropy")]
        rows.append(f"| {' | '.join(cells)} |\n")
    return comparisons.unfinished(record) + head + "".join(rows)


GIVEN_AWAY = {
    "loss": "the loss: it rises above log 2",
    "accuracy": "the accuracy: it falls back to one half",
    "error": "the winner's error: it climbs far above the reference's",
    "all": "all three of them",
    "none": "none of the three",
}
FAR_ABOVE = 0.25  # of the reference's own mean squared error: nobody would overlook it


def given_away(record: PreferenceRecord | SavedRecord, method: str = DEAD) -> str:
    """Which of the numbers that a script prints gives a run away in the end, in the words of the prediction.

    The loss does where its band lies above log 2; the accuracy where its band reaches down to one half; the winner's
    error where its band lies above the reference's by a quarter of the latter. Where no seed's numbers are finite any
    more, all of them do.
    Raises: ValueError for a method of which nothing is recorded.
    """
    if method not in record.summary():
        raise ValueError(f"expected a record in which {method!r} was trained; got none of it. Let it run longer.")
    last = {key: value["band"][0] for key, value in record.summary()[method].items()}
    if last["final_loss"] is None:
        return GIVEN_AWAY["all"]
    own_error = np.mean(comparisons.configuration(record)["reference"]["error"])
    found = {
        "loss": last["final_loss"] > math.log(2),
        "accuracy": last["final_accuracy"] <= 0.5,
        "error": last["final_error_chosen"] > FAR_ABOVE * own_error,
    }
    if all(found.values()):
        return GIVEN_AWAY["all"]
    return GIVEN_AWAY[next((name for name, yes in found.items() if yes), "none")]


def cost_rows(profile: str) -> list[str]:
    """Rows of the cost card: what is run on this machine, and what the recorded runs measured."""
    rows = []
    for name in COMPARISONS:
        c = configuration(name, profile)
        measured = comparisons.measured(CHAPTER, name, profile)
        rows.append(f"| {name} | {len(c['objectives'])} | {c['seeds']} | {c['steps']} | {measured} |\n")
    return rows


def _said(statistics, digits):
    if statistics["iqm"] is None:
        return "not finite"
    low, high = ("∞" if end is None else f"{end:.{digits}f}" for end in statistics["band"])
    return f"{statistics['iqm']:.{digits}f} ({low} to {high})" if low != high else f"{statistics['iqm']:.{digits}f}"
