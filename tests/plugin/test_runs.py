"""Starting S3PRL runs and reading their log."""

import os
import shlex

import pytest

from s3prl_dd.errors import DiskError, UserError
from s3prl_dd.plugin import workers
from s3prl_dd.plugin.checkpoints import NO_ROOM
from s3prl_dd.plugin.runs import Cores, best_on_dev, share_cores, start_s3prl

LOG = """training on 48 generated points
train at step 5: 0.9
dev at step 5: 0.5
New best on dev at step 5: 0.5
dev uar at step 5: 0.6
test at step 5: 0.51
test uar at step 5: 0.41
dev at step 10: 0.7
dev uar at step 10: 0.55
test at step 10: 0.52
test uar at step 10: 0.42
dev at step 15: 0.6
dev uar at step 15: 0.6
test at step 15: 0.53
test uar at step 15: 0.43
dev at step 20: 0.9
dev uar at step 20: 0.9
"""


def test_best_on_dev(tmp_path):
    """At the first step where the first score is best, among those that have all; test never chooses."""
    (tmp_path / "log.log").write_text(LOG)
    by_uar = best_on_dev(tmp_path, {"dev_uar": "dev uar", "uar": "test uar", "accuracy": "test"})
    assert by_uar == {"step": 5, "dev_uar": 0.6, "uar": 0.41, "accuracy": 0.51}
    assert best_on_dev(tmp_path, {"dev": "dev", "test": "test"}) == {"step": 10, "dev": 0.7, "test": 0.52}
    assert best_on_dev(tmp_path, {"dev": "dev"}) == {"step": 20, "dev": 0.9}


def test_scores_that_are_equal_in_float32_are_equal(tmp_path):
    """S3PRL's expert keeps its best score so; sums in another order differ in the last place."""
    (tmp_path / "log.log").write_text("dev at step 10: 0.7\ndev at step 20: 0.7000000000000001\n")
    assert best_on_dev(tmp_path, {"dev": "dev"}) == {"step": 10, "dev": 0.7}


def test_of_a_step_logged_twice_the_later_counts(tmp_path):
    """As after a run that was killed and went on."""
    (tmp_path / "log.log").write_text("dev at step 5: 0.5\ndev at step 5: 0.25\ndev at step 10: 0.3\n")
    assert best_on_dev(tmp_path, {"dev": "dev"}) == {"step": 10, "dev": 0.3}


def test_a_log_without_the_scores(tmp_path):
    with pytest.raises(UserError, match="log.log: no step with all of dev uar, test. See .*stdout.log"):
        best_on_dev(tmp_path, {"a": "dev uar", "b": "test"})
    (tmp_path / "log.log").write_text(LOG)
    with pytest.raises(UserError, match="no step with all of dev f1"):
        best_on_dev(tmp_path, {"a": "dev f1"})


def test_cores_are_shared(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert share_cores(0, "cpu", 20) == Cores(jobs=8, threads=1)
    assert share_cores(0, "cpu", 3) == Cores(jobs=3, threads=2)
    assert share_cores(2, "cpu", 20) == Cores(jobs=2, threads=4)
    assert share_cores(0, "cuda", 20) == Cores(jobs=1, threads=8)
    assert share_cores(4, "cuda:1", 20) == Cores(jobs=4, threads=2)
    assert share_cores(4, "cpu", 0) == Cores(jobs=1, threads=8)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert share_cores(0, "cpu", 20) == Cores(jobs=8, threads=3)


def test_the_words_of_a_run(monkeypatch, tmp_path):
    """Every part reaches the launcher, and the command that is kept starts the same run."""
    started = []
    monkeypatch.setattr(workers, "run_downstream", lambda *arguments: started.append(arguments) or 0)
    command = start_s3prl(tmp_path / "run", "emotion", ["-u", "fbank"], {"a.b": 1, "a.c": "x y"}, seed=7, threads=3)
    (words, log, threads), = started
    assert words == ["-m", "train", "-d", "emotion", "-u", "fbank", "--seed", "7", "-p", str(tmp_path / "run"), "-a",
                     "-o", "a.b=1,,a.c='x y'"]
    assert log == tmp_path / "run" / "stdout.log" and threads == 3 and log.parent.is_dir()
    assert shlex.split(command) == ["python", "-m", "s3prl_dd.run_downstream", *words]


def test_a_run_that_fails_shows_the_end_of_its_output(monkeypatch, tmp_path):
    def fail(words, log, threads):
        log.write_text("".join(f"step {number}\r" for number in range(100)) + "error: the cause\n")
        return 2

    monkeypatch.setattr(workers, "run_downstream", fail)
    ending = r"run: S3PRL's runner ended with code 2[^$]*step 99\nerror: the cause$"
    with pytest.raises(UserError, match=ending) as told:
        start_s3prl(tmp_path / "run", "emotion", [], {}, seed=0)
    assert "step 50" not in str(told.value)


def test_a_disk_that_is_full_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(workers, "run_downstream", lambda *arguments: NO_ROOM)
    with pytest.raises(DiskError, match="run: the disk did not take .* Make room, and give the same command") as told:
        start_s3prl(tmp_path / "run", "emotion", [], {}, seed=0)
    assert "\n" not in str(told.value)
