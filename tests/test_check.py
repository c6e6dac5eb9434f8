"""pocourse._check: each function lets good input pass and refuses bad input in words that help."""

import math

import pytest
import torch

from pocourse import _check

GOOD = torch.tensor([0.25, 0.75], dtype=torch.float64)
NAN = torch.tensor([0.25, math.nan], dtype=torch.float64)


def refused(*words):
    """A ValueError with expected, got, and each of the words, in this order."""
    return pytest.raises(ValueError, match=r"(?s)expected .*got .*" + ".*".join(words))


def test_same_shape_passes():
    _check.same_shape(a=GOOD, b=2 * GOOD)


@pytest.mark.parametrize("other", [GOOD[:, None], GOOD[None], GOOD[:1], torch.tensor(1.0, dtype=torch.float64)])
def test_same_shape_refuses_what_would_broadcast(other):
    with refused("broadcast", "reshape"):
        _check.same_shape(a=GOOD, b=other)


def test_same_shape_refuses_other_dtypes():
    with refused(r"b\.to\(a\)"):
        _check.same_shape(a=GOOD, b=GOOD.float())


def test_same_shape_refuses_nan():
    with refused("1 of 2 entries NaN", "Look for"):
        _check.same_shape(a=GOOD, b=NAN)


def test_floating_passes():
    _check.floating(a=GOOD, b=torch.tensor(math.inf))


@pytest.mark.parametrize(
    ("value", "remedy"),
    [(1.0, "as_tensor"), ([0.5], "as_tensor"), (torch.tensor([1]), r"\.float\(\)"), (NAN, "Look for")],
)
def test_floating_refuses(value, remedy):
    with refused(remedy):
        _check.floating(a=value)


def test_flags_passes():
    _check.flags(GOOD, done=torch.tensor([True, False]))


@pytest.mark.parametrize(
    ("value", "remedy"),
    [(torch.tensor([1, 0]), r"\.bool\(\)"), (True, r"\.bool\(\)"), (torch.tensor([[True, False]]), "Reshape")],
)
def test_flags_refuses(value, remedy):
    with refused(remedy):
        _check.flags(GOOD, done=value)


def test_constant_passes():
    _check.constant(a=GOOD)


def test_constant_refuses_leaves_and_results():
    leaf = GOOD.clone().requires_grad_()
    for tensor in (leaf, leaf.exp()):
        with refused("detach"):
            _check.constant(a=tensor)


@pytest.mark.parametrize("value", [0, 0.5, 1])
def test_number_passes(value):
    _check.number(at_least=0, at_most=1, gamma=value)


@pytest.mark.parametrize(
    "limits", [{"above": 1}, {"at_least": 1.5}, {"below": 1}, {"at_most": 0.5}, {"above": 0, "below": 1}]
)
def test_number_refuses_values_outside(limits):
    with refused("Choose gamma inside"):
        _check.number(gamma=1.0, **limits)


@pytest.mark.parametrize("value", [True, "0.9", None, math.nan, math.inf, torch.tensor(0.9)])
def test_number_refuses_what_is_no_finite_number(value):
    with refused("Pass a Python"):
        _check.number(gamma=value)


def test_entries():
    _check.entries(above=0, at_most=0.75, ratio=GOOD, trained=GOOD.clone().requires_grad_())
    for limits in ({"above": 0.25}, {"at_least": 0.3}, {"below": 0.75}, {"at_most": 0.7}):
        with refused("1 of 2 outside", "Look at how ratio"):
            _check.entries(ratio=GOOD, **limits)
    with refused("NaN"):
        _check.entries(at_least=0, ratio=NAN)
    with _check.values_unread():
        _check.entries(above=1, ratio=GOOD)


def test_probabilities_passes():
    _check.probabilities(policy=GOOD.expand(3, 4, 2), one=torch.ones(5, 1), trained=GOOD.clone().requires_grad_())


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        (2 * GOOD, r"Divide by policy\.sum"),
        (torch.tensor([-0.5, 1.5]), "softmax"),
        (torch.tensor(1.0), "at least one axis"),
        (torch.ones(3, 0), "at least one axis"),
        (NAN, "Look for"),
    ],
)
def test_probabilities_refuses(value, remedy):
    with refused(remedy):
        _check.probabilities(policy=value)


