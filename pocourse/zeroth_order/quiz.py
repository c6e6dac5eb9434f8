"""What chapter 4 asks: what one needs before it, what one knows after it, and what one expects of its results."""

from pocourse.lesson.questions import Choice, prediction, question

D2L_RANDOM = (
    "Dive into Deep Learning, Random variables",
    "https://d2l.ai/chapter_appendix-mathematics-for-deep-learning/random-variables.html",
)
D2L_CALCULUS = (
    "Dive into Deep Learning, Multivariable calculus",
    "https://d2l.ai/chapter_appendix-mathematics-for-deep-learning/multivariable-calculus.html",
)
D2L_ADAM = ("Dive into Deep Learning, Adam", "https://d2l.ai/chapter_optimization/adam.html")
BLUM = (
    "Blum, Hopcroft and Kannan, Foundations of Data Science, chapter 2, High-dimensional space",
    "https://www.cs.cornell.edu/jeh/book.pdf",
)
SPINNING_UP = (
    "Spinning Up, Intro to policy optimization, Baselines in policy gradients",
    "https://spinningup.openai.com/en/latest/spinningup/rl_intro3.html",
)

# --- before the chapter ---------------------------------------------------------------------------

question(
    "zeroth_order.entry_baseline",
    "A policy takes the action −1 or 1, each with probability ½. The score, the derivative of the action's "
    "log-probability, is −1 or 1 as well, and the losses are 14 and 10. An estimate of the gradient of the mean loss, "
    "called REINFORCE, averages (loss − b) · score over samples. What does the baseline b do?",
    Choice(
        "it makes the gradient smaller, as losses become smaller",
        False,
        "With b = 12 the two samples go from −14 and 10 to −2 and −2, and their mean was −2 before. What has become "
        "smaller is the scatter.",
    ),
    Choice(
        "nothing to the mean, which is −2 for any b",
        True,
        "½ · (−1)(14 − b) + ½ · (10 − b) = −2: b drops out, as the score has mean zero.",
    ),
    Choice(
        "it lowers the variance for any b",
        False,
        "With b = −10 the samples are −24 and 20, and their variance is 22² = 484. Without a baseline it is 12² = 144.",
    ),
    Choice(
        "with b = 12 it takes away all of the variance",
        True,
        "(14 − 12) · (−1) and (10 − 12) · 1 are both −2.",
    ),
    Choice(
        "it may be the loss of the action itself",
        False,
        "Then every sample is 0, and so is the mean: the gradient is gone. What a baseline may know of the action is "
        "a question for section 2; its own loss it may not.",
    ),
    section="1",
    kind="entry",
    read_up=SPINNING_UP,
)

question(
    "zeroth_order.entry_covariance",
    "(u, y) is (1, 7), (1, 5), (−1, 3) or (−1, 1), each with probability ¼. What is true?",
    Choice(
        "uy has the variance 21",
        False,
        "That is its mean square, (49 + 25 + 9 + 1)/4. Its mean is 2, and 21 − 2² = 17 is the variance.",
    ),
    Choice(
        "with 10 added to every y, u and y have the covariance 12",
        False,
        "A constant moves y and its mean alike. (17 + 15 − 13 − 11)/4 = 2, as before.",
    ),
    Choice(
        "the covariance of u and y is 2",
        True,
        "E[uy] = (7 + 5 − 3 − 1)/4 = 2. E u · E y = 0 · 4 has to come off, and that is nothing.",
    ),
    Choice(
        "with 4 taken from every y, uy has the variance 1",
        True,
        "uy becomes 3, 1, 1, 3: its mean is still 2, because E u = 0, and its variance is 5 − 4 = 1. Sections 2 and 3 "
        "live on this.",
    ),
    section="2",
    kind="entry",
    read_up=D2L_RANDOM,
)

