"""What chapter 3 asks: what one needs before it, what one knows after it, and what one expects of its results."""

from pocourse.lesson.questions import Choice, prediction, question

D2L_RANDOM = (
    "Dive into Deep Learning, Random variables",
    "https://d2l.ai/chapter_appendix-mathematics-for-deep-learning/random-variables.html",
)
OWEN_WEIGHTS = (
    "Owen, Monte Carlo theory, methods and examples, chapter 9, Importance sampling",
    "https://artowen.su.domains/mc/",
)
OWEN_MEANS = (
    "Owen, Monte Carlo theory, methods and examples, chapter 2, Simple Monte Carlo",
    "https://artowen.su.domains/mc/",
)
SPINNING_UP = (
    "Spinning Up, Intro to policy optimization, Baselines in policy gradients",
    "https://spinningup.openai.com/en/latest/spinningup/rl_intro3.html",
)
CLIP = "notebook 02, `02_ratio_clipping.ipynb`, section 3: PPO's clip, in six cases"

# --- before the chapter ---------------------------------------------------------------------------

question(
    "surrogate_variance.entry_variance",
    "x is 1, 1, 1 or 5, each with probability ¼. What is true of its variance?",
    Choice(
        "it is E x² = 7",
        False,
        "The mean square is ¼ · 28 = 7, and it measures from zero. A variance measures from the mean, which is 2: (E "
        "x)² = 4 has to come off.",
    ),
    Choice("it is 3", True, "E x² − (E x)² = 7 − 4 = 3. Or from the mean: the squared distances 1, 1, 1, 9 average 3."),
    Choice(
        "with 10 added to every x it is 13",
        False,
        "11, 11, 11, 15 lie as far from their mean 12 as before. E x² grows to 147 and (E x)² to 144: the difference "
        "is still 3.",
    ),
    Choice("with every x doubled it is 12", True, "Distances double, squares become 4 times as large: 4 · 3 = 12."),
    section="1",
    kind="entry",
    read_up=D2L_RANDOM,
)

question(
    "surrogate_variance.entry_mean_ratio",
    "π = (½, ¼, ¼) draws the actions, π′ = (¼, ¼, ½) is another policy, and r = π′/π. What is true of the mean of r?",
    Choice(
        "over actions drawn from π it is 1",
        True,
        "½ · ½ + ¼ · 1 + ¼ · 2 = 1. Each old probability cancels, and what remains is the sum of π′.",
    ),
    Choice(
        "over actions drawn from π′ it is 1",
        False,
        "¼ · ½ + ¼ · 1 + ½ · 2 = 1.375. π′ draws the actions that it likes more often, and these have the large "
        "ratios.",
    ),
    Choice(
        "it is 7/6, as for the numbers ½, 1 and 2",
        False,
        "(½ + 1 + 2)/3 = 7/6 gives each action the same say. The actions are not drawn equally often.",
    ),
    Choice(
        "in any batch of actions drawn from π it is 1",
        False,
        "Two samples that are both the third action have the mean ratio 2. The expectation is 1; a batch scatters "
        "around it, and in section 6 that becomes useful.",
    ),
    Choice(
        "with (½, ½, 0) in the place of π it is ½",
        True,
        "½ · ½ + ½ · ½ = ½: the mass that π′ has on the third action is missing, as no sample of such a policy shows "
        "it.",
    ),
    section="1",
    kind="entry",
    read_up=OWEN_WEIGHTS,
)

question(
    "surrogate_variance.entry_standard_error",
    "Independent samples have the standard deviation 4. What is true of the mean of 16 of them?",
    Choice(
        "its standard error is ¼",
        False,
        "That divides 4 by 16. Variances add up, so the variance is divided by n and the standard deviation by √n "
        "only: 4/√16 = 1.",
    ),
    Choice(
        "with 64 its standard error would be a quarter",
        False,
        "4 times as many samples halve it: 4/√64 = ½. For a quarter it takes 16 times as many, 256.",
    ),
    Choice("its variance is 1", True, "The variance of one sample is 16, and the mean of 16 has 16/16 = 1."),
    Choice(
        "with more samples each of them scatters less as well",
        False,
        "One sample has the standard deviation 4 however many others there are. Only their mean becomes calmer.",
    ),
    section="1",
    kind="entry",
    read_up=OWEN_MEANS,
)

