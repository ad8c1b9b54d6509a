"""MELD: dialogues of the series Friends, with its own train, dev and test lists ({train,dev,test}_sent_emo.csv).

Of its 7 emotions neutral, joy, anger and sadness are the four that S3PRL knows; the others are left out unless
--emotions names them. Its clips are videos: take the sound out first (dia0_utt0.mp4 -> dia0_utt0.wav), in folders that
have train, dev or test in their names, for the three parts use the same numbers. The lists share their speakers, so
allow_shared_speakers is needed. StartTime and EndTime of the lists are of the episode, not of the clip.
"""

import re
from collections import Counter
from pathlib import Path

from ..errors import UserError
from .base import Corpus, Listing, Part, find_audio, some
from .delimited import read_delimited
from .labels import classes_of
from .rows import Row, listing_of
from .text import tidied

EMOTIONS = "neutral=neu,joy=hap,anger=ang,sadness=sad,surprise=,fear=,disgust="
PARTS: tuple[Part, ...] = ("train", "dev", "test")
COLUMNS = ("Speaker", "Emotion", "Dialogue_ID", "Utterance_ID")
ENCODINGS = ("cp1252", "latin-1")
"""Of lists that are not UTF-8: the release's quotation marks are Windows'."""


def find(root: Path, emotions: str | None = None) -> Listing:
    """One fold. emotions: as in CorpusOptions."""
    clips = _clips(root)
    rows = [row for part in PARTS for row in _rows(root, part, clips)]
    classes = classes_of(root, Counter(row.emotion for row in rows), emotions or EMOTIONS)
    listing = listing_of(root, root, rows, classes)
    kept = [row for row in rows if classes.class_of[row.emotion]]
    parts: dict[str, Part] = {}
    for utterance, row in zip(listing.utterances, kept, strict=True):
        parts[utterance.id] = next(part for part in PARTS if part == row.split)
    listing.given = {1: parts}
    listing.notes.append("train, dev and test are the corpus' own")
    return listing


def _clips(root: Path) -> dict[tuple[Part, str], str]:
    """(part, dia0_utt0) -> the path of its audio."""
    clips: dict[tuple[Part, str], str] = {}
    unclear = []
    for path in find_audio(root):
        match = re.fullmatch(r"(?:final_videos_test)?(dia\d+_utt\d+)", Path(path).stem)
        if not match:
            continue
        part = _part(path)
        if part is None:
            unclear.append(path)
        elif not Path(path).stem.startswith("final_videos_test"):
            clips[part, match[1]] = path
        else:  # the release's second copy of some test clips
            clips.setdefault((part, match[1]), path)
    if not clips:
        there = f"only clips in folders that name no part ({some(unclear, most=3)})" if unclear else "no clips"
        raise UserError(f"{root}: found {there}; expected audio such as train_splits/dia0_utt0.wav, in folders with "
                        "train, dev or test in their names. Take it out of the videos first.")
    return clips


def _part(path: str) -> Part | None:
    """The part that the nearest folder names, dev_splits_complete -> dev."""
    for folder in reversed(Path(path).parts[:-1]):
        named: list[Part] = [part for part in PARTS if part in folder.lower()]
        if len(named) == 1:
            return named[0]
    return None


def _rows(root: Path, part: Part, clips: dict[tuple[Part, str], str]) -> list[Row]:
    tables = sorted(root.rglob(f"{part}_sent_emo.csv"))
    if not tables:
        raise UserError(f"{root}: found no {part}_sent_emo.csv; expected MELD's three lists. Check --root.")
    read = read_delimited(tables[0], ENCODINGS)
    missing = [name for name in COLUMNS if name not in read.columns]
    if missing:
        raise UserError(f"{tables[0]}: no column {missing[0]}; found {some(read.columns)}. "
                        "Restore it from the release.")
    rows = []
    for record in read.records:
        values = record.values
        name = f"dia{values['Dialogue_ID']}_utt{values['Utterance_ID']}"
        path = clips.get((part, name), f"{part}/{name}.wav")
        rows.append(Row(path, tidied(values["Emotion"]), tidied(values["Speaker"]), "", part, None, None, record.line))
    return rows


CORPUS = Corpus("meld", find, "MELD, GPL-3.0 lists, audio of the series Friends (Poria et al. 2019)")
