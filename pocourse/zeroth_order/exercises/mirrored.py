"""The central difference as REINFORCE with a baseline, for section 2."""

from collections.abc import Callable

import torch
from torch import Tensor

from pocourse.lesson.exercises import exercise
from pocourse.zeroth_order.exercises._shared import (
    SINGLE,
    each_by_itself,
    off,
    one_each,
    pair,
    row,
    rows,
    short,
    table,
    told,
    words,
)

antithetic = exercise(
    "zeroth_order.antithetic",
    title="Which baseline is a mirror?",
    section="2",
    difficulty=3,
    minutes=8,
    task="""
The central difference asks f on both sides of θ, at θ + σ u and at θ − σ u. Forget that the second half are samples
like the first. Let them serve as a *baseline* for the first half: there is a b(u) with which REINFORCE on the plus side
alone *is* the central difference,

**1 / P · Σₚ ( f(θ + σ uₚ) − b(uₚ) ) uₚ / σ = 1 / P · Σₚ ( f(θ + σ uₚ) − f(θ − σ uₚ) ) uₚ / (2 σ)**

for every f, every σ and any P directions. Which one is it?

Write it. `mirrored_baseline(f, theta, directions, sigma)` receives

- `f`, a function: given a tensor of points, whose last axis is that of the coordinates, it returns their values, a
  tensor without that axis. You may call it as often as you like, with any axes before the last;
- `theta`, a tensor whose last axis is that of the coordinates: θ. Each index of the axes before it, if there are any,
  is a problem of its own;
- `directions`, a tensor of the same dtype with the axes of `theta`, and one more in front, that of the P directions: u;
- `sigma`, a positive number: σ

and returns one b for each direction and problem: a tensor with the axes of `directions`, without the last one.
""",
    stub='''
def mirrored_baseline(f, theta, directions, sigma):
    """The baseline of every direction that makes REINFORCE the central difference."""
    ...
''',
    hints=(
        "The two sums agree for any directions if they agree term by term. So what does f(θ + σ u) − b(u) have to be, "
        "and what is b(u) then?",
        "Every function of u is the sum of an even part, which is the same for u and −u, and an odd part, which turns "
        "its sign. The central difference keeps the odd part of f(θ + σ u). What has the baseline to take away?",
        "The even part is the mean of the two values of a pair. All plus points at once are `theta + sigma * "
        "directions`: θ is repeated along the first axis by itself. The minus points lie on the other side of θ.",
    ),
    solution="""
def mirrored_baseline(f, theta, directions, sigma):
    step = sigma * directions
    return (f(theta + step) + f(theta - step)) / 2
""",
    after="""
A baseline must not depend on the action, one learns, and yours does. It is allowed to, because b(u) = b(−u): what it
does to the estimate at u, it undoes at −u, which is as likely (4.9). Other even baselines are just as legal. f(θ) is
one, a constant; the smaller of the two values is another. They leave more in: f(θ) takes the level of f away and leaves
the curvature along u; yours takes level and curvature, and with them everything even. It has its price, the second
value of every pair.
""",
    parameters=("f", "theta", "directions"),
    options=("sigma",),
    returns=one_each(lambda given: given[2][..., 0], "direction and problem"),
    probes=lambda: [
        (product, *_by_hand(), {"sigma": 0.5}),
        (waves, *_one_problem(), {"sigma": 0.5}),
        (waves, *_one_problem(), {"sigma": 1.5}),
        (waves, *_problems(), {"sigma": 0.5}),
        (_raised(waves, 1e6), *_one_problem(), {"sigma": 0.5}),
    ],
)

F = Callable[[Tensor], Tensor]


def product(x: Tensor) -> Tensor:
    """x₁² x₂."""
    return x[..., 0] ** 2 * x[..., 1]


def waves(x: Tensor) -> Tensor:
    """sin(2 x₁) + exp(x₂) + x₁² x₂."""
    return (2 * x[..., 0]).sin() + x[..., 1].exp() + x[..., 0] ** 2 * x[..., 1]


def _raised(f: F, level: float) -> F:
    return lambda x: f(x) + level


def _by_hand() -> tuple[Tensor, Tensor]:
    """With x₁² x₂ and σ = 0.5, b = (4, 6)."""
    return row(1.0, 2.0), table((2.0, 0.0), (-4.0, 2.0))


def _one_problem() -> tuple[Tensor, Tensor]:
    """Three directions in the plane."""
    return row(0.5, -0.3), table((1.0, 0.5), (-0.5, 1.5), (2.0, -1.0))


def _problems() -> tuple[Tensor, Tensor]:
    """Six problems with three directions in the plane."""
    return short(6, 2, seed=3) / 2, short(3, 6, 2, seed=4) / 2


