"""Definitions of terms and metrics, one sentence each: the glossary of the site and of the page."""

from bitsearch.cost import METRICS
from bitsearch.score import ACCURACY, Score
from bitsearch.text import title

GLOSSARY = {
    "Validation accuracy": "Share of the validation samples classified correctly; every choice was made on it.",
    "Test accuracy": "Share of the test samples classified correctly, read once, after all choices had been made.",
    "w, s, T": (
        "Bits of a layer's weights, bits of the spikes that enter it (one number a time step where the steps differ), "
        "and its number of time steps."
    ),
    "Pareto front": "The trials that no other trial beats or equals in accuracy without costing more.",
    "Uniform plan": "The same bits and time steps on every layer but the first, trained for as many epochs.",
    "Share of cost": (
        "What part of the plan's cost this layer takes; where the cost is no sum over the layers, such as a product of "
        "means, the part of the bit operations (S-ACE)."
    ),
    "Firing rate": "Share of a layer's incoming spikes that are not zero, counted on the validation split.",
    "Baseline": "The declared starting point, the same bits on every layer; 4x means at most a quarter of its cost.",
    "Step renewal": "A quantizer's step size is computed anew because its bit width has just changed.",
    "Hypervolume": (
        "Share of the rectangle from no cost at all to the dearest plan's and from no accuracy to full accuracy in "
        "which some trial so far is both cheaper and more accurate."
    ),
    "Importance": (
        "Share of the variance of the outcome over the trials that one parameter of the outer loop explains (fANOVA)."
    ),
    "Rank correlation": (
        "Spearman's: +1 where trials that give a layer more are always more accurate, -1 where they are always less, 0 "
        "where neither; other layers change at the same time, so it is a hint and no cause."
    ),
    "fANOVA": (
        "Functional analysis of variance (Hutter et al. 2014): a random forest predicts the outcome from the "
        "parameters, and its variance is divided among them."
    ),
    "Outer loop": "Optuna's search over the parameters with which each trial finds its bits; every trial is one draw.",
    "budget_share": "Which part of the budget a trial aims at: 1 is all of it.",
    "cost_target": "The cost, a point on the front's axis, that a trial aims at.",
    "weight_price": "How dear weight bits are to a trial's allocation: above 1, they are reduced before the others.",
    "spike_price": "How dear spike bits are to a trial's allocation: above 1, they are reduced before the others.",
    "time_price": "How dear time steps are to a trial's allocation: above 1, they are reduced before the others.",
    "depth_preference": "Which depth a trial's allocation favours: above 0, late layers keep more bits.",
    "Seed": "Number from which weights, the order of the batches and the sampler's choices follow.",
    "Split": "Which samples are trained on, which plans are chosen on (validation), which are read once (test).",
    "Adaptive plan": "Bits and time steps of every layer found by gradient while training, then frozen and tuned.",
    "Plan": "Weight bits, spike bits and time steps of every layer, with what they cost.",
    "Latent": "The real number behind a bit width while it is learned; rounding makes it the width.",
    "Projection": "The change of a learned plan that meets a budget exactly at the least predicted loss.",
    "Signal": "What is measured of a network to predict the loss of fewer bits.",
    "Stream": "What one neuron sends; layers that read the same neuron read one stream.",
    "Refined neuron": (
        "What stands for the network's own neuron in a quantized layer: it sends whole numbers of a few bits, and "
        "keeps what is left on its membrane."
    ),
    "Trial": "One draw of the outer loop: one plan, trained.",
    "Full precision": "The network before it got bits: 32-bit weights, its own spikes and time steps.",
    "Budget": "The most that a plan may cost, in one metric; 4x is a quarter of the baseline's cost.",
    "Verdict": "Whether the chosen plan is better than the best of another kind, by the test samples, and by chance.",
    "Packed file": "The integers of a plan's trained network, every weight at its bits.",
    "Replay": "Running a packed file on integers alone.",
    "Target": "A chip: what it allows, how large it is, what an operation costs.",
    "Pin": "A rule that gives a layer, by its name, fixed bits or fewer choices.",
    "Tie": "A rule that gives several layers the same number.",
}
"""Every term with its one sentence: the site's glossary, of which the page shows its own."""

TERMS = {
    term: GLOSSARY[term]
    for term in (
        "Validation accuracy",
        "Test accuracy",
        "w, s, T",
        "Pareto front",
        "Uniform plan",
        "Share of cost",
        "Firing rate",
        "Baseline",
        "Step renewal",
        "Hypervolume",
        "Importance",
        "Rank correlation",
        "fANOVA",
        "Outer loop",
        "budget_share",
        "cost_target",
        "weight_price",
        "spike_price",
        "time_price",
        "depth_preference",
        "Seed",
        "Split",
        "Adaptive plan",
    )
}
"""Those that the page speaks of."""


def definition(metric: str) -> str:
    """One sentence on a metric; a plan of another version may have a metric that this version does not know."""
    if metric in METRICS:
        return METRICS[metric].definition
    return "A cost of the plans that this version of bitsearch does not know."


def definitions(metrics: list[str], score: Score = ACCURACY) -> dict[str, str]:
    """Sentences by term: the metrics first, then the terms of the page."""
    return {title(name): definition(name) for name in metrics} | (TERMS if score == ACCURACY else _of_score(score))


def _of_score(score: Score) -> dict[str, str]:
    better = "higher" if score.direction == "up" else "lower"
    terms = {term: sentence for term, sentence in TERMS.items() if not term.endswith("accuracy")}
    return {
        f"Validation {score.name}": f"On the validation samples, {better} is better; every choice was made on it.",
        f"Test {score.name}": f"On the test samples, {better} is better, read once, after all choices had been made.",
        **terms,
        "Pareto front": f"The trials that no other trial beats or equals in {score.name} without costing more.",
        "Hypervolume": (
            "Area between the front so far and the worst plan's score, over costs as shares of the dearest plan's."
        ),
        "Rank correlation": (
            "Spearman's: +1 where trials that give a layer more are always better, -1 where they are always worse, 0 "
            "where neither; other layers change at the same time, so it is a hint and no cause."
        ),
    }
