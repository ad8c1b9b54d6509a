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

METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
CONTEXT = multiprocessing.get_context(METHOD)
if METHOD == "forkserver":
    CONTEXT.set_forkserver_preload(["s3prl_dd.plugin.preload"])


def run_downstream(argv, log, threads):
    """`python -m s3prl_dd.run_downstream ARGV` with so many threads, its output appended to `log`. returns: its exit code"""
    process = CONTEXT.Process(target=_work, args=(list(argv), str(log), threads))
    process.start()
    process.join()
    return process.exitcode


def _work(argv, log, threads):
    _end_with_parent()
    os.environ["OMP_NUM_THREADS"] = str(threads)
    sys.stdout.flush(), sys.stderr.flush()
    with open(log, "ab") as output, open(os.devnull, "rb") as nothing:
        for number, file in enumerate((nothing, output, output)):
            os.dup2(file.fileno(), number)
    import torch

    torch.set_num_threads(threads)
    from .launcher import main

    main(argv)


def _end_with_parent():
    """End this process when the one that started it is gone, killed or not: else it would go on writing into its expdir."""
    def watch():
        multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def preload():
    """Import what every run needs. Nothing of it may start a thread or touch a GPU: both do not survive a fork."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(Exception):
        from . import launcher  # a failure shows, with its text, in the run itself

        launcher.register()
        import s3prl.run_downstream  # noqa: F401

        from . import emotion  # noqa: F401
