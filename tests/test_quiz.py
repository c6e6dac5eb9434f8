"""Questions and predictions: what is refused, how answers are judged, pages without a kernel, live forms."""

import html
import math
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import ipywidgets
import numpy as np
import pytest
import torch
from helpers import in_tree

import pocourse.ratio_clipping.quiz  # noqa: F401  registers the questions of chapter 2
from pocourse import lesson
from pocourse.lesson import cards, progress, question_boxes, questions
from pocourse.lesson.question_cards import chapter_quiz, compare, entry_check, predict, quiz
from pocourse.lesson.questions import Choice, allowed, judge, kept, prediction, predictions, question, registry
from pocourse.ratio_clipping import training
from pocourse.ratio_clipping.bounds import kl_divergence
from pocourse.ratio_clipping.objectives import clip_objective, spo_objective
from pocourse.worlds import random_policy, tabular

ROOT = Path(__file__).parent.parent
A, B, C = (
    Choice("one <b>half</b>", True, "because *one half* & no more is what it is"),
    Choice("a third", False, "this forgets that `1 < 2` and takes the other one"),
    Choice("2/4", True, "because two quarters are one half as well"),
)


def refused(*words):
    ahead = "".join(f"(?=.*{word})" for word in words)
    return pytest.raises(ValueError, match=rf"(?s)^{ahead}expected .*got .*\.\s")


@pytest.fixture(autouse=True)
def own_registries_and_home(monkeypatch, tmp_path):
    """Each test registers what it likes, and nobody's progress is touched."""
    monkeypatch.setattr(questions, "_registry", dict(questions._registry))
    monkeypatch.setattr(questions, "_predictions", dict(questions._predictions))
    monkeypatch.setenv("POCOURSE_HOME", str(tmp_path / "home"))


@pytest.fixture
def asked():
    return question("small.halves", "What is **half** of <one>?", A, B, C, section="3")


@pytest.fixture
def shown(monkeypatch):
    """Outputs as in a notebook: a list of display bundles."""
    bundles = []
    monkeypatch.setattr(cards, "in_kernel", lambda: True)

    def display(data, raw):
        if cards.WIDGET_VIEW in data:  # it comes after the card that it hides
            assert raw and set(data) == {"text/plain", cards.WIDGET_VIEW} and "text/html" in bundles[-1]
            bundles[-1] = {**bundles[-1], cards.WIDGET_VIEW: data[cards.WIDGET_VIEW]}
        else:
            bundles.append(data)

    monkeypatch.setattr("IPython.display.display", display)
    return bundles


def live(bundle):
    """The widget behind a bundle."""
    return ipywidgets.widget_serialization["from_json"](f"IPY_MODEL_{bundle[cards.WIDGET_VIEW]['model_id']}", None)


def said(widget):
    """What a form shows now, as text without tags."""
    shown = [w.value for w in in_tree(widget, ipywidgets.HTML) if w.layout.display != "none"]
    return html.unescape(re.sub(r"<[^>]*>", "", "\n".join(shown)))


# --- registering ----------------------------------------------------------------------------------


