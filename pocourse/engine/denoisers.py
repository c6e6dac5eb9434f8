"""Denoisers with a seed axis, a sampler without chance, and the weights that ship with the course.

A denoiser is told a noised image and its time step, and predicts the noise. Its parameters are one row of numbers per
seed (and method), so that every network goes through the same loops.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import silu

from pocourse import _check
from pocourse.engine.nets import orthogonal
from pocourse.engine.streams import SeedStreams

MAX_PERIOD = 10_000.0
FILE_BYTES = 2**20  # of one file of weights, at most
HEADER_BYTES = 2**15  # names and shapes inside of it, at most

Layout = dict[str, tuple[int, ...]]
Forward = Callable[[torch.nn.Module, Tensor, Tensor, Tensor | None], Tensor]


class Denoiser(Protocol):
    """A network that predicts the noise: what the loops and the sampler ask of it.

    ``layout`` names its tensors and their shapes in the order in which a row stores them. ``condition`` is whatever
    the network is told beside image and time step, [row, sample, ...].
    """

    layout: Layout
    num_parameters: int

    def init(self, streams: SeedStreams) -> Float[Tensor, "seed parameter"]: ...

    def __call__(
        self,
        parameters: Float[Tensor, "row parameter"],
        xt: Float[Tensor, "row sample *pixel"],
        timestep: Int64[Tensor, "row sample"],
        condition: Tensor | None = None,
    ) -> Float[Tensor, "row sample *pixel"]: ...


@dataclass(frozen=True)
class ResidualMLP:
    r"""A residual perceptron for images whose pixels are one flat axis, a copy per row.

    .. math:: \epsilon_\theta(x, t) = (1 + a_t)\, f(x, t) + b_t\, x

    The time step enters as sines and cosines of ``time_features`` / 2 frequencies. After one layer they are added to
    the image's ``width`` units, and make two factors: how much of the network's answer is predicted, and how much of
    the noised image itself, which is mostly noise where there is much of it. Each of the ``blocks`` of f adds
    silu(h W1 + b1) W2 to h. Its head and both factors start at zero, so that an untrained denoiser predicts no noise.
    """

    pixels: int
    width: int
    blocks: int = 3
    time_features: int = 64

    def __post_init__(self):
        sizes = {"pixels": self.pixels, "width": self.width, "blocks": self.blocks, "time_features": self.time_features}
        _check.number(at_least=1, **sizes)
        if any(not isinstance(size, int) for size in sizes.values()) or self.time_features % 2:
            raise ValueError(
                f"expected whole numbers, and an even number of time_features; got {sizes}. "
                "Digits of 8x8 pixels want pixels=64."
            )

    @property
    def layout(self) -> Layout:
        """Every tensor's name and shape, in the order in which a row stores them."""
        w = self.width
        layers = {"time": (self.time_features, w), "time_bias": (w,), "mix": (w, w)}
        layers |= {"factors": (w, 2), "in": (self.pixels, w)}
        for index in range(self.blocks):
            layers |= {f"first_{index}": (w, w), f"first_{index}_bias": (w,), f"second_{index}": (w, w)}
        return layers | {"out": (w, self.pixels), "out_bias": (self.pixels,)}

    @property
    def num_parameters(self) -> int:
        """Numbers per row."""
        return _size(self.layout)

    def init(self, streams: SeedStreams) -> Float[Tensor, "seed parameter"]:
        """Draw initial parameters, each seed's from its own stream: orthogonal weights, biases and head zero."""
        drawn = {}
        for name, shape in self.layout.items():
            if len(shape) == 1 or name in ("factors", "out"):
                drawn[name] = torch.zeros(len(streams), *shape, dtype=streams.dtype, device=streams.device)
            else:
                drawn[name] = orthogonal(streams, *shape, gain=1.0)
        return flatten(drawn, self.layout)

    def __call__(
        self,
        parameters: Float[Tensor, "row parameter"],
        xt: Float[Tensor, "row sample pixel"],
        timestep: Int64[Tensor, "row sample"],
        condition: None = None,
    ) -> Float[Tensor, "row sample pixel"]:
        """Predict the noise in each row's images. There is nothing else that it could be told."""
        if condition is not None:
            raise ValueError(
                "expected no condition, which this network has no place for; got one. Leave it out, or take a network "
                "that listens, such as UNetDenoiser with a UNet2DConditionModel."
            )
        w = unflatten(parameters, self.layout)
        waves = sines(timestep, self.time_features, xt.dtype)
        time = silu(torch.baddbmm(w["time_bias"].unsqueeze(1), waves, w["time"]))
        h = torch.baddbmm(torch.bmm(time, w["mix"]), xt, w["in"])
        for index in range(self.blocks):
            inner = torch.baddbmm(w[f"first_{index}_bias"].unsqueeze(1), h, w[f"first_{index}"])
            h = torch.baddbmm(h, silu(inner), w[f"second_{index}"])
        answer = torch.baddbmm(w["out_bias"].unsqueeze(1), silu(h), w["out"])
        more, through = torch.bmm(time, w["factors"]).split(1, dim=-1)
        return torch.addcmul(through * xt, 1 + more, answer)


