"""Chapter 3's questions: their form, and every number in an explanation worked out again."""

import math
import re
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

import pocourse.surrogate_variance.quiz  # noqa: F401  registers the questions of chapter 3
from pocourse.lesson import claims
from pocourse.lesson.questions import allowed, predictions, registry
from pocourse.ratio_clipping.objectives import clip_objective, spo_objective
from pocourse.surrogate_variance import bounds, training, truth
from pocourse.surrogate_variance.claims import instances
from pocourse.surrogate_variance.estimators import kept_mean, sign_dropout_mask

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "notebooks" / "text" / "03_surrogate_variance.md"
CHAPTER = {q.id.split(".")[1]: q for q in registry().values() if q.chapter == "surrogate_variance"}
ENTRY = [q for q in CHAPTER.values() if q.kind == "entry"]
MAIN = [q for q in CHAPTER.values() if q.kind == "quiz"]
PREDICTIONS = {id: asked for id, asked in predictions().items() if id.startswith("surrogate_variance.")}
every_question = pytest.mark.parametrize("asked", CHAPTER.values(), ids=CHAPTER)


def values(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


# --- form


def test_there_are_enough_questions_for_every_section():
    assert len(ENTRY) == 5 and 10 <= len(MAIN) <= 12
    assert sum(isinstance(q.read_up, tuple) for q in ENTRY) == 4
    assert list(dict.fromkeys(q.section for q in MAIN)) == ["1", "2", "3", "4", "5", "6", "7", "Four neighbours"]
    rights = Counter(sum(choice.right for choice in q.choices) for q in CHAPTER.values())
    assert rights[1] >= 3 and rights[2] >= 3


def test_the_notebook_to_read_up_is_one_of_the_course():
    (place,) = [q.read_up for q in ENTRY if isinstance(q.read_up, str)]
    name, section = re.search(r"`(\w+\.ipynb)`, section (\d)", place).groups()
    text = (ROOT / "notebooks" / "text" / name).with_suffix(".md").read_text(encoding="utf-8")
    assert re.search(rf"^## {section} PPO: the clip, in six cases", text, re.MULTILINE)


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
    assert 0.1 <= np.mean(longest) <= 0.3
    lengths = {
        right: [len(c.text) for q in CHAPTER.values() for c in q.choices if c.right is right] for right in (True, False)
    }
    assert 0.8 < np.mean(lengths[True]) / np.mean(lengths[False]) < 1.2


@every_question
def test_equations_named_are_claims_and_every_question_on_the_chapter_names_one(asked):
    known = {found.equation for found in claims.registry().values() if found.chapter == "surrogate_variance"}
    named = set(re.findall(r"\((\d\.\d+)\)", " ".join([asked.text, *(c.why for c in asked.choices)])))
    assert named <= known
    assert named or asked.kind == "entry"


def test_every_section_named_is_one_of_the_notebook():
    headings = re.findall(
        r"^## (?:Further: )?(\d+(?= )|.+(?= · \d+ min))", NOTEBOOK.read_text(encoding="utf-8"), re.MULTILINE
    )
    named = [each.section for each in [*CHAPTER.values(), *PREDICTIONS.values()]]
    assert {section.lower() for section in named} <= {heading.lower() for heading in headings}
    # Asked in the order in which the notebook teaches.
    places = [[heading.lower() for heading in headings].index(q.section.lower()) for q in MAIN]
    assert places == sorted(places)


# --- every number in an explanation, worked out again

# A number: digits with a fraction or decimals, or a vulgar fraction. What looks like (3.4) is an equation.
NUMBER = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?(?:/\d+(?:\.\d+)?)?|[½¼¾])")
VULGAR = {"½": "1/2", "¼": "1/4", "¾": "3/4"}
WORKED = {}


def numbers(text):
    """The numbers in a text without their signs, as they are written, with value and precision."""
    for written in NUMBER.findall(re.sub(r"\(3\.\d+\)|notebook 02|section \d|chapter \d|[²¹]", " ", text)):
        above, _, below = VULGAR.get(written, written).partition("/")
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
    """The numbers of an explanation that are neither given in the question or the choice nor recomputed."""
    choice = asked.lettered[letter]
    given = {value for _, value, _ in numbers(asked.text)}
    stated = [(written, value, within) for written, value, within in numbers(f"{choice.why} {choice.text}")]
    known = [*given, *flat(recomputed)]
    return [written for written, value, within in stated if not any(abs(value - x) <= within for x in known)]


