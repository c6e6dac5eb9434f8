"""The preference loop: noise a pair, denoise it with theta and with the reference, compare, step.

The loop knows no equation. It is handed a loss of four denoising errors for each method to be compared; all methods and
all seeds train as one batch along the leading axis, each with its own learning rate. Methods meet the same random
numbers seed by seed (minibatches, time steps, noise), which makes every comparison a paired one. ``denoise``, the loop
that pre-trains, has the same form.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from pocourse import _check
from pocourse.engine.denoisers import Denoiser
from pocourse.engine.on_policy import clip_per_seed, per_method, probed
from pocourse.engine.streams import SeedStreams

Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
PairNoise = Callable[[Tensor], Tensor]
Metrics = dict[str, Float[Tensor, "method seed"]]


class Objective(NamedTuple):
    """What is compared: ``loss(error_chosen, error_rejected, error_ref_chosen, error_ref_rejected)`` and its step size.

    Errors are mean squared errors of predicted noise, [seed, pair]; the loss is one value per pair. A loss that looks
    at the first error alone is fine-tuning on winners.
    """

    loss: Loss
    learning_rate: float


class Pairs(NamedTuple):
    """Preference pairs of every seed; ``condition`` is what both images of a pair are told by, such as a caption."""

    chosen: Float[Tensor, "seed pair *pixel"]
    rejected: Float[Tensor, "seed pair *pixel"]
    condition: Tensor | None = None


class Seen(NamedTuple):
    """What a probe is shown after a block of steps; ``row`` counts the seeds of the first method, then of the second.

    ``parameters`` are a copy: a probe may keep them. In ``denoise`` they are the running average. A seed that is held
    shows its last good ones. ``step`` counts the optimizer steps made.
    """

    denoiser: Denoiser
    parameters: Float[Tensor, "row parameter"]
    step: int


Probe = Callable[[Seen], Mapping[str, Tensor]]


def shared_noise(drawn: Float[Tensor, "seed two pair *pixel"]) -> Float[Tensor, "seed two pair *pixel"]:
    """Chosen and rejected image of a pair meet the same noise."""
    return drawn[:, :1].expand_as(drawn)


def independent_noise(drawn: Float[Tensor, "seed two pair *pixel"]) -> Float[Tensor, "seed two pair *pixel"]:
    """Chosen and rejected image of a pair meet noise of their own."""
    return drawn


def preference(
    denoiser: Denoiser,
    reference: Float[Tensor, "seed parameter"],
    pairs: Pairs,
    streams: SeedStreams,
    objectives: Mapping[str, Objective],
    *,
    alpha_bar: Float[Tensor, "timestep"],
    num_steps: int,
    batch_size: int = 64,
    every: int = 10,
    max_grad_norm: float = 1.0,
    pair_noise: PairNoise = shared_noise,
    probe: Probe | None = None,
) -> Iterator[Metrics]:
    r"""Train every method of ``objectives`` from the reference, and yield metrics [method, seed] every so many steps.

    .. math:: x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}\, \epsilon, \qquad
        e = \frac1D \| \epsilon - \epsilon_\theta(x_t, t) \|^2

    A step takes ``batch_size`` pairs of each seed (every pair once an epoch, the rest that fills no batch left out),
    one uniform time step for both images of a pair, and noise that ``pair_noise`` makes of two draws: by default the
    first serves both. The reference's errors are computed once per seed. AdamW without weight decay at each method's
    own constant rate; each row's gradient is clipped by itself. ``probe`` looks at the parameters after every block,
    without gradient, and returns further metrics by name, each [row] (see ``Seen``).

    Yields, as means over the block, each batch as the loss meets it before its step: ``loss``, ``accuracy`` (how
    often the chosen image's error has come down by more than the rejected one's, ties one half), ``error_chosen`` and
    ``error_rejected`` (theta minus reference), and ``alive`` (False once a row's parameters were no longer finite: it
    is held at its last good state, and its metrics are NaN from then on).
    Raises: ValueError, at the call, for no method at all, counts below one, an ``every`` that does not divide
    ``num_steps``, fewer pairs than a batch takes, rates that are not positive, an alpha_bar outside of (0, 1], or
    tensors that do not fit one another. While it runs: for a loss that is not one value per pair, for noise of another
    shape, for a probe as in ``on_policy``.
    """
    if not objectives:
        raise ValueError(
            "expected at least one method in objectives; got none. Pass a dict such as {'DPO': Objective(loss, 1e-5)}."
        )
    _check.number(above=0, **{f"learning_rate of {name}": o.learning_rate for name, o in objectives.items()})
    _check.axes(3, chosen=pairs.chosen)
    _check.same_shape(chosen=pairs.chosen, rejected=pairs.rejected)
    _judge(denoiser, reference, streams, alpha_bar, num_steps=num_steps, every=every, max_grad_norm=max_grad_norm)
    _fits(streams, chosen=pairs.chosen)
    _told(pairs.condition, pairs.chosen, 2)
    _check.shape((len(streams), *pairs.chosen.shape[1:]), chosen=pairs.chosen)
    _check.number(at_least=1, at_most=pairs.chosen.shape[1], batch_size=batch_size)
    return _preference(
        denoiser,
        reference,
        pairs,
        streams,
        objectives,
        alpha_bar.to(reference),
        num_steps=num_steps,
        batch_size=batch_size,
        every=every,
        max_grad_norm=max_grad_norm,
        pair_noise=pair_noise,
        probe=probe,
    )


def _preference(
    denoiser,
    reference,
    pairs,
    streams,
    objectives,
    alpha_bar,
    *,
    num_steps,
    batch_size,
    every,
    max_grad_norm,
    pair_noise,
    probe,
):
    methods, losses = len(objectives), [objective.loss for objective in objectives.values()]
    reference = reference.detach()
    parameters = per_method(reference, methods)
    shares = parameters.chunk(methods)  # of the same memory, a group of the optimizer each
    groups = [{"params": [x], "lr": o.learning_rate} for x, o in zip(shares, objectives.values(), strict=True)]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0, fused=True)
    alive = torch.ones(len(parameters), dtype=torch.bool, device=parameters.device)
    images = torch.stack([pairs.chosen, pairs.rejected], dim=2)
    batches = _pair_batches(images, pairs.condition, streams, alpha_bar, batch_size, pair_noise)

    for block in range(num_steps // every):
        last_good, totals = parameters.clone(), 0
        for _ in range(every):
            with _check.values_unread():
                batch = next(batches)
                with torch.no_grad():
                    error_ref = _errors(denoiser, reference, batch).chunk(2, dim=1)
                leaf = parameters.detach().requires_grad_()
                error = _errors(denoiser, leaf, batch.for_methods(methods)).chunk(2, dim=1)
                of_methods = zip(losses, *(e.chunk(methods) for e in error), strict=True)
                loss = torch.cat([_judged(f, *e, *error_ref) for f, *e in of_methods])
                # Mean over a row's pairs, sum over rows: each row's gradient is its own.
                (gradient,) = torch.autograd.grad(loss.mean(1).sum(), leaf)
                clip_per_seed(gradient, max_grad_norm)
                for share, its_gradient in zip(shares, gradient.chunk(methods), strict=True):
                    share.grad = its_gradient
                optimizer.step()
                with torch.no_grad():
                    totals = totals + _measured(loss, error, [per_method(e, methods) for e in error_ref])
        with torch.no_grad():
            alive = alive & parameters.isfinite().all(1)
            parameters.copy_(torch.where(alive.unsqueeze(1), parameters, last_good))
            means = torch.where(alive, totals / every, math.nan)
        metrics = dict(zip(("loss", "accuracy", "error_chosen", "error_rejected"), means, strict=True))
        metrics["alive"] = alive
        if probe is not None:
            metrics |= probed(probe, Seen(denoiser, parameters.clone(), (block + 1) * every), metrics)
        yield {name: value.unflatten(0, (methods, len(streams))) for name, value in metrics.items()}


class _Batch(NamedTuple):
    """Noised images, the noise to be found in them, and what the denoiser is told; all [row, sample, ...]."""

    xt: Tensor
    noise: Tensor
    timestep: Tensor
    condition: Tensor | None

    def for_methods(self, methods):
        return _Batch(*(None if x is None else per_method(x, methods) for x in self))


def _pair_batches(images, condition, streams, alpha_bar, batch_size, pair_noise):
    """One _Batch [seed, 2 * pair, ...] after the other, for ever: first the chosen images, then the rejected ones."""
    shape = images.shape[3:]
    for order in _orders(streams, images.shape[1], batch_size):
        x0 = _taken(images, order).transpose(1, 2)
        timestep = _timesteps(streams, batch_size, len(alpha_bar)).unsqueeze(1).expand(x0.shape[:3])
        drawn = streams.normal(2, batch_size, *shape)
        noise = pair_noise(drawn)
        _check.shape(drawn.shape, pair_noise=noise)
        told = None if condition is None else _taken(condition, order).repeat(1, 2, *[1] * (condition.ndim - 2))
        yield _noised(*(x.flatten(1, 2) for x in (x0, noise, timestep)), alpha_bar, told)


def _measured(loss, error, error_ref):
    """Of one step, means over its pairs, [metric, row]."""
    chosen, rejected = (e - ref for e, ref in zip(error, error_ref, strict=True))
    accuracy = ((rejected - chosen).sign() + 1) / 2
    return torch.stack([x.mean(1) for x in (loss, accuracy, chosen, rejected)])


def _judged(loss, error_chosen, error_rejected, error_ref_chosen, error_ref_rejected):
    found = loss(error_chosen, error_rejected, error_ref_chosen, error_ref_rejected)
    _check.shape(error_chosen.shape, loss=found)
    return found


def denoise(
    denoiser: Denoiser,
    start: Float[Tensor, "seed parameter"],
    images: Float[Tensor, "image *pixel"],
    streams: SeedStreams,
    *,
    alpha_bar: Float[Tensor, "timestep"],
    num_steps: int,
    batch_size: int = 128,
    every: int = 100,
    learning_rate: float = 1e-3,
    average: float = 0.999,
    max_grad_norm: float = 1.0,
    condition: Tensor | None = None,
    probe: Probe | None = None,
) -> Iterator[Metrics]:
    r"""Pre-train a denoiser for every seed on the same images, and yield metrics [1, seed] every so many steps.

    .. math:: \ell = \frac1D \| \epsilon - \epsilon_\theta(\sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}\,
        \epsilon,\ t) \|^2

    Each seed takes its own minibatches, uniform time steps and noise. Adam; the learning rate falls to zero along half
    a cosine. The ``probe`` is shown the running average of the parameters, which is what sampling should use: it
    keeps the share ``average`` of itself at a step, and less in the beginning. ``condition`` is [image, ...].

    Yields: ``loss``, the mean over the block, and ``alive``, as in ``preference``.
    Raises: as ``preference``.
    Source: Ho et al. 2020 (DDPM, arXiv 2006.11239), the simple loss.
    """
    _check.axes(2, images=images)
    _check.number(above=0, learning_rate=learning_rate)
    _check.number(at_least=0, below=1, average=average)
    _judge(denoiser, start, streams, alpha_bar, num_steps=num_steps, every=every, max_grad_norm=max_grad_norm)
    _check.floating(images=images)
    _fits(streams, images=images)
    _told(condition, images, 1)
    _check.number(at_least=1, at_most=len(images), batch_size=batch_size)
    return _denoise(
        denoiser,
        start,
        _image_batches(images, condition, streams, alpha_bar.to(start), batch_size),
        num_steps=num_steps,
        every=every,
        learning_rate=learning_rate,
        average=average,
        max_grad_norm=max_grad_norm,
        probe=probe,
    )


def _denoise(denoiser, start, batches, *, num_steps, every, learning_rate, average, max_grad_norm, probe):
    parameters = start.detach().clone().requires_grad_()
    smooth = start.detach().clone()
    optimizer = torch.optim.Adam([parameters], lr=learning_rate, fused=True)
    alive = torch.ones(len(parameters), dtype=torch.bool, device=parameters.device)
    for block in range(num_steps // every):
        last_good, total = (parameters.detach().clone(), smooth.clone()), 0
        for step in range(block * every, (block + 1) * every):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * (1 + math.cos(math.pi * step / num_steps)) / 2
            with _check.values_unread():
                loss = _errors(denoiser, parameters, next(batches)).mean(1)
                (parameters.grad,) = torch.autograd.grad(loss.sum(), parameters)
                clip_per_seed(parameters.grad, max_grad_norm)
                optimizer.step()
                with torch.no_grad():
                    smooth.lerp_(parameters, 1 - min(average, (1 + step) / (10 + step)))
                    total = total + loss
        with torch.no_grad():
            alive = alive & parameters.isfinite().all(1)
            for now, then in zip((parameters, smooth), last_good, strict=True):
                now.copy_(torch.where(alive.unsqueeze(1), now, then))
            metrics = {"loss": torch.where(alive, total / every, math.nan), "alive": alive}
        if probe is not None:
            metrics |= probed(probe, Seen(denoiser, smooth.clone(), (block + 1) * every), metrics)
        yield {name: value.unsqueeze(0) for name, value in metrics.items()}


def _image_batches(images, condition, streams, alpha_bar, batch_size):
    """One _Batch [seed, image, ...] after the other, for ever."""
    for order in _orders(streams, len(images), batch_size):
        timestep = _timesteps(streams, batch_size, len(alpha_bar))
        noise = streams.normal(batch_size, *images.shape[1:])
        told = None if condition is None else condition[order]
        yield _noised(images[order], noise, timestep, alpha_bar, told)


def _noised(x0, noise, timestep, alpha_bar, condition):
    kept = alpha_bar[timestep].view(*timestep.shape, *[1] * (x0.ndim - 2))
    return _Batch(kept.sqrt() * x0 + (1 - kept).sqrt() * noise, noise, timestep, condition)


def _errors(denoiser, parameters, batch):
    """Mean squared errors of the predicted noise, [row, sample]."""
    predicted = denoiser(parameters, batch.xt, batch.timestep, batch.condition)
    return (batch.noise - predicted).square().flatten(2).mean(-1)


def _orders(streams, count, batch_size):
    """Which samples the next minibatch takes, [seed, batch], for ever: each of them once an epoch."""
    while True:
        order = streams.permutations(1, count)[0]
        yield from (part for part in order.split(batch_size, dim=1) if part.shape[1] == batch_size)


def _timesteps(streams, count, timesteps) -> Int64[Tensor, "seed sample"]:
    return (streams.uniform(count) * timesteps).long()


def _taken(x, order):
    """The samples [seed, batch, ...] of [seed, sample, ...] that each seed's order names."""
    return x[torch.arange(len(order), device=order.device).unsqueeze(1), order]


