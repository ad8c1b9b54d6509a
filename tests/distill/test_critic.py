"""The critics' shapes and layers."""

import pytest
import torch
import torch.nn as nn

from s3prl_dd.distill.critic import Critic, SampleNorm, TimeSampleNorm
from s3prl_dd.generator.networks import GANS, BatchNorm, NetworkConfig


def small(architecture, classes=3, dim=20, **changes):
    values = {"architecture": architecture, "frames": 8, "noise": 5, "channels": 4, "critic_channels": 8, **changes}
    return NetworkConfig(**values).sized(classes, dim)


@pytest.mark.parametrize("architecture", GANS)
@pytest.mark.parametrize("dim", [1, 39, 80, 240, 257, 288])
@pytest.mark.parametrize("frames", [8, 24])
def test_shapes(architecture, dim, frames):
    config = small(architecture, dim=dim, frames=frames, utterance_branch=dim == 39)
    out = Critic(config)(torch.randn(2, frames, dim))
    assert out.score.shape == (2,) and out.logits.shape == (2, 3)
    assert all(map_.shape[0] == 2 for map_ in out.maps)
    assert len(out.maps) == (4 if architecture == "gan_1d" else 8) + 2 * (dim == 39)


@pytest.mark.parametrize("architecture", GANS)
@pytest.mark.parametrize("branch", [False, True])
def test_every_parameter_is_used(architecture, branch):
    critic = Critic(small(architecture, utterance_branch=branch))
    out = critic(torch.randn(6, 8, 20))
    (out.score.sum() + out.logits.square().sum()).backward()
    for name, parameter in critic.named_parameters():
        assert parameter.grad is not None, name


def test_critic_layers_of_the_paper():
    """8 conv2d, each with layer norm and leaky ReLU, then two linear heads; no batch norm: the penalty forbids it."""
    for architecture in ("gan_cnn", "gan_att"):
        critic = Critic(small(architecture))
        kinds = [[type(module) for module in layer] for layer in critic.layers]
        assert kinds == [[nn.Conv2d, SampleNorm, nn.LeakyReLU]] * 8
        assert type(critic.score) is type(critic.classify) is nn.Linear
    for architecture in GANS:
        assert not any(isinstance(module, BatchNorm) for module in Critic(small(architecture)).modules())


@pytest.mark.parametrize("architecture", GANS)
def test_critic_scores_each_sample_by_itself(architecture):
    critic, frames = Critic(small(architecture, utterance_branch=True)), torch.randn(4, 8, 20)
    torch.testing.assert_close(critic(frames).score[1:2], critic(frames[1:2]).score)


@pytest.mark.parametrize("make, shape", [(SampleNorm, (3, 6, 5, 4)), (TimeSampleNorm, (3, 5, 6))])
def test_sample_norm_is_layer_norm_over_a_sample(make, shape):
    x = 2 + 3 * torch.randn(shape)
    torch.testing.assert_close(make(6)(x), nn.functional.layer_norm(x, shape[1:]))