@pytest.mark.parametrize("name", CHAPTER)
def test_every_number_in_an_explanation_is_worked_out(name):
    asked, found = CHAPTER[name], WORKED[name]()
    assert set(found) <= set(asked.lettered)
    for letter in asked.lettered:
        assert not unexplained(asked, letter, found.get(letter, ())), letter


def test_a_number_that_was_not_worked_out_is_found():
    asked = CHAPTER["entry_variance"]
    found = WORKED["entry_variance"]()
    assert unexplained(asked, "c", found["b"]) == ["11", "11", "11", "15", "12", "147", "144", "10", "13"]
    assert unexplained(asked, "d", [3, 4, 11.9]) == ["12", "12"]
    assert [value for _, value, _ in numbers("½ of 10/11 by (3.4), −0.25 and 1.000")] == [0.5, 10 / 11, 0.25, 1]
    assert not unexplained(CHAPTER["samples_left"], "c", [25 / 16.25, 1.5, 4, 5])
    assert ["25/16.25", "1.54"] == unexplained(CHAPTER["samples_left"], "c", [25 / 16.25 + 0.01, 1.5, 4, 5])


def moments(x, prob=None):
    """Mean, mean square and variance."""
    prob = torch.full_like(x, 1 / len(x)) if prob is None else prob
    return (prob * x).sum(), (prob * x**2).sum(), instances.variance(prob, x)


@worked("entry_variance")
def _():
    x = values(1, 1, 1, 5)
    mean, square, variance = moments(x)
    assert (mean, square, variance) == (2, 7, 3) and square - mean**2 == 3
    shifted, doubled = moments(x + 10), moments(2 * x)
    assert shifted[2] == 3 and doubled[2] == 12
    wrong = variance + 10  # what the third choice says
    return {
        "a": [square, (x**2).sum(), mean, mean**2],
        "b": [square, mean**2, variance, (x - mean) ** 2],
        "c": [x + 10, shifted[0], shifted[1], shifted[0] ** 2, shifted[2], 10, wrong],
        "d": [doubled[2] / variance, variance, doubled[2]],
    }


@worked("entry_mean_ratio")
def _():
    old, new = values(0.5, 0.25, 0.25), values(0.25, 0.25, 0.5)
    r = new / old
    assert r.tolist() == [0.5, 1, 2] and (old * r).sum() == 1
    cut = values(0.5, 0.5)
    missing = (cut * (new[:2] / cut)).sum()
    assert missing == 0.5
    return {
        "a": [old, r, (old * r).sum()],
        "b": [new, r, (new * r).sum(), 1],
        "c": [r, r.sum() / 3, 3],
        "d": [values(r[2], r[2]).mean(), (old * r).sum()],
        "e": [cut, new[:2] / cut, missing, 0, 1],
    }


@worked("entry_standard_error")
def _():
    def error(n):
        return 4 / math.sqrt(n)

    assert error(16) == 1 and error(256) == error(16) / 4 and error(64) == error(16) / 2
    return {
        "a": [4, 16, error(16), 4 / 16],
        "b": [64 / 16, error(64), 64, 256 / 16, 256],
        "c": [4**2, 16, error(16) ** 2, 4**2 / 16],
    }


@worked("entry_baseline")
def _():
    prob, reward, score = values(0.5, 0.5), values(10, 12), values(0.5, -0.5)

    def sample(b):
        return score * (reward - b)

    means = [(prob * sample(b)).sum() for b in (0, 11, -11, 3.7)]
    assert all(float(mean) == pytest.approx(-0.5) for mean in means)
    assert (prob * score).sum() == 0
    plain, best, bad = (moments(sample(b), prob)[2] for b in (0, 11, -11))
    # The trace over both logits is twice the variance in one of them.
    for b, one in ((0.0, plain), (11.0, best), (-11.0, bad)):
        both = bounds.baseline_variance(prob, reward, values(b)[0])
        assert float(both) == pytest.approx(2 * float(one))
    assert best == 0 and bad == 4 * plain
    own = score * (reward - reward)
    return {
        "a": [prob, score, means[0]],
        "b": [11, sample(0), sample(11), means[0]],
        "c": [11, sample(11), sample(0), (sample(0)[0] - sample(0)[1]) / 2, plain],
        "d": [11, sample(-11), (sample(-11)[0] - sample(-11)[1]) / 2, bad, bad / plain],
        "e": [own],
    }


