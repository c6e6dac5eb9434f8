"""pocourse.worlds.digits: the attack against loops in numpy, what is shipped, how it is made, and damaged files."""

import hashlib
import importlib.util
import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import NoHostSync

from pocourse import _check
from pocourse.lesson import paths
from pocourse.worlds.digits import FILE, LAYOUT, RADIUS, RECORD, Digits, DigitsAttack, load_digits

ROOT = Path(__file__).parents[1]
SHIPPED = paths.shipped() / "digits"
SCRIPT = ROOT / "data" / "make" / "digits.py"
F64 = torch.float64


def refused(*words):
    return pytest.raises(ValueError, match=r"(?s)expected .*got .*" + ".*".join(words))


@pytest.fixture(scope="module")
def digits():
    return load_digits(SHIPPED)


@pytest.fixture(scope="module")
def attack(digits):
    return DigitsAttack(digits)


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def by_hand(digits, image, label, perturbation, radius):
    """One margin in numpy, double precision, without a matrix product."""
    w1, b1, w2, b2 = (x.double().numpy() for x in digits[:4])
    seen = [min(max(x + min(max(p, -radius), radius), 0), 1) for x, p in zip(image, perturbation, strict=True)]
    hidden = [1 / (1 + math.exp(-(b1[j] + sum(seen[i] * w1[i, j] for i in range(64))))) for j in range(64)]
    z = [b2[c] + sum(hidden[j] * w2[j, c] for j in range(64)) for c in range(10)]
    target = (label + 1) % 10
    return max(z[c] for c in range(10) if c != target) - z[target]


# --- the attack ------------------------------------------------------------------------------------


def test_margins_are_those_of_a_loop(digits):
    attack = DigitsAttack(digits, num_images=6)
    theta = 0.3 * normal(2, 6, 64, dtype=F64)  # some inside of the radius, some outside
    assert 0.3 < float((theta.abs() > RADIUS).double().mean()) < 0.7
    found = attack.margin(theta)
    wanted = [
        by_hand(digits, attack.images[i].tolist(), int(attack.labels[i]), theta[b, i].tolist(), RADIUS)
        for b in range(2)
        for i in range(6)
    ]
    assert found.shape == (2, 6) and found.dtype == F64
    np.testing.assert_allclose(found.flatten().tolist(), wanted, rtol=1e-12, atol=1e-12)


def test_success_is_a_classifier_that_answers_the_target(attack):
    theta = torch.cat((attack.witness[None], 0.2 * normal(3, *attack.images.shape)))
    answers = attack.digits.logits(attack.seen(theta)).argmax(-1)
    success = attack.margin(theta) < 0
    assert torch.equal(answers == attack.targets, success)
    assert success.any() and not success.all()


def test_targets_are_the_next_digit(attack):
    assert sorted(set(zip(attack.labels.tolist(), attack.targets.tolist(), strict=True))) == [
        *((digit, digit + 1) for digit in range(9)),
        (9, 0),
    ]


def test_the_untouched_images_are_those_that_the_classifier_gets_right(digits, attack):
    right = digits.logits(digits.images).argmax(-1) == digits.labels
    assert torch.equal(attack.images, digits.images[right])
    assert (attack.margin(torch.zeros_like(attack.images)) > 0).all()
    few = DigitsAttack(digits, num_images=128)
    assert torch.equal(few.images, attack.images[:128]) and torch.equal(few.reachable, attack.reachable[:128])


def test_both_clips(attack):
    huge = torch.stack((torch.full_like(attack.images, 9), torch.full_like(attack.images, -9)))
    seen = attack.seen(huge)
    assert torch.equal(
        seen, torch.stack(((attack.images + RADIUS).clamp(max=1), (attack.images - RADIUS).clamp(min=0)))
    )
    theta = 0.5 * normal(4, *attack.images.shape)
    assert (attack.seen(theta) - attack.images).abs().max() <= RADIUS + 1e-6
    assert 0 <= float(attack.seen(theta).min()) and float(attack.seen(theta).max()) <= 1
    assert torch.equal(attack.margin(theta), attack.margin(theta.clamp(-RADIUS, RADIUS)))  # f is flat outside
    assert torch.equal(attack.seen(torch.zeros_like(attack.images)), attack.images)


def test_what_is_asked_is_not_changed(attack):
    theta = 0.5 * normal(*attack.images.shape)
    before = theta.clone(), attack.images.clone()
    attack.margin(theta)
    assert torch.equal(theta, before[0]) and torch.equal(attack.images, before[1])


