"""The house stands: who may import whom, how equations are documented, and nothing of the workshop left lying about.

Floors, at the level of folders: ``_check`` < ``worlds`` < ``engine``, ``lesson`` < chapters < ``cli``.
Inside a chapter: the equations < claims, explorables, exercises, figures, training.
"""

import ast
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

CHAPTERS = ["policy_gradient", "ratio_clipping", "surrogate_variance", "zeroth_order", "diffusion_dpo"]
FLOORS = {"_check": 0, "worlds": 1, "engine": 2, "lesson": 2, **dict.fromkeys(CHAPTERS, 3), "cli": 4, "__main__": 5}
EQUATIONS = {"objectives", "estimators", "bounds", "optima", "updates", "zoar", "methods", "denoising"}
ABOVE_EQUATIONS = {"bench", "claims", "exercises", "explorables", "figures"}
ABOVE_EQUATIONS |= {"museum", "quiz", "teaching", "training", "truth"}
# Files that may import by a computed name: the command line, and the notebook builder, which
# finds a chapter by the name of its notebook.
DYNAMIC = {"pocourse/cli.py", "pocourse/lesson/notebooks.py"}
OUTSIDE_OF_EQUATIONS = {"torch", "math", "jaxtyping", "typing"}


# --- reading imports -------------------------------------------------------------------------------


def module_of(path):
    """pocourse/worlds/__init__.py -> pocourse.worlds"""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def absolute(name, level, path):
    """The absolute form of a relative import made in the file ``path``."""
    if level == 0:
        return name
    package = path.split("/")[:-1]
    base = package[: len(package) - level + 1]
    return ".".join([*base, *([name] if name else [])])


