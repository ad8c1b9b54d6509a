"""Hidden states that outlive a run: one SQLite file in a folder, shared by all runs that are given the folder."""

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch

Result = TypeVar("Result")

Precision = Literal["float32", "float16"]

FILE = "states.sqlite"

APPLICATION, VERSION = 0x53334444, 1
"""What SQLite keeps in the file's header: that it is ours, and what its table looks like."""

PAGES = 8192
"""Bytes that SQLite may take for an entry besides: it takes whole pages."""

PATIENCE = 60.0
"""Seconds to wait for other processes; each holds the file for one entry."""

CREATE = """CREATE TABLE states (key TEXT PRIMARY KEY, layers INTEGER, frames INTEGER, dim INTEGER, data BLOB,
                                 digest BLOB)"""

DAMAGED = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR)
"""SQLite's codes for a file that is no database, or one without our table."""

BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class StateStore:
    """Key -> hidden states, float32 [L, T, D], in <folder>/states.sqlite; all of a file's in one precision.

    Several processes may use it at once. When it has grown past `limit_bytes`, the oldest entries leave. Each entry has
    a checksum, and one that is damaged is as good as none. Trouble is never an error, for all can be computed anew: a
    file that is damaged or not ours is moved away; where the disk does not take or give any more, the run goes on
    without. Either is told once. Reading executes no code.
    """

    def __init__(self, folder: str | Path, limit_bytes: float, precision: Precision = "float32") -> None:
        self.folder, self.limit = Path(folder), limit_bytes
        self.dtype = np.dtype(precision).newbyteorder("<")
        self.readable = self.writable = True
        self._database: sqlite3.Connection | None = None
        self._inode = 0  # of the file that is open

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / FILE

    def holds(self, key: str) -> bool:
        """Whether there is an entry, without reading its states."""
        query = "SELECT count(*) FROM states WHERE key = ?"
        return bool(self._try(lambda database: database.execute(query, (key,)).fetchone()[0]))

    def read(self, key: str) -> torch.Tensor | None:
        """The states of a key, float32 [L, T, D]; None where there are none, or damaged ones."""
        return self._try(lambda database: self._read(database, key))

    def write(self, key: str, states: torch.Tensor) -> None:
        """Keep states, float32 [L, T, D]."""
        if self.writable and states.nbytes <= self.limit:
            self._try(lambda database: self._write(database, key, states))

    def has_room(self, nbytes: int) -> bool:
        """Whether so many bytes more would drive nothing out."""
        used = self._try(_used)
        return self.writable and used is not None and used + nbytes + PAGES <= self.limit

    def close(self) -> None:
        """Close the file; the next call opens it again."""
        if self._database:
            self._database.close()
        self._database = None

    # entries

    def _read(self, database: sqlite3.Connection, key: str) -> torch.Tensor | None:
        query = "SELECT layers, frames, dim, data, digest FROM states WHERE key = ?"
        row = database.execute(query, (key,)).fetchone()
        if row is None:
            return None
        *shape, data, digest = row
        if len(data) != self.dtype.itemsize * np.prod(shape) or hashlib.sha256(data).digest() != digest:
            if self.writable:
                database.execute("DELETE FROM states WHERE key = ?", (key,))
            return None
        return torch.from_numpy(np.frombuffer(data, self.dtype).astype(np.float32).reshape(shape))

    def _write(self, database: sqlite3.Connection, key: str, states: torch.Tensor) -> None:
        data = states.numpy().astype(self.dtype).tobytes()
        row = (key, *states.shape, data, hashlib.sha256(data).digest())
        with _transaction(database):
            database.execute("INSERT OR REPLACE INTO states VALUES (?, ?, ?, ?, ?, ?)", row)
            gone = 1
            while gone and _used(database) > self.limit:
                oldest = "DELETE FROM states WHERE rowid = (SELECT min(rowid) FROM states)"
                gone = database.execute(oldest).rowcount

    # the file

    def _try(self, work: Callable[[sqlite3.Connection], Result]) -> Result | None:
        """What `work` gives; None where the file does not let it."""
        for _ in range(2):  # the second time with a new file
            if not self.readable:
                break
            try:
                return work(self._open())
            except (sqlite3.Error, OSError, TypeError, ValueError) as error:  # a foreign table's rows are anything
                code = getattr(error, "sqlite_errorcode", None)
                code = None if code is None else code & 0xFF  # the rest tells kinds apart
                if code in BUSY:
                    return None
                if code not in DAMAGED and not isinstance(error, TypeError | ValueError):
                    self._give_up(error, code)
                    return None
                self._move_away(error)
        return None

    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            database = sqlite3.connect(self.path, PATIENCE, isolation_level=None, check_same_thread=False)
            self._database, self._inode = database, self.path.stat().st_ino
            database.execute("PRAGMA synchronous = OFF")  # what a power cut takes is computed anew
            if not _is_ours(database):
                _create(database)
        return self._database

    def _move_away(self, error: Exception) -> None:
        """Give a damaged or foreign file another name, unless another process has done so."""
        self.close()
        if not self.path.exists() or self.path.stat().st_ino != self._inode:
            return
        number = 1
        while (target := self.path.with_name(f"{FILE}.damaged{number}")).exists():
            number += 1
        try:
            os.replace(self.path, target)
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{self.path}-journal", f"{target}-journal")
        except OSError as refused:
            self._give_up(refused, None)
            return
        _tell(f"{self.path}: damaged, or not of this version ({error}). It is {target.name} now, and begun anew.")

    def _give_up(self, error: Exception, code: int | None) -> None:
        """Go on without the file; one that cannot be written may still be read."""
        _tell(f"{self.path}: cannot be used any more ({error}). The run goes on without keeping states there.")
        self.writable = False
        if code not in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL):
            self.readable = False
            self.close()


@contextlib.contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # some errors have ended it already
            database.execute("ROLLBACK")
        raise


def _is_ours(database: sqlite3.Connection) -> bool:
    marks = [database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
    return marks == [APPLICATION, VERSION]


def _create(database: sqlite3.Connection) -> None:
    """Make the table; ValueError for a database that holds something else."""
    with _transaction(database):
        if _is_ours(database):
            return  # another process was first
        if database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise ValueError("another database")
        database.execute(CREATE)
        database.execute(f"PRAGMA application_id = {APPLICATION}")
        database.execute(f"PRAGMA user_version = {VERSION}")


def _used(database: sqlite3.Connection) -> int:
    """Bytes that entries take in the file."""
    count, free, size = (database.execute(f"PRAGMA {name}").fetchone()[0]
                         for name in ("page_count", "freelist_count", "page_size"))
    return (count - free) * size


def _tell(text: str) -> None:
    print(f"[s3prl_dd] - {text}")
