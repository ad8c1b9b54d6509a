"""Which device a command runs on, and how torch's threads share a CPU's work.

Threads that share one operation wait for each other, and do so all the time where operations are small or where other
processes take the cores. So heads are trained on one thread, GAN-1D's steps take several where these are faster, and
what consists of independent parts (utterances, samples) takes a thread for each part instead.
"""

import collections
import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from .errors import UserError


def device_name(device: str | None) -> str:
    """The device of this name; None takes cuda where there is one. Raises UserError for one that is not there."""
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise UserError(f"--device {device}: no such device. Expected cuda, cuda:0, ... or cpu.") from None
    if kind not in ("cuda", "cpu"):
        raise UserError(f"--device {device}: S3PRL runs on cuda or cpu alone.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError(f"--device {device}: torch {torch.__version__} sees no GPU here. Leave --device away to run on "
                        "the CPU.")
    return device


PROCESSORS = Path("/proc/cpuinfo")
"""Linux' own account of them."""


def about_processors(key: str) -> str | None:
    """What Linux says of the first processor, by its key (vendor_id, model name); None elsewhere, and without it."""
    told = PROCESSORS.read_text(encoding="utf-8") if PROCESSORS.is_file() else ""
    found = re.search(rf"^{key}\s*: (.*)$", told, re.MULTILINE)
    return found[1] if found else None


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute each operation with one thread; where the user sets OMP_NUM_THREADS, with as many as that.

    What comes out is then the same on any number of cores.
    """
    if "OMP_NUM_THREADS" in os.environ:
        yield
        return
    with side_by_side():
        yield


@contextlib.contextmanager
def side_by_side() -> Iterator[int]:
    """As one_thread, whatever the user sets. yields: how many threads may work side by side instead, one on each core

    Threads that are started meanwhile compute with one thread each, too.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


def agree(probe: Callable[[], Sequence[torch.Tensor]], threads: int) -> bool:
    """Whether what is computed has the same bits on one thread and on so many."""
    with side_by_side():
        alone = probe()
        torch.set_num_threads(threads)
        return all(torch.equal(one, other) for one, other in zip(alone, probe(), strict=True))


class HelpfulThreads:
    """How many threads a repeated task of small operations takes: several, or one where that is faster.

    Which it is hangs on the task and on who else is at work, and is measured while the task goes on. Where what is
    computed has other bits on several threads than on one, one thread does it all. What the user sets (OMP_NUM_THREADS)
    wins.
    """

    most = 4
    """More do not help."""

    looks = 0.03
    """Largest share of the time spent on timing the thread count that is not in use."""

    lately = 4
    """First turns of each thread count; later, how many recent turns it is judged by (the fastest counts)."""

    def __init__(self, probe: Callable[[], Sequence[torch.Tensor]]) -> None:
        """probe: computes what the task does, and changes nothing; called with one thread and with several."""
        allowed = torch.get_num_threads()
        several = min(allowed, self.most)
        if "OMP_NUM_THREADS" in os.environ:
            self.choices = [allowed]
        else:
            self.choices = [several, 1] if several > 1 and agree(probe, several) else [1]
        self.since_look = 0.0
        self.seconds = {threads: collections.deque[float](maxlen=self.lately) for threads in self.choices}

    def next(self) -> int:
        """Threads of the next turn."""
        untried = min(self.choices, key=lambda threads: len(self.seconds[threads]))
        if len(self.seconds[untried]) < self.lately:
            return untried
        best, *others = sorted(self.choices, key=lambda threads: min(self.seconds[threads]))
        if others and self.seconds[others[-1]][-1] <= self.looks * self.since_look:
            self.since_look = 0.0
            return others[-1]
        return best

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """One turn of the task, with as many threads as help."""
        before, threads = torch.get_num_threads(), self.next()
        torch.set_num_threads(threads)
        started = time.perf_counter()
        try:
            yield
        finally:
            torch.set_num_threads(before)
        taken = time.perf_counter() - started
        self.seconds[threads].append(taken)
        self.since_look += taken
