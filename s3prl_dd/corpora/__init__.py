"""Corpora: from a folder of audio to S3PRL's emotion metadata.

CORPORA names them; prepare() finds a corpus' files, checks them and writes the folder that metadata.py
describes; CorpusOptions holds all that it can be told.
"""

from .options import CorpusOptions
from .prepare import CORPORA, CorpusName, prepare

__all__ = ["CORPORA", "CorpusName", "CorpusOptions", "prepare"]