def _at(theta: Tensor, directions: Tensor, sigma: float) -> str:
    return f"at θ = {words(theta)} with u = {rows(directions)} and σ = {sigma:g}"


def _compared(answer, f: F, theta: Tensor, directions: Tensor, wanted: Tensor, said: str, why: str) -> str | None:
    mine = answer(f, theta.clone(), directions.clone(), sigma=0.5)
    return told(mine, wanted, f"for f(x) = {said}, {_at(theta, directions, 0.5)}", why, "baselines")


@antithetic.requires("one baseline per direction, and it looks at no other direction and no other problem")
def _(answer):
    theta, directions = _problems()
    problem = each_by_itself(
        lambda theta, u: answer(waves, theta, u, sigma=0.5),
        (theta, 0),
        (directions, 1),
        at=[f"θ = {words(x)}" for x in theta],
        what="baselines",
        advice="Each has its own θ, and no mean runs over them.",
        result_axis=1,
    )
    if problem:
        return problem
    theta, directions = _one_problem()
    together = answer(waves, theta.clone(), directions.clone(), sigma=0.5)
    for p in range(3):
        alone = answer(waves, theta.clone(), directions[p : p + 1].clone(), sigma=0.5)[0]
        if off(together[p], alone) is not None:
            got, must = pair(together[p], alone)
            return (
                f"the direction u = {words(directions[p])} has the baseline {must} by itself and {got} beside two "
                "others. The two sides are to agree for any directions, so b(u) knows its own u and no other: no mean "
                "over them."
            )
    return None


@antithetic.requires("the same for u and −u")
def _(answer):
    theta, directions = _one_problem()
    there = answer(waves, theta.clone(), directions.clone(), sigma=0.5)
    back = answer(waves, theta.clone(), -directions, sigma=0.5)
    if (p := off(there, back)) is None:
        return None
    one, other = pair(there[p], back[p])
    return (
        f"for f(x) = sin(2 x₁) + exp(x₂) + x₁² x₂ at θ = {words(theta)}, σ = 0.5, your b is {one} for u = "
        f"{words(directions[p])}, and {other} for −u. Exchange the two points of a pair, and the central difference is "
        "the same: b must not tell which of them is the plus."
    )


@antithetic.requires("two directions, by hand")
def _(answer):
    for dtype in (torch.float64, torch.float32):
        theta, directions = _by_hand()
        problem = told(
            answer(product, theta.to(dtype), directions.to(dtype), sigma=0.5),
            row(4.0, 6.0),
            f"for f(x) = x₁² x₂ {_at(theta, directions, 0.5)}",
            "By hand: f is 8 at (2, 2) and 0 at (0, 2), and 3 at (−1, 3) and 9 at (3, 1). So f(θ + σ u) − b must be "
            "half of 8 − 0 for the first pair, and half of 3 − 9 for the second.",
            "baselines",
        )
        if problem:
            return problem
    return None


@antithetic.requires("all of an even function is taken away")
def _(answer):
    theta, directions = _one_problem()

    def valley(x: Tensor) -> Tensor:
        v = x - theta
        return 1 + 4 * v[..., 0] * v[..., 1] + v[..., 0] ** 4 + v[..., 1].abs()

    return _compared(
        answer,
        valley,
        theta,
        directions,
        valley(theta + 0.5 * directions),
        "1 + 4 v₁ v₂ + v₁⁴ + |v₂| with v = x − θ",
        "f is the same on both sides of θ, the central difference is 0, and so is f(θ + σ u) − b: not only the level "
        "f(θ) = 1 has to go.",
    )


@antithetic.requires("nothing of an odd function is taken away, but its level")
def _(answer):
    theta, directions = _one_problem()

    def slope(x: Tensor) -> Tensor:
        v = x - theta
        return 5 + 2 * v[..., 0] - v[..., 1] ** 3

    return _compared(
        answer,
        slope,
        theta,
        directions,
        torch.full((3,), 5.0, dtype=torch.float64),
        "5 + 2 v₁ − v₂³ with v = x − θ",
        "Beyond its level 5, f turns its sign from one side of θ to the other. That is the whole signal: nothing of it "
        "may be subtracted.",
    )


@antithetic.requires("REINFORCE with it is the central difference")
def _(answer):
    for sigma in (0.5, 1.5):
        theta, directions = _one_problem()
        plus, minus = waves(theta + sigma * directions), waves(theta - sigma * directions)
        mine = answer(waves, theta.clone(), directions.clone(), sigma=sigma)
        estimate, central = (
            (weights.unsqueeze(-1) * directions).mean(0) / sigma for weights in (plus - mine, (plus - minus) / 2)
        )
        if off(estimate, central) is not None:
            got, must = pair(estimate, central)
            return (
                f"for f(x) = sin(2 x₁) + exp(x₂) + x₁² x₂ {_at(theta, directions, sigma)} REINFORCE on the plus side "
                f"is {got} with your b = {words(mine.detach())}, and the central difference is {must}. Of each value, "
                "half of f(θ + σ u) − f(θ − σ u) has to be left."
            )
    return None


