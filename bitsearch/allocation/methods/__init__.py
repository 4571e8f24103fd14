"""Every allocation method by name; adding one is one entry here, and its name in ``MethodName``."""

from bitsearch.allocation.methods.adaptive import allocate_adaptively
from bitsearch.allocation.methods.base import Method
from bitsearch.allocation.methods.local_binary import allocate_local_binary
from bitsearch.allocation.methods.ramp import allocate_by_ramp
from bitsearch.allocation.methods.random_plan import allocate_randomly
from bitsearch.allocation.methods.refine import allocate_by_refinement
from bitsearch.allocation.methods.sensitivity import allocate_by_sensitivity
from bitsearch.allocation.methods.uniform import allocate_uniformly
from bitsearch.allocation_settings import MethodName

METHODS: dict[MethodName, Method] = {
    "adaptive": allocate_adaptively,
    "local_binary": allocate_local_binary,
    "sensitivity": allocate_by_sensitivity,
    "ramp": allocate_by_ramp,
    "refine": allocate_by_refinement,
    "uniform": allocate_uniformly,
    "random": allocate_randomly,
}

COUNTS_ATTEMPTS: frozenset[MethodName] = frozenset({"uniform", "random"})
"""Methods with a choice of their own, which give another plan at every attempt; all others give the same."""
