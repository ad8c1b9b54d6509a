"""Every option of prepare has one documented place."""

import inspect

import pytest

from s3prl_dd.config import settings
from s3prl_dd.corpora import prepare
from s3prl_dd.corpora.options import EVERY, CorpusOptions
from s3prl_dd.corpora.prepare import CORPORA
from s3prl_dd.errors import UserError


def test_each_option_of_each_corpus_is_documented_there():
    fields = set(CorpusOptions.__dataclass_fields__)
    for corpus in CORPORA.values():
        assert set(list(inspect.signature(corpus.find).parameters)[1:]) <= fields
    assert set(EVERY) <= fields
    source = inspect.getsource(CorpusOptions)
    assert source.count('"""') == 2 * (1 + len(fields) + 1)  # the class, its fields, options()


def test_options_are_those_that_were_given():
    assert CorpusOptions().options() == {}
    assert CorpusOptions(folds=3, allow_missing=True).options() == {"folds": 3, "allow_missing": True}


def test_others_inherit_them():
    @settings
    class Mine(CorpusOptions):
        root: str | None = None

    assert Mine(root="x", max_seconds=3).options() == {"max_seconds": 3.0}


@pytest.mark.parametrize("options, told", [
    ({"folds": 1}, "folds: expected greater than or equal to 2"), ({"max_seconds": 0}, "max_seconds"),
    ({"long": "keep", "max_seconds": 3}, "long"), ({"long": "cut"}, "cut needs max_seconds"),
    ({"colums": "x"}, "no option 'colums'. It has table, columns, folds")])
def test_bad_options_are_refused_before_anything_is_read(tmp_path, options, told):
    with pytest.raises(UserError, match=told):
        prepare("table", tmp_path / "gone", tmp_path / "out", **options)
