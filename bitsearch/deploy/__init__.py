"""Deployment: a trained plan as packed integers."""

from bitsearch.deploy.packed import pack, unpack

__all__ = ["pack", "unpack"]
