"""3.10 to 3.15: pairs of samples, which of them to drop, and what that does to mean and variance."""

import torch

from pocourse.lesson.claims import claim
from pocourse.surrogate_variance import bounds, estimators
from pocourse.surrogate_variance.claims import instances

FRACTION = 0.25


def _pairs(x, *, diagonal):
    """The mean square, and the sum of the pair matrix x_i x_j with or without its diagonal."""
    matrix = x.unsqueeze(-1) * x.unsqueeze(-2)
    kept = torch.ones_like(matrix[0]) if diagonal else 1 - torch.eye(x.shape[-1], dtype=x.dtype)
    return (x**2).mean(-1), (matrix * kept).sum((-1, -2))


def _all_pairs(x, diagonal=True):
    square, pairs = _pairs(x, diagonal=diagonal)
    return square - pairs / x.shape[-1] ** 2


def _other_pairs(x, diagonal=False, share=1.0):
    square, pairs = _pairs(x, diagonal=diagonal)
    return square - share * pairs / (x.shape[-1] * (x.shape[-1] - 1))


@claim(
    "surrogate_variance.pair_matrix",
    equation="3.10",
    kind="identity",
    tex=r"v=\frac1n\sum_ix_i^2-\frac1{n^2}\sum_{i,j}x_ix_j,"
    r"\qquad\frac{n\,v}{n-1}=\frac1n\sum_ix_i^2-\frac1{n(n-1)}\sum_{i\ne j}x_ix_j",
    source="textbook; v has the divisor n, and n v / (n - 1) is the unbiased variance",
    draws=500,
    tolerance=1e-12,
)
def pair_matrix(draw, population=_all_pairs, unbiased=_other_pairs):
    batch = instances.batch(draw, 6)
    _, v = estimators.sample_moments(batch.ratio, batch.advantage, batch.everyone)
    return torch.stack((v, v * 6 / 5)), torch.stack((population(batch.x), unbiased(batch.x)))


pair_matrix.twin(
    "diagonal_left_out",
    "The squared mean is the sum over all pairs, a sample with itself included.",
    population=lambda x: _all_pairs(x, diagonal=False),
)
pair_matrix.twin(
    "diagonal_kept",
    "A sample is not independent of itself: without its own square each has n - 1 partners.",
    unbiased=lambda x: _other_pairs(x, diagonal=True),
)
pair_matrix.twin(
    "each_pair_counted_once",
    "The matrix is symmetric: i with j and j with i are both in the sum.",
    unbiased=lambda x: _other_pairs(x, share=0.5),
)


def _drop_smallest(ratio, advantage):
    return estimators.sign_dropout_mask(ratio, advantage, drop_fraction=FRACTION)


def _sign_of_the_sum(x):
    return x.sum(-1, keepdim=True).sign()


@claim(
    "surrogate_variance.pair_sum_order",
    equation="3.11",
    kind="identity",
    tex=r"\Delta_i=\sum_jx_ix_j=x_iS:\quad\operatorname{rank}\Delta=\operatorname{rank}(x\,\mathrm{sign}\,S),"
    r"\qquad\operatorname{rank}\Delta=\operatorname{rank}|x|\text{ where }i,j\text{ are of one class}",
    source="ours; for S > 0 our rule of dropping is the one by row sums of the pair matrix",
    draws=1000,
    tolerance=1e-12,
)
def pair_sum_order(draw, whole=lambda x: x * _sign_of_the_sum(x), within=torch.abs):
    batch = instances.batch(draw, 8)
    x, member = batch.x, batch.advantage >= 0
    matrix = x.unsqueeze(-1) * x.unsqueeze(-2)
    row = matrix.sum(-1)
    class_row = (matrix * (member.unsqueeze(-1) == member.unsqueeze(-2))).sum(-1)
    # Whom the estimator drops, found through the row sums instead: only the order of x can give the same.
    size = torch.where(member, member.sum(-1, keepdim=True), (~member).sum(-1, keepdim=True))
    keep = instances.rank(row * _sign_of_the_sum(x), member) >= (FRACTION * size).round()
    dropout = _drop_smallest(batch.ratio, batch.advantage)
    left = (instances.rank(row, batch.everyone), instances.rank(class_row, member), keep)
    right = (instances.rank(whole(x), batch.everyone), instances.rank(within(x), member), dropout)
    return torch.stack([side.double() for side in left]), torch.stack([side.double() for side in right])


