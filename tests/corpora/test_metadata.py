"""S3PRL's emotion metadata: its draw of train and dev, folds, and what is refused."""

import json

import pytest
import torch
from torch.utils.data import random_split

from s3prl_dd.corpora.metadata import (
    CorpusSummary,
    Metadata,
    Utterance,
    read_corpus,
    read_fold,
    session,
    split_train_dev,
)
from s3prl_dd.errors import UserError

LABELS = {"neu": 0, "ang": 1}


def made(*items, labels=LABELS):
    return Metadata(labels, tuple(Utterance(*item) for item in items))


@pytest.mark.parametrize("size", [5, 99, 4446])
@pytest.mark.parametrize("ratio", [0.2, 0.1])
def test_split_is_s3prl_draw(size, ratio):
    """S3PRL: torch.manual_seed(0), then random_split of int((1 - valid_ratio) * N) and the rest."""
    length = int((1 - ratio) * size)
    torch.manual_seed(0)
    train, dev = random_split(range(size), [length, size - length])
    torch.manual_seed(7)
    state = torch.get_rng_state()
    assert split_train_dev(size, ratio) == (list(train.indices), list(dev.indices))
    assert torch.equal(state, torch.get_rng_state())


def test_iemocap_sizes():
    train, dev = split_train_dev(4446)
    assert (len(train), len(dev)) == (3556, 890) and sorted(train + dev) == list(range(4446))


def test_round_trip(tmp_path):
    metadata = made(("b.wav", "ang", "s2"), ("ä/a.wav", "neu", "s1"), ("c.wav", "ang", "s1"))
    metadata.write(tmp_path / "x.json")
    assert Metadata.read(tmp_path / "x.json") == metadata
    first = json.loads((tmp_path / "x.json").read_text())["meta_data"][0]
    assert first == {"path": "b.wav", "label": "ang", "speaker": "s2"}
    assert metadata.speakers == ["s1", "s2"] and metadata.class_counts == [1, 2]
    assert metadata.subset([2, 0]).utterances == (metadata.utterances[2], metadata.utterances[0])


def test_names_that_are_alike_share_their_memory(tmp_path):
    made(*((f"{number}.wav", "neu", "s1") for number in range(3))).write(tmp_path / "x.json")
    first, *others = Metadata.read(tmp_path / "x.json").utterances
    assert all(item.label is first.label and item.speaker is first.speaker for item in others)
    assert not hasattr(first, "__dict__")


def test_class_counts_are_by_index():
    assert made(("a", "z", "s"), ("b", "z", "s"), labels={"z": 1, "a": 0}).class_counts == [0, 2]


def test_digest_is_of_the_set():
    one, two = ("a.wav", "neu", "s1"), ("b.wav", "ang", "s2")
    assert made(one, two).digest() == made(two, one).digest()
    assert made(one, two).digest() != made(one, ("b.wav", "neu", "s2")).digest()
    assert made(one, two).digest() != made(one).digest()


def write_fold(folder, train, test):
    train.write(folder / "Session2/train_meta_data.json")
    test.write(folder / "Session2/test_meta_data.json")


def test_read_fold(tmp_path):
    rest = made(*((f"{number}.wav", "neu" if number % 2 else "ang", f"s{number % 3}") for number in range(10)))
    write_fold(tmp_path, rest, made(("t.wav", "neu", "s9")))
    fold = read_fold(tmp_path, "fold2")
    train, dev = split_train_dev(10)
    assert fold.train.utterances == tuple(rest.utterances[i] for i in train) and len(fold.dev.utterances) == 2
    assert fold.dev.utterances == tuple(rest.utterances[i] for i in dev) and fold.test.speakers == ["s9"]
    assert session("fold2") == "Session2"


