"""The random numbers of samples: a function of (seed, epoch, way, sample number) alone, on any machine."""

from collections.abc import Iterable
from numbers import Integral
from typing import NamedTuple

import numpy as np
import torch

from ..errors import UserError


class Noise(NamedTuple):
    """What B samples are made from."""

    vectors: torch.Tensor
    """[B, Z], standard normal, float32."""

    quantiles: list[float]
    """[B], uniform in [0, 100): where a sample's length lies among those of its class."""

    chances: list[float]
    """[B], uniform in [0, 1): the class whose deviations a sample gets, where it is any (deviations.any_class)."""

    of_deviations: torch.Tensor | None
    """[B, Z], what the deviations come from, where they have noise of their own; None: they come from `vectors`."""


def draw_noise(seed: int, epoch: int, indices: Iterable[int], size: int, apart: bool = False, way: int = 0) -> Noise:
    """The noise of samples number `indices` (>= 0) in `size` dimensions.

    Each sample has a stream of its own (Philox, keyed by the seed, counted by sample, epoch and way), so a batch, a
    worker or a rank can draw any of them.

    epoch: the set's number, in [0, 2^32)
    apart: whether frame deviations have noise of their own
    way: in which of its ways the set's frames deviate, from 0; all have the same vectors and lengths, the rest differs
    UserError for a seed or an epoch that is no whole number from 0
    """
    seed, epoch = _whole("seed", seed), _whole("epoch", epoch)
    vectors, quantiles, chances, deviations = [], [], [], []
    for index in indices:
        stream = _stream(seed, epoch, 0, index)
        vectors.append(stream.standard_normal(size, dtype=np.float32))
        quantiles.append(stream.uniform(0, 100))
        if way:
            stream = _stream(seed, epoch, way, index)
        chances.append(stream.uniform())
        if apart:
            deviations.append(stream.standard_normal(size, dtype=np.float32))
    of_deviations = torch.from_numpy(np.stack(deviations)) if deviations else None
    return Noise(torch.from_numpy(np.stack(vectors)), quantiles, chances, of_deviations)


def _whole(name: str, value: object) -> int:
    """The number as Python's; it may be NumPy's."""
    if isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 0:
        return int(value)
    raise UserError(f"{name} {value!r}: expected a whole number from 0.")


def _stream(seed: int, epoch: int, way: int, index: int) -> np.random.Generator:
    """Of a sample. The counter's last 64 bits are the way, then the epoch."""
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, index, (way << 32) + epoch]))
