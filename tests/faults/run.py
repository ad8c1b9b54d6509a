"""Puts faults into copies of the package, one a copy, and tells which of them the tests catch.

    python tests/faults/run.py                      all faults of the catalogue (the *.toml beside this file)
    python tests/faults/run.py budget config        those whose name or file has one of these words
    python tests/faults/run.py --list               their names, and which are stale

README.md beside this file describes a fault's record. Exit code 0: every fault is caught.
"""

import argparse
import ast
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from tabulate import tabulate

CATALOGUE = Path(__file__).parent
ROOT = CATALOGUE.parent.parent
COPIED = ("s3prl_dd", "downstream_configs", "tests", "examples")
"""Folders of a copy, beside the files of the repository's top."""

LIMIT = 300.0
"""Seconds after which a test is ended."""

WRONG_PACKAGE = 97
"""Exit code of a test process that imported s3prl_dd from elsewhere than the copy."""

TEST_PROCESS = f"""
import sys
from pathlib import Path
import s3prl_dd
if Path.cwd().resolve() not in Path(s3prl_dd.__file__).resolve().parents:
    print("imported", s3prl_dd.__file__)
    sys.exit({WRONG_PACKAGE})
import pytest
sys.exit(pytest.main(sys.argv[1:]))
"""


class Verdict(StrEnum):
    """What became of a fault."""

    CAUGHT = "caught"
    """its test fails"""
    SURVIVED = "SURVIVED"
    """its test passes all the same"""
    STALE = "STALE"
    """the text that it replaces is not there, or more than once, or its test is not there"""
    BROKEN = "BROKEN"
    """its test did not come to run: an error at import, or no end within LIMIT"""


@dataclass(frozen=True)
class Fault:
    """A record of the catalogue, see README.md."""

    name: str
    meets: str
    file: str
    old: str
    new: str
    test: str

    def stale(self, root: Path) -> str:
        """What of it is no longer so in the repository `root`; empty where it can be put in."""
        path = root / self.file
        places = path.read_text(encoding="utf-8").count(self.old) if path.is_file() else 0
        if places != 1:
            return f"{self.file}: {places} places have the text\n{self.old}"
        test, _, node = self.test.partition("::")
        name = node.rpartition("::")[2].partition("[")[0]
        if not (root / test).is_file() or name not in ["", *names_in(root / test)]:
            return f"{self.test}: no such test"
        return ""

    def put_in(self, root: Path) -> None:
        """Replace the text in the file under `root`, where it stands once."""
        path = root / self.file
        path.write_text(path.read_text(encoding="utf-8").replace(self.old, self.new), encoding="utf-8")


class Outcome(NamedTuple):
    """A fault, its verdict, how long its test ran, and what explains a verdict other than caught."""

    fault: Fault
    verdict: Verdict
    seconds: float = 0.0
    said: str = ""


class Run(NamedTuple):
    """A pytest process: its exit code (None: ended at LIMIT) and what it printed."""

    code: int | None
    output: str


# the catalogue


