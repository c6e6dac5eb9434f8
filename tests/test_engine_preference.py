"""The preference loop and the one that pre-trains: by hand, paired, each seed and method on its own, held, refused."""

import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from helpers import NoHostSync

from pocourse.diffusion_dpo import diffusion_dpo_loss, diffusion_dpo_margin, implicit_accuracy
from pocourse.engine import SeedStreams
from pocourse.engine.denoisers import ResidualMLP, UNetDenoiser, ddim_sample
from pocourse.engine.preference import Objective, Pairs, denoise, independent_noise, preference, shared_noise

F64 = torch.float64
PIXELS, TIMESTEPS = 5, 50
ALPHA_BAR = torch.linspace(0.999, 0.01, TIMESTEPS, dtype=F64)
MLP = ResidualMLP(PIXELS, 8, blocks=1, time_features=4)
BETA = 50.0


def on_winners(error_chosen, error_rejected, error_ref_chosen, error_ref_rejected):
    return error_chosen


OBJECTIVES = {
    "DPO": Objective(partial(diffusion_dpo_loss, beta=BETA), 1e-3),
    "SFT": Objective(on_winners, 1e-2),
    "hasty": Objective(partial(diffusion_dpo_loss, beta=BETA), 3e-2),
}


def refused(*words):
    return pytest.raises(ValueError, match="(?s)" + ".*".join(["expected", *words]))


def normal(*shape, seed=0, dtype=F64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def reference_of(seeds, dtype=F64):
    """A reference that says something, each seed's its own."""
    rows = [normal(MLP.num_parameters, seed=100 + seed) for seed in seeds]
    return (MLP.init(SeedStreams(seeds, dtype=F64)) + 0.1 * torch.stack(rows)).to(dtype)


def pairs_of(seeds, count=12, dtype=F64):
    def of(kind):
        return torch.stack([normal(count, PIXELS, seed=10 * seed + kind) for seed in seeds]).to(dtype)

    return Pairs(of(1) + 0.5, of(2) - 0.5)


def train(objectives=OBJECTIVES, *, seeds=(0, 1, 2), dtype=F64, denoiser=MLP, reference=None, pairs=None, **settings):
    reference = reference_of(seeds, dtype) if reference is None else reference
    pairs = pairs_of(seeds, dtype=dtype) if pairs is None else pairs
    settings = {"alpha_bar": ALPHA_BAR, "num_steps": 6, "batch_size": 4, "every": 2, **settings}
    return preference(denoiser, reference, pairs, SeedStreams(seeds, dtype=dtype), objectives, **settings)


def metrics_of(stream):
    records = list(stream)
    return {key: torch.stack([record[key] for record in records]) for key in records[0]}


class Keep:
    """A probe that keeps what it is shown."""

    def __init__(self):
        self.seen = []

    def __call__(self, seen):
        self.seen.append(seen)
        return {}


# --- the loop ----------------------------------------------------------------------------------------------


def test_metrics_come_per_method_and_seed():
    found = metrics_of(train())
    assert set(found) == {"loss", "accuracy", "error_chosen", "error_rejected", "alive"}
    assert all(value.shape == (3, 3, 3) for value in found.values()) and found["alive"].all()
    assert ((found["accuracy"] >= 0) & (found["accuracy"] <= 1)).all()
    assert not torch.equal(found["loss"][:, 0], found["loss"][:, 2])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (F64, 1e-13)])
def test_everything_starts_at_the_reference(dtype, tolerance):
    """Before the first step there is no difference to the reference, and DPO's loss is log 2 for every beta."""
    found = {key: value[0] for key, value in metrics_of(train(dtype=dtype, every=1, num_steps=1)).items()}
    assert found["error_chosen"].abs().max() < tolerance and found["error_rejected"].abs().max() < tolerance
    assert (found["loss"][[0, 2]] - math.log(2)).abs().max() < BETA * tolerance
    assert (found["loss"][1] > 0.1).all() and found["loss"].dtype == dtype


