"""Trained heads at work: emotions of recordings, scores on a list of utterances, and S3PRL's own `-m inference`.

    model = SerModel.load("result/f1/exp/real_seed0")
    for answer in predict(model, ["a.wav", "folder"]):
        print(answer.file, answer.prediction or answer.problem)
    print(evaluate(model, "metadata", fold="fold2").table())
"""

import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
import torch
from sklearn.metrics import confusion_matrix, f1_score
from tabulate import tabulate
from tqdm import tqdm

from ..corpora.ahead import ahead
from ..corpora.audio import RATE, AudioError, Samples, load_audio
from ..corpora.base import find_audio
from ..corpora.metadata import CORPUS_FILE, Metadata, Utterance, folds_in, read_corpus, read_fold, session
from ..corpora.text import shown
from ..errors import UserError
from ..files import write_json
from ..metrics import uar
from .head import VALID_RATIO, WINDOW, Origin, Prediction, SerModel, cut_windows, head_logits
from .placeholder import Recording, recordings_of

STDIN = "-"
"""Stands for a recording on standard input."""

WORKERS, AHEAD = 2, 4
"""Threads that decode, and recordings that wait for the network at most."""

MANY = 10
"""More recordings show a progress bar."""

LISTS, TEST_LIST = "*_meta_data.json", "test_meta_data.json"
"""A fold's lists of utterances: train, test, and dev where the corpus came with one."""

INFERENCE = "inference.json"
"""What S3PRL's `-m inference` leaves in the expdir."""


# recordings


class Answer(NamedTuple):
    """What came of a recording. file: as given, or found in a given folder; one of the others is None."""

    file: str
    prediction: Prediction | None
    problem: str | None


class Heard(NamedTuple):
    """A recording and its wave, float32 [N] at 16 kHz, or why there is none."""

    file: str
    wave: Samples | None
    problem: str | None


def list_files(files: Iterable[str | Path]) -> list[str]:
    """The files, and of a folder every audio file in it at any depth; `-` stays. A folder without any stays too."""
    listed: list[str] = []
    for file in map(str, files):
        inside = find_audio(file) if os.path.isdir(file) else []  # where Path.is_dir raises, it says no
        listed += [str(Path(file) / path) for path in inside] or [file]
    if not listed:
        raise UserError("no recording given. Name files, folders, or - for WAV on standard input.")
    return listed


def check_files(files: Sequence[str]) -> None:
    """UserError where nothing that is given is there: told before a model is loaded. One of several is told in turn."""
    if not files:
        raise UserError("predict: give one or more recordings, folders of them, or - for standard input.")
    if not any(file == STDIN or os.path.exists(file) for file in files):
        which = shown(files[0]) if len(files) == 1 else f"{shown(files[0])} and {len(files) - 1} more"
        raise UserError(f"predict: {which}: no such file or folder. Give recordings, or folders of them.")


def predict(model: SerModel, files: Iterable[str | Path], window: float | None = WINDOW,
            windows: bool = False) -> Iterator[Answer]:
    """Answers in the files' order, each as soon as it is there; one that cannot be used has a problem, and no other
    is touched by it.

    files: files, folders (every audio file in them), `-` for standard input
    window: seconds that pass the upstream at a time, None for all at once; windows: whether each one's is told
    """
    cut_windows(0, window)  # refuses a bad one before anything is read
    for heard in ahead(_hear, list_files(files), WORKERS, AHEAD):
        yield _answer(model, heard, window, windows)


def _hear(file: str) -> Heard:
    try:
        if file == STDIN:
            return Heard(file, _read_stdin(), None)
        if os.path.isdir(file):
            return Heard(file, None, f"{shown(file)}: a folder without audio files.")
        return Heard(file, load_audio(file, RATE), None)
    except (UserError, OSError, ValueError) as error:  # ValueError: a NUL in a path
        return Heard(file, None, shown(error))


def _read_stdin() -> Samples:
    """The wave on standard input; AudioError as of a file."""
    data = sys.stdin.buffer.read()
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        file.write(data)
        file.flush()
        try:
            return load_audio(file.name, RATE)
        except AudioError as error:
            raise AudioError("standard input", error.cause, "Expected a WAV file there.") from None