@worked("entry_clip")
def _():
    r = values(1.5, 1.5).requires_grad_()
    value = clip_objective(r, values(1, -1), clip_eps=0.2)
    (slope,) = torch.autograd.grad(value.sum(), r)
    value = value.detach()
    assert value.tolist() == [1.2, -1.5] and slope.tolist() == [0, -1]
    clipped = clip_objective(values(1.5), values(1), clip_eps=0.2)
    assert clipped > 0  # it counts, as a constant
    keep = torch.tensor([True] * 7 + [False] * 3)
    weight = torch.autograd.grad(kept_mean(x := values(*[1] * 10).requires_grad_(), keep), x)[0]
    assert weight[-1] == 0
    return {
        "a": [0.8, 1.2, 1],
        "b": [1, 1.5, value[0], slope[0]],
        "c": [1, 1.5, -1.2, value[1], slope[1], 0],
        "d": [1 / len(keep), weight[0], 0],
    }


@worked("samples_left")
def _():
    r = values(0.25, 0.25, 0.25, 0.25, 4)
    evenly = torch.full_like(r, 1 / 5)
    size = 5 * bounds.effective_sample_size(evenly, r)
    assert float(size) == pytest.approx(25 / 16.25)
    assert float(5 * bounds.effective_sample_size(evenly, 2 * r)) == pytest.approx(float(size))
    spread = moments(r)[2]
    assert r.mean() == 1 and 1 - spread < 0
    advantage = values(4, 4, 4, 4, 0)
    assert moments(r * advantage)[2] < moments(advantage)[2]
    return {
        "a": [5, r.mean(), (r**2).sum()],
        "b": [1, spread, 0, 1 / (1 + spread)],
        "c": [r.sum() ** 2, (r**2).sum(), size, 1.5, 4, 5],
        "d": [(2 * r).sum() ** 2, ((2 * r) ** 2).sum(), (2 * r).sum() ** 2 / ((2 * r) ** 2).sum(), 4],
        "e": [1.5, advantage, r, r * advantage, moments(r * advantage)[2], moments(advantage)[2]],
    }


@worked("same_deviation")
def _():
    first, second, rarer = (
        (values(*old), values(*new))
        for old, new in (
            ((0.5, 0.5), (0.6, 0.4)),
            ((0.01, 0.99), (0.11, 0.89)),
            ((0.001, 0.999), (0.101, 0.899)),
        )
    )
    for old, new in (first, second, rarer):
        assert float((new - old).abs().sum()) == pytest.approx(0.2)
    chi = [bounds.chi_square(old, new / old) for old, new in (first, second, rarer)]
    ess = [100 * bounds.effective_sample_size(old, new / old) for old, new in (first, second)]
    assert float(chi[0]) == pytest.approx(0.2**2)
    return {
        "a": [1, (first[1] - first[0]).abs().sum() / 2, (second[1] / second[0])[0], chi[:2]],
        "b": [0.1, 0.5, 0.2, chi[0]],
        "c": [0.001, 0.01, 0.1, 0.999, chi[2]],
        "d": [100, 1, chi[:2], ess, [round(float(x)) for x in ess]],
    }


