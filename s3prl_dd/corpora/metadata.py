"""S3PRL's emotion metadata: JSON of labels and utterances, one folder a fold.

    <metadata>/corpus.json                          what the corpus is and where (ours; S3PRL ignores it)
    <metadata>/files.json                           its files by size and digest (ours, see inventory.py)
    <metadata>/Session<k>/train_meta_data.json      fold<k>: everything but the test speakers
    <metadata>/Session<k>/test_meta_data.json
    <metadata>/Session<k>/dev_meta_data.json        only where the corpus has a dev list of its own (ours, too): train
                                                    is then train alone; without it S3PRL draws dev from train
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..config import build, settings
from ..errors import UserError
from ..files import read_json, text_digest, write_json

CORPUS_FILE = "corpus.json"
TRAIN_FILE, DEV_FILE, TEST_FILE = "train_meta_data.json", "dev_meta_data.json", "test_meta_data.json"

LONGEST_NAME = 255
"""Bytes of a file's or folder's name, as file systems have it."""

VALID_RATIO = 0.2
"""S3PRL's share of dev in the training list (datarc.valid_ratio)."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """path: relative to the corpus root; label: class name; speaker: the fold is disjoint in it.

    start, end: seconds, where the utterance is a segment of its file; None is the file's own start or end. S3PRL's
    stock reader does not know them and reads the whole file.
    """

    path: str
    label: str
    speaker: str
    start: float | None = None
    end: float | None = None

    @property
    def id(self) -> str:
        """No two utterances of a corpus share it: the path, with `#start-end` behind it where it is a segment."""
        if not self.is_segment:
            return self.path
        return f"{self.path}#{self.start or 0.0!r}-{'' if self.end is None else repr(self.end)}"

    @property
    def is_segment(self) -> bool:
        """Whether only a part of the file is meant."""
        return self.start is not None or self.end is not None

    def record(self) -> dict[str, Any]:
        """As the metadata files hold it: path, label, speaker, and start and end where they are given."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Metadata:
    """labels: class name -> index, 0 .. C-1; utterances: in the order that S3PRL reads."""

    labels: dict[str, int]
    utterances: tuple[Utterance, ...]

    @classmethod
    def read(cls, path: str | Path) -> "Metadata":
        """From one of S3PRL's JSON files; a UserError names the file and what is wrong with it."""
        data = read_json(path, "S3PRL emotion metadata file")
        try:
            labels = {str(name): int(index) for name, index in data["labels"].items()}
            items = data["meta_data"]
            utterances = tuple(_utterances(items))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise UserError(f"{path}: expected S3PRL's emotion metadata (labels, and meta_data with path, label, "
                            f"speaker), found {type(error).__name__}: {error}.") from None
        unknown = sorted({utterance.label for utterance in utterances} - set(labels))
        if unknown:
            raise UserError(f"{path}: label {unknown[0]!r} is not among {sorted(labels)}. Fix the file's labels.")
        if sorted(labels.values()) != list(range(len(labels))):
            raise UserError(f"{path}: class indices must be 0 .. {len(labels) - 1}, found {labels}.")
        return cls(labels, utterances)

    def write(self, path: str | Path) -> None:
        """Write S3PRL's JSON to `path`."""
        utterances = [utterance.record() for utterance in self.utterances]
        write_json(path, {"labels": self.labels, "meta_data": utterances})

    @property
    def speakers(self) -> list[str]:
        """The speakers, sorted by name."""
        return sorted({utterance.speaker for utterance in self.utterances})

    @property
    def class_names(self) -> list[str]:
        """The C class names by class index."""
        return names_by_index(self.labels)

    @property
    def class_indices(self) -> list[int]:
        """Each utterance's class index."""
        return [self.labels[utterance.label] for utterance in self.utterances]

    @property
    def class_counts(self) -> list[int]:
        """Utterances per class, C numbers by class index."""
        counts = Counter(utterance.label for utterance in self.utterances)
        return [counts[name] for name in self.class_names]

    def subset(self, indices: Iterable[int]) -> "Metadata":
        """The utterances at `indices`, in that order, with all labels."""
        return Metadata(self.labels, tuple(self.utterances[index] for index in indices))

    def digest(self) -> str:
        """Identity of the list, whatever its order: SHA-256 over its sorted ids and labels."""
        return text_digest(sorted(f"{utterance.id}\t{utterance.label}" for utterance in self.utterances))


