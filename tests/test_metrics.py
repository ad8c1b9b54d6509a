"""Unweighted average recall."""

import warnings

import numpy as np
import pytest
import torch

from s3prl_dd.metrics import uar


def test_uar_is_the_mean_recall_of_the_classes_in_truth():
    truth, predicted = [0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 0, 3]
    expected = (2 / 3 + 1 / 2 + 0) / 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # class 3 is predicted and not in truth: no reason to warn
        for kind in (list, np.array, torch.tensor):
            assert uar(kind(truth), kind(predicted)) == pytest.approx(expected)


def test_uar_does_not_hang_on_class_sizes():
    assert uar([0] * 99 + [1], [0] * 100) == 0.5
