"""A speed-up that is read off the points of a plot."""

import torch

from pocourse.lesson.exercises import exercise
from pocourse.lesson.museum import Suspect, catches, clears, piece, yes_or_no
from pocourse.lesson.wrong import Wrong

# ---------------------------------------------------------------- the wrong code, ours


def speedup_off_a_grid(slow, fast, points=16):
    every = max(1, len(slow) // points)
    slow, fast = slow[::every], fast[::every]  # what is drawn
    nearest = (fast - slow[-1]).abs().argmin().double()
    return (len(slow) - 1) / nearest


# ---------------------------------------------------------------- the task


def first_passage(slow, fast):
    return (len(slow) - 1) / int((fast <= slow[-1]).nonzero()[0])


def counted(slow, fast):
    """One iteration after the other, in logarithms."""
    target = slow[-1].log()
    for iteration, value in enumerate(fast):
        if value.log() <= target:
            return (len(slow) - 1) / iteration
    return 0.0


def between_two(slow, fast):
    """A straight line between the last value above and the first one below."""
    after = int((fast <= slow[-1]).nonzero()[0, 0])
    above, below = fast[after - 1], fast[after]
    return (len(slow) - 1) / (after - 1 + (above - slow[-1]) / (above - below))


def by_search(slow, fast):
    """The curve falls: its negative is sorted."""
    return (len(slow) - 1) / int(torch.searchsorted(-fast, -slow[-1]))


def nearest_of_all(slow, fast):
    return (len(slow) - 1) / int((fast - slow[-1]).abs().argmin())


def last_above(slow, fast):
    """The last iteration that is still above, where the other codes take the first that is not."""
    return (len(slow) - 1) / int((fast > slow[-1]).sum() - 1)


def off_a_hundred(slow, fast):
    return speedup_off_a_grid(slow, fast, points=100)


def off_sixteen_logarithms(slow, fast):
    return speedup_off_a_grid(slow.log(), fast.log())


def first_drawn_below(slow, fast):
    """The first of the points drawn that lies below."""
    every = max(1, len(slow) // 16)
    return (len(slow) - 1) / (every * int((fast[::every] <= slow[-1]).nonzero()[0]))


def rounded(slow, fast):
    return float(round(first_passage(slow, fast)))


def turned_round(slow, fast):
    return 1 / first_passage(slow, fast)


def of_the_ends(slow, fast):
    return slow[-1] / fast[-1]


def of_the_slopes(slow, fast):
    """Right for two exponentials."""
    return (fast[0] / fast[-1]).log() / (slow[0] / slow[-1]).log()


def of_the_first_steps(slow, fast):
    """Right where one curve is the other, run through faster."""
    return (fast[0] - fast[1]) / (slow[0] - slow[1])


def running_means(slow, fast):
    """Both curves as means of all that came before. Right where one curve is the other, run through faster."""
    count = torch.arange(1, len(slow) + 1, dtype=slow.dtype)
    return first_passage(slow.cumsum(0) / count, fast.cumsum(0) / count)


def smoothed(slow, fast, window=40):
    """Both curves as means of the last forty values."""
    padded = (torch.cat([x[:1].expand(window - 1), x]).unfold(0, window, 1).mean(-1) for x in (slow, fast))
    return first_passage(*padded)


exact = exercise(
    "zeroth_order.catch_speedup_off_a_grid",
    title="Catch a speed-up with a grid in it",
    section="Bug museum",
    difficulty=3,
    minutes=10,
    task="""
Two methods have run for T iterations. The *speed-up* is T/t, where t is the first iteration at which the fast one is as
low as the slow one at its end. It is a number about the curves: how many of their points somebody draws has no part in
it.

Write `exact(speedup)`. `speedup(slow, fast)` takes two curves of the same length, their values at the iterations 0, 1,
..., T, and returns one number. Return `True` if that is T/t, give or take an iteration or two in t; otherwise `False`.

You choose the curves. Let both be positive and fall strictly, and let the fast one pass the end of the slow one well
after its start and well before its end. Some codes on trial are right for one family of curves alone: for exponentials,
or where one curve is the other run through faster.
""",
    stub="""
def exact(speedup):
    ...
""",
    hints=(
        "A grid of 16 points has its own favourite answers. For which t does it give them, and which t come out wrong? "
        "How long do the curves have to be, for a grid of a hundred points to be coarse?",
        "Take curves whose t is known by hand. `1 - t / 4000` ends at 1/2 after 2000 iterations, and "
        "`1 / (1 + t / first)` is 1/2 at t = first. Which values of `first` does no grid know?",
        "For `first` in, say, 187, 433, 771 and 1290, look at `abs(2000 / float(speedup(slow, fast)) - first)`. It may "
        "be 1, for there are right codes that are one iteration off, and should never be more than 2.",
    ),
    solution="""
def exact(speedup):
    t = torch.arange(2001, dtype=torch.float64)
    slow = 1 - t / 4000
    for first in (187, 433, 771, 1290):
        fast = 1 / (1 + t / first)
        if abs(2000 / float(speedup(slow, fast)) - first) > 2:
            return False
    return True
""",
    after="""
**Know which numbers an instrument can show.** On a grid of 16 points a speed-up is 16/j for a whole number j: 16, 8,
5.33, 4, 3.2 and so on. A truth of 12 is read as 16, and so is one of 30. The digits behind the point look like a
measurement, and belong to the grid.

The mend is one line: look at all iterations. Then say over how many seeds, and whether an iteration costs both methods
the same number of queries.
""",
    parameters=("speedup",),
    returns=yes_or_no,
    probes=lambda: [
        (code,)
        for code in (
            first_passage,
            between_two,
            nearest_of_all,
            speedup_off_a_grid,
            off_a_hundred,
            first_drawn_below,
            rounded,
            turned_round,
            of_the_ends,
            of_the_slopes,
            of_the_first_steps,
            running_means,
            smoothed,
            # These do nothing sensible: they tell tests apart that are wrong in different ways.
            lambda slow, fast: 8.0,
            lambda slow, fast: 16 / 7,
            lambda slow, fast: 1.1 * first_passage(slow, fast),
            lambda slow, fast: first_passage(slow, fast) + 0.004,
            lambda slow, fast: 1e-3 * first_passage(slow, fast),
            lambda slow, fast: 3.7 + 0 * slow[-1],
        )
    ],
)

RIGHT = "which is right"


@exact.requires("clears the first iteration that is low enough")
def _(answer):
    return clears(
        answer,
        [
            Suspect("the first iteration at or below the end of the slow curve", first_passage, RIGHT),
            Suspect("a loop over the logarithms", counted, RIGHT),
            Suspect("a binary search in the falling curve", by_search, RIGHT),
        ],
    )


@exact.requires("clears what is right to within one iteration")
def _(answer):
    why = "which is at most one iteration off"
    return clears(
        answer,
        [
            Suspect("a straight line between two iterations", between_two, why),
            Suspect("the nearest of all iterations", nearest_of_all, why),
            Suspect("the last iteration above the end", last_above, why),
        ],
    )


@exact.requires("catches the published mistake")
def _(answer):
    why = "which knows 16, 8, 5.33, 4 and the like alone"
    return catches(
        answer,
        [
            Suspect("the published mistake", speedup_off_a_grid, why),
            Suspect("the published mistake, in logarithms", off_sixteen_logarithms, why),
        ],
    )


@exact.requires("catches other grids")
def _(answer):
    return catches(
        answer,
        [
            Suspect("a grid of a hundred points", off_a_hundred, "which for long curves is a grid as well"),
            Suspect("the first point drawn that lies below", first_drawn_below, "which is later than the truth"),
            Suspect("a speed-up that is rounded to a whole number", rounded, "which is on a grid of its own"),
        ],
    )


@exact.requires("catches smoothed curves")
def _(answer):
    return catches(
        answer,
        [
            Suspect("means of the last forty values", smoothed, "which lag behind the curves"),
            Suspect(
                "means of all values so far",
                running_means,
                "which remember the start for ever; where one curve is the other run through faster, that cancels",
            ),
        ],
    )


@exact.requires("catches other ratios")
def _(answer):
    return catches(
        answer,
        [
            Suspect("the speed-up turned round", turned_round, "which is below 1 where the truth is above"),
            Suspect("the ratio of the last values", of_the_ends, "which says how low, and not how soon"),
            Suspect("the ratio of the falls in the logarithm", of_the_slopes, "which is right for exponentials alone"),
            Suspect(
                "the ratio of the first steps",
                of_the_first_steps,
                "which is right where one curve is the other run through faster",
            ),
        ],
    )


def _curve(rate, length=1601):
    return (-torch.arange(length, dtype=torch.float64) / rate).exp()


def _line(length=1601, end=0.4):
    return torch.linspace(1, end, length, dtype=torch.float64)


def _within(speedup, slow, fast, room=2.0):
    end, first = len(slow) - 1, int((fast <= slow[-1]).nonzero()[0])
    return abs(end / float(speedup(slow, fast)) - first) <= room


@exact.mutant("always_true", "It says True to everything on trial.")
def _(speedup):
    return True


@exact.mutant(
    "on_the_grid", "Its speed-ups are 2, 4 and 8, and those a grid of 16 points can show. Take others as well."
)
def _(speedup):
    time = torch.arange(1601, dtype=torch.float64)
    slow = 1 - time / 3200
    return all(_within(speedup, slow, 1 / (1 + time / first)) for first in (200, 400, 800))


@exact.mutant("sixteen_iterations", "Its curves have 16 iterations, and a plot with 16 points shows them all.")
def _(speedup):
    return all(_within(speedup, _line(17), _curve(rate, 17), room=1.01) for rate in (5.0, 8.0, 13.0))


@exact.mutant(
    "run_through_faster", "One of its curves is the other run through faster, where ratios of steps are right."
)
def _(speedup):
    return all(_within(speedup, _curve(1500.0), _curve(1500.0 / c)) for c in (2.7, 5.9, 11.3))


@exact.mutant("exponentials", "Its fast curves are exponentials, where the fall of the logarithm tells the time.")
def _(speedup):
    return all(_within(speedup, _line(), _curve(rate)) for rate in (150.0, 420.0, 777.0, 1300.0))


@exact.mutant("within_a_fifth", "It lets a fifth of t pass, and a fine grid is that good.")
def _(speedup):
    curves = [(_line(), _curve(rate)) for rate in (150.0, 420.0, 777.0)]
    return all(_within(speedup, *pair, room=0.2 * float((pair[1] <= pair[0][-1]).nonzero()[0])) for pair in curves)


@exact.mutant("to_the_iteration", "It wants the first iteration exactly. A line between two of them is as good.")
def _(speedup):
    time = torch.arange(2001, dtype=torch.float64)
    return all(_within(speedup, 1 - time / 4000, 1 / (1 + time / t), room=1e-6) for t in (187.3, 433.6, 770.8))


@exact.mutant("more_than_one", "It asks whether the fast curve comes out as the faster. By how much is the question.")
def _(speedup):
    return float(speedup(_line(), _curve(300.0))) > 1


@exact.mutant("faster_is_more", "It asks whether a faster curve has a larger speed-up. A grid keeps the order as well.")
def _(speedup):
    found = [float(speedup(_line(), _curve(rate))) for rate in (900.0, 450.0, 200.0)]
    return found[0] < found[1] < found[2]


@exact.mutant(
    "one_against_itself", "It compares a curve with itself, and 1 is the one answer that everybody gets right."
)
def _(speedup):
    return abs(float(speedup(_curve(700.0), _curve(700.0))) - 1) < 1e-3


@exact.mutant(
    "no_sixteenths",
    "It asks that the result is not 16 over a whole number. A right speed-up can be 8, and there are other grids.",
)
def _(speedup):
    time = torch.arange(2001, dtype=torch.float64)
    found = [float(speedup(1 - time / 4000, 1 / (1 + time / t))) for t in (187, 250, 771)]
    return all(abs(16 / x - round(16 / x)) > 1e-2 for x in found)


@exact.accepts("a parabola and powers, whose meeting is known")
def _(speedup):
    time = torch.arange(3001, dtype=torch.float64)
    slow = 2 - (time / 3000) ** 2
    for first, power in ((157, 1), (471, 2), (1213, 1), (2222, 3)):
        fast = 2 / (1 + (time / first) ** power)
        if not 3000 / (first + 2) < float(speedup(slow, fast)) < 3000 / (first - 2):
            return False
    return True


@exact.accepts("random curves")
def _(speedup):
    generator = torch.Generator().manual_seed(0)
    for _ in range(8):
        steps = torch.rand(2, 3000, generator=generator, dtype=torch.float64) + 0.01
        slow, fast = (5 / (1 + c * x.cumsum(0)) for c, x in zip((0.001, 0.004), steps, strict=True))
        first = int((fast > slow[-1]).sum())
        if abs(2999 / float(speedup(slow, fast)) - first) > 1.5:
            return False
    return True


@exact.accepts("a curve that falls at a single step")
def _(speedup):
    # Nearly level before and after: whatever does not see that step is far off.
    tilt = torch.linspace(1, 0, 2001, dtype=torch.float64) / 100
    slow = 2 + tilt
    for first in (311, 703, 1409):
        fast = torch.where(torch.arange(2001) < first, 4 + tilt, 1 + tilt)
        if abs(2000 / float(speedup(slow, fast)) - first) > 1.5:
            return False
    return True


piece(
    "zeroth_order.speedup_off_a_grid",
    title="A speed-up read off sixteen points",
    section="9",
    wrong=Wrong(
        "speedup_off_a_grid",
        "The curves are thinned out for drawing, and the speed-up is computed from what is drawn: the end of the slow "
        "curve over the nearest point of the fast one. With 16 intervals it can be 16, 8, 5.33, 4 and so on, 16/j for "
        "a whole j, and nothing between. Where the fast method is very fast the grid is coarsest: everything from "
        "about 11 to about 32 reads 16.00.",
        speedup_off_a_grid,
        "a notebook beside the public code of ZoAR",
    ),
    published=(
        "`AdaSmooth`, which carries on the public code of ZoAR, `figures.ipynb`, commit `1a17581` of 2025-12-16. Every "
        "1250th of 20,000 iterations is drawn, and the speed-up is taken from these points. Beside the arrows of its "
        "figures stand 8.00×, 5.33×, 8.00× and 16.00× for one update rule, 16.00× and 5.33× for another: 16 over 2, 3, "
        "2, 1, 1 and 3. That the fast method is faster they do show. For the attack on digits the same notebook "
        "counts single iterations. We found no thread; the file:"
    ),
    thread="https://github.com/hyggy2019/AdaSmooth/blob/1a17581/figures.ipynb",
    corrected="Unchanged at commit `4ef22ae` of 2025-12-16, the newest that we saw.",
    symptom=(
        "On the left are forward differences and ZoAR on a quadratic, the mean of eight seeds each, with the points "
        "that would be drawn. The arrow begins at the point where the speed-up is read; the black mark is where the "
        "curves are really level. On the right is what is read, against the truth: a staircase, and on it the eight "
        "seeds by themselves, whose speed-ups differ and are read as one or two numbers."
    ),
    right=first_passage,
    exercise="zeroth_order.catch_speedup_off_a_grid",
)
