"""Feature store: one reduced [T, D] per utterance, memory-mapped, with where it came from.

    <store>/header.json       StoreHeader: how the features were made, dtype, complete
    <store>/index.jsonl       one Entry a line: id (path), label, speaker, frames
    <store>/features.bin      all frames, [sum of T, D], half precision by default
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from ..config import build, settings
from ..corpora.metadata import Metadata, Utterance
from ..errors import UserError
from ..files import read_json, write_json
from ..generator.header import Provenance

Dtype = Literal["float16", "float32"]


@settings
class StoreHeader:
    """header.json: what a store holds."""

    features: Provenance
    """How the features were made."""

    dtype: Dtype = "float16"
    """Type of the numbers in features.bin."""

    complete: bool = False
    """Whether the extraction came to its end."""

    @classmethod
    def read(cls, folder: Path) -> "StoreHeader":
        """Of the store `folder`; a missing or damaged one is a UserError."""
        path = folder / "header.json"
        values = read_json(path, "feature store")
        if not isinstance(values, dict):
            raise UserError(f"{path}: expected a JSON object with features, dtype and complete, found {values!r:.60}. "
                            "Delete the folder and extract again.")
        return build(cls, values, path)

    def write(self, folder: Path) -> None:
        """Write the header.json of the store `folder`."""
        write_json(folder / "header.json", asdict(self))


class Entry(NamedTuple):
    """A line of index.jsonl. id: the utterance's path; label: class name; frames: T."""

    id: str
    label: str
    speaker: str
    frames: int

    def line(self) -> str:
        """The line, with its end."""
        return json.dumps(self._asdict()) + "\n"


class FeatureStore:
    """A finished store, read only. `store[i]` is utterance i's frames, float32 [T, D].

    entries: the N utterances in the store's order; offsets: where each one's frames begin, and the end, int [N + 1]
    frames: all frames, memory-mapped, [sum of T, D]; positions: id -> place in entries
    An unfinished or damaged store is a UserError.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.header = StoreHeader.read(self.folder)
        if not self.header.complete:
            raise UserError(f"{folder}: extraction did not finish. "
                            "Run `s3prl-dd extract` again, it goes on where it stopped.")
        self.entries = _read_index(self.folder / "index.jsonl")
        self.offsets = np.concatenate([[0], np.cumsum([entry.frames for entry in self.entries], dtype=np.int64)])
        total = int(self.offsets[-1])
        data = self.folder / "features.bin"
        size = data.stat().st_size if data.is_file() else 0
        expected = total * self.dim * np.dtype(self.header.dtype).itemsize
        if size != expected:
            raise UserError(f"{folder}/features.bin: {size} bytes, expected {expected}. "
                            "Delete the folder and extract again.")
        self.frames: np.memmap[Any, Any] = np.memmap(data, self.header.dtype, "r", shape=(total, self.dim))
        self.positions = {entry.id: position for position, entry in enumerate(self.entries)}

    @property
    def provenance(self) -> Provenance:
        """How the features were made."""
        return self.header.features

    @property
    def dim(self) -> int:
        """D, numbers a frame."""
        return self.provenance.dim

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> torch.Tensor:
        frames = self.frames[self.offsets[index]:self.offsets[index + 1]]
        return torch.from_numpy(frames.astype(np.float32))  # [T, D]

    @property
    def lengths(self) -> np.ndarray:
        """Frames of each utterance, int [N]."""
        return np.diff(self.offsets)

    def select(self, metadata: Metadata) -> list[int]:
        """Positions of a Metadata's utterances, in its order; one that the store lacks is a UserError."""
        try:
            return [self.positions[utterance.path] for utterance in metadata.utterances]
        except KeyError as error:
            raise UserError(f"{self.folder}: no features of {error}. Extract with the same metadata.") from None

    def means(self, positions: Iterable[int]) -> torch.Tensor:
        """Utterance means of these positions, in their order, float32 [N, D]."""
        return torch.stack([self[position].mean(dim=0) for position in positions])


