"""Processes for S3PRL's runs: exit codes, logs, and none that outlives a killed parent."""

import os
import signal
import subprocess
import sys
import time

import pytest
from support.runs import ROOT

from s3prl_dd.plugin import workers

STARTS_ONE = """
import os, time
from s3prl_dd.plugin import workers

def sleep():
    workers._end_with_parent()
    print(os.getpid(), flush=True)
    time.sleep(120)

if __name__ == "__main__":
    workers.CONTEXT.Process(target=sleep).start()
    time.sleep(120)
"""


BAD_FORK = """
import sys
from s3prl_dd.plugin import workers

if __name__ == "__main__":  # a process that is started anew does not come by here
    import torch
    from s3prl_dd.plugin import launcher
    torch.cuda._is_in_bad_fork = lambda: True
    launcher.main = workers._end_with_parent = lambda *ignored: None
    workers._work(["-m", "train", "-d", "nothing", "-u", "fbank"], sys.argv[1], 1)
"""


@pytest.mark.slow
def test_a_fork_without_a_gpu_starts_anew(tmp_path):
    """Where the server has touched it all the same."""
    (tmp_path / "works.py").write_text(BAD_FORK)
    done = subprocess.run([sys.executable, tmp_path / "works.py", tmp_path / "log"], timeout=200,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 2 and "nothing" in (tmp_path / "log").read_text()


def test_the_server_asks_the_driver_alone_for_a_gpu(monkeypatch):
    monkeypatch.delenv(workers.LOOKS_BY_NVML, raising=False)
    workers.preload()
    assert os.environ.pop(workers.LOOKS_BY_NVML) == "1"


def test_exit_code_and_log(tmp_path):
    (tmp_path / "log").write_text("before\n")
    code = workers.run_downstream(["-m", "train", "-d", "nothing", "-u", "fbank"], tmp_path / "log", 1)
    text = (tmp_path / "log").read_text()
    assert code == 2 and text.startswith("before\n") and "error: " in text and "nothing" in text


@pytest.mark.slow
def test_a_killed_run_leaves_no_process_behind(tmp_path):
    (tmp_path / "starts_one.py").write_text(STARTS_ONE)
    parent = subprocess.Popen([sys.executable, tmp_path / "starts_one.py"], stdout=subprocess.PIPE, text=True,
                              env={**os.environ, "PYTHONPATH": str(ROOT)})
    child = int(parent.stdout.readline())
    os.kill(child, 0)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    for _ in range(100):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        time.sleep(0.2)
    os.kill(child, signal.SIGKILL)
    raise AssertionError("the worker outlived its parent")