question(
    "surrogate_variance.entry_baseline",
    "Two actions, π = (½, ½) by a softmax, rewards 10 and 12. One sample of the policy gradient in the first logit is "
    "½(10 − b) or −½(12 − b). What does the baseline b do?",
    Choice(
        "it leaves the mean at −½, whatever b is",
        True,
        "½ · ½(10 − b) − ½ · ½(12 − b) = −½: b cancels, because the two scores ½ and −½ have mean zero.",
    ),
    Choice(
        "it makes the gradient smaller, as rewards become smaller",
        False,
        "With b = 11 the samples shrink from 5 and −6 to −½ and −½, and their mean was −½ before. What becomes "
        "smaller is the scatter.",
    ),
    Choice(
        "with b = 11 it takes away all of the variance",
        True,
        "Both samples are −½ then. Without a baseline they are 5 and −6, with the variance 5.5² = 30.25.",
    ),
    Choice(
        "it lowers the variance for any b",
        False,
        "With b = −11 the samples are 10.5 and −11.5: the variance is 11² = 121, 4 times that without a baseline.",
    ),
    Choice(
        "it may be another number for each action as well",
        False,
        "With b = R of the action taken every sample is 0, and so is their mean: the gradient is gone. A baseline may "
        "know the state, and not the action.",
    ),
    section="Four neighbours",
    kind="entry",
    read_up=SPINNING_UP,
)

question(
    "surrogate_variance.entry_clip",
    "PPO maximises the mean of min(rA, clip(r, 0.8, 1.2) A). What is true?",
    Choice(
        "no ratio leaves the range from 0.8 to 1.2",
        False,
        "The clip takes a slope away and sets no limit: in notebook 02 other samples drag clipped ones on. Ratios far "
        "from 1 are what this chapter is about.",
    ),
    Choice(
        "A = 1 with r = 1.5 counts 1.2 and has slope 0",
        True,
        "The smaller of 1.5 and 1.2 is the clipped product, which is a constant there.",
    ),
    Choice(
        "A = −1 with r = 1.5 counts −1.2 and has slope 0",
        False,
        "The smaller of −1.5 and −1.2 is −1.5, and it has the slope −1: the clip never forgives a bad action that has "
        "become likelier.",
    ),
    Choice(
        "a sample with slope 0 still counts in the mean",
        True,
        "Ten samples, three of them clipped: the others weigh 1/10 each, as before. A rule that drops the three takes "
        "the mean over seven, and each weighs 1/7. That is the difference to this chapter's masks.",
    ),
    section="4",
    kind="entry",
    read_up=CLIP,
)

# --- on the chapter -------------------------------------------------------------------------------

question(
    "surrogate_variance.samples_left",
    "Five samples have the ratios ¼, ¼, ¼, ¼ and 4. How many samples of the new policy are they worth, by Kish's rule "
    "(3.4) with sums in place of expectations?",
    Choice(
        "5, since their ratios average 1",
        False,
        "The mean ratio is 1 on average for any policy (3.1), so it can tell nothing. How uneven the ratios are is in "
        "their squares, which sum to 16.25.",
    ),
    Choice(
        "none: 1 − χ² is negative",
        False,
        "The variance of these ratios is 2.25, and 1 − 2.25 < 0 shows that this is an approximation for small steps. "
        "1/(1 + 2.25) = 0.31 is a share that never leaves 0 to 1.",
    ),
    Choice(
        "about 1.5",
        True,
        "(Σ r)²/Σ r² = 25/16.25 = 1.54. One sample carries 4 of the 5 units of weight.",
    ),
    Choice(
        "as many as with all ratios doubled",
        True,
        "100/65 is the same 1.54: both grow by the factor 4. The rule does not know the scale of the weights.",
    ),
    Choice(
        "1.5, so whatever A is, rA has more variance than A",
        False,
        "The rule looks at r alone. With A = 4 where r = ¼, and A = 0 where r = 4, the products are 1, 1, 1, 1, 0: "
        "their variance is 0.16, and that of A is 2.56.",
    ),
    section="1",
)

