"""Upstream `ser_projector`: what a trained SER head makes of speech before it pools it, the paper's Table 4 embedding.

    wav [N] -> frozen upstream > Featurizer > first linear layer (projector) of the head -> [T, 256]

-k is a checkpoint of a `-d emotion` or `-d distilled_emotion` run; the upstream, its selection and layer weights are
read from it. -g may name a YAML file with other values, see `HeadFeatures`.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from ...config import Weight, build, read_yaml, settings
from ...errors import UserError
from ...features.spec import FeatureSpec
from ..encoder import Encoder, spec_of
from ..featurizer import layer_weights, read_checkpoint
from ..registration import looks_like_path

DOWNSTREAMS = ("emotion", "distilled_emotion")
RUNS = f"a run of -d {' or -d '.join(DOWNSTREAMS)}"


@settings
class HeadFeatures(FeatureSpec):
    """How a SER run made its features; each key may stand in the YAML file of -g."""

    layer_weights: list[Weight] | None = None
    """Softmaxed weights of the upstream's states; None where it has a single one."""


class SerHead(NamedTuple):
    """What a SER checkpoint holds. D: of the upstream's features."""

    features: HeadFeatures
    weight: torch.Tensor  # [256, D], of the first linear layer
    bias: torch.Tensor  # [256]
    upstream_state: dict[str, torch.Tensor] | None  # of a fine-tuned upstream


def read_head(ckpt: str | Path | None, model_config: str | Path | None = None) -> SerHead:
    """The head of a SER checkpoint. model_config: a YAML file whose keys, of HeadFeatures, replace the checkpoint's."""
    if not ckpt:
        raise UserError(f"upstream ser_projector: needs a trained SER head. Give -k EXPDIR/dev-best.ckpt of {RUNS}.")
    checkpoint = read_checkpoint(ckpt)
    _check_checkpoint(checkpoint, ckpt)
    arguments, head = vars(checkpoint["Args"]), checkpoint["Downstream"]
    values = {**dataclasses.asdict(spec_of(arguments)), "layer_weights": layer_weights(checkpoint)}
    if model_config:
        if not Path(model_config).is_file():
            raise UserError(f"{model_config}: no such file. -g of ser_projector is a YAML file with some of: "
                            f"{', '.join(item.name for item in dataclasses.fields(HeadFeatures))}.")
        values |= read_yaml(model_config)
    features = build(HeadFeatures, values, model_config or ckpt)
    tuned = checkpoint.get("Upstream") if features.upstream == arguments["upstream"] else None
    return SerHead(features, head["projector.weight"], head["projector.bias"], tuned)


def _check_checkpoint(checkpoint: Mapping[str, Any], path: str | Path) -> None:
    """Raise UserError unless an S3PRL checkpoint is of a SER run on an upstream of S3PRL's own hub."""
    arguments, head = checkpoint.get("Args"), checkpoint.get("Downstream", {})
    downstream = getattr(arguments, "downstream", None)
    if downstream not in DOWNSTREAMS or not {"projector.weight", "projector.bias"} <= set(head):
        contents = f"one of -d {downstream}" if downstream else f"entries {', '.join(checkpoint)}"
        raise UserError(f"{path}: not a SER checkpoint, found {contents}; expected dev-best.ckpt or states-*.ckpt of "
                        f"{RUNS}.")
    hub = getattr(arguments, "hub", "torch")
    if hub != "torch":
        raise UserError(f"{path}: its upstream came from --hub {hub}; ser_projector takes upstreams of S3PRL's own "
                        "hub. Give a head of such a run.")


def make_encoder(features: HeadFeatures, checkpoint: str | Path) -> Encoder:
    """The Encoder of a head's features. checkpoint: path, for errors."""
    for key in ("upstream_ckpt", "upstream_model_config"):
        source = getattr(features, key)
        if source and looks_like_path(source) and not Path(source).exists():
            raise UserError(f"{checkpoint}: its upstream {features.upstream} was made from {source}, which is not "
                            f"there. Give the right place in a YAML file with -g: `{key}: PATH`.")
    return Encoder(features, layer_weights=features.layer_weights)


class UpstreamExpert(nn.Module):
    """wavs: list of float [N] at 16 kHz -> one hidden state [B, max T, 256], T as the upstream's Featurizer cuts it."""

    def __init__(self, ckpt: str | None = None, model_config: str | None = None, **ignored: Any) -> None:
        super().__init__()
        head = read_head(ckpt, model_config)
        encoder = make_encoder(head.features, str(ckpt))
        if encoder.dim != head.weight.shape[1]:
            raise UserError(f"{model_config or ckpt}: upstream {head.features.upstream} gives {encoder.dim} dimensions"
                            f", the head of {ckpt} takes {head.weight.shape[1]}. Give the upstream of its training.")
        self.upstream, self.featurizer = encoder.upstream, encoder.featurizer
        if head.upstream_state:
            self.upstream.load_state_dict(head.upstream_state)
        outputs, inputs = head.weight.shape
        self.projector = nn.Linear(inputs, outputs)
        self.projector.load_state_dict({"weight": head.weight, "bias": head.bias})
        self.requires_grad_(False)

    def get_downsample_rates(self, key: str | None = None) -> int:
        """Samples a frame, as S3PRL asks an upstream for it."""
        return self.featurizer.downsample_rate

    def forward(self, wavs: list[torch.Tensor]) -> dict[str, Any]:
        """See the class; the state is there as hidden_states and as last_hidden_state."""
        frames = self.featurizer(wavs, self.upstream(wavs))  # B times [T, D]
        hidden = self.projector(pad_sequence(frames, batch_first=True).to(self.projector.weight.dtype))
        return {"hidden_states": (hidden,), "last_hidden_state": hidden}


def ser_projector(ckpt: str | None = None, model_config: str | None = None, *args: Any,
                  **kwargs: Any) -> UpstreamExpert:
    """The hub's entry, as S3PRL calls it: (ckpt=, model_config=, refresh=)."""
    return UpstreamExpert(ckpt, model_config)
