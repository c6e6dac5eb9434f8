"""The formula sheet of a chapter: all its checked equations on one printable page.

Everything on it comes from elsewhere: the equations from the claims, the sections from the notebook's text, names and
symbols from the chapter's ``teaching``. The same input gives the same bytes. The page loads nothing: the formulas are
MathML, which browsers draw themselves, and the one font they need is inside.
"""

import base64
import hashlib
import html
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pocourse.lesson.outline import Outline

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer", "--disable-dev-shm-usage")

_UNSIGNED = "digest-of-this-page"
_TOKEN = re.compile(r"\\(?:begin|end|left|right)(?![A-Za-z])|\\[A-Za-z]+|\\.|[{}]|[^\\{}]+", re.DOTALL)
_TITLE = re.compile(r"<title>(.*?)</title>", re.DOTALL)

# As wide as A4 inside its margins, and low enough for US Letter, which is 18 mm shorter.
STYLE = """
@page { size: A4; margin: 8mm 10mm; }
* { box-sizing: border-box; }
html { color-scheme: light; background: #fff; }
body { margin: 0 auto; width: 190mm; background: #fff; color: #1c1f24;
  font: 7.2pt/1.3 Arial, "Liberation Sans", Helvetica, "STIX Two Math of this page", sans-serif;
  -webkit-print-color-adjust: exact; print-color-adjust: exact; }
math { font-family: "STIX Two Math of this page", "STIX Two Math", "Cambria Math", math; font-size: 8pt; }
header { border-bottom: 1.2pt solid #1c1f24; padding-bottom: 1.4mm; }
header .line { display: flex; justify-content: space-between; align-items: baseline; gap: 4mm; }
h1 { margin: 0; font-size: 14pt; line-height: 1.15; letter-spacing: -0.1pt; }
header .of { color: #5b6068; white-space: nowrap; }
.symbols { margin: 1.2mm 0 0; color: #3c4148; line-height: 1.45; }
.symbols span { white-space: nowrap; margin-right: 2.6mm; }
.symbols math { font-size: 7.6pt; color: #1c1f24; }
main { columns: 2; column-gap: 7mm; column-rule: 0.4pt solid #d5d7db; margin-top: 2mm; }
h2 { margin: 1.6mm 0 0.9mm; padding: 0.7mm 1.6mm; font-size: 7.8pt; line-height: 1.2; background: #e9edf3;
  color: #1f3a5f; border-radius: 0.8mm; break-after: avoid; break-inside: avoid; }
h2:first-child { margin-top: 0; }
h3 { margin: 1mm 0 0.3mm; font-size: 7pt; font-weight: normal; font-style: italic; color: #70757d;
  break-after: avoid; break-inside: avoid; }
.equation { margin: 0 0 0.7mm; break-inside: avoid; }
.head { display: flex; gap: 1.6mm; align-items: center; line-height: 3.4mm; }
.number { flex: none; width: 7.4mm; text-align: center; border-radius: 0.8mm; font-weight: bold; font-size: 6.7pt;
  background: #1f3a5f; color: #fff; font-variant-numeric: tabular-nums; }
.further .number { background: none; color: #70757d; font-weight: normal; box-shadow: inset 0 0 0 0.5pt #b9bdc4; }
.name { flex: 1; font-weight: bold; }
.further .name { font-weight: normal; color: #3c4148; }
.kind { color: #8a8f98; font-size: 6.2pt; }
.formula { padding: 0.5mm 0 0 2mm; line-height: 1.2; }
.piece { display: inline-block; max-width: 100%; margin: 0 1.5em 0.5mm 0; }
.piece:last-child { margin-right: 0; }
.when { color: #5b6068; }
footer { display: flex; justify-content: space-between; gap: 4mm; margin-top: 1.6mm; padding-top: 1mm;
  border-top: 0.5pt solid #b9bdc4; color: #5b6068; font-size: 6.4pt; }
footer code { font-family: "Liberation Mono", Consolas, Menlo, monospace; font-size: 0.95em; }
@media screen { body { padding: 9mm 0; zoom: 1.35; } }
@media screen and (max-width: 1000px) { body { zoom: 1.2; width: auto; padding: 4mm; } main { columns: 1; }
  .symbols span { white-space: normal; } .formula { overflow: auto hidden; padding-bottom: 1mm; } }
"""


_RULED = r'<mover>\1<mo stretchy="false">‾</mo></mover>'
_HATTED = r'<mover>\1<mo stretchy="false">^</mo></mover>'


