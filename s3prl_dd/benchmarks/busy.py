"""What a busy machine costs: each stage's unit of work alone and beside busy processes, turn about."""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tabulate import tabulate
from tqdm import tqdm

from .. import THREAD_WAIT_ENV
from ..errors import UserError
from ..plugin.stepping import Answering
from ..timing import Timed, median_ratio
from . import units

SPINNING = {"OMP_WAIT_POLICY": "ACTIVE"}
"""Variables with which waiting threads spin, as they do under torch where nothing is said."""

SETTLING = 3
"""How often each process works before anything is measured."""

BUSY = """
import os
import numpy
matrix, parent = numpy.ones((512, 512)), os.getppid()
print("ready", flush=True)
while os.getppid() == parent:
    matrix @ matrix
"""
"""A process that multiplies matrices, on a core of its own, as long as we live."""

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class BusyTime(NamedTuple):
    """What a stage's unit of work takes."""

    name: str

    idle: float
    """Seconds, nothing of ours beside it: median over the rounds."""

    busy: float
    """Seconds beside the busy processes: median over the rounds."""

    spread: float
    """Slowest less fastest round, as a share of the median, of the idle ones."""

    ratio: float
    """busy / idle: median over the rounds, each of both in turn."""

    of_spinning: float
    """idle / idle with threads that spin: median over the rounds, each of both in turn; at most 1 is no worse."""


def bench_busy(processes: int = 4, rounds: int = 3, names: Sequence[str] = units.NAMES) -> list[BusyTime]:
    """Each stage's unit as a user would run it, alone and beside so many processes that multiply matrices.

    Threads are as the package and the environment of this process have them.
    """
    if processes < 1 or rounds < 1:
        raise UserError(f"processes {processes}, rounds {rounds}: expected 1 or more of each.")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        units.prepare(Path(folder))
        for name in tqdm(names, desc="busy", unit="stage"):
            rows.append(_measure(name, Path(folder), processes, rounds))
    return rows


def _measure(name: str, folder: Path, processes: int, rounds: int) -> BusyTime:
    """Rounds of: alone, alone and spinning, beside the busy ones."""
    spinning_there = {key: value for key, value in os.environ.items() if key != "GOMP_SPINCOUNT"} | SPINNING
    idle, spinning, busy = [], [], []
    with (_started(name, folder, own_environment()) as ours, _started(name, folder, spinning_there) as theirs):
        for _ in range(rounds):
            idle.append(_unit(name, ours))
            spinning.append(_unit(name, theirs))
            with busy_processes(processes):
                busy.append(_unit(name, ours))
    alone = Timed.of(idle)
    return BusyTime(name, alone.seconds, Timed.of(busy).seconds, alone.spread, median_ratio(busy, idle),
                    median_ratio(idle, spinning))


def own_environment() -> dict[str, str]:
    """The user's variables: this process' without those that the package has set."""
    ours = THREAD_WAIT_ENV.items() <= os.environ.items()
    return {key: value for key, value in os.environ.items() if not ours or key not in THREAD_WAIT_ENV}


@contextlib.contextmanager
def _started(name: str, folder: Path, environment: dict[str, str]) -> Iterator[Answering]:
    """A process that has worked some times, and is stopped."""
    with units.start(name, folder, environment) as process:
        process.wait()
        for _ in range(SETTLING):
            process.step(units.repeats(name))
        process.pause()
        yield process


def _unit(name: str, process: Answering) -> float:
    """Seconds of a unit; the process is stopped before and behind it, for its threads may spin."""
    process.go_on()
    seconds = process.step(units.repeats(name))
    process.pause()
    return seconds


@contextlib.contextmanager
def busy_processes(number: int) -> Iterator[None]:
    """So many processes that multiply matrices, a thread each."""
    environment = os.environ | dict.fromkeys(THREADS, "1")
    started = [subprocess.Popen([sys.executable, "-c", BUSY], env=environment, stdout=subprocess.PIPE)
               for _ in range(number)]
    try:
        for process in started:
            assert process.stdout
            process.stdout.readline()
        yield
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.communicate()


def busy_table(rows: Sequence[BusyTime], processes: int) -> str:
    """The rows as text."""
    title = f"seconds alone and beside {processes} processes that multiply matrices, medians of interleaved rounds"
    cells = [[row.name, row.idle, f"{row.spread:.0%}", row.busy, row.ratio, row.of_spinning] for row in rows]
    headers = ("stage", "alone", "spread", "busy", "busy / alone", "alone / spinning")
    return f"{title}\n\n" + tabulate(cells, headers=headers, floatfmt=("", ".3f", "", ".3f", ".2f", ".2f"))
