"""Files written whole or not at all, and read with an error that helps."""

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError

from .errors import DiskError, UserError, one_line

log = logging.getLogger("s3prl_dd")

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The system's codes for no more room: on the disk, for this user, for this file."""

CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM)
"""Those for a disk or a folder that may only be read."""


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it takes the place of `path` only if the block ends well.

    On an exception, a kill or a full disk the old file stays as it was. Missing folders are made. What the disk refuses
    is a DiskError.
    """
    path = Path(path)
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(descriptor)
        yield Path(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes private files; this is the mode that open() gives
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        raise DiskError(f"{path}: could not be written ({_reason(error)}). The file that was there before is "
                        f"untouched. {_remedy(error)}") from error
    finally:
        if temporary:
            with contextlib.suppress(FileNotFoundError):
                os.remove(temporary)


def save_torch(value: Any, path: str | Path, *options: Any, **named: Any) -> None:
    """torch.save by atomic_path; the system's error, which torch hides behind one of its own, is a DiskError too."""
    with atomic_path(path) as temporary, open(temporary, "wb") as opened:
        try:
            torch.save(value, opened, *options, **named)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def disk_error(error: BaseException, path: str | Path) -> DiskError | None:
    """What the disk refused while `path` (a file, or the folder of many) was written; None for another error."""
    if isinstance(error, DiskError):
        return error
    code = _code(error)
    if code not in (*FULL, *CLOSED):
        return None
    what = "could not be written" if code in FULL else "could not be read or written"
    return DiskError(f"{path}: {what} ({_reason(error)}). {_remedy(error)}")


def _code(error: BaseException) -> int | None:
    """The system's code of an error; safetensors has it in its text."""
    if isinstance(error, OSError):
        return error.errno
    told = re.search(r"\(os error (\d+)\)", str(error)) if isinstance(error, SafetensorError) else None
    return int(told[1]) if told else None


def _reason(error: BaseException) -> str:
    """Why the disk refused, without the name of a temporary file."""
    return (isinstance(error, OSError) and error.strerror) or one_line(error)


def _remedy(error: BaseException) -> str:
    if _code(error) in FULL:
        return "Make room on the disk and give the same command again: it goes on from what is there."
    return "Check the folder and its permissions, or choose another one."


def is_writable(folder: str | Path) -> bool:
    """Whether files can be made in a folder, or, where there is none yet, in the nearest one above."""
    folder = Path(folder).absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return os.access(folder, os.W_OK)


def _umask() -> int:
    """The process' umask; the system tells it only when it is set."""
    umask = os.umask(0)
    os.umask(umask)
    return umask


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 `text`, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: str | Path, what: str = "file") -> Any:
    """Read JSON; a missing or broken file is a UserError that names it as `what`."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such {what}. Check the path, or run the stage that writes it.") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path}: expected a {what} in JSON, found text that does not parse ({error}).") from None


def read_object(path: str | Path, what: str, remedy: str) -> dict[str, Any]:
    """Read a JSON object, as read_json does; other JSON is a UserError too, which ends in `remedy`, what to do."""
    found = read_json(path, what)
    if not isinstance(found, dict):
        raise UserError(f"{path}: expected a {what}, a JSON object, found {found!r:.60}. {remedy}")
    return found


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def text_digest(lines: Iterable[str]) -> str:
    """SHA-256 of an iterable of strings, as hex; their order counts."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def lock_alone(file: int | IO[Any], wait: bool = False) -> bool:
    """Hold an open file or folder for this process until it is closed; False where another process does.

    wait: until that one has let it go. A file system without locks keeps nobody out.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


@contextlib.contextmanager
def folder_held(folder: Path, refusal: str | None) -> Iterator[None]:
    """Hold a folder for this process; it is made where it is lacking, and goes again where nothing came of it.

    Where another process holds it: a UserError, refusal, or without one this waits for it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    opened = os.open(folder, os.O_RDONLY)
    try:
        if not lock_alone(opened):
            if refusal is not None:
                raise UserError(refusal)
            log.info("%s: another process works there; waiting for it", folder)
            lock_alone(opened, wait=True)
        yield
    finally:
        os.close(opened)
        with contextlib.suppress(OSError):
            folder.rmdir()
