"""Where real speech is read from: what each source can do, and those in memory (on the disk: stored.py)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch


class UtteranceSource(Protocol):
    """N utterances, number i as frames [T_i, D], float32 as the upstream gave them."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> torch.Tensor: ...

    def __iter__(self) -> Iterator[torch.Tensor]: ...

    def lengths(self) -> torch.Tensor:
        """Frames of each [N]."""

    def means(self) -> torch.Tensor:
        """Utterance means [N, D]."""

    def first_numbers(self) -> torch.Tensor:
        """The first number of each, float32 [N]."""


class FrameSource(Protocol):
    """What a GAN draws real frames from: standardised, T frames of an utterance at a time."""

    @property
    def device(self) -> torch.device:
        """Where `read` puts them."""

    def read(self, indices: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
        """Frames [B, T, D], float32, of these utterances [B]; starts: [B] in [0, 1), where a crop begins."""

    def to(self, device: torch.device) -> "FrameSource":
        """The same, for another device."""


@dataclass(frozen=True, eq=False)
class UtterancesInMemory:
    """An UtteranceSource of tensors."""

    utterances: Sequence[torch.Tensor]

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, index: int, /) -> torch.Tensor:
        return self.utterances[index]

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(self.utterances)

    def lengths(self) -> torch.Tensor:
        """Frames of each [N]."""
        return torch.tensor([len(utterance) for utterance in self.utterances])

    def means(self) -> torch.Tensor:
        """Utterance means [N, D]."""
        return torch.stack([utterance.mean(dim=0) for utterance in self.utterances])

    def first_numbers(self) -> torch.Tensor:
        """The first number of each [N]."""
        return torch.stack([utterance[0, 0] for utterance in self.utterances])


@dataclass(frozen=True, eq=False)
class FramesInMemory:
    """A FrameSource of one tensor, which lies on the device: no copy at each step."""

    values: torch.Tensor
    """Standardised: each utterance in T frames [N, T, D], or for crops all frames of all utterances [sum of T_i, D]."""

    crops_of: torch.Tensor | None
    """For crops, the frames of each utterance [N]."""

    frames: int
    """T"""

    @property
    def device(self) -> torch.device:
        """Where the frames lie."""
        return self.values.device

    def read(self, indices: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
        """See FrameSource."""
        if self.crops_of is None:
            return self.values[indices.to(self.device, non_blocking=True)]
        first_rows = self.crops_of.cumsum(0) - self.crops_of  # [N], where each utterance begins
        first = first_rows[indices] + crop_starts(self.crops_of[indices], starts, self.frames)
        rows = first[:, None] + torch.arange(self.frames)  # [B, T]
        return self.values[rows.to(self.device, non_blocking=True)]

    def to(self, device: torch.device) -> "FramesInMemory":
        """See FrameSource."""
        return replace(self, values=self.values.to(device))


def crop_starts(lengths: torch.Tensor, starts: torch.Tensor, frames: int) -> torch.Tensor:
    """The first frame of a crop of each utterance [B]; lengths: [B] in frames; starts: [B] in [0, 1)"""
    return (starts * (lengths - frames + 1)).long()
