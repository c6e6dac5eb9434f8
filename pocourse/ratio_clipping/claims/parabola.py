"""2.19 to 2.26: SPO's parabola, where it wants the ratio, and what the whole policy makes of that."""

import torch

from pocourse.lesson.claims import claim
from pocourse.ratio_clipping import objectives, optima
from pocourse.ratio_clipping.claims import _solvers, instances

EPS = 0.2
SPO = r"f_{\mathrm{SPO}}=rA-\frac{|A|}{2\epsilon}(r-1)^2"


def _parabola_slope(ratio, advantage):
    return advantage - advantage.abs() * (ratio - 1) / EPS


@claim(
    "ratio_clipping.spo_gradient",
    equation="2.19",
    kind="identity",
    tex=r"\frac{\partial f_{\mathrm{SPO}}}{\partial r}=A-\frac{|A|}{\epsilon}\,(r-1),\qquad " + SPO,
    source="Xie et al. 2025 (SPO), eq. 16 and Theorem 5.2",
    draws=1000,
    tolerance=1e-12,
)
def spo_gradient(draw, slope=_parabola_slope):
    ratio, advantage = draw.uniform(low=0, high=2.5).requires_grad_(), draw.normal()
    value = objectives.spo_objective(ratio, advantage, eps=EPS)
    return torch.autograd.grad(value.sum(), ratio)[0], slope(ratio.detach(), advantage)


spo_gradient.twin(
    "sign_of_the_advantage_kept",
    "The penalty needs |A|: with A itself it becomes a reward for moving wherever A is negative.",
    slope=lambda ratio, advantage: advantage - advantage * (ratio - 1) / EPS,
)
spo_gradient.twin(
    "factor_two_forgotten",
    "The square brings down a factor 2, which cancels the one under the fraction.",
    slope=lambda ratio, advantage: advantage - advantage.abs() * (ratio - 1) / (2 * EPS),
)


def _top(advantage):
    return 1 + EPS * advantage.sign(), advantage + advantage.abs() * EPS / 2


@claim(
    "ratio_clipping.spo_optimum",
    equation="2.20",
    kind="identity",
    tex=r"\arg\max_r f_{\mathrm{SPO}}=1+\epsilon\,\mathrm{sign}(A),\qquad"
    r"\max_r f_{\mathrm{SPO}}=A+\tfrac12\,\epsilon\,|A|\qquad(A\ne 0)",
    source="Xie et al. 2025 (SPO), section 5; the paper's word convex has to read concave",
    draws=500,
    tolerance=1e-6,
)
def spo_optimum(draw, top=_top):
    advantage = draw.normal()

    def height(ratio):
        return objectives.spo_objective(ratio, advantage, eps=EPS)

    ratio = _solvers.golden_section(height, torch.zeros_like(advantage), torch.full_like(advantage, 3))
    return torch.stack((ratio, height(ratio))), torch.stack(top(advantage))


spo_optimum.twin(
    "same_side_for_both_signs",
    "A bad action's ratio has to fall: the edge is 1 - eps for a negative advantage.",
    top=lambda advantage: (torch.full_like(advantage, 1 + EPS), _top(advantage)[1]),
)
spo_optimum.twin(
    "penalty_forgotten_at_the_top",
    "At the edge rA has gained eps|A|, and the parabola has taken half of it back.",
    top=lambda advantage: (_top(advantage)[0], advantage + advantage.abs() * EPS),
)


@claim(
    "ratio_clipping.sandwich",
    equation="2.21",
    kind="bound",
    tex=r"f_{\mathrm{SPO}}\;\le\;f_{\mathrm{clip}}\;\le\;rA\qquad\text{for all } r\ge 0,\ A,\ \epsilon>0",
    source="ours; all three agree at r = 1, and the upper two as long as the clip does not act",
    draws=2000,
    tolerance=1e-12,
    attained=1e-9,
)
def sandwich(draw, parabola=objectives.spo_objective, clip=objectives.clip_objective):
    ratio, advantage = draw.uniform(low=0, high=3), draw.normal()
    ratio[::4] = 1 + (ratio[::4] - 1.5) / 100
    chain = torch.stack((parabola(ratio, advantage, eps=EPS), clip(ratio, advantage, clip_eps=EPS), ratio * advantage))
    return chain[:-1], chain[1:]


