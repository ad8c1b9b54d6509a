"""What a file tells of speakers, and how to take it out: the key `privacy`, and heads that never heard speech.

The privacy setting, beyond the paper, changes in three ways what samples and the heads in the file keep of speakers.

Covariance. Within a class an utterance mean is the class's mean, an offset of its speaker, and a rest that changes from
utterance to utterance. Calibration gives samples a covariance (generator/calibrate.py); the offsets' share is taken out
of it: in what all that a speaker says of a class has in common, speakers differ (`speaker_scatter`).

Means. Speakers' means, over all that they say, span few directions. What a sample has in these goes towards the middle,
its class's mean there too: speaker suppression (generator/suppression.py). At 1 samples do not differ in any direction
in which the speakers' means do. Heads on samples hear all speech so.

Heads. Those of the pool heard the speakers' directions, and in samples that have none their labels say little. So the
heads in the file hear speech with speaker suppression, and one head by ridge regression, which cannot learn utterances
by heart, takes the place of the pool's (`ridge_teacher`).

Heads in the file tell by their loss whom they were trained on. Pupils of theirs, which heard samples alone, tell less.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F

from ..devices import side_by_side
from ..errors import UserError
from ..generator import Generator, LinearHeads
from ..generator.calibrate import class_means, covariance
from ..generator.suppression import SpeakerSuppression
from ..pool.pool import Points, train_heads
from .data import Scale
from .matching import ridge_head

PUPILS_SAMPLES = 500
"""Samples of each class that pupils hear."""

MOST_SPAN = 0.25
"""Share of the D directions that the speakers' means may take, those in which they differ most: of more speakers than
dimensions nothing would be left."""

TEACHER_RIDGE = 1.0
"""Of the head that `privacy` puts into the file, in units of the points' variance: where its loss told members from
others no better than chance does (RAVDESS folds 1 to 3, dev; docs/privacy.md)."""

SHARPNESS = tuple(2 ** (half / 2) for half in range(17))
"""What the outputs of that head are multiplied by, 1 to 256, whichever gives dev the best probabilities."""


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


def speaker_suppression(means: torch.Tensor, labels: torch.Tensor, speakers: torch.Tensor, privacy: float
                        ) -> SpeakerSuppression:
    """Leaves 1 - privacy of each way along the span of the speakers' means, at 1 nothing.

    means: [N, D]; labels: class indices [N]; speakers: indices [N]; privacy: in [0, 1]
    """
    scale = Scale.of(means)
    _, place = speakers.unique(return_inverse=True)
    voices = class_means(scale.units(means), place)  # [S, D]
    size = min(len(voices) - 1, max(1, int(MOST_SPAN * means.shape[1])))
    with side_by_side():  # directions round otherwise on another number of threads
        _, _, directions = torch.linalg.svd((voices - voices.mean(dim=0)).double(), full_matrices=False)
    span = directions[:size]  # [K, D], orthonormal, in units of each dimension's spread
    spread = scale.spread.double()
    away, along = privacy * span.T / spread[:, None], span * spread
    return SpeakerSuppression(away.to(means.dtype), along.to(means.dtype), class_means(means, labels).mean(dim=0))


def ridge_teacher(train: Points, dev: Points, suppression: SpeakerSuppression) -> LinearHeads:
    """One head (M = 1) by ridge regression of suppressed utterance means; each class weighs the same.

    train, dev: utterance means [N, D] and class indices [N]; dev says how sure the head may be (SHARPNESS)
    """
    means, labels = train
    scale = Scale.of(means)
    shares = torch.bincount(labels) / len(labels)  # [C]
    targets = F.one_hot(labels, len(shares)) / (shares * len(shares))
    weight, bias = ridge_head((suppression.of(means) - scale.center) / scale.spread, targets, TEACHER_RIDGE)
    weight = weight / scale.spread
    head = suppression.heard_by_heads(LinearHeads(weight, bias - weight @ scale.center))
    outputs = head.of_means(dev[0])[0]  # [N', C]
    losses = [F.cross_entropy(outputs * factor, dev[1]).item() for factor in SHARPNESS]
    sharpness = SHARPNESS[losses.index(min(losses))]
    return LinearHeads(head.weight * sharpness, head.bias * sharpness)


def pupils(generator: Generator, seed: int, steps: int) -> LinearHeads:
    """As many heads of SUPERB as the generator's teacher has, trained on its samples and their soft labels alone."""
    assert generator.teacher is not None
    samples = generator.sample({"ppc": PUPILS_SAMPLES}, seed)
    assert samples.soft_labels is not None
    number, classes = generator.teacher.bias.shape
    points, targets = samples.features.mean(dim=1).cpu(), samples.soft_labels.cpu()
    heads = train_heads(points, targets, range(number), steps, classes=classes)[-1].heads
    return heads.linear().to(generator.device)


def _around_means(points: torch.Tensor, groups: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Points [N, D] from the mean of their group [N], and the number of groups."""
    names, place = groups.unique(return_inverse=True)
    sums = points.new_zeros(len(names), points.shape[1]).index_add_(0, place, points)
    return points - (sums / torch.bincount(place)[:, None])[place], len(names)
