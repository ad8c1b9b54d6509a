"""Replaces each sample's deviations from its utterance mean by those of another sample of any class, so that they carry
no class information. Beyond the paper.

A generator that is told the class gives each class deviations of its own, by which samples are recognised more easily
than real speech is; and since mean and deviations come from the same noise, each predicts the other. A head that hears
frames learns both, and neither holds for real speech. Deviations of another sample, of a random class and from
independent noise, look the same and carry no information on class or mean. Utterance means stay as they are.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch

Movement = Literal["own", "any"]
"""See NetworkConfig.movement."""


def any_class(chances: Sequence[float], classes: int) -> torch.Tensor:
    """The class [B] whose deviations each sample gets, each equally often. chances: [B] in [0, 1), of noise.Noise"""
    return torch.tensor([int(chance * classes) for chance in chances])


def moved_as(frames: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Frames with the utterance means of `frames` and the deviations of `others`. Both [B, T, D] -> [B, T, D]"""
    return others + (frames.mean(dim=1, keepdim=True) - others.mean(dim=1, keepdim=True))


def drawn(network: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], inputs: torch.Tensor, labels: torch.Tensor,
          as_class: torch.Tensor | None, movers: torch.Tensor | None = None) -> torch.Tensor:
    """A network's frames [B, T, D] of inputs [B, Z] and labels [B], with the deviations of other samples.

    as_class: the classes [B] of those others; None: `labels`
    movers: the inputs [B, Z] that those others are made from; None: `inputs`. Both None: frames as the network has them
    """
    frames = network(inputs, labels)
    if as_class is None and movers is None:
        return frames
    other_inputs = inputs if movers is None else movers
    other_labels = labels if as_class is None else as_class
    return moved_as(frames, network(other_inputs, other_labels))
