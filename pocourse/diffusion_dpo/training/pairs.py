"""Preference pairs in a folder, and what a pipeline makes of them: latents and text embeddings, encoded once.

The layout::

    FOLDER/pairs.jsonl    a pair a line: {"prompt": "a red circle", "chosen": "a.png", "rejected": "more/b.png"}
    FOLDER/a.png          the images, in folders of their own or not; pairs.jsonl names them relative to FOLDER

A line has these three fields and no other; empty lines are skipped. An image may belong to several pairs. Images have
eight bits a channel and nothing transparent; they are turned as their camera says, cut to a square around the centre
and resized.

The cache has a file for every image and every prompt, named by the content it was made from. An image that changes has
another name there, and so is encoded again; what was cached before stays. Every file is written beside its place
and then moved, so it is whole or not there.
"""

import hashlib
import io
import json
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

FILE = "pairs.jsonl"
FIELDS = ("prompt", "chosen", "rejected")
SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
EIGHT_BITS = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}
# Part of every name in the cache: a change of what is done to an image changes it.
PREPARATION = "exif, centre square, lanczos"


class Picture(NamedTuple):
    """An image file and the sha256 of its bytes."""

    path: Path
    sha256: str


class Pair(NamedTuple):
    """What was asked for, the image that was preferred and the one that was not."""

    prompt: str
    chosen: Picture
    rejected: Picture


class Encoded(NamedTuple):
    """A batch of pairs as the VAE and the text encoder see them, in float32.

    The VAE's posterior of an image is a Gaussian: ``chosen_mean`` and ``chosen_std`` are its parameters
    [pair, channel, height, width], in the VAE's own units, before its scaling factor; ``rejected_mean`` and
    ``rejected_std`` are those of the other image. ``embedding`` [pair, token, feature] is the prompt's.
    """

    chosen_mean: Float[Tensor, "pair channel height width"]
    chosen_std: Float[Tensor, "pair channel height width"]
    rejected_mean: Float[Tensor, "pair channel height width"]
    rejected_std: Float[Tensor, "pair channel height width"]
    embedding: Float[Tensor, "pair token feature"]


# ---------------------------------------------------------------- the folder


def read_pairs(folder: Path) -> list[Pair]:
    """Every pair of a folder, in the order of its lines, after all of them have been judged and all images opened.

    Shapes: none; ``pairs.jsonl`` and the images lie as the module says.
    Raises: ValueError that names, by line and file, *every* problem: a line that is no JSON object of the three fields,
    an empty prompt, an image without its partner, an image that is missing, unreadable, transparent, deeper than eight
    bits or outside of the folder, one image on both sides of a pair (under two names, too), and image files that no
    line names.
    Source: ours.
    """
    folder = Path(folder)
    path = folder / FILE
    if not path.is_file():
        raise ValueError(
            f"expected a folder of preference pairs with a file {FILE}; got {folder} without one. "
            f'Write a line {{"prompt": ..., "chosen": ..., "rejected": ...}} for every pair.'
        )
    entries, problems = [], []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if line.strip():
            entry, wrong = _entry(line)
            problems += [(number, problem) for problem in wrong]
            entries.append((number, entry))
    names = sorted({entry[side] for _, entry in entries for side in ("chosen", "rejected") if side in entry})
    with ThreadPoolExecutor() as pool:  # decoding leaves Python's lock alone
        looks = dict(zip(names, pool.map(lambda name: _look(folder, name), names), strict=True))
    pairs = []
    for number, entry in entries:
        sides = [(entry[side], looks[entry[side]]) for side in ("chosen", "rejected") if side in entry]
        problems += [(number, f"image {name!r} {found}") for name, found in sides if isinstance(found, str)]
        if len(sides) == 2 and all(isinstance(found, Picture) for _, found in sides):
            (one, chosen), (other, rejected) = sides
            if chosen.sha256 == rejected.sha256:
                twice = "" if one == other else f" (and {other!r}, byte for byte)"
                problems.append((number, f"image {one!r}{twice} is both chosen and rejected"))
            else:
                pairs.append(Pair(entry.get("prompt", ""), chosen, rejected))
    problems += [(None, f"image {name!r} is unpaired: no line names it") for name in _unnamed(folder, names)]
    if not entries:
        problems.append((None, "holds no pair"))
    if problems:
        problems.sort(key=lambda problem: (problem[0] is None, problem[0]))
        said = [f"  {FILE}:{number}: {what}" if number else f"  {FILE}: {what}" for number, what in problems]
        raise ValueError(
            f"expected a folder of whole preference pairs; got {len(said)} problem(s) in {folder}:\n"
            + "\n".join(said)
            + "\nMend or remove these lines and files. Nothing was encoded, and what is cached is still there."
        )
    return pairs


