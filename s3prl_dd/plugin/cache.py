"""A frozen upstream that remembers: recordings by their tickets, and generated features for free."""

import hashlib
import math
from collections.abc import Hashable
from typing import Any

import torch
from torch import nn

from .featurizer import Layers
from .placeholder import GENERATED, Recordings, read_marks
from .states import Listener


class Memory:
    """Hidden states, float32 [L, T, D], by any key: up to `limit_bytes`, what comes later is not kept."""

    def __init__(self, limit_bytes: float) -> None:
        self.limit, self.used = limit_bytes, 0
        self.kept: dict[Hashable, torch.Tensor] = {}

    def keep(self, key: Hashable, states: torch.Tensor) -> None:
        """Keep them where they fit."""
        if self.used + states.nbytes <= self.limit:
            self.kept[key] = states
            self.used += states.nbytes


class FrozenUpstream(nn.Module):
    """Stands between S3PRL's Runner and a frozen upstream: wavs -> {selection: hidden states}, as the upstream's.

    placeholders    cost no upstream: nobody reads what comes out, one frame of zeros each
    tickets         the states of the recordings that they name, from memory, from the listener's store, or heard
    real audio      as S3PRL does it, or each utterance alone and remembered by a digest of its samples (`hears_audio`)

    Featurizer must cut frames by `tolist`: a ticket does not say how long its recording is.
    """

    def __init__(self, upstream: nn.Module, featurizer: Any, listener: Listener | None = None,
                 recordings: Recordings | None = None, limit_bytes: float = 0.0, hears_audio: bool = False) -> None:
        """featurizer: S3PRL's, not yet changed. listener, recordings: of tickets; None where there are none."""
        super().__init__()
        self.upstream, self.hears_audio = upstream, hears_audio
        self.selection, self.dim = featurizer.feature_selection, featurizer.output_dim
        self.cut = featurizer.tolist
        self.listener, self.recordings, self.memory = listener, recordings, Memory(limit_bytes)
        self.frames = {GENERATED: 1}  # recording -> its frames, as Featurizer counts them
        self.room = torch.empty(0)

    def get_downsample_rates(self, key: str | None = None) -> int:
        """Samples a frame, as S3PRL asks an upstream for it."""
        return self.upstream.get_downsample_rates(key)  # type: ignore[operator]

    def forward(self, wavs: list[torch.Tensor]) -> dict[str, Any]:
        """wavs: list of float [N], all audio or all marks -> dict with one entry: [B, T, D], or a list of L such."""
        device, marks = wavs[0].device, read_marks(wavs)
        if marks is None:
            if not self.hears_audio:
                return self.upstream(wavs)
            return self._batch([self._recall_audio(wav) for wav in wavs], device)
        if marks[0] == GENERATED:
            return {self.selection: torch.zeros(len(wavs), 1, self.dim, device=device)}
        return self._batch([self._recall(number) for number in marks], device)

    def tolist(self, wavs: list[torch.Tensor], features: torch.Tensor) -> list[torch.Tensor]:
        """Stands in for Featurizer.tolist: [B, T, D], padded -> B of [T, D]."""
        marks = read_marks(wavs)
        if marks is None:
            return self.cut(wavs, features)
        return [frames[:self.frames[number]] for frames, number in zip(features, marks, strict=True)]

    def _recall(self, number: int) -> torch.Tensor:
        """The states of a recording."""
        states = self.memory.kept.get(number)
        if states is None:
            assert self.listener and self.recordings  # who gives tickets gives both
            states = self.listener.listen(self.recordings.all[number])
            self.frames[number] = states.shape[1]
            self.memory.keep(number, states)
        return states

    def _recall_audio(self, wav: torch.Tensor) -> torch.Tensor:
        """The states of a wav [N]."""
        assert self.listener
        key = hashlib.sha256(wav.cpu().numpy().tobytes()).hexdigest()
        states = self.memory.kept.get(key)
        if states is None:
            states = self.listener.hear(wav)
            self.memory.keep(key, states)
        return states

    def _batch(self, utterances: list[torch.Tensor], device: torch.device) -> dict[str, Any]:
        """The states of a batch, B of [L, T, D], as the upstream would give them: padded with zeros to [B, T, D]."""
        layers, _, dim = utterances[0].shape
        longest = max(states.shape[1] for states in utterances)
        shape = (layers, len(utterances), longest, dim)
        batch = torch.empty(shape) if layers == 1 else self._reused(shape)
        for place, states in enumerate(utterances):
            batch[:, place, :states.shape[1]] = states
            batch[:, place, states.shape[1]:] = 0
        batch = batch.to(device)
        return {self.selection: batch[0] if layers == 1 else Layers(batch)}  # Featurizer weighs a list alone

    def _reused(self, shape: tuple[int, ...]) -> torch.Tensor:
        """A tensor [...] in the memory of the batch before, whose step is over.

        A batch of several layers is tens of MB, which the system hands over page by page, and that takes longer than to
        copy the states there. Featurizer weighs it, so nobody holds on to it beyond the step.
        """
        size = math.prod(shape)
        if self.room.numel() < size:
            self.room = torch.empty(size)
        return self.room[:size].view(shape)
