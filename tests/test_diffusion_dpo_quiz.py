"""Chapter 5's questions: their form, and every number in an explanation worked out again; and its teaching room."""

import math
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Normal, kl_divergence

import pocourse.diffusion_dpo.claims
import pocourse.diffusion_dpo.museum
import pocourse.diffusion_dpo.quiz  # noqa: F401  registers the questions of chapter 5
from pocourse.diffusion_dpo import denoising, objectives, optima, teaching, truth
from pocourse.diffusion_dpo.claims import diffusion, direct, instances
from pocourse.diffusion_dpo.museum import beta_twice, reference_that_learns, sigmoid_of_the_mean
from pocourse.lesson import claims, sheets
from pocourse.lesson.questions import allowed, in_words, predictions, registry

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "notebooks" / "text" / "05_diffusion_dpo.md"
CHAPTER = {q.id.split(".")[1]: q for q in registry().values() if q.chapter == "diffusion_dpo"}
ENTRY = [q for q in CHAPTER.values() if q.kind == "entry"]
MAIN = [q for q in CHAPTER.values() if q.kind == "quiz"]
PREDICTIONS = {id.split(".")[1]: asked for id, asked in predictions().items() if id.startswith("diffusion_dpo.")}
CLAIMS = {id: found for id, found in claims.registry().items() if found.chapter == "diffusion_dpo"}
every_question = pytest.mark.parametrize("asked", CHAPTER.values(), ids=CHAPTER)


