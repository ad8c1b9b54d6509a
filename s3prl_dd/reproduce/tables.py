"""Cells as the paper's tables: ours, and the paper's number in brackets where it has one."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..arms import REAL, Arm, Source
from ..evaluation.compare import Cell as Heads
from ..evaluation.compare import Cells as OnFolds
from ..evaluation.compare import Comparison, Row, compare, difference, pairs_of, test_lists
from ..evaluation.folds import over_folds
from ..evaluation.ranking import (
    benjamini_hochberg,
    hard_label_recovery,
    improvement_over_random,
    label_robust_score,
)
from ..evaluation.significance import Interval, enough_speakers, uar_difference
from ..evaluation.text import aligned, percent, piped
from ..generator.sampling import Sampling
from ..privacy.results import PrivacyResults
from ..privacy.rows import TITLES
from ..recipe.collect import sizes
from ..recipe.folder import Run
from ..recipe.results import Results, TestList
from . import paper
from .grid import BASELINE, LOSSES, Cell
from .settings import Table
from .work import state_of

ELSEWHERE = "[the paper: IEMOCAP Session 1, HuBERT Base, networks at full size]"


class Value(NamedTuple):
    """A number of a table."""

    ours: float | None
    """None where no cell gave it."""

    spread: float | None = None
    """Standard deviation over seeds, mean over folds."""

    paper: float | None = None
    """The paper's, where it has one."""

    gain: Interval | None = None
    """How far it is above the baseline, with its 95 % interval over test speakers."""

    only: tuple[str, ...] = ()
    """The folds that it is of, where they are not all of the table's."""

    def text(self) -> str:
        """Ours in per cent, its spread, its gain in points, its folds, and the paper's in brackets."""
        words = [percent(self.ours)]
        words += [] if self.spread is None else [f"+- {percent(self.spread)}"]
        if self.gain is not None:
            value, low, high = (percent(end) for end in self.gain)
            words.append(f"(gain {value}, {low} .. {high})")
        words += [f"on {' '.join(self.only)} only"] if self.only else []
        words += [] if self.paper is None else [f"[{percent(self.paper, 2)}]"]
        return " ".join(words)


@dataclass(frozen=True)
class Printed:
    """A table as it is shown and kept."""

    name: Table
    """table1, ..., beyond."""

    title: str
    """What it shows, on what."""

    headers: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)
    """What must be known to read it."""

    values: Any = None
    """The same as numbers."""

    left: int = 1
    """Columns of words."""

    def text(self) -> str:
        """For a terminal."""
        return "\n".join([self.title, "", *aligned(self.headers, self.rows, self.left), *self.notes])

    def markdown(self) -> str:
        """For a page."""
        table = piped(self.headers, self.rows, self.left)
        notes = "".join(f"\n- {note}" for note in self.notes)
        return f"### {self.title}\n\n{table}\n{notes}\n"

    def as_json(self) -> dict[str, Any]:
        """As tables.json holds it."""
        return asdict(self)


def print_tables(wanted: Iterable[Table], cells: Sequence[Cell], out: Path) -> list[Printed]:
    """The tables of finished cells; what is not done yet leaves a dash."""
    made = {"table1": table1, "table2": table2, "table3": table3, "table4": table4}
    printed: list[Printed] = []
    for name in wanted:
        printed += beyond(cells, out) if name == "beyond" else [made[name](cells, out)]
    return [table for table in printed if table.rows]


# Table 1


def table1(cells: Sequence[Cell], out: Path) -> Printed:
    """Bytes of the audio, of its features, and of the file of each network; mean over folds."""
    found: dict[str, list[float]] = {}
    for cell, _ in _finished(cells, out):
        if cell.losses != "both" or cell.network is None:
            continue
        measured = sizes(Run.open(cell.folder(out)))
        for name, size in (("audio", measured.audio), ("features", measured.features_float32),
                           (cell.network, measured.generator)):
            if size is not None:
                found.setdefault(name, []).append(size)
    means = {name: float(np.mean(values)) for name, values in found.items()}
    order = [*(name for name in REPLACED if name in means), *sorted(means.keys() - set(REPLACED))]
    rows = []
    for name in order:
        less = [_less(means[name], means.get(other)) for other in REPLACED]
        rows.append([name, f"{means[name] / 1e6:.2f}", *less, _paper_bytes(name)])
    return Printed("table1", f"Table 1: size on disk, {_about(cells, out)}",
                   ["", "MB", "less than audio", "less than features", "[paper: MB]"], rows, [ELSEWHERE], means)


REPLACED = ("audio", "features")
"""What the file takes the place of."""


def _less(size: float, whole: float | None) -> str:
    """By how many per cent it is smaller."""
    return "-" if whole is None or size >= whole else f"{percent(1 - size / whole)}%"


