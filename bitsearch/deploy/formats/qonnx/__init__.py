"""QONNX: a packed network as a graph that tools for FPGAs read, with quantizers or with thresholds."""
