"""Shapes, layers and sizes of the generators, and our layers against torch's. (Critics: tests/distill.)"""

import dataclasses

import pytest
import torch
import torch.nn as nn

from s3prl_dd.errors import UserError
from s3prl_dd.generator.networks import (
    GANS,
    BatchNorm,
    Network,
    NetworkConfig,
    TimeAttention,
    TimeBatchNorm,
    TimeConv,
    Upsample,
    autoregressive,
    build_generator,
)


def small(architecture, classes=3, dim=20, **changes):
    values = {"architecture": architecture, "frames": 8, "noise": 5, "channels": 4, "critic_channels": 8, **changes}
    return NetworkConfig(**values).sized(classes, dim)


@pytest.mark.parametrize("architecture", GANS)
@pytest.mark.parametrize("dim", [1, 39, 80, 240, 257, 288])
@pytest.mark.parametrize("frames", [8, 24])
def test_shapes(architecture, dim, frames):
    config = small(architecture, dim=dim, frames=frames, utterance_branch=dim == 39)
    made = build_generator(config)(torch.randn(2, 5), torch.tensor([0, 2]))
    assert made.shape == (2, frames, dim)


@pytest.mark.parametrize("architecture", GANS)
@pytest.mark.parametrize("branch", [False, True])
def test_every_parameter_is_used(architecture, branch):
    generator = build_generator(small(architecture, utterance_branch=branch))
    generator(torch.randn(6, 5), torch.arange(6) % 3).square().sum().backward()
    for name, parameter in generator.named_parameters():
        assert parameter.grad is not None, name


def test_a_gaussian_is_class_mean_and_noise_by_factor():
    generator = build_generator(small("gaussian", dim=4))
    with torch.no_grad():
        generator.means.normal_(), generator.factor.normal_()
    noise, labels = torch.randn(5, 4), torch.tensor([0, 1, 2, 2, 0])
    made = generator(noise, labels)
    assert made.shape == (5, 1, 4)
    torch.testing.assert_close(made[:, 0], generator.means[labels] + noise @ generator.factor)


def moving(classes=2, dim=3, frames=40):
    """A Gaussian with frames whose directions are the axes."""
    generator = build_generator(small("gaussian_frames", classes, dim, frames=frames))
    with torch.no_grad():
        generator.directions.copy_(torch.eye(dim).expand(classes, dim, dim))
    return generator


def test_frames_of_a_gaussian_remember_the_one_before():
    """Each class and direction by its own memory; the utterance mean stays the Gaussian's."""
    generator = moving()
    memory = torch.tensor([[0.9, 0.0, -0.5], [0.3, 0.8, 0.0]])
    with torch.no_grad():
        generator.memory.copy_(memory), generator.means.fill_(7)
    labels = torch.arange(4000) % 2
    noise = torch.randn(4000, generator.config.noise, generator=torch.Generator().manual_seed(0))
    frames = generator(noise, labels).detach()
    torch.testing.assert_close(frames.mean(dim=1), torch.full((4000, 3), 7.0), atol=1e-4, rtol=0)
    for label in range(2):
        process = autoregressive(noise[labels == label, 3:].unflatten(1, (40, 3)), memory[label].expand(2000, 3))
        products = (process[:, 1:] * process[:, :-1]).mean(dim=(0, 1))
        torch.testing.assert_close(products, memory[label], atol=0.05, rtol=0)
        torch.testing.assert_close(process.var(dim=0).mean(dim=0), torch.ones(3), atol=0.05, rtol=0)
        torch.testing.assert_close(frames[labels == label], 7 + process - process.mean(dim=1, keepdim=True))


def test_a_gaussian_with_frames_has_a_profile_over_time():
    generator = moving(frames=4)
    with torch.no_grad():
        generator.profile.normal_(), generator.factor.normal_()
    quiet = torch.zeros(2, generator.config.noise)
    assert torch.equal(generator(quiet, torch.tensor([1, 0])), generator.profile[[1, 0]])
    quiet[:, :3] = 1
    expected = generator.profile[0] + generator.factor.sum(dim=0)
    torch.testing.assert_close(generator(quiet, torch.tensor([0, 0]))[1], expected)


