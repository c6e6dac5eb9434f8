"""The calm estimate of a divergence, for the further part of section 5."""

import torch
from torch import Tensor

from pocourse.lesson import trial
from pocourse.lesson.exercises import exercise
from pocourse.ratio_clipping.exercises._shared import TOLERANCE, compare, each_by_itself, pair, row, slopes

approx_kl = exercise(
    "ratio_clipping.approx_kl",
    title="A calm estimate of KL",
    section="5",
    difficulty=3,
    minutes=6,
    task="""
How far has the policy moved? KL(π ‖ π′) is the mean of −log r over the *old* policy's actions, with r = π′(a|s)
/ π(a|s). So −log r of each sample estimates it; this estimate is called **k1**. It is right on average, and
restless: near r = 1 its samples have both signs, are much larger than KL itself, and cancel.

A better one is **k3** (2.31): add r − 1 to k1. Every sample is then at least zero. And the mean is the same, since
r − 1 is zero on average, as long as π′ plays no action that π never plays.

Write k3. `approx_kl(logp, logp_old)` receives

- `logp`, a tensor of any shape: log π′(a|s) of the actions in the batch. The gradient has to flow back through
  it;
- `logp_old`, a tensor of the same shape and dtype: log π(a|s) of the same actions. They were drawn from π, and
  are data

and returns a tensor of the same shape and dtype, one estimate per sample: no mean.

Log-probabilities can be far below zero: exp(−800) is 0 in the computer. Your answer should stay finite for an
action that has become as rare as that.
""",
    stub='''
def approx_kl(logp, logp_old):
    """One estimate k3 of KL(old || new) per sample."""
    ...
''',
    hints=(
        "Everything you need is in one number per sample, the log-ratio `logp - logp_old`. Which part of k3 needs the "
        "ratio, and which part needs its logarithm, which you have already?",
        "k3 = r − 1 − log r. Use `exp` once, for r. Do not take the logarithm of r afterwards: where r has become 0 "
        "in the computer, its logarithm is infinite, while the log-ratio itself is a harmless −800.",
        "With `log_ratio = logp - logp_old`, the ratio is `log_ratio.exp()`. Subtract 1 from it, and subtract "
        "`log_ratio`.",
    ),
    solution="""
def approx_kl(logp, logp_old):
    log_ratio = logp - logp_old
    return log_ratio.exp() - 1 - log_ratio
""",
    after="""
The slope of your estimate in `logp` is r − 1: zero where the policies agree, and pulling back to there from both
sides. That of k1 is −1 everywhere: as a penalty it pushes every sampled action up, whatever its ratio, although its
mean is the same. Look next at `kl_penalty_loss`, which charges β times your estimate, and at `adaptive_kl_coef`,
which turns β up and down.
""",
    parameters=("logp", "logp_old"),
    returns=trial.tensor_like(0),
    probes=lambda: [
        (row(-0.1, -0.5, -1.0, -2.0, -3.0), row(-1.5, -0.6, -1.0, -1.2, -0.2)),
        (row(-800.0, -800.0, -0.5), row(-0.1, -801.0, -0.5)),
    ],
    differentiable=(0,),
)


def _policies() -> tuple[Tensor, Tensor]:
    """Two policies of three actions: KL(old ‖ new) = 0.2008, KL(new ‖ old) = 0.2274."""
    return row(0.7, 0.2, 0.1), row(0.4, 0.3, 0.3)


def _close_policies() -> tuple[Tensor, Tensor]:
    """Two policies close to each other: no ratio is further than 0.05 from one."""
    return row(0.5, 0.3, 0.2), row(0.51, 0.285, 0.205)


def _ratios(*ratio: float) -> tuple[Tensor, Tensor, list[str]]:
    """Log-probabilities with these ratios, and each in words."""
    logp_old = torch.full((len(ratio),), 0.1, dtype=torch.float64).log()
    return logp_old + row(*ratio).log(), logp_old, [f"r = {x:g}" for x in ratio]


