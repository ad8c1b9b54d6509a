"""The lines of a table as utterances: which file, whose speech, which part of the file."""

import math
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError
from .base import EXTENSIONS, Listing, some, tally
from .delimited import COLUMNS, Record, Table
from .labels import Classes
from .metadata import Utterance
from .splits import part_named
from .text import shown, tidied

EMOBOX_SPEAKERS = {
    "iemocap": r"(Ses\d\d)[FM]_[^/]*_([FM])[^_/]*$",
    "ravdess": r"-(\d\d)\.\w+$",
    "emodb": r"(\d\d)\w+\.\w+$",
    "cremad": r"(1\d{3})_\w+\.\w+$",
    "esd": r"(00\d\d)_\d+\.\w+$",
    "savee": r"(DC|JE|JK|KL)[/_]\w+\.\w+$",
    "tess": r"\b(O|Y)AF?_\w+\.\w+$",
}
"""EmoBox' name of a corpus -> where its file names have the speaker: the groups, joined."""


COUNT_AS_EMPTY = " (NaN, NA, None and null count as empty)"
"""Said where a field is empty that may not be."""


NAMES = ("emotion", "speaker", "fold", "split")
"""Fields that are people's names of something; that of a file is found by its bytes."""


class Row(NamedTuple):
    """A line of the table. file: as written there; fold, split: '' where the table has none; start, end: seconds."""

    file: str
    emotion: str
    speaker: str
    fold: str
    split: str
    start: float | None
    end: float | None
    line: int


class Parsed(NamedTuple):
    """rows: of the table's lines, in their order; respelt: a name as the table writes it -> as it counts."""

    rows: list[Row]
    respelt: dict[str, str]


def parse_rows(path: Path, table: Table, chosen: dict[str, str], speaker: str | None, needed: bool = True) -> Parsed:
    """The table's records as Rows; a line without a file, an emotion or a speaker is a UserError.

    chosen: what a column says -> the column; speaker: regular expression that goes before a column speaker
    needed: whether each line must have a speaker
    """
    rows = [_row(record, f"{path}: line {record.line}", chosen, speaker, needed) for record in table.records]
    columns = [chosen[field] for field in NAMES if field in chosen]
    return Parsed(rows, respellings(record.values.get(column, "") for record in table.records for column in columns))


def respellings(names: Iterable[str]) -> dict[str, str]:
    """Those of the names that tidied() changes -> what it makes of them."""
    return {name: tidied(name) for name in names if tidied(name) != name}


def tell_respelt(respelt: dict[str, str]) -> list[str]:
    """A sentence about names that count otherwise than they are written; none where all count as they are."""
    if not respelt:
        return []
    name, now = next(iter(respelt.items()))
    return [f"{len(respelt)} names count without their invisible letters and in one Unicode form: {name!a} is {now!r}"]


def _row(record: Record, where: str, chosen: dict[str, str], pattern: str | None, needed: bool) -> Row:
    values = {field: record.values.get(chosen[field], "") if field in chosen else "" for field in COLUMNS}
    values |= {field: tidied(values[field]) for field in NAMES}
    for field in ("file", "emotion"):
        if field in chosen and not values[field]:
            raise UserError(f"{where}: its {chosen[field]} is empty. Fill it in, or leave the line out"
                            f"{COUNT_AS_EMPTY}.")
        if not values[field]:
            header = " Is its first line a header?" if not chosen else ""
            raise UserError(f"{where}: no {field}; expected a column {' or '.join(COLUMNS[field])}, found "
                            f"{some(record.values)}.{header} Add it, or say which it is: --columns {field}=NAME.")
    file, speaker = values["file"], values["speaker"]
    known = EMOBOX_SPEAKERS.get(record.values.get("dataset", ""))
    if pattern:
        speaker = _match(pattern, file, where)[1]
    elif known and (not speaker or record.values["dataset"] == "iemocap"):
        speaker = "".join(_match(known, file, where).groups())
    if not speaker and needed and "speaker" in chosen:
        raise UserError(f"{where}: its {chosen['speaker']} is empty. Fill it in, leave the line out, or give --speaker "
                        f"REGEX with one group that finds it in the file's path{COUNT_AS_EMPTY}.")
    if not speaker and needed:
        raise UserError(f"{where}: no speaker of {file}; folds must not share speakers. Add a column speaker, or "
                        "give --speaker REGEX with one group that finds it in the file's path.")
    start, end = (_seconds(values[field], f"{where}: {field}") for field in ("start", "end"))
    if end is not None and end <= (start or 0.0):
        raise UserError(f"{where}: the segment ends at {end:g} s and starts at {start or 0.0:g} s. Correct the line.")
    fold, split = re.sub(r"^(\d+)\.0+$", r"\1", values["fold"]), values["split"]  # pandas' 10.0 is 10
    if part_named(fold) and not split:  # a column fold that holds train, dev and test
        fold, split = "", fold
    return Row(file, values["emotion"], speaker, fold, split, start, end, record.line)


