"""Any folder of speakers shaped into the tree that S3PRL's voxceleb1 recipe reads, and a check of real VoxCeleb1 trees.

    <out>/data/wav/id10001/0/00001.wav     S3PRL's datarc.file_path is <out>
    <out>/list.txt                         lines "1 id10001/0/00001.wav": 1 train, 2 dev, 3 test; S3PRL's datarc.meta_data
    <out>/sid.json                         which id is which speaker, how many files in each part
"""

import hashlib
import os
import random
import re
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import soundfile
from tqdm import tqdm

from ..errors import UserError
from ..files import write_json, write_text
from .audio import AudioError, read_audio, resample
from .base import check_root, find_audio, some

PARTS = {1: "train", 2: "dev", 3: "test"}
FIRST, SPEAKERS = 10001, 1251  # S3PRL's class is the number in the id - 10001, below 1251
RATE = 16000  # S3PRL's voxceleb1 data set does not resample


def prepare_sid(root, out, ratios=(0.6, 0.2, 0.2), split_by=None, speaker=None, copy=False, seed=0):
    """Shape the audio under `root` into `out` and return what sid.json says.

    ratios: shares of each speaker's utterances in train, dev and test; each part gets at least one
    split_by: regular expression with one group, searched in a file's path; files of one value stay together: a speaker's
        last values (sorted, as many as the test share asks for) are test, train and dev come from the others
    speaker: regular expression with one group that finds the speaker in a file's path; without it the first folder
    copy: copy WAV files that fit as they are instead of linking to them; all others become 16 kHz mono 16 bit WAV
    seed: of the draw, which is keyed by speaker. Files with the same audio are taken once.
    """
    root, out = check_root(root, "speakers"), Path(out).absolute()
    if len(ratios) != 3 or min(ratios) <= 0 or abs(sum(ratios) - 1) > 1e-6:
        raise UserError(f"ratios {ratios}: expected three positive shares of train, dev and test that add up to 1.")
    for mine in ("data", "list.txt"):
        if (out / mine).exists() and not (out / "sid.json").is_file():
            raise UserError(f"{out / mine}: is there already and was not made by this command. Choose another --out.")
    files = _speakers(root, speaker, out)
    group_of = (lambda path: _group(split_by, path, root, "--split-by")) if split_by else None
    for name, paths in files.items():
        _split(paths, ratios, group_of, f"{seed}/{name}", root / name)  # refuses before the audio is read
    warnings = _unusable(root, files)
    ids = {name: f"id{FIRST + index}" for index, name in enumerate(files)}
    parts = {name: _split(paths, ratios, group_of, f"{seed}/{name}", root / name) for name, paths in files.items()}

    lines, source_of = [], {}
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new.", dir=out) as staging:
            for name in tqdm(files, desc="writing the SID tree", unit="speaker", leave=False):
                for number, path in enumerate(files[name], 1):
                    line = f"{ids[name]}/0/{number:05d}.wav"
                    _place(root / path, Path(staging, "data", "wav", line), copy)
                    lines.append((parts[name][path], line))
                    source_of[line] = path
            if (out / "data").exists():
                (out / "data").rename(Path(staging, "old"))
            Path(staging, "data").rename(out / "data")
    except OSError as error:
        raise UserError(f"{out}: the SID tree could not be written ({error}). Free some space or choose another folder.") from error
    counts = Counter(part for part, _ in lines)
    majority = max(Counter(line.split("/")[0] for part, line in lines if part == 3).values()) / counts[3]
    summary = {"root": str(root), "speakers": {identity: name for name, identity in ids.items()},
               "utterances": {PARTS[part]: counts[part] for part in PARTS},
               "chance": 1 / len(files), "majority": majority,  # accuracies: a random guess, always the commonest test speaker
               "ratios": list(ratios), "split_by": split_by, "seed": seed, "warnings": warnings, "files": source_of}
    write_text(out / "list.txt", "".join(f"{part} {line}\n" for part, line in sorted(lines)))
    write_json(out / "sid.json", summary)
    print(f"{len(files)} speakers, " + ", ".join(f"{what} {counts[part]}" for part, what in PARTS.items())
          + f" utterances; chance accuracy {summary['chance']:.3f}")
    print("\n".join([*(f"warning: {warning}" for warning in warnings), f"written: {out}"]))
    return summary


