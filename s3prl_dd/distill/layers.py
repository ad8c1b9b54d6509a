"""Layers as the distiller trains them. The critic's: their second derivatives (Eq. 1's penalty) are cheap.

torch derives a convolution's or a norm's second derivative from its parts, in many passes over memory; here they are
written down. Values are torch's own up to float32 rounding.

Under create_graph the critic's layers give the gradient of their input alone, which is all that the penalty asks for.
"""

from typing import Any, NamedTuple, Self

import torch
import torch.distributed as dist
import torch.nn as nn
import torch.nn.functional as F
from torch.autograd import Function

from ..generator.networks import BatchNorm, TimeBatchNorm, TimeConv

aten = torch.ops.aten


def _left_to_torch(x: torch.Tensor) -> bool:
    """Whether torch's own layers are wanted, where shapes alone are counted."""
    return x.device.type == "meta"


def working_dtype(x: torch.Tensor) -> torch.dtype:
    """What a convolution computes x in: autocast's choice where it is on, else x's own."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def activation() -> nn.Module:
    """Leaky ReLU in the place of its input, which no norm before it needs again."""
    return nn.LeakyReLU(0.2, inplace=True)


# convolution of maps


class CriticConv2d(nn.Conv2d):
    """nn.Conv2d of one stride and one padding, without groups or dilation."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, inputs, T, D] -> [B, outputs, T', D']"""
        if _left_to_torch(x):
            return super().forward(x)
        x, weight, bias = self._cast(x)
        return _Convolve.apply(x, weight, bias, self.stride[0], self.padding[0])

    def of_inputs(self, gradient: torch.Tensor, time: int, dim: int) -> torch.Tensor:
        """The gradient of inputs [B, inputs, time, dim] from that of outputs [B, outputs, T', D']."""
        gradient, weight, _ = self._cast(gradient)
        inputs = gradient.new_empty(len(gradient), time, dim, self.in_channels).permute(0, 3, 1, 2)  # for its shape
        return _ConvolveBack.apply(gradient, weight, inputs, self.stride[0], self.padding[0])

    def _cast(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """x, weight and bias in one precision."""
        assert self.bias is not None
        dtype = working_dtype(x)
        return x.to(dtype), self.weight.to(dtype), self.bias.to(dtype)


def _convolution_backward(gradient: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, stride: int, padding: int,
                          wanted: list[bool]) -> list[torch.Tensor]:
    """Gradients of x, weight and bias, those that are wanted."""
    sizes, strides, paddings = [weight.shape[0]], [stride, stride], [padding, padding]
    return aten.convolution_backward(
        gradient, x, weight, sizes, strides, paddings, [1, 1], False, [0, 0], 1, wanted)


class _Convolve(Function):
    """y = weight * x + bias"""

    @staticmethod
    def forward(context: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, stride: int, padding: int
                ) -> torch.Tensor:
        context.save_for_backward(x, weight)
        context.stride, context.padding = stride, padding
        return torch.conv2d(x, weight, bias, stride, padding)

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        gradient, = gradients
        x, weight = context.saved_tensors
        how = context.stride, context.padding
        of_x, of_weight, of_bias = None, None, None
        if context.needs_input_grad[0]:
            of_x = _ConvolveBack.apply(gradient, weight, x, *how)
        if context.needs_input_grad[1] and not torch.is_grad_enabled():
            _, of_weight, of_bias = _convolution_backward(gradient, x, weight, *how, [False, True, True])
        return of_x, of_weight, of_bias, None, None


class _ConvolveBack(Function):
    """The gradient of x, which is linear in the gradient of y and in the weight; x gives its shape alone."""

    @staticmethod
    def forward(context: Any, gradient: torch.Tensor, weight: torch.Tensor, x: torch.Tensor, stride: int, padding: int
                ) -> torch.Tensor:
        context.save_for_backward(gradient, weight)
        context.stride, context.padding = stride, padding
        return _convolution_backward(gradient, x, weight, stride, padding, [True, False, False])[0]

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        of_x, = gradients
        gradient, weight = context.saved_tensors
        how = context.stride, context.padding
        of_gradient, of_weight = None, None
        if context.needs_input_grad[0]:
            of_gradient = torch.conv2d(of_x, weight, None, *how)
        if context.needs_input_grad[1]:
            of_weight = _convolution_backward(gradient, of_x, weight, *how, [False, True, False])[1]
        return of_gradient, of_weight, None, None, None


# convolution over time


class TapTimeConv(TimeConv):
    """A TimeConv that copies whole rows, forwards and backwards: of its inputs, or of its outputs where they are fewer.

    With fewer outputs each frame is multiplied by all taps' weights, and the products are added where they belong.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, T, inputs] -> [B, T', channels]"""
        if self._multiplies_first():
            products = F.linear(x, self._weight_of_products())  # [B, T, kernel * channels]
            return _Spread.apply(products, self._taps(x.shape[1])) + self.linear.bias
        return F.linear(_Windows.apply(x, self._taps(x.shape[1])), self._weight_of_rows(), self.linear.bias)

    def of_inputs(self, gradient: torch.Tensor, time: int) -> torch.Tensor:
        """The gradient of inputs [B, time, inputs] from that of outputs [B, T', channels]."""
        if self._multiplies_first():
            return _Windows.apply(gradient, self._taps(time)) @ self._weight_of_products()
        return _Spread.apply(gradient @ self._weight_of_rows(), self._taps(time))

    def _taps(self, time: int) -> "Taps":
        return Taps(time, self.kernel, self.stride)

    def _multiplies_first(self) -> bool:
        channels, columns = self.linear.weight.shape
        return self.stride == 1 and channels * self.kernel < columns

    def _weight_of_rows(self) -> torch.Tensor:
        """[channels, kernel * inputs]"""
        return self.linear.weight.unflatten(1, (-1, self.kernel)).transpose(1, 2).flatten(1)

    def _weight_of_products(self) -> torch.Tensor:
        """[kernel * channels, inputs]: a frame goes to the outputs around it, by its last tap to the earliest one."""
        return _LastTapFirst.apply(self.linear.weight.unflatten(1, (-1, self.kernel)))

    @classmethod
    def of(cls, conv: TimeConv) -> "TapTimeConv":
        """With the parameters of another, which are shared."""
        made = cls(1, 1, conv.kernel, conv.stride)
        made.linear = conv.linear
        return made


class _LastTapFirst(Function):
    """Weights [channels, inputs, kernel] -> [kernel * channels, inputs]"""

    @staticmethod
    def forward(context: Any, weight: torch.Tensor) -> torch.Tensor:
        context.kernel = weight.shape[2]
        return torch.cat(weight.unbind(dim=2)[::-1])

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return torch.stack(gradients[0].chunk(context.kernel)[::-1], dim=2)


class Taps(NamedTuple):
    """Which frames a convolution's taps see."""

    time: int
    """T, frames."""

    kernel: int
    """Taps of a window, an odd number: its middle one sees each `stride`-th frame."""

    stride: int = 1

    @property
    def steps(self) -> int:
        """T', windows."""
        return (self.time - 1) // self.stride + 1


class _Windows(Function):
    """[B, T, N] -> [B, T', kernel * N], the frames around each one behind one another, zeros beyond the ends."""

    @staticmethod
    def forward(context: Any, x: torch.Tensor, taps: Taps) -> torch.Tensor:
        context.taps = taps
        beyond = taps.kernel // 2
        padded = F.pad(x, (0, 0, beyond, beyond))
        batch, time, size = padded.shape
        shape = (batch, taps.steps, taps.kernel * size)  # a window's frames lie behind one another already
        return padded.as_strided(shape, (time * size, taps.stride * size, 1)).contiguous()

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return _Spread.apply(gradients[0], context.taps), None


class _Spread(Function):
    """[B, T', kernel * N] -> [B, T, N], the sum of what each frame was copied to by _Windows."""

    @staticmethod
    def forward(context: Any, gradient: torch.Tensor, taps: Taps) -> torch.Tensor:
        context.taps = taps
        rows = gradient.unflatten(2, (taps.kernel, -1))  # [B, T', kernel, N]
        middle = taps.kernel // 2
        if taps.stride == 1:
            x = rows[:, :, middle].clone(memory_format=torch.contiguous_format)
        else:
            x = gradient.new_zeros(len(gradient), taps.time, rows.shape[3])
            x[:, ::taps.stride] = rows[:, :, middle]
        for tap in range(taps.kernel):
            if tap != middle:
                _add_tap(x, rows, tap, taps)
        return x

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return _Windows.apply(gradients[0], context.taps), None


def _add_tap(x: torch.Tensor, rows: torch.Tensor, tap: int, taps: Taps) -> None:
    """Add to frames x [B, T, N] what this tap of each window saw; beyond the ends it saw none. rows: [B, T', kernel, N]
    """
    shift = tap - taps.kernel // 2
    first = max(0, -(shift // taps.stride))
    last = max(first, min(taps.steps, (taps.time - 1 - shift) // taps.stride + 1))
    start = first * taps.stride + shift
    x[:, start:start + (last - first) * taps.stride:taps.stride] += rows[:, first:last, tap]


# layer norm of a sample


class SampleNorm(nn.GroupNorm):
    """Layer norm of a critic's maps [B, channels, ...]: over channels and positions of one sample (one group)."""

    def __init__(self, channels: int) -> None:
        super().__init__(1, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, channels, T, D] -> the same shape"""
        return super().forward(x) if _left_to_torch(x) else _Normalise.apply(x, self.weight, self.bias, self.eps)


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


def _in_parts(x: torch.Tensor) -> bool:
    """Whether the norm is computed from sums over maps as they lie: large ones on a GPU, those in half precision, whose
    statistics stay in float32, and those of one position, which torch's kernel rounds by the number of threads."""
    return x.dtype == torch.bfloat16 or (x.is_cuda and x[0].numel() >= LARGE) or x[0, 0].numel() == 1


def _statistics_dtype(x: torch.Tensor) -> torch.dtype:
    return torch.float32 if x.dtype == torch.bfloat16 else x.dtype


def _layout(x: torch.Tensor) -> torch.memory_format:
    """How torch's kernels of the norm want maps [B, channels, T, D]: as they lie, but on a GPU channel by channel."""
    last = x.device.type == "cpu" and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def _normalise(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float
               ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """weight * (x - mean) * scale + bias, and mean and scale [B, 1] of each sample. x: in `_layout`, or in parts"""
    batch, channels = x.shape[:2]
    if not _in_parts(x):
        return aten.native_group_norm(x, weight, bias, batch, channels, x[0, 0].numel(), 1, eps)
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
    if _in_parts(x):
        return _normalise_backward_in_parts(gradient, x, mean, scale, weight)
    batch, channels = x.shape[:2]
    positions = x[0, 0].numel()
    gradient = gradient.contiguous(memory_format=_layout(x))
    return aten.native_group_norm_backward(gradient, x, mean, scale, weight, batch, channels, positions, 1, wanted)


def _normalise_backward_in_parts(gradient: torch.Tensor, x: torch.Tensor, mean: torch.Tensor, scale: torch.Tensor,
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
        x = x if _in_parts(x) else x.contiguous(memory_format=_layout(x))
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
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        v, = gradients
        gradient, x, mean, scale, weight = context.saved_tensors
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


# the generator's batch norm


class LastBatchNorm(BatchNorm):
    """A generator's batch norm of maps that lie channels last, or of rows.

    torch's own sums maps one by one in float32, which leaves samples off by 1e-4 of their spread, and rows in parts by
    the number of threads.
    """

    @classmethod
    def of(cls, norm: BatchNorm) -> Self:
        """With the parameters and statistics of another, which are shared."""
        made = cls(len(norm.weight), norm.momentum, norm.eps)
        made._parameters, made._buffers = norm._parameters, norm._buffers
        return made

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, channels, T, D] or [N, channels] -> the same shape"""
        half = x.dtype == torch.bfloat16
        if not self.training or x.device.type != "cpu" or half or dist.is_initialized():
            return super().forward(x)
        over = [axis for axis in range(x.dim()) if axis != 1]
        with torch.no_grad():
            mean = x.mean(dim=over)
            var = x.square().mean(dim=over) - mean.square()
            count = x.numel() / len(mean)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * count / (count - 1), self.momentum)
        return _BatchNormalise.apply(x, self.weight, self.bias, mean, var, self.eps)


class LastTimeBatchNorm(TimeBatchNorm, LastBatchNorm):
    """The same of [B, T, channels], whose frames are rows."""


class _BatchNormalise(Function):
    """y = weight * (x - mean) / sqrt(var + eps) + bias, mean and var [channels] of the batch itself"""

    @staticmethod
    def forward(context: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, mean: torch.Tensor,
                var: torch.Tensor, eps: float) -> torch.Tensor:
        context.save_for_backward(x, weight, mean, (var + eps).rsqrt())
        context.eps = eps
        return F.batch_norm(x, mean, var, weight, bias, training=False, eps=eps)

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, mean, scale = context.saved_tensors
        if x.dim() == 2:
            return *_batch_normalise_backward(gradients[0], x, weight, mean, scale), None, None, None
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        of_all = aten.native_batch_norm_backward(
            gradient, x, weight, None, None, mean, scale, True, context.eps, [True, True, True])
        return *of_all, None, None, None


def _batch_normalise_backward(gradient: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, mean: torch.Tensor,
                              scale: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of x [N, channels], weight and bias."""
    of_bias = gradient.sum(dim=0)
    of_weight = scale * ((gradient * x).sum(dim=0) - mean * of_bias)
    # weight * scale * (gradient - <gradient> - n <gradient n>), where n = scale * x - scale * mean
    slope = weight * scale
    along_n = slope * scale * of_weight / len(x)
    constant = along_n * mean - slope * of_bias / len(x)
    of_x = torch.addcmul(constant, x, -along_n).addcmul_(gradient, slope)
    return of_x, of_weight, of_bias


def as_trained(generator: nn.Module) -> None:
    """Give a generator's body the layers that train fastest, with the same parameters: maps lie channels last."""
    body = generator.body
    assert isinstance(body, nn.Sequential)
    for place, layer in enumerate(body):
        if isinstance(layer, TimeConv):
            body[place] = TapTimeConv.of(layer)
        elif isinstance(layer, TimeBatchNorm):
            body[place] = LastTimeBatchNorm.of(layer)
        elif isinstance(layer, BatchNorm):
            body[place] = LastBatchNorm.of(layer)
        elif isinstance(layer, nn.LeakyReLU):
            body[place] = activation()
        for parameter in layer.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