@worked("one_convention")
def _():
    prob, x = values(0.1, 0.1, 0.8), values(2, 0, -0.25)
    one = torch.ones_like(x)
    found = bounds.sign_class(prob, one, x, x >= 0)
    assert float(found.variance) == pytest.approx(1) and float(found.bound) == pytest.approx(1)
    mixed = (1 / prob.min() - 1) * (prob * x * (x >= 0)).sum() ** 2
    assert mixed < found.variance
    mean, _, variance = moments(x, prob)
    assert abs(float(mean)) < 1e-15
    masked = x * (x >= 0)
    bound, spread = bounds.variance_bound(prob, one, masked), bounds.surrogate_variance(prob, one, masked)
    assert float(bound) == pytest.approx(float(spread))
    with pytest.raises(ValueError, match="sign"):
        bounds.variance_bound(prob, one, x)
    parts = prob * masked
    return {
        "a": [found.mean, found.least, found.variance, found.bound, 1 / found.least, 1],
        "b": [0.1, 2, parts.sum(), 1 / prob.min(), 1, parts.sum() ** 2, mixed, found.variance],
        "c": [0, parts.sum(), 0.1, masked[0] ** 2, 0.8, x[2] ** 2, variance],
        "d": [masked, parts.sum(), (prob * masked**2).sum(), parts.sum() ** 2, spread, 1 / prob.min(), 1, bound],
    }


@worked("row_sums")
def _():
    def rows(x):
        return (x.unsqueeze(-1) * x).sum(-1)

    x = values(3, 1, -2, -6)
    row, joined, alone = rows(x), rows(values(3, 1, -2, -6, 10)), rows(x[2:])
    assert row.argmin() == 0 and row.argmax() == 3 and joined.argmin() == 3 and alone.argmin() == 0
    others = x[3] * x[:3]
    return {
        "a": [3, x.sum(), row],
        "b": [6, others, others.sum(), x[3] ** 2, row[3]],
        "c": [1, 3, row],
        "d": [6, 2, x[2:].sum(), alone],
        "e": [6, 10, x.sum() + 10, joined],
    }


@worked("which_way")
def _():
    x = values(1, 2, 3, 4, 5, -1, -2, -3, -4, -5)
    keep = sign_dropout_mask(torch.ones_like(x), x, drop_fraction=0.2)
    assert x[~keep].tolist() == [1, -5] and x.mean() == 0
    after = kept_mean(x, keep)
    joint = instances.covariance(torch.full_like(x, 0.1), x, keep.double())
    share = keep.double().mean()
    assert float(joint / share) == pytest.approx(float(after)) == 0.5
    classes = [(x[m].mean(), x[m & keep].mean()) for m in (x > 0, x < 0)]
    assert all(late - early == after for early, late in classes)
    half = [x[m & keep].sum() for m in (x > 0, x < 0)]
    return {
        "a": [0, x[~keep], 1, half, x[keep].sum()],
        "b": [joint, share, joint / share],
        "c": [after, list(classes), x[keep].sum(), keep.sum()],
        "d": [10, 8, x[keep].sum(), x[keep].sum() / 10, 0, x[~keep].sum()],
    }


@worked("more_variance")
def _():
    asked, found = CHAPTER["more_variance"], {}
    classes = {
        "a": values(1, 1, 1, 1, 10),
        "b": values(1, 2, 3, 4, 5),
        "c": values(1, 8, 8, 8, 8),
        "d": values(10, *[1] * 9),
        "e": values(-10, *[-1] * 9),
    }
    for letter, x in classes.items():
        keep = sign_dropout_mask(torch.ones_like(x), x, drop_fraction=0.2)
        before, after = moments(x)[2], moments(x[keep])[2]
        assert (after > before + 1e-12) == asked.lettered[letter].right
        found[letter] = [0, x, before, after, x.mean(), x[keep].mean()]
    for letter in "abc":
        written = [value for _, value, _ in numbers(asked.lettered[letter].text)][1:]
        assert written == classes[letter].abs().tolist()
    gap = (10 - 1) ** 2
    assert [float(x) for x in found["d"][2:4]] == pytest.approx([gap * 1 / 10 * 9 / 10, gap * 1 / 8 * 7 / 8])
    found["d"] += [gap, 1 / 10, 9 / 10, 1 / 8, 7 / 8]
    return found


