"""3.1 to 3.7: the mean and the variance of the ratio, of the surrogate, and how fast they grow."""

import torch

from pocourse.lesson.claims import claim
from pocourse.ratio_clipping import optima
from pocourse.surrogate_variance import bounds
from pocourse.surrogate_variance.claims import instances

STEPS = (0.1, 1.0, 3.0)


@claim(
    "surrogate_variance.mean_ratio",
    equation="3.1",
    kind="identity",
    tex=r"\mathbb{E}_{a\sim\pi}[r]=1,\qquad r=\frac{\pi'(a\mid s)}{\pi(a\mid s)}\qquad(\pi>0)",
    source="textbook (importance sampling)",
    draws=500,
    tolerance=1e-12,
)
def mean_ratio(draw, weights=lambda old, new: old, ratio=lambda old, new: new / old, played=5):
    old, new, _ = instances.step(draw)
    # The true statement has every action played; a twin takes one away from the old policy.
    old = old[:, :played] / old[:, :played].sum(-1, keepdim=True)
    mean = (weights(old, new[:, :played]) * ratio(old, new[:, :played])).sum(-1)
    return mean, torch.ones_like(mean)


mean_ratio.twin(
    "averaged_over_the_new_policy",
    "Over actions of the new policy the mean ratio is 1 + chi-square, above one as soon as anything has moved.",
    weights=lambda old, new: new,
)
mean_ratio.twin(
    "ratio_upside_down",
    "The old policy's probability has to stand below, where it cancels the weight of the average.",
    ratio=lambda old, new: old / new,
)
mean_ratio.twin(
    "an_action_never_played",
    "What the new policy does where the old one never goes has no ratio, and its mass is missing from the mean.",
    played=4,
)


def _second_moment(old, ratio):
    return (old * ratio**2).sum(-1) - 1


@claim(
    "surrogate_variance.chi_square",
    equation="3.2",
    kind="identity",
    tex=r"\operatorname{Var}_\pi[r]=\mathbb{E}_\pi[r^2]-1=\sum_a\frac{(\pi'(a)-\pi(a))^2}{\pi(a)}=\chi^2(\pi'\,\|\,\pi)",
    source="textbook",
    draws=500,
    tolerance=1e-12,
)
def chi_square(draw, divergence=lambda step: bounds.chi_square(step.old, step.ratio), moment=_second_moment):
    step = instances.step(draw)
    spread = bounds.surrogate_variance(step.old, step.ratio, torch.ones_like(step.ratio))
    summed = ((step.new - step.old) ** 2 / step.old).sum(-1)
    return torch.stack((spread, moment(step.old, step.ratio), summed)), divergence(step).expand(3, -1)


chi_square.twin(
    "averaged_over_the_new_policy",
    "The old policy acted, so its probabilities weigh the squares.",
    divergence=lambda step: (step.new * (step.ratio - 1) ** 2).sum(-1),
)
chi_square.twin(
    "arguments_swapped",
    "Chi-square has a direction: the policy that was sampled from stands under the fraction.",
    divergence=lambda step: bounds.chi_square(step.new, 1 / step.ratio),
)
chi_square.twin(
    "second_moment_alone",
    "E r^2 still holds the squared mean, which is one.",
    moment=lambda old, ratio: _second_moment(old, ratio) + 1,
)


def _of_old(old, new):
    return old


@claim(
    "surrogate_variance.surrogate_variance",
    equation="3.3",
    kind="estimate",
    tex=r"\operatorname{Var}\Big[\frac1n\sum_ir_iA_i\Big]=\frac1n\operatorname{Var}_\pi[rA],"
    r"\qquad\operatorname{Var}_\pi[rA]=\mathbb{E}_\pi\big[(rA-L)^2\big],\quad L=\mathbb{E}_\pi[rA]",
    source="textbook (the variance of an importance-weighted mean); for n independent samples",
    draws=10000,
    tolerance=4,
)
def surrogate_variance(draw, exact=bounds.surrogate_variance, sampled=_of_old, samples=16):
    old = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    new, advantage = old.new_tensor([0.3, 0.3, 0.4]), old.new_tensor([-1.0, 0.5, 2.0])
    x = new / old * advantage
    action = torch.multinomial(sampled(old, new), draw.count * samples, replacement=True, generator=draw.generator)
    error = (x[action] - (old * x).sum()).view(draw.count, samples)
    squares = torch.stack((error[:, 0] ** 2, samples * error.mean(-1) ** 2), -1)
    return squares, exact(old, new / old, advantage).expand(2)


