"""A forward difference that is divided by K − 1, as if its baseline were a mean of the batch."""

import math

import torch

from pocourse.lesson.exercises import exercise
from pocourse.lesson.museum import Suspect, catches, clears, piece, yes_or_no
from pocourse.lesson.wrong import Wrong

# ---------------------------------------------------------------- the wrong code, ours


def borrowed_minus_one(values, base_value, directions, sigma):
    weights = (values - base_value) / sigma  # the baseline is f(theta)
    return torch.einsum("k,kd->d", weights, directions) / (len(values) - 1)


# ---------------------------------------------------------------- the task


def forward(values, base_value, directions, sigma):
    return (values - base_value) @ directions / (sigma * len(values))


def one_after_the_other(values, base_value, directions, sigma):
    total = torch.zeros_like(directions[0])
    for value, u in zip(values, directions, strict=True):
        total = total + (value - base_value) / sigma * u
    return total / len(values)


def unit_vectors(values, base_value, directions, sigma):
    """Along directions of length one, with the factor d that belongs to them."""
    d = directions.shape[-1]
    slopes = (values - base_value) / (sigma * directions.norm(dim=-1))
    return d * slopes @ torch.nn.functional.normalize(directions, dim=-1) / len(values)


def leave_one_out(values, base_value, directions, sigma):
    return (values - values.mean()) @ directions / (sigma * (len(values) - 1))


def pairs(values, base_value, directions, sigma):
    """The mean over all pairs of two different directions."""
    return _all_pairs(values, directions) / (2 * sigma * len(values) * (len(values) - 1))


def covariance(values, base_value, directions, sigma):
    return (values - values.mean()) @ (directions - directions.mean(0)) / (sigma * (len(values) - 1))


def no_baseline(values, base_value, directions, sigma):
    return values @ directions / (sigma * len(values))


def first_direction(values, base_value, directions, sigma):
    return (values[0] - base_value) / sigma * directions[0]


def mean_over_all(values, base_value, directions, sigma):
    return (values - values.mean()) @ directions / (sigma * len(values))


def pairs_over_all(values, base_value, directions, sigma):
    """Pairs of a direction with itself are counted, though they hold nothing."""
    return _all_pairs(values, directions) / (2 * sigma * len(values) ** 2)


def _all_pairs(values, directions):
    total = torch.zeros_like(directions[0])
    for shift in range(1, len(values)):
        total = total + (values - values.roll(shift)) @ (directions - directions.roll(shift, 0))
    return total


def over_queries(values, base_value, directions, sigma):
    return (values - base_value) @ directions / (sigma * (len(values) + 1))


def summed(values, base_value, directions, sigma):
    return (values - base_value) @ directions / sigma


def mended_for_three(values, base_value, directions, sigma):
    return 2 / 3 * borrowed_minus_one(values, base_value, directions, sigma)


def mended_for_two(values, base_value, directions, sigma):
    return 1 / 2 * borrowed_minus_one(values, base_value, directions, sigma)


def sigma_forgotten(values, base_value, directions, sigma):
    return (values - base_value) @ directions / len(values)


def sigma_squared(values, base_value, directions, sigma):
    return (values - base_value) @ directions / (sigma**2 * len(values))


def dimension_forgotten(values, base_value, directions, sigma):
    return unit_vectors(values, base_value, directions, sigma) / directions.shape[-1]


def upwards(values, base_value, directions, sigma):
    return (base_value - values) @ directions / (sigma * len(values))


