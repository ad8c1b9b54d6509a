"""prepare(): from a folder of audio to S3PRL's emotion metadata, checked, written and described."""

import inspect
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from tabulate import tabulate
from tqdm import tqdm

from ..errors import UserError
from . import crema_d, demo, emodb, iemocap, ravdess, table
from .ahead import ahead
from .audio import AudioError, AudioInfo, audio_info, duplicates
from .base import Corpus, Listing, check_root, some
from .metadata import CorpusSummary, Metadata, session

MODULES = (iemocap, ravdess, emodb, crema_d, table, demo)
CORPORA = {module.__name__.rpartition(".")[2]: module.CORPUS for module in MODULES}
"""Name on the command line -> Corpus."""

WORKERS = 2
"""Threads that decode files to check them."""


class Parts(NamedTuple):
    """The two lists of a fold as they are written: S3PRL draws dev from train itself."""

    train: Metadata
    test: Metadata


class Checked(NamedTuple):
    """What decoding every file gave: infos of the usable ones, causes of the others, by path in the list's order."""

    infos: dict[str, AudioInfo]
    causes: dict[str, str]


def prepare(name: str, root: str | Path | None, out: str | Path, **options: Any) -> CorpusSummary:
    """Write the metadata folder `out` of the corpus `name` found under `root`; returns what corpus.json says.

    name: a key of CORPORA; root: its folder (None for demo: the audio is made in <out>/audio)
    options: those of the corpus' find function (table has table, folds, labels, speaker); None is as if not given
    Prints a summary with the classes per fold. Bad input is a UserError, and then nothing is written.
    """
    if name not in CORPORA:
        raise UserError(f"{name}: no such corpus. Expected one of: {', '.join(CORPORA)}.")
    corpus, out = CORPORA[name], Path(out).absolute()
    options = _known_options(name, corpus, options)
    if corpus.make:
        root = Path(root or out / "audio").absolute()
        corpus.make(root)
    if name == "table" and root is not None and Path(root).is_file():  # a table may itself stand for its folder
        options.setdefault("table", Path(root).absolute())
        root = Path(root).absolute().parent
    else:
        root = check_root(root, name)

    listing = corpus.find(root, **options)
    checked = _check_audio(corpus, root, listing)
    listing = replace(
        listing,
        utterances=[utterance for utterance in listing.utterances if utterance.path in checked.infos],
        warnings=[*listing.warnings, *_warnings_of(root, checked)],
    )
    folds = _folds(root, listing)
    summary = _summary(corpus, root, listing, checked, list(folds))
    _write(out, folds, summary)
    print(describe(summary, folds, out))
    return summary


def describe(summary: CorpusSummary, folds: dict[str, Parts], out: Path) -> str:
    """The summary as text: what was found, classes per fold, notes and warnings."""
    rates = ", ".join(f"{rate} Hz" for rate in summary.sample_rates)
    channels = ", ".join({"1": "mono", "2": "stereo"}.get(count, f"{count} channels") for count in summary.channels)
    found = [
        f"{summary.utterances} files", f"{summary.hours:.2f} h", f"{summary.speakers} speakers",
        rates, channels, f"{summary.audio_bytes / 1e6:.1f} MB",
    ]
    lines = [f"{summary.name}: {', '.join(found)}", f"terms: {summary.terms}", "", _fold_table(folds), ""]
    lines += [f"note: {note}" for note in summary.notes]
    lines += [f"warning: {warning}" for warning in summary.warnings]
    return "\n".join([*lines, f"written: {out}"])


def _fold_table(folds: dict[str, Parts]) -> str:
    """Speakers and utterances per class, one line for each part of each fold."""
    names = next(iter(folds.values())).train.class_names
    rows = []
    for fold, parts in folds.items():
        rows.append([fold, "train and dev", len(parts.train.speakers), *parts.train.class_counts])
        rows.append(["", "test", len(parts.test.speakers), *parts.test.class_counts])
    return tabulate(rows, headers=["fold", "part", "speakers", *names], tablefmt="simple")


