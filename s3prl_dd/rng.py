"""Randomness keyed by what it is for: no global seeds, no state to save."""

import hashlib

import torch


def keyed(*key: object) -> torch.Generator:
    """A torch.Generator (CPU) of its own for a key, e.g. keyed(seed, "noise", step)."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
