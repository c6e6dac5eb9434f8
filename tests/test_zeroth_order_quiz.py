"""Chapter 4's questions: their form, and every number in an explanation worked out again; and its teaching room."""

import math
import re
from collections import Counter
from pathlib import Path
from statistics import mean, median

import numpy as np
import pytest
import torch

import pocourse.zeroth_order.claims
import pocourse.zeroth_order.quiz  # noqa: F401  registers the questions of chapter 4
from pocourse.lesson import claims, sheets
from pocourse.lesson.questions import allowed, in_words, predictions, registry
from pocourse.worlds import landscapes
from pocourse.zeroth_order import Adam, ZoAR, bounds, estimators, teaching, training
from pocourse.zeroth_order.claims import instances

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "notebooks" / "text" / "04_zeroth_order.md"
CHAPTER = {q.id.split(".")[1]: q for q in registry().values() if q.chapter == "zeroth_order"}
ENTRY = [q for q in CHAPTER.values() if q.kind == "entry"]
MAIN = [q for q in CHAPTER.values() if q.kind == "quiz"]
PREDICTIONS = {id.split(".")[1]: asked for id, asked in predictions().items() if id.startswith("zeroth_order.")}
CLAIMS = {id: found for id, found in claims.registry().items() if found.chapter == "zeroth_order"}
every_question = pytest.mark.parametrize("asked", CHAPTER.values(), ids=CHAPTER)


