"""The outline of a notebook: its sections with their minutes, equations and figures, read from its text."""

import re
from dataclasses import dataclass, field

_MINUTES = re.compile(r" · (\d+) min$")
_NUMBERED = re.compile(r"(\d+) (.+)")
_TAG = re.compile(r"\\tag\{([^}]*)\}")
_FIGURE = re.compile(r"\bfigures\.(draw_\w+)|\bexplore\(explorables\.(\w+)")
_FURTHER = re.compile(r"further:\s*", re.IGNORECASE)


@dataclass
class Part:
    """Something under a heading: minutes, equations and figures in the order of the text."""

    title: str
    minutes: int = 0
    equations: list[str] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)


@dataclass
class Section(Part):
    """A section, with the further parts that hang on it.

    ``key`` is its number, or its title where it has none. A section that is further as a whole is not ``core``: it has
    no minutes of its own, and itself as its first further part.
    """

    key: str = ""
    core: bool = True
    further: list[Part] = field(default_factory=list)

    @property
    def everything(self) -> int:
        """Its minutes with all further parts."""
        return self.minutes + sum(part.minutes for part in self.further)


@dataclass(frozen=True)
class Outline:
    """What there is to say about a notebook without running it."""

    number: int
    title: str
    sections: tuple[Section, ...]

    @property
    def core_minutes(self) -> int:
        return sum(section.minutes for section in self.sections)

    @property
    def all_minutes(self) -> int:
        return sum(section.everything for section in self.sections)


def outline(book, number: int) -> Outline:
    """Read the outline of a notebook, as ``lesson.notebooks.read_text`` gives it.

    A heading of the third level with the tag ``further`` opens a further part; without it, its minutes, equations and
    figures belong to the section it stands in.
    """
    from pocourse.lesson.notebook_rules import FURTHER, headings, tags

    title, sections, here = "", [], None
    for cell in book.cells:
        marks = {line: (level, text) for level, text, line in headings(cell)}
        for line, words in enumerate(cell.source.splitlines()):
            if line in marks:
                level, text = marks[line]
                minutes = int(found[1]) if (found := _MINUTES.search(text)) else 0
                text = _MINUTES.sub("", text)
                if level == 1:
                    title = text
                elif level == 2 and FURTHER not in tags(cell):
                    numbered = _NUMBERED.fullmatch(text)
                    key, name = (numbered[1], numbered[2]) if numbered else (text, text)
                    here = Section(name, minutes, key=key)
                    sections.append(here)
                elif FURTHER in tags(cell):
                    if FURTHER not in text.lower():
                        raise ValueError(
                            f"expected a heading that says further in a cell with that tag; got {text!r}. Put a line "
                            "+++ before it where the core path goes on."
                        )
                    name = _FURTHER.sub("", text)
                    name = name[:1].upper() + name[1:]
                    if level == 2:
                        sections.append(Section(name, key=name, core=False))
                    here = Part(name, minutes)
                    sections[-1].further.append(here)
                else:
                    sections[-1].minutes += minutes
                    here = sections[-1]
            elif here is not None and cell.cell_type == "markdown":
                here.equations += _TAG.findall(words)
            elif here is not None:
                here.figures += [drawn or moved for drawn, moved in _FIGURE.findall(words)]
    if not title or not sections:
        raise ValueError(
            "expected a notebook with a title and sections; got one without. Begin it with '# Title', and each section "
            "with '## Name · 8 min'."
        )
    return Outline(number, title, tuple(sections))