right_length = exercise(
    "zeroth_order.catch_borrowed_minus_one",
    title="Catch a gradient of the wrong length",
    section="Bug museum",
    difficulty=3,
    minutes=10,
    task="""
An estimate of the gradient may scatter as it likes; its *mean* has to be the gradient. A factor in front is hard to
see: it looks like another learning rate, and an optimizer such as Adam hides it altogether.

Write `right_length(gradient)`. `gradient(values, base_value, directions, sigma)` takes f at the points θ + σu of K ≥ 2
directions, f(θ), the directions [K, d] and σ, and returns one estimate of shape [d]. Return `True` if its mean over
**independent** directions is the slope of a *linear* function, for every K, d and σ; otherwise `False`. Wasteful is not
wrong: some codes on trial leave out f(θ), or most of the directions.

No sampling is needed. For a linear function all that counts is that the entries of u are independent, with mean 0 and
variance 1; so toss coins, u = ±1, and **go through all batches of tosses**. K = 2 and d = 2 make sixteen.
""",
    stub="""
def right_length(gradient):
    ...
""",
    hints=(
        "One batch is not enough: which estimate is exact there depends on the batch. What is the mean over all "
        "batches, if each of their K · d entries is +1 or −1, all equally likely?",
        "`torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * (K * d))` lists them as rows; give each the shape "
        "[K, d]. The values are `c + sigma * u @ slope`, f(θ) is c. Average what comes out: is it the slope?",
        "Take K = 2 and K = 3, for a code can be mended for one of them; d = 2, as d = 1 hides a factor of d; "
        "and a σ other than 1. `torch.allclose(mean, slope)` is exact enough in float64.",
    ),
    solution="""
def right_length(gradient):
    slope, base = torch.tensor([2.0, -1.0]).double(), torch.tensor(5.0).double()
    for count in (2, 3):
        tosses = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0]).double()] * (2 * count))
        found = [gradient(base + 0.1 * u @ slope, base, u, 0.1) for u in tosses.reshape(-1, count, 2)]
        if not torch.allclose(torch.stack(found).mean(0), slope):
            return False
    return True
""",
    after="""
**Count what the baseline has seen.** f(θ) has seen none of the K directions: divide by K. The mean of the batch has
seen the very direction it is subtracted for; that shortens the estimate by 1 − 1/K (4.4), and dividing by K − 1 makes
up for it. Beside f(θ), K − 1 makes up for something that has not happened.

You compared with no formula: leave-one-out, all pairs, the covariance and the lone first direction passed, for their
means are the same. Their variances are not, and that is another question.
""",
    parameters=("gradient",),
    returns=yes_or_no,
    probes=lambda: [
        (code,)
        for code in (
            forward,
            leave_one_out,
            no_baseline,
            first_direction,
            borrowed_minus_one,
            mean_over_all,
            over_queries,
            summed,
            mended_for_three,
            mended_for_two,
            sigma_forgotten,
            sigma_squared,
            dimension_forgotten,
            upwards,
            # These do nothing sensible: they tell tests apart that are wrong in different ways.
            lambda values, base_value, directions, sigma: directions[0] * 0 + 1,
            lambda values, base_value, directions, sigma: directions[0],
            lambda values, base_value, directions, sigma: 1.05 * forward(values, base_value, directions, sigma),
            lambda values, base_value, directions, sigma: forward(values, base_value, directions.abs(), sigma),
            lambda values, base_value, directions, sigma: borrowed_minus_one(values, values.mean(), directions, 1.0),
            lambda values, base_value, directions, sigma: summed(values, base_value, directions, sigma) / 3,
            lambda values, base_value, directions, sigma: forward(values, base_value, directions, sigma) * math.nan,
        )
    ],
)

RIGHT = "whose mean is the gradient"


@right_length.requires("clears forward differences, however they are written")
def _(answer):
    return clears(
        answer,
        [
            Suspect("the forward difference, divided by K", forward, RIGHT),
            Suspect("a loop over the directions", one_after_the_other, RIGHT),
            Suspect("differences along unit vectors, with the factor d", unit_vectors, RIGHT),
        ],
    )


@right_length.requires("clears leave-one-out in all its forms")
def _(answer):
    why = "whose mean over independent directions is the gradient, though on a single batch it differs from others"
    return clears(
        answer,
        [
            Suspect("leave-one-out, divided by K − 1", leave_one_out, why),
            Suspect("the mean over all pairs", pairs, why),
            Suspect("the covariance of directions and values", covariance, why),
        ],
    )


@right_length.requires("clears what is wasteful and right on average")
def _(answer):
    why = "which scatters more, round the right mean"
    return clears(
        answer,
        [
            Suspect("REINFORCE without a baseline", no_baseline, why),
            Suspect("the first direction alone", first_direction, why),
        ],
    )


@right_length.requires("catches the published mistake")
def _(answer):
    why = "which is K/(K − 1) times too long: 2 for K = 2, 1.5 for K = 3"
    return catches(answer, [Suspect("the published mistake", borrowed_minus_one, why)])


@right_length.requires("catches it where it is mended for one K")
def _(answer):
    return catches(
        answer,
        [
            Suspect("the published mistake times 2/3", mended_for_three, "which is right for K = 3 alone"),
            Suspect("the published mistake times 1/2", mended_for_two, "which is right for K = 2 alone"),
        ],
    )


@right_length.requires("catches other counts")
def _(answer):
    return catches(
        answer,
        [
            Suspect(
                "the mean of the batch as the baseline, divided by K", mean_over_all, "which is 1 − 1/K times too short"
            ),
            Suspect(
                "the mean over all K² pairs",
                pairs_over_all,
                "of which K hold a direction and itself: it is 1 − 1/K times too short",
            ),
            Suspect("the forward difference, divided by the K + 1 queries", over_queries, "which is too short"),
            Suspect("the sum over the directions", summed, "which grows with K"),
        ],
    )


