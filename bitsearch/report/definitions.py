"""What each figure of merit means, in one sentence each."""

from bitsearch.report.format import title

_METRICS = {
    "bit_budget": (
        "Mean weight bits × mean spike bits × mean time steps of the network; weight bits are averaged over all "
        "weights, spike bits and time steps over all input features of the layers."
    ),
    "bit_budget_mac": (
        "Weight bits × spike bits × time steps averaged over all multiply-accumulates, so that layers which compute "
        "more count more; it equals S-ACE divided by the number of multiply-accumulates."
    ),
    "s_ace": (
        "Bit operations for one input: every multiply-accumulate of every time step counts its weight bits × its spike "
        "bits, whether the spike is zero or not."
    ),
    "ns_ace": (
        "S-ACE with every layer scaled by its measured firing rate, so that only the non-zero spikes count, as on "
        "event-driven hardware."
    ),
    "synops": (
        "Connections that non-zero spikes go through for one input, all time steps together; a spike of several bits "
        "is one operation."
    ),
    "working_memory": (
        "Bytes for membrane potentials and spikes while the network runs, layer by layer: the largest layer's."
    ),
    "energy": (
        "An estimate of one input's energy from the hardware target's table of operations and bytes moved; control, "
        "clock and leakage are not in it."
    ),
    "latency": "An estimate of one input's time from what the hardware target computes in a cycle.",
    "cores": "Cores taken on the hardware target; a layer that does not fit one core is split over several.",
    "weight_memory": (
        "Bytes that the stored network takes: each layer's weights packed at their bit width, one 4-byte step size a "
        "time step, and an 8-byte multiplier and bias an output channel."
    ),
}
_TERMS = {
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
    "Seed": "Number from which weights, the order of the batches and the sampler's choices follow.",
    "Split": "Which samples are trained on, which plans are chosen on (validation), which are read once (test).",
    "Adaptive plan": "Bits and time steps of every layer found by gradient while training, then frozen and tuned.",
}


def definition(metric: str) -> str:
    """One sentence on a metric."""
    return _METRICS.get(metric, "A cost of the plans that this version of bitsearch does not know.")


def definitions(metrics: list[str]) -> dict[str, str]:
    """Term to sentence: the given metrics first, then the words that the page uses."""
    return {title(name): definition(name) for name in metrics} | _TERMS
