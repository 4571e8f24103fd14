"""Every cost metric by name: its unit, its words for people, and its formula of :mod:`bitsearch.cost.formulas`."""

from bitsearch.cost.formulas import (
    accumulator,
    bit_budget_mac,
    cores,
    energy,
    latency,
    mean_bits,
    ns_ace,
    product_of_means,
    s_ace,
    synops,
    weight_memory,
    working_memory,
)
from bitsearch.cost.metric import Metric

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "bit_budget",
            "bits",
            "Bit Budget W̄·S̄·T̄",
            "Mean weight bits × mean spike bits × mean time steps of the network; weight bits are averaged over all "
            "weights, spike bits and time steps over all input features of the layers.",
            mean_bits,
            product_of_means,
        ),
        Metric(
            "bit_budget_mac",
            "bits",
            "Bit Budget per MAC",
            "Weight bits × spike bits × time steps averaged over all multiply-accumulates, so that layers which "
            "compute more count more; it equals S-ACE divided by the number of multiply-accumulates.",
            bit_budget_mac,
            lambda operations, macs: operations / macs,
        ),
        Metric(
            "s_ace",
            "bit operations",
            "S-ACE",
            "Bit operations for one input: every multiply-accumulate of every time step counts its weight bits × its "
            "spike bits, whether the spike is zero or not.",
            s_ace,
        ),
        Metric(
            "ns_ace",
            "bit operations",
            "NS-ACE (non-zero spikes)",
            "S-ACE with every layer scaled by its measured firing rate, so that only the non-zero spikes count, as on "
            "event-driven hardware.",
            ns_ace,
            activity=lambda target: True,
        ),
        Metric(
            "synops",
            "synaptic operations",
            "SynOps",
            "Connections that non-zero spikes go through for one input, all time steps together; a spike of several "
            "bits is one operation.",
            synops,
            activity=lambda target: True,
        ),
        Metric(
            "weight_memory",
            "bytes",
            "Weight memory",
            "Bytes that the stored network takes: each layer's weights packed at their bit width, its 4-byte step "
            "sizes, one a time step or one for all, and an 8-byte multiplier and bias an output channel.",
            weight_memory,
            alias="memory",
        ),
        Metric(
            "working_memory",
            "bytes",
            "Working memory, peak",
            "Bytes for membrane potentials and spikes while the network runs, layer by layer: the largest layer's, of "
            "layers that read the same neurons together.",
            working_memory,
            peak=True,
            together=True,
        ),
        Metric(
            "energy",
            "pJ",
            "Energy, estimated",
            "An estimate of one input's energy from the hardware target's table of operations and bytes moved; "
            "control, clock and leakage are not in it.",
            energy,
            table="energy",
            activity=lambda target: target.energy is not None and target.energy.event_driven,
        ),
        Metric(
            "latency",
            "s",
            "Latency, estimated",
            "An estimate of one input's time from what the hardware target computes in a cycle.",
            latency,
            table="latency",
        ),
        Metric(
            "accumulator",
            "bits",
            "Accumulator, widest",
            "Bits of the widest sum that a layer can add up, if all its weights and spikes are the largest that their "
            "bits allow.",
            accumulator,
            peak=True,
            table="accumulator_bits",
        ),
        Metric(
            "cores",
            "cores",
            "Cores",
            "Cores taken on the hardware target; a layer that does not fit one core is split over several, or, where "
            "layers stay whole, counts more than there are.",
            cores,
            table="cores",
        ),
    )
}
"""Every cost metric by name; adding one is one entry here."""
