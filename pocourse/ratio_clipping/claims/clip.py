"""2.13 to 2.18: what the clip does to the gradient, and why it is not a trust region."""

import math

import torch

from pocourse.lesson.claims import claim
from pocourse.ratio_clipping import bounds, objectives
from pocourse.ratio_clipping.claims import instances

EPS = 0.2


def _ratios(draw, kinks=True):
    """Ratios and advantages: every third ratio at 1 or on a kink, every fifth advantage zero."""
    ratio, advantage = draw.uniform(low=0, high=2.5), draw.normal()
    if kinks:
        special = torch.tensor([1 - EPS, 1.0, 1 + EPS], dtype=torch.float64)
        ratio[::3] = special[torch.arange(len(ratio[::3])) % 3]
    advantage[::5] = 0
    return ratio, advantage


def _slope(objective, ratio, advantage, **settings):
    """The derivative of an objective in the ratio, by autograd."""
    ratio = ratio.clone().requires_grad_()
    return torch.autograd.grad(objective(ratio, advantage, **settings).sum(), ratio)[0]


def _too_far(ratio, advantage):
    """Whether the ratio has already gone too far the way the advantage pushes it."""
    return ((advantage > 0) & (ratio > 1 + EPS)) | ((advantage < 0) & (ratio < 1 - EPS))


def _clipped_cases(ratio, advantage):
    return torch.where(_too_far(ratio, advantage), torch.zeros_like(advantage), advantage)


def _clip_with_max(ratio, advantage, *, clip_eps):
    return torch.maximum(ratio * advantage, ratio.clamp(1 - clip_eps, 1 + clip_eps) * advantage)


@claim(
    "ratio_clipping.clip_cases",
    equation="2.13",
    kind="identity",
    tex=r"\frac{\partial f_{\mathrm{clip}}}{\partial r}=\begin{cases}"
    r"0 & A>0,\ r>1+\epsilon\\ 0 & A<0,\ r<1-\epsilon\\ A & \text{otherwise}\end{cases}"
    r"\qquad f_{\mathrm{clip}}=\min\big(rA,\ \mathrm{clip}(r,1-\epsilon,1+\epsilon)\,A\big)",
    source="Schulman et al. 2017 (PPO), eq. 7; at a kink the value is autograd's, which counts it as inside",
    draws=1500,
    tolerance=1e-12,
)
def clip_cases(draw, cases=_clipped_cases, objective=objectives.clip_objective):
    ratio, advantage = _ratios(draw)
    return _slope(objective, ratio, advantage, clip_eps=EPS), cases(ratio, advantage)


clip_cases.twin(
    "zero_whenever_the_ratio_is_outside",
    "On the wrong side, where the step has made matters worse, the minimum keeps the gradient alive.",
    cases=lambda ratio, advantage: torch.where(
        (ratio < 1 - EPS) | (ratio > 1 + EPS), torch.zeros_like(advantage), advantage
    ),
)
clip_cases.twin(
    "max_for_min",
    "The maximum flattens just the harmful side and leaves the greedy side without any limit.",
    objective=_clip_with_max,
)


def _limit(advantage):
    return torch.where(advantage >= 0, (1 + EPS) * advantage, (1 - EPS) * advantage)


@claim(
    "ratio_clipping.clip_g_form",
    equation="2.14",
    kind="identity",
    tex=r"f_{\mathrm{clip}}=\min\big(rA,\ g(\epsilon,A)\big),\qquad"
    r" g(\epsilon,A)=\begin{cases}(1+\epsilon)A & A\ge 0\\ (1-\epsilon)A & A<0\end{cases}",
    source="the form of OpenAI Spinning Up's page on PPO",
    draws=1500,
    tolerance=1e-12,
)
def clip_g_form(draw, limit=_limit, choose=torch.minimum):
    ratio, advantage = _ratios(draw)
    return objectives.clip_objective(ratio, advantage, clip_eps=EPS), choose(ratio * advantage, limit(advantage))


clip_g_form.twin(
    "one_limit_for_both_signs",
    "For a bad action the limit lies below one: (1 - eps) A.",
    limit=lambda advantage: (1 + EPS) * advantage,
)
clip_g_form.twin(
    "max_for_min", "The objective is the pessimist's choice, the smaller of the two.", choose=torch.maximum
)