question(
    "surrogate_variance.same_deviation",
    "From the further part of the section. Two updates have E|r − 1| = 0.2. One goes from (0.5, 0.5) to (0.6, 0.4), "
    "the other from (0.01, 0.99) to (0.11, 0.89). What is true?",
    Choice(
        "both cost the same, as their total variation is the same",
        False,
        "It is 0.1 in both. But a variance squares r − 1 before it averages, and one ratio is 11 in the second: Var r "
        "is 0.04 and 1.01.",
    ),
    Choice(
        "the first has the smallest Var r that is possible with it",
        True,
        "Var r = χ²(π′‖π) = 0.1²/0.5 + 0.1²/0.5 = 0.04, and by (3.6) it cannot be below 0.2² = 0.04. It is attained "
        "where all |r − 1| are equal.",
    ),
    Choice(
        "the second has about the largest Var r that is possible with it",
        False,
        "There is no largest one (3.7). With 0.001 in place of 0.01 the same 0.1 of mass gives 0.1²/0.001 + "
        "0.1²/0.999 = 10.01.",
    ),
    Choice(
        "100 samples are worth 96 in the first, and 50 in the second",
        True,
        "100/(1 + 0.04) = 96.2 and 100/(1 + 1.01) = 49.7: one and the same reading on the gauge of chapter 2.",
    ),
    section="2",
)

question(
    "surrogate_variance.one_convention",
    "π = (0.1, 0.1, 0.8), A = (2, 0, −¼) and r = 1, so x = A. The class A ≥ 0 holds the first two actions. Which "
    "readings of (3.8), Var ≤ (1/least − 1) · mean², are right?",
    Choice(
        "within the class: the variance is 1, and so is the bound",
        True,
        "q = (½, ½), so the mean is 1, the least q is ½, and (2 − 1) · 1² = 1. All of x sits on one least likely "
        "action, where the bound is attained.",
    ),
    Choice(
        "within the class, with mean and least taken over π: at most 0.36",
        False,
        "The mean becomes 0.1 · 2 = 0.2 and the least 0.1: (10 − 1) · 0.04 = 0.36, below the variance 1 that the "
        "class has. Conditional and unconditional numbers do not mix.",
    ),
    Choice(
        "over all three actions together: the variance is 0, as the bound is",
        False,
        "The mean is 0.2 − 0.2 = 0, and with it that formula; the variance is 0.1 · 4 + 0.8 · 1/16 = 0.45. With both "
        "signs gains and losses cancel in the mean, and not in the squares.",
    ),
    Choice(
        "with x = 0 for the last action: the variance is 0.36, as the bound",
        True,
        "(2, 0, 0) has one sign. The mean is 0.2, the variance 0.4 − 0.04 = 0.36, the bound (10 − 1) · 0.04 = 0.36: "
        "one convention throughout is all it takes.",
    ),
    section="3",
)

question(
    "surrogate_variance.row_sums",
    "Four samples have x = 3, 1, −2, −6. Each gets its row sum in the matrix of all products, Δᵢ = xᵢ S with S = Σ x. "
    "Whose is the smallest?",
    Choice(
        "that of x = 3",
        True,
        "S = −4, so the row sums are −12, −4, 8, 24. Where S is negative the ranking by row sums runs against x "
        "(3.11): the best sample would go first.",
    ),
    Choice(
        "that of x = −6",
        False,
        "Its products with the others sum to −18 − 6 + 12 = −12, and its own square is 36: 24 in all, the largest.",
    ),
    Choice(
        "that of x = 1, the smallest in size",
        False,
        "Its row sum is −4, and that of x = 3 is −12. Sizes would decide if all x had one sign.",
    ),
    Choice(
        "that of x = −6 if only the two negative ones are paired",
        False,
        "Then S = −8, and the row sums are 16 and 48. Within a class every product is positive, and the smallest row "
        "belongs to the smallest |x|, here −2.",
    ),
    Choice(
        "that of x = −6, once x = 10 has joined as a fifth",
        True,
        "Now S = 6, and the row sums are 18, 6, −12, −36 and 60. One more sample has turned the order round; ranking "
        "by x itself does not know such turns.",
    ),
    section="4",
)

