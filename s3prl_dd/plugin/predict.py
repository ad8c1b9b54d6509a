"""Emotions of recordings by a trained head.

    model = SerModel.load("result/f1/exp/real_seed0")
    for answer in predict(model, ["a.wav", "folder"]):
        print(answer.file, answer.prediction or answer.problem)
"""

import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from tqdm import tqdm

from ..corpora.ahead import ahead
from ..corpora.audio import RATE, AudioError, Samples, load_audio
from ..corpora.base import find_audio
from ..corpora.text import shown
from ..errors import UserError
from .head import WINDOW, Prediction, SerModel, cut_windows

STDIN = "-"
"""Stands for a recording on standard input."""

WORKERS, AHEAD = 2, 4
"""Threads that decode, and recordings that wait for the network at most."""

MANY = 10
"""More recordings show a progress bar."""


class Answer(NamedTuple):
    """What came of a recording. file: as given, or found in a given folder; one of the others is None."""

    file: str
    prediction: Prediction | None
    problem: str | None


class Heard(NamedTuple):
    """A recording and its wave, float32 [N] at 16 kHz, or why there is none."""

    file: str
    wave: Samples | None
    problem: str | None


def list_files(files: Iterable[str | Path]) -> list[str]:
    """The files, and of a folder every audio file in it at any depth; `-` stays. A folder without any stays too."""
    listed: list[str] = []
    for file in map(str, files):
        inside = find_audio(file) if os.path.isdir(file) else []  # where Path.is_dir raises, it says no
        listed += [str(Path(file) / path) for path in inside] or [file]
    if not listed:
        raise UserError("no recording given. Name files, folders, or - for WAV on standard input.")
    return listed


def check_files(files: Sequence[str]) -> None:
    """UserError where nothing that is given is there: told before a model is loaded. One of several is told in turn."""
    if not files:
        raise UserError("predict: give one or more recordings, folders of them, or - for standard input.")
    if not any(file == STDIN or os.path.exists(file) for file in files):
        which = shown(files[0]) if len(files) == 1 else f"{shown(files[0])} and {len(files) - 1} more"
        raise UserError(f"predict: {which}: no such file or folder. Give recordings, or folders of them.")


def predict(model: SerModel, files: Iterable[str | Path], window: float | None = WINDOW,
            windows: bool = False) -> Iterator[Answer]:
    """Answers in the files' order, each as soon as it is there; one that cannot be used has a problem, and no other
    is touched by it.

    files: files, folders (every audio file in them), `-` for standard input
    window: seconds that pass the upstream at a time, None for all at once; windows: whether each one's is told
    """
    cut_windows(0, window)  # refuses a bad one before anything is read
    for heard in ahead(_hear, list_files(files), WORKERS, AHEAD):
        yield _answer(model, heard, window, windows)


def _hear(file: str) -> Heard:
    try:
        if file == STDIN:
            return Heard(file, _read_stdin(), None)
        if os.path.isdir(file):
            return Heard(file, None, f"{shown(file)}: a folder without audio files.")
        return Heard(file, load_audio(file, RATE), None)
    except (UserError, OSError, ValueError) as error:  # ValueError: a NUL in a path
        return Heard(file, None, shown(error))


def _read_stdin() -> Samples:
    """The wave on standard input; AudioError as of a file."""
    data = sys.stdin.buffer.read()
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        file.write(data)
        file.flush()
        try:
            return load_audio(file.name, RATE)
        except AudioError as error:
            raise AudioError("standard input", error.cause, "Expected a WAV file there.") from None


def _answer(model: SerModel, heard: Heard, window: float | None, windows: bool) -> Answer:
    if heard.wave is None:
        return Answer(heard.file, None, heard.problem)
    try:
        return Answer(heard.file, model.classify(heard.wave, window, windows), None)
    except UserError as error:
        return Answer(heard.file, None, f"{shown(heard.file)}: {error}")


def tell(model: SerModel, files: Iterable[str | Path], window: float | None = WINDOW, windows: bool = False,
         as_json: bool = False, out: TextIO | None = None) -> int:
    """Predict, and print a line a recording as soon as it is there; a problem goes to stderr. returns: 0, or 1 where
    there was a problem.

    windows: a line a window instead, or in JSON a list in the recording's object
    as_json: one JSON object a line; else a table, the file's name last
    """
    out = out or sys.stdout
    listed, problems = list_files(files), 0
    if not as_json:
        print(_row(["label", "from", "to", *model.classes, "file"], model.classes), file=out)
    with tqdm(total=len(listed), desc="predict", unit="file", disable=None if len(listed) > MANY else True) as bar:
        for answer in predict(model, listed, window, windows):
            if answer.prediction is None:
                problems += 1
                bar.write(f"error: {answer.problem}", file=sys.stderr)
            for line in _lines(model, answer, as_json):
                bar.write(line, file=out)
            out.flush()
            bar.update()
    if problems:
        print(f"{problems} of {len(listed)} recordings could not be used.", file=sys.stderr)
    return 1 if problems else 0


def _lines(model: SerModel, answer: Answer, as_json: bool) -> list[str]:
    """What is printed of an answer."""
    prediction = answer.prediction
    if prediction is None:
        return []
    if as_json:
        return [json.dumps({"file": answer.file, **_plain(prediction)})]
    return [_row([part.label, f"{part.start:.2f}", f"{part.end:.2f}",
                  *(f"{value:.3f}" for value in part.probabilities.values()), shown(answer.file)], model.classes)
            for part in prediction.windows or (prediction,)]


def _plain(prediction: Prediction) -> dict[str, Any]:
    """A prediction for JSON; `windows` only where there are some."""
    plain = {**prediction._asdict(), "windows": [_plain(part) for part in prediction.windows]}
    return plain if prediction.windows else {key: value for key, value in plain.items() if key != "windows"}


def _row(cells: Sequence[str], classes: Sequence[str]) -> str:
    """A table's line: label, from, to, a probability a class, file."""
    label, start, end, *shares, file = cells
    wide = max(len("label"), *map(len, classes))
    columns = "  ".join(share.rjust(max(5, len(name))) for share, name in zip(shares, classes, strict=True))
    return f"{label.ljust(wide)}  {start:>8}  {end:>8}  {columns}  {file}"
