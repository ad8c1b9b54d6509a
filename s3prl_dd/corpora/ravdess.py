"""RAVDESS, audio-only speech: 24 actors, and of its 8 emotions the four that S3PRL's recipe knows.

Both the original 48 kHz tree and 16 kHz copies; names are 03-01-EE-II-SS-RR-AA (EE emotion, AA actor, odd = man).
Fold k of 6 tests on actors 4k-3 .. 4k: two men and two women.
"""

from .base import Corpus, by_name

ACTORS = 24


def find(root):
    listing = _find(root)
    missing = [f"{actor:02d}" for actor in range(1, ACTORS + 1) if f"{actor:02d}" not in listing.fold_of]
    if missing:
        listing.warnings.append(f"{len(missing)} of {ACTORS} actors have no file here ({', '.join(missing)}): "
                                "folds are not those of the whole corpus")
    return listing


_find = by_name(
    pattern=r"03-01-(?P<emotion>\d\d)-\d\d-\d\d-\d\d-(?P<speaker>0[1-9]|1\d|2[0-4])",
    emotions={"01": "neu", "03": "hap", "05": "ang", "04": "sad"},
    others={"02": "calm", "06": "fearful", "07": "disgust", "08": "surprised"},
    fold_of=lambda speaker: (int(speaker) - 1) // 4 + 1,
    expected="RAVDESS speech files such as Actor_01/03-01-05-01-01-01-01.wav",
)

CORPUS = Corpus("ravdess", find, "RAVDESS, CC BY-NC-SA 4.0 (Livingstone and Russo 2018)")
