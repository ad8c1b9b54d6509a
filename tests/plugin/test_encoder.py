"""Encoder: S3PRL's features for every upstream; moonshine's states; provenance; refusals."""

import importlib.util

import numpy as np
import pytest
import torch

from s3prl_dd.errors import UserError
from s3prl_dd.features.spec import FeatureSpec
from s3prl_dd.files import file_digest
from s3prl_dd.generator import Provenance
from s3prl_dd.plugin.encoder import Encoder, checkpoint_digest

needs_moonshine = pytest.mark.skipif(not importlib.util.find_spec("moonshine_voice"),
                                     reason="moonshine-voice is not installed")


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


def encode_with(wavs, upstream, ckpt=None, layer_weights=None, **changes):
    """An Encoder whose parts agree: number of layers, shapes, states and their weighted sum."""
    spec = FeatureSpec(upstream, None if ckpt is None else str(ckpt), **changes)
    encoder = Encoder(spec, layer_weights=layer_weights)
    for wav, frames, state in zip(wavs, encoder.encode(wavs), encoder.states(wavs), strict=True):
        assert state.shape == (encoder.layers, len(frames), encoder.dim) and frames.shape[1] == encoder.dim
        assert 0 <= round(len(wav) / encoder.rate) - len(frames) <= 2  # some give a frame or two less than they should
        weights = torch.tensor(encoder.layer_weights or [1.0])
        torch.testing.assert_close(torch.einsum("l,ltd->td", weights, state), frames)
    return encoder


def sizes(encoder):
    return encoder.layers, encoder.dim, encoder.rate


def test_fbank(wavs):
    encoder = encode_with(wavs, "fbank")
    assert sizes(encoder) == (1, 240, 160)
    provenance = encoder.provenance
    assert isinstance(provenance, Provenance) and provenance.s3prl == "0.4.18"
    assert provenance == Provenance(upstream="fbank", upstream_ckpt_digest=None, selection="hidden_states", layer=None,
                                    normalize=False, layer_weights=None, dim=240, rate=160, s3prl="0.4.18")
    with pytest.raises(UserError, match="fbank does not give it"):
        Encoder(FeatureSpec("fbank", selection="nothing"))


def test_hubert_local(wavs, hubert_file):
    encoder = encode_with(wavs, "hubert_local", hubert_file, [0.5, 0.25, 0.25])
    assert sizes(encoder) == (3, 64, 320)
    assert encoder.provenance.upstream_ckpt_digest == file_digest(hubert_file)
    assert encoder.provenance.layer_weights == pytest.approx([0.5, 0.25, 0.25])
    plain = Encoder(FeatureSpec("hubert_local", str(hubert_file)))
    assert plain.layer_weights == pytest.approx([1 / 3] * 3)
    assert not torch.allclose(plain.encode(wavs)[0], encoder.encode(wavs)[0], atol=1e-3)
    normalized = encode_with(wavs, "hubert_local", hubert_file, normalize=True)
    assert sizes(normalized) == (3, 64, 320) and normalized.provenance.normalize
    one = encode_with(wavs, "hubert_local", hubert_file, layer=1)
    assert sizes(one) == (1, 64, 320) and one.provenance.layer == 1 and one.layer_weights is None
    torch.testing.assert_close(one.encode(wavs)[0], encoder.states(wavs)[0][1])
    with pytest.raises(UserError, match="2 layer weights: upstream hubert_local has 3"):
        Encoder(FeatureSpec("hubert_local", str(hubert_file)), layer_weights=[0.5, 0.5])


@pytest.mark.parametrize("layer", [99, 3, -1])
def test_a_layer_that_is_not_there(layer, hubert_file):
    with pytest.raises(UserError, match=f"layer {layer}: hidden_states of upstream hubert_local has 3 state.*0 to 2"):
        Encoder(FeatureSpec("hubert_local", str(hubert_file), layer=layer))


@pytest.mark.parametrize("layer", [99, 1, -1])
def test_a_layer_of_an_upstream_with_a_single_state(layer, wavs):
    """S3PRL ignores -l there."""
    with pytest.raises(UserError, match=f"layer {layer}: hidden_states of upstream fbank has 1 state"):
        Encoder(FeatureSpec("fbank", layer=layer))
    only, plain = Encoder(FeatureSpec("fbank", layer=0)), Encoder(FeatureSpec("fbank"))
    assert torch.equal(only.encode(wavs)[0], plain.encode(wavs)[0])


def test_a_checkpoint_of_another_kind(tmp_path, hubert_file):
    cut = hubert_file.read_bytes()[:5000]
    for name, content in (("text.pt", b"no checkpoint\n"), ("empty.pt", b""), ("cut.pt", cut)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=f"upstream hubert_local: .*{name}") as told:
            Encoder(FeatureSpec("hubert_local", str(tmp_path / name)))
        assert "Check -k" in str(told.value) and "\n" not in str(told.value)
    with pytest.raises(UserError, match="upstream fbank: gone.pt: no such checkpoint"):
        Encoder(FeatureSpec("fbank", "gone.pt"))  # no use for one


def test_hf_hubert_has_no_last_hidden_state(wavs, hf_folder):
    assert sizes(encode_with(wavs, "hf_hubert_custom", hf_folder)) == (3, 64, 320)
    with pytest.raises(UserError, match="last_hidden_state.*S3PRL would take hidden_states"):
        Encoder(FeatureSpec("hf_hubert_custom", str(hf_folder), selection="last_hidden_state"))


def test_random_state_is_left_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    Encoder(FeatureSpec("fbank_no_cmvn", layer=0))
    assert torch.equal(before, torch.get_rng_state())


def test_digests_tell_checkpoints_apart(tmp_path):
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    specs = [FeatureSpec("x_local", a), FeatureSpec("x_local", b), FeatureSpec("x_local", str(tmp_path)),
             FeatureSpec("x_custom", "facebook/x"), FeatureSpec("x_local", a, b)]
    assert len(set(map(checkpoint_digest, specs))) == 5 and checkpoint_digest(FeatureSpec("hubert")) is None


@needs_moonshine
def test_moonshine(wavs):
    encoder = encode_with(wavs, "moonshine")
    assert sizes(encoder) == (7, 288, 384)
    for wav, frames in zip(wavs, encoder.encode(wavs), strict=True):
        assert len(frames) == round(len(wav) / 384)
        assert torch.equal(frames, encoder.encode([wav])[0])  # batch mates change nothing
    last = Encoder(FeatureSpec("moonshine", selection="last_hidden_state"))
    assert torch.equal(last.encode(wavs)[0], encoder.states(wavs)[0][-1])
    for size, frames in ((1, 0), (400, 1), (1600, 4)):  # Featurizer hands over round(size / 384)
        assert encoder.encode([np.zeros(size, np.float32)])[0].shape == (frames, 288)


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
