"""Files written whole or not at all, and read with an error that helps."""

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path

from safetensors import SafetensorError

from .errors import UserError


@contextlib.contextmanager
def atomic_path(path):
    """Yield a temporary path beside `path`; it takes the place of `path` only if the block ends well.

    On an exception, a kill or a full disk the old file stays as it was. Missing folders are made.
    """
    path, temporary = Path(path), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(descriptor)
        yield Path(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)  # mkstemp makes private files; give the mode that open() would have given
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: could not be written ({error}). The file that was there before is untouched.") from error
    finally:
        if temporary:
            with contextlib.suppress(FileNotFoundError):
                os.remove(temporary)


def write_text(path, text):
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path, value):
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path, what="file"):
    """Read JSON; a missing or broken file is a UserError that names it as `what`."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such {what}. Check the path, or run the stage that writes it.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected a {what} in JSON, found text that does not parse ({error}).") from None


def file_digest(path):
    """SHA-256 of a file's bytes, as hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def text_digest(lines):
    """SHA-256 of an iterable of strings, as hex; their order counts."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
