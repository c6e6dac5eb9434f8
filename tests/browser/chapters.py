"""The chapters that readers open: for each its notebook, its pages on the site, and its explorables."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from pocourse.diffusion_dpo import explorables as diffusion_dpo
from pocourse.lesson.explorable import Explorable
from pocourse.ratio_clipping import explorables as ratio_clipping
from pocourse.surrogate_variance import explorables as surrogate_variance
from pocourse.zeroth_order import explorables as zeroth_order

ROOT = Path(__file__).parents[2]


class Chapter(NamedTuple):
    """A chapter by the name of its notebook; ``trained`` are explorables that no two machines make alike."""

    stem: str
    builders: Mapping[str, Callable[[], Explorable]]
    trained: tuple[str, ...] = ()

    @property
    def name(self):
        return self.stem.partition("_")[2]

    @property
    def notebook(self):
        return ROOT / "notebooks" / f"{self.stem}.ipynb"

    @property
    def page(self):
        """Where the site has the notebook."""
        return f"notebooks/{self.stem}.html"

    @property
    def pages(self):
        """All of its own that the site has."""
        folders = ("notebooks", "claims", "teaching", "sheets")
        return [*(f"{folder}/{self.stem}.html" for folder in folders), f"api/{self.name}.html"]

    @property
    def ids(self):
        return [f"{self.name}.{which}" for which in self.builders]

    @property
    def computed(self):
        return [f"{self.name}.{which}" for which in self.builders if which not in self.trained]


_ALL = (
    Chapter("02_ratio_clipping", ratio_clipping.EXPLORABLES, trained=("scatter",)),
    Chapter("03_surrogate_variance", surrogate_variance.EXPLORABLES),
    Chapter("04_zeroth_order", zeroth_order.EXPLORABLES),
    Chapter("05_diffusion_dpo", diffusion_dpo.EXPLORABLES),
)
CHAPTERS = {chapter.name: chapter for chapter in _ALL}
IDS = [id for chapter in _ALL for id in chapter.ids]


def chapter_of(id):
    """The chapter of an explorable."""
    return CHAPTERS[id.partition(".")[0]]


@functools.cache
def built(id):
    """An explorable as its chapter computes it, once for all tests."""
    return chapter_of(id).builders[id.partition(".")[2]]()
