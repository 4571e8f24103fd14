"""SpikingJelly's energy models, from its operation counters: one function each, of what a network did for one input."""

from spikingjelly.activation_based import op_counter
from torch import nn

from bitsearch.energy_models import Estimate


def simple(firing: nn.Module) -> Estimate:
    """MACs, additions, and bytes of parameters and states, each at one price."""
    report = op_counter.estimate_simple_energy(firing, ())
    return Estimate(report.energy_total_pj, report.energy_compute_pj, report.energy_memory_pj)


def lemaire(firing: nn.Module) -> Estimate:
    """Operations, addresses, and memories whose price grows with their size."""
    report = op_counter.estimate_lemaire_energy(firing, ())
    memory = report.breakdown_pj["memory_pj"]
    return Estimate(report.total_pj, report.total_pj - memory, memory)


def neuromc(firing: nn.Module) -> Estimate:
    """The forward pass alone, mapped onto the accelerator's memories."""
    report = op_counter.estimate_neuromc_runtime_energy(firing, ())
    return Estimate(report.energy_total_pj, report.energy_compute_pj, report.energy_memory_pj)


def spikesim(firing: nn.Module) -> Estimate:
    """Cycles of the crossbars that hold the convolutions."""
    report = op_counter.estimate_spikesim_energy(firing.eval(), ())
    return Estimate(report.energy_total_pj, None, None)
