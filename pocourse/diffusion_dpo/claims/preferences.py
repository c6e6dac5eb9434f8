"""5.1 to 5.5: what comparisons say about a reward, and what a policy on a leash makes of it."""

import math

import torch

from pocourse.diffusion_dpo import objectives, optima
from pocourse.lesson.claims import claim
from pocourse.ratio_clipping.bounds import kl_divergence
from pocourse.worlds import bandit

BETA = 0.7
OUTCOMES = 5
FIRST, SECOND = torch.triu_indices(OUTCOMES, OUTCOMES, offset=1)


def _reference(draw):
    """The logarithm of a random reference policy for each draw."""
    return bandit.random_policy((draw.count, OUTCOMES), generator=draw.generator).log()


def _losses(reward):
    """The loss of all pairs of outcomes, the first of each chosen."""
    return objectives.bradley_terry_loss(reward[:, FIRST], reward[:, SECOND])


def _log_odds(loss):
    """log P / (1 - P) of a comparison whose surprise -log P is the loss."""
    return -loss.expm1().log()


@claim(
    "diffusion_dpo.identifiability",
    equation="5.1",
    kind="identity",
    tex=r"P(y_w\text{ beats }y_l\mid x)=\mathrm{sigmoid}\big(r(x,y_w)-r(x,y_l)\big):\qquad "
    r"r\text{ and }r+f(x)\text{ have the same }P,\qquad r(x,y_w)-r(x,y_l)=\log\frac{P}{1-P}",
    source="Bradley & Terry 1952, as used by Rafailov et al. 2023 (DPO); all pairs of five outcomes",
    draws=300,
    tolerance=1e-12,
)
def identifiability(draw, changed=lambda reward, draw: reward + 3 * draw.normal(1), read=_log_odds):
    reward = draw.normal(OUTCOMES)
    loss = _losses(reward)
    found = torch.cat((_losses(changed(reward, draw)), read(loss)), -1)
    return found, torch.cat((loss, reward[:, FIRST] - reward[:, SECOND]), -1)


identifiability.twin(
    "an_offset_for_each_outcome",
    "Free is a term that both outcomes of a pair share: one that depends on y is the reward itself.",
    changed=lambda reward, draw: reward + draw.normal(OUTCOMES),
)
identifiability.twin(
    "the_scale_is_free_too",
    "A reward twice as large makes every label surer: the scale is seen, in how often labels contradict each other.",
    changed=lambda reward, draw: 2 * reward,
)
identifiability.twin(
    "chance_read_as_a_reward",
    "How often one beats the other has to be turned into log-odds before it is a difference of rewards.",
    read=lambda loss: 2 * (-loss).exp() - 1,
)


