"""Any folder of speakers shaped into the tree that S3PRL's voxceleb1 recipe reads.

    <out>/data/wav/id10001/0/00001.wav   S3PRL's datarc.file_path is <out>
    <out>/list.txt                       lines "1 id10001/0/00001.wav": 1 train, 2 dev, 3 test; S3PRL's datarc.meta_data
    <out>/sid.json                       SidSummary: which id is which speaker, how many files in each part
"""

import hashlib
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import soundfile
from tqdm import tqdm

from ..errors import UserError
from ..files import write_json, write_text
from .audio import RATE, AudioError, read_audio, resample
from .base import check_root, find_audio, some
from .sid_check import FIRST, PARTS, SPEAKERS, TEST, Line
from .sid_draw import Draw, match_group


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


def _summary(draw: Draw, usable: Usable, sources: dict[Line, str]) -> SidSummary:
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
        return match_group(pattern, path, root, "--speaker")
    if os.sep in path:
        return path.split(os.sep)[0]
    raise UserError(f"{root / path}: lies in no speaker's folder; expected SPEAKER/.../FILE.wav. Move it, or give "
                    "--speaker REGEX with one group that finds the speaker in a file's path.")


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
