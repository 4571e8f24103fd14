"""Where studies and their results are stored, for one process or many machines."""
