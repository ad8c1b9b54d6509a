"""s3prl_dd: distil a speech-emotion corpus into one small generator file and train S3PRL's emotion recipe on it."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: waiting threads that spin stall a shared machine

__version__ = "0.2.0"
