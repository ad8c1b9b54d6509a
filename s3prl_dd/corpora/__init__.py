"""Corpora: from a folder of audio to S3PRL's emotion metadata.

CORPORA names them; prepare() finds a corpus' files, checks them and writes the folder that metadata.py describes.
"""

from .prepare import CORPORA, prepare

__all__ = ["CORPORA", "prepare"]
