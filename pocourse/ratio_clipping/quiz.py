"""What chapter 2 asks: what one needs before it, what one knows after it, and what one expects of its results."""

from pocourse.lesson.questions import Choice, prediction, question

SUTTON_BARTO = (
    "Sutton & Barto, Reinforcement Learning: An Introduction, section 5.5",
    "http://incompleteideas.net/book/the-book-2nd.html",
)
SPINNING_UP = (
    "Spinning Up, Key concepts in RL",
    "https://spinningup.openai.com/en/latest/spinningup/rl_intro.html",
)
D2L_CALCULUS = ("Dive into Deep Learning, Calculus", "https://d2l.ai/chapter_preliminaries/calculus.html")
D2L_SOFTMAX = (
    "Dive into Deep Learning, Softmax regression",
    "https://d2l.ai/chapter_linear-classification/softmax-regression.html",
)
D2L_INFORMATION = (
    "Dive into Deep Learning, Information theory",
    "https://d2l.ai/chapter_appendix-mathematics-for-deep-learning/information-theory.html",
)

# --- before the chapter ---------------------------------------------------------------------------

question(
    "ratio_clipping.entry_weights",
    "Two actions are drawn with probabilities π = (½, ½), and they are worth f = (2, 6). Another policy draws them "
    "with π′ = (¾, ¼). Which of these is the average worth under π′?",
    Choice(
        "the average of f × π/π′ over actions drawn from π",
        False,
        "The weight stands on its head. It gives ½ · 2 · ⅔ + ½ · 6 · 2 = 6⅔. What has become likelier must count for "
        "more, so the new probability belongs in the numerator.",
    ),
    Choice(
        "the average of f × π′/π over actions drawn from π",
        True,
        "½ · 2 · 3/2 + ½ · 6 · ½ = 3. In each term the old probability cancels and the new one remains: that is all "
        "there is to importance weighting.",
    ),
    Choice(
        "the average of f over actions drawn from π",
        False,
        "That is ½ · 2 + ½ · 6 = 4, the average under π. The samples come from π, and without weights they speak for "
        "π only.",
    ),
    Choice("3", True, "¾ · 2 + ¼ · 6 = 3: an average is a sum of values, each times its probability."),
    section="1",
    kind="entry",
    read_up=SUTTON_BARTO,
)

question(
    "ratio_clipping.entry_advantage",
    "In state s the action L is followed by the rewards 2, 0, 0, ... and R by 0, 0, 24, 0, ..., the first one "
    "undiscounted. With γ = ½, and a policy π that takes L with probability ¾, what is true in s?",
    Choice(
        "Q_π(s, R) = 6",
        True,
        "The reward 24 comes two steps after the first one and counts γ² = ¼ of itself: 24 · ¼ = 6. For L it is 2.",
    ),
    Choice(
        "V_π(s) = 6, and so no advantage is positive",
        False,
        "6 is the value of the best action. V_π is the average over what π itself does, ¾ · 2 + ¼ · 6 = 3; an action "
        "that is better than this average has a positive advantage.",
    ),
    Choice(
        "the advantages are A_π(s, L) = −2 and A_π(s, R) = 2",
        False,
        "This subtracts 4, the plain mean of 2 and 6. The value weights the actions by how often π takes them: it is "
        "3, and the advantages are −1 and 3.",
    ),
    Choice(
        "averaged over the actions of π, the advantage is zero",
        True,
        "¾ · (−1) + ¼ · 3 = 0. It is so in every state: the average of Q_π over π's actions is V_π, which is "
        "subtracted.",
    ),
    Choice(
        "averaged over the actions of any policy, the advantage is zero",
        False,
        "A policy that always takes R has the average 3. Over π's own actions the advantages must cancel; what is "
        "left over those of another policy is what it gains in this state, as judged by the old advantages.",
    ),
    section="1",
    kind="entry",
    read_up=SPINNING_UP,
)

