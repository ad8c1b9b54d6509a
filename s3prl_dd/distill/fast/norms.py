"""The critic's layer norm: of a sample, over channels and positions. Its second derivatives (Eq. 1) are written down.

Three ways lead to the same numbers, up to rounding (`way_of`): torch's kernels, sums over maps as they lie, and passes
over rows of channels (fused.py). Under create_graph a layer gives the gradient of its input alone (see layers.py).
"""

import math
from typing import Any, Literal

import torch
import torch.nn as nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from . import fused

aten = torch.ops.aten


def left_to_torch(x: torch.Tensor) -> bool:
    """Whether torch's own layers are wanted, where shapes alone are counted."""
    return x.device.type == "meta"


class SampleNorm(nn.GroupNorm):
    """Layer norm of a critic's maps [B, channels, ...]: over channels and positions of one sample (one group)."""

    def __init__(self, channels: int) -> None:
        super().__init__(1, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, channels, T, D] -> the same shape"""
        if left_to_torch(x):
            return super().forward(x)
        # here and not in _Normalise, whose second derivatives reach x through what it keeps of it
        laid = x if way_of(x) == "sums" else x.contiguous(memory_format=_layout(x))
        return _Normalise.apply(laid, self.weight, self.bias, self.eps)


class TimeSampleNorm(SampleNorm):
    """The same of [B, T, channels]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, T, channels] -> [B, T, channels]"""
        maps = x[:, None].permute(0, 3, 1, 2)  # [B, channels, 1, T], channels last
        return super().forward(maps).permute(0, 2, 3, 1)[:, 0]


class MeanSampleNorm(SampleNorm):
    """The same of [B, channels]: a layer norm, whose own backward pass rounds by the number of threads."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, channels] -> [B, channels]"""
        return super().forward(x[:, :, None, None])[:, :, 0, 0]


OVER_SAMPLE, OVER_POSITIONS = (1, 2, 3), (2, 3)
"""Axes of maps [B, channels, T, D]."""

LARGE = 1 << 16
"""Numbers of a sample's maps from which on a GPU's own norm, one block of threads a sample, leaves most of it idle."""

PIECES = 32
"""Pieces of a sample's positions, at most, that are summed side by side."""


Way = Literal["torch", "sums", "rows"]
"""torch: its kernel. sums: over maps as they lie. rows: passes over rows of channels, fused.py's, compiled on a GPU."""


def way_of(x: torch.Tensor) -> Way:
    """How the norm of maps [B, channels, T, D] and its gradient are computed.

    rows: large maps on a GPU. sums: maps in half precision, whose statistics stay in float32, and those of one
    position, which torch's kernel rounds by the number of threads. torch: all others.
    """
    if x.is_cuda and x[0].numel() >= LARGE:
        return "rows"
    by_sums = x.dtype == torch.bfloat16 or x[0, 0].numel() == 1
    return "sums" if by_sums else "torch"


def _derives_twice_by_rows(x: torch.Tensor) -> bool:
    """Whether second derivatives are computed by rows: of large maps, and of GAN-ATT's and GAN-CNN's on a CPU. GAN-1D's
    stay with the elementwise form, whose bits are the same on any number of threads."""
    has_area = x.shape[2] > 1
    return way_of(x) == "rows" or (x.device.type == "cpu" and has_area)


def _statistics_dtype(x: torch.Tensor) -> torch.dtype:
    return torch.float32 if x.dtype == torch.bfloat16 else x.dtype


