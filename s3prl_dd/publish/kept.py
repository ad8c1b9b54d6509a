"""What finished runs say, as a JSON file that the repository keeps: the figures of a table, and how they were made.

    keep([folder, ...], revision) -> Kept -> write;  Kept.read(path) gives it back
"""

import os.path
import re
from collections.abc import Sequence
from dataclasses import field
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from ..arms import REAL
from ..config import Count, Weight, Whole, build, settings
from ..errors import UserError
from ..evaluation.across import FILE, called
from ..evaluation.compare import read
from ..evaluation.significance import Interval
from ..files import read_json, write_json
from ..privacy.results import PrivacyResults
from ..recipe.results import Results
from . import tables, words
from .study import Line, Study, studies

TABLES = "tables.json"
"""What `s3prl-dd reproduce` writes."""


@settings
class About:
    """How figures were made."""

    commands: list[str]
    """Command lines, without the places of the machine that they ran on."""
    made_with: dict[str, str]
    """Package -> version, and the machine; several values where runs differ."""
    revision: str
    """Of this repository's code when it measured."""


@settings
class KeptRow:
    """An arm at one budget, over the folds of a corpus."""

    trained_on: str
    """The kind of arm, with its configuration where several are of the kind."""
    size: str
    """Its budget in words; empty of all real data and of the teacher."""
    seeds: Count
    """Heads of a fold, the fewest of any."""
    uar: Weight
    """Mean over folds of the mean over seeds."""
    interval: Interval | None
    """The same with its 95 % interval over test speakers; None where predictions were not kept."""
    spread: Weight | None
    """Standard deviation over the seeds of a fold, mean over folds; None of one seed."""
    of_real: Weight | None
    """Share of the UAR of all real data on the same folds and with the same head."""
    of_real_interval: Interval | None
    """The same with its 95 % interval: a bootstrap over test speakers within folds, paired."""
    mcnemar: Weight | None
    """p of McNemar's test against all real data."""
    by_fold: dict[str, Weight]
    """Fold -> UAR, mean over seeds."""
    below_samples: Interval | None = None
    """Of a rival: how far heads on the generator's samples of the same size are above it, and the 95 % interval."""

    @property
    def is_real(self) -> bool:
        """Whether these are the heads on all real data that the others are held against."""
        return self.trained_on.startswith(REAL.title())


@settings
class KeptCorpus:
    """The rows of one corpus and upstream."""

    corpus: str
    """Its name."""
    upstream: str
    """S3PRL's -u."""
    utterances: Whole
    """Test utterances of all folds."""
    speakers: Whole
    """Who speak them; 0 where that was not kept."""
    rows: list[KeptRow]
    """In the order of tables."""
    head: str = "superb"
    """S3PRL's head, a key of kinds.HEADS; several with commas."""

    @property
    def folds(self) -> list[str]:
        """Those of all rows, sorted."""
        return sorted({fold for row in self.rows for fold in row.by_fold})


@settings
class KeptTable:
    """A table that `s3prl-dd reproduce` or `s3prl-dd compare --across` made."""

    title: str
    """What it shows, on what."""
    headers: list[str]
    """Of its columns."""
    rows: list[list[str]]
    """Text in cells."""
    left: int
    """Columns of words."""
    notes: list[str]
    """What must be known to read it."""


@settings
class Kept:
    """A JSON file of docs/figures: one of the three kinds of figures."""

    about: About
    """How they were made."""
    corpora: list[KeptCorpus] = field(default_factory=list)
    """Arms over budgets, of runs."""
    privacy: PrivacyResults | None = None
    """What was measured of a run's privacy."""
    tables: list[KeptTable] = field(default_factory=list)
    """The paper's tables beside ours, of a grid; heads across corpora."""

    @classmethod
    def read(cls, path: Path) -> "Kept":
        """Of a file; UserError for a missing or foreign one."""
        return build(cls, read_json(path, "file of figures (written by python -m s3prl_dd.publish.documents)"), path)

    def write(self, path: Path) -> None:
        """As JSON, whole or not at all."""
        write_json(path, TypeAdapter(Kept).dump_python(self, mode="json", exclude_defaults=True))


