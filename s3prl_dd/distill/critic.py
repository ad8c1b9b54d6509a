"""The critics of GAN-CNN, GAN-ATT (paper, Sec. 5.1) and GAN-1D: frames [B, T, D] -> CriticOutput."""

from typing import NamedTuple

import torch
import torch.nn as nn

from ..generator.networks import Network
from .layers import CriticConv2d, SampleNorm, TapTimeConv, TimeSampleNorm, activation

UTTERANCE_SCALE = 5.0
"""Means of standardised frames spread by about 0.2 (RAVDESS); times this, the branch sees about unit spread."""


class CriticOutput(NamedTuple):
    """What a critic says of a batch."""

    score: torch.Tensor
    """D(x), [B]"""

    logits: torch.Tensor
    """D_cls(x), [B, C]"""

    maps: list[torch.Tensor]
    """The feature maps D^l(x) of Eq. 3, each [B, ...]."""

    def split(self) -> "tuple[CriticOutput, CriticOutput]":
        """Of the first half of the batch, and of the second."""
        score, logits = self.score.chunk(2), self.logits.chunk(2)
        maps = [values.chunk(2) for values in self.maps]
        one, other = (CriticOutput(score[half], logits[half], [part[half] for part in maps]) for half in (0, 1))
        return one, other


class Critic(nn.Module):
    """Conv layers with layer norm and leaky ReLU > score head and class head (paper, Sec. 5.1).

    With `utterance_branch`, an MLP on the utterance mean joins before the heads; its maps count in Eq. 3 too.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        width = network.critic_channels
        self.one_dimensional = network.architecture == "gan_1d"
        layers, size = _layers_1d(network) if self.one_dimensional else _layers_2d(network)
        self.layers = nn.ModuleList(layers)
        self.utterance = nn.ModuleList([
            nn.Sequential(nn.Linear(network.dim, width), nn.LayerNorm(width), nn.LeakyReLU(0.2)),
            nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width), nn.LeakyReLU(0.2)),
        ]) if network.utterance_branch else None
        size += width if network.utterance_branch else 0
        self.score, self.classify = nn.Linear(size, 1), nn.Linear(size, network.classes)

    def forward(self, frames: torch.Tensor) -> CriticOutput:
        """frames: [B, T, D], standardised."""
        maps = []
        x = frames if self.one_dimensional else frames[..., None].permute(0, 3, 1, 2)  # one channel, channels last
        for layer in self.layers:
            x = layer(x)
            maps.append(x)
        x = x.flatten(1)
        if self.utterance is not None:
            mean = frames.mean(dim=1) * UTTERANCE_SCALE  # [B, D]
            for layer in self.utterance:
                mean = layer(mean)
                maps.append(mean)
            x = torch.cat([x, mean], dim=1)
        return CriticOutput(self.score(x)[:, 0], self.classify(x), maps)


def _layers_1d(network: Network) -> tuple[list[nn.Module], int]:
    """Four convolutions over time, the middle ones halve it; and the size of one sample's output."""
    width = network.critic_channels
    layers: list[nn.Module] = []
    for number, stride in enumerate((1, 2, 2, 1)):
        conv = TapTimeConv(network.dim if number == 0 else width, width, network.kernel, stride)
        layers.append(nn.Sequential(conv, TimeSampleNorm(width), activation()))
    return layers, width * (network.frames // 4)


def _layers_2d(network: Network) -> tuple[list[nn.Module], int]:
    """Eight convolutions, the 2nd, 4th and 6th halve time and dimensions; and the size of one sample's output."""
    width, time, dim, before = network.critic_channels, network.frames, network.dim, 1
    layers: list[nn.Module] = []
    for number in range(1, 9):
        stride = 2 if number in (2, 4, 6) else 1
        after = width // 4 if number <= 2 else width // 2 if number <= 4 else width
        conv = CriticConv2d(before, after, network.kernel, stride, network.kernel // 2)
        conv.weight.data = conv.weight.data.contiguous(memory_format=torch.channels_last)
        layers.append(nn.Sequential(conv, SampleNorm(after), activation()))
        time, dim, before = -(-time // stride), -(-dim // stride), after
    return layers, width * time * dim