def pieces(tex: str) -> list[str]:
    r"""Cut a formula at its wide spaces, ``\qquad`` and ``\quad``, outside of braces and environments.

    A column is narrower than a notebook: between pieces a line may break. The arrow stays with what follows it.
    """
    found, depth = [""], 0
    for token in _TOKEN.findall(tex):
        depth += {"{": 1, "}": -1, r"\begin": 1, r"\end": -1, r"\left": 1, r"\right": -1}.get(token, 0)
        if token in (r"\qquad", r"\quad") and depth == 0:
            found.append("")
        else:
            found[-1] += token
    joined: list[str] = []
    for piece in (piece.strip() for piece in found):
        if joined and joined[-1] in (r"\Longrightarrow", r"\Longleftrightarrow"):
            joined[-1] += rf"\;\;{piece}"
        elif piece:
            joined.append(piece)
    return joined


def mathml(tex: str, *, displayed: bool = True) -> str:
    r"""A formula as MathML that flows in a line, drawn as large as a displayed one or as one in a text.

    Bars marked ``\big`` stay as they are: browsers set a stretched bar too close to what follows. A bar over a letter
    becomes a rule over it, which does not melt into the tip of an A, and a hat one that keeps off the bar of a π.
    Raises ValueError for TeX that cannot be read.
    """
    from math_core import LatexError, LatexToMathML

    try:
        drawn = LatexToMathML().convert_with_local_state(tex.replace(r"\big|", "|"), displaystyle=displayed)
    except LatexError as error:
        raise ValueError(f"expected TeX that math-core reads; got {tex!r}: {error}. Write it another way.") from error
    drawn = re.sub(r'<mover accent="true">(<mi>\w</mi>)<mo[^>]*>¯</mo></mover>', _RULED, drawn)
    drawn = re.sub(r'<mover accent="true">(<mi>\w</mi>)<mo[^>]*>ˆ</mo></mover>', _HATTED, drawn)
    return drawn.replace('<math display="block">', '<math displaystyle="true">', 1)


def formula(tex: str) -> str:
    """A formula in pieces, conditions in a quieter tone. A piece with a sentence in it may break before its verb."""
    drawn = []
    for piece in pieces(tex):
        quiet = " when" if re.fullmatch(r"\(.*\)", piece) or piece.startswith(r"\text{") else ""
        # Before a verb set as text, and not within "for all a" or "nu such that".
        parts = re.split(r"\\ (?=\\text\{moves )", piece)
        drawn.append(f'<span class="piece{quiet}">{" ".join(mathml(part) for part in parts)}</span>')
    return "".join(drawn)


def formula_sheet(
    outline: Outline,
    claims: Mapping[str, object],
    *,
    names: Mapping[str, str],
    symbols: Sequence[tuple[str, str]],
    font: bytes,
    version: str,
) -> str:
    """The formula sheet as one HTML page, signed with its digest in the title.

    ``claims`` are those of the chapter by id, ``names`` has two to six words for each of them, ``symbols`` pairs TeX
    with words, ``font`` is a WOFF of a mathematical font. Raises ValueError where they do not
    fit together.
    """
    by_number = {claim.equation: claim for claim in claims.values()}
    written = [n for section in outline.sections for part in (section, *section.further) for n in part.equations]
    if sorted(written) != sorted(by_number) or len(by_number) != len(claims):
        raise ValueError(
            f"expected the notebook's equations and the claims to be the same, each once; got {sorted(written)} and "
            f"{sorted(claim.equation for claim in claims.values())}. Run make lint, which says which one is missing."
        )
    check_names(claims, names)
    chapter = next(iter(claims.values())).chapter if claims else ""
    body = []
    for section in outline.sections:
        if not any(part.equations for part in (section, *section.further)):
            continue
        label = section.title if section.key == section.title else f"{section.key}&ensp;{html.escape(section.title)}"
        body.append(f"<h2>{label}</h2>")
        body += [_equation(by_number[number], names, further=False) for number in section.equations]
        for part in section.further:
            if part.equations:
                # A section that is further as a whole is its own further part.
                if part.title != section.title:
                    body.append(f"<h3>Further: {html.escape(part.title[:1].lower() + part.title[1:])}</h3>")
                body += [_equation(by_number[number], names, further=True) for number in part.equations]
    explained = "\n".join(f"<span>{mathml(tex, displayed=False)} {html.escape(words)}</span>" for tex, words in symbols)
    title = html.escape(outline.title)
    page = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Formula sheet {outline.number}: {title} [{_UNSIGNED}]</title>
<link rel="icon" href="data:,">
<!-- Made by data/make/sheets.py from the chapter's claims. The font inside is a part of STIX Two Math,
     Copyright 2001-2021 The STIX Fonts Project Authors, under the SIL Open Font License 1.1. -->