question(
    "surrogate_variance.which_way",
    "Ten samples: x = 1, 2, 3, 4, 5 where A ≥ 0, and −1, −2, −3, −4, −5 where A < 0. The lowest fifth of each class "
    "is dropped, by our reconstruction of D-PPO. What becomes of the mean, which was 0?",
    Choice(
        "it stays 0, as one sample goes on either side",
        False,
        "1 and −5 go, not 1 and −1: the lowest of the negative class is its worst sample. What is left sums to 14 − "
        "10 = 4.",
    ),
    Choice(
        "it rises here, and with more samples the effect fades",
        False,
        "By (3.12) the bias is Cov(x, kept)/P(kept) = 0.4/0.8 = 0.5, in which n does not occur. More samples let the "
        "scatter fade and leave this as it is.",
    ),
    Choice(
        "it rises to 0.5, by the same amount as in each class",
        True,
        "The classes go from 3 to 3.5 and from −3 to −2.5: dropping the lowest raises a mean whatever its sign "
        "(3.13). All together, 4/8 = 0.5.",
    ),
    Choice(
        "it rises, but dividing by 10 in place of 8 takes that away",
        False,
        "4/10 = 0.4 is still not 0. To divide by all ten puts zeros where the dropped ones were, and they summed to "
        "−4.",
    ),
    section="5",
)

question(
    "surrogate_variance.more_variance",
    "From the further part of the section. Our reconstruction of D-PPO drops the lowest fifth of a class. In which of "
    "these classes does the variance of x *rise* by it?",
    Choice(
        "A ≥ 0, x = 1, 1, 1, 1, 10",
        True,
        "From 12.96 to 15.1875. One of the common values goes, the outlier stays, and among four it weighs more than "
        "among five (3.15).",
    ),
    Choice(
        "A ≥ 0, x = 1, 2, 3, 4, 5",
        False,
        "From 2 to 1.25. Where the values are spread evenly, cutting off an end makes the range smaller.",
    ),
    Choice(
        "A ≥ 0, x = 1, 8, 8, 8, 8",
        False,
        "From 7.84 to 0: here the outlier is the lowest one, and it is what goes.",
    ),
    Choice(
        "A ≥ 0, x = 10 once and 1 nine times",
        True,
        "Two of the ones go: from 81 · 1/10 · 9/10 = 7.29 to 81 · 1/8 · 7/8 = 8.86. Many small products and a rare "
        "large one is what a good rare action looks like.",
    ),
    Choice(
        "A < 0, x = −10 once and −1 nine times",
        False,
        "From 7.29 to 0. In the negative class the lowest x is the outlier itself; the mean pays for it, and moves "
        "from −1.9 to −1.",
    ),
    section="5",
)

question(
    "surrogate_variance.what_a_fit_costs",
    "m = mean(rA) − c (mean(r) − 1) estimates the surrogate. What is true of its coefficient c?",
    Choice(
        "c = 1 leaves the least variance, since the mean of r is 1",
        False,
        "c has the unit of A, and the best one is Cov(rA, r)/Var r (3.17). On the chapter's bandit, at E|r − 1| = "
        "0.3, that is 2.47.",
    ),
    Choice(
        "fixed beforehand, any c leaves m unbiased",
        True,
        "E[r − 1] = 0 by (3.1), and c times zero is zero, for c = 5 and for c = −3 (3.16). The choice of c is a "
        "matter of variance alone.",
    ),
    Choice(
        "any c other than 0 lowers the variance",
        False,
        "Var[rA] − 2c Cov(rA, r) + c² Var r is a parabola in c. At twice the best c it is Var[rA] again, and beyond "
        "that larger.",
    ),
    Choice(
        "fitted to the same samples, it brings a small bias",
        True,
        "On the bandit, with 16 samples at E|r − 1| = 0.3, the bias is −0.018 and the standard deviation 0.051. The "
        "plain mean has no bias, and 0.24.",
    ),
    section="6",
)

