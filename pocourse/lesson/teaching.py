"""The instructor's sheet of a chapter: what to show when, which mistake to expect, what to ask, what to cut.

The hand-written part is a ``Guide`` in the chapter's ``teaching`` room. Minutes and equations come from the notebook,
polls from the quiz, wrong answers from the exercises and, where a section has none, from its equations' wrong twins.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pocourse.lesson.outline import Outline, Section


@dataclass(frozen=True)
class Moment:
    """What a teacher needs in one section of the core path.

    ``section`` is its number, or its title where it has none. A numbered section has a misconception, exact, and a
    remedy. ``poll`` is the id of a quiz question; left empty, it is the first question that belongs to the section.
    """

    section: str
    show: str
    misconception: str = ""
    remedy: str = ""
    poll: str = ""


@dataclass(frozen=True)
class Cut:
    """Something that can be left out, with the minutes it saves and what to say in its place."""

    section: str
    minutes: int
    what: str


@dataclass(frozen=True)
class Guide:
    """The hand-written part of an instructor's sheet.

    ``cuts`` stand in the order in which to make them, and ``keep`` says what never to cut. ``links`` pairs words with
    paths from the root, or with addresses.
    """

    about: str
    before: tuple[str, ...]
    moments: tuple[Moment, ...]
    cuts: tuple[Cut, ...]
    keep: str = ""
    links: tuple[tuple[str, str], ...] = ()


def instructor_sheet(
    outline: Outline,
    guide: Guide,
    *,
    claims: Mapping[str, object],
    names: Mapping[str, str],
    questions: Mapping[str, object],
    exercises: Mapping[str, object],
) -> str:
    """The instructor's sheet as Markdown. Raises ValueError where the guide does not fit the notebook or the quiz."""
    moments = _judged(outline, guide, questions)
    by_number = {claim.equation: claim for claim in claims.values()}
    starts, clock = {}, 0
    for section in outline.sections:
        starts[section.key] = clock
        clock += section.minutes

    def named(number: str) -> str:
        return f"({number}) {names[by_number[number].id.partition('.')[2]]}"

    parts = [
        f"<!-- Made by data/make/sheets.py from the notebook, the quiz, the exercises and the chapter's teaching.py. "
        f"Edit those. -->\n\n# Teaching chapter {outline.number}: {outline.title}",
        guide.about,
        "## Before the class\n\n" + "\n".join(f"- {line}" for line in guide.before),
        _table(outline, starts),
    ]
    for section in outline.sections:
        if not section.core:
            continue
        moment = moments[section.key]
        lines = [
            f"## {time(starts[section.key])} · {_called(section)} · {section.minutes} min",
            f"**Show.** {moment.show}",
        ]
        if section.equations:
            lines.append("**On the board.** " + "; ".join(named(number) for number in section.equations) + ".")
        if section.figures:
            lines.append("**Figures.** " + ", ".join(f"`{name}`" for name in dict.fromkeys(section.figures)) + ".")
        if moment.misconception:
            lines.append(f"**They will think:** {moment.misconception}\n\n**What helps.** {moment.remedy}")
        lines += _poll(moment, section, questions)
        lines += _wrong_answers(section, exercises, by_number, named)
        if section.further:
            listed = "\n".join(
                f"- {part.title} · {part.minutes} min"
                + (f": {', '.join(f'({number})' for number in part.equations)}" if part.equations else "")
                for part in section.further
            )
            lines.append(f"**Further, if there is time.**\n\n{listed}")
        parts.append("\n\n".join(lines))
    parts.append(f"## {time(clock)} · End")
    saved = sum(cut.minutes for cut in guide.cuts)
    cuts = "\n".join(
        f"{number}. **{_called(_section(outline, cut.section))}**, saves {cut.minutes} min: {cut.what}"
        for number, cut in enumerate(guide.cuts, 1)
    )
    parts.append(
        f"## Short of time\n\nThe further parts go first; the core path does not need them. Then, in this order, down "
        f"to {outline.core_minutes - saved} minutes:\n\n{cuts}" + (f"\n\n{guide.keep}" if guide.keep else "")
    )
    links = "\n".join(f"- [{words}]({to if '://' in to else '../../' + to})" for words, to in guide.links)
    parts.append(f"## Links\n\n{links}")
    return "\n\n".join(parts) + "\n"


def time(minutes: int) -> str:
    """Minutes as a clock shows them: 75 is 1:15."""
    return f"{minutes // 60}:{minutes % 60:02d}"


