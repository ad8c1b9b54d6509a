"""prepare(): from a folder of audio to S3PRL's emotion metadata, checked, written and described."""

import inspect
import itertools
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple

from tabulate import tabulate

from ..config import build
from ..errors import DiskError, UserError
from ..files import disk_error, file_digest
from . import crema_d, demo, emobox, emodb, esd, iemocap, meld, msp_podcast, nemo, ravdess, savee, table, tess
from .base import Corpus, Listing, check_root, some
from .checks import Checked, check_audio, check_missing, limit, tell
from .inventory import Inventory, read_inventory, take_inventory, write_inventory
from .metadata import (
    DEV_FILE,
    TEST_FILE,
    TRAIN_FILE,
    CorpusSummary,
    Metadata,
    Utterance,
    folds_in,
    given_dev,
    session,
)
from .options import EVERY, CorpusOptions
from .text import shown

MODULES = (iemocap, ravdess, emodb, crema_d, msp_podcast, meld, esd, tess, savee, nemo, emobox, table, demo)
CorpusName = Literal["demo", "iemocap", "ravdess", "emodb", "crema_d", "msp_podcast", "meld", "esd", "tess", "savee",
                     "nemo", "emobox", "table"]
"""What --corpus takes: the names of MODULES."""

CORPORA = {module.__name__.rpartition(".")[2]: module.CORPUS for module in MODULES}
"""Name on the command line -> Corpus."""


class Parts(NamedTuple):
    """The lists of a fold as they are written. dev: None where S3PRL draws it from train itself."""

    train: Metadata
    dev: Metadata | None
    test: Metadata


def prepare(name: str, root: str | Path | None, out: str | Path, fold: str | None = None, *, fixed: bool = False,
            **options: Any) -> CorpusSummary:
    """Write the metadata folder `out` of the corpus `name` found under `root`; returns what corpus.json says.

    name: a key of CORPORA; root: its folder (None for demo: the audio is made in <out>/audio)
    fold: which it must have, because somebody goes on with it
    fixed: whether a run has gone on with what is in `out`, so that other lists or audio are a UserError
    options: those of CorpusOptions that the corpus has; None is as if not given
    Prints a summary with the classes per fold. Bad input is a UserError, and then nothing is written.
    """
    if name not in CORPORA:
        raise UserError(f"{name}: no such corpus. Expected one of: {', '.join(CORPORA)}.")
    corpus, out, given_root = CORPORA[name], Path(out).absolute(), root
    asked = _options(name, corpus, options)
    place = resolve_root(name, root, out)
    root, listing = list_corpus(corpus, place, asked, fold)
    checked = check_audio(corpus, root, listing)
    check_missing(corpus, root, checked, asked.allow_missing)
    listing = limit(listing, checked, asked)
    checked.files = take_inventory(root, (utterance.path for utterance in listing.utterances))
    listing = tell(listing, checked)
    folds = _folds(root, listing, asked.allow_shared_speakers)
    if fold is not None and fold not in folds:
        raise UserError(f"{root}: nothing is left of {fold}, all its files are left out (too long, missing or "
                        f"unreadable). Left are {', '.join(folds)}; take one of them as --fold, or more with "
                        "--max-seconds or --long cut.")
    listing.warnings += [told for name, parts in folds.items() if (told := _tell_shared(name, parts))]
    if fixed:
        _check_unchanged(out, folds, checked.files)
    summary = _summary(corpus, root, listing, checked, folds)
    table = asked.table or place.table
    digest = file_digest(table) if table is not None and Path(table).is_file() else ""
    summary = replace(summary, asked=_told(name, given_root, asked), table=digest)
    _write(out, folds, summary, checked.files)
    print(describe(summary, folds, out))
    return summary


class Place(NamedTuple):
    """Where a corpus is."""

    root: Path
    table: Path | None = None
    """The table that lists it, where --root named that instead of a folder."""


