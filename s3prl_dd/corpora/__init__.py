"""Corpora: from a folder of audio to S3PRL's emotion metadata.

CORPORA names them; prepare() finds a corpus' files, checks them and writes the folder that metadata.py describes.
"""

import inspect
import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from ..errors import UserError
from ..files import write_json
from . import crema_d, demo, emodb, iemocap, ravdess, table
from .audio import AudioError, audio_info, duplicates, load_audio
from .base import Corpus, Listing, check_root, some
from .metadata import Metadata, session

CORPORA = {module.__name__.rpartition(".")[2]: module.CORPUS for module in (iemocap, ravdess, emodb, crema_d, table, demo)}


def prepare(name, root, out, **options):
    """Write the metadata folder `out` of the corpus `name` found under `root`; returns what corpus.json says.

    name: a key of CORPORA; root: its folder (None for demo: the audio is made in <out>/audio)
    options: those of the corpus' find function (table has table, folds, labels, speaker)
    Prints a summary with the classes per fold. Bad input is a UserError, and then nothing is written.
    """
    if name not in CORPORA:
        raise UserError(f"{name}: no such corpus. Expected one of: {', '.join(CORPORA)}.")
    corpus, out = CORPORA[name], Path(out).absolute()
    known = list(inspect.signature(corpus.find).parameters)[1:]
    options = {key: value for key, value in options.items() if value is not None}
    for key in options:
        if key not in known:
            raise UserError(f"{name}: no option {key!r}. It has {', '.join(known) or 'none'}.")
    if corpus.make:
        root = Path(root or out / "audio").absolute()
        corpus.make(root)
    if name != "table" or root is None or not Path(root).is_file():  # a table may itself stand for its folder
        root = check_root(root, name)
    else:
        options.setdefault("table", Path(root).absolute())
        root = Path(root).absolute().parent
    listing = corpus.find(root, **options)
    checked = _check_audio(corpus, root, listing)
    folds = _folds(root, listing)
    summary = {"name": corpus.name, "root": str(root), "folds": list(folds), "labels": listing.labels,
               "synthetic": corpus.synthetic, "utterances": len(listing.utterances),
               "speakers": len({utterance.speaker for utterance in listing.utterances}), **checked,
               "warnings": listing.warnings, "notes": listing.notes, "terms": corpus.terms}
    _write(out, folds, summary)
    print(describe(summary, folds, out))
    return summary


def _check_audio(corpus, root, listing):
    """Decode every file; unusable ones leave the listing (or are an error). Returns the audio's part of corpus.json."""
    infos, causes = {}, {}
    for utterance in tqdm(listing.utterances, desc=f"checking {corpus.name}", unit="file", leave=False):
        try:
            infos[utterance.path] = audio_info(root / utterance.path)
        except AudioError as error:
            causes[utterance.path] = error.cause
    if causes and corpus.exact:
        path, cause = next(iter(causes.items()))
        raise UserError(f"{root / path}: cannot be used as audio: {cause}. S3PRL's lists need all {len(listing.utterances)} files, "
                        f"{len(causes)} cannot be used ({some(causes)}). Copy them again; nothing was written.")
    if not infos:
        path, cause = next(iter(causes.items()))
        raise UserError(f"{root}: none of {len(causes)} files can be used as audio. The first, {path}: {cause}. Copy the corpus again.")
    if causes:
        listing.warnings.append(f"{len(causes)} missing, unreadable or empty files are left out: "
                                + some(f"{path} ({cause})" for path, cause in causes.items()))
    silent = [path for path, info in infos.items() if info.silent]
    if silent:
        listing.warnings.append(f"{len(silent)} silent files are kept: {some(silent)}")
    for group in duplicates([root / path for path in infos]):
        listing.warnings.append("byte-identical files are kept: " + " = ".join(os.path.relpath(path, root) for path in group))
    listing.utterances = [utterance for utterance in listing.utterances if utterance.path in infos]
    return {"hours": sum(info.seconds for info in infos.values()) / 3600,
            "sample_rates": _counts(info.rate for info in infos.values()),
            "channels": _counts(info.channels for info in infos.values()),
            "audio_bytes": sum(info.bytes for info in infos.values()), "excluded": causes}