def names_in(path: Path) -> list[str]:
    """Names of the functions and classes of a Python file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)]


def read_faults(folder: Path = CATALOGUE) -> list[Fault]:
    """All faults of the *.toml files of a folder. Raises ValueError for a record that is not whole."""
    faults = [read_fault(record, path) for path in sorted(folder.glob("*.toml"))
              for record in tomllib.loads(path.read_text(encoding="utf-8"))["fault"]]
    names = [fault.name for fault in faults]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"{folder}: two faults are named {repeated[0]!r}")
    return faults


def read_fault(record: dict[str, str], path: Path) -> Fault:
    """The fault of a TOML table; path: its file, for errors."""
    keys = {item.name for item in fields(Fault)}
    where = f"{path.name}: fault {record.get('name', '?')!r}"
    if set(record) != keys:
        raise ValueError(f"{where}: expected the keys {', '.join(sorted(keys))}, found {', '.join(sorted(record))}")
    fault = Fault(**record)
    if not fault.old or fault.old == fault.new:
        raise ValueError(f"{where}: old and new are the same, or old is empty")
    if not re.fullmatch(r"tests/[\w/]+\.py(::\w+)*(\[.*\])?", fault.test):
        raise ValueError(f"{where}: {fault.test!r} is no node of pytest (tests/FOLDER/test_FILE.py::test_NAME)")
    return fault


def chosen(faults: Iterable[Fault], words: Sequence[str]) -> list[Fault]:
    """The faults whose name or file has one of the words; all where there are no words."""
    return [fault for fault in faults if not words or any(word in fault.name or word in fault.file for word in words)]


# copies and tests


def copy_tree(root: Path, to: Path) -> Path:
    """Copy what the tests need of the repository `root` into the folder `to`."""
    leave_out = shutil.ignore_patterns("__pycache__", ".*")
    for name in COPIED:
        if (root / name).is_dir():
            shutil.copytree(root / name, to / name, symlinks=True, ignore=leave_out)
    for path in root.iterdir():
        if path.is_file() and not path.name.startswith("."):
            shutil.copy2(path, to / path.name)
    return to


def run_tests(tree: Path, tests: Sequence[str], *flags: str) -> Run:
    """pytest on these nodes in a process of its own that imports s3prl_dd from `tree`."""
    command = [sys.executable, "-c", TEST_PROCESS, "-q", "-x", "-p", "no:cacheprovider", *flags, *tests]
    threads = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    process = subprocess.Popen(command, cwd=tree, env={**threads, **os.environ, "PYTHONPATH": str(tree)}, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        output, _ = process.communicate(timeout=LIMIT * len(tests))
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)  # with whatever the test has started
        output, _ = process.communicate()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        return Run(None, output)
    return Run(process.returncode, output)


def try_fault(fault: Fault, root: Path = ROOT) -> Outcome:
    """Put the fault into a copy of `root` and run its test there."""
    stale = fault.stale(root)
    if stale:
        return Outcome(fault, Verdict.STALE, said=stale)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="fault-") as folder:
        tree = copy_tree(root, Path(folder).resolve())
        fault.put_in(tree)
        run = run_tests(tree, [fault.test])
    verdict = {0: Verdict.SURVIVED, 1: Verdict.CAUGHT}.get(run.code if run.code is not None else -1, Verdict.BROKEN)
    return Outcome(fault, verdict, time.perf_counter() - start, "" if verdict is Verdict.CAUGHT else end_of(run.output))


def pass_without(faults: Iterable[Fault], root: Path = ROOT, jobs: int = 1) -> Run:
    """All tests of the faults on a copy as it is, in one process a job."""
    tests = list(dict.fromkeys(fault.test for fault in faults))
    flags = ["-n", str(jobs), "--dist", "loadfile"] if jobs > 1 else []
    with tempfile.TemporaryDirectory(prefix="fault-") as folder:
        return run_tests(copy_tree(root, Path(folder).resolve()), tests, *flags)


def end_of(output: str, lines: int = 25) -> str:
    """The last lines of what a process printed."""
    return "\n".join(output.splitlines()[-lines:])


# the command


def try_all(faults: Sequence[Fault], root: Path = ROOT, jobs: int = 2) -> list[Outcome]:
    """The outcome of each fault, in order; as many at a time as there are jobs. Prints each as it comes."""
    with ThreadPoolExecutor(jobs) as pool:
        waiting = {pool.submit(try_fault, fault, root): index for index, fault in enumerate(faults)}
        outcomes = {}
        for done in as_completed(waiting):
            outcome = outcomes[waiting[done]] = done.result()
            print(f"[{len(outcomes)}/{len(faults)}] {outcome.verdict} {outcome.fault.name}", flush=True)
    return [outcomes[index] for index in range(len(faults))]


def table(outcomes: Iterable[Outcome]) -> str:
    """One row a fault."""
    rows = [(fault.name, fault.meets, verdict.value, seconds) for fault, verdict, seconds, _ in outcomes]
    return tabulate(rows, ["fault", "where modules meet", "verdict", "seconds"], floatfmt=".1f")


def main(arguments: Sequence[str] | None = None, root: Path = ROOT, catalogue: Path = CATALOGUE) -> int:
    """The command. Returns its exit code: 0 where every fault is caught."""
    parser = argparse.ArgumentParser(description="Put faults in on purpose and tell which of them the tests catch.")
    parser.add_argument("words", nargs="*", metavar="WORD", help="only faults with one of these in name or file")
    parser.add_argument("--jobs", type=int, default=2, help="faults at a time (default %(default)s)")
    parser.add_argument("--list", action="store_true", help="only name the faults, and tell which are stale")
    options = parser.parse_args(arguments)
    faults = chosen(read_faults(catalogue), options.words)
    fresh = [fault for fault in faults if not fault.stale(root)]
    if options.list or not fresh:
        for fault in faults:
            print(f"{'' if fault in fresh else 'STALE '}{fault.name} ({fault.meets}): {fault.test}")
        return 0 if faults and len(fresh) == len(faults) else 1
    print(f"{len(fresh)} faults; first, their tests without a fault", flush=True)
    unfaulted = pass_without(fresh, root, options.jobs)
    print(end_of(unfaulted.output, 25 if unfaulted.code else 1), flush=True)
    if unfaulted.code:
        print("Tests that fail without a fault catch none. Mend them first.")
        return 1
    outcomes = try_all(faults, root, options.jobs)
    for outcome in outcomes:
        if outcome.verdict is not Verdict.CAUGHT:
            print(f"\n{outcome.verdict} {outcome.fault.name}: {outcome.fault.test}\n{outcome.said}")
    caught = sum(outcome.verdict is Verdict.CAUGHT for outcome in outcomes)
    print(f"\n{table(outcomes)}\n\n{caught} of {len(outcomes)} faults caught")
    return 0 if caught == len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