question(
    "surrogate_variance.minus_one",
    "From the further part of the section. The advantages of a state have mean zero over π's actions. What holds for "
    "(r − 1)A in place of rA (3.18)?",
    Choice(
        "its expectation under π is the same",
        True,
        "What is subtracted is A itself, and E[A] = 0. It is a control variate with a known mean, as r − 1 was.",
    ),
    Choice(
        "its mean over a batch is the same",
        False,
        "Two samples with A = 2 and r = 1.5 have the means 3 and 1: in this batch A does not average zero. Only where "
        "A was centred over the batch itself do both agree, and then nothing is gained.",
    ),
    Choice(
        "where r = 1 everywhere, it has no variance at all",
        True,
        "Each sample is 0, which is the surrogate's value there. The samples rA = A scatter by Var A instead.",
    ),
    Choice(
        "its variance is smaller than that of rA",
        False,
        "Not always. π = (¼, ½, ¼), r = (0, 2, 0), A = (2, 0, −2): rA is 0 for every action, and (r − 1)A is −2, 0, "
        "2, with the variance 2. It takes 2 Cov(rA, A) > Var A.",
    ),
    section="6",
)

question(
    "surrogate_variance.price_of_variance",
    "From a further section. All advantages have the size |A| = 2, SPO has ε = 0.2, and Var r = 0.1 under π. How far "
    "is SPO's objective below the plain surrogate E[rA]?",
    Choice(
        "by 0, as long as no ratio is beyond 1 ± ε",
        False,
        "That would be the clip. The parabola charges every deviation: a single |r − 1| = 0.1 costs 0.01 · 2/0.4 = "
        "0.05 although it is within the range.",
    ),
    Choice(
        "by 1: the price of a unit of variance is |A|/ε",
        False,
        "2/0.2 · 0.1 = 1 forgets the two under SPO's fraction, (r − 1)² |A|/(2ε).",
    ),
    Choice(
        "by 0.5, and knowing ESS/n = 10/11 would have done as well",
        True,
        "|A|/(2ε) = 5 is the price, and Var r = n/ESS − 1 = 0.1 what is bought: 5 · 0.1 = 0.5 (3.19). SPO holds χ² "
        "down, and with it the loss of samples.",
    ),
    Choice(
        "by 0.5, and it would be so for sizes of A that only average 2",
        False,
        "Each action's deviation counts with its own |A|. π = (½, ¼, ¼) with (r − 1)² = (0, 0.2, 0.2) has Var r = "
        "0.1; sizes (3, 1, 1) cost 0.25, sizes (1, 3, 3) cost 0.75.",
    ),
    section="7",
)

question(
    "surrogate_variance.another_disease",
    "From a further section. π = (½, ½) has drawn 10 actions, 7 of them the first, and nothing has been updated yet. "
    "What is true of the sampling error that PROPS works against?",
    Choice(
        "there is none, as the effective sample size is still 10",
        False,
        "All ratios are 1, so by (3.4) all 10 samples count. The frequencies (0.7, 0.3) are off all the same: "
        "KL(π̂‖π) = 0.7 log 1.4 + 0.3 log 0.6 = 0.082.",
    ),
    Choice(
        "it stays small as long as ε is",
        False,
        "A clip keeps π′ near π. This error lies between π and what was drawn from it, before there is any π′: at r = "
        "1 it is 0.082 here, for every ε.",
    ),
    Choice(
        "four further samples, all of the second action, would remove it",
        True,
        "7 and 7 of 14: the frequencies are π's then, and the divergence is 0. To draw next what came up too rarely "
        "is PROPS' idea; the ratios, all 1 here, do nothing of the kind.",
    ),
    Choice(
        "it would be about 0.05 on average, and half of that with 20 actions",
        True,
        "(k − 1)/(2n) = 1/20 = 0.05 (3.21), exactly 0.053. With n = 20 it is 0.026. The new policy is not in this "
        "formula.",
    ),
    section="Four neighbours",
)