<style>
@font-face {{ font-family: "STIX Two Math of this page";
  src: url("data:font/woff;base64,{base64.b64encode(font).decode("ascii")}") format("woff"); }}
{STYLE.strip()}
</style>
</head>
<body>
<header>
<div class="line"><h1>{title}</h1><div class="of">Formula sheet of chapter {outline.number}</div></div>
<div class="symbols">
{explained}
</div>
</header>
<main>
{chr(10).join(body)}
</main>
<footer><span>Every formula on this page is checked by <code>pocourse claims {chapter}</code>.</span>
<span><b>Dark number</b>: core path. Light number: further.</span><span>pocourse {html.escape(version)}</span></footer>
</body>
</html>
"""
    return page.replace(_UNSIGNED, hashlib.sha256(page.encode()).hexdigest()[:12], 1)


def check_names(claims: Mapping[str, object], names: Mapping[str, str]) -> None:
    """Raise ValueError unless every claim, and nothing else, has a name of two to six words."""
    short = {id.partition(".")[2] for id in claims}
    if short != set(names):
        raise ValueError(
            f"expected a name for every claim; missing: {sorted(short - set(names))}, of no claim: "
            f"{sorted(set(names) - short)}. Write the names in the chapter's teaching.py."
        )
    for id, name in names.items():
        if not 2 <= len(name.split()) <= 6:
            raise ValueError(f"expected two to six words as the name of {id}; got {name!r}. Find a name that fits.")


def _equation(claim, names: Mapping[str, str], *, further: bool) -> str:
    name = html.escape(names[claim.id.partition(".")[2]])
    return (
        f'<div class="equation{" further" if further else ""}" id="eq-{claim.equation}">'
        f'<div class="head"><span class="number">{claim.equation}</span><span class="name">{name}</span>'
        f'<span class="kind">{claim.kind}</span></div><div class="formula">{formula(claim.tex)}</div></div>'
    )


# --- print ----------------------------------------------------------------------------------------


def title_of_page(page: str) -> str:
    """The title of an HTML page, which a browser hands on to the PDF it prints."""
    found = _TITLE.search(page)
    if not found:
        raise ValueError("expected a page with a <title>; got one without. Make it with formula_sheet.")
    return html.unescape(found[1])


def title_of_pdf(pdf: bytes) -> str:
    """The title in a PDF as Chromium writes it, outside of compressed parts; empty where there is none."""
    if found := re.search(rb"/Title\s*<([0-9A-Fa-f\s]*)>", pdf):
        return _text(bytes.fromhex(found[1].decode("ascii")))
    if found := re.search(rb"/Title\s*\(((?:\\.|[^\\)])*)\)", pdf, re.DOTALL):
        octal = re.sub(rb"\\([0-7]{1,3})", lambda match: bytes([int(match[1], 8)]), found[1])
        return _text(re.sub(rb"\\(.)", rb"\1", octal, flags=re.DOTALL))
    return ""


def _text(raw: bytes) -> str:
    return raw[2:].decode("utf-16-be") if raw.startswith(b"\xfe\xff") else raw.decode("latin-1")


def pages_of_pdf(pdf: bytes) -> int:
    """How many pages a PDF as Chromium writes it has."""
    return len(re.findall(rb"/Type\s*/Page(?![A-Za-z])", pdf))


def browser(names: Iterable[str] = BROWSERS) -> str | None:
    """The Chromium of this machine, or None."""
    return next((found for name in names if (found := shutil.which(name))), None)


def run_browser(page: str, *flags: str, timeout: int = 120) -> bytes:
    """Open a page in a fresh headless Chromium with some flags, and return what it prints. It reaches no network.

    Raises ValueError where there is no Chromium.
    """
    found = browser()
    if found is None:
        raise ValueError(f"expected Chromium on this machine; got none of {', '.join(BROWSERS)}. Install one of them.")
    with tempfile.TemporaryDirectory() as fresh:
        place = Path(fresh) / "page.html"
        place.write_text(page, encoding="utf-8")
        nowhere = ("--proxy-server=127.0.0.1:9", "--disable-background-networking", f"--user-data-dir={fresh}/user")
        command = [found, *FLAGS, *nowhere, *flags, place.as_uri()]
        return subprocess.run(command, capture_output=True, check=True, timeout=timeout).stdout


def to_pdf(page: str) -> bytes:
    """Print a page with Chromium. The bytes differ from run to run, by the date in them."""
    with tempfile.TemporaryDirectory() as fresh:
        target = Path(fresh) / "page.pdf"
        run_browser(page, f"--print-to-pdf={target}")
        return target.read_bytes()
