"""The closed-form baselines that a GAN has to beat: a Gaussian of each class, on utterance means or with frames.

A head that is linear in the utterance mean sees little beyond each class's mean and the covariance within it, so the
file of `gaussian` is small, made in a moment, and hard to beat. It has no frames to speak of: every frame is the
utterance's mean. `gaussian_frames` has: around the same utterance mean the class's profile over time, and frames of the
class's covariance within the utterance, each direction of it a first-order autoregressive process of its own memory.
"""

from typing import NamedTuple

import numpy as np
import torch
from sklearn.covariance import LedoitWolf

from ..distill.config import DistillConfig
from ..distill.data import TrainingData
from ..distill.frames import centred
from ..distill.parts import Parts
from ..errors import UserError
from ..generator import Generator
from ..generator.calibrate import class_means, eigenvalues, power
from ..generator.networks import GaussianFrames, GaussianMeans, build_generator
from ..pool.pool import Pool

MEMORIES = np.linspace(-0.99, 0.99, 397)
"""Of a process, from frame to frame: those that are tried."""


def fit_gaussian(config: DistillConfig, data: TrainingData, parts: Parts, pool: Pool | None = None) -> Generator:
    """A Generator in closed form; config: of architecture gaussian or gaussian_frames; pool: if config.teacher is set.

    One covariance of utterance means for all classes, shrunk (Ledoit and Wolf 2004), in units of the features' spread.
    """
    if config.teacher and pool is None:
        raise UserError("this configuration needs a pool of heads (a teacher). "
                        "Run `s3prl-dd pool` first, or set teacher: false.")
    network = config.network.sized(len(data.class_counts), data.dim)
    gaussian = build_generator(network)
    assert isinstance(gaussian, GaussianMeans)
    _fit_means(gaussian, data)
    if isinstance(gaussian, GaussianFrames):
        _fit_frames(gaussian, data)
    teacher = None
    if config.teacher and pool is not None:
        teacher = pool.teacher().linear()
    header = parts.header(network, data, config)
    centers = class_means(data.means, data.labels)
    return Generator(gaussian, data.mean, data.std, centers, header, teacher)


@torch.no_grad()
def _fit_means(gaussian: GaussianMeans, data: TrainingData) -> None:
    """Class means, and the covariance of utterance means around them."""
    means = (data.means - data.mean) / data.std  # [N, D]
    centers = class_means(means, data.labels)  # [C, D]
    gaussian.means.copy_(centers)
    gaussian.factor.copy_(power(_shrunk(means - centers[data.labels]), 0.5, 0.0))


@torch.no_grad()
def _fit_frames(gaussian: GaussianFrames, data: TrainingData) -> None:
    """Each class's profile over time, directions and memories, from its real utterances in T frames."""
    for label in range(gaussian.config.classes):
        of_class = (data.labels == label).nonzero()[:, 0]
        frames = centred(data.frames_of(of_class, torch.zeros(len(of_class))).double().cpu())  # [n, T, D]
        profile = frames.mean(dim=0)  # [T, D]
        within = within_utterances(frames - profile)
        gaussian.profile[label] = profile
        gaussian.directions[label] = within.directions
        gaussian.memory[label] = within.memory


class Within(NamedTuple):
    """What frames do within an utterance."""

    directions: torch.Tensor
    """[D, D], a row each, as long as the process along it spreads before it is centred in time."""

    memory: torch.Tensor
    """[D], of the process along each, from one frame to the next."""


def within_utterances(frames: torch.Tensor) -> Within:
    """Principal directions of frames [n, T, D], double and centred over time, and the processes along them.

    Centring takes variance and correlation from a process, the more the longer its memory: both are given back, so that
    centred processes have the covariance and the lag-one correlation of these frames.
    """
    values, vectors = eigenvalues(_shrunk(frames.flatten(0, 1)))  # [D], [D, D]
    along = frames @ vectors  # [n, T, D]
    products = (along[:, 1:] * along[:, :-1]).sum(dim=(0, 1)) / along.square().sum(dim=(0, 1)).clamp(min=1e-12)
    variances, correlations = centred_processes(frames.shape[1])
    memory = np.interp(products.numpy(), correlations, MEMORIES)
    kept = torch.from_numpy(np.interp(memory, MEMORIES, variances))
    scale = (values.clamp(min=0) / kept).sqrt()
    return Within(scale[:, None] * vectors.T, torch.from_numpy(memory))


class Centred(NamedTuple):
    """Processes of unit variance and each of MEMORIES [K], once they are centred over T frames."""

    variances: np.ndarray
    """What is left of the variance, mean over the frames [K]."""

    correlations: np.ndarray
    """Sum of the products of neighbours over the sum of squares [K], rising."""


def centred_processes(frames: int) -> Centred:
    """See Centred; exact, from the covariance over time of each process. frames: T, from 2 up"""
    centring = np.eye(frames) - 1 / frames
    apart = np.abs(np.subtract.outer(np.arange(frames), np.arange(frames)))
    covariances = centring @ (MEMORIES[:, None, None] ** apart) @ centring  # [K, T, T]
    squares = covariances.trace(axis1=1, axis2=2)
    products = covariances.trace(offset=1, axis1=1, axis2=2)
    return Centred(squares / frames, products / squares)


def _shrunk(centred: torch.Tensor) -> torch.Tensor:
    """Covariance of points around 0, shrunk (Ledoit and Wolf 2004). [N, D] -> double [D, D]"""
    return torch.from_numpy(LedoitWolf(assume_centered=True).fit(centred.double().numpy()).covariance_)
