"""The generator file: one `.safetensors` that replaces a corpus. Reading it executes no code.

Its header is described in header.py, its tensors in layout.py.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save_file
from torch import nn

from ..errors import UserError
from ..files import atomic_path
from .calibrate import Calibration
from .header import METADATA_KEY, REMEDY, Header, open_file
from .heads import LinearHeads
from .layout import (
    CALIBRATION,
    NETWORK,
    POINTS,
    SUPPRESSION,
    TEACHER,
    Layout,
    check_shapes,
    check_values,
    empty_network,
    layout_of,
    names_in,
)
from .suppression import SpeakerSuppression


class Contents(NamedTuple):
    """All that a generator file holds, in float32."""

    network: nn.Module
    """Noise [B, Z] and labels [B] -> standardised frames [B, T, D]."""

    mean: torch.Tensor
    """[D], of real frames."""

    std: torch.Tensor
    """[D], of real frames, above 0."""

    class_means: torch.Tensor
    """[C, D], where the samples' utterance means lie on average."""

    header: Header
    """What the file is and was made from."""

    teacher: LinearHeads | None = None
    """For soft labels."""

    calibration: Calibration | None = None
    """For utterance means as real ones."""

    points: torch.Tensor | None = None
    """[C, n, D], utterance means of each class that were learnt, a list in order: for small sets."""

    suppression: SpeakerSuppression | None = None
    """Of its samples, and of the speech that heads on them hear."""


def read_file(path: str | Path) -> Contents:
    """Read a generator file. Random states stay as they are.

    Raises UserError for a file that is missing, cut off, foreign, of another version, or damaged in its header, its
    shapes (before memory is asked for them) or its values.
    """
    with open_file(path) as file:
        layout = layout_of(path, file)
        tensors = {name: file.get_tensor(there).to(torch.float32, copy=True) for name, there in names_in(file).items()}
    try:
        check_values(tensors)
    except ValueError as error:
        raise UserError(f"{path}: {error}. {REMEDY}") from None
    network = empty_network(layout.header.network)
    network.load_state_dict(part_of(tensors, NETWORK), assign=True)
    teacher = LinearHeads(**part_of(tensors, TEACHER)) if layout.heads else None
    calibration = Calibration(**part_of(tensors, CALIBRATION)) if layout.calibrated else None
    means = tensors["mean"], tensors["std"], tensors["class_means"]
    suppression = SpeakerSuppression(**part_of(tensors, SUPPRESSION)) if layout.suppressed else None
    return Contents(network, *means, layout.header, teacher, calibration, tensors.get(POINTS), suppression)


def write_file(path: str | Path, contents: Contents, half: bool = False) -> None:
    """Write the file, whole or not at all; `half` stores all but mean, std and class means as float16.

    Raises UserError, and writes nothing, for contents that read_file would refuse.
    """
    tensors = _tensors(contents, torch.float16 if half else torch.float32)
    header = dataclasses.replace(contents.header, precision="float16" if half else "float32")
    try:
        check_shapes(Layout(header, {name: tuple(tensor.shape) for name, tensor in tensors.items()}))
        check_values(tensors)
    except ValueError as error:
        raise UserError(f"{path}: not written, {error}. Check what was trained" +
                        (", or store float32: float16 ends at 65504." if half else ".")) from None
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={METADATA_KEY: header.to_json()})


def _tensors(contents: Contents, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The file's tensors by name, on the CPU."""
    weights = {NETWORK + name: weight for name, weight in contents.network.state_dict().items()}
    if contents.teacher is not None:
        weights.update({TEACHER + part: tensor for part, tensor in contents.teacher._asdict().items()})
    if contents.calibration is not None:
        weights.update({CALIBRATION + part: tensor for part, tensor in contents.calibration._asdict().items()})
    if contents.points is not None:
        weights[POINTS] = contents.points
    if contents.suppression is not None:
        weights.update({SUPPRESSION + part: tensor for part, tensor in contents.suppression._asdict().items()})
    tensors = {name: weight.to(dtype) for name, weight in weights.items()}
    tensors.update(mean=contents.mean.float(), std=contents.std.float(), class_means=contents.class_means.float())
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def part_of(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The tensors whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