@approx_kl.requires("one value per sample, in a batch of any shape")
def _(answer):
    logp, logp_old = row(-0.1, -0.5, -1.0, -2.0), row(-1.5, -0.6, -1.0, -1.2)
    at = [f"logp = {new:g}, logp_old = {old:g}" for new, old in zip(logp.tolist(), logp_old.tolist(), strict=True)]
    return each_by_itself(answer, logp, logp_old, at)


@approx_kl.requires("zero where the policies agree")
def _(answer):
    logp, logp_old, at = _ratios(1.0, 1.0)
    return compare(answer(logp, logp_old), row(0.0, 0.0), at, why="There is no distance: 1 − 1 − log 1 = 0.")


@approx_kl.requires("the value by hand")
def _(answer):
    logp, logp_old, at = _ratios(2.0, 0.5, 4.0)
    wanted = row(0.3068528194400547, 0.1931471805599453, 1.6137056388801094)
    why = ("r − 1 − log r = 2 − 1 − 0.6931.", "r − 1 − log r = 0.5 − 1 + 0.6931.", "r − 1 − log r = 4 − 1 − 1.3863.")
    return compare(answer(logp, logp_old), wanted, at, why=[f"{x} r is π′ / π, new over old." for x in why])


@approx_kl.requires("its mean over the old policy's actions is KL(π ‖ π′)")
def _(answer):
    old, new = _policies()
    forward, backward = float((old * (old / new).log()).sum()), float((new * (new / old).log()).sum())
    mine = float((old * answer(new.log(), old.log()).detach()).sum())
    if abs(mine - forward) < TOLERANCE:
        return None
    got, must = pair(mine, forward)
    other = " Yours is KL(π′ ‖ π), the other direction." if abs(mine - backward) < TOLERANCE else ""
    return (
        f"for π = (0.7, 0.2, 0.1) and π′ = (0.4, 0.3, 0.3) your estimates have the mean {got} over the actions of π; "
        f"it must be KL(π ‖ π′) = {must}.{other}"
    )


@approx_kl.requires("no sample is below zero")
def _(answer):
    logp, logp_old, at = _ratios(0.01, 0.2, 0.5, 0.9, 0.99, 1.01, 1.1, 1.5, 2.0, 5.0)
    mine = answer(logp, logp_old).detach()
    below = ~(mine >= -TOLERANCE)
    if not below.any():
        return None
    index = int(below.long().argmax())
    return (
        f"at {at[index]} your estimate is {trial.show(float(mine[index]))}, and no divergence is negative. log r is "
        "never above r − 1, so r − 1 − log r is at least zero for every single sample, and not only on average."
    )


@approx_kl.requires("slope zero where the policies agree")
def _(answer):
    logp, logp_old, at = _ratios(1.0, 1.0)
    mine = slopes(answer, logp, logp_old, "logp")
    why = (
        "At r = 1 the divergence has its minimum, and k3 is flat there in every sample. k1 = −log r has the slope −1 "
        "everywhere."
    )
    return compare(mine, row(0.0, 0.0), at, "slope in `logp`", why)


@approx_kl.requires("the slope is r − 1")
def _(answer):
    logp, logp_old, at = _ratios(2.0, 0.5, 3.0, 0.1)
    why = "The derivative of r with respect to `logp` is r, and that of log r is 1."
    return compare(slopes(answer, logp, logp_old, "logp"), row(1.0, -0.5, 2.0, -0.9), at, "slope in `logp`", why)


