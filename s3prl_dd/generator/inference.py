"""A generator's network as it draws: the same function in fewer passes over memory, on a bounded part of a batch.

Batch norm goes into the convolution or linear layer before it, leaky ReLU works in place, maps lie channels last, and
attention's two 1 x 1 convolutions are one. Frames are the network's own up to float32 rounding: a difference of at
most 1e-4 of their spread.
"""

import copy
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import torch
import torch.nn.functional as F
from torch import nn

from ..config import Count, settings
from ..devices import side_by_side
from ..products import Linear, linear
from .networks import BatchNorm, ConditionalGenerator, GaussianMeans, Network, Points, TimeAttention, TimeConv, Upsample

MEGABYTES = {"cpu": 32, "cuda": 2048}
"""Of activations in one pass. On a CPU, memory that is used again at once is faster than a larger batch."""

HALF_MEGABYTES = 128
"""The same of bfloat16 on a CPU, whose matrix units want more rows."""


@settings
class DrawOptions:
    """How samples are computed. Nothing here changes which samples they are."""

    bfloat16: bool = False
    """Compute in bfloat16 where the device has it (about 3 % of a frame's spread off); else in float32."""

    megabytes: Count | None = None
    """Of activations in one pass; None is what suits the device."""


DRAWN = DrawOptions()
"""How samples are computed when nobody says otherwise."""


class Inference:
    """A folded copy of a network. Called with noise [B, Z] and labels [B] it gives frames [B, T, D] in float32.

    On a CPU each core has a pass of its own.

    network: as build_generator makes it, on its device; it stays as it is, and later changes to it are not seen
    """

    def __init__(self, network: nn.Module, options: DrawOptions) -> None:
        assert isinstance(network, ConditionalGenerator | GaussianMeans | Points)
        self.config = network.config
        device = next(network.parameters()).device
        half = computes_in_bfloat16(options, device) and not isinstance(network, Points)  # places are exact
        self.dtype = torch.bfloat16 if half else torch.float32
        self.network = folded(network).to(self.dtype)
        megabytes = options.megabytes or pass_megabytes(device, half)
        self.rows = max(1, megabytes * 2**20 // (sample_numbers(self.config) * self.dtype.itemsize))

    def __call__(self, noise: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """noise: [B, Z]; labels: [B] -> [B, T, D], an ordinary tensor that may be trained on"""
        frames = noise.new_empty(len(noise), self.config.frames, self.config.dim)

        def draw(start: int) -> None:
            rows = slice(start, start + self.rows)
            with torch.inference_mode():  # of each thread
                frames[rows] = self.network(noise[rows].to(self.dtype), labels[rows])

        passes = range(0, len(noise), self.rows)
        if noise.device.type != "cpu" or len(passes) == 1:
            for start in passes:
                draw(start)
            return frames
        with side_by_side() as threads, ThreadPoolExecutor(threads) as pool:
            list(pool.map(draw, passes))
        return frames


def computes_in_bfloat16(options: DrawOptions, device: torch.device) -> bool:
    """Whether these options mean bfloat16 on this device."""
    if device.type == "cuda":
        return options.bfloat16 and torch.cuda.is_bf16_supported(including_emulation=False)
    return options.bfloat16 and device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def pass_megabytes(device: torch.device, half: bool) -> int:
    """Megabytes of activations in one pass, where nobody says otherwise."""
    return HALF_MEGABYTES if half and device.type == "cpu" else MEGABYTES.get(device.type, MEGABYTES["cuda"])


def folded(network: nn.Module) -> nn.Module:
    """A copy of a network of build_generator for drawing alone, on the same device; the network stays as it is."""
    network = copy.deepcopy(network).eval().requires_grad_(False)
    if isinstance(network, ConditionalGenerator):
        network.start = Linear.of(network.start)
        network.body = nn.Sequential(*fold_layers(network.body))
    return network


def fold_layers(layers: Iterable[nn.Module]) -> list[nn.Module]:
    """The layers of a generator's body, whose batch norms are folded away. Changes the layers' weights."""
    kept: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, BatchNorm):
            fold_norm(layer, kept[-2] if isinstance(kept[-1], Upsample) else kept[-1])
        else:
            kept.append(layer)
    return [_fast(layer) for layer in kept]


def _fast(layer: nn.Module) -> nn.Module:
    """What computes the same as this layer, faster where nothing is kept for gradients."""
    if isinstance(layer, nn.LeakyReLU):
        return nn.LeakyReLU(layer.negative_slope, inplace=True)
    if isinstance(layer, nn.Linear):
        return Linear.of(layer)
    if isinstance(layer, TimeConv):
        layer.linear = Linear.of(layer.linear)
    if isinstance(layer, TimeAttention):
        return FoldedAttention(layer)
    if isinstance(layer, nn.Conv2d) and layer.out_channels == 1:
        return OneMap(layer)
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        weight = layer.weight.contiguous(memory_format=torch.channels_last)
        layer.weight = nn.Parameter(weight, requires_grad=False)
    return layer


def fold_norm(norm: BatchNorm, layer: nn.Module) -> None:
    """Put a batch norm, as in evaluation, into the layer before it.

    Where an Upsample lies between them, the layer has the norm's channels twice, the first half of each frame first.
    """
    scale = norm.weight.double() * (norm.running_var.double() + norm.eps).rsqrt()  # [channels]
    offset = norm.bias.double() - norm.running_mean.double() * scale
    layer = layer.linear if isinstance(layer, TimeConv) else layer
    assert isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d) and layer.bias is not None
    repeats = len(layer.bias) // len(scale)
    scale, offset = scale.repeat(repeats), offset.repeat(repeats)
    shape = [1] * layer.weight.dim()
    shape[1 if isinstance(layer, nn.ConvTranspose2d) else 0] = -1  # where the output channels are
    layer.weight.copy_(layer.weight.double() * scale.view(shape))
    layer.bias.copy_(layer.bias.double() * scale + offset)


