"""Feature store: one reduced [T, D] per utterance, memory-mapped, with where it came from.

    <store>/header.json       StoreHeader: how the features were made, dtype, complete
    <store>/index.jsonl       one Entry a line: id, label, speaker, frames
    <store>/features.bin      all frames, [sum of T, D], half precision by default
    <store>/means.safetensors the utterances' means, float32 [N, D]: made of the others, and only read if it fits them

100,000 utterances open in a second or two and take some 20 MB: no object is held for each, and frames stay on the disk.
"""

import contextlib
import hashlib
import json
import mmap
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..config import build, settings
from ..corpora.metadata import Metadata, Utterance
from ..errors import UserError
from ..files import atomic_path, disk_error, lock_alone, read_json, write_json
from ..generator.header import Provenance

Dtype = Literal["float16", "float32"]

MEANS = "means.safetensors"

RELEASE_BYTES = 1 << 26
"""Bytes that are read of features.bin before their pages are let go."""

PROBES, PROBE_BYTES = 64, 4096
"""How many places of features.bin are compared, and how many bytes at each, to know its means again."""


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
    """A line of index.jsonl. id: Utterance.id, its path with its times where it is a part of a file; frames: T."""

    id: str
    label: str
    speaker: str
    frames: int

    def line(self) -> str:
        """The line, with its end."""
        return json.dumps(self._asdict()) + "\n"


class Entries:
    """index.jsonl as columns: `entries[i]` makes the Entry of utterance i.

    ids, labels, speakers: of the N utterances, in the store's order; frames: T of each, int64 [N]
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.ids: list[str] = []
        self.labels: list[str] = []
        self.speakers: list[str] = []
        frames = array("q")
        names: dict[str, str] = {}  # names that are alike share their memory
        for entry in entries:
            self.ids.append(entry.id)
            self.labels.append(names.setdefault(entry.label, entry.label))
            self.speakers.append(names.setdefault(entry.speaker, entry.speaker))
            frames.append(entry.frames)
        self.frames = np.array(frames, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Entry:
        return Entry(self.ids[index], self.labels[index], self.speakers[index], int(self.frames[index]))

    def __iter__(self) -> Iterator[Entry]:
        return (self[index] for index in range(len(self)))


class FeatureStore:
    """A finished store, read only. `store[i]` is utterance i's frames, float32 [T, D].

    entries: the N utterances in the store's order; offsets: where each one's frames begin, and the end, int [N + 1]
    frames: all frames, a view of the memory map, [sum of T, D]
    An unfinished or damaged store is a UserError.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.header = StoreHeader.read(self.folder)
        if not self.header.complete:
            raise UserError(f"{folder}: extraction did not finish. "
                            "Run `s3prl-dd extract` again, it goes on where it stopped.")
        self.entries = Entries(_read_index(self.folder / "index.jsonl"))
        self.offsets = np.concatenate([[0], np.cumsum(self.entries.frames)])
        total = int(self.offsets[-1])
        data = self.folder / "features.bin"
        size = data.stat().st_size if data.is_file() else 0
        expected = total * self.dim * np.dtype(self.header.dtype).itemsize
        if size != expected:
            raise UserError(f"{folder}/features.bin: {size} bytes, expected {expected}. "
                            "Delete the folder and extract again.")
        self._map = _map(data)
        self.frames: NDArray[np.floating] = np.frombuffer(self._map, self.header.dtype).reshape(total, self.dim)

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
        return self.entries.frames

    @cached_property
    def positions(self) -> dict[str, int]:
        """Id -> place in entries."""
        return {name: position for position, name in enumerate(self.entries.ids)}

    def select(self, metadata: Metadata) -> list[int]:
        """Positions of a Metadata's utterances, in its order; one that the store lacks is a UserError."""
        try:
            return [self.positions[utterance.id] for utterance in metadata.utterances]
        except KeyError as error:
            raise UserError(f"{self.folder}: no features of {error}. Extract with the same metadata.") from None

    def release(self) -> None:
        """Let go of the pages that were read: they no longer count as this process' memory.

        Reading them again costs little, the system keeps them as long as it can. Call it now and then in a pass over
        a large store.
        """
        if isinstance(self._map, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)

    def means(self, positions: Iterable[int]) -> torch.Tensor:
        """Utterance means of these positions, in their order, float32 [N, D].

        Those kept beside the store, bit for bit what its frames give; without them one pass over the frames.
        """
        chosen = np.array(list(positions), dtype=np.int64)
        kept = self._kept_means
        return self._average(chosen) if kept is None else kept[torch.from_numpy(chosen)]

    def keep_means(self) -> None:
        """Write the means of all utterances beside the features, whole or not at all."""
        means = self._average(np.arange(len(self)))
        with atomic_path(self.folder / MEANS) as temporary:
            save_file({"means": means}, temporary, metadata={"of": self._fingerprint()})

    def _average(self, chosen: NDArray[np.int64]) -> torch.Tensor:
        """The means [N, D] of utterances, read in the order of the disk."""
        means = torch.empty(len(chosen), self.dim)
        read = 0
        for row in np.argsort(chosen, kind="stable"):
            frames = self[chosen[row]]
            means[row] = frames.mean(dim=0)
            read += frames.nbytes
            if read > RELEASE_BYTES:
                self.release()
                read = 0
        return means

    @property
    def _kept_means(self) -> torch.Tensor | None:
        """The means [N, D] on the disk, memory-mapped; None where there are none, or others' or damaged ones.

        Not held, for pages of a map that have been read count as memory.
        """
        try:
            with safe_open(self.folder / MEANS, framework="pt") as file:
                if (file.metadata() or {}).get("of") != self._fingerprint():
                    return None
                return file.get_tensor("means")
        except (OSError, SafetensorError):
            return None

    def _fingerprint(self) -> str:
        """What means were made of: header, index and parts of the features all over the file, as hex."""
        index = (self.folder / "index.jsonl").read_bytes()
        digest = hashlib.sha256(json.dumps(asdict(self.header)).encode() + index)
        last = max(0, len(self._map) - PROBE_BYTES)
        for place in np.linspace(0, last, PROBES).astype(int):
            digest.update(self._map[place:place + PROBE_BYTES])
        return digest.hexdigest()


