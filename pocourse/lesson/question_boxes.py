"""The live forms of questions and predictions, out of ipywidgets.

Everything can be reached and worked with the keyboard, and what is said stands in words. The forms
know what the reader has answered before; nothing of that reaches the stored output.
"""

import html

import ipywidgets

from pocourse.lesson import cards
from pocourse.lesson.questions import Prediction, Question, allowed, explained, html_read_up, judge, keep, kept, quoted

_GREY = "#5b6068"
# Labels of ipywidgets stand in one line and are cut off at its end: these wrap. The card is light on a dark page too.
_STYLE = f"""<style>
.pocourse-ask {{border: 1px solid {cards.FAINT}; border-left: 5px solid {cards.FAINT}; border-radius: 4px;
  background-color: {cards.PAPER}; color: {cards.INK}; padding: 10px 14px; margin: 6px 0; max-width: 820px;
  overflow: visible; box-sizing: border-box; color-scheme: light;
  --jp-widgets-color: {cards.INK}; --jp-widgets-label-color: {cards.INK}}}
.pocourse-ask .widget-html-content, .pocourse-ask .jupyter-widgets.widget-html {{color: {cards.INK};
  font-size: 14px; line-height: 1.5; height: auto; white-space: normal}}
.pocourse-ask .widget-checkbox {{width: 100%; height: auto; margin: 0; padding: 5px 0 0 0; overflow: visible}}
.pocourse-ask label.widget-label-basic, .pocourse-ask .widget-radio-box label {{display: flex; align-items: flex-start;
  gap: 8px; width: 100%; height: auto; white-space: normal; overflow: visible; text-overflow: clip; cursor: pointer;
  color: {cards.INK}; font-size: 14px; line-height: 1.5; text-align: left; padding: 0; margin: 0}}
.pocourse-ask label.widget-label-basic > span {{white-space: normal; flex: 1 1 auto; min-width: 0}}
.pocourse-ask .widget-checkbox input, .pocourse-ask .widget-radio-box input {{flex: 0 0 auto; width: 15px;
  height: 15px; margin: 3px 0 0 0; line-height: 1; order: -1; align-self: flex-start}}
.pocourse-ask .widget-radio, .pocourse-ask .widget-radio-box {{width: 100%; height: auto; max-width: none;
  margin: 0; overflow: visible}}
.pocourse-ask .widget-radio-box label {{margin: 3px 0}}
.pocourse-ask input[type=text] {{background: #ffffff; color: {cards.INK}; border: 1px solid {cards.FAINT}}}
.pocourse-ask .jupyter-button {{background: #e8e6df; color: {cards.INK}; border: 1px solid #b9b5a9;
  border-radius: 3px; width: auto; padding: 0 14px}}
.pocourse-ask .jupyter-button:focus-visible, .pocourse-ask input:focus-visible {{outline: 2px solid #0072b2;
  outline-offset: 2px}}
.pocourse-row {{border-top: 1px solid #dedbd2; overflow: visible; margin: 0; padding: 0 0 5px 0}}
.pocourse-ask .pocourse-bar {{margin: 6px 0 0 0; overflow: visible; flex-flow: row wrap; align-items: center}}
</style>"""


def stacked(boxes: list[ipywidgets.Widget]) -> ipywidgets.VBox:
    """Forms below each other, as one widget."""
    return ipywidgets.VBox(
        [ipywidgets.HTML(_STYLE, layout={"display": "none"}), *boxes], layout={"overflow": "visible"}
    )


def _said(text: str, tone: str | None = None) -> str:
    """A line that a screen reader reads out when it changes."""
    colour = cards.TONES[tone][0] if tone else cards.INK
    return f'<div role="status" aria-live="polite" style="color:{colour};font-weight:bold">{html.escape(text)}</div>'


def _head(asked: Question | Prediction, kicker: str, note: str = "") -> ipywidgets.HTML:
    above = f'<div style="font-size:0.82em;letter-spacing:0.04em;color:{_GREY}">{html.escape(kicker)}</div>'
    below = f'<p style="margin:2px 0 6px 0;color:{_GREY};font-size:0.93em">{html.escape(note)}</p>' if note else ""
    return ipywidgets.HTML(above + cards.to_html(asked.text) + below)


def _box(children: list[ipywidgets.Widget], name: str) -> ipywidgets.VBox:
    box = ipywidgets.VBox(children, layout={"overflow": "visible"})
    box.add_class(name)
    return box


def _bar(*children: ipywidgets.Widget) -> ipywidgets.HBox:
    bar = ipywidgets.HBox(children)
    bar.add_class("pocourse-bar")
    return bar


