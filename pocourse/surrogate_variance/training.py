"""The last cells of chapter 3: PPO, D-PPO, Sample Dropout and SPO on CartPole and on MinAtar's Breakout.

While they train, the variance of the surrogate is measured in each sign class of the advantage, and bounded.
Everything but the loss is equal: world, networks, seeds, random numbers, optimizer.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pocourse.engine import ActorCritic, ConvActorCritic, Loss, SeedStreams, collect, log_prob, start
from pocourse.engine.on_policy import Seen
from pocourse.lesson import comparisons, figures, profiles
from pocourse.lesson.bands import bootstrap_band, interquartile_mean
from pocourse.lesson.comparisons import largest_said, said
from pocourse.lesson.records import Record, SavedRecord
from pocourse.policy_gradient.estimators import gae
from pocourse.ratio_clipping import ppo_clip_loss, spo_loss
from pocourse.surrogate_variance.bounds import sign_class, state_class_bound, state_class_variance
from pocourse.surrogate_variance.estimators import ratio_dropout_mask, sample_moments, sign_dropout_mask
from pocourse.surrogate_variance.figures import LINE_OF
from pocourse.surrogate_variance.objectives import dppo_loss, sample_dropout_loss
from pocourse.surrogate_variance.truth import DELTA, DROP_FRACTION, EPS
from pocourse.worlds import Breakout, CartPole

CHAPTER = "surrogate_variance"

METHODS: dict[str, Loss] = {
    "PPO": partial(ppo_clip_loss, clip_eps=EPS),
    "D-PPO": partial(dppo_loss, clip_eps=EPS, drop_fraction=DROP_FRACTION),
    "Sample Dropout": partial(sample_dropout_loss, delta=DELTA),
    "SPO": partial(spo_loss, eps=EPS),
}
LINE = {name: LINE_OF[{"PPO": "clip", "D-PPO": "D-PPO mask"}.get(name, name)] for name in METHODS}
# Which samples a method uses; the others use all.
RULES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "D-PPO": lambda ratio, advantage: sign_dropout_mask(ratio, advantage, drop_fraction=DROP_FRACTION),
    "Sample Dropout": lambda ratio, advantage: ratio_dropout_mask(ratio, delta=DELTA),
}

COMMON = {
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "num_minibatches": 4,
    "value_coef": 0.5,
    "max_grad_norm": 0.5,
    "probed_states": 256,
}
CARTPOLE = {"num_epochs": 10, "learning_rate": 2.5e-3, "entropy_coef": 0.0, "hidden": (64, 64)}
BREAKOUT = {"num_epochs": 4, "learning_rate": 1e-3, "entropy_coef": 0.01}
WORLDS = {"cartpole": ("CartPole", CARTPOLE), "breakout": ("MinAtar Breakout", BREAKOUT)}
# Sizes alone differ between profiles, and on Breakout, where a CPU has time for two of the methods, their number.
COMPARISONS = {
    "cartpole": {
        "ci": {"seeds": 8, "num_envs": 8, "num_steps": 64, "steps": 8_192},
        "cpu": {"seeds": 8, "num_envs": 16, "num_steps": 128, "steps": 200_000},
        "gpu": {"seeds": 32, "num_envs": 64, "num_steps": 128, "steps": 1_000_000},
    },
    "breakout": {
        "ci": {"seeds": 8, "num_envs": 8, "num_steps": 32, "steps": 2_048, "channels": 4, "hidden": 32},
        "cpu": {"seeds": 8, "num_envs": 16, "num_steps": 128, "steps": 120_000, "channels": 8, "hidden": 64},
        "gpu": {"seeds": 8, "num_envs": 128, "num_steps": 128, "steps": 5_000_000, "channels": 16, "hidden": 128},
    },
}
ON_A_CPU = {"breakout": ("PPO", "D-PPO")}

CLASSES = {"positive": "A ≥ 0", "negative": "A < 0"}
PROBED = tuple(f"{what}_{sign}" for what in ("variance", "still", "kept", "exact", "bound") for sign in CLASSES)


def methods_of(name: str, profile: str) -> dict[str, Loss]:
    """The methods that a comparison trains: all of them, or those that a CPU has time for."""
    profile = profiles.profile(profile)
    chosen = METHODS if profile == "gpu" else ON_A_CPU.get(name, METHODS)
    return {method: METHODS[method] for method in chosen}


def configuration(name: str, profile: str, methods: Mapping[str, Loss] | None = None) -> dict:
    """Every number a comparison is run with, as it goes into its record.

    Raises: ValueError for a comparison or a profile that does not exist.
    """
    methods = methods_of(name, profile) if methods is None else methods
    world, own = WORLDS.get(name, ("", {}))
    return comparisons.settings(name, profile, world, methods, COMPARISONS, COMMON, own)


def train(
    name: str,
    methods: Mapping[str, Loss] | None = None,
    *,
    profile: str = "auto",
    folder: Path | None = None,
    made_by: str = "notebooks/03_surrogate_variance.ipynb",
    quiet: bool = False,
) -> Record:
    """Train every method on every seed as one batch, watch it and its variance, and return its record.

    ``name`` is "cartpole" or "breakout". The record is saved in ``folder``, by default the reader's own.
    Interrupting it keeps what was finished. It runs on at most four threads.
    Raises: ValueError for names that do not exist, or the profile gpu where torch finds no card.
    """
    profile = profiles.profile(profile)
    methods = methods_of(name, profile) if methods is None else methods
    settings = configuration(name, profile, methods)
    world, agent = made(name, settings)
    rules = [RULES.get(method) for method in methods]
    return comparisons.run(
        CHAPTER,
        name,
        methods,
        settings,
        world=world,
        agent=agent,
        credit=partial(gae, gamma=settings["gamma"], gae_lambda=settings["gae_lambda"]),
        draw=partial(draw, behind=comparisons.backdrop(CHAPTER, name)),
        profile=profile,
        folder=folder,
        made_by=made_by,
        quiet=quiet,
        probe=partial(variances, rules=rules, gamma=settings["gamma"], num_states=settings["probed_states"]),
        probed=PROBED,
    )


def made(name: str, settings: Mapping) -> tuple[CartPole | Breakout, ActorCritic | ConvActorCritic]:
    """World and networks of a comparison."""
    if name == "cartpole":
        world = CartPole()
        return world, ActorCritic.tanh_mlps(world.obs_dim, world.num_actions, hidden=settings["hidden"])
    world = Breakout()
    sizes = {"channels": settings["channels"], "hidden": settings["hidden"]}
    return world, ConvActorCritic(world.obs_shape, world.num_actions, **sizes)


# ---------------------------------------------------------------- what is measured while it trains


def variances(seen: Seen, *, rules: list, gamma: float, num_states: int) -> dict[str, Tensor]:
    r"""The variance of x = r A after an update, in each sign class of the advantage: [row] each, by name.

    ``variance``: over the batch's samples, A from GAE, normalised over the batch (the loss does that in each
    minibatch). ``still``: the same with r = 1, that is of A alone. ``kept``: over the samples that the row's method
    would keep of the batch. ``exact`` and ``bound``: over the actions of the batch's states, all of them enumerated, A
    from a look one step ahead (action_values) on the same scale, by state_class_variance and state_class_bound.
    ``rules`` holds for each method which samples it keeps, None for all.

    The two are variances of different estimates: the samples' advantage carries the noise of the returns, the
    enumerated one the errors of the critic.
    """
    samples = seen.samples
    logits = seen.agent.logits(seen.after, samples["obs"])
    ratio = (log_prob(logits, samples["action"]) - samples["logp_old"]).exp()
    scale = samples["advantage"].std(1, keepdim=True) + 1e-8
    advantage = (samples["advantage"] - samples["advantage"].mean(1, keepdim=True)) / scale
    parts = zip(rules, ratio.chunk(len(rules)), advantage.chunk(len(rules)), strict=True)
    keep = torch.cat([torch.ones_like(a, dtype=torch.bool) if rule is None else rule(r, a) for rule, r, a in parts])

    old, new, ahead = enumerated(seen, gamma=gamma, num_states=num_states)
    ahead = ahead / scale.unsqueeze(-1).double()
    evenly = torch.full(ahead.shape[:-1], 1 / ahead.shape[1], dtype=ahead.dtype, device=ahead.device)
    found = {}
    for sign in CLASSES:
        member, in_world = (advantage >= 0, ahead >= 0) if sign == "positive" else (advantage < 0, ahead < 0)
        found[f"variance_{sign}"] = sample_moments(ratio, advantage, member)[1]
        found[f"still_{sign}"] = sample_moments(torch.ones_like(ratio), advantage, member)[1]
        found[f"kept_{sign}"] = sample_moments(ratio, advantage, member & keep)[1]
        actions = sign_class(old, new / old, ahead, in_world)
        found[f"exact_{sign}"] = state_class_variance(evenly, actions).to(ratio.dtype)
        found[f"bound_{sign}"] = state_class_bound(evenly, actions).to(ratio.dtype)
    return found


def enumerated(seen: Seen, *, gamma: float, num_states: int) -> tuple[Tensor, Tensor, Tensor]:
    """Old policy, new policy and advantage of every action, [row, state, action], in states spread over the batch.

    In float64, where no probability of a network comes out as zero. About ``num_states`` states of each row: all envs
    at evenly spaced times.
    """
    times, _, envs = seen.states[0].shape[:3]
    every = max(1, times * envs // num_states)
    states = type(seen.states)(*(x[::every].transpose(0, 1).flatten(1, 2) for x in seen.states))
    obs = seen.world.observe(states)
    old, new = (seen.agent.logits(p, obs).double().softmax(-1) for p in (seen.before, seen.after))
    value = action_values(seen, states, gamma=gamma).double()
    return old, new, value - (old * value).sum(-1, keepdim=True)


def action_values(seen: Seen, states, *, gamma: float) -> Tensor:
    r"""What each action is worth by a look one step ahead, [row, state, action].

    .. math:: Q(s, a) = \mathbb{E}\big[ r + \gamma\, (1 - \text{terminated})\, V(s') \mid s, a \big]

    V is the critic of the policy that acted. CartPole's next state is certain; in Breakout the action of the step
    before is repeated with probability ``sticky``, and the expectation is over that.
    """
    world = seen.world
    if isinstance(world, Breakout):
        states = states._replace(draw=torch.ones_like(states.draw))  # a draw of 1 repeats nothing
    like, values = states[0][..., 0] if states[0].dim() > 2 else states[0], []
    for action in range(world.num_actions):
        chosen = torch.full(like.shape, action, dtype=torch.int64, device=like.device)
        led_to, reward, terminated, _ = world.step(states, chosen)
        values.append(reward + gamma * seen.agent.value(seen.before, world.observe(led_to)) * ~terminated)
    value = torch.stack(values, -1)
    if isinstance(world, Breakout):
        repeated = value.gather(-1, states.last_action.unsqueeze(-1))
        value = (1 - world.sticky) * value + world.sticky * repeated
    return value


def random_returns(*, num_seeds: int = 8, num_envs: int = 32, num_steps: int = 512) -> np.ndarray:
    """The mean return of a policy that chooses at random in Breakout, per seed: [seed]."""
    world, streams = Breakout(), SeedStreams(range(num_seeds))
    running = start(world, streams.uniform(num_envs, world.reset_dim))
    batch, _ = collect(
        world,
        running,
        lambda obs: torch.zeros(*obs.shape[:2], world.num_actions),
        action_uniform=streams.uniform(num_steps, num_envs).transpose(0, 1).contiguous(),
        reset_uniform=streams.uniform(num_steps, num_envs, world.reset_dim).transpose(0, 1).contiguous(),
    )
    done = batch.terminated | batch.truncated
    return (batch.finished_return.sum((0, 2)) / done.sum((0, 2))).double().numpy()


# ---------------------------------------------------------------- what is shown


def recorded(name: str, profile: str = "cpu") -> SavedRecord | None:
    """The run that ships with the course, or None where nobody has recorded it yet."""
    return comparisons.recorded(CHAPTER, name, profile)


def cost_card(profile: str = "auto") -> str:
    """What the training cells cost, in Markdown: what they run on this machine, and what the recorded runs measured."""
    profile = profiles.profile(profile)
    lines = [
        f"**What it costs** (profile `{profile}`)\n\n",
        "| comparison | methods | seeds | steps a seed | measured | memory | on |\n",
        "|---|---|---|---|---|---|---|\n",
    ]
    for name in COMPARISONS:
        c, methods = configuration(name, profile), len(methods_of(name, profile))
        measured = comparisons.measured(CHAPTER, name, profile)
        lines.append(f"| {c['world']} | {methods} | {c['seeds']} | {c['steps']:,} | {measured} |\n")
    lines.append(
        "\nOther sizes: set `POCOURSE_PROFILE` to `ci` (seconds), `cpu` or `gpu` (longer, wider, all four methods on "
        "Breakout) before starting the kernel.\n"
    )
    return "".join(lines)


def draw(record: Record | SavedRecord, *, behind: SavedRecord | None = None):
    """Return, and the samples' variance in both sign classes, against steps, as bands over seeds.

    The recorded run lies pale behind. Returns (figure, alt text).
    """
    with figures.style():
        figure, axes = figures.panels(3, height=3.4)
        for panel, key in zip(axes[0], ("return", "variance_positive", "variance_negative"), strict=True):
            _bands(panel, record, {key: {}}, behind=behind)
            panel.set_title("Return" if key == "return" else f"Var of r A, {CLASSES[key.split('_')[1]]}")
            if key == "return":
                _return_axis(panel, record)
            else:
                _log_axis(panel)
        _legend(figure, record)
        return figure, describe(record)


def draw_bounds(record: Record | SavedRecord):
    """The enumerated variance and its bound over states, in both sign classes, against steps, as bands over seeds.

    Returns (figure, alt text).
    """
    with figures.style():
        figure, axes = figures.panels(2, height=3.4)
        for panel, sign in zip(axes[0], CLASSES, strict=True):
            _bands(panel, record, {f"exact_{sign}": {}, f"bound_{sign}": {"alpha": 0.6, "linewidth": 1.2}})
            panel.set_title(f"{CLASSES[sign]}: variance (thick), bound (thin)")
            _log_axis(panel)
        _legend(figure, record)
        parts = [
            f"{method}, {CLASSES[sign]}: variance {exact:.2g}, bound {bound:.2g}"
            for method, seen in late(record).items()
            for sign in CLASSES
            for exact, bound in [(seen[f"exact_{sign}"], seen[f"bound_{sign}"])]
        ] or ["no update is finished yet"]
        alt = (
            f"Two panels against environment steps, logarithmic, bands over {len(record.seeds)} seeds: the variance of "
            "r A over the actions of the visited states and its bound, for each sign of the advantage. Medians of the "
            f"last quarter: {'; '.join(parts)}."
        )
        return figure, alt


def _bands(panel, record, looks, *, behind=None):
    curves = record.curves()
    for index, method in enumerate(record.methods):
        line = LINE.get(method, figures.LINES[index % 2])
        for key, look in looks.items():
            if not len(record.steps):
                continue
            if behind is not None and method in behind.methods and key in behind.curves():
                pale = behind.curves()[key][:, behind.methods.index(method)]
                figures.band(panel, behind.steps, pale, line=line, faint=True, resamples=200)
            figures.band(panel, record.steps, curves[key][:, index], line=line | look, resamples=200)
    panel.set_xlabel("environment steps per seed")
    panel.set_xlim(0, max([1, *record.steps[-1:]]))
    panel.locator_params(axis="x", nbins=4)
    panel.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}k" if x else "0")


def _return_axis(panel, record):
    if comparisons.configuration(record)["world"] == "CartPole":
        panel.set_ylim(0, 520)
        panel.set_yticks(range(0, 501, 100))
        return
    panel.set_ylim(bottom=0)
    low, high = bootstrap_band(random_returns())
    panel.axhspan(low, high, color=figures.LIMIT, alpha=0.25, linewidth=0)
    figures.limit_line(panel, float(high), "random policy", at=0.55)


def _log_axis(panel):
    from matplotlib.ticker import LogLocator, NullFormatter

    panel.set_yscale("log")
    low, high = panel.get_ylim()
    panel.yaxis.set_major_locator(LogLocator(subs=(1,) if high > 50 * low else (1, 2, 5)))
    panel.yaxis.set_major_formatter("{x:g}")
    panel.yaxis.set_minor_formatter(NullFormatter())


def _legend(figure, record):
    from matplotlib.lines import Line2D

    lines = [LINE.get(method, figures.LINES[i % 2]) for i, method in enumerate(record.methods)]
    entries = [Line2D([], [], **line) for line in lines]
    figure.legend(entries, record.methods, loc="outside lower left", ncols=len(entries), fontsize=9.5, handlelength=2.8)


def late(record: Record | SavedRecord) -> dict[str, dict[str, float]]:
    """For each method what the last quarter of the run measured: medians over seeds of each seed's mean.

    Beside the probed curves: ``moved`` is the variance against that at r = 1, ``kept_share`` that of the samples kept
    against all, ``slack`` the bound against the enumerated variance, ``by_action`` the enumerated variance against that
    of the samples; each a median over seeds of the seeds' own quotients, for each sign class.
    """
    curves, points = record.curves(), len(record.steps)
    if not points:
        return {}
    last, found = slice(points - max(1, points // 4), None), {}
    for m, method in enumerate(record.methods):
        mean = {key: curves[key][last, m].mean(0) for key in PROBED}
        quotients = {"moved": ("variance", "still"), "kept_share": ("kept", "variance")}
        quotients |= {"slack": ("bound", "exact"), "by_action": ("exact", "variance")}
        for name, (above, below) in quotients.items():
            for sign in CLASSES:
                with np.errstate(invalid="ignore", divide="ignore"):
                    mean[f"{name}_{sign}"] = mean[f"{above}_{sign}"] / mean[f"{below}_{sign}"]
        found[method] = {key: float(np.median(values)) for key, values in mean.items()}
    return found


def against_still(record: Record | SavedRecord, method: str, sign: str, *, quarter: int = 3) -> np.ndarray:
    """The variance against that at r = 1, each seed's mean over a quarter of the run, 0 to 3: [seed]."""
    curves, m, points = record.curves(), record.methods.index(method), len(record.steps)
    size = max(1, points // 4)
    at = slice(points - size, None) if quarter == 3 else slice(quarter * size, (quarter + 1) * size)
    return curves[f"variance_{sign}"][at, m].mean(0) / curves[f"still_{sign}"][at, m].mean(0)


def describe(record: Record | SavedRecord) -> str:
    """The curves in words: for each method the final return and the late variance in both classes."""
    seen = late(record)
    parts = [
        f"{method}: final return {said(s['final_return'])}, variance {seen[method]['variance_positive']:.2f} where "
        f"A ≥ 0 and {seen[method]['variance_negative']:.2f} where A < 0"
        for method, s in record.summary().items()
    ] or ["no update is finished yet"]
    world = comparisons.configuration(record)["world"]
    return (
        f"Three panels against environment steps on {world}, bands over {len(record.seeds)} seeds: return, and the "
        f"variance of r A over the samples of each sign class. " + "; ".join(parts) + "."
    )


def table(record: Record | SavedRecord) -> str:
    """The outcome as a Markdown table: final return, largest mean |r - 1|, and what the ratio does to the variance."""
    head = (
        "| method | final return | largest minibatch mean of \\|r − 1\\| | Var of r A, A ≥ 0 | A < 0 "
        "| against r = 1, A ≥ 0 | A < 0 | of the kept, against all, A ≥ 0 | A < 0 |\n"
        "|---|---|---|---|---|---|---|---|---|\n"
    )
    rows, seen = [], late(record)
    for method, s in record.summary().items():
        v = seen[method]
        cells = [method, said(s["final_return"]), largest_said(s)]
        cells += [f"{v[f'{key}_{sign}']:.2f}" for key in ("variance", "moved", "kept_share") for sign in CLASSES]
        rows.append(f"| {' | '.join(cells)} |\n")
    return comparisons.unfinished(record) + head + "".join(rows)


def summary_of_random() -> dict:
    """The random policy in Breakout: interquartile mean of the return over seeds, and its 95% band."""
    returns = random_returns()
    return {"iqm": float(interquartile_mean(returns)), "band": [float(x) for x in bootstrap_band(returns)]}
