"""The plane of utterance means: samples lie in it as the run's heads are given them."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.tiny_generator import loaded, tiny_generator

from s3prl_dd.generator.sampling import Sampling
from s3prl_dd.publish.projection import _samples


@pytest.mark.parametrize("head, sampling, center", [
    ("superb", Sampling(resample=False), "learnt"),
    ("superb", Sampling(), "teaching"),  # eight sets in turn
    ("cnn", Sampling(resample=False), True),
    ("superb", Sampling(resample=False, center=False), False)])
def test_samples_lie_where_the_runs_heads_hear_them(tmp_path, head, sampling, center):
    generator = loaded(tiny_generator(points=24), tmp_path / "generator.safetensors")  # of [20, 16, 24] a class
    run = SimpleNamespace(generator=tmp_path / "generator.safetensors",
                          settings=SimpleNamespace(sampling=sampling, heads=SimpleNamespace(head=head)))
    cloud = _samples(run, SimpleNamespace(transform=np.asarray), seed=3)
    expected = generator.sample("original", 3, center=center)
    assert torch.equal(torch.from_numpy(cloud.points), expected.means())
    assert cloud.labels.tolist() == expected.labels.tolist()
