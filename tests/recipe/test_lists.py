"""Lists that change under a run that has gone on: nothing made of the old ones is taken for the new."""

import dataclasses
import shutil

import pytest
from support.iemocap_tree import tone
from support.recipe import start, variant
from support.tiny_generator import tiny_generator
from support.tones import write_table

from s3prl_dd import cli
from s3prl_dd.corpora.metadata import Metadata
from s3prl_dd.errors import UserError
from s3prl_dd.recipe import lists, stages
from s3prl_dd.recipe.collect import collect


def change(run, file="test", **values):
    """Other lists of the run's fold, as another `prepare` writes them; values: of the first utterance."""
    path = run.metadata / f"Session1/{file}_meta_data.json"
    part = Metadata.read(path)
    first = dataclasses.replace(part.utterances[0], **values)
    Metadata(part.labels, (first, *part.utterances[1:])).write(path)


@pytest.fixture
def gone_on(run):
    """A run with all that its stages make."""
    tiny_generator().save(run.generator)
    for stage in (stages.extract, stages.pool, stages.distill):
        stage(run)
    return run


@pytest.mark.parametrize("file, values, told", [
    ("test", {"label": "sad"}, "labels of test"), ("test", {"speaker": "s9"}, "speakers of test"),
    ("train", {"label": "sad"}, "labels of (train|dev)"),
    ("train", {"path": "s1/new.wav"}, "utterances of (train|dev)"),
])
def test_other_lists_are_told_by_each_stage(gone_on, file, values, told):
    change(gone_on, file, **values)
    told = f"{gone_on.metadata}: the {told} in fold1 are others than those that {gone_on.out} went on from"
    for stage in (stages.real, stages.extract, stages.pool, stages.distill, stages.train, stages.report):
        with pytest.raises(UserError, match=f"{told}, .*another --out, or delete that folder"):
            stage(gone_on)
    assert not gone_on.results.exists()


def test_the_order_of_test_utterances_counts(gone_on):
    """Kept predictions are in that order."""
    path = gone_on.metadata / "Session1/test_meta_data.json"
    part = Metadata.read(path)
    part.subset(reversed(range(len(part.utterances)))).write(path)
    with pytest.raises(UserError, match="the utterances of test in fold1 are others"):
        collect(gone_on)


def test_a_run_of_before_goes_on_with_the_lists_that_it_has(run):
    change(run, label="sad")
    collect(run)  # nothing says what they were
    stages.extract(run)
    assert (run.out / lists.FILE).is_file()
    change(run, label="ang")
    with pytest.raises(UserError, match="the labels of test in fold1"):
        stages.extract(run)


def test_the_first_stage_behind_prepare_keeps_the_lists(run, monkeypatch):
    monkeypatch.setattr(stages, "train_arms", lambda run, arms: None)
    assert not lists.read_kept(run.out)
    stages.real(run)
    assert lists.read_kept(run.out) == lists.digests_of(run.fold)


def test_a_new_variant_does_not_mix_other_lists_with_its_base(gone_on, tmp_path):
    change(gone_on, label="sad")
    on_it = variant(tmp_path / "variant", gone_on, center=False)
    with pytest.raises(UserError, match=f"than those that {gone_on.out} went on from"):
        stages.real(on_it)


def test_a_variant_tells_that_its_base_was_made_anew(gone_on, tmp_path):
    on_it = variant(tmp_path / "variant", gone_on, center=False)
    stages.distill(on_it)
    (gone_on.out / lists.FILE).unlink()
    change(gone_on, label="sad")
    with pytest.raises(UserError, match=f"than those that {on_it.out} went on from"):
        stages.train(on_it)


def test_a_foreign_file_is_told(run):
    (run.out / lists.FILE).write_text("[]")
    with pytest.raises(UserError, match="lists.json: expected a file of a run's lists by digest, a JSON object, found"):
        stages.pool(run)


@pytest.mark.parametrize("made", ["exp", "features"])
def test_prepare_does_not_write_other_lists_under_a_run_that_has_gone_on(tmp_path, made, capsys):
    out, table = tmp_path / "run", write_table(tmp_path / "data")
    run = start(out, corpus="table", root=table)
    prepare = ["prepare", "table", "--root", table, "--to", str(run.metadata)]
    assert cli.main(prepare) == 0
    write_table(tmp_path / "data", swapped="a")
    assert cli.main(prepare) == 0  # nothing was made of them yet
    (out / made).mkdir()
    assert cli.main(prepare) == 0  # they are the same
    before = {path: path.read_bytes() for path in run.metadata.rglob("*.json")}
    write_table(tmp_path / "data")
    assert cli.main(prepare) == 2
    told = capsys.readouterr().err
    assert "a run has gone on with these lists, and fold1 would be another: in t" in told
    assert "Give another --to" in told
    tone(tmp_path / "data/b/neu.wav", pitch=999)
    write_table(tmp_path / "data", swapped="a")
    assert cli.main(prepare) == 2 and "b/neu.wav has another content now" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in run.metadata.rglob("*.json")} == before
    assert cli.main([*prepare[:-1], str(tmp_path / "elsewhere")]) == 0
    shutil.rmtree(run.metadata)
    assert cli.main(prepare) == 0  # there are none to compare with
