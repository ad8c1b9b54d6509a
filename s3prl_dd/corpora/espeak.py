"""Speaks a list of jobs with eSpeak NG. Run as a script, in a process of its own, by demo.py.

    echo JOBS | python espeak.py        JOBS: a JSON list of objects with the fields of Job

eSpeak NG keeps state from one utterance to the next, so its output depends on all that it spoke before: a fresh process
that speaks every job in order, also those not written, gives the same bytes each time. A crash stays in this process.
Each path gets 16 kHz 16 bit FLAC, whole or not at all.
"""

import ctypes
import json
import os
import sys
from typing import Any, NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray
from tqdm import tqdm

SAMPLE_RATE = 16000
SYNCHRONOUS, DONT_EXIT, UTF8 = 2, 0x8000, 1
PARAMETERS = {"rate": 1, "volume": 2, "pitch": 3, "range": 4}  # field of Job -> espeak_PARAMETER


class Job(NamedTuple):
    """One utterance: what to speak, how, and where it goes.

    rate: words a minute; volume, pitch, range (of the pitch): 0 .. 100; write: without it the job is only spoken
    """

    path: str
    text: str
    voice: str
    rate: int
    volume: int
    pitch: int
    range: int
    write: bool


class Speaker:
    """eSpeak NG's library, started; an error of its ends the process."""

    def __init__(self) -> None:
        import espeakng_loader

        self.library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = espeakng_loader.get_data_path().encode()
        self.rate: int = self.library.espeak_Initialize(SYNCHRONOUS, 0, data, DONT_EXIT)  # Hz of what it speaks
        if self.rate <= 0:
            sys.exit(f"eSpeak NG did not start (code {self.rate})")
        if hasattr(self.library, "espeak_ng_SetRandSeed"):
            self.library.espeak_ng_SetRandSeed(ctypes.c_long(0))
        self.chunks: list[NDArray[np.int16]] = []
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        self.callback = kind(self._collect)  # kept, or the library would call freed memory
        self.library.espeak_SetSynthCallback(self.callback)

    def _collect(self, samples: Any, count: int, _: Any) -> int:
        if samples and count > 0:
            self.chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def say(self, job: Job) -> NDArray[np.int16]:
        """The job's samples, int16 [N] at 16 kHz."""
        self.chunks.clear()
        if self.library.espeak_SetVoiceByName(job.voice.encode()) != 0:
            sys.exit(f"eSpeak NG has no voice {job.voice}")
        for field, parameter in PARAMETERS.items():
            self.library.espeak_SetParameter(parameter, getattr(job, field), 0)
        text = job.text.encode() + b"\0"
        failed = self.library.espeak_Synth(text, ctypes.c_size_t(len(text)), 0, 1, 0, UTF8, None, None) != 0
        if failed or not self.chunks:
            sys.exit(f"eSpeak NG could not speak {job.text!r}")
        return self._resampled(np.concatenate(self.chunks).astype(np.float64))

    def _resampled(self, samples: NDArray[np.float64]) -> NDArray[np.int16]:
        from scipy.signal import resample_poly  # slow to import, and only the demo needs it

        divisor = np.gcd(self.rate, SAMPLE_RATE)
        resampled = resample_poly(samples, SAMPLE_RATE // divisor, self.rate // divisor)
        return np.clip(np.rint(resampled), -32768, 32767).astype(np.int16)


def main() -> None:
    """Speak the jobs of the standard input."""
    speaker = Speaker()
    jobs = [Job(**fields) for fields in json.load(sys.stdin)]
    for job in tqdm(jobs, desc="synthetic speech (eSpeak NG)", unit="utterance", file=sys.stderr):
        samples = speaker.say(job)
        if job.write:
            os.makedirs(os.path.dirname(job.path), exist_ok=True)
            temporary = job.path + ".part"
            soundfile.write(temporary, samples, SAMPLE_RATE, subtype="PCM_16", format="FLAC")
            os.replace(temporary, job.path)


if __name__ == "__main__":
    try:
        main()
    except (OSError, soundfile.SoundFileError) as error:
        sys.exit(str(error))
