"""The bug museum: plaques are complete, wrong code is wrong, properties are judged well, plots show what is said."""

import numpy as np
import pytest
import torch

import pocourse.surrogate_variance.museum  # noqa: F401 (registers its pieces)
from pocourse.lesson import exercises, museum, trial
from pocourse.lesson.bands import interquartile_mean
from pocourse.lesson.wrong import Wrong
from pocourse.ratio_clipping import museum as chapter
from pocourse.ratio_clipping.museum import clip_without_minimum, drawings, k1_penalty, symptoms
from pocourse.ratio_clipping.museum import suspects as s

PIECES = [
    "clip_without_minimum",
    "missing_minus",
    "max_for_min",
    "minimum_of_means",
    "ratio_always_one",
    "k1_penalty",
]


def piece(name):
    return museum.find(f"ratio_clipping.{name}")


def task(name):
    return exercises.find(piece(name).exercise)


# --- plaques ---------------------------------------------------------------------------------------------


def test_the_tour_has_six_pieces():
    mine = [id for id, found in museum.registry().items() if found.chapter == "ratio_clipping"]
    assert mine == [f"ratio_clipping.{name}" for name in PIECES]


def test_a_piece_that_would_not_do_is_refused():
    def made(**changes):
        given = {"title": "t", "section": "3", "wrong": Wrong("w", "why", abs), "published": "p", "corrected": "c"}
        given |= {"thread": "https://x.org/1", "symptom": "s", "right": abs, "exercise": "a.b"} | changes
        return museum.piece(given.pop("id", "a.b"), **given)

    before = museum.registry()
    for changes, said in (
        ({"id": "ratio_clipping.k1_penalty"}, "which is taken"),
        ({"id": "nowhere"}, "chapter and name"),
        ({"exercise": "no exercise"}, "chapter and name"),
        ({"thread": "http://x.org/1"}, "begins with https://"),
        ({"published": " "}, "text under published"),
        ({"note": "by someone@x.org"}, "names no person"),
        ({"wrong": Wrong("w", "said @someone", abs)}, "names no person"),
    ):
        with pytest.raises(ValueError, match=r"expected .*; got") as refused:
            made(**changes)
        assert said in str(refused.value)
    assert museum.registry() == before
    with pytest.raises(ValueError, match=r"known are: .*ratio_clipping\.clip_without_minimum"):
        museum.exhibit("ratio_clipping.nothing")


# --- the wrong code is wrong, and the tasks are good tasks -------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda code: print(end=""), "returned None"),
        (lambda code: torch.tensor([True, False]), "2 answers in a tensor of shape [2]"),
        (lambda code: torch.tensor(1.0), "tensor of torch.float32 where True or False"),
        (lambda code: 1, "returned something of type `int` where True or False"),
        (lambda code: np.array([1.0]), "returned something of type `ndarray` where True or False"),
        (lambda code: {}, "returned something of type `dict` where True or False"),
        (lambda code: (yield), "contains `yield`"),
    ],
)
def test_what_is_no_yes_or_no_gets_a_sentence(answer, said):
    for name in PIECES:
        verdict = exercises.judge(piece(name).exercise, answer)
        assert verdict.state == "wrong" and said in verdict.message


@pytest.mark.parametrize("result", [True, False, np.True_, torch.tensor(True), torch.tensor([True]), np.array([True])])
def test_a_yes_or_no_may_be_a_bool_of_any_house(result):
    assert museum.yes_or_no(result, ()) is None


# --- whoever is on trial comes without a name ------------------------------------------------------------------

TASKS = [found.exercise for found in museum.registry().values()]


def on_trial(id):
    """What the properties of a task hand over, with what the solution says to it."""
    handed, right = [], exercises.solved(exercises.find(id))

    def watches(code):
        handed.append((code, bool(right(code))))
        return handed[-1][1]

    assert exercises.judge(id, watches).right
    return handed


def test_both_chapters_have_their_suspects_here():
    assert {id.split(".")[0] for id in TASKS} >= {"ratio_clipping", "surrogate_variance"} and len(TASKS) >= 10


@pytest.mark.parametrize("id", TASKS)
def test_no_suspect_can_be_told_from_another_by_what_is_written_on_it(id):
    codes = [code for code, _ in on_trial(id)]
    assert len(codes) >= 8
    looks = {
        (c.__name__, c.__qualname__, c.__module__, c.__doc__, c.__defaults__, c.__code__, repr(vars(c))) for c in codes
    }
    assert len(looks) == 1 and "__wrapped__" not in vars(codes[0])


