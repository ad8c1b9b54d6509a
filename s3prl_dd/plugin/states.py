"""What an upstream makes of a recording, computed once: heard alone, averaged or weighted where that is all one needs.

    key = what made the states, and the file's path, size and time: neither decoding nor hashing of audio is needed
"""

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import Any, Literal

import torch
from torch import nn
from tqdm import tqdm

from ..corpora.ahead import ahead
from ..corpora.audio import RATE, AudioError, Samples
from ..devices import side_by_side
from ..features.spec import FeatureSpec
from ..files import text_digest
from ..products import everywhere
from .compat import s3prl_version
from .encoder import Encoder, checkpoint_digest
from .placeholder import Recording
from .store import StateStore

Kind = Literal["means", "frames", "states"]
"""What is kept of an utterance, float32 [L, T, D]:

means   each state averaged over Featurizer's frames, T = 1: exact for a head that reads means alone
frames  Featurizer's weighted sum of the states, L = 1: for layer weights that do not change
states  all of it
"""

DECODED = 60 * RATE
"""Samples that may wait for the upstream while a store is filled."""


class Listener:
    """A frozen upstream and S3PRL's Featurizer over it, one utterance at a time: float32 [L, T, D] on the CPU.

    Each is heard alone, unpadded, so that what comes out does not depend on batch mates.
    """

    def __init__(self, upstream: nn.Module, featurizer: Any, kind: Kind, device: str = "cpu",
                 store: StateStore | None = None, made_by: str = "") -> None:
        """store: where states are looked up, and kept. made_by: of `describe`, in the keys there."""
        self.upstream, self.featurizer, self.kind, self.device = upstream, featurizer, kind, device
        self.cut = featurizer.tolist  # S3PRL's, whatever stands in for it later
        self.store, self.made_by = store, made_by

    def listen(self, recording: Recording) -> torch.Tensor:
        """The states of a recording: those of the store, or heard and kept there. UserError for bad audio."""
        key = state_key(self.made_by, recording) if self.store else ""
        states = self.store.read(key) if self.store else None
        if states is None:
            states = self.hear(torch.from_numpy(recording.load()).to(self.device))
            self._keep(key, states)
        return states

    def _keep(self, key: str, states: torch.Tensor) -> None:
        """Means and weighted sums drive older ones out of a full store; all states are many, and take half at most."""
        if self.store is None:
            return
        of_others = int(self.store.limit / 2)
        if self.kind != "states" or self.store.has_room(states.nbytes + of_others):
            self.store.write(key, states)

    @torch.no_grad()
    @everywhere()
    def hear(self, wav: torch.Tensor) -> torch.Tensor:
        """The states of a wav, float32 [N] at 16 kHz."""
        with torch.autocast(wav.device.type, enabled=False):  # S3PRL's fp16 would stay in what is kept
            selected = self.featurizer._select_feature(self.upstream([wav]))
            if self.kind == "frames" and not torch.is_tensor(selected):
                selected = self.featurizer._weighted_sum(list(selected))
        layers = [selected] if torch.is_tensor(selected) else list(selected)  # L of [1, T, D]
        states = torch.stack([self.cut([wav], layer.detach().float().cpu())[0] for layer in layers])  # [L, T, D]
        return average(states) if self.kind == "means" else states


def average(states: torch.Tensor) -> torch.Tensor:
    """Each state averaged over the frames: [L, T, D] -> [L, 1, D]"""
    return torch.stack([state.mean(dim=0, keepdim=True) for state in states])


def reads_means(modelrc: Mapping[str, Any]) -> bool:
    """Whether S3PRL's head of this modelrc is linear in the frames until it averages them, as SUPERB's is.

    Then utterance means give the same logits and gradients.
    """
    head = modelrc.get(modelrc.get("select", ""), {})
    pooling = head.get("pooling", "MeanPooling")
    return modelrc.get("select") == "UtteranceLevel" and pooling == "MeanPooling" and not head.get("pre_net")


def describe(spec: FeatureSpec, kind: Kind, hub: str = "torch", layer_weights: torch.Tensor | None = None) -> str:
    """What makes states, in one word. layer_weights: Featurizer's own [L], where they are of kind frames."""
    weights = "" if layer_weights is None or kind != "frames" else layer_weights.detach().cpu().tolist()
    parts = [hub, s3prl_version(), spec.upstream, checkpoint_digest(spec), spec.selection,
             spec.layer, kind, spec.normalize, weights]
    return text_digest(map(str, parts))


def state_key(made_by: str, recording: Recording) -> str:
    """The key of a recording's states: a file that was changed or touched has another. AudioError for a missing one."""
    try:
        about = os.stat(recording.path)
    except OSError:
        raise AudioError(recording.path, "no such file", "Check the path, or unpack the corpus again.") from None
    return text_digest([made_by, *map(str, recording), str(about.st_size), str(about.st_mtime_ns)])


def fill(spec: FeatureSpec, recordings: Iterable[Recording], store: StateStore, device: str = "cpu",
         keep: Callable[[Recording, torch.Tensor], None] | None = None) -> int:
    """Hear what the store lacks of the means of these recordings, with progress. returns: how many were heard

    Runs beside each other then find them there. The upstream is not loaded where nothing is lacking. Ends where the
    store is full. keep: told all states [L, T, D] of each recording that is heard, before its means are kept
    """
    made_by = describe(spec, "means")
    todo = [recording for recording in recordings if not store.holds(state_key(made_by, recording))]
    if not todo or not store.has_room(0):
        return 0
    encoder = Encoder(spec, device)
    listener = Listener(encoder.upstream, encoder.featurizer, "states", device)
    waves = ahead(Recording.load, todo, workers=1, limit=DECODED, cost=Recording.length)
    heard = _heard(listener, waves, encoder.thread_safe)
    count = 0
    for recording, states in zip(tqdm(todo, desc="upstream", unit="utt"), heard, strict=True):
        means = average(states)
        if not store.has_room(means.nbytes):
            break
        if keep is not None:
            keep(recording, states)
        store.write(state_key(made_by, recording), means)
        count += 1
    heard.close()
    return count


def _heard(listener: Listener, waves: Iterator[Samples], thread_safe: bool) -> Generator[torch.Tensor]:
    """The states of each wave; one on each core side by side, where the upstream lets us."""

    def hear(wave: Samples) -> torch.Tensor:
        return listener.hear(torch.from_numpy(wave).to(listener.device))

    if not thread_safe:
        yield from map(hear, waves)
        return
    with side_by_side() as threads:
        yield from ahead(hear, waves, threads, limit=threads)
