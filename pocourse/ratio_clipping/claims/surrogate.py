"""2.1 to 2.5: the importance-weighted surrogate, and how far it can be trusted in sight of the old policy."""

import torch

from pocourse.lesson.claims import claim
from pocourse.ratio_clipping import bounds, objectives
from pocourse.ratio_clipping.claims import instances
from pocourse.worlds import tabular


@claim(
    "ratio_clipping.importance_sampling",
    equation="2.1",
    kind="identity",
    tex=r"\mathbb{E}_{a\sim\pi'}\big[A_\pi(s,a)\big] = \mathbb{E}_{a\sim\pi}\big[r\,A_\pi(s,a)\big],"
    r"\qquad r=\frac{\pi'(a\mid s)}{\pi(a\mid s)}",
    source="Textbook (importance sampling); needs pi(a|s) > 0 wherever pi'(a|s) > 0",
    draws=500,
    tolerance=1e-12,
)
def importance_sampling(draw, weights=lambda old, new: old, ratio=lambda old, new: new / old):
    old, new, advantage = instances.policy(draw, 5), instances.policy(draw, 5), draw.normal(5)
    weighted = objectives.importance_objective(ratio(old, new), advantage)
    return (new * advantage).sum(-1), (weights(old, new) * weighted).sum(-1)


importance_sampling.twin(
    "averaged_over_the_new_policy",
    "The ratio already turns old actions into new ones; averaging over new actions corrects twice.",
    weights=lambda old, new: new,
)
importance_sampling.twin(
    "ratio_upside_down",
    "The policy that is asked about stands on top, the one that acted below.",
    ratio=lambda old, new: old / new,
)


def _random_pair(draw, gamma):
    mdp = instances.random_world(draw, draw.count, gamma)
    return mdp, instances.policy(draw, 4, 3), instances.policy(draw, 4, 3)


@claim(
    "ratio_clipping.performance_difference",
    equation="2.2",
    kind="identity",
    tex=r"\eta(\pi')-\eta(\pi)=\frac{1}{1-\gamma}\,\mathbb{E}_{s\sim d_{\pi'},\,a\sim\pi'}\big[A_\pi(s,a)\big]",
    source="Kakade & Langford 2002, as Xie et al. 2025 (SPO), Theorem 3.1, states it",
    draws=300,
    tolerance=1e-10,
)
def performance_difference(
    draw,
    weights=lambda mdp, old, new: tabular.occupancy(mdp, new),
    advantage=lambda mdp, old, new: tabular.advantages(mdp, old),
    horizon=lambda gamma: 1 / (1 - gamma),
):
    left, right = [], []
    for gamma in instances.GAMMAS:
        mdp, old, new = _random_pair(draw, gamma)
        left.append(tabular.performance(mdp, new) - tabular.performance(mdp, old))
        mean = bounds.expected_advantage(new, advantage(mdp, old, new))
        right.append((weights(mdp, old, new) * mean).sum(-1) * horizon(gamma))
    return torch.stack(left), torch.stack(right)


performance_difference.twin(
    "states_of_the_old_policy",
    "That is the surrogate: it forgets that new actions lead to other states.",
    weights=lambda mdp, old, new: tabular.occupancy(mdp, old),
)
performance_difference.twin(
    "gamma_dropped",
    "The occupancy sums to one, so the length of the discounted horizon, 1/(1 - gamma), has to stand in front.",
    horizon=lambda gamma: 1,
)
performance_difference.twin(
    "advantage_of_the_new_policy",
    "Averaged over its own actions an advantage is zero; it has to be the old policy's.",
    advantage=lambda mdp, old, new: tabular.advantages(mdp, new),
)


