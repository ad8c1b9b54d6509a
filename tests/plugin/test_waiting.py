"""States that wait for their layer weights: features as the upstream's, within the budget, of what is wanted alone."""

import pytest
import torch

from s3prl_dd.corpora.metadata import Utterance
from s3prl_dd.features.extract import extract
from s3prl_dd.features.spec import FeatureSpec
from s3prl_dd.plugin.encoder import Encoder
from s3prl_dd.plugin.placeholder import Recording
from s3prl_dd.plugin.states import fill
from s3prl_dd.plugin.store import StateStore
from s3prl_dd.plugin.waiting import WaitingStates

WEIGHTS = [0.5, 0.25, 0.25]


@pytest.fixture
def spec(hubert_file):
    return FeatureSpec("hubert_local", str(hubert_file))


@pytest.fixture
def utterances(corpus):
    paths = sorted((corpus / "audio").glob("speaker0/*.wav"))[:4]
    return [Utterance(f"speaker0/{path.name}", "neu", "speaker0") for path in paths]


def heard(spec, corpus, utterances, wanted, tmp_path, megabytes=100.0):
    """The waiting states after all utterances have passed the upstream."""
    root = str(corpus / "audio")
    recordings = [Recording.of(root, item.record()) for item in utterances]
    waiting = WaitingStates(tmp_path / "states", megabytes * 1e6, spec)
    assert fill(spec, recordings, StateStore(tmp_path / "means", 1e7), keep=waiting.keeper(recordings[:wanted])) == 4
    return waiting, root


def test_features_without_the_upstream(spec, corpus, utterances, tmp_path, monkeypatch):
    """A thousandth of the largest feature off at most; the last one was not wanted, and is heard."""
    waiting, root = heard(spec, corpus, utterances, 3, tmp_path)
    encoder = Encoder(spec, layer_weights=WEIGHTS)
    expected = extract(encoder, root, utterances, tmp_path / "expected", "float32")
    waves = []
    encode = encoder.encode
    monkeypatch.setattr(encoder, "encode", lambda wavs: waves.extend(wavs) or encode(wavs))
    known = waiting.features(root, encoder.layer_weights)
    store = extract(encoder, root, utterances, tmp_path / "store", "float32", known=known)
    assert len(waves) == 1 and store.provenance == expected.provenance
    for item in utterances:
        frames, other = (one[one.positions[item.id]] for one in (store, expected))
        assert frames.shape == other.shape and (frames - other).abs().max() < 1e-3 * other.abs().max()
    waiting.remove()
    assert not (tmp_path / "states").exists()


def test_within_the_budget(spec, corpus, utterances, tmp_path):
    waiting, root = heard(spec, corpus, utterances, 4, tmp_path, megabytes=0.06)
    known = waiting.features(root, WEIGHTS)
    held = [known(item) is not None for item in utterances]
    assert held[0] and not held[-1]
    assert waiting.store.path.stat().st_size <= 60_000


def test_weights_of_another_number_and_a_touched_file(spec, corpus, utterances, tmp_path):
    waiting, root = heard(spec, corpus, utterances, 4, tmp_path)
    assert waiting.features(root, [0.5, 0.5])(utterances[0]) is None
    assert waiting.features(str(tmp_path), WEIGHTS)
    states = torch.full((3, 2, 4), 1e5)
    recording = Recording.of(root, utterances[0].record())._replace(start=0.1)
    waiting.keeper([recording])(recording, states)  # too large for half precision
    assert waiting.features(root, WEIGHTS)(Utterance(utterances[0].path, "neu", "speaker0", start=0.1)) is None