@approx_kl.requires("right for an action that has become much likelier")
def _(answer):
    # The old probability is that small because the new one stays below 1.
    logp, logp_old, ratio = row(-0.5, -0.5), row(-0.5, -0.5) - row(20.0, 1e4).log(), row(20.0, 1e4)
    at = [f"r = {x:g}" for x in ratio.tolist()]
    why = [
        "r − 1 − log r = 20 − 1 − 2.9957, and the ratio is nowhere held down.",
        "r − 1 − log r = 10000 − 1 − 9.2103, and the ratio is nowhere held down.",
    ]
    if problem := compare(answer(logp.clone(), logp_old), ratio - 1 - ratio.log(), at, why=why):
        return problem
    return compare(slopes(answer, logp, logp_old, "logp"), ratio - 1, at, "slope in `logp`", "The slope is r − 1.")


@approx_kl.requires("near r = 1 far calmer than k1")
def _(answer):
    old, new = _close_policies()

    def spread(value: Tensor) -> float:
        return float((old * (value - (old * value).sum()) ** 2).sum().sqrt())

    k1 = (old / new).log()
    mine = spread(answer(new.log(), old.log()).detach())
    if mine < 0.1 * spread(k1):
        return None
    k3 = spread(new / old - 1 + k1)
    return (
        "for π = (0.5, 0.3, 0.2) and π′ = (0.51, 0.285, 0.205) your estimates scatter with a standard deviation of "
        f"{trial.show(mine)}. Those of k1 = −log r have {trial.show(spread(k1))}, and those of k3 only "
        f"{trial.show(k3)}: adding r − 1 cancels the part of log r that is linear in the step."
    )


@approx_kl.requires("finite for an action that has become very rare")
def _(answer):
    logp, logp_old = row(-800.0, -800.0, -1.0), row(-0.5, -801.0, -1.0)
    at = ["logp = -800, logp_old = -0.5", "logp = -800, logp_old = -801", "logp = -1, logp_old = -1"]
    wanted = row(798.5, 0.7182818284590451, 0.0)
    lost = (
        "r = exp(−799.5) is 0 in the computer, and log 0 is infinite. The log-ratio is known without it: logp − "
        "logp_old.",
        "Both probabilities are 0 in the computer, and 0 / 0 is not a number. The ratio is exp(logp − logp_old), "
        "here e.",
        "",
    )
    mine = answer(logp.clone(), logp_old)
    finite = mine.detach().isfinite().tolist()
    still = ("r is as good as 0 there and −log r is 799.5, so k3 is 0 − 1 + 799.5: a long way.", "r is e there.", "")
    why = [held if well else broken for well, held, broken in zip(finite, still, lost, strict=True)]
    if problem := compare(mine, wanted, at, why=why):
        return problem
    mine = slopes(answer, logp, logp_old, "logp")
    finite = mine.isfinite().tolist()
    why = ["The slope is r − 1." if well else reason for well, reason in zip(finite, lost, strict=True)]
    return compare(mine, row(-1.0, 1.718281828459045, 0.0), at, "slope in `logp`", why)


# ---------------------------------------------------------------- wrong answers


@approx_kl.mutant(
    "k1",
    "This is k1 = −log r. Its mean is right, but single samples are negative, and near r = 1 they scatter much "
    "more. Add r − 1.",
)
def _(logp, logp_old):
    return logp_old - logp


@approx_kl.mutant(
    "k1_without_its_sign",
    "|log r| cannot be negative, but its mean is not KL any more: what had cancelled now adds up.",
)
def _(logp, logp_old):
    return (logp_old - logp).abs()


@approx_kl.mutant(
    "k2",
    "½ (log r)² is k2. It is calm and close to k3 near r = 1, but its mean is not KL once the policies have moved "
    "apart.",
)
def _(logp, logp_old):
    return (logp - logp_old) ** 2 / 2


@approx_kl.mutant("old_and_new_swapped", "The ratio is upside down: r is new over old, π′ / π.")
def _(logp, logp_old):
    log_ratio = logp_old - logp
    return log_ratio.exp() - 1 - log_ratio


