"""S3PRL runs in processes of their own, which start at once: forked from a server that has imported S3PRL already.

Importing S3PRL's hub takes longer than training a head on stored features.
"""

import contextlib
import io
import multiprocessing
import multiprocessing.connection
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
CONTEXT: Any = multiprocessing.get_context(METHOD)
if METHOD == "forkserver":
    CONTEXT.set_forkserver_preload(["s3prl_dd.plugin.preload"])


def run_downstream(argv: Sequence[str], log: str | Path, threads: int) -> int:
    """`python -m s3prl_dd.run_downstream ARGV` with so many threads, its output appended to `log`. returns: its code"""
    process = CONTEXT.Process(target=_work, args=(list(argv), str(log), threads))
    process.start()
    process.join()
    return process.exitcode


def _work(argv: list[str], log: str, threads: int) -> None:
    _end_with_parent()
    os.environ["OMP_NUM_THREADS"] = str(threads)
    sys.stdout.flush()
    sys.stderr.flush()
    with open(log, "ab") as output, open(os.devnull, "rb") as nothing:
        for number, file in enumerate((nothing, output, output)):
            os.dup2(file.fileno(), number)
    import torch

    if torch.cuda._is_in_bad_fork():  # the server has touched the GPU after all
        anew = multiprocessing.get_context("spawn").Process(target=_work, args=(argv, log, threads))
        anew.start()
        anew.join()
        code = anew.exitcode or 0
        if code < 0:
            os.kill(os.getpid(), -code)  # the signal that ended it
        sys.exit(code)
    torch.set_num_threads(threads)
    from .launcher import main

    main(argv)


def _end_with_parent() -> None:
    """End this process when the one that started it is gone, or it would go on writing into its expdir."""
    threading.Thread(target=_watch_parent, daemon=True).start()


def _watch_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)


LOOKS_BY_NVML = "PYTORCH_NVML_BASED_CUDA_CHECK"
"""torch's variable: 1 lets torch.cuda.is_available() ask the driver's library alone, which leaves forks a GPU."""


def preload() -> None:
    """Import what every run needs. Nothing of it may start a thread or touch a GPU: both do not survive a fork."""
    os.environ.setdefault(LOOKS_BY_NVML, "1")  # some upstreams of S3PRL's look for a GPU when they are imported
    silence = io.StringIO()
    with contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence), contextlib.suppress(Exception):
        from . import launcher  # a failure shows, with its text, in the run itself

        launcher.register()
        import s3prl.run_downstream  # noqa: F401

        from . import distilled  # noqa: F401
