from small_network import network, splits, trained

__all__ = ["network", "splits", "trained"]