def _paper_bytes(name: str) -> str:
    size = paper.BYTES.get(family(name) or name)
    return "" if size is None else f"[{size / 1e6:.0f}]"


# Table 2


def table2(cells: Sequence[Cell], out: Path) -> Printed:
    """UAR of heads on the samples of each network, by its losses and the points of a class."""
    values: dict[str, dict[str, Value]] = {}
    arms = _arms(cells, out, lambda cell: cell.network is not None)
    tests = test_lists({heads.folder: heads.run for found in arms.values() for heads in found.values()})
    for trained, found in sorted(arms.items(), key=lambda item: (item[0].network or "", item[0].arm)):
        if trained.network is None:
            continue
        key = (family(trained.network), trained.arm.budget, trained.losses)
        value = _value(found, _folds(cells), paper.LOSSES_UAR.get(key))._replace(gain=_gain(trained, arms, tests))
        values.setdefault(f"{trained.network}, {trained.arm.size}", {})[trained.losses or ""] = value
    rows = [[name, *(_text(row.get(losses)) for losses in LOSSES)] for name, row in values.items()]
    return Printed("table2", f"Table 2: UAR % by losses, {_about(cells, out)}", ["samples of", *LOSSES], rows,
                   [ELSEWHERE, GAIN], _numbers(values))


GAIN = "gain: points of UAR above the baseline of the row, and its 95 % interval (test speakers drawn anew, paired)"


def _gain(trained: "Trained", arms: "Mapping[Trained, OnFolds]", tests: Mapping[str, TestList]) -> Interval | None:
    """How far heads on a network's samples are above those of its baseline; None of the baseline, and without one."""
    baseline = arms.get(trained._replace(losses=BASELINE), {})
    if trained.losses == BASELINE or baseline.keys() != arms[trained].keys():
        return None
    pairs = pairs_of(arms[trained], baseline, tests)
    return uar_difference(pairs) if enough_speakers(pairs) else None


# Table 3


def table3(cells: Sequence[Cell], out: Path) -> Printed:
    """UAR of heads on all real data and on as many samples: in its class mix, and as many of each class."""
    arms = _arms(cells, out, lambda cell: cell.losses == "both")
    values: dict[str, dict[str, Value]] = {}
    for (network, _, arm), found in arms.items():
        name = "real" if arm.source is Source.REAL else network
        if name is None or isinstance(arm.budget, int) or not (arm.generated or name == "real"):
            continue
        size = "full" if arm.budget == "balanced" else "original"  # all real data are in their own mix
        of_paper = paper.SIZES_UAR.get((family(network) or name, size))
        values.setdefault(name, {})[size] = _value(found, _folds(cells), of_paper)
    rows = [[name, *(_text(values[name].get(size)) for size in ("original", "full"))]
            for name in sorted(values, key=lambda name: (name != "real", name))]
    return Printed("table3", f"Table 3: UAR % at the size of the real set, {_about(cells, out)}",
                   ["trained on", "original mix", "balanced"], rows, [ELSEWHERE], _numbers(values))


# Table 4


def table4(cells: Sequence[Cell], out: Path) -> Printed:
    """S3PRL's speaker identification on the first linear layer of each head, and the head's own UAR."""
    rows, values = [], {}
    for cell, _ in _finished(cells, out):
        if cell.against is None or cell.above is None:
            continue
        results = PrivacyResults.read(cell.above.folder(out) / "privacy" / "results.json")
        for tree, measured in results.sid.items():
            asked = f"{Path(measured.root).name}: {measured.speakers} speakers"
            for name, row in measured.rows.items():
                value = Value(row.sid_accuracy.value, None, paper.SID_ACCURACY.get(str(name)))
                interval = f"{percent(row.sid_accuracy.low, 0)} .. {percent(row.sid_accuracy.high, 0)}"
                rows.append([asked, TITLES[name], value.text(), interval, percent(row.ser_uar)])
                values[f"{tree}, {name}"] = value._asdict()
    headers = ["speakers of", "first linear layer of", "SID acc %", "95 %", "SER UAR %"]
    return Printed("table4", f"Table 4: what the heads tell of the speaker, {_about(cells, out)}", headers, rows,
                   [ELSEWHERE], values, left=2)


# beyond the paper


def beyond(cells: Sequence[Cell], out: Path) -> list[Printed]:
    """Every arm of every head on one upstream as a table, one for each upstream."""
    folders: dict[str, list[Path]] = {}
    for cell, _ in _finished(cells, out):
        if cell.network is None and cell.last == "report" and cell.against is None:
            folders.setdefault(cell.settings.upstream.upstream, []).append(cell.folder(out))
    return [_arms_table(compare(runs), cells[0].settings.sampling) for runs in folders.values()]