@antithetic.requires("no bias: the mean of b(u) u over all directions is zero")
def _(answer):
    theta = row(0.5, -0.3)
    grid = torch.cartesian_prod(*[row(-1.0, 0.0, 1.0)] * 2)
    directions = grid[grid.abs().sum(-1) > 0]
    mine = answer(waves, theta.clone(), directions.clone(), sigma=0.5)
    return told(
        (mine.unsqueeze(-1) * directions).mean(0),
        row(0.0, 0.0),
        "for f(x) = sin(2 x₁) + exp(x₂) + x₁² x₂ at θ = (0.5, −0.3) with σ = 0.5 and the eight directions with "
        "coordinates of −1, 0 and 1,",
        "What a baseline adds to the gradient on average is bias. These directions come in pairs u and −u, and for an "
        "even b(u) they cancel.",
        "mean of b(u) u",
    )


@antithetic.requires("a level added to f is added to b")
def _(answer):
    theta, directions = _one_problem()
    once = answer(waves, theta.clone(), directions.clone(), sigma=0.5)
    for level, said in ((7.0, "7"), (-1e6, "minus one million")):
        moved = answer(_raised(waves, level), theta.clone(), directions.clone(), sigma=0.5) - level
        if off(moved, once) is not None:
            got, must = pair(moved, once)
            lost = level < 0 and off(moved, once, 0.1) is None
            why = SINGLE if lost else "A level is part of what both points share: f − b must not notice it."
            return (
                f"for f(x) = sin(2 x₁) + exp(x₂) + x₁² x₂ {_at(theta, directions, 0.5)} your baselines are {must}. "
                f"With {said} added to f they must be these plus {said}, and yours are {got} plus {said}. {why}"
            )
    return None


@antithetic.requires("the baseline of a sum of functions is the sum of their baselines")
def _(answer):
    theta, directions = _one_problem()

    def baselines(f: F) -> Tensor:
        return answer(f, theta.clone(), directions.clone(), sigma=0.5)

    one, other = baselines(product), baselines(waves)
    both = baselines(lambda x: product(x) - 2 * waves(x))
    if off(both, one - 2 * other) is None:
        return None
    got, must = pair(both, one - 2 * other)
    return (
        f"for f = x₁² x₂ and for h = sin(2 x₁) + exp(x₂) + x₁² x₂ {_at(theta, directions, 0.5)} your baselines are "
        f"{words(one.detach())} and {words(other.detach())}. For f − 2 h they must be {must}, and yours are {got}. The "
        "central difference is linear in f, and so is what is left of f after it: no minimum, no maximum, no root."
    )


# ---------------------------------------------------------------- wrong answers


def _values(f, theta, directions, sigma):
    """f on both sides, for answers that are wrong elsewhere."""
    return f(theta + sigma * directions), f(theta - sigma * directions)


@antithetic.mutant(
    "value_at_the_centre",
    "With f(θ) it is the forward difference. A constant is even and has no bias, but the curvature along u stays in.",
)
def _(f, theta, directions, sigma):
    return f(theta).expand(directions.shape[:-1]).clone()


@antithetic.mutant(
    "the_mirrored_value",
    "The mirrored value alone takes away too much. Its odd part has the opposite sign, so that of f is doubled: the "
    "estimate is twice as long.",
)
def _(f, theta, directions, sigma):
    return _values(f, theta, directions, sigma)[1]


@antithetic.mutant(
    "half_of_the_difference",
    "Half of the difference is the odd part, the signal itself. It is what has to be left, not what is subtracted.",
)
def _(f, theta, directions, sigma):
    plus, minus = _values(f, theta, directions, sigma)
    return (plus - minus) / 2


@antithetic.mutant("sum_of_both", "The sum of the two values is twice the even part: the half is missing.")
def _(f, theta, directions, sigma):
    plus, minus = _values(f, theta, directions, sigma)
    return plus + minus


@antithetic.mutant(
    "mean_of_the_plus_side",
    "The mean over the directions is the batch mean of another estimator. A central difference looks at one pair at a "
    "time, and is right with a single one.",
)
def _(f, theta, directions, sigma):
    plus, _ = _values(f, theta, directions, sigma)
    return plus.mean(0, keepdim=True).expand_as(plus).clone()


@antithetic.mutant(
    "mean_over_all_pairs",
    "The even part was averaged over the directions. That is a constant, and leaves in what curvature differs from one "
    "direction to the next.",
)
def _(f, theta, directions, sigma):
    plus, minus = _values(f, theta, directions, sigma)
    return ((plus + minus) / 2).mean(0, keepdim=True).expand_as(plus).clone()


