"""Quantized layers and the conversion of a network into them."""

from bitsearch.layers.conversion import Converted, conversion
from bitsearch.layers.convert import apply, convert, fix_allocation, quantized_layers
from bitsearch.layers.quantized import QuantizedLayer

__all__ = ["Converted", "QuantizedLayer", "apply", "conversion", "convert", "fix_allocation", "quantized_layers"]
