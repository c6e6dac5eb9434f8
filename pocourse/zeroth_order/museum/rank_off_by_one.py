"""Weights of ranks that are one too large, and do not add up to zero."""

import torch

from pocourse.lesson.exercises import exercise
from pocourse.lesson.museum import Suspect, catches, clears, piece, yes_or_no
from pocourse.lesson.wrong import Wrong
from pocourse.zeroth_order.estimators import centred_ranks

# ---------------------------------------------------------------- the wrong code, ours


def rank_off_by_one(values, keep):
    count, rank = len(values), values.argsort().argsort()  # the best has rank 0
    weights = torch.where(rank < keep, 2 * rank - count, keep).to(values)
    return weights / pairs_ranked(count, keep)


# ---------------------------------------------------------------- the task


def pairs_ranked(count, keep):
    """How many pairs an order of the ``keep`` best of ``count`` decides."""
    return keep * (keep - 1) / 2 + keep * (count - keep)


def ranks(values):
    return values.argsort().argsort().to(values)


def by_formula(values, keep):
    count, rank = len(values), ranks(values)
    return torch.where(rank < keep, 2 * rank - count + 1, keep) / pairs_ranked(count, keep)


def pair_by_pair(values, keep):
    """Every pair with at least one of the best in it gives a step from the better towards the worse."""
    weights, best = [0.0] * len(values), values.argsort().tolist()
    for place, i in enumerate(best[:keep]):
        for j in best[place + 1 :]:
            weights[j] += 1
            weights[i] -= 1
    return torch.tensor(weights).to(values)


def tied_ranks(values, keep):
    """Centred ranks in which all that was not ranked is tied."""
    if keep < len(values):
        values = values.clamp(max=values.sort().values[keep])
    return centred_ranks(values)


def less_their_mean(values, keep):
    return (values - values.mean()) / (len(values) - 1)


def softmin_less_uniform(values, keep):
    """A step from the middle of all points towards their consensus, turned round."""
    return 1 / len(values) - (-values).softmax(0)


def one_too_small(values, keep):
    rank = ranks(values)
    return torch.where(rank < keep, 2 * rank - len(values) + 2, keep) / pairs_ranked(len(values), keep)


def ranks_from_one(values, keep):
    rank = ranks(values) + 1
    return torch.where(rank <= keep, 2 * rank - len(values) + 1, keep) / pairs_ranked(len(values), keep)


