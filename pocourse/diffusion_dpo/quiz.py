"""What chapter 5 asks: what one needs before it, what one knows after it, and what one expects of its results."""

import math

from pocourse.lesson.questions import Choice, prediction, question

D2L_PROBABILITY = (
    "Dive into Deep Learning, Probability and statistics",
    "https://d2l.ai/chapter_preliminaries/probability.html",
)
D2L_INFORMATION = (
    "Dive into Deep Learning, Information theory",
    "https://d2l.ai/chapter_appendix-mathematics-for-deep-learning/information-theory.html",
)
D2L_SOFTMAX = (
    "Dive into Deep Learning, Concise implementation of softmax regression",
    "https://d2l.ai/chapter_linear-classification/softmax-regression-concise.html",
)
D2L_CONVEXITY = ("Dive into Deep Learning, Convexity", "https://d2l.ai/chapter_optimization/convexity.html")
MML = (
    "Deisenroth, Faisal and Ong, Mathematics for Machine Learning, section 6.5, Gaussian distribution",
    "https://mml-book.github.io/book/mml-book.pdf",
)

# --- before the chapter ---------------------------------------------------------------------------

question(
    "diffusion_dpo.entry_bayes",
    "A number x is 0 with probability ¾ and 4 with probability ¼. A gauge says “high” with probability 1/3 if x = 0, "
    "and always if x = 4. It says “high”. What is true?",
    Choice(
        "x must be 4, as a 4 always reads high",
        False,
        "A 0 reads high in ¾ · 1/3 = ¼ of all cases, and a 4 in ¼ of them: as often.",
    ),
    Choice(
        "the chance of a 4 has risen from ¼ to ½",
        True,
        "Of all readings ½ are high, and ¼ are high with x = 4: ¼ / ½ = ½. This is Bayes' rule.",
    ),
    Choice(
        "the guess with the least mean squared error is 4",
        False,
        "It is the conditional mean, ½ · 0 + ½ · 4 = 2, with the error 4. A guess of 4 has the error ½ · 16 = 8. What "
        "a denoiser learns is such a mean.",
    ),
    Choice(
        "averaged over “high” and “low”, the best guesses give E[x] = 1",
        True,
        "It is 2 at “high”, as the mean of 0 and 4 with ½ each, and 0 at “low”, as only a 0 reads low. ½ · 2 + ½ · 0 = "
        "1, and ¼ · 4 = 1 as well.",
    ),
    Choice(
        "before the reading the best guess was 0, the likelier value",
        False,
        "It was the mean, 1, with the error ¾ · 1 + ¼ · 9 = 3. A guess of 0 has the error ¼ · 16 = 4.",
    ),
    section="4",
    kind="entry",
    read_up=D2L_PROBABILITY,
)

question(
    "diffusion_dpo.entry_kl",
    "Two outcomes: p gives them ½ and ½, and q gives them ¾ and ¼. What is true of the Kullback-Leibler divergence?",
    Choice(
        "KL(p‖q) = 0, as the differences ¼ and −¼ cancel",
        False,
        "It averages logarithms of ratios: ½ log 2/3 + ½ log 2 = 0.1438. It is 0 for equal distributions only, and "
        "never negative.",
    ),
    Choice(
        "KL(p‖q) = KL(q‖p) = 0.1438, as it is a distance",
        False,
        "KL(q‖p) = ¾ log 3/2 + ¼ log ½ = 0.1308. It has a direction: the mean is taken under the first of the two.",
    ),
    Choice(
        "if p gave 0.01 to a third outcome and q nothing, KL(p‖q) would be infinite",
        True,
        "That outcome alone contributes the logarithm of 0.01 over 0, times 0.01. The other direction stays finite.",
    ),
    Choice(
        "between N(3, 4) and N(1, 4) it is ½",
        True,
        "With equal variances it is the squared distance of the means over twice the variance: 4/8, in either "
        "direction.",
    ),
    Choice(
        "of two independent draws it is the square",
        False,
        "It is twice as large, 0.2877 for KL(p‖q): probabilities multiply, so their logarithms add up.",
    ),
    section="2",
    kind="entry",
    read_up=D2L_INFORMATION,
)

