"""An S3PRL run that takes an optimiser step when it is told to, so that steps of several runs can be timed in turn.

    python -m s3prl_dd.plugin.stepping stock|ours ARGUMENTS OF run_downstream.py

After each step it writes a line and waits for one; it ends when there are no more. `stock` is S3PRL's own main with
nothing of ours but what today's libraries need (compat), `ours` the launcher. S3PRL itself is not touched: torch calls
us after each step of an optimiser.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Literal

from ..errors import UserError

Which = Literal["stock", "ours"]


class Stepper:
    """Such a run, seen from outside. Use it as a context manager: it ends the run."""

    def __init__(self, which: Which, arguments: Sequence[str], threads: int) -> None:
        """Start it, up to the end of its first step. threads: of torch, in the run."""
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__, which, *arguments], text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self.errors, env={**os.environ, "OMP_NUM_THREADS": str(threads)})

    def wait(self) -> None:
        """Until a step has ended. UserError where the run ends instead."""
        assert self.process.stdout
        if not self.process.stdout.readline():
            self.process.wait()
            self.errors.seek(0)
            end = self.errors.read().strip().splitlines()[-3:]
            raise UserError(f"S3PRL's run ended with code {self.process.returncode}: {' | '.join(end)}")

    def step(self) -> float:
        """Take a step. returns: seconds"""
        assert self.process.stdin
        started = time.perf_counter()
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.wait()
        return time.perf_counter() - started

    def __enter__(self) -> "Stepper":
        return self

    def __exit__(self, *error: object) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.errors.close()


def main(which: Which, arguments: Sequence[str]) -> None:
    """Run S3PRL in this process, step by step."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # S3PRL prints

    def wait(*step: object) -> None:
        answers.write("step\n")
        answers.flush()
        if not sys.stdin.readline():
            os._exit(0)

    register_optimizer_step_post_hook(wait)
    if which == "ours":
        from .launcher import main as launch

        launch(arguments)
        return
    from .compat import mend

    mend()
    import s3prl.run_downstream

    sys.argv = ["run_downstream.py", *arguments]
    s3prl.run_downstream.main()


if __name__ == "__main__":
    main("ours" if sys.argv[1] == "ours" else "stock", sys.argv[2:])
