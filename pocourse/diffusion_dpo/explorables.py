"""The explorables of chapter 5. Each comes in two halves: a pure function of its parameters, and what shows it.

``*_frame`` computes the arrays of one frame with the chapter's equations; the builder evaluates it on a grid and says
how the arrays look. The page computes nothing.
"""

import functools
import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pocourse.diffusion_dpo import denoising, objectives, optima
from pocourse.diffusion_dpo.training import digits
from pocourse.lesson.bands import interquartile_mean
from pocourse.lesson.explorable import Control, Curve, Explorable, Mark, Panel, Readout, compute
from pocourse.lesson.figures import FAINT, INK
from pocourse.lesson.records import SavedRecord

F64 = torch.float64
BLUE, ORANGE, GREEN, GREY, PURPLE = "#0072b2", "#d55e00", "#009e73", "#6b6f76", "#aa4499"

# ---------------------------------------------------------------- the Gibbs tilt

BETAS = tuple(float(f"{10 ** (1 - i / 10):.2g}") for i in range(27))  # from 10 down to 0.025
OUTCOMES = 8
REFERENCES = {
    "bell": torch.tensor([1.0, 4, 12, 22, 26, 20, 11, 4], dtype=F64),
    "uniform": torch.ones(OUTCOMES, dtype=F64),
}
REWARDS = {
    "a staircase": torch.linspace(0, 1, OUTCOMES, dtype=F64),
    "two as good": torch.tensor([0.1, 0.3, 1.0, 0.3, 0.1, 0.3, 1.0, 0.3], dtype=F64),
    "a rare jackpot": torch.tensor([2.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.4, 0.3], dtype=F64),
}
NATS, WORTH = (-0.15, 4.8), (-0.05, 2.15)
TANGENT = 0.55  # its reach to either side, in nats


def tilt_frame(*, beta: float, reward: str, reference: str) -> dict[str, np.ndarray]:
    """The Gibbs policy of eight outcomes at one beta.

    ``prob`` and ``prob_ref`` [outcome]; ``reward``, ``kl`` (mean reward and nats of divergence), ``value`` beta log Z,
    ``ess`` what share of reference samples its reweighting leaves, ``start`` the mean reward of the reference.
    """
    prob_ref = REFERENCES[reference] / REFERENCES[reference].sum()
    worth = REWARDS[reward]
    prob = objectives.gibbs_policy(prob_ref.log(), worth, beta=beta)
    tilt = prob / prob_ref
    kl = torch.xlogy(prob, tilt).sum()
    found = {
        "prob": prob,
        "prob_ref": prob_ref,
        "reward": (prob * worth).sum(),
        "kl": kl,
        "value": optima.gibbs_value(prob_ref.log(), worth, beta=beta),
        "ess": 1 / (prob_ref * tilt**2).sum(),
        "start": (prob_ref * worth).sum(),
    }
    return {name: value.numpy() for name, value in found.items()}


