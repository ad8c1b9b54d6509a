"""Heads that are linear in the utterance mean: a generator file's teacher, SUPERB's heads, those in closed form."""

from typing import NamedTuple

import torch


class LinearHeads(NamedTuple):
    """M heads as one linear map each: logits = weight @ utterance mean + bias."""

    weight: torch.Tensor
    """[M, C, D]"""

    bias: torch.Tensor
    """[M, C]"""

    def pick(self, indices: torch.Tensor) -> "LinearHeads":
        """The heads of these numbers [m]."""
        return LinearHeads(self.weight[indices], self.bias[indices])

    def to(self, device: torch.device) -> "LinearHeads":
        """The same on this device."""
        return LinearHeads(self.weight.to(device), self.bias.to(device))

    def of_means(self, means: torch.Tensor) -> torch.Tensor:
        """Logits [M, B, C] of utterance means [B, D]."""
        return means @ self.weight.transpose(1, 2) + self.bias[:, None]

    def soften(self, means: torch.Tensor) -> torch.Tensor:
        """Soft labels [B, C], the heads' mean softmax, of utterance means [B, D]."""
        return self.of_means(means).softmax(dim=-1).mean(dim=0)
