"""Matrix products in float32 on a CPU, by the faster of the two libraries that come with torch.

torch multiplies matrices by MKL, which has no AVX-512 kernels for processors other than Intel's. oneDNN, by which torch
convolves, has them: on an AMD EPYC of Zen 5 a product takes it 0.45 of the time.
"""

import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import Any, Self

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.autograd import Function, forward_ad

from .devices import about_processors

ENOUGH = 2**20
"""Multiplications of a product from which on oneDNN, which takes longer to start, is faster."""

ENOUGH_COLUMNS = 16
"""Numbers of a row from which on it is."""

ROWS = 64
"""oneDNN keeps up to 1 MB for each shape that it has met, so rows that are not a multiple of this are filled up with
zeros to one; of many rows to a multiple of a sixteenth, at least, of what they are."""

F_LINEAR = F.linear
"""torch's own, also where `everywhere` has put ours in its place."""


def linear(input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """F.linear, differentiable any number of times. input: [..., N]; weight: [M, N]; bias: [M] -> [..., M]"""
    if not _is_for_onednn(input, weight, bias):
        return F_LINEAR(input, weight, bias)
    if torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in (input, weight, bias)):
        return _Linear.apply(input, weight, bias)
    return _multiply(input, weight, bias)


class Linear(nn.Linear):
    """nn.Linear by the faster library."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., inputs] -> [..., outputs]"""
        return linear(x, self.weight, self.bias)

    @classmethod
    def of(cls, layer: nn.Linear) -> Self:
        """With the parameters of another, which are shared."""
        made = cls(layer.in_features, layer.out_features, device="meta")  # draws no weights
        made.weight, made.bias = layer.weight, layer.bias
        return made


class _Everywhere:
    """How many are within `everywhere`; torch's own function comes back behind the last of them."""

    lock = threading.Lock()
    inside = 0


@contextlib.contextmanager
def everywhere() -> Iterator[None]:
    """Let torch's own layers, attention among them, multiply by the faster library, in all threads of this process.

    Where F.linear is not torch's own any more, it stays.
    """
    with _Everywhere.lock:
        _Everywhere.inside += 1
        if F.linear is F_LINEAR:
            F.linear = linear  # nn.Linear and F.multi_head_attention_forward look for it here
    try:
        yield
    finally:
        with _Everywhere.lock:
            _Everywhere.inside -= 1
            if not _Everywhere.inside and F.linear is linear:
                F.linear = F_LINEAR


@functools.cache
def onednn_is_faster() -> bool:
    """Whether this processor has AVX-512, is not Intel's, and torch has oneDNN."""
    vendor = about_processors("vendor_id")
    has_kernels = torch.backends.cpu.get_cpu_capability() == "AVX512"
    has_onednn = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return vendor not in (None, "GenuineIntel") and has_kernels and has_onednn


def _is_for_onednn(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> bool:
    """Whether it is faster, and knows such tensors; the rest, errors among it, is torch's."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    if x.dim() < 2 or weight.dim() != 2 or x.shape[-1] != weight.shape[1]:
        return False
    if x.shape[-1] < ENOUGH_COLUMNS or x.numel() * len(weight) < ENOUGH or not onednn_is_faster():
        return False
    if bias is not None and (bias.shape != weight.shape[:1] or not _is_plain(bias)):
        return False
    if torch.is_autocast_enabled("cpu") or not torch.backends.mkldnn.enabled:
        return False
    derives_forwards = torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0
    return _is_plain(x) and _is_plain(weight) and not derives_forwards


def _is_plain(tensor: torch.Tensor) -> bool:
    on_cpu = tensor.device.type == "cpu" and tensor.dtype == torch.float32
    return on_cpu and tensor.layout == torch.strided and not tensor.is_nested


def _multiply(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """x weight^T + bias, [..., N] -> [..., M]"""
    rows = x.reshape(-1, x.shape[-1])
    y = _by_onednn(_filled(rows), weight, None if bias is None else bias.contiguous())
    return y[:len(rows)].view(*x.shape[:-1], len(weight))


def _by_onednn(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")


def _filled(rows: torch.Tensor) -> torch.Tensor:
    """[R, N] -> the same with rows of zeros behind, see ROWS"""
    missing = -len(rows) % max(ROWS, 2 ** (len(rows).bit_length() - 5))
    return F.pad(rows, (0, 0, 0, missing)) if missing else rows


class _Linear(Function):
    """y = x weight^T + bias"""

    @staticmethod
    def forward(context: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        derives_x, derives_weight, _ = context.needs_input_grad
        context.save_for_backward(x if derives_weight else None, weight if derives_x else None)
        return _multiply(x, weight, bias)

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = context.saved_tensors
        gradient, = gradients
        of_x, of_weight, of_bias = None, None, None
        if context.needs_input_grad[0]:
            of_x = linear(gradient, weight.t())
        rows = gradient.reshape(-1, gradient.shape[-1])  # [R, M]
        if context.needs_input_grad[1]:
            of_weight = linear(_filled(rows).t(), _filled(x.reshape(-1, x.shape[-1])).t())
        if context.needs_input_grad[2]:
            of_bias = rows.sum(dim=0)
        return of_x, of_weight, of_bias
