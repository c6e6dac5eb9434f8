"""How the tests are shared out among the workers of ``make test``: in units that stay whole, the longest first."""

import re

# A file is a unit, and so are the cells of a notebook. These files stay together: what the tasks of museums and the
# explorables of pages compute is computed once; and while one test puts a notebook into the checkout for a moment,
# no other reads all files of it.
TOGETHER = {
    r"tests/test_(\w+_)?museum(_pieces)?\.py": "tests/museum",
    r"tests/test_(house|offline)\.py": "tests/test_house.py",
    r"tests/browser/test_(access|explorable_pages)\.py": "tests/browser/explorables",
}
# In these, what is done with one notebook is a unit by itself.
APART = r"tests/(browser/test_lab|test_notebooks)\.py::.*\[.*?(?P<chapter>{})"
# The order in which units are given out. One that is long and not named here may leave a worker idle at the end.
ORDER = (
    r"notebooks/",
    r"tests/test_notebooks",
    r"tests/museum",
    r"tests/test_\w+_(exercises|explorables|training)",
    r"tests/test_(bench|claims|grade|lesson|site|worlds_\w+)",
    r"tests/(?!browser/)",
    # Playwright leaves an event loop over which others stumble: a worker that has begun with it does nothing else.
    r"tests/browser/explorables",
    r"tests/browser/",
)


def unit(nodeid, chapters):
    """The unit that a test belongs to; ``chapters`` are the names of the notebooks."""
    if found := re.match(APART.format("|".join(chapters)), nodeid):
        return f"{nodeid.partition('::')[0]} {found['chapter']}"
    file = nodeid.partition("::")[0]
    return next((name for pattern, name in TOGETHER.items() if re.fullmatch(pattern, file)), file)


def rank(unit):
    """When a unit's turn comes."""
    return next(place for place, pattern in enumerate(ORDER) if re.match(pattern, unit))


def scheduler(config, log):
    """pytest-xdist's ``loadfile``, with these units and in this order."""
    from xdist.scheduler import LoadFileScheduling

    chapters = sorted(path.stem.partition("_")[2] for path in config.rootpath.glob("notebooks/*.ipynb"))

    class Units(LoadFileScheduling):
        def _split_scope(self, nodeid):
            return unit(nodeid, chapters)

        def _assign_work_unit(self, node):
            self.workqueue.move_to_end(min(self.workqueue, key=rank), last=False)
            super()._assign_work_unit(node)

    return Units(config, log)
