"""An upstream that counts its runs, and S3PRL's Featurizer over it."""

import torch
from torch import nn


class Counting(nn.Module):
    """3 states of 10 dimensions that depend on the padded length, as batch norm over time would.

    It gives a frame or two more than Featurizer's round(samples / rate).
    """

    rate = 320

    def __init__(self):
        super().__init__()
        self.runs = 0

    def get_downsample_rates(self, key):
        return self.rate

    def forward(self, wavs):
        self.runs += 1
        padded = nn.functional.pad(nn.utils.rnn.pad_sequence(wavs, batch_first=True), (0, 2 * self.rate))
        frames = padded.unfold(1, self.rate, self.rate)[..., :10] + padded.shape[1] / 16000  # [B, T, 10]
        return {"hidden_states": [frames * layer for layer in (1, 2, 3)], "last_hidden_state": frames * 3}


def counting(weights=(0.0, 0.0, 0.0), selection="hidden_states", layer=None):
    """(upstream, S3PRL's Featurizer with these weights before softmax)"""
    from s3prl_dd.plugin.compat import mend

    mend()
    from s3prl.upstream.interfaces import Featurizer

    upstream = Counting()
    featurizer = Featurizer(upstream, selection, "cpu", layer)
    if hasattr(featurizer, "weights"):
        featurizer.weights.data.copy_(torch.tensor(weights))
    return upstream, featurizer