def write_pairs(folder: Path, pairs: Iterable[tuple]) -> Path:
    """Write pairs (prompt, chosen, rejected), the images as Pillow has them, in the layout that ``read_pairs`` reads.

    Shapes: none. Returns the folder; images are stored as PNG, ``00000-chosen.png`` and so on.
    Raises: ValueError where the folder holds pairs already.
    Source: ours.
    """
    folder = Path(folder)
    if (folder / FILE).exists():
        raise ValueError(f"expected a folder without pairs; got {folder}, which has a {FILE}. Choose another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, (prompt, *images) in enumerate(pairs):
        names = {side: f"{number:05d}-{side}.png" for side in ("chosen", "rejected")}
        for name, image in zip(names.values(), images, strict=True):
            image.save(folder / name)
        lines.append(json.dumps({"prompt": prompt} | names, ensure_ascii=False) + "\n")
    replace(folder / FILE, "".join(lines).encode())
    return folder


def _entry(line: bytes) -> tuple[dict, list[str]]:
    """A line's fields, as far as they are usable, and what is wrong with it."""
    try:
        entry = json.loads(line.decode("utf-8-sig"))
    except ValueError as error:
        return {}, [f"is no JSON: {error}"]
    if not isinstance(entry, dict):
        return {}, [f"is a JSON {type(entry).__name__}, no object with the fields {', '.join(FIELDS)}"]
    wrong = [f"has the unknown field {name!r}" for name in entry if name not in FIELDS]
    usable = {name: entry[name] for name in FIELDS if isinstance(entry.get(name), str) and entry[name].strip()}
    if "prompt" not in usable:
        wrong.append("has an empty prompt" if isinstance(entry.get("prompt"), str) else "has no text for a prompt")
    for side, partner in (("chosen", "rejected"), ("rejected", "chosen")):
        if side not in usable:
            beside = f" beside the {partner} image {usable[partner]!r}" if partner in usable else ""
            wrong.append(f"has no {side} image{beside}")
    return usable, wrong


def _look(folder: Path, name: str) -> Picture | str:
    """An image that can be used, or why it cannot."""
    from PIL import UnidentifiedImageError

    path = folder / name
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            return "lies outside of the folder"
        if not path.is_file():
            return "is missing"
        content = path.read_bytes()
        opened(content)
    except UnidentifiedImageError:  # its own text holds an object's address
        return "is unreadable: no format of images that Pillow knows"
    except Exception as error:  # a decoder may raise anything on a damaged file
        return f"is unreadable: {error}"
    return Picture(path, hashlib.sha256(content).hexdigest())


def _unnamed(folder: Path, names: Iterable[str]) -> list[str]:
    """Image files of a folder that have other names, hidden ones left aside."""
    known = {os.path.normpath(folder / name) for name in names}
    found = []
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in inside.parts)
        if path.suffix.lower() in SUFFIXES and not hidden and os.path.normpath(path) not in known and path.is_file():
            found.append(inside.as_posix())
    return found


# ---------------------------------------------------------------- images


def opened(content: bytes):
    """An image file's content as a Pillow image in RGB, turned as its camera says.

    Shapes: none.
    Raises: ValueError for transparent pixels, or more than eight bits a channel; whatever Pillow raises for a file that
    is damaged.
    Source: ours.
    """
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(content)) as image:
        image.load()
        if image.mode not in EIGHT_BITS:
            raise ValueError(f"expected eight bits a channel; got the mode {image.mode}. Save it as RGB")
        if "A" in image.getbands() or "transparency" in image.info:
            if image.convert("RGBA").getchannel("A").getextrema()[0] < 255:
                raise ValueError("expected no transparent pixels; got some. Put it on a background")
        return ImageOps.exif_transpose(image).convert("RGB")