def _match(pattern: str, path: str, where: str) -> re.Match[str]:
    """Where the pattern finds the speaker in the path; its first group is not empty."""
    try:
        match = re.search(unicodedata.normalize("NFC", pattern), tidied(path))
        speaker = match[1] if match else None
    except (re.error, IndexError) as error:
        raise UserError(f"speaker={pattern!r}: expected a regular expression with one group ({error}).") from None
    if not match or not speaker:
        raise UserError(f"{where}: {pattern!r} finds no speaker in {path}. Change --speaker, or add a column speaker.")
    return match


def _seconds(text: str, where: str) -> float | None:
    """2.5, 0:00:02.5 or pandas' "0 days 00:00:02.5" in seconds; None of an empty field."""
    if not text:
        return None
    match = re.fullmatch(r"(?:(\d+) days?,? ?)?(?:(?:(\d+):)?(\d+):)?(\d*\.?\d*(?:[eE][+-]?\d+)?)", text)
    try:
        days, hours, minutes, seconds = (float(part or 0) for part in match.groups()) if match else (math.nan,) * 4
    except ValueError:
        days = hours = minutes = seconds = math.nan
    total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if not math.isfinite(total):
        raise UserError(f"{where} {text!r}: expected seconds from 0 up, such as 2.5. Correct the line.")
    return total


class Found(NamedTuple):
    """rows: with their files as they are on the disk, each once; notes: sentences about what was mended."""

    rows: list[Row]
    notes: list[str]


def find_files(root: Path, rows: list[Row]) -> Found:
    """The rows' files under `root`, where a table may spell them otherwise, and lines that say the same only once."""
    notes = []
    spelt = [row._replace(file=on_disk(row.file, root)) for row in rows]
    others = [(row.file, now.file) for row, now in zip(rows, spelt, strict=True) if now.file != row.file]
    if others:
        notes.append(f"{len(others)} files are spelt otherwise on the disk: {shown(others[0][0])} is "
                     f"{shown(others[0][1])}")
    once = {row._replace(file=relative(row.file, root), line=0): row for row in reversed(spelt)}
    if len(once) < len(rows):
        notes.append(f"{len(rows) - len(once)} lines say what a line before says and count once")
    return Found(list(reversed(once.values())), notes)


def on_disk(file: str, root: Path) -> str:
    """A file as the disk has it: with / for Windows' backslashes, in Unicode's other form, with the ending it lacks.

    What is there as it is written, and what is not there at all, stays.
    """
    if os.path.exists(root / file):
        return file
    slashed = file.replace("\\", "/")
    spellings = [unicodedata.normalize(form, slashed) for form in ("NFC", "NFD")]
    endings = [f"{spelling}.{ending}" for spelling in dict.fromkeys(spellings) for ending in EXTENSIONS]
    there = [name for name in dict.fromkeys([slashed, *spellings, *endings]) if os.path.isfile(root / name)]
    return there[0] if len(there) == 1 else file


def listing_of(root: Path, table: Path, rows: list[Row], classes: Classes) -> Listing:
    """The utterances of the rows whose emotion is kept, in their order; no folds yet.

    A row without a speaker, an utterance that is listed twice, and a root under which no file lies, are a UserError.
    """
    kept = [row for row in rows if classes.class_of[row.emotion]]
    for row in kept:
        if not row.speaker:
            where = f"{table}: line {row.line}" if row.line else f"{table}"
            raise UserError(f"{where}: {shown(row.file)} has no speaker. Fill it in, or leave the line out"
                            f"{COUNT_AS_EMPTY}.")
    utterances = [utterance_of(root, row, classes) for row in kept]
    check_paths(table, root, utterances)
    listing = Listing(utterances, {}, classes.labels, notes=list(classes.notes))
    left_out = Counter(row.emotion for row in rows if not classes.class_of[row.emotion])
    if left_out:
        listing.notes.append(f"other emotions left out: {tally(left_out)}")
    return listing


def utterance_of(root: Path, row: Row, classes: Classes) -> Utterance:
    """The row's utterance."""
    return Utterance(relative(row.file, root), classes.class_of[row.emotion], row.speaker, row.start, row.end)


def relative(path: str, root: Path) -> str:
    """Relative to the root where it lies under it; S3PRL joins both, so an absolute path elsewhere works too."""
    path = os.path.normpath(path)
    inside = os.path.isabs(path) and Path(path).is_relative_to(root)
    return os.path.relpath(path, root) if inside else path


def check_paths(table: Path, root: Path, utterances: list[Utterance]) -> None:
    """Refuse repeated utterances, and a root under which no file lies."""
    repeated = [key for key, count in Counter(utterance.id for utterance in utterances).items() if count > 1]
    if repeated:
        said = [f"{item.label} of {item.speaker}" for item in utterances if item.id == repeated[0]]
        raise UserError(f"{table}: {repeated[0]} is listed more than once, as {' and as '.join(said)} "
                        f"({len(repeated)} such files). Keep one line of each.")
    paths = {utterance.path: None for utterance in utterances}
    if paths and not any(os.path.exists(root / path) for path in paths):
        first = next(iter(paths))
        remedy = "Give the folder that its paths start from as --root."
        if "\\" in first:
            remedy = "Write its paths from --root on, with / between folders."
        raise UserError(f"{table}: none of its {len(paths)} files exists under {root}, not even {first}. {remedy}")