question(
    "diffusion_dpo.entry_gaussians",
    "x is drawn from N(0, 4), where 4 is the variance, and measured as y = x + noise; the noise has the variance 1. "
    "The measurement was y = 5. What is true?",
    Choice(
        "given y, x has the mean 4",
        True,
        "Precisions are inverse variances, ¼ and 1, and means are averaged with them: (¼ · 0 + 1 · 5)/1.25 = 4.",
    ),
    Choice(
        "given y, x has the mean 2.5, half way from 0",
        False,
        "That would weigh both alike. The measurement has four times the precision of what was known before.",
    ),
    Choice(
        "given y, x has the variance 2.5, the mean of both",
        False,
        "Precisions add: 1/(¼ + 1) = 0.8. Who knows more is surer than with either alone.",
    ),
    Choice(
        "without x, y has the variance 5",
        True,
        "Variances of independent numbers add: 4 + 1. This is how noise piles up over several steps.",
    ),
    Choice(
        "x/2 has the variance 2",
        False,
        "A factor enters as its square: 4/4 = 1. To keep half of the variance, x has to be multiplied by √½ = 0.707.",
    ),
    section="4",
    kind="entry",
    read_up=MML,
)

question(
    "diffusion_dpo.entry_softmax",
    "Three answers have the logits 0, 0 and log 2 = 0.693, and σ(z) = 1/(1 + e^(−z)). What is true?",
    Choice(
        "with 100 added to each logit the third gets nearly everything",
        False,
        "Nothing changes: e^100 stands in every numerator and in their sum, and cancels.",
    ),
    Choice(
        "the third answer has the probability 2/3",
        False,
        "e to the logits is 1, 1 and 2, with the sum 4, so it has 2/4 = ½. Against one of the others alone it would "
        "have 2/3 = σ(log 2).",
    ),
    Choice(
        "the log-probability of the third is 0.693 − log 4",
        True,
        "A logit less the logarithm of the sum of all e to the logits: 0.693 − 1.386 = −0.693, which is log ½.",
    ),
    Choice(
        "twice the logits make a flatter distribution",
        False,
        "1, 1 and 4 over 6: the third rises from ½ to 2/3. Large logits are sharp, small ones flat.",
    ),
    Choice(
        "−log σ(−1000) is infinite",
        False,
        "It is log(1 + e^1000), which is 1000 but for rounding. Infinite it becomes in a program that computes the "
        "sigmoid first, and rounds it to 0.",
    ),
    section="3",
    kind="entry",
    read_up=D2L_SOFTMAX,
)

question(
    "diffusion_dpo.entry_convex",
    "f(z) = z², and z is 1 or 5, each with probability ½. What is true?",
    Choice(
        "E[f(z)] is never below f(E[z]), for any convex f",
        True,
        "Here it is (1 + 25)/2 = 13 against 3² = 9. This is Jensen's inequality; the difference, 4, is the variance of "
        "z.",
    ),
    Choice(
        "E[f(z)] = f(E[z]), as means can be pulled through",
        False,
        "Only where f is a straight line. Here it is 13 on one side and 9 on the other.",
    ),
    Choice(
        "for −f it holds in the same direction",
        False,
        "−13 is below −9: −f is concave, and the inequality turns round. So is a logarithm, and −log is convex.",
    ),
    Choice(
        "averaging f over many draws comes near f(E[z])",
        False,
        "It comes near E[f(z)] = 13. Average the draws first, and f of that comes near 9.",
    ),
    Choice(
        "a gradient step of size 0.1 takes z from 5 to 4",
        True,
        "The slope is 2 · 5 = 10, and 5 − 0.1 · 10 = 4. f falls from 25 to 16.",
    ),
    section="5",
    kind="entry",
    read_up=D2L_CONVEXITY,
)

# --- on the chapter -------------------------------------------------------------------------------

question(
    "diffusion_dpo.same_comparisons",
    "A reward gives the three answers A, B and C to one prompt 0, 1 and 3. What is true of comparisons by Bradley and "
    "Terry?",
    Choice(
        "C beats A three times as often as B does",
        False,
        "C beats A with σ(3) = 0.953, B with σ(1) = 0.731. That is 1.30 times as often (5.1).",
    ),
    Choice(
        "C beats B with the odds 7.39 to 1",
        True,
        "The odds are e to the difference, e^2 = 7.39, so C wins 0.881 of the time (5.1).",
    ),
    Choice(
        "a reward twice as large makes the same comparisons",
        False,
        "Then C would beat B with σ(4) = 0.982. The scale is seen: in how often labels contradict the better answer.",
    ),
    Choice(
        "a bonus for long answers drops out, as every constant does",
        False,
        "It depends on the answer, so it is reward. Free is what depends on the prompt alone (5.1).",
    ),
    Choice(
        "a reward that is 10 larger for this prompt makes the same comparisons",
        True,
        "Only the differences 1, 2 and 3 are seen, and they stay (5.1). A fitted reward may have any such offset, and "
        "another one for each prompt.",
    ),
    section="1",
)

