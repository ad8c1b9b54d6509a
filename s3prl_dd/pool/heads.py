"""SER heads, many at once: S3PRL's emotion head (SUPERB) as a stack of M heads.

The head is Linear D->256, mean over time, Linear 256->C: it is linear in the utterance mean, so on equal means it gives
equal logits whatever the number of frames.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
import torch.nn as nn

from ..rng import keyed

PROJECTOR_DIM = 256
"""S3PRL's projector_dim."""

PROJECTOR, OUTPUT = "projector", "model.post_net.linear"

SUPERB_KEYS = (f"{PROJECTOR}.weight", f"{PROJECTOR}.bias", f"{OUTPUT}.weight", f"{OUTPUT}.bias")
"""S3PRL's own state_dict keys, so that checkpoints of a real run can be stacked as they are."""


class LinearHeads(NamedTuple):
    """Heads as one linear map each: logits = weight @ utterance mean + bias."""

    weight: torch.Tensor  # [M, C, D]
    bias: torch.Tensor  # [M, C]

    def pick(self, indices: torch.Tensor) -> "LinearHeads":
        """The heads of these numbers [m]."""
        return LinearHeads(self.weight[indices], self.bias[indices])

    def of_means(self, means: torch.Tensor) -> torch.Tensor:
        """Logits [M, B, C] of utterance means [B, D]."""
        return means @ self.weight.transpose(1, 2) + self.bias[:, None]


class Heads(nn.Module):
    """M heads of SUPERB: Linear > mean over time > Linear."""

    def __init__(self, stack: Mapping[str, torch.Tensor]) -> None:
        """stack: each of SUPERB_KEYS -> [M, ...]"""
        super().__init__()
        self.stack = nn.ParameterDict({key.replace(".", "/"): nn.Parameter(value) for key, value in stack.items()})

    @classmethod
    def create(cls, seeds: Iterable[object], dim: int, classes: int) -> "Heads":
        """Fresh heads with torch's initial weights for nn.Linear, one for each seed (any word or number)."""
        seeds = list(seeds)
        stack = {}
        for name, fan_in, fan_out in ((PROJECTOR, dim, PROJECTOR_DIM), (OUTPUT, PROJECTOR_DIM, classes)):
            for part, shape in (("weight", (fan_out, fan_in)), ("bias", (fan_out,))):
                draws = [torch.rand(shape, generator=keyed(seed, name, part)) for seed in seeds]
                stack[f"{name}.{part}"] = (2 * torch.stack(draws) - 1) / fan_in**0.5
        return cls(stack)

    def get(self, key: str) -> torch.Tensor:
        """The parameter [M, ...] of one of SUPERB_KEYS."""
        return self.stack[key.replace(".", "/")]

    def __len__(self) -> int:
        return len(self.get(SUPERB_KEYS[0]))

    @property
    def dim(self) -> int:
        """D, the features' dimensions that the heads take."""
        return self.get(SUPERB_KEYS[0]).shape[2]

    def state(self) -> dict[str, torch.Tensor]:
        """S3PRL key -> a copy of its parameter [M, ...]."""
        return {key.replace("/", "."): value.detach().clone() for key, value in self.stack.items()}

    def pick(self, indices: torch.Tensor) -> "Heads":
        """The heads of these numbers [m], as Heads."""
        return Heads({key.replace("/", "."): value.detach()[indices] for key, value in self.stack.items()})

    def forward(self, frames: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Logits [M, B, C] of frames [B, T, D]; mask: [B, T], True on real frames, None where all are."""
        return self.of_means(pool_mean(frames, mask))

    def of_means(self, means: torch.Tensor) -> torch.Tensor:
        """Logits [M, B, C] of utterance means [B, D], or of a batch for each head [M, B, D]."""
        hidden = means @ self.get(SUPERB_KEYS[0]).transpose(1, 2) + self.get(SUPERB_KEYS[1])[:, None]
        return hidden @ self.get(SUPERB_KEYS[2]).transpose(1, 2) + self.get(SUPERB_KEYS[3])[:, None]

    def linear(self) -> LinearHeads:
        """Each head's two layers as one."""
        first, first_bias, last, last_bias = (self.get(key) for key in SUPERB_KEYS)
        return LinearHeads(last @ first, torch.einsum("mch,mh->mc", last, first_bias) + last_bias)


def pool_mean(frames: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """[B, T, D] -> [B, D], over the frames where mask [B, T] is True."""
    if mask is None:
        return frames.mean(dim=-2)
    return (frames * mask[..., None]).sum(dim=-2) / mask.sum(dim=-1, keepdim=True)
