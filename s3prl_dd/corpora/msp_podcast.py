"""MSP-Podcast: the consensus labels of its release (labels_consensus.csv), with its own train, development and Test1.

Of its letters N, H, A and S are the four that S3PRL knows; the others are left out unless --emotions names them. A
speaker whom the release calls Unknown is one for each podcast.
"""

from collections import Counter
from pathlib import Path

from ..errors import UserError
from .base import Corpus, Listing, find_audio, some, tally
from .delimited import Record, plain, read_delimited
from .labels import classes_of
from .rows import Row, listing_of
from .splits import given_parts
from .text import tidied

EMOTIONS = "N=neu,H=hap,A=ang,S=sad,U=,F=,D=,C=,O=,X="
"""Neutral, happy, angry, sad; surprise, fear, disgust, contempt, other, no agreement."""

LISTS = ("labels_consensus.csv", "labels_concensus.csv")
COLUMNS = ("FileName", "EmoClass", "SpkrID", "Split_Set")
TEST = "test1"
"""The test list that is used; Test2 and Test3 are others' business."""


def find(root: Path, emotions: str | None = None) -> Listing:
    """One fold. emotions: as in CorpusOptions, over the letters."""
    table = _table(root)
    place_of = {Path(path).name: path for path in find_audio(root)}
    records = [record.values for record in _records(table)]
    unused = Counter(record["Split_Set"] for record in records if not _is_used(record))
    rows = [_row(record, place_of) for record in records if _is_used(record)]
    if not rows:
        raise UserError(f"{table}: no line is of train, development or Test1; found {tally(unused)}.")
    classes = classes_of(table, Counter(row.emotion for row in rows), emotions or EMOTIONS)
    listing = listing_of(root, table, rows, classes)
    kept = [row for row in rows if classes.class_of[row.emotion]]
    ids = (utterance.id for utterance in listing.utterances)
    listing.given[1], notes = given_parts(str(table), dict(zip(ids, (row.split for row in kept), strict=True)))
    listing.notes += notes
    if unused:
        listing.notes.append(f"not used: {tally(unused)}")
    return listing


def _table(root: Path) -> Path:
    tables = sorted(path for name in LISTS for path in root.rglob(name))
    if len(tables) != 1:
        raise UserError(f"{root}: found {some(tables) or 'no labels_consensus.csv'}; expected one, Labels/"
                        "labels_consensus.csv of the release. Check --root.")
    return tables[0]


def _records(table: Path) -> list[Record]:
    """The lines, with the columns' names as the release has them."""
    read = read_delimited(table)
    name_of = {plain(name): name for name in read.columns}
    missing = [name for name in COLUMNS if plain(name) not in name_of]
    if missing:
        raise UserError(f"{table}: no column {missing[0]}; found {some(read.columns)}. Restore it from the release.")
    return [Record(record.line, {name: record.values[name_of[plain(name)]] for name in COLUMNS})
            for record in read.records]


def _is_used(record: dict[str, str]) -> bool:
    split = plain(record["Split_Set"])
    return split == TEST or not split.startswith("test")


def _row(record: dict[str, str], place_of: dict[str, str]) -> Row:
    name, speaker = record["FileName"], tidied(record["SpkrID"])
    if speaker.lower() in ("", "unknown"):
        speaker = f"unknown of {'_'.join(name.split('_')[:2])}"  # MSP-PODCAST_0001_0008.wav
    path = place_of.get(name, f"Audios/{name}")
    return Row(path, tidied(record["EmoClass"]), speaker, "", tidied(record["Split_Set"]), None, None, 0)


CORPUS = Corpus("msp_podcast", find, "MSP-Podcast, licence of UT Dallas (Lotfian and Busso 2019)")
