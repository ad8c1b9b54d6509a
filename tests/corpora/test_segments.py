"""Segments of files, long recordings, and files that are missing."""

import errno
import itertools
import json

import numpy as np
import pytest
import soundfile
from support.iemocap_tree import lists, tone

from s3prl_dd.corpora import audio, prepare
from s3prl_dd.corpora.audio import audio_info, audio_length, load_audio
from s3prl_dd.corpora.metadata import Metadata, Utterance, read_fold
from s3prl_dd.errors import UserError


@pytest.fixture
def ramps(tmp_path):
    """Two WAV files of 4 s whose samples count up, so that each place is told from all others."""
    for speaker, sign in (("a", 1), ("b", -1)):
        wave = sign * np.arange(32000) / 32000
        soundfile.write(tmp_path / f"{speaker}.wav", wave, 8000, subtype="FLOAT")
    return tmp_path


def table(folder, *rows, header="file,emotion,speaker,start,end"):
    (folder / "t.csv").write_text("\n".join([header, *rows]))
    return folder / "t.csv"


ROWS = ("a.wav,sad,a,0,1.5", "a.wav,neu,a,1.5,2.25", "b.wav,sad,b,,2", "b.wav,neu,b,2,")


def test_segments_are_utterances_of_their_own(ramps):
    summary = prepare("table", table(ramps, *ROWS), ramps / "out")
    train, test = lists(ramps / "out", "fold2")
    assert [(item.path, item.start, item.end) for item in (*train.utterances, *test.utterances)] == [
        ("a.wav", 0.0, 1.5), ("a.wav", 1.5, 2.25), ("b.wav", None, 2.0), ("b.wav", 2.0, None)]
    assert [item.id for item in (*train.utterances, *test.utterances)] == [
        "a.wav#0.0-1.5", "a.wav#1.5-2.25", "b.wav#0.0-2.0", "b.wav#2.0-"]
    assert summary.hours * 3600 == pytest.approx(1.5 + 0.75 + 2 + 2)
    assert (summary.longest, summary.median) == (2.0, 1.75)
    assert summary.audio_bytes == sum((ramps / name).stat().st_size for name in ("a.wav", "b.wav"))
    assert any("4 utterances are segments" in note and "launcher" in note for note in summary.notes)


def test_s3prl_reads_the_keys_that_it_knows(ramps):
    prepare("table", table(ramps, *ROWS), ramps / "out")
    item = json.loads((ramps / "out/Session2/train_meta_data.json").read_text())["meta_data"][0]
    assert item == {"path": "a.wav", "label": "sad", "speaker": "a", "start": 0.0, "end": 1.5}
    assert Utterance("a.wav", "sad", "a").record() == {"path": "a.wav", "label": "sad", "speaker": "a"}


def test_segments_have_digests_of_their_own():
    whole, part, other = (Utterance("a.wav", "sad", "a", *times) for times in ((), (0.0, 1.0), (1.0, 2.0)))
    digests = {Metadata({"sad": 0}, (item,)).digest() for item in (whole, part, other)}
    assert len(digests) == 3


@pytest.mark.parametrize("start, end, first, last", [
    (0.5, 1.5, 4000, 12000), (None, 1, 0, 8000), (3, None, 24000, 32000), (3.5, 4.05, 28000, 32000)])
def test_only_the_segment_is_read(ramps, start, end, first, last):
    wave = load_audio(ramps / "a.wav", 8000, start, end)
    assert np.array_equal(wave, (np.arange(first, last) / 32000).astype(np.float32))
    assert audio_length(ramps / "a.wav", 8000, start, end) == len(wave)
    info = audio_info(ramps / "a.wav", start, end)
    assert info.seconds == len(wave) / 8000 and info.peak == np.abs(wave).max()


@pytest.mark.parametrize("start, end, told", [
    (3, 9, "the segment from 3 s to 9 s: the file ends at 4.00 s"), (5, 9, "the file ends before"),
    (1, 1.05, "segment from 1 s to 1.05 s: 400 samples")])
def test_a_segment_that_the_file_does_not_have_is_refused(ramps, start, end, told):
    with pytest.raises(UserError, match=told):
        load_audio(ramps / "a.wav", 8000, start, end)
    with pytest.raises(UserError, match=told):
        audio_info(ramps / "a.wav", start, end)