def _layout(x: torch.Tensor) -> torch.memory_format:
    """How the norm wants maps [B, channels, T, D]: large ones channels last, torch's kernels have them as they lie, but
    on a GPU channel by channel."""
    if way_of(x) == "rows":
        return torch.channels_last
    last = x.device.type == "cpu" and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def _normalise(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float
               ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """weight * (x - mean) * scale + bias, and mean and scale [B, 1] of each sample. x: in `_layout`, but for sums"""
    batch, channels = x.shape[:2]
    way = way_of(x)
    if way == "torch":
        return aten.native_group_norm(x, weight, bias, batch, channels, x[0, 0].numel(), 1, eps)
    if way == "rows":
        return _normalise_by_rows(x, weight, bias, eps)
    dtype, size = _statistics_dtype(x), x[0].numel()
    mean = x.mean(dim=OVER_SAMPLE, dtype=dtype)[:, None]  # [B, 1]
    squares = torch.linalg.vector_norm(x, dim=OVER_SAMPLE, dtype=dtype).square()[:, None] / size
    scale = (squares - mean.square()).clamp(min=0).add(eps).rsqrt()
    slope = scale * weight  # [B, channels]
    y = torch.addcmul(_by_channel(bias - mean * slope), x, _by_channel(slope), out=torch.empty_like(x))
    return y, mean, scale


def _normalise_backward(gradient: torch.Tensor, x: torch.Tensor, mean: torch.Tensor, scale: torch.Tensor,
                        weight: torch.Tensor | None, wanted: list[bool]) -> list[torch.Tensor]:
    """Gradients of x, weight and bias, those that are wanted. mean, scale: [B, 1] of each sample"""
    way = way_of(x)
    if way == "rows":
        assert weight is not None
        return _normalise_backward_by_rows(gradient, x, mean, scale, weight)
    if way == "sums":
        return _normalise_backward_by_sums(gradient, x, mean, scale, weight)
    batch, channels = x.shape[:2]
    positions = x[0, 0].numel()
    gradient = gradient.contiguous(memory_format=_layout(x))
    return aten.native_group_norm_backward(gradient, x, mean, scale, weight, batch, channels, positions, 1, wanted)


def _normalise_backward_by_sums(gradient: torch.Tensor, x: torch.Tensor, mean: torch.Tensor, scale: torch.Tensor,
                                weight: torch.Tensor | None) -> list[torch.Tensor]:
    total, with_x = _channel_sums(gradient), _channel_sums(gradient * x)  # [B, channels]
    weight = torch.ones_like(total[0]) if weight is None else weight
    mean_d, d_x = ((values * weight).sum(dim=1, keepdim=True) / x[0].numel() for values in (total, with_x))  # [B, 1]
    d_n = scale * (d_x - mean * mean_d)
    # scale * (d - <d> - n <d n>), where d = weight * gradient, n = scale * x - scale * mean
    constant = scale * (scale * mean * d_n - mean_d)
    of_x = torch.addcmul(_by_channel(constant), x, _by_channel(-scale.square() * d_n), out=torch.empty_like(x))
    of_x.addcmul_(gradient, _by_channel(scale * weight))
    return [of_x, (scale * (with_x - mean * total)).sum(dim=0), total.sum(dim=0)]


def _channel_sums(maps: torch.Tensor) -> torch.Tensor:
    """[B, channels, T, D] -> [B, channels]"""
    return maps.sum(dim=OVER_POSITIONS, dtype=_statistics_dtype(maps))


def _by_channel(values: torch.Tensor) -> torch.Tensor:
    """[B, channels] or [B, 1], to be spread over maps."""
    return values[:, :, None, None]


class _Normalise(Function):
    """y = weight * (x - mean) * scale + bias, mean and scale of each sample"""

    @staticmethod
    def forward(context: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> torch.Tensor:
        y, mean, scale = _normalise(x, weight, bias, eps)
        context.save_for_backward(x, mean, scale, weight)
        return y

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        if torch.is_grad_enabled():
            return _NormaliseBack.apply(gradients[0], *context.saved_tensors), None, None, None
        x, mean, scale, weight = context.saved_tensors
        wanted = [*context.needs_input_grad[:3]]
        return *_normalise_backward(gradients[0], x, mean, scale, weight, wanted), None


class _NormaliseBack(Function):
    """The gradient of x: scale * P(weight * gradient), where P(d) = d - <d> - n <d n>, n = (x - mean) * scale.

    <.>: the mean over a sample. P is symmetric, which makes its own derivatives short.
    """

    @staticmethod
    def forward(context: Any, gradient: torch.Tensor, x: torch.Tensor, mean: torch.Tensor, scale: torch.Tensor,
                weight: torch.Tensor) -> torch.Tensor:
        context.save_for_backward(gradient, x, mean, scale, weight)
        return _normalise_backward(gradient, x, mean, scale, weight, [True, False, False])[0]

    @staticmethod
    @once_differentiable
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        v, = gradients
        gradient, x, mean, scale, weight = context.saved_tensors
        if _derives_twice_by_rows(x):
            of_gradient, of_x, of_weight = _second_derivatives_by_rows(v, gradient, x, mean, scale, weight)
            return of_gradient, of_x, None, None, of_weight
        weight = weight.view(-1, 1, 1)
        projected = _normalise_backward(v, x, mean, scale, None, [True, False, False])[0]  # scale * P(v)
        d, n = gradient * weight, _standardised(x, mean, scale)
        mean_v, mean_d, v_n, d_n, v_d = (_sample_mean(values) for values in (v, d, v * n, d * n, v * d))
        along_n = v_d - mean_v * mean_d - 3 * v_n * d_n
        # -scale^2 (<d n> v + <v n> d + along_n n - <d n> <v> - <v n> <d>)
        of_x = torch.addcmul(-(d_n * mean_v + v_n * mean_d), v, d_n, out=torch.empty_like(x))
        of_x.addcmul_(d, v_n).addcmul_(n, along_n).mul_(_by_sample(-scale.square()))
        of_weight = (gradient * projected).sum(dim=(0, *OVER_POSITIONS), dtype=mean.dtype)
        return projected.mul_(weight), of_x, None, None, of_weight


def _standardised(x: torch.Tensor, mean: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """(x - mean) * scale. mean, scale: [B, 1] of each sample"""
    return torch.addcmul(_by_sample(-mean * scale), x, _by_sample(scale), out=torch.empty_like(x))


def _sample_mean(maps: torch.Tensor) -> torch.Tensor:
    """[B, channels, T, D] -> [B, 1, 1, 1]"""
    return maps.mean(dim=OVER_SAMPLE, keepdim=True, dtype=_statistics_dtype(maps))


def _by_sample(values: torch.Tensor) -> torch.Tensor:
    return values.view(-1, 1, 1, 1)


# by passes over rows of channels


def _normalise_by_rows(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float
                       ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """See _normalise."""
    size = x[0].numel()
    mean, squares = (_over_channels(_over_pieces(sums)) / size for sums in fused.moments(_pieces(x)))  # [B, 1]
    scale = (squares - mean.square()).clamp(min=0).add(eps).rsqrt()
    slope = scale * weight  # [B, channels]
    y = torch.empty_like(x)
    fused.put(_rows(y), bias - mean * slope, (slope, _rows(x)))
    return y, mean, scale


def _normalise_backward_by_rows(gradient: torch.Tensor, x: torch.Tensor, mean: torch.Tensor, scale: torch.Tensor,
                                weight: torch.Tensor) -> list[torch.Tensor]:
    """See _normalise_backward: all three."""
    gradient, size = gradient.contiguous(memory_format=torch.channels_last), x[0].numel()
    total, with_x = map(_over_pieces, fused.products(_pieces(x), _pieces(gradient)))  # [B, channels]
    mean_d, d_x = (_over_channels(values * weight) / size for values in (total, with_x))  # [B, 1]
    d_n = scale * (d_x - mean * mean_d)
    # scale * (d - <d> - n <d n>), where d = weight * gradient, n = scale * x - scale * mean
    of_x, all_channels = torch.empty_like(x), torch.zeros_like(total)
    constant = all_channels + scale * (scale * mean * d_n - mean_d)
    by_x = all_channels - scale.square() * d_n
    fused.put(_rows(of_x), constant, (by_x, _rows(x)), (scale * weight, _rows(gradient)))
    return [of_x, (scale * (with_x - mean * total)).sum(dim=0), total.sum(dim=0)]


def _second_derivatives_by_rows(v: torch.Tensor, gradient: torch.Tensor, x: torch.Tensor, mean: torch.Tensor,
                                scale: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """See _NormaliseBack.backward: of the gradient, of x and of the weight."""
    v, gradient, x = (maps.contiguous(memory_format=torch.channels_last) for maps in (v, gradient, x))
    size = x[0].numel()
    sums = fused.all_products(_pieces(x), _pieces(v), _pieces(gradient))
    sum_v, sum_g, v_x, g_x, v_g = map(_over_pieces, sums)  # [B, channels]
    mean_v, mean_d = _over_channels(sum_v) / size, _over_channels(sum_g * weight) / size  # [B, 1]
    v_n = scale * (_over_channels(v_x) / size - mean * mean_v)
    d_n = scale * (_over_channels(g_x * weight) / size - mean * mean_d)
    v_d = _over_channels(v_g * weight) / size
    along_n = v_d - mean_v * mean_d - 3 * v_n * d_n

    projected = scale * (scale * mean * v_n - mean_v), -scale.square() * v_n, scale  # constant, by x, by v; [B, 1]
    of_gradient, of_x = torch.empty_like(gradient), torch.empty_like(x)
    constant, by_x, by_v = (values * weight for values in projected)  # [B, channels]
    fused.put(_rows(of_gradient), constant, (by_x, _rows(x)), (by_v, _rows(v)))
    constant, by_x, by_v = projected
    of_weight = (constant * sum_g + by_x * g_x + by_v * v_g).sum(dim=0)

    steep, all_channels = scale.square(), torch.zeros_like(sum_v)
    constant = all_channels + steep * (along_n * scale * mean + d_n * mean_v + v_n * mean_d)
    by_x, by_v = all_channels - steep * along_n * scale, all_channels - steep * d_n
    by_gradient = -steep * v_n * weight
    fused.put(_rows(of_x), constant, (by_x, _rows(x)), (by_v, _rows(v)), (by_gradient, _rows(gradient)))
    return of_gradient, of_x, of_weight


def _rows(maps: torch.Tensor) -> torch.Tensor:
    """[B, channels, T, D], channels last -> [B, T * D, channels], the same memory"""
    batch, channels, time, dim = maps.shape
    return maps.permute(0, 2, 3, 1).view(batch, time * dim, channels)


def _pieces(maps: torch.Tensor) -> torch.Tensor:
    """[B, channels, T, D], channels last -> [B, K, T * D / K, channels], the same memory"""
    rows = _rows(maps)
    return rows.unflatten(1, (math.gcd(rows.shape[1], PIECES), -1))


def _over_pieces(sums: torch.Tensor) -> torch.Tensor:
    """[B, K, channels] -> [B, channels]"""
    return sums.sum(dim=1)


def _over_channels(sums: torch.Tensor) -> torch.Tensor:
    """[B, channels] -> [B, 1]"""
    return sums.sum(dim=1, keepdim=True)