question(
    "diffusion_dpo.best_reachable",
    "Of every pair, raters prefer the better answer with probability ¾. A model is judged on fresh pairs, very many of "
    "them. What is true?",
    Choice(
        "who knows the rewards exactly reaches a loss of 0",
        False,
        "The labels stay coins: h(¾) = 0.562 is what they cost the best model (5.2). Knowing nothing costs log 2 = "
        "0.693.",
    ),
    Choice(
        "an accuracy above 0.625 is out of reach, as raters agree no more often",
        False,
        "Two labels of a pair agree with (¾)² + (¼)² = 0.625. But a model need not waver as raters do: to name the "
        "better one every time is right in ¾ of the cases (5.2).",
    ),
    Choice(
        "whoever has the accuracy ¾ has the loss 0.562 as well",
        False,
        "Accuracy sees the order only. With margins ten times too large, 10.99 in place of log 3 = 1.10, it is the "
        "same, and the loss is 2.75 (5.2).",
    ),
    Choice(
        "a loss of 0.5 shows that the pairs are not fresh",
        True,
        "No model goes below 0.562 on labels that it has not seen (5.2). On its training pairs it may: coins that have "
        "fallen can be learned by heart.",
    ),
    section="1",
)

question(
    "diffusion_dpo.tilted",
    "Two answers. The reference gives them 0.8 and 0.2, their rewards are 0 and log 4 = 1.386, and β = 1. What is true "
    "of the policy that is best on this leash?",
    Choice(
        "it gives the second answer 0.8, the softmax of the rewards",
        False,
        "The softmax is (1, 4)/5, but it tilts the reference: 0.8 · 1 and 0.2 · 4 are equal, so each gets ½ (5.3).",
    ),
    Choice(
        "its objective is its mean reward, 0.693",
        False,
        "The leash costs 0.223 nats of divergence, and 0.470 is left: log 1.6, with Z = 0.8 · 1 + 0.2 · 4 (5.3).",
    ),
    Choice(
        "with β = ½ it gives the second answer 0.8",
        True,
        "Then e to the reward over β is 1 and 16: 0.8 · 1 against 0.2 · 16 = 3.2, one to four (5.3).",
    ),
    Choice(
        "with β = 2 it goes further from the reference",
        False,
        "A large β is a short leash: 0.8 · 1 against 0.2 · 2 = 0.4, so the second gets 1/3 (5.3).",
    ),
    Choice(
        "to stay at the reference costs 0.193 of the objective",
        True,
        "There is 0.2 · 1.386 = 0.277, and 0.470 could be had. The difference is β times the divergence from the best "
        "policy (5.4).",
    ),
    section="2",
)

question(
    "diffusion_dpo.exchange_rate",
    "The best policy for β = ½ has the mean reward 2, a variance of the reward of 0.8, and is 1.6 nats away from the "
    "reference. What follows?",
    Choice(
        "0.01 more of mean reward would cost about 0.02 nats",
        True,
        "At the optimum a unit of reward costs 1/β = 2 nats (5.5).",
    ),
    Choice(
        "the first 0.01 of reward, next to the reference, cost 0.02 nats too",
        False,
        "There β was still very large and 1/β next to 0: the first steps are nearly free (5.5).",
    ),
    Choice(
        "better training finds the same reward at 1.5 nats",
        False,
        "That policy would have the objective 2 − ½ · 1.5 = 1.25, and the best has 2 − ½ · 1.6 = 1.2. No policy is "
        "above the best one (5.4).",
    ),
    Choice(
        "from 1/β = 2 to 2.1 its mean reward rises by about 0.08",
        True,
        "It rises at the rate of the variance: 0.1 · 0.8 (5.5). Where all likely answers are worth the same, turning β "
        "down moves nothing any more.",
    ),
    Choice(
        "from 1/β = 2 to 2.1 its divergence rises by about 0.04 nats",
        False,
        "0.08 of reward at 2 nats each make 0.16 nats (5.5). 0.04 is what one gets by multiplying with β.",
    ),
    section="2",
)