@worked("what_a_fit_costs")
def _():
    bandit = truth.five_actions()
    old, advantage = bandit
    r = truth.moved(bandit, truth.step_for(bandit, 0.3))
    best = bounds.control_coefficient(old, r, advantage)

    def controlled(c):
        return moments(r * advantage - c * (r - 1), old)

    mean, _, plain = controlled(0)
    for c in (1.0, 5.0, -3.0, best):
        assert float(controlled(c)[0]) == pytest.approx(float(mean))
    assert float(controlled(2 * best)[2]) == pytest.approx(float(plain)) and controlled(2.5 * best)[2] > plain
    assert controlled(best)[2] < controlled(1.0)[2] < plain
    joint, spread = instances.covariance(old, r * advantage, r), bounds.chi_square(old, r)
    assert float(controlled(1.7)[2]) == pytest.approx(float(plain - 2 * 1.7 * joint + 1.7**2 * spread))
    fitted, unfitted = (truth.judge(truth.ESTIMATORS[name], bandit, r) for name in ("control variate", "plain"))
    assert abs(unfitted.bias) < 1e-12 and truth.NUM_SAMPLES == 16
    return {
        "a": [1, best, truth.deviation(bandit, r)],
        "b": [1, 0, 5, 3],
        "c": [0, 2],
        "d": [16, 1, truth.deviation(bandit, r), fitted.bias, math.sqrt(fitted.variance), math.sqrt(unfitted.variance)],
    }


@worked("minus_one")
def _():
    r, advantage = values(1.5, 1.5), values(2, 2)
    old, ratio, balanced = values(0.25, 0.5, 0.25), values(0, 2, 0), values(2, 0, -2)
    assert (old * ratio).sum() == 1 and (old * balanced).sum() == 0
    x, centred = ratio * balanced, (ratio - 1) * balanced
    assert moments(x, old)[0] == moments(centred, old)[0] and moments(x, old)[2] == 0
    assert not 2 * instances.covariance(old, x, balanced) > moments(balanced, old)[2]
    still = torch.ones_like(ratio)
    assert moments((still - 1) * balanced, old)[2] == 0 and moments(still * balanced, old)[2] > 0
    own = values(2, -1, 0.5) - 0.5
    other = values(0.4, 1.3, 1.1)
    assert float(((other - 1) * own).mean()) == pytest.approx(float((other * own).mean()))
    return {
        "a": [0, 1],
        "b": [advantage, r, (r * advantage).mean(), ((r - 1) * advantage).mean()],
        "c": [1, (still - 1) * balanced],
        "d": [old, ratio, balanced, x, centred, 1, moments(centred, old)[2]],
    }


@worked("price_of_variance")
def _():
    def penalty(old, ratio, advantage):
        return (old * (ratio * advantage - spo_objective(ratio, advantage, eps=0.2))).sum()

    old, far = values(0.5, 0.25, 0.25), math.sqrt(0.2)
    ratio = values(1, 1 + far, 1 - far)
    spread = bounds.chi_square(old, ratio)
    assert float((old * ratio).sum()) == pytest.approx(1) and float(spread) == pytest.approx(0.1)
    paid = penalty(old, ratio, values(2, -2, 2))
    assert float(paid) == pytest.approx(0.5)
    uneven = [penalty(old, ratio, values(*a)) for a in ((3, 1, -1), (-1, 3, 3))]
    for sizes in (values(3, 1, 1), values(1, 3, 3)):
        assert float((old * sizes).sum()) == 2
    single = penalty(values(1), values(1.1), values(2))
    share = bounds.effective_sample_size(old, ratio)
    return {
        "a": [0, 1, 0.1, 0.1**2, 2 / (2 * 0.2), single],
        "b": [1, 2 / 0.2, 0.1, 2 / 0.2 * spread, 2],
        "c": [paid, share, 2 / (2 * 0.2), 2, 1, 1 / share - 1],
        "d": [paid, 2, 1, old, (ratio - 1) ** 2, spread, (3, 1, 1), (1, 3, 3), uneven],
    }


@worked("another_disease")
def _():
    old, drawn = values(0.5, 0.5), values(0.7, 0.3)
    error = (drawn * (drawn / old).log()).sum()
    ten, twenty = (bounds.expected_sampling_error(old, num_samples=n) for n in (10, 20))
    assert 10 * bounds.effective_sample_size(old, torch.ones_like(old)) == 10
    more = values(7, 3 + 4)
    assert (more / more.sum()).tolist() == old.tolist()
    assert float(ten / twenty) == pytest.approx(2, abs=0.1)
    return {
        "a": [10, 1, drawn, drawn / old, error],
        "b": [1, error],
        "c": [more, more.sum(), 0, 1],
        "d": [1, 2, 20, (2 - 1) / (2 * 10), ten, twenty],
    }


