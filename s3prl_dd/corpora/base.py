"""What a corpus is to us: a way to list its utterances, and a fold for each speaker."""

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from ..errors import UserError
from .metadata import Utterance

EMOTIONS = {"neu": 0, "hap": 1, "ang": 2, "sad": 3}  # S3PRL's labels and their order
EXTENSIONS = ("aac", "au", "flac", "m4a", "mp3", "ogg", "wav")


@dataclass
class Listing:
    """What was found under a root, before the audio is looked at.

    utterances: in the order of the lists to write, paths relative to the root
    fold_of: speaker -> fold number k (Session<k> tests on the speakers of k)
    labels: class name -> index, 0 .. C-1
    warnings, notes: sentences for the user; notes are no cause for concern
    """

    utterances: list
    fold_of: dict
    labels: dict = field(default_factory=lambda: dict(EMOTIONS))
    warnings: list = field(default_factory=list)
    notes: list = field(default_factory=list)


@dataclass(frozen=True)
class Corpus:
    """name: as written in corpus.json; find: (root, **options) -> Listing; terms: the licence, in a line.

    make: root -> None, for a corpus that makes its own audio.
    exact: the lists are fixed by S3PRL, so a file that cannot be read is an error instead of being left out.
    """

    name: str
    find: Callable
    terms: str
    make: Callable = None
    synthetic: bool = False
    exact: bool = False


def find_audio(root):
    """Relative paths of the audio files under `root`, sorted by path, as librosa's find_files (which S3PRL uses) lists them.

    Hidden files are left out and folders that are symbolic links are not entered.
    """
    endings = {f".{case}" for extension in EXTENSIONS for case in (extension, extension.upper())}
    return sorted(os.path.relpath(os.path.join(folder, name), root) for folder, _, names in os.walk(root)
                  for name in names if os.path.splitext(name)[1] in endings and not name.startswith("."))


def check_root(root, what):
    """The root as an absolute Path; a missing or empty one is a UserError. what: which corpus is looked for."""
    if root is None:
        raise UserError(f"{what}: no root given. Give the folder of the corpus with --root FOLDER.")
    root = Path(root).expanduser().absolute()
    if not root.exists():
        raise UserError(f"{root}: no such folder. Expected the root of {what}; check --root.")
    if not root.is_dir():
        raise UserError(f"{root}: a file, expected the root folder of {what}. Check --root.")
    if not any(root.iterdir()):
        raise UserError(f"{root}: an empty folder, expected the root of {what}. Check --root, or whether it is mounted.")
    return root


def nothing_found(root, audio, expected):
    """The UserError for a root in which no file has the corpus' name pattern. audio: the audio files that are there."""
    found = f"{len(audio)} audio files, such as {audio[0]}" if audio else "no audio files"
    return UserError(f"{root}: found {found}; expected {expected}. Check --root "
                     "(folders that are symbolic links are not entered).")


def by_name(pattern, emotions, others, fold_of, expected):
    """A Corpus.find for corpora whose file names say it all; files are found at any depth.

    pattern: regular expression for the whole name without ending, with groups `speaker` and `emotion`
    emotions: emotion code -> class name; others: codes -> their names, left out and counted
    fold_of: speaker -> fold number, from 1; expected: an example of a path, for the error
    """

    def find(root):
        audio = find_audio(root)
        seen, utterances, repeated, left_out, foreign = {}, [], [], Counter(), []
        for path in audio:
            match = re.fullmatch(pattern, Path(path).stem)
            if not match:
                foreign.append(path)
            elif match["emotion"] in others:
                left_out[others[match["emotion"]]] += 1
            elif match["emotion"] not in emotions:
                known = ", ".join([*emotions, *others])
                raise UserError(f"{os.path.join(root, path)}: unknown label {match['emotion']!r}; expected one of {known}. "
                                "Rename or remove the file.")
            elif Path(path).stem in seen:
                repeated.append(path)
            else:
                seen[Path(path).stem] = path
                utterances.append(Utterance(path, emotions[match["emotion"]], match["speaker"]))
        if not utterances:
            raise nothing_found(root, audio, expected)
        listing = Listing(utterances, {utterance.speaker: fold_of(utterance.speaker) for utterance in utterances})
        if repeated:
            listing.warnings.append(f"{len(repeated)} left out, the same name was found before: {some(repeated)}")
        if left_out:
            listing.notes.append("other emotions left out: " + ", ".join(f"{name} {n}" for name, n in left_out.items()))
        if foreign:
            listing.notes.append(f"{len(foreign)} audio files with other names left out: {some(foreign)}")
        return listing

    return find


def spread(counts, folds):
    """Speakers dealt to folds of about equal size: the largest speaker first, each to the fold with fewest utterances.

    counts: speaker -> utterances; folds: how many. Returns speaker -> fold number, 1 .. folds. Ties go by name and number.
    """
    sizes, fold_of = [0] * folds, {}
    for speaker in sorted(counts, key=lambda name: (-counts[name], name)):
        fold = sizes.index(min(sizes))
        sizes[fold] += counts[speaker]
        fold_of[speaker] = fold + 1
    return fold_of


def some(items, most=10):
    """The first items as text, and how many more there are."""
    items = [str(item) for item in items]
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")