def check_voxceleb1(root, list_file):
    """Check a VoxCeleb1 tree against S3PRL's list file before a run; returns {"speakers", "train", "dev", "test"} counts.

    root: holds <any>/wav/id10001/<video>/00001.wav (dev/wav and test/wav in the original). A missing or repeated file, an
    id outside id10001 .. id11251, audio that is not 16 kHz mono, a speaker with fewer than 3 utterances or without one in
    train is a UserError.
    """
    root, list_file = check_root(root, "VoxCeleb1"), Path(list_file)
    if not list_file.is_file():
        raise UserError(f"{list_file}: no such list. Expected S3PRL's list of lines such as `1 id10001/1zcIwhmdeo4/00001.wav`.")
    trees = [tree for tree in sorted(root.glob("*/wav")) if tree.is_dir()]
    if not trees:
        raise UserError(f"{root}: found no folder <any>/wav; expected dev/wav and test/wav with id10001/<video>/00001.wav "
                        "inside. Give the folder above dev and test.")
    part_of, parts_of_speaker = {}, {}
    for number, line in enumerate(list_file.read_text(encoding="utf-8").splitlines(), 1):
        where, fields = f"{list_file}: line {number}", line.split()
        if len(fields) != 2 or fields[0] not in ("1", "2", "3"):
            raise UserError(f"{where}: expected `1|2|3 id10001/<video>/00001.wav`, found {line!r}. Fix or remove the line.")
        part, path = int(fields[0]), fields[1]
        identity = re.fullmatch(r"id(\d{5})/[^/]+/[^/]+", path)
        if not identity or not FIRST <= int(identity[1]) < FIRST + SPEAKERS:
            raise UserError(f"{where}: found {path}; expected a speaker from id{FIRST} to id{FIRST + SPEAKERS - 1}, the "
                            f"{SPEAKERS} classes of S3PRL's recipe, as id/video/name.wav. Fix or remove the line.")
        if path in part_of:
            raise UserError(f"{where}: {path} is listed before, in {PARTS[part_of[path]]}; an utterance belongs to one part. "
                            "Remove one line.")
        part_of[path] = part
        parts_of_speaker.setdefault(path.split("/")[0], []).append(part)
    if not part_of:
        raise UserError(f"{list_file}: an empty list; expected lines such as `1 id10001/1zcIwhmdeo4/00001.wav`.")
    for identity, parts in parts_of_speaker.items():
        if len(parts) < 3:
            raise UserError(f"{list_file}: speaker {identity} has {len(parts)} utterances; expected at least 3, one for each of "
                            "train, dev and test. Add some, or remove the speaker.")
        if 1 not in parts:
            raise UserError(f"{list_file}: speaker {identity} has no utterance in train (1). Move some there, or remove the speaker.")
    counts = Counter(part_of.values())
    for part, what in PARTS.items():
        if not counts[part]:
            raise UserError(f"{list_file}: no line of part {part} ({what}). S3PRL's recipe needs train, dev and test.")
    for path in tqdm(part_of, desc="checking VoxCeleb1", unit="file", leave=False):
        _check_wav(next((tree / path for tree in trees if (tree / path).is_file()), None), path, root)
    return {"speakers": len(parts_of_speaker), **{what: counts[part] for part, what in PARTS.items()}}


def _check_wav(found, path, root):
    if found is None:
        raise UserError(f"{root}: {path} is in the list, but found in no <any>/wav under the root. Check the root, unpack what "
                        "is missing, or remove the line.")
    try:
        info = soundfile.info(str(found))
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise UserError(f"{found}: cannot be read as audio ({error}). Copy the file again.") from None
    if (info.samplerate, info.channels) != (RATE, 1):
        raise UserError(f"{found}: {info.samplerate} Hz, {info.channels} channel(s); expected {RATE} Hz mono, as S3PRL's recipe "
                        "does not resample. Convert the audio; `s3prl-dd prepare sid` does that.")
    if not info.frames:
        raise UserError(f"{found}: no samples. Copy the file again.")


