"""The critics: layers of the paper, each sample by itself, and what their feature maps are."""

import pytest
import torch
import torch.nn as nn

from s3prl_dd.distill.critic import UTTERANCE_SCALE, Critic
from s3prl_dd.distill.fast.layers import CriticConv2d
from s3prl_dd.distill.fast.norms import SampleNorm, TimeSampleNorm
from s3prl_dd.generator import Network, NetworkConfig
from s3prl_dd.generator.networks import GANS, BatchNorm


def small(architecture: str, **changes: object) -> Network:
    values = {"architecture": architecture, "frames": 8, "noise": 5, "channels": 4, "critic_channels": 8, **changes}
    return NetworkConfig(**values).sized(3, 20)


def test_layers_of_the_paper():
    """8 conv2d, each with layer norm and leaky ReLU, then two linear heads; no batch norm, which Eq. 1 forbids."""
    for architecture in ("gan_cnn", "gan_att"):
        critic = Critic(small(architecture))
        kinds = [[type(module) for module in layer] for layer in critic.layers]
        assert kinds == [[CriticConv2d, SampleNorm, nn.LeakyReLU]] * 8
        assert type(critic.score) is type(critic.classify) is nn.Linear
    for architecture in GANS:
        assert not any(isinstance(module, BatchNorm) for module in Critic(small(architecture)).modules())


@pytest.mark.parametrize("architecture", GANS)
def test_each_sample_is_scored_by_itself(architecture):
    critic, frames = Critic(small(architecture, utterance_branch=True)), torch.randn(4, 8, 20)
    whole, part = critic(frames), critic(frames[1:2])
    torch.testing.assert_close(whole.score[1:2], part.score)
    torch.testing.assert_close(whole.logits[1:2], part.logits)
    for all_maps, maps in zip(whole.maps, part.maps, strict=True):
        torch.testing.assert_close(all_maps[1:2], maps)


@pytest.mark.parametrize("architecture, layers", [("gan_cnn", 8), ("gan_att", 8), ("gan_1d", 4)])
def test_maps_are_each_layers_output_and_the_branchs(architecture, layers):
    critic, frames = Critic(small(architecture, utterance_branch=True)), torch.randn(2, 8, 20)
    maps = critic(frames).maps
    assert len(maps) == layers + 2
    first = critic.layers[0](frames if architecture == "gan_1d" else frames[:, None])
    torch.testing.assert_close(maps[0], first)
    torch.testing.assert_close(maps[layers], critic.utterance[0](UTTERANCE_SCALE * frames.mean(dim=1)))


def test_the_branch_sees_the_mean_alone():
    """Frames in another order: other frame maps, the same maps of the utterance."""
    critic, frames = Critic(small("gan_1d", utterance_branch=True)), torch.randn(2, 8, 20)
    maps, shuffled = critic(frames).maps, critic(frames.flip(1)).maps
    torch.testing.assert_close(maps[-1], shuffled[-1])
    assert not torch.allclose(maps[0], shuffled[0])


@pytest.mark.parametrize("make, shape", [(SampleNorm, (3, 6, 5, 4)), (TimeSampleNorm, (3, 5, 6))])
def test_sample_norm_is_layer_norm_over_a_sample(make, shape):
    x = 2 + 3 * torch.randn(shape)
    torch.testing.assert_close(make(6)(x), nn.functional.layer_norm(x, shape[1:]))


@pytest.mark.parametrize("branch", [False, True], ids=["frames", "with branch"])
@pytest.mark.parametrize("architecture", GANS)
def test_gradient_at_what_lies_between_real_and_generated(architecture, branch):
    """Each sample's own, by autograd on the mixed frames themselves; weights get the derivative of its norm."""
    critic = Critic(small(architecture, utterance_branch=branch)).double()
    real, fake = torch.randn(2, 4, 8, 20, dtype=torch.float64)
    mix = torch.tensor([0.0, 0.3, 0.7, 1.0], dtype=torch.float64)
    point = torch.stack([m * one + (1 - m) * other for m, one, other in zip(mix, real, fake, strict=True)])
    expected, = torch.autograd.grad(critic(point.requires_grad_()).score.sum(), point, create_graph=True)
    gradient = critic.gradient(critic.first(torch.cat([real, fake])).between(mix))
    torch.testing.assert_close(gradient, expected)
    parameters = [*critic.parameters()]
    ours, autograds = (torch.autograd.grad(values.flatten(1).norm(dim=1).square().sum(), parameters, allow_unused=True)
                       for values in (gradient, expected))
    for one, other in zip(ours, autograds, strict=True):
        assert (one is None) == (other is None)
        torch.testing.assert_close(one, other)


def test_halves_of_a_pass_are_two_passes():
    critic, frames = Critic(small("gan_att", utterance_branch=True)), torch.randn(6, 8, 20)
    for half, alone in zip(critic(frames).split(), (critic(frames[:3]), critic(frames[3:])), strict=True):
        torch.testing.assert_close(half.score, alone.score)
        torch.testing.assert_close(half.logits, alone.logits)
        torch.testing.assert_close(half.maps, alone.maps)


def test_scores_bias_is_left_alone():
    """It is in the score, and no loss of the critic depends on it."""
    critic, frames = Critic(small("gan_1d")), torch.randn(6, 8, 20)
    before = critic(frames).score
    with torch.no_grad():
        critic.score.bias += 2
    torch.testing.assert_close(critic(frames).score, before + 2)
    critic(frames).score.sum().backward(inputs=[*critic.parameters()])
    assert critic.score.bias.grad is None and critic.score.weight.grad is not None
