"""The one exception that is the user's to fix, and what others say, in one line."""

import difflib
import re
from collections.abc import Callable, Iterable


class UserError(Exception):
    """Bad input: the message names the file, what was found, what was expected and what to do.

    The command line prints it without a traceback and exits with 2.
    """


class DiskError(UserError):
    """What the disk did not take: it is full, read-only, or of another user."""


def one_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split())


def first_line(error: BaseException) -> str:
    """What an error says, its first line alone."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def load_failure(error: BaseException) -> str:
    """Why a file could not be loaded, in one line; of torch's refusal of code inside it, which code it asks for."""
    text = str(error).strip()
    asked = re.search(r"\bGLOBAL ([\w.]+)", text)
    if asked:
        return f"it asks for code, {asked[1]}, which is not run"
    first = text.splitlines()[0].split(". ")[0][:300] if text else ""
    if first.startswith("Weights only load failed"):
        return "not a checkpoint of torch"
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "", written: Callable[[str], str] = str) -> str:
    """Returns " Did you mean a or b?" with a leading space, or "" if nothing is close.

    otherwise: the sentence for when nothing is close; written: how each name is shown, for example repr for keys
    """
    close = [written(found) for found in difflib.get_close_matches(name, list(known), n=3)]
    hint = f"Did you mean {' or '.join(close)}?" if close else otherwise
    return f" {hint}" if hint else ""