@claim(
    "ratio_clipping.first_order",
    equation="2.4",
    kind="order",
    tex=r"\eta(\pi_t)-\eta(\pi)=L_\pi(\pi_t)+O(t^2),\qquad"
    r" L_\pi(\pi')=\frac{1}{1-\gamma}\,\mathbb{E}_{s\sim d_\pi,\,a\sim\pi}\big[r\,A_\pi(s,a)\big]",
    source="Kakade & Langford 2002; Schulman et al. 2015 (TRPO), section 2; along any smooth path pi_t with pi_0 = pi",
    draws=8,
    tolerance=0.1,
    rate=2,
)
def first_order(draw, promised=bounds.surrogate_gain):
    mdp = instances.random_world(draw, draw.count, 0.9)
    logits, direction = draw.normal(4, 3), draw.normal(4, 3)
    old = logits.softmax(-1)
    sizes = torch.tensor([3e-4, 1e-4, 3e-5, 1e-5], dtype=torch.float64)
    error = []
    for t in sizes:
        new = (logits + t * direction).softmax(-1)
        gain = tabular.performance(mdp, new) - tabular.performance(mdp, old)
        surrogate = promised(tabular.occupancy(mdp, old), new, tabular.advantages(mdp, old), gamma=mdp.gamma)
        error.append((gain - surrogate).abs())
    return sizes[:, None].expand(-1, draw.count), torch.stack(error)


first_order.twin(
    "gamma_dropped",
    "Without 1/(1 - gamma) the surrogate has the wrong slope already at the old policy.",
    promised=lambda d, new, advantage, gamma: bounds.surrogate_gain(d, new, advantage, gamma=gamma) * (1 - gamma),
)
first_order.twin(
    "states_weighed_equally",
    "States count as often as the old policy visits them; a plain mean over states has another slope.",
    promised=lambda d, new, advantage, gamma: bounds.surrogate_gain(
        torch.full_like(d, 1 / d.shape[-1]), new, advantage, gamma=gamma
    ),
)


@claim(
    "ratio_clipping.tv_ratio",
    equation="2.3",
    kind="identity",
    tex=r"\mathrm{TV}(\pi,\pi')(s)=\tfrac12\sum_a|\pi'(a\mid s)-\pi(a\mid s)|"
    r"=\tfrac12\,\mathbb{E}_{a\sim\pi}\big|r-1\big|\qquad(\pi>0)",
    source="Xie et al. 2025 (SPO), eq. 9, after Queeney et al. 2021",
    draws=500,
    tolerance=1e-12,
)
def tv_ratio(draw, weights=lambda old, new: old, half=0.5):
    old, new = instances.policy(draw, 5), instances.policy(draw, 5)
    deviation = objectives.ratio_deviation(new.log(), old.log())
    return bounds.total_variation(old, new), half * (weights(old, new) * deviation).sum(-1)


tv_ratio.twin("half_dropped", "What leaves one action arrives at another: |r - 1| counts the mass twice.", half=1)
tv_ratio.twin(
    "averaged_over_the_new_policy",
    "The old policy's probability has to cancel the ratio's denominator.",
    weights=lambda old, new: new,
)


@claim(
    "ratio_clipping.tv_support",
    equation="2.5",
    kind="identity",
    tex=r"\mathrm{TV}(\pi,\pi')(s)=\tfrac12\,\mathbb{E}_{a\sim\pi}\big|r-1\big|"
    r"+\tfrac12\,\pi'\big(\{a:\pi(a\mid s)=0\}\mid s\big)",
    source="ours; what the ratio cannot see when the old policy never plays an action",
    draws=500,
    tolerance=1e-12,
)
def tv_support(draw, unseen=0.5):
    mask = torch.ones(5, dtype=torch.float64).index_fill(0, torch.tensor([1, 3]), 0)
    old = instances.policy(draw, 5) * mask
    old, new = old / old.sum(-1, keepdim=True), instances.policy(draw, 5)
    seen = old > 0
    ratio = torch.where(seen, new / torch.where(seen, old, torch.ones_like(old)), torch.ones_like(old))
    right = (old * (ratio - 1).abs()).sum(-1) / 2 + unseen * (new * ~seen).sum(-1)
    return bounds.total_variation(old, new), right


tv_support.twin(
    "unseen_actions_forgotten",
    "Mass on actions that the old policy never plays has no ratio, and yet it has moved.",
    unseen=0,
)
tv_support.twin("unseen_actions_counted_twice", "The unseen mass carries the half as well.", unseen=1)
