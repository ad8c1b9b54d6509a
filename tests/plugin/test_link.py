"""Links into a clone of S3PRL: made, repeated, removed, and nothing foreign touched."""

import pytest

from s3prl_dd.errors import UserError
from s3prl_dd.plugin.link import link, unlink


@pytest.fixture
def clone(tmp_path):
    folder = tmp_path / "s3prl" / "downstream"
    (folder / "emotion").mkdir(parents=True)
    (folder / "runner.py").write_text("")
    return tmp_path


def test_link_and_unlink(clone):
    folder, = link(clone)
    assert link(clone) == [folder]
    assert folder == clone / "s3prl" / "downstream" / "distilled_emotion"
    assert {path.name for path in folder.iterdir()} == {"__init__.py", "expert.py", "config.yaml"}
    assert "generator" in (folder / "config.yaml").read_text()
    assert (clone / "s3prl" / "torchaudio.py").is_symlink()
    (folder / "__pycache__").mkdir()
    assert unlink(clone) == [folder] and not folder.exists() and not (clone / "s3prl" / "torchaudio.py").is_symlink()
    assert unlink(clone) == []
    assert (clone / "s3prl" / "downstream" / "emotion").is_dir()


def test_foreign_things_stay(clone):
    folder = clone / "s3prl" / "downstream" / "distilled_emotion"
    folder.mkdir()
    (folder / "expert.py").write_text("mine")
    with pytest.raises(UserError, match="expert.py: exists and is not a link of s3prl_dd"):
        link(clone)
    assert {path.name for path in folder.iterdir()} == {"expert.py"}
    assert unlink(clone) == [] and (folder / "expert.py").read_text() == "mine"


def test_not_a_clone(tmp_path):
    with pytest.raises(UserError, match="no clone of S3PRL"):
        link(tmp_path)
