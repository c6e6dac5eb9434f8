"""Where policies act.

===============  ===================================================================================
``tabular``      MDPs small enough to enumerate: values, occupancy, performance and its gradient, exact
``bandit``       one state: exact expectations; the contextual batch; sampling an action
``cartpole``     Gymnasium's CartPole-v1 as batched tensors
``breakout``     MinAtar's Breakout as batched tensors
``landscapes``   functions to be minimised from their values alone
``digits``       a classifier of 8x8 digits, to be deceived from its answers alone
``preferences``  a reward of digits, comparisons drawn from it, and what samples are judged by
``shapes``       captioned pictures of one shape, with a reward that can be read off them
===============  ===================================================================================
"""

from pocourse.worlds.bandit import (
    ContextBatch,
    bandit_advantage,
    contextual_batch,
    expected_reward,
    random_policy,
    reward_gradient,
    sample_action,
)
from pocourse.worlds.breakout import Breakout, BreakoutState
from pocourse.worlds.cartpole import CartPole, CartPoleState
from pocourse.worlds.digits import Digits, DigitsAttack, load_digits
from pocourse.worlds.landscapes import LANDSCAPES, ackley, levy, quadratic, rosenbrock
from pocourse.worlds.tabular import (
    TabularMDP,
    action_values,
    advantages,
    occupancy,
    performance,
    policy_gradient,
    random_mdp,
    state_values,
    tabular_mdp,
    two_state_mdp,
)

__all__ = [
    "LANDSCAPES",
    "Breakout",
    "BreakoutState",
    "CartPole",
    "CartPoleState",
    "ContextBatch",
    "Digits",
    "DigitsAttack",
    "TabularMDP",
    "ackley",
    "action_values",
    "advantages",
    "bandit_advantage",
    "contextual_batch",
    "expected_reward",
    "levy",
    "load_digits",
    "occupancy",
    "performance",
    "policy_gradient",
    "quadratic",
    "random_mdp",
    "random_policy",
    "reward_gradient",
    "rosenbrock",
    "sample_action",
    "state_values",
    "tabular_mdp",
    "two_state_mdp",
]