def test_the_names_are_the_functions_whichever_is_imported_first_and_torch_is_not():
    code = (
        "import {first}; import sys; from pocourse.lesson import chapter_quiz, compare, entry_check, predict, quiz; "
        "assert callable(quiz) and quiz.__name__ == 'quiz'; assert not {{'torch', 'ipywidgets'}} & set(sys.modules)"
    )
    for first in ("pocourse.lesson", "pocourse.lesson.question_cards", "pocourse.ratio_clipping.quiz"):
        # The chapter's own package holds equations, and these are torch.
        checked = code if first.startswith("pocourse.lesson") else code.replace("{{'torch', 'ipywidgets'}}", "set()")
        done = subprocess.run(
            [sys.executable, "-c", checked.format(first=first)], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    assert lesson.quiz is quiz and lesson.compare is compare


def test_a_question_is_kept_as_it_was_registered(asked):
    assert registry()["small.halves"] is asked
    assert asked.chapter == "small" and list(asked.lettered) == ["a", "b", "c"] and asked.kind == "quiz"
    with pytest.raises(AttributeError):
        asked.text = "another"


@pytest.mark.parametrize("id", ["halves", "small.", "Small.halves", "small.halves.two", "small halves", "", None, 3])
def test_ids_have_a_chapter_and_a_name(id):
    with refused("chapter.name"):
        question(id, "What?", A, B, section="1")
    with refused("chapter.name"):
        prediction(id, "How many?", section="1")


def test_an_id_is_taken_once_by_a_question_or_a_prediction(asked):
    for register in (
        lambda: question("small.halves", "What?", A, B, section="1"),
        lambda: prediction("small.halves", "How many?", section="1"),
    ):
        with refused("small.halves", "taken"):
            register()


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ([A], "2 to 6 choices"),
        ([], "none"),
        ([Choice(str(k), k == 0, "why") for k in range(7)], "2 to 6 choices"),
        ([A, ("b", False, "why")], "tuple"),
        ([A, C], "all right"),
        ([B, Choice("d", False, "why")], "all wrong"),
        ([A, B, Choice("A  third", False, "why")], "'a third' twice"),
        ([A, Choice("d", False, " ")], "why"),
        ([A, Choice("", False, "why")], "choice"),
        ([A, Choice("d", 0, "why")], "True or False"),
        ([A, Choice("two\nlines", False, "why")], "one line"),
    ],
)
def test_choices_that_cannot_be_judged_are_refused(choices, said):
    with refused(re.escape(said)):
        question("small.x", "What?", *choices, section="1")
    assert "small.x" not in registry()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"text": " "}, "text"),
        ({"section": ""}, "section"),
        ({"section": 3}, "section"),
        ({"kind": "exam"}, "quiz, entry"),
        ({"kind": "entry"}, "read_up"),
        ({"kind": "entry", "read_up": ""}, "read_up"),
        ({"kind": "entry", "read_up": ("A book", "book.html")}, "read_up"),
        ({"read_up": ("", "https://example.org")}, "read_up"),
        ({"read_up": ("A book",)}, "read_up"),
        ({"read_up": ("A book", None)}, "read_up"),
    ],
)
def test_questions_that_cannot_be_asked_are_refused(options, said):
    options = {"text": "What?", "section": "1", **options}
    with refused(said):
        question("small.x", options.pop("text"), A, B, **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"low": 2, "high": 1}, "low < high"),
        ({"low": math.nan}, "finite"),
        ({"high": math.inf}, "finite"),
        ({"ranges": ((0, 1), (1, 2))}, "belong to choices"),
        ({"answer": "text"}, "Name the choices"),
        ({"answer": ("one",)}, "2 to 6"),
        ({"answer": ("one", "One")}, "twice"),
        ({"answer": ("one", "")}, "choice"),
        ({"answer": ("one", "two"), "low": 1}, "with a number only"),
        ({"answer": ("one", "two"), "unit": "nats"}, "with a number only"),
        ({"answer": ("one", "two"), "ranges": ((0, 1),)}, "one .* for each"),
        ({"answer": ("one", "two"), "ranges": ((0, 1), (0.5, 2))}, "none reaching into another"),
        ({"answer": ("one", "two"), "ranges": ((0, 1), (2, 1))}, "low <= x < high"),
        ({"answer": ("one", "two"), "ranges": ((0, 1), (1, math.nan))}, "low <= x < high"),
        ({"text": ""}, "text"),
    ],
)
def test_predictions_that_cannot_be_made_are_refused(options, said):
    options = {"text": "How many?", "section": "1", **options}
    with refused(said):
        prediction("small.x", options.pop("text"), **options)
    assert "small.x" not in predictions()


@pytest.mark.parametrize("ask", [quiz, predict, lambda id: compare(id, 1)])
@pytest.mark.parametrize("id", ["small.nothing", "nothing", None])
def test_unknown_ids_say_what_is_known(ask, id):
    with refused("import pocourse", "ratio_clipping"):
        ask(id)


