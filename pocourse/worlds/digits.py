"""A classifier of 8x8 digits to be deceived from its answers alone: a targeted black-box attack on every image."""

import hashlib
import io
import json
import math
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from pocourse import _check

PIXELS, HIDDEN, CLASSES = 64, 64, 10
GREY_LEVELS = 16  # an image is counts from 0 to 16, divided by 16
RADIUS = 0.2
WITNESS_LEVELS = 127  # a shipped witness is whole multiples of RADIUS / 127
FILE, RECORD = "classifier.npz", "classifier.json"
LAYOUT = {
    "first": (np.float16, (PIXELS, HIDDEN)),
    "first_bias": (np.float16, (HIDDEN,)),
    "last": (np.float16, (HIDDEN, CLASSES)),
    "last_bias": (np.float16, (CLASSES,)),
    "images": (np.uint8, ("image", PIXELS)),
    "labels": (np.uint8, ("image",)),
    "witness": (np.int8, ("image", PIXELS)),
}


class Digits(NamedTuple):
    """The classifier, the images it was not trained on, and how all of it was made.

    ``first`` [pixel, hidden] and ``last`` [hidden, class] with their biases are the classifier. ``images``
    [image, pixel] lie in [0, 1], rows of the 8x8 picture one after the other; ``labels`` [image] say what they show.
    ``witness`` [image, pixel] holds, for every image where an attack that knows the weights found one, a perturbation
    inside the radius 0.2 that succeeds, and zeros elsewhere. ``record`` is the JSON beside the file.
    """

    first: Float[Tensor, "pixel hidden"]
    first_bias: Float[Tensor, "hidden"]
    last: Float[Tensor, "hidden class"]
    last_bias: Float[Tensor, "class"]
    images: Float[Tensor, "image pixel"]
    labels: Int64[Tensor, "image"]
    witness: Float[Tensor, "image pixel"]
    record: dict

    def logits(self, images: Float[Tensor, "*batch pixel"]) -> Float[Tensor, "*batch class"]:
        r"""What the classifier answers: a perceptron with one hidden layer of sigmoids.

        .. math:: z = W_2^\top\, \mathrm{sigmoid}(W_1^\top x + b_1) + b_2

        Shapes: images [\*batch, pixel] -> [\*batch, class], in the dtype and on the device of the weights.
        Gradient: through the images; an attack that may use it is a white-box attack.
        Raises: nothing.
        Source: textbook; trained by data/make/digits.py.
        """
        hidden = torch.nn.functional.linear(images, self.first.T, self.first_bias).sigmoid()
        return torch.nn.functional.linear(hidden, self.last.T, self.last_bias)


def load_digits(folder: Path) -> Digits:
    r"""The shipped classifier and images, from the folder ``digits`` of the course's data.

    Weights are stored in half precision and computed with in single precision; both are exact copies of what the
    record was measured with.

    Shapes: first [64, 64], last [64, 10], images and witness [image, 64], labels [image].
    Gradient: none.
    Raises: ValueError where a file is missing, its bytes are not those the record names, or it holds something else
    than the arrays above.
    Source: the images are from Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits (UCI Machine Learning
    Repository), as they come with scikit-learn; the classifier is ours.
    """
    record = _read_record(Path(folder) / RECORD)
    path = Path(folder) / FILE
    content = _read(path)
    found = hashlib.sha256(content).hexdigest()
    if found != record["sha256"]:
        raise _unusable(path, f"with the sha256 {record['sha256'][:12]}… that {RECORD} names", f"{found[:12]}…")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise _unusable(path, "as an archive of numpy arrays", f"{type(error).__name__}: {error}") from None
    _judge(path, arrays)
    tensors = {name: torch.from_numpy(array).float() for name, array in arrays.items()}
    return Digits(
        **{name: tensors[name] for name in ("first", "first_bias", "last", "last_bias")},
        images=tensors["images"] / GREY_LEVELS,
        labels=tensors["labels"].long(),
        witness=tensors["witness"] * (RADIUS / WITNESS_LEVELS),
        record=record,
    )