def values(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


# --- form


def test_there_are_enough_questions_for_every_section():
    assert len(ENTRY) == 5 and len(MAIN) == 13
    assert all(isinstance(q.read_up, tuple) for q in ENTRY)
    assert list(dict.fromkeys(q.section for q in MAIN)) == ["1", "2", "3", "4", "5", "6", "7", "8", "10"]
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

# A number: digits with commas, a fraction or decimals, or a vulgar fraction. What looks like (5.4) is an equation.
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
    asked = CHAPTER["one_step_back"]
    assert unexplained(asked, "e", [1.5, 0.96]) == ["0.01", "0.01"]
    assert unexplained(asked, "e", [1.5, 0.9651, 0.01]) == ["0.96"] and not unexplained(asked, "e", [1.5, 0.964, -0.01])
    read = "½ of 10/11 by (3.4), see section 12, −0.25, 16,384 and e^1000; (1, 7)"
    assert [value for _, value, _ in numbers(read)] == [0.5, 10 / 11, 0.25, 16_384, 1000, 1, 7]


def sigmoid(z):
    return float(torch.sigmoid(values(z)))


def loss(z):
    """-log sigmoid(z), through the chapter's own loss."""
    return float(objectives.bradley_terry_loss(values(z), values(0.0)))


@worked("entry_bayes")
def _():
    x, prior, high = values(0, 4), values(0.75, 0.25), values(1 / 3, 1)
    joint = prior * high
    after = joint / joint.sum()
    low = prior * (1 - high)
    guesses = [float((share * x).sum() / share.sum()) for share in (joint, low)]
    total = float(joint.sum() * guesses[0] + low.sum() * guesses[1])

    def error(share, guess):
        return float((share * (x - guess) ** 2).sum())

    assert after.tolist() == pytest.approx([0.5, 0.5]) and guesses == pytest.approx([2, 0])
    assert total == pytest.approx(float((prior * x).sum())) == pytest.approx(1)
    assert error(after, 2) < min(error(after, guess) for guess in (0, 1.9, 2.1, 4))
    assert error(prior, 1) < min(error(prior, guess) for guess in (0, 0.9, 1.1, 4))
    return {
        "a": [x, prior, high, joint],
        "b": [after, joint.sum(), joint],
        "c": [after, x, guesses, error(after, 2), error(after, 4), (x - 4) ** 2],
        "d": [guesses, x, after, joint.sum(), total, prior],
        "e": [prior, x, total, (x - 1) ** 2, error(prior, 1), error(prior, 0), x**2],
    }


@worked("entry_kl")
def _():
    p, q = (Categorical(values(*probs)) for probs in ((0.5, 0.5), (0.75, 0.25)))
    there, back = (float(kl_divergence(*pair)) for pair in ((p, q), (q, p)))
    assert there != pytest.approx(back) and there > 0
    p3, q3 = (Categorical(values(*probs)) for probs in ((0.495, 0.495, 0.01), (0.75, 0.25, 0)))
    assert kl_divergence(p3, q3) == math.inf > kl_divergence(q3, p3)
    wide = [Normal(values(mean), values(2.0)) for mean in (3.0, 1.0)]
    apart = float(kl_divergence(*wide))
    assert apart == pytest.approx(0.5) == pytest.approx(float(kl_divergence(*wide[::-1])))
    both = [Categorical((each.probs[:, None] * each.probs).flatten()) for each in (p, q)]
    twice = float(kl_divergence(*both))
    assert twice == pytest.approx(2 * there)
    ratio = p.probs / q.probs
    return {
        "a": [0, 0.25, p.probs, ratio, there],
        "b": [there, q.probs, 1 / ratio, back],
        "c": [p3.probs, q3.probs],
        "d": [3, 4, 1, apart, (3 - 1) ** 2, 2 * 4, (3 - 1) ** 2 / (2 * 4)],
        "e": [twice],
    }


@worked("entry_gaussians")
def _():
    variances = values(4, 1)
    precision = 1 / variances
    mean, left = float((precision * values(0, 5)).sum() / precision.sum()), float(1 / precision.sum())
    # By Bayes' rule on a grid.
    x = torch.linspace(-30, 30, 60_001, dtype=torch.float64)
    share = (Normal(0.0, 2.0).log_prob(x) + Normal(x, 1.0).log_prob(values(5.0))).softmax(0)
    found = float((share * x).sum())
    assert found == pytest.approx(mean) == pytest.approx(4)
    assert float((share * (x - found) ** 2).sum()) == pytest.approx(left) == pytest.approx(0.8)
    return {
        "a": [mean, precision, 0, 5, precision.sum()],
        "b": [5 / 2, 0],
        "c": [variances.mean(), precision, left],
        "d": [variances.sum(), variances],
        "e": [2, 4 / 2**2, 4 / 4, 0.5, math.sqrt(0.5)],
    }


@worked("entry_softmax")
def _():
    logits = values(0, 0, math.log(2))
    p, twice, alone = logits.softmax(0), (2 * logits).softmax(0), logits[[0, 2]].softmax(0)
    assert torch.allclose((logits + 100).softmax(0), p) and twice.max() > p.max()
    assert float(alone[1]) == pytest.approx(sigmoid(math.log(2))) == pytest.approx(2 / 3)
    weights = logits.exp()
    assert torch.log_softmax(logits, 0)[2] == pytest.approx(math.log(2) - math.log(4)) == pytest.approx(math.log(0.5))
    return {
        "a": [100],
        "b": [2 / 3, weights, weights.sum(), 2 / 4, p],
        "c": [weights.sum(), torch.log_softmax(logits, 0), 0.693, math.log(4), p],
        "d": [weights**2, (weights**2).sum(), p, twice],
        "e": [-1000, 1, loss(-1000.0), 0],
    }


@worked("entry_convex")
def _():
    z = values(1, 5)
    mean_of_f, f_of_mean = float((z**2).mean()), float(z.mean() ** 2)
    assert mean_of_f - f_of_mean == float(z.var(correction=0)) == 4 and -mean_of_f < -f_of_mean
    slope = 2 * 5
    after = 5 - 0.1 * slope
    assert after == 4
    return {
        "a": [z**2, 2, mean_of_f, z.mean(), f_of_mean, mean_of_f - f_of_mean],
        "b": [mean_of_f, f_of_mean],
        "c": [mean_of_f, f_of_mean],
        "d": [mean_of_f, f_of_mean],
        "e": [0.1, 5, after, 2, slope, 25, after**2],
    }


@worked("same_comparisons")
def _():
    reward = values(0, 1, 3)

    def wins(r, first, second):
        return math.exp(-float(objectives.bradley_terry_loss(r[first], r[second])))

    c_a, b_a, c_b = (wins(reward, *pair) for pair in ((2, 0), (1, 0), (2, 1)))
    assert c_b / (1 - c_b) == pytest.approx(math.exp(2))
    for pair in ((2, 0), (1, 0), (2, 1)):
        assert wins(reward + 10, *pair) == pytest.approx(wins(reward, *pair))
        assert wins(2 * reward, *pair) > wins(reward, *pair)
    return {
        "a": [3, c_a, 1, b_a, c_a / b_a],
        "b": [math.exp(2), 1, 2, c_b],
        "c": [4, wins(2 * reward, 2, 1)],
        "e": [10, reward[1] - reward[0], reward[2] - reward[1], reward[2] - reward[0]],
    }


@worked("best_reachable")
def _():
    p = 0.75
    difference = math.log(p / (1 - p))

    def expected(z):
        return p * loss(z) + (1 - p) * loss(-z)

    floor, ceiling = (float(f(values(difference))) for f in (optima.loss_floor, optima.accuracy_ceiling))
    assert ceiling == pytest.approx(p) and expected(difference) == pytest.approx(floor)
    assert min(expected(difference + d) for d in (-0.1, 0.1, 5)) > floor > 0.5
    agree = p**2 + (1 - p) ** 2
    return {
        "a": [0, ceiling, floor, 2, math.log(2)],
        "b": [agree, p, 1 - p, ceiling],
        "c": [p, floor, 10 * difference, 3, difference, expected(10 * difference)],
        "d": [0.5, floor],
    }


@worked("tilted")
def _():
    reference, reward = values(0.8, 0.2), values(0, math.log(4))

    def best(beta):
        return objectives.gibbs_policy(reference.log(), reward, beta=beta)

    def worth(policy):
        return float(optima.regularised_reward(policy, reference.log(), reward, beta=1.0))

    value = float(optima.gibbs_value(reference.log(), reward, beta=1.0))
    nats = float(kl_divergence(Categorical(best(1.0)), Categorical(reference)))
    mean = float((best(1.0) * reward).sum())
    at_home = worth(reference)
    lost = value - at_home
    assert worth(best(1.0)) == pytest.approx(value) == pytest.approx(mean - nats) == pytest.approx(math.log(1.6))
    assert lost == pytest.approx(float(kl_divergence(Categorical(reference), Categorical(best(1.0)))))
    weights = {beta: (reward / beta).exp() for beta in (1.0, 0.5, 2.0)}
    return {
        "a": [reward.softmax(0), weights[1.0], weights[1.0].sum(), best(1.0)],
        "b": [mean, nats, value, weights[1.0], reference, (reference * weights[1.0]).sum()],
        "c": [0.5, best(0.5), weights[0.5], reference, reference * weights[0.5]],
        "d": [2, best(2.0), weights[2.0], reference, reference * weights[2.0]],
        "e": [at_home, lost, value, reward],
    }


@worked("exchange_rate")
def _():
    # Normal rewards: the Gibbs policy moves the mean by the variance over beta. This one has the numbers of the text.
    x = torch.linspace(-12, 15, 20_001, dtype=torch.float64)
    logp_ref = Normal(0.4, math.sqrt(0.8)).log_prob(x).log_softmax(0)

    def at(inverse):
        policy = objectives.gibbs_policy(logp_ref, x, beta=1 / inverse)
        mean = float((policy * x).sum())
        variance = float((policy * (x - mean) ** 2).sum())
        nats = float((policy * (policy.log() - logp_ref))[policy > 0].sum())
        return mean, variance, nats

    mean, variance, nats = at(2.0)
    assert (mean, variance, nats) == pytest.approx((2, 0.8, 1.6), abs=1e-6)
    further, start = at(2.1), at(1e-6)
    rise, price = further[0] - mean, further[2] - nats
    assert rise == pytest.approx(0.1 * variance) and price == pytest.approx(2 * rise, rel=0.03)
    # The first hundredth: from the reference to where the mean has risen by 0.01.
    assert at(0.01 / variance)[0] - start[0] == pytest.approx(0.01, abs=1e-5) and at(0.01 / variance)[2] < 1e-3
    best, claimed = (2 - 0.5 * k for k in (1.6, 1.5))
    assert best == pytest.approx(float(optima.gibbs_value(logp_ref, x, beta=0.5))) and claimed > best
    return {
        "a": [0.01, 2 * 0.01, 1, 2],
        "b": [0.01, 0.02, 1, 0],
        "c": [1.5, 2, 0.5, claimed, 1.6, best],
        "d": [2, 2.1, 1, 0.1, variance, rise],
        "e": [2, 2.1, 1, rise, 0.5 * rise, round(2 * rise, 9)],
    }


@worked("one_pair")
def _():
    policy, reference = values(0.2, 0.2).log(), values(0.1, 0.4).log()

    def of_pair(beta=1.0, order=(0, 1)):
        chosen, rejected = order
        numbers = policy[chosen], policy[rejected], reference[chosen], reference[rejected]
        return [float(f(*numbers, beta=beta)) for f in (objectives.dpo_margin, objectives.dpo_loss)]

    (z, right), (swapped, wrong), (double, stiff) = of_pair(), of_pair(order=(1, 0)), of_pair(beta=2.0)
    assert swapped == pytest.approx(-z) and z == pytest.approx(math.log(4)) and stiff < right < wrong
    assert wrong == pytest.approx(math.log(5))
    return {
        "a": [2, policy.exp(), z, right],
        "b": [wrong, 1, z, 1 + math.exp(z)],
        "c": [sigmoid(z), sigmoid(-z)],
        "d": [2, double, stiff],
    }


@worked("where_it_ends")
def _():
    generator = torch.Generator().manual_seed(0)
    reward, logits = torch.randn(2, 6, generator=generator, dtype=torch.float64)
    logp_ref, beta = logits.log_softmax(-1), 0.7

    def slope(policy, pairs, gain=1.0):
        """Of the expected loss in the logits. The loss is convex in them: where it is zero is the minimum."""
        free = policy.log().clone().requires_grad_()
        logp, (first, second) = free.log_softmax(-1), pairs
        wins = (gain * (reward[first] - reward[second])).sigmoid()
        there, back = (
            objectives.dpo_loss(logp[w], logp[r], logp_ref[w], logp_ref[r], beta=beta)
            for w, r in ((first, second), (second, first))
        )
        return float(torch.autograd.grad((wins * there + (1 - wins) * back).sum(), free)[0].abs().max())

    best, half = (objectives.gibbs_policy(logp_ref, reward, beta=b) for b in (beta, beta / 2))
    shifted = torch.cat((2 * best[:3], best[3:])) / (1 + best[:3].sum())
    bent = torch.cat((2 * best[:1], best[1:])) / (1 + best[0])
    minima = (best, direct.CHAIN, 1), (half, direct.CHAIN, 2), (best, direct.TORN, 1), (shifted, direct.TORN, 1)
    assert max(slope(*each) for each in minima) < 1e-12
    others = (half, direct.CHAIN, 1), (shifted, direct.CHAIN, 1), (bent, direct.TORN, 1)
    assert min(slope(*each) for each in others) > 0.01
    assert loss(40.0) < loss(20.0) < loss(10.0)  # with certain labels a larger margin is always better
    three = objectives.gibbs_policy(values(1, 1, 1).log(), values(0, 1, 2), beta=1.0)
    assert three[1] < 1 / 3
    return {
        "a": [direct.ALL_PAIRS.shape[1], direct.CHAIN.shape[1]],
        "c": [2, 0.5],
        "e": [1 / 3, 0, 1, 2, three, 3, round(100 * (3 * sigmoid(1.0) + sigmoid(-1.0)) / 4), 100],
    }


@worked("one_step_back")
def _():
    now, before = values(0.5), values(0.8)
    weight = denoising.kl_weight(now, before)
    variance = denoising.posterior(values(0), values(0), now, before)[1]
    kept = now / before
    snrs = [float(denoising.snr(level)) for level in (before, now)]
    nats = weight * 64 * 0.01
    # A divergence of two Gaussians, the long way: 64 pixels, each predicted wrongly by a tenth.
    x0, noise = torch.ones(1, 64, dtype=torch.float64), torch.zeros(1, 64, dtype=torch.float64)
    xt = denoising.noised(x0, noise, now)
    guess = (xt - (1 - now).sqrt() * (noise + 0.1)) / now.sqrt()
    means = [denoising.posterior(image, xt, now, before)[0] for image in (x0, guess)]
    long_way = kl_divergence(*(Normal(mean, variance.sqrt()) for mean in means)).sum()
    assert float(long_way) == pytest.approx(float(nats))
    moved = denoising.noised(values(1.0), values(0.0), now), denoising.noised(values(0.0), values(1.0), now)
    return {
        "a": [0.5, *moved],
        "b": [1 - (before - now), before - now, kept],
        "c": [2 * weight, snrs, 1, weight],
        "d": [1, 1 - kept, 1 - before, (1 - kept) / (1 - now), variance],
        "e": [0.01, nats, weight],
    }


def of_draws(variance, function, mean=1.0):
    """The mean of a function of z, z normal with this mean and variance, by quadrature."""
    node, weight = instances.even(4001, end=12.0)
    return float((weight * function(mean + math.sqrt(variance) * node)).sum())


def loss_of_draws(variance):
    return of_draws(variance, lambda z: objectives.bradley_terry_loss(z, torch.zeros_like(z)))


@worked("five_steps")
def _():
    alone, drawn = loss(1.0), loss_of_draws(4)
    assert alone < drawn
    weight = truth.schedule()[1]
    assert float(weight.max() / weight.min()) > 100
    generator = torch.Generator().manual_seed(0)
    chain, ref = (diffusion._random_chain(claims.Draw(20, generator)) for _ in range(2))
    assert (diffusion._steps(chain, ref) >= kl_divergence(chain.image(), ref.image())).all()
    return {"b": [drawn, alone, 1, 4]}


@worked("two_errors")
def _():
    errors = values(0.30, 0.35, 0.28, 0.31)

    def at(shift=0.0, beta=200.0):
        theta = (errors + shift)[:2].clone().requires_grad_()
        found = objectives.diffusion_dpo_loss(*theta, *(errors + shift)[2:], beta=beta)
        margin = objectives.diffusion_dpo_margin(*theta.detach(), *(errors + shift)[2:], beta=beta)
        return float(margin), float(found.detach()), torch.autograd.grad(found, theta)[0]

    z, cost, slopes = at()
    assert z == pytest.approx(2) == pytest.approx(at(shift=1.0)[0]) and cost < math.log(2)
    assert slopes[0] > 0 > slopes[1] and float(slopes.sum()) == pytest.approx(0)
    squares = diffusion.Squares(*(tuple(e.expand(1, 4, 4, 4) for e in pair) for pair in (errors[:2], errors[2:])))
    assert float(diffusion._example(squares, 100.0)) == pytest.approx(cost)
    assert float(diffusion._on_sums(squares, 100 / 64)) == pytest.approx(cost)
    moved = errors[:2] - errors[2:]
    return {
        "a": [2, math.log(2), 200 / 2, moved, z, cost],
        "b": [slopes, 2, 200 / 2, sigmoid(-z)],
        "c": [400, 200 * 0.5, 2500, 5000 * 0.5 / 0.5],
        "d": [200 / 2, 6400, 100 * 64, 64, 100 / 64],
        "e": [1, z],
    }


def one_pixel(noise_chosen, noise_rejected, alpha_bar=0.5, variance=1.0):
    """Delta of the winner less that of the loser in the world of ``shared_or_not``, noise by noise."""
    policy, ref = instances.gaussian(values(2.0), variance), instances.gaussian(values(0.0))
    found = []
    for image, noise in ((1.5, noise_chosen), (0.5, noise_rejected)):
        x0, level = torch.full_like(noise, image).unsqueeze(-1), torch.full_like(noise, alpha_bar)
        errors = [instances.errors(each, x0, noise.unsqueeze(-1), level) for each in (policy, ref)]
        found.append(errors[0] - errors[1])
    return found[0] - found[1]


def two_noises(**world):
    """Mean and standard deviation with a noise of its own for each image, by quadrature."""
    node, weight = instances.hermite(8)
    both, weights = torch.cartesian_prod(node, node).T, torch.cartesian_prod(weight, weight).prod(-1)
    found = one_pixel(*both, **world)
    mean = float((weights * found).sum())
    return mean, math.sqrt(float((weights * (found - mean) ** 2).sum()))


@worked("shared_or_not")
def _():
    noise = values(-1, 0, 1)
    shared, narrow = one_pixel(noise, noise), one_pixel(noise, noise, variance=0.25)
    late = one_pixel(noise, noise, alpha_bar=0.9)
    mean, sd = two_noises()
    assert torch.allclose(shared, shared[0]) and torch.allclose(late, late[0]) and narrow[0] < narrow[1] < narrow[2]
    assert mean == pytest.approx(float(shared[0])) and sd == pytest.approx(math.sqrt(2))
    # Each of the two noises enters with the factor 1.
    assert float(one_pixel(values(1.0), values(0.0)) - shared[0]) == pytest.approx(1)
    levels = torch.arange(-20, 20.5, 0.5, dtype=torch.float64)
    curve = torch.stack([one_pixel(values(0.3), values(0.3), alpha_bar=float(a))[0] for a in levels.sigmoid()])
    integral = -0.5 * 0.5 * float(curve.sum())
    ratio = [Normal(2.0, 1.0).log_prob(values(x)) - Normal(0.0, 1.0).log_prob(values(x)) for x in (1.5, 0.5)]
    assert integral == pytest.approx(float(ratio[0] - ratio[1]), abs=1e-6) == pytest.approx(2)
    return {
        "a": [1, shared, 2, 0.25],
        "b": [shared, 1, sd],
        "c": [2, 0.25, narrow, noise],
        "d": [0.9, 1, 0.9 * 0.1, 0.25, late],
        "e": [integral, 2],
    }


@worked("which_beta")
def _():
    half = values(0.5)
    at = {dim: float(denoising.effective_beta(half, beta=500, dim=dim)) for dim in (64, 256)}
    weak = diffusion.Shift(values(1e-3), half, 1.0, 500.0, 64)
    told, blurred = (float(diffusion._fitted_mean(weak, shared)) for shared in (True, False))
    assert told == pytest.approx(1e-3 / at[64], rel=1e-5) and blurred == pytest.approx(told / 2, rel=1e-4)
    large, small = 5000 / 16_384, 500 / 64
    assert large < small
    return {
        "a": [500, 0.5, 64, at[64]],
        "b": [256, 500, at[256]],
        "c": [at[64], 1 / at[64]],
        "d": [5000, 16_384, 4 * 64 * 64, 1.5, 500, 64, large, small],
    }


@worked("inside_or_outside")
def _():
    alone, drawn, inside = loss(1.0), loss_of_draws(4), loss_of_draws(4 / 16)
    weight = of_draws(4, lambda z: torch.sigmoid(-z))
    assert alone < inside < drawn and weight > sigmoid(-1.0)
    low, high = loss(1.0 - 2) - alone, alone - loss(1.0 + 2)
    assert low > high > 0
    return {
        "a": [alone, drawn, math.sqrt(4)],
        "b": [16, drawn],
        "c": [16, inside, 4 / 16],
        "d": [1, sigmoid(-1.0), weight],
    }


def normal_rewards():
    """Floor and ceiling for independent standard normal rewards and the gain 2."""
    node, weight = instances.even(4001, end=12.0)
    difference = 2 * math.sqrt(2) * node
    return [float((weight * f(difference)).sum()) for f in (optima.loss_floor, optima.accuracy_ceiling)]


@worked("dashboard")
def _():
    assert normal_rewards() == pytest.approx([0.375, 0.828], abs=5e-4)
    node, weight = instances.hermite(4)
    of_nothing = float((weight[:, None] * (node - 0)[:, None] ** 2).sum())
    assert of_nothing == pytest.approx(1) and of_nothing < 1.5
    margins = [float(objectives.diffusion_dpo_margin(*values(1.5 - d, 1.7 - d, 0.2, 0.2), beta=10.0)) for d in (0, 1.3)]
    assert margins[0] == pytest.approx(margins[1]) and margins[0] > 0
    return {"b": [0.3], "c": [round(of_nothing, 9), 0]}


# --- predictions


def test_the_predictions_and_what_they_come_to():
    assert list(PREDICTIONS) == ["ceiling", "shared_noise", "jensen", "collapse"]
    found = {"ceiling": normal_rewards()[1], "jensen": loss_of_draws(4)}
    assert found["ceiling"] == pytest.approx(0.8280, abs=5e-5)
    assert found["jensen"] == pytest.approx(0.6425, abs=5e-5)
    for name, result in found.items():
        asked = PREDICTIONS[name]
        assert allowed(asked, result) == result
        assert not any(value == pytest.approx(result, rel=0.05) for _, value, _ in numbers(asked.text))
    assert numbers_of("jensen") >= {1, 4, round(loss(1.0), 4)}


def numbers_of(name):
    return {value for _, value, _ in numbers(PREDICTIONS[name].text)}


def test_what_the_best_model_reaches_is_what_samples_say():
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 100_000, generator=generator, dtype=torch.float64)
    chosen = torch.rand(100_000, generator=generator, dtype=torch.float64) < (2 * (first - second)).sigmoid()
    right = (chosen == (first > second)).double()
    assert abs(float(right.mean()) - normal_rewards()[1]) <= 4 * float(right.std()) / math.sqrt(len(right))


