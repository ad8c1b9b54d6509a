"""A frozen upstream of S3PRL's hub with S3PRL's own Featurizer on top: wavs in, one [T, D] each out.

    encoder = Encoder(FeatureSpec("hubert", layer=9))
    frames = encoder.encode([wav, wav])     # [T, 768] each, T = round(len(wav) / 320) or a frame or two less
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..errors import UserError
from ..features.spec import FeatureSpec, public_name
from ..files import file_digest, text_digest
from ..generator import Provenance
from ..products import everywhere
from .compat import s3prl_version
from .featurizer import to_logits
from .placeholder import PROBE_SAMPLES
from .threads import made_thread_safe
from .upstreams import check_states, code_of, make_upstream


class Encoder:
    """Runs in this process; features equal what S3PRL's Runner gives to a downstream for the same batch."""

    def __init__(self, spec: FeatureSpec, device: str = "cpu", layer_weights: Sequence[float] | None = None) -> None:
        """layer_weights: softmaxed weights of the states [L]; None is uniform, as S3PRL starts.

        Raises UserError for a name that the hub lacks, a checkpoint that does not load, an output or a layer that the
        upstream does not give, and layer weights of another number.
        """
        self.spec, self.device = spec, device
        with torch.random.fork_rng(devices=[]):  # models start from random weights, Featurizer tries them on noise
            made = make_upstream(spec.upstream, spec.upstream_ckpt, spec.upstream_model_config)
            self.upstream = made.to(device).eval().requires_grad_(False)
            check_states(self.upstream, spec.upstream, device)
            if spec.layer is not None:
                check_layer(self.upstream, spec, device)
            self.featurizer = _make_featurizer(self.upstream, spec, device)
        self.thread_safe = device == "cpu" and made_thread_safe(self.upstream)
        self._digest = checkpoint_digest(spec)
        if layer_weights is not None:
            self._weigh(layer_weights)

    @property
    def layers(self) -> int:
        """How many states are weighted and summed; 1 where there is nothing to weigh."""
        return getattr(self.featurizer, "layer_num", 1)

    @property
    def dim(self) -> int:
        """D, numbers a frame."""
        return self.featurizer.output_dim

    @property
    def rate(self) -> int:
        """Samples (at 16 kHz) a frame."""
        return self.featurizer.downsample_rate

    @property
    def layer_weights(self) -> list[float] | None:
        """Softmaxed weights of the states [L]; None where there is nothing to weigh."""
        return self.featurizer.weights.softmax(dim=-1).tolist() if self.layers > 1 else None

    @property
    def provenance(self) -> Provenance:
        """How the features are made: the block `features` of a store's and a generator's header."""
        return provenance_of(self.spec, self._digest, self.layer_weights, self.dim, self.rate)

    @torch.no_grad()
    @everywhere()
    def encode(self, wavs: Sequence[np.ndarray | torch.Tensor]) -> list[torch.Tensor]:
        """wavs: B of float32 [N] at 16 kHz -> B of float32 [T, D] on the CPU, weighted over the states."""
        return [frames.float().cpu() for frames in self.as_s3prl(self._tensors(wavs))]

    def as_s3prl(self, wavs: list[torch.Tensor]) -> list[torch.Tensor]:
        """What S3PRL's Runner does with a batch: B of float32 [N] on the device -> B of [T, D]."""
        return self.featurizer(wavs, self.upstream(wavs))

    @torch.no_grad()
    @everywhere()
    def states(self, wavs: Sequence[np.ndarray | torch.Tensor]) -> list[torch.Tensor]:
        """As encode, before the weighting: B of float32 [L, T, D], L = layers."""
        tensors = self._tensors(wavs)
        selected = self.featurizer._select_feature(self.upstream(tensors))
        selected = selected if self.layers > 1 else [selected]
        if self.featurizer.normalize and self.layers > 1:
            selected = [nn.functional.layer_norm(state, state.shape[-1:]) for state in selected]
        cut = [self.featurizer.tolist(tensors, state) for state in selected]  # L times B of [T, D]
        return [torch.stack(utterance).float().cpu() for utterance in zip(*cut, strict=True)]

    def _weigh(self, layer_weights: Sequence[float]) -> None:
        if len(layer_weights) != self.layers:
            raise UserError(f"{len(layer_weights)} layer weights: upstream {self.spec.upstream} has {self.layers} "
                            "state(s). Give one weight a state.")
        if self.layers > 1:
            self.featurizer.weights.data.copy_(to_logits(layer_weights))

    def _tensors(self, wavs: Sequence[np.ndarray | torch.Tensor]) -> list[torch.Tensor]:
        return [torch.as_tensor(wav, dtype=torch.float32, device=self.device) for wav in wavs]