def imports(path, source, modules):
    """Every module a file imports, with its line; None in place of a name that is computed."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute(node.module, node.level, path)
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield (inner if inner in modules else base), node.lineno
        elif isinstance(node, ast.Call):
            name = getattr(node.func, "attr", None) or getattr(node.func, "id", None)
            if name in ("import_module", "__import__") and node.args:
                target = node.args[0]
                if isinstance(target, ast.Constant) and isinstance(target.value, str):
                    stripped = target.value.lstrip(".")
                    yield absolute(stripped, len(target.value) - len(stripped), path), node.lineno
                else:
                    yield None, node.lineno


def room(module):
    """pocourse.worlds.bandit -> ("worlds", "bandit"); the package itself is ("", "")."""
    parts = [*module.split(".")[1:3], "", ""]
    return parts[0], parts[1]


def violations(sources):
    """Everything in a tree of sources {path: text} that the floors forbid."""
    modules = {module_of(path) for path in sources}
    problems, edges = [], {}
    for path, source in sorted(sources.items()):
        here, part = room(module_of(path))
        if here and here not in FLOORS:
            problems.append(f"{path}: the house has no room {here}")
            continue
        if here in CHAPTERS and part and part not in EQUATIONS | ABOVE_EQUATIONS:
            problems.append(f"{path}: a chapter has no room {part}")
            continue
        for target, line in imports(path, source, modules):
            where = f"{path}:{line}"
            if target is None:
                if path not in DYNAMIC:
                    problems.append(f"{where} imports by a computed name, which no test can read")
                continue
            if target.split(".")[0] != "pocourse":
                if here in CHAPTERS and part in EQUATIONS and target.split(".")[0] not in OUTSIDE_OF_EQUATIONS:
                    problems.append(f"{where} is an equation and imports {target}")
                continue
            there, their_part = room(target)
            if not here and there:
                problems.append(f"{where} imports {target}: the package itself imports nothing")
            elif there and there not in FLOORS:
                problems.append(f"{where} imports {target}: the house has no room {there}")
            elif here and there and here != there:
                edges.setdefault(here, set()).add(there)
                problems += [f"{where} imports {target}: {why}" for why in _between(here, part, there, their_part)]
            elif here in CHAPTERS and part in {*EQUATIONS, ""} and their_part not in EQUATIONS:
                problems.append(f"{where} imports {target}: equations stand below the rest of their chapter")
    return problems + [f"the folders import each other in a circle: {' -> '.join(c)}" for c in circles(edges)]


def _between(here, part, there, their_part):
    if here in CHAPTERS and there in CHAPTERS:
        if CHAPTERS.index(there) > CHAPTERS.index(here):
            yield "a later chapter"
        if their_part not in {*EQUATIONS, ""}:
            yield "of another chapter only the equations"
        return
    if FLOORS[there] > FLOORS[here] or (FLOORS[there] == FLOORS[here] and {here, there} != {"engine", "lesson"}):
        yield f"{here} stands below {there}"
    if here in CHAPTERS and part in {*EQUATIONS, ""} and there != "_check":
        yield "equations know only _check and equations of earlier chapters"


def circles(edges):
    """Circles in the graph of folders, each once."""
    found = set()

    def walk(node, trail):
        for after in edges.get(node, ()):
            if after in trail:
                loop = trail[trail.index(after) :]
                start = loop.index(min(loop))
                found.add((*loop[start:], *loop[:start], min(loop)))
            else:
                walk(after, [*trail, after])

    for node in edges:
        walk(node, [node])
    return sorted(found)


def our_sources():
    return {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted((ROOT / "pocourse").rglob("*.py"))
    }


def test_the_floors_hold():
    assert violations(our_sources()) == []


GOOD = {
    "pocourse/__init__.py": "__version__ = '1'",
    "pocourse/_check.py": "import torch",
    "pocourse/worlds/__init__.py": "from pocourse.worlds.bandit import x",
    "pocourse/worlds/bandit.py": "from pocourse import _check, __version__",
    "pocourse/engine/loop.py": "from .. import worlds\nfrom ..worlds import bandit",
    "pocourse/lesson/claims.py": "from pocourse.engine import loop",
    "pocourse/policy_gradient/__init__.py": "from .estimators import gae",
    "pocourse/policy_gradient/estimators.py": "import torch\nfrom pocourse import _check",
    "pocourse/ratio_clipping/__init__.py": "from pocourse.ratio_clipping import objectives",
    "pocourse/ratio_clipping/objectives.py": "from pocourse.policy_gradient.estimators import gae\nimport math",
    "pocourse/ratio_clipping/bounds.py": "from .objectives import x",
    "pocourse/ratio_clipping/claims.py": "from pocourse.lesson import claims\nfrom . import objectives, bounds",
    "pocourse/ratio_clipping/training.py": "from pocourse.policy_gradient import gae\nimport pocourse.engine.loop",
    "pocourse/cli.py": "def main():\n    from pocourse.ratio_clipping import training",
}


def test_a_good_tree_has_no_violations():
    assert violations(GOOD) == []


@pytest.mark.parametrize(
    ("path", "source", "said"),
    [
        ("pocourse/__init__.py", "from pocourse import worlds", "the package itself imports nothing"),
        ("pocourse/_check.py", "from pocourse.worlds import bandit", "_check stands below worlds"),
        ("pocourse/worlds/bandit.py", "from pocourse.engine import loop", "worlds stands below engine"),
        ("pocourse/worlds/bandit.py", "from ..lesson.claims import x", "worlds stands below lesson"),
        ("pocourse/engine/loop.py", "def f():\n    from pocourse.ratio_clipping import x", "engine stands below"),
        ("pocourse/engine/loop.py", "import pocourse.policy_gradient as p", "engine stands below"),
        ("pocourse/engine/loop.py", "from ..lesson import claims", "in a circle: engine -> lesson -> engine"),
        ("pocourse/lesson/claims.py", "import_module('pocourse.ratio_clipping.claims')", "lesson stands below"),
        ("pocourse/lesson/claims.py", "importlib.import_module('..cli', __package__)", "lesson stands below cli"),
        ("pocourse/lesson/claims.py", "__import__('pocourse.cli')", "lesson stands below cli"),
        ("pocourse/lesson/claims.py", "import_module(f'pocourse.{name}')", "computed name"),
        ("pocourse/ratio_clipping/claims.py", "from pocourse import cli", "ratio_clipping stands below cli"),
        ("pocourse/ratio_clipping/objectives.py", "import numpy as np", "is an equation and imports numpy"),
        ("pocourse/ratio_clipping/objectives.py", "from pocourse import worlds", "equations know only _check"),
        ("pocourse/ratio_clipping/objectives.py", "from pocourse.engine.loop import x", "equations know only _check"),
        ("pocourse/ratio_clipping/objectives.py", "from .claims import x", "equations stand below"),
        ("pocourse/ratio_clipping/objectives.py", "from . import training", "equations stand below"),
        ("pocourse/ratio_clipping/__init__.py", "from . import claims", "equations stand below"),
        ("pocourse/ratio_clipping/__init__.py", "import pocourse.lesson", "equations know only _check"),
        ("pocourse/ratio_clipping/helpers.py", "", "a chapter has no room helpers"),
        ("pocourse/ratio_clipping/training.py", "from pocourse.diffusion_dpo import x", "a later chapter"),
        ("pocourse/surrogate_variance/claims.py", "from pocourse.ratio_clipping.claims import x", "only the equations"),
        ("pocourse/policy_gradient/estimators.py", "from pocourse.ratio_clipping.bounds import x", "a later chapter"),
        ("pocourse/tools/x.py", "", "the house has no room tools"),
        ("pocourse/cli.py", "import pocourse.tools", "the house has no room tools"),
    ],
)
def test_a_violation_is_found(path, source, said):
    # Beside what the file held already, so that one import too many is all that changes.
    tree = {**GOOD, path: GOOD.get(path, "") + "\n" + source}
    assert said in "\n".join(violations(tree))


# --- how equations and worlds are documented --------------------------------------------------------

WORDS = ("Shapes", "Raises", "Source")


def undocumented(path, source):
    """What public functions, and methods of public classes, leave unsaid."""
    tree = ast.parse(source)
    exported = next(
        (
            {element.value for element in node.value.elts}
            for node in tree.body
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
        ),
        set(),
    )

    def public(node):
        return node.name in exported or not node.name.startswith("_")

    problems = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and public(node):
            problems += [f"{path}: {node.name}: {what}" for what in _unsaid(node)]
        elif isinstance(node, ast.ClassDef) and public(node):
            if not ast.get_docstring(node):
                problems.append(f"{path}: {node.name}: no docstring")
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and (method.name == "__init__" or public(method)):
                    problems += [f"{path}: {node.name}.{method.name}: {what}" for what in _unsaid(method)]
    return problems


def _unsaid(node):
    constructor = node.name == "__init__"
    if not constructor:
        docstring = ast.get_docstring(node) or ""
        yield from (f"the docstring says nothing under {word}" for word in WORDS if f"{word}:" not in docstring)
        if node.returns is None:
            yield "what it returns has no annotation"
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
    for argument in arguments:
        if argument is not None and argument.annotation is None and argument.arg not in ("self", "cls"):
            yield f"{argument.arg} has no annotation"


def documented_files():
    sources = our_sources()
    return [p for p in sources if room(module_of(p))[1] in EQUATIONS or p.startswith("pocourse/worlds/")]


@pytest.mark.parametrize("path", documented_files())
def test_equations_and_worlds_are_documented(path):
    assert undocumented(path, our_sources()[path]) == []


def test_the_documented_files_are_found():
    assert {
        "pocourse/ratio_clipping/objectives.py",
        "pocourse/policy_gradient/estimators.py",
        "pocourse/worlds/cartpole.py",
    } <= set(documented_files())


def test_what_is_undocumented_is_found():
    full = '"""X.\n\nShapes: none.\nRaises: nothing.\nSource: ours.\n"""'
    said = undocumented(
        "x.py",
        f"__all__ = ['_shown']\ndef f(a: int, *, b) -> int:\n    {full!r}\ndef _hidden(a): ...\n"
        "def _shown() -> int: ...\nclass W:\n    def __init__(self, *, n): ...\n"
        f"    def step(self):\n        {full!r}\n",
    )
    assert said == [
        "x.py: f: b has no annotation",
        *(f"x.py: _shown: the docstring says nothing under {word}" for word in WORDS),
        "x.py: W: no docstring",
        "x.py: W.__init__: n has no annotation",
        "x.py: W.step: what it returns has no annotation",
    ]


@pytest.mark.parametrize("path", our_sources())
def test_annotations_of_shapes_are_not_turned_into_text(path):
    source = our_sources()[path]
    assert not ("jaxtyping" in source and "from __future__ import annotations" in source)


# --- nothing of the workshop ------------------------------------------------------------------------

# In two halves, for this file not to find itself.
WORKSHOP = ["../sha" + "red", "DESIGN" + ".md", "SYLLABUS" + ".md", "/wo" + "rk/", "/opt/" + "wheels", "/opt/" + "pypi"]
WORKSHOP += ["facts " + "sheet", "facts/" + "mathematics"]


def committed_files(root):
    """What git has or would take: tracked files and untracked ones that are not ignored; all files without git."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        done = subprocess.run(listing, cwd=root, capture_output=True, text=True)
    except FileNotFoundError:
        done = None
    if done is not None and done.returncode == 0:
        names = [name for name in done.stdout.split("\0") if name]
    else:
        names = [path.relative_to(root).as_posix() for path in root.rglob("*")]
        names = [
            n for n in names if not n.startswith((".venv/", ".git/")) and "_cache/" not in n and "__pycache__" not in n
        ]
    return [root / name for name in sorted(names) if (root / name).is_file()]


def left_behind(text):
    return [word for word in WORKSHOP if word.lower() in text.lower()]


def test_nothing_of_the_workshop_is_committed():
    files = committed_files(ROOT)
    assert ROOT / "pyproject.toml" in files
    found = {}
    for path in files:
        try:
            words = left_behind(path.read_text(encoding="utf-8"))
        except UnicodeDecodeError:
            continue
        if words:
            found[path.relative_to(ROOT).as_posix()] = words
    assert found == {}


def test_what_is_left_behind_is_found():
    assert left_behind("see ../sha" + "red/x, and a Facts " + "Sheet") == ["../sha" + "red", "facts " + "sheet"]
    assert left_behind("a design, a workshop, networks/x") == []
