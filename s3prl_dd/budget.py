"""Budgets: how many samples of each class."""

from .errors import UserError


def class_counts(budget, original):
    """The number of samples of each class that `budget` asks for.

    budget: one of
        an int or {"ppc": n}      n points per class
        {"total": n}              n points in all, in the original class mix (largest remainders)
        "balanced"                as many points as the original set, the same number of each class (rounded down)
        "original"                as many points as the original set, in its class mix
        {"counts": [n, ...]}      the numbers themselves, by class index
    original: list of the real training set's class counts, by class index
    returns: list of ints, by class index; every entry at least 1
    """
    classes = len(original)
    if isinstance(budget, dict) and len(budget) == 1:
        (kind, value), = budget.items()
    elif isinstance(budget, bool):
        kind, value = None, None
    elif isinstance(budget, int):
        kind, value = "ppc", budget
    else:
        kind, value = budget if isinstance(budget, str) else None, None
    if kind == "ppc" and _positive(value):
        counts = [value] * classes
    elif kind == "total" and _positive(value):
        counts = _shares(value, original)
    elif kind == "balanced":
        counts = [sum(original) // classes] * classes
    elif kind == "original":
        counts = list(original)
    elif kind == "counts" and isinstance(value, (list, tuple)) and len(value) == classes and all(map(_positive, value)):
        counts = list(value)
    else:
        raise UserError(f"budget {budget!r}: expected a number of points per class, {{ppc: N}}, {{total: N}}, "
                        f"balanced, original, or {{counts: [{classes} positive numbers]}}.")
    if min(counts) < 1:
        raise UserError(f"budget {budget!r}: leaves a class without any sample ({counts}). Ask for more points.")
    return counts


def _positive(value):
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _shares(total, original):
    """`total` split in proportion to `original` by largest remainders."""
    exact = [total * count / sum(original) for count in original]
    counts = [int(share) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: counts[i] - exact[i])
    for index in by_remainder[: total - sum(counts)]:
        counts[index] += 1
    return counts
