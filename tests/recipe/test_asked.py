"""Lists that were prepared before their run: it goes on with what they were made with, or is refused."""

import json

import pytest
from support.recipe import wanted
from support.tones import write_table

from s3prl_dd import cli
from s3prl_dd.errors import UserError
from s3prl_dd.recipe import stages
from s3prl_dd.recipe.folder import Run


@pytest.fixture
def out(tmp_path):
    """The folder of a run whose lists were made of a table, with an option."""
    words = ["--root", write_table(tmp_path / "data"), "--max-seconds", "5", "--to", str(tmp_path / "run/metadata")]
    assert cli.main(["prepare", "table", *words]) == 0
    return tmp_path / "run"


def asked(tmp_path, **changes):
    return wanted(**{"corpus": "table", "root": str(tmp_path / "data/mine.csv"), "max_seconds": 5.0, **changes})


def test_what_the_lists_were_made_with_is_kept(out, tmp_path):
    kept = json.loads((out / "metadata/corpus.json").read_text())["asked"]
    assert kept == {"corpus": "table", "root": str(tmp_path / "data/mine.csv"), "max_seconds": 5.0}
    stages.prepare(Run.start(out, asked(tmp_path)))


@pytest.mark.parametrize("changes, told", [
    ({"emotions": "hap="}, "no --emotions, now --emotions hap= is asked for"),
    ({"max_seconds": 4.0}, r"--max-seconds 5.0, now --max-seconds 4.0"),
    ({"max_seconds": None}, r"--max-seconds 5.0, now no --max-seconds"),
    ({"folds": 3}, "no --folds, now --folds 3"), ({"corpus": "iemocap"}, "--corpus table, now --corpus iemocap"),
])
def test_other_options_are_refused(out, tmp_path, changes, told):
    with pytest.raises(UserError, match=f"corpus.json: these lists were made with {told}.*Take another --out, or ask"):
        Run.start(out, asked(tmp_path, **changes))
    assert not (out / "run.json").exists()


def test_another_root_is_another_corpus_unless_it_has_moved(out, tmp_path):
    write_table(tmp_path / "other", swapped="a")
    (tmp_path / "other/a/neu.wav").write_bytes(b"another")
    with pytest.raises(UserError, match="other: not the corpus that .*corpus.json describes"):
        Run.start(out, asked(tmp_path, root=str(tmp_path / "other/mine.csv")))
    (tmp_path / "data").rename(tmp_path / "new")
    run = Run.start(out, asked(tmp_path, root=str(tmp_path / "new/mine.csv")))
    assert run.corpus.root == str(tmp_path / "new")


def test_a_run_without_flags_takes_the_lists_as_they_are_and_says_so(out, tmp_path):
    corpus = Run.defaults(out, None, "quick").corpus
    assert (corpus.corpus, corpus.root, corpus.max_seconds) == ("table", str(tmp_path / "data/mine.csv"), 5.0)
    assert cli.run_defaults(["--out", str(out)]).settings.corpus == corpus


def test_a_table_that_was_edited_is_told(out, tmp_path):
    write_table(tmp_path / "data", swapped="a")
    with pytest.raises(UserError, match="mine.csv: it was edited since .*metadata was made of it. Take another --out"):
        Run.start(out, asked(tmp_path))
    write_table(tmp_path / "data")
    Run.start(out, asked(tmp_path))


def test_files_of_before_are_not_compared(out, tmp_path):
    path = out / "metadata/corpus.json"
    kept = json.loads(path.read_text())
    del kept["asked"]
    path.write_text(json.dumps(kept))
    Run.start(out, asked(tmp_path, emotions="hap=", root=str(tmp_path)))
    assert Run.defaults(out, None, None) == Run.defaults(tmp_path / "nowhere", None, None)


def test_a_setting_that_is_not_known_is_told(out):
    path = out / "metadata/corpus.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "asked": {"corpora": "table"}}))
    with pytest.raises(UserError, match="corpus.json: unknown setting 'corpora'"):
        Run.defaults(out, None, None)
