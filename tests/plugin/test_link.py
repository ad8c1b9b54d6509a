"""Links into a clone of S3PRL: made, repeated, removed, and nothing foreign touched."""

import pytest

from s3prl_dd.errors import UserError
from s3prl_dd.plugin.link import describe, link, unlink


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


def test_what_is_said(clone):
    """What was linked, what to run, how to undo it; and a clone of another version."""
    link(clone)
    said = describe(clone)
    assert f"linked into {clone}/s3prl:\n  downstream/distilled_emotion\n  torchaudio.py (" in said
    assert f"run there:\n  cd {clone}/s3prl\n  python run_downstream.py -d distilled_emotion -u hubert\n" in said
    assert said.endswith(f"undo: s3prl-dd unlink {clone}")
    assert "this clone is S3PRL unknown; s3prl_dd is tested with 0.4.18" in said
    (clone / "s3prl" / "version.txt").write_text("0.5.0\n")
    assert "this clone is S3PRL 0.5.0; s3prl_dd is tested with 0.4.18" in describe(clone)
    (clone / "s3prl" / "version.txt").write_text("0.4.18\n")
    assert "this clone is" not in describe(clone)


def test_the_package_of_a_clone_will_do(clone, monkeypatch):
    """CLONE/s3prl, also as `.` from inside."""
    monkeypatch.chdir(clone / "s3prl")
    assert link(".") == link(clone) == [clone / "s3prl" / "downstream" / "distilled_emotion"]
