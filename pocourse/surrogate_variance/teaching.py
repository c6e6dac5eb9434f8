"""For teachers and for the formula sheet: names of the equations, symbols, and the guide through the chapter."""

from pocourse.lesson.teaching import Cut, Guide, Moment

# Two to six words for every claim of the chapter.
NAMES = {
    "mean_ratio": "The mean ratio is one",
    "chi_square": "Variance of the ratio: chi-square",
    "surrogate_variance": "Variance of a batch's surrogate",
    "effective_sample_size": "Effective sample size",
    "tilt": "Variance along the advantage",
    "deviation_below": "Deviation bounds variance from below",
    "deviation_says_no_more": "One deviation, unbounded variance",
    "sign_bound": "Our bound in one sign class",
    "state_bound": "Our bound over states",
    "pair_matrix": "Variance from all pairs",
    "pair_sum_order": "Ranking pairs is ranking x",
    "dropping_bias": "The bias of any dropping",
    "dropping_raises_the_mean": "Dropping the smallest raises means",
    "dropping_splits_the_variance": "Variance of kept and dropped",
    "dropping_can_raise_the_variance": "Dropping can raise the variance",
    "control_variate": "The ratio as a control variate",
    "control_variance": "Variance with the best coefficient",
    "centred_surrogate": "The advantage taken away",
    "spo_penalty": "Equal |A|: SPO charges for variance",
    "filtering": "Weights choose another policy",
    "sampling_error_order": "Size of the sampling error",
    "sampling_error_entropy": "Sampling error is missing entropy",
    "greedy_baseline": "When a greedy baseline hurts",
    "normalised_variance": "Normalised: one by construction",
}

SYMBOLS = (
    (r"\pi,\ \pi'", "old policy, new policy"),
    (r"r=\pi'(a\mid s)/\pi(a\mid s)", "ratio"),
    (r"A", "advantage under π"),
    (r"x=rA", "one term of the surrogate"),
    (r"L=\mathbb{E}_\pi[x]", "surrogate of one state"),
    (r"C", "sign class: A ≥ 0, or A < 0"),
    (r"q(a)=\pi(a)/\pi(C)", "old policy within the class"),
    (r"L_q,\ \operatorname{Var}_q,\ q_{\min}", "its mean, variance and least probability"),
    (r"\chi^2(\pi'\,\|\,\pi)", "see (3.2)"),
    (r"n", "samples"),
    (r"t", "size of the step"),
    (r"d(s)", "how often a state is visited"),
    (r"v,\ S", "variance (divisor n) and sum of a batch"),
    (r"P", "share that is kept"),
    (r"\rho", "correlation"),
    (r"f_{\mathrm{SPO}}", "SPO's objective (2.19)"),
    (r"\epsilon", "its range"),
    (r"H", "entropy"),
    (r"\bar A,\ \sigma_A", "mean and standard deviation of a batch"),
    (r"p=\pi(1)\ge\tfrac12,\ R_1,\ R_2", "two arms under a softmax, with their rewards"),
    (r"g_b=(e_a-\pi)(R_a-b)", "gradient sample with baseline b"),
)

