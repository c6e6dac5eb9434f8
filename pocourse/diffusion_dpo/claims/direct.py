"""5.6 to 5.10: DPO, where the policy is the reward: margin, gradient, optimum, and what a step moves besides."""

import math

import torch

from pocourse.diffusion_dpo import objectives, optima
from pocourse.lesson.claims import claim
from pocourse.worlds import bandit

BETA = 2.0
LOG_TWO = math.log(2)
OUTCOMES = 6
ALL_PAIRS = torch.triu_indices(OUTCOMES, OUTCOMES, offset=1)
CHAIN = torch.stack((torch.arange(OUTCOMES - 1), torch.arange(1, OUTCOMES)))
TORN = CHAIN[:, CHAIN[0] != 2]  # nobody is compared across 2 and 3


def _random_logp(draw, outcomes=OUTCOMES):
    return bandit.random_policy((draw.count, outcomes), generator=draw.generator).log()


def _pair(draw):
    """Log-probabilities of a policy and of its reference, each of the chosen and the rejected outcome."""
    return _random_logp(draw)[:, :2].unbind(-1), _random_logp(draw)[:, :2].unbind(-1)


@claim(
    "diffusion_dpo.loss_at_the_reference",
    equation="5.6",
    kind="identity",
    tex=r"L=-\log\mathrm{sigmoid}(z),\qquad z=\beta\Big[\log\frac{\pi_\theta(y_w)}{\pi_{\mathrm{ref}}(y_w)}"
    r"-\log\frac{\pi_\theta(y_l)}{\pi_{\mathrm{ref}}(y_l)}\Big],\qquad"
    r"\pi_\theta=\pi_{\mathrm{ref}}\ \Longrightarrow\ z=0,\ L=\log2\quad"
    r"\text{for every pair and every }\beta",
    source="follows from the margin of Rafailov et al. 2023 (DPO), which is one of log-ratios",
    draws=300,
    tolerance=1e-12,
)
def loss_at_the_reference(draw, reference=lambda chosen, rejected: (chosen, rejected), value=LOG_TWO):
    chosen, rejected = _pair(draw)[1]
    pair = chosen, rejected, *reference(chosen, rejected)
    found = torch.stack([objectives.dpo_loss(*pair, beta=beta) for beta in (0.01, BETA, 20.0)], -1)
    return found, torch.full_like(found, value)


loss_at_the_reference.twin(
    "nothing_learned_costs_nothing",
    "A loss of zero would call every label certain. One bit, log 2, is what a coin costs.",
    value=0.0,
)
loss_at_the_reference.twin(
    "no_reference",
    "Without the reference the loss starts with an opinion: that the likelier outcome is the better one.",
    reference=lambda chosen, rejected: (torch.zeros_like(chosen), torch.zeros_like(rejected)),
)
loss_at_the_reference.twin(
    "references_exchanged",
    "The chosen outcome is measured against what the reference says of the chosen one.",
    reference=lambda chosen, rejected: (rejected, chosen),
)


def _swapped(policy, reference):
    return policy[::-1], reference[::-1]


@claim(
    "diffusion_dpo.swap",
    equation="5.7",
    kind="identity",
    tex=r"z(y_l,y_w)=-z(y_w,y_l),\qquad e^{-L(y_w,y_l)}+e^{-L(y_l,y_w)}=1",
    source="follows from the margin of Rafailov et al. 2023 (DPO): two labels, two sides of one coin",
    draws=300,
    tolerance=1e-12,
)
def swap(draw, swapped=_swapped, together=lambda first, second: (-first).exp() + (-second).exp()):
    pairs = _pair(draw)
    there, back = ((*policy, *reference) for policy, reference in (pairs, swapped(*pairs)))
    total = together(objectives.dpo_loss(*there, beta=BETA), objectives.dpo_loss(*back, beta=BETA))
    margin = objectives.dpo_margin(*there, beta=BETA)
    found = torch.stack((objectives.dpo_margin(*back, beta=BETA), total), -1)
    return found, torch.stack((-margin, torch.ones_like(total)), -1)


swap.twin(
    "reference_stays",
    "All four numbers change places: a reference that stays measures each outcome against the other.",
    swapped=lambda policy, reference: (policy[::-1], reference),
)
swap.twin(
    "policy_stays",
    "Exchanged references alone leave half of the margin as it was.",
    swapped=lambda policy, reference: (policy, reference[::-1]),
)
swap.twin(
    "losses_sum_to_one",
    "The chances of the two labels sum to one. Their surprises do not: they sum to log 4 or more.",
    together=lambda first, second: first + second,
)