@antithetic.mutant(
    "others_on_the_plus_side",
    "The mean of the other plus values is leave-one-out: a good baseline, and another estimator.",
)
def _(f, theta, directions, sigma):
    plus, _ = _values(f, theta, directions, sigma)
    return (plus.sum(0) - plus) / max(len(plus) - 1, 1)


@antithetic.mutant("its_own_value", "A baseline that is the value itself leaves nothing of it.")
def _(f, theta, directions, sigma):
    return _values(f, theta, directions, sigma)[0]


@antithetic.mutant(
    "no_baseline", "With b = 0 it is one-point REINFORCE, with the level and all of the curvature in it."
)
def _(f, theta, directions, sigma):
    return torch.zeros_like(directions[..., 0])


@antithetic.mutant("sigma_forgotten", "The points are θ + σ u and θ − σ u: without σ the pair is another one.")
def _(f, theta, directions, sigma):
    return sum(_values(f, theta, directions, 1.0)) / 2


@antithetic.mutant(
    "sigma_squared",
    "The variance of the policy is σ². Its samples are θ + σ u, with the standard deviation.",
)
def _(f, theta, directions, sigma):
    return sum(_values(f, theta, directions, sigma**2)) / 2


@antithetic.mutant(
    "mirrored_at_the_origin",
    "−(θ + σ u) is the mirror image at the origin. The pair lies on both sides of θ.",
)
def _(f, theta, directions, sigma):
    point = theta + sigma * directions
    return (f(point) + f(-point)) / 2


@antithetic.mutant("theta_forgotten", "The points were taken around the origin, and not around θ.")
def _(f, theta, directions, sigma):
    return (f(sigma * directions) + f(-sigma * directions)) / 2


@antithetic.mutant(
    "smaller_of_the_two",
    "The smaller of the two values is even, so it has no bias; but REINFORCE with it uses only the pairs whose plus "
    "side is the worse one, and it is not the central difference.",
)
def _(f, theta, directions, sigma):
    return torch.minimum(*_values(f, theta, directions, sigma))


@antithetic.mutant(
    "larger_of_the_two",
    "The larger of the two values is even, so it has no bias; but it is not half of their sum.",
)
def _(f, theta, directions, sigma):
    return torch.maximum(*_values(f, theta, directions, sigma))


@antithetic.mutant(
    "root_mean_square",
    "The root of the mean square is even, but not linear: a level added to f changes it by something else.",
)
def _(f, theta, directions, sigma):
    plus, minus = _values(f, theta, directions, sigma)
    return ((plus**2 + minus**2) / 2).sqrt()


@antithetic.mutant(
    "centre_counted_as_well",
    "The mean of all three points counts f(θ) in. It is even, and takes only two thirds of the curvature away.",
)
def _(f, theta, directions, sigma):
    plus, minus = _values(f, theta, directions, sigma)
    return (plus + minus + f(theta)) / 3


@antithetic.mutant("slope_returned", "This is the slope along u. The baseline is a value of f.")
def _(f, theta, directions, sigma):
    plus, minus = _values(f, theta, directions, sigma)
    return (plus - minus) / (2 * sigma)


@antithetic.mutant("estimate_returned", "This is the central difference itself. The baseline was asked for.")
def _(f, theta, directions, sigma):
    plus, minus = _values(f, theta, directions, sigma)
    return ((plus - minus).unsqueeze(-1) * directions).mean(0) / (2 * sigma)


@antithetic.mutant(
    "mean_over_the_problems",
    "The mean runs over the problems as well. Each has its own θ, and its own values there.",
)
def _(f, theta, directions, sigma):
    plus, minus = _values(f, theta, directions, sigma)
    even = (plus + minus) / 2
    return even if even.dim() == 1 else even.mean(-1, keepdim=True).expand_as(even).clone()


# ---------------------------------------------------------------- right answers


@antithetic.accepts("what is left of the plus value after half of the difference")
def _(f, theta, directions, sigma):
    plus, minus = f(theta + sigma * directions), f(theta - sigma * directions)
    return plus - 0.5 * (plus - minus)


@antithetic.accepts("both sides asked at once")
def _(f, theta, directions, sigma):
    both = torch.stack((directions, -directions))
    return f(theta + sigma * both).mean(0)


@antithetic.accepts("the level, and half of the second difference")
def _(f, theta, directions, sigma):
    centre = f(theta)
    second = f(theta + sigma * directions) - 2 * centre + f(theta - sigma * directions)
    return centre + second / 2


@antithetic.accepts("direction by direction, in a loop")
def _(f, theta, directions, sigma):
    found = []
    for u in directions:
        point = theta + sigma * u
        mirror = 2 * theta - point
        found.append(torch.lerp(f(point), f(mirror), 0.5))
    return torch.stack(found)
