"""Fixtures: a small corpus of tones in S3PRL's metadata form, a tiny upstream, a generator file without training."""

import random

import numpy as np
import pytest
import torch
from support.runs import features_of, make_generator, write_tones


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """Each test, with its fixtures, begins with the same noise, whichever tests ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """Folder with audio/ and metadata/: 3 speakers x 4 emotions x 3 takes of 0.4 to 0.7 s, one fold a speaker."""
    return write_tones(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def fbank_generator(tmp_path_factory):
    return make_generator(tmp_path_factory.mktemp("generator") / "fbank.safetensors", features_of("fbank", 240, 160))


@pytest.fixture(scope="session")
def hubert_file(tmp_path_factory):
    from support.tiny_hubert import write_hubert_local

    path = tmp_path_factory.mktemp("hubert") / "tiny.pt"
    write_hubert_local(path)
    return path