def halved_as_whole_number(values, keep):
    """Right for an odd number of points: ``//`` forgets the half of an even one."""
    rank = ranks(values)
    return torch.where(rank < keep, 2 * (rank - len(values) // 2), keep) / pairs_ranked(len(values), keep)


def the_rest_forgotten(values, keep):
    rank = ranks(values)
    return torch.where(rank < keep, 2 * rank - len(values) + 1, 0) / pairs_ranked(len(values), keep)


def one_for_the_rest(values, keep):
    """Right where one point is ranked, or all of them."""
    rank = ranks(values)
    return torch.where(rank < keep, 2 * rank - len(values) + 1, 1) / pairs_ranked(len(values), keep)


def sorted_once(values, keep):
    """``argsort`` says which point has a rank; which rank a point has it says when applied twice."""
    rank = values.argsort().to(values)
    return torch.where(rank < keep, 2 * rank - len(values) + 1, keep) / pairs_ranked(len(values), keep)


def place_for_rank(values, keep):
    rank = torch.arange(len(values)).to(values)
    return torch.where(rank < keep, 2 * rank - len(values) + 1, keep) / pairs_ranked(len(values), keep)


def best_counts_positive(values, keep):
    return -by_formula(values, keep)


def nothing_at_all(values, keep):
    return 0 * values


no_pull = exercise(
    "zeroth_order.catch_rank_off_by_one",
    title="Catch weights that pull",
    section="Bug museum",
    difficulty=2,
    minutes=8,
    task="""
Somebody compares m points θ + uᵢ with one another and tells the order of the best k. From that a code makes weights for
g = Σ wᵢuᵢ, and the step is −g. A comparison sees *differences* of points only: if all uᵢ are moved by the same vector,
g must not change. And a better point never has a larger weight than a worse one.

Write `no_pull(weights)`. `weights(values, keep)` takes m ≥ 2 different values, the least of them the best, and the
number k of points that are ranked, from 1 to m; it returns the m weights, in the order of the values. Return `True` if
both hold for all m and k, and the best point has a weight below zero; otherwise `False`.

Any scale is right, and so is any way of weighing that keeps to the two rules: some codes on trial make no use of k.
""",
    stub="""
def no_pull(weights):
    ...
""",
    hints=(
        "g changes by c Σ wᵢ if all uᵢ are moved by c. What must the weights add up to?",
        "One m and one k are not enough: with k = m there is no rest that could have a wrong weight, with k = 1 no "
        "second rank, and some slips hide behind an odd m, others behind values that are sorted already.",
        "`w = weights(values, keep)[values.argsort()]` are the weights from the best to the worst. Try m = 5 and m = 6 "
        "with every k; `w.sum()` is zero up to rounding, `w.diff()` nowhere below it, and `w[0] < 0`.",
    ),
    solution="""
def no_pull(weights):
    for m in (5, 6):
        values = torch.randn(m, generator=torch.Generator().manual_seed(m), dtype=torch.float64)
        for keep in range(1, m + 1):
            w = weights(values, keep)[values.argsort()]
            if w.sum().abs() > 1e-5 or (w.diff() < -1e-5).any() or w[0] >= 0:
                return False
    return True
""",
    after="""
**A sum is a test that costs a line.** Weights that add up to zero carry a baseline of their own: whatever all points
have in common drops out, and so does any constant in f. Where they add up to −s, the step −g moves by sc whenever all
points are moved by c.

The count of all pairs is the definition, and the formula follows from it: a point of rank r < k loses r comparisons and
wins m − 1 − r. You cleared it together with ranks, values less their mean and a softmax, for you tested what they have
in common. And `argsort` is no rank: it needs to be applied twice.
""",
    parameters=("weights",),
    returns=yes_or_no,
    probes=lambda: [
        (code,)
        for code in (
            by_formula,
            pair_by_pair,
            less_their_mean,
            softmin_less_uniform,
            rank_off_by_one,
            one_too_small,
            ranks_from_one,
            halved_as_whole_number,
            the_rest_forgotten,
            one_for_the_rest,
            sorted_once,
            place_for_rank,
            best_counts_positive,
            nothing_at_all,
            # These do nothing sensible: they tell tests apart that are wrong in different ways.
            lambda values, keep: values,
            lambda values, keep: values - values.mean() + 1e-3,
            lambda values, keep: torch.ones_like(values),
            lambda values, keep: 1e3 * by_formula(values, keep) + 1,
            lambda values, keep: values.sort().values - values.mean(),
            lambda values, keep: (values - values.mean()).sign(),
        )
    ],
)


@no_pull.requires("clears weights of pairs, however they are counted")
def _(answer):
    return clears(
        answer,
        [
            Suspect("the formula for pairs", by_formula, "which is right"),
            Suspect("a count over all pairs", pair_by_pair, "which is right at another scale"),
            Suspect("centred ranks with all that is not ranked tied", tied_ranks, "which is the same at another scale"),
        ],
    )


@no_pull.requires("clears other weights without a pull")
def _(answer):
    why = "which keeps to both rules: test these, not one formula"
    return clears(
        answer,
        [
            Suspect("values less their mean", less_their_mean, why),
            Suspect("a softmax less its mean", softmin_less_uniform, why),
        ],
    )


@no_pull.requires("catches the published mistake")
def _(answer):
    why = "whose weights add up to −k over the number of pairs"
    return catches(answer, [Suspect("the published mistake", rank_off_by_one, why)])


@no_pull.requires("catches ranks that are off in another way")
def _(answer):
    return catches(
        answer,
        [
            Suspect("ranks that are one off the other way", one_too_small, "whose weights add up to more than zero"),
            Suspect("the right formula with ranks from 1", ranks_from_one, "in which each ranked point weighs 2 more"),
            Suspect(
                "the formula with `m // 2`",
                halved_as_whole_number,
                "which is right for an odd m, and for an even one the published mistake",
            ),
        ],
    )


@no_pull.requires("catches a wrong weight for the rest")
def _(answer):
    return catches(
        answer,
        [
            Suspect("a rest without weight", the_rest_forgotten, "which is right only where all points are ranked"),
            Suspect("a rest with weight 1", one_for_the_rest, "which is right for k = 1 and for k = m, not between"),
        ],
    )


@no_pull.requires("catches weights in the wrong order")
def _(answer):
    return catches(
        answer,
        [
            Suspect(
                "a single `argsort` for ranks",
                sorted_once,
                "which adds up to zero, and weighs the wrong points unless their order comes of swaps: mix them well",
            ),
            Suspect("a point's place for its rank", place_for_rank, "which is right for sorted values alone"),
            Suspect("weights with their sign turned", best_counts_positive, "which lead uphill"),
            Suspect("weights of zero", nothing_at_all, "with which nothing moves"),
        ],
    )


def _sorted_weights(weights, m, keep, seed=11):
    values = torch.randn(m, generator=torch.Generator().manual_seed(seed + m), dtype=torch.float64)
    return weights(values, keep)[values.argsort()]


def _fine(w, tolerance=1e-5):
    return bool(w.sum().abs() < tolerance and (w.diff() > -1e-5).all() and w[0] < 0)


def _all(check, sizes=(4, 7)):
    return all(check(m, keep) for m in sizes for keep in range(1, m + 1))


@no_pull.mutant("always_true", "It says True to everything on trial.")
def _(weights):
    return True


@no_pull.mutant("order_forgotten", "It adds up the weights alone. On the wrong points they can add up to zero as well.")
def _(weights):
    return _all(lambda m, keep: _sorted_weights(weights, m, keep).sum().abs() < 1e-5)


@no_pull.mutant("sum_forgotten", "It looks at the order of the weights alone. The published mistake keeps to it.")
def _(weights):
    def ordered(m, keep):
        w = _sorted_weights(weights, m, keep)
        return bool((w.diff() > -1e-5).all() and w[0] < 0)

    return _all(ordered)


@no_pull.mutant("all_ranked", "It ranks all points, and so there is no rest whose weight could be wrong.")
def _(weights):
    return all(_fine(_sorted_weights(weights, m, m)) for m in (5, 6))


@no_pull.mutant("one_ranked", "It ranks the best point alone, and a rest with weight 1 is right then.")
def _(weights):
    return all(_fine(_sorted_weights(weights, m, 1)) for m in (5, 6))


@no_pull.mutant("odd_numbers", "Its m is odd, and half of m − 1 a whole number.")
def _(weights):
    return _all(lambda m, keep: _fine(_sorted_weights(weights, m, keep)), sizes=(3, 5, 7))


@no_pull.mutant("sorted_values", "Its values are sorted already: a point's place is its rank, and so is `argsort`.")
def _(weights):
    return _all(lambda m, keep: _fine(weights(torch.linspace(-1, 2, m, dtype=torch.float64), keep)))


@no_pull.mutant("two_points", "It compares two points. There are two orders of them, and `argsort` is right for both.")
def _(weights):
    pairs = (torch.tensor(x, dtype=torch.float64) for x in ([0.2, 1.0], [3.0, -1.0]))
    return all(_fine(weights(values, keep)[values.argsort()]) for values in pairs for keep in (1, 2))


@no_pull.mutant("below_a_tenth", "It lets a sum of 0.3 pass for zero. The weights are small, and their sum is as well.")
def _(weights):
    return _all(lambda m, keep: _fine(_sorted_weights(weights, m, keep), tolerance=0.3), sizes=(8,))


@no_pull.mutant("exactly_zero", "It wants a sum of exactly 0. Rounding leaves 1e-17: leave it some room.")
def _(weights):
    def exact(m, keep):
        w = _sorted_weights(weights, m, keep)
        return _fine(w) and bool(w.sum() == 0)

    return _all(exact, sizes=(5, 6, 7, 9))


@no_pull.mutant(
    "no_two_alike", "It wants every worse point to weigh more. Those that are not ranked are all alike, and rightly so."
)
def _(weights):
    return _all(lambda m, keep: bool((_sorted_weights(weights, m, keep).diff() > 1e-9).all()))


@no_pull.mutant("both_signs", "It asks for weights of both signs. Their sum can still be anything.")
def _(weights):
    def both(m, keep):
        w = _sorted_weights(weights, m, keep)
        return bool(w[0] < 0 and w[-1] > 0)

    return _all(both)


@no_pull.mutant("one_formula", "It compares with one formula, up to a scale. Other weights keep to the rules as well.")
def _(weights):
    def same(m, keep):
        values = torch.randn(m, generator=torch.Generator().manual_seed(m), dtype=torch.float64)
        one, other = weights(values, keep).double(), by_formula(values, keep).double()
        return torch.allclose(one / one.norm(), other / other.norm())

    return _all(same)


@no_pull.accepts("the points are moved")
def _(weights):
    generator = torch.Generator().manual_seed(3)
    for m in (4, 7):
        u = torch.randn(m, 3, generator=generator, dtype=torch.float64)
        values = u[:, 0].exp()
        for keep in range(1, m + 1):
            w = weights(values, keep).double()
            if not torch.allclose(w @ u, w @ (u + torch.tensor([30.0, -10.0, 20.0])), atol=1e-4):
                return False
            order = values.unsqueeze(0) < values.unsqueeze(1)  # the second is better than the first
            if (order & (w.unsqueeze(0) > w.unsqueeze(1) + 1e-6)).any() or w[values.argmin()] >= 0:
                return False
    return True


@no_pull.accepts("the weights pile up below zero")
def _(weights):
    # From the best to the worst the sum falls, rises, and ends at zero.
    for values in ([4.0, -1.0, 0.5, 9.0, 2.0, 3.0], [0.3, 0.2, 0.9, 0.1, 0.5]):
        values = torch.tensor(values, dtype=torch.float64)
        for keep in range(1, len(values) + 1):
            w = weights(values, keep).double()[values.argsort()]
            heap = w.cumsum(0)
            if not (heap[:-1] < -1e-9).all() or heap[-1].abs() > 1e-6 or (w[1:] < w[:-1] - 1e-6).any():
                return False
    return True


piece(
    "zeroth_order.rank_off_by_one",
    title="One rank too many",
    section="7",
    wrong=Wrong(
        "rank_off_by_one",
        "A point of rank r, counted from 0, is worse than r of the m points and better than m − 1 − r: it is not "
        "compared with itself. m − 2r in place of m − 1 − 2r gives each ranked point one comparison too many. In g the "
        "weights then add up to −k, before the division, and no longer to zero: every step has an extra pull towards "
        "the mean of the k best. With all points ranked that is the mean of all directions, pure noise; and of two "
        "points the worse has weight 0.",
        rank_off_by_one,
        "the public code of ZO-RankSGD",
    ),
    published=(
        "The public code of ZO-RankSGD (arXiv 2303.03751), `Taming-Stable-Diffusion-with-Human-Ranking-Feedback`, "
        "`optimizer.py`, commit `b453fe7` of 2023-03-07. Along its step a point of rank r among the best k weighs "
        "m − 2r, with r counted from 0, and every other one −k; the sum is divided by the number of pairs, which is "
        "right. A search over several lengths of the step follows. We found no thread; the file:"
    ),
    thread="https://github.com/TZW1998/Taming-Stable-Diffusion-with-Human-Ranking-Feedback/blob/b453fe7/optimizer.py",
    corrected="Not corrected at commit `13d5a26` of 2023-03-08, the newest that we saw.",
    symptom=(
        "On the left are the weights in g of six points of which the best three are ranked: wherever there is a rank, "
        "the wrong weight sits one unit too low. In the middle all points are ranked, and f is linear: the cosine of "
        "the step with the way down. For two points it is lower by the root of two, and for ten the loss is hard to "
        "see: whoever judges by results would not find it. On the right all six points are moved by the same vector, "
        "across the gradient. The right step does not notice; the wrong one follows it, a quarter of the way."
    ),
    right=by_formula,
    exercise="zeroth_order.catch_rank_off_by_one",
    note=(
        "The right weights need no formula of their own: they are centred ranks, in which all that has not been ranked "
        "is tied and shares its mean rank (4.26 for k = m)."
    ),
)
