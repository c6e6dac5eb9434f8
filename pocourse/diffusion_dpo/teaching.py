"""For teachers and for the formula sheet: names of the equations, symbols, and the guide through the chapter."""

from pocourse.lesson.teaching import Cut, Guide, Moment

# Two to six words for every claim of the chapter.
NAMES = {
    "identifiability": "Comparisons see differences only",
    "floor_and_ceiling": "Floor of loss, ceiling of accuracy",
    "gibbs_value": "The best policy on a leash",
    "price_of_another_policy": "What any other policy loses",
    "slope_law": "Beta is an exchange rate",
    "loss_at_the_reference": "Log 2 at the reference",
    "swap": "Labels exchanged",
    "gradient": "The gradient of DPO",
    "optimum_is_gibbs": "Where DPO ends",
    "displacement": "The winner may fall too",
    "forward_marginal": "Many steps of noise are one",
    "forward_posterior": "One step back, image known",
    "kl_is_an_error": "A divergence is an error",
    "paths_and_images": "Paths and images",
    "jensen": "Jensen: means leave the logarithm",
    "gradient_of_the_loss": "The gradient of Diffusion-DPO",
    "two_codes": "Two codes, one constant",
    "shared_noise_cancels": "A shared noise cancels",
    "errors_are_log_ratio": "All noise levels: the log-ratio",
    "effective_beta": "What beta means",
    "effective_beta_limits": "Mixed noise levels: two limits",
    "tilted_mixture": "A mixture that tilts",
    "clamp_is_the_leash": "A clamp for a leash",
}

SYMBOLS = (
    (r"x,\ y", "prompt, answer"),
    (r"y_w,\ y_l", "chosen, rejected answer"),
    (r"r", "reward"),
    (r"p,\ h(p)", "chance of a label, its entropy"),
    (r"\pi_\theta,\ \pi_{\mathrm{ref}}", "policy, frozen reference"),
    (r"\pi^*,\ \pi_\beta", "Gibbs policy"),
    (r"\beta", "price of a nat; from (5.16) on the number in a script"),
    (r"Z", "normaliser of the Gibbs policy"),
    (r"z,\ L=-\log\,\mathrm{sigmoid}(z)", "margin and loss of a pair"),
    (r"\eta", "step size"),
    (r"x_0,\ x_t,\ \epsilon", "image, noised image, noise"),
    (r"\alpha_t,\ \bar\alpha_t", "share of the variance that a step keeps, that is left"),
    (r"\mathrm{SNR}=\bar\alpha/(1-\bar\alpha)", "signal to noise"),
    (r"w_t", "weight of a noise level"),
    (r"D", "numbers in an image"),
    (r"e,\ \Delta=e_\theta-e_{\mathrm{ref}}", "mean squared error, above the reference's"),
    (r"x_w,\ x_l", "chosen, rejected image; features in (5.10)"),
    (r"\mu,\ s^2", "mean and variance of Gaussian images"),
    (r"v", "variance of a noised pixel"),
    (r"a", "slope of a linear reward; 0, ½ or 1 in (5.2)"),
    (r"\beta_{\mathrm{eff}},\ b_t", "β as a temperature, at one level"),
    (r"\pi_k,\ m_k,\ s_k^2", "weights, means, variances of a mixture"),
    (r"\rho,\ c", "ratio and clamp"),
)