@pytest.mark.parametrize("text, seconds", [("2.5", 2.5), ("0 days 00:00:02.5", 2.5), ("0:01:02", 62.0), ("1e0", 1.0)])
def test_times_as_tables_have_them(ramps, text, seconds):
    for speaker in "ab":
        tone(ramps / f"{speaker}.wav", seconds=70, pitch=ord(speaker))
    rows = [f"{speaker}.wav,{emotion},{speaker},{start},{end}" for speaker in "ab"
            for emotion, start, end in (("neu", "NaT", text), ("sad", text, ""))]
    prepare("table", table(ramps, *rows), ramps / "out")
    train, _ = lists(ramps / "out", "fold1")
    assert [(item.start, item.end) for item in train.utterances] == [(None, seconds), (seconds, None)]


@pytest.mark.parametrize("row, told", [
    ("a.wav,sad,a,2,1", "line 2: the segment ends at 1 s and starts at 2 s"),
    ("a.wav,sad,a,-1,1", "line 2: start '-1': expected seconds"), ("a.wav,sad,a,soon,1", "line 2: start 'soon'"),
    ("a.wav,sad,a,.,1", "line 2: start '.'")])
def test_bad_times(ramps, row, told):
    with pytest.raises(UserError, match=told):
        prepare("table", table(ramps, row, *ROWS[1:]), ramps / "out")


def test_the_same_segment_twice_is_refused(ramps):
    other = ROWS[0].replace("sad", "neu")
    assert other != ROWS[0]
    with pytest.raises(UserError, match="a.wav#0.0-1.5 is listed more than once"):
        prepare("table", table(ramps, other, *ROWS), ramps / "out")


@pytest.mark.parametrize("value", ["-1", '"x"', "NaN"])
def test_bad_times_in_metadata(tmp_path, value):
    (tmp_path / "m.json").write_text('{"labels": {"a": 0}, "meta_data": [{"path": "x", "label": "a", "speaker": "s", '
                                     f'"start": {value}}}]}}')
    with pytest.raises(UserError, match="m.json: expected S3PRL's emotion metadata"):
        Metadata.read(tmp_path / "m.json")


# long recordings


@pytest.fixture
def long_ones(tmp_path):
    """Two speakers, three classes; one file is 31 s long."""
    rows = []
    for number, (speaker, emotion, seconds) in enumerate([
            ("a", "neu", 0.3), ("a", "sad", 0.5), ("b", "neu", 0.7), ("b", "sad", 0.9), ("b", "sad", 31)]):
        tone(tmp_path / f"{number}.wav", seconds=seconds, rate=8000, pitch=200 + 10 * number)
        rows.append(f"{number}.wav,{emotion},{speaker}")
    return table(tmp_path, *rows, header="file,emotion,speaker")


def test_long_recordings_are_told(long_ones, tmp_path, capsys):
    summary = prepare("table", long_ones, tmp_path / "out")
    assert (summary.longest, summary.median, summary.utterances) == (31.0, 0.7, 5)
    assert "longest 31.0 s, median 0.7 s" in capsys.readouterr().out
    assert any("1 are longer than 30 s, the longest 31.0 s" in text and "4.wav" in text and "--max-seconds" in text
               for text in summary.warnings)


def test_long_recordings_are_left_out(long_ones, tmp_path):
    summary = prepare("table", long_ones, tmp_path / "out", max_seconds=10)
    assert (summary.utterances, summary.longest) == (4, 0.9) and not any("longer" in text for text in summary.warnings)
    assert summary.excluded == {"4.wav": "31.0 s, longer than 10 s"}
    with pytest.raises(UserError, match="--max-seconds 0.2: no utterance is as short"):
        prepare("table", long_ones, tmp_path / "out", max_seconds=0.2)


def test_long_recordings_are_cut(long_ones, tmp_path):
    summary = prepare("table", long_ones, tmp_path / "out", max_seconds=0.6, long="cut")
    assert (summary.utterances, summary.longest) == (5, 0.6)
    _, test = lists(tmp_path / "out", "fold1")
    assert [item.id for item in test.utterances] == ["2.wav#0.0-0.6", "3.wav#0.0-0.6", "4.wav#0.0-0.6"]
    assert any("3 cut after 0.6 s" in note for note in summary.notes)


def test_cut_keeps_splits_and_starts(ramps):
    rows = [row + (",train" if ",a," in row else ",test") for row in ROWS]
    prepare("table", table(ramps, *rows, header="file,emotion,speaker,start,end,split"), ramps / "out",
            max_seconds=1, long="cut")
    fold = read_fold(ramps / "out", "fold1", valid_ratio=0.5)
    assert [item.id for item in fold.test.utterances] == ["b.wav#0.0-1.0", "b.wav#2.0-3.0"]


