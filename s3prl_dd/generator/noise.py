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

    movers: torch.Tensor | None
    """[B, Z], what movement is made from, where it has noise of its own; None: it is made from `vectors`."""


ANEW = 1 << 32
"""Sets number e, e + ANEW, e + 2 ANEW, ... have the same utterance means, and each its own movement."""


def draw_noise(seed: int, epoch: int, indices: Iterable[int], size: int, apart: bool = False) -> Noise:
    """The noise of samples number `indices` (>= 0) in `size` dimensions.

    Each sample has a stream of its own (Philox, keyed by the seed, counted by sample and epoch), so a batch, a worker
    or a rank can draw any of them. epoch: the set's number; from ANEW up it moves anew
    apart: movement has noise of its own
    """
    vectors, quantiles, chances, movers = [], [], [], []
    for index in indices:
        stream = _stream(seed, epoch % ANEW, index)
        vectors.append(stream.standard_normal(size, dtype=np.float32))
        quantiles.append(stream.uniform(0, 100))
        if epoch >= ANEW:
            stream = _stream(seed, epoch, index)
        chances.append(stream.uniform())
        if apart:
            movers.append(stream.standard_normal(size, dtype=np.float32))
    of_movement = torch.from_numpy(np.stack(movers)) if movers else None
    return Noise(torch.from_numpy(np.stack(vectors)), quantiles, chances, of_movement)


def _stream(seed: int, epoch: int, index: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, index, epoch]))
