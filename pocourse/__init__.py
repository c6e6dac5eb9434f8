"""pocourse: a notebook course on policy optimization in which every numbered equation runs.

The map. A chapter is a folder, and all chapters have the same rooms:

====================  =====================================================================
``_check``            the only place that judges tensors and hyperparameters
``worlds``            where policies act: tabular MDPs and bandits (exact), batched CartPole
``engine``            how things are trained: nets with a seed axis, rollout, the loop
``lesson``            what makes it a course: claims, exercises, museum, quiz, figures, records
``policy_gradient``   chapter 1: returns, GAE, the REINFORCE loss
``ratio_clipping``    chapter 2: TRPO's bound, PPO's clip, SPO's parabola
``cli``               ``pocourse lab | run | claims | grade | status``
====================  =====================================================================

Rooms of a chapter: ``objectives`` or ``estimators`` (the equations: tensors in, one value per
sample out), ``claims`` (every numbered equation, executable), ``exercises``, ``museum`` and ``quiz``
(what is asked), ``teaching`` (for instructors), ``figures`` and ``truth``, ``training`` (the last cell).

This module imports nothing heavy, so that ``import pocourse`` is instant; torch comes in with the
chapters.
"""

import os

# Torch's threads wait for each other by spinning. On two cores that are shared with anything else this makes
# a training step up to forty times slower; giving up the spin early costs a twentieth on a quiet machine.
# It is read when torch is loaded, so import pocourse first. A value that is set already stays.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

__version__ = "0.1.0"
