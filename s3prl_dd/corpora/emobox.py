"""EmoBox' folds: data/<corpus>/fold_<k>/<corpus>_{train,valid,test}_fold_<k>.jsonl, any of its corpora.

The root is that folder of one corpus, or EmoBox' own where it holds one alone; paths in the lists (downloads/...) start
from EmoBox' own folder, which is found above. label_map.json beside the folds says what an emotion is called.
"""

import re
from collections import Counter
from pathlib import Path

from ..errors import UserError
from ..files import read_json
from .base import Corpus, Listing, Part, some, tally
from .delimited import choose, read_json_lines
from .labels import Classes, classes_of
from .metadata import Utterance
from .rows import Parsed, Row, check_paths, parse_rows, tell_respelt, utterance_of
from .splits import check_complete, part_named
from .text import shown, tidied

UNKNOWN_SPEAKER = "unknown"
"""Of all utterances of lists that name no speaker."""


def find(
    root: Path, emotions: str | None = None, speaker: str | None = None, allow_shared_speakers: bool = False
) -> Listing:
    """The folds of one corpus; the options are those of CorpusOptions."""
    folder = _corpus_folder(root)
    return listing_of_folds(_audio_root(folder), folder, speaker, emotions, allow_shared_speakers)


def fold_folders(folder: Path) -> dict[int, Path]:
    """Fold number -> EmoBox' folder of it, fold_1 (or fold1) and so on."""
    folds = {}
    for path in folder.iterdir():
        match = re.fullmatch(r"fold_?([1-9]\d*)", path.name)
        if match and path.is_dir():
            folds[int(match[1])] = path
    return dict(sorted(folds.items()))


def _corpus_folder(root: Path) -> Path:
    """The folder that holds the folds: the root, or the only such folder in its data."""
    if fold_folders(root):
        return root
    within = root / "data" if (root / "data").is_dir() else root
    corpora = sorted(path for path in within.iterdir() if path.is_dir() and fold_folders(path))
    if len(corpora) == 1:
        return corpora[0]
    if corpora:
        raise UserError(f"{root}: EmoBox' lists of {len(corpora)} corpora ({some(path.name for path in corpora)}). "
                        f"Give one of them, such as --root {corpora[0]}.")
    raise UserError(f"{root}: found no folders fold_<k>; expected EmoBox' data/<corpus> with fold_1 and so on. "
                    "Check --root.")


def _audio_root(folder: Path) -> Path:
    """The nearest folder, from the lists' own upwards, from which the first paths of the lists lead to a file."""
    lists = [path for fold in fold_folders(folder).values() for path in _lists(fold).values()]
    paths = []
    for path in lists:
        table = read_json_lines(path)
        column = choose(path, table, None).get("file", "")
        paths += [record.values.get(column, "") for record in table.records]
    for above in (folder, *folder.parents):
        if any(path and (above / path).is_file() for path in paths[:1000]):
            return above
    first = paths[0] if paths else "any file"
    raise UserError(f"{folder}: {first} of its lists lies neither there nor in a folder above. Put the corpus' audio "
                    "(or a link to it) where EmoBox expects it, its own folder's downloads/.")


def _lists(fold: Path) -> dict[Part, Path]:
    """Part -> its list in a folder fold_<k>."""
    lists: dict[Part, Path] = {}
    for path in sorted(fold.glob("*.jsonl")):
        words = re.split(r"[^A-Za-z]+", path.stem)
        parts = [part for part in map(part_named, words) if part]
        if not parts:
            continue
        if parts[-1] in lists:
            raise UserError(f"{path}: a second list of {parts[-1]} beside {lists[parts[-1]].name}. Remove one.")
        lists[parts[-1]] = path
    check_complete(str(fold), lists)
    return lists


