"""Drawn sets on disk: a set is drawn once, and every seed, learning rate, head and process reads it.

A set is a folder of plain arrays, memory-mapped, and a `set.json` that says what they are and what they were drawn
from. Frames are standardised float16: at most 0.05 % of a value's distance from the mean away from what was drawn.
Utterance means and soft labels are of the float32 frames, and stay float32.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np
import torch

from ..errors import UserError
from ..files import text_digest
from .generator import BATCH, Generator
from .inference import computes_in_bfloat16
from .samples import Samples, index_labels
from .sampling import Lengths, ResolvedCenter

FORMAT: Final = 2
"""Of stored sets, and of how samples are drawn: sets of another are drawn anew."""

GIGABYTES: Final = 20.0
"""What a store keeps at most, where nobody says otherwise."""

CORPUS_BATCH: Final = 64
"""Samples of corpus lengths that are stretched at once: they are padded to the longest of them."""

ABOUT: Final = "set.json"
"""A set's description; of the time when the set was last asked for."""

FORMER_NAME: Final = "movement"
"""Of SetKey.way, in descriptions: sets that were drawn under it are found again."""

NOT_WHOLE = (OSError, ValueError, TypeError, KeyError, AttributeError)
"""What StoredSet.open raises for what is no whole set of its key."""


class SetKey(NamedTuple):
    """All that decides what is in a stored set."""

    generator: str
    """SHA-256 of the generator file."""

    counts: tuple[int, ...]
    """Samples per class [C]."""

    seed: int
    epoch: int
    lengths: Lengths
    center: ResolvedCenter
    bfloat16: bool
    """Whether it was computed in bfloat16."""

    format: int = FORMAT

    way: int = 0
    """In which of its ways the set's frames deviate, see noise.draw_noise."""

    def to_json(self) -> str:
        """As it stands in a set's description, in which `way` has its FORMER_NAME and way 0 is not told."""
        values = self._asdict()
        way = values.pop("way")
        return json.dumps(values if way == 0 else {**values, FORMER_NAME: way})

    def name(self) -> str:
        """The set's folder."""
        return text_digest([self.to_json()])[:24]


class Array(NamedTuple):
    """What a file of a set holds, values behind one another."""

    dtype: str
    shape: list[int]

    def bytes(self) -> int:
        """Of the file."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


@dataclasses.dataclass(frozen=True, eq=False)
class StoredSet:
    """A set of N samples on disk. F: frames of all samples together. Copies for other processes open it again."""

    folder: Path
    frames: np.ndarray
    """float16 [F, D], standardised."""

    offsets: np.ndarray
    """int64 [N + 1]: sample i is frames offsets[i] to offsets[i + 1]."""

    labels: np.ndarray
    """int64 [N], class indices."""

    means: np.ndarray
    """float32 [N, D], utterance means."""

    scale: np.ndarray
    """float32 [2, D]: mean and spread of real frames."""

    soft_labels: np.ndarray | None = None
    """float32 [N, C]; None where the file carries no teacher."""

    @classmethod
    def open(cls, folder: Path, key: SetKey | None = None) -> "StoredSet":
        """Open a set. Raises one of NOT_WHOLE where it is not a whole one, or not of this key."""
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        if not isinstance(about, dict) or key is not None and about.get("key") != json.loads(key.to_json()):
            raise ValueError(f"{folder}: is of another key")
        arrays = {name: Array(*array) for name, array in about["arrays"].items()}
        for name, array in arrays.items():
            if (folder / name).stat().st_size != array.bytes():
                raise ValueError(f"{folder / name}: has been cut")
        stored = cls(folder, **{name: _map(folder / name, array) for name, array in arrays.items()})
        if not len(stored.offsets) == len(stored.labels) + 1 == len(stored.means) + 1:
            raise ValueError(f"{folder}: its arrays do not belong together")
        if stored.offsets[0] != 0 or stored.offsets[-1] != len(stored.frames):
            raise ValueError(f"{folder}: its offsets are not those of its frames")
        return stored

    def __reduce__(self) -> tuple[Any, ...]:
        return StoredSet.open, (self.folder,)

    def __len__(self) -> int:
        return len(self.labels)

    def sample(self, index: int) -> torch.Tensor:
        """The frames of a sample, float32 [T, D] in the features' units."""
        mean, std = self.scale
        frames = self.frames[self.offsets[index]:self.offsets[index + 1]].astype(np.float32)
        return torch.from_numpy(frames * std + mean)

    def mean(self, index: int) -> torch.Tensor:
        """The utterance mean of a sample as it was drawn, float32 [1, D]"""
        return torch.from_numpy(np.array(self.means[index:index + 1]))

    def soft_label(self, index: int) -> torch.Tensor | None:
        """[C], where the file carries a teacher."""
        return None if self.soft_labels is None else torch.from_numpy(np.array(self.soft_labels[index]))


