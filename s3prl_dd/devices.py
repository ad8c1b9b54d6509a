"""Which device a command runs on."""

import torch

from .errors import UserError


def device_name(device: str | None) -> str:
    """The device of this name; None takes cuda where there is one. Raises UserError for one that is not there."""
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise UserError(f"--device {device}: no such device. Expected cuda, cuda:0, ... or cpu.") from None
    if kind not in ("cuda", "cpu"):
        raise UserError(f"--device {device}: S3PRL runs on cuda or cpu alone.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError(f"--device {device}: torch {torch.__version__} sees no GPU here. Leave --device away to run on "
                        "the CPU.")
    return device
