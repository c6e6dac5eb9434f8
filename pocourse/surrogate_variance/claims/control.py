"""3.16 to 3.19: the ratio as a control variate, the centred surrogate, and what SPO's penalty holds down."""

import torch

from pocourse.lesson.claims import claim
from pocourse.ratio_clipping import objectives
from pocourse.surrogate_variance import bounds
from pocourse.surrogate_variance.claims import instances
from pocourse.worlds import bandit

EPS = 0.2


def _best(step):
    return bounds.control_coefficient(step.old, step.ratio, step.advantage).unsqueeze(-1)


def _mean(prob, values):
    return (prob * values).sum(-1)


@claim(
    "surrogate_variance.control_variate",
    equation="3.16",
    kind="identity",
    tex=r"\mathbb{E}_\pi[\,rA-c\,(r-1)\,]=\mathbb{E}_\pi[rA]\qquad\text{for every number }c",
    source="textbook (control variates); the ratio as one: ours",
    draws=500,
    tolerance=1e-12,
)
def control_variate(
    draw, control=lambda ratio: ratio - 1, weights=lambda step: step.old, coefficient=lambda draw: 3 * draw.normal(1)
):
    step = instances.step(draw)
    surrogate = _mean(step.old, objectives.importance_objective(step.ratio, step.advantage))
    left = [surrogate - _mean(weights(step), c * control(step.ratio)) for c in (coefficient(draw), _best(step))]
    return torch.stack(left), surrogate.expand(2, -1)


control_variate.twin(
    "mean_of_the_ratio_left_in",
    "The mean of c r is c: only r - 1 has mean zero.",
    control=lambda ratio: ratio,
)
control_variate.twin(
    "averaged_over_the_new_policy",
    "Only over actions of the old policy is the mean of r - 1 zero; over those of the new one it is chi-square.",
    weights=lambda step: step.new,
)
control_variate.twin(
    "coefficient_of_each_action",
    "A coefficient that knows the action weighs the deviations of r, and they no longer cancel.",
    coefficient=lambda draw: 3 * draw.normal(5),
)


def _correlation(step):
    joint = instances.covariance(step.old, step.x, step.ratio)
    return joint / (instances.variance(step.old, step.x) * bounds.chi_square(step.old, step.ratio)).sqrt()


def _on_the_advantage(step):
    joint = instances.covariance(step.old, step.x, step.advantage)
    return (joint / instances.variance(step.old, step.advantage)).unsqueeze(-1)


@claim(
    "surrogate_variance.control_variance",
    equation="3.17",
    kind="identity",
    tex=r"\operatorname{Var}_\pi[\,rA-c^*(r-1)\,]=(1-\rho^2)\operatorname{Var}_\pi[rA],"
    r"\qquad c^*=\frac{\operatorname{Cov}_\pi(rA,r)}{\operatorname{Var}_\pi[r]},"
    r"\quad\rho=\operatorname{Corr}_\pi(rA,r)",
    source="textbook (control variates); the ratio as one: ours",
    draws=500,
    tolerance=1e-12,
)
def control_variance(draw, coefficient=_best, left_over=lambda rho: 1 - rho**2):
    step = instances.step(draw)
    controlled = instances.variance(step.old, step.x - coefficient(step) * (step.ratio - 1))
    # As shares of Var[rA]: where the ratio explains nearly all of it, little is left of many digits.
    return controlled / bounds.surrogate_variance(step.old, step.ratio, step.advantage), left_over(_correlation(step))


control_variance.twin(
    "coefficient_one",
    "With c = 1 the mean is right, but the noise that is taken away is not the noise that is there.",
    coefficient=lambda step: 1.0,
)
control_variance.twin(
    "regressed_on_the_advantage",
    "The coefficient is the slope of rA over the control r, so it is r's variance that divides.",
    coefficient=_on_the_advantage,
)
control_variance.twin(
    "correlation_not_squared",
    "Variance falls with the square of the correlation: half a correlation takes a quarter of it away.",
    left_over=lambda rho: 1 - rho.abs(),
)


