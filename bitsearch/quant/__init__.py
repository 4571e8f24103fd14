"""Pure functions on tensors: quantizers, the spiking neuron, their gradients, and step-size renewal."""
