"""Several runs side by side (folds, configurations, heads): their arms as rows, each against all real data.

    compare([folder, ...]) -> Comparison -> table, plot, save
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from ..arms import REAL, Arm
from ..errors import UserError
from ..files import atomic_path, write_json, write_text
from ..pool.kinds import HEADS, head_label
from ..recipe.results import ArmResult, Results, TestList
from .folds import over_folds, share_of_real
from .report import color_of
from .significance import Heard, Interval, Paired, enough_speakers, mcnemar_of_heads, uar_difference, uar_share
from .text import aligned, percent


@dataclass(frozen=True)
class Row:
    """An arm over the folds of the comparison. UARs are in [0, 1]."""

    trained_on: str
    """The arm as a table shows it."""
    arm: Arm
    """What the heads were trained on."""
    head: str
    """S3PRL's head, a key of kinds.HEADS."""
    variant: str
    """How the samples were made and drawn (Results.variant_of); empty for arms of real data."""
    uar: dict[str, list[float]]
    """Fold -> UAR of each of its seeds."""
    mean: float
    """Mean over folds of the mean over seeds."""
    spread: float | None
    """Standard deviation over the seeds of a fold, mean over folds; None where every fold has one seed."""
    of_real: float | None
    """Share of the UAR of all real data on the same folds and with the same head; None without."""
    of_real_interval: Interval | None
    """The same with its interval, of heads whose predictions were kept; None as minus_real."""
    minus_real: Interval | None
    """Difference to it; None for all real data itself, and where its predictions or the row's were not kept."""
    mcnemar: float | None
    """p against it (significance.mcnemar_of_heads); None as minus_real."""
    below_samples: Interval | None = None
    """UAR of heads on the generator's samples of this size less this row's; None of these and of all real data, where
    there are several rows of such samples, and as minus_real."""

    def at(self, fold: str) -> float | None:
        """UAR on a fold, mean over its seeds; None where the row has none."""
        return self.mean_of([fold]) if fold in self.uar else None

    def mean_of(self, folds: Sequence[str]) -> float:
        """Mean over these folds, which it has, of the mean over seeds."""
        return over_folds(self.uar[fold] for fold in folds).mean

    def as_json(self) -> dict[str, Any]:
        """As comparison.json holds it."""
        return {**asdict(self), "arm": self.arm.name}


@dataclass(frozen=True)
class Comparison:
    """Runs of one corpus and one upstream."""

    corpus: str
    """Name of the corpus."""
    upstream: str
    """S3PRL's -u."""
    folds: list[str]
    """All test folds, sorted."""
    rows: list[Row]
    """By head, arm and variant."""

    def as_json(self) -> dict[str, Any]:
        """As comparison.json holds it."""
        return {"corpus": self.corpus, "upstream": self.upstream, "folds": self.folds,
                "rows": [row.as_json() for row in self.rows]}


class RowKey(NamedTuple):
    """What the folds of a row have in common."""

    head: str
    arm: Arm
    variant: str

    def place(self) -> tuple[int, Arm, str]:
        """Where the row stands: by head, then by arm, then by variant."""
        return list(HEADS).index(self.head), self.arm, self.variant


class Cell(NamedTuple):
    """An arm on one fold: its heads, and the run that they were read from."""

    result: ArmResult
    run: Results
    folder: Path


Cells = dict[str, Cell]
"""Fold -> cell, of one row."""


def compare(folders: Sequence[str | Path]) -> Comparison:
    """Compare finished runs, each a folder with results.json.

    Raises UserError for runs of different corpora or upstreams, and where runs do not share the heads of a row and fold
    that they have in common (all real data, or a variant given twice).
    """
    return compare_results({Path(folder): read(folder) for folder in folders})


def _check_alike(runs: Iterable[Results]) -> None:
    """UserError where heads of one kind hear other features, or were trained otherwise: their mean would be of nothing.

    Results of older versions do not tell, and pass.
    """
    known: dict[tuple[str, str], str] = {}
    for run in runs:
        for what, found in (("features", run.features), (f"{run.head} heads trained for", run.recipe)):
            if found is None:
                continue
            first = known.setdefault((what, run.head), found)
            if first != found:
                raise UserError(f"runs of different {what}: {first}; and {found}. Compare runs whose heads hear the "
                                "same and are trained alike.")


