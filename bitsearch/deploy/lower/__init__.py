"""From a trained quantized network to the integer program."""