GUIDE = Guide(
    about=(
        "For whoever teaches this chapter to a class. Every section has its clock, what to show, the thought that "
        "most of the class will have and that is wrong, and what helps against it. The poll comes *before* the "
        "explanation: let everybody choose letters alone, then let neighbours talk for a minute, then choose again. "
        "Under each wrong choice stands what it reveals. Read the wrong answers beforehand: they are the questions "
        "you will be asked. The chapter stands on its own; of chapter 2 it takes the word policy."
    ),
    before=(
        "Run the notebook once, to the end (some minutes of training on two CPU cores), and leave it open.",
        "Hand out the formula sheet: one page, with all symbols at its head. Dark numbers are the core path.",
        'Set `entry_check("diffusion_dpo")` as homework. Two of its five decide how fast sections 4 and 5 can go: '
        "that precisions add, and that the mean of a convex function lies above the function of the mean.",
        "Know what must not be claimed. Of the paper on Diffusion-DPO its abstract and its authors' public code were "
        "readable to us: the five steps of section 5 are the usual derivation, worked out anew, and where a step is a "
        "bound or none is our reading. That the integral of errors is the log-ratio (5.19) is published, by Kong, "
        "Brekelmans and Ver Steeg; what β means, (5.20) and (5.21), was worked out by us, in a world of Gaussians. "
        "Carried over to a large model it is an order of magnitude. The training is of digits with 64 pixels, and "
        "replicates or refutes nothing.",
        "Leave one line on the board for the whole hour, loss = −log σ(z), with an empty place for what z is made of: "
        "rewards in section 1, log-ratios in section 3, denoising errors in section 5. Fill it in three times.",
        "Say once, and write it down, that a *small* error stands for a *large* probability. Most mistakes with a sign "
        "in this chapter come from there, a published one among them.",
        "Choose now which of the further parts you want. Those to choose first are the winner that loses as well, at "
        "the end of section 3, and the mixture that tilts, in section 7; nothing on the core path needs any of them.",
    ),
    moments=(
        Moment(
            "Words and symbols",
            "The table, for a minute, and then only three of its rows: z, of which every loss of the chapter is −log "
            "σ(z); e, a *mean* over pixels, which is where the D in section 7 comes from; and Δ, which is negative "
            "where the policy denoises better than its reference.",
        ),
        Moment(
            "Predict before you run",
            "The predictions, before anybody has seen a number. For the ceiling and for Jensen's gap write the class's "
            "smallest and largest guess on the board, for the shared noise count the letters, and do not comment. They "
            "come back in sections 1, 5 and 8.",
        ),
        Moment(
            "1",
            "Three answers with the rewards 0, 1 and 3, and the question how often each beats each. Then add 10 to "
            "all, and let somebody say what has changed. Write r + f(x) on the board and keep it: section 3 needs it. "
            "For (5.2) take a coin that falls on the right side three times out of four.",
            misconception=(
                "“A fitted reward says how good an answer is”, and “0.83 of the pairs in the right order, so the rest "
                "is left to improve.” Comparisons fix differences, at one prompt; and where labels are coins, the "
                "rest cannot be had."
            ),
            remedy=(
                "The coin: whoever knows everything names the right side in 0.75 of the cases, and pays 0.562 nats a "
                "label. Let the class propose a model that does better, and ask where it would have to get the fall "
                "of the coin from. From the training pairs: that is what *fresh* means in (5.2)."
            ),
            poll="diffusion_dpo.same_comparisons",
        ),
        Moment(
            "2",
            "J on one line, everything pulled under one logarithm, and the pause before somebody notices that what "
            "stands below is no distribution. Divide by Z, and (5.3) and (5.4) are both there. Then the figure: move β "
            "and keep an eye on the line at the point, and last the rare jackpot.",
            misconception=(
                "“β is a step size”, and “a large β means that the reward counts much.” It is a price: a large one "
                "keeps the policy at home, and how long one trains has nothing to do with it."
            ),
            remedy=(
                "Two answers, 0.8 and 0.2 under the reference, rewards 0 and log 4. Let each row of the class compute "
                "one β: 2 gives the better answer 1/3, 1 gives ½, ½ gives 0.8. Then the second poll of the section, "
                "`diffusion_dpo.exchange_rate`, for whoever asks what β is *in units of*: reward per nat (5.5)."
            ),
            poll="diffusion_dpo.tilted",
        ),
        Moment(
            "3",
            "Turn (5.3) round and read it as a reward. Circle log Z(x), say that nobody can compute it, and point at "
            "r + f(x), which is still on the board from section 1. Fill z in for the second time. Then (5.8): "
            "what a pair pulls with, and when it stops.",
            misconception=(
                "“DPO has got rid of the reward”, “the chosen answer becomes likelier”, and “the leash is in the loss, "
                "as β stands there.” The policy *is* the reward; only a difference is trained; and what keeps that "
                "difference finite is that labels contradict one another."
            ),
            remedy=(
                "For the second, three answers with the rewards 0, 1 and 2, β = 1 and a uniform reference: the middle "
                "one beats the worst in 73 cases of 100, and ends at 0.245 (5.9). For the third, let the better one "
                "always win, and ask for the best z. “Larger” is the answer for every β."
            ),
            poll="diffusion_dpo.one_pair",
        ),
        Moment(
            "4",
            "Two steps of noising, and the variances only: what is left of the image's, what has come in addition. "
            "Then x at t − 1 between its two witnesses, each with a precision. Of (5.13) show how nearly everything "
            "cancels, and what is left: a ratio of two numbers of the schedule, less one, halved.",
            misconception=(
                "“x_t is ᾱ times the image and 1 − ᾱ times noise”, and “the error is the divergence.” Shares are of "
                "variances; and between an error and nats stand w_t, which depends on t, and D."
            ),
            remedy=(
                "ᾱ from 0.8 to 0.5, on 64 pixels: the image is multiplied by 0.707, w_t is 1.5, and an error of "
                "0.01, which no curve shows, makes 0.96 nats. Whoever asks for t = 1 has found the condition: there "
                "the step back has no noise, and the weight is infinite."
            ),
            poll="diffusion_dpo.one_step_back",
        ),
        Moment(
            "5",
            "The five steps as five lines, and a vote on each before you say a word: equality, bound, or neither? Put "
            "the votes beside the lines, then go through them. At (b) compare the prediction. Fill z in for the third "
            "time, and read (5.16) aloud: learn the winners, unlearn the losers, each pair while it is wrong.",
            misconception=(
                "“All the steps are bounds, so we minimise an upper bound of DPO's loss”, and “the half is a matter of "
                "taste.” (c) and (e) are no bounds, and after them nothing is bounded any more; the half belongs to a "
                "β, and β without it means something else."
            ),
            remedy=(
                "For the first, cover (c) and (e), and ask what would be true then. For the second, write 5000 and "
                "2500 with their codes (5.17), and have them convert a third number. If the sign of z is asked for: "
                "the second poll of the section, `diffusion_dpo.two_errors`, where both errors rise and the pair is "
                "ordered rightly."
            ),
            poll="diffusion_dpo.five_steps",
        ),
        Moment(
            "6",
            "One pixel, two points, one bell for each model. Write the difference of squared errors out, for the "
            "winner and for the loser, one below the other, with the *same* ε: strike out what is in both. Then the "
            "figure through all levels, and the integral as it fills up to the log-ratio.",
            misconception=(
                "“Shared noise makes the errors exact”, and “so in a network it cancels as well.” Each error is as "
                "noisy as before; what is exact is a difference, and only where policy and reference differ by the "
                "same at every x_t."
            ),
            remedy=(
                "Make the policy narrower, N(2, ¼) in place of N(2, 1): the difference was −1 for every noise, and "
                "now it is −1.96, −1.78 and −1.60 for the noises −1, 0 and 1. It is still far calmer than with two "
                "noises. Section 8 says by how much, in a world that bends."
            ),
            poll="diffusion_dpo.shared_or_not",
        ),
        Moment(
            "7",
            "Two betas on the board, the price of section 2 and the number in a script, and between them a sign of "
            "equality with a question mark. (5.20) puts three things there: D, the noise level, and conditions. Read "
            "the conditions out one by one, and ask which of them a real run keeps.",
            misconception=(
                "“5000 is a gigantic β, so the policy can hardly move”, and “β can be taken over from another "
                "resolution.” The errors are means over D numbers, so β is shared among them."
            ),
            remedy=(
                "Divide by 5D to 10D: 5000 for the 16,384 numbers of Stable Diffusion 1.5 is a temperature of 0.03 to "
                "0.06, and 500 for 64 pixels one of 0.78 to 1.56. Then turn it round: which β would they set for "
                "images twice as wide and twice as high? Four times as large."
            ),
            poll="diffusion_dpo.which_beta",
        ),
        Moment(
            "8",
            "The table, one column at a time: first the slopes and the scatter, with the losses covered. Compare the "
            "prediction. Then the losses, and last the cosines of the *mean* gradient. Say that no network errs here, "
            "that all denoisers are the best ones, and that still the gradient is not DPO's.",
            misconception=(
                "“Unbiased margins make unbiased gradients”, and “noise averages out over a long training.” The "
                "margin goes through a bent function before it is averaged, and what is bent stays."
            ),
            remedy=(
                "One margin of 1, drawn with the variance 4: the loss is 0.3133 for the mean and 0.6425 for the draws. "
                "Sixteen losses averaged are still 0.6425; sixteen *margins* averaged first have 0.3376. Let somebody "
                "say where the bracket stands, and keep that sentence for the museum."
            ),
            poll="diffusion_dpo.inside_or_outside",
        ),
        Moment(
            "Bug museum",
            "The piece on the core path: its code, and not yet what is wrong with it. Ask for a test. Somebody will "
            "propose that the loss at the reference must be log 2, which is right, and three of the four pieces pass "
            "it. So ask for a second one, for which the policy has to move.",
        ),
        Moment(
            "9",
            "The methods as one line each, all else equal: the same pairs, the same t and ε. Take the prediction "
            "before the cells are started, for the dashboard moves while they run. Then say what is known without any "
            "training: floor and ceiling (5.2), the winners' mean reward, and for each β the mean reward of the tilted "
            "reference.",
            misconception=(
                "“The smaller β, the more reward, so take the smallest.” The closed form says so as long as the tilt "
                "stays among what the reference draws. Further out there are no samples, no pairs, and nothing that a "
                "network could have learned from."
            ),
            remedy=(
                "The share of samples that reweighting leaves, from the figure of section 2: where it is small, the "
                "prediction hangs on a few images. And fine-tuning on the winners as a yardstick: it aims at the "
                "winners' mean reward, while a tilt may go beyond it."
            ),
        ),
        Moment(
            "10",
            "The upper panels first, with those of the samples covered: let the class rank the runs by loss and "
            "accuracy, and write the order down. Then the winner's error, and let them rank again. Then uncover the "
            "samples. Last the measured reward against the closed form, and for which β the two agree in order of "
            "magnitude.",
            misconception=(
                "“A loss near its floor and an accuracy near its ceiling: trained to the end.” Both numbers are made "
                "of differences of errors on images of the reference, and both errors may have gone anywhere."
            ),
            remedy=(
                "The poll: 0.44 and 0.80, between 0.375 and 0.828, and a winner's error of 1.5. Ask what error one has "
                "who predicts no noise at all; it is 1. Then let them write the three lines that they will log from "
                "now on: the winner's error above the reference's, the loser's, and a few samples."
            ),
            poll="diffusion_dpo.dashboard",
        ),
        Moment(
            "Quiz",
            "What has not been a poll can be asked of everybody: `diffusion_dpo.best_reachable`, "
            "`diffusion_dpo.where_it_ends` and the two second polls of sections 2 and 5. Or ask once more the poll "
            "that went worst.",
        ),
        Moment(
            "References",
            "One sentence on provenance: whoever gets hold of the paper on Diffusion-DPO should lay its derivation "
            "beside our five steps, and mark where it says bound. Name one text to read next, that of Kong, Brekelmans "
            "and Ver Steeg, with (5.19) next to it.",
        ),
    ),
    cuts=(
        Cut(
            "Quiz",
            1,
            "the polls have asked most of it; leave the rest as homework, where every choice explains itself.",
        ),
        Cut("9", 1, "run the training cells before the class, and explain the panels on the recorded run."),
        Cut("4", 2, "state (5.12) without its derivation, and go from noising straight to (5.13)."),
        Cut("2", 1, "leave (5.5) to the figure, whose line at the point shows the rate."),
        Cut("Bug museum", 2, "give it as homework: one property, in words, that would have caught the piece."),
        Cut("8", 1, "show the losses and the cosines only, and give the scatter as homework."),
    ),
    keep=(
        "Never cut sections 5, 7 and 10: which steps are bounds, what β is worth, and which numbers hide a collapse "
        "are what the class should take home. The exercise may become homework where the poll of section 3 went well."
    ),
    links=(
        ("The notebook", "notebooks/05_diffusion_dpo.ipynb"),
        ("Its text, which is what one edits", "notebooks/text/05_diffusion_dpo.md"),
        ("The formula sheet, to print", "docs/sheets/05_diffusion_dpo.pdf"),
        ("The formula sheet, as a page", "docs/sheets/05_diffusion_dpo.html"),
        ("The bibliography", "data/references.bib"),
    ),
)
