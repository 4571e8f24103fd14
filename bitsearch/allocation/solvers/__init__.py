"""Plans within budgets: projection, integer program, uniform grid, random."""
