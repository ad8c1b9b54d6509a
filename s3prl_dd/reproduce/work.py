"""The work of a grid: cell after cell here, or as jobs through submitit; what is done is not done again."""

import logging
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..config import Weight, build, settings
from ..errors import UserError, one_line
from ..files import read_object, write_json
from ..privacy.measure import measure
from ..privacy.settings import Settings as PrivacySettings
from ..recipe.folder import Run
from ..recipe.lists import changed_table, read_kept
from ..recipe.stages import STAGES
from .grid import Cell
from .settings import ClusterSettings

log = logging.getLogger("s3prl_dd")

POLL = 2.0
"""Seconds between two looks at jobs."""


@settings
class Tries:
    """cell.json: what came of a cell's tries. A file without a key is of a cell that is not done."""

    asked: list[Any] | None = None
    """What was asked of the last one (_asked)."""

    error: str | None = "none ended"
    """Why it failed; None where it did not."""

    seconds: Weight | None = None
    """What all tries took that came to an end."""


@dataclass(frozen=True)
class State:
    """How far a cell is."""

    cell: Cell
    done: bool
    """Whether it was finished, with all that is asked of it now."""

    error: str | None = None
    """Why its last try failed."""

    seconds: float | None = None
    """What all its tries took that came to an end, those for fewer seeds or budgets too."""


def state_of(cell: Cell, out: Path) -> State:
    """A cell's state as its folder tells it, and those of what it stands on; UserError for a foreign cell.json."""
    path = cell.folder(out) / "cell.json"
    if not path.is_file():
        return State(cell, done=False)
    tries = build(Tries, read_object(path, "cell's tries", "Delete it: the cell is then looked through anew."), path)
    results = results_file(cell, out)
    is_whole = results is None or results.is_file()
    done = tries.error is None and tries.asked == _asked(cell) and is_whole and not _is_stale(cell, out)
    return State(cell, done, tries.error, tries.seconds)


def results_file(cell: Cell, out: Path) -> Path | None:
    """Where its results are; None for a cell that has none of its own, which others are based on."""
    if cell.against is not None and cell.above is not None:
        return cell.above.folder(out) / "privacy" / "results.json"
    return cell.folder(out) / "results.json" if cell.last == "report" else None


def _is_stale(cell: Cell, out: Path) -> bool:
    """Whether its table was edited since, or what it stands on was made anew of other lists than it went on from."""
    if cell.above is None and changed_table(cell.folder(out) / "metadata", cell.settings.corpus):
        return True
    mine = read_kept(cell.folder(out))
    for other in (cell.above, cell.against):
        if other is None:
            continue
        theirs = read_kept(other.folder(out))
        if (mine and theirs and mine != theirs) or _is_stale(other, out):
            return True
    return False


def spent(cell: Cell, out: Path) -> float:
    """Seconds that its tries have taken so far."""
    return state_of(cell, out).seconds or 0.0


def _asked(cell: Cell) -> list[Any]:
    """What may grow without making another cell: budgets, seeds, and rivals with theirs, where there are any."""
    heads, rivals = cell.settings.heads, cell.settings.rivals
    asked, sources = [list(heads.budgets), heads.seeds], rivals.sources()
    if sources:
        asked.append(list(sources))
        asked += [] if rivals.rival_seeds is None else [rivals.rival_seeds]
    return asked


def execute(cells: Sequence[Cell], out: Path, cluster: ClusterSettings) -> list[State]:
    """Do what is not done, those that others are based on first. A cell that fails is told; the others go on.

    A cell that was done is looked at again in its turn: what it stands on may be another by then.
    """
    all_done = all(state_of(cell, out).done for cell in cells)
    with tqdm(total=len(cells), desc="cells", unit="cell", disable=all_done) as bar:
        rounds = _here(cells) if cluster.cluster == "here" else _by_depth(cells)
        for level in rounds:
            ready = [cell for cell in level if _is_ready(cell, out) and not state_of(cell, out).done]
            if cluster.cluster == "here":
                for cell in ready:
                    run_cell(cell, out, spent(cell, out))
            elif ready:
                _submit(ready, out, cluster)
            failed = [state for cell in level if not (state := state_of(cell, out)).done]
            for state in failed:
                bar.write(f"{state.cell.name}: {state.error or 'what it is based on is not there'}")
            bar.update(len(level))
    return [state_of(cell, out) for cell in cells]