def _known_options(name: str, corpus: Corpus, options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given; one that the corpus' find function lacks is a UserError."""
    known = list(inspect.signature(corpus.find).parameters)[1:]
    given = {key: value for key, value in options.items() if value is not None}
    for key in given:
        if key not in known:
            raise UserError(f"{name}: no option {key!r}. It has {', '.join(known) or 'none'}.")
    return given


# audio


def _check_audio(corpus: Corpus, root: Path, listing: Listing) -> Checked:
    """Decode every file once. No usable file, or an unusable one of an exact corpus, is a UserError."""
    checked = Checked({}, {})
    results = ahead(lambda utterance: _info(root / utterance.path), listing.utterances, WORKERS, limit=100)
    with tqdm(total=len(listing.utterances), desc=f"checking {corpus.name}", unit="file", leave=False) as progress:
        for utterance, result in zip(listing.utterances, results, strict=True):
            if isinstance(result, AudioError):
                checked.causes[utterance.path] = result.cause
            else:
                checked.infos[utterance.path] = result
            progress.update()
    causes = checked.causes
    if causes and corpus.exact:
        path, cause = next(iter(causes.items()))
        raise UserError(f"{root / path}: cannot be used as audio: {cause}. S3PRL's lists need all "
                        f"{len(listing.utterances)} files, {len(causes)} cannot be used ({some(causes)}). "
                        "Copy them again; nothing was written.")
    if not checked.infos:
        path, cause = next(iter(causes.items()))
        raise UserError(f"{root}: none of {len(causes)} files can be used as audio. The first, {path}: {cause}. "
                        "Copy the corpus again.")
    return checked


def _info(path: Path) -> AudioInfo | AudioError:
    """What the file is, or why it cannot be used."""
    try:
        return audio_info(path)
    except AudioError as error:
        return error


def _warnings_of(root: Path, checked: Checked) -> list[str]:
    """Sentences about unusable, silent and repeated files."""
    warnings = []
    if checked.causes:
        left_out = some(f"{path} ({cause})" for path, cause in checked.causes.items())
        warnings.append(f"{len(checked.causes)} missing, unreadable or empty files are left out: {left_out}")
    silent = [path for path, info in checked.infos.items() if info.silent]
    if silent:
        warnings.append(f"{len(silent)} silent files are kept: {some(silent)}")
    for group in duplicates([root / path for path in checked.infos]):
        same = " = ".join(os.path.relpath(path, root) for path in group)
        warnings.append(f"byte-identical files are kept: {same}")
    return warnings


def _summary(corpus: Corpus, root: Path, listing: Listing, checked: Checked, folds: list[str]) -> CorpusSummary:
    infos = checked.infos.values()
    return CorpusSummary(
        name=corpus.name,
        root=str(root),
        folds=tuple(folds),
        labels=listing.labels,
        synthetic=corpus.synthetic,
        utterances=len(listing.utterances),
        speakers=len({utterance.speaker for utterance in listing.utterances}),
        hours=sum(info.seconds for info in infos) / 3600,
        sample_rates=_counts(info.rate for info in infos),
        channels=_counts(info.channels for info in infos),
        audio_bytes=sum(info.bytes for info in infos),
        excluded=checked.causes,
        warnings=tuple(listing.warnings),
        notes=tuple(listing.notes),
        terms=corpus.terms,
    )


def _counts(values: Iterable[int]) -> dict[str, int]:
    """Value as text -> how many, in order: JSON keys are text."""
    return {str(value): count for value, count in sorted(Counter(values).items())}


# folds


def _folds(root: Path, listing: Listing) -> dict[str, Parts]:
    """Fold name -> its train and test; both must hold every class."""
    speakers = sorted({utterance.speaker for utterance in listing.utterances})
    numbers = sorted({listing.fold_of[speaker] for speaker in speakers})
    if len(numbers) < 2:
        raise UserError(f"{root}: found the speakers {some(speakers)}, all of one fold; expected speakers of at least "
                        "two folds, to test on speakers that were not trained on. Check that the corpus is whole.")
    folds = {}
    for number in numbers:
        test = [utterance for utterance in listing.utterances if listing.fold_of[utterance.speaker] == number]
        train = [utterance for utterance in listing.utterances if listing.fold_of[utterance.speaker] != number]
        parts = Parts(Metadata(listing.labels, tuple(train)), Metadata(listing.labels, tuple(test)))
        for part, what in zip(parts, Parts._fields, strict=True):
            _check_classes(root, part, f"the {what} part of fold{number}")
        folds[f"fold{number}"] = parts
    return folds


def _check_classes(root: Path, part: Metadata, what: str) -> None:
    for label, count in zip(part.class_names, part.class_counts, strict=True):
        if not count:
            raise UserError(f"{root}: class {label!r} has no example in {what} (speakers {some(part.speakers)}); "
                            "every class needs one in every fold's train and test. "
                            "Check that the corpus is whole, use fewer folds, or leave the class out.")


# the folder


def _write(out: Path, folds: dict[str, Parts], summary: CorpusSummary) -> None:
    """All of the folder's files are written beside it first, then take their places; corpus.json comes last."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new.", dir=out) as staging:
            for fold, parts in folds.items():
                parts.train.write(Path(staging, session(fold), "train_meta_data.json"))
                parts.test.write(Path(staging, session(fold), "test_meta_data.json"))
            for fold in folds:
                (out / session(fold)).mkdir(exist_ok=True)
                for file in Path(staging, session(fold)).iterdir():
                    os.replace(file, out / session(fold) / file.name)
        current = {session(fold) for fold in folds}
        for file in out.glob("Session*/test_meta_data.json"):
            if file.parent.name not in current:
                shutil.rmtree(file.parent)  # a fold of an earlier corpus in the same folder
        summary.write(out)
    except OSError as error:
        raise UserError(f"{out}: the metadata could not be written ({error}). "
                        "Free some space or choose another folder.") from error
