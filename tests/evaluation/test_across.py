"""Heads of one corpus on test folds of another: which head hears which list, what is refused, that it goes on."""

import dataclasses
import shutil
from types import SimpleNamespace

import pytest
from support.published import contents, reported_run
from support.recipe import start

from s3prl_dd import cli
from s3prl_dd.arms import REAL
from s3prl_dd.corpora.inventory import Known, write_inventory
from s3prl_dd.errors import UserError
from s3prl_dd.evaluation import across as module
from s3prl_dd.evaluation.across import across, table
from s3prl_dd.files import read_json, write_json
from s3prl_dd.recipe.folder import Run
from s3prl_dd.recipe.results import Results


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A finished run with checkpoints, and the lists of another corpus."""
    folder = tmp_path_factory.mktemp("runs")
    mine, other = reported_run(folder / "mine"), reported_run(folder / "other")
    for path in mine.out.glob("exp/*/run.json"):
        (path.parent / "dev-best.ckpt").write_text(path.parent.name)
    write_json(other.metadata / "corpus.json", {**read_json(other.metadata / "corpus.json"), "name": "elsewhere"})
    return mine, Run.open(other.out)


@pytest.fixture
def heard(monkeypatch):
    """S3PRL's evaluation, made up: (head's expdir, root, test fold) of each call; distilled heads lose a tenth."""
    calls = []

    def fake(checkpoint, expdir, flags, overrides, threads=1):
        said = {key.rpartition(".")[2]: value for key, value in overrides.items()}
        calls.append((checkpoint.parent.name, said["root"], said["test_fold"], expdir))
        return 0.5 - 0.1 * checkpoint.parent.name.startswith("distilled") + 0.02 * int(checkpoint.parent.name[-1])

    monkeypatch.setattr(module, "evaluate_s3prl", fake)
    return calls


def test_each_head_hears_the_other_corpus_and_its_folder_stays_as_it_is(runs, heard, tmp_path):
    mine, other = runs
    before = contents(mine.out), contents(other.out)
    found = across([mine.out], [other.out], tmp_path, ["real", "distilled_6ppc"])
    assert [call[:3] for call in heard] == [
        (name, other.corpus.root, "fold1") for name in ("real_seed0", "real_seed1", "distilled_6ppc_seed0",
                                                        "distilled_6ppc_seed1")]
    assert len({call[3] for call in heard}) == 4 and all(tmp_path in call[3].parents for call in heard)
    real, samples = found
    assert (real.source, real.target, real.folds, real.of_real) == ("gauss", "elsewhere", 1, 1)
    assert samples.uar == pytest.approx(0.41) and samples.of_real == pytest.approx(0.41 / 0.51)
    assert samples.spread == pytest.approx(0.02 / 2 ** 0.5) and samples.at_home == pytest.approx(0.7)
    assert (contents(mine.out), contents(other.out)) == before


def test_it_goes_on_with_what_was_not_heard_yet(runs, heard, tmp_path):
    mine, other = runs
    across([mine.out], [other.out], tmp_path, ["real"])
    first = len(heard)
    found = across([mine.out], [other.out], tmp_path, ["real", "distilled_full"])
    assert (first, len(heard)) == (2, 4)
    assert (tmp_path / "across.txt").read_text() == table(found) + "\n"
    kept = read_json(tmp_path / "across.json")
    assert len(kept["heads"]) == 4 and kept["values"] == [dataclasses.asdict(row) for row in found]


def test_an_upstream_of_the_users_own_is_named(runs, monkeypatch, tmp_path):
    """Else its code, which a checkpoint names, would not be run."""
    mine, other = runs
    settings = mine.settings.changed(upstream="mine.py:small")
    asked = []
    monkeypatch.setattr(module, "evaluate_s3prl", lambda checkpoint, expdir, flags, overrides: asked.append(flags))
    pair = module.Pair(SimpleNamespace(settings=settings, best=mine.best), None, other)
    module.hear(pair, REAL, 0, tmp_path, tmp_path)
    module.hear(module.Pair(mine, None, other), REAL, 0, tmp_path, tmp_path)
    assert asked[0][:2] == ["-u", "mine.py:small"] and "-u" not in asked[1]


def test_other_audio_under_the_same_names_is_heard_anew(runs, heard, tmp_path):
    mine, other = runs
    twin = tmp_path / "twin"
    shutil.copytree(other.out, twin)
    paths = [utterance.path for utterance in other.fold.test.utterances]
    for digest in ("a", "b"):
        write_inventory(twin / "metadata", {path: Known(1, digest) for path in paths})
        across([mine.out], [twin], tmp_path / "to", ["real"])
    assert [call[0] for call in heard] == 2 * ["real_seed0", "real_seed1"]
    across([mine.out], [twin], tmp_path / "to", ["real"])
    assert len(heard) == 4


def test_refused_before_anything_is_heard(runs, heard, tmp_path):
    mine, other = runs
    with pytest.raises(UserError, match="of the same corpus"):
        across([mine.out], [mine.out], tmp_path)
    classes = start(tmp_path / "classes")
    classes.metadata.mkdir(parents=True)
    for path in other.metadata.rglob("*.json"):
        text = path.read_text().replace('"neu"', '"calm"')
        (classes.metadata / path.relative_to(other.metadata)).parent.mkdir(exist_ok=True)
        (classes.metadata / path.relative_to(other.metadata)).write_text(text)
    with pytest.raises(UserError, match="classes calm.*those of .* are neu"):
        across([mine.out], [classes.out], tmp_path)
    assert not heard


def test_files_under_other_names_are_refused(runs, heard, tmp_path):
    """A part of a corpus is another one by its root; whom its heads know tells the files' content."""
    mine, other = runs
    trained, tested = mine.fold.train.utterances[0].path, other.fold.test.utterances[0].path
    for run, path in ((mine, trained), (other, tested)):
        write_inventory(run.metadata, {path: Known(3, "abc")})
    try:
        with pytest.raises(UserError, match=rf"1 of its test utterances, {tested} the first, are files that heads of"):
            across([mine.out], [other.out], tmp_path)
        write_inventory(other.metadata, {tested: Known(3, "abd")})
        across([mine.out], [other.out], tmp_path, ["real"])
        assert heard
    finally:
        for run in runs:
            (run.metadata / "files.json").unlink()


