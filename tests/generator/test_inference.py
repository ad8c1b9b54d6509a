"""The folded copy draws the network's own frames, to 1e-4 of their spread, and leaves the network as it is."""

import copy
import dataclasses

import pytest
import torch
import torch.nn as nn
from support.tiny_generator import tiny_generator

from s3prl_dd.generator import DrawOptions, NetworkConfig
from s3prl_dd.generator.bench import made_up
from s3prl_dd.generator.inference import Inference, folded, sample_numbers
from s3prl_dd.generator.networks import GANS, BatchNorm, TimeAttention


def network_of(architecture, dim=20, **changes):
    values = {"architecture": architecture, "frames": 16, "noise": 5, "channels": 8, **changes}
    return made_up(NetworkConfig(**values), dim, 3)


def draw(network, count=7):
    generator = torch.Generator().manual_seed(2)
    return torch.randn(count, network.config.noise, generator=generator), torch.arange(count) % 3


@pytest.mark.parametrize("architecture", GANS)
@pytest.mark.parametrize("changes", [{}, {"kernel": 1}, {"kernel": 5, "dim": 39}, {"utterance_branch": True}])
def test_frames_are_the_networks_own(architecture, changes):
    network = network_of(architecture, **changes)
    for module in network.modules():  # whatever training may leave in a batch norm
        if isinstance(module, BatchNorm):
            module.weight.uniform_(-1.5, 1.5), module.bias.normal_()
    noise, labels = draw(network)
    expected = network(noise, labels)
    drawn = Inference(network, DrawOptions())(noise, labels)
    assert drawn.shape == expected.shape and drawn.dtype == torch.float32
    assert (drawn - expected).abs().max() <= 1e-4 * expected.std()


def test_no_batch_norm_and_one_attention_are_left():
    for architecture in GANS:
        kept = list(folded(network_of(architecture)).modules())
        assert not any(isinstance(module, BatchNorm | TimeAttention) for module in kept)
        assert all(module.inplace for module in kept if isinstance(module, nn.LeakyReLU))


@pytest.mark.parametrize("architecture", GANS)
def test_the_network_stays_as_it_is(architecture):
    generator = tiny_generator(NetworkConfig(architecture=architecture, frames=8, noise=6, channels=8))
    before, kinds = copy.deepcopy(generator.network.state_dict()), [type(item) for item in generator.network.modules()]
    generator.sample(3)
    after = generator.network.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    assert kinds == [type(item) for item in generator.network.modules()]
    assert not any(item.inplace for item in generator.network.modules() if isinstance(item, nn.LeakyReLU))


@pytest.mark.parametrize("architecture", [*GANS, "gaussian"])
def test_a_pass_holds_the_samples_that_fit(architecture, monkeypatch):
    network = network_of(architecture)
    noise, labels = draw(network)
    inference = Inference(network, DrawOptions())
    whole, sizes = inference(noise, labels), []
    forward = inference.network.forward
    monkeypatch.setattr(inference.network, "forward", lambda z, y: (sizes.append(len(z)), forward(z, y))[1])
    inference.rows = 3
    torch.testing.assert_close(inference(noise, labels), whole, rtol=1e-5, atol=1e-5)
    assert sorted(sizes) == [1, 3, 3], "in whatever order they end"


def test_memory_of_a_pass():
    """Numbers of a sample are those that its widest layer reads and writes; a pass is of at least one sample."""
    full = NetworkConfig(architecture="gan_att", frames=64, channels=128).sized(4, 768)
    assert sample_numbers(full) == 2 * 128 * 64 * 768
    assert sample_numbers(dataclasses.replace(full, channels=64)) == sample_numbers(full) / 2
    network = network_of("gan_cnn", frames=64, dim=80, channels=32)
    rows = [Inference(network, DrawOptions(megabytes=megabytes)).rows for megabytes in (1, 8)]
    assert rows == [1, 8 * 2**20 // (4 * 2 * 32 * 64 * 80)]


def test_samples_may_be_trained_on():
    """They are no inference tensors, which autograd refuses to keep."""
    generator = tiny_generator()
    head = nn.Linear(10, 3)
    for features in (generator.sample(2).features, generator.generate(torch.tensor([0]), [0], 0).features):
        head(features).sum().backward()
    assert head.weight.grad.abs().sum() > 0


def test_bfloat16_is_used_only_where_it_is_asked_for():
    plain = tiny_generator()
    half = tiny_generator()
    half.options = DrawOptions(bfloat16=True)
    one, other = plain.sample(3).features, half.sample(3).features
    assert plain._inference.dtype == torch.float32 and other.dtype == torch.float32
    assert (one - other).abs().max() < 0.2 * one.std()
    if half._inference.dtype == torch.bfloat16:  # the processor has it
        assert (one - other).abs().max() > 1e-4


def test_the_copy_is_made_once_and_follows_a_device(monkeypatch):
    generator = tiny_generator()
    generator.sample(1)
    first = generator._inference
    generator.sample(1)
    assert generator._inference is first
    generator.to("cpu").sample(1)
    assert generator._inference is not first


def test_passes_side_by_side_are_passes_one_after_the_other():
    """Which thread computes a pass changes nothing."""
    network = network_of("gan_1d")
    inference = Inference(network, DrawOptions())
    inference.rows = 3
    noise, labels = draw(network, 32)
    before, frames = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        frames.append(inference(noise, labels))
    torch.set_num_threads(before)
    assert torch.equal(*frames)