def _map(path: Path, array: Array) -> np.ndarray:
    return np.memmap(path, array.dtype, mode="r", shape=tuple(array.shape))


class SampleStore:
    """A folder of stored sets, for any number of processes. Of more than `gigabytes`, those longest unused are removed.

    A set that is damaged, cut or of another key is drawn anew. One process draws a set, the others wait for it.
    """

    def __init__(self, folder: str | Path, gigabytes: float = GIGABYTES) -> None:
        self.folder, self.bytes = Path(folder), int(gigabytes * 10**9)

    def get(self, generator: Generator, counts: list[int], seed: int, epoch: int, lengths: Lengths,
            center: ResolvedCenter, way: int = 0) -> StoredSet:
        """The set of Generator.draw_set with these arguments, drawn if it is not there.

        counts: samples per class [C]
        Raises UserError for a generator that was not loaded from a file, and where the disk refuses.
        """
        key = key_of(generator, counts, seed, epoch, lengths, center, way)
        stored = self.find(key)
        if stored is not None:
            return stored
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self.lock(key.name()) as alone:
                return self.find(key) or self._draw(generator, key, alone)
        except OSError as error:
            raise UserError(f"{self.folder}: the drawn set could not be kept ({error}). "
                            "Make room, or draw without a store.") from error

    def find(self, key: SetKey) -> StoredSet | None:
        """The set of this key, marked as used; None where there is no whole one."""
        folder = self.folder / key.name()
        try:
            stored = StoredSet.open(folder, key)
            os.utime(folder / ABOUT)
        except NOT_WHOLE:
            return None
        return stored

    @contextlib.contextmanager
    def lock(self, name: str, wait: bool = True) -> Iterator[bool]:
        """Hold a set's lock; it ends with the process. Yields whether it is held: where the file system has no locks,
        or another process holds it and we do not wait, it is not, and whoever is first to put the set there wins."""
        with open(self.folder / f".lock-{name[:2]}", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except OSError:
                yield False
            else:
                yield True

    def _draw(self, generator: Generator, key: SetKey, alone: bool) -> StoredSet:
        """Draw a set and put it into its place, unless another process was first. alone: nobody else draws it"""
        folder = self.folder / key.name()
        if alone:
            for path in self.folder.glob(f".{key.name()}.*"):  # of a process that was killed
                shutil.rmtree(path, ignore_errors=True)
        unfinished = self.folder / f".{key.name()}.{uuid.uuid4().hex}"
        try:
            unfinished.mkdir()
            write_set(unfinished, generator, key)
            publish(unfinished, folder, key)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        self.trim(keep=folder.name)
        return StoredSet.open(folder, key)

    def trim(self, keep: str) -> None:
        """Remove what killed processes left, then the sets longest unused until the rest fits; never the set `keep`."""
        for path in self.folder.glob(".*.*"):
            with self.lock(path.name.split(".")[1], wait=False) as alone:
                if alone:
                    shutil.rmtree(path, ignore_errors=True)
        sets = [(_used(path), _size(path), path) for path in self.folder.glob("[!.]*") if path.name != keep]
        total = _size(self.folder / keep) + sum(size for _, size, _ in sets)
        for _, size, path in sorted(sets):
            if total <= self.bytes:
                return
            shutil.rmtree(path, ignore_errors=True)
            total -= size


def key_of(generator: Generator, counts: list[int], seed: int, epoch: int, lengths: Lengths, center: ResolvedCenter,
           way: int = 0) -> SetKey:
    """The key of a set. Raises UserError for a generator that was not loaded from a file."""
    if generator.digest is None:
        raise UserError("a store of samples knows a generator by its file, and this one was made in memory. "
                        "Save it and load the file, or draw without a store.")
    half = computes_in_bfloat16(generator.options, generator.device)
    return SetKey(generator.digest, tuple(counts), seed, epoch, lengths, center, half, way=way)


# writing


def write_set(folder: Path, generator: Generator, key: SetKey) -> None:
    """Draw a set into an empty folder, batch by batch; its description comes last."""
    labels = index_labels(key.counts)
    batch = CORPUS_BATCH if key.lengths == "corpus" else BATCH
    spill = folder / "spill"
    scale = torch.stack([generator.mean, generator.std])  # [2, D]
    with contextlib.ExitStack() as stack:
        writers = {name: Writer(stack.enter_context(open(folder / name, "wb"))) for name in _names(generator)}
        writers["offsets"].write(np.zeros(1, np.int64))
        writers["scale"].write(scale.cpu().numpy())
        for part in generator.draw_set(labels, key.seed, key.epoch, key.lengths, batch, key.center, spill,
                                       key.way):
            _write_part(writers, part, scale)
        arrays = {name: writer.close() for name, writer in writers.items()}
    spill.unlink(missing_ok=True)
    text = json.dumps({"key": json.loads(key.to_json()), "arrays": arrays}, indent=2)
    with open(folder / ABOUT, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _names(generator: Generator) -> list[str]:
    """The arrays of a set."""
    names = ["frames", "offsets", "labels", "means", "scale"]
    return names if generator.teacher is None else [*names, "soft_labels"]


def _write_part(writers: dict[str, "Writer"], part: Samples, scale: torch.Tensor) -> None:
    """Append a batch to the arrays. scale: [2, D]"""
    mean, std = scale
    standardised = ((part.features - mean) / std).half().cpu().numpy()  # [B, T, D]
    for frames, length in zip(standardised, part.lengths.tolist(), strict=True):
        writers["frames"].write(frames[:length])
    writers["offsets"].write(writers["offsets"].last + part.lengths.cumsum(0).cpu().numpy())
    writers["labels"].write(part.labels.cpu().numpy())
    writers["means"].write(part.means().cpu().numpy())
    if part.soft_labels is not None:
        writers["soft_labels"].write(part.soft_labels.cpu().numpy())


class Writer:
    """Rows appended to an open file, which close() puts on the disk."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.rows = file, 0
        self.last: Any = 0  # row

    def write(self, rows: np.ndarray) -> None:
        """rows: [n, ...], n from 1 up"""
        self.file.write(np.ascontiguousarray(rows).data)
        self.rows += len(rows)
        self.last = rows[-1]

    def close(self) -> Array:
        """What the file holds."""
        self.file.flush()
        os.fsync(self.file.fileno())
        return Array(self.last.dtype.name, [self.rows, *self.last.shape])


def publish(unfinished: Path, folder: Path, key: SetKey) -> None:
    """Put a set into its place, unless a whole one is there by now; one that is not whole goes."""
    for _ in range(3):
        try:
            unfinished.rename(folder)
            return
        except OSError:  # something is there
            with contextlib.suppress(*NOT_WHOLE):
                StoredSet.open(folder, key)
                return
        shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


def _used(folder: Path) -> float:
    """When a set was last asked for."""
    with contextlib.suppress(OSError):
        return (folder / ABOUT).stat().st_mtime
    return 0.0


def _size(folder: Path) -> int:
    """Bytes of a folder's files, those that are gone meanwhile left away."""
    total = 0
    with contextlib.suppress(OSError):
        total = sum(path.stat().st_size for path in folder.iterdir())
    return total