def _judge(denoiser, parameters, streams, alpha_bar, *, num_steps, every, max_grad_norm):
    _check.floating(parameters=parameters)
    _check.shape((len(streams), denoiser.num_parameters), parameters=parameters)
    _fits(streams, parameters=parameters)
    _check.number(at_least=1, num_steps=num_steps, every=every)
    if num_steps % every:
        raise ValueError(f"expected every to divide num_steps = {num_steps}; got {every}. The last record is the end.")
    _check.number(above=0, max_grad_norm=max_grad_norm)
    _check.axes(1, alpha_bar=alpha_bar)
    _check.shape((len(alpha_bar),), alpha_bar=alpha_bar)
    _check.entries(above=0, at_most=1, remedy="Take alphas_cumprod of diffusers' DDPMScheduler.", alpha_bar=alpha_bar)


def _fits(streams, **tensors):
    for name, x in tensors.items():
        if x.dtype != streams.dtype or x.device.type != streams.device.type:
            raise ValueError(
                f"expected {name} in {streams.dtype} on {streams.device}; got {x.dtype} on {x.device}. "
                "Make it from the streams, or convert it."
            )


def _told(condition, images, axes):
    if condition is not None and condition.shape[:axes] != images.shape[:axes]:
        raise ValueError(
            f"expected a condition for each image, {[*images.shape[:axes], '...']}; got {list(condition.shape)}. "
            "Give each image its own, or repeat one."
        )
