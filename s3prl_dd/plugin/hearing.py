"""The first layer of a head on samples with speaker suppression: it hears all speech so, in training and after."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..generator.suppression import SpeakerSuppression


class Hearing(nn.Linear):
    """A linear layer of frames [..., D] that hears them with speaker suppression.

    In a state dict it is the plain layer that gives the same, so that checkpoints are S3PRL's own: whoever loads one
    needs no generator file. Loaded from a plain layer it goes on as the one of which that was made.
    """

    away: torch.Tensor
    along: torch.Tensor
    middle: torch.Tensor

    def __init__(self, layer: nn.Linear, suppression: SpeakerSuppression) -> None:
        """layer: whose weights it takes."""
        super().__init__(layer.in_features, layer.out_features)
        self.weight, self.bias = layer.weight, layer.bias
        for name, tensor in suppression._asdict().items():
            self.register_buffer(name, tensor, persistent=False)
        self.register_state_dict_post_hook(_as_plain)
        self.register_load_state_dict_pre_hook(_from_plain)

    @property
    def suppression(self) -> SpeakerSuppression:
        """Where the layer is."""
        return SpeakerSuppression(self.away, self.along, self.middle)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """[..., D] -> [..., out_features]"""
        return F.linear(frames, *self.suppression.heard_by(self.weight, self.bias))


def _as_plain(layer: nn.Module, state: dict[str, Any], prefix: str, _: dict[str, Any]) -> None:
    assert isinstance(layer, Hearing)
    with torch.no_grad():
        plain = layer.suppression.heard_by(layer.weight, layer.bias)
    state[f"{prefix}weight"], state[f"{prefix}bias"] = plain


def _from_plain(layer: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    assert isinstance(layer, Hearing)
    weight, bias = (state[f"{prefix}{name}"].to(layer.weight.device) for name in ("weight", "bias"))
    state[f"{prefix}weight"], state[f"{prefix}bias"] = layer.suppression.unheard_by(weight, bias)
