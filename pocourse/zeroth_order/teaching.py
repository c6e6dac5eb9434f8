"""For teachers and for the formula sheet: names of the equations, symbols, and the guide through the chapter."""

from pocourse.lesson.teaching import Cut, Guide, Moment

# Two to six words for every claim of the chapter.
NAMES = {
    "smoothing_is_policy": "Smoothing is a one-step policy",
    "score": "The score of a Gaussian",
    "forward_is_reinforce": "A forward difference is REINFORCE",
    "shrink": "The batch mean shrinks it",
    "rloo_is_leave_one_out": "RLOO: leave one out",
    "rloo_is_covariance": "RLOO: a sample covariance",
    "rloo_is_pairwise": "RLOO: differences of all pairs",
    "antithetic_any_baseline": "Mirrored: any constant baseline",
    "antithetic_even_baseline": "Mirrored: an even baseline",
    "invariances": "What estimates do not see",
    "single_sample_variance": "One direction, any constant baseline",
    "forward_variance": "Variance of the forward difference",
    "averaged_variance": "Variance around the smoothed value",
    "antithetic_variance": "Variance of mirrored pairs",
    "rloo_variance": "Variance of RLOO, any function",
    "variance_ratio": "The price of f(θ)",
    "optimal_baseline": "The best constant baseline",
    "smoothing_cubic_sine": "A cubic and a sine, smoothed",
    "smoothing_step_abs": "A step and a kink, smoothed",
    "sphere_and_ball": "Sphere outside, ball inside",
    "optimal_radius": "The best radius under noise",
    "price_of_ranks": "The price of ranks",
    "cosine_law": "How much K directions see",
    "ess_of_reuse": "What old queries are worth",
    "box_filter": "Pairs in memory: box filter",
    "rank_identity": "All pairs are centred ranks",
    "consensus_prox": "The consensus is a proximal step",
    "truncation_replay": "A genome of seeds",
}

SYMBOLS = (
    (r"f", "what is minimised"),
    (r"\theta,\ d", "centre of the policy, its dimension"),
    (r"\sigma", "radius, the policy's standard deviation"),
    (r"u\sim\mathcal{N}(0,I)", "direction"),
    (r"x=\theta+\sigma u", "point, action"),
    (r"y=f(x)", "value"),
    (r"F,\ \nabla F", "smoothed f and its gradient"),
    (r"g,\ H", "gradient and Hessian of f at θ"),
    (r"b", "baseline"),
    (r"\hat g", "estimate"),
    (r"\operatorname{tr}\operatorname{Var}", "trace of its covariance"),
    (r"K,\ P,\ Q", "directions, mirrored pairs, values"),
    (r"\bar y,\ \bar u", "means of a batch"),
    (r"V_b", "variance of one direction with baseline b"),
    (r"v,\ w", "unit sphere, unit ball (4.20)"),
    (r"\nu", "noise of a value"),
    (r"c_k", "centred rank"),
    (r"\Phi", "normal distribution function"),
    (r"\Delta", "how far θ has moved"),
    (r"N", "iterations in the memory"),
    (r"m", "values ranked (4.26), mean of the cloud (4.27)"),
    (r"\alpha", "inverse temperature"),
    (r"\epsilon(s)", "Gaussian vector from the seed s"),
)

