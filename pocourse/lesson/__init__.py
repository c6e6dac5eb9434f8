"""What makes it a course.

===============  ===========================================================================
``claims``       equations that run: ``@claim``, its wrong twins, ``check``
``expect``       numbers in prose that are held to a measurement
``exercises``    what is asked, what a right answer must satisfy, wrong answers that must not
``trial``        running somebody's answer so that nothing it does can hurt the lesson
``grader``       what a learner meets of an exercise: card, verdict, hints, solution
``museum``       published mistakes, each with its symptom and the task to catch it
``questions``    what there is to ask; ``question_cards`` shows it, ``question_boxes`` live
``progress``     what the reader has done, in one local file; ``status`` puts it in words
``explorable``   figures with sliders that need no kernel; ``bench`` where Python recomputes
``cards``        how the course talks to its reader: HTML in a notebook, plain text elsewhere
``figures``      one style for all figures, the band over seeds, alternative text
``bands``        interquartile mean and bootstrap interval
``survival``     time until success where not everybody succeeds: Kaplan-Meier
``profiles``     ci, cpu, gpu: the same training in three sizes
``records``      what a training run leaves behind
``comparisons``  a run of several methods side by side, and its outcome in words
``live``         watching a run
``paths``        where data and the reader's own files are
``notebooks``    building and judging the notebooks, by the rules in ``notebook_rules``
``sheets``       the printable formula sheet, ``teaching`` the instructor's sheet, both generated
===============  ===========================================================================

What needs torch or matplotlib is imported when it is first asked for, so that the command line starts at once.
"""

from pocourse.lesson.expect import expect
from pocourse.lesson.profiles import profile

__all__ = [
    "band",
    "bootstrap_band",
    "card",
    "chapter_quiz",
    "check",
    "compare",
    "entry_check",
    "exhibit",
    "expect",
    "explore",
    "grade",
    "hint",
    "interquartile_mean",
    "label_lines",
    "panels",
    "predict",
    "profile",
    "quiz",
    "show",
    "solution",
    "style",
]


def __getattr__(name: str):
    if name in ("bootstrap_band", "interquartile_mean"):
        from pocourse.lesson import bands as home
    elif name == "check":
        from pocourse.lesson import claims as home
    elif name in ("card", "grade", "hint", "solution"):
        from pocourse.lesson import grader as home
    elif name in ("chapter_quiz", "compare", "entry_check", "predict", "quiz"):
        from pocourse.lesson import question_cards as home
    elif name == "explore":
        from pocourse.lesson import explorable as home
    elif name == "exhibit":
        from pocourse.lesson import museum as home
    elif name in __all__:
        from pocourse.lesson import figures as home
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(home, name)


def __dir__():
    return sorted({*globals(), *__all__})
