"""Layer weights in and out of S3PRL's checkpoints."""

import pytest
import torch

from s3prl_dd.errors import UserError
from s3prl_dd.plugin.featurizer import find_states, read_layer_weights, to_logits, write_featurizer_checkpoint


def test_layer_weights_round_trip(tmp_path):
    write_featurizer_checkpoint([0.7, 0.3, 0.0], tmp_path / "weights.ckpt")
    assert read_layer_weights(tmp_path / "weights.ckpt") == pytest.approx([0.7, 0.3, 0.0], abs=1e-6)
    torch.testing.assert_close(to_logits([2, 2]).softmax(0), torch.tensor([0.5, 0.5]))
    torch.save({"Downstream": {}}, tmp_path / "one_layer.ckpt")
    assert read_layer_weights(tmp_path / "one_layer.ckpt") is None


@pytest.mark.parametrize("weights", [[-1.0, 2.0], [], [0.0, 0.0], [float("inf"), 1.0], [[1.0]]])
def test_what_are_no_layer_weights(weights, tmp_path):
    with pytest.raises(UserError, match="expected numbers >= 0"):
        write_featurizer_checkpoint(weights, tmp_path / "weights.ckpt")
    assert not list(tmp_path.iterdir())


def test_what_is_no_checkpoint(tmp_path):
    with pytest.raises(UserError, match="no such checkpoint"):
        read_layer_weights(tmp_path / "other.ckpt")
    for content in ("no checkpoint", ""):
        (tmp_path / "text.ckpt").write_text(content)
        with pytest.raises(UserError, match="not a checkpoint of S3PRL") as told:
            read_layer_weights(tmp_path / "text.ckpt")
        assert "\n" not in str(told.value)
    torch.save([1, 2], tmp_path / "list.ckpt")
    with pytest.raises(UserError, match=r"expected a checkpoint of S3PRL \(a dict\), found list"):
        read_layer_weights(tmp_path / "list.ckpt")


def test_states_are_sorted_by_step(tmp_path):
    for step in (4, 12, 8):
        (tmp_path / f"states-{step}.ckpt").touch()
    assert [path.name for path in find_states(tmp_path)] == ["states-4.ckpt", "states-8.ckpt", "states-12.ckpt"]
