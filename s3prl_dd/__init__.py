"""s3prl_dd: distil a speech-emotion corpus into one small generator file and train S3PRL's emotion recipe on it."""

import os
import sys

WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "2000"}
"""Threads that spin while they wait stall a shared machine; some microseconds of it pay on an idle one."""

if not set(WAITING) & set(os.environ):  # before torch; what the user sets wins
    os.environ.update(WAITING)

SELDOM = {"TQDM_MININTERVAL": "10", "TQDM_MAXINTERVAL": "10"}
"""Seconds between the lines of a progress bar that goes to a file."""

if sys.stderr is None or not sys.stderr.isatty():  # before tqdm; what the user sets wins
    os.environ.update(SELDOM | os.environ)

__version__ = "0.2.0"
