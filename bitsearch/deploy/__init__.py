"""Deployment: a trained plan as packed integers, and their replay."""

from bitsearch.deploy.integer.packed_file import PackedNetwork, read
from bitsearch.deploy.pack import pack
from bitsearch.deploy.verify import Verification, verify

__all__ = ["PackedNetwork", "Verification", "pack", "read", "verify"]
