"""prepare(): what is checked, written and printed, and what is said of bad input."""

import itertools
import os
from pathlib import Path
from typing import get_args

import pytest
from support.iemocap_tree import cut_in_half, iemocap_tree, lists, tone, written

from s3prl_dd.corpora import CORPORA, CorpusName, prepare
from s3prl_dd.corpora.metadata import Metadata, read_fold
from s3prl_dd.errors import UserError

# flawed files

def test_flawed_files_are_named_and_left_out_or_kept(ravdess, tmp_path):
    twin = ravdess / "Actor_01/03-01-03-01-01-01-01.wav"
    written(ravdess / "Actor_01/03-01-03-01-01-02-01.wav", twin.read_bytes())
    tone(ravdess / "Actor_01/03-01-01-01-02-01-01.wav", loudness=0.0)
    written(ravdess / "Actor_01/03-01-01-01-02-02-01.wav", b"")
    cut_in_half(tone(ravdess / "Actor_01/03-01-04-01-02-01-01.wav", seconds=1.0))
    tone(ravdess / "Actor_02/03-01-04-01-02-01-02.wav", rate=8000, channels=2)  # nothing wrong with it
    summary = prepare("ravdess", ravdess, tmp_path / "out", allow_missing=True)
    said = "\n".join(summary.warnings)
    assert summary.utterances == 16 + 3 and summary.channels == {"1": 18, "2": 1}
    assert summary.sample_rates == {"8000": 1, "16000": 1, "48000": 17}
    assert "2 missing, unreadable or empty files are left out" in said
    assert "03-01-04-01-02-01-01.wav (truncated" in said
    assert "1 silent files are kept: Actor_01/03-01-01-01-02-01-01.wav" in said
    twins = "Actor_01/03-01-03-01-01-01-01.wav = Actor_01/03-01-03-01-01-02-01.wav"
    assert f"byte-identical files are kept: {twins}" in said
    assert "no bytes" in summary.excluded["Actor_01/03-01-01-01-02-02-01.wav"]
    paths = [item.path for item in lists(tmp_path / "out", "fold1")[1].utterances]
    assert "Actor_01/03-01-01-01-02-02-01.wav" not in paths and "Actor_01/03-01-01-01-02-01-01.wav" in paths


def test_a_fold_that_is_not_there_is_told_before_any_audio_is_read(ravdess, tmp_path, monkeypatch):
    monkeypatch.setitem(prepare.__globals__, "check_audio", None)
    with pytest.raises(UserError, match=r"has no fold9. Found fold1, .*; check --fold"):
        prepare("ravdess", ravdess, tmp_path / "out", fold="fold9")
    assert not (tmp_path / "out").exists()


def test_all_files_unusable_is_an_error(ravdess, tmp_path):
    for path in ravdess.rglob("*.wav"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="none of 16 files can be used.*has no bytes"):
        prepare("ravdess", ravdess, tmp_path / "out")


# roots, classes, folders

def test_a_table_s_root_below_one_s_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "empty").mkdir()
    for root, told in (("~/gone.csv", "gone.csv: no such file or folder"), ("~/empty", "empty: an empty folder")):
        with pytest.raises(UserError, match=f"^{tmp_path}/{told}"):
            prepare("table", root, tmp_path / "out")