def compare_results(runs: Mapping[Path, Results]) -> Comparison:
    """The same of runs that were read: folder -> its results. Raises UserError as `compare`."""
    first, *others = runs.values()
    for other in others:
        if (other.corpus, other.upstream) != (first.corpus, first.upstream):
            raise UserError(f"runs of {first.corpus}, {first.upstream} and of {other.corpus}, {other.upstream}. "
                            "Compare those of one corpus and upstream.")
    _check_alike(runs.values())
    tests = test_lists(runs)
    cells = gather(runs)
    rows = []
    for key in sorted(cells, key=RowKey.place):
        real = cells.get(RowKey(key.head, REAL, ""), {})
        rows.append(_row(key, cells[key], real, _samples_beside(key, cells), tests))
    return Comparison(first.corpus, first.upstream, sorted({run.fold for run in runs.values()}), rows)


def read(folder: str | Path) -> Results:
    """The results of a finished run's folder. Raises UserError where there are none, or of an unknown head."""
    path = Path(folder) / "results.json"
    if not path.is_file():
        raise UserError(f"{path}: not there. Give the folders of finished runs (`s3prl-dd report` writes it).")
    results = Results.read(path)
    if results.head not in HEADS:
        raise UserError(f"{path}: head {results.head!r}, expected {' or '.join(HEADS)}. Run `s3prl-dd report` anew.")
    return results


def test_lists(runs: Mapping[Path, Results]) -> dict[str, TestList]:
    """Fold -> its test list, of the runs that kept it; UserError where two runs of a fold tested on different ones."""
    lists: dict[str, TestList] = {}
    for folder, run in runs.items():
        if run.test is not None and lists.setdefault(run.fold, run.test) != run.test:
            raise UserError(f"{folder}: its test utterances of {run.fold} are others than those of a run before it. "
                            "Compare runs on one test list.")
    return lists


def gather(runs: Mapping[Path, Results]) -> dict[RowKey, Cells]:
    """Every arm of every run, by row and fold. Raises UserError as `compare`."""
    cells: dict[RowKey, Cells] = {}
    for folder, run in runs.items():
        for name, result in run.arms.items():
            arm = Arm.parse(name)
            key = RowKey(run.head, arm, run.variant_of(arm))
            before = cells.setdefault(key, {}).setdefault(run.fold, Cell(result, run, folder))
            if before.result.uar_per_seed != result.uar_per_seed:
                raise UserError(f"{folder} and {before.folder}: the row {arm.title(run.gaussian)!r} of {run.fold} "
                                "differs. Compare runs that share one --base, each reported anew (`s3prl-dd report`), "
                                "and a variant once.")
    return cells


def _samples_beside(key: RowKey, rows: Mapping[RowKey, Cells]) -> Cells:
    """The generator's samples of a rival's size, where there is one row of them; else nothing."""
    if key.arm == REAL or key.arm.generated:
        return {}
    found = [cells for other, cells in rows.items()
             if other.arm.generated and (other.head, other.arm.budget) == (key.head, key.arm.budget)]
    return found[0] if len(found) == 1 else {}


def _row(key: RowKey, cells: Cells, real: Cells, samples: Cells, tests: Mapping[str, TestList]) -> Row:
    uar = {fold: cells[fold].result.uar_per_seed for fold in sorted(cells)}
    real_uar = {fold: cell.result.uar_per_seed for fold, cell in real.items()}
    mean, spread = over_folds(uar.values())
    pairs = pairs_of(cells, real, tests) if key.arm != REAL and uar.keys() <= real.keys() else []
    rivals = pairs_of(samples, cells, tests) if samples.keys() == cells.keys() else []
    gaussian = key.arm.generated and next(iter(cells.values())).run.gaussian
    return Row(
        trained_on=key.arm.title(gaussian), arm=key.arm, head=key.head, variant=key.variant, uar=uar,
        mean=mean, spread=spread, of_real=share_of_real(uar, real_uar),
        of_real_interval=uar_share(pairs) if enough_speakers(pairs) else None,
        minus_real=uar_difference(pairs) if enough_speakers(pairs) else None,
        mcnemar=mcnemar_of_heads(pairs) if pairs else None,
        below_samples=uar_difference(rivals) if enough_speakers(rivals) else None)


