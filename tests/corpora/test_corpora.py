"""prepare(): what each corpus lists, and what it says of bad input."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.iemocap_tree import iemocap_tree, tone

from s3prl_dd.corpora import CORPORA, prepare
from s3prl_dd.corpora.audio import audio_info, duplicates, load_audio
from s3prl_dd.corpora.base import spread
from s3prl_dd.corpora.metadata import Metadata, read_corpus, read_fold, session
from s3prl_dd.errors import UserError

FOUR = {"neu": 0, "hap": 1, "ang": 2, "sad": 3}


@pytest.fixture
def ravdess(tmp_path):
    """Actors 1, 2, 5 and 6, one file an emotion, of differing pitch."""
    for actor in (1, 2, 5, 6):
        for code in ("01", "02", "03", "04", "05"):
            tone(tmp_path / "ravdess" / f"Actor_{actor:02d}" / f"03-01-{code}-01-01-01-{actor:02d}.wav",
                 rate=48000, pitch=100 + 10 * actor + int(code))
    return tmp_path / "ravdess"


def lists(out, fold):
    return [Metadata.read(out / session(fold) / f"{part}_meta_data.json") for part in ("train", "test")]


# audio

def test_load_audio_averages_channels_and_resamples(tmp_path):
    time = np.arange(48000) / 48000
    left, right = 0.5 * np.sin(2 * np.pi * 440 * time), np.zeros(48000)
    soundfile.write(tmp_path / "stereo.wav", np.stack([left, right], 1), 48000, subtype="FLOAT")
    samples = load_audio(tmp_path / "stereo.wav")
    expected = 0.25 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    assert samples.dtype == np.float32 and samples.shape == (16000,)
    assert np.abs(samples - expected)[100:-100].max() < 1e-3


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
def test_load_audio_keeps_duration_at_any_rate(tmp_path, rate):
    path = tone(tmp_path / "a.flac", seconds=0.5, rate=rate)
    assert abs(len(load_audio(path)) - 8000) <= 1
    info = audio_info(path)
    assert (info.rate, info.channels, info.seconds) == (rate, 1, 0.5) and info.peak == pytest.approx(0.1, abs=1e-3)


def _bytes(path, content):
    path.write_bytes(content)
    return path


def _cut(path):
    return _bytes(path, path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("make, text", [
    (lambda folder: folder / "none.wav", "no such file"),
    (lambda folder: _bytes(folder / "e.wav", b""), "has no bytes"),
    (lambda folder: _bytes(folder / "t.wav", b"not audio at all"), "unreadable, Format not recognised"),
    (lambda folder: _cut(tone(folder / "cut.wav")), "truncated"),
    (lambda folder: tone(folder / "short.wav", seconds=0.0), "empty, 0 samples"),
    (lambda folder: tone(folder / "nan.wav", loudness=np.nan, subtype="FLOAT"), "not finite"),
])
def test_load_audio_names_the_file_and_the_cause(tmp_path, make, text):
    path = make(tmp_path)
    with pytest.raises(UserError, match=text) as error:
        load_audio(path)
    assert str(path) in str(error.value)


def test_truncated_flac_is_refused(tmp_path):
    with pytest.raises(UserError, match="truncated|unreadable"):
        load_audio(_cut(tone(tmp_path / "a.flac", seconds=2.0)))


def test_wav_written_to_a_pipe_is_whole(tmp_path):
    path = tone(tmp_path / "a.wav")
    data = bytearray(path.read_bytes())
    place = data.index(b"data") + 4
    data[place: place + 4] = data[4:8] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    assert len(load_audio(path)) == 3200


def test_duplicates_are_by_bytes(tmp_path):
    a, b, c = (tone(tmp_path / f"{name}.wav", pitch=pitch) for name, pitch in (("a", 200), ("b", 200), ("c", 300)))
    assert duplicates([a, b, c]) == [[a, b]]


# iemocap

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
            assert json.loads((out / name).read_text()) == json.loads((root / "meta_data" / name).read_text())
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


# corpora whose names say it all

def test_ravdess_lists_four_emotions_and_speaker_disjoint_folds(ravdess, tmp_path, capsys):
    summary = prepare("ravdess", ravdess, tmp_path / "out")
    printed = capsys.readouterr().out
    train, test = lists(tmp_path / "out", "fold2")
    assert summary.folds == ("fold1", "fold2") and summary.labels == FOUR
    assert (train.speakers, test.speakers) == (["01", "02"], ["05", "06"])
    assert [(item.path, item.label) for item in test.utterances if item.speaker == "05"] == [
        ("Actor_05/03-01-01-01-01-01-05.wav", "neu"), ("Actor_05/03-01-03-01-01-01-05.wav", "hap"),
        ("Actor_05/03-01-04-01-01-01-05.wav", "sad"), ("Actor_05/03-01-05-01-01-01-05.wav", "ang")]
    assert summary.sample_rates == {"48000": 16} and summary.hours == pytest.approx(16 * 0.2 / 3600)
    assert "calm 4" in printed and "20 of 24 actors" in printed and "16 files" in printed
    assert read_corpus(tmp_path / "out") == summary
    assert read_fold(tmp_path / "out", "fold1").test.speakers == ["01", "02"]


@pytest.mark.parametrize("name, path, text", [
    ("ravdess", "03-01-09-01-01-01-01.wav", "unknown label '09'"),
    ("emodb", "03a01Xa.wav", "unknown label 'X'"),
    ("crema_d", "1001_DFA_JOY_XX.wav", "unknown label 'JOY'"),
])
def test_unknown_label_is_refused(tmp_path, name, path, text):
    tone(tmp_path / "root" / path)
    with pytest.raises(UserError, match=text) as error:
        prepare(name, tmp_path / "root", tmp_path / "out")
    assert path in str(error.value)


def test_emodb_folds_are_pairs_of_a_man_and_a_woman(tmp_path):
    for index, speaker in enumerate(("03", "08", "12", "14", "16")):
        for letter in "NFWTL":
            tone(tmp_path / "root/wav" / f"{speaker}a01{letter}a.wav", pitch=100 + 10 * index + ord(letter) % 7)
    summary = prepare("emodb", tmp_path / "root", tmp_path / "out")
    tested = {fold: lists(tmp_path / "out", fold)[1].speakers for fold in summary.folds}
    assert tested == {"fold1": ["03", "08"], "fold4": ["12", "14"], "fold5": ["16"]}
    assert {item.path[-6]: item.label for item in lists(tmp_path / "out", "fold1")[1].utterances} == {
        "N": "neu", "F": "hap", "W": "ang", "T": "sad"}
    assert any("boredom 5" in note for note in summary.notes)


def test_crema_d_folds_by_every_fifth_id_at_any_depth(tmp_path):
    for speaker in (1001, 1002, 1006):
        for code in ("NEU", "HAP", "ANG", "SAD", "FEA"):
            tone(tmp_path / "root" / f"deep{speaker % 2}" / "er" / f"{speaker}_DFA_{code}_XX.wav", pitch=speaker + 20 * ord(code[1]) % 90)
    summary = prepare("crema_d", tmp_path / "root", tmp_path / "out")
    assert {fold: lists(tmp_path / "out", fold)[1].speakers for fold in summary.folds} == {
        "fold1": ["1001", "1006"], "fold2": ["1002"]}


def test_a_name_found_twice_is_taken_once(ravdess, tmp_path):
    again = ravdess / "again" / "03-01-01-01-01-01-01.wav"
    tone(again)
    summary = prepare("ravdess", ravdess, tmp_path / "out")
    assert summary.utterances == 16 and any("again/03-01-01" in warning for warning in summary.warnings)


# flawed files

def test_flawed_files_are_named_and_left_out_or_kept(ravdess, tmp_path):
    twin = ravdess / "Actor_01/03-01-03-01-01-01-01.wav"
    _bytes(ravdess / "Actor_01/03-01-03-01-01-02-01.wav", twin.read_bytes())
    tone(ravdess / "Actor_01/03-01-01-01-02-01-01.wav", loudness=0.0)
    _bytes(ravdess / "Actor_01/03-01-01-01-02-02-01.wav", b"")
    _cut(tone(ravdess / "Actor_01/03-01-04-01-02-01-01.wav", seconds=1.0))
    tone(ravdess / "Actor_02/03-01-04-01-02-01-02.wav", rate=8000, channels=2)  # nothing wrong with it
    summary = prepare("ravdess", ravdess, tmp_path / "out")
    said = "\n".join(summary.warnings)
    assert summary.utterances == 16 + 3 and summary.channels == {"1": 18, "2": 1} and summary.sample_rates["8000"] == 1
    assert "2 missing, unreadable or empty files are left out" in said and "03-01-04-01-02-01-01.wav (truncated" in said
    assert "1 silent files are kept: Actor_01/03-01-01-01-02-01-01.wav" in said
    assert "byte-identical files are kept: Actor_01/03-01-03-01-01-01-01.wav = Actor_01/03-01-03-01-01-02-01.wav" in said
    assert "no bytes" in summary.excluded["Actor_01/03-01-01-01-02-02-01.wav"]
    paths = [item.path for item in lists(tmp_path / "out", "fold1")[1].utterances]
    assert "Actor_01/03-01-01-01-02-02-01.wav" not in paths and "Actor_01/03-01-01-01-02-01-01.wav" in paths


def test_all_files_unusable_is_an_error(ravdess, tmp_path):
    for path in ravdess.rglob("*.wav"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="none of 16 files can be used.*has no bytes"):
        prepare("ravdess", ravdess, tmp_path / "out")


# roots, classes, folders

def test_missing_empty_and_foreign_roots(tmp_path):
    with pytest.raises(UserError, match="gone: no such folder.*check --root"):
        prepare("ravdess", tmp_path / "gone", tmp_path / "out")
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
    assert sorted(path.name for path in out.iterdir()) == ["Session1", "Session2", "corpus.json"]


def test_spread_is_balanced_and_does_not_hang_on_order():
    counts = {"a": 10, "b": 9, "c": 5, "d": 4, "e": 2}
    fold_of = spread(counts, 2)
    sizes = [sum(counts[name] for name in counts if fold_of[name] == fold) for fold in (1, 2)]
    assert sorted(sizes) == [14, 16] and fold_of == spread(dict(reversed(counts.items())), 2)


@pytest.mark.skipif("S3PRL_DD_DATA" not in os.environ, reason="S3PRL_DD_DATA is not set")
def test_real_ravdess(tmp_path):
    summary = prepare("ravdess", Path(os.environ["S3PRL_DD_DATA"], "ravdess"), tmp_path / "out")
    assert (summary.utterances, summary.speakers, len(summary.folds)) == (672, 24, 6)
    assert any("Actor_07/03-01-03-01-02-01-07.flac" in warning for warning in summary.warnings)
    for number in range(1, 7):
        train, test = lists(tmp_path / "out", f"fold{number}")
        assert test.speakers == [f"{actor:02d}" for actor in range(4 * number - 3, 4 * number + 1)]
        assert (train.class_counts, test.class_counts) == ([80, 160, 160, 160], [16, 32, 32, 32])
