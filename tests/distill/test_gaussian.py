"""The closed-form baseline: its samples have the real class means and the within-class covariance."""

import torch
from support.gauss import write_run

from s3prl_dd.config import load_config
from s3prl_dd.distill.config import DistillConfig
from s3prl_dd.distill.data import TrainingData
from s3prl_dd.distill.gaussian import fit_gaussian
from s3prl_dd.generator import Generator
from s3prl_dd.recipe.stages import Run, Settings, distill


def test_samples_have_the_real_moments(tmp_path):
    """Against the moments that the data were drawn with; utterances of constant frames, so that mean and frame agree."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.tensor([[1.0, 0.0, 0.0], [1.5, 0.5, 0.0], [0.0, 0.0, 3.0]])
    centers = torch.tensor([[0.0, 0.0, 5.0], [4.0, -4.0, 0.0]])
    labels = torch.arange(4000) % 2
    means = centers[labels] + torch.randn(4000, 3, generator=generator) @ mixing
    config = load_config(DistillConfig, "gaussian", ["teacher=false"])
    data = TrainingData.build([mean.expand(3, 3) for mean in means], labels, None, config.framing, config.network.frames)
    fitted = fit_gaussian(config, data, {"labels": {"a": 0, "b": 1}, "features": {}, "corpus": {}})
    fitted.save(tmp_path / "file")
    samples = Generator.load(tmp_path / "file").sample({"ppc": 20000}, seed=1)
    for label in range(2):
        drawn = samples.features[samples.labels == label, 0]
        torch.testing.assert_close(drawn.mean(dim=0), centers[label], atol=0.15, rtol=0)
        torch.testing.assert_close(torch.cov(drawn.T), mixing.T @ mixing, atol=0.35, rtol=0)


def test_in_the_recipe(tmp_path):
    out = write_run(tmp_path / "run")
    run = Run(out, Settings.of(out, {"config": "gaussian"}))
    distill(run)
    generator = Generator.load(run.generator)
    assert generator.header["network"]["architecture"] == "gaussian" and generator.teacher is not None
    assert generator.sample(3, center=True).features.shape[1] == 1
