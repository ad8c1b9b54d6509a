"""Scores of a trained head on a list of utterances.

    model = SerModel.load("result/f1/exp/real_seed0")
    print(evaluate(model, "metadata", fold="fold2").table())
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.metrics import confusion_matrix, f1_score
from tabulate import tabulate
from tqdm import tqdm

from ..corpora.ahead import ahead
from ..corpora.metadata import (
    CORPUS_FILE,
    VALID_RATIO,
    Metadata,
    Utterance,
    folds_in,
    read_corpus,
    read_fold,
    session,
)
from ..errors import UserError
from ..metrics import uar
from .head import SerModel, cut_windows
from .placeholder import Recording, recordings_of
from .predict import AHEAD, WORKERS
from .ser_checkpoint import Origin

LISTS, TEST_LIST = "*_meta_data.json", "test_meta_data.json"
"""A fold's lists of utterances: train, test, and dev where the corpus came with one."""


@dataclass(frozen=True)
class Evaluation:
    """How a head does on a list of utterances. Scores are shares in [0, 1]."""

    what: str
    """What was evaluated, in words."""

    labels: tuple[str, ...]
    """The head's C classes."""

    confusion: tuple[tuple[int, ...], ...]
    """[C, C] utterances; rows are the truth, columns what was predicted."""

    uar: float
    """Mean recall of the classes that the list has."""

    accuracy: float
    """Share of the utterances that were right: the weighted accuracy, WA."""

    macro_f1: float
    """Mean F1 of the classes that the list has."""

    recalls: dict[str, float | None]
    """Class name -> recall; None where the list has none of it."""

    paths: tuple[str, ...]
    """Of the utterances, relative to the root; of a segment with `#start-end` in seconds behind it."""

    truth: tuple[str, ...]
    """Class names, of the paths."""

    predicted: tuple[str, ...]
    """Class names, of the paths."""

    notes: tuple[str, ...] = ()
    """Sentences that a reader of the scores should know."""

    def json(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return asdict(self)

    def table(self) -> str:
        """The scores in per cent and the confusion matrix, as text."""
        scores = f"UAR {100 * self.uar:.1f}  WA {100 * self.accuracy:.1f}  macro-F1 {100 * self.macro_f1:.1f}"
        rows = []
        for name, counts in zip(self.labels, self.confusion, strict=True):
            recall = self.recalls[name]
            rows.append([name, *map(str, counts), "-" if recall is None else f"{100 * recall:.1f}"])
        matrix = tabulate(rows, ["truth \\ predicted", *self.labels, "recall"], tablefmt="plain", disable_numparse=True,
                          colalign=["left"] + ["right"] * (len(self.labels) + 1))
        notes = [f"note: {note}" for note in self.notes]
        return "\n".join([f"{self.what}, {len(self.paths)} utterances", *notes, scores, "", matrix])


class Task(NamedTuple):
    """What is to be evaluated. what: in words; root: the folder that the utterances' paths start from."""

    what: str
    metadata: Metadata
    root: Path
    notes: tuple[str, ...]


def evaluate(model: SerModel, metadata: str | Path, fold: str | None = None, split: str = "test",
             root: str | Path | None = None, window: float | None = None, progress: bool = True) -> Evaluation:
    """UAR, WA, macro-F1, recalls and confusion of a head on utterances that S3PRL's emotion metadata lists.

    metadata: a folder that `s3prl-dd prepare` wrote, or one of S3PRL's JSON files, of which every utterance counts
    fold: fold1, ...; None is the head's own fold in the folder that it was trained on, else every utterance
    split: test, train or dev of the fold, as S3PRL draws them
    root: the corpus; None is where its corpus.json or the head's run says
    window: as in SerModel.classify; None hears each utterance whole, as S3PRL does
    Utterances pass the upstream one at a time: what S3PRL's evaluation gives with eval_batch_size 1. Classes are told
    by their names. Raises UserError, before any long work, for labels that the head lacks and files that are not there.
    """
    cut_windows(0, window)  # refuses a bad one before anything is read
    task = _read_task(model.origin, Path(metadata), fold, split, root)
    check_labels(model, task)
    missing = [utterance.path for utterance in task.metadata.utterances if not (task.root / utterance.path).is_file()]
    if missing:
        raise UserError(f"{task.root / missing[0]}: no such audio file ({len(missing)} of "
                        f"{len(task.metadata.utterances)} are missing). Check --root.")
    predicted = _classes_of(model, task, window, progress)
    return score(model.classes, task, predicted)


def check_labels(model: SerModel, task: Task) -> None:
    """Raise UserError unless every label of the utterances is a class of the head."""
    if not task.metadata.utterances:
        raise UserError(f"{task.what}: no utterances.")
    if not model.named:
        raise UserError(f"{task.what}: the names of the head's {len(model.classes)} classes are not known. Give them "
                        "in the order of its training with --labels.")
    foreign = sorted({utterance.label for utterance in task.metadata.utterances} - set(model.classes))
    if foreign:
        raise UserError(f"{task.what}: label {', '.join(foreign)} is none of the head's ({', '.join(model.classes)}). "
                        "Prepare the corpus with the head's labels, or without these.")


def score(labels: Sequence[str], task: Task, predicted: Sequence[str]) -> Evaluation:
    """The Evaluation of predicted class names, in the order of the task's utterances."""
    truth = [utterance.label for utterance in task.metadata.utterances]
    matrix = confusion_matrix(truth, predicted, labels=list(labels))
    totals, right = matrix.sum(axis=1).tolist(), np.diag(matrix).tolist()
    present = [name for name, total in zip(labels, totals, strict=True) if total]
    macro_f1 = float(f1_score(truth, predicted, labels=present, average="macro", zero_division=0.0))
    recalls = {name: hits / total if total else None for name, hits, total in zip(labels, right, totals, strict=True)}
    return Evaluation(
        what=task.what, labels=tuple(labels), confusion=tuple(map(tuple, matrix.tolist())),
        uar=uar(truth, predicted), accuracy=sum(right) / len(truth), macro_f1=macro_f1, recalls=recalls,
        paths=tuple(utterance.id for utterance in task.metadata.utterances), truth=tuple(truth),
        predicted=tuple(predicted), notes=task.notes)


def _classes_of(model: SerModel, task: Task, window: float | None, progress: bool) -> list[str]:
    """The predicted class name of each utterance."""
    recordings = recordings_of(task.root, task.metadata.utterances)
    waves = ahead(Recording.load, recordings, WORKERS, AHEAD)
    bar = tqdm(waves, total=len(recordings), desc="evaluate", unit="utt", disable=not progress)
    return [model.classify(wave, window).label for wave in bar]


def _read_task(origin: Origin, metadata: Path, fold: str | None, split: str, root: str | Path | None) -> Task:
    """What evaluate's arguments mean."""
    if split not in ("train", "dev", "test"):
        raise UserError(f"split {split!r}: expected test, dev or train.")
    if not metadata.is_dir():
        if fold or split != "test":
            raise UserError(f"{metadata}: a single list, all of which is evaluated. Leave --fold and --split away, or "
                            "give the folder of all folds.")
        listed = Metadata.read(metadata)
        notes = _shared(origin, listed) if _same_folder(origin.metadata, metadata.parent.parent) else ()
        return Task(str(metadata), listed, _find_root(origin, metadata, root), notes)
    own = _same_folder(origin.metadata, metadata)
    fold = fold or (origin.fold if own else None)
    if fold is None:
        if split != "test":
            raise UserError(f"{metadata}: split {split} of which fold? Give --fold.")
        return Task(f"{metadata}, every utterance", _every_utterance(metadata), _find_root(origin, metadata, root), ())
    if split == "test":
        chosen = Metadata.read(_fold_folder(metadata, fold) / TEST_LIST)
    else:
        whole = read_fold(metadata, fold, origin.valid_ratio if own else VALID_RATIO)
        chosen = whole.train if split == "train" else whole.dev
    notes = _shared(origin, chosen) if own else ()
    return Task(f"{metadata}, {split} of {fold}", chosen, _find_root(origin, metadata, root), notes)


def _fold_folder(metadata: Path, fold: str) -> Path:
    folder = metadata / session(fold)
    if not folder.is_dir():
        known = ", ".join(folds_in(metadata)) or "none; run `s3prl-dd prepare` first"
        raise UserError(f"{folder}: no such fold. Found {known}.")
    return folder


def _every_utterance(metadata: Path) -> Metadata:
    """The utterances of all folds' lists, each once."""
    labels: dict[str, int] = {}
    utterances: dict[Utterance, None] = {}
    for fold in folds_in(metadata):
        for path in sorted((metadata / session(fold)).glob(LISTS)):
            listed = Metadata.read(path)
            labels = listed.labels
            utterances |= dict.fromkeys(listed.utterances)
    if not utterances:
        raise UserError(f"{metadata}: no fold in it. Run `s3prl-dd prepare` first, or give one of S3PRL's JSON files.")
    return Metadata(labels, tuple(utterances))


def _find_root(origin: Origin, metadata: Path, root: str | Path | None) -> Path:
    """The folder that utterances' paths start from: as given, else by corpus.json, else by the head's run."""
    folder = metadata if metadata.is_dir() else metadata.parent
    places = [folder, *([] if metadata.is_dir() else [folder.parent])]
    described = [place for place in places if (place / CORPUS_FILE).is_file()]
    said = root or (read_corpus(described[0]).root if described else "")
    if not said and origin.root and any(_same_folder(origin.metadata, place) for place in places):
        said = origin.root
    if not said or not Path(said).is_dir():
        where = f"{said}: no such folder" if said else f"{metadata}: nothing says where its audio is"
        raise UserError(f"{where}. Give the corpus' folder with --root.")
    return Path(said)


def _same_folder(one: str | Path | None, other: Path) -> bool:
    return one is not None and Path(one).is_dir() and Path(one).samefile(other)


def _shared(origin: Origin, chosen: Metadata) -> tuple[str, ...]:
    """What is to be said of utterances that the head was trained on. chosen: of its own corpus."""
    lists = (Path(str(origin.metadata)) / session(origin.fold)).glob(LISTS)
    known = {utterance for path in lists if path.name != TEST_LIST for utterance in Metadata.read(path).utterances}
    shared = sum(utterance in known for utterance in chosen.utterances)
    if not shared:
        return ()
    return (f"{shared} of these utterances are of the head's own train and dev part ({origin.fold} was kept for its "
            "test): no score for new speech.",)
