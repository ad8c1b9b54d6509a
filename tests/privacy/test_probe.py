"""The probe: embeddings are the heads' own, utterances are tested once, differences are paired."""

import numpy as np
import pytest
import torch
from support.runs import write_head

from s3prl_dd.corpora.audio import load_audio
from s3prl_dd.corpora.sid_check import TEST
from s3prl_dd.features.spec import FeatureSpec
from s3prl_dd.privacy import probe
from s3prl_dd.privacy.rows import Head, Row
from s3prl_dd.privacy.sid import Tree

LOGITS = torch.tensor([0.5, -2.0, 1.0])


def test_embeddings_are_weighted_as_the_head_learnt(tmp_path):
    path, head = write_head(tmp_path / "dev-best.ckpt", dim=8, weights=LOGITS)
    states = torch.randn(5, 3, 8, generator=torch.Generator().manual_seed(1))
    weighted = (LOGITS.softmax(0)[:, None] * states).sum(dim=1)
    expected = weighted @ head["projector.weight"].T + head["projector.bias"]
    assert np.allclose(probe.embed(states.numpy(), path), expected, atol=1e-4)
    assert np.allclose(probe.embed(states.numpy(), None), states.mean(dim=1), atol=1e-6)
    single, head = write_head(tmp_path / "single.ckpt", dim=8)  # an upstream with one state has no weights
    expected = states[:, 0] @ head["projector.weight"].T + head["projector.bias"]
    assert np.allclose(probe.embed(states[:, :1].numpy(), single), expected, atol=1e-4)


def test_embeddings_are_those_of_ser_projector(tree, tmp_path):
    """What S3PRL's SID hears through the head, averaged over time."""
    from s3prl_dd.plugin.upstream.ser_projector import UpstreamExpert

    path, _ = write_head(tmp_path / "dev-best.ckpt", upstream="fbank_no_cmvn")
    wavs = Tree.open(tree).utterances().paths[:2]
    states = probe.tree_states(FeatureSpec("fbank_no_cmvn"), "cpu", wavs, tmp_path / "states.npz")
    assert states.shape == (2, 1, 240)
    upstream = UpstreamExpert(str(path))
    for wav, embedded in zip(wavs, probe.embed(states, path), strict=True):
        frames = upstream([torch.from_numpy(load_audio(wav))])["hidden_states"][0][0]
        assert np.allclose(embedded, frames.mean(dim=0).detach().numpy(), rtol=1e-3, atol=1e-2)


def test_states_are_kept(tree, tmp_path, monkeypatch):
    paths, cache = Tree.open(tree).utterances().paths[:2], tmp_path / "states.npz"
    states = probe.tree_states(FeatureSpec("fbank"), "cpu", paths, cache)
    monkeypatch.setattr(probe, "Encoder", None)
    assert np.array_equal(probe.tree_states(FeatureSpec("fbank"), "cpu", paths, cache), states)


def test_states_of_files_that_changed_are_made_anew(tree, tmp_path, monkeypatch):
    paths, cache = Tree.open(tree).utterances().paths[:2], tmp_path / "states.npz"
    states = probe.tree_states(FeatureSpec("fbank"), "cpu", paths, cache)
    assert np.array_equal(probe.tree_states(FeatureSpec("fbank"), "cpu", paths[::-1], cache), states[::-1])
    assert len(probe.tree_states(FeatureSpec("fbank"), "cpu", paths[:1], cache)) == 1


@pytest.fixture
def rows(tmp_path, monkeypatch):
    """Heads that let the speaker through (real), or nothing (proposed), of states that are the speaker and noise."""
    draw = np.random.default_rng(0)

    def states(spec, device, paths, cache):
        speakers = np.array([int(path.parts[-3][2:]) for path in paths])
        loud = 5 * np.eye(4)[speakers % 4] + 0.1 * draw.standard_normal((len(paths), 4))
        noise = draw.standard_normal((len(paths), 4))
        return np.stack([loud, noise], axis=1).astype(np.float32)  # [N, 2, 4]: only the first state tells

    monkeypatch.setattr(probe, "tree_states", states)
    clear, _ = write_head(tmp_path / "clear.ckpt", dim=4, weights=torch.tensor([9.0, -9.0]))
    deaf, _ = write_head(tmp_path / "deaf.ckpt", dim=4, weights=torch.tensor([-30.0, 30.0]))
    return {Row.REAL: [Head(clear, 0.8)], Row.PROPOSED: [Head(deaf, 0.7), Head(deaf, 0.7)]}


def test_rows_are_compared_with_the_real_heads_over_utterances(tree, rows, tmp_path):
    results = probe.probe_rows(rows, Tree.open(tree), FeatureSpec("fbank"), "cpu", tmp_path)
    real, proposed = results[Row.REAL], results[Row.PROPOSED]
    assert real.probe_accuracy.value == 1 and real.probe_minus_real == (0, 0, 0)
    assert proposed.probe_accuracy.value < 0.6 and proposed.probe_utterances == 36
    difference = proposed.probe_minus_real
    assert difference.value == pytest.approx(proposed.probe_accuracy.value - 1) and difference.high < -0.2
    assert probe.probe_rows(rows, Tree.open(tree), FeatureSpec("fbank"), "cpu", tmp_path)[Row.REAL] == real


def test_a_tree_split_by_content_is_tested_on_its_test_part(tree, rows, tmp_path):
    from dataclasses import replace

    opened = replace(Tree.open(tree), split_by="neu(.)")
    splits = probe._splits(opened, opened.utterances())
    (train, test), = splits
    assert (opened.utterances().parts[test] == TEST).all() and len(train) == opened.train + opened.dev
    results = probe.probe_rows(rows, opened, FeatureSpec("fbank"), "cpu", tmp_path)
    assert results[Row.REAL].probe_utterances == opened.test


def test_speakers_of_few_utterances_are_split_as_often_as_they_can_be(tree):
    opened = Tree.open(tree)
    whole = opened.utterances()
    kept = np.concatenate([np.flatnonzero(whole.speakers == name)[:3] for name in np.unique(whole.speakers)])
    few = whole._replace(paths=[whole.paths[index] for index in kept], speakers=whole.speakers[kept],
                         parts=whole.parts[kept])
    assert len(probe._splits(opened, whole)) == probe.FOLDS and len(probe._splits(opened, few)) == 3
