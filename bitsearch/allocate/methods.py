"""Every allocation method by name; adding one is one entry here, and its name in :data:`bitsearch.space.MethodName`."""

from bitsearch.allocate.adaptive import allocate_adaptively
from bitsearch.allocate.local_binary import allocate_local_binary
from bitsearch.allocate.method import Method
from bitsearch.allocate.ramp import allocate_by_ramp
from bitsearch.allocate.random_plans import allocate_randomly
from bitsearch.allocate.refine import allocate_by_refinement
from bitsearch.allocate.sensitivity import allocate_by_sensitivity
from bitsearch.allocate.uniform import allocate_uniformly
from bitsearch.space import MethodName

METHODS: dict[MethodName, Method] = {
    "adaptive": allocate_adaptively,
    "local_binary": allocate_local_binary,
    "sensitivity": allocate_by_sensitivity,
    "ramp": allocate_by_ramp,
    "refine": allocate_by_refinement,
    "uniform": allocate_uniformly,
    "random": allocate_randomly,
}
