"""Feature store: one reduced [T, D] per utterance, memory-mapped, with where it came from.

    <store>/header.json       provenance, dim, rate, dtype, complete
    <store>/index.jsonl       one line an utterance: id (path), label, speaker, frames
    <store>/features.bin      all frames, [sum of T, D], half precision by default
"""

import json
from pathlib import Path

import numpy as np
import torch

from ..errors import UserError
from ..files import read_json, write_json


class FeatureStore:
    """A finished store, read only. `store[i]` is utterance i's frames, float32 [T, D]."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.header = read_json(self.folder / "header.json", "feature store")
        if not self.header.get("complete"):
            raise UserError(f"{folder}: extraction did not finish. Run `s3prl-dd extract` again, it goes on where it stopped.")
        self.entries = _read_index(self.folder / "index.jsonl")
        self.offsets = np.concatenate([[0], np.cumsum([entry["frames"] for entry in self.entries])])
        data = self.folder / "features.bin"
        size = data.stat().st_size if data.is_file() else 0
        expected = int(self.offsets[-1]) * self.dim * np.dtype(self.header["dtype"]).itemsize
        if size != expected:
            raise UserError(f"{folder}/features.bin: {size} bytes, expected {expected}. Delete the folder and extract again.")
        self.frames = np.memmap(data, self.header["dtype"], "r", shape=(int(self.offsets[-1]), self.dim))
        self.positions = {entry["id"]: position for position, entry in enumerate(self.entries)}

    @property
    def dim(self):
        return self.header["features"]["dim"]

    def __len__(self):
        return len(self.entries)

    def __getitem__(self, index):
        return torch.from_numpy(self.frames[self.offsets[index]:self.offsets[index + 1]].astype(np.float32))

    @property
    def lengths(self):
        """Frames of each utterance, int array [N]."""
        return np.diff(self.offsets)

    def select(self, metadata):
        """Positions of a Metadata's utterances, in its order."""
        try:
            return [self.positions[utterance.path] for utterance in metadata.utterances]
        except KeyError as error:
            raise UserError(f"{self.folder}: no features of {error}. Extract with the same metadata.") from None

    def means(self, positions):
        """Utterance means of these positions, float32 [N, D]."""
        return torch.stack([self[position].mean(dim=0) for position in positions])


def _read_index(path):
    if not path.is_file():
        return []
    *whole, _ = path.read_text(encoding="utf-8").split("\n")  # what a kill cut off has no newline
    try:
        return [json.loads(line) for line in whole]
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: a line is not JSON ({error}). Delete the folder and extract again.") from None


class StoreWriter:
    """Appends utterances to a store; after a kill it goes on behind the last whole one.

        with StoreWriter(folder, features) as writer:
            for utterance in todo:
                if utterance.path not in writer.done: writer.add(utterance, frames)
    """

    def __init__(self, folder, features, dtype="float16"):
        """features: provenance, as in the generator file's header; a store made otherwise is refused."""
        self.folder, self.dtype = Path(folder), np.dtype(dtype)
        self.header = {"features": features, "dtype": dtype, "complete": False}
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "header.json"
        if path.is_file():
            found = read_json(path, "feature store")
            if found["features"] != features or found["dtype"] != dtype:
                raise UserError(f"{folder}: holds features made otherwise ({_difference(found['features'], features)}). "
                                "Choose another folder, or delete this one.")
        entries = _read_index(self.folder / "index.jsonl")
        row = features["dim"] * self.dtype.itemsize
        data = self.folder / "features.bin"
        whole = data.stat().st_size // row if data.is_file() else 0
        kept, frames = [], 0
        for entry in entries:
            if frames + entry["frames"] > whole:
                break
            kept.append(entry)
            frames += entry["frames"]
        self.done = {entry["id"] for entry in kept}
        self.index, self.data = open(self.folder / "index.jsonl", "a+"), open(data, "ab")
        self.data.truncate(frames * row)
        self.index.truncate(sum(len(json.dumps(entry)) + 1 for entry in kept))
        write_json(path, self.header)

    def add(self, utterance, frames):
        """utterance: corpora.metadata.Utterance; frames: [T, D]"""
        frames = frames.detach().cpu().numpy()
        if frames.ndim != 2 or frames.shape[1] != self.header["features"]["dim"]:
            raise UserError(f"{utterance.path}: features {list(frames.shape)}, expected [T, {self.header['features']['dim']}].")
        if not len(frames) or not np.isfinite(frames).all() or abs(frames).max() > np.finfo(self.dtype).max:
            raise UserError(f"{utterance.path}: features are empty, not finite or too large for {self.dtype}.")
        self.data.write(frames.astype(self.dtype).tobytes())
        self.data.flush()
        entry = {"id": utterance.path, "label": utterance.label, "speaker": utterance.speaker, "frames": len(frames)}
        self.index.write(json.dumps(entry) + "\n")
        self.index.flush()
        self.done.add(utterance.path)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.index.close()
        self.data.close()
        if kind is None:
            write_json(self.folder / "header.json", {**self.header, "complete": True})


def _difference(found, wanted):
    return ", ".join(f"{key} {found.get(key)!r} not {wanted.get(key)!r}" for key in sorted({*found, *wanted})
                     if found.get(key) != wanted.get(key)) or "another dtype"
