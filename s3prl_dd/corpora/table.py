"""Any corpus given as a table: CSV or TSV, EmoBox' JSONL or S3PRL's JSON.

The table is `--table FILE` with paths relative to `--root FOLDER`, or `--root FILE` alone with paths relative to its
folder.

    CSV, TSV      a header with file, emotion, speaker and, optional, fold or split, start and end (seconds); the names
                  that a column may have are in delimited.COLUMNS, others are told with --columns
    EmoBox JSONL  one object a line with wav and emo, and speaker (or spk) where there is one; EmoBox' own lists have
                  none: it is read from the file name for corpora we know, else with --speaker REGEX
    EmoBox folder fold_<k> with train, test and perhaps valid lists (emobox.py)
    JSON          a list of such objects, as pandas writes it
    S3PRL JSON    labels and meta_data, as metadata.py writes; or the folder of Session<k>/test_meta_data.json, whose
                  folds are kept
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError
from . import emobox
from .base import Corpus, Listing, Part, some, spread
from .delimited import choose, is_records, plain, read_delimited, read_json_lines
from .labels import classes_of
from .metadata import DEV_FILE, TEST_FILE, TRAIN_FILE, Metadata
from .rows import Parsed, Row, find_files, listing_of, parse_rows, relative, respellings, tell_respelt
from .splits import given_parts
from .text import shown, tidied, value_of

DELIMITED = (".csv", ".tsv", ".txt")
JSON_LINES = (".jsonl", ".ndjson")

FOLDS = 5
"""How many folds speakers are dealt to, where nothing says otherwise."""

SAY_NOTHING = ("metadata", "labels", "label", "table", "list", "lists", "files", "index", "data", "all", "audio",
               "train", "test", "trainmetadata", "testmetadata", "session1")
"""Names of tables and folders, in the spelling of plain(), that say nothing of which corpus it is."""


def find(
    root: Path,
    table: str | Path | None = None,
    columns: str | None = None,
    folds: int | None = None,
    speaker: str | None = None,
    emotions: str | None = None,
    allow_shared_speakers: bool = False,
) -> Listing:
    """The utterances that a table lists; the options are those of CorpusOptions.

    An option that this kind of table does not read is a UserError.
    """
    table = _check_table(root, table)
    notes: list[str] = []
    order: dict[str, int] = {}
    given: dict[int, dict[str, Part]] = {}
    if table.is_dir() and emobox.fold_folders(table):
        _refuse(table, "EmoBox' folds, whose columns and folds are known", columns=columns, folds=folds)
        return emobox.listing_of_folds(root, table, speaker, emotions, allow_shared_speakers)
    if table.is_dir() or (table.suffix.lower() == ".json" and not is_records(table)):
        _refuse(table, "S3PRL's metadata, which says what is what", columns=columns, speaker=speaker)
        rows, order, given, notes = _s3prl(root, table)
        respelt = respellings(row.speaker for row in rows)
        rows = [row._replace(speaker=tidied(row.speaker)) for row in rows]
    else:
        parsed, respelt = _rows(table, columns, speaker)
        rows, notes = find_files(root, parsed)
    if not rows:
        raise UserError(f"{table}: lists no files; expected one a line.")
    classes = classes_of(table, Counter(row.emotion for row in rows), emotions, order)
    listing = listing_of(root, table, rows, classes)
    listing.name = _name(table)
    listing.notes += [*notes, *tell_respelt(respelt)]
    listing.warnings += _alike(utterance.speaker for utterance in listing.utterances)
    kept = [row for row in rows if classes.class_of[row.emotion]]
    if given:
        _refuse(table, "lists of train, dev and test", folds=folds)
        ids = {utterance.id for utterance in listing.utterances}
        listing.given = {number: {key: part for key, part in parts.items() if key in ids}
                         for number, parts in given.items()}
        listing.notes.append("train, dev and test are the folder's own")
    elif any(row.split for row in kept):
        _refuse(table, "a column of train, dev and test (--columns split= leaves it out)", folds=folds)
        _take_splits(table, kept, listing)
    elif any(row.fold for row in kept):
        _refuse(table, "folds of its own" if table.is_dir() else "a column of folds (--columns fold= leaves it out)",
                folds=folds)
        _take_folds(table, kept, listing)
    else:
        _deal(listing, folds or FOLDS)
    return listing


def _refuse(table: Path, found: str, **options: object) -> None:
    """UserError for the first of the options that was given: they are not read where `found` is found."""
    for name, value in options.items():
        if value is not None:
            raise UserError(f"{table}: found {found}; --{name} {value} would not be read. Leave --{name} out.")


def folder_of(root: str | Path) -> Path:
    """The folder that a root stands for: a table stands for its own."""
    root = Path(root)
    is_table = root.suffix.lower() in (*DELIMITED, *JSON_LINES, ".json") and not root.is_dir()
    return root.parent if is_table else root


def _check_table(root: Path, table: str | Path | None) -> Path:
    """The table's absolute path; none, or one that does not exist, is a UserError."""
    if table is None:
        if emobox.fold_folders(root):
            return root
        raise UserError(f"{root}: a folder; which table lists its files? Give --table FILE "
                        "(CSV, TSV, EmoBox JSONL or S3PRL JSON), or the file itself as --root.")
    table = Path(table).expanduser().absolute()
    if not table.exists():
        raise UserError(f"{table}: no such table. Check --table.")
    return table


