"""Budgets: how many samples of each class."""

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, Literal

from ..errors import UserError

Budget = int | Literal["balanced", "original"] | Mapping[str, Any]
"""See class_counts."""


def class_counts(budget: Budget | str, original: Sequence[int]) -> list[int]:
    """The number of samples of each class that `budget` asks for.

    budget: one of
        an int or {"ppc": n}      n points per class
        {"total": n}              n points in all, in the original class mix (largest remainders)
        "balanced"                as many points as the original set, the same number of each class (rounded down)
        "original"                as many points as the original set, in its class mix
        {"counts": [n, ...]}      the numbers themselves, by class index
    original: the real training set's class counts [C], by class index
    returns: C numbers by class index, every one at least 1
    Raises UserError for any other budget, and for one that leaves a class without a sample.
    """
    classes = len(original)
    kind, value = _kind(budget)
    if kind == "ppc" and _positive(value):
        counts = [int(value)] * classes
    elif kind == "total" and _positive(value):
        counts = _shares(int(value), original)
    elif kind == "balanced":
        counts = [sum(original) // classes] * classes
    elif kind == "original":
        counts = list(original)
    elif kind == "counts" and isinstance(value, (list, tuple)) and len(value) == classes and all(map(_positive, value)):
        counts = [int(number) for number in value]
    else:
        raise UserError(f"budget {budget!r}: expected a number of points per class, {{ppc: N}}, {{total: N}}, "
                        f"balanced, original, or {{counts: [{classes} positive numbers]}}.")
    if min(counts) < 1:
        raise UserError(f"budget {budget!r}: leaves a class without any sample ({counts}). Ask for more points.")
    return counts


def _kind(budget: object) -> tuple[str | None, Any]:
    """(ppc | total | counts | balanced | original, its value); (None, None) for what is no budget."""
    if isinstance(budget, Mapping) and len(budget) == 1:
        return next(iter(budget.items()))
    if isinstance(budget, bool):
        return None, None
    if isinstance(budget, Integral):
        return "ppc", budget
    return (budget, None) if isinstance(budget, str) else (None, None)


def _positive(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) > 0


def _shares(total: int, original: Sequence[int]) -> list[int]:
    """`total` split in proportion to `original` by largest remainders."""
    exact = [total * count / sum(original) for count in original]
    counts = [int(share) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: counts[i] - exact[i])
    for index in by_remainder[: total - sum(counts)]:
        counts[index] += 1
    return counts
