"""Settings: groups and their flat form, ranges, presets, run.json of the version before."""

import json
from dataclasses import replace

import pytest
import torch

from s3prl_dd.errors import UserError
from s3prl_dd.generator.sampling import DEFAULTS
from s3prl_dd.recipe.settings import GROUPS, PRESETS, Settings, differences, with_preset

OF_0_1 = {
    "corpus": "ravdess",
    "root": "/data",
    "upstream": "moonshine",
    "upstream_ckpt": None,
    "upstream_model_config": None,
    "selection": "hidden_states",
    "layer": None,
    "normalize": False,
    "fold": "fold1",
    "device": None,
    "config": "gan_1d",
    "overrides": ["steps=5"],
    "experts": 4,
    "budgets": ["original", 6, 12],
    "seeds": 3,
    "head_steps": 1000,
    "head_batch": 32,
    "head_lrs": [0.0003, 0.001],
    "labels": "soft",
    "center": True,
    "lengths": "generator",
    "head": "superb",
    "pool_from": [],
    "base": None,
    "feature_cache": 4.0,
    "kept_states": 4.0,
    "jobs": 0,
}


def test_flat_and_back():
    settings = Settings().changed(
        corpus="ravdess", layer=3, overrides=("steps=5",), labels="hard", head_lrs=(1e-2,), jobs=3
    )
    assert (settings.corpus.corpus, settings.upstream.layer, settings.machine.jobs) == ("ravdess", 3, 3)
    assert Settings.from_flat(json.loads(json.dumps(settings.flat())), "run.json") == settings


def test_no_setting_is_in_two_groups():
    names = [name for group in GROUPS.values() for name in group.__dataclass_fields__]
    assert len(names) == len(set(names)) == len(Settings().flat()) - 1


def test_the_sampling_defaults_are_the_ones():
    assert Settings().sampling == DEFAULTS


def test_overrides_of_what_is_gone_are_read_and_not_trained_with():
    settings = Settings.from_flat({**Settings().flat(), "overrides": ["latents=0"]}, "run.json")
    assert settings.distiller.overrides == ("latents=0",)
    with pytest.raises(UserError, match="unknown key 'latents'"):
        settings.check()


def test_run_of_the_version_before():
    settings = Settings.from_flat(OF_0_1, "run.json")
    assert settings.distiller.pool_seeds == 4 and settings.heads.budgets == ("original", 6, 12)
    assert settings.heads.head_lrs == (3e-4, 1e-3) and settings.sampling == replace(DEFAULTS, center=True)


@pytest.mark.parametrize(
    "change, told",
    [
        ({"seeds": 0}, "seeds: expected greater than or equal to 1"),
        ({"head_steps": 0}, "head_steps: expected greater"),
        ({"head_lrs": []}, "head_lrs: expected 1 value"),
        ({"head_lrs": [-1]}, "head_lrs.0: expected greater than 0"),
        ({"head_lrs": [float("nan")]}, "head_lrs.0: expected a finite number"),
        ({"head_lrs": [1e-3, 1.0000001e-3]}, "two of 0.001, 0.001 print alike"),
        ({"jobs": -1}, "jobs: expected"),
        ({"feature_cache": -1}, "feature_cache: expected"),
        ({"budgets": [0]}, "budgets.0"),
        ({"budgets": ["half"]}, "budgets.0"),
        ({"labels": "firm"}, "labels: expected 'soft' or 'hard'"),
        ({"head": "tail"}, "head: expected 'superb', 'attentive' or"),
        ({"lengths": "long"}, "lengths: expected 'generator' or 'corpus'"),
        ({"corpus": "nothing"}, "corpus: expected 'demo'"),
        ({"folds": 1}, "folds: expected greater"),
        ({"pool_seeds": 0}, "pool_seeds: expected"),
        ({"tail": 1}, "unknown setting 'tail'"),
    ],
)
def test_mistakes(change, told):
    with pytest.raises(UserError) as caught:
        Settings().changed(**change)
    assert told in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change, told",
    [
        ({"overrides": ["stepz=5"]}, "unknown key 'stepz'"),
        ({"config": "gan_9d"}, "no such configuration"),
        ({"overrides": ["teacher=false", "points=0"]}, "carries no teacher"),
        ({"center": "learnt", "overrides": ["points=0"]}, "learns no points"),
        ({"overrides": ["privacy=1"], "rivals": ["gaussian"]}, "--rivals gaussian: its labels are of the pool's"),
        ({"overrides": ["teacher_folds=3"], "rivals": ["all"]}, "with teacher_folds are of another"),
        ({"center": "teaching", "labels": "hard", "overrides": ["teacher=false", "points=0"]}, "--center teaching"),
        ({"device": "tpu9"}, "no such device"),
        ({"device": "meta"}, "cuda or cpu alone"),
    ],
)
def test_what_no_stage_could_use(change, told):
    with pytest.raises(UserError, match=told):
        Settings().changed(**change).check()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there():
    with pytest.raises(UserError, match="--device cuda: torch .* sees no GPU"):
        Settings().changed(device="cuda").check()


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_settings_that_hold(preset):
    settings = with_preset(Settings(), preset)
    settings.check()
    assert set(differences(settings, Settings(), ())) == set(PRESETS[preset])
    assert with_preset(settings, None) == settings


def test_resolved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus").mkdir()
    (tmp_path / "mine.yaml").write_text("base: gan_1d.yaml\n")
    (tmp_path / "gan_1d").mkdir()
    mine = Settings().changed(config="mine.yaml", pool_from=("one",)).resolved()
    assert mine.distiller.config == str(tmp_path / "mine.yaml") and mine.flat()["pool_from"] == (str(tmp_path / "one"),)
    assert Settings().resolved().distiller.config == "gan_1d", "a folder of that name is no configuration"
    settings = Settings().changed(root="corpus", upstream_ckpt="org/model").resolved()
    assert settings.corpus.root == str(tmp_path / "corpus") and settings.upstream.upstream_ckpt == "org/model"