sandwich.twin(
    "sign_of_the_advantage_kept",
    "With A in place of |A| the parabola opens upwards for bad actions and rises above everything.",
    parabola=lambda ratio, advantage, eps: ratio * advantage - advantage / (2 * eps) * (ratio - 1) ** 2,
)
sandwich.twin(
    "max_for_min",
    "The larger of the two products is not a pessimist's choice: it exceeds rA where the clip acts.",
    clip=lambda ratio, advantage, clip_eps: torch.maximum(
        ratio * advantage, ratio.clamp(1 - clip_eps, 1 + clip_eps) * advantage
    ),
)


def _bandit(draw):
    """Random one-state problems; in every tenth one action has no advantage at all."""
    prob, advantage = instances.policy(draw, 4), draw.normal(4)
    advantage[::10, 0] = 0
    return prob, advantage


def _without_max(prob, advantage, eps):
    sign, size = advantage.sign(), advantage.abs().clamp(min=1e-12)
    nu = (prob * sign).sum(-1, keepdim=True) / (prob / size).sum(-1, keepdim=True)
    return 1 + eps * (sign - nu / size)


@claim(
    "ratio_clipping.one_state_optimum",
    equation="2.22",
    kind="identity",
    tex=r"r^*(a)=\max\Big(0,\ 1+\epsilon\Big(\mathrm{sign}\,A(a)-\frac{\nu}{|A(a)|}\Big)\Big),\qquad"
    r"\nu\ \text{such that}\ \sum_a\pi(a)\,r^*(a)=1\qquad(A(a)\ne 0)",
    source="ours; an action with A = 0 takes what the others leave (nu = 0), or nothing (nu > 0)",
    draws=2000,
    tolerance=1e-8,
)
def one_state_optimum(draw, optimum=optima.spo_optimum):
    prob, advantage = _bandit(draw)
    return _solvers.best_ratio(prob, advantage, advantage.abs() / EPS), optimum(prob, advantage, eps=EPS)


one_state_optimum.twin(
    "every_sample_at_its_edge",
    "Ratios 1 + eps sign A belong to a policy only where the old one gives both signs the same probability.",
    optimum=lambda prob, advantage, eps: 1 + eps * advantage.sign(),
)
one_state_optimum.twin(
    "no_max_with_zero",
    "Where an unlikely action with a small advantage has to absorb the rest, the closed form goes below zero.",
    optimum=_without_max,
)
one_state_optimum.twin(
    "divided_by_the_sum",
    "Dividing the edges by their sum gives a policy, but not the best one: small advantages should give way first.",
    optimum=lambda prob, advantage, eps: (
        (1 + eps * advantage.sign()) / (prob * (1 + eps * advantage.sign())).sum(-1, keepdim=True)
    ),
)


def _interior_bandit(draw):
    """One-state problems with |A| in [.5, 2], where no optimal ratio reaches zero; the first is a small example."""
    prob = instances.policy(draw, 3)
    advantage = draw.uniform(3, low=0.5, high=2) * torch.where(draw.uniform(3) < 0.5, -1.0, 1.0)
    prob[0], advantage[0] = prob.new_tensor([0.7, 0.2, 0.1]), prob.new_tensor([0.1, -0.05, -0.6])
    return prob, advantage


@claim(
    "ratio_clipping.saturation",
    equation="2.23",
    kind="identity",
    tex=r"\mathbb{E}_\pi[r^*A]-\mathbb{E}_\pi[A]=\epsilon\left(\mathbb{E}_\pi|A|-"
    r"\frac{(\mathbb{E}_\pi\,\mathrm{sign}\,A)^2}{\mathbb{E}_\pi[1/|A|]}\right)\qquad(r^*>0)",
    source="ours",
    draws=1000,
    tolerance=1e-12,
)
def saturation(draw, gain=optima.spo_gain):
    prob, advantage = _interior_bandit(draw)
    ratio = optima.spo_optimum(prob, advantage, eps=EPS)
    return (prob * (ratio - 1) * advantage).sum(-1), gain(prob, advantage, eps=EPS)


saturation.twin(
    "all_of_eps_times_mean_size",
    "That level needs every ratio at its edge, which only balanced signs or one sampled action per context allow.",
    gain=lambda prob, advantage, eps: eps * (prob * advantage.abs()).sum(-1),
)
saturation.twin(
    "square_forgotten",
    "The multiplier enters once through the sum and once through the ratios: the mean sign is squared.",
    gain=lambda prob, advantage, eps: (
        eps * ((prob * advantage.abs()).sum(-1) - (prob * advantage.sign()).sum(-1) / (prob / advantage.abs()).sum(-1))
    ),
)


