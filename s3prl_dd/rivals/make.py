"""A rival by name, as a generator file in memory: made from the training part alone."""

from dataclasses import replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from ..distill.config import DistillConfig
from ..distill.data import Scale, TrainingData
from ..distill.parts import Parts
from ..distill.points import LabelsOf, Learning, Real, closed_form
from ..generator import Generator, NetworkConfig, build_generator
from ..generator.calibrate import class_means
from ..generator.networks import Points
from ..generator.sampling import Labels
from ..pool.pool import Pool
from .gaussian import fit_gaussian
from .learnt import Matching, gradient_matching
from .names import Name
from .subsets import herded_subset, random_subset

LEARNING, MATCHING = Learning(), Matching()


class Material(NamedTuple):
    """What every rival is made from."""

    data: TrainingData
    """The real training utterances, in T frames each."""

    parts: Parts
    """What the file says of them."""

    pool: Pool
    """The teacher's heads."""


class PointSet(NamedTuple):
    """A list of points, class after class."""

    frames: torch.Tensor
    """[n, T, D], standardised."""

    counts: list[int]
    """Of each class [C]."""

    scale: Scale
    """What they are standardised by."""


def make_rival(name: Name, material: Material, wanted: list[int], labels: Labels, seed: int) -> Generator:
    """The rival's generator file.

    wanted: points of each class [C], no more than there are utterances; a Gaussian draws any number
    labels: what heads will learn of points that are learnt
    seed: of random utterances, where the learnt points start, too; the rest does not depend on it
    """
    if name in GAUSSIANS:
        return _gaussian(GAUSSIANS[name], material)
    if name in ("random_real", "herding"):
        points = _real_points(name, material.data, wanted, seed)
    else:
        points = _learnt_points(name, material, wanted, labels, seed)
    return _as_file(points, material, {"rival": name, "seed": seed})


GAUSSIANS = {
    "gaussian": NetworkConfig(architecture="gaussian"),
    "gaussian_frames": NetworkConfig(architecture="gaussian_frames"),
    "gaussian_frames_any": NetworkConfig(architecture="gaussian_frames", movement="any")}
"""Rivals in closed form. Their frames are as many as the material's."""


def _gaussian(network: NetworkConfig, material: Material) -> Generator:
    return fit_gaussian(DistillConfig(network=replace(network, frames=material.data.frames)), *material)


def _real_points(name: Name, data: TrainingData, wanted: list[int], seed: int) -> PointSet:
    """Real utterances, as frames."""
    if name == "herding":
        chosen = herded_subset(Scale.of(data.means).units(data.means), data.labels, wanted)
    else:
        chosen = random_subset(data.labels, wanted, seed)
    frames = data.frames_of(torch.tensor(chosen), torch.zeros(len(chosen)))
    return PointSet(frames.cpu(), wanted, Scale(data.mean, data.std))


def _learnt_points(name: Name, material: Material, wanted: list[int], labels: Labels, seed: int) -> PointSet:
    """Utterance means that are learnt, from where the random real subset of this seed lies."""
    data = material.data
    scale = Scale.of(data.means)
    points = scale.units(data.means)
    start = random_subset(data.labels, wanted, seed)
    classes = F.one_hot(data.labels, len(wanted)).float()  # [N, C]
    labels_of: LabelsOf = lambda _: classes[start]  # noqa: E731
    if labels == "soft":
        labels_of = teacher_of(material.pool, scale)
    real = Real(points, classes)
    if name == "closed_form":
        learnt = closed_form(points[start], [torch.arange(len(start))], labels_of, real, LEARNING)
    else:
        learnt = gradient_matching(points[start], labels_of, real, MATCHING, seed)
    return PointSet(learnt[:, None], wanted, scale)


def teacher_of(pool: Pool, scale: Scale) -> LabelsOf:
    """The pool's teacher: standardised utterance means [n, D] -> mean softmax of its heads [n, C]."""
    heads = pool.teacher().linear()

    def labels_of(points: torch.Tensor) -> torch.Tensor:
        return heads.soften(points * scale.spread + scale.center)

    return labels_of


def _as_file(points: PointSet, material: Material, training: dict[str, Any]) -> Generator:
    """The generator file of a list of points."""
    data = material.data
    config = NetworkConfig(architecture="points", frames=points.frames.shape[1])
    network = build_generator(config.sized(len(points.counts), data.dim, points.counts))
    assert isinstance(network, Points)
    with torch.no_grad():
        network.points.copy_(points.frames)
    header = material.parts.header(network.config, data, DistillConfig())
    teacher = material.pool.teacher().linear()
    centers = class_means(data.means, data.labels)
    return Generator(network, points.scale.center, points.scale.spread, centers, replace(header, training=training),
                     teacher)
