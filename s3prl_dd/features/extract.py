"""Extraction: every utterance of a corpus once through a frozen upstream, into a feature store."""

import shutil
from pathlib import Path

import torch
from tqdm import tqdm

from ..corpora.audio import load_audio
from ..errors import UserError
from .store import FeatureStore, StoreWriter


def extract(encoder, root, utterances, folder, dtype="float16", batch_seconds=40.0):
    """Write the store `folder` with encoder.encode of all `utterances`; resumes, shows progress, returns the store.

    encoder: has .provenance, .dim and .encode(list of 1-D float32 waves at 16 kHz) -> list of [T, D]
    root: the corpus root that the utterances' paths are relative to
    batch_seconds: audio per call, utterances sorted by length; 0 encodes one at a time
    """
    utterances = sorted({utterance.path: utterance for utterance in utterances}.values(), key=lambda item: item.path)
    sizes = {}
    for utterance in utterances:
        path = Path(root) / utterance.path
        if not path.is_file():
            raise UserError(f"{path}: no such audio file, but the metadata lists it. Run `s3prl-dd prepare` again.")
        sizes[utterance.path] = path.stat().st_size
    needed = sum(sizes.values())
    Path(folder).mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(folder).free < needed // 10:
        raise UserError(f"{folder}: less than {needed // 10} bytes free on this disk. Make room or choose another folder.")
    with StoreWriter(folder, encoder.provenance, dtype) as writer:
        todo = sorted((item for item in utterances if item.path not in writer.done), key=lambda item: sizes[item.path])
        with tqdm(total=len(utterances), initial=len(utterances) - len(todo), desc="features", unit="utt") as progress:
            for batch in _batches(todo, root, batch_seconds):
                with torch.inference_mode():
                    encoded = encoder.encode([wave for _, wave in batch])
                for (utterance, _), frames in zip(batch, encoded, strict=True):
                    writer.add(utterance, frames)
                progress.update(len(batch))
    return FeatureStore(folder)


def _batches(utterances, root, seconds):
    batch, longest = [], 0
    for utterance in utterances:
        wave = load_audio(Path(root) / utterance.path)
        if batch and max(longest, len(wave)) * (len(batch) + 1) > seconds * 16000:
            yield batch
            batch, longest = [], 0
        batch.append((utterance, wave))
        longest = max(longest, len(wave))
    if batch:
        yield batch