GUIDE = Guide(
    about=(
        "For whoever teaches this chapter to a class. Every section has its clock, what to show, the thought that "
        "most of the class will have and that is wrong, and what helps against it. The poll comes *before* the "
        "explanation: let everybody choose letters alone, then let neighbours talk for a minute, then choose again. "
        "Under each wrong choice stands what it reveals. Read the wrong answers beforehand: they are the questions "
        "you will be asked."
    ),
    before=(
        "Run the notebook once, to the end (some minutes of training on two CPU cores), and leave it open.",
        "Hand out the formula sheet: one page, with all symbols at its head. Dark numbers are the core path.",
        'Set `entry_check("surrogate_variance")` as homework. A variance as a mean square less a squared mean, and the '
        "variance of a mean of n samples, are needed in the first five minutes.",
        "Know what must not be claimed. Of the paper on D-PPO its abstract was readable to us, and nothing else: the "
        "bounds (3.8) and (3.9), the rule in `sign_dropout_mask` and its fraction are ours. No result of this notebook "
        "is a replication of that paper, or a refutation of it.",
        "Leave three lines on the board for the whole hour: x = rA; C, one sign of A; q = π / π(C). Every variance in "
        "section 3 is *conditional*, within one class, and most questions of that section come from forgetting it.",
        "Choose now which of the further parts you want. Those to choose first are the exercise in section 4, which "
        "builds the mask, and the other bandits in section 8, which say how far one bandit can be trusted; nothing on "
        "the core path needs any of them. The polls of sections 2, 8 and 9 come from further parts, and can be "
        "answered without them: each takes no more than a variance by hand.",
    ),
    moments=(
        Moment(
            "Words and symbols",
            "The table, for a minute, and then only two of its rows: x = rA, since everything from here on is about "
            "how x scatters, and the sign class with its q, since that is where a variance is going to be bounded.",
        ),
        Moment(
            "Predict before you run",
            "The predictions, before anybody has seen a number: how many of 100 samples are left, and what dropping "
            "and correcting do to the error of 16. Write the class's smallest and largest guess on the board and do "
            "not comment. The first comes back in section 2, the two on 16 samples in section 8.",
        ),
        Moment(
            "1",
            "The last sum of (3.2), with a circle around the π(a) below the fraction. Move 0.1 of mass onto an action "
            "of probability 0.5: its term is 0.02. Onto one of probability 0.05: 0.2. Then (3.4) beside it, the same "
            "number counted in samples.",
            misconception=(
                "“The mean of the ratio is one, so on average weighting costs nothing”, or “the effective sample size "
                "says how good my estimate is.” The first reads a mean as if it were a variance; the second forgets "
                "that the size knows nothing of the advantage."
            ),
            remedy=(
                "The last choice of the poll, on the board: A = 4 where r = ¼, and A = 0 where r = 4. The products are "
                "1, 1, 1, 1, 0, and they scatter far *less* than A alone, with 1.5 effective samples of 5. Say that "
                "section 6 turns this into a method."
            ),
            poll="surrogate_variance.samples_left",
        ),
        Moment(
            "2",
            "The figure, first along the advantage: pull t and let somebody read the samples that are left. Make the "
            "rarest action rarer, and nothing much happens. Ask who would stop here, then turn the direction round. "
            "On the board t² Var A beside e^{K(2t) − 2K(t)} − 1: begins as the one, goes on as the other.",
            misconception=(
                "“Chapter 2's gauge was small, so the variance is small.” The square of that gauge is a floor "
                "under the variance of the ratio, and no ceiling."
            ),
            remedy=(
                "The two updates of the poll have one gauge and two prices. Let the class find a third one with the "
                "same gauge and ten times the price: it only takes a rarer action, since mass δ/2 on an action of "
                "probability p costs at least δ²/(4p). Whoever asks for the proof gets the further part, (3.7)."
            ),
            poll="surrogate_variance.same_deviation",
        ),
        Moment(
            "3",
            "First the note on where this comes from, aloud and unshortened. Then the proof, one sign at a time: at "
            "each ≥ ask what has been left out, and why that was allowed. Where one sign was needed has to be said by "
            "the class: all products x(a) x(b) are at least zero. End with equality, one rare lucky action.",
            misconception=(
                "“This is D-PPO's theorem”, and “it holds for the whole batch; the sign only makes the proof shorter.” "
                "The abstract announces a bound that can grow with the square, ours does, and theirs may be another. "
                "And with both signs together the statement is false."
            ),
            remedy=(
                "The numbers of the poll: over all three actions the mean is 0.2 − 0.2 = 0, so the formula would "
                "promise no variance, and there is 0.45. Then mix conventions on purpose, as in the second choice, "
                "and let them see it fail. Last, the share that is used: with five actions under a fifth, in the "
                "median. The bound is about the worst case; it predicts nothing about a usual one."
            ),
            poll="surrogate_variance.one_convention",
        ),
        Moment(
            "4",
            "Four numbers on the board, 3, 1, −2, −6, and their table of products. Take the poll, then pull xᵢ out of "
            "each row: what is left is S for everybody. In the figure choose each rule in turn, and before you do, ask "
            "who will go: along the curves of equal x, outside a strip, from two corners.",
            misconception=(
                "“Dropout means by lot, or units of the network”, and “to drop the smallest x is to drop what lies "
                "next to zero.” In the class A < 0 the smallest x is the one *farthest* from zero, the worst sample."
            ),
            remedy=(
                "Write −6 < −2 and ask which one is the smaller. Then add a fifth sample, x = 10: S changes its sign, "
                "and the order of the row sums turns round while nobody has touched the other four. That is why our "
                "rule ranks x itself. Say again that it is a reconstruction, and that PPO's clip drops nothing: its "
                "samples stay in the mean, and lose a slope."
            ),
            poll="surrogate_variance.row_sums",
        ),
        Moment(
            "5",
            "(3.12) from nothing: write E[xk]/P, subtract E[x], and wait until somebody calls the numerator a "
            "covariance. Ask for a rule without bias. “By lot” is right, and so is any rule that has nothing to do "
            "with x; then let them judge the rules of section 4.",
            misconception=(
                "“As many good samples go as bad ones, so the mean stays”, or “it is a bias of small batches and goes "
                "away with n.” Dropping the lowest raises the mean in *both* classes, and there is no n in (3.12)."
            ),
            remedy=(
                "Let them do the poll's ten numbers by hand: 1 and −5 go, not 1 and −1. Both classes rise by 0.5, and "
                "so does the whole. To whoever objects that surely the *variance* falls: 1, 1, 1, 1, 10, without one "
                "of the ones (3.15). For bell-shaped x it does fall, and the mean pays for it."
            ),
            poll="surrogate_variance.which_way",
        ),
        Moment(
            "6",
            "Ask what is known about a batch before one has looked at it. Wait for “the ratios average one”. Then the "
            "parabola in c on the board: its height at 0, its lowest point, and the same height again at twice the "
            "best c. Only then the number that is left, in the last cell.",
            misconception=(
                "“c = 1, since the mean of r is 1”, or “something is subtracted, so it must be biased.” What is "
                "subtracted has mean zero whatever c is; and c has the unit of A, so no number is right for all."
            ),
            remedy=(
                "Keep two sentences apart: a c that is known beforehand costs nothing, and a c that is fitted to the "
                "same batch has a bias of order 1/n and scatters itself. The title is about the first. The second is "
                "what one does, and section 8 shows where it wins and where it loses."
            ),
            poll="surrogate_variance.what_a_fit_costs",
        ),
        Moment(
            "8",
            "The table, with a sheet of paper over all columns but the bias. Let them give each bias its cause: "
            "(3.13), (3.12), a coefficient that was fitted, or an objective that is meant to be lower. Say how it was "
            "made: every batch there is, none drawn. Uncover the variance and take the poll on why dropping has raised "
            "it. End with the frontier, in a random direction.",
            misconception=(
                "“Sample Dropout is the better estimator, the table says so at 0.3 and 0.6”, “the control variate "
                "always wins”, or “SPO's error is enormous, so SPO is bad.” One bandit proves that something can "
                "happen."
            ),
            remedy=(
                "For the first, the row at 0.1, where it loses, and the jumps in the figure: an action has left the "
                "strip, and what remained happened to lie near the truth. For the second, the random direction. For "
                "the third: clip and SPO were never estimates of the surrogate. If you can spare three minutes, run "
                "the other bandits: dropping by either rule loses more often than it wins."
            ),
            poll="surrogate_variance.more_variance",
        ),
        Moment(
            "Bug museum",
            "The piece on the core path: its code, and the option's name, and not yet what is wrong. Ask for a test of "
            "“unbiased” that needs no random number, and try two or three of theirs. “The weights average one” is not "
            "enough: in the world of the figure they do. Be fair: what was published is the name of an option, and we "
            "know of no such sentence in the paper.",
        ),
        Moment(
            "9",
            "The dictionary `methods`: one line is one method, all else is equal. Start the cells, and while they run "
            "take the poll and read the axes: three panels, the two variances on logarithmic axes, pale bands for the "
            "recorded run. On a CPU Breakout is played by two of the four.",
            misconception=(
                "“The curve of the variance went up, so the method has lost control.” Advantages are normalised over "
                "the whole batch, whose variance at r = 1 is 1 whatever they were; within a class it also depends on "
                "how the batch is split between the classes."
            ),
            remedy=(
                "Half of the samples at 1 and half at −1: variance 1 together, and 0 within each class, without any "
                "ratio. So no value of these curves means something by itself. What can be read is the quotient of the "
                "next section, the same samples with their ratios and with r = 1."
            ),
            poll="surrogate_variance.one_by_construction",
        ),
        Moment(
            "10",
            "The table, its columns in this order: return, largest mean |r − 1|, against r = 1, of the kept. Expect on "
            "CartPole that PPO, D-PPO and SPO reach the top; that Sample Dropout lets the ratios run away, with a "
            "variance well above that of A alone; and that D-PPO's, over the whole batch, is a little *above* PPO's. "
            "On Breakout expect PPO ahead of D-PPO. Keep the two readings apart: what the mask keeps scatters less in "
            "the class A < 0, by construction; the batch as a whole does not.",
            misconception=(
                "“D-PPO limits the variance, as its abstract says”, or the opposite, “so the paper is wrong.” On the "
                "recorded runs *our mask* lowers the variance of what it keeps and not that of the batch; that is a "
                "sentence about our rule, our fraction, two small worlds and short runs. And a third: “Sample Dropout "
                "keeps |r − 1| below δ.”"
            ),
            remedy=(
                "For the first two, write down what would have to be the same before one may say “replicated”: rule, "
                "fraction, Atari, length. None of them is known to be. For the third: it keeps such *samples in the "
                "mean*. Whatever has left the strip has no gradient any more, not even the one that would bring it "
                "back, and the other samples drag it on: it is chapter 2's clip without its minimum. PPO's keeps that "
                "gradient, SPO pulls."
            ),
        ),
        Moment(
            "Quiz",
            "What has not been a poll belongs to further parts. `surrogate_variance.minus_one` can be asked of "
            "everybody, it needs no more than a mean of zero; `surrogate_variance.price_of_variance` and "
            "`surrogate_variance.greedy_baseline_hurts` of those who have read them. Or ask once more the poll that "
            "went worst.",
        ),
        Moment(
            "References",
            "One sentence on provenance: whoever gets hold of the paper on D-PPO should lay its theorem beside (3.8) "
            "and its rule beside `sign_dropout_mask`, which is one function and can be exchanged. Name one text to "
            "read next, Owen's book, on importance sampling and on control variates.",
        ),
    ),
    cuts=(
        Cut(
            "Quiz",
            3,
            "the polls have asked most of it; leave the rest as homework, where every choice explains itself.",
        ),
        Cut("9", 2, "run the training cells before the class, and explain the axes on the band of the recorded run."),
        Cut("2", 2, "state (3.5) without its derivation, and go straight to the figure and its two directions."),
        Cut("4", 2, "leave (3.10) to the sheet: the row sums (3.11) stand without it, and so does the figure."),
        Cut("8", 2, "stop at the table, and give the frontier as homework: in which direction does correcting lose?"),
        Cut("Bug museum", 3, "give it as homework: one property, in words, that would have caught the piece."),
    ),
    keep=(
        "Never cut sections 3, 5 and 6, nor the note that opens section 3: a bound, a bias and a correction are what "
        "the class should take home, and the note says whose they are. The exercise may become homework where the poll "
        "of section 1 went well."
    ),
    links=(
        ("The notebook", "notebooks/03_surrogate_variance.ipynb"),
        ("Its text, which is what one edits", "notebooks/text/03_surrogate_variance.md"),
        ("The formula sheet, to print", "docs/sheets/03_surrogate_variance.pdf"),
        ("The formula sheet, as a page", "docs/sheets/03_surrogate_variance.html"),
        ("The bibliography", "data/references.bib"),
    ),
)
