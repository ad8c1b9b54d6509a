"""Calibration: closed form, checked on moments computed by numpy."""

import numpy as np
import torch

from s3prl_dd.generator.calibrate import RIDGE, calibrate, covariance, fit_calibration, power


def sides(n=4000, dim=5):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 3
    mix = torch.randn(dim, dim, generator=generator)
    real = torch.randn(n, dim, generator=generator) @ mix + 3 * torch.randn(3, dim, generator=generator)[labels]
    fake = torch.randn(n, dim, generator=generator) * (0.8 + 0.4 * torch.rand(dim, generator=generator))
    return real, fake + labels[:, None], labels


def test_calibrated_means_have_the_real_class_means_and_nearly_the_real_covariance():
    real, fake, labels = sides()
    frames = fake[:, None] + torch.randn(len(fake), 4, 5, generator=torch.Generator().manual_seed(1))
    means = frames.mean(dim=1)
    moved = calibrate(frames, labels, fit_calibration(real, labels, means, labels)).mean(dim=1)
    residuals = []
    for side in (real, moved):
        for label in range(3):
            chosen = side[labels == label].numpy()
            residuals.append(chosen - chosen.mean(axis=0))
            np.testing.assert_allclose(chosen.mean(axis=0), real[labels == label].numpy().mean(axis=0), atol=1e-3)
    wanted, after = (np.cov(np.concatenate(side).T) for side in (residuals[:3], residuals[3:]))
    before = np.cov((means - torch.stack([means[labels == label].mean(0) for label in range(3)])[labels]).numpy().T)
    assert np.abs(after - wanted).max() < 2 * RIDGE * np.abs(wanted).max()  # of the ridges' own size
    assert np.abs(before - wanted).max() > 10 * np.abs(after - wanted).max()


def test_frames_of_a_sample_move_together():
    real, fake, labels = sides(60)
    frames = fake[:, None] + torch.randn(60, 4, 5, generator=torch.Generator().manual_seed(1))
    shift = calibrate(frames, labels, fit_calibration(real, labels, fake, labels)) - frames
    torch.testing.assert_close(shift, shift[:, :1].expand_as(shift), atol=1e-5, rtol=0)


def test_power_is_that_of_the_matrix():
    matrix = torch.tensor([[2.0, 0.5], [0.5, 1.0]])
    root = power(matrix, 0.5, 0.1)
    torch.testing.assert_close(root @ root, matrix + 0.1 * torch.eye(2))
    torch.testing.assert_close(power(matrix, -0.5, 0.1) @ root, torch.eye(2))


def test_power_is_the_same_on_any_number_of_threads():
    points = torch.randn(600, 288, generator=torch.Generator().manual_seed(0))
    threads, found = torch.get_num_threads(), []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            found.append(power(covariance(points[:300].double()), -0.5, 0.01))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*found)


def test_what_is_fitted_are_the_class_means_and_a_map_between_the_covariances():
    real, fake, labels = sides()
    mix = torch.tensor([[3.0, 2, 0, 0, 0], [0, 1, 2, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 2, 1], [0, 0, 0, 0, 1]])
    fake = fake @ mix  # so that the two covariances do not commute
    order = torch.randperm(len(real), generator=torch.Generator().manual_seed(2))
    calibration = fit_calibration(real[order], labels[order], fake, labels)  # the sides need not be paired
    for means, side in ((calibration.real, real), (calibration.generated, fake)):
        expected = torch.stack([side[labels == label].mean(dim=0) for label in range(3)])
        torch.testing.assert_close(means, expected, atol=1e-5, rtol=1e-5)
    whitened = (fake - calibration.generated[labels]) @ calibration.matrix
    wanted = covariance(real - calibration.real[labels])
    assert (covariance(whitened) - wanted).abs().max() < 0.04 * wanted.abs().max()


def test_in_whatever_units_features_come():
    """Dimensions of small values are mapped as well as those of large ones."""
    real, fake, labels = sides()
    scale = torch.tensor([1e-3, 1.0, 1e3, 10.0, 0.1])
    plain = calibrate(fake[:, None], labels, fit_calibration(real, labels, fake, labels))
    scaled = calibrate(fake[:, None] * scale, labels, fit_calibration(real * scale, labels, fake * scale, labels))
    torch.testing.assert_close(scaled / scale, plain, atol=1e-3, rtol=1e-3)


def test_the_same_distribution_stays_as_it_is():
    real, _, labels = sides()
    calibration = fit_calibration(real, labels, real, labels)
    torch.testing.assert_close(calibrate(real[:, None], labels, calibration)[:, 0], real, atol=1e-3, rtol=1e-3)


def test_covariance_is_numpys():
    points, _, _ = sides(50)
    centered = points - points.mean(dim=0)
    np.testing.assert_allclose(covariance(centered).numpy(), np.cov(points.numpy().T, bias=True), rtol=1e-4, atol=1e-5)
