"""What the distiller trains on: a fold's real utterances as T frames each, standardised, and their statistics."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F

from ..errors import UserError
from ..rng import keyed

FRAMINGS = ("resample", "crop")


@dataclass
class TrainingData:
    """A fold's features, ready for a GAN.

    utterances: list of N real ones, [T_i, D] raw; labels: [N]; dev: (means [N', D] raw, labels [N'])
    mean, std: [D] of the framed frames
    resident: standardised, where the GAN draws from: [N, T, D] ("resample") or all frames, [sum of T_i, D] ("crop")
    """

    utterances: list
    labels: torch.Tensor
    dev: tuple
    mean: torch.Tensor
    std: torch.Tensor
    framing: str
    frames: int
    resident: torch.Tensor

    @classmethod
    def build(cls, utterances, labels, dev, framing="resample", frames=16):
        if framing not in FRAMINGS:
            raise UserError(f"framing {framing!r}: expected one of {', '.join(FRAMINGS)}.")
        labels = torch.as_tensor(labels)
        shortest = min(len(utterance) for utterance in utterances)
        needed = frames if framing == "crop" else 2
        if shortest < needed:
            raise UserError(f"an utterance has {shortest} frames, framing {framing!r} needs {needed} or more. "
                            "Remove it from the metadata, or use fewer frames or framing: resample.")
        resident = torch.stack([resample(item, frames) for item in utterances]) if framing == "resample" else torch.cat(utterances)
        flat = resident.view(-1, resident.shape[-1])
        mean, std = flat.mean(dim=0), flat.std(dim=0).clamp(min=1e-5)
        return cls(utterances, labels, dev, mean, std, framing, frames, (resident - mean) / std)

    @classmethod
    def from_store(cls, store, fold, framing="resample", frames=16):
        """From a FeatureStore and a corpora.metadata.Fold."""
        labels, dev_labels = ([fold.train.labels[utterance.label] for utterance in part.utterances]
                              for part in (fold.train, fold.dev))
        dev = store.means(store.select(fold.dev)), torch.tensor(dev_labels)
        return cls.build([store[i] for i in store.select(fold.train)], labels, dev, framing, frames)

    @cached_property
    def means(self):
        """Raw utterance means [N, D]."""
        return torch.stack([utterance.mean(dim=0) for utterance in self.utterances])

    @cached_property
    def lengths(self):
        """Frames of each utterance [N]."""
        return torch.tensor([len(utterance) for utterance in self.utterances])

    @property
    def class_counts(self):
        return torch.bincount(self.labels).tolist()

    def length_percentiles(self):
        """Per class, 101 percentiles of the real lengths in frames."""
        return [np.percentile(self.lengths[self.labels == label].numpy(), np.arange(101)).round(1).tolist()
                for label in range(len(self.class_counts))]

    def draw(self, labels, *key):
        """A real utterance of each label [B] at random, and where a crop of it starts: indices [B], starts [B] in [0, 1)."""
        generator = keyed(*key)
        chance = torch.rand(len(labels), generator=generator)
        indices = torch.empty(len(labels), dtype=torch.long)
        for label in labels.unique():
            members = (self.labels == label).nonzero()[:, 0]
            here = labels == label
            indices[here] = members[(chance[here] * len(members)).long()]
        return indices, torch.rand(len(labels), generator=generator)

    def frames_of(self, indices, starts):
        """Standardised frames [B, T, D] of these utterances on the data's device; starts count for crops alone."""
        if self.framing == "resample":
            return self.resident[indices.to(self.resident.device)]
        lengths = self.lengths[indices]
        first = self.lengths.cumsum(0)[indices] - lengths + (starts * (lengths - self.frames + 1)).long()
        rows = first[:, None] + torch.arange(self.frames)  # [B, T]
        return self.resident[rows.to(self.resident.device)]

    def to(self, device):
        """Keep the frames that the GAN draws from on this device: no copy at each step."""
        self.resident = self.resident.to(device)
        return self


def resample(frames, size):
    """A whole utterance [T_i, D] in `size` frames: averages of equal spans, or linear interpolation of a shorter one.

    Averaging keeps the utterance mean (up to spans that differ by one frame).
    """
    columns = frames.T[None]  # [1, D, T_i]
    if len(frames) >= size:
        return F.adaptive_avg_pool1d(columns, size)[0].T
    return F.interpolate(columns, size=size, mode="linear", align_corners=False)[0].T
