"""A corpus' files by size and digest: what it is known by again when it has moved.

    <metadata>/files.json    path, as the lists have it -> "bytes sha256", of the whole file

Every file is hashed once when the corpus is prepared, and again when another root is given for it. The time of
files.json is when they were last known to be the same: what was touched since is hashed again before a stage hears it.
"""

import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from ..errors import UserError
from ..files import file_digest, read_json, write_json
from .ahead import ahead
from .audio import AudioError
from .metadata import CORPUS_FILE, Metadata, read_corpus
from .text import shown

FILE = "files.json"

WORKERS = 2
"""Threads that hash."""

SLACK = 2.0
"""Seconds by which the times of two disks may differ."""


class Known(NamedTuple):
    """What a file is known by: its bytes on disk, and their SHA-256 as hex."""

    size: int
    digest: str

    @classmethod
    def of(cls, path: Path) -> "Known":
        """A file's; an AudioError for one that is not there."""
        if not path.is_file():
            raise AudioError(path, "no such file", "Check the path, or unpack the corpus again.")
        return cls(path.stat().st_size, file_digest(path))


Inventory = dict[str, Known]
"""Path, as the lists have it -> what the file is known by."""


def take_inventory(root: Path, paths: Iterable[str]) -> Inventory:
    """The files of these paths under `root`, with progress."""
    names = list(dict.fromkeys(paths))
    found = ahead(lambda name: Known.of(root / name), names, WORKERS, limit=100)
    progress = tqdm(zip(names, found, strict=True), total=len(names), desc="hashing", unit="file", leave=False)
    return dict(progress)


def twins(inventory: Inventory) -> list[list[str]]:
    """Groups of paths whose files are the same byte by byte, in their order."""
    groups: dict[Known, list[str]] = {}
    for path, known in inventory.items():
        groups.setdefault(known, []).append(path)
    return [group for group in groups.values() if len(group) > 1]


def write_inventory(metadata: Path, inventory: Inventory) -> None:
    """Write files.json of a metadata folder."""
    write_json(metadata / FILE, {path: f"{known.size} {known.digest}" for path, known in inventory.items()})


def read_inventory(metadata: str | Path) -> Inventory:
    """files.json of a metadata folder; empty where there is none, as in folders of older versions."""
    path = Path(metadata) / FILE
    if not path.is_file():
        return {}
    try:
        rows = {name: text.split() for name, text in read_json(path, "inventory of a corpus").items()}
        return {name: Known(int(size), digest) for name, (size, digest) in rows.items()}
    except (AttributeError, ValueError):
        raise UserError(f"{path}: expected path to \"bytes sha256\". Delete the file; a moved corpus can then "
                        "be checked by names and total size only.") from None


def check_same(metadata: str | Path, root: str | Path) -> None:
    """UserError, with the first difference, where the files under `root` are not those that were prepared.

    All names and sizes are compared first, then the content of every file. Metadata of older versions say nothing of
    it: then the files must be there, and together have the bytes that corpus.json tells.
    """
    metadata, root = Path(metadata), Path(root)
    known = read_inventory(metadata)
    if not known:
        _check_total(metadata, root)
        return
    for name, before in known.items():
        here = _size(metadata, root, name)
        if here != before.size:
            raise _another(metadata, root, f"{shown(name)} has {here} bytes there, it had {before.size}")
    for name, now in take_inventory(root, known).items():
        if now != known[name]:
            raise _another(metadata, root, f"{shown(name)} has another content there")


def check_in_place(metadata: str | Path, root: str | Path) -> None:
    """UserError where a file under `root` is another than when the metadata folder was made, or last checked.

    Sizes of all files are compared, and the content of those that were touched since. A file that is not there is left
    to whoever reads it, a folder of an older version is not checked.
    """
    metadata, root, now = Path(metadata), Path(root), time.time()
    known, file = read_inventory(metadata), metadata / FILE
    since = file.stat().st_mtime - SLACK if known else now
    touched = []
    for name, before in known.items():
        if not (root / name).is_file():
            continue
        about = (root / name).stat()
        if about.st_size != before.size:
            raise _changed(metadata, root / name, f"it has {about.st_size} bytes instead of {before.size}")
        if about.st_ctime > since:
            touched.append(name)
    for name, found in take_inventory(root, touched).items():
        if found != known[name]:
            raise _changed(metadata, root / name, "it has another content")
    if touched:
        with contextlib.suppress(OSError):  # of another user, or on a disk that may only be read: they are hashed again
            os.utime(file, (now, now))


def _check_total(metadata: Path, root: Path) -> None:
    """As check_same, by what metadata of older versions tell."""
    lists = map(Metadata.read, metadata.glob("Session*/*_meta_data.json"))
    paths = {utterance.path for part in lists for utterance in part.utterances}
    total = sum(_size(metadata, root, name) for name in sorted(paths))
    told = read_corpus(metadata).audio_bytes
    if told and total != told:
        raise _another(metadata, root, f"its files have {total} bytes together, they had {told}")


def _size(metadata: Path, root: Path, name: str) -> int:
    """Bytes of a file; UserError where it is missing."""
    path = root / name
    if not path.is_file():
        raise _another(metadata, root, f"{shown(name)} is not there")
    return path.stat().st_size


def _changed(metadata: Path, file: Path, what: str) -> UserError:
    return UserError(f"{shown(file)}: {what} since {metadata} was made, and what was made of it before would not fit. "
                     "Put the file back, or give another --out to prepare the corpus as it is now.")


def _another(metadata: Path, root: Path, what: str) -> UserError:
    return UserError(f"{root}: not the corpus that {metadata / CORPUS_FILE} describes: {what}. Give the folder to "
                     "which it has moved as --root, or take another --out to prepare this one.")