def drawn_by_hand(streams, count, batch, steps):
    """Order, time step and noise of every optimizer step, in the order in which the loop draws them."""
    while True:
        order = streams.uniform(1, count).argsort(-1)[0, 0]
        for part in range(count // batch):
            t = (streams.uniform(batch)[0] * TIMESTEPS).long()
            yield order[part * batch : (part + 1) * batch], t, streams.normal(2, batch, PIXELS)[0]
            steps -= 1
            if steps == 0:
                return


@pytest.mark.parametrize("pair_noise", [shared_noise, independent_noise])
def test_a_run_by_hand(pair_noise):
    """AdamW, clipping, noising, both errors and the means of a block, written out for one seed."""
    rate, clip, count, batch = 1e-2, 0.05, 7, 3
    pairs, reference, keep = pairs_of([4], count), reference_of([4]), Keep()
    objectives = {"DPO": Objective(partial(diffusion_dpo_loss, beta=BETA), rate)}
    stream = train(
        objectives,
        seeds=[4],
        pairs=pairs,
        num_steps=6,
        every=3,
        batch_size=batch,
        max_grad_norm=clip,
        pair_noise=pair_noise,
        probe=keep,
    )
    found = metrics_of(stream)

    def errors(parameters, order, t, noises):
        a = ALPHA_BAR[t].unsqueeze(1)
        for images, e in zip((pairs.chosen, pairs.rejected), noises, strict=True):
            xt = a.sqrt() * images[0, order] + (1 - a).sqrt() * e
            yield ((MLP(parameters, xt[None], t[None])[0] - e) ** 2).mean(1)

    theta, m, v, seen, clipped = reference.clone(), 0, 0, [], 0
    draws = drawn_by_hand(SeedStreams([4], dtype=F64), count, batch, 6)
    for step, (order, t, noise) in enumerate(draws, start=1):
        noises = (noise[0], noise[0 if pair_noise is shared_noise else 1])
        leaf = theta.clone().requires_grad_()
        w, l_ = errors(leaf, order, t, noises)
        rw, rl = (x.detach() for x in errors(reference, order, t, noises))
        z = diffusion_dpo_margin(w, l_, rw, rl, beta=BETA)
        loss = -torch.nn.functional.logsigmoid(z).mean()
        (g,) = torch.autograd.grad(loss, leaf)
        clipped += int(g.norm() > clip)
        g = g * min(1.0, clip / float(g.norm() + 1e-6))
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        theta = theta - rate * (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)).sqrt() + 1e-8)
        seen.append([float(x.detach()) for x in (loss, implicit_accuracy(z).mean(), (w - rw).mean(), (l_ - rl).mean())])
        if step % 3 == 0:
            torch.testing.assert_close(keep.seen[step // 3 - 1].parameters, theta, rtol=1e-8, atol=1e-10)
    assert 0 < clipped
    wanted = torch.tensor(seen, dtype=F64).unflatten(0, (2, 3)).mean(1)
    for index, key in enumerate(("loss", "accuracy", "error_chosen", "error_rejected")):
        torch.testing.assert_close(found[key][:, 0, 0], wanted[:, index], rtol=1e-7, atol=1e-9, msg=key)
    assert [s.step for s in keep.seen] == [3, 6]


def same(one, other, pick):
    for key in one:
        torch.testing.assert_close(pick(one[key]), other[key], rtol=1e-10, atol=1e-10, msg=key)


def test_a_seed_trains_the_same_without_the_others():
    same(metrics_of(train()), metrics_of(train(seeds=(2,))), lambda x: x[:, :, 2:])


def test_a_method_trains_the_same_without_the_others():
    fewer = {name: OBJECTIVES[name] for name in ("hasty", "DPO")}
    same(metrics_of(train()), metrics_of(train(fewer)), lambda x: x[:, [2, 0]])


def test_methods_differ_by_what_they_are_told_alone():
    """Two of a kind in one run are one; a rate of its own moves a method its own way."""
    twice = {"a": OBJECTIVES["DPO"], "b": OBJECTIVES["DPO"]}
    found = metrics_of(train(twice))
    for key in found:
        torch.testing.assert_close(found[key][:, 0], found[key][:, 1], rtol=1e-10, atol=1e-12)
    keep = Keep()
    list(train(num_steps=1, every=1, probe=keep))
    moved = (keep.seen[0].parameters - reference_of((0, 1, 2)).repeat(3, 1)).abs().amax(1).view(3, 3)
    # Adam's first step is the rate, in every number that has a gradient.
    for row, objective in zip(moved, OBJECTIVES.values(), strict=True):
        torch.testing.assert_close(row, torch.full_like(row, objective.learning_rate), rtol=1e-3, atol=0)


def test_the_seed_decides_the_run():
    one, two, other = (metrics_of(train(seeds=seeds)) for seeds in ((0, 1), (0, 1), (5, 6)))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not torch.equal(one["error_chosen"], other["error_chosen"])


def test_the_probes_run_changes_nothing():
    same(metrics_of(train()), metrics_of(train(probe=Keep())), lambda x: x)


def test_it_learns_what_it_is_asked_to():
    """Chosen images are bright, rejected ones dark: the margin grows, winners' errors fall where only they count."""
    settings = {"num_steps": 120, "every": 30, "batch_size": 12}
    found = metrics_of(train(**settings))
    assert (found["loss"][-1, 0] < 0.6).all() and (found["accuracy"][-1, 0] > 0.7).all()
    assert (found["error_chosen"][-1, 1] < -0.05).all()
    backwards = {"swapped": Objective(lambda w, l_, rw, rl: diffusion_dpo_loss(l_, w, rl, rw, beta=BETA), 1e-3)}
    assert (metrics_of(train(backwards, **settings))["accuracy"][-1] < 0.3).all()


class Watch:
    """A denoiser that remembers how it was asked."""

    layout, num_parameters = {"factor": (1,)}, 1

    def __init__(self):
        self.calls = []

    def __call__(self, parameters, xt, timestep, condition=None):
        self.calls.append(SimpleNamespace(rows=len(parameters), xt=xt, timestep=timestep, condition=condition))
        return parameters.view(-1, *[1] * (xt.ndim - 1)) * xt


def watched(batch=4, seeds=(0, 1), pairs=None, steps=3, **settings):
    denoiser = Watch()
    if pairs is None:
        pairs = pairs_of(seeds)
    start = torch.full((len(seeds), 1), 0.5, dtype=F64)
    settings = {"denoiser": denoiser, "reference": start, "pairs": pairs, "batch_size": batch, **settings}
    list(train({"a": OBJECTIVES["DPO"], "b": OBJECTIVES["SFT"]}, seeds=seeds, num_steps=steps, every=1, **settings))
    return denoiser.calls


def test_the_reference_is_asked_once_a_seed_and_all_methods_meet_the_same():
    calls = watched()
    assert [call.rows for call in calls] == [2, 4] * 3
    for ref, theta in zip(calls[::2], calls[1::2], strict=True):
        assert torch.equal(theta.xt, ref.xt.repeat(2, 1, 1)) and torch.equal(theta.timestep, ref.timestep.repeat(2, 1))
        assert ref.xt.shape == (2, 8, PIXELS) and ref.timestep.dtype == torch.int64
        assert not torch.equal(ref.xt[0], ref.xt[1])


def noise_in(call, pairs, batch):
    """The two noises [seed, pair, pixel] that turn two images into what a call saw, and which pairs they are."""
    a = ALPHA_BAR[call.timestep].unsqueeze(-1)
    found = []
    for half, images in ((slice(0, batch), pairs.chosen), (slice(batch, None), pairs.rejected)):
        xt, kept = call.xt[:, half], a[:, half]
        found.append(
            (xt.unsqueeze(2) - kept.sqrt().unsqueeze(2) * images.unsqueeze(1)) / (1 - kept).sqrt().unsqueeze(2)
        )
    return found  # [seed, sample, candidate, pixel] each


def test_the_two_images_of_a_pair_share_time_and_noise():
    pairs = pairs_of((0, 1))
    for call in watched(pairs=pairs)[::2]:
        t = call.timestep
        assert torch.equal(t[:, :4], t[:, 4:])
        chosen, rejected = noise_in(call, pairs, 4)
        # Of all pairs it could have been, exactly one gives both images the same noise.
        agree = (chosen - rejected).abs().amax(-1) < 1e-9
        assert (agree.sum(-1) == 1).all()


def test_noise_may_be_independent_and_everything_else_stays():
    pairs = pairs_of((0, 1))
    shared, own = (watched(pairs=pairs, pair_noise=choice) for choice in (shared_noise, independent_noise))
    for one, two in zip(shared[::2], own[::2], strict=True):
        assert torch.equal(one.timestep, two.timestep)
        assert torch.equal(one.xt[:, :4], two.xt[:, :4])  # the chosen images meet the same noise both times
        assert not torch.isclose(one.xt[:, 4:], two.xt[:, 4:]).any()
        chosen, rejected = noise_in(two, pairs, 4)
        assert ((chosen - rejected).abs().amax(-1) > 1e-9).all()


def test_every_pair_is_met_once_an_epoch():
    """Twelve pairs in batches of five: ten an epoch, the other two left out; then another order."""
    pairs = pairs_of((0, 1))
    met = []
    for call in watched(pairs=pairs, batch=5, steps=4)[::2]:
        chosen, rejected = noise_in(call, pairs, 5)
        met.append(((chosen - rejected).abs().amax(-1) < 1e-9).long().argmax(-1))  # [seed, sample]
    for epoch in (torch.cat(met[:2], 1), torch.cat(met[2:], 1)):
        assert all(len(set(row.tolist())) == 10 for row in epoch)
    assert not torch.equal(met[0], met[2]) and not torch.equal(met[0][0], met[0][1])


def test_time_steps_are_uniform():
    count = 400
    pairs = Pairs(normal(1, count, PIXELS), normal(1, count, PIXELS, seed=1))
    t = torch.cat([call.timestep[0, :count] for call in watched(batch=count, seeds=(3,), pairs=pairs, steps=10)[::2]])
    assert t.min() == 0 and t.max() == TIMESTEPS - 1
    share = (t < 10).double()
    assert abs(share.mean() - 0.2) < 4 * share.std() / math.sqrt(len(t))
    assert abs(t.double().mean() - (TIMESTEPS - 1) / 2) < 4 * t.double().std() / math.sqrt(len(t))


def test_a_condition_goes_with_its_pair():
    """Each pair's condition is its own chosen image, which makes it recognisable."""
    plain = pairs_of((0, 1))
    pairs = plain._replace(condition=plain.chosen.unsqueeze(2))
    for call in watched(pairs=pairs):
        assert call.condition.shape == (call.rows, 8, 1, PIXELS)
        assert torch.equal(call.condition[:, :4], call.condition[:, 4:])
    call = watched(pairs=pairs)[0]
    chosen, rejected = noise_in(call, plain, 4)
    for seed in range(2):
        for sample in range(4):
            agree = (chosen[seed, sample] - rejected[seed, sample]).abs().amax(-1) < 1e-9
            assert torch.equal(call.condition[seed, sample, 0], plain.chosen[seed, int(agree.long().argmax())])


def test_images_keep_their_shape():
    seen = watched(pairs=Pairs(normal(2, 6, 1, 4, 4), normal(2, 6, 1, 4, 4, seed=1)))
    assert seen[0].xt.shape == (2, 8, 1, 4, 4) and seen[1].xt.shape == (4, 8, 1, 4, 4)


def test_a_unet_goes_through_the_same_loop():
    unet = UNetDenoiser.unet2d(
        sample_size=4,
        in_channels=1,
        out_channels=1,
        block_out_channels=(4, 8),
        norm_num_groups=2,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        add_attention=False,
    )
    streams = SeedStreams((0, 1))
    pairs = Pairs(
        0.3 * normal(2, 8, 1, 4, 4, dtype=torch.float32) + 0.5, 0.3 * normal(2, 8, 1, 4, 4, dtype=torch.float32) - 0.5
    )
    keep, alpha_bar = Keep(), ALPHA_BAR.float()
    settings = {"alpha_bar": alpha_bar, "num_steps": 4, "every": 2, "batch_size": 4}
    list(denoise(unet, unet.init(streams), pairs.chosen[0], streams, probe=keep, **settings))
    start = keep.seen[-1].parameters
    objectives = {name: OBJECTIVES[name]._replace(learning_rate=1e-4) for name in ("DPO", "SFT")}
    found = metrics_of(preference(unet, start, pairs, streams, objectives, probe=keep, **settings))
    assert found["loss"].shape == (2, 2, 2) and found["loss"].isfinite().all()
    assert (found["loss"][0, 0] - math.log(2)).abs().max() < 0.1
    assert keep.seen[-1].parameters.shape == (4, unet.num_parameters)
    assert ((keep.seen[-1].parameters - start.repeat(2, 1)).abs().amax(1) > 0).all()


# --- probes, held seeds, and what waits ----------------------------------------------------------------------


def test_a_probe_adds_its_metrics_and_may_keep_parameters():
    keep = Keep()

    def probe(seen):
        keep(seen)
        assert not torch.is_grad_enabled()
        return {"norm": seen.parameters.norm(dim=1)}

    found = metrics_of(train(probe=probe))
    assert found["norm"].shape == (3, 3, 3)
    for index, seen in enumerate(keep.seen):
        assert seen.denoiser is MLP and seen.parameters.shape == (9, MLP.num_parameters)
        assert torch.equal(found["norm"][index].flatten(), seen.parameters.norm(dim=1))
    assert not torch.equal(keep.seen[0].parameters, keep.seen[1].parameters)


@pytest.mark.parametrize(
    ("probe", "word"),
    [
        (lambda seen: {"loss": seen.parameters[:, 0]}, "names of their own"),
        (lambda seen: {"x": seen.parameters}, "shape"),
        (lambda seen: None, "dict of metrics"),
        (lambda seen: {"x": seen.parameters[:, 0].long()}, "floating"),
    ],
)
def test_a_bad_probe_is_refused(probe, word):
    with refused(word):
        next(train(probe=probe))


def poisoned(when, what):
    """A loss that goes to ``what`` for the second of three seeds in its ``when``-th step only."""
    calls = iter(range(1, 1000))

    def loss(*errors):
        found = diffusion_dpo_loss(*errors, beta=BETA)
        factor = torch.ones_like(found)
        factor[1] = what if next(calls) == when else 1.0
        return found * factor

    return loss


@pytest.mark.parametrize("what", [math.inf, math.nan])
def test_a_diverging_seed_is_held_at_its_last_good_state_and_the_others_go_on(what):
    def run(loss):
        keep = Keep()
        objectives = {"ill": Objective(loss, 1e-3), "SFT": OBJECTIVES["SFT"]}

        def probe(seen):
            keep(seen)
            return {"probed": seen.parameters.sum(1)}

        found = metrics_of(train(objectives, num_steps=10, probe=probe))
        return found, torch.stack([seen.parameters for seen in keep.seen])

    sound, good = run(partial(diffusion_dpo_loss, beta=BETA))
    ill, held = run(poisoned(6, what))
    assert ill["alive"][:, 0, 1].tolist() == [True, True, False, False, False]
    others = [0, 2, 3, 4, 5]
    assert ill["alive"].flatten(1)[:, others].all()
    for key in sound:
        torch.testing.assert_close(sound[key].flatten(1)[:, others], ill[key].flatten(1)[:, others])
        if key != "alive":
            assert ill[key][2:, 0, 1].isnan().all() and ill[key][:2].isfinite().all()
    torch.testing.assert_close(held[:, others], good[:, others])
    torch.testing.assert_close(held[:2, 1], good[:2, 1])
    assert torch.equal(held[2:, 1], held[1:2, 1].expand(3, -1))


def test_nothing_waits_for_the_device():
    stream = train(dtype=torch.float32, probe=lambda seen: {"x": seen.parameters.mean(1)})
    with NoHostSync():
        found = list(stream)
    assert len(found) == 3
    streams = SeedStreams(range(2))
    stream = denoise(MLP, MLP.init(streams), normal(9, PIXELS, dtype=torch.float32), streams, **PRETRAIN)
    with NoHostSync():
        found = list(stream)
    assert len(found) == 2


@pytest.mark.parametrize("wrong", [lambda x: x.mean(), lambda x: x.mean(1), lambda x: x.mean(1, keepdim=True)])
def test_a_loss_that_is_not_one_value_per_pair_is_refused(wrong):
    with refused("loss"):
        next(train({"mine": Objective(lambda w, *rest: wrong(w), 1e-3)}))


def test_noise_of_another_shape_is_refused():
    with refused("pair_noise"):
        next(train(pair_noise=lambda drawn: drawn[:, :1]))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"objectives": {}}, "at least one method"),
        ({"objectives": {"a": Objective(on_winners, 0.0)}}, "learning_rate of a"),
        ({"num_steps": 0}, "num_steps"),
        ({"every": 0}, "every"),
        ({"every": 4}, "divide num_steps = 6"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 13}, "batch_size"),
        ({"max_grad_norm": 0.0}, "max_grad_norm"),
        ({"alpha_bar": ALPHA_BAR - 0.5}, "DDPMScheduler"),
        ({"alpha_bar": ALPHA_BAR + 0.5}, "DDPMScheduler"),
        ({"alpha_bar": ALPHA_BAR.unsqueeze(0)}, "alpha_bar in the shape"),
        ({"alpha_bar": [0.9]}, "alpha_bar"),
        ({"reference": reference_of((0, 1))}, r"\[3, "),
        ({"reference": reference_of((0, 1, 2))[:, :-1]}, "parameters in the shape"),
        ({"reference": reference_of((0, 1, 2)).float()}, "float64"),
        ({"reference": reference_of((0, 1, 2)) * math.nan}, "NaN"),
        ({"pairs": pairs_of((0, 1))}, "chosen in the shape"),
        ({"pairs": pairs_of((0, 1, 2), dtype=torch.float32)}, "chosen in torch.float64"),
        ({"pairs": Pairs(normal(3, 9, 5), normal(3, 8, 5))}, "rejected in the shape of chosen"),
        ({"pairs": Pairs(normal(3, 9), normal(3, 9))}, "at least 3 axes"),
        ({"pairs": Pairs(normal(3, 9, 5), normal(3, 9, 5), normal(3, 8, 2))}, "condition for each image"),
    ],
)
def test_bad_calls_are_refused_at_the_call(changes, word):
    objectives = changes.pop("objectives", OBJECTIVES) if "objectives" in changes else OBJECTIVES
    with refused(word):
        train(objectives, **changes)