def _map(path: Path) -> mmap.mmap | bytes:
    """The file's bytes, memory-mapped; the system maps no empty file."""
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""


def _read_index(path: Path) -> Iterator[Entry]:
    """The entries of index.jsonl, a line after the other."""
    if not path.is_file():
        return
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                if line.endswith("\n"):  # what a kill cut off has no newline
                    yield _parse(line)
    except ValueError as error:
        raise UserError(f"{path}: a line is not JSON with {', '.join(Entry._fields)} ({error}). "
                        "Delete the folder and extract again.") from None


def _parse(line: str) -> Entry:
    """The Entry of a line; anything else is a ValueError."""
    try:
        entry = Entry(**json.loads(line))
    except TypeError as error:
        raise ValueError(error) from None
    if not isinstance(entry.frames, int) or not all(isinstance(text, str) for text in entry[:3]):
        raise ValueError(f"{line.strip():.80}")
    return entry


class StoreWriter:
    """Appends utterances to a store; after a kill it goes on behind the last whole one.

        with StoreWriter(folder, provenance) as writer:
            for utterance in todo:
                if utterance.id not in writer.done:
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
        self.data = open(self.folder / "features.bin", "ab")
        if not lock_alone(self.data):
            self.data.close()
            raise UserError(f"{self.folder}: another process is writing features there. Wait until it has ended, or "
                            "end it.")
        kept = self._whole_entries()
        self.done = {entry.id for entry in kept}
        self.index = open(self.folder / "index.jsonl", "a+", encoding="utf-8")
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
        """Append an utterance's frames [T, D]; empty, infinite or too large ones, and a full disk, are a UserError."""
        array = frames.detach().cpu().numpy()
        dim = self.header.features.dim
        if array.ndim != 2 or array.shape[1] != dim:
            raise UserError(f"{utterance.path}: features {list(array.shape)}, expected [T, {dim}].")
        largest = np.finfo(self.dtype).max
        if not len(array) or not np.isfinite(array).all() or abs(array).max() > largest:
            raise UserError(f"{utterance.path}: features are empty, not finite or too large for {self.dtype}.")
        try:
            self.data.write(array.astype(self.dtype).tobytes())
            self.data.flush()
            self.index.write(Entry(utterance.id, utterance.label, utterance.speaker, len(array)).line())
            self.index.flush()
        except OSError as error:
            raise disk_error(error, self.folder / "features.bin") or error from None
        self.done.add(utterance.id)

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in (self.index, self.data):
            with contextlib.suppress(OSError):  # what a full disk has not taken is told already, and cut off next time
                file.close()
        if kind is None:
            replace(self.header, complete=True).write(self.folder)
            with contextlib.suppress(UserError):  # a disk that is full by now: all works without them
                FeatureStore(self.folder).keep_means()


def _check_same(folder: Path, there: StoreHeader, wanted: StoreHeader) -> None:
    """Refuse to add to a store whose features were made otherwise."""
    differences = there.features.differences(wanted.features)
    if there.dtype != wanted.dtype:
        differences["dtype"] = (there.dtype, wanted.dtype)
    if differences:
        said = ", ".join(f"{name} {one!r} not {other!r}" for name, (one, other) in differences.items())
        raise UserError(f"{folder}: holds features made otherwise ({said}). Choose another folder, or delete this one.")
