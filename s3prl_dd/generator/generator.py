"""A generator file in memory: draws samples.

    generator = Generator.load("generator.safetensors")
    samples = generator.sample({"ppc": 50}, seed=0)     # features [B, T, D], lengths [B], labels [B]

Noise > network > frame deviations > the features' mean and spread > calibration > centring > frames.
"""

import contextlib
import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, get_args

import torch
from torch import nn

from ..errors import UserError
from ..files import file_digest
from .budget import Budget, class_counts
from .calibrate import Calibration, calibrate
from .centers import shift_to, shift_to_points, teaching_points
from .deviations import any_class, drawn
from .file import Contents, read_file, write_file
from .header import Header, refuse_generator
from .heads import LinearHeads
from .hub import located
from .inference import DRAWN, DrawOptions, Inference
from .networks import Points
from .noise import Noise, draw_noise
from .samples import Samples, index_labels, length_at, places_of, stretch
from .sampling import CENTERED, DEFAULTS, Center, Lengths, ResolvedCenter, resolve_center
from .spill import Raw, Spill
from .suppression import SpeakerSuppression

BATCH = 512
"""Samples that are drawn at once. Matrix products of another size round differently in the last bit."""


class Generator:
    """A generator file in memory. `header` says what it is, `network` maps noise and labels to frames.

    mean, std: [D] of real frames; class_means: [C, D], where the samples' utterance means lie on average;
    teacher: for soft labels, or None; calibration: for utterance means as real ones, or None
    points: [C, n, D], learnt utterance means for small sets, or None
    suppression: of the speech that heads on samples hear, or None; options: how samples are computed

    Samples come from a faster copy of the network, made at the first draw: later changes of its weights are not seen.
    """

    def __init__(self, network: nn.Module, mean: torch.Tensor, std: torch.Tensor, class_means: torch.Tensor,
                 header: Header, teacher: LinearHeads | None = None, calibration: Calibration | None = None,
                 points: torch.Tensor | None = None, suppression: SpeakerSuppression | None = None,
                 options: DrawOptions = DRAWN) -> None:
        self.network = network.eval().requires_grad_(False)
        self.mean, self.std, self.class_means = mean, std, class_means
        self.header = header
        self.teacher = teacher
        self.calibration = calibration
        self.points = points
        self.suppression = suppression
        self.options = options
        self._inference: Inference | None = None
        self._source: Source | None = None
        self._digest: str | None = None

    # file

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu",
             options: DrawOptions = DRAWN) -> "Generator":
        """Read a generator file, or hf://USER/NAME[@REVISION] on the Hub, see hub.py.

        Raises UserError where it is not a whole one, see file.read_file.
        """
        path = located(path)
        source = Source.of(path)
        generator = cls(*read_file(path), options=options).to(device)
        generator._source = source
        return generator

    @property
    def digest(self) -> str | None:
        """SHA-256 of the file that it was loaded from, read when it is first asked for; None without a file.

        Raises UserError where the file is no longer the one that was loaded.
        """
        if self._digest is None and self._source is not None:
            self._digest = self._source.digest()
        return self._digest

    def save(self, path: str | Path, half: bool = False) -> None:
        """Write the file, whole or not at all; `half` stores float16. Raises UserError, see file.write_file."""
        contents = Contents(self.network, self.mean, self.std, self.class_means, self.header, self.teacher,
                            self.calibration, self.points, self.suppression)
        write_file(path, contents, half)

    def to(self, device: str | torch.device) -> "Generator":
        """Move it to a device; samples are drawn there. returns: itself"""
        self.network.to(device)
        self._inference = None
        self.mean, self.std = self.mean.to(device), self.std.to(device)
        self.class_means = self.class_means.to(device)
        if self.teacher is not None:
            self.teacher = self.teacher.to(torch.device(device))
        if self.calibration is not None:
            self.calibration = Calibration(*(tensor.to(device) for tensor in self.calibration))
        if self.points is not None:
            self.points = self.points.to(device)
        if self.suppression is not None:
            self.suppression = self.suppression.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Where samples are drawn."""
        return self.mean.device

    # sets

    def counts(self, budget: Budget) -> list[int]:
        """Samples per class [C] (see budget.class_counts); UserError where the file's list of points is shorter."""
        counts = class_counts(budget, self.header.class_counts)
        points = self.header.network.points
        if points is not None and any(wanted > there for wanted, there in zip(counts, points, strict=True)):
            raise UserError(f"budget {budget!r}: asks for {counts} points of the classes, the file's list holds "
                            f"{points}. Ask for fewer.")
        return counts

    def sample(self, budget: Budget, seed: int = 0, epoch: int = 0, lengths: Lengths = DEFAULTS.lengths,
               batch_size: int = BATCH, center: ResolvedCenter = CENTERED) -> Samples:
        """Draw a whole set: `budget` as in budget.class_counts, `lengths` as in sampling.Sampling.

        center: see sampling.ResolvedCenter; `auto` depends on the head, and is for a GeneratedDataset (UserError)
        Sample i depends on (seed, epoch, i) alone, but for `center`: then the samples of each class are shifted
        together (see `shift`), and at teaching points they are in step (see `raw_batches`).
        """
        labels = index_labels(self.counts(budget))
        return Samples.join(list(self.draw_set(labels, seed, epoch, lengths, batch_size, center)))

    def draw_set(self, labels: torch.Tensor, seed: int, epoch: int = 0, lengths: Lengths = DEFAULTS.lengths,
                 batch_size: int = BATCH, center: ResolvedCenter = CENTERED,
                 spill: Path | None = None, way: int = 0) -> Iterator[Samples]:
        """The set of samples number 0, 1, 2, ... of these labels [N], in batches. Each is drawn once.

        way: in which of its ways the set's frames deviate, see noise.draw_noise
        Where the set is centred, all of it waits in memory, or in the file `spill`, which the caller removes.
        """
        check_lengths(lengths)
        check_center(center)
        parts = self.raw_batches(labels, seed, epoch, batch_size, center, way)
        if not center:
            yield from (self.finish(part, lengths) for part in parts)
            return
        if spill is not None:
            spilt = Spill(spill, parts)
            shift = iter(self._shift(spilt, center).split(batch_size))
            yield from (self.finish(part, lengths, next(shift)) for part in spilt)
            return
        kept = list(parts)
        shift = iter(self._shift(kept, center).split(batch_size))
        while kept:
            yield self.finish(kept.pop(0), lengths, next(shift))

    def shift(self, labels: torch.Tensor, seed: int, epoch: int = 0, batch_size: int = BATCH,
              center: ResolvedCenter = CENTERED, way: int = 0) -> torch.Tensor:
        """[N, D] to add to what is drawn of these labels [N], so that the mean of each class lies at its center.

        Beyond the paper. A set of 6 a class misses the class's mean by 0.4 of its spread, and a head trained on few
        points learns just that; centred, a small set is as good as a far larger one. All samples of a class are shifted
        alike, but for the little that keeps classes at teaching points out of step (see `raw_batches`), and but for
        those that go to learnt points, each to its own.
        """
        check_center(center)
        return self._shift(self.raw_batches(labels, seed, epoch, batch_size, center, way), center)

    def resolve_center(self, center: Center, counts: Sequence[int], means: bool, fixed: bool) -> ResolvedCenter:
        """sampling.resolve_center with what this file carries."""
        learnt = 0 if self.points is None else self.points.shape[1]
        return resolve_center(center, counts, means, fixed, learnt, self.teacher is not None)

    def centers(self, center: ResolvedCenter = CENTERED) -> torch.Tensor:
        """Where the classes of a centred set lie [C, D]: at the real class means, or at their teaching points.

        UserError for teaching points of a file without a teacher.
        """
        check_center(center)
        if center != "teaching":
            return self.class_means
        if self.teacher is None:
            raise UserError("center: teaching: the generator file has no teacher, whose points they are. Set center to "
                            "true, or distil with a pool.")
        return teaching_points(self.class_means, self.teacher.weight, self.mean.square() + self.std.square())

    def _shift(self, parts: Iterable[Raw], center: ResolvedCenter) -> torch.Tensor:
        pairs = [(part.frames.mean(dim=1), part.labels) for part in parts]
        means, labels = (torch.cat(values) for values in zip(*pairs, strict=True))
        if center == "learnt":
            return shift_to_points(self.learnt_points(), self.class_means, means, labels)
        return shift_to(self.centers(center), means, labels, in_step=center == "teaching")

    def learnt_points(self) -> torch.Tensor:
        """The file's points for small sets [C, n, D], each class's in order. UserError where it carries none."""
        if self.points is None:
            raise UserError("center: learnt: the generator file has no learnt points. Set center to auto, or distil "
                            "with points above 0 in the configuration.")
        return self.points

    def raw_batches(self, labels: torch.Tensor, seed: int, epoch: int = 0, batch_size: int = BATCH,
                    center: ResolvedCenter = False, way: int = 0) -> Iterator[Raw]:
        """Samples number 0, 1, 2, ... of these labels [N], as drawn: what a set with this `center` is made of.

        At teaching points the classes are in step: the first samples of all classes are made from the same noise, and
        so on. Then they differ in little but their class, and a head cannot take for emotion how they deviate together.
        """
        places = places_of(labels)
        numbers = noise_numbers(labels, center)
        for start in range(0, len(labels), batch_size):
            here = slice(start, start + batch_size)
            yield self.raw(labels[here], numbers[here].tolist(), seed, epoch, places[here], way)

    # batches

    def generate(self, labels: torch.Tensor, indices: Sequence[int], seed: int, epoch: int = 0,
                 lengths: Lengths = DEFAULTS.lengths, shift: torch.Tensor | None = None,
                 places: torch.Tensor | None = None, way: int = 0) -> Samples:
        """One batch of any samples: their class indices [B], and their numbers [B] (>= 0), the keys of the noise.

        shift: [B, D] added to each frame of a sample, or None
        places: [B], of each in its class (samples.places_of), which a list of points needs
        way: in which of its ways the set's frames deviate, see noise.draw_noise
        """
        check_lengths(lengths)
        return self.finish(self.raw(labels, indices, seed, epoch, places, way), lengths, shift)

    @torch.no_grad()
    def raw(self, labels: torch.Tensor, indices: Sequence[int], seed: int, epoch: int = 0,
            places: torch.Tensor | None = None, way: int = 0) -> Raw:
        """One batch as drawn, in the features' units and calibrated; see `generate`."""
        network = self.header.network
        apart = network.draws_deviations and (network.movement == "any" or way > 0)
        noise = draw_noise(seed, epoch, indices, network.noise, apart, way)
        labels = torch.as_tensor(labels, device=self.device)
        frames = self._standardised(noise, labels, places) * self.std + self.mean
        if self.calibration is not None:
            frames = calibrate(frames, labels, self.calibration)
        return Raw(frames, labels, noise.quantiles)

    def _standardised(self, noise: Noise, labels: torch.Tensor, places: torch.Tensor | None) -> torch.Tensor:
        """What the network makes of noise and labels [B], with the deviations that the file says [B, T, D]."""
        if self._inference is None:
            self._inference = Inference(self.network, self.options)
        network, other_labels, other_inputs = self.header.network, None, None
        if network.movement == "any":
            other_labels = any_class(noise.chances, network.classes).to(self.device)
        if noise.of_deviations is not None:
            other_inputs = noise.of_deviations.to(self.device)
        inputs = self._inputs(noise, places).to(self.device)
        return drawn(self._inference, inputs, labels, other_labels, other_inputs)

    def _inputs(self, noise: Noise, places: torch.Tensor | None) -> torch.Tensor:
        """What the network maps to frames [B, Z]: the noise, or for a list of points their places [B]."""
        if isinstance(self.network, Points):
            if places is None:
                raise ValueError("a list of points: give the places of the samples in their classes")
            return places[:, None].float()
        return noise.vectors

    @torch.no_grad()
    def finish(self, raw: Raw, lengths: Lengths = DEFAULTS.lengths, shift: torch.Tensor | None = None) -> Samples:
        """Shift, label and stretch a batch. shift: [B, D] or None"""
        frames, labels = raw.frames, raw.labels
        if shift is not None:
            frames = frames + shift[:, None]
        soft = self.soften(frames.mean(dim=1)) if self.teacher is not None else None  # [B, C]
        if lengths == "generator":
            return Samples(frames, torch.full((len(frames),), frames.shape[1]), labels, soft)
        wanted = [length_at(self.header.lengths[label], quantile)
                  for label, quantile in zip(labels.tolist(), raw.quantiles, strict=True)]
        return Samples(stretch(frames, wanted), torch.tensor(wanted), labels, soft)

    def soften(self, means: torch.Tensor) -> torch.Tensor:
        """The teacher's mean softmax for utterance means [B, D] -> [B, C]. There must be a teacher."""
        assert self.teacher is not None
        return self.teacher.soften(means)

    # a set as a file

    def write_samples(self, path: str | Path, budget: Budget, seed: int = 0, lengths: Lengths = DEFAULTS.lengths,
                      center: ResolvedCenter = CENTERED) -> None:
        """A fixed synthetic set as safetensors: features [B, T, D], lengths [B], labels [B], soft_labels [B, C] if any.

        Its metadata are labels, budget, seed, center and features (the header's), each as JSON. UserError where `path`
        is a generator file.
        """
        refuse_generator(path)
        samples = self.sample(budget, seed, lengths=lengths, center=center)
        about = {"labels": self.header.labels, "budget": budget, "seed": seed, "center": center,
                 "features": dataclasses.asdict(self.header.features)}
        samples.save(path, {key: json.dumps(value) for key, value in about.items()})
        print(f"wrote {path}: {len(samples.labels)} samples, {self.counts(budget)} a class")


