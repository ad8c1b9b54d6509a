"""S3PRL runs: how many at a time, started in processes of their own, and their log read."""

import os
import re
import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import DiskError, UserError
from . import workers
from .checkpoints import NO_ROOM
from .overrides import write_overrides

SHOWN_LINES = 15
"""Lines of a failed run's stdout.log that its error shows."""

SCORE_LINE = re.compile(r"^((?:train|dev|test)(?: uar)?) at step (\d+): ([\d.]+)$", re.MULTILINE)
"""A score in the log.log of S3PRL's emotion expert and of ours: its name, the step, the value."""


TEST_UAR = re.compile(r"^test uar: ([\d.]+)$", re.MULTILINE)
"""What S3PRL's `-m evaluate` prints of our emotion expert."""


class Cores(NamedTuple):
    """How the machine is shared: S3PRL runs at a time, and threads of each."""

    jobs: int
    threads: int


def share_cores(jobs: int, device: str, todo: int) -> Cores:
    """Share the cores that this process may use among `todo` runs.

    jobs: runs at a time; 0 is one a core on CPU and one on a GPU. device: cpu | cuda | cuda:N
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    by_device = cores if device == "cpu" else 1
    jobs = max(1, min(jobs or by_device, todo))
    return Cores(jobs, int(os.environ.get("OMP_NUM_THREADS") or max(1, cores // jobs)))


def start_s3prl(expdir: Path, downstream: str, flags: Sequence[str], overrides: Mapping[str, Any], seed: int,
                threads: int = 1) -> str:
    """Train by our launcher in a process of its own; goes on from the expdir's last state.

    flags: further words for S3PRL (FeatureSpec.flags, --device, ...). overrides: its -o, key -> value
    threads: of torch, in the run
    returns: the command line. Raises UserError, with the end of the run's stdout.log, where it fails.
    """
    folder = f"./{expdir}" if str(expdir).startswith("-") else str(expdir)
    arguments = ["-m", "train", "-d", downstream, *flags, "--seed", str(seed), "-p", folder, "-a",
                 "-o", write_overrides(overrides)]
    expdir.mkdir(parents=True, exist_ok=True)
    log = expdir / "stdout.log"
    code = workers.run_downstream(arguments, log, threads)
    if code == NO_ROOM:
        raise DiskError(f"{expdir}: the disk did not take what S3PRL's runner wrote there (full, or read-only?). Make "
                        "room, and give the same command again: it goes on from the last state.")
    if code:
        raise UserError(f"{expdir}: S3PRL's runner ended with code {code}. The end of its stdout.log:\n{_end_of(log)}")
    return shlex.join(["python", "-m", "s3prl_dd.run_downstream", *arguments])


def evaluate_s3prl(checkpoint: Path, expdir: Path, flags: Sequence[str], overrides: Mapping[str, Any],
                   threads: int = 1) -> float:
    """UAR of a head on the test list that overrides name, by S3PRL's `-m evaluate`; as start_s3prl.

    Everything is written into `expdir`, nothing beside the checkpoint. Raises UserError where it fails.
    """
    arguments = ["-m", "evaluate", "-t", "test", "-e", str(checkpoint), *flags,
                 "-o", write_overrides({"args.expdir": str(expdir), **overrides})]
    expdir.mkdir(parents=True, exist_ok=True)
    log = expdir / "stdout.log"
    code = workers.run_downstream(arguments, log, threads)
    told = TEST_UAR.findall(log.read_text(errors="replace"))
    if code or not told:
        raise UserError(f"{expdir}: S3PRL's evaluation ended with code {code}. The end of its stdout.log:\n"
                        f"{_end_of(log)}")
    return float(told[-1])


def best_on_dev(expdir: Path, wanted: Mapping[str, str]) -> dict[str, Any]:
    """Scores of an expdir at the first step where the first of them was best: what S3PRL's users report.

    wanted: our name -> the score's name in log.log ("dev", "test uar", ...). returns: {"step": ..., our name: value}
    Raises UserError where no step has them all.
    """
    complete = {step: scores for step, scores in _read_scores(expdir).items() if scores.keys() >= set(wanted.values())}
    if not complete:
        raise UserError(f"{expdir}/log.log: no step with all of {', '.join(wanted.values())}. See {expdir}/stdout.log.")
    by = next(iter(wanted.values()))
    step = max(complete, key=lambda step: (np.float32(complete[step][by]), -step))  # in float32, as experts compare
    return {"step": step, **{name: complete[step][logged] for name, logged in wanted.items()}}


def _read_scores(expdir: Path) -> dict[int, dict[str, float]]:
    """Step -> score's name -> value, as log.log has them; of a step that was logged twice, the later."""
    log = Path(expdir) / "log.log"
    scores: dict[int, dict[str, float]] = defaultdict(dict)
    for name, step, value in SCORE_LINE.findall(log.read_text() if log.is_file() else ""):
        scores[int(step)][name] = float(value)
    return scores


def _end_of(log: Path) -> str:
    """The last lines of a run's output; what a progress bar overwrote counts as lines."""
    text = log.read_text(errors="replace").replace("\r", "\n") if log.is_file() else ""
    return "\n".join(text.splitlines()[-SHOWN_LINES:])
