"""Train, dev and test as a corpus gives them: one fold, with dev as it is."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from ..errors import UserError
from .base import Part, tally
from .delimited import plain

PARTS: dict[str, Part] = {
    "train": "train", "training": "train",
    "dev": "dev", "devel": "dev", "development": "dev", "val": "dev", "valid": "dev", "validation": "dev",
    "test": "test", "testing": "test",
}
"""A table's name of a part, in the spelling of plain(), without a number -> the part."""


def part_named(name: str) -> Part | None:
    """Train -> train, Validation -> dev, Test1 -> test; None for a name that is no part's."""
    return PARTS.get(re.sub(r"\d+$", "", plain(name)))


def given_parts(where: str, split_of: Mapping[str, str]) -> tuple[dict[str, Part], list[str]]:
    """(utterance's id -> its part, sentences for the user). split_of: id -> what the table calls its part.

    Names that are not train, dev or test, and a table without train or without test, are a UserError.
    """
    counts = Counter(split_of.values())
    part_of_name = {}
    for name in counts:
        part = part_named(name)
        if part is None:
            raise UserError(f"{where}: split {name!r}; expected train, dev (or validation) and test. Name the column "
                            "fold if it holds folds, or leave it out with --columns split=.")
        part_of_name[name] = part
    check_complete(where, part_of_name.values())
    notes = [f"train, dev and test are the corpus' own: {tally(counts)}"]
    if "dev" not in part_of_name.values():
        notes.append("it gives no dev list: S3PRL draws dev from train, 1 in 5")
    tests = [name for name, part in part_of_name.items() if part == "test"]
    if len(tests) > 1:
        notes.append(f"{' and '.join(sorted(tests))} are one test list")
    return {key: part_of_name[name] for key, name in split_of.items()}, notes


def check_complete(where: str, parts: Iterable[Part]) -> None:
    """Refuse splits without train or without test."""
    there = set(parts)
    for part in ("train", "test"):
        if part not in there:
            raise UserError(f"{where}: its splits are {', '.join(sorted(there))}; expected {part} among them. Add it, "
                            "or leave the splits out with --columns split=.")
