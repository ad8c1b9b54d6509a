"""Shapes, layers and sizes of the GANs, and our layers against torch's."""

import dataclasses

import pytest
import torch
import torch.nn as nn

from s3prl_dd.distill.critic import Critic, SampleNorm, TimeSampleNorm
from s3prl_dd.generator.networks import (
    GANS,
    BatchNorm,
    NetworkConfig,
    TimeAttention,
    TimeBatchNorm,
    TimeConv,
    Upsample,
    build_generator,
)


def small(architecture, **changes):
    return NetworkConfig(**{"architecture": architecture, "classes": 3, "dim": 20, "frames": 8, "noise": 5, "channels": 4,
                            "critic_channels": 8, **changes})


@pytest.mark.parametrize("architecture", GANS)
@pytest.mark.parametrize("dim", [1, 39, 80, 240, 257, 288])
@pytest.mark.parametrize("frames", [8, 24])
def test_shapes(architecture, dim, frames):
    config = small(architecture, dim=dim, frames=frames, utterance_branch=dim == 39)
    generator, critic = build_generator(config), Critic(config)
    made = generator(torch.randn(2, 5), torch.tensor([0, 2]))
    assert made.shape == (2, frames, dim)
    out = critic(made)
    assert out.score.shape == (2,) and out.logits.shape == (2, 3)
    assert all(map_.shape[0] == 2 for map_ in out.maps)
    assert len(out.maps) == (4 if architecture == "gan_1d" else 8) + 2 * (dim == 39)


@pytest.mark.parametrize("architecture", GANS)
@pytest.mark.parametrize("branch", [False, True])
def test_every_parameter_is_used(architecture, branch):
    config = small(architecture, utterance_branch=branch)
    generator, critic = build_generator(config), Critic(config)
    out = critic(generator(torch.randn(6, 5), torch.arange(6) % 3))
    (out.score.sum() + out.logits.square().sum()).backward()
    for name, parameter in [*generator.named_parameters(), *critic.named_parameters()]:
        assert parameter.grad is not None, name


@pytest.mark.parametrize("architecture", GANS)
def test_every_position_of_a_sample_depends_on_the_noise_and_label(architecture):
    """No border, cut-off dimension or frame is constant; outputs are not squashed into [-1, 1]."""
    torch.manual_seed(0)
    generator = build_generator(small(architecture, dim=21, channels=8)).train()
    noise, labels = torch.randn(16, 5), torch.arange(16) % 3
    made = generator(noise, labels)
    assert (made.std(dim=0) > 0).all()
    generator.eval()
    assert (generator(noise, labels) != generator(noise, (labels + 1) % 3)).any(dim=0).all()
    last = [module for module in generator.modules() if isinstance(module, (nn.Conv2d, nn.Linear))][-1]
    with torch.no_grad():
        last.bias += 50
    assert generator(noise, labels).mean() > 40


def test_generator_layers_of_the_paper():
    """GAN-CNN: conv2d and transposed conv2d, each with batch norm and leaky ReLU, a conv2d at the end, no tanh."""
    for architecture in ("gan_cnn", "gan_att"):
        body = list(build_generator(small(architecture)).body)
        kinds = [type(module) for module in body if not isinstance(module, TimeAttention)]
        convs = [kind for kind in kinds if kind in (nn.Conv2d, nn.ConvTranspose2d)]
        assert len(convs) == 9 and convs.count(nn.ConvTranspose2d) == 3 and kinds[-1] is nn.Conv2d
        for number in range(8):
            assert kinds[3 * number] in (nn.Conv2d, nn.ConvTranspose2d)
            assert kinds[3 * number + 1:3 * number + 3] == [BatchNorm, nn.LeakyReLU]
        assert nn.Tanh not in kinds


def test_gan_att_has_one_attention_after_the_fourth_convolution():
    body = list(build_generator(small("gan_att")).body)
    place, = [index for index, module in enumerate(body) if isinstance(module, TimeAttention)]
    assert sum(isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) for module in body[:place]) == 4
    assert isinstance(body[place - 1], nn.LeakyReLU) and isinstance(body[place + 1], nn.Conv2d)
    assert all(module.dilation == (2, 2) for module in body[:-1] if isinstance(module, nn.Conv2d))
    assert not any(isinstance(module, TimeAttention) for module in build_generator(small("gan_cnn")).modules())


