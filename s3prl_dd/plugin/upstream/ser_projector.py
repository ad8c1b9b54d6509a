"""Upstream `ser_projector`: what a trained SER head makes of speech before it pools it, the embedding of the paper's Table 4.

    wav [N] -> frozen upstream > Featurizer > first linear layer (projector) of the head -> [T, 256]

-k is a checkpoint of a `-d emotion` or `-d distilled_emotion` run; the upstream, its selection and layer weights are
read from it. -g may name a YAML file with other values, see `SerHead`.
"""

from dataclasses import dataclass, field, fields
from pathlib import Path

from torch import nn
from torch.nn.utils.rnn import pad_sequence

from ...config import build, read_yaml
from ...errors import UserError
from ..encoder import Encoder
from ..featurizer import layer_weights, read_checkpoint

DOWNSTREAMS = ("emotion", "distilled_emotion")
PROJECTOR = ("projector.weight", "projector.bias")


@dataclass
class SerHead:
    """How a SER run made its features; each key may stand in the YAML file of -g."""

    upstream: str  # -u of the run
    upstream_ckpt: str | None = None  # -k
    upstream_model_config: str | None = None  # -g
    selection: str = "hidden_states"  # -s
    layer: int | None = None  # -l
    normalize: bool = False  # --upstream_feature_normalize
    layer_weights: list[float] = field(default_factory=list)  # softmaxed weights of the states; empty where there is one

    def encoder(self, checkpoint):
        """The Encoder of these features. checkpoint: path, for errors."""
        for key in ("upstream_ckpt", "upstream_model_config"):
            path = getattr(self, key)
            if path and "://" not in path and Path(path).suffix and not Path(path).exists():
                raise UserError(f"{checkpoint}: its upstream {self.upstream} was made from {path}, which is not there. Give the "
                                f"right place in a YAML file with -g: `{key}: PATH`.")
        return Encoder(self.upstream, self.upstream_ckpt, self.upstream_model_config, self.selection, self.layer, self.normalize,
                       layer_weights=self.layer_weights or None)


def read_head(ckpt, model_config=None):
    """(SerHead, weight [256, D], bias [256], the fine-tuned upstream's state or None) of a SER checkpoint."""
    if not ckpt:
        raise UserError("upstream ser_projector: needs a trained SER head. Give -k EXPDIR/dev-best.ckpt of a run of "
                        f"-d {' or -d '.join(DOWNSTREAMS)}.")
    checkpoint = read_checkpoint(ckpt)
    arguments, head = checkpoint.get("Args"), checkpoint.get("Downstream", {})
    found = getattr(arguments, "downstream", None)
    if found not in DOWNSTREAMS or not set(PROJECTOR) <= set(head):
        raise UserError(f"{ckpt}: not a SER checkpoint, found " + (f"one of -d {found}" if found else f"entries {', '.join(checkpoint)}")
                        + f"; expected dev-best.ckpt or states-*.ckpt of a run of -d {' or -d '.join(DOWNSTREAMS)}.")
    if getattr(arguments, "hub", "torch") != "torch":
        raise UserError(f"{ckpt}: its upstream came from --hub {arguments.hub}; ser_projector takes upstreams of S3PRL's own hub.")
    values = {"upstream": arguments.upstream, "upstream_ckpt": arguments.upstream_ckpt,
              "upstream_model_config": arguments.upstream_model_config, "selection": arguments.upstream_feature_selection,
              "layer": arguments.upstream_layer_selection, "normalize": bool(arguments.upstream_feature_normalize),
              "layer_weights": layer_weights(checkpoint)}
    if model_config:
        if not Path(model_config).is_file():
            raise UserError(f"{model_config}: no such file. -g of ser_projector is a YAML file with some of: "
                            f"{', '.join(item.name for item in fields(SerHead))}.")
        values |= read_yaml(model_config)
    source = model_config or ckpt
    tuned = checkpoint.get("Upstream") if values["upstream"] == arguments.upstream else None
    return build(SerHead, {key: value for key, value in values.items() if value is not None}, source), *(head[key] for key in PROJECTOR), tuned


class UpstreamExpert(nn.Module):
    """wavs: list of float [N] at 16 kHz -> one hidden state [B, max T, 256], T as the upstream's Featurizer cuts it."""

    def __init__(self, ckpt=None, model_config=None, **ignored):
        super().__init__()
        head, weight, bias, tuned = read_head(ckpt, model_config)
        encoder = head.encoder(ckpt)
        if encoder.dim != weight.shape[1]:
            raise UserError(f"{model_config or ckpt}: upstream {head.upstream} gives {encoder.dim} dimensions, the head of {ckpt} "
                            f"takes {weight.shape[1]}. Give the upstream that it was trained on.")
        self.upstream, self.featurizer = encoder.upstream, encoder.featurizer
        if tuned:
            self.upstream.load_state_dict(tuned)
        self.projector = nn.Linear(*weight.T.shape)
        self.projector.load_state_dict({"weight": weight, "bias": bias})
        self.requires_grad_(False)

    def get_downsample_rates(self, key=None):
        return self.featurizer.downsample_rate

    def forward(self, wavs):
        frames = self.featurizer(wavs, self.upstream(wavs))  # B times [T, D]
        hidden = self.projector(pad_sequence(frames, batch_first=True).to(self.projector.weight.dtype))
        return {"hidden_states": (hidden,), "last_hidden_state": hidden}


def ser_projector(ckpt=None, model_config=None, *args, **kwargs):
    """The hub's entry, as S3PRL calls it: (ckpt=, model_config=, refresh=)."""
    return UpstreamExpert(ckpt, model_config)
