"""How things are trained.

==============  =========================================================================
``nets``        networks with a seed axis
``conv``        an actor-critic for small pictures
``streams``     one stream of random numbers per seed, drawn in blocks
``rollout``     a policy meets a world: a batch [time, seed, env]
``on_policy``   the loop: collect, credit, improve; a generator of metrics
==============  =========================================================================
"""

from pocourse.engine.conv import ConvActorCritic
from pocourse.engine.nets import MLP, ActorCritic
from pocourse.engine.on_policy import Loss, Seen, on_policy
from pocourse.engine.rollout import Agent, Batch, collect, log_prob, start
from pocourse.engine.streams import SeedStreams

__all__ = ["MLP", "ActorCritic", "Agent", "Batch", "ConvActorCritic", "Loss", "SeedStreams", "Seen"]
__all__ += ["collect", "log_prob", "on_policy", "start"]
