"""3.8 and 3.9: within a sign class the variance of the surrogate is bounded by its square."""

import torch

from pocourse.lesson.claims import claim
from pocourse.surrogate_variance import bounds
from pocourse.surrogate_variance.claims import instances


def _of_class(step, member):
    return bounds.sign_class(step.old, step.ratio, step.advantage, member)


def _conditional(step, member):
    found = _of_class(step, member)
    return found.variance, found.bound


def _masked_bound(found, least):
    """The same form with the part of the whole mean that comes from the class, and another least probability."""
    return (1 / least - 1) * (found.prob * found.mean) ** 2


def _mixed(step, member):
    found = _of_class(step, member)
    return found.variance, _masked_bound(found, _positive(found.prob * found.least))


def _masked(step, member):
    found = _of_class(step, member)
    return instances.variance(step.old, step.x * member), _masked_bound(found, found.least)


def _likeliest(step, member):
    found = _of_class(step, member)
    most = torch.where(member, step.old, torch.zeros_like(step.old)).amax(-1) / _positive(found.prob)
    return found.variance, (1 / _positive(most) - 1) * found.mean**2


def _positive(prob):
    """An empty class has no probability to divide by; its mean is zero, so that any number will do."""
    return torch.where(prob > 0, prob, torch.ones_like(prob))


@claim(
    "surrogate_variance.sign_bound",
    equation="3.8",
    kind="bound",
    tex=r"\operatorname{Var}_q[x]\le\Big(\frac1{q_{\min}}-1\Big)L_q^2,\qquad"
    r" q(a)=\frac{\pi(a)}{\pi(C)}\text{ on }C=\{A\ge 0\}\text{ or }\{A<0\},\quad L_q=\mathbb{E}_q[x],\ x=rA",
    source="ours; the abstract of Xie, Yu & Qiao 2023 (D-PPO) announces a bound quadratic in the surrogate, theirs may "
    "be another",
    draws=2000,
    tolerance=1e-10,
    attained=1e-8,
)
def sign_bound(draw, pair=_conditional, classes=instances.sign_classes):
    step = instances.signed_step(draw)
    small, large = zip(*(pair(step, member) for member in classes(step.advantage)), strict=True)
    return torch.stack(small), torch.stack(large)


sign_bound.twin(
    "both_signs_together",
    "Gains and losses cancel in the mean, not in the variance: it can be large where the surrogate is zero.",
    classes=lambda advantage: (torch.ones_like(advantage, dtype=torch.bool),),
)
sign_bound.twin(
    "two_conventions_mixed",
    "A variance within the class does not go with a mean and a probability taken over all actions.",
    pair=_mixed,
)
sign_bound.twin(
    "masked_with_the_conditional_minimum",
    "With zeros for the other class the variance is taken over all actions, and so must the least probability be.",
    pair=_masked,
)
sign_bound.twin(
    "likeliest_action",
    "The worst case puts all of x on the action that is drawn least often.",
    pair=_likeliest,
)


def _weights(state_prob, found):
    weight = state_prob * found.prob
    return weight / _positive(weight.sum(-1, keepdim=True))


def _bound_with(state_prob, found, weight):
    return (weight * found.bound).sum(-1) + instances.variance(weight, found.mean)


def _one_state(state_prob, found):
    return (1 / found.least.amin(-1) - 1) * (_weights(state_prob, found) * found.mean).sum(-1) ** 2


@claim(
    "surrogate_variance.state_bound",
    equation="3.9",
    kind="bound",
    tex=r"\operatorname{Var}[x\mid C]\le\mathbb{E}_{s\sim w}\Big[\Big(\frac1{q_{s,\min}}-1\Big)L_{q_s}^2\Big]"
    r"+\operatorname{Var}_{s\sim w}[L_{q_s}],\qquad w(s)\propto d(s)\,\pi(C\mid s)",
    source="ours; (3.8) in every state, and the law of total variance",
    draws=2000,
    tolerance=1e-10,
    attained=1e-8,
)
def state_bound(draw, limit=bounds.state_class_bound):
    state_prob, step = instances.policy(draw, 4), instances.signed_step(draw, 4, 3)
    # States differ in how much is at stake in them.
    step = step._replace(advantage=step.advantage * (2 * draw.normal(4, 1)).exp())
    small, large = [], []
    for member in instances.sign_classes(step.advantage):
        found = _of_class(step, member)
        pairs = (state_prob.unsqueeze(-1) * step.old * member).flatten(1)
        small.append(instances.variance(pairs / _positive(pairs.sum(-1, keepdim=True)), step.x.flatten(1)))
        large.append(limit(state_prob, found))
    return torch.stack(small), torch.stack(large)


state_bound.twin(
    "spread_between_states_forgotten",
    "Means that differ from state to state are variance too, and no bound within a state can see it.",
    limit=lambda state_prob, found: (_weights(state_prob, found) * found.bound).sum(-1),
)
state_bound.twin(
    "states_weighed_by_visits_alone",
    "A state counts in the class as often as it is visited and one of the class's actions is drawn there.",
    limit=lambda state_prob, found: _bound_with(state_prob, found, state_prob),
)
state_bound.twin(
    "as_if_there_were_one_state",
    "What is drawn is a state and an action: a rare state makes its actions rarer than any policy does.",
    limit=_one_state,
)
