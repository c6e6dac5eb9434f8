"""How things are trained.

==============  =========================================================================
``nets``        networks with a seed axis
``conv``        an actor-critic for small pictures
``streams``     one stream of random numbers per seed, drawn in blocks
``rollout``     a policy meets a world: a batch [time, seed, env]
``on_policy``   the loop: collect, credit, improve; a generator of metrics
``black_box``   the loop without gradients: ask, evaluate, tell, step
``denoisers``   networks that predict noise, a sampler, and shipped weights
``captioned``   a conditional UNet with the encoder of its captions
``preference``  the loops for denoisers: pre-training, and pairs against a reference
==============  =========================================================================
"""

from pocourse.engine.black_box import AskTell, Method, black_box
from pocourse.engine.conv import ConvActorCritic
from pocourse.engine.nets import MLP, ActorCritic
from pocourse.engine.on_policy import Loss, Seen, on_policy
from pocourse.engine.rollout import Agent, Batch, collect, log_prob, start
from pocourse.engine.streams import SeedStreams

__all__ = ["MLP", "ActorCritic", "Agent", "AskTell", "Batch", "ConvActorCritic", "Loss", "Method", "SeedStreams"]
__all__ += ["Seen", "black_box", "collect", "log_prob", "on_policy", "start"]