def _linear_policy(draw, dim=3):
    """Features, parameters that carry gradient, and the reference's log-probabilities of outcomes 0 and 1."""
    return draw.normal(OUTCOMES, dim), draw.normal(dim).requires_grad_(), _random_logp(draw)[:, :2].unbind(-1)


def _logp(features, theta):
    return torch.einsum("nod,nd->no", features, theta).log_softmax(-1)


@claim(
    "diffusion_dpo.gradient",
    equation="5.8",
    kind="identity",
    tex=r"\nabla_\theta L=-\beta\,\mathrm{sigmoid}(-z)\,\big[\nabla_\theta\log\pi_\theta(y_w)"
    r"-\nabla_\theta\log\pi_\theta(y_l)\big]",
    source="Rafailov et al. 2023 (DPO); softmax policies over six outcomes with linear logits",
    draws=300,
    tolerance=1e-12,
)
def gradient(draw, weight=lambda z: -BETA * (-z).sigmoid(), scores=lambda chosen, rejected: chosen - rejected):
    features, theta, reference = _linear_policy(draw)
    chosen, rejected = _logp(features, theta)[:, :2].unbind(-1)
    margin = objectives.dpo_margin(chosen, rejected, *reference, beta=BETA)
    loss = objectives.dpo_loss(chosen, rejected, *reference, beta=BETA)
    found, first, second = (torch.autograd.grad(x.sum(), theta, retain_graph=True)[0] for x in (loss, chosen, rejected))
    return found, weight(margin.detach())[:, None] * scores(first, second)


gradient.twin(
    "weight_on_the_right_ones",
    "A pair that is ordered rightly already has little left to teach: sigmoid(-z), not sigmoid(z).",
    weight=lambda z: -BETA * z.sigmoid(),
)
gradient.twin(
    "beta_left_out",
    "The margin is beta times a difference of log-ratios, and the chain rule keeps the beta.",
    weight=lambda z: -(-z).sigmoid(),
)
gradient.twin(
    "winner_alone",
    "That is supervised fine-tuning on winners, weighted: the loser pulls just as hard.",
    scores=lambda chosen, rejected: chosen,
)
gradient.twin(
    "uphill",
    "A step against the gradient must raise the winner's log-ratio above the loser's.",
    weight=lambda z: BETA * (-z).sigmoid(),
)