def test_critic_layers_of_the_paper():
    """8 conv2d, each with layer norm and leaky ReLU, then two linear heads; no batch norm, which the penalty forbids."""
    for architecture in ("gan_cnn", "gan_att"):
        critic = Critic(small(architecture))
        assert [[type(module) for module in layer] for layer in critic.layers] == [[nn.Conv2d, SampleNorm, nn.LeakyReLU]] * 8
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


@pytest.mark.parametrize("ours, theirs, shape", [
    (BatchNorm, nn.BatchNorm2d, (5, 4, 3, 6)), (BatchNorm, nn.BatchNorm1d, (7, 4)), (TimeBatchNorm, nn.BatchNorm1d, (5, 6, 4))])
def test_batch_norm_is_torch_batch_norm(ours, theirs, shape):
    ours, theirs = ours(4), theirs(4)
    weight, bias = torch.rand(4), torch.rand(4)
    for module in (ours, theirs):
        module.load_state_dict({"weight": weight, "bias": bias}, strict=False)
    over_time = isinstance(ours, TimeBatchNorm)
    for training in (True, True, False):
        ours.train(training), theirs.train(training)
        x = 1 + 2 * torch.randn(shape)
        expected = theirs(x.transpose(1, 2)).transpose(1, 2) if over_time else theirs(x)
        torch.testing.assert_close(ours(x), expected)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)


@pytest.mark.parametrize("kernel, stride, frames", [(3, 1, 8), (3, 2, 8), (5, 2, 9), (1, 1, 4), (5, 1, 7)])
def test_time_conv_is_conv1d(kernel, stride, frames):
    ours, theirs = TimeConv(4, 6, kernel, stride), nn.Conv1d(4, 6, kernel, stride, padding=kernel // 2)
    with torch.no_grad():  # linear's columns are (input, tap), as unfold lays them
        theirs.weight.copy_(ours.linear.weight.view(6, 4, kernel))
        theirs.bias.copy_(ours.linear.bias)
    x = torch.randn(3, frames, 4)
    torch.testing.assert_close(ours(x), theirs(x.transpose(1, 2)).transpose(1, 2))


def test_upsample_doubles_time():
    x = torch.arange(12.0).view(1, 2, 6)
    assert Upsample()(x).tolist() == [[[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]]


def test_attention_against_loops():
    attention, x = TimeAttention(4).double(), torch.randn(2, 4, 3, 5, dtype=torch.float64)
    value = torch.einsum("oc,bctd->botd", attention.value.weight[:, :, 0, 0], x) + attention.value.bias.view(1, -1, 1, 1)
    expected = x.clone()
    for b in range(2):
        frames = [x[b, :, t].mean(dim=1) for t in range(3)]
        for t in range(3):
            energy = torch.stack([attention.query(frames[t]) @ attention.key(frames[s]) / 2 for s in range(3)])  # 2 = sqrt(4)
            weights = energy.exp() / energy.exp().sum()
            mixed = sum(weights[s] * value[b, :, s] for s in range(3))  # [C, D']
            expected[b, :, t] += attention.output.weight[:, :, 0, 0] @ mixed + attention.output.bias[:, None]
    torch.testing.assert_close(attention(x), expected)


@pytest.mark.parametrize("changes, message", [
    ({"architecture": "gan_3d"}, "gan_cnn, gan_att, gan_1d"), ({"frames": 12, "architecture": "gan_cnn"}, "multiple of 8"),
    ({"frames": 6}, "multiple of 4"), ({"kernel": 4}, "odd"), ({"noise": 0}, "positive")])
def test_impossible_sizes_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        NetworkConfig(**changes)


def test_utterance_branch_shifts_all_frames_alike():
    config = small("gan_1d", utterance_branch=True)
    torch.manual_seed(0)
    generator = build_generator(config).eval()
    without = build_generator(dataclasses.replace(config, utterance_branch=False)).eval()
    without.load_state_dict({key: value for key, value in generator.state_dict().items() if not key.startswith("utterance")})
    noise, labels = torch.randn(3, 5), torch.tensor([0, 1, 2])
    shift = generator(noise, labels) - without(noise, labels)
    torch.testing.assert_close(shift, shift[:, :1].expand_as(shift))
    assert shift.abs().max() > 1e-3
