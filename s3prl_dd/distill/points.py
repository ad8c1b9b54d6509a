"""Learns utterance means such that ridge regression on them classifies all real utterances well. Beyond the paper.

Ridge regression gives the linear head of any points in closed form, so the head's loss on all real utterances has a
gradient by the points (as KIP, Nguyen et al. 2021, with CLP-DD's cross-entropy over a temperature). The points' labels
follow them: the teacher's softmax where they lie.

A generator file carries one ordered list of such points for each class. Its beginnings are learnt together: the head of
the first point of each class, of the first 6, 12 and 50 (SIZES), so a set of any size takes as many as it needs.
Samples are moved to these points, each with its own frames around its point (generator/centers.py).

Points are learnt in units in which Adam, which trains heads on them later, weighs all dimensions alike
(`units_of_adam`). The speakers who are classified worst weigh most, since the speakers of the test are unknown.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch.optim.lr_scheduler import LinearLR
from tqdm import tqdm

from ..config import Count, Positive, Weight, settings
from ..devices import one_thread
from ..generator import Generator, LinearHeads
from ..generator.samples import places_of
from ..pool.pool import Points
from .data import Scale
from .matching import closed_form_losses, ridge_head, tilted_mean

LabelsOf = Callable[[torch.Tensor], torch.Tensor]
"""Points [n, D] -> what a head is to learn of them, class probabilities [n, C]."""

SIZES = (1, 6, 12, 50)
"""Points of a class whose sets are learnt together, as far as the list goes; all of it is one more."""


class Real(NamedTuple):
    """What is learnt from."""

    points: torch.Tensor
    """Utterance means [N, D], in units of their own."""

    targets: torch.Tensor
    """Class probabilities [N, C]."""

    speakers: torch.Tensor | None = None
    """Who speaks, indices [N], each from 0 up; None where it is not known."""


@settings
class Descent:
    """How Adam moves points. Chosen on dev (RAVDESS folds 1-3)."""

    steps: Count = 500
    """Of Adam."""

    lr: Positive = 0.05
    """Adam's learning rate at first, in the points' units; it falls to 0."""


@settings
class Learning(Descent):
    """How points are learnt in closed form. Chosen on dev (RAVDESS folds 1-3)."""

    ridge: Positive = 1.0
    """Weight of the squared norm, for each point."""

    temperature: Positive = 0.3
    """What the regression's outputs are divided by."""

    tilt: Weight = 0.0
    """How much more the speakers weigh whose utterances are judged worst; 0: every utterance weighs the same."""


FILE_LEARNING = Learning(tilt=3.0)
"""How the points of a generator file are learnt. Tilt, units and start were chosen with speakers held out within the
training parts of RAVDESS fold1 and nEMO folds 1 and 2."""


def learn_points(generator: Generator, number: int, real: Points, speakers: torch.Tensor | None, seed: int,
                 progress: bool = False) -> torch.Tensor:
    """[C, n, D], a list of utterance means of each class, from where the generator's samples lie.

    The first of each class starts at its teaching point (generator/centers.py).
    generator: with a teacher; real: utterance means [N, D] and class indices [N]; speakers: indices [N], if known
    seed: of the samples
    """
    means, labels = real
    classes = len(generator.class_means)
    samples = generator.sample({"ppc": number}, seed, center=True)
    units = units_of_adam(means)

    def labels_of(points: torch.Tensor) -> torch.Tensor:
        return generator.soften(points * units.spread + units.center)

    places = places_of(samples.labels)
    start = samples.means()
    start[places == 0] = generator.centers("teaching")
    spoken = None if speakers is None else speakers.unique(return_inverse=True)[1]
    listed = Real(units.units(means), F.one_hot(labels, classes).to(means.dtype), spoken)
    learnt = closed_form(units.units(start), beginnings(places, number), labels_of, listed, FILE_LEARNING, progress)
    return (learnt * units.spread + units.center).view(classes, number, -1)


def units_of_adam(means: torch.Tensor) -> Scale:
    """From the means' centre [D], in units in which they spread by 1 on average.

    Adam divides a weight's step by the root mean square of its gradients, which goes with its input's, r_j. In the head
    that it makes of few points dimension j counts 1 / r_j, so its unit is the root of r_j.
    """
    unit = means.square().mean(dim=0).sqrt().sqrt().clamp(min=1e-6)  # [D]
    average = (means.std(dim=0) / unit).square().mean().sqrt()
    return Scale(means.mean(dim=0), unit * average)


@one_thread()
def closed_form(start: torch.Tensor, sets: Sequence[torch.Tensor], labels_of: LabelsOf, real: Real,
                learning: Learning, progress: bool = False) -> torch.Tensor:
    """Points [n, D] learnt from `start` by what the ridge regression of them says of the real ones.

    sets: numbers of the points that make a set each; the loss is their mean
    """

    def loss(points: torch.Tensor, step: int) -> torch.Tensor:
        targets = labels_of(points)
        heads = (ridge_head(points[chosen], targets[chosen], learning.ridge) for chosen in sets)
        return torch.stack([mistakes(head, real, learning) for head in heads]).mean()

    return descend(start, loss, learning, progress)


def mistakes(head: LinearHeads, real: Real, learning: Learning) -> torch.Tensor:
    """The loss on the real points of a head made of learnt ones, a scalar."""
    losses = closed_form_losses(head, real.points, real.targets, learning.temperature)  # [N]
    if not learning.tilt or real.speakers is None:
        return losses.mean()
    return tilted_mean(losses, real.speakers, learning.tilt)


def beginnings(places: torch.Tensor, longest: int) -> list[torch.Tensor]:
    """The numbers of the first points of each class, for each of SIZES below `longest`, and of all.

    places: of each point in its class [n]
    """
    sizes = [size for size in SIZES if size < longest]
    return [(places < size).nonzero()[:, 0] for size in [*sizes, longest]]


def descend(start: torch.Tensor, loss: Callable[[torch.Tensor, int], torch.Tensor], descent: Descent,
            progress: bool = False) -> torch.Tensor:
    """Points [n, D] after Adam has minimised a loss of them from `start`, at a rate that falls to 0.

    loss: points [n, D], number of the step -> a scalar
    """
    points = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([points], lr=descent.lr)
    schedule = LinearLR(optimizer, 1.0, 0.0, total_iters=descent.steps)
    for step in tqdm(range(descent.steps), desc="learnt points", unit="step", disable=not progress):
        optimizer.zero_grad()
        loss(points, step).backward()
        optimizer.step()
        schedule.step()
    return points.detach()
