"""Upstream `ser_projector`: what a trained SER head makes of speech before it pools it, the paper's Table 4 embedding.

    wav [N] -> frozen upstream > Featurizer > first linear layer (projector) of the head -> [T, 256]

-k is a checkpoint of a `-d emotion` or `-d distilled_emotion` run; the upstream, its selection and layer weights are
read from it. -g may name a YAML file with other values, see `HeadFeatures`.
"""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from ...config import read_yaml
from ...errors import UserError
from ..ser_checkpoint import RUNS, HeadFeatures, features_of, make_encoder, read_ser_checkpoint, tuned_upstream
from ..upstreams import check_trust

ELSEWHERE = "Give the right place in a YAML file with -g: `{key}: PATH`."


class SerHead(NamedTuple):
    """What a SER checkpoint holds. D: of the upstream's features."""

    features: HeadFeatures
    weight: torch.Tensor  # [256, D], of the first linear layer
    bias: torch.Tensor  # [256]
    upstream_state: dict[str, torch.Tensor] | None  # of a fine-tuned upstream
    named: str | None  # the upstream, where the user gave it


def read_head(ckpt: str | Path | None, model_config: str | Path | None = None) -> SerHead:
    """The head of a SER checkpoint. model_config: a YAML file whose keys, of HeadFeatures, replace the checkpoint's."""
    if not ckpt:
        raise UserError(f"upstream ser_projector: needs a trained SER head. Give -k EXPDIR/dev-best.ckpt of {RUNS}.")
    checkpoint = read_ser_checkpoint(ckpt)
    changes: dict[str, Any] = {}
    if model_config:
        if not Path(model_config).is_file():
            raise UserError(f"{model_config}: no such file. -g of ser_projector is a YAML file with some of: "
                            f"{', '.join(item.name for item in dataclasses.fields(HeadFeatures))}.")
        changes = read_yaml(model_config)
    features = features_of(checkpoint, ckpt, changes, model_config)
    head, tuned = checkpoint["Downstream"], tuned_upstream(checkpoint, features)
    return SerHead(features, head["projector.weight"], head["projector.bias"], tuned, changes.get("upstream"))


class UpstreamExpert(nn.Module):
    """wavs: list of float [N] at 16 kHz -> one hidden state [B, max T, 256], T as the upstream's Featurizer cuts it."""

    def __init__(self, ckpt: str | None = None, model_config: str | None = None, **ignored: Any) -> None:
        super().__init__()
        head = read_head(ckpt, model_config)
        remedy = f"name it in a YAML file with -g: `upstream: {head.features.upstream}`"
        check_trust(head.features.upstream, head.named, str(ckpt), remedy)
        encoder = make_encoder(head.features, str(ckpt), ELSEWHERE, tuned=head.upstream_state)
        if encoder.dim != head.weight.shape[1]:
            raise UserError(f"{model_config or ckpt}: upstream {head.features.upstream} gives {encoder.dim} dimensions"
                            f", the head of {ckpt} takes {head.weight.shape[1]}. Give the upstream of its training.")
        self.upstream, self.featurizer = encoder.upstream, encoder.featurizer
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
