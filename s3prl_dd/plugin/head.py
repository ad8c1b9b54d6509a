"""A trained SER head with its upstream, at work without S3PRL's Runner.

wav [N] -> upstream > Featurizer > projector > S3PRL's model of modelrc -> logits [C]

    model = SerModel.load("result/f1/exp/real_seed0")
    model.predict("speech.wav")     # Prediction(label='hap', probabilities={'neu': 0.11, 'hap': 0.8, ...}, ...)
"""

import contextlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..corpora.audio import RATE, SHORTEST, load_audio
from ..devices import device_name
from ..errors import UserError, first_line
from .class_names import name_classes
from .encoder import Encoder
from .ser_checkpoint import (
    NOWHERE,
    Origin,
    features_of,
    find_checkpoint,
    make_encoder,
    origin_of,
    read_ser_checkpoint,
    tuned_upstream,
)
from .ser_head import Head, build_head
from .upstreams import check_trust

MOVED = "Say where it is: changes={{'{key}': PATH}}, or --{flag} PATH."
"""How a user of SerModel names another place of an upstream's file."""

WINDOW = 30.0
"""Seconds of a long recording that pass the upstream at a time."""

SHORTEST_REST = 1.0
"""Seconds; what is left of a recording after its last whole window joins it where it is shorter."""


class Prediction(NamedTuple):
    """What a head says of a recording, or of a window of it."""

    label: str
    """The class of the highest probability."""

    probabilities: dict[str, float]
    """Class name -> probability, in the head's order."""

    start: float
    """Seconds from the recording's begin."""

    end: float
    """Seconds from the recording's begin."""

    windows: "tuple[Prediction, ...]" = ()
    """The windows that it was averaged over, where they were asked for."""


class Window(NamedTuple):
    """A part of a recording: samples from start up to end."""

    start: int
    end: int


def cut_windows(samples: int, seconds: float | None) -> list[Window]:
    """A recording's windows, one after the other. seconds: of each, at least 0.1; None takes all as one.

    The last is shorter, or, where less than SHORTEST_REST would be left, longer.
    """
    if seconds is None:
        return [Window(0, samples)]
    if not SHORTEST <= seconds < float("inf"):
        raise UserError(f"window {seconds}: expected at least {SHORTEST} seconds.")
    length = round(seconds * RATE)
    starts = list(range(0, samples, length)) or [0]
    if len(starts) > 1 and samples - starts[-1] < min(SHORTEST_REST * RATE, length):
        starts.pop()
    return [Window(*pair) for pair in zip(starts, [*starts[1:], samples], strict=True)]


