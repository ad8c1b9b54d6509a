"""FrozenUpstream: placeholders cost one run, cached features are exact and do not depend on batch mates."""

import torch
from torch import nn

from s3prl_dd.plugin.cache import PLACEHOLDER_SAMPLES, FrozenUpstream


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
    batches = [model([torch.zeros(PLACEHOLDER_SAMPLES)] * size) for size in (2, 5, 1)]
    assert model.upstream.runs == 1
    expected = Counting()([torch.zeros(PLACEHOLDER_SAMPLES)] * 5)["hidden_states"]
    assert [state.shape for state in batches[1]["hidden_states"]] == [state.shape for state in expected]


def test_without_cache_real_audio_goes_as_s3prl_sends_it():
    model = FrozenUpstream(Counting(), "hidden_states")
    batch = wavs(40, 60)
    assert all(torch.equal(a, b) for a, b in zip(model(batch)["hidden_states"], Counting()(batch)["hidden_states"]))


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
    """Featurizer hands over round(samples / rate) frames, here fewer than the upstream gave: the others must not count."""
    model = FrozenUpstream(Counting(), "hidden_states", gigabytes=1, rate=20, folder=tmp_path)
    states = model(wavs(40, 60))["hidden_states"]
    expected = Counting()(wavs(60))["hidden_states"]
    assert [state.shape for state in states] == [(2, 1, 10)] * 3
    assert all(torch.allclose(state[1, 0], whole[0, :3].mean(dim=0)) for state, whole in zip(states, expected))

    later = FrozenUpstream(Counting(), "hidden_states", gigabytes=1, rate=20, folder=tmp_path)
    again = later(wavs(60, 40, 50))["hidden_states"]
    assert later.upstream.runs == 1 and all(torch.equal(a[:2], b.flip(0)) for a, b in zip(again, states))
    one = FrozenUpstream(Counting(), "last_hidden_state", gigabytes=1, rate=20, folder=tmp_path / "one")
    first = one(wavs(40))["last_hidden_state"]
    assert torch.equal(FrozenUpstream(None, "last_hidden_state", gigabytes=1, rate=20, folder=tmp_path / "one")(wavs(40))["last_hidden_state"], first)


def test_which_heads_read_means_alone():
    import yaml

    from s3prl_dd.config import CONFIGS
    from s3prl_dd.plugin.emotion import reads_means

    for name in ("emotion", "distilled_emotion", "voxceleb1"):
        head = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())["downstream_expert"]["modelrc"]
        assert reads_means(head)
        assert not reads_means({**head, "select": "DeepModel"})
        for change in ({"pooling": "AttentivePooling"}, {"pre_net": {"select": "FrameLevel"}}):
            assert not reads_means({**head, "UtteranceLevel": {**head["UtteranceLevel"], **change}})