# --- judging --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "right", "words"),
    [
        ("ac", True, "Right, and that is all of them."),
        ("ca", True, "Right, and that is all of them."),
        ("a", False, "Right as far as it goes: one more is right. Look again."),
        ("b", False, "Not right: two of the others are. Try again."),
        ("ab", False, "Not quite: one of your choices is not right, and one more is right. Try again."),
        ("abc", False, "Not quite: one of your choices is not right. Try again."),
    ],
)
def test_an_answer_is_right_when_it_is_all_the_right_ones(asked, chosen, right, words):
    answer = judge(asked, tuple(chosen))
    assert (answer.right, answer.said) == (right, words)
    assert answer.chosen == tuple(sorted(chosen))


def test_one_right_choice():
    asked = question("small.one", "What?", B, A, section="1")
    assert judge(asked, ["b"]).said == "Right." and judge(asked, [" B "]).right and judge(asked, ["b", "b"]).right
    assert judge(asked, ["a"]).said == "Not right: one of the others is. Try again."


@pytest.mark.parametrize("chosen", [("d",), ("a", "x"), ("ab",), (1,), (None,)])
def test_letters_that_are_no_choices_are_refused(asked, chosen):
    with refused("a", "b"):
        quiz("small.halves", *chosen)
    assert progress.read()["questions"] == {}


# --- in a terminal --------------------------------------------------------------------------------


def test_plain_text_asks_and_gives_nothing_away(asked, capsys):
    quiz("small.halves")
    out = capsys.readouterr().out
    for text in ("What is half of <one>?", "  a) one <b>half</b>", "  b) a third", 'quiz("small.halves", "a")'):
        assert text in out
    for choice in asked.choices:
        assert choice.why[:20] not in out
    assert "Right." not in out and "Not right." not in out


def test_plain_text_explains_what_was_chosen_and_nothing_else(asked, capsys):
    quiz("small.halves", "b")
    out = capsys.readouterr().out
    assert "> b) a third\n     Not right. this forgets" in out and "  a) one <b>half</b>\n  c)" not in out
    assert "because" not in out and out.rstrip().endswith("b: Not right: two of the others are. Try again.")
    quiz("small.halves", "c", "a")
    out = capsys.readouterr().out
    assert "because one half" in out and "because two" in out and "this forgets" not in out


def test_the_answer_is_recorded(asked, capsys):
    quiz("small.halves", "b")
    quiz("small.halves", "a", "c")
    entry = progress.read()["questions"]["small.halves"]
    assert (entry["chosen"], entry["right"], entry["tries"], entry["first"]) == (["a", "c"], True, 2, False)


def test_asking_and_answering_again_prints_the_same(asked, capsys):
    outs = []
    for _ in range(2):
        quiz("small.halves")
        quiz("small.halves", "a")
        outs.append(capsys.readouterr().out)
    assert outs[0] == outs[1]


# --- on a page without a kernel -------------------------------------------------------------------


def test_static_html_holds_every_explanation_folded(asked, shown):
    quiz("small.halves")
    page = shown[0]["text/html"]
    assert page.count("<details>") == 3 and "<details open" not in page and page.count("<b>Right.</b>") == 2
    folded = re.findall(r"<summary.*?</summary>(.*?)</details>", page, re.DOTALL)
    outside = re.sub(r"</summary>.*?</details>", "", page, flags=re.DOTALL)
    for text, words in zip(folded, ("one half", "this forgets", "two quarters"), strict=True):
        assert words in text and words not in outside
    assert "Right" not in outside and "Not right" not in outside


def test_readers_text_is_escaped(asked, shown):
    quiz("small.halves")
    quiz("small.halves", "a", "b")
    for bundle in shown:
        page = bundle["text/html"]
        assert "one &lt;b&gt;half&lt;/b&gt;" in page and "one <b>half" not in page
        assert "&lt;one&gt;" in page and "<one>" not in page and "&amp; no more" in page
        assert ">1 &lt; 2</code>" in page and "<i>one half</i>" in page
    box = live(shown[0])
    labels = [tick.description for tick in in_tree(box, ipywidgets.Checkbox)]
    assert labels[0].endswith("one &lt;b&gt;half&lt;/b&gt;")