def question_box(asked: Question, kicker: str) -> ipywidgets.VBox:
    """A question with a box to tick for each choice, a button that checks, and after that one that explains all."""
    ticks, explanations, rows = {}, {}, []
    for letter, choice in asked.lettered.items():
        ticks[letter] = ipywidgets.Checkbox(
            value=False,
            indent=False,
            description=f"<b>{letter}</b>&ensp;{cards.inline(choice.text)}",
            description_allow_html=True,
            layout={"width": "100%", "height": "auto"},
        )
        explanations[letter] = ipywidgets.HTML("", layout={"display": "none", "margin": "0 0 0 23px"})
        rows.append(_box([ticks[letter], explanations[letter]], "pocourse-row"))
    check = ipywidgets.Button(description="Check", tooltip="Check what is ticked")
    explain = ipywidgets.Button(
        description="Explain all choices", tooltip="Show every explanation", layout={"display": "none"}
    )
    status = ipywidgets.HTML(_before(asked))
    read_up = ipywidgets.HTML(html_read_up(asked))

    def show(letters) -> None:
        for letter, explanation in explanations.items():
            shown = letter in letters
            explanation.value = explained(asked.lettered[letter]) if shown else ""
            explanation.layout.display = "" if shown else "none"

    def on_check(_) -> None:
        chosen = [letter for letter, tick in ticks.items() if tick.value]
        if not chosen:
            status.value = _said("Tick at least one choice first.")
            return
        answer = judge(asked, chosen)
        show(answer.chosen)
        status.value = _said(answer.said, "good" if answer.right else "bad")
        explain.layout.display = ""
        from pocourse.lesson import progress

        progress.record_answer(asked.id, list(answer.chosen), answer.right)

    check.on_click(on_check)
    explain.on_click(lambda _: show(ticks))
    children = [_head(asked, kicker, "One or several may be right."), *rows, _bar(check, explain), status]
    return _box([*children, read_up] if asked.read_up else children, "pocourse-ask")


def _before(asked: Question) -> str:
    """What the reader answered at an earlier time, if anything that still is a choice."""
    from pocourse.lesson import progress

    entry = progress.read()["questions"].get(asked.id) or {}
    try:
        answer = judge(asked, entry.get("chosen") or [])
    except (TypeError, ValueError):
        return _said("")
    on = f" on {entry['when']}" if entry.get("when") else " before"
    return _said(f"You answered {', '.join(answer.chosen)}{on}: {'right' if answer.right else 'not right'}.")


def prediction_box(asked: Prediction, kicker: str) -> ipywidgets.VBox:
    """A prediction with a field or choices, and a button that keeps it."""
    before = kept(asked)
    if asked.lettered:
        options = [(f"{letter}  {text}", text) for letter, text in asked.lettered.items()]
        field = ipywidgets.RadioButtons(options=options, value=before, layout={"width": "100%", "height": "auto"})
        unit = []
    else:
        shown = "" if before is None else f"{before:g}"
        # Sent as a whole, on Enter or on leaving the field: a button pressed right after it finds all that was typed.
        field = ipywidgets.Text(value=shown, placeholder="a number", continuous_update=False, layout={"width": "130px"})
        field.tooltip = "Your prediction, a number"
        unit = [ipywidgets.HTML(html.escape(asked.unit))] if asked.unit else []
    button = ipywidgets.Button(description="Keep", tooltip="Keep this prediction")
    status = ipywidgets.HTML(_said("" if before is None else f"You predicted {quoted(asked, before)}."))

    def on_keep(_) -> None:
        if field.value in (None, ""):
            status.value = _said("Choose one first." if asked.lettered else "Write a number first.")
            return
        try:
            value = allowed(asked, field.value if asked.lettered else _parsed(field.value))
        except ValueError as error:
            status.value = _said(f"Not kept: {error}".replace("`", ""), "bad")
            return
        keep(asked, value)
        status.value = _said(f"Kept: {quoted(asked, value)}. It is shown again beside the result.", "good")

    button.on_click(on_keep)
    if not asked.lettered:
        field.observe(on_keep, names="value")
    line = [field, _bar(button)] if asked.lettered else [_bar(field, *unit, button)]
    return _box([_head(asked, kicker), *line, status], "pocourse-ask")


def _parsed(text: str) -> float | str:
    """What was typed as a number, or else as it stands: the refusal then quotes it."""
    try:
        return float(text.strip().replace("−", "-"))
    except ValueError:
        return text