def _predictions(draw):
    """Differences of rewards, and predicted margins: the true one in the first half, any other in the second."""
    difference, error = 2 * draw.normal(), 2 * draw.normal()
    error[: draw.count // 2] = 0
    return difference, difference + error


@claim(
    "diffusion_dpo.floor_and_ceiling",
    equation="5.2",
    kind="bound",
    tex=r"\mathbb{E}\big[-\log\mathrm{sigmoid}(z)\big]\ge\mathbb{E}[h(p)],\qquad"
    r"\mathbb{E}[a]\le\mathbb{E}[\max(p,1-p)],\qquad p=\mathrm{sigmoid}(\Delta r),\quad "
    r"h(p)=-p\log p-(1-p)\log(1-p)",
    source="textbook (the entropy of a label, the Bayes classifier); checked pair by pair, both labels weighed",
    draws=1000,
    tolerance=1e-12,
    attained=1e-8,
)
def floor_and_ceiling(draw, floor=optima.loss_floor, ceiling=optima.accuracy_ceiling):
    difference, margin = _predictions(draw)
    chance, nothing = difference.sigmoid(), torch.zeros_like(margin)
    first, second = (objectives.bradley_terry_loss(z, nothing) for z in (margin, -margin))
    right, wrong = (objectives.implicit_accuracy(z) for z in (margin, -margin))
    loss = chance * first + (1 - chance) * second
    accuracy = chance * right + (1 - chance) * wrong
    return torch.stack((floor(difference), accuracy), -1), torch.stack((loss, ceiling(difference)), -1)


floor_and_ceiling.twin(
    "log_two_is_the_floor",
    "That is what knowing nothing costs: training starts there, and goes below.",
    floor=lambda difference: torch.full_like(difference, math.log(2)),
)
floor_and_ceiling.twin(
    "entropy_in_bits",
    "The loss is in nats, and so is its floor; in bits the number is 1.44 times as large.",
    floor=lambda difference: optima.loss_floor(difference) / math.log(2),
)
floor_and_ceiling.twin(
    "how_often_raters_agree",
    "Two labels of one pair agree with p^2 + (1 - p)^2. Who knows the rewards does better: he is never talked out of "
    "the likelier one.",
    ceiling=lambda difference: 1 - 2 * difference.sigmoid() * (-difference).sigmoid(),
)
floor_and_ceiling.twin(
    "no_maximum",
    "Either outcome of a pair may be the likelier winner.",
    ceiling=torch.sigmoid,
)


@claim(
    "diffusion_dpo.gibbs_value",
    equation="5.3",
    kind="identity",
    tex=r"\max_\pi\Big\{\mathbb{E}_\pi[r]-\beta\,\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}})\Big\}=\beta\log Z,\qquad"
    r"\pi^*=\frac{\pi_{\mathrm{ref}}\,e^{r/\beta}}{Z},\qquad Z=\mathbb{E}_{\pi_{\mathrm{ref}}}\big[e^{r/\beta}\big]",
    source="the Gibbs variational principle; Rafailov et al. 2023 (DPO). Value, and slope on the simplex: the "
    "objective is concave",
    draws=300,
    tolerance=1e-12,
)
def gibbs_value(draw, policy=objectives.gibbs_policy, value=optima.gibbs_value):
    logp_ref, reward = _reference(draw), draw.normal(OUTCOMES)
    best = policy(logp_ref, reward, beta=BETA).requires_grad_()
    reached = optima.regularised_reward(best, logp_ref, reward, beta=BETA)
    # Of a concave function on the simplex, a policy without a zero is the maximum where its slopes are all the same.
    (slope,) = torch.autograd.grad(reached.sum(), best)
    found = torch.cat((reached.detach()[:, None], slope), -1)
    level = slope.mean(-1, keepdim=True).expand_as(slope)
    return found, torch.cat((value(logp_ref, reward, beta=BETA)[:, None], level), -1)


gibbs_value.twin(
    "reference_left_out",
    "Z is a mean under the reference, not a sum over all outcomes: what the reference never does adds nothing.",
    value=lambda logp_ref, reward, beta: beta * (reward / beta).logsumexp(-1),
)
gibbs_value.twin(
    "beta_left_out",
    "The value is a reward, and log Z has no units.",
    value=lambda logp_ref, reward, beta: optima.gibbs_value(logp_ref, reward, beta=beta) / beta,
)
gibbs_value.twin(
    "softmax_of_the_reward",
    "Without the reference in front of it, that is the best policy for a uniform one only.",
    policy=lambda logp_ref, reward, beta: (reward / beta).softmax(-1),
)
gibbs_value.twin(
    "beta_upside_down",
    "A large beta is a short leash: it divides the reward, and the policy stays where it is.",
    policy=lambda logp_ref, reward, beta: (logp_ref + beta * reward).softmax(-1),
)


@claim(
    "diffusion_dpo.price_of_another_policy",
    equation="5.4",
    kind="identity",
    tex=r"\mathbb{E}_\pi[r]-\beta\,\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}})"
    r"=\beta\log Z-\beta\,\mathrm{KL}(\pi\,\|\,\pi^*)\qquad\text{for every }\pi",
    source="the Gibbs variational principle; Rafailov et al. 2023 (DPO)",
    draws=300,
    tolerance=1e-12,
)
def price_of_another_policy(draw, lost=lambda policy, best, logp_ref: BETA * kl_divergence(policy, best)):
    logp_ref, reward = _reference(draw), draw.normal(OUTCOMES)
    policy = bandit.random_policy((draw.count, OUTCOMES), generator=draw.generator)
    best = objectives.gibbs_policy(logp_ref, reward, beta=BETA)
    value = optima.gibbs_value(logp_ref, reward, beta=BETA)
    return optima.regularised_reward(policy, logp_ref, reward, beta=BETA), value - lost(policy, best, logp_ref)


price_of_another_policy.twin(
    "the_other_direction",
    "Both divergences vanish at the optimum, but only the one under the policy itself is what is lost.",
    lost=lambda policy, best, logp_ref: BETA * kl_divergence(best, policy),
)
price_of_another_policy.twin(
    "distance_from_the_reference",
    "That divergence stands on the left already: what is lost is the distance from the optimum.",
    lost=lambda policy, best, logp_ref: BETA * kl_divergence(policy, logp_ref.exp()),
)
price_of_another_policy.twin(
    "beta_left_out",
    "A divergence is in nats, what is lost is a reward: beta is the exchange rate.",
    lost=lambda policy, best, logp_ref: kl_divergence(policy, best),
)


def _along_the_path(logp_ref, reward, inverse, divergence):
    """Expected reward and divergence of the Gibbs policy, and their slopes in 1 / beta, one beta a draw."""
    inverse = inverse.clone().requires_grad_()
    policy = objectives.gibbs_policy(logp_ref, inverse[:, None] * reward, beta=1.0)
    mean = (policy * reward).sum(-1)
    (gain,) = torch.autograd.grad(mean.sum(), inverse, retain_graph=True)
    (price,) = torch.autograd.grad(divergence(policy, logp_ref.exp()).sum(), inverse)
    return policy.detach(), gain, price


def _variance(policy, reward):
    mean = (policy * reward).sum(-1, keepdim=True)
    return (policy * (reward - mean) ** 2).sum(-1)


@claim(
    "diffusion_dpo.slope_law",
    equation="5.5",
    kind="identity",
    tex=r"\frac{d\,\mathbb{E}_{\pi_\beta}[r]}{d(1/\beta)}=\operatorname{Var}_{\pi_\beta}[r],\qquad"
    r"\frac{d\,\mathrm{KL}(\pi_\beta\,\|\,\pi_{\mathrm{ref}})}{d\,\mathbb{E}_{\pi_\beta}[r]}=\frac1\beta,\qquad"
    r"\pi_\beta\propto\pi_{\mathrm{ref}}\,e^{r/\beta}",
    source="textbook (in an exponential family a mean moves with its parameter at the rate of the variance), read as "
    "an exchange rate by us; beta from 0.5 to 5",
    draws=300,
    tolerance=1e-9,
)
def slope_law(
    draw,
    divergence=kl_divergence,
    spread=lambda policy, reference, reward: _variance(policy, reward),
    rate=lambda inverse: inverse,
):
    logp_ref, reward, inverse = _reference(draw), draw.normal(OUTCOMES), draw.uniform(low=0.2, high=2)
    policy, gain, price = _along_the_path(logp_ref, reward, inverse, divergence)
    return torch.stack((gain, price / gain), -1), torch.stack(
        (spread(policy, logp_ref.exp(), reward), rate(inverse)), -1
    )


slope_law.twin(
    "beta_for_its_inverse",
    "At a large beta the policy stands near the reference, where the first bit of reward costs next to no divergence.",
    rate=lambda inverse: 1 / inverse,
)
slope_law.twin(
    "variance_under_the_reference",
    "Only the first step, at infinite beta, sees the reference's variance; after that it is the tilted policy's own.",
    spread=lambda policy, reference, reward: _variance(reference, reward),
)
slope_law.twin(
    "the_other_direction",
    "The leash is KL(policy || reference); the other divergence has another slope.",
    divergence=lambda policy, reference: kl_divergence(reference, policy),
)
