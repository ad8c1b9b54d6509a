"""Audio files in, 16 kHz mono out; and what is wrong with a file that cannot be used."""

import contextlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from ..errors import UserError
from ..files import file_digest

SHORTEST = 0.1
"""Seconds; below this upstreams have no frame to give."""

SILENCE = 1e-3
"""Peak amplitude, -60 dB of full scale."""

STREAMED = 0x7FFFF000
"""A WAV written to a pipe carries a data size from here up, which says nothing."""

PART = 1 << 20
"""Samples that audio_info decodes at a time."""

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class AudioInfo:
    """What a file's audio is: rate in Hz, channels, seconds, bytes on disk, peak amplitude (full scale is 1)."""

    rate: int
    channels: int
    seconds: float
    bytes: int
    peak: float

    @property
    def silent(self) -> bool:
        """Whether there is nothing to hear: a peak below SILENCE."""
        return self.peak < SILENCE


class AudioError(UserError):
    """A file that cannot be used. cause: why, in a few words."""

    def __init__(self, path: str | Path, cause: str, remedy: str = "Copy the file again.") -> None:
        super().__init__(f"{path}: cannot be used as audio: {cause}. {remedy}")
        self.cause = cause


def read_audio(path: str | Path) -> tuple[Samples, int]:
    """(samples float32 [N, channels] with full scale 1, rate in Hz) of a whole file, in its own rate.

    A file that is missing, unreadable, truncated, empty (under 0.1 s) or not finite is an AudioError naming the cause.
    """
    with _open_audio(path) as file:
        samples = file.read(dtype="float32", always_2d=True)
        promised, rate = file.frames, file.samplerate
    _check_length(path, len(samples), promised, rate)
    _check_finite(path, samples)
    return samples, rate


@contextlib.contextmanager
def _open_audio(path: str | Path) -> Iterator[soundfile.SoundFile]:
    """An open sound file; what libsndfile says of it becomes an AudioError."""
    path = Path(path)
    if not path.is_file():
        raise AudioError(path, "no such file", "Check the path, or unpack the corpus again.")
    if path.stat().st_size == 0:
        raise AudioError(path, "the file has no bytes")
    try:
        with soundfile.SoundFile(path) as file:
            yield file
    except (soundfile.SoundFileError, RuntimeError, OSError, MemoryError) as error:
        said = str(getattr(error, "error_string", error)).rstrip(".")
        remedy = "Expected WAV, FLAC or another format of libsndfile; convert or copy the file again."
        raise AudioError(path, f"unreadable, {said}", remedy) from None


def _check_length(path: str | Path, samples: int, promised: int, rate: int) -> None:
    """Refuse a file that ends early or is too short. samples: found, of each channel; promised: by the header."""
    if samples < promised or _cut_short(Path(path)):
        raise AudioError(path, f"truncated, its header promises more than the {samples} samples found")
    if samples < SHORTEST * rate:
        raise AudioError(path, f"empty, {samples} samples at {rate} Hz where at least {SHORTEST} s are expected")


def _check_finite(path: str | Path, samples: Samples) -> None:
    if not np.isfinite(samples).all():
        raise AudioError(path, "samples that are not finite numbers", "Convert the file again.")


def audio_length(path: str | Path, rate: int = 16000) -> int:
    """Samples that load_audio will give at `rate` Hz, by the header alone; a file without one is an AudioError."""
    with _open_audio(path) as file:
        return math.ceil(file.frames * rate / file.samplerate)


def load_audio(path: str | Path, rate: int = 16000) -> Samples:
    """float32 samples [N] at `rate` Hz, channels averaged; errors as read_audio."""
    samples, source = read_audio(path)
    return resample(samples.mean(axis=1), source, rate)


def resample(samples: Samples, source: int, rate: int) -> Samples:
    """float32 [N] at `source` Hz -> float32 [ceil(N * rate / source)] at `rate` Hz."""
    if source == rate:
        return samples
    from scipy.signal import resample_poly

    divisor = math.gcd(source, rate)
    resampled = resample_poly(samples, rate // divisor, source // divisor)
    return np.asarray(resampled, dtype=np.float32)


def audio_info(path: str | Path) -> AudioInfo:
    """AudioInfo of a file after decoding all of it, a part after the other; errors as read_audio."""
    peak, samples = 0.0, 0
    with _open_audio(path) as file:
        while len(part := file.read(PART, dtype="float32", always_2d=True)):
            samples += len(part)
            peak = float(np.maximum(peak, np.abs(part).max()))  # keeps what is no number
        promised, rate, channels = file.frames, file.samplerate, file.channels
    _check_length(path, samples, promised, rate)
    _check_finite(path, np.array([peak], dtype=np.float32))
    return AudioInfo(rate, channels, samples / rate, Path(path).stat().st_size, peak)


def duplicates(paths: Iterable[Path]) -> list[list[Path]]:
    """Groups of byte-identical files among `paths`, in their order."""
    by_size: dict[int, list[Path]] = {}
    for path in paths:
        by_size.setdefault(path.stat().st_size, []).append(path)
    by_digest: dict[str, list[Path]] = {}
    for same_size in by_size.values():
        if len(same_size) < 2:
            continue  # no need to read a file whose size is its own
        for path in same_size:
            by_digest.setdefault(file_digest(path), []).append(path)
    return [group for group in by_digest.values() if len(group) > 1]


def _cut_short(path: Path) -> bool:
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
