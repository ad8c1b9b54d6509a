"""IEMOCAP as S3PRL's own script lists it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.iemocap_tree import iemocap_tree, lists, tone

from s3prl_dd.corpora import iemocap, prepare
from s3prl_dd.errors import UserError

FOUR = {"neu": 0, "hap": 1, "ang": 2, "sad": 3}


def told(item):
    """What S3PRL reads of an utterance."""
    return item["path"], item["label"]


def test_iemocap_equals_s3prls_own_lists(tmp_path):
    root = iemocap_tree(tmp_path / "IEMOCAP_full_release")
    package = next(Path(folder, "s3prl") for folder in sys.path if Path(folder, "s3prl", "downstream").is_dir())
    subprocess.run([sys.executable, package / "downstream" / "emotion" / "IEMOCAP_preprocess.py", root], check=True)
    out = tmp_path / "out"
    summary = prepare("iemocap", root, out)
    assert summary.folds == ("fold1", "fold2", "fold3", "fold4", "fold5")
    for number in range(1, 6):
        for part in ("train", "test"):
            name = f"Session{number}/{part}_meta_data.json"
            ours, theirs = (json.loads((folder / name).read_text()) for folder in (out, root / "meta_data"))
            assert ours["labels"] == theirs["labels"]
            assert [told(item) for item in ours["meta_data"]] == [told(item) for item in theirs["meta_data"]]
            assert {key for item in ours["meta_data"] for key in item} == {"path", "label", "speaker"}
    train, test = lists(out, "fold2")
    assert len(test.utterances) == 15 and len(train.utterances) == 60  # 3 dialogs of neu hap ang sad exc
    assert test.labels == FOUR and test.class_counts == [3, 6, 3, 3]
    assert any("not the whole release" in warning for warning in summary.warnings)


def test_iemocap_warns_of_labelled_utterances_without_wav(tmp_path):
    root = iemocap_tree(tmp_path / "tree", sessions=2)
    lost = next((root / "Session1/sentences/wav").rglob("*_?000.wav"))
    lost.unlink()
    summary = prepare("iemocap", root, tmp_path / "out")
    assert any("Session1" in warning and lost.stem in warning for warning in summary.warnings)


def test_iemocap_refuses_unreadable_files_rather_than_other_lists(tmp_path):
    root = iemocap_tree(tmp_path / "tree", sessions=2)
    broken = next((root / "Session1/sentences/wav").rglob("*_?000.wav"))
    broken.write_bytes(b"")
    with pytest.raises(UserError, match="has no bytes. S3PRL's lists need all 30 files, 1 cannot") as error:
        prepare("iemocap", root, tmp_path / "out")
    assert broken.name in str(error.value) and not (tmp_path / "out").exists()


def test_iemocap_names_what_is_missing_or_odd(tmp_path):
    root = iemocap_tree(tmp_path / "tree", sessions=2)
    (root / "Session1_backup").mkdir()
    with pytest.raises(UserError, match="Session1_backup.*expected only Session1 .. Session5"):
        prepare("iemocap", root, tmp_path / "out")
    (root / "Session1_backup").rmdir()
    (root / "Session2/dialog/EmoEvaluation").rename(root / "Session2/dialog/Labels")
    with pytest.raises(UserError, match="Session2/dialog/EmoEvaluation: no such folder"):
        prepare("iemocap", root, tmp_path / "out")


def one_dialog(root, session, speaker, labels):
    """A session of one dialog with these labels in their order; returns the paths that S3PRL's lists would have."""
    name = f"Ses{session:02d}{speaker}_impro01"  # in which only `speaker` speaks
    folder = root / f"Session{session}/dialog/EmoEvaluation"
    folder.mkdir(parents=True)
    paths, lines = [], []
    for turn, label in enumerate(labels):
        paths.append(f"Session{session}/sentences/wav/{name}/{name}_{speaker}{turn:03d}.wav")
        tone(root / paths[-1], pitch=100 + 40 * session + turn)
        lines.append(f"[{turn} - {turn}]\t{name}_{speaker}{turn:03d}\t{label}\t[2, 2, 2]\n")
    (folder / f"{name}.txt").write_text("".join(lines))
    return paths


def test_excited_is_merged_into_happy_and_others_are_left_out(tmp_path):
    labels = ["exc", "neu", "fru", "hap", "ang", "xxx", "sad", "sur"]
    paths = one_dialog(tmp_path, 1, "F", labels)
    one_dialog(tmp_path, 2, "M", labels)
    listing = iemocap.find(tmp_path)
    assert [(item.path, item.label) for item in listing.utterances[:5]] == [
        (paths[0], "hap"), (paths[1], "neu"), (paths[3], "hap"), (paths[4], "ang"), (paths[6], "sad")]
    assert listing.labels == FOUR and list(listing.labels) == ["neu", "hap", "ang", "sad"]
    assert listing.fold_of == {"Ses01F": 1, "Ses02M": 2} and len(listing.utterances) == 10


def test_a_speaker_in_two_sessions_is_refused(tmp_path):
    one_dialog(tmp_path, 1, "F", ["neu"])
    one_dialog(tmp_path, 2, "F", ["neu"])
    moved = tmp_path / "Session2/sentences/wav/Ses02F_impro01"
    moved.rename(moved.with_name("Ses01F_impro02"))
    for path in moved.with_name("Ses01F_impro02").iterdir():
        path.rename(path.with_name(path.name.replace("Ses02F_impro01", "Ses01F_impro02")))
    text = tmp_path / "Session2/dialog/EmoEvaluation/Ses02F_impro01.txt"
    text.write_text(text.read_text().replace("Ses02F_impro01", "Ses01F_impro02"))
    with pytest.raises(UserError, match="speaker Ses01F is in Session2 and in Session1"):
        iemocap.find(tmp_path)


def test_the_speaker_is_who_speaks_in_the_turn(tmp_path):
    """Each dialog has two speakers; the letter of its name says who wears the markers."""
    root = iemocap_tree(tmp_path / "tree", sessions=2)
    prepare("iemocap", root, tmp_path / "out")
    train, test = lists(tmp_path / "out", "fold2")
    for item in (*train.utterances, *test.utterances):
        name = Path(item.path).stem
        assert item.speaker == name[:5] + name.split("_")[-1][0]
    assert (train.speakers, test.speakers) == (["Ses01F", "Ses01M"], ["Ses02F", "Ses02M"])
