"""The tables of a page: plain text in cells, so that HTML and Markdown show the same."""

from collections.abc import Sequence
from typing import NamedTuple

from ..evaluation.significance import Interval
from ..evaluation.text import percent, piped
from ..recipe.results import Results
from .study import Line, Study

NONE = "–"


class Table(NamedTuple):
    """Headers and rows of text; the first `left` columns are flush left."""

    headers: list[str]
    rows: list[list[str]]
    left: int = 1


def as_pipes(table: Table) -> str:
    """A table in Markdown."""
    return piped(table.headers, table.rows, table.left)


def shown(share: float | None) -> str:
    """A share in [0, 1] in per cent; a dash for None."""
    return NONE if share is None else percent(share)


def interval(value: Interval | None, digits: int = 1) -> str:
    """An interval's ends in per cent: `-3.9 to -0.9`; a dash for None."""
    return NONE if value is None else f"{minus(percent(value.low, digits))} to {minus(percent(value.high, digits))}"


def chance(p: float | None) -> str:
    """A p value, as small as it says something."""
    if p is None:
        return NONE
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def minus(number: str) -> str:
    """A number with a true minus sign, as a page shows it."""
    return number.replace("-", "−")


def results(study: Study) -> Table:
    """A row an arm, each against all real data."""
    headers = ["trained on", "points", "UAR %", "UAR 95 %", "± seeds", "of real", "− real", "− real 95 %", "p"]
    return Table(headers, [_result(line, study) for line in study.lines])


def _result(line: Line, study: Study) -> list[str]:
    row = line.row
    share = NONE if row.of_real is None else f"{percent(row.of_real)} %"
    against = [NONE] * 3
    if row.minus_real is not None:
        against = [minus(percent(row.minus_real.value)), interval(row.minus_real), chance(row.mcnemar)]
    return [named(line, study), f"{line.points:.0f}", percent(row.mean), interval(line.uar), shown(row.spread), share,
            *against]


def by_fold(study: Study) -> Table:
    """UAR of each fold, mean over seeds."""
    folds = study.comparison.folds
    rows = [[named(line, study), *(shown(line.row.at(fold)) for fold in folds)] for line in study.lines]
    return Table(["UAR %", *folds], rows)


def named(line: Line, study: Study) -> str:
    """What it was trained on, with the configuration where the table has several of the kind."""
    alike = {other.series for other in study.lines if other.kind == line.kind}
    more = line.series.removeprefix(line.kind).removeprefix(" · ") if len(alike) > 1 else ""
    return f"{line.row.trained_on} · {more}" if more else line.row.trained_on


def kind_named(line: Line, study: Study) -> str:
    """The same without the size of it."""
    name, size = named(line, study), line.row.arm.size
    return name.replace(f", {size}", "") if size else name


def costs(study: Study) -> Table:
    """What stands for the training part, and what that takes, a row a run."""
    rows = [_cost(member.name, member.results) for member in study.members]
    headers = ["run", "fold", "audio MB", "features MB", "generator MB", "of the audio", "distilled"]
    return Table(headers, rows, left=2)


def _cost(name: str, found: Results) -> list[str]:
    sizes = found.bytes
    share = NONE if sizes.generator is None else f"{percent(sizes.generator / sizes.audio)} %"
    seconds = "closed form" if found.gaussian else NONE
    if found.distill_seconds:
        seconds = f"{found.distill_seconds:.0f} s"
    megabytes = [_megabytes(size) for size in (sizes.audio, sizes.features_float32, sizes.generator)]
    return [name, found.fold, *megabytes, share, seconds]


def _megabytes(size: int | None) -> str:
    return NONE if size is None else f"{size / 1e6:.2f}"


def times(study: Study) -> Table:
    """Seconds of a head's training, a row an arm."""
    rows = [[named(line, study), f"{line.points:.0f}", f"{line.seconds:.1f}"] for line in study.lines]
    return Table(["a head on", "points", "seconds"], rows)


def versions(members: Sequence[Results]) -> Table:
    """What the figures were made with; several values where the runs differ."""
    found: dict[str, list[str]] = {}
    for member in members:
        for key, value in {**member.versions, **member.machine}.items():
            said = found.setdefault(key, [])
            text = NONE if value is None else str(value)
            if text not in said:
                said.append(text)
    return Table(["", ""], [[key, ", ".join(values)] for key, values in found.items()], left=2)
