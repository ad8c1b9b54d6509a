"""How samples' frames move about their utterance mean: as the network has it, or as another sample's. Beyond the paper.

A network that is told the class gives each class movements of its own, which tell the class more surely than real ones
do, and otherwise; and made from one noise, movement and mean tell of each other. A head that hears frames learns both,
and little that real speech has. Taken from a sample of any class that is made from noise of its own, movements are as
before and say nothing of the class and the mean; utterance means, which heads learn from, stay.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch

Movement = Literal["own", "any"]
"""See NetworkConfig.movement."""


def any_class(chances: Sequence[float], classes: int) -> torch.Tensor:
    """As a sample of which class each moves, all alike often. chances: [B] in [0, 1), of noise.Noise -> indices [B]"""
    return torch.tensor([int(chance * classes) for chance in chances])


def moved_as(frames: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """The utterance means of `frames`, and what `others` do about theirs. Both [B, T, D] -> [B, T, D]"""
    return others + (frames.mean(dim=1, keepdim=True) - others.mean(dim=1, keepdim=True))


def drawn(network: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], inputs: torch.Tensor, labels: torch.Tensor,
          as_class: torch.Tensor | None, movers: torch.Tensor | None = None) -> torch.Tensor:
    """What a network makes of inputs [B, Z] and labels [B], moving as these classes do [B]; None: as their own.

    movers: [B, Z], the inputs that its movement is made from; None: `inputs` themselves
    -> [B, T, D]
    """
    frames = network(inputs, labels)
    if as_class is None and movers is None:
        return frames
    return moved_as(frames, network(inputs if movers is None else movers, labels if as_class is None else as_class))
