"""A run's folder: what is kept, what may change, what a run on a base takes from where."""

import json

import pytest
from support.recipe import keep_score, start, variant, wanted

from s3prl_dd import cli
from s3prl_dd.arms import REAL, Arm
from s3prl_dd.errors import UserError
from s3prl_dd.recipe.folder import Run
from s3prl_dd.recipe.settings import Settings

FULL, FEW = Arm.parse("distilled_full"), Arm.parse("random_real_6ppc")


def test_settings_are_kept(tmp_path):
    first = start(tmp_path, corpus="ravdess", root=str(tmp_path), pool_seeds=3, overrides=("steps=5",))
    assert json.loads((tmp_path / "run.json").read_text())["overrides"] == ["steps=5"]
    assert Run.open(tmp_path).settings == Run.defaults(tmp_path, None, None) == first.settings


def test_what_is_kept_is_not_written_again(tmp_path):
    """The disk may be read-only by now."""
    start(tmp_path, overrides=("steps=5",))
    before = (tmp_path / "run.json").stat().st_ino
    Run.start(tmp_path, Run.defaults(tmp_path, None, None)).keep()
    assert (tmp_path / "run.json").stat().st_ino == before
    start(tmp_path, overrides=("steps=5",), seeds=3)
    assert (tmp_path / "run.json").stat().st_ino != before


def test_starting_writes_nothing(tmp_path):
    Run.start(tmp_path / "new", wanted())
    assert not (tmp_path / "new").exists()


def test_a_second_process_is_refused(tmp_path, capsys):
    """Before it does anything; and no longer, when the first has ended."""
    start(tmp_path)
    with Run.open(tmp_path).held():
        for words in (["run", "--out", str(tmp_path)], ["pool", "--out", str(tmp_path)]):
            assert cli.main(words) == 2
            assert "another process is working on this run" in capsys.readouterr().err
    with Run.open(tmp_path).held():
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.json"]


def test_a_run_of_which_nothing_came_leaves_no_folder(tmp_path):
    with Run.start(tmp_path / "new", wanted()).held():
        assert (tmp_path / "new").is_dir()
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"corpus": "emodb"},
        {"upstream": "hubert"},
        {"fold": "fold2"},
        {"pool_seeds": 4},
        {"overrides": ("steps=6",)},
        {"normalize": True},
        {"head_lrs": (1e-2,)},
        {"labels": "soft"},
        {"layer": 3},
        {"resample": True},
        {"speaker": "(a)"},
    ],
)
def test_changed_settings_are_refused(tmp_path, change):
    start(tmp_path, corpus="ravdess")
    before = (tmp_path / "run.json").read_text()
    ((key, _),) = change.items()
    with pytest.raises(UserError, match=f"this run's {key} is .* is asked for. Take another --out"):
        Run.start(tmp_path, wanted(**{"corpus": "ravdess", **change}))
    assert (tmp_path / "run.json").read_text() == before


def test_settings_that_may_change(tmp_path):
    start(tmp_path)
    changed = start(tmp_path, jobs=3, budgets=(6, 12), seeds=5, feature_cache=1.0).settings
    assert Run.open(tmp_path).settings == changed and changed.heads.seeds == 5 and changed.machine.jobs == 3


