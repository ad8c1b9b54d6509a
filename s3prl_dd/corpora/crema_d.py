"""CREMA-D: 91 actors, 12 sentences; of its 6 emotions neutral, happy, angry and sad.

Names are 1001_DFA_ANG_XX: actor, sentence, emotion, intensity. Fold k of 5 tests on every fifth actor, the ids
1000 + k, 1005 + k, ...: the folds are the same however many files are present.
"""

from .base import Corpus, FileNames


def fold_of(actor: str) -> int:
    """1001 -> 1, 1002 -> 2, ... 1006 -> 1."""
    return (int(actor) - 1001) % 5 + 1


NAMES = FileNames(
    pattern=r"(?P<speaker>1\d{3})_[A-Z]{3}_(?P<emotion>[A-Z]{3})_[A-Z]+",
    emotions={"NEU": "neu", "HAP": "hap", "ANG": "ang", "SAD": "sad"},
    others={"DIS": "disgust", "FEA": "fear"},
    fold_of=fold_of,
    example="CREMA-D files such as AudioWAV/1001_DFA_ANG_XX.wav",
)

CORPUS = Corpus("crema_d", NAMES.find, "CREMA-D, Open Database License 1.0 (Cao et al. 2014)")
