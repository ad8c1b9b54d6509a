"""Layer weights in and out of S3PRL's checkpoints."""

import os

import pytest
import torch
from support.disks import limit_files
from support.gauss import forked

from s3prl_dd.errors import DiskError, UserError
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


def write_with_little_room(path):
    limit_files(100)
    try:
        write_featurizer_checkpoint([0.5, 0.5], path)
    except DiskError as error:
        os._exit(3 if "weights.ckpt: could not be written (File too large)" in str(error) else 4)
    os._exit(0)


def test_a_full_disk_is_one_line(tmp_path):
    """torch alone says `iostream error`."""
    process = forked().Process(target=write_with_little_room, args=(tmp_path / "weights.ckpt",))
    process.start()
    process.join(60)
    assert process.exitcode == 3 and not list(tmp_path.iterdir())


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
