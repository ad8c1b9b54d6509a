"""Any corpus given as a table: CSV, EmoBox JSONL or S3PRL JSON.

The table is `--table FILE` with paths relative to `--root FOLDER`, or `--root FILE` alone with paths relative to its
folder.

    CSV           header file,emotion,speaker and, optional, fold (or session)
    EmoBox JSONL  one object a line with wav and emo, and speaker (or spk) where there is one; EmoBox' own lists have
                  none: it is read from the file name for corpora we know, else with speaker=REGEX
    S3PRL JSON    labels and meta_data, as metadata.py writes; or the folder of Session<k>/test_meta_data.json, whose
                  folds are kept
"""

import csv
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import UserError
from .base import EMOTIONS, Corpus, Listing, some, spread, tally
from .metadata import Metadata, Utterance

ALIASES = {
    "neu": "neu", "neutral": "neu",
    "hap": "hap", "happy": "hap", "happiness": "hap",
    "ang": "ang", "angry": "ang", "anger": "ang",
    "sad": "sad", "sadness": "sad",
}
"""A table's name of an emotion, in lower case -> S3PRL's."""

COLUMNS = {
    "file": ("file", "wav", "path"),
    "emotion": ("emotion", "emo", "label"),
    "speaker": ("speaker", "spk"),
    "fold": ("fold", "session"),
}
"""Field of Row -> the names that a table may give it, the first that has a value is taken."""

EMOBOX_SPEAKERS = {
    "iemocap": r"(Ses\d\d[FM])_[^/]*$",
    "ravdess": r"-(\d\d)\.\w+$",
    "emodb": r"(\d\d)\w+\.\w+$",
    "cremad": r"(1\d{3})_\w+\.\w+$",
}
"""EmoBox' name of a corpus -> where its file names have the speaker."""


class Row(NamedTuple):
    """A line of the table. file: as written there; fold: '' where the table has none."""

    file: str
    emotion: str
    speaker: str
    fold: str


class Classes(NamedTuple):
    """What becomes of the table's emotions.

    class_of: emotion -> class name, or '' where it is left out; labels: class name -> index, 0 .. C-1
    """

    class_of: dict[str, str]
    labels: dict[str, int]


def find(
    root: Path,
    table: str | Path | None = None,
    folds: int = 5,
    labels: str | None = None,
    speaker: str | None = None,
) -> Listing:
    """The utterances that a table lists.

    table: the file; folds: how many, where the table has no fold column (speakers are dealt out by their size)
    labels: "neutral=neu,happiness=hap,fear=", the table's emotions and our classes in their order; an emotion without a
        class is left out
    speaker: regular expression with one group that finds the speaker in a file's path
    """
    table = _check_table(root, table)
    if isinstance(folds, bool) or not isinstance(folds, int) or folds < 2:
        raise UserError(f"folds={folds!r}: expected a whole number from 2 up.")
    rows, order = _read(table, speaker)
    if not rows:
        raise UserError(f"{table}: lists no files; expected one a line.")
    classes = _classes(table, {row.emotion for row in rows}, labels, order)
    kept = [row for row in rows if classes.class_of[row.emotion]]
    utterances = [Utterance(_relative(row.file, root), classes.class_of[row.emotion], row.speaker) for row in kept]
    _check_paths(table, root, [utterance.path for utterance in utterances])
    listing = Listing(utterances, {}, classes.labels)
    left_out = Counter(row.emotion for row in rows if not classes.class_of[row.emotion])
    if left_out:
        listing.notes.append(f"other emotions left out: {tally(left_out)}")
    if any(row.fold for row in kept):
        listing.fold_of = _given_folds(table, kept)
        return listing
    counts = Counter(utterance.speaker for utterance in utterances)
    if len(counts) < folds:
        listing.warnings.append(f"{len(counts)} speakers give {len(counts)} folds, not {folds}")
    listing.fold_of = spread(counts, min(folds, len(counts)))
    return listing


