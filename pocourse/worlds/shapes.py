"""Captioned shapes: pictures of 32 by 32 pixels, drawn by a formula, with a reward that can be read off the picture.

Every picture shows one coloured shape on plain grey, and its caption names the size, the colour and the shape. The
captions are loose: the area varies around what the word stands for, and the shape lies anywhere near the middle. The
reward likes it exact: the area that the caption asks for, in the middle.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from pocourse import _check

SIDE, CHANNELS = 32, 3
SHAPES = ("circle", "square", "triangle", "cross", "ring")
# Corners of the cube, all of them as far from the grey background, 0, so that no colour looks larger than another.
COLOURS = {
    "red": (1, -1, -1),
    "green": (-1, 1, -1),
    "blue": (-1, -1, 1),
    "yellow": (1, 1, -1),
    "magenta": (1, -1, 1),
    "cyan": (-1, 1, 1),
}
# Pixels covered. A caption does not say "medium": that is what it means to say nothing.
AREAS = {"small": 32.0, "medium": 32.0 * math.sqrt(3), "large": 96.0}
# How loose the captions are: the logarithm of the area varies by as much, and the place on either axis.
LOOSE_AREA, LOOSE_PLACE = 0.4, 5.0
# What costs the reward one half: as much in the logarithm of the area, as many pixels from the middle.
AREA_UNIT, PLACE_UNIT = 0.15, 2.0
FLOOR = -10.0

WORDS = ("", "a", "small", "large", *COLOURS, *SHAPES)  # the empty word fills up a caption that is shorter than others
CAPTION_LENGTH = 4
_FIRST_COLOUR, _FIRST_SHAPE = 4, 4 + len(COLOURS)


class Attributes(NamedTuple):
    r"""What a caption says: indices into SHAPES, COLOURS and AREAS, each [\*batch], int64."""

    shape: Int64[Tensor, "*batch"]
    colour: Int64[Tensor, "*batch"]
    size: Int64[Tensor, "*batch"]


class CaptionedShapes(NamedTuple):
    r"""Pictures and their captions, with what is known of how they were drawn.

    ``images`` [\*batch, 3, 32, 32] lie in [-1, 1], background 0. ``captions`` [\*batch, 4] are indices into WORDS.
    ``area`` [\*batch] is the number of pixels covered, ``centre`` [\*batch, 2] how far to the right and how far below
    the middle the shape's centre of mass is, in pixels.
    """

    images: Float[Tensor, "*batch 3 32 32"]
    captions: Int64[Tensor, "*batch 4"]
    area: Float[Tensor, "*batch"]
    centre: Float[Tensor, "*batch 2"]


class Measured(NamedTuple):
    r"""What is seen in a picture: pixels covered [\*batch], and where, from the middle [\*batch, 2]."""

    area: Float[Tensor, "*batch"]
    centre: Float[Tensor, "*batch 2"]


# ---------------------------------------------------------------- captions


def captions_of(attributes: Attributes) -> Int64[Tensor, "*batch 4"]:
    r"""The caption of every combination of shape, colour and size, as indices into WORDS.

    Shapes: three times [\*batch] -> [\*batch, 4]. "a large red circle" has four words; "a red circle", of medium size,
    has three, and the index 0 behind them.
    Gradient: none.
    Raises: ValueError for other dtypes than int64, different shapes, an index that there is not.
    Source: ours.
    """
    shape, colour, size = attributes
    _check.integers(shape, shape=shape, colour=colour, size=size)
    for name, index, known in zip(attributes._fields, attributes, (SHAPES, COLOURS, AREAS), strict=True):
        remedy = f"There are {len(known)}, counted from 0: {', '.join(known)}."
        _check.entries(at_least=0, at_most=len(known) - 1, remedy=remedy, **{name: index.double()})
    words = torch.stack([1 + size, _FIRST_COLOUR + colour, _FIRST_SHAPE + shape, torch.zeros_like(size)], -1)
    article = torch.ones_like(words[..., :1])
    said = torch.cat([article, torch.where(words[..., :1] == 1, 2, 3), words[..., 1:3]], -1)
    unsaid = torch.cat([article, words[..., 1:]], -1)
    return torch.where((size == 1).unsqueeze(-1), unsaid, said)


def attributes_of(captions: Int64[Tensor, "*batch 4"]) -> Attributes:
    r"""What captions say: the inverse of ``captions_of``.

    Shapes: [\*batch, 4] -> three times [\*batch].
    Gradient: none.
    Raises: ValueError for other dtypes than int64, another last axis than 4, a caption without exactly one colour and
    one shape, or with more than one size.
    Source: ours.
    """
    _judge_captions(captions)
    # one_hot would read the largest index from the device.
    counts = (captions.unsqueeze(-1) == torch.arange(len(WORDS), device=captions.device)).sum(-2)
    colours, shapes = counts[..., _FIRST_COLOUR:_FIRST_SHAPE], counts[..., _FIRST_SHAPE:]
    once = {"colours in a caption": colours.sum(-1), "shapes in a caption": shapes.sum(-1)}
    for name, count in once.items():
        remedy = "A caption reads like 'a large red circle'; encode_captions makes one of words."
        _check.entries(at_least=1, at_most=1, remedy=remedy, **{name: count.double()})
    remedy = "Say 'small' or 'large' or neither."
    _check.entries(at_most=1, remedy=remedy, **{"sizes in a caption": counts[..., 2:4].sum(-1).double()})
    return Attributes(shapes.argmax(-1), colours.argmax(-1), 1 - counts[..., 2] + counts[..., 3])


def encode_captions(texts: Sequence[str]) -> Int64[Tensor, "caption 4"]:
    r"""Captions in words, such as "a large red circle", as indices into WORDS.

    Shapes: any number of texts -> [caption, 4].
    Gradient: none.
    Raises: ValueError for no caption, a word that is not among WORDS, or more than four words.
    Source: ours.
    """
    texts = [texts] if isinstance(texts, str) else list(texts)
    if not texts:
        raise ValueError("expected at least one caption; got none. Pass a list such as ['a large red circle'].")
    rows = []
    for text in texts:
        words = text.split()
        unknown = [word for word in words if word not in WORDS]
        if unknown or not 0 < len(words) <= CAPTION_LENGTH:
            raise ValueError(
                f"expected a caption of one to {CAPTION_LENGTH} words among {', '.join(WORDS[1:])}; got {text!r}. "
                "Write one like 'a large red circle'."
            )
        rows.append([WORDS.index(word) for word in words] + [0] * (CAPTION_LENGTH - len(words)))
    return torch.tensor(rows)


def decode_captions(captions: Int64[Tensor, "*batch 4"]) -> list[str]:
    r"""Captions in words, one after the other.

    Shapes: [\*batch, 4] -> as many texts as there are captions.
    Gradient: none.
    Raises: ValueError for other dtypes than int64, another last axis than 4, an index that there is not.
    Source: ours.
    """
    _judge_captions(captions)
    return [" ".join(WORDS[index] for index in row if index) for row in captions.reshape(-1, CAPTION_LENGTH).tolist()]


def every_caption() -> Int64[Tensor, "90 4"]:
    r"""All 90 captions: five shapes, six colours, three sizes; the size changes first, the shape last.

    Shapes: -> [90, 4].
    Gradient: none.
    Raises: nothing.
    Source: ours.
    """
    counts = len(SHAPES), len(COLOURS), len(AREAS)
    index = torch.cartesian_prod(*(torch.arange(count) for count in counts))
    return captions_of(Attributes(*index.unbind(-1)))


# ---------------------------------------------------------------- pictures


def draw_shapes(uniform: Float[Tensor, "*batch 6"]) -> CaptionedShapes:
    r"""Pictures and captions of uniform numbers: three choose what is shown, three how loosely it is shown.

    .. math:: \log A = \log A_{\mathrm{caption}} + 0.4\, (2 u_4 - 1), \qquad
        c = 5\, (2 u_5 - 1,\ 2 u_6 - 1)

    Shapes: [\*batch, 6], in [0, 1) -> images [\*batch, 3, 32, 32] in the dtype of the numbers, captions [\*batch, 4],
    area [\*batch], centre [\*batch, 2].
    Gradient: none.
    Raises: ValueError for another last axis than 6, integers, NaN, numbers outside [0, 1).
    Source: ours.
    """
    attributes = _chosen(uniform, 6)
    loose = 2 * uniform.detach()[..., 3:] - 1
    area = wanted_area(attributes).to(uniform) * (LOOSE_AREA * loose[..., 0]).exp()
    centre = LOOSE_PLACE * loose[..., 1:]
    return CaptionedShapes(render(attributes, area, centre), captions_of(attributes), area, centre)


def draw_captions(uniform: Float[Tensor, "*batch 3"]) -> Int64[Tensor, "*batch 4"]:
    r"""Captions of uniform numbers, each of the 90 as likely as another: the first half of ``draw_shapes``.

    Shapes: [\*batch, 3], in [0, 1) -> [\*batch, 4].
    Gradient: none.
    Raises: ValueError for another last axis than 3, integers, NaN, numbers outside [0, 1).
    Source: ours.
    """
    return captions_of(_chosen(uniform, 3))


def _chosen(uniform, numbers):
    _check.axes(1, uniform=uniform)
    _check.shape((*uniform.shape[:-1], numbers), uniform=uniform)
    remedy = f"Draw them with torch.rand(..., {numbers}, generator=generator) or with SeedStreams.uniform."
    _check.entries(at_least=0, below=1, remedy=remedy, uniform=uniform)
    counts = len(SHAPES), len(COLOURS), len(AREAS)
    first = uniform[..., :3].unbind(-1)
    # A number just below 1 may be rounded up.
    return Attributes(*[(u * n).long().clamp(max=n - 1) for u, n in zip(first, counts, strict=True)])


def wanted_area(attributes: Attributes) -> Float[Tensor, "*batch"]:
    r"""The pixels that a shape of that size is to cover: 32, 55.4 or 96, each the square root of 3 times the last.

    Shapes: three times [\*batch] -> [\*batch], float32.
    Gradient: none.
    Raises: nothing.
    Source: ours.
    """
    return _table("areas", attributes.size.device, torch.float32)[attributes.size]


def render(
    attributes: Attributes, area: Float[Tensor, "*batch"], centre: Float[Tensor, "*batch 2"]
) -> Float[Tensor, "*batch 3 32 32"]:
    r"""Draw shapes of a given area with their centres of mass at given places, edges smoothed.

    .. math:: x = a\, (\text{colour}), \qquad a = \mathrm{clip}\big(\tfrac12 - \tfrac12 d,\ 0,\ 1\big),

    where d is the distance of a pixel's middle from the nearest edge, in pixels, negative inside the shape: an edge is
    two pixels wide.

    Shapes: area [\*batch] in pixels, centre [\*batch, 2] to the right and down from the middle ->
    [\*batch, 3, 32, 32] in [-1, 1], in the dtype of the area. Size has no part in it: the area says it.
    Gradient: through area and centre.
    Raises: ValueError for an area that is not positive, shapes that do not fit each other, integers, NaN.
    Source: signed distances are textbook; the drawing is ours.
    """
    remedy = "It is the number of pixels to be covered, of 1024 in all."
    _check.entries(above=0, at_most=SIDE**2, remedy=remedy, area=area)
    _check.floating(centre=centre)
    _check.shape((*area.shape, 2), centre=centre)
    _check.integers(area, **attributes._asdict())
    distance = _distances(area, centre, attributes.shape)
    covered = (0.5 - distance / 2).clamp(0, 1)
    colour = _table("colours", area.device, area.dtype)[attributes.colour]
    return covered.unsqueeze(-3) * colour[..., None, None]


def _distances(area, centre, shape):
    """The distance of every pixel from the nearest edge of its picture's shape, [*batch, 32, 32]."""
    x, y = (p - centre[..., axis, None, None] for axis, p in enumerate(_pixels(area.device, area.dtype)))
    every = _every_distance(x, y, area[..., None, None])
    chosen = shape[..., None, None, None].expand(*shape.shape, 1, SIDE, SIDE)
    return every.gather(-3, chosen).squeeze(-3)


