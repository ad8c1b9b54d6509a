"""Encoder: S3PRL's features for every upstream; moonshine's states; provenance; refusals."""

import importlib.util

import numpy as np
import pytest
import torch

from s3prl_dd.errors import UserError
from s3prl_dd.files import file_digest
from s3prl_dd.plugin.encoder import Encoder, checkpoint_digest
from s3prl_dd.plugin.featurizer import read_layer_weights, same_weights, to_logits, write_featurizer_checkpoint

needs_moonshine = pytest.mark.skipif(not importlib.util.find_spec("moonshine_voice"), reason="moonshine-voice is not installed")


@pytest.fixture(scope="module")
def wavs():
    rng = np.random.default_rng(1)
    return [rng.standard_normal(size).astype(np.float32) * 0.1 for size in (16000, 23456, 4000)]


@pytest.fixture(scope="module")
def hf_folder(tmp_path_factory):
    from support.tiny_hubert import write_hf_hubert

    folder = tmp_path_factory.mktemp("hf")
    write_hf_hubert(folder)
    return folder


def check_shapes(encoder, wavs, layers, dim, rate):
    encoded, states = encoder.encode(wavs), encoder.states(wavs)
    assert (encoder.layers, encoder.dim, encoder.rate) == (layers, dim, rate)
    for wav, frames, state in zip(wavs, encoded, states):
        assert state.shape == (layers, len(frames), dim) and frames.shape[1] == dim
        assert 0 <= round(len(wav) / rate) - len(frames) <= 2  # some upstreams give a frame or two less than Featurizer counts
        weights = torch.tensor(encoder.layer_weights or [1.0])
        torch.testing.assert_close(torch.einsum("l,ltd->td", weights, state), frames)


def test_fbank(wavs):
    encoder = Encoder("fbank")
    check_shapes(encoder, wavs, 1, 240, 160)
    assert encoder.layer_weights is None and encoder.provenance["upstream_ckpt_digest"] is None
    with pytest.raises(UserError, match="fbank does not give it"):
        Encoder("fbank", selection="nothing")


def test_hubert_local(wavs, hubert_file):
    encoder = Encoder("hubert_local", ckpt=str(hubert_file), layer_weights=[0.5, 0.25, 0.25])
    check_shapes(encoder, wavs, 3, 64, 320)
    provenance = encoder.provenance
    assert provenance["upstream_ckpt_digest"] == file_digest(hubert_file)
    assert same_weights(provenance["layer_weights"], [0.5, 0.25, 0.25])
    check_shapes(Encoder("hubert_local", ckpt=str(hubert_file), normalize=True), wavs, 3, 64, 320)
    one = Encoder("hubert_local", ckpt=str(hubert_file), layer=1)
    check_shapes(one, wavs, 1, 64, 320)
    torch.testing.assert_close(one.encode(wavs)[0], encoder.states(wavs)[0][1])
    with pytest.raises(UserError, match="layer 7: hidden_states of upstream hubert_local has fewer"):
        Encoder("hubert_local", ckpt=str(hubert_file), layer=7)
    with pytest.raises(UserError, match="2 layer weights: upstream hubert_local has 3"):
        Encoder("hubert_local", ckpt=str(hubert_file), layer_weights=[0.5, 0.5])


def test_hf_hubert_has_no_last_hidden_state(wavs, hf_folder):
    check_shapes(Encoder("hf_hubert_custom", ckpt=str(hf_folder)), wavs, 3, 64, 320)
    with pytest.raises(UserError, match="last_hidden_state.*S3PRL would take hidden_states"):
        Encoder("hf_hubert_custom", ckpt=str(hf_folder), selection="last_hidden_state")


def test_random_state_is_left_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    Encoder("fbank_no_cmvn")
    assert torch.equal(before, torch.get_rng_state())


def test_digests_tell_checkpoints_apart(tmp_path):
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    digests = [checkpoint_digest("x_local", tmp_path / "a"), checkpoint_digest("x_local", tmp_path / "b"),
               checkpoint_digest("x_local", tmp_path), checkpoint_digest("x_custom", "facebook/x"),
               checkpoint_digest("x_local", tmp_path / "a", tmp_path / "b")]
    assert len(set(digests)) == 5 and checkpoint_digest("hubert") is None


def test_layer_weights_round_trip(tmp_path):
    write_featurizer_checkpoint([0.7, 0.3, 0.0], tmp_path / "weights.ckpt")
    assert same_weights(read_layer_weights(tmp_path / "weights.ckpt"), [0.7, 0.3, 0.0])
    torch.testing.assert_close(to_logits([2, 2]).softmax(0), torch.tensor([0.5, 0.5]))
    assert same_weights(None, None) and not same_weights(None, [1.0]) and not same_weights([0.5, 0.5], [0.4, 0.6])
    with pytest.raises(UserError, match="expected numbers >= 0"):
        write_featurizer_checkpoint([-1.0, 2.0], tmp_path / "weights.ckpt")
    with pytest.raises(UserError, match="no such checkpoint"):
        read_layer_weights(tmp_path / "other.ckpt")
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    with pytest.raises(UserError, match="not a checkpoint of S3PRL"):
        read_layer_weights(tmp_path / "text.ckpt")


@needs_moonshine
def test_moonshine(wavs):
    encoder = Encoder("moonshine")
    check_shapes(encoder, wavs, 7, 288, 384)
    for wav, frames, alone in zip(wavs, encoder.encode(wavs), [encoder.encode([wav])[0] for wav in wavs]):
        assert len(frames) == round(len(wav) / 384)
        assert torch.equal(frames, alone)  # batch mates change nothing
    last = Encoder("moonshine", selection="last_hidden_state")
    assert torch.equal(last.encode(wavs)[0], encoder.states(wavs)[0][-1])
    for size in (1, 400, 1600):
        assert encoder.encode([np.zeros(size, np.float32)])[0].shape == (max(1, round(size / 384)) if size > 192 else 0, 288)


@needs_moonshine
def test_moonshine_exposes_the_models_own_last_state(wavs):
    import onnxruntime

    from s3prl_dd.plugin.upstream.moonshine import UpstreamExpert, encoder_file

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.load_model_format", "ORT")
    untouched = onnxruntime.InferenceSession(str(encoder_file()), options)
    wav = wavs[0][None]
    expected = untouched.run(None, {"input_values": wav, "attention_mask": np.ones(wav.shape, np.int64)})[0]
    found = UpstreamExpert()([torch.from_numpy(wavs[0])])["last_hidden_state"]
    np.testing.assert_allclose(found[:, :expected.shape[1]].numpy(), expected, atol=1e-5)


def test_moonshine_without_its_package(monkeypatch):
    from s3prl_dd.plugin.upstream import moonshine

    monkeypatch.setattr(moonshine.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'pip install "s3prl_dd\[moonshine\]"'):
        moonshine.encoder_file()