def test_a_head_that_variants_share_counts_once(runs, heard, tmp_path):
    """Both run folders have their base's real heads; another head of the same row is refused before any is heard."""
    mine, other = runs
    for number in (1, 2):
        copied = shutil.copytree(mine.out, tmp_path / f"variant{number}")
        results = Results.read(copied / "results.json")
        dataclasses.replace(results, overrides=[f"seed={number}"]).write(copied / "results.json")
    variants = [tmp_path / "variant1", tmp_path / "variant2"]
    real, *samples = across(variants, [other.out], tmp_path / "to", ["real", "distilled_6ppc"])
    assert real.folds == 1 and [row.folds for row in samples] == [1, 1]
    (tmp_path / "variant2/exp/real_seed0/dev-best.ckpt").write_text("another")
    heard.clear()
    with pytest.raises(UserError, match="real of fold1 and fold1 twice, by different heads"):
        across(variants, [other.out], tmp_path / "again", ["real"])
    assert not heard


def test_verb(runs, heard, tmp_path, capsys):
    mine, other = map(str, (runs[0].out, runs[1].out))
    assert cli.main(["compare", mine, "--across", other]) == 2 and "--to" in capsys.readouterr().err
    assert cli.main(["compare", mine, "--across", other, "--arms", "real", "--to", str(tmp_path)]) == 0
    assert "gauss > elsewhere" in capsys.readouterr().out