@pytest.mark.slow
@pytest.mark.parametrize("id", TASKS)
def test_a_list_of_names_or_of_functions_catches_nothing(id, monkeypatch):
    with monkeypatch.context() as without:
        without.setattr(trial, "anonymous", lambda code: code)
        known = on_trial(id)
    names = {code.__name__ for code, cleared in known if cleared}
    modules = {(code.__module__, code.__qualname__) for code, cleared in known if cleared}
    functions = [code for code, cleared in known if cleared]
    assert names and modules and functions
    for by_a_list in (
        lambda code: code.__name__ in names,
        lambda code: (code.__module__, code.__qualname__) in modules,
        lambda code: code in functions,
        lambda code: code.__name__ not in names,
    ):
        assert exercises.judge(id, by_a_list).state == "wrong"


@pytest.mark.parametrize("id", TASKS)
def test_messages_name_the_suspect_all_the_same(id, monkeypatch):
    told = " ".join(result.message for result in exercises.judge(id, lambda code: False).results)
    assert "your property says False to" in told and "unnamed" not in told
    with monkeypatch.context() as without:
        without.setattr(trial, "anonymous", lambda code: code)
        first = on_trial(id)[0][0].__name__
    verdict = exercises.judge(id, lambda code: code.no_such_thing)
    (parameter,) = exercises.find(id).parameters
    assert f"`{parameter} = {first}`" in verdict.message and "'function' object has no attribute" in verdict.message


# --- properties from outside, none of them a mutant ------------------------------------------------------------

OUTSIDE, RIGHT = [], []


def outside(name, phrase):
    """A property that would not do, and words that must be among those it gets."""

    def add(run):
        OUTSIDE.append(pytest.param(name, run, phrase, id=f"{name}-{run.__name__}"))
        return run

    return add


def right(name):
    """A property that does, written differently from the solution."""

    def add(run):
        RIGHT.append(pytest.param(name, run, id=f"{name}-{run.__name__}"))
        return run

    return add


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


def slopes(code, ratio, advantage):
    ratio = numbers(*ratio).requires_grad_()
    return torch.autograd.grad(code(ratio, numbers(*advantage)).sum(), ratio)[0]


@outside("clip_without_minimum", "says False to a hundredth of PPO's objective, which does not make this mistake")
def slopes_above_a_twentieth(objective):
    return bool((slopes(objective, (0.05, 0.4, 1.6, 4.0), (1, 1, -1, -1)) * numbers(1, 1, -1, -1) > 0.05).all())


@outside("clip_without_minimum", "goes the wrong way inside and is PPO's outside")
def slopes_inside_too(objective):
    return bool((slopes(objective, (0.3, 0.95, 1.05, 2.0), (1, 1, -1, -1)) * numbers(1, 1, -1, -1) > 0).all())


@right("clip_without_minimum")
def a_grid_beyond_every_edge(objective):
    low, high = np.linspace(0, 0.39, 20), np.linspace(1.61, 5, 20)
    advantage = numbers(*[0.5] * 20, *[-3.0] * 20)
    return (slopes(objective, (*low, *high), advantage).sign() == advantage.sign()).all()


WRONG_AT_ONE = "says True to a loss without its minus for r between 0.98 and 1.02"


@outside("missing_minus", WRONG_AT_ONE)
def slopes_a_half_away(loss):
    return bool((slopes(loss, (0.5, 1.5), (1, -1)) * numbers(1, -1) < 0).all())


@outside("missing_minus", WRONG_AT_ONE)
def slopes_a_little_below(loss):
    return bool((slopes(loss, (0.95, 0.95), (1, -1)) * numbers(1, -1) < 0).all())


@outside("missing_minus", WRONG_AT_ONE)
def slopes_a_little_above(loss):
    return bool((slopes(loss, (1.05, 1.05), (1, -1)) * numbers(1, -1) < 0).all())


@right("missing_minus")
def differences_of_a_hundredth(loss):
    a = numbers(1, -1)
    return (((loss(0 * a + 0.99, a) - loss(0 * a + 1.01, a)) * a) > 0).all()


@outside("max_for_min", "says True to PPO's loss minus 0.1, which promises 0.1 too much wherever PPO's is −rA")
def signs_of_slopes(loss):
    return bool((slopes(loss, (0.1, 3.0, 0.3), (1, -1, 2)) * numbers(1, -1, 1) < 0).all())


@outside("max_for_min", "says True to PPO's loss minus 0.1")
def a_third_is_rounding(loss):
    ratio = torch.linspace(0, 4, 81).double()
    return all(bool((loss(ratio, 0 * ratio + a) >= -a * ratio - 0.35).all()) for a in (1.0, -1.0))


