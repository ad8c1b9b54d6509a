"""A SID tree of tones."""

import pytest

from s3prl_dd.corpora.sid import prepare_sid


@pytest.fixture(scope="session")
def tree(corpus, tmp_path_factory):
    """A SID tree of the tones' three speakers, 12 utterances each."""
    out = tmp_path_factory.mktemp("sid") / "tones"
    prepare_sid(corpus / "audio", out)
    return out