def _every_distance(x, y, area):
    """Of every shape in the order of SHAPES: [*batch, shape, 32, 32]. All of them have the same area."""
    # Just off zero, for the slope of a square root.
    radius, across, along = (x**2 + y**2 + 1e-12).sqrt(), x.abs(), y.abs()
    outer = (area / (0.75 * math.pi)).sqrt()  # a ring whose hole is half as wide as it is
    inside = (area / (3 * math.sqrt(3))).sqrt()  # the radius of the triangle's inscribed circle
    arm = (area / 5).sqrt()  # a cross is five squares
    slanted = math.sqrt(0.75) * across - y / 2 - inside
    lying = torch.maximum(across - 1.5 * arm, along - 0.5 * arm)
    standing = torch.maximum(across - 0.5 * arm, along - 1.5 * arm)
    found = (
        radius - (area / math.pi).sqrt(),
        torch.maximum(across, along) - area.sqrt() / 2,
        torch.maximum(slanted, y - inside),
        torch.minimum(lying, standing),
        torch.maximum(radius - outer, outer / 2 - radius),
    )
    return torch.stack(torch.broadcast_tensors(*found), -3)


# ---------------------------------------------------------------- what is seen in a picture


def coverage(images: Float[Tensor, "*batch 3 32 32"]) -> Float[Tensor, "*batch 32 32"]:
    r"""How much of every pixel is shape and not background, whatever its colour.

    .. math:: m = \mathrm{clip}\big(2 \sqrt{\overline{x^2}} - \tfrac12,\ 0,\ 1\big),

    the mean over the channels. Half a pixel counts half, and noise below a quarter counts nothing. The edges that
    ``render`` draws are one pixel wide here, so that a straight one adds up to the area it encloses wherever it lies.

    Shapes: [\*batch, 3, 32, 32] -> [\*batch, 32, 32], in [0, 1].
    Gradient: through the images, where the clip lets it pass.
    Raises: ValueError for another last three axes than [3, 32, 32], integers, NaN.
    Source: ours.
    """
    _judge_images(images)
    return (2 * ((images**2).mean(-3) + 1e-12).sqrt() - 0.5).clamp(0, 1)


