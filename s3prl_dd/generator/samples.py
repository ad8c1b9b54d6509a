"""Samples: what a generator gives, and what is done with a batch of them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch.nn.utils.rnn import pad_sequence

from ..files import atomic_path


@dataclass(frozen=True, eq=False)
class Samples:
    """B samples, padded to the longest one."""

    features: torch.Tensor
    """[B, T, D], zero behind each length."""

    lengths: torch.Tensor
    """[B], frames."""

    labels: torch.Tensor
    """[B], class indices."""

    soft_labels: torch.Tensor | None
    """[B, C], rows sum to 1; None where the file carries no teacher."""

    @classmethod
    def join(cls, parts: Sequence["Samples"]) -> "Samples":
        """Batches behind one another, padded to the longest sample of all."""
        longest = max(part.features.shape[1] for part in parts)
        padded = [F.pad(part.features, (0, 0, 0, longest - part.features.shape[1])) for part in parts]
        soft = [part.soft_labels for part in parts if part.soft_labels is not None]
        return cls(torch.cat(padded), torch.cat([part.lengths for part in parts]),
                   torch.cat([part.labels for part in parts]), torch.cat(soft) if soft else None)

    def means(self) -> torch.Tensor:
        """Utterance means [B, D]"""
        if bool((self.lengths == self.features.shape[1]).all()):
            return self.features.mean(dim=1)
        return self.features.sum(dim=1) / self.lengths.to(self.features.device)[:, None]

    def save(self, path: str | Path, about: dict[str, str]) -> None:
        """Write them as safetensors, one tensor a field that is there, with `about` as metadata."""
        tensors = {item.name: getattr(self, item.name) for item in fields(self)}
        tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items() if tensor is not None}
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata=about)


def index_labels(counts: Sequence[int]) -> torch.Tensor:
    """Class index of each sample number: [0] * counts[0] + [1] * counts[1] + ... -> [sum of counts]"""
    return torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))


def places_of(labels: torch.Tensor) -> torch.Tensor:
    """The place of each of a set's samples among those of its class, from 0, in the set's order. labels: [N] -> [N]"""
    order = labels.argsort(stable=True)
    counts = torch.bincount(labels)
    first = (counts.cumsum(0) - counts).repeat_interleave(counts)  # [N], by class
    places = torch.empty_like(order)
    places[order] = torch.arange(len(labels), device=labels.device) - first
    return places


def length_at(percentiles: Sequence[float], quantile: float) -> int:
    """The length, at least 1 frame, that `quantile` percent of a class fall below. percentiles: [101]"""
    return max(1, round(float(np.interp(quantile, np.arange(101), percentiles))))


def stretch(frames: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
    """Each sample in its own number of frames, by linear interpolation over time. [B, T, D] -> [B, longest, D]"""
    stretched = [F.interpolate(sample.T[None], size=length, mode="linear", align_corners=False)[0].T
                 for sample, length in zip(frames, lengths, strict=True)]
    return pad_sequence(stretched, batch_first=True)
