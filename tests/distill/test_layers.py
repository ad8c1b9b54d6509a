"""The critic's layers against torch's own: values, first derivatives, and those of a gradient penalty."""

import copy

import pytest
import torch
import torch.nn as nn

from s3prl_dd.distill.fast import fused, norms
from s3prl_dd.distill.fast.layers import CriticConv2d, LastBatchNorm, TapTimeConv, as_trained
from s3prl_dd.distill.fast.norms import SampleNorm, TimeSampleNorm
from s3prl_dd.generator import NetworkConfig, build_generator
from s3prl_dd.generator.networks import GANS, BatchNorm, TimeConv


class Plain1d(nn.GroupNorm):
    """torch's norm of [B, T, channels]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


CASES = {
    "conv": (lambda: nn.Conv2d(3, 5, 3, 2, 1), lambda: CriticConv2d(3, 5, 3, 2, 1), (4, 3, 7, 9)),
    "wide conv": (lambda: nn.Conv2d(3, 5, 5, 1, 2), lambda: CriticConv2d(3, 5, 5, 1, 2), (4, 3, 8, 9)),
    "time conv": (lambda: TimeConv(6, 4, 3), lambda: TapTimeConv(6, 4, 3), (3, 8, 6)),
    "strided time conv": (lambda: TimeConv(6, 4, 5, 2), lambda: TapTimeConv(6, 4, 5, 2), (3, 8, 6)),
    "wider time conv": (lambda: TimeConv(3, 4, 3), lambda: TapTimeConv(3, 4, 3), (3, 8, 3)),
    "odd time conv": (lambda: TimeConv(6, 4, 3, 2), lambda: TapTimeConv(6, 4, 3, 2), (3, 7, 6)),
    "norm": (lambda: nn.GroupNorm(1, 5), lambda: SampleNorm(5), (4, 5, 3, 6)),
    "time norm": (lambda: Plain1d(1, 5), lambda: TimeSampleNorm(5), (4, 3, 5)),
}


def derivatives(layer: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """The output, its gradient by x, and the gradients of a loss on both by x and the weights."""
    layer.zero_grad()
    x = x.detach().requires_grad_()
    y = layer(x)
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
    slope, = torch.autograd.grad((y.square() * weights).sum(), x, create_graph=True)
    ((slope.flatten(1).norm(dim=1) - 1).square().mean() + (y.sin() * weights).sum()).backward()
    return [y.detach(), slope.detach(), x.grad, *(parameter.grad for parameter in layer.parameters())]


def time_last(x: torch.Tensor) -> torch.Tensor:
    """The same maps [B, channels, T, D] as neither torch's kernels nor ours have them in memory."""
    return x.permute(0, 1, 3, 2).contiguous().permute(0, 1, 3, 2)


LAYOUTS = {"first": lambda x: x, "channels last": lambda x: x.to(memory_format=torch.channels_last),
           "time last": time_last}


@pytest.mark.parametrize("laid", LAYOUTS)
@pytest.mark.parametrize("case", CASES)
def test_as_torchs_own(case, laid):
    """Whatever has to be copied first, second derivatives reach what it was copied from."""
    make_torchs, make_ours, shape = CASES[case]
    torchs, ours = make_torchs().double(), make_ours().double()
    x = 2 + 3 * torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in torchs.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(1))
    ours.load_state_dict(torchs.state_dict())
    x_ours = x
    if x.dim() == 4:
        x_ours = LAYOUTS[laid](x)
        ours = ours.to(memory_format=torch.channels_last) if laid == "channels last" else ours
    for one, other in zip(derivatives(ours, x_ours), derivatives(torchs, x), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("way", ["sums", "rows"])
def test_parts_are_the_norm(way, monkeypatch):
    """The norm from sums over maps, and by the passes that a GPU has compiled, in float64."""
    monkeypatch.setattr(norms, "way_of", lambda x: way)
    for laid in LAYOUTS:
        for case in ("norm", "time norm"):
            test_as_torchs_own(case, laid)


def test_the_way_of_maps_on_a_cpu():
    """What a GPU chooses: test_gpu.py."""
    maps = torch.zeros(2, 16, 64, 64)  # as large as a GPU's large ones
    assert [norms.way_of(x) for x in (maps, maps.bfloat16(), maps[:, :, :1, :1])] == ["torch", "sums", "sums"]
    assert [norms._derives_twice_by_rows(x) for x in (maps, maps[:, :, :1])] == [True, False]


def test_what_a_gpu_compiles_is_what_a_cpu_does():
    """constant + one to three maps, each times its own coefficients."""
    maps = [torch.randn(3, 7, 4, generator=torch.Generator().manual_seed(number)) for number in range(3)]
    constant, *coefficients = torch.randn(4, 3, 4, generator=torch.Generator().manual_seed(3))
    for count in (1, 2, 3):
        terms = list(zip(coefficients, maps, strict=True))[:count]
        expected = constant[:, None] + sum(one[:, None] * other for one, other in terms)
        for put in (fused.put, lambda out, first, *rest: fused.PUT[len(rest)].plain(out, first, *sum(rest, ()))):
            out = torch.empty(3, 7, 4)
            put(out, constant, *terms)
            torch.testing.assert_close(out, expected)


def test_bfloat16_is_near_float32():
    """Output, gradient and the penalty's own derivatives of a convolution with its norm, under autocast."""
    layer = nn.Sequential(CriticConv2d(6, 8, 3, 1, 1), SampleNorm(8), nn.LeakyReLU(0.2))
    x = torch.randn(4, 6, 16, 20, generator=torch.Generator().manual_seed(0))
    expected = derivatives(layer, x)
    expected = [value.clone() for value in expected]
    with torch.autocast("cpu", torch.bfloat16):
        values = derivatives(layer, x)
    assert layer[0].weight.grad.dtype == torch.float32 and values[0].dtype == torch.bfloat16
    for one, other in zip(values, expected, strict=True):
        assert (one.float() - other).norm() < 0.1 * other.norm()


@pytest.mark.parametrize("architecture", GANS)
def test_a_generator_as_trained_is_the_same(architecture):
    """Samples, running statistics, parameters' names and gradients, in float64."""
    network = NetworkConfig(architecture=architecture, frames=8, noise=5, channels=6).sized(3, 20)
    plain = build_generator(network).double()
    ours = copy.deepcopy(plain)
    as_trained(ours)
    noise, labels = torch.randn(6, 5, dtype=torch.float64), torch.arange(6) % 3
    for _ in range(2):
        expected, frames = plain(noise, labels), ours(noise, labels)
        torch.testing.assert_close(frames, expected)
    expected.sin().sum().backward()
    frames.sin().sum().backward()
    for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
    assert list(ours.state_dict()) == list(plain.state_dict())
    torch.testing.assert_close(dict(ours.state_dict()), dict(plain.state_dict()))
    torch.testing.assert_close(ours.eval()(noise, labels), plain.eval()(noise, labels))


def test_batch_norm_channels_last_keeps_float32s_digits():
    x = 1 + torch.randn(32, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    x = x.contiguous(memory_format=torch.channels_last)
    norm = LastBatchNorm.of(BatchNorm(4))
    assert (norm(x) - BatchNorm(4).double()(x.double())).abs().max() < 1e-5
