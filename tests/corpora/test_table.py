"""Corpora given as tables: CSV, EmoBox JSONL, S3PRL JSON."""

import json

import pytest
from support.iemocap_tree import iemocap_tree, tone

from s3prl_dd.corpora import prepare
from s3prl_dd.corpora.metadata import Metadata, session
from s3prl_dd.corpora.table import fold_numbers, tell_numbers
from s3prl_dd.errors import UserError


@pytest.fixture
def files(tmp_path):
    """(path, emotion, speaker) of three speakers with three emotions each, the audio beside them."""
    rows = []
    for speaker in "abc":
        for emotion in ("anger", "neutral", "fear"):
            path = f"audio/{speaker}_{emotion}.wav"
            tone(tmp_path / path, pitch=100 + 10 * ord(speaker) % 97 + ord(emotion[0]))
            rows.append((path, emotion, speaker))
    return rows


def csv_table(folder, rows, header="file,emotion,speaker"):
    path = folder / "table.csv"
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def speakers_of(out, folds):
    return {fold: Metadata.read(out / session(fold) / "test_meta_data.json").speakers for fold in folds}


def test_csv_root_may_be_the_table_or_the_folder(tmp_path, files):
    table = csv_table(tmp_path, files)
    first = prepare("table", table, tmp_path / "one", folds=3)
    second = prepare("table", tmp_path, tmp_path / "two", table=table, folds=3)
    assert first == second and first.root == str(tmp_path)
    assert first.labels == {"neu": 0, "ang": 1, "fear": 2}
    assert speakers_of(tmp_path / "one", first.folds) == {"fold1": ["a"], "fold2": ["b"], "fold3": ["c"]}


def test_known_names_get_s3prls_labels(tmp_path, files):
    summary = prepare("table", csv_table(tmp_path, [row for row in files if row[1] != "fear"]), tmp_path / "out")
    assert summary.labels == {"neu": 0, "ang": 1}
    assert any("3 speakers give 3 folds, not 5" in warning for warning in summary.warnings)


def test_labels_option_maps_orders_and_leaves_out(tmp_path, files):
    summary = prepare("table", csv_table(tmp_path, files), tmp_path / "out", labels="fear=afraid,neutral=neu,anger=")
    assert summary.labels == {"afraid": 0, "neu": 1} and summary.utterances == 6
    assert "other emotions left out: anger 3" in summary.notes
    with pytest.raises(UserError, match="unknown label 'fear'.*Add fear=CLASS"):
        prepare("table", csv_table(tmp_path, files), tmp_path / "out", labels="neutral=neu,anger=ang")


def test_fold_column_is_kept_and_must_be_disjoint(tmp_path, files):
    rows = [(*row, {"a": "fold2", "b": "fold2", "c": "fold7"}[row[2]]) for row in files]
    summary = prepare("table", csv_table(tmp_path, rows, "file,emotion,speaker,fold"), tmp_path / "out")
    assert speakers_of(tmp_path / "out", summary.folds) == {"fold2": ["a", "b"], "fold7": ["c"]}
    rows[0] = (*rows[0][:3], "fold7")
    with pytest.raises(UserError, match="speaker a is in more than one fold"):
        prepare("table", csv_table(tmp_path, rows, "file,emotion,speaker,fold"), tmp_path / "out")


@pytest.mark.parametrize("names, numbers, told", [
    (["1", "2", "3", "10", "11", "12"], [1, 2, 3, 10, 11, 12], ""),
    ([f"fold{number:02d}" for number in range(1, 13)], range(1, 13), ""),
    ([str(number) for number in range(12)], range(1, 13), "fold1 is '0', fold2 is '1', fold3 is '2'"),
    ([f"fold{number}" for number in range(12)], range(1, 13), "fold11 is 'fold10'"),
    (["0", "9", "10"], [1, 2, 3], "fold1 is '0', fold2 is '9', fold3 is '10'"),
    (["A9", "A10", "B9"], [1, 2, 3], "fold1 is 'A9', fold2 is 'A10', fold3 is 'B9'"),
    (["north", "south"], [1, 2], "fold1 is 'north', fold2 is 'south'"),
])
def test_a_fold_has_its_names_number_or_its_place_is_told(names, numbers, told):
    found = fold_numbers(set(names))
    assert [found[name] for name in names] == list(numbers)
    assert told in "".join(tell_numbers(found)) and bool(told) == bool(tell_numbers(found))