def gibbs_tilt() -> Explorable:
    """As beta falls a policy slides from the reference to the best outcomes, along its curve of reward and nats."""
    controls = (
        Control("beta", "β", BETAS, 0.25, texts=[f"{b:g}" for b in BETAS], play=True),
        Control("reward", "reward r", tuple(REWARDS), "a staircase", "choice"),
        Control("reference", "reference", tuple(REFERENCES), "bell", "choice"),
    )
    found = compute(tilt_frame, controls)
    places = np.arange(1, OUTCOMES + 1)
    worth = np.stack([r.numpy() for r in REWARDS.values()])[None, :, None]
    top = 1.04

    def stems(name: str, prob: np.ndarray, shift: float, look: dict) -> Curve:
        at = np.repeat(places + shift, 3)
        high = np.stack([np.zeros_like(prob), prob, np.full_like(prob, np.nan)], -1)
        return Curve(name, high.reshape(*prob.shape[:-1], -1), at, look)

    bars = [
        stems("reference", found["prob_ref"][:1, :1], -0.16, {"color": GREY, "linewidth": 6.0}),
        stems("Gibbs policy", found["prob"], 0.16, {"color": BLUE, "linewidth": 6.0}),
    ]
    prizes = [Curve("reward", worth, places, {"color": ORANGE, "size": 5.0}, "points")]
    kl, reward = (found[key] for key in ("kl", "reward"))
    along = np.linspace(-TANGENT, TANGENT, 2)
    beta = np.array(BETAS).reshape(-1, 1, 1, 1)
    # The tangent has the same length in nats of the panel, however steep it is.
    reach = along / np.sqrt(1 + (beta * (NATS[1] - NATS[0]) / (WORTH[1] - WORTH[0])) ** 2)
    path = [
        Curve(
            "best reward for its nats", np.moveaxis(reward, 0, -1)[None], np.moveaxis(kl, 0, -1)[None], {"color": INK}
        ),
        Curve("slope β", reward[..., None] + beta * reach, kl[..., None] + reach, {"color": ORANGE, "linewidth": 1.6}),
        Curve("here", reward[..., None], kl[..., None], {"color": BLUE, "size": 5.5}, "points"),
    ]
    return Explorable(
        "diffusion_dpo.gibbs_tilt",
        "A reward on a leash",
        controls,
        (
            Panel("Reward", "outcome", "r", (0.5, 8.5), (-0.1, 2.15), prizes, share=0.8),
            Panel("Probabilities", "outcome", "π", (0.5, 8.5), (0, top), bars, share=1.1),
            Panel("Reward against divergence", "KL(π‖π_ref), nats", "mean reward", NATS, WORTH, path, share=1.1),
        ),
        "Eight outcomes, the reward is {reward}, the reference {reference}, β = {beta}. The Gibbs policy's mean reward "
        "is {mean} where the reference has {start}; its divergence is {kl} nats, its objective β log Z = {value}. "
        "Reweighted reference samples would keep {ess} of their number. A curve shows mean reward against divergence "
        "for all β, with a tangent of slope β.",
        [
            Readout("mean", "mean reward", reward),
            Readout("start", "of the reference", found["start"], tied=True),
            Readout("kl", "KL", kl),
            Readout("value", "β log Z", found["value"]),
            Readout("ess", "samples left by reweighting", 100 * found["ess"], "{:.1f}%"),
        ],
        "π(y) = π_ref(y) exp(r(y)/β)/Z. Where the line at the point is steep, a nat buys much reward; the slope is β. "
        "The last number says how many of your samples of the reference would still count if you reweighted them to "
        "the Gibbs policy.",
    )  # fmt: skip


# ---------------------------------------------------------------- one pair through the noise levels

LEVELS = tuple(round(-9 + 0.5 * i, 1) for i in range(37))  # log SNR
NODES = 64
CHANCES = 99


class Pair(NamedTuple):
    """Two densities on the line, as mixtures (weights, means, variances), and an image chosen over another."""

    reference: tuple[Tensor, Tensor, Tensor]
    policy: tuple[Tensor, Tensor, Tensor]
    chosen: float
    rejected: float


def _mixture(*parts: tuple[float, float, float]) -> tuple[Tensor, Tensor, Tensor]:
    weights, means, variances = torch.tensor(parts, dtype=F64).T
    return weights, means.unsqueeze(-1), variances


WORLDS = {
    "shifted": Pair(_mixture((1, 0, 1)), _mixture((1, 1, 1)), 1.4, -0.6),
    "two modes, reweighted": Pair(
        _mixture((0.5, -1.2, 0.09), (0.5, 1.2, 0.09)), _mixture((0.2, -1.2, 0.09), (0.8, 1.2, 0.09)), 1.1, -1.3
    ),
    "narrower": Pair(_mixture((1, 0, 1)), _mixture((1, 0.5, 0.25)), 0.6, -0.9),
}
NOISES = ("shared", "one each")
SCRIPT_BETAS = (2, 8, 32)
LEVEL_ENDS = (LEVELS[0], LEVELS[-1])
FINE = torch.linspace(-9, 9, 73, dtype=F64)
PLANE = torch.linspace(-3.6, 3.6, 121, dtype=F64)


