"""Samples of a generator file as a torch Dataset."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from .budget import Budget
from .generator import BATCH, Generator, noise_numbers
from .samples import Samples, index_labels, places_of
from .sampling import DEFAULTS, Center, Lengths, Resample, Sampling, set_of, sets_of, ways_of
from .store import SampleStore, StoredSet

KEPT_BYTES = 10**9
"""A set up to this size (as float32) is kept in memory."""


class Item(NamedTuple):
    """One sample."""

    features: torch.Tensor
    """[T, D]; where utterance means are asked for, [1, D]."""

    label: int
    """Class index."""

    soft_label: torch.Tensor | None
    """[C], sums to 1; None where the file carries no teacher."""

    name: str
    """generated-SET-NUMBER, SET the epoch that the set was drawn for; SET.WAY from way 1 on."""

    def copied(self) -> "Item":
        """The same in memory of its own: what is done to it in place stays with it."""
        soft = None if self.soft_label is None else self.soft_label.clone()
        return self._replace(features=self.features.clone(), soft_label=soft)


class SetNumber(NamedTuple):
    """Which set, and in which of its ways its frames deviate: see noise.draw_noise."""

    epoch: int
    way: int

    def name(self, index: int) -> str:
        """Of its sample number `index`, see Item."""
        way = f".{self.way}" if self.way else ""
        return f"generated-{self.epoch}{way}-{index}"


class GeneratedDataset(Dataset[Item]):
    """Samples of a generator as a map-style dataset, for any DataLoader, worker or distributed sampler.

    Item i is sample i of Generator.sample with the same budget, seed, epoch, lengths and center. With `resample` each
    epoch (set_epoch) is a new draw, or one of K in turn; without it every epoch is the same fixed set. A budget in
    numbers under `resample: auto` is one set whose frames deviate in 8 ways in turn (noise.draw_noise); the first is
    `sample`'s. `center: auto` is what sampling.resolve_center chooses for the set.

    store: where drawn sets are kept on disk and shared with other processes (see store.SampleStore, which rounds
        frames to half precision); a folder, or a SampleStore
    means: items are utterance means [1, D] in full precision: all that a head reads which averages over time

    Without a store, a set of up to KEPT_BYTES is drawn whole, by set_epoch (a fixed one when the dataset is made), so
    worker processes share it; sets that come again are drawn once, where all of them together have room there. Of a
    larger set each batch is drawn when it is asked for, and centring takes a pass of its own; of means alone, any set
    is kept.
    """

    def __init__(self, generator: Generator, budget: Budget, seed: int = 0, resample: Resample = DEFAULTS.resample,
                 lengths: Lengths = DEFAULTS.lengths, center: Center = DEFAULTS.center, *,
                 store: SampleStore | Path | str | None = None, means: bool = False) -> None:
        Sampling(resample=resample, lengths=lengths, center=center)  # checks them
        self.generator, self.seed, self.lengths = generator, seed, lengths
        self.resample = sets_of(resample, budget)
        self.means = means
        deviates = generator.header.network.draws_deviations and not means
        self.ways = ways_of(resample, budget) if deviates else 1
        self.store = SampleStore(store) if isinstance(store, Path | str) else store
        self.counts = generator.counts(budget)
        self.center = generator.resolve_center(center, self.counts, means, fixed=not self.resample)
        self.labels = index_labels(self.counts)
        self.places = places_of(self.labels)
        self.numbers = noise_numbers(self.labels, self.center)
        self.epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # workers that stay hear of the next one by it
        self.number: SetNumber | None = None  # of the set that is there
        self.items: list[Item] | None = None
        self.kept: dict[SetNumber, list[Item]] = {}  # sets that come again
        self.stored: StoredSet | None = None
        self.shift: torch.Tensor | None = None
        if not self.resample:
            self.set_epoch(0)

    def __getstate__(self) -> dict[str, object]:
        """What goes to a worker process: of the sets that are kept the one that is served."""
        return self.__dict__ | {"kept": {}}

    def set_epoch(self, epoch: int) -> None:
        """Make the set of this epoch the one that is served; a fixed set stays as it is.

        Workers of a DataLoader follow, those with persistent_workers too: these draw the set themselves.
        """
        self.epoch.fill_(epoch)
        self._serve(epoch)

    def _serve(self, epoch: int) -> SetNumber:
        """Have this epoch's set there. -> its number"""
        number = SetNumber(set_of(self.resample, epoch), epoch % self.ways)
        if number == self.number:
            return number
        self.number = self.items = self.stored = self.shift = None
        if self.store is not None:
            self.stored = self.store.get(self.generator, self.counts, self.seed, number.epoch, self.lengths,
                                         self.center, number.way)
        elif self.means or self.set_bytes() <= KEPT_BYTES:
            self.items = self.kept.get(number) or self._draw_all(number)
            if self._has_room():
                self.kept[number] = self.items
        elif self.center:
            self.shift = self._shift(number)
        self.number = number
        return number

    def _has_room(self) -> bool:
        """Whether sets come again, and all of them have room."""
        if self.resample is True:
            return False
        sets = (self.resample or 1) * self.ways
        size = 4 * self.generator.header.network.dim * len(self) if self.means else self.set_bytes()
        return sets > 1 and sets * size <= KEPT_BYTES

    def _shift(self, number: SetNumber) -> torch.Tensor:
        """[N, D], see Generator.shift."""
        return self.generator.shift(self.labels, self.seed, number.epoch, center=self.center, way=number.way)

    def _draw_all(self, number: SetNumber) -> list[Item]:
        items: list[Item] = []
        for part in self._parts(number):
            items += self._split(part, range(len(items), len(items) + len(part.labels)), number)
        return items

    def _parts(self, number: SetNumber) -> Iterator[Samples]:
        """The whole set in batches; one too large for memory is drawn twice if it is centred."""
        if self.set_bytes() <= KEPT_BYTES:
            yield from self.generator.draw_set(self.labels, self.seed, number.epoch, self.lengths, center=self.center,
                                               way=number.way)
            return
        batches = self.generator.raw_batches(self.labels, self.seed, number.epoch, center=self.center,
                                             way=number.way)
        if not self.center:
            for raw in batches:
                yield self.generator.finish(raw, self.lengths)
            return
        for raw, shift in zip(batches, self._shift(number).split(BATCH), strict=True):
            yield self.generator.finish(raw, self.lengths, shift)

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
        number = self._serve(int(self.epoch))
        if self.stored is not None:
            return [self._read(self.stored, index, number) for index in indices]
        if self.items is not None:
            return [self.items[index].copied() for index in indices]
        numbers = self.numbers[indices].tolist()
        shift = None if self.shift is None else self.shift[indices]
        batch = self.generator.generate(self.labels[indices], numbers, self.seed, number.epoch, self.lengths, shift,
                                        self.places[indices], number.way)
        return self._split(batch, indices, number)

    def _read(self, stored: StoredSet, index: int, number: SetNumber) -> Item:
        features = stored.mean(index) if self.means else stored.sample(index)
        return Item(features, int(stored.labels[index]), stored.soft_label(index), number.name(index))

    def _split(self, batch: Samples, indices: Sequence[int], number: SetNumber) -> list[Item]:
        """Samples number `indices` as items, each cut to its length or averaged over it."""
        soft = [None] * len(indices) if batch.soft_labels is None else batch.soft_labels
        features = (list(batch.means()[:, None]) if self.means else
                    [frames[:length] for frames, length in zip(batch.features, batch.lengths.tolist(), strict=True)])
        parts = zip(indices, features, batch.labels.tolist(), soft, strict=True)
        return [Item(frames, label, soft_label, number.name(index)) for index, frames, label, soft_label in parts]

    @staticmethod
    def collate(items: Sequence[Item]) -> Samples:
        """Items -> Samples, padded: a DataLoader's collate_fn."""
        features = [item.features for item in items]
        soft = [item.soft_label for item in items if item.soft_label is not None]
        return Samples(pad_sequence(features, batch_first=True), torch.tensor([len(frames) for frames in features]),
                       torch.tensor([item.label for item in items]), torch.stack(soft) if soft else None)
