"""Samples of a generator file as a torch Dataset."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from .budget import Budget
from .generator import Generator, check_lengths
from .samples import Samples, index_labels
from .sampling import DEFAULTS, Lengths

KEPT_BYTES = 10**9
"""A set up to this size (as float32) is kept in memory."""


class Item(NamedTuple):
    """One sample."""

    features: torch.Tensor
    """[T, D]"""

    label: int
    """Class index."""

    soft_label: torch.Tensor | None
    """[C], sums to 1; None where the file carries no teacher."""

    name: str
    """generated-EPOCH-NUMBER."""


class GeneratedDataset(Dataset[Item]):
    """Samples of a generator as a map-style dataset, for any DataLoader, worker or distributed sampler.

    Item i is sample i of Generator.sample with the same budget, seed, epoch, lengths and center. With `resample` each
    epoch (set_epoch) is a new draw; without it every epoch is the same fixed set.

    A set of up to KEPT_BYTES is drawn once, whole, by set_epoch (a fixed one when the dataset is made), so worker
    processes share it. Of a larger one each batch is drawn when it is asked for, and centring takes a pass of its own.
    """

    def __init__(self, generator: Generator, budget: Budget, seed: int = 0, resample: bool = DEFAULTS.resample,
                 lengths: Lengths = DEFAULTS.lengths, center: bool = DEFAULTS.center) -> None:
        check_lengths(lengths)
        self.generator, self.seed, self.resample, self.lengths, self.center = generator, seed, resample, lengths, center
        self.counts = generator.counts(budget)
        self.labels = index_labels(self.counts)
        self.epoch: int | None = None  # of the set that is there
        self.items: list[Item] | None = None
        self.shift: torch.Tensor | None = None
        if not resample:
            self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Make the set of this epoch the one that is served; a fixed set stays as it is."""
        epoch = epoch if self.resample else 0
        if epoch == self.epoch:
            return
        self.epoch, self.items, self.shift = epoch, None, None
        if self.set_bytes() <= KEPT_BYTES:
            self.items = self._draw_all(epoch)
        elif self.center:
            self.shift = self.generator.shift(self.labels, self.seed, epoch)

    def _draw_all(self, epoch: int) -> list[Item]:
        items: list[Item] = []
        for part in self.generator.draw_set(self.labels, self.seed, epoch, self.lengths, center=self.center):
            items += split(part, range(len(items), len(items) + len(part.labels)), epoch)
        return items

    def set_bytes(self) -> int:
        """What the set takes in memory, at most."""
        header = self.generator.header
        longest = header.network.frames
        if self.lengths == "corpus":
            longest = 1 + int(max(map(max, header.lengths)))
        return 4 * header.network.dim * longest * len(self)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Item:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Item]:
        """A whole batch at once (torch's DataLoader calls this where it can)."""
        indices = [int(index) for index in indices]
        if min(indices) < 0 or max(indices) >= len(self):
            raise IndexError(f"index out of range for {len(self)} samples")
        if self.epoch is None:
            self.set_epoch(0)
        if self.items is not None:
            return [self.items[index] for index in indices]
        epoch = self.epoch or 0
        batch = self.generator.generate(self.labels[indices], indices, self.seed, epoch, self.lengths, self.shift)
        return split(batch, indices, epoch)

    @staticmethod
    def collate(items: Sequence[Item]) -> Samples:
        """Items -> Samples, padded: a DataLoader's collate_fn."""
        features = [item.features for item in items]
        soft = [item.soft_label for item in items if item.soft_label is not None]
        return Samples(pad_sequence(features, batch_first=True), torch.tensor([len(frames) for frames in features]),
                       torch.tensor([item.label for item in items]), torch.stack(soft) if soft else None)


def split(batch: Samples, indices: Sequence[int], epoch: int) -> list[Item]:
    """Samples number `indices` as items, each cut to its length."""
    soft = [None] * len(indices) if batch.soft_labels is None else batch.soft_labels
    parts = zip(indices, batch.features, batch.lengths.tolist(), batch.labels.tolist(), soft, strict=True)
    return [Item(frames[:length], label, soft_label, f"generated-{epoch}-{index}")
            for index, frames, length, label, soft_label in parts]
