"""Layers as the distiller trains them. The critic's: their second derivatives (Eq. 1's penalty) are cheap.

torch derives a convolution's second derivative (a norm's: norms.py) from its parts, in many passes over memory; here
they are written down. Values are torch's own up to float32 rounding.

Under create_graph the critic's layers give the gradient of their input alone, which is all that the penalty asks for.
"""

from typing import Any, NamedTuple, Self

import torch
import torch.distributed as dist
import torch.nn as nn
import torch.nn.functional as F
from torch.autograd import Function

from ...generator.networks import BatchNorm, TimeBatchNorm, TimeConv
from ...products import Linear, linear
from .norms import left_to_torch

aten = torch.ops.aten


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
        if left_to_torch(x):
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
            products = linear(x, self._weight_of_products())  # [B, T, kernel * channels]
            return _Spread.apply(products, self._taps(x.shape[1])) + self.linear.bias
        return linear(_Windows.apply(x, self._taps(x.shape[1])), self._weight_of_rows(), self.linear.bias)

    def of_inputs(self, gradient: torch.Tensor, time: int) -> torch.Tensor:
        """The gradient of inputs [B, time, inputs] from that of outputs [B, T', channels]."""
        if self._multiplies_first():
            return linear(_Windows.apply(gradient, self._taps(time)), self._weight_of_products().t())
        return _Spread.apply(linear(gradient, self._weight_of_rows().t()), self._taps(time))

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
    """Give a generator the layers that train fastest, with the same parameters: maps lie channels last."""
    start, body = generator.start, generator.body
    assert isinstance(start, nn.Linear) and isinstance(body, nn.Sequential)
    generator.start = Linear.of(start)
    for place, layer in enumerate(body):
        if isinstance(layer, TimeConv):
            body[place] = TapTimeConv.of(layer)
        elif isinstance(layer, TimeBatchNorm):
            body[place] = LastTimeBatchNorm.of(layer)
        elif isinstance(layer, BatchNorm):
            body[place] = LastBatchNorm.of(layer)
        elif isinstance(layer, nn.LeakyReLU):
            body[place] = activation()
        elif isinstance(layer, nn.Linear):
            body[place] = Linear.of(layer)
        for parameter in layer.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
