"""Any folder of speakers shaped into the tree that S3PRL's voxceleb1 recipe reads, and a check of such trees.

    <out>/data/wav/id10001/0/00001.wav   S3PRL's datarc.file_path is <out>
    <out>/list.txt                       lines "1 id10001/0/00001.wav": 1 train, 2 dev, 3 test; S3PRL's datarc.meta_data
    <out>/sid.json                       SidSummary: which id is which speaker, how many files in each part
"""

import hashlib
import os
import random
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import soundfile
from tqdm import tqdm

from ..errors import UserError
from ..files import write_json, write_text
from .audio import RATE, AudioError, read_audio, resample
from .base import check_root, find_audio, some

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


@dataclass(frozen=True)
class SidSummary:
    """sid.json.

    root: of the audio; speakers: id -> the speaker's name there; utterances: train, dev, test -> how many
    chance, majority: accuracies of a random guess, and of always the speaker most common in test
    ratios, split_by, seed: of the draw, as in prepare_sid; files: path in the list -> path under the root
    """

    root: str
    speakers: dict[str, str]
    utterances: dict[str, int]
    chance: float
    majority: float
    ratios: list[float]
    split_by: str | None
    seed: int
    warnings: list[str]
    files: dict[str, str]


class Usable(NamedTuple):
    """files: speaker -> paths whose audio is new and whole; warnings: sentences about the others."""

    files: dict[str, list[str]]
    warnings: list[str]


def prepare_sid(
    root: str | Path,
    out: str | Path,
    ratios: Sequence[float] = (0.6, 0.2, 0.2),
    split_by: str | None = None,
    speaker: str | None = None,
    copy: bool = False,
    seed: int = 0,
) -> SidSummary:
    """Shape the audio under `root` into `out`; returns what sid.json says. Bad input is a UserError.

    ratios: shares of each speaker's utterances in train, dev and test; each part gets at least one
    split_by: regular expression with one group, searched in a file's path; files of one value stay together: a
        speaker's last values (sorted, as many as the test share asks for) are test, train and dev come from the others
    speaker: regular expression with one group that finds the speaker in a file's path; without it the first folder
    copy: copy WAV files that fit as they are instead of linking to them; all others become 16 kHz mono 16 bit WAV
    seed: of the draw, which is keyed by speaker. Files with the same audio are taken once.
    """
    root, out = check_root(root, "speakers"), Path(out).absolute()
    draw = Draw(root, tuple(ratios), split_by, seed)
    _check_place(out)
    files = _speakers(root, speaker, out)
    for name, paths in files.items():
        draw.parts(name, paths)  # refuses before the audio is read
    usable = _usable(root, files)
    sources = {}
    for number, (name, paths) in enumerate(usable.files.items(), FIRST):
        parts = draw.parts(name, paths)
        for place, path in enumerate(paths, 1):
            sources[Line(parts[path], f"id{number}/0/{place:05d}.wav")] = path
    _write_tree(out, {line.path: root / path for line, path in sources.items()}, copy)

    summary = _summary(draw, usable, sources)
    write_text(out / "list.txt", "".join(f"{part} {path}\n" for part, path in sorted(sources)))
    write_json(out / "sid.json", asdict(summary))
    _print(summary, out)
    return summary


def _summary(draw: "Draw", usable: Usable, sources: dict[Line, str]) -> SidSummary:
    counts = Counter(line.part for line in sources)
    tested = Counter(line.speaker for line in sources if line.part == TEST)
    return SidSummary(
        root=str(draw.root),
        speakers={f"id{number}": name for number, name in enumerate(usable.files, FIRST)},
        utterances={name: counts[part] for part, name in PARTS.items()},
        chance=1 / len(usable.files),
        majority=max(tested.values()) / counts[TEST],
        ratios=list(draw.ratios),
        split_by=draw.split_by,
        seed=draw.seed,
        warnings=usable.warnings,
        files={line.path: path for line, path in sources.items()},
    )


def _print(summary: SidSummary, out: Path) -> None:
    parts = ", ".join(f"{part} {count}" for part, count in summary.utterances.items())
    print(f"{len(summary.speakers)} speakers, {parts} utterances; chance accuracy {summary.chance:.3f}")
    for warning in summary.warnings:
        print(f"warning: {warning}")
    print(f"written: {out}")


def _check_place(out: Path) -> None:
    """Refuse to overwrite what this command did not write."""
    for mine in ("data", "list.txt"):
        if (out / mine).exists() and not (out / "sid.json").is_file():
            raise UserError(f"{out / mine}: is there already and was not made by this command. Choose another --to.")


# which files, of which speaker


def _speakers(root: Path, pattern: str | None, out: Path) -> dict[str, list[str]]:
    """Speaker -> paths of its files relative to the root, both sorted; an earlier `out` under the root is not taken."""
    audio = [path for path in find_audio(root) if not (root / path).is_relative_to(out)]
    if not audio:
        raise UserError(f"{root}: found no audio files; expected SPEAKER/.../FILE.wav (or flac and others). "
                        "Check --root.")
    files: dict[str, list[str]] = {}
    for path in audio:
        files.setdefault(_speaker_of(path, pattern, root), []).append(path)
    if not 2 <= len(files) <= SPEAKERS:
        raise UserError(f"{root}: found {len(files)} speakers ({some(files)}); expected 2 to {SPEAKERS}. "
                        "Give the folder that holds the speakers' folders, "
                        "or --speaker REGEX with one group that finds the speaker in a path.")
    return dict(sorted(files.items()))


