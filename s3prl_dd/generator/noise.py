"""The random numbers of samples: a function of (seed, epoch, movement, sample number) alone, on any machine."""

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
    """[B], uniform in [0, 1): the class whose deviations a sample gets, where it is any (movement.any_class)."""

    movers: torch.Tensor | None
    """[B, Z], what the deviations come from, where they have noise of their own; None: they come from `vectors`."""


def draw_noise(seed: int, epoch: int, indices: Iterable[int], size: int, apart: bool = False, movement: int = 0
               ) -> Noise:
    """The noise of samples number `indices` (>= 0) in `size` dimensions.

    Each sample has a stream of its own (Philox, keyed by the seed, counted by sample, epoch and movement), so a batch,
    a worker or a rank can draw any of them.

    epoch: the set's number, in [0, 2^32)
    apart: movement has noise of its own
    movement: which of the set's movements, from 0; all have the same vectors and lengths, and other chances and movers
    """
    vectors, quantiles, chances, movers = [], [], [], []
    for index in indices:
        stream = _stream(seed, epoch, 0, index)
        vectors.append(stream.standard_normal(size, dtype=np.float32))
        quantiles.append(stream.uniform(0, 100))
        if movement:
            stream = _stream(seed, epoch, movement, index)
        chances.append(stream.uniform())
        if apart:
            movers.append(stream.standard_normal(size, dtype=np.float32))
    of_movement = torch.from_numpy(np.stack(movers)) if movers else None
    return Noise(torch.from_numpy(np.stack(vectors)), quantiles, chances, of_movement)


def _stream(seed: int, epoch: int, movement: int, index: int) -> np.random.Generator:
    """Of a sample. The counter's last 64 bits are the movement, then the epoch."""
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, index, (movement << 32) + epoch]))
