"""Frames of a set that wait on disk until the whole set is drawn: centring must see all of it first."""

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
    """

    def __init__(self, path: Path, parts: Iterable[Raw]) -> None:
        self.path = path
        self.parts: list[Raw] = []  # without frames
        self.frame_shape: tuple[int, ...] = ()  # (T, D)
        with open(path, "wb") as file:
            for part in parts:
                part.frames.cpu().contiguous().numpy().tofile(file)
                self.frame_shape = tuple(part.frames.shape[1:])
                self.parts.append(part._replace(frames=part.frames.new_empty(0)))

    def __iter__(self) -> Iterator[Raw]:
        with open(self.path, "rb") as file:
            for part in self.parts:
                shape = len(part.labels), *self.frame_shape
                frames = np.fromfile(file, np.float32, int(np.prod(shape))).reshape(shape)
                yield part._replace(frames=torch.from_numpy(frames).to(part.labels.device))
