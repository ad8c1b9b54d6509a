"""McNemar's test against its closed forms, the paired bootstrap against what can be counted by hand."""

from math import comb, erfc, sqrt

import numpy as np
import pytest
from sklearn.metrics import recall_score

from s3prl_dd.evaluation import significance
from s3prl_dd.evaluation.significance import (
    Heard,
    Paired,
    enough_speakers,
    mcnemar,
    mcnemar_of_heads,
    uar_difference,
    uar_interval,
    uar_share,
)


def outcomes(both: int, first_alone: int, second_alone: int, neither: int = 5) -> tuple[list[int], ...]:
    """(truth, first, second) with these numbers of utterances that are right in both, in one alone, in none."""
    right = [(1, 1)] * both + [(1, 0)] * first_alone + [(0, 1)] * second_alone + [(0, 0)] * neither
    return [1] * len(right), [a for a, _ in right], [b for _, b in right]


def exact(alone: int, other: int) -> float:
    """Two-sided binomial p of `alone` heads in alone + other throws of a fair coin."""
    number = alone + other
    return min(1.0, 2 * sum(comb(number, k) for k in range(min(alone, other) + 1)) / 2**number)


def chi_square(alone: int, other: int) -> float:
    """p of the chi-square of one degree of freedom, with continuity correction."""
    return erfc(sqrt((abs(alone - other) - 1) ** 2 / (alone + other) / 2))


@pytest.mark.parametrize("alone, other", [(1, 9), (9, 1), (0, 1), (7, 7), (12, 12), (4, 20)])
def test_mcnemar_is_exact_under_25_discordant_pairs(alone, other):
    assert mcnemar(*outcomes(50, alone, other)) == pytest.approx(exact(alone, other))


@pytest.mark.parametrize("alone, other", [(12, 13), (5, 20), (30, 10), (100, 60)])
def test_mcnemar_is_a_chi_square_from_25(alone, other):
    assert mcnemar(*outcomes(50, alone, other)) == pytest.approx(chi_square(alone, other))


def test_agreement_does_not_count():
    assert mcnemar(*outcomes(50, 30, 10)) == mcnemar(*outcomes(3, 10, 30, 70))  # and both ways alike
    assert mcnemar(*outcomes(50, 0, 0)) == 1.0


def test_heads_are_tested_pair_by_pair_over_all_folds():
    """Head s against head s: p = 1 for equal ones, however much heads differ among themselves."""
    truth = [1] * 12
    right, wrong = truth, [0] * 12
    speakers = ["a"] * 12
    alike = Paired(truth, speakers, [right, wrong], [right, wrong])
    assert mcnemar_of_heads([alike, alike]) == 1.0
    apart = Paired(truth, speakers, [right, wrong], [wrong, right])
    assert mcnemar_of_heads([apart]) == pytest.approx(exact(12, 0))
    assert mcnemar_of_heads([apart, apart]) == pytest.approx(exact(24, 0))  # one test on both folds' utterances
    more = Paired(truth, speakers, [right, wrong, wrong], [wrong, right])
    assert mcnemar_of_heads([more, apart]) == pytest.approx(exact(24, 0))  # the third has no partner


def test_the_median_over_pairs_of_heads():
    truth = [1] * 10
    heads = [[1] * number + [0] * (10 - number) for number in (10, 9, 4)]
    pairs = Paired(truth, ["a"] * 10, heads, [truth] * 3)
    assert mcnemar_of_heads([pairs]) == pytest.approx(exact(1, 0))  # of 1, exact(1, 0) and exact(6, 0): the middle one
    assert exact(6, 0) < exact(1, 0) <= 1


def test_the_difference_is_that_of_uar_averaged_over_heads_and_folds():
    chance = np.random.default_rng(0)
    folds = []
    for size in (40, 60):
        truth = np.arange(size) % 3
        speakers = chance.integers(0, 5, size)
        folds.append(Paired(truth, speakers, chance.integers(0, 3, (2, size)), chance.integers(0, 3, (3, size))))

    def uar(truth, heads):
        return np.mean([recall_score(truth, head, average="macro") for head in heads])

    expected = np.mean([uar(fold.truth, fold.first) - uar(fold.truth, fold.second) for fold in folds])
    found = uar_difference(folds)
    assert found.value == pytest.approx(expected) and found.low < found.value < found.high
    assert uar_difference(folds) == found  # the same draws again


