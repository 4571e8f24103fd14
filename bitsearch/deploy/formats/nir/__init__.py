"""A network as a graph of the Neuromorphic Intermediate Representation, for its readers."""