question(
    "zeroth_order.entry_quadratic",
    "f(x) = 2x₁² + x₁x₂ − x₂² in the plane, at the point (1, 1), with gradient g and Hessian H. What is true?",
    Choice(
        "the gradient there is (5, −1)",
        True,
        "It is (4x₁ + x₂, x₁ − 2x₂), which is (5, −1) at (1, 1).",
    ),
    Choice(
        "a step v = (1, 0) changes f by g · v = 5",
        False,
        "f goes from 2 to 9, and that is 7. The rest is ½ v · Hv = ½ · 4 = 2; for a quadratic there is nothing else.",
    ),
    Choice(
        "tr H² = (tr H)² = 4",
        False,
        "H has the rows (4, 1) and (1, −2), so tr H = 2. But tr H² is the sum of all squared entries, 16 + 1 + 1 + 4 "
        "= 22.",
    ),
    Choice(
        "f curves upwards in every direction, as tr H = 2 is positive",
        False,
        "Along (0, 1) the curvature is −2. The trace adds curvatures up, here 4 − 2, and one can hide the other.",
    ),
    Choice(
        "f(x + v) − f(x − v) = 2 g · v for every v",
        True,
        "The curvature is the same on both sides, and drops out. For v = (1, 0): 9 − (−1) = 10 = 2 · 5.",
    ),
    section="3",
    kind="entry",
    read_up=D2L_CALCULUS,
)

question(
    "zeroth_order.entry_norm",
    "u and v are independent vectors of 10,000 independent standard normal numbers each. What is true?",
    Choice(
        "the length of u is about 1, as the size of each coordinate is",
        False,
        "|u|² sums up 10,000 squares whose mean is 1 each, so |u| is about √10,000 = 100.",
    ),
    Choice(
        "most such vectors lie near 0, where the density is largest",
        False,
        "It is largest there, and there is next to no room: not one in a million is shorter than 95.",
    ),
    Choice(
        "u and v point in about the same direction",
        False,
        "u · v has mean 0 and standard deviation 100, and |u| |v| is about 10,000. Their cosine is about 0.01 in "
        "size: nearly a right angle.",
    ),
    Choice(
        "the length of u is 100, give or take 3, nearly always",
        True,
        "|u|² has the standard deviation √(2 · 10,000) = 141.4 around 10,000. That makes 0.71 in |u|, and 3 is more "
        "than four times as much.",
    ),
    Choice(
        "with σ = 0.05 the length of σu is about 5",
        True,
        "0.05 · 100 = 5. What is a small radius in each coordinate is a long way in many of them.",
    ),
    section="3",
    kind="entry",
    read_up=BLUM,
)

question(
    "zeroth_order.entry_adam",
    "Adam keeps running means, m of g and v of g², and moves each coordinate by −η m/(√v + ε), ε tiny. For a long "
    "time g has been 4 in every coordinate. What is true?",
    Choice(
        "with gradients 100 times as large the steps are 100 times as long",
        False,
        "m = 400 and √v = 400: the size of the gradient cancels, and η alone sets the length.",
    ),
    Choice(
        "every coordinate moves by about −η",
        True,
        "m = 4, and v = 16, so √v = 4: their quotient is 1.",
    ),
    Choice(
        "with g = 4 and −4 in turn every coordinate would still move by η",
        False,
        "√v is 4 as before, but in m the signs cancel nearly. With 0.9 as the decay of m it swings between 4/19 and "
        "−4/19, so a step has the length η/19.",
    ),
    Choice(
        "in 10,000 dimensions the whole step has about the length 100 η",
        True,
        "|Δ|² is 10,000 times η², so |Δ| = √10,000 η = 100 η. With η = 0.001 this is 0.1.",
    ),
    section="9",
    kind="entry",
    read_up=D2L_ADAM,
)

# --- on the chapter -------------------------------------------------------------------------------

question(
    "zeroth_order.acts_once",
    "f(x) = x² on a line. A policy that acts once draws x from N(θ, σ²), with θ = 1 and σ = ½. What is true?",
    Choice(
        "its expected loss is f(1) = 1",
        False,
        "E x² = θ² + σ² = 1.25. This is F(1), the value of the smoothed function (4.1), and it lies above f where f "
        "curves upwards.",
    ),
    Choice(
        "the score of the action 1.5 is its distance ½",
        False,
        "(x − θ)/σ² = 0.5/0.25 = 2, which is u/σ with u = 1 (4.2). A narrow policy has a large score.",
    ),
    Choice(
        "f(x) times the score averages 2",
        True,
        "It averages the slope of F = θ² + σ², which is 2θ = 2 (4.1). That f has the same slope there is because it "
        "is a quadratic; for x³ it would be 3.75 against 3.",
    ),
    Choice(
        "with −f as the reward the policy would go the other way",
        False,
        "Ascending E[−f] and descending E[f] are one step: two signs turn at once. In (4.1) f is a loss.",
    ),
    section="1",
)

