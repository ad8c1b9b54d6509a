"""Two classes of points that differ along one axis, and a teacher that knows it."""

import torch
import torch.nn.functional as F

from s3prl_dd.distill.points import Real
from s3prl_dd.rng import keyed


def two_classes(number: int = 40) -> Real:
    """Two classes that differ along the first of four axes, but for noise."""
    labels = torch.arange(number) % 2
    points = torch.randn(number, 4, generator=keyed("real"))
    points[:, 0] += 2 * (2 * labels - 1)
    return Real(points, F.one_hot(labels, 2).float())


def labels_of(points: torch.Tensor) -> torch.Tensor:
    """A teacher that knows the axis."""
    return torch.stack([-points[:, 0], points[:, 0]], dim=1).softmax(dim=1)