def _fitted(logp_ref, label, share, pairs):
    """The policy that minimises the exact expected loss: LBFGS on its logits, from the reference, all draws at once.

    ``label`` [draw, pair] is the chance that the first outcome of a pair wins, ``share`` how often the pair comes up.
    """
    logits = logp_ref.clone().requires_grad_()
    weight = share.unsqueeze(1) * torch.stack((label, 1 - label), 1)
    chosen, rejected = pairs, pairs.flip(0)
    optimizer = torch.optim.LBFGS(
        [logits], max_iter=100, tolerance_grad=1e-10, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def expected():
        optimizer.zero_grad()
        logp = logits.log_softmax(-1)
        numbers = logp[:, chosen], logp[:, rejected], logp_ref[:, chosen], logp_ref[:, rejected]
        loss = (weight * objectives.dpo_loss(*numbers, beta=BETA)).sum()
        loss.backward()
        return loss

    optimizer.step(expected)
    return logits.detach().softmax(-1)


@claim(
    "diffusion_dpo.optimum_is_gibbs",
    equation="5.9",
    kind="identity",
    tex=r"\arg\min_{\pi_\theta}\ \mathbb{E}\big[L(y_w,y_l)\big]=\frac{\pi_{\mathrm{ref}}\,e^{r/\beta}}{Z}"
    r"\qquad\text{if labels follow }r\text{ and the compared pairs connect all outcomes}",
    source="Rafailov et al. 2023 (DPO) for all pairs; that a connected graph is enough: ours. Six outcomes: all 15 "
    "pairs, and a chain of 5",
    draws=4,
    tolerance=1e-6,
)
def optimum_is_gibbs(
    draw,
    graphs=(ALL_PAIRS, CHAIN),
    chance=torch.sigmoid,
    policy=objectives.gibbs_policy,
):
    logp_ref, reward = _random_logp(draw), draw.normal(OUTCOMES)
    found = []
    for pairs in graphs:
        label = chance(reward[:, pairs[0]] - reward[:, pairs[1]])
        share = draw.uniform(pairs.shape[1], low=0.5, high=1.5)
        found.append(_fitted(logp_ref, label, share / share.sum(-1, keepdim=True), pairs))
    best = policy(logp_ref, reward, beta=BETA)
    return torch.stack(found), torch.stack([best] * len(graphs))


optimum_is_gibbs.twin(
    "a_torn_graph",
    "Where no pair ties two groups of outcomes together, nothing says how probable one group is beside the other.",
    graphs=(TORN,),
)
optimum_is_gibbs.twin(
    "labels_of_twice_the_reward",
    "Surer labels are a larger reward: the policy is then the one of half the beta.",
    graphs=(ALL_PAIRS,),
    chance=lambda difference: (2 * difference).sigmoid(),
)
optimum_is_gibbs.twin(
    "labels_without_noise",
    "If the better one always wins, no finite margin is enough: the policy runs away from the reference for any beta.",
    graphs=(ALL_PAIRS,),
    chance=lambda difference: (difference > 0).to(difference),
)
optimum_is_gibbs.twin(
    "softmax_of_the_reward",
    "Margins are measured against the reference: the optimum has it in front.",
    graphs=(ALL_PAIRS,),
    policy=lambda logp_ref, reward, beta: (reward / beta).softmax(-1),
)

# One feature each: of the chosen, the rejected, and a third outcome that has more of what tells the two apart.
LINE = torch.tensor([[1.0], [0.0], [3.0]], dtype=torch.float64)
TABULAR = torch.eye(3, dtype=torch.float64)


def _formula(features, policy):
    """What the winner's log-probability gains per unit of c, if outcomes 0 and 1 were compared."""
    return optima.displacement(features, policy, *torch.tensor([0, 1]).expand(len(policy), 2).unbind(-1))[:, 0]


def _after_a_step(features, size):
    """log pi(winner) and margin before and after a gradient step on the loss, from a uniform reference."""
    theta = torch.zeros(len(size), features.shape[-1], dtype=torch.float64).requires_grad_()
    features = features.expand(len(size), *features.shape)
    reference = _logp(features, theta).detach()[:, :2].unbind(-1)
    chosen, rejected = _logp(features, theta)[:, :2].unbind(-1)
    loss = objectives.dpo_loss(chosen, rejected, *reference, beta=BETA)
    (slope,) = torch.autograd.grad(loss.sum(), theta)
    moved = _logp(features, theta.detach() - size[:, None] * slope)[:, :2].unbind(-1)
    margins = [objectives.dpo_margin(*pair, *reference, beta=BETA) for pair in ((chosen, rejected), moved)]
    return (chosen.detach(), margins[0].detach()), (moved[0], margins[1])


def _formula_error(draw, formula):
    """How far the formula is from the derivative along a step, of random linear logits."""
    features, theta, reference = _linear_policy(draw)
    logp = _logp(features, theta)
    loss = objectives.dpo_loss(*logp[:, :2].unbind(-1), *reference, beta=BETA)
    step, score = (torch.autograd.grad(x.sum(), theta, retain_graph=True)[0] for x in (-loss, logp[:, 0]))
    c = BETA * (-objectives.dpo_margin(*logp.detach()[:, :2].unbind(-1), *reference, beta=BETA)).sigmoid()
    return ((score * step).sum(-1) - c * formula(features, logp.detach().exp())).abs()


@claim(
    "diffusion_dpo.displacement",
    equation="5.10",
    kind="witness",
    tex=r"\Delta\log\pi(y_w)=c\,(x_w-\mathbb{E}_\pi x)\cdot(x_w-x_l)+O(c^2),\quad c=\eta\,\beta\,\mathrm{sigmoid}(-z):"
    r"\qquad x_w,x_l,x_3=1,0,3,\ \pi=\tfrac13:\quad z\text{ rises and }\log\pi(y_w)\text{ falls}",
    source="ours, for logits that are linear in features x; the name likelihood displacement is of Razin et al. 2024. "
    "Steps of many sizes; the formula on random features",
    draws=100,
    tolerance=0,
)
def displacement(draw, features=LINE, formula=_formula, falls=True):
    (logp, margin), (logp_after, margin_after) = _after_a_step(features, draw.uniform(low=0.1, high=10))
    error = _formula_error(draw, formula)
    if not falls:
        logp, logp_after = logp_after, logp
    large = torch.stack((logp, margin_after, torch.full_like(error, 1e-12)), -1)
    return large, torch.stack((logp_after, margin, error), -1)


displacement.twin(
    "tabular_logits",
    "With a logit of its own for every outcome a step always raises the winner: by 1 - pi(w) + pi(l) to first order.",
    features=TABULAR,
)
displacement.twin(
    "two_outcomes",
    "Where nothing else can gain, what the loser loses is the winner's.",
    features=LINE[:2],
)
displacement.twin(
    "the_winner_rises",
    "Only the margin is trained. Here the third outcome takes from both, for it has most of what made the winner win.",
    falls=False,
)
displacement.twin(
    "mean_feature_left_out",
    "Every logit moves; what counts is by how much more than the others.",
    formula=lambda features, policy: (features[:, 0] * (features[:, 0] - features[:, 1])).sum(-1),
)
