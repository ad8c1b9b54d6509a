"""What stands for audio where a batch carries generated features: nothing that audio could be.

S3PRL's Runner sends every batch through wavs > upstream > Featurizer. Under our launcher the wavs of generated features
are of NaN, which no audio file gives (corpora.audio.load_audio refuses it), and FrozenUpstream does not run on them.
Under S3PRL's own Runner, in a linked clone, they are silence and pass the upstream like any other.
"""

import numpy as np
import torch

SAMPLES = 1600
"""Samples of a placeholder, 0.1 s: a few frames, for Featurizer still weighs and sums them."""

PROBE_SAMPLES = 16000
"""Samples of silence: S3PRL's Featurizer tries every upstream on as many, so every upstream takes them."""


def make_placeholder() -> np.ndarray:
    """A wav, float32 [SAMPLES], that only is_placeholder may see."""
    return np.full(SAMPLES, np.nan, dtype=np.float32)


def is_placeholder(wav: torch.Tensor) -> bool:
    """Whether a wav [N] came from make_placeholder."""
    return len(wav) == SAMPLES and bool(wav.isnan().all())


def make_silence() -> np.ndarray:
    """A wav, float32 [PROBE_SAMPLES], that every upstream takes."""
    return np.zeros(PROBE_SAMPLES, dtype=np.float32)
