"""S3PRL's emotion metadata: JSON of labels and utterances, one folder a fold.

    <metadata>/corpus.json                          what the corpus is and where (ours; S3PRL ignores it)
    <metadata>/Session<k>/train_meta_data.json      fold<k>: everything but the test speakers
    <metadata>/Session<k>/test_meta_data.json
"""

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from ..errors import UserError
from ..files import read_json, text_digest, write_json


@dataclass(frozen=True)
class Utterance:
    """path: relative to the corpus root; label: class name; speaker: the fold is disjoint in it."""

    path: str
    label: str
    speaker: str


@dataclass(frozen=True)
class Metadata:
    """labels: class name -> index, 0 .. C-1; utterances: in the order that S3PRL reads."""

    labels: dict
    utterances: tuple

    @classmethod
    def read(cls, path):
        data = read_json(path, "S3PRL emotion metadata file")
        try:
            labels = {str(name): int(index) for name, index in data["labels"].items()}
            utterances = tuple(Utterance(item["path"], item["label"], str(item["speaker"])) for item in data["meta_data"])
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise UserError(f"{path}: expected S3PRL's emotion metadata (labels, and meta_data with path, label, "
                            f"speaker), found {type(error).__name__}: {error}.") from None
        unknown = sorted({utterance.label for utterance in utterances} - set(labels))
        if unknown:
            raise UserError(f"{path}: label {unknown[0]!r} is not among {sorted(labels)}. Fix the file's labels.")
        if sorted(labels.values()) != list(range(len(labels))):
            raise UserError(f"{path}: class indices must be 0 .. {len(labels) - 1}, found {labels}.")
        return cls(labels, utterances)

    def write(self, path):
        write_json(path, {"labels": self.labels, "meta_data": [asdict(utterance) for utterance in self.utterances]})

    @property
    def speakers(self):
        return sorted({utterance.speaker for utterance in self.utterances})

    @property
    def class_counts(self):
        """List of utterances per class, by class index."""
        counts = Counter(utterance.label for utterance in self.utterances)
        return [counts[name] for name, _ in sorted(self.labels.items(), key=lambda item: item[1])]

    def subset(self, indices):
        return Metadata(self.labels, tuple(self.utterances[i] for i in indices))

    def digest(self):
        """Identity of the list, whatever its order: SHA-256 over its sorted paths and labels."""
        return text_digest(sorted(f"{utterance.path}\t{utterance.label}" for utterance in self.utterances))


@dataclass(frozen=True)
class Fold:
    """One leave-speakers-out fold, with S3PRL's own 80/20 draw of train and dev."""

    name: str
    train: Metadata
    dev: Metadata
    test: Metadata


def session(fold):
    """fold1 -> Session1, as S3PRL names them."""
    return fold.replace("fold", "Session")


def split_train_dev(size, valid_ratio=0.2):
    """Indices of train and dev exactly as S3PRL's emotion expert draws them (torch seed 0, random_split)."""
    order = torch.randperm(size, generator=torch.Generator().manual_seed(0)).tolist()
    cut = int((1 - valid_ratio) * size)
    return order[:cut], order[cut:]


def read_fold(metadata, name, valid_ratio=0.2):
    """The Fold `name` (fold1, ...) of a metadata folder."""
    folder = Path(metadata) / session(name)
    if not folder.is_dir():
        known = sorted(path.name.replace("Session", "fold") for path in Path(metadata).glob("Session*"))
        raise UserError(f"{folder}: no such fold. " + (f"Found {', '.join(known)}." if known else "Run `s3prl-dd prepare` first."))
    rest = Metadata.read(folder / "train_meta_data.json")
    test = Metadata.read(folder / "test_meta_data.json")
    if rest.labels != test.labels:
        raise UserError(f"{folder}: train and test have different labels ({rest.labels} and {test.labels}).")
    shared = sorted(set(rest.speakers) & set(test.speakers))
    if shared:
        raise UserError(f"{folder}: speaker {shared[0]} is in train and in test; folds must be speaker-disjoint.")
    train, dev = split_train_dev(len(rest.utterances), valid_ratio)
    return Fold(name, rest.subset(train), rest.subset(dev), test)


def read_corpus(metadata):
    """corpus.json of a metadata folder: {"name", "root", "folds", "synthetic", ...}."""
    return read_json(Path(metadata) / "corpus.json", "corpus description (written by `s3prl-dd prepare`)")