@worked("greedy_baseline_hurts")
def _():
    reward = values(1, 0.2)

    def spread(p, b):
        return bounds.baseline_variance(values(p, 1 - p), reward, values(b)[0])

    change = {p: spread(p, 1) - spread(p, 0) for p in (0.6, 0.625, 0.9)}
    assert change[0.6] < 0 < change[0.9] and abs(float(change[0.625])) < 1e-15
    for p, found in change.items():
        assert float(found) == pytest.approx(2 * p * (1 - p) * (1.6 * p - 1), abs=1e-15)
    best = 0.1 * 1 + 0.9 * 0.2
    assert abs(float(spread(0.9, best))) < 1e-15 and abs(0 - best) < abs(1 - best)
    mean = 0.9 * 1 + 0.1 * 0.2
    lengths = values(0.1, 0.1).norm(), values(0.9, 0.9).norm()  # of e_1 - pi and of e_2 - pi
    return {
        "a": [0.6, 0.9, 2, 1, 2 * (1 - 0.2), change[0.6], change[0.9], 1 / 1.6],
        "b": [0.9, spread(0.9, 0), spread(0.9, 1)],
        "c": [0.9, 1, 0.2, best, 0],
        "d": [mean, 0.9, spread(0.9, mean), spread(0.9, 0), lengths[1] / lengths[0], 0.1, best],
    }


@worked("one_by_construction")
def _():
    def normal(a):
        return (a - a.mean()) / a.std(correction=0)

    a = values(1, 1, 1, 1, 10)
    outlier = normal(a)
    assert float(moments(outlier)[2]) == pytest.approx(1)
    pair = values(1, -1)
    even, uneven = (moments(values(*r) * pair)[2] for r in ((1.2, 0.8), (1.2, 1.2)))
    signs = values(1, 1, -1, -1)
    assert moments(signs)[2] == 1 and moments(signs[:2])[2] == moments(signs[2:])[2] == 0
    return {
        "a": [a, 1, a.mean(), a.std(correction=0), outlier],
        "b": [1],
        "c": [1, pair, 1.2, 0.8, even, uneven],
        "d": [1, 0],
    }


# --- predictions


def test_the_predictions_and_what_they_come_to():
    assert [id.split(".")[1] for id in PREDICTIONS] == ["ess", "masked", "controlled", "moved"]
    bandit = truth.five_actions()
    near, far = (truth.moved(bandit, truth.step_for(bandit, wanted)) for wanted in (0.3, 0.6))
    worth = 100 * float(bounds.effective_sample_size(bandit.prob_old, far))
    plain, masked, controlled = (
        truth.judge(truth.ESTIMATORS[name], bandit, near).mse for name in ("plain", "D-PPO mask", "control variate")
    )
    assert worth == pytest.approx(58, abs=0.5)
    assert masked / plain == pytest.approx(1.47, abs=0.005)
    assert controlled / plain == pytest.approx(0.05, abs=0.002)
    for id, result in (("ess", worth), ("masked", masked / plain), ("controlled", controlled / plain), ("moved", 1.1)):
        asked = PREDICTIONS[f"surrogate_variance.{id}"]
        assert allowed(asked, result) == result
        assert not any(value == pytest.approx(result, rel=0.05) for _, value, _ in numbers(asked.text))
        for text in (asked.text, asked.unit):
            assert "$" not in text and "\\" not in text and "  " not in text


def test_the_predictions_speak_of_what_is_measured():
    """Sizes named in the texts are those of the chapter."""
    masked, moved = (PREDICTIONS[f"surrogate_variance.{id}"].text for id in ("masked", "moved"))
    assert f"{truth.NUM_SAMPLES} samples" in masked and Fraction(truth.DROP_FRACTION).limit_denominator(9) == Fraction(
        1, 5
    )
    assert "lowest fifth" in masked and "five actions" in PREDICTIONS["surrogate_variance.ess"].text
    assert len(truth.PROB_OLD) == 5
    assert training.configuration("cartpole", "cpu")["num_epochs"] == 10 and "ten epochs" in moved
    assert {"variance_positive", "still_positive"} <= set(training.PROBED)
