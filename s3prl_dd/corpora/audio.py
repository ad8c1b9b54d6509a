"""Audio files in, 16 kHz mono out; and what is wrong with a file that cannot be used."""

import contextlib
import io
import math
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray

from ..errors import UserError
from .text import shown

RATE = 16000
"""Samples a second of all that is heard here, as S3PRL has it."""

SHORTEST = 0.1
"""Seconds; below this upstreams have no frame to give."""

SILENCE = 1e-3
"""Peak amplitude, -60 dB of full scale."""

STREAMED = 0x7FFFF000
"""A WAV written to a pipe carries a data size from here up, which says nothing."""

UNKNOWN = 1 << 62
"""libsndfile's number of samples, from here up, of a stream that does not tell it."""

SLACK = 0.1
"""Seconds by which a table's segment may end after its file."""

POINTER = b"version https://git-lfs"
"""What Git LFS leaves in a clone in place of a file."""

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
    """A file that cannot be used. cause: why, in a few words; remedy: what to do, a sentence."""

    def __init__(self, path: str | Path, cause: str, remedy: str = "Copy the file again.") -> None:
        super().__init__(f"{shown(path)}: cannot be used as audio: {cause}. {remedy}")
        self.cause, self.remedy = cause, remedy


class Forward(soundfile.SoundFile):
    """A sound file whose header only guesses its length: it is read to its end, in one direction."""

    def seekable(self) -> bool:
        """Never: soundfile would seek by the guess."""
        return False


def read_audio(path: str | Path, start: float | None = None, end: float | None = None) -> tuple[Samples, int]:
    """(samples float32 [N, channels] with full scale 1, rate in Hz) of a file, in its own rate.

    start, end: in seconds, where only a part is wanted; None is the file's own start and end
    A file that is missing, unreadable, truncated, empty (under 0.1 s) or not finite is an AudioError naming the cause.
    """
    with _open_audio(path) as file:
        excerpt = Excerpt(path, file, start, end)
        if isinstance(file, Forward):
            samples = np.concatenate([np.zeros((0, file.channels), dtype=np.float32), *excerpt.blocks()])
        else:
            samples = excerpt.whole()
        excerpt.check(len(samples))
    _check_finite(path, samples)
    return samples, excerpt.rate


class Excerpt:
    """The samples of an open file from `start` to `end` seconds, or all of it."""

    def __init__(self, path: str | Path, file: soundfile.SoundFile, start: float | None, end: float | None) -> None:
        self.path, self.file, self.rate = path, file, file.samplerate
        self.first = round((start or 0.0) * self.rate)
        self.last = None if end is None else round(end * self.rate)
        self.name = "" if start is None and end is None else f"the segment from {start or 0:g} s"
        if end is not None:
            self.name += f" to {end:g} s"

    @property
    def promised(self) -> int | None:
        """Samples by the header, of each channel; None where it only guesses."""
        if isinstance(self.file, Forward):
            return None
        there = max(self.file.frames - self.first, 0)
        return there if self.last is None else min(there, self.last - self.first)

    def whole(self) -> Samples:
        """float32 [N, channels], at once."""
        promised = self.promised
        assert promised is not None
        if self.first:
            self.file.seek(min(self.first, self.file.frames))
        return self.file.read(promised, dtype="float32", always_2d=True)

    def blocks(self) -> Iterator[Samples]:
        """float32 [<= PART, channels] one after the other."""
        to_skip, to_read = self.first, self.promised
        if to_read is None and self.last is not None:
            to_read = self.last - self.first
        if not isinstance(self.file, Forward):
            self.file.seek(min(to_skip, self.file.frames))
            to_skip = 0
        while to_read is None or to_read > 0:
            block = self.file.read(PART if to_read is None else min(PART, to_read + to_skip),
                                   dtype="float32", always_2d=True)
            if not len(block):
                return
            block, to_skip = block[to_skip:], max(to_skip - len(block), 0)
            if to_read is not None:
                to_read -= len(block)
            yield block

    def check(self, samples: int) -> None:
        """Refuse a file that ends early or a part that is too short. samples: found, of each channel."""
        promised = samples if self.promised is None else self.promised
        if samples < promised or (self.last is None and _cut_short(Path(self.path))):
            raise AudioError(self.path, f"truncated, its header promises more than the {samples} samples found")
        if self.last is not None and samples < self.last - self.first - SLACK * self.rate:
            ends = (self.first + samples) / self.rate
            told = f"the file ends at {ends:.2f} s" if samples else "the file ends before"
            raise AudioError(self.path, f"{self.name}: {told}", "Correct the table's start and end.")
        if samples < SHORTEST * self.rate:
            what = f"{self.name}: {samples} samples" if self.name else f"empty, {samples} samples"
            raise AudioError(self.path, f"{what} at {self.rate} Hz where at least {SHORTEST} s are expected")


