"""2.27 to 2.31: one problem, five link functions, and how a divergence is read off samples."""

import torch

from pocourse.lesson.claims import claim
from pocourse.ratio_clipping import bounds, objectives, optima
from pocourse.ratio_clipping.claims import _solvers, instances

STEP = 1.5


def _normalised(prob, ratio):
    return ratio / (prob * ratio).sum(-1, keepdim=True)


def _stationary(draw, ratio, price):
    """The gradient of E_new[A] - price / t in the new policy, against its own mean over the actions.

    For a concave objective on the simplex, a new policy with no zero is the optimum exactly where
    they are equal: then no mass gains anything by moving from one action to another.
    """
    prob, advantage = instances.policy(draw, 4), draw.normal(4)
    new = (prob * ratio(prob, advantage, step=STEP)).requires_grad_()
    objective = (new * advantage).sum() - price(prob, new).sum() / STEP
    (slope,) = torch.autograd.grad(objective, new)
    return slope, slope.mean(-1, keepdim=True).expand_as(slope)


@claim(
    "ratio_clipping.mirror_descent",
    equation="2.27",
    kind="identity",
    tex=r"\arg\max_{\pi'}\Big\{\mathbb{E}_{a\sim\pi'}[A(a)]-\tfrac1t\,\mathrm{KL}(\pi'\,\|\,\pi)\Big\}"
    r"=\frac{\pi(a)\,e^{tA(a)}}{\sum_b\pi(b)\,e^{tA(b)}}",
    source="Textbook (exponential tilting); the step of Tomar et al. 2020 (Mirror Descent Policy Optimization)",
    draws=500,
    tolerance=1e-10,
)
def mirror_descent(draw, step=optima.mirror_descent):
    return _stationary(
        draw,
        lambda prob, advantage, **size: step(prob, advantage, **size) / prob,
        lambda prob, new: bounds.kl_divergence(new, prob),
    )


mirror_descent.twin(
    "old_policy_forgotten",
    "A softmax of the advantages alone is the optimum for a uniform old policy.",
    step=lambda prob, advantage, step: (step * advantage).softmax(-1),
)
mirror_descent.twin(
    "step_upside_down",
    "A large step t means a cheap divergence and a sharper policy: exp(tA), not exp(A/t).",
    step=lambda prob, advantage, step: optima.mirror_descent(prob, advantage, step=1 / step),
)
mirror_descent.twin(
    "the_other_direction",
    "With KL(old || new) as the price the optimum is a hyperbola, not an exponential.",
    step=lambda prob, advantage, step: prob * optima.kl_old_new_link(prob, advantage, step=step),
)


def _multiplier_not_sought(prob, advantage, step):
    return _normalised(prob, 1 / (1 + step * (advantage.amax(-1, keepdim=True) - advantage)))


@claim(
    "ratio_clipping.kl_old_new_link",
    equation="2.28",
    kind="identity",
    tex=r"\arg\max_{\pi'}\Big\{\mathbb{E}_{a\sim\pi'}[A(a)]-\tfrac1t\,\mathrm{KL}(\pi\,\|\,\pi')\Big\}:\quad"
    r" r(a)=\frac{1}{t\,(\nu-A(a))},\qquad\nu\ \text{such that}\ \sum_a\pi(a)\,r(a)=1",
    source="ours",
    draws=500,
    tolerance=1e-10,
)
def kl_old_new_link(draw, link=optima.kl_old_new_link):
    return _stationary(draw, link, bounds.kl_divergence)


kl_old_new_link.twin(
    "the_other_direction",
    "The exponential belongs to KL(new || old).",
    link=optima.kl_new_old_link,
)
kl_old_new_link.twin(
    "divided_by_the_sum",
    "The multiplier stands inside the fraction: dividing by the sum afterwards is another policy.",
    link=_multiplier_not_sought,
)


@claim(
    "ratio_clipping.chi2_link",
    equation="2.29",
    kind="identity",
    tex=r"\arg\max_{\pi'}\Big\{\mathbb{E}_{a\sim\pi'}[A(a)]-\tfrac{1}{2t}\,\mathrm{Var}_\pi[r]\Big\}:\quad"
    r" r(a)=\max\big(0,\ 1+t\,(A(a)-\nu)\big),\qquad\nu\ \text{such that}\ \sum_a\pi(a)\,r(a)=1",
    source="ours",
    draws=1000,
    tolerance=1e-9,
)
def chi2_link(draw, link=optima.chi2_link):
    prob, advantage = instances.policy(draw, 4), draw.normal(4)
    price = torch.full_like(prob, 1 / STEP)
    return _solvers.best_ratio(prob, advantage, price), link(prob, advantage, step=STEP)