question(
    "ratio_clipping.entry_distance",
    "p and q are distributions over the same few actions; TV(p, q) = ½ Σ |p − q| and KL(p‖q) = Σ p log(p/q). What is "
    "true?",
    Choice(
        "KL(p‖q) = KL(q‖p), because it is a distance",
        False,
        "With p = (½, ½) and q = (1, 0) the first is infinite and the second log 2. The total variation is "
        "symmetric, the Kullback-Leibler divergence is not, so its order has to be said each time.",
    ),
    Choice(
        "KL(p‖q) is infinite if q is zero somewhere where p is not",
        True,
        "There the term p log(p/q) is infinite: p gives an action a chance of which q knows nothing.",
    ),
    Choice(
        "if TV(p, q) is tiny then KL(p‖q) is tiny",
        False,
        "Take p = (1 − δ, δ) and q = (1, 0): TV is δ, as small as you like, and KL(p‖q) is infinite. The converse "
        "does hold: a tiny KL means a tiny TV.",
    ),
    Choice(
        "KL(p‖q) can be negative if q is the larger one at most actions",
        False,
        "Single terms are negative where q > p, but the sum never is: log x ≤ x − 1 gives −KL(p‖q) ≤ Σ p (q/p − 1) ≤ "
        "0.",
    ),
    Choice(
        "TV(p, q) is never larger than 1",
        True,
        "Σ |p − q| is at most Σ p + Σ q = 2, and half of that is 1. It is reached where p and q share no action.",
    ),
    section="2",
    kind="entry",
    read_up=D2L_INFORMATION,
)

question(
    "ratio_clipping.entry_kink",
    "Let f(x) = min(−x, −½), the smaller of a falling line and a constant. What is true of f?",
    Choice(
        "its slope is −1 for x < ½ and 0 for x > ½",
        False,
        "That is the slope of the larger of the two. At x = 0 the line is at 0 and the constant at −½: the smaller "
        "one is the constant. A minus sign swaps the sides, and this is where the cases of PPO are mixed up.",
    ),
    Choice(
        "its slope is 0 for x < ½ and −1 for x > ½",
        True,
        "Left of ½ the constant −½ is the smaller one, right of it the line −x. Where f follows the constant it is "
        "flat.",
    ),
    Choice(
        "at x = ½ its derivative is −½, the middle of the two slopes",
        False,
        "The slopes from the left (0) and from the right (−1) differ, so there is no derivative at the kink. A "
        "library that returns a number there has made a choice.",
    ),
    Choice(
        "it is concave: no chord lies above its graph",
        True,
        "The smaller of two straight lines is always concave: each line is, and a chord that lies below both lies "
        "below the smaller one.",
    ),
    section="3",
    kind="entry",
    read_up=D2L_CALCULUS,
)

question(
    "ratio_clipping.entry_softmax",
    "A policy over three actions is a softmax, π(a) = exp(z_a) / Σ exp(z_b). One gradient step raises the logit z₁ "
    "and leaves z₂ and z₃ as they are. What happens?",
    Choice(
        "π(2) and π(3) shrink, and π(2)/π(3) stays the same",
        True,
        "Both are divided by the same larger sum. Their quotient is exp(z₂ − z₃), in which z₁ does not occur.",
    ),
    Choice(
        "π(2) and π(3) stay, because their logits stay",
        False,
        "Probabilities add up to one: if π(1) grows the others must give way. A logit alone is no probability; the "
        "sum in the denominator ties all actions together.",
    ),
    Choice(
        "log π(1) grows by exactly as much as z₁",
        False,
        "log π(1) = z₁ − log Σ exp(z_b), and the second term grows too. The derivative is 1 − π(1), which is less "
        "than 1.",
    ),
    Choice(
        "π becomes what it would be if z₂ and z₃ had been lowered by the same amount instead",
        True,
        "The two results differ by one number added to all three logits, and a softmax does not notice that: it "
        "cancels in the fraction.",
    ),
    section="6",
    kind="entry",
    read_up=D2L_SOFTMAX,
)

# --- on the chapter -------------------------------------------------------------------------------

