"""All hidden states of recordings, until the layer weights are known: then they become features without the upstream.

Heads on real data learn the layer weights from utterance means; extraction needs the frames. A second of HuBERT Base's
states takes 1 MB in half precision, so they are kept within a budget, on the disk, and only until they have served.
"""

import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from ..corpora.metadata import Utterance
from ..features.spec import FeatureSpec
from .placeholder import Recording
from .states import describe, state_key
from .store import StateStore


class WaitingStates:
    """States of recordings in a folder of their own, float16 [L, T, D] each, in at most `limit_bytes`."""

    def __init__(self, folder: Path, limit_bytes: float, spec: FeatureSpec) -> None:
        """spec: the features whose states they are"""
        self.store = StateStore(folder, limit_bytes, "float16")
        self.made_by = describe(spec, "states")

    def keeper(self, wanted: Collection[Recording]) -> Callable[[Recording, torch.Tensor], None]:
        """What keeps the states [L, T, D] of these recordings, of each while there is room."""
        chosen = frozenset(wanted)

        def keep(recording: Recording, states: torch.Tensor) -> None:
            fits = states.abs().max() < torch.finfo(torch.float16).max
            if recording in chosen and fits and self.store.has_room(2 * states.numel()):
                self.store.write(state_key(self.made_by, recording), states)
        return keep

    def features(self, root: str, layer_weights: Sequence[float] | None
                 ) -> Callable[[Utterance], torch.Tensor | None]:
        """What gives an utterance's features, float32 [T, D], or None where its states are not here.

        root: of the corpus. layer_weights: softmaxed [L]; None for a single state
        """
        weights = torch.tensor(layer_weights or [1.0])

        def weigh(utterance: Utterance) -> torch.Tensor | None:
            states = self.store.read(state_key(self.made_by, Recording.of(root, asdict(utterance))))
            if states is None or len(states) != len(weights):
                return None
            return torch.einsum("l,ltd->td", weights, states)
        return weigh

    def remove(self) -> None:
        """Give the disk back."""
        self.store.close()
        shutil.rmtree(self.store.folder, ignore_errors=True)
