"""nEMO: nine Polish actors, 90 sentences; of its 6 emotions neutral, happiness, anger and sadness.

Names are EB0_anger_1: speaker, emotion, sentence. Fold k of 3 tests on three actors; a nemo.csv (file, speaker, fold)
beside the files says otherwise.
"""

from pathlib import Path

from ..errors import UserError
from .base import Corpus, FileNames, Listing, some
from .delimited import choose, read_delimited

FOLDS = (("EB0", "KS0", "SM0"), ("IC0", "MK0", "TP0"), ("KD0", "MP0", "WR0"))
FOLD_OF = {speaker: fold for fold, speakers in enumerate(FOLDS, 1) for speaker in speakers}

NAMES = FileNames(
    pattern=rf"(?P<speaker>{'|'.join(FOLD_OF)})_(?P<emotion>[a-z]+)_\d+",
    emotions={"neutral": "neu", "happiness": "hap", "anger": "ang", "sadness": "sad"},
    others={"fear": "fear", "surprise": "surprise"},
    fold_of=FOLD_OF.__getitem__,
    example="nEMO files such as samples/EB0_anger_1.wav",
)


def find(root: Path) -> Listing:
    """All files whose names are nEMO's, with the folds of nemo.csv where there is one."""
    listing = NAMES.find(root)
    table = root / "nemo.csv"
    if table.is_file():
        folds = _folds(table)
        missing = sorted(set(listing.fold_of) - set(folds))
        if missing:
            raise UserError(f"{table}: no fold of the speakers {some(missing)}. Add them, or move the table elsewhere.")
        listing.fold_of = {speaker: folds[speaker] for speaker in listing.fold_of}
        listing.notes.append("folds are those of nemo.csv")
    return listing


def _folds(table: Path) -> dict[str, int]:
    """Speaker -> fold number."""
    read = read_delimited(table)
    chosen = choose(table, read, None)
    if not {"speaker", "fold"} <= set(chosen):
        raise UserError(f"{table}: expected columns speaker and fold, found {some(read.columns)}.")
    folds: dict[str, int] = {}
    for record in read.records:
        speaker, fold = record.values[chosen["speaker"]], record.values[chosen["fold"]]
        if not fold.isdecimal() or folds.setdefault(speaker, int(fold)) != int(fold) or not int(fold):
            raise UserError(f"{table}: line {record.line}: fold {fold!r} of speaker {speaker}; expected one number "
                            "from 1 up for each speaker.")
    return folds


CORPUS = Corpus("nemo", find, "nEMO, CC BY-NC-SA 4.0 (Christop 2024)")
