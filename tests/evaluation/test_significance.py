"""McNemar's test against its closed forms, the paired bootstrap against what can be counted by hand."""

from math import comb, erfc, sqrt

import numpy as np
import pytest
from sklearn.metrics import recall_score

from s3prl_dd.evaluation.significance import mcnemar, uar_difference


def outcomes(both, first_alone, second_alone, neither=5):
    """(truth, first, second) with these numbers of utterances that are right in both, in one alone, in none."""
    right = [(1, 1)] * both + [(1, 0)] * first_alone + [(0, 1)] * second_alone + [(0, 0)] * neither
    return [1] * len(right), [a for a, _ in right], [b for _, b in right]


def test_mcnemar():
    assert mcnemar(*outcomes(50, 1, 9)) == pytest.approx(2 * (comb(10, 0) + comb(10, 1)) / 2 ** 10)  # exact binomial
    assert mcnemar(*outcomes(50, 30, 10)) == pytest.approx(erfc(sqrt((20 - 1) ** 2 / 40 / 2)))  # chi-square of one degree
    assert mcnemar(*outcomes(50, 30, 10)) == mcnemar(*outcomes(3, 10, 30, 70))  # both ways alike, agreement does not count
    assert mcnemar(*outcomes(50, 0, 0)) == 1.0 == mcnemar(*outcomes(50, 7, 7))


def test_the_difference_is_that_of_uar_averaged_over_heads_and_folds():
    chance = np.random.default_rng(0)
    folds = []
    for size in (40, 60):
        truth = np.arange(size) % 3
        folds.append((truth, chance.integers(0, 5, size), chance.integers(0, 3, (2, size)), chance.integers(0, 3, (3, size))))
    uar = lambda truth, heads: np.mean([recall_score(truth, head, average="macro") for head in heads])
    expected = np.mean([uar(truth, first) - uar(truth, second) for truth, _, first, second in folds])
    difference, low, high = uar_difference(folds)
    assert difference == pytest.approx(expected) and low < difference < high
    assert uar_difference(folds) == [difference, low, high]  # the same draws again


def test_speakers_are_drawn_whole():
    """Two speakers, one head: draws are (a, a), (a, b), (b, b), so a quarter of them shows a's difference alone."""
    truth, speakers = [0, 1] * 4, ["a"] * 4 + ["b"] * 4
    first, second = [truth], [truth[:4] + [1, 0, 1, 0]]  # the second errs on all of b
    assert uar_difference([(truth, speakers, first, second)]) == pytest.approx([0.5, 0.0, 1.0])
    assert uar_difference([(truth, ["a"] * 8, first, second)]) == pytest.approx([0.5, 0.5, 0.5])  # one speaker tells no spread
    # two such folds: the ends (a, a) and (b, b) in both have chance 1/16 each, still beyond 2.5 %
    assert uar_difference([(truth, speakers, first, second)] * 2) == pytest.approx([0.5, 0.0, 1.0])


def test_a_draw_without_a_class_counts_the_others():
    """Speaker b alone has class 1; draws without b average over class 0."""
    truth, speakers = [0, 0, 1, 1], ["a", "a", "b", "b"]
    difference, low, high = uar_difference([(truth, speakers, [[0, 0, 1, 1]], [[0, 0, 0, 0]])])
    assert (difference, low, high) == pytest.approx((0.5, 0.0, 1.0))
