"""FrozenUpstream: placeholders cost one run, cached features are exact and do not depend on batch mates."""

import hashlib

import torch
from torch import nn

from s3prl_dd.plugin.cache import FrozenUpstream
from s3prl_dd.plugin.placeholder import SAMPLES, make_placeholder


class Counting(nn.Module):
    """An upstream of 3 states whose result depends on the padded length, as batch norm over time would."""

    def __init__(self):
        super().__init__()
        self.runs = 0

    def get_downsample_rates(self, key):
        return 10

    def forward(self, wavs):
        self.runs += 1
        padded = nn.utils.rnn.pad_sequence(wavs, batch_first=True)
        frames = padded.unfold(1, 10, 10) + padded.shape[1]  # [B, T, 10]
        return {"hidden_states": [frames * layer for layer in (1, 2, 3)], "last_hidden_state": frames * 3}


def wavs(*sizes):
    return [torch.randn(size, generator=torch.Generator().manual_seed(size)) for size in sizes]


def test_placeholders_run_the_upstream_once():
    model = FrozenUpstream(Counting(), "hidden_states")
    placeholder = torch.from_numpy(make_placeholder())
    batches = [model([placeholder] * size) for size in (2, 5, 1)]
    assert model.upstream.runs == 1
    expected = Counting()([torch.zeros(SAMPLES)] * 5)["hidden_states"]
    assert [state.shape for state in batches[1]["hidden_states"]] == [state.shape for state in expected]
    assert all(state.isfinite().all() for state in batches[1]["hidden_states"])  # the Featurizer still sums them


def test_silence_is_audio():
    """A tenth of a second of zeros, as long as a placeholder, passes the upstream, cached or not."""
    silence = torch.zeros(SAMPLES)
    for gigabytes in (0.0, 1.0):
        model = FrozenUpstream(Counting(), "hidden_states", gigabytes=gigabytes)
        states = model([silence])["hidden_states"]
        assert torch.equal(states[0], Counting()([silence])["hidden_states"][0])
        assert states[0].shape == (1, SAMPLES // 10, 10) and model.placeholder is None


def test_without_cache_real_audio_goes_as_s3prl_sends_it():
    model = FrozenUpstream(Counting(), "hidden_states")
    batch = wavs(40, 60)
    states, expected = model(batch)["hidden_states"], Counting()(batch)["hidden_states"]
    assert all(torch.equal(a, b) for a, b in zip(states, expected, strict=True))


def test_cache_is_exact_and_each_utterance_alone():
    model = FrozenUpstream(Counting(), "hidden_states", gigabytes=1)
    first = model(wavs(40, 60))
    assert model.upstream.runs == 2
    second = model(wavs(60, 50, 40))
    assert model.upstream.runs == 3
    for layer in range(3):
        assert torch.equal(first["hidden_states"][layer][1], second["hidden_states"][layer][0])
        assert torch.equal(second["hidden_states"][layer][2, :4], Counting()(wavs(40))["hidden_states"][layer][0])
        assert not second["hidden_states"][layer][2, 4:].any()


def test_a_full_cache_computes_the_same_again():
    model = FrozenUpstream(Counting(), "last_hidden_state", gigabytes=200e-9)
    first = model(wavs(40, 60))["last_hidden_state"]
    second = model(wavs(40, 60))["last_hidden_state"]
    assert torch.equal(first, second) and model.upstream.runs == 3 and model.used <= 200


def test_one_layer_is_kept_where_one_is_asked_for():
    model = FrozenUpstream(Counting(), "hidden_states", layer=1, gigabytes=1)
    states = model(wavs(40, 60))["hidden_states"]
    assert len(states) == 3 and torch.equal(states[1][:1, :4], Counting()(wavs(40))["hidden_states"][1])
    assert model.used == (4 + 6) * 10 * 4


def test_averaged_states_are_the_means_over_featurizers_frames(tmp_path):
    """Featurizer hands over round(samples / rate) frames, here fewer than the upstream gave: no others may count."""
    model = FrozenUpstream(Counting(), "hidden_states", gigabytes=1, rate=20, folder=tmp_path)
    states = model(wavs(40, 60))["hidden_states"]
    expected = Counting()(wavs(60))["hidden_states"]
    assert [state.shape for state in states] == [(2, 1, 10)] * 3
    for state, whole in zip(states, expected, strict=True):
        assert torch.allclose(state[1, 0], whole[0, :3].mean(dim=0))

    later = FrozenUpstream(Counting(), "hidden_states", gigabytes=1, rate=20, folder=tmp_path)
    again = later(wavs(60, 40, 50))["hidden_states"]
    assert later.upstream.runs == 1  # two of three came from the folder
    assert all(torch.equal(a[:2], b.flip(0)) for a, b in zip(again, states, strict=True))


def test_averaged_states_of_a_single_output_come_back_from_the_folder(tmp_path):
    def last(upstream):
        model = FrozenUpstream(upstream, "last_hidden_state", gigabytes=1, rate=20, folder=tmp_path)
        return model(wavs(40))["last_hidden_state"]

    assert torch.equal(last(Counting()), last(None))
    samples = hashlib.sha256(wavs(40)[0].numpy().tobytes()).hexdigest()
    assert [path.stem for path in tmp_path.iterdir()] == [samples[:32]]  # another file's means are never taken
