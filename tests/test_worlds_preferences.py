"""pocourse.worlds.preferences: the reward against real digits, choices against their chances, the judge by hand."""

import math

import pytest
import torch
from helpers import NoHostSync

from pocourse import _check
from pocourse.lesson import paths
from pocourse.worlds.digits import load_digits
from pocourse.worlds.preferences import (
    bradley_terry_choice,
    class_confidence,
    class_entropy,
    ink,
    label_agreement,
    make_pairs,
)

F64 = torch.float64


def refused(*words):
    return pytest.raises(ValueError, match="(?s)" + ".*".join(["expected", *words]))


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def uniform(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


@pytest.fixture(scope="module")
def digits():
    return load_digits(paths.shipped() / "digits")


@pytest.fixture(scope="module")
def real():
    from sklearn.datasets import load_digits as scikit_digits

    return torch.from_numpy(scikit_digits().data) / 8 - 1


def test_the_reward_is_standardised_on_real_digits(real):
    r = ink(real)
    assert r.shape == (1797,) and abs(r.mean()) < 1e-5 and abs(r.std(correction=0) - 1) < 1e-5


def test_the_reward_is_linear_in_the_pixels():
    images = normal(2, 3, 64).requires_grad_()
    (slope,) = torch.autograd.grad(ink(images).sum(), images)
    torch.testing.assert_close(slope, torch.full_like(slope, float(slope[0, 0, 0])))
    empty, full = ink(torch.tensor([[-1.0] * 64, [1.0] * 64], dtype=F64))
    assert full - empty == pytest.approx(128 * float(slope[0, 0, 0]))
    assert -9.1 < empty < -9.0 and 20 < full < 21  # (0 - .305) / .0336 and (1 - .305) / .0336


@pytest.mark.parametrize("gain", [0.5, 1.0, 3.0])
def test_choices_come_up_as_often_as_the_model_says(gain):
    first, second = torch.tensor([0.3, 1.0, -2.0], dtype=F64), torch.tensor([0.3, 0.5, -1.0], dtype=F64)
    chosen = bradley_terry_choice(first.expand(20_000, 3), second.expand(20_000, 3), uniform(20_000, 3), gain=gain)
    for index, difference in enumerate((0.0, 0.5, -1.0)):
        p = 1 / (1 + math.exp(-gain * difference))
        assert abs(chosen[:, index].double().mean() - p) < 4 * math.sqrt(p * (1 - p) / 20_000)


def test_a_choice_is_a_comparison_with_the_uniform_number():
    half = torch.tensor([0.0, 0.4999, 0.5, 0.9], dtype=F64)
    zero = torch.zeros(4, dtype=F64)
    assert bradley_terry_choice(zero, zero, half).tolist() == [True, True, False, False]
    assert bradley_terry_choice(zero + 3, zero, half).tolist() == [True] * 4


def test_pairs_are_the_same_images_in_the_order_of_the_choice():
    images, u = normal(2, 8, 5), uniform(2, 4)
    reward = images.sum(-1)
    found = make_pairs(images, reward, u, gain=2.0)
    assert found.chosen.shape == (2, 4, 5) and found.reward_chosen.shape == (2, 4)
    both = 0
    for seed in range(2):
        for pair in range(4):
            one, two = images[seed, pair], images[seed, pair + 4]
            if u[seed, pair] < 1 / (1 + math.exp(-2 * float(one.sum() - two.sum()))):
                chosen, rejected = one, two
            else:
                chosen, rejected, both = two, one, both + 1
            assert torch.equal(found.chosen[seed, pair], chosen)
            assert torch.equal(found.rejected[seed, pair], rejected)
    assert 0 < both < 8
    torch.testing.assert_close(found.reward_chosen, found.chosen.sum(-1))
    torch.testing.assert_close(found.reward_rejected, found.rejected.sum(-1))


def test_agreement_is_that_of_the_chances():
    """E max(p, 1 - p), for rewards that differ by 1 at gain 2, is sigmoid(2)."""
    count = 40_000
    reward = torch.cat([torch.ones(count), torch.zeros(count)]).double()
    images = reward.unsqueeze(-1)
    found = make_pairs(images, reward, uniform(count), gain=2.0)
    p = 1 / (1 + math.exp(-2))
    share = label_agreement(found.reward_chosen, found.reward_rejected)
    assert abs(share - p) < 4 * math.sqrt(p * (1 - p) / count)


def test_agreement_counts_ties_half():
    w, lost = torch.tensor([[1.0, 2.0, 3.0, 0.0]]), torch.tensor([[0.0, 2.0, 4.0, -1.0]])
    assert label_agreement(w, lost).tolist() == [0.625]


def judged_by_hand(digits, image):
    """Class probabilities of one image in plain numbers."""
    w1, b1, w2, b2 = (x.double() for x in digits[:4])
    hidden = 1 / (1 + (-((image + 1) / 2 @ w1 + b1)).exp())
    z = (hidden @ w2 + b2).exp()
    return z / z.sum()


def test_confidence_and_entropy_by_hand(digits):
    images = uniform(2, 5, 64) * 2 - 1
    confidence, entropy = class_confidence(digits, images), class_entropy(digits, images)
    assert confidence.shape == entropy.shape == (2,)
    for seed in range(2):
        p = torch.stack([judged_by_hand(digits, image) for image in images[seed]])
        assert float(confidence[seed]) == pytest.approx(float(p.amax(1).mean()), rel=1e-12)
        mean = p.mean(0)
        assert float(entropy[seed]) == pytest.approx(-float((mean * mean.log()).sum()), rel=1e-12)


def test_real_digits_look_like_digits_and_noise_does_not(digits, real):
    noise = uniform(1797, 64) * 2 - 1
    assert class_confidence(digits, real) > 0.95 and class_entropy(digits, real) > 0.99 * math.log(10)
    assert class_confidence(digits, noise) < 0.8
    one_kind = digits.images[digits.labels == 3].double() * 2 - 1
    assert class_entropy(digits, one_kind) < 0.4


def test_nothing_waits_for_the_device(digits):
    images = normal(2, 6, 64).float()
    with NoHostSync(), _check.values_unread():
        found = make_pairs(images, ink(images), uniform(2, 3).float())
        label_agreement(found.reward_chosen, found.reward_rejected)
        class_confidence(digits, images), class_entropy(digits, images)


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda d: ink(torch.zeros(3, 0)), "at least 1 axes"),
        (lambda d: ink(torch.zeros(3, 64).long()), "floating"),
        (lambda d: ink(torch.full((3, 64), math.nan)), "NaN"),
        (lambda d: bradley_terry_choice(normal(3), normal(3, 1), uniform(3)), "shape"),
        (lambda d: bradley_terry_choice(normal(3), normal(3), uniform(3), gain=0), "gain"),
        (lambda d: make_pairs(normal(5, 4), normal(5), uniform(2)), "even number"),
        (lambda d: make_pairs(normal(6, 4), normal(5), uniform(3)), "reward in the shape"),
        (lambda d: make_pairs(normal(6, 4), normal(6), uniform(6)), "uniform in the shape"),
        (lambda d: label_agreement(normal(3), normal(4)), "shape"),
        (lambda d: label_agreement(normal(0), normal(0)), "axes"),
        (lambda d: class_confidence(d, normal(4, 63)), r"\[4, 64\]"),
        (lambda d: class_entropy(d, normal(64)), "at least 2 axes"),
        (lambda d: class_entropy(d, normal(0, 64)), "none of them empty"),
    ],
)
def test_bad_input_is_refused(digits, call, word):
    with refused(word):
        call(digits)
