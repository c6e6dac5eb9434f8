"""Make data/digits/: a small classifier of scikit-learn's 8x8 digits and the images it is attacked on.

Run by `make data`; about 20 s. Seed 0 for the split and for the weights. On one machine with the same versions it
writes the same bytes every time. Elsewhere the split, the images and the labels are the same; the weights are computed
in double precision and stored in half precision, so that they are nearly always the same, but that is not promised.
"""

import hashlib
import io
import json
import platform
from pathlib import Path

import numpy as np
import sklearn
import torch
from sklearn.datasets import load_digits as scikit_digits
from torch.nn.functional import cross_entropy

from pocourse.worlds.digits import (
    CLASSES,
    FILE,
    GREY_LEVELS,
    HIDDEN,
    PIXELS,
    RADIUS,
    RECORD,
    WITNESS_LEVELS,
    Digits,
    DigitsAttack,
    load_digits,
)

TARGET = Path(__file__).resolve().parents[1] / "digits"
SEED, HELD_OUT = 0, 360
STEPS, LEARNING_RATE = 300, 1e-2
RADII = (0.1, 0.15, RADIUS, 0.25)
ATTACK_STEPS, ATTACK_RATE, ATTACK_WARMTH = 400, 0.02, (4.0, 0.05)
CLEARANCE = 1e-3  # a witness succeeds by so much, which no rounding of another machine takes away


def split() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images (grey levels) and labels: those to train on, then those held out."""
    bunch = scikit_digits()
    order = np.random.default_rng(SEED).permutation(len(bunch.target))
    held_out, trained_on = order[:HELD_OUT], order[HELD_OUT:]
    images, labels = bunch.data.astype(np.uint8), bunch.target.astype(np.uint8)
    assert (images == bunch.data).all()
    return images[trained_on], labels[trained_on], images[held_out], labels[held_out]


def digits_of(weights: list[torch.Tensor], images: np.ndarray, labels: np.ndarray, dtype: torch.dtype) -> Digits:
    """The weights with images and labels, without a witness and a record."""
    pictures = torch.from_numpy(images).to(dtype) / GREY_LEVELS
    return Digits(*weights, pictures, torch.from_numpy(labels).long(), torch.zeros_like(pictures), {})


def train(images: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    """The four arrays of weights in half precision: full batches, cross-entropy, Adam, in double precision."""
    draw = np.random.default_rng(SEED).normal
    shapes = ((PIXELS, HIDDEN), (HIDDEN,), (HIDDEN, CLASSES), (CLASSES,))
    start = [draw(size=shape) / shape[0] ** 0.5 if len(shape) == 2 else np.zeros(shape) for shape in shapes]
    weights = [torch.from_numpy(array).requires_grad_() for array in start]
    digits = digits_of(weights, images, labels, torch.float64)
    adam = torch.optim.Adam(weights, lr=LEARNING_RATE)
    for _ in range(STEPS):
        adam.zero_grad()
        cross_entropy(digits.logits(digits.images), digits.labels).backward()
        adam.step()
    return [weight.detach().numpy().astype(np.float16) for weight in weights]


def white_box(digits: Digits, *, radius: float) -> torch.Tensor:
    """A perturbation for every image [image, pixel] inside the radius, by projected gradient descent on the margin.

    The largest rival logit is smoothed, sharper from step to step: the gradient of the plain maximum keeps jumping
    between two rivals. From the image itself, with Adam; other starts and step sizes found nothing more.
    """
    low, high = (digits.images - radius).clamp(min=0), (digits.images + radius).clamp(max=1)
    target = torch.nn.functional.one_hot((digits.labels + 1) % CLASSES, CLASSES).bool()
    seen = digits.images.clone().requires_grad_()
    adam = torch.optim.Adam([seen], lr=ATTACK_RATE)
    warm, cold = ATTACK_WARMTH
    for step in range(ATTACK_STEPS):
        warmth = warm * (cold / warm) ** (step / ATTACK_STEPS)
        adam.param_groups[0]["lr"] = ATTACK_RATE * max(1 - step / ATTACK_STEPS, 0.05)
        logits = digits.logits(seen)
        rivals = warmth * (logits.masked_fill(target, -torch.inf) / warmth).logsumexp(-1)
        adam.zero_grad()
        (rivals - logits[target]).sum().backward()
        adam.step()
        with torch.no_grad():
            seen.copy_(seen.clamp(low, high))
    return seen.detach() - digits.images


def right(digits: Digits) -> torch.Tensor:
    """Which images the classifier gets right."""
    return digits.logits(digits.images).argmax(-1) == digits.labels


def write(folder: Path, arrays: dict[str, np.ndarray], record: dict) -> None:
    """The archive and the JSON beside it, which names the archive's sha256."""
    archive = io.BytesIO()
    np.savez(archive, **arrays)  # not compressed: what a compressor writes depends on its version
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_bytes(archive.getvalue())
    record = {**record, "sha256": hashlib.sha256(archive.getvalue()).hexdigest()}
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    (folder / RECORD).write_text(text, encoding="utf-8", newline="\n")


