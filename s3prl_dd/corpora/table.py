"""Any corpus given as a table: CSV, EmoBox JSONL or S3PRL JSON.

The table is `--table FILE` with paths relative to `--root FOLDER`, or `--root FILE` alone with paths relative to its folder.

    CSV           header file,emotion,speaker and, optional, fold (or session)
    EmoBox JSONL  one object a line with wav and emo, and speaker (or spk) where there is one; EmoBox' own lists have none:
                  it is read from the file name for corpora we know, else with speaker=REGEX
    S3PRL JSON    labels and meta_data, as metadata.py writes; or the folder of Session<k>/test_meta_data.json, whose folds are kept
"""

import csv
import json
import os
import re
from collections import Counter
from pathlib import Path

from ..errors import UserError
from .base import EMOTIONS, Corpus, Listing, some, spread
from .metadata import Metadata, Utterance

ALIASES = {"neu": "neu", "neutral": "neu", "hap": "hap", "happy": "hap", "happiness": "hap",
           "ang": "ang", "angry": "ang", "anger": "ang", "sad": "sad", "sadness": "sad"}
COLUMNS = {"file": ("file", "wav", "path"), "emotion": ("emotion", "emo", "label"), "speaker": ("speaker", "spk"),
           "fold": ("fold", "session")}
EMOBOX_SPEAKERS = {"iemocap": r"(Ses\d\d[FM])_[^/]*$", "ravdess": r"-(\d\d)\.\w+$", "emodb": r"(\d\d)\w+\.\w+$",
                   "cremad": r"(1\d{3})_\w+\.\w+$"}  # EmoBox' name of a corpus -> where its file names have the speaker


def find(root, table=None, folds=5, labels=None, speaker=None):
    """table: the file; folds: how many, where the table has no fold column (speakers are dealt out by their size)
    labels: "neutral=neu,happiness=hap,fear=", the table's emotions and our classes in their order; an empty one is left out
    speaker: regular expression with one group that finds the speaker in a file's path
    """
    if table is None:
        raise UserError(f"{root}: a folder; which table lists its files? Give --table FILE (CSV, EmoBox JSONL or S3PRL JSON), "
                        "or the file itself as --root.")
    table = Path(table).expanduser().absolute()
    if not table.exists():
        raise UserError(f"{table}: no such table. Check --table.")
    if isinstance(folds, bool) or not isinstance(folds, int) or folds < 2:
        raise UserError(f"folds={folds!r}: expected a whole number from 2 up.")
    order = None  # class name -> index, where the table has it
    if table.is_dir() or table.suffix == ".json":
        rows, order = _s3prl(table)
    elif table.suffix in (".jsonl", ".csv"):
        rows = _rows(table, speaker)
    else:
        raise UserError(f"{table}: unknown kind of table {table.suffix!r}; expected .csv, .jsonl (EmoBox) or .json (S3PRL).")
    if not rows:
        raise UserError(f"{table}: lists no files; expected one a line.")
    class_of, names = _classes(table, {row["emotion"] for row in rows}, labels, order)
    kept = [row for row in rows if class_of[row["emotion"]]]
    listing = Listing([], {}, names)
    listing.utterances = [Utterance(_relative(row["file"], root), class_of[row["emotion"]], row["speaker"]) for row in kept]
    repeated = [path for path, n in Counter(utterance.path for utterance in listing.utterances).items() if n > 1]
    if repeated:
        raise UserError(f"{table}: {repeated[0]} is listed more than once ({len(repeated)} such files). Keep one line of each.")
    if not any((Path(root) / utterance.path).exists() for utterance in listing.utterances):
        raise UserError(f"{table}: none of its {len(listing.utterances)} files exists under {root}, "
                        f"not even {listing.utterances[0].path}. Give the folder that its paths start from as --root.")
    left_out = Counter(row["emotion"] for row in rows if not class_of[row["emotion"]])
    if left_out:
        listing.notes.append("other emotions left out: " + ", ".join(f"{name} {n}" for name, n in left_out.items()))
    if any(row["fold"] for row in kept):
        listing.fold_of = _given_folds(table, kept)
    else:
        counts = Counter(utterance.speaker for utterance in listing.utterances)
        if len(counts) < folds:
            listing.warnings.append(f"{len(counts)} speakers give {len(counts)} folds, not {folds}")
        listing.fold_of = spread(counts, min(folds, len(counts)))
    return listing


