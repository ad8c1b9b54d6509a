"""DD-Ranking's scores against their closed forms, Benjamini and Hochberg's values against a count by hand."""

import pytest

from s3prl_dd.evaluation.ranking import (
    benjamini_hochberg,
    hard_label_recovery,
    improvement_over_random,
    label_robust_score,
)


def test_what_is_lost_and_what_is_gained():
    assert hard_label_recovery(0.8, 0.7) == pytest.approx(0.1)
    assert improvement_over_random(0.7, 0.55) == pytest.approx(0.15)


@pytest.mark.parametrize("hlr, ior, score", [(-1, 1, 1.0), (1, -1, 0.0), (0, 0, (1 - 0.36788) / (2.71828 - 0.36788))])
def test_the_label_robust_score_goes_from_0_to_1(hlr, ior, score):
    assert label_robust_score(hlr, ior) == pytest.approx(score, abs=1e-4)


def test_p_values_of_a_table_are_adjusted_together():
    """Sorted p_i times n / i, made monotone from above."""
    assert benjamini_hochberg([0.01, None, 0.04, 0.03, 0.005]) == pytest.approx([0.02, None, 0.04, 0.04, 0.02])
    assert benjamini_hochberg([None]) == [None]
    assert benjamini_hochberg([]) == []