def resolve_root(name: str, root: str | Path | None, out: Path) -> Place:
    """The folder of a corpus, made if it is one that we make (in <out>/audio); UserError where it is not there."""
    make = CORPORA[name].make
    if make:
        root = Path(root or out / "audio").absolute()
        make(root)
    if name == "table" and root is not None:
        root = Path(root).expanduser().absolute()
        if root.is_file():  # a table may itself stand for its folder
            return Place(check_root(root.parent, name), root)
        if not root.exists():
            raise UserError(f"{root}: no such file or folder. Expected a table (CSV, TSV, JSONL, JSON) or the folder "
                            "that its paths start from; check --root.")
    return Place(check_root(root, name))


def list_corpus(corpus: Corpus, place: Place, asked: CorpusOptions, fold: str | None) -> tuple[Path, Listing]:
    """The folder that paths start from, and the utterances; what makes no folds is a UserError, before audio is read.

    fold: which there must be; None for any
    """
    own = {key: value for key, value in asked.options().items() if key in _own_options(corpus)}
    if place.table is not None:
        own.setdefault("table", place.table)
    listing = corpus.find(place.root, **own)
    root = listing.root or place.root
    there = _folds(root, listing, asked.allow_shared_speakers)
    if fold is not None and fold not in there:
        raise UserError(f"{root}: has no {fold}. Found {', '.join(there)}; check --fold.")
    return root, listing


def describe(summary: CorpusSummary, folds: dict[str, Parts], out: Path) -> str:
    """The summary as text: what was found, classes per fold, notes and warnings."""
    rates = ", ".join(f"{rate} Hz" for rate in summary.sample_rates)
    channels = ", ".join({"1": "mono", "2": "stereo"}.get(count, f"{count} channels") for count in summary.channels)
    counted = [
        f"{summary.utterances} files", f"{summary.hours:.2f} h", f"{summary.speakers} speakers",
        rates, channels, f"{summary.audio_bytes / 1e6:.1f} MB",
        f"longest {summary.longest:.1f} s, median {summary.median:.1f} s",
    ]
    lines = [f"{shown(summary.name)}: {', '.join(counted)}", f"terms: {summary.terms}", "", _fold_table(folds), ""]
    lines += [f"note: {note}" for note in summary.notes]
    lines += [f"warning: {warning}" for warning in summary.warnings]
    return "\n".join([*lines, f"written: {shown(out)}"])


def _fold_table(folds: dict[str, Parts]) -> str:
    """Speakers and utterances per class, one line for each part of each fold."""
    names = next(iter(folds.values())).train.class_names
    rows = []
    for fold, parts in folds.items():
        lists = {"train and dev": parts.train} if parts.dev is None else {"train": parts.train, "dev": parts.dev}
        for what, part in {**lists, "test": parts.test}.items():
            rows.append([fold, what, len(part.speakers), *part.class_counts])
            fold = ""
    return tabulate(rows, headers=["fold", "part", "speakers", *names], tablefmt="simple")


def _options(name: str, corpus: Corpus, options: dict[str, Any]) -> CorpusOptions:
    """The options that were given; one that the corpus does not have is a UserError."""
    given = {key: str(value) if isinstance(value, Path) else value
             for key, value in options.items() if value is not None}
    if "labels" in given:  # its earlier name
        given["emotions"] = given.pop("labels")
    own = _own_options(corpus)
    for key in given:
        if key not in (*own, *EVERY):
            raise UserError(f"{name}: no option {key!r}. It has {', '.join(dict.fromkeys([*own, *EVERY]))}.")
    return build(CorpusOptions, given, name)


def _told(name: str, root: str | Path | None, asked: CorpusOptions) -> dict[str, Any]:
    """What corpus.json says that was asked for; paths that are there are absolute, as a run keeps them."""
    told = {"corpus": name, "root": None if root is None else str(root), **asked.options()}
    for key in ("root", "table"):
        if told.get(key) and Path(told[key]).exists():
            told[key] = str(Path(told[key]).resolve())
    return told


def _own_options(corpus: Corpus) -> list[str]:
    """The options of the corpus' find function."""
    return list(inspect.signature(corpus.find).parameters)[1:]


