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
"""

from pocourse.lesson.bands import bootstrap_band, interquartile_mean
from pocourse.lesson.claims import check
from pocourse.lesson.expect import expect
from pocourse.lesson.figures import band, label_lines, panels, show, style
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