def test_folds_as_pandas_writes_them(tmp_path, files):
    rows = [(*row, {"a": "2.0", "b": "10.0", "c": "11.0"}[row[2]]) for row in files]
    summary = prepare("table", csv_table(tmp_path, rows, "file,emotion,speaker,fold"), tmp_path / "out")
    assert speakers_of(tmp_path / "out", summary.folds) == {"fold2": ["a"], "fold10": ["b"], "fold11": ["c"]}
    rows[0] = (*rows[0][:3], "2")  # the same fold
    prepare("table", csv_table(tmp_path, rows, "file,emotion,speaker,fold"), tmp_path / "out")
    assert speakers_of(tmp_path / "out", summary.folds) == {"fold2": ["a"], "fold10": ["b"], "fold11": ["c"]}
    rows = [(*row[:3], {"a": "0", "b": "1", "c": "2"}[row[2]]) for row in rows]
    summary = prepare("table", csv_table(tmp_path, rows, "file,emotion,speaker,fold"), tmp_path / "out")
    assert "folds are numbered by their place: fold1 is '0', fold2 is '1', fold3 is '2'" in summary.notes


@pytest.mark.parametrize("option, value", [("speaker", "(.)_"), ("columns", "file=gone"), ("folds", 2)])
def test_an_option_that_s3prls_folder_does_not_read_is_refused(tmp_path, files, option, value):
    prepare("table", csv_table(tmp_path, files), tmp_path / "s3prl", folds=3)
    with pytest.raises(UserError, match=rf"s3prl: found .*; --{option} .* would not be read. Leave --{option} out"):
        prepare("table", tmp_path, tmp_path / "out", table=tmp_path / "s3prl", **{option: value})
    if option != "folds":
        with pytest.raises(UserError, match=rf"data.json: found S3PRL's metadata.*; --{option} "):
            prepare("table", tmp_path, tmp_path / "out", table=tmp_path / "s3prl/Session1/train_meta_data.json",
                    **{option: value})


@pytest.mark.parametrize("column, of_speaker", [("fold", {"a": 1, "b": 1, "c": 2}),
                                                ("split", {"a": "train", "b": "train", "c": "test"})])
def test_a_number_of_folds_beside_folds_is_refused(tmp_path, files, column, of_speaker):
    table = csv_table(tmp_path, [(*row, of_speaker[row[2]]) for row in files], f"file,emotion,speaker,{column}")
    with pytest.raises(UserError, match=f"table.csv: found a column .*--columns {column}= .*; --folds 3 would not be"):
        prepare("table", table, tmp_path / "out", folds=3)
    assert len(prepare("table", table, tmp_path / "out", folds=3, columns=f"{column}=").folds) == 3


