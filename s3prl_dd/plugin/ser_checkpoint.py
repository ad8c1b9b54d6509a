"""The checkpoint of a SER run: how its features were made, with which weights, and of which corpus.

Of a checkpoint only tensors and plain values are read, and no text in it is run.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..config import Weight, build, settings
from ..corpora.metadata import VALID_RATIO
from ..errors import UserError, first_line
from ..features.spec import FeatureSpec
from .checkpoints import newest_whole
from .encoder import Encoder, spec_of
from .featurizer import find_states, layer_weights, read_checkpoint
from .upstreams import looks_like_path

DOWNSTREAMS = ("emotion", "distilled_emotion")
RUNS = f"a run of -d {' or -d '.join(DOWNSTREAMS)}"


@settings
class HeadFeatures(FeatureSpec):
    """How a SER run made its features, as its checkpoint says."""

    layer_weights: list[Weight] | None = None
    """Softmaxed weights of the upstream's states; None where it has a single one."""


class Origin(NamedTuple):
    """The corpus that a run's configuration names, as it stands there; None where it names none."""

    root: str | None
    metadata: str | None
    fold: str
    generator: str | None
    valid_ratio: float = VALID_RATIO


PLACES = ("root", "meta_data", "generator")
"""Keys of datarc that an Origin keeps."""

NOWHERE = Origin(None, None, "fold1", None)
"""Of a head whose run is not known."""


def find_checkpoint(path: str | Path) -> Path:
    """The checkpoint of an expdir: dev-best.ckpt, else the newest states-*.ckpt that is whole. A file is itself."""
    path = Path(path)
    if not path.is_dir():
        return path
    best = path / "dev-best.ckpt"
    found = best if best.exists() else newest_whole(find_states(path))
    if found is None:
        raise UserError(f"{path}: neither dev-best.ckpt nor a whole states-*.ckpt in it. Give the expdir of {RUNS}, or "
                        "a checkpoint.")
    return found


def read_ser_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint of a SER run on an upstream of S3PRL's own hub, see featurizer.read_checkpoint; else UserError."""
    checkpoint = read_checkpoint(path)
    arguments, head = checkpoint.get("Args"), checkpoint.get("Downstream")
    downstream = getattr(arguments, "downstream", None)
    parts = set(head) if isinstance(head, Mapping) else set()
    if downstream not in DOWNSTREAMS or not {"projector.weight", "projector.bias"} <= parts:
        contents = f"one of -d {downstream}" if downstream else f"entries {', '.join(map(str, checkpoint))}"
        raise UserError(f"{path}: not a SER checkpoint, found {contents}; expected dev-best.ckpt or states-*.ckpt of "
                        f"{RUNS}.")
    hub = getattr(arguments, "hub", "torch")
    if hub != "torch":
        raise UserError(f"{path}: its upstream came from --hub {hub}; only upstreams of S3PRL's own hub are loaded "
                        "here. Give a head of such a run.")
    return checkpoint


def features_of(checkpoint: Mapping[str, Any], path: str | Path, changes: Mapping[str, Any] | None = None,
                source: str | Path | None = None) -> HeadFeatures:
    """How a SER checkpoint's features were made.

    changes: keys of HeadFeatures that replace the checkpoint's; source: where they stand, for errors
    """
    try:
        spec = spec_of(vars(checkpoint["Args"]))
    except KeyError as error:
        raise UserError(f"{path}: its arguments lack {error}; expected those of S3PRL 0.4. Train the head "
                        "again.") from None
    values = {**dataclasses.asdict(spec), "layer_weights": layer_weights(checkpoint), **(changes or {})}
    return build(HeadFeatures, values, source or path)


def tuned_upstream(checkpoint: Mapping[str, Any], features: HeadFeatures) -> dict[str, torch.Tensor] | None:
    """The weights of a fine-tuned run's own upstream; None of a frozen one, and where another upstream was named."""
    return checkpoint.get("Upstream") if features.upstream == checkpoint["Args"].upstream else None


def make_encoder(features: HeadFeatures, path: str | Path, remedy: str, device: str = "cpu",
                 tuned: Mapping[str, torch.Tensor] | None = None) -> Encoder:
    """The Encoder of a checkpoint's features.

    path: of the checkpoint; remedy: how to name another place of a file; tuned: weights that the upstream takes
    """
    for key in ("upstream_ckpt", "upstream_model_config"):
        source = getattr(features, key)
        if source and looks_like_path(source) and not Path(source).exists():
            advice = remedy.format(key=key, flag=key.replace("_", "-"))
            raise UserError(f"{path}: its upstream {features.upstream} was made from {source}, which is not there. "
                            f"{advice}")
    encoder = Encoder(features, device, features.layer_weights)
    if tuned:
        try:
            encoder.upstream.load_state_dict(tuned)
        except (RuntimeError, TypeError) as error:
            raise UserError(f"{path}: its fine-tuned weights do not fit upstream {features.upstream} "
                            f"({first_line(error)}). Give the upstream of its training.") from None
    return encoder


def origin_of(checkpoint: Mapping[str, Any]) -> Origin:
    """The corpus that a SER checkpoint's run read."""
    datarc = checkpoint["Config"]["downstream_expert"].get("datarc", {})
    root, metadata, generator = [str(datarc[key]) if datarc.get(key) else None for key in PLACES]
    fold = datarc.get("test_fold") or getattr(checkpoint["Args"], "downstream_variant", None) or "fold1"
    valid_ratio = datarc.get("valid_ratio", VALID_RATIO)
    return Origin(root, metadata, str(fold), generator, float(valid_ratio))