def pairs_of(cells: Cells, others: Cells, tests: Mapping[str, TestList]) -> list[Paired]:
    """A row's predictions beside another's, fold by fold; none where some were not kept."""
    ours, theirs = heard(cells, tests), heard({fold: others[fold] for fold in cells}, tests)
    if not ours or not theirs:
        return []
    return [Paired(first.truth, first.speakers, first.predicted, second.predicted)
            for first, second in zip(ours, theirs, strict=True)]


def heard(cells: Cells, tests: Mapping[str, TestList]) -> list[Heard]:
    """A row's predictions, fold by fold; none where some were not kept."""
    found = []
    for fold, cell in sorted(cells.items()):
        predicted = cell.result.predictions
        if predicted is None or fold not in tests:
            return []
        found.append(Heard(tests[fold].truth, tests[fold].speakers, predicted))
    return found


# what is printed, drawn and written


def describe(row: Row, comparison: Comparison) -> str:
    """A row's configuration, with the head where there are several."""
    heads = {other.head for other in comparison.rows}
    return f"{row.variant} {head_label(row.head, heads)}".strip()


def table(comparison: Comparison) -> str:
    """The comparison as text; the columns of the tests stand where a row has them."""
    tested = any(row.minus_real for row in comparison.rows)
    headers = ["trained on", "configuration", *comparison.folds, "mean", "+-", "seeds", "of real"]
    headers += ["- real", "95 %", "McNemar p"] if tested else []
    rows = [_line(row, comparison, tested) for row in comparison.rows]
    title = f"{comparison.corpus}, {comparison.upstream}: UAR % on real test speech of held-out speakers"
    return "\n".join([title, "", *aligned(headers, rows, left=2)])


def _line(row: Row, comparison: Comparison, tested: bool) -> list[str]:
    folds = [percent(row.at(fold)) for fold in comparison.folds]
    seeds = min(len(values) for values in row.uar.values())
    share = "-" if row.of_real is None else f"{percent(row.of_real)}%"
    cells = [row.trained_on, describe(row, comparison), *folds, percent(row.mean), percent(row.spread), str(seeds),
             share]
    if not tested:
        return cells
    return [*cells, *difference(row), "" if row.mcnemar is None else f"{row.mcnemar:.2g}"]


def difference(row: Row) -> list[str]:
    """A row's difference to all real data and its interval, as text; empty where there is none."""
    if row.minus_real is None:
        return ["", ""]
    value, low, high = row.minus_real
    return [percent(value), f"{percent(low)} .. {percent(high)}"]


def plot(comparison: Comparison, path: str | Path) -> None:
    """The rows' mean UAR as bars, a dot for each fold; written to `path` (PNG)."""
    upwards = comparison.rows[::-1]
    figure = Figure(figsize=(9, 0.36 * len(upwards) + 1.4), layout="constrained")
    axis = figure.subplots()
    for place, row in enumerate(upwards):
        axis.barh(place, 100 * row.mean, color=color_of(row.arm))
        axis.plot([100 * np.mean(values) for values in row.uar.values()], [place] * len(row.uar), "k.", markersize=4)
    names = [", ".join(filter(None, (row.trained_on, describe(row, comparison)))) for row in upwards]
    axis.set_yticks(range(len(upwards)), names, fontsize=7)
    axis.set(xlabel="UAR % on held-out speakers (dots: folds)", xlim=(0, 100),
             title=f"{comparison.corpus}, {comparison.upstream}")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def save(comparison: Comparison, out: str | Path) -> None:
    """comparison.json, .txt (the table) and .png in the folder `out`."""
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "comparison.json", comparison.as_json())
    write_text(folder / "comparison.txt", table(comparison) + "\n")
    plot(comparison, folder / "comparison.png")
