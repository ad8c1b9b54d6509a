"""The random numbers of samples: a function of (seed, epoch, sample number) alone, on any machine."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch


class Noise(NamedTuple):
    """What B samples are made from."""

    vectors: torch.Tensor
    """[B, Z], standard normal, float32."""

    quantiles: list[float]
    """[B], uniform in [0, 100): where a sample's length lies among those of its class."""

    chances: list[float]
    """[B], uniform in [0, 1): as which class a sample moves, where that is any (movement.any_class)."""


def draw_noise(seed: int, epoch: int, indices: Iterable[int], size: int) -> Noise:
    """The noise of samples number `indices` (>= 0) in `size` dimensions.

    Each sample has a stream of its own (Philox, keyed by the seed, counted by sample and epoch), so a batch, a worker
    or a rank can draw any of them.
    """
    vectors, quantiles, chances = [], [], []
    for index in indices:
        stream = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, index, epoch]))
        vectors.append(stream.standard_normal(size, dtype=np.float32))
        quantiles.append(stream.uniform(0, 100))
        chances.append(stream.uniform())
    return Noise(torch.from_numpy(np.stack(vectors)), quantiles, chances)