# the kinds of tables


def _rows(table: Path, columns: str | None, speaker: str | None) -> Parsed:
    """The lines of a CSV, TSV or JSONL file. columns, speaker: as in CorpusOptions."""
    kind = table.suffix.lower()
    if kind not in (*DELIMITED, *JSON_LINES, ".json"):
        raise UserError(f"{table}: unknown kind of table {table.suffix!r}; expected .csv, .tsv, .jsonl (EmoBox) or "
                        ".json (S3PRL). Export it as CSV.")
    read = read_delimited(table) if kind in DELIMITED else read_json_lines(table)
    return parse_rows(table, read, choose(table, read, columns), speaker)


def _name(table: Path) -> str:
    """What the corpus is called: as its table, or as the folder of one that is called like every other."""
    while plain(table.stem) in SAY_NOTHING and table.parent != table:
        table = table.parent
    return shown(table.stem if table.is_file() else table.name) or CORPUS.name


class OwnLists(NamedTuple):
    """S3PRL's metadata as rows. labels: class name -> index; given: as in Listing, where the folder gives lists.

    notes: sentences about its folds' numbers
    """

    rows: list[Row]
    labels: dict[str, int]
    given: dict[int, dict[str, Part]]
    notes: list[str]


def _s3prl(root: Path, table: Path) -> OwnLists:
    """A S3PRL metadata file, or a folder of Session<k>/test_meta_data.json with its folds.

    Where a fold has a dev list, or trains on what no fold tests on, the lists are given: they are kept as they are.
    """
    if not table.is_dir():
        metadata = Metadata.read(table)
        return OwnLists(_s3prl_rows(metadata, ""), metadata.labels, {}, [])
    folds = _s3prl_folds(table)
    rows = [row for number, parts in folds.items() for row in _s3prl_rows(parts["test"], number)]
    every = {(row.file, row.start, row.end): row
             for parts in folds.values() for metadata in parts.values() for row in _s3prl_rows(metadata, "")}
    labels = _same_labels(table, folds)
    if not any("dev" in parts for parts in folds.values()) and len(every) == len(rows):
        return OwnLists(rows, labels, {}, [])
    numbers = fold_numbers(set(folds))
    given = {numbers[number]: _parts_of(root, parts) for number, parts in folds.items()}
    return OwnLists(list(every.values()), labels, given, tell_numbers(numbers))


def _s3prl_folds(table: Path) -> dict[str, dict[Part, Metadata]]:
    """Number of a session -> its lists."""
    folds: dict[str, dict[Part, Metadata]] = {}
    for test in sorted(table.glob(f"Session*/{TEST_FILE}")):
        lists: dict[Part, Path] = {"train": test.parent / TRAIN_FILE, "dev": test.parent / DEV_FILE, "test": test}
        number = test.parent.name.removeprefix("Session")
        folds[number] = {part: Metadata.read(path) for part, path in lists.items() if path.is_file()}
    if not folds:
        raise UserError(f"{table}: found no Session<k>/test_meta_data.json and no fold_<k>; "
                        "expected S3PRL's metadata folder, EmoBox' folds or a table file.")
    return folds


def _s3prl_rows(metadata: Metadata, fold: str) -> list[Row]:
    return [Row(item.path, item.label, value_of(item.speaker), fold, "", item.start, item.end, 0)
            for item in metadata.utterances]


