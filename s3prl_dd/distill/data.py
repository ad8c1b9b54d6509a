"""What the distiller trains on: a fold's real utterances as T frames each, standardised, and their statistics."""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
import torch.nn.functional as F

from ..corpora.metadata import Fold, Metadata
from ..errors import UserError
from ..features.store import FeatureStore
from ..pool.pool import Points
from ..pool.training import Utterances
from ..rng import evenly, keyed
from .sources import FramesInMemory, FrameSource, UtterancesInMemory, UtteranceSource
from .stored import SMALLEST_STD, StoredFrames, StoredUtterances

RESIDENT_BYTES = 1 << 30
"""Of float32 frames that are held in memory; more of them stay on the disk, in half precision."""

Framing = Literal["resample", "crop"]

Selection = Literal["dev", "speakers"]


class Draw(NamedTuple):
    """Real utterances drawn at random."""

    indices: torch.Tensor
    """[B], which utterance."""

    starts: torch.Tensor
    """[B] in [0, 1), where a crop of it starts."""


@dataclass(frozen=True)
class TrainingData:
    """A fold's features, ready for a GAN. N utterances of T_i frames of D dimensions; a sample has T frames."""

    utterances: UtteranceSource
    """The real ones, each [T_i, D], as the upstream gave them: in memory, or read when they are asked for."""

    labels: torch.Tensor
    """[N] class indices."""

    dev: Points | None
    """Means [N', D] and class indices [N'] of the fold's dev utterances; they serve selection alone."""

    mean: torch.Tensor
    """[D], of the framed frames."""

    std: torch.Tensor
    """[D], of the framed frames."""

    framing: Framing
    frames: int
    """T"""

    source: FrameSource
    """Where the GAN draws their frames from."""

    dev_utterances: Iterable[torch.Tensor] | None = None
    """The dev utterances' frames [T_i, D], for heads that hear them."""

    speakers: torch.Tensor | None = None
    """Who speaks each utterance: [N] indices; None where it is not known."""

    @classmethod
    def build(cls, utterances: Sequence[torch.Tensor] | StoredUtterances, labels: torch.Tensor | Sequence[int],
              dev: Points | None, framing: Framing = "resample", frames: int = 16) -> "TrainingData":
        """From utterances [T_i, D] and their class indices. UserError where one is too short."""
        labels = torch.as_tensor(labels)
        real = utterances if isinstance(utterances, StoredUtterances) else UtterancesInMemory(list(utterances))
        lengths = real.lengths()
        _check_lengths(lengths, framing, frames)
        if isinstance(real, StoredUtterances):
            rows = len(lengths) * frames if framing == "resample" else int(lengths.sum())
            if rows * real.store.dim * 4 > RESIDENT_BYTES:
                stored = StoredFrames(real, frames, resample if framing == "resample" else None)
                return cls(real, labels, dev, stored.mean, stored.std, framing, frames, stored)
        framed = _framed(real, lengths, framing, frames)
        flat = framed.view(-1, framed.shape[-1])
        mean, std = flat.mean(dim=0), flat.std(dim=0).clamp(min=SMALLEST_STD)
        source = FramesInMemory(framed.sub_(mean).div_(std), lengths if framing == "crop" else None, frames)
        return cls(real, labels, dev, mean, std, framing, frames, source)

    @classmethod
    def from_store(cls, store: FeatureStore, fold: Fold, framing: Framing = "resample",
                   frames: int = 16, selection: Selection = "dev") -> "TrainingData":
        """From a feature store that holds the fold's training and dev utterances.

        selection: whose speech serves as dev, the fold's dev part or speakers that are held out
        """
        fold = fold_of(selection, fold)
        dev = store.means(store.select(fold.dev)), torch.tensor(fold.dev.class_indices)
        utterances = StoredUtterances(store, store.select(fold.train))
        data = cls.build(utterances, fold.train.class_indices, dev, framing, frames)
        return dataclasses.replace(data, dev_utterances=StoredUtterances(store, store.select(fold.dev)),
                                   speakers=_speaker_indices(fold.train))

    @property
    def dim(self) -> int:
        """D"""
        return self.mean.numel()

    @cached_property
    def means(self) -> torch.Tensor:
        """Utterance means [N, D], as the upstream gave them."""
        return self.utterances.means()

    @cached_property
    def dev_frames(self) -> Utterances:
        """The dev utterances in memory, for frame-level heads. UserError where the data have none."""
        if self.dev_utterances is None:
            raise UserError("these data have no frames of dev utterances, and frame-level heads are scored on "
                            "them. Give eval_kinds: [superb], or data of a feature store.")
        return Utterances.of(self.dev_utterances)

    def some_frames(self, most: int) -> torch.Tensor:
        """Standardised frames [n, T, D] of `most` utterances or fewer, evenly spread over all; crops at the middle."""
        indices = torch.tensor(evenly(len(self.labels), most))
        return self.frames_of(indices, torch.full((len(indices),), 0.5))

    @cached_property
    def lengths(self) -> torch.Tensor:
        """Frames of each utterance [N]."""
        return self.utterances.lengths()

    @cached_property
    def mean_length(self) -> float:
        """Frames of an utterance, on average."""
        return self.lengths.float().mean().item()

    @cached_property
    def first_numbers(self) -> torch.Tensor:
        """The first number of each utterance [N], by which a checkpoint knows its data again."""
        return self.utterances.first_numbers()

    @cached_property
    def class_sizes(self) -> torch.Tensor:
        """Utterances of each class [C]."""
        return torch.bincount(self.labels)

    @cached_property
    def by_class(self) -> torch.Tensor:
        """Utterances [N] by their class, within it in their order."""
        return self.labels.argsort(stable=True)

    @property
    def class_counts(self) -> list[int]:
        """Utterances of each class, by class index [C]."""
        return self.class_sizes.tolist()

    def length_percentiles(self) -> list[list[float]]:
        """Per class, 101 percentiles of the real lengths in frames [C, 101]."""
        return [np.percentile(self.lengths[self.labels == label].numpy(), np.arange(101)).round(1).tolist()
                for label in range(len(self.class_counts))]

    def draw(self, labels: torch.Tensor, *key: object) -> Draw:
        """A real utterance of each label [B], at random by `key`."""
        generator = keyed(*key)
        chance = torch.rand(len(labels), generator=generator)
        counts = self.class_sizes[labels]
        first = self.class_sizes.cumsum(0)[labels] - counts
        indices = self.by_class[first + (chance * counts).long()]
        return Draw(indices, torch.rand(len(labels), generator=generator))

    def frames_of(self, indices: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
        """Standardised frames [B, T, D] of what was drawn, on `device`; starts count for crops alone."""
        return self.source.read(indices, starts)

    @property
    def device(self) -> torch.device:
        """Where the GAN's frames are."""
        return self.source.device

    def to(self, device: str | torch.device) -> "TrainingData":
        """The same, with the frames that the GAN draws from for this device."""
        return dataclasses.replace(self, source=self.source.to(torch.device(device)))


def fold_of(selection: Selection, fold: Fold) -> Fold:
    """The train and dev parts that a GAN hears: the fold's own, or those of speakers that are held out."""
    return hold_out_speakers(fold) if selection == "speakers" else fold


def hold_out_speakers(fold: Fold, share: float = 0.2) -> Fold:
    """The fold with other train and dev parts: dev is a share of the speakers, with all that they say in either.

    UserError where there are too few speakers, or a class would have none left.
    """
    utterances = [*fold.train.utterances, *fold.dev.utterances]
    speakers = sorted({utterance.speaker for utterance in utterances})
    order = torch.randperm(len(speakers), generator=keyed("held-out speakers")).tolist()
    held = {speakers[index] for index in order[:max(1, round(share * len(speakers)))]}
    train, dev = (Metadata(fold.train.labels, tuple(item for item in utterances if (item.speaker in held) == chosen))
                  for chosen in (False, True))
    if any({item.label for item in part.utterances} != set(fold.train.labels) for part in (train, dev)):
        raise UserError(f"selection: speakers: of {len(speakers)} speakers, {len(held)} held out leave a class without "
                        "an utterance on one side. Give selection: dev.")
    return dataclasses.replace(fold, train=train, dev=dev)


def _check_lengths(lengths: torch.Tensor, framing: str, frames: int) -> None:
    if framing not in get_args(Framing):
        raise UserError(f"framing {framing!r}: expected one of {', '.join(get_args(Framing))}.")
    shortest, needed = int(lengths.min()), frames if framing == "crop" else 2
    if shortest < needed:
        raise UserError(f"an utterance has {shortest} frames, framing {framing!r} needs {needed} or more. "
                        "Remove it from the metadata, or use fewer frames or framing: resample.")


def _framed(utterances: Iterable[torch.Tensor], lengths: torch.Tensor, framing: Framing, frames: int) -> torch.Tensor:
    """All utterances in `frames` frames each [N, T, D], or as they are [sum of T_i, D]."""
    if framing == "crop":
        return torch.cat(list(utterances))
    framed: torch.Tensor | None = None
    for number, utterance in enumerate(utterances):
        if framed is None:
            framed = torch.empty(len(lengths), frames, utterance.shape[1])
        framed[number] = resample(utterance, frames)
    assert framed is not None
    return framed


def _speaker_indices(part: Metadata) -> torch.Tensor:
    names = {name: index for index, name in enumerate(part.speakers)}
    return torch.tensor([names[utterance.speaker] for utterance in part.utterances])


def resample(frames: torch.Tensor, size: int) -> torch.Tensor:
    """A whole utterance [T_i, D] in `size` frames: averages of equal spans, or linear interpolation of a shorter one.

    Averaging keeps the utterance mean (up to spans that differ by one frame).
    """
    columns = frames.T[None]  # [1, D, T_i]
    if len(frames) >= size:
        return F.adaptive_avg_pool1d(columns, size)[0].T
    return F.interpolate(columns, size=size, mode="linear", align_corners=False)[0].T


class Scale(NamedTuple):
    """Where values lie and how far they spread, by dimension."""

    center: torch.Tensor  # [D]
    spread: torch.Tensor  # [D]

    @classmethod
    def of(cls, values: torch.Tensor) -> "Scale":
        """Of values [N, D]."""
        return cls(values.mean(dim=0), values.std(dim=0).clamp(min=1e-6))

    def units(self, values: torch.Tensor) -> torch.Tensor:
        """Values [..., D] from their centre, in units of their spread."""
        return (values - self.center) / self.spread