question(
    "surrogate_variance.greedy_baseline_hurts",
    "From a further section. Two arms with rewards 1 and 0.2, a softmax policy that takes the first with probability "
    "p. ReMax's baseline is the reward of the greedy arm, 1. How does the gradient's variance compare with that "
    "without a baseline?",
    Choice(
        "it is lower at p = 0.6, and higher at p = 0.9",
        True,
        "By (3.23) the change is 2p(1 − p)(1.6p − 1): −0.019 at 0.6, and +0.079 at 0.9. It turns at p = 1/1.6 = 0.625.",
    ),
    Choice(
        "it is never higher, since a baseline leaves the mean alone",
        False,
        "The mean is safe with any b, the variance is not. At p = 0.9 it goes from 0.014 to 0.093.",
    ),
    Choice(
        "it is lower as soon as the greedy arm is the best one",
        False,
        "It is the best one here, at 0.9 as well. What counts is the distance to the best baseline, for two arms (1 − "
        "p) · 1 + p · 0.2: at 0.9 that is 0.28, and 0 is nearer to it than 1.",
    ),
    Choice(
        "the mean reward 0.92 at p = 0.9 would be the best baseline",
        False,
        "It leaves 0.074, and no baseline leaves 0.014. The rare arm's score is 9 times as long, 0.9 against 0.1 in "
        "each logit, so its reward decides: b = 0.28 leaves no variance at all.",
    ),
    section="Four neighbours",
)

question(
    "surrogate_variance.one_by_construction",
    "From a further section. Advantages are normalised over the batch: mean 0, standard deviation 1, both with the "
    "divisor n. Before the first step of every update a log says: batch variance of rA = 1.000. What does it tell you?",
    Choice(
        "that the advantages are well behaved",
        False,
        "1, 1, 1, 1, 10 gives 1 as well, after (x − 2.8)/3.6: four times −0.5 and once 2. Whatever A was, at r = 1 "
        "this number is 1 (3.24).",
    ),
    Choice(
        "nothing about the advantages, nor about the method",
        True,
        "At r = 1 the samples are the normalised advantages, and their variance was divided out. A constant is being "
        "logged.",
    ),
    Choice(
        "something worth comparing, if it is taken again after the last step",
        True,
        "Then the ratios are in it, and its distance from 1 is their work. Two samples A = 1 and −1 with r = 1.2 and "
        "0.8 have x = 1.2 and −0.8: still 1. With 1.2 and 1.2 it is 1.44.",
    ),
    Choice(
        "that within each sign class it is 1 too",
        False,
        "Half of the samples at 1 and half at −1 have the variance 1 together, and 0 within either class. The "
        "distance between the classes is the rest.",
    ),
    section="Four neighbours",
)

# --- before its results ---------------------------------------------------------------------------

prediction(
    "surrogate_variance.ess",
    "The policy tilts along the advantage until E|r − 1| = 0.6, on the chapter's bandit with five actions. How many "
    "samples of the new policy are 100 samples of the old one worth?",
    unit="samples",
    low=0,
    high=100,
    section="2",
)

_BATCH = (
    "16 samples of the same bandit, at E|r − 1| = 0.3, are used to estimate the surrogate. As a multiple of the plain "
    "mean's, what is the mean squared error"
)
prediction(
    "surrogate_variance.masked",
    f"{_BATCH} of the mean after D-PPO's dropping? By our reconstruction the lowest fifth of each sign class goes. "
    "Below 1 is better.",
    low=0,
    section="8",
)
prediction(
    "surrogate_variance.controlled",
    f"{_BATCH} of the mean with the ratio as a control variate, its coefficient fitted to the same samples? Below 1 is "
    "better.",
    low=0,
    section="8",
)

prediction(
    "surrogate_variance.moved",
    "PPO is trained on CartPole, with ten epochs per batch. Late in the run, right after an update: how many times as "
    "large as the variance of A alone is that of rA, over the samples of the batch with A ≥ 0?",
    low=0,
    section="9",
)