def _parts_of(root: Path, parts: dict[Part, Metadata]) -> dict[str, Part]:
    """Utterance's id, with its path as the listing has it -> its part."""
    return {replace(item, path=relative(item.path, root)).id: part
            for part, metadata in parts.items() for item in metadata.utterances}


def _same_labels(table: Path, folds: dict[str, dict[Part, Metadata]]) -> dict[str, int]:
    """The labels that all lists share; others are a UserError."""
    labels: dict[str, int] = {}
    for number, parts in folds.items():
        for part, metadata in parts.items():
            if labels and labels != metadata.labels:
                raise UserError(f"{table}: labels {metadata.labels} of {part} in Session{number} differ from {labels} "
                                "of the lists before. Make them the same.")
            labels = metadata.labels
    return labels


# folds


def _alike(speakers: Iterable[str]) -> list[str]:
    """A warning about names of speakers that could be one person's: apart in case, spaces or leading zeros alone."""
    spellings: dict[str, list[str]] = {}
    for name in dict.fromkeys(speakers):
        spellings.setdefault(re.sub(r"^(\D*)0+(?=\d)|\.0$", r"\1", plain(name)), []).append(name)
    twice = [" and ".join(map(repr, names)) for names in spellings.values() if len(names) > 1]
    if not twice:
        return []
    return [f"speakers whose names hardly differ count as different people: {some(twice, most=3)}. If they are not, a "
            "head is tested on who it has heard: write each name in one way"]


def _deal(listing: Listing, folds: int) -> None:
    """Deal the speakers to folds by their size."""
    counts = Counter(utterance.speaker for utterance in listing.utterances)
    if len(counts) < folds:
        listing.warnings.append(f"{len(counts)} speakers give {len(counts)} folds, not {folds}")
    listing.fold_of = spread(counts, min(folds, len(counts)))


def _take_splits(table: Path, rows: list[Row], listing: Listing) -> None:
    """Train, dev and test as the table's column split has them."""
    for row in rows:
        if not row.split:
            raise UserError(f"{table}: line {row.line}: no split, other lines have one. Give each line one, or "
                            "leave the splits out with --columns split=.")
    if any(row.fold for row in rows):
        raise UserError(f"{table}: it has folds and splits; which are to be taken? Leave one out: --columns fold= or "
                        "--columns split=.")
    split_of = {utterance.id: row.split for utterance, row in zip(listing.utterances, rows, strict=True)}
    parts, notes = given_parts(str(table), split_of)
    listing.given = {1: parts}
    listing.notes += notes


def _take_folds(table: Path, rows: list[Row], listing: Listing) -> None:
    """Each speaker's fold number from the fold column."""
    values = {row.fold for row in rows}
    if "" in values:
        raise UserError(f"{table}: some lines have a fold and some have none. Give one for each, or none at all.")
    numbers = fold_numbers(values)
    listing.notes += tell_numbers(numbers)
    for row in rows:
        number = numbers[row.fold]
        if listing.fold_of.setdefault(row.speaker, number) != number:
            raise UserError(f"{table}: speaker {row.speaker} is in more than one fold; folds must not share speakers. "
                            "Change the column fold, or remove it.")


def fold_numbers(values: set[str]) -> dict[str, int]:
    """A fold's name in the table -> its number: the one that ends the name.

    Where a name ends in none from 1 up, or two names in the same, it is each name's place among the sorted ones; 9 goes
    before 10.
    """
    numbers = {value: number for value in values if (number := _number_of(value))}
    if len(set(numbers.values())) < len(values):
        return {value: place for place, value in enumerate(sorted(values, key=_by_numbers), 1)}
    return numbers


def tell_numbers(numbers: dict[str, int]) -> list[str]:
    """A sentence about folds of other numbers than their names say; none where each has its own."""
    if all(_number_of(name) == number for name, number in numbers.items()):
        return []
    told = [f"fold{number} is {name!r}" for name, number in sorted(numbers.items(), key=lambda item: item[1])]
    return [f"folds are numbered by their place: {some(told, most=30)}"]


def _number_of(fold: str) -> int | None:
    """The number from 1 up that ends a fold's name; None where none does."""
    match = re.fullmatch(r"\D*0*([1-9]\d*)", fold)
    return int(match[1]) if match else None


def _by_numbers(fold: str) -> tuple[list[str | int], str]:
    """A key to sort folds by: what is a number in a name counts as one."""
    parts = re.split(r"(\d+)", fold)  # every second part is digits
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], fold


CORPUS = Corpus("table", find, "not known: the table does not say")
