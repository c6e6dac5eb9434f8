"""Where policies act.

=============  ==================================================================================
``tabular``    MDPs small enough to enumerate: values, occupancy, performance and its gradient, exact
``bandit``     one state: exact expectations; the contextual batch; sampling an action
``cartpole``   Gymnasium's CartPole-v1 as batched tensors
``breakout``   MinAtar's Breakout as batched tensors
=============  ==================================================================================
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
    "Breakout",
    "BreakoutState",
    "CartPole",
    "CartPoleState",
    "ContextBatch",
    "TabularMDP",
    "action_values",
    "advantages",
    "bandit_advantage",
    "contextual_batch",
    "expected_reward",
    "occupancy",
    "performance",
    "policy_gradient",
    "random_mdp",
    "random_policy",
    "reward_gradient",
    "sample_action",
    "state_values",
    "tabular_mdp",
    "two_state_mdp",
]