pair_sum_order.twin(
    "always_the_order_of_x",
    "Where the sum of all x is negative the row sums run against x.",
    whole=lambda x: x,
)
pair_sum_order.twin(
    "order_of_x_in_both_classes",
    "In the negative class the class's own sum is negative too, and turns the order round: it is that of |x|.",
    within=lambda x: x,
)
pair_sum_order.twin(
    "order_of_magnitudes_everywhere",
    "Over the whole batch one sum multiplies samples of both signs, and the signs stay.",
    whole=torch.abs,
)


def _kept(step, keep):
    return bounds.sign_class(step.old, step.ratio, step.advantage, keep)


def _kept_actions(draw):
    """A step and a random rule on its actions, which keeps the first of them and drops the last."""
    step = instances.step(draw)
    keep = draw.uniform(5) < 0.5
    keep[:, 0], keep[:, -1] = True, False
    return step, keep


@claim(
    "surrogate_variance.dropping_bias",
    equation="3.12",
    kind="identity",
    tex=r"\mathbb{E}[x\mid\text{kept}]-\mathbb{E}[x]=\frac{\operatorname{Cov}(x,k)}{P(k=1)},"
    r"\qquad k=1\text{ if kept, else }0",
    source="textbook; for actions of a policy and for samples of a batch",
    draws=500,
    tolerance=1e-12,
)
def dropping_bias(draw, bias=lambda covariance, share: covariance / share):
    step, keep = _kept_actions(draw)
    found = _kept(step, keep)
    joint = instances.covariance(step.old, step.x, keep.double())
    left, right = [found.mean - (step.old * step.x).sum(-1)], [bias(joint, found.prob)]
    batch = instances.batch(draw, 8)
    keep = _drop_smallest(batch.ratio, batch.advantage)
    joint = instances.covariance(torch.full_like(batch.x, 1 / 8), batch.x, keep.double())
    left.append(estimators.kept_mean(batch.x, keep) - batch.x.mean(-1))
    right.append(bias(joint, keep.double().mean(-1)))
    return torch.stack(left), torch.stack(right)


dropping_bias.twin(
    "not_divided",
    "The covariance is a mean over all samples; the bias is one of those that are kept.",
    bias=lambda covariance, share: covariance,
)
dropping_bias.twin(
    "sign_turned",
    "Keeping the large x moves the mean up, so covariance and bias have one sign.",
    bias=lambda covariance, share: -covariance / share,
)
dropping_bias.twin(
    "divided_by_the_share_dropped",
    "The mean is over the samples kept, so their share divides.",
    bias=lambda covariance, share: covariance / (1 - share),
)


def _drop_largest(ratio, advantage):
    # With the advantages turned round both the classes and the order within them change places.
    return estimators.sign_dropout_mask(ratio, -advantage, drop_fraction=FRACTION)


def _drop_weakest(ratio, advantage):
    return torch.where(advantage >= 0, _drop_smallest(ratio, advantage), _drop_largest(ratio, advantage))


def _drop_first(ratio, advantage):
    return _drop_smallest(torch.ones_like(ratio), advantage.sign())


@claim(
    "surrogate_variance.dropping_raises_the_mean",
    equation="3.13",
    kind="bound",
    tex=r"\mathbb{E}[x\mid C]\le\mathbb{E}[x\mid C,\text{kept}],\quad\mathbb{E}[x]\le\mathbb{E}[x\mid\text{kept}]"
    r"\qquad(\text{smallest }x\text{ dropped, one fraction in both classes})",
    source="ours; the rule is our reconstruction of D-PPO's dropout. An equality where x is the same all over a class",
    draws=1000,
    tolerance=1e-12,
    attained=1e-9,
)
def dropping_raises_the_mean(draw, rule=_drop_smallest):
    batch = instances.quartered_batch(draw)
    keep = rule(batch.ratio, batch.advantage)
    small, large = [batch.x.mean(-1)], [estimators.kept_mean(batch.x, keep)]
    for member in instances.sign_classes(batch.advantage):
        for side, chosen in ((small, member), (large, member & keep)):
            side.append(estimators.sample_moments(batch.ratio, batch.advantage, chosen)[0])
    return torch.stack(small), torch.stack(large)


