"""Cards: how the course talks to its reader, as HTML in a notebook and as plain text everywhere else.

The texts of exercises, quizzes and museum pieces are written once, with plain Unicode mathematics
and a small markup: blank lines part paragraphs, ``- `` begins an item of a list, fences hold code,
and ``code``, **bold** and *emphasis* work inside a line. The same text reads well in a terminal.
"""

import html
import re
import sys

PAPER, INK, FAINT, RED = "#fdfcf9", "#22252a", "#8a8f98", "#a3231f"
# Border and background of a card. What a tone means, the text says in words as well: colour alone says nothing.
TONES = {
    "plain": (FAINT, PAPER),
    "good": ("#2f7d4f", "#f1f8f2"),
    "bad": (RED, "#fdf3f0"),
    "open": ("#b58900", "#fcf8ea"),
}
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"

_FENCE = re.compile(r"^```[^\n]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
_ANY_CODE = re.compile(_FENCE.pattern + r"|`[^`\n]+`", re.MULTILINE | re.DOTALL)
_BOLD = re.compile(r"\*\*(?=\S)(.+?)(?<=\S)\*\*")
_SLANTED = re.compile(r"(?<![\w*])\*(?!\s)([^*]+?)(?<!\s)\*(?![\w*])")
ADDRESS = re.compile(r"https://[^\s<>\"'`]*[^\s<>\"'`.,;:)]")
_CODE = (
    "font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:0.92em;"
    f"background-color:#efede6;color:{INK};border-radius:3px"
)
# Short: it stands in a notebook hundreds of times.
_IN_LINE = f"background-color:#efede6;color:{INK}"


def to_html(text: str) -> str:
    """The small markup of the course as HTML. Everything in it is escaped: it can hold no tags of its own."""
    parts, end = [], 0
    for fence in _FENCE.finditer(text):
        parts += [_paragraphs(text[end : fence.start()]), code_block(fence[1])]
        end = fence.end()
    return "".join([*parts, _paragraphs(text[end:])])


def code_block(code: str) -> str:
    """A block of code as HTML."""
    block = f"{_CODE};padding:8px 10px;margin:6px 0;overflow-x:auto;white-space:pre;word-break:normal"
    return f'<pre style="{block}">{html.escape(code.rstrip())}</pre>'


def _paragraphs(text: str) -> str:
    found = []
    for block in re.split(r"\n\s*\n", text.strip()):
        lines = block.strip().splitlines()
        items: list[str] = []
        before: list[str] = []
        for line in lines:
            if line.lstrip().startswith("- "):
                items.append(line.lstrip()[2:])
            elif items:
                items[-1] += " " + line.strip()
            else:
                before.append(line.strip())
        if before:
            found.append(f'<p style="margin:6px 0">{inline(" ".join(before))}</p>')
        if items:
            listed = "".join(f'<li style="margin:3px 0">{inline(item)}</li>' for item in items)
            found.append(f'<ul style="margin:6px 0;padding-left:22px">{listed}</ul>')
    return "".join(found)


def inline(text: str) -> str:
    """The part of the markup that works inside a line; addresses become links that open beside the lesson."""

    def styled(piece: str) -> str:
        piece = _SLANTED.sub(r"<i>\1</i>", _BOLD.sub(r"<b>\1</b>", piece))
        return ADDRESS.sub(lambda found: link(found[0], found[0].removeprefix("https://")), piece)

    pieces = html.escape(text, quote=False).split("`")
    if len(pieces) % 2 == 0:  # a single backtick is a backtick
        return styled("`".join(pieces))
    return "".join(
        f'<code style="{_IN_LINE}">{piece}</code>' if index % 2 else styled(piece) for index, piece in enumerate(pieces)
    )


def link(address: str, text: str) -> str:
    """A link that opens beside the lesson. Both are HTML already."""
    return f'<a href="{address}" target="_blank" rel="noopener" style="color:#0b5394">{text}</a>'


def to_plain(text: str) -> str:
    """The small markup as plain text: what is bold or slanted is not marked, code keeps its backticks."""
    parts, end = [], 0
    for code in _ANY_CODE.finditer(text):
        parts += [_SLANTED.sub(r"\1", _BOLD.sub(r"\1", text[end : code.start()])), code[0]]
        end = code.end()
    return "".join([*parts, _SLANTED.sub(r"\1", _BOLD.sub(r"\1", text[end:]))])


def card(title: str, body: str, *, tone: str = "plain", kicker: str = "") -> str:
    """A card as HTML that needs no style sheet: light and opaque, so that it reads the same on a dark page.

    ``title`` and ``kicker``, a small line above it, are plain text; ``body`` is HTML.
    """
    if tone not in TONES:
        raise ValueError(f"expected tone as one of {', '.join(TONES)}; got {tone!r}. Choose one of them.")
    border, background = TONES[tone]
    above = (
        f'<div style="font-size:0.82em;letter-spacing:0.04em;color:#5b6068">{html.escape(kicker)}</div>'
        if kicker
        else ""
    )
    return (
        f'<div style="border:1px solid {border};border-left:5px solid {border};border-radius:4px;'
        f"background-color:{background};color:{INK};padding:10px 14px;margin:6px 0;max-width:820px;"
        f'line-height:1.5;font-size:14px">{above}'
        f'<div style="font-weight:bold;font-size:1.08em;margin-bottom:2px">{inline(title)}</div>{body}</div>'
    )


def folded(summary: str, body: str) -> str:
    """A part that opens when it is clicked; on a page without a kernel as well."""
    return (
        f'<details style="margin:6px 0"><summary style="cursor:pointer;font-weight:bold">{inline(summary)}</summary>'
        f'<div style="padding:2px 0 2px 16px">{body}</div></details>'
    )


def in_kernel() -> bool:
    """Whether outputs go to a notebook and not to a terminal."""
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return getattr(get_ipython(), "kernel", None) is not None


def put(plain: str, html: str, widget=None) -> None:
    """Show a card in a notebook, or print it.

    A live widget is an output of its own, after the card, and hides the card once it is really there. So the card stays
    where no kernel stands behind the page, also when a notebook is opened again whose widgets have died.
    """
    if not in_kernel():
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"  # a terminal may know few letters
        print(plain.encode(encoding, "backslashreplace").decode(encoding))
        return
    from IPython.display import display

    plain, html = (text.encode("utf-8", "backslashreplace").decode() for text in (plain, html))
    display({"text/plain": plain, "text/html": html}, raw=True)
    if widget is not None:
        import ipywidgets

        script = {"output_type": "display_data", "data": {"text/html": _KEYS, "text/plain": ""}, "metadata": {}}
        unseen = [
            ipywidgets.HTML(_HIDES, layout={"display": "none"}),
            ipywidgets.Output(outputs=(script,), layout={"display": "none"}),
        ]
        live = ipywidgets.VBox([*unseen, widget], layout={"overflow": "visible"})
        live.add_class("pocourse-live")
        display({"text/plain": "(a live form, for which a kernel has to run)", **view(live)}, raw=True)


def view(widget) -> dict:
    """The part of an output that shows a widget."""
    return {WIDGET_VIEW: widget._repr_mimebundle_()[WIDGET_VIEW]}


_HIDES = "<style>.jp-OutputArea-child:has(+ .jp-OutputArea-child .pocourse-live) {display: none}</style>"
# In JupyterLab the arrow keys, Enter and letters belong to the notebook unless the focused element asks for them. The
# fields of ipywidgets do not ask; with this, those on the cards of the course do.
_KEYS = """<script>
if (!window.pocourseKeys) {
  window.pocourseKeys = true;
  document.addEventListener('focusin', event => {
    if (event.target.closest && event.target.closest('.pocourse-live')) {
      event.target.setAttribute('data-lm-suppress-shortcuts', 'true');
    }
  });
}
</script>"""