def test_axes():
    _check.axes(1, reward=GOOD)
    for tensor in (torch.tensor(1.0), torch.ones(0, 3), 1.0):
        with refused("unsqueeze"):
            _check.axes(1, reward=tensor)


def test_shape():
    _check.shape((2,), start=GOOD)
    for tensor in (GOOD[None], GOOD[:1], 1.0):
        with refused("Reshape"):
            _check.shape((2,), start=tensor)


def test_integers():
    _check.integers(GOOD, action=torch.tensor([0, 1]))
    for tensor in (GOOD, torch.tensor([True, False]), torch.tensor([0, 1], dtype=torch.int32), 1):
        with refused(r"\.long\(\)"):
            _check.integers(GOOD, action=tensor)
    with refused("Reshape"):
        _check.integers(GOOD, action=torch.tensor([[0, 1]]))


def test_values_unread_skips_values_only():
    with _check.values_unread():
        _check.same_shape(a=GOOD, b=NAN)
        _check.floating(a=NAN)
        _check.probabilities(policy=-GOOD)
        with pytest.raises(ValueError):
            _check.same_shape(a=GOOD, b=GOOD[None])
        with pytest.raises(ValueError):
            _check.number(above=0, eps=0.0)
    with pytest.raises(ValueError):
        _check.floating(a=NAN)


def test_values_unread_ends_with_an_exception():
    with pytest.raises(KeyError), _check.values_unread():
        raise KeyError
    with pytest.raises(ValueError):
        _check.floating(a=NAN)


def test_checks_run_inside_functorch_transforms():
    def loss(a):
        _check.same_shape(a=a, b=torch.ones_like(a))
        _check.probabilities(policy=a)
        return (a**2).sum()

    rows = torch.rand(5, 3, dtype=torch.float64)
    torch.testing.assert_close(torch.func.vmap(loss)(rows), (rows**2).sum(-1))
    torch.testing.assert_close(torch.func.grad(loss)(rows), 2 * rows)
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(loss))(rows), 2 * rows)


def test_constant_sees_gradient_inside_functorch_grad():
    def loss(a):
        _check.constant(advantage=a)
        return a.sum()

    with refused("detach"):
        torch.func.grad(loss)(GOOD)


# --- one sign, memory


def test_one_sign_passes_row_by_row():
    _check.one_sign(a=torch.tensor([[1.0, 0.0, 2.0], [-1.0, 0.0, -3.0]]), remedy="Split.")


def test_one_sign_refuses_a_row_of_both():
    with refused("both signs in 1 of 2 rows", "Split them"):
        _check.one_sign(a=torch.tensor([[1.0, -1.0], [1.0, 1.0]]), remedy="Split them.")


def test_one_sign_is_not_read_where_values_are_not():
    with _check.values_unread():
        _check.one_sign(a=torch.tensor([1.0, -1.0]), remedy="Split.")


def test_memory_passes_and_refuses_with_the_numbers(monkeypatch):
    monkeypatch.setattr(_check, "free_memory", lambda device: 2**30)
    _check.memory(2**30, torch.device("cpu"), what="a buffer", remedy="Take less.")
    with refused("1.0 GiB that are free on cpu", "Take less"):
        _check.memory(3 * 2**30, torch.device("cpu"), what="a buffer", remedy="Take less.")


def test_where_nobody_tells_nothing_is_judged(monkeypatch):
    monkeypatch.setattr(_check, "free_memory", lambda device: None)
    _check.memory(2**80, torch.device("cpu"), what="a buffer", remedy="Take less.")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_infinities_that_cancel_are_no_nan_and_one_nan_among_them_is(dtype):
    x = torch.tensor([torch.inf, -torch.inf, 1.0, 6e4, 6e4], dtype=dtype)
    _check.floating(x=x)
    with pytest.raises(ValueError, match="got 1 of 5 entries NaN"):
        _check.floating(x=torch.where(torch.arange(5) == 2, torch.nan, x))