def call_unet(module: torch.nn.Module, xt: Tensor, timestep: Tensor, condition: Tensor | None) -> Tensor:
    """How diffusers' UNets are called: UNet2DModel without a condition, UNet2DConditionModel with one."""
    if condition is None:
        return module(xt, timestep).sample
    return module(xt, timestep, encoder_hidden_states=condition).sample


class UNetDenoiser:
    """Any torch module as a denoiser, one row after the other; by default one of diffusers' UNets.

    A row holds those parameters of ``module`` that require a gradient; the rest (a frozen base under adapters) and
    the buffers are the module's own, shared by all rows and left on its device.
    ``forward(module, xt, timestep, condition)`` says how it is called on [sample, ...]; whatever else a network needs,
    such as a look-up of captions or autocast, goes there. The module is put into evaluation mode: dropout would keep
    theta from agreeing with its reference.
    """

    def __init__(self, module: torch.nn.Module, forward: Forward = call_unet):
        self.module = module.eval()
        self._called = _Called(module, forward)
        self.layout: Layout = {n: tuple(p.shape) for n, p in module.named_parameters() if p.requires_grad}
        if not self.layout:
            raise ValueError(
                "expected a module with parameters that require a gradient; got none. Call "
                "module.requires_grad_(True), or add an adapter."
            )
        self.num_parameters = _size(self.layout)

    @classmethod
    def unet2d(cls, **configuration: Any) -> "UNetDenoiser":
        """diffusers' UNet2DModel made from its own configuration, such as a record names it."""
        from diffusers import UNet2DModel

        with torch.random.fork_rng(devices=[]):  # its weights are drawn by torch's global generator, and never used
            return cls(UNet2DModel(**configuration))

    def held(self) -> Float[Tensor, "1 parameter"]:
        """The parameters that the module itself holds, as one row."""
        state = dict(self.module.named_parameters())
        return flatten({name: state[name].detach().unsqueeze(0) for name in self.layout}, self.layout)

    def init(self, streams: SeedStreams) -> Float[Tensor, "seed parameter"]:
        r"""Draw the linear and convolutional layers anew, each seed's from its own stream; the rest as it is held.

        torch's own rule for these layers: uniform within one over the square root of the number of inputs.
        """
        rows = unflatten(self.held().to(streams.device, streams.dtype).repeat(len(streams), 1), self.layout)
        for prefix, part in self.module.named_modules():
            if isinstance(part, (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d)):
                bound = 1 / math.sqrt(part.weight[0].numel())
                for name in (f"{prefix}.{kind}".lstrip(".") for kind in ("weight", "bias")):
                    if name in rows:
                        rows[name] = bound * (2 * streams.uniform(*self.layout[name]) - 1)
        return flatten(rows, self.layout)

    def __call__(
        self,
        parameters: Float[Tensor, "row parameter"],
        xt: Float[Tensor, "row sample *pixel"],
        timestep: Int64[Tensor, "row sample"],
        condition: Tensor | None = None,
    ) -> Float[Tensor, "row sample *pixel"]:
        """Predict the noise in each row's images."""
        pieces = unflatten(parameters, self.layout)
        rows = zip(*(piece.unbind(0) for piece in pieces.values()), strict=True)
        names = [f"module.{name}" for name in pieces]
        told = zip(xt, timestep, [None] * len(xt) if condition is None else condition, strict=True)
        return torch.stack(
            [
                torch.func.functional_call(self._called, dict(zip(names, row, strict=True)), its)
                for row, its in zip(rows, told, strict=True)
            ]
        )