def measure(images: Float[Tensor, "*batch 3 32 32"]) -> Measured:
    r"""The area of the shape in a picture, and where its centre of mass is.

    .. math:: A = \sum_p m_p, \qquad c = \frac{1}{A} \sum_p m_p\, p

    Shapes: [\*batch, 3, 32, 32] -> area [\*batch] in pixels, centre [\*batch, 2] to the right and down from the middle.
    A picture with less than a pixel of shape counts as one with its few bits near the middle.
    Gradient: through the images.
    Raises: as ``coverage``.
    Source: ours.
    """
    return _measured(coverage(images))


def _measured(mask):
    area = mask.sum((-1, -2))
    x, y = _pixels(mask.device, mask.dtype)
    first = torch.stack([(mask * x).sum((-1, -2)), (mask * y).sum((-1, -2))], -1)
    return Measured(area, first / area.clamp(min=1).unsqueeze(-1))


def exact_reward(
    images: Float[Tensor, "*batch 3 32 32"], captions: Int64[Tensor, "*batch 4"]
) -> Float[Tensor, "*batch"]:
    r"""The known reward: as large as the caption says, and in the middle. At best 0.

    .. math:: r = \max\Big\{ -\frac{1}{2} \Big( \frac{\log A - \log A_{\mathrm{caption}}}{0.15} \Big)^2
        - \frac{1}{2} \Big( \frac{|c|}{2\ \mathrm{px}} \Big)^2,\ -10 \Big\}

    Colour and shape play no part. One unit is one of log-odds in a comparison: between a shape in the middle and one
    that lies 2.8 pixels off, both of the right size, the first is chosen in 73 of 100 comparisons.

    Shapes: images [\*batch, 3, 32, 32], captions [\*batch, 4] -> [\*batch], between -10 and 0.
    Gradient: through the images, above the floor.
    Raises: ValueError for shapes that do not fit each other, and as ``coverage`` and ``attributes_of``.
    Source: ours.
    """
    area, centre = measure(images)
    _check.shape((*area.shape, CAPTION_LENGTH), captions=captions)
    wanted = wanted_area(attributes_of(captions)).to(area)
    off = (area.clamp(min=1) / wanted).log() / AREA_UNIT
    return (-0.5 * off**2 - 0.5 * (centre**2).sum(-1) / PLACE_UNIT**2).clamp(min=FLOOR)


