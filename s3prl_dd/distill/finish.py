"""From trained weights to a generator file: where its samples lie, its teacher, and what is learnt behind training.

Each evaluation makes a file of the weights as they are (`FileMaker.make`). The one that is kept is finished once, when
training has ended (`FileMaker.finish`): heads that heard samples alone, and points for small sets.
"""

import copy
import dataclasses
from pathlib import Path

import torch
import torch.nn as nn

from ..generator import Calibration, Generator, LinearHeads, Network
from ..generator.calibrate import class_means, fit_calibration
from ..generator.samples import Samples, index_labels
from ..generator.suppression import SpeakerSuppression
from ..pool.pool import Points, Pool, train_crossed
from .anonymous import pupils, ridge_teacher, speaker_scatter, speaker_suppression
from .config import DistillConfig
from .data import TrainingData
from .parts import Parts
from .points import learn_points
from .selection import HeadSteps, chosen_of_each

STATISTICS_SAMPLES = 500
"""Samples of each class that class_means and the calibration are taken from."""

STATISTICS_SEED, PUPILS_SEED, POINTS_SEED = 2_000_000, 3_000_000, 4_000_000
"""Added to the configuration's seed: samples that no training step has seen."""


class FileMaker:
    """Makes a Generator of a network's weights, and finishes the one that is kept.

    teacher: the heads of the file as linear maps, or None
    suppression: of speech as samples have it, or None: it stays as it is (the configuration's `privacy`)
    """

    def __init__(self, config: DistillConfig, network: Network, data: TrainingData, parts: Parts, pool: Pool | None,
                 head_steps: HeadSteps) -> None:
        """pool: where config.needs_pool, on the data's device. Trains the teacher, where the pool has none for it.

        UserError where too few utterances tell speakers apart, see anonymous.speaker_scatter and pool.train_crossed.
        """
        self.config, self.network, self.data, self.parts, self.head_steps = config, network, data, parts, head_steps
        self.device = data.device
        self.wanted_covariance = _wanted_covariance(data, config.privacy)
        self.suppression = _suppression(data, config.privacy)
        self.teacher = self._make_teacher(pool) if config.teacher else None

    def _make_teacher(self, pool: Pool | None) -> LinearHeads:
        """The pool's best heads, or cross-fitted ones, or that of `privacy`."""
        config, data, suppression = self.config, self.data, self.suppression
        assert data.dev is not None
        if config.teacher_folds:
            assert data.speakers is not None
            train, dev = ((as_heard(means, suppression), labels)
                          for means, labels in ((data.means, data.labels), data.dev))
            heads = train_crossed(train, dev, data.speakers, config.teacher_folds, steps=self.head_steps.teacher,
                                  classes=self.network.classes).linear()
            heads = heads if suppression is None else suppression.heard_by_heads(heads)
        elif suppression is not None:
            heads = ridge_teacher((data.means, data.labels), data.dev, suppression)
        else:
            assert pool is not None
            heads = pool.teacher().linear()
        return heads.to(self.device)

    # of the weights as they are

    def make(self, weights: nn.Module, step: int) -> Generator:
        """A generator file in memory of a network's weights, which are copied. step: of training, as its header says"""
        network, data = copy.deepcopy(weights), self.data
        header = self.parts.header(self.network, data, self.config, step=step)
        unknown = torch.zeros(self.network.classes, self.network.dim)
        draft = Generator(network, data.mean.clone(), data.std.clone(), unknown, header, self.teacher).to(self.device)
        centers, calibration = self._statistics(draft)
        suppression = None if self.suppression is None else self.suppression.to(self.device)
        return Generator(network, draft.mean, draft.std, centers, header, self.teacher, calibration,
                         suppression=suppression)

    def _statistics(self, draft: Generator) -> tuple[torch.Tensor, Calibration | None]:
        """Where the file's samples lie: class means [C, D], the real ones with a calibration, which leads there."""
        counts = [STATISTICS_SAMPLES] * self.network.classes
        means, labels = draw_means(draft, counts, self.config.seed + STATISTICS_SEED)  # [C * n, D]
        if not self.config.calibrate:
            return class_means(means, labels), None
        real = self.data.means.to(self.device), self.data.labels.to(self.device)
        calibration = fit_calibration(*real, means, labels, self.wanted_covariance)
        if self.suppression is not None:
            calibration = self.suppression.to(self.device).of_calibration(calibration)
        return calibration.real.clone(), calibration

    # behind training

    def finish(self, path: Path, progress: bool) -> Generator:
        """The file at `path` with pupils and learnt points where the configuration wants them, written once."""
        config = self.config
        generator = Generator.load(path)
        header = generator.header
        older = header.network != self.network  # it was kept before a kill, and the run went on with other deviations
        if older:
            training = {**header.training, "network": dataclasses.asdict(config.network)}
            header = generator.header = dataclasses.replace(header, network=self.network, training=training)
        lacks_pupils = config.teacher_hears == "samples" and not header.training.get("pupils", False)
        other_points = config.points != (0 if generator.points is None else generator.points.shape[1])
        if not (older or lacks_pupils or other_points):
            return generator
        if lacks_pupils:
            generator.teacher = pupils(generator, config.seed + PUPILS_SEED, self.head_steps.teacher)
            generator.header = dataclasses.replace(header, training={**header.training, "pupils": True})
        if other_points:
            generator.points = self._learnt_points(generator, progress) if config.points else None
            training = {**generator.header.training, "points": config.points}
            generator.header = dataclasses.replace(generator.header, training=training)
        generator.save(path, half=config.half_file)
        return Generator.load(path)

    def _learnt_points(self, generator: Generator, progress: bool) -> torch.Tensor:
        """[C, n, D], see points.py. With `privacy` they are learnt of suppressed speech, and suppressed themselves."""
        means, labels = as_heard(self.data.means.cpu(), self.suppression), self.data.labels.cpu()
        speakers, chosen = self.data.speakers, chosen_of_each(labels)
        heard = None if speakers is None else speakers.cpu()[chosen]
        points = learn_points(generator, self.config.points, (means[chosen], labels[chosen]), heard,
                              self.config.seed + POINTS_SEED, progress)
        return as_heard(points, self.suppression)


