"""An averaged baseline that is subtracted from both ends of a pair, and so from neither."""

import torch

from pocourse.lesson.exercises import exercise
from pocourse.lesson.museum import Suspect, catches, clears, piece, yes_or_no
from pocourse.lesson.wrong import Wrong
from pocourse.zeroth_order.estimators import centred_ranks

SIGMA = 0.1

# ---------------------------------------------------------------- the wrong code, ours


def baseline_that_cancels(f, theta, baseline):
    u = draw(5, theta)  # every direction is asked both ways
    plus, minus = f(theta + SIGMA * u), f(theta - SIGMA * u)
    b = baseline(torch.cat([plus, minus]))
    up, down = (plus - b) / SIGMA, -(minus - b) / SIGMA  # what was found at -u counts for -u
    return torch.einsum("k,kd->d", up + down, u) / (2 * len(u))


# ---------------------------------------------------------------- the task


def draw(count, theta):
    """Directions for every code on trial, the same ones whenever it is called."""
    generator = torch.Generator().manual_seed(count)
    return torch.randn(count, len(theta), generator=generator, dtype=torch.float64).to(theta.dtype)


def independent(f, theta, baseline):
    u = draw(10, theta)
    y = f(theta + SIGMA * u)
    return (y - baseline(y)) @ u / (10 * SIGMA)


def remembered(f, theta, baseline):
    """Two iterations in memory, the first of them from a little way off, and one baseline for all."""
    old, new = draw(6, theta), draw(7, theta)
    y = torch.cat([f(theta + 0.02 + SIGMA * old), f(theta + SIGMA * new)])
    return (y - baseline(y)) @ torch.cat([old, new]) / (12 * SIGMA)


def half_a_pair(f, theta, baseline):
    """Pairs in a memory of eleven values: of the oldest pair one end is left."""
    u = draw(6, theta)
    both = torch.cat([torch.stack([x, -x]) for x in u])[1:]
    y = f(theta + SIGMA * both)
    return (y - baseline(y)) @ both / (11 * SIGMA)


def one_for_each_end(f, theta, baseline):
    """The plus ends and the minus ends have a baseline of their own."""
    u = draw(5, theta)
    plus, minus = f(theta + SIGMA * u), f(theta - SIGMA * u)
    return (plus - baseline(plus) - (minus - baseline(minus))) @ u / (10 * SIGMA)


def better_ones_alone(f, theta, baseline):
    """Only what lies below the baseline counts, in pairs as well."""
    u = draw(5, theta)
    both = torch.cat([u, -u])
    y = f(theta + SIGMA * both)
    return (y - baseline(y)).clamp(max=0) @ both / (10 * SIGMA)


def pair_by_pair(f, theta, baseline):
    """Every pair has a baseline of its own, which both of its ends share."""
    total = torch.zeros_like(theta)
    for u in draw(5, theta):
        y = f(torch.stack([theta + SIGMA * u, theta - SIGMA * u]))
        total = total + ((y - baseline(y)) * torch.tensor([1.0, -1.0], dtype=y.dtype)).sum() * u
    return total / (10 * SIGMA)


def pairs_remembered(f, theta, baseline):
    """As published, with a memory: pairs of two iterations and one baseline for all."""
    old, new = draw(3, theta), draw(4, theta)
    y = torch.cat([f(theta + 0.02 + SIGMA * torch.cat([old, -old])), f(theta + SIGMA * torch.cat([new, -new]))])
    return (y - baseline(y)) @ torch.cat([old, -old, new, -new]) / (14 * SIGMA)


def leave_one_out(f, theta, baseline):
    u = draw(10, theta)
    y = f(theta + SIGMA * u)
    y = y - baseline(y)
    return (y - y.mean()) @ u / (9 * SIGMA)


def standardised(f, theta, baseline):
    u = draw(10, theta)
    y = f(theta + SIGMA * u)
    y = y - baseline(y)
    return (y - y.mean()) / y.std() @ u / 10


def covariance(f, theta, baseline):
    u = draw(10, theta)
    y = f(theta + SIGMA * u)
    return (y - baseline(y)) @ (u - u.mean(0)) / (9 * SIGMA)


