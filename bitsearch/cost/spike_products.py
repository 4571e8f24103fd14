r"""How wide the factors are that a network multiplies outside of its layers, as attention does.

Neurons that a product reads stay in the network and send spikes of their own few bits; anything else has 32. Over the
products of a module, of which the i-th makes m_i multiply-accumulates with factors of w_i ≥ s_i bits,

.. math::
    s = \frac{\sum_i m_i s_i}{\sum_i m_i}, \qquad w = \frac{\sum_i m_i w_i s_i}{\sum_i m_i s_i}

so that the module's multiply-accumulates times w·s are its bit operations, exactly.
"""

import math

from torch import nn

from bitsearch.dataflow.recording import Recording
from bitsearch.dataflow.rules import Origin
from bitsearch.frameworks.neurons import describe

FLOAT_BITS = 32
"""Width at which weights and inputs are stored and multiplied that have no bits of their own."""


def factor_bits(recording: Recording, module: nn.Module) -> tuple[float, float] | None:
    """(w, s) of a module's products; None if none of them has spikes for a factor, or some were not seen."""
    products = recording.products.get(module, [])
    macs = sum(product.macs for product in products)
    if not macs or macs != sum(call.macs for call in recording.calls.get(module, [])):
        return None
    widths = [sorted(map(_bits, product.factors), reverse=True) for product in products]
    if all(narrow == FLOAT_BITS for _, narrow in widths):
        return None
    narrow = sum(product.macs * pair[1] for product, pair in zip(products, widths, strict=True))
    both = sum(product.macs * pair[0] * pair[1] for product, pair in zip(products, widths, strict=True))
    return both / narrow, narrow / macs


def _bits(origin: Origin) -> int:
    """Of spikes as they were sent, moved or the largest of some; sums and means of them are wider."""
    largest = [describe(neuron).settings.largest for neuron in origin.neurons]
    if not largest or not origin.as_sent or origin.other:
        return FLOAT_BITS
    return max(FLOAT_BITS if most is None else math.ceil(math.log2(most + 1)) for most in largest)
