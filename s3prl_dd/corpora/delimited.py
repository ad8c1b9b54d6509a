"""Tables as people have them: CSV, TSV or JSON lines, and which of their columns is what."""

import csv
import io
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import UserError
from ..files import read_json
from .base import some
from .text import read_text, tidied, value_of

COLUMNS = {
    "file": ("file", "wav", "path", "filename", "filepath", "wavpath", "audio", "audiopath"),
    "emotion": ("emotion", "emo", "label", "emoclass", "category"),
    "speaker": ("speaker", "spk", "speakerid", "spkid", "spkrid"),
    "fold": ("fold", "session"),
    "split": ("split", "splitset", "partition", "set", "subset"),
    "start": ("start", "starttime"),
    "end": ("end", "endtime"),
}
"""What a column says -> the names it may have, in the spelling of plain()."""

DELIMITERS = (",", ";", "\t", "|")


class Record(NamedTuple):
    """A line of a table. values: column, as the table writes it -> text as of value_of(), '' where there is none."""

    line: int
    values: dict[str, str]


class Table(NamedTuple):
    """columns: in the table's order; records: all lines that are not empty."""

    columns: list[str]
    records: list[Record]


def plain(name: str) -> str:
    """A name without what does not count in it: case, spaces, underscores, hyphens and how Unicode writes a letter."""
    return re.sub(r"[\s_-]+", "", unicodedata.normalize("NFKC", tidied(name))).casefold()


def read_delimited(path: Path, also: tuple[str, ...] = ()) -> Table:
    """A CSV with a header, and comma, semicolon, tab or bar between fields; UserError names a line that does not fit.

    also: encodings to try beside UTF-8 and UTF-16
    """
    text = read_text(path, also)
    if "\n" not in text:
        text = text.replace("\r", "\n")  # old Macs', and Excel's for them
    delimiter, first = _delimiter(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    records, line = [], 1
    try:
        for fields in reader:
            here, line = line, reader.line_num + 1
            if here < first or not any(field.strip() for field in fields):
                continue
            if not header:
                header = [field.strip() for field in fields]
                continue
            _check_width(f"{path}: line {here}", header, fields)
            values = {name: value_of(field) for name, field in zip(header, fields, strict=True) if name}
            records.append(Record(here, values))
    except csv.Error as error:
        raise UserError(f"{path}: line {line}: expected CSV, found text that does not parse ({error}). "
                        "Close or double its quotation marks.") from None
    if not header:
        raise UserError(f"{path}: an empty table; expected a header such as file,emotion,speaker.")
    return Table([name for name in header if name], records)


def _delimiter(text: str) -> tuple[str, int]:
    """(what separates the fields, the line on which the header begins): what gives the most columns that we know."""
    head, _, rest = text.partition("\n")
    told = re.fullmatch(r"sep=(.)\r?", head)
    if told:  # Excel's
        return told[1], 2

    def columns_by(delimiter: str) -> tuple[int, int]:
        names = next(csv.reader([head.rstrip("\r")], delimiter=delimiter), [])
        known = {name for names_of_field in COLUMNS.values() for name in names_of_field}
        return len(known & {plain(name) for name in names}), len(names)

    return max(DELIMITERS, key=columns_by), 1


def _check_width(where: str, header: list[str], fields: list[str]) -> None:
    if len(fields) == len(header):
        return
    surplus = f", {fields[len(header)]!r} is one too many" if len(fields) > len(header) else ""
    raise UserError(f"{where}: {len(fields)} fields{surplus}; the header has {len(header)} ({some(header)}). Put a "
                    "value that holds the separator in quotation marks, or write an empty field where there is none.")


def read_json_lines(path: Path) -> Table:
    """One JSON object a line, as EmoBox has them, or a list of them: line is then the place in it."""
    columns: dict[str, None] = {}
    records = []
    for number, value in _json_values(path):
        if not isinstance(value, dict):
            raise UserError(f"{path}: line {number}: expected a JSON object with wav and emo, found {value!r:.60}.")
        columns |= dict.fromkeys(value)
        records.append(Record(number, {name: _as_text(item) for name, item in value.items()}))
    return Table(list(columns), records)


def is_records(path: Path) -> bool:
    """Whether a JSON file is a list, as pandas writes records, and not one object."""
    return read_text(path).lstrip().startswith("[")


def _json_values(path: Path) -> Iterator[tuple[int, Any]]:
    """(line or place, value) of each line that is not empty, or of each item of a list."""
    if is_records(path):
        yield from enumerate(read_json(path, "table"), 1)
        return
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}: line {number}: expected one JSON object a line, "
                            f"found text that does not parse ({error}).") from None


def _as_text(value: Any) -> str:
    return "" if value is None else value_of(str(value))


def choose(path: Path, table: Table, asked: str | None) -> dict[str, str]:
    """What a column says (a key of COLUMNS) -> the table's column; what the table does not tell is not there.

    asked: "file=FileName,emotion=EmoClass", which goes before the names that we know; an empty name: no such column
    Two columns that could be the same thing, and a name that the table does not have, are a UserError.
    """
    chosen = _asked_for(path, table, asked)
    for field, names in COLUMNS.items():
        if field in chosen:
            continue
        fitting = [name for name in table.columns if plain(name) in names and _has_values(table, name)]
        if len(fitting) > 1:
            raise UserError(f"{path}: its columns {fitting[0]!r} and {fitting[1]!r} could both be the {field}. Say "
                            f"which: --columns {field}={fitting[0]}; or remove one.")
        if fitting:
            chosen[field] = fitting[0]
    chosen = {field: name for field, name in chosen.items() if name}
    used = list(chosen.values())
    twice = [name for name in used if used.count(name) > 1]
    if twice:
        raise UserError(f"{path}: --columns {asked}: {twice[0]!r} stands for two things. "
                        "Give each a column of its own.")
    return chosen


def _has_values(table: Table, name: str) -> bool:
    """Whether a column has something in it; where there are no lines at all, it might."""
    return not table.records or any(record.values.get(name) for record in table.records)


def _asked_for(path: Path, table: Table, asked: str | None) -> dict[str, str]:
    """--columns as a dict; names count as they are written, else without case, spaces, underscores and hyphens."""
    chosen: dict[str, str] = {}
    for field, name in pairs(asked):
        if field not in COLUMNS:
            raise UserError(f"--columns {asked}: {field!r}; expected {', '.join(COLUMNS)}.")
        fitting = [column for column in table.columns if column == name]
        fitting = fitting or [column for column in table.columns if plain(column) == plain(name)]
        if name and not fitting:
            raise UserError(f"{path}: --columns {field}={name}: no such column, found {some(table.columns)}.")
        chosen[field] = fitting[0] if name else ""
    return chosen


def pairs(text: str | None) -> Iterable[tuple[str, str]]:
    """"a=x,b=" -> ("a", "x"), ("b", ""); a part with a comma stands in quotation marks."""
    for item in next(csv.reader([text or ""], skipinitialspace=True), []):
        name, _, value = item.partition("=")
        yield name.strip(), value.strip()
