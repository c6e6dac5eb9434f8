"""pocourse.engine.captioned: what is predicted, by hand; seeds, captions, precision, and the engine's loops."""

import math

import pytest
import torch
from helpers import NoHostSync

from pocourse import _check
from pocourse.diffusion_dpo.objectives import diffusion_dpo_loss
from pocourse.engine import SeedStreams
from pocourse.engine.captioned import CaptionedDenoiser, CaptionEncoder
from pocourse.engine.denoisers import unflatten
from pocourse.engine.preference import Objective, Pairs, denoise, preference

pytest.importorskip("diffusers")

F64 = torch.float64
ALPHA_BAR = torch.cos(torch.linspace(0.05, 1.5, 50, dtype=F64)) ** 2
CAPTIONS = torch.tensor([[[1, 2, 3], [4, 0, 2]], [[3, 3, 0], [1, 2, 3]]])


def refused(*words):
    return pytest.raises(ValueError, match=r"(?s)expected .*got .*" + ".*".join(words))


def tiny(**other):
    known = {"words": 5, "length": 3, "side": 8, "channels": 2, "widths": [8, 16], "layers": 1, "encoder_width": 8}
    known |= {"alpha_bar": ALPHA_BAR.float(), "pixel_std": 0.3, "patch": 2, "autocast": None}
    return CaptionedDenoiser(**known | other)


@pytest.fixture(scope="module")
def denoiser():
    return tiny()


@pytest.fixture(scope="module")
def parameters(denoiser):
    """Two rows, with a head that is no longer zero."""
    drawn = denoiser.init(SeedStreams([3, 4], dtype=F64))
    return drawn + 0.05 * SeedStreams([5, 6], dtype=F64).normal(denoiser.num_parameters)


@pytest.fixture(scope="module")
def noised():
    streams = SeedStreams([0, 1], dtype=F64)
    return streams.normal(2, 2, 8, 8), torch.tensor([[0, 20], [35, 49]])


def module_of(denoiser, row):
    """A module of its own with the parameters of one row."""
    own = tiny().module.double()
    pieces = unflatten(row.unsqueeze(0), denoiser.layout)
    missing, unexpected = own.load_state_dict({name: x[0] for name, x in pieces.items()}, strict=False)
    assert not unexpected and set(missing) == {"scale_in", "skip", "scale_out"}
    return own.requires_grad_(False)


# --- what is predicted -----------------------------------------------------------------------------


def test_the_encoder_by_hand():
    encoder = CaptionEncoder(5, 3, 4).double()
    tokens = torch.tensor([[1, 4, 0]])
    w, p, mix = encoder.words.weight, encoder.places.weight, encoder.mix
    for place, token in enumerate(tokens[0].tolist()):
        h = w[token] + p[place]
        by_hand = h + mix.weight @ (h * h.sigmoid()) + mix.bias
        torch.testing.assert_close(encoder(tokens)[0, place], by_hand)


def test_a_prediction_by_hand(denoiser, parameters, noised):
    xt, timestep = noised
    found = denoiser(parameters, xt, timestep, CAPTIONS)
    assert found.shape == xt.shape and found.dtype == F64
    for row in range(2):
        own = module_of(denoiser, parameters[row])
        for k in range(2):
            t = timestep[row, k]
            kept = ALPHA_BAR.float()[t].double()  # the tables are in single precision
            v = kept * 0.09 + 1 - kept
            small = torch.empty(1, 8, 4, 4, dtype=F64)  # every second pixel of either axis is a channel
            for c in range(2):
                for i in range(2):
                    for j in range(2):
                        small[0, 4 * c + 2 * i + j] = xt[row, k, c, i::2, j::2] / v.sqrt()
            told = own.encoder(CAPTIONS[row, k : k + 1])
            answer = own.unet(small, t.view(1), encoder_hidden_states=told).sample
            wide = torch.empty(2, 8, 8, dtype=F64)
            for c in range(2):
                for i in range(2):
                    for j in range(2):
                        wide[c, i::2, j::2] = answer[0, 4 * c + 2 * i + j]
            by_hand = (1 - kept).sqrt() / v * xt[row, k] + 0.3 * (kept / v).sqrt() * wide
            torch.testing.assert_close(found[row, k], by_hand, rtol=1e-4, atol=1e-5)