def _speakers(root, pattern, out):
    """Speaker -> paths of its files relative to the root, both sorted; an earlier output under the root is not taken."""
    audio = [path for path in find_audio(root) if not (root / path).is_relative_to(out)]
    if not audio:
        raise UserError(f"{root}: found no audio files; expected SPEAKER/.../FILE.wav (or flac and others). Check --root.")
    files = {}
    for path in audio:
        if pattern:
            name = _group(pattern, path, root, "--speaker")
        elif os.sep in path:
            name = path.split(os.sep)[0]
        else:
            raise UserError(f"{root / path}: lies in no speaker's folder; expected SPEAKER/.../FILE.wav. Move it, or give "
                            "--speaker REGEX with one group that finds the speaker in a file's path.")
        files.setdefault(name, []).append(path)
    if not 2 <= len(files) <= SPEAKERS:
        raise UserError(f"{root}: found {len(files)} speakers ({some(files)}); expected 2 to {SPEAKERS}. Give the folder that "
                        "holds the speakers' folders, or --speaker REGEX with one group that finds the speaker in a path.")
    return dict(sorted(files.items()))


def _group(pattern, path, root, option):
    try:
        match = re.search(pattern, path)
        value = match[1] if match else None
    except (re.error, IndexError) as error:
        raise UserError(f"{option} {pattern!r}: expected a regular expression with one group ({error}).") from None
    if value is None:
        raise UserError(f"{root / path}: {option} {pattern!r} finds nothing in this path. Change the expression.")
    return value


def _unusable(root, files):
    """Take unreadable and repeated files out of `files`; returns warnings. Audio counts as repeated by its samples."""
    seen, broken, repeated = {}, [], []
    for name, path in tqdm([(name, path) for name in files for path in files[name]], desc="checking speakers", unit="file", leave=False):
        try:
            samples, rate = read_audio(root / path)
        except AudioError as error:
            broken.append(f"{path} ({error.cause})")
            files[name].remove(path)
            continue
        first = seen.setdefault(hashlib.sha256(f"{rate}".encode() + samples.tobytes()).digest(), path)
        if first != path:
            repeated.append(f"{path} = {first}")
            files[name].remove(path)
    found = ((broken, "unreadable or empty files left out"), (repeated, "files left out, whose audio was there before"))
    return [f"{len(items)} {what}: {some(items)}" for items, what in found if items]


def _split(paths, ratios, group_of, key, where):
    """Path -> part 1, 2 or 3 of one speaker's files. key: of the draw; where: the speaker, for errors."""
    if len(paths) < 3:
        raise UserError(f"{where}: {len(paths)} usable utterances of this speaker; expected at least 3, one for each of train, "
                        "dev and test. Add some, or remove the speaker.")
    order = random.Random(key).sample(paths, len(paths))
    test_share = ratios[2]
    if group_of:
        groups = sorted({group_of(path) for path in paths})
        if len(groups) < 2:
            raise UserError(f"{where}: --split-by finds only {groups[0]!r}; expected at least two values, to keep test apart.")
        held_out = set(groups[-min(max(round(test_share * len(groups)), 1), len(groups) - 1):])
        test = [path for path in order if group_of(path) in held_out]
        rest = [path for path in order if group_of(path) not in held_out]
        if len(rest) < 2:
            raise UserError(f"{where}: --split-by leaves {len(rest)} utterance for train and dev; expected at least 2.")
    else:
        cut = min(max(round(test_share * len(order)), 1), len(order) - 2)
        test, rest = order[:cut], order[cut:]
    cut = min(max(round(ratios[1] / (ratios[0] + ratios[1]) * len(rest)), 1), len(rest) - 1)
    return {**dict.fromkeys(test, 3), **dict.fromkeys(rest[:cut], 2), **dict.fromkeys(rest[cut:], 1)}


def _place(source, target, copy):
    """A WAV of 16 kHz mono is linked or copied; all else is converted (a FLAC named .wav would mislead some loaders)."""
    target.parent.mkdir(parents=True, exist_ok=True)
    info = soundfile.info(str(source))
    if (info.format, info.samplerate, info.channels) != ("WAV", RATE, 1):
        samples, rate = read_audio(source)
        soundfile.write(target, resample(samples.mean(axis=1), rate, RATE), RATE, subtype="PCM_16", format="WAV")
    elif copy:
        shutil.copyfile(source, target)
    else:
        target.symlink_to(source)