def shape_likeness(images: Float[Tensor, "*batch 3 32 32"]) -> Float[Tensor, "*batch 5"]:
    r"""How well each of SHAPES, of the picture's own area and at its own place, fits what is seen.

    .. math:: \mathrm{IoU}_k = \frac{\sum_p \min(m_p, m^k_p)}{\sum_p \max(m_p, m^k_p)}

    Shapes: [\*batch, 3, 32, 32] -> [\*batch, 5], in [0, 1]; 1 is a perfect fit.
    Gradient: none.
    Raises: as ``coverage``.
    Source: the intersection over union is textbook; the templates are ours.
    """
    with torch.no_grad():
        mask = coverage(images)
        area, centre = _measured(mask)
        x, y = (p - centre[..., axis, None, None] for axis, p in enumerate(_pixels(mask.device, mask.dtype)))
        # What ``coverage`` makes of the drawn shape.
        template = (0.5 - _every_distance(x, y, area.clamp(min=1)[..., None, None])).clamp(0, 1)
        mask = mask.unsqueeze(-3)
        return torch.minimum(mask, template).sum((-1, -2)) / torch.maximum(mask, template).sum((-1, -2)).clamp(min=1)


def colour_likeness(images: Float[Tensor, "*batch 3 32 32"]) -> Float[Tensor, "*batch 6"]:
    r"""How near the mean colour of the shape in a picture is to each of COLOURS: the cosine of the angle between them.

    Shapes: [\*batch, 3, 32, 32] -> [\*batch, 6], in [-1, 1]; 0 where nothing is seen.
    Gradient: none.
    Raises: as ``coverage``.
    Source: ours.
    """
    with torch.no_grad():
        mask = coverage(images).unsqueeze(-3)
        mean = (mask * images).sum((-1, -2)) / mask.sum((-1, -2)).clamp(min=1)
        colours = _table("colours", images.device, images.dtype)
        return torch.nn.functional.cosine_similarity(mean.unsqueeze(-2), colours, dim=-1)