@claim(
    "ratio_clipping.ratio_fixed_kl_unbounded",
    equation="2.15",
    kind="witness",
    tex=r"\sup_{\pi'}\big\{\mathrm{KL}(\pi\,\|\,\pi')(s)\,:\,r(s,a_t)=1\big\}=\infty"
    r"\qquad\text{for three or more actions with } \pi>0",
    source="Wang et al. 2019, as Xie et al. 2025 (SPO), Theorem 4.1, quotes it; the conditions are ours",
    draws=300,
    tolerance=0,
)
def ratio_fixed_kl_unbounded(draw, divergence=bounds.kl_divergence):
    demanded = draw.uniform(low=5, high=50)
    old = 0.05 + 0.8 * instances.policy(draw, 4)
    old = old / old.sum(-1, keepdim=True)
    new = old.clone()
    new[:, 1] = old[:, 1] * torch.exp(-(demanded + 1) / old[:, 1])
    new[:, 2] = old[:, 2] + old[:, 1] - new[:, 1]
    sampled_stays = new[:, 0] == old[:, 0]
    return torch.where(sampled_stays, divergence(old, new), torch.zeros_like(demanded)), demanded


ratio_fixed_kl_unbounded.twin(
    "the_other_direction",
    "KL(new || old) never exceeds the log of one over the smallest old probability.",
    divergence=lambda old, new: bounds.kl_divergence(new, old),
)


@ratio_fixed_kl_unbounded.twin(
    "two_actions_suffice",
    "With two actions one ratio fixes the other: while (1 + eps) pi(a) < 1, a clipped ratio bounds the divergence.",
)
def _two_actions(draw):
    demanded, sampled = draw.uniform(low=5, high=50), draw.uniform(low=0.1, high=0.8)
    old, new = (torch.stack((p, 1 - p), -1) for p in (sampled, (1 + EPS) * sampled))
    return bounds.kl_divergence(old, new), demanded


def _all_ratios_above(draw, eps):
    """Old and new policies whose ratios are all at least 1 - eps; in the second half one rare action takes all."""
    old = instances.policy(draw, 4)
    rare = 10 ** -draw.uniform(low=2, high=6)
    concentrated = torch.cat((rare[:, None], (1 - rare)[:, None] * old[:, 1:] / old[:, 1:].sum(-1, keepdim=True)), -1)
    first_action = torch.zeros_like(old)
    first_action[:, 0] = 1
    new, concentrated_new = (
        (1 - eps[:, None]) * a + eps[:, None] * b
        for a, b in ((old, instances.policy(draw, 4)), (concentrated, first_action))
    )
    return torch.cat((old, concentrated)), torch.cat((new, concentrated_new))


@claim(
    "ratio_clipping.kl_needs_all_ratios",
    equation="2.16",
    kind="bound",
    tex=r"r(s,a)\ge 1-\epsilon\ \text{ for all } a\quad\Longrightarrow\quad"
    r"\mathrm{KL}(\pi\,\|\,\pi')(s)\le-\log(1-\epsilon)",
    source="ours; KL(old || new) is the old policy's mean of -log r",
    draws=500,
    tolerance=1e-12,
    attained=0.001,
)
def kl_needs_all_ratios(draw, divergence=bounds.kl_divergence, limit=lambda eps: -torch.log1p(-eps)):
    eps = draw.uniform(low=0.05, high=0.5)
    return divergence(*_all_ratios_above(draw, eps)), limit(eps).repeat(2)


kl_needs_all_ratios.twin(
    "upper_edge_in_place_of_the_lower",
    "The divergence grows with what is lost: -log(1 - eps) is more than log(1 + eps).",
    limit=torch.log1p,
)
kl_needs_all_ratios.twin(
    "the_other_direction",
    "KL(new || old) weighs the action that gained, and no lower limit on the ratios holds that down.",
    divergence=lambda old, new: bounds.kl_divergence(new, old),
)


@kl_needs_all_ratios.twin(
    "only_the_sampled_action",
    "A limit on one action's ratio says nothing about the others.",
)
def _one_ratio(draw):
    eps = draw.uniform(low=0.05, high=0.5)
    old = instances.policy(draw, 4)
    new = torch.stack((old[:, 0], old[:, 1] * 1e-9, old[:, 2] + old[:, 1] * (1 - 1e-9), old[:, 3]), -1)
    return bounds.kl_divergence(old, new), -torch.log1p(-eps)


