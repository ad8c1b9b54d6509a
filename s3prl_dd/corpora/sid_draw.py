"""Which part of a speaker-identification list each of a speaker's files goes to: train, dev or test."""

import random
import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError
from .sid_check import DEV, TEST, TRAIN


@dataclass(frozen=True)
class Draw:
    """How each speaker's files are dealt to the parts; fields as in prepare_sid."""

    root: Path
    ratios: tuple[float, ...]
    split_by: str | None
    seed: int

    def __post_init__(self) -> None:
        if len(self.ratios) != 3 or min(self.ratios) <= 0 or abs(sum(self.ratios) - 1) > 1e-6:
            raise UserError(f"ratios {self.ratios}: expected three positive shares of train, dev and test "
                            "that add up to 1.")

    def parts(self, speaker: str, paths: list[str]) -> dict[str, int]:
        """Path -> 1, 2 or 3. Too few files for one in each part are a UserError."""
        where = self.root / speaker
        if len(paths) < 3:
            raise UserError(f"{where}: {len(paths)} usable utterances of this speaker; expected at least 3, "
                            "one for each of train, dev and test. Add some, or remove the speaker.")
        order = random.Random(f"{self.seed}/{speaker}").sample(paths, len(paths))
        test = self._test_values(order, where) if self.split_by else self._test_files(order)
        rest = [path for path in order if path not in test]
        train_share, dev_share, _ = self.ratios
        dev = set(rest[:_between(1, round(dev_share / (train_share + dev_share) * len(rest)), len(rest) - 1)])
        part_of = {}
        for path in order:
            part_of[path] = TEST if path in test else DEV if path in dev else TRAIN
        return part_of

    def _test_files(self, order: list[str]) -> set[str]:
        """The first files of the drawn order."""
        return set(order[:_between(1, round(self.ratios[2] * len(order)), len(order) - 2)])

    def _test_values(self, order: list[str], where: Path) -> set[str]:
        """The files with the speaker's last values of split_by. where: the speaker, for errors."""
        assert self.split_by
        value_of = {path: match_group(self.split_by, path, self.root, "--split-by") for path in order}
        values = sorted(set(value_of.values()))
        if len(values) < 2:
            raise UserError(f"{where}: --split-by finds only {values[0]!r}; expected at least two values, "
                            "to keep test apart.")
        count = _between(1, round(self.ratios[2] * len(values)), len(values) - 1)
        held_out = values[-count:]
        test = {path for path in order if value_of[path] in held_out}
        left = len(order) - len(test)
        if left < 2:
            raise UserError(f"{where}: --split-by leaves {left} utterance for train and dev; expected at least 2.")
        return test


def _between(low: int, value: int, high: int) -> int:
    return min(max(value, low), high)


def match_group(pattern: str, path: str, root: Path, option: str) -> str:
    """What the pattern's group finds in the path. option: where the pattern was given, for errors."""
    try:
        match = re.search(pattern, path)
        value = match[1] if match else None
    except (re.error, IndexError) as error:
        raise UserError(f"{option} {pattern!r}: expected a regular expression with one group ({error}).") from None
    if value is None:
        raise UserError(f"{root / path}: {option} {pattern!r} does not match this path. Change the expression.")
    return value
