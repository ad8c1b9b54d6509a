"""Samples of a generator file as a torch Dataset."""

import torch
from torch.utils.data import Dataset

from .file import Samples, index_labels
from .sampling import DEFAULTS

KEPT_BYTES = 1e9  # of a fixed set's samples


class GeneratedDataset(Dataset):
    """Samples of a generator as a map-style dataset, for any DataLoader, worker or distributed sampler.

    Item i is (features [T, D], label, soft label [C] or None, name), a function of (seed, epoch, i) alone, and with
    `center` of the budget (each class of the whole set is shifted to the class's mean, see Generator.shift). With
    `resample` each epoch (set_epoch) is a new draw; without it every epoch is the same fixed set, which is kept in
    memory once it is drawn, up to KEPT_BYTES.
    """

    def __init__(self, generator, budget, seed=0, resample=DEFAULTS.resample, lengths=DEFAULTS.lengths,
                 center=DEFAULTS.center):
        self.generator, self.seed, self.resample, self.lengths, self.center = generator, seed, resample, lengths, center
        self.counts = generator.counts(budget)
        self.labels = index_labels(self.counts)
        self.shift, self.kept = None, {}
        self.item_bytes = 4 * generator.network.config.dim * (
            generator.network.config.frames if lengths == "generator" else max(map(max, generator.header.lengths)))
        self.set_epoch(0)

    def set_epoch(self, epoch):
        self.epoch = epoch if self.resample else 0
        if self.center and (self.resample or self.shift is None):
            self.shift = self.generator.shift(self.labels, self.seed, self.epoch)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.__getitems__([index])[0]

    def __getitems__(self, indices):
        """A whole batch at once (torch's DataLoader calls this where it can)."""
        indices = [int(index) for index in indices]
        if min(indices) < 0 or max(indices) >= len(self):
            raise IndexError(f"index out of range for {len(self)} samples")
        new = [index for index in dict.fromkeys(indices) if index not in self.kept]
        items = dict(zip(new, self._make(new)))
        if not self.resample and (len(self.kept) + len(new)) * self.item_bytes <= KEPT_BYTES:
            self.kept.update(items)
        return [items.get(index) or self.kept[index] for index in indices]

    def _make(self, indices):
        if not indices:
            return []
        batch = self.generator.generate(self.labels[indices], indices, self.seed, self.epoch, self.lengths, self.shift)
        return [(batch.features[i, :batch.lengths[i]], int(batch.labels[i]),
                 batch.soft_labels[i] if batch.soft_labels is not None else None,
                 f"generated-{self.epoch}-{index}") for i, index in enumerate(indices)]

    @staticmethod
    def collate(items):
        """Items -> Samples, padded: a DataLoader's collate_fn."""
        features, labels, soft, _ = zip(*items)
        return Samples(torch.nn.utils.rnn.pad_sequence(features, batch_first=True), torch.tensor([len(item) for item in features]),
                       torch.tensor(labels), torch.stack(soft) if soft[0] is not None else None)
