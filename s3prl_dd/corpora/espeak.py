"""Speaks a list of jobs with eSpeak NG. Run as a script, in a process of its own, by demo.py.

    echo JOBS | python espeak.py        JOBS: a JSON list of {path, text, voice, rate, volume, pitch, range, write}

eSpeak NG keeps state from one utterance to the next, so its output depends on all that it spoke before: a fresh process
that speaks every job in order, also those not written, gives the same bytes each time. A crash stays in this process.
Each path gets 16 kHz 16 bit FLAC, whole or not at all. rate: words a minute; volume, pitch, range: 0 .. 100.
"""

import ctypes
import json
import os
import sys

import numpy as np
import soundfile
from tqdm import tqdm

SYNCHRONOUS, DONT_EXIT, UTF8 = 2, 0x8000, 1
RATE, VOLUME, PITCH, RANGE = 1, 2, 3, 4  # espeak_PARAMETER


class Voice:
    def __init__(self):
        import espeakng_loader

        self.library = ctypes.CDLL(espeakng_loader.get_library_path())
        self.rate = self.library.espeak_Initialize(SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), DONT_EXIT)
        if self.rate <= 0:
            sys.exit(f"eSpeak NG did not start (code {self.rate})")
        if hasattr(self.library, "espeak_ng_SetRandSeed"):
            self.library.espeak_ng_SetRandSeed(ctypes.c_long(0))
        self.chunks = []
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        self.callback = kind(self._collect)  # kept, or the library would call freed memory
        self.library.espeak_SetSynthCallback(self.callback)

    def _collect(self, samples, count, _):
        if samples and count > 0:
            self.chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def say(self, job):
        """int16 samples [N] at 16 kHz."""
        self.chunks.clear()
        if self.library.espeak_SetVoiceByName(job["voice"].encode()) != 0:
            sys.exit(f"eSpeak NG has no voice {job['voice']}")
        for parameter, key in ((RATE, "rate"), (VOLUME, "volume"), (PITCH, "pitch"), (RANGE, "range")):
            self.library.espeak_SetParameter(parameter, job[key], 0)
        text = job["text"].encode() + b"\0"
        if self.library.espeak_Synth(text, ctypes.c_size_t(len(text)), 0, 1, 0, UTF8, None, None) != 0 or not self.chunks:
            sys.exit(f"eSpeak NG could not speak {job['text']!r}")
        samples = np.concatenate(self.chunks).astype(np.float64)
        divisor = np.gcd(self.rate, 16000)
        from scipy.signal import resample_poly  # slow to import, and only the demo needs it

        return np.clip(np.rint(resample_poly(samples, 16000 // divisor, self.rate // divisor)), -32768, 32767).astype(np.int16)


def main():
    voice = Voice()
    for job in tqdm(json.load(sys.stdin), desc="synthetic speech (eSpeak NG)", unit="utterance", file=sys.stderr):
        samples = voice.say(job)
        if job["write"]:
            os.makedirs(os.path.dirname(job["path"]), exist_ok=True)
            temporary = job["path"] + ".part"
            soundfile.write(temporary, samples, 16000, subtype="PCM_16", format="FLAC")
            os.replace(temporary, job["path"])


if __name__ == "__main__":
    try:
        main()
    except (OSError, soundfile.SoundFileError) as error:
        sys.exit(str(error))