# --- pre-training ------------------------------------------------------------------------------------------

PRETRAIN = {"alpha_bar": ALPHA_BAR, "num_steps": 4, "batch_size": 4, "every": 2}


def pretrain(seeds=(0, 1, 2), images=None, denoiser=MLP, **settings):
    streams = SeedStreams(seeds, dtype=F64)
    images = normal(9, PIXELS, seed=2) if images is None else images
    return denoise(denoiser, reference_of(seeds), images, streams, **{**PRETRAIN, **settings})


def test_pretraining_by_hand():
    rate, images, keep = 1e-2, normal(9, PIXELS, seed=2), Keep()
    found = metrics_of(pretrain([4], images, learning_rate=rate, average=0.2, max_grad_norm=0.5, probe=keep))
    assert set(found) == {"loss", "alive"} and found["loss"].shape == (2, 1, 1) and found["alive"].all()

    streams, theta, m, v, seen = SeedStreams([4], dtype=F64), reference_of([4]), 0, 0, []
    smooth = theta.clone()
    for step in range(4):
        if step % 2 == 0:
            order = streams.uniform(1, 9).argsort(-1)[0, 0]
        part = order[4 * (step % 2) : 4 * (step % 2) + 4]
        t = (streams.uniform(4)[0] * TIMESTEPS).long()
        e = streams.normal(4, PIXELS)
        a = ALPHA_BAR[t].unsqueeze(1)
        leaf = theta.clone().requires_grad_()
        loss = ((MLP(leaf, a.sqrt() * images[part] + (1 - a).sqrt() * e, t[None]) - e) ** 2).mean()
        (g,) = torch.autograd.grad(loss, leaf)
        g = g * min(1.0, 0.5 / float(g.norm() + 1e-6))
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        lr = rate * (1 + math.cos(math.pi * step / 4)) / 2
        theta = theta - lr * (m / (1 - 0.9 ** (step + 1))) / ((v / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
        keeps = min(0.2, (1 + step) / (10 + step))
        smooth = keeps * smooth + (1 - keeps) * theta
        seen.append(float(loss.detach()))
    torch.testing.assert_close(keep.seen[-1].parameters, smooth, rtol=1e-8, atol=1e-10)
    assert found["loss"][:, 0, 0].tolist() == pytest.approx([sum(seen[:2]) / 2, sum(seen[2:]) / 2], rel=1e-9)


def test_pretraining_a_seed_does_not_know_its_neighbours():
    same(metrics_of(pretrain()), metrics_of(pretrain((1,))), lambda x: x[:, :, 1:2])


def test_pretraining_holds_what_diverges():
    class Breaks(Watch):
        def __call__(self, parameters, xt, timestep, condition=None):
            out = super().__call__(parameters, xt, timestep, condition)
            if len(self.calls) == 3:
                factor = torch.ones(len(out), 1, 1, dtype=out.dtype)
                factor[1] = math.inf
                out = out * factor
            return out

    keep, streams = Keep(), SeedStreams((0, 1, 2), dtype=F64)
    start = torch.full((3, 1), 0.5, dtype=F64)
    found = metrics_of(denoise(Breaks(), start, normal(9, PIXELS), streams, probe=keep, **{**PRETRAIN, "num_steps": 6}))
    assert found["alive"][:, 0].tolist() == [[True] * 3, [True, False, True], [True, False, True]]
    assert found["loss"][1:, 0, 1].isnan().all() and found["loss"][:, 0, [0, 2]].isfinite().all()
    at = [seen.parameters for seen in keep.seen]
    assert torch.equal(at[1][1], at[0][1]) and torch.equal(at[2][1], at[0][1]) and not torch.equal(at[2][0], at[0][0])


def test_pretraining_tells_each_image_its_condition():
    images, denoiser = normal(9, PIXELS, seed=2), Watch()
    streams, start = SeedStreams((0, 1), dtype=F64), torch.full((2, 1), 0.5, dtype=F64)
    list(denoise(denoiser, start, images, streams, condition=images.unsqueeze(1), **PRETRAIN))
    for call in denoiser.calls:
        assert call.condition.shape == (2, 4, 1, PIXELS)
        a = ALPHA_BAR[call.timestep].unsqueeze(-1)
        noise = (call.xt - a.sqrt() * call.condition[:, :, 0]) / (1 - a).sqrt()
        assert noise.abs().max() < 5
        assert len({tuple(row) for row in call.condition[0, :, 0].tolist()}) == 4


def test_pretraining_finds_the_noise_and_ddim_the_images():
    """Two images, many times each: after a second of training samples lie near one of them."""
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2")
    centres = torch.tensor([[-0.8, 0.8, -0.8, 0.8, 0.0], [0.8, -0.8, 0.8, 0.8, 0.5]])
    images = centres.repeat(32, 1)
    denoiser, streams, keep = ResidualMLP(PIXELS, 32, blocks=2), SeedStreams((0, 1)), Keep()
    settings = {"num_steps": 600, "every": 300, "batch_size": 64, "average": 0.98, "learning_rate": 5e-3}
    stream = denoise(
        denoiser, denoiser.init(streams), images, streams, alpha_bar=scheduler.alphas_cumprod, probe=keep, **settings
    )
    found = metrics_of(stream)
    assert (found["loss"][-1] < found["loss"][0]).all() and (found["loss"][-1] < 0.15).all()
    samples = ddim_sample(denoiser, keep.seen[-1].parameters, streams.normal(64, PIXELS), scheduler, num_steps=20)
    distance = (samples.unsqueeze(2) - centres).norm(dim=-1).amin(-1)
    assert (distance.median(1).values < 0.3).all()


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"num_steps": 0}, "num_steps"),
        ({"every": 3}, "divide"),
        ({"batch_size": 10}, "batch_size"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"average": 1.0}, "average"),
        ({"images": normal(9)}, "at least 2 axes"),
        ({"images": normal(9, PIXELS, dtype=torch.float32)}, "images in torch.float64"),
        ({"condition": normal(8, 2)}, "condition for each image"),
    ],
)
def test_bad_pretraining_is_refused_at_the_call(changes, word):
    with refused(word):
        pretrain(**changes)