question(
    "diffusion_dpo.one_pair",
    "Training has taken a chosen answer from 0.1 to 0.2, and the rejected one from 0.4 to 0.2; β = 1. What is true of "
    "DPO's loss on this pair?",
    Choice(
        "it is log 2, as the policy finds both equally likely",
        False,
        "Compared is how far each has come from the reference: log 2 against −log 2, so z = 1.386 and the loss is "
        "0.223 (5.6).",
    ),
    Choice(
        "with the labels exchanged it would be 1.609",
        True,
        "z changes its sign (5.7): log(1 + e^1.386) = log 5 = 1.609.",
    ),
    Choice(
        "the pair pulls with the weight 0.8, as it is learned so well",
        False,
        "0.8 is the chance that the policy gives to the right order. It pulls with the other one, σ(−z) = 0.2 (5.8).",
    ),
    Choice(
        "with β = 2 the same two answers would have the same loss",
        False,
        "z doubles to 2.773, and the loss falls to 0.061 (5.6). A larger β has enough of a smaller move.",
    ),
    section="3",
)

question(
    "diffusion_dpo.where_it_ends",
    "Six answers to one prompt, labels drawn by Bradley and Terry with the reward r, and a free logit for each answer. "
    "DPO's expected loss is minimised to the end. What is true?",
    Choice(
        "it takes all 15 pairs to arrive at the Gibbs policy of r",
        False,
        "A chain of 5 pairs that leads through all six answers is enough (5.9).",
    ),
    Choice(
        "with labels that never err it arrives there sooner",
        False,
        "It arrives nowhere: a larger margin is always better, and the policy runs away for any β (5.9). The noise in "
        "the labels holds the leash.",
    ),
    Choice(
        "with labels drawn by 2r it arrives at the policy of ½ β",
        True,
        "2r over β is r over ½ β (5.9). Surer labels and a smaller β cannot be told apart.",
    ),
    Choice(
        "without pairs between two groups of answers, odds within a group still come out right",
        True,
        "What a pair fixes is a difference of log-ratios, and inside of a group they are all fixed. How likely one "
        "group is beside the other stays open (5.9).",
    ),
    Choice(
        "an answer that wins most of its comparisons ends above the reference",
        False,
        "Take three, all 1/3 under the reference, with the rewards 0, 1 and 2 and β = 1, and let the middle one meet "
        "the worst three times as often as the best. It wins 62 of 100 and ends at 0.245 (5.9).",
    ),
    section="3",
)

question(
    "diffusion_dpo.one_step_back",
    "The share of variance that is left falls from ᾱ = 0.8 at t − 1 to 0.5 at t. The images have 64 pixels. What is "
    "true?",
    Choice(
        "x_t is half image, half noise: 0.5 x₀ + 0.5 ε",
        False,
        "ᾱ is a share of the variance, so both are multiplied by √0.5 = 0.707 (5.11).",
    ),
    Choice(
        "the step itself keeps 0.7, as 0.3 are taken away",
        False,
        "Shares multiply: α = 0.5/0.8 = 0.625 (5.11).",
    ),
    Choice(
        "w_t = 3, as the signal-to-noise ratio falls from 4 to 1",
        False,
        "It is half of 4/1 − 1, so 1.5 (5.13). The half is that of every divergence of Gaussians with equal variances.",
    ),
    Choice(
        "given x₀ and x_t, x at t − 1 has the variance 0.375 that the step has added",
        False,
        "It has 0.2 · 0.375/0.5 = 0.15 (5.12). Knowing x₀ as well says something about it.",
    ),
    Choice(
        "a mean squared error of 0.01 makes a divergence of 0.96 nats",
        True,
        "w_t · D · e = 1.5 · 64 · 0.01 (5.13). Errors are averaged over pixels, and nats are added.",
    ),
    section="4",
)

question(
    "diffusion_dpo.five_steps",
    "From DPO to Diffusion-DPO in five steps, (a) to (e). What is said rightly?",
    Choice(
        "drawing one t and counting it T times is an approximation",
        False,
        "A sum over t is T times a mean over t, an equality. What is lost is lost when that mean leaves the logarithm, "
        "and that is a bound (5.15).",
    ),
    Choice(
        "Jensen's inequality makes the loss smaller than it is",
        False,
        "−log σ is convex, so the mean of losses lies above: 0.6425 against 0.3133 for z from N(1, 4) (5.15). It is an "
        "upper bound.",
    ),
    Choice(
        "a leash on paths is never longer than the leash on images",
        True,
        "The divergence of paths is that of images and another divergence on top (5.14). So what is maximised lies "
        "below J.",
    ),
    Choice(
        "to take the noising process for the model's own paths is a bound as well",
        False,
        "It is neither bound nor equality: an approximation, good as long as the model inverts its noising. The bounds "
        "of (5.14) and (5.15) reach up to here.",
    ),
    Choice(
        "one weight for all t is right, as the weights of (5.13) hardly differ",
        False,
        "They differ by orders of magnitude. A constant is a choice, and the one that DDPM makes as well.",
    ),
    section="5",
)

