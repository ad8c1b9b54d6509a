"""A demo corpus of synthetic speech: eSpeak NG reads sentences in ten voices, its settings act four emotions.

It is for trying the way of the data without a corpus, not for conclusions about speech. Emotions shift pitch, pitch
range, rate and loudness; each voice and each utterance has its own deviation from them, so that emotions overlap.
Two voices a session, five sessions; the audio is the same byte for byte each time.
"""

import importlib.util
import itertools
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError
from ..files import read_json, text_digest, write_json
from . import audio, espeak
from .base import EMOTIONS, Corpus, Listing
from .metadata import Utterance

NAME = "demo (synthetic speech, eSpeak NG)"
VOICES = ("en-us+m1", "en-gb-scotland+f1", "en+m3", "en-us+f2", "en-gb-x-rp+m4",
          "en-029+f3", "en-us-nyc+m7", "en+f4", "en-gb-scotland+m2", "en-us+f5")  # a man and a woman to a session
SENTENCES = (
    "The train to the coast leaves at seven.",
    "She put the letters on the kitchen table.",
    "We can look at the garden after lunch.",
    "There are eleven chairs in the next room.",
    "He walked along the river until the bridge.",
    "They will send the books on Monday morning.",
    "I left my coat beside the open door.",
    "The shop around the corner sells bread and milk.",
    "You will find the keys under the blue box.",
    "It was almost dark when the bus arrived.",
)


class Manner(NamedTuple):
    """eSpeak NG's settings: pitch, range (of the pitch) and volume 0 .. 100, rate in words a minute."""

    pitch: float
    range: float
    rate: float
    volume: float


ACTING = {  # what an emotion does
    "neu": Manner(pitch=47, range=43, rate=163, volume=57),
    "hap": Manner(pitch=64, range=75, rate=181, volume=66),
    "ang": Manner(pitch=55, range=61, rate=198, volume=80),
    "sad": Manner(pitch=34, range=19, rate=134, volume=41),
}
LOWEST = Manner(pitch=0, range=0, rate=100, volume=25)
HIGHEST = Manner(pitch=99, range=99, rate=280, volume=95)
BY_VOICE = Manner(pitch=3, range=4, rate=5, volume=4)  # standard deviations
BY_UTTERANCE = Manner(pitch=4, range=6, rate=8, volume=5)


class Spoken(NamedTuple):
    """One utterance of the corpus. path: relative to the root; settings: whole numbers."""

    path: str
    speaker: str
    emotion: str
    voice: str
    text: str
    settings: Manner

    def job(self, root: Path, write: bool) -> espeak.Job:
        """What eSpeak NG is asked for; write: whether the file is to be made."""
        pitch, pitch_range, rate, volume = map(int, self.settings)
        return espeak.Job(str(root / self.path), self.text, self.voice, rate, volume, pitch, pitch_range, write)


def script() -> list[Spoken]:
    """All that is spoken, in order."""
    lines = []
    for number, voice in enumerate(VOICES):
        habit = _deviation(BY_VOICE, voice)
        session, speaker = number // 2 + 1, f"voice{number + 1:02d}"
        for emotion, (index, text) in itertools.product(EMOTIONS, enumerate(SENTENCES, 1)):
            chance = _deviation(BY_UTTERANCE, f"{voice}/{emotion}/{index}")
            path = f"Session{session}/{speaker}/{speaker}_{emotion}_{index:02d}.flac"
            lines.append(Spoken(path, speaker, emotion, voice, text, _settings(ACTING[emotion], habit, chance)))
    return lines


def _deviation(spread: Manner, key: str) -> Manner:
    """A Gaussian draw of its own for `key`, with these standard deviations."""
    noise = random.Random(f"s3prl_dd demo/{key}")
    return Manner(*(noise.gauss(0, width) for width in spread))


def _settings(acted: Manner, habit: Manner, chance: Manner) -> Manner:
    """The sum, rounded and within bounds."""
    values = []
    for value, by_voice, by_utterance, low, high in zip(acted, habit, chance, LOWEST, HIGHEST, strict=True):
        values.append(round(min(max(value + by_voice + by_utterance, low), high)))
    return Manner(*values)


def make(root: str | Path) -> None:
    """Speak what is missing under `root`; whole files of the same recipe are kept."""
    root = Path(root).absolute()
    spoken = script()
    recipe = text_digest([json.dumps(spoken), Path(espeak.__file__).read_text(encoding="utf-8")])
    note = root / "demo.json"
    same = note.is_file() and read_json(note, "note of the demo corpus").get("recipe") == recipe
    jobs = [line.job(root, write=not (same and _whole(root / line.path))) for line in spoken]
    if not any(job.write for job in jobs):
        return
    if importlib.util.find_spec("espeakng_loader") is None:
        raise UserError("the demo corpus is spoken by eSpeak NG, and the Python package espeakng-loader is not "
                        "installed. Install it with `pip install s3prl_dd[demo]`, or prepare another corpus.")
    if not same:  # from here on the folder holds files of this recipe only, or none
        for job in jobs:
            Path(job.path).unlink(missing_ok=True)
        write_json(note, {"corpus": NAME, "recipe": recipe,
                          "note": "Synthetic speech made by eSpeak NG, not recordings of people."})
    asked = json.dumps([job._asdict() for job in jobs])
    ended = subprocess.run([sys.executable, espeak.__file__], input=asked, text=True)
    if ended.returncode:
        raise UserError(f"{root}: eSpeak NG did not finish (exit code {ended.returncode}, its message is above). "
                        "What was spoken is kept; run the command again, or prepare another corpus.")


def _whole(path: Path) -> bool:
    try:
        audio.read_audio(path)
    except UserError:
        return False
    return True


def find(root: Path) -> Listing:
    """The corpus' lists: two voices a session, whatever lies under `root`."""
    spoken = script()
    utterances = [Utterance(line.path, line.emotion, line.speaker) for line in spoken]
    fold_of = {line.speaker: int(line.path[len("Session")]) for line in spoken}
    return Listing(utterances, fold_of, notes=["synthetic speech made by eSpeak NG, not recordings of people"])


CORPUS = Corpus(NAME, find, "synthetic speech made by eSpeak NG; free to use", make=make, synthetic=True)
