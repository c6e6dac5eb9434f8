"""pocourse.worlds.shapes: pictures against geometry by other means, captions, the reward by hand, quality."""

import itertools
import math

import numpy as np
import pytest
import torch
from helpers import NoHostSync

from pocourse import _check
from pocourse.worlds import shapes
from pocourse.worlds.shapes import AREAS, COLOURS, SHAPES, SIDE, WORDS, Attributes

F64 = torch.float64
RED_CIRCLE = shapes.encode_captions(["a red circle"])


def refused(*words):
    return pytest.raises(ValueError, match=r"(?s)expected .*" + ".*".join(words))


def uniform(*size, seed=0, dtype=torch.float32):
    return torch.rand(*size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def attributes(shape, colour=0, size=1):
    return Attributes(*(torch.tensor([index]) for index in (shape, colour, size)))


def one(shape, area, centre=(0.0, 0.0), colour=0):
    """One picture, in double precision."""
    chosen = attributes(SHAPES.index(shape), colour)
    return shapes.render(chosen, torch.tensor([area], dtype=F64), torch.tensor([centre], dtype=F64))


def block(rows, columns, colour=(1, -1, -1)):
    """A picture of whole pixels: a rectangle on grey."""
    picture = torch.zeros(3, SIDE, SIDE, dtype=F64)
    picture[:, rows, columns] = torch.tensor(colour, dtype=F64).view(3, 1, 1)
    return picture


# --- captions --------------------------------------------------------------------------------------


def test_captions_by_hand():
    said = shapes.captions_of(Attributes(*(torch.tensor(x) for x in ([0, 4, 2], [0, 5, 3], [1, 2, 0]))))
    assert shapes.decode_captions(said) == ["a red circle", "a large cyan ring", "a small yellow triangle"]
    assert [WORDS[i] for i in said[0]] == ["a", "red", "circle", ""]
    assert [WORDS[i] for i in said[1]] == ["a", "large", "cyan", "ring"]


def test_every_caption_is_a_sentence_of_its_own_and_says_what_it_was_made_of():
    every = shapes.every_caption()
    texts = shapes.decode_captions(every)
    sizes = {"small": "small ", "medium": "", "large": "large "}
    assert texts == [f"a {sizes[s]}{c} {k}" for k, c, s in itertools.product(SHAPES, COLOURS, AREAS)]
    assert len(set(texts)) == 90
    assert torch.equal(shapes.encode_captions(texts), every)
    read = shapes.attributes_of(every.view(9, 10, 4))
    assert torch.equal(shapes.captions_of(read), every.view(9, 10, 4)) and read.size.shape == (9, 10)
    assert [len(x.unique()) for x in read] == [5, 6, 3]


def test_the_order_of_words_is_not_what_they_mean():
    assert [int(x) for x in shapes.attributes_of(shapes.encode_captions(["circle large red"]))] == [0, 0, 2]


def test_drawn_captions_are_those_of_the_pictures_and_equally_likely():
    u = uniform(9000, 6)
    drawn = shapes.draw_captions(u[:, :3])
    assert torch.equal(drawn[:500], shapes.draw_shapes(u[:500]).captions)
    for index, known in zip(shapes.attributes_of(drawn), (SHAPES, COLOURS, AREAS), strict=True):
        share = torch.bincount(index, minlength=len(known)) / 9000
        p = 1 / len(known)
        assert (share - p).abs().max() < 4 * math.sqrt(p * (1 - p) / 9000)


@pytest.mark.parametrize(
    ("texts", "word"),
    [
        ([], "at least one caption"),
        (["a huge red circle"], "huge red circle"),
        (["a large red circle circle"], "four words|one to 4 words"),
        ([""], "one to 4 words"),
    ],
)
def test_bad_sentences_are_refused(texts, word):
    with refused(word):
        shapes.encode_captions(texts)


@pytest.mark.parametrize(
    ("captions", "word"),
    [
        (torch.zeros(4), "int64"),
        ([1, 2, 3, 4], "int64.*list"),
        (torch.zeros(2, 3).long(), r"\[2, 4\]"),
        (torch.full((1, 4), len(WORDS)), "indices into WORDS"),
        (torch.tensor([[1, 4, 0, 0]]), "shapes in a caption"),
        (torch.tensor([[1, 4, 5, 10]]), "colours in a caption"),
        (torch.tensor([[2, 3, 4, 10]]), "sizes in a caption"),
    ],
)
def test_bad_captions_are_refused(captions, word):
    with refused(word):
        shapes.attributes_of(captions)


@pytest.mark.parametrize(("shape", "colour", "size"), [(5, 0, 0), (0, 6, 0), (0, 0, 3), (-1, 0, 0)])
def test_an_attribute_that_there_is_not_is_refused(shape, colour, size):
    with refused("counted from 0"):
        shapes.captions_of(attributes(shape, colour, size))


# --- pictures --------------------------------------------------------------------------------------


def inside(shape, x, y, area):
    """Whether points lie in a shape, by other formulas than those that draw it."""
    if shape == "circle":
        return x**2 + y**2 < area / math.pi
    if shape == "square":
        return np.maximum(abs(x), abs(y)) < math.sqrt(area) / 2
    if shape == "triangle":  # equilateral, by its corners: the tip on top
        edge = math.sqrt(4 * area / math.sqrt(3))
        corners = [
            (0, -edge / math.sqrt(3)),
            (edge / 2, edge / (2 * math.sqrt(3))),
            (-edge / 2, edge / (2 * math.sqrt(3))),
        ]
        turns = [
            (x2 - x1) * (y - y1) - (y2 - y1) * (x - x1)
            for (x1, y1), (x2, y2) in zip(corners, corners[1:] + corners[:1], strict=True)
        ]
        return np.all([turn > 0 for turn in turns], axis=0)
    if shape == "cross":
        arm = math.sqrt(area / 5)
        column, row = np.floor(x / arm + 1.5), np.floor(y / arm + 1.5)
        five = [(0, 1), (1, 0), (1, 1), (1, 2), (2, 1)]
        return np.any([(column == i) & (row == j) for i, j in five], axis=0)
    hole = area / (3 * math.pi)  # pi (R^2 - (R/2)^2) = area
    return (x**2 + y**2 < 4 * hole) & (x**2 + y**2 > hole)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_picture_is_the_shape_that_geometry_says(shape):
    area, centre = 90.0, (1.3, -2.4)
    seen = shapes.coverage(one(shape, area, centre))[0].numpy()
    at = (np.arange(SIDE * 16) + 0.5) / 16 - SIDE / 2
    truth = inside(shape, at[None, :] - centre[0], at[:, None] - centre[1], area).astype(float)
    assert truth.mean() * SIDE**2 == pytest.approx(area, rel=0.01)
    share = truth.reshape(SIDE, 16, SIDE, 16).mean((1, 3))
    assert abs(seen - share).max() < 0.3 and abs(seen - share).mean() < 0.006
    whole = (share == 0) | (share == 1)
    assert abs(seen - share)[whole].max() < 0.25


def test_a_circle_by_a_loop():
    picture = one("circle", 50.0, (2.0, 1.0), colour=4)[0]
    radius = math.sqrt(50 / math.pi)
    for i, j in itertools.product(range(SIDE), repeat=2):
        distance = math.hypot(j + 0.5 - 16 - 2.0, i + 0.5 - 16 - 1.0) - radius
        a = min(max(0.5 - distance / 2, 0), 1)
        assert picture[:, i, j].tolist() == pytest.approx([a, -a, a], abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_area_and_place_are_what_was_asked_for(dtype):
    drawn = shapes.draw_shapes(uniform(500, 6, dtype=dtype))
    seen = shapes.measure(drawn.images)
    assert drawn.images.dtype == dtype and drawn.images.abs().max() <= 1
    assert ((seen.area / drawn.area).log().abs() < 0.05).all()
    assert ((seen.centre - drawn.centre).abs() < 0.1).all()
    wanted = shapes.wanted_area(shapes.attributes_of(drawn.captions))
    assert ((drawn.area / wanted).log().abs() <= shapes.LOOSE_AREA + 1e-6).all()
    assert (drawn.centre.abs() <= shapes.LOOSE_PLACE).all()


def test_pictures_of_chosen_numbers():
    u = torch.tensor(
        [[0.0, 0, 0, 0, 0, 0], [0.99, 0.99, 0.99, 0.5, 0.5, 0.5], [0.5, 0.2, 0.5, 0.75, 0.5, 0.9]], dtype=F64
    )
    drawn = shapes.draw_shapes(u)
    assert shapes.decode_captions(drawn.captions) == ["a small red circle", "a large cyan ring", "a green triangle"]
    assert drawn.area.tolist() == pytest.approx([32 * math.exp(-0.4), 96, 32 * math.sqrt(3) * math.exp(0.2)], rel=1e-6)
    assert drawn.centre.flatten().tolist() == pytest.approx([-5, -5, 0, 0, 0, 4])
    last = shapes.draw_shapes(torch.full((1, 6), 1 - 2**-24))  # times six it is 6 in single precision
    assert shapes.decode_captions(last.captions) == ["a large cyan ring"]


def test_no_shape_touches_the_frame():
    corners = torch.tensor(list(itertools.product([-5.0, 0, 5], repeat=2)), dtype=F64)
    for index, _ in enumerate(SHAPES):
        chosen = Attributes(*(torch.full((9,), i) for i in (index, 0, 2)))
        picture = shapes.render(chosen, torch.full((9,), 96 * math.exp(0.4), dtype=F64), corners)
        frame = torch.ones(SIDE, SIDE, dtype=torch.bool)
        frame[1:-1, 1:-1] = False
        assert picture[..., frame].abs().max() < 0.3


def test_a_picture_moves_with_its_parameters():
    area = torch.tensor([60.0, 40.0], dtype=F64, requires_grad=True)
    centre = torch.tensor([[1.21, 0.4], [-2.3, 0.11]], dtype=F64, requires_grad=True)
    chosen = Attributes(*(torch.tensor(x) for x in ([0, 4], [1, 2], [0, 0])))

    def seen(area, centre):
        return (shapes.measure(shapes.render(chosen, area, centre)).centre ** 2).sum()

    found = torch.autograd.grad(seen(area, centre), (area, centre))
    for position, (x, slope) in enumerate(zip((area, centre), found, strict=True)):
        for k in range(x.numel()):
            ends = []
            for sign in (1, -1):
                moved = [area.detach().clone(), centre.detach().clone()]
                moved[position].view(-1)[k] += sign * 1e-5
                ends.append(float(seen(*moved)))
            assert float(slope.flatten()[k]) == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=1e-4)


# --- what is seen ----------------------------------------------------------------------------------


def test_coverage_by_hand_and_whatever_the_colour():
    levels = torch.tensor([0.0, 0.2, 0.25, 0.3, 0.5, 0.75, 1.0], dtype=F64)
    for colour in COLOURS.values():
        picture = torch.zeros(3, SIDE, SIDE, dtype=F64)
        picture[:, 3, : len(levels)] = torch.tensor(colour, dtype=F64).view(3, 1) * levels
        seen = shapes.coverage(picture)
        assert seen[3, : len(levels)].tolist() == pytest.approx([0, 0, 0, 0.1, 0.5, 1, 1], abs=1e-6)
        assert seen.sum() == pytest.approx(2.6, abs=1e-6)


def test_a_block_is_measured_by_hand():
    seen = shapes.measure(block(slice(4, 8), slice(20, 26)))
    assert float(seen.area) == pytest.approx(24)
    assert seen.centre.tolist() == pytest.approx([23 - 16, 6 - 16])
    blank = shapes.measure(torch.zeros(3, SIDE, SIDE))
    assert float(blank.area) == 0 and blank.centre.tolist() == [0, 0]


def test_the_reward_by_hand():
    picture = block(slice(14, 20), slice(11, 19))  # 6 by 8 pixels, its middle at (-1, 1)
    for text, wanted in (("a small red square", 32), ("a red square", 32 * math.sqrt(3)), ("a large blue ring", 96)):
        by_hand = -0.5 * (math.log(48 / wanted) / 0.15) ** 2 - 0.5 * 2 / 4
        found = shapes.exact_reward(picture, shapes.encode_captions([text])[0])
        assert float(found) == pytest.approx(max(by_hand, -10), abs=1e-5)


def test_what_one_unit_is_worth():
    middle, off = one("circle", AREAS["medium"]), one("circle", AREAS["medium"], (2.0, 2.0))
    apart = float(shapes.exact_reward(middle, RED_CIRCLE) - shapes.exact_reward(off, RED_CIRCLE))
    assert apart == pytest.approx(1, abs=0.02) and 1 / (1 + math.exp(-apart)) == pytest.approx(0.73, abs=0.005)


def test_perfect_pictures_have_the_best_reward():
    every = shapes.every_caption()
    said = shapes.attributes_of(every)
    best = shapes.exact_reward(shapes.render(said, shapes.wanted_area(said), torch.zeros(90, 2)), every)
    assert (best <= 0).all() and (best > -0.01).all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", AREAS)
def test_the_reward_falls_on_both_sides_of_the_right_size_and_away_from_the_middle(shape, size):
    caption = shapes.encode_captions([f"a {'' if size == 'medium' else size} green {shape}"])
    by_area = [
        float(shapes.exact_reward(one(shape, AREAS[size] * math.exp(k)), caption)) for k in np.arange(-4, 5) / 10
    ]
    assert (np.diff(by_area[:5]) > 0.1).all() and (np.diff(by_area[4:]) < -0.1).all()
    for x, y in ((1, 0), (0, -1), (-0.7, 0.7)):
        places = [float(shapes.exact_reward(one(shape, AREAS[size], (d * x, d * y)), caption)) for d in range(6)]
        assert (np.diff(places) < -0.08).all()


def test_the_reward_knows_no_colour_and_no_left_and_right():
    drawn = shapes.draw_shapes(uniform(20, 6, dtype=F64))
    reward = shapes.exact_reward(drawn.images, drawn.captions)
    said = shapes.attributes_of(drawn.captions)
    for colour in range(len(COLOURS)):
        other = Attributes(said.shape, torch.full_like(said.colour, colour), said.size)
        painted = shapes.render(other, drawn.area, drawn.centre)
        torch.testing.assert_close(shapes.exact_reward(painted, drawn.captions), reward, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(shapes.exact_reward(drawn.images, shapes.captions_of(other)), reward)
    for changed in (drawn.images.flip(-1), drawn.images.flip(-2), drawn.images.mT, -drawn.images):
        torch.testing.assert_close(shapes.exact_reward(changed, drawn.captions), reward, rtol=1e-9, atol=1e-9)


def test_the_floor_is_where_nothing_or_everything_is_seen():
    for picture in (torch.zeros(1, 3, SIDE, SIDE), torch.ones(1, 3, SIDE, SIDE)):
        assert float(shapes.exact_reward(picture, RED_CIRCLE)) == shapes.FLOOR


def test_the_noise_of_a_sampler_hardly_counts():
    drawn = shapes.draw_shapes(uniform(1000, 6))
    noise = torch.randn(drawn.images.shape, generator=torch.Generator().manual_seed(1))
    clean, noisy = (shapes.exact_reward(drawn.images + sd * noise, drawn.captions) for sd in (0.0, 0.1))
    assert (clean - noisy).abs().mean() < 0.2 and abs(float((clean - noisy).mean())) < 0.03
    matched = shapes.match(drawn.images + 0.1 * noise, drawn.captions)
    assert matched.shape.mean() > 0.99 and (matched.colour == 1).all() and matched.clear.mean() > 0.9


def test_comparisons_tell_something_and_leave_room():
    drawn = shapes.draw_shapes(uniform(4000, 6))
    reward = shapes.exact_reward(drawn.images, drawn.captions)
    assert -4 < reward.mean() < -2.5 and reward.std() > 1.2
    assert 0.75 < (reward[::2] - reward[1::2]).abs().sigmoid().mean() < 0.9


# --- quality ---------------------------------------------------------------------------------------


def test_every_loose_picture_is_recognised():
    drawn = shapes.draw_shapes(uniform(1500, 6))
    matched = shapes.match(drawn.images, drawn.captions)
    assert (matched.shape == 1).all() and (matched.colour == 1).all() and matched.clear.min() > 0.9
    like = shapes.shape_likeness(drawn.images)
    assert like.shape == (1500, 5) and (like >= 0).all() and (like <= 1 + 1e-6).all()


def test_likeness_by_hand():
    like = shapes.shape_likeness(block(slice(12, 20), slice(12, 20)))  # a square of 8 by 8
    assert float(like[SHAPES.index("square")]) == pytest.approx(1)
    # A circle of 64 pixels on it: what both cover, over what either does.
    mask = shapes.coverage(one("circle", 64.0))[0]
    both, either = mask[12:20, 12:20].sum(), 64 + mask.sum() - mask[12:20, 12:20].sum()
    assert float(like[SHAPES.index("circle")]) == pytest.approx(float(both / either), rel=1e-6)


def test_colour_by_hand():
    like = shapes.colour_likeness(block(slice(10, 20), slice(10, 20), (0.9, 0.3, -0.9)))
    size = math.sqrt(0.81 + 0.09 + 0.81) * math.sqrt(3)
    by_hand = [(0.9 * r + 0.3 * g - 0.9 * b) / size for r, g, b in COLOURS.values()]
    assert like.tolist() == pytest.approx(by_hand, abs=1e-6)
    assert (shapes.colour_likeness(torch.zeros(2, 3, SIDE, SIDE)) == 0).all()


def test_a_wrong_shape_and_a_wrong_colour_are_found():
    picture = one("triangle", 60.0, colour=2).expand(3, -1, -1, -1)
    captions = shapes.encode_captions(["a blue triangle", "a blue square", "a large green triangle"])
    matched = shapes.match(picture, captions)
    assert matched.shape.tolist() == [1, 0, 1] and matched.colour.tolist() == [1, 1, 0]


# --- the house -------------------------------------------------------------------------------------


def test_nothing_waits_for_the_device():
    u = uniform(8, 6)
    with NoHostSync(), _check.values_unread():
        drawn = shapes.draw_shapes(u)
        shapes.exact_reward(drawn.images, drawn.captions)
        shapes.match(drawn.images, shapes.draw_captions(u[:, :3]))


def test_leading_axes_are_batches():
    drawn = shapes.draw_shapes(uniform(2, 3, 6))
    flat = shapes.draw_shapes(uniform(2, 3, 6).flatten(0, 1))
    assert drawn.images.shape == (2, 3, 3, SIDE, SIDE) and torch.equal(drawn.images.flatten(0, 1), flat.images)
    reward = shapes.exact_reward(drawn.images, drawn.captions)
    assert torch.equal(reward.flatten(), shapes.exact_reward(flat.images, flat.captions)) and reward.shape == (2, 3)


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: shapes.draw_shapes(torch.zeros(3, 5)), r"\[3, 6\]"),
        (lambda: shapes.draw_shapes(torch.ones(3, 6)), "torch.rand"),
        (lambda: shapes.draw_shapes(torch.zeros(3, 6).long()), "floating"),
        (lambda: shapes.draw_captions(torch.zeros(3, 6)), r"\[3, 3\]"),
        (lambda: one("circle", 0.0), "pixels to be covered"),
        (lambda: one("circle", math.nan), "without NaN"),
        (lambda: shapes.render(attributes(0), torch.ones(1), torch.zeros(2, 2)), r"\[1, 2\]"),
        (lambda: shapes.coverage(torch.zeros(3, SIDE, SIDE + 1)), r"\[3, 32, 32\]"),
        (lambda: shapes.measure(torch.zeros(SIDE, SIDE)), "at least 3 axes"),
        (lambda: shapes.measure(torch.full((3, SIDE, SIDE), math.nan)), "without NaN"),
        (lambda: shapes.exact_reward(torch.zeros(2, 3, SIDE, SIDE), RED_CIRCLE), r"\[2, 4\]"),
        (lambda: shapes.match(torch.zeros(2, 3, SIDE, SIDE), RED_CIRCLE), r"\[2, 4\]"),
    ],
)
def test_bad_input_is_refused(call, word):
    with refused(word):
        call()
