"""The bug museum: plaques are complete, wrong code is wrong, properties are judged well, plots show what is said."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from pocourse.lesson import exercises, museum
from pocourse.lesson.bands import interquartile_mean
from pocourse.lesson.wrong import Wrong
from pocourse.ratio_clipping import museum as chapter
from pocourse.ratio_clipping.museum import clip_without_minimum, drawings, symptoms
from pocourse.ratio_clipping.museum import suspects as s

PIECES = [
    "missing_minus",
    "max_for_min",
    "minimum_of_means",
    "clip_without_minimum",
    "ratio_always_one",
    "k1_penalty",
]


def piece(name):
    return museum.find(f"ratio_clipping.{name}")


def task(name):
    return exercises.find(piece(name).exercise)


def words(found):
    return [found.title, found.published, found.corrected, found.symptom, found.wrong.reason, found.note]


# --- plaques ---------------------------------------------------------------------------------------------


def test_the_tour_has_six_pieces():
    mine = [id for id, found in museum.registry().items() if found.chapter == "ratio_clipping"]
    assert mine == [f"ratio_clipping.{name}" for name in PIECES]


@pytest.mark.parametrize("name", PIECES)
def test_a_piece_says_what_was_published_where_and_when(name):
    found = piece(name)
    assert found.thread.startswith("https://github.com/")
    assert re.search(r"\d{4}-\d{2}-\d{2}", found.published)
    assert re.search(r"`[\w-]+/[\w-]+`", found.published), "no project"
    commits = re.findall(r"`([0-9a-f]{7})`", found.published + found.corrected)
    assert commits or "/pull/" in found.thread
    assert all(found.corrected and text.strip() for text in words(found)[:5])
    assert found.wrong.name == name and found.wrong.run.__name__ == name
    assert found.exercise == f"ratio_clipping.catch_{name}" and found.exercise in exercises.registry()
    assert task(name).section == found.section


@pytest.mark.parametrize("name", PIECES)
def test_a_plaque_names_no_person_and_holds_no_tex(name):
    for text in [*words(piece(name)), museum.plain(piece(name))]:
        assert "@" not in text and "$" not in text and "\\" not in text
    ex = task(name)
    for text in (ex.task, *ex.hints, ex.after):
        assert "$" not in text and "\\" not in text


class Tags(HTMLParser):
    """Tags that are open, links, and the text."""

    def __init__(self):
        super().__init__()
        self.open, self.links, self.text = [], [], ""

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        if tag == "a":
            self.links.append(dict(attributes)["href"])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("name", PIECES)
def test_the_card_links_its_threads_and_shows_the_code(name):
    found, tags = piece(name), Tags()
    tags.feed(museum.as_html(found))
    assert tags.open == [] and found.thread in tags.links
    texts = " ".join([found.published, found.corrected, found.note])
    assert set(tags.links) == {found.thread, *re.findall(r"https://[\w./-]+\w", texts)}
    assert found.code in tags.text and found.code.startswith(f"def {name}(")
    assert found.exercise in tags.text and museum.KIND in tags.text


@pytest.mark.parametrize("name", PIECES)
def test_the_plain_plaque_says_the_same(name, capsys):
    museum.exhibit(f"ratio_clipping.{name}")
    said, found = capsys.readouterr().out, piece(name)
    flat = " ".join(said.split())
    for text in words(found):
        assert " ".join(text.split()) in flat
    assert found.thread in said and found.exercise in said and "    return" in said
    assert max(len(line) for line in said.splitlines()) <= 110


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
    with pytest.raises(ValueError, match=r"known are: ratio_clipping\.missing_minus"):
        museum.exhibit("ratio_clipping.nothing")


# --- the wrong code is wrong, and the tasks are good tasks -------------------------------------------------


@pytest.mark.parametrize("name", PIECES)
def test_the_solution_catches_the_mistake_and_clears_the_right_code(name):
    catch = exercises.solved(task(name))
    assert catch(piece(name).right) is True and catch(piece(name).wrong.run) is False


@pytest.mark.parametrize("name", PIECES)
def test_the_matrix_is_complete(name):
    ex = task(name)
    matrix = exercises.matrix(ex.id)
    assert matrix.complete, str(matrix)
    assert len(ex.mutants) >= 5 and len(ex.accepted) >= 2
    assert 3 <= len(ex.solution.splitlines()) <= 11
    assert exercises.judge(ex.id, exercises.solved(ex)).right


@pytest.mark.parametrize("name", PIECES)
def test_every_useless_property_is_told_something_of_its_own(name):
    ex, told = task(name), exercises.matrix(task(name).id).said
    for mutant in ex.mutants:
        verdict = exercises.judge(ex.id, mutant.run)
        assert verdict.state == "wrong"
        # Recognised for what it is, unless its answers cannot be compared or are those of a mutant before it.
        assert verdict.message or verdict.slip is not None
        assert told[mutant.name].endswith((".", "`"))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda code: print(end=""), "returned None"),
        (lambda code: torch.tensor([True, False]), "2 answers in a tensor of shape [2]"),
        (lambda code: torch.tensor(1.0), "tensor of torch.float32 where True or False"),
        (lambda code: 1, "returned a int where True or False"),
        (lambda code: (yield), "contains `yield`"),
    ],
)
def test_what_is_no_yes_or_no_gets_a_sentence(answer, said):
    for name in PIECES:
        verdict = exercises.judge(piece(name).exercise, answer)
        assert verdict.state == "wrong" and said in verdict.message


@pytest.mark.parametrize("result", [True, False, np.True_, torch.tensor(True)])
def test_a_yes_or_no_may_be_a_bool_of_any_house(result):
    assert museum.yes_or_no(result, ()) is None


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


@pytest.mark.parametrize("name", PIECES)
def test_a_figure_has_an_alternative_text(name):
    figure, alt = chapter.draw(name)
    assert len(alt) >= 60 and alt.endswith(".") and "8 seeds" in alt
    assert all(panel.get_xlabel() or panel.get_title(loc="left") for panel in figure.axes)


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