question(
    "zeroth_order.one_batch",
    "Three directions on a line, u = 1, −1 and 3 with σ = 1, gave the values 6, 4 and 11, and f(θ) = 5. Which "
    "estimates are worked out correctly?",
    Choice(
        "forward difference: 20/4 = 5, as four values were paid for",
        False,
        "The terms are 1 · 1, (−1) · (−1) and 6 · 3, so 20 in all, and there are three of them: 20/3 = 6.67 (4.3). "
        "The fourth value pays for the baseline.",
    ),
    Choice(
        "mean as the baseline, divided by 3: 14/3 = 4.67",
        True,
        "(−1) · 1 + (−3) · (−1) + 4 · 3 = 14. The unbiased estimate is 14/2 = 7, and this one is 1 − 1/3 of it (4.4).",
    ),
    Choice(
        "leave-one-out: 7",
        True,
        "The others' means are 7.5, 8.5 and 5, which makes −1.5 + 4.5 + 18 = 21, and 21/3 = 7 (4.5).",
    ),
    Choice(
        "mean over the three pairs: 42/3 = 14",
        False,
        "The products (y − y′)(u − u′) are 4, 10 and 28, so 42 in all. A difference of two directions has twice the "
        "variance of one, so each product counts half: 42/6 = 7 (4.7).",
    ),
    Choice(
        "with 100 added to f all of them change",
        False,
        "None does: they use differences of values only (4.10). Without a baseline 35/3 = 11.67 would become 111.67.",
    ),
    section="2",
)

question(
    "zeroth_order.mirrored",
    "One mirrored pair with u = 2 and σ = 1: f(θ + σu) = 9, f(θ − σu) = 5, and f(θ) = 6 is known too. What is true?",
    Choice(
        "REINFORCE on both points gives 4, whatever b is",
        True,
        "((9 − b) · 2 − (5 − b) · 2)/2 = 4: b cancels within the pair, be it 0, 6 or 1000 (4.8).",
    ),
    Choice(
        "leave-one-out on both points gives the same",
        False,
        "Its divisor is 2 − 1, and it gives 8. Mirrored directions sum to zero by themselves, nothing is left to "
        "correct, and the estimate becomes twice as long (4.8).",
    ),
    Choice(
        "the point θ + σu alone gives 4 as well, with b = 7",
        True,
        "(9 − 7) · 2 = 4. The baseline 7 = (9 + 5)/2 knows the direction but not its sign, and so brings no bias "
        "(4.9).",
    ),
    Choice(
        "the point θ + σu alone gives 4 as well, with b = 5",
        False,
        "(9 − 5) · 2 = 8. The mirrored value is not even in u: it holds a slope of its own, and this is counted on "
        "top (4.9).",
    ),
    Choice(
        "with f(θ) as the baseline of both points it becomes calmer",
        False,
        "(9 − 6) · 2 = 6 and (5 − 6) · (−2) = 2 average 4, as with any other b (4.8). That value was bought for "
        "nothing.",
    ),
    section="2",
)

question(
    "zeroth_order.what_scatters",
    "Quadratics in the plane with |g| = 1, seen along one direction with σ = 1. “Variance” is the trace of the "
    "covariance of one estimate. What is true?",
    Choice(
        "H = diag(2, 2): 51 with b = f(θ), and 27 with b = F(θ)",
        True,
        "3 + ¼ · 6 · (16 + 16) = 51 (4.12), and 3 + ½ · 6 · 8 = 27 (4.13). What F takes away is (tr H)² = 16.",
    ),
    Choice(
        "H = diag(2, −2): b = F(θ) helps just as much",
        False,
        "tr H = 0, so F(θ) is f(θ), and the variance is 27 with either. tr H² = 8 is what no constant removes (4.13).",
    ),
    Choice(
        "H = 0: b = F(θ) still helps a little",
        False,
        "Then F is f, and the variance is (d + 1)|g|² = 3 with either (4.12). A plane cannot tell the two baselines "
        "apart.",
    ),
    Choice(
        "a mirrored pair has 3 for each of these H",
        True,
        "(d + 1)|g|² is all there is (4.14): both ends of a pair see the same curvature. It costs two values, though.",
    ),
    Choice(
        "with σ = ½ all of these become a quarter",
        False,
        "Only the part of the curvature does: 51 becomes 3 + 12 = 15 (4.12). The 3 comes from not knowing the "
        "direction of g, and stays for any σ.",
    ),
    section="3",
)

