"""Stages: what is there is left alone, what is missing is named, what one writes the next reads."""

import dataclasses
import logging
import threading
import time

import pytest
import torch
from support.gauss import LABELS
from support.recipe import start, variant
from support.tiny_generator import tiny_generator

from s3prl_dd.arms import REAL
from s3prl_dd.corpora.metadata import Metadata, Utterance
from s3prl_dd.errors import UserError
from s3prl_dd.features.store import FeatureStore
from s3prl_dd.pool.pool import Pool
from s3prl_dd.recipe import stages
from s3prl_dd.recipe.folder import Run, need


def test_the_way_of_the_data():
    assert list(stages.STAGES) == ["prepare", "real", "extract", "pool", "distill", "train", "report"]
    assert all(stage.__doc__ and "\n" not in stage.__doc__ for stage in stages.STAGES.values())


def test_missing_stage_is_named(tmp_path):
    with pytest.raises(UserError, match="pool.safetensors: not there yet. Run `s3prl-dd pool` first"):
        need(tmp_path / "pool.safetensors", "pool")
    run = start(tmp_path / "new")
    with pytest.raises(UserError, match="generator.safetensors: not there yet. Run `s3prl-dd distill` first"):
        stages.train(run)
    with pytest.raises(UserError, match="s3prl-dd prepare"):
        stages.extract(run)


def test_finished_files_are_left_alone(run, caplog):
    tiny_generator().save(run.generator)
    before = {path: path.read_bytes() for path in (run.pool, run.generator, run.features / "features.bin")}
    with caplog.at_level(logging.INFO, logger="s3prl_dd"):
        for stage in (stages.prepare, stages.extract, stages.pool, stages.distill):
            stage(run)
    for told in ("metadata is there", "features are there", "pool is there", "generator is there"):
        assert told in caplog.text
    assert before == {path: path.read_bytes() for path in before}


def test_variants_that_start_together_make_their_base_a_generator_once(run, tmp_path, monkeypatch):
    """And those that come second take what the first has made."""
    run.generator.unlink(missing_ok=True)
    variants = [variant(tmp_path / "a", run, labels="hard"), variant(tmp_path / "b", run, head="cnn")]
    made = []

    def distilled(asked, progress):
        if not asked.generator.is_file():
            time.sleep(0.3)
            made.append(asked.out.name)
            tiny_generator().save(asked.generator)

    monkeypatch.setattr(stages, "_distill", distilled)
    threads = [threading.Thread(target=stages.distill, args=[asked]) for asked in variants]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {asked.generator for asked in variants} == {run.generator} and len(made) == 1


def test_a_generator_that_is_there_is_not_waited_for(run, tmp_path):
    tiny_generator().save(run.generator)
    with run.held():
        stages.distill(variant(tmp_path / "a", run, labels="hard"))


def test_a_configuration_that_was_edited_is_told(tmp_path):
    """The generator that is there was made of the file as it was."""
    file = tmp_path / "mine.yaml"
    file.write_text("framing: resample\nseed: 0\n")
    run = start(tmp_path / "run", config=str(file), labels="hard")
    generator = tiny_generator()
    generator.header = dataclasses.replace(generator.header, training={"step": 100, "seed": 0, "framing": "resample"})
    generator.save(run.generator)
    stages.distill(run)
    file.write_text("framing: crop\nseed: 0\n")
    with pytest.raises(UserError, match=r"mine.yaml: framing changed since .*generator.safetensors was made of it"):
        stages.distill(run)


def test_a_shipped_configuration_that_another_version_changed_is_told(tmp_path, caplog):
    """The generator is as it was made; a run is not lost by an update."""
    run = start(tmp_path / "run", labels="hard", config="gan_1d")
    generator = tiny_generator()
    made_by = {"network": {"architecture": "gan_1d"}, "points": 50}
    generator.header = dataclasses.replace(generator.header, training=made_by)
    generator.save(run.generator)
    before = run.generator.read_bytes()
    with caplog.at_level("WARNING"):
        stages.distill(run)
    assert "gan_1d: network changed since" in caplog.text and "taken as it is" in caplog.text
    assert run.generator.read_bytes() == before


def test_a_setting_that_is_new_was_not_edited(tmp_path):
    """Files of versions before say nothing of it, which is its default."""
    file = tmp_path / "mine.yaml"
    file.write_text("network: {channels: 8}\n")
    run = start(tmp_path / "run", config=str(file), labels="hard")
    generator = tiny_generator()
    before = {"network": {"channels": 8}, "lambdas": {"mmd": 0}}
    generator.header = dataclasses.replace(generator.header, training=before)
    generator.save(run.generator)
    stages.distill(run)
    file.write_text("network: {channels: 8, movement: any}\n")
    with pytest.raises(UserError, match="mine.yaml: network changed since"):
        stages.distill(run)


@pytest.mark.parametrize("changes, heard", [({}, True), ({"head": "attentive"}, False), ({"normalize": True}, False),
                                            ({"feature_cache": 0.0}, False)])