question(
    "ratio_clipping.what_the_ratio_corrects",
    "The surrogate L_π(π′) weights data of π with r = π′/π. Suppose the advantages are exact and there are as many "
    "samples as you like. What is still wrong with it?",
    Choice(
        "nothing: with r in front the average over the old data is the true gain",
        False,
        "It would be, if there were a single state. Equation (2.1) moves the average from π's actions to those of π′ "
        "in a given state; which states are visited is another matter.",
    ),
    Choice(
        "its gradient at π′ = π points in a slightly wrong direction",
        False,
        "At π′ = π the gradients of surrogate and true gain agree. The error is of second order along a smooth path "
        "of policies (2.4), so the first small step is right.",
    ),
    Choice(
        "it averages over the states that π visits, and π′ will visit others",
        True,
        "The exact gain (2.2) asks for the states of π′, and d_π has been put in their place. The ratio corrects "
        "actions exactly and states not at all.",
    ),
    Choice(
        "actions that π′ takes more often than π are counted too rarely",
        False,
        "That is what r repairs: an action three times as likely counts three times. It fails only for actions that "
        "π never plays at all, for which there is no sample to weight.",
    ),
    section="1",
)

question(
    "ratio_clipping.mean_and_each",
    "All old probabilities are positive, and a large batch shows a mean |r − 1| of 0.1. PPO has ε = 0.2. What may "
    "you conclude about the batch?",
    Choice(
        "averaged over its states, the total variation between π and π′ is about 0.05",
        True,
        "By (2.3) the total variation is half the mean of |r − 1|. About, because the batch mean estimates the "
        "expectation.",
    ),
    Choice(
        "every ratio lies between 0.8 and 1.2",
        False,
        "A mean says nothing of the kind: ninety samples at r = 1 and ten at r = 2 have it too. If each ratio keeps "
        "to ε so does the mean; the converse is false.",
    ),
    Choice(
        "fewer than half of its samples lie beyond the edges 0.8 and 1.2",
        True,
        "Each such sample adds more than 0.2. If half of them or more did so, the mean would be above 0.1.",
    ),
    Choice(
        "the clip has done nothing yet, as the mean is below ε",
        False,
        "The clip looks at single ratios and not at their mean. Up to almost half of the samples may lie beyond an "
        "edge, and each that has gone there the way its advantage pushes has lost its gradient.",
    ),
    section="2",
)

question(
    "ratio_clipping.what_a_bound_certifies",
    "At γ = 0.99, in the median random world, (2.6) guarantees that nothing is lost up to a mixture weight α = "
    "0.0041 towards the greedy policy. How do you read that?",
    Choice(
        "with α = 0.1 performance drops",
        False,
        "A guarantee that ends is no damage that begins. Here there is none at all: the greedy policy has Ā(s) ≥ 0 "
        "in every state, and then the exact gain (2.2) is not negative for any α.",
    ),
    Choice(
        "beyond this α the bound makes no promise either way",
        True,
        "There the penalty is larger than the surrogate. What the true gain is, the bound does not say; other "
        "arguments may.",
    ),
    Choice(
        "the constant of (2.6) is about two thousand times too large and should be divided",
        False,
        "No smaller constant would be true: the world of two states needs 91 per cent of it at α = 0.001, and all of "
        "it in the limit. A bound has to hold in the worst world, and these are ordinary ones.",
    ),
    Choice(
        "it is why practice keeps the form and sets the leash by hand",
        True,
        "A large surrogate and a small change of the ratios is the form. Its strength as proven, less than half a "
        "per cent of the way, would hardly let anything move.",
    ),
    section="2",
)

