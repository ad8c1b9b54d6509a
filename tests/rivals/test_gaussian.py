"""The closed-form baseline: its samples have the real class means and the within-class covariance."""

import dataclasses

import numpy as np
import pytest
import torch
from support.gauss import DIM, PARTS, tiny_data, tiny_pool

from s3prl_dd.config import load_config
from s3prl_dd.distill.config import DistillConfig
from s3prl_dd.distill.data import TrainingData
from s3prl_dd.distill.parts import Parts
from s3prl_dd.errors import UserError
from s3prl_dd.generator import Generator
from s3prl_dd.generator.networks import autoregressive
from s3prl_dd.rivals.gaussian import MEMORIES, centred_processes, fit_gaussian
from s3prl_dd.rng import keyed


def test_samples_have_the_real_moments(tmp_path):
    """Against the moments that the data were drawn with; an utterance's frames are alike, so mean and frame agree."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.tensor([[1.0, 0.0, 0.0], [1.5, 0.5, 0.0], [0.0, 0.0, 3.0]])
    centers = torch.tensor([[0.0, 0.0, 5.0], [4.0, -4.0, 0.0]])
    labels = torch.arange(4000) % 2
    means = centers[labels] + torch.randn(4000, 3, generator=generator) @ mixing
    config = load_config(DistillConfig, "gaussian", ["teacher=false"])
    data = TrainingData.build([mean.expand(3, 3) for mean in means], labels, None, config.framing, 1)
    parts = Parts({"a": 0, "b": 1}, dataclasses.replace(PARTS.features, dim=3), PARTS.corpus)
    fit_gaussian(config, data, parts).save(tmp_path / "file")
    samples = Generator.load(tmp_path / "file").sample({"ppc": 20000}, seed=1, center=False)
    for label in range(2):
        drawn = samples.features[samples.labels == label, 0]
        torch.testing.assert_close(drawn.mean(dim=0), centers[label], atol=0.15, rtol=0)
        torch.testing.assert_close(torch.cov(drawn.T), mixing.T @ mixing, atol=0.35, rtol=0)


def test_header_and_teacher():
    config, data = load_config(DistillConfig, "gaussian"), tiny_data()
    before = dataclasses.asdict(config)
    generator = fit_gaussian(config, data, PARTS, tiny_pool(data))
    header = generator.header
    assert (header.network.noise, header.network.frames, header.network.dim) == (DIM, 1, DIM)
    assert header.lengths == data.length_percentiles() and header.training["lambdas"]["diversity"] == 0
    assert generator.teacher is not None and generator.teacher.weight.shape == (3, 3, DIM)
    assert generator.sample(3).features.shape == (9, 1, DIM)
    torch.testing.assert_close(generator.class_means[1], data.means[data.labels == 1].mean(dim=0))
    assert dataclasses.asdict(config) == before
    with pytest.raises(UserError, match="needs a pool"):
        fit_gaussian(config, data, PARTS)


def test_frames_have_the_moments_of_real_ones(tmp_path):
    """Drawn again from samples of a process that is known: covariance, memory and profile of each class come back."""
    classes, frames, dim = 2, 12, 3
    draw = keyed("moving")
    labels = torch.arange(3000) % classes
    memory = torch.tensor([[0.8, 0.2, -0.4], [0.0, 0.6, 0.9]])
    spread = torch.tensor([[1.0, 2.0, 0.5], [0.3, 1.0, 2.0]])
    profile = torch.randn(classes, frames, dim, generator=draw)
    profile -= profile.mean(dim=1, keepdim=True)
    process = autoregressive(torch.randn(3000, frames, dim, generator=draw), memory[labels]) * spread[labels][:, None]
    real = 5 + profile[labels] + process - process.mean(dim=1, keepdim=True)
    real = real + torch.randn(3000, 1, dim, generator=draw)
    config = load_config(DistillConfig, "gaussian_frames", ["teacher=false", f"network.frames={frames}"])
    data = TrainingData.build(list(real), labels, None, config.framing, frames)
    parts = Parts({"a": 0, "b": 1}, dataclasses.replace(PARTS.features, dim=dim), PARTS.corpus)
    fit_gaussian(config, data, parts).save(tmp_path / "file")
    samples = Generator.load(tmp_path / "file").sample({"ppc": 1500}, seed=1, center=False)
    for label in range(classes):
        for found, wanted in zip(_moments(samples.features[samples.labels == label]),
                                 _moments(real[labels == label]), strict=True):
            torch.testing.assert_close(found, wanted, atol=0.12, rtol=0.1)


def _moments(frames):
    """Profile over time [T, D], covariance within [D, D] and between [D, D], correlation of neighbours [D]"""
    means = frames.mean(dim=1, keepdim=True)
    profile = (frames - means).mean(dim=0)
    within = frames - means - profile
    neighbours = (within[:, 1:] * within[:, :-1]).sum(dim=(0, 1)) / within.square().sum(dim=(0, 1))
    return profile, torch.cov(within.flatten(0, 1).T), torch.cov(means[:, 0].T), neighbours


def test_what_centring_takes_from_a_process():
    """Against processes that were drawn: a long memory loses most of its variance, and its correlation falls."""
    frames, place = 8, 300
    memory = float(MEMORIES[place])
    process = autoregressive(torch.randn(20000, frames, 1, generator=keyed("many")), torch.full((20000, 1), memory))
    process = process - process.mean(dim=1, keepdim=True)
    expected = centred_processes(frames)
    assert expected.variances[place] == pytest.approx(process.square().mean().item(), rel=0.02)
    products = (process[:, 1:] * process[:, :-1]).sum() / process.square().sum()
    assert expected.correlations[place] == pytest.approx(products.item(), abs=0.01)
    assert (np.diff(expected.correlations) > 0).all() and 0 < memory < 0.6
