"""Whether two training sets differ, on the same test list: McNemar's test and a paired bootstrap over speakers."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from statsmodels.stats import contingency_tables
from statsmodels.stats.proportion import proportion_confint

EXACT_BELOW = 25
"""Discordant pairs from which McNemar's statistic is close enough to a chi-square."""


FEWEST_SPEAKERS, FEWEST_OF_A_FOLD = 3, 2
"""Test speakers, of all folds and of each, under which no interval over speakers is told: one alone shows no spread."""


class Interval(NamedTuple):
    """A value and the ends of its 95 % interval; a list of three in JSON."""

    value: float
    low: float
    high: float


def wilson(share: float, number: int) -> Interval:
    """A share of `number` trials, with Wilson's score interval."""
    low, high = proportion_confint(share * number, number, method="wilson")
    return Interval(float(share), max(0.0, float(low)), min(1.0, float(high)))


class Heard(NamedTuple):
    """Predictions of the heads of an arm on a test list, all as class indices."""

    truth: ArrayLike  # [N]
    speakers: ArrayLike  # [N] names
    predicted: ArrayLike  # [S, N], one row a head


class Paired(NamedTuple):
    """Predictions of the heads of two arms on one test list, all as class indices."""

    truth: ArrayLike  # [N]
    speakers: ArrayLike  # [N] names
    first: ArrayLike  # [S, N], one row a head
    second: ArrayLike  # [S', N]


def mcnemar(truth: ArrayLike, first: ArrayLike, second: ArrayLike) -> float:
    """Two-sided p of McNemar's test that two classifiers are right equally often, [0, 1]. All: [N] class indices.

    Exact binomial under 25 discordant pairs, else chi-square with continuity correction (the paper's Sec. 5.1 names the
    test alone; this is its first author's later form).
    """
    first_right = np.asarray(first) == np.asarray(truth)
    second_right = np.asarray(second) == np.asarray(truth)
    counts = np.array([[np.sum(first_right & second_right), np.sum(first_right & ~second_right)],
                       [np.sum(~first_right & second_right), np.sum(~first_right & ~second_right)]])
    discordant = counts[0, 1] + counts[1, 0]
    return float(contingency_tables.mcnemar(counts, exact=discordant < EXACT_BELOW, correction=True).pvalue)


def mcnemar_of_heads(folds: Sequence[Paired]) -> float:
    """The median p of McNemar's test over pairs of heads, each pair on the test utterances of all folds together.

    Head s of the first arm is tested against head s of the second, as many as every fold has on both sides.
    """
    seeds = min(len(np.asarray(side)) for fold in folds for side in (fold.first, fold.second))
    truth = np.concatenate([np.asarray(fold.truth) for fold in folds])
    values = []
    for seed in range(seeds):
        first = np.concatenate([np.asarray(fold.first)[seed] for fold in folds])
        second = np.concatenate([np.asarray(fold.second)[seed] for fold in folds])
        values.append(mcnemar(truth, first, second))
    return float(np.median(values))


def enough_speakers(folds: "Sequence[Heard] | Sequence[Paired]") -> bool:
    """Whether the folds have speakers enough, each and all together, for an interval over them."""
    counts = [len(np.unique(np.asarray(fold.speakers))) for fold in folds]
    return sum(counts) >= FEWEST_SPEAKERS and min(counts) >= FEWEST_OF_A_FOLD


def uar_interval(folds: Sequence[Heard], draws: int = 2000, seed: int = 0) -> Interval:
    """An arm's UAR, a mean over heads and folds; its 95 % interval draws test speakers anew within each fold."""
    chance = np.random.default_rng(seed)
    return _interval([_Draws.of(fold, draws, chance).uars(fold.predicted) for fold in folds])


def uar_difference(folds: Sequence[Paired], draws: int = 2000, seed: int = 0) -> Interval:
    """The first arm's UAR less the second's, each a mean over heads and folds; its interval is a paired bootstrap's.

    Test speakers are drawn anew within each fold, with all their utterances and on both sides alike; utterances of one
    speaker hang together, so an interval over utterances would be too narrow. That of a single fold of few speakers is
    too narrow all the same: of four, it holds the truth in 8 of 10 cases.
    """
    chance = np.random.default_rng(seed)
    differences = []
    for fold in folds:
        drawn = _Draws.of(fold, draws, chance)
        differences.append(drawn.uars(fold.first) - drawn.uars(fold.second))
    return _interval(differences)


def uar_share(folds: Sequence[Paired], draws: int = 2000, seed: int = 0) -> Interval:
    """The first arm's UAR as a share of the second's, both means over heads and folds; its interval as uar_difference.

    Draws in which the second is 0 do not count.
    """
    chance = np.random.default_rng(seed)
    drawn = [_Draws.of(fold, draws, chance) for fold in folds]
    first = np.mean([each.uars(fold.first) for each, fold in zip(drawn, folds, strict=True)], axis=0)
    second = np.mean([each.uars(fold.second) for each, fold in zip(drawn, folds, strict=True)], axis=0)
    counts = second > 0
    return _interval([first[counts] / second[counts]])


def _interval(folds: Sequence[np.ndarray]) -> Interval:
    """The mean over folds. folds: [1 + draws] each, the value on the test list as it is and on each draw."""
    values = np.mean(folds, axis=0)
    low, high = np.percentile(values[1:], [2.5, 97.5])
    return Interval(float(values[0]), float(low), float(high))


class _Draws(NamedTuple):
    """Speakers of a fold's test list, drawn anew."""

    truth: np.ndarray  # [N]
    weights: np.ndarray  # [1 + draws, G], see _times_drawn
    of_speaker: np.ndarray  # [G, N] of 0 and 1
    of_class: np.ndarray  # [C, N] of 0 and 1

    @classmethod
    def of(cls, fold: Heard | Paired, draws: int, chance: np.random.Generator) -> "_Draws":
        """So many draws of a fold's speakers."""
        truth = np.asarray(fold.truth)
        names, speaker = np.unique(np.asarray(fold.speakers), return_inverse=True)
        weights = _times_drawn(len(names), draws, chance)
        return cls(truth, weights, _one_hot(speaker, np.arange(len(names))), _one_hot(truth, np.unique(truth)))

    def uars(self, predicted: ArrayLike) -> np.ndarray:
        """[1 + draws]: UAR, mean over heads, on the test list as it is, then on each draw. predicted: [S, N]"""
        share = (np.asarray(predicted) == self.truth).mean(axis=0)  # [N], of heads that are right
        total = self.weights @ self.of_speaker @ self.of_class.T  # [1 + draws, C] utterances
        with np.errstate(invalid="ignore"):
            recalls = self.weights @ (self.of_speaker * share) @ self.of_class.T / total
        return np.nanmean(recalls, axis=1)  # a draw may lack a class


def _times_drawn(speakers: int, draws: int, chance: np.random.Generator) -> np.ndarray:
    """[1 + draws, G]: how much each speaker weighs in a draw; the first row has everyone once.

    G - 1 speakers are drawn of G: draws of G would vary by (G - 1) / G of what a mean over G speakers does, far less
    where a fold has two to four (Rao and Wu 1988). One alone is always drawn.
    """
    size = max(1, speakers - 1)
    drawn = chance.multinomial(size, [1 / speakers] * speakers, draws) * (speakers / size)
    return np.concatenate([np.ones((1, speakers)), drawn])


def _one_hot(values: np.ndarray, choices: np.ndarray) -> np.ndarray:
    """[K, N] of 0 and 1: whether utterance n has choice k."""
    return (values == choices[:, None]).astype(float)