@contextlib.contextmanager
def _open_audio(path: str | Path) -> Iterator[soundfile.SoundFile]:
    """An open sound file, Forward where its header only guesses; what is refused is an AudioError."""
    path = Path(path)
    try:
        if not path.is_file():
            raise AudioError(path, "no such file", "Check the path, or unpack the corpus again.")
        if path.stat().st_size == 0:
            raise AudioError(path, "the file has no bytes")
        with soundfile.SoundFile(os.fsencode(path)) as file:
            if not _guesses(file, path):
                yield file
                return
            kind, tells_length = file.format, file.frames < UNKNOWN
        with _open_forward(path, kind, tells_length) as file:
            yield file
    except AudioError:
        raise
    except (soundfile.SoundFileError, RuntimeError, OSError, MemoryError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> AudioError:
    """What is wrong with a file that does not open or read; the system's own word goes before libsndfile's."""
    try:
        if not isinstance(error, OSError) and is_pointer(path):
            return AudioError(path, "a Git LFS pointer, not the audio itself",
                              "Run `git lfs pull` in the corpus' clone.")
    except OSError as refused:
        error = refused
    if isinstance(error, OSError):
        return AudioError(path, f"unreadable, {error.strerror or error}",
                          "Check the file's name and its permissions, or copy it again.")
    said = str(getattr(error, "error_string", error)).rstrip(".")
    return AudioError(path, f"unreadable, {said}",
                      "Expected WAV, FLAC or another format of libsndfile; convert or copy the file again.")


def _guesses(file: soundfile.SoundFile, path: Path) -> bool:
    """Whether the length in an open file's header is a guess: MPEG's, a stream's."""
    return file.format == "MP3" or file.frames >= UNKNOWN or (not file.frames and bool(_unsized_wav(path)))


@contextlib.contextmanager
def _open_forward(path: Path, kind: str, tells_length: bool) -> Iterator[Forward]:
    """The same file, to be read to its end. Of an MP3, libsndfile trusts its own guess unless the file is piped."""
    if not tells_length:
        with Forward(os.fsencode(path)) as file:
            yield file
    elif kind == "MP3":
        with _piped(path) as descriptor, Forward(descriptor, closefd=False) as file:
            yield file
    else:
        with Forward(io.BytesIO(_unsized_wav(path))) as file:
            yield file


@contextlib.contextmanager
def _piped(path: Path) -> Iterator[int]:
    """A pipe's end from which the file's bytes can be read; an OSError of reading the file is raised at the end."""
    reading, writing = os.pipe()
    refused: list[OSError] = []

    def feed() -> None:
        try:
            with os.fdopen(writing, "wb") as pipe, open(path, "rb") as source:
                shutil.copyfileobj(source, pipe)
        except BrokenPipeError:
            pass  # enough was read
        except OSError as error:
            refused.append(error)

    thread = threading.Thread(target=feed, daemon=True)
    thread.start()
    try:
        yield reading
    finally:
        os.close(reading)
        thread.join()
    if refused:
        raise refused[0]


def is_pointer(path: str | Path) -> bool:
    """Whether a file is Git LFS's pointer to the audio."""
    with open(path, "rb") as file:
        return file.read(len(POINTER)) == POINTER


def is_readable(path: str | Path) -> bool:
    """Whether a file opens as audio of 0.1 s or more, by its header alone."""
    try:
        with _open_audio(path) as file:
            return isinstance(file, Forward) or file.frames >= SHORTEST * file.samplerate
    except AudioError:
        return False


def _check_finite(path: str | Path, samples: Samples) -> None:
    if not np.isfinite(samples).all():
        raise AudioError(path, "samples that are not finite numbers", "Convert the file again.")


def audio_length(path: str | Path, rate: int = RATE, start: float | None = None, end: float | None = None) -> int:
    """Samples that load_audio will give at `rate` Hz, by the header alone; a file without one is an AudioError.

    Where the header only guesses, the file is decoded to be counted.
    """
    with _open_audio(path) as file:
        excerpt = Excerpt(path, file, start, end)
        samples = excerpt.promised
        if samples is None:
            samples = sum(len(block) for block in excerpt.blocks())
        return math.ceil(samples * rate / file.samplerate)


def load_audio(path: str | Path, rate: int = RATE, start: float | None = None, end: float | None = None) -> Samples:
    """float32 samples [N] at `rate` Hz, channels averaged; start and end as in read_audio, errors too."""
    samples, source = read_audio(path, start, end)
    return resample(samples.mean(axis=1), source, rate)


def resample(samples: Samples, source: int, rate: int) -> Samples:
    """float32 [N] at `source` Hz -> float32 [ceil(N * rate / source)] at `rate` Hz."""
    if source == rate:
        return samples
    from scipy.signal import resample_poly

    divisor = math.gcd(source, rate)
    resampled = resample_poly(samples, rate // divisor, source // divisor)
    return np.asarray(resampled, dtype=np.float32)


def audio_info(path: str | Path, start: float | None = None, end: float | None = None) -> AudioInfo:
    """AudioInfo of a file, or of its part from start to end, after decoding it block by block; errors as read_audio."""
    peak, samples = 0.0, 0
    with _open_audio(path) as file:
        excerpt, channels = Excerpt(path, file, start, end), file.channels
        for block in excerpt.blocks():
            samples += len(block)
            peak = float(np.maximum(peak, np.abs(block).max(initial=0)))  # keeps what is no number
        excerpt.check(samples)
        size = Path(path).stat().st_size
    _check_finite(path, np.array([peak], dtype=np.float32))
    return AudioInfo(excerpt.rate, channels, samples / excerpt.rate, size, peak)


def _cut_short(path: Path) -> bool:
    """Whether a RIFF WAV's data chunk is longer than the file: libsndfile reads what is left and says nothing."""
    with open(path, "rb") as file:
        chunk = _data_chunk(file)
        return chunk is not None and chunk.size < STREAMED and chunk.start + chunk.size > path.stat().st_size


def _unsized_wav(path: Path) -> bytes:
    """A RIFF WAV whose data chunk says 0 bytes and has some, with its true size written in; of others no bytes."""
    with open(path, "rb") as file:
        chunk = _data_chunk(file)
        there = path.stat().st_size
        if chunk is None or chunk.size or chunk.start == there:
            return b""
        file.seek(0)
        data = bytearray(file.read())
    data[chunk.start - 4: chunk.start] = min(there - chunk.start, STREAMED).to_bytes(4, "little")
    return bytes(data)


class Chunk(NamedTuple):
    """Where in a file a chunk's content begins, and how many bytes its header promises."""

    start: int
    size: int


def _data_chunk(file: BinaryIO) -> Chunk | None:
    """The data chunk of a RIFF WAV, None of another file."""
    head = file.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return None
    while len(head := file.read(8)) == 8:
        size = int.from_bytes(head[4:], "little")
        if head[:4] == b"data":
            return Chunk(file.tell(), size)
        file.seek(size + size % 2, 1)
    return None
