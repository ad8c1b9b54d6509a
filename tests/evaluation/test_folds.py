"""Means and spreads over folds."""

import pytest

from s3prl_dd.evaluation.folds import over_folds, share_of_real


def test_folds_weigh_alike_whatever_their_seeds():
    mean, spread = over_folds([[0.2, 0.4], [0.6], [0.5, 0.5, 0.8]])
    assert mean == pytest.approx((0.3 + 0.6 + 0.6) / 3)
    assert spread == pytest.approx((0.02 ** 0.5 + 0.03 ** 0.5) / 2)
    assert over_folds([[0.2], [0.6]]) == (pytest.approx(0.4), None)


def test_a_share_is_of_the_folds_that_both_have():
    assert share_of_real({"fold1": [0.3, 0.5], "fold2": [0.9]}, {"fold1": [0.8], "fold3": [0.1]}) == pytest.approx(0.5)
    assert share_of_real({"fold1": [0.3]}, {"fold2": [0.8]}) is None
