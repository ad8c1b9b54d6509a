"""RAVDESS, audio-only speech: 24 actors, and of its 8 emotions the four that S3PRL's recipe knows.

Both the original 48 kHz tree and 16 kHz copies; names are 03-01-EE-II-SS-RR-AA (EE emotion, AA actor, odd = man).
Fold k of 6 tests on actors 4k-3 .. 4k: two men and two women.
"""

from pathlib import Path

from .base import Corpus, FileNames, Listing

ACTORS = tuple(f"{actor:02d}" for actor in range(1, 25))


def fold_of(actor: str) -> int:
    """01 .. 04 -> 1, 05 .. 08 -> 2, ... 21 .. 24 -> 6."""
    return (int(actor) - 1) // 4 + 1


NAMES = FileNames(
    pattern=r"03-01-(?P<emotion>\d\d)-\d\d-\d\d-\d\d-(?P<speaker>0[1-9]|1\d|2[0-4])",
    emotions={"01": "neu", "03": "hap", "05": "ang", "04": "sad"},
    others={"02": "calm", "06": "fearful", "07": "disgust", "08": "surprised"},
    fold_of=fold_of,
    example="RAVDESS speech files such as Actor_01/03-01-05-01-01-01-01.wav",
)


def find(root: Path) -> Listing:
    """All files whose names are RAVDESS'; actors that are not there are told."""
    listing = NAMES.find(root)
    missing = [actor for actor in ACTORS if actor not in listing.fold_of]
    if missing:
        listing.warnings.append(f"{len(missing)} of {len(ACTORS)} actors have no file here ({', '.join(missing)}): "
                                "folds are not those of the whole corpus")
    return listing


CORPUS = Corpus("ravdess", find, "RAVDESS, CC BY-NC-SA 4.0 (Livingstone and Russo 2018)")