@right_length.requires("catches another scale, or another sign")
def _(answer):
    return catches(
        answer,
        [
            Suspect("a difference that is not divided by σ", sigma_forgotten, "which is right for σ = 1 alone"),
            Suspect("a difference divided by σ²", sigma_squared, "which is right for σ = 1 alone"),
            Suspect(
                "differences along unit vectors, without the factor d",
                dimension_forgotten,
                "which is right for d = 1 alone",
            ),
            Suspect("a difference with its sign turned", upwards, "which points uphill"),
        ],
    )


SLOPE = (1.5, -0.5)


def _mean(gradient, count, slope=None, sigma=0.2):
    """The mean estimate over all tosses, and the slope; two dimensions for two directions, else one."""
    slope = torch.tensor(slope or SLOPE[: 2 if count == 2 else 1], dtype=torch.float64)
    base = torch.tensor(3.0, dtype=torch.float64)
    coin = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    tosses = torch.cartesian_prod(*[coin] * (count * len(slope))).reshape(-1, count, len(slope))
    return torch.stack([gradient(base + sigma * u @ slope, base, u, sigma) for u in tosses]).mean(0), slope


def _agrees(gradient, count, rtol=1e-5, **world):
    return torch.allclose(*_mean(gradient, count, **world), rtol=rtol)


def _on(gradient, directions, sigma=0.2):
    """The estimate on one batch, and the slope."""
    directions = torch.as_tensor(directions).double()
    slope = torch.linspace(1, -0.5, directions.shape[-1], dtype=torch.float64)
    base = torch.tensor(3.0, dtype=torch.float64)
    return gradient(base + sigma * directions @ slope, base, directions, sigma), slope


@right_length.mutant("always_true", "It says True to everything on trial.")
def _(gradient):
    return True


@right_length.mutant(
    "the_direction_alone",
    "It looks where the mean points. That is right with any factor in front: the length is asked.",
)
def _(gradient):
    return all(torch.cosine_similarity(*_mean(gradient, count), dim=0) > 0.999 for count in (2, 3))


@right_length.mutant("three_directions", "It tries K = 3 alone, and a code can be mended for one K.")
def _(gradient):
    return _agrees(gradient, 3, slope=SLOPE)


@right_length.mutant("two_directions", "It tries K = 2 alone, and a code can be mended for one K.")
def _(gradient):
    return _agrees(gradient, 2)


@right_length.mutant("one_dimension", "Its d is 1, and a forgotten factor of d is 1 as well.")
def _(gradient):
    return _agrees(gradient, 2, slope=(1.5,)) and _agrees(gradient, 3, slope=(1.5,))


@right_length.mutant("sigma_of_one", "Its σ is 1, and with that it sees no division by σ.")
def _(gradient):
    return _agrees(gradient, 2, sigma=1.0) and _agrees(gradient, 3, sigma=1.0)


@right_length.mutant(
    "the_axes",
    "Its one batch is made of the axes. There the forward difference is exact, and leave-one-out is not: it is right "
    "on average over *independent* directions. Go through all batches.",
)
def _(gradient):
    return all(torch.allclose(*_on(gradient, d**0.5 * torch.eye(d))) for d in (2, 3, 4))


@right_length.mutant(
    "a_mirrored_pair",
    "Its batch holds u and −u, which are not independent: there the mean of the batch is f(θ), and 1 − 1/K is gone.",
)
def _(gradient):
    found, slope = _mean(lambda values, base, u, sigma: _mirrored(gradient, base, u, sigma), 1, slope=SLOPE)
    return torch.allclose(found, slope)


def _mirrored(gradient, base, u, sigma):
    both = torch.cat([u, -u])
    return gradient(base + sigma * both @ torch.tensor(SLOPE, dtype=torch.float64), base, both, sigma)


@right_length.mutant(
    "the_forward_difference",
    "It compares with the forward difference on a batch. Other codes scatter otherwise: compare means.",
)
def _(gradient):
    u = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).double()
    return torch.allclose(_on(gradient, u)[0], _on(forward, u)[0])


@right_length.mutant("a_constant_function", "Its function is constant, and a slope of 0 has no length.")
def _(gradient):
    return all(torch.allclose(*_mean(gradient, count, slope=(0.0,)), atol=1e-6) for count in (2, 3))


@right_length.mutant("within_a_third", "It lets a third pass, and at K = 4 the mistake is no larger than that.")
def _(gradient):
    return _agrees(gradient, 4, rtol=0.34)


