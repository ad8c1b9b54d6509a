"""The audio of a listing: every file is decoded once, and what cannot be used or is too long is told."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from tqdm import tqdm

from ..errors import UserError
from .ahead import ahead
from .audio import AudioError, AudioInfo, audio_info
from .base import Corpus, Listing, some
from .inventory import Inventory, twins
from .metadata import Utterance
from .options import CorpusOptions
from .text import is_text, shown

WORKERS = 2
"""Threads that decode files to check them."""

MOST_MISSING = 0.05
"""Share of a corpus' files that may be missing or unreadable without an error."""

LONG = 30.0
"""Seconds from which a recording is told to be long."""


@dataclass
class Checked:
    """What decoding every file gave, by id of the utterance, in the list's order.

    infos: of the usable ones; errors: of those that are not; too_long: why others were left out
    files: the files of what is kept
    """

    infos: dict[str, AudioInfo] = field(default_factory=dict)
    errors: dict[str, AudioError] = field(default_factory=dict)
    too_long: dict[str, str] = field(default_factory=dict)
    files: Inventory = field(default_factory=dict)

    @property
    def excluded(self) -> dict[str, str]:
        """Utterance that was left out, as it can be printed -> why."""
        causes = {shown(key): error.cause for key, error in self.errors.items()}
        return causes | {shown(key): cause for key, cause in self.too_long.items()}


def check_audio(corpus: Corpus, root: Path, listing: Listing) -> Checked:
    """Decode every file, or the segment of it that is used, once."""
    checked = Checked()
    results = ahead(lambda utterance: _info(root, utterance), listing.utterances, WORKERS, limit=100)
    with tqdm(total=len(listing.utterances), desc=f"checking {corpus.name}", unit="file", leave=False) as progress:
        for utterance, result in zip(listing.utterances, results, strict=True):
            if isinstance(result, AudioError):
                checked.errors[utterance.id] = result
            else:
                checked.infos[utterance.id] = result
            progress.update()
    return checked


def _info(root: Path, utterance: Utterance) -> AudioInfo | AudioError:
    """What the utterance's audio is, or why it cannot be used."""
    path = root / utterance.path
    for name in (utterance.path, utterance.speaker, utterance.label):
        if not is_text(name):
            return AudioError(path, f"{shown(name)} is not UTF-8; neither JSON nor S3PRL can carry the name",
                              "Rename the file.")
    try:
        return audio_info(path, utterance.start, utterance.end)
    except AudioError as error:
        return error


def check_missing(corpus: Corpus, root: Path, checked: Checked, allow_missing: bool) -> None:
    """UserError where a corpus is not whole enough: nothing usable, a hole in fixed lists, over 5 % of the files."""
    errors, total = checked.errors, len(checked.errors) + len(checked.infos)
    if not errors:
        return
    key, error = next(iter(errors.items()))
    first = f"{shown(key)}: {error.cause}"
    if corpus.exact:
        raise UserError(f"{root / key}: cannot be used as audio: {error.cause}. S3PRL's lists need all {total} files, "
                        f"{len(errors)} cannot be used ({some(errors)}). {error.remedy} Nothing was written.")
    if not checked.infos:
        raise UserError(f"{root}: none of {total} files can be used as audio. The first, {first}. {error.remedy}")
    if len(errors) > MOST_MISSING * total and not allow_missing:
        raise UserError(f"{root}: {len(errors)} of {total} files ({len(errors) / total:.0%}) are missing or cannot be "
                        f"used. The first, {first}. {error.remedy} Or go on without them: --allow-missing.")


def limit(listing: Listing, checked: Checked, options: CorpusOptions) -> Listing:
    """The listing of usable utterances, none longer than max_seconds; `checked` follows."""
    kept: list[Utterance] = []
    new_id: dict[str, str] = {}
    cut = []
    taken = {utterance.id for utterance in listing.utterances}
    for utterance in listing.utterances:
        info = checked.infos.get(utterance.id)
        if info is None:
            continue
        old = utterance.id
        if options.max_seconds is not None and info.seconds > options.max_seconds:
            del checked.infos[old]
            if options.long == "leave_out":
                checked.too_long[old] = f"{info.seconds:.1f} s, longer than {options.max_seconds:g} s"
                continue
            start = utterance.start or 0.0
            utterance = replace(utterance, start=start, end=start + options.max_seconds)
            if utterance.id != old and utterance.id in taken:
                checked.too_long[old] = f"{info.seconds:.1f} s, and cut it is {shown(utterance.id)}, which is there"
                continue
            taken.add(utterance.id)
            checked.infos[utterance.id] = replace(info, seconds=options.max_seconds)
            cut.append(old)
        kept.append(utterance)
        new_id[old] = utterance.id
    notes = [*listing.notes]
    if cut:
        notes.append(f"{len(cut)} cut after {options.max_seconds:g} s: {some(cut)}")
    if checked.too_long:
        left_out = some(checked.too_long)
        notes.append(f"{len(checked.too_long)} longer than {options.max_seconds:g} s left out: {left_out}")
    given = {number: {new_id[key]: part for key, part in parts.items() if key in new_id}
             for number, parts in listing.given.items()}
    if not kept:
        raise UserError(f"--max-seconds {options.max_seconds:g}: no utterance is as short. Take more, or --long cut.")
    return replace(listing, utterances=kept, given=given, notes=notes)


def same_parts(utterances: Iterable[Utterance], infos: Mapping[str, AudioInfo]) -> list[list[str]]:
    """Groups of ids that name the same samples of one file, such as the whole and a segment from 0 on."""
    groups: dict[tuple[str, int, int], list[str]] = {}
    for utterance in utterances:
        info = infos[utterance.id]
        first, samples = round((utterance.start or 0.0) * info.rate), round(info.seconds * info.rate)
        groups.setdefault((utterance.path, first, samples), []).append(utterance.id)
    return [group for group in groups.values() if len(group) > 1]


def tell(listing: Listing, checked: Checked) -> Listing:
    """The listing with sentences about unusable, silent, repeated and long files, and about segments."""
    warnings, notes = [*listing.warnings], [*listing.notes]
    if checked.errors:
        left_out = some(f"{shown(key)} ({error.cause})" for key, error in checked.errors.items())
        warnings.append(f"{len(checked.errors)} missing, unreadable or empty files are left out: {left_out}")
    silent = [key for key, info in checked.infos.items() if info.silent]
    if silent:
        warnings.append(f"{len(silent)} silent files are kept: {some(silent)}")
    for group in twins(checked.files):
        warnings.append(f"byte-identical files are kept: {' = '.join(map(shown, group))}")
    for group in same_parts(listing.utterances, checked.infos):
        warnings.append(f"the same part of a file is kept more than once: {' = '.join(map(shown, group))}")
    long = sorted((key for key, info in checked.infos.items() if info.seconds > LONG),
                  key=lambda key: -checked.infos[key].seconds)
    if long:
        warnings.append(f"{len(long)} are longer than {LONG:g} s, the longest {checked.infos[long[0]].seconds:.1f} s, "
                        f"and take memory and time accordingly: {some(long, most=3)}. --max-seconds {LONG:g} leaves "
                        "them out, with --long cut they are cut")
    segments = sum(utterance.is_segment for utterance in listing.utterances)
    if segments:
        notes.append(f"{segments} utterances are segments of their files: run them with s3prl-dd or its launcher, for "
                     "S3PRL's own reader takes whole files")
    return replace(listing, warnings=warnings, notes=notes)
