"""A denoiser that reads captions: one of diffusers' conditional UNets behind a small caption encoder.

Encoder and UNet are one module, so that their parameters are one row of numbers and train together. What the module
predicts is put together from the noised image itself and the UNet's answer, in the proportions that leave the UNet a
task of unit size at every time step.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle, silu

from pocourse import _check
from pocourse.engine.denoisers import UNetDenoiser, flatten, unflatten
from pocourse.engine.streams import SeedStreams

GROUPS, HEADS = 8, 4  # of the UNet's normalisations, and of its attention


class CaptionEncoder(torch.nn.Module):
    r"""Captions as what cross-attention reads: a vector for every word, one for every place, and a layer that mixes.

    .. math:: h = w_{\mathrm{token}} + p_{\mathrm{place}}, \qquad y = h + W\, \mathrm{silu}(h) + b

    Shapes: tokens [sample, place], int64 -> [sample, place, width].
    """

    def __init__(self, words: int, length: int, width: int):
        super().__init__()
        self.words, self.places = torch.nn.Embedding(words, width), torch.nn.Embedding(length, width)
        self.mix = torch.nn.Linear(width, width)

    def forward(self, captions: Int64[Tensor, "sample place"]) -> Float[Tensor, "sample place width"]:
        """One vector for every place of every caption."""
        h = self.words(captions) + self.places.weight
        return h + self.mix(silu(h))


class CaptionedUNet(torch.nn.Module):
    r"""A noised image, its time step and its caption in; the noise out.

    .. math:: \hat\epsilon = \frac{\sqrt{1 - \bar\alpha_t}}{v_t}\, x_t + s \sqrt{\frac{\bar\alpha_t}{v_t}}\;
        F\Big( \frac{x_t}{\sqrt{v_t}},\, t,\, \text{caption} \Big), \qquad v_t = \bar\alpha_t s^2 + 1 - \bar\alpha_t

    The first term is the best linear guess for pixels of mean 0 and standard deviation s. What it leaves to guess has
    the size that stands in front of F, so that the UNet F has inputs and answers of unit size at every time step. With
    ``patch`` above 1, squares of that many pixels a side become channels for the UNet, and pixels again behind it.

    Source: Karras et al. 2022 (EDM, arXiv 2206.00364), whose preconditioning this is, in the variables of DDPM.
    """

    def __init__(
        self, encoder: CaptionEncoder, unet: torch.nn.Module, alpha_bar: Tensor, *, pixel_std: float, patch: int
    ):
        super().__init__()
        self.encoder, self.unet, self.patch = encoder, unet, patch
        total = alpha_bar * pixel_std**2 + 1 - alpha_bar
        self.register_buffer("scale_in", 1 / total.sqrt())
        self.register_buffer("skip", (1 - alpha_bar).sqrt() / total)
        self.register_buffer("scale_out", pixel_std * (alpha_bar / total).sqrt())

    def forward(
        self,
        xt: Float[Tensor, "sample channel side side"],
        timestep: Int64[Tensor, "sample"],
        captions: Int64[Tensor, "sample place"],
    ) -> Float[Tensor, "sample channel side side"]:
        """Predict the noise in every image."""
        at = [scale[timestep].view(-1, 1, 1, 1) for scale in (self.scale_in, self.skip, self.scale_out)]
        squares = pixel_unshuffle(at[0] * xt, self.patch)
        answer = self.unet(squares, timestep, encoder_hidden_states=self.encoder(captions)).sample
        return at[1] * xt + at[2] * pixel_shuffle(answer, self.patch).to(xt)


class CaptionedDenoiser(UNetDenoiser):
    """The engine's denoiser for pictures with captions; its condition is token ids [row, sample, place].

    ``widths`` counts the channels at every resolution, each half as fine as the last, and all but the finest have
    cross-attention; ``encoder_width`` is what a word becomes. ``alpha_bar`` [timestep] is the noise schedule, on the
    device on which the denoiser is to work, and ``pixel_std`` the root mean square of the pixels. ``autocast`` is the
    precision in which a CUDA card computes encoder and UNet, None that of the parameters; what the linear guess adds,
    and so every error, is in single precision. A CPU computes in the precision of the parameters.
    """

    def __init__(
        self,
        *,
        words: int,
        length: int,
        side: int,
        channels: int,
        widths: Sequence[int],
        layers: int,
        encoder_width: int,
        alpha_bar: Tensor,
        pixel_std: float,
        patch: int = 1,
        autocast: torch.dtype | None = torch.bfloat16,
    ):
        sizes = {"words": words, "length": length, "side": side, "channels": channels, "layers": layers}
        _check.number(at_least=1, patch=patch, encoder_width=encoder_width, **sizes)
        _check.number(above=0, pixel_std=pixel_std)
        _check.entries(above=0, below=1, remedy="Take alphas_cumprod of a DDPMScheduler.", alpha_bar=alpha_bar)
        levels = len(widths)
        if side % (patch * 2 ** (levels - 1)) or any(width % GROUPS for width in widths) or levels < 2:
            raise ValueError(
                f"expected two or more widths divisible by {GROUPS}, and a side divisible by the patch and by 2 for "
                f"every width after the first; got widths {list(widths)}, side {side}, patch {patch}. "
                "Pictures of 32 by 32 pixels take (64, 128, 256) with patch 1."
            )
        shape = {"side": side // patch, "channels": channels * patch**2}
        unet = _conditional_unet(**shape, widths=list(widths), layers=layers, encoder_width=encoder_width)
        module = CaptionedUNet(
            CaptionEncoder(words, length, encoder_width), unet, alpha_bar, pixel_std=pixel_std, patch=patch
        )
        self.autocast = autocast
        super().__init__(module, self._call)

    def init(self, streams: SeedStreams) -> Float[Tensor, "seed parameter"]:
        """Draw all parameters, each seed's from its own stream; the vectors of words and places standard normal.

        The UNet's last layer starts at zero, so that an untrained denoiser is the best linear one.
        """
        rows = unflatten(super().init(streams), self.layout)
        for name in ("encoder.words.weight", "encoder.places.weight"):
            rows[name] = streams.normal(*self.layout[name])
        for name in ("unet.conv_out.weight", "unet.conv_out.bias"):
            rows[name] = torch.zeros_like(rows[name])
        return flatten(rows, self.layout)

    def _call(self, module, xt, timestep, captions):
        if captions is None:
            raise ValueError("expected captions as the condition, [row, sample, place]; got none. Pass token ids.")
        used = self.autocast is not None and xt.device.type == "cuda"
        with torch.autocast(xt.device.type, self.autocast, enabled=used, cache_enabled=False):
            return module(xt, timestep, captions)


def _conditional_unet(*, side, channels, widths, layers, encoder_width):
    from diffusers import UNet2DConditionModel

    levels = len(widths)
    with torch.random.fork_rng(devices=[]):  # its weights are drawn by torch's global generator, and never used
        return UNet2DConditionModel(
            sample_size=side,
            in_channels=channels,
            out_channels=channels,
            block_out_channels=widths,
            down_block_types=["DownBlock2D"] + ["CrossAttnDownBlock2D"] * (levels - 1),
            up_block_types=["CrossAttnUpBlock2D"] * (levels - 1) + ["UpBlock2D"],
            layers_per_block=layers,
            norm_num_groups=GROUPS,
            attention_head_dim=HEADS,  # so diffusers calls the number of heads of this model
            cross_attention_dim=encoder_width,
        )