@outside("max_for_min", "lowered by 0.1 inside the range alone, which lies below −rA right there")
def far_out_only(loss):
    ratio = torch.cat([torch.linspace(0, 0.4, 9), torch.linspace(1.6, 3, 9)]).double()
    return all(bool((loss(ratio, 0 * ratio + a) >= -a * ratio - 1e-9).all()) for a in (1.0, -1.0))


@outside("max_for_min", "falls faster beyond it, where PPO's is flat, which lies below −rA on that side alone")
def one_side_and_inside(loss):
    low, high = torch.linspace(0, 1.19, 60).double(), torch.linspace(0.81, 4, 60).double()
    return bool((loss(low, 0 * low + 1) >= -low - 1e-9).all() and (loss(high, 0 * high - 1) >= high - 1e-9).all())


@right("max_for_min")
def a_coarse_grid(loss):
    ratio = numbers(*[0, 0.25, 0.75, 1, 1.25, 2, 4] * 2)
    advantage = numbers(*[3] * 7, *[-3] * 7)
    return torch.all(loss(ratio, advantage) + ratio * advantage > -1e-6)


def first_slopes(loss, advantage, draws=200):
    """The slopes of one sample, as the ratios of the others change."""
    generator = torch.Generator().manual_seed(5)
    found = []
    for _ in range(draws):
        ratio = 3 * torch.rand(len(advantage), generator=generator, dtype=torch.float64)
        ratio[0] = 1.8  # a little beyond the widest range: it takes little to change the minimum's mind
        ratio.requires_grad_()
        found.append(torch.autograd.grad(loss(ratio, advantage), ratio)[0][0])
    return torch.stack(found)


@outside("minimum_of_means", "says True to `−(rA).sum() / r.sum()`, in which every slope depends on all ratios")
def zero_or_not(loss):
    batches = numbers(1, 1, -1, 0.5), numbers(1, 1, 1, 1), numbers(-1, -1, -1, -1), numbers(-1, 1, 2, -3)
    return all(len({bool(x) for x in first_slopes(loss, a) != 0}) == 1 for a in batches)


@outside("minimum_of_means", "in which samples share one minimum as soon as the batch holds both signs of A")
def pairs_of_one_sign(loss):
    batches = numbers(1, 2), numbers(-1, -2), numbers(2, 0.5), numbers(-2, -0.5)
    return all(bool(x.max() - x.min() < 1e-9) for x in (first_slopes(loss, a) for a in batches))


@right("minimum_of_means")
def four_batches(loss):
    batches = numbers(1, 1, -1, 0.5), numbers(1, 1, 1, 1), numbers(-1, -1, -1, -1), numbers(-1, 1, 2, -3)
    return all(bool(x.max() - x.min() < 1e-9) for x in (first_slopes(loss, a) for a in batches))


def in_logp(loss, new, old):
    logp = numbers(new, new).requires_grad_()
    return torch.autograd.grad(loss(logp, numbers(old, old), numbers(1, -1)).sum(), logp)[0]


@outside("ratio_always_one", "says True to a tenth of the published mistake, whose slope is −A / 10")
def one_call(loss):
    return bool(((in_logp(loss, -1.0, -1.1) + numbers(1, -1)).abs() > 1e-6).all())


@outside("ratio_always_one", "says True to `−exp(logp) A`, whose gradient depends on `logp` and not on `logp_old`")
def another_policy(loss):
    return bool((in_logp(loss, -1.0, -1.0) != in_logp(loss, -1.1, -1.0)).all())


@right("ratio_always_one")
def both_ways_from_one(loss):
    here, up, down = (in_logp(loss, -0.7, -0.7 + step) for step in (0, 0.04, -0.04))
    return ((here - up).abs() > 1e-4).all() & ((here - down).abs() > 1e-4).all()


def mean_gradient(penalty, logits, reference):
    logits = numbers(*logits).requires_grad_()
    logp = logits.log_softmax(0)
    value = sum(logp[a].exp().detach() * penalty(logp[a : a + 1], reference[a : a + 1])[0] for a in range(3))
    return torch.autograd.grad(value, logits)[0]


@right("k1_penalty")
def one_action_after_the_other(penalty):
    return mean_gradient(penalty, (0, 0, 0), numbers(0.5, 0.25, 0.25).log()).norm() > 1e-6


@right("k1_penalty")
def depends_on_the_reference(penalty):
    one, other = (mean_gradient(penalty, (0, 1, 2), numbers(*p).log()) for p in ((0.2, 0.3, 0.5), (0.6, 0.3, 0.1)))
    return (one - other).abs().max() > 1e-6