def test_an_untrained_denoiser_is_the_best_linear_one(denoiser):
    streams = SeedStreams([0], dtype=F64)
    parameters = denoiser.init(streams)
    # Images of independent pixels with the standard deviation 0.3, and their noise.
    x0, noise = 0.3 * streams.normal(400, 2, 8, 8), streams.normal(400, 2, 8, 8)
    captions = CAPTIONS[:1, :1].expand(1, 400, 3)
    for t in (2, 25, 45):
        kept = ALPHA_BAR[t]
        xt = kept.sqrt() * x0 + (1 - kept).sqrt() * noise
        found = denoiser(parameters, xt, torch.full((1, 400), t), captions)
        slope = found.flatten() @ xt.flatten() / (xt.flatten() @ xt.flatten())
        torch.testing.assert_close(found, slope * xt, rtol=1e-9, atol=1e-9)
        error = (noise - found).square()
        tolerance = 4 * error.std() / math.sqrt(error.numel())
        assert abs(error.mean() - denoiser.module.scale_out[t].double() ** 2) < tolerance
        # No other multiple of xt is nearer to the noise, up to chance.
        product = xt * (noise - found)
        assert abs(product.mean()) < 4 * product.std() / math.sqrt(product.numel())


def test_the_inputs_of_the_unet_have_unit_size(denoiser):
    kept = ALPHA_BAR.float()
    torch.testing.assert_close(denoiser.module.scale_in**2 * (kept * 0.09 + 1 - kept), torch.ones(50))


# --- rows, captions, gradients ---------------------------------------------------------------------


def test_a_row_does_not_know_its_neighbours(denoiser, parameters, noised):
    xt, timestep = noised
    both = denoiser(parameters, xt, timestep, CAPTIONS)
    for row in range(2):
        alone = denoiser(*(x[row : row + 1] for x in (parameters, xt, timestep, CAPTIONS)))
        torch.testing.assert_close(alone[0], both[row], rtol=1e-12, atol=1e-12)


def test_initial_parameters_depend_on_the_seed_alone():
    with torch.random.fork_rng():
        made = []
        for seed in (0, 1):  # of the generator that diffusers draws from
            torch.manual_seed(seed)
            made.append(tiny().init(SeedStreams([7, 8])))
    assert torch.equal(*made)
    assert torch.equal(tiny().init(SeedStreams([8])), made[0][1:])
    assert not torch.equal(made[0][0], made[0][1])


def test_the_caption_is_listened_to_and_its_order_counts(denoiser, parameters, noised):
    xt, timestep = noised
    first = denoiser(parameters, xt, timestep, CAPTIONS)
    other = CAPTIONS.clone()
    other[0, 0, 1] = 4
    changed = (denoiser(parameters, xt, timestep, other) - first).abs().amax((2, 3, 4))
    assert changed[0, 0] > 1e-6 and changed.flatten()[1:].max() == 0
    turned = (denoiser(parameters, xt, timestep, CAPTIONS.flip(-1)) - first).abs().amax((2, 3, 4))
    assert turned.min() > 1e-6


def test_gradients_reach_everything_that_was_used(denoiser, parameters, noised):
    xt, timestep = noised
    leaf = parameters.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(denoiser(leaf, xt, timestep, CAPTIONS).square().sum(), leaf)
    pieces = unflatten(gradient, denoiser.layout)
    assert sum(math.prod(shape) for shape in denoiser.layout.values()) == denoiser.num_parameters
    assert {name.split(".")[0] for name in pieces} == {"encoder", "unet"}
    for row in range(2):
        used = torch.zeros(5, dtype=torch.bool)
        used[CAPTIONS[row].flatten()] = True
        assert torch.equal(pieces["encoder.words.weight"][row].abs().sum(-1) > 0, used)
        silent = {name for name, x in pieces.items() if not x[row].any()}
        # A key's bias adds the same to all scores; diffusers has none. Whatever else is silent is a mistake.
        assert silent <= {name for name in silent if name.endswith("to_k.bias")}


def test_gradients_by_central_differences(denoiser, parameters, noised):
    xt, timestep = noised
    leaf = parameters.clone().requires_grad_()

    def value(at):
        return denoiser(at, xt, timestep, CAPTIONS).square().mean()

    (gradient,) = torch.autograd.grad(value(leaf), leaf)
    for seed in range(3):
        direction = SeedStreams([seed], dtype=F64).normal(*parameters.shape)[0]
        ends = [value(parameters + sign * 1e-5 * direction) for sign in (1, -1)]
        slope = float((ends[0] - ends[1]) / 2e-5)
        assert float((gradient * direction).sum()) == pytest.approx(slope, rel=1e-5, abs=1e-6)


# --- precision -------------------------------------------------------------------------------------