@claim(
    "surrogate_variance.centred_surrogate",
    equation="3.18",
    kind="identity",
    tex=r"\mathbb{E}_\pi[A]=0\Longrightarrow\mathbb{E}_\pi[(r-1)A]=\mathbb{E}_\pi[rA],\qquad"
    r"\operatorname{Var}_\pi[(r-1)A]=\operatorname{Var}_\pi[rA]-2\operatorname{Cov}_\pi(rA,A)+\operatorname{Var}_\pi[A]",
    source="textbook; the advantage itself as a control variate",
    draws=500,
    tolerance=1e-12,
)
def centred_surrogate(draw, centre=bandit.bandit_advantage, twice=2.0):
    step = instances.step(draw)
    step = step._replace(advantage=centre(step.old, step.advantage + draw.normal(1)))
    old, ratio, advantage = step.old, step.ratio, step.advantage
    centred, still = (ratio - 1) * advantage, torch.ones_like(ratio)
    spread = (
        bounds.surrogate_variance(old, ratio, advantage)
        - twice * instances.covariance(old, step.x, advantage)
        + bounds.surrogate_variance(old, still, advantage)
    )
    left = torch.stack((_mean(old, centred), bounds.surrogate_variance(old, still, centred)))
    return left, torch.stack((_mean(old, step.x), spread))


centred_surrogate.twin(
    "advantages_not_centred",
    "What is subtracted is the mean of A: it has to be zero, and a sampled or normalised batch does not make it so.",
    centre=lambda old, reward: reward,
)
centred_surrogate.twin(
    "sign_of_the_covariance",
    "Subtracting what moves along with the surrogate lowers the variance, so the covariance is subtracted.",
    twice=-2.0,
)
centred_surrogate.twin(
    "covariance_counted_once",
    "The square of a difference holds the cross term twice.",
    twice=1.0,
)


def _constant_size(draw):
    """Advantages of one size per draw and of either sign."""
    size = draw.uniform(1, low=0.1, high=3)
    return size * torch.where(draw.uniform(5) < 0.5, -1.0, 1.0)


def _ratio_variance(step):
    return torch.stack(
        (bounds.chi_square(step.old, step.ratio), 1 / bounds.effective_sample_size(step.old, step.ratio) - 1)
    )


@claim(
    "surrogate_variance.spo_penalty",
    equation="3.19",
    kind="identity",
    tex=r"|A|=c\Longrightarrow\mathbb{E}_\pi[rA-f_{\mathrm{SPO}}]=\frac{c}{2\epsilon}\operatorname{Var}_\pi[r]"
    r"=\frac{c}{2\epsilon}\Big(\frac{n}{\mathrm{ESS}}-1\Big)",
    source="ours; f_SPO is that of Xie et al. 2025 (SPO), eq. 16, and (2.30) says the same of its optimum",
    draws=500,
    tolerance=1e-12,
)
def spo_penalty(draw, advantages=_constant_size, spread=_ratio_variance, price=1 / (2 * EPS)):
    step = instances.step(draw)._replace(advantage=advantages(draw))
    penalty = step.x - objectives.spo_objective(step.ratio, step.advantage, eps=EPS)
    size = _mean(step.old, step.advantage.abs())
    return _mean(step.old, penalty).expand(2, -1), price * size * spread(step)


spo_penalty.twin("half_dropped", "The parabola has 2 eps under the fraction.", price=1 / EPS)
spo_penalty.twin(
    "eps_squared",
    "The range enters once: a half as wide one doubles the price of the variance.",
    price=1 / (2 * EPS**2),
)
spo_penalty.twin(
    "arguments_swapped",
    "The penalty is averaged over actions of the old policy, and so is the variance of the ratio.",
    spread=lambda step: bounds.chi_square(step.new, 1 / step.ratio).expand(2, -1),
)
spo_penalty.twin(
    "advantages_of_any_size",
    "With sizes that differ each action's deviation counts by its own |A|, and the sum is no variance of the ratio.",
    advantages=lambda draw: draw.normal(5),
)
