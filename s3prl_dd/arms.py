"""Arms: what SER heads are trained on, so that like can be compared with like."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import total_ordering
from typing import Any, Literal, NamedTuple

from .errors import UserError
from .generator.budget import class_counts
from .generator.sampling import Center, Labels
from .rivals.names import Name

SetSize = int | Literal["balanced", "original"]
"""Points per class, or as many points as the real set: balanced over the classes, or in its own class mix."""


class Source(StrEnum):
    """Where an arm's training points come from; in the order in which tables show them."""

    REAL = "real"
    """all real training utterances"""
    TEACHER = "teacher"
    """none: the pool's teacher by itself"""
    GENERATED = "distilled"
    """samples of a generator file"""
    GAUSSIAN = "gaussian"
    """drawn from a Gaussian of each class's utterance means"""
    GAUSSIAN_FRAMES = "gaussian_frames"
    """the same with frames in closed form"""
    GAUSSIAN_FRAMES_ANY = "gaussian_frames_any"
    """the same with the frame deviations of any class"""
    GRADIENT_MATCHING = "gradient_matching"
    """learnt by gradients of random linear heads"""
    CLOSED_FORM = "closed_form"
    """learnt by the head that they make in closed form"""
    HERDING = "herding"
    """real utterances whose mean is the class's"""
    HERDING_CENTRED = "herding_centred"
    """the same, centred"""
    RANDOM_REAL_CENTRED = "random_real_centred"
    """a random real subset with the teacher's labels, centred"""
    RANDOM_REAL_SOFT = "random_real_soft"
    """a random real subset with the teacher's labels"""
    RANDOM_REAL = "random_real"
    """a random subset of the real training utterances, drawn anew for each seed"""


class Kind(NamedTuple):
    """What is particular to a source."""

    title: str
    """As tables show it."""

    whole: tuple[Literal["balanced", "original"], ...] = ()
    """Whole sets that it comes in: always the first of them, others where budgets ask for them."""

    drawn: bool = False
    """Whether there are as many points as asked for; else no more of a class than real utterances."""

    file: Name | None = None
    """The rival whose generator file it is (rivals.make)."""

    labels: Labels | None = None
    """Labels of its points; None: as the run says."""

    center: bool | None = None
    """Whether its classes are shifted (sampling.Sampling); None: as the run says."""

    all_real: str | None = None
    """What tables call its whole set, where that is every real utterance."""

    def center_in(self, asked: Center) -> Center:
        """Where its classes are shifted in a run that asks for this; rivals' files carry no learnt points."""
        asked = "auto" if asked == "learnt" and self.file else asked
        if self.center is None or (self.center and asked):
            return asked
        return self.center


KINDS: dict[Source, Kind] = {
    Source.REAL: Kind("all real data"),
    Source.TEACHER: Kind("teacher alone, no samples"),
    Source.GENERATED: Kind("GAN samples", ("balanced", "original"), drawn=True),
    Source.GAUSSIAN: Kind("Gaussian of means", ("balanced", "original"), drawn=True, file="gaussian"),
    Source.GAUSSIAN_FRAMES: Kind("Gaussian with frames", ("balanced", "original"), drawn=True, file="gaussian_frames"),
    Source.GAUSSIAN_FRAMES_ANY: Kind("Gaussian with any class's frames", ("balanced", "original"), drawn=True,
                                     file="gaussian_frames_any"),
    Source.GRADIENT_MATCHING: Kind("gradient matching", file="gradient_matching", center=False),
    Source.CLOSED_FORM: Kind("closed-form head", file="closed_form", center=False),
    Source.HERDING: Kind("herded real", file="herding", center=False),
    Source.HERDING_CENTRED: Kind("herded real, centred", file="herding", center=True),
    Source.RANDOM_REAL_CENTRED: Kind("random real, soft, centred", file="random_real", labels="soft", center=True),
    Source.RANDOM_REAL_SOFT: Kind("random real, soft", ("original",), file="random_real", labels="soft", center=False,
                                  all_real="soft labels on all real data"),
    Source.RANDOM_REAL: Kind("random real subset"),
}
"""What each source is. Soft: the labels are the teacher's."""

RIVAL_FRAMES = 16
"""Frames of a rival's points, where nobody says otherwise."""

RIVALS = tuple(source for source in Source if source not in (Source.REAL, Source.GENERATED))
"""What the samples of a distilled generator are measured against."""

RivalName = Literal["all", "teacher", "gaussian", "gaussian_frames", "gaussian_frames_any", "gradient_matching",
                    "closed_form", "herding", "herding_centred", "random_real_centred", "random_real_soft",
                    "random_real"]
"""What --rivals takes: all, or the names of RIVALS."""