surrogate_variance.twin(
    "samples_of_the_new_policy",
    "The new policy draws the actions with large ratios more often: the spread it sees is another.",
    sampled=lambda old, new: new,
)
surrogate_variance.twin(
    "advantage_without_the_ratio",
    "That was the variance before the policy moved; the ratio stretches it.",
    exact=lambda old, ratio, advantage: bounds.surrogate_variance(old, torch.ones_like(ratio), advantage),
)
surrogate_variance.twin(
    "product_of_the_variances",
    "Ratio and advantage depend on the same action, and neither has mean zero: their variances do not multiply.",
    exact=lambda old, ratio, advantage: (
        bounds.chi_square(old, ratio) * bounds.surrogate_variance(old, torch.ones_like(ratio), advantage)
    ),
)


@claim(
    "surrogate_variance.effective_sample_size",
    equation="3.4",
    kind="identity",
    tex=r"\frac{\mathrm{ESS}}{n}=\frac{(\mathbb{E}_\pi r)^2}{\mathbb{E}_\pi r^2}=\frac{1}{1+\chi^2(\pi'\,\|\,\pi)}",
    source="textbook (Owen 2013, Monte Carlo theory, methods and examples); the rule is Kish's",
    draws=500,
    tolerance=1e-12,
)
def effective_sample_size(draw, share=lambda step: 1 / (1 + bounds.chi_square(step.old, step.ratio))):
    step = instances.step(draw)
    return bounds.effective_sample_size(step.old, step.ratio), share(step)


effective_sample_size.twin(
    "arguments_swapped",
    "The samples come from the old policy, so it stands under the fraction of chi-square.",
    share=lambda step: 1 / (1 + bounds.chi_square(step.new, 1 / step.ratio)),
)
effective_sample_size.twin(
    "first_order_only",
    "For small steps 1 - chi-square is right, but it is below zero as soon as the ratios vary by more than one.",
    share=lambda step: 1 - bounds.chi_square(step.old, step.ratio),
)
effective_sample_size.twin(
    "ratio_not_squared",
    "The mean ratio is one whatever the policies are: only its square tells how uneven the weights are.",
    share=lambda step: 1 / (step.old * step.ratio).sum(-1),
)


def _cumulant(policy, advantage, t):
    return (policy.log() + t * advantage).logsumexp(-1)


@claim(
    "surrogate_variance.tilt",
    equation="3.5",
    kind="identity",
    tex=r"\operatorname{Var}_\pi[r_t]=e^{K(2t)-2K(t)}-1,\qquad r_t=e^{tA-K(t)},\quad K(t)=\log\mathbb{E}_\pi[e^{tA}]",
    source="ours (the exponential family's normaliser at t and 2t); r_t belongs to one exact mirror-descent step",
    draws=500,
    tolerance=1e-10,
)
def tilt(draw, grown=bounds.tilted_chi_square):
    old, _, advantage = instances.step(draw)
    ratio = torch.stack([optima.kl_new_old_link(old, advantage, step=t) for t in STEPS])
    spread = bounds.chi_square(old.expand_as(ratio), ratio)
    found = torch.stack([grown(old, advantage, step=t) for t in STEPS])
    # The variances span ten powers of ten: what counts is their quotient.
    return found / spread, torch.ones_like(spread)


tilt.twin(
    "normaliser_taken_once",
    "The square of the ratio holds the normaliser twice.",
    grown=lambda old, advantage, step: torch.expm1(
        _cumulant(old, advantage, 2 * step) - _cumulant(old, advantage, step)
    ),
)
tilt.twin(
    "second_order_in_the_step",
    "The growth only starts as t^2 Var A; after that the higher cumulants join in.",
    grown=lambda old, advantage, step: step**2 * instances.variance(old, advantage),
)
tilt.twin(
    "cumulants_of_the_new_policy",
    "The policy that was sampled from weighs both cumulants.",
    grown=lambda old, advantage, step: bounds.tilted_chi_square(
        optima.mirror_descent(old, advantage, step=step), advantage, step=step
    ),
)


