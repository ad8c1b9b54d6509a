"""DD-Ranking's scores of a distilled set (Li et al. 2025), and p values of a whole table.

All accuracies or UARs are in [0, 1]; the random subset has the distilled set's size, and the head its recipe.
"""

import math
from collections.abc import Sequence

from statsmodels.stats.multitest import multipletests


def hard_label_recovery(real: float, distilled: float) -> float:
    """HLR: what is lost against training on all real data, real - distilled; less is better, below 0 is a gain."""
    return real - distilled


def improvement_over_random(distilled: float, random: float) -> float:
    """IOR: what is gained on a random real subset of the same size, distilled - random."""
    return distilled - random


def label_robust_score(hlr: float, ior: float) -> float:
    """LRS in [0, 1], both at once: (e^a - e^-1) / (e - e^-1) with a = (IOR - HLR) / 2 in [-1, 1]."""
    alpha = (ior - hlr) / 2
    return (math.exp(alpha) - math.exp(-1)) / (math.e - math.exp(-1))


def benjamini_hochberg(values: Sequence[float | None]) -> list[float | None]:
    """p values of a table's rows as Benjamini and Hochberg (1995) adjust them together; None stays None."""
    known = [value for value in values if value is not None]
    adjusted = iter(multipletests(known, method="fdr_bh")[1].tolist() if known else [])
    return [None if value is None else next(adjusted) for value in values]
