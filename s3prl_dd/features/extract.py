"""Extraction: every utterance of a corpus once through a frozen upstream, into a feature store.

Threads decode audio ahead of the network; only the waves of the batches in flight are in memory. Utterances go by
length, and those of one length share a batch: nothing is padded, so that features are those of each utterance alone.
"""

import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from tqdm import tqdm

from ..corpora.ahead import ahead
from ..corpora.audio import RATE, Samples, audio_length, load_audio
from ..corpora.metadata import Utterance
from ..devices import side_by_side
from ..errors import UserError
from ..generator.header import Provenance
from .store import Dtype, FeatureStore, StoreWriter

WORKERS = 2
"""Threads that decode: a core decodes some hundred times faster than it computes HuBERT's features."""

AHEAD = 60.0
"""Seconds of audio that wait for the network at most; a longer batch waits by itself."""


class Encoder(Protocol):
    """What makes features of audio: a frozen upstream of S3PRL (plugin.encoder), or a test's own."""

    @property
    def provenance(self) -> Provenance:
        """How the features are made."""

    @property
    def dim(self) -> int:
        """D, numbers a frame."""

    @property
    def thread_safe(self) -> bool:
        """Whether several threads may call `encode` at once."""

    def encode(self, wavs: list[Samples]) -> list[torch.Tensor]:
        """Features [T, D] of each wave, float32 [N] at 16 kHz, in their order."""


class Sized(NamedTuple):
    """An utterance and how many samples at 16 kHz its file, or its part of the file, promises."""

    utterance: Utterance
    samples: int


class Loaded(NamedTuple):
    """An utterance and its wave, float32 [N] at 16 kHz."""

    utterance: Utterance
    wave: Samples


class Batching(NamedTuple):
    """Which utterances share a call of the upstream."""

    seconds: float = 40.0
    """Audio of a batch at most, padding counted; a longer utterance is a batch by itself. 0: one at a time."""

    padding: float = 0.0
    """In [0, 1): how much shorter than the longest of its batch an utterance may be, as a share of it.

    0 takes equal lengths alone, and features equal those of one at a time up to the rounding of sums. More is faster on
    a GPU and changes features: HuBERT's first layer normalises over time, padding included.
    """

    def takes(self, batch: list[Loaded], wave: Samples) -> bool:
        """Whether a wave may join a batch of waves none of which is longer."""
        if not batch:
            return True
        lengths = [len(loaded.wave) for loaded in batch] + [len(wave)]
        longest = max(lengths)
        fits = longest * len(lengths) <= self.seconds * RATE
        return fits and min(lengths) >= (1 - self.padding) * longest


def extract(
    encoder: Encoder,
    root: str | Path,
    utterances: Iterable[Utterance],
    folder: str | Path,
    dtype: Dtype = "float16",
    batch_seconds: float = Batching().seconds,
    padding: float = Batching().padding,
    mixed_precision: bool = False,
    workers: int = WORKERS,
    known: Callable[[Utterance], torch.Tensor | None] | None = None,
) -> FeatureStore:
    """Write the store `folder` with encoder.encode of all `utterances`; resumes, shows progress, returns the store.

    root: the corpus root that the utterances' paths are relative to
    batch_seconds, padding: see Batching
    mixed_precision: half-precision products on a GPU (torch.autocast): other roundings, about those of a float16 store
    workers: threads that decode ahead
    known: gives the features [T, D] of an utterance that need not be heard, else None
    A missing file, one without a header, a full disk and no GPU for mixed precision are UserErrors before the first
    call. A file that does not decode is an AudioError that names it; what was extracted before it stays.
    """
    if mixed_precision and not torch.cuda.is_available():
        raise UserError("mixed precision: torch finds no GPU here, and it is for one. Leave it off.")
    by_id = {utterance.id: utterance for utterance in utterances}
    ordered = [by_id[name] for name in sorted(by_id)]
    sized = _measure(Path(root), ordered, workers)
    Path(folder).mkdir(parents=True, exist_ok=True)
    with StoreWriter(folder, encoder.provenance, dtype) as writer:
        todo = [item for item in sized if item.utterance.id not in writer.done]
        todo.sort(key=lambda item: item.samples)
        _check_disk(Path(folder), todo, encoder.provenance, dtype)
        if known is not None:
            todo = [item for item in todo if not _take(known, item.utterance, writer)]
        batches = _batches(_load(Path(root), todo, workers, batch_seconds), Batching(batch_seconds, padding))
        progress = tqdm(total=len(ordered), initial=len(ordered) - len(todo), desc="features", unit="utt")
        autocast = torch.autocast("cuda", torch.float16, enabled=mixed_precision)
        with progress, autocast:
            _encode(encoder, batches, writer, progress)
    return FeatureStore(folder)