def test_each_image_is_valued_by_itself_on_any_leading_axes(digits):
    attack = DigitsAttack(digits, num_images=5)
    theta = 0.3 * normal(2, 3, 4, 5, 64, dtype=F64)
    found = attack.margin(theta)
    assert found.shape == (2, 3, 4, 5)
    alone = torch.stack([attack.margin(one) for one in theta.flatten(0, 2)]).view_as(found)
    torch.testing.assert_close(found, alone, rtol=1e-12, atol=1e-12)
    other = theta.clone()
    other[..., 0, :] = 0
    torch.testing.assert_close(attack.margin(other)[..., 1:], found[..., 1:], rtol=1e-12, atol=1e-12)


def test_single_precision_is_close_to_double(attack):
    theta = 0.2 * normal(*attack.images.shape)
    single, double = attack.margin(theta), attack.margin(theta.double())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), double, rtol=0, atol=1e-4)


def test_another_radius(digits):
    theta = 0.5 * normal(8, 64, dtype=F64)
    wide = DigitsAttack(digits, num_images=8, radius=0.4)
    wanted = [by_hand(digits, wide.images[i].tolist(), int(wide.labels[i]), theta[i].tolist(), 0.4) for i in range(8)]
    np.testing.assert_allclose(wide.margin(theta).tolist(), wanted, rtol=1e-12, atol=1e-12)
    everywhere = [int(DigitsAttack(digits, radius=radius).reachable.sum()) for radius in (0.05, 0.1, 0.2)]
    assert everywhere == sorted(everywhere) and everywhere[0] < everywhere[-1]


def test_it_is_a_black_box(digits, attack):
    theta = torch.zeros_like(attack.images).requires_grad_()
    assert not attack.margin(theta).requires_grad and not attack.seen(theta).requires_grad
    images = digits.images[:3].clone().requires_grad_()  # the classifier itself is none
    assert torch.autograd.grad(digits.logits(images).sum(), images)[0].abs().sum() > 0


def test_nothing_waits_for_the_device(attack):
    theta = normal(2, *attack.images.shape)
    attack.margin(theta)
    with NoHostSync(), _check.values_unread():
        attack.margin(theta)


@pytest.mark.parametrize(
    ("theta", "word"),
    [
        (torch.zeros(353, 63), r"\[353, 64\]"),
        (torch.zeros(1, 64), r"\[353, 64\]"),
        (torch.zeros(64), "at least 2 axes"),
        (torch.zeros(0, 353, 64), "at least 2 axes"),
        (torch.zeros(353, 64).long(), "floating"),
        (torch.full((353, 64), math.nan), "without NaN"),
    ],
)
def test_bad_perturbations_are_refused(attack, theta, word):
    assert attack.images.shape == (353, 64)
    for asked in (attack.margin, attack.seen):
        with pytest.raises(ValueError, match=word):
            asked(theta)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"num_images": 0}, "num_images"),
        ({"num_images": 354}, "num_images"),
        ({"num_images": 2.0}, "whole number"),
        ({"radius": 0}, "radius"),
        ({"radius": math.nan}, "radius"),
    ],
)
def test_bad_settings_are_refused(digits, settings, word):
    with pytest.raises(ValueError, match=word):
        DigitsAttack(digits, **settings)


# --- what is shipped -------------------------------------------------------------------------------


def test_the_record_says_what_the_file_holds(digits, attack):
    record = digits.record
    assert record["made_by"] and record["seed"] == 0 and {"torch", "numpy", "scikit-learn"} <= set(record["versions"])
    assert len(digits.labels) == record["split"]["held_out"] == 360
    right = float((digits.logits(digits.images).argmax(-1) == digits.labels).double().mean())
    assert right == pytest.approx(record["accuracy"]["held_out"], abs=1e-4)
    assert 0.97 <= right < 1
    assert record["accuracy"]["right_of_held_out"] == f"{len(attack.labels)} of 360"
    box = record["white_box"]
    assert box["radius"] == attack.radius == RADIUS
    assert (int(attack.reachable.sum()), len(attack.labels)) == (box["witnesses"], box["attacked"])
    assert box["share"] == pytest.approx(box["witnesses"] / box["attacked"], abs=1e-4)
    assert torch.bincount(attack.labels, minlength=10).min() > 20


def test_the_experiment_is_informative(digits, attack):
    shares = digits.record["white_box"]["share_by_radius"]
    assert shares["0.1"] < 1 / 2 < shares["0.15"] < 0.9 < shares["0.2"] < 1
    first = DigitsAttack(digits, num_images=64)
    assert 0.85 < float(first.reachable.double().mean()) < 1
    # Noise of the size of the radius deceives hardly ever: success is to be searched for.
    corners = RADIUS * normal(200, *first.images.shape).sign()
    assert float((first.margin(corners) < 0).double().mean()) < 0.01