def test_two_noises_scatter_more_by_less_than_two():
    asked = PREDICTIONS["shared_noise"]
    lows, highs = zip(*asked.ranges, strict=True)
    assert lows[0] == 0 and lows[1:] == highs[:-1] and highs[-1] == math.inf  # no number falls between them
    vector, count = truth.parameters(), 400
    generator = torch.Generator().manual_seed(0)
    found = []
    with torch.no_grad():
        for shared in (True, False):
            drawn = truth.estimates(vector, truth.Estimator(False, shared), count, generator=generator)
            parts = drawn.unflatten(0, (8, -1)).var(1).mean(-1).sqrt()  # eight estimates of the deviation
            found.append((float(parts.mean()), float(parts.std()) / math.sqrt(8)))
    (one, error_one), (two, error_two) = found
    ratio = two / one
    error = ratio * math.hypot(error_one / one, error_two / two)
    choice = in_words(asked, ratio)[1]
    assert choice == asked.answer[1]
    # The same choice within four standard errors.
    assert {in_words(asked, ratio + side * 4 * error)[1] for side in (-1, 1)} == {choice}


def test_the_outcome_of_the_runs_is_left_to_the_record():
    asked = PREDICTIONS["collapse"]
    assert asked.ranges is None and len(asked.answer) == 5
    for letter, choice in asked.lettered.items():
        assert in_words(asked, letter)[1] == in_words(asked, choice)[1] == choice


