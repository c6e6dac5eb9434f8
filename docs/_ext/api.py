"""The reference of the package: signatures as they are written, docstrings of the house as reStructuredText."""

import ast
import dataclasses
import inspect
import re
import sys
import textwrap

LABELS = ("Shapes", "Gradient", "Yields", "Returns", "Raises", "Source")
_LABEL = re.compile(rf"({'|'.join(LABELS)}): +(?=\S)")
# What is markup: literals, roles, **strong** and *emphasis*. Other bars and stars are mathematics.
_MARKUP = re.compile(
    r"(``.+?``|:[a-z:]+:`[^`]+`|`[^`]+`|\*\*[^*\s](?:[^*\n]*[^*\s])?\*\*|(?<![\w*\\])\*(?=\w)[^*\]\n]*\w\*(?![\w*]))"
)
_EQUATION = re.compile(r"[A-Za-z][\w ()|,\[\]'/^]* (?:=|<=|>=|<|~) \S")


# --- signatures ------------------------------------------------------------------------------------


def written(thing):
    """The node of a function or class in its source, or None where there is no source of its own."""
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(thing)))).body[0]
    except (OSError, TypeError, SyntaxError, IndexError):
        return None


class Addressed(ast.NodeTransformer):
    """Turns the classes of this package into their full names, which Sphinx links and shortens again."""

    def __init__(self, known):
        self.known = known

    def visit_Name(self, node):
        found = self.known.get(node.id)
        if isinstance(found, type) and found.__module__.startswith("pocourse."):
            return ast.copy_location(ast.Name(f"{found.__module__}.{found.__qualname__}"), node)
        return node


def of_function(node, known, *, method):
    """A signature as its source has it, so that a shape reads ``Float[Tensor, "batch action"]``."""
    arguments = node.args
    if method:
        first = arguments.posonlyargs or arguments.args
        del first[0]
    for argument in ast.walk(arguments):
        if isinstance(argument, ast.arg) and argument.annotation:
            argument.annotation = Addressed(known).visit(argument.annotation)
    returns = ast.unparse(Addressed(known).visit(node.returns)) if node.returns else None
    return f"({ast.unparse(arguments)})", returns


def of_class(thing, node, known):
    """What a class is made with: its own ``__init__``, or the fields of a dataclass or named tuple; None for others."""
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            return of_function(part, known, method=True)[0], None
    if not (dataclasses.is_dataclass(thing) or issubclass(thing, tuple)):
        return None
    fields = []
    for part in node.body:
        if isinstance(part, ast.AnnAssign):
            value = part.value
            if isinstance(value, ast.Call):  # field(default_factory=list)
                factory = next((word.value for word in value.keywords if word.arg == "default_factory"), None)
                value = ast.Call(factory, [], []) if factory else value
            default = f"={ast.unparse(value)}" if value else ""
            annotation = ast.unparse(Addressed(known).visit(part.annotation))
            fields.append(f"{ast.unparse(part.target)}: {annotation}{default}")
    return f"({', '.join(fields)})", None


def signature(app, what, name, thing, options, given, returns):
    """Answer autodoc with the signature from the source."""
    node = written(thing) if what in ("function", "method", "class", "exception") else None
    known = vars(sys.modules[thing.__module__]) if node else {}
    if isinstance(node, ast.ClassDef):
        return of_class(thing, node, known)
    if isinstance(node, ast.FunctionDef):
        decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
        return of_function(node, known, method=what == "method" and "staticmethod" not in decorators)
    return None


# --- docstrings ------------------------------------------------------------------------------------


def escaped(line):
    """Bars and stars that are mathematics, so that they are not read as markup."""
    pieces = _MARKUP.split(line)
    return "".join(
        piece if index % 2 else re.sub(r"(?<!\\)([|*])|(?<=\w)_(?!\w)", r"\\\g<0>", piece)
        for index, piece in enumerate(pieces)
    )


def as_rst(lines):
    """A docstring of the house: equations in a block of their own, ``Shapes:`` and its like as fields."""
    made = []
    for block in re.split(r"\n\s*\n", "\n".join(lines).strip("\n")):
        rows = block.splitlines()
        if not rows:
            continue
        if rows[0].startswith((" ", ".. ")) or re.match(r"=+( +=+)+$", rows[0]):
            # A directive and what belongs to it, or a table: bars and stars are the author's affair.
            made += [*(rows if rows[0].startswith((" ", ".. ")) else map(_in_table, rows)), ""]
            continue
        if len(rows) == 1 and made and _EQUATION.match(rows[0]) and not rows[0].endswith("."):
            made += [".. code-block:: text", "", f"    {rows[0]}", ""]
            continue
        for row in rows:
            if found := _LABEL.match(row):
                if made and made[-1] and not made[-1].startswith((":", "   ")):
                    made.append("")
                made.append(f":{found[1]}: {escaped(row[found.end() :])}")
            elif made and made[-1].startswith((":", "   ")) and _in_field(made):
                made.append(f"   {escaped(row.strip())}")
            else:
                made.append(escaped(row))
        made.append("")
    return made


def _in_field(made):
    """Whether the last line belongs to a field, and not to a block of code."""
    for line in reversed(made):
        if line.startswith(":"):
            return True
        if not line.startswith("   "):
            return False
    return False


def _in_table(row):
    """A row of a table, in which an escaped bar takes the place of a space after it: columns keep their places."""
    return re.sub(r"(?<![\w\\|])\|(?=\w+\|)(\S*)(?: (?= )|$)", r"\\|\1", row)


def docstring(app, what, name, thing, options, lines):
    """Answer autodoc with a docstring that reads well."""
    lines[:] = as_rst(lines)


def skip(app, what, name, thing, skipped, options):
    """Leave out the fields of named tuples, which their signature names already."""
    return True if type(thing).__name__ in ("_tuplegetter", "member_descriptor") else None


def setup(app):
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-signature", signature)
    app.connect("autodoc-process-docstring", docstring)
    app.connect("autodoc-skip-member", skip)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
