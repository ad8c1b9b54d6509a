"""Upstream ser_projector: the embedding equals a computation by hand; what it refuses."""

import pytest
import torch
from support.runs import write_head
from support.upstreams import OWN

from s3prl_dd.errors import UserError
from s3prl_dd.features.spec import FeatureSpec
from s3prl_dd.plugin.upstream.ser_projector import UpstreamExpert, read_head

WEIGHTS = torch.tensor([0.3, -1.0, 0.7])  # of the Featurizer, before its softmax


@pytest.fixture
def wavs():
    draw = torch.Generator().manual_seed(1)
    return [0.1 * torch.randn(samples, generator=draw) for samples in (16000, 9000, 12345)]


@pytest.mark.parametrize("layer", [None, 1])
def test_equals_a_computation_by_hand(tmp_path, hubert_file, wavs, layer):
    """A weighted sum of all states and one layer of a small HuBERT; S3PRL's Featurizer on top gives each length."""
    from s3prl_dd.plugin.encoder import Encoder

    path, head = write_head(tmp_path / "dev-best.ckpt", "hubert_local", hubert_file, 64,
                            weights=WEIGHTS if layer is None else None, upstream_layer_selection=layer)
    plain = Encoder(FeatureSpec("hubert_local", str(hubert_file)))
    states = plain.upstream(wavs)["hidden_states"]
    weighted = sum(weight * state for weight, state in zip(WEIGHTS.softmax(0), states, strict=True))
    mixed = weighted if layer is None else states[layer]
    expected = mixed @ head["projector.weight"].T + head["projector.bias"]

    model = UpstreamExpert(str(path))
    given = model(wavs)["last_hidden_state"]
    assert given.shape == (3, 49, 256)
    assert model.get_downsample_rates("hidden_states") == 320 and not any(p.requires_grad for p in model.parameters())
    on_top = Encoder(FeatureSpec("ser_projector", str(path)))
    assert (on_top.dim, on_top.rate, on_top.layer_weights) == (256, 320, None)
    for frames, own, wanted in zip(on_top.encode(wavs), plain.encode(wavs), expected, strict=True):
        assert len(frames) == len(own) and torch.allclose(frames, wanted[:len(frames)], atol=1e-4)


def test_another_place_of_the_upstream_by_a_yaml(tmp_path, hubert_file, wavs):
    path, _ = write_head(tmp_path / "dev-best.ckpt", "hubert_local", "gone/hubert.pt", 64, weights=WEIGHTS)
    with pytest.raises(UserError, match="its upstream hubert_local was made from gone/hubert.pt, which .*-g"):
        UpstreamExpert(str(path))
    (tmp_path / "g.yaml").write_text(f"upstream_ckpt: {hubert_file}\n")
    assert UpstreamExpert(str(path), str(tmp_path / "g.yaml"))(wavs)["hidden_states"][0].shape == (3, 49, 256)
    (tmp_path / "g2.yaml").write_text(f"upstream_ckpt: {hubert_file}\nlayer_weights: [0.2, 0.3, 0.5]\n")
    features = read_head(path, tmp_path / "g2.yaml").features
    assert features.layer_weights == [0.2, 0.3, 0.5] and features.upstream == "hubert_local"
    (tmp_path / "bad.yaml").write_text("upstream_chkpt: x\n")
    with pytest.raises(UserError, match="bad.yaml: unknown key 'upstream_chkpt'.*Did you mean 'upstream_ckpt'"):
        read_head(str(path), str(tmp_path / "bad.yaml"))
    with pytest.raises(UserError, match="no.yaml: no such file"):
        read_head(str(path), str(tmp_path / "no.yaml"))


def test_refused(tmp_path):
    with pytest.raises(UserError, match="needs a trained SER head. Give -k"):
        UpstreamExpert(None)
    with pytest.raises(UserError, match="no such checkpoint"):
        UpstreamExpert(str(tmp_path / "no.ckpt"))
    other, _ = write_head(tmp_path / "sid.ckpt", downstream="voxceleb1")
    with pytest.raises(UserError, match="sid.ckpt: not a SER checkpoint, found one of -d voxceleb1"):
        UpstreamExpert(str(other))
    torch.save({"Featurizer": {"weights": WEIGHTS}}, tmp_path / "weights.ckpt")
    with pytest.raises(UserError, match="not a SER checkpoint, found entries Featurizer"):
        UpstreamExpert(str(tmp_path / "weights.ckpt"))
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    with pytest.raises(UserError, match="not a checkpoint of S3PRL"):
        UpstreamExpert(str(tmp_path / "text.ckpt"))
    narrow, _ = write_head(tmp_path / "narrow.ckpt", dim=80)
    with pytest.raises(UserError, match="upstream fbank gives 240 dimensions, the head of .* takes 80"):
        UpstreamExpert(str(narrow))
    hub, _ = write_head(tmp_path / "hub.ckpt", hub="huggingface")
    with pytest.raises(UserError, match="from --hub huggingface"):
        UpstreamExpert(str(hub))


def test_a_fine_tuned_upstream_is_taken_along(tmp_path, hubert_file, wavs):
    from s3prl_dd.plugin.encoder import Encoder

    path, _ = write_head(tmp_path / "plain.ckpt", "hubert_local", hubert_file, 64, weights=WEIGHTS)
    checkpoint = torch.load(path, weights_only=False)
    tuned = Encoder(FeatureSpec("hubert_local", str(hubert_file))).upstream.state_dict()
    checkpoint["Upstream"] = {key: 2 * value if "layers.1.fc2.weight" in key else value for key, value in tuned.items()}
    torch.save(checkpoint, tmp_path / "tuned.ckpt")
    one, other = (UpstreamExpert(str(item))(wavs)["last_hidden_state"] for item in (path, tmp_path / "tuned.ckpt"))
    assert not torch.allclose(one, other, atol=1e-3)
    torch.save({**checkpoint, "Upstream": {"of another": torch.ones(1)}}, tmp_path / "foreign.ckpt")
    with pytest.raises(UserError, match="foreign.ckpt: its fine-tuned weights do not fit upstream hubert_local"):
        UpstreamExpert(str(tmp_path / "foreign.ckpt"))


def test_code_that_a_checkpoint_names_is_not_run_unless_the_user_names_it(tmp_path, wavs):
    """As in the launcher and in predict."""
    code, marker = tmp_path / "mine.py", tmp_path / "marker"
    (tmp_path / "beside_mine.py").write_text("RATE = 160\n")
    code.write_text(OWN + f"\nopen({str(marker)!r}, 'w').close()\n")
    path, head = write_head(tmp_path / "dev-best.ckpt", f"{code}:energy", dim=2, weights=WEIGHTS)
    with pytest.raises(UserError, match="its upstream is code, .*mine.py:energy, which is not run .* -g: `upstream: "):
        UpstreamExpert(str(path))
    read_head(path)  # runs nothing
    assert not marker.exists()
    (tmp_path / "g.yaml").write_text(f"upstream: {code}:energy\n")
    model = UpstreamExpert(str(path), str(tmp_path / "g.yaml"))
    assert marker.exists() and model(wavs[:1])["hidden_states"][0].shape == (1, 100, 256)