def _arms_table(comparison: Comparison, sampling: Sampling) -> Printed:
    adjusted = benjamini_hochberg([row.mcnemar for row in comparison.rows])
    rows = [[row.trained_on, row.head, *(percent(row.at(fold)) for fold in comparison.folds), percent(row.mean),
             percent(row.spread), "-" if row.of_real is None else f"{percent(row.of_real)}%", *difference(row),
             "" if p is None else f"{p:.2g}", *_ranking(row, comparison, sampling)]
            for row, p in zip(comparison.rows, adjusted, strict=True)]
    headers = ["trained on", "head", *comparison.folds, "mean", "+-", "of real", "- real", "95 %", "p (BH)",
               "HLR", "IOR", "LRS"]
    notes = ["95 %: paired bootstrap over test speakers; p: McNemar's, adjusted over the table (Benjamini-Hochberg)",
             "HLR, IOR, LRS: DD-Ranking's, on UAR. IOR: gain over random real utterances of the same size, head, "
             "labels and centring; HLR, and LRS with it, are of sets with hard labels alone (--labels hard)"]
    title = f"Beyond the paper: UAR % on held-out speakers, {comparison.corpus}, {comparison.upstream}"
    return Printed("beyond", title, headers, rows, notes, comparison.as_json(), left=2)


def _ranking(row: Row, comparison: Comparison, sampling: Sampling) -> list[str]:
    """HLR, IOR and LRS of a row in points of UAR and in per cent; nothing where there is no like to compare with.

    sampling: of the runs. Soft labels are the teacher's, who knows all real data: what they recover is not the set's.
    """
    alike = row.arm.random_alike(sampling.labels, sampling.center)
    of_head = {other.arm: other.mean for other in comparison.rows if other.head == row.head and not other.arm.generated}
    if alike is None or alike not in of_head:
        return ["", "", ""]
    ior = improvement_over_random(row.mean, of_head[alike])
    if row.arm.labels_in(sampling.labels) != "hard" or REAL not in of_head:
        return ["", percent(ior), ""]
    hlr = hard_label_recovery(of_head[REAL], row.mean)
    return [percent(hlr), percent(ior), percent(label_robust_score(hlr, ior))]


# reading cells


def _text(value: Value | None) -> str:
    return "-" if value is None else value.text()


def family(network: str | None) -> str | None:
    """The paper's name of a network, of whatever size; None for others."""
    names = {"gan_cnn": "GAN-CNN", "gan_att": "GAN-ATT"}
    return next((name for prefix, name in names.items() if network and network.startswith(prefix)), None)


def _finished(cells: Sequence[Cell], out: Path) -> list[tuple[Cell, Path]]:
    """The cells that were done, with their folders."""
    return [(cell, cell.folder(out)) for cell in cells if state_of(cell, out).done]


class Trained(NamedTuple):
    """What heads were trained on."""

    network: str | None
    """None: real data."""

    losses: str | None
    arm: Arm


def _arms(cells: Sequence[Cell], out: Path, wanted: Callable[[Cell], bool]) -> dict[Trained, OnFolds]:
    """The heads on all real data and on samples, on every fold."""
    gathered: dict[Trained, OnFolds] = {}
    for cell, folder in _finished(cells, out):
        path = folder / "results.json"
        if cell.against is None and path.is_file() and wanted(cell):
            results = Results.read(path)
            for name, result in results.arms.items():
                arm = Arm.parse(name)
                if arm.generated or arm.source is Source.REAL:
                    trained = Trained(cell.network if arm.generated else None, cell.losses, arm)
                    gathered.setdefault(trained, {})[results.fold] = Heads(result, results, folder)
    return gathered


def _value(found: OnFolds, folds: Sequence[str], of_paper: float | None) -> Value:
    """The mean over folds. folds: of the table"""
    mean, spread = over_folds(heads.result.uar_per_seed for heads in found.values())
    only = () if len(found) == len(folds) else tuple(fold for fold in folds if fold in found)
    return Value(mean, spread, of_paper, only=only)


def _folds(cells: Sequence[Cell]) -> list[str]:
    """Of the table, in its order."""
    return list(dict.fromkeys(cell.settings.corpus.fold for cell in cells))


def _about(cells: Sequence[Cell], out: Path) -> str:
    """Of what corpus, upstream and folds. A table of one's own is called as its results call it."""
    first = cells[0].settings
    folds = _folds(cells)
    paths = [folder / "results.json" for _, folder in _finished(cells, out)]
    name = next((Results.read(path).corpus for path in paths if path.is_file()), first.corpus.corpus)
    return f"{name}, {first.upstream.upstream}, {' '.join(folds)}"


def _numbers(values: Mapping[str, Mapping[str, Value]]) -> dict[str, dict[str, Any]]:
    return {name: {key: value._asdict() for key, value in row.items()} for name, row in values.items()}