dropping_raises_the_mean.twin(
    "smallest_magnitude_dropped",
    "In the negative class the smallest |x| is the largest x: without it the mean goes down.",
    rule=_drop_weakest,
)
dropping_raises_the_mean.twin(
    "largest_dropped",
    "A cap on large products takes away from the top, and the mean follows.",
    rule=_drop_largest,
)
dropping_raises_the_mean.twin(
    "dropped_whatever_they_are",
    "A choice that does not look at x leaves the mean where it is on average, not in every batch.",
    rule=_drop_first,
)


@claim(
    "surrogate_variance.dropping_splits_the_variance",
    equation="3.14",
    kind="identity",
    tex=r"\operatorname{Var}[x]=P\operatorname{Var}[x\mid\text{kept}]+(1-P)\operatorname{Var}[x\mid\text{dropped}]"
    r"+P(1-P)\,g^2,\qquad g=\mathbb{E}[x\mid\text{kept}]-\mathbb{E}[x\mid\text{dropped}]",
    source="textbook (the law of total variance); P is the probability of being kept",
    draws=500,
    tolerance=1e-12,
)
def dropping_splits_the_variance(draw, between=lambda share, gap: share * (1 - share) * gap**2, swapped=False):
    step, keep = _kept_actions(draw)
    kept, dropped = _kept(step, keep), _kept(step, ~keep)
    share = dropped.prob if swapped else kept.prob
    parts = share * kept.variance + (1 - share) * dropped.variance + between(share, kept.mean - dropped.mean)
    return bounds.surrogate_variance(step.old, step.ratio, step.advantage), parts


dropping_splits_the_variance.twin(
    "gap_forgotten",
    "Two groups with different means vary even where neither varies by itself.",
    between=lambda share, gap: 0,
)
dropping_splits_the_variance.twin(
    "shares_swapped",
    "Each part counts as often as it is drawn.",
    swapped=True,
)
dropping_splits_the_variance.twin(
    "gap_not_squared",
    "A variance has the square of x's unit.",
    between=lambda share, gap: share * (1 - share) * gap.abs(),
)


def one_large(draw, count):
    """A class of equal products but one, which is larger; in the first batch they are 1 and 10."""
    common, times = draw.uniform(1, low=0.5, high=2), draw.uniform(1, low=2, high=50)
    common[0], times[0] = 1, 10
    advantage = torch.cat((common.expand(-1, count - 1), common * times), -1)
    return instances.Batch(torch.ones_like(advantage), advantage)


def class_variance(batch, rule):
    """The variance within the batch, and within what the rule keeps of it."""
    keep = rule(batch.ratio, batch.advantage)
    return [estimators.sample_moments(batch.ratio, batch.advantage, member)[1] for member in (batch.everyone, keep)]


def _fifth_dropped(ratio, advantage):
    return estimators.sign_dropout_mask(ratio, advantage, drop_fraction=0.2)


@claim(
    "surrogate_variance.dropping_can_raise_the_variance",
    equation="3.15",
    kind="witness",
    tex=r"\operatorname{Var}[x\mid C,\text{kept}]>\operatorname{Var}[x\mid C]\quad\text{for some batches}"
    r"\qquad(x=1,1,1,1,10:\ 12.96\to 15.1875)",
    source="ours; with our reconstruction of D-PPO's rule, in the class A >= 0",
    draws=300,
    tolerance=0,
)
def dropping_can_raise_the_variance(draw, rule=_fifth_dropped, sign=1):
    found = []
    for count in (5, 10):
        ratio, advantage = one_large(draw, count)
        found.append(torch.stack(class_variance(instances.Batch(ratio, sign * advantage), rule)))
    before, after = torch.stack(found, 1)
    return after, before


dropping_can_raise_the_variance.twin(
    "in_the_negative_class",
    "There the smallest x is the outlier itself: once it is dropped nothing is left that varies.",
    sign=-1,
)
dropping_can_raise_the_variance.twin(
    "largest_dropped",
    "To drop the outlier lowers the variance; the rule drops from the other end.",
    rule=lambda ratio, advantage: estimators.sign_dropout_mask(ratio, -advantage, drop_fraction=0.2),
)


@dropping_can_raise_the_variance.twin(
    "dropping_always_lowers_it",
    "Among fewer common values the one large value weighs more.",
)
def _always_lower(draw):
    after, before = dropping_can_raise_the_variance.sides(draw)
    return before, after