question(
    "diffusion_dpo.two_errors",
    "A noised pair of images with 64 pixels. The winner's error is 0.30, where the reference has 0.28; the loser's is "
    "0.35 and 0.31. β = 200, in the form of the paper's code. What is true?",
    Choice(
        "the loss is above log 2 = 0.693, as both images are denoised worse",
        False,
        "z = −100 · (0.02 − 0.04) = 2, and the loss is 0.127 (5.16). Only the difference counts: the loser has become "
        "worse by more.",
    ),
    Choice(
        "a step wants the winner's error smaller and the loser's larger, each with the weight 11.9",
        True,
        "β/2 · σ(−z) = 100 · 0.119 (5.16): fine-tuning on the winner, minus fine-tuning on the loser.",
    ),
    Choice(
        "in the code of diffusers the same loss has β = 400",
        False,
        "That code has no half, so 100 there is 200 here, as 2500 is 5000 (5.17).",
    ),
    Choice(
        "on sums over pixels the factor 100 becomes 6400",
        False,
        "A sum is 64 times a mean, so the factor is 100/64 = 1.5625 (5.17).",
    ),
    Choice(
        "raising all four errors by 1 changes nothing in the margin",
        True,
        "z stays 2, and so does the accuracy (5.16). What the loss does not see has to be logged.",
    ),
    section="5",
)

question(
    "diffusion_dpo.shared_or_not",
    "One pixel, the reference N(0, 1), the policy N(2, 1), each with its best denoiser. The winner is 1.5, the loser "
    "0.5; the noise level is ᾱ = ½. What is true of Δ(winner) − Δ(loser)?",
    Choice(
        "with one noise for both it is −1, whatever the noise",
        True,
        "−2 ᾱ(1 − ᾱ) μ · (x_w − x_l) = −2 · ¼ · 2 · 1 (5.18). A single draw tells it exactly.",
    ),
    Choice(
        "with a noise of its own for each it is another number on average",
        False,
        "On average it is −1 as well. To it comes the difference of the two noises times 1, with a standard deviation "
        "of 1.41 (5.18).",
    ),
    Choice(
        "a shared noise drops out for a narrower policy, N(2, ¼), as well",
        False,
        "Then it is −1.96, −1.78 and −1.60 for the noises −1, 0 and 1. The noise drops out where both models have the "
        "same covariance (5.18).",
    ),
    Choice(
        "at ᾱ = 0.9 it is larger, as the images are clearer",
        False,
        "ᾱ(1 − ᾱ) is 0.09 there, and ¼ at ½: it is −0.36 (5.18). Where little noise is, little is to be removed.",
    ),
    Choice(
        "half of its integral over log SNR, with a minus, is the log-ratio of the pair, 2",
        True,
        "For these Gaussians μ · (x_w − x_l) = 2, and the integral gives it for every density with its best denoiser "
        "(5.19).",
    ),
    section="6",
)

question(
    "diffusion_dpo.which_beta",
    "Diffusion-DPO with β = 500 on images of 64 pixels: unit variance, one noise level with ᾱ = ½, the noise shared, "
    "labels by Bradley and Terry. What is true?",
    Choice(
        "as a temperature of the reward this is 1.95",
        True,
        "500 · ½ · ½, divided by 64, is 1.95 (5.20). It goes for this world of Gaussians, and elsewhere as an order of "
        "magnitude.",
    ),
    Choice(
        "on images of 256 pixels the same 500 holds four times as firmly",
        False,
        "It holds a quarter as firmly, 0.488: the errors are averaged over more pixels, and log-densities add up "
        "(5.20).",
    ),
    Choice(
        "with the reward a · x the mean moves by 1.95 a",
        False,
        "By a/1.95 = 0.512 a (5.20). A temperature divides.",
    ),
    Choice(
        "5000 on 16,384 numbers, as in Stable Diffusion 1.5, is the looser leash",
        True,
        "5000 over 16,384 is 0.305, and 500 over 64 is 7.81: what counts is β/D (5.20).",
    ),
    Choice(
        "with a noise of its own for each image the mean moves as far, only less steadily",
        False,
        "Under a weak reward it moves half as far (5.20). Margins that scatter err more often, and the loss answers by "
        "keeping them small.",
    ),
    section="7",
)