def test_points_are_a_list_of_each_class():
    config = NetworkConfig(architecture="points", frames=2).sized(3, 4, points=[2, 1, 3])
    generator = build_generator(config)
    with torch.no_grad():
        generator.points.copy_(torch.arange(6.0)[:, None, None].expand(6, 2, 4))
    places, labels = torch.tensor([[1.0], [0.0], [2.0], [0.0]]), torch.tensor([0, 1, 2, 2])
    made = generator(places, labels)
    assert made.shape == (4, 2, 4) and made[:, 0, 0].tolist() == [1, 2, 5, 3]
    with pytest.raises(UserError, match="points: expected one for each of the 3 classes, found 2"):
        NetworkConfig(architecture="points").sized(3, 4, points=[2, 1])
    with pytest.raises(UserError, match="for architecture points and no other"):
        NetworkConfig(architecture="points").sized(3, 4)
    with pytest.raises(UserError, match="for architecture points and no other"):
        NetworkConfig().sized(3, 4, points=[1, 1, 1])


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


@pytest.mark.parametrize("ours, theirs, shape", [
    (BatchNorm, nn.BatchNorm2d, (5, 4, 3, 6)), (BatchNorm, nn.BatchNorm1d, (7, 4)),
    (TimeBatchNorm, nn.BatchNorm1d, (5, 6, 4))])
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
    value = torch.einsum("oc,bctd->botd", attention.value.weight[:, :, 0, 0], x)
    value = value + attention.value.bias.view(1, -1, 1, 1)
    expected = x.clone()
    for b in range(2):
        frames = [x[b, :, t].mean(dim=1) for t in range(3)]
        for t in range(3):
            query, two = attention.query(frames[t]), 4 ** 0.5
            energy = torch.stack([query @ attention.key(frames[s]) / two for s in range(3)])
            weights = energy.exp() / energy.exp().sum()
            mixed = sum(weights[s] * value[b, :, s] for s in range(3))  # [C, D']
            expected[b, :, t] += attention.output.weight[:, :, 0, 0] @ mixed + attention.output.bias[:, None]
    torch.testing.assert_close(attention(x), expected)


@pytest.mark.parametrize("changes, message", [
    ({"architecture": "gan_3d"}, "architecture: expected 'gan_cnn', 'gan_att', 'gan_1d'"),
    ({"frames": 12, "architecture": "gan_cnn"}, "frames: expected a multiple of 8 for gan_cnn"),
    ({"frames": 6}, "frames: expected a multiple of 4 for gan_1d"), ({"frames": 0}, "frames"),
    ({"frames": 4100}, "frames"), ({"kernel": 4}, "kernel: expected an odd number"), ({"kernel": 33}, "kernel"),
    ({"noise": 0}, "noise"), ({"channels": 65537}, "channels"), ({"channels": True}, "channels"),
    ({"critic_channels": -1}, "critic_channels"),
    ({"classes": 3}, "unknown key 'classes'"), ({"dim": 20}, "unknown key 'dim'"), ({"chanels": 4}, "Did you mean")])
def test_impossible_sizes_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        NetworkConfig(**changes)


@pytest.mark.parametrize("classes, dim", [(1, 20), (1001, 20), (3, 0), (3, 65537)])
def test_impossible_corpora_and_features_are_refused(classes, dim):
    with pytest.raises(UserError, match="classes" if dim == 20 else "dim"):
        NetworkConfig().sized(classes, dim)


def test_a_network_is_its_configuration_and_what_sized_it():
    config = NetworkConfig(frames=24, noise=7, utterance_branch=True)
    network = config.sized(3, 20)
    assert dataclasses.asdict(network) == {**dataclasses.asdict(config), "classes": 3, "dim": 20, "points": None}
    assert isinstance(network, Network) and Network(**dataclasses.asdict(network)) == network


def test_utterance_branch_shifts_all_frames_alike():
    config = small("gan_1d", utterance_branch=True)
    torch.manual_seed(0)
    generator = build_generator(config).eval()
    without = build_generator(dataclasses.replace(config, utterance_branch=False)).eval()
    rest = {key: value for key, value in generator.state_dict().items() if not key.startswith("utterance")}
    without.load_state_dict(rest)
    noise, labels = torch.randn(3, 5), torch.tensor([0, 1, 2])
    shift = generator(noise, labels) - without(noise, labels)
    torch.testing.assert_close(shift, shift[:, :1].expand_as(shift))
    assert shift.abs().max() > 1e-3