def _utterances(items: Iterable[Any]) -> Iterator[Utterance]:
    """Of the file's items; names that are alike share their memory."""
    names: dict[str, str] = {}
    for item in items:
        path, label, speaker = item["path"], item["label"], _speaker(item["speaker"])
        if not isinstance(path, str) or not isinstance(label, str):
            raise ValueError(f"path {path!r:.60}, label {label!r:.60}")
        longest = max(len(name.encode(errors="replace")) for name in path.split("/"))
        if longest > LONGEST_NAME or "\0" in path:
            raise ValueError(f"path {path!r:.60}, which no file can have")
        yield Utterance(path, names.setdefault(label, label), names.setdefault(speaker, speaker),
                        _seconds(item, "start"), _seconds(item, "end"))


def _speaker(value: Any) -> str:
    """A speaker's name or number as text; ValueError for null and NaN, which would make one person of all unknown."""
    named = isinstance(value, str) and value.strip()
    numbered = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    if not named and not numbered:
        raise ValueError(f"speaker {value!r:.60}, where a name must be")
    return str(value)


def _seconds(item: Any, key: str) -> float | None:
    """A segment's start or end; ValueError for what is no number from 0 up."""
    value = item.get(key)
    if value is None:
        return None
    seconds = float(value)
    if not (seconds >= 0 and math.isfinite(seconds)):
        raise ValueError(f"{key} {value!r} of {item['path']}")
    return seconds


@settings
class CorpusSummary:
    """corpus.json: what a corpus is, where it lies and what was found in it."""

    name: str
    """The corpus' name; a generator file and a run of the same name are about the same people."""

    root: str = ""
    """The folder that the utterances' paths start from."""

    folds: tuple[str, ...] = ()
    """The folds' names: fold1, fold2, ..."""

    labels: dict[str, int] = field(default_factory=dict)
    """Class name -> index, 0 .. C-1."""

    synthetic: bool = False
    """Whether no person spoke this."""

    utterances: int = 0
    """How many utterances the lists hold."""

    speakers: int = 0
    """How many speakers the lists hold."""

    hours: float = 0.0
    """Hours of audio."""

    longest: float = 0.0
    """Seconds of the longest utterance."""

    median: float = 0.0
    """Seconds that half of the utterances do not exceed."""

    shared_speakers: bool = False
    """Whether the corpus' own lists share speakers, which was allowed when it was prepared."""

    sample_rates: dict[str, int] = field(default_factory=dict)
    """Sampling rate in Hz, as text -> how many files have it."""

    channels: dict[str, int] = field(default_factory=dict)
    """Number of channels, as text -> how many files have it."""

    audio_bytes: int = 0
    """Bytes of audio on disk."""

    excluded: dict[str, str] = field(default_factory=dict)
    """Path of a file that was left out -> why."""

    warnings: tuple[str, ...] = ()
    """What the user should look at, in sentences."""

    notes: tuple[str, ...] = ()
    """What the user may like to know, no cause for concern."""

    terms: str = ""
    """The corpus' licence, in a line."""

    asked: dict[str, Any] | None = field(default=None, compare=False)
    """What `prepare` was told: corpus, root, and the options that were not left as they are; None in older files. Two
    corpora are the same however they were asked for."""

    table: str = field(default="", compare=False)
    """SHA-256 of the table that lists it; empty where no single file does, and in older files."""

    def write(self, metadata: str | Path) -> None:
        """Write the corpus.json of the folder `metadata`."""
        write_json(Path(metadata) / CORPUS_FILE, asdict(self))


