"""Deployment: a trained plan as packed integers, and their replay."""

from bitsearch.deploy.packed import PackedNetwork, pack, read
from bitsearch.deploy.verify import Verification, verify

__all__ = ["PackedNetwork", "Verification", "pack", "read", "verify"]