def test_missing_empty_and_foreign_roots(tmp_path):
    with pytest.raises(UserError, match="gone: no such folder.*check --root"):
        prepare("ravdess", tmp_path / "gone", tmp_path / "out")
    with pytest.raises(UserError, match="gone.csv: no such file or folder. Expected a table"):
        prepare("table", tmp_path / "gone.csv", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="an empty folder"):
        prepare("emodb", tmp_path / "empty", tmp_path / "out")
    (tmp_path / "text").mkdir()
    (tmp_path / "text/readme.txt").write_text("hello")
    with pytest.raises(UserError, match="found no audio files; expected CREMA-D"):
        prepare("crema_d", tmp_path / "text", tmp_path / "out")
    tone(tmp_path / "other/song.wav")
    with pytest.raises(UserError, match="found 1 audio files, such as song.wav; expected RAVDESS"):
        prepare("ravdess", tmp_path / "other", tmp_path / "out")
    with pytest.raises(UserError, match="folders Session1 .. Session5"):
        prepare("iemocap", tmp_path / "other", tmp_path / "out")
    with pytest.raises(UserError, match="no root given"):
        prepare("iemocap", None, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_names_that_flags_take_are_those_that_there_are():
    assert sorted(get_args(CorpusName)) == sorted(CORPORA)


def test_unknown_corpus_and_option(ravdess, tmp_path):
    with pytest.raises(UserError, match="no such corpus. Expected one of: " + ", ".join(CORPORA)):
        prepare("ravdes", ravdess, tmp_path / "out")
    with pytest.raises(UserError, match="no option 'folds'"):
        prepare("ravdess", ravdess, tmp_path / "out", folds=3)


def test_class_without_example_fails_and_keeps_the_earlier_metadata(ravdess, tmp_path):
    out = tmp_path / "out"
    prepare("ravdess", ravdess, out)
    before = {path: path.read_bytes() for path in out.rglob("*.json")}
    for actor in ("05", "06"):
        (ravdess / f"Actor_{actor}" / f"03-01-05-01-01-01-{actor}.wav").unlink()
    with pytest.raises(UserError, match="class 'ang' has no example in the train part of fold1"):
        prepare("ravdess", ravdess, out)
    assert {path: path.read_bytes() for path in out.rglob("*.json")} == before


def test_one_fold_is_an_error(ravdess, tmp_path):
    for actor in ("05", "06"):
        for path in (ravdess / f"Actor_{actor}").iterdir():
            path.unlink()
    with pytest.raises(UserError, match="at least two folds"):
        prepare("ravdess", ravdess, tmp_path / "out")


def test_full_disk_while_writing_keeps_the_earlier_metadata(ravdess, tmp_path, monkeypatch):
    out = tmp_path / "out"
    prepare("ravdess", ravdess, out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    written = []

    def full(self, path):
        written.append(path)
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}")

    monkeypatch.setattr(Metadata, "write", full)
    with pytest.raises(UserError, match="No space left on device"):
        prepare("ravdess", ravdess, out)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_folds_of_an_earlier_corpus_are_removed(ravdess, tmp_path):
    out = tmp_path / "out"
    prepare("iemocap", iemocap_tree(tmp_path / "tree", sessions=3), out)
    assert prepare("ravdess", ravdess, out).folds == ("fold1", "fold2")
    assert sorted(path.name for path in out.iterdir()) == ["Session1", "Session2", "corpus.json", "files.json"]


@pytest.mark.skipif("S3PRL_DD_DATA" not in os.environ, reason="S3PRL_DD_DATA is not set")
def test_real_ravdess(tmp_path):
    summary = prepare("ravdess", Path(os.environ["S3PRL_DD_DATA"], "ravdess"), tmp_path / "out")
    assert (summary.utterances, summary.speakers, len(summary.folds)) == (672, 24, 6)
    assert any("Actor_07/03-01-03-01-02-01-07.flac" in warning for warning in summary.warnings)
    for number in range(1, 7):
        train, test = lists(tmp_path / "out", f"fold{number}")
        assert test.speakers == [f"{actor:02d}" for actor in range(4 * number - 3, 4 * number + 1)]
        assert (train.class_counts, test.class_counts) == ([80, 160, 160, 160], [16, 32, 32, 32])


# folds


def csv_table(folder, speakers, emotions):
    """A CSV table with a tone of each speaker and emotion; returns its path."""
    rows = ["file,emotion,speaker"]
    for number, (speaker, emotion) in enumerate(itertools.product(speakers, emotions)):
        tone(folder / f"{speaker}/{number}.wav", pitch=100 + number)
        rows.append(f"{speaker}/{number}.wav,{emotion},{speaker}")
    (folder / "table.csv").write_text("\n".join(rows))
    return folder / "table.csv"


def test_folds_are_disjoint_in_speakers_and_cover_the_corpus(tmp_path):
    """Every utterance is tested in exactly one fold, and nobody is heard in training and in test."""
    summary = prepare("table", csv_table(tmp_path, "abcdefg", ["neu", "hap", "ang", "sad"]), tmp_path / "out", folds=3)
    tested = []
    for name in summary.folds:
        fold = read_fold(tmp_path / "out", name)
        heard = {item.speaker for part in (fold.train, fold.dev) for item in part.utterances}
        assert heard | set(fold.test.speakers) == set("abcdefg") and not heard & set(fold.test.speakers)
        tested += [item.path for item in fold.test.utterances]
    assert len(summary.folds) == 3 and len(tested) == len(set(tested)) == summary.utterances == 28


def test_class_names_of_any_length_stay_in_their_columns(tmp_path, capsys):
    names = ["a", "disappointment", "17"]
    prepare("table", csv_table(tmp_path, "xy", names), tmp_path / "out", folds=2)
    printed = capsys.readouterr().out.splitlines()
    header = next(line for line in printed if line.startswith("fold "))
    rows = [line for line in printed if "train and dev" in line or " test " in line]
    assert header.split() == ["fold", "part", "speakers", "17", "a", "disappointment"] and len(rows) == 4
    for name in names:
        end = f"{header} ".index(f" {name} ") + len(name)  # of the column: numbers stand under the name's last letter
        assert all(row[end] == "1" for row in rows)
