"""Every piece of every chapter's museum: a complete plaque without a person's name, a good task, a picture in words."""

import importlib
import re
from html.parser import HTMLParser

import helpers
import pytest

import pocourse.diffusion_dpo.museum
import pocourse.ratio_clipping.museum
import pocourse.surrogate_variance.museum
import pocourse.zeroth_order.museum  # noqa: F401 (all register their pieces)
from pocourse.lesson import cards, exercises, museum

PIECES = list(museum.registry())
PROJECT = r"`([\w-]+)/[\w-]+`"  # owner and name
NAMED_WITHOUT_OWNER = ("`rlhf-book`", "`sdpo`", "`AdaSmooth`", "`ZoVH`")  # their owners are persons
NAMED_WITHOUT_OWNER += ("`Taming-Stable-Diffusion-with-Human-Ranking-Feedback`",)
ORGANISATIONS = {
    "AI-Hypercomputer", "NVIDIA-NeMo", "PKU-Alignment", "huggingface", "st-tech", "tensorforce", "udlbook",
    "yandexdataschool",
}  # fmt: skip
every = pytest.mark.parametrize("id", PIECES)


def task(id):
    return exercises.find(museum.find(id).exercise)


def words(found):
    return [found.title, found.published, found.corrected, found.symptom, found.wrong.reason, found.note]


def matrix(id):
    return helpers.matrix(task(id).id)


# --- plaques ---------------------------------------------------------------------------------------------


@every
def test_it_says_what_was_published_where_and_when(id):
    found, (chapter, name) = museum.find(id), id.split(".")
    assert found.thread.startswith("https://github.com/")
    assert re.search(r"\d{4}-\d{2}-\d{2}", found.published)
    assert re.search(PROJECT, found.published) or any(x in found.published for x in NAMED_WITHOUT_OWNER), "no project"
    commits = re.findall(r"`([0-9a-f]{7})`", found.published + found.corrected)
    assert commits or "/pull/" in found.thread
    assert all(found.corrected and text.strip() for text in words(found)[:5])
    assert found.wrong.name == name and found.wrong.run.__name__ == name
    assert found.exercise == f"{chapter}.catch_{name}" and found.exercise in exercises.registry()
    assert task(id).section == "Bug museum"


@every
def test_a_plaque_names_no_person_and_holds_no_tex(id):
    found, ex = museum.find(id), task(id)
    for text in [*words(found), museum.plain(found)]:
        assert "@" not in text and "$" not in text and "\\" not in text
    for text in (ex.task, *ex.hints, ex.after):
        assert "$" not in text and "\\" not in text


@every
def test_an_owner_who_is_a_person_is_met_in_links_alone(id):
    found = museum.find(id)
    for text in (*words(found), found.wrong.citation, museum.plain(found)):
        prose = cards.ADDRESS.sub("", text)
        assert set(re.findall(PROJECT, prose)) <= ORGANISATIONS
        for address in [*cards.ADDRESS.findall(text), found.thread]:
            owner = address.removeprefix("https://github.com/").split("/")[0]
            assert owner in ORGANISATIONS or owner not in prose


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


@every
def test_the_card_links_its_threads_and_shows_the_code(id):
    found, tags = museum.find(id), Tags()
    tags.feed(museum.as_html(found))
    texts = " ".join([found.published, found.corrected, found.note])
    assert tags.open == [] and set(tags.links) == {found.thread, *re.findall(r"https://[\w./-]+\w", texts)}
    assert found.code in tags.text and found.code.startswith(f"def {id.split('.')[1]}(")
    assert found.exercise in tags.text and museum.KIND in tags.text


@every
def test_the_plain_plaque_says_the_same(id, capsys):
    museum.exhibit(id)
    said, found = capsys.readouterr().out, museum.find(id)
    flat = " ".join(said.split())
    for text in words(found):
        assert " ".join(cards.to_plain(text).split()) in flat
    assert found.thread in said and found.exercise in said and "    return" in said
    # An address is never broken, and a long one has a line of its own.
    assert max(len(line) for line in said.splitlines() if "https://" not in line) <= 110


# --- tasks -----------------------------------------------------------------------------------------------


@every
def test_the_solution_catches_the_mistake_and_clears_the_right_code(id):
    catch = exercises.solved(task(id))
    assert catch(museum.find(id).right) is True and catch(museum.find(id).wrong.run) is False


@pytest.mark.slow
@every
def test_every_useless_property_dies_every_right_one_lives_and_none_is_idle(id):
    ex = task(id)
    assert matrix(id).complete, str(matrix(id))
    assert len(ex.mutants) >= 5 and len(ex.accepted) >= 2
    assert 3 <= len(ex.solution.splitlines()) <= 11
    assert exercises.judge(ex.id, exercises.solved(ex)).right


@pytest.mark.slow
@every
def test_every_useless_property_is_told_something_of_its_own(id):
    for mutant in task(id).mutants:
        verdict = helpers.verdict_on(task(id).id, mutant.name)
        assert verdict.state == "wrong"
        # Recognised for what it is, where its answers can be compared and no other mutant gives the same.
        assert verdict.slip is None or verdict.slip.name == mutant.name
        assert matrix(id).said[mutant.name].endswith((".", "`"))


@pytest.mark.slow
@every
def test_what_judges_all_probes_rightly_is_taken_for_no_slip(id):
    ex = task(id)
    for answer in (exercises.solved(ex), *ex.accepted.values()):
        assert exercises._same_as(ex, answer) is None


# --- pictures --------------------------------------------------------------------------------------------


@every
def test_a_figure_has_an_alternative_text(id):
    chapter, name = id.split(".")
    figure, alt = importlib.import_module(f"pocourse.{chapter}.museum").draw(name)
    assert len(alt) >= 60 and alt.endswith(".") and "8 seeds" in alt
    assert all(panel.get_xlabel() or panel.get_title(loc="left") for panel in figure.axes)