def read_corpus(metadata: str | Path) -> CorpusSummary:
    """corpus.json of a metadata folder. All but the name may be missing in it; keys not known here are not read."""
    path = Path(metadata) / CORPUS_FILE
    said = read_json(path, "corpus description (written by `s3prl-dd prepare`)")
    if not isinstance(said, dict):
        raise UserError(f"{path}: expected a JSON object with name, root and labels, found {said!r:.60}. "
                        "Run `s3prl-dd prepare` again.")
    known = {item.name for item in dataclasses.fields(CorpusSummary)}
    return build(CorpusSummary, {key: value for key, value in said.items() if key in known}, path)


@dataclass(frozen=True)
class Fold:
    """One leave-speakers-out fold: dev as the corpus gives it, else S3PRL's own 80/20 draw of train and dev."""

    name: str
    train: Metadata
    dev: Metadata
    test: Metadata


def names_by_index(labels: Mapping[str, int]) -> list[str]:
    """The C class names of a label map (name -> index), by index."""
    return sorted(labels, key=labels.__getitem__)


def session(fold: str) -> str:
    """fold1 -> Session1, as S3PRL names them."""
    return fold.replace("fold", "Session")


def folds_in(metadata: str | Path) -> list[str]:
    """The folds that a metadata folder holds, fold1, ..., by name."""
    return sorted(path.name.replace("Session", "fold") for path in Path(metadata).glob("Session*"))


def split_train_dev(size: int, valid_ratio: float = VALID_RATIO) -> tuple[list[int], list[int]]:
    """Indices of train and dev exactly as S3PRL's emotion expert draws them (torch seed 0, random_split).

    size: utterances of both together; valid_ratio: the share of dev, S3PRL's datarc.valid_ratio.
    """
    order = torch.randperm(size, generator=torch.Generator().manual_seed(0)).tolist()
    cut = int((1 - valid_ratio) * size)
    return order[:cut], order[cut:]


def read_fold(metadata: str | Path, name: str, valid_ratio: float = VALID_RATIO) -> Fold:
    """The Fold `name` (fold1, ...) of a metadata folder; speakers in train and in test are a UserError."""
    folder = Path(metadata) / session(name)
    if not folder.is_dir():
        known = folds_in(metadata)
        hint = f"Found {', '.join(known)}." if known else "Run `s3prl-dd prepare` first."
        raise UserError(f"{folder}: no such fold. {hint}")
    rest, test = Metadata.read(folder / TRAIN_FILE), Metadata.read(folder / TEST_FILE)
    _check_labels(folder, rest, test, "test")
    given = given_dev(folder)
    if given is None:
        train, dev = (rest.subset(indices) for indices in split_train_dev(len(rest.utterances), valid_ratio))
    else:
        _check_labels(folder, rest, given, "dev")
        train, dev = rest, given
    shared = sorted({*train.speakers, *dev.speakers} & set(test.speakers))
    if shared and not _may_share_speakers(metadata):
        raise UserError(f"{folder}: speaker {shared[0]} is in train and in test; folds must be speaker-disjoint.")
    return Fold(name, train, dev, test)


def given_dev(folder: str | Path) -> Metadata | None:
    """The dev list that a corpus came with; None where it has none, and S3PRL draws dev from train.

    folder: of a fold, Session<k>
    """
    path = Path(folder) / DEV_FILE
    return Metadata.read(path) if path.is_file() else None


def _check_labels(folder: Path, train: Metadata, other: Metadata, part: str) -> None:
    if train.labels != other.labels:
        raise UserError(f"{folder}: train and {part} have different labels ({train.labels} and {other.labels}).")


def _may_share_speakers(metadata: str | Path) -> bool:
    """Whether the corpus was prepared so that its own lists share speakers."""
    return (Path(metadata) / CORPUS_FILE).is_file() and read_corpus(metadata).shared_speakers
