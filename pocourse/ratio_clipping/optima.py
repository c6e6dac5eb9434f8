r"""What an objective wants where nothing stands in its way: exact solutions in one state.

One problem, five answers. Maximise the advantage of the new policy less a price for moving, over all
ratios that belong to a policy:

.. math:: \max_r \; \sum_a p(a)\, r(a)\, A(a) - \text{price}(r), \qquad r \ge 0, \quad \sum_a p(a)\, r(a) = 1

Each price has its *link function*, the shape in which the ratio follows the advantage; nu, the
multiplier of the sum, is whatever makes the ratios average to one.

=========================  ===========================  ========================================
price                      ratio                        function
=========================  ===========================  ========================================
KL(new || old) / t         exp(t A) / Z                 ``kl_new_old_link``, ``mirror_descent``
KL(old || new) / t         1 / (t (nu - A))             ``kl_old_new_link``
chi-square / (2 t)         max(0, 1 + t (A - nu))       ``chi2_link``
E|A| (r-1)^2 / (2 eps)     max(0, 1 + eps (sign A       ``spo_optimum``
                           - nu / |A|))
E|r-1| <= eps              mass from worst to best      ``tv_constrained_optimum``
=========================  ===========================  ========================================

Where a multiplier has no formula, a fixed number of bisection steps finds it, for all draws at once.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from pocourse import _check

_BISECTIONS = 64

# ---------------------------------------------------------------- SPO


def spo_optimum(
    prob: Float[Tensor, "*draw action"], advantage: Float[Tensor, "*draw action"], *, eps: float = 0.2
) -> Float[Tensor, "*draw action"]:
    r"""The ratios that maximise SPO's objective in one state, the constraint that they average to one included.

    .. math:: r(a) = \max\big(0,\; 1 + \epsilon\,(\operatorname{sign} A(a) - \nu / |A(a)|)\big),
        \qquad \sum_a p(a)\, r(a) = 1

    Where no ratio touches zero, nu = sum p sign A / sum p / |A|. Actions without any advantage pay no price for
    moving: if there are some and the others leave mass over, nu = 0 and they take it, all at one ratio (the
    optimum does not say how they share it); otherwise they end at zero.

    Shapes: both [\*draw, action] -> [\*draw, action]. Units: none.
    Gradient: none. Both inputs are data, and so is the result.
    Raises: ValueError if shapes differ, prob is no distribution or holds a zero, an input carries gradient or NaN,
    or eps is not positive.
    Source: ours, for the objective of Xie et al. 2025 (SPO), eq. 16.
    """
    _judge(prob, advantage)
    _check.number(eps=eps, above=0)
    idle = advantage == 0
    size = torch.where(idle, torch.ones_like(advantage), advantage.abs())
    top = 1 + eps * advantage.sign()
    # With nu = min A no ratio is below one, with nu = max A none above it: the root lies between them.
    nu = _bisect(
        lambda nu: (prob * _moving(top - eps * nu / size, idle)).sum(-1, keepdim=True),
        advantage.amin(-1, keepdim=True),
        advantage.amax(-1, keepdim=True),
    )
    inside = (top - eps * nu / size > 0) & ~idle
    nu = _zero_sum((prob * top * inside).sum(-1, keepdim=True), (prob * inside / size).sum(-1, keepdim=True) * eps)
    has_idle = idle.any(-1, keepdim=True)
    nu = torch.where(has_idle, nu.clamp(min=0), nu)
    ratio = _moving(top - eps * nu / size, idle)
    left_over = (1 - (prob * ratio).sum(-1, keepdim=True)).clamp(min=0) * (nu <= 0)
    share = left_over / torch.where(has_idle, (prob * idle).sum(-1, keepdim=True), torch.ones_like(nu))
    return torch.where(idle, share, ratio)


def spo_gain(
    prob: Float[Tensor, "*draw action"], advantage: Float[Tensor, "*draw action"], *, eps: float = 0.2
) -> Float[Tensor, "*draw"]:
    r"""How much expected advantage SPO's exact optimum gains: the level at which training saturates.

    .. math:: \mathbb{E}[r^* A] - \mathbb{E}[A]
        = \epsilon\left(\mathbb{E}|A| - \frac{(\mathbb{E}\operatorname{sign} A)^2}{\mathbb{E}[1/|A|]}\right)
        \le \epsilon\,\mathbb{E}|A|

    Exact as long as every ratio of ``spo_optimum`` is positive; an action without advantage makes the fraction
    zero. Beyond that the formula is no longer the gain and is refused; sum p (r* - 1) A with ``spo_optimum``
    always is.

    Shapes: both [\*draw, action] -> [\*draw]. Units: those of the advantage.
    Gradient: none. Both inputs are data, and so is the result.
    Raises: ValueError as spo_optimum, or if the formula makes a ratio negative.
    Source: ours. That it saturates near eps E|A| can be seen in any run whose contexts each have one sampled action.
    """
    _judge(prob, advantage)
    _check.number(eps=eps, above=0)
    idle = advantage == 0
    sign, inverse = (prob * advantage.sign()).sum(-1), (prob / advantage.abs()).sum(-1)
    multiplier = (sign / inverse)[..., None]
    moving = 1 + eps * (advantage.sign() - multiplier / torch.where(idle, torch.ones_like(advantage), advantage.abs()))
    idle_mass = 1 - (prob * torch.where(idle, torch.zeros_like(moving), moving)).sum(-1, keepdim=True)
    _check.entries(
        at_least=0,
        remedy="The closed form holds in the interior only: use prob * (spo_optimum - 1) * advantage, or lower eps.",
        interior_ratio=torch.where(idle, idle_mass, moving),
    )
    return eps * ((prob * advantage.abs()).sum(-1) - sign**2 / inverse)


# ---------------------------------------------------------------- the problem that SPO starts from


def tv_constrained_optimum(
    prob: Float[Tensor, "*draw action"], advantage: Float[Tensor, "*draw action"], *, eps: float = 0.2
) -> Float[Tensor, "*draw action"]:
    r"""The best ratios within a total variation of eps/2: mass goes from the worst actions to the best one.

    .. math:: \max_r \sum_a p(a)\, r(a)\, A(a) \quad\text{with}\quad \sum_a p(a)\, |r(a) - 1| \le \epsilon

    Mass eps/2 leaves the worst action, then, when that is empty, the second worst, and so on. If the worst holds
    eps/2 or more, the gain is eps/2 (max A - min A). Of several best actions the first takes it all.

    Shapes: both [\*draw, action] -> [\*draw, action]. Units: none.
    Gradient: none. Both inputs are data, and so is the result.
    Raises: ValueError as spo_optimum.
    Source: the problem: Xie et al. 2025 (SPO), eq. 15; its solution: ours.
    """
    _judge(prob, advantage)
    _check.number(eps=eps, above=0)
    order = advantage.argsort(-1)
    best = advantage.argmax(-1, keepdim=True)
    movable = torch.where(advantage < advantage.amax(-1, keepdim=True), prob, torch.zeros_like(prob)).gather(-1, order)
    before = movable.cumsum(-1) - movable
    taken = torch.zeros_like(prob).scatter(-1, order, torch.minimum(movable, (eps / 2 - before).clamp(min=0)))
    return 1 + (torch.zeros_like(prob).scatter(-1, best, taken.sum(-1, keepdim=True)) - taken) / prob


# ---------------------------------------------------------------- penalties and their link functions


def mirror_descent(
    policy: Float[Tensor, "*draw action"], advantage: Float[Tensor, "*draw action"], *, step: float
) -> Float[Tensor, "*draw action"]:
    r"""The policy after one exact mirror-descent step, state by state.

    .. math:: \pi'(a) = \frac{\pi(a)\, e^{t A(a)}}{\sum_b \pi(b)\, e^{t A(b)}}
        = \arg\max_{\pi'} \; \mathbb{E}_{a \sim \pi'}[A(a)] - \tfrac1t \mathrm{KL}(\pi' \,\|\, \pi)

    Shapes: both [\*draw, action] -> [\*draw, action]; t = step, in 1 / units of the advantage.
    Gradient: none. Both inputs are data, and so is the result.
    Raises: ValueError as spo_optimum, or if step is not positive.
    Source: textbook form of the on-policy step of Tomar et al. 2020 (Mirror Descent Policy Optimization).
    """
    return policy * kl_new_old_link(policy, advantage, step=step)


def kl_new_old_link(
    prob: Float[Tensor, "*draw action"], advantage: Float[Tensor, "*draw action"], *, step: float
) -> Float[Tensor, "*draw action"]:
    r"""The ratios that are best when KL(new || old) is the price: exponential in the advantage.

    .. math:: r(a) = \frac{e^{t A(a)}}{\sum_b p(b)\, e^{t A(b)}}

    Shapes: both [\*draw, action] -> [\*draw, action]; t = step, in 1 / units of the advantage.
    Gradient: none. Both inputs are data, and so is the result.
    Raises: ValueError as spo_optimum, or if step is not positive.
    Source: textbook (exponential tilting).
    """
    _judge(prob, advantage)
    _check.number(step=step, above=0)
    tilted = step * advantage
    return (tilted - (prob.log() + tilted).logsumexp(-1, keepdim=True)).exp()


def kl_old_new_link(
    prob: Float[Tensor, "*draw action"], advantage: Float[Tensor, "*draw action"], *, step: float
) -> Float[Tensor, "*draw action"]:
    r"""The ratios that are best when KL(old || new) is the price: a hyperbola in the advantage.

    .. math:: r(a) = \frac{1}{t\,(\nu - A(a))}, \qquad \nu > \max_a A(a), \qquad \sum_a p(a)\, r(a) = 1

    No action ever loses all of its mass, however bad it is.

    Shapes: both [\*draw, action] -> [\*draw, action]; t = step, in 1 / units of the advantage.
    Gradient: none. Both inputs are data, and so is the result.
    Raises: ValueError as spo_optimum, or if step is not positive.
    Source: ours; the price is that of TRPO and of PPO's penalty form.
    """
    _judge(prob, advantage)
    _check.number(step=step, above=0)
    best = advantage.argmax(-1, keepdim=True)
    behind = step * (advantage.gather(-1, best) - advantage)
    # The unknown is t (nu - max A): at p(best) the best action alone has mass one, at 1 no ratio exceeds one.
    unknown = _bisect(
        lambda x: (prob / (x + behind)).sum(-1, keepdim=True),
        prob.gather(-1, best),
        torch.ones_like(prob[..., :1]),
    )
    return 1 / (unknown + behind)


def chi2_link(
    prob: Float[Tensor, "*draw action"], advantage: Float[Tensor, "*draw action"], *, step: float
) -> Float[Tensor, "*draw action"]:
    r"""The ratios that are best when the variance of the ratio is the price: a straight line, cut off at zero.

    .. math:: r(a) = \max\big(0,\; 1 + t\,(A(a) - \nu)\big), \qquad
        \chi^2 = \sum_a p(a)\,(r(a) - 1)^2 = \operatorname{Var}_p[r]

    Where no ratio touches zero, nu is the mean advantage.

    Shapes: both [\*draw, action] -> [\*draw, action]; t = step, in 1 / units of the advantage.
    Gradient: none. Both inputs are data, and so is the result.
    Raises: ValueError as spo_optimum, or if step is not positive.
    Source: ours.
    """
    _judge(prob, advantage)
    _check.number(step=step, above=0)
    nu = _bisect(
        lambda nu: (prob * (1 + step * (advantage - nu)).clamp(min=0)).sum(-1, keepdim=True),
        advantage.amin(-1, keepdim=True),
        advantage.amax(-1, keepdim=True),
    )
    inside = 1 + step * (advantage - nu) > 0
    top = (prob * (1 + step * advantage) * inside).sum(-1, keepdim=True)
    nu = _zero_sum(top, (prob * inside).sum(-1, keepdim=True) * step)
    return (1 + step * (advantage - nu)).clamp(min=0)


# ---------------------------------------------------------------- shared


def _bisect(mass, low: Tensor, high: Tensor) -> Tensor:
    """Where the falling function ``mass`` is one, between ``low`` (at least one) and ``high`` (at most one)."""
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        above = mass(middle) > 1
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    return (low + high) / 2


def _zero_sum(top: Tensor, slope: Tensor) -> Tensor:
    """The multiplier in closed form once it is known which ratios are positive: top - slope nu = 1."""
    return (top - 1) / torch.where(slope > 0, slope, torch.ones_like(slope))


def _moving(ratio: Tensor, idle: Tensor) -> Tensor:
    """The ratios of the actions that have an advantage, cut off at zero; zero for the others."""
    return torch.where(idle, torch.zeros_like(ratio), ratio.clamp(min=0))


def _judge(prob: Tensor, advantage: Tensor) -> None:
    _check.same_shape(prob=prob, advantage=advantage)
    _check.probabilities(prob=prob)
    _check.entries(above=0, prob=prob)
    _check.constant(prob=prob, advantage=advantage)