def _counts(values):
    """Value as text -> how many, in order: JSON keys are text."""
    return {str(value): count for value, count in sorted(Counter(values).items())}


def _folds(root, listing):
    """Fold name -> (train Metadata, test Metadata); both must hold every class."""
    numbers = sorted({listing.fold_of[utterance.speaker] for utterance in listing.utterances})
    if len(numbers) < 2:
        speakers = sorted({utterance.speaker for utterance in listing.utterances})
        raise UserError(f"{root}: found the speakers {some(speakers)}, all of one fold; expected speakers of at least two "
                        "folds, to test on speakers that were not trained on. Check that the corpus is whole.")
    folds = {}
    for number in numbers:
        parts = [Metadata(listing.labels, tuple(utterance for utterance in listing.utterances
                                                if (listing.fold_of[utterance.speaker] == number) == test)) for test in (False, True)]
        for part, what in zip(parts, ("train", "test")):
            empty = [label for label, count in zip(sorted(listing.labels, key=listing.labels.get), part.class_counts) if not count]
            if empty:
                raise UserError(f"{root}: class {empty[0]!r} has no example in the {what} part of fold{number} (speakers "
                                f"{some(part.speakers)}); every class needs one in every fold's train and test. "
                                "Check that the corpus is whole, use fewer folds, or leave the class out.")
        folds[f"fold{number}"] = tuple(parts)
    return folds


def _write(out, folds, summary):
    """All of the folder's files are written beside it first, then take their places; corpus.json comes last."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new.", dir=out) as staging:
            for fold, (train, test) in folds.items():
                train.write(Path(staging, session(fold), "train_meta_data.json"))
                test.write(Path(staging, session(fold), "test_meta_data.json"))
            for fold in folds:
                (out / session(fold)).mkdir(exist_ok=True)
                for file in Path(staging, session(fold)).iterdir():
                    os.replace(file, out / session(fold) / file.name)
        for stale in set(out.glob("Session*/test_meta_data.json")) - {out / session(fold) / "test_meta_data.json" for fold in folds}:
            shutil.rmtree(stale.parent)  # a fold of an earlier corpus in the same folder
        write_json(out / "corpus.json", summary)
    except OSError as error:
        raise UserError(f"{out}: the metadata could not be written ({error}). Free some space or choose another folder.") from error


def describe(summary, folds, out):
    """The summary as text: what was found, classes per fold, notes and warnings."""
    labels = sorted(summary["labels"], key=summary["labels"].get)
    rates = ", ".join(f"{rate} Hz" for rate in summary["sample_rates"])
    channels = ", ".join({"1": "mono", "2": "stereo"}.get(count, f"{count} channels") for count in summary["channels"])
    lines = [f"{summary['name']}: {summary['utterances']} files, {summary['hours']:.2f} h, {summary['speakers']} speakers, "
             f"{rates}, {channels}, {summary['audio_bytes'] / 1e6:.1f} MB", f"terms: {summary['terms']}", "",
             " " * 8 + "".join(f"{part:<{len(labels) * 7 + 11}}" for part in ("train and dev", "test")).rstrip()]
    lines.append(f"{'fold':8}" + "".join(f"{'speakers':>8}" + "".join(f"{label:>7}" for label in labels) + "   " for _ in range(2)).rstrip())
    for fold, parts in folds.items():
        lines.append(f"{fold:8}" + "".join(f"{len(part.speakers):>8}" + "".join(f"{count:>7}" for count in part.class_counts) + "   "
                                          for part in parts).rstrip())
    lines += [""] + [f"note: {note}" for note in summary["notes"]] + [f"warning: {warning}" for warning in summary["warnings"]]
    return "\n".join(lines + [f"written: {out}"])
