"""2.6 to 2.12: how much of the surrogate's promise is sure to arrive."""

import torch

from pocourse.lesson.claims import claim
from pocourse.ratio_clipping import bounds
from pocourse.ratio_clipping.claims import instances

GAP = r"\big|\eta(\pi')-\eta(\pi)-L_\pi(\pi')\big|"
MEAN = r"\bar A(s)=\mathbb{E}_{a\sim\pi'}A_\pi(s,a)"
AVERAGE = r"\mathbb{E}_{s\sim d_\pi}\big[\mathrm{TV}(\pi,\pi')(s)\big]"


def _average_tv(step):
    return bounds.average_tv_penalty(*_of(step), gamma=step.gamma)


def _trpo(step):
    return bounds.trpo_penalty(step.policy, step.new_policy, step.advantage, gamma=step.gamma)


def _of(step):
    return step.occupancy, step.policy, step.new_policy, step.advantage


def _mean_advantage(step):
    return bounds.expected_advantage(step.new_policy, step.advantage)


def _largest_tv(step):
    return bounds.total_variation(step.policy, step.new_policy).amax(-1)


@claim(
    "ratio_clipping.average_tv_bound",
    equation="2.6",
    kind="bound",
    tex=GAP + r"\le\frac{2\,\xi\,\gamma}{(1-\gamma)^2}\," + AVERAGE + r",\qquad \xi=\max_s|\bar A(s)|,\quad " + MEAN,
    source="Achiam et al. 2017, as Xie et al. 2025 (SPO), Theorem 3.2, states it; the world that attains it is ours",
    draws=1800,
    tolerance=1e-10,
    attained=0.001,
)
def average_tv_bound(draw, penalty=_average_tv):
    steps = instances.steps(draw)
    return torch.cat([step.gap.abs() for step in steps]), torch.cat([penalty(step) for step in steps])


average_tv_bound.twin(
    "factor_two_dropped",
    "Two occupancies differ by what one gains and by what it loses elsewhere; the factor 2 counts both.",
    penalty=lambda step: _average_tv(step) / 2,
)
average_tv_bound.twin(
    "one_power_of_the_horizon_dropped",
    "One 1/(1 - gamma) sums the rewards, the other sums the steps by which the states drift apart.",
    penalty=lambda step: _average_tv(step) * (1 - step.gamma),
)
average_tv_bound.twin(
    "total_variation_squared",
    "The average total variation enters to its first power; the square belongs to the largest one.",
    penalty=lambda step: (
        _average_tv(step) * (step.occupancy * bounds.total_variation(step.policy, step.new_policy)).sum(-1)
    ),
)


@claim(
    "ratio_clipping.cpi_bound",
    equation="2.7",
    kind="bound",
    tex=GAP + r"\le\frac{2\,e\,\gamma\,\alpha^2}{(1-\gamma)^2},\qquad \pi'=(1-\alpha)\pi+\alpha\,\pi_g,"
    r"\quad e=\max_s\big|\mathbb{E}_{a\sim\pi_g}A_\pi(s,a)\big|",
    source="Kakade & Langford 2002, in the form that Schulman et al. 2015 (TRPO) quotes",
    draws=900,
    tolerance=1e-10,
    attained=0.001,
)
def cpi_bound(draw, penalty=bounds.cpi_quoted_penalty):
    return _mixture_sides(draw, penalty)


def _mixture_sides(draw, penalty):
    mixtures = instances.mixtures(draw)
    large = [penalty(m.weight, m.target, m.step.advantage, gamma=m.step.gamma) for m in mixtures]
    return torch.cat([m.step.gap.abs() for m in mixtures]), torch.cat(large)


cpi_bound.twin(
    "factor_two_dropped",
    "The two-state world reaches the bound with its factor 2, so half of it is too little.",
    penalty=lambda *a, gamma: bounds.cpi_quoted_penalty(*a, gamma=gamma) / 2,
)
cpi_bound.twin(
    "advantage_of_the_mixture",
    "The constant e belongs to the policy that is mixed in; the mixture's own is smaller by alpha.",
    penalty=lambda weight, *a, gamma: weight * bounds.cpi_quoted_penalty(weight, *a, gamma=gamma),
)


@claim(
    "ratio_clipping.cpi_sharp",
    equation="2.8",
    kind="bound",
    tex=GAP + r"\le\frac{2\,e\,\gamma\,\alpha^2}{(1-\gamma)\,(1-\gamma(1-\alpha))}",
    source="Kakade & Langford 2002; that a world of two states attains it for every alpha and gamma is ours",
    draws=900,
    tolerance=1e-10,
    attained=1e-9,
)
def cpi_sharp(draw, penalty=bounds.cpi_sharp_penalty):
    return _mixture_sides(draw, penalty)


cpi_sharp.twin(
    "factor_two_dropped",
    "The bound is an equality in the two-state world: nothing can be taken from it.",
    penalty=lambda *a, gamma: bounds.cpi_sharp_penalty(*a, gamma=gamma) / 2,
)
cpi_sharp.twin(
    "mixture_weights_swapped",
    "The chain goes on undisturbed with probability gamma (1 - alpha), not gamma alpha.",
    penalty=lambda weight, *a, gamma: (
        bounds.cpi_sharp_penalty(weight, *a, gamma=gamma) * (1 - gamma * (1 - weight)) / (1 - gamma * weight)
    ),
)