def _rows(table, speaker):
    """Dicts of file, emotion, speaker, fold ('' where there is none), all text, from a CSV or JSONL file."""
    rows = []
    try:
        with open(table, encoding="utf-8-sig", newline="") as file:
            if table.suffix == ".csv":
                records = list(enumerate(csv.DictReader(file), 2))
            else:
                records = [(number, json.loads(line)) for number, line in enumerate(file, 1) if line.strip()]
    except (json.JSONDecodeError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{table}: expected {'CSV' if table.suffix == '.csv' else 'one JSON object a line'}, "
                        f"found text that does not parse ({error}).") from None
    for number, record in records:
        where = f"{table}: line {number}"
        if not isinstance(record, dict):
            raise UserError(f"{where}: expected a JSON object with wav and emo, found {record!r}.")
        row = {key: next((str(record[name]).strip() for name in names if record.get(name) not in (None, "")), "")
               for key, names in COLUMNS.items()}
        for key in ("file", "emotion"):
            if not row[key]:
                raise UserError(f"{where}: no {key}; expected a column {' or '.join(COLUMNS[key])}, found {some(record)}. Add it.")
        pattern = speaker or (EMOBOX_SPEAKERS.get(str(record.get("dataset"))) if not row["speaker"] else None)
        if pattern:
            row["speaker"] = _speaker(pattern, row["file"], where)
        if not row["speaker"]:
            raise UserError(f"{where}: no speaker of {row['file']}; folds must not share speakers. Add a column speaker, or "
                            "give --speaker REGEX with one group that finds it in the file's path.")
        rows.append(row)
    return rows


def _speaker(pattern, path, where):
    try:
        match = re.search(pattern, path)
        return match[1] if match else None or _no_speaker(pattern, path, where)
    except (re.error, IndexError) as error:
        raise UserError(f"speaker={pattern!r}: expected a regular expression with one group ({error}).") from None


def _no_speaker(pattern, path, where):
    raise UserError(f"{where}: {pattern!r} finds no speaker in {path}. Change --speaker, or add a column speaker.")


def _s3prl(table):
    """(rows, labels) of a S3PRL metadata file, or of a folder of Session<k>/test_meta_data.json."""
    files = {table: ""}
    if table.is_dir():
        files = {path: path.parent.name.removeprefix("Session") for path in sorted(table.glob("Session*/test_meta_data.json"))}
        if not files:
            raise UserError(f"{table}: found no Session<k>/test_meta_data.json; expected S3PRL's metadata folder or a table file.")
    rows, labels = [], None
    for path, fold in files.items():
        metadata = Metadata.read(path)
        if labels not in (None, metadata.labels):
            raise UserError(f"{path}: labels {metadata.labels} differ from {labels} of the sessions before. Make them the same.")
        labels = metadata.labels
        rows += [{"file": item.path, "emotion": item.label, "speaker": item.speaker, "fold": fold} for item in metadata.utterances]
    return rows, labels


def _classes(table, found, labels, order):
    """(emotion in the table -> class name or '', class name -> index)."""
    if labels:
        pairs = [item.partition("=")[::2] for item in labels.split(",")]
        class_of = {name.strip(): label.strip() for name, label in pairs}
        unknown = sorted(found - set(class_of))
        if unknown:
            raise UserError(f"{table}: unknown label {unknown[0]!r}; --labels has {some(class_of)}. "
                            f"Add {unknown[0]}=CLASS, or {unknown[0]}= to leave it out.")
        names = list(dict.fromkeys(label for label in class_of.values() if label))
    elif order:
        return {name: name for name in found}, order
    elif all(name.lower() in ALIASES for name in found):
        class_of = {name: ALIASES[name.lower()] for name in found}
        names = [name for name in EMOTIONS if name in class_of.values()]
    else:
        class_of = {name: name for name in found}
        names = sorted(found)
    if len(names) < 2:
        raise UserError(f"{table}: found the labels {some(sorted(found))}, {len(names)} class; expected at least two. "
                        "Check the column emotion and --labels.")
    return class_of, {name: index for index, name in enumerate(names)}


def _relative(path, root):
    """Relative to the root where it lies under it; S3PRL joins both, so an absolute path elsewhere works too."""
    path = os.path.normpath(path)
    return os.path.relpath(path, root) if os.path.isabs(path) and Path(path).is_relative_to(root) else path


def _given_folds(table, rows):
    """Speaker -> fold number from the fold column: its number, or its place among the sorted names."""
    values = {row["fold"] for row in rows}
    if "" in values:
        raise UserError(f"{table}: some lines have a fold and some have none. Give one for each, or none at all.")
    numbers = {value: int(match[1]) for value in values if (match := re.fullmatch(r"\D*0*([1-9]\d*)", value))}
    if len(set(numbers.values())) < len(values):
        numbers = {value: index for index, value in enumerate(sorted(values), 1)}
    fold_of = {}
    for row in rows:
        if fold_of.setdefault(row["speaker"], numbers[row["fold"]]) != numbers[row["fold"]]:
            raise UserError(f"{table}: speaker {row['speaker']} is in more than one fold; folds must not share speakers. "
                            "Change the column fold, or remove it.")
    return fold_of


CORPUS = Corpus("table", find, "not known: the table does not say")
