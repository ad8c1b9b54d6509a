"""What the distiller is given of a run: whose utterances, which labels, and what the file will say of them."""

import pytest
import torch
from support.made_up_run import made_up_run

from s3prl_dd.features.store import FeatureStore
from s3prl_dd.pool.pool import Pool
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
    settings = run.settings.changed(overrides=("network.frames=8", "teacher=false", "lambdas.softmax_matching=0"))
    assert distill_inputs(run, settings.distiller.distill_config())[2] is None


def test_a_variant_by_overrides_alone_has_a_generator_of_its_own(run, tmp_path):
    same = Run(tmp_path / "same", run.settings.changed(budgets=(6,)), base=run)
    longer = Run(tmp_path / "longer", run.settings.changed(overrides=("network.frames=8", "steps=900")), base=run)
    assert same.generator == run.generator and longer.generator == tmp_path / "longer/generator.safetensors"
    assert longer.gan == tmp_path / "longer/gan" and longer.pool == run.pool
