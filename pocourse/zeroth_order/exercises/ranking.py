"""The weights of a ranking, for section 7."""

import torch
from torch import Tensor

from pocourse.lesson.exercises import exercise
from pocourse.zeroth_order.exercises._shared import (
    each_by_itself,
    off,
    one_each,
    pair,
    row,
    short,
    told,
    words,
)

rank_weights = exercise(
    "zeroth_order.rank_weights",
    title="What a ranking is worth",
    section="7",
    difficulty=3,
    minutes=9,
    task="""
Nobody tells you values. Of m points θ + σ uᵢ you hear which k are the best, in their order, and no more: somebody has
looked at m pictures and named the best k. Of a pair of points you know which is better if at least one of the two is
among the k. Let E be the set of all such pairs, and |E| their number. ZO-RankSGD averages over them the step from the
better point to the worse one:

**ĝ = 1 / |E| · Σ ( u of the worse − u of the better ) = Σᵢ wᵢ uᵢ**

Each u stands in many pairs, here with a plus and there with a minus. What is its weight w in the end?

Write it. `rank_weights(values, k)` receives

- `values`, a tensor whose first axis counts the m points, 2 or more of them. The least value is the best, no two are
  equal, and nothing but their order may be used. Each index of the axes after it, if there are any, is a problem of its
  own, with a ranking of its own;
- `k`, a whole number from 1 to m

and returns the weights w, a tensor of the shape and dtype of `values`.
""",
    stub='''
def rank_weights(values, k):
    """The weight of each point's direction when the best k are ranked."""
    ...
''',
    hints=(
        "Follow one point. In how many pairs of E is it the worse one, in how many the better one? Begin with the best "
        "of all, go on with the second, and end with one that nobody has named.",
        "The point of rank r, counted from 0, is better than m − 1 − r others and worse than r. One that was not named "
        "is worse than the k, and forms no pair with another one of its kind. In E are all pairs within the k, and all "
        "of one of the k with one of the other m − k.",
        "`values.argsort(0).argsort(0)` gives each point its rank along the first axis; a single `argsort` tells which "
        "point has rank r. Then `torch.where(rank < k, ..., k)`, with the plus pairs less the minus pairs of a named "
        "point in the place of the dots, and all of it divided by |E| = k (k − 1) / 2 + k (m − k).",
    ),
    solution="""
def rank_weights(values, k):
    m = len(values)
    edges = k * (k - 1) / 2 + k * (m - k)
    rank = values.argsort(0).argsort(0)
    net = torch.where(rank < k, 2 * rank - (m - 1), k)
    return net.to(values.dtype) / edges
""",
    after="""
The weights sum to zero, because each pair gives as much as it takes: a ranking has its baseline built in. With k = m
they are 4 / m times the centred ranks of evolution strategies (4.26), and k = m − 1 says as much, for whoever is not
named is the last. What is lost is the length: these weights are the same on a slope and on a cliff, so a step made of
them does not become shorter near the minimum by itself. And one more or one less in the count of pairs is no trifle:
weights that do not sum to zero let in what all u have in common, of which no pair knows.
""",
    parameters=("values",),
    options=("k",),
    returns=one_each(lambda given: given[0], "point"),
    probes=lambda: [
        (_four(), {"k": 2}),
        (_five(), {"k": 5}),
        (_seven(), {"k": 1}),
        (_seven(), {"k": 3}),
        (_seven(), {"k": 6}),
        (_problems(), {"k": 2}),
        (_problems().unflatten(1, (2, 3)), {"k": 3}),
    ],
)


def _four() -> Tensor:
    """Ranks 3, 0, 1, 2."""
    return row(4.0, -2.0, 0.5, 1.0)


def _five() -> Tensor:
    """Ranks 1, 3, 0, 4, 2."""
    return row(2.0, 9.0, -1.0, 20.0, 3.0)


def _seven() -> Tensor:
    """Ranks 4, 0, 6, 2, 3, 5, 1."""
    return row(1.5, -3.0, 8.0, 0.2, 0.7, 6.0, -1.0)


def _problems() -> Tensor:
    """Six problems of five points each, on levels that lie apart; no two values of a problem are equal."""
    return short(5, 6, seed=9) + row(0.0, 5.0, -3.0, 8.0, 2.0, -6.0)


def _pairs(values: Tensor, k: int) -> tuple[Tensor, int]:
    """The sum over all known pairs, pair by pair, and how many there are."""
    order = values.argsort().tolist()
    total, count = torch.zeros_like(values), 0
    for place, better in enumerate(order[:k]):
        for worse in order[place + 1 :]:
            total[better] -= 1
            total[worse] += 1
            count += 1
    return total, count