def _judged(outline: Outline, guide: Guide, questions: Mapping[str, object]) -> dict[str, Moment]:
    moments = {moment.section: moment for moment in guide.moments}
    keys = [section.key for section in outline.sections if section.core]
    if len(moments) != len(guide.moments) or set(moments) != set(keys):
        raise ValueError(
            f"expected one moment for each section of the core path; missing: {[k for k in keys if k not in moments]}, "
            f"of no section: {[k for k in moments if k not in keys]}, {len(guide.moments)} in all. "
            "Mend the guide in the chapter's teaching.py."
        )
    for key, moment in moments.items():
        if not moment.show or (key.isdigit() and not (moment.misconception and moment.remedy)):
            raise ValueError(
                f"expected what to show in section {key!r}, and with a number a misconception and a remedy; got "
                "something empty. Write it in the chapter's teaching.py."
            )
        if moment.poll and moment.poll not in questions:
            raise ValueError(
                f"expected the id of a quiz question as the poll of section {key!r}; got {moment.poll!r}. Known are: "
                f"{', '.join(sorted(questions)) or 'none'}."
            )
    for cut in guide.cuts:
        if not 0 < cut.minutes <= _section(outline, cut.section).minutes:
            raise ValueError(
                f"expected a cut of at most the {_section(outline, cut.section).minutes} minutes of section "
                f"{cut.section!r}; got {cut.minutes}. Mend the guide in the chapter's teaching.py."
            )
    return moments


def _section(outline: Outline, key: str) -> Section:
    for section in outline.sections:
        if section.key == key:
            return section
    raise ValueError(
        f"expected the number or title of a section; got {key!r}. The notebook has: "
        f"{', '.join(section.key for section in outline.sections)}."
    )


def _called(section: Section) -> str:
    return section.title if section.key == section.title else f"{section.key} {section.title}"


def _table(outline: Outline, starts: Mapping[str, int]) -> str:
    rows = [
        "## Minutes",
        "",
        "| begins | section | core path | with further parts | equations of the core path |",
        "|---:|---|---:|---:|---|",
    ]
    for section in outline.sections:
        numbers = ", ".join(f"({number})" for number in section.equations) or "–"
        rows.append(
            f"| {time(starts[section.key]) if section.core else ''} | {_called(section)} "
            f"| {section.minutes if section.core else '–'} | {section.everything} "
            f"| {numbers} |"
        )
    rows.append(
        f"| {time(outline.core_minutes)} | **in all** | **{outline.core_minutes}** | **{outline.all_minutes}** | |"
    )
    return "\n".join(rows)


def _poll(moment: Moment, section: Section, questions: Mapping[str, object]) -> list[str]:
    own = [q for q in questions.values() if q.section == section.key and q.kind == "quiz"]
    question = questions[moment.poll] if moment.poll else next(iter(own), None)
    if question is None:
        return []
    letters = "abcdefghijklmnopqrstuvwxyz"
    right = [letter for letter, choice in zip(letters, question.choices, strict=False) if choice.right]
    listed = "\n".join(
        f"- **{letter}** {'✓' if choice.right else '✗'} {_one_line(choice.text)}<br>"
        f"*{'Right' if choice.right else 'Reveals'}:* {_one_line(choice.why)}"
        for letter, choice in zip(letters, question.choices, strict=False)
    )
    quoted = "\n".join(f"> {line}".rstrip() for line in question.text.strip().splitlines())
    word = "letter" if len(right) == 1 else "letters"
    return [f"**Poll** (`{question.id}`; right {word}: {', '.join(right)})", quoted, listed]


# How many wrong answers to an exercise are explained, the first ones; half as many where a section has many exercises.
LIKELY = 6


def _wrong_answers(section: Section, exercises: Mapping[str, object], by_number, named) -> list[str]:
    mine = [exercise for exercise in exercises.values() if exercise.section == section.key]
    blocks = []
    likely = LIKELY if len(mine) < 3 else LIKELY // 2
    for exercise in mine:
        listed = "\n".join(
            f"- *{_spoken(wrong.name)}*: {_one_line(wrong.reason)}" for wrong in exercise.mutants[:likely]
        )
        if len(exercise.mutants) > likely:
            rest = ", ".join(_spoken(wrong.name) for wrong in exercise.mutants[likely:])
            listed += f"\n\nThe grader knows these as well: {rest}."
        blocks.append(
            f"**Likely wrong answers** to the exercise “{exercise.title}” (`{exercise.id}`, difficulty "
            f"{exercise.difficulty} of 5, {exercise.minutes} min)\n\n{listed}"
        )
    if not mine and section.equations:
        listed = "\n".join(
            f"- {named(number)}, *{_spoken(twin.name)}*: {_one_line(twin.reason)}"
            for number in section.equations
            for twin in by_number[number].twins
        )
        blocks.append(f"**Likely slips**, the wrong twins that the checks refute\n\n{listed}")
    return blocks


def _spoken(name: str) -> str:
    return name.replace("_", " ")


def _one_line(text: str) -> str:
    return " ".join(text.split())
