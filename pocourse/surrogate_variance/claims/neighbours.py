"""3.20 to 3.24: filters, the error of the sample itself, a greedy baseline, and what normalising hides."""

import itertools

import torch

from pocourse.lesson.claims import claim
from pocourse.ratio_clipping import bounds as divergences
from pocourse.ratio_clipping import objectives
from pocourse.surrogate_variance import bounds, estimators
from pocourse.surrogate_variance.claims import instances


def _normalised(weight):
    return weight / weight.sum(-1, keepdim=True)


@claim(
    "surrogate_variance.filtering",
    equation="3.20",
    kind="identity",
    tex=r"\frac{\mathbb{E}_\pi[w\,f]}{\mathbb{E}_\pi[w]}=\mathbb{E}_{a\sim\pi_w}[f],"
    r"\qquad\pi_w(a)=\frac{\pi(a)\,w(a)}{\sum_b\pi(b)\,w(b)},\quad w\ge 0",
    source="ours; w = |score|^2 as in the pow weights of PF-PPO (arXiv 2409.06957), and w = 0 or 1, a filter",
    draws=500,
    tolerance=1e-12,
)
def filtering(draw, filtered=lambda policy, weight: _normalised(policy * weight)):
    policy, value = instances.policy(draw, 5), draw.normal(5)
    power = draw.normal(5).abs() ** 2
    keep = draw.uniform(5) < 0.5
    keep[:, 0] = True
    ratio = power / (policy * power).sum(-1, keepdim=True)
    weighted = (policy * objectives.importance_objective(ratio, value)).sum(-1)
    kept = bounds.sign_class(policy, torch.ones_like(policy), value, keep).mean
    right = [(filtered(policy, weight) * value).sum(-1) for weight in (power, keep.double())]
    return torch.stack((weighted, kept)), torch.stack(right)


filtering.twin(
    "not_normalised",
    "Policy times weight sums to the mean weight, and is no policy until it is divided by it.",
    filtered=lambda policy, weight: policy * weight,
)
filtering.twin(
    "weights_squared",
    "A filter weighs a sample once: resample by w, or average with w, but not both.",
    filtered=lambda policy, weight: _normalised(policy * weight**2),
)
filtering.twin(
    "filter_forgotten",
    "What is left after a filter no longer speaks for the policy that drew it.",
    filtered=lambda policy, weight: policy,
)


@claim(
    "surrogate_variance.sampling_error_order",
    equation="3.21",
    kind="order",
    tex=r"\mathbb{E}\,\mathrm{KL}(\hat\pi\,\|\,\pi)=\frac{k-1}{2n}+O(n^{-2}),"
    r"\qquad\hat\pi:\text{ frequencies of }n\text{ draws from }\pi\text{ over }k\text{ actions}",
    source="textbook (Miller 1955); the error is that of Corrado & Hanna 2023 (PROPS) in one state",
    draws=50,
    tolerance=0.1,
    rate=2,
)
def sampling_error_order(draw, leading=lambda k, n: (k - 1) / (2 * n)):
    sizes = (50, 100, 200, 400, 800)
    # Each action expected several times even in the smallest batch: the expansion is one in 1 / (n pi(a)).
    policy = 0.15 + 0.4 * instances.policy(draw, 4)
    error = [bounds.expected_sampling_error(policy, num_samples=n) - leading(4, n) for n in sizes]
    step = policy.new_tensor([1 / n for n in sizes])
    return step[:, None].expand(-1, draw.count), torch.stack(error).abs()


sampling_error_order.twin(
    "one_freedom_too_many",
    "Frequencies sum to one: of k actions only k - 1 can be off independently.",
    leading=lambda k, n: k / (2 * n),
)
sampling_error_order.twin(
    "half_dropped",
    "A divergence is half a square, so each degree of freedom costs 1/(2n).",
    leading=lambda k, n: (k - 1) / n,
)

DRAWN = 5


def _entropy(policy):
    return -torch.xlogy(policy, policy).sum(-1)


def _expected(policy, value):
    """The mean of a function of the frequencies, every sequence of draws enumerated."""
    actions = policy.shape[-1]
    sequences = torch.tensor(list(itertools.product(range(actions), repeat=DRAWN)))
    frequency = torch.nn.functional.one_hot(sequences, actions).to(policy.dtype).mean(-2)
    chance = policy[:, sequences].prod(-1)
    return (chance * value(frequency)).sum(-1)


def _frequency_entropy(policy):
    return _expected(policy, _entropy)


def _reverse_error(policy):
    return _expected(
        policy,
        lambda frequency: divergences.kl_divergence(*torch.broadcast_tensors(policy.unsqueeze(1), frequency)),
    )


@claim(
    "surrogate_variance.sampling_error_entropy",
    equation="3.22",
    kind="identity",
    tex=r"\mathbb{E}\,\mathrm{KL}(\hat\pi\,\|\,\pi)=H(\pi)-\mathbb{E}\,H(\hat\pi)",
    source="textbook; exact for every number of draws",
    draws=200,
    tolerance=1e-12,
)
def sampling_error_entropy(
    draw,
    error=lambda policy: bounds.expected_sampling_error(policy, num_samples=DRAWN),
    missing=lambda policy: _entropy(policy) - _frequency_entropy(policy),
):
    policy = instances.policy(draw, 3)
    return error(policy), missing(policy)


