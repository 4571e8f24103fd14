"""Plans without training: a trained network is scored once, and a plan is solved and calibrated for every budget."""
