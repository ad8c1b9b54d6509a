"""SER heads, many at once: S3PRL's emotion heads as stacks of M heads of one kind, and SUPERB's.

SUPERB's head is Linear D->256, mean over time, Linear 256->C: it is linear in the utterance mean, so on equal means it
gives equal logits whatever the number of frames. Frame-level heads are in frame_heads.py.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import ClassVar, Self

import torch
import torch.nn as nn

from ..generator.heads import LinearHeads
from ..rng import keyed
from .kinds import HeadName

PROJECTOR_DIM = 256
"""S3PRL's projector_dim."""

PROJECTOR, OUTPUT = "projector", "model.post_net.linear"

SUPERB_KEYS = (f"{PROJECTOR}.weight", f"{PROJECTOR}.bias", f"{OUTPUT}.weight", f"{OUTPUT}.bias")
"""S3PRL's own state_dict keys, so that checkpoints of a real run can be stacked as they are."""


class HeadStack(nn.Module):
    """M heads of one kind, their parameters stacked under S3PRL's own state_dict keys."""

    kind: ClassVar[HeadName]
    """Which of kinds.HEADS."""

    def __init__(self, stack: Mapping[str, torch.Tensor]) -> None:
        """stack: each of keys() -> [M, ...]"""
        super().__init__()
        self.stack = nn.ParameterDict({key.replace(".", "/"): nn.Parameter(value) for key, value in stack.items()})

    @staticmethod
    def layers(dim: int, classes: int) -> dict[str, tuple[int, ...]]:
        """Layer -> the shape of its weight, [outputs, inputs] or [outputs, inputs, taps]; each has a bias too."""
        raise NotImplementedError

    @classmethod
    def keys(cls) -> tuple[str, ...]:
        """S3PRL's state_dict keys, in order."""
        return tuple(f"{name}.{part}" for name in cls.layers(1, 1) for part in ("weight", "bias"))

    @classmethod
    def create(cls, seeds: Iterable[object], dim: int, classes: int) -> Self:
        """Fresh heads with torch's initial weights, one for each seed (any word or number)."""
        seeds = list(seeds)
        stack = {}
        for name, weight in cls.layers(dim, classes).items():
            for part, shape in (("weight", weight), ("bias", weight[:1])):
                draws = [torch.rand(shape, generator=keyed(seed, name, part)) for seed in seeds]
                stack[f"{name}.{part}"] = (2 * torch.stack(draws) - 1) / prod(weight[1:])**0.5
        return cls(stack)

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """The heads of all parts behind one another."""
        states = [part.state() for part in parts]
        return cls({key: torch.cat([state[key] for state in states]) for key in cls.keys()})

    def get(self, key: str) -> torch.Tensor:
        """The parameter [M, ...] of one of keys()."""
        return self.stack[key.replace(".", "/")]

    def layer(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight [M, outputs, ...] and bias [M, outputs] of a layer."""
        return self.get(f"{name}.weight"), self.get(f"{name}.bias")

    def __len__(self) -> int:
        return len(self.get(SUPERB_KEYS[0]))

    @property
    def dim(self) -> int:
        """D, the features' dimensions that the heads take."""
        return self.get(SUPERB_KEYS[0]).shape[2]

    def state(self) -> dict[str, torch.Tensor]:
        """S3PRL key -> a copy of its parameter [M, ...]."""
        return {key.replace("/", "."): value.detach().clone() for key, value in self.stack.items()}

    def pick(self, indices: torch.Tensor) -> Self:
        """The heads of these numbers [m]."""
        return type(self)({key.replace("/", "."): value.detach()[indices] for key, value in self.stack.items()})

    def forward(self, frames: torch.Tensor, lengths: torch.Tensor | None = None,
                dropout: Sequence[torch.Generator] | None = None) -> torch.Tensor:
        """Logits [M, B, C] of frames [B, T, D], or of a batch for each head [M, B, T, D].

        lengths: [B] or [M, B], frames that count, zeros behind them; None where all do
        dropout: a source of noise for each head, which then trains; None for heads at work
        """
        raise NotImplementedError


class Heads(HeadStack):
    """M heads of SUPERB: Linear > mean over time > Linear."""

    kind = "superb"

    @staticmethod
    def layers(dim: int, classes: int) -> dict[str, tuple[int, ...]]:
        """Of S3PRL's UtteranceLevel with MeanPooling, behind its projector."""
        return {PROJECTOR: (PROJECTOR_DIM, dim), OUTPUT: (classes, PROJECTOR_DIM)}

    def forward(self, frames: torch.Tensor, lengths: torch.Tensor | None = None,
                dropout: Sequence[torch.Generator] | None = None) -> torch.Tensor:
        """As HeadStack says. There is no dropout."""
        return self.of_means(pool_mean(frames, lengths))

    def of_means(self, means: torch.Tensor) -> torch.Tensor:
        """Logits [M, B, C] of utterance means [B, D], or of a batch for each head [M, B, D]."""
        return linear(linear(means, *self.layer(PROJECTOR)), *self.layer(OUTPUT))

    @torch.no_grad()
    def linear(self) -> LinearHeads:
        """Each head's two layers as one; no gradient passes."""
        (first, first_bias), (last, last_bias) = self.layer(PROJECTOR), self.layer(OUTPUT)
        return LinearHeads(last @ first, torch.einsum("mch,mh->mc", last, first_bias) + last_bias)


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """A linear layer of each head: x [n, in] or [M, n, in], weight [M, out, in], bias [M, out] -> [M, n, out]."""
    return torch.baddbmm(bias[:, :, None], weight, x.transpose(-1, -2).expand(len(weight), -1, -1)).transpose(1, 2)


def pool_mean(frames: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
    """[..., T, D] -> [..., D], over the first frames alone where lengths [...] are given, zeros behind them."""
    if lengths is None:
        return frames.mean(dim=-2)
    return frames.sum(dim=-2) / lengths[..., None]
