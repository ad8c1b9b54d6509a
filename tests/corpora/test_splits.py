"""Splits that a corpus comes with are used as they are, with dev as given."""

import json

import pytest
from support.iemocap_tree import iemocap_tree, lists, tone

from s3prl_dd.corpora import prepare
from s3prl_dd.corpora.metadata import Metadata, given_dev, read_corpus, read_fold
from s3prl_dd.corpora.splits import part_named
from s3prl_dd.errors import UserError


def split_table(folder, speakers, header="file,emotion,speaker,split"):
    """A CSV of two files for each (speaker, split); returns its path."""
    rows = [header]
    for place, (speaker, split) in enumerate(speakers):
        for emotion in ("neu", "sad"):
            path = f"{speaker}_{place}_{emotion}.wav"
            tone(folder / path, pitch=100 + 20 * place + len(rows))
            rows.append(f"{path},{emotion},{speaker},{split}")
    (folder / "t.csv").write_text("\n".join(rows))
    return folder / "t.csv"


OWN = [("a", "Train"), ("b", "Train"), ("c", "Development"), ("d", "Test1"), ("e", "test2")]


@pytest.mark.parametrize("name, part", [
    ("train", "train"), ("Training", "train"), ("dev", "dev"), ("Development", "dev"), ("val", "dev"),
    ("VALID", "dev"), ("validation", "dev"), ("test", "test"), ("Test1", "test"), ("test_2", "test"),
    ("fold1", None), ("3", None), ("unseen", None)])
def test_names_of_parts(name, part):
    assert part_named(name) == part


@pytest.mark.parametrize("column", ["split", "Split_Set", "partition", "set", "fold"])
def test_one_fold_with_dev_and_test_as_given(tmp_path, column):
    table = split_table(tmp_path, OWN, f"file,emotion,speaker,{column}")
    summary = prepare("table", table, tmp_path / "out")
    fold = read_fold(tmp_path / "out", "fold1")
    assert summary.folds == ("fold1",) and not summary.shared_speakers
    assert [part.speakers for part in (fold.train, fold.dev, fold.test)] == [["a", "b"], ["c"], ["d", "e"]]
    train, test = lists(tmp_path / "out", "fold1")
    assert train == fold.train and test == fold.test  # S3PRL's own files
    assert given_dev(tmp_path / "out/Session1") == fold.dev
    assert any("Train 4, Development 2, Test1 2, test2 2" in note for note in summary.notes)
    assert "Test1 and test2 are one test list" in summary.notes


def test_without_a_dev_list_s3prl_draws_it(tmp_path, capsys):
    out = tmp_path / "out"
    prepare("table", split_table(tmp_path, OWN), out)
    assert "dev" in capsys.readouterr().out
    (tmp_path / "t.csv").write_text((tmp_path / "t.csv").read_text().replace("Development", "train"))
    summary = prepare("table", tmp_path / "t.csv", out)
    assert given_dev(out / "Session1") is None  # that of before is gone
    assert any("S3PRL draws dev" in note for note in summary.notes)
    fold = read_fold(out, "fold1")
    assert (len(fold.train.utterances), len(fold.dev.utterances)) == (4, 2)


def test_shared_speakers_are_told_and_refused_unless_allowed(tmp_path):
    table, out = split_table(tmp_path, [*OWN, ("a", "test")]), tmp_path / "out"
    with pytest.raises(UserError, match="1 speakers are in more than one of fold1's.*: a. .*--allow-shared-speakers"):
        prepare("table", table, out)
    assert not out.exists()
    summary = prepare("table", table, out, allow_shared_speakers=True)
    assert summary.shared_speakers and any("more than one of fold1's" in text for text in summary.warnings)
    assert "a" in read_fold(out, "fold1").test.speakers  # the folder says that it is allowed
    data = json.loads((out / "corpus.json").read_text())
    (out / "corpus.json").write_text(json.dumps({**data, "shared_speakers": False}))
    with pytest.raises(UserError, match="speaker a is in train and in test"):
        read_fold(out, "fold1")


def test_speakers_shared_by_train_and_dev_are_refused_too(tmp_path):
    with pytest.raises(UserError, match="more than one of fold1's"):
        prepare("table", split_table(tmp_path, [*OWN, ("a", "dev")]), tmp_path / "out")


@pytest.mark.parametrize("speakers, told", [
    ([("a", "train"), ("b", "dev")], "its splits are dev, train; expected test among them"),
    ([("a", "train"), ("b", "test"), ("c", "unseen")], "split 'unseen'; expected train, dev"),
    ([("a", "train"), ("b", "test"), ("c", "")], "line 6: no split, other lines have one")])
def test_bad_splits(tmp_path, speakers, told):
    with pytest.raises(UserError, match=told):
        prepare("table", split_table(tmp_path, speakers), tmp_path / "out")


def test_folds_and_splits_in_one_table_are_refused_until_one_is_left_out(tmp_path):
    table = split_table(tmp_path, OWN)
    rows = table.read_text().splitlines()
    table.write_text("\n".join([rows[0] + ",fold", *(f"{row},{1 + place % 2}" for place, row in enumerate(rows[1:]))]))
    with pytest.raises(UserError, match="folds and splits.*--columns fold="):
        prepare("table", table, tmp_path / "out")
    assert prepare("table", table, tmp_path / "out", columns="fold=").folds == ("fold1",)
    table.write_text("\n".join([rows[0] + ",fold", *(f"{row},{row[0]}" for row in rows[1:])]))
    assert len(prepare("table", table, tmp_path / "out", columns="split=").folds) == 5


def test_a_metadata_folder_with_dev_lists_is_a_table(tmp_path):
    prepare("table", split_table(tmp_path, OWN), tmp_path / "out")
    prepare("table", tmp_path, tmp_path / "again", table=tmp_path / "out")
    for path in (tmp_path / "out/Session1").iterdir():
        assert (tmp_path / "again/Session1" / path.name).read_bytes() == path.read_bytes()
    with pytest.raises(UserError, match="out: found lists of train, dev and test; --folds 3 would not be read"):
        prepare("table", tmp_path, tmp_path / "again", table=tmp_path / "out", folds=3)
    renamed = prepare("table", tmp_path, tmp_path / "renamed", table=tmp_path / "out", emotions="sad=low,neu=even")
    assert renamed.labels == {"low": 0, "even": 1}
    assert Metadata.read(tmp_path / "renamed/Session1/dev_meta_data.json").class_counts == [1, 1]


def test_folds_without_lists_of_their_own_stay_folds(tmp_path):
    out = tmp_path / "out"
    prepare("iemocap", iemocap_tree(tmp_path / "tree", sessions=2), out)
    summary = prepare("table", tmp_path / "tree", tmp_path / "again", table=out)
    assert not any("own" in note for note in summary.notes) and not list(tmp_path.glob("again/*/dev_*"))
    assert read_corpus(tmp_path / "again").folds == ("fold1", "fold2")
