"""An S3PRL run that takes an optimiser step when it is told to, so that steps of several runs can be timed in turn.

    python -m s3prl_dd.plugin.stepping stock|ours ARGUMENTS OF run_downstream.py

After its first step it writes a line and waits for one, which says after how many more steps it does so again; it ends
when there are no more lines. `stock` is S3PRL's own main with
nothing of ours but what today's libraries need (compat), `ours` the launcher. S3PRL itself is not touched: torch calls
us after each step of an optimiser.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Literal, TextIO

from ..errors import UserError

Which = Literal["stock", "ours"]


class Answering:
    """A process that does its work as often as a line says that it is sent, and answers with a line.

    Use it as a context manager: it ends the process.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start it."""
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.errors, env=environment, process_group=0)

    def wait(self) -> None:
        """Until it has answered. UserError where it ends instead."""
        assert self.process.stdout
        if not self.process.stdout.readline():
            self.process.wait()
            self.errors.seek(0)
            end = self.errors.read().strip().splitlines()[-3:]
            raise UserError(f"{self}: ended with code {self.process.returncode}: {' | '.join(end)}")

    def __str__(self) -> str:
        return " ".join(map(str, self.process.args))[:200] if isinstance(self.process.args, list) else "the process"

    def step(self, times: int = 1) -> float:
        """Let it do its work so many times. returns: seconds of all"""
        assert self.process.stdin
        started = time.perf_counter()
        self.process.stdin.write(f"{times}\n")
        self.process.stdin.flush()
        self.wait()
        return time.perf_counter() - started

    def pause(self) -> None:
        """Stop it, its threads that spin among them."""
        os.killpg(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on."""
        os.killpg(self.process.pid, signal.SIGCONT)

    def __enter__(self) -> "Answering":
        return self

    def __exit__(self, *error: object) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        if self.process.poll() is None:
            self.go_on()
        self.process.wait()
        self.process.stdout.close()
        self.errors.close()


class Stepper(Answering):
    """A run of S3PRL, seen from outside; it begins with a step."""

    def __init__(self, which: Which, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        """arguments: of run_downstream.py"""
        super().__init__([sys.executable, "-m", __name__, which, *arguments], environment)

    def __str__(self) -> str:
        return "S3PRL's run"


def open_answers() -> TextIO:
    """Where a process of Answering writes its lines; what else is printed goes to its errors from now on."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def answer(answers: TextIO) -> int:
    """Say that the work is done, and wait until more is asked for; the process ends where nothing is. returns: times"""
    answers.write("done\n")
    answers.flush()
    asked = sys.stdin.readline()
    if not asked:
        os._exit(0)
    return int(asked)


def main(which: Which, arguments: Sequence[str]) -> None:
    """Run S3PRL in this process, step by step."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    answers, left = open_answers(), 1  # S3PRL prints

    def stepped(*step: object) -> None:
        nonlocal left
        left = left - 1 or answer(answers)

    register_optimizer_step_post_hook(stepped)
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