def test_what_is_stored_is_the_same_whoever_has_answered_what(asked, shown):
    prediction("small.count", "How many?", section="1")
    for _ in range(2):
        quiz("small.halves")
        predict("small.count")
        chapter_quiz("small")
        progress.record_answer("small.halves", ["a", "c"], True)
        progress.record_prediction("small.count", 7)
    for one, two in zip(shown[:3], shown[3:], strict=True):
        for kind in ("text/plain", "text/html"):
            assert one[kind] == two[kind]
    assert "You answered a, c" in said(live(shown[3])) and "You answered" not in said(live(shown[0]))


def test_a_judged_card_shows_what_was_chosen_and_folds_the_rest(asked, shown):
    quiz("small.halves", "b")
    page = shown[0]["text/html"]
    outside = re.sub(r"<details.*</details>", "", page, flags=re.DOTALL)
    assert "<b>Not right.</b> this forgets" in outside and "one half" not in outside
    assert cards.WIDGET_VIEW not in shown[0] and "one half" in page and cards.TONES["bad"][1] in page


def test_a_group_is_one_output_with_numbers(shown):
    chapter_quiz("ratio_clipping")
    entry_check("ratio_clipping")
    assert len(shown) == 2
    page, plain, checked = shown[0]["text/html"], shown[0]["text/plain"], shown[1]["text/html"]
    number = len([q for q in registry().values() if q.kind == "quiz" and q.chapter == "ratio_clipping"])
    for k in range(1, number + 1):
        assert f"Quiz, {k} of {number} · section" in page and f"Quiz, {k} of {number} · section" in plain
    assert "Entry check, 5 of 5 · needed in section" in checked and checked.count("To read up") == 5
    assert checked.count('<a href="http') == 5 and checked.count('target="_blank" rel="noopener"') == 5
    assert len(in_tree(live(shown[1]), ipywidgets.Button)) == 10


@pytest.mark.parametrize("group", [entry_check, chapter_quiz])
def test_a_chapter_without_questions_is_refused(group):
    with refused("'nothing'", "ratio_clipping"):
        group("nothing")


# --- the live form --------------------------------------------------------------------------------


def form(asked):
    box = question_boxes.question_box(asked, "Quiz")
    check, explain = in_tree(box, ipywidgets.Button)
    return box, in_tree(box, ipywidgets.Checkbox), check, explain


def test_a_wrong_answer_counts_what_is_missing_and_another_try_is_free(asked):
    box, ticks, check, explain = form(asked)
    assert explain.layout.display == "none" and "Right" not in said(box) and "because" not in said(box)
    ticks[1].value = True
    check.click()
    assert "Not right: two of the others are." in said(box) and "Not right. this forgets" in said(box)
    assert "because" not in said(box)
    ticks[0].value = ticks[2].value = True
    ticks[1].value = False
    check.click()
    assert "Right, and that is all of them." in said(box) and "this forgets" not in said(box)
    entry = progress.read()["questions"]["small.halves"]
    assert (entry["chosen"], entry["right"], entry["tries"], entry["first"]) == (["a", "c"], True, 2, False)


def test_all_explanations_can_be_had_after_a_try(asked):
    box, ticks, check, explain = form(asked)
    ticks[0].value = True
    check.click()
    assert explain.layout.display == "" and "one more is right" in said(box) and "two quarters" not in said(box)
    explain.click()
    for words in ("Right. because one half", "Not right. this forgets", "Right. because two quarters"):
        assert words in said(box)


def test_nothing_ticked_is_no_answer(asked):
    box, _, check, explain = form(asked)
    check.click()
    assert "Tick at least one choice first." in said(box) and explain.layout.display == "none"
    assert progress.read()["questions"] == {}


def test_a_form_tells_what_was_answered_before_if_it_still_can(asked):
    progress.record_answer("small.halves", ["b"], False)
    assert "You answered b before: not right." in said(form(asked)[0])
    progress.record_answer("small.halves", ["e"], True)  # of an older wording of the question
    assert "You answered" not in said(form(asked)[0])


def test_labels_may_wrap_and_hold_the_whole_text():
    long = question("small.long", "What?", Choice("word " * 60, True, "why"), B, section="1")
    box, ticks, _, _ = form(long)
    assert ticks[0].description.count("word") == 60 and ticks[0].description_allow_html and not ticks[0].indent
    style = in_tree(question_boxes.stacked([box]), ipywidgets.HTML)[0].value
    assert "white-space: normal" in style and "focus-visible" in style and style.count("{") == style.count("}")