@rank_weights.requires("one weight per point, whatever axes come after")
def _(answer):
    values = _problems()
    return each_by_itself(
        lambda y: answer(y, k=2),
        (values, 1),
        at=[f"y = {words(values[:, i])}" for i in range(6)],
        what="weights",
        advice="Each has a ranking of its own: sort along the first axis, that of the points.",
        result_axis=1,
    )


@rank_weights.requires("two points, one pair")
def _(answer):
    for dtype in (torch.float64, torch.float32):
        for k in (1, 2):
            problem = told(
                answer(row(3.0, 1.0, dtype=dtype), k=k),
                row(1.0, -1.0),
                f"for y = (3, 1) and k = {k}",
                "By hand: there is one pair, the second point is the better one, and u of the worse minus u of the "
                "better is u₁ − u₂. A gradient points to where f grows.",
                "weights",
            )
            if problem:
                return problem
    return None


@rank_weights.requires("four points, the best two named, by hand")
def _(answer):
    return told(
        answer(_four(), k=2),
        row(0.4, -0.6, -0.2, 0.4),
        f"for y = {words(_four())} and k = 2",
        "By hand: |E| = 1 + 2 × 2 = 5. The best is better than 3 and worse than none, −3; the second is better than 2 "
        "and worse than 1, −1; the other two are worse than 2 each, and not compared with one another.",
        "weights",
    )


@rank_weights.requires("only the best one named")
def _(answer):
    for values in (_four(), _five(), _seven()):
        m = len(values)
        wanted = torch.full_like(values, 1 / (m - 1))
        wanted[values.argmin()] = -1.0
        problem = told(
            answer(values.clone(), k=1),
            wanted,
            f"for y = {words(values)} and k = 1",
            f"There are {m - 1} pairs, and the best is the better one in all of them: −{m - 1} over {m - 1}. Of the "
            "others, each is the worse one in a single pair.",
            "weights",
        )
        if problem:
            return problem
    return None


@rank_weights.requires("all of them named: centred ranks")
def _(answer):
    return told(
        answer(_five(), k=5),
        row(-0.2, 0.2, -0.4, 0.4, 0.0),
        f"for y = {words(_five())} and k = 5",
        "By hand: |E| = 10, all pairs of five. The best is better than 4, the next than 3 and worse than 1, and so on: "
        "−4, −2, 0, 2, 4 over 10, which is 4 / 5 of the centred ranks −1/2, −1/4, 0, 1/4, 1/2 (4.26).",
        "weights",
    )


@rank_weights.requires("all but one named is as good as all of them")
def _(answer):
    for values in (_four(), _seven()):
        m = len(values)
        last, every = answer(values.clone(), k=m - 1), answer(values.clone(), k=m)
        if off(last, every) is not None:
            got, must = pair(last, every)
            return (
                f"for y = {words(values)} your weights are {got} with k = {m - 1}, and {must} with k = {m}. Whoever is "
                "not named is the last, so the pairs are the same, and so must be the weights."
            )
    return None


@rank_weights.requires("the weights sum to zero")
def _(answer):
    for values in (_four(), _five(), _seven()):
        for k in range(1, len(values) + 1):
            mine = answer(values.clone(), k=k)
            problem = told(
                mine.sum(),
                row(0.0)[0],
                f"for y = {words(values)} and k = {k} your weights are {words(mine.detach())}, and",
                "Every pair gives +1 to one point and −1 to another. If all u were the same, there would be no step: "
                "count once more how many are worse, and how many better.",
                "sum",
            )
            if problem:
                return problem.replace("your sum", "their sum")
    return None


@rank_weights.requires("the sum over all pairs, pair by pair")
def _(answer):
    for values in (_four(), _five(), _seven(), short(9, seed=10)):
        for k in range(1, len(values) + 1):
            total, count = _pairs(values, k)
            problem = told(
                answer(values.clone(), k=k),
                total / count,
                f"for y = {words(values)} and k = {k}",
                f"Counted pair by pair, worse less better, it is {words(total)} over |E| = {count}.",
                "weights",
            )
            if problem:
                return problem
    return None


@rank_weights.requires("nothing but the order is used")
def _(answer):
    for values, k in ((_four(), 2), (_seven(), 3), (_five(), 5)):
        once = answer(values.clone(), k=k)
        for name, moved in (
            ("eʸ", values.exp()),
            ("y³ − 100", values**3 - 100),
            ("1 + y / 1000", 1 + values / 1000),
            ("1 + y × 10⁻⁹", 1 + values * 1e-9),
        ):
            mine = answer(moved, k=k)
            if off(mine, once) is not None:
                got, must = pair(mine, once)
                return (
                    f"for y = {words(values)} and k = {k} your weights are {must}, and with {name} in place of each y "
                    f"they are {got}. The order is the same, and whoever names the best tells nothing else."
                )
    return None


