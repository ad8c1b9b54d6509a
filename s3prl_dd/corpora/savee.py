"""SAVEE: four men; of its 7 emotions neutral, happiness, anger and sadness.

Names are DC/a01 or, in copies without folders, DC_a01: speaker, emotion letters, number. Fold k of 4 tests on one man.
"""

from .base import Corpus, FileNames

SPEAKERS = ("DC", "JE", "JK", "KL")


def fold_of(speaker: str) -> int:
    """DC -> 1, JE -> 2, JK -> 3, KL -> 4."""
    return SPEAKERS.index(speaker) + 1


NAMES = FileNames(
    pattern=r"(?P<speaker>DC|JE|JK|KL)[/_](?P<emotion>[a-z]+)\d\d",
    emotions={"n": "neu", "h": "hap", "a": "ang", "sa": "sad"},
    others={"d": "disgust", "f": "fear", "su": "surprise"},
    fold_of=fold_of,
    example="SAVEE files such as AudioData/DC/a01.wav",
    any_case=True,
)

CORPUS = Corpus("savee", NAMES.find, "SAVEE, University of Surrey, free for research (Haq and Jackson 2010)")