def test_emobox_jsonl_reads_speakers_of_known_corpora(tmp_path):
    lines = []
    for speaker in ("03", "08"):
        for letter, emotion in (("W", "anger"), ("N", "neutral")):
            path = f"downloads/emodb/wav/{speaker}a01{letter}a.wav"
            tone(tmp_path / path, pitch=100 + int(speaker) + ord(letter))
            lines.append(json.dumps({
                "key": f"emodb-{speaker}a01{letter}a", "dataset": "emodb", "wav": path, "type": "raw",
                "sample_rate": 16000, "task": "category", "length": 0.2, "emo": emotion, "channel": 1}))
    table = tmp_path / "data" / "emodb.jsonl"
    table.parent.mkdir()
    table.write_text("\n".join(lines))
    summary = prepare("table", tmp_path, tmp_path / "out", table=table, folds=2)
    assert speakers_of(tmp_path / "out", summary.folds) == {"fold1": ["03"], "fold2": ["08"]}
    table.write_text("\n".join(lines).replace('"dataset": "emodb"', '"dataset": "mine"'))
    with pytest.raises(UserError, match="line 1: no speaker of downloads.*--speaker REGEX"):
        prepare("table", tmp_path, tmp_path / "out", table=table)
    again = prepare("table", tmp_path, tmp_path / "out", table=table, folds=2, speaker=r"wav/(\d\d)")
    assert again.speakers == 2
    with pytest.raises(UserError, match="'zz\\(x\\)' finds no speaker in downloads"):
        prepare("table", tmp_path, tmp_path / "out", table=table, speaker="zz(x)")
    with pytest.raises(UserError, match="expected a regular expression with one group"):
        prepare("table", tmp_path, tmp_path / "out", table=table, speaker="wav")


def test_s3prl_json_file_and_folder_round_trip(tmp_path):
    root, out = iemocap_tree(tmp_path / "tree", sessions=3), tmp_path / "out"
    prepare("iemocap", root, out)
    prepare("table", root, tmp_path / "again", table=out)
    for path in out.glob("Session*/*.json"):
        assert (tmp_path / "again" / path.relative_to(out)).read_bytes() == path.read_bytes()
    one = prepare("table", root, tmp_path / "one", table=out / "Session1" / "train_meta_data.json", folds=2)
    assert one.labels == {"neu": 0, "hap": 1, "ang": 2, "sad": 3} and len(one.folds) == 2


@pytest.mark.parametrize("text, message", [
    ("file,speaker\na.wav,x\n",
     "line 2: no emotion; expected a column emotion or emo or label or emoclass or category, found file, sp"),
    ("file,emotion\na.wav,sad\n", "line 2: no speaker of a.wav"),
    ("file,emotion,speaker\n", "lists no files"),
    ("file,emotion,speaker\na.wav,sad,x\na.wav,sad,x\na.wav,neu,x\n", "a.wav is listed more than once"),
    ("file,emotion,speaker\na.wav,sad,x\nb.wav,sad,y\n", "1 class; expected at least two"),
    ("file,emotion,speaker\na.wav,sad,x\nb.wav,neu,y\n", "none of its 2 files exists under.*as --root"),
    ("file,emotion,speaker\nx\\a.wav,sad,x\nx\\b.wav,neu,y\n", "none of its 2 files exists under.*with / between"),
])
def test_bad_csv(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(UserError, match=message) as error:
        prepare("table", tmp_path / "t.csv", tmp_path / "out")
    assert "t.csv" in str(error.value)


def test_bad_tables(tmp_path):
    with pytest.raises(UserError, match="which table lists its files"):
        (tmp_path / "x").mkdir()
        tone(tmp_path / "x/a.wav")
        prepare("table", tmp_path / "x", tmp_path / "out")
    with pytest.raises(UserError, match="no such table"):
        prepare("table", tmp_path, tmp_path / "out", table=tmp_path / "gone.csv")
    (tmp_path / "t.jsonl").write_text("{broken\n")
    with pytest.raises(UserError, match="expected one JSON object a line"):
        prepare("table", tmp_path / "t.jsonl", tmp_path / "out")
    (tmp_path / "t.xlsx").write_text("")
    with pytest.raises(UserError, match="unknown kind of table '.xlsx'"):
        prepare("table", tmp_path / "t.xlsx", tmp_path / "out")


def test_a_missing_file_is_left_out_and_named(tmp_path, files):
    table = csv_table(tmp_path, [*files, ("audio/gone.wav", "fear", "a")])
    summary = prepare("table", table, tmp_path / "out", folds=3, allow_missing=True)
    assert summary.utterances == 9 and any("audio/gone.wav (no such file)" in text for text in summary.warnings)