def _gauss(count: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights of the standard normal distribution."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    return torch.from_numpy(nodes), torch.from_numpy(weights / math.sqrt(2 * math.pi))


def excess(world: Pair, image: float, noise: Tensor, levels: Tensor) -> Tensor:
    """Delta, the squared error above the reference's, of an image at log SNRs [level] with noises [draw].

    Both denoisers are the best ones of their densities. Returns [level, draw].
    """
    alpha_bar = levels.sigmoid().unsqueeze(-1).expand(len(levels), len(noise))
    eps = noise.expand(alpha_bar.shape)
    xt = alpha_bar.sqrt() * image + (1 - alpha_bar).sqrt() * eps
    errors = [
        (eps - denoising.mixture_noise(xt.unsqueeze(-1), *density, alpha_bar).squeeze(-1)) ** 2
        for density in (world.policy, world.reference)
    ]
    return errors[0] - errors[1]


@functools.cache
def level_arrays(world: str, noise: str) -> dict[str, np.ndarray]:
    """For every log SNR of FINE the mean excess of both images and, of Delta_w - Delta_l over the noise, its quantiles.

    ``chosen``, ``rejected``, ``mean`` [level]; ``draws`` [level, draw] equally likely values of the difference.
    """
    pair, (nodes, weights) = WORLDS[world], _gauss(NODES)
    means = [(excess(pair, image, nodes, FINE) * weights).sum(-1) for image in (pair.chosen, pair.rejected)]
    even = torch.special.ndtri((torch.arange(CHANCES, dtype=F64) + 0.5) / CHANCES)
    won, lost = (excess(pair, image, even, FINE) for image in (pair.chosen, pair.rejected))
    draws = won - lost if noise == "shared" else (won.unsqueeze(-1) - lost.unsqueeze(-2)).flatten(1)
    found = {"chosen": means[0], "rejected": means[1], "mean": means[0] - means[1], "draws": draws}
    return {name: value.numpy() for name, value in found.items()}


def level_frame(*, level: float, world: str, noise: str, beta: int) -> dict[str, np.ndarray]:
    """What one noise level says of the pair, and what all up to it say together; each a number.

    ``z`` is the mean margin -beta/2 (Delta_w - Delta_l), ``sd`` its standard deviation over the noise, ``weight`` the
    mean of sigmoid(-z); ``so_far`` is -1/2 of the integral of the mean difference up to this log SNR, ``truth`` the
    log-ratio of the pair.
    """
    arrays, pair = level_arrays(world, noise), WORLDS[world]
    at = int(np.argmin(np.abs(FINE.numpy() - level)))
    z = -beta / 2 * arrays["draws"][at]
    fine, mean = FINE.numpy(), arrays["mean"]
    so_far = -0.5 * np.trapezoid(mean[: at + 1], fine[: at + 1]) if at else 0.0
    both = torch.tensor([[pair.chosen], [pair.rejected]], dtype=F64)
    ratio = denoising.mixture_log_density(both, *pair.policy) - denoising.mixture_log_density(both, *pair.reference)
    return {
        "z": np.array(-beta / 2 * mean[at]),
        "sd": np.array(z.std()),
        "weight": np.array((1 / (1 + np.exp(np.clip(z, -700, 700)))).mean()),
        "so_far": np.array(so_far),
        "truth": np.array(float(ratio[0] - ratio[1])),
    }


def noise_levels() -> Explorable:
    """One pair of points on a line: errors of two denoisers at every noise level, the margin, and the integral."""
    controls = (
        Control("level", "log SNR", LEVELS, 0.0, texts=[f"{x:g}".replace("-", "−") for x in LEVELS], play=True),
        Control("world", "policy against reference", tuple(WORLDS), "shifted", "choice"),
        Control("noise", "noise of the pair", NOISES, "shared", "choice"),
        Control("beta", "β of the script", SCRIPT_BETAS, 8, "choice"),
    )
    found = compute(level_frame, controls)
    fine, shape = FINE.numpy(), (1, len(WORLDS), 1, 1)
    arrays = {(w, n): level_arrays(w, n) for w in WORLDS for n in NOISES}

    def by_world(function) -> np.ndarray:
        values = np.stack([function(WORLDS[w]) for w in WORLDS])
        return values.reshape(*shape, -1)

    def density(parts) -> np.ndarray:
        return denoising.mixture_log_density(PLANE.unsqueeze(-1), *parts).exp().numpy()

    densities = [
        Curve("reference", by_world(lambda p: density(p.reference)), PLANE.numpy(), {"color": GREY}),
        Curve("policy", by_world(lambda p: density(p.policy)), PLANE.numpy(), {"color": BLUE}),
        Curve("chosen", by_world(lambda p: [0.02]), by_world(lambda p: [p.chosen]),
              {"color": GREEN, "size": 6.0}, "points"),
        Curve("rejected", by_world(lambda p: [0.02]), by_world(lambda p: [p.rejected]),
              {"color": ORANGE, "size": 6.0, "marker": "D"}, "points"),
    ]  # fmt: skip
    now = np.array(LEVELS).reshape(-1, 1, 1, 1, 1)

    def here(low: float, high: float) -> Curve:
        wide = np.broadcast_to(now, (len(LEVELS), 1, 1, 1, 2))
        return Curve(
            "now", np.broadcast_to([low, high], wide.shape), wide, {"color": FAINT, "linewidth": 1.4}, label=""
        )

    side = {name: np.stack([arrays[w, "shared"][name] for w in WORLDS]).reshape(*shape, -1)
            for name in ("chosen", "rejected")}  # fmt: skip
    reach = (-1.15, 1.15)
    errors = [
        here(*reach),
        Curve("chosen", _cut(side["chosen"], *reach), fine, {"color": GREEN}),
        Curve("rejected", _cut(side["rejected"], *reach), fine, {"color": ORANGE, "linestyle": (0, (5, 1.6))}),
    ]
    half = -np.array(SCRIPT_BETAS) / 2
    margins = {}
    for name, take in (
        ("mean", lambda a: a["mean"]),
        ("low", lambda a: np.quantile(a["draws"], 0.05, axis=-1)),
        ("high", lambda a: np.quantile(a["draws"], 0.95, axis=-1)),
    ):
        values = np.stack([[take(arrays[w, n]) for n in NOISES] for w in WORLDS])
        margins[name] = (values[:, :, None] * half[:, None])[None]
    top = 9.0
    dashed = {"color": PURPLE, "linewidth": 1.2, "linestyle": (0, (4, 2))}
    spread = [
        here(-top, top),
        Curve("mean", _cut(margins["mean"], -top, top), fine, {"color": INK}),
        Curve("5% and 95% of noises", _cut(margins["low"], -top, top), fine, dashed),
        Curve("low", _cut(margins["high"], -top, top), fine, dashed, label=""),
    ]
    return Explorable(
        "diffusion_dpo.noise_levels",
        "One pair, all noise levels",
        controls,
        (
            Panel("Data and the pair", "x", "density", (-3.6, 3.6), (0, 1.15), densities, share=0.9),
            Panel("Error above the reference", "log SNR", "Δ", LEVEL_ENDS, reach, errors, [Mark("hline", 0.0)]),
            Panel("Margin z", "log SNR", "z", LEVEL_ENDS, (-top, top), spread, [Mark("hline", 0.0)]),
        ),
        "A pair of points, the policy is {world} against the reference, noise of the pair: {noise}, β = {beta}. At "
        "log SNR {level} the margin z is {z} on average with a standard deviation of {sd} over the noise; the pair's "
        "gradient weight is {weight}. Minus half the integral of the errors' difference up to here is {so_far}, the "
        "log-ratio of the pair {truth}.",
        [
            Readout("z", "mean z", found["z"]),
            Readout("sd", "sd over noise", found["sd"], tied=True),
            Readout("weight", "gradient weight σ(−z)", found["weight"]),
            Readout("so_far", "−½∫ so far", found["so_far"]),
            Readout("truth", "log-ratio of the pair", found["truth"], tied=True),
        ],
        "Both denoisers are the best ones of their densities, so (5.19) holds: at the right end the integral has "
        "reached the log-ratio. Noise is on the left, the clean image on the right. Lines end where they leave the "
        "panel.",
    )  # fmt: skip


def _cut(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """A gap where a line is outside of its panel."""
    return np.where((values >= low) & (values <= high), values, np.nan)


# ---------------------------------------------------------------- the dashboard of a collapse

CLASSES = 10
LOWEST, HIGHEST = -4.0, 1.0  # powers of ten of an error above the reference's
SHOWN_REWARD = (-0.5, 10.5)


@functools.cache
def _grid() -> SavedRecord:
    found = digits.recorded("digits-grid")
    if found is None:
        raise ValueError(
            "expected the recorded grid of betas and step sizes; got none. Make it: pocourse run 05 --only digits-grid "
            "--profile cpu --record."
        )
    return found


def collapse_frame(*, beta: int, rate: float, step: int) -> dict[str, np.ndarray]:
    """A recorded run at one beta and step size: interquartile means over its seeds.

    Every curve [point] by its name, and under ``now_`` and the name its value after ``step`` optimizer steps.
    """
    record = _grid()
    method = record.methods.index(f"β = {beta} at {rate:g}")
    at = list(record.steps).index(step)
    curves = {name: interquartile_mean(values[:, method], axis=1) for name, values in record.curves().items()}
    return curves | {f"now_{name}": values[at] for name, values in curves.items()}


def collapse() -> Explorable:
    """What a training script logs, and what only errors and samples show, for every beta and step size of the grid."""
    record = _grid()
    known, steps = record.json["configuration"]["reference"], [int(s) for s in record.steps]
    controls = (
        Control("step", "optimizer steps", steps, steps[-1], play=True),
        Control("beta", "β", digits.BETAS, 500, "choice"),
        Control("rate", "step size", digits.GRID_RATES, digits.RATE, "choice", [f"{r:g}" for r in digits.GRID_RATES]),
    )
    found = compute(collapse_frame, controls)

    def along(name: str) -> np.ndarray:
        return found[name][:1]  # the whole curve, whatever the step

    def line(label: str, values: np.ndarray, color: str, **look) -> Curve:
        return Curve(label, values, np.array(steps), {"color": color, **look})

    def now(low: float, high: float) -> Curve:
        wide = np.broadcast_to(np.array(steps, dtype=float).reshape(-1, 1, 1, 1), (len(steps), 1, 1, 2))
        look = {"color": FAINT, "linewidth": 1.4}
        return Curve("now", np.broadcast_to([low, high], wide.shape), wide, look, label="")

    dashed = {"linestyle": (0, (5, 1.6))}
    ends, logged = (0, steps[-1] * 1.02), (0.35, 1.05)
    with np.errstate(invalid="ignore", divide="ignore"):
        errors = {key: np.log10(np.maximum(along(key), 10**LOWEST)) for key in ("error_chosen", "error_rejected")}
    shares = along("entropy") / math.log(CLASSES)
    panels = (
        Panel("What is logged", "steps", "loss, accuracy", ends, logged,
              [now(*logged), line("loss", _cut(along("loss"), *logged), INK),
               line("accuracy", along("accuracy"), BLUE)],
              [Mark("hline", known["floor"], color=ORANGE), Mark("hline", known["ceiling"], color=GREEN),
               Mark("text", (ends[1] * 0.98, known["floor"]), "floor", INK, "end", -9),
               Mark("text", (ends[1] * 0.98, known["ceiling"]), "ceiling", INK, "end", 9)]),
        Panel("Errors above ref.", "steps", "log₁₀ of Δ", ends, (LOWEST, HIGHEST),
              [now(LOWEST, HIGHEST), line("winner", errors["error_chosen"], GREEN),
               line("loser", errors["error_rejected"], ORANGE, **dashed)]),
        Panel("Samples", "steps", "share", ends, (0, 1.05),
              [now(0, 1.05), line("class entropy / log 10", shares, PURPLE),
               line("confidence", along("confidence"), GREY, **dashed)]),
        Panel("Their reward", "steps", "mean ink", ends, SHOWN_REWARD,
              [now(*SHOWN_REWARD), line("reward", _cut(along("reward"), *SHOWN_REWARD), INK)],
              [Mark("hline", float(np.mean(known["reward"])))]),
    )  # fmt: skip
    told = {name: found[f"now_{name}"] for name in ("loss", "accuracy", "error_chosen", "entropy", "reward")}
    return Explorable(
        "diffusion_dpo.collapse",
        "Alive or dead?",
        controls,
        panels,
        "Denoisers of digits trained by Diffusion-DPO with β = {beta} and step size {rate}, means over eight seeds. "
        "After {step} steps the loss is {loss}, the accuracy {accuracy}, the winner's error above the reference "
        "{error_chosen}; the samples' reward is {reward}, the entropy of their classes {entropy} nats of 2.30.",
        [
            Readout("loss", "loss", told["loss"], "{:.3f}"),
            Readout("accuracy", "accuracy", told["accuracy"], "{:.3f}", tied=True),
            Readout("error_chosen", "winner's Δ", told["error_chosen"], "{:.4f}"),
            Readout("reward", "reward", told["reward"]),
            Readout("entropy", "class entropy", told["entropy"], tied=True),
        ],
        "Interquartile means of the recorded grid. An error that is not above the reference's lies at the bottom of "
        "its panel. Lines end where they leave the panel. Floor and ceiling: what knowing the reward gives on fresh "
        "pairs.",
    )  # fmt: skip


EXPLORABLES = {"gibbs_tilt": gibbs_tilt, "noise_levels": noise_levels, "collapse": collapse}
