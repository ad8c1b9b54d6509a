"""A stand-in of the Hub that the library in this process talks to, and intervals of runs with few speakers."""

import pytest
from support.hub import lead_to, running_hub

from s3prl_dd.evaluation import significance


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with running_hub() as standin:
        lead_to(monkeypatch, standin, tmp_path / "hub")
        yield standin


@pytest.fixture(scope="module")
def few_speakers():
    """Those of a made-up run are enough for an interval."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(significance, "FEWEST_SPEAKERS", 1)
        patch.setattr(significance, "FEWEST_OF_A_FOLD", 1)
        yield
