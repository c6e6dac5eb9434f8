"""For teachers and for the formula sheet: names of the equations, symbols, and the guide through the chapter."""

from pocourse.lesson.teaching import Cut, Guide, Moment

# Two to six words for every claim of the chapter.
NAMES = {
    "importance_sampling": "Importance sampling: actions corrected",
    "performance_difference": "Performance difference lemma",
    "tv_ratio": "Total variation from the ratio",
    "first_order": "Surrogate right to first order",
    "tv_support": "TV with actions never played",
    "average_tv_bound": "Average-TV bound",
    "cpi_bound": "Mixture bound, usual form",
    "cpi_sharp": "Mixture bound, sharp (as 2.7)",
    "trpo_bound": "TRPO's bound",
    "never_looser": "(2.6) never looser than (2.9)",
    "pinsker": "Pinsker's inequality",
    "centred_bound": "Average-TV bound with the spread",
    "clip_cases": "PPO's gradient: the six cases",
    "clip_g_form": "PPO without a clip",
    "ratio_fixed_kl_unbounded": "One fixed ratio, unbounded KL",
    "kl_needs_all_ratios": "All ratios held bound KL",
    "clipped_still_moves": "A clipped sample is dragged",
    "rollback_gradient": "PPO-RB: rollback with slope κ",
    "spo_gradient": "SPO and its gradient",
    "spo_optimum": "SPO's top is the edge",
    "sandwich": "SPO below PPO below surrogate",
    "one_state_optimum": "SPO's optimum in one state",
    "saturation": "Gain at SPO's optimum",
    "half_the_gain": "Penalty is half the gain",
    "own_constraint_violated": "SPO's optimum can exceed ε",
    "tv_constrained_optimum": "Exact optimum under the TV limit",
    "mirror_descent": "Price KL(π′‖π): mirror descent",
    "kl_old_new_link": "Price KL(π‖π′): a hyperbola",
    "chi2_link": "Price Var r: a clipped line",
    "spo_is_chi2": "Equal |A|: SPO is chi-square",
    "kl_estimators": "Two estimators of KL",
}