def ranked(f, theta, baseline):
    u = draw(10, theta)
    y = f(theta + SIGMA * u)
    return centred_ranks(y - baseline(y)) @ u


def softmin(f, theta, baseline):
    u = draw(10, theta)
    y = f(theta + SIGMA * u)
    return -(-(y - baseline(y))).softmax(0) @ u


def never_used(f, theta, baseline):
    u = draw(10, theta)
    y = f(theta + SIGMA * u)
    baseline(y)
    return (y - f(theta.unsqueeze(0))) @ u / (10 * SIGMA)


acts = exercise(
    "zeroth_order.catch_baseline_that_cancels",
    title="Catch a part that does nothing",
    section="Bug museum",
    difficulty=3,
    minutes=10,
    task="""
A part of a method can be computed, subtracted, described, and change nothing. Nobody sees that from its name, nor
from a learning curve with the part in it.

Write `acts(gradient)`. `gradient(f, theta, baseline)` estimates the gradient of f at theta, a tensor of shape [d]. It
draws its directions itself, the same ones in every call. `f(points)` takes points [n, d] and returns values [n];
`baseline(values)` takes values [n] and returns one number. You choose all three: f, theta and baseline. Return `True`
if the baseline acts, which is to say that the estimate depends on it; otherwise `False`. Whether it *helps* is not
the question.

What cancels does so up to rounding. And a code may have several baselines, each for a part of its values.
""",
    stub="""
def acts(gradient):
    ...
""",
    hints=(
        "How do you find out whether a lamp is connected? You need two calls that differ in the baseline alone.",
        "With the baseline on: `lambda values: values.mean()`; and off: `lambda values: 0.0`. Two different constants "
        "are no substitute: where each half of the values has its own baseline those cancel, and means do not.",
        "The function must not be too simple: where it is constant, all baselines agree. "
        "`f = lambda x: 7 + (x**2).sum(-1)` will do, at a theta other than 0, in float64. Compare the two estimates "
        "with `torch.allclose`.",
    ),
    solution="""
def acts(gradient):
    theta = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    on = gradient(lambda x: 7 + (x**2).sum(-1), theta, lambda values: values.mean())
    off = gradient(lambda x: 7 + (x**2).sum(-1), theta, lambda values: 0.0)
    return not torch.allclose(on, off)
""",
    after="""
**Switch a part off and look.** It is the shortest experiment there is, and the one most often left out. The baseline of
the published code is shared by both ends of every pair, and (f(+) − b) − (f(−) − b) has no b in it (4.8).

Pairs are not the only place where a baseline is lost. Whatever ignores a constant ignores it as well: ranks, a softmax,
a standard score, leave-one-out, centred directions. They bring a baseline of their own.
""",
    parameters=("gradient",),
    returns=yes_or_no,
    probes=lambda: [
        (code,)
        for code in (
            independent,
            half_a_pair,
            one_for_each_end,
            better_ones_alone,
            baseline_that_cancels,
            pair_by_pair,
            leave_one_out,
            standardised,
            ranked,
            softmin,
            never_used,
            # These do nothing sensible: they tell tests apart that are wrong in different ways.
            lambda f, theta, baseline: baseline(f(theta.unsqueeze(0))) * theta,
            lambda f, theta, baseline: theta * (1 + 1e-13 * baseline(f(theta.unsqueeze(0)))),
            lambda f, theta, baseline: theta * (1 + 1e-4 * baseline(f(theta.unsqueeze(0) + draw(3, theta)))),
            lambda f, theta, baseline: theta * (1 + 1e9 * baseline(f(theta.unsqueeze(0)))),
            lambda f, theta, baseline: theta * 0,
            lambda f, theta, baseline: f(draw(4, theta)) @ draw(4, theta) + 0 * baseline(f(draw(4, theta))),
        )
    ],
)


@acts.requires("clears independent directions with an averaged baseline")
def _(answer):
    why = "in which the baseline acts: no two directions cancel"
    return clears(
        answer,
        [
            Suspect("independent directions, all with one baseline", independent, why),
            Suspect("a memory of independent directions, all with one baseline", remembered, why),
        ],
    )