question(
    "ratio_clipping.bad_action_likelier",
    "A sample has A = −1 and r = 1.5, and ε = 0.2. PPO maximises f = min(rA, clip(r, 1 − ε, 1 + ε) A). What is "
    "∂f/∂r, and what does it do?",
    Choice(
        "0, since r lies outside the range",
        False,
        "Only half of what lies outside is flat. A gradient of zero here would mean that PPO could not undo its own "
        "mistakes; it is the first wrong twin of (2.13).",
    ),
    Choice(
        "0, since the clipped product −1.2 is the smaller one",
        False,
        "It is smaller in size. As a number −1.5 is the smaller of the two, so the minimum takes the unclipped "
        "product, and that has a slope.",
    ),
    Choice(
        "−2.5, a pull that grows with the distance |r − 1|",
        False,
        "A pull that grows with the distance belongs to a parabola: SPO has A − (|A|/ε)(r − 1) = −3.5 here. PPO's "
        "slope is A or zero, and nothing else.",
    ),
    Choice(
        "−1, the full slope A, which makes the action rarer again",
        True,
        "The minimum takes rA = −1.5, with the slope A = −1. A bad action has become likelier, the ratio has gone "
        "against its advantage, and the gradient repairs it.",
    ),
    section="3",
)

question(
    "ratio_clipping.where_it_is_flat",
    "ε = 0.2. For which of these samples does PPO's objective have slope zero in r?",
    Choice(
        "A = +2 and r = 1.3",
        True,
        "The ratio went up, as A pushes it, and is beyond 1.2: the reward for going on is gone.",
    ),
    Choice(
        "A = +2 and r = 0.7",
        False,
        "A good action has become rarer. The unclipped product 1.4 is below the clipped 1.6, so the slope is still A.",
    ),
    Choice(
        "A = −2 and r = 0.7",
        True,
        "The ratio went down, as A pushes it, and is below 0.8: the minimum is the clipped product −1.6, a constant.",
    ),
    Choice(
        "A = −2 and r = 1.1",
        False,
        "Inside the range clip(r) = r, and both products are the same: the slope is A, whatever its sign.",
    ),
    Choice(
        "A = −2 and r = 1.3",
        False,
        "A bad action has become likelier. The unclipped product −2.6 is below the clipped −2.4, so the slope is "
        "still A.",
    ),
    section="3",
)

question(
    "ratio_clipping.one_ratio_and_kl",
    "In a state with three actions, all with π > 0, one action was sampled, and after the update its ratio is "
    "exactly 1. What follows for this state?",
    Choice(
        "KL(π‖π′) = 0, because log r = 0",
        False,
        "log r = 0 holds for the sampled action. The divergence averages over all three, and the other two may have "
        "exchanged any amount of probability.",
    ),
    Choice(
        "KL(π‖π′) ≤ −log(1 − ε), because the ratio keeps to the range",
        False,
        "That needs r ≥ 1 − ε for *all* actions (2.16). The sampled one alone keeps to the range here, and of the "
        "others nothing is known.",
    ),
    Choice(
        "KL(π‖π′) may be as large as you like",
        True,
        "Let one of the other two actions tend to probability zero and the other take what it had. The sampled ratio "
        "stays 1, and the divergence grows without limit (2.15).",
    ),
    Choice(
        "the total variation may be as large as you like",
        False,
        "It is bounded, by what the other two actions have together: a limit, though not a small one. In the "
        "chapter's example it goes up to 0.3, and the mean of |r − 1| to 0.6.",
    ),
    Choice(
        "with two actions instead of three, π′ would equal π",
        True,
        "With two actions the probability of one fixes the other: if one ratio is 1, both are. The escape takes three.",
    ),
    section="4",
)

question(
    "ratio_clipping.what_pulls_back",
    "A sample with A > 0 has been carried to r = 1 + 2ε. Which of these objectives pulls it back with its own "
    "gradient, and how strongly?",
    Choice(
        "PPO, since the clip holds the ratio at 1 + ε",
        False,
        "A slope of zero stops pushing and holds nothing. What is beyond the edge stays there, unless other samples "
        "move it.",
    ),
    Choice(
        "SPO, as strongly as it pushed at r = 1",
        True,
        "Its slope is A − (|A|/ε)(r − 1). At r = 1 that is A, at 1 + ε zero, and at 1 + 2ε it is −A; further out it "
        "pulls harder still.",
    ),
    Choice(
        "SPO, with the same small pull wherever the ratio is beyond the edge",
        False,
        "A constant slope beyond the edge, −κA, is PPO-RB's way (2.18). SPO's derivative is a straight line in r, "
        "and its pull grows with the distance.",
    ),
    Choice(
        "the unclipped surrogate, since rA is already too large",
        False,
        "Its slope is A everywhere and keeps pushing outwards, however far the ratio has gone. That is the reason "
        "for all the others.",
    ),
    section="5",
)