def _wanted_covariance(data: TrainingData, privacy: float) -> torch.Tensor | None:
    """Of samples within a class, [D, D]; None: the real one, speakers and all. UserError, see speaker_scatter."""
    if not privacy:
        return None
    assert data.speakers is not None
    return speaker_scatter(data.means, data.labels, data.speakers).kept(privacy).to(data.device)


def _suppression(data: TrainingData, privacy: float) -> SpeakerSuppression | None:
    """Of utterance means as samples have them; None: they stay as they are."""
    if not privacy:
        return None
    assert data.speakers is not None
    return speaker_suppression(data.means, data.labels, data.speakers, privacy)


def as_heard(speech: torch.Tensor, suppression: SpeakerSuppression | None) -> torch.Tensor:
    """Real speech [..., D] as heads on samples hear it."""
    return speech if suppression is None else suppression.to(speech.device).of(speech)


def draw_means(generator: Generator, counts: list[int], seed: int, epoch: int = 0, soft: bool = False) -> Points:
    """Utterance means [n, D] and class indices [n] of a set of so many samples of each class, a batch at a time.

    soft: of a centred set, with soft labels [n, C]
    """
    parts = generator.draw_set(index_labels(counts), seed, epoch, center=soft)
    means, labels = zip(*((part.features.mean(dim=1), targets_of(part, soft)) for part in parts), strict=True)
    return torch.cat(means), torch.cat(labels)


def targets_of(part: Samples, soft: bool) -> torch.Tensor:
    """Class indices [n], or soft labels [n, C]."""
    if not soft:
        return part.labels
    assert part.soft_labels is not None
    return part.soft_labels