def keep(sources: Sequence[Path], revision: str, command: str | None = None) -> Kept:
    """What these folders say: runs, one run's `privacy` folder, or that of a `reproduce` or a `compare --across`.

    revision: of the code that measured; command: the command line, where it is not what a run's settings tell
    Raises UserError for folders of no results, and as `evaluation.compare` does.
    """
    first = sources[0]
    given = [command] if command else None
    if len(sources) == 1 and any((first / name).is_file() for name in (TABLES, FILE)):
        if given is None:
            raise UserError(f"{first}: its tables do not tell their command. Give it with --command.")
        return _of_tables(first, given, revision)
    if len(sources) == 1 and first.name == "privacy":
        about = About(given or [f"s3prl-dd privacy --out result/{first.parent.name}"],
                      _made_with([read(first.parent)]), revision)
        return Kept(about, privacy=PrivacyResults.read(first / "results.json"))
    found_studies = studies(sources)
    members = [member.results for study in found_studies for member in study.members]
    about = About(given or commands_of(found_studies), _made_with(members), revision)
    return Kept(about, corpora=[_corpus(study) for study in found_studies])


def _made_with(found: Sequence[Results]) -> dict[str, str]:
    return {key: value for key, value in tables.versions(found).rows}


def _of_tables(folder: Path, commands: list[str], revision: str) -> Kept:
    """Of a grid, or of heads across corpora."""
    if (folder / TABLES).is_file():
        path, runs = folder / TABLES, sorted(folder.glob("cells/*/results.json"))
        found = list(read_json(path).values())
    else:
        path = folder / FILE
        found = [read_json(path)]
        runs = [Path(run) / "results.json" for run in found[0]["runs"]]
    about = About(commands, _made_with([Results.read(run) for run in runs]), revision)
    names = KeptTable.__dataclass_fields__
    return Kept(about, tables=[build(KeptTable, {name: table[name] for name in names}, path) for table in found])


# runs


def _corpus(study: Study) -> KeptCorpus:
    tests = {member.results.fold: member.results for member in study.members}
    speakers = {name for results in tests.values() if results.test for name in results.test.speakers}
    run, name = study.members[0].run, study.comparison.corpus
    return KeptCorpus(
        corpus=name if run is None else called(run, name), upstream=study.comparison.upstream,
        utterances=sum(results.test_utterances for results in tests.values()), speakers=len(speakers),
        rows=[_row(line, study) for line in study.lines],
        head=", ".join(dict.fromkeys(member.results.head for member in study.members)))


def _row(line: Line, study: Study) -> KeptRow:
    row = line.row
    return KeptRow(
        trained_on=tables.kind_named(line, study), size=row.arm.size, seeds=min(map(len, row.uar.values())),
        uar=row.mean, interval=line.uar, spread=row.spread, of_real=row.of_real, of_real_interval=row.of_real_interval,
        mcnemar=row.mcnemar, by_fold={fold: float(np.mean(values)) for fold, values in row.uar.items()},
        below_samples=row.below_samples)


def commands_of(found: Sequence[Study]) -> list[str]:
    """The command line of each run, behind that of its base where this is not among the runs; each once."""
    runs = [member.run for study in found for member in study.members if member.run is not None]
    above = os.path.commonpath([run.out.resolve().parent for run in runs]) if runs else ""
    commands: list[str] = []
    for run in runs:
        commands += [portable(words.command_of(each), above) for each in (run.base, run) if each is not None]
    return list(dict.fromkeys(commands))


def portable(command: str, above: str) -> str:
    """A command without the places of this machine: the runs are in result/, of other paths the last name stays."""
    found = re.sub(rf"(?<= ){re.escape(above)}/", "result/", command)
    return re.sub(r"(?<= )/\S*/", "", found)

