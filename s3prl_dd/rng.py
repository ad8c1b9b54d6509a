"""Randomness keyed by what it is for: no global seeds, no state to save; and a choice that needs none."""

import hashlib

import torch


def keyed(*key: object) -> torch.Generator:
    """A torch.Generator (CPU) of its own for a key, e.g. keyed(seed, "noise", step)."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def evenly(count: int, most: int) -> list[int]:
    """Places of `most` of `count` things, or of all where there are fewer, evenly spread; in [0, count), rising."""
    number = min(most, count)
    return [place * count // number for place in range(number)]
