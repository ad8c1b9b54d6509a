"""What a corpus is to us: a way to list its utterances, and a fold for each speaker."""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import UserError
from .metadata import Utterance

EMOTIONS = {"neu": 0, "hap": 1, "ang": 2, "sad": 3}
"""S3PRL's labels and their order."""

EXTENSIONS = ("aac", "au", "flac", "m4a", "mp3", "ogg", "wav")


@dataclass
class Listing:
    """What was found under a root, before the audio is looked at.

    utterances: in the order of the lists to write, paths relative to the root
    fold_of: speaker -> fold number k (Session<k> tests on the speakers of k)
    labels: class name -> index, 0 .. C-1
    warnings, notes: sentences for the user; notes are no cause for concern
    """

    utterances: list[Utterance]
    fold_of: dict[str, int]
    labels: dict[str, int] = field(default_factory=lambda: dict(EMOTIONS))
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Corpus:
    """name: as written in corpus.json; find: (root, **options) -> Listing; terms: the licence, in a line.

    make: root -> None, for a corpus that makes its own audio.
    exact: the lists are fixed by S3PRL, so a file that cannot be read is an error instead of being left out.
    """

    name: str
    find: Callable[..., Listing]
    terms: str
    make: Callable[[Path], None] | None = None
    synthetic: bool = False
    exact: bool = False


@dataclass(frozen=True)
class FileNames:
    """A corpus whose file names say it all.

    pattern: regular expression for the whole name without ending, with groups `speaker` and `emotion`
    emotions: emotion code -> class name; others: codes -> their names, left out and counted
    fold_of: speaker -> fold number, from 1
    example: a path of the corpus, for the error
    """

    pattern: str
    emotions: Mapping[str, str]
    others: Mapping[str, str]
    fold_of: Callable[[str], int]
    example: str

    def find(self, root: Path) -> Listing:
        """The corpus' files at any depth; an unknown emotion code is a UserError, other names are left out."""
        audio = find_audio(root)
        listing = Listing([], {})
        names, repeated, foreign = set(), [], []
        left_out: Counter[str] = Counter()
        for path in audio:
            name = Path(path).stem
            match = re.fullmatch(self.pattern, name)
            if not match:
                foreign.append(path)
            elif match["emotion"] in self.others:
                left_out[self.others[match["emotion"]]] += 1
            elif match["emotion"] not in self.emotions:
                known = ", ".join([*self.emotions, *self.others])
                raise UserError(f"{Path(root) / path}: unknown label {match['emotion']!r}; expected one of {known}. "
                                "Rename or remove the file.")
            elif name in names:
                repeated.append(path)
            else:
                names.add(name)
                listing.utterances.append(Utterance(path, self.emotions[match["emotion"]], match["speaker"]))
                listing.fold_of[match["speaker"]] = self.fold_of(match["speaker"])
        if not listing.utterances:
            raise nothing_found(root, audio, self.example)
        if repeated:
            listing.warnings.append(f"{len(repeated)} left out, the same name was found before: {some(repeated)}")
        if left_out:
            listing.notes.append(f"other emotions left out: {tally(left_out)}")
        if foreign:
            listing.notes.append(f"{len(foreign)} audio files with other names left out: {some(foreign)}")
        return listing


def find_audio(root: str | Path) -> list[str]:
    """Relative paths of the audio files under `root`, sorted, as librosa's find_files (which S3PRL uses) lists them.

    Hidden files are left out and folders that are symbolic links are not entered.
    """
    endings = {f".{extension}" for extension in EXTENSIONS} | {f".{extension.upper()}" for extension in EXTENSIONS}
    paths = []
    for folder, _, names in os.walk(root):
        for name in names:
            if os.path.splitext(name)[1] in endings and not name.startswith("."):
                paths.append(os.path.relpath(os.path.join(folder, name), root))
    return sorted(paths)


def check_root(root: str | Path | None, what: str) -> Path:
    """The root as an absolute Path; a missing or empty one is a UserError. what: which corpus is looked for."""
    if root is None:
        raise UserError(f"{what}: no root given. Give the folder of the corpus with --root FOLDER.")
    root = Path(root).expanduser().absolute()
    if not root.exists():
        raise UserError(f"{root}: no such folder. Expected the root of {what}; check --root.")
    if not root.is_dir():
        raise UserError(f"{root}: a file, expected the root folder of {what}. Check --root.")
    if not any(root.iterdir()):
        raise UserError(f"{root}: an empty folder, expected the root of {what}. "
                        "Check --root, or whether it is mounted.")
    return root


def nothing_found(root: str | Path, audio: list[str], expected: str) -> UserError:
    """The UserError for a root in which no file has the corpus' name pattern. audio: the audio files that are there."""
    what = f"{len(audio)} audio files, such as {audio[0]}" if audio else "no audio files"
    return UserError(f"{root}: found {what}; expected {expected}. Check --root "
                     "(folders that are symbolic links are not entered).")


def spread(counts: Mapping[str, int], folds: int) -> dict[str, int]:
    """Speakers dealt to folds of about equal size: the largest speaker first, each to the fold with fewest utterances.

    counts: speaker -> utterances; folds: how many. Returns speaker -> fold number, 1 .. folds. Ties go by name and
    number.
    """
    sizes = [0] * folds
    fold_of = {}
    for speaker in sorted(counts, key=lambda name: (-counts[name], name)):
        fold = sizes.index(min(sizes))
        sizes[fold] += counts[speaker]
        fold_of[speaker] = fold + 1
    return fold_of


def some(items: Iterable[object], most: int = 10) -> str:
    """The first items as text, and how many more there are."""
    words = [str(item) for item in items]
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more


def tally(counts: Mapping[str, int]) -> str:
    """Counts as text: `calm 4, fearful 2`."""
    return ", ".join(f"{name} {count}" for name, count in counts.items())