def test_recordings_are_heard_before_heads_that_read_means(changes, heard, run, monkeypatch):
    """Those of train, dev and test, into the folder that S3PRL's runs are told; not again for trained heads."""
    asked = []
    monkeypatch.setattr(stages, "train_arms", lambda run, arms: None)
    monkeypatch.setattr(stages, "fill", lambda *wanted: asked.append(wanted) or 0)
    stages.real(run)
    assert not asked
    stages.real(Run(run.out, run.settings.changed(seeds=9, **changes)))
    assert bool(asked) is heard
    fold = run.fold
    for spec, recordings, store, device, _ in asked:
        listed = [item.path for part in (fold.train, fold.dev, fold.test) for item in part.utterances]
        assert spec == run.settings.upstream and device == "cpu" and store.folder == run.means
        assert sorted(item.path for item in recordings) == sorted(f"{run.corpus.root}/{path}" for path in listed)


def test_states_wait_from_real_heads_to_the_extraction(run, monkeypatch, tmp_path):
    asked = []
    again = Run(run.out, run.settings.changed(seeds=9))
    again.features, again.states = tmp_path / "features", tmp_path / "states"
    monkeypatch.setattr(stages, "train_arms", lambda run, arms: None)
    monkeypatch.setattr(stages, "fill", lambda *wanted: asked.append(wanted[-1]) or 0)
    stages.real(again)
    monkeypatch.setattr(again, "best", lambda *arm, **which: None)
    monkeypatch.setattr(stages, "read_layer_weights", lambda path: [1.0])
    monkeypatch.setattr(stages, "Encoder", lambda *made_of: None)
    monkeypatch.setattr(stages, "extract_features",
                        lambda *wanted, known, **how: asked.append(known) or FeatureStore(run.features))
    again.states.mkdir()
    stages.extract(again)
    assert len(asked) == 2 and all(map(callable, asked)) and not again.states.exists()
    stages.extract(again)
    stages.real(Run(run.out, run.settings.changed(seeds=9)))
    assert asked[2:] == [None, None]


def test_a_class_that_dev_has_taken_all_of_is_told_before_the_upstream_hears_a_file(run, monkeypatch):
    run_fold = run.fold
    train = run_fold.train
    rest = Metadata(train.labels, tuple(item for item in train.utterances if item.label != train.class_names[0]))
    monkeypatch.setattr(Run, "fold", property(lambda self: dataclasses.replace(run_fold, train=rest)))
    monkeypatch.setattr(stages, "lacking", lambda *_: True)  # its heads are still to be trained
    monkeypatch.setattr(stages, "_fill_means", lambda *_: pytest.fail("heard"))
    with pytest.raises(UserError, match=f"class '{train.class_names[0]}' has no utterance left in the training part"):
        stages.real(run)


def test_means_of(run):
    store = FeatureStore(run.features)
    wanted = run.fold.dev
    means, labels = stages.means_of(store, wanted)
    assert labels.tolist() == [LABELS[item.label] for item in wanted.utterances]
    for row, item in zip(means, wanted.utterances, strict=True):
        assert torch.equal(row, store[store.positions[item.path]].mean(dim=0))


def test_labels_follow_the_metadata(run):
    part = Metadata(LABELS, tuple(Utterance(f"s1/{name}0.wav", name, "s1") for name in ("sad", "neu")))
    assert stages.means_of(FeatureStore(run.features), part)[1].tolist() == [LABELS["sad"], LABELS["neu"]]


def test_pool_learns_on_train_and_is_scored_on_dev(run, monkeypatch):
    asked = {}

    def fake(train, dev, seeds, steps, classes):
        asked.update(train=train, dev=dev, seeds=seeds, steps=steps, classes=classes)
        return Pool.load(kept)

    kept = run.pool.with_name("kept.safetensors")
    run.pool.rename(kept)
    monkeypatch.setattr(stages, "train_pool", fake)
    stages.pool(run)
    assert len(asked["train"][1]) == len(run.fold.train.utterances) and len(asked["dev"][1]) == len(
        run.fold.dev.utterances
    )
    assert (asked["seeds"], asked["steps"]) == (run.settings.distiller.pool_seeds, 3000)
    assert asked["classes"] == 3 and run.pool.is_file()


def test_extraction_takes_the_weights_of_the_head_that_dev_prefers(run, monkeypatch):
    """A fault of 0.1: it took those of the first learning rate."""
    import shutil

    asked = {}
    monkeypatch.setattr(stages, "read_layer_weights", lambda path: asked.update(path=path) or [0.25, 0.75])

    class Stop(Exception):
        pass

    def encoder(spec, device, weights):
        asked.update(spec=spec, device=device, weights=weights)
        raise Stop

    monkeypatch.setattr(stages, "Encoder", encoder)
    monkeypatch.setattr(type(run), "best", lambda self, arm, seed: asked.update(of=(arm, seed)) or "best.ckpt")
    shutil.rmtree(run.features)
    with pytest.raises(Stop):
        stages.extract(run)
    assert asked == {
        "of": (REAL, 0),
        "path": "best.ckpt",
        "spec": run.settings.upstream,
        "device": "cpu",
        "weights": [0.25, 0.75],
    }


def test_pool_from_foreign_folders(tmp_path):
    with pytest.raises(UserError, match="no states-.*.ckpt in it"):
        stages.states_of((str(tmp_path),))
