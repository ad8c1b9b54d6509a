"""The critics of GAN-CNN, GAN-ATT (paper, Sec. 5.1) and GAN-1D: frames [B, T, D] -> CriticOutput."""

from typing import NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F

from ..generator.networks import Network
from .fast.layers import CriticConv2d, TapTimeConv, activation
from .fast.norms import MeanSampleNorm, SampleNorm, TimeSampleNorm

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


class FirstOutput(NamedTuple):
    """What a critic's first layers, which are linear, make of frames."""

    maps: torch.Tensor
    """[B, ...], before the norm."""

    mean: torch.Tensor | None
    """The utterance branch's, [B, width]; None where there is no branch."""

    def values(self) -> list[torch.Tensor]:
        """Those that are there."""
        return [values for values in self if values is not None]

    def between(self, mix: torch.Tensor) -> "FirstOutput":
        """Of mix * real + (1 - mix) * fake frames, if this is of real and behind them of generated ones.

        Linear layers give of what lies between two inputs what lies between their outputs. mix: [B / 2] in [0, 1]
        """
        return FirstOutput(_mixed(self.maps, mix), None if self.mean is None else _mixed(self.mean, mix))


def _mixed(values: torch.Tensor, mix: torch.Tensor) -> torch.Tensor:
    real, fake = values.chunk(2)
    return fake.lerp(real, mix.view(-1, *[1] * (values.dim() - 1)).to(values.dtype))


class Critic(nn.Module):
    """Conv layers with layer norm and leaky ReLU > score head and class head (paper, Sec. 5.1).

    With `utterance_branch`, an MLP on the utterance mean joins before the heads; its maps count in Eq. 3 too.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        width, self.frames, self.dim = network.critic_channels, network.frames, network.dim
        self.one_dimensional = network.architecture == "gan_1d"
        layers, size = _layers_1d(network) if self.one_dimensional else _layers_2d(network)
        self.layers = nn.ModuleList(layers)
        self.utterance = nn.ModuleList([
            nn.Sequential(nn.Linear(network.dim, width), MeanSampleNorm(width), nn.LeakyReLU(0.2)),
            nn.Sequential(nn.Linear(width, width), MeanSampleNorm(width), nn.LeakyReLU(0.2)),
        ]) if network.utterance_branch else None
        size += width if network.utterance_branch else 0
        self.score, self.classify = nn.Linear(size, 1), nn.Linear(size, network.classes)

    def forward(self, frames: torch.Tensor) -> CriticOutput:
        """frames: [B, T, D], standardised."""
        return self.rest(self.first(frames))

    def first(self, frames: torch.Tensor) -> FirstOutput:
        """The linear beginning. frames: [B, T, D], standardised."""
        x = frames if self.one_dimensional else frames[..., None].permute(0, 3, 1, 2)  # one channel, channels last
        maps = _beginning(self.layers)(x)
        if self.utterance is None:
            return FirstOutput(maps, None)
        return FirstOutput(maps, _beginning(self.utterance)(frames.mean(dim=1) * UTTERANCE_SCALE))

    def rest(self, first: FirstOutput) -> CriticOutput:
        """All that follows."""
        x, maps = first.maps, []
        for layer in _behind(self.layers):
            x = layer(x)
            maps.append(x)
        x = x.flatten(1)
        if self.utterance is not None and first.mean is not None:
            mean = first.mean
            for layer in _behind(self.utterance):
                mean = layer(mean)
                maps.append(mean)
            x = torch.cat([x, mean], dim=1)
        # no loss of the critic depends on the score's bias, and Adam would make whole steps of its rounding
        score = F.linear(x, self.score.weight, self.score.bias.detach())
        return CriticOutput(score[:, 0], self.classify(x), maps)

    def gradient(self, first: FirstOutput) -> torch.Tensor:
        """The gradient [B, T, D] of each sample's score by its frames, with a graph of its own, in full precision."""
        points = [values.requires_grad_() for values in first.values()]
        of_maps, *of_mean = torch.autograd.grad(self.rest(first).score.sum(), points, create_graph=True)
        conv = _beginning(self.layers)
        if isinstance(conv, TapTimeConv):
            of_frames = conv.of_inputs(of_maps, self.frames)
        else:
            assert isinstance(conv, CriticConv2d)
            of_frames = conv.of_inputs(of_maps, self.frames, self.dim)[:, 0]
        if self.utterance is not None:
            linear = _beginning(self.utterance)
            assert isinstance(linear, nn.Linear)
            of_means = of_mean[0] @ linear.weight * UTTERANCE_SCALE  # [B, D]
            of_frames = of_frames + of_means[:, None] / self.frames
        return of_frames.float() if of_frames.dtype == torch.bfloat16 else of_frames


def _beginning(layers: nn.ModuleList) -> nn.Conv2d | TapTimeConv | nn.Linear:
    """The convolution or linear layer that comes first."""
    first = layers[0]
    assert isinstance(first, nn.Sequential)
    layer = first[0]
    assert isinstance(layer, nn.Conv2d | TapTimeConv | nn.Linear)
    return layer


def _behind(layers: nn.ModuleList) -> list[nn.Module]:
    """All but that: the first layer's norm and activation, then the other layers."""
    first, *others = layers
    assert isinstance(first, nn.Sequential)
    return [first[1:], *others]


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
