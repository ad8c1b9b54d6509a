"""What finished runs of one corpus and upstream say together: the rows of a comparison with what a page needs of each.

    studies([folder, ...]) -> [Study, ...], one for each corpus and upstream
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ..arms import REAL, TEACHER, Source
from ..corpora.metadata import names_by_index
from ..errors import UserError
from ..evaluation.compare import Cell, Cells, Comparison, Row, RowKey, compare_results, gather, heard, read, test_lists
from ..evaluation.significance import Heard, Interval, enough_speakers, uar_interval
from ..generator import read_header
from ..pool.kinds import head_label
from ..recipe.folder import Run
from ..recipe.results import Results, TestList


@dataclass(frozen=True)
class Member:
    """A run's folder and what is there to read of it."""

    folder: Path
    """As it was given."""
    results: Results
    """results.json."""
    run: Run | None
    """Its paths and settings; None where run.json is missing or of another version."""

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name

    @cached_property
    def generator(self) -> Path | None:
        """The generator file; None where there is none that can be read."""
        if self.run is None:
            return None
        try:
            read_header(self.run.generator)
        except UserError:
            return None
        return self.run.generator


@dataclass(frozen=True)
class Line:
    """A row of the comparison with its own interval and confusion."""

    row: Row
    """The arm over the folds."""
    cells: dict[str, Cell]
    """Fold -> its heads."""
    uar: Interval | None
    """UAR and its 95 % interval over test speakers; None where predictions were not kept."""
    confusion: np.ndarray | None
    """[C, C] shares: of the utterances of a class (row) what the heads say (column), over folds and heads; or None."""

    @property
    def points(self) -> float:
        """Training points of a head, mean over folds."""
        return float(np.mean([cell.result.points for cell in self.cells.values()]))

    @property
    def points_a_class(self) -> float:
        """The same a class."""
        return self.points / next(iter(self.cells.values())).run.classes

    @property
    def seconds(self) -> float:
        """Wall time of a run of S3PRL's runner, mean over folds."""
        return float(np.mean([cell.result.train_seconds for cell in self.cells.values()]))

    @property
    def kind(self) -> str:
        """What it was trained on, without the size of it."""
        return self.row.trained_on.removesuffix(f", {self.row.arm.size}")

    @property
    def series(self) -> str:
        """What the points of one curve share: the kind, and the configuration where it has one."""
        return " · ".join(filter(None, (self.kind, self.row.variant, head_label(self.row.head))))


@dataclass(frozen=True)
class Study:
    """Runs of one corpus and one upstream."""

    comparison: Comparison
    """Their rows."""
    members: list[Member]
    """The runs, as given."""
    lines: list[Line]
    """The rows, in the order of tables."""
    class_names: list[str]
    """C names by class index."""

    @property
    def real(self) -> Line | None:
        """All real data, with the first head that has it."""
        return next((line for line in self.lines if line.row.arm == REAL), None)

    @property
    def generated(self) -> Line | None:
        """The first row of generated samples: that of the table's first configuration, whatever its score."""
        drawn = [line for line in self.lines if line.row.arm.generated]
        trained = [line for line in drawn if not next(iter(line.cells.values())).run.gaussian]
        return next(iter(trained + drawn), None)

    def beside(self, line: Line) -> Line | None:
        """The random real subset of the same head at the smallest budget that `line`'s kind has too."""
        subsets = [other for other in self.lines if other.row.arm.source is Source.RANDOM_REAL
                   and other.row.head == line.row.head]
        budgets = {other.row.arm.budget for other in self.lines if other.series == line.series}
        shared = [other for other in subsets if other.row.arm.budget in budgets]
        return shared[-1] if shared else None

    @property
    def seeds(self) -> list[int]:
        """Heads of each row on each fold; the teacher is none."""
        rows = [line.row for line in self.lines if line.row.arm != TEACHER]
        return [len(values) for row in rows for values in row.uar.values()]


def studies(folders: Sequence[str | Path]) -> list[Study]:
    """The runs of these folders by corpus and upstream, in the order given. Raises UserError as `compare` does."""
    members = [_member(Path(folder)) for folder in folders]
    groups: dict[tuple[str, str], list[Member]] = {}
    for member in members:
        groups.setdefault((member.results.corpus, member.results.upstream), []).append(member)
    return [_study(group) for group in groups.values()]


def _member(folder: Path) -> Member:
    results = read(folder)
    try:
        run = Run.open(folder)
    except UserError:
        run = None  # results alone: the page says what is not there
    return Member(folder, results, run)


def _study(members: list[Member]) -> Study:
    runs = {member.folder: member.results for member in members}
    comparison = compare_results(runs)
    tests, cells = test_lists(runs), gather(runs)
    lines = [_line(row, cells[RowKey(row.head, row.arm, row.variant)], tests) for row in comparison.rows]
    return Study(comparison, members, lines, _class_names(members))


def _line(row: Row, cells: Cells, tests: dict[str, TestList]) -> Line:
    folds = heard(cells, tests)
    if not folds:
        return Line(row, cells, None, None)
    classes = next(iter(cells.values())).run.classes
    interval = uar_interval(folds) if enough_speakers(folds) else None
    return Line(row, cells, interval, _confusion(folds, classes))


def _confusion(folds: Sequence[Heard], classes: int) -> np.ndarray:
    """[C, C]: counts over folds and heads, each row divided by its sum; a class that no list has is a row of zeros."""
    counts = np.zeros((classes, classes))
    for fold in folds:
        for predicted in np.asarray(fold.predicted):
            np.add.at(counts, (np.asarray(fold.truth), predicted), 1)
    return counts / counts.sum(axis=1, keepdims=True).clip(min=1)


def _class_names(members: Sequence[Member]) -> list[str]:
    """As the metadata has them; class 0, 1, ... where no run has its metadata any more."""
    for member in members:
        if member.run and (member.run.metadata / "corpus.json").is_file() and member.run.corpus.labels:
            return names_by_index(member.run.corpus.labels)
    return [f"class {index}" for index in range(members[0].results.classes)]