@pytest.mark.parametrize("name", PREDICTIONS)
def test_predictions_are_plain_text(name):
    answers = PREDICTIONS[name].answer if PREDICTIONS[name].answer != "number" else ()
    for text in (PREDICTIONS[name].text, PREDICTIONS[name].unit, *answers):
        assert "$" not in text and "\\" not in text and "  " not in text


# --- the teaching room


def test_every_equation_has_its_name_and_every_symbol_can_be_drawn():
    assert len(CLAIMS) == 23
    sheets.check_names(CLAIMS, teaching.NAMES)
    assert len(set(teaching.NAMES.values())) == 23
    for tex, words in teaching.SYMBOLS:
        assert "<math" in sheets.mathml(tex, displayed=False) and words.strip()


def test_polls_are_questions_of_their_section():
    polls = {moment.section: moment.poll for moment in teaching.GUIDE.moments if moment.poll}
    for section, poll in polls.items():
        assert registry()[poll].kind == "quiz" and registry()[poll].section == section
    assert len(set(polls.values())) == len(polls) >= 8


def test_questions_named_in_the_guide_exist():
    texts = [*teaching.GUIDE.before, *(" ".join((m.show, m.misconception, m.remedy)) for m in teaching.GUIDE.moments)]
    named = re.findall(r"`(diffusion_dpo\.\w+)`", " ".join(texts))
    assert len(named) >= 4 and set(named) <= set(registry())


