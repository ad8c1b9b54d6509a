"""The list of S3PRL's voxceleb1 recipe, and a check of a tree against it before a run."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import soundfile
from tqdm import tqdm

from ..errors import UserError
from .audio import RATE
from .base import check_root

TRAIN, DEV, TEST = 1, 2, 3
PARTS = {TRAIN: "train", DEV: "dev", TEST: "test"}
"""S3PRL's numbers of the parts, and their names."""

FIRST, SPEAKERS = 10001, 1251
"""The first speaker's number, and how many there are: S3PRL's class is the number in the id - FIRST, below SPEAKERS."""


class Line(NamedTuple):
    """A line of the list. part: 1, 2 or 3; path: id10001/<video>/00001.wav."""

    part: int
    path: str

    @property
    def speaker(self) -> str:
        """The id that the path begins with."""
        return self.path.split("/")[0]


def check_voxceleb1(root: str | Path, list_file: str | Path) -> dict[str, int]:
    """Check a VoxCeleb1 tree against S3PRL's list file before a run; returns how many speakers, train, dev and test.

    root: holds <any>/wav/id10001/<video>/00001.wav (dev/wav and test/wav in the original)
    A missing or repeated file, an id outside id10001 .. id11251, audio that is not 16 kHz mono, a speaker with fewer
    than 3 utterances or without one in train is a UserError.
    """
    root, list_file = check_root(root, "VoxCeleb1"), Path(list_file)
    if not list_file.is_file():
        raise UserError(f"{list_file}: no such list. Expected S3PRL's list of lines such as "
                        "`1 id10001/1zcIwhmdeo4/00001.wav`.")
    trees = [tree for tree in sorted(root.glob("*/wav")) if tree.is_dir()]
    if not trees:
        raise UserError(f"{root}: found no folder <any>/wav; expected dev/wav and test/wav with "
                        "id10001/<video>/00001.wav inside. Give the folder above dev and test.")
    lines = _read_list(list_file)
    _check_speakers(list_file, lines)
    counts = Counter(line.part for line in lines)
    for part, name in PARTS.items():
        if not counts[part]:
            raise UserError(f"{list_file}: no line of part {part} ({name}). S3PRL's recipe needs train, dev and test.")
    for line in tqdm(lines, desc="checking VoxCeleb1", unit="file", leave=False):
        _check_wav(_find_wav(root, trees, line.path))
    return {"speakers": len({line.speaker for line in lines}), **{name: counts[part] for part, name in PARTS.items()}}


def _read_list(list_file: Path) -> list[Line]:
    """The list's lines; an empty list, a line of another form and a path listed twice are UserErrors."""
    lines: dict[str, Line] = {}
    for number, text in enumerate(list_file.read_text(encoding="utf-8").splitlines(), 1):
        where = f"{list_file}: line {number}"
        line = _parse_line(text, where)
        if line.path in lines:
            raise UserError(f"{where}: {line.path} is listed before, in {PARTS[lines[line.path].part]}; "
                            "an utterance belongs to one part. Remove one line.")
        lines[line.path] = line
    if not lines:
        raise UserError(f"{list_file}: an empty list; expected lines such as `1 id10001/1zcIwhmdeo4/00001.wav`.")
    return list(lines.values())


def _parse_line(text: str, where: str) -> Line:
    fields = text.split()
    if len(fields) != 2 or fields[0] not in ("1", "2", "3"):
        raise UserError(f"{where}: expected `1|2|3 id10001/<video>/00001.wav`, found {text!r}. Fix or remove the line.")
    part, path = fields
    match = re.fullmatch(r"id(\d{5})/[^/]+/[^/]+", path)
    if not match or not FIRST <= int(match[1]) < FIRST + SPEAKERS:
        raise UserError(f"{where}: found {path}; expected a speaker from id{FIRST} to id{FIRST + SPEAKERS - 1}, the "
                        f"{SPEAKERS} classes of S3PRL's recipe, as id/video/name.wav. Fix or remove the line.")
    return Line(int(part), path)


def _check_speakers(list_file: Path, lines: Iterable[Line]) -> None:
    """Every speaker needs three utterances, and one of them in train."""
    parts_of: dict[str, list[int]] = {}
    for line in lines:
        parts_of.setdefault(line.speaker, []).append(line.part)
    for speaker, parts in parts_of.items():
        if len(parts) < 3:
            raise UserError(f"{list_file}: speaker {speaker} has {len(parts)} utterances; expected at least 3, "
                            "one for each of train, dev and test. Add some, or remove the speaker.")
        if TRAIN not in parts:
            raise UserError(f"{list_file}: speaker {speaker} has no utterance in train (1). "
                            "Move some there, or remove the speaker.")


def _find_wav(root: Path, trees: list[Path], path: str) -> Path:
    """The file that a path of the list means, in the first tree that has it."""
    for tree in trees:
        if (tree / path).is_file():
            return tree / path
    raise UserError(f"{root}: {path} is in the list, but found in no <any>/wav under the root. "
                    "Check the root, unpack what is missing, or remove the line.")


def _check_wav(path: Path) -> None:
    """Refuse what S3PRL could not read, or would read wrongly."""
    try:
        info = soundfile.info(str(path))
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise UserError(f"{path}: cannot be read as audio ({error}). Copy the file again.") from None
    if (info.samplerate, info.channels) != (RATE, 1):
        raise UserError(f"{path}: {info.samplerate} Hz, {info.channels} channel(s); expected {RATE} Hz mono, "
                        "as S3PRL's recipe does not resample. Convert the audio; `s3prl-dd prepare sid` does that.")
    if not info.frames:
        raise UserError(f"{path}: no samples. Copy the file again.")