def test_bad_folds(tmp_path):
    one = made(("a.wav", "neu", "s1"))
    with pytest.raises(UserError, match="no such fold. Run `s3prl-dd prepare`"):
        read_fold(tmp_path, "fold2")
    write_fold(tmp_path, one, one)
    with pytest.raises(UserError, match="speaker s1 is in train and in test"):
        read_fold(tmp_path, "fold2")
    with pytest.raises(UserError, match="no such fold. Found fold2"):
        read_fold(tmp_path, "fold1")
    write_fold(tmp_path, one, made(("b.wav", "x", "s2"), labels={"x": 0}))
    with pytest.raises(UserError, match="train and test have different labels"):
        read_fold(tmp_path, "fold2")
    with pytest.raises(UserError, match="no such corpus description"):
        read_corpus(tmp_path)


@pytest.mark.parametrize("text, told", [
    ("{", "does not parse"), ("[]", "expected S3PRL's emotion metadata"), ('{"labels": {}}', "meta_data"),
    ('{"labels": {"a": 0}, "meta_data": [{"path": "x", "label": "a"}]}', "speaker"),
    ('{"labels": {"a": 0}, "meta_data": [{"path": "x", "label": "b", "speaker": "s"}]}', "label 'b' is not among"),
    ('{"labels": {"a": 0}, "meta_data": [{"path": 5, "label": "a", "speaker": "s"}]}', "found ValueError: path 5"),
    ('{"labels": {"a": 0}, "meta_data": [{"path": "x", "label": "a", "speaker": null}]}', "speaker None"),
    ('{"labels": {"a": 0}, "meta_data": [{"path": "x", "label": "a", "speaker": NaN}]}', "speaker nan"),
    ('{"labels": {"a": 0}, "meta_data": [{"path": "x", "label": "a", "speaker": " "}]}', "speaker ' '"),
    ('{"labels": {"a": 0}, "meta_data": [{"path": "%s.wav", "label": "a", "speaker": "s"}]}' % (300 * "x"),
     "which no file can have"),
    (100_000 * "[", "does not parse"),
    ('{"labels": {"a": 1}, "meta_data": []}', "class indices must be 0 .. 0"),
    ('{"labels": {"a": 0, "b": 0}, "meta_data": []}', "class indices must be 0 .. 1"),
    ('{"labels": {"a": "x"}, "meta_data": []}', "expected S3PRL's emotion metadata")])
def test_bad_metadata(tmp_path, text, told):
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(UserError) as caught:
        Metadata.read(tmp_path / "bad.json")
    assert "bad.json" in str(caught.value) and told in str(caught.value)


# corpus.json


def test_corpus_summary_round_trip(tmp_path):
    summary = CorpusSummary("tones", str(tmp_path), ("fold1", "fold2"), LABELS, hours=0.1,
                            excluded={"x.wav": "no such file"}, warnings=("one file is left out",))
    summary.write(tmp_path)
    assert read_corpus(tmp_path) == summary
    assert list(json.loads((tmp_path / "corpus.json").read_text()))[:4] == ["name", "root", "folds", "labels"]


def test_corpus_summary_of_other_versions(tmp_path):
    """All but the name may be missing, and keys of later versions are not read."""
    (tmp_path / "corpus.json").write_text('{"name": "tones", "synthetic": true, "invented_later": 1}')
    assert read_corpus(tmp_path) == CorpusSummary("tones", synthetic=True)
    assert read_corpus(tmp_path).root == "" and read_corpus(tmp_path).folds == ()


@pytest.mark.parametrize("text, told", [
    ("{", "does not parse"), ("[]", "expected a JSON object"), ('{"root": "/data"}', "name"),
    ('{"name": "x", "folds": 5}', "folds"), ('{"name": "x", "labels": {"neu": "first"}}', "labels.neu")])
def test_bad_corpus_summary(tmp_path, text, told):
    (tmp_path / "corpus.json").write_text(text)
    with pytest.raises(UserError, match="corpus.json") as error:
        read_corpus(tmp_path)
    assert told in str(error.value)
