"""All benchmarks in one run, kept as JSON, and the table "what it costs" that the documents show of them.

    s3prl-dd bench all --to docs/figures/costs.json              # goes on with what is not there yet
    python -m s3prl_dd.benchmarks.costs docs/figures/costs.json  # writes the tables of docs/costs.md and README.md
"""

import os
import platform
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tabulate import tabulate

from ..devices import about_processors
from ..errors import UserError
from ..files import read_json, write_json, write_text
from ..recipe import collect
from .units import CONTROL

VERSIONS = ("s3prl_dd", "python", "torch", "numpy", "s3prl")
"""Of what a measurement is told."""

BEGIN, END = "<!-- costs: written by python -m s3prl_dd.benchmarks.costs -->", "<!-- /costs -->"
"""Lines around a table in a document."""

DOCUMENTS = {"docs/costs.md": False, "README.md": True}
"""Document, from the repository's root -> whether it shows the main rows alone."""

Row = Mapping[str, Any]


class Cost(NamedTuple):
    """A row of the table."""

    what: str
    baseline: str
    result: str
    spread: float | None
    """Slowest less fastest round, as a share of the median; None where there is one round."""

    command: str
    main: bool = False
    """Whether the README shows it."""


# measuring


def measure_all(path: Path, commands: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """What each command measures, kept in `path` as soon as it is there; what is there already is not measured again.

    commands: command line -> measures it, and gives what JSON can hold
    """
    kept = read_json(path) if path.is_file() else {}
    if not isinstance(kept, dict):
        raise UserError(f"{path}: expected a JSON object of measurements, found {type(kept).__name__}. "
                        "Take another --to.")
    for command, work in commands.items():
        if command not in kept:
            print(command, file=sys.stderr)
            about = {"machine": machine(), "versions": versions()}
            started = time.time()
            rows = work()
            kept[command] = {**about, "seconds": round(time.time() - started, 1), "rows": rows}
            write_json(path, kept)
    return kept


def machine() -> dict[str, Any]:
    """What measures: processor, cores that may be used, threads, load when it begins, GPU."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"processor": about_processors("model name") or platform.processor(), "cores": cores,
            "threads": torch.get_num_threads(), "load": round(os.getloadavg()[0], 1),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None}


def versions() -> dict[str, str]:
    """Of us and what we stand on."""
    told = {**collect.versions(), "python": platform.python_version()}
    return {name: told[name] for name in VERSIONS}


# the table


def costs_of(kept: Mapping[str, Any]) -> list[Cost]:
    """The table's rows of what was measured. kept: command -> its record, of measure_all"""
    costs: list[Cost] = []
    for kind, rows_of in ROWS.items():
        for command, record in kept.items():
            if command.split()[2] == kind:
                costs += [cost._replace(command=f"`{command}`") for cost in rows_of(record["rows"], command)]
    return costs


def _recipe(times: Row, command: str) -> list[Cost]:
    stock, *others = times["totals"]
    spread = max(part["spread"] for part in times["parts"])
    costs = []
    for row in others:
        what = f"training a head at the paper's shape, {row['run']}; extrapolated from measured parts"
        result = f"{row['less']:.1%} less: {row['seconds'] / 3600:.2f} h"
        costs.append(Cost(what, f"{stock['run']}: {stock['seconds'] / 3600:.0f} h", result, spread, command, main=True))
    return [*costs, *_heads(times["heads"], command)]


def _heads(rows: Sequence[Row], command: str) -> list[Cost]:
    stock, *others, bare = rows
    costs = []
    for row in others:
        step, spread = f"an optimiser step of SUPERB's head, {row['name']}: {row['seconds']:.3f} s", row["spread"]
        times = f"{row['ratio']:.0f} times as fast"
        costs.append(Cost(step, f"{stock['name']}: {stock['seconds']:.3g} s", times, spread, command))
        times = f"{row['of_bare']:.2f} times the seconds"
        costs.append(Cost(step, f"the bare head on ready tensors: {bare['seconds']:.3f} s", times, spread, command))
    return costs


def _sample(rows: Sequence[Row], command: str) -> list[Cost]:
    costs = []
    for row in rows[1::2]:  # each behind its baseline
        what = f"drawing a sample, {row['name']}: {row['seconds']:.3f} s"
        result = f"{row['ratio']:.2f} times as fast, {row['share']:.0%} of the machine's rate of matrix products"
        costs.append(Cost(what, "the network called as it is trained", result, row["spread"], command, main=True))
    return costs


def _step(rows: Sequence[Row], command: str) -> list[Cost]:
    dim = re.search(r"--dim (\d+)", command)
    costs = []
    for row in rows[1::2]:  # each behind its baseline
        what = f"a distiller's step, {row['name']}, D = {dim[1] if dim else 768}: {row['seconds']:.3f} s"
        result = f"{row['ratio']:.2f} times as fast, {row['apart']:.0e} from it (median)"
        costs.append(Cost(what, "a plain loop written from the equations", result, row["spread"], command, dim is None))
    return costs


def _extract(rows: Sequence[Row], command: str) -> list[Cost]:
    stock, ours = rows
    result = (f"{ours['ratio']:.2f} times as fast; largest deviation from encoding each file alone: "
              f"{ours['difference']:.0e} (S3PRL's padded batches: {stock['difference']:.0e})")
    return [Cost("extraction, files of 0.5 to 15 s", "S3PRL's own loop (batches of four, padded)", result,
                 ours["spread"], command, main=True)]


def _busy(rows: Sequence[Row], command: str) -> list[Cost]:
    costs = []
    for row in rows:
        result = (f"{row['ratio']:.1f} times the seconds; alone {row['of_spinning']:.2f} of those with "
                  "OMP_WAIT_POLICY=ACTIVE")
        costs.append(Cost(f"beside busy processes: {row['name']}", f"alone: {row['idle']:.2f} s", result, row["spread"],
                          command))
    ratios = {row["name"]: row["ratio"] for row in rows}
    slowest = max((row for row in rows if row["name"] != CONTROL), key=lambda row: row["ratio"])
    result = f"{slowest['ratio']:.1f} times the seconds"
    if CONTROL in ratios:
        result += f"; a thread of plain arithmetic: {ratios[CONTROL]:.1f} times"
    worst = Cost("beside busy processes, the stage that suffers most", f"{slowest['name']} alone", result,
                 slowest["spread"], command, main=True)
    return [worst, *costs]


def _scale(rows: Sequence[Row], command: str) -> list[Cost]:
    sizes = sorted({row["utterances"] for row in rows})
    few, many = sizes[0], sizes[-1]
    found = {(row["name"], row["utterances"]): row for row in rows}
    costs = []
    for name in dict.fromkeys(row["name"] for row in rows):
        before, after = found[name, few], found[name, many]
        result = f"{after['peak'] / 1e9:.2f} GB at most, {after['seconds']:.1f} s"
        baseline = f"{few:,} of them: {before['peak'] / 1e9:.2f} GB, {before['seconds']:.1f} s"
        costs.append(Cost(f"{many:,} utterances: {name}", baseline, result, None, command))
    largest = max((row for row in rows if row["utterances"] == many), key=lambda row: row["peak"])
    most = Cost(f"memory with {many:,} utterances, the stage that takes most", largest["name"],
                f"{largest['peak'] / 1e9:.1f} GB at most", None, command, main=True)
    return [most, *costs]


ROWS: dict[str, Callable[[Any, str], list[Cost]]] = {
    "recipe": _recipe, "sample": _sample, "step": _step, "extract": _extract, "busy": _busy, "scale": _scale}
"""Kind -> rows of what it measured."""


def costs_text(kept: Mapping[str, Any], main: bool) -> str:
    """The table as Markdown, and on what it was measured. main: the main rows alone"""
    cells = []
    for cost in costs_of(kept):
        if cost.main or not main:
            spread = "" if cost.spread is None else f"{cost.spread:.0%}"
            cells.append([cost.what, cost.baseline, cost.result, spread, cost.command])
    table = tabulate(cells, headers=("what", "baseline", "how much", "spread", "command"), tablefmt="pipe")
    narrow = re.sub(" {2,}", " ", re.sub("-{3,}", "---", table))
    return "\n".join([narrow, "", *_measured_on(kept)])


def _measured_on(kept: Mapping[str, Any]) -> list[str]:
    """A line for each machine, with loads when its measurements began."""
    told: dict[str, list[float]] = {}
    for record in kept.values():
        on, those = record["machine"], record["versions"]
        gpu = f", {on['gpu']}" if on["gpu"] else ""
        names = ", ".join(f"{name} {number}" for name, number in those.items())
        told.setdefault(f"{on['processor']}, {on['cores']} cores, {on['threads']} threads{gpu}; {names}",
                        []).append(on["load"])
    return [f"Measured on {text}; load when they began {min(loads)} to {max(loads)}." for text, loads in told.items()]


def with_costs(document: str, text: str) -> str:
    """A document with this table between its lines BEGIN and END; UserError where it has none."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise UserError(f"no place for the table of costs: expected the lines {BEGIN} and {END}.")
    return f"{before}{begin}\n{text}\n{end}{after}"


def main(source: str) -> None:
    """Write the tables of the documents in this folder."""
    kept = read_json(Path(source), "measurements")
    for name, short in DOCUMENTS.items():
        path = Path(name)
        write_text(path, with_costs(path.read_text(encoding="utf-8"), costs_text(kept, short)))


if __name__ == "__main__":
    main(*sys.argv[1:])
