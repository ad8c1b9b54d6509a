"""Frame deviations: how a sample's frames deviate from its utterance mean. Replaces each sample's by those of another
sample of any class, so that they carry no class information. Beyond the paper.

A generator that is told the class gives each class deviations of its own, by which samples are recognised more easily
than real speech is; and since mean and deviations come from the same noise, each predicts the other. A head that hears
frames learns both, and neither holds for real speech. Deviations of another sample, of a random class and from
independent noise, look the same and carry no information on class or mean. Utterance means stay as they are.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch

Deviations = Literal["own", "any"]
"""See NetworkConfig.movement."""


def any_class(chances: Sequence[float], classes: int) -> torch.Tensor:
    """The class [B] whose deviations each sample gets, each equally often. chances: [B] in [0, 1), of noise.Noise"""
    return torch.tensor([int(chance * classes) for chance in chances])


def with_deviations(frames: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """`frames` with the deviations of `others`, about their own utterance means. Both [B, T, D] -> [B, T, D]"""
    return others + (frames.mean(dim=1, keepdim=True) - others.mean(dim=1, keepdim=True))


def drawn(network: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], inputs: torch.Tensor, labels: torch.Tensor,
          other_labels: torch.Tensor | None, other_inputs: torch.Tensor | None = None) -> torch.Tensor:
    """A network's frames [B, T, D] of inputs [B, Z] and labels [B], with the deviations of other samples.

    other_labels: the classes [B] of those others; None: `labels`
    other_inputs: what those others are made from [B, Z]; None: `inputs`. Both None: frames as the network has them
    """
    frames = network(inputs, labels)
    if other_labels is None and other_inputs is None:
        return frames
    other_labels = labels if other_labels is None else other_labels
    other_inputs = inputs if other_inputs is None else other_inputs
    return with_deviations(frames, network(other_inputs, other_labels))
