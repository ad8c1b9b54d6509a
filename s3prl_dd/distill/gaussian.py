"""The closed-form baseline that a GAN has to beat: utterance means drawn from a Gaussian of each class.

A head that is linear in the utterance mean sees little beyond each class's mean and the covariance within it, so this
file is small, made in a moment, and hard to beat. It has no frames to speak of: every frame is the utterance's mean.
"""

import torch
from sklearn.covariance import LedoitWolf

from ..errors import UserError
from ..generator import Generator, Teacher
from ..generator.calibrate import power
from ..generator.networks import Gaussian
from ..pool.pool import Pool
from .config import DistillConfig
from .data import TrainingData
from .losses import class_means
from .parts import Parts


def fit_gaussian(config: DistillConfig, data: TrainingData, parts: Parts, pool: Pool | None = None) -> Generator:
    """A Generator that draws utterance means; config: of architecture gaussian; pool: where config.teacher is set.

    One covariance for all classes, shrunk (Ledoit and Wolf 2004), in units of the features' spread.
    """
    if config.teacher and pool is None:
        raise UserError("this configuration needs a pool of heads (a teacher). "
                        "Run `s3prl-dd pool` first, or set teacher: false.")
    network = config.network.sized(len(data.class_counts), data.dim)
    means = (data.means - data.mean) / data.std  # [N, D]
    centers = class_means(means, data.labels)  # [C, D]
    within = (means - centers[data.labels]).double().numpy()
    covariance = LedoitWolf(assume_centered=True).fit(within).covariance_  # [D, D]
    gaussian = Gaussian(network)
    with torch.no_grad():
        gaussian.means.copy_(centers)
        gaussian.factor.copy_(power(torch.from_numpy(covariance), 0.5, 0.0))
    teacher = None
    if config.teacher and pool is not None:
        teacher = Teacher(*(tensor.detach() for tensor in pool.teacher().linear()))
    header = parts.header(network, data, config)
    return Generator(gaussian, data.mean, data.std, class_means(data.means, data.labels), header, teacher)
