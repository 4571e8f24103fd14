"""A run folder: its files, plans, Pareto front and chosen plan; rebuilding, training and measuring a plan."""