def _make_featurizer(upstream: nn.Module, spec: FeatureSpec, device: str) -> Any:
    """S3PRL's Featurizer of these features, frozen."""
    from s3prl.upstream.interfaces import Featurizer

    nothing_such = f"selection {spec.selection!r}: upstream {spec.upstream} does not give it"
    try:
        featurizer = Featurizer(upstream, spec.selection, device, spec.layer, spec.normalize)
    except (AttributeError, ValueError):
        raise UserError(f"{nothing_such}. Choose -s hidden_states.") from None
    if featurizer.feature_selection != spec.selection:
        raise UserError(f"{nothing_such}, and S3PRL would take {featurizer.feature_selection} without an error. "
                        "Choose -s hidden_states; with -l N for one layer.")
    return featurizer.to(device).requires_grad_(False)


def count_states(upstream: nn.Module, selection: str, device: str) -> int:
    """How many states the upstream's output `selection` has, by one run on silence; 0 where it does not give it."""
    with torch.no_grad():
        states = upstream([torch.zeros(PROBE_SAMPLES, device=device)]).get(selection)
    if states is None:
        return 0
    return 1 if torch.is_tensor(states) else len(states)


def check_layer(upstream: nn.Module, spec: FeatureSpec, device: str) -> None:
    """Raise UserError unless -l counts one of the states; S3PRL ignores any -l where there is a single state."""
    states = count_states(upstream, spec.selection, device)
    if states and spec.layer is not None and not 0 <= spec.layer < states:
        raise UserError(f"layer {spec.layer}: {spec.selection} of upstream {spec.upstream} has {states} state(s). "
                        f"Choose 0 to {states - 1}, or leave the layer away.")


# what tells features from others


def provenance_of(spec: FeatureSpec, digest: str | None, layer_weights: list[float] | None, dim: int,
                  rate: int) -> Provenance:
    """The provenance of features. digest: checkpoint_digest of spec; layer_weights, dim, rate: as the Encoder's."""
    return Provenance(upstream=public_name(spec.upstream), upstream_ckpt_digest=digest, selection=spec.selection,
                      layer=spec.layer, normalize=spec.normalize, layer_weights=layer_weights, dim=dim, rate=rate,
                      s3prl=s3prl_version())


def spec_of(arguments: Mapping[str, Any]) -> FeatureSpec:
    """The features that a run of S3PRL makes. arguments: its command line by S3PRL's own names."""
    return FeatureSpec(upstream=arguments["upstream"], upstream_ckpt=arguments["upstream_ckpt"],
                       upstream_model_config=arguments["upstream_model_config"],
                       selection=arguments["upstream_feature_selection"], layer=arguments["upstream_layer_selection"],
                       normalize=bool(arguments["upstream_feature_normalize"]))


def checkpoint_digest(spec: FeatureSpec) -> str | None:
    """What tells one checkpoint from another under the same -u name: hex SHA-256, or None where the name says it all.

    A file by its bytes, a folder by its files' names and bytes, a URL or a hub's model id by its text. The file with
    the code of an upstream of the user's own counts too.
    """
    ckpt: str | Path | None = spec.upstream_ckpt
    if spec.upstream == "moonshine" and ckpt is None:
        from .upstream.moonshine import encoder_file

        ckpt = encoder_file()
    sources = (code_of(spec.upstream), ckpt, spec.upstream_model_config)
    digests = [_digest(Path(source), str(source)) for source in sources if source]
    if not digests:
        return None
    return text_digest(digests) if len(digests) > 1 else digests[0]


def _digest(path: Path, text: str) -> str:
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
        return text_digest(f"{file.name}\t{file_digest(file)}" for file in files)
    return file_digest(path) if path.is_file() else text_digest([text])