def image_tensor(content: bytes, *, resolution: int) -> Float[Tensor, "3 resolution resolution"]:
    """An image file's content as the VAE takes it: the square around the centre, resized, in [-1, 1].

    Shapes: [3, resolution, resolution], float32.
    Raises: as ``opened``.
    Source: ours; public codes differ in the filter.
    """
    import numpy as np
    from PIL import Image, ImageOps

    image = ImageOps.fit(opened(content), (resolution, resolution), method=Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 127.5 - 1


# ---------------------------------------------------------------- the cache


class Cached:
    """The encoded pairs on disk: read back in batches, without the VAE or the text encoder.

    ``encoded`` says how many images and prompts had to be encoded, and were not there before.
    """

    def __init__(self, files: Sequence[tuple[Path, Path, Path]], *, empty: Path, encoded: int):
        self._files, self._empty, self.encoded = list(files), empty, encoded

    def __len__(self) -> int:
        return len(self._files)

    def batch(self, indices: Sequence[int], *, without_prompt: Sequence[bool] | None = None) -> Encoded:
        """The pairs with these numbers, in this order, those that are ``without_prompt`` with the empty one.

        Shapes: as ``Encoded`` says, a pair for every index.
        Raises: ValueError where a file of the cache is gone or damaged.
        Source: ours.
        """
        without = [False] * len(indices) if without_prompt is None else without_prompt
        places = [self._files[index] for index in indices]
        places = [(*of[:2], self._empty if bare else of[2]) for of, bare in zip(places, without, strict=True)]
        rows = [[_read(path) for path in of] for of in places]
        return Encoded(
            *(torch.stack([row[side][name] for row in rows]) for side in (0, 1) for name in ("mean", "std")),
            torch.stack([row[2]["embedding"] for row in rows]),
        )


def cache_latents(
    pairs: Sequence[Pair],
    pipeline,
    folder: Path,
    *,
    resolution: int,
    device: torch.device | str = "cpu",
    share: tuple[int, int] = (0, 1),
) -> Cached:
    """Encode every image and every prompt that ``folder`` does not hold yet, once, and the empty prompt.

    Stored are the mean and the standard deviation of the VAE's posterior, not one draw of it: training draws anew at
    every step, as diffusers' research example does. One image is encoded at a time, so that its latent does not depend
    on which images come with it, and a caching that was interrupted ends in the same files as one that was not. A file
    of the cache that is damaged is made again.

    ``pipeline`` is a loaded Stable Diffusion pipeline; its VAE and text encoder are moved to ``device``. Of several
    processes each takes its ``share``, (its number, how many there are); all of them must be done before any reads.

    Shapes: none.
    Raises: ValueError where an image has changed since it was read.
    Source: ours.
    """
    folder, keys, (number, of) = Path(folder), _Keys(pipeline, resolution), share
    images = {picture.sha256: picture for pair in pairs for picture in (pair.chosen, pair.rejected)}
    places = {sha256: _place(folder / "images", keys.image(sha256)) for sha256 in images}
    prompts = [pair.prompt for pair in pairs] + [""]
    texts = {prompt: _place(folder / "prompts", keys.prompt(prompt)) for prompt in dict.fromkeys(prompts)}
    # Different prompts may have the same tokens, and so the same file.
    wanted = {path: images[sha256] for sha256, path in places.items()} | {path: text for text, path in texts.items()}
    # Shares of all there is, not of what is missing: the other processes are filling the cache meanwhile.
    mine = [(path, what) for path, what in list(wanted.items())[number::of] if not _whole(path)]
    if mine:
        vae, text_encoder = pipeline.vae.to(device).eval(), pipeline.text_encoder.to(device).eval()
    for path, what in mine:
        with torch.no_grad():
            if isinstance(what, str):
                tensors = {"embedding": _embedding(pipeline, what, text_encoder.device)}
            else:
                posterior = vae.encode(_again(what, resolution)[None].to(vae.device, vae.dtype)).latent_dist
                tensors = {"mean": posterior.mean[0], "std": posterior.std[0]}
        _write(path, tensors)
    files = [(places[p.chosen.sha256], places[p.rejected.sha256], texts[p.prompt]) for p in pairs]
    return Cached(files, empty=texts[""], encoded=len(mine))


def identity(module: torch.nn.Module) -> str:
    """The sha256 of a network's weights: their names, types, shapes and values.

    Shapes: none.
    Raises: nothing.
    Source: ours.
    """
    found = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()


def fingerprint(*parts: object) -> str:
    """The sha256 of numbers, texts and lists of them, as JSON."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def replace(path: Path, content: bytes) -> None:
    """Write a file beside its place and move it there: whoever looks finds the old one or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(part, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


class _Keys:
    """Names in the cache, of what was encoded and of the networks that encoded it."""

    def __init__(self, pipeline, resolution: int):
        self._tokenizer, self._resolution = pipeline.tokenizer, resolution
        self._vae, self._text_encoder = identity(pipeline.vae), identity(pipeline.text_encoder)

    def image(self, sha256: str) -> str:
        return fingerprint("image", sha256, self._vae, self._resolution, PREPARATION)

    def prompt(self, prompt: str) -> str:
        length = self._tokenizer.model_max_length
        tokens = self._tokenizer(prompt, padding="max_length", truncation=True, max_length=length).input_ids
        return fingerprint("prompt", tokens, self._text_encoder)


def _place(folder: Path, key: str) -> Path:
    return folder / key[:2] / f"{key}.safetensors"


def _again(picture: Picture, resolution: int) -> Tensor:
    content = picture.path.read_bytes()
    if hashlib.sha256(content).hexdigest() != picture.sha256:
        raise ValueError(
            f"expected {picture.path} as it was when the pairs were read; got other bytes. Leave the images alone "
            "while they are encoded, and start again: what is cached is kept."
        )
    return image_tensor(content, resolution=resolution)


def _embedding(pipeline, prompt: str, device: torch.device) -> Tensor:
    embedding, _ = pipeline.encode_prompt(prompt, device, num_images_per_prompt=1, do_classifier_free_guidance=False)
    return embedding[0]


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    from safetensors.torch import save

    replace(path, save({name: tensor.detach().float().cpu().contiguous() for name, tensor in tensors.items()}))


def _whole(path: Path) -> bool:
    """Whether a file of the cache is there, and as long as its own header says."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt"):
            return True
    except (OSError, SafetensorError):
        return False


def _read(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"expected a whole file of the cache in {path}; got {error}. Start again: it will be encoded anew."
        ) from error
