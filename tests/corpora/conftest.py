"""A small RAVDESS."""

import pytest
from support.iemocap_tree import tone


@pytest.fixture
def ravdess(tmp_path):
    """Actors 1, 2, 5 and 6, one file an emotion, of differing pitch."""
    for actor in (1, 2, 5, 6):
        for code in ("01", "02", "03", "04", "05"):
            tone(tmp_path / "ravdess" / f"Actor_{actor:02d}" / f"03-01-{code}-01-01-01-{actor:02d}.wav",
                 rate=48000, pitch=100 + 10 * actor + int(code))
    return tmp_path / "ravdess"
