"""A frozen upstream that remembers: real audio by its samples, and the placeholders of generated data for free."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from ..files import atomic_path
from .placeholder import PROBE_SAMPLES, SAMPLES, is_placeholder


class States(NamedTuple):
    """What an upstream gives for one utterance.

    name: of the output, for example hidden_states. tensors: its states, [T, D] each, on the CPU (one where one layer is
    asked for). number: how many states the output had; None where it was a single tensor and no list.
    """

    name: str
    tensors: list[torch.Tensor]
    number: int | None

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return sum(tensor.nbytes for tensor in self.tensors)


class FrozenUpstream(nn.Module):
    """Stands between S3PRL's Runner and a frozen upstream: wavs -> {selection: hidden states}, as the upstream's.

    placeholders    a batch of nothing else costs no upstream: frames of one run on zeros serve all, nobody reads them
    real audio      with a cache, each utterance runs alone, unpadded, so that a result does not depend on its batch
                    mates; kept in memory (float32, CPU) by a digest of its samples, up to `gigabytes`, beyond that
                    computed anew; without a cache, the batch goes through the upstream as S3PRL does it

    selection, layer: S3PRL's -s and -l. With a layer only that state is kept.
    rate: samples a frame, None keeps whole states. Given, each state is averaged over the frames that Featurizer would
        hand over, [1, D]: exact for a head that reads means alone (plugin.emotion.reads_means), and T times smaller.
        Featurizer must then take its frames as they are (`every_frame`).
    folder: keep averaged states there too, for other runs of the same upstream and selection
    """

    def __init__(self, upstream: nn.Module, selection: str, layer: int | None = None, gigabytes: float = 0.0,
                 rate: int | None = None, folder: str | Path | None = None) -> None:
        super().__init__()
        self.upstream = upstream
        self.selection, self.layer, self.rate = selection, layer, rate
        self.folder = Path(folder) if folder and rate else None
        self.limit, self.used = gigabytes * 1e9, 0  # bytes
        self.kept: dict[str, States] = {}
        self.placeholder: States | None = None

    def get_downsample_rates(self, key: str | None = None) -> int:
        """Samples a frame, as S3PRL asks an upstream for it."""
        return self.upstream.get_downsample_rates(key)  # type: ignore[operator]

    def forward(self, wavs: list[torch.Tensor]) -> dict[str, Any]:
        """wavs: list of float [N] -> dict with one entry: [B, T, D], or a list of L such."""
        if all(map(is_placeholder, wavs)):
            return _assemble([self._placeholder_states(wavs[0])] * len(wavs), wavs[0].device)
        if not self.limit:
            return self.upstream(wavs)
        return _assemble([self._recall(wav) for wav in wavs], wavs[0].device)

    def _placeholder_states(self, like: torch.Tensor) -> States:
        """The first frames of a run on zeros, as many as a placeholder has. like: a tensor of the wavs' device."""
        if self.placeholder is None:
            name, states, number = self._run(like.new_zeros(PROBE_SAMPLES))  # some upstreams take no shorter one
            frames = max(1, round(SAMPLES / PROBE_SAMPLES * len(states[0])))
            self.placeholder = States(name, [state[:frames] for state in states], number)
        return self.placeholder

    def _recall(self, wav: torch.Tensor) -> States:
        """The states of a wav [N], from memory, from the folder, or computed."""
        key = hashlib.sha256(wav.cpu().numpy().tobytes()).hexdigest()[:32]
        if key in self.kept:
            return self.kept[key]
        states = self._read(key)
        if states is None:
            states = self._run(wav)
            self._write(key, states)
        if self.used + states.nbytes <= self.limit:
            self.kept[key] = states
            self.used += states.nbytes
        return states

    def _run(self, wav: torch.Tensor) -> States:
        """The upstream's states of a wav [N], averaged where `rate` is given."""
        output = self.upstream([wav])
        name = self.selection if self.selection in output else "hidden_states"  # as Featurizer falls back
        states = output[name]
        if isinstance(states, dict):
            states = list(states.values())
        number = None if torch.is_tensor(states) else len(states)
        if number is None:
            states = [states]
        elif number > 1 and self.layer is not None:
            states = [states[self.layer]]
        states = [state[0].detach().float().cpu() for state in states]
        if self.rate:
            frames = round(len(wav) / self.rate)
            states = [state[:frames].mean(dim=0, keepdim=True) for state in states]
        return States(name, states, number)

    def _read(self, key: str) -> States | None:
        """What _run gave in another run, or None."""
        if self.folder is None or not (self.folder / f"{key}.safetensors").is_file():
            return None
        with safe_open(self.folder / f"{key}.safetensors", framework="pt") as file:
            about = file.metadata()
            return States(about["name"], list(file.get_tensor("states").split(1)), int(about["count"]) or None)

    def _write(self, key: str, states: States) -> None:
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        about = {"name": states.name, "count": str(states.number or 0)}
        with atomic_path(self.folder / f"{key}.safetensors") as temporary:
            save_file({"states": torch.cat(states.tensors)}, temporary, metadata=about)


def _assemble(utterances: list[States], device: torch.device) -> dict[str, Any]:
    """A batch's states as the upstream itself would give them, padded with zeros to [B, T, D] each."""
    name, _, number = utterances[0]
    by_layer = zip(*(utterance.tensors for utterance in utterances), strict=True)
    states = [pad_sequence(list(layer), batch_first=True).to(device) for layer in by_layer]
    if number is None:
        return {name: states[0]}
    return {name: states if len(states) == number else states * number}  # Featurizer picks the layer by its index


def every_frame(wavs: list[torch.Tensor], feature: torch.Tensor) -> list[torch.Tensor]:
    """Stands in for Featurizer.tolist where states are averaged: [B, 1, D] -> list of [1, D]."""
    return list(feature)