def _summary(
    corpus: Corpus, root: Path, listing: Listing, checked: Checked, folds: dict[str, Parts]
) -> CorpusSummary:
    infos = checked.infos.values()
    seconds = [info.seconds for info in infos]
    sizes = {item.path: checked.infos[item.id].bytes for item in listing.utterances}  # a file of segments counts once
    return CorpusSummary(
        name=listing.name or corpus.name,
        root=str(root),
        folds=tuple(folds),
        labels=listing.labels,
        synthetic=corpus.synthetic,
        utterances=len(listing.utterances),
        speakers=len({utterance.speaker for utterance in listing.utterances}),
        hours=sum(seconds) / 3600,
        longest=max(seconds),
        median=median(seconds),
        shared_speakers=any(_shared(parts) for parts in folds.values()),
        sample_rates=_counts(info.rate for info in infos),
        channels=_counts(info.channels for info in infos),
        audio_bytes=sum(sizes.values()),
        excluded=checked.excluded,
        warnings=tuple(listing.warnings),
        notes=tuple(listing.notes),
        terms=corpus.terms,
    )


def _counts(values: Iterable[int]) -> dict[str, int]:
    """Value as text -> how many, in order: JSON keys are text."""
    return {str(value): count for value, count in sorted(Counter(values).items())}


# folds


def _folds(root: Path, listing: Listing, allow_shared_speakers: bool) -> dict[str, Parts]:
    """Fold name -> its lists; train and test must hold every class."""
    folds = _given_folds(listing) if listing.given else _speaker_folds(root, listing)
    for name, parts in folds.items():
        for part, what in ((parts.train, "train"), (parts.test, "test")):
            _check_classes(root, part, f"the {what} part of {name}")
        if parts.dev is not None and not parts.dev.utterances:
            raise UserError(f"{root}: the dev part of {name} holds no usable file. Check that the corpus is whole.")
        told = _tell_shared(name, parts)
        if told and not allow_shared_speakers:
            raise UserError(f"{root}: {told}. A head would be tested on speakers that it has heard. Change the lists, "
                            "or take them as they are: --allow-shared-speakers.")
    return folds


def _speaker_folds(root: Path, listing: Listing) -> dict[str, Parts]:
    """Leave-speakers-out folds: each tests on the speakers of its number, and trains on all others."""
    speakers = sorted({utterance.speaker for utterance in listing.utterances})
    numbers = sorted({listing.fold_of[speaker] for speaker in speakers})
    if len(numbers) < 2:
        raise UserError(f"{root}: found the speakers {some(speakers)}, all of one fold; expected speakers of at least "
                        "two folds, to test on speakers that were not trained on. Check that the corpus is whole.")
    folds = {}
    for number in numbers:
        test = [utterance for utterance in listing.utterances if listing.fold_of[utterance.speaker] == number]
        train = [utterance for utterance in listing.utterances if listing.fold_of[utterance.speaker] != number]
        folds[f"fold{number}"] = Parts(_list(listing, train), None, _list(listing, test))
    return folds


def _given_folds(listing: Listing) -> dict[str, Parts]:
    """The corpus' own lists."""
    folds = {}
    for number, part_of in sorted(listing.given.items()):
        train, dev, test = (
            [utterance for utterance in listing.utterances if part_of.get(utterance.id) == part]
            for part in ("train", "dev", "test")
        )
        has_dev = "dev" in part_of.values()
        folds[f"fold{number}"] = Parts(_list(listing, train), _list(listing, dev) if has_dev else None,
                                       _list(listing, test))
    return folds


def _list(listing: Listing, utterances: list[Utterance]) -> Metadata:
    return Metadata(listing.labels, tuple(utterances))


def _shared(parts: Parts) -> list[str]:
    """Speakers in more than one of the lists, sorted."""
    speakers = [set(part.speakers) for part in parts if part is not None]
    return sorted(set().union(*(one & other for one, other in itertools.combinations(speakers, 2))))