def test_a_fold_that_is_left_empty_is_told_where_it_is_asked_for(tmp_path):
    rows = []
    for number, (speaker, emotion) in enumerate(itertools.product("abc", ("neu", "sad"))):
        tone(tmp_path / f"{number}.wav", seconds=3 if speaker == "c" else 0.3, pitch=200 + 10 * number)
        rows.append(f"{number}.wav,{emotion},{speaker},{'abc'.index(speaker) + 1}")
    path = table(tmp_path, *rows, header="file,emotion,speaker,fold")
    with pytest.raises(UserError, match="nothing is left of fold3, .*Left are fold1, fold2; .* --long cut"):
        prepare("table", path, tmp_path / "out", fold="fold3", max_seconds=1)
    assert not (tmp_path / "out").exists()
    assert prepare("table", path, tmp_path / "out", fold="fold2", max_seconds=1).folds == ("fold1", "fold2")
    assert len(prepare("table", path, tmp_path / "out", fold="fold3", max_seconds=1, long="cut").folds) == 3


@pytest.mark.parametrize("start, end, same", [("0", "", True), ("", "4", True), ("0.0", "4.05", True),
                                              ("0", "3.9", False), ("0.1", "", False)])
def test_the_same_part_of_a_file_twice_is_told(ramps, start, end, same):
    summary = prepare("table", table(ramps, *ROWS, "a.wav,sad,a,,", f"a.wav,sad,a,{start},{end}"), ramps / "out")
    same_parts = "the same part of a file is kept more than once: a.wav = a.wav#"
    told = [text for text in summary.warnings if same_parts in text]
    assert len(told) == same and summary.utterances == 6


def test_what_cutting_makes_the_same_is_kept_once(ramps):
    rows = [*ROWS, "a.wav,sad,a,,", "b.wav,sad,b,0,1", "b.wav,sad,b,0,3"]
    summary = prepare("table", table(ramps, *rows), ramps / "out", max_seconds=1, long="cut")
    train, test = lists(ramps / "out", "fold1")
    assert sorted(item.id for item in (*train.utterances, *test.utterances)) == [
        "a.wav#0.0-1.0", "a.wav#1.5-2.25", "b.wav#0.0-1.0", "b.wav#2.0-3.0"]
    assert summary.excluded["a.wav"] == "4.0 s, and cut it is a.wav#0.0-1.0, which is there"
    assert set(summary.excluded) == {"a.wav", "b.wav#0.0-2.0", "b.wav#0.0-3.0"}


# missing files


def test_over_five_percent_missing_is_an_error_unless_allowed(tmp_path):
    rows = []
    for number in range(40):
        emotion, speaker = ("neu", "sad")[number % 2], "ab"[number // 2 % 2]
        if number < 38:
            tone(tmp_path / f"{number}.wav", pitch=100 + 5 * number)
        rows.append(f"{number}.wav,{emotion},{speaker}")
    path = table(tmp_path, *rows, header="file,emotion,speaker")
    summary = prepare("table", path, tmp_path / "out")  # 2 of 40 are 5 %
    assert summary.utterances == 38 and any("2 missing" in text for text in summary.warnings)
    (tmp_path / "0.wav").unlink()
    with pytest.raises(UserError, match=r"3 of 40 files \(8%\) are missing.*0.wav: no such file.*--allow-missing"):
        prepare("table", path, tmp_path / "other")
    assert not (tmp_path / "other").exists()
    assert prepare("table", path, tmp_path / "other", allow_missing=True).utterances == 37


def test_a_name_that_is_too_long_and_a_file_that_may_not_be_read_are_left_out_and_named(tmp_path, monkeypatch):
    rows = []
    for number in range(40):
        tone(tmp_path / f"{number}.wav", pitch=100 + 5 * number)
        rows.append(f"{number}.wav,{('neu', 'sad')[number % 2]},{'ab'[number // 2 % 2]}")
    too_long = 300 * "x" + ".wav"
    (tmp_path / "7.wav").write_bytes(b"libsndfile cannot open it")

    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(audio, "is_pointer", refuse)  # opens the file; root may read all
    table_file = table(tmp_path, *rows, f"{too_long},neu,a", header="file,emotion,speaker")
    summary = prepare("table", table_file, tmp_path / "out")
    assert summary.excluded == {"7.wav": "unreadable, Permission denied", too_long: "unreadable, File name too long"}
