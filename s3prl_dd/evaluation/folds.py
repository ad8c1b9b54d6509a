"""UARs of heads over folds, in short: their mean, their spread over seeds, and what they are of all real data's."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class OverFolds(NamedTuple):
    """UAR in [0, 1] of a table's row over its folds (or pairs of folds)."""

    mean: float
    """Mean over folds of the mean over seeds."""

    spread: float | None
    """Standard deviation over the seeds of a fold, mean over folds; None where every fold has one seed."""


def over_folds(uars: Iterable[Sequence[float]]) -> OverFolds:
    """The mean and the spread. uars: one list of UARs [S] a fold, one a seed"""
    folds = list(uars)
    spreads = [np.std(seeds, ddof=1) for seeds in folds if len(seeds) > 1]
    mean = float(np.mean([np.mean(seeds) for seeds in folds]))
    return OverFolds(mean, float(np.mean(spreads)) if spreads else None)


def share_of_real(uars: Mapping[Any, Sequence[float]], real: Mapping[Any, Sequence[float]]) -> float | None:
    """The mean as a share of that of all real data, on the folds that both have; None where they share none.

    Both: fold -> UARs [S], one a seed
    """
    shared = [fold for fold in uars if fold in real]
    if not shared:
        return None
    return over_folds(uars[fold] for fold in shared).mean / over_folds(real[fold] for fold in shared).mean