def main(folder: Path = TARGET) -> None:
    """Train, attack with the gradient, write, and read what was written."""
    torch.set_num_threads(1)
    trained_images, trained_labels, images, labels = split()
    halves = train(trained_images, trained_labels)
    weights = [torch.from_numpy(array).double() for array in halves]
    held_out = digits_of(weights, images, labels, torch.float64)
    seen_before = digits_of(weights, trained_images, trained_labels, torch.float64)

    attack, is_right = DigitsAttack(held_out), right(held_out)
    found = {radius: white_box(held_out, radius=radius) for radius in RADII}
    margins = {radius: DigitsAttack(held_out, radius=radius).margin(found[radius][is_right]) for radius in RADII}
    unit = RADIUS / WITNESS_LEVELS
    witness = (found[RADIUS] / unit).round().clamp(-WITNESS_LEVELS, WITNESS_LEVELS)
    succeeds = torch.zeros(len(labels), dtype=torch.bool)
    succeeds[is_right] = attack.margin(witness[is_right] * unit) < -CLEARANCE
    witness[~succeeds] = 0

    attacked = len(attack.labels)
    record = {
        "made_by": "data/make/digits.py, run by make data",
        "seed": SEED,
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "torch": torch.__version__.partition("+")[0],
            "scikit-learn": sklearn.__version__,
        },
        "images": "Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository: "
        "the 1797 images that come with scikit-learn",
        "split": {
            "trained_on": len(trained_labels),
            "held_out": len(labels),
            "rule": "numpy.random.default_rng(0).permutation(1797), the first 360 held out; writers are in both parts",
        },
        "classifier": {
            "layers": [PIXELS, HIDDEN, CLASSES],
            "hidden": "sigmoid",
            "loss": "cross-entropy, all images in every step",
            "optimizer": "Adam",
            "learning_rate": LEARNING_RATE,
            "steps": STEPS,
            "stored_as": "float16",
        },
        "accuracy": {
            "trained_on": round(float(right(seen_before).double().mean()), 4),
            "held_out": round(float(right(held_out).double().mean()), 4),
            "right_of_held_out": f"{attacked} of {len(labels)}",
        },
        "white_box": {
            "how": "projected gradient descent on the margin, its maximum smoothed, Adam from the image itself",
            "steps": ATTACK_STEPS,
            "radius": RADIUS,
            "clearance": CLEARANCE,
            "attacked": attacked,
            "witnesses": int(succeeds.sum()),
            "share": round(int(succeeds.sum()) / attacked, 4),
            "margin_before": {
                name: round(float(attack.margin(torch.zeros_like(attack.images)).quantile(at)), 2)
                for name, at in (("lowest_tenth", 0.1), ("median", 0.5), ("highest_tenth", 0.9))
            },
            "share_by_radius": {f"{r:g}": round(float((m < 0).double().mean()), 4) for r, m in margins.items()},
        },
    }
    arrays = dict(zip(("first", "first_bias", "last", "last_bias"), halves, strict=True))
    write(folder, {**arrays, "images": images, "labels": labels, "witness": witness.numpy().astype(np.int8)}, record)
    shipped = DigitsAttack(load_digits(folder))
    assert int(shipped.reachable.sum()) == int(succeeds.sum())


if __name__ == "__main__":
    main()