def _answer(model: SerModel, heard: Heard, window: float | None, windows: bool) -> Answer:
    if heard.wave is None:
        return Answer(heard.file, None, heard.problem)
    try:
        return Answer(heard.file, model.classify(heard.wave, window, windows), None)
    except UserError as error:
        return Answer(heard.file, None, f"{shown(heard.file)}: {error}")


def tell(model: SerModel, files: Iterable[str | Path], window: float | None = WINDOW, windows: bool = False,
         as_json: bool = False, out: TextIO | None = None) -> int:
    """Predict, and print a line a recording as soon as it is there; a problem goes to stderr. returns: 0, or 1 where
    there was a problem.

    windows: a line a window instead, or in JSON a list in the recording's object
    as_json: one JSON object a line; else a table, the file's name last
    """
    out = out or sys.stdout
    listed, problems = list_files(files), 0
    if not as_json:
        print(_row(["label", "from", "to", *model.classes, "file"], model.classes), file=out)
    with tqdm(total=len(listed), desc="predict", unit="file", disable=None if len(listed) > MANY else True) as bar:
        for answer in predict(model, listed, window, windows):
            if answer.prediction is None:
                problems += 1
                bar.write(f"error: {answer.problem}", file=sys.stderr)
            for line in _lines(model, answer, as_json):
                bar.write(line, file=out)
            out.flush()
            bar.update()
    if problems:
        print(f"{problems} of {len(listed)} recordings could not be used.", file=sys.stderr)
    return 1 if problems else 0


def _lines(model: SerModel, answer: Answer, as_json: bool) -> list[str]:
    """What is printed of an answer."""
    prediction = answer.prediction
    if prediction is None:
        return []
    if as_json:
        return [json.dumps({"file": answer.file, **_plain(prediction)})]
    return [_row([part.label, f"{part.start:.2f}", f"{part.end:.2f}",
                  *(f"{value:.3f}" for value in part.probabilities.values()), shown(answer.file)], model.classes)
            for part in prediction.windows or (prediction,)]


def _plain(prediction: Prediction) -> dict[str, Any]:
    """A prediction for JSON; `windows` only where there are some."""
    plain = {**prediction._asdict(), "windows": [_plain(part) for part in prediction.windows]}
    return plain if prediction.windows else {key: value for key, value in plain.items() if key != "windows"}


def _row(cells: Sequence[str], classes: Sequence[str]) -> str:
    """A table's line: label, from, to, a probability a class, file."""
    label, start, end, *shares, file = cells
    wide = max(len("label"), *map(len, classes))
    columns = "  ".join(share.rjust(max(5, len(name))) for share, name in zip(shares, classes, strict=True))
    return f"{label.ljust(wide)}  {start:>8}  {end:>8}  {columns}  {file}"


# a list of utterances


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


# S3PRL's `-m inference -t FILE`


class Inference:
    """What S3PRL's Runner asks of an expert for `-m inference`; S3PRL's emotion expert has none of it.

    It is for an expert with S3PRL's `projector`, `model`, `test_dataset` and `expdir`.
    """

    projector: Any
    model: Any
    test_dataset: Any
    expdir: str

    def load_audio(self, path: str | Path) -> torch.Tensor:
        """A recording of any rate and channel count as float32 [N] at 16 kHz; AudioError where it cannot be read."""
        return torch.from_numpy(load_audio(path, RATE))

    @torch.no_grad()
    def inference(self, features: Sequence[torch.Tensor], filenames: Sequence[str]) -> list[str]:
        """The class names of B recordings; printed, and kept in the expdir with the probabilities.

        features: B of [T, D] from the Featurizer; filenames: B names
        """
        names = [name for _, name in sorted(self.test_dataset.idx2emotion.items())]
        shares = head_logits(self.projector, self.model, features).double().softmax(dim=-1).cpu()  # [B, C]
        answers = []
        for file, row in zip(filenames, shares, strict=True):
            probabilities = dict(zip(names, row.tolist(), strict=True))
            answers.append({"file": file, "label": names[int(row.argmax())], "probabilities": probabilities})
            print(json.dumps(answers[-1]))
        write_json(Path(self.expdir) / INFERENCE, answers)
        return [str(answer["label"]) for answer in answers]
