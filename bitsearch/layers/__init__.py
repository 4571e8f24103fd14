"""Quantized layers and the conversion of a network into them."""

from bitsearch.layers.convert import apply, convert, fix_allocation, quantized_layers
from bitsearch.layers.quantized import QuantizedLayer

__all__ = ["QuantizedLayer", "apply", "convert", "fix_allocation", "quantized_layers"]
