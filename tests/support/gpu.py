"""For tests that need a GPU: the mark, and float32 without the short products that GPUs take for it."""

import contextlib
from collections.abc import Iterator

import pytest
import torch

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU here")


@contextlib.contextmanager
def exact() -> Iterator[None]:
    """Convolutions in float32, not in TensorFloat-32."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def touch() -> None:
    """Begin to use the GPU."""
    torch.zeros(1, device="cuda")