@rank_weights.requires("nobody asks in which order the others are")
def _(answer):
    values, other = _seven(), row(7.0, -3.0, 1.5, 0.2, 0.7, 8.0, -1.0)
    for k in (1, 2, 3, 4):
        one, two = answer(values.clone(), k=k), answer(other.clone(), k=k)
        if off(one, two) is not None:
            got, must = pair(two, one)
            return (
                f"for y = {words(values)} and k = {k} your weights are {must}, and for y = {words(other)} they are "
                f"{got}. The best {k} are the same in both, and nobody else is named: the order of the others is not "
                "known, and they all have the same weight."
            )
    return None


@rank_weights.requires("the weights go with their points")
def _(answer):
    values = _seven()
    for k in (2, 5, 7):
        once = answer(values.clone(), k=k)
        for order in ([1, 2, 3, 4, 5, 6, 0], [3, 0, 6, 5, 1, 2, 4]):
            mine = answer(values[order], k=k)
            if off(mine, once[order]) is not None:
                got, must = pair(mine, once[order])
                return (
                    f"for y = {words(values)} and k = {k} your weights are {words(once.detach())}. For the same points "
                    f"in another order, y = {words(values[order])}, they must be {must}, and yours are {got}. What "
                    "`argsort` returns are positions: at place r stands *which* point has rank r, and not the rank of "
                    "point r."
                )
    return None


# ---------------------------------------------------------------- wrong answers


def _ranks(values: Tensor) -> Tensor:
    return values.argsort(0).argsort(0)


def _edges(m: int, k: int) -> float:
    return k * (k - 1) / 2 + k * (m - k)


def _weights(values, k, *, named=None, others=None, edges=None, rank=None):
    """The rule with one part of it exchanged."""
    m = len(values)
    rank = _ranks(values) if rank is None else rank
    net = torch.where(rank < k, 2 * rank - (m - 1) if named is None else named(rank), k if others is None else others)
    return net.to(values.dtype) / (_edges(m, k) if edges is None else edges)


@rank_weights.mutant(
    "one_too_many",
    "In m − 2 r the point itself is counted among those that it is better than. With ranks from 0 there are m − 1 − r "
    "of them, and −(m − 1 − r) + r = 2 r − (m − 1).",
)
def _(values, k):
    return _weights(values, k, named=lambda rank: 2 * rank - len(values))


@rank_weights.mutant(
    "ranks_from_one",
    "The best has rank 0 here, as `argsort` counts, and the weights were made for ranks from 1.",
)
def _(values, k):
    return _weights(values, k, named=lambda rank: 2 * rank - (len(values) + 1))


@rank_weights.mutant(
    "others_weigh_nothing",
    "Whoever was not named is known to be worse than the k: that is k pairs, and a weight of +k / |E|.",
)
def _(values, k):
    return _weights(values, k, others=0)


@rank_weights.mutant(
    "only_the_named_compared",
    "The k were compared among themselves, and nobody else with them: the pairs with those not named are most of E.",
)
def _(values, k):
    return _weights(values, k, named=lambda rank: 2 * rank - (k - 1), others=0, edges=max(k * (k - 1) / 2, 1))


@rank_weights.mutant(
    "sign_turned",
    "These weights lead from the worse point to the better one: a step to take, and not a gradient to descend.",
)
def _(values, k):
    return -_weights(values, k)


@rank_weights.mutant("largest_is_best", "Here f is minimised: the least value is the best, and the first in the order.")
def _(values, k):
    return _weights(-values, k)


@rank_weights.mutant(
    "argsort_for_ranks",
    "`argsort` answers which point has rank r. The rank of a point needs it twice: `argsort(0).argsort(0)`.",
)
def _(values, k):
    return _weights(values, k, rank=values.argsort(0))


@rank_weights.mutant(
    "weights_in_order_of_rank",
    "These are the weights from the best point to the worst. They have to stand where their points stand.",
)
def _(values, k):
    return _weights(values.sort(0).values, k)


@rank_weights.mutant(
    "everything_ranked",
    "All m points were ranked, whatever k is. Only the order of the best k is known.",
)
def _(values, k):
    return _weights(values, len(values))


@rank_weights.mutant(
    "divided_by_all_pairs",
    "There are m (m − 1) / 2 pairs in all. Those of two points that nobody has named are not in E.",
)
def _(values, k):
    m = len(values)
    return _weights(values, k, edges=m * (m - 1) / 2)


@rank_weights.mutant(
    "each_pair_counted_twice",
    "With k (m − 1) the pairs within the k are counted twice, once for each of the two.",
)
def _(values, k):
    return _weights(values, k, edges=k * (len(values) - 1))


@rank_weights.mutant(
    "pairs_with_the_others_only",
    "There are k (m − k) pairs of a named point with one that is not. Those within the k belong to E as well.",
)
def _(values, k):
    return _weights(values, k, edges=max(k * (len(values) - k), 1))


