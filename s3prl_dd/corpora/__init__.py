"""Corpora: from a folder of audio to S3PRL's emotion metadata.

CORPORA and READY_MADE name them; prepare() finds a corpus' files, checks them and writes the folder that metadata.py
describes; CorpusOptions holds all that it can be told.
"""

from .options import CorpusOptions
from .prepare import CORPORA, READY_MADE, prepare

__all__ = ["CORPORA", "READY_MADE", "CorpusOptions", "prepare"]
