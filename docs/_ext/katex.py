"""Mathematics by KaTeX from ``_static``: no other server is asked, and without JavaScript the TeX stays readable."""

import re

from docutils import nodes

from pocourse.lesson.sheets import pieces

CSS = "vendor/katex/katex.min.css"
SCRIPTS = ("vendor/katex/katex.min.js", "math.js")
NOTE = "<noscript><p>Formulas are set by JavaScript; without it you see their TeX.</p></noscript>\n"
_TAG = re.compile(r"\\tag\{([^}]*)\}")
_INNER = re.compile(r"\\begin\{(\w+\*?)\}.*?\\end\{\1\}", re.DOTALL)


def inline(translator, node):
    """Write a formula of a line."""
    start = translator.starttag(node, "span", "", CLASS="math notranslate nohighlight")
    translator.body.append(f"{start}{translator.encode(node.astext())}</span>")
    raise nodes.SkipNode


def parts(tex):
    """The pieces of a formula; lines that are set one below the other stay one piece."""
    if re.search(r"\\\\|(?<!\\)&", _INNER.sub("", tex)):
        return [rf"\begin{{aligned}}{tex}\end{{aligned}}"]
    return pieces(tex)


def display(translator, node):
    r"""Write a displayed formula, in the pieces between which a line may break.

    The number of ``\tag{2.1}`` becomes a link to itself, at the address ``#eq-2.1``.
    """
    tex = node.astext().strip()
    tag = _TAG.search(tex)
    target = {"ids": [f"eq-{tag[1]}"]} if tag else {}
    start = translator.starttag(node, "div", "", CLASS="equation notranslate nohighlight", **target)
    shown = "".join(f'<span class="math">{translator.encode(piece)}</span> ' for piece in parts(_TAG.sub("", tex)))
    number = f'<a class="number" href="#eq-{tag[1]}" title="Link to this equation">({tag[1]})</a>' if tag else ""
    translator.body.append(f"{start}{shown}{number}</div>\n")
    raise nodes.SkipNode


def files(app, pagename, templatename, context, doctree):
    """Load KaTeX on the pages that have a formula, and on no others; a line there says what is missing without it."""
    if context.get("has_maths_elements"):
        context["body"] = NOTE + context["body"]
        app.add_css_file(CSS)
        for script in SCRIPTS:
            app.add_js_file(script, defer="defer")


def setup(app):
    app.add_html_math_renderer("katex", (inline, None), (display, None))
    app.connect("html-page-context", files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