@outside("k1_penalty", "says True to k1 with a half-mended score term, `k1 + 3 * logp`, in which a constant takes")
def another_gradient_than_that_of_k1(penalty):
    logp = numbers(0, 1, 2).log_softmax(0).requires_grad_()
    value = penalty(logp, numbers(0.2, 0.5, 0.3).log()).sum()
    return not torch.allclose(torch.autograd.grad(value, logp)[0], numbers(1, 1, 1))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "run", "phrase"), OUTSIDE)
def test_a_useless_property_from_outside_hears_what_escapes_it(name, run, phrase):
    verdict = exercises.judge(piece(name).exercise, run)
    assert verdict.state == "wrong" and not verdict.message
    assert phrase in "\n".join(result.message for result in verdict.results)


@pytest.mark.parametrize(("name", "run"), RIGHT)
def test_a_right_property_from_outside_passes(name, run):
    verdict = exercises.judge(piece(name).exercise, run)
    assert verdict.right, [verdict.message, *(result.message for result in verdict.results if not result.held)]


def test_a_penalty_that_does_not_pull_has_lost_its_reference():
    ex = task("k1_penalty")
    assert exercises.judge(ex.id, exercises.solved(ex)).right
    for reference in (numbers(0.2, 0.3, 0.5).log(), numbers(0.8, 0.1, 0.1).log()):
        for code in (k1_penalty.k1_penalty, k1_penalty.constant_score, k1_penalty.value_of_k3):
            assert mean_gradient(code, (0, 1, 2), reference).abs().max() < 1e-12
        for code in (k1_penalty.k2, k1_penalty.k3, k1_penalty.with_score_term, k1_penalty.score_alone):
            assert mean_gradient(code, (0, 1, 2), reference).abs().max() > 0.01


def test_a_property_that_compares_with_a_formula_hears_of_the_other_objectives():
    def formula(objective):
        ratio = torch.linspace(0.1, 2, 20)
        return torch.allclose(objective(ratio, torch.ones(20)), ratio.clamp(max=1.2))

    verdict = exercises.judge("ratio_clipping.catch_clip_without_minimum", formula)
    told = " ".join(result.message for result in verdict.results)
    assert "SPO's objective" in told or "the unclipped objective" in told
    assert "test the property, not PPO's formula" in told


def test_a_property_may_raise_and_is_told_the_line():
    verdict = exercises.judge("ratio_clipping.catch_missing_minus", lambda loss: loss(1.0, 1.0))
    assert verdict.state == "wrong" and "expected ratio as a torch.Tensor" in verdict.message


# --- the plots show what the plaques say -------------------------------------------------------------------


def test_a_piece_that_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="missing_minus"):
        chapter.draw("ratio_clipping.nothing")
    assert list(drawings._DRAWN) == PIECES


def middle(values):
    """Interquartile mean over the seeds, the last axis, of which there have to be 8."""
    assert values.shape[-1] == 8
    return interquartile_mean(values, axis=-1)


def test_without_its_minus_the_worst_action_is_learned_while_the_loss_falls():
    run = symptoms.missing_minus()
    right, wrong = middle(run.reward)[-1]
    assert right > 0.97 and wrong < 0.03
    # An update begins at 0, its advantages being centred and its ratios 1; it stays there once one action is left.
    assert (run.loss < 1e-6).all() and (run.loss[:10] < -0.001).all()


def test_the_larger_of_two_learns_the_worst_action_and_half_mended_it_runs_away():
    run = symptoms.max_for_min()
    right, wrong, half = middle(run.bandit.reward)[-1]
    assert right > 0.97 and wrong < 0.03 and half > 0.97
    right, wrong, half = middle(run.noise.deviation)[-1]
    assert right == pytest.approx(0.30, abs=0.03) and wrong == pytest.approx(right, abs=0.03) and half > 1.4


def test_the_larger_of_two_is_ppo_for_the_negated_advantage():
    ratio, advantage = torch.rand(200).double() * 3, torch.randn(200).double()
    published = piece("max_for_min").wrong.run(ratio, advantage)
    assert torch.allclose(published, s.ppo_loss(ratio, -advantage))


def test_slopes_of_the_half_mended_loss_vanish_where_ppo_repairs():
    ratio = np.array([0.5, 1.0, 1.5])
    good, bad = (symptoms.curves(symptoms.LARGER, ratio, a) for a in (1.0, -1.0))
    assert (-good[symptoms.HALF][1]).tolist() == [0, 1, 1] and (-good[symptoms.RIGHT][1]).tolist() == [1, 1, 0]
    assert (-bad[symptoms.HALF][1]).tolist() == [-1, -1, 0] and (-bad[symptoms.RIGHT][1]).tolist() == [0, -1, -1]


