"""Arms: what SER heads are trained on, so that like can be compared with like; and S3PRL's heads by name."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import total_ordering
from typing import Any, Literal

from .errors import UserError
from .generator.budget import class_counts

SetSize = int | Literal["balanced", "original"]
"""Points per class, or as many points as the real set: balanced over the classes, or in its own class mix."""


class Source(StrEnum):
    """Where an arm's training points come from."""

    REAL = "real"
    """all real training utterances"""
    GENERATED = "distilled"
    """samples of a generator file"""
    RANDOM_REAL = "random_real"
    """a random subset of the real training utterances, drawn anew for each seed"""


@total_ordering
@dataclass(frozen=True)
class Arm:
    """A source of training points and a budget of them (None: all real data).

    Arms are ordered as tables show them: real data, samples from many to few, random real subsets. `name` stands in
    folder names and result files, and `Arm.parse` reads it back.
    """

    source: Source
    budget: SetSize | None = None

    def __post_init__(self) -> None:
        if (self.source is Source.REAL) != (self.budget is None):
            raise ValueError(f"{self.source}: all real data has no budget, all else has one; found {self.budget!r}")

    @property
    def name(self) -> str:
        """real, distilled_full, distilled_original, distilled_12ppc, random_real_12ppc, ..."""
        if self.budget is None:
            return self.source.value
        if isinstance(self.budget, int):
            return f"{self.source.value}_{self.budget}ppc"
        return f"{self.source.value}_{WORDS[self.budget]}"

    @classmethod
    def parse(cls, name: str) -> "Arm":
        """The arm of a name; UserError for a name of none."""
        if name == Source.REAL:
            return REAL
        match = re.fullmatch(r"(distilled|random_real)_(?:([1-9]\d*)ppc|full|(original))", name)
        if not match:
            raise UserError(f"arm {name!r}: expected real, distilled_full, distilled_original, distilled_12ppc or "
                            "random_real_12ppc.")
        whole: SetSize = "original" if match[3] else "balanced"
        return cls(Source(match[1]), int(match[2]) if match[2] else whole)

    @property
    def generated(self) -> bool:
        """Whether its points are samples of a generator file."""
        return self.source is Source.GENERATED

    def points(self, counts: list[int]) -> int:
        """How many training points it has, of a real training set with these class counts [C]."""
        if self.budget is None:
            return sum(counts)
        wanted = class_counts(self.budget, counts)
        return sum(wanted) if self.generated else sum(map(min, wanted, counts))

    def title(self, gaussian: bool = False) -> str:
        """The arm as a table shows it. gaussian: its samples are those of the closed form, not of a GAN."""
        if self.budget is None:
            return "all real data"
        what = "random real subset"
        if self.generated:
            what = "Gaussian samples" if gaussian else "GAN samples"
        size = f"{self.budget} a class" if isinstance(self.budget, int) else TITLES[self.budget]
        return f"{what}, {size}"

    def __lt__(self, other: Any) -> bool:
        return self._place() < other._place() if isinstance(other, Arm) else NotImplemented

    def _place(self) -> tuple[int, int, int]:
        """Source, then whole sets before those in points per class, then from many to few."""
        source = list(Source).index(self.source)
        if isinstance(self.budget, int):
            return source, 1, -self.budget
        return source, 0, list(WORDS).index(self.budget) if self.budget else -1


REAL = Arm(Source.REAL)
WORDS = {"balanced": "full", "original": "original"}
TITLES = {"balanced": "full size", "original": "original mix"}


def arms_of(source: Source, sizes: Sequence[SetSize]) -> list[Arm]:
    """The arms of a source at these sizes; random real subsets have sizes in points per class alone."""
    return [Arm(source, size) for size in sizes if source is Source.GENERATED or isinstance(size, int)]


HEADS: dict[str, dict[str, str]] = {
    "superb": {},  # SUPERB's: mean over time
    "attentive": {"UtteranceLevel.pooling": "AttentivePooling"},
    "cnn": {"select": "DeepModel"},  # CNNSelfAttention: three convolutions over time, then attention
}
"""S3PRL's emotion heads by name: what each changes in the modelrc of SUPERB's."""
