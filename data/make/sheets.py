"""Make the formula sheets under docs/sheets/ and the instructor's sheets under docs/teaching/.

Run by `make data`; seconds. Every notebook whose chapter has a `teaching` room gets both. A PDF is printed anew only
where it does not belong to its page; that, and nothing else, needs Chromium.
"""

import importlib
import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHEETS, TEACHING = ROOT / "docs" / "sheets", ROOT / "docs" / "teaching"
FONT = SHEETS / "stix-two-math.woff"


def of_chapter(path: Path) -> tuple[str, str]:
    """The formula sheet (HTML) and the instructor's sheet (Markdown) of a notebook."""
    import pocourse
    from pocourse.lesson import notebooks, outline, sheets, teaching

    number, _, chapter = path.stem.partition("_")
    read = outline.outline(notebooks.read_text(notebooks.text_of(path)), int(number))
    claims = {id: claim for id, claim in notebooks.chapter_claims(path).items() if claim.chapter == chapter}
    room = importlib.import_module(f"pocourse.{chapter}.teaching")
    page = sheets.formula_sheet(
        read,
        claims,
        names=room.NAMES,
        symbols=room.SYMBOLS,
        font=FONT.read_bytes(),
        version=pocourse.__version__,
    )
    guide = teaching.instructor_sheet(
        read,
        room.GUIDE,
        claims=claims,
        names=room.NAMES,
        questions=registered("questions", chapter, "quiz"),
        exercises=registered("exercises", chapter, "exercises", "museum"),
    )
    return page, guide


def registered(kind: str, chapter: str, *rooms: str) -> dict[str, object]:
    """What a chapter registers as ``kind`` in its rooms of these names, where it has them."""
    for room in rooms:
        if importlib.util.find_spec(f"pocourse.{chapter}.{room}"):
            importlib.import_module(f"pocourse.{chapter}.{room}")
    entries = importlib.import_module(f"pocourse.lesson.{kind}").registry()
    return {id: entry for id, entry in entries.items() if id.split(".")[0] == chapter}


def chapters() -> list[Path]:
    """The notebooks whose chapters have a ``teaching`` room."""
    from pocourse.lesson.notebooks import shipped

    return [path for path in shipped() if (ROOT / "pocourse" / path.stem.partition("_")[2] / "teaching.py").exists()]


def main() -> int:
    """Write both sheets of every chapter; 1 where something does not fit, or where a PDF cannot be printed here."""
    try:
        for path in chapters():
            write(path)
    except ValueError as error:
        print(f"{path.stem}: {error}", file=sys.stderr)
        return 1
    return 0


def write(path: Path) -> None:
    """Write the sheets of one notebook, the PDF only where it does not belong to the page any more."""
    from pocourse.lesson import sheets

    page, guide = of_chapter(path)
    SHEETS.mkdir(parents=True, exist_ok=True)
    TEACHING.mkdir(parents=True, exist_ok=True)
    (TEACHING / f"{path.stem}.md").write_text(guide, encoding="utf-8", newline="\n")
    (SHEETS / f"{path.stem}.html").write_text(page, encoding="utf-8", newline="\n")
    pdf = SHEETS / f"{path.stem}.pdf"
    if not pdf.exists() or sheets.title_of_pdf(pdf.read_bytes()) != sheets.title_of_page(page):
        pdf.write_bytes(sheets.to_pdf(page))


if __name__ == "__main__":
    sys.exit(main())