class Source(NamedTuple):
    """A file as it was when it was loaded."""

    path: Path
    state: tuple[int, int, int]
    """Its inode, size and time of change."""

    @classmethod
    def of(cls, path: str | Path) -> "Source | None":
        """The file as it is now; None where there is none."""
        path = Path(path).absolute()
        try:
            stat = path.stat()
        except OSError:
            return None
        return cls(path, (stat.st_ino, stat.st_size, stat.st_mtime_ns))

    def digest(self) -> str:
        """SHA-256 of the file. Raises UserError where it is not as it was."""
        with contextlib.suppress(OSError):
            digest = file_digest(self.path)
            if Source.of(self.path) == self:
                return digest
        raise UserError(f"{self.path}: is no longer the generator file that was loaded. Load it again.")


def noise_numbers(labels: torch.Tensor, center: ResolvedCenter) -> torch.Tensor:
    """By which number the noise of each sample of these labels [N] is drawn: its own, or at teaching points its place
    in its class."""
    return places_of(labels) if center == "teaching" else torch.arange(len(labels))


def check_center(center: object) -> None:
    """Raise UserError for what is no ResolvedCenter."""
    words = get_args(get_args(ResolvedCenter)[1])
    if isinstance(center, bool) or center in words:
        return
    expected = f"expected true, false, {', '.join(map(repr, words))}"
    if center == "auto":
        raise UserError(f"center 'auto': depends on the head and the size of the set; {expected}. A GeneratedDataset "
                        "takes auto, Generator.resolve_center says what it is.")
    raise UserError(f"center {center!r}: {expected}.")


def check_lengths(lengths: str) -> None:
    """Raise UserError for what is no Lengths."""
    if lengths not in get_args(Lengths):
        raise UserError(f"lengths {lengths!r}: expected 'generator' or 'corpus'.")
