"""Disks for tests: a small one that fills up, and one that may only be read. Both need the right to mount."""

import contextlib
import os
import resource
import signal
import subprocess

import pytest


@contextlib.contextmanager
def small_disk(folder, kilobytes):
    """A disk of its own under `folder`; yields it."""
    folder.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def resize(disk, kilobytes):
    """Another size of a small disk."""
    _mount("-o", f"remount,size={kilobytes}k", str(disk))


def read_only(disk):
    """From now on a small disk may only be read."""
    _mount("-o", "remount,ro", str(disk))


def _mount(*words):
    done = subprocess.run(["mount", *words], capture_output=True, text=True) if os.getuid() == 0 else None
    if done is None or done.returncode:
        pytest.skip("mounting is not allowed here")


def limit_files(nbytes):
    """No file of this process may grow beyond; writing more is an OSError, as on a disk that is full."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, resource.RLIM_INFINITY))
