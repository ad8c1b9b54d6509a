"""Frames of a set that wait on disk until the whole set is drawn: centring must see all of it first."""

from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch


class Raw(NamedTuple):
    """A batch before it is centred, labelled and stretched."""

    frames: torch.Tensor
    """[B, T, D], in the features' units."""

    labels: torch.Tensor
    """[B], class indices."""

    quantiles: list[float]
    """[B], see noise.Noise."""


class Spill:
    """Batches whose frames lie in a file, float32. They can be gone through again and again.

    path: of a new file, which the caller removes

    What stays in memory is in two growing arrays: small objects of each batch between its large tensors would keep the
    allocator from using their memory again.
    """

    def __init__(self, path: Path, parts: Iterable[Raw]) -> None:
        self.path = path
        self.labels, self.quantiles = array("q"), array("d")
        self.sizes = array("q")  # of the batches
        self.frame_shape: tuple[int, ...] = ()  # (T, D)
        self.device = torch.device("cpu")
        with open(path, "wb") as file:
            for part in parts:
                part.frames.cpu().contiguous().numpy().tofile(file)
                self.labels.extend(part.labels.tolist())
                self.quantiles.extend(part.quantiles)
                self.sizes.append(len(part.labels))
                self.frame_shape, self.device = tuple(part.frames.shape[1:]), part.frames.device

    def __iter__(self) -> Iterator[Raw]:
        start = 0
        with open(self.path, "rb") as file:
            for size in self.sizes:
                shape = size, *self.frame_shape
                frames = np.fromfile(file, np.float32, int(np.prod(shape))).reshape(shape)
                rows = slice(start, start + size)
                labels = torch.tensor(self.labels[rows], device=self.device)
                yield Raw(torch.from_numpy(frames).to(self.device), labels, self.quantiles[rows].tolist())
                start += size
