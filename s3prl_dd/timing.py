"""What repeated measurements say: a median, its spread, and ratios of things that are timed in turn."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Timed(NamedTuple):
    """Seconds of one, over the rounds."""

    seconds: float
    """Median."""

    spread: float
    """Slowest less fastest round, as a share of the median."""

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Timed":
        """seconds: one a round"""
        median = statistics.median(seconds)
        return cls(median, (max(seconds) - min(seconds)) / median)


def median_ratio(numbers: Sequence[float], others: Sequence[float]) -> float:
    """The median over rounds of a number divided by the other of the same round."""
    return statistics.median(one / other for one, other in zip(numbers, others, strict=True))