@acts.requires("clears a baseline that acts among pairs")
def _(answer):
    return clears(
        answer,
        [
            Suspect(
                "pairs of which the oldest has lost one end",
                half_a_pair,
                "in which the baseline acts on the end that is left",
            ),
            Suspect(
                "pairs with one baseline for the plus ends and another for the minus ends",
                one_for_each_end,
                "in which the difference of the two acts",
            ),
            Suspect(
                "pairs of which only the values below the baseline count",
                better_ones_alone,
                "in which the baseline decides what counts",
            ),
        ],
    )


@acts.requires("catches the published mistake")
def _(answer):
    why = "in which both ends of a pair have the same baseline, and their difference none"
    return catches(
        answer,
        [
            Suspect("the published mistake", baseline_that_cancels, why),
            Suspect("the published mistake, with a memory", pairs_remembered, why),
            Suspect("pairs, each with its own baseline for both ends", pair_by_pair, why),
        ],
    )


@acts.requires("catches a baseline before a mean that is subtracted anyway")
def _(answer):
    why = "in which a constant drops out with the mean"
    return catches(
        answer,
        [
            Suspect("leave-one-out after the baseline", leave_one_out, why),
            Suspect("a standard score after the baseline", standardised, why),
            Suspect("a baseline on centred directions", covariance, "which add up to zero, and any constant with them"),
        ],
    )


@acts.requires("catches a baseline before ranks or a softmax")
def _(answer):
    return catches(
        answer,
        [
            Suspect("centred ranks after the baseline", ranked, "which no constant can change"),
            Suspect("a softmax after the baseline", softmin, "which no constant can change"),
        ],
    )


@acts.requires("catches a baseline that is never used")
def _(answer):
    return catches(answer, [Suspect("a baseline that is computed and dropped", never_used, "which uses f(θ) instead")])


def _bowl(x):
    return 3 + ((x - 0.3) ** 2).sum(-1)


def _theta(*values):
    return torch.tensor(values or (0.5, 1.5), dtype=torch.float64)


def _mean(values):
    return values.mean()


def _zero(values):
    return 0.0


@acts.mutant("always_true", "It says True to everything on trial.")
def _(gradient):
    return True


@acts.mutant("always_false", "It says False to everything on trial.")
def _(gradient):
    return False


@acts.mutant("it_is_called", "It asks whether the baseline is called. What cancels was called before.")
def _(gradient):
    seen = []
    gradient(_bowl, _theta(), lambda values: seen.append(1) or values.mean())
    return bool(seen)


@acts.mutant("to_the_last_digit", "It calls any difference one. What cancels leaves 1e-15 of rounding behind.")
def _(gradient):
    return bool((gradient(_bowl, _theta(), _mean) != gradient(_bowl, _theta(), _zero)).any())


@acts.mutant(
    "two_constants",
    "It compares two constants. Where the plus ends and the minus ends have baselines of their own, these cancel and "
    "means do not.",
)
def _(gradient):
    return not torch.allclose(gradient(_bowl, _theta(), lambda values: 1.0), gradient(_bowl, _theta(), _zero))


@acts.mutant(
    "a_constant_function",
    "Its function is constant, and so are all baselines: two of them, one for each end, cannot be told apart.",
)
def _(gradient):
    found = [gradient(lambda x: 0 * x[..., 0] + 7, _theta(), b) for b in (_mean, _zero)]
    return not torch.allclose(*found)


@acts.mutant(
    "a_huge_constant", "Its baseline is 1e12, and what is left after it has cancelled has lost most of its digits."
)
def _(gradient):
    return not torch.allclose(gradient(_bowl, _theta(), lambda values: 1e12), gradient(_bowl, _theta(), _zero))


@acts.mutant(
    "a_tiny_constant", "Its baseline is 1e-9, and what that does is too little to be seen. Take one of f's own size."
)
def _(gradient):
    return not torch.allclose(gradient(_bowl, _theta(), lambda values: 1e-9), gradient(_bowl, _theta(), _zero))


