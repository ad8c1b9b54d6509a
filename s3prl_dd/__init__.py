"""s3prl_dd: distil a speech-emotion corpus into one small generator file and train S3PRL's emotion recipe on it."""

__version__ = "0.1.0"