@approx_kl.mutant(
    "the_other_direction",
    "r log r − (r − 1) is never negative either, but over the old policy's actions its mean is KL(π′ ‖ π), new first.",
)
def _(logp, logp_old):
    log_ratio = logp - logp_old
    return log_ratio.exp() * log_ratio - log_ratio.exp() + 1


@approx_kl.mutant(
    "ratio_detached",
    "The values are right. With the ratio detached only −log r is left in the gradient, and its slope is −1 "
    "everywhere.",
)
def _(logp, logp_old):
    log_ratio = logp - logp_old
    return log_ratio.exp().detach() - 1 - log_ratio


@approx_kl.mutant(
    "log_of_the_ratio",
    "The logarithm of a ratio that is 0 in the computer is infinite. Take `logp - logp_old`, which is the same "
    "number and finite.",
)
def _(logp, logp_old):
    ratio = (logp - logp_old).exp()
    return ratio - 1 - ratio.log()


@approx_kl.mutant(
    "ratio_of_probabilities",
    "Both probabilities can be 0 in the computer, and 0 / 0 is not a number. Subtract the logarithms first, then "
    "take `exp` once.",
)
def _(logp, logp_old):
    return logp.exp() / logp_old.exp() - 1 - (logp - logp_old)


@approx_kl.mutant(
    "log_added",
    "log r has the wrong sign: k1 is *minus* log r. With a plus the slope at r = 1 is 2, and the mean is −KL.",
)
def _(logp, logp_old):
    log_ratio = logp - logp_old
    return log_ratio.exp() - 1 + log_ratio


@approx_kl.mutant(
    "one_forgotten",
    "r − log r has the right slope and is too large by 1 everywhere: what is added has to be zero on average, and "
    "that is r − 1.",
)
def _(logp, logp_old):
    log_ratio = logp - logp_old
    return log_ratio.exp() - log_ratio


@approx_kl.mutant(
    "sign_turned",
    "This is −k3, what an objective to be maximised would add. Asked for is the estimate itself, which is never "
    "negative.",
)
def _(logp, logp_old):
    log_ratio = logp - logp_old
    return log_ratio - log_ratio.exp() + 1


@approx_kl.mutant(
    "log_ratio_clipped",
    "Clipping the log-ratio keeps everything finite and makes it wrong: beyond the limit the estimate stands still, "
    "and so does its gradient.",
)
def _(logp, logp_old):
    log_ratio = (logp - logp_old).clamp(-1, 1)
    return log_ratio.exp() - 1 - log_ratio


@approx_kl.mutant(
    "weighted_by_the_new_policy",
    "One factor r too many: the samples come from the old policy, and its mean needs no weight.",
)
def _(logp, logp_old):
    log_ratio = logp - logp_old
    return log_ratio.exp() * (log_ratio.exp() - 1 - log_ratio)


@approx_kl.mutant(
    "ratios_normalised",
    "Dividing the ratios by their mean ties one sample to the others. r − 1 is zero on average over π, not in each "
    "batch.",
)
def _(logp, logp_old):
    log_ratio = logp - logp_old
    ratio = log_ratio.exp()
    return ratio / ratio.mean() - 1 - log_ratio


@approx_kl.mutant("mean_taken", "The mean is the caller's business: asked for is one value per sample.")
def _(logp, logp_old):
    log_ratio = logp - logp_old
    return (log_ratio.exp() - 1 - log_ratio).mean()


# ---------------------------------------------------------------- right answers


@approx_kl.accepts("expm1, which is exact near r = 1")
def _(logp, logp_old):
    return torch.expm1(logp - logp_old) - (logp - logp_old)


@approx_kl.accepts("k1 with r − 1 added")
def _(logp, logp_old):
    k1 = logp_old - logp
    return k1 + (torch.exp(-k1) - 1)


@approx_kl.accepts("torch.special, and methods in a chain")
def _(logp, logp_old):
    log_ratio = torch.sub(logp, logp_old)
    return torch.special.expm1(log_ratio).sub(log_ratio)
