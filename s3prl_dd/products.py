"""Matrix products in float32 on a CPU, by the faster of the two libraries that come with torch.

torch multiplies matrices by MKL, which has no AVX-512 kernels for processors other than Intel's. oneDNN, by which torch
convolves, has them: on an AMD EPYC of Zen 5 a product takes it 0.45 of the time. Either has the same bits on any number
of threads.
"""

import contextlib
import functools
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.autograd import Function

ENOUGH = 2**20
"""Multiplications of a product from which on oneDNN, which takes longer to start, is faster."""


PROCESSORS = Path("/proc/cpuinfo")
"""Linux' own account of them; elsewhere torch multiplies as it does."""


def linear(input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """F.linear, differentiable any number of times. input: [..., N]; weight: [M, N]; bias: [M] -> [..., M]"""
    if not _is_for_onednn(input, weight):
        return F_LINEAR(input, weight, bias)
    if torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in (input, weight, bias)):
        return _Linear.apply(input, weight, bias)
    return _multiply(input, weight, bias)


F_LINEAR = F.linear
"""torch's own, also where `everywhere` has put ours in its place."""


class Linear(nn.Linear):
    """nn.Linear by the faster library."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., inputs] -> [..., outputs]"""
        return linear(x, self.weight, self.bias)


class _Everywhere:
    """How many are within `everywhere`; torch's own function comes back behind the last of them."""

    lock = threading.Lock()
    inside = 0


@contextlib.contextmanager
def everywhere() -> Iterator[None]:
    """Let torch's own layers, attention among them, multiply by the faster library, in all threads of this process."""
    with _Everywhere.lock:
        _Everywhere.inside += 1
        F.linear = linear  # nn.Linear and F.multi_head_attention_forward look for it here
    try:
        yield
    finally:
        with _Everywhere.lock:
            _Everywhere.inside -= 1
            if not _Everywhere.inside:
                F.linear = F_LINEAR


@functools.cache
def onednn_is_faster() -> bool:
    """Whether this processor has AVX-512, is not Intel's, and torch has oneDNN."""
    told = PROCESSORS.read_text(encoding="utf-8") if PROCESSORS.is_file() else ""
    vendor = re.search(r"^vendor_id\s*: (.*)$", told, re.MULTILINE)
    has_kernels = torch.backends.cpu.get_cpu_capability() == "AVX512"
    has_onednn = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return vendor is not None and vendor[1] != "GenuineIntel" and has_kernels and has_onednn


def _is_for_onednn(x: torch.Tensor, weight: torch.Tensor) -> bool:
    if x.device.type != "cpu" or x.numel() * len(weight) < ENOUGH or not onednn_is_faster():
        return False
    return x.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")


def _multiply(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class _Linear(Function):
    """y = x weight^T + bias"""

    @staticmethod
    def forward(context: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        context.save_for_backward(x, weight)
        return _multiply(x, weight, bias)

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = context.saved_tensors
        gradient, = gradients
        of_x, of_weight, of_bias = None, None, None
        if context.needs_input_grad[0]:
            of_x = linear(gradient, weight.t())
        rows = gradient.flatten(0, -2)  # [B, M]
        if context.needs_input_grad[1]:
            of_weight = linear(rows.t(), x.flatten(0, -2).t())
        if context.needs_input_grad[2]:
            of_bias = rows.sum(dim=0)
        return of_x, of_weight, of_bias