@claim(
    "ratio_clipping.trpo_bound",
    equation="2.9",
    kind="bound",
    tex=GAP + r"\le\frac{4\,e\,\gamma}{(1-\gamma)^2}\,\max_s\mathrm{TV}(\pi,\pi')(s)^2,"
    r"\qquad e=\max_{s,a}|A_\pi(s,a)|",
    source="Schulman et al. 2015 (TRPO), Theorem 1; the world that attains it is ours",
    draws=1800,
    tolerance=1e-10,
    attained=0.001,
)
def trpo_bound(draw, penalty=_trpo):
    return average_tv_bound.sides(draw, penalty)


trpo_bound.twin(
    "mean_advantage_in_place_of_the_largest",
    "The largest |mean advantage| is already small when the step is small; with the square that is one power too many.",
    penalty=lambda step: _trpo(step) * _mean_advantage(step).abs().amax(-1) / step.advantage.abs().amax((-2, -1)),
)
trpo_bound.twin(
    "half_of_the_constant",
    "A mean advantage can reach 2 TV max|A|: where a rare bad action gives way to a good one, all of the 4 is needed.",
    penalty=lambda step: _trpo(step) / 2,
)


@claim(
    "ratio_clipping.never_looser",
    equation="2.10",
    kind="bound",
    tex=r"2\,\max_s|\bar A(s)|\;" + AVERAGE + r"\;\le\;4\,\max_{s,a}|A_\pi(s,a)|\,\max_s\mathrm{TV}(\pi,\pi')(s)^2",
    source="ours; the average-TV penalty is never above TRPO's, since |mean advantage| <= 2 TV max|A| in every state",
    draws=1800,
    tolerance=1e-10,
    attained=1e-9,
)
def never_looser(draw, trpo=_trpo):
    steps = instances.steps(draw)
    return torch.cat([_average_tv(step) for step in steps]), torch.cat([trpo(step) for step in steps])


never_looser.twin(
    "half_of_the_constant",
    "With 2 in place of 4 the order of the two bounds is no longer certain.",
    trpo=lambda step: _trpo(step) / 2,
)
never_looser.twin(
    "smallest_total_variation",
    "TRPO's bound looks at the worst state, not at the quietest.",
    trpo=lambda step: (
        _trpo(step)
        * (bounds.total_variation(step.policy, step.new_policy).amin(-1) / _largest_tv(step).clamp(min=1e-300)) ** 2
    ),
)


@claim(
    "ratio_clipping.pinsker",
    equation="2.11",
    kind="bound",
    tex=r"\mathrm{TV}(\pi,\pi')(s)\le\sqrt{\tfrac12\,\mathrm{KL}(\pi\,\|\,\pi')(s)}",
    source="Pinsker's inequality (textbook)",
    draws=600,
    tolerance=1e-10,
    attained=0.001,
)
def pinsker(draw, root=lambda kl: (kl / 2).sqrt()):
    old, new = instances.policy(draw, 4), instances.policy(draw, 4)
    # Close to equality: a fair coin and one that is off by up to 5 per cent.
    coin = torch.zeros_like(old)
    coin[:, :2] = 0.5
    shift = draw.uniform(1, low=0.01, high=0.05) * torch.tensor([1.0, -1.0, 0.0, 0.0], dtype=torch.float64)
    old, new = torch.cat((old, coin)), torch.cat((new, coin + shift))
    return bounds.total_variation(old, new), root(bounds.kl_divergence(old, new))


pinsker.twin(
    "half_outside_the_root",
    "Half of sqrt(KL) is too little; the half stands under the root.",
    root=lambda kl: kl.sqrt() / 2,
)
pinsker.twin(
    "root_dropped", "KL is quadratic in a small step and TV linear: only a root can bound it.", root=lambda kl: kl
)


def _centred(step):
    return bounds.centred_penalty(*_of(step), gamma=step.gamma)


@claim(
    "ratio_clipping.centred_bound",
    equation="2.12",
    kind="bound",
    tex=GAP + r"\le\frac{\gamma\,\big(\max_s\bar A(s)-\min_s\bar A(s)\big)}{(1-\gamma)^2}\," + AVERAGE,
    source="ours; the average-TV bound after a constant is taken from the mean advantage",
    draws=1800,
    tolerance=1e-10,
    attained=0.001,
)
def centred_bound(draw, penalty=_centred):
    return average_tv_bound.sides(draw, penalty)


centred_bound.twin(
    "half_the_spread",
    "The best constant leaves half the spread, but the factor 2 of the average-TV bound stays.",
    penalty=lambda step: _centred(step) / 2,
)
centred_bound.twin(
    "largest_in_place_of_the_spread",
    "A state with a large negative mean advantage does as much harm as one with a large positive one does good.",
    penalty=lambda step: (
        bounds.average_tv_penalty(*_of(step), gamma=step.gamma)
        / 2
        * (_mean_advantage(step).amax(-1) / _mean_advantage(step).abs().amax(-1))
    ),
)