def _check_table(root: Path, table: str | Path | None) -> Path:
    """The table's absolute path; none, or one that does not exist, is a UserError."""
    if table is None:
        raise UserError(f"{root}: a folder; which table lists its files? Give --table FILE "
                        "(CSV, EmoBox JSONL or S3PRL JSON), or the file itself as --root.")
    table = Path(table).expanduser().absolute()
    if not table.exists():
        raise UserError(f"{table}: no such table. Check --table.")
    return table


def _check_paths(table: Path, root: Path, paths: list[str]) -> None:
    """Refuse repeated paths, and a root under which none of them lies."""
    repeated = [path for path, count in Counter(paths).items() if count > 1]
    if repeated:
        raise UserError(f"{table}: {repeated[0]} is listed more than once ({len(repeated)} such files). "
                        "Keep one line of each.")
    if not any((root / path).exists() for path in paths):
        raise UserError(f"{table}: none of its {len(paths)} files exists under {root}, not even {paths[0]}. "
                        "Give the folder that its paths start from as --root.")


# the kinds of tables


def _read(table: Path, speaker: str | None) -> tuple[list[Row], dict[str, int] | None]:
    """(rows, class name -> index where the table has it). speaker: as in find."""
    if table.is_dir() or table.suffix == ".json":
        return _s3prl(table)
    if table.suffix in (".jsonl", ".csv"):
        records = _csv_records(table) if table.suffix == ".csv" else _jsonl_records(table)
        return [_row(record, f"{table}: line {number}", speaker) for number, record in records], None
    raise UserError(f"{table}: unknown kind of table {table.suffix!r}; "
                    "expected .csv, .jsonl (EmoBox) or .json (S3PRL).")


def _csv_records(table: Path) -> list[tuple[int, Any]]:
    """(number, column -> text) of each line below the header."""
    try:
        with open(table, encoding="utf-8-sig", newline="") as file:
            return list(enumerate(csv.DictReader(file), 2))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{table}: expected CSV, found text that does not parse ({error}).") from None


def _jsonl_records(table: Path) -> list[tuple[int, Any]]:
    """(number, value) of each line that is not empty."""
    try:
        with open(table, encoding="utf-8-sig") as file:
            return [(number, json.loads(line)) for number, line in enumerate(file, 1) if line.strip()]
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{table}: expected one JSON object a line, "
                        f"found text that does not parse ({error}).") from None


def _row(record: Any, where: str, pattern: str | None) -> Row:
    """A record as a Row.

    where: the line, for errors; pattern: finds the speaker in the file's path, and goes before a column speaker
    """
    if not isinstance(record, dict):
        raise UserError(f"{where}: expected a JSON object with wav and emo, found {record!r}.")
    row = Row(**{field: _first(record, names) for field, names in COLUMNS.items()})
    for field, value in (("file", row.file), ("emotion", row.emotion)):
        if not value:
            raise UserError(f"{where}: no {field}; expected a column {' or '.join(COLUMNS[field])}, "
                            f"found {some(record)}. Add it.")
    if not pattern and not row.speaker:
        pattern = EMOBOX_SPEAKERS.get(str(record.get("dataset")))
    if pattern:
        return row._replace(speaker=_speaker(pattern, row.file, where))
    if not row.speaker:
        raise UserError(f"{where}: no speaker of {row.file}; folds must not share speakers. Add a column speaker, or "
                        "give --speaker REGEX with one group that finds it in the file's path.")
    return row


def _first(record: Mapping[str, Any], names: Iterable[str]) -> str:
    """The first value of these columns that is not empty, as text; '' where there is none."""
    for name in names:
        if record.get(name) not in (None, ""):
            return str(record[name]).strip()
    return ""


def _speaker(pattern: str, path: str, where: str) -> str:
    try:
        match = re.search(pattern, path)
        speaker = match[1] if match else None
    except (re.error, IndexError) as error:
        raise UserError(f"speaker={pattern!r}: expected a regular expression with one group ({error}).") from None
    if not speaker:
        raise UserError(f"{where}: {pattern!r} finds no speaker in {path}. Change --speaker, or add a column speaker.")
    return speaker


