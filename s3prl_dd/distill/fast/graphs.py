"""CUDA graphs: an update whose kernels are recorded once and replayed, without Python's time for each of them.

An update of GAN-1D is some hundred kernels of microseconds; what starts them takes longer than what they do.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import torch

from ..losses import Terms

WARM_UPS = 3
"""Updates before one is recorded: libraries choose their kernels in them, optimisers make their moments."""


class CriticBatch(NamedTuple):
    """What a critic update takes."""

    real: torch.Tensor
    """[B, T, D], standardised."""

    noise: torch.Tensor
    """[B, Z], of as many samples."""

    mix: torch.Tensor | None
    """[B] in [0, 1): where the gradient penalty looks; None for an update without it."""

    def copied(self) -> "CriticBatch":
        """The same in places of its own."""
        return CriticBatch(self.real.clone(), self.noise.clone(), None if self.mix is None else self.mix.clone())

    def take(self, batch: "CriticBatch") -> None:
        """Put another batch of the same shapes into these places."""
        self.real.copy_(batch.real, non_blocking=True)
        self.noise.copy_(batch.noise, non_blocking=True)
        if self.mix is not None and batch.mix is not None:
            self.mix.copy_(batch.mix, non_blocking=True)


class Updated(NamedTuple):
    """What an update was made of; as numbers of their own, without a graph."""

    terms: Terms
    norm: torch.Tensor
    """Of the gradient."""


Update = Callable[[CriticBatch], Updated]


class Recorded(Protocol):
    """An update on tensors that stay where they are."""

    def __call__(self) -> Updated:
        """Do it again. returns: the same tensors each time, with new values"""


def record(update: Update, batch: CriticBatch) -> Recorded:
    """Record an update of these very tensors; nothing is computed. It may not wait for the GPU."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # others may pin memory meanwhile
        updated = update(batch)

    def replay() -> Updated:
        graph.replay()
        return updated

    return replay


@contextlib.contextmanager
def tuned() -> Iterator[None]:
    """Let cuDNN try its kernels on each new shape; a training's shapes stay the same."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def take_step(optimizer: torch.optim.Optimizer) -> None:
    """optimizer.step(), which must be told beforehand whether it is recorded. Its parameters are on a GPU."""
    recording = torch.cuda.is_current_stream_capturing()
    for group in optimizer.param_groups:
        group["capturable"] = recording
    optimizer.step()
    for group in optimizer.param_groups:
        group["capturable"] = False


class Replayed:
    """Updates by a recording: the first ones as they are, beside the main stream, then each by a replay.

    An update with the gradient penalty and one without are two recordings. What cannot be recorded stays as it is, and
    is told once.
    """

    def __init__(self, update: Update, device: torch.device,
                 recorder: Callable[[Update, CriticBatch], Recorded] = record) -> None:
        self.update, self.device, self.recorder = update, device, recorder
        self.beside = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.forget()

    def forget(self) -> None:
        """Record anew: after optimisers got other moments, say."""
        self.done = {True: 0, False: 0}  # with the penalty, without
        self.held: dict[bool, CriticBatch] = {}
        self.recorded: dict[bool, Recorded] = {}
        self.records = True

    def __call__(self, batch: CriticBatch) -> Updated:
        """One update. returns: tensors that the next update may overwrite"""
        kind = batch.mix is not None
        self.done[kind] += 1
        if not self.records or self.done[kind] <= WARM_UPS:
            return self._beside(batch)
        if kind not in self.held:
            self.held[kind] = batch.copied()
            self._record(kind)
            if not self.records:
                return self._beside(batch)
        self.held[kind].take(batch)
        return self.recorded[kind]()

    def _record(self, kind: bool) -> None:
        try:
            self.recorded[kind] = self.recorder(self.update, self.held[kind])
        except RuntimeError as error:
            self.records = False
            reason = (str(error).strip() or repr(error)).splitlines()[0]
            warnings.warn(f"critic updates are not recorded as CUDA graphs ({reason}); they are slower so",
                          stacklevel=2)

    def _beside(self, batch: CriticBatch) -> Updated:
        """As it is, on a stream of its own: what autograd keeps of the main stream cannot be recorded."""
        if self.beside is None:
            return self.update(batch)
        main = torch.cuda.current_stream(self.device)
        self.beside.wait_stream(main)
        with torch.cuda.stream(self.beside):
            updated = self.update(batch)
        main.wait_stream(self.beside)
        return updated
