"""What a file tells of speakers, and how to take it out: the dial `privacy`, and heads that never heard speech.

The dial, beyond the paper, says what the within-class covariance of samples keeps of the speakers.

Within a class an utterance mean is the class's mean, an offset of its speaker, and a rest that changes from utterance
to utterance. Calibration gives samples a covariance (generator/calibrate.py); here the offsets' share is taken out of
it: speakers are told apart by what differs between them and is alike in all that each of them says of a class, and that
is the offset. Class means stay, and with them what tells emotions.

Heads in the file tell by their loss whom they were trained on. Pupils of theirs, which heard samples alone, tell less.
"""

from typing import NamedTuple

import torch

from ..errors import UserError
from ..generator import Generator, Teacher
from ..generator.calibrate import covariance
from ..pool.pool import train_heads

PUPILS_SAMPLES = 500
"""Samples of each class that pupils hear."""


class Scatter(NamedTuple):
    """The parts of the covariance of utterance means within classes; their sum is that covariance."""

    between: torch.Tensor
    """[D, D], what speakers' offsets add to it."""

    rest: torch.Tensor
    """[D, D], what it would be if all had one offset: what utterances of one speaker differ by."""

    def kept(self, privacy: float) -> torch.Tensor:
        """The covariance [D, D] with so much of the offsets' share taken out, in [0, 1]."""
        return self.rest + (1 - privacy) * self.between


def speaker_scatter(means: torch.Tensor, labels: torch.Tensor, speakers: torch.Tensor) -> Scatter:
    """The parts, by the analysis of variance of a random effect (Searle et al. 1992, ch. 3): without bias.

    A speaker's mean over few utterances is off by chance; the utterances' own spread tells how far, and that is none
    of the offsets'. So `between` may fall below 0 in a direction, the sum with a share of it never does.

    means: [N, D]; labels: class indices [N]; speakers: indices [N]
    UserError where no speaker has two utterances of a class.
    """
    cells = labels * (int(speakers.max()) + 1) + speakers  # an offset of each class and speaker
    around_class, classes = _around_means(means, labels)
    around_cell, cell_count = _around_means(means, cells)
    count = len(means)
    if cell_count == count:
        raise UserError("privacy: no speaker has two utterances of a class, so nothing tells speakers from utterances. "
                        "Give privacy: 0.")
    whole = covariance(around_class)
    rest = covariance(around_cell) * ((count - classes) / (count - cell_count))
    return Scatter(whole - rest, rest)


def pupils(generator: Generator, seed: int, steps: int) -> Teacher:
    """As many heads of SUPERB as the generator's teacher has, trained on its samples and their soft labels alone."""
    assert generator.teacher is not None
    samples = generator.without_latents().sample({"ppc": PUPILS_SAMPLES}, seed)
    assert samples.soft_labels is not None
    number, classes = generator.teacher.bias.shape
    points, targets = samples.features.mean(dim=1).cpu(), samples.soft_labels.cpu()
    heads = train_heads(points, targets, range(number), steps, classes=classes)[-1].heads
    return Teacher(*(tensor.to(generator.device) for tensor in heads.linear()))


def _around_means(points: torch.Tensor, groups: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Points [N, D] from the mean of their group [N], and the number of groups."""
    names, place = groups.unique(return_inverse=True)
    sums = points.new_zeros(len(names), points.shape[1]).index_add_(0, place, points)
    return points - (sums / torch.bincount(place)[:, None])[place], len(names)