GUIDE = Guide(
    about=(
        "For whoever teaches this chapter to a class. Every section has its clock, what to show, the thought that "
        "most of the class will have and that is wrong, and what helps against it. The poll comes *before* the "
        "explanation: let everybody choose letters alone, then let neighbours talk for a minute, then choose again. "
        "Under each wrong choice stands what it reveals. Read the wrong answers beforehand: they are the questions "
        "you will be asked. The chapter stands on its own, and needs neither of the two before it."
    ),
    before=(
        "Run the notebook once, to the end (some minutes of training on two CPU cores), and leave it open.",
        "Hand out the formula sheet: one page, with all symbols at its head. Dark numbers are the core path.",
        'Set `entry_check("zeroth_order")` as homework. Two of its five are needed early: that a constant '
        "taken from y leaves the mean of uy as it is when E u = 0, and that a Gaussian in d dimensions is about √d "
        "long.",
        "Know what must not be claimed. Of the paper on ZoAR its abstract and its authors' public code were readable "
        "to us, and none of its theorems: the reading of a finite difference as REINFORCE is theirs, the variances of "
        "section 3, the radius (4.21) and the law (4.23) were worked out by us. On a CPU the race is run in 1000 "
        "dimensions with the paper's σ² d, and not in its 10,000: no result of this notebook is a replication, or a "
        "refutation.",
        "Leave three lines on the board for the whole hour: x = θ + σu; the estimate Σ w u/σ; and a question mark "
        "next to w. Every method of the chapter fills in this w, and a baseline is what is taken from y before.",
        "Say once, and write it down, that f is minimised. The reward is −f, and every mistake with a sign in this "
        "chapter comes from changing sides halfway.",
        "Choose now which of the further parts you want. Those to choose first are mirrored sampling as an exercise, "
        "in section 2, and the relatives of section 7, whose table of weights is what one remembers of the chapter; "
        "nothing on the core path needs any of them.",
    ),
    moments=(
        Moment(
            "Words and symbols",
            "The table, for a minute, and then only three of its rows: u, of which every coordinate is a standard "
            "normal; y, a *value* and never a slope; and F, since from here on a gradient is the gradient of F.",
        ),
        Moment(
            "Predict before you run",
            "The predictions, before anybody has seen a number. For the price of f(θ) write the class's smallest and "
            "largest guess on the board, for the cosine and for the old queries too, and do not comment. They come "
            "back in sections 3, 5 and 6.",
        ),
        Moment(
            "1",
            "A line, θ, and a bell around it: three points drawn from it, each with its y above. Ask which way θ "
            "should go, and by how much each point may vote. Then the derivative of the bell's logarithm, (4.2), in "
            "one line: the vote is u/σ, weighted with y. That is REINFORCE, and there is no second step to wait for.",
            misconception=(
                "“It estimates the gradient of f, with some noise”, and so “f has to be smooth.” It estimates the "
                "gradient of F, without bias and for any f that has an average; f itself may have no gradient "
                "anywhere."
            ),
            remedy=(
                "x³ at θ = 1 with σ = ½: the slope of f is 3, and every estimate of this chapter averages 3.75 (4.1). "
                "More directions make it 3.75 more precisely. Then the step, of which section 4 shows more: all its "
                "slopes are zero, and its values do tell where it is."
            ),
            poll="zeroth_order.acts_once",
        ),
        Moment(
            "2",
            "The poll's batch, three directions on a line, and nothing else. Give each row of the class another "
            "formula, (4.4) to (4.7), and let them call out their numbers: 7, four times. Only then the names. Last "
            "the forward difference, which gets another number from the same draws, and the same on average.",
            misconception=(
                "“These are so many methods, with so many properties”, and “K − 1 is a correction that is always in "
                "place.” Leave-one-out, sample covariance and pairs are one vector; and f(θ) is no mean of the batch, "
                "so (4.3) divides by K."
            ),
            remedy=(
                "One question settles each divisor: has a mean of *these* values been taken away, so that each value "
                "stands in its own baseline? For RLOO it has, and K − 1 repairs it. For a forward difference, no: K. "
                "For mirrored pairs the directions sum to zero by themselves, so nothing is left to repair: 2P. Let "
                "them divide the pair of `zeroth_order.mirrored` by 2P − 1 = 1, and a factor of 2 cannot be "
                "overlooked."
            ),
            poll="zeroth_order.one_batch",
        ),
        Moment(
            "3",
            "Write (4.12), (4.13) and (4.14) below each other, in full. Strike out (tr H)² on the way down, then tr "
            "H²: each line removes what its baseline knows. In the figure pull σ² d from left to right, and stop "
            "where the class wants to stop. Then (4.16) with the paper's numbers, d = 10,000 and σ = 0.05, and the "
            "prediction.",
            misconception=(
                "“The mean is the better baseline”, or, after the figure, “mirrored pairs are best, since they cancel "
                "the curvature.” Both are true in one corner. On a plane, on a saddle with tr H = 0 and with a small "
                "σ² d the mean gains nothing; and a pair spends two values on one direction."
            ),
            remedy=(
                "Two points of one bowl, from the second poll of the section, `zeroth_order.equal_queries`: far out "
                "pairs scatter 1.78 times as much as RLOO with equal queries, near the minimum 0.13 times as much. "
                "Ask what has changed between the two: |g|², and nothing else. Write both numbers into a corner of "
                "the board; section 10 needs them."
            ),
            poll="zeroth_order.what_scatters",
        ),
        Moment(
            "4",
            "The figure, on the step, with a large radius. Ask for the slope of f at θ, then for that of F. Make σ "
            "smaller: at the jump F′ grows, away from it it dies. Then the wiggly sine: choose a radius at which the "
            "fast wave is gone and the slow one is not.",
            misconception=(
                "“Smoothing is a kind of noise, and more directions average it out”, and “the smaller σ, the better.” "
                "What K averages out is the choice of directions. What σ has blurred stays blurred, for any K."
            ),
            remedy=(
                "Let K go to infinity aloud: the estimate for x³ tends to 3x² + 3σ² (4.18), and never to 3x². Against "
                "the second: next to a step a small σ sees nothing, and where values carry noise the differences "
                "drown in it. Whoever asks for the best σ gets the further part, (4.21), in which K does not occur."
            ),
            poll="zeroth_order.smoothed",
        ),
        Moment(
            "5",
            "A single random direction in 1000 dimensions: its squared cosine with the gradient is 1/1000 on average, "
            "by symmetry, since those of all axes sum to 1. Ask what 60 can have at best. Orthonormal ones reach "
            "60/1000, Gaussian ones a little less (4.23). Then the ranks, and 3/π beside it.",
            misconception=(
                "“Six hundredths, that is worthless”, and “ranks throw away the values, so they must cost a lot.” The "
                "first forgets that steps add up: what points the wrong way is another direction each time. For the "
                "second, on a plane it costs 4.5 per cent of the samples (4.22)."
            ),
            remedy=(
                "Draw the estimate as a long random arrow with a short component along g, ten times: the random parts "
                "cancel, the short ones add. It takes small steps, and that is the price. For ranks turn the question "
                "round: what do they buy? e^f and f become the same function (4.10), and one wild value cannot "
                "outvote all the others."
            ),
            poll="zeroth_order.ten_directions",
        ),
        Moment(
            "6",
            "ZoAR as a table on the board, N rows of K values, newest at the top: one mean over all of it, one sum "
            "over all of it, and the bottom row falls out. Then the figure: the remembered points stay where they "
            "were asked while θ moves on. Pull the step size up until the two needles part.",
            misconception=(
                "“Old samples have to be reweighted, so the method is wrong without it”, or “the memory is a larger "
                "batch for nothing.” Reweighting would be right and leave nothing; a memory is paid for with a lag."
            ),
            remedy=(
                "The numbers of (4.24): Adam's first steps can be 0.1 long in 10,000 dimensions, which is 2σ, and of "
                "100 queries 1.8 are left. What ZoAR estimates instead is about the mean of the gradients at the last "
                "N places: calm, and late. Ask where the class has met such a thing before, and wait for “momentum”. "
                "With mirrored pairs it is that mean exactly, and the pooled baseline has no part in it (4.25)."
            ),
            poll="zeroth_order.stale",
        ),
        Moment(
            "8",
            "The table, one number at a time, and first the biases alone. Let them give each its cause: a mean that "
            "holds the own value, ranks that are no values, a θ that has moved. Say how bias and variance were made: "
            "sums over a grid, nothing drawn. Then read the variances, and last the cosines.",
            misconception=(
                "“The one with the least variance is the best”, which would crown the batch mean: it is RLOO times 1 "
                "− 1/K, and an estimate that is zero has no variance at all. And “bias is bad”: the bias of the batch "
                "mean is a length, and no direction."
            ),
            remedy=(
                "Put a finger on the batch mean and on RLOO: bias and variance differ, and the cosine is the same, as "
                "one is a multiple of the other (4.4). Then ask which of the three an optimizer feels. Plain SGD "
                "feels the length; Adam divides it out, and is left with the direction."
            ),
        ),
        Moment(
            "Bug museum",
            "The piece on the core path: its code, and not yet what is wrong with it. Ask for a test that needs no "
            "random number and no training: few directions, a plane, an answer that is known. Someone will propose to "
            "train with it and look. Let them say with which optimizer, and why that would not have shown it.",
        ),
        Moment(
            "9",
            "The five methods as one line each, all else equal. Count aloud what each asks for in an iteration: nine "
            "directions and f(θ), ten directions, five pairs. Start the cells, and take the poll and the prediction "
            "on the best step size while they run. Then the axes: queries, not iterations, and a logarithmic f.",
            misconception=(
                "“Same number of directions, same step size: all else equal, so the race is fair.” Queries are what "
                "is scarce, and f(θ) is one. A step size is not scarce at all; fixing one at 0.001 is a decision for "
                "the method it happens to suit."
            ),
            remedy=(
                "Do the poll's third choice on the board: 1000 dimensions with the paper's σ = 0.05 would have been "
                "the same race by name only, as the price of f(θ) falls from 7.24 to 1.63 (4.16). Then ask what else "
                "could decide a race without being named on its axes, and collect: queries, step size, update rule, "
                "seeds."
            ),
            poll="zeroth_order.fair_race",
        ),
        Moment(
            "10",
            "The three panels in this order: one step size for all, each with its own, and what the gain is made of. "
            "After each let somebody say in one sentence what has been shown, and nothing more. Go back and forth "
            "between the first two and ask which lines have changed places. Expect ZoAR far ahead in the first; RLOO, "
            "pairs and ZoAR close together in the second, vanilla and its history far behind; in the third one line "
            "for ZoAR and RLOO with the longer step, one for RLOO and vanilla with a tenth of the radius.",
            misconception=(
                "“Ahead at the same step size, so a better estimate of the gradient.” Under Adam a calmer estimate "
                "takes longer steps at the same η, because the noise stands in the denominator. Part of being ahead "
                "is that."
            ),
            remedy=(
                "1/√(1 + s²) on the board, with s = 10 and with s = 3: 0.0995 and 0.316. So the calmer method runs "
                "3.2 times as fast, and 3.2 times the η would have done as much for the other. What tuning cannot "
                "give is calm near the minimum: point at the two numbers of section 3. Whatever the panels show, "
                "write down for which function, dimension, σ and number of queries it has been shown."
            ),
            poll="zeroth_order.longer_steps",
        ),
        Moment(
            "11",
            "A digit, what is added to it, and what the classifier then says. Ask what the attacker may see: the "
            "values of a loss, and no gradient. Then how a run ends, and what to write down for one that does not. "
            "Expect ZoAR ahead with own steps too, here, with two queries an iteration, for its pooled mean; and ask "
            "what would happen with ten, before you read on.",
            misconception=(
                "“The mean number of queries to success is the cost of an attack.” It is the cost of those that "
                "succeeded, and the ones that failed were the expensive ones."
            ),
            remedy=(
                "The poll: 200, 300, 400 and two failures. Let them compute 300, then let the third fail too and "
                "compute again: 250. A method that fails more often looks cheaper. A median can be given as long as "
                "more than half succeed, and a share of successes always."
            ),
            poll="zeroth_order.queries_to_success",
        ),
        Moment(
            "Quiz",
            "What has not been a poll can be asked of everybody, `zeroth_order.mirrored` first; "
            "`zeroth_order.pairs_remembered` and `zeroth_order.outlier` belong to those who have read the further "
            "parts. Or ask once more the poll that went worst.",
        ),
        Moment(
            "References",
            "One sentence on provenance: whoever gets hold of the paper on ZoAR should lay what it proves on the "
            "variance beside (4.15), and its algorithm's divisor beside ours. Name one text to read next, that of "
            "Nesterov and Spokoiny, with (4.12) next to their bound.",
        ),
    ),
    cuts=(
        Cut(
            "Quiz",
            2,
            "the polls have asked most of it; leave the rest as homework, where every choice explains itself.",
        ),
        Cut("9", 1, "run the training cells before the class, and explain the axes on the band of the recorded run."),
        Cut("2", 2, "let half of the class compute (4.5) and half (4.7), and state that (4.6) is the same vector."),
        Cut("4", 1, "show the step and leave the sine to the figure."),
        Cut("Bug museum", 2, "give it as homework: one property, in words, that would have caught the piece."),
        Cut("11", 2, "show the digit and the number of queries, and give the poll as homework."),
    ),
    keep=(
        "Never cut sections 3 and 10, nor the count of queries in section 9: what each baseline removes, and what a "
        "race has shown and what not, is what the class should take home. The exercise may become homework where the "
        "poll of section 2 went well."
    ),
    links=(
        ("The notebook", "notebooks/04_zeroth_order.ipynb"),
        ("Its text, which is what one edits", "notebooks/text/04_zeroth_order.md"),
        ("The formula sheet, to print", "docs/sheets/04_zeroth_order.pdf"),
        ("The formula sheet, as a page", "docs/sheets/04_zeroth_order.html"),
        ("The bibliography", "data/references.bib"),
    ),
)