def listing_of_folds(
    root: Path, folder: Path, speaker: str | None, emotions: str | None, allow_shared_speakers: bool
) -> Listing:
    """The folds of `folder` as they are. root: where the paths start; the other options as in CorpusOptions."""
    rows: dict[int, dict[Part, list[Row]]] = {}
    respelt: dict[str, str] = {}
    for number, fold in fold_folders(folder).items():
        rows[number] = {}
        for part, path in _lists(fold).items():
            parsed = _rows(path, speaker, not allow_shared_speakers)
            rows[number][part] = parsed.rows
            respelt |= parsed.respelt
    rows = _renamed(folder, rows)
    every = [row for parts in rows.values() for part in parts.values() for row in part]
    classes = classes_of(folder, Counter(row.emotion for row in every), emotions)
    listing = Listing([], {}, classes.labels, notes=[*classes.notes, *tell_respelt(respelt)], root=root,
                      name=shown(folder.name))
    utterances: dict[str, Utterance] = {}
    for number, parts in rows.items():
        listing.given[number] = _fold(root, folder, parts, classes, utterances)
    listing.utterances = list(utterances.values())
    check_paths(folder, root, listing.utterances)
    _tell(listing, rows, classes)
    return listing


def _rows(path: Path, speaker: str | None, needed: bool) -> Parsed:
    table = read_json_lines(path)
    rows, respelt = parse_rows(path, table, choose(path, table, None), speaker, needed)
    return Parsed([row if row.speaker else row._replace(speaker=UNKNOWN_SPEAKER) for row in rows], respelt)


def _renamed(folder: Path, rows: dict[int, dict[Part, list[Row]]]) -> dict[int, dict[Part, list[Row]]]:
    """The rows with EmoBox' names of their emotions, where it says what they are."""
    path = folder / "label_map.json"
    if not path.is_file():
        return rows
    names = read_json(path, "EmoBox label map")
    if not isinstance(names, dict):
        raise UserError(f"{path}: expected a JSON object, label to name, found {names!r:.60}.")
    return {number: {part: [row._replace(emotion=tidied(str(names.get(row.emotion) or row.emotion))) for row in of_part]
                     for part, of_part in parts.items()} for number, parts in rows.items()}


def _fold(
    root: Path, folder: Path, parts: dict[Part, list[Row]], classes: Classes, utterances: dict[str, Utterance]
) -> dict[str, Part]:
    """Utterance's id -> its part in this fold; new utterances are added to `utterances`."""
    part_of: dict[str, Part] = {}
    for part, rows in parts.items():
        for row in rows:
            if not classes.class_of[row.emotion]:
                continue
            utterance = utterance_of(root, row, classes)
            before = utterances.setdefault(utterance.id, utterance)
            if before != utterance:
                raise UserError(f"{folder}: {utterance.id} is {before.label} of {before.speaker} in one list and "
                                f"{utterance.label} of {utterance.speaker} in another. Correct the lists.")
            if utterance.id in part_of:
                raise UserError(f"{folder}: {utterance.id} is in {part_of[utterance.id]} and in {part} of one fold. "
                                "Keep one line of it.")
            part_of[utterance.id] = part
    return part_of


def _tell(listing: Listing, rows: dict[int, dict[Part, list[Row]]], classes: Classes) -> None:
    listing.notes.append(f"the {len(rows)} folds are EmoBox' own")
    if not any("dev" in parts for parts in rows.values()):
        listing.notes.append("they give no dev list: S3PRL draws dev from train, 1 in 5")
    every = {row for parts in rows.values() for of_part in parts.values() for row in of_part}  # each file once or more
    left_out = Counter(emotion for emotion in dict((row.file, row.emotion) for row in every).values()
                       if not classes.class_of[emotion])
    if left_out:
        listing.notes.append(f"other emotions left out: {tally(left_out)}")
    if any(utterance.speaker == UNKNOWN_SPEAKER for utterance in listing.utterances):
        listing.warnings.append("the lists name no speakers: whether train and test share some is not known")


CORPUS = Corpus("emobox", find, "not known: EmoBox' lists do not say; see the corpus itself")