def _take(known: Callable[[Utterance], torch.Tensor | None], utterance: Utterance, writer: StoreWriter) -> bool:
    """Whether its features are known; then they are in the store."""
    frames = known(utterance)
    if frames is not None:
        writer.add(utterance, frames)
    return frames is not None


def _encode(encoder: Encoder, batches: Iterator[list[Loaded]], writer: StoreWriter, progress: "tqdm[Any]") -> None:
    """Each batch through the upstream and into the store."""
    started, samples = time.monotonic(), 0
    for batch, encoded in _encoded(encoder, batches):
        for loaded, frames in zip(batch, encoded, strict=True):
            writer.add(loaded.utterance, frames)
        samples += sum(len(loaded.wave) for loaded in batch)
        speed = samples / RATE / max(time.monotonic() - started, 1e-6)
        progress.set_postfix_str(f"{speed:.1f} s of audio a second", refresh=False)
        progress.update(len(batch))


def _encoded(encoder: Encoder, batches: Iterator[list[Loaded]]) -> Iterator[tuple[list[Loaded], list[torch.Tensor]]]:
    """Each batch with its features; a batch on each core side by side, where the encoder lets us."""

    def encode(batch: list[Loaded]) -> tuple[list[Loaded], list[torch.Tensor]]:
        with torch.inference_mode():  # of each thread
            return batch, encoder.encode([loaded.wave for loaded in batch])

    if not encoder.thread_safe:
        yield from map(encode, batches)
        return
    with side_by_side() as threads:
        yield from ahead(encode, batches, threads, limit=threads)


def _measure(root: Path, utterances: list[Utterance], workers: int) -> list[Sized]:
    """The utterances with the lengths that their files promise, in their order."""
    for utterance in utterances:
        path = root / utterance.path
        if not path.is_file():
            raise UserError(f"{path}: no such audio file, but the metadata lists it. Run `s3prl-dd prepare` again.")
    lengths = ahead(
        lambda item: audio_length(root / item.path, RATE, item.start, item.end), utterances, workers, limit=1000)
    return [Sized(utterance, samples) for utterance, samples in zip(utterances, lengths, strict=True)]


def _check_disk(folder: Path, todo: list[Sized], provenance: Provenance, dtype: Dtype) -> None:
    """Refuse to begin what the disk cannot hold."""
    frames = sum(item.samples for item in todo) // provenance.rate
    needed = frames * provenance.dim * np.dtype(dtype).itemsize
    if shutil.disk_usage(folder).free < needed:
        raise UserError(f"{folder}: less than {needed} bytes free on this disk. Make room or choose another folder.")


def _load(root: Path, todo: list[Sized], workers: int, batch_seconds: float) -> Iterator[Loaded]:
    """The utterances with their waves, in their order, decoded ahead."""
    waves = ahead(
        lambda item: load_audio(root / item.utterance.path, RATE, item.utterance.start, item.utterance.end),
        todo,
        workers,
        limit=max(AHEAD, batch_seconds) * RATE,
        cost=lambda item: item.samples,
    )
    for item, wave in zip(todo, waves, strict=True):
        yield Loaded(item.utterance, wave)


def _batches(utterances: Iterator[Loaded], batching: Batching) -> Iterator[list[Loaded]]:
    """Consecutive utterances that may share a batch."""
    batch: list[Loaded] = []
    for loaded in utterances:
        if not batching.takes(batch, loaded.wave):
            yield batch
            batch = []
        batch.append(loaded)
    if batch:
        yield batch