class Match(NamedTuple):
    r"""Whether a picture shows what its caption says, and how clearly: each [\*batch].

    ``shape`` and ``colour`` are 1 where the likest of all is the caption's own, else 0. ``clear`` is the likeness of
    the likest shape, in [0, 1].
    """

    shape: Float[Tensor, "*batch"]
    colour: Float[Tensor, "*batch"]
    clear: Float[Tensor, "*batch"]


def match(images: Float[Tensor, "*batch 3 32 32"], captions: Int64[Tensor, "*batch 4"]) -> Match:
    r"""Whether pictures show the shape and the colour that their captions name: the quality that the reward ignores.

    Shapes: images [\*batch, 3, 32, 32], captions [\*batch, 4] -> three times [\*batch].
    Gradient: none.
    Raises: as ``exact_reward``.
    Source: ours.
    """
    shapes, colours = shape_likeness(images), colour_likeness(images)
    _check.shape((*shapes.shape[:-1], CAPTION_LENGTH), captions=captions)
    said = attributes_of(captions)
    right = [(like.argmax(-1) == index).to(images) for like, index in ((shapes, said.shape), (colours, said.colour))]
    return Match(*right, shapes.amax(-1))


# ---------------------------------------------------------------- tables


@lru_cache(maxsize=16)
def _table(name: str, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Constants on a device, made once."""
    values = {"areas": list(AREAS.values()), "colours": list(COLOURS.values())}[name]
    return torch.tensor(values, dtype=dtype, device=device)


@lru_cache(maxsize=8)
def _pixels(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """How far to the right and how far below the middle each pixel's middle is: [1, 32] and [32, 1]."""
    along = torch.arange(SIDE, dtype=dtype, device=device) + 0.5 - SIDE / 2
    return along.unsqueeze(0), along.unsqueeze(1)


def _judge_captions(captions):
    if not isinstance(captions, Tensor) or captions.dtype != torch.int64:
        got = captions.dtype if isinstance(captions, Tensor) else type(captions).__name__
        raise ValueError(
            f"expected captions as a torch.int64 tensor; got {got}. Make them of words with encode_captions."
        )
    _check.axes(1, captions=captions)
    _check.shape((*captions.shape[:-1], CAPTION_LENGTH), captions=captions)
    remedy = f"They are indices into WORDS, of which there are {len(WORDS)}."
    _check.entries(at_least=0, at_most=len(WORDS) - 1, remedy=remedy, captions=captions.double())


def _judge_images(images):
    _check.axes(3, images=images)
    _check.floating(images=images)
    _check.shape((*images.shape[:-3], CHANNELS, SIDE, SIDE), images=images)