question(
    "ratio_clipping.where_the_top_is",
    "f(r) = rA − (r − 1)² |A| / (2ε), with A = −2 and ε = 0.2. Where does this objective have its top, and how high "
    "is it?",
    Choice(
        "at r = 0.8, with f = −1.8",
        True,
        "The top is at 1 + ε sign(A) = 0.8. There rA = −1.6, and the penalty takes 5 · 0.04 = 0.2, half of the 0.4 "
        "that was gained: A + ½ε|A| = −1.8.",
    ),
    Choice(
        "at r = 0.8, with f = −1.6",
        False,
        "The place is right. The height is the one of PPO, A + ε|A|, where the clip acts; the parabola still pays "
        "its penalty of 0.2 at the top.",
    ),
    Choice(
        "at r = 0.6, with f = −1.2: a large advantage may go further",
        False,
        "The penalty is proportional to |A| as well, so the size of A cancels and the top is at the edge for every "
        "size. At 0.6 the value is −1.2 − 0.8 = −2.",
    ),
    Choice(
        "nowhere: for A < 0 the parabola is convex",
        False,
        "The second derivative is −|A|/ε, negative for either sign of A: f is concave, and it has to be, since a "
        "convex function has no top inside.",
    ),
    section="5",
)

question(
    "ratio_clipping.two_estimates_of_kl",
    "From the further part of the section. Samples come from π, and r = π′/π with π > 0 throughout. Two estimates of "
    "a divergence are the batch means of k₁ = −log r and k₃ = r − 1 − log r. What is true?",
    Choice(
        "both estimate KL(π‖π′) without bias",
        True,
        "The average of −log r over π is KL(π‖π′), and E[r − 1] = Σ π′ − Σ π = 0: adding it changes no expectation "
        "(2.31).",
    ),
    Choice(
        "k₃ is never negative, sample by sample",
        True,
        "log r ≤ r − 1 for every r > 0. A single −log r is negative whenever r > 1, although the divergence is not.",
    ),
    Choice(
        "k₃ has the smaller variance, whatever the policies",
        False,
        "As long as the ratios stay near one, yes. Where single ratios are very large, r itself varies far more than "
        "log r, and the term that calmed the estimate upsets it.",
    ),
    Choice(
        "k₃ estimates KL(π′‖π), since r carries π′ into the average",
        False,
        "The direction is fixed by whose actions are averaged: these come from π. For KL(π′‖π) one would average r "
        "log r over them.",
    ),
    section="5",
)

question(
    "ratio_clipping.biased_on_purpose",
    "In the three-action state, far from the data, SPO's mean gradient has a cosine of −0.87 with the gradient of "
    "the true gain, PPO's has 0.73. How do you read this?",
    Choice(
        "SPO has a sign error that only shows far from the data",
        False,
        "Near the data its gradient points the right way. Far out the pull back to the edge is larger than the push "
        "of the advantage, and this is what the parabola is made for.",
    ),
    Choice(
        "both are biased on purpose: they do not follow the gain outside the range",
        True,
        "PPO keeps only the samples that are not clipped, and SPO brings the policy home. Neither wants the gradient "
        "of the gain there.",
    ),
    Choice(
        "PPO is the best of them, as it needs only 7 samples",
        False,
        "That column does not see the bias: 7 samples until the standard error is a tenth of the length, and then "
        "one knows a wrong direction rather exactly.",
    ),
    Choice(
        "the unclipped estimator has no bias, not even there",
        True,
        "There is one state, so nothing but the actions has to be corrected, and the ratio does that exactly, "
        "wherever the policy goes.",
    ),
    section="6",
)

