"""Budgets to class counts."""

import pytest

from s3prl_dd.errors import UserError
from s3prl_dd.generator.budget import class_counts

IEMOCAP = [1059, 1086, 699, 712]  # sums to 3556


@pytest.mark.parametrize("budget, counts", [
    (50, [50] * 4), ({"ppc": 50}, [50] * 4), ("balanced", [889] * 4), ("original", IEMOCAP), ({"total": 3556}, IEMOCAP),
    ({"counts": [1, 2, 3, 4]}, [1, 2, 3, 4]), ({"counts": (1, 2, 3, 4)}, [1, 2, 3, 4])])
def test_kinds(budget, counts):
    assert class_counts(budget, IEMOCAP) == counts


def test_balanced_rounds_down():
    assert class_counts("balanced", [5, 3, 2]) == [3, 3, 3]


@pytest.mark.parametrize("total, original, counts", [
    (10, [5, 3, 2], [5, 3, 2]),
    (10, [1, 1, 1], [4, 3, 3]),  # 3.33 each: the one left goes to the first
    (7, [6, 3, 1], [4, 2, 1]),  # 4.2, 2.1, 0.7
    (9, [60, 25, 15], [6, 2, 1]),  # 5.4, 2.25, 1.35 leave one: the largest remainder is .4
    (200, IEMOCAP, [60, 61, 39, 40])])  # 59.56, 61.08, 39.31, 40.04
def test_largest_remainders(total, original, counts):
    assert class_counts({"total": total}, original) == counts and sum(counts) == total


def test_totals_add_up_and_keep_the_mix():
    for total in range(40, 400):
        counts = class_counts({"total": total}, IEMOCAP)
        assert sum(counts) == total
        assert all(abs(count - total * real / 3556) < 1 for count, real in zip(counts, IEMOCAP, strict=True))


@pytest.mark.parametrize("budget", [
    0, -1, True, 2.5, None, "many", "50", {}, {"ppc": 0}, {"ppc": 2.0}, {"ppc": True}, {"total": -3},
    {"points": 4}, {"ppc": 1, "total": 4},
    {"counts": [1, 2, 3]}, {"counts": [1, 2, 3, 0]}, {"counts": 4}, {"counts": [1, 2, 3, 4.0]}, [1, 2, 3, 4]])
def test_other_budgets_are_refused(budget):
    expected = "expected a number of points per class, {ppc: N}, {total: N}, balanced, original"
    with pytest.raises(UserError, match=expected) as caught:
        class_counts(budget, IEMOCAP)
    assert f"budget {budget!r}" in str(caught.value)


def test_a_class_without_samples_is_refused():
    with pytest.raises(UserError, match="leaves a class without any sample"):
        class_counts({"total": 5}, IEMOCAP[:2] + [1])
    with pytest.raises(UserError, match="leaves a class without"):
        class_counts("original", [3, 0])
