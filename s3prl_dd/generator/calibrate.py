"""Calibration, beyond the paper: samples' utterance means get the real class means and within-class covariance.

A GAN's samples are biased a little in each of the D directions, and a linear head adds these biases up. The remedy has
a closed form: within each class centre the samples' utterance means, map their pooled covariance onto the real one
(whitening and colouring, as CORAL does: Sun et al. 2016), and centre at the real class mean. Every frame of a sample is
shifted by the same vector, so what happens within the utterance stays the generator's.

Each dimension counts in units of its real spread: in an upstream's own units the few dimensions of large values would
be all that is mapped, and in all others samples would keep the generator's covariance.
"""

from typing import NamedTuple

import torch

from ..devices import side_by_side

RIDGE = 0.002
"""Added to the diagonal of each covariance, in units of its mean variance: directions that hardly anything fills are
left nearly as they are."""

SMALLEST = 1e-6
"""Spread of a dimension at least, which hardly anything fills."""

BLOCK = 1 << 14
"""Points that a covariance takes at a time: copies of all would be twice a large corpus' means in memory."""


class Calibration(NamedTuple):
    """What moves utterance means, see calibrate()."""

    matrix: torch.Tensor
    """[D, D], whitens as the generated means need it and colours as the real ones are."""

    generated: torch.Tensor
    """[C, D], class means of the generator's samples."""

    real: torch.Tensor
    """[C, D], class means of real speech."""


def fit_calibration(real: torch.Tensor, real_labels: torch.Tensor, generated: torch.Tensor,
                    generated_labels: torch.Tensor, wanted: torch.Tensor | None = None) -> Calibration:
    """The Calibration that maps generated utterance means onto real ones.

    real: [N, D]; generated: [n, D]; their labels: class indices [N] and [n], each class in both
    wanted: within-class covariance [D, D] to be given to samples, in place of the real one
    """
    generated_centers = class_means(generated, generated_labels)
    real_centers = class_means(real, real_labels)
    generated_covariance = _within_class_covariance(generated, generated_labels, generated_centers)
    if wanted is None:
        wanted = _within_class_covariance(real, real_labels, real_centers)
    unit = real.std(dim=0).clamp(min=SMALLEST)  # [D]
    units = unit[:, None] * unit
    generated_covariance, wanted = generated_covariance / units, wanted / units
    whiten = power(generated_covariance, -0.5, RIDGE * generated_covariance.diagonal().mean())
    colour = power(wanted, 0.5, RIDGE * wanted.diagonal().mean())
    return Calibration(whiten @ colour / unit[:, None] * unit, generated_centers, real_centers)


def calibrate(frames: torch.Tensor, labels: torch.Tensor, calibration: Calibration) -> torch.Tensor:
    """Each sample shifted to its calibrated utterance mean. frames: [B, T, D]; labels: [B] -> [B, T, D]"""
    matrix, generated, real = calibration
    mean = frames.mean(dim=1)  # [B, D]
    shift = (mean - generated[labels]) @ matrix + real[labels] - mean
    return frames + shift[:, None]


def covariance(centered: torch.Tensor) -> torch.Tensor:
    """Of N points around zero, divided by N. [N, D] -> [D, D]"""
    return centered.T @ centered / len(centered)


def _within_class_covariance(points: torch.Tensor, labels: torch.Tensor, centers: torch.Tensor) -> torch.Tensor:
    """Of points [N, D] around the centres [C, D] of their classes -> [D, D]"""
    parts = zip(points.split(BLOCK), labels.split(BLOCK), strict=True)
    return sum((covariance(part - centers[its]) * (len(part) / len(points)) for part, its in parts),
               start=points.new_zeros(()))


def power(matrix: torch.Tensor, exponent: float, ridge: float | torch.Tensor) -> torch.Tensor:
    """(matrix + ridge I)^exponent of a symmetric positive semidefinite [D, D], by eigenvalues in double precision."""
    values, vectors = eigenvalues(matrix.double())
    return ((vectors * (values.clamp(min=0) + ridge) ** exponent) @ vectors.T).to(matrix.dtype)


def eigenvalues(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigenvalues [D], rising, and eigenvectors [D, D], a column each, of a symmetric matrix.

    In one thread: they round otherwise on another number of them.
    """
    with side_by_side():
        values, vectors = torch.linalg.eigh(matrix)
    return values, vectors


def class_means(points: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Means of points [N, D] by class index [N], from 0 up, none without a point. -> [C, D]"""
    return torch.stack([points[labels == label].mean(dim=0) for label in range(int(labels.max()) + 1)])
