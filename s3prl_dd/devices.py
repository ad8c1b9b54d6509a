"""Which device a command runs on, and how torch's threads share a CPU's work.

Threads that share one operation wait for each other, and do so all the time where operations are small or where other
processes take the cores. So training of small networks takes one thread, and what consists of independent parts
(utterances, samples) takes a thread for each part instead.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from .errors import UserError

One = TypeVar("One")
Other = TypeVar("Other")


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


def both(one: Callable[[], One], other: Callable[[], Other], threads: int) -> tuple[One, Other]:
    """What two functions give, each with half of the threads; one after the other where there is one thread."""
    if threads == 1:
        return one(), other()
    before = torch.get_num_threads()
    torch.set_num_threads(threads // 2)
    try:
        with ThreadPoolExecutor(1) as beside:
            first = beside.submit(one)
            second = other()
            return first.result(), second
    finally:
        torch.set_num_threads(before)