def test_no_run(tmp_path):
    with pytest.raises(UserError, match="run.json: not there yet. Run `s3prl-dd run` first"):
        Run.open(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_each_head_takes_the_learning_rate_that_is_best_on_dev(run):
    """By dev, though test is worse; of equals the first."""
    folder = keep_score(run.out, "real", 0, 0.1, 0.95, 1e-2, "_lr0.01")
    keep_score(run.out, "real", 1, 0.1, 0.9, 1e-2, "_lr0.01")
    scores = {score.seed: score for score in run.scores() if score.arm == "real"}
    assert (scores[0].uar, scores[0].lr, scores[1].uar, scores[1].lr) == (0.1, 1e-2, 0.84, 1e-3)
    (folder / "dev-best.ckpt").write_bytes(b"x")
    (run.out / "exp/real_seed0/dev-best.ckpt").write_bytes(b"x")
    assert (
        run.best(REAL, 0) == folder / "dev-best.ckpt"
    )  # the extraction's layer weights are those of the head that dev prefers
    with pytest.raises(UserError, match="real_seed1/dev-best.ckpt: not there yet. Run `s3prl-dd real` first"):
        run.best(REAL, 1)


def test_expdirs(run):
    heads = Run(run.out, run.settings.changed(head_lrs=(1e-3, 1e-2)))
    assert heads.expdir(REAL, 0, 1e-3) == run.out / "exp/real_seed0"
    assert heads.expdir(REAL, 0, 1e-2) == run.out / "exp/real_seed0_lr0.01"
    assert heads.expdir(FEW, 2, 1e-2) == run.out / "exp/random_real_6ppc_seed2_lr0.01"


def test_a_run_on_a_base_takes_all_but_its_generator_from_there(run, tmp_path):
    other = variant(tmp_path / "variant", run, config="ablation_sml", center=False)
    assert (other.settings.upstream, other.settings.corpus) == (run.settings.upstream, run.settings.corpus)
    assert (other.metadata, other.features, other.pool) == (run.metadata, run.features, run.pool)
    assert other.expdir(REAL, 1, 1e-3) == run.expdir(REAL, 1, 1e-3)
    assert other.expdir(FULL, 1, 1e-3) == tmp_path / "variant/exp/distilled_full_seed1"
    keep_score(other.out, "distilled_full", 0, 0.3)
    of_arm = {(score.arm, score.seed): score.uar for score in other.scores()}
    assert set(arm for arm, _ in of_arm) == {"real", "random_real_6ppc", "random_real_100ppc", "distilled_full"}
    assert (
        of_arm["distilled_full", 0] == 0.3 and ("distilled_full", 1) not in of_arm
    )  # the base's samples are not its own
    third = variant(tmp_path / "third", other)  # all as it is there, but in a folder of its own
    assert third.settings == variant(tmp_path / "third", other).settings  # the same again
    assert third.settings.base == str(other.out) and third.settings.distiller.config == "ablation_sml"
    with pytest.raises(UserError, match="--upstream fbank: --base .* was made with made"):
        variant(tmp_path / "fourth", run, upstream="fbank")
    with pytest.raises(UserError, match="run.json: not there yet"):
        Run.defaults(tmp_path / "fifth", str(tmp_path / "nothing"), None)


def test_what_a_variant_takes_from_which_base(run, tmp_path):
    """The generator from the first of the same configuration, heads on real data from the first with the same head."""
    sml = variant(tmp_path / "sml", run, config="ablation_sml")
    hard = variant(tmp_path / "hard", sml, center=False)
    attentive = variant(tmp_path / "attentive", run, head="attentive", lengths="corpus")
    both = variant(tmp_path / "both", attentive, config="ablation_both")
    runs = (sml, hard, attentive, both)
    assert [each.generator for each in runs] == [
        sml.out / "generator.safetensors",
        sml.out / "generator.safetensors",
        run.generator,
        both.out / "generator.safetensors",
    ]
    assert sml.gan == hard.gan == sml.out / "gan" and attentive.gan == run.gan
    assert [each.exp(REAL) for each in runs] == [
        run.out / "exp",
        run.out / "exp",
        attentive.out / "exp",
        attentive.out / "exp",
    ]
    assert all(each.exp(FULL) == each.out / "exp" and each.pool == run.pool for each in runs)


def test_a_base_that_is_gone_is_told(run, tmp_path):
    sml = variant(tmp_path / "sml", run, config="ablation_sml")
    variant(tmp_path / "hard", sml, center=False)
    sml.out.rename(tmp_path / "moved")
    with pytest.raises(UserError, match="sml/run.json: not there yet"):
        Run.open(tmp_path / "hard")


def test_runs_that_are_each_others_base(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    for folder, base in ((one, other), (other, one)):
        folder.mkdir()
        (folder / "run.json").write_text(json.dumps({**Settings().flat(), "base": str(base)}))
    with pytest.raises(UserError, match="is its own --base"):
        Run.open(one)
    with pytest.raises(UserError, match="alone/run.json: not there yet"):
        Run.start(tmp_path / "alone", wanted(base=str(tmp_path / "alone")))


def test_a_damaged_run_is_told(tmp_path):
    (tmp_path / "run.json").write_text('{"seeds": "many"}')
    with pytest.raises(UserError, match="run.json: seeds: expected a valid integer"):
        Run.open(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(UserError, match="run.json: expected a run description in JSON"):
        Run.open(tmp_path)
