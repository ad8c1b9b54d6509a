"""Tables as careless people make them: what can be meant in one way alone is taken so and told, the rest is refused."""

import json
import unicodedata

import pytest
from support.iemocap_tree import tone

from s3prl_dd.corpora import prepare
from s3prl_dd.corpora.metadata import Metadata
from s3prl_dd.errors import UserError

HEADER = ["file", "emotion", "speaker"]


@pytest.fixture
def rows(tmp_path):
    """Two takes of two emotions by three speakers, each file another."""
    lines = []
    for number, speaker in enumerate("abc"):
        for place, emotion in enumerate(("happy", "sad")):
            for take in range(2):
                path = f"audio/{speaker}/{emotion}{take}.wav"
                tone(tmp_path / path, pitch=100 + 40 * number + 20 * place + 10 * take)
                lines.append([path, emotion, speaker])
    return lines


def prepared(folder, lines, name="t.csv", separator=",", end="\n", encoding="utf-8", header=HEADER, **options):
    text = end.join(separator.join(line) for line in [header, *lines]) + end
    (folder / name).write_bytes(text.encode(encoding))
    return prepare("table", folder / name, folder / "out", **options)


def paths(folder):
    files = (folder / "out/Session1").glob("*.json")
    return sorted(item.path for file in files for item in Metadata.read(file).utterances)


def changed(rows, place, change):
    """The rows with one column changed."""
    return [[change(value) if number == place else value for number, value in enumerate(row)] for row in rows]


@pytest.mark.parametrize("style", [
    {"separator": "|"}, {"separator": "\t", "name": "t.tsv"}, {"end": "\r"}, {"end": "\r\n", "encoding": "utf-8-sig"},
    {"separator": " , "},
])
def test_any_separator_and_line_end(rows, tmp_path, style):
    assert prepared(tmp_path, rows, **style).utterances == 12
    assert paths(tmp_path) == sorted(row[0] for row in rows)


@pytest.mark.parametrize("change", [
    lambda path: path.replace("/", "\\"),
    lambda path: path.removesuffix(".wav"),
    lambda path: path.replace("/", "\\").removesuffix(".wav"),
])
def test_files_that_are_spelt_otherwise_are_found_and_told(rows, tmp_path, change):
    summary = prepared(tmp_path, changed(rows, 0, change))
    assert paths(tmp_path) == sorted(row[0] for row in rows)
    assert f"12 files are spelt otherwise on the disk: {change(rows[0][0])} is {rows[0][0]}" in summary.notes


def test_umlauts_of_a_mac(rows, tmp_path):
    composed, taken_apart = (unicodedata.normalize(form, "audio/a/fröhlich.wav") for form in ("NFC", "NFD"))
    tone(tmp_path / taken_apart, pitch=500)
    prepared(tmp_path, [*rows, [composed, "happy", "a"]])
    assert taken_apart in paths(tmp_path)


APART = [("José", "Jose\u0301"), ("s01", "s01\u200b"), ("s01", "\ufeffs01"), ("Fröh lich", "Fro\u0308h lich \u200e")]
"""(A name, the same in another Unicode form or with an invisible letter)."""


@pytest.mark.parametrize("place", [1, 2, 3])
@pytest.mark.parametrize("name, other", APART)
def test_names_that_look_the_same_are_the_same(rows, tmp_path, place, name, other):
    """An emotion, a speaker and a fold."""
    lines = [[*row, row[2]] for row in rows]
    first = lines[0][place]
    lines = changed(lines, place, lambda value: name if value == first else value)
    lines[1 if place != 1 else 4][place] = other
    summary = prepared(tmp_path, lines, header=[*HEADER, "fold"])
    assert (summary.speakers, len(summary.labels), len(summary.folds)) == (3, 2, 3)
    assert any(f"1 names count without their invisible letters and in one Unicode form: {other.strip()!a} is {name!r}"
               in note for note in summary.notes)


def test_splits_and_patterns_of_another_unicode_form(rows, tmp_path):
    lines = [[*row, {"a": "train", "b": "train\u200b", "c": "test"}[row[2]]] for row in rows]
    assert prepared(tmp_path, lines, header=[*HEADER, "split"]).folds == ("fold1",)
    for taken_apart in ("jose\u0301", "jos\u00e9"):
        for row in rows[1:3]:
            tone(tmp_path / taken_apart / row[0], pitch=700 + len(rows) + 9 * len(taken_apart))
            rows.append([f"{taken_apart}/{row[0]}", row[1], ""])
    summary = prepared(tmp_path, rows, speaker="(jos.|(?<=^audio/).)/")
    assert summary.speakers == 4 and "jose\u0301/audio/a/happy1.wav" in paths(tmp_path)


