"""From a table's emotions to classes: spellings of one class are one class, and what is S3PRL's has S3PRL's name."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError
from .base import EMOTIONS, some
from .delimited import pairs, plain
from .text import tidied

ALIASES = {
    "neu": "neu", "neutral": "neu",
    "hap": "hap", "happy": "hap", "happiness": "hap",
    "ang": "ang", "angry": "ang", "anger": "ang",
    "sad": "sad", "sadness": "sad",
}
"""A table's name of an emotion, in the spelling of plain() -> S3PRL's."""


class Classes(NamedTuple):
    """What becomes of the table's emotions.

    class_of: emotion -> class name, or '' where it is left out; labels: class name -> index, 0 .. C-1
    notes: sentences about what was merged and renamed
    """

    class_of: dict[str, str]
    labels: dict[str, int]
    notes: list[str]


def classes_of(
    source: Path, emotions: Mapping[str, int], renamed: str | None = None, order: dict[str, int] | None = None
) -> Classes:
    """The classes of a table whose emotions are these (emotion -> how many utterances have it).

    renamed: "neutral=neu,fear=", classes in their order; order: labels that the table itself gives
    Without either our four have S3PRL's names and come first, all others keep theirs.
    """
    if renamed:
        classes = _renamed(source, emotions, renamed)
    elif order:
        _check_spellings(source, {name: name for name in order}, endings=False)
        classes = Classes({name: name for name in emotions}, order, [])
    else:
        classes = _as_written(source, emotions)
    if len(classes.labels) < 2:
        raise UserError(f"{source}: found the labels {some(sorted(emotions))}, {len(classes.labels)} class; "
                        "expected at least two. Check the column emotion and --emotions.")
    return classes


def _renamed(source: Path, emotions: Mapping[str, int], renamed: str) -> Classes:
    """By --emotions; a name counts as it is written there, else without case, spaces, underscores and hyphens."""
    given = {tidied(name): tidied(value) for name, value in pairs(renamed)}
    by_spelling = {plain(name): value for name, value in given.items()}
    class_of = {}
    for name in sorted(emotions):
        if name not in given and plain(name) not in by_spelling:
            raise UserError(f"{source}: unknown label {name!r}; --emotions has {some(given)}. "
                            f"Add {name}=CLASS, or {name}= to leave it out.")
        class_of[name] = given.get(name, by_spelling.get(plain(name), ""))
    names = list(dict.fromkeys(name for name in given.values() if name))
    _check_spellings(source, {name: name for name in names}, endings=False)
    return Classes(class_of, _numbered(names), [])


def _as_written(source: Path, emotions: Mapping[str, int]) -> Classes:
    """Spellings of one name are one class, named as most utterances have it."""
    notes = []
    class_of: dict[str, str] = {}
    for spellings in _spellings(emotions).values():
        most = max(sorted(spellings), key=emotions.__getitem__)
        name = ALIASES.get(plain(most), tidied(most))
        class_of |= dict.fromkeys(spellings, name)
        if len(spellings) > 1:
            notes.append(f"{' and '.join(sorted(spellings))} are one class, {name}")
    _check_spellings(source, class_of, endings=True)
    ours = [name for name in EMOTIONS if name in class_of.values()]
    others = sorted(set(class_of.values()) - set(ours))
    changed = {emotion: name for emotion, name in class_of.items() if name in ours and emotion != name}
    if changed and others:
        told = ", ".join(f"{emotion} is {name}" for emotion, name in sorted(changed.items()))
        notes.append(f"S3PRL's names are taken for its own emotions ({told}); the others keep theirs: {some(others)}")
    return Classes(class_of, _numbered([*ours, *others]), notes)


def _spellings(emotions: Mapping[str, int]) -> dict[str, list[str]]:
    """Plain spelling -> the emotions that have it."""
    spellings: dict[str, list[str]] = {}
    for name in emotions:
        spellings.setdefault(plain(name), []).append(name)
    return spellings


def _check_spellings(source: Path, class_of: Mapping[str, str], endings: bool) -> None:
    """Refuse two classes whose emotions are one word, with `endings` also where one only has a longer ending.

    Names that end in different numbers, such as 1 and 10, are different names.
    """
    names = sorted(class_of, key=lambda name: (plain(name), name))
    for place, shorter in enumerate(names):
        for longer in names[place + 1:]:
            if not plain(longer).startswith(plain(shorter)):
                break  # sorted: nothing further begins so
            ending = plain(longer)[len(plain(shorter)):]
            alike = not ending or (endings and not ending.isdigit())
            if alike and class_of[shorter] != class_of[longer]:
                raise UserError(f"{source}: the labels {shorter!r} and {longer!r} could be one class. Say what they "
                                f"are with --emotions, for example {longer}={shorter}, with every label of the table.")


def _numbered(names: list[str]) -> dict[str, int]:
    return {name: index for index, name in enumerate(names)}