def _centred_line(prob, advantage, step):
    return 1 + step * (advantage - (prob * advantage).sum(-1, keepdim=True))


chi2_link.twin(
    "no_max_with_zero",
    "Centring by the mean advantage sends bad actions below zero as soon as the step is large.",
    link=_centred_line,
)
chi2_link.twin(
    "cut_and_divided_by_the_sum",
    "What is cut off at zero has to be taken back by a shift of the whole line, not by a factor.",
    link=lambda prob, advantage, step: _normalised(prob, _centred_line(prob, advantage, step).clamp(min=0)),
)

EPS = 0.2


def _constant_size(draw):
    """Advantages of one size per draw and of either sign."""
    size = draw.uniform(1, low=0.1, high=3)
    return size * torch.where(draw.uniform(4) < 0.5, -1.0, 1.0)


def _chi_square(old, new):
    return ((new - old) ** 2 / old).sum(-1)


@claim(
    "ratio_clipping.spo_is_chi2",
    equation="2.30",
    kind="identity",
    tex=r"|A(a)|=c\ \text{ for all } a\quad\Longrightarrow\quad\mathbb{E}_\pi[f_{\mathrm{SPO}}]"
    r"=\mathbb{E}_{\pi'}[A]-\frac{c}{2\epsilon}\,\chi^2(\pi'\,\|\,\pi),\qquad\chi^2(\pi'\,\|\,\pi)=\mathrm{Var}_\pi[r]",
    source="ours",
    draws=500,
    tolerance=1e-12,
)
def spo_is_chi2(draw, advantages=_constant_size, divergence=_chi_square, half=0.5):
    old, new, advantage = instances.policy(draw, 4), instances.policy(draw, 4), advantages(draw)
    size = (old * advantage.abs()).sum(-1, keepdim=True)
    spo = (old * objectives.spo_objective(new / old, advantage, eps=EPS)).sum(-1, keepdim=True)
    chi2 = (new * advantage).sum(-1, keepdim=True) - half * size / EPS * divergence(old, new)[:, None]
    # Not only the objectives agree, their optima do as well.
    spo_best = optima.spo_optimum(old, advantage, eps=EPS)
    chi2_best = optima.chi2_link(old, advantage / size, step=EPS)
    return torch.cat((spo, spo_best), -1), torch.cat((chi2, chi2_best), -1)


spo_is_chi2.twin(
    "advantages_of_any_size",
    "With sizes that differ SPO charges each action its own price, and chi-square all the same.",
    advantages=lambda draw: draw.normal(4),
)
spo_is_chi2.twin("half_dropped", "The parabola has 2 eps under the fraction.", half=1)
spo_is_chi2.twin(
    "the_other_direction",
    "The variance of new/old is an average under the old policy.",
    divergence=lambda old, new: _chi_square(new, old),
)


def _old_actions(old, new, draw):
    return torch.multinomial(old, draw.count, replacement=True, generator=draw.generator)


def _kl_samples(draw, exact, actions):
    old = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    new = torch.tensor([0.3, 0.3, 0.4], dtype=torch.float64)
    action = actions(old, new, draw)
    k1, k3 = objectives.kl_estimates(new.log()[action], old.log()[action])
    return torch.stack((k1, k3), -1), exact(old, new).expand(2)


@claim(
    "ratio_clipping.kl_estimators",
    equation="2.31",
    kind="estimate",
    tex=r"\mathbb{E}_{a\sim\pi}[-\log r]=\mathbb{E}_{a\sim\pi}[\,r-1-\log r\,]=\mathrm{KL}(\pi\,\|\,\pi')",
    source="Schulman 2020, Approximating KL divergence (k1 and k3)",
    draws=20000,
    tolerance=4,
)
def kl_estimators(draw, exact=bounds.kl_divergence, actions=_old_actions):
    return _kl_samples(draw, exact, actions)


kl_estimators.twin(
    "the_other_direction",
    "Actions of the old policy estimate KL(old || new).",
    exact=lambda old, new: bounds.kl_divergence(new, old),
)
kl_estimators.twin(
    "actions_of_the_new_policy",
    "Sampled from the new policy the same formulas estimate something else.",
    actions=lambda old, new, draw: _old_actions(new, old, draw),
)
