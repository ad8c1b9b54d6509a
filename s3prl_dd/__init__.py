"""s3prl_dd: distil a speech-emotion corpus into one small generator file and train S3PRL's emotion recipe on it."""

import os
import sys

THREAD_WAIT_ENV = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "2000"}
"""Threads that spin while they wait stall a shared machine; some microseconds of it pay on an idle one."""

MKL_REPRODUCIBLE_ENV = {"MKL_CBWR": "AUTO,STRICT"}
"""Matrix products of MKL have the same bits on any number of threads; on processors that it has no such mode for, this
changes nothing."""

PROGRESS_ENV = {"TQDM_MININTERVAL": "10", "TQDM_MAXINTERVAL": "10"}
"""Seconds between the lines of a progress bar that goes to a file."""


def _set_environment_defaults() -> None:
    """Write these variables into os.environ, before torch and tqdm read them; what the user sets wins.

    Of THREAD_WAIT_ENV all or nothing: one that the user sets leaves the other unset.
    """
    defaults = dict(MKL_REPRODUCIBLE_ENV)
    if not set(THREAD_WAIT_ENV) & set(os.environ):
        defaults |= THREAD_WAIT_ENV
    if sys.stderr is None or not sys.stderr.isatty():
        defaults |= PROGRESS_ENV
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


_set_environment_defaults()

__version__ = "0.2.0"