def test_with_the_minimum_of_means_the_batch_switches_as_a_whole():
    run = symptoms.minimum_of_means()
    (gone, behind), (gone_wrong, behind_wrong) = run.slope
    assert (gone == 0).all() and np.allclose(behind, 1)
    before, after = run.moved < 0.69, run.moved > 0.71
    for slope in (gone_wrong, behind_wrong):
        assert np.allclose(slope[before], 1) and (slope[after] == 0).all()
    outside = np.abs(run.noise.ratio - 1) > symptoms.EPS
    fed = (run.noise.fed & outside).sum(-1)
    count = outside.sum(-1)
    wrong = (fed == 0) | (fed == count)
    assert wrong[:, 1].all(), "with the minimum of means it is all or none"
    assert ((fed == count) & (count > 0))[:10, 1].all() and (fed == 0)[40:, 1].all()
    assert not wrong[40:, 0].any(), "with the mean of minima every sample is judged by itself"
    right, left = middle(symptoms.share_wrong(run.noise))[-1]
    assert right == pytest.approx(0.10, abs=0.04) and left == pytest.approx(0.26, abs=0.04)


def test_ppo_brings_back_what_the_clip_alone_leaves_behind():
    run = symptoms.clip_without_minimum()
    assert symptoms.share_wrong(run)[0] == pytest.approx(0.47, abs=0.06)
    assert (symptoms.share_left(run)[20, 0] < 0.02).all() and (symptoms.share_left(run)[100, 1] > 0.5).all()
    right, wrong = middle(symptoms.share_left(run))[20]
    assert right < 0.01 and wrong > 0.75
    right, wrong = middle(symptoms.share_left(run))[-1]
    assert right < 0.03 and wrong == pytest.approx(0.73, abs=0.08)
    # Nobody on the wrong side gets a gradient from the clip alone, and everybody from PPO.
    behind = run.gone < -symptoms.EPS
    assert run.fed[:, 0][behind[:, 0]].all() and not run.fed[:, 1][behind[:, 1]].any()


def test_the_slopes_of_the_clip_alone_differ_on_the_wrong_side_only():
    ratio, advantage = torch.linspace(0.05, 3, 60).double(), torch.ones(60).double()
    for a in (advantage, -advantage):
        r = ratio.clone().requires_grad_()
        (right,) = torch.autograd.grad(s.ppo(r, a).sum(), r)
        (wrong,) = torch.autograd.grad(clip_without_minimum.clip_without_minimum(r, a).sum(), r)
        behind = (ratio - 1) * a < -symptoms.EPS
        assert torch.equal(right != wrong, behind) and torch.equal(right[behind], a[behind])


def test_a_ratio_that_is_always_one_reports_nothing_while_the_policy_runs_away():
    run = symptoms.ratio_always_one()
    right, wrong = middle(run.deviation)[-1]
    assert wrong / right == pytest.approx(5, abs=0.7) and right == pytest.approx(0.30, abs=0.03)
    logp = torch.randn(50).requires_grad_()
    old, advantage = logp.detach() - 0.5, torch.randn(50)
    reported = piece("ratio_always_one").wrong.run(logp, old, advantage)
    assert torch.equal(-reported.detach(), advantage), "the ratio in it is 1, to the bit"


def test_k1_has_no_mean_pull_and_does_not_bring_the_policy_home():
    run = symptoms.k1_penalty()
    names = dict(zip(run.penalties, range(3), strict=True))
    assert np.allclose(run.mean[names["k1"]], 0, atol=1e-6)
    assert np.allclose(run.mean[names["k2"]], run.truth, atol=1e-5)
    error = run.gradient.std(1) / np.sqrt(run.gradient.shape[1])
    assert (np.abs(run.gradient.mean(1) - run.mean) < 4 * error).all()
    start, end = middle(run.kl)[0], middle(run.kl)[-1]
    assert end[names["k2"]] < 0.001 * start[names["k2"]] and end[names["exact"]] < 0.001 * start[names["exact"]]
    assert 0.7 < end[names["k1"]] / start[names["k1"]] < 1.3
    assert np.ptp(run.kl[-1, names["k1"]]) > 0.2, "it wanders, each seed elsewhere"


def test_a_seed_does_not_depend_on_its_company():
    few = symptoms.bandit(symptoms.LOSSES, updates=5, num_seeds=3)
    many = symptoms.bandit(symptoms.LOSSES, updates=5)
    assert np.allclose(few.reward, many.reward[..., :3], atol=1e-6)