question(
    "ratio_clipping.why_dragged",
    "On one batch of noise, with a network of three hidden layers, PPO's mean |r − 1| ends at about twice ε. What "
    "carries the clipped samples on?",
    Choice(
        "Adam's momentum, which does not stop at the edge",
        False,
        "It does carry them over the edge, and not far: with a free log-ratio for each sample, and the same "
        "optimizer, the mean ends at 0.23.",
    ),
    Choice(
        "their own gradients, since rA goes on growing",
        False,
        "A sample that has crossed the edge the way its advantage pushes it has a slope of zero: the minimum is the "
        "clipped product, a constant.",
    ),
    Choice(
        "the gradients of other samples, through the parameters that all of them share",
        True,
        "A step along the batch's gradient changes every ratio, also one that asked for nothing. Where the change "
        "has the sign of its advantage, the ratio goes further out (2.17).",
    ),
    Choice(
        "the noise: with real advantages the clip would hold",
        False,
        "Nothing in the clip asks where an advantage comes from. A slope of zero holds nothing, and the shared "
        "parameters are there with real advantages too.",
    ),
    section="7",
)

question(
    "ratio_clipping.reading_the_result",
    "In the recorded run with six layers PPO's largest minibatch mean |r − 1| passes ε = 0.2 in all 8 seeds, and 7 "
    "of the 8 end with a return of 475 or more. What do you conclude?",
    Choice(
        "PPO collapses with depth, as the SPO paper reports for MuJoCo",
        False,
        "Not here: that result does not replicate on CartPole. The ratios go further out with six layers, and the "
        "return reaches the top all the same.",
    ),
    Choice(
        "in each seed there was a minibatch with ratios beyond the clip",
        True,
        "If all ratios kept to ε, so would their mean. A mean above ε proves that some did not.",
    ),
    Choice(
        "with two layers, where 7 of 8 seeds stay below 0.2, no ratio went beyond",
        False,
        "A mean below ε proves nothing about single ratios: some may be far out while most are near 1.",
    ),
    Choice(
        "SPO would have been done sooner, as its ratios keep closer",
        False,
        "It is slower here: it needs about 30 per cent more steps than PPO to reach 475 with six layers, and half as "
        "many again with two. Control has a price.",
    ),
    Choice(
        "a larger |r − 1| is a loss of control, and need not be one of return",
        True,
        "The gauge measures how far the policy has moved, and CartPole forgives it. Elsewhere the same loss of "
        "control may cost a lot.",
    ),
    section="9",
)

# --- before its results ---------------------------------------------------------------------------

prediction(
    "ratio_clipping.tightness",
    "Take ordinary worlds, drawn at random, with 5 states and 3 actions, and γ = 0.99. The bound (2.6) allows the "
    "surrogate to be wrong by a penalty. How much of that penalty does the true error use up, in the median world?",
    answer=(
        "about all of it: 50% or more",
        "a good part of it: between 5% and 50%",
        "about a hundredth of it: between 0.1% and 5%",
        "almost none of it: less than 0.1%",
    ),
    ranges=((0.5, float("inf")), (0.05, 0.5), (0.001, 0.05), (0.0, 0.001)),
    section="2",
)

prediction(
    "ratio_clipping.dragged",
    "PPO with ε = 0.2 takes 300 steps on one and the same batch of noise, with a network of three hidden layers. "
    "Where does the batch mean of |r − 1| end?",
    low=0,
    section="7",
)

_DEEP = (
    "with ε = 0.2, ten epochs per batch and a policy of six layers, on CartPole. What is the largest minibatch mean "
    "of |r − 1| in the whole run?"
)
prediction("ratio_clipping.deepest", f"PPO is trained {_DEEP}", low=0, section="8")
prediction("ratio_clipping.deepest_spo", f"SPO is trained {_DEEP}", low=0, section="8")
prediction(
    "ratio_clipping.deepest_unclipped",
    "And the surrogate without any clip, with the same ten epochs and six layers: what is its largest minibatch mean "
    "of |r − 1|?",
    low=0,
    section="8",
)
