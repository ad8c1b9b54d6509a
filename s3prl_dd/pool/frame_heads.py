"""Frame-level heads: S3PRL's attentive pooling, and its CNN with self-attention, as stacks of M heads.

They give what S3PRL's modules give, with the sums in another order: the projector is linear, so that it may come after
attention has summed the frames, and after the average pooling that the CNN begins with. As in S3PRL, what is padded
passes the projector and is its bias then.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import AfterValidator

from .heads import OUTPUT, PROJECTOR, PROJECTOR_DIM, Heads, HeadStack, linear
from .kinds import HeadName

ATTENTION = "model.pooling.sap_layer"

CHANNELS, TAPS, DROPOUT = 80, 5, 0.4
"""S3PRL's DeepModel: hidden_dim; kernel_size, which is its pooling too; dropout."""

CONVOLUTIONS = ("model.model.model_seq.2", "model.model.model_seq.5", "model.model.model_seq.8")


class AttentiveHeads(HeadStack):
    """Linear > attentive pooling (Linear, ReLU, Linear, softmax over time) > Linear."""

    kind = "attentive"

    @staticmethod
    def layers(dim: int, classes: int) -> dict[str, tuple[int, ...]]:
        """Of S3PRL's UtteranceLevel with AttentivePooling, behind its projector."""
        return {PROJECTOR: (PROJECTOR_DIM, dim), f"{ATTENTION}.W_a": (PROJECTOR_DIM, PROJECTOR_DIM),
                f"{ATTENTION}.W": (1, PROJECTOR_DIM), OUTPUT: (classes, PROJECTOR_DIM)}

    def forward(self, frames: torch.Tensor, lengths: torch.Tensor | None = None,
                dropout: Sequence[torch.Generator] | None = None) -> torch.Tensor:
        """As HeadStack says. There is no dropout.

        S3PRL adds its mask of ones to the attention's logits, so that padding is attended to, e times less.
        """
        project, project_bias = self.layer(PROJECTOR)
        hidden, hidden_bias = self.layer(f"{ATTENTION}.W_a")
        last, last_bias = self.layer(f"{ATTENTION}.W")
        weight = hidden @ project  # [M, 256, D]
        bias = torch.einsum("moi,mi->mo", hidden, project_bias) + hidden_bias
        steps = linear(frames.flatten(-3, -2), weight, bias).relu()  # [M, B * T, 256]
        logits = linear(steps, last, last_bias).unflatten(1, frames.shape[-3:-1])[..., 0]  # [M, B, T]
        if lengths is not None:
            logits = logits + is_frame(lengths, frames.shape[-2])
        pooled = torch.einsum("mbt,...btd->mbd" if frames.dim() == 3 else "mbt,mbtd->mbd", logits.softmax(-1), frames)
        return linear(linear(pooled, project, project_bias), *self.layer(OUTPUT))


class CnnHeads(HeadStack):
    """Linear > mean of 5 frames at a time > three convolutions > self-attention pooling > Linear, ReLU, Linear."""

    kind = "cnn"

    @staticmethod
    def layers(dim: int, classes: int) -> dict[str, tuple[int, ...]]:
        """Of S3PRL's DeepModel with CNNSelfAttention, behind its projector."""
        first, *others = CONVOLUTIONS
        return {PROJECTOR: (PROJECTOR_DIM, dim), first: (CHANNELS, PROJECTOR_DIM, TAPS),
                **{name: (CHANNELS, CHANNELS, TAPS) for name in others}, "model.model.pooling.W": (1, CHANNELS),
                "model.model.out_layer.0": (CHANNELS, CHANNELS), "model.model.out_layer.2": (classes, CHANNELS)}

    def forward(self, frames: torch.Tensor, lengths: torch.Tensor | None = None,
                dropout: Sequence[torch.Generator] | None = None) -> torch.Tensor:
        """As HeadStack says."""
        maps = self._project(frames)  # [M, B, T', 256]
        for number, name in enumerate(CONVOLUTIONS):
            maps = maps if number == 0 else maps.relu()
            maps = self._convolve(_drop(maps, dropout), name)  # [M, B, T', 80]
        logits = linear(maps.flatten(1, 2), *self.layer("model.model.pooling.W"))
        logits = logits.unflatten(1, maps.shape[1:3])[..., 0]  # [M, B, T']
        if lengths is not None:
            logits = logits - 1e5 * ~is_frame(-(-lengths // TAPS), maps.shape[2])
        pooled = torch.einsum("mbt,mbtc->mbc", logits.softmax(dim=-1), maps)
        hidden = linear(pooled, *self.layer("model.model.out_layer.0")).relu()
        return linear(hidden, *self.layer("model.model.out_layer.2"))

    def _project(self, frames: torch.Tensor) -> torch.Tensor:
        """Average pooling, then the projector, whose bias weighs less where the pooling meets the zeros around."""
        weight, bias = self.layer(PROJECTOR)
        columns = frames.flatten(0, -3).transpose(1, 2)  # [n, D, T]
        pooled = F.avg_pool1d(columns, TAPS, padding=TAPS // 2).transpose(1, 2).unflatten(0, frames.shape[:-2])
        inside = F.avg_pool1d(frames.new_ones(1, 1, frames.shape[-2]), TAPS, padding=TAPS // 2)[0, 0]  # [T']
        maps = pooled.flatten(-3, -2) @ weight.transpose(1, 2)
        return maps.unflatten(1, pooled.shape[-3:-1]) + bias[:, None, None] * inside[:, None]

    def _convolve(self, maps: torch.Tensor, name: str) -> torch.Tensor:
        """A convolution over time of each head, as one product. [M, B, T', in] -> [M, B, T', out]"""
        weight, bias = self.layer(name)
        windows = F.pad(maps, (0, 0, TAPS // 2, TAPS // 2)).unfold(2, TAPS, 1)  # [M, B, T', in, taps]
        return linear(windows.flatten(3).flatten(1, 2), weight.flatten(2), bias).unflatten(1, maps.shape[1:3])


STACKS: dict[str, type[HeadStack]] = {stack.kind: stack for stack in (Heads, AttentiveHeads, CnnHeads)}
"""Kind -> its stack."""


def _has_stack(kind: HeadName) -> HeadName:
    if kind not in STACKS:
        raise ValueError(f"the pool has no {kind} heads; expected {' or '.join(STACKS)}")
    return kind


Kind = Annotated[HeadName, AfterValidator(_has_stack)]
"""A kind of heads that the pool has: the name of a stack."""


def is_frame(lengths: torch.Tensor, frames: int) -> torch.Tensor:
    """[...] -> [..., frames], True on the first ones."""
    return torch.arange(frames, device=lengths.device) < lengths[..., None]


def _drop(maps: torch.Tensor, sources: Sequence[torch.Generator] | None) -> torch.Tensor:
    """Dropout of [M, ...], each head by its own source of noise; nothing without sources."""
    if sources is None:
        return maps
    chance = torch.stack([torch.rand(maps.shape[1:], generator=source, device=maps.device) for source in sources])
    return maps * (chance >= DROPOUT) / (1 - DROPOUT)
