"""Which layer deserves which bits: methods over signals and solvers, budget control, and a loop of the user's own."""
