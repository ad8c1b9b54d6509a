"""What the distiller is given of a run: whose utterances, which labels, and what the file will say of them."""

import dataclasses
import functools

import pytest
import torch
from support.made_up_run import made_up_run

from s3prl_dd.config import load_config
from s3prl_dd.corpora.metadata import Metadata
from s3prl_dd.distill.config import DistillConfig
from s3prl_dd.distill.data import hold_out_speakers
from s3prl_dd.errors import UserError
from s3prl_dd.features.store import FeatureStore
from s3prl_dd.pool.heads import pool_mean
from s3prl_dd.pool.pool import Pool, train_frame_pool
from s3prl_dd.pool.training import score_frames
from s3prl_dd.recipe import stages
from s3prl_dd.recipe.folder import Run
from s3prl_dd.recipe.settings import Settings
from s3prl_dd.recipe.stages import distill_inputs


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = made_up_run(tmp_path_factory.mktemp("run"))
    return Run(folder, Settings().changed(overrides=("network.frames=8",)))


def labels_of(part):
    return [part.labels[utterance.label] for utterance in part.utterances]


def test_training_data_are_train_and_dev_is_apart(run):
    data, _, pool = distill_inputs(run, run.settings.distiller.distill_config())
    store, fold = FeatureStore(run.features), run.fold
    train = [store[store.positions[utterance.path]] for utterance in fold.train.utterances]
    assert all(torch.equal(one, other) for one, other in zip(data.utterances, train, strict=True))
    assert data.labels.tolist() == labels_of(fold.train) and data.class_counts == fold.train.class_counts
    dev_means, dev_labels = data.dev
    expected = torch.stack([store[store.positions[utterance.path]].mean(dim=0) for utterance in fold.dev.utterances])
    assert torch.equal(dev_means, expected) and dev_labels.tolist() == labels_of(fold.dev)
    assert data.frames == 8 and pool.dev_uar == Pool.load(run.pool).dev_uar


def test_what_the_file_will_say(run):
    _, parts, _ = distill_inputs(run, run.settings.distiller.distill_config())
    fold, store = run.fold, FeatureStore(run.features)
    assert parts.labels == fold.train.labels and parts.features == store.provenance
    corpus = parts.corpus
    assert set(corpus.train_speakers) == {*fold.train.speakers, *fold.dev.speakers}
    assert corpus.test_speakers == fold.test.speakers and corpus.test_digest == fold.test.digest()
    assert not set(corpus.train_speakers) & set(corpus.test_speakers)
    assert (corpus.name, corpus.fold, corpus.synthetic) == (run.corpus.name, "fold1", run.corpus.synthetic)


def test_without_a_pool_where_none_is_needed(run):
    overrides = ("network.frames=8", "teacher=false", "points=0", "lambdas.softmax_matching=0")
    settings = run.settings.changed(overrides=overrides)
    assert distill_inputs(run, settings.distiller.distill_config())[2] is None


def test_a_variant_by_overrides_alone_has_a_generator_of_its_own(run, tmp_path):
    same = Run(tmp_path / "same", run.settings.changed(budgets=(6,)), base=run)
    longer = Run(tmp_path / "longer", run.settings.changed(overrides=("network.frames=8", "steps=900")), base=run)
    assert same.generator == run.generator and longer.generator == tmp_path / "longer/generator.safetensors"
    assert longer.gan == tmp_path / "longer/gan" and longer.pool == run.pool


def test_dev_frames_are_those_of_the_dev_means(run):
    data, _, _ = distill_inputs(run, run.settings.distiller.distill_config())
    torch.testing.assert_close(pool_mean(*data.dev_frames), data.dev[0], atol=1e-4, rtol=1e-4)


def test_speakers_can_be_held_out_for_selection(run):
    config = load_config(DistillConfig, "gan_1d", ["network.frames=8", "selection=speakers"])
    data, _, _ = distill_inputs(run, config)
    fold, store = run.fold, FeatureStore(run.features)
    both = [*fold.train.utterances, *fold.dev.utterances]
    held = hold_out_speakers(fold)
    assert set(held.train.utterances) | set(held.dev.utterances) == set(both) and held.test == fold.test
    assert not set(held.train.speakers) & set(held.dev.speakers) and set(fold.train.speakers) & set(fold.dev.speakers)
    assert len(data.labels) == len(held.train.utterances) < len(both) == len(data.labels) + len(data.dev[1])
    torch.testing.assert_close(data.dev[0], store.means(store.select(held.dev)))
    assert hold_out_speakers(fold) == held
    alone = dataclasses.replace(fold, train=Metadata(fold.train.labels, both[:1]), dev=Metadata(fold.train.labels, ()))
    with pytest.raises(UserError, match="selection: speakers: of 1 speakers, 1 held out leave a class without"):
        hold_out_speakers(alone)


def test_a_variant_that_wants_other_kinds_has_a_pool_of_its_own(run, tmp_path, monkeypatch):
    """The base's SUPERB heads as they are, and beside them those that are missing."""
    before, small = run.pool.read_bytes(), functools.partial(train_frame_pool, seeds=2, steps=3, snapshots=2)
    monkeypatch.setattr(stages, "train_frame_pool", small)
    overrides = ("network.frames=8", "softmax_kinds=[superb,cnn]")
    variant = Run(tmp_path / "variant", run.settings.changed(overrides=overrides), base=run)
    assert variant.pool == run.pool
    stages.pool(variant)
    assert variant.pool == tmp_path / "variant/pool.safetensors" and run.pool.read_bytes() == before
    pool, base = Pool.load(variant.pool), Pool.load(run.pool)
    assert pool.kinds == ["superb", "cnn"] and len(pool.of_kind("cnn")) == 4 and pool.dev_uar == base.dev_uar
    data, _, heads = distill_inputs(variant, variant.settings.distiller.distill_config())
    scored = score_frames(pool.of_kind("cnn").heads, data.dev_frames, data.dev[1])
    assert pool.of_kind("cnn").dev_uar == scored and heads.kinds == pool.kinds
    written = variant.pool.stat().st_mtime_ns
    stages.pool(variant)
    assert variant.pool.stat().st_mtime_ns == written