question(
    "zeroth_order.equal_queries",
    "f = ½|x|² in 1000 dimensions, σ² d = 25, ten values for each estimate: nine forward differences, RLOO with ten "
    "directions, or five mirrored pairs. How do their variances compare?",
    Choice(
        "the pairs have the least, near and far, as they cancel the curvature",
        False,
        "Far out, at |x|² = 1000, they have 1.78 times the variance of RLOO. Most of it comes from the slope there, "
        "and it counts that five directions are fewer than ten (4.14).",
    ),
    Choice(
        "at |x|² = 1000 forward differences have 7.19 times that of RLOO",
        True,
        "Both see the slope about equally well. But with f(θ) each term keeps the mean of the curvature (4.12), and "
        "the mean of ten values takes nearly all of it away (4.15).",
    ),
    Choice(
        "at |x|² = 1 the pairs have 0.13 times that of RLOO",
        True,
        "Now the slope is small, and RLOO scatters by the curvature, σ²/2 · (d + 4) tr H² in one direction (4.13). A "
        "pair does not feel it (4.14).",
    ),
    Choice(
        "in the minimum none of them scatters, as there is no slope",
        False,
        "The pairs do not. RLOO still does, and forward differences have 501.2 times the variance of RLOO there "
        "(4.12), (4.15).",
    ),
    section="3",
)

question(
    "zeroth_order.smoothed",
    "A Gaussian of radius σ turns f into F. What is true on a line?",
    Choice(
        "a step from 0 to 1 has no slope that F could show",
        False,
        "1/(σ√(2π)) at the jump, so 0.40 with σ = 1 (4.19). Values on both sides differ, and values are all that is "
        "asked for.",
    ),
    Choice(
        "a smaller σ makes the slope of F larger, near the step and far from it",
        False,
        "From σ = 1 to σ = ½ it rises from 0.40 to 0.80 at the step, and falls from 0.0540 to 0.0003 at a distance of "
        "2 (4.19): the same rise of 1 in less room.",
    ),
    Choice(
        "f = x³ and F have the slope 0 at x = 0, by symmetry",
        False,
        "F has 3σ² there, so 3 with σ = 1 (4.18). The values are symmetric with opposite signs, and x³ rises on both "
        "sides.",
    ),
    Choice(
        "with σ = 3 hardly anything is left of f = sin x",
        True,
        "Its slope keeps the factor e^(−σ²/2) = e^(−4.5) = 0.011 (4.18). Half a wave is π long, hardly more than the "
        "radius, so hills and valleys average out.",
    ),
    section="4",
)

question(
    "zeroth_order.ten_directions",
    "A linear f in 91 dimensions. Ten central differences along Gaussian directions are averaged. What is true?",
    Choice(
        "the squared cosine with the gradient is 0.1 on average",
        True,
        "K/(d + K − 1) = 10/100 (4.23). Orthonormal directions would have 10/91 = 0.110.",
    ),
    Choice(
        "the angle to the gradient is about 84 degrees",
        False,
        "0.1 is the cosine of 84.3 degrees, but here it is the square of a cosine (4.23). √0.1 = 0.316 belongs to "
        "71.6 degrees.",
    ),
    Choice(
        "91 such directions would find the gradient",
        False,
        "91/181 = 0.50 (4.23): Gaussian directions overlap, and what they share is counted twice. 91 orthonormal ones "
        "find it, with 91/91 = 1.",
    ),
    Choice(
        "centred ranks in place of the values would be as good",
        False,
        "With many directions they are worth 3/π = 0.955 of the samples (4.22). It is a small price, and one that is "
        "paid: on a plane the size of a difference says something too.",
    ),
    Choice(
        "for centred ranks, f and e^f are the same function",
        True,
        "e^f rises with f, so the order stays, and the ranks with it (4.10). The differences of values change a lot.",
    ),
    section="5",
)

