"""Units of work beside busy processes: who works when, and the ratios."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from s3prl_dd import THREAD_WAIT_ENV
from s3prl_dd.benchmarks import busy, units
from s3prl_dd.benchmarks.busy import bench_busy, busy_processes, busy_table, own_environment
from s3prl_dd.errors import UserError
from s3prl_dd.plugin.stepping import Answering
from s3prl_dd.timing import median_ratio

ECHO = "import sys; print(flush=True); [print(flush=True) for line in sys.stdin]"


def stops(process):
    """Whether a process is stopped, or is so in a moment: signals take some time."""
    for _ in range(100):
        if Path(f"/proc/{process.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def echoes(monkeypatch):
    """Units that only answer."""
    monkeypatch.setattr(units, "prepare", lambda folder: None)
    monkeypatch.setattr(units, "start", lambda name, folder, environment: Answering([sys.executable, "-c", ECHO],
                                                                                  environment))


def test_each_stage_is_a_row(echoes):
    rows = bench_busy(1, rounds=2, names=["one", units.HEADS])
    assert [row.name for row in rows] == ["one", units.HEADS]
    assert all(row.idle > 0 and row.busy > 0 and row.ratio > 0 and row.of_spinning > 0 for row in rows)
    assert "busy / alone" in busy_table(rows, 1)


def test_ratios_are_of_the_same_round():
    assert median_ratio([2.0, 30.0, 4.0], [1.0, 10.0, 2.0]) == 2.0


def test_a_process_that_is_not_measured_is_stopped(echoes, tmp_path):
    with busy._started("one", tmp_path, dict(os.environ)) as process:
        assert stops(process) and busy._unit("one", process) > 0 and stops(process)
    assert process.process.returncode == 0


def test_busy_processes_end(monkeypatch):
    started = []
    start = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *words, **options: started.append(start(*words, **options))
                        or started[-1])
    with busy_processes(2):
        assert [process.poll() for process in started] == [None, None]
    assert all(process.poll() is not None for process in started) and len(started) == 2


def test_what_the_package_set_is_not_handed_on(monkeypatch):
    for name, value in THREAD_WAIT_ENV.items():
        monkeypatch.setenv(name, value)
    assert not set(THREAD_WAIT_ENV) & set(own_environment())
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    assert own_environment()["GOMP_SPINCOUNT"] == "7"


def test_refused():
    with pytest.raises(UserError, match="processes 0"):
        bench_busy(0)


@pytest.mark.slow
def test_a_real_unit():
    row, = bench_busy(1, rounds=1, names=["40 pool steps"])
    assert row.ratio > 0.3