sampling_error_entropy.twin(
    "entropies_swapped",
    "Frequencies look less random than the policy they come from, and a divergence is never negative.",
    missing=lambda policy: _frequency_entropy(policy) - _entropy(policy),
)
sampling_error_entropy.twin(
    "entropy_without_bias",
    "On average frequencies have less entropy than the policy: a single draw has none at all.",
    missing=lambda policy: torch.zeros_like(policy[:, 0]),
)
sampling_error_entropy.twin(
    "the_other_direction",
    "KL(policy || frequencies) is infinite as soon as one action was not drawn.",
    error=_reverse_error,
)


def _change(p, first, second):
    return 2 * p * (1 - p) * first * (2 * p * (first - second) - first)


@claim(
    "surrogate_variance.greedy_baseline",
    equation="3.23",
    kind="identity",
    tex=r"V(R_1)-V(0)=2p(1-p)R_1\big(2p(R_1-R_2)-R_1\big),\quad V(b)=\operatorname{tr}\operatorname{Var}[g_b],"
    r"\qquad\text{above }0\text{ iff }p>\tfrac{R_1}{2(R_1-R_2)}\qquad(R_1>R_2,\ R_1>0)",
    source="ours; the greedy baseline is that of Li et al. 2024 (ReMax). Two arms, softmax, p = pi(1) >= 1/2, "
    "g_b = (e_a - pi)(R_a - b)",
    draws=500,
    tolerance=1e-12,
)
def greedy_baseline(draw, change=_change, threshold=lambda first, second: first / (2 * (first - second))):
    p, other = draw.uniform(low=0.5, high=1), draw.normal(2)
    first = draw.uniform(low=0.1, high=2)
    better = torch.stack((first, first - draw.uniform(low=0.1, high=3)), -1)
    found, stated = [], []
    policy = torch.stack((p, 1 - p), -1)
    for reward in (other, better):
        with_greedy, without = (
            bounds.baseline_variance(policy, reward, b) for b in (reward[:, 0], torch.zeros_like(p))
        )
        found.append(with_greedy - without)
        stated.append(change(p, *reward.unbind(-1)))
    return (
        torch.stack((*found, (found[1] > 0).double())),
        torch.stack((*stated, (p > threshold(*better.unbind(-1))).double())),
    )


greedy_baseline.twin(
    "always_lower",
    "A baseline far from the mean reward adds noise: the greedy reward can be such a one.",
    change=lambda p, first, second: _change(p, first, second).clamp(max=0),
)
greedy_baseline.twin(
    "square_of_the_baseline_forgotten",
    "Squared, R - b has three terms, and the last, b^2, is what makes a large baseline expensive.",
    change=lambda p, first, second: -4 * p * (1 - p) * first * ((1 - p) * first + p * second),
)
greedy_baseline.twin(
    "threshold_with_a_minus",
    "The threshold is one half plus R2 / (2 (R1 - R2)): a second arm below zero lowers it.",
    threshold=lambda first, second: 0.5 - second / (2 * (first - second)),
)


@claim(
    "surrogate_variance.normalised_variance",
    equation="3.24",
    kind="identity",
    tex=r"r_i=1,\quad x_i=\frac{A_i-\bar A}{\sigma_A}\quad\Longrightarrow\quad\frac1n\sum_ix_i=0,"
    r"\quad\frac1n\sum_ix_i^2=1\qquad\text{whatever }A\text{ was}",
    source="ours; sigma_A is the batch's standard deviation with the divisor n, and nothing is added to it",
    draws=500,
    tolerance=1e-12,
)
def normalised_variance(draw, ratio=torch.ones_like, deviation=lambda a: a.std(-1, correction=0, keepdim=True)):
    advantage = draw.normal(1) + (2 * draw.normal(1)).exp() * draw.normal(16)
    centred = advantage - advantage.mean(-1, keepdim=True)
    normal = centred / deviation(centred)
    moments = estimators.sample_moments(ratio(normal), normal, torch.ones_like(normal, dtype=torch.bool))
    return torch.stack(moments), torch.stack((torch.zeros_like(moments[0]), torch.ones_like(moments[1])))


normalised_variance.twin(
    "after_the_policy_has_moved",
    "Only at r = 1 is the variance fixed: from the first step on the ratios change it, and the mean.",
    ratio=lambda advantage: 1 + advantage.tanh() / 2,
)
normalised_variance.twin(
    "divisor_one_less",
    "Divided by the standard deviation with n - 1 the variance over the batch is (n - 1)/n.",
    deviation=lambda advantage: advantage.std(-1, correction=1, keepdim=True),
)
normalised_variance.twin(
    "only_centred",
    "Taking the mean away leaves the spread as it was.",
    deviation=torch.ones_like,
)
