"""Wavs that are no audio: what stands for generated features, and tickets that name a recording.

S3PRL's Runner sends every batch through wavs > upstream > Featurizer. Under our launcher a data set may give a mark
instead of a wav: two numbers, the first of which is NaN, as no audio file has them (corpora.audio.load_audio refuses
such samples, and so few of them). FrozenUpstream reads marks: it runs on nothing for a placeholder, and looks up or
computes the states of the recording that a ticket names. Under S3PRL's own Runner, in a linked clone, generated
features come with silence, which passes the upstream like any other wav.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ..errors import UserError

GENERATED = -1
"""What a placeholder says in the place of a recording's number."""

MOST = 1 << 24
"""Recordings of a run at most: float32 counts so far without a gap."""

PROBE_SAMPLES = 16000
"""Samples of silence: S3PRL's Featurizer tries every upstream on as many, so every upstream takes them."""


class Recordings:
    """The audio files of a run by number, in the order in which their lists are opened."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self._numbers: dict[str, int] = {}

    def add(self, path: str | Path) -> int:
        """The number of a file, the same at each call. It is not read."""
        path = os.path.abspath(path)
        if path not in self._numbers:
            if len(self.paths) == MOST:
                raise UserError(f"{path}: more than {MOST} recordings in one run. Run with --no_feature_cache.")
            self._numbers[path] = len(self.paths)
            self.paths.append(path)
        return self._numbers[path]


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
    firsts, numbers = torch.stack(short).unbind(dim=1)
    if not firsts.isnan().any():
        return None
    marks = [int(number) for number in numbers.tolist()]
    if len(short) < len(wavs) or not firsts.isnan().all() or GENERATED in marks and set(marks) != {GENERATED}:
        raise ValueError("a batch of several kinds: expected audio alone, generated features alone or tickets alone")
    return marks


def make_silence() -> np.ndarray:
    """A wav, float32 [PROBE_SAMPLES], that every upstream takes."""
    return np.zeros(PROBE_SAMPLES, dtype=np.float32)


def _mark(number: int) -> np.ndarray:
    return np.array([np.nan, number], dtype=np.float32)
