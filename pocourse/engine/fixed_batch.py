"""Many steps on one batch that never changes: what an objective does to the ratios, with nothing else going on."""

from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pocourse import _check
from pocourse.engine.nets import MLP
from pocourse.engine.on_policy import Loss, each_method, per_method
from pocourse.engine.rollout import log_prob
from pocourse.engine.streams import SeedStreams
from pocourse.worlds import ContextBatch, sample_action


def fixed_batch(
    network: MLP,
    streams: SeedStreams,
    batch: ContextBatch,
    losses: Mapping[str, Loss],
    *,
    num_epochs: int = 300,
    learning_rate: float = 3e-3,
) -> Iterator[tuple[Float[Tensor, "method seed sample"], Float[Tensor, "method seed"]]]:
    """Full-batch Adam on every method's loss, all methods and seeds as one batch.

    The actions are those the initial policy draws with ``batch.uniform``; each method starts from the same networks.
    Yields: after 0, 1, ..., ``num_epochs`` steps the ratios of the drawn actions [method, seed, sample], and
    KL(old || new) over all actions, averaged over the samples, [method, seed], in nats.
    Raises: ValueError for no loss, fewer than one epoch, a learning rate that is not positive, or a batch that does
    not fit the network and the seeds.
    """
    _check.number(at_least=1, num_epochs=num_epochs, methods=len(losses))
    _check.number(above=0, learning_rate=learning_rate)
    seeds, _, context_dim = batch.context.shape
    fits = (len(streams), network.sizes[0], network.sizes[-1])
    if (seeds, context_dim, batch.num_actions) != fits:
        raise ValueError(
            f"expected a batch of {fits[0]} seeds, contexts of {fits[1]} numbers and {fits[2]} actions, as the network "
            f"and the streams have it; got {seeds}, {context_dim} and {batch.num_actions}. Make all from one set."
        )
    return _steps(network, streams, batch, losses, num_epochs, learning_rate)


def _steps(network, streams, batch, losses, num_epochs, learning_rate):
    methods = len(losses)
    context, uniform, advantage = (per_method(x, methods) for x in batch[:3])
    parameters = per_method(network.init(streams), methods).requires_grad_()
    optimizer = torch.optim.Adam([parameters], lr=learning_rate)
    with torch.no_grad():
        logits_old = network(parameters, context)
        logp_all_old = logits_old.log_softmax(-1)
        action: Int[Tensor, "row sample"] = sample_action(logp_all_old.exp(), uniform)
        logp_old = log_prob(logits_old, action)  # by the same arithmetic as logp below: the first ratio is 1 to the bit
    for epoch in range(num_epochs + 1):
        logits = network(parameters, context)
        logp = log_prob(logits, action)
        with torch.no_grad():
            kl = (logp_all_old.exp() * (logp_all_old - logits.log_softmax(-1))).sum(-1).mean(1)
            ratio = (logp - logp_old).exp()
        yield tuple(x.unflatten(0, (methods, len(streams))) for x in (ratio, kl))
        if epoch < num_epochs:
            loss = each_method(list(losses.values()), logp, logp_old, advantage).mean(1).sum()
            (parameters.grad,) = torch.autograd.grad(loss, parameters)
            optimizer.step()