# --- predictions ----------------------------------------------------------------------------------


@pytest.fixture
def count():
    return prediction("small.count", "How many?", section="1", unit="nats", low=0, high=10)


@pytest.fixture
def share():
    ranges = ((0.5, math.inf), (0.1, 0.5), (0.0, 0.1))
    return prediction("small.share", "How much?", section="2", answer=("most", "some", "little"), ranges=ranges)


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -0.1, 10.1, "0.3", "a", True, 1 + 0j, [1.0], torch.tensor([1.0])]
)
def test_numbers_that_cannot_be_are_refused(count, value):
    with refused("1.5"):
        predict("small.count", value)
    assert progress.read()["predictions"] == {}


def test_limits_may_stand_alone_and_are_inside():
    prediction("small.low", "How many?", section="1", low=0)
    prediction("small.high", "How many?", section="1", high=0)
    for id, good, bad, words in (
        ("small.low", 0, -1, "number of at least 0;"),
        ("small.high", 0, 1, "number of at most 0;"),
    ):
        assert allowed(predictions()[id], good) == 0
        with refused():
            allowed(predictions()[id], bad)
        with pytest.raises(ValueError, match=words):
            allowed(predictions()[id], bad)


@pytest.mark.parametrize("value", ["d", "", "much", 1, None, math.nan])
def test_choices_that_are_none_are_refused(share, value):
    with refused("a\\) most"):
        allowed(share, value)


def test_both_kinds_are_kept(count, share, capsys):
    predict("small.count", np.float32(0.5))
    predict("small.share", "b")
    out = capsys.readouterr().out
    assert "Kept: 0.5 nats. It is shown again" in out and "Kept: b, some." in out
    assert {id: entry["value"] for id, entry in progress.read()["predictions"].items()} == {
        "small.count": 0.5,
        "small.share": "some",
    }
    assert (kept(count), kept(share)) == (0.5, "some")
    predict("small.share", "little")
    assert kept(share) == "little"


def test_a_kept_value_that_no_longer_fits_is_none(count, share):
    progress.record_prediction("small.count", 11)
    progress.record_prediction("small.share", "a lot")
    assert kept(count) is None and kept(share) is None


@pytest.mark.parametrize(
    ("predicted", "measured", "words"),
    [
        (0.3, 0.3, "That is it exactly."),
        (0.3, 0.3 + 1e-16, "That is it"),
        (0.3, 0.31, "That is close: 0.01 nats too low."),
        (0.3, 0.4, "You were 0.1 nats too low, which is 25 per cent of the result."),
        (0.5, 0.4, "You were 0.1 nats too high, which is 25 per cent of the result."),
        (2, 0.4, "Your prediction was 5 times too large."),
        (0.1, 0.401, "Your prediction was 4.01 times too small."),
        (1, 5e-4, "Your prediction was 2,000 times too large."),
        (0.1, 0, "The result is zero: you were 0.1 nats too high."),
        (0.1, 1e-17, "The result is zero up to rounding: you were 0.1 nats too high."),
        (0, 0, "That is it exactly."),
        (0, 0.4, "You were 0.4 nats too low."),
        (0.5, -0.5, "You were 1 nats too high, and it has the other sign."),
        (1, math.inf, "No number comes near that."),
        (1, math.nan, "There is nothing to compare."),
    ],
)
def test_how_far_off_a_number_was(count, capsys, predicted, measured, words):
    progress.record_prediction("small.count", predicted)
    compare("small.count", measured)
    out = capsys.readouterr().out
    assert f"You predicted {predicted:g} nats.\nMeasured: " in out and words in out


def test_negative_results_compare_by_size(capsys):
    prediction("small.signed", "How many?", section="1")
    progress.record_prediction("small.signed", -4)
    compare("small.signed", torch.tensor(-1.0))
    assert "4 times too large in size" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("measured", "words"),
    [
        (0.2, "Measured: 0.2, so b, some (of all).\nThat is what you predicted."),
        (0.5, "Measured: 0.5, so a, most (of all).\nThat is not what you predicted."),
        (-1, "Measured: -1 (of all).\nThat is none of the choices."),
        (math.nan, "Measured: not a number (of all).\nThat is none of the choices."),
    ],
)
def test_a_measured_number_says_which_choice_it_was(share, capsys, measured, words):
    progress.record_prediction("small.share", "some")
    compare("small.share", measured, "of all")
    out = capsys.readouterr().out
    assert "You predicted b, some.\n" in out and words in out