def _speaker_of(path: str, pattern: str | None, root: Path) -> str:
    if pattern:
        return _group(pattern, path, root, "--speaker")
    if os.sep in path:
        return path.split(os.sep)[0]
    raise UserError(f"{root / path}: lies in no speaker's folder; expected SPEAKER/.../FILE.wav. Move it, or give "
                    "--speaker REGEX with one group that finds the speaker in a file's path.")


def _group(pattern: str, path: str, root: Path, option: str) -> str:
    """What the pattern's group finds in the path. option: where the pattern was given, for errors."""
    try:
        match = re.search(pattern, path)
        value = match[1] if match else None
    except (re.error, IndexError) as error:
        raise UserError(f"{option} {pattern!r}: expected a regular expression with one group ({error}).") from None
    if value is None:
        raise UserError(f"{root / path}: {option} {pattern!r} does not match this path. Change the expression.")
    return value


def _usable(root: Path, files: dict[str, list[str]]) -> Usable:
    """Leave out unreadable and repeated files. Audio counts as repeated by its samples, whatever the file's format."""
    usable: dict[str, list[str]] = {name: [] for name in files}
    first_of: dict[bytes, str] = {}  # digest of the samples -> the first path that has them
    broken, repeated = [], []
    everything = [(name, path) for name, paths in files.items() for path in paths]
    for name, path in tqdm(everything, desc="checking speakers", unit="file", leave=False):
        try:
            samples, rate = read_audio(root / path)
        except AudioError as error:
            broken.append(f"{path} ({error.cause})")
            continue
        digest = hashlib.sha256(f"{rate}".encode() + samples.tobytes()).digest()
        first = first_of.setdefault(digest, path)
        if first == path:
            usable[name].append(path)
        else:
            repeated.append(f"{path} = {first}")
    warnings = []
    if broken:
        warnings.append(f"{len(broken)} unreadable or empty files left out: {some(broken)}")
    if repeated:
        warnings.append(f"{len(repeated)} files left out, whose audio was there before: {some(repeated)}")
    return Usable(usable, warnings)


# the draw of train, dev and test


@dataclass(frozen=True)
class Draw:
    """How each speaker's files are dealt to the parts; fields as in prepare_sid."""

    root: Path
    ratios: tuple[float, ...]
    split_by: str | None
    seed: int

    def __post_init__(self) -> None:
        if len(self.ratios) != 3 or min(self.ratios) <= 0 or abs(sum(self.ratios) - 1) > 1e-6:
            raise UserError(f"ratios {self.ratios}: expected three positive shares of train, dev and test "
                            "that add up to 1.")

    def parts(self, speaker: str, paths: list[str]) -> dict[str, int]:
        """Path -> 1, 2 or 3. Too few files for one in each part are a UserError."""
        where = self.root / speaker
        if len(paths) < 3:
            raise UserError(f"{where}: {len(paths)} usable utterances of this speaker; expected at least 3, "
                            "one for each of train, dev and test. Add some, or remove the speaker.")
        order = random.Random(f"{self.seed}/{speaker}").sample(paths, len(paths))
        test = self._test_values(order, where) if self.split_by else self._test_files(order)
        rest = [path for path in order if path not in test]
        train_share, dev_share, _ = self.ratios
        dev = set(rest[:_between(1, round(dev_share / (train_share + dev_share) * len(rest)), len(rest) - 1)])
        part_of = {}
        for path in order:
            part_of[path] = TEST if path in test else DEV if path in dev else TRAIN
        return part_of

    def _test_files(self, order: list[str]) -> set[str]:
        """The first files of the drawn order."""
        return set(order[:_between(1, round(self.ratios[2] * len(order)), len(order) - 2)])

    def _test_values(self, order: list[str], where: Path) -> set[str]:
        """The files with the speaker's last values of split_by. where: the speaker, for errors."""
        assert self.split_by
        value_of = {path: _group(self.split_by, path, self.root, "--split-by") for path in order}
        values = sorted(set(value_of.values()))
        if len(values) < 2:
            raise UserError(f"{where}: --split-by finds only {values[0]!r}; expected at least two values, "
                            "to keep test apart.")
        count = _between(1, round(self.ratios[2] * len(values)), len(values) - 1)
        held_out = values[-count:]
        test = {path for path in order if value_of[path] in held_out}
        left = len(order) - len(test)
        if left < 2:
            raise UserError(f"{where}: --split-by leaves {left} utterance for train and dev; expected at least 2.")
        return test


def _between(low: int, value: int, high: int) -> int:
    return min(max(value, low), high)


# the tree


def _write_tree(out: Path, sources: dict[str, Path], copy: bool) -> None:
    """Write <out>/data whole beside the old one, then put it in its place. sources: path in the list -> audio file."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new.", dir=out) as staging:
            for path, source in tqdm(sources.items(), desc="writing the SID tree", unit="file", leave=False):
                _place(source, Path(staging, "data", "wav", path), copy)
            if (out / "data").exists():
                (out / "data").rename(Path(staging, "old"))
            Path(staging, "data").rename(out / "data")
    except OSError as error:
        raise UserError(f"{out}: the SID tree could not be written ({error}). "
                        "Free some space or choose another folder.") from error


def _place(source: Path, target: Path, copy: bool) -> None:
    """A WAV of 16 kHz mono is linked or copied; all else is converted: a FLAC named .wav would mislead some loaders."""
    target.parent.mkdir(parents=True, exist_ok=True)
    info = soundfile.info(str(source))
    if (info.format, info.samplerate, info.channels) != ("WAV", RATE, 1):
        samples, rate = read_audio(source)
        mono = resample(samples.mean(axis=1), rate, RATE)
        soundfile.write(target, mono, RATE, subtype="PCM_16", format="WAV")
    elif copy:
        shutil.copyfile(source, target)
    else:
        target.symlink_to(source)


# the check of a tree


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
