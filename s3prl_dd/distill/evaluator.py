"""A generator measured on dev: quick heads that are trained on its samples, and how its samples differ from speech."""

from functools import cached_property
from typing import NamedTuple

import torch

from ..devices import side_by_side
from ..generator import Generator
from ..generator.samples import Samples, index_labels
from ..generator.sampling import Lengths
from ..generator.suppression import SpeakerSuppression
from ..pool.frame_heads import Kind
from ..pool.kinds import HEADS
from ..pool.pool import LabelledFrames, Points
from ..pool.training import Utterances
from .config import DistillConfig
from .data import TrainingData
from .finish import as_heard, draw_means, targets_of
from .frames import measure
from .log import RunLog
from .selection import Evaluation, HeadSteps, project, quick_frame_uar, quick_uar, within_class_distance

EVALUATION_SAMPLES = 2000
"""Samples of each class, at most, that an evaluation draws; fewer where the corpus has fewer."""

FRAMES_MEASURED = 500
"""Utterances and samples, at most, whose frames an evaluation measures."""

FRAMES_HEARD = 150
"""Samples of each class, at most, that quick heads of kinds which hear frames are trained on."""

EVALUATION_SEED = 1_000_000
"""Added to the configuration's seed: samples that no training step has seen."""


class Measured(NamedTuple):
    """A generator's evaluation, and the samples that it is of."""

    entry: Evaluation

    samples: Points
    """Utterance means [n, D] and class indices [n], on the CPU; not centred."""


class Evaluator:
    """Measures generators on the dev part of the data, each by samples that its step has of its own."""

    def __init__(self, config: DistillConfig, data: TrainingData, suppression: SpeakerSuppression | None,
                 head_steps: HeadSteps) -> None:
        """data: with a dev part; suppression: of the speech that heads on samples hear, or None"""
        assert data.dev is not None
        self.config, self.data, self.suppression, self.head_steps = config, data, suppression, head_steps
        self.dev, self.device, self.classes = data.dev, data.device, len(data.class_counts)
        self.seed = config.seed + EVALUATION_SEED

    @property
    def dev_size(self) -> int:
        """Utterances that measure a generator."""
        return len(self.dev[1])

    def measure(self, generator: Generator, step: int) -> Measured:
        """Its UAR on dev, and its samples beside real utterances. step: of training; it keys the samples"""
        counts = [min(count, EVALUATION_SAMPLES) for count in generator.counts("balanced")]
        means, labels = draw_means(generator, counts, self.seed, step)
        samples = means.cpu(), labels.cpu()
        distances = within_class_distance(self.data.means, self.data.labels), within_class_distance(*samples)
        scores: dict[str, float] = {kind: self._dev_uar(kind, generator, samples, step)
                                    for kind in self.config.eval_kinds}
        average = sum(scores.values()) / len(scores)
        entry = Evaluation(step, average, *distances, scores, self._frame_measures(generator, step))
        return Measured(entry, samples)

    def tell(self, measured: Measured, labels: dict[str, int], log: RunLog) -> None:
        """Into log.log and TensorBoard. labels: class name -> index"""
        entry, step = measured.entry, measured.entry.step
        log.line("dev " + " ".join(f"{key} {value:.4g}" for key, value in entry.numbers().items()))
        log.scalars({"dev/uar": entry.dev_uar, **{f"dev/{kind}": score for kind, score in entry.dev_by_kind.items()},
                     **{f"frames/{key}": value for key, value in entry.frames.items()}}, step)
        within = {"real": entry.distance_real, "generated": entry.distance_generated}
        log.together("dev/within_class_distance", within, step)
        log.figure("dev/projection", project((self.data.means, self.data.labels), measured.samples, labels), step)

    def _dev_uar(self, kind: Kind, generator: Generator, samples: Points, step: int) -> float:
        """UAR on dev of quick heads of this kind. samples: utterance means [n, D] and class indices, not centred."""
        heads, soft = self.config.eval_heads, self.config.eval_labels == "soft"
        if HEADS[kind].hears_frames:
            heard = self._heard_samples(kind, generator, step)
            dev = self._heard_dev.to(self.device), self.dev[1].to(self.device)
            return quick_frame_uar(kind, heard, dev, heads, self.head_steps.quick_frames, self.classes)
        if soft:
            counts = torch.bincount(samples[1]).tolist()
            samples = draw_means(generator, counts, self.seed, step, soft=True)
            samples = samples[0].cpu(), samples[1].cpu()
        scale = self.data.means.std(dim=0).mean()
        means, labels = self.dev
        heard_means = as_heard(means, self.suppression)
        return quick_uar(samples, (heard_means, labels), scale, heads, self.head_steps.quick, self.classes)

    @cached_property
    def _heard_dev(self) -> Utterances:
        """Frames of dev as heads on samples hear them."""
        whole = self.data.dev_frames
        if self.suppression is None:
            return whole
        return Utterances.of(as_heard(frames[:length], self.suppression) for frames, length in zip(*whole, strict=True))

    def _heard_samples(self, kind: Kind, generator: Generator, step: int) -> LabelledFrames:
        """Samples as heads of this kind hear them in training, and their labels."""
        soft = self.config.eval_labels == "soft"
        budget = [min(count, FRAMES_HEARD) for count in generator.counts("balanced")]
        lengths: Lengths = "corpus" if HEADS[kind].counts_frames else "generator"
        parts = generator.draw_set(index_labels(budget), self.seed, step, lengths, center=soft)
        drawn = Samples.join(list(parts))
        return Utterances(drawn.features, drawn.lengths.to(self.device)), targets_of(drawn, soft).to(self.device)

    def _frame_measures(self, generator: Generator, step: int) -> dict[str, float]:
        """Frames and lengths of real utterances and of samples beside each other."""
        real = self.data.some_frames(FRAMES_MEASURED)
        labels = torch.arange(FRAMES_MEASURED) % self.classes
        made = torch.cat([part.frames for part in generator.raw_batches(labels, self.seed, step)])
        lengths = {"length_real": self.data.mean_length,
                   "length_generated": sum(map(sum, generator.header.lengths)) / (101 * self.classes)}
        with side_by_side():  # sums round otherwise on another number of threads
            of_real, of_made = measure(real), measure((made - generator.mean) / generator.std)
        return {**of_real.named("real"), **of_made.named("generated"), **lengths}
