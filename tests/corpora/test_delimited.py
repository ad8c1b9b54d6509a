"""Tables as people have them: separators, encodings, names of columns, lines that do not fit."""

import json

import pytest
from support.iemocap_tree import tone

from s3prl_dd.corpora import prepare
from s3prl_dd.corpora.delimited import choose, read_delimited
from s3prl_dd.corpora.text import read_text, shown
from s3prl_dd.errors import UserError

FOUR_FILES = (("a.wav", "sad", "x"), ("b.wav", "neu", "x"), ("c.wav", "sad", "y"), ("d.wav", "neu", "y"))


@pytest.fixture
def audio(tmp_path):
    for place, (path, *_) in enumerate(FOUR_FILES):
        tone(tmp_path / path, pitch=100 + 20 * place)
    return tmp_path


def text_of(header, separator=","):
    return "".join(separator.join(row) + "\n" for row in (header, *FOUR_FILES))


@pytest.mark.parametrize("header", [
    ("file", "emotion", "speaker"), ("wav", "emo", "spk"), ("path", "label", "speaker_id"),
    ("file_name", "EmoClass", "SpkrID"), ("FileName", "EmoClass", "SpkrID"), ("wav_path", "category", "Speaker ID"),
    ("File-Name", "E m o", "SPK"), ("filename", "Label", "speaker-id"), ("audio", " emotion ", "speaker"),
])
def test_columns_by_the_names_that_people_give_them(audio, header):
    (audio / "t.csv").write_text(text_of(header))
    summary = prepare("table", audio / "t.csv", audio / "out")
    assert (summary.utterances, summary.speakers, summary.labels) == (4, 2, {"neu": 0, "sad": 1})


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("name", ["t.csv", "T.CSV", "t.tsv", "t.txt"])
def test_separators_and_endings(audio, separator, name):
    (audio / name).write_text(text_of(("file", "emotion", "speaker"), separator))
    assert prepare("table", audio / name, audio / "out").utterances == 4


def test_excel_says_its_separator(audio):
    (audio / "t.csv").write_text("sep=;\n" + text_of(("file", "emotion", "speaker"), ";"))
    assert prepare("table", audio / "t.csv", audio / "out").utterances == 4


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_encodings(audio, encoding):
    table = text_of(("file", "emotion", "speaker")).replace(",y", ",ÿá")
    (audio / "t.csv").write_bytes(table.encode(encoding))
    assert prepare("table", audio / "t.csv", audio / "out").speakers == 2


def test_other_encodings_are_refused_unless_named(tmp_path):
    (tmp_path / "t.csv").write_bytes("Müller".encode("latin-1"))
    with pytest.raises(UserError, match="t.csv: found bytes that are not utf-8; expected text in UTF-8 or UTF-16"):
        read_text(tmp_path / "t.csv")
    assert read_text(tmp_path / "t.csv", ("latin-1",)) == "Müller"


def test_columns_option(audio):
    (audio / "t.csv").write_text("Clip,Feeling,Who,path\n" + "".join(
        f"{file},{emotion},{who},nowhere\n" for file, emotion, who in FOUR_FILES))
    summary = prepare("table", audio / "t.csv", audio / "out", columns="file=Clip,emotion=feeling,speaker=Who")
    assert summary.utterances == 4
    with pytest.raises(UserError, match="--columns file=Klip: no such column, found Clip, Feeling, Who, path"):
        prepare("table", audio / "t.csv", audio / "out", columns="file=Klip")
    with pytest.raises(UserError, match="'wave'; expected file, emotion, speaker"):
        prepare("table", audio / "t.csv", audio / "out", columns="wave=Clip")
    with pytest.raises(UserError, match="'Clip' stands for two things"):
        prepare("table", audio / "t.csv", audio / "out", columns="file=Clip,emotion=Clip,speaker=Who")


def test_a_row_with_more_or_fewer_fields_is_refused_with_its_line(audio):
    table = audio / "t.csv"
    table.write_text("file,emotion,speaker\na.wav,sad,x\n\nc.wav,sad,y,b.wav,neu,x\n")
    with pytest.raises(UserError, match="t.csv: line 4: 6 fields, 'b.wav' is one too many; the header has 3"):
        prepare("table", table, audio / "out")
    table.write_text('file,emotion,speaker\n"two\nlines.wav",sad,x\na.wav,sad\n')
    with pytest.raises(UserError, match="t.csv: line 4: 2 fields; the header has 3"):
        prepare("table", table, audio / "out")


def test_empty_lines_are_not_rows(audio):
    (audio / "t.csv").write_text(text_of(("file", "emotion", "speaker")) + "\n,,\n")
    assert prepare("table", audio / "t.csv", audio / "out").utterances == 4


def test_an_open_quotation_mark_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text('file,emotion\n"a.wav,sad\nb.wav,neu\n')
    with pytest.raises(UserError, match="line 2: expected CSV.*Close or double"):
        read_delimited(tmp_path / "t.csv")


def test_two_columns_that_could_be_the_same_are_refused_and_named(audio):
    (audio / "t.csv").write_text("file,path,emotion,speaker\n" + "".join(
        f"{file},{file},{emotion},{who}\n" for file, emotion, who in FOUR_FILES))
    with pytest.raises(UserError, match="its columns 'file' and 'path' could both be the file.*--columns file=file"):
        prepare("table", audio / "t.csv", audio / "out")
    assert prepare("table", audio / "t.csv", audio / "out", columns="file=path").utterances == 4


def test_an_empty_column_is_not_in_the_way(audio):
    (audio / "t.csv").write_text("file,path,emotion,speaker\n" + "".join(
        f"{file},,{emotion},{who}\n" for file, emotion, who in FOUR_FILES))
    table = read_delimited(audio / "t.csv")
    assert choose(audio / "t.csv", table, None) == {"file": "file", "emotion": "emotion", "speaker": "speaker"}


def test_json_lines_name_the_line_that_is_broken(audio):
    lines = [json.dumps({"wav": file, "emo": emotion, "spk": who}) for file, emotion, who in FOUR_FILES]
    (audio / "t.JSONL").write_text("\n".join(lines))
    assert prepare("table", audio / "t.JSONL", audio / "out").utterances == 4
    (audio / "t.jsonl").write_text("\n".join([*lines, "{broken"]))
    with pytest.raises(UserError, match="line 5: expected one JSON object a line"):
        prepare("table", audio / "t.jsonl", audio / "out")
    (audio / "t.jsonl").write_text("[1, 2]\n")
    with pytest.raises(UserError, match="line 1: expected a JSON object"):
        prepare("table", audio / "t.jsonl", audio / "out")


def test_names_are_shown_in_one_line():
    assert shown("ä b.wav") == "ä b.wav" and shown("a\nb\udcff") == "a\\nb\\udcff"
