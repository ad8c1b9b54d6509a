"""Which tensors a generator file holds: known from its header, and checked before any memory is asked for.

    generator.*                     the network's weights
    mean, std                       [D] of real frames
    class_means                     [C, D], where the samples' utterance means lie on average
    teacher.weight, teacher.bias    [M, C, D], [M, C], if the file carries soft labels
    calibration.*                   [D, D], [C, D], [C, D], if it is calibrated
    learnt_points                   [C, n, D], if it carries points for small sets
    suppression.*                   [D, K], [K, D], [D], if the key `privacy` is above 0

Files of development versions may also hold `latents`, which are ignored, and have some tensors by former names.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from ..errors import UserError
from .header import REMEDY, Header, header_of, open_file
from .networks import Network, build_generator

NETWORK, TEACHER, CALIBRATION, SUPPRESSION = "generator.", "teacher.", "calibration.", "suppression."
"""What the names of a part's tensors begin with."""

POINTS = "learnt_points"
"""Utterance means for small sets."""

IGNORED = "latents"
"""A tensor that files of a development version hold, and that nothing reads."""

FORMER_NAMES = {f"disguise.{part}": f"{SUPPRESSION}{part}" for part in ("away", "along", "middle")}
"""Tensors' names in files of development versions -> today's."""

DTYPES = {"F32": torch.float32, "F16": torch.float16}
"""How weights are stored: safetensors' name -> torch's."""

Shapes = Mapping[str, tuple[int, ...]]
"""Tensor name -> shape."""


class Layout(NamedTuple):
    """A generator file without its tensors' values."""

    header: Header
    shapes: Shapes

    @property
    def heads(self) -> int:
        """M, linear heads of its teacher; 0 without one."""
        shape = self.shapes.get(f"{TEACHER}weight", ())
        return shape[0] if shape else 0

    @property
    def points(self) -> int:
        """n, learnt points of each class; 0 without any."""
        shape = self.shapes.get(POINTS, ())
        return shape[1] if len(shape) == 3 else 0

    @property
    def calibrated(self) -> bool:
        """Whether it carries a calibration."""
        return f"{CALIBRATION}matrix" in self.shapes

    @property
    def suppressed(self) -> int:
        """K, directions in which its samples are suppressed; 0 without any."""
        shape = self.shapes.get(f"{SUPPRESSION}along", ())
        return shape[0] if shape else 0


def read_layout(path: str | Path) -> Layout:
    """The header and the shapes of a generator file, both checked; no tensor is read. Errors: see read_header."""
    with open_file(path) as file:
        return layout_of(path, file)


def layout_of(path: str | Path, file: Any) -> Layout:
    """The layout of an open file (see header.open_file)."""
    header = header_of(path, file)
    slices = {name: file.get_slice(there) for name, there in names_in(file).items()}
    layout = Layout(header, {name: tuple(item.get_shape()) for name, item in slices.items()})
    try:
        check_shapes(layout)
        for name, item in slices.items():
            if item.get_dtype() not in DTYPES:
                raise ValueError(f"tensor {name} is {item.get_dtype()}, expected {' or '.join(DTYPES)}")
    except ValueError as error:
        raise UserError(f"{path}: {error}. {REMEDY}") from None
    return layout


def names_in(file: Any) -> dict[str, str]:
    """What an open file holds: today's name of a tensor -> its name there."""
    return {FORMER_NAMES.get(name, name): name for name in file.keys() if name != IGNORED}


def check_shapes(layout: Layout) -> None:
    """Raise ValueError that names the tensors that are missing, too many, or of another shape than the header's."""
    expected = expected_shapes(layout)
    found = layout.shapes
    missing, strange = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing:
        raise ValueError(f"lacks the tensor {missing[0]}{_more(missing)}")
    if strange:
        raise ValueError(f"holds the tensor {strange[0]!r:.80}, which belongs to no such generator{_more(strange)}")
    for name, shape in expected.items():
        if found[name] != shape:
            raise ValueError(f"tensor {name} has shape {list(found[name])}, expected {list(shape)}")


def expected_shapes(layout: Layout) -> Shapes:
    """Exactly the tensors that a file of this header has; how many heads a teacher has, and how many points there are,
    is the file's own."""
    network = layout.header.network
    classes, dim = network.classes, network.dim
    shapes = {NETWORK + name: tuple(weight.shape) for name, weight in empty_network(network).state_dict().items()}
    shapes.update(mean=(dim,), std=(dim,), class_means=(classes, dim))
    if any(name.startswith(TEACHER) for name in layout.shapes):
        heads = max(1, layout.heads)
        shapes.update({f"{TEACHER}weight": (heads, classes, dim), f"{TEACHER}bias": (heads, classes)})
    if any(name.startswith(CALIBRATION) for name in layout.shapes):
        shapes[f"{CALIBRATION}matrix"] = (dim, dim)
        shapes.update({f"{CALIBRATION}generated": (classes, dim), f"{CALIBRATION}real": (classes, dim)})
    if POINTS in layout.shapes:
        shapes[POINTS] = (classes, max(1, layout.points), dim)
    if any(name.startswith(SUPPRESSION) for name in layout.shapes):
        directions = max(1, layout.suppressed)
        shapes.update({f"{SUPPRESSION}away": (dim, directions), f"{SUPPRESSION}along": (directions, dim)})
        shapes[f"{SUPPRESSION}middle"] = (dim,)
    return shapes


def empty_network(network: Network) -> nn.Module:
    """The network with shapes and no memory (on the meta device); leaves every random state alone."""
    with torch.device("meta"):
        return build_generator(network)


def check_values(tensors: Mapping[str, torch.Tensor]) -> None:
    """Raise ValueError that names a tensor with a value that is not finite, or a spread that cannot be one."""
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ValueError(f"tensor {name} has values that are not finite (NaN or infinity)")
        if name.endswith("running_var") and (tensor < 0).any():
            raise ValueError(f"tensor {name} has a variance below 0")
    if (tensors["std"] <= 0).any():
        raise ValueError("tensor std has a spread that is not above 0")


def _more(names: list[str]) -> str:
    return f" ({len(names) - 1} more such)" if len(names) > 1 else ""
