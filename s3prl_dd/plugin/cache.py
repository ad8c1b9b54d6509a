"""A frozen upstream that remembers: real audio by its samples, and the placeholders of generated data for free."""

import hashlib
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from ..files import atomic_path

PLACEHOLDER_SAMPLES = 1600
"""A placeholder wav is this many zeros, 0.1 s: a few frames, for Featurizer still weighs and sums them."""

PROBE_SAMPLES = 16000
"""S3PRL's Featurizer tries every upstream on as many samples, so every upstream takes them."""


class FrozenUpstream(nn.Module):
    """Stands between S3PRL's Runner and a frozen upstream: wavs -> {selection: hidden states}, as the upstream gives them.

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

    def __init__(self, upstream, selection, layer=None, gigabytes=0.0, rate=None, folder=None):
        super().__init__()
        self.upstream = upstream
        self.selection, self.layer, self.rate = selection, layer, rate
        self.folder = Path(folder) if folder and rate else None
        self.limit, self.used = gigabytes * 1e9, 0  # bytes
        self.kept = {}
        self.placeholder = None

    def get_downsample_rates(self, key=None):
        return self.upstream.get_downsample_rates(key)

    def forward(self, wavs):
        """wavs: list of float [N] -> dict with one entry: [B, T, D], or a list of L such."""
        if all(len(wav) == PLACEHOLDER_SAMPLES and not wav.any() for wav in wavs):
            if self.placeholder is None:
                name, states, count = self._run(wavs[0].new_zeros(PROBE_SAMPLES))  # some upstreams take no shorter one
                frames = max(1, round(PLACEHOLDER_SAMPLES / PROBE_SAMPLES * len(states[0])))
                self.placeholder = name, [state[:frames] for state in states], count
            return self._assemble([self.placeholder] * len(wavs), wavs[0].device)
        if not self.limit:
            return self.upstream(wavs)
        return self._assemble([self._recall(wav) for wav in wavs], wavs[0].device)

    def _recall(self, wav):
        key = hashlib.sha256(wav.cpu().contiguous().numpy()).hexdigest()[:32]
        if key in self.kept:
            return self.kept[key]
        result = self._read(key) or self._run(wav, key)
        size = sum(state.nbytes for state in result[1])
        if self.used + size <= self.limit:
            self.kept[key] = result
            self.used += size
        return result

    def _run(self, wav, key=None):
        """(name of the output, its states: list of [T, D] on the CPU, how many states it had or None if it was no list)."""
        output = self.upstream([wav])
        name = self.selection if self.selection in output else "hidden_states"  # as Featurizer falls back
        states = output[name]
        if isinstance(states, dict):
            states = list(states.values())
        count = None if torch.is_tensor(states) else len(states)
        if count is None:
            states = [states]
        elif count > 1 and self.layer is not None:
            states = [states[self.layer]]
        states = [state[0].detach().float().cpu() for state in states]
        if self.rate:
            states = [state[:round(len(wav) / self.rate)].mean(dim=0, keepdim=True) for state in states]
            self._write(key, name, states, count)
        return name, states, count

    def _read(self, key):
        """What _run gave in another run, or None."""
        path = self.folder and self.folder / f"{key}.safetensors"
        if not path or not path.is_file():
            return None
        with safe_open(path, framework="pt") as file:
            about = file.metadata()
            return about["name"], list(file.get_tensor("states").split(1)), int(about["count"]) or None

    def _write(self, key, name, states, count):
        if self.folder and key:
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_path(self.folder / f"{key}.safetensors") as temporary:
                save_file({"states": torch.cat(states)}, temporary, metadata={"name": name, "count": str(count or 0)})

    def _assemble(self, results, device):
        name, _, count = results[0]
        states = [pad_sequence(state, batch_first=True).to(device) for state in zip(*(states for _, states, _ in results))]
        if count is None:
            return {name: states[0]}
        return {name: states if len(states) == count else states * count}  # Featurizer picks the layer by its index


def every_frame(wavs, feature):
    """Stands in for Featurizer.tolist where states are averaged: [B, 1, D] -> list of [1, D]."""
    return list(feature)
