"""A finished run for the recipe's tests."""

import pytest
from support.recipe import finished_run


@pytest.fixture
def run(tmp_path):
    return finished_run(tmp_path / "run")
