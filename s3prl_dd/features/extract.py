"""Extraction: every utterance of a corpus once through a frozen upstream, into a feature store."""

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

import torch
from tqdm import tqdm

from ..corpora.audio import Samples, load_audio
from ..corpora.metadata import Utterance
from ..errors import UserError
from ..generator.header import Provenance
from .store import Dtype, FeatureStore, StoreWriter

RATE = 16000
"""Hz, of the audio that upstreams take."""

Batch = list[tuple[Utterance, Samples]]


class Encoder(Protocol):
    """What makes features of audio: a frozen upstream of S3PRL (plugin.encoder), or a test's own."""

    @property
    def provenance(self) -> Provenance:
        """How the features are made."""

    @property
    def dim(self) -> int:
        """D, numbers a frame."""

    def encode(self, wavs: list[Samples]) -> list[torch.Tensor]:
        """Features [T, D] of each wave, float32 [N] at 16 kHz, in their order."""


def extract(
    encoder: Encoder,
    root: str | Path,
    utterances: Iterable[Utterance],
    folder: str | Path,
    dtype: Dtype = "float16",
    batch_seconds: float = 40.0,
) -> FeatureStore:
    """Write the store `folder` with encoder.encode of all `utterances`; resumes, shows progress, returns the store.

    root: the corpus root that the utterances' paths are relative to
    batch_seconds: audio per call, padding counted, utterances sorted by length; 0 encodes one at a time
    A missing file and a full disk are UserErrors before the first call.
    """
    by_path = {utterance.path: utterance for utterance in utterances}
    ordered = [by_path[path] for path in sorted(by_path)]
    sizes = _sizes(Path(root), ordered)
    Path(folder).mkdir(parents=True, exist_ok=True)
    needed = sum(sizes.values()) // 10  # a guess from below
    if shutil.disk_usage(folder).free < needed:
        raise UserError(f"{folder}: less than {needed} bytes free on this disk. Make room or choose another folder.")
    with StoreWriter(folder, encoder.provenance, dtype) as writer:
        todo = [utterance for utterance in ordered if utterance.path not in writer.done]
        todo.sort(key=lambda utterance: sizes[utterance.path])
        with tqdm(total=len(ordered), initial=len(ordered) - len(todo), desc="features", unit="utt") as progress:
            for batch in _batches(todo, Path(root), batch_seconds):
                with torch.inference_mode():
                    encoded = encoder.encode([wave for _, wave in batch])
                for (utterance, _), frames in zip(batch, encoded, strict=True):
                    writer.add(utterance, frames)
                progress.update(len(batch))
    return FeatureStore(folder)


def _sizes(root: Path, utterances: list[Utterance]) -> dict[str, int]:
    """Path -> bytes of its audio file."""
    sizes = {}
    for utterance in utterances:
        path = root / utterance.path
        if not path.is_file():
            raise UserError(f"{path}: no such audio file, but the metadata lists it. Run `s3prl-dd prepare` again.")
        sizes[utterance.path] = path.stat().st_size
    return sizes


def _batches(utterances: list[Utterance], root: Path, seconds: float) -> Iterator[Batch]:
    """Consecutive utterances with their waves; a batch padded to its longest is at most `seconds` long, or one wave."""
    batch: Batch = []
    longest = 0
    for utterance in utterances:
        wave = load_audio(root / utterance.path, RATE)
        padded = max(longest, len(wave)) * (len(batch) + 1)
        if batch and padded > seconds * RATE:
            yield batch
            batch, longest = [], 0
        batch.append((utterance, wave))
        longest = max(longest, len(wave))
    if batch:
        yield batch
