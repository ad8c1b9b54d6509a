"""Wilson's interval against its formula and textbooks; bootstraps against what they must cover."""

from math import sqrt
from statistics import NormalDist

import numpy as np
import pytest

from s3prl_dd.privacy import intervals


def wilson_by_hand(share, number):
    """The shares p with |share - p| = z sqrt(p (1 - p) / number): the two roots of a quadratic."""
    z = NormalDist().inv_cdf(0.975)
    a, b, c = 1 + z * z / number, -(2 * share + z * z / number), share * share
    root = sqrt(b * b - 4 * a * c)
    return (-b - root) / (2 * a), (-b + root) / (2 * a)


@pytest.mark.parametrize("share, number", [(0.5, 20), (0.05, 20), (0.865, 20), (1 / 3, 7), (0.991, 300)])
def test_wilson_solves_its_equation(share, number):
    value, low, high = intervals.wilson(share, number)
    assert value == share and (low, high) == pytest.approx(wilson_by_hand(share, number))


def test_wilson_at_the_ends_and_in_books():
    assert intervals.wilson(0.5, 20) == pytest.approx([0.5, 0.2993, 0.7007], abs=1e-4)
    assert intervals.wilson(1.0, 20) == pytest.approx([1.0, 0.8389, 1.0], abs=1e-4)
    assert intervals.wilson(0.0, 20).low == 0 and intervals.wilson(1.0, 20).high <= 1
    assert intervals.wilson_of(np.array([True, False, True, True])) == intervals.wilson(0.75, 4)


def test_auc_counts_wins_and_half_of_the_draws():
    higher, lower = np.array([3.0, 2.0, 1.0]), np.array([2.0, 0.0])
    assert intervals.auc(higher, lower, 0).value == pytest.approx((2 + 1.5 + 1) / 6)
    draw = np.random.default_rng(0)
    area = intervals.auc(draw.standard_normal(300) + 1, draw.standard_normal(200), 0)
    assert area.low < 0.7602 < area.high and area.high - area.low < 0.1  # of normals one spread apart
    assert intervals.auc(draw.standard_normal(30) + 9, draw.standard_normal(20), 0) == pytest.approx([1, 1, 1])


def test_the_interval_of_a_mean():
    values = np.random.default_rng(0).standard_normal(400) + 5
    value, low, high = intervals.mean(values, 0)
    assert value == pytest.approx(values.mean()) and high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.15)
    assert intervals.mean(values, 0) == (value, low, high) != intervals.mean(values, 1)


def test_found_at_a_share_of_false_alarms():
    """Threshold above all but one in a hundred of the others; at chance as many are found."""
    others = np.arange(200.0)
    interval = intervals.found(np.array([250.0, 199.5, 150.0, 10.0]), others, 0.01, seed=0)
    assert interval.value == 0.5 and 0 <= interval.low <= 0.5 <= interval.high <= 1
    draw = np.random.default_rng(0)
    same = intervals.found(draw.standard_normal(2000), draw.standard_normal(2000), 0.01, seed=0)
    assert same.low < 0.01 < same.high
