"""Intervals of 95 % for what the attacks measure."""

import numpy as np
from sklearn.metrics import roc_auc_score

from ..evaluation.significance import Interval, wilson

ROUNDS = 500
"""Of every resampling."""


def wilson_of(right: np.ndarray) -> Interval:
    """The share of true in `right` [N], with Wilson's score interval."""
    return wilson(float(np.mean(right)), len(right))


def mean(values: np.ndarray, seed: int) -> Interval:
    """The mean of `values` [N]; bootstrap."""
    draw = np.random.default_rng([seed, 4])
    means = draw.choice(values, (ROUNDS, len(values))).mean(axis=1)
    return _with_quantiles(values.mean(), means)


def auc(higher: np.ndarray, lower: np.ndarray, seed: int) -> Interval:
    """Area under the ROC curve: how often a value of `higher` [N] beats one of `lower` [N']; bootstrap over both."""
    draw = np.random.default_rng([seed, 3])
    wins = np.sign(higher[:, None] - lower).astype(np.float32) / 2 + 0.5  # [N, N']: 1, a draw 0.5, 0
    of_higher = _weights(len(higher), draw)
    of_lower = _weights(len(lower), draw)
    areas = ((of_higher.astype(np.float32) @ wins) * of_lower).sum(axis=1)  # [ROUNDS]
    truth = np.repeat([1, 0], [len(higher), len(lower)])
    return _with_quantiles(roc_auc_score(truth, np.concatenate([higher, lower])), areas)


def found(higher: np.ndarray, lower: np.ndarray, false: float, seed: int) -> Interval:
    """Share of `higher` [N] above what only a share `false` of `lower` [N'] exceeds; bootstrap over both."""
    draw = np.random.default_rng([seed, 7])
    shares = []
    for _ in range(ROUNDS):
        threshold = np.quantile(draw.choice(lower, len(lower)), 1 - false, method="higher")
        shares.append((draw.choice(higher, len(higher)) > threshold).mean())
    threshold = np.quantile(lower, 1 - false, method="higher")
    return _with_quantiles((higher > threshold).mean(), np.array(shares))


def _weights(size: int, draw: np.random.Generator) -> np.ndarray:
    """[ROUNDS, size]: the weight of each of `size` values in a bootstrap's rounds."""
    return draw.multinomial(size, np.full(size, 1 / size), ROUNDS) / size


def _with_quantiles(value: float, rounds: np.ndarray) -> Interval:
    low, high = np.quantile(rounds, [0.025, 0.975])
    return Interval(float(value), float(low), float(high))