@pytest.mark.parametrize("speakers", [2, 3, 4, 12])
def test_a_mean_over_draws_varies_as_a_mean_over_speakers_does(speakers):
    """By s^2 / G, where s^2 is the speakers' unbiased variance."""
    values = np.random.default_rng(0).normal(size=speakers)
    weights = significance._times_drawn(speakers, 40000, np.random.default_rng(1))
    assert weights[0].tolist() == [1] * speakers and weights.sum(axis=1) == pytest.approx(speakers)
    means = weights[1:] @ values / speakers
    assert means.mean() == pytest.approx(values.mean(), abs=0.02)
    assert means.var() == pytest.approx(values.var(ddof=1) / speakers, rel=0.03)


@pytest.mark.parametrize("folds, speakers, least", [(3, 3, 0.88), (6, 4, 0.9)])
def test_intervals_hold_the_truth(folds, speakers, least):
    """Nine in ten of 200 nominal 95 % intervals of a difference between speakers drawn from a known population."""
    chance, held = np.random.default_rng(2), 0
    truth = np.arange(20 * speakers) % 2
    names = np.arange(20 * speakers) // 20
    for _ in range(200):
        pairs = []
        for _ in range(folds):
            right = np.clip(chance.normal(0.7, 0.15, speakers), 0, 1)[names]  # of the first arm, by speaker
            first, second = (np.where(chance.random(len(truth)) < share, truth, 1 - truth) for share in (right, 0.7))
            pairs.append(Paired(truth, names, [first], [second]))
        interval = uar_difference(pairs, draws=400)
        held += interval.low <= 0 <= interval.high
    assert held / 200 >= least


def test_too_few_speakers_for_an_interval():
    one, two, three = (Heard([0] * count, range(count), [[0] * count]) for count in (1, 2, 3))
    assert enough_speakers([three]) and enough_speakers([two, two])
    assert not enough_speakers([two]) and not enough_speakers([one] * 4) and not enough_speakers([three, one])


def test_speakers_are_drawn_whole():
    """Two speakers, one head: draws are of a or of b, so half of them shows a's difference alone."""
    truth, speakers = [0, 1] * 4, ["a"] * 4 + ["b"] * 4
    first, second = [truth], [truth[:4] + [1, 0, 1, 0]]  # the second errs on all of b
    fold = Paired(truth, speakers, first, second)
    assert uar_difference([fold]) == pytest.approx([0.5, 0.0, 1.0])
    assert uar_difference([fold._replace(speakers=["a"] * 8)]) == pytest.approx([0.5, 0.5, 0.5])  # no spread of one
    # two such folds: the ends, a in both and b in both, have chance 1/4 each
    assert uar_difference([fold] * 2) == pytest.approx([0.5, 0.0, 1.0])


def test_a_draw_without_a_class_counts_the_others():
    """Speaker b alone has class 1; draws without b average over class 0."""
    fold = Paired([0, 0, 1, 1], ["a", "a", "b", "b"], [[0, 0, 1, 1]], [[0, 0, 0, 0]])
    assert uar_difference([fold]) == pytest.approx([0.5, 0.0, 1.0])


def test_interval_of_one_arm():
    """Against heads that are never right the difference is the UAR itself, with the same draws."""
    truth, speakers = [0, 1] * 10, [f"s{number // 4}" for number in range(20)]
    predicted = [[(number * 5) % 4 % 2 for number in range(20)], truth]
    never = [[-1] * 20]
    found = uar_interval([Heard(truth, speakers, predicted)] * 2)
    assert found == uar_difference([Paired(truth, speakers, predicted, never)] * 2)
    assert found.value == pytest.approx(np.mean([recall_score(truth, row, average="macro") for row in predicted]))


def test_a_share_is_of_the_same_draws():
    """Where both arms err on speaker b alone a draw has share 1; against heads that are always right it is the UAR."""
    truth, speakers = [0, 1] * 4, ["a"] * 4 + ["b"] * 4
    half = [truth[:4] + [1, 0, 1, 0]]
    assert uar_share([Paired(truth, speakers, half, half)] * 2) == (1, 1, 1)  # draws of b alone have no share
    fold = Paired(truth, speakers, half, [truth])
    assert uar_share([fold] * 2) == uar_interval([Heard(truth, speakers, half)] * 2) == pytest.approx([0.5, 0.0, 1.0])
    twice = Paired(truth, speakers, [truth], half)
    assert uar_share([twice, Paired(truth, speakers, [truth], [truth])]).value == pytest.approx(1 / 0.75)
