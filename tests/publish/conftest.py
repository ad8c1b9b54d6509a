"""A stand-in of the Hub that the library in this process talks to."""

import pytest
from support.hub import lead_to, running_hub


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with running_hub() as standin:
        lead_to(monkeypatch, standin, tmp_path / "hub")
        yield standin
