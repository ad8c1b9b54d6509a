"""A SER head as S3PRL's emotion expert builds it, made of a checkpoint.

S3PRL evaluates the names of a modelrc as Python; here each must first be the name of one of its classes.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from ..errors import UserError
from .compat import mend
from .ser_checkpoint import RUNS


class Head(nn.Module):
    """frames, B of [T, D] -> projector > S3PRL's model of modelrc -> logits [B, C], as S3PRL's emotion expert."""

    def __init__(self, dim: int, classes: int, modelrc: Mapping[str, Any]) -> None:
        """modelrc: one that check_modelrc has passed."""
        super().__init__()
        name = modelrc["select"]
        model = head_classes()[name]
        self.projector = nn.Linear(dim, modelrc["projector_dim"])
        self.model = model(input_dim=modelrc["projector_dim"], output_dim=classes, **modelrc.get(name, {}))
        self.classes = classes

    def forward(self, frames: Sequence[torch.Tensor]) -> torch.Tensor:
        """See the class."""
        return head_logits(self.projector, self.model, frames)


def head_logits(projector: nn.Module, model: nn.Module, frames: Sequence[torch.Tensor]) -> torch.Tensor:
    """Logits [B, C] of frames, B of [T, D], as S3PRL's emotion expert makes them."""
    lengths = torch.IntTensor([len(item) for item in frames]).to(frames[0].device)
    logits, _ = model(projector(pad_sequence(list(frames), batch_first=True)), lengths)
    return logits


def head_classes() -> dict[str, type[nn.Module]]:
    """Name -> class of all that S3PRL may build an emotion head from."""
    mend()
    import s3prl.downstream.emotion.model as of_emotion
    import s3prl.downstream.model as of_all

    members = {**vars(of_all), **vars(of_emotion)}
    return {name: value for name, value in members.items()
            if isinstance(value, type) and issubclass(value, nn.Module) and value.__module__.startswith("s3prl.")}


def check_modelrc(modelrc: Any, path: str | Path) -> None:
    """Raise UserError unless each name in a modelrc is a class that S3PRL builds heads from: it evaluates them."""
    where = f"{path}: config.downstream_expert.modelrc"
    if not isinstance(modelrc, Mapping) or not {"select", "projector_dim"} <= set(modelrc):
        raise UserError(f"{where}: expected projector_dim, select and a model's settings, found {modelrc!r:.60}.")
    models = head_classes()
    activations = {name for name, value in vars(nn).items() if isinstance(value, type) and issubclass(value, nn.Module)}
    for key, value in _leaves(modelrc):
        known = activations if key == "activation" else models
        if not isinstance(value, int | float | None) and not (isinstance(value, str) and value in known):
            raise UserError(f"{where}: {key} is {value!r:.60}, which is no class of S3PRL's heads. Give a checkpoint "
                            f"of {RUNS}.")


def _leaves(block: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Key and value of all that stands in a nested block."""
    for key, value in block.items():
        if isinstance(value, Mapping):
            yield from _leaves(value)
        else:
            yield from ((key, item) for item in (value if isinstance(value, list | tuple) else [value]))


def build_head(checkpoint: Mapping[str, Any], path: str | Path) -> Head:
    """The head of a SER checkpoint, frozen, in eval mode, on the CPU; no random number is drawn.

    Raises UserError for a modelrc that S3PRL would not build or that does not fit the weights, and weights that are not
    finite.
    """
    try:
        modelrc = checkpoint["Config"]["downstream_expert"]["modelrc"]
    except (KeyError, TypeError):
        raise UserError(f"{path}: has no configuration of a head (Config). Give a checkpoint that S3PRL's Runner wrote "
                        "in training.") from None
    check_modelrc(modelrc, path)
    state = {name: value for name, value in checkpoint["Downstream"].items() if name != "best_score"}
    for name, value in state.items():
        if not torch.is_tensor(value) or not torch.isfinite(value).all():
            raise UserError(f"{path}: {name} holds what is not a finite number: its training diverged. Give another "
                            "checkpoint.")
    try:
        with torch.device("meta"):  # shapes alone: the weights are the checkpoint's
            head = Head(state["projector.weight"].shape[1], len(list(state.values())[-1]), modelrc)
        head.load_state_dict(state, assign=True)
    except Exception as error:  # S3PRL's classes raise all kinds for settings that they do not take
        said = " ".join(str(error).split())
        raise UserError(f"{path}: its weights are not those of its modelrc ({type(error).__name__}: "
                        f"{said[:200]}). Give a checkpoint that S3PRL's Runner wrote.") from None
    return head.float().eval().requires_grad_(False)
