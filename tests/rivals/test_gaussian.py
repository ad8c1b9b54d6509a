"""The closed-form baseline: its samples have the real class means and the within-class covariance."""

import dataclasses

import pytest
import torch
from support.gauss import DIM, PARTS, tiny_data, tiny_pool

from s3prl_dd.config import load_config
from s3prl_dd.distill.config import DistillConfig
from s3prl_dd.distill.data import TrainingData
from s3prl_dd.distill.parts import Parts
from s3prl_dd.errors import UserError
from s3prl_dd.generator import Generator
from s3prl_dd.rivals.gaussian import fit_gaussian


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