def test_speakers_of_s3prls_json_in_another_unicode_form(rows, tmp_path):
    names = {"a": "José", "b": "b", "c": "c"}
    items = [dict(zip(("path", "label", "speaker"), row, strict=True)) for row in changed(rows, 2, names.__getitem__)]
    items[0]["speaker"] = "Jose\u0301"
    (tmp_path / "s.json").write_text(json.dumps({"labels": {"happy": 0, "sad": 1}, "meta_data": items}))
    summary = prepare("table", tmp_path / "s.json", tmp_path / "out")
    assert summary.speakers == 3 and any("1 names count without" in note for note in summary.notes)


def test_two_files_that_could_be_meant_are_none(rows, tmp_path):
    tone(tmp_path / "audio/a/happy0.flac")
    with pytest.raises(UserError, match="1 of 12 files .* missing.*audio/a/happy0: no such file"):
        prepared(tmp_path, [["audio/a/happy0", "happy", "a"], *rows[1:]])


def test_a_name_with_a_backslash_that_is_there(rows, tmp_path):
    tone(tmp_path / "audio/a\\b.wav", pitch=500)
    tone(tmp_path / "audio/a/b.wav", pitch=510)
    prepared(tmp_path, [*rows, ["audio/a\\b.wav", "sad", "a"]])
    assert "audio/a\\b.wav" in paths(tmp_path) and "audio/a/b.wav" not in paths(tmp_path)


def test_drives_of_windows(rows, tmp_path):
    lines = changed(rows, 0, lambda path: "C:\\me\\" + path.replace("/", "\\"))
    with pytest.raises(UserError, match="none of its 12 files exists .*Write its paths from --root on, with /"):
        prepared(tmp_path, lines)


def test_text_in_the_place_of_a_file(rows, tmp_path):
    with pytest.raises(UserError, match="none of its 12 files exists"):
        prepared(tmp_path, changed(rows, 0, lambda path: path + "x" * 5000))


def test_a_line_twice_counts_once(rows, tmp_path):
    summary = prepared(tmp_path, [*rows, rows[0], ["./" + rows[1][0], *rows[1][1:]]])
    assert summary.utterances == 12 and "2 lines say what a line before says and count once" in summary.notes
    with pytest.raises(UserError, match="audio/a/happy0.wav is listed more than once, as hap of a and as sad of a"):
        prepared(tmp_path, [*rows, [rows[0][0], "sad", "a"]])


@pytest.mark.parametrize("empty", ["", "nan", "NaN", "<NA>"])
def test_an_empty_emotion_is_told_with_its_line(rows, tmp_path, empty):
    rows[2][1] = empty
    with pytest.raises(UserError, match="t.csv: line 4: its emotion is empty. Fill it in, or leave the line out"):
        prepared(tmp_path, rows)


EMPTY = ["", "NaN", "<NA>", "NA", "n/a", "None", "NULL"]


@pytest.mark.parametrize("empty", EMPTY)
def test_an_empty_speaker_is_nobody(rows, tmp_path, empty):
    rows[2][2] = empty
    with pytest.raises(UserError, match="t.csv: line 4: its speaker is empty. Fill it in, leave the line out, or give"):
        prepared(tmp_path, rows)
    assert prepared(tmp_path, rows, speaker="audio/(.)").speakers == 3


@pytest.mark.parametrize("field, told", [("fold", "some lines have a fold and some have none"),
                                         ("split", "line 4: no split, other lines have one")])
@pytest.mark.parametrize("empty", EMPTY)
def test_an_empty_fold_or_split_is_none(rows, tmp_path, field, told, empty):
    said = {"a": ("1", "train"), "b": ("2", "train"), "c": ("3", "test")}
    lines = [[*row, said[row[2]][field == "split"]] for row in rows]
    lines[2][3] = empty
    with pytest.raises(UserError, match=told):
        prepared(tmp_path, lines, header=[*HEADER, field])
    lines = [[*row, empty] for row in rows]
    assert len(prepared(tmp_path, lines, header=[*HEADER, field]).folds) == 3


def test_a_column_of_nothing_is_not_in_the_way(rows, tmp_path):
    lines = [[*row, "nan"] for row in rows]
    assert prepared(tmp_path, lines, header=[*HEADER, "spk"]).speakers == 3


