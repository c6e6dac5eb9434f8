"""What makes it a course.

==============  ===========================================================================
``claims``      equations that run: ``@claim``, its wrong twins, ``check``
``expect``      numbers in prose that are held to a measurement
``figures``     one style for all figures, the band over seeds, alternative text
``bands``       interquartile mean and bootstrap interval
``profiles``    ci, cpu, gpu: the same training in three sizes
``records``     what a training run leaves behind
``live``        watching a run
``paths``       where data and the reader's own files are
``notebooks``   building and judging the notebooks
==============  ===========================================================================

What needs torch or matplotlib is imported when it is first asked for, so that the command line starts at once.
"""

from pocourse.lesson.expect import expect
from pocourse.lesson.profiles import profile

__all__ = [
    "band",
    "bootstrap_band",
    "check",
    "expect",
    "interquartile_mean",
    "label_lines",
    "panels",
    "profile",
    "show",
    "style",
]


def __getattr__(name: str):
    if name in ("bootstrap_band", "interquartile_mean"):
        from pocourse.lesson import bands as home
    elif name == "check":
        from pocourse.lesson import claims as home
    elif name in __all__:
        from pocourse.lesson import figures as home
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(home, name)


def __dir__():
    return sorted({*globals(), *__all__})