@acts.mutant(
    "it_must_help", "It wants the estimate to come nearer to the truth. A baseline that does harm acts as well."
)
def _(gradient):
    truth = 2 * (_theta() - 0.3)
    on, off = ((gradient(_bowl, _theta(), b) - truth).norm() for b in (_mean, _zero))
    return bool(on < 0.95 * off)


@acts.mutant(
    "another_function",
    "It adds 5 to f and asks whether the estimate stays. With a baseline that acts it does, and where constants cancel "
    "of themselves it does without one.",
)
def _(gradient):
    found = [gradient(lambda x, c=c: _bowl(x) + c, _theta(), _mean) for c in (0.0, 5.0)]
    return torch.allclose(*found)


@acts.accepts("the derivative in the baseline's size")
def _(gradient):
    size = torch.ones((), dtype=torch.float64, requires_grad=True)
    found = gradient(lambda x: 2 + (x**4).sum(-1), _theta(1.0, -0.7), lambda values: size * values.mean())
    if not found.requires_grad:
        return False
    slope = torch.stack([torch.autograd.grad(x, size, retain_graph=True)[0] for x in found])
    return bool(slope.abs().max() > 1e-9)


@acts.accepts("four baselines, of which two have to differ in what they do")
def _(gradient):
    theta = _theta(0.2, -0.4, 0.9, 1.0)
    rules = (_zero, _mean, torch.amin, lambda values: 0.5 * values[0])
    found = torch.stack([gradient(lambda x: x.exp().sum(-1), theta, rule) for rule in rules])
    return not torch.allclose(found, found[0].expand_as(found), atol=1e-9)


@acts.accepts("a random number for a baseline, new in every call")
def _(gradient):
    generator = torch.Generator().manual_seed(1)
    f, theta = (lambda x: 5 + (x * x.roll(1, -1)).sum(-1)), _theta(1.0, 2.0, -1.0)
    calls = [gradient(f, theta, lambda values: 10 * torch.rand((), generator=generator)) for _ in range(2)]
    return not torch.allclose(*calls)


piece(
    "zeroth_order.baseline_that_cancels",
    title="An averaged baseline that cancels",
    section="6",
    wrong=Wrong(
        "baseline_that_cancels",
        "The estimate is right, and the baseline is not in it. Both ends of a pair get the same b, the minus end with "
        "its sign turned: (f(+) − b) − (f(−) − b) = f(+) − f(−), whatever b is and whatever it was averaged over "
        "(4.8). With a memory of N steps, what is left is the mean of their central differences, a box filter (4.25). "
        "If such a run is faster, it is by its memory.",
        baseline_that_cancels,
        "the public code of ZoAR",
    ),
    published=(
        "The public code of ZoAR, which the history of `AdaSmooth` holds, `mezo/trainer.py`, commit `1fdef32` of "
        "2025-05-23. For language models each step asks one direction both ways and puts both values into the memory. "
        "The mean of the memory is subtracted from all of them, and then the sign of every second one is turned. The "
        "read-me presents the method as query reuse and a baseline, whatever the task; here only the reuse can be at "
        "work. We found no thread; the file:"
    ),
    thread="https://github.com/hyggy2019/AdaSmooth/blob/1fdef32/mezo/trainer.py",
    corrected=(
        "Unchanged at commit `5715e94` of 2025-10-18, the last one of that code, and at `4ef22ae` of 2025-12-16, the "
        "newest of the repository that we saw."
    ),
    symptom=(
        "On the left and in the middle is Adam on a quadratic to which 50 has been added, ten queries a step. With "
        "pairs, on the left, the run with the averaged baseline and the run without any are one curve; what makes a "
        "difference is the memory, which at one learning rate works like a longer step. With independent directions, "
        "in the middle, the same baseline decides whether anything is learned at all. On the right is how far apart "
        "the estimates with and without the baseline lie, in parts of their length: for pairs that is rounding, for "
        "independent directions all of it."
    ),
    right=independent,
    exercise="zeroth_order.catch_baseline_that_cancels",
)