class FoldedAttention(nn.Module):
    """TimeAttention on maps that lie channels last: the output's 1 x 1 convolution is in the value's.

    A frame's weights sum to 1, so output(mix(value(x))) is mix(output(value(x))).
    """

    def __init__(self, attention: TimeAttention) -> None:
        super().__init__()
        self.query, self.key = attention.query, attention.key
        inner, outer = attention.value, attention.output
        assert inner.bias is not None and outer.bias is not None
        output = outer.weight[:, :, 0, 0].double()  # [C, C]
        weight = output @ inner.weight[:, :, 0, 0].double()
        bias = output @ inner.bias.double() + outer.bias.double()
        self.weight = nn.Parameter(weight.float(), requires_grad=False)
        self.bias = nn.Parameter(bias.float(), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, T, D'] -> [B, C, T, D']"""
        x = x.permute(0, 2, 3, 1)  # [B, T, D', C], as it lies in memory
        frames = x.mean(dim=2)  # [B, T, C]
        weights = self.query(frames) @ self.key(frames).transpose(1, 2) / frames.shape[-1] ** 0.5  # [B, T, T]
        values = linear(x, self.weight, self.bias).flatten(2)  # [B, T, D' * C]
        mixed = weights.softmax(dim=-1) @ values
        return (x + mixed.view_as(x)).permute(0, 3, 1, 2)


class OneMap(nn.Module):
    """A convolution to one map: a matrix product from channels to taps, each of which goes to its place."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        assert conv.bias is not None
        self.kernel = conv.kernel_size
        taps = conv.weight[0].flip(1, 2).flatten(1).T.contiguous()  # [kernel * kernel, C]
        self.taps, self.bias = nn.Parameter(taps, requires_grad=False), conv.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, T, D'] -> [B, 1, T, D']"""
        size, pad = x.shape[2:], self.kernel[0] // 2
        taps = self.taps @ x.permute(0, 2, 3, 1).flatten(1, 2).transpose(1, 2)  # [B, kernel * kernel, T * D']
        return F.fold(taps, size, self.kernel, padding=pad) + self.bias


def sample_numbers(network: Network) -> int:
    """Activations of one sample that are in memory at once: the widest layer's input and output, at most."""
    if network.architecture == "gaussian":
        return network.dim
    if network.architecture == "points":
        return network.frames * network.dim
    if network.architecture == "gaussian_frames":
        return network.dim * (network.dim + 4 * network.frames)
    if network.architecture == "gan_1d":
        return network.frames * (network.channels * (network.kernel + 2) + network.dim)
    return network.frames * 8 * -(-network.dim // 8) * 2 * network.channels