question(
    "zeroth_order.stale",
    "100 queries were drawn around a former θ, with radius σ. Since then θ has moved by Δ. What is true?",
    Choice(
        "as |Δ| = σ is within the radius, all of them still count",
        False,
        "100 e^(−1) = 36.8 of them do, if they are reweighted (4.24).",
    ),
    Choice(
        "at |Δ| = 3σ reweighting leaves 5 of them, 100 e^(−3)",
        False,
        "It is the square of the distance that counts: 100 e^(−9) = 0.012 (4.24). One query carries nearly all of the "
        "weight, and that one by luck.",
    ),
    Choice(
        "0.1 σ in each of 10,000 coordinates is far",
        True,
        "|Δ| = √10,000 · 0.1 σ = 10σ, and e^(−100) of the queries are left, which is none (4.24).",
    ),
    Choice(
        "ZoAR reweights its old queries by these numbers",
        False,
        "Were it so, little would be left of its memory as soon as θ moves by more than σ (4.24). It takes old "
        "directions as if they had been drawn now, and what it pays is a lag.",
    ),
    Choice(
        "had θ stood still, 60 queries would scatter 6.6 times less than 10",
        True,
        "On a linear f the variance of n queries is (d + 1)|g|²/(n − 1) (4.15), and 59/9 = 6.56. That is the most a "
        "memory can gain there; a moving θ takes some of it back.",
    ),
    section="6",
)

question(
    "zeroth_order.pairs_remembered",
    "ZoAR asks at +u and −u in each iteration. Its memory of N = 6 iterations is full, and its baseline is the mean "
    "of all 12 values. What is true of its estimate?",
    Choice(
        "thanks to its baseline it is calmer than central differences",
        False,
        "The baseline cancels within every pair, be it the mean or 0 (4.8). If it is calmer, that is the memory.",
    ),
    Choice(
        "with β = 5/6 momentum would give the same",
        False,
        "The memory is a box: six weights of 1/6, and the seventh is 0 (4.25). Momentum fades, and still gives "
        "(1/6)(5/6)⁶ = 0.056 to the seventh.",
    ),
    Choice(
        "it makes the steps of Adam 12/11 as long",
        False,
        "m and √v carry this factor both, and it cancels. With plain SGD the steps would be 1.09 times as long (4.25).",
    ),
    Choice(
        "it is 12/11 of the mean of the last six central differences",
        True,
        "2N/(2N − 1) (4.25): the divisor 2N − 1 corrects for a mean taken away, and from mirrored directions nothing "
        "was taken.",
    ),
    section="6",
)

question(
    "zeroth_order.outlier",
    "From a further section. Four directions have the values 1, 2, 3 and 10, and every method weighs directions in "
    "its own way. What happens when the 10 becomes 1000?",
    Choice(
        "leave-one-out hardly tells the first three apart any more",
        True,
        "Their y − ȳ were −3, −2 and −1, and are −250.5, −249.5 and −248.5 now. Its estimate grows with the values "
        "(4.10).",
    ),
    Choice(
        "the centred ranks change too, but less",
        False,
        "They stay −1/2, −1/6, 1/6 and 1/2: only the order counts (4.10).",
    ),
    Choice(
        "the weights 2r − 4, with the ranks r = 0 to 3, stay and sum to zero",
        False,
        "They stay, but −4, −2, 0 and 2 sum to −4, and so a multiple of the mean direction comes in. It is 2r − 3 "
        "that sums to 0 (4.26).",
    ),
    Choice(
        "consensus weights, e^(−y) over their sum, still sum to zero",
        False,
        "They sum to 1, before and after: 0.67, 0.24, 0.09 and 0.00. What they average is points and not slopes "
        "(4.27).",
    ),
    section="7",
)

question(
    "zeroth_order.fair_race",
    "Five methods race: vanilla, history average, RLOO, antithetic and ZoAR. Each has ten values an iteration, and "
    "Adam with the same η. What can be said beforehand?",
    Choice(
        "all of them try ten directions an iteration",
        False,
        "f(θ) is a value as well, so vanilla has 9 directions (4.3). With 10 it would spend 11 values, 1.1 times its "
        "budget. Antithetic has 5, each both ways (4.8).",
    ),
    Choice(
        "with 1/K in place of 1/(K − 1) RLOO would fall behind",
        False,
        "Every estimate would be 0.9 of what it is (4.4), and Adam divides such a factor out. With plain SGD the "
        "steps would be shorter.",
    ),
    Choice(
        "1000 dimensions with σ = 0.05 are as hard on vanilla as 10,000",
        False,
        "The price of f(θ) is 1.63 there, and 7.24 in 10,000 dimensions (4.16). Only with σ² d = 25 again, so σ = "
        "0.158, is it 7.18.",
    ),
    Choice(
        "a constant added to f changes none of the five estimates",
        True,
        "f(θ), the mean, the mirrored value, the pooled mean: each baseline moves along with f, and the constant "
        "drops out (4.10). What is left is rounding.",
    ),
    section="9",
)

