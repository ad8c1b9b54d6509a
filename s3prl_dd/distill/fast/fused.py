"""Passes over a critic's maps: large ones on a GPU by one kernel each, of torch.compile, which reads its maps once.

x, y, z: maps as rows, [B, P, C], P positions; coefficients are [B, C]. To be summed, rows come in pieces,
[B, K, P, C], which a GPU sums side by side; sums are [B, K, C]. Coefficients and sums of maps in half precision are in
float32.
"""

import warnings
from collections.abc import Callable
from typing import Any

import torch

Pass = Callable[..., Any]


class Fused:
    """A pass that is compiled at its first call on a GPU; on a CPU, or where that cannot be, it stays as it is."""

    works = True
    """Whether compiling has worked so far, whichever pass; else it was told."""

    def __init__(self, plain: Pass) -> None:
        self.plain = plain
        self.compiled: Pass | None = None

    def __call__(self, *tensors: torch.Tensor) -> Any:
        """The pass. tensors: none of which it differentiates"""
        tensors = tuple(tensor.detach() for tensor in tensors)
        if not (tensors[0].is_cuda and Fused.works):
            return self.plain(*tensors)
        try:
            self.compiled = self.compiled or torch.compile(self.plain)  # here, for it imports much
            with torch.no_grad(), torch.autocast("cuda", enabled=False):  # else once more under autocast
                return self.compiled(*tensors)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # of whatever kind: Triton's, its C compiler's, torch's own
            if torch.cuda.is_current_stream_capturing():
                raise  # graphs.py goes on without the recording
            Fused.works = False
            reason = (str(error).strip() or repr(error)).splitlines()[0]
            warnings.warn(f"torch.compile does not work here ({reason}); steps are slower so", stacklevel=2)
            return self.plain(*tensors)


@Fused
def moments(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums of x and of its squares."""
    x = _wide(x)
    return _sums(x), _sums(x * x)


@Fused
def products(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums of y and of x y."""
    x, y = _wide(x), _wide(y)
    return _sums(y), _sums(x * y)


@Fused
def all_products(x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Sums of y, z, x y, x z and y z."""
    x, y, z = _wide(x), _wide(y), _wide(z)
    return _sums(y), _sums(z), _sums(x * y), _sums(x * z), _sums(y * z)


Term = tuple[torch.Tensor, torch.Tensor]
"""A coefficient [B, C] and the maps [B, P, C] that it multiplies."""


def put(out: torch.Tensor, constant: torch.Tensor, *terms: Term) -> None:
    """Put constant + the sum of one to three terms into `out`, [B, P, C]."""
    if out.is_cuda:
        PUT[len(terms)](out, constant, *(tensor for term in terms for tensor in term))
        return
    (coefficient, maps), *others = terms
    torch.addcmul(_spread(constant), _spread(coefficient), maps, out=out)
    for coefficient, maps in others:
        out.addcmul_(_spread(coefficient), maps)


def _put_one(out: torch.Tensor, constant: torch.Tensor, of_x: torch.Tensor, x: torch.Tensor) -> None:
    out.copy_(_spread(constant) + _spread(of_x) * _wide(x))


def _put_two(out: torch.Tensor, constant: torch.Tensor, of_x: torch.Tensor, x: torch.Tensor, of_y: torch.Tensor,
             y: torch.Tensor) -> None:
    out.copy_(_spread(constant) + _spread(of_x) * _wide(x) + _spread(of_y) * _wide(y))


def _put_three(out: torch.Tensor, constant: torch.Tensor, of_x: torch.Tensor, x: torch.Tensor, of_y: torch.Tensor,
               y: torch.Tensor, of_z: torch.Tensor, z: torch.Tensor) -> None:
    two = _spread(constant) + _spread(of_x) * _wide(x) + _spread(of_y) * _wide(y)
    out.copy_(two + _spread(of_z) * _wide(z))


PUT = {1: Fused(_put_one), 2: Fused(_put_two), 3: Fused(_put_three)}
"""By the number of terms."""


def _wide(maps: torch.Tensor) -> torch.Tensor:
    return maps.float() if maps.dtype == torch.bfloat16 else maps


def _sums(maps: torch.Tensor) -> torch.Tensor:
    return maps.sum(dim=2)


def _spread(values: torch.Tensor) -> torch.Tensor:
    return values[:, None]
