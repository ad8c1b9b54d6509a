"""Rivals in the recipe: which files are made of what, what S3PRL's runner is told of them, and the teacher's score."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import get_args

import pytest
import torch
from support.recipe import keep_score, variant

from s3prl_dd.arms import KINDS, REAL, RIVALS, TEACHER, Arm, RivalName, Source
from s3prl_dd.distill.data import TrainingData
from s3prl_dd.features.store import FeatureStore
from s3prl_dd.files import file_digest
from s3prl_dd.generator import Generator
from s3prl_dd.plugin.placeholder import Recording
from s3prl_dd.plugin.states import state_key
from s3prl_dd.plugin.store import StateStore
from s3prl_dd.pool.pool import Pool
from s3prl_dd.recipe import rivals, stages
from s3prl_dd.recipe.folder import Run
from s3prl_dd.recipe.settings import RivalSettings
from s3prl_dd.recipe.training import Job, as_downstream, lacking
from s3prl_dd.rivals import make
from s3prl_dd.rivals.subsets import random_subset

MADE = [source for source in RIVALS if KINDS[source].file]


@pytest.fixture
def trained(run, monkeypatch):
    """Jobs that S3PRL's runner would have trained; the runner and the upstream are left away."""
    jobs = []
    monkeypatch.setattr(stages, "train_arms", lambda run, arms: jobs.extend(lacking(run, arms)))
    monkeypatch.setattr(stages, "_fill_means", lambda run: None)
    monkeypatch.setattr(stages, "score_teacher", lambda run: jobs.append("teacher"))
    monkeypatch.setattr(make, "LEARNING", make.Learning(steps=2))
    return jobs


def asked(run, **changes):
    return Run(run.out, run.settings.changed(**changes))


def datarc(run, arm, seed=0):
    start = "config.downstream_expert.datarc."
    told = as_downstream(run, Job(Arm.parse(arm), seed, 1e-3))
    return told.name, {key.removeprefix(start): value for key, value in told.overrides.items() if key.startswith(start)}


def test_every_rival_is_trained_where_it_is_asked_for(run, trained):
    stages.train(asked(run, rivals=("all",), budgets=(6,), seeds=1))
    arms = {job.arm.source for job in trained if job != "teacher"}
    assert trained[0] == "teacher" and arms == set(MADE)  # random real subsets and GAN samples are there already
    stages.train(asked(run, rivals=("herding",), budgets=(7,), seeds=1))
    assert {job.arm.name for job in trained[-2:]} == {"distilled_7ppc", "herding_7ppc"}


def test_rivals_may_have_fewer_seeds(run, trained):
    fewer = asked(run, rivals=("herding",), rival_seeds=1, budgets=(7,), seeds=3)
    stages.train(fewer)
    seeds = {name: {job.seed for job in trained if job.arm.name == name} for name in ("distilled_7ppc", "herding_7ppc")}
    assert seeds == {"distilled_7ppc": {0, 1, 2}, "herding_7ppc": {0}}
    assert fewer.settings.seeds_of(REAL) == 3 and asked(run, seeds=3).settings.seeds_of(Arm.parse("herding_7ppc")) == 3


def test_files_are_made_once_for_what_is_lacking(run, trained):
    for seed in range(2):
        keep_score(run.out, "herding_6ppc", seed, 0.5)
    wanted = asked(run, rivals=("herding", "random_real_soft", "gaussian"), budgets=(6,))
    stages.train(wanted)
    names = {path.name for path in run.rivals.glob("*.safetensors")}
    assert names == {"gaussian.safetensors", *(f"random_real_soft_{size}_seed{seed}.safetensors"
                                               for size in ("6ppc", "original") for seed in range(2))}
    before = {path: file_digest(path) for path in run.rivals.glob("*.safetensors")}
    stages.train(wanted)
    assert {path: file_digest(path) for path in run.rivals.glob("*.safetensors")} == before


def test_a_file_is_of_train_of_its_budget_and_of_its_seed(run, trained):
    stages.train(asked(run, rivals=("random_real_soft",), rival_frames=5, budgets=(4,)))
    data = TrainingData.from_store(FeatureStore(run.features), run.fold, "resample", 5)
    for seed in range(2):
        generator = Generator.load(rivals.rival_file(run, Arm.parse("random_real_soft_4ppc"), seed))
        chosen = random_subset(data.labels, [4, 4, 4], seed)
        drawn = generator.sample(4, center=False).features
        torch.testing.assert_close(drawn, data.source.values[chosen] * data.std + data.mean)
    assert generator.header.corpus.fold == "fold1" and generator.header.network.points == [4, 4, 4]


@pytest.mark.parametrize("arm, seed, file, labels, center", [
    ("random_real_soft_6ppc", 1, "random_real_soft_6ppc_seed1", "soft", False),
    ("random_real_centred_6ppc", 0, "random_real_centred_6ppc_seed0", "soft", "auto"),
    ("gradient_matching_6ppc", 2, "gradient_matching_6ppc_seed2", "hard", False),
    ("herding_centred_6ppc", 0, "herding_centred_6ppc_seed0", "hard", "auto"),
    ("gaussian_frames_6ppc", 2, "gaussian_frames", "hard", "auto")])