@rank_weights.mutant("never_divided", "These are sums over the pairs. ZO-RankSGD averages: divide by |E|.")
def _(values, k):
    return _weights(values, k, edges=1)


@rank_weights.mutant("divided_by_the_points", "The mean runs over the pairs, and not over the points.")
def _(values, k):
    return _weights(values, k, edges=len(values))


@rank_weights.mutant(
    "the_k_all_alike",
    "The best k were set against the rest, as truncation selection does. Their own order is known as well.",
)
def _(values, k):
    m = len(values)
    return _weights(values, k, named=lambda rank: rank * 0 - (m - k), edges=max(k * (m - k), 1))


@rank_weights.mutant(
    "order_of_the_k_forgotten",
    "A point of rank r is better than all that come after it, and also worse than the r before it. Those pairs are "
    "missing.",
)
def _(values, k):
    return _weights(values, k, named=lambda rank: rank - (len(values) - 1))


@rank_weights.mutant(
    "others_weigh_one",
    "Whoever was not named is the worse one in k pairs, one with each of the k, and not in a single one.",
)
def _(values, k):
    return _weights(values, k, others=1)


@rank_weights.mutant(
    "one_more_named",
    "`rank <= k` names k + 1 points: ranks begin with 0.",
)
def _(values, k):
    m = len(values)
    rank = _ranks(values)
    return torch.where(rank <= k, 2 * rank - (m - 1), k).to(values.dtype) / _edges(m, k)


@rank_weights.mutant(
    "one_ranking_for_all_problems",
    "All problems were put into one order. Each has its own, along the first axis.",
)
def _(values, k):
    rank = values.flatten().argsort().argsort().reshape(values.shape) if values.dim() > 1 else _ranks(values)
    return _weights(values, k, rank=rank)


@rank_weights.mutant(
    "sorted_along_the_last_axis",
    "`argsort()` without an axis takes the last one. That of the points is the first.",
)
def _(values, k):
    return _weights(values, k, rank=values.argsort().argsort())


@rank_weights.mutant(
    "differences_of_values",
    "The pairs were weighed with the difference of their values. Nobody has told you values.",
)
def _(values, k):
    known = (_ranks(values).unsqueeze(0) < k) | (_ranks(values).unsqueeze(1) < k)
    apart = (values.unsqueeze(1) - values.unsqueeze(0)) * known
    return apart.sum(1) / _edges(len(values), k)


@rank_weights.mutant("whole_numbers", "Whole numbers were divided as such: `//` cuts off what stands after the point.")
def _(values, k):
    m = len(values)
    net = torch.where(_ranks(values) < k, 2 * _ranks(values) - (m - 1), k)
    return (net // int(_edges(m, k))).to(values.dtype)


# ---------------------------------------------------------------- right answers


@rank_weights.accepts("pair by pair, in loops")
def _(values, k):
    if values.dim() > 1:
        flat = values.reshape(len(values), -1)
        each = [_looped(flat[:, i], k) for i in range(flat.shape[1])]
        return torch.stack(each, 1).reshape(values.shape)
    return _looped(values, k)


def _looped(values: Tensor, k: int) -> Tensor:
    order, weights, edges = values.argsort(), torch.zeros_like(values), 0
    for place in range(k):
        for after in range(place + 1, len(values)):
            weights[order[after]] += 1
            weights[order[place]] -= 1
            edges += 1
    return weights / edges


@rank_weights.accepts("all comparisons as a matrix")
def _(values, k):
    better = values.unsqueeze(1) < values.unsqueeze(0)
    rank = better.sum(0)
    named = rank < k
    known = named.unsqueeze(0) | named.unsqueeze(1)
    edge = (better & known).to(values.dtype)
    return (edge.sum(0) - edge.sum(1)) / edge.sum((0, 1))


@rank_weights.accepts("weights made in order, and scattered to their points")
def _(values, k):
    m = values.shape[0]
    place = torch.arange(m, dtype=values.dtype)
    ordered = torch.where(place < k, -(m - 1 - 2 * place), float(k)) / (k * (2 * m - k - 1) / 2)
    ordered = ordered.reshape(-1, *[1] * (values.dim() - 1)).expand_as(values)
    return torch.zeros_like(values).scatter(0, values.argsort(0), ordered)


@rank_weights.accepts("centred ranks, the others sharing their mean")
def _(values, k):
    m = len(values)
    rank = values.argsort(0).argsort(0).to(values.dtype)
    rank = torch.where(rank < k, rank, (k + m - 1) / 2)
    return 2 * (rank - (m - 1) / 2) / (m * (m - 1) / 2 - (m - k) * (m - k - 1) / 2)