def test_a_cpu_computes_in_the_precision_of_the_parameters(parameters, noised):
    xt, timestep = noised
    plain = tiny()(parameters.float(), xt.float(), timestep, CAPTIONS)
    asked = tiny(autocast=torch.bfloat16)(parameters.float(), xt.float(), timestep, CAPTIONS)
    assert plain.dtype == torch.float32 and torch.equal(plain, asked)


def test_half_precision_rounds_the_network_and_not_the_linear_guess(denoiser, parameters, noised):
    own = module_of(denoiser, parameters[0]).float()
    xt, timestep = noised[0][0, :1].float().expand(2, -1, -1, -1), torch.tensor([0, 49])
    plain = own(xt, timestep, CAPTIONS[0])
    with torch.autocast("cpu", torch.bfloat16):
        rounded = own(xt, timestep, CAPTIONS[0])
    assert rounded.dtype == torch.float32
    off = (rounded - plain).abs().amax((1, 2, 3))
    assert (off > 0).all() and (off < 0.1 * own.scale_out[timestep]).all()
    # Nearly pure noise: what is left to the network is small, and so is its rounding.
    assert off[1] < 2**-9 * xt.abs().max() / 5


# --- the engine's loops ----------------------------------------------------------------------------


def test_nothing_waits_for_the_device(denoiser, parameters, noised):
    xt, timestep = noised
    with NoHostSync(), _check.values_unread():
        denoiser(parameters, xt, timestep, CAPTIONS)


def test_it_learns_what_a_caption_means():
    """Two captions, two pictures: plain ones of +0.3 and of -0.3."""
    denoiser, streams = tiny(), SeedStreams([0])
    shade = torch.tensor([0.3, -0.3]).repeat(32)
    images = shade.view(-1, 1, 1, 1).expand(64, 2, 8, 8).contiguous()
    captions = torch.where(shade.unsqueeze(-1) > 0, torch.tensor([1, 2, 0]), torch.tensor([1, 3, 0]))
    kept = {}

    def keep(seen):
        kept["parameters"] = seen.parameters
        return {}

    settings = {"num_steps": 30, "batch_size": 16, "every": 10, "learning_rate": 1e-2, "average": 0.7}
    start = denoiser.init(streams)
    known = {"alpha_bar": ALPHA_BAR.float(), "condition": captions, "probe": keep}
    losses = [float(metrics["loss"]) for metrics in denoise(denoiser, start, images, streams, **known, **settings)]
    assert losses[-1] < 0.95 * losses[0]
    # Nearly pure noise, the same for both captions: only they can tell what is below it.
    xt, timestep = streams.normal(16, 2, 8, 8), torch.full((1, 16), 40)
    light, dark = (denoiser(kept["parameters"], xt, timestep, captions[k].expand(1, 16, 3)) for k in (0, 1))
    apart = (light - dark).mean((2, 3, 4))
    assert (apart < 0).all() and apart.mean() < -0.05


def test_preferences_start_from_log_two_and_go_on_with_captions(denoiser):
    streams = SeedStreams([0, 1])
    reference = denoiser.init(streams)
    pairs = Pairs(streams.normal(4, 2, 8, 8), streams.normal(4, 2, 8, 8), torch.tensor([1, 2, 3]).expand(2, 4, 3))
    objectives = {"a": Objective(lambda *e: diffusion_dpo_loss(*e, beta=100.0), 1e-3)}
    stream = preference(
        denoiser, reference, pairs, streams, objectives, alpha_bar=ALPHA_BAR.float(), num_steps=3, batch_size=4, every=1
    )
    metrics = list(stream)
    assert metrics[0]["loss"].shape == (1, 2)
    torch.testing.assert_close(metrics[0]["loss"], torch.full((1, 2), math.log(2)), rtol=0, atol=1e-6)
    assert (metrics[0]["accuracy"] == 0.5).all() and (metrics[2]["error_chosen"] != 0).all()
    assert all(m["alive"].all() for m in metrics)


@pytest.mark.parametrize(
    ("other", "word"),
    [
        ({"widths": [8, 12]}, "divisible by 8"),
        ({"widths": [8]}, "two or more widths"),
        ({"side": 6}, "side 6"),
        ({"patch": 3}, "patch 3"),
        ({"patch": 0}, "patch"),
        ({"words": 0}, "words"),
        ({"pixel_std": 0.0}, "pixel_std"),
        ({"alpha_bar": torch.tensor([1.0, 0.5])}, "alphas_cumprod"),
    ],
)
def test_bad_networks_are_refused(other, word):
    with pytest.raises(ValueError, match=rf"(?s)expected .*{word}"):
        tiny(**other)


def test_a_picture_without_a_caption_is_refused(denoiser, parameters, noised):
    with refused("Pass token ids"):
        denoiser(parameters, *noised)