def _tell_shared(name: str, parts: Parts) -> str:
    """A sentence about the speakers that the fold's lists share, '' where there are none."""
    shared = _shared(parts)
    if not shared:
        return ""
    return f"{len(shared)} speakers are in more than one of {name}'s train, dev and test: {some(shared)}"


def _check_classes(root: Path, part: Metadata, what: str) -> None:
    for label, count in zip(part.class_names, part.class_counts, strict=True):
        if not count:
            raise UserError(f"{root}: class {label!r} has no example in {what} (speakers {some(part.speakers)}); "
                            "every class needs one in every fold's train and test. "
                            "Check that the corpus is whole, use fewer folds, or leave the class out.")


# the folder


def _check_unchanged(out: Path, folds: dict[str, Parts], files: Inventory) -> None:
    """UserError where these lists or files are not those of the metadata folder `out`, if it has any."""
    before = {name: _read_parts(out / session(name)) for name in folds_in(out)}
    others = [name for name in sorted(before.keys() | folds.keys()) if before.get(name) != folds.get(name)]
    if before and others:
        was, would_be = before.get(others[0]), folds.get(others[0])
        raise _another(out, f"{others[0]} would be another: {_first_difference(was, would_be)}")
    known = read_inventory(out)
    changed = [path for path, now in files.items() if known.get(path, now) != now]
    if changed:
        raise _another(out, f"{shown(changed[0])} has another content now")


def _read_parts(folder: Path) -> Parts:
    """The lists of a fold's folder."""
    return Parts(Metadata.read(folder / TRAIN_FILE), given_dev(folder), Metadata.read(folder / TEST_FILE))


def _first_difference(before: Parts | None, now: Parts | None) -> str:
    """In words, of two lists of parts that differ."""
    if before is None or now is None:
        return "it was not there" if before is None else "it would be gone"
    for what, old, new in zip(Parts._fields, before, now, strict=True):
        if old is None or new is None:
            if old is not new:
                return f"a {what} list of its own"
        elif old.labels != new.labels:
            return f"its classes were {', '.join(old.class_names)}, now {', '.join(new.class_names)}"
        elif old != new:
            pairs = itertools.zip_longest(old.utterances, new.utterances)
            one, other = next(pair for pair in pairs if pair[0] != pair[1])
            return f"in {what} there was {_described(one)}, now {_described(other)}"
    raise AssertionError("they are the same")


def _described(utterance: Utterance | None) -> str:
    if utterance is None:
        return "nothing more"
    return f"{shown(utterance.id)} ({shown(utterance.label)}, speaker {shown(utterance.speaker)})"


def _another(out: Path, what: str) -> UserError:
    return UserError(f"{shown(out)}: a run has gone on with these lists, and {what}. What the run has made would not "
                     "fit. Give another --to, the metadata of a new run.")


def _write(out: Path, folds: dict[str, Parts], summary: CorpusSummary, files: Inventory) -> None:
    """All of the folder's files are written beside it first, then take their places; corpus.json comes last."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new.", dir=out) as staging:
            for fold, parts in folds.items():
                for part, name in zip(parts, (TRAIN_FILE, DEV_FILE, TEST_FILE), strict=True):
                    if part is not None:
                        part.write(Path(staging, session(fold), name))
            for fold, parts in folds.items():
                (out / session(fold)).mkdir(exist_ok=True)
                if parts.dev is None:
                    (out / session(fold) / DEV_FILE).unlink(missing_ok=True)  # of an earlier corpus
                for file in Path(staging, session(fold)).iterdir():
                    os.replace(file, out / session(fold) / file.name)
        current = {session(fold) for fold in folds}
        for file in out.glob(f"Session*/{TEST_FILE}"):
            if file.parent.name not in current:
                shutil.rmtree(file.parent)  # a fold of an earlier corpus in the same folder
        write_inventory(out, files)
        summary.write(out)
    except (OSError, DiskError) as error:
        refused = disk_error(error.__cause__ or error, shown(out))
        raise refused or UserError(f"{shown(out)}: the metadata could not be written ({error}). Choose another "
                                   "folder.") from error
