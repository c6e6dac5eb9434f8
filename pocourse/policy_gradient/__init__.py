"""Chapter 1, policy gradient: returns, advantages and the likelihood-ratio loss."""

from pocourse.policy_gradient.estimators import discounted_returns, gae, reinforce_loss

__all__ = ["discounted_returns", "gae", "reinforce_loss"]
