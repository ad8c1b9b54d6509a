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
ACTING = {  # what an emotion does: pitch and range 0 .. 100, rate in words a minute, volume 0 .. 100
    "neu": {"pitch": 47, "range": 43, "rate": 163, "volume": 57},
    "hap": {"pitch": 64, "range": 75, "rate": 181, "volume": 66},
    "ang": {"pitch": 55, "range": 61, "rate": 198, "volume": 80},
    "sad": {"pitch": 34, "range": 19, "rate": 134, "volume": 41},
}
BOUNDS = {"pitch": (0, 99), "range": (0, 99), "rate": (100, 280), "volume": (25, 95)}
BY_VOICE = {"pitch": 3, "range": 4, "rate": 5, "volume": 4}  # standard deviations
BY_UTTERANCE = {"pitch": 4, "range": 6, "rate": 8, "volume": 5}


def jobs():
    """What is spoken, in order: dicts of voice, emotion, text, path (relative to the root) and eSpeak NG's settings."""
    made = []
    for number, voice in enumerate(VOICES):
        habit = _deviation(BY_VOICE, voice)
        for emotion, (index, text) in itertools.product(EMOTIONS, enumerate(SENTENCES, 1)):
            chance = _deviation(BY_UTTERANCE, f"{voice}/{emotion}/{index}")
            settings = {key: round(min(max(ACTING[emotion][key] + habit[key] + chance[key], low), high))
                        for key, (low, high) in BOUNDS.items()}
            speaker = f"voice{number + 1:02d}"
            made.append({"path": f"Session{number // 2 + 1}/{speaker}/{speaker}_{emotion}_{index:02d}.flac", "voice": voice,
                         "speaker": speaker, "emotion": emotion, "text": text, **settings})
    return made


def _deviation(spread, key):
    noise = random.Random(f"s3prl_dd demo/{key}")
    return {name: noise.gauss(0, width) for name, width in spread.items()}


def make(root):
    """Speak what is missing under `root`; whole files of the same recipe are kept."""
    root = Path(root).absolute()
    spoken = jobs()
    recipe = text_digest([json.dumps(spoken, sort_keys=True), Path(espeak.__file__).read_text(encoding="utf-8")])
    note = root / "demo.json"
    same = note.is_file() and read_json(note, "note of the demo corpus").get("recipe") == recipe
    work = [{**job, "path": str(root / job["path"]), "write": not (same and _whole(root / job["path"]))} for job in spoken]
    if not any(job["write"] for job in work):
        return
    if importlib.util.find_spec("espeakng_loader") is None:
        raise UserError("the demo corpus is spoken by eSpeak NG, and the Python package espeakng-loader is not installed. "
                        "Install it with `pip install s3prl_dd[demo]`, or prepare another corpus.")
    if not same:  # from here on the folder holds files of this recipe only, or none
        for job in work:
            Path(job["path"]).unlink(missing_ok=True)
        write_json(note, {"corpus": NAME, "recipe": recipe,
                          "note": "Synthetic speech made by eSpeak NG, not recordings of people."})
    result = subprocess.run([sys.executable, espeak.__file__], input=json.dumps(work), text=True)
    if result.returncode:
        raise UserError(f"{root}: eSpeak NG did not finish (exit code {result.returncode}, its message is above). "
                        "What was spoken is kept; run the command again, or prepare another corpus.")


def _whole(path):
    try:
        audio.read_audio(path)
        return True
    except UserError:
        return False


def find(root):
    utterances = [Utterance(job["path"], job["emotion"], job["speaker"]) for job in jobs()]
    fold_of = {utterance.speaker: int(utterance.path[len("Session")]) for utterance in utterances}
    return Listing(utterances, fold_of, notes=["synthetic speech made by eSpeak NG, not recordings of people"])


CORPUS = Corpus(NAME, find, "synthetic speech made by eSpeak NG; free to use", make=make, synthetic=True)