def test_every_witness_is_proof_in_single_and_double_precision(digits, attack):
    reached = attack.reachable
    assert (attack.witness.abs() <= RADIUS + 1e-7).all()
    assert (attack.margin(attack.witness.double())[reached] < -5e-4).all()
    assert (attack.witness[~reached] == 0).all() and (attack.witness[reached].abs().amax(-1) > 0).all()
    i = int(reached.nonzero()[0])
    witness = attack.witness[i].tolist()
    assert by_hand(digits, attack.images[i].tolist(), int(attack.labels[i]), witness, RADIUS) < 0


def test_what_is_called_out_of_reach_is_not_within_reach_of_chance(attack):
    hard = ~attack.reachable
    corners = RADIUS * normal(500, *attack.images.shape, seed=1).sign()
    assert hard.sum() > 5 and (attack.margin(corners)[:, hard] > 0).all()


def test_the_images_are_scikit_learns(digits):
    from sklearn.datasets import load_digits as scikit_digits

    bunch = scikit_digits()
    held_out = np.random.default_rng(0).permutation(1797)[:360]
    np.testing.assert_array_equal(digits.images.numpy() * 16, bunch.data[held_out])
    np.testing.assert_array_equal(digits.labels.numpy(), bunch.target[held_out])


# --- how it is made --------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_script_writes_the_same_bytes_twice_and_what_is_shipped(tmp_path, digits):
    run = "import pathlib, runpy, sys; runpy.run_path(sys.argv[1])['main'](pathlib.Path(sys.argv[2]))"
    folders = tmp_path / "once", tmp_path / "again"
    for folder, threads in zip(folders, "12", strict=True):
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "PYTHONHASHSEED": threads}
        command = [sys.executable, "-c", run, str(SCRIPT), str(folder)]
        subprocess.run(command, check=True, timeout=500, env=environment)
    for name in (FILE, RECORD):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
    # On another machine than the one that made the shipped files the last digits of weights may differ, no more.
    made = load_digits(folders[0])
    assert torch.equal(made.images, digits.images) and torch.equal(made.labels, digits.labels)
    for mine, shipped in zip(made[:4], digits[:4], strict=True):
        torch.testing.assert_close(mine, shipped, rtol=0.01, atol=0.01)
    same = {key for key in digits.record if made.record[key] == digits.record[key]}
    assert {"made_by", "seed", "images", "split", "classifier"} <= same
    assert abs(made.record["white_box"]["witnesses"] - digits.record["white_box"]["witnesses"]) <= 2