def values(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


# --- form


def test_there_are_enough_questions_for_every_section():
    assert len(ENTRY) == 5 and 12 <= len(MAIN) <= 15
    assert all(isinstance(q.read_up, tuple) for q in ENTRY)
    assert list(dict.fromkeys(q.section for q in MAIN)) == ["1", "2", "3", "4", "5", "6", "7", "9", "10", "11"]
    rights = Counter(sum(choice.right for choice in q.choices) for q in CHAPTER.values())
    assert rights[1] >= 3 and rights[2] >= 3


@every_question
def test_every_choice_is_explained_and_nothing_is_tex(asked):
    for choice in asked.choices:
        assert len(choice.why) >= 40
        for text in (choice.text, choice.why, asked.text):
            assert "$" not in text and "\\" not in text and "  " not in text
            assert text.count("`") % 2 == 0 and "**" not in text


def test_neither_letter_nor_length_gives_the_answer_away():
    places = Counter(letter for q in CHAPTER.values() for letter, choice in q.lettered.items() if choice.right)
    assert len(places) >= 4 and places.most_common(1)[0][1] <= 0.4 * places.total()
    patterns = Counter(tuple(choice.right for choice in q.choices) for q in CHAPTER.values())
    assert patterns.most_common(1)[0][1] <= 0.3 * len(CHAPTER)
    longest = [max(q.choices, key=lambda choice: len(choice.text)).right for q in CHAPTER.values()]
    assert 0.1 <= np.mean(longest) <= 0.35
    lengths = {
        right: [len(c.text) for q in CHAPTER.values() for c in q.choices if c.right is right] for right in (True, False)
    }
    assert 0.8 < np.mean(lengths[True]) / np.mean(lengths[False]) < 1.2


@every_question
def test_equations_named_are_claims_and_every_question_on_the_chapter_names_one(asked):
    known = {found.equation for found in CLAIMS.values()}
    named = set(re.findall(r"\((\d\.\d+)\)", " ".join([asked.text, *(c.why for c in asked.choices)])))
    assert named <= known
    assert named or asked.kind == "entry"


def test_every_section_named_is_one_of_the_notebook():
    headings = re.findall(r"^## (\d+)(?= )", NOTEBOOK.read_text(encoding="utf-8"), re.MULTILINE)
    assert {each.section for each in [*CHAPTER.values(), *PREDICTIONS.values()]} <= set(headings)
    # Asked in the order in which the notebook teaches.
    places = [headings.index(q.section) for q in MAIN]
    assert places == sorted(places)


# --- every number in an explanation, worked out again

# A number: digits with commas, a fraction or decimals, or a vulgar fraction. What looks like (4.4) is an equation.
NUMBER = re.compile(r"(?<![\w.,])(\d{1,3}(?:,\d{3})+|\d+(?:\.\d+)?(?:/\d+(?:\.\d+)?)?|[½¼¾])")
VULGAR = {"½": "1/2", "¼": "1/4", "¾": "3/4"}
WORKED = {}


def numbers(text):
    """The numbers in a text without their signs, as they are written, with value and precision."""
    for written in NUMBER.findall(re.sub(r"\(\d\.\d+\)|section \d+|sections \d+ and \d+", " ", text, flags=re.I)):
        above, _, below = VULGAR.get(written, written.replace(",", "")).partition("/")
        value = float(above) / float(below or 1)
        digits = len(above.partition(".")[2]) if not below else 9
        yield written, value, 0.5000001 * 10**-digits if digits and not below else 1e-9


def worked(name):
    """Register the recomputed numbers of a question, by letter: each a list of numbers and tensors."""

    def register(function):
        WORKED[name] = function
        return function

    return register


def flat(found):
    for each in found if isinstance(found, list | tuple) else [found]:
        if isinstance(each, torch.Tensor | np.ndarray):
            yield from (abs(float(x)) for x in each.flatten())
        elif isinstance(each, list | tuple):
            yield from flat(each)
        else:
            yield abs(float(each))


def unexplained(asked, letter, recomputed):
    """The numbers of an explanation that are neither given in the question nor recomputed."""
    choice = asked.lettered[letter]
    known = [*(value for _, value, _ in numbers(asked.text)), *flat(recomputed)]
    stated = numbers(f"{choice.why} {choice.text}")
    return [written for written, value, within in stated if not any(abs(value - x) <= within for x in known)]


@pytest.mark.parametrize("name", CHAPTER)
def test_every_number_in_an_explanation_is_worked_out(name):
    asked, found = CHAPTER[name], WORKED[name]()
    assert set(found) <= set(asked.lettered)
    for letter in asked.lettered:
        assert not unexplained(asked, letter, found.get(letter, ())), letter


def test_a_number_that_was_not_worked_out_is_found():
    asked = CHAPTER["what_scatters"]
    assert unexplained(asked, "b", [0, 8]) == ["27", "2", "2"]
    assert unexplained(asked, "b", [0, 8, 2, 27.001]) == ["27"] and not unexplained(asked, "b", [0, -8, 2, 27])
    read = "½ of 10/11 by (3.4), see section 12, −0.25, 10,000 and e^(−4.5); (1, 7)"
    assert [value for _, value, _ in numbers(read)] == [0.5, 10 / 11, 0.25, 10_000, 4.5, 1, 7]


def moments(x):
    """Mean, mean square and variance of equally likely numbers."""
    return x.mean(), (x**2).mean(), x.var(correction=0)


def on_a_line(y, u, baseline):
    """REINFORCE on a line with sigma = 1."""
    return float(estimators.reinforce_gradient(y, u[:, None], sigma=1.0, baseline=float(baseline)))


@worked("entry_baseline")
def _():
    score, loss = values(-1, 1), values(14, 10)

    def sample(b):
        return (loss - b) * score

    for b in (0, 12, -10, 3.7):
        assert on_a_line(loss, score, b) == pytest.approx(-2) == float(sample(b).mean())
    plain, best, bad = (moments(sample(b))[2] for b in (0, 12, -10))
    assert best == 0 < plain < bad
    return {
        "a": [12, sample(0), sample(12), -2],
        "b": [0.5, score, loss, -2],
        "c": [-10, sample(-10), (sample(-10)[1] - sample(-10)[0]) / 2, bad, math.sqrt(plain), plain, 2],
        "d": [12, loss, score, sample(12)],
        "e": [(loss - loss) * score],
    }


@worked("entry_covariance")
def _():
    u, y = values(1, 1, -1, -1), values(7, 5, 3, 1)
    found, square, variance = moments(u * y)
    joint = ((u - u.mean()) * (y - y.mean())).mean()
    shifted = ((u - u.mean()) * (y + 10 - (y + 10).mean())).mean()
    assert joint == found == shifted == 2 and square == 21 and u.mean() == 0
    taken = moments(u * (y - 4))
    assert taken[0] == found and taken[2] == 1
    return {
        "a": [square, (u * y) ** 2, 4, found, variance],
        "b": [10, u * (y + 10), 4, shifted, 12],
        "c": [joint, u * y, 4, u.mean(), y.mean()],
        "d": [y.mean(), u * (y - 4), taken, u.mean(), 1],
    }


@worked("entry_quadratic")
def _():
    def f(x):
        return 2 * x[0] ** 2 + x[0] * x[1] - x[1] ** 2

    x, v = values(1, 1), values(1, 0)
    gradient = torch.autograd.functional.jacobian(f, x)
    hessian = torch.autograd.functional.hessian(f, x)
    change, bend = f(x + v) - f(x), v @ hessian @ v
    trace, square = hessian.trace(), (hessian @ hessian).trace()
    assert change == gradient @ v + bend / 2 != gradient @ v and trace**2 == 4 != square
    assert torch.linalg.eigvalsh(hessian)[0] < 0 < trace
    for other in (v, values(-0.3, 2)):
        assert float(f(x + other) - f(x - other)) == pytest.approx(float(2 * gradient @ other))
    return {
        "a": [gradient, 4, 2],
        "b": [v, gradient @ v, f(x), f(x + v), change, 0.5, bend, bend / 2],
        "c": [2, trace, trace**2, hessian, hessian**2, square],
        "d": [0, 1, trace, values(0, 1) @ hessian @ values(0, 1), hessian.diagonal()],
        "e": [2, v, f(x + v), f(x - v), f(x + v) - f(x - v), gradient @ v],
    }


@worked("entry_norm")
def _():
    d = 10_000
    length, spread = math.sqrt(d), math.sqrt(2 * d)

    def shorter(r):
        return float(torch.special.gammainc(values(d / 2), values(r**2 / 2)))

    of_length = spread / (2 * length)
    assert shorter(95) < 1e-6 and shorter(103) - shorter(97) > 0.9999 and 3 > 4 * of_length
    draws = torch.randn(200, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert float(draws.norm(dim=-1).mean()) == pytest.approx(length, abs=4 * of_length / math.sqrt(200))
    products = (draws[:100] * draws[100:]).sum(-1)
    assert 0.7 * length < float(products.std()) < 1.3 * length
    return {
        "a": [1, d, length],
        "b": [0, 95],
        "c": [0, length, d, length / d],
        "d": [length, 3, 2, d, spread, of_length],
        "e": [0.05, length, 0.05 * length],
    }


def last_steps(gradients, count=1):
    """The last steps of Adam, in units of eta, for a sequence of gradients in one coordinate."""
    adam = Adam(learning_rate=1.0)
    return [float(adam(values(g))) for g in gradients][-count:]


@worked("entry_adam")
def _():
    plain, large = (last_steps([g] * 1500) for g in (4.0, 400.0))
    assert plain == pytest.approx(large) and plain[0] == pytest.approx(-1)
    (swinging,) = last_steps([4.0, -4.0] * 750)
    assert abs(swinging) == pytest.approx(1 / 19)
    size = math.sqrt(10_000)
    return {
        "a": [100, 4 * 100],
        "b": [4, 4**2, 1],
        "c": [4, 0.9, 4 * (1 - 0.9) / (1 + 0.9), round(1 / abs(swinging), 4)],
        "d": [10_000, size, 0.001, size * 0.001],
    }


@worked("acts_once")
def _():
    sigma, theta = 0.5, 1.0
    u, weight = instances.hermite(6)
    x = theta + sigma * u[:, 0]

    def slope(f):
        return (weight * f(x) * u[:, 0] / sigma).sum()

    smoothed = (weight * x**2).sum()
    at = values(theta).requires_grad_()
    score = torch.autograd.grad(torch.distributions.Normal(at, sigma).log_prob(values(1.5)).sum(), at)[0]
    assert float(smoothed) == pytest.approx(1.25) and float(score) == 2
    assert float(slope(lambda x: x**2)) == pytest.approx(2) and float(slope(lambda x: x**3)) == pytest.approx(3.75)
    assert float(slope(lambda x: -(x**2))) == pytest.approx(-2)
    return {
        "a": [theta**2, smoothed, 1],
        "b": [1.5, 0.5, sigma**2, score, (1.5 - theta) / sigma],
        "c": [2, slope(lambda x: x**2), slope(lambda x: x**3), 3 * theta**2],
    }


@worked("one_batch")
def _():
    u, y, base = values(1, -1, 3), values(6, 4, 11), values(5)[0]
    direction = u[:, None]

    def all_of_them(shift):
        return (
            float(estimators.forward_gradient(y + shift, base + shift, direction, sigma=1.0)),
            on_a_line(y + shift, u, (y + shift).mean()),
            float(estimators.rloo_gradient(y + shift, direction, sigma=1.0)),
        )

    forward, mean_baseline, rloo = all_of_them(0.0)
    assert all_of_them(100.0) == pytest.approx((forward, mean_baseline, rloo))
    assert (forward, mean_baseline, rloo) == pytest.approx((20 / 3, 14 / 3, 7))
    others = (y.sum() - y) / 2
    pairs = [(y[i] - y[j]) * (u[i] - u[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert float(sum(pairs) / 6) == rloo != float(sum(pairs) / 3)
    bare = [on_a_line(y + shift, u, 0.0) for shift in (0.0, 100.0)]
    return {
        "a": [(y - base) * u, y - base, u, 20, 4, 20 / 4, forward],
        "b": [y - y.mean(), u, ((y - y.mean()) * u).sum(), 2, 3, rloo, mean_baseline, 1, 1 / 3, 14 / 3],
        "c": [others, (y - others) * u, ((y - others) * u).sum(), 3, 21 / 3, rloo],
        "d": [pairs, sum(pairs), sum(pairs) / 3, 42 / 3, sum(pairs) / 6, 42 / 6, rloo],
        "e": [100, bare],
    }


@worked("mirrored")
def _():
    plus, minus, base, u = values(9), values(5), values(6), values(2)
    found = float(estimators.antithetic_gradient(plus, minus, u[:, None], sigma=1.0))
    y, both = torch.cat((plus, minus)), torch.cat((u, -u))
    for b in (0, 6, 1000, float(base)):
        assert on_a_line(y, both, b) == pytest.approx(found)
    left_out = float(estimators.rloo_gradient(y, both[:, None], sigma=1.0))
    even, mirrored = (on_a_line(plus, u, b) for b in (7, 5))
    assert found == even == 4 and left_out == mirrored == 2 * found
    return {
        "a": [found, plus, minus, u, 2, 0, 6, 1000],
        "b": [2, 1, left_out],
        "c": [even, 7, plus, minus, (plus + minus) / 2, u, 2],
        "d": [found, 5, plus, minus, u, mirrored],
        "e": [(plus - base) * u, (minus - base) * -u, plus, minus, base, u, found],
    }


def variances(hessian, sigma=1.0, square=1.0):
    """Forward, averaged and mirrored, one direction each, and the same from quadrature through the estimators."""
    gradient = values(math.sqrt(square), 0)
    stated = (
        bounds.forward_variance(gradient, hessian, sigma=sigma),
        bounds.averaged_variance(gradient, hessian, sigma=sigma),
        bounds.antithetic_variance(gradient),
    )
    f = instances.Quadratic(values(0.0), gradient[None], hessian[None])
    u, weight = instances.every_direction(instances.EXACT_FOR_QUADRATICS, 1, 2, 1)
    y, smoothed = f.at(sigma * u), f.value + sigma**2 / 2 * f.trace
    summed = (
        estimators.reinforce_gradient(y, u, sigma=sigma, baseline=f.value.expand(y.shape[1:])),
        estimators.reinforce_gradient(y, u, sigma=sigma, baseline=smoothed.expand(y.shape[1:])),
        estimators.antithetic_gradient(y, f.at(-sigma * u), u, sigma=sigma),
    )
    for said, estimate in zip(stated, summed, strict=True):
        assert float(instances.trace(weight, estimate)) == pytest.approx(float(said))
    return [float(said) for said in stated]


@worked("what_scatters")
def _():
    bowl, saddle, flat_one = (torch.diag(values(*h)) for h in ((2, 2), (2, -2), (0, 0)))
    at_bowl, at_saddle, at_flat = variances(bowl), variances(saddle), variances(flat_one)
    assert at_bowl == [51, 27, 3] and at_saddle == [27, 27, 3] and at_flat == [3, 3, 3]
    narrow = variances(bowl, sigma=0.5)
    assert narrow[0] == 15 and narrow[2] == at_bowl[2]
    trace, square = bowl.trace() ** 2, (bowl**2).sum()
    return {
        "a": [2, at_bowl, 0.25, 0.5, 6, trace, 2 * square, square],
        "b": [2, saddle.trace(), at_saddle, (saddle**2).sum()],
        "c": [0, 1, at_flat],
        "d": [1, 3, at_bowl[2]],
        "e": [0.5, at_bowl[0], 3, narrow[0] - 3, narrow[0]],
    }


def of_ten_values(square):
    """Forward, RLOO and mirrored variances of ten values on |x|^2 / 2 with 1000 dimensions, sigma^2 d = 25."""
    d = 1000
    sigma, hessian = math.sqrt(25 / d), torch.eye(d, dtype=torch.float64)
    gradient = torch.zeros(d, dtype=torch.float64)
    gradient[0] = math.sqrt(square)
    averaged = bounds.averaged_variance(gradient, hessian, sigma=sigma)
    spread = values(sigma**2 * square + sigma**4 / 2 * d)[0]
    return (
        float(bounds.forward_variance(gradient, hessian, sigma=sigma, directions=9)),
        float(bounds.rloo_variance(averaged, gradient, spread, queries=10, sigma=sigma)),
        float(bounds.antithetic_variance(gradient, pairs=5)),
    )


@worked("equal_queries")
def _():
    far, near, there = (of_ten_values(square) for square in (1000, 1, 0))
    assert far[0] > far[2] > far[1] and near[2] < near[1] < near[0] and there[2] == 0 < there[1] < there[0]
    return {
        "a": [1000, far[2] / far[1]],
        "b": [1000, far[0] / far[1]],
        "c": [1, near[2] / near[1], 2, 4],
        "d": [there[0] / there[1]],
    }


def smoothed_slope(f, x, sigma, kink=None):
    """E[f(x + sigma u) u] / sigma, by Gauss-Legendre on either side of a kink, ten deviations to each end."""
    node, weight = instances.legendre(120)
    kink = 0.0 if kink is None else (kink - x) / sigma
    found = 0.0
    for low, high in ((-10.0, kink), (kink, 10.0)):
        u = (low + high) / 2 + (high - low) / 2 * node
        density = (-(u**2) / 2).exp() / math.sqrt(2 * math.pi)
        found += float(((high - low) * weight * density * f(x + sigma * u) * u).sum() / sigma)
    return found


@worked("smoothed")
def _():
    def step(x):
        return (x > 0).double()

    at = {(x, s): smoothed_slope(step, x, s, kink=0) for x in (0, 2) for s in (1, 0.5)}
    assert at[0, 1] == pytest.approx(1 / math.sqrt(2 * math.pi))
    assert at[0, 0.5] > at[0, 1] and at[2, 0.5] < at[2, 1]
    cubic = smoothed_slope(lambda x: x**3, 0.0, 1.0)
    assert cubic == pytest.approx(3)
    left = smoothed_slope(torch.sin, 0.7, 3.0) / math.cos(0.7)
    assert left == pytest.approx(math.exp(-4.5), rel=1e-6)
    return {
        "a": [0, 1, 2, at[0, 1]],
        "b": [1, 0.5, 2, list(at.values())],
        "c": [0, 3, round(cubic, 9), 1],
        "d": [3, 2, 3**2 / 2, left],
    }


def squared_cosines(directions):
    """Of central differences along directions [draw, dim, direction] with the gradient of a linear function."""
    gradient = torch.zeros(directions.shape[1], dtype=torch.float64)
    gradient[0] = 1
    u = directions.movedim(-1, 0)
    estimate = estimators.antithetic_gradient(u @ gradient, -(u @ gradient), u, sigma=1.0)
    return torch.nn.functional.cosine_similarity(estimate, gradient, dim=-1) ** 2


def agrees(sample, stated):
    return abs(float(sample.mean()) - stated) <= 4 * float(sample.std()) / math.sqrt(len(sample)) + 1e-12


@worked("ten_directions")
def _():
    generator = torch.Generator().manual_seed(0)
    law, k, d = (lambda k, d: k / (d + k - 1)), 10, 91
    ten, many = (
        torch.randn(draws, d, n, generator=generator, dtype=torch.float64) for draws, n in ((2000, k), (60, d))
    )
    gaussian, orthonormal = squared_cosines(ten), squared_cosines(torch.linalg.qr(ten).Q)
    assert agrees(gaussian, law(k, d)) and agrees(orthonormal, k / d) and not agrees(gaussian, k / d)
    assert agrees(squared_cosines(many), law(d, d))
    assert float(squared_cosines(torch.linalg.qr(many).Q).min()) == pytest.approx(1)
    u, weight = instances.hermite(50)
    c = instances.normal_cdf(u[:, 0]) - 0.5
    price = float((weight * c * u[:, 0]).sum() ** 2 / (weight * c**2).sum())
    assert price == pytest.approx(3 / math.pi) and price < 1
    y = torch.randn(20, generator=generator, dtype=torch.float64)
    assert torch.equal(estimators.centred_ranks(y.exp()), estimators.centred_ranks(y))
    cosine = math.sqrt(law(k, d))
    degrees = [math.degrees(math.acos(x)) for x in (law(k, d), cosine)]
    return {
        "a": [law(k, d), k, d + k - 1, 1, k / (d + k - 1), k / d],
        "b": [law(k, d), degrees, round(degrees[0]), cosine],
        "c": [d, law(d, d), 1],
        "d": [3, price],
        "e": [],
    }


def mean_square(shift):
    """E w^2 of the weights that carry a standard normal over to one moved by ``shift``, by quadrature."""
    u, weight = instances.hermite(100)
    old, new = (torch.distributions.Normal(values(centre)[0], 1.0) for centre in (0.0, shift))
    w = (new.log_prob(u[:, 0]) - old.log_prob(u[:, 0])).exp()
    return float((weight * w**2).sum())


@worked("stale")
def _():
    left = {shift: 100 / mean_square(shift) for shift in (0.1, 1.0, 2.0, 3.0)}
    for shift, found in left.items():
        assert found == pytest.approx(100 * math.exp(-(shift**2)), rel=1e-4)
    assert left[3.0] < 100 * math.exp(-3)
    # In every coordinate the same small move: the mean squares multiply.
    everywhere = 10_000 * math.log(mean_square(0.1))
    assert everywhere == pytest.approx(100)
    distance = math.sqrt(10_000) * 0.1

    def linear(n, d=7):
        slope = torch.ones(d, dtype=torch.float64)
        one = (d + 1) * (slope**2).sum()
        return float(bounds.rloo_variance(one, slope, (slope**2).sum(), queries=n, sigma=1.0))

    assert linear(10) / linear(60) == pytest.approx(59 / 9) and linear(10) == pytest.approx(8 * 7 / 9)
    return {
        "a": [100, 1, left[1.0]],
        "b": [3, round(100 * math.exp(-3)), 100, 9, left[3.0]],
        "c": [0.1, 10_000, distance, everywhere],
        "e": [60, 10, linear(10) / linear(60), 59 / 9, 1],
    }


def remembered(queries_of, shift=0.0, iterations=9, history=6):
    """ZoAR's estimates on a moving theta, with the central differences of the same pairs."""
    generator = torch.Generator().manual_seed(0)
    zoar = ZoAR(4, num_queries=2, history=history, sigma=0.3, generator=generator, dtype=torch.float64)
    theta, found, central = torch.zeros(4, dtype=torch.float64), [], []
    for _ in range(iterations):
        u = torch.randn(4, generator=generator, dtype=torch.float64)
        y = queries_of(zoar.ask(theta, torch.stack((u, -u)))) + shift
        found.append(zoar.tell(y))
        central.append(estimators.antithetic_gradient(y[:1], y[1:], u[None], sigma=0.3))
        theta = theta - 0.1 * u
    return torch.stack(found), torch.stack(central)


@worked("pairs_remembered")
def _():
    found, central = remembered(landscapes.levy)
    factor = 12 / 11
    torch.testing.assert_close(found[-1], factor * central[-6:].mean(0))
    momentum = (1 / 6) * (5 / 6) ** torch.arange(len(central) - 1, -1, -1, dtype=torch.float64)
    assert not torch.allclose(found[-1], momentum @ central) and float(momentum[-7]) == pytest.approx(0.0558, abs=1e-4)
    plain, scaled = (last_steps([k * g for g in (1.0, -0.4, 2.0) * 300]) for k in (1.0, factor))
    assert plain == pytest.approx(scaled)
    return {
        "a": [0],
        "b": [5 / 6, 1 / 6, 0, momentum[-7]],
        "c": [factor],
        "d": [factor, 2, 1],
    }


@worked("outlier")
def _():
    before, after = values(1, 2, 3, 10), values(1, 2, 3, 1000)
    ranks = estimators.centred_ranks(before)
    assert torch.equal(ranks, estimators.centred_ranks(after)) and abs(float(ranks.sum())) < 1e-15
    r = (ranks + 0.5) * 3
    assert r.tolist() == [0, 1, 2, 3] and (2 * r - 3).sum() == 0
    torch.testing.assert_close(2 * r - 3, 6 * ranks)  # a multiple of the ranks: the sum over pairs
    shares = [torch.softmax(-y, 0) for y in (before, after)]
    assert torch.allclose(*shares, atol=1e-4) and float(shares[0].sum()) == pytest.approx(1)
    apart = [float((y - y.mean())[:3].std() / (y - y.mean())[:3].mean().abs()) for y in (before, after)]
    assert apart[1] < 0.01 < 0.4 < apart[0]
    return {
        "a": [before - before.mean(), after - after.mean()],
        "b": [ranks],
        "c": [2, 4, 0, 3, 2 * r - 4, (2 * r - 4).sum(), (2 * r - 3).sum()],
        "d": [1, shares[0]],
    }


def price(d, sigma):
    """Forward against averaged on |x|^2 / 2 at |x|^2 = d."""
    return 1 + sigma**2 * d / 4 * (d + 4) / (d + 1 + sigma**2 / 2 * (d + 4))


def test_the_price_is_that_of_the_variances():
    for d, sigma in ((30, 0.05), (300, 0.5), (1000, 0.158)):
        hessian, gradient = torch.eye(d, dtype=torch.float64), torch.ones(d, dtype=torch.float64)
        forward, averaged = (
            variance(gradient, hessian, sigma=sigma) for variance in (bounds.forward_variance, bounds.averaged_variance)
        )
        assert float(forward / averaged) == pytest.approx(price(d, sigma), rel=1e-12)


@worked("fair_race")
def _():
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(10, 5, generator=generator, dtype=torch.float64)
    y, minus, base = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((10,), (10,), ()))

    def estimates(shift):
        return torch.stack(
            (
                estimators.forward_gradient(y[1:] + shift, base + shift, u[1:], sigma=1.0),
                estimators.rloo_gradient(y + shift, u, sigma=1.0),
                estimators.antithetic_gradient(y + shift, minus + shift, u, sigma=1.0),
                remembered(landscapes.levy, shift)[0][-1, 0].expand(5),
            )
        )

    torch.testing.assert_close(estimates(0.0), estimates(1000.0), rtol=1e-9, atol=1e-9)
    shrunk = estimators.reinforce_gradient(y, u, sigma=1.0, baseline=y.mean())
    torch.testing.assert_close(shrunk, 0.9 * estimators.rloo_gradient(y, u, sigma=1.0))
    gradients = (1.0, -0.4, 2.0) * 300
    assert last_steps(gradients) == pytest.approx(last_steps([0.9 * g for g in gradients]))
    assert price(1000, 0.05) < 2 < price(10_000, 0.05) and 0.158**2 * 1000 == pytest.approx(25, abs=0.05)
    assert 0.05**2 * 10_000 == pytest.approx(25)
    return {
        "a": [10 - 1, 10, 10 + 1, 11 / 10, 10 / 2],
        "b": [1, 1 - 1 / 10],
        "c": [1000, 0.05, 10_000, price(1000, 0.05), price(10_000, 0.05), 25, 0.158, price(1000, 0.158)],
    }


@worked("longer_steps")
def _():
    root = {s: math.sqrt(1 + s**2) for s in (10, 3)}
    drift = {s: 1 / root[s] for s in root}
    for s in root:  # noise that takes turns has the mean and the deviation of the question
        last = last_steps([1.0 + s, 1.0 - s] * 750, 2)
        assert -mean(last) == pytest.approx(drift[s], rel=0.01)
    quotient = drift[3] / drift[10]
    assert drift[10] < drift[3] < 1 and quotient == pytest.approx(3.2, abs=0.05)
    far, there = of_ten_values(1000), of_ten_values(0)
    assert far[2] > far[1] and there[2] == 0 < there[1]
    return {
        "a": [1, 100, 9, root[10], root[3], drift[10]],
        "b": [quotient, drift[3], drift[10]],
        "c": [quotient, drift[10], 3.2 * round(drift[10], 4)],
        "d": [far[2] / far[1]],
    }


@worked("queries_to_success")
def _():
    succeeded, budget = [200, 300, 400], 1000
    assert mean(succeeded) == 300 and mean(succeeded[:2]) == 250
    for late in (budget, 5000, math.inf):
        assert median([*succeeded, late, late]) == 400
    least = mean([*succeeded, budget, budget])
    spent = [40 * per_iteration for per_iteration in (10, 10 + 1, 2 * 10)]
    return {
        "a": [mean(succeeded), mean(succeeded[:2])],
        "b": [40, 10, spent],
        "c": [median([*succeeded, budget, budget]), budget],
        "d": [least, succeeded, 2, budget, 5],
    }


# --- predictions


def test_the_predictions_and_what_they_come_to():
    assert list(PREDICTIONS) == ["forward_price", "cosine", "ess", "tuned"]
    found = {"forward_price": price(10_000, 0.05), "cosine": 60 / 1059, "ess": 100 / mean_square(2.0)}
    assert found["forward_price"] == pytest.approx(7.24, abs=0.005)
    assert found["cosine"] == pytest.approx(0.0567, abs=5e-5)
    assert found["ess"] == pytest.approx(100 * math.exp(-4), rel=1e-9) == pytest.approx(1.83, abs=0.005)
    u = torch.randn(100, 1000, 60, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert agrees(squared_cosines(u), found["cosine"])
    for name, result in found.items():
        asked = PREDICTIONS[name]
        assert allowed(asked, result) == result
        assert not any(value == pytest.approx(result, rel=0.05) for _, value, _ in numbers(asked.text))


def test_the_outcome_of_the_race_is_left_to_the_record():
    asked = PREDICTIONS["tuned"]
    assert asked.ranges is None and len(asked.answer) == 6
    for choice in asked.answer:
        assert in_words(asked, choice)[1] == choice
    # It names what is raced, as the record does, and as many step sizes.
    assert asked.answer[:5] == training.METHODS and "eleven step sizes" in asked.text and len(training.MULTIPLES) == 11
    race = CHAPTER["fair_race"].text
    assert all(name in race for name in training.METHODS)
    assert "ten values" in race and training.LANDSCAPE["num_queries"] == 10 and training.LANDSCAPE["history"] == 6


@pytest.mark.parametrize("name", PREDICTIONS)
def test_predictions_are_plain_text(name):
    for text in (PREDICTIONS[name].text, PREDICTIONS[name].unit):
        assert "$" not in text and "\\" not in text and "  " not in text


# --- the teaching room


def test_every_equation_has_its_name_and_every_symbol_can_be_drawn():
    assert len(CLAIMS) == 28
    sheets.check_names(CLAIMS, teaching.NAMES)
    assert len(set(teaching.NAMES.values())) == 28
    for tex, words in teaching.SYMBOLS:
        assert "<math" in sheets.mathml(tex, displayed=False) and words.strip()


def test_polls_are_questions_of_their_section():
    polls = {moment.section: moment.poll for moment in teaching.GUIDE.moments if moment.poll}
    for section, poll in polls.items():
        assert registry()[poll].kind == "quiz" and registry()[poll].section == section
    assert len(set(polls.values())) == len(polls) >= 8


def test_equations_named_in_the_guide_are_claims():
    known = {found.equation for found in CLAIMS.values()}
    texts = [*teaching.GUIDE.before, teaching.GUIDE.keep, *(cut.what for cut in teaching.GUIDE.cuts)]
    texts += [" ".join((m.show, m.misconception, m.remedy)) for m in teaching.GUIDE.moments]
    named = re.findall(r"\((4\.\d+)\)", " ".join(texts))
    assert set(named) <= known and len(set(named)) >= 12


def test_the_numbers_of_the_guide():
    far, near = of_ten_values(1000), of_ten_values(1)
    steps = [1 / math.sqrt(1 + s**2) for s in (10, 3)]
    said = {m.section: " ".join((m.show, m.misconception, m.remedy)) for m in teaching.GUIDE.moments}
    for section, written in (
        ("1", f"averages {3 * 1**2 + 3 * 0.5**2:g} (4.1)"),
        ("3", f"pairs scatter {far[2] / far[1]:.2f} times as much as RLOO"),
        ("3", f"near the minimum {near[2] / near[1]:.2f} times as much"),
        ("5", f"costs {100 * (1 - 3 / math.pi):.1f} per cent of the samples"),
        ("6", f"of 100 queries {100 / mean_square(2.0):.1f} are left"),
        ("6", f"can be {0.001 * math.sqrt(10_000):g} long in 10,000 dimensions, which is {0.1 / 0.05:g}σ"),
        ("9", f"falls from {price(10_000, 0.05):.2f} to {price(1000, 0.05):.2f} (4.16)"),
        ("10", f"{steps[0]:.4f} and {steps[1]:.3f}. So the calmer method runs {steps[1] / steps[0]:.1f} times as fast"),
        ("11", f"compute {mean([200, 300, 400])}, then let the third fail too and compute again: {mean([200, 300])}."),
    ):
        assert written in said[section], written
