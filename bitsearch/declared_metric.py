"""What a user says of a cost metric of their own, in a search space's ``[metrics]`` or in a package's plug-in."""

from typing import Annotated

from pydantic import Field

from bitsearch.declared_neuron import ClassPath
from bitsearch.validation import Frozen, Name

MetricName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")]


class DeclaredMetric(Frozen):
    """A function of the layers' geometry and bits, and what it counts.

    The function is called as ``function(geometry, bits)`` with vectors over the layers, NumPy arrays of float64 as well
    as torch tensors, and returns every layer's cost; ``+ - * / **`` work on both, and the gradient follows from them.

    >>> bitsearch.DeclaredMetric(function="mycosts:area", unit="um2", description="Area of the multipliers.").peak
    False
    """

    function: ClassPath
    """``package.module:function``."""
    unit: str = Field(default="", max_length=40)
    title: Name | None = None
    """For people; the metric's name by default."""
    description: Name
    """One sentence for the report."""
    peak: bool = False
    """True if the network's cost is that of its dearest layer; False if it is the sum of its layers'."""
    firing_rates: bool = False
    """True if the function reads ``geometry.firing_rates`` or ``synaptic_rates``."""
