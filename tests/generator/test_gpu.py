"""Drawing on a GPU: the same samples as on a CPU, up to rounding."""

import copy

import pytest
import torch
from support.gpu import exact, needs_gpu

from s3prl_dd.generator import DrawOptions, NetworkConfig
from s3prl_dd.generator.bench import bench_sample, made_up
from s3prl_dd.generator.inference import Inference
from s3prl_dd.generator.networks import GANS

pytestmark = [pytest.mark.gpu, needs_gpu]


def config(architecture: str) -> NetworkConfig:
    return NetworkConfig(architecture=architecture, frames=16, noise=8, channels=16, utterance_branch=True)


@pytest.mark.parametrize("half, most", [(False, 1e-4), (True, 0.1)], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("architecture", GANS)
def test_samples_are_those_of_a_cpu(architecture, half, most):
    """float32: a ten-thousandth of the frames' spread off at most; bfloat16: a tenth, a thirtieth on average."""
    network = made_up(config(architecture), 20, 4)
    noise, labels = torch.randn(64, 8, generator=torch.Generator().manual_seed(0)), torch.arange(64) % 4
    with exact():
        expected = Inference(network, DrawOptions())(noise, labels)
        there = copy.deepcopy(network).to("cuda")
        frames = Inference(there, DrawOptions(bfloat16=half))(noise.cuda(), labels.cuda()).cpu()
    apart = (frames - expected).abs() / expected.std()
    assert apart.max() < most and apart.mean() < most / 3


def test_a_file_draws_the_same_set_there(fbank_generator):
    """Centred, calibrated, of the corpus's lengths and with soft labels."""
    from s3prl_dd.generator import Generator

    with exact():
        here, there = (Generator.load(fbank_generator, device).sample({"ppc": 5}, seed=3, lengths="corpus")
                       for device in ("cpu", "cuda"))
    assert torch.equal(here.labels, there.labels.cpu()) and torch.equal(here.lengths, there.lengths.cpu())
    torch.testing.assert_close(there.features.cpu(), here.features, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
def test_bench_runs(half):
    rows = bench_sample({"small": config("gan_att")}, 20, device="cuda", rounds=1, options=DrawOptions(bfloat16=half))
    assert len(rows) == 2 and rows[1].seconds > 0
