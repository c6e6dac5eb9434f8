"""Make data/denoisers/: denoisers of scikit-learn's 8x8 digits, the references of chapter 5.

Run by `make data`; about ten minutes on one thread. `python data/make/denoisers.py digits_unet` makes one of them. A
perceptron is trained eight times, with seeds 0 to 7, side by side; a small UNet once. On one machine with the same
versions it writes the same bytes every time. Elsewhere rounding sends each training another way, to weights that are
others and as good.
"""

import platform
import sys
from pathlib import Path

import numpy as np
import sklearn
import torch
from sklearn.datasets import load_digits as scikit_digits

from pocourse.engine import SeedStreams
from pocourse.engine.denoisers import Denoiser, ResidualMLP, UNetDenoiser, ddim_sample, load_weights, save_weights
from pocourse.engine.preference import denoise
from pocourse.worlds.digits import load_digits
from pocourse.worlds.preferences import class_confidence, class_entropy, ink

DATA = Path(__file__).resolve().parents[1]
TARGET = DATA / "denoisers"
HELD_OUT = 360
SCHEDULE = {"num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2"}
NUM_STEPS, SAMPLES, SAMPLE_SEED, TRIALS = 20, 1024, 1000, 4000

MLP = {"pixels": 64, "width": 96, "blocks": 3, "time_features": 64}
UNET = {
    "sample_size": 8,
    "in_channels": 1,
    "out_channels": 1,
    "block_out_channels": [16, 32],
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "down_block_types": ["DownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "UpBlock2D"],
}
MAKE = {"digits_mlp": (ResidualMLP, MLP, (64,)), "digits_unet": (UNetDenoiser.unet2d, UNET, (1, 8, 8))}
TRAINING = {
    "digits_mlp": {"seeds": 8, "num_steps": 3000, "batch_size": 128, "learning_rate": 4e-3, "average": 0.999},
    "digits_unet": {"seeds": 1, "num_steps": 4000, "batch_size": 64, "learning_rate": 2e-3, "average": 0.999},
}


def split() -> tuple[torch.Tensor, torch.Tensor]:
    """Images [image, 64] in [-1, 1]: those to train on, and those held out, as for the classifier of data/digits."""
    bunch = scikit_digits()
    order = np.random.default_rng(0).permutation(len(bunch.target))
    images = torch.from_numpy(bunch.data).float() / 8 - 1
    return images[order[HELD_OUT:]], images[order[:HELD_OUT]]


def train(
    name: str, denoiser: Denoiser, images: torch.Tensor, alpha_bar: torch.Tensor, *, seeds: int, **settings: float
) -> torch.Tensor:
    """The running average of the parameters at the end, [seed, parameter]."""
    streams, last = SeedStreams(range(seeds)), []

    def keep(seen):
        last[:] = [seen.parameters]
        return {}

    every = settings["num_steps"] // 10
    stream = denoise(
        denoiser, denoiser.init(streams), images, streams, alpha_bar=alpha_bar, every=every, probe=keep, **settings
    )
    for block, metrics in enumerate(stream, start=1):
        assert metrics["alive"].all()
        print(f"{name}: step {block * every}, loss {float(metrics['loss'].mean()):.4f}", file=sys.stderr, flush=True)
    return last[0]


@torch.no_grad()
def error(denoiser: Denoiser, parameters: torch.Tensor, images: torch.Tensor, alpha_bar: torch.Tensor) -> torch.Tensor:
    """Mean squared error of the predicted noise, all time steps alike, on the same noise for every seed [seed]."""
    timestep = torch.arange(TRIALS) % len(alpha_bar)
    noise = SeedStreams([SAMPLE_SEED]).normal(TRIALS, *images.shape[1:])[0]
    kept = alpha_bar[timestep].view(-1, *[1] * (images.ndim - 1))
    xt = kept.sqrt() * images[torch.arange(TRIALS) % len(images)] + (1 - kept).sqrt() * noise
    rows = [x.unsqueeze(0).expand(len(parameters), *x.shape) for x in (xt, timestep, noise)]
    parts = zip(*(x.split(200, dim=1) for x in rows), strict=True)
    found = [((denoiser(parameters, x, t) - e) ** 2).flatten(1).mean(1) for x, t, e in parts]
    return torch.stack(found).mean(0)


def quality(denoiser: Denoiser, parameters: torch.Tensor, pixels: tuple[int, ...], scheduler: object) -> dict:
    """How good the samples of every seed are, beside real images."""
    seeds = range(SAMPLE_SEED, SAMPLE_SEED + len(parameters))
    noise = SeedStreams(seeds).normal(SAMPLES, *pixels)
    samples = ddim_sample(denoiser, parameters, noise, scheduler, num_steps=NUM_STEPS).flatten(2)
    trained_on, held_out = split()
    judge = load_digits(DATA / "digits")
    reward = ink(samples)

    def of_seeds(values):
        return [round(float(x), 4) for x in values]

    def error_on(images):
        return of_seeds(error(denoiser, parameters, images.view(-1, *pixels), scheduler.alphas_cumprod))

    return {
        "samples_of_a_seed": SAMPLES,
        "error": {"trained_on": error_on(trained_on), "held_out": error_on(held_out)},
        "confidence": of_seeds(class_confidence(judge, samples)),
        "class_entropy": of_seeds(class_entropy(judge, samples)),
        "ink_mean": of_seeds(reward.mean(1)),
        "ink_sd": of_seeds(reward.std(1)),
        "real_images": {
            "which": "held out, of the classifier as well",
            "confidence": round(float(class_confidence(judge, held_out)), 4),
            "class_entropy": round(float(class_entropy(judge, held_out)), 4),
            "ink_mean": round(float(ink(held_out).mean()), 4),
            "ink_sd": round(float(ink(held_out).std()), 4),
        },
    }


def main(folder: Path = TARGET, names: tuple[str, ...] = tuple(MAKE), training: dict = TRAINING) -> None:
    """Train, measure what half precision leaves of it, write, and read what was written."""
    import diffusers
    import safetensors

    torch.set_num_threads(1)
    scheduler = diffusers.DDPMScheduler(**SCHEDULE)
    images, held_out = split()
    for name in names:
        make, configuration, pixels = MAKE[name]
        settings = training[name]
        denoiser = make(**configuration)
        trained = train(name, denoiser, images.view(-1, *pixels), scheduler.alphas_cumprod, **settings)
        record = {
            "made_by": "data/make/denoisers.py, run by make data",
            "seed": list(range(settings["seeds"])),
            "versions": {
                "python": platform.python_version(),
                "numpy": np.__version__,
                "torch": torch.__version__.partition("+")[0],
                "diffusers": diffusers.__version__,
                "safetensors": safetensors.__version__,
                "scikit-learn": sklearn.__version__,
            },
            "images": "Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits, UCI Machine Learning "
            "Repository: the 1797 images that come with scikit-learn, grey levels / 8 - 1",
            "split": {
                "trained_on": len(images),
                "held_out": len(held_out),
                "rule": "numpy.random.default_rng(0).permutation(1797), the first 360 held out, as for the classifier "
                "of data/digits; writers are in both parts",
            },
            "configuration": configuration,
            "parameters": denoiser.num_parameters,
            "schedule": SCHEDULE,
            "training": {
                **{key: value for key, value in settings.items() if key != "seeds"},
                "loss": "mean squared error of the predicted noise, uniform time steps",
                "optimizer": "Adam, gradients clipped to norm 1, the learning rate falling along half a cosine",
                "averaging": "of parameters, keeping that share of itself at a step; at first (1 + step) / (10 + step)",
            },
            "sampling": {"scheduler": "DDIMScheduler", "num_steps": NUM_STEPS, "eta": 0},
            "quality": quality(denoiser, trained.half().float(), pixels, scheduler),
        }
        save_weights(folder, name, denoiser, trained, record)
        assert torch.equal(load_weights(folder, name, make).parameters, trained.half().float())


if __name__ == "__main__":
    main(names=tuple(sys.argv[1:]) or tuple(MAKE))
