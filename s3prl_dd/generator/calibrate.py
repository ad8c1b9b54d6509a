"""Calibration, beyond the paper: samples' utterance means get the real class means and within-class covariance.

A GAN's samples are biased a little in each of the D directions, and a linear head adds these biases up. The remedy has
a closed form: within each class centre the samples' utterance means, map their pooled covariance onto the real one
(whitening and colouring, as CORAL does: Sun et al. 2016), and centre at the real class mean. Every frame of a sample is
shifted by the same vector, so what happens within the utterance stays the generator's.
"""

from typing import NamedTuple

import torch

RIDGE = 0.02
"""Added to the diagonal of each covariance, in units of its mean variance: directions that hardly anything fills are
left nearly as they are."""


class Calibration(NamedTuple):
    """What moves utterance means: see calibrate()."""

    matrix: torch.Tensor
    """[D, D], whitens the generated and colours as the real."""

    generated: torch.Tensor
    """[C, D], class means of the generator's samples."""

    real: torch.Tensor
    """[C, D], class means of real speech."""


def fit_calibration(real, real_labels, generated, generated_labels):
    """(matrix [D, D], generated class means [C, D], real class means [C, D]) for calibrate().

    real, generated: utterance means [N, D] and [n, D]; labels: class indices, each class in both
    """
    classes = int(real_labels.max()) + 1
    centers = [torch.stack([side[labels == label].mean(dim=0) for label in range(classes)])
               for side, labels in ((generated, generated_labels), (real, real_labels))]
    covariances = [covariance(side - center[labels]) for side, labels, center in
                   ((generated, generated_labels, centers[0]), (real, real_labels, centers[1]))]
    ridges = [RIDGE * matrix.diagonal().mean() for matrix in covariances]
    return Calibration(power(covariances[0], -0.5, ridges[0]) @ power(covariances[1], 0.5, ridges[1]), *centers)


def calibrate(frames, labels, calibration):
    """frames: [B, T, D]; labels: [B] -> [B, T, D], each sample shifted to its calibrated utterance mean."""
    matrix, generated, real = calibration
    mean = frames.mean(dim=1)  # [B, D]
    shift = (mean - generated[labels]) @ matrix + real[labels] - mean
    return frames + shift[:, None]


def covariance(centered):
    """[N, D] -> [D, D]"""
    return centered.T @ centered / len(centered)


def power(matrix, exponent, ridge):
    """(matrix + ridge I)^exponent of a symmetric positive semidefinite [D, D], by eigenvalues in double precision."""
    values, vectors = torch.linalg.eigh(matrix.double())
    return ((vectors * (values.clamp(min=0) + ridge) ** exponent) @ vectors.T).to(matrix.dtype)