def test_choices_without_ranges_are_measured_by_name(capsys):
    prediction("small.who", "Who wins?", section="1", answer=("PPO", "SPO"))
    predict("small.who", "a")
    compare("small.who", "SPO", "8 seeds")
    compare("small.who", "a")
    out = capsys.readouterr().out
    assert "Measured: b, SPO (8 seeds).\nThat is not what you predicted." in out and "That is what you" in out
    with refused("a\\) PPO"):
        compare("small.who", 0.3)


def test_without_a_prediction_the_result_stands_alone(count, shown):
    compare("small.count", 0.2998, "interquartile mean")
    assert "Measured: 0.3 nats (interquartile mean).\nThere is no prediction" in shown[0]["text/plain"]
    assert "You predicted" not in shown[0]["text/html"] and "Measured: 0.3 nats" in shown[0]["text/html"]


@pytest.mark.parametrize("measured", ["0.3", None, [1, 2], torch.ones(2), True])
def test_results_that_are_no_number_are_refused(count, share, measured):
    for id in ("small.count", "small.share"):
        with refused("Reduce it first"):
            compare(id, measured)


def test_static_cards_of_predictions_hold_no_answer(count, share, shown):
    predict("small.count")
    predict("small.share")
    for bundle, id in zip(shown, ("small.count", "small.share"), strict=True):
        for kind in ("text/plain", "text/html"):
            assert "The result comes further down." in bundle[kind] and f'predict("{id}", ' in bundle[kind]
            assert "Measured" not in bundle[kind]
    assert "most" in shown[1]["text/html"] and "most" in shown[1]["text/plain"]


def test_a_number_is_kept_by_the_form(count):
    box = question_boxes.prediction_box(count, "Prediction")
    (field,), (button,) = in_tree(box, ipywidgets.Text), in_tree(box, ipywidgets.Button)
    for typed, words in (
        ("", "Write a number first"),
        ("0,3", "Not kept: expected"),
        ("nan", "Not kept"),
        ("11", "at most 10"),
    ):
        field.value = typed
        button.click()
        assert words in said(box) and kept(count) is None
    field.value = " 0.3 "
    button.click()
    assert "Kept: 0.3 nats." in said(box) and kept(count) == 0.3
    again = question_boxes.prediction_box(count, "Prediction")
    assert in_tree(again, ipywidgets.Text)[0].value == "0.3" and "You predicted 0.3 nats." in said(again)


def test_a_choice_is_kept_by_the_form(share):
    box = question_boxes.prediction_box(share, "Prediction")
    (field,), (button,) = in_tree(box, ipywidgets.RadioButtons), in_tree(box, ipywidgets.Button)
    button.click()
    assert "Choose one first." in said(box) and kept(share) is None
    field.value = "some"
    button.click()
    assert "Kept: b, some." in said(box) and kept(share) == "some"
    assert in_tree(question_boxes.prediction_box(share, "Prediction"), ipywidgets.RadioButtons)[0].value == "some"


# --- the questions of chapter 2 -------------------------------------------------------------------

CHAPTER = [q for q in registry().values() if q.chapter == "ratio_clipping"]
ENTRY = [q for q in CHAPTER if q.kind == "entry"]
MAIN = [q for q in CHAPTER if q.kind == "quiz"]


def test_there_are_enough_questions():
    assert len(ENTRY) == 5 and len(MAIN) >= 8
    assert all(isinstance(q.read_up, tuple) for q in ENTRY)
    assert sum(sum(c.right for c in q.choices) > 1 for q in MAIN) >= 2
    assert {q.section for q in MAIN} == {"1", "2", "3", "4", "5", "6", "7", "9"}
    assert [int(q.section) for q in MAIN] == sorted(int(q.section) for q in MAIN)
    assert {"ratio_clipping.tightness", "ratio_clipping.dragged", "ratio_clipping.deepest"} <= set(predictions())


