"""S3PRL's checkpoints written whole or not at all, the newest whole one found again, and a full disk told in one line.

S3PRL writes states-*.ckpt and dev-best.ckpt in place: a kill or a full disk in the middle would leave a half.
"""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch

from ..errors import DiskError, UserError
from ..files import disk_error, save_torch
from .featurizer import read_checkpoint

NO_ROOM = 74
"""Exit code of a run that the disk refused, EX_IOERR: its log may not have taken the message."""


def newest_whole(states: Sequence[Path]) -> Path | None:
    """The last of an expdir's states (oldest first) that is whole, telling which were skipped; None where none is."""
    for path in reversed(states):
        try:
            read_checkpoint(path)
        except UserError as error:
            print(f"[s3prl_dd] - skipped: {error}", file=sys.stderr)
        else:
            return path
    return None


@contextlib.contextmanager
def whole_checkpoints(expdir: str | Path) -> Iterator[None]:
    """Inside, torch.save writes a file whole or not at all; what killed runs left half of goes."""
    for path in Path(expdir).glob(".*.ckpt.*"):
        path.unlink(missing_ok=True)
    save = torch.save

    def save_whole(value: Any, file: Any, *options: Any, **named: Any) -> None:
        if isinstance(file, str | os.PathLike):
            save_torch(value, Path(file), *options, **named)  # it comes back here with a file that is open
        else:
            save(value, file, *options, **named)

    torch.save = save_whole  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.save = save


@contextlib.contextmanager
def telling_of_the_disk(expdir: str | Path) -> Iterator[None]:
    """What the disk refuses inside is a DiskError that names the expdir.

    In a thread it ends the process: TensorBoard's would die in silence, and the run wait for it for ever.
    """
    before = threading.excepthook

    def end(told: threading.ExceptHookArgs) -> None:
        error = disk_error(told.exc_value, expdir) if told.exc_value else None
        if error:
            exit_without_room(error)
        before(told)

    threading.excepthook = end
    try:
        yield
    except OSError as error:
        raise disk_error(error, expdir) or error from None
    finally:
        threading.excepthook = before


def exit_without_room(error: DiskError) -> NoReturn:
    """End the process with the message, if there is room for it, and the code NO_ROOM."""
    with contextlib.suppress(OSError):
        print(f"error: {error}", file=sys.stderr, flush=True)
    os._exit(NO_ROOM)  # at its end Python would write what the disk does not take