class DigitsAttack:
    r"""Change every image a little, so that the classifier takes it for the next digit; only its answers are known.

    .. math:: x' = \mathrm{clip}\big(x + \mathrm{clip}(\theta, -\epsilon, \epsilon),\ 0,\ 1\big), \qquad
        f(\theta) = \max_{j \ne t} z_j(x') - z_t(x'), \qquad t = (y + 1) \bmod 10

    The perturbation theta is minimised over; it has no bounds of its own, and outside of the radius epsilon f is flat.
    The attack has succeeded where f is below 0: the target has the largest logit then.

    Of the shipped images those that the classifier gets right are attacked, the first ``num_images`` of them in the
    order of the file, by default all. Which of them can be deceived inside the radius at all nobody has proved;
    ``reachable`` says where a perturbation that does it is known. It was found with the gradient, at the radius 0.2,
    and a black box may find others.

    Shapes: perturbations [\*batch, image, 64]; of the attributes images and witness [image, 64], labels, targets and
    reachable [image].
    Raises: ValueError for a radius that is not positive, or for a number of images that there are not.
    Source: the attack on MNIST in the public code of Qiu et al. 2025 (ZoAR, arXiv 2506.14460): loss, target, radius and
    both clips. There a convolutional network is attacked, with 784 pixels; digits, classifier and the choice of images
    are ours.
    """

    dim = PIXELS

    def __init__(self, digits: Digits, *, num_images: int | None = None, radius: float = RADIUS):
        _check.number(above=0, radius=radius)
        right = (digits.logits(digits.images).argmax(-1) == digits.labels).nonzero().squeeze(-1)
        if num_images is None:
            num_images = len(right)
        _check.number(at_least=1, at_most=len(right), num_images=num_images)
        if not isinstance(num_images, int):
            raise ValueError(f"expected num_images as a whole number; got {num_images!r}. Pass an int.")
        chosen = right[:num_images]
        self.digits, self.radius = digits, radius
        self.images, self.labels, self.witness = digits.images[chosen], digits.labels[chosen], digits.witness[chosen]
        self.targets = (self.labels + 1) % CLASSES
        self._kept = {}
        self.reachable = self.margin(self.witness) < 0

    def seen(self, perturbation: Float[Tensor, "*batch image pixel"]) -> Float[Tensor, "*batch image pixel"]:
        r"""The images that the classifier gets to see.

        .. math:: x' = \mathrm{clip}\big(x + \mathrm{clip}(\theta, -\epsilon, \epsilon),\ 0,\ 1\big)

        Shapes: [\*batch, image, 64] -> [\*batch, image, 64], in [0, 1].
        Gradient: none.
        Raises: ValueError for other last axes than [image, 64], integers, NaN.
        Source: the public code of Qiu et al. 2025 (ZoAR).
        """
        _check.axes(2, perturbation=perturbation)
        _check.floating(perturbation=perturbation)
        _check.shape((*perturbation.shape[:-2], *self.images.shape), perturbation=perturbation)
        with torch.no_grad():
            images = self._held(perturbation).images
            return perturbation.clamp(-self.radius, self.radius).add_(images).clamp_(0, 1)

    def margin(self, perturbation: Float[Tensor, "*batch image pixel"]) -> Float[Tensor, "*batch image"]:
        r"""How far every image is from being taken for its target: the value to be minimised, success below 0.

        .. math:: f(\theta) = \max_{j \ne t} z_j(x') - z_t(x')

        One value for one query; leading axes (queries, methods, seeds) are evaluated in one go.

        Shapes: [\*batch, image, 64] -> [\*batch, image], in the dtype and on the device of the perturbation.
        Gradient: none: a black box.
        Raises: ValueError for other last axes than [image, 64], integers, NaN.
        Source: the public code of Qiu et al. 2025 (ZoAR), whose log-probabilities differ by the same as logits.
        """
        seen = self.seen(perturbation)
        with torch.no_grad():
            held = self._held(perturbation)
            logits = held.digits.logits(seen)
            of_target = logits.gather(-1, held.targets.expand(seen.shape[:-1]).unsqueeze(-1)).squeeze(-1)
            return (logits + held.without_target).amax(-1) - of_target

    def _held(self, like: Tensor) -> "_Held":
        """What margins are made of, in the dtype and on the device of a tensor; converted once."""
        key = (like.dtype, like.device)
        if key not in self._kept:
            digits = Digits(*(x.to(like) if torch.is_tensor(x) else x for x in self.digits))
            target = torch.nn.functional.one_hot(self.targets, CLASSES).bool()
            without = torch.zeros(target.shape).masked_fill(target, -math.inf).to(like)
            self._kept[key] = _Held(digits, self.images.to(like), self.targets.to(like.device), without)
        return self._kept[key]


class _Held(NamedTuple):
    """``without_target`` [image, class] is added to logits: -inf at the target, 0 elsewhere."""

    digits: Digits
    images: Tensor
    targets: Tensor
    without_target: Tensor


def _read(path):
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unusable(path, "as it is shipped with the course", error.strerror or type(error).__name__) from None


def _read_record(path):
    try:
        record = json.loads(_read(path).decode("utf-8"))
        if isinstance(record, dict) and isinstance(record.get("sha256"), str):
            return record
        got = "no such entry"
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        got = f"{type(error).__name__}: {error}"
    raise _unusable(path, f"as JSON that names the sha256 of {FILE}", got)


def _unusable(path, expected, got):
    return ValueError(
        f"expected {path} {expected}; got {got}. In a checkout restore data/digits with git or run `make data`, which "
        "makes it again; elsewhere install pocourse again."
    )


def _judge(path, arrays):
    if set(arrays) != set(LAYOUT):
        raise _unusable(path, f"with the arrays {', '.join(LAYOUT)}", ", ".join(arrays) or "none")
    images = arrays["labels"].size
    for name, (dtype, shape) in LAYOUT.items():
        array, wanted = arrays[name], tuple(images if size == "image" else size for size in shape)
        if array.dtype != dtype or array.shape != wanted or array.size == 0:
            said = f"{np.dtype(dtype)} {list(shape)}"
            raise _unusable(path, f"with {name} as {said}", f"{array.dtype} {list(array.shape)}")
    weights = ("first", "first_bias", "last", "last_bias")
    sound = {
        **{name: bool(np.isfinite(arrays[name]).all()) for name in weights},
        "images": int(arrays["images"].max()) <= GREY_LEVELS,
        "labels": int(arrays["labels"].max()) < CLASSES,
        "witness": int(arrays["witness"].min()) >= -WITNESS_LEVELS,
    }
    for name, good in sound.items():
        if not good:
            raise _unusable(path, f"with {name} inside their range", "values outside of it, or not finite")