class _Called(torch.nn.Module):
    """A module under the function that calls it, so that functional_call reaches both."""

    def __init__(self, module, forward):
        super().__init__()
        self.module, self._forward = module, forward

    def forward(self, xt, timestep, condition):
        return self._forward(self.module, xt, timestep, condition)


def sines(timestep: Int64[Tensor, "*batch"], features: int, dtype: torch.dtype) -> Float[Tensor, "*batch feature"]:
    """Sines, then cosines, of a time step at ``features`` / 2 frequencies from 1 down to 1 / 10,000.

    Source: Vaswani et al. 2017 (arXiv 1706.03762), as Ho et al. 2020 (DDPM, arXiv 2006.11239) use them for time.
    """
    half = torch.arange(features // 2, device=timestep.device, dtype=dtype)
    angle = timestep.unsqueeze(-1) * torch.exp(-math.log(MAX_PERIOD) / max(features // 2 - 1, 1) * half)
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


def flatten(tensors: Mapping[str, Tensor], layout: Layout) -> Float[Tensor, "row parameter"]:
    """Named tensors [row, ...] as one row of numbers each."""
    return torch.cat([tensors[name].flatten(1) for name in layout], dim=1)


def unflatten(parameters: Float[Tensor, "row parameter"], layout: Layout) -> dict[str, Tensor]:
    """The named tensors [row, ...] that rows of numbers stand for."""
    # One split for all: its backward is one concatenation, where slices would add up zeros.
    pieces = parameters.split([math.prod(shape) for shape in layout.values()], dim=1)
    return {name: piece.unflatten(1, shape) for (name, shape), piece in zip(layout.items(), pieces, strict=True)}


@torch.no_grad()
def ddim_sample(
    denoiser: Denoiser,
    parameters: Float[Tensor, "row parameter"],
    noise: Float[Tensor, "row sample *pixel"],
    scheduler: Any,
    *,
    num_steps: int,
    condition: Tensor | None = None,
) -> Float[Tensor, "row sample *pixel"]:
    """Turn noise into images by diffusers' DDIMScheduler with eta = 0, which adds no further chance.

    ``scheduler`` is any of diffusers' schedulers; its configuration counts, and it stays as it is. The result depends
    on each row's own noise alone, so equal noise makes methods comparable image by image.

    Raises: ValueError if the noise is no [row, sample, ...] for these parameters, or for no step at all.
    Source: Song et al. 2021 (DDIM, arXiv 2010.02502).
    """
    from diffusers import DDIMScheduler

    _check.axes(3, noise=noise)
    _check.floating(noise=noise)
    _check.shape((len(noise), denoiser.num_parameters), parameters=parameters)
    ddim = DDIMScheduler.from_config(scheduler.config)
    _check.number(at_least=1, at_most=ddim.config.num_train_timesteps, num_steps=num_steps)
    ddim.set_timesteps(num_steps)
    x = noise
    for t in ddim.timesteps.tolist():  # on the host, where diffusers makes its decisions
        timestep = torch.full(x.shape[:2], t, device=x.device)
        x = ddim.step(denoiser(parameters, x, timestep, condition), t, x, return_dict=False)[0]
    return x


class Weights(NamedTuple):
    """A denoiser made from its shipped configuration, its parameters by seed, and how they came about."""

    denoiser: Denoiser
    parameters: Float[Tensor, "seed parameter"]
    record: dict


def save_weights(folder: Path, name: str, denoiser: Denoiser, parameters: Tensor, record: dict) -> None:
    """Write parameters in half precision, as few files as stay below 1 MB each, and a JSON that names their hashes.

    ``record`` says how they were made; it needs the entries ``made_by``, ``seed`` (a list), ``versions`` and
    ``configuration``, from which the denoiser can be made again. Equal numbers give equal bytes.

    Raises: ValueError where an entry is missing, the parameters are not [seed, parameter] of this denoiser, are too
    large for half precision or not finite, or one seed alone is above 1 MB.
    """
    from safetensors.torch import save

    missing = [entry for entry in ("made_by", "seed", "versions", "configuration") if entry not in record]
    if missing:
        raise ValueError(
            f"expected a record that says how weights were made; got none of {', '.join(missing)}. Add it."
        )
    _check.shape((len(record["seed"]), denoiser.num_parameters), parameters=parameters)
    halves = parameters.detach().cpu().half()
    if not bool(halves.isfinite().all()):
        raise ValueError(
            "expected parameters that half precision can hold, below 65,504; got others, or some that are not finite. "
            "Train with a smaller learning rate."
        )
    each = (FILE_BYTES - HEADER_BYTES) // (2 * denoiser.num_parameters)
    if each < 1:
        raise ValueError(
            f"expected a seed's weights in less than 1 MB; got {2 * denoiser.num_parameters:,} bytes. "
            "Choose a smaller network."
        )
    count = math.ceil(len(halves) / each)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for index, part in enumerate(halves.tensor_split(count)):
        file = f"{name}.safetensors" if count == 1 else f"{name}_{index}.safetensors"
        content = save({key: x.contiguous() for key, x in unflatten(part, denoiser.layout).items()})
        (folder / file).write_bytes(content)
        files[file] = hashlib.sha256(content).hexdigest()
    text = json.dumps({**record, "stored_as": "float16", "sha256": files}, indent=2, ensure_ascii=False) + "\n"
    (folder / f"{name}.json").write_text(text, encoding="utf-8", newline="\n")


def load_weights(folder: Path, name: str, make: Callable[..., Denoiser]) -> Weights:
    """Read what ``save_weights`` wrote: ``make`` is called with the record's configuration and returns the denoiser.

    They are stored in half precision and given in single precision, exact copies of what the record was measured with.

    Raises: ValueError where a file is missing, its bytes are not those the record names, or it holds something else
    than finite numbers in the denoiser's own tensors.
    """
    folder = Path(folder)
    record = _read_record(folder / f"{name}.json")
    try:
        denoiser = make(**record["configuration"])
    except (TypeError, ValueError) as error:
        raise _unusable(folder / f"{name}.json", "with a configuration", f"{type(error).__name__}: {error}") from None
    parts = [_read_part(folder / file, found, denoiser.layout) for file, found in record["sha256"].items()]
    parameters = torch.cat([flatten(part, denoiser.layout) for part in parts]).float()
    if len(parameters) != len(record["seed"]):
        wanted = f"with weights of {len(record['seed'])} seeds"
        raise _unusable(folder / f"{name}.json", wanted, f"{len(parameters)} of them")
    return Weights(denoiser, parameters, record)


def _read_record(path):
    try:
        record = json.loads(_read(path).decode("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise _unusable(path, "as JSON", f"{type(error).__name__}: {error}") from None
    kinds = {"sha256": dict, "configuration": dict, "seed": list}
    for entry, kind in kinds.items():
        if not isinstance(record, dict) or not isinstance(record.get(entry), kind) or not record[entry]:
            raise _unusable(path, "as JSON that names sha256, configuration and seed", f"no such {entry}")
    return record


def _read_part(path, wanted, layout):
    from safetensors import SafetensorError
    from safetensors.torch import load

    content = _read(path)
    found = hashlib.sha256(content).hexdigest()
    if found != wanted:
        raise _unusable(path, f"with the sha256 {str(wanted)[:12]}… that the JSON beside it names", f"{found[:12]}…")
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise _unusable(path, "as safetensors", str(error)) from None
    if set(tensors) != set(layout):
        odd = ", ".join(sorted(set(tensors) ^ set(layout)))
        raise _unusable(path, "with the tensors of its denoiser", f"others; they differ in {odd}")
    seeds = len(tensors[next(iter(layout))])
    for name, shape in layout.items():
        x = tensors[name]
        if x.dtype != torch.float16 or x.shape != (seeds, *shape) or seeds == 0:
            raise _unusable(path, f"with {name} as float16 {['seed', *shape]}", f"{x.dtype} {list(x.shape)}")
        if not bool(x.isfinite().all()):
            raise _unusable(path, f"with finite numbers in {name}", "others")
    return tensors


def _read(path):
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unusable(path, "as it is shipped with the course", error.strerror or type(error).__name__) from None


def _unusable(path, expected, got):
    return ValueError(
        f"expected {path} {expected}; got {got}. In a checkout restore data/{path.parent.name} with git or run "
        "`make data`, which makes it again; elsewhere install pocourse again."
    )


def _size(layout: Layout) -> int:
    return sum(math.prod(shape) for shape in layout.values())