def _shared_step(draw, batch):
    """|r - 1| of a clipped sample before and after a step along the gradient of a batch's clipped objective.

    Logits are linear in features that two samples share in part. The old policy is uniform over three
    actions. The first sample's ratio stands at 1.5 (A > 0) or .6 (A < 0), the second's inside the range.
    """
    sign = torch.where(draw.uniform() < 0.5, -1.0, 1.0).double()
    direction = torch.nn.functional.normalize(draw.normal(6), dim=-1)
    other = draw.normal(6)
    other = other - (other * direction).sum(-1, keepdim=True) * direction
    feature = torch.stack((direction, draw.uniform(1, low=0.1, high=0.35) * direction + other), 1)
    advantage = sign[:, None] * draw.uniform(2, low=0.5, high=2)
    theta = torch.zeros(draw.count, 3, 6, dtype=torch.float64)
    theta[:, 0] = sign[:, None] * math.log(2) * direction
    theta.requires_grad_()

    def losses(theta):
        logp = torch.einsum("nka,nia->nik", theta, feature).log_softmax(-1)[..., 0]
        return logp, objectives.ppo_clip_loss(logp, torch.full_like(logp, -math.log(3)), advantage, clip_eps=EPS)

    logp, loss = losses(theta)
    (own,) = torch.autograd.grad(loss[:, 0].sum(), theta, retain_graph=True)
    (gradient,) = torch.autograd.grad(loss[:, batch].sum(), theta)
    moved, _ = losses((theta - 0.01 * gradient).detach())
    before, after = ((3 * x[:, 0].detach().exp() - 1).abs() for x in (logp, moved))
    clipped = (own == 0).all(-1).all(-1) & (before > EPS)
    return torch.where(clipped, after, torch.zeros_like(after)), before


@claim(
    "ratio_clipping.clipped_still_moves",
    equation="2.17",
    kind="witness",
    tex=r"\frac{\partial f_{\mathrm{clip}}}{\partial r_t}=0\quad\text{and yet}\quad "
    r"A_t\,\big\langle\nabla_\theta L^{\mathrm{clip}},\,\nabla_\theta r_t\big\rangle>0\quad\text{for some batches}",
    source="ours; the point is that of Wang et al. 2019 (Truly PPO), known to us second-hand",
    draws=300,
    tolerance=0,
)
def clipped_still_moves(draw, batch=(0, 1)):
    return _shared_step(draw, list(batch))


clipped_still_moves.twin(
    "pushed_by_its_own_gradient",
    "Its own gradient is exactly zero; alone in the batch it would rest. The parameters it shares push it.",
    batch=(0,),
)


@clipped_still_moves.twin("a_clipped_sample_does_not_move", "The other sample's gradient moves the shared parameters.")
def _rests(draw):
    after, before = _shared_step(draw, [0, 1])
    return before + 1e-9, after


SLOPE = 0.3


def _rolled_cases(ratio, advantage):
    return torch.where(_too_far(ratio, advantage), -SLOPE * advantage, advantage)


@claim(
    "ratio_clipping.rollback_gradient",
    equation="2.18",
    kind="identity",
    tex=r"\frac{\partial f_{\mathrm{RB}}}{\partial r}=\begin{cases}"
    r"-\kappa A & A>0,\ r>1+\epsilon\ \text{ or }\ A<0,\ r<1-\epsilon\\ A & \text{otherwise}\end{cases}",
    source="Wang et al. 2019 (Truly PPO), the rollback of PPO-RB; kappa is its slope",
    draws=1500,
    tolerance=1e-12,
)
def rollback_gradient(draw, cases=_rolled_cases):
    ratio, advantage = _ratios(draw)
    return _slope(objectives.rollback_objective, ratio, advantage, clip_eps=EPS, slope=SLOPE), cases(ratio, advantage)


rollback_gradient.twin(
    "flat_outside",
    "That is the plain clip: it stops pushing, and never pulls back.",
    cases=_clipped_cases,
)
rollback_gradient.twin(
    "slope_of_the_same_sign",
    "With the same sign the ratio would still be pushed outwards, only more slowly.",
    cases=lambda ratio, advantage: torch.where(_too_far(ratio, advantage), SLOPE * advantage, advantage),
)