@pytest.mark.parametrize("empty", [None, float("nan"), "None", " "])
def test_an_empty_speaker_in_json_is_nobody(rows, tmp_path, empty):
    rows[2][2] = empty
    (tmp_path / "t.json").write_text(json.dumps([dict(zip(HEADER, row, strict=True)) for row in rows]))
    with pytest.raises(UserError, match="line 3: its speaker is empty"):
        prepare("table", tmp_path / "t.json", tmp_path / "out")
    items = [dict(zip(("path", "label", "speaker"), row, strict=True)) for row in rows]
    (tmp_path / "s.json").write_text(json.dumps({"labels": {"happy": 0, "sad": 1}, "meta_data": items}))
    with pytest.raises(UserError, match="s.json: .*speaker"):
        prepare("table", tmp_path / "s.json", tmp_path / "out")


def test_a_table_without_a_header(rows, tmp_path):
    with pytest.raises(UserError, match="line 2: no file; .*Is its first line a header"):
        prepared(tmp_path, rows[1:], header=rows[0])


def test_names_of_speakers_that_hardly_differ_are_told(rows, tmp_path):
    names = {"a": "01", "b": "1", "c": "spk 2"}
    summary = prepared(tmp_path, changed(rows, 2, names.__getitem__))
    assert any("'01' and '1'. If they are not, a head is tested on who it has heard" in told
               for told in summary.warnings)
    names = {"a": "spk10", "b": "spk1", "c": "spk100"}
    summary = prepared(tmp_path, changed(rows, 2, names.__getitem__))
    assert not any("hardly differ" in told for told in summary.warnings)


def test_numbers_as_labels(rows, tmp_path):
    numbers = {"happy": "1", "sad": "0"}
    assert prepared(tmp_path, changed(rows, 1, numbers.__getitem__)).labels == {"0": 0, "1": 1}
    rows = changed(rows, 1, numbers.__getitem__)
    rows[0][1] = "1.0"
    with pytest.raises(UserError, match="the labels '1' and '1.0' could be one class"):
        prepared(tmp_path, rows)


def test_json_as_pandas_writes_it(rows, tmp_path):
    records = [dict(zip(HEADER, row, strict=True)) for row in rows]
    (tmp_path / "t.json").write_text(json.dumps(records))
    assert prepare("table", tmp_path / "t.json", tmp_path / "out").utterances == 12
    (tmp_path / "t.json").write_text(json.dumps([records[0], 5]))
    with pytest.raises(UserError, match="line 2: expected a JSON object"):
        prepare("table", tmp_path / "t.json", tmp_path / "out")


@pytest.mark.parametrize("name", ["t.csv", "t.xlsx"])
def test_a_spreadsheet(rows, tmp_path, name):
    (tmp_path / name).write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(UserError, match="Export it as CSV"):
        prepare("table", tmp_path / name, tmp_path / "out")


def test_any_format_and_rate(rows, tmp_path):
    formats = {"u8.wav": {"channels": 2, "rate": 44100, "subtype": "PCM_U8"}, "24.wav": {"subtype": "PCM_24"},
               "f.wav": {"subtype": "FLOAT"}, "a.wav": {"subtype": "ALAW", "rate": 8000}, "m.mp3": {}, "o.ogg": {},
               "x.flac": {}, "b.wav": {"format": "RF64"}}
    for number, (name, options) in enumerate(formats.items()):
        tone(tmp_path / "audio/a" / name, pitch=500 + 20 * number, **options)
        rows.append([f"audio/a/{name}", "sad", "a"])
    (tmp_path / "audio/a/o.ogg").rename(tmp_path / "audio/a/ogg.wav")
    rows[-3][0] = "audio/a/ogg.wav"
    assert prepared(tmp_path, rows).utterances == 20


def test_absolute_and_relative_paths_and_links(rows, tmp_path):
    (tmp_path / "audio").rename(tmp_path / "elsewhere")
    (tmp_path / "audio").symlink_to(tmp_path / "elsewhere")
    lines = [[str(tmp_path / row[0]) if number % 2 else row[0], *row[1:]] for number, row in enumerate(rows)]
    prepared(tmp_path, lines)
    assert paths(tmp_path) == sorted(row[0] for row in rows)


@pytest.mark.parametrize("place, name", [
    ("anger.csv", "anger"), ("MyCorpus/metadata.csv", "MyCorpus"), ("My.Corpus/data/labels.tsv", "My.Corpus"),
    ("msp/labels_consensus.csv", "labels_consensus"), ("own/train.jsonl", "own"),
])
def test_a_corpus_is_called_as_its_table(rows, tmp_path, place, name):
    table = tmp_path / place
    table.parent.mkdir(parents=True, exist_ok=True)
    records = [dict(zip(HEADER, row, strict=True)) for row in rows]
    separator = "\t" if table.suffix == ".tsv" else ","
    lines = [separator.join(line) for line in [HEADER, *rows]]
    table.write_text("\n".join(map(json.dumps, records) if table.suffix == ".jsonl" else lines))
    assert prepare("table", tmp_path, tmp_path / "out", table=table).name == name
