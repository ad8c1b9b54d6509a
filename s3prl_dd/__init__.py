"""s3prl_dd: distil a speech-emotion corpus into one small generator file and train S3PRL's emotion recipe on it."""

import os
import sys

WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "2000"}
"""Threads that spin while they wait stall a shared machine; some microseconds of it pay on an idle one."""

if not set(WAITING) & set(os.environ):  # before torch; what the user sets wins
    os.environ.update(WAITING)

SAME = {"MKL_CBWR": "AUTO,STRICT"}
"""Matrix products of MKL have the same bits on any number of threads; on processors that it has no such mode for, this
changes nothing."""

os.environ.update(SAME | os.environ)  # before the first product; what the user sets wins

SELDOM = {"TQDM_MININTERVAL": "10", "TQDM_MAXINTERVAL": "10"}
"""Seconds between the lines of a progress bar that goes to a file."""

if sys.stderr is None or not sys.stderr.isatty():  # before tqdm; what the user sets wins
    os.environ.update(SELDOM | os.environ)

__version__ = "0.2.0"