@total_ordering
@dataclass(frozen=True)
class Arm:
    """A source of training points and a budget of them (None: all real data, or none at all).

    Arms are ordered as tables show them, so that equal budgets stand together: all real data, whole sets, then from
    many points per class to few; within a budget by their source. `name` stands in folder names and result files, and
    `Arm.parse` reads it back.
    """

    source: Source
    budget: SetSize | None = None

    def __post_init__(self) -> None:
        if (self.source in WITHOUT_BUDGET) != (self.budget is None):
            raise ValueError(f"{self.source}: all real data and the teacher have no budget, all else has one; found "
                             f"{self.budget!r}")

    @property
    def name(self) -> str:
        """real, distilled_full, distilled_original, distilled_12ppc, random_real_12ppc, herding_6ppc, ..."""
        if self.budget is None:
            return self.source.value
        if isinstance(self.budget, int):
            return f"{self.source.value}_{self.budget}ppc"
        return f"{self.source.value}_{WORDS[self.budget]}"

    @classmethod
    def parse(cls, name: str) -> "Arm":
        """The arm of a name; UserError for a name of none."""
        match = re.fullmatch(r"(\w+?)(?:_(?:([1-9]\d*)ppc|(full)|(original)))?", name)
        if match and match[1] in list(Source):
            whole: SetSize | None = "balanced" if match[3] else "original" if match[4] else None
            source, budget = Source(match[1]), int(match[2]) if match[2] else whole
            if (source in WITHOUT_BUDGET) == (budget is None) and (whole is None or whole in KINDS[source].whole):
                return cls(source, budget)
        raise UserError(f"arm {name!r}: expected real, distilled_full, distilled_original, distilled_12ppc, "
                        f"random_real_12ppc, teacher, or another rival ({', '.join(RIVALS)}) and its budget.")

    @property
    def kind(self) -> Kind:
        """What is particular to its source."""
        return KINDS[self.source]

    def labels_in(self, asked: Labels) -> Labels:
        """Labels of its points in a run whose samples have these; real utterances as they are have hard ones."""
        return self.kind.labels or (asked if self.from_file else "hard")

    def random_alike(self, labels: Labels, center: Center) -> "Arm | None":
        """Random real utterances of the same number, labels and centring; None where there are none.

        labels, center: of the run's samples
        """
        centred = self.from_file and bool(self.kind.center_in(center))
        source = RANDOM_ALIKE.get((self.labels_in(labels), centred))
        if source is None or self.source in RANDOM_ALIKE.values() or not isinstance(self.budget, int):
            return None
        return Arm(source, self.budget)

    @property
    def generated(self) -> bool:
        """Whether its points are samples of the run's generator file."""
        return self.source is Source.GENERATED

    @property
    def from_file(self) -> bool:
        """Whether its points come from a generator file, the run's or a rival's."""
        return self.generated or self.kind.file is not None

    def points(self, counts: list[int]) -> int:
        """How many training points it has, of a real training set with these class counts [C]."""
        return sum(self.points_of_class(counts))

    def points_of_class(self, counts: list[int]) -> list[int]:
        """The same of each class [C]."""
        if self.source is Source.TEACHER:
            return [0] * len(counts)
        if self.budget is None:
            return counts
        wanted = class_counts(self.budget, counts)
        return wanted if self.kind.drawn else [min(pair) for pair in zip(wanted, counts, strict=True)]

    @property
    def size(self) -> str:
        """Its budget as a table shows it; empty without one, and of every real utterance."""
        if self.budget is None or self._is_all_real:
            return ""
        return f"{self.budget} a class" if isinstance(self.budget, int) else TITLES[self.budget]

    def title(self, gaussian: bool = False) -> str:
        """The arm as a table shows it. gaussian: its samples are those of the closed form, not of a GAN."""
        if self._is_all_real:
            return str(self.kind.all_real)
        what = "Gaussian samples" if self.generated and gaussian else self.kind.title
        return f"{what}, {self.size}" if self.size else what

    @property
    def _is_all_real(self) -> bool:
        return self.budget == "original" and self.kind.all_real is not None

    def __lt__(self, other: Any) -> bool:
        return self._place() < other._place() if isinstance(other, Arm) else NotImplemented

    def _place(self) -> tuple[int, int, int]:
        """All real data, whole sets, those in points per class from many to few; then the source."""
        source = list(Source).index(self.source)
        if isinstance(self.budget, int):
            return 2, -self.budget, source
        return (1, list(WORDS).index(self.budget), source) if self.budget else (0, 0, source)


RANDOM_ALIKE: dict[tuple[Labels, bool], Source] = {
    ("hard", False): Source.RANDOM_REAL,
    ("soft", False): Source.RANDOM_REAL_SOFT,
    ("soft", True): Source.RANDOM_REAL_CENTRED,
}
"""Labels, and whether classes are shifted -> random real utterances treated alike."""

WITHOUT_BUDGET = (Source.REAL, Source.TEACHER)
REAL, TEACHER = Arm(Source.REAL), Arm(Source.TEACHER)
WORDS = {"balanced": "full", "original": "original"}
TITLES = {"balanced": "full size", "original": "original mix"}


def arms_of(source: Source, budgets: Sequence[int | Literal["original"]]) -> list[Arm]:
    """The arms of a source: its whole set, where it has one, and those of these budgets that it comes in."""
    if source in WITHOUT_BUDGET:
        return [Arm(source)]
    whole = KINDS[source].whole
    sizes: list[SetSize] = [*whole[:1], *(size for size in budgets if isinstance(size, int) or size in whole)]
    return [Arm(source, size) for size in dict.fromkeys(sizes)]