def test_the_white_box_stays_inside_the_radius_and_finds_what_a_line_search_finds(digits):
    spec = importlib.util.spec_from_file_location("make_digits", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    few = Digits(
        *(x.double() if x.is_floating_point() else x for x in digits[:4]),
        digits.images[:40].double(),
        digits.labels[:40],
        digits.witness[:40].double(),
        {},
    )
    attack = DigitsAttack(few)
    right = few.logits(few.images).argmax(-1) == few.labels
    found = script.white_box(few, radius=RADIUS)[right]
    assert (found.abs() <= RADIUS + 1e-12).all()
    # One step along the sign of the gradient, of the best of many lengths, is a weaker attack.
    images = few.images[right].clone().requires_grad_()
    logits = few.logits(images)
    target = torch.nn.functional.one_hot(attack.targets, 10).bool()
    margin = logits.masked_fill(target, -math.inf).amax(-1) - logits[target]
    (slope,) = torch.autograd.grad(margin.sum(), images)
    lengths = torch.linspace(0, RADIUS, 21, dtype=F64).view(-1, 1, 1)
    one_step = attack.margin(-lengths * slope.sign()).amin(0)
    assert (attack.margin(found) <= one_step + 1e-9).all()
    assert int((one_step < 0).sum()) < int((attack.margin(found) < 0).sum())


# --- damaged files ---------------------------------------------------------------------------------

REMEDY = "make data"


@pytest.fixture
def copy(tmp_path):
    for name in (FILE, RECORD):
        (tmp_path / name).write_bytes((SHIPPED / name).read_bytes())
    load_digits(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", [FILE, RECORD])
def test_a_lost_file_is_named(copy, name):
    (copy / name).unlink()
    with refused(REMEDY) as error:
        load_digits(copy)
    assert name in str(error.value)


@pytest.mark.parametrize("keep", [0, 1, 1000, -1])
def test_a_truncated_file_is_found(copy, keep):
    (copy / FILE).write_bytes((copy / FILE).read_bytes()[:keep])
    with refused(REMEDY):
        load_digits(copy)


@pytest.mark.parametrize("where", [0, 200, 20_000, -1])
@pytest.mark.parametrize("bit", [0, 7])
def test_one_bit_turned_is_found(copy, where, bit):
    content = bytearray((copy / FILE).read_bytes())
    content[where] ^= 1 << bit
    (copy / FILE).write_bytes(content)
    with refused(REMEDY) as error:
        load_digits(copy)
    assert "sha256" in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"sha256": 7}', '"sha256"', "\ufffd\x00"])
def test_a_damaged_record_is_found(copy, text):
    (copy / RECORD).write_text(text, encoding="utf-8")
    with refused(REMEDY) as error:
        load_digits(copy)
    assert RECORD in str(error.value)


def test_a_record_that_is_no_text_is_found(copy):
    (copy / RECORD).write_bytes(b"\xff\xfe\x00")
    with refused(REMEDY):
        load_digits(copy)


def rewrite(folder, content):
    """Put other bytes in place of the archive, with their hash in the record."""
    (folder / FILE).write_bytes(content)
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    record["sha256"] = hashlib.sha256(content).hexdigest()
    (folder / RECORD).write_text(json.dumps(record), encoding="utf-8")


def archive_of(arrays):
    with io.BytesIO() as archive:
        np.savez(archive, **arrays)
        return archive.getvalue()


def arrays_in(folder):
    with np.load(folder / FILE) as archive:
        return {name: archive[name] for name in archive.files}


def altered(name, change):
    def alter(arrays):
        return {**arrays, name: change(arrays[name].copy())}

    return alter


def with_entry(array, value):
    array[(0,) * array.ndim] = value
    return array


@pytest.mark.parametrize(
    ("alter", "said"),
    [
        (altered("first", lambda x: x[:, :-1]), r"first as float16 \[64, 64\].*\[64, 63\]"),
        (altered("first", lambda x: x.ravel()), r"first as float16"),
        (altered("last", lambda x: x.T), r"last as float16 \[64, 10\].*\[10, 64\]"),
        (altered("first_bias", lambda x: x.astype(np.float32)), r"first_bias as float16.*float32"),
        (altered("images", lambda x: x.reshape(-1, 8, 8)), r"images as uint8.*\[360, 8, 8\]"),
        (altered("images", lambda x: x[:-1]), r"images as uint8"),
        (altered("labels", lambda x: x[:-1]), r"as uint8"),
        (altered("labels", lambda x: x[0]), r"as uint8"),
        (altered("labels", lambda x: x.astype(np.int64)), r"labels as uint8.*int64"),
        (altered("witness", lambda x: x[:5]), r"witness as int8"),
        (altered("last_bias", lambda x: with_entry(x, np.nan)), "last_bias inside"),
        (altered("first", lambda x: with_entry(x, np.inf)), "first inside"),
        (altered("images", lambda x: with_entry(x, 17)), "images inside"),
        (altered("labels", lambda x: with_entry(x, 10)), "labels inside"),
        (altered("witness", lambda x: with_entry(x, -128)), "witness inside"),
        (lambda arrays: {name: arrays[name] for name in list(LAYOUT)[:-1]}, "with the arrays"),
        (lambda arrays: {**arrays, "more": np.zeros(1)}, "with the arrays.*more"),
        (
            lambda arrays: {n: x[:0] if n in ("images", "labels", "witness") else x for n, x in arrays.items()},
            "as uint8",
        ),
    ],
)
def test_other_contents_under_a_right_hash_are_found(copy, alter, said):
    rewrite(copy, archive_of(alter(arrays_in(copy))))
    with pytest.raises(ValueError, match=rf"(?s)expected .*{said}.*{REMEDY}"):
        load_digits(copy)


def test_no_archive_under_a_right_hash_is_found(copy):
    array = io.BytesIO()
    np.save(array, np.zeros(3))
    pickled = io.BytesIO()
    np.savez(pickled, first=np.array([{}], dtype=object))
    for content in (b"", b"not an archive", (SHIPPED / FILE).read_bytes()[:5000], array.getvalue(), pickled.getvalue()):
        rewrite(copy, content)
        with refused(REMEDY) as error:
            load_digits(copy)
        assert "archive of numpy arrays" in str(error.value)
