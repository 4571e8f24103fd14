"""Inner loop: allocation methods, one shared trainer, budget control and projection."""