question(
    "diffusion_dpo.inside_or_outside",
    "The margin of a pair, the mean over all t and ε, is 1, with the loss 0.3133. Single draws of t and ε scatter "
    "around it, normally and with the variance 4. What is true?",
    Choice(
        "as draws are right on average, so are their losses: 0.3133",
        False,
        "Their losses average 0.6425 (5.15). A draw that is 2 too low costs more than one that is 2 too high saves.",
    ),
    Choice(
        "averaging the losses of 16 draws takes the excess away",
        False,
        "The average of 16 losses is calmer, and is still 0.6425 in the mean (5.15). So it is with a larger batch.",
    ),
    Choice(
        "averaging 16 draws inside of σ leaves 0.3376",
        True,
        "Their mean has the variance 4/16 = ¼, and with it the loss is 0.3376 on average (5.15). The price is 16 "
        "times as many noisy images.",
    ),
    Choice(
        "on average the pair pulls with the weight σ(−1) = 0.269",
        False,
        "The mean of σ(−z) over the draws is 0.352 (5.16): the gradient is another one on average too, and not only "
        "noisier.",
    ),
    section="8",
)

question(
    "diffusion_dpo.dashboard",
    "Labels as in (5.2), with a floor of 0.375 and a ceiling of 0.828. A run ends with the loss 0.44 and the accuracy "
    "0.80. The winner's error is 1.5 and the loser's 1.7; the reference has about 0.2 for both. What can be said?",
    Choice(
        "the denoiser has learned nearly all that there is to learn",
        False,
        "Both numbers see *differences* of errors only (5.16). As a denoiser it is far worse than the reference.",
    ),
    Choice(
        "a loss of 0.3 on fresh pairs would have been better still",
        False,
        "It cannot be: 0.375 is the floor (5.2). Such a number would mean that the pairs were seen in training.",
    ),
    Choice(
        "to predict no noise at all would have been better",
        True,
        "Noise has the mean square 1, so a constant 0 has the error 1, and this denoiser has 1.5. The margin of "
        "(5.16), which sees differences, does not feel it.",
    ),
    Choice(
        "its samples must have a larger reward, since it orders 0.80 of the pairs rightly",
        False,
        "It orders images that the *reference* drew. What it draws itself comes from its own predictions, and no term "
        "of (5.16) asks for these to be good.",
    ),
    section="10",
)

# --- before its results ---------------------------------------------------------------------------

prediction(
    "diffusion_dpo.ceiling",
    "Many pairs of images. The rewards of both are independent standard normal numbers, and the first one is chosen "
    "with probability σ(2 (r − r′)), so that the better one wins mostly, not always. In which share of fresh pairs can "
    "the best of all models name the chosen one?",
    low=0,
    high=1,
    section="1",
)
prediction(
    "diffusion_dpo.shared_noise",
    "The reference is a mixture of three Gaussians in the plane, the policy is the same a little tilted. For pairs of "
    "points, margins are estimated from a single draw of a noise level and of noise: the same noise for both points, "
    "or one for each. By which factor does the standard deviation grow if each point gets a noise of its own?",
    answer=(
        "not at all larger: at most 1.1 times",
        "1.1 to 2 times",
        "2 to 10 times",
        "10 to 100 times",
        "more than that: a shared noise drops out",
    ),
    ranges=((0, 1.1), (1.1, 2), (2, 10), (10, 100), (100, math.inf)),
    section="8",
)
prediction(
    "diffusion_dpo.jensen",
    "A margin of 1 has the loss −log σ(1) = 0.3133. Now it is estimated without bias, but with noise: z is drawn from "
    "a normal distribution with mean 1 and variance 4. What is the loss −log σ(z) on average?",
    low=0,
    section="5",
)
prediction(
    "diffusion_dpo.collapse",
    "Some runs collapse: what they draw are no digits any more. No samples are looked at while they train, only what a "
    "script prints. Which of its numbers gives such a run away?",
    answer=(
        "the loss: it rises above log 2",
        "the accuracy: it falls back to one half",
        "the winner's error: it climbs far above the reference's",
        "all three of them",
        "none of the three",
    ),
    section="9",
)