question(
    "zeroth_order.longer_steps",
    "Two methods with Adam and the same η. In every coordinate, A's estimates have mean 1 and standard deviation 10, "
    "B's have mean 1 and standard deviation 3. What is true once m and v have filled?",
    Choice(
        "both drift by η a step, as Adam sets the length of steps",
        False,
        "v holds the noise as well. √v is √(1 + 100) = 10.05 for A, which drifts by 0.0995 η a step, and √(1 + 9) = "
        "3.16 for B.",
    ),
    Choice(
        "B drifts about 3.2 times as fast as A",
        True,
        "0.316 η against 0.0995 η. A calmer estimate takes longer steps with the same η; to be ahead is not yet to be "
        "the better estimate.",
    ),
    Choice(
        "A with 3.2 times the η drifts about as fast as B",
        True,
        "3.2 · 0.0995 = 0.318. Tuning η gives back this advantage of B, and not its calm.",
    ),
    Choice(
        "each with its own best η, the method that was ahead stays ahead",
        False,
        "Not for sure. Then it counts how they scatter near the minimum, and there the order can be another: of ten "
        "values, mirrored pairs have 1.78 times the variance of RLOO far out on the quadratic of section 3, and none "
        "in its minimum (4.14).",
    ),
    section="10",
)

question(
    "zeroth_order.queries_to_success",
    "Five attacks with a budget of 1000 queries each. Three succeeded, after 200, 300 and 400; two did not. What can "
    "be said of the queries to success?",
    Choice(
        "300 on average",
        False,
        "That averages those that succeeded, and the hard ones are missing because they were hard. Had the third "
        "failed too, it would be 250, which looks even better.",
    ),
    Choice(
        "40 iterations with 10 directions each are 400, by any method",
        False,
        "By RLOO they are (4.5). Forward differences also ask for f(θ) and spend 440 (4.3), mirrored pairs ask twice "
        "and spend 800 (4.8). What has to be counted is queries.",
    ),
    Choice(
        "their median is 400",
        True,
        "Two needed fewer, and two need more than 1000; how much more does not matter to a median.",
    ),
    Choice(
        "their mean is at least 580",
        True,
        "(200 + 300 + 400 + 2 · 1000)/5 = 580 with the budget in the place of what is not known, and what is not "
        "known is larger.",
    ),
    section="11",
)

# --- before its results ---------------------------------------------------------------------------

prediction(
    "zeroth_order.forward_price",
    "f = ½|x|² in 10,000 dimensions with σ = 0.05, at a point about as far out as a random one: |x|² = d. A forward "
    "difference is REINFORCE with the baseline b = f(θ). Per direction, how many times as large is its variance as "
    "with the baseline b = F(θ), which the mean of many values approaches?",
    low=0,
    section="3",
)
prediction(
    "zeroth_order.cosine",
    "A linear function in 1000 dimensions, and its slopes along 60 random (Gaussian) directions, measured without any "
    "error and put together to one estimate. How well does it point? Say the square of its cosine with the gradient, "
    "on average: 1 is the gradient's direction, 0 a right angle.",
    low=0,
    high=1,
    section="5",
)
prediction(
    "zeroth_order.ess",
    "100 queries were drawn around θ with radius σ. Then θ moves by |Δ| = 2σ, and the old queries are reweighted for "
    "the new place. How many queries are they worth?",
    unit="queries",
    low=0,
    high=100,
    section="6",
)
prediction(
    "zeroth_order.tuned",
    "The methods race on the quadratic with equal queries, and each takes that one of eleven step sizes which suits it "
    "best (found on other seeds). Which one stands lowest after 23,040 queries?",
    answer=("vanilla", "history average", "RLOO", "antithetic", "ZoAR", "the best two cannot be told apart"),
    section="9",
)