def _s3prl(table: Path) -> tuple[list[Row], dict[str, int]]:
    """(rows, labels) of a S3PRL metadata file, or of a folder of Session<k>/test_meta_data.json."""
    if table.is_dir():
        paths = sorted(table.glob("Session*/test_meta_data.json"))
        fold_of = {path: path.parent.name.removeprefix("Session") for path in paths}
    else:
        fold_of = {table: ""}
    if not fold_of:
        raise UserError(f"{table}: found no Session<k>/test_meta_data.json; "
                        "expected S3PRL's metadata folder or a table file.")
    rows: list[Row] = []
    labels: dict[str, int] = {}
    for path, fold in fold_of.items():
        metadata = Metadata.read(path)
        if labels and labels != metadata.labels:
            raise UserError(f"{path}: labels {metadata.labels} differ from {labels} of the sessions before. "
                            "Make them the same.")
        labels = metadata.labels
        rows += [Row(item.path, item.label, item.speaker, fold) for item in metadata.utterances]
    return rows, labels


# classes and folds


def _classes(table: Path, emotions: set[str], labels: str | None, order: dict[str, int] | None) -> Classes:
    """The table's emotions as classes: by --labels, by the table's own order, by S3PRL's names, else as they are."""
    if labels:
        class_of = _parse_labels(labels)
        unknown = sorted(emotions - set(class_of))
        if unknown:
            raise UserError(f"{table}: unknown label {unknown[0]!r}; --labels has {some(class_of)}. "
                            f"Add {unknown[0]}=CLASS, or {unknown[0]}= to leave it out.")
        names = list(dict.fromkeys(name for name in class_of.values() if name))
    elif order:
        return Classes({name: name for name in emotions}, order)
    elif all(name.lower() in ALIASES for name in emotions):
        class_of = {name: ALIASES[name.lower()] for name in emotions}
        names = [name for name in EMOTIONS if name in class_of.values()]
    else:
        class_of = {name: name for name in emotions}
        names = sorted(emotions)
    if len(names) < 2:
        raise UserError(f"{table}: found the labels {some(sorted(emotions))}, {len(names)} class; "
                        "expected at least two. Check the column emotion and --labels.")
    return Classes(class_of, {name: index for index, name in enumerate(names)})


def _parse_labels(text: str) -> dict[str, str]:
    """"neutral=neu,fear=" -> {"neutral": "neu", "fear": ""}."""
    class_of = {}
    for item in text.split(","):
        emotion, _, name = item.partition("=")
        class_of[emotion.strip()] = name.strip()
    return class_of


def _relative(path: str, root: Path) -> str:
    """Relative to the root where it lies under it; S3PRL joins both, so an absolute path elsewhere works too."""
    path = os.path.normpath(path)
    inside = os.path.isabs(path) and Path(path).is_relative_to(root)
    return os.path.relpath(path, root) if inside else path


def _given_folds(table: Path, rows: list[Row]) -> dict[str, int]:
    """Speaker -> fold number from the fold column."""
    values = {row.fold for row in rows}
    if "" in values:
        raise UserError(f"{table}: some lines have a fold and some have none. Give one for each, or none at all.")
    numbers = _fold_numbers(values)
    fold_of: dict[str, int] = {}
    for row in rows:
        number = numbers[row.fold]
        if fold_of.setdefault(row.speaker, number) != number:
            raise UserError(f"{table}: speaker {row.speaker} is in more than one fold; folds must not share speakers. "
                            "Change the column fold, or remove it.")
    return fold_of


def _fold_numbers(values: set[str]) -> dict[str, int]:
    """A fold's name in the table -> its number: the one that ends the name.

    Where a name ends in none, or two names in the same, it is each name's place among the sorted ones.
    """
    numbers = {}
    for value in values:
        match = re.fullmatch(r"\D*0*([1-9]\d*)", value)
        if match:
            numbers[value] = int(match[1])
    if len(set(numbers.values())) < len(values):
        return {value: place for place, value in enumerate(sorted(values), 1)}
    return numbers


CORPUS = Corpus("table", find, "not known: the table does not say")