def _read_index(path: Path) -> list[Entry]:
    if not path.is_file():
        return []
    *whole, _ = path.read_text(encoding="utf-8").split("\n")  # what a kill cut off has no newline
    try:
        return [Entry(**json.loads(line)) for line in whole]
    except (json.JSONDecodeError, TypeError) as error:
        raise UserError(f"{path}: a line is not JSON with {', '.join(Entry._fields)} ({error}). "
                        "Delete the folder and extract again.") from None


class StoreWriter:
    """Appends utterances to a store; after a kill it goes on behind the last whole one.

        with StoreWriter(folder, provenance) as writer:
            for utterance in todo:
                if utterance.path not in writer.done:
                    writer.add(utterance, frames)

    done: ids of the utterances that the store holds.
    """

    def __init__(self, folder: str | Path, provenance: Provenance, dtype: Dtype = "float16") -> None:
        """provenance: how the features are made; a store of other features or another dtype is refused."""
        self.folder = Path(folder)
        self.dtype = np.dtype(dtype)
        self.header = StoreHeader(provenance, dtype)
        self.folder.mkdir(parents=True, exist_ok=True)
        if (self.folder / "header.json").is_file():
            there = StoreHeader.read(self.folder)
            _check_same(self.folder, there, self.header)
            self.header = replace(there, complete=False)
        kept = self._whole_entries()
        self.done = {entry.id for entry in kept}
        self.index = open(self.folder / "index.jsonl", "a+", encoding="utf-8")
        self.data = open(self.folder / "features.bin", "ab")
        self.data.truncate(sum(entry.frames for entry in kept) * self._bytes_a_frame)
        self.index.truncate(sum(len(entry.line()) for entry in kept))  # JSON is ASCII: characters are bytes
        self.header.write(self.folder)

    @property
    def _bytes_a_frame(self) -> int:
        return self.header.features.dim * self.dtype.itemsize

    def _whole_entries(self) -> list[Entry]:
        """The entries whose frames are all in features.bin: data reaches the disk before its line, or is cut."""
        data = self.folder / "features.bin"
        there = data.stat().st_size // self._bytes_a_frame if data.is_file() else 0
        kept, frames = [], 0
        for entry in _read_index(self.folder / "index.jsonl"):
            frames += entry.frames
            if frames > there:
                break
            kept.append(entry)
        return kept

    def add(self, utterance: Utterance, frames: torch.Tensor) -> None:
        """Append an utterance's frames [T, D]; empty, infinite or too large ones are a UserError."""
        array = frames.detach().cpu().numpy()
        dim = self.header.features.dim
        if array.ndim != 2 or array.shape[1] != dim:
            raise UserError(f"{utterance.path}: features {list(array.shape)}, expected [T, {dim}].")
        largest = np.finfo(self.dtype).max
        if not len(array) or not np.isfinite(array).all() or abs(array).max() > largest:
            raise UserError(f"{utterance.path}: features are empty, not finite or too large for {self.dtype}.")
        self.data.write(array.astype(self.dtype).tobytes())
        self.data.flush()
        self.index.write(Entry(utterance.path, utterance.label, utterance.speaker, len(array)).line())
        self.index.flush()
        self.done.add(utterance.path)

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.index.close()
        self.data.close()
        if kind is None:
            replace(self.header, complete=True).write(self.folder)


def _check_same(folder: Path, there: StoreHeader, wanted: StoreHeader) -> None:
    """Refuse to add to a store whose features were made otherwise."""
    differences = there.features.differences(wanted.features)
    if there.dtype != wanted.dtype:
        differences["dtype"] = (there.dtype, wanted.dtype)
    if differences:
        said = ", ".join(f"{name} {one!r} not {other!r}" for name, (one, other) in differences.items())
        raise UserError(f"{folder}: holds features made otherwise ({said}). Choose another folder, or delete this one.")
