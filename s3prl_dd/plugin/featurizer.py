"""S3PRL's Featurizer: its layer weights, in and out of checkpoints. It keeps logits and applies a softmax."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import layer_norm

from ..errors import UserError, load_failure
from ..files import save_torch
from .compat import mend


def to_logits(layer_weights: Sequence[float]) -> torch.Tensor:
    """Softmaxed layer weights [L], each >= 0, their sum > 0 -> logits [L] that softmax gives back."""
    weights = torch.as_tensor(layer_weights, dtype=torch.float32)
    if weights.dim() != 1 or len(weights) == 0 or (weights < 0).any() or not 0 < weights.sum() < float("inf"):
        raise UserError(f"layer weights {layer_weights}: expected numbers >= 0 that sum to 1, one a layer.")
    return (weights / weights.sum()).clamp_min(1e-12).log()


class Layers(list[torch.Tensor]):
    """What an upstream gives, a list of L states [B, T, D], where they are parts of one tensor."""

    def __init__(self, stacked: torch.Tensor) -> None:
        """stacked: [L, B, T, D]"""
        super().__init__(stacked)
        self.stacked = stacked


def weigh_by_product(featurizer: Any) -> None:
    """Let S3PRL's Featurizer weigh Layers by one matrix product, equal up to rounding; it copies them three times a
    step else. Other lists it weighs as before.
    """
    stock = featurizer._weighted_sum

    def weighted_sum(states: Sequence[torch.Tensor]) -> torch.Tensor:
        if not isinstance(states, Layers):
            return stock(states)
        stacked = states.stacked  # [L, B, T, D]
        if featurizer.normalize:
            stacked = layer_norm(stacked, stacked.shape[-1:])
        weights = featurizer.weights.softmax(dim=-1)  # [L]
        return (weights @ stacked.flatten(1)).view(stacked.shape[1:])

    featurizer._weighted_sum = weighted_sum


def write_featurizer_checkpoint(layer_weights: Sequence[float], path: str | Path) -> None:
    """Write an S3PRL checkpoint with nothing but the Featurizer, for `run_downstream.py -i`: softmaxed weights [L]."""
    save_torch({"Featurizer": {"weights": to_logits(layer_weights)}}, path)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """An S3PRL checkpoint as a dict, read without executing code from it.

    Its entries are Downstream, Featurizer, Upstream (of a fine-tuned one), Optimizer, Step, Epoch, Args and Config.
    """
    mend()
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint. S3PRL writes states-*.ckpt and dev-best.ckpt into the expdir.")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a foreign or cut-off file
        raise UserError(f"{path}: not a checkpoint of S3PRL, or cut off ({load_failure(error)}).") from None
    if type(checkpoint) is not dict:
        raise UserError(f"{path}: expected a checkpoint of S3PRL (a dict), found {type(checkpoint).__name__}.")
    return checkpoint


def find_states(expdir: str | Path) -> list[Path]:
    """The states-*.ckpt of an expdir, oldest first."""
    return sorted(Path(expdir).glob("states-*.ckpt"), key=lambda path: int(path.stem.rpartition("-")[2]))


def read_layer_weights(path: str | Path) -> list[float] | None:
    """The softmaxed layer weights of an S3PRL checkpoint, L floats; None where it has none (one layer)."""
    return layer_weights(read_checkpoint(path))


def layer_weights(checkpoint: Mapping[str, Any]) -> list[float] | None:
    """As read_layer_weights, of a checkpoint in memory."""
    logits = checkpoint.get("Featurizer", {}).get("weights")
    return None if logits is None else logits.float().softmax(dim=-1).tolist()