def _deviation(old, ratio):
    return (old * (ratio - 1).abs()).sum(-1)


@claim(
    "surrogate_variance.deviation_below",
    equation="3.6",
    kind="bound",
    tex=r"\big(\mathbb{E}_\pi|r-1|\big)^2\;\le\;\operatorname{Var}_\pi[r]",
    source="textbook (Jensen); an equality where |r - 1| is the same for every action",
    draws=600,
    tolerance=1e-12,
    attained=1e-9,
)
def deviation_below(draw, small=lambda old, ratio: _deviation(old, ratio) ** 2, large=bounds.chi_square):
    old, new, _ = instances.step(draw, 4)
    shift = draw.uniform(1, low=0.05, high=0.9) * old.new_tensor([1.0, 1.0, -1.0, -1.0])
    old[::3] = 0.5 * torch.cat([half / half.sum(-1, keepdim=True) for half in old[::3].split(2, -1)], -1)
    new[::3] = (old * (1 + shift))[::3]
    return small(old, new / old), large(old, new / old)


deviation_below.twin(
    "deviation_doubled",
    "E|r - 1| is already twice the total variation; doubled again it is too much.",
    small=lambda old, ratio: (2 * _deviation(old, ratio)) ** 2,
)
deviation_below.twin(
    "square_forgotten",
    "A variance is quadratic in a small step, so only the square of a deviation stays below it.",
    small=_deviation,
)
deviation_below.twin(
    "the_other_way_round",
    "A few large deviations have a large mean square and a small mean: the deviation holds no variance down.",
    small=bounds.chi_square,
    large=lambda old, ratio: _deviation(old, ratio) ** 2,
)


def _rare_action(draw, rare):
    """Move delta / 2 onto one action of probability ``rare``; return delta and both policies."""
    delta = draw.uniform(low=0.05, high=1.8)
    rare = rare(delta)
    others = instances.policy(draw, 3)
    old = torch.cat((rare[:, None], (1 - rare)[:, None] * others), -1)
    moved = delta / 2
    new = torch.cat(((rare + moved)[:, None], (1 - rare - moved)[:, None] * others), -1)
    return delta, old, new


def _unbounded(draw, rarest=None):
    demanded = draw.uniform(low=10, high=1000)
    delta, old, new = _rare_action(draw, lambda delta: (delta**2 / (4 * demanded + 4)).clamp(min=rarest))
    ratio = new / old
    stays = (_deviation(old, ratio) - delta).abs() < 1e-12
    return torch.where(stays, bounds.chi_square(old, ratio), torch.zeros_like(delta)), demanded


@claim(
    "surrogate_variance.deviation_says_no_more",
    equation="3.7",
    kind="witness",
    tex=r"\sup_{\pi,\,\pi'}\big\{\operatorname{Var}_\pi[r]\,:\,\mathbb{E}_\pi|r-1|=\delta\big\}=\infty"
    r"\qquad\text{for every }\delta\text{ in }(0,2)",
    source="ours; mass delta/2 moves onto an action of probability p, and the variance is above delta^2 / (4p)",
    draws=300,
    tolerance=0,
)
def deviation_says_no_more(draw, rarest=0.0):
    return _unbounded(draw, rarest)


deviation_says_no_more.twin(
    "no_action_is_rare",
    "Keep the action that gains at .05 or more, and the variance stays bounded: it needs an action that is rare.",
    rarest=0.05,
)


@deviation_says_no_more.twin(
    "ten_times_the_square",
    "No constant makes the squared deviation an upper limit: the rarer the action, the larger the one that is needed.",
)
def _held_by_the_square(draw):
    delta, old, new = _rare_action(draw, lambda delta: torch.full_like(delta, 1e-3))
    return 10 * delta**2, bounds.chi_square(old, new / old)
