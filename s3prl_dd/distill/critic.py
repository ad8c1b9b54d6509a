"""The critics of GAN-CNN, GAN-ATT (paper, Sec. 5.1) and GAN-1D: frames [B, T, D] -> CriticOutput."""

from typing import NamedTuple

import torch
import torch.nn as nn

from ..generator.networks import TimeConv


class CriticOutput(NamedTuple):
    """score: [B], D(x); logits: [B, C], D_cls(x); maps: the feature maps D^l(x) of Eq. 3, each [B, ...]."""

    score: torch.Tensor
    logits: torch.Tensor
    maps: list


class SampleNorm(nn.GroupNorm):
    """Layer norm of a critic's maps [B, channels, ...]: over channels and positions of one sample (one group)."""

    def __init__(self, channels):
        super().__init__(1, channels)


class TimeSampleNorm(SampleNorm):
    """The same of [B, T, channels]."""

    def forward(self, x):
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class Critic(nn.Module):
    """Conv layers with layer norm and leaky ReLU > score head and class head (paper, Sec. 5.1).

    With `utterance_branch`, an MLP on the utterance mean joins before the heads; its maps count in Eq. 3 too.
    """

    def __init__(self, config):
        super().__init__()
        self.config = config
        width = config.critic_channels
        self.one_dimensional = config.architecture == "gan_1d"
        layers = []
        if self.one_dimensional:
            for number, stride in enumerate((1, 2, 2, 1)):
                layers.append(nn.Sequential(TimeConv(config.dim if number == 0 else width, width, config.kernel, stride),
                                            TimeSampleNorm(width), nn.LeakyReLU(0.2)))
            size = width * (config.frames // 4)
        else:
            time, dim, before = config.frames, config.dim, 1
            for number in range(1, 9):  # every other layer halves time and dim
                stride = 2 if number % 2 == 0 and number < 8 else 1
                after = width // 4 if number <= 2 else width // 2 if number <= 4 else width
                layers.append(nn.Sequential(nn.Conv2d(before, after, config.kernel, stride, config.kernel // 2),
                                            SampleNorm(after), nn.LeakyReLU(0.2)))
                time, dim, before = -(-time // stride), -(-dim // stride), after
            size = width * time * dim
        self.layers = nn.ModuleList(layers)
        self.utterance = nn.ModuleList([
            nn.Sequential(nn.Linear(config.dim, width), nn.LayerNorm(width), nn.LeakyReLU(0.2)),
            nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width), nn.LeakyReLU(0.2)),
        ]) if config.utterance_branch else None
        size += width if config.utterance_branch else 0
        self.score, self.classify = nn.Linear(size, 1), nn.Linear(size, config.classes)

    def forward(self, frames):
        """frames: [B, T, D] -> CriticOutput"""
        maps = []
        x = frames if self.one_dimensional else frames[:, None]  # the 2-D critic sees one channel
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


UTTERANCE_SCALE = 5.0  # means of standardised frames spread by about 0.2 (RAVDESS); the branch sees about unit spread