def test_equations_named_in_the_guide_are_claims():
    known = {found.equation for found in CLAIMS.values()}
    texts = [*teaching.GUIDE.before, teaching.GUIDE.keep, *(cut.what for cut in teaching.GUIDE.cuts)]
    texts += [" ".join((m.show, m.misconception, m.remedy)) for m in teaching.GUIDE.moments]
    named = re.findall(r"\((5\.\d+)\)", " ".join(texts))
    assert set(named) <= known and len(set(named)) >= 12


def test_the_numbers_of_the_guide():
    said = {m.section: " ".join((m.show, m.misconception, m.remedy)) for m in teaching.GUIDE.moments}
    coin = values(math.log(3))
    floor, ceiling = float(optima.loss_floor(coin)), float(optima.accuracy_ceiling(coin))
    reference, reward = values(0.8, 0.2).log(), values(0, math.log(4))
    better = [float(objectives.gibbs_policy(reference, reward, beta=beta)[1]) for beta in (2.0, 1.0, 0.5)]
    assert better == pytest.approx([1 / 3, 0.5, 0.8])
    middle = float(objectives.gibbs_policy(values(0, 0, 0), values(0, 1, 2), beta=1.0)[1])
    weight = float(denoising.kl_weight(values(0.5), values(0.8)))
    noise = values(-1, 0, 1)
    narrow = [f"−{-x:.2f}" for x in one_pixel(noise, noise, variance=0.25).tolist()]
    low, high, cool, warm = (b / (k * d) for b, d in ((5000, 16_384), (500, 64)) for k in (10, 5))
    best = normal_rewards()
    for section, written in (
        ("1", f"right side in {ceiling:.2f} of the cases, and pays {floor:.3f} nats"),
        ("2", "2 gives the better answer 1/3, 1 gives ½, ½ gives 0.8"),
        ("3", f"in {100 * sigmoid(1.0):.0f} cases of 100, and ends at {middle:.3f} (5.9)"),
        ("4", f"multiplied by {math.sqrt(0.5):.3f}, w_t is {weight:.1f}"),
        ("4", f"error of 0.01, which no curve shows, makes {weight * 64 * 0.01:.2f} nats"),
        ("6", f"{narrow[0]}, {narrow[1]} and {narrow[2]} for the noises −1, 0 and 1"),
        ("7", f"a temperature of {low:.2f} to {high:.2f}, and 500 for 64 pixels one of {cool:.2f} to {warm:.2f}"),
        ("8", f"the loss is {loss(1.0):.4f} for the mean and {loss_of_draws(4):.4f} for the draws"),
        ("8", f"averaged first have {loss_of_draws(4 / 16):.4f}"),
        ("10", f"0.44 and 0.80, between {best[0]:.3f} and {best[1]:.3f}"),
    ):
        assert written in said[section], written
    # A narrower policy: noise is left, and less of it than with two noises.
    node, rule = instances.hermite(8)
    shared = one_pixel(node, node, variance=0.25)
    spread = math.sqrt(float((rule * (shared - (rule * shared).sum()) ** 2).sum()))
    assert spread < two_noises(variance=0.25)[1] / 4


def test_three_pieces_of_the_museum_have_log_two_at_the_reference():
    pairs = torch.tensor([0, 1]), torch.tensor([2, 2])
    logits, errors = values(0.3, -1.0, 0.5), values(0.2, 0.4)
    logp = logits.log_softmax(-1)
    chosen, rejected = (logp[index] for index in pairs)
    found = (
        beta_twice.beta_twice(chosen, rejected, chosen, rejected, 0.1).mean(),
        reference_that_learns.reference_that_learns(logits, logits, *pairs, 0.1).mean(),
        sigmoid_of_the_mean.sigmoid_of_the_mean(errors, errors + 0.1, errors, errors + 0.1, 500.0),
    )
    assert [float(x) for x in found] == pytest.approx([math.log(2)] * 3)