@pytest.mark.parametrize("asked", CHAPTER, ids=lambda q: q.id)
def test_every_choice_is_explained_and_nothing_is_tex(asked):
    for choice in asked.choices:
        assert len(choice.why) >= 40
        for text in (choice.text, choice.why, asked.text):
            assert "$" not in text and "\\" not in text and "  " not in text
            assert text.count("`") % 2 == 0 and "**" not in text


def test_neither_letter_nor_length_gives_the_answer_away():
    places = Counter(letter for q in CHAPTER for letter, choice in q.lettered.items() if choice.right)
    assert len(places) >= 4 and places.most_common(1)[0][1] <= 0.45 * places.total()
    longest = [max(q.choices, key=lambda choice: len(choice.text)).right for q in CHAPTER]
    assert 0.15 <= np.mean(longest) <= 0.5
    lengths = {right: [len(c.text) for q in CHAPTER for c in q.choices if c.right is right] for right in (True, False)}
    assert 0.8 < np.mean(lengths[True]) / np.mean(lengths[False]) < 1.25


def test_every_section_named_is_one_of_the_notebook():
    text = (ROOT / "notebooks" / "text" / "02_ratio_clipping.md").read_text(encoding="utf-8")
    sections = set(re.findall(r"^## (\d+) ", text, re.MULTILINE))
    asked = [found for id, found in predictions().items() if id.startswith("ratio_clipping.")]
    for each in [*CHAPTER, *asked]:
        assert each.section in sections, each.id


def test_equations_named_in_explanations_are_in_the_notebook():
    text = (ROOT / "notebooks" / "text" / "02_ratio_clipping.md").read_text(encoding="utf-8")
    for asked in CHAPTER:
        for number in re.findall(r"\((2\.\d+)\)", " ".join([asked.text, *(c.why for c in asked.choices)])):
            assert f"\\tag{{{number}}}" in text, (asked.id, number)


def test_what_the_questions_say_of_the_recorded_run_is_so():
    shallow, deep = (training.recorded(name).summary() for name in ("shallow", "deep"))
    far = "largest_ratio_deviation"
    assert sum(x > 0.2 for x in deep["PPO"][far]["seeds"]) == 8
    assert sum(x < 0.2 for x in shallow["PPO"][far]["seeds"]) == 7
    assert sum(x >= 475 for x in deep["PPO"]["final_return"]["seeds"]) == 7
    found = {name: training.first_solved(training.recorded(name)) for name in ("shallow", "deep")}
    assert found["deep"]["SPO"] / found["deep"]["PPO"] == pytest.approx(1.3, abs=0.05)
    assert found["shallow"]["SPO"] / found["shallow"]["PPO"] == pytest.approx(1.5, abs=0.05)


# Numbers worked out in explanations, worked out again.


def test_the_worked_numbers_of_the_entry_questions():
    pi, new, f = np.array([0.5, 0.5]), np.array([0.75, 0.25]), np.array([2, 6])
    assert (pi * f * pi / new).sum() == pytest.approx(20 / 3)
    assert (pi * f * new / pi).sum() == (new * f).sum() == 3 and (pi * f).sum() == 4
    kink = np.minimum(-np.array([0.0, 0.25, 0.75, 1.0]), -0.5)
    assert np.diff(kink[:2]) == 0 and np.diff(kink[2:]) / 0.25 == -1
    q = np.array([2, 24 * 0.5**2])
    value = np.array([0.75, 0.25]) @ q
    assert (q[1], value, *(q - value)) == (6, 3, -1, 3)
    z = np.array([0.2, -0.4, 1.0])
    before, raised, lowered = (np.exp(z + np.array(step)) for step in ([0, 0, 0], [0.7, 0, 0], [0, -0.7, -0.7]))
    before, raised, lowered = (x / x.sum() for x in (before, raised, lowered))
    np.testing.assert_allclose(raised, lowered)
    assert (raised[1:] < before[1:]).all() and raised[1] / raised[2] == pytest.approx(before[1] / before[2])


