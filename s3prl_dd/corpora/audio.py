"""Audio files in, 16 kHz mono out; and what is wrong with a file that cannot be used."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from ..errors import UserError
from ..files import file_digest

SHORTEST = 0.1  # seconds; below this upstreams have no frame to give
SILENCE = 1e-3  # peak amplitude, -60 dB of full scale
STREAMED = 0x7FFFF000  # a WAV written to a pipe carries a data size from here up, which says nothing


@dataclass(frozen=True)
class AudioInfo:
    """What a file's audio is: rate in Hz, channels, seconds, bytes on disk, peak amplitude (full scale is 1)."""

    rate: int
    channels: int
    seconds: float
    bytes: int
    peak: float

    @property
    def silent(self):
        return self.peak < SILENCE


class AudioError(UserError):
    """A file that cannot be used. cause: why, in a few words."""

    def __init__(self, path, cause, remedy="Copy the file again."):
        super().__init__(f"{path}: cannot be used as audio: {cause}. {remedy}")
        self.cause = cause


def read_audio(path):
    """(samples float32 [N, channels], rate in Hz) of a whole file, in its own rate.

    A file that is missing, unreadable, truncated, empty (under 0.1 s) or not finite is an AudioError naming the cause.
    """
    path = Path(path)
    if not path.is_file():
        raise AudioError(path, "no such file", "Check the path, or unpack the corpus again.")
    if path.stat().st_size == 0:
        raise AudioError(path, "the file has no bytes")
    try:
        with soundfile.SoundFile(path) as file:
            promised, rate = file.frames, file.samplerate
            samples = file.read(dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError, OSError, MemoryError) as error:
        raise AudioError(path, f"unreadable, {getattr(error, 'error_string', error)}".rstrip("."),
                         "Expected WAV, FLAC or another format of libsndfile; convert or copy the file again.") from None
    if len(samples) < promised or _cut_short(path):
        raise AudioError(path, f"truncated, its header promises more than the {len(samples)} samples found")
    if len(samples) < SHORTEST * rate:
        raise AudioError(path, f"empty, {len(samples)} samples at {rate} Hz where at least {SHORTEST} s are expected")
    if not np.isfinite(samples).all():
        raise AudioError(path, "samples that are not finite numbers", "Convert the file again.")
    return samples, rate


def load_audio(path, rate=16000):
    """float32 samples [N] at `rate` Hz, channels averaged; errors as read_audio."""
    samples, source = read_audio(path)
    return resample(samples.mean(axis=1), source, rate)


def resample(samples, source, rate):
    """float32 [N] at `source` Hz -> float32 [ceil(N * rate / source)] at `rate` Hz."""
    if source == rate:
        return samples
    from scipy.signal import resample_poly

    divisor = math.gcd(source, rate)
    return resample_poly(samples, rate // divisor, source // divisor).astype(np.float32)


def audio_info(path):
    """AudioInfo of a file after decoding all of it; errors as read_audio."""
    samples, rate = read_audio(path)
    return AudioInfo(rate, samples.shape[1], len(samples) / rate, Path(path).stat().st_size, float(np.abs(samples).max()))


def duplicates(paths):
    """Groups (lists) of byte-identical files among `paths`, in their order."""
    groups = {}
    for path in paths:
        groups.setdefault(Path(path).stat().st_size, []).append(path)
    by_digest = {}
    for same_size in groups.values():
        for path in same_size if len(same_size) > 1 else ():
            by_digest.setdefault(file_digest(path), []).append(path)
    return [group for group in by_digest.values() if len(group) > 1]


def _cut_short(path):
    """Whether a RIFF WAV's data chunk is longer than the file: libsndfile reads what is left and says nothing."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return False
        while len(head := file.read(8)) == 8:
            length = int.from_bytes(head[4:], "little")
            if head[:4] == b"data":
                return length < STREAMED and file.tell() + length > size
            file.seek(length + length % 2, 1)
    return False