def test_what_s3prl_is_told_of_a_rival(arm, seed, file, labels, center, run):
    """Its own file, its own labels and centring where its name says so; else the run's."""
    name, told = datarc(run, arm, seed)
    assert name == "distilled_emotion" and told["generator"] == str(run.rivals / f"{file}.safetensors")
    assert (told["labels"], told["center"], told["budget"]) == (labels, center, 6)
    shared = ("root", "meta_data", "test_fold", "train_batch_size", "eval_batch_size", "select_by", "lengths")
    _, generated = datarc(run, "distilled_6ppc", seed)
    assert {key: told[key] for key in shared} == {key: generated[key] for key in shared}
    other = Run(run.out, replace(run.settings, sampling=replace(run.settings.sampling, labels="soft", center=False)))
    fixed = KINDS[Arm.parse(arm).source]
    _, changed = datarc(other, arm, seed)
    assert changed["labels"] == "soft" and changed["center"] == bool(fixed.center)


def test_a_list_is_asked_for_no_more_than_it_holds(run):
    counts = run.fold.train.class_counts
    _, told = datarc(run, "herding_100ppc")
    assert told["budget"] == {"counts": counts} and max(counts) < 100
    assert datarc(run, "gaussian_100ppc")[1]["budget"] == 100
    assert datarc(run, "random_real_soft_original")[1]["budget"] == "original"


def test_rivals_of_a_base_serve_a_variant_that_draws_alike(run, tmp_path):
    keep_score(run.out, "gaussian_6ppc", 0, 0.5)
    other = variant(tmp_path / "other", run, config="ablation_sml")
    uncentred = variant(tmp_path / "uncentred", run, center=False)
    found = [[score.arm for score in each.scores() if score.arm.startswith("gaussian")] for each in (other, uncentred)]
    assert found == [["gaussian_6ppc"], []]
    gaussian = Arm.parse("gaussian_6ppc")
    assert other.expdir(gaussian, 0, 1e-3) == run.out / "exp/gaussian_6ppc_seed0"
    assert other.expdir(gaussian, 1, 1e-3) == other.out / "exp/gaussian_6ppc_seed1"  # nothing is written into a base
    assert other.rivals == other.out / "rivals"


# the teacher alone


@pytest.fixture
def heard(run, monkeypatch):
    """The run's states in its store, two layers that differ; layer weights are .25 and .75."""
    monkeypatch.setattr(rivals, "describe", lambda spec, kind: "made")
    store, features = StateStore(run.means, 1e9), FeatureStore(run.features)
    for part in (run.fold.dev, run.fold.test):
        for item in part.utterances:
            path = Path(run.corpus.root) / item.path
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"x")
            mean = features[features.positions[item.id]].mean(dim=0)
            key = state_key("made", Recording.of(run.corpus.root, asdict(item)))
            store.write(key, torch.stack([mean - 3, mean + 1])[:, None])  # [L, 1, D]
    store.close()
    return run


def test_the_teacher_alone_is_scored_on_real_test_speech(heard):
    rivals.score_teacher(heard)
    kept = json.loads((heard.out / "exp/teacher_seed0/run.json").read_text())
    features, heads = FeatureStore(heard.features), Pool.load(heard.pool).teacher().linear()
    for part, uar in ((heard.fold.test, kept["uar"]), (heard.fold.dev, kept["dev_uar"])):
        means = features.means(features.select(part))
        predicted = heads.of_means(means).softmax(dim=-1).mean(dim=0).argmax(dim=-1)
        truth = torch.tensor([part.labels[item.label] for item in part.utterances])
        recalls = [(predicted[truth == label] == label).float().mean().item() for label in range(3)]
        assert uar == pytest.approx(sum(recalls) / 3)
    assert len(kept["predicted"]) == len(heard.fold.test.utterances) and kept["arm"] == "teacher"
    score = next(score for score in heard.scores() if score.arm == TEACHER.name)
    assert score.lr is None and stages.report(heard).arms["teacher"].points == 0


def test_layers_are_weighted_as_the_features(heard):
    features = FeatureStore(heard.features)
    expected = features.means(features.select(heard.fold.test))
    torch.testing.assert_close(rivals.utterance_means(heard, heard.fold.test), expected, atol=1e-4, rtol=0)


def test_what_no_store_holds_is_heard(heard, monkeypatch):
    class Deaf:
        def __init__(self, spec, device, weights):
            assert weights == [0.25, 0.75]

        def encode(self, waves):
            return [torch.full((3, 10), 7.0)]

    monkeypatch.setattr(rivals, "Encoder", Deaf)
    monkeypatch.setattr(Recording, "load", lambda self: torch.zeros(4).numpy())
    monkeypatch.setattr(rivals, "describe", lambda spec, kind: "other")
    assert rivals.utterance_means(heard, heard.fold.test)[0].tolist() == [7.0] * 10


def test_names_of_rivals_are_arms():
    assert sorted(get_args(RivalName)) == sorted(["all", *RIVALS])
    assert RivalSettings().sources() == [Source.RANDOM_REAL]
    assert RivalSettings(rivals=("all",)).sources() == list(RIVALS)
    assert {kind.file for kind in KINDS.values()} - {None} == set(get_args(make.Name))