@claim(
    "ratio_clipping.half_the_gain",
    equation="2.24",
    kind="identity",
    tex=r"\mathbb{E}_\pi\Big[\frac{|A|}{2\epsilon}(r^*-1)^2\Big]=\tfrac12\,\mathbb{E}_\pi\big[(r^*-1)A\big]\qquad(r^*>0)",
    source="ours; the penalty eats exactly half of the gain",
    draws=1000,
    tolerance=1e-12,
)
def half_the_gain(draw, ratio=optima.spo_optimum, half=0.5):
    prob, advantage = _interior_bandit(draw)
    moved = ratio(prob, advantage, eps=EPS) - 1
    penalty = (prob * advantage.abs() / (2 * EPS) * moved**2).sum(-1)
    return penalty, half * (prob * moved * advantage).sum(-1)


half_the_gain.twin("all_of_the_gain", "A penalty that ate all of the gain would leave no reason to move.", half=1)
half_the_gain.twin(
    "anywhere_on_the_way",
    "Halfway there the gain is half and the penalty only a quarter: the balance is struck at the optimum alone.",
    ratio=lambda prob, advantage, eps: (1 + optima.spo_optimum(prob, advantage, eps=eps)) / 2,
)


def _lopsided(draw):
    """One likely bad action, and a nearly indifferent one that has to absorb what it loses."""
    prob = torch.tensor([0.0504, 0.8809, 0.0687], dtype=torch.float64).expand(draw.count, 3)
    advantage = prob.new_tensor([0.907, -0.0519, -0.000198]) * draw.uniform(3, low=0.8, high=1.25)
    return prob, advantage


@claim(
    "ratio_clipping.own_constraint_violated",
    equation="2.25",
    kind="witness",
    tex=r"\mathbb{E}_\pi|r^*-1|>\epsilon\quad\text{for some }(\pi,A),\qquad"
    r"\text{although always}\quad\mathbb{E}_\pi|r^*-1|<2\epsilon",
    source="ours; r* maximises SPO's objective exactly, and the constraint it came from does not hold there",
    draws=1000,
    tolerance=0,
)
def own_constraint_violated(draw, bandit=_lopsided, bound=EPS):
    violated, limited = (_mean_deviation(*problem) for problem in (bandit(draw), _bandit(draw)))
    return (
        torch.cat((violated, torch.full_like(limited, 2 * EPS))),
        torch.cat((torch.full_like(violated, bound), limited)),
    )


def _mean_deviation(prob, advantage):
    return (prob * (optima.spo_optimum(prob, advantage, eps=EPS) - 1).abs()).sum(-1)


own_constraint_violated.twin(
    "whatever_the_advantages", "With advantages of similar size the optimum stays inside.", bandit=_interior_bandit
)
own_constraint_violated.twin(
    "twice_the_bound", "One side of the move is limited by eps, so both together stay below 2 eps.", bound=2 * EPS
)


@claim(
    "ratio_clipping.tv_constrained_optimum",
    equation="2.26",
    kind="identity",
    tex=r"\arg\max_{r\ge 0}\big\{\mathbb{E}_\pi[rA]:\mathbb{E}_\pi|r-1|\le\epsilon,\ \mathbb{E}_\pi[r]=1\big\}"
    r"\ \text{moves mass}\ \tfrac{\epsilon}{2}\ \text{from the worst actions to the best}",
    source="the problem: Xie et al. 2025 (SPO), eq. 15; its solution: ours",
    draws=150,
    tolerance=1e-9,
)
def tv_constrained_optimum(draw, optimum=optima.tv_constrained_optimum, eps=0.4):
    prob, advantage = instances.policy(draw, 4), draw.normal(4)
    return _solvers.best_in_tv_ball(prob, advantage, 0.4), prob * optimum(prob, advantage, eps=eps)


tv_constrained_optimum.twin(
    "mass_eps_in_place_of_half",
    "What leaves one action arrives at another, and |r - 1| counts it twice.",
    eps=0.8,
)
tv_constrained_optimum.twin(
    "the_parabola_solves_it",
    "SPO's own optimum is another policy: it lets go of indifferent actions, not of the worst.",
    optimum=optima.spo_optimum,
)