@right_length.mutant(
    "uphill_at_all", "It asks whether the mean points uphill. With that it can be as long as it likes."
)
def _(gradient):
    return all(found @ slope > 0 for found, slope in (_mean(gradient, count) for count in (2, 3)))


@right_length.accepts("one column of coins per entry, counted in binary")
def _(gradient):
    slope = torch.tensor([0.3, 2.0], dtype=torch.float64)
    for count in (2, 3):
        bits = 2 * count
        tosses = (torch.arange(2**bits).unsqueeze(1) >> torch.arange(bits)) % 2 * 2.0 - 1
        total = torch.zeros(2, dtype=torch.float64)
        for u in tosses.double().reshape(-1, count, 2):
            total = total + gradient(u @ slope * 0.5, torch.zeros((), dtype=torch.float64), u, 0.5)
        if (total / 2**bits - slope).abs().max() > 1e-9:
            return False
    return True


@right_length.accepts("random batches of coins")
def _(gradient):
    # The scatter of the mean is known from the batches themselves: four standard errors are allowed.
    generator = torch.Generator().manual_seed(0)
    slope = torch.tensor([1.0, -1.0], dtype=torch.float64)
    base = torch.tensor(0.0, dtype=torch.float64)
    for count in (2, 3):
        batches = 2.0 * torch.randint(2, (400, count, 2), generator=generator).double() - 1
        found = torch.stack([gradient(0.1 * u @ slope, base, u, 0.1) for u in batches])
        error = found.std(0) / 400**0.5
        if ((found.mean(0) - slope).abs() > 4 * error + 1e-9).any():
            return False
    return True


@right_length.accepts("dice with four faces in place of coins")
def _(gradient):
    face = torch.tensor([-(1.75**0.5), -0.5, 0.5, 1.75**0.5], dtype=torch.float64)  # mean 0, variance 1
    base = torch.tensor(-2.0, dtype=torch.float64)
    for count, slope in ((2, torch.tensor([1.0, 3.0])), (3, torch.tensor([-2.0]))):
        slope = slope.double()
        throws = torch.cartesian_prod(*[face] * (count * len(slope))).reshape(-1, count, len(slope))
        found = [gradient(base + 0.3 * u @ slope, base, u, 0.3) for u in throws]
        if not torch.allclose(torch.stack(found).mean(0), slope):
            return False
    return True


piece(
    "zeroth_order.borrowed_minus_one",
    title="A K − 1 that belongs to another baseline",
    section="2",
    wrong=Wrong(
        "borrowed_minus_one",
        "K − 1 belongs to the mean of the batch: each value has a part in that mean, which shortens the estimate by "
        "1 − 1/K (4.4), and dividing by K − 1 makes up for it. f(θ) has no direction in it. Divided by K the forward "
        "difference is right, and divided by K − 1 it is K/(K − 1) times too long: 1.11 for ten directions, 1.5 for "
        "three, 2 for two.",
        borrowed_minus_one,
        "the public code of ZoVH",
    ),
    published=(
        "The public code of `ZoVH` (ICML 2026), `synthetic_and_adversarial/optimizer/zo.py`, commit `c5a4e46` of "
        "2026-05-29. The plain estimator, with which others are compared, takes f(θ) as its baseline and divides by "
        "the number of queries less one. A mean of the batch, for which that would be right, stands above it, "
        "commented out. The settings beside it: three queries, and SGD. The public code of ZoAR, at commit `5715e94` "
        "of 2025-10-18, divides the same estimator by K. We found no thread; the file:"
    ),
    thread="https://github.com/Qjbtiger/ZoVH/blob/c5a4e46/synthetic_and_adversarial/optimizer/zo.py",
    corrected="Still so at commit `0d22908` of 2026-06-01, the newest that we saw.",
    symptom=(
        "On the left is how long four estimates are on average, the true gradient being 1: two are right at every K, "
        "one is too short and one too long. In the middle is SGD with three directions, on a quadratic: what is left "
        "after 60 steps, against the learning rate. The curve of the wrong estimate is the right one at 1.5 times the "
        "learning rate: at *equal* rates it is ahead on the left of the valley, and runs away earlier on its right. On "
        "the right is Adam, which divides by the length: one curve lies on the other, and no test that trains with it "
        "would notice."
    ),
    right=forward,
    exercise="zeroth_order.catch_borrowed_minus_one",
    note=(
        "Another factor that a scale-free rule hides: `radazo.py`, the public file of R-AdaZO, commit `f7c9377` of "
        "2025-07-17, draws unit vectors and has no factor d. The rule it belongs to divides by the length, and all is "
        "well; with SGD the same estimate would be d times too short."
    ),
)
