from small_network import batch, fresh_network, model, network, rules, space, splits, trained

__all__ = ["batch", "fresh_network", "model", "network", "rules", "space", "splits", "trained"]
