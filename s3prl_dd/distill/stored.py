"""Real utterances that stay on the disk: read from the feature store when they are asked for.

    <store>/framed-<T>-<digest>.bin   each utterance in T frames, half precision [N, T, D]; mean and std, float32 [D]
    <store>/crops-<digest>.bin        mean and std alone; crops are read from features.bin itself

Both are made of the store in one pass, when a distillation of that many utterances first needs them.
"""

import copy
import hashlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ..features.store import RELEASE_BYTES, FeatureStore
from ..files import atomic_path
from .sources import crop_starts

SMALLEST_STD = 1e-5
"""What a dimension that does not vary is divided by."""


class StoredUtterances:
    """An UtteranceSource of a feature store: its utterances at `positions` [N], each read when it is asked for."""

    def __init__(self, store: FeatureStore, positions: list[int]) -> None:
        self.store, self.positions = store, np.array(positions, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.store[int(self.positions[index])]

    def __iter__(self) -> Iterator[torch.Tensor]:
        read = 0
        for index in range(len(self)):
            frames = self[index]
            yield frames
            read += frames.nbytes
            if read > RELEASE_BYTES:
                self.store.release()
                read = 0
        self.store.release()

    def lengths(self) -> torch.Tensor:
        """Frames of each [N]."""
        return torch.from_numpy(self.store.lengths[self.positions])

    def means(self) -> torch.Tensor:
        """Utterance means [N, D]."""
        return self.store.means(self.positions.tolist())

    def first_numbers(self) -> torch.Tensor:
        """The first number of each, float32 [N]."""
        first = self.store.frames[self.store.offsets[self.positions], 0]
        self.store.release()
        return torch.from_numpy(first.astype(np.float32))


class Statistics(NamedTuple):
    """Of frames, by dimension."""

    mean: torch.Tensor  # [D]
    std: torch.Tensor  # [D]


class Moments:
    """Mean and standard deviation of frames that come in parts, in float64."""

    def __init__(self, dim: int) -> None:
        self.count, self.mean, self.squares = 0, torch.zeros(dim).double(), torch.zeros(dim).double()

    def add(self, frames: torch.Tensor) -> None:
        """frames: [n, D]; by the update of Chan et al. 1983, which cancels nothing"""
        frames, count = frames.double(), len(frames)
        mean = frames.mean(dim=0)
        apart, total = mean - self.mean, self.count + count
        self.squares += (frames - mean).square().sum(dim=0) + apart.square() * (self.count * count / total)
        self.mean += apart * (count / total)
        self.count = total

    def statistics(self) -> Statistics:
        """Of all that was added."""
        return Statistics(self.mean.float(), (self.squares / max(1, self.count - 1)).sqrt().float())


class StoredFrames:
    """A FrameSource of what is too much for memory. mean, std: of all its frames by dimension [D], on its device."""

    def __init__(self, utterances: StoredUtterances, frames: int, reframe: Callable[[torch.Tensor, int], torch.Tensor]
                 | None) -> None:
        """reframe: how an utterance [T_i, D] becomes `frames` frames; None for crops of so many"""
        self.device = torch.device("cpu")
        self.utterances, self.frames, self.reframe = utterances, frames, reframe
        self.dim, self.lengths = utterances.store.dim, utterances.lengths().numpy()
        self.rows = len(utterances) * frames if reframe is not None else 0
        path = utterances.store.folder / f"{self._kind()}-{_digest(utterances)}.bin"
        if not path.is_file() or path.stat().st_size != self._bytes():
            self._write(path)
        self._open(path)

    def _kind(self) -> str:
        return "crops" if self.reframe is None else f"framed-{self.frames}"

    def _bytes(self) -> int:
        return self.rows * self.dim * 2 + 2 * self.dim * 4

    def _write(self, path: Path) -> None:
        """One pass over the utterances, in which their frames and statistics are made."""
        moments = Moments(self.dim)
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            for part in self._parts():
                moments.add(part)
                if self.reframe is not None:
                    file.write(part.half().numpy().tobytes())
            for values in moments.statistics():
                file.write(values.numpy().tobytes())

    def _parts(self) -> Iterator[torch.Tensor]:
        """All frames of the utterances, reframed or as they are, [n, D] at a time."""
        waiting: list[torch.Tensor] = []
        for frames in self.utterances:
            waiting.append(frames if self.reframe is None else self.reframe(frames, self.frames))
            if sum(map(len, waiting)) >= 4096:
                yield torch.cat(waiting)
                waiting = []
        if waiting:
            yield torch.cat(waiting)

    def _open(self, path: Path) -> None:
        tail = np.fromfile(path, np.float32, offset=self.rows * self.dim * 2).reshape(2, self.dim)
        mean, std = torch.from_numpy(tail)
        self.mean, self.std = mean, std.clamp(min=SMALLEST_STD)
        self._framed = open(path, "rb", buffering=0) if self.reframe is not None else None

    def to(self, device: torch.device) -> "StoredFrames":
        """See FrameSource; the file is shared."""
        moved = copy.copy(self)
        moved.device, moved.mean, moved.std = device, self.mean.to(device), self.std.to(device)
        return moved

    def read(self, indices: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
        """See FrameSource."""
        frames = self._read_half(indices, starts).to(self.device, non_blocking=True).float()
        return (frames - self.mean) / self.std

    def _read_half(self, indices: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
        """Frames [B, T, D] as they lie there, in half precision and not standardised."""
        if self._framed is not None:
            return self._read_framed(self._framed, indices.tolist())
        store, positions = self.utterances.store, self.utterances.positions[indices.numpy()]
        first = crop_starts(torch.from_numpy(self.lengths)[indices], starts, self.frames).numpy()
        rows = (store.offsets[positions] + first)[:, None] + np.arange(self.frames)
        frames = torch.from_numpy(store.frames[rows])
        store.release()
        return frames

    def _read_framed(self, file: io.FileIO, indices: list[int]) -> torch.Tensor:
        """Frames [B, T, D] of these utterances; read, not mapped: pages of a map would pile up as memory of ours."""
        frames = np.empty((len(indices), self.frames, self.dim), np.float16)
        for place, index in enumerate(indices):
            file.seek(index * frames[place].nbytes)
            file.readinto(frames[place])
        return torch.from_numpy(frames)


def _digest(utterances: StoredUtterances) -> str:
    """Of which utterances, in which order, and of their lengths and first numbers, as hex."""
    digest = hashlib.sha256(utterances.positions.tobytes())
    digest.update(utterances.lengths().numpy().tobytes())
    digest.update(utterances.first_numbers().numpy().tobytes())
    return digest.hexdigest()[:16]
