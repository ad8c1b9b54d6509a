"""Wavs that are no audio: what stands for generated features, and tickets that name a recording.

S3PRL's Runner sends every batch through wavs > upstream > Featurizer. Under our launcher a data set may give a mark
instead of a wav: two numbers, the first of which is NaN, as no audio file has them (corpora.audio.load_audio refuses
such samples, and so few of them). FrozenUpstream reads marks: it runs on nothing for a placeholder, and looks up or
computes the states of the recording that a ticket names. Under S3PRL's own Runner, in a linked clone, generated
features come with silence, which passes the upstream like any other wav.
"""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..corpora.audio import RATE, Samples, audio_length, load_audio
from ..corpora.metadata import Utterance
from ..errors import UserError

GENERATED = -1
"""What a placeholder says in the place of a recording's number."""

MOST = 1 << 24
"""Recordings of a run at most: float32 counts so far without a gap."""

PROBE_SAMPLES = RATE
"""Samples of silence: S3PRL's Featurizer tries every upstream on as many, so every upstream takes them."""


class Recording(NamedTuple):
    """An audio file, or the part of it from `start` to `end` seconds (None: the file's own)."""

    path: str
    start: float | None = None
    end: float | None = None

    @classmethod
    def of(cls, root: str | Path, item: Mapping[str, Any]) -> "Recording":
        """What an utterance of a metadata file means. item: path, relative to `root`, and start and end if any."""
        return cls(os.path.abspath(Path(root) / item["path"]), item.get("start"), item.get("end"))

    @property
    def part(self) -> dict[str, float]:
        """start and end, where they are given."""
        bounds = {"start": self.start, "end": self.end}
        return {name: second for name, second in bounds.items() if second is not None}

    def load(self) -> Samples:
        """float32 [N] at 16 kHz; AudioError for a file that cannot be used."""
        return load_audio(self.path, **self.part)  # type: ignore[arg-type]

    def length(self) -> int:
        """Samples that load will give, by the header."""
        return audio_length(self.path, **self.part)  # type: ignore[arg-type]


def recordings_of(root: str | Path, utterances: Iterable[Utterance]) -> list[Recording]:
    """The recording of each utterance. root: of the corpus"""
    return [Recording.of(root, asdict(utterance)) for utterance in utterances]


class Recordings:
    """The recordings of a run by number, in the order in which their lists are opened."""

    def __init__(self) -> None:
        self.all: list[Recording] = []
        self._numbers: dict[Recording, int] = {}

    def add(self, recording: Recording) -> int:
        """The number of a recording, the same at each call. It is not read."""
        if recording not in self._numbers:
            if len(self.all) == MOST:
                raise UserError(f"{recording.path}: more than {MOST} recordings in one run. Run with "
                                "--no_feature_cache.")
            self._numbers[recording] = len(self.all)
            self.all.append(recording)
        return self._numbers[recording]


def make_placeholder() -> np.ndarray:
    """A mark, float32 [2], of generated features."""
    return _mark(GENERATED)


def make_ticket(number: int) -> np.ndarray:
    """A mark, float32 [2], of the recording of this number."""
    return _mark(number)


def read_marks(wavs: Sequence[torch.Tensor]) -> list[int] | None:
    """What the marks of a batch say, all recordings' numbers or all GENERATED; None for a batch of audio [N] each."""
    short = [wav for wav in wavs if wav.shape == (2,)]
    if not short:
        return None
    pairs = torch.stack(short).tolist()  # of a GPU, one transfer
    marks = [int(number) for first, number in pairs if math.isnan(first)]
    if not marks:
        return None
    if len(marks) < len(wavs) or GENERATED in marks and set(marks) != {GENERATED}:
        raise ValueError("a batch of several kinds: expected audio alone, generated features alone or tickets alone")
    return marks


def make_silence() -> np.ndarray:
    """A wav, float32 [PROBE_SAMPLES], that every upstream takes."""
    return np.zeros(PROBE_SAMPLES, dtype=np.float32)


def _mark(number: int) -> np.ndarray:
    return np.array([np.nan, number], dtype=np.float32)