def _here(cells: Sequence[Cell]) -> list[list[Cell]]:
    """One after the other."""
    return [[cell] for cell in cells]


def _by_depth(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Those that stand on nothing, then those that stand on these, and so on."""
    levels: dict[int, list[Cell]] = {}
    for cell in cells:
        levels.setdefault(_depth(cell), []).append(cell)
    return [levels[depth] for depth in sorted(levels)]


def _depth(cell: Cell) -> int:
    return 1 + max((_depth(other) for other in (cell.above, cell.against) if other is not None), default=0)


def _is_ready(cell: Cell, out: Path) -> bool:
    """Whether all that it stands on is there."""
    return all(other is None or state_of(other, out).done for other in (cell.above, cell.against))


def run_cell(cell: Cell, out: Path, spent: float) -> None:
    """Do a cell; what came of it stands in its folder's cell.json, and a failure's whole story in failure.txt.

    spent: seconds of its tries before
    """
    folder = cell.folder(out)
    log.info("\n[%s] %s", cell.name, folder)
    started, error = time.time(), None
    try:
        _work(cell, out)
    except UserError as failure:
        error = str(failure)
    except Exception as failure:  # of whatever kind: the rest of the grid goes on
        error = one_line(failure)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "failure.txt").write_text(traceback.format_exc(), encoding="utf-8")
    seconds = spent + time.time() - started
    write_json(folder / "cell.json", {"asked": _asked(cell), "error": error, "seconds": seconds})


def _work(cell: Cell, out: Path) -> None:
    if cell.above is not None and cell.against is not None:
        settings = PrivacySettings(seeds=cell.settings.heads.seeds, device=cell.settings.machine.device)
        measure(cell.above.folder(out), cell.sid_root, None, cell.against.folder(out), settings)
        return
    base = None if cell.above is None else str(cell.above.folder(out).resolve())
    run = Run.start(cell.folder(out), cell.settings.changed(base=base))
    names = list(STAGES)
    with run.held():
        for name in names[:names.index(cell.last) + 1]:
            log.info("[%s] %s", cell.name, name)
            STAGES[name](run)
            run.keep()


# submitit


def _submit(cells: Sequence[Cell], out: Path, cluster: ClusterSettings) -> None:
    """Each cell as a job; returns when all have ended."""
    executor = _executor(out, cluster)
    before = [spent(cell, out) for cell in cells]
    for cell in cells:
        (cell.folder(out) / "cell.json").unlink(missing_ok=True)  # of a try before
    with executor.batch():
        jobs = [executor.submit(run_cell, cell, out, seconds) for cell, seconds in zip(cells, before, strict=True)]
    with tqdm(total=len(jobs), desc="jobs", unit="job", leave=False) as bar:
        while (ended := sum(job.done() for job in jobs)) < len(jobs):
            bar.update(ended - bar.n)
            time.sleep(POLL)
    for cell, job, seconds in zip(cells, jobs, before, strict=True):
        if not (cell.folder(out) / "cell.json").is_file():
            told = f"job {job.job_id} ended as {job.state}; its log is {job.paths.stderr}"
            write_json(cell.folder(out) / "cell.json", {"asked": _asked(cell), "error": told, "seconds": seconds})


def _executor(out: Path, cluster: ClusterSettings) -> Any:
    try:
        import submitit
    except ImportError:
        raise UserError("--cluster: needs the package submitit. pip install s3prl_dd[slurm]") from None
    executor = submitit.AutoExecutor(folder=out / "jobs", cluster=cluster.cluster)
    executor.update_parameters(timeout_min=cluster.minutes, gpus_per_node=cluster.gpus, cpus_per_task=cluster.cores,
                               mem_gb=cluster.memory, name="s3prl_dd", slurm_array_parallelism=cluster.at_once)
    if cluster.partition is not None:
        executor.update_parameters(slurm_partition=cluster.partition)
    return executor
