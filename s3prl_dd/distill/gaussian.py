"""The closed-form baseline that a GAN has to beat: utterance means drawn from a Gaussian of each class.

A head that is linear in the utterance mean sees little beyond each class's mean and the covariance within it, so this
file is small, made in a moment, and hard to beat. It has no frames to speak of: every frame is the utterance's mean.
"""

from dataclasses import asdict

import torch
from sklearn.covariance import LedoitWolf

from ..generator import Generator
from ..generator.calibrate import power
from ..generator.networks import build_generator
from .losses import class_means


def fit_gaussian(config, data, header, pool=None):
    """config: DistillConfig of architecture gaussian; data: TrainingData; header, pool: as the Trainer's. returns: a Generator

    One covariance for all classes, shrunk (Ledoit and Wolf 2004), in units of the features' spread.
    """
    network = config.network
    network.classes, network.dim, network.frames, network.noise = len(data.class_counts), data.mean.numel(), 1, data.mean.numel()
    means = (data.means - data.mean) / data.std  # [N, D]
    centers = class_means(means, data.labels)
    covariance = LedoitWolf(assume_centered=True).fit((means - centers[data.labels]).double().numpy()).covariance_
    generator = build_generator(network)
    with torch.no_grad():
        generator.means.copy_(centers)
        generator.factor.copy_(power(torch.from_numpy(covariance), 0.5, 0.0))
    header = {**header, "network": asdict(network), "class_counts": data.class_counts, "lengths": data.length_percentiles(),
              "training": asdict(config), "metrics": {}}
    teacher = tuple(tensor.detach() for tensor in pool.teacher().linear()) if config.teacher else None
    return Generator(generator, data.mean, data.std, class_means(data.means, data.labels), header, teacher)
