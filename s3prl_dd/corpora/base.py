"""What a corpus is to us: a way to list its utterances, and a fold for each speaker."""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..errors import UserError
from .audio import is_readable
from .metadata import Utterance
from .text import is_text, shown, tidied

EMOTIONS = {"neu": 0, "hap": 1, "ang": 2, "sad": 3}
"""S3PRL's labels and their order."""

EXTENSIONS = ("aac", "au", "flac", "m4a", "mp3", "ogg", "wav")
LOSSLESS = ("wav", "flac", "au")

Part = Literal["train", "dev", "test"]


@dataclass
class Listing:
    """What was found under a root, before the audio is looked at.

    utterances: in the order of the lists to write, paths relative to the root
    fold_of: speaker -> fold number k (Session<k> tests on the speakers of k); not read where the folds are given
    labels: class name -> index, 0 .. C-1
    warnings, notes: sentences for the user; notes are no cause for concern
    given: fold number -> (utterance's id -> its part), where the corpus has lists of its own
    root, name: where the paths start and what the corpus is called, where it is not as given
    """

    utterances: list[Utterance]
    fold_of: dict[str, int]
    labels: dict[str, int] = field(default_factory=lambda: dict(EMOTIONS))
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    given: dict[int, dict[str, Part]] = field(default_factory=dict)
    root: Path | None = None
    name: str = ""


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

    pattern: regular expression for the end of a path without its ending, from a folder's or the file's name on, with
        groups `speaker` and `emotion`; what the group `name` (or all of it) matches is the utterance: of several files
        that match alike one is taken, readable and lossless ones first
    emotions: emotion code -> class name; others: codes -> their names, left out and counted
    fold_of: speaker -> fold number, from 1
    example: a path of the corpus, for the error
    any_case: whether case does not count; codes are then lower case here
    aliases: what a name may have for a speaker -> the speaker
    """

    pattern: str
    emotions: Mapping[str, str]
    others: Mapping[str, str]
    fold_of: Callable[[str], int]
    example: str
    any_case: bool = False
    aliases: Mapping[str, str] = field(default_factory=dict)

    def find(self, root: Path) -> Listing:
        """The corpus' files at any depth; an unknown emotion code is a UserError, other names are left out."""
        audio = find_audio(root)
        listing = Listing([], {})
        copies: dict[str, list[str]] = {}  # utterance -> its files
        matches: dict[str, re.Match[str]] = {}  # file -> its match
        left_out: Counter[str] = Counter()
        foreign = []
        for path in audio:
            match = self._match(path)
            if not match:
                foreign.append(path)
                continue
            emotion = self._emotion(match)
            if emotion in self.others:
                left_out[self.others[emotion]] += 1
            elif emotion not in self.emotions:
                known = ", ".join([*self.emotions, *self.others])
                raise UserError(f"{Path(root) / path}: unknown label {match['emotion']!r}; expected one of {known}. "
                                "Rename or remove the file.")
            else:
                matches[path] = match
                copies.setdefault(self._utterance(match), []).append(path)
        if not copies:
            raise nothing_found(root, audio, self.example)
        for path in _best_copies(root, copies, listing):
            self._add(listing, path, matches[path])
        if left_out:
            listing.notes.append(f"other emotions left out: {tally(left_out)}")
        if foreign:
            listing.notes.append(f"{len(foreign)} audio files with other names left out: {some(foreign)}")
        return listing

    def _match(self, path: str) -> re.Match[str] | None:
        flags = re.IGNORECASE if self.any_case else 0
        return re.search(rf"(?:^|/)(?:{self.pattern})\Z", os.path.splitext(path)[0], flags)

    def _emotion(self, match: re.Match[str]) -> str:
        emotion = tidied(match["emotion"])
        return emotion.lower() if self.any_case else emotion

    def _utterance(self, match: re.Match[str]) -> str:
        """What the files of one utterance have in common."""
        name = match["name"] if "name" in match.re.groupindex else match[0].lstrip("/")
        return name.casefold() if self.any_case else name

    def _add(self, listing: Listing, path: str, match: re.Match[str]) -> None:
        speaker = tidied(match["speaker"])
        speaker = speaker.upper() if self.any_case else speaker
        speaker = self.aliases.get(speaker, speaker)
        listing.utterances.append(Utterance(path, self.emotions[self._emotion(match)], speaker))
        listing.fold_of[speaker] = self.fold_of(speaker)


def _best_copies(root: Path, copies: Mapping[str, list[str]], listing: Listing) -> list[str]:
    """One path of each utterance, sorted; which others are left out is told in `listing`."""
    best: list[str] = []
    twice: list[str] = []
    other_formats: list[str] = []
    for paths in copies.values():
        chosen = paths[0] if len(paths) == 1 else min(paths, key=lambda path: _rank(root, path))
        best.append(chosen)
        for path in paths:
            if path != chosen:
                (twice if _extension(path) == _extension(chosen) else other_formats).append(path)
    if twice:
        listing.warnings.append(f"{len(twice)} left out, the same name was found before: {some(twice)}")
    if other_formats:
        listing.notes.append(f"{len(other_formats)} copies in other formats left out, readable and lossless ones are "
                             f"taken: {some(other_formats, most=3)}")
    return sorted(best)


def _rank(root: Path, path: str) -> tuple[bool, bool, str]:
    """The smallest is taken: readable before unreadable, lossless before lossy, then by name."""
    return not is_readable(root / path), _extension(path) not in LOSSLESS, path


def _extension(path: str) -> str:
    return os.path.splitext(path)[1][1:].lower()


def find_audio(root: str | Path) -> list[str]:
    """Relative paths of the audio files under `root`, sorted, as librosa's find_files (which S3PRL uses) lists them.

    Hidden files are left out and folders that are symbolic links are not entered. (librosa knows endings in small or in
    capital letters, here they may be mixed.)
    """
    paths = []
    for folder, _, names in os.walk(root):
        for name in names:
            if _extension(name) in EXTENSIONS and not name.startswith("."):
                paths.append(os.path.relpath(os.path.join(folder, name), root))
    return sorted(paths)


def check_root(root: str | Path | None, what: str) -> Path:
    """The root as an absolute Path; a missing or empty one is a UserError. what: which corpus is looked for."""
    if root is None:
        raise UserError(f"{what}: no root given. Give the folder of the corpus with --root FOLDER.")
    root = Path(root).expanduser().absolute()
    if not is_text(root):
        raise UserError(f"{shown(root)}: a name that is not UTF-8; neither JSON nor S3PRL can carry it. Rename the "
                        "folder, or give a symbolic link to it.")
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
    """The first items as text of one line, and how many more there are."""
    words = [shown(item) for item in items]
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more


def tally(counts: Mapping[str, int]) -> str:
    """Counts as text: `calm 4, fearful 2`."""
    return ", ".join(f"{name} {count}" for name, count in counts.items())