class SerModel:
    """A trained head and the frozen upstream that it was trained on."""

    def __init__(self, encoder: Encoder, head: Head, classes: Sequence[str], named: bool = True,
                 origin: Origin = NOWHERE) -> None:
        """classes: C names in the head's order; named: whether they are known, or class0, class1, ..."""
        self.encoder, self.head = encoder, head.to(encoder.device)
        self.classes, self.named, self.origin = tuple(classes), named, origin

    @classmethod
    def load(cls, path: str | Path, device: str | None = None, labels: Sequence[str] | None = None,
             changes: Mapping[str, Any] | None = None) -> "SerModel":
        """Of an expdir (dev-best.ckpt, else the newest whole states-*.ckpt) or a checkpoint of a SER run, S3PRL's own
        or ours.

        device: None takes a GPU where there is one
        labels: names of the classes in the order of training; None finds them beside the checkpoint, in the metadata
            that it was trained on or in its generator, else they are class0, class1, ...
        changes: keys of HeadFeatures for the checkpoint's, for example upstream_ckpt where the file has moved
        Raises UserError for what is no such checkpoint, an upstream that is not as it was, and names in doubt.
        """
        device = device_name(device)
        path = find_checkpoint(path)
        checkpoint = read_ser_checkpoint(path)
        features = features_of(checkpoint, path, changes)
        named = (changes or {}).get("upstream")
        check_trust(features.upstream, named, path, f"name it: --upstream {features.upstream}")
        head, origin = build_head(checkpoint, path), origin_of(checkpoint)
        names = name_classes(path, origin, head.classes, labels)
        with contextlib.redirect_stdout(sys.stderr):  # S3PRL talks; stdout is for results
            encoder = make_encoder(features, path, MOVED, device, tuned_upstream(checkpoint, features))
        dim = head.projector.in_features
        if encoder.dim != dim:
            raise UserError(f"{path}: its head takes {dim} dimensions, upstream {features.upstream} gives "
                            f"{encoder.dim}. Give the upstream of its training.")
        unnamed = [f"class{index}" for index in range(head.classes)]
        return cls(encoder, head, names or unnamed, names is not None, origin)

    @property
    def device(self) -> str:
        """Where it runs."""
        return self.encoder.device

    @torch.no_grad()
    def logits(self, wavs: Sequence[np.ndarray | torch.Tensor]) -> torch.Tensor:
        """wavs: B of float32 [N] at 16 kHz -> float32 [B, C] on the CPU.

        They pass the upstream as one batch, as S3PRL's Runner does it; some upstreams (HuBERT) hear the padding of the
        shorter ones. One at a time is what `predict` and `evaluate` do.
        """
        tensors = [torch.as_tensor(wav, dtype=torch.float32, device=self.device) for wav in wavs]
        frames = self.encoder.featurizer(tensors, self.encoder.upstream(tensors))
        return self.head(frames).float().cpu()

    def predict(self, path: str | Path, window: float | None = WINDOW, windows: bool = False) -> Prediction:
        """The class of a recording; AudioError where it cannot be read. window, windows: see classify."""
        return self.classify(load_audio(path, RATE), window, windows)

    def classify(self, wav: np.ndarray, window: float | None = WINDOW, windows: bool = False) -> Prediction:
        """The class of a wave, float32 [N] at 16 kHz.

        window: seconds that pass the upstream at a time; the probabilities of windows are averaged by their lengths.
            None takes the whole wave at once, as S3PRL does, whatever memory that needs.
        windows: whether each window's own prediction is told too
        Raises UserError for what upstream and head cannot take.
        """
        cuts = cut_windows(len(wav), window)
        logits = torch.cat([self._logits_alone(wav[cut.start:cut.end]) for cut in cuts])  # [W, C]
        each = logits.double().softmax(dim=-1)
        lengths = torch.tensor([cut.end - cut.start for cut in cuts], dtype=torch.float64)
        average = (lengths / lengths.sum()) @ each  # [C]
        parts = tuple(self._name(row, cut) for row, cut in zip(each, cuts, strict=True)) if windows else ()
        return self._name(average, Window(0, len(wav)))._replace(windows=parts)

    def _logits_alone(self, wav: np.ndarray) -> torch.Tensor:
        """Logits [1, C] of a wave; what an upstream or a head cannot take is a UserError."""
        what = f"{len(wav) / RATE:.1f} s of audio through upstream {self.encoder.spec.upstream} and its head"
        try:
            logits = self.logits([wav])
        except torch.cuda.OutOfMemoryError:
            raise UserError(f"{what}: the memory of {self.device} is too small. Choose a shorter window.") from None
        except (RuntimeError, AssertionError, ValueError) as error:  # some take no short ones, each in its own words
            raise UserError(f"{what}: {first_line(error)}. Choose another window or a longer recording.") from None
        if not torch.isfinite(logits).all():
            raise UserError(f"{what}: gives numbers that are not finite. Listen to the recording.")
        return logits

    def _name(self, probabilities: torch.Tensor, window: Window) -> Prediction:
        """probabilities: [C]."""
        label = self.classes[int(probabilities.argmax())]
        by_name = dict(zip(self.classes, probabilities.tolist(), strict=True))
        return Prediction(label, by_name, window.start / RATE, window.end / RATE)
