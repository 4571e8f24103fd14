"""A packed network as C99: fixed point only, no heap, no dependency; one template an operation."""