def sloped(objective, ratio, advantage):
    """The values of an objective and its slopes in r."""
    r = torch.tensor(ratio, dtype=torch.float64, requires_grad=True)
    values = objective(r, torch.tensor(advantage, dtype=torch.float64))
    (slopes,) = torch.autograd.grad(values.sum(), r)
    return values.tolist(), slopes.tolist()


def test_the_worked_numbers_on_ppo():
    values, slopes = sloped(clip_objective, [1.5], [-1.0])
    assert (values, slopes) == ([-1.5], [-1.0])
    assert sloped(spo_objective, [1.5], [-1.0])[1] == pytest.approx([-3.5])
    asked = registry()["ratio_clipping.where_it_is_flat"]
    numbers = [re.fullmatch(r"A = ([+−]\d) and r = ([\d.]+)", choice.text).groups() for choice in asked.choices]
    advantage = [float(a.replace("−", "-")) for a, _ in numbers]
    values, slopes = sloped(clip_objective, [float(r) for _, r in numbers], advantage)
    assert [slope == 0 for slope in slopes] == [choice.right for choice in asked.choices]
    for choice, value, slope, a in zip(asked.choices, values, slopes, advantage, strict=True):
        assert slope in (0, a)
        worked = re.search(r"product (−?[\d.]+)(?=[ ,])", choice.why)
        assert worked is None or float(worked[1].replace("−", "-")) == pytest.approx(value)


def test_the_worked_numbers_on_spo():
    values, slopes = sloped(spo_objective, [0.8, 0.6], [-2.0, -2.0])
    assert values == pytest.approx([-1.8, -2.0]) and slopes == pytest.approx([0, 2])
    assert sloped(clip_objective, [0.8 - 1e-12], [-2.0])[0] == pytest.approx([-1.6])
    assert sloped(spo_objective, [1.0, 1.2, 1.4], [3.0] * 3)[1] == pytest.approx([3, 0, -3])


def test_the_worked_numbers_on_distances():
    p, q = torch.tensor([0.5, 0.5], dtype=torch.float64), torch.tensor([1.0, 0.0], dtype=torch.float64)
    assert kl_divergence(p, q) == math.inf and float(kl_divergence(q, p)) == pytest.approx(math.log(2))
    ratios = np.array([1.0] * 90 + [2.0] * 10)
    assert np.abs(ratios - 1).mean() == pytest.approx(0.1)


def test_the_worked_numbers_on_the_estimates_of_kl():
    """Near one k3 is the calmer estimate, and not where a ratio is very large."""

    def variances(pi, new):
        r = new / pi
        k1, k3 = -np.log(r), r - 1 - np.log(r)
        assert (k3 >= 0).all() and (pi * k1).sum() == pytest.approx((pi * k3).sum())
        return [(pi * k**2).sum() - (pi * k).sum() ** 2 for k in (k1, k3)]

    near = variances(np.array([0.5, 0.5]), np.array([0.45, 0.55]))
    far = variances(np.array([0.999, 0.001]), np.array([0.5, 0.5]))
    assert near[1] < 0.1 * near[0] and far[1] > 10 * far[0]


def test_towards_the_greedy_policy_nothing_is_ever_lost():
    generator = torch.Generator().manual_seed(0)
    mdp = tabular.random_mdp(num_states=5, num_actions=3, gamma=0.99, batch=(20,), generator=generator)
    pi = random_policy((20, 5, 3), generator=generator)
    greedy = torch.nn.functional.one_hot(tabular.advantages(mdp, pi).argmax(-1), 3).double()
    for alpha in (0.01, 0.1, 1.0):
        gain = tabular.performance(mdp, (1 - alpha) * pi + alpha * greedy) - tabular.performance(mdp, pi)
        assert (gain > 0).all()


def test_the_predictions_have_the_answers_they_were_made_for(capsys):
    share = predictions()["ratio_clipping.tightness"]
    compare("ratio_clipping.tightness", 5e-4)
    assert f"so d, {share.answer[3]}." in capsys.readouterr().out
    for id in ("dragged", "deepest", "deepest_spo", "deepest_unclipped"):
        assert allowed(predictions()[f"ratio_clipping.{id}"], 0.3) == 0.3