SYMBOLS = (
    (r"\pi,\ \pi'", "old policy, new policy"),
    (r"r=\pi'(a\mid s)/\pi(a\mid s)", "ratio"),
    (r"A_\pi=Q_\pi-V_\pi", "advantage"),
    (r"\eta", "expected discounted return"),
    (r"d_\pi", "discounted state occupancy, sums to 1"),
    (r"\bar A(s)=\mathbb{E}_{a\sim\pi'}A_\pi(s,a)", ""),
    (r"L_\pi", "surrogate, see (2.4)"),
    (r"\epsilon", "ratios are to stay within 1 − ε and 1 + ε"),
    (r"\mathrm{TV}=\tfrac12\sum_a|\pi'-\pi|", ""),
    (r"\mathrm{KL}(p\,\|\,q)=\sum_a p\log(p/q)", ""),
    (r"r^*", "SPO's optimum (2.22)"),
    (r"\nu", "multiplier"),
    (r"t", "size of the step"),
    (r"\theta", "parameters"),
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
        'Set `entry_check("ratio_clipping")` as homework. Importance weights and the smaller of two lines are '
        "needed within the first half hour; who misses those should read them up before.",
        "Choose now which of the further parts you want. The one of section 4 and the first of section 5 are the "
        "ones to choose first; nothing on the core path needs any of them.",
    ),
    moments=(
        Moment(
            "Words and symbols",
            "The table, for a minute, and then only two of its rows: the ratio, with the *new* policy on top, and "
            "the advantage, whose average over the *old* policy's actions is zero in every state. The rest is on "
            "the sheet.",
        ),
        Moment(
            "Predict before you run",
            "The three predictions, of the largest mean |r − 1| with six layers: PPO, SPO, and no clip. Write the "
            "class's guesses on the board, smallest and largest, and do not comment on them until section 9.",
        ),
        Moment(
            "1",
            "(2.2) and the surrogate, one under the other, both with Ā(s). They differ in one symbol, d_π′ against "
            "d_π: circle it. Then (2.3), since it makes the batch mean of |r − 1| the gauge of everything that "
            "follows.",
            misconception=(
                "“The importance weights make the surrogate unbiased; with enough data and exact advantages it is "
                "the true gain.” The weights correct which *actions* are counted, in states that the old policy "
                "chose."
            ),
            remedy=(
                "Ask for a world in which no amount of data shows the loss: an action that leads, once, to a state "
                "the old policy never visits. There is no sample from that state to put a weight on. Section 2 "
                "builds this world."
            ),
            poll="ratio_clipping.what_the_ratio_corrects",
        ),
        Moment(
            "2",
            "The chain behind (2.6) as a picture: policies differ a little, so occupancies drift apart, by up to "
            "2γ/(1 − γ) times the mean total variation, so the surrogate errs. The four lines of the proof stand in "
            "a further part. Take the prediction, `ratio_clipping.tightness`, by show of hands before the figure "
            "appears.",
            misconception=(
                "“The penalty is two thousand times larger than the error, so the proof is careless”, or “beyond "
                "the certified mixture weight the policy gets worse.” Both take a statement about the worst world "
                "for one about this world."
            ),
            remedy=(
                "For the first, the star in the figure: one world of two states needs 91 per cent of the penalty at "
                "γ = 0.99, and all of it in the limit. For the second: towards the greedy policy Ā(s) ≥ 0 in every "
                "state, so by (2.2) nothing is ever lost, for any α; the bound stops *promising* this at 0.0041."
            ),
            poll="ratio_clipping.what_a_bound_certifies",
        ),
        Moment(
            "3",
            "The printed slopes. Stay with the two lines until somebody says aloud which two of the four outer "
            "cases still have one. Only then (2.13), and then the exercise: everybody writes the line alone.",
            misconception=(
                "“Outside 1 ± ε PPO's gradient is zero.” It is zero on one side only: where the ratio has already "
                "gone the way its advantage pushes it."
            ),
            remedy=(
                "After the poll write both products on the board, −1.5 and −1.2: the *smaller number* is −1.5, and "
                "its slope is −1. Who answered 0 has often compared sizes in place of numbers. What to remember: "
                "clipped means “you have had your reward”, never “your mistake is forgiven”."
            ),
            poll="ratio_clipping.bad_action_likelier",
        ),
        Moment(
            "4",
            "Three numbers on the board, (.4, .3, .3) to (.4, .6 − q, q). Let them work out the sampled ratio and "
            "then the divergence for smaller and smaller q, before the cell does.",
            misconception=(
                "“The clip is a trust region: if no sampled ratio has left the range, the policy has hardly moved.” "
                "The other actions of the state have no sample, and nothing limits them."
            ),
            remedy=(
                "Ask what would have to hold for the sentence to be true: r ≥ 1 − ε for *all* actions gives "
                "KL(π‖π′) ≤ −log(1 − ε). Be strict about the rest: it takes three actions, it is KL(π‖π′) that has "
                "no limit, and the total variation stays bounded. Bounded is not small: in the example it reaches "
                "0.3, three times the 0.1 that ε = 0.2 suggests."
            ),
            poll="ratio_clipping.one_ratio_and_kl",
        ),
        Moment(
            "5",
            "Derive it: slope A at r = 1, slope zero at the edge, a straight line between. Integrate on the board. "
            "In the figure read the lower row from left to right and stop at 1 + ε: who pushes, who rests, who "
            "pulls back?",
            misconception=(
                "“SPO keeps |r − 1| ≤ ε.” The parabola is a hill with its top at the edge and not a wall: beyond it "
                "there is a force backwards, finite at every r."
            ),
            remedy=(
                "Go on from the poll: a push from elsewhere as strong as A holds the sample at 1 + 2ε, and a "
                "stronger one further out. In a shared network other samples do push. Later, in section 9: with six "
                "layers the mean passes ε in 1 of 8 seeds."
            ),
            poll="ratio_clipping.what_pulls_back",
        ),
        Moment(
            "Bug museum",
            "The piece on the core path: its code, and not yet what is wrong with it. Ask for a property that would "
            "have caught it, one sentence that is true of every right objective, and try two or three of theirs. “It "
            "differs from PPO's formula” is no property; “it is never above rA” is one.",
        ),
        Moment(
            "6",
            "The table, with the last column covered at first. Near, everything is as expected. Far, ask who would "
            "throw SPO out; then uncover the last column and ask who would now choose PPO for its 7 samples.",
            misconception=(
                "“A gradient that points away from the true one is a bug”, and “fewer samples needed means a better "
                "estimator.” The standard error measures the scatter around the estimator's *own* mean."
            ),
            remedy=(
                "Work out one entry. Third action, far: A = −1.2, r = 0.52, ε = 0.2, so SPO's slope is −1.2 + 6 · "
                "0.48 = +1.68. It raises a bad action, since that action has fallen further than the step allows. "
                "PPO's slope there is 0. Neither claims to be the gradient of the gain out there."
            ),
            poll="ratio_clipping.biased_on_purpose",
        ),
        Moment(
            "7",
            "The scatter, one column at a time, PPO above SPO. Point at one triangle beyond its edge: it has no "
            "gradient of its own. Then ask what moves it, and take the poll. If you can spare two minutes, run the "
            "further part without sharing; if not, say its number, 0.23.",
            misconception=(
                "“The clip limits how far a ratio can go, so Adam's momentum must have carried them out.” A slope "
                "of zero limits nothing, and momentum alone takes a ratio just over the edge."
            ),
            remedy=(
                "The further part is the experiment that separates the causes: same optimizer, same 300 steps, but "
                "a free log-ratio for each sample. PPO's mean |r − 1| ends at 0.23; with the network of three "
                "hidden layers it is 0.40. What has been taken away is the network that all samples share."
            ),
            poll="ratio_clipping.why_dragged",
        ),
        Moment(
            "8",
            "The dictionary `methods`: one line makes PPO into SPO. Start the cells and use the waiting time for "
            "reading the axes: what is drawn on the right, and over what is the band taken?",
            misconception=(
                "“The curve of |r − 1| does not come down, so the policy stays far away.” What is drawn is the "
                "largest minibatch mean *so far*; such a curve cannot come down."
            ),
            remedy=(
                "Ask what r is in the first minibatch after new data have been collected: exactly 1, for the new "
                "data come from the policy that is now the old one. The ratios start again at 1 with every batch; "
                "only their record stays."
            ),
        ),
        Moment(
            "9",
            "The guesses from the beginning beside the recorded numbers. Then the paragraphs in their order: what "
            "holds, what does not replicate, what speaks against SPO. The second and third are why the first can be "
            "believed.",
            misconception=(
                "“PPO passes ε, so its return must suffer and SPO is better”, and “a mean below ε shows that the "
                "clip has held every ratio.”"
            ),
            remedy=(
                "Two rows of the tables answer the first: with six layers PPO passes 0.2 in 8 of 8 seeds and 7 of 8 "
                "end at 475 or more, while SPO takes about 30 per cent more steps to get there. For the second: "
                "ninety ratios at 1 and ten at 2 have the mean |r − 1| = 0.1."
            ),
            poll="ratio_clipping.reading_the_result",
        ),
        Moment(
            "Quiz",
            "The questions that have not been polls: first `ratio_clipping.mean_and_each`, on a mean below ε and "
            "single ratios beyond it, then `ratio_clipping.where_it_is_flat` and `ratio_clipping.where_the_top_is`.",
        ),
        Moment(
            "References",
            "One sentence on versions: the paper on SPO had another algorithm of the same name in it up to version "
            "6. Name one paper to read next, Schulman et al. 2017, with (2.13) in hand.",
        ),
    ),
    cuts=(
        Cut(
            "Quiz",
            3,
            "the polls have asked most of it; leave the rest as homework, where every choice explains itself.",
        ),
        Cut("8", 3, "run the training cells before the class, and explain the axes on the band of the recorded run."),
        Cut("1", 3, "state (2.2) without the telescoping sum; run its check, and read its wrong twins aloud."),
        Cut("6", 2, "show the half of the table that says *far*, and let them work out the entry named there at home."),
        Cut("Bug museum", 4, "give it as homework: one property, in words, that would have caught the piece."),
    ),
    keep=(
        "Never cut sections 3 and 4: the rest of the chapter rests on them. The exercise in section 3 may become "
        "homework where the poll went well."
    ),
    links=(
        ("The notebook", "notebooks/02_ratio_clipping.ipynb"),
        ("Its text, which is what one edits", "notebooks/text/02_ratio_clipping.md"),
        ("The formula sheet, to print", "docs/sheets/02_ratio_clipping.pdf"),
        ("The formula sheet, as a page", "docs/sheets/02_ratio_clipping.html"),
        ("The bibliography", "data/references.bib"),
    ),
)
